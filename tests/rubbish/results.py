"""Results and logs of runs, as parse_test_res.py reads them, and its flags."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import parse_test_res
from tests.dassl.report.trees import write_run
from tests.rubbish.case import Bench, Case, drawn, mangled
from tests.rubbish.splits import _set

_FORMS = ("text", "markdown", "csv", "latex", "json")
_RAW: dict[str, str | bytes] = {
    "empty": "",
    "a list": "[]",
    "a number": "5",
    "null": "null",
    "an empty object": "{}",
    "cut": '{"format": 1, "mode": "tr',
    "another format": '{"format": 99}',
    "a format that is a list": '{"format": [1]}',
    "10,000 brackets": "[" * 10_000,
    "a number of 5,000 digits": '{"format": ' + "9" * 5000 + "}",
    "NaN": '{"format": NaN}',
    "Latin-1": '{"format": "\xe9"}'.encode("latin-1"),
    "zero bytes": b"\0" * 500,
    "a picture": b"\x89PNG\r\n\x1a\n" + bytes(range(256)),
    "a web page": "<!DOCTYPE html>\n<html></html>\n",
    "a merge conflict": "<<<<<<< HEAD\n{}\n=======\n{}\n>>>>>>> x\n",
}
# Places in a result and what they are replaced with; the field must be named.
_FIELDS: dict[str, tuple[Any, ...]] = {
    "a mode that is none": ("mode", "trian"),
    "a trainer that is a number": ("trainer", 5),
    "shots that are a text": ("shots", "4"),
    "shots that are half": ("shots", 0.5),
    "a seed that is true": ("seed", True),
    "a metric that is a text": ("metric", "60"),
    "a metric of 1e999": ("metric", 1e999),
    "a metric of 400 digits": ("metric", 10**400),
    "a metric that is a list": ("metric", [60]),
    "tasks that are an object": ("tasks", {}),
    "a task that is a text": ("tasks", 0, "pet"),
    "a task without a name": ("tasks", 0, {"index": 0}),
    "a name that is null": ("tasks", 0, "name", None),
    "a metric name that is a list": ("tasks", 0, "metric_name", []),
    "images that are a text": ("tasks", 0, "total", "many"),
    "a backbone that is a text": ("backbone", "RN50"),
    "a digest that is a number": ("backbone", "digest", 5),
    "seconds that are a list": ("seconds", []),
    "seconds that are a text": ("seconds", {"train": "long"}),
    "versions that are numbers": ("versions", {"torch": 2}),
    "memory that is null": ("memory", {"host_mib": None}),
    "warnings that are a text": ("warnings", "careful"),
    "a warning that is a number": ("warnings", [5]),
    "a device that is a list": ("device", ["cpu"]),
    "counts that are texts": ("counts", {"train": "12"}),
    "val that is a number": ("val", 5),
    "classes that are a number": ("classes", 5),
    "epochs that are infinite": ("epochs", 1e999),
}
_CONFIGS: dict[str, str | bytes] = {
    "empty": "",
    "a list": "- a\n",
    "cut": "OPTIM:\n  LR: [0.",
    "tabs": "OPTIM:\n\tLR: 1\n",
    "a million laughs": "a: &a [x,x,x,x,x,x,x,x,x]\n"
    + "".join(f"{n}: &{n} [{','.join([f'*{o}'] * 9)}]\n" for o, n in zip("abcdefgh", "bcdefghi", strict=True)),
    "a loop of aliases": "OPTIM: &a\n  LR: *a\n",
    "a Python object": "a: !!python/object/apply:os.system ['touch ../code-was-run']\n",
    "keys that are numbers": "1:\n  2: 3\n",
    "keys that are lists": "? [1, 2]\n: 3\n",
    "values that are lists": "TRAINER: [1, 2]\nDATASET: x\nMODEL: 5\n",
    "tasks that are odd": "DATASET:\n  NAME: MyTasks\n  TASKS: [1, [2], {name: [3]}, null]\n",
    "an escape": 'TRAINER:\n  NAME: "\\e[31mX"\nMODEL:\n  BACKBONE:\n    NAME: "\\e[31mX"\n',
    "a picture": b"\x89PNG\r\n\x1a\n" + bytes(range(256)),
    "10,000 brackets": "a: " + "[" * 10_000,
    "a date": "OPTIM:\n  LR: 2001-01-01\nDATASET:\n  NUM_SHOTS: 2001-99-99\n",
}
_END = "Finished training\n=> result\n"
_LOGS: dict[str, str | bytes] = {
    "empty": "",
    "not finished": "epoch [1/50][1/2]\n",
    "no figure": _END,
    "a figure that is a word": _END + "* overall_metric: many%\n",
    "a figure that is NaN": _END + "* overall_metric: nan%\n",
    "a figure that is infinite": _END + "* overall_metric: inf%\n",
    "a figure of 5,000 digits": _END + f"* overall_metric: {'9' * 5000}%\n",
    "a figure of Arabic digits": _END + "* overall_metric: \u0666\u0660x%\n",
    "a figure with an escape": _END + "* overall_metric: \x1b[31m60%\n",
    "a figure before the end": "* overall_metric: 60%\n" + "Finished training\n",
    "zero bytes": b"\0" * 500,
    "UTF-16": (_END + "* overall_metric: 60%\n").encode("utf-16"),
    "one line of a million characters": "x" * 1_000_000,
    "a line that makes a pattern slow": _END + "* " + "a" * 50_000 + "\n",
    "brackets that make a pattern slow": _END + "* task: 0 (" + "(" * 30_000 + "\n",
}
_GOOD_LOGS: dict[str, str] = {
    "a task with an escape": "* task: 0 (\x1b[31mred)\ttotal: 12\tmetric: 50.00%\n",
    "a task that turns": "* task: 0 (\u202etxt)\ttotal: 12\tmetric: 50.00%\n",
    "a task number of 5,000 digits": f"* task: {'9' * 5000} (x)\ttotal: 12\tmetric: 50.00%\n",
    "a task of 3,000 characters": f"* task: 0 ({'x' * 3000})\ttotal: 12\tmetric: 50.00%\n",
    "a task without a figure": "* task: 0 (pet)\ttotal: 12\tmetric: none%\n",
    "a task with brackets": "* task: 0 (a) (b)\ttotal: 1\tmetric: 5%)\ttotal: 12\tmetric: 50.00%\n",
}
_FLAGS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "no folder": ((), ("DIR",)),
    "a folder that is not there": (("nowhere",), ("nowhere",)),
    "a file": (("file",), ("file",)),
    "an empty folder": (("empty",), ("empty",)),
    "a folder of 3,000 characters": (("d" * 3000,), ("ddd",)),
    "a folder with an escape": (("\x1b[31mx",), ("\\x1b[31mx",)),
    "a folder with a line break": (("two\nlines",), ("two",)),
    "a form that is none": (("runs", "--format", "pdf"), ("pdf",)),
    "an interval that is none": (("runs", "--interval", "ci99"), ("ci99",)),
    "a layout that is none": (("runs", "--layout", "x"), ("--layout",)),
    "a comparison with nothing": (("runs", "--compare", "nature"), ("nature",)),
    "a key that is none": (("runs", "--keyword", "\x1b[31m"), ()),
    "contradicting flags": (("runs", "--multi-exp", "--base2new"), ("--multi-exp",)),
    "two forms": (("runs", "--multi-exp", "--format", "csv"), ("--format",)),
    "tables of nothing": (("runs", "--new-tasks"), ("runs",)),
    "an unknown flag": (("runs", "--colour"), ("--colour",)),
    "a page that is a folder": (("runs", "--html", "empty"), ("empty",)),
    "a page below a file": (("runs", "--html", "file/page.html"), ("file",)),
    "a page of 3,000 characters": (("runs", "--html", "p" * 3000), ("ppp",)),
    "a plot of an unknown kind": (("runs", "--plot", "x.exe"), ("x.exe",)),
    "a plot below a file": (("runs", "--plot", "file/x.png"), ("file",)),
}


def whole_run(bench: Bench, **changes: Any) -> Path:
    """A finished run beside which nothing else is."""
    return write_run(bench.folder / "runs", "CoOp-MT", **changes)


def _tables(bench: Bench, *flags: str) -> int:
    return parse_test_res.main([str(bench.folder / "runs"), *flags])


def _file(name: str, content: str | bytes, *flags: str) -> Callable[[Bench], int]:
    """Tables of two runs, in one of which a file is replaced."""

    def act(bench: Bench) -> int:
        folder = whole_run(bench)
        whole_run(bench, seed=2)
        if name == "log.txt":
            (folder / "results.json").unlink()
            bench.write(f"{(folder / 'rubbish').relative_to(bench.folder)}", "")
        bench.write(f"{(folder / name).relative_to(bench.folder)}", content)
        return _tables(bench, *flags)

    return act


def _field(place: tuple[Any, ...]) -> Callable[[Bench], int]:
    def act(bench: Bench) -> int:
        path = whole_run(bench) / "results.json"
        path.write_text(json.dumps(_set(json.loads(path.read_text()), *place)), encoding="utf-8")
        return _tables(bench)

    return act


def _alone(content: str) -> Callable[[Bench], int]:
    def act(bench: Bench) -> int:
        bench.write("runs/seed1/log.txt", content)
        bench.write("runs/seed1/rubbish", "")
        return _tables(bench)

    return act


def _flags(*flags: str) -> Callable[[Bench], int]:
    def act(bench: Bench) -> int:
        whole_run(bench)
        bench.write("file", "")
        (bench.folder / "empty").mkdir()
        return parse_test_res.main(list(flags))

    return act


def _loop(bench: Bench) -> int:
    whole_run(bench)
    (bench.folder / "runs/again").symlink_to(bench.folder / "runs")
    return _tables(bench)


def _big_result() -> bytes:
    return json.dumps({"format": 1, "mode": "train", "trainer": "MTCoOpHard", "tasks": [], "shots": 1}).encode()


CASES = [
    *(
        Case(
            "result file", title, _file("results.json", content, "--format", _FORMS[n % 5]), codes=(0,), says=("seed1",)
        )
        for n, (title, content) in enumerate(_RAW.items())
    ),
    *(
        Case("result file", title, _field(place), codes=(0, 1, 2), says=(str(place[0]),))
        for title, place in _FIELDS.items()
    ),
    *(
        Case("result file", f"mangled ({n})", _file("results.json", content), codes=(0,))
        for n, content in enumerate(drawn(mangled(_big_result()), 15))
    ),
    *(
        Case("config of a run", f"{title}, {form}", _file("config.yaml", content, *flags), codes=(0,))
        for title, content in _CONFIGS.items()
        for form, flags in {"text": (), "folders": ("--layout", "folders", "--format", "csv")}.items()
    ),
    *(Case("log", title, _file("log.txt", content), codes=(0,), says=("seed1",)) for title, content in _LOGS.items()),
    *(
        Case("log", title, _alone(_END + line + "* overall_metric: 60.00%\n"), codes=(0,), says=("60.00",))
        for title, line in _GOOD_LOGS.items()
    ),
    *(
        Case("log", f"mangled ({n})", _file("log.txt", content), codes=(0,))
        for n, content in enumerate(drawn(mangled((_END + "* overall_metric: 60.00%\n").encode()), 10))
    ),
    *(
        Case("flags of parse_test_res.py", title, _flags(*flags), says=says, codes=(1, 2))
        for title, (flags, says) in _FLAGS.items()
    ),
    Case("tree of runs", "a loop of a link", _loop, codes=(0,)),
]
