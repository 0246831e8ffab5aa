import re
import warnings

import pytest

from dassl.data.dataset import DATASET_REGISTRY
from dassl.report.study import suites
from dassl.report.tree import read_tree
from dassl.utils.errors import UserError
from dassl.utils.intervals import STD, STUDENT
from datasets.general10 import General10
from datasets.plant6 import Plant6
from datasets.rs8 import RS8
from tests.dassl.report.trees import LEVELS, write_base_to_new, write_run, write_sweep

pytest.importorskip("matplotlib")
from dassl.report.plots import accuracy_figure, cost_figure, save, styles, svg, write_plots

TASKS = tuple(f"task_name_{number}" for number in range(10))


@pytest.fixture(scope="module")
def suite(tmp_path_factory):
    top = tmp_path_factory.mktemp("plots")
    write_sweep(top, tasks=TASKS, seeds=(1, 2), shots=(1, 4, 16))
    return suites(read_tree(top))[0]


def test_every_method_can_be_told_from_every_other(suite):
    looks = styles(suite.plain)
    assert set(looks) == set(LEVELS)
    assert len({(each.colour, str(each.dashes)) for each in looks.values()}) == len(LEVELS)
    assert len({each.marker for each in looks.values()}) == len(LEVELS)  # in a print without colours, too


def test_a_panel_for_the_mean_and_each_task(suite):
    figure = accuracy_figure(suite)
    titles = [axes.get_title() for axes in figure.axes]
    assert titles == ["General10: mean over 10 tasks", "close-up of the mean", *TASKS]
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == list(LEVELS)
    mean = figure.axes[0]
    drawn = [line for line in mean.lines if len(line.get_xdata()) == 3 and line.get_linestyle() != "None"]
    assert len(drawn) == len(LEVELS) - 1
    line = next(line for line in drawn if line.get_marker() == styles(suite.plain)["SoftCPT-NATA"].marker)
    wanted = [sum(suite.plain.values("SoftCPT-NATA", shots)[0].values()) / 2 for shots in (1, 4, 16)]
    assert list(line.get_xdata()) == [1, 4, 16] and list(line.get_ydata()) == pytest.approx(wanted)


def test_few_methods_need_no_close_up(tmp_path):
    write_sweep(tmp_path, labels=("ZS-CLIP", "CoOp-MT"), shots=(1, 16))
    figure = accuracy_figure(suites(read_tree(tmp_path))[0])
    assert [axes.get_title() for axes in figure.axes[1:]] == ["animals", "textures", "food"]


def test_cost_has_a_point_for_each_method_with_a_cost(suite):
    left, right = cost_figure(suite).axes
    points = [line.get_xdata()[0] for line in right.lines if line.get_marker() not in ("None", "_", "|", "")]
    for axes in (left, right):
        assert {text.get_text() for text in axes.texts} == set(LEVELS) - {"ZS-CLIP"}
    assert len(points) == len(LEVELS) - 1 and set(points) == {81_920, 8_392_704}
    assert left.get_xscale() == right.get_xscale() == "log"


def test_single_task_single_shot_single_run(tmp_path):
    write_run(tmp_path, "CoOp-MT", tasks=("only",), metrics=(50.0,))
    write_run(tmp_path, "ZS-CLIP", suite="Zero", metrics=(1.0, 2.0, 3.0))
    for each in suites(read_tree(tmp_path)):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert svg(accuracy_figure, each).count("<svg") == svg(cost_figure, each).count("<svg") == 1


def test_names_are_no_formulas(tmp_path):
    names = ("a $x_{ y", "<b> & \\frac", "_hidden", "x" * 60)
    write_run(tmp_path, "_Trainer $1$", tasks=names, metrics=(1.0, 2.0, 3.0, 4.0))
    text = svg(accuracy_figure, suites(read_tree(tmp_path))[0])
    shown = re.findall(r"<text[^>]*>([^<]*)</text>", text)
    assert {"a $x_{ y", "&lt;b&gt; &amp; \\frac", "_hidden", "_Trainer $1$", "x" * 24, "x" * 12} <= set(shown)


def test_long_names_leave_room_for_the_panels(tmp_path):
    for number in range(20):
        write_run(tmp_path, f"TrainerWithAVeryLongNameThatFillsALineOfTheLegend{number}", suite="Suite" * 20)
    (suite,) = suites(read_tree(tmp_path))
    figures = []
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # matplotlib warns where panels have no room left
        for draw in (accuracy_figure, cost_figure):
            svg(lambda *arguments, draw=draw: figures.append(draw(*arguments)) or figures[-1], suite)
    for figure in figures:
        legend, panel = (each.get_window_extent() for each in (figure.legends[0], figure.axes[0]))
        assert panel.height > figure.dpi and legend.y1 < panel.y0  # more than an inch
    assert figures[0].axes[0].get_title() == "SuiteSuiteSuiteSuiteSuiteSuiteS…: mean over 3 tasks"


@pytest.mark.parametrize("name", [General10, Plant6, RS8])
def test_no_title_of_a_published_suite_is_cut(tmp_path, name):
    tasks = [DATASET_REGISTRY.get(member).task_name for member in name.members]
    write_run(tmp_path, "CoOp-MT", tasks=tasks, metrics=range(len(tasks)))
    figure = accuracy_figure(suites(read_tree(tmp_path))[0])
    titles = [axes.get_title() for axes in figure.axes[1:]]
    assert [title.replace("\n", " ") for title in titles] == tasks
    svg(lambda *_: figure, suites(read_tree(tmp_path))[0])
    boxes = [axes.title.get_window_extent() for axes in figure.axes]
    assert not any(one.overlaps(other) for n, one in enumerate(boxes) for other in boxes[:n])


def test_what_is_longer_than_all_lines_is_cut(tmp_path):
    write_run(tmp_path, "CoOp-MT", tasks=("word " * 30, "b", "c"))
    title = accuracy_figure(suites(read_tree(tmp_path))[0]).axes[1].get_title()
    assert title == "word word word word word\nword word word word word\nword word word word wor…"


def hollow(axes):
    return {
        (x, round(y, 2))
        for line in axes.lines
        if line.get_markerfacecolor() == "white"
        for x, y in zip(line.get_xdata(), line.get_ydata(), strict=True)
    }


def test_cells_without_all_seeds_are_hollow_and_named(tmp_path):
    for shots, seed in ((1, 1), (1, 2), (4, 1)):
        write_run(tmp_path, "CoOp-MT", shots=shots, seed=seed)
    (suite,) = suites(read_tree(tmp_path))
    figure = accuracy_figure(suite)
    assert [hollow(axes) for axes in figure.axes] == [{(4, each)} for each in (70.0, 60.0, 70.0, 80.0)]
    assert "hollow: a mean of fewer seeds (CoOp-MT 4 shots 1/2)" in said(figure)
    figure = cost_figure(suite)
    assert all(len(hollow(axes)) == 1 for axes in figure.axes) and "(CoOp-MT 4 shots 1/2)" in said(figure)
    write_run(tmp_path, "CoOp-MT", shots=4, seed=2)
    (suite,) = suites(read_tree(tmp_path))
    for figure in (accuracy_figure(suite), cost_figure(suite)):
        assert "hollow" not in said(figure) and not any(map(hollow, figure.axes))


def test_means_over_too_few_tasks_are_named(tmp_path):
    write_run(tmp_path, "CoOp-MT", seed=1)
    write_run(tmp_path, "CoOp-CA", choice="task0", tasks=("animals",), metrics=(60.0,))
    (suite,) = suites(read_tree(tmp_path))
    assert all("not drawn: CoOp-CA 4 shots 1/3 tasks" in said(draw(suite)) for draw in (accuracy_figure, cost_figure))


@pytest.mark.parametrize(("interval", "words", "half"), [(STD, "deviation (population)", 1), (STUDENT, "t", 12.706)])
def test_the_figure_says_what_its_bars_show(tmp_path, interval, words, half):
    for seed, value in ((1, 60.0), (2, 62.0)):
        write_run(tmp_path, "CoOp-MT", seed=seed, tasks=("only",), metrics=(value,))
    (suite,) = suites(read_tree(tmp_path))
    for draw in (accuracy_figure, cost_figure):
        figure = draw(suite, interval)
        assert said(figure).startswith("Toy3, RN50") and f"{interval.words} over seeds 1, 2" in said(figure)
        (bar,) = figure.axes[0].collections
        assert bar.get_segments()[0][:, 1] == pytest.approx([61 - half, 61 + half], abs=1e-3)


def said(figure):
    return figure.get_suptitle().replace("\n", " ")


def test_letters_that_the_font_has_not(tmp_path, caplog, recwarn):
    write_run(tmp_path / "runs", "CoOp-MT", tasks=("é", "叶", "叶子"))
    found = suites(read_tree(tmp_path / "runs"))
    write_plots(found, tmp_path / "a.svg")
    assert not caplog.messages
    write_plots(found, tmp_path / "a.png")
    (said,) = caplog.messages
    assert "lacks 叶子 and" in said or "lacks 子叶 and" in said
    assert not [each for each in recwarn if "Glyph" in str(each.message)]


@pytest.mark.parametrize(
    ("target", "names"),
    [
        ("curves.pdf", {"curves.pdf", "curves-cost.pdf"}),
        ("folder", {f"Toy3-RN50-{what}{kind}" for what in ("accuracy", "cost") for kind in (".png", ".pdf")}),
    ],
)
def test_files(tmp_path, target, names):
    write_run(tmp_path / "runs", "CoOp-MT")
    written = write_plots(suites(read_tree(tmp_path / "runs")), tmp_path / "out" / target)
    assert {path.name for path in written} == names
    assert {path.name for path in written[0].parent.iterdir()} == names
    starts = {".png": b"\x89PNG", ".pdf": b"%PDF"}
    assert all(path.read_bytes().startswith(starts[path.suffix]) for path in written)


def test_several_suites_have_their_names_in_the_files(tmp_path):
    for suite in ("Toy3", "Toy/4"):
        write_run(tmp_path / "runs", "CoOp-MT", suite=suite)
    written = write_plots(suites(read_tree(tmp_path / "runs")), tmp_path / "a.svg")
    assert {path.name for path in written} == {
        *("a-Toy3-RN50.svg", "a-Toy3-RN50-cost.svg", "a-Toy-4-RN50.svg", "a-Toy-4-RN50-cost.svg")
    }


def test_suites_never_share_a_file(tmp_path):
    for suite in ("Toy/3", "Toy-3", "Toy3"):
        write_run(tmp_path / "runs", "CoOp-MT", suite=suite)
    written = write_plots(suites(read_tree(tmp_path / "runs")), tmp_path / "a.svg")
    assert len(set(written)) == 6 and tmp_path / "a-Toy3-RN50.svg" in written


@pytest.mark.parametrize("kind", [".svg", ".pdf"])
def test_the_same_runs_make_the_same_file(tmp_path, kind):
    write_run(tmp_path / "runs", "CoOp-MT")
    (suite,) = suites(read_tree(tmp_path / "runs"))
    paths = [tmp_path / f"{name}{kind}" for name in "ab"]
    for path in paths:
        save(cost_figure, suite, path)
    assert paths[0].read_bytes() == paths[1].read_bytes()


def test_what_cannot_be_drawn_is_said(tmp_path):
    write_base_to_new(tmp_path)
    with pytest.raises(UserError, match="nothing to draw"):
        write_plots(suites(read_tree(tmp_path)), tmp_path / "a.png")
    write_run(tmp_path, "CoOp-MT")
    with pytest.raises(UserError, match=r"\.png, \.pdf, \.svg"):
        write_plots(suites(read_tree(tmp_path)), tmp_path / "a.jpeg")
