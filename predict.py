"""Classify new images with a finished run."""

import argparse
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from tqdm import tqdm

from dassl.data.filekinds import IMAGE_ENDINGS
from dassl.data.threads import cpu_count
from dassl.explain.places import MapWriter, check_outside
from dassl.inference import Classifier, ClassScore, Prediction, load_classifier
from dassl.inference.formats import FORMATS, UNSURE, Writer
from dassl.inference.outputs import keep_the_run
from dassl.inference.stream import Batch, find_images, read_batches
from dassl.utils.cli import Parser, exit_code, from_one_to, output, warnings_only
from dassl.utils.errors import UserError
from dassl.utils.texts import visible

__all__ = ["ClassScore", "Classifier", "Prediction", "load_classifier", "main"]

_MOST = 1_000_000  # images at once, classes to name
_EPILOG = f"""\
exit status: 0 all images were read, 1 some were not (each is named), 2 a mistake, explained in one line.
With --threshold, an answer below it is "{UNSURE}". A multi-label task answers with all classes above the threshold
that the run chose on validation images, or above --threshold.

examples:
  python predict.py output/demo6/first holiday.jpg
  python predict.py output/demo6/first photos/ --format jsonl --out answers.jsonl
  find /archive -name '*.jpg' | python predict.py output/demo6/first - --task colour --top-k 1

docs/predict.md tells more, and shows the same in Python.
"""


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = Parser(prog="predict.py", description=__doc__, epilog=_EPILOG)
    add = parser.add_argument
    add("run", metavar="RUN", help="folder of a finished run, or an exported file or folder")
    add("images", metavar="IMAGE", nargs="+", help="an image, a folder (with its subfolders), or - for paths on stdin")
    add("--task", default=None, metavar="NAME_OR_NUMBER", help="classify for this task only (default: all tasks)")
    add("--classes", type=_all_names, default=(), metavar="A,B,C", help="other class names for the learned context")
    add("--top-k", type=from_one_to(_MOST), default=5, metavar="K", help="classes to name for each image (default: 5)")
    add("--threshold", type=_share, default=0.0, metavar="P", help=f'say "{UNSURE}" below this probability (0 to 1)')
    add("--format", choices=list(FORMATS), default="table", help="output format (default: table)")
    add("--out", type=Path, default=None, metavar="FILE", help="write to this file instead of the screen")
    add("--explain", type=Path, default=None, metavar="DIR", help="draw where in each image the best class is")
    add("--batch-size", type=from_one_to(_MOST), default=64, metavar="N", help="images per batch (default: 64)")
    add("--workers", type=_whole, default=min(4, cpu_count()), metavar="N", help="processes that read images")
    add("--device", choices=("cpu", "cuda"), default="", help="device (default: a GPU if there is one)")
    add("--weights", default="", metavar="PATH", help="weights of the backbone, if not where the run had them")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    unread: list[str] = []
    with warnings_only():  # log lines of loading a run would appear among the answers
        code = exit_code(lambda: unread.extend(_carry_out(argv)))
    return code or int(bool(unread))


def _carry_out(argv: Sequence[str] | None) -> list[str]:
    """Classify every image; returns a line for each that could not be read."""
    args = build_parser().parse_args(argv)
    paths = find_images(_places(args.images))
    first = next(paths, None)
    if first is None:
        raise UserError("no images; name files or folders, or give - and send paths to standard input")
    if args.out is not None:
        _check_out(args)
    if args.explain is not None:
        check_outside(args.explain, args.images)
    classifier = _classifier(args)
    maps = None if args.explain is None else MapWriter(classifier, args.explain)
    tasks = None if args.task is None else [classifier.task_number(args.task)]
    with output(args.out) as stream:
        writer = FORMATS[args.format](stream, threshold=args.threshold, top_k=args.top_k, maps=maps is not None)
        size = {"batch_size": args.batch_size, "workers": args.workers}
        batches = read_batches(_all(first, paths), classifier.reading, classifier.transform, **size)
        return write_answers(classifier, batches, writer, tasks, maps=maps)


def write_answers(
    classifier: Classifier,
    batches: Iterable[Batch],
    writer: Writer,
    tasks: Sequence[int] | None = None,
    *,
    maps: MapWriter | None = None,
) -> list[str]:
    """Answer for the images of all batches; returns a line for each that could not be read.

    Args:
        tasks: numbers of the tasks to answer for; all by default.
        maps: draws heat maps of the answers.
    """
    unread: list[str] = []
    with tqdm(desc="images", unit="image", disable=None, leave=False) as bar:
        for batch in batches:
            for line in batch.unread:
                tqdm.write(visible(f"skipped: {line}"), file=sys.stderr)
            unread += batch.unread
            if batch.paths:
                least = writer.threshold or None
                answers = classifier.answers(batch.paths, batch.images, tasks, top_k=writer.top_k, threshold=least)
                for answer in answers if maps is None else maps.write(batch.images, answers):
                    writer.write(answer)
            bar.update(len(batch.paths) + len(batch.unread))
    writer.finish()
    return unread


def _check_out(args: argparse.Namespace) -> None:
    """Refuse to write the answers over an image or over what they are computed with."""
    if args.out.resolve() in {Path(image).resolve() for image in args.images}:
        raise UserError(f"--out {args.out} is one of the images; name another file")
    if args.out.name.lower().endswith(IMAGE_ENDINGS):
        raise UserError(f"--out {args.out} has the name of an image, and answers are text; name another file")
    keep_the_run(args.out, args.run, "--out")


def _classifier(args: argparse.Namespace) -> Classifier:
    classifier = load_classifier(args.run, device=args.device, weights=args.weights)
    if not args.classes:
        return classifier
    if args.task is None and len(classifier.tasks) > 1:
        raise UserError("--classes lists the classes of one task; name the task with --task")
    return classifier.with_classes({args.task or 0: args.classes})


def _places(images: Sequence[str]) -> Iterator[str]:
    for image in images:
        if image == "-":
            yield from (line.rstrip("\r\n") for line in sys.stdin if line.strip())
        else:
            yield image


def _all(first: str, rest: Iterable[str]) -> Iterator[str]:
    yield first
    yield from rest


def _all_names(text: str) -> tuple[str, ...]:
    """Names with commas between them; an empty one is kept, so that it is refused and not overlooked."""
    return tuple(part.strip() for part in text.split(","))


def _whole(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r}; expected a whole number")
    return int(text)


def _share(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"{text!r}; expected a number from 0 to 1")
    return value


if __name__ == "__main__":
    sys.exit(main())
