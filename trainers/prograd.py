"""ProGrad: CoOp that drops the part of its gradient that contradicts zero-shot CLIP.

Zhu et al., "Prompt-aligned gradient for prompt tuning", ICCV 2023.
"""

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn
from yacs.config import CfgNode

import clip
from clip.text import TextEncoder
from dassl.config import Key, above, at_least
from dassl.data.columns import flat_classnames
from dassl.data.datum import Task
from dassl.engine import TRAINER_REGISTRY
from dassl.engine.published import Published
from dassl.utils.errors import UserError
from trainers._coop import COOP_KEYS, OWN_WORDS, PHRASE, ClassPrompts, CoOpTuner, prompts_with, template_phrase
from trainers.base import Scores


def project(gradient: Tensor, guide: Tensor, weight: float) -> Tensor:
    """Subtract from ``gradient`` ``weight`` times its component along ``guide`` if the two conflict.

    g = g_ce - weight * min(0, g_ce . u) u with u = g_kl / ||g_kl||. A ``guide`` of zeros changes nothing; values that
    are not finite propagate, so that a gradient scaler sees them.
    """
    unit = guide / guide.norm().clamp_min(torch.finfo(guide.dtype).tiny)
    return gradient - weight * (gradient * unit).sum().clamp(max=0) * unit


def soft_cross_entropy(logits: Tensor, teacher: Tensor, columns: Tensor, *, temperature: float) -> Tensor:
    """- T^2 * sum over entries of p_teacher(c) log p(c), each softmax of logits / T over an entry's own columns.

    Args:
        logits, teacher: (E, C) float32. columns: (E, C) bool.
    """
    own, other = (each.div(temperature).masked_fill(~columns, -torch.inf) for each in (logits, teacher))
    log_p = own.log_softmax(dim=1).masked_fill(~columns, 0)
    return -(temperature**2) * (other.softmax(dim=1) * log_p).sum()


def padded_start(encoder: TextEncoder, phrase: str, n_ctx: int) -> Tensor:
    """A phrase's token embeddings in the last of M context vectors, zeros in front. (M, D)

    Raises:
        UserError: the phrase has more than M tokens.
    """
    tokens = encoder.tokenizer.ids(phrase)
    if len(tokens) > n_ctx:
        raise UserError(
            f"TRAINER.COOP.CTX_INIT: {phrase!r} has {len(tokens)} tokens but the context has {n_ctx} vectors; "
            f"set TRAINER.COOP.N_CTX to {len(tokens)} or more, or CTX_INIT False"
        )
    start = torch.zeros(n_ctx, encoder.width, device=encoder.device)
    start[n_ctx - len(tokens) :] = encoder.embeddings(tokens)
    return start


@TRAINER_REGISTRY.register()
class ProGrad(CoOpTuner):
    """CoOp's loss, with a projected gradient for each learned tensor and one optimiser step per batch.

    The guide is the gradient of T^2 * KL(zero-shot CLIP || learned prompts), up to a constant, over the classes of an
    image's own task. Zero-shot CLIP sees the same augmented image; its class features are computed once, in fp32,
    from "phrase name." (``template_phrase``). With CTX_INIT True the context starts from these phrases.
    """

    config_keys = (
        *COOP_KEYS,
        Key("LOSS.NAME", "prograd", "ProGrad: kept for its config files; there is only this loss", ("prograd",)),
        Key("LOSS.T", 1.0, "ProGrad: temperature in the distance from zero-shot CLIP", check=above(0)),
        Key(
            "LOSS.LAMBDA",
            1.0,
            "ProGrad: share of the conflicting component of the gradient that is removed",
            check=at_least(0),
        ),
    )
    published = (
        Published(
            {"LOSS.LAMBDA": 0.8},
            "README.md",
            shots=(8, 16),
            datasets=("OxfordFlowers", "DescribableTextures", "EuroSAT"),
        ),
    )

    def check_cfg(self, cfg: CfgNode) -> None:
        """Refuses nothing: a phrase may be shorter than the context; its tokens are counted with the tasks."""

    def build_prompts(self, backbone: clip.Backbone, tasks: Sequence[Task]) -> nn.Module:
        """The class prompts, started from the phrases when CTX_INIT says so."""
        model = ClassPrompts(backbone, tasks, self.options, seed=self.cfg.SEED)
        phrases = self.start_phrases(tasks)
        if phrases:
            starts = {phrase: padded_start(backbone.text, phrase, self.options.N_CTX) for phrase in set(phrases)}
            context = torch.stack([starts[phrase] for phrase in phrases])
            model.prompt_learner.ctx = nn.Parameter(context if self.options.CSC else context[0])
        return model

    def start_phrases(self, tasks: Sequence[Task]) -> list[str]:
        """The phrase that each class' context starts from; none: random. A shared context has one phrase.

        A context that tasks of different templates share starts from "a photo of a".
        """
        start = self.options.CTX_INIT
        own = class_phrases(tasks) if start == OWN_WORDS else [start] * len(flat_classnames(tasks))
        if self.options.CSC or len(set(own)) == 1:
            return [phrase.replace("_", " ") for phrase in own if phrase]
        return [PHRASE]

    @cached_property
    def teacher(self) -> Tensor:
        """(C, F) float32, features of zero-shot CLIP."""
        tasks = self.dm.tasks
        return self.template_features(prompts_with(class_phrases(tasks), flat_classnames(tasks)))

    def guide(self, scores: Scores) -> Tensor:
        """Distance from zero-shot CLIP, mean over the images."""
        with torch.no_grad():
            teacher = self.logits(scores.image, self.teacher)[scores.row]
        temperature = self.cfg.LOSS.T
        total = soft_cross_entropy(scores.logits, teacher, scores.columns, temperature=temperature)
        return total / len(scores.image)

    def gradients(self, batch: dict[str, Any]) -> dict[str, Tensor | float]:
        """Compute the projected gradients of a batch; the log shows cross-entropy and distance from zero-shot CLIP."""
        scores = self.scores(batch)
        loss, shown = self.cross_entropy(scores)
        guide = self.guide(scores)
        if self.printing:
            shown["kl"] = float(guide.detach())
        self.set_projected_gradients(loss, guide)
        # The engine stops at a loss that is not finite; a distance that is not finite must stop it as well.
        return {"loss": loss.detach() + 0 * guide.detach(), **shown}

    def set_projected_gradients(self, loss: Tensor, guide: Tensor) -> None:
        """Set the gradients of the learned tensors; projection and gradient scaling commute."""
        learned = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
        own = torch.autograd.grad(self.scaler.scale(loss), learned, retain_graph=True)
        other = torch.autograd.grad(self.scaler.scale(guide), learned)
        for parameter, gradient, along in zip(learned, own, other, strict=True):
            parameter.grad = project(gradient, along, self.cfg.LOSS.LAMBDA)


def class_phrases(tasks: Sequence[Task]) -> list[str]:
    """The phrase of its task for each of the C classes."""
    return [phrase for task in tasks for phrase in [template_phrase(task)] * len(task.classnames)]
