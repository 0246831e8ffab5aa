"""GDA's precision, rows and choice, computed anew in float64."""

import shutil
from dataclasses import replace

import pytest
import torch

import export
from dassl.inference.classifier import load_classifier
from tests.trainers.features import work
from trainers.gda import GRID, discriminant

OPTIONS = {"trainer": "GDA", "TRAINER__GDA__PREC": "fp32"}


def by_hand(x, label, classes):
    """Rows and biases from torch.cov and a pseudo-inverse, as the paper writes them."""
    x = x.double()
    means = torch.stack([x[label == c].mean(dim=0) for c in range(classes)])
    apart = torch.cat([x[label == c] - means[c] for c in range(classes)])
    cov = apart.T.cov()
    precision = x.shape[1] * torch.linalg.pinv((len(x) - 1) * cov + cov.trace() * torch.eye(x.shape[1]))
    rows = means @ precision
    return rows, torch.tensor(1.0 / classes).log() - 0.5 * (rows * means).sum(dim=1)


@pytest.mark.parametrize("train", [12, 60])
def test_rows_and_biases_are_those_of_the_shrunk_precision(train):
    task = work(classes=3, train=train, views=2, seed=3)
    x, label = task.flat()
    assert x.shape == (2 * train, 6) and torch.equal(label[:train], label[train:])
    found, expected = discriminant(x, label, 3), by_hand(x, label, 3)
    for mine, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(mine.double(), theirs, rtol=1e-4, atol=1e-4)


def test_a_class_without_an_image_has_its_text_only():
    task = work(classes=3, train=20)
    label = task.label.clamp(max=1)
    rows, bias = discriminant(task.flat()[0], label, 3)
    assert not rows[2].any() and bias[2] == 0 and bias[:2].all()


def test_equal_images_have_no_covariance():
    x = torch.eye(4)[[0, 0, 1, 1]]
    assert discriminant(x, torch.tensor([0, 0, 1, 1]), 2) is None


def test_alpha_is_the_best_of_the_grid_on_validation_images(lab):
    trainer = lab.trainer(**OPTIONS)
    for seed in range(4):
        task = work(classes=3, train=30, val=40, metric="mean_acc", seed=seed)
        rows, bias = by_hand(*task.flat(), 3)
        image, text = (each / each.norm(dim=1, keepdim=True) for each in (task.val.double(), task.text.double()))
        rates = []
        for alpha in GRID:
            predicted = (task.scale * image @ text.T + alpha * (image @ rows.T + bias)).argmax(dim=1)
            of_class = [(predicted == c)[task.val_label == c].double().mean() for c in task.val_label.unique()]
            rates.append(100 * float(sum(of_class) / len(of_class)))
        found = trainer.fit_task(task)
        assert found.chosen["alpha"] == GRID[rates.index(max(rates))]
        assert found.rate == pytest.approx(max(rates))
        alpha = found.chosen["alpha"]
        expected = (task.scale * text + alpha * rows).float()
        torch.testing.assert_close(found.tensors["weight"], expected, rtol=1e-3, atol=1e-3)
        torch.testing.assert_close(found.tensors["bias"], (alpha * bias).float(), rtol=1e-3, atol=1e-3)


def test_one_image_in_one_view_leaves_zero_shot_clip_and_says_so(lab, caplog):
    trainer = lab.trainer(**OPTIONS, DATASET__NUM_SHOTS=1, TRAINER__GDA__VIEWS=0)
    zero_shot = trainer.model.weight.clone()
    trainer.train()
    torch.testing.assert_close(trainer.model.weight, zero_shot)
    assert "task 0 (pet_kind): the features of its training images do not differ inside a class" in caplog.text


def test_validation_images_that_are_test_images_are_replaced_by_a_part_of_training(lab, caplog, monkeypatch):
    trainer = lab.trainer(**OPTIONS, TRAINER__GDA__VIEWS=2)
    monkeypatch.setattr(trainer.dm.dataset, "validated_on_test", lambda: {1: 3})
    seen = []
    monkeypatch.setattr(
        trainer, "fit_task", lambda work, chosen=None: seen.append((work, chosen)) or kept(work, chosen)
    )
    kept = type(trainer).fit_task.__get__(trainer)
    trainer.train()
    assert [(each.index, len(each.label), len(each.val_label)) for each, _ in seen] == [
        (0, 6, 6),
        (1, 5, 5),
        (1, 10, 10),
    ]
    assert [chosen is None for _, chosen in seen] == [True, True, False]
    assert "task 1 (tool): 3 of its validation images are test images; a part of its training images" in caplog.text


def test_a_task_without_validation_images_takes_the_given_alpha(lab):
    trainer = lab.trainer(**OPTIONS, TRAINER__GDA__ALPHA=0.5)
    task = work()
    found = trainer.fit_task(replace(task, val=task.val[:0], val_label=task.val_label[:0]))
    assert (found.chosen, found.rate) == ({"alpha": 0.5}, None)


def test_nothing_counts_as_learned(lab):
    result = lab.run(**OPTIONS)
    assert result.parameters == 0
    assert lab.learned()["gda/model.pth.tar-1:weight"].shape == (8, 24)


def test_class_features_of_a_finished_run_take_the_place_of_templates(lab):
    lab.run("soft", TRAINER__MTCOOP__PREC="fp32")
    keys = {**OPTIONS, "TRAINER__GDA__TEXT_FROM": str(lab.folder("soft"))}
    result, plain = lab.run("gda", **keys), lab.run("plain", **OPTIONS)
    assert len(result.text_digest) == 64 and plain.text_digest == ""
    soft = load_classifier(lab.folder("soft"))
    text = torch.cat([soft.class_features(task) for task in range(2)])
    trainer = lab.trainer("look", **keys)
    trainer.train()
    splits = [trainer.gather(trainer.dm.plain_loader(split)) for split in ("train", "val")]
    taken = [task.text for task in trainer.works(*splits)]
    torch.testing.assert_close(torch.cat(taken), text)
    shutil.rmtree(lab.folder("soft"))  # what was fitted has all that is needed
    again = lab.run("again", "--eval-only", "--model-dir", str(lab.folder("gda")), **keys)
    assert again.tasks == result.tasks
    assert load_classifier(lab.folder("gda")).tasks[0].name == result.tasks[0].name


def test_a_run_with_other_tasks_or_no_class_features_is_refused_in_one_line(lab, capsys):
    lab.run("pets", TRAINER__MTCOOP__PREC="fp32", dataset="ToyPets")
    lab.run("probe", trainer="LinearProbe")
    lab.run("base", TRAINER__MTCOOP__PREC="fp32", DATASET__SUBSAMPLE_CLASSES="base")
    assert export.main([str(lab.folder("base")), "-o", str(lab.output / "a.safetensors")]) == 0
    for run, words in (
        ("pets", "has other tasks (task 1 is none there, 'tool' here)"),
        ("base", "(2: cat, dog there, 3: cat, dog, grey_parrot here)"),
        ("../a.safetensors", "it is an export"),
        ("probe", "does not score"),
        ("none", "is not a folder"),
    ):
        capsys.readouterr()
        assert lab.main(f"gda-{run}", **OPTIONS, TRAINER__GDA__TEXT_FROM=str(lab.folder(run))) == 2
        (line,) = capsys.readouterr().err.splitlines()[-1:]
        assert "TRAINER.GDA.TEXT_FROM" in line and words in line
        assert not (lab.folder(f"gda-{run}") / "results.json").exists()
