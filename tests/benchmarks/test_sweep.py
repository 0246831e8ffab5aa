from dataclasses import replace

import pytest

from benchmarks import sweep
from dassl.data import loaders
from dassl.utils.files import read_json


def test_the_sweep_shares_and_agrees(tmp_path, monkeypatch, capsys):
    read = loaders.read_image
    monkeypatch.setattr(sweep, "QUICK", replace(sweep.QUICK, shots=(1,), epochs=1))
    out = tmp_path / "sweep.json"
    assert sweep.main(["--quick", "--out", str(out)]) == 0
    runs, printed = read_json(out)["runs"], capsys.readouterr().out
    assert [(run["cell"]["variant"], run["way"]) for run in runs] == [
        (variant, way) for variant in sweep.QUICK.variants for way in sweep.WAYS
    ]
    images, own, one, images_2, own_2, one_2 = (run["images"] for run in runs)
    assert images == own == one == images_2 == own_2 > 0
    assert one_2 == 0
    assert len({run["metric"] for run in runs[:3]}) == 1
    assert printed.splitlines()[-1] == "runs whose results differ between the ways: 0"
    assert loaders.read_image is read


def test_other_results_are_told():
    cell, other = sweep.Cell("NATA", 1, 1), sweep.Cell("NATA", 2, 1)
    done = [sweep.Done(cell, way, 1.0, 5, metric) for way, metric in zip(sweep.WAYS, (3.0, 3.0, 4.0), strict=True)]
    done += [sweep.Done(other, way, 1.0, 5, 3.0) for way in sweep.WAYS]
    assert sweep.disagreements(done) == [cell]


def test_the_full_sweep():
    cells = sweep.cells(sweep.FULL)
    assert len(set(cells)) == len(cells) == 6 * 5 * 3
    assert [cell.shots for cell in cells[:4]] == [16, 16, 16, 8]


@pytest.mark.parametrize("way", sweep.WAYS)
def test_a_run_that_fails_stops_the_sweep(tmp_path, way):
    cell = sweep.Cell("NATA", 1, 1)
    with pytest.raises(sweep.UserError, match="the run failed"):
        sweep.measure(cell, way, replace(sweep.QUICK, epochs=0), tmp_path)
