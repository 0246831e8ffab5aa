"""A record of findings only goes down."""

import pytest

from scripts.lint.ratchet import Finding, Ratchet

OLD = [Finding("a.py", 1, "x"), Finding("a.py", 9, "y"), Finding("b.py", 2, "z")]


@pytest.fixture
def ratchet(tmp_path):
    found = Ratchet("scripts.lint.some", tmp_path / "record.txt")
    assert found.main(OLD, ["--accept-more"]) == 0
    return found


def recorded(tmp_path):
    return [line for line in (tmp_path / "record.txt").read_text().splitlines() if not line.startswith("#")]


def test_as_many_as_recorded_pass_wherever_they_stand(ratchet, capsys):
    assert ratchet.main([each._replace(line=each.line + 5) for each in OLD], []) == 0
    assert "3 in 2 files, none new" in capsys.readouterr().out


@pytest.mark.parametrize("new", [Finding("a.py", 30, "new"), Finding("c.py", 4, "new")])
def test_one_more_fails_with_its_place_and_is_not_recorded(ratchet, tmp_path, capsys, new):
    for argv in ([], ["--renew"]):
        assert ratchet.main([*OLD, new], argv) == 1
        out = capsys.readouterr().out
        assert f"{new.path}:{new.line}: new" in out
        assert "repair the new ones" in out
        assert "b.py" not in out
    assert recorded(tmp_path) == ["a.py 2", "b.py 1"]


def test_fewer_fail_until_they_are_recorded(ratchet, tmp_path, capsys):
    assert ratchet.main(OLD[:1], []) == 1
    assert "python -m scripts.lint.some --renew" in capsys.readouterr().out
    assert ratchet.main(OLD[:1], ["--renew"]) == 0
    assert recorded(tmp_path) == ["a.py 1"]
    assert ratchet.main(OLD[:1], []) == 0
    assert ratchet.main(OLD, []) == 1


def test_fewer_in_one_file_do_not_pay_for_more_in_another(ratchet, tmp_path):
    assert ratchet.main([*OLD[:1], OLD[2], OLD[2]], ["--renew"]) == 1
    assert recorded(tmp_path) == ["a.py 2", "b.py 1"]
