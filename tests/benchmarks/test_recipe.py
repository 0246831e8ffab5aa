import pytest

from benchmarks import recipe
from tests.lab import BATCHES

assert BATCHES, "importing the lab registers the trainers"


def test_a_variant_is_trained_on_every_suite_and_its_mean_shown(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(recipe, "METHODS", ("CoOp-MT",))
    monkeypatch.setitem(recipe.VARIANTS, "short", {"OPTIM.MAX_EPOCH": 1, "OPTIM.MIN_STEPS": 1, "OPTIM.LR": 0.0})
    assert recipe.main([str(tmp_path), "--variants", "short"]) == 0
    line = capsys.readouterr().out.strip().splitlines()[-1]
    cells = [cell.strip() for cell in line.strip("|").split("|")]
    assert cells[0] == "short" and cells[1] == cells[2] and 10 < float(cells[1]) < 90
    assert len(list(tmp_path.rglob("results.json"))) == len(recipe.SUITES)


def test_an_unknown_variant_is_a_line(tmp_path, capsys):
    assert recipe.main([str(tmp_path), "--variants", "adam 3"]) == 2
    assert capsys.readouterr().err.startswith("error: unknown variant 'adam 3'; choose among sgd 0.002, 100 steps; ")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", recipe.VARIANTS)
def test_the_variants_are_settings_of_the_config(name):
    assert {key.partition(".")[0] for key in recipe.VARIANTS[name]} <= {"OPTIM", "INPUT"}
