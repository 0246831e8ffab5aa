"""Split files of a data set, in both formats, and the record of a few-shot subset beside them."""

import copy
import json
from collections.abc import Callable
from typing import Any

import train
from tests.dassl.data.toy import ToyPets
from tests.rubbish.case import Bench, Case, drawn, mangled

Content = dict[str, Any]
_NAME = ToyPets.split_names()[0]
_COOP = {
    part: [[f"{part}/kind{k}_{n}.png", k, ("cat", "dog", "parrot")[k]] for k in range(3) for n in range(3)]
    for part in ("train", "val", "test")
}
_META = {
    "taskid2cname": [["cat", "dog", "parrot"]], "taskid2tname": ["pet"], "taskid2desc": ["toy"],
    "taskid2type": ["sl"], "taskid2metric": ["mean_acc"], "taskid2template": ["a photo of a {}."],
}  # fmt: skip
_OWN = {**{part: [[path, [label], [0]] for path, label, _ in items] for part, items in _COOP.items()}, "meta": _META}

_RAW: dict[str, str | bytes] = {
    "empty": "",
    "a list": "[]",
    "a number": "5",
    "null": "null",
    "a text": '"train"',
    "an empty object": "{}",
    "cut": json.dumps(_COOP)[:200],
    "two objects": json.dumps(_COOP) + json.dumps(_COOP),
    "a comment": "// split\n" + json.dumps(_COOP),
    "10,000 brackets": "[" * 10_000,
    "10,000 levels": '{"train":' * 10_000,
    "a number of 5,000 digits": '{"train": [["x", ' + "9" * 5000 + ', "c"]]}',
    "Latin-1": '{"train": "\xe9"}'.encode("latin-1"),
    "UTF-16": json.dumps(_COOP).encode("utf-16"),
    "zero bytes": b"\0" * 500,
    "a picture": b"\x89PNG\r\n\x1a\n" + bytes(range(256)),
    "a web page": "<!DOCTYPE html>\n<html>Google Drive: quota exceeded</html>\n",
    "a pickle": b"\x80\x04\x95\x00.",
    "NaN": '{"train": NaN, "val": [], "test": []}',
    "a pointer of Git LFS": "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 5\n",
}


def _set(content: Content, *place: Any) -> Content:
    """A copy with the last of ``place`` at the place that the others name."""
    new = copy.deepcopy(content)
    *path, last, value = place
    node: Any = new
    for step in path:
        node = node[step]
    node[last] = value
    return new


def _without(content: Content, name: str) -> Content:
    return {key: value for key, value in content.items() if key != name}


_CHANGED: dict[str, tuple[Content, tuple[str, ...]]] = {
    "no train": (_without(_COOP, "train"), ("'train'",)),
    "no test": (_without(_COOP, "test"), ("'test'",)),
    "train is an object": (_set(_COOP, "train", {}), ("'train'",)),
    "train is null": (_set(_COOP, "train", None), ("'train'",)),
    "val is a text": (_set(_COOP, "val", "x"), ("'val'",)),
    "an item that is a text": (_set(_COOP, "train", 2, "abc"), ("entry 2", "'train'")),
    "an item that is a number": (_set(_COOP, "train", 2, 7), ("entry 2",)),
    "an item that is empty": (_set(_COOP, "train", 2, []), ("entry 2",)),
    "an item that is too long": (_set(_COOP, "train", 2, ["a", 0, "cat", 1]), ("entry 2",)),
    "a path that is a number": (_set(_COOP, "train", 2, 0, 5), ("entry 2",)),
    "a path that is empty": (_set(_COOP, "train", 2, 0, ""), ("",)),
    "a path with a NUL": (_set(_COOP, "train", 2, 0, "a\0b"), ("a\\x00b",)),
    "a path with an escape": (_set(_COOP, "train", 2, 0, "\x1b[31m.png"), ("\\x1b[31m.png",)),
    "a path that turns": (_set(_COOP, "train", 2, 0, "\u202egnp.exe"), ("\\u202egnp.exe",)),
    "a path of half a character": (_set(_COOP, "train", 2, 0, "\udce9.png"), ("\\udce9.png",)),
    "a path of 3,000 characters": (_set(_COOP, "train", 2, 0, "p" * 3000), ("ppp",)),
    "a path up": (_set(_COOP, "train", 2, 0, "../../../../../../etc/passwd"), ("passwd",)),
    "a whole path": (_set(_COOP, "train", 2, 0, "/etc/passwd"), ("/etc/passwd",)),
    "a device": (_set(_COOP, "train", 2, 0, "/dev/zero"), ("/dev/zero",)),
    "a Windows drive": (_set(_COOP, "train", 2, 0, "C:\\x.png"), ("entry 2", "Windows")),
    "a web address": (_set(_COOP, "train", 2, 0, "http://127.0.0.1/x.png"), ("127.0.0.1",)),
    "a missing image": (_set(_COOP, "train", 2, 0, "train/none.png"), ("none.png",)),
    "a label that is a text": (_set(_COOP, "train", 2, 1, "0"), ("entry 2",)),
    "a label that is true": (_set(_COOP, "train", 2, 1, True), ("entry 2",)),
    "a label that is half": (_set(_COOP, "train", 2, 1, 0.5), ("entry 2",)),
    "a label below 0": (_set(_COOP, "train", 2, 1, -1), ("entry 2",)),
    "a label of 64 bits": (_set(_COOP, "train", 2, 1, 2**64), ("label",)),
    "a gap in the labels": (_set(_set(_COOP, "train", 2, 1, 9), "train", 2, 2, "cow"), ("label 3",)),
    "a class name that is a number": (_set(_COOP, "train", 2, 2, 5), ("entry 2",)),
    "two names of a label": (_set(_COOP, "train", 2, 2, "cow"), ("cow",)),
    "meta is a list": (_set(_OWN, "meta", []), ("'meta'",)),
    "meta is null": (_set(_OWN, "meta", None), ("'meta'",)),
    "meta is empty": (_set(_OWN, "meta", {}), ("'meta'",)),
    "no tasks": (_set(_OWN, "meta", "taskid2cname", []), ("'meta'",)),
    "more tasks than names": (_set(_OWN, "meta", "taskid2cname", [["a"], ["b"]]), ("'meta'",)),
    "classes that are a text": (_set(_OWN, "meta", "taskid2cname", ["cats"]), ("'meta'",)),
    "a class that is null": (_set(_OWN, "meta", "taskid2cname", [["cat", None, "parrot"]]), ("'meta'",)),
    "no classes": (_set(_OWN, "meta", "taskid2cname", [[]]), ("'meta'",)),
    "a metric that is none": (_set(_OWN, "meta", "taskid2metric", ["accuracy"]), ("accuracy",)),
    "a metric that is a list": (_set(_OWN, "meta", "taskid2metric", [["mean_acc"]]), ("'meta'",)),
    "a template without a place": (_set(_OWN, "meta", "taskid2template", ["a photo"]), ("a photo",)),
    "a template with code": (_set(_OWN, "meta", "taskid2template", ["{0.__class__} {}"]), ("{0.__class__}",)),
    "a template with a hole": (_set(_OWN, "meta", "taskid2template", ["{} {name}"]), ("{name}",)),
    "a task that is a list": (_set(_OWN, "meta", "taskid2tname", [["pet"]]), ("'meta'",)),
    "labels that are no list": (_set(_OWN, "train", 2, 1, 0), ("entry 2",)),
    "tasks that are no list": (_set(_OWN, "train", 2, 2, 0), ("entry 2",)),
    "more labels than tasks": (_set(_OWN, "train", 2, 1, [0, 1]), ("entry 2",)),
    "a task that is not there": (_set(_OWN, "train", 2, 2, [1]), ("entry 2",)),
    "a task below 0": (_set(_OWN, "train", 2, 2, [-1]), ("entry 2",)),
    "a label that is not there": (_set(_OWN, "train", 2, 1, [3]), ("entry 2",)),
    "a task twice": (_set(_set(_OWN, "train", 2, 1, [0, 1]), "train", 2, 2, [0, 0]), ("entry 2",)),
    "no images to train on": (_set(_OWN, "train", []), ("train",)),
    "no images to test on": (_set(_OWN, "test", []), ("test",)),
}


def _split(content: str | bytes) -> Callable[[Bench], int]:
    """A run on the toy pets with another split file."""

    def act(bench: Bench) -> int:
        root = bench.folder / "data"
        (root / "pets").mkdir(parents=True)
        (root / "pets" / ToyPets.image_dir).symlink_to(bench.lab.root / "pets" / ToyPets.image_dir)
        bench.write(f"data/pets/{_NAME}", content)
        command = bench.lab.command("run", "--no-train", dataset="ToyPets", trainer="CoOp")
        command[command.index("--root") + 1] = str(root)
        return train.main(command)

    return act


def _subset(content: str) -> Callable[[Bench], int]:
    """A run that meets a record of its few-shot subset which says something else."""

    def act(bench: Bench) -> int:
        code = _split(json.dumps(_OWN))(bench)
        assert code == 0, code
        records = list((bench.folder / "data/pets").rglob("split_fewshot_mt/*"))
        assert records, list((bench.folder / "data/pets").rglob("*"))
        for path in records:
            path.write_text(content, encoding="utf-8")
        command = bench.lab.command("other", "--no-train", dataset="ToyPets", trainer="CoOp")
        command[command.index("--root") + 1] = str(bench.folder / "data")
        return train.main(command)

    return act


CASES = [
    *(Case("split file", title, _split(content), says=(_NAME,)) for title, content in _RAW.items()),
    *(
        Case("split file", title, _split(json.dumps(content)), says=says) for title, (content, says) in _CHANGED.items()
    ),
    *(
        Case("split file", f"mangled ({n})", _split(content), codes=(0, 2))
        for n, content in enumerate(drawn(mangled(json.dumps(_OWN).encode()), 15))
    ),
    *(
        Case("subset file", title, _subset(content), codes=(0, 2))
        for title, content in {
            "empty": "", "cut": '{"digest": "12', "a list": "[]", "a wrong digest": '{"digest": "0", "train": []}',
            "10,000 brackets": "[" * 10_000, "a number": "5",
        }.items()
    ),
]  # fmt: skip
