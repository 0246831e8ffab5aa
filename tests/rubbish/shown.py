"""Odd names of tasks, classes and methods in everything that is written for people and programs."""

import csv
import io
import json
import re
from collections.abc import Callable
from contextlib import redirect_stdout
from html.parser import HTMLParser

import parse_test_res
import predict
from dassl.utils.texts import printable, spreadsheet_cell
from tests.dassl.data.toy import write_image
from tests.dassl.report.trees import write_run
from tests.rubbish.case import Bench, Case, hidden
from tests.rubbish.names import NAMES
from tests.rubbish.tasks import pictures, train_on

_TAGS = """
html head meta title style body main header h1 h2 h3 p nav ul ol li a section details summary div table thead tbody tr
th td figure svg g path defs use text tspan clippath rect pre script
"""
_ALLOWED = frozenset(_TAGS.split())
_FORMULA = re.compile(r"[=+\-@\t\r\n\uff1d\uff0b\uff0d\uff20]")
_COMMANDS = ("\\input", "\\immediate", "\\write18")


class _Page(HTMLParser):
    """The elements and attributes of a page, and how many scripts it has."""

    def __init__(self) -> None:
        super().__init__()
        self.wrong: list[str] = []
        self.scripts = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.scripts += tag == "script"
        self.wrong += [] if tag in _ALLOWED else [tag]
        self.wrong += [f"{tag} {name}" for name, _ in attrs if name.startswith("on")]
        self.wrong += [f"{name}={value}" for name, value in attrs if name in ("src", "href") and value[:1] != "#"]


def check_page(text: str) -> None:
    """No element, handler or address comes from a name."""
    page = _Page()
    page.feed(text)
    assert not page.wrong and page.scripts == 1, (page.wrong, page.scripts)
    assert not hidden(text)


def _check_csv(text: str) -> None:
    rows = list(csv.reader(io.StringIO(text, newline="")))
    assert len({len(row) for row in rows}) == 1, [len(row) for row in rows]
    for cell in (cell for row in rows for cell in row):
        number = re.fullmatch(r"[+-]?[\d.]+([eE][+-]?\d+)?", cell)
        assert number or not _FORMULA.match(cell), cell


def _check_latex(text: str) -> None:
    assert not any(command in text for command in _COMMANDS), text
    body = text.replace("\\\\", "")
    assert not re.search(r"(?<!\\)[#_&](?! )", body.replace(" & ", "")), text


def _check_json(text: str) -> None:
    json.loads(text)


def _check_lines(text: str) -> None:
    lines = [line for line in text.splitlines() if line.startswith("|")]
    assert lines and len({len(re.findall(r"(?<!\\)(?:\\\\)*\|", line)) for line in lines[:3]}) == 1, text


_CHECKS: dict[str, Callable[[str], None]] = {
    "csv": _check_csv, "latex": _check_latex, "json": _check_json, "markdown": _check_lines,
    "text": lambda text: None,
}  # fmt: skip


def _table(name: str, form: str) -> Callable[[Bench], int]:
    """Tables of runs with a task, a method, a warning and a device of that name."""

    def act(bench: Bench) -> int:
        tree = bench.folder / "runs"
        more = {"device": name, "warnings": (f"careful: {name}",), "versions": {"python": name}}
        options = {"tasks": (name, "food"), "metrics": (60.0, 70.0)}
        write_run(tree, "CoOp-MT", **options, **more)
        write_run(tree, "Other", **options, **more, config={"TRAINER.NAME": name})
        written = io.StringIO()
        with redirect_stdout(written):
            code = parse_test_res.main([str(tree), "--format", form, "--per-task"])
        text = written.getvalue()
        assert not hidden(text), hidden(text)
        _CHECKS[form](text)
        print(text)
        return code

    return act


def _page(names: list[str]) -> Callable[[Bench], int]:
    def act(bench: Bench) -> int:
        tree = bench.folder / "runs"
        more = {"device": names[0], "warnings": tuple(names), "versions": dict.fromkeys(names[:3], names[-1])}
        figures = tuple(50.0 + n for n in range(len(names)))
        for seed in (1, 2):
            write_run(tree, "CoOp-MT", tasks=tuple(names), metrics=figures, seed=seed, **more)
            config = {"TRAINER.NAME": names[0], "TRAINER.LABEL": names[-1]}
            write_run(tree, "Other", tasks=tuple(names), metrics=figures, seed=seed, config=config)
        code = parse_test_res.main([str(tree), "--html", "page.html"])
        check_page((bench.folder / "page.html").read_text(encoding="utf-8"))
        return code

    return act


def _answer(name: str, form: str) -> Callable[[Bench], int]:
    """predict.py with a class of that name, to the screen or a file."""

    def act(bench: Bench) -> int:
        image = write_image(bench.folder / "=a\u202eb.png")
        flags = ["--classes", f"{name},other", "--format", form, "--workers", "0", "--device", "cpu", "--out", "out"]
        code = predict.main([str(bench.run), str(image), *flags])
        if code == 0:
            text = (bench.folder / "out").read_text(encoding="utf-8")
            assert not hidden(text), hidden(text)
            if form == "csv":
                _check_csv(text)
            elif form == "jsonl":
                assert all(map(json.loads, text.splitlines()))
        return code

    return act


def _class_folder(name: str) -> Callable[[Bench], int]:
    """A whole run on folders of which one has that name: refused, or the name is in the results as it is."""

    def act(bench: Bench) -> int:
        pictures(bench, (name, "other"))
        return train_on(bench, [{"name": "kind", "folder": "pets"}])

    return act


def _label(name: str) -> Callable[[Bench], int]:
    def act(bench: Bench) -> int:
        pictures(bench)
        rows = [
            {"image": f"pets/{c}/{n}.png", "label": name if c == "cat" else c} for c in ("cat", "dog") for n in range(4)
        ]
        bench.write("data/list.jsonl", "\n".join(map(json.dumps, rows)))
        return train_on(bench, [{"name": "kind", "table": "list.jsonl"}])

    return act


def _can_be_a_folder(name: str) -> bool:
    return "/" not in name and "\0" not in name and name not in (".", "..") and len(name.encode()) < 250


def _listed(names: list[str]) -> str:
    """As --classes takes them: each once, without commas."""
    taken = [name.replace(",", " ").lstrip("-") for name in names if len(name) < 100]
    return ",".join(dict.fromkeys(taken))


_GROUPS = [list(NAMES.values())[n : n + 10] for n in range(0, len(NAMES), 10)]

assert printable("\x1b") == "\ufffd" and spreadsheet_cell("-1.5e3") == "-1.5e3"

CASES = [
    *(
        Case(f"names in tables as {form}", title, _table(name, form), codes=(0,))
        for form in _CHECKS
        for title, name in NAMES.items()
    ),
    *(Case("names on the page", f"group {n}", _page(names), codes=(0,)) for n, names in enumerate(_GROUPS)),
    *(
        Case("names in answers as csv", title, _answer(name, "csv"), codes=(0, 2))
        for title, name in NAMES.items()
        if "\0" not in name
    ),
    *(
        Case(f"names in answers as {form}", f"group {n}", _answer(_listed(names), form), codes=(0,))
        for form in ("table", "jsonl")
        for n, names in enumerate(_GROUPS)
    ),
    *(
        Case("names of class folders", title, _class_folder(name), codes=(0, 2))
        for title, name in NAMES.items()
        if _can_be_a_folder(name)
    ),
    *(
        Case("labels of a table", title, _label(name), codes=(0, 2))
        for title, name in NAMES.items()
        if not _can_be_a_folder(name)
    ),
]
