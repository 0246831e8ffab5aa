"""The table of all backbones that can be named."""

import json
from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import open_clip

from clip.errors import BackboneError
from clip.names import DEMOS, all_names, nearest_names, parse
from clip.weights import find

# Parameters in millions by architecture. tests/clip/test_listing.py builds some of them again; those of text towers
# that need transformers are not in it.
_SIZES = Path(__file__).parent / "assets" / "sizes.json"
_COLUMNS = ("name", "parameters", "text width", "text length", "pixels", "prompts", "weights here")
_READ_AT_END = ("argmax", "eos")


def architectures(letters: str = "") -> Iterator[str]:
    """open_clip's architectures with these letters in their names (BackboneError if there are none)."""
    names = [name for name in open_clip.list_models() if letters.lower() in name.lower()]
    if not names:
        raise BackboneError(f"open_clip has no architecture with {letters!r} in its name")
    yield from names


def table(letters: str = "", weights: Path | None = None) -> Iterator[str]:
    """Lines of the table.

    Args:
        letters: only names with these letters.
        weights: a folder to look in, besides the caches.

    Raises:
        BackboneError: no name has these letters.
    """
    names = [name for name in all_names() if letters.lower() in name.lower()]
    if not names:
        near = " or ".join(nearest_names(letters))
        raise BackboneError(f"no backbone has {letters!r} in its name{f'; did you mean {near}?' if near else ''}")
    rows = [_COLUMNS, *(_row(name, weights) for name in names)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_COLUMNS))]
    for row in rows:
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
    yield "Besides: hf-hub:OWNER/NAME, local-dir:PATH, and the path of a file or folder (docs/backbones.md)"


def _row(name: str, weights: Path | None) -> tuple[str, ...]:
    if name in DEMOS:
        return name, "5 M", "64", "77", "64", "tree", "yes"
    named = parse(name)
    config = open_clip.get_model_config(named.arch)
    text = config["text_cfg"]
    here = find(name, weights or "") is not None
    size = _sizes().get(named.arch)
    return (
        name,
        "-" if size is None else f"{size} M",
        str(text.get("width", "-")),
        str(text.get("context_length", 77)),
        str(config["vision_cfg"].get("image_size", 224)),
        "tree" if is_tree(text) else "plain",
        "yes" if here else "no",
    )


@lru_cache(maxsize=1)
def _sizes() -> dict[str, int]:
    """Millions of parameters by open_clip's name of an architecture."""
    return json.loads(_SIZES.read_text(encoding="utf-8"))


def is_tree(text: Mapping[str, Any]) -> bool:
    """Whether the beginnings of prompts are computed once: the text tower is causal and read at the end."""
    plain = not text.get("no_causal_mask") and not text.get("embed_cls") and "hf_model_name" not in text
    return plain and text.get("pool_type", "argmax") in _READ_AT_END
