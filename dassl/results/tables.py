"""Tables of results: means over seeds with their spread, and their printed forms."""

import csv
import io
import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Protocol, TypeVar, runtime_checkable

from dassl.utils.intervals import STD, Interval
from dassl.utils.texts import printable, spreadsheet_cell, visible_json

# The shots of a method without training images; its figure fills every column.
ANY_SHOTS = 0
PLUS_MINUS = {"text": "+-", "markdown": "±", "html": "±", "latex": r"$\pm$"}
_MISSING = "-"

K = TypeVar("K")


@runtime_checkable
class Shown(Protocol):
    """A cell that knows its printed forms."""

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the values that it makes of one column in csv and json; "" is the column itself."""

    def show(self, form: str) -> str:
        """The printed cell for the form "text", "markdown", "html" (to be escaped) or "latex" (final)."""

    def values(self) -> tuple[str | int | float | None, ...]:
        """The values with full precision, one for each of ``columns``."""


@dataclass(frozen=True)
class MeanSpread:
    """Mean over ``count`` runs with its ``spread``, of the kind ``interval``; None if a single run has none.

    ``missing`` counts runs without a figure; the printed form shows it. ``digits``: decimals that are printed.
    """

    mean: float
    spread: float | None
    count: int
    missing: int = 0
    interval: Interval = STD
    digits: int = 2

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of its values in csv and json."""
        return "mean", self.interval.column, "runs"

    def show(self, form: str) -> str:
        """Both figures."""
        spread = "" if self.spread is None else f" {PLUS_MINUS[form]} {self.spread:.{self.digits}f}"
        gap = f" ({self.count} of {self.count + self.missing})" if self.missing else ""
        return f"{self.mean:.{self.digits}f}{spread}{gap}"

    def values(self) -> tuple[float, float | None, int]:
        """Mean, spread and number of runs."""
        return self.mean, self.spread, self.count


Cell = str | int | float | Shown | None


def mean_spread(values: Iterable[float | None], *, interval: Interval = STD) -> MeanSpread | None:
    """Mean and spread of ``values``; None and NaN count as missing; returns None if all are."""
    entries = list(values)
    known = [value for value in entries if value is not None and math.isfinite(value)]
    if not known:
        return None
    mean = _add(known) / len(known)
    std = math.sqrt(_add((value - mean) ** 2 for value in known) / len(known))
    return MeanSpread(mean, interval.half(std, len(known)), len(known), len(entries) - len(known), interval)


def _add(values: Iterable[float]) -> float:
    # One after the other, as NumPy adds a few numbers: newer Pythons' sum() and math.fsum differ in the last bit,
    # and a figure half-way between two decimals would be rounded differently from the original parser.
    total = 0.0
    for value in values:
        total += value
    return total


def task_means(runs: Sequence[Mapping[K, float | None]], *, interval: Interval = STD) -> dict[K, MeanSpread | None]:
    """Mean and spread of each task over ``runs``, each of which maps tasks to figures; a task may be in some only."""
    tasks = dict.fromkeys(task for run in runs for task in run)
    return {task: mean_spread((run.get(task) for run in runs), interval=interval) for task in tasks}


@dataclass(frozen=True)
class Table:
    """A header and rows of cells; a cell is a text, a number, a :class:`MeanSpread` or None (nothing known)."""

    header: Sequence[str]
    rows: Sequence[Sequence[Cell]]

    def __post_init__(self) -> None:
        for row in self.rows:
            assert len(row) == len(self.header), f"{len(row)} cells under {len(self.header)} headings"

    def render(self, form: str) -> str:
        """The table as ``form``, one of FORMATS, ending in a newline."""
        if form not in FORMATS:
            raise ValueError(f"table format {form!r}; choose one of {', '.join(FORMATS)}")
        return FORMATS[form](self)

    def text(self) -> str:
        """Columns padded with spaces, for a terminal."""
        return self._padded("text", "  ", rule=lambda width, right: "-" * width)

    def markdown(self) -> str:
        """A table of GitHub's Markdown."""

        def rule(width: int, right: bool) -> str:
            return "-" * (width - 1) + (":" if right else "-")

        body = self._padded("markdown", " | ", rule=rule, least=3)
        return "".join(f"| {line} |\n" for line in body.splitlines())

    def csv(self) -> str:
        """Comma-separated values with full precision; a mean with its spread makes three columns."""
        out = io.StringIO()
        writer = csv.writer(out, lineterminator="\n")
        parts = self.value_columns()
        names = zip(self.header, parts, strict=True)
        writer.writerow([_for_csv(" ".join(filter(None, (name, part)))) for name, split in names for part in split])
        for row in self.rows:
            writer.writerow(map(_for_csv, chain.from_iterable(map(_values, row, parts))))
        return out.getvalue()

    def json(self) -> str:
        """A list with one object for each row; a mean with its spread is an object, too."""
        rows = [dict(zip(self.header, map(_json_value, row), strict=True)) for row in self.rows]
        return visible_json(json.dumps(rows, indent=2, ensure_ascii=False, allow_nan=False)) + "\n"

    def latex(self) -> str:
        r"""A tabular environment with the rules of the booktabs package (``\usepackage{booktabs}``)."""
        columns = "".join("r" if right else "l" for right in self.right_aligned())
        lines = [" & ".join(show_cell(cell, "latex") for cell in row) + r" \\" for row in (self.header, *self.rows)]
        # A rule or the end of a row would take a bracket or an asterisk that comes next for an option.
        lines = [f"{{}}{line}" if line.startswith(("[", "*")) else line for line in lines]
        parts = [rf"\begin{{tabular}}{{{columns}}}", r"\toprule", lines[0], r"\midrule", *lines[1:]]
        return "\n".join([*parts, r"\bottomrule", r"\end{tabular}"]) + "\n"

    def value_columns(self) -> list[tuple[str, ...]]:
        """Per column: the names of the values that csv makes of it, ("",) for a plain one."""
        found = ([cell.columns for cell in column if isinstance(cell, Shown)] for column in self._columns())
        return [max(names, key=len, default=("",)) for names in found]

    def right_aligned(self) -> list[bool]:
        """Per column: whether it holds figures only."""
        return [not any(isinstance(cell, str) for cell in column) for column in self._columns()]

    def _columns(self) -> list[list[Cell]]:
        return [[row[i] for row in self.rows] for i in range(len(self.header))]

    def _padded(self, form: str, gap: str, *, rule: Callable[[int, bool], str], least: int = 1) -> str:
        lines = [[show_cell(cell, form) for cell in row] for row in (self.header, *self.rows)]
        right = self.right_aligned()
        widths = [max(least, *map(len, column)) for column in zip(*lines, strict=True)]
        lines.insert(1, [rule(width, r) for width, r in zip(widths, right, strict=True)])
        padded = [
            gap.join(
                text.rjust(width) if r else text.ljust(width)
                for text, width, r in zip(line, widths, right, strict=True)
            )
            for line in lines
        ]
        return "".join(line.rstrip() + "\n" for line in padded)


FORMATS: dict[str, Callable[[Table], str]] = {
    "text": Table.text,
    "markdown": Table.markdown,
    "csv": Table.csv,
    "latex": Table.latex,
    "json": Table.json,
}


def shots_heading(shots: int) -> str:
    """The heading of a column: "4 shots", "all images" for -1, "no shots" for ANY_SHOTS."""
    if shots == ANY_SHOTS:
        return "no shots"
    return "all images" if shots < 0 else f"{shots} shot{'s' if shots > 1 else ''}"


def show_cell(cell: Cell, form: str) -> str:
    """The printed cell, ready for "text", "markdown" or "latex"; for "html" it must still be escaped."""
    if isinstance(cell, Shown):
        return cell.show(form)
    return escape(_MISSING if cell is None else f"{cell:.2f}" if isinstance(cell, float) else str(cell), form)


def escape(text: str, form: str) -> str:
    """``text`` on one line, escaped for the form; "html" is left to its page."""
    # A line break would end the row.
    text = printable(" ".join(text.split())) if form != "html" else text
    if form == "markdown":
        return "".join(f"\\{character}" if character in _MARKDOWN_SPECIAL else character for character in text)
    return "".join(_LATEX_SPECIAL.get(character, character) for character in text) if form == "latex" else text


def _values(cell: Cell, names: tuple[str, ...]) -> Iterable[Cell]:
    found = cell.values() if isinstance(cell, Shown) else (cell,)
    return (*found, *[None] * (len(names) - len(found)))


def _for_csv(cell: Cell) -> Cell:
    return spreadsheet_cell(printable(cell)) if isinstance(cell, str) else cell


def _json_value(cell: Cell) -> object:
    if not isinstance(cell, Shown):
        return cell
    return cell.values()[0] if cell.columns == ("",) else dict(zip(cell.columns, cell.values(), strict=True))


# "_" and "*" only matter at the edges of a word; in the middle of names such as MTCoOp_4shots they are left alone.
_MARKDOWN_SPECIAL = "\\|<`"
_LATEX_SPECIAL = {
    **{character: f"\\{character}" for character in "&%$#_{}"},
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    # LaTeX's default fonts show other signs for these.
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
}
