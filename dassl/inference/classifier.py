"""A finished run as a classifier; it needs the run folder and the frozen backbone, but not the run's data."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from yacs.config import CfgNode

from dassl.config import flatten, get_cfg_default, merge_cfg
from dassl.data.dataset import DATASET_REGISTRY
from dassl.data.datum import MULTI_METRICS, Task
from dassl.data.images import Reading, as_read, read_image, reading_of
from dassl.data.names_only import NamesOnly
from dassl.data.transforms import Transform, build_transform, settle_input
from dassl.engine.decisions import stored_decisions
from dassl.engine.determinism import arithmetic
from dassl.engine.head import place_cosines
from dassl.engine.runfolder import RunFolder
from dassl.engine.tasks import read_tasks
from dassl.engine.trainer import TrainerX
from dassl.engine.transfer import check_weights
from dassl.inference.adapter import Adapter, is_adapter, read_adapter
from dassl.inference.exported import Exported, is_multi, preprocessing, read_exported
from dassl.inference.temperatures import temperatures
from dassl.metrics.multilabel import FIXED_THRESHOLD
from dassl.registries import TRAINER_REGISTRY
from dassl.results.record import RESULTS_FILE
from dassl.utils.errors import UserError
from dassl.utils.registry import nearest

Picture: TypeAlias = str | Path | Image.Image | np.ndarray
BATCH = 64
EXPORTED_FILE = "classifier.safetensors"
BACKBONE_ENDINGS = (".pt", ".pth", ".safetensors")


@dataclass(frozen=True)
class ClassScore:
    """A class and its probability among the classes of its task, from 0 to 1."""

    name: str
    probability: float


@dataclass(frozen=True)
class PlaceMap:
    """A heat map of the best class: its file, and the cosines from which to which its colours reach."""

    file: str
    least: float
    largest: float


@dataclass(frozen=True)
class Prediction:
    """The answer for an image and a task.

    Attributes:
        image: its path; "" for an image without one.
        task: name of the task.
        classes: the most probable classes, best first; of a multi-label task all predicted ones are among them.
        map: where in the image the best class is; None: no map was drawn.
        threshold: of a multi-label task, the probability from which a class is predicted; None: the image has one
            class.
    """

    image: str
    task: str
    classes: tuple[ClassScore, ...]
    map: PlaceMap | None = None
    threshold: float | None = None

    @property
    def labels(self) -> tuple[ClassScore, ...]:
        """The predicted classes of a multi-label task, best first; maybe none."""
        least = self.threshold if self.threshold is not None else 2.0
        return tuple(each for each in self.classes if each.probability >= least)

    @property
    def best(self) -> ClassScore:
        """The most probable class."""
        return self.classes[0]


class Classifier:
    """A trained classifier of a run's tasks, made by :func:`load_classifier`.

    Attributes:
        tasks: the T tasks with their class names.
        reading: how files are decoded, as in the run's test.
        transform: from a decoded image to the (3, H, W) tensor that the backbone reads, as in the run's test.
        temperatures: the divisor of each task's logits; 1 if none was fitted (TEST.CALIBRATE).
        thresholds: the probability from which a class of a multi-label task is predicted, by task.
    """

    def __init__(
        self, folder: Path, trainer: TrainerX, reading: Reading, transform: Transform, adapter: Adapter | None = None
    ) -> None:
        self.folder, self.reading, self.transform, self._trainer = folder, reading, transform, trainer
        self._adapter = adapter
        if adapter is None:
            self._take_fitted(folder, trainer)
        else:
            self.temperatures, self.thresholds = list(adapter.about["temperature"]), adapter.thresholds
        trainer.set_model_mode("eval")
        with torch.no_grad(), arithmetic(trainer.cfg):
            trainer.before_test()

    def _take_fitted(self, folder: Path, trainer: TrainerX) -> None:
        """Take temperatures, thresholds and biases from a run folder."""
        self.temperatures = temperatures(folder, trainer)
        decisions = stored_decisions(RunFolder(folder), trainer.dm.tasks)
        self.thresholds = {
            number: decisions[number].threshold if number in decisions else FIXED_THRESHOLD
            for number, task in enumerate(trainer.dm.tasks)
            if task.multi
        }
        trainer.put_biases({n: each.bias for n, each in decisions.items() if each.bias is not None})

    @property
    def trainer(self) -> TrainerX:
        """The trainer that has loaded the run."""
        return self._trainer

    @property
    def input(self) -> CfgNode:
        """The node INPUT of the config, completed by the backbone's defaults."""
        return settle_input(self._trainer.cfg, self._trainer.image_facts()).INPUT

    @property
    def tasks(self) -> list[Task]:
        """The tasks, ordered by number."""
        return list(self._trainer.dm.tasks)

    def task_number(self, task: str | int) -> int:
        """Number of a task, given by name or number.

        Raises:
            UserError: there is no such task.
        """
        names = [each.name for each in self.tasks]
        if isinstance(task, str) and task in names:
            return names.index(task)
        if str(task).isdecimal() and int(task) < len(names):
            return int(task)
        close = nearest(str(task), names) or [f"{number} ({name})" for number, name in enumerate(names)]
        raise UserError(f"there is no task {task!r} in {self.folder}; did you mean {' or '.join(close)}?")

    @torch.no_grad()
    def logits(self, images: Tensor, tasks: Sequence[int] | None = None) -> dict[int, Tensor]:
        """Scores of transformed images, before the temperature; shapes and arguments as :meth:`probabilities`."""
        dm, count = self._trainer.dm, len(images)
        wanted = list(range(len(dm.tasks))) if tasks is None else list(tasks)
        row, task = torch.arange(count).repeat(len(wanted)), torch.tensor(wanted).repeat_interleave(count)
        batch: dict[str, Any] = {"row": row, "task": task, "label": torch.zeros_like(task)}
        with arithmetic(self._trainer.cfg):
            batch |= {"feat": self._trainer.encode_images(images), "index": torch.arange(count), "impath": [""] * count}
            logits = self._trainer.model_inference(batch).float().cpu()
        bounds = dm.offsets.tolist()
        return {each: logits[:, bounds[each] : bounds[each + 1]] for each in wanted}

    def probabilities(self, images: Tensor, tasks: Sequence[int] | None = None) -> dict[int, Tensor]:
        """Probabilities of transformed images: (B, 3, H, W) -> {task number: (B, C_t) float32 on the CPU}.

        Those of a multi-label task do not add up to 1.

        Args:
            tasks: numbers of the tasks; all by default.
        """
        return {task: self._chances(task, logits).float() for task, logits in self.logits(images, tasks).items()}

    def _chances(self, task: int, logits: Tensor) -> Tensor:
        if task in self.thresholds:
            return logits.double().sigmoid()
        return (logits / self.temperatures[task]).softmax(dim=1)

    def predict(
        self, images: Picture | Sequence[Picture], task: str | int | None = None, top_k: int = 5
    ) -> list[Prediction]:
        """Classify images.

        Args:
            images: one or several paths, PIL images, or 8-bit arrays (H, W, 3) or (H, W).
            task: name or number of a task; all by default.
            top_k: number of classes to name for each image and task.

        Returns:
            One answer for each image and task: all tasks of the first image, then those of the second.

        Raises:
            UserError: an image cannot be read, or there is no such task.
        """
        several = [images] if isinstance(images, str | Path | Image.Image | np.ndarray) else list(images)
        numbers = None if task is None else [self.task_number(task)]
        found: list[Prediction] = []
        for start in range(0, len(several), BATCH):
            part = several[start : start + BATCH]
            tensors = torch.stack([self.transform(_decoded(each, self.reading)) for each in part])
            found += self.answers([_name(each) for each in part], tensors, numbers, top_k=top_k)
        return found

    def answers(
        self,
        names: Sequence[str],
        images: Tensor,
        tasks: Sequence[int] | None = None,
        *,
        top_k: int = 5,
        threshold: float | None = None,
    ) -> list[Prediction]:
        """The answers for transformed images (B, 3, H, W) with the given names; see :meth:`predict`.

        Args:
            threshold: replaces that of multi-label tasks.
        """
        known, best = self.tasks, []
        for task, logits in self.logits(images, tasks).items():
            least = None if task not in self.thresholds else threshold or self.thresholds[task]
            names_of, most = known[task].classnames, top_k if least is None else logits.shape[1]
            best.append((known[task].name, least, _best(names_of, logits, self._chances(task, logits), most)))
        return [
            Prediction(name, task, rows[place][: max(top_k, _predicted(rows[place], least))], threshold=least)
            for place, name in enumerate(names)
            for task, least, rows in best
        ]

    @torch.no_grad()
    def place_cosines(self, images: Tensor, labels: Mapping[int, Tensor]) -> dict[int, Tensor]:
        """Cosines of the places of transformed images with one class of each: {number of the task: (B, h, w)}.

        Args:
            images: (B, 3, H, W).
            labels: (B,) classes inside the task, by its number.

        Raises:
            UserError: the backbone has no features of places, or the method none of classes.
        """
        trainer = self._trainer
        with arithmetic(trainer.cfg):
            local = trainer.local_features(images)
            return {task: _grid(trainer.place_cosines(local, task, label)) for task, label in labels.items()}

    def class_features(self, task: str | int) -> Tensor:
        """Normalised class features (C_t, F) of a task, float32 on the CPU.

        Raises:
            UserError: the method does not have one vector per class.
        """
        number = self.task_number(task)
        features = getattr(self._trainer, "_class_features", None)
        if features is None or features.dim() != 2:
            raise UserError(f"{self._trainer.cfg.TRAINER.NAME} does not score images with one vector per class")
        start, stop = self._trainer.dm.offsets[number : number + 2].tolist()
        return torch.nn.functional.normalize(features[start:stop].float(), dim=-1).cpu()

    def with_classes(self, classes: Mapping[str | int, Sequence[str]]) -> "Classifier":
        """A classifier with the same learned context and other class names.

        Args:
            classes: new class names by name or number of their task; other tasks keep theirs.

        Raises:
            UserError: the learned vectors belong to single classes, or a list is empty or has duplicates.
        """
        cfg = self._trainer.cfg
        for unit, cause in type(self._trainer).learned_for(cfg).items():
            if unit == "class":
                raise UserError(f"{cause} learns something for each class, so it has nothing for new classes")
        tasks = self.tasks
        for key, names in classes.items():
            number = self.task_number(key)
            tasks[number] = replace(tasks[number], classnames=_checked(names, tasks[number].name))
        trainer = _trainer(self.folder, cfg, tasks, self._adapter)
        found = Classifier(self.folder, trainer, self.reading, self.transform, self._adapter)
        # A temperature, and a threshold, fits only the class names that it was fitted with.
        pairs = zip(found.tasks, self.tasks, self.temperatures, strict=True)
        found.temperatures = [value if mine.classnames == own.classnames else 1.0 for mine, own, value in pairs]
        same = [mine.classnames == own.classnames for mine, own in zip(found.tasks, self.tasks, strict=True)]
        found.thresholds = {n: each if same[n] else FIXED_THRESHOLD for n, each in self.thresholds.items()}
        return found


def load_classifier(run: Path | str, *, device: str = "", weights: str = "") -> Classifier:
    """Load the classifier of a finished run.

    Args:
        run: its folder, an exported file or folder, or an adapter file. No image, data folder or split file is needed.
        device: "cpu" or "cuda"; by default a GPU if there is one.
        weights: file or folder of the backbone's weights, if they are not where the run had them.

    Raises:
        UserError: the folder is not a finished run, or the backbone is not the one that the run used.
    """
    folder = Path(run).expanduser()
    exported = folder / EXPORTED_FILE if (folder / EXPORTED_FILE).is_file() else folder
    if exported.is_file():
        read = _adapted if is_adapter(exported) else _exported
        return read(exported, device=device, weights=weights)
    if not folder.is_dir():
        raise UserError(f"{folder} is not a folder; give the folder of a finished run, or an exported file")
    if not RunFolder(folder).has_result():
        raise UserError(f"{folder} holds no finished run: there is no {RESULTS_FILE}; finish it, or give a run folder")
    cfg = _config(folder, device=device, weights=weights)
    trainer = _trainer(folder, cfg, read_tasks(folder))
    settled, reduction = settle_input(cfg, trainer.image_facts()), RunFolder(folder).result().reduction
    reading = reading_of(settled, as_seen=DATASET_REGISTRY.get(cfg.DATASET.NAME).as_seen)
    # As in the run's test: an older version kept every pixel whatever the config says.
    reading = replace(reading, shortest=reduction.side if reduction else 0)
    return Classifier(folder, trainer, reading, build_transform(settled, False))


class ExportedClassifier(Classifier):
    """The head of an exported file on the image tower of the frozen backbone."""

    def __init__(self, path: Path, content: Exported, cfg: CfgNode) -> None:
        self.folder, self._content, self._cfg = path, content, cfg
        self.temperatures = content.about["temperature"]
        told = enumerate(content.about["tasks"])
        self.thresholds = {number: each["threshold"] for number, each in told if is_multi(each)}
        trainer, self._device = TRAINER_REGISTRY.get(cfg.TRAINER.NAME), torch.device("cpu")
        if "image" in trainer.tunes:
            raise UserError(f"{path} has a table, but {trainer.__name__} tunes the image tower; export the run again")
        if cfg.USE_CUDA and torch.cuda.is_available():
            self._device = torch.device("cuda")
        with arithmetic(cfg):
            self._tower, facts = trainer.image_tower(cfg, self._device)
        _check_digest(path, content.about, self._tower.name, self._tower.digest)
        width = content.head.weight.shape[1]
        if width != self._tower.embed_dim:
            raise UserError(f"{path} has features of width {width}, but {self._tower.name} {self._tower.embed_dim}")
        self.reading = Reading(**content.about["reading"])
        self._settled = _settled(path, cfg, facts, content.about["preprocess_cfg"])
        self.transform = build_transform(self._settled, False)

    @property
    def tasks(self) -> list[Task]:
        """The tasks, ordered by number."""
        return [_task(each) for each in self._content.about["tasks"]]

    @torch.no_grad()
    def logits(self, images: Tensor, tasks: Sequence[int] | None = None) -> dict[int, Tensor]:
        """See :meth:`Classifier.logits`."""
        wanted = range(len(self.tasks)) if tasks is None else tasks
        with arithmetic(self._cfg):
            features = self._tower.encode_image(images.to(self._device)).float().cpu()
            return {each: self._content.scores(features, each) for each in wanted}

    @property
    def input(self) -> CfgNode:
        """As :attr:`Classifier.input`."""
        return self._settled.INPUT

    @torch.no_grad()
    def place_cosines(self, images: Tensor, labels: Mapping[int, Tensor]) -> dict[int, Tensor]:
        """As :meth:`Classifier.place_cosines`."""
        name, content = self._cfg.TRAINER.NAME, self._content
        with arithmetic(self._cfg):
            places = TRAINER_REGISTRY.get(name).encode_places(self._tower, images.to(self._device))[:, 1:].cpu()
            columns = {task: label + content.offsets[task] for task, label in labels.items()}
            found = {t: place_cosines(places, content.head, column, t, method=name) for t, column in columns.items()}
        return {task: _grid(cosines) for task, cosines in found.items()}

    def class_features(self, task: str | int) -> Tensor:
        """See :meth:`Classifier.class_features`."""
        number = self.task_number(task)
        if self._content.head.kind != "cosine":
            raise UserError(f"{self.folder} holds weights and biases, not one normalised vector per class")
        return self._content.rows(number)

    def with_classes(self, classes: Mapping[str | int, Sequence[str]]) -> Classifier:
        """Always refused (UserError), because the file has no text encoder."""
        raise UserError(
            f"{self.folder} holds class features and no text encoder, so it cannot take other class names; use the run "
            "folder"
        )


def _check_digest(path: Path, about: Mapping[str, Any], name: str, here: str) -> None:
    """Refuse other weights than the file was made with (raise UserError)."""
    there = about["backbone"]["digest"]
    if there != here:
        raise UserError(
            f"{path} needs other weights of {name} (digest {there[:12]} in the file, {here[:12]} here); name them with "
            "--weights"
        )


def _settled(path: Path, cfg: CfgNode, facts: Mapping[str, Any], told: Mapping[str, Any]) -> CfgNode:
    """The config with the backbone's preprocessing, which must be what the file tells (else UserError)."""
    settled = settle_input(cfg, facts)
    wrong = [key for key, value in preprocessing(settled.INPUT).items() if told.get(key) != value]
    if wrong or tuple(settled.INPUT.SIZE) != facts["SIZE"]:
        what = f"{', '.join(wrong)} of preprocess_cfg" if wrong else f"INPUT.SIZE {tuple(settled.INPUT.SIZE)}"
        raise UserError(f"{path} contradicts itself: {what} differs from its config; export the run again")
    return settled


def _adapted(path: Path, *, device: str, weights: str) -> Classifier:
    """The classifier of an adapter file."""
    adapter = read_adapter(path)
    values = {**adapter.about["config"], "MODEL.INIT_WEIGHTS": "", "RESUME": "", "OUTPUT_DIR": str(path.parent)}
    cfg = _here(values, str(path), device=device, weights=weights)
    trainer = _trainer(path, cfg, adapter.tasks, adapter)
    settled = _settled(path, cfg, trainer.image_facts(), adapter.about["preprocess_cfg"])
    return Classifier(path, trainer, Reading(**adapter.about["reading"]), build_transform(settled, False), adapter)


def _task(told: Mapping[str, Any]) -> Task:
    """A task of an exported file."""
    metric = MULTI_METRICS[0] if is_multi(told) else Task.metric
    return Task(told["name"], tuple(told["classes"]), metric, multi=is_multi(told))


def _grid(cosines: Tensor) -> Tensor:
    """Cosines (B, P) of the places of square images as (B, h, w)."""
    side = math.isqrt(cosines.shape[1])
    return cosines.unflatten(1, (side, side))


def _exported(path: Path, *, device: str, weights: str) -> ExportedClassifier:
    content = read_exported(path)
    cfg = _here(content.about["config"], str(path), device=device, weights=weights)
    return ExportedClassifier(path, content, cfg)


def _predicted(classes: Sequence[ClassScore], threshold: float | None) -> int:
    """Number of predicted classes of a multi-label task; 0 for other tasks."""
    return 0 if threshold is None else sum(each.probability >= threshold for each in classes)


def _best(names: Sequence[str], logits: Tensor, values: Tensor, top_k: int) -> list[tuple[ClassScore, ...]]:
    """The most probable classes of each image.

    Args:
        logits: (B, C_t), for the order.
        values: (B, C_t), the probabilities.
    """
    order = logits.argsort(dim=1, descending=True, stable=True)[:, :top_k]
    rows = zip(order.tolist(), values.gather(1, order).tolist(), strict=True)
    return [tuple(ClassScore(names[place], value) for place, value in zip(*row, strict=True)) for row in rows]


def _config(folder: Path, *, device: str, weights: str) -> CfgNode:
    """The config of a run, adapted to this machine."""
    run = RunFolder(folder)
    stored = run.config()
    if stored is None:
        raise UserError(f"{folder} has no readable config.yaml; give the folder of a finished run")
    run.check_config(stored)
    own = {"MODEL.INIT_WEIGHTS": "", "RESUME": "", "OUTPUT_DIR": str(folder)}
    return _here({**flatten(stored), **own}, str(folder / "config.yaml"), device=device, weights=weights)


def _here(values: Mapping[str, Any], place: str, *, device: str, weights: str) -> CfgNode:
    """A config with these values, adapted to this machine."""
    cfg, own = get_cfg_default(), {}
    # Other weights may read another size; their digest is refused, not their size.
    merge_cfg(cfg, values={**values, "INPUT.SIZE": ()} if weights else values, place=place)
    if device == "cuda" and not torch.cuda.is_available():
        raise UserError("device 'cuda': this machine has no GPU that torch can use; choose cpu")
    if device:
        own["USE_CUDA"] = str(device == "cuda")
    if weights and Path(cfg.MODEL.BACKBONE.NAME).suffix in BACKBONE_ENDINGS:
        own["MODEL.BACKBONE.NAME"] = weights  # a backbone that is named by its file
    elif weights:
        own["MODEL.BACKBONE.WEIGHTS"] = weights
    merge_cfg(cfg, values=own)
    cfg.freeze()
    return cfg


def _trainer(folder: Path, cfg: CfgNode, tasks: Sequence[Task], adapter: Adapter | None = None) -> TrainerX:
    """The trainer with what was learned: that of a run folder, or of an adapter file at ``folder``."""
    with arithmetic(cfg):
        trainer = TRAINER_REGISTRY.get(cfg.TRAINER.NAME)(cfg, NamesOnly(tasks))
        if adapter is not None:
            _check_digest(folder, adapter.about, *trainer.backbone_identity()[:2])
            adapter.load_into(trainer.modules, folder)
            return trainer
        check_weights(trainer, RunFolder(folder))
        if trainer.trainable and trainer.modules:
            trainer.checkpoints.load(folder, epoch=_tested_epoch(folder))
    return trainer


def _tested_epoch(folder: Path) -> int | None:
    """The epoch that an evaluation used; None: the one that training ended with."""
    result = RunFolder(folder).result()
    return result.best_epoch if result.mode == "eval" else None


def _checked(names: Sequence[str], task: str) -> tuple[str, ...]:
    own = tuple(name.strip() for name in names)
    if not own or not all(own):
        raise UserError(f"task {task!r}: the list of classes is empty or has an empty name; give names with commas")
    for name in own:
        if own.count(name) > 1:
            raise UserError(f"task {task!r}: the class {name!r} is in the list twice; give each once")
    return own


def _decoded(picture: Picture, reading: Reading) -> Image.Image:
    if isinstance(picture, str | Path):
        return read_image(picture, reading)
    if isinstance(picture, np.ndarray):
        if picture.dtype != np.uint8:
            raise UserError(f"an array of {picture.dtype} is not a picture; give 8 bits a channel, (H, W, 3) or (H, W)")
        picture = Image.fromarray(picture)
    return as_read(picture, reading)


def _name(picture: Picture) -> str:
    return str(picture) if isinstance(picture, str | Path) else ""
