"""Text towers of transformers (BERT, RoBERTa, mT5, NLLB), which open_clip wraps: BiomedCLIP and the multilingual CLIPs.

transformers is an optional package (docs/backbones.md). A tower is built from its ``config.json``; no code from a
repository is run, so only the kinds that open_clip knows are taken.

Letters: N prompts, L columns, D width, F feature width.
"""

from pathlib import Path
from typing import Any

import torch
from open_clip.hf_configs import arch_dict
from open_clip.hf_model import ClsLastHiddenStatePooler, ClsPooler, HFTextEncoder, MeanPooler
from torch import Tensor, nn

from clip import hub
from clip.errors import BackboneError
from clip.openclip import read_json

# In a folder of weights: the config of the text tower, whose name config.json may be taken.
FOLDER = "text"
CONFIG = "config.json"
POOLERS = (MeanPooler, ClsPooler, ClsLastHiddenStatePooler)  # what padding is does not matter to them
# transformers' names of the same sizes in different kinds of towers.
_DEPTH, _HEADS = ("num_hidden_layers", "num_layers"), ("num_attention_heads", "num_heads", "encoder_attention_heads")


class WrappedTower(nn.Module):
    """A text tower of transformers, with the names of parts that ``TextEncoder`` knows.

    Its tokens enter as embeddings, so that context vectors can stand among them.

    Attributes:
        resblocks: none are seen: blocks of transformers take no learned rows between them.
        length: most columns; 0: any number.
        pad_id: the token that no token sees.
        width, feature_width: D and F.
        depth, heads: of its blocks, to estimate memory.
    """

    resblocks: Any = ()

    def __init__(self, tower: HFTextEncoder) -> None:
        super().__init__()
        if not isinstance(tower.pooler, POOLERS):
            raise BackboneError(
                f"the text tower {self.kind_of(tower)} is read by {type(tower.pooler).__name__}, which is not known; "
                f"known are {', '.join(each.__name__ for each in POOLERS)}"
            )
        config = tower.config
        self.inner, self.pooler, self.projection = tower.transformer, tower.pooler, tower.proj
        self.kind = self.kind_of(tower)
        self.pad_id, self.feature_width = int(config.pad_token_id), int(tower.output_dim)
        self.token_embedding = self.inner.get_input_embeddings()
        self.width = int(self.token_embedding.embedding_dim)
        # RoBERTa and NLLB count positions from behind that of padding.
        shift = self.pad_id + 1 if config.model_type in ("roberta", "xlm-roberta") else 0
        self.length = max(0, int(getattr(config, "max_position_embeddings", 0) or 0) - shift)
        self.depth, self.heads = _first(config, _DEPTH, 12), _first(config, _HEADS, 12)

    @staticmethod
    def kind_of(tower: HFTextEncoder) -> str:
        """The name of its class, for messages."""
        return type(tower.transformer).__name__

    def get_cast_dtype(self) -> torch.dtype:
        """Of its matrices."""
        return self.token_embedding.weight.dtype

    def forward(self, embedded: Tensor, ids: Tensor) -> Tensor:
        """Embedded tokens (N, L, D) and their ids (N, L), negative for context vectors, -> pooled states (N, D)."""
        seen = (ids != self.pad_id).long()
        return self.pooler(self.inner(inputs_embeds=embedded, attention_mask=seen), seen)


def _first(config: Any, names: tuple[str, ...], usual: int) -> int:
    return next((int(getattr(config, name)) for name in names if getattr(config, name, None)), usual)


def config_folder(name: str, beside: Path) -> Path:
    """The folder with the ``config.json`` of a text tower: beside the weights, in the Hub's cache, or downloaded there.

    Args:
        name: a repository of the Hub, or one of the old names without an owner.
        beside: the folder of the weights.

    Raises:
        BackboneError: it is not there and cannot be fetched, or it is of a kind that open_clip does not know.
    """
    path = hub.first_file(beside / FOLDER, (CONFIG,)) or hub.find(name, (CONFIG,), [])
    path = path or hub.fetch(name, (CONFIG,), name=f"the text tower {name}")
    said = read_json(path)
    if said.get("model_type") not in arch_dict or "auto_map" in said:
        raise BackboneError(
            f"{path} describes a text tower of the kind {said.get('model_type')!r}, which open_clip does not know; "
            f"known are {', '.join(arch_dict)}"
        )
    return path.parent
