"""CoOp: the context of the class prompts is learned.

Zhou et al., "Learning to prompt for vision-language models", IJCV 2022.
"""

from dassl.engine import TRAINER_REGISTRY
from trainers._coop import CoOpTuner


@TRAINER_REGISTRY.register()
class CoOp(CoOpTuner):
    """CSC False: CoOp-CA, one context (M, D). CSC True: CoOp-CS, one for each class (C, M, D).

    Loss: cross-entropy over the classes of an image's own task. On one task (DATASET.SUBSAMPLE_TASKS taskN) this is
    the paper's CoOp; trained on all tasks of a suite at once, CoOp-CA is CoOp-MT.
    """

    multi_label = True
