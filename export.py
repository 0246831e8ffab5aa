"""Export a finished run: one safetensors file, a folder for the Hub, or an ONNX graph."""

import argparse
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from dassl.inference import load_classifier
from dassl.inference.export import export_file, export_folder
from dassl.inference.onnx import export_onnx
from dassl.inference.outputs import keep_the_run
from dassl.utils.cli import Parser, exit_code
from dassl.utils.errors import UserError

_LICENSE = re.compile(r"[a-z0-9]+([.-][a-z0-9]+)*")


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = Parser(prog="export.py", description=__doc__)
    add = parser.add_argument
    add("run", metavar="RUN", type=Path, help="folder of a finished run")
    add("-o", "--out", default="", metavar="PATH", help="a file ending in .safetensors, or a folder ending in /")
    add("--onnx", type=Path, default=None, metavar="FILE", help="image encoder and head as one ONNX graph")
    add("--task", default=None, metavar="NAME_OR_NUMBER", help="only this task in the ONNX graph (default: all tasks)")
    add("--license", default="", metavar="ID", help="licence that the folder's model card names, e.g. mit")
    add("--weights", default="", metavar="PATH", help="weights of the backbone, if not where the run had them")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    return exit_code(lambda: _carry_out(argv))


def _carry_out(argv: Sequence[str] | None) -> None:
    args = build_parser().parse_args(argv)
    if not args.out and args.onnx is None:
        raise UserError("nothing to write; give -o FILE.safetensors, -o FOLDER/ or --onnx FILE.onnx")
    if args.task is not None and args.onnx is None:
        raise UserError("--task only goes with --onnx; an exported file has all tasks")
    folder = args.out.endswith("/") or Path(args.out).is_dir()
    if args.license and not folder:
        raise UserError("--license is for the model card of a folder; give -o FOLDER/")
    if args.license and not _LICENSE.fullmatch(args.license):
        raise UserError(f"--license {args.license!r} is not an identifier of the Hub, such as mit, apache-2.0 or other")
    if args.out and not folder and not args.out.endswith(".safetensors"):
        raise UserError(f"-o {args.out} is neither a .safetensors file nor a folder (write {args.out}/ for a folder)")
    _check_places(args)
    classifier = load_classifier(args.run, device="cpu", weights=args.weights)
    if classifier.folder.is_file():
        raise UserError(f"{args.run} is already an exported file; give the folder of a finished run")
    tasks = None if args.task is None else [classifier.task_number(args.task)]
    if args.onnx is not None:
        print(f"largest difference from PyTorch: {export_onnx(classifier, args.onnx, tasks):.3g}")
    if args.out:
        path = Path(args.out)
        export_folder(classifier, path, license_id=args.license) if folder else export_file(classifier, path)


def _check_places(args: argparse.Namespace) -> None:
    """Refuse to write over a file of the run, or both exports into one file."""
    places = {"-o": Path(args.out) if args.out else None, "--onnx": args.onnx}
    for flag, place in places.items():
        if place is not None:
            keep_the_run(place, args.run, flag)
    if args.out and args.onnx is not None and places["-o"].resolve() == args.onnx.resolve():
        raise UserError(f"-o and --onnx name the same file {args.onnx}; give each its own")


if __name__ == "__main__":
    sys.exit(main())
