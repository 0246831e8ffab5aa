"""Operations that depend on the device: free memory, copies from the host, sums in a fixed order."""

from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional

_MEMINFO = Path("/proc/meminfo")
_CGROUP = Path("/sys/fs/cgroup")
# If the system does not tell: an amount that any machine for this work has.
_UNKNOWN = 4 * 2**30


def to_device(part: Tensor, device: torch.device) -> Tensor:
    """Copy a tensor from the host; the host does not wait for the device."""
    if device.type == "cuda" and part.device.type == "cpu":
        return part.pin_memory().to(device, non_blocking=True)
    return part.to(device)


def take_rows(table: Tensor, index: Tensor) -> Tensor:
    """``table[index]`` for (R, K) and (E,), with a gradient that is summed in a fixed order.

    With plain indexing a CPU with several threads sums the gradient in any order, so learned tensors differ from run
    to run.
    """
    return functional.embedding(index, table)


def free_bytes(device: torch.device) -> int:
    """Memory in bytes that this process could still take on ``device``."""
    if device.type == "cuda":
        held = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + held
    return min(_available(), _group_rest())


def _available() -> int:
    lines = _MEMINFO.read_text(encoding="utf-8").splitlines() if _MEMINFO.is_file() else []
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")), _UNKNOWN)


def _group_rest() -> int:
    """Memory left to this container; without a limit, more than any machine has."""
    limit, used = (_number(_CGROUP / name) for name in ("memory.max", "memory.current"))
    return max(0, limit - used) if limit and used else 2**62


def _number(path: Path) -> int:
    text = path.read_text(encoding="utf-8").strip() if path.is_file() else ""
    return int(text) if text.isdigit() else 0
