"""Export a finished run to a file or folder that others can use."""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from torch import Tensor

from dassl.config.comparing import number_values
from dassl.data.datum import Task
from dassl.engine.tasks import told_of
from dassl.inference.adapter import Adapter, scoring, write_adapter
from dassl.inference.card import model_card
from dassl.inference.classifier import EXPORTED_FILE, Classifier
from dassl.inference.exported import MULTI, Exported, preprocessing, schema_of, write_exported
from dassl.results.record import read_results
from dassl.utils.errors import UserError
from dassl.utils.files import atomic_path, write_json, write_text
from dassl.utils.privacy import without_home

_RECORD = ("split", "metric", "tasks")
_TRAINED = ("trainer", "dataset", "shots", "seed", "subset_digest", "test_digest", "config_digest", "classes")


def exported_content(classifier: Classifier) -> Exported:
    """The content of a run's exported file.

    Raises:
        UserError: the method has no table of classes.
    """
    return Exported(classifier.trainer.head(), _about(classifier))


def adapter_content(classifier: Classifier) -> Adapter:
    """The content of the adapter file of a run that tunes the image tower."""
    about = _about(classifier)
    known = zip(about["tasks"], map(told_of, classifier.tasks), strict=True)
    tasks = [{**own, **{k: v for k, v in told.items() if k not in ("classnames", "multi")}} for own, told in known]
    return Adapter(_learned(classifier), {**about, "tasks": tasks})


def _about(classifier: Classifier) -> dict[str, Any]:
    """The metadata of an export, by key."""
    trainer, result = classifier.trainer, asdict(read_results(classifier.folder))
    name, tag = trainer.open_clip_name()
    tasks = [{key: value for key, value in each.items() if key != "per_class"} for each in result["tasks"]]
    backbone, config = _without_homes(result["backbone"]), _without_homes(number_values(trainer.cfg))
    return {
        "tasks": [_task(task, classifier.thresholds.get(number)) for number, task in enumerate(classifier.tasks)],
        "temperature": list(classifier.temperatures),
        "backbone": {**backbone, "open_clip_name": name, "open_clip_tag": tag},
        "preprocess_cfg": preprocessing(classifier.input),
        "reading": asdict(classifier.reading),
        "training": {key: result[key] for key in _TRAINED},
        "results": {**{key: result[key] for key in _RECORD}, "tasks": tasks},
        "config": {key: each for key, each in config.items() if key not in ("MODEL.INIT_WEIGHTS", "RESUME")},
    }


def _task(task: Task, threshold: float | None) -> dict[str, Any]:
    more = {} if threshold is None else {"type": MULTI, "threshold": threshold}
    return {"name": task.name, "classes": list(task.classnames), **more}


def _without_homes(values: Mapping[str, Any]) -> dict[str, Any]:
    return {key: without_home(value) if isinstance(value, str) else value for key, value in values.items()}


def export_file(classifier: Classifier, path: Path) -> None:
    """Write one safetensors file: a table of classes, or an adapter if the method tunes the image tower."""
    if classifier.trainer.tunes_images:
        write_adapter(path, adapter_content(classifier))
    else:
        write_exported(path, exported_content(classifier))


def export_folder(classifier: Classifier, folder: Path, *, license_id: str = "") -> None:
    """Write a folder in the layout of the Hub, the model card last.

    Args:
        license_id: the Hub's identifier of the licence that the card names; "" if none was given.

    Raises:
        UserError: the folder has files already, or the method has no table of classes or tunes the image tower.
    """
    if classifier.trainer.tunes_images:
        raise UserError(
            f"{classifier.trainer.cfg.TRAINER.NAME} tunes the image tower, so no table on the frozen one gives its "
            "answers; write an adapter file with -o FILE.safetensors"
        )
    if folder.is_dir() and any(folder.iterdir()):
        raise UserError(f"{folder} is not empty; choose another folder, or empty it")
    content = exported_content(classifier)
    write_exported(folder / EXPORTED_FILE, content)
    learned = _learned(classifier)
    if learned:
        with atomic_path(folder / "model.safetensors") as temporary:
            save_file(learned, temporary, {"format": "pt"})
    about = {key: content.about[key] for key in ("tasks", "temperature", "backbone", "preprocess_cfg", "training")}
    write_json(
        folder / "config.json", {"schema": schema_of(content.about["tasks"]), "head": content.head.kind, **about}
    )
    write_text(folder / "README.md", model_card(content, license_id))


def _learned(classifier: Classifier) -> dict[str, Tensor]:
    """The learned tensors as {module.key: tensor}."""
    modules = scoring(classifier.trainer.modules)
    return {
        f"{name}.{key}": value.detach().cpu().contiguous().clone()
        for name, module in modules.items()
        for key, value in module.state_dict().items()
    }
