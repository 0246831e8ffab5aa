"""The similarity of tasks as a picture."""

import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from dassl.explain.similarity import Similarity
from dassl.report.plots import KINDS, name_unknown_letters, write_figure
from dassl.utils.errors import UserError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_FEW = 8  # so many tasks have room in two maps side by side
_LONGEST = 24  # letters of a name
_WIDTH = 7.2  # inches, as all figures
_TITLE = 36  # letters in a line
_LEAST_RANGE = 1e-3


def check_kind(path: Path) -> None:
    """Refuse a file of a kind that cannot be drawn.

    Raises:
        UserError: the ending is none of KINDS.
    """
    if path.suffix not in KINDS:
        raise UserError(f"--plot {path}: figures are {', '.join(KINDS)}; name such a file")


def write_heat_maps(similarities: Sequence[Similarity], path: Path) -> None:
    """Draw a map for each of the similarities into one file.

    Raises:
        UserError: matplotlib is not installed, or the file cannot be written.
    """
    if path.suffix != ".svg":
        name_unknown_letters(similarities[0].tasks)
    write_figure(lambda: heat_figure(similarities), path)


def heat_figure(similarities: Sequence[Similarity]) -> "Figure":
    """The maps side by side, or one below the other where there are many tasks."""
    from matplotlib.figure import Figure

    count, maps = len(similarities[0].tasks), len(similarities)
    beside = count <= _FEW and maps > 1
    height = 0.8 + (max(2.2, 0.34 * count) if beside else 0.27 * count)
    figure = Figure(figsize=(_WIDTH, height if beside else maps * height), layout="compressed")
    panels = figure.subplots(1, maps, squeeze=False)[0] if beside else figure.subplots(maps, 1, squeeze=False)[:, 0]
    for number, (axes, each) in enumerate(zip(panels, similarities, strict=True)):
        _draw(axes, each, named=not beside or number == 0)
    return figure


def _draw(axes: "Axes", each: Similarity, *, named: bool) -> None:
    """One map. Its colours reach from its least to its largest cosine beside the diagonal, which is 1 by definition."""
    count = len(each.tasks)
    own = torch.eye(count, dtype=torch.bool)
    others = each.cosines[~own]
    low, high = float(others.min()), float(others.max())
    margin = max(0.0, _LEAST_RANGE - (high - low)) / 2
    shown = each.cosines.masked_fill(own, torch.nan).numpy()
    axes.imshow(shown, cmap="viridis", vmin=low - margin, vmax=high + margin)
    axes.set_facecolor("#dddddd")
    axes.set_title(textwrap.fill(f"cosine of {each.what}", _TITLE))
    labels = [f"{number} {_cut(name)}" for number, name in enumerate(each.tasks, 1)]
    axes.set_xticks(range(count), labels=[str(number) for number in range(1, count + 1)])
    axes.set_yticks(range(count), labels=labels if named else [str(number) for number in range(1, count + 1)])
    for text in axes.get_yticklabels():
        text.set_parse_math(False)
    digits = 2 if high - low >= 0.05 else 3
    middle = (low + high) / 2
    for row in range(count):
        for column in range(count):
            if row != column:
                value = float(each.cosines[row, column])
                ink = "white" if value < middle else "black"
                axes.text(column, row, f"{value:.{digits}f}", ha="center", va="center", size=6, color=ink)


def _cut(name: str) -> str:
    return name if len(name) <= _LONGEST else f"{name[: _LONGEST - 1]}\u2026"
