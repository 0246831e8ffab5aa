"""Seeds, versions and the machine a run is on."""

import contextlib
import gc
import hashlib
import platform
import random
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]
_MIB = 2**20
_PACKAGES = ("torch", "torchvision", "open_clip_torch", "numpy", "pillow", "scikit-learn")


def set_random_seed(seed: int) -> None:
    """Seed Python, numpy and torch on all devices. What must be reproducible draws from keyed generators anyway."""
    import numpy as np
    import torch

    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


@contextmanager
def collector_paused() -> Iterator[None]:
    """Keep Python's cyclic garbage collector from walking through millions of new objects again and again."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def derived_seed(*key: object) -> int:
    """A 63-bit seed that depends on every part of the key and on nothing else."""
    text = "\x1f".join(map(str, key))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that can shift a number."""
    found = {"python": platform.python_version()}
    for name in _PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "missing"
    return found


def device_name(device: object) -> str:
    """Name of a torch device for people, e.g. "NVIDIA H100" or "cpu, 2 threads"."""
    import torch

    if getattr(device, "type", "") == "cuda":
        return torch.cuda.get_device_name(device)
    return f"cpu ({platform.machine()}), {torch.get_num_threads()} threads"


def reset_peak_memory() -> None:
    """Let the peaks of :func:`peak_memory` count from now on, where the system allows it (Linux, CUDA)."""
    import torch

    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")  # 5: reset the high-water mark of resident memory
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()


def peak_memory(device: object) -> dict[str, float]:
    """Peak memory in MiB: "host_mib" resident in this process, "device_mib" in tensors on a CUDA device (else 0)."""
    import torch

    cuda = getattr(device, "type", "") == "cuda"
    return {"host_mib": _peak_resident(), "device_mib": torch.cuda.max_memory_allocated(device) / _MIB if cuda else 0.0}


def _peak_resident() -> float:
    with contextlib.suppress(OSError):
        fields = (line.split() for line in Path("/proc/self/status").read_text().splitlines())
        found = {line[0]: line[1] for line in fields if len(line) > 1}
        return int(found.get("VmHWM:", 0)) / 1024
    return 0.0  # no such record on this system
