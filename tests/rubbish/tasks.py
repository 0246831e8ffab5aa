"""A user's own tasks: their description, their folders, and their tables."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

import train
from tests.dassl.data.toy import write_image
from tests.rubbish.case import Bench, Case, drawn, mangled

_FOLDER = {"name": "kind", "folder": "pets"}
_TABLE = {"name": "kind", "table": "list.csv"}
_CLASSES = ("cat", "dog")
_EACH = 4
_DESCRIPTIONS: dict[str, tuple[Any, tuple[str, ...]]] = {
    "a text": ("pets", ("DATASET.TASKS",)),
    "a mapping": ({"name": "x"}, ("DATASET.TASKS",)),
    "an entry that is a text": (["pets"], ("entry 1",)),
    "an entry that is null": ([None], ("entry 1",)),
    "an empty entry": ([{}], ("entry 1",)),
    "nothing": ([], ("DATASET.TASKS",)),
    "an unknown field": ([{**_FOLDER, "fodler": "x"}], ("fodler", "folder")),
    "a field that is a number": ([{**_FOLDER, 5: "x"}], ("5",)),
    "a field with an escape": ([{**_FOLDER, "\x1b[31m": "x"}], ("\\x1b[31m",)),
    "no name": ([{"folder": "pets"}], ("name",)),
    "an empty name": ([{"name": "", "folder": "pets"}], ("name",)),
    "a name of blanks": ([{"name": "   ", "folder": "pets"}], ("name",)),
    "a name with an escape": ([{"name": "\x1b[31mred", "folder": "pets"}], ("\\x1b[31mred",)),
    "a name with a line break": ([{"name": "two\nlines", "folder": "pets"}], ("two\\nlines",)),
    "a name that turns": ([{"name": "\u202etxt", "folder": "pets"}], ("\\u202etxt",)),
    "a name with a NUL": ([{"name": "a\0b", "folder": "pets"}], ("a\\x00b",)),
    "a name that is a list": ([{"name": ["x"], "folder": "pets"}], ("name",)),
    "a name that is true": ([{"name": True, "folder": "pets"}], ("name",)),
    "the same name twice": ([_FOLDER, _FOLDER], ("kind", "same name")),
    "two sources": ([{**_FOLDER, "table": "x.csv"}], ("folder", "table")),
    "no source": ([{"name": "x"}], ("folder, table, dataset",)),
    "a folder that is not there": ([{"name": "x", "folder": "pest"}], ("pest", "pets")),
    "a folder that is a file": ([{"name": "x", "folder": "pets/cat/0.png"}], ("0.png",)),
    "a folder with a NUL": ([{"name": "x", "folder": "a\0b"}], ("a\\x00b",)),
    "a folder of 3,000 characters": ([{"name": "x", "folder": "f" * 3000}], ("fff",)),
    "a metric that is none": ([{**_FOLDER, "metric": "accuracy"}], ("metric", "accuracy")),
    "a template without a place": ([{**_FOLDER, "template": "a photo"}], ("template",)),
    "a template with code": ([{**_FOLDER, "template": "{} {0.__class__}"}], ("template",)),
    "a template that is a list": ([{**_FOLDER, "template": ["{}"]}], ("template",)),
    "classes as a text": ([{**_FOLDER, "classes": "cat"}], ("classes",)),
    "classes with a double": ([{**_FOLDER, "classes": ["cat", "cat"]}], ("cat", "twice")),
    "classes that are not there": ([{**_FOLDER, "classes": ["cat", "dog", "cow"]}], ("cow",)),
    "a class left out": ([{**_FOLDER, "classes": ["cat"]}], ("dog",)),
    "a renamed class that is not there": ([{**_FOLDER, "classes": {"cow": "bull"}}], ("cow",)),
    "a class that is true": ([{**_FOLDER, "classes": [True, "dog"]}], ("classes",)),
    "a class that is nothing": ([{**_FOLDER, "classes": {"cat": ""}}], ("classes",)),
    "a class with an escape": ([{**_FOLDER, "classes": {"cat": "\x1b[31m"}}], ("\\x1b[31m",)),
    "all classes one": ([{**_FOLDER, "classes": {"cat": "pet", "dog": "pet"}}], ("pet",)),
    "ratios as a text": ([{**_FOLDER, "ratios": "all"}], ("ratios",)),
    "ratios that are too many": ([{**_FOLDER, "ratios": [0.5, 0.5, 0.5, 0.5]}], ("ratios",)),
    "ratios that add up to 2": ([{**_FOLDER, "ratios": [1, 0, 1]}], ("ratios",)),
    "ratios below 0": ([{**_FOLDER, "ratios": [1.5, -1, 0.5]}], ("ratios",)),
    "ratios that are no numbers": ([{**_FOLDER, "ratios": [float("nan"), 0.5, 0.5]}], ("ratios",)),
    "ratios of an unknown part": ([{**_FOLDER, "ratios": {"tset": 1}}], ("tset",)),
    "a column for a folder": ([{**_FOLDER, "label": "x"}], ("label",)),
    "a data set that is none": ([{"dataset": "../x"}], ("../x",)),
    "its own data set": ([{"dataset": "MyTasks"}], ("MyTasks",)),
    "a table that is not there": ([{"name": "x", "table": "lsit.csv"}], ("lsit.csv",)),
    "a table that is a folder": ([{"name": "x", "table": "pets"}], ("pets",)),
    "a table of an unknown kind": ([{"name": "x", "table": "pets/cat/0.png"}], ("0.png",)),
}
_ROWS = [f"pets/{name}/{n}.png,{name}" for name in _CLASSES for n in range(_EACH)]
_GOOD = "image,label\n" + "\n".join(_ROWS) + "\n"
_TABLES: dict[str, tuple[str | bytes, tuple[str, ...]]] = {
    "empty": ("", ("list.csv",)),
    "only a heading": ("image,label\n", ("list.csv",)),
    "no heading": ("\n".join(_ROWS), ("list.csv", "image")),
    "a missing column": ("image,lable\n" + "\n".join(_ROWS), ("label", "lable")),
    "a column twice": ("image,label,label\n" + "\n".join(f"{row},x" for row in _ROWS), ("label",)),
    "a row that is too long": (_GOOD + "pets/cat/0.png,cat,too,many\n", ("line 10",)),
    "an image that is not there": (_GOOD + "pets/cat/99.png,cat\n", ("99.png", "line 10")),
    "an image with an escape": (_GOOD + "pets/\x1b[31m.png,cat\n", ("line 10",)),
    "an image with a NUL": (_GOOD + "pets/a\0b.png,cat\n", ("line 10",)),
    "an image of 3,000 characters": (_GOOD + f"{'i' * 3000},cat\n", ("line 10",)),
    "an image that is a folder": (_GOOD + "pets/cat,cat\n", ("line 10",)),
    "an image on a Windows drive": (_GOOD + "C:\\x.png,cat\n", ("line 10",)),
    "an empty image": (_GOOD + ",cat\n", ("line 10",)),
    "a web address": (_GOOD + "http://127.0.0.1/x.png,cat\n", ("line 10",)),
    "two labels of an image": (_GOOD + "pets/cat/0.png,dog\n", ("line 2", "line 10")),
    "a missing value": (_GOOD + "pets/cat/0.png,N/A\n", ("N/A", "line 10")),
    "an error of a spreadsheet": (_GOOD + "pets/cat/0.png,#REF!\n", ("#REF!", "line 10")),
    "a label with an escape": (_GOOD.replace(",dog", ",\x1b[31mdog"), ("\\x1b[31mdog",)),
    "a label with a turn": (_GOOD.replace(",dog", ",\u202edog"), ("\\u202edog",)),
    "a label of two lines": (_GOOD.replace(",dog", ',"d\nog"'), ("d\\nog",)),
    "labels that read alike": (_GOOD.replace("1.png,dog", "1.png,Cat"), ("Cat",)),
    "one class": (_GOOD.replace(",dog", ",cat"), ("cat",)),
    "an open quote": (_GOOD + '"pets/cat/0.png,cat\n', ("list.csv",)),
    "a field of 200,000 characters": (_GOOD + f'pets/cat/0.png,"{"x" * 200_000}"\n', ("list.csv",)),
    "a word for a part": ("image,label,split\n" + "\n".join(f"{row},tarin" for row in _ROWS), ("tarin",)),
    "UTF-16 that is cut": (_GOOD.encode("utf-16")[:-1], ("list.csv",)),
    "Latin-1": (_GOOD.replace("dog", "d\xf6g").encode("latin-1"), ("list.csv",)),
    "zero bytes": (b"\0" * 500, ("list.csv",)),
    "a picture": (b"\x89PNG\r\n\x1a\n" + bytes(range(256)), ("list.csv",)),
    "a spreadsheet": (b"PK\x03\x04" + bytes(200), ("list.csv",)),
    "a web page": ("<!DOCTYPE html>\n<html></html>\n", ("list.csv",)),
    "only line breaks": ("\n" * 1000, ("list.csv",)),
    "10,000 columns": (",".join(f"c{n}" for n in range(10_000)) + "\n", ("image",)),
}
_LINES = [json.dumps({"image": row.split(",")[0], "label": row.split(",")[1]}) for row in _ROWS]
_JSONL: dict[str, tuple[str | bytes, tuple[str, ...]]] = {
    "empty": ("", ("list.jsonl",)),
    "a line that is cut": ("\n".join([*_LINES, '{"image": "pets']), ("line 9",)),
    "a list": ("\n".join([*_LINES, "[1, 2]"]), ("line 9",)),
    "a number": ("\n".join([*_LINES, "5"]), ("line 9",)),
    "a label that is a list": ("\n".join([*_LINES, '{"image": "pets/cat/0.png", "label": ["x"]}']), ("line 9",)),
    "a label that is true": ("\n".join([*_LINES, '{"image": "pets/cat/0.png", "label": true}']), ("line 9",)),
    "an image that is a number": ("\n".join([*_LINES, '{"image": 5, "label": "cat"}']), ("line 9",)),
    "a key twice": ("\n".join([*_LINES, '{"image": "pets/cat/0.png", "label": "cat", "label": "dog"}']), ("line",)),
    "NaN": ("\n".join([*_LINES, '{"image": "pets/cat/0.png", "label": NaN}']), ("line 9",)),
    "half a character": ("\n".join([*_LINES, '{"image": "pets/cat/\\udce9.png", "label": "cat"}']), ("line 9",)),
    "a label with half a character": ("\n".join(_LINES).replace('"dog"', '"d\\udce9"'), ("udce9",)),
    "a NUL in an image": ("\n".join([*_LINES, '{"image": "a\\u0000b", "label": "cat"}']), ("line 9",)),
    "a number of 5,000 digits": ("\n".join([*_LINES, f'{{"image": "x", "label": {"9" * 5000}}}']), ("line 9",)),
    "10,000 brackets": ("\n".join([*_LINES, "[" * 10_000]), ("line 9",)),
    "an array over all lines": ("[" + ",\n".join(_LINES) + "]", ("line 1",)),
    "no images": ("\n".join('{"label": "cat"}' for _ in range(3)), ("image",)),
    "a picture": (b"\x89PNG\r\n\x1a\n" + bytes(range(256)), ("list.jsonl",)),
}


def pictures(bench: Bench, classes: tuple[str, ...] = _CLASSES) -> Path:
    """A data root with a folder of pictures for each class."""
    root = bench.folder / "data"
    for label, name in enumerate(classes):
        for number in range(_EACH):
            write_image(root / "pets" / name / f"{number}.png", seed=label * _EACH + number)
    return root


def train_on(bench: Bench, tasks: Any, *flags: str) -> int:
    """The exit code of a run on own tasks."""
    content = yaml.safe_dump({"DATASET": {"NAME": "MyTasks", "TASKS": tasks}}, allow_unicode=True)
    path = bench.write("tasks.yaml", content)
    command = bench.lab.command("run", "--dataset-config-file", str(path), *(flags or ("--no-train",)), trainer="CoOp")
    start = command.index("DATASET.NAME")
    command[command.index("--root") + 1] = str(bench.folder / "data")
    return train.main(command[:start] + command[start + 2 :])


def _described(tasks: Any) -> Callable[[Bench], int]:
    def act(bench: Bench) -> int:
        pictures(bench)
        return train_on(bench, tasks)

    return act


def _listed(content: str | bytes, name: str = "list.csv") -> Callable[[Bench], int]:
    def act(bench: Bench) -> int:
        pictures(bench)
        bench.write(f"data/{name}", content)
        return train_on(bench, [{**_TABLE, "table": name}])

    return act


def _folders(change: Callable[[Path], object]) -> Callable[[Bench], int]:
    def act(bench: Bench) -> int:
        change(pictures(bench) / "pets")
        return train_on(bench, [_FOLDER])

    return act


def _named(name: str) -> Callable[[Path], object]:
    """Change the name of a class folder."""
    return lambda pets: (pets / "dog").rename(pets / name)


def _no_class(pets: Path) -> None:
    for name in _CLASSES:
        shutil.rmtree(pets / name)


def _link(pets: Path) -> None:
    (pets / "loop").symlink_to(pets)


def _links(pets: Path) -> None:
    for name, other in (("a", "b"), ("b", "a")):
        (pets / name).symlink_to(pets / other)


def _parts_file(content: str) -> Callable[[Bench], int]:
    def act(bench: Bench) -> int:
        pictures(bench)
        bench.write("data/split_my_tasks/parts.json", content)
        return train_on(bench, [_FOLDER])

    return act


_PARTS = {
    "empty": "",
    "cut": '{"images": {"pets/cat/0.png": "tra',
    "a list": "[]",
    "a number": "5",
    "an unknown part": '{"images": {"pets/cat/0.png": "tset"}}',
    "10,000 brackets": "[" * 10_000,
    "ratios that are none": '{"ratios": 5, "images": {}}',
    "images that are a list": '{"ratios": {}, "images": []}',
}

CASES = [
    *(Case("task yaml", title, _described(tasks), says=says) for title, (tasks, says) in _DESCRIPTIONS.items()),
    *(Case("CSV table", title, _listed(content), says=says) for title, (content, says) in _TABLES.items()),
    *(
        Case("CSV table", f"mangled ({n})", _listed(content), codes=(0, 2))
        for n, content in enumerate(drawn(mangled(_GOOD.encode()), 15))
    ),
    *(
        Case("JSONL table", title, _listed(content, "list.jsonl"), says=says)
        for title, (content, says) in _JSONL.items()
    ),
    *(
        Case("JSONL table", f"mangled ({n})", _listed(content, "list.jsonl"), codes=(0, 2))
        for n, content in enumerate(drawn(mangled("\n".join(_LINES).encode()), 15))
    ),
    Case("class folders", "empty class", _folders(lambda pets: (pets / "cow").mkdir()), says=("cow",)),
    Case("class folders", "no class", _folders(_no_class), says=("pets",)),
    Case("class folders", "one class", _folders(lambda pets: shutil.rmtree(pets / "dog")), says=("cat",)),
    Case("class folders", "a loop of a link", _folders(_link), says=("loop",)),
    Case("class folders", "two links to each other", _folders(_links), codes=(0, 2)),
    Case("class folders", "an escape", _folders(_named("\x1b[31mdog")), says=("\\x1b[31mdog",)),
    Case("class folders", "a turn", _folders(_named("\u202edog")), says=("\\u202edog",)),
    Case("class folders", "a line break", _folders(_named("d\nog")), says=("d\\nog",)),
    Case("class folders", "a carriage return", _folders(_named("d\rog")), says=("d\\rog",)),
    Case("class folders", "not UTF-8", _folders(_named("d\udce9g")), says=("UTF-8",)),
    Case("class folders", "blanks", _folders(_named("   ")), says=("'   '",)),
    Case("class folders", "an invisible name", _folders(_named("\u200b")), says=("\\u200b",)),
    Case("class folders", "two that read alike", _folders(_named("CAT")), says=("CAT",)),
    *(Case("parts.json", title, _parts_file(content), codes=(0, 2)) for title, content in _PARTS.items()),
]
