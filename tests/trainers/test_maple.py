"""MaPLe: the coupling and both towers by a plain computation, its counts, what is refused."""

import pytest
import torch

from dassl.utils.errors import UserError
from trainers._deep import split_phrase
from trainers.maple import CoupledTokens

SMALL = {"trainer": "MaPLe", "TRAINER__MAPLE__PREC": "fp32", "TRAINER__MAPLE__DEPTH": 2}


def image_features(trainer, images, tokens):
    """The image tower by hand, tokens BEHIND the patches, as its authors put them: the norm sees the first ones."""
    visual, count = trainer.backbone.visual, tokens.shape[1]
    x = torch.cat([visual.class_embedding.expand(len(images), 1, -1), visual.conv1(images).flatten(2).mT], 1)
    x = torch.cat([x + visual.positional_embedding, tokens[0].expand(len(images), -1, -1)], 1)
    x = visual.ln_pre(x)
    for n, block in enumerate(visual.transformer.resblocks):
        if 0 < n < len(tokens):
            x = torch.cat([x[:, :-count], tokens[n].expand(len(images), -1, -1)], 1)
        x = block(x)
    return visual.ln_post(x)[:, 0] @ visual.proj


def text_features(trainer, texts, ctx, deep):
    """The text tower by hand, all columns, with rows 1..M written over before each block."""
    text, count = trainer.backbone.text, len(ctx)
    tokens = trainer.backbone.tokenize(texts)
    x = text.token_embedding(tokens)
    x = torch.cat([x[:, :1], ctx.expand(len(x), -1, -1), x[:, 1 + count :]], 1) + text.positional_embedding
    for n, block in enumerate(text.transformer.resblocks):
        if 0 < n <= len(deep):
            x = torch.cat([x[:, :1], deep[n - 1].expand(len(x), -1, -1), x[:, 1 + count :]], 1)
        x = block(x, attn_mask=text.causal_mask)
    return text.ln_final(x)[torch.arange(len(x)), tokens.argmax(1)] @ text.text_projection


@pytest.mark.parametrize(("depth", "count"), [(9, 3_555_072), (3, 1_185_024)])
def test_the_published_numbers_of_parameters(depth, count):
    assert sum(p.numel() for p in CoupledTokens(2, 512, 768, depth, seed=1).parameters()) == count


def test_image_tokens_are_linear_functions_of_the_text_tokens_of_their_block():
    tokens = CoupledTokens(2, 4, 6, 3, seed=1, start=torch.ones(2, 4))
    ctx, deep, visual = tokens()
    assert torch.equal(ctx, torch.ones(2, 4)) and (deep.shape, visual.shape) == ((2, 2, 4), (3, 2, 6))
    layers = [tokens.proj, *tokens.compound_prompt_projections]
    for rows, layer, made in zip([ctx, *deep], layers, visual, strict=True):
        for row, found in zip(rows, made, strict=True):
            plain = [sum(row[i] * layer.weight[o, i] for i in range(4)) + layer.bias[o] for o in range(6)]
            assert torch.allclose(found, torch.stack(plain), atol=1e-6)
    first, second = tokens.compound_prompt_projections
    assert torch.equal(first.weight, second.weight) and not torch.equal(first.weight, tokens.proj.weight)


def test_both_towers_are_their_plain_computation(lab):
    trainer = lab.trainer(**SMALL)
    images, learner = torch.randn(2, 3, 32, 32), trainer.model.prompt_learner
    with torch.no_grad():  # larger than their start, so that a wrong place shows
        for value in (learner.ctx, learner.compound_prompts_text):
            value.add_(torch.randn_like(value))
    ctx, deep, visual = trainer.model.tokens()
    texts = [f"a photo of a {name.replace('_', ' ')}." for task in trainer.dm.tasks for name in task.classnames]
    found = trainer.model(), trainer.through_tower(images)
    expected = text_features(trainer, texts, ctx, deep), image_features(trainer, images, visual)
    parameters = list(learner.parameters())
    for mine, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-5)
    own, plain = (
        torch.autograd.grad(sum(each.square().sum() for each in pair), parameters) for pair in (found, expected)
    )
    for mine, theirs in zip(own, plain, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-3, atol=1e-4 * max(1.0, float(theirs.abs().max())))


def test_two_words_are_learned_and_two_stay_text(lab):
    assert split_phrase("a_photo of a", 2) == ("a photo", "of a")
    trainer = lab.trainer(**SMALL)
    assert torch.equal(trainer.model.prompt_learner.ctx, trainer.backbone.text.phrase_vectors("a photo").float())
    (context,) = trainer.contexts()
    assert context.vectors.shape == (2, trainer.backbone.text_width)
    random = lab.trainer(**SMALL, TRAINER__MAPLE__CTX_INIT="")
    assert 0.01 < float(random.model.prompt_learner.ctx.detach().std()) < 0.03


@pytest.mark.parametrize(("changes", "said"), [
    ({"DEPTH": 99}, "DEPTH is 99, but a tower of .* blocks; set it to at most"),
    ({"N_CTX": 5}, "has 4 words but the context has 5 vectors"),
])  # fmt: skip
def test_wrong_options_are_refused(lab, changes, said):
    with pytest.raises(UserError, match=said):
        lab.trainer(**{**SMALL, **{f"TRAINER__MAPLE__{key}": value for key, value in changes.items()}})


def test_depth_is_three_quarters_of_the_blocks(lab):
    trainer = lab.trainer(**{**SMALL, "TRAINER__MAPLE__DEPTH": 0})
    blocks = min(trainer.backbone.text.depth, trainer.tower.layers)
    assert len(trainer.model.tokens()[2]) == trainer.depth == max(1, blocks * 3 // 4)
