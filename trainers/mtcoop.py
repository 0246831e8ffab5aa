"""SoftCPT (trainer MTCoOp): a meta network turns task names into the context of the class prompts.

Ding et al., "Multi-task prompt tuning with soft context sharing for vision-language models", Neurocomputing 2024.
"""

import math
from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional
from yacs.config import CfgNode

import clip
from clip.device import take_rows, to_device
from dassl.config import PRECISIONS, Key, between
from dassl.data.columns import flat_classnames, task_of_class
from dassl.data.datum import Task
from dassl.data.own.description import multi_tasks
from dassl.engine import TRAINER_REGISTRY
from dassl.engine.contexts import Context, Unit, contexts_of
from dassl.utils.errors import UserError
from dassl.utils.tools import derived_seed
from trainers._prompts import ContextPrompts, EncoderModule, check_phrase, context_keys, normal_parameter
from trainers.base import PromptTuner

PG_TYPES = ("lin", "linmean", "lincls")
# The original gives left-out classes the constant feature 1e-6 and adds it to the others; done here for equal losses.
SAMPLED_OFFSET = 1e-6


class MetaNetwork(nn.Module):
    """One matrix without bias that maps names' features to context vectors.

    Args:
        embed_dim: F. width: D. n_ctx: M.
        kind: "lin" reads the task feature, or [class, task] side by side when there are class features;
            "linmean" the mean of both; "lincls" the class feature alone.
        with_classes: whether there are class features.
        normalize: read features of length 1.
        shared: the matrix starts from zero, and what it makes is added to one learned context ``ctx`` (M, D).
    """

    def __init__(
        self,
        embed_dim: int,
        width: int,
        *,
        n_ctx: int,
        kind: str,
        with_classes: bool,
        seed: int,
        normalize: bool = False,
        shared: bool = False,
    ) -> None:
        super().__init__()
        self.kind, self.shape, self.normalize = kind, (n_ctx, width), normalize
        inputs = 2 * embed_dim if kind == "lin" and with_classes else embed_dim
        self.proj = normal_parameter((inputs, n_ctx * width), seed=seed, name="prompt_gen.proj")
        self.ctx: nn.Parameter | None = None
        if shared:
            self.proj = nn.Parameter(torch.zeros_like(self.proj))
            self.ctx = normal_parameter(self.shape, seed=seed, name="prompt_gen.ctx")

    def forward(self, task_features: Tensor, class_features: Tensor | None = None) -> Tensor:
        """Context vectors, one context per row: (G, F) and perhaps (G, F) -> (G, M, D)."""
        if self.normalize:
            task_features = functional.normalize(task_features.float(), dim=-1)
            class_features = None if class_features is None else functional.normalize(class_features.float(), dim=-1)
        feature = task_features
        if class_features is not None and self.kind == "lin":
            feature = torch.cat([class_features, task_features], dim=1)
        elif class_features is not None and self.kind == "linmean":
            feature = (class_features + task_features) / 2
        elif self.kind == "lincls":
            assert class_features is not None
            # A zero gradient instead of none, so that weight decay moves the task context, as in the original.
            feature = class_features + 0 * task_features
        made = (feature.float() @ self.proj).view(-1, *self.shape)
        return made if self.ctx is None else self.ctx + made


class SoftContext(EncoderModule):
    """Names of tasks (and classes) -> features h_t (and g_c) -> contexts -> class features.

    The frozen text encoder is used twice: for the prompts around the names, and for the class prompts with the
    generated context.
    """

    _owner: Tensor

    def __init__(self, backbone: clip.Backbone, tasks: Sequence[Task], options: CfgNode, *, seed: int) -> None:
        super().__init__(backbone.text)
        names, taskname = flat_classnames(tasks), [task.name for task in tasks]
        self.register_buffer("_owner", task_of_class(tasks), persistent=False)
        build = partial(ContextPrompts.from_options, backbone.text, options=options, seed=seed)
        self.task_prompt_learner = build(taskname, kind="TASK_", key="task_prompt_learner.ctx")
        self.class_prompt_learner = None
        if options.CSC:
            learner = build(names, kind="CLASS_", key="class_prompt_learner.ctx")
            self.class_prompt_learner = learner.requires_grad_(not options.FREEZE_CLS_PROMPT)
        self.prompt_gen = MetaNetwork(
            backbone.embed_dim,
            backbone.text_width,
            n_ctx=options.N_CTX,
            kind=options.PG_TYPE,
            with_classes=options.CSC,
            seed=seed,
            normalize=options.NORMALIZE,
            shared=options.SHARED_CTX,
        )
        self.prompts = build(names, learned=False)

    def name_features(self, columns: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """Features of the task names (T, F) and, with CSC, of (some of) the class names (C, F); not normalised."""
        tasks = self.task_prompt_learner()
        if self.class_prompt_learner is None:
            return tasks, None
        return tasks, self.class_prompt_learner(rows=columns)

    def contexts(self, columns: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """Generated contexts (G, M, D) and the context of each class (C,).

        With class features each class has its own context: G is C, or the number of ``columns``, and there is no table.
        """
        tasks, classes = self.name_features(columns)
        if classes is None:
            return self.prompt_gen(tasks), self._owner
        owner = self._owner if columns is None else self._owner[to_device(columns, self._owner.device)]
        return self.prompt_gen(take_rows(tasks, owner), classes), None

    def forward(self, columns: Tensor | None = None) -> Tensor:
        """Class features (C, F), or (len(columns), F) of some classes; not normalised.

        Classes that a step leaves out do not affect the loss and are encoded in neither pass. ``columns`` are best on
        the CPU, where texts are planned.
        """
        contexts, group = self.contexts(columns)
        features = self.prompts(contexts, group, rows=columns)
        return features if columns is None else features + SAMPLED_OFFSET


def sample_columns(column: Tensor, sizes: Sequence[int], rate: float, generator: torch.Generator) -> Tensor:
    """Classes used by one training step: those of the batch and ceil(rate * rest) random others, task by task.

    Args:
        column: (E,) true columns of the batch, on the CPU.
        sizes: number of classes of each task.

    Returns:
        Sorted columns, on the CPU.
    """
    positive = torch.zeros(sum(sizes), dtype=torch.bool)
    positive[column] = True
    keep = positive.clone()
    start = 0
    for size in sizes:
        rest = start + torch.nonzero(~positive[start : start + size]).flatten()
        count = math.ceil(round(rate * len(rest), 9))
        keep[rest[torch.randperm(len(rest), generator=generator)[:count]]] = True
        start += size
    return torch.nonzero(keep).flatten()


@TRAINER_REGISTRY.register()
class MTCoOp(PromptTuner):
    """SoftCPT: soft sharing of context between the tasks of a suite.

    Loss: cross-entropy of each image over the classes of its own task, mean over the batch.
    ``RECIPE: released`` repeats the released code, whose only optimiser and schedule were registered once per
    sub-module and so stepped 3 times (4 with class prompts) per batch and per epoch.
    """

    model: SoftContext
    section = "MTCOOP"
    multi_label = True
    config_keys = (
        Key("TRAINER.MTCOOP.PREC", "fp16", "precision of the frozen encoders", PRECISIONS),
        *context_keys("TRAINER.MTCOOP.CLASS_", n_ctx=16, what="the prompts of class names"),
        *context_keys("TRAINER.MTCOOP.TASK_", n_ctx=16, what="the prompts of task names"),
        *context_keys("TRAINER.MTCOOP.", n_ctx=16, what="the final prompts"),
        Key("TRAINER.MTCOOP.PG_TYPE", "lin", "input of the meta network", PG_TYPES),
        Key("TRAINER.MTCOOP.NORMALIZE", False, "the meta network reads features of length 1"),
        Key("TRAINER.MTCOOP.SHARED_CTX", False, "the meta network starts from zero and adds to one learned context"),
        Key("TRAINER.MTCOOP.PG_RATIO", 1.0, "kept for old commands; the original never used it"),
        Key(
            "TRAINER.MTCOOP.CLS_SAMPLE_RATE",
            0.0,
            "share of absent classes that a training step scores; 0: all",
            check=between(0, 1),
        ),
        Key("TRAINER.MTCOOP.FREEZE_CLS_PROMPT", False, "do not train the prompts of class names"),
        Key(
            "TRAINER.MTCOOP.RECIPE",
            "corrected",
            "optimiser steps as configured, or as released",
            ("corrected", "released"),
        ),
    )

    def check_cfg(self, cfg: CfgNode) -> None:
        """Refuse meaningless combinations."""
        o = cfg.TRAINER.MTCOOP
        if o.CLS_SAMPLE_RATE > 0 and not o.CSC:
            raise UserError("TRAINER.MTCOOP.CLS_SAMPLE_RATE needs TRAINER.MTCOOP.CSC True; set one of the two")
        if o.CLS_SAMPLE_RATE > 0 and multi_tasks(cfg):
            raise UserError(
                f"TRAINER.MTCOOP.CLS_SAMPLE_RATE leaves out absent classes, and the loss of the multi-label task "
                f"{multi_tasks(cfg)[0]!r} needs them; set it to 0"
            )
        if o.PG_TYPE == "lincls" and not o.CSC:
            raise UserError("TRAINER.MTCOOP.PG_TYPE lincls reads class names and needs TRAINER.MTCOOP.CSC True")
        if o.N_CTX < 1:
            raise UserError("TRAINER.MTCOOP.N_CTX is 0, so there is nothing to generate; use at least 1")
        for kind in ("", "TASK_", "CLASS_"):
            if kind != "CLASS_" or o.CSC:
                check_phrase(o[f"{kind}CTX_INIT"], o[f"{kind}N_CTX"], f"TRAINER.MTCOOP.{kind}CTX_INIT")

    @classmethod
    def learned_for(cls, cfg: CfgNode) -> dict[str, str]:
        """CSC is about class features here; CLASS_CSC is an own context for each class, TASK_CSC one for each task."""
        o = cfg.TRAINER.MTCOOP
        own = {"class": ("CLASS_CSC", o.CSC and o.CLASS_CSC), "task": ("TASK_CSC", o.TASK_CSC)}
        return {unit: f"TRAINER.MTCOOP.{key} True" for unit, (key, true) in own.items() if true}

    def build_prompts(self, backbone: clip.Backbone, tasks: Sequence[Task]) -> SoftContext:
        """The soft-context model."""
        return SoftContext(backbone, tasks, self.options, seed=self.cfg.SEED)

    def learned_modules(self) -> dict[str, nn.Module]:
        """Folders of the original: task prompts, class prompts (with CSC) and the meta network."""
        m = self.model
        found: dict[str, nn.Module | None] = {
            "class_prompt_learner": m.class_prompt_learner,
            "task_prompt_learner": m.task_prompt_learner,
            "prompt_gen": m.prompt_gen,
        }
        return {name: each for name, each in found.items() if each is not None and list(each.parameters())}

    @property
    def steps_per_batch(self) -> int:
        """1, or the number of times that the released code registered its optimiser."""
        if self.options.RECIPE == "corrected":
            return 1
        return 3 + int(self.options.CSC and not self.options.FREEZE_CLS_PROMPT)

    schedule_steps_per_epoch = steps_per_batch

    @torch.no_grad()
    def contexts(self) -> list[Context]:
        """The generated context of the class prompts, and what is learned in the prompts around names."""
        model, o, tasks = self.model, self.options, self.dm.tasks
        assert isinstance(model, SoftContext)
        found = contexts_of(model.contexts()[0], tasks, "class" if o.CSC else "task", origin="generated")
        own: Unit = "task" if o.TASK_CSC else "all"
        found += contexts_of(model.task_prompt_learner.ctx, tasks, own, prompts="prompts of task names")
        if model.class_prompt_learner is not None:
            own, origin = "class" if o.CLASS_CSC else "all", "frozen" if o.FREEZE_CLS_PROMPT else "learned"
            ctx, prompts = model.class_prompt_learner.ctx, "prompts of class names"
            found += contexts_of(ctx, tasks, own, prompts=prompts, origin=origin)
        return found

    @torch.no_grad()
    def task_features(self) -> Tensor:
        """Features of the task names, not normalised."""
        return self.model.get_submodule("task_prompt_learner")().float().cpu()

    def kept_columns(self, column: Tensor) -> Tensor | None:
        """Class sub-sampling; the draw depends only on seed, epoch and batch."""
        rate = self.options.CLS_SAMPLE_RATE
        if rate == 0:
            return None
        key = derived_seed("classes", self.cfg.SEED, self.epoch, self.batch_index)
        sizes = [len(task.classnames) for task in self.dm.tasks]
        return sample_columns(column, sizes, rate, torch.Generator().manual_seed(key))
