"""Trials at full length: ``python -m tests.chaos kill --runs 100`` or ``many``; exit code 1 if one failed."""

import argparse
import os
import sys
import tempfile
from collections import Counter
from itertools import chain
from pathlib import Path

os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1", TQDM_DISABLE="1")


def main() -> int:
    """Carry out the trials that the command line asks for."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("what", choices=["kill", "many"])
    parser.add_argument(
        "--runs",
        type=int,
        default=100,
        help="kill: trials of training, after which come those of downloads (default: 100)",
    )
    parser.add_argument("--seed", type=int, default=1, help="kill: of the moments (default: 1)")
    parser.add_argument("--short", action="store_true", help="only the trials of the test suite")
    parser.add_argument("--keep", type=Path, help="folder for the trials; the last one stays there")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        return {"kill": kill, "many": many}[args.what](args, args.keep or Path(temporary))


def many(args: argparse.Namespace, top: Path) -> int:
    """Start many processes at once."""
    from tests.chaos.many import ALL, SHORT, Place, trials

    failed, chosen = 0, SHORT if args.short else ALL
    for number, (what, problems) in enumerate(trials(Place.made(top), chosen), 1):
        print(f"{number:4}  {'differs' if problems else 'equal':8}  {what}", flush=True)
        for problem in problems:
            print(f"    {problem}", flush=True)
        failed += bool(problems)
    print(f"{len(chosen) - failed} of {len(chosen)} trials ended as a run that was alone")
    return int(failed > 0)


def kill(args: argparse.Namespace, top: Path) -> int:
    """Kill runs and start them again."""
    from tests.chaos.kill import fetches, prepare, short_trials, trials

    counts: dict[str, Counter[str]] = {}
    failed, runs, place = 0, 0, prepare(top)
    chosen = short_trials(place) if args.short else trials(place, args.runs, args.seed)
    print("  no  to kill  outcome           variant and moment")
    for runs, trial in enumerate(chain(chosen, fetches(top)), 1):
        outcome = "differs" if trial.problems else "equal" if trial.killed else "equal, not killed"
        counts.setdefault(trial.variant, Counter())[outcome] += 1
        print(f"{runs:4}  {trial.seconds:5.2f} s  {outcome:16}  {trial.variant}, {trial.moment}", flush=True)
        for problem in trial.problems:
            print(f"    {problem}", flush=True)
        failed += bool(trial.problems)
    for variant, outcomes in counts.items():
        print(f"{variant}: " + ", ".join(f"{count} {outcome}" for outcome, count in sorted(outcomes.items())))
    print(f"{runs - failed} of {runs} trials ended as the undisturbed run")
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
