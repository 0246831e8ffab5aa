"""ProtoNet's prototypes by hand, its options, and what it saves."""

import pytest
import torch
from torch.nn import functional

from dassl.data.datum import Task
from trainers.protonet import Prototypes

OPTIONS = {"trainer": "ProtoNet", "TRAINER__PROTONET__PREC": "fp32"}
SEVERAL = {**OPTIONS, "dataset": "ToyShapes"}  # images that belong to two tasks
TASKS = [Task("first", ("a", "b")), Task("second", ("c", "d", "e"))]


def by_hand(trainer, view=None, center=False):
    """Prototypes of every task and the points they are seen from, image by image with the frozen encoder."""
    data = trainer.dm
    loader = data.plain_loader("train", augmented=view is not None)
    if view is not None:
        loader.set_epoch(view)
    features = {}
    for batch in loader:
        for index, feature in zip(batch["index"].tolist(), trainer.backbone.encode_image(batch["img"]), strict=True):
            features[index] = feature / feature.norm()
    prototypes, centers = [], []
    for number, task in enumerate(data.tasks):
        mine = [
            (features[i], label)
            for i, item in enumerate(data.dataset.train_x)
            for t, label in item.targets
            if t == number
        ]
        origin = sum(x for x, _ in mine) / len(mine) if center else torch.zeros(trainer.backbone.embed_dim)
        centers.append(origin)
        for label in range(len(task.classnames)):
            own = [(x - origin) / (x - origin).norm() for x, y in mine if y == label]
            mean = sum(own) / len(own)
            prototypes.append(mean / mean.norm())
    return torch.stack(prototypes), torch.stack(centers)


@pytest.mark.parametrize("center", [False, True])
@pytest.mark.parametrize("keys", [OPTIONS, SEVERAL], ids=["one task an image", "two tasks"])
def test_prototypes_and_scores_are_what_they_are_by_hand(lab, keys, center):
    trainer = lab.trainer(**keys, TRAINER__PROTONET__CENTER=center)
    trainer.train()
    prototypes, centers = by_hand(trainer, center=center)
    torch.testing.assert_close(trainer.model.prototypes, prototypes, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(trainer.model.centers, centers, rtol=1e-4, atol=1e-5)
    batch = next(iter(trainer.dm.test_loader))
    found = trainer.model_inference(batch)
    owner = trainer.task_of_class.tolist()
    for row, feature in enumerate(trainer.backbone.encode_image(batch["img"])):
        for column, task in enumerate(owner):
            cosine = functional.cosine_similarity(feature / feature.norm() - centers[task], prototypes[column], dim=0)
            assert found[row, column].item() == pytest.approx(trainer.backbone.logit_scale * cosine.item(), abs=2e-3)


def test_the_nearest_prototype_wins_as_it_does_by_euclidean_distance():
    model = Prototypes(TASKS, 6)
    draw = torch.Generator().manual_seed(0)
    images, label = functional.normalize(torch.randn(9, 6, generator=draw), dim=-1), torch.arange(9) % 3
    assert model.fit(1, images, label, center=False).tolist() == [3, 3, 3]
    queries = functional.normalize(torch.randn(20, 6, generator=draw), dim=-1)
    distances = torch.cdist(queries, model.prototypes[2:])
    assert torch.equal(model(queries)[:, 2:].argmax(dim=1), distances.argmin(dim=1))


def test_a_class_without_an_image_is_never_chosen(lab, caplog):
    model = Prototypes(TASKS, 4)
    images = torch.eye(4)[:2]
    assert model.fit(1, images, torch.tensor([0, 2]), center=False).tolist() == [1, 0, 1]
    cosines = model(torch.tensor([[-1.0, 0.0, 0.2, 0.0]]))
    assert cosines[0, [0, 1, 3]].tolist() == [-1, -1, -1]
    assert cosines[0, 2:].argmax() == 2
    trainer = lab.trainer(**OPTIONS)
    trainer.dm.dataset.train_x[:] = [item for item in trainer.dm.dataset.train_x if (item.task, item.label) != (1, 2)]
    trainer.train()
    assert "task 1 (tool): no training image of drill" in caplog.text


def test_views_are_averaged_and_differ_from_the_test_view(lab):
    trainer = lab.trainer(**OPTIONS, TRAINER__PROTONET__VIEWS=2)
    trainer.train()
    features = []
    for view in range(2):
        loader = trainer.dm.plain_loader("train", augmented=True)
        loader.set_epoch(view)
        features.append(functional.normalize(torch.cat([trainer.encode_images(b["img"]) for b in loader]), dim=-1))
    mean = functional.normalize(features[0] + features[1], dim=-1)
    label = torch.tensor([item.label + 3 * item.task for item in trainer.dm.dataset.train_x])
    for column, prototype in enumerate(trainer.model.prototypes):
        expected = functional.normalize(mean[label == column].mean(dim=0), dim=-1)
        torch.testing.assert_close(prototype, expected, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(*features, atol=1e-3)
    assert not torch.allclose(trainer.model.prototypes, by_hand(trainer)[0], atol=1e-3)


def test_nothing_is_counted_and_prototypes_are_saved_and_loaded(lab):
    result = lab.run(**OPTIONS)
    assert (result.parameters, result.epochs) == (0, 1)
    (path,) = lab.checkpoints()
    assert path == "prototypes/model.pth.tar-1"
    assert lab.learned()[f"{path}:prototypes"].shape == (8, 24)
    again = lab.run("again", "--eval-only", "--model-dir", str(lab.folder("run")), **OPTIONS)
    assert (again.metric, again.tasks) == (result.metric, result.tasks)


def test_prototypes_of_other_classes_are_refused_even_where_there_are_as_many(lab, capsys):
    lab.run("pets", **OPTIONS, dataset="ToyPets")
    trained = ["--eval-only", "--model-dir", str(lab.folder("pets"))]
    capsys.readouterr()
    assert lab.main("tools", *trained, **OPTIONS, dataset="ToyTools", DATASET__SUBSAMPLE_CLASSES="base") == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "nothing for a class that it was not trained on" in line


def test_stored_features_give_the_same_prototypes(lab):
    images, features = lab.trainer(**OPTIONS), lab.trainer("features", **OPTIONS, DATALOADER__FEATURES="on")
    for trainer in (images, features):
        trainer.train()
    torch.testing.assert_close(images.model.prototypes, features.model.prototypes, rtol=1e-4, atol=1e-5)
