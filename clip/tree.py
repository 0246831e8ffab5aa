"""The prefix tree of a set of prompts, cut into blocks of rows for attention.

The text tower is causal: the hidden state of a token depends only on the tokens up to it. Prompts with a common
beginning therefore share their first hidden states, in every layer. The tree has one node for each different
beginning; a node's key is a literal token or a context vector. Its nodes in depth-first pre-order are the rows of all
matrices, and the rows are cut into blocks:

    row  0        1       2       3      4    5     6    7    8     9    10
    key  [SOS] -> ctx1 -> ctx2 -> tabby  cat  .  [EOS]   dog  .   [EOS]  ...
                           |-----> tabby -> cat -> . -> [EOS]
                           |-----> dog -> . -> [EOS]

In pre-order a node's descendants follow it without a gap. So those ancestors of a block's rows that lie before the
block are ancestors of its first row: one path, with at most one node of each depth. A row attends to the keys of this
path and of its own block, under a constant mask that keeps its ancestors and itself.

Deep rows are learned vectors that replace context vectors before a later block. They cut the tower into spans of
blocks, each with a tree of its own. In the tree of a later span a node's key is a deep row or a row of the span before,
so two prompts share a node where they would compute the same: with deep rows that all prompts share the tree stays as
it is, with deep rows of each prompt it branches at the first of them.

Letters: N prompts, U different prompts, L columns, R rows, K blocks of P rows, A columns of a block's path, S context
nodes, Q queries of a block in the last layer.
"""

from collections.abc import Iterator
from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor
from torch.nn import functional

from clip.device import to_device

BLOCK = 64
ALIGN = 8


@dataclass(frozen=True)
class Deep:
    """Deep rows before one block.

    Attributes:
        layer: number of the block, counted from 0.
        count: m, the context vectors of each prompt that they replace, from the first.
        own: each prompt has its own; otherwise all prompts share them.
    """

    layer: int
    count: int
    own: bool


@dataclass(frozen=True, eq=False)
class TreePlan:
    """Constant index tensors of one pass over a tree.

    Attributes:
        item: (R,) int64, the token of each row, or in a later span the row that it was in the span before; 0 for a
            context vector, a deep row or padding.
        depth: (R,) int64, the column of each row in its prompts.
        slot: (S,) int64, the rows that are context vectors.
        source: (S,) int64, the row of the contexts (G * M, D), or of the deep rows, that each of them takes.
        path: (K * A,) int64, the rows before each block that its rows descend from; padded with row 0.
        trunk: (V,) int64, the different rows in ``path``.
        path_in_trunk: (K * A,) int64, the place in ``trunk`` of each entry of ``path``.
        hidden: (K, 1, P, A + P) bool, true where a row may not attend.
        query: (K * Q,) int64, the query rows of the last layer; padded with the first row of the block.
        query_hidden: (K, 1, Q, A + P) bool, ``hidden`` of these rows.
        leaf: (U,) int64, the rows of the end-of-text tokens, prompt by prompt.
        answer: (U,) int64, the place in ``query`` of each of them.
        nodes: number of rows that are not padding.
        layer: number of the first block that has this tree.
        same: whether each row was the same row in the span before.
    """

    item: Tensor
    depth: Tensor
    slot: Tensor
    source: Tensor
    path: Tensor
    trunk: Tensor
    path_in_trunk: Tensor
    hidden: Tensor
    query: Tensor
    query_hidden: Tensor
    leaf: Tensor
    answer: Tensor
    nodes: int
    layer: int = 0
    same: bool = False

    @property
    def rows(self) -> int:
        """R, a multiple of the block."""
        return len(self.item)

    def to(self, device: torch.device) -> "TreePlan":
        """The same plan on ``device``."""
        parts = {field.name: getattr(self, field.name) for field in fields(self)}
        moved = {name: to_device(part, device) for name, part in parts.items() if isinstance(part, Tensor)}
        return TreePlan(**parts | moved)


@dataclass(frozen=True, eq=False)
class Trie:
    """Different prompts in lexicographic order, so that neighbours share the longest prefixes. Lives on the host.

    Attributes:
        keys: (U, L) int64. An entry >= 0 is a token, -(1 + s) is row s of the contexts (G * M, D); 0 after the end.
        end: (U,) int64, column of the end-of-text token.
        prompt: (N,) int64, the row of ``keys`` that each prompt is.
        n_ctx: M, context vectors of a prompt.
        deep: the deep rows, by increasing layer.
        owner: (U,) int64, the prompt whose own deep rows each row of ``keys`` takes; None: there are none. Equal
            prompts are then different.
    """

    keys: Tensor
    end: Tensor
    prompt: Tensor
    n_ctx: int = 0
    deep: tuple[Deep, ...] = ()
    owner: Tensor | None = None

    @classmethod
    def of(
        cls, slots: Tensor, end: Tensor, *, n_ctx: int = 0, group: Tensor | None = None, deep: tuple[Deep, ...] = ()
    ) -> "Trie":
        """The trie of prompts.

        Args:
            slots: (N, L) int64 as in ``PromptLayout``.
            end: (N,) int64, column of the end-of-text token.
            n_ctx: M, context vectors of a prompt.
            group: (N,) int64, the context of each prompt; None: all have the same.
            deep: deep rows, by increasing layer.
        """
        keys = slots.cpu()
        if group is not None:
            keys = torch.where(keys < 0, keys - group.cpu()[:, None] * n_ctx, keys)
        end = end.cpu()
        keys = keys.masked_fill(torch.arange(keys.shape[1]) > end[:, None], 0)
        if not any(each.own for each in deep):
            return cls(*_unique(keys, end), n_ctx, deep)
        apart = torch.cat([keys, torch.arange(len(keys))[:, None]], 1)
        unique, end, prompt = _unique(apart, end)
        return cls(unique[:, :-1], end, prompt, n_ctx, deep, unique[:, -1])

    def __len__(self) -> int:
        return len(self.prompt)

    def select(self, index: Tensor, *, own: int = 0) -> "Trie":
        """The trie of the prompts ``index`` (K,), in its order, without comparing or sorting prompts.

        Args:
            index: int64; best on the host, which otherwise waits for the device.
            own: M, if each prompt has its own context; the contexts are then (K, M, D), those of ``index``. So are
                deep rows of each prompt.
        """
        index = index.cpu()
        kept, prompt = torch.unique(self.prompt[index], return_inverse=True)
        keys, owner = self.keys[kept], self.owner
        number = torch.zeros(len(self), dtype=torch.int64).index_copy_(0, index, torch.arange(len(index)))
        if owner is not None:
            owner = number[owner[kept]]
        if own:
            row = -1 - keys.clamp_max(-1)
            keys = torch.where(keys < 0, -1 - number[row // own] * own - row % own, keys)
        return replace(self, keys=keys, end=self.end[kept], prompt=prompt, owner=owner)

    def cut(self, size: int) -> "list[Trie]":
        """Chunks of ``size`` neighbouring different prompts each; a chunk's prompts are its own keys in order."""
        owners = [None] * len(self.keys) if self.owner is None else self.owner.split(size)
        parts = zip(self.keys.split(size), self.end.split(size), owners, strict=False)
        return [
            replace(self, keys=keys, end=end, prompt=torch.arange(len(keys)), owner=owner) for keys, end, owner in parts
        ]

    def largest(self, size: int, layers: int = 1) -> int:
        """Nodes of the largest chunk that ``cut`` makes; some tasks have longer names than others.

        With deep rows their mean over the ``layers`` blocks of the tower, rounded up.
        """
        layers = layers if self.deep else 1
        starts = [*(each.layer for each in self.deep), layers]
        nodes, before = torch.zeros((), dtype=torch.int64), 0
        for (trie, place), start in zip(self._spans(), starts, strict=True):
            own = _new(trie.keys[place], self.end).sum(1)
            above = (self.end + 1 - own)[::size]
            nodes = nodes + (start - before) * (torch.stack([part.sum() for part in own.split(size)]) + above)
            before = start
        return -(-int(nodes.max()) // layers)

    def _spans(self) -> "Iterator[tuple[Trie, Tensor]]":
        """The trie of each span of blocks, and the place (U,) of each different prompt among its keys."""
        trie, place = self, torch.arange(len(self.keys))
        yield trie, place
        if not self.deep:
            return
        number = torch.where(self.keys < 0, (-1 - self.keys) % self.n_ctx, self.n_ctx)
        behind = torch.arange(self.keys.shape[1]) > self.end[:, None]
        for deep in self.deep:
            row = number
            if deep.own:
                assert self.owner is not None, "of() tells whose deep rows a prompt takes"
                row = number + self.owner[:, None] * deep.count
            keys = torch.where(number < deep.count, -1 - row, trie.nodes()[0][place]).masked_fill(behind, 0)
            trie = Trie(*_unique(keys, self.end))
            place = trie.prompt
            yield trie, place

    def nodes(self) -> tuple[Tensor, Tensor]:
        """Row of the node at each column of each prompt (U, L), valid up to its end, and where a node first appears."""
        new = _new(self.keys, self.end)
        numbers = torch.where(new, new.flatten().cumsum(0).view(new.shape) - 1, -1)
        # Rows increase from prompt to prompt: the largest so far in a column is the newest node of that depth.
        return numbers.cummax(0).values, new

    def spans(self, block: int = BLOCK) -> tuple[TreePlan, ...]:
        """The plan of each span of blocks: one, and one more for each deep row's block."""
        plans: list[TreePlan] = []
        before: tuple[Trie, Tensor, Tensor] | None = None
        for (trie, place), layer in zip(self._spans(), (0, *(each.layer for each in self.deep)), strict=True):
            nodes, new = trie.nodes()
            if before is not None and trie.continues(*before, place):
                item, slot, source = trie.items(new, plans[-1].rows)
                plan = replace(plans[-1], item=item, slot=slot, source=source, same=True)
            else:
                plan = trie.plan(block)
                plan = replace(plan, leaf=plan.leaf[place], answer=plan.answer[place])
            plans.append(replace(plan, layer=layer))
            before = trie, nodes, place
        return tuple(plans)

    def continues(self, before: "Trie", nodes: Tensor, place_before: Tensor, place: Tensor) -> bool:
        """Whether this trie has the shape of the one before, whose ``nodes`` are given, with the prompts in place."""
        inside = torch.arange(self.keys.shape[1]) <= self.end[:, None]
        alike = len(self.keys) == len(before.keys) and torch.equal(place, place_before)
        return alike and torch.equal(self.nodes()[0][inside], nodes[inside])

    def items(self, new: Tensor, rows: int) -> tuple[Tensor, Tensor, Tensor]:
        """``item``, ``slot`` and ``source`` of a plan of ``rows`` rows; ``new`` (U, L): where a node first appears."""
        key = functional.pad(self.keys[new], (0, rows - int(new.sum())))
        slot = (key < 0).nonzero().squeeze(1)
        return key.clamp_min(0), slot, -key[slot] - 1

    def plan(self, block: int = BLOCK) -> TreePlan:
        """Cut the tree into blocks of about ``block`` rows."""
        nodes, new = self.nodes()
        owner, depth = new.nonzero().unbind(1)
        count, size = _division(len(owner), block)
        path, hidden = _blocks(nodes[owner], depth, count, size)
        trunk, path_in_trunk = path.flatten().unique(return_inverse=True)
        leaf = nodes.gather(1, self.end[:, None]).squeeze(1)
        query, answer = _queries(leaf, count, size)
        item, slot, source = self.items(new, count * size)
        return TreePlan(
            item=item,
            depth=functional.pad(depth, (0, count * size - len(owner))),
            slot=slot,
            source=source,
            path=path.flatten(),
            trunk=trunk,
            path_in_trunk=path_in_trunk,
            hidden=hidden.view(count, 1, size, -1),
            query=query.flatten(),
            query_hidden=hidden[query.flatten()].view(count, 1, query.shape[1], -1),
            leaf=leaf,
            answer=answer,
            nodes=len(owner),
        )


@dataclass(eq=False)
class Forest:
    """The plans that encode some prompts one after the other, and the place of each prompt's feature.

    Attributes:
        plans: for each chunk of the trie the plans of its spans.
        prompt: (N,) int64, the place of each prompt among all leaves.
    """

    plans: list[tuple[TreePlan, ...]]
    prompt: Tensor

    @classmethod
    def of(cls, trie: Trie, size: int, device: torch.device) -> "Forest":
        """Cut ``trie`` into chunks of ``size`` different prompts."""
        parts = [trie] if size >= len(trie.keys) else trie.cut(size)
        plans = [tuple(plan.to(device) for plan in part.spans()) for part in parts]
        return cls(plans, to_device(trie.prompt, device))


def _unique(keys: Tensor, end: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The different rows of ``keys`` (N, L) in order, the end (U,) of each, and the row that each prompt is (N,)."""
    unique, prompt = torch.unique(keys, dim=0, return_inverse=True)
    return unique, end.new_empty(len(unique)).scatter_(0, prompt, end), prompt


def _new(keys: Tensor, end: Tensor) -> Tensor:
    """Where (U, L) a row of ``keys`` leaves the row before it, up to its end."""
    column = torch.arange(keys.shape[1])
    alike = (keys[1:] == keys[:-1]).int().cumprod(1).sum(1)
    return (column >= functional.pad(alike, (1, 0))[:, None]) & (column <= end[:, None])


def _aligned(count: int) -> int:
    return -(-count // ALIGN) * ALIGN


def _division(rows: int, block: int) -> tuple[int, int]:
    """Number and size of the blocks: about ``block`` rows each, with as little padding as possible."""
    if rows <= block:
        return 1, _aligned(rows)
    sizes = range(_aligned(block * 3 // 4), block * 5 // 4 + 1, ALIGN)
    return min(((-(-rows // size), size) for size in sizes), key=lambda c: (c[0] * c[1], abs(c[1] - block)))


def _blocks(lineage: Tensor, depth: Tensor, count: int, size: int) -> tuple[Tensor, Tensor]:
    """Path (K, A) of each block and the mask (K * P, A + P) of its rows.

    ``lineage`` (R', L) has the ancestors of each node by depth, and the node itself at its own ``depth`` (R',).
    """
    column, row = torch.arange(lineage.shape[1]), torch.arange(len(lineage))
    first = torch.arange(count) * size
    width = int(depth[first].max())
    path = torch.zeros(count, _aligned(width), dtype=torch.int64)
    path[:, :width] = torch.where(column < depth[first, None], lineage[first], 0)[:, :width]
    start = row // size * size
    seen = column <= depth[:, None]
    before = seen & (lineage < start[:, None])
    hidden = torch.ones(count * size, path.shape[1] + size, dtype=torch.bool)
    hidden[: len(lineage), :width] = ~before[:, :width]
    # Ancestors inside the block come after the path. Padding attends to itself, as every row does.
    inside, at = (seen & ~before).nonzero().unbind(1)
    hidden[inside, path.shape[1] + lineage[inside, at] - start[inside]] = False
    row = torch.arange(count * size)
    hidden[row, path.shape[1] + row % size] = False
    return path, hidden


def _queries(leaf: Tensor, count: int, size: int) -> tuple[Tensor, Tensor]:
    """Leaves by block (K, Q), and where each leaf (U,) went in the flattened table."""
    block = leaf // size
    leaves = torch.bincount(block, minlength=count)
    place = torch.arange(len(leaf)) - (leaves.cumsum(0) - leaves)[block]
    query = (torch.arange(count) * size)[:, None].repeat(1, _aligned(int(leaves.max())))
    query[block, place] = leaf
    return query, block * query.shape[1] + place
