"""Replay every recorded case in a folder and say how far the numbers are apart."""

import argparse
import itertools
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from tests.golden.engine import engine_cases
from tests.golden.layout import PARTS, layout_cases, missing
from tests.golden.problem import problem_cases
from tests.golden.prompts import trainer_cases
from tests.golden.report import Summary, run_case
from tests.golden.subsets import sampling_cases


def main(argv: Sequence[str] | None = None) -> int:
    """Print a line per case and what was compared.

    Returns 1 when something deviates, cannot be run, was not compared or is missing, 2 when there is no case.
    """
    parser = argparse.ArgumentParser(prog="python -m tests.golden", description=__doc__)
    parser.add_argument("folder", type=Path, help="folder with common/, softcpt/, hard/, ... as its README describes")
    parser.add_argument("--plain", action="store_true", help="encode all 77 columns of every prompt")
    parser.add_argument("--only", nargs="+", choices=sorted(PARTS), metavar="PART", help="replay these parts alone")
    args = parser.parse_args(argv)
    folder, parts = args.folder.absolute(), args.only or list(PARTS)
    if len(missing(folder, parts)) >= len(parts) and not any((folder / part).is_dir() for part in parts):
        print(f"error: {folder} holds no recorded case", file=sys.stderr)
        return 2
    logging.getLogger().addHandler(logging.NullHandler())
    trainers = trainer_cases(folder, MODEL__TEXT_ENCODING="plain" if args.plain else "auto")
    cases = itertools.chain(trainers, problem_cases(folder), engine_cases(folder), sampling_cases(folder))
    chosen = (case for case in cases if case[0].split("/")[0] in parts)
    summary = Summary()
    for name, replay in itertools.chain(layout_cases(folder, parts), chosen):
        case = run_case(name, replay)
        print(case.line(), flush=True)
        summary.add(case)
    print("\n".join(summary.lines()))
    return 0 if summary.agreed == summary.cases else 1


if __name__ == "__main__":
    sys.exit(main())
