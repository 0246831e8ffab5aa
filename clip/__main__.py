"""Backbones by name: which there are, their weights for a machine without a network, and which activation fits a file.

python -m clip                              all names with size, texts, images, and whether the weights are here
python -m clip list siglip                     those with these letters
python -m clip fetch NAME... --to DIR       download weights to a folder; set MODEL.BACKBONE.WEIGHTS to it elsewhere
python -m clip activation FILE IMAGES       zero-shot accuracy of a weights file with both activations
"""

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from clip.activation import compare
from clip.errors import BackboneError
from clip.fetching import fetch
from clip.listing import architectures, table


def main(words: Sequence[str] | None = None) -> int:
    """Exit status: 0 done, 1 a name or a file is wrong, or a download failed."""
    options = _parser().parse_args(words)
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    try:
        for line in options.work(options):
            print(line, flush=True)
    except BackboneError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m clip", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.set_defaults(work=lambda options: table())
    commands = parser.add_subparsers(metavar="COMMAND")
    listing = commands.add_parser("list", help="the names, or those with some letters")
    listing.add_argument("letters", nargs="?", default="")
    listing.add_argument("--weights", type=Path, help="a folder of weights to look in as well")
    listing.add_argument("--architectures", action="store_true", help="the values of MODEL.BACKBONE.ARCH instead")
    listing.set_defaults(
        work=lambda options: (
            architectures(options.letters) if options.architectures else table(options.letters, options.weights)
        )
    )
    loading = commands.add_parser("fetch", help="download weights to a folder")
    loading.add_argument("names", nargs="+", metavar="NAME")
    loading.add_argument("--to", type=Path, required=True, metavar="DIR", help="the folder; it is made if need be")
    loading.set_defaults(work=lambda options: fetch(options.names, options.to))
    activation = commands.add_parser("activation", help="which activation fits a weights file")
    activation.add_argument("file", metavar="FILE")
    activation.add_argument("images", type=Path, help="a folder with a folder of images for each class")
    activation.add_argument("--arch", default="", help="MODEL.BACKBONE.ARCH, if the file does not show its sizes")
    activation.add_argument("--template", default="a photo of a {}.", help='with {} for the class; "a photo of a {}."')
    activation.add_argument("--most", type=int, default=50, help="images of a class that are used at most (50)")
    activation.set_defaults(
        work=lambda options: compare(
            options.file, options.images, arch=options.arch, template=options.template, most=options.most
        )
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
