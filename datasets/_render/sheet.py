"""Contact sheets: ``python -m datasets._render.sheet OUT.png`` draws one row of images per task of Demo6."""

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from datasets._render.suite import MEMBERS, classnames, render


def contact_sheet(rows: Sequence[Sequence[np.ndarray]], gap: int = 4) -> Image.Image:
    """Images (H, W, 3) uint8 of one size, laid out in ``rows`` on white."""
    height, width, _ = rows[0][0].shape
    longest = max(map(len, rows))
    sheet = np.full((len(rows) * (height + gap) + gap, longest * (width + gap) + gap, 3), 255, np.uint8)
    for r, row in enumerate(rows):
        for c, image in enumerate(row):
            y, x = gap + r * (height + gap), gap + c * (width + gap)
            sheet[y : y + height, x : x + width] = image
    return Image.fromarray(sheet)


def demo_rows(columns: int, first: int = 0) -> list[list[np.ndarray]]:
    """One row per task of Demo6 with ``columns`` images that go through its classes in turn."""
    return [
        [
            render(name, classnames(name)[i % len(classnames(name))], first + i // len(classnames(name)))
            for i in range(columns)
        ]
        for name in MEMBERS
    ]


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="Draw a contact sheet of Demo6, one row per task.")
    parser.add_argument("output", type=Path, help="PNG file to write")
    parser.add_argument("--columns", type=int, default=10, help="images per task (default: 10)")
    parser.add_argument("--first", type=int, default=0, help="number of the first image of each class (default: 0)")
    args = parser.parse_args()
    contact_sheet(demo_rows(args.columns, args.first)).save(args.output)


if __name__ == "__main__":
    main()
