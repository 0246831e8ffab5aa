"""Which images a user has and what their labels are: trees of folders, and CSV, TSV and JSONL tables."""

import csv
import io
import json
import logging
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from dassl.utils.errors import UserError
from dassl.utils.registry import nearest

logger = logging.getLogger(__name__)

IMAGE_ENDINGS = (".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".ppm", ".pgm")
IMAGE_ENDINGS += (".avif", ".heic", ".heif", ".jxl")  # the last three need a plugin, which reading them says
# Folders that a run writes, which may lie among the class folders.
OWN_FOLDERS = ("split_my_tasks", "split_fewshot_mt")
_PART_NAMES = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev"), "val"),
    **dict.fromkeys(("test", "testing"), "test"),
}
_LOOKED_AT = 10_000  # names in a folder that are compared with one that is not there
_DELIMITERS = ",;\t|"
_WINDOWS_DRIVE = re.compile(r"[A-Za-z]:/")

Row = tuple[int, dict[str, str]]  # line number in the file, cells by column


@dataclass(frozen=True, slots=True)
class Entry:
    """One image with its label.

    Attributes:
        path: absolute path.
        label: as the folder or the table spells it.
        part: "train", "val" or "test" where the data says it, else "".
        line: line of the table; 0 for folders.
    """

    path: str
    label: str
    part: str = ""
    line: int = 0


# -- trees of folders ------------------------------------------------------------------------------------------


def list_folder(folder: Path, task: str) -> list[Entry]:
    """Images of a tree ``folder/CLASS/...``, or ``folder/PART/CLASS/...`` with parts train, val, test.

    Files that are no images are skipped and counted in the log; names that start with "." do not count at all.

    Args:
        task: name of the task, for messages.

    Raises:
        UserError: there is no such folder, no class folder in it, a class folder without an image, or a folder that
            is no part beside those of the parts.
    """
    if not folder.is_dir():
        raise UserError(f"task {task!r}: {missing_path(folder, 'folder')}")
    skipped: list[Path] = []
    try:
        groups = _part_folders(folder, task) or [(folder, "")]
        entries = [entry for path, part in groups for entry in _class_folders(path, part, skipped)]
        classes = {path.name for place, _ in groups for path in _folders(place)}
    except OSError as error:
        raise UserError(f"task {task!r}: {error.filename} cannot be read ({error.strerror})") from error
    empty = sorted(classes - {entry.label for entry in entries})
    if empty:
        raise UserError(
            f"task {task!r}: class folder {empty[0]!r} in {folder} has no image (endings {' '.join(IMAGE_ENDINGS)}); "
            "add images or move the folder away"
        )
    if not entries:
        raise UserError(
            f"task {task!r}: {folder} holds no class folder; put the images of each class into a folder with its name"
        )
    _refuse_other_encodings(entries, task)
    if skipped:
        logger.info("Task %r: skipped %d files that are no images, e.g. %s", task, len(skipped), skipped[0])
    return entries


def _refuse_other_encodings(entries: Sequence[Entry], task: str) -> None:
    for entry in entries:
        try:
            entry.path.encode()
        except UnicodeEncodeError as error:
            name = os.fsencode(entry.path)
            raise UserError(f"task {task!r}: the name {name!r} is not UTF-8; rename the file or folder") from error


def _part_folders(folder: Path, task: str) -> list[tuple[Path, str]]:
    """The folders of the parts, in case the folders in ``folder`` are those and not the classes."""
    found = [(path, _PART_NAMES.get(path.name.lower(), "")) for path in _folders(folder)]
    parts = [part for _, part in found]
    if "train" not in parts or len({*parts, ""}) < 3:
        return []
    for path, part in found:
        if not part or parts.count(part) > 1:
            raise UserError(
                f"task {task!r}: {folder} is divided into train, val and test, and {path.name!r} does not belong to "
                "that; move or rename it"
            )
    return found


def _class_folders(folder: Path, part: str, skipped: list[Path]) -> list[Entry]:
    skipped += sorted(path for path in folder.iterdir() if path.is_file() and not path.name.startswith("."))
    entries = []
    for path in _folders(folder):
        entries += [Entry(str(image), path.name, part) for image in _images(path, skipped)]
    return entries


def _folders(folder: Path) -> list[Path]:
    return sorted(
        p for p in folder.iterdir() if p.is_dir() and not p.name.startswith(".") and p.name not in OWN_FOLDERS
    )


def _images(folder: Path, skipped: list[Path]) -> Iterator[str]:
    """Images below a class folder, sorted by their paths."""
    for place, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(files):
            if name.lower().endswith(IMAGE_ENDINGS) and not name.startswith("."):
                yield os.path.join(place, name)  # noqa: PTH118  (a Path for each image costs time)
            elif not name.startswith("."):
                skipped.append(Path(place, name))


# -- tables ----------------------------------------------------------------------------------------------------


def list_table(
    table: Path, task: str, *, image: str, label: str, split: str | None = None, images: Path | None = None
) -> list[Entry]:
    """Images of a table; rows whose label is empty do not belong to the task.

    Args:
        task: name of the task, for messages.
        image, label, split: names of the columns; ``split`` None: column "split" if there is one. An empty cell
            in it leaves the part open.
        images: folder that the paths are relative to; default: the folder of the table.

    Raises:
        UserError: the table cannot be read, lacks a column, or names an image that is not there; with the line.
    """
    columns, rows = _read_rows(table, task)
    if not columns:
        raise UserError(f"task {task!r}: {table} is empty; its first line names the columns")
    for column in (image, label, *([split] if split else [])):
        if column not in columns:
            close = nearest(column, columns)
            hint = f"did you mean {' or '.join(map(repr, close))}?" if close else f"it has {shown(columns)}"
            raise UserError(f"task {task!r}: {table} has no column {column!r}; {hint}")
    split = split or ("split" if "split" in columns else None)
    folder = str(images or table.parent)
    entries = []
    for line, row in rows:
        place = f"task {task!r}: {table}, line {line}"
        if row[label]:
            part = _part(row[split], place) if split else ""
            entries.append(Entry(_image_path(row[image], folder, place), row[label], part, line))
    if not entries:
        raise UserError(f"task {task!r}: {table} has no row with a label in column {label!r}")
    _refuse_missing(entries, table, task)
    return entries


def table_format(path: Path) -> str:
    """ "csv" or "jsonl" by the ending; "" for anything else."""
    endings = {".csv": "csv", ".tsv": "csv", ".txt": "csv", ".jsonl": "jsonl", ".ndjson": "jsonl"}
    return endings.get(path.suffix.lower(), "")


def _read_rows(table: Path, task: str) -> tuple[list[str], list[Row]]:
    """The columns and the rows of a table; cells are stripped texts."""
    if not table.is_file():
        raise UserError(f"task {task!r}: {missing_path(table, 'table')}")
    kind = table_format(table)
    if not kind:
        raise UserError(f"task {task!r}: {table} is no table that can be read; save it as .csv, .tsv or .jsonl")
    text = _decode(table, task)
    try:
        columns, rows = _csv_rows(text) if kind == "csv" else _jsonl_rows(text)
    except (ValueError, csv.Error) as error:
        raise UserError(f"task {task!r}: {table}, {error}") from error
    return columns, rows


def _decode(table: Path, task: str) -> str:
    """The text of a file: UTF-8 with or without a byte order mark, or UTF-16 with one."""
    try:
        content = table.read_bytes()
    except OSError as error:
        raise UserError(f"task {task!r}: {table} cannot be read ({error.strerror})") from error
    encoding = "utf-16" if content[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    try:
        return content.decode(encoding)
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise UserError(
            f"task {task!r}: {table}, line {line}: is not {encoding.removesuffix('-sig').upper()} "
            f"(byte 0x{content[error.start]:02x}); save the table as UTF-8"
        ) from error


def _csv_rows(text: str) -> tuple[list[str], list[Row]]:
    header = next((line for line in re.split(r"[\r\n]+", text) if line.strip()), "")
    delimiter = max(_DELIMITERS, key=header.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    columns: list[str] = []
    rows: list[Row] = []
    try:
        for cells in reader:
            cells = [cell.strip() for cell in cells]
            if not any(cells):
                continue
            if not columns:
                columns = _columns(cells)
            elif any(cells[len(columns) :]):
                raise ValueError(f"has {len(cells)} cells, but there are {len(columns)} columns; quote the cells")
            else:
                padded = cells + [""] * (len(columns) - len(cells))
                rows.append((reader.line_num, dict(zip(columns, padded, strict=False))))
    except (ValueError, csv.Error) as error:
        raise ValueError(f"line {reader.line_num}: {error}") from error
    return columns, rows


def _columns(cells: list[str]) -> list[str]:
    for name in cells:
        if name and cells.count(name) > 1:
            raise ValueError(f"two columns are called {name!r}; rename one")
    return cells


def _jsonl_rows(text: str) -> tuple[list[str], list[Row]]:
    columns: dict[str, None] = {}
    found: list[tuple[int, dict[str, str]]] = []
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            if not isinstance(row, dict):
                raise ValueError('expected an object such as {"image": "a.jpg", "label": "cat"}')
            cells = {name.strip(): _cell(value, name) for name, value in row.items()}
        except (ValueError, RecursionError) as error:
            reason = f"is not JSON ({error.msg})" if isinstance(error, json.JSONDecodeError) else error
            raise ValueError(f"line {number}: {reason}") from error
        columns.update(dict.fromkeys(cells))
        found.append((number, cells))
    return list(columns), [(number, {**dict.fromkeys(columns, ""), **cells}) for number, cells in found]


def _cell(value: Any, name: str) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if not isinstance(value, str | int | float):
        raise ValueError(f"{name!r} is {value!r}: expected a text or a number")
    return str(value).strip()


def _part(cell: str, place: str) -> str:
    if not cell:
        return ""
    part = _PART_NAMES.get(cell.lower())
    if part is None:
        close = nearest(cell, _PART_NAMES)
        hint = f"did you mean {close[0]!r}?" if close else "use train, val or test, or leave the cell empty"
        raise UserError(f"{place}: unknown part {cell!r}; {hint}")
    return part


def _image_path(cell: str, folder: str, place: str) -> str:
    """Absolute path of a table's cell; both kinds of slash are understood."""
    if not cell or "\0" in cell:
        raise UserError(f"{place}: has a label but no image path; fill it in or empty the label")
    path = forward_slashes(cell)
    if os.name != "nt" and _WINDOWS_DRIVE.match(path):
        raise UserError(f"{place}: {cell!r} is a path on a Windows drive; write it relative to {folder}")
    return os.path.normpath(os.path.join(folder, path))  # noqa: PTH118


def forward_slashes(path: str) -> str:
    """A path as every system understands it: Windows writes "\\" between the parts."""
    return path.replace("\\", "/")


def _refuse_missing(entries: Sequence[Entry], table: Path, task: str) -> None:
    missing = [entry for entry in entries if not os.path.isfile(entry.path)]  # noqa: PTH113
    if missing:
        first = missing[0]
        raise UserError(
            f"task {task!r}: {table}, line {first.line}: {missing_path(Path(first.path), 'image')}"
            + (f" ({len(missing)} of {len(entries)} images are missing)" if len(missing) > 1 else "")
        )


def missing_path(path: Path, kind: str) -> str:
    """Say that there is no such file or folder, up to where the path exists, and what was probably meant."""
    if os.path.exists(path):  # noqa: PTH110  (unlike a Path, it takes any text)
        return f"{str(path)!r} is no {kind}; check the path"
    parent = next(parent for parent in path.parents if os.path.isdir(parent) or parent == parent.parent)  # noqa: PTH112
    gone = path.relative_to(parent).parts[0]
    try:
        beside = [other.name for other in islice(parent.iterdir(), _LOOKED_AT)]
    except OSError:
        beside = []
    close = nearest(gone, beside)
    hint = f"did you mean {' or '.join(map(repr, close))}?" if close else "check the path"
    return f"there is no {kind} {str(path)!r}: {parent} holds no {gone!r}; {hint}"


def shown(names: Sequence[str]) -> str:
    """The first few names, for a message of one line."""
    return ", ".join(map(repr, names[:10])) + (f", ... ({len(names)})" if len(names) > 10 else "")
