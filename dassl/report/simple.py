"""Figures of results. matplotlib is imported only when one is drawn."""

from pathlib import Path
from typing import TYPE_CHECKING

from dassl.results.tables import ANY_SHOTS, Cells, labels, mean_spread, shot_columns
from dassl.utils.errors import UserError
from dassl.utils.files import atomic_path

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Okabe and Ito, "Color Universal Design" (2008): told apart with every common kind of colour blindness.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
_MARKERS = "osD^vP*X"


def plot_shots(cells: Cells, path: Path | str, *, title: str = "", ylabel: str = "accuracy (%)") -> Path:
    """Draw the overall metric against the shots: a line per method, a band of one standard deviation over seeds.

    A method without shots (zero-shot) is a dashed horizontal line. Cells of "all images" are left out.

    Args:
        cells: runs by (label, shots), as :func:`dassl.results.tables.summarise` gives them.
        path: the picture; its suffix (.png, .svg, .pdf) says which kind.

    Raises:
        UserError: matplotlib is not installed or the picture cannot be written.
    """
    try:
        from matplotlib import rc_context
        from matplotlib.figure import Figure
    except ImportError as error:
        raise UserError("drawing a figure needs matplotlib; install it with: pip install matplotlib") from error
    path = Path(path)
    shots = [each for each in shot_columns(cells) if each > 0]
    # A fixed salt and no date: the same results make the same file.
    with rc_context({"svg.hashsalt": "results", "font.size": 10}):
        figure = Figure(figsize=(5.2, 3.6), layout="constrained")
        axes = figure.add_subplot(title=title, xlabel="training images per class (shots)", ylabel=ylabel)
        for i, label in enumerate(labels(cells)):
            _draw_method(axes, cells, label, shots, i)
        axes.set_xscale("log", base=2)
        axes.set_xticks(shots, labels=[str(each) for each in shots])
        axes.grid(alpha=0.3)
        axes.legend(frameon=False, fontsize=9)
        kind = path.suffix.lstrip(".") or "png"
        metadata = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}.get(kind)
        with atomic_path(path) as temporary:
            figure.savefig(temporary, format=kind, dpi=200, metadata=metadata)
    return path


def _draw_method(axes: "Axes", cells: Cells, label: str, shots: list[int], number: int) -> None:
    colour, marker = COLOURS[number % len(COLOURS)], _MARKERS[number % len(_MARKERS)]
    flat = mean_spread(run.metric for run in cells.get((label, ANY_SHOTS), ()))
    if flat is not None:
        axes.axhline(flat.mean, color="#666666", linestyle="--", linewidth=1.4, label=label)
    figures = {each: mean_spread(run.metric for run in cells.get((label, each), ())) for each in shots}
    points = [(each, figure.mean, figure.spread) for each, figure in figures.items() if figure is not None]
    if points:
        x, mean, std = zip(*points, strict=True)
        low = [m - s for m, s in zip(mean, std, strict=True)]
        high = [m + s for m, s in zip(mean, std, strict=True)]
        axes.plot(x, mean, color=colour, marker=marker, markersize=5, linewidth=1.6, label=label)
        axes.fill_between(x, low, high, color=colour, alpha=0.15, linewidth=0)
