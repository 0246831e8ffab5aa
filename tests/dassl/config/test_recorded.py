"""Files take settings from each other; what each of them makes is as it was recorded.

After a change that is meant, ``python -m tests.dassl.config.recorded`` writes the record anew: read its diff.
"""

from pathlib import Path

import pytest

from dassl.config import flatten, get_cfg_default, read_settings
from tests.dassl.config.recorded import CONFIGS, KINDS, merged, name, plain, recorded, rows, shipped

RECORD = recorded()
DEFAULTS = plain(flatten(get_cfg_default()))
FILES = [path for kind in KINDS for path in shipped(kind)]


def test_the_record_has_every_shipped_file():
    assert sorted(RECORD["files"]) == sorted(map(name, FILES))
    assert sorted(RECORD["sweeps"]) == sorted(path.stem for path in shipped("sweeps"))


@pytest.mark.parametrize("path", FILES, ids=name)
def test_the_merged_config_is_as_recorded(path):
    usual = RECORD["common"] if path.is_relative_to(CONFIGS / "trainers") else {}
    expected = {**DEFAULTS, **usual, **RECORD["files"][name(path)]}
    found = merged(path)
    assert {key: found[key] for key in found if found[key] != expected[key]} == {}
    assert found.keys() == expected.keys()


@pytest.mark.parametrize("sweep", sorted(RECORD["sweeps"]))
def test_the_rows_of_a_sweep_have_the_configs_that_are_recorded(sweep):
    assert rows(sweep) == RECORD["sweeps"][sweep]


def test_settings_are_said_once():
    # A file that repeats what its bases say hides which of its settings is its own.
    bases = sorted(CONFIGS.glob("*/_base/*.yaml"))
    assert bases
    for path in [*FILES, *bases]:
        settings = read_settings(path).settings
        inherited = {key: value for file, key, value in settings if file != str(path)}
        repeated = [key for file, key, value in settings if file == str(path) and inherited.get(key) == value]
        assert not repeated, path


def test_every_base_serves_some_file():
    used = {Path(file).resolve() for path in FILES for file, _, _ in read_settings(path).settings}
    assert {path.resolve() for path in CONFIGS.glob("*/_base/*.yaml")} <= used
