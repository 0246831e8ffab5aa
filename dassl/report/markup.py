"""Parts of a page: sortable tables and folded sections."""

from collections.abc import Iterable, Sequence
from html import escape

from dassl.report.figures import BEST, SECOND, Figure
from dassl.results.tables import Cell, Shown, Table, show_cell

_RANKS = {BEST: "best", SECOND: "second"}


def folded(title: str, content: Iterable[str]) -> list[str]:
    """A folded section with a line that opens it; nothing if there is no content."""
    inner = "".join(content)
    return [f"<details><summary>{escape(title)}</summary>\n{inner}</details>\n"] if inner else []


def table_html(table: Table, caption: str, *, block: int = 1) -> str:
    """A table that scrolls separately; a click on a heading sorts it in blocks of ``block`` rows."""
    right = table.right_aligned()
    head = "".join(
        f'<th scope="col"{" class=figure" * figures}>{escape(name)}</th>'
        for name, figures in zip(table.header, right, strict=True)
    )
    lines = [_row(row, right, first=number % block == 0, block=block) for number, row in enumerate(table.rows)]
    groups = [lines[n : n + block] for n in range(0, len(lines), block)] if block > 1 else [lines]
    bodies = "\n".join("<tbody>\n" + "\n".join(group) + "\n</tbody>" for group in groups)
    return (
        f'<p class="title">{escape(caption)}</p>\n'
        f'<div class="scroll" tabindex="0" role="region" aria-label="{escape(caption)}">\n'
        f'<table class="sortable">\n<thead><tr>{head}</tr></thead>\n{bodies}\n</table>\n</div>\n'
    )


def _row(row: Sequence[Cell], right: Sequence[bool], *, first: bool, block: int) -> str:
    cells = [_cell(cell, figures) for cell, figures in zip(row[1:], right[1:], strict=True)]
    span = f' rowspan="{block}"' if block > 1 else ""
    name = f'<th scope="row"{span}>{escape(show_cell(row[0], "html"))}</th>' if first else ""
    return f"<tr>{name}{''.join(cells)}</tr>"


def _cell(cell: Cell, figures: bool) -> str:
    classes = ["figure"] if figures else ["text"] if isinstance(cell, str) and len(cell) > 40 else []
    if isinstance(cell, Figure) and cell.rank:
        classes.append(_RANKS[cell.rank])
    value = cell.values()[0] if isinstance(cell, Shown) else "" if cell is None else cell
    look = f' class="{" ".join(classes)}"' if classes else ""
    return f'<td{look} data-value="{escape(str(value))}">{escape(show_cell(cell, "html"))}</td>'
