"""Every method that learns goes through the same trials; a new file in trainers/ joins by itself."""

import pytest
import torch

import clip
import train
from dassl.config import all_keys
from dassl.engine import TRAINER_REGISTRY
from dassl.metrics import task_columns, task_cross_entropy
from dassl.utils.errors import UserError
from dassl.utils.tools import CHECKOUT
from tests.dassl.config.recorded import merged
from tests.dassl.engine.cutting import interrupted_after_the_last_step
from tests.lab import figures, same_tensors

METHODS = {t.__name__: t for t in TRAINER_REGISTRY if t.trainable and t.__module__.startswith("trainers.")}
# Sizes and options of a short run; what is not here runs with the method's defaults and the lab's settings.
SMALL = {
    "CoOp": {"TRAINER__COOP__N_CTX": 2},
    "ProGrad": {"OPTIM__LR": 0.01, "TRAINER__COOP__N_CTX": 10, "TRAINER__COOP__CTX_INIT": True},
    "KgCoOp": {"TRAINER__COOP__N_CTX": 4, "TRAINER__COOP__CTX_INIT": True, "TRAINER__COOP__W": 8},
    "TCP": {"OPTIM__NAME": "adam", "OPTIM__LR": 0.002, "OPTIM__ADAM_EPS": 1e-3},
    "TaskRes": {"OPTIM__NAME": "adam", "OPTIM__LR": 0.02},
    "MVLPT": {"OPTIM__LR": 0.01, "TRAINER__MVLPT__N_CTX": 2, "TRAINER__MVLPT__VISUAL_N_CTX": 2},
    "CLIPLoRA": {"OPTIM__NAME": "adamw", "OPTIM__LR": 0.005},
    "MaPLe": {"TRAINER__MAPLE__DEPTH": 2},
    "PromptSRC": {"TRAINER__PROMPTSRC__DEPTH": 2, "TRAINER__PROMPTSRC__VISUAL_N_CTX": 2},
    "CoCoOp": {"TRAINER__COCOOP__N_CTX": 2},
    "PLOT": {"TRAINER__PLOT__N": 2, "TRAINER__PLOT__N_CTX": 2},
    "LPPlusPlus": {"TRAINER__LPPP__STEPS": 20},
    "CLAP": {"TRAINER__CLAP__VIEWS": 2, "TRAINER__CLAP__EPOCHS": 20},
    "CrossModal": {"TRAINER__CMLP__STEPS": 200},
    "TipAdapterF": {"TRAINER__TIPF__VIEWS": 2, "TRAINER__TIPF__EPOCHS": 5},
    "CLIPAdapter": {"TRAINER__CLIPADAPTER__VIEWS": 2, "TRAINER__CLIPADAPTER__LR": 0.2},
    "ProLIP": {"TRAINER__PROLIP__VIEWS": 2, "TRAINER__PROLIP__EPOCHS": 20},
}
ON_FEATURES = ["TipAdapter", "GDA", "LPPlusPlus", "CLAP", "CrossModal", "TipAdapterF", "CLIPAdapter", "ProLIP"]
# The remedy that a refused step from base to new classes must name.
OWN_CLASSES_ONLY = "nothing for a class that it was not trained on"


def options(name, **more):
    """The options of a short run of a method, without random views."""
    return {
        "trainer": name,
        "OPTIM__MAX_EPOCH": 2,
        "OPTIM__WARMUP_EPOCH": 0,
        "INPUT__NO_TRANSFORM": True,
        f"TRAINER__{METHODS[name].section}__PREC": "fp32",
        **SMALL.get(name, {}),
        **more,
    }


def training_loss(trainer):
    """Mean cross-entropy over the training images, scored as in a test."""
    trainer.set_model_mode("eval")
    trainer.before_test()
    total = count = 0
    for batch in trainer.dm.plain_loader("train"):
        row, task, column = trainer.parse_batch_train(batch)
        with torch.no_grad():
            logits = trainer.model_inference(batch)[row]
        total += float(task_cross_entropy(logits, column, task_columns(task, trainer.task_of_class), images=1))
        count += len(row)
    return total / count


@pytest.mark.parametrize("name", METHODS)
def test_training_lowers_the_loss(lab, name):
    trainer = lab.trainer(**options(name))
    before = training_loss(trainer)  # of a method that is fitted at once: equal scores, or zero-shot CLIP
    trainer.train()
    assert training_loss(trainer) < before
    learned = [value for module in trainer.modules.values() for value in module.state_dict().values()]
    assert learned and all(torch.isfinite(value).all() for value in learned)


@pytest.mark.parametrize("name", METHODS)
def test_a_run_that_was_cut_off_ends_as_a_whole_one_and_is_evaluated_to_the_same_figures(lab, name):
    with interrupted_after_the_last_step():
        assert lab.main(**options(name)) == 130
    assert "results.json" not in lab.files()
    mine, whole = lab.run(**options(name)), lab.run("whole", **options(name))
    assert figures(mine) == figures(whole)
    assert lab.learned() and same_tensors(lab.learned(), lab.learned("whole"))
    again = lab.run("again", "--eval-only", "--model-dir", str(lab.folder("run")), **options(name))
    assert (again.metric, again.tasks, again.parameters) == (mine.metric, mine.tasks, mine.parameters)


@pytest.mark.parametrize("name", METHODS)
def test_new_classes_are_evaluated_or_refused_in_one_line(lab, capsys, name):
    lab.run("base", **options(name, DATASET__SUBSAMPLE_CLASSES="base"))
    keys = options(name, DATASET__SUBSAMPLE_CLASSES="new")
    command = lab.command("new", "--eval-only", "--model-dir", str(lab.folder("base")), **keys)
    capsys.readouterr()
    code = train.main(command)
    if "class" in METHODS[name].learned_for(lab.trainer("look", **options(name)).cfg):
        (line,) = capsys.readouterr().err.splitlines()
        assert code == 2 and OWN_CLASSES_ONLY in line
        assert lab.files("new") == []
    else:
        assert code == 0
        assert [task.classes for task in lab.result("new").tasks] == [1, 2]


@pytest.mark.parametrize("precision", ["amp", "bf16"])
@pytest.mark.parametrize("name", METHODS)
def test_every_precision_learns_in_float32(lab, name, precision):
    keys = options(name, OPTIM__MAX_EPOCH=1, **{f"TRAINER__{METHODS[name].section}__PREC": precision})
    result = lab.run(**keys)
    assert result.metric is not None and result.backbone.precision == precision
    learned = [value for value in lab.learned().values() if value.is_floating_point()]
    # float64: the regularisation of the linear probe, which is found on a grid
    assert all(torch.isfinite(value).all() and value.dtype in (torch.float32, torch.float64) for value in learned)


@pytest.mark.parametrize("name", METHODS)
def test_stored_features_change_nothing_but_rounding(lab, name):
    lab.run("images", **options(name))
    lab.run("features", **options(name, DATALOADER__FEATURES="on"))
    mine, theirs = lab.learned("images"), lab.learned("features")
    assert mine.keys() == theirs.keys()
    for key, value in mine.items():
        torch.testing.assert_close(value, theirs[key], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", [name for name, method in METHODS.items() if "image" in method.tunes])
def test_the_module_of_a_tuned_tower_gives_its_features(lab, name):
    trainer = lab.trainer(**options(name))
    trainer.train()
    images = torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = trainer.encode_images(images)
        torch.testing.assert_close(trainer.image_module()(images), expected)
        frozen, _ = clip.load(str(lab.backbone), precision="fp32")
        assert not torch.allclose(expected, frozen.encode_image(images), atol=1e-4)


POSITIONS = [
    (name, key.name)
    for name, method in METHODS.items()
    for key in method.config_keys
    if key.name.endswith("TOKEN_POSITION")
]


@pytest.mark.parametrize("position", ["middle", "front"])
@pytest.mark.parametrize(("name", "key"), POSITIONS)
def test_other_positions_of_the_name_learn_or_are_refused_in_one_line(lab, name, key, position):
    try:
        trainer = lab.trainer(**options(name, **{key.replace(".", "__"): position}))
    except UserError as error:
        assert position in str(error) and len(str(error).splitlines()) == 1
        return
    summary = trainer.forward_backward(next(iter(trainer.dm.train_loader_x)))
    assert torch.isfinite(summary["loss"])


@pytest.mark.parametrize(
    "name", ["CoOp", "CoCoOp", "ProGrad", "KgCoOp", "PLOT", "ProtoNet", "TaskRes", "TCP", *ON_FEATURES]
)
def test_a_method_has_a_config_for_every_backbone_and_for_the_demo(name):
    folder = CHECKOUT / "configs" / "trainers" / name
    assert {merged(path)["MODEL.BACKBONE.NAME"] for path in folder.glob("*")} == {
        "RN50",
        "RN101",
        "ViT-B/32",
        "ViT-B/16",
        "demo",
        "",  # own tasks: on any
    }


def test_every_key_of_a_method_is_declared_once():
    keys = {}
    for method in METHODS.values():
        for key in method.config_keys:
            assert keys.setdefault(key.name, key) is key, key.name
    assert keys.keys() <= all_keys().keys()


@pytest.mark.parametrize("name", sorted(METHODS))
@pytest.mark.parametrize("stage", ["learned", "pictures"])
def test_what_is_not_finite_is_no_percentage(lab, name, stage, monkeypatch):
    trainer = lab.trainer(**options(name, TEST__NO_TEST=True))
    trainer.train()
    if stage == "pictures":
        encode = trainer.encode_images
        monkeypatch.setattr(trainer, "encode_images", lambda images: encode(images) * torch.nan)
    else:
        for parameter in trainer.model.parameters():
            parameter.data.fill_(torch.nan)
        for buffer in (each for module in trainer.modules.values() for each in module.buffers()):
            buffer.data.fill_(torch.nan if buffer.is_floating_point() else 0)
    assert trainer.test()["metric"] is None
    assert all(score.metric is None and score.lost == score.total for score in trainer.evaluator.scores)


@pytest.mark.parametrize("kind", list(TRAINER_REGISTRY), ids=lambda kind: kind.__name__)
def test_who_scores_images_in_a_way_of_its_own_says_how_many_at_once(kind):
    """Else a test batch of stored features would be as large as one that needs a row of logits for an image."""
    lines = {name: next(c for c in kind.__mro__ if name in vars(c)) for name in ("logits", "model_inference")}
    said = next(c for c in kind.__mro__ if "test_rows" in vars(c))
    assert all(issubclass(said, own) for own in lines.values())
