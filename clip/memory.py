"""How much memory is free on a device."""

from pathlib import Path

import torch

_MEMINFO = Path("/proc/meminfo")
_CGROUP = Path("/sys/fs/cgroup")
# Where the system does not tell, an amount that any machine for this work has.
_UNKNOWN = 4 * 2**30


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
    """What is left to the processes of this container; without a limit, more than any machine has."""
    limit, used = (_number(_CGROUP / name) for name in ("memory.max", "memory.current"))
    return max(0, limit - used) if limit and used else 2**62


def _number(path: Path) -> int:
    text = path.read_text(encoding="utf-8").strip() if path.is_file() else ""
    return int(text) if text.isdigit() else 0
