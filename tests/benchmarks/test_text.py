from dataclasses import replace

import pytest
import torch

from benchmarks import text
from dassl.utils.files import read_json


def test_the_benchmark_measures_and_writes_what_it_prints(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(text, "QUICK", replace(text.QUICK, rounds=5))
    out = tmp_path / "text.json"
    command = ["--quick", "--rounds", "2", "--sizes", "Fashion-20", "--precisions", "fp32", "--device", "cpu"]
    assert text.main([*command, "--out", str(out)]) == 0
    written, printed = read_json(out), capsys.readouterr().out
    assert [(way["way"], way["precision"]) for way in written["ways"]] == [(way, "fp32") for way in text.WAYS]
    for way in written["ways"]:
        assert len(way["wall"]) == len(way["cpu"]) == 2 and min(way["wall"]) > 0
        assert way["way"] in printed and way["classes"] == 78
    assert written["tower"]["rounds"] == 2
    original, plain, cut, tree = written["ways"]
    assert original["tokens"] == plain["tokens"] and original["flop"] == pytest.approx(plain["flop"], rel=0.02)
    assert plain["tokens"] > cut["tokens"] > tree["tokens"]
    assert plain["flop"] > 2 * cut["flop"] > 4 * tree["flop"] > 4 * written["needed FLOP"]["Fashion-20"]
    assert plain["kept"] > 2 * cut["kept"] > 4 * tree["kept"] > 0
    for seconds in written["other seconds"].values():
        assert len(seconds) == 4 and all(len(each) == 2 for each in seconds.values())
    assert written["machine"]["cores"] >= 1 and "torch" in written["machine"]["versions"]


def test_sizes_are_those_of_the_papers_suites():
    sizes = {name: (len(tasks), sum(map(len, tasks))) for name, tasks in text.suites().items()}
    assert sizes == {"Plant-6": (6, 116), "RS-8": (8, 208), "General-10": (10, 1191), "Fashion-20": (20, 78)}


def test_the_size_of_many_classes_has_as_many_different_names():
    names = text.many(3, 50)
    assert [len(task) for task in names] == [50] * 3
    assert len({name for task in names for name in task}) == 150
    assert names == text.many(3, 50)


def test_large_sizes_go_in_chunks_and_are_scaled(monkeypatch):
    monkeypatch.setattr(text, "CHUNK", 30)
    device = torch.device("cpu")
    task = text.problem("Fashion-20", text.suites()["Fashion-20"], text.QUICK.width, device)
    plain, tree = (
        text.Way(kind, task, text.encoder(text.QUICK, "fp32", kind, device), "fp32") for kind in ("plain", "auto")
    )
    assert [len(part.layout) for part in plain.parts] == [30, 30]
    assert plain.figures.scaled == 1.3 and tree.figures.scaled == 1
    assert sum(len(part.layout) for part in task.parts()) == 78


def test_all_ways_have_the_same_features_and_the_same_gradient():
    device = torch.device("cpu")
    task = text.problem("Fashion-20", text.suites()["Fashion-20"], text.QUICK.width, device)
    found = []
    for encoding in text.WAYS.values():
        way = text.encoder(text.QUICK, "fp32", encoding, device)
        text.step(way, task)
        found.append((way(task.layout, task.contexts, task.owner), task.contexts.grad))
    for other in found[1:]:
        for mine, theirs in zip(other, found[0], strict=True):
            torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-4 * theirs.abs().max().item())


def test_an_unknown_suite_is_refused():
    with pytest.raises(SystemExit):
        text.main(["--sizes", "General-11"])
