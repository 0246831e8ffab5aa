"""Checkpoints of learned modules: <run>/<module>/model.pth.tar-<epoch> and a text file `checkpoint` beside it."""

import logging
import pickle
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from dassl.utils.errors import UserError
from dassl.utils.files import atomic_path, write_text

BEST = "model-best.pth.tar"
_EPOCH = re.compile(r"^model\.pth\.tar-(\d+)$")
_TOKEN_TABLES = ("token_prefix", "token_suffix")
_log = logging.getLogger(__name__)


def epoch_file(epoch: int) -> str:
    """Name of the checkpoint written after ``epoch`` finished epochs."""
    return f"model.pth.tar-{epoch}"


def save_checkpoint(folder: Path, content: dict[str, Any], *, best: bool = False, quiet: bool = False) -> Path:
    """Write one module's checkpoint; the pointer file follows it unless it is a best-on-val copy.

    Args:
        folder: <run>/<module>.
        content: state_dict, epoch, optimizer, scheduler; tensors, numbers, texts and containers of them only.
        quiet: do not log it, because the next epoch replaces it.
    """
    path = folder / (BEST if best else epoch_file(content["epoch"]))
    with atomic_path(path) as temporary:
        torch.save(content, temporary)
    if not best:
        write_text(folder / "checkpoint", path.name + "\n")
    _log.log(logging.DEBUG if quiet else logging.INFO, 'Checkpoint saved to "%s"', path)
    return path


def load_checkpoint(path: Path | str) -> dict[str, Any]:
    """Read a checkpoint without executing anything in it.

    Raises:
        UserError: the file is missing, damaged, or not a checkpoint of this program.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"checkpoint {path} does not exist{_others(path.parent)}")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, pickle.UnpicklingError, EOFError, OSError, ValueError, KeyError) as error:
        reason = str(error).strip().splitlines()[0][:120] if str(error).strip() else type(error).__name__
        raise UserError(f"checkpoint {path} is damaged or not a checkpoint of this program ({reason})") from error
    if not isinstance(content, dict) or "state_dict" not in content or "epoch" not in content:
        raise UserError(f"checkpoint {path} has no 'state_dict' and 'epoch'; it was not written by this program")
    return content


def load_learned(module: nn.Module, state: dict[str, torch.Tensor], *, source: Path) -> None:
    """Put learned tensors into ``module``; token tables of old checkpoints are left out, since class names may differ.

    Raises:
        UserError: keys or shapes differ; the message names them.
    """
    state = {key: value for key, value in state.items() if key.split(".")[-1] not in _TOKEN_TABLES}
    own = module.state_dict()
    wrong = [f"{key} is missing" for key in own if key not in state]
    wrong += [f"{key} is not part of the model" for key in state if key not in own]
    wrong += [
        f"{key} is {tuple(state[key].shape)} there, {tuple(own[key].shape)} here"
        for key in own
        if key in state and state[key].shape != own[key].shape
    ]
    if wrong:
        raise UserError(f"checkpoint {source} does not fit the config: {'; '.join(wrong)}")
    module.load_state_dict(state)


def saved_epochs(folder: Path) -> set[int]:
    """Epochs of the checkpoints in a module's folder."""
    if not folder.is_dir():
        return set()
    return {int(match.group(1)) for match in map(_EPOCH.match, (p.name for p in folder.iterdir())) if match}


def newest_whole(run: Path, modules: Sequence[str]) -> int | None:
    """The last epoch for which every module has a checkpoint; None when there is none."""
    epochs = [saved_epochs(run / name) for name in modules]
    whole = set.intersection(*epochs) if epochs else set()
    return max(whole, default=None)


def optimizer_state(optimizer: torch.optim.Optimizer, module: nn.Module) -> dict[str, dict[str, Any]]:
    """What the optimiser remembers of one module's parameters (e.g. momentum), by parameter name."""
    return {name: dict(optimizer.state[p]) for name, p in module.named_parameters() if p in optimizer.state}


def load_optimizer_state(optimizer: torch.optim.Optimizer, module: nn.Module, state: dict[str, dict[str, Any]]) -> None:
    """Inverse of :func:`optimizer_state`."""
    for name, parameter in module.named_parameters():
        if name in state:
            kept = {k: v.to(parameter.device) if _moves(k, v) else v for k, v in state[name].items()}
            optimizer.state[parameter] = kept


def _moves(key: str, value: Any) -> bool:
    """Step counters stay on the CPU, as torch keeps them."""
    return isinstance(value, torch.Tensor) and key != "step"


def _others(folder: Path) -> str:
    epochs = sorted(saved_epochs(folder))
    return f"; epochs that exist there: {', '.join(map(str, epochs))}" if epochs else ""
