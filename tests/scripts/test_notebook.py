"""docs/own_tasks.ipynb runs offline from its first cell to its last, in a process of its own."""

import re
import subprocess
import sys

from dassl.utils.files import read_json, write_json
from dassl.utils.tools import CHECKOUT
from scripts import notebook

PAGE = CHECKOUT / "docs" / "own_tasks.ipynb"


def outputs(path):
    """The kinds of the outputs of each code cell, and all printed text."""
    cells = [cell for cell in read_json(path)["cells"] if cell["cell_type"] == "code"]
    kinds = [[output["output_type"] for output in cell["outputs"]] for cell in cells]
    return kinds, "".join(line for cell in cells for output in cell["outputs"] for line in output.get("text", []))


def test_the_notebook_does_what_it_shows(tmp_path):
    command = [sys.executable, "-m", "scripts.notebook", str(PAGE), "--out", str(tmp_path / "run.ipynb")]
    done = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    stored, shown = outputs(PAGE), outputs(tmp_path / "run.ipynb")
    assert stored[0] == shown[0] and ["display_data"] in stored[0]
    for _, text in (stored, shown):
        assert "1 of 1 data sets are in order" in text and "Take LP-CLIP with 4 shots" in text
        assert "new_images/b.png,tile shape,rectangle" in text and "page written: True" in text
        assert "tile colour: green\ntile shape: ellipse\n" in text
        assert not re.search(r"/tmp|/home|/root|/work|\d\d:\d\d", text)
    assert PAGE.stat().st_size < 30_000


def test_an_error_in_a_cell_is_told_and_nothing_is_written(tmp_path):
    path = tmp_path / "wrong.ipynb"
    write_json(path, {"cells": [{"cell_type": "code", "source": ["print(1)\n", "1 / 0"], "outputs": []}]})
    before = path.read_bytes()
    done = subprocess.run(
        [sys.executable, "-m", "scripts.notebook", str(path)], cwd=CHECKOUT, capture_output=True, text=True
    )
    assert done.returncode == 1 and "ZeroDivisionError" in done.stderr and "<cell 1>" in done.stderr
    assert path.read_bytes() == before


def test_cells_share_their_names_and_outputs_are_replaced():
    cells = [
        {"cell_type": "code", "source": ["a = 2\n", "print(a)"], "outputs": ["old"]},
        {"cell_type": "markdown", "source": ["text"]},
        {"cell_type": "code", "source": ["b = a + 1"], "outputs": ["old"]},
    ]
    notebook.run(cells)
    assert cells[0]["outputs"] == [{"output_type": "stream", "name": "stdout", "text": ["2\n"]}]
    assert cells[2]["outputs"] == [] and cells[2]["execution_count"] == 2 and "outputs" not in cells[1]
