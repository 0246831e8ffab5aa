"""TCP: tokens made from what CLIP knows of each class enter the middle of the text tower.

Yao, Zhang, Xu: "TCP: textual-based class-aware prompt tuning for visual-language model", CVPR 2024.
"""

from collections.abc import Sequence
from typing import Any

from open_clip.transformer import QuickGELU
from torch import Tensor, nn
from torch.nn import functional
from yacs.config import CfgNode

import clip
from dassl.config import PRECISIONS, Key, at_least
from dassl.data.datum import Task
from dassl.engine import TRAINER_REGISTRY
from dassl.engine.contexts import Context, contexts_of
from dassl.utils.errors import UserError
from trainers._coop import PHRASE
from trainers._prompts import ContextPrompts, check_phrase, normal_parameter
from trainers.base import PromptTuner
from trainers.cocoop import keyed_linear
from trainers.kgcoop import knowledge_gap
from trainers.zsclip import template_prompts

REDUCTION = 4


def prompt_name(template: str, name: str) -> str:
    """What stands behind the context in the prompt of a class, without its last dot.

    The context stands for "a photo of a", or for all words before the name where a template begins otherwise:
    "a photo of a person doing {}." gives "person doing NAME", "a satellite photo of {}." only "NAME". Words behind the
    name stay. For the authors' data sets this gives their own table, but for cars (see docs/methods.md).
    """
    before, _, behind = template.partition("{}")
    kept = before.removeprefix(PHRASE) if before.startswith(f"{PHRASE} ") else ""
    return f"{kept.strip()} {name}{behind}".strip().removesuffix(".")


class ClassTokens(nn.Module):
    """Context vectors ctx (M, D), and the network that makes M tokens of width D of a class feature.

    The network is Linear(F, F // 4) - QuickGELU - Linear(F // 4, M D), with biases and PyTorch's start values.
    """

    def __init__(self, backbone: clip.Backbone, n_ctx: int, phrase: str, *, seed: int) -> None:
        super().__init__()
        key, width, features = "prompt_learner", backbone.text_width, backbone.embed_dim
        hidden = max(1, features // REDUCTION)
        self.ctx = normal_parameter((n_ctx, width), seed=seed, name=f"{key}.ctx")
        if phrase:
            self.ctx = nn.Parameter(backbone.text.phrase_vectors(phrase).clone())
        self.meta_net = nn.Sequential()
        self.meta_net.add_module("linear1", keyed_linear(features, hidden, seed=seed, name=f"{key}.linear1"))
        self.meta_net.add_module("gelu", QuickGELU())
        self.meta_net.add_module("linear2", keyed_linear(hidden, n_ctx * width, seed=seed, name=f"{key}.linear2"))

    def forward(self, features: Tensor) -> Tensor:
        """Tokens of classes: (C, F) -> (C, M, D)."""
        return self.meta_net(features).unflatten(1, self.ctx.shape)


class ClassAwarePrompts(nn.Module):
    """Class prompts whose context rows are replaced by each class's own tokens before a block of the text tower.

    Args:
        known: (C, F) float32, features of the tasks' templates.
        layer: number of the block, counted from 0.
    """

    known: Tensor

    def __init__(
        self,
        backbone: clip.Backbone,
        tasks: Sequence[Task],
        options: CfgNode,
        *,
        known: Tensor,
        layer: int,
        seed: int,
    ) -> None:
        super().__init__()
        self.register_buffer("known", functional.normalize(known, dim=-1), persistent=False)
        self.layer, phrase = layer, options.CTX_INIT
        names = [prompt_name(task.template, name) for task in tasks for name in task.classnames]
        self.prompt_learner = ClassTokens(backbone, options.N_CTX, phrase, seed=seed)
        self.prompts = ContextPrompts(backbone.text, names, n_ctx=options.N_CTX, phrase=phrase)

    def forward(self, columns: Tensor | None = None) -> Tensor:
        """Class features (C, F), not normalised."""
        assert columns is None, "TCP has no class sub-sampling"
        tokens = self.prompt_learner(self.known)
        return self.prompts(self.prompt_learner.ctx[None], deep={self.layer: tokens})


@TRAINER_REGISTRY.register()
class TCP(PromptTuner):
    """Loss: the multi-task cross-entropy + W * (1 - mean_c cos(w_c, w_c^clip)), as KgCoOp's.

    w_c^clip are features of each task's template, computed once and in fp32; their normalised values are also what the
    network reads. Context and network are shared by all classes and tasks of a run.
    """

    model: ClassAwarePrompts
    section = "TCP"
    config_keys = (
        Key("TRAINER.TCP.PREC", "fp16", "precision of the frozen encoders", PRECISIONS),
        Key(
            "TRAINER.TCP.N_CTX", 4, "context vectors of the class prompts, and tokens of each class", check=at_least(1)
        ),
        Key("TRAINER.TCP.CTX_INIT", "", "initial words of the context; empty: random"),
        Key(
            "TRAINER.TCP.LAYER",
            0,
            "blocks of the text tower before the tokens of the classes; 0: two thirds of them (8 of 12)",
            check=at_least(0),
        ),
        Key("TRAINER.TCP.W", 8.0, "weight of the distance from hand-written prompts", check=at_least(0)),
    )

    def check_cfg(self, cfg: CfgNode) -> None:
        """Refuse a phrase of another length than the context."""
        check_phrase(cfg.TRAINER.TCP.CTX_INIT, cfg.TRAINER.TCP.N_CTX, "TRAINER.TCP.CTX_INIT")

    def build_prompts(self, backbone: clip.Backbone, tasks: Sequence[Task]) -> ClassAwarePrompts:
        """The model."""
        layer = self._layer(backbone)
        known = self.template_features([prompt for task in tasks for prompt in template_prompts(task)])
        return ClassAwarePrompts(backbone, tasks, self.options, known=known, layer=layer, seed=self.cfg.SEED)

    def _layer(self, backbone: clip.Backbone) -> int:
        asked, depth = self.options.LAYER, backbone.text.depth
        if depth < 2:
            raise UserError(f"TCP replaces rows between two blocks, but the text tower of {backbone.name} has {depth}")
        if asked >= depth:
            raise UserError(
                f"TRAINER.TCP.LAYER is {asked}, but the text tower of {backbone.name} has {depth} blocks; set it to at "
                f"most {depth - 1}, or to 0 for two thirds"
            )
        return asked or max(1, depth * 2 // 3)

    def learned_modules(self) -> dict[str, nn.Module]:
        """Context and network in one folder, as in the original."""
        return {"prompt_learner": self.model.get_submodule("prompt_learner")}

    def contexts(self) -> list[Context]:
        """The context of the first blocks."""
        note = f"up to block {self.model.layer}; behind it each class has tokens of its own, which are no embeddings"
        return contexts_of(self.model.get_parameter("prompt_learner.ctx"), self.dm.tasks, "all", note=note)

    def loss(self, batch: dict[str, Any]) -> tuple[Tensor, dict[str, float]]:
        """The loss of a batch and, if the step is logged, further values for the log."""
        scores = self.scores(batch)
        loss, shown = self.cross_entropy(scores)
        assert scores.text is not None, "all images share the class features"
        gap = knowledge_gap(scores.text, self.model.known)
        if self.printing:
            shown["gap"] = float(gap.detach())
        return loss + self.options.W * gap, shown
