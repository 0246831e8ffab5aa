"""KgCoOp: CoOp with class features kept near those of hand-written prompts.

Yao et al., "Visual-language prompt tuning with knowledge-guided context optimization", CVPR 2023.
"""

from functools import cached_property
from typing import Any

from torch import Tensor
from torch.nn import functional

from dassl.config import Key, at_least
from dassl.engine import TRAINER_REGISTRY
from trainers._coop import COOP_KEYS, CoOpTuner
from trainers.zsclip import template_prompts


def knowledge_gap(learned: Tensor, teacher: Tensor) -> Tensor:
    """1 - mean_c cos(w_c, w_c^clip): half the mean squared distance of the normalised features. (C, F) twice -> ()."""
    return 1 - functional.cosine_similarity(learned.float(), teacher, dim=-1).mean()


@TRAINER_REGISTRY.register()
class KgCoOp(CoOpTuner):
    """Loss: the multi-task cross-entropy + W * (1 - mean_c cos(w_c, w_c^clip)).

    w_c^clip are features of each task's template, computed once and in fp32. The mean is over all classes that the
    run learns, also those without an image in the batch, as in the original.
    """

    config_keys = (
        *COOP_KEYS,
        Key("TRAINER.COOP.W", 1.0, "KgCoOp: weight of the distance from hand-written prompts", check=at_least(0)),
    )

    @cached_property
    def teacher(self) -> Tensor:
        """(C, F) float32, features of the tasks' templates."""
        return self.template_features([prompt for task in self.dm.tasks for prompt in template_prompts(task)])

    def loss(self, batch: dict[str, Any]) -> tuple[Tensor, dict[str, float]]:
        """The loss of a batch and, if the step is logged, further values for the log."""
        scores = self.scores(batch)
        loss, shown = self.cross_entropy(scores)
        assert scores.text is not None, "all images share the class features"
        gap = knowledge_gap(scores.text, self.teacher)
        if self.printing:
            shown["gap"] = float(gap.detach())
        return loss + self.options.W * gap, shown
