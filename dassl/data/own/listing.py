"""List a user's images with their labels: trees of folders, and CSV, TSV and JSONL tables."""

import csv
import io
import json
import logging
import os
import re
import unicodedata
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import combinations, islice
from pathlib import Path
from typing import Any

from dassl.data.filekinds import IMAGE_ENDINGS
from dassl.data.own.cells import NO_LABEL, LabelCells
from dassl.data.own.splitnames import nearest_split, split_of
from dassl.utils.errors import UserError
from dassl.utils.registry import nearest

logger = logging.getLogger(__name__)

# Picture formats that are not read.
_OTHER_PICTURES = (
    ".jp2",
    ".j2k",
    ".tga",
    ".psd",
    ".svg",
    ".dng",
    ".cr2",
    ".cr3",
    ".nef",
    ".arw",
    ".raf",
    ".orf",
    ".rw2",
)
# Folders written by runs, which may lie among the class folders.
OWN_FOLDERS = ("split_my_tasks", "split_fewshot_mt")
# Folders and files made by systems, besides hidden ones; in lower case.
_SYSTEM = {
    *("@eadir", "@tmp", "@recycle", "@recently-snapshot", "@__thumb", "@sharebin", "#recycle", "#snapshot"),
    *("recycler", "recycled", "system volume information", "lost+found", "found.000", "thumbs.db", "desktop.ini"),
    *("__macosx", "network trash folder", "temporary items", "icon\r", "__pycache__"),
}
_LINK_BYTES = 1024
_FEW = 6  # with more folders than this, none is a split: there are three kinds
_LOOKED_AT = 10_000  # names in a folder that are compared with a missing one
_DELIMITERS = ",;\t|"
_DELIMITER_LINE = re.compile(r"""\s*"?sep\s*=([^\w\s"]|\t)""", re.IGNORECASE)
# What programs write for a missing value; "none" is a class in many tables of defects.
_MISSING = {"nan", "na", "n/a", "n.a.", "null", "nat", "<na>", "#n/a", "#na", "#null!", "#ref!", "#value!", "#name?"}
_WINDOWS_DRIVE = re.compile(r"[A-Za-z]:/")

Row = tuple[int, dict[str, str]]  # line number in the file, cells by column


@dataclass(frozen=True, slots=True)
class Entry:
    """One image with its label.

    Attributes:
        path: absolute path.
        label: as the folder or the table spells it; NO_LABEL for an image without one, in a multi-label task.
        split: "train", "val" or "test" where the data says it, else "".
        line: line of the table; 0 for folders.
        group: name of the images that share a split with it; "" if it stands alone, None if that is not known yet.
    """

    path: str
    label: str
    split: str = ""
    line: int = 0
    group: str | None = None


# -- trees of folders ------------------------------------------------------------------------------------------


@dataclass
class _LeftOut:
    """Content of a tree that belongs to no class."""

    files: list[Path] = field(default_factory=list)  # not images
    loose: list[Path] = field(default_factory=list)  # images in no class folder
    system: list[Path] = field(default_factory=list)  # folders of NAS and operating systems, and what is hidden
    again: list[Path] = field(default_factory=list)  # links to folders that are read anyway

    def report(self, task: str) -> None:
        """Warn of what was left out, a line for each kind."""
        links = {path: target for path in self.files if (target := _lost_link(path))}
        if links:
            path, target = next(iter(links.items()))
            logger.warning(
                "Task %r: %d links have become texts, as some archives and Git on Windows leave them, and the images "
                "behind them are left out, e.g. %s -> %s; make them links or folders again",
                task,
                len(links),
                path,
                target,
            )
        others = [path for path in self.files if path.suffix.lower() in _OTHER_PICTURES and not _read_beside(path)]
        if others:
            endings = ", ".join(sorted({path.suffix.lower() for path in others}))
            logger.warning(
                "Task %r: left out %d pictures of formats that are not read (%s), e.g. %s; save them as JPEG or PNG",
                task,
                len(others),
                endings,
                others[0],
            )
        if self.files:
            logger.info("Task %r: skipped %d files that are no images, e.g. %s", task, len(self.files), self.files[0])
        if self.system:
            names = shown(sorted({path.name for path in self.system}))
            logger.info("Task %r: left out %d folders and files of the system: %s", task, len(self.system), names)
        if self.again:
            logger.info(
                "Task %r: did not follow %d links to folders that are read anyway, e.g. %s",
                task,
                len(self.again),
                self.again[0],
            )
        if self.loose:
            logger.warning(
                "Task %r: left out %d images that lie in no class folder, e.g. %s; put them into the folders of their "
                "classes, or elsewhere",
                task,
                len(self.loose),
                self.loose[0],
            )


def list_folder(folder: Path, task: str, *, classes: Collection[str] = (), only_tested: bool = False) -> list[Entry]:
    """Images of a tree ``folder/CLASS/...``, or ``folder/SPLIT/CLASS/...`` with splits train, val, test.

    Splits have many names (``dassl.data.own.splitnames``). Links to folders are followed. Files that are not images,
    system folders and names that start with "." are left out and counted in the log.

    Args:
        task: name of the task, for messages.
        classes: labels that are classes even if they look like names of splits.

    Raises:
        UserError: the folder does not exist or has no class folder; a class or a split has no image; another folder
            lies beside the splits; or folders look like splits with unknown names.
    """
    if not folder.is_dir():
        raise UserError(f"task {task!r}: {missing_path(folder, 'folder')}")
    left = _LeftOut()
    try:
        groups = _part_folders(folder, task, classes, only_tested=only_tested) or [(folder, "")]
        entries = [entry for path, split in groups for entry in _class_folders(path, split, left)]
        _refuse_empty(groups, entries, left, folder, task)
    except OSError as error:
        raise UserError(f"task {task!r}: {error.filename} cannot be read ({error.strerror})") from error
    _refuse_other_encodings(entries, task)
    _warn_of_inner_splits(entries, groups, folder, task)
    left.report(task)
    return entries


def _refuse_empty(
    groups: Sequence[tuple[Path, str]], entries: Sequence[Entry], left: _LeftOut, folder: Path, task: str
) -> None:
    for place, split in groups:
        loose = [path for path in left.loose if path.parent == place]
        if split and loose and not _folders(place) and entries:
            raise UserError(
                f"task {task!r}: the {len(loose)} images in {place} lie in no class folder; put them into folders with "
                f"the names of their classes, or move {place.name!r} away"
            )
    classes = {text_form(path.name) for place, _ in groups for path in _folders(place)}
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


def _refuse_other_encodings(entries: Sequence[Entry], task: str) -> None:
    for entry in entries:
        try:
            entry.path.encode()
        except UnicodeEncodeError as error:
            name = os.fsencode(entry.path)
            raise UserError(f"task {task!r}: the name {name!r} is not UTF-8; rename the file or folder") from error


def _part_folders(folder: Path, task: str, classes: Collection[str], *, only_tested: bool) -> list[tuple[Path, str]]:
    """The folders of the splits, if the folders in ``folder`` are splits and not classes."""
    places = _folders(folder)
    found = [(path, "" if text_form(path.name) in classes else split_of(path.name)) for path in places]
    splits = [split for _, split in found]
    tested = only_tested and "test" in splits and all(splits) and all(_class_names(path) for path, _ in found)
    if not tested and ("train" not in splits or len({*splits, ""}) < 3):
        _refuse_hidden_splits([path for path in places if text_form(path.name) not in classes], folder, task)
        return []
    odd = _beside_splits(found)
    if odd:
        logger.warning(
            "Task %r: left out %d folders beside train, val and test in %s, which hold none of the class folders: %s; "
            "move them away if they do not belong to the data",
            task,
            len(odd),
            folder,
            shown([path.name for path in odd]),
        )
        found = [(path, split) for path, split in found if path not in odd]
    for path, split in found:
        if not split or splits.count(split) > 1:
            others = [other.name for other, its in found if split and its == split and other != path]
            both = f" ({path.name!r} and {others[0]!r} would both be {split})" if others else ""
            raise UserError(
                f"task {task!r}: {folder} is divided into train, val and test, and {path.name!r} does not belong to "
                f"that{both}; move or rename it"
            )
    return found


def _beside_splits(found: Sequence[tuple[Path, str]]) -> list[Path]:
    """Folders beside the splits that are neither a mistyped split nor one under another name, such as "notes"."""
    classes = {name for path, split in found if split for name in _class_names(path)}
    odd = [path for path, split in found if not split and not nearest_split(path.name)]
    odd = [path for path in odd if not classes & _class_names(path)]
    return odd if classes and 2 * len(odd) < len(found) else []


def _refuse_hidden_splits(places: Sequence[Path], folder: Path, task: str) -> None:
    """Refuse folders that look like splits under unknown names and would be taken for classes.

    Names alone prove little ("train" and "van" are vehicles), so folders count as splits only if they hold folders.
    """
    if len(places) > _FEW:
        return
    inside = {path: _class_names(path) for path in places}
    for first, second in combinations(places, 2):
        meant = {path: split_of(path.name) or nearest_split(path.name) for path in (first, second)}
        same = sorted(inside[first] & inside[second])
        alike = len(same) > 1 and 2 * len(same) >= len(inside[first] | inside[second])
        both_named = all(meant.values()) and max(len(inside[first]), len(inside[second])) > 1
        what = f"task {task!r}: {first.name!r} and {second.name!r} in {folder}"
        what += f", which both hold the folders {shown(same)}," if same else ""
        remedy = f"name them with classes: {{{first.name}: NAME, {second.name}: NAME}}"
        if both_named or (alike and any(meant.values())):
            slip = next((path.name for path, split in meant.items() if split and not split_of(path.name)), "")
            hint = f" (is {slip!r} meant to be {nearest_split(slip)!r}?)" if slip else ""
            raise UserError(
                f"{what} look like splits of the data and not like classes; call splits train, val and test{hint}, or, "
                f"if these are classes, {remedy}"
            )
        if alike and not all(map(split_of, same)):  # splits inside the classes have a warning of their own
            logger.warning("%s are taken for classes; call them train and test if they are splits, or %s", what, remedy)
            return


def _warn_of_inner_splits(
    entries: Sequence[Entry], groups: Sequence[tuple[Path, str]], folder: Path, task: str
) -> None:
    """Warn that splits inside the class folders (CLASS/train, CLASS/test) have no effect."""
    if groups[0][1]:
        return
    start = len(os.path.join(folder, ""))  # noqa: PTH118  (a Path for each image costs time)
    inner = {steps[1] for entry in entries if len(steps := entry.path[start:].split(os.sep, 2)) > 2}
    names = sorted(name for name in inner if split_of(name))
    if len({split_of(name) for name in names}) > 1:
        logger.warning(
            "Task %r: the class folders in %s hold the folders %s, which are not followed as splits: their images are "
            "mixed and divided anew; put the classes into folders train and test, or name the splits in a table",
            task,
            folder,
            shown(names),
        )


def _class_names(folder: Path) -> set[str]:
    """Names of the folders in a folder without images of its own."""
    names = [path.name for path in folder.iterdir() if not of_the_system(path.name)]
    if any(name.lower().endswith(IMAGE_ENDINGS) for name in names):
        return set()
    return {text_form(path.name) for path in _folders(folder)}


def _class_folders(folder: Path, split: str, left: _LeftOut) -> list[Entry]:
    for path in sorted(folder.iterdir()):
        if of_the_system(path.name):
            left.system.append(path)
        elif path.is_file():
            (left.loose if path.name.lower().endswith(IMAGE_ENDINGS) else left.files).append(path)
    entries = []
    for path in _folders(folder):
        images = _images(path, left, above=folder)
        entries += [Entry(image, text_form(path.name), split) for image in images]
    return entries


def _folders(folder: Path) -> list[Path]:
    return sorted(p for p in folder.iterdir() if p.is_dir() and not of_the_system(p.name) and p.name not in OWN_FOLDERS)


def _images(folder: Path, left: _LeftOut, *, above: Path) -> Iterator[str]:
    """Images below a class folder, sorted by their paths.

    Links to folders are followed, but into each folder once and not back into the one ``above`` the class folders.
    """
    seen = {_place(above)}
    for place, folders, files in os.walk(folder, followlinks=True):
        if _place(place) in seen:
            folders.clear()
            left.again.append(Path(place))
            continue
        seen.add(_place(place))
        left.system += [Path(place, name) for name in (*folders, *files) if of_the_system(name)]
        folders[:] = sorted(name for name in folders if not of_the_system(name))
        for name in sorted(name for name in files if not of_the_system(name)):
            if name.lower().endswith(IMAGE_ENDINGS):
                yield os.path.join(place, name)  # noqa: PTH118  (a Path for each image costs time)
            else:
                left.files.append(Path(place, name))


def _read_beside(path: Path) -> bool:
    """Whether the same picture lies there in a readable format, as cameras often store both."""
    return any(path.with_suffix(form(ending)).exists() for ending in IMAGE_ENDINGS for form in (str.lower, str.upper))


def _lost_link(path: Path) -> str:
    """The folder that a file names if it is a link stored as text; "" for any other file."""
    try:
        if path.stat().st_size > _LINK_BYTES:
            return ""
        target = path.read_text(encoding="utf-8").strip()
        return target if set("/\\") & set(target) and (path.parent / forward_slashes(target)).is_dir() else ""
    except (OSError, ValueError):
        return ""


def _place(folder: str | Path) -> tuple[int, int]:
    """A key that tells whether two paths lead to the same folder."""
    stat = os.stat(folder)  # noqa: PTH116
    return stat.st_dev, stat.st_ino


def of_the_system(name: str) -> bool:
    """Whether a file or folder is not the user's: hidden, made by a NAS, a bin, or from an archive of a Mac."""
    return name.startswith((".", "$")) or name.casefold() in _SYSTEM


def text_form(name: str) -> str:
    """A text in composed letters (NFC), because file names of a Mac are decomposed."""
    return unicodedata.normalize("NFC", name)


# -- tables ----------------------------------------------------------------------------------------------------


def list_table(
    table: Path,
    task: str,
    *,
    image: str,
    labels: LabelCells,
    split: str | None = None,
    images: Path | None = None,
    classes: Collection[str] = (),
    group: str = "",
) -> list[Entry]:
    """Images of a table, an entry for each label of a row; rows without labels do not belong to the task.

    A path is also found if the disk uses another normal form of Unicode.

    Args:
        task: name of the task, for messages.
        image, split: names of the columns; ``split`` None: column "split" if there is one. An empty cell in it leaves
            the split open.
        labels: how labels stand in a row. A row that says that its image has none is an entry with NO_LABEL.
        images: folder that the paths are relative to; default: the folder of the table.
        classes: labels that are classes even if they look like missing values, such as "nan".
        group: name of the column of groups, if there is such a column.

    Raises:
        UserError: the table cannot be read, lacks a column, names a missing image, or has a label that looks like a
            missing value; the message has the line.
    """
    columns, rows = _read_rows(table, task)
    image, group = text_form(image), text_form(group)
    split = text_form(split) if split else split
    if not columns:
        raise UserError(f"task {task!r}: {table} is empty; its first line names the columns")
    for column in (image, *labels.columns, *([split] if split else [])):
        if column not in columns:
            close = nearest(column, columns)
            hint = f"did you mean {' or '.join(map(repr, close))}?" if close else f"it has {shown(columns)}"
            raise UserError(f"task {task!r}: {table} has no column {column!r}; {hint}")
    split = split or ("split" if "split" in columns else None)
    folder = str(images or table.parent)
    entries = []
    listed: dict[str, dict[str, str]] = {}
    read = labels.reader([row for _, row in rows], f"task {task!r}: {table}")
    for line, row in rows:
        place = f"task {task!r}: {table}, line {line}"
        names = read(row, place)
        if names is not None:
            its_split = _cell_split(row[split], place) if split else ""
            names = tuple(_label(name, classes, place) for name in names) or (NO_LABEL,)
            path = on_disk(_image_path(row[image], folder, place), listed)
            its_group = text_form(row[group]) if group in columns else None
            entries += [Entry(path, name, its_split, line, its_group) for name in names]
    if not entries:
        raise UserError(
            f"task {task!r}: {table} has no row with a label in column {', '.join(map(repr, labels.columns))}"
        )
    _refuse_missing(entries, table, task)
    return entries


def _label(cell: str, classes: Collection[str], place: str) -> str:
    name = text_form(cell)
    if name.casefold() in _MISSING and name not in classes:
        raise UserError(
            f"{place}: label {name!r} looks like a missing value; empty the cell, or, if it is a class, name it"
            f' with classes: {{"{name}": NAME}}'
        )
    return name


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
        raise UserError(f"task {task!r}: {table} is no readable table; save it as .csv, .tsv or .jsonl")
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
    lines = re.split(r"\r\n|\r|\n", text)
    first, header = next(((n, line) for n, line in enumerate(lines, 1) if line.strip()), (1, ""))
    said = _DELIMITER_LINE.match(header)  # a line for Excel
    delimiter = said[1] if said else max(_DELIMITERS, key=header.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    columns: list[str] = []
    rows: list[Row] = []
    try:
        for cells in reader:
            cells = [cell.strip() for cell in cells]
            if not any(cells) or (said and not columns and reader.line_num == first):
                continue
            if not columns:
                columns = _columns(list(map(text_form, cells)))
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
            cells = {text_form(name.strip()): _cell(value, name) for name, value in row.items()}
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


def _cell_split(cell: str, place: str) -> str:
    if not cell:
        return ""
    split = split_of(cell)
    if not split:
        close = nearest_split(cell)
        hint = f"did you mean {close!r}?" if close else "use train, val or test, or leave the cell empty"
        raise UserError(f"{place}: unknown split {cell!r}; {hint}")
    return split


def _image_path(cell: str, folder: str, place: str) -> str:
    """Absolute path of a table's cell; both kinds of slash are understood."""
    if not cell or "\0" in cell:
        raise UserError(f"{place}: has a label but no image path; fill it in or empty the label")
    path = forward_slashes(cell)
    if os.name != "nt" and _WINDOWS_DRIVE.match(path):
        raise UserError(f"{place}: {cell!r} is a path on a Windows drive; write it relative to {folder}")
    return os.path.normpath(os.path.join(folder, path))  # noqa: PTH118


def forward_slashes(path: str) -> str:
    """A path with slashes that every system understands; Windows writes backslashes."""
    return path.replace("\\", "/")


def on_disk(path: str, listed: dict[str, dict[str, str]] | None = None) -> str:
    """The path of an existing file or folder in its normal form of Unicode; else the path as it is.

    Args:
        listed: names in folders by their composed form; remembers earlier calls.
    """
    if path.isascii() or os.path.exists(path):  # noqa: PTH110
        return path
    listed = {} if listed is None else listed
    parent, name = os.path.split(path)
    if parent == path:
        return path
    parent = on_disk(parent, listed)
    if parent not in listed:
        try:
            listed[parent] = {text_form(other): other for other in os.listdir(parent)}  # noqa: PTH208
        except (OSError, ValueError):
            listed[parent] = {}
    return os.path.join(parent, listed[parent].get(text_form(name), name))  # noqa: PTH118


def _refuse_missing(entries: Sequence[Entry], table: Path, task: str) -> None:
    missing = [entry for entry in entries if not os.path.isfile(entry.path)]  # noqa: PTH113
    if missing:
        first = missing[0]
        raise UserError(
            f"task {task!r}: {table}, line {first.line}: {missing_path(Path(first.path), 'image')}"
            + (f" ({len(missing)} of {len(entries)} images are missing)" if len(missing) > 1 else "")
        )


def missing_path(path: Path, kind: str) -> str:
    """A message about a missing file or folder: how far the path exists, and the nearest names."""
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
