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

Letters: N prompts, U different prompts, L columns, R rows, K blocks of P rows, A columns of a block's path, S context
nodes, Q queries of a block in the last layer.
"""

from dataclasses import dataclass, fields

import torch
from torch import Tensor
from torch.nn import functional

from clip.device import to_device

BLOCK = 64
ALIGN = 8


@dataclass(frozen=True, eq=False)
class TreePlan:
    """Constant index tensors of one pass over a tree.

    Attributes:
        item: (R,) int64, the token of each row; 0 for a context vector or padding.
        depth: (R,) int64, the column of each row in its prompts.
        slot: (S,) int64, the rows that are context vectors.
        source: (S,) int64, the row of the contexts (G * M, D) that each of them takes.
        path: (K * A,) int64, the rows before each block that its rows descend from; padded with row 0.
        trunk: (V,) int64, the different rows in ``path``.
        path_in_trunk: (K * A,) int64, the place in ``trunk`` of each entry of ``path``.
        hidden: (K, 1, P, A + P) bool, true where a row may not attend.
        query: (K * Q,) int64, the query rows of the last layer; padded with the first row of the block.
        query_hidden: (K, 1, Q, A + P) bool, ``hidden`` of these rows.
        leaf: (U,) int64, the rows of the end-of-text tokens, prompt by prompt.
        answer: (U,) int64, the place in ``query`` of each of them.
        nodes: number of rows that are not padding.
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
    """

    keys: Tensor
    end: Tensor
    prompt: Tensor

    @classmethod
    def of(cls, slots: Tensor, end: Tensor, *, n_ctx: int = 0, group: Tensor | None = None) -> "Trie":
        """The trie of prompts.

        Args:
            slots: (N, L) int64 as in ``PromptLayout``.
            end: (N,) int64, column of the end-of-text token.
            n_ctx: M, context vectors of a prompt.
            group: (N,) int64, the context of each prompt; None: all have the same.
        """
        keys = slots.cpu()
        if group is not None:
            keys = torch.where(keys < 0, keys - group.cpu()[:, None] * n_ctx, keys)
        end = end.cpu()
        keys = keys.masked_fill(torch.arange(keys.shape[1]) > end[:, None], 0)
        unique, prompt = torch.unique(keys, dim=0, return_inverse=True)
        return cls(unique, end.new_empty(len(unique)).scatter_(0, prompt, end), prompt)

    def __len__(self) -> int:
        return len(self.prompt)

    def select(self, index: Tensor, *, own: int = 0) -> "Trie":
        """The trie of the prompts ``index`` (K,), in its order, without comparing or sorting prompts.

        Args:
            index: int64; best on the host, which otherwise waits for the device.
            own: M, if each prompt has its own context; the contexts are then (K, M, D), those of ``index``.
        """
        index = index.cpu()
        kept, prompt = torch.unique(self.prompt[index], return_inverse=True)
        keys = self.keys[kept]
        if own:
            number = torch.zeros(len(self), dtype=torch.int64).index_copy_(0, index, torch.arange(len(index)))
            row = -1 - keys.clamp_max(-1)
            keys = torch.where(keys < 0, -1 - number[row // own] * own - row % own, keys)
        return Trie(keys, self.end[kept], prompt)

    def cut(self, size: int) -> "list[Trie]":
        """Chunks of ``size`` neighbouring different prompts each; a chunk's prompts are its own keys in order."""
        parts = zip(self.keys.split(size), self.end.split(size), strict=True)
        return [Trie(keys, end, torch.arange(len(keys))) for keys, end in parts]

    def largest(self, size: int) -> int:
        """Nodes of the largest chunk that ``cut`` makes; some tasks have longer names than others."""
        own = self.nodes()[1].sum(1)
        above = (self.end + 1 - own)[::size]
        return int((torch.stack([part.sum() for part in own.split(size)]) + above).max())

    def nodes(self) -> tuple[Tensor, Tensor]:
        """Row of the node at each column of each prompt (U, L), valid up to its end, and where a node first appears."""
        column = torch.arange(self.keys.shape[1])
        alike = (self.keys[1:] == self.keys[:-1]).int().cumprod(1).sum(1)
        new = (column >= functional.pad(alike, (1, 0))[:, None]) & (column <= self.end[:, None])
        numbers = torch.where(new, new.flatten().cumsum(0).view(new.shape) - 1, -1)
        # Rows increase from prompt to prompt: the largest so far in a column is the newest node of that depth.
        return numbers.cummax(0).values, new

    def plan(self, block: int = BLOCK) -> TreePlan:
        """Cut the tree into blocks of about ``block`` rows."""
        nodes, new = self.nodes()
        owner, depth = new.nonzero().unbind(1)
        count, size = _division(len(owner), block)
        path, hidden = _blocks(nodes[owner], depth, count, size)
        trunk, path_in_trunk = path.flatten().unique(return_inverse=True)
        leaf = nodes.gather(1, self.end[:, None]).squeeze(1)
        query, answer = _queries(leaf, count, size)
        filling = (0, count * size - len(owner))
        key = functional.pad(self.keys[owner, depth], filling)
        slot = (key < 0).nonzero().squeeze(1)
        return TreePlan(
            item=key.clamp_min(0),
            depth=functional.pad(depth, filling),
            slot=slot,
            source=-key[slot] - 1,
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
        plans: a plan for each chunk of the trie.
        prompt: (N,) int64, the place of each prompt among all leaves.
    """

    plans: list[TreePlan]
    prompt: Tensor

    @classmethod
    def of(cls, trie: Trie, size: int, device: torch.device) -> "Forest":
        """Cut ``trie`` into chunks of ``size`` different prompts."""
        parts = [trie] if size >= len(trie.keys) else trie.cut(size)
        return cls([part.plan().to(device) for part in parts], to_device(trie.prompt, device))


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
