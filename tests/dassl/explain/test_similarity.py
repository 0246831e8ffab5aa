"""How alike tasks are, in numbers and in a picture."""

import pytest
import torch

from dassl.explain.heat import heat_figure, write_heat_maps
from dassl.explain.similarity import Similarity, check_some, cosines, similarities
from dassl.report.plots import drawing
from dassl.utils.errors import UserError


def found(trainer):
    """What is compared, by name."""
    return {each.what: each for each in similarities(trainer, trainer.contexts())}


def test_softcpt_compares_features_and_contexts(lab):
    trainer = lab.trainer()
    with torch.no_grad():
        features = trainer.model.task_prompt_learner().double()
        contexts = trainer.model.prompt_gen(features.float()).double().flatten(1)
    got = found(trainer)
    assert list(got) == ["task features", "generated contexts"]
    for each, rows in zip(got.values(), (features, contexts), strict=True):
        expected = float(rows[0] @ rows[1] / rows[0].norm() / rows[1].norm())
        assert each.cosines.flatten().tolist() == pytest.approx([1, expected, expected, 1])
        assert each.tasks == ["pet_kind", "tool"]


def test_contexts_of_classes_are_compared_by_their_mean(lab):
    trainer = lab.trainer(TRAINER__MTCOOP__CSC=True)
    with torch.no_grad():
        contexts = trainer.model.contexts()[0].double().flatten(1)
    first = len(trainer.dm.tasks[0].classnames)
    expected = cosines(torch.stack([contexts[:first].mean(dim=0), contexts[first:].mean(dim=0)]))
    got = found(trainer)["generated contexts, mean over the classes of a task"]
    assert torch.allclose(got.cosines, expected)


def test_contexts_of_tasks_are_compared_whatever_the_method(lab):
    assert list(found(lab.trainer(trainer="MTCoOpHard", TRAINER__MTCOOPH__TSC=True))) == ["learned contexts"]


def test_a_shared_context_or_one_task_has_nothing_to_compare(lab):
    shared = lab.trainer(trainer="MTCoOpHard")
    with pytest.raises(UserError, match="MTCoOpHard has no one context for each task"):
        check_some(similarities(shared, shared.contexts()), shared)
    single = lab.trainer(dataset="ToyPets")
    with pytest.raises(UserError, match="the run has one task"):
        check_some(similarities(single, single.contexts()), single)


def similarity(count, what="task features"):
    """Cosines of random rows."""
    rows = torch.randn(count, 16, generator=torch.Generator().manual_seed(count)) + 1
    names = [f"$task$ {'with a very long name ' * 3}{number}" for number in range(count)]
    return Similarity(what, names, cosines(rows))


@pytest.mark.parametrize("count", [2, 3, 8, 9, 20])
def test_names_and_numbers_lie_inside_the_picture(count):
    both = [similarity(count), similarity(count, "generated contexts, mean over the classes of a task")]
    with drawing():
        figure = heat_figure(both)
        figure.draw_without_rendering()
    whole = figure.bbox
    for axes in figure.axes:
        assert len(axes.texts) == count * (count - 1)
        assert {round(float(text.get_text()), 1) for text in axes.texts} <= {n / 10 for n in range(-10, 11)}
        for text in (axes.title, *axes.get_yticklabels(), *axes.get_xticklabels(), *axes.texts):
            box = text.get_window_extent()
            assert whole.x0 <= box.x0 and box.x1 <= whole.x1, text
            assert whole.y0 <= box.y0 and box.y1 <= whole.y1, text
    boxes = [axes.title.get_window_extent() for axes in figure.axes]
    assert not boxes[0].overlaps(boxes[1])


@pytest.mark.parametrize("kind", ["png", "pdf", "svg"])
def test_the_same_cosines_make_the_same_file(kind, tmp_path):
    for name in ("a", "b"):
        write_heat_maps([similarity(3)], tmp_path / f"{name}.{kind}")
    first, second = ((tmp_path / f"{name}.{kind}").read_bytes() for name in ("a", "b"))
    assert first == second


def test_equal_cosines_are_drawn(tmp_path):
    write_heat_maps([Similarity("task features", ["a", "b"], torch.ones(2, 2).double())], tmp_path / "equal.png")
    assert (tmp_path / "equal.png").stat().st_size > 1000
