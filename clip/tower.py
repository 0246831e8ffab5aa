"""The frozen text tower over the rows of a prefix tree, with a gradient only for context vectors and deep rows.

Frozen weights shorten the backward pass: no weight has a gradient, so no layer needs the inputs of its linear maps. It
is written by hand here, which keeps a third of what automatic differentiation keeps and starts fewer kernels:

    kept for each row of a layer            values
    inputs of both layer norms              2 D
    queries, keys, values                   3 D
    input of the MLP's activation           4 D (or its width)
    attention weights                       heads * (A + P)

Letters as in ``clip.tree``; D width, H heads.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from open_clip.model import CLIP
from open_clip.transformer import LayerNorm, LayerNormFp32, LayerScale, QuickGELU, ResidualAttentionBlock
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx, once_differentiable
from torch.nn import functional

from clip.tree import TreePlan

if TYPE_CHECKING:
    from clip.text import TextEncoder

QUICK = 1.702


def not_standard(blocks: Iterable[nn.Module]) -> str:
    """Why the tree is not implemented for these blocks of a text tower; "" if it is."""
    for block in blocks:
        if reason := _unusual(block):
            return f"its blocks are not the usual residual blocks ({reason})"
    return ""


def _unusual(block: nn.Module) -> str:
    if type(block) is not ResidualAttentionBlock:
        return type(block).__name__
    attention: Any = block.attn
    norms: tuple[Any, ...] = (block.ln_1, block.ln_2)
    plain = type(attention) is nn.MultiheadAttention and attention.in_proj_weight is not None
    if not plain or attention.in_proj_bias is None or attention.bias_k is not None or attention.add_zero_attn:
        return "another attention"
    if Activation.of(block.get_submodule("mlp.gelu")) is None:
        return f"activation {type(block.get_submodule('mlp.gelu')).__name__}"
    if not all(type(norm) in (LayerNorm, LayerNormFp32) and norm.bias is not None for norm in norms):
        return "another norm"
    scales = (block.ls_1, block.ls_2)
    return "" if all(isinstance(scale, nn.Identity | LayerScale) for scale in scales) else "another layer scale"


@dataclass(frozen=True)
class Activation:
    """The activation of an MLP.

    Attributes:
        factor: part of the products before and after it. QuickGELU, x * sigmoid(1.702 x), is silu(1.702 x) / 1.702:
            its factors cancel in the gradient.
        gelu: how GELU is computed, "none" (erf) or "tanh"; "" for silu.
    """

    factor: float
    gelu: str

    @classmethod
    def of(cls, module: nn.Module) -> "Activation | None":
        """That of ``module``; None if it is unknown."""
        if type(module) is QuickGELU:
            return cls(QUICK, "")
        return cls(1.0, module.approximate) if type(module) is nn.GELU else None

    def forward(self, f: Tensor) -> Tensor:
        """The activation of ``f``, which has the factor in it."""
        return functional.gelu(f, approximate=self.gelu) if self.gelu else functional.silu(f)

    def backward_(self, grad: Tensor, f: Tensor) -> None:
        """Make the gradient at the output, in place, that at the input."""
        if self.gelu:
            torch.ops.aten.gelu_backward.grad_input(grad, f, approximate=self.gelu, grad_input=grad)
        else:
            torch.ops.aten.silu_backward.grad_input(grad, f, grad_input=grad)


@dataclass(frozen=True)
class Norm:
    """A layer norm; its parameters are never of a lower precision than fp32."""

    weight: Tensor
    bias: Tensor
    eps: float

    @classmethod
    def of(cls, norm: nn.LayerNorm) -> "Norm":
        """The parameters of ``norm``, without gradient."""
        return cls(norm.weight.detach(), norm.bias.detach(), norm.eps)

    def forward(self, x: Tensor, dtype: torch.dtype) -> tuple[Tensor, tuple[Tensor, ...]]:
        """The norm of the rows of ``x`` (R, D) in ``dtype``, and what ``backward`` needs."""
        full = x.to(self.weight.dtype)
        y, mean, scale = torch.native_layer_norm(full, x.shape[1:], self.weight, self.bias, self.eps)
        return y.to(dtype), (x, mean, scale)

    def backward(self, grad: Tensor, kept: tuple[Tensor, ...]) -> Tensor:
        """The gradient at the input, in the dtype of the parameters."""
        x, mean, scale = kept
        grad, x = grad.to(self.weight.dtype), x.to(self.weight.dtype)
        only_input = [True, False, False]
        parts = torch.ops.aten.native_layer_norm_backward
        return parts(grad, x, x.shape[1:], mean, scale, self.weight, self.bias, only_input)[0]


@dataclass(frozen=True)
class Layer:
    """The weights of one residual block."""

    norm_1: Norm
    qkv: tuple[Tensor, Tensor]
    out: tuple[Tensor, Tensor]
    norm_2: Norm
    fc1: tuple[Tensor, Tensor]
    fc2: tuple[Tensor, Tensor]
    heads: int
    activation: Activation

    @classmethod
    def of(cls, block: ResidualAttentionBlock, dtype: torch.dtype) -> "Layer":
        """The weights of ``block``; its matrices in ``dtype``, with its layer scale, if any, multiplied in."""

        def matrix(weight: Tensor, bias: Tensor, scale: nn.Module | None = None) -> tuple[Tensor, Tensor]:
            if isinstance(scale, LayerScale):
                gamma = scale.gamma.detach()
                exact = torch.promote_types(gamma.dtype, torch.float32)
                weight, bias = weight.detach().to(exact) * gamma.to(exact)[:, None], bias.detach().to(exact) * gamma
            return weight.detach().to(dtype), bias.detach().to(dtype)

        attention, mlp = block.attn, block.mlp
        activation = Activation.of(mlp.gelu)
        assert activation is not None, "not_standard() refuses other activations"
        return cls(
            norm_1=Norm.of(block.ln_1),
            qkv=matrix(attention.in_proj_weight, attention.in_proj_bias),
            out=matrix(attention.out_proj.weight, attention.out_proj.bias, block.ls_1),
            norm_2=Norm.of(block.ln_2),
            fc1=matrix(mlp.c_fc.weight, mlp.c_fc.bias),
            fc2=matrix(mlp.c_proj.weight, mlp.c_proj.bias, block.ls_2),
            heads=attention.num_heads,
            activation=activation,
        )

    def forward(
        self, x: Tensor, plan: TreePlan, bias: Tensor, *, last: bool, dtype: torch.dtype
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """The block's output for all rows (R, D), or for the leaves (U, D) of the last layer, and what to keep."""
        width = x.shape[1]
        h, kept_1 = self.norm_1.forward(x, dtype)
        weight, shift = self.qkv
        if last:
            q = torch.addmm(shift[:width], h.index_select(0, plan.query), weight[:width].t())
            kv = torch.addmm(shift[width:], h, weight[width:].t())
        else:
            q, kv = torch.addmm(shift, h, weight.t()).split((width, 2 * width), 1)
        a, weights = _attend(q, kv, plan, bias, heads=self.heads)
        if last:
            x, a = x.index_select(0, plan.leaf), a.index_select(0, plan.answer)
        x = _add_linear(x, a, *self.out)
        h, kept_2 = self.norm_2.forward(x, dtype)
        weight, shift = self.fc1
        factor = self.activation.factor
        f = torch.addmm(shift, h, weight.t(), beta=factor, alpha=factor)
        x = _add_linear(x, self.activation.forward(f), *self.fc2, factor=1 / factor)
        return x, (*kept_1, q, kv, weights, *kept_2, f)

    def backward(self, grad: Tensor, kept: tuple[Tensor, ...], plan: TreePlan, *, first: bool, last: bool) -> Tensor:
        """The gradient at the input from that at the output; with ``first`` only at the context nodes (S, D)."""
        x, mean, scale, q, kv, weights, *kept_2, f = kept
        stream, dtype = grad.dtype, f.dtype
        grad_f = torch.mm(grad.to(dtype), self.fc2[0])
        self.activation.backward_(grad_f, f)
        grad = self.norm_2.backward(torch.mm(grad_f, self.fc1[0]), tuple(kept_2)).to(stream).add_(grad)
        del grad_f
        da = torch.mm(grad.to(dtype), self.out[0])
        if last:
            grad = grad.new_zeros(x.shape).index_copy_(0, plan.leaf, grad)
            da = da.new_zeros(q.shape).index_copy_(0, plan.answer, da)
        both = q.new_empty(len(kv), 3 * q.shape[1])
        dq, dkv = both.split((q.shape[1], kv.shape[1]), 1)
        if last:
            dq = torch.empty_like(q)
        _attend_backward(da, q, kv, weights, plan, heads=self.heads, into=(dq, dkv))
        if last:
            width = q.shape[1]
            dh = torch.mm(dkv, self.qkv[0][width:])
            dh.index_add_(0, plan.leaf, torch.mm(dq.index_select(0, plan.answer), self.qkv[0][:width]))
        if first:
            # Below it the gradient of the other rows is not needed.
            grad, x, mean, scale, both = (part.index_select(0, plan.slot) for part in (grad, x, mean, scale, both))
        if not last:
            dh = torch.mm(both, self.qkv[0])
        elif first:
            dh = dh.index_select(0, plan.slot)
        return self.norm_1.backward(dh, (x, mean, scale)).to(stream).add_(grad)


def _add_linear(x: Tensor, a: Tensor, weight: Tensor, shift: Tensor, factor: float = 1.0) -> Tensor:
    """x + factor * a @ weight^T + shift, in the dtype of ``x``."""
    if x.dtype != a.dtype:
        return x + torch.addmm(shift, a, weight.t(), alpha=factor)
    return torch.addmm(x, a, weight.t(), alpha=factor).add_(shift)


def _by_head(rows: Tensor, blocks: int, heads: int) -> Tensor:
    """(K * Q, D) -> (K * H, Q, D / H)."""
    return rows.view(blocks, -1, heads, rows.shape[1] // heads).transpose(1, 2).flatten(0, 1)


def _by_row(parts: Tensor, heads: int) -> Tensor:
    """(K * H, Q, D / H) -> (K * Q, D)."""
    _, count, width = parts.shape
    return parts.view(-1, heads, count, width).transpose(1, 2).reshape(-1, heads * width)


def _keys_values(kv: Tensor, plan: TreePlan, heads: int) -> tuple[Tensor, Tensor]:
    """Keys and values that each block may look at, those of its path first: two of (K * H, A + P, D / H)."""
    blocks, _, size, seen = plan.hidden.shape
    width = kv.shape[1] // 2 // heads
    both = kv.new_empty(2, blocks, heads, seen, width)
    path = kv.index_select(0, plan.path).view(blocks, seen - size, 2, heads, width)
    both[..., : seen - size, :] = path.permute(2, 0, 3, 1, 4)
    both[..., seen - size :, :] = kv.view(blocks, size, 2, heads, width).permute(2, 0, 3, 1, 4)
    keys, values = both.flatten(1, 2).unbind(0)
    return keys, values


def _attend(q: Tensor, kv: Tensor, plan: TreePlan, bias: Tensor, *, heads: int) -> tuple[Tensor, Tensor]:
    """Attention of each block's queries: (K * Q, D), (R, 2 D), bias (K, 1, Q, A + P) -> (K * Q, D) and its weights."""
    keys, values = _keys_values(kv, plan, heads)
    scores = torch.bmm(_by_head(q, len(bias), heads), keys.mT)
    by_block = scores.view(len(bias), heads, *scores.shape[1:])
    torch.add(bias, by_block, alpha=keys.shape[-1] ** -0.5, out=by_block)
    weights = torch.softmax(scores, -1)
    return _by_row(torch.bmm(weights, values), heads), weights


def _attend_backward(
    grad: Tensor, q: Tensor, kv: Tensor, weights: Tensor, plan: TreePlan, *, heads: int, into: tuple[Tensor, Tensor]
) -> None:
    """Write the gradients of ``q`` and ``kv`` into the two tensors ``into``."""
    blocks, _, size, seen = plan.hidden.shape
    keys, values = _keys_values(kv, plan, heads)
    grad = _by_head(grad, blocks, heads)
    scores = torch._softmax_backward_data(torch.bmm(grad, values.mT), weights, -1, weights.dtype)
    scores *= keys.shape[-1] ** -0.5
    dq, dkv = into
    dq.copy_(_by_row(torch.bmm(scores, keys), heads))
    both = torch.stack([torch.bmm(scores.mT, _by_head(q, blocks, heads)), torch.bmm(weights.mT, grad)])
    both = both.view(2, blocks, heads, seen, -1).permute(1, 3, 0, 2, 4)
    dkv.view(blocks, size, 2, heads, -1).copy_(both[:, seen - size :])
    path = both[:, : seen - size].reshape(len(plan.path), dkv.shape[1])
    # Summed in a fixed order and at least in fp32: a context's row is in the path of every block of its task.
    exact = torch.promote_types(path.dtype, torch.float32)
    trunk = torch.ops.aten.embedding_dense_backward(path.to(exact), plan.path_in_trunk, len(plan.trunk), -1, False)
    dkv.index_add_(0, plan.trunk, trunk.to(dkv.dtype))


class TreeTower:
    """The text tower as the tree needs it.

    Args:
        encoder: has the modules of the frozen network, named as in open_clip's CLIP.
        dtype: of the matrix products, if it differs from that of the weights.
    """

    def __init__(self, encoder: "TextEncoder | CLIP", dtype: torch.dtype | None = None) -> None:
        blocks = encoder.transformer.resblocks
        weights = blocks[0].mlp.c_fc.weight.dtype
        self.dtype = dtype or weights
        # Hidden states between layers; under autocast they stay in fp32.
        self.stream = torch.promote_types(self.dtype, weights)
        self.layers = [Layer.of(block, self.dtype) for block in blocks]
        self.tokens = encoder.token_embedding.weight.detach()
        self.positions = encoder.positional_embedding.detach()
        # Tables may have a low precision, but not the sums of gradients.
        self.exact = torch.promote_types(self.tokens.dtype, torch.float32)

    def memory(self, spans: Sequence[TreePlan], *, keep: bool) -> int:
        """Estimated peak bytes of a forward pass and, with ``keep``, a backward pass over the plans of a chunk."""
        width, heads, wide = self.tokens.shape[1], self.layers[0].heads, len(self.layers[0].fc1[1])
        matrix, stream = self.dtype.itemsize, self.stream.itemsize
        kept, passing = [], []
        for plan, stop in zip(spans, self._stops(spans), strict=True):
            attention = heads * plan.hidden.shape[-1]
            layers = stop - plan.layer if keep else 1
            kept.append(layers * plan.rows * (2 * width * stream + (3 * width + wide + attention) * matrix))
            passing.append(plan.rows * (3 * width * stream + (8 * width + wide + 2 * attention) * matrix))
        return (sum(kept) if keep else max(kept)) + max(passing)

    def _stops(self, spans: Sequence[TreePlan]) -> list[int]:
        """The block behind each span."""
        return [*(plan.layer for plan in spans[1:]), len(self.layers)]

    def embed(self, vectors: Tensor, plan: TreePlan) -> Tensor:
        """Input of the first layer (R, D); ``vectors`` (S, D) are the context nodes."""
        x = functional.embedding(plan.item, self.tokens).to(self.exact)
        x = x.index_copy_(0, plan.slot, vectors.to(self.exact))
        return x.add_(functional.embedding(plan.depth, self.positions)).to(self.stream)

    def enter(self, x: Tensor, vectors: Tensor, plan: TreePlan) -> Tensor:
        """Rows of a later span (R, D) from those of the span before; ``vectors`` (S, D) are the deep rows."""
        x = x if plan.same else functional.embedding(plan.item, x)
        return x.index_copy_(0, plan.slot, vectors.to(x.dtype))

    def leave(self, grad: Tensor, plan: TreePlan, rows: int) -> tuple[Tensor, Tensor]:
        """The backward pass of ``enter``: gradients of the deep rows and of the ``rows`` rows of the span before."""
        own = grad.index_select(0, plan.slot).to(self.exact)
        grad = grad.index_fill(0, plan.slot, 0)
        if not plan.same:
            # Summed in a fixed order and at least in fp32.
            exact = grad.to(torch.promote_types(grad.dtype, torch.float32))
            grad = torch.ops.aten.embedding_dense_backward(exact, plan.item, rows, -1, False).to(grad.dtype)
        return own, grad

    def forward(
        self, vectors: Sequence[Tensor], spans: Sequence[TreePlan], *, lowest: int | None
    ) -> tuple[Tensor, list[tuple[Tensor, ...]]]:
        """Hidden states of the leaves (U, D), and what each layer saves for ``backward``.

        Args:
            vectors: for each span the context nodes or deep rows (S, D).
            lowest: the first span whose vectors need a gradient; layers before it save nothing. None: no layer does.
        """
        x, kept, end = self.embed(vectors[0], spans[0]), [], len(self.layers)
        first = end if lowest is None else spans[lowest].layer
        for plan, own, stop in zip(spans, vectors, self._stops(spans), strict=True):
            x = self.enter(x, own, plan) if plan.layer else x
            for number in range(plan.layer, stop):
                last = number == end - 1
                if number == plan.layer or last:
                    bias = _bias(plan.query_hidden if last else plan.hidden, self.dtype)
                x, parts = self.layers[number].forward(x, plan, bias, last=last, dtype=self.dtype)
                if number >= first:
                    kept.append(parts)
        return x, kept

    def backward(
        self, grad: Tensor, kept: list[tuple[Tensor, ...]], spans: Sequence[TreePlan], *, lowest: int
    ) -> list[Tensor | None]:
        """Gradients of each span's vectors (S, D) in fp32 at least; None before the span ``lowest``."""
        found: list[Tensor | None] = [None] * len(spans)
        first, stops = spans[lowest].layer, self._stops(spans)
        for index in range(len(spans) - 1, lowest - 1, -1):
            plan = spans[index]
            for number in range(stops[index] - 1, plan.layer - 1, -1):
                last = number == len(self.layers) - 1
                saved = kept[number - first]
                grad = self.layers[number].backward(grad, saved, plan, first=number == first, last=last)
            if index == lowest:
                found[index] = grad.to(self.exact)
            else:
                found[index], grad = self.leave(grad, plan, spans[index - 1].rows)
        return found


def _bias(hidden: Tensor, dtype: torch.dtype) -> Tensor:
    return torch.zeros(hidden.shape, dtype=dtype, device=hidden.device).masked_fill_(hidden, float("-inf"))


class _Context(FunctionCtx):
    """What the forward pass leaves for the backward pass."""

    tower: TreeTower
    spans: Sequence[TreePlan]
    lowest: int
    needs_input_grad: tuple[bool, ...]
    saved_tensors: tuple[Tensor, ...]


class _Leaves(torch.autograd.Function):
    """Hidden states of the leaves from the context nodes and deep rows."""

    @staticmethod
    def forward(ctx: _Context, tower: TreeTower, spans: Sequence[TreePlan], keep: bool, *vectors: Tensor) -> Tensor:
        needed = [index for index, needs in enumerate(ctx.needs_input_grad[3:]) if needs]
        ctx.tower, ctx.spans, ctx.lowest = tower, spans, min(needed, default=0)
        with torch.autocast(vectors[0].device.type, enabled=False):
            hidden, kept = tower.forward(vectors, spans, lowest=ctx.lowest if keep and needed else None)
        ctx.save_for_backward(*vectors, *(part for parts in kept for part in parts))
        return hidden

    @staticmethod
    @once_differentiable
    def backward(ctx: _Context, grad: Tensor) -> tuple[Tensor | None, ...]:
        tower, spans, lowest = ctx.tower, ctx.spans, ctx.lowest
        saved = ctx.saved_tensors  # once: a checkpoint around it unpacks no tensor twice
        vectors, flat = saved[: len(spans)], saved[len(spans) :]
        with torch.autocast(vectors[0].device.type, enabled=False):
            count = len(flat) // (len(tower.layers) - spans[lowest].layer)
            kept = [flat[start : start + count] for start in range(0, len(flat), count)] if flat else None
            kept = kept or tower.forward(vectors, spans, lowest=lowest)[1]
            found = tower.backward(grad, kept, spans, lowest=lowest)
        grads = zip(found, vectors, strict=True)
        return None, None, None, *(None if part is None else part.to(each.dtype) for part, each in grads)


def leaf_states(vectors: Sequence[Tensor], tower: TreeTower, spans: Sequence[TreePlan], *, keep: bool) -> Tensor:
    """Hidden states of a chunk's leaves (U, D) in the tower's dtype, differentiable in the vectors.

    Args:
        vectors: for each span (S, D) in any floating dtype: the context nodes, then the deep rows.
        spans: the plans of the chunk.
        keep: save what the backward pass needs; otherwise it is computed again there.
    """
    return _Leaves.apply(tower, spans, keep, *vectors)
