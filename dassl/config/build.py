"""Builds the config: defaults, then files, then flags and KEY VALUE pairs; every problem is reported at once."""

from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from yacs.config import CfgNode

from dassl.config.defaults import KEYS
from dassl.config.files import Setting, read_settings
from dassl.config.keys import Key, coerce
from dassl.data.own.description import is_placed
from dassl.results.record import RETIRED_KEYS
from dassl.utils.errors import UserError
from dassl.utils.registry import nearest

_SHOWN = 3  # keys that may be meant
# Last word of keys that other programs have, without "_" -> the key here.
_KNOWN_ELSEWHERE = {
    **dict.fromkeys(("EPOCH", "EPOCHS", "NUMEPOCHS", "MAXEPOCHS", "TRAINEPOCHS"), "OPTIM.MAX_EPOCH"),
    **dict.fromkeys(("LEARNINGRATE", "BASELR", "INITLR"), "OPTIM.LR"),
    **dict.fromkeys(("WD", "DECAY"), "OPTIM.WEIGHT_DECAY"),
    **dict.fromkeys(("WARMUP", "WARMUPEPOCHS"), "OPTIM.WARMUP_EPOCH"),
    **dict.fromkeys(("BATCHSIZE", "TRAINBATCHSIZE", "BS"), "DATALOADER.TRAIN_X.BATCH_SIZE"),
    **dict.fromkeys(("WORKERS", "NWORKERS"), "DATALOADER.NUM_WORKERS"),
    **dict.fromkeys(("SHOTS", "SHOT", "KSHOT", "NSHOTS"), "DATASET.NUM_SHOTS"),
    **dict.fromkeys(("DATAROOT", "DATADIR", "DATAPATH"), "DATASET.ROOT"),
    **dict.fromkeys(("ARCH", "BACKBONE"), "MODEL.BACKBONE.NAME"),
    **dict.fromkeys(("IMGSIZE", "IMAGESIZE", "RESOLUTION"), "INPUT.SIZE"),
    **dict.fromkeys(("DEVICE", "GPU", "CUDA", "USEGPU"), "USE_CUDA"),
    **dict.fromkeys(("RANDOMSEED",), "SEED"),
    **dict.fromkeys(("OUTPUT", "SAVEDIR", "OUTDIR"), "OUTPUT_DIR"),
}


@lru_cache(maxsize=1)
def all_keys() -> dict[str, Key]:
    """Every key of the engine and of the registered trainers, by dotted name."""
    from dassl.registries import TRAINER_REGISTRY

    keys = list(KEYS)
    for trainer in TRAINER_REGISTRY:
        keys.extend(trainer.config_keys)
    return {key.name: key for key in keys}


def get_cfg_default() -> CfgNode:
    """A config with every key at its default."""
    cfg = CfgNode()
    for key in all_keys().values():
        _set(cfg, key.name, key.default)
    return cfg


def merge_cfg(
    cfg: CfgNode,
    *,
    files: Iterable[Path | str] = (),
    values: Mapping[str, Any] | None = None,
    pairs: Sequence[str] = (),
    place: str = "command line",
) -> None:
    """Set keys of ``cfg`` from YAML files, then from ``values``, then from ``KEY VALUE KEY VALUE ...``.

    Args:
        values: by dotted name, as a YAML file has them.
        place: where ``values`` and ``pairs`` come from, for messages.

    Raises:
        UserError: names every unknown key (with the nearest ones) and every value of the wrong kind, a line each.
    """
    settings: list[Setting] = []
    problems: list[str] = []
    for file in files:
        reading = read_settings(Path(file))
        settings += reading.settings
        problems += reading.problems
    settings.extend((place, name, value) for name, value in (values or {}).items())
    problems += _read_pairs(pairs, settings, place)
    for source, name, value in settings:
        problems += [f"{source}: {problem}" for problem in _assign(cfg, name, value)]
    if problems:
        raise UserError("\n".join(dict.fromkeys(problems)))
    _root_of_tasks(cfg, settings)


def _root_of_tasks(cfg: CfgNode, settings: Sequence[Setting]) -> None:
    """Own tasks with absolute paths need no data root: the folder of their file takes its place."""
    sources = [source for source, name, _ in settings if name == "DATASET.TASKS"]
    tasks = cfg.DATASET.TASKS
    if sources and tasks and not cfg.DATASET.ROOT and all(map(is_placed, tasks)) and Path(sources[-1]).is_file():
        cfg.DATASET.ROOT = str(Path(sources[-1]).absolute().parent)


def _set(cfg: CfgNode, name: str, value: Any) -> None:
    *parents, leaf = name.split(".")
    for parent in parents:
        cfg = cfg.setdefault(parent, CfgNode())
    cfg[leaf] = value


def _assign(cfg: CfgNode, name: str, value: Any) -> list[str]:
    """Set one key; returns the problem, or ""."""
    if name in RETIRED_KEYS:
        return _retired(name, value)
    key = all_keys().get(name)
    if key is None:
        below = [other for other in all_keys() if other.startswith(f"{name}.")]
        if below:
            return [f"{name!r} is no key but a section of keys, such as {below[0]}; set one of these"]
        meant = _KNOWN_ELSEWHERE.get(name.rpartition(".")[2].replace("_", "").upper())
        same = [other for other in all_keys() if other.rpartition(".")[2] == name.upper()]
        close = [meant] if meant else same[:_SHOWN] or nearest(name, all_keys())
        hint = f"did you mean {' or '.join(close)}?" if close else "see docs/config.md"
        return [f"unknown key {name!r}; {hint}"]
    value, problems = _checked(key, value)
    if not problems:
        _set(cfg, name, value)
    return problems


def _retired(name: str, value: Any) -> list[str]:
    """The problem with setting a removed key: only its former default is still accepted."""
    only = RETIRED_KEYS[name]
    try:
        same = coerce(value, only) == only
    except TypeError:
        same = False
    return [] if same else [f"{name} is {value!r}: its setting was removed, since no method uses it; leave it out"]


def _checked(key: Key, value: Any) -> tuple[Any, list[str]]:
    """The value in the key's type, and the problem with it, or ""."""
    if key.parse:
        value, problems = key.parse(value)
        return value, [f"{key.name} {problem}" for problem in problems]
    try:
        value = coerce(value, key.default if key.like is None else key.like)
        problem = key.problem(value)
    except TypeError as error:
        problem = str(error)
    return value, [f"{key.name} is {value!r}: {problem}"] if problem else []


def _read_pairs(pairs: Sequence[str], settings: list[Setting], place: str) -> list[str]:
    if len(pairs) % 2:
        return [f"{place}: {pairs[-1]!r} has no value; options after the flags come as KEY VALUE"]
    settings.extend((place, name, text) for name, text in zip(pairs[::2], pairs[1::2], strict=True))
    return []
