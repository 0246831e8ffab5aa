"""Prompts: names with context vectors before, around or after them."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from yacs.config import CfgNode

from clip.device import to_device
from clip.text import POSITIONS, PromptLayout, TextEncoder
from dassl.config import Key, at_least
from dassl.utils.errors import UserError
from dassl.utils.tools import derived_seed

CTX_STD = 0.02


def context_keys(prefix: str, *, n_ctx: int, what: str) -> tuple[Key, ...]:
    """The four config keys of one kind of prompt; ``prefix`` is e.g. "TRAINER.MTCOOP.TASK_"."""
    return (
        Key(f"{prefix}N_CTX", n_ctx, f"context vectors of {what}", check=at_least(0)),
        Key(f"{prefix}CSC", False, f"one context per name in {what}"),
        Key(f"{prefix}CTX_INIT", "", f"initial words of the context of {what}"),
        Key(f"{prefix}TOKEN_POSITION", "end", f"position of the name in {what}", POSITIONS),
    )


def normal_parameter(shape: Sequence[int], *, seed: int, name: str) -> nn.Parameter:
    """A tensor drawn from N(0, 0.02^2); the draw depends only on the seed and the name."""
    generator = torch.Generator().manual_seed(derived_seed("init", seed, name))
    return nn.Parameter(torch.randn(*shape, generator=generator) * CTX_STD)


def uniform_parameter(shape: Sequence[int], bound: float, *, seed: int, name: str) -> nn.Parameter:
    """A tensor drawn from U(-bound, bound); the draw depends only on the seed and the name."""
    generator = torch.Generator().manual_seed(derived_seed("init", seed, name))
    return nn.Parameter(torch.empty(*shape).uniform_(-bound, bound, generator=generator))


def check_phrase(phrase: str, n_ctx: int, key: str) -> None:
    """Refuse a phrase whose words do not match the number of context vectors."""
    words = len(phrase.replace("_", " ").split())
    if phrase and words != n_ctx:
        raise UserError(
            f"{key} {phrase!r} has {words} words but the context has {n_ctx} vectors; set the N_CTX key to {words}"
        )


class EncoderModule(nn.Module):
    """A module that uses the frozen text encoder without owning it: it is neither trained nor saved with the module."""

    def __init__(self, encoder: TextEncoder) -> None:
        super().__init__()
        self.hold(encoder)

    def hold(self, encoder: TextEncoder) -> None:
        """Use ``encoder`` from now on."""
        self._encoder = (encoder,)  # inside a tuple, so that torch does not register it as a submodule

    @property
    def encoder(self) -> TextEncoder:
        """The frozen text encoder."""
        return self._encoder[0]


class ContextPrompts(EncoderModule):
    """N prompts around N names, with their own learned context or with context from outside.

    Args:
        encoder: the frozen text encoder.
        names: the N names ("_" counts as a space).
        n_ctx: M, number of context vectors.
        position: "end", "middle" or "front", where the name stands.
        phrase: words that the context starts from; every context starts from the same words.
        context: "outside" (given to ``forward``), "shared" (one learned for all names) or "own" (one learned for each).
        seed, key: determine the random start.

    The learned tensor ``ctx`` has shape (M, D) when it is shared, (N, M, D) otherwise.
    """

    def __init__(
        self,
        encoder: TextEncoder,
        names: Sequence[str],
        *,
        n_ctx: int,
        position: str = "end",
        phrase: str = "",
        context: str = "outside",
        seed: int = 0,
        key: str = "ctx",
    ) -> None:
        super().__init__(encoder)
        self.layout: PromptLayout = encoder.layout(names, n_ctx=n_ctx, position=position, phrase=phrase)
        self.ctx: nn.Parameter | None = None
        if context != "outside" and n_ctx:
            shape = (n_ctx, encoder.width) if context == "shared" else (len(names), n_ctx, encoder.width)
            self.ctx = normal_parameter(shape, seed=seed, name=key)
            if phrase:
                self.ctx = nn.Parameter(encoder.phrase_vectors(phrase).float().expand(shape).clone())

    @classmethod
    def from_options(
        cls,
        encoder: TextEncoder,
        names: Sequence[str],
        options: CfgNode,
        *,
        kind: str = "",
        learned: bool = True,
        seed: int = 0,
        key: str = "ctx",
    ) -> "ContextPrompts":
        """Prompts described by the four keys of ``context_keys``; ``kind`` is their prefix ("TASK_", "CLASS_")."""
        own = "own" if options[f"{kind}CSC"] else "shared"
        return cls(
            encoder,
            names,
            n_ctx=options[f"{kind}N_CTX"],
            position=options[f"{kind}TOKEN_POSITION"],
            phrase=options[f"{kind}CTX_INIT"],
            context=own if learned else "outside",
            seed=seed,
            key=key,
        )

    def forward(
        self,
        contexts: Tensor | None = None,
        group: Tensor | None = None,
        *,
        rows: Tensor | None = None,
        deep: Mapping[int, Tensor] | None = None,
    ) -> Tensor:
        """Text features (N, F), not normalised.

        Args:
            contexts: (G, M, D) from outside; None: the learned context.
            group: (N,) context of each name; None if there is one context, or one per name.
            rows: (K,) only these names, features (K, F); contexts from outside with one per name are for these names.
                Best on the CPU, where prompts are planned.
            deep: by block, what replaces context vectors before it, as in ``TextEncoder``.
        """
        if contexts is None and self.ctx is not None:
            contexts = self.ctx[None] if self.ctx.dim() == 2 else self.ctx
            if rows is not None and self.ctx.dim() == 3:
                contexts = contexts.index_select(0, to_device(rows, contexts.device))
        return self.encoder(self.layout, contexts, group, rows=rows, deep=deep)
