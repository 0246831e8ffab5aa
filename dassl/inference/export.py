"""Export a finished run to a file or folder that others can use."""

import html
import json
import re
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from torch import Tensor

from dassl.config.comparing import number_values
from dassl.inference.classifier import EXPORTED_FILE, Classifier
from dassl.inference.exported import SCHEMA, Exported, preprocessing, write_exported
from dassl.results.record import read_results
from dassl.utils.errors import UserError
from dassl.utils.files import atomic_path, write_json, write_text
from dassl.utils.privacy import without_home
from dassl.utils.texts import printable

_RECORD = ("split", "metric", "tasks")
_TRAINED = ("trainer", "dataset", "shots", "seed", "subset_digest", "test_digest", "config_digest", "classes")


def exported_content(classifier: Classifier) -> Exported:
    """The content of a run's exported file.

    Raises:
        UserError: the method has no table of classes.
    """
    trainer, result = classifier.trainer, asdict(read_results(classifier.folder))
    name, tag = trainer.open_clip_name()
    tasks = [{key: value for key, value in each.items() if key != "per_class"} for each in result["tasks"]]
    backbone, config = _without_homes(result["backbone"]), _without_homes(number_values(trainer.cfg))
    about = {
        "tasks": [{"name": task.name, "classes": list(task.classnames)} for task in classifier.tasks],
        "temperature": list(classifier.temperatures),
        "backbone": {**backbone, "open_clip_name": name, "open_clip_tag": tag},
        "preprocess_cfg": preprocessing(classifier.input),
        "reading": asdict(classifier.reading),
        "training": {key: result[key] for key in _TRAINED},
        "results": {**{key: result[key] for key in _RECORD}, "tasks": tasks},
        "config": {key: each for key, each in config.items() if key not in ("MODEL.INIT_WEIGHTS", "RESUME")},
    }
    return Exported(trainer.head(), about)


def _without_homes(values: Mapping[str, Any]) -> dict[str, Any]:
    return {key: without_home(value) if isinstance(value, str) else value for key, value in values.items()}


def export_file(classifier: Classifier, path: Path) -> None:
    """Write one safetensors file."""
    write_exported(path, exported_content(classifier))


def export_folder(classifier: Classifier, folder: Path) -> None:
    """Write a folder in the layout of the Hub, the model card last.

    Raises:
        UserError: the folder has files already, or the method has no table of classes.
    """
    if folder.is_dir() and any(folder.iterdir()):
        raise UserError(f"{folder} is not empty; choose another folder, or empty it")
    content = exported_content(classifier)
    write_exported(folder / EXPORTED_FILE, content)
    learned = _learned(classifier)
    if learned:
        with atomic_path(folder / "model.safetensors") as temporary:
            save_file(learned, temporary, {"format": "pt"})
    about = {key: content.about[key] for key in ("tasks", "temperature", "backbone", "preprocess_cfg", "training")}
    write_json(folder / "config.json", {"schema": SCHEMA, "head": content.head.kind, **about})
    write_text(folder / "README.md", model_card(content))


def _learned(classifier: Classifier) -> dict[str, Tensor]:
    """The learned tensors as {module.key: tensor}."""
    modules = classifier.trainer.modules
    return {
        f"{name}.{key}": value.detach().cpu().contiguous().clone()
        for name, module in modules.items()
        for key, value in module.state_dict().items()
    }


def model_card(content: Exported) -> str:
    """README.md of a folder: the Hub reads the YAML between the lines of dashes, written as JSON."""
    about, name = content.about, content.about["backbone"]["name"]
    measured = [
        {
            "task": {"type": "image-classification"},
            "dataset": {"name": each["name"], "type": about["training"]["dataset"]},
            "metrics": [{"type": "accuracy", "name": each["metric_name"], "value": each["metric"]}],
        }
        for each in about["results"]["tasks"]
        if each["metric"] is not None
    ]
    published = _BASE_MODELS.get(name)
    head: dict[str, Any] = {"pipeline_tag": "image-classification", "library_name": "open_clip"}
    head |= {"base_model": published} if published else {}
    head["model-index"] = [{"name": f"{about['training']['trainer']} on {name}", "results": measured}]
    lines = "\n".join(f"{key}: {json.dumps(value, ensure_ascii=False)}" for key, value in head.items())
    tasks = "\n".join(f"- {_shown(each['name'])}: {', '.join(map(_shown, each['classes']))}" for each in about["tasks"])
    return (
        f"---\n{lines}\n---\n\n# {about['training']['trainer']} on {name}\n\nClasses by task:\n\n{tasks}\n\n"
        f"`{EXPORTED_FILE}` scores features of the frozen backbone (digest {about['backbone']['digest']}).\n"
    )


def _shown(name: str) -> str:
    """A name for Markdown, escaped so that it makes no link and no element."""
    return re.sub(r"([\[\]()*_#!])", r"\\\1", html.escape(printable(name), quote=False))


_BASE_MODELS = {
    "ViT-B/32": "openai/clip-vit-base-patch32",
    "ViT-B/16": "openai/clip-vit-base-patch16",
}
