"""Exact encoding of texts and of prompts with learned context vectors.

Letters: N prompts, L columns, M context vectors, G context groups, D text width, F embedding width.

CLIP's text tower is causal, and its feature is the row of the end-of-text token. So a common prefix of prompts is
computed once, and nothing after the end-of-text token is computed: ``clip.tree`` finds the tokens that are needed,
``clip.tower`` runs the tower over them. This changes no feature and no gradient (Radford et al. 2021 for
the tower; Zhou et al. 2022, CoOp, for learned context and the positions of the class name).
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from open_clip.hf_model import HFTextEncoder
from open_clip.transformer import Transformer
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from clip.columns import ColumnTower, Cut
from clip.device import free_bytes
from clip.errors import BackboneError, TooLongError
from clip.facts import facts_of, text_part
from clip.precision import Precision, product_dtype
from clip.tokenizer import Tokenizer, openai_tokenizer, pad, quote
from clip.tower import TreeTower, leaf_states, not_standard
from clip.tree import Deep, Forest, Trie
from clip.wrapped import WrappedTower

POSITIONS = ("end", "middle", "front")
TEXT_ENCODINGS = ("auto", "cut", "plain")
# Share of the free memory for the tensors of one encoding. Allocators need up to half as much again, and images and a
# second pass over texts need memory, too.
MEMORY_SHARE = 0.5
# Assignments of contexts to prompts that a layout remembers.
REMEMBERED = 4

logger = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class PromptLayout:
    """Positions of literal tokens and context vectors in N prompts.

    Attributes:
        tokens: (N, L) int64, the tokenised texts with placeholders before the name, in all columns of the backbone.
        slots: (N, L) int64, L = longest prompt with its end token. An entry >= 0 is a token id; -(j+1) is context
            vector j. Each prompt holds each of its context vectors exactly once.
        eot: (N,) int64, column of the end-of-text token; it is the same for every position of the name.
        n_ctx: M, number of context vectors in each prompt.
        known: an encoder's plans for these prompts, for each assignment of contexts.
        cut: its batches, where it runs over columns.
    """

    tokens: Tensor
    slots: Tensor
    eot: Tensor
    n_ctx: int
    known: "list[_Known]" = field(default_factory=list, repr=False)
    cut: list[Cut] = field(default_factory=list, repr=False)

    def __len__(self) -> int:
        return len(self.slots)

    def __getstate__(self) -> dict[str, object]:
        """A copy makes its own plans."""
        return {**self.__dict__, "known": [], "cut": []}

    def to(self, device: str | torch.device) -> "PromptLayout":
        """The same layout on ``device``."""
        return PromptLayout(self.tokens.to(device), self.slots.to(device), self.eot.to(device), self.n_ctx)

    def select(self, index: Tensor) -> "PromptLayout":
        """The prompts ``index`` (K,), in its order."""
        return PromptLayout(self.tokens[index], self.slots[index], self.eot[index], self.n_ctx)


def phrase_words(phrase: str) -> list[str]:
    """The M words of an init phrase; an underscore separates words like a space."""
    return phrase.replace("_", " ").split()


def prompt_layout(
    names: Sequence[str], *, n_ctx: int, position: str = "end", phrase: str = "", tokenizer: Tokenizer | None = None
) -> PromptLayout:
    """Lay out the prompts "context name." of some class or task names.

    The tokenised text is ``n_ctx`` placeholders (or the words of ``phrase``), the name with its underscores as spaces,
    and a dot. Context vectors replace the ``n_ctx`` columns behind the start; tokens of a phrase beyond these stay
    text. ``end`` puts the name behind the context, ``front`` before it, ``middle`` behind the first M // 2 context
    vectors.

    Args:
        tokenizer: the backbone's; None: OpenAI's.

    Raises:
        BackboneError: unknown position, a phrase without exactly ``n_ctx`` words, or a prompt that does not fit.
    """
    tokenizer = tokenizer or openai_tokenizer()
    if position not in POSITIONS:
        raise BackboneError(f"unknown position of the class name {position!r}; choose one of {', '.join(POSITIONS)}")
    words = phrase_words(phrase)
    if phrase and len(words) != n_ctx:
        raise BackboneError(f"the phrase {phrase!r} has {len(words)} words, but there are {n_ctx} context vectors")
    before = {"end": n_ctx, "middle": n_ctx // 2, "front": 0}[position]
    names = [name.replace("_", " ") for name in names]
    rows = [_encode_prompt(name, words, n_ctx, tokenizer) for name in names]
    # A name may contain an end token; the text ends at the first one.
    texts = [row[: tokenizer.ending(row) + 1] for row in rows]
    slots = [_arrange(text, tokenizer, name, n_ctx, before) for text, name in zip(texts, names, strict=True)]
    return PromptLayout(
        tokens=pad(rows, tokenizer.length, tokenizer.pad_id),
        slots=pad(slots, max(map(len, texts)), tokenizer.pad_id),
        eot=torch.tensor([len(text) - 1 for text in texts]),
        n_ctx=n_ctx,
    )


def _encode_prompt(name: str, words: Sequence[str], n_ctx: int, tokenizer: Tokenizer) -> list[int]:
    text = f"{name}."
    bare = tokenizer.ids(" ".join([*words, text])) if words else tokenizer.placeholders(text, n_ctx)
    row = [*tokenizer.start, *bare, *tokenizer.end]
    if len(row) > tokenizer.length:
        raise TooLongError(
            name,
            f"the prompt of {quote(name)} has {len(row)} tokens with {n_ctx} context words, start and end, but "
            f"only {tokenizer.length} fit",
            "shorten the name or the context",
        )
    return row


def _arrange(text: list[int], tokenizer: Tokenizer, name: str, n_ctx: int, before: int) -> list[int]:
    """Put ``before`` context vectors before the name and the others behind it, then the rest of the text."""
    first = len(tokenizer.start)
    start, literal = text[:first], text[first + n_ctx :]
    # A name may share its last token with the dot; the end token is never part of it.
    name_tokens = min(tokenizer.count(name), len(literal) - len(tokenizer.end))
    context = [-(j + 1) for j in range(n_ctx)]
    return [*start, *context[:before], *literal[:name_tokens], *context[before:], *literal[name_tokens:]]


@dataclass(eq=False)
class _Known:
    """A layout's trie under one assignment of contexts, with its forest on one device.

    Attributes:
        group: the ``group`` argument, and its state.
        own: whether each prompt has its own context (without ``group``).
        deep: the deep rows.
        limit: limit of the encoder that it was planned for.
        size: different prompts that are encoded at once.
    """

    group: Tensor | None
    state: int
    own: bool
    deep: tuple[Deep, ...]
    limit: int
    device: torch.device
    trie: Trie
    size: int
    forest: Forest

    def fits(self, group: Tensor | None, own: bool, deep: tuple[Deep, ...], limit: int, device: torch.device) -> bool:
        """Whether this is the trie of an assignment of contexts and these deep rows, planned for this limit."""
        mine = self.own, self.deep, self.limit, self.device, self.group is None
        if mine != (own, deep, limit, device, group is None):
            return False
        if group is None or self.group is None or (self.group is group and self.state == group._version):
            return True
        # Another tensor: comparing makes the host wait for the device, but planning would take longer.
        if self.state != self.group._version or not torch.equal(self.group, group.to(self.group.device)):
            return False
        self.group, self.state = group, group._version
        return True


class TextEncoder(nn.Module):
    """The frozen text tower, for plain tokens and for prompts with learned context vectors.

    Args:
        model: the network that it is part of: open_clip's CLIP, or one with a separate text tower.
        precision: how it computes.
        tokenizer: the backbone's; None: OpenAI's.
        encoding: "auto" computes common prefixes once where that is exact, and takes one of the other two elsewhere.
            "cut" runs the columns up to the ends of the prompts, where that is exact; "plain" runs all columns.
        chunk: prompts that are encoded at once; with several chunks the backward pass computes the hidden states of
            each again. 0 chooses by ``memory``.
        memory: bytes for the tensors of one encoding; 0: half of the free memory.

    Attributes:
        facts: how the tower reads a text.
        encoding: the way in force.
        limit: most prompts to encode at once, after the memory ran out; 0: no limit.
        largest: most prompts that were encoded at once; 0: none yet.
        chunked: smallest chunk that was used, in prompts; 0: no encoding was cut into chunks.
    """

    causal_mask: Tensor
    token_embedding: nn.Embedding
    positional_embedding: Tensor
    class_embedding: Tensor | None
    transformer: Transformer  # or a WrappedTower
    ln_final: nn.LayerNorm
    text_projection: Tensor | nn.Linear | None

    def __init__(
        self,
        model: nn.Module,
        precision: Precision,
        *,
        tokenizer: Tokenizer | None = None,
        encoding: str = "auto",
        chunk: int = 0,
        memory: int = 0,
    ) -> None:
        super().__init__()
        if encoding not in TEXT_ENCODINGS:
            raise BackboneError(f"unknown text encoding {encoding!r}; choose one of {', '.join(TEXT_ENCODINGS)}")
        if chunk < 0:
            raise BackboneError(f"the number of prompts encoded at once is {chunk}; 0 chooses it by the free memory")
        self.facts = facts_of(model)
        self._take(text_part(model))
        places = len(self.positional_embedding)
        mask = torch.full((places, places), float("-inf")).triu_(1)
        self.register_buffer("causal_mask", mask, persistent=False)
        self.tokenizer = tokenizer or openai_tokenizer()
        if isinstance(self.transformer, WrappedTower):  # it may have any number of positions, its texts have not
            length = self.tokenizer.length
            self.facts = replace(self.facts, length=min(length, self.facts.length or length))
        self.chunk, self.memory, self.limit = chunk, memory, 0
        self.forget()
        self._precision = precision
        self._tower: TreeTower | None = None
        self.encoding = self._way(encoding)

    def _take(self, part: Any) -> None:
        """The modules of the text tower, by the names that they have here."""
        if isinstance(part, HFTextEncoder):
            tower: Any = WrappedTower(part)
            norm: Any = nn.Identity()
            self.transformer, self.ln_final = tower, norm
            self.token_embedding, self.text_projection = tower.token_embedding, tower.projection
            self.positional_embedding, self.class_embedding = torch.zeros(0), None
            return
        self.token_embedding = part.token_embedding
        self.positional_embedding = part.positional_embedding
        self.class_embedding = part.cls_emb if self.facts.class_token else None
        self.transformer = part.transformer
        self.ln_final = part.ln_final
        self.text_projection = part.text_projection

    def _way(self, asked: str) -> str:
        """The encoding in force; the log says why it is not the requested one."""
        reason = self.facts.reason() or self._other_end() or not_standard(self.transformer.resblocks)
        if asked == "auto" and not reason:
            return asked
        if self.facts.cuttable or asked == "plain":
            way, how = "cut" if asked == "auto" else asked, "up to its end"
        else:
            way, how = "plain", f"with all {self.facts.length} columns, because padding reaches its feature"
        if way != asked:
            logger.info("Every prompt is encoded separately, %s: %s", how, reason)
        return way

    def _other_end(self) -> str:
        """Why the feature may be read elsewhere than at the end of a text; "" if it is not."""
        end, facts = self.tokenizer.end[-1], self.facts
        if facts.pool == "eos" and facts.end_id != end:
            raise BackboneError(
                f"the text tower reads its feature at token {facts.end_id}, but its tokenizer ends a text with {end}; "
                "correct the model's description (text_cfg: eos_id, hf_tokenizer_name)"
            )
        largest = (self.tokenizer.size or self.token_embedding.num_embeddings) - 1
        return "the end of a text is not the largest token" if facts.pool == "argmax" and end < largest else ""

    @property
    def device(self) -> torch.device:
        """Where it runs."""
        return self.causal_mask.device

    @property
    def width(self) -> int:
        """D, width of a token and of a context vector."""
        return self.token_embedding.embedding_dim

    @property
    def depth(self) -> int:
        """Number of its blocks."""
        return len(self.transformer.resblocks)

    @property
    def feature_width(self) -> int:
        """F, width of a feature."""
        if isinstance(self.transformer, WrappedTower):
            return self.transformer.feature_width
        if self.text_projection is None:
            return self.width
        if isinstance(self.text_projection, nn.Linear):
            return self.text_projection.out_features
        return self.text_projection.shape[1]

    def layout(self, names: Sequence[str], *, n_ctx: int, position: str = "end", phrase: str = "") -> PromptLayout:
        """``prompt_layout`` with this backbone's tokens, on its device."""
        laid = prompt_layout(names, n_ctx=n_ctx, position=position, phrase=phrase, tokenizer=self.tokenizer)
        return laid.to(self.device)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "TextEncoder":
        """After the weights are moved or cast, derive everything from them again."""
        self._tower = None
        return super()._apply(fn, recurse)

    def forward(
        self,
        layout: PromptLayout,
        contexts: Tensor | None = None,
        group: Tensor | None = None,
        *,
        rows: Tensor | None = None,
        deep: Mapping[int, Tensor] | None = None,
    ) -> Tensor:
        """Features of prompts, differentiable in the contexts and the deep rows.

        Args:
            layout: the N prompts.
            contexts: (G, M, D) context vectors in any floating dtype; None if the layout has none.
            group: (N,) int64, the group of each prompt; None if G is 1 (shared by all) or if each prompt has its own.
                Pass the same tensor at each step; another one is compared with the known ones each time.
            rows: (K,) int64, best on the CPU: encode only these prompts, in this order. ``group`` is still that of all
                prompts; but if each prompt has its own context, ``contexts`` is (K, M, D), for these prompts.
            deep: deep rows by the number of a block, counted from 0 and not the first: before this block they replace
                the first m <= M context vectors of each prompt. (m, D) for all prompts, or (N, m, D), with ``rows``
                (K, m, D), for each its own; in any floating dtype, without positional embeddings.

        Raises:
            BackboneError: deep rows before a block that the tower does not have, or more of them than context vectors.

        Returns:
            (N, F), or (K, F) with ``rows``, in the encoder's dtype, not L2-normalised.
        """
        groups, given = (1, 0) if contexts is None else contexts.shape[:2]
        count = len(layout) if rows is None else len(rows)
        assert given == layout.n_ctx, f"{given} context vectors for prompts with {layout.n_ctx}"
        assert group is not None or groups in (1, count), (
            f"{groups} contexts for {count} prompts: give the group of each"
        )
        deep = dict(sorted((deep or {}).items()))
        kinds = self._deep(deep, n_ctx=given, count=count)
        if self.encoding != "auto":
            return self._encode_columns(*_chosen(layout, contexts, group, rows), deep, told=rows is None)
        own = bool(given) and group is None and groups > 1
        known = self._known(layout, group if given else None, own, kinds)
        if rows is None:
            return self._encode(known.forest, contexts, deep)
        trie = known.trie.select(rows, own=given if own else 0)
        return self._encode(Forest.of(trie, known.size, self.device), contexts, deep)

    def _deep(self, deep: Mapping[int, Tensor], *, n_ctx: int, count: int) -> tuple[Deep, ...]:
        """The kinds of deep rows for ``count`` prompts, checked."""
        if deep and isinstance(self.transformer, WrappedTower):
            raise BackboneError(
                f"the text tower {self.transformer.kind} of transformers takes no learned rows between its blocks; "
                "choose a backbone with a text tower of open_clip, or a method without such rows"
            )
        blocks = self.depth
        for layer, rows in deep.items():
            if not 0 < layer < blocks:
                raise BackboneError(
                    f"learned rows enter before block {layer + 1}, but the text tower has {blocks} blocks; choose one "
                    f"of 2 to {blocks}"
                )
            if not 0 < rows.shape[-2] <= n_ctx:
                raise BackboneError(
                    f"{rows.shape[-2]} learned rows before block {layer + 1} replace context vectors, but a prompt has "
                    f"{n_ctx}; choose as many context vectors as rows"
                )
            assert rows.dim() == 2 or len(rows) == count, f"{len(rows)} groups of deep rows for {count} prompts"
        return tuple(Deep(layer, rows.shape[-2], rows.dim() == 3) for layer, rows in deep.items())

    def encode_tokens(self, tokens: Tensor) -> Tensor:
        """Features of plain texts.

        Args:
            tokens: (N, L) int64 from ``tokenize``.

        Returns:
            (N, F) in the encoder's dtype, not L2-normalised.
        """
        end = self.facts.ends(tokens)
        if self.encoding != "auto":
            return self._encode_columns(PromptLayout(tokens, tokens, end, 0))
        trie = self._trie(tokens, end)
        return self._encode(Forest.of(trie, self._size(trie, learned=False), self.device))

    def forget(self) -> None:
        """Reset ``largest`` and ``chunked``, e.g. for the next run in a process."""
        self.largest = self.chunked = 0

    def note(self, size: int, count: int) -> None:
        """Remember that ``count`` different prompts are encoded ``size`` at once."""
        self.largest = max(self.largest, size)
        if size < count:
            self.chunked = min(self.chunked or size, size)

    def halve(self) -> int:
        """Halve the number of prompts encoded at once; returns it, 0 if it cannot be halved.

        For a caller whose memory ran out. Features and gradients are then those of an encoder with this ``chunk``.
        """
        half = (self.limit or self.largest) // 2
        self.limit = half or self.limit
        return half

    def phrase_vectors(self, phrase: str) -> Tensor:
        """Embeddings that an init phrase starts the context from.

        Returns:
            (M, D) fp32, the embeddings of tokens 1..M of the tokenised phrase, M its number of words. A phrase with
            more tokens than words is cut, as in CoOp.
        """
        words = phrase_words(phrase)
        ids = self.tokenizer.ids(" ".join(words))
        if len(ids) < len(words):
            raise BackboneError(f"the phrase {phrase!r} has {len(ids)} tokens for {len(words)} words; use other words")
        return self.embeddings(ids[: len(words)])

    def embeddings(self, ids: Sequence[int]) -> Tensor:
        """Those of tokens, (K, D) fp32."""
        return self.token_embedding(torch.tensor(ids, device=self.device)).detach().float()

    def _known(self, layout: PromptLayout, group: Tensor | None, own: bool, deep: tuple[Deep, ...]) -> _Known:
        """The trie and the plans of a layout, cached or new."""
        device = self.device
        for known in layout.known:
            if known.fits(group, own, deep, self.limit, device):
                self.note(known.size, len(known.trie.keys))
                return known
        owner = torch.arange(len(layout)) if own else group
        trie = self._trie(layout.slots, layout.eot, n_ctx=layout.n_ctx, group=owner, deep=deep)
        size = self._size(trie, learned=layout.n_ctx > 0)
        state = 0 if group is None else group._version
        known = _Known(group, state, own, deep, self.limit, device, trie, size, Forest.of(trie, size, device))
        layout.known[:] = [*layout.known[1 - REMEMBERED :], known]
        return known

    def _trie(self, slots: Tensor, end: Tensor, **contexts: Any) -> Trie:
        length, longest = int(end.max()) + 1, self.facts.length
        if length > longest:
            raise BackboneError(f"a text of {length} tokens does not fit this backbone, which takes {longest}")
        return Trie.of(slots[:, :length], end, **contexts)

    def _size(self, trie: Trie, *, learned: bool) -> int:
        """Different prompts to encode at once: all, if the tensors of a training step fit into memory."""
        count, spans, layers = len(trie.keys), trie.spans(), self.depth
        need = self._tower_of().memory(spans, keep=learned)
        free = free_bytes(self.device)
        bound = self.memory or free * MEMORY_SHARE
        rows = spans[0].rows if len(spans) == 1 else trie.largest(count, layers)
        size = min(count, self.chunk or _fitting(trie, int(rows * bound / need), layers), self.limit or count)
        self.note(size, count)
        if learned:
            most = need * trie.largest(size, layers) // rows
            how = f"in chunks of {size}, at most {most >> 20} MiB each" if size < count else "at once"
            logger.info(
                "Encoding %d prompts: %d tokens with common beginnings joined (%d without); a training step takes "
                "about %d MiB for them, %d MiB are free: encoded %s",
                *(
                    len(trie),
                    max(plan.nodes for plan in spans),
                    len(trie) * self.facts.length,
                    need >> 20,
                    free >> 20,
                    how,
                ),
            )
        return size

    def _tower_of(self) -> TreeTower:
        if self._tower is None:
            amp = self._precision.name == "amp"
            low = self._precision.features if amp else self.transformer.get_cast_dtype()
            self._tower = TreeTower(self, product_dtype(low, self.device))
        return self._tower

    def _encode(
        self, forest: Forest, contexts: Tensor | None = None, deep: Mapping[int, Tensor] | None = None
    ) -> Tensor:
        """Run the tower over the rows of trees."""
        tower = self._tower_of()
        width = tower.tokens.shape[1]
        given = tower.tokens.new_empty(0, width) if contexts is None else contexts
        tables = [table.reshape(-1, width) for table in (given, *(deep or {}).values())]
        # A table lookup and not an indexing: its gradient is summed in a fixed order on every device.
        look_up = functional.embedding
        keep = len(forest.plans) == 1
        leaves = []
        for spans in forest.plans:
            vectors = [look_up(plan.source, table) for plan, table in zip(spans, tables, strict=True)]
            leaves.append(leaf_states(vectors, tower, spans, keep=keep))
        return look_up(forest.prompt, self._project(leaves[0] if keep else torch.cat(leaves)))

    def _encode_columns(
        self,
        layout: PromptLayout,
        contexts: Tensor | None = None,
        group: Tensor | None = None,
        deep: Mapping[int, Tensor] | None = None,
        *,
        told: bool = False,
    ) -> Tensor:
        """Run the tower over the columns of every prompt: all, or those up to its end.

        Args:
            told: whether the log tells how; once for each layout.
        """
        context = None if contexts is None or not layout.n_ctx else _Contexts(contexts, group, len(layout))
        below = {
            layer: _Contexts(rows if rows.dim() == 3 else rows[None], None, len(layout))
            for layer, rows in (deep or {}).items()
        }
        values = [each.values for each in (context, *below.values()) if each is not None]
        values += self.transformer.parameters()  # a tuned copy of the tower has learned ones among them
        learned = torch.is_grad_enabled() and any(each.requires_grad for each in values)
        cut = self._cut(layout, learned=learned, told=told)
        slots = layout.slots.to(self.device)
        filling = max(columns for _, columns in cut.parts) - slots.shape[1]
        slots = functional.pad(slots, (0, max(0, filling)), value=self.tokenizer.pad_id)

        def run(index: Tensor | None, columns: int) -> Tensor:
            ids = slots if index is None else slots[index]
            own = None if context is None else context.of(index)
            replaced = {layer: rows.of(index) for layer, rows in below.items()}
            return ColumnTower(self, self._precision).hidden(ids[:, :columns], own, replaced)

        if cut.order is None:
            return self._project(run(*cut.parts[0]))
        again = learned and cut.size < len(layout)
        parts = [checkpoint(run, *part, use_reentrant=False) if again else run(*part) for part in cut.parts]
        return functional.embedding(cut.order, self._project(torch.cat(parts)))

    def _cut(self, layout: PromptLayout, *, learned: bool, told: bool) -> Cut:
        """The batches that a layout is encoded in, cached or new."""
        for known in layout.cut:
            if (known.limit, known.device) == (self.limit, self.device):
                self.note(known.size, len(layout))
                return known
        lengths = layout.eot.cpu() + 1
        if (longest := int(lengths.max())) > self.facts.length:
            most = self.facts.length
            raise BackboneError(f"a text of {longest} tokens does not fit this backbone, which takes {most}")
        lengths = (lengths + self.facts.beyond).clamp_max(self.facts.length)
        lengths = lengths if self.encoding == "cut" else lengths.clamp_min(self.facts.length)
        size = self._columns_at_once(lengths, learned=learned, told=told)
        layout.cut[:] = [Cut.of(lengths, size, limit=self.limit, device=self.device)]
        return layout.cut[0]

    def _columns_at_once(self, lengths: Tensor, *, learned: bool, told: bool) -> int:
        """Prompts to encode at once: all, if the tensors of a training step fit into memory."""
        count, free = len(lengths), free_bytes(self.device)
        each = ColumnTower(self, self._precision).memory(int(lengths.max()), keep=learned)
        size = min(count, self.chunk or max(1, int((self.memory or free * MEMORY_SHARE) / each)), self.limit or count)
        self.note(size, count)
        if told and learned:
            how = f"in chunks of at most {size}" if size < count else "at once"
            logger.info(
                "Encoding %d prompts separately: %d columns; a training step takes about %d MiB for them, %d MiB are "
                "free: encoded %s",
                *(count, int(lengths.sum()), each * count >> 20, free >> 20, how),
            )
        return size

    def _project(self, hidden: Tensor) -> Tensor:
        """Hidden states that features are read from (U, D) -> features (U, F)."""
        with self._precision.autocast():
            hidden = self.ln_final(hidden.to(self.transformer.get_cast_dtype()))
            if self.text_projection is None:
                return hidden
            if isinstance(self.text_projection, nn.Module):  # also several layers
                return self.text_projection(hidden)
            return hidden @ self.text_projection


def _fitting(trie: Trie, rows: int, layers: int) -> int:
    """Different prompts in a chunk of the trie, so that no chunk has more than ``rows`` nodes (or has one prompt)."""
    size = len(trie.keys)
    while size > 1 and (largest := trie.largest(size, layers)) > rows:
        size = max(1, min(size - 1, size * rows // largest))
    return size


def _chosen(
    layout: PromptLayout, contexts: Tensor | None, group: Tensor | None, rows: Tensor | None
) -> tuple[PromptLayout, Tensor | None, Tensor | None]:
    """The prompts ``rows`` as a separate layout, with their contexts."""
    if rows is None:
        return layout, contexts, group
    return layout.select(rows), contexts, None if group is None else group[rows]


@dataclass(frozen=True)
class _Contexts:
    """Contexts (G, M, D) and the group (N,) of each prompt; None: G is 1, or each prompt has its own."""

    values: Tensor
    group: Tensor | None
    count: int

    def of(self, index: Tensor | None) -> Tensor:
        """The context of the prompts ``index`` (K,), None for all, (K, M, D)."""
        groups, n_ctx, width = self.values.shape
        rows = self.group
        if rows is None:
            assert groups in (1, self.count), f"{groups} contexts for {self.count} prompts: give the group of each"
            if groups == 1 or index is None:
                return self.values.expand(self.count if index is None else len(index), -1, -1)
            rows = torch.arange(groups)
        rows = rows.to(self.values.device)
        rows = rows if index is None else rows[index]
        # A table lookup and not an indexing: its gradient is summed in a fixed order on every device.
        return functional.embedding(rows, self.values.reshape(groups, -1)).view(-1, n_ctx, width)
