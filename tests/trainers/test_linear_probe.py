import logging
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression

import clip
from dassl.data.dataset import DATASET_REGISTRY
from dassl.data.datum import Task
from dassl.data.loaders import BatchPlan
from dassl.engine.checks import check_splits
from dassl.utils.errors import UserError
from tests.lab import counted, figures, same_tensors
from trainers import _probe, linear_probe
from trainers._logistic import fit_as_released
from trainers._probe import TaskProbe
from trainers.linear_probe import GRID, grid_peak, narrow


def brackets(score, peak=1.0, steps=8):
    """The result of a search, and the ends that were compared."""
    asked = []

    def watched(c):
        asked.append(float(c))
        return score(c)

    best = narrow(peak, watched, steps=steps)
    return best, list(zip(asked[::2], asked[1::2], strict=True))


def test_of_equal_values_of_c_the_largest_is_taken():
    assert grid_peak([0.5] * 7) == 1e6
    assert grid_peak([0.1, 0.1, 0.3, 0.2, 0.3, 0.1, 0.0]) == 1e2


def test_the_bracket_closes_on_the_better_end():
    best, ends = brackets(lambda c: -c)
    assert best == pytest.approx(0.1)
    assert ends[:4] == [pytest.approx((0.1, right)) for right in (10, 1, 10**-0.5, 10**-0.75)]
    best, ends = brackets(lambda c: c)
    assert best == pytest.approx(10)
    assert ends[:3] == [pytest.approx((left, 10)) for left in (0.1, 1, 10**0.5)]
    assert brackets(lambda c: 1.0) == brackets(lambda c: -c)  # equal ends: the left one stays


@settings(max_examples=50)
@given(st.sampled_from(GRID), st.floats(-1, 1), st.integers(1, 10))
def test_the_search_comes_near_a_single_peak(peak, place, steps):
    top = np.log10(peak) + place
    best, ends = brackets(lambda c: -abs(np.log10(c) - top), peak, steps)
    assert abs(np.log10(best) - top) <= 2 * 0.5**steps + 1e-9 or steps < 3
    assert len(ends) == steps
    assert len({c for pair in ends for c in pair}) == steps + 1  # one new end a step


def blobs(labels, seed=0):
    """Features (n, 6) around one centre per label, and the labels."""
    rng = np.random.default_rng(seed)
    labels = np.array(labels)
    centres = np.random.default_rng(99).normal(size=(10, 6))
    features = centres[labels] + 0.6 * rng.normal(size=(len(labels), 6))
    return torch.from_numpy(features).float(), torch.from_numpy(labels)


def probe_of(labels, val=(0, 1), classes=4, metric="overall_acc"):
    task = Task("kinds", tuple(f"kind {c}" for c in range(classes)), metric)
    return TaskProbe(0, task, train=blobs(labels), val=blobs(val, seed=1))


@pytest.mark.parametrize("labels", [[0, 1, 2, 3] * 5, [0, 2, 2, 3] * 5, [1, 3] * 6], ids=["all", "one unseen", "two"])
def test_a_fit_predicts_what_scikit_learn_predicts(labels):
    x, y = blobs(labels)
    many = blobs([0, 1, 2, 3] * 50, seed=2)[0].double().numpy()
    probe = probe_of(labels)
    for c in (1e-2, 1.0, 1e2):
        plain = LogisticRegression(C=c, max_iter=1000, tol=1e-4 / len(y)).fit(x.double().numpy(), y.numpy())
        predicted = probe.fit(c).predict(many)
        assert (predicted == plain.predict(many)).all()
        assert set(predicted) <= set(labels)


@pytest.mark.parametrize("released", [False, True])
def test_balanced_weights_are_those_of_scikit_learn(released):
    (x, y), val = blobs([0] * 12 + [1] * 3 + [2] * 5), blobs([0, 1])
    task = Task("kinds", ("a", "b", "c"), weight="balanced")
    mine = TaskProbe(0, task, train=(x, y), val=val, released=released).fit(1.0)
    model = LogisticRegression(C=1.0, class_weight="balanced", max_iter=1000, tol=1e-6)
    plain = model.fit(x.double().numpy(), y.numpy())
    assert np.allclose(mine.weight, plain.coef_, atol=1e-3) and np.allclose(mine.bias, plain.intercept_, atol=1e-3)
    even = TaskProbe(0, replace(task, weight=""), train=(x, y), val=val, released=released).fit(1.0)
    assert not np.allclose(mine.bias, even.bias, atol=1e-2)


def test_one_class_is_always_predicted_and_no_class_is_no_reason_to_fail():
    many = blobs([0, 1, 2, 3] * 5, seed=2)[0].double().numpy()
    assert set(probe_of([2, 2, 2]).fit(1.0).predict(many)) == {2}
    empty = TaskProbe(0, Task("t", ("a", "b")), train=(torch.zeros(0, 6), torch.zeros(0, dtype=int)), val=blobs([0]))
    assert np.isfinite(empty.fit(1.0).bias).all()
    assert not probe_of([2, 2]).searches
    assert not empty.searches


def test_the_score_is_the_metric_of_the_task():
    labels, val = [0] * 15 + [1] * 5, [0] * 9 + [1]
    hits = probe_of(labels, val).fit(1e-6).predict(blobs(val, seed=1)[0].double().numpy()) == np.array(val)
    recalls = (hits[:9].mean(), hits[9:].mean())
    assert recalls[0] != recalls[1], "the example must tell the two metrics apart"
    assert probe_of(labels, val).score(1e-6) == pytest.approx(100 * hits.mean())
    assert probe_of(labels, val, metric="mean_acc").score(1e-6) == pytest.approx(100 * np.mean(recalls))


def test_each_c_is_fitted_once(monkeypatch):
    fitted = []
    plain = TaskProbe._regress
    monkeypatch.setattr(TaskProbe, "_regress", lambda self, c: fitted.append(c) or plain(self, c))
    probe = probe_of([0, 1, 2, 3] * 5, [0, 1, 2, 3] * 2)
    probe.fit(narrow(grid_peak([probe.score(c) for c in GRID]), probe.score, steps=8))
    assert len(fitted) == len(set(fitted)) == 15  # the first middle is the peak of the grid


def plain_probe(lab, trainer):
    """Metrics of all tasks in the plainest way: encode, fit every C whenever it is needed, count hits."""
    backbone, _ = clip.load(str(lab.backbone))
    found = []
    for number, task in enumerate(trainer.dm.tasks):
        sets = []
        for split in ("train", "val", "test"):
            features, labels = [], []
            for batch in trainer.dm.plain_loader(split):
                features.append(backbone.encode_image(batch["img"]))
                labels.append(torch.where(batch["task"] == number, batch["label"], -1))
            features, labels = torch.cat(features).double().numpy(), torch.cat(labels).numpy()
            sets.append((features[labels >= 0], labels[labels >= 0]))
        (x, y), val, test = sets

        def metric(c, part, x=x, y=y, task=task):
            hits = LogisticRegression(C=c, max_iter=10000, tol=1e-9).fit(x, y).predict(part[0]) == part[1]
            recalls = [hits[part[1] == label].mean() for label in range(len(task.classnames))]
            return 100 * (np.mean(recalls) if task.metric == "mean_acc" else hits.mean())

        peak = max(GRID, key=lambda c: (metric(c, val), c))
        left, right = peak / 10, peak * 10
        for _ in range(8):
            middle = 10 ** ((np.log10(left) + np.log10(right)) / 2)
            worse = metric(left, val) < metric(right, val)
            c, left, right = (right, middle, right) if worse else (left, left, middle)
        found.append((c, metric(c, test)))
    return found


def test_a_run_agrees_with_a_plain_loop(lab):
    result = lab.run(trainer="LinearProbe")
    expected = plain_probe(lab, lab.trainer("other", trainer="LinearProbe"))
    learned = lab.learned()
    path = "linear_probe/model.pth.tar-1"
    assert learned[f"{path}:c"].tolist() == pytest.approx([c for c, _ in expected])
    assert [task.metric for task in result.tasks] == pytest.approx([metric for _, metric in expected])
    assert (result.mode, result.epochs) == ("train", 1)
    width = learned[f"{path}:weight"].shape[1]
    assert result.parameters == 8 * (width + 1)
    assert learned[f"{path}:weight"].dtype == learned[f"{path}:bias"].dtype == torch.float32
    assert "Finished training" in lab.log()
    assert "task 1 (tool): C " in lab.log()


def test_the_images_are_those_of_the_other_methods(lab):
    probe, prompts = (lab.run(name, trainer=name, OPTIM__MAX_EPOCH=1) for name in ("LinearProbe", "MTCoOpHard"))
    assert probe.subset_digest == prompts.subset_digest
    assert probe.counts == prompts.counts


def test_a_saved_probe_is_evaluated(lab):
    whole = lab.run(trainer="LinearProbe")
    again = lab.run("again", "--eval-only", "--model-dir", str(lab.folder("run")), trainer="LinearProbe")
    assert (again.mode, again.tasks, again.parameters) == ("eval", whole.tasks, whole.parameters)


def test_a_cut_off_run_does_not_fit_again(lab, monkeypatch):
    whole = lab.run("whole", trainer="LinearProbe")
    with monkeypatch.context() as patch:
        patch.setattr("dassl.engine.trainer.TrainerX.test", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        assert lab.main("cut", trainer="LinearProbe") == 130
    assert "linear_probe/model.pth.tar-1" in lab.files("cut")
    monkeypatch.setattr(linear_probe.LinearProbe, "fit", None)
    assert figures(lab.run("cut", trainer="LinearProbe")) == figures(whole)


def test_one_task_alone_and_any_number_of_cores_give_the_same(lab, monkeypatch):
    suite = lab.run("suite", trainer="LinearProbe")
    monkeypatch.setattr(linear_probe, "cpu_count", lambda: 3)
    for number in (0, 1):
        alone = lab.run(f"task{number}", trainer="LinearProbe", DATASET__SUBSAMPLE_TASKS=f"task{number}")
        assert replace(counted(alone.tasks[0]), index=number) == counted(suite.tasks[number])
        assert alone.tasks[0].nll == pytest.approx(suite.tasks[number].nll, rel=1e-4)
    lab.run("cores", trainer="LinearProbe")
    assert same_tensors(lab.learned("cores"), lab.learned("suite"))


def test_stored_features_and_shared_images(lab, tmp_path):
    keys = {"dataset": "ToyShapes", "trainer": "LinearProbe"}
    plain = lab.run("plain", **keys)
    stored = lab.run("stored", **keys, DATALOADER__FEATURES="on", DATALOADER__FEATURES_DIR=str(tmp_path / "features"))
    assert list(map(counted, stored.tasks)) == list(map(counted, plain.tasks))
    assert [task.total for task in plain.tasks] == [12, 12]


def test_released_metrics_are_exchanged_and_say_so(lab):
    corrected = lab.run("corrected", trainer="LinearProbe")
    released = lab.run("released", trainer="LinearProbe", TRAINER__LP__METRICS="released")
    assert [task.metric_name for task in corrected.tasks] == ["mean_acc", "overall_acc"]
    assert [task.metric_name for task in released.tasks] == ["overall_acc", "mean_acc"]


def test_without_validation_images_c_is_that_of_the_config(lab, caplog):
    trainer = lab.trainer(trainer="LinearProbe", TRAINER__LP__C=0.25)
    data = trainer.dm.dataset
    data.val = [item for item in data.val if item.task == 0]
    data.train_x = [item for item in data.train_x if item.task or item.label]
    with caplog.at_level(logging.WARNING):
        trainer.run_epoch(bar=FakeBar())
    assert trainer.model.c[1] == 0.25
    assert "task 1 (tool) has no validation image to choose C on; TRAINER.LP.C 0.25 is used" in caplog.text
    assert "task 0 (pet_kind) has no training image of cat; never predicted" in caplog.text
    assert trainer.test()["metric"] >= 0
    assert not trainer.evaluator.scores[0].confusion[:, 0].any()


class FakeBar:
    total = 0

    def update(self, _):
        pass


def test_new_classes_are_refused(lab, capsys):
    lab.run("base", trainer="LinearProbe", DATASET__SUBSAMPLE_CLASSES="base")
    keys = {"trainer": "LinearProbe", "DATASET__SUBSAMPLE_CLASSES": "new"}
    assert lab.main("new", "--eval-only", "--model-dir", str(lab.folder("base")), **keys) == 2
    assert "LinearProbe learns something for each class" in capsys.readouterr().err


def test_starting_weights_are_refused(lab):
    with pytest.raises(UserError, match="LinearProbe is fitted, without starting weights"):
        lab.trainer(trainer="LinearProbe", MODEL__INIT_WEIGHTS="somewhere")


def test_features_that_are_not_finite_stop_the_run(lab, monkeypatch):
    trainer = lab.trainer(trainer="LinearProbe")
    monkeypatch.setattr(trainer, "encode_images", lambda images: torch.full((len(images), 4), torch.inf))
    with pytest.raises(UserError, match=r"the feature of .* is not finite"):
        trainer.run_epoch(FakeBar())


def test_released_fits_stop_where_the_published_ones_stopped(lab, monkeypatch):
    fitted = []
    monkeypatch.setattr(_probe, "fit_as_released", lambda *a, **k: fitted.append(a) or fit_as_released(*a, **k))
    lab.run("corrected", trainer="LinearProbe")
    assert not fitted
    lab.run("released", trainer="LinearProbe", TRAINER__LP__METRICS="released")
    assert fitted


def test_c_is_never_chosen_on_test_images(lab, caplog):
    trainer = lab.trainer(trainer="LinearProbe", DATASET__NUM_SHOTS=4)
    data, seen = trainer.dm.dataset, []
    data.val = [item for item in data.test if item.task == 0] + [item for item in data.val if item.task == 1]
    trainer.dm.val_loader = trainer.dm._loader(data.val, BatchPlan(len(data.val), 16))
    choose = trainer._search
    trainer._search = lambda probes: seen.extend(probes) or choose(probes)
    with caplog.at_level(logging.WARNING):
        trainer.run_epoch(bar=FakeBar())
    first, second = seen
    classes = len(trainer.dm.tasks[0].classnames)
    assert (first.val_size, len(first._y)) == (classes, 3 * classes)
    assert second.val_size == sum(item.task == 1 for item in data.val)
    shared = f"task 0 (pet_kind): {4 * classes} of its validation images are test images"
    assert f"{shared}; C is chosen on {classes} of its {4 * classes} training images instead" in caplog.text
    whole = trainer._probe(0, *(trainer.gather(trainer.dm.plain_loader(part)).of_task(0) for part in ("train", "val")))
    assert torch.allclose(
        trainer.model.weight[:classes], torch.from_numpy(whole.fit(float(trainer.model.c[0])).weight).float()
    )


@pytest.mark.parametrize("counts", [[1], [2], [4, 1], [9, 3, 8]])
def test_what_is_held_out(counts):
    label = torch.cat([torch.full((count,), number) for number, count in enumerate(counts)])
    features = torch.arange(len(label)).float()[:, None]
    kept, held = linear_probe.hold_out((features, label))
    assert [int((held[1] == number).sum()) for number in range(len(counts))] == [
        0 if count == 1 else max(1, count // 4) for count in counts
    ]
    assert sorted(torch.cat([kept[0], held[0]]).flatten().tolist()) == features.flatten().tolist()


def test_an_epoch_that_is_chosen_on_test_images_is_remarked_on(lab, caplog):
    trainer = lab.trainer(TEST__FINAL_MODEL="best_val")
    trainer.dm.dataset.val = trainer.dm.dataset.test[:3]
    with caplog.at_level(logging.WARNING):
        check_splits(trainer, training=True)
    assert "best_val chooses the epoch on 3 validation images, of which 3 are test images" in caplog.text
    caplog.clear()
    check_splits(lab.trainer("other", TEST__FINAL_MODEL="best_val"), training=True)
    assert "best_val" not in caplog.text


def test_evaluating_an_epoch_that_was_chosen_on_test_images_is_remarked_on(lab, caplog):
    lab.run("trained", TEST__FINAL_MODEL="best_val")
    trainer = lab.trainer("trained", "--eval-only", TEST__FINAL_MODEL="best_val")
    trainer.checkpoints.load(lab.folder("trained"))
    assert "best_val" not in caplog.text
    trainer.dm.dataset.val = trainer.dm.dataset.test[:3]
    trainer.checkpoints.load(lab.folder("trained"), epoch=3)
    assert "best_val" not in caplog.text
    trainer.checkpoints.load(lab.folder("trained"))
    assert "best_val chooses the epoch on 3 validation images, of which 3 are test images" in caplog.text


@pytest.mark.parametrize("name", ["ToyPets", "ToyBoth"])
def test_training_on_what_is_for_testing_is_remarked_on(lab, caplog, monkeypatch, name):
    monkeypatch.setattr(DATASET_REGISTRY.get("ToyPets"), "for_testing", True)
    check_splits(lab.trainer(trainer="ZeroshotCLIP", dataset=name), training=True)
    trainer = lab.trainer(trainer="LinearProbe", dataset=name)
    check_splits(trainer, training=False)
    assert "--eval-only" not in caplog.text
    check_splits(trainer, training=True)
    assert "the training images of ToyPets are its test images" in caplog.text
