"""Print how many tasks the data of a run has, if the data is there. Takes the arguments of train.py.

With DATASET.SUBSAMPLE_CLASSES base or new it refuses a method that could not be tested on the other half, before it is
trained for nothing.
"""

import sys
from collections.abc import Sequence

from yacs.config import CfgNode

import train
from dassl.data.dataset import find_dataset
from dassl.engine import TRAINER_REGISTRY
from dassl.utils.cli import exit_code
from dassl.utils.errors import UserError


def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit code."""
    return exit_code(lambda: print(count(train.setup_cfg(train.parse(argv)))))


def count(cfg: CfgNode) -> int:
    """Number of tasks.

    Raises:
        UserError: a wrong config, data that is not there, or the method learns something for each class and classes
            are subsampled.
    """
    cause = TRAINER_REGISTRY.get(cfg.TRAINER.NAME).learned_for(cfg).get("class")
    if cause and cfg.DATASET.SUBSAMPLE_CLASSES != "all":
        raise UserError(
            f"{cause} learns something of its own for each class, so it has nothing for new classes; "
            "choose a method that shares it"
        )
    dataset = find_dataset(cfg)
    dataset.check_data(cfg)
    return dataset.count_tasks(cfg)


if __name__ == "__main__":
    sys.exit(main())
