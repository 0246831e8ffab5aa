"""Every method in every variant trains, saves what it learned, and is evaluated to the same figures."""

import pytest
import torch

from tests.lab import same_tensors


def soft(**options):
    return {f"TRAINER__MTCOOP__{key}": value for key, value in options.items()}


def hard(**options):
    return {"trainer": "MTCoOpHard", **{f"TRAINER__MTCOOPH__{key}": value for key, value in options.items()}}


WORDS = {"TASK_CTX_INIT": "a_kind", "CLASS_CTX_INIT": "photo of", "CTX_INIT": "a picture"}
METHODS = {
    "NATA": soft(),
    "NATS": soft(TASK_CSC=True),
    "CATA": soft(CSC=True),
    "CSTA": soft(CSC=True, CLASS_CSC=True),
    "CATS": soft(CSC=True, TASK_CSC=True),
    "CSTS": soft(CSC=True, CLASS_CSC=True, TASK_CSC=True),
    "NATA normalised": soft(NORMALIZE=True),
    "CATA normalised": soft(CSC=True, NORMALIZE=True),
    "NATA shared": soft(SHARED_CTX=True),
    "CATA shared normalised": soft(CSC=True, SHARED_CTX=True, NORMALIZE=True),
    "CATA linmean": soft(CSC=True, PG_TYPE="linmean"),
    "NATA linmean": soft(PG_TYPE="linmean"),
    "CATA lincls": soft(CSC=True, PG_TYPE="lincls"),
    "CATA sampled": soft(CSC=True, CLS_SAMPLE_RATE=0.4),
    "CATA frozen": soft(CSC=True, FREEZE_CLS_PROMPT=1),
    "CATA middle": soft(CSC=True, TOKEN_POSITION="middle", TASK_TOKEN_POSITION="front", CLASS_TOKEN_POSITION="middle"),
    "NATA front": soft(TOKEN_POSITION="front", TASK_TOKEN_POSITION="middle"),
    "CATA words": soft(CSC=True, **WORDS),
    "CSTS words": soft(CSC=True, CLASS_CSC=True, TASK_CSC=True, **WORDS),
    "NATA without task context": soft(TASK_N_CTX=0),
    "CATA without name contexts": soft(CSC=True, TASK_N_CTX=0, CLASS_N_CTX=0),
    "CATA released": soft(CSC=True, RECIPE="released"),
    "CoOp-MT": hard(),
    "CoOp-CA": hard(TSC=True),
    "CoOp-CS": hard(CSC=True),
    "CoOp-CS by task": hard(CSC=True, TSC=True),
    "CoOp-MT middle": hard(TOKEN_POSITION="middle", CTX_INIT="a_photo"),
    "MCoOp": hard(TOKEN_POSITION="middle", UNION=True),
    "CoOp-CA front": hard(TSC=True, TOKEN_POSITION="front", CTX_INIT="a photo"),
}
# This meta network reads the class names only. As in the original the context of the task names is there all the same,
# with a gradient of zeros, so that weight decay moves it.
# A meta network that starts from zero passes nothing back to the prompts around names in the first step.
IDLE = {
    "CATA lincls": {"task_prompt_learner.ctx"},
    "NATA shared": {"task_prompt_learner.ctx"},
    "CATA shared normalised": {"class_prompt_learner.ctx", "task_prompt_learner.ctx"},
}


@pytest.mark.parametrize("method", METHODS)
def test_a_method_trains_saves_and_is_evaluated(lab, method):
    keys = {**METHODS[method], "OPTIM__MAX_EPOCH": 2}
    start = lab.trainer(**keys)
    result = lab.run(**keys)
    learned = lab.learned()
    assert set(lab.checkpoints()) == {f"{name}/model.pth.tar-2" for name in start.modules}
    for name, module in start.modules.items():
        for key, parameter in module.named_parameters():
            after = learned[f"{name}/model.pth.tar-2:{key}"]
            assert after.shape == parameter.shape
            assert torch.isfinite(after).all()
            assert torch.equal(after, parameter) == (not parameter.requires_grad)
    again = lab.run("again", "--eval-only", "--model-dir", str(lab.folder("run")), **keys)
    assert (again.metric, again.tasks, again.parameters) == (result.metric, result.tasks, result.parameters)


@pytest.mark.parametrize("method", METHODS)
def test_the_gradient_reaches_every_learned_tensor(lab, method):
    trainer = lab.trainer(**METHODS[method], DATALOADER__TRAIN_X__BATCH_SIZE=16)
    frozen = {key: value.clone() for key, value in trainer.backbone.state_dict().items()}
    (batch,) = trainer.dm.train_loader_x
    assert set(batch["task"].tolist()) == {0, 1}
    loss = trainer.forward_backward(batch)["loss"]
    assert torch.isfinite(loss)
    learned = {name: p for name, p in trainer.model.named_parameters() if p.requires_grad}
    unmoved = {name for name, parameter in learned.items() if parameter.grad is None or not parameter.grad.any()}
    assert unmoved == IDLE.get(method, set())
    assert {id(p) for group in trainer.optim.param_groups for p in group["params"]} == {id(p) for p in learned.values()}
    assert trainer.num_parameters == sum(parameter.numel() for parameter in learned.values())
    assert all(parameter.dtype == torch.float32 for parameter in learned.values())
    assert all(torch.equal(value, frozen[key]) for key, value in trainer.backbone.state_dict().items())


@pytest.mark.parametrize("keys", [METHODS["NATS"], METHODS["CoOp-CA"]], ids=["NATS", "CoOp-CA"])
def test_a_task_that_is_not_in_the_batch_gets_no_gradient(lab, keys):
    trainer = lab.trainer(**keys, DATALOADER__TRAIN_X__BATCH_SIZE=16)
    (batch,) = trainer.dm.train_loader_x
    rows = (batch["task"] == 1).nonzero().flatten()
    part = {"img": batch["img"][rows], "label": batch["label"][rows], "task": batch["task"][rows]}
    trainer.loss({**part, "row": torch.arange(len(rows))})[0].backward()
    if "trainer" in keys:
        first, second = (learner.ctx.grad for learner in trainer.model.prompt_learner.learners)
    else:
        first, second = trainer.model.task_prompt_learner.ctx.grad
    assert not first.any()
    assert second.any()


@pytest.fixture
def four_threads():
    threads = torch.get_num_threads()
    torch.set_num_threads(4)
    yield
    torch.set_num_threads(threads)


@pytest.mark.usefixtures("four_threads")
def test_the_gradient_of_a_task_feature_is_summed_in_one_order(lab, monkeypatch):
    model = lab.trainer(**METHODS["CATA"]).model
    generator = torch.Generator().manual_seed(0)
    tasks, classes = (torch.randn(size, model.prompt_gen.proj.shape[0] // 2, generator=generator) for size in (2, 5000))
    monkeypatch.setattr(model, "name_features", lambda columns: (tasks.requires_grad_(), classes))
    monkeypatch.setattr(model, "_owner", torch.arange(5000) // 2500)
    gradients = [torch.autograd.grad(model.contexts()[0].square().sum(), tasks)[0] for _ in range(10)]
    assert all(torch.equal(gradient, gradients[0]) for gradient in gradients)


def test_starting_values_depend_on_the_seed_and_the_name_only(lab):
    plain = lab.trainer(**METHODS["NATA"]).model.prompt_gen.proj
    assert torch.equal(plain, lab.trainer(**METHODS["NATS"]).model.prompt_gen.proj)
    assert not torch.equal(plain, lab.trainer(**METHODS["NATA"], seed=2).model.prompt_gen.proj)
    assert plain.std().item() == pytest.approx(0.02, rel=0.05)
    assert abs(plain.mean().item()) < 0.002


def test_words_are_the_start_of_every_context(lab):
    trainer = lab.trainer(**METHODS["CSTS words"])
    for learner, words in (
        (trainer.model.task_prompt_learner, "a kind"),
        (trainer.model.class_prompt_learner, "photo of"),
    ):
        expected = trainer.backbone.text.phrase_vectors(words)
        assert all(torch.equal(context, expected) for context in learner.ctx)


def test_a_frozen_class_prompt_is_saved_and_loaded(lab):
    lab.run(**METHODS["CATA frozen"], OPTIM__MAX_EPOCH=1)
    other = lab.trainer("other", **METHODS["CATA frozen"], seed=5)
    before = other.model.class_prompt_learner.ctx.clone()
    other.checkpoints.load(lab.folder("run"))
    saved = lab.learned()["class_prompt_learner/model.pth.tar-1:ctx"]
    assert torch.equal(other.model.class_prompt_learner.ctx, saved)
    assert not torch.equal(before, saved)


def test_coop_cs_is_the_same_with_and_without_learners_by_task(lab):
    shared, by_task = (lab.trainer(**METHODS[name]) for name in ("CoOp-CS", "CoOp-CS by task"))
    with torch.no_grad():
        for learner, part in zip(
            by_task.model.prompt_learner.learners, shared.model.prompt_learner.ctx.split([3, 5]), strict=True
        ):
            learner.ctx.copy_(part)
        torch.testing.assert_close(by_task.model(), shared.model())


def test_the_logits_are_scaled_cosines(lab):
    trainer = lab.trainer()
    batch = next(iter(trainer.dm.test_loader))
    trainer.before_test()
    found = trainer.model_inference(batch)
    with torch.no_grad():
        images, texts = trainer.backbone.encode_image(batch["img"]), trainer.model()
    cosine = torch.nn.functional.cosine_similarity(images[:, None], texts[None], dim=-1)
    torch.testing.assert_close(found, trainer.backbone.logit_scale * cosine, rtol=1e-4, atol=1e-4)


REFUSED = [
    (soft(CLS_SAMPLE_RATE=0.1), "TRAINER.MTCOOP.CLS_SAMPLE_RATE needs TRAINER.MTCOOP.CSC True"),
    (soft(CLS_SAMPLE_RATE=1.5, CSC=True), "TRAINER.MTCOOP.CLS_SAMPLE_RATE is 1.5: must lie between 0 and 1"),
    (soft(PG_TYPE="lincls"), "TRAINER.MTCOOP.PG_TYPE lincls reads class names and needs TRAINER.MTCOOP.CSC True"),
    (soft(PG_TYPE=""), "TRAINER.MTCOOP.PG_TYPE is '': choose one of 'lin', 'linmean', 'lincls'"),
    (soft(N_CTX=0), "TRAINER.MTCOOP.N_CTX is 0"),
    (soft(TASK_N_CTX=-1), "TRAINER.MTCOOP.TASK_N_CTX is -1: must be at least 0"),
    (soft(N_CTX=90), "the prompt of 'cat' has 94 tokens"),
    (soft(CTX_INIT="a photo of a"), "TRAINER.MTCOOP.CTX_INIT 'a photo of a' has 4 words but the context has 2 vectors"),
    (soft(TASK_CTX_INIT="photo"), "TRAINER.MTCOOP.TASK_CTX_INIT 'photo' has 1 words but"),
    (soft(CSC=True, CLASS_CTX_INIT="photo"), "TRAINER.MTCOOP.CLASS_CTX_INIT 'photo' has 1 words but"),
    (soft(TOKEN_POSITION="back"), "TRAINER.MTCOOP.TOKEN_POSITION is 'back': choose one of 'end', 'middle', 'front'"),
    (soft(PREC="fp8"), "TRAINER.MTCOOP.PREC is 'fp8': choose one of 'fp32', 'fp16', 'bf16', 'amp'"),
    (soft(RECIPE="both"), "TRAINER.MTCOOP.RECIPE is 'both': choose one of 'corrected', 'released'"),
    (hard(N_CTX=0), "TRAINER.MTCOOPH.N_CTX is 0"),
    (hard(CTX_INIT="a photo of a"), "TRAINER.MTCOOPH.CTX_INIT 'a photo of a' has 4 words but"),
    ({"INPUT__SIZE": "64,64"}, "INPUT.SIZE is (64, 64) but"),
    ({"OPTIM__SGD_NESTEROV": True, "OPTIM__MOMENTUM": 0}, "OPTIM: sgd refuses these settings"),
]


@pytest.mark.parametrize(("keys", "message"), REFUSED, ids=[message[:50] for _, message in REFUSED])
def test_combinations_that_mean_nothing_are_refused_with_one_line(lab, capsys, keys, message):
    assert lab.main(**keys) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line
    assert lab.files() == []


def test_a_phrase_for_prompts_that_are_not_there_does_not_matter(lab):
    assert lab.trainer(**soft(CLASS_CTX_INIT="photo")).model.class_prompt_learner is None


@pytest.mark.parametrize("precision", ["fp32", "fp16", "bf16", "amp"])
def test_learned_tensors_and_logits_are_float32_in_every_precision(lab, precision, caplog):
    trainer = lab.trainer(**soft(PREC=precision, CSC=True))
    batch = next(iter(trainer.dm.train_loader_x))
    before = {name: p.clone() for name, p in trainer.model.named_parameters()}
    trainer.forward_backward(batch)
    trainer.before_test()
    assert trainer.model_inference(batch).dtype == torch.float32
    after = dict(trainer.model.named_parameters())
    assert {p.dtype for p in after.values()} == {torch.float32}
    assert not same_tensors(before, {name: p.detach() for name, p in after.items()})
    assert trainer.precision == ("fp32" if precision == "fp16" else precision)
    assert ("fp16" in caplog.text) == (precision == "fp16")
