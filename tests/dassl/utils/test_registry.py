"""Registries find what files of a folder register, and name the nearest entries for a mistyped name."""

import pathlib
import sys

import pytest

from dassl.registries import LOGGERS, TRAINER_REGISTRY
from dassl.utils.errors import UserError
from dassl.utils.registry import Registry, nearest


def _animals() -> Registry:
    animals: Registry = Registry("animal")
    for name in ("Horse", "Mouse", "Whale"):
        animals.register(name)(object())
    return animals


def test_an_entry_is_found_by_its_name():
    @(animals := _animals()).register()
    class Cat:
        pass

    assert animals.get("Cat") is Cat
    assert animals.names() == ["Cat", "Horse", "Mouse", "Whale"]


@pytest.mark.parametrize(
    ("name", "hint"),
    [("Hors", "did you mean Horse"), ("mouse", "did you mean Mouse"), ("x", "choose one of Horse, Mouse")],
)
def test_an_unknown_name_is_answered_with_names(name, hint):
    with pytest.raises(UserError, match=f"unknown animal '{name}'; {hint}"):
        _animals().get(name)


def test_a_name_is_registered_once():
    animals: Registry = Registry("animal")
    animals.register("Path")(pathlib.Path)
    with pytest.raises(AssertionError, match="animal 'Path' is registered twice"):
        animals.register("Path")(Registry)


def test_a_new_file_registers_itself(tmp_path, monkeypatch):
    folder = tmp_path / "zoo_of_a_test"
    folder.mkdir()
    (folder / "__init__.py").write_text(
        "from dassl.utils.registry import Registry\nZOO = Registry('animal', __name__)\n"
    )
    (folder / "lion.py").write_text("from zoo_of_a_test import ZOO\nZOO.register('Lion')(object())\n")
    (folder / "_helper.py").write_text("raise AssertionError('files with an underscore are not imported')\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr("dassl.utils.registry.CHECKOUT", tmp_path)
    try:
        from zoo_of_a_test import ZOO

        assert ZOO.names() == ["Lion"]
    finally:
        for name in [name for name in sys.modules if name.startswith("zoo_of_a_test")]:
            del sys.modules[name]


def test_the_shipped_registries_are_filled():
    assert {"MTCoOp", "CoOp", "ZeroshotCLIP"} <= set(TRAINER_REGISTRY.names())
    assert LOGGERS.names()


def test_nearest_ignores_case_and_is_bounded():
    assert nearest("mtcoop", ["MTCoOp", "CoOp", "PLOT"], count=1) == ["MTCoOp"]
    assert nearest("zzz", ["MTCoOp"]) == []
