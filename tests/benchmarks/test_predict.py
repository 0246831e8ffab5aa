from dataclasses import replace

import pytest

from benchmarks import _common, predict
from dassl.utils.files import read_json
from dassl.utils.tools import CHECKOUT


def test_the_benchmark_measures_and_writes_what_it_prints(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(predict, "QUICK", replace(predict.QUICK, images=5))
    monkeypatch.setattr(predict, "BATCH", 3)
    monkeypatch.setattr(predict.step, "suites", lambda: {"Fashion-20": [["tie", "bow tie"], ["hat", "cap"]]})
    monkeypatch.setattr(_common.gc, "collect", lambda: 0)  # seconds, with all that the tests have imported
    assert predict.main(["--quick", "--device", "cpu", "--out", str(tmp_path / "predict.json")]) == 0
    written, printed = read_json(tmp_path / "predict.json"), capsys.readouterr().out
    names = [measure["name"] for measure in written["measures"]]
    assert len(names) == 6 and {predict.BARE, predict.WHOLE, predict.SCORE} < set(names)
    assert (written["tasks"], written["classes"], written["images"]) == (2, 4, 5)
    for measure in written["measures"]:
        assert measure["name"] in printed and measure["base"] == predict.BARE and measure["count"] == 5
        assert len(measure["wall"]) == len(measure["cpu"]) == 1 and min(measure["wall"] + measure["cpu"]) > 0


@pytest.mark.parametrize("tower", ["rn50", "vit-b-32"])
def test_recorded_figures_are_of_the_full_size_and_scoring_is_below_two_percent(tower):
    recorded = read_json(CHECKOUT / "benchmarks" / "results" / f"predict-{tower}-cpu.json")
    assert (recorded["tasks"], recorded["classes"], recorded["images"]) == (10, 1191, predict.FULL.images)
    cpu = {measure["name"]: sum(measure["cpu"]) for measure in recorded["measures"]}
    assert cpu[predict.SCORE] < 0.02 * cpu[predict.WHOLE]
