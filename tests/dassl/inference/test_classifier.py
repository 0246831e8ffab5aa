"""A finished run as a classifier."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

import clip
from dassl.config import get_cfg_default
from dassl.engine import TRAINER_REGISTRY
from dassl.inference import load_classifier
from dassl.inference.export import export_file
from dassl.results.predictions import read_predictions
from dassl.results.record import Reduction, read_results, write_results
from dassl.utils.errors import UserError
from tests.dassl.data.large import scene
from tests.test_determinism import threads
from tests.trainers.test_all_methods import METHODS, options

ALL = sorted({*METHODS, "ZeroshotCLIP", "ZeroshotCLIP2"})
OWN_CLASSES = [name for name in ALL if "class" in TRAINER_REGISTRY.get(name).learned_for(get_cfg_default())]


def settings(name):
    """The options of a short run of a method."""
    return options(name) if name in METHODS else {"trainer": name}


def entries_of(lab, name):
    """Path, task and label of each entry of a run's test list."""
    data = lab.trainer("look", **settings(name)).dm.dataset
    return [(item.impath, task, label) for item in data.test for task, label in item.targets]


@pytest.fixture
def photos(lab, tmp_path):
    """Three pictures that belong to no run."""
    folder = tmp_path / "photos"
    (folder / "deeper").mkdir(parents=True)
    images = sorted((lab.root / "pets").rglob("*.png"))[:3]
    for name, image in zip(("a.png", "b.png", "deeper/c.png"), images, strict=True):
        shutil.copy(image, folder / name)
    return folder


@pytest.mark.parametrize("name", ALL)
def test_the_predictions_are_those_that_the_runs_test_counted(lab, name):
    lab.run(**settings(name), TEST__COMPUTE_CMAT=True)
    counted = json.loads((lab.folder("run") / "cmat.json").read_text())
    entries = entries_of(lab, name)
    classifier = load_classifier(lab.folder("run"))
    answers = classifier.predict(sorted({path for path, _, _ in entries}))
    best = {(answer.image, answer.task): answer.best.name for answer in answers}
    found = {task.name: np.zeros((len(task.classnames),) * 2, int) for task in classifier.tasks}
    for path, number, label in entries:
        task = classifier.tasks[number]
        found[task.name][label, task.classnames.index(best[path, task.name])] += 1
    assert {name: matrix.tolist() for name, matrix in found.items()} == counted


def test_large_images_are_read_as_in_the_runs_test(lab):
    large = lab.root / "pets/images/test/kind0_0.png"
    before = large.read_bytes()
    scene(400, 300).save(large)
    try:
        for key, reduction in (("reduced", Reduction(131, 1)), ("original", None)):
            result = lab.run(key, trainer="ZeroshotCLIP", INPUT__RESOLUTION=key)
            assert result.reduction == reduction
            classifier = load_classifier(lab.folder(key))
            assert classifier.reading.shortest == (131 if reduction else 0)
            rows = read_predictions(lab.folder(key))
            (row,) = [row for row in rows if row.image.startswith("pets") and row.image.endswith("test/kind0_0.png")]
            (answer,) = classifier.predict(str(large), row.task)
            assert answer.best.name == row.predicted_class
            assert answer.best.probability == pytest.approx(row.predicted_probability, abs=1e-5)
    finally:
        large.write_bytes(before)


def test_a_run_of_an_older_version_saw_every_pixel(lab):
    lab.run(trainer="ZeroshotCLIP", INPUT__RESOLUTION="reduced")
    path = lab.folder("run") / "results.json"
    write_results(path.parent, replace(read_results(path.parent), reduction=None))
    assert load_classifier(path.parent).reading.shortest == 0


def test_the_best_epoch_is_the_one_that_is_used(lab):
    keys = {"TEST__FINAL_MODEL": "best_val", "OPTIM__LR": 0.5, "TEST__COMPUTE_CMAT": True}
    assert lab.run(**keys).best_epoch is not None
    counted = json.loads((lab.folder("run") / "cmat.json").read_text())
    classifier = load_classifier(lab.folder("run"))
    entries = entries_of(lab, "MTCoOp")
    hits = sum(
        classifier.predict(p, task=t, top_k=1)[0].best.name == classifier.tasks[t].classnames[c] for p, t, c in entries
    )
    assert hits == sum(np.trace(np.array(matrix)) for matrix in counted.values())


def test_neither_data_nor_split_are_needed(lab, photos, monkeypatch):
    lab.run()
    for name in ("build_dataset", "DataManager"):
        monkeypatch.setattr(f"dassl.data.manager.{name}", None)
    config = lab.folder("run") / "config.yaml"
    config.write_text(config.read_text().replace(str(lab.root), "/nowhere"))
    assert len(load_classifier(lab.folder("run")).predict(photos / "a.png")) == 2


def test_paths_images_and_arrays_give_the_same(lab, photos):
    lab.run()
    classifier = load_classifier(str(lab.folder("run")))
    path = photos / "a.png"
    image = Image.open(path).convert("RGB")
    by_path, by_image, by_array = (classifier.predict(each, task="tool") for each in (path, image, np.asarray(image)))
    assert by_path[0].classes == by_image[0].classes == by_array[0].classes
    assert [answer.image for answer in (*by_path, *by_image)] == [str(path), ""]
    assert sum(each.probability for each in by_path[0].classes) == pytest.approx(1)
    together = classifier.predict([path, image], top_k=2)
    assert [(answer.task, len(answer.classes)) for answer in together] == [("pet_kind", 2), ("tool", 2)] * 2
    assert [each.probability for each in by_path[0].classes[:2]] == pytest.approx(
        [each.probability for each in together[1].classes], rel=1e-5
    )


def test_class_features_score_as_the_classifier_does(lab, photos):
    lab.run()
    classifier = load_classifier(lab.folder("run"))
    trainer, image = classifier._trainer, classifier.transform(Image.open(photos / "a.png").convert("RGB"))[None]
    feature = torch.nn.functional.normalize(trainer.encode_images(image), dim=-1)
    scores = (trainer.backbone.logit_scale * feature @ classifier.class_features("tool").T).softmax(dim=1)
    assert torch.allclose(scores, classifier.probabilities(image)[1], atol=1e-6)
    lab.run("plot", **options("PLOT"))
    with pytest.raises(UserError, match="PLOT does not score images with one vector"):
        load_classifier(lab.folder("plot")).class_features(0)


def test_other_class_names_with_the_same_context(lab, photos):
    lab.run()
    first = load_classifier(lab.folder("run"))
    own = list(first.tasks[0].classnames)
    same = first.with_classes({"pet_kind": own})
    assert torch.equal(same.class_features(0), first.class_features(0))
    other = first.with_classes({0: [own[1], "zebra"]})
    assert other.tasks[0].classnames == (own[1], "zebra")
    assert torch.allclose(other.class_features(0)[0], first.class_features(0)[1], atol=1e-6)
    assert torch.allclose(other.class_features(1), first.class_features(1), atol=1e-6)
    assert {each.name for each in other.predict(photos / "a.png", 0)[0].classes} == {own[1], "zebra"}


@pytest.mark.parametrize("names", [[], ["a", " "], ["a", "b", "a"]])
def test_a_list_of_classes_that_makes_no_sense_is_refused(lab, names):
    lab.run(OPTIM__MAX_EPOCH=1)
    with pytest.raises(UserError, match=r"is empty or has an empty name|is in the list twice"):
        load_classifier(lab.folder("run")).with_classes({0: names})


@pytest.mark.parametrize("name", OWN_CLASSES)
def test_what_belongs_to_classes_has_none_for_new_ones(lab, name):
    lab.run(**settings(name))
    with pytest.raises(UserError, match="learns something for each class, so it has nothing for new classes"):
        load_classifier(lab.folder("run")).with_classes({0: ["a", "b"]})


def test_what_is_no_finished_run_is_refused(lab, tmp_path):
    with pytest.raises(UserError, match="is not a folder"):
        load_classifier(tmp_path / "missing")
    with pytest.raises(UserError, match=r"holds no finished run: there is no results\.json"):
        load_classifier(tmp_path)


def test_a_run_of_an_older_version_says_what_to_do_and_that_helps(lab, photos):
    lab.run()
    (lab.folder("run") / "tasks.json").unlink()
    with pytest.raises(
        UserError, match=r"has no tasks\.json.*delete its results\.json and start the run's command again"
    ):
        load_classifier(lab.folder("run"))
    (lab.folder("run") / "results.json").unlink()
    lab.run()
    assert load_classifier(lab.folder("run")).predict(photos / "a.png")


@pytest.mark.parametrize(
    "text", ["{}", "[]", '{"format": 2, "tasks": []}', '{"format": 1, "tasks": []}', '{"format": 1']
)
def test_a_damaged_list_of_tasks_is_one_line(lab, text):
    lab.run(OPTIM__MAX_EPOCH=1)
    (lab.folder("run") / "tasks.json").write_text(text)
    with pytest.raises(UserError) as caught:
        load_classifier(lab.folder("run"))
    assert "tasks.json" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_another_backbone_is_refused(lab, tmp_path):
    lab.run(OPTIM__MAX_EPOCH=1)
    path = lab.folder("run") / "results.json"
    content = json.loads(path.read_text())
    content["backbone"]["digest"] = "0" * 64
    path.write_text(json.dumps(content))
    with pytest.raises(UserError, match="was trained with other weights"):
        load_classifier(lab.folder("run"))


@pytest.mark.parametrize("demo", [False, True])
def test_weights_that_are_not_there_are_named(lab, demo):
    lab.run(OPTIM__MAX_EPOCH=1, **({"backbone": "demo", "INPUT__SIZE": "64,64"} if demo else {}))
    wanted = r"/no\.pt is neither a file nor a folder" if demo else r"the weights file /no\.pt .* does not exist"
    with pytest.raises(UserError, match=wanted):
        load_classifier(lab.folder("run"), weights="/no.pt")


def test_a_deterministic_run_predicts_on_one_thread_whatever_the_process_has(lab, monkeypatch):
    lab.run(OPTIM__MAX_EPOCH=1, TRAIN__DETERMINISTIC=True)
    export_file(load_classifier(lab.folder("run")), lab.output / "tuned.safetensors")
    encoded: list[int] = []
    encode = clip.Backbone.encode_image
    monkeypatch.setattr(
        clip.Backbone,
        "encode_image",
        lambda self, each: (encoded.append(torch.get_num_threads()), encode(self, each))[1],
    )
    images = torch.randn(3, 3, 32, 32)
    for place in (lab.folder("run"), lab.output / "tuned.safetensors"):
        found = []
        for count in (1, 2):
            with threads(count):
                found.append(load_classifier(place).probabilities(images))
                assert torch.get_num_threads() == count
        assert all(torch.equal(found[0][task], found[1][task]) for task in found[0])
    assert encoded == [1] * 4


def test_a_task_that_is_not_there_is_answered_with_those_that_are(lab):
    lab.run(OPTIM__MAX_EPOCH=1)
    classifier = load_classifier(lab.folder("run"))
    assert [classifier.task_number(each) for each in ("tool", "0", 1)] == [1, 0, 1]
    with pytest.raises(UserError, match=r"there is no task 'tol' in .*; did you mean tool\?"):
        classifier.task_number("tol")
    with pytest.raises(UserError, match=r"there is no task 2"):
        classifier.task_number(2)
