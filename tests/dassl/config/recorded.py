"""What every shipped config file says, in one table: ``python -m tests.dassl.config.recorded`` writes it anew.

Files may take settings from each other, so a change of one may change others. The table shows it line by line.
"""

import hashlib
import json
from collections import Counter
from pathlib import Path
from typing import Any

from dassl.config import flatten, get_cfg_default, merge_cfg
from dassl.sweep.grid import CONFIGS, read_sweep
from dassl.sweep.plan import Run, expand
from dassl.utils.tools import CHECKOUT

RECORD = Path(__file__).with_name("recorded_configs.json")
KINDS = ("trainers", "datasets")
Settings = dict[str, Any]


def shipped(kind: str) -> list[Path]:
    """The config files of a folder of ``configs``; those of its ``_base`` folder only serve other files."""
    return sorted(path for path in (CONFIGS / kind).rglob("*.yaml") if "_base" not in path.parts)


def name(path: Path) -> str:
    """What a file is called in the table."""
    return path.relative_to(CONFIGS).as_posix()


def merged(path: Path) -> Settings:
    """The config that a file alone makes, by dotted key, as JSON has it."""
    cfg = get_cfg_default()
    merge_cfg(cfg, files=[path])
    return plain(flatten(cfg))


def plain(settings: Settings) -> Settings:
    """Settings as JSON gives them back."""
    return json.loads(json.dumps(settings))


def rows(sweep: str) -> dict[str, str]:
    """A digest for each row and number of shots of a sweep: of what its first run sets otherwise than the defaults."""
    first: dict[str, Run] = {}
    for run in expand(read_sweep(sweep)):
        first.setdefault(f"{run.label} on {Path(run.suite).stem}, {run.shots}", run)
    return {title: _digest(run) for title, run in first.items()}


def _digest(run: Run) -> str:
    defaults = flatten(get_cfg_default())
    set_here = {key: value for config in run.configs() for key, value in flatten(config).items()}
    own = {key: value for key, value in set_here.items() if value != defaults[key]}
    text = json.dumps(own, sort_keys=True, default=str).replace(str(CHECKOUT), "").replace(str(Path.cwd()), "")
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def recorded() -> dict[str, Any]:
    """The table as it is stored."""
    return json.loads(RECORD.read_text(encoding="utf-8"))


def table() -> dict[str, Any]:
    """The table as the files of today give it.

    ``common`` has the usual value of each key that some method's file sets otherwise than the defaults. A file has what
    it sets otherwise than that, or a data set's file otherwise than the defaults.
    """
    defaults = plain(flatten(get_cfg_default()))
    methods = {name(path): merged(path) for path in shipped("trainers")}
    usual = _usual(list(methods.values()), defaults)
    files = {file: _unlike(config, {**defaults, **usual}) for file, config in methods.items()}
    files |= {name(path): _unlike(merged(path), defaults) for path in shipped("datasets")}
    return {"common": usual, "files": files, "sweeps": {path.stem: rows(path.stem) for path in shipped("sweeps")}}


def _usual(configs: list[Settings], defaults: Settings) -> Settings:
    """The most frequent value of each key that is not at its default everywhere."""
    keys = [key for key in defaults if any(config[key] != defaults[key] for config in configs)]
    counts = {key: Counter(json.dumps(config[key]) for config in configs) for key in keys}
    return {key: json.loads(count.most_common(1)[0][0]) for key, count in counts.items()}


def _unlike(config: Settings, other: Settings) -> Settings:
    return {key: value for key, value in config.items() if value != other[key]}


def write() -> None:
    """Write the table, a file or row a line."""
    parts = [f' "{part}": {{\n{_lines(content)}\n }}' for part, content in table().items()]
    RECORD.write_text("{\n" + ",\n".join(parts) + "\n}\n", encoding="utf-8")


def _lines(content: dict[str, Any]) -> str:
    return ",\n".join(f"  {json.dumps(key)}: {json.dumps(value)}" for key, value in content.items())


if __name__ == "__main__":
    write()
