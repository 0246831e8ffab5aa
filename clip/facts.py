"""What a text tower of open_clip does with its tokens: asked of the module, never assumed.

Letters: N texts, L columns, D width.
"""

from dataclasses import dataclass
from typing import Any

import torch
from open_clip.hf_model import HFTextEncoder
from open_clip.transformer import TextTransformer
from torch import Tensor, nn

from clip.errors import BackboneError
from clip.wrapped import WrappedTower

END_POOLS = ("argmax", "eos")
POOLS = (*END_POOLS, "first", "last")


@dataclass(frozen=True)
class TextFacts:
    """How a text tower reads a text.

    Attributes:
        length: columns of a text, without a class token.
        causal: a token sees only those before it.
        pool: where the feature is read: at the largest token id ("argmax"), at the first token ``end_id`` ("eos"), in
            the "first" or in the "last" column. A class token comes before all of these; a tower of
            transformers pools by itself, without padding, and counts as "first".
        end_id: the token of "eos"; -1 where it has no meaning.
        pad_id: the token that no token sees; -1: padding is seen like text.
        class_token: a learned vector stands behind the last column and is read (CoCa).
        shifted: the padding mask of the class token is one column late, as in the published CoCa models: the first
            token of padding is seen, and the class token does not see itself.
    """

    length: int
    causal: bool
    pool: str
    end_id: int = -1
    pad_id: int = -1
    class_token: bool = False
    shifted: bool = False

    @property
    def cuttable(self) -> bool:
        """Whether columns behind the end of a text can be left out, because they do not reach its feature."""
        if self.class_token:
            return True
        return self.pool != "last" and (self.causal or self.pad_id >= 0)

    @property
    def beyond(self) -> int:
        """Columns behind the end of a text that reach its feature, in a tower that can be cut."""
        return int(self.class_token and self.shifted)

    def reason(self) -> str:
        """Why the prefix tree is not exact for this tower; "" if it is."""
        if self.class_token:
            return "its class token reads the text through a padding mask"
        if not self.causal:
            return "its attention is not causal, so a token depends on what follows"
        if self.pool not in END_POOLS:
            return f"its feature is not read at the end of the text but in the {self.pool} column"
        return ""

    def columns(self, ids: Tensor) -> Tensor:
        """The column (N,) that each text's feature is read in; ``ids``: (N, L), context vectors negative."""
        if self.pool == "argmax":
            return ids.argmax(dim=1)
        if self.pool == "eos":
            return (ids == self.end_id).int().argmax(dim=1)
        return torch.full((len(ids),), ids.shape[1] - 1 if self.pool == "last" else 0, device=ids.device)

    def ends(self, ids: Tensor) -> Tensor:
        """The last column (N,) of each text's own tokens."""
        if self.pool in END_POOLS and not self.class_token:
            return self.columns(ids)
        if not self.cuttable:
            return torch.full((len(ids),), ids.shape[1] - 1, device=ids.device)
        column = torch.arange(ids.shape[1], device=ids.device)
        return torch.where(ids != max(self.pad_id, 0), column, 0).amax(dim=1)


def text_part(model: nn.Module) -> Any:
    """The module with the text tower's parts: CLIP itself, or the ``text`` of CustomTextCLIP and CoCa."""
    text = getattr(model, "text", None)
    return text if isinstance(text, nn.Module) else model


def facts_of(model: nn.Module) -> TextFacts:
    """Ask the text tower of a network.

    Raises:
        BackboneError: it is of an unknown kind, or its feature is not read in one column.
    """
    part = text_part(model)
    if isinstance(part, HFTextEncoder):
        tower = WrappedTower(part)
        return TextFacts(tower.length, causal=False, pool="first", pad_id=tower.pad_id)
    if not all(hasattr(part, name) for name in ("token_embedding", "positional_embedding", "transformer", "ln_final")):
        raise BackboneError(
            f"the text tower {type(part).__name__} takes no embeddings of tokens in open_clip's way, so prompts with "
            "learned context cannot be encoded; choose a backbone with a text tower of open_clip"
        )
    custom = isinstance(part, TextTransformer)
    pool = part.pool_type if custom else part.text_pool_type
    if pool not in POOLS:
        raise BackboneError(
            f"the text tower's feature is read by {pool!r}; only towers that read it in one column are known "
            f"({', '.join(POOLS)})"
        )
    class_token = custom and part.cls_emb is not None
    pads = custom and (part.use_pad_mask or class_token)
    return TextFacts(
        length=part.context_length,
        causal=part.attn_mask is not None,
        pool=pool,
        end_id=int(part.eos_id if custom else part.text_eos_id) if pool == "eos" else -1,
        pad_id=int(part.pad_id) if pads else -1,
        class_token=class_token,
        shifted=class_token and not part.correct_cls_mask,
    )
