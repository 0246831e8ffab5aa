"""The way texts are encoded is chosen by config keys and changes no result; a step encodes only what it needs."""

import pytest
import torch

from clip.tree import Trie
from tests.trainers.test_methods import METHODS

SAMPLED = {**METHODS["CATA sampled"], "DATALOADER__TRAIN_X__BATCH_SIZE": 3}


@pytest.mark.parametrize("method", ["NATS", "CSTA", "CATA middle", "CATA sampled", "CoOp-CA front", "CoOp-CS"])
def test_plain_and_chunked_runs_learn_the_same(lab, method):
    keys = {**METHODS[method], "OPTIM__MAX_EPOCH": 2}
    ways = {"tree": {}, "plain": {"MODEL__TEXT_ENCODING": "plain"}, "chunks": {"MODEL__TEXT_CHUNK": 3}}
    results = {way: lab.run(way, **keys, **options) for way, options in ways.items()}
    learned = lab.learned("tree")
    for way in ("plain", "chunks"):
        assert results[way].metric == pytest.approx(results["tree"].metric, abs=1e-6)
        for name, tensor in lab.learned(way).items():
            torch.testing.assert_close(tensor, learned[name], rtol=1e-3, atol=1e-5)


def test_the_keys_reach_the_encoder(lab):
    plain = lab.trainer(MODEL__TEXT_ENCODING="plain").backbone.text
    chunked = lab.trainer(MODEL__TEXT_CHUNK=5).backbone.text
    assert (plain.encoding, plain.chunk, chunked.encoding, chunked.chunk) == ("plain", 0, "auto", 5)


def test_chunk_and_estimate_are_logged_once(lab):
    lab.run(**METHODS["CATA"], MODEL__TEXT_CHUNK=3)
    lines = [line for line in lab.log().splitlines() if "with common beginnings joined" in line]
    assert len(lines) == 3
    assert sum("in chunks of 3" in line and "MiB" in line for line in lines) == 2


def test_left_out_classes_are_encoded_in_neither_pass(lab, monkeypatch):
    trainer = lab.trainer(**SAMPLED)
    batch = next(iter(trainer.dm.train_loader_x))
    trainer.loss(batch)
    kept = trainer.kept_columns(trainer.parse_batch_train(batch)[2])
    planned = []
    plan = Trie.plan
    monkeypatch.setattr(Trie, "plan", lambda trie, *args: planned.append(len(trie)) or plan(trie, *args))
    monkeypatch.setattr(Trie, "of", None)  # nothing is sorted anew
    trainer.loss(batch)[0].backward()
    assert len(kept) < 8 and planned == [len(kept), len(kept)]


def test_sampling_gives_the_features_of_the_kept_classes(lab):
    model = lab.trainer(**SAMPLED, TRAINER__MTCOOP__CLASS_CSC=True).model
    columns = torch.tensor([0, 3, 4, 7])
    whole, some = model(), model(columns)
    torch.testing.assert_close(some, whole[columns] + 1e-6)
    proj, ctx = model.prompt_gen.proj, model.class_prompt_learner.ctx
    mine = torch.autograd.grad(some.square().sum(), (proj, ctx))
    theirs = torch.autograd.grad((whole[columns] + 1e-6).square().sum(), (proj, ctx))
    for a, b in zip(mine, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4 * b.abs().max().item())
