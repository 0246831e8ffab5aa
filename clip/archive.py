"""Read TorchScript archives as data: their tensors by name, without the program in them.

``torch.jit.load`` runs code of the archive (``__setstate__``), which can write files. Here no program is loaded:
torch's ``weights_only`` reader reads the pickle with the tensors, and every class that the archive names is replaced by
one that only stores attributes.
"""

import io
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.serialization import get_unsafe_globals_in_checkpoint, safe_globals

_DATA = re.compile(r"data\.pkl|data/\d+|version|byteorder")
_SOURCE = re.compile(r"code/(__torch__.*)\.py")
_CLASS = re.compile(r"^class (\w+)\(Module\):\n  __parameters__ = \[(.*?)\]\n  __buffers__ = \[(.*?)\]", re.M)
_NAME = re.compile(r'"([^"\\]+)"')


def is_torchscript(archive: zipfile.ZipFile) -> bool:
    """Whether a zip file is one that ``torch.jit.save`` wrote."""
    return any(name.endswith("/constants.pkl") for name in archive.namelist())


def read_torchscript(path: Path) -> dict[str, Tensor]:
    """The parameters and buffers of a TorchScript module by their dotted names, in the dtypes of the file.

    Raises:
        pickle.UnpicklingError, RuntimeError, KeyError, ...: the file is damaged, or no such archive.
    """
    with zipfile.ZipFile(path) as archive:
        root = archive.namelist()[0].split("/")[0]
        entries = {name.removeprefix(f"{root}/"): name for name in archive.namelist()}
        data = _bare_archive(archive, entries)
        registered = _registered(archive, entries)
    names = get_unsafe_globals_in_checkpoint(data)
    data.seek(0)
    stand_ins: list[Any] = [
        (type("StandIn", (_StandIn,), {"registered": registered.get(name)}), name) for name in names
    ]
    with safe_globals(stand_ins):
        module = torch.load(data, map_location="cpu", weights_only=True)
    return dict(_tensors(module, "", set()))


class _StandIn:
    """Replaces every class and function of the archive; stores the attributes it is given.

    Attributes:
        registered: names of the class's parameters and buffers; None if the archive does not list them.
    """

    registered: ClassVar[set[str] | None] = None
    attributes: dict[str, Any]

    def __new__(cls, *_: Any, **__: Any) -> "_StandIn":
        made = object.__new__(cls)
        made.attributes = {}
        return made

    def __setstate__(self, state: Any) -> None:
        self.attributes = state if isinstance(state, dict) else {}


def _bare_archive(archive: zipfile.ZipFile, entries: dict[str, str]) -> io.BytesIO:
    """The archive in the form that ``torch.load`` reads, without the TorchScript marker."""
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as bare:
        for short, name in entries.items():
            if _DATA.fullmatch(short):
                bare.writestr(f"archive/{short}", archive.read(name))
    data.seek(0)
    return data


def _registered(archive: zipfile.ZipFile, entries: dict[str, str]) -> dict[str, set[str]]:
    """Class -> names of its parameters and buffers, from the two lists in the program's text."""
    found = {}
    for short, name in entries.items():
        source = _SOURCE.fullmatch(short)
        if not source:
            continue
        for match in _CLASS.finditer(archive.read(name).decode("utf-8", "replace")):
            qualified = f"{source[1].replace('/', '.')}.{match[1]}"
            found[qualified] = set(_NAME.findall(match[2])) | set(_NAME.findall(match[3]))
    return found


def _tensors(module: Any, prefix: str, seen: set[int]) -> Iterator[tuple[str, Tensor]]:
    """Tensors of a module and its submodules; each module once, so that a cycle in the file ends."""
    if not isinstance(module, _StandIn) or id(module) in seen:
        return
    seen.add(id(module))
    for name, value in module.attributes.items():
        if isinstance(value, _StandIn):
            yield from _tensors(value, f"{prefix}{name}.", seen)
        elif isinstance(value, Tensor) and (module.registered is None or name in module.registered):
            yield f"{prefix}{name}", value
