"""``weight: balanced`` of a task: every method uses it or says that it does not."""

import pytest
import torch

from dassl.engine import TRAINER_REGISTRY
from dassl.metrics import task_cross_entropy
from tests.own import own_file, own_lab, write_pictures
from tests.trainers.test_all_methods import METHODS, options
from trainers._fitted import FittedTrainer

NAMES = [f"mugs/{kind}/{n}.png" for kind, count in (("ok", 9), ("chip", 3)) for n in range(count)]
MUGS = {"name": "mug", "folder": "mugs", "ratios": [0.67, 0, 0.33]}


@pytest.fixture
def mugs(lab, tmp_path):
    """The lab on six images of one class and two of another."""
    write_pictures(tmp_path / "pictures", NAMES)
    return own_lab(lab, tmp_path / "pictures")


def command(lab, name, *, weight=True, **keys):
    flags = own_file(lab.root, {**MUGS, "weight": "balanced"} if weight else MUGS, name=f"{weight}.yaml")
    own = options(name) if name in METHODS else {"trainer": name}
    return flags, {**own, "dataset": "MyTasks", "DATASET__NUM_SHOTS": -1, "DATALOADER__TRAIN_X__BATCH_SIZE": 8, **keys}


@pytest.mark.parametrize("name", [*METHODS, "ZeroshotCLIP"])
def test_a_method_uses_the_weights_or_says_that_it_does_not(mugs, name):
    flags, keys = command(mugs, name, OPTIM__MAX_EPOCH=1)
    result = mugs.run("run", *flags, **keys)
    assert result.tasks[0].mean_acc is not None
    log = mugs.log()
    assert "task 0 (mug): mean accuracy of its classes" in log
    if TRAINER_REGISTRY.get(name).unweighted:
        assert f"{name} has no use for weight: balanced (task mug)" in log
    else:
        assert "task mug: weights of classes from 0.6667 to 2" in log


@pytest.mark.parametrize("name", [name for name, kind in METHODS.items() if not issubclass(kind, FittedTrainer)])
def test_the_loss_of_a_batch_is_weighted(mugs, name):
    flags, keys = command(mugs, name)
    trainer = mugs.trainer("run", *flags, **keys)
    trainer.set_model_mode("train")
    (batch,) = trainer.dm.train_loader_x
    scores = trainer.scores(batch)
    assert sorted(scores.weight.tolist()) == pytest.approx([2 / 3] * 6 + [2] * 2)
    own = scores.logits.masked_fill(~scores.columns, -torch.inf).log_softmax(dim=1)
    slow = -(own.gather(1, scores.target[:, None])[:, 0] * scores.weight).sum() / 8
    torch.testing.assert_close(trainer.cross_entropy(scores)[0], slow)
    plain = task_cross_entropy(scores.logits, scores.target, scores.columns, images=8)
    assert not torch.allclose(plain, slow)


def test_without_the_field_there_are_no_weights(mugs):
    flags, keys = command(mugs, "MTCoOp", weight=False)
    trainer = mugs.trainer("run", *flags, **keys)
    (batch,) = trainer.dm.train_loader_x
    assert trainer.class_weights is None and trainer.scores(batch).weight is None


def test_another_word_is_a_mistake(mugs, capsys):
    flags = own_file(mugs.root, {**MUGS, "weight": "even"})
    assert mugs.main("run", *flags, dataset="MyTasks") == 2
    assert "weight is 'even': choose balanced, or leave the field out" in capsys.readouterr().err
