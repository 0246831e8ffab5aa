"""The model card of an exported folder, with one part for the Hub and one for people."""

import html
import re
from typing import Any

import yaml
from open_clip.pretrained import get_pretrained_cfg

from dassl.inference.classifier import EXPORTED_FILE
from dassl.inference.exported import Exported
from dassl.utils.texts import printable

_HUB = "hf-hub:"
# OpenAI's own repositories on the Hub, which has none of its ResNets.
_BASE_MODELS = {
    "ViT-B/32": "openai/clip-vit-base-patch32",
    "ViT-B/16": "openai/clip-vit-base-patch16",
    "ViT-L/14": "openai/clip-vit-large-patch14",
    "ViT-L/14@336px": "openai/clip-vit-large-patch14-336",
}


def model_card(content: Exported, license_id: str = "") -> str:
    """README.md of an exported folder; the Hub reads the YAML between the lines of dashes.

    Args:
        license_id: the Hub's identifier of a licence, such as "mit"; "" if none was given.
    """
    about, name = content.about, content.about["backbone"]["name"]
    title, base = f"{about['training']['trainer']} on {name}", base_model(about["backbone"])
    head: dict[str, Any] = {"pipeline_tag": "image-classification", "library_name": "open_clip"}
    head |= {"license": license_id} if license_id else {}
    head |= {"base_model": base} if base else {}
    head["model-index"] = [{"name": title, "results": _measured(about)}]
    lines = yaml.safe_dump(head, allow_unicode=True, sort_keys=False, width=float("inf"))
    tasks = "\n".join(f"- {_shown(each['name'])}: {', '.join(map(_shown, each['classes']))}" for each in about["tasks"])
    parts = [f"---\n{lines}---", f"# {_shown(title)}", "Classes by task:", tasks]
    parts += [f"`{EXPORTED_FILE}` scores features of the frozen backbone (digest {about['backbone']['digest']})."]
    parts += [] if base else [f"The backbone {_shown(name)} has no known name on the Hub."]
    parts += [] if license_id else ["No licence was given; ask the author before you use or pass on this model."]
    return "\n\n".join(parts) + "\n"


def base_model(backbone: dict[str, Any]) -> str:
    """The Hub's name of a backbone: OpenAI's repository, else the one that open_clip reads; "" if unknown."""
    if backbone["name"] in _BASE_MODELS:
        return _BASE_MODELS[backbone["name"]]
    if backbone["open_clip_name"].startswith(_HUB):
        return backbone["open_clip_name"].removeprefix(_HUB)
    known = get_pretrained_cfg(backbone["open_clip_name"], backbone["open_clip_tag"])
    return "/".join(known.get("hf_hub", "").split("/")[:2])  # a file name may follow


def _measured(about: dict[str, Any]) -> list[dict[str, Any]]:
    """The figures in the Hub's form, an entry for each task that has a figure."""
    dataset, split = about["training"]["dataset"], about["results"]["split"]
    return [
        {
            "task": {"type": "image-classification", "name": name},
            "dataset": {"type": dataset, "name": f"{dataset}: {name}", "config": name, "split": split},
            "metrics": [{"type": "accuracy", "name": f"{each['metric_name']} (%)", "value": each["metric"]}],
        }
        for each in about["results"]["tasks"]
        if each["metric"] is not None
        for name in [_plain(each["name"])]
    ]


def _shown(name: str) -> str:
    """A name for Markdown, escaped so that it makes no link and no element."""
    return re.sub(r"([\[\]()*_#!])", r"\\\1", html.escape(_plain(name), quote=False))


def _plain(name: str) -> str:
    """A name in one line, without hidden characters, because YAML readers differ in what they take for line breaks."""
    return printable(" ".join(name.split()))
