"""The whole table: the cases of every door."""

import importlib
import pkgutil
from functools import lru_cache

import tests.rubbish
from tests.rubbish.case import Case

NO_DOORS = ("__main__", "case", "table", "names", "payloads", "conftest", "serving")


@lru_cache(maxsize=1)
def all_cases() -> tuple[Case, ...]:
    """Every case, door by door."""
    modules = [each.name for each in pkgutil.iter_modules(tests.rubbish.__path__)]
    doors = [name for name in modules if name not in NO_DOORS and not name.startswith("test_")]
    return tuple(case for name in doors for case in importlib.import_module(f"tests.rubbish.{name}").CASES)
