"""TRAIN.DETERMINISTIC: figures that depend on neither the number of threads nor the memory that is free."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from threadpoolctl import threadpool_limits

from dassl.utils.errors import UserError

_WORKSPACE = "CUBLAS_WORKSPACE_CONFIG"
_FIXED_WORKSPACES = (":4096:8", ":16:8")  # those with which cuBLAS gives the same sums each time


@contextmanager
def determinism(wanted: bool, *, cuda: bool = False) -> Iterator[None]:
    """Compute on one thread of the host and with torch's deterministic algorithms alone; everything is put back.

    A sum that several threads share is rounded otherwise with another number of them, so only a fixed number serves,
    and one is the number that every machine has.

    Args:
        wanted: False changes nothing.
        cuda: the run computes on a GPU.

    Raises:
        UserError: the GPU's library of matrix products is set otherwise, or was set up by an earlier run.
    """
    if not wanted:
        yield
        return
    if cuda:
        _fix_workspace()
    switch, cudnn = torch.utils.deterministic, torch.backends.cudnn
    before = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    filled, benchmark = switch.fill_uninitialized_memory, cudnn.benchmark
    with threadpool_limits(1):
        try:
            torch.set_num_threads(1)
            torch.use_deterministic_algorithms(True)
            switch.fill_uninitialized_memory = cudnn.benchmark = False
            yield
        finally:
            torch.use_deterministic_algorithms(before[1])
            switch.fill_uninitialized_memory, cudnn.benchmark = filled, benchmark
            torch.set_num_threads(before[0])


def refusal(error: RuntimeError) -> UserError | None:
    """The line for an operation that has no deterministic version; None for any other error."""
    text = " ".join(str(error).split())
    if "does not have a deterministic implementation" not in text and _WORKSPACE not in text:
        return None
    return UserError(f"TRAIN.DETERMINISTIC: {text.partition(', but')[0]}; set TRAIN.DETERMINISTIC False, or use a CPU")


def _fix_workspace() -> None:
    value = os.environ.get(_WORKSPACE)
    if value in _FIXED_WORKSPACES:
        return
    if value is not None or torch.cuda.is_initialized():
        raise UserError(
            f"TRAIN.DETERMINISTIC needs {_WORKSPACE}={_FIXED_WORKSPACES[0]} on a GPU, but the variable is "
            f"{'not set' if value is None else repr(value)}; set it before the program starts"
        )
    os.environ[_WORKSPACE] = _FIXED_WORKSPACES[0]
