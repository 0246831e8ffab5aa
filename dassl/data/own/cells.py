"""How the labels of a task stand in the rows of its table: one in a cell, several in a cell, or 0/1 columns."""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from dassl.utils.errors import UserError

logger = logging.getLogger(__name__)

SEPARATORS = (";", "|", ",")  # looked for in this order
NO_LABEL = ""  # the label of an entry whose image has none of the classes
_YES = {"1", "1.0", "true", "yes", "y", "x"}
_NO = {"0", "0.0", "-1", "-1.0", "false", "no", "n"}

# The labels of a row, with the place for messages; None: the row does not belong to the task.
ReadLabels = Callable[[Mapping[str, str], str], tuple[str, ...] | None]


class OneLabel:
    """One label in a cell; a row with an empty cell does not belong to the task."""

    def __init__(self, column: str) -> None:
        self.columns = (column,)

    def reader(self, rows: Sequence[Mapping[str, str]], place: str) -> ReadLabels:
        """The function that reads a row."""
        (column,) = self.columns
        return lambda row, _: (row[column],) if row[column] else None


@dataclass(frozen=True)
class SeveralLabels:
    """Several labels in a cell.

    Attributes:
        column: its name.
        separator: text between labels; "": the first of SEPARATORS that occurs in a cell.
        none: content of a cell that says that the image has none of the classes; None: there is no such content, and
            a row with an empty cell does not belong to the task.
    """

    column: str
    separator: str = ""
    none: str | None = None

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that must exist."""
        return (self.column,)

    def reader(self, rows: Sequence[Mapping[str, str]], place: str) -> ReadLabels:
        """The function that reads a row; the log names a separator that was guessed."""
        separator = self.separator or self._guessed([row[self.column] for row in rows], place)

        def read(row: Mapping[str, str], _: str) -> tuple[str, ...] | None:
            cell = row[self.column]
            if cell == self.none:
                return ()
            parts = [part.strip() for part in (cell.split(separator) if separator else [cell])]
            return tuple(dict.fromkeys(part for part in parts if part)) or None

        return read

    def _guessed(self, cells: Sequence[str], place: str) -> str:
        counts = {each: sum(each in cell for cell in cells) for each in SEPARATORS}
        found = [each for each in SEPARATORS if counts[each]]
        if not found:
            logger.info("%s: no cell of column %r holds several labels", place, self.column)
            return ""
        others = f"; {' and '.join(map(repr, found[1:]))} are part of labels" if found[1:] else ""
        logger.log(
            logging.WARNING if found[1:] else logging.INFO,
            "%s: labels in column %r are separated by %r (%d of %d cells have it)%s; separator: says it",
            place,
            self.column,
            found[0],
            counts[found[0]],
            len(cells),
            others,
        )
        return found[0]


@dataclass(frozen=True)
class FlagColumns:
    """A column for each class, with 1 or 0; a row whose cells are all empty does not belong to the task."""

    columns: tuple[str, ...]

    def reader(self, rows: Sequence[Mapping[str, str]], place: str) -> ReadLabels:
        """The function that reads a row.

        It raises a UserError for a cell that is neither, or empty beside cells that are not.
        """

        def read(row: Mapping[str, str], where: str) -> tuple[str, ...] | None:
            cells = {column: row[column].casefold() for column in self.columns}
            if not any(cells.values()):
                return None
            for column, cell in cells.items():
                if cell not in _YES | _NO:
                    what = f"is {row[column]!r}" if cell else "is empty"
                    raise UserError(f"{where}: column {column!r} {what}; write 1 for images with the label, else 0")
            return tuple(column for column, cell in cells.items() if cell in _YES)

        return read


LabelCells = OneLabel | SeveralLabels | FlagColumns
