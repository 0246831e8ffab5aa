"""PromptSRC: tokens in both towers, kept near the frozen CLIP by three losses, and averaged over epochs.

Khattak et al., "Self-regulating prompts: foundational model adaptation without forgetting", ICCV 2023.
"""

import logging
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

import clip
from dassl.config import Key, at_least
from dassl.data.datum import Task
from dassl.engine import TRAINER_REGISTRY
from dassl.engine.published import Published
from trainers._deep import DeepPrompts, DeepTuner, Tokens, deep_keys
from trainers._prompts import normal_parameter
from trainers.base import Scores
from trainers.zsclip import SELECTED_TEMPLATES, parse_templates, template_prompts

SOURCE = "PromptSRC configs/trainers/PromptSRC"
# Where the authors' few-shot average gives most weight to late epochs.
LATE = ("StanfordCars", "OxfordFlowers", "FGVCAircraft", "DescribableTextures", "EuroSAT")

_log = logging.getLogger(__name__)


def gaussian_weights(epochs: int, mean: float, std: float) -> Tensor:
    """Weights (E,) float64 of the epochs 1..E, proportional to a normal density, with sum 1."""
    numbers = torch.arange(1, epochs + 1, dtype=torch.float64)
    return torch.softmax(-0.5 * ((numbers - mean) / std) ** 2, dim=0)


def distance(mine: Tensor, frozen: Tensor) -> Tensor:
    """Mean over all values of |a - b|, of normalised features. (N, F) twice -> ()."""
    a, b = (functional.normalize(each.float(), dim=-1) for each in (mine, frozen))
    return (a - b).abs().mean()


def divergence(logits: Tensor, frozen: Tensor, columns: Tensor, *, images: int) -> Tensor:
    """KL(frozen || learned) of each entry over the classes of its task, divided by their number and by the images.

    Args:
        logits, frozen: (E, K) scores. columns: (E, K) bool, the classes of the entry's task. images: B.
    """
    mine, theirs = (each.masked_fill(~columns, -torch.inf).log_softmax(dim=1) for each in (logits, frozen))
    # Outside the task both are -inf, whose difference and its gradient would be NaN.
    mine, theirs = mine.masked_fill(~columns, 0), theirs.masked_fill(~columns, 0)
    terms = torch.where(columns, theirs.exp() * (theirs - mine), 0)
    return (terms.sum(dim=1) / columns.sum(dim=1)).sum() / images


class IndependentTokens(nn.Module):
    """Tokens of the first n blocks of each tower, which know nothing of each other.

    ``ctx`` (M, D) and ``text_deep`` (n - 1, M, D) are those of texts, ``vpt`` (1, m, d) and ``vpt_deep`` (n - 1, m, d)
    those of images.

    Args:
        text: (M, D). visual: (m, d). depth: n.
        start: (M, D), or None for N(0, 0.02^2), from which all other tokens are drawn.
    """

    ctx: nn.Parameter
    text_deep: nn.Parameter
    vpt: nn.Parameter
    vpt_deep: nn.Parameter

    def __init__(
        self, text: tuple[int, int], visual: tuple[int, int], depth: int, *, seed: int, start: Tensor | None = None
    ) -> None:
        super().__init__()
        shapes = {"ctx": text, "text_deep": (depth - 1, *text), "vpt": (1, *visual), "vpt_deep": (depth - 1, *visual)}
        for name, shape in shapes.items():
            self.register_parameter(name, normal_parameter(shape, seed=seed, name=f"prompt_learner.{name}"))
        if start is not None:
            self.ctx = nn.Parameter(start.clone())

    def forward(self) -> Tokens:
        """(M, D), (n - 1, M, D) and (n, m, d)."""
        return self.ctx, self.text_deep, torch.cat([self.vpt, self.vpt_deep])


class GaussianAverage(nn.Module):
    """The weighted sum of a module's learned tensors over epochs, in float32. It is saved, so a run can be resumed.

    Args:
        weights: (E,) of the epochs.

    Attributes:
        only_resumes: it is no part of an export.
    """

    only_resumes = True

    def __init__(self, module: nn.Module, weights: Tensor) -> None:
        super().__init__()
        self._weights = weights.tolist()
        for name, value in module.named_parameters():
            self.register_buffer(name.replace(".", "_"), torch.zeros_like(value, dtype=torch.float32))

    @torch.no_grad()
    def add(self, module: nn.Module, epoch: int) -> None:
        """Add the tensors at the end of ``epoch``, counted from 0."""
        for own, value in zip(self.buffers(), module.parameters(), strict=True):
            own.add_(value, alpha=self._weights[epoch])

    @torch.no_grad()
    def put(self, module: nn.Module) -> None:
        """Replace the tensors of the module by the sum."""
        for own, value in zip(self.buffers(), module.parameters(), strict=True):
            value.copy_(own)


@TRAINER_REGISTRY.register()
class PromptSRC(DeepTuner):
    """Loss: the multi-task cross-entropy + 25 |w - w0| + 10 |f - f0| + KL(frozen || learned).

    w0 are class features of hand-written templates, f0 features of the same views by the frozen image tower; the
    distances are means over all values. At the end of training the tokens are their average over epochs.
    """

    section = "PROMPTSRC"
    model: DeepPrompts
    average: GaussianAverage | None = None
    config_keys = (
        *deep_keys("TRAINER.PROMPTSRC.", n_ctx=4),
        Key("TRAINER.PROMPTSRC.VISUAL_N_CTX", 4, "learned tokens of a block of the image tower", check=at_least(1)),
        Key("TRAINER.PROMPTSRC.TEXT_LOSS_WEIGHT", 25.0, "weight of the distance of class features", check=at_least(0)),
        Key("TRAINER.PROMPTSRC.IMAGE_LOSS_WEIGHT", 10.0, "weight of that of image features", check=at_least(0)),
        Key("TRAINER.PROMPTSRC.LOGITS_LOSS_WEIGHT", 1.0, "weight of the divergence of scores", check=at_least(0)),
        Key(
            "TRAINER.PROMPTSRC.TEMPLATES",
            SELECTED_TEMPLATES,
            "templates of the frozen class features, in addition to each task's own",
            parse=parse_templates,
        ),
        Key("TRAINER.PROMPTSRC.GPA", True, "the final tokens are an average over epochs with Gaussian weights"),
        Key("TRAINER.PROMPTSRC.GPA_MEAN", 0.0, "epoch of the largest weight; 0: 3/5 of them", check=at_least(0)),
        Key("TRAINER.PROMPTSRC.GPA_STD", 0.0, "width in epochs; 0: 3/5 of them", check=at_least(0)),
    )
    published = (
        Published({"TRAINER.PROMPTSRC.GPA_MEAN": 45.0, "TRAINER.PROMPTSRC.GPA_STD": 5.0}, SOURCE, datasets=LATE),
    )

    def build_prompts(self, backbone: clip.Backbone, tasks: Sequence[Task]) -> DeepPrompts:
        """The model."""
        o = self.options
        text, visual = (o.N_CTX, backbone.text_width), (o.VISUAL_N_CTX, self.tower.width)
        tokens = IndependentTokens(text, visual, self.depth, seed=self.cfg.SEED, start=self.start())
        return DeepPrompts(backbone, tasks, o, tokens)

    def build_model(self) -> None:
        """Build the prompts, and the average beside them: no other run starts from it."""
        super().build_model()
        o, epochs = self.options, self.max_epoch
        if not o.GPA or not epochs:
            return
        mean, std = (value or 0.6 * epochs for value in (o.GPA_MEAN, o.GPA_STD))
        if mean > epochs:
            _log.warning(
                "TRAINER.PROMPTSRC.GPA_MEAN is %g, but there are %d epochs: the average has most of the last ones; set "
                "it to 0 for three fifths of the epochs",
                mean,
                epochs,
            )
        self._report_unaveraged()
        weights = gaussian_weights(epochs, mean, std)
        self.average = GaussianAverage(self.model.prompt_learner, weights).to(self.device)
        self.register_model("average", self.average)

    def _report_unaveraged(self) -> None:
        """Warn of settings under which tokens may be tested that are no average."""
        final, patience = self.cfg.TEST.FINAL_MODEL, self.cfg.TRAIN.PATIENCE
        if final != "last_step":
            _log.warning(
                "TEST.FINAL_MODEL %s may test an epoch before the last, whose tokens are not averaged; set it to "
                "last_step, or TRAINER.PROMPTSRC.GPA False",
                final,
            )
        if patience:
            _log.warning(
                "TRAIN.PATIENCE %d may end the training before its tokens are averaged; set it to 0, or "
                "TRAINER.PROMPTSRC.GPA False",
                patience,
            )

    def after_epoch(self) -> None:
        """Add the epoch to the average, which replaces the tokens behind the last one."""
        if self.average is not None:
            self.average.add(self.model.prompt_learner, self.epoch)
            if self.epoch + 1 == self.max_epoch:
                self.average.put(self.model.prompt_learner)
                _log.info("The tokens are now their Gaussian average over %d epochs", self.max_epoch)
        super().after_epoch()

    @cached_property
    def frozen_text(self) -> Tensor:
        """(C, F) float32, mean of the features of each class over the templates, which are not normalised."""
        tasks = self.dm.tasks
        texts = [[p for task in tasks for p in template_prompts(task, each)] for each in ("", *self.options.TEMPLATES)]
        return torch.stack([self.template_features(each) for each in texts]).mean(0)

    def regularisation(self, scores: Scores, frozen: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The three distances from the frozen CLIP. ``frozen``: (B, F), its features of the images."""
        assert scores.text is not None, "all images share the class features"
        logits = self.logits(frozen, self.frozen_text)[scores.row]
        kept = divergence(scores.logits, logits, scores.columns, images=len(frozen))
        return distance(scores.text, self.frozen_text), distance(scores.image, frozen), kept

    def loss(self, batch: dict[str, Any]) -> tuple[Tensor, dict[str, float]]:
        """The loss of a batch and, if the step is logged, further values for the log."""
        scores, o = self.scores(batch), self.options
        loss, shown = self.cross_entropy(scores)
        parts = self.regularisation(scores, self.frozen_features(batch))
        if self.printing:
            shown |= {name: float(part.detach()) for name, part in zip(("text", "image", "kl"), parts, strict=True)}
        weights = (o.TEXT_LOSS_WEIGHT, o.IMAGE_LOSS_WEIGHT, o.LOGITS_LOSS_WEIGHT)
        return loss + sum(weight * part for weight, part in zip(weights, parts, strict=True)), shown
