"""Tables from names to objects, filled from the files of a folder."""

import difflib
import importlib.util
import pkgutil
import sys
from collections.abc import Callable, Iterable, Iterator
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Generic, TypeVar

from dassl.utils.errors import UserError
from dassl.utils.tools import CHECKOUT

T = TypeVar("T")


def nearest(name: str, choices: Iterable[str], count: int = 3) -> list[str]:
    """Up to ``count`` choices similar to ``name``, best first; case does not matter."""
    folded: dict[str, str] = {}
    for choice in choices:
        folded.setdefault(choice.lower(), choice)
    return [folded[key] for key in difflib.get_close_matches(name.lower(), folded, n=count, cutoff=0.5)]


def _own_package(name: str) -> ModuleType:
    """A package of this checkout, even if another package of its name comes first on Python's path.

    Raises:
        UserError: another package of this name is already loaded.
    """
    own = CHECKOUT.joinpath(*name.split("."))
    if name not in sys.modules and _place_of(importlib.util.find_spec(name)) != own:
        sys.path.insert(0, str(CHECKOUT))
        importlib.invalidate_caches()
    package = importlib.import_module(name)
    place = _place_of(package.__spec__)
    if place != own:
        raise UserError(
            f"another package called {name!r}, in {place}, is loaded instead of this program's; take it off "
            f"PYTHONPATH, or start the program from {CHECKOUT}"
        )
    return package


def _place_of(spec: ModuleSpec | None) -> Path | None:
    """Folder of a package, or file of a module."""
    places = [*(spec.submodule_search_locations or ()), spec.origin] if spec else []
    return next((Path(place).resolve() for place in places if place), None)


class Registry(Generic[T]):
    """Maps names to classes or functions.

    Args:
        kind: the kind of entries, for messages ("trainer", "data set", ...).
        package: folder whose modules are imported at the first lookup, so that a new file registers without an edit
            elsewhere. Modules that start with "_" are left out.
    """

    def __init__(self, kind: str, package: str | None = None) -> None:
        self.kind = kind
        self._package = package
        self._entries: dict[str, T] = {}

    def register(self, name: str | None = None) -> Callable[[T], T]:
        """Decorator that registers a class or function as ``name`` (default: its own name)."""

        def enter(entry: T) -> T:
            key = name or entry.__name__  # type: ignore[attr-defined]
            other = self._entries.get(key)
            assert other is None or other.__module__ == entry.__module__, f"{self.kind} {key!r} is registered twice"
            self._entries[key] = entry
            return entry

        return enter

    def get(self, name: str) -> T:
        """The entry called ``name``.

        Raises:
            UserError: there is none; the message lists the nearest names, or all of them.
        """
        self._discover()
        if name not in self._entries:
            close = nearest(name, self._entries)
            hint = f"did you mean {' or '.join(close)}?" if close else f"choose one of {', '.join(self.names())}"
            raise UserError(f"unknown {self.kind} {name!r}; {hint}")
        return self._entries[name]

    def names(self) -> list[str]:
        """All registered names, sorted."""
        self._discover()
        return sorted(self._entries)

    def __contains__(self, name: str) -> bool:
        self._discover()
        return name in self._entries

    def __iter__(self) -> Iterator[T]:
        self._discover()
        return iter([self._entries[name] for name in self.names()])

    def _discover(self) -> None:
        if self._package is None:
            return
        package, self._package = _own_package(self._package), None
        for module in pkgutil.iter_modules(package.__path__):
            if not module.name.startswith("_"):
                importlib.import_module(f"{package.__name__}.{module.name}")
