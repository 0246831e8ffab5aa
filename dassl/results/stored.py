"""The config of a run, read from its folder; apart from ``record``, which programs import before they have PyYAML."""

from pathlib import Path
from typing import Any

import yaml

from dassl.results.record import CONFIG_FILE
from dassl.utils.bounded_yaml import Bounded


# The C reader is ten times as fast; a large tree has thousands of configs.
class _Loader(Bounded, getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """Reads configs of runs."""


def stored_config(folder: Path | str, *, name: str = CONFIG_FILE) -> dict[str, Any] | None:
    """The content of a run's config file ``name``, nested as in the file; None if it cannot be read."""
    try:
        content = yaml.load((Path(folder) / name).read_text(encoding="utf-8"), Loader=_Loader)
    except (OSError, ValueError, yaml.YAMLError, RecursionError):  # ValueError: no text, or an impossible date
        return None
    return content if isinstance(content, dict) else None
