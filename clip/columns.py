"""The frozen text tower over the columns of every prompt, for towers in which prompts cannot share what is computed.

Letters: N prompts, L columns, D width, M context vectors.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from clip.precision import Precision
from clip.wrapped import WrappedTower

if TYPE_CHECKING:
    from clip.text import TextEncoder

# Prompts whose lengths are the same up to a multiple of this are encoded together.
STEP = 8


@dataclass(frozen=True, eq=False)
class Cut:
    """Prompts that are encoded one batch after the other.

    Attributes:
        limit: limit of the encoder that it was planned for.
        size: most prompts of a batch.
        parts: the prompts (K,) of each batch and the number of its columns; None: all prompts in their order.
        order: (N,) where each prompt is in the batches; None: in its own place.
    """

    limit: int
    device: torch.device
    size: int
    parts: list[tuple[Tensor | None, int]]
    order: Tensor | None

    @classmethod
    def of(cls, lengths: Tensor, size: int, *, limit: int, device: torch.device) -> "Cut":
        """Batches of at most ``size`` prompts with the columns that each needs; ``lengths``: (N,) on the host."""
        parts = [(index, int(lengths[index].max())) for index in _alike(lengths, size)]
        if len(parts) == 1:
            return cls(limit, device, size, [(None, parts[0][1])], None)
        order = torch.cat([index for index, _ in parts]).argsort().to(device)
        return cls(limit, device, size, [(index.to(device), columns) for index, columns in parts], order)


def _alike(lengths: Tensor, size: int) -> Iterator[Tensor]:
    steps = -(-lengths // STEP)
    for step in steps.unique().tolist():
        yield from (steps == step).nonzero().squeeze(1).split(size)


class ColumnTower:
    """The text tower as it runs over whole prompts, by automatic differentiation.

    Args:
        encoder: has the modules of the frozen network and the facts about it.
        precision: how it computes.
    """

    def __init__(self, encoder: "TextEncoder", precision: Precision) -> None:
        self._encoder, self._precision = encoder, precision

    def memory(self, columns: int, *, keep: bool) -> int:
        """Estimated peak bytes of a prompt of ``columns`` in a forward pass and, with ``keep``, a backward pass."""
        tower: Any = self._encoder.transformer
        width = self._encoder.width
        if isinstance(tower, WrappedTower):
            depth, heads = tower.depth, tower.heads
        else:
            depth, heads = len(tower.resblocks), tower.resblocks[0].attn.num_heads
        values = columns * (18 * width + heads * columns)
        return 4 * values * (depth + 1 if keep else 2)

    def hidden(self, ids: Tensor, context: Tensor | None, deep: Mapping[int, Tensor] | None = None) -> Tensor:
        """Hidden states (N, D) that the features are read from.

        Args:
            ids: (N, L) int64, -(j+1) for context vector j.
            context: (N, M, D), the vectors of each prompt; None: there are none.
            deep: by layer (N, m, D), what replaces the first m context vectors of each prompt before this block.
        """
        encoder, facts = self._encoder, self._encoder.facts
        embedded = encoder.token_embedding(ids.clamp_min(0))
        if context is not None:
            embedded = _replaced(embedded, self._slots(ids, context), context)
        with self._precision.autocast():
            dtype = encoder.transformer.get_cast_dtype()
            if isinstance(encoder.transformer, WrappedTower):
                return encoder.transformer(embedded.to(dtype), ids)
            placed, mask = self._placed(embedded.to(dtype)), self._mask(ids, dtype)
            if deep and context is not None:
                hidden = self._deep(placed, mask, self._slots(ids, context), deep)
            else:
                hidden = encoder.transformer(placed, attn_mask=mask)
            if facts.class_token:
                return hidden[:, -1]
            last = facts.columns(ids)[:, None, None].expand(-1, 1, hidden.shape[2])
            return hidden.gather(1, last).squeeze(1)

    @staticmethod
    def _slots(ids: Tensor, context: Tensor) -> Tensor:
        """The columns (N, M) of the context vectors, in order: the only negative entries, -M the lowest."""
        return ids.argsort(dim=1)[:, : context.shape[1]].flip(1)

    def _deep(self, hidden: Tensor, mask: Tensor | None, slots: Tensor, deep: Mapping[int, Tensor]) -> Tensor:
        """The blocks one by one, with rows in ``slots`` (N, M) replaced before some of them."""
        columns_first = not self._encoder.transformer.batch_first
        for number, block in enumerate(self._encoder.transformer.resblocks):
            if number in deep:
                hidden = _replaced(hidden, slots, deep[number])
            hidden = hidden.transpose(0, 1).contiguous() if columns_first else hidden
            hidden = block(hidden, attn_mask=mask)
            hidden = hidden.transpose(0, 1) if columns_first else hidden
        return hidden

    def _placed(self, embedded: Tensor) -> Tensor:
        """Tokens with their positions, and the class token at the last position."""
        positions = self._encoder.positional_embedding.to(embedded.dtype)
        token = self._encoder.class_embedding
        placed = embedded + positions[: embedded.shape[1]]
        if token is None:
            return placed
        last = (token.to(embedded.dtype) + positions[-1]).expand(len(embedded), 1, -1)
        return torch.cat([placed, last], dim=1)

    def _mask(self, ids: Tensor, dtype: torch.dtype) -> Tensor | None:
        """What a token must not see: (L, L), or one for each prompt and head; None: it sees everything."""
        facts = self._encoder.facts
        size = ids.shape[1] + facts.class_token
        causal = self._encoder.causal_mask[:size, :size] if facts.causal else None
        if facts.pad_id < 0:
            return causal
        seen = ids != facts.pad_id
        if facts.class_token:
            always = seen.new_ones(len(ids), 1)
            seen = torch.cat([always, seen] if facts.shifted else [seen, always], dim=1)
        hidden = torch.zeros(len(ids), size, size, dtype=dtype, device=ids.device)
        hidden.masked_fill_(~seen[:, None], float("-inf"))
        hidden = hidden if causal is None else hidden + causal.to(dtype)
        return hidden.repeat_interleave(self._encoder.transformer.resblocks[0].attn.num_heads, 0)


def _replaced(hidden: Tensor, slots: Tensor, rows: Tensor) -> Tensor:
    """``hidden`` (N, L, D) with ``rows`` (N, m, D) in the first m of the columns ``slots`` (N, M) of each prompt."""
    columns = slots[:, : rows.shape[1], None].expand_as(rows)
    return hidden.scatter(1, columns, rows.to(hidden.dtype))
