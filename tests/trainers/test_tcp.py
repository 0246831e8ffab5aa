"""TCP against blocks run one by one with rows written over, and the words of its prompts."""

import pytest
import torch
from torch.nn import functional

import clip
from clip.text import prompt_layout
from dassl.utils.errors import UserError
from tests.clip.helpers import random_model
from trainers.tcp import prompt_name

KEYS = {"trainer": "TCP", "TRAINER__TCP__PREC": "fp32"}
TEXTS = [f"a photo of a {name}, a type of pet." for name in ("cat", "dog", "grey parrot")]
TEXTS += [f"a photo of a {name}." for name in ("hammer", "saw", "drill", "file", "rasp")]
PROMPTS = [text.replace("a photo of a", "X X X X") for text in TEXTS]


def plain_features(model, learned, texts, prompts, *, layer):
    """Class features over 77 columns: the context in columns 1 to 4, and before a block the tokens of the classes."""
    known = model.encode_text(clip.tokenize(texts))
    known = known / known.norm(dim=1, keepdim=True)
    hidden = known @ learned["meta_net.linear1.weight"].T + learned["meta_net.linear1.bias"]
    made = hidden / (1 + torch.exp(-1.702 * hidden)) @ learned["meta_net.linear2.weight"].T
    made = (made + learned["meta_net.linear2.bias"]).view(len(texts), 4, -1)
    tokens = clip.tokenize(prompts)
    rows = model.token_embedding(tokens)
    rows = torch.cat([rows[:, :1], learned["ctx"].expand(len(texts), -1, -1), rows[:, 5:]], dim=1)
    rows = rows + model.positional_embedding
    for number, block in enumerate(model.transformer.resblocks):
        if number == layer:
            rows = torch.cat([rows[:, :1], made, rows[:, 5:]], dim=1)
        rows = block(rows, attn_mask=model.attn_mask)
    ends = rows[torch.arange(len(texts)), tokens.argmax(1)]
    return model.ln_final(ends) @ model.text_projection, known


def gradients(trainer, loss):
    names, parameters = zip(*trainer.model.named_parameters(), strict=True)
    return dict(zip(names, torch.autograd.grad(loss, parameters), strict=True))


@pytest.mark.parametrize("encoding", ["auto", "plain"])
@pytest.mark.parametrize("weight", [0, 8])
def test_loss_and_gradient_equal_rows_written_over_by_hand(lab, weight, encoding):
    trainer = lab.trainer(**KEYS, TRAINER__TCP__W=weight, MODEL__TEXT_ENCODING=encoding)
    learned = dict(trainer.model.prompt_learner.named_parameters())
    features, known = plain_features(random_model("vit"), learned, TEXTS, PROMPTS, layer=1)
    torch.testing.assert_close(trainer.model(), features, rtol=1e-4, atol=1e-4)
    batch = next(iter(trainer.dm.train_loader_x))
    trainer.printing = True
    loss, shown = trainer.loss(batch)
    scores = trainer.scores(batch)
    cosines = functional.cosine_similarity(scores.image[:, None], features[None], dim=-1)
    logits = trainer.backbone.logit_scale * cosines[scores.row]
    parts = [
        functional.cross_entropy(row[own][None], own[:target].sum()[None])
        for row, own, target in zip(logits, scores.columns, scores.target.tolist(), strict=True)
    ]
    gap = 1 - (functional.normalize(features, dim=1) * known).sum(dim=1).mean()
    expected = sum(parts) / len(scores.image) + weight * gap
    assert shown["gap"] == pytest.approx(gap.item(), rel=1e-4)
    torch.testing.assert_close(loss, expected, rtol=1e-4, atol=1e-4)
    theirs = gradients(trainer, expected)
    for name, mine in gradients(trainer, loss).items():
        torch.testing.assert_close(mine, theirs[name], rtol=1e-3, atol=1e-3 * theirs[name].abs().max().item())
        assert mine.any()


def test_the_network_makes_the_tokens_of_each_class(lab):
    model = lab.trainer(**KEYS).model
    tokens = model.prompt_learner(model.known)
    assert tokens.shape == (8, 4, 128)
    torch.testing.assert_close(tokens[:, 1], model.prompt_learner.meta_net(model.known)[:, 128:256])
    changed = model.known.clone()
    changed[2] += 1
    moved = (model.prompt_learner(changed) != tokens).any(-1).any(-1)
    assert moved.tolist() == [False, False, True, *[False] * 5]


@pytest.mark.parametrize(
    ("template", "behind"),
    [
        ("a photo of a {}.", "NAME"),
        ("a photo of a {}, a type of pet.", "NAME, a type of pet"),
        ("a photo of {}, a type of food.", "NAME, a type of food"),
        ("a photo of a person doing {}.", "person doing NAME"),
        ("a photo of a plant leaf with {} disease.", "plant leaf with NAME disease"),
        ("a centered satellite photo of {}.", "NAME"),
        ("a photo of another {}.", "NAME"),
        ("{} texture.", "NAME texture"),
        ("{}", "NAME"),
    ],
)
def test_the_context_stands_for_the_first_words_of_the_template(template, behind):
    assert prompt_name(template, "NAME") == behind
    layout = prompt_layout([prompt_name(template, "grey_cat")], n_ctx=4)
    wanted = clip.tokenize([f"X X X X {behind.replace('NAME', 'grey cat')}."])
    assert torch.equal(layout.tokens, wanted)


def test_tokens_enter_after_two_thirds_of_the_blocks_or_where_asked(lab):
    assert lab.trainer(**KEYS).model.layer == 1
    assert lab.trainer(**KEYS, TRAINER__TCP__LAYER=1).model.layer == 1
    with pytest.raises(UserError, match=r"TRAINER.TCP.LAYER is 2, but .* has 2 blocks; set it to at most 1") as error:
        lab.trainer(**KEYS, TRAINER__TCP__LAYER=2)
    assert "\n" not in str(error.value)
    with pytest.raises(UserError, match="'a photo' has 2 words but the context has 4"):
        lab.trainer(**KEYS, TRAINER__TCP__CTX_INIT="a photo")


def test_words_start_the_context(lab):
    trainer = lab.trainer(**KEYS, TRAINER__TCP__CTX_INIT="a photo of a")
    embeddings = random_model("vit").token_embedding.weight[[320, 1125, 539, 320]]
    assert torch.equal(trainer.model.prompt_learner.ctx, embeddings)
    assert not torch.equal(lab.trainer(**KEYS).model.prompt_learner.ctx, embeddings)
