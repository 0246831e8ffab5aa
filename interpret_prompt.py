"""Show the words nearest to the context vectors of a finished run, and how alike its tasks are."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from dassl.explain.forms import FORMATS
from dassl.explain.heat import check_kind, write_heat_maps
from dassl.explain.interpreting import interpret
from dassl.explain.words import DRAWS
from dassl.inference import load_classifier
from dassl.inference.outputs import keep_the_run
from dassl.utils.cli import Parser, exit_code, from_one_to, output, warnings_only
from dassl.utils.errors import UserError

_MOST = 100  # words of a vector
_EPILOG = f"""\
A nearest word always exists. So each distance stands beside those of {DRAWS} random vectors of the same norm, and the
last line says whether the words may mean something.

exit status: 0, or 2 after a mistake that one line explains.

examples:
  python interpret_prompt.py output/demo6/first
  python interpret_prompt.py output/demo6/first --task colour --top-k 1 --format csv --out words.csv
  python interpret_prompt.py output/demo6/first --similarity --plot tasks.png

docs/explain.md tells more.
"""


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = Parser(prog="interpret_prompt.py", description=__doc__, epilog=_EPILOG)
    add = parser.add_argument
    add("run", metavar="RUN", help="folder of a finished run")
    add("--task", default=None, metavar="NAME_OR_NUMBER", help="words of this task only (default: all tasks)")
    add("--top-k", type=from_one_to(_MOST), default=5, metavar="K", help="words to name for each vector (default: 5)")
    add("--similarity", action="store_true", help="the similarity of the tasks only, without words")
    add("--format", choices=list(FORMATS), default="table", help="form of the output (default: table)")
    add("--out", type=Path, default=None, metavar="FILE", help="write there instead of to the screen")
    add("--plot", type=Path, default=None, metavar="FILE", help="draw the similarity of the tasks (png, pdf or svg)")
    add("--device", choices=("cpu", "cuda"), default="", help="where to compute (default: a GPU if there is one)")
    add("--weights", default="", metavar="PATH", help="weights of the backbone, if they lie elsewhere than in the run")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    with warnings_only():
        return exit_code(lambda: _carry_out(argv))


def _carry_out(argv: Sequence[str] | None) -> None:
    args = build_parser().parse_args(argv)
    if args.plot is not None:
        check_kind(args.plot)
    for flag, place in (("--out", args.out), ("--plot", args.plot)):
        if place is not None:
            keep_the_run(place, args.run, flag)
    if args.out is not None and args.plot is not None and args.out.resolve() == args.plot.resolve():
        raise UserError(f"--out and --plot both name {args.out}; name two files")
    if args.task is not None and (args.similarity or args.plot is not None):
        raise UserError("--similarity and --plot compare all tasks; leave --task out")
    classifier = load_classifier(args.run, device=args.device, weights=args.weights)
    compare = args.similarity or args.plot is not None
    content = interpret(classifier, task=args.task, top_k=args.top_k, words=not args.similarity, compare=compare)
    if args.plot is not None:
        write_heat_maps(content.similarities, args.plot)
    with output(args.out) as stream:
        FORMATS[args.format](content, stream)


if __name__ == "__main__":
    sys.exit(main())
