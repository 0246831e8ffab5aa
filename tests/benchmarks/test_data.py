from benchmarks import data
from dassl.utils.files import read_json
from dassl.utils.tools import CHECKOUT


def test_the_benchmark_measures_and_writes_what_it_prints(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(data, "QUICK", data.Size(classes=3, train=60, val=12, files=12, images=4, rounds=1))
    monkeypatch.setattr(data, "WORKERS", (0, 1))
    monkeypatch.setattr(data, "memory", data._grow)  # in this process: starting a fresh one takes seconds
    assert data.main(["--quick", "--out", str(tmp_path / "data.json")]) == 0
    written = read_json(tmp_path / "data.json")
    printed = capsys.readouterr().out
    assert len(written["measures"]) == 5 + 3 + 4
    for measure in written["measures"]:
        assert len(measure["seconds"]) == 1 and min(measure["seconds"]) > 0
        assert measure["name"] in printed
        assert not measure["base"] or measure["base"] in [other["name"] for other in written["measures"]]
    assert written["machine"]["cores"] >= 1 and "torch" in written["machine"]["versions"]


def test_the_benchmark_of_large_photographs(tmp_path, monkeypatch, capsys):
    small = data.LargeSize(images=2, size=(800, 600), epochs=1, rounds=1, crops=1)
    monkeypatch.setattr(data, "QUICK_LARGE", small)
    assert data.main(["--quick", "--large", "--out", str(tmp_path / "large.json")]) == 0
    written = read_json(tmp_path / "large.json")
    printed = capsys.readouterr().out
    assert [measure["count"] for measure in written["measures"]] == [2, 2, 2, 2, 2, 2]
    assert all(measure["name"] in printed for measure in written["measures"])
    assert [each["images"] for each in written["differences"]] == [2, 2, 2, 2]
    assert all(each["largest, of 255 levels"] > 0 for each in written["differences"])


def test_recorded_figures_of_large_photographs_are_of_the_full_size():
    recorded = read_json(data.RESULT_LARGE)
    assert recorded["size"] == {**vars(data.FULL_LARGE), "size": list(data.FULL_LARGE.size)}


def test_without_out_the_recorded_figures_stay(monkeypatch, capsys):
    before = data.RESULT.read_bytes() if data.RESULT.is_file() else None
    for name in ("list_measures", "file_measures", "decode_measures"):
        monkeypatch.setattr(data, name, lambda folder, size: [])
    monkeypatch.setattr(data, "memory", lambda folder: {})
    assert data.main(["--quick"]) == 0
    assert (data.RESULT.read_bytes() if data.RESULT.is_file() else None) == before


def test_recorded_figures_are_of_the_full_size():
    recorded = read_json(CHECKOUT / "benchmarks" / "results" / "data.json")
    assert recorded["size"] == vars(data.FULL)
