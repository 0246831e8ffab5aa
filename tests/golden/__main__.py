"""Replay every recorded case in a folder and say how far the numbers are apart."""

import argparse
import itertools
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from tests.golden.engine import engine_cases
from tests.golden.prompts import trainer_cases
from tests.golden.report import run_case
from tests.golden.subsets import sampling_cases


def main(argv: Sequence[str] | None = None) -> int:
    """Print a line per case; returns 1 when one is out of tolerance or cannot be run, 2 when there is none."""
    parser = argparse.ArgumentParser(prog="python -m tests.golden", description=__doc__)
    parser.add_argument("folder", type=Path, help="folder with common/, softcpt/, hard/, ... as its README describes")
    parser.add_argument("--plain", action="store_true", help="encode all 77 columns of every prompt")
    args = parser.parse_args(argv)
    folder = args.folder.absolute()
    logging.getLogger().addHandler(logging.NullHandler())
    trainers = trainer_cases(folder, MODEL__TEXT_ENCODING="plain" if args.plain else "auto")
    failed = total = 0
    for name, replay in itertools.chain(trainers, engine_cases(folder), sampling_cases(folder)):
        passed, line = run_case(name, replay)
        print(line, flush=True)
        total, failed = total + 1, failed + (not passed)
    print(f"{total - failed} of {total} cases agree")
    if total == 0:
        print(f"error: {folder} holds no recorded case", file=sys.stderr)
        return 2
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
