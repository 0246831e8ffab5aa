"""``python -m tests.miniature SUITE DIR``: write tiny copies of data sets."""

import argparse
import sys
import time
from pathlib import Path

from dassl.utils.cli import exit_code
from tests.miniature import MINIATURES, PER_CLASS, SUITES, names_of, write_miniature


def main(arguments: list[str] | None = None) -> int:
    """Write what the command line asks for; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.miniature",
        description="Write tiny copies of data sets in their raw layout: annotation files, a few small images a class.",
        epilog=f"Suites: {', '.join(SUITES)}, all. Data sets: {', '.join(sorted(MINIATURES))}.",
    )
    parser.add_argument(
        "suite",
        metavar="SUITE",
        help="a suite or a data set by its registered name, its yaml's name or the path of a yaml, or all",
    )
    parser.add_argument("folder", metavar="DIR", type=Path, help="data root; each data set gets its own folder in it")
    parser.add_argument("--per-class", type=int, default=PER_CLASS, metavar="N", help="images a class (%(default)s)")
    parser.add_argument("--classes", type=int, metavar="N", help="classes that have images (all)")
    options = parser.parse_args(arguments)
    return exit_code(lambda: _write(options))


def _write(options: argparse.Namespace) -> None:
    for name in names_of(options.suite):
        started = time.monotonic()
        target = write_miniature(name, options.folder, per_class=options.per_class, classes=options.classes)
        files = sum(path.is_file() for path in target.rglob("*"))
        print(f"{name}: {files} files in {target} ({time.monotonic() - started:.1f} s)")


if __name__ == "__main__":
    sys.exit(main())
