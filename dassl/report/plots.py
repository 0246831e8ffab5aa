"""Figures of a suite: accuracy over shots and over cost. matplotlib is imported only when one is drawn."""

import io
import logging
import re
import textwrap
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

from dassl.report.figures import Figure as Mean
from dassl.report.labels import draw_labels
from dassl.report.sheets import Options, cell_figure, cost_shots, parameter_count, train_seconds
from dassl.report.study import Grid, Suite
from dassl.results.tables import shots_heading
from dassl.utils.errors import UserError
from dassl.utils.files import atomic_path
from dassl.utils.intervals import STD, Interval

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

KINDS = (".png", ".pdf", ".svg")
# Okabe and Ito, "Color Universal Design" (2008): distinct with every common kind of colour blindness.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
# Ink of the axes and of the last colour; a page replaces it with the colour of its text.
INK = "#010101"
_MARKERS = "osD^vPX<>ph*d"
_DASHES: tuple[Any, ...] = ("-", (0, (5, 1.5)), (0, (1, 1)))
_FLAT = "#777777"
# Most characters in the title of a panel, of a large panel, of a whole figure, and in a line of the note below it.
_LONGEST_TITLE, _LONGEST_NAME, _LONGEST_HEADING, _LONGEST_NOTE = 24, 32, 72, 120
_TITLE_LINES, _TITLE_LINE = 3, 0.13  # most lines of a title, and inches of each
_MOST_NAMED = 4  # cells that a note names
_CROWD = 6  # so many methods need a close-up
_WIDTH, _PANEL_HEIGHT = 7.2, 1.75  # inches: the text width of two columns
_LEGEND_LINE, _LEGEND_LINES = 0.16, 3  # inches of a line, and lines that fit without a higher figure
_SETTINGS: dict[Any, Any] = {
    "font.size": 7.5,
    "axes.titlesize": 8,
    "axes.linewidth": 0.6,
    "lines.linewidth": 1.2,
    "lines.markersize": 3.6,
    "legend.fontsize": 7.5,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "xtick.minor.size": 0,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    # With a fixed salt, the same results give the same file. Text in PDFs stays text.
    "svg.hashsalt": "results",
    "svg.fonttype": "none",
    "pdf.fonttype": 42,
}


@dataclass(frozen=True)
class Style:
    """How a method is drawn; colours, dashes and markers differ, so that a greyscale print is readable."""

    colour: str
    dashes: Any
    marker: str


Styles = Mapping[str, Style]
Draw = Callable[[Suite, Interval], "Figure"]


def styles(grid: Grid) -> dict[str, Style]:
    """One style for each method of a grid, the same in all figures of the grid."""
    found: dict[str, Style] = {}
    learned = [row for row in grid.rows if row not in grid.flat]
    for number, row in enumerate(learned):
        colour = COLOURS[number % len(COLOURS)]
        dashes = _DASHES[number // len(COLOURS) % len(_DASHES)]
        found[row] = Style(INK if colour == "#000000" else colour, dashes, _MARKERS[number % len(_MARKERS)])
    for number, row in enumerate(row for row in grid.rows if row in grid.flat):
        found[row] = Style(_FLAT, _DASHES[1 + number % 2], "")
    return found


def write_plots(suites: Sequence[Suite], path: Path, *, interval: Interval = STD) -> list[Path]:
    """Draw both figures of every suite.

    Args:
        path: a file, whose suffix gives the format, or a folder for PNG and PDF. File names contain "cost" for figures
            over cost, and the suite if there are several.
        interval: the interval that error bars show.

    Raises:
        UserError: there is nothing to draw, the suffix is not in KINDS, or matplotlib is missing.
    """
    drawn = [suite for suite in suites if suite.plain]
    if not drawn:
        raise UserError("--plot: no run with all classes and tasks, so there is nothing to draw")
    if path.suffix and path.suffix not in KINDS and not path.is_dir():
        raise UserError(f"--plot {path}: choose a file ending in {', '.join(KINDS)} or a folder")
    written = []
    if path.suffix != ".svg":
        name_unknown_letters({name for s in drawn for name in (s.key.label, *_plain(s).tasks, *_plain(s).rows)})
    for name, suite in zip(_file_names(drawn), drawn, strict=True):
        for what, draw in (("", accuracy_figure), ("cost", cost_figure)):
            for target in _targets(path, name, what, several=len(drawn) > 1):
                save(draw, suite, target, interval=interval)
                written.append(target)
    return written


def _file_names(suites: Sequence[Suite]) -> list[str]:
    """The suites' titles, with unsafe characters replaced and a number where they are then the same."""
    names = [re.sub(r"[^\w.-]+", "-", suite.title).strip("-") for suite in suites]
    return [name if names.count(name) == 1 else f"{name}-{number}" for number, name in enumerate(names, 1)]


def _targets(path: Path, name: str, what: str, *, several: bool) -> list[Path]:
    if path.suffix in KINDS and not path.is_dir():
        parts = [path.stem, *([name] if several else []), *([what] if what else [])]
        return [path.with_name("-".join(parts) + path.suffix)]
    return [path / f"{name}-{what or 'accuracy'}{kind}" for kind in (".png", ".pdf")]


def save(draw: Draw, suite: Suite, path: Path, *, interval: Interval = STD) -> None:
    """Write a figure of ``suite``; the suffix of ``path`` gives the format.

    Raises:
        UserError: matplotlib is not installed, or the file cannot be written.
    """
    write_figure(lambda: draw(suite, interval), path)


def write_figure(draw: Callable[[], "Figure"], path: Path) -> None:
    """Write what ``draw`` returns, in the style of all figures; raises as :func:`save`."""
    with drawing(), atomic_path(path) as temporary:
        kind = path.suffix.lstrip(".")
        # Without dates, the same results give the same file.
        dates = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}.get(kind)
        draw().savefig(temporary, format=kind, dpi=220, metadata=dates)


def svg(draw: Draw, suite: Suite, *, interval: Interval = STD) -> str:
    """A figure of ``suite`` as an SVG document without metadata.

    Raises:
        UserError: matplotlib is not installed.
    """
    with drawing():
        out, nothing = io.StringIO(), dict.fromkeys(("Date", "Creator", "Format", "Type"))
        draw(suite, interval).savefig(out, format="svg", transparent=True, metadata=nothing)
    return out.getvalue()


@contextmanager
def drawing() -> Iterator[None]:
    """The style of all figures.

    Raises:
        UserError: matplotlib is not installed.
    """
    try:
        from matplotlib import rc_context
    except ImportError as error:
        raise UserError("drawing a figure needs matplotlib; install it with: pip install matplotlib") from error
    with rc_context(_SETTINGS), warnings.catch_warnings():
        # name_unknown_letters warns once; in an SVG the reader's fonts draw such characters.
        warnings.filterwarnings("ignore", "Glyph .* missing from font")
        yield


def name_unknown_letters(names: Iterable[str]) -> None:
    """Warn of characters in names that matplotlib's font lacks and draws as boxes."""
    with drawing():
        from matplotlib.font_manager import FontProperties, findfont, get_font

        known = get_font(findfont(FontProperties())).get_charmap()
    unknown = "".join(sorted({letter for name in names for letter in name if ord(letter) not in known}))
    if unknown:
        logging.getLogger(__name__).warning(
            "--plot: the font lacks %s and shows boxes; an SVG file and the page of --html show the characters", unknown
        )


def _plain(suite: Suite) -> Grid:
    """The grid to draw; :func:`write_plots` and the page skip suites without one."""
    if suite.plain is None:
        raise ValueError(f"{suite.title} has no run with all classes and tasks")
    return suite.plain


# ---- accuracy over shots


def accuracy_figure(suite: Suite, interval: Interval = STD) -> "Figure":
    """One large panel for the mean over the tasks, one panel for each task, and the legend below.

    With many methods, a close-up follows the large panel, because a single weak method squeezes the others together.
    """
    from matplotlib.figure import Figure

    grid = _plain(suite)
    known = styles(grid)
    tasks = grid.tasks if len(grid.tasks) > 1 else []
    crowded = len(grid.rows) >= _CROWD
    columns = 4 if crowded else min(4, 2 + (len(tasks) + 1) // 2)
    rows = 2 + max(0, -(-(len(tasks) - (0 if crowded else 2 * (columns - 2))) // columns))
    titles = [_wrapped(task) for task in tasks]
    growth = _legend_growth(grid) + _TITLE_LINE * rows * max((each.count("\n") for each in titles), default=0)
    figure = Figure(figsize=(_WIDTH, _PANEL_HEIGHT * rows + 1.1 + growth), layout="constrained")
    _note(figure, f"{_shortened(suite.title, _LONGEST_HEADING)}; {_remark(grid, grid.shots, interval)}")
    cells = figure.add_gridspec(rows, columns)
    mean = figure.add_subplot(cells[:2, :2], xlabel="training images per class (shots)", ylabel="accuracy (%)")
    name = _shortened(suite.key.label, _LONGEST_NAME)
    _title(mean, f"{name}: mean over {len(tasks)} tasks" if tasks else name, weight="bold")
    _draw_curves(mean, grid, None, known, interval=interval)
    if crowded:
        close = figure.add_subplot(cells[:2, 2:], title="close-up of the mean")
        _draw_curves(close, grid, None, known, interval=interval)
        close.set_ylim(*_close_up(grid))
    places = [
        (row, column) for row in range(rows) for column in range(columns) if row > 1 or (column > 1 and not crowded)
    ]
    for task, title, (row, column) in zip(tasks, titles, places, strict=False):
        panel = figure.add_subplot(cells[row, column])
        _title(panel, title)
        _draw_curves(panel, grid, task, known)
    _legend(figure, grid, known)
    return figure


def _close_up(grid: Grid) -> tuple[float, float]:
    """Limits of an axis on which the upper three quarters of the curves fill the panel."""
    curves = [[grid.values(row, shots)[0].values() for shots in grid.shots] for row in grid.rows]
    means = [[fmean(values) for values in curve if values] for curve in curves]
    lowest = sorted(min(each) for each in means if each)
    low, high = lowest[len(lowest) // 4], max(max(each) for each in means if each)
    margin = max(0.05 * (high - low), 0.5)
    return low - margin, high + margin


def _shortened(name: str, longest: int) -> str:
    return name if len(name) <= longest else name[: longest - 1] + "…"


def _wrapped(name: str) -> str:
    """A name wrapped to fit over a panel; a name too long for all lines is cut."""
    lines = textwrap.wrap(name, _LONGEST_TITLE) or [name]
    kept = lines[:_TITLE_LINES]
    if len(lines) > _TITLE_LINES:
        kept[-1] = kept[-1][: _LONGEST_TITLE - 1] + "…"
    return "\n".join(kept)


def _note(figure: "Figure", text: str) -> None:
    """Write one or more lines over the whole figure."""
    figure.suptitle("\n".join(textwrap.wrap(text, _LONGEST_NOTE)), size=7).set_parse_math(False)


def _remark(grid: Grid, shots: Sequence[int], interval: Interval) -> str:
    """The meaning of the bars, the hollow markers, and the cells that are not drawn."""
    cells = {
        (row, each): cell_figure(grid, row, each, options=Options())
        for row in grid.rows
        if row not in grid.flat
        for each in shots
    }
    known = {place: mean for place, mean in cells.items() if mean is not None}
    fewer = [_cell(place, f"{m.count}/{m.wanted}") for place, m in known.items() if m.count < m.wanted and not m.gap]
    left_out = [_cell(place, mean.gap) for place, mean in known.items() if mean.gap]
    seeds = ", ".join(map(str, grid.seeds))
    parts = [f"bars: {interval.words} over seeds {seeds}" if len(grid.seeds) > 1 else "one seed, so no bars"]
    parts += [f"hollow: a mean of fewer seeds ({_some(fewer)})"] if fewer else []
    parts += [f"not drawn: {_some(left_out)}"] if left_out else []
    return "; ".join(parts)


def _cell(place: tuple[str, int], what: str) -> str:
    return f"{_shortened(place[0], _LONGEST_TITLE)} {shots_heading(place[1])} {what}"


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else ""
    return ", ".join(names[:_MOST_NAMED]) + more


def _title(axes: "Axes", text: str, *, weight: str = "normal") -> None:
    # "$" in a name does not start a formula.
    axes.set_title(text, weight=weight).set_parse_math(False)


def _draw_curves(
    axes: "Axes", grid: Grid, task: str | None, known: Styles, *, interval: Interval | None = None
) -> None:
    """Draw a line for each method over shots (logarithmic); a method without shots is a horizontal line.

    Args:
        interval: the interval that error bars show; None: no bars.
    """
    options = Options(interval=interval or STD)
    shots = [each for each in grid.shots if each > 0]
    for row in grid.rows:
        style = known[row]
        means = [cell_figure(grid, row, each, task=task, options=options) for each in grid.shots]
        if row in grid.flat:
            if means[0] is not None:
                axes.axhline(means[0].mean, color=style.colour, linestyle=style.dashes, zorder=1)
            continue
        _draw_line(
            axes,
            [(each, mean) for each, mean in zip(grid.shots, means, strict=True) if each > 0],
            style,
            bars=interval is not None,
        )
    if shots:
        axes.set_xscale("log", base=2)
        axes.set_xticks(shots, labels=[str(each) for each in shots])
        axes.set_xlim(shots[0] / 1.25, shots[-1] * 1.25)
    else:
        axes.set_xticks([])
    axes.grid(alpha=0.25, linewidth=0.5)


def _draw_line(axes: "Axes", points: Sequence[tuple[int, Mean | None]], style: Style, *, bars: bool) -> None:
    # The curve leaves out means over too few tasks.
    known = [(shots, mean) for shots, mean in points if mean is not None and not mean.gap]
    if not known:
        return
    x, y = [shots for shots, _ in known], [mean.mean for _, mean in known]
    axes.plot(x, y, color=style.colour, linestyle=style.dashes, marker=style.marker, markeredgewidth=0.5, zorder=2)
    hollow = [(shots, mean.mean) for shots, mean in known if mean.count < mean.wanted]
    if hollow:
        axes.plot(
            *zip(*hollow, strict=True), linestyle="none", marker=style.marker, markeredgecolor=style.colour,
            markerfacecolor="white", markeredgewidth=0.8, zorder=3,
        )  # fmt: skip
    if bars:
        spreads = [mean.spread or 0.0 for _, mean in known]
        axes.errorbar(x, y, spreads, color=style.colour, linestyle="none", elinewidth=0.8, capsize=1.8, alpha=0.7)


def _legend_columns(grid: Grid) -> int:
    widest = max(map(len, grid.rows))
    return max(1, min(len(grid.rows), 100 // (widest + 8)))


def _legend_growth(grid: Grid) -> float:
    """Inches to add to a figure's height, so that a long legend does not shrink its panels."""
    lines = -(-len(grid.rows) // _legend_columns(grid))
    return _LEGEND_LINE * max(0, lines - _LEGEND_LINES)


def _legend(figure: "Figure", grid: Grid, known: Styles) -> None:
    from matplotlib.lines import Line2D

    lines = [
        Line2D([], [], color=style.colour, linestyle=style.dashes, marker=style.marker, markersize=4.5)
        for style in (known[row] for row in grid.rows)
    ]
    # matplotlib omits labels that start with "_", so the texts are set afterwards.
    box = figure.legend(
        lines,
        ["x" * len(row) for row in grid.rows],
        loc="outside lower center",
        ncols=_legend_columns(grid),
        frameon=False,
    )
    for text, row in zip(box.get_texts(), grid.rows, strict=True):
        text.set_text(row)
        text.set_parse_math(False)


# ---- accuracy over cost


def cost_figure(suite: Suite, interval: Interval = STD) -> "Figure":
    """The mean accuracy at the most shots over training time and over trainable parameters."""
    from matplotlib.figure import Figure

    grid = _plain(suite)
    known = styles(grid)
    shots = cost_shots(grid)
    figure = Figure(figsize=(_WIDTH, 3.6 + _legend_growth(grid)), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    name = _shortened(suite.title, _LONGEST_HEADING)
    _note(figure, f"{name}, {shots_heading(shots)}; {_remark(grid, [shots], interval)}")
    costs = ({row: train_seconds(grid, row, shots) for row in grid.rows}, _parameters(grid))
    points = [
        _draw_cost(axes, grid, each, known, interval=interval) for axes, each in zip((left, right), costs, strict=True)
    ]
    left.set(xlabel="training time of all tasks (s)", ylabel="mean accuracy over tasks (%)")
    right.set_xlabel("trainable parameters")
    _legend(figure, grid, known)
    figure.draw_without_rendering()  # names are placed last, around everything else
    for axes, each in zip((left, right), points, strict=True):
        draw_labels(axes, each, {row: known[row].colour for row in each})
    return figure


def _parameters(grid: Grid) -> dict[str, float | None]:
    return {row: parameter_count(grid, row) for row in grid.rows}


def _draw_cost(
    axes: "Axes", grid: Grid, costs: Mapping[str, float | None], known: Styles, *, interval: Interval
) -> dict[str, tuple[float, float]]:
    """Draw a point for each method over its cost and return the points; one without cost is a horizontal line."""
    shots = cost_shots(grid)
    drawn: dict[str, tuple[float, float]] = {}
    for row, cost in costs.items():
        mean, style = cell_figure(grid, row, shots, options=Options(interval=interval)), known[row]
        if mean is None or mean.gap:
            continue
        if row in grid.flat:
            axes.axhline(mean.mean, color=style.colour, linestyle=style.dashes, zorder=1)
        elif cost:
            look: dict[str, Any] = {"color": style.colour, "marker": style.marker, "markersize": 5.5}
            face, edge = ("white", style.colour) if mean.count < mean.wanted else (style.colour, "white")
            look |= {"markerfacecolor": face, "markeredgecolor": edge, "markeredgewidth": 0.5, "linestyle": "none"}
            look |= {"capsize": 2, "elinewidth": 0.8}
            axes.errorbar([cost], [mean.mean], [mean.spread or 0.0], **look)
            drawn[row] = (cost, mean.mean)
    if drawn:
        _log_axis(axes, min(cost for cost, _ in drawn.values()), max(cost for cost, _ in drawn.values()))
    axes.margins(y=0.1)
    axes.grid(alpha=0.25, linewidth=0.5)
    return drawn


def _log_axis(axes: "Axes", low: float, high: float) -> None:
    """A logarithmic axis whose ticks are readable even if the costs are close together."""
    from matplotlib.ticker import EngFormatter, LogLocator, NullFormatter

    axes.set_xscale("log")
    axes.set_xlim(low / 1.6, high * 1.6)
    axes.xaxis.set_major_locator(LogLocator(10, subs=(1, 2, 5) if high < 100 * low else (1,)))
    large = EngFormatter(sep="")
    # "500m" for half a second could be taken for minutes.
    axes.xaxis.set_major_formatter(lambda value, _: large(value) if value >= 1 else f"{value:g}")
    axes.xaxis.set_minor_formatter(NullFormatter())
