from benchmarks import deep
from dassl.utils.files import read_json


def test_the_benchmark_measures_every_kind_of_step_in_both_ways(tmp_path, capsys):
    out = tmp_path / "deep.json"
    assert deep.main(["--quick", "--rounds", "2", "--out", str(out)]) == 0
    printed, steps = capsys.readouterr().out, read_json(out)["steps"]
    assert [(step["way"], step["kind"]) for step in steps] == [(way, kind) for way in deep.WAYS for kind in deep.KINDS]
    assert all(kind in printed for kind in deep.KINDS)
    assert all(len(step["seconds"]) == 2 for step in steps)
    plain, tree = steps[:3], steps[3:]
    assert all(step["rows"] == [78 * 77] for step in plain)
    none, own, shared = (step["rows"] for step in tree)
    assert len(none) == 1 and set(shared) == set(none)
    assert own[0] == none[0] < own[1]
    assert all(mine["flop"] < theirs["flop"] / 4 for mine, theirs in zip(tree, plain, strict=True))
