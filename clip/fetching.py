"""A folder of weights for machines without a network."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

from clip import hub, wrapped
from clip.errors import BackboneError
from clip.names import Kind, Named, parse
from clip.openclip import CONFIG, read_json, tagged
from clip.weights import fetch_from_hub, find, locate


def fetch(names: Sequence[str], folder: Path) -> Iterator[str]:
    """Download the weights of backbones, and the tokenizers they need, to a folder; yields a line for each.

    Raises:
        BackboneError: an unknown name, or one of a file; a download that failed.
    """
    every = [parse(name) for name in names]
    for named in every:
        if named.kind not in (Kind.OPENAI, Kind.TAG, Kind.HUB):
            raise BackboneError(f"the backbone {named.name!r} is on this machine already; copy it")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BackboneError(f"the folder {folder} cannot be made ({error.strerror or error}); give another") from error
    for named in every:
        path = _openai(named, folder) if named.kind is Kind.OPENAI else _from_hub(named, folder / hub.slug(named.name))
        yield f"{named.name}: {path} ({path.stat().st_size / 2**20:,.0f} MiB)"
    yield f"On the other machine: MODEL.BACKBONE.NAME {names[0]} MODEL.BACKBONE.WEIGHTS {folder}"


def _openai(named: Named, folder: Path) -> Path:
    """OpenAI's file in the folder itself, not in the cache; else its mirror."""
    here = find(named.name, folder)
    if here is not None and folder in here.parents:
        return here
    path = locate(named.name, folder)
    if folder in path.parents:
        return path
    return hub.fetch(named.repository, hub.TENSORS[:3], name=named.name, folder=folder / hub.slug(named.repository))


def _from_hub(named: Named, folder: Path) -> Path:
    path = fetch_from_hub(named, folder)
    model = tagged(named.arch, named.tag).model if named.kind is Kind.TAG else _model_of(folder)
    if not (folder / CONFIG).is_file() and named.kind is Kind.TAG:
        (folder / CONFIG).write_text(json.dumps({"model_cfg": model}), encoding="utf-8")
    text = model.get("text_cfg", {})
    if tower := text.get("hf_model_name"):
        hub.fetch(tower, (wrapped.CONFIG,), name=f"the text tower {tower}", folder=folder / wrapped.FOLDER)
    if tokenizer := text.get("hf_tokenizer_name"):
        hub.fetch_others(tokenizer, hub.TOKENS, folder)
    return path


def _model_of(folder: Path) -> dict[str, dict[str, str]]:
    said = read_json(folder / CONFIG) if (folder / CONFIG).is_file() else {}
    found = said.get("model_cfg", said)
    return found if isinstance(found, dict) else {}
