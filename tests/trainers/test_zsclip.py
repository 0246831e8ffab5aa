import pytest
import torch

import clip
from dassl.data.datum import Task
from trainers.zsclip import template_prompts

PET, TOOL = "a photo of a {}, a type of pet.", "a photo of a {}."
NAMES = (("cat", "dog", "grey parrot"), ("hammer", "saw", "drill", "file", "rasp"))


def test_prompts_are_the_template_around_the_names():
    task = Task("pets", ("grey_parrot", "{}"), template="a {} seen {}.")
    assert template_prompts(task) == ["a grey parrot seen grey parrot.", "a {} seen {}."]


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
