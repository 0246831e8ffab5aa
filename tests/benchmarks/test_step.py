from dataclasses import replace

import torch

from benchmarks import _common, step
from dassl.utils.files import read_json


def test_the_benchmark_measures_and_writes_what_it_prints(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(step, "QUICK", replace(step.QUICK, batches=1, test=3))
    monkeypatch.setattr(step, "BATCH", 4)
    monkeypatch.setattr(step, "suites", lambda: {"Fashion-20": [["tie", "bow tie"], ["hat"]]})
    monkeypatch.setattr(step, "cpu_count", lambda: 0)  # no worker processes
    monkeypatch.setattr(_common.gc, "collect", lambda: 0)  # seconds, with all that the tests have imported
    out = tmp_path / "step.json"
    command = ["--quick", "--rounds", "1", "--device", "cpu", "--suite", "Fashion-20", "--batches", "1"]
    assert step.main([*command, "--out", str(out)]) == 0
    written, printed = read_json(out), capsys.readouterr().out
    names = [measure["name"] for measure in written["measures"]]
    assert names[0] == step.ORIGINAL and step.ORIGINAL_TEST in names and len(names) == 10
    for measure in written["measures"]:
        assert measure["name"] in printed and measure["base"] in names
        assert len(measure["wall"]) == len(measure["cpu"]) == 1 and min(measure["wall"] + measure["cpu"]) > 0
    assert written["machine"]["cores"] >= 1 and written["precision"] == "fp32"


def test_the_original_trains_to_the_same_features_and_the_same_gradient(tmp_path, monkeypatch):
    """With images and with stored features; its evaluation gives the same figure."""
    size = replace(step.QUICK, batches=1, test=7)
    monkeypatch.setattr(step, "BATCH", 4)
    monkeypatch.setattr(step, "TEST_BATCH", 3)
    monkeypatch.setattr(step, "suites", lambda: {"Fashion-20": [["tie", "bow tie"], ["hat"]]})
    step.write_suite(tmp_path, size)
    step.write_backbone(tmp_path / "backbone.safetensors", size)
    for store in ("", "warm"):
        makers = {"plain": step.as_released, "auto": lambda each: each}
        found = []
        for text, change in makers.items():
            each = change(step.trainer(tmp_path, size, text=text, features=store, precision="fp32", cuda=False))
            (batch,) = each.loader("train")
            each.forward_backward(batch)
            found.append({name: p.grad for name, p in each.model.named_parameters()})
            (step.batch_by_batch if text == "plain" else step.evaluation)(each)()
            found[-1] |= {"metrics": [score.metric for score in each.evaluator.scores]}
        original, ours = found
        assert original.pop("metrics") == ours.pop("metrics") and original.keys() == ours.keys()
        for name, gradient in original.items():
            torch.testing.assert_close(ours[name], gradient, rtol=1e-3, atol=1e-3 * gradient.abs().max().item())


def test_the_full_size_is_that_of_the_bars():
    assert (step.BATCH, step.FULL.suite, step.FULL.embed) == (32, "Plant-6", 1024)
    assert step.FULL.vision["layers"] == (3, 4, 6, 3) and step.FULL.text["layers"] == 12
