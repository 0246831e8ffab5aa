"""Checkpoints of learned modules: <run>/<module>/model.pth.tar-<epoch> and a text file `checkpoint` beside it."""

import io
import logging
import os
import pickle
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from dassl.engine.foreign import read_foreign
from dassl.utils.digests import TAIL_BYTES, ChangedError, is_signed_zip, is_whole_zip, sign_zip
from dassl.utils.errors import UserError
from dassl.utils.files import atomic_path, write_text

BEST = "model-best.pth.tar"
NAMES = "*.pth.tar*"  # of all checkpoints
_TO_RESUME = ("optimizer", "scheduler", "scaler", "best")
EPOCH = re.compile(r"^model\.pth\.tar-(\d+)$")
_LFS, _LFS_BYTES = b"version https://git-lfs", 1024  # the beginning of a Git LFS pointer, and more bytes than it has
_TOKEN_TABLES = ("token_prefix", "token_suffix")
# What the originals of KgCoOp (the first two, which it never uses) and TaskRes save besides learned tensors.
_NOT_LEARNED = ("bias_vectors", "meta_net", "base_text_features")
_ADVICE = ("Weights only load failed", "(1)", "(2)", "Check the documentation", "Please ")
_CHANGED = "use another epoch, put the file back from a copy, or delete it and start the run's command again"
_log = logging.getLogger(__name__)


def epoch_file(epoch: int) -> str:
    """Name of the checkpoint written after ``epoch`` finished epochs."""
    return f"model.pth.tar-{epoch}"


def save_checkpoint(folder: Path, content: dict[str, Any], *, best: bool = False, quiet: bool = False) -> Path:
    """Write one module's checkpoint; the pointer file follows it unless it is a best-on-val copy.

    Args:
        folder: <run>/<module>.
        content: state_dict, epoch, optimizer, scheduler; only tensors, numbers, texts and containers of them.
        quiet: do not log it, because the next epoch replaces it.

    Raises:
        UserError: the folder cannot be written or no space is left.
    """
    path = folder / (BEST if best else epoch_file(content["epoch"]))
    buffer = io.BytesIO()
    torch.save(content, buffer)
    sign_zip(buffer)
    with atomic_path(path) as temporary:
        # Torch reports a full disk only as a RuntimeError.
        temporary.write_bytes(buffer.getbuffer())
    if not best:
        point_to(folder, content["epoch"])
    _log.log(logging.DEBUG if quiet else logging.INFO, 'Checkpoint saved to "%s"', path)
    return path


def point_to(folder: Path, epoch: int) -> None:
    """Write the file ``checkpoint`` of a module's folder, which names its newest epoch as Dassl does."""
    write_text(folder / "checkpoint", epoch_file(epoch) + "\n")


def load_checkpoint(path: Path | str) -> dict[str, Any]:
    """Read a checkpoint without executing anything in it.

    From checkpoints of the original SoftCPT or CoOp only ``state_dict`` and ``epoch`` are read.

    Raises:
        ChangedError: it changed after this program wrote it.
        UserError: the file is missing, damaged, or not a checkpoint.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"checkpoint {path} does not exist{_others(path.parent)}")
    if path.stat().st_size < _LFS_BYTES and path.read_bytes().startswith(_LFS):
        raise UserError(f"checkpoint {path} is a Git LFS pointer instead of the file; get the file by `git lfs pull`")
    try:
        content = _read(path)
    except ChangedError as error:
        raise ChangedError(f"checkpoint {path}", _CHANGED) from error
    except MemoryError:
        raise
    except Exception as error:  # damaged bytes can raise nearly any error
        raise UserError(
            f"checkpoint {path} is damaged or not a checkpoint of this program ({_reason(error)})"
        ) from error
    if not _is_checkpoint(content):
        raise UserError(f"checkpoint {path} has no 'state_dict' and 'epoch'; it was not written by this program")
    return content


def _read(path: Path) -> Any:
    try:
        return torch.load(_checked(path), map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        content = read_foreign(path)
    _log.info('"%s" was written by other code; its tensors are read, but not its optimiser and schedule', path)
    return content


def _checked(path: Path) -> Path | io.BytesIO:
    """The source to read a checkpoint from: its verified bytes, or the file if it carries no digest."""
    with path.open("rb") as file:
        file.seek(-min(path.stat().st_size, TAIL_BYTES), os.SEEK_END)
        if not is_signed_zip(file.read()):
            return path
        file.seek(0)
        content = file.read()
    if not is_whole_zip(content):
        raise ChangedError(path)
    return io.BytesIO(content)


def _reason(error: Exception) -> str:
    """A message in one line, without torch's advice to read the file the unsafe way."""
    kept = []
    for line in str(error).splitlines():
        text = line.rpartition("WeightsUnpickler error: ")[2].partition(". Please")[0].strip()
        kept += [text] if text and not text.startswith(_ADVICE) else []
    return kept[0][:120] if kept else type(error).__name__


def _is_checkpoint(content: Any) -> bool:
    if not isinstance(content, dict) or not isinstance(content.get("epoch"), int):
        return False
    state = content.get("state_dict")
    return isinstance(state, dict) and all(isinstance(key, str) and _is_plain(value) for key, value in state.items())


def _is_plain(value: Any) -> bool:
    """Whether something is a dense tensor of real numbers."""
    return isinstance(value, torch.Tensor) and value.layout == torch.strided and not value.is_complex()


def load_learned(module: nn.Module, state: dict[str, torch.Tensor], *, source: Path) -> None:
    """Load learned tensors into ``module``; token tables of old checkpoints are left out, since class names may differ.

    Other tensors that the originals of some methods save are left out, too, and named in a warning.

    Raises:
        UserError: keys or shapes differ, or values are not finite; the message names them.
    """
    state = {key: value for key, value in state.items() if key.split(".")[-1] not in _TOKEN_TABLES}
    if make_room := getattr(module, "make_room", None):  # a tensor has a row for each training image
        make_room(state)
    own = module.state_dict()
    left_out = [key for key in state if key not in own and key.split(".")[0] in _NOT_LEARNED]
    if left_out:
        _log.warning("%s: %s left out, because this program computes or never uses them", source, ", ".join(left_out))
        state = {key: value for key, value in state.items() if key not in left_out}
    wrong = [f"{key} is missing" for key in own if key not in state]
    wrong += [f"{key} is not part of the model" for key in state if key not in own]
    wrong += [
        f"{key} is {tuple(state[key].shape)} there, {tuple(own[key].shape)} here"
        for key in own
        if key in state and state[key].shape != own[key].shape
    ]
    if wrong:
        raise UserError(f"checkpoint {source} does not fit the config: {'; '.join(wrong)}")
    if broken := not_finite(module, state):
        raise UserError(
            f"checkpoint {source} has values that are not finite in {broken}; its training has failed or the file is "
            "damaged: use an earlier epoch, or train again"
        )
    module.load_state_dict(state)


def not_finite(module: nn.Module, state: dict[str, torch.Tensor]) -> str:
    """The tensors of ``state`` with a NaN or an infinite value and how many of each; "" if there is none.

    A module may list tensors in ``never`` in which -inf is intended: a class that is never predicted.
    """
    floats = {key: value for key, value in state.items() if value.is_floating_point()}
    never = getattr(module, "never", ())
    good = {k: v.isfinite() | ((v == -torch.inf) if k in never else False) for k, v in floats.items()}
    if not good or torch.stack([each.all() for each in good.values()]).all():  # waits for the device once
        return ""
    counts = {key: int((~each).sum()) for key, each in good.items()}
    return ", ".join(f"{key} ({count:,} of {floats[key].numel():,} values)" for key, count in counts.items() if count)


def check_names(content: dict[str, Any], names: Sequence[str], *, source: Path) -> None:
    """Refuse tensors with a row for each of ``content["names"]`` if these differ from ``names``.

    Raises:
        UserError: the two lists differ, even if they are of the same length.
    """
    learned = content.get("names")
    if not isinstance(learned, list) or list(names) == learned:
        return
    other = next((name for name in names if name not in learned), "")
    missing = f" and nothing for {other!r}" if other else f", not these {len(names)} in this order"
    raise UserError(
        f"checkpoint {source} holds something for each of the {len(learned)} names that it was trained on{missing}; "
        "evaluate it on its own classes and tasks, or choose a method that shares what it learns"
    )


def saved_epochs(folder: Path) -> set[int]:
    """Epochs of the checkpoints in a module's folder."""
    if not folder.is_dir():
        return set()
    return {int(match.group(1)) for match in map(EPOCH.match, (p.name for p in folder.iterdir())) if match}


def says_how_to_resume(content: dict[str, Any]) -> bool:
    """Whether a checkpoint has more than learned tensors, unlike those of other code."""
    return all(key in content for key in _TO_RESUME)


def remove_epochs(folder: Path, epochs: Iterable[int]) -> None:
    """Delete some checkpoints of a module."""
    for epoch in epochs:
        (folder / epoch_file(epoch)).unlink(missing_ok=True)


def optimizer_state(optimizer: torch.optim.Optimizer, module: nn.Module) -> dict[str, dict[str, Any]]:
    """The optimiser's state of one module's parameters (e.g. momentum), by parameter name."""
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
    return f"; existing epochs: {', '.join(map(str, epochs))}" if epochs else ""
