"""MVLPT: its counts and starts, the mixing network by a plain computation, where tokens stand, what is refused."""

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional
from yacs.config import CfgNode

from dassl.metrics import task_cross_entropy
from dassl.utils.errors import UserError
from tests.lab import same_tensors
from trainers.mvlpt import SharedTokens

MVPT = {"trainer": "MVLPT", "TRAINER__MVLPT__N_CTX": 0, "TRAINER__MVLPT__VISUAL_N_CTX": 2}
MUPT = {"trainer": "MVLPT", "TRAINER__MVLPT__N_CTX": 2, "TRAINER__MVLPT__VISUAL_N_CTX": 3}
B16 = {"text": 512, "image": 768, "layers": 12, "patch": 16}
L14 = {"text": 768, "image": 1024, "layers": 24, "patch": 14}


def shared(text, image, layers, patch, *, seed=1, **options) -> SharedTokens:
    """The learned tokens for towers of these sizes."""
    chosen = {"N_CTX": 4, "VISUAL_N_CTX": 4, "VISUAL_DEEP": True, "MIX": "released", "MIX_WIDTH": 128, **options}
    return SharedTokens(text, image, layers, patch, CfgNode(chosen), seed=seed)


def count(module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.mark.parametrize(("sizes", "options", "expected"), [
    (B16, {"N_CTX": 0, "VISUAL_N_CTX": 16}, 147_456),
    (B16, {"N_CTX": 0, "VISUAL_N_CTX": 16, "VISUAL_DEEP": False}, 12_288),
    (B16, {}, 566_400),
    (B16, {"N_CTX": 16, "VISUAL_N_CTX": 16}, 683_136),
    (L14, {}, 760_448),
    (B16, {"MIX": "none"}, 2_048 + 36_864),
])  # fmt: skip
def test_the_published_numbers_of_parameters(sizes, options, expected):
    assert count(shared(**sizes, **options)) == expected


def test_the_parts_of_the_mixing_network():
    mixing = shared(**B16).mixing
    ends = [mixing.text_in, mixing.visual_in, mixing.text_out, mixing.visual_out]
    assert (count(mixing.block), sum(map(count, ends))) == (198_272, 329_216)
    narrow = shared(128, 768, 12, 16).mixing
    assert (count(narrow.text_in), count(narrow.text_out)) == (0, 0), "a side of this width needs no linear layer"


@pytest.mark.parametrize(("width", "patch", "bound"), [(768, 16, 0.0625), (768, 32, 0.03953), (1024, 14, 0.06101)])
def test_tokens_of_images_start_uniform(width, patch, bound):
    tokens = shared(512, width, 12, patch, N_CTX=0, VISUAL_N_CTX=16)
    values = torch.cat([tokens.vpt, tokens.vpt_deep]).detach()
    assert values.abs().max() <= bound + 1e-5 and values.abs().max() > 0.99 * bound
    assert values.std().item() == pytest.approx(bound / math.sqrt(3), rel=0.02)


@pytest.mark.parametrize(("mix", "text_std", "visual_std"), [("released", 0.262, 0.270), ("mixed", 0.203, 0.204)])
def test_the_network_starts_as_published(mix, text_std, visual_std):
    made = [shared(**B16, MIX=mix, seed=seed)() for seed in range(20)]  # a mean over 20 seeds varies by 1.7 %
    for tokens, expected in zip(zip(*made, strict=True), (text_std, visual_std), strict=True):
        assert sum(float(each.detach().std()) for each in tokens) / 20 == pytest.approx(expected, rel=0.06)


def test_starts_depend_on_the_seed_alone():
    first, second = shared(**B16), (torch.rand(3), shared(**B16))[1]
    assert same_tensors(first.state_dict(), second.state_dict())
    other = shared(**B16, seed=2)
    assert not torch.equal(first.vpt, other.vpt)
    assert not torch.equal(first.mixing.text_in.weight, other.mixing.text_in.weight)


def normed(x: Tensor, layer) -> Tensor:
    """Layer norm of a vector by its definition."""
    return (x - x.mean()) / (x.var(unbiased=False) + layer.eps).sqrt() * layer.weight + layer.bias


def plainly(block, tokens: list[Tensor], *, together: bool) -> list[Tensor]:
    """The block token by token, with each attention weight computed by itself."""
    width = len(tokens[0])
    rows = [normed(token, block.ln_1) for token in tokens]
    weight, bias = block.attn.in_proj_weight.view(3, width, width), block.attn.in_proj_bias.view(3, width)
    q, k, v = ([weight[i] @ row + bias[i] for row in rows] for i in range(3))
    found = []
    for n, token in enumerate(tokens):
        seen = range(len(tokens)) if together else [n]
        powers = [torch.exp(q[n] @ k[m] / math.sqrt(width)) for m in seen]
        mean = sum(power * v[m] for power, m in zip(powers, seen, strict=True)) / sum(powers)
        token = token + block.attn.out_proj.weight @ mean + block.attn.out_proj.bias
        hidden = block.mlp[0].weight @ normed(token, block.ln_2) + block.mlp[0].bias
        hidden = hidden * torch.sigmoid(1.702 * hidden)
        found.append(token + block.mlp[2].weight @ hidden + block.mlp[2].bias)
    return found


@pytest.mark.parametrize("mix", ["released", "mixed"])
def test_the_mixing_network_is_its_plain_computation(mix):
    tokens = shared(6, 10, 3, 4, MIX=mix, MIX_WIDTH=8, N_CTX=2, VISUAL_N_CTX=3).double()
    with torch.no_grad():
        for parameter in tokens.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(len(parameter))))
    m = tokens.mixing
    ends = [(m.text_in, row) for row in tokens.ctx]
    ends += [(m.visual_in, row) for layer in (*tokens.vpt, *tokens.vpt_deep) for row in layer]
    middle = plainly(m.block, [end.weight @ row + end.bias for end, row in ends], together=mix == "mixed")
    text = torch.stack([m.text_out.weight @ row + m.text_out.bias for row in middle[:2]])
    visual = torch.stack([m.visual_out.weight @ row + m.visual_out.bias for row in middle[2:]]).view(3, 3, 10)
    made = tokens()
    assert torch.allclose(made[0], text, atol=1e-10) and torch.allclose(made[1], visual, atol=1e-10)
    weights = [torch.randn_like(each) for each in made]
    sums = [sum((w * each).sum() for w, each in zip(weights, pair, strict=True)) for pair in (made, (text, visual))]
    mine, theirs = (torch.autograd.grad(each, list(tokens.parameters()), retain_graph=True) for each in sums)
    assert all(torch.allclose(a, b, atol=1e-9) for a, b in zip(mine, theirs, strict=True))


@pytest.mark.parametrize(("mix", "changed"), [("released", 1), ("mixed", 52)])
def test_tokens_see_each_other_only_in_the_mixed_network(mix, changed):
    block = shared(**B16, MIX=mix).mixing.block
    tokens = torch.randn(52, 128)
    moved = tokens.clone()
    moved[30] = torch.randn(128)
    differs = (block(tokens) - block(moved)).abs().amax(1) > 1e-6
    assert int(differs.sum()) == changed and bool(differs[30])


def test_the_losses_of_the_fact_sheet():
    logits, columns = torch.tensor([[20.0, 18, 25, 24, 23]]), torch.tensor([[True, True, False, False, False]])
    for factor, union, masked in ((1, 5.412682, 0.126928), (10, 1.841999, 0.598139)):
        for seen, expected in ((torch.ones_like(columns), union), (columns, masked)):
            loss = task_cross_entropy(logits / factor, torch.tensor([0]), seen, images=1)
            assert float(loss) == pytest.approx(expected, abs=2e-6)


@pytest.mark.parametrize("carrier", [MVPT, MUPT])
@pytest.mark.parametrize("deep", [True, False])
def test_tokens_stand_behind_the_class_token_of_each_block(lab, carrier, deep):
    """The image tower by hand: its own blocks, with learned tokens put in, and taken out, between them."""
    trainer = lab.trainer(**carrier, TRAINER__MVLPT__PREC="fp32", TRAINER__MVLPT__VISUAL_DEEP=deep)
    visual, images = trainer.backbone.visual, torch.randn(2, 3, 32, 32)
    _, tokens = trainer.model.prompt_learner()
    assert len(tokens) == (len(visual.transformer.resblocks) if deep else 1)
    x = visual.conv1(images).flatten(2).mT
    x = torch.cat([visual.class_embedding.expand(2, 1, -1), x], 1) + visual.positional_embedding
    x, count = visual.ln_pre(x), tokens.shape[1]
    x = torch.cat([x[:, :1], tokens[0].expand(2, -1, -1), x[:, 1:]], 1)
    for n, block in enumerate(visual.transformer.resblocks):
        if n and deep:
            x = torch.cat([x[:, :1], tokens[n].expand(2, -1, -1), x[:, 1 + count :]], 1)
        x = block(x)
    expected = visual.ln_post(x)[:, 0] @ visual.proj
    found = trainer.through_tower(images)
    assert torch.allclose(found, expected, atol=1e-5)
    parameters = [p for name, p in trainer.model.named_parameters() if not name.startswith("text")]
    own = torch.autograd.grad(found.square().sum(), parameters, allow_unused=True)
    plain = torch.autograd.grad(expected.square().sum(), parameters, allow_unused=True)
    for mine, theirs in zip(own, plain, strict=True):
        assert (mine is None) == (theirs is None)
        assert mine is None or torch.allclose(mine, theirs, atol=1e-4 * max(1.0, float(theirs.abs().max())))


def test_text_is_hand_written_without_context_and_made_by_the_network_with_it(lab):
    plain = lab.trainer(**MVPT, TRAINER__MVLPT__PREC="fp32", TRAINER__MVLPT__TEMPLATE="a sketch of a {}.")
    names = [f"a sketch of a {name.replace('_', ' ')}." for task in plain.dm.tasks for name in task.classnames]
    expected = plain.backbone.encode_text(plain.backbone.tokenize(names))
    assert torch.allclose(plain.model(), expected, atol=1e-5)
    with pytest.raises(UserError, match="tokens in the image tower only"):
        plain.contexts()
    both = lab.trainer(**MUPT, TRAINER__MVLPT__PREC="fp32")
    ctx, _ = both.model.prompt_learner()
    assert torch.equal(both.model(), both.model.prompts(ctx[None]))
    assert [tuple(each.vectors.shape) for each in both.contexts()] == [(2, both.backbone.text_width)]


def test_union_is_the_softmax_over_all_tasks(lab):
    losses = {}
    for union in (True, False):
        trainer = lab.trainer(**MVPT, TRAINER__MVLPT__UNION=union, DATALOADER__TRAIN_X__BATCH_SIZE=16)
        (batch,) = trainer.dm.train_loader_x
        trainer.printing = False
        loss, _ = trainer.loss(batch)
        trainer.before_test()
        logits = trainer.model_inference(batch)[batch["row"]]
        column = batch["label"] + trainer.dm.offsets[batch["task"]]
        losses[union] = (float(loss.detach()), float(functional.cross_entropy(logits.detach(), column)))
    assert losses[True][0] == pytest.approx(losses[True][1], abs=1e-5)
    assert losses[False][0] < losses[True][0]


def test_two_stages_average_all_learned_tensors(lab):
    for seed in (1, 2):
        lab.run(f"seed{seed}", seed=seed, **MUPT)
    folders = [lab.folder(f"seed{seed}") for seed in (1, 2)]
    own = [torch.load(next(f.glob("prompt_learner/model.pth.tar-*")))["state_dict"] for f in folders]
    trainer = lab.trainer(**MUPT, MODEL__INIT_WEIGHTS=",".join(map(str, folders)))
    learned = trainer.model.prompt_learner.state_dict()
    assert learned.keys() == own[0].keys() and "mixing.block.attn.in_proj_weight" in learned
    assert all(torch.allclose(learned[key], (own[0][key] + own[1][key]) / 2, atol=1e-7) for key in learned)
    with pytest.raises(UserError, match="ctx"):
        lab.trainer(**MVPT, MODEL__INIT_WEIGHTS=str(folders[0]))


@pytest.mark.parametrize("precision", ["bf16", "amp"])
def test_low_precision_trains_fp32_tensors(lab, precision):
    trainer = lab.trainer(**MUPT, TRAINER__MVLPT__PREC=precision, OPTIM__WARMUP_EPOCH=0)
    before = {name: p.detach().clone() for name, p in trainer.model.named_parameters()}
    shown = trainer.forward_backward(next(iter(trainer.dm.train_loader_x)))
    assert torch.isfinite(torch.as_tensor(shown["loss"]))
    for name, parameter in trainer.model.named_parameters():
        assert parameter.dtype == torch.float32 and bool(torch.isfinite(parameter).all())
        assert not torch.equal(parameter, before[name]) or name.endswith("bias"), name


def test_checkpointing_changes_nothing_but_memory(lab):
    learned = []
    for again in (False, True):
        lab.run(str(again), **MUPT, MODEL__IMAGE_CHECKPOINT=again, OPTIM__MAX_EPOCH=1, OPTIM__WARMUP_EPOCH=0)
        learned.append({key.split(":")[1]: value for key, value in lab.learned(str(again)).items()})
    assert same_tensors(*learned)


@pytest.mark.parametrize(("changes", "said"), [
    ({"CTX_INIT": "a photo of a"}, "has 4 words but the context has 2 vectors"),
    ({"TEMPLATE": "a photo"}, "must have .* for the name exactly once"),
    ({"TEMPLATE": "a {} | the {}"}, "expected one template"),
])  # fmt: skip
def test_wrong_options_are_refused(lab, changes, said):
    with pytest.raises(UserError, match=said):
        lab.trainer(**MUPT, **{f"TRAINER__MVLPT__{key}": value for key, value in changes.items()})
