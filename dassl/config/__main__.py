"""Print the reference of all config keys in Markdown: ``python -m dassl.config > docs/config.md``."""

from itertools import groupby

from dassl.config.build import all_keys
from dassl.config.keys import Key
from dassl.utils.cli import Parser

_FILES = """\
This page lists every config key. A config file sets keys as YAML and may start from other files:
`BASE: ../_base/training.yaml` names one, `BASE: [training.yaml, demo.yaml]` several. A relative path starts at the
folder of the file that names it (of the real file, if that is a link). Absolute paths and `~` work too, so your own
file can start from a shipped one. A base may have bases.

A file's keys win over those of its bases; a later base, with its own bases, wins over an earlier one. A list is
replaced as a whole. A setting cannot be removed, only set to another value, such as the default below. `config.yaml`
and `results.json` of a run hold the merged config. The files of `configs/trainers/_base` are bases only;
`tests/dassl/config/recorded_configs.json` records what each shipped file makes.""".splitlines()


def reference() -> str:
    """One table per top-level node: key, default, meaning, accepted values."""
    lines = [
        "# Config keys",
        "",
        "Made by `python -m dassl.config > docs/config.md`; edit the declarations instead.",
        "",
        *_FILES,
        "",
    ]
    for node, keys in groupby(all_keys().values(), key=_node):
        lines += [f"## {node}", "", "| key | default | meaning |", "| --- | --- | --- |", *map(_row, keys), ""]
    return "\n".join(lines)


def _node(key: Key) -> str:
    parts = key.name.split(".")
    if len(parts) == 1:
        return "The run"
    return ".".join(parts[:2]) if parts[0] == "TRAINER" and len(parts) > 2 else parts[0]


def _row(key: Key) -> str:
    choices = f" ({', '.join(f'`{choice}`' for choice in key.choices)})" if len(key.choices) > 1 else ""
    return f"| `{key.name}` | `{key.default!r}` | {key.help}{choices} |"


if __name__ == "__main__":
    Parser(prog="python -m dassl.config", description=__doc__).parse_args()
    print(reference(), end="")
