"""The words nearest to context vectors, and what they are measured by."""

import pytest
import torch

from clip.tokenizer import encode, vocabulary
from dassl.engine import TRAINER_REGISTRY
from dassl.engine.contexts import Context, Vocabulary
from dassl.engine.method import Method
from dassl.explain.words import DRAWS, SEED, SHARE, WordFinder, conclusion
from dassl.utils.errors import UserError
from tests.dassl.inference.test_classifier import ALL, settings

WITHOUT = {
    "CLAP": "it learns class features",
    "CLIPAdapter": "a network on image features",
    "CLIPLoRA": "additions to the weights of both towers",
    "CrossModal": "weights on features of images",
    "GDA": "Gaussians of image features",
    "LPPlusPlus": "weights on image features",
    "ProLIP": "a projection of image features",
    "TipAdapter": "the few-shot images",
    "TipAdapterF": "the few-shot images",
    "ZeroshotCLIP": "hand-written",
    "ZeroshotCLIP2": "hand-written",
    "TaskRes": "a residual of each class feature",
    "ProtoNet": "means of image features",
    "LinearProbe": "weights on image features",
}
PET, TOOL = 0, 1


def words(count=300, width=8, seed=3):
    """A small vocabulary of random embeddings."""
    embeddings = torch.randn(count, width, generator=torch.Generator().manual_seed(seed))
    return Vocabulary([f"w{n}" for n in range(count)], ["word"] * count, embeddings)


def plain_distances(vector, embeddings):
    """Distances of one vector from every embedding, without any shortcut."""
    return ((embeddings.double() - vector.double()) ** 2).sum(dim=1).sqrt()


def test_the_distances_are_those_of_a_plain_computation():
    known = words()
    vectors = torch.randn(40, 8, generator=torch.Generator().manual_seed(1)) * torch.logspace(-3, 2, 40)[:, None]
    for vector, near in zip(vectors, WordFinder(known).near(vectors, top_k=7), strict=True):
        distances, tokens = plain_distances(vector, known.embeddings).sort()
        assert [word.text for word in near.words] == [f"w{token}" for token in tokens[:7].tolist()]
        assert [word.distance for word in near.words] == pytest.approx(distances[:7].tolist(), rel=1e-12)
        assert near.norm == pytest.approx(float(vector.double().norm()))


def test_the_yardstick_is_that_of_random_vectors_of_the_same_norm():
    known = words()
    (near,) = WordFinder(known).near(torch.full((1, 8), 0.5), top_k=1)
    draws = torch.randn(DRAWS, 8, generator=torch.Generator().manual_seed(SEED)).double()
    draws = draws / draws.norm(dim=1, keepdim=True) * float(f"{near.norm:.3g}")
    nearest = torch.stack([plain_distances(draw, known.embeddings).min() for draw in draws])
    expected = (float(nearest.min()), float(nearest.sort().values[(DRAWS - 1) // 2]), float(nearest.max()))
    assert near.random == pytest.approx(expected, rel=1e-4)


def test_a_vector_that_is_a_word_has_distance_0_and_may_mean_something():
    known = words()
    (near,) = WordFinder(known).near(known.embeddings[5:6], top_k=3)
    assert (near.words[0].text, near.words[0].distance, near.may_mean) == ("w5", 0.0, True)


def test_a_tenth_nearer_than_all_random_vectors_is_the_bound():
    finder = WordFinder(words())
    direction = torch.nn.functional.normalize(finder.vocabulary.embeddings[5], dim=0)
    vectors = finder.vocabulary.embeddings[5] + direction * torch.linspace(0, 6, 60)[:, None]
    found = finder.near(vectors, top_k=1)
    assert [near.may_mean for near in found] == [near.words[0].distance < SHARE * near.random[0] for near in found]
    assert {near.may_mean for near in found} == {True, False}


def test_random_vectors_mean_nothing_and_the_conclusion_says_so():
    vectors = torch.randn(20, 8, generator=torch.Generator().manual_seed(9)) * 3
    finder = WordFinder(words())
    told = conclusion(finder.of([Context("class prompts", "", (0,), vectors)], top_k=1))
    assert told.startswith("The words mean nothing: of 20 vectors none is nearer to a word than 0.9 times")
    both = [Context("class prompts", "", (0,), vectors), Context("others", "", (0,), finder.vocabulary.embeddings[:1])]
    assert conclusion(finder.of(both, top_k=1)).startswith("The words of 1 of 21 vectors may mean something")


def test_more_words_than_there_are_gives_all():
    (near,) = WordFinder(words(count=4)).near(torch.zeros(1, 8), top_k=9)
    assert len(near.words) == 4


def test_every_token_has_a_text_and_a_kind():
    known = vocabulary()
    assert len(known) == 49_408
    (_, photo, photograph_y, _) = encode("photo graphy")[:4]
    assert known[photo] == ("photo", "word")
    assert known[encode("a")[0]] == ("<|startoftext|>", "special")
    assert known[photograph_y][1] == "word"
    assert known[0] == ("!", "piece")
    assert {kind for _, kind in known} == {"word", "piece", "special"}
    assert len(set(known)) == len(known)


@pytest.mark.parametrize("name", ALL)
def test_every_method_has_its_context_vectors_or_says_why_there_are_none(lab, name):
    trainer = lab.trainer(**settings(name))
    if name in WITHOUT:
        with pytest.raises(UserError, match=f"{name} has no context vectors: .*{WITHOUT[name]}.*; choose a run"):
            trainer.contexts()
        return
    contexts = trainer.contexts()
    held = {key: value for key, value in trainer.model.named_parameters() if key.endswith("ctx")}
    learned = [each for each in contexts if each.origin == "learned"]
    assert sum(each.vectors.numel() for each in learned) == sum(value.numel() for value in held.values())
    assert any(each.prompts.startswith("class prompts") for each in contexts)
    found = WordFinder(trainer.vocabulary()).of(contexts, top_k=2)
    for each in found.contexts:
        assert each.context.vectors.shape == (len(each.vectors), 128)
    (first, *_), near = contexts[0].vectors, found.vectors[0]
    distances = plain_distances(first, trainer.vocabulary().embeddings).sort().values
    assert [word.distance for word in near.words] == pytest.approx(distances[:2].tolist(), rel=1e-9)


SOFT = {"trainer": "MTCoOp", "OPTIM__MAX_EPOCH": 1}
VARIANTS = {
    "NATA": (SOFT, {"class prompts": 2, "prompts of task names": 1}),
    "NATS": ({**SOFT, "TRAINER__MTCOOP__TASK_CSC": True}, {"class prompts": 2, "prompts of task names": 2}),
    "no learned context of task names": ({**SOFT, "TRAINER__MTCOOP__TASK_N_CTX": 0}, {"class prompts": 2}),
    "CATA": (
        {**SOFT, "TRAINER__MTCOOP__CSC": True},
        {"class prompts": 8, "prompts of task names": 1, "prompts of class names": 1},
    ),
    "CSTA": (
        {**SOFT, "TRAINER__MTCOOP__CSC": True, "TRAINER__MTCOOP__CLASS_CSC": True},
        {"class prompts": 8, "prompts of task names": 1, "prompts of class names": 8},
    ),
    "CoOp-MT": ({"trainer": "MTCoOpHard"}, {"class prompts": 1}),
    "CoOp-CA": ({"trainer": "MTCoOpHard", "TRAINER__MTCOOPH__TSC": True}, {"class prompts": 2}),
    "CoOp-CS": ({"trainer": "MTCoOpHard", "TRAINER__MTCOOPH__CSC": True}, {"class prompts": 8}),
    "CoOp-CS of each task": (
        {"trainer": "MTCoOpHard", "TRAINER__MTCOOPH__CSC": True, "TRAINER__MTCOOPH__TSC": True},
        {"class prompts": 8},
    ),
    "PLOT with contexts of classes": (
        {**settings("PLOT"), "TRAINER__PLOT__CSC": True},
        {"class prompts, number 1 of 2": 8, "class prompts, number 2 of 2": 8},
    ),
    "CoOp with contexts of classes": ({**settings("CoOp"), "TRAINER__COOP__CSC": True}, {"class prompts": 8}),
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_variant_names_whose_its_contexts_are(lab, variant):
    keys, expected = VARIANTS[variant]
    trainer = lab.trainer(**keys)
    contexts = trainer.contexts()
    kinds = [each.prompts for each in contexts]
    assert {kind: kinds.count(kind) for kind in kinds} == expected
    tasks = trainer.dm.tasks
    classes = [(f"{task.name}: {name}", (number,)) for number, task in enumerate(tasks) for name in task.classnames]
    owners = {1: [("", (PET, TOOL))], 2: [(task.name, (n,)) for n, task in enumerate(tasks)], len(classes): classes}
    for kind, count in expected.items():
        assert [(each.owner, each.tasks) for each in contexts if each.prompts == kind] == owners[count]


def test_generated_contexts_are_those_of_the_class_prompts(lab):
    trainer = lab.trainer(**SOFT)
    with torch.no_grad():
        expected = trainer.model.prompt_gen(trainer.model.task_prompt_learner())
    found = [each.vectors for each in trainer.contexts() if each.origin == "generated"]
    assert torch.equal(torch.stack(found), expected)


def test_a_frozen_context_is_not_called_learned(lab):
    keys = {"TRAINER__MTCOOP__CSC": True, "TRAINER__MTCOOP__FREEZE_CLS_PROMPT": True}
    origins = {each.prompts: each.origin for each in lab.trainer(**SOFT, **keys).contexts()}
    assert origins == {
        "class prompts": "generated",
        "prompts of task names": "learned",
        "prompts of class names": "frozen",
    }


def test_the_words_that_a_context_starts_from_are_found_again(lab):
    keys = {"TRAINER__COOP__N_CTX": 4, "TRAINER__COOP__CTX_INIT": "a photo of a", "TRAINER__COOP__PREC": "fp32"}
    trainer = lab.trainer(trainer="CoOp", **keys)
    found = WordFinder(trainer.vocabulary()).of(trainer.contexts(), top_k=1)
    assert [near.words[0].text for near in found.vectors] == ["a", "photo", "of", "a"]
    assert [near.words[0].distance for near in found.vectors] == [0, 0, 0, 0]
    assert "of 4 vectors may mean something" in conclusion(found)


def test_the_static_part_of_a_context_is_said_to_be_one(lab):
    (context,) = lab.trainer(**settings("CoCoOp")).contexts()
    assert "static part" in context.note


def test_every_trainer_says_in_its_own_words_why_it_has_none():
    methods = {name: TRAINER_REGISTRY.get(name) for name in WITHOUT}
    assert all(each.no_context != Method.no_context for each in methods.values())
    own = [each.no_context for each in methods.values() if "no_context" in vars(each)]  # the others are its kinds
    assert len({*own}) == len(own) > 1
