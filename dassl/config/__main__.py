"""Print the reference of all config keys in Markdown: ``python -m dassl.config > docs/config.md``."""

from itertools import groupby

from dassl.config.build import all_keys
from dassl.config.keys import Key


def reference() -> str:
    """One table per top-level node: key, default, meaning, accepted values."""
    lines = [
        "# Config keys",
        "",
        "Made by `python -m dassl.config > docs/config.md`; edit the declarations instead.",
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
    print(reference(), end="")
