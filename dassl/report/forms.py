"""Printed forms of sheets: text, Markdown, LaTeX, csv and json."""

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from dassl.report.figures import BEST, SECOND, Figure
from dassl.report.sheets import Sheet
from dassl.results.tables import Cell, Table, escape
from dassl.utils.texts import visible_json

_RANKS = {
    "text": "* best, _ second in its column",
    "markdown": "**bold**: best, <u>underlined</u>: second in its column",
    "latex": r"\textbf{Bold}: best, \underline{underlined}: second in its column",
}
# A table wider than the text is scaled down; others keep their size.
_FIT = r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%"


def print_form(sheets: Sequence[Sheet], form: str) -> str:
    """All sheets in one of the forms of FORMS, ending in a newline."""
    return FORMS[form](sheets)


def print_table(title: str, table: Table, form: str) -> str:
    """One table below its title; csv and json have no title but name their columns."""
    heads = {
        "text": f"{title.replace('±', '+-')}\n\n",
        "markdown": f"### {escape(title, 'markdown')}\n\n",
        "latex": f"% {title.replace('±', '+-')}\n",
    }
    return heads.get(form, "") + table.render(form)


def _text(sheets: Sequence[Sheet]) -> str:
    return "\n".join(
        f"{sheet.title.replace('±', '+-')}\n\n{sheet.table.text()}"
        + "".join(f"{note}\n" for note in _notes(sheet, "text"))
        for sheet in sheets
    )


def _markdown(sheets: Sequence[Sheet]) -> str:
    return "\n".join(
        f"### {escape(sheet.title, 'markdown')}\n\n{sheet.table.markdown()}"
        + "".join(f"\n{note}\n" for note in _notes(sheet, "markdown"))
        for sheet in sheets
    )


def _latex(sheets: Sequence[Sheet]) -> str:
    parts = [r"% \usepackage{booktabs,graphicx}" + "\n"]
    for sheet in sheets:
        title = escape(sheet.title, "latex").replace("±", r"$\pm$")
        caption = ". ".join([title, *_notes(sheet, "latex")])
        body = f"{_FIT}\n{sheet.table.latex().rstrip()}}}"
        parts.append(f"\\begin{{table}}\n\\centering\n\\caption{{{caption}.}}\n{body}\n\\end{{table}}\n")
    return "\n".join(parts)


def _notes(sheet: Sheet, form: str) -> list[str]:
    ranks = {cell.rank for row in sheet.table.rows for cell in row if isinstance(cell, Figure)}
    return [*([_RANKS[form]] if {BEST, SECOND} & ranks else []), *(escape(note, form) for note in sheet.notes)]


def _csv(sheets: Sequence[Sheet]) -> str:
    """One table for all sheets, whose keys are its first columns, so that any program can filter and pivot it."""
    return _joined(sheets).csv()


def _json(sheets: Sequence[Sheet]) -> str:
    content = [
        {"title": sheet.title, **sheet.keys, "rows": _objects(sheet.data or sheet.table), "notes": sheet.notes}
        for sheet in sheets
    ]
    return visible_json(json.dumps({"tables": content}, indent=2, ensure_ascii=False, allow_nan=False)) + "\n"


def _objects(table: Table) -> list[Any]:
    return json.loads(table.json())


def _joined(sheets: Sequence[Sheet]) -> Table:
    rows: list[Mapping[str, Cell]] = []
    header: dict[str, None] = {}
    for sheet in sheets:
        table = sheet.data or sheet.table
        rows.extend({**sheet.keys, **dict(zip(table.header, row, strict=True))} for row in table.rows)
    # Keys first: a key of one sheet may be a column of another.
    for sheet in sheets:
        header.update(dict.fromkeys(sheet.keys))
    for sheet in sheets:
        header.update(dict.fromkeys((sheet.data or sheet.table).header))
    return Table(list(header), [[row.get(name) for name in header] for row in rows])


FORMS: dict[str, Callable[[Sequence[Sheet]], str]] = {
    "text": _text,
    "markdown": _markdown,
    "csv": _csv,
    "latex": _latex,
    "json": _json,
}
