"""Read checkpoints that other code pickled, without running code.

The original SoftCPT, CoOp and Dassl store scheduler and optimiser as objects, and with them every parameter of the
frozen model. Reading such a file the usual way imports and runs code that it names. Here torch's own ``weights_only``
reader reads it, with every unknown class and function replaced by a harmless one.
"""

import io
import pickle
import pickletools
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import torch
from torch.serialization import get_unsafe_globals_in_checkpoint, safe_globals

_LEGACY_PICKLES = 5  # magic number, protocol, machine, content, keys of the storages; raw bytes follow
_RENAMED = {"__builtin__": "builtins", "copy_reg": "copyreg"}  # pickle writes the names of Python 2


class _StandIn:
    """Replaces every foreign class and function: any call results in an empty dict."""

    def __new__(cls, *_: Any, **__: Any) -> Any:
        return OrderedDict()


def read_foreign(path: Path) -> dict[str, Any]:
    """The tensors and the epoch of a file that another program wrote with ``torch.save``, in the new or the old format.

    Returns:
        {"state_dict": {name: tensor}, "epoch": number}; everything else in the file is dropped.

    Raises:
        pickle.UnpicklingError, RuntimeError, ValueError, ...: the file is damaged, or no such checkpoint.
    """
    # The same test as torch's; a file that is a zip only to Python fails in the next call.
    zipped = zipfile.is_zipfile(path)
    names = get_unsafe_globals_in_checkpoint(str(path)) if zipped else _legacy_globals(path)
    with safe_globals([(_StandIn, name) for name in names]):
        # Memory-mapped, so that the frozen model in it costs neither time nor memory.
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=zipped)
    if not isinstance(content, dict) or not isinstance(content.get("state_dict"), dict):
        raise pickle.UnpicklingError("it has no 'state_dict'")
    state = {key: value.clone() for key, value in content["state_dict"].items() if isinstance(value, torch.Tensor)}
    return {"state_dict": state, "epoch": content.get("epoch")}


def _legacy_globals(path: Path) -> set[str]:
    """Dotted names of all classes and functions that a file in torch's old format refers to."""
    file = io.BytesIO(path.read_bytes())
    names = set()
    for _ in range(_LEGACY_PICKLES):
        for opcode, argument, _ in pickletools.genops(file):
            if opcode.name == "GLOBAL" and argument:
                module, name = argument.split(" ", 1)
                names.add(f"{_RENAMED.get(module, module)}.{name}")
    return names
