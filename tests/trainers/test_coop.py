"""CoOp, and what its family shares: keys, starts from words, templates as phrases."""

import pytest
import torch

from dassl.config import get_cfg_default, merge_cfg
from dassl.data.dataset import DATASET_REGISTRY, DatasetBase
from dassl.data.datum import Task
from dassl.utils.errors import UserError
from dassl.utils.tools import CHECKOUT
from tests.lab import same_tensors
from trainers._coop import template_phrase

COOP = {"trainer": "CoOp", "TRAINER__COOP__N_CTX": 2, "TRAINER__COOP__PREC": "fp32"}
HARD = {"trainer": "MTCoOpHard"}


@pytest.mark.parametrize("own", [False, True], ids=["CA", "CS"])
@pytest.mark.parametrize("position", ["end", "middle", "front"])
def test_on_a_whole_suite_it_is_hard_sharing(lab, own, position):
    lab.run("coop", **COOP, TRAINER__COOP__CSC=own, TRAINER__COOP__CLASS_TOKEN_POSITION=position)
    lab.run("hard", **HARD, TRAINER__MTCOOPH__CSC=own, TRAINER__MTCOOPH__TOKEN_POSITION=position)
    assert lab.result("coop").tasks == lab.result("hard").tasks
    assert same_tensors(lab.learned("coop"), lab.learned("hard"))


def test_the_tasks_one_by_one_are_runs_of_their_own(lab):
    alone = [lab.run(f"task{t}", **COOP, DATASET__SUBSAMPLE_TASKS=f"task{t}") for t in (0, 1)]
    assert [(run.tasks[0].name, run.tasks[0].classes) for run in alone] == [("pet_kind", 3), ("tool", 5)]
    assert [run.parameters for run in alone] == [2 * 128, 2 * 128]
    first, second = (lab.learned(f"task{t}")["prompt_learner/model.pth.tar-3:ctx"] for t in (0, 1))
    assert not torch.equal(first, second)


STARTS = {"a_photo": "a photo", "False": "", "": "", "false": "", False: ""}


@pytest.mark.parametrize(("value", "meaning"), STARTS.items())
def test_the_start_may_be_words_or_nothing(lab, value, meaning):
    context = lab.trainer(**COOP, TRAINER__COOP__CTX_INIT=value).model.prompt_learner.ctx
    random = lab.trainer(**COOP).model.prompt_learner.ctx
    assert torch.equal(context, random) == (not meaning)
    assert 0.01 < random.std() < 0.03


@pytest.mark.parametrize("trainer", ["CoOp", "KgCoOp"])
@pytest.mark.parametrize("value", ["True", "true", "a photo of a"])
def test_true_stands_for_a_photo_of_a(lab, trainer, value):
    keys = {**COOP, "trainer": trainer, "TRAINER__COOP__N_CTX": 4, "TRAINER__COOP__CTX_INIT": value}
    built = lab.trainer(**keys, TRAINER__COOP__CSC=True)
    words = built.backbone.text.phrase_vectors("a photo of a")
    assert all(torch.equal(context, words) for context in built.model.prompt_learner.ctx)


def test_the_start_of_a_config_file_is_read_like_that_of_the_command_line(tmp_path):
    read = {}
    for written in ("True", "true", '"True"', "False", '""', '"a photo of a"', "5", "[a]"):
        file = tmp_path / "method.yaml"
        file.write_text(f"TRAINER:\n  COOP:\n    CTX_INIT: {written}\n")
        cfg = get_cfg_default()
        try:
            merge_cfg(cfg, files=[file])
            read[written] = cfg.TRAINER.COOP.CTX_INIT
        except UserError as error:
            assert "TRAINER.COOP.CTX_INIT is" in str(error) and "expected a text" in str(error)
    assert read == {
        **dict.fromkeys(("True", "true", '"True"'), "True"),
        **dict.fromkeys(("False", '""'), ""),
        '"a photo of a"': "a photo of a",
    }


REFUSED = [
    ({"TRAINER__COOP__CTX_INIT": "a photo of a"}, "TRAINER.COOP.CTX_INIT 'a photo of a' has 4 words but the context"),
    ({"TRAINER__COOP__CTX_INIT": True}, "TRAINER.COOP.CTX_INIT 'a photo of a' has 4 words but the context"),
    ({"TRAINER__COOP__N_CTX": 0}, "TRAINER.COOP.N_CTX is 0: must be at least 1"),
    ({"TRAINER__COOP__N_CTX": 90}, "the prompt of 'cat' has 94 tokens"),
    ({"TRAINER__COOP__CLASS_TOKEN_POSITION": "back"}, "choose one of 'end', 'middle', 'front'"),
    ({"TRAINER__COOP__PREC": "fp8"}, "TRAINER.COOP.PREC is 'fp8': choose one of"),
    ({"TRAINER__COOP__ALPHA": 1}, "unknown key 'TRAINER.COOP.ALPHA'"),
    ({"LOSS__NAME": "kd"}, "LOSS.NAME is 'kd': choose one of 'prograd'"),
    ({"LOSS__T": 0}, "LOSS.T is 0.0: must be above 0"),
    ({"LOSS__LAMBDA": -1}, "LOSS.LAMBDA is -1.0: must be at least 0"),
]


@pytest.mark.parametrize(("keys", "message"), REFUSED, ids=[message[:50] for _, message in REFUSED])
def test_what_means_nothing_is_refused_in_one_line(lab, capsys, keys, message):
    assert lab.main(**{**COOP, **keys}) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line
    assert lab.files() == []


def test_contexts_of_base_classes_say_nothing_of_as_many_new_ones(lab, capsys):
    # Without ToyTools' fifth class both halves would be of one size, and shapes would not tell.
    keys = {**COOP, "TRAINER__COOP__CSC": True, "DATASET__SUBSAMPLE_TASKS": "task1"}
    lab.run("all", **keys)
    checkpoint = lab.folder("all") / "prompt_learner/model.pth.tar-3"
    content = torch.load(checkpoint, weights_only=True)
    assert content["names"] == ["hammer", "saw", "drill", "file", "rasp"]
    torch.save({**content, "names": ["hammer", "saw", "drill", "file", "plane"]}, checkpoint)
    assert lab.main("new", "--eval-only", "--model-dir", str(lab.folder("all")), **keys) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "holds something for each of the 5 names that it was trained on and nothing for 'rasp'" in line
    torch.save({**content, "names": content["names"][::-1]}, checkpoint)
    assert lab.main("new", "--eval-only", "--model-dir", str(lab.folder("all")), **keys) == 2
    assert "not these 5 in this order" in capsys.readouterr().err


PROGRAD = {
    "OxfordPets": "a type of pet, a photo of a",
    "OxfordFlowers": "a type of flower, a photo of a",
    "FGVCAircraft": "a type of aircraft, a photo of a",
    "DescribableTextures": "a texture of",
    "EuroSAT": "a centered satellite photo of",
    "Food101": "a type of food, a photo of",
    "UCF101": "a photo of a person doing",
    "StanfordCars": "a photo of a",
    "SUN397": "a photo of a",
    "Caltech101": "a photo of a",
    "ImageNet": "a photo of a",
    "KaggleMushroom": "a type of mushroom, a photo of a",
}


@pytest.mark.parametrize(("dataset", "phrase"), PROGRAD.items())
def test_phrases_are_those_of_prograds_table(dataset, phrase):
    template = DATASET_REGISTRY.get(dataset).template
    assert template_phrase(Task("", (), template=template)) == phrase


OTHERS = {
    "{}.": "a photo of a",
    "{}": "a photo of a",
    "a photo of a {} surface.": "surface, a photo of a",
    "{} indoor scene.": "an indoor scene of",
    "{}, a type of tree.": "a type of tree,",
    "{} the poster": "the poster of",
}


@pytest.mark.parametrize(("template", "phrase"), OTHERS.items())
def test_other_templates_become_phrases_as_well(template, phrase):
    assert template_phrase(Task("", (), template=template)) == phrase


def test_every_data_set_has_a_phrase():
    single = [each for each in DATASET_REGISTRY if issubclass(each, DatasetBase)]
    assert len(single) > 20
    for dataset in single:
        phrase = template_phrase(Task("", (), template=dataset.template))
        assert phrase and "{" not in phrase and phrase == phrase.strip(" .")


OFFICIAL = {
    "CoOp/rn50": {"MAX_EPOCH": 200, "BATCH_SIZE": 32, "N_CTX": 16, "CTX_INIT": ""},
    "CoOp/rn101_ep50": {"MAX_EPOCH": 50, "BATCH_SIZE": 32, "N_CTX": 16, "CTX_INIT": ""},
    "CoOp/vit_b16_ep100_ctxv1": {"MAX_EPOCH": 100, "BATCH_SIZE": 32, "N_CTX": 4, "CTX_INIT": "a photo of a"},
    "ProGrad/rn50_ep50": {"MAX_EPOCH": 50, "BATCH_SIZE": 32, "N_CTX": 16, "CTX_INIT": "True", "LAMBDA": 1, "T": 1},
    "ProGrad/vit_b32": {"MAX_EPOCH": 200, "BATCH_SIZE": 32, "N_CTX": 16, "CTX_INIT": "True", "LAMBDA": 1, "T": 1},
    "KgCoOp/rn50_ep100": {"MAX_EPOCH": 100, "BATCH_SIZE": 128, "N_CTX": 4, "CTX_INIT": "True", "W": 8},
    "KgCoOp/vit_b16_ep100_ctxv1": {"MAX_EPOCH": 100, "BATCH_SIZE": 128, "N_CTX": 4, "CTX_INIT": "True", "W": 8},
}


@pytest.mark.parametrize(("name", "expected"), OFFICIAL.items())
def test_shipped_settings_are_the_official_ones(name, expected):
    cfg = get_cfg_default()
    merge_cfg(cfg, files=[CHECKOUT / "configs" / "trainers" / f"{name}.yaml"])
    values = {**cfg.OPTIM, **cfg.DATALOADER.TRAIN_X, **cfg.LOSS, **cfg.TRAINER.COOP}
    assert {key: values[key] for key in expected} == expected
    assert (cfg.OPTIM.NAME, cfg.OPTIM.LR, cfg.OPTIM.WARMUP_EPOCH, cfg.OPTIM.WARMUP_CONS_LR) == ("sgd", 0.002, 1, 1e-5)
