"""TRAIN.DETERMINISTIC: figures that depend neither on threads and free memory nor on the order of a GPU's sums."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from yacs.config import CfgNode

from dassl.utils.errors import UserError

THREADS = 1  # of torch; another number splits sums differently
WORKSPACE = "CUBLAS_WORKSPACE_CONFIG"
_FIXED_WORKSPACES = (":4096:8", ":16:8")  # the two values with which cuBLAS promises equal results
_NO_VERSION = " does not have a deterministic implementation"  # torch, behind the name of an operation


@contextmanager
def arithmetic(cfg: CfgNode) -> Iterator[None]:
    """Compute as ``cfg`` asks; restore the process afterwards. Enter it before CUDA starts.

    Raises:
        UserError: deterministic algorithms are asked for, and CUDA was started without them or lacks one.
    """
    if not cfg.TRAIN.DETERMINISTIC:
        yield
        return
    if cfg.USE_CUDA and torch.cuda.is_available():
        _fix_workspace()
    with _one_thread(), _fixed_algorithms(enabled=cfg.USE_CUDA and torch.cuda.is_available()), lacks_explained():
        yield


@contextmanager
def lacks_explained() -> Iterator[None]:
    """Turn the error about an operation without a deterministic version into one line for the user."""
    try:
        yield
    except RuntimeError as error:
        name, lacks, _ = str(error).partition(_NO_VERSION)
        if not lacks:
            raise
        raise UserError(
            f"TRAIN.DETERMINISTIC is True, and {name.strip()} has no deterministic version on this device; compute on "
            "the CPU (USE_CUDA False), or set TRAIN.DETERMINISTIC False"
        ) from error


def _fix_workspace() -> None:
    """Set cuBLAS's variable, which it reads once at its start; with other values its sums vary."""
    given = os.environ.get(WORKSPACE)
    if given in _FIXED_WORKSPACES:
        return
    if given is not None:
        raise UserError(
            f"{WORKSPACE} is {given!r}, which contradicts TRAIN.DETERMINISTIC True; unset it, or set it to "
            f"{_FIXED_WORKSPACES[0]}"
        )
    if torch.cuda.is_initialized():
        raise UserError(
            "TRAIN.DETERMINISTIC is True, but this process has used the GPU without it, as an earlier run of a sweep "
            f"does; start the command with {WORKSPACE}={_FIXED_WORKSPACES[0]} in its environment"
        )
    os.environ[WORKSPACE] = _FIXED_WORKSPACES[0]


@contextmanager
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(THREADS)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def _fixed_algorithms(*, enabled: bool) -> Iterator[None]:
    """Only on a GPU: on a CPU one thread sums in one order with any algorithm."""
    if not enabled:
        yield
        return
    cudnn = torch.backends.cudnn
    before = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    flags = cudnn.benchmark, cudnn.deterministic
    torch.use_deterministic_algorithms(True)
    cudnn.benchmark, cudnn.deterministic = False, True
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before[0], warn_only=before[1])
        cudnn.benchmark, cudnn.deterministic = flags
