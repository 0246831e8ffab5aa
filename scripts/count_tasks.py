"""Print how many tasks the data of a run has. Takes the arguments of train.py."""

import sys
from collections.abc import Sequence

import train
from dassl.data.dataset import build_dataset
from dassl.utils.cli import exit_code


def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit code."""
    return exit_code(lambda: print(len(build_dataset(train.setup_cfg(train.parse(argv))).tasks)))


if __name__ == "__main__":
    sys.exit(main())
