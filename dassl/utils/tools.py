"""Seeds, versions and facts about the machine of a run."""

import contextlib
import ctypes
import gc
import hashlib
import platform
import random
import re
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

CHECKOUT = Path(__file__).resolve().parents[2]
_MIB = 2**20
_PACKAGES = ("torch", "torchvision", "open_clip_torch", "numpy", "pillow", "scikit-learn")


def set_random_seed(seed: int) -> None:
    """Seed Python, numpy and torch on all devices. Reproducible draws use keyed generators in any case."""
    import numpy as np
    import torch

    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


@contextmanager
def collector_paused() -> Iterator[None]:
    """Pause Python's cyclic garbage collector, which would scan millions of new objects repeatedly."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def derived_seed(*key: object) -> int:
    """A 63-bit seed for a generator: different keys give unrelated streams."""
    text = "\0".join(map(str, key)).encode("utf-8", "surrogateescape")  # a key may be a path of any bytes
    return int.from_bytes(hashlib.sha256(text).digest()[:8], "big") >> 1


def program_version() -> str:
    """The version of this program, from pyproject.toml."""
    text = (CHECKOUT / "pyproject.toml").read_text(encoding="utf-8")
    found = re.search(r'^version = "([^"]+)"', text, re.MULTILINE)  # tomllib needs Python 3.11
    return found[1] if found else "unknown"


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that can change a figure."""
    found = {"python": platform.python_version()}
    for name in _PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "missing"
    return found


def device_name(device: "torch.device") -> str:
    """Name of a torch device for people, e.g. "NVIDIA H100" or "cpu, 2 threads"."""
    import torch

    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"cpu ({platform.machine()}), {torch.get_num_threads()} threads"


def reset_peak_memory() -> None:
    """Reset the peaks of :func:`peak_memory`, if the system allows it (Linux, CUDA).

    Freed memory is returned to the system first, because it would hide later allocations.
    """
    import torch

    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL("libc.so.6").malloc_trim(0)
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")  # 5: reset the high-water mark of resident memory
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()


def peak_memory(device: object) -> dict[str, float]:
    """Peak memory in MiB: "host_mib" resident in this process, "device_mib" in tensors on a CUDA device (else 0)."""
    return _memory(device, "VmHWM:", "max_memory_allocated")


def held_memory(device: object) -> dict[str, float]:
    """The same two figures, current instead of peak."""
    return _memory(device, "VmRSS:", "memory_allocated")


def _memory(device: object, field: str, function: str) -> dict[str, float]:
    import torch

    cuda = getattr(device, "type", "") == "cuda"
    return {"host_mib": _process(field), "device_mib": getattr(torch.cuda, function)(device) / _MIB if cuda else 0.0}


def _process(field: str) -> float:
    """A figure in MiB from Linux' record of this process; 0 on other systems."""
    with contextlib.suppress(OSError):
        fields = (line.split() for line in Path("/proc/self/status").read_text().splitlines())
        found = {line[0]: line[1] for line in fields if len(line) > 1}
        return int(found.get(field, 0)) / 1024
    return 0.0
