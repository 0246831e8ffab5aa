"""docs/your-own-data.md does what it says: its blocks are taken out of the text and carried out in order."""

import shlex

import parse_test_res
import train
from dassl.data.own.splitfile import split_sizes
from dassl.results.record import read_results
from dassl.utils.tools import CHECKOUT
from scripts import compare
from tests.test_docs import blocks

PAGE = CHECKOUT / "docs" / "your-own-data.md"
TASKS = ["mug condition", "tile colour", "tile shape"]
SHORT = ["OPTIM.MIN_STEPS", "2", "OPTIM.MAX_EPOCH", "1", "DATALOADER.NUM_WORKERS", "0", "USE_CUDA", "False"]
PROGRAMS = {"train.py": train.main, "parse_test_res.py": parse_test_res.main}


def commands(text):
    """The commands of a block, each as its words."""
    lines = text.replace("\\\n", " ").splitlines()
    return [shlex.split(line) for line in lines if line.strip()]


def test_the_yaml_block_is_the_shipped_file():
    (block,) = blocks(PAGE, "yaml")
    assert block == (CHECKOUT / "configs" / "datasets" / "my_tasks.yaml").read_text(encoding="utf-8")


def test_from_pictures_to_the_table(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (code,) = blocks(PAGE, "python")
    exec(compile(code, str(PAGE), "exec"), {})  # the page's own code
    comparison, training, table = map(commands, blocks(PAGE, "bash"))
    ((bash, script, *words),) = comparison
    assert (bash, script) == ("bash", "scripts/compare.sh")
    assert compare.main([*words, "--seeds", "1", "--output-dir", "compared", *SHORT]) == 0
    assert "all tasks:\n  Take " in capsys.readouterr().out
    assert (tmp_path / "compared" / "page.html").is_file()
    for python, program, *words in training:
        assert python == "python"
        assert PROGRAMS[program]([*words, *SHORT]) == 0, words
    capsys.readouterr()
    ((_, program, *words),) = table
    assert PROGRAMS[program](words) == 0
    lines = capsys.readouterr().out.splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("|")]
    header, _, *rows = cells
    assert header[:2] == ["folder", "runs"] and header[-3:] == TASKS
    assert {row[0]: row[1] for row in rows} == {"zero-shot": "1", "SoftCPT": "2"}
    check_figures(tmp_path, {row[0]: row for row in rows})


def check_figures(folder, rows):
    """The table shows the figures of the runs, and the runs saw what the page says."""
    mugs = 3 * split_sizes(20, (0.5, 0.2, 0.3))[2]
    runs = {name: read_results(folder / "output" / "my_tasks" / name) for name in ("zero-shot/seed1", "SoftCPT/seed1")}
    for name, result in runs.items():
        assert [task.name for task in result.tasks] == TASKS
        assert [task.classes for task in result.tasks] == [3, 3, 2], name
        assert result.tasks[0].total == mugs
        assert result.tasks[1].total == result.tasks[2].total  # the same pictures
    shown = rows["zero-shot"][-3:]
    assert all(f"{task.metric:.2f}" in cell for task, cell in zip(runs["zero-shot/seed1"].tasks, shown, strict=True))
    assert (folder / "pictures" / "split_my_tasks" / "parts.json").is_file()
    assert runs["SoftCPT/seed1"].counts["train"] < runs["zero-shot/seed1"].counts["train"]
