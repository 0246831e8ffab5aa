"""PromptSRC: losses and average by a plain computation, its counts, tasks of a suite, resuming, warnings."""

import math

import pytest
import torch
from torch.nn import functional

import export
from dassl.inference import load_classifier
from dassl.inference.adapter import read_adapter
from tests.dassl.engine.cutting import interrupted_after_the_last_step
from tests.lab import same_tensors
from trainers.promptsrc import GaussianAverage, IndependentTokens, distance, divergence, gaussian_weights

SMALL = {
    "trainer": "PromptSRC",
    "TRAINER__PROMPTSRC__PREC": "fp32",
    "TRAINER__PROMPTSRC__DEPTH": 2,
    "TRAINER__PROMPTSRC__TEMPLATES": "a drawing of a {}. | the {}.",
    "OPTIM__WARMUP_EPOCH": 0,
}


@pytest.mark.parametrize(("depth", "count"), [(9, 46_080), (3, 15_360)])
def test_the_published_numbers_of_parameters(depth, count):
    assert sum(p.numel() for p in IndependentTokens((4, 512), (4, 768), depth, seed=1).parameters()) == count


@pytest.mark.parametrize(("epochs", "mean", "std", "known"), [
    (20, 15, 1, {15: 0.398942, 20: 1e-6}),
    (50, 30, 30, {1: 0.014124, 30: 0.022535, 50: 0.018045}),
    (50, 45, 5, {45: 0.092269, 50: 0.055964}),
    (20, 6, 10, {1: 0.055402, 6: 0.062779, 20: 0.023562}),
])  # fmt: skip
def test_the_weights_of_the_fact_sheet(epochs, mean, std, known):
    weights = gaussian_weights(epochs, mean, std)
    density = [math.exp(-0.5 * ((epoch - mean) / std) ** 2) for epoch in range(1, epochs + 1)]
    assert weights.tolist() == pytest.approx([each / sum(density) for each in density], rel=1e-9)
    assert {epoch: float(weights[epoch - 1]) for epoch in known} == pytest.approx(known, abs=6e-7)
    assert int(weights.argmax()) + 1 == mean


def test_a_mean_far_behind_the_last_epoch_is_still_an_average():
    assert gaussian_weights(3, 500, 1).tolist() == pytest.approx([0, 0, 1])


def test_the_average_is_a_weighted_sum_of_learned_tensors_in_float32():
    module = torch.nn.Linear(2, 1, dtype=torch.bfloat16)
    states, weights = torch.randn(3, 3), torch.tensor([0.2, 0.5, 0.3])
    average = GaussianAverage(module, weights)
    for epoch, state in enumerate(states):
        with torch.no_grad():
            module.weight.copy_(state[:2]), module.bias.copy_(state[2:])
        average.add(module, epoch)
    expected = sum(float(w) * state.bfloat16().float() for w, state in zip(weights, states, strict=True))
    assert average.weight.dtype == torch.float32 and list(average.state_dict()) == ["weight", "bias"]
    torch.testing.assert_close(torch.cat([average.weight[0], average.bias]), expected)
    average.put(module)
    assert torch.equal(module.weight[0], expected[:2].bfloat16())


def test_three_losses_of_a_suite_are_their_plain_computation(lab):
    """Image by image, and class by class; the divergence only over the classes of the image's task."""
    trainer = lab.trainer(**SMALL, DATALOADER__TRAIN_X__BATCH_SIZE=16)
    (batch,) = trainer.dm.train_loader_x
    trainer.printing = True
    loss, shown = trainer.loss(batch)
    backbone, tasks, scale = trainer.backbone, trainer.dm.tasks, trainer.backbone.logit_scale
    templates = ["a drawing of a {}.", "the {}."]
    w, w0, start = functional.normalize(trainer.model(), dim=-1), [], []
    for task in tasks:
        start.append(len(w0))
        for name in task.classnames:
            texts = [each.replace("{}", name.replace("_", " ")) for each in (task.template, *templates)]
            mean = sum(backbone.encode_text(backbone.tokenize([text]))[0] for text in texts) / 3
            w0.append(mean / mean.norm())
    f = functional.normalize(trainer.through_tower(batch["img"]), dim=-1)
    f0 = functional.normalize(backbone.encode_image(batch["img"]), dim=-1)
    ce = kl = 0.0
    for row, number, label in zip(batch["row"], batch["task"], batch["label"], strict=True):
        own = range(start[number], start[number] + len(tasks[number].classnames))
        q = torch.stack([scale * f[row] @ w[c] for c in own]).softmax(0)
        p = torch.stack([scale * f0[row] @ w0[c] for c in own]).softmax(0)
        ce = ce - q[label].log() / len(f)
        kl = kl + sum(p[c] * (p[c].log() - q[c].log()) for c in range(len(own))) / len(own) / len(f)
    text = sum((a - b).abs().mean() for a, b in zip(w, w0, strict=True)) / len(w)
    image = sum((a - b).abs().mean() for a, b in zip(f, f0, strict=True)) / len(f)
    expected = ce + 25 * text + 10 * image + kl
    assert float(loss.detach()) == pytest.approx(float(expected.detach()), rel=1e-4)
    assert [shown[name] for name in ("text", "image", "kl")] == pytest.approx(
        [float(each.detach()) for each in (text, image, kl)], rel=1e-3
    )
    parameters = list(trainer.model.prompt_learner.parameters())
    own, plain = (torch.autograd.grad(each, parameters) for each in (loss, expected))
    for mine, theirs in zip(own, plain, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-2, atol=1e-3 * float(theirs.abs().max()))


def test_the_divergence_of_one_task_is_that_of_torch():
    logits, frozen = torch.randn(4, 5), torch.randn(4, 5)
    sides = [each.log_softmax(1) for each in (logits, frozen)]
    expected = functional.kl_div(*sides, reduction="sum", log_target=True) / logits.numel()
    assert torch.allclose(divergence(logits, frozen, torch.ones(4, 5, dtype=torch.bool), images=4), expected)
    assert float(distance(3 * logits, logits)) < 1e-6


def test_the_final_tokens_are_the_average_of_the_epochs(lab):
    keys = {**SMALL, "OPTIM__MAX_EPOCH": 3, "TRAINER__PROMPTSRC__GPA_MEAN": 2.0, "TRAINER__PROMPTSRC__GPA_STD": 1.0}
    lab.run(**keys, TRAINER__PROMPTSRC__GPA=False, TRAIN__CHECKPOINT_FREQ=1)
    states = [torch.load(lab.folder("run") / f"prompt_learner/model.pth.tar-{n}")["state_dict"] for n in (1, 2, 3)]
    lab.run("averaged", **keys)
    final = torch.load(lab.folder("averaged") / "prompt_learner/model.pth.tar-3")["state_dict"]
    density = [math.exp(-0.5), 1.0, math.exp(-0.5)]
    for name, value in final.items():
        mean = sum(d * state[name] for d, state in zip(density, states, strict=True)) / sum(density)
        torch.testing.assert_close(value, mean, rtol=1e-5, atol=1e-7)
        assert not torch.equal(value, states[2][name])


def test_a_run_that_was_cut_off_has_the_average_of_all_epochs(lab):
    keys = {**SMALL, "OPTIM__MAX_EPOCH": 2}
    with interrupted_after_the_last_step():
        assert lab.main(**keys) == 130
    lab.run(**keys), lab.run("whole", **keys)
    assert same_tensors(lab.learned(), lab.learned("whole"))


def test_no_other_run_starts_from_an_average(lab):
    lab.run("first", **SMALL, OPTIM__MAX_EPOCH=1)
    trainer = lab.trainer(**SMALL, MODEL__INIT_WEIGHTS=str(lab.folder("first")))
    assert all(not value.any() for value in trainer.average.buffers())
    learned = torch.load(lab.folder("first") / "prompt_learner/model.pth.tar-1")["state_dict"]
    assert same_tensors(trainer.model.prompt_learner.state_dict(), learned)


def test_an_adapter_file_answers_as_the_run_without_its_average(lab):
    lab.run(**SMALL, OPTIM__MAX_EPOCH=1)
    path = lab.output / "tuned.safetensors"
    assert export.main([str(lab.folder("run")), "-o", str(path)]) == 0
    assert {name.partition(".")[0] for name in read_adapter(path).learned} == {"prompt_learner"}
    images = torch.randn(3, 3, 32, 32)
    run, mine = (load_classifier(each).probabilities(images) for each in (lab.folder("run"), path))
    assert run.keys() == mine.keys() and all(torch.equal(run[task], mine[task]) for task in run)


def test_a_mean_behind_the_last_epoch_is_told(lab, caplog):
    lab.trainer(**SMALL, TRAINER__PROMPTSRC__GPA_MEAN=15.0, OPTIM__MAX_EPOCH=2)
    assert "GPA_MEAN is 15, but there are 2 epochs" in caplog.text


def test_what_may_leave_the_average_out_is_told(lab, caplog):
    lab.trainer(**SMALL, OPTIM__MAX_EPOCH=2)
    assert "averaged" not in caplog.text
    lab.trainer(**SMALL, OPTIM__MAX_EPOCH=2, TEST__FINAL_MODEL="best_val", TRAIN__PATIENCE=1)
    assert "TEST.FINAL_MODEL best_val may test an epoch" in caplog.text and "TRAIN.PATIENCE 1 may end" in caplog.text
    caplog.clear()
    lab.trainer(**SMALL, OPTIM__MAX_EPOCH=2, TEST__FINAL_MODEL="best_val", TRAINER__PROMPTSRC__GPA=False)
    assert "averaged" not in caplog.text
