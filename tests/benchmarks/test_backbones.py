from benchmarks import backbones
from dassl.utils.files import read_json

NAMES = ("RN50", "MobileCLIP2-S0")


def test_the_benchmark_measures_and_writes_what_it_prints(tmp_path, capsys):
    out = tmp_path / "backbones.json"
    assert backbones.main(["--quick", "--rounds", "1", "--batch", "2", "--backbones", *NAMES, "--out", str(out)]) == 0
    rows, printed = {row["name"]: row for row in read_json(out)["rows"]}, capsys.readouterr().out
    for name in NAMES:
        images, chosen, plain = (rows[f"{name}, {what}"] for what in ("images", "text, chosen", "text, plain"))
        assert images["count"] == 2 and all(row["name"] in printed for row in (images, chosen, plain))
        assert all(min(row["wall"]) > 0 and row["flop"] > 0 for row in (images, chosen, plain))
        shares = chosen["way"] == "tree"
        assert shares == (name == "RN50")
        assert (plain["flop"] > 5 * chosen["flop"]) == shares
        assert (plain["count"] > chosen["count"]) == shares
