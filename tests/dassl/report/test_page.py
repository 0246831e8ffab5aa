import json
import re
import shutil
import subprocess
import sys
from html import escape
from html.parser import HTMLParser
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dassl.report.checks import notices
from dassl.report.figures import Figure
from dassl.report.page import inline_svg, page, write_page
from dassl.report.sheets import MAKERS, Options
from dassl.report.study import suites
from dassl.report.tree import read_tree
from dassl.utils.texts import printable
from tests.dassl.report.trees import write_base_to_new, write_run, write_sweep

pytest.importorskip("matplotlib")
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)
_VOID = {"meta", "link", "br", "img", "hr", "input"}


class Reader(HTMLParser):
    """Checks that elements are closed in order; collects ids, texts and attributes."""

    def __init__(self, text):
        super().__init__()
        self.open, self.ids, self.texts, self.attributes = [], [], [], []
        self.feed(text)
        self.close()
        assert not self.open, self.open

    def handle_starttag(self, tag, attrs):
        self.attributes += attrs
        self.ids += [value for name, value in attrs if name == "id"]
        if tag not in _VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in _VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        assert self.open and self.open[-1] == tag, (tag, self.open[-3:])
        self.open.pop()

    def handle_data(self, data):
        self.texts.append(data)

    @property
    def text(self):
        return "".join(self.texts)


def make_page(top, **options):
    tree = read_tree(top)
    found = suites(tree)
    return page(tree, found, notices(tree, found), Options(), **options), found


@pytest.fixture(scope="module")
def sweep(tmp_path_factory):
    top = tmp_path_factory.mktemp("page") / "my_sweep"
    write_sweep(top, shots=(1, 16), seeds=(1, 2))
    write_sweep(top, suite="RS8", labels=("ZS-CLIP", "CoOp-MT"), shots=(1,), seeds=(1,))
    write_base_to_new(top)
    shutil.rmtree(top / "General10/MTCoOp/rn50_16shots/SoftCPT-NATA/seed2")
    write_run(top, "SoftCPT-NATS", suite="General10", shots=4, finished=False)
    return top


@pytest.fixture(scope="module")
def made(sweep):
    return make_page(sweep, compare=True)


def test_the_page_is_whole_and_loads_nothing(made):
    text, _ = made
    reader = Reader(text)
    assert len(reader.ids) == len(set(reader.ids))
    assert text.startswith("<!doctype html>") and text.count("<script>") == 1
    # No address anywhere: nothing is loaded, nobody is told that the page was opened.
    assert not re.search(r"(?i)\b(?:https?|ftp|wss?|file)://|@import|<link\b|<iframe|<base\b|\bsrc=", text)
    links = {value for name, value in reader.attributes if name in ("href", "xlink:href")}
    assert links and all(link[0] == "#" and link[1:] in reader.ids for link in links)
    used = re.findall(r"url\(#([^)]*)\)", text)
    assert used and set(used) <= set(reader.ids)
    assert "default-src 'none'" in text and "currentColor" in text and "prefers-color-scheme: dark" in text


def test_every_figure_of_every_table_is_there(made):
    text, found = made
    cells = set(re.findall(r"<td[^>]*>([^<]*)</td>", text))
    for suite in found:
        for kind in ("main", "base2new", "compare"):
            for sheet in MAKERS[kind](suite, Options(per_task=True)):
                assert f">{escape(sheet.title)}<" in text
                wanted = {cell.show("html") for row in sheet.table.rows for cell in row if isinstance(cell, Figure)}
                assert wanted and wanted <= cells
    assert 'class="figure best"' in text and 'class="figure second"' in text


def test_remarks_configs_environment_and_runs_are_there(made):
    reader = Reader(made[0])
    for words in (
        "no figure (1)", "missing seed", "SoftCPT-NATA, 16 shots: seed 2", "the run did not finish",
        "TRAINER.MTCOOP.TASK_CSC", "NVIDIA H100", "2.12.1", "sha256 0000000000000000",
        "General10/MTCoOp/rn50_1shots/SoftCPT-NATA/seed1", "Ding et al. (2024)", "Base to new classes",
    ):  # fmt: skip
        assert words in reader.text, words
    assert len(re.findall("<figure", made[0])) == 4  # General10 and RS8; Toy3 has no plain runs


def test_the_same_runs_make_the_same_page(tmp_path):
    write_run(tmp_path, "CoOp-MT")
    assert make_page(tmp_path) == make_page(tmp_path)


SPECIAL = (
    *("<script>alert(1)</script>", "a&b;", "\"'><b>", "]]>", "-->", "<!--", "$x_{", "\\frac{", "%#&~^", "_hidden"),
    *("\ud800\x00", "x" * 200),
)
names = st.text(min_size=1, max_size=12) | st.sampled_from(SPECIAL)


def page_with_names(top, tasks, suite, value):
    shutil.rmtree(top, ignore_errors=True)
    folder = write_run(top, "CoOp-MT", tasks=("x", "y"), metrics=(61.25, 70.0), suite="S")
    content = json.loads((folder / "results.json").read_text())
    for number, name in enumerate(tasks):
        content["tasks"][number]["name"] = name
    content.update(dataset=suite, warnings=[value], versions={"torch": value}, device=value)
    (folder / "results.json").write_text(json.dumps(content), encoding="utf-8")
    text, _ = make_page(top)
    text.encode("utf-8")
    return text


def check_names(text, *names):
    reader = Reader(text)
    assert text.count("<script") == 1 and len(reader.ids) == len(set(reader.ids))
    for name in names:
        words = printable(name).split()
        assert not words or words[0] in reader.text
    assert {"61.25", "70.00"} <= set(re.findall(r"<td[^>]*>([^<]*)</td>", text))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(tasks=st.lists(names, min_size=2, max_size=2, unique_by=printable), suite=names, value=names)
def test_names_are_text_and_nothing_else(tmp_path, monkeypatch, tasks, suite, value):
    monkeypatch.setitem(sys.modules, "matplotlib", None)  # drawing takes most of the time; see below for its names
    check_names(page_with_names(tmp_path / "runs", tasks, suite, value), *tasks, suite, value)


def test_names_in_figures_are_text_too(tmp_path):
    tasks = [name for name in SPECIAL if "\ud800" not in name]
    write_run(tmp_path / "runs", "<Trainer>$_", tasks=tasks, metrics=[50.0] * len(tasks), suite="<!-- $x_{ -->")
    for path in (tmp_path / "runs").rglob("results.json"):
        content = json.loads(path.read_text())
        del content["blake2b"]
        path.write_text(json.dumps(content).replace("a&b;", "\\ud800"))  # half a character, as JSON writes it
    text, _ = make_page(tmp_path / "runs")
    reader = Reader(text)
    assert text.count("<script") == 1 and text.count("<figure") == 2 and len(reader.ids) == len(set(reader.ids))
    drawn = "".join(re.findall(r"<text[^>]*>[^<]*</text>", text))
    for name in (*tasks[2:-1], "x" * 23 + "…", "<Trainer>$_", "<!-- $x_{ -->", "\ufffd"):
        assert escape(printable(name), quote=False) in drawn


def test_without_matplotlib_the_page_says_so(tmp_path, monkeypatch):
    write_run(tmp_path, "CoOp-MT")
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    text, _ = make_page(tmp_path)
    assert "pip install matplotlib" in text and "<figure" not in text and "70.00" in text


def test_svg_becomes_an_element():
    head = '<?xml version="1.0"?>\n<svg viewBox="0 0 1 2" xmlns="http://x" id="top">'
    svg = '<!-- <a> --><use xlink:href="#p" id="q"/></svg>'
    assert inline_svg(head + svg, "f", "a <b>") == (
        '<svg viewBox="0 0 1 2" role="img" aria-label="a &lt;b&gt;"><use href="#f-p" id="f-q"/></svg>'
    )


# ---- in a browser

# Runs in the page: sorts the main table, and puts what it saw where a dump of the page shows it.
PROBE = """
<script>
addEventListener("securitypolicyviolation", () => document.documentElement.dataset.violation = "yes");
const rows = () => [...document.querySelector("table").tBodies[0].rows];
const column = (n) => rows().map((row) => row.cells[n].dataset.value ?? row.cells[n].textContent);
const press = (n) => document.querySelectorAll("table")[0].tHead.rows[0].cells[n].querySelector("button").click();
const seen = { before: column(0) };
press(3); seen.falling = column(3);
press(3); seen.rising = column(3);
press(0); seen.names = column(0);
const block = [...document.querySelectorAll("table")].find((table) => table.tBodies.length > 1);
block.tHead.rows[0].cells[4].querySelector("button").click();
seen.blocks = [...block.tBodies].map((body) => [body.rows.length, body.rows[0].cells[4].dataset.value]);
const linear = (v) => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
const rgb = (text) => text.match(/[\\d.]+/g).slice(0, 3).map((v) => linear(v / 255));
const light = (text) => { const [r, g, b] = rgb(text); return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
const paper = light(getComputedStyle(document.body).backgroundColor);
const contrast = (selector) => {
  const ink = light(getComputedStyle(document.querySelector(selector)).color);
  return (Math.max(ink, paper) + 0.05) / (Math.min(ink, paper) + 0.05);
};
seen.paper = paper;
seen.contrast = ["body", ".note", ".title", "a", "svg"].map(contrast);
seen.loaded = performance.getEntriesByType("resource").length;
const root = document.documentElement;
seen.wide = [innerWidth, root.scrollWidth];
root.dataset.seen = JSON.stringify(seen);
</script></body>"""

# Shows the page in frames as wide as a telephone and as a screen.
FRAMES = """<!doctype html><title>frames</title>{frames}
<script>
addEventListener("load", () => {{
  document.documentElement.dataset.seen = JSON.stringify([...document.querySelectorAll("iframe")].map((frame) => {{
    const root = frame.contentDocument.documentElement;
    return [root.clientWidth, root.scrollWidth];
  }}));
}});
</script>"""


def seen(path, tmp_path, scheme):
    """What the script of a page noted, after Chromium (offline) has shown it in the light (1) or dark (0) scheme."""
    quiet = "--disable-quic --no-first-run --disable-background-networking --disable-component-update --disable-sync"
    command = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", *quiet.split(), "--virtual-time-budget=5000"]
    command += [f"--user-data-dir={tmp_path / 'profile'}", f"--blink-settings=preferredColorScheme={scheme}"]
    command += ["--host-resolver-rules=MAP * ~NOTFOUND", "--window-size=1300,900", "--dump-dom", path.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    (noted,) = re.findall(r'data-seen="([^"]*)"', done.stdout[:20_000])
    assert "data-violation" not in done.stdout[:20_000]
    return json.loads(noted.replace("&quot;", '"'))


@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium: apt-get install chromium")
@pytest.mark.parametrize("scheme", [0, 1], ids=["dark", "light"])
def test_in_a_browser(made, tmp_path, scheme):
    path = tmp_path / "report.html"
    path.write_text(made[0].replace("</body>", PROBE), encoding="utf-8")
    noted = seen(path, tmp_path, scheme)
    assert noted["before"][0] == "ZS-CLIP" and len(noted["before"]) == 13
    falling = [float(value) for value in noted["falling"]]
    assert falling == sorted(falling, reverse=True) and noted["rising"] == noted["falling"][::-1]
    assert noted["names"][0] == "CoCoOp" and noted["names"][-1] == "ZS-CLIP"
    blocks = [(rows, float(value)) for rows, value in noted["blocks"]]
    assert blocks == sorted(blocks, key=lambda each: -each[1]) and {rows for rows, _ in blocks} == {3}
    assert (noted["paper"] > 0.8) == bool(scheme) and min(noted["contrast"]) > 4.5
    assert noted["loaded"] == 0
    assert noted["wide"][1] <= noted["wide"][0]


@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium: apt-get install chromium")
def test_no_width_makes_the_page_scroll_sideways(made, tmp_path):
    frames = "".join(
        f'<iframe width="{width}" height="700" srcdoc="{escape(made[0])}"></iframe>' for width in (320, 768, 1600)
    )
    path = tmp_path / "frames.html"
    path.write_text(FRAMES.format(frames=frames), encoding="utf-8")
    for inside, needed in seen(path, tmp_path, 1):
        assert needed <= inside


def test_write(tmp_path):
    write_run(tmp_path / "runs", "CoOp-MT")
    tree = read_tree(tmp_path / "runs")
    found = suites(tree)
    write_page(tmp_path / "new" / "report.html", tree, found, [], Options())
    assert [path.name for path in Path(tmp_path / "new").iterdir()] == ["report.html"]
    assert "<h2>Remarks</h2>" not in (tmp_path / "new" / "report.html").read_text()
