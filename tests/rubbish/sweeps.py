"""Sweep files."""

from collections.abc import Callable
from typing import Any

import sweep
from dassl.utils.tools import CHECKOUT
from tests.dassl.sweep.small import Small
from tests.rubbish.case import Bench, Case, drawn, mangled

_OWN = {"label": "x", "trainer": "MTCoOp", "config": str(CHECKOUT / "configs/trainers/MTCoOp/demo.yaml")}
# Fields of a whole sweep file that are replaced, and what the message must name.
_FIELDS: dict[str, tuple[dict[str, Any], tuple[str, ...]]] = {
    "an unknown field": ({"sede": [1]}, ("sede", "seeds")),
    "a field with an escape": ({"\x1b[31m": 1}, ("\\x1b[31m",)),
    "no suites": ({"suites": []}, ("suites",)),
    "suites as a text": ({"suites": "demo6"}, ("suites", "demo6")),
    "suites as numbers": ({"suites": [1, 2]}, ("suites",)),
    "a suite that is not there": ({"suites": ["demo7"]}, ("demo7", "demo6")),
    "a suite on a path up": ({"suites": ["../../../etc/passwd"]}, ("passwd",)),
    "a suite with a NUL": ({"suites": ["a\0b"]}, ("a\\x00b",)),
    "a suite of 3,000 characters": ({"suites": ["s" * 3000]}, ("sss",)),
    "a suite with a line break": ({"suites": ["two\nlines"]}, ("two",)),
    "no methods": ({"methods": []}, ("methods",)),
    "methods as a text": ({"methods": "CoOp-MT"}, ("methods",)),
    "an unknown method": ({"methods": ["CoOp-TM"]}, ("CoOp-TM", "CoOp-MT")),
    "a method with an escape": ({"methods": ["\x1b]0;x\x07"]}, ("\\x1b]0;x\\x07",)),
    "a method without a label": ({"methods": [{"trainer": "MTCoOp"}]}, ("label",)),
    "a method of an unknown trainer": ({"methods": [{**_OWN, "trainer": "os.system"}]}, ("os.system",)),
    "a method without a trainer": ({"methods": [{"label": "x"}]}, ("x", "trainer")),
    "a method with an unknown field": (
        {"methods": [{"label": "x", "trainer": "MTCoOp", "colour": "red"}]},
        ("colour",),
    ),
    "a method like nothing": ({"methods": [{"label": "x", "like": "nothing"}]}, ("nothing",)),
    "a method whose options are a list": (
        {"methods": [{"label": "x", "trainer": "MTCoOp", "options": [1]}]},
        ("options",),
    ),
    "a method with an unknown key": (
        {"methods": [{**_OWN, "options": {"OPTIM.LRR": 1}}]},
        ("OPTIM.LRR",),
    ),
    "a setting with an escape": ({"methods": [{**_OWN, "setting": "a\x1b[31m"}]}, ("a\\x1b[31m",)),
    "a setting that leaves the folder": (
        {"methods": [{"label": "x", "trainer": "MTCoOp", "setting": "../../../owned"}]},
        ("../../../owned",),
    ),
    "a setting from the root": (
        {"methods": [{"label": "x", "trainer": "MTCoOp", "setting": "/owned"}]},
        ("/owned",),
    ),
    "a config of a method that is not there": (
        {"methods": [{"label": "x", "trainer": "MTCoOp", "config": "nowhere.yaml"}]},
        ("nowhere.yaml",),
    ),
    "a label that is a list": ({"methods": [{**_OWN, "label": [1]}]}, ("label",)),
    "a trainer that is a list": ({"methods": [{"label": "x", "trainer": ["MTCoOp"]}]}, ("trainer",)),
    "twins": ({"methods": ["CoOp-MT", "CoOp-MT"]}, ("CoOp-MT",)),
    "no shots": ({"shots": []}, ("shots",)),
    "shots as a text": ({"shots": "1,2"}, ("shots",)),
    "shots below -1": ({"shots": [-2]}, ("shots",)),
    "half a shot": ({"shots": [1.5]}, ("shots",)),
    "true shots": ({"shots": [True]}, ("shots",)),
    "a seed below 0": ({"seeds": [-1]}, ("seeds",)),
    "a seed beyond 64 bits": ({"seeds": [2**70]}, ("SEED",)),
    "an empty seed": ({"seeds": [None]}, ("seeds",)),
    "a protocol that is none": ({"protocol": "base3new"}, ("protocol", "base3new")),
    "a protocol as a list": ({"protocol": ["base2new"]}, ("protocol",)),
    "options as a list": ({"options": ["OPTIM.LR", 1]}, ("options",)),
    "options that are keys of numbers": ({"options": {1: 1}}, ("options",)),
    "an unknown option": ({"options": {"OPTIM.LRR": 1}}, ("OPTIM.LRR",)),
    "options for an unknown method": ({"method_options": {"nobody": {"OPTIM.LR": 1}}}, ("nobody",)),
    "method options as a text": ({"method_options": "x"}, ("method_options",)),
    "vary as a list": ({"vary": ["OPTIM.LR"]}, ("vary",)),
    "vary an unknown key": ({"vary": {"OPTIM.LRR": [1, 2]}}, ("OPTIM.LRR",)),
    "vary nothing": ({"vary": {"OPTIM.LR": []}}, ("vary",)),
    "vary one value": ({"vary": {"OPTIM.LR": 0.1}}, ("vary",)),
    "vary with a wrong value": ({"vary": {"OPTIM.LR": [0.1, "../../x"]}}, ("OPTIM.LR",)),
    "a backbone that is a number": ({"backbone": 50}, ("backbone",)),
    "an output that is a number": ({"output": 5}, ("output",)),
    "an output with a NUL": ({"output": "a\0b"}, ("a\\x00b",)),
    "an output with an escape": ({"output": "a\x1b[31mb"}, ("a\\x1b[31mb",)),
    "an output of 3,000 characters": ({"output": "o" * 3000}, ("ooo",)),
    "a config that is not there": ({"config": "nowhere.yaml"}, ("nowhere.yaml",)),
}
_FILES: dict[str, str | bytes] = {
    "empty": "",
    "a list": "- suites\n",
    "a text": "suites",
    "not YAML": "suites: [a\n",
    "tabs": "suites:\n\t- a\n",
    "a picture": b"\x89PNG\r\n\x1a\n" + bytes(range(256)),
    "Latin-1": "suites: [\xe9]\n".encode("latin-1"),
    "a Python object": "suites: !!python/object/apply:os.system ['touch ../code-was-run']\n",
    "10,000 brackets": "suites: " + "[" * 10_000,
    "a loop of aliases": "suites: &a [*a]\nmethods: [CoOp-MT]\n",
    "a field that is a number": "17: 1\nsuites: [demo6]\nmethods: [CoOp-MT]\n",
    "a field twice": "suites: [demo6]\nsuites: [rs8]\nmethods: [CoOp-MT]\n",
}
_FLAGS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "an unknown flag": (("--job", "x", "--nothing"), ()),
    "jobs that are words": (("--jobs", "many"), ("--jobs", "many")),
    "jobs below 0": (("--jobs", "-1"), ("--jobs",)),
    "retries below 0": (("--retries", "-1"), ("--retries",)),
    "shots that are words": (("--shots", "few"), ("--shots", "few")),
    "shots that are nothing": (("--shots", ","), ("--shots",)),
    "shots of 5,000 digits": (("--shots", "9" * 5000), ("--shots",)),
    "shots below -1": (("--shots=-5",), ("shots",)),
    "seeds below 0": (("--seeds=-1",), ("seeds",)),
    "methods that are nothing": (("--methods", " , "), ("--methods",)),
    "an unknown method": (("--methods", "soft,Sotf"), ("Sotf",)),
    "a share of no GPU": (("--ray", "auto", "--gpus-per-run", "nan"), ("--gpus-per-run",)),
    "one and a half GPUs": (("--ray", "auto", "--gpus-per-run", "1.5"), ("--gpus-per-run",)),
    "a share without Ray": (("--gpus-per-run", "0.5"), ("--gpus-per-run", "--ray")),
    "GPUs with Ray": (("--ray", "auto", "--gpus", "0"), ("--gpus",)),
    "no cores": (("--cpus-per-run", "0"), ("--cpus-per-run",)),
    "a key without a value": (("OPTIM.LR",), ("OPTIM.LR",)),
    "an unknown key": (("OPTIM.LRR", "1"), ("OPTIM.LRR",)),
    "a root that is not there": (("--root", "/no/such\nplace"), ("/no/such",)),
    "an output of 3,000 characters": (("--output-dir", "o" * 3000), ("ooo",)),
}


def _fields(changes: dict[str, Any]) -> Callable[[Bench], int]:
    def act(bench: Bench) -> int:
        small = Small(bench.folder / "small", bench.lab.backbone).write(**changes)  # type: ignore[arg-type]
        return sweep.main(small.command("--dry-run"))

    def with_any_key(bench: Bench) -> int:
        return act(bench)

    return with_any_key


def _file(content: str | bytes) -> Callable[[Bench], int]:
    return lambda bench: sweep.main([str(bench.write("bad.yaml", content)), "--dry-run"])


def _flags(*flags: str) -> Callable[[Bench], int]:
    def act(bench: Bench) -> int:
        small = Small(bench.folder / "small", bench.lab.backbone).write()
        return sweep.main(small.command("--dry-run", *flags))

    return act


def _name(name: str) -> Callable[[Bench], int]:
    return lambda bench: sweep.main([name, "--dry-run"])


_SHIPPED = (CHECKOUT / "configs/sweeps/demo.yaml").read_bytes()

CASES = [
    *(Case("sweep file", title, _fields(changes), says=says) for title, (changes, says) in _FIELDS.items()),
    *(Case("sweep file", title, _file(content), says=("bad.yaml",)) for title, content in _FILES.items()),
    *(
        Case("sweep file", f"a shipped one, mangled ({n})", _file(content), codes=(0, 2))
        for n, content in enumerate(drawn(mangled(_SHIPPED), 20))
    ),
    *(Case("flags of sweep.py", title, _flags(*flags), says=says) for title, (flags, says) in _FLAGS.items()),
    Case("flags of sweep.py", "no sweep", lambda bench: sweep.main([]), says=("SWEEP",)),
    Case("flags of sweep.py", "an unknown sweep", _name("demmo"), says=("demmo", "demo")),
    Case("flags of sweep.py", "a sweep of 3,000 characters", _name("n" * 3000), says=("nnn",)),
    Case("flags of sweep.py", "a sweep with an escape", _name("\x1b[31mdemo"), says=("demo",)),
    Case("flags of sweep.py", "a folder for a sweep", _name("."), says=("'.'",)),
    Case("flags of sweep.py", "a path up", _name("../../etc/passwd"), says=("passwd",)),
]
