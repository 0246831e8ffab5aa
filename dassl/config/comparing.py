"""The differences between two configs, and which of them can change a figure."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import Any

from yacs.config import CfgNode

from dassl.config.build import get_cfg_default
from dassl.config.files import flatten
from dassl.results.record import RETIRED_KEYS, idle_keys


def plain_values(cfg: CfgNode | dict[str, Any]) -> dict[str, Any]:
    """{dotted key: value} with lists for tuples, so that a config and the content of its file compare equal."""
    plain = {key: _plain(value) for key, value in flatten(cfg).items()}
    return {key: value for key, value in plain.items() if key not in RETIRED_KEYS or value != _plain(RETIRED_KEYS[key])}


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def number_values(cfg: CfgNode | dict[str, Any]) -> dict[str, Any]:
    """{dotted key: value} of the keys that can change a figure."""
    plain = plain_values(cfg)
    idle = idle_keys(plain)
    return {key: value for key, value in plain.items() if key not in idle}


def config_digest(cfg: CfgNode | dict[str, Any]) -> str:
    """SHA-256 over the keys that can change a figure, of a config or of the content of its file."""
    return hashlib.sha256(json.dumps(number_values(cfg), sort_keys=True).encode()).hexdigest()


def differences(mine: Mapping[str, Any], theirs: Mapping[str, Any], keys: Iterable[str] | None = None) -> list[str]:
    """The differences between the config here and that of a run there, a text for each key."""
    chosen = sorted({*mine, *theirs}) if keys is None else keys
    return [f"{k} is {theirs.get(k)!r} there, {mine.get(k)!r} here" for k in chosen if mine.get(k) != theirs.get(k)]


def config_conflicts(stored: dict[str, Any], cfg: CfgNode) -> list[str]:
    """The keys that can change a figure and differ between a stored config and ``cfg``, with both values."""
    # A key that is newer than the stored config had its default then.
    return differences(number_values(cfg), {**number_values(get_cfg_default()), **number_values(stored)})
