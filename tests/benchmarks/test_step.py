from dataclasses import replace

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
    assert names[0] == step.ORIGINAL and step.ORIGINAL_TEST in names and len(names) == 9
    for measure in written["measures"]:
        assert measure["name"] in printed and measure["base"] in names
        assert len(measure["seconds"]) == 1 and measure["seconds"][0] > 0
    assert written["machine"]["cores"] >= 1 and written["precision"] == "fp32"


def test_the_full_size_is_that_of_the_bars():
    assert (step.BATCH, step.FULL.suite, step.FULL.embed) == (32, "Plant-6", 1024)
    assert step.FULL.vision["layers"] == (3, 4, 6, 3) and step.FULL.text["layers"] == 12
