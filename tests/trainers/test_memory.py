"""Where the memory runs out, prompts are encoded in smaller chunks; where that does not help, one line says so."""

import pytest
import torch

from clip import text
from dassl.utils.errors import out_of_memory
from tests.trainers.test_methods import METHODS

FULL = "CUDA out of memory. Tried to allocate 2.00 GiB."


def too_many(monkeypatch, most, *, after=0, error=torch.OutOfMemoryError):
    """Let the encoder fail for more than ``most`` prompts at once, once it was called ``after`` times."""
    states, calls = text.leaf_states, []

    def limited(vectors, tower, spans, *, keep):
        calls.append(len(spans[-1].leaf))
        if len(calls) > after and len(spans[-1].leaf) > most:
            raise error(FULL)
        return states(vectors, tower, spans, keep=keep)

    monkeypatch.setattr(text, "leaf_states", limited)
    return calls


@pytest.mark.parametrize("method", ["NATA", "CATA sampled", "CoOp-CA front"])
def test_a_smaller_chunk_gives_what_that_chunk_gives_from_the_start(lab, monkeypatch, method):
    wanted = lab.run("small", **METHODS[method], MODEL__TEXT_CHUNK=4)
    with monkeypatch.context() as patch:
        too_many(patch, 4)
        result = lab.run("halved", **METHODS[method])
    assert result.metric == wanted.metric
    learned = lab.learned("small")
    for name, tensor in lab.learned("halved").items():
        assert torch.equal(tensor, learned[name])
    [said] = [warning for warning in result.warnings if "the memory ran out" in warning]
    assert "CUDA out of memory" in said and "at most 4 prompts" in said and "MODEL.TEXT_CHUNK 4" in said
    assert not any("memory" in warning for warning in wanted.warnings)


def test_it_is_halved_until_it_fits_and_in_the_middle_of_a_run(lab, monkeypatch, capsys):
    calls = too_many(monkeypatch, 1, after=9)
    lab.run(**METHODS["NATA"])
    out = capsys.readouterr().out
    assert "at most 4 prompts" in out and "at most 2 prompts" in out and "at most 1 prompts" in out
    assert max(calls) == 8 and calls[-1] == 1


def test_where_nothing_helps_one_line_names_the_keys(lab, monkeypatch, capsys):
    too_many(monkeypatch, 0)
    assert lab.main(**METHODS["NATA"]) == 2
    [line] = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert "the memory ran out (CUDA out of memory)" in line and "DATALOADER.TRAIN_X.BATCH_SIZE" in line


def test_the_next_run_of_a_process_has_no_limit(lab, monkeypatch):
    with monkeypatch.context() as patch:
        too_many(patch, 4)
        trainer = lab.trainer(**METHODS["NATA"])
        trainer.before_test()
    assert trainer.backbone.text.limit == 4
    assert lab.trainer(**METHODS["NATA"]).backbone.text.limit == 0


def test_what_torch_says_is_understood():
    with pytest.raises(RuntimeError) as caught:
        torch.empty(1 << 60, dtype=torch.uint8)
    assert out_of_memory(caught.value) and out_of_memory(MemoryError()) and out_of_memory(torch.OutOfMemoryError(FULL))
    assert not out_of_memory(RuntimeError("shapes cannot be multiplied"))
