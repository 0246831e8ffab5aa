"""Exact encoding of texts and of prompts with learned context vectors.

Letters: N prompts, L columns, M context vectors, G context groups, D text width, F embedding width.

The text tower of CLIP is causal and its feature is the row of the end-of-text token, so nothing after that token
matters. Every batch is cut behind its last end-of-text token, which changes no feature and no gradient
(Radford et al. 2021 for the tower; Zhou et al. 2022, CoOp, for learned context and the positions of the class name).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from open_clip.model import CLIP
from torch import Tensor, nn
from torch.nn import functional

from clip.errors import BackboneError
from clip.precision import Precision
from clip.tokenizer import CONTEXT_LENGTH, encode, pad, token_count, tokenize

POSITIONS = ("end", "middle", "front")


@dataclass(frozen=True, eq=False)
class PromptLayout:
    """Where literal tokens and context vectors stand in N prompts.

    Attributes:
        tokens: (N, 77) int64, the tokenised texts with placeholder words before the name.
        slots: (N, L) int64, L = longest prompt with its end token. An entry >= 0 is a token id; -(j+1) is context
            vector j. Each prompt holds each of its context vectors exactly once.
        eot: (N,) int64, column of the end-of-text token; it is the same for every position of the name.
        n_ctx: M, number of context vectors in each prompt.
    """

    tokens: Tensor
    slots: Tensor
    eot: Tensor
    n_ctx: int

    def __len__(self) -> int:
        return len(self.slots)

    def to(self, device: str | torch.device) -> "PromptLayout":
        """The same layout on ``device``."""
        return PromptLayout(self.tokens.to(device), self.slots.to(device), self.eot.to(device), self.n_ctx)

    def select(self, index: Tensor) -> "PromptLayout":
        """The prompts that ``index`` (K,) names, in its order."""
        return PromptLayout(self.tokens[index], self.slots[index], self.eot[index], self.n_ctx)


def phrase_words(phrase: str) -> list[str]:
    """Words of an init phrase; an underscore separates words like a space. Their number is M."""
    return phrase.replace("_", " ").split()


def prompt_layout(names: Sequence[str], *, n_ctx: int, position: str = "end", phrase: str = "") -> PromptLayout:
    """Lay out the prompts "context name." of some class or task names.

    The tokenised text is ``n_ctx`` placeholder words (or those of ``phrase``), the name with its underscores as
    spaces, and a dot. Context vectors replace its columns 1..M; tokens of a phrase beyond these stay text. ``end``
    puts the name behind the context, ``front`` before it, ``middle`` behind the first M // 2 context vectors.

    Raises:
        BackboneError: unknown position, a phrase that has not ``n_ctx`` words, or a prompt of more than 77 tokens.
    """
    if position not in POSITIONS:
        raise BackboneError(f"unknown position of the class name {position!r}; choose one of {', '.join(POSITIONS)}")
    words = phrase_words(phrase) if phrase else ["X"] * n_ctx
    if len(words) != n_ctx:
        raise BackboneError(f"the phrase {phrase!r} has {len(words)} words, but there are {n_ctx} context vectors")
    before = {"end": n_ctx, "middle": n_ctx // 2, "front": 0}[position]
    names = [name.replace("_", " ") for name in names]
    rows = [_encode_prompt(name, words) for name in names]
    # A name may hold an end token itself; the text ends at the first one.
    texts = [row[: row.index(row[-1]) + 1] for row in rows]
    slots = [_arrange(text, token_count(name), n_ctx, before) for text, name in zip(texts, names, strict=True)]
    return PromptLayout(
        tokens=pad(rows, CONTEXT_LENGTH),
        slots=pad(slots, max(map(len, texts))),
        eot=torch.tensor([len(text) - 1 for text in texts]),
        n_ctx=n_ctx,
    )


def _encode_prompt(name: str, words: Sequence[str]) -> list[int]:
    row = encode(" ".join([*words, f"{name}."]))
    if len(row) > CONTEXT_LENGTH:
        raise BackboneError(
            f"the prompt of {name!r} has {len(row)} tokens with {len(words)} context words, start and end, but only "
            f"{CONTEXT_LENGTH} fit; shorten the name or the context"
        )
    return row


def _arrange(text: list[int], name_tokens: int, n_ctx: int, before: int) -> list[int]:
    """Put ``before`` context vectors before the name and the others behind it, then the rest of the text."""
    start, literal = text[0], text[1 + n_ctx :]
    # A name may share its last token with the dot; the end token is never part of it.
    name_tokens = min(name_tokens, len(literal) - 1)
    context = [-(j + 1) for j in range(n_ctx)]
    return [start, *context[:before], *literal[:name_tokens], *context[before:], *literal[name_tokens:]]


class TextEncoder(nn.Module):
    """The frozen text tower, for plain tokens and for prompts with learned context vectors."""

    def __init__(self, model: CLIP, precision: Precision) -> None:
        super().__init__()
        self.token_embedding = model.token_embedding
        self.positional_embedding = model.positional_embedding
        self.transformer = model.transformer
        self.ln_final = model.ln_final
        self.text_projection = model.text_projection
        length = model.context_length
        mask = torch.full((length, length), float("-inf")).triu_(1)
        self.register_buffer("causal_mask", mask, persistent=False)
        self._precision = precision

    def forward(self, layout: PromptLayout, contexts: Tensor | None = None, group: Tensor | None = None) -> Tensor:
        """Features of prompts, differentiable in the contexts.

        Args:
            layout: the N prompts.
            contexts: (G, M, D) context vectors in any floating dtype; None where the layout has none.
            group: (N,) int64, the group of each prompt; None if G is 1 (shared by all) or N (one each).

        Returns:
            (N, F) in the encoder's dtype, not L2-normalised.
        """
        device = self.causal_mask.device
        slots, eot = layout.slots.to(device), layout.eot.to(device)
        embedded = self.token_embedding(slots.clamp_min(0))
        given = 0 if contexts is None else contexts.shape[1]
        assert given == layout.n_ctx, f"{given} context vectors for prompts with {layout.n_ctx}"
        if contexts is not None and given:
            own = _per_prompt(contexts, group, len(layout))
            # Context slots are the only negative entries and -M is the lowest: sorting finds their columns in order.
            columns = slots.argsort(dim=1)[:, :given].flip(1)
            embedded = embedded.scatter(1, columns[..., None].expand_as(own), own.to(embedded.dtype))
        return self._encode(embedded, eot)

    def encode_tokens(self, tokens: Tensor) -> Tensor:
        """Features of plain texts.

        Args:
            tokens: (N, L) int64 from ``tokenize``.

        Returns:
            (N, F) in the encoder's dtype, not L2-normalised.
        """
        tokens = tokens.to(self.causal_mask.device)
        # The end token has the largest id; argmax gives its first column.
        eot = tokens.argmax(dim=1)
        return self._encode(self.token_embedding(tokens[:, : int(eot.max()) + 1]), eot)

    def phrase_vectors(self, phrase: str) -> Tensor:
        """Embeddings that an init phrase starts the context from.

        Returns:
            (M, D) fp32, the embeddings of tokens 1..M of the tokenised phrase, M its number of words. A phrase with
            more tokens than words is thereby cut, as CoOp does.
        """
        words = phrase_words(phrase)
        tokens = tokenize(" ".join(words))[0, 1 : 1 + len(words)]
        return self.token_embedding(tokens.to(self.causal_mask.device)).detach().float()

    def _encode(self, embedded: Tensor, eot: Tensor) -> Tensor:
        """Run the tower: embedded tokens (N, L, D), end-of-text columns (N,) -> features (N, F)."""
        length, longest = embedded.shape[1], len(self.causal_mask)
        if length > longest:
            raise BackboneError(f"a text of {length} tokens does not fit this backbone, which takes {longest}")
        with self._precision.autocast():
            dtype = self.transformer.get_cast_dtype()
            hidden = embedded.to(dtype) + self.positional_embedding[:length].to(dtype)
            hidden = self.transformer(hidden, attn_mask=self.causal_mask[:length, :length])
            last = eot[:, None, None].expand(-1, 1, hidden.shape[2])
            return self.ln_final(hidden.gather(1, last).squeeze(1)) @ self.text_projection


def _per_prompt(contexts: Tensor, group: Tensor | None, count: int) -> Tensor:
    """The context of each prompt: (G, M, D) -> (N, M, D)."""
    groups, n_ctx, width = contexts.shape
    if group is not None:
        # A table lookup and not an indexing: its gradient is summed in a fixed order on every device.
        rows = functional.embedding(group.to(contexts.device), contexts.reshape(groups, -1))
        return rows.view(count, n_ctx, width)
    assert groups in (1, count), f"{groups} groups of contexts for {count} prompts need to be told who has which"
    return contexts.expand(count, -1, -1)
