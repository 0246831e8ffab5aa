"""Hard sharing (trainer MTCoOpHard): CoOp's context learned on all tasks of a suite at once."""

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor, nn
from yacs.config import CfgNode

import clip
from dassl.config import PRECISIONS, Key
from dassl.data.columns import flat_classnames, task_of_class
from dassl.data.datum import Task
from dassl.engine import TRAINER_REGISTRY
from dassl.engine.contexts import Context, contexts_of
from dassl.utils.errors import UserError
from trainers._prompts import ContextPrompts, check_phrase, context_keys
from trainers._union import UnionTuner, union_key


class SharedContext(nn.Module):
    """One context for all classes, or one per class; ``ctx`` is (M, D) or (C, M, D)."""

    def __init__(self, backbone: clip.Backbone, tasks: Sequence[Task], options: CfgNode, *, seed: int) -> None:
        super().__init__()
        names, key = flat_classnames(tasks), "prompt_learner.ctx"
        self.prompt_learner = ContextPrompts.from_options(backbone.text, names, options, seed=seed, key=key)

    def forward(self, columns: Tensor | None = None) -> Tensor:
        """Class features (C, F), not normalised."""
        assert columns is None, "hard sharing has no class sub-sampling"
        return self.prompt_learner()


class TaskContexts(nn.Module):
    """One learner per task, each with a context for all its classes (M, D) or one per class (C_t, M, D)."""

    _owner: Tensor

    def __init__(self, backbone: clip.Backbone, tasks: Sequence[Task], options: CfgNode, *, seed: int) -> None:
        super().__init__()
        build = partial(ContextPrompts.from_options, backbone.text, options=options, seed=seed)
        learners = [build(task.classnames, key=f"prompt_learner.learners.{t}.ctx") for t, task in enumerate(tasks)]
        self.prompt_learner = nn.Module()
        self.prompt_learner.learners = nn.ModuleList(learners)
        self.prompts = ContextPrompts.from_options(backbone.text, flat_classnames(tasks), options, learned=False)
        self.register_buffer("_owner", task_of_class(tasks), persistent=False)

    def forward(self, columns: Tensor | None = None) -> Tensor:
        """Class features (C, F) of all tasks in one pass, not normalised."""
        assert columns is None, "hard sharing has no class sub-sampling"
        own: list[Tensor] = list(self.prompt_learner.parameters())  # the ``ctx`` of each learner
        if own[0].dim() == 3:
            return self.prompts(torch.cat(own))
        return self.prompts(torch.stack(own), self._owner)


@TRAINER_REGISTRY.register()
class MTCoOpHard(UnionTuner):
    """CoOp inside the multi-task engine.

    CSC False, TSC False: CoOp-MT, one context for everything. TSC True: CoOp-CA, one context per task.
    CSC True: CoOp-CS, one context per class (with or without TSC).
    UNION True with TOKEN_POSITION middle: MCoOp, the text prompts of MVLPT (Shen et al., "Multitask Vision-Language
    Prompt Tuning", WACV 2024), whose training compares an image with the classes of all tasks. Tests stay within
    the task.
    """

    section = "MTCOOPH"
    multi_label = True
    config_keys = (
        Key("TRAINER.MTCOOPH.PREC", "fp16", "precision of the frozen encoders", PRECISIONS),
        *context_keys("TRAINER.MTCOOPH.", n_ctx=16, what="the class prompts"),
        Key("TRAINER.MTCOOPH.TSC", False, "one context per task"),
        union_key("TRAINER.MTCOOPH."),
    )

    def check_cfg(self, cfg: CfgNode) -> None:
        """Refuse a context without vectors or a phrase of another length."""
        o = cfg.TRAINER.MTCOOPH
        if o.N_CTX < 1:
            raise UserError("TRAINER.MTCOOPH.N_CTX is 0, so there is nothing to learn; use at least 1")
        check_phrase(o.CTX_INIT, o.N_CTX, "TRAINER.MTCOOPH.CTX_INIT")

    def build_prompts(self, backbone: clip.Backbone, tasks: Sequence[Task]) -> nn.Module:
        """The model of the chosen mode."""
        kind = TaskContexts if self.options.TSC else SharedContext
        return kind(backbone, tasks, self.options, seed=self.cfg.SEED)

    def learned_modules(self) -> dict[str, nn.Module]:
        """One folder, as in the original."""
        return {"prompt_learner": self.model.get_submodule("prompt_learner")}

    def contexts(self) -> list[Context]:
        """The context of everything, of each task or of each class."""
        o = self.options
        names = [f"learners.{task}.ctx" for task in range(len(self.dm.tasks))] if o.TSC else ["ctx"]
        own: list[Tensor] = [self.model.get_parameter(f"prompt_learner.{name}") for name in names]
        if o.CSC:
            return contexts_of(torch.cat(own), self.dm.tasks, "class")
        if o.TSC:
            return contexts_of(torch.stack(own), self.dm.tasks, "task")
        return contexts_of(own[0], self.dm.tasks, "all")
