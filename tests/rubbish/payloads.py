"""Files that try to run code when they are read; each would make the marker appear."""

import io
import os
import pickle
import zipfile
from pathlib import Path
from typing import Any

import torch
from torch import nn

from tests.clip.helpers import Hostile, save_script


class _Opened:
    def __init__(self, marker: Path) -> None:
        self.marker = str(marker)

    def __reduce__(self) -> tuple[Any, ...]:
        return open, (self.marker, "w")


class _System:
    def __init__(self, marker: Path) -> None:
        self.marker = str(marker)

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch '{self.marker}'",)


class _Evaluated:
    def __init__(self, marker: Path) -> None:
        self.marker = str(marker)

    def __reduce__(self) -> tuple[Any, ...]:
        return eval, (f"open({self.marker!r}, 'w')",)


KINDS = {"open": _Opened, "os.system": _System, "eval": _Evaluated}


def plain_pickle(kind: str, marker: Path) -> bytes:
    """A pickle with a call in it."""
    return pickle.dumps({"state_dict": KINDS[kind](marker), "epoch": 1})


def saved(kind: str, marker: Path, *, legacy: bool = False) -> bytes:
    """What torch.save writes of a state dict with a call in it, in the new or the old format."""
    buffer = io.BytesIO()
    state = {"ctx": torch.zeros(2), "x": KINDS[kind](marker)}
    content = {"state_dict": state, "epoch": 1, "optimizer": KINDS[kind](marker)}
    torch.save(content, buffer, _use_new_zipfile_serialization=not legacy)
    return buffer.getvalue()


def script(marker: Path, folder: Path) -> bytes:
    """A TorchScript archive whose program writes the marker."""
    path = save_script(Hostile(str(marker)), folder / "hostile.tmp")
    content = path.read_bytes()
    path.unlink()
    return content


def zipped(names: dict[str, bytes]) -> bytes:
    """A zip file."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in names.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def zip_with_pickle(kind: str, marker: Path) -> bytes:
    """A zip that looks like torch's, with a bare pickle in it."""
    return zipped({"archive/data.pkl": plain_pickle(kind, marker), "archive/version": b"3\n"})


def module() -> bytes:
    """A whole module, saved as an object."""
    buffer = io.BytesIO()
    torch.save(nn.Linear(2, 2), buffer)
    return buffer.getvalue()
