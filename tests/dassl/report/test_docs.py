"""docs/tables.md shows what the program prints."""

import re
import shlex

import pytest

import parse_test_res
from dassl.utils.tools import CHECKOUT
from tests.dassl.report.trees import write_example

PAGE = (CHECKOUT / "docs" / "tables.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"^```\n\$ python parse_test_res\.py (.*)\n((?:.*\n)*?)```$", PAGE, re.MULTILINE)


@pytest.fixture(scope="module")
def example(tmp_path_factory):
    top = tmp_path_factory.mktemp("example")
    write_example(top / "output")
    return top


@pytest.mark.parametrize(("command", "shown"), EXAMPLES, ids=[command for command, _ in EXAMPLES])
def test_examples(example, monkeypatch, capsys, command, shown):
    monkeypatch.chdir(example)
    words, _, cut = command.partition(" | ")
    assert parse_test_res.main(shlex.split(words)) == 0
    lines = capsys.readouterr().out.splitlines()
    if cut:
        program, count = cut.split(" -")
        lines = {"head": lines[: int(count)], "tail": lines[-int(count) :]}[program]
    assert shown.splitlines() == lines


def test_every_option_is_explained():
    options = re.findall(r"(--[\w-]+)", parse_test_res._parser().format_help())
    assert {option for option in options if option not in ("--help", "--version") and f"`{option}" not in PAGE} == set()
    assert len(EXAMPLES) == 10


def test_the_python_example_runs(example, monkeypatch, capsys):
    monkeypatch.chdir(example)
    (code,) = re.findall(r"^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    exec(compile(code, "docs/tables.md", "exec"), {})
    assert capsys.readouterr().out.startswith("ZS-CLIP [59.8")
