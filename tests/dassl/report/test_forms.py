import csv
import io
import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dassl.report.figures import BEST, Figure, Number
from dassl.report.forms import FORMS, print_form
from dassl.report.sheets import Sheet
from dassl.results.tables import Table
from dassl.utils.texts import printable, spreadsheet_cell

names = st.text(min_size=1, max_size=20).map(printable)  # as names are read from runs
figures = st.builds(Figure, st.floats(0, 100), st.none() | st.floats(0, 50))
SPECIAL = r"a|b_c & 100% $x$ #1 {y} ~ ^ \ <b> `q` *s*"


def sheet(name="method A", figure=None, *, task="mean over tasks"):
    table = Table(["method", "parameters", "4 shots"], [[name, Number(8192), figure or Figure(61.2, 0.3, rank=BEST)]])
    return Sheet(f"Toy3: task {task}", {"suite": "Toy3", "task": task}, table, notes=["a note"])


def test_text():
    assert print_form([sheet(), sheet()], "text") == (
        "Toy3: task mean over tasks\n\n"
        "method    parameters         4 shots\n"
        "--------  ----------  --------------\n"
        "method A       8,192  61.20 +- 0.30*\n"
        "* best, _ second in its column\n"
        "a note\n"
        "\n"
        "Toy3: task mean over tasks\n\n"
        "method    parameters         4 shots\n"
        "--------  ----------  --------------\n"
        "method A       8,192  61.20 +- 0.30*\n"
        "* best, _ second in its column\n"
        "a note\n"
    )


def test_markdown():
    assert print_form([sheet("x|y")], "markdown") == (
        "### Toy3: task mean over tasks\n\n"
        "| method | parameters |          4 shots |\n"
        "| ------ | ---------: | ---------------: |\n"
        "| x\\|y   |      8,192 | **61.20 ± 0.30** |\n"
        "\n**bold**: best, <u>underlined</u>: second in its column\n"
        "\na note\n"
    )


def test_latex_is_a_whole_table():
    text = print_form([sheet(SPECIAL, task=SPECIAL)], "latex")
    assert (
        text.startswith("% \\usepackage{booktabs,graphicx}\n")
        and text.count(r"\begin{table}") == text.count(r"\end{table}") == 1
    )
    assert (
        r"\caption{Toy3: task a\textbar{}b\_c \& 100\% \$x\$ \#1 \{y\} \textasciitilde{} \textasciicircum{} "
        r"\textbackslash{} \textless{}b\textgreater{} " in text
    )
    assert r"\textbf{61.20 $\pm$ 0.30} \\" in text


def test_csv_is_one_table_with_the_keys_in_front():
    other = Sheet(
        "other", {"suite": "Toy3"}, Table(["task", "method", "H"], [["food", "x", Figure(1.0, 2.0, count=2, wanted=3)]])
    )
    rows = list(csv.DictReader(io.StringIO(print_form([sheet(), other], "csv"))))
    assert list(rows[0])[:4] == ["suite", "task", "method", "parameters"]
    assert rows[0]["4 shots mean"] == "61.2" and rows[0]["H mean"] == rows[0]["4 shots missing"] == ""
    assert (rows[1]["task"], rows[1]["H mean"], rows[1]["H runs"], rows[1]["H missing"]) == ("food", "1.0", "2", "2/3")


def test_json():
    (table,) = json.loads(print_form([sheet()], "json"))["tables"]
    assert (table["suite"], table["task"], table["notes"]) == ("Toy3", "mean over tasks", ["a note"])
    assert table["rows"] == [
        {"method": "method A", "parameters": 8192, "4 shots": {"mean": 61.2, "std": 0.3, "runs": 1, "missing": None}}
    ]


@pytest.mark.parametrize("form", FORMS)
@given(name=names, task=names, figure=figures)
def test_any_name_keeps_the_shape_of_the_form(form, name, task, figure):
    text = print_form([sheet(name, figure, task=task)], form)
    if form == "csv":
        (row,) = csv.DictReader(io.StringIO(text, newline=""))
        assert [row["method"], row["task"]] == [spreadsheet_cell(name), spreadsheet_cell(task)]
        assert float(row["4 shots mean"]) == figure.mean
    elif form == "json":
        assert json.loads(text)["tables"][0]["rows"][0]["method"] == name
    elif form == "markdown":
        lines = [line for line in text.split("\n") if line.startswith("|")]
        # Neither a bar nor a tag of a name is left without its backslash.
        assert [len(re.findall(r"(?<!\\)(?:\\\\)*\|", line)) for line in lines] == [4, 4, 4]
        assert not re.search(r"(?<!\\)(?:\\\\)*<(?!/?u>)", text)
    elif form == "latex":
        body = text.split(r"\midrule" + "\n")[1].split("\n")[0]
        assert len(re.findall(r"(?<!\\)&", body)) == 2 and body.endswith(r" \\")
        # Behind a rule or the end of a row these would be options.
        assert not re.search(r"(\\\\|\\midrule)\n[\[*]", text)
        plain = re.sub(r"\\[{}]", "", text.replace("{%\n", "{\n"))
        assert plain.count("{") == plain.count("}") and not re.search(r"(?<!\\)[#%_](?! \\usepackage)", plain)
    else:
        assert len(text.splitlines() if name.isascii() else text.split("\n")) >= 5
        assert f"{figure.mean:.2f}" in text
