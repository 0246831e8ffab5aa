import pytest
import torch

import clip
from dassl.data.datum import Task
from trainers.zsclip import SELECTED_TEMPLATES, parse_templates, template_prompts

PET, TOOL = "a photo of a {}, a type of pet.", "a photo of a {}."
NAMES = (("cat", "dog", "grey parrot"), ("hammer", "saw", "drill", "file", "rasp"))


def test_prompts_are_the_template_around_the_names():
    task = Task("pets", ("grey_parrot", "{}"), template="a {} seen {}.")
    assert template_prompts(task) == ["a grey parrot seen grey parrot.", "a {} seen {}."]
    assert template_prompts(task, "{} here") == ["grey parrot here", "{} here"]


def test_every_task_is_scored_with_its_own_template(lab):
    result = lab.run(trainer="ZeroshotCLIP")
    trainer = lab.trainer("other", trainer="ZeroshotCLIP")
    backbone, _ = clip.load(str(lab.backbone))
    texts = [PET.replace("{}", name) for name in NAMES[0]] + [TOOL.replace("{}", name) for name in NAMES[1]]
    features = torch.nn.functional.normalize(backbone.encode_text(clip.tokenize(texts)), dim=-1)
    hits = {0: {}, 1: {}}
    for batch in trainer.dm.test_loader:
        images = torch.nn.functional.normalize(backbone.encode_image(batch["img"]), dim=-1)
        for scores, task, label in zip(
            images @ features.T, batch["task"].tolist(), batch["label"].tolist(), strict=True
        ):
            own = scores[:3] if task == 0 else scores[3:]
            hits[task].setdefault(label, []).append(float(own.argmax() == label))
    recalls = [[sum(h) / len(h) for h in per_class.values()] for per_class in hits.values()]
    expected = [100 * sum(each) / len(each) for each in recalls]  # every class has as many images
    assert [task.metric for task in result.tasks] == pytest.approx(expected)
    assert result.metric == pytest.approx(sum(expected) / 2)
    assert (result.mode, result.parameters, result.epochs, lab.checkpoints()) == ("eval", 0, 0, {})


@pytest.mark.parametrize("flags", [(), ("--eval-only",)], ids=["plain", "eval only"])
def test_one_task_alone_gives_its_share_of_the_suite(lab, flags):
    suite = lab.run("suite", *flags, trainer="ZeroshotCLIP")
    for number in (0, 1):
        alone = lab.run(f"task{number}", *flags, trainer="ZeroshotCLIP", DATASET__SUBSAMPLE_TASKS=f"task{number}")
        (task,) = alone.tasks
        assert (task.name, task.metric, task.total) == tuple(
            getattr(suite.tasks[number], key) for key in ("name", "metric", "total")
        )


def test_a_finished_evaluation_is_not_done_again(lab, capsys):
    lab.run(trainer="ZeroshotCLIP")
    log = lab.log()
    lab.run(trainer="ZeroshotCLIP")
    assert lab.log() == log
    assert "is finished" in capsys.readouterr().out


def ensemble_metrics(lab, trainer, templates):
    """Accuracy in % of every task with an ensemble, image by image and class by class."""
    backbone, _ = clip.load(str(lab.backbone))
    unit = torch.nn.functional.normalize
    found = []
    for number, (own, names) in enumerate(zip((PET, TOOL), NAMES, strict=True)):
        rows = []
        for name in names:
            texts = [template.replace("{}", name) for template in (own, *templates)]
            each = torch.cat([unit(backbone.encode_text(clip.tokenize([text])), dim=-1) for text in texts])
            rows.append(unit(each.mean(0), dim=0))
        hits = []
        for batch in trainer.dm.test_loader:
            scores = unit(backbone.encode_image(batch["img"]), dim=-1) @ torch.stack(rows).T
            hits += (scores.argmax(1) == batch["label"])[batch["task"] == number].tolist()
        found.append(100 * sum(hits) / len(hits))
    return found


def test_the_ensemble_is_the_mean_of_unit_features(lab):
    trainer = lab.trainer("other", trainer="ZeroshotCLIP2")
    assert (len(SELECTED_TEMPLATES), trainer.options.TEMPLATES) == (7, SELECTED_TEMPLATES)
    result = lab.run(trainer="ZeroshotCLIP2")
    assert [task.metric for task in result.tasks] == pytest.approx(ensemble_metrics(lab, trainer, SELECTED_TEMPLATES))
    assert (result.mode, result.parameters, lab.checkpoints()) == ("eval", 0, {})
    # Exactly, since an accuracy of a random model may agree by chance.
    trainer.before_test()
    found = torch.nn.functional.normalize(trainer._class_features, dim=-1)
    texts = [template.replace("{}", "grey parrot") for template in (PET, *SELECTED_TEMPLATES)]
    backbone, _ = clip.load(str(lab.backbone))
    rows = torch.nn.functional.normalize(backbone.encode_text(clip.tokenize(texts)), dim=-1)
    assert torch.allclose(found[2], torch.nn.functional.normalize(rows.mean(0), dim=0), atol=1e-6)


def test_the_users_templates_join_or_replace_the_seven(lab):
    own = "a scan of a {}, enlarged.|{} on paper"
    trainer = lab.trainer(trainer="ZeroshotCLIP2", TRAINER__ZSCLIP__EXTRA_TEMPLATES=own)
    assert len(trainer.model._tokens) == 1 + 7 + 2
    keys = {"TRAINER__ZSCLIP__TEMPLATES": "{} on paper", "TRAINER__ZSCLIP__EXTRA_TEMPLATES": ""}
    trainer = lab.trainer(trainer="ZeroshotCLIP2", **keys)
    assert trainer.options.TEMPLATES == ("{} on paper",)
    result = lab.run(trainer="ZeroshotCLIP2", **keys)
    assert [task.metric for task in result.tasks] == pytest.approx(ensemble_metrics(lab, trainer, ["{} on paper"]))


def test_templates_of_a_config():
    texts = ("a {}, seen.", "{}")
    assert parse_templates(list(texts)) == parse_templates("a {}, seen. | {}") == (texts, [])
    assert parse_templates("") == ((), [])
    for wrong in ("a photo", "{} {}", "{0}", "{name}", ["{}", "line\n{}"]):
        assert len(parse_templates(wrong)[1]) == 1
    assert parse_templates(3)[1] == parse_templates(["{}", 3])[1]


def test_an_ensemble_of_one_is_refused(lab, capsys):
    assert lab.main(trainer="ZeroshotCLIP2", TRAINER__ZSCLIP__TEMPLATES="") == 2
    assert "use --trainer ZeroshotCLIP" in capsys.readouterr().err
    assert lab.main(trainer="ZeroshotCLIP2", TRAINER__ZSCLIP__EXTRA_TEMPLATES="no place for a name") == 2
    assert "'no place for a name' must have" in capsys.readouterr().err
