"""``results.json``: the record of a finished run, from which all tables are made."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import UnionType
from typing import Any, Literal, get_args, get_origin

from dassl.results.suites import LearnedOn
from dassl.utils.digests import ChangedError
from dassl.utils.errors import UserError
from dassl.utils.files import read_json, write_json

RESULTS_FILE = "results.json"
CONFIG_FILE = "config.yaml"
EVALUATION = "-eval"  # see evaluation_file
FORMAT: Literal[1] = 1
# Keys about places and display; they change no figure, and config_digest leaves them out.
PLACES = {
    *(
        "TRAINER.LABEL",
        "DATASET.TITLE",
        "OUTPUT_DIR",
        "RESUME",
        "VERBOSE",
        "USE_CUDA",
        "DATASET.ROOT",
        "DATASET.CACHE_DIR",
        "DATASET.REDUCED_GIB",
        "DATASET.CHECK_IMAGES",
    ),
    *("DATALOADER.NUM_WORKERS", "DATALOADER.FEATURES", "DATALOADER.FEATURES_DIR", "DATALOADER.TEST.BATCH_SIZE"),
    *("MODEL.BACKBONE.WEIGHTS", "MODEL.TEXT_CHUNK", "MODEL.IMAGE_CHECKPOINT"),
    *("TRAIN.PRINT_FREQ", "TRAIN.CHECKPOINT_FREQ", "TRAIN.LOGGERS"),
    *("TRAINER.PUBLISHED_SETTINGS", "TRAINER.PUBLISHED_KEYS"),  # the keys they set count instead
    *("TEST.PER_CLASS_RESULT", "TEST.PER_TASK_RESULT", "TEST.COMPUTE_CMAT"),
}
# Those among them that affect rounding, and so the last digits. A deterministic run counts them.
ROUNDING_KEYS = {"MODEL.TEXT_CHUNK", "DATALOADER.TEST.BATCH_SIZE"}
DETERMINISTIC = "TRAIN.DETERMINISTIC"
# Keys of earlier versions and of the original that no shipped method used, with the only value that is still accepted.
RETIRED_KEYS: dict[str, Any] = {
    "INPUT.CROP_PADDING": 4,
    "INPUT.CUTOUT_N": 1,
    "INPUT.CUTOUT_LEN": 16,
    "INPUT.GN_MEAN": 0.0,
    "INPUT.GN_STD": 0.15,
    "INPUT.RANDAUGMENT_N": 2,
    "INPUT.RANDAUGMENT_M": 10,
    "INPUT.COLORJITTER_B": 0.4,
    "INPUT.COLORJITTER_C": 0.4,
    "INPUT.COLORJITTER_S": 0.4,
    "INPUT.COLORJITTER_H": 0.1,
    "INPUT.RGS_P": 0.2,
    "INPUT.GB_P": 0.5,
    "INPUT.GB_K": 21,
    "OPTIM.STAGED_LR": False,
    "OPTIM.NEW_LAYERS": (),
    "OPTIM.BASE_LR_MULT": 0.1,
}
# Larger than any figure of a run and within the range of a float, so that a huge JSON integer converts safely.
_LARGEST = 1e300


@dataclass(frozen=True)
class ClassResult:
    """Evaluation of one class: its images, and how many of them were classified correctly.

    Attributes:
        average_precision: of a class of a multi-label task, in percent; None where no image has it.
    """

    name: str
    correct: int
    total: int
    average_precision: float | None = None


@dataclass(frozen=True)
class Decision:
    """How labels of a multi-label task are predicted.

    Attributes:
        threshold: labels with at least this probability are.
        images: validation images that it was chosen on; 0: it is fixed.
        bias: what a method that learns nothing subtracts from logits; None for other methods.
    """

    threshold: float
    images: int = 0
    bias: float | None = None


@dataclass(frozen=True)
class TaskResult:
    """Evaluation of one task.

    The last four are empty where an older version wrote the result; :mod:`dassl.metrics.quality` defines them.

    Attributes:
        metric: percent, or None when it cannot be computed (no images).
        metric_name: how it is counted: "overall_acc", "mean_acc", or "mAP" of a multi-label task.
        total: images of the task.
        classes: classes of the task.
        absent_classes: names of the classes without an image; the mean leaves them out.
        per_class: each class in the order of their labels, those without an image too.
        macro_f1: mean of the F1 of the classes that have images, in percent.
        nll: negative log-likelihood in nats; None where it is infinite.
        ece: expected calibration error in percent.
        micro_f1: of a multi-label task, F1 of all labels together in percent.
        decision: of a multi-label task; then ``correct`` of a class counts those of its images of which it is
            predicted.
    """

    index: int
    name: str
    metric: float | None
    metric_name: str
    total: int
    classes: int
    absent_classes: tuple[str, ...] = ()
    per_class: tuple[ClassResult, ...] = ()
    macro_f1: float | None = None
    nll: float | None = None
    ece: float | None = None
    micro_f1: float | None = None
    decision: Decision | None = None

    @property
    def mean_acc(self) -> float | None:
        """Mean over the classes that have images of their share of hits, in percent; None without ``per_class``."""
        shares = [100.0 * each.correct / each.total for each in self.per_class if each.total]
        return sum(shares) / len(shares) if shares else None


@dataclass(frozen=True)
class PredictionsFile:
    """The file of predictions that belongs to a result: its name, its SHA-256 and its rows (images times tasks)."""

    file: str
    sha256: str
    rows: int


@dataclass(frozen=True)
class Reliability:
    """Calibration error in percent and negative log-likelihood in nats before and after a calibration."""

    ece_before: float | None
    nll_before: float | None
    ece_after: float | None
    nll_after: float | None


@dataclass(frozen=True)
class TaskCalibration:
    """The calibration of one task.

    Attributes:
        temperature: the logits are divided by it; 1 where none was fitted.
        fitted: whether there was enough to fit to; else a warning says what was missing.
        images: validation images that it was fitted on, none of them a test image.
        test, val: what it did to the tested split, and to those validation images.
    """

    index: int
    name: str
    temperature: float
    fitted: bool
    images: int
    test: Reliability | None = None
    val: Reliability | None = None


@dataclass(frozen=True)
class Calibration:
    """The calibration of a run: the SHA-256 of the learned tensors that it belongs to, and its tasks."""

    learned: str
    tasks: tuple[TaskCalibration, ...]


@dataclass(frozen=True)
class SplitResult:
    """Evaluation of one split: the mean over its tasks in percent (None: no task has a figure) and the tasks."""

    metric: float | None
    tasks: tuple[TaskResult, ...]


@dataclass(frozen=True)
class BackboneInfo:
    """The frozen model: its name, the SHA-256 of its weights and the precision of its encoders."""

    name: str
    digest: str
    precision: str


@dataclass(frozen=True)
class Reduction:
    """How large images were read (INPUT.RESOLUTION reduced).

    Attributes:
        side: pixels of the shorter side to which they were reduced.
        images: how many images of the run were; None: not counted (DATASET.CHECK_IMAGES False).
    """

    side: int
    images: int | None


@dataclass(frozen=True)
class Rounding:
    """What the last digits of a run depend on, besides the machine and the versions.

    Attributes:
        deterministic: TRAIN.DETERMINISTIC.
        threads: of torch on the CPU.
        text_chunk: smallest chunk of prompts, set by MODEL.TEXT_CHUNK or by the memory; 0: no encoding was cut into
            chunks.
    """

    deterministic: bool
    threads: int
    text_chunk: int


@dataclass(frozen=True)
class ModelChoice:
    """Which model of a training was tested, "last_step" or "best_val", and why."""

    model: Literal["last_step", "best_val"]
    reason: str


@dataclass(frozen=True)
class TrainingLength:
    """The length of a training by steps of an optimiser.

    Attributes:
        steps: training batches up to the last epoch.
        batches: of an epoch.
        least_steps: OPTIM.MIN_STEPS; 0: not set.
        epochs_asked: OPTIM.MAX_EPOCH.
        epochs_planned: the larger one of ``epochs_asked`` and the epochs that ``least_steps`` needs.
    """

    steps: int
    batches: int
    least_steps: int
    epochs_asked: int
    epochs_planned: int


@dataclass(frozen=True)
class RunResult:
    """A finished run.

    Attributes:
        mode: "train", or "eval" for a run that only evaluated.
        shots: training images per class; -1: all of them.
        split: the split of ``metric`` and ``tasks``, usually "test".
        metric: unweighted mean over the tasks in percent; None when no task has a figure.
        macro_f1, nll, ece: likewise; None when a task with images has none.
        predictions: what the model answered for each image; None where an older version, or no test, was run.
        predicted_labels: likewise, for the classes of multi-label tasks; None: there is none.
        calibration: temperatures, with TEST.CALIBRATE; then ``nll`` and ``ece`` are those of calibrated probabilities.
        val: the validation split, where the run evaluated it.
        epochs: epochs trained; best_epoch: the one that was kept or, for an evaluation, asked for; None for the
            last.
        length: of the training; None for an evaluation, a fit, or from an older version.
        choice: of the tested model; None for an evaluation or from an older version.
        parameters: trainable parameters.
        counts: images of "train", "val" and "test".
        classes, task_choice: which classes and tasks took part, as DATASET.SUBSAMPLE_CLASSES and SUBSAMPLE_TASKS.
        subset_digest, test_digest: digests of the few-shot images and the test images before the choice of tasks and
            classes; "" from an older version.
        learned_on: of an evaluation, the suite that the model learned, if it is another one; else None.
        text_digest: of the class features that the run took from another one (TRAINER.GDA.TEXT_FROM).
        seconds: wall time of "train" (all sessions of an interrupted run), of "test", of "encode" (features
            missing from the store, in neither of the two) and "total", which is the training of all sessions and
            everything else in the last one.
        memory: peak memory in MiB, of the process as "host_mib" and on the GPU as "device_mib" (0 without one).
        rounding: what the last digits depend on; None from an older version.
        reduction: how large images were read; None: with every pixel.
        warnings: every warning of the log, one sentence each, for readers of the figures.
    """

    mode: Literal["train", "eval"]
    trainer: str
    dataset: str
    backbone: BackboneInfo
    shots: int
    seed: int
    split: str
    metric: float | None
    tasks: tuple[TaskResult, ...]
    val: SplitResult | None = None
    epochs: int = 0
    best_epoch: int | None = None
    parameters: int = 0
    counts: dict[str, int] = field(default_factory=dict)
    classes: str = "all"
    task_choice: str = "all"
    subset_digest: str = ""
    test_digest: str = ""
    config_digest: str = ""
    seconds: dict[str, float] = field(default_factory=dict)
    memory: dict[str, float] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    device: str = ""
    rounding: Rounding | None = None
    reduction: Reduction | None = None
    warnings: tuple[str, ...] = ()
    macro_f1: float | None = None
    nll: float | None = None
    ece: float | None = None
    predictions: PredictionsFile | None = None
    predicted_labels: PredictionsFile | None = None
    calibration: Calibration | None = None
    length: TrainingLength | None = None
    text_digest: str = ""
    choice: ModelChoice | None = None
    learned_on: LearnedOn | None = None
    format: Literal[1] = FORMAT

    def to_json(self) -> dict[str, Any]:
        """The plain dictionary that is written, the format number first."""
        return {"format": self.format, **dataclasses.asdict(self)}

    @classmethod
    def from_json(cls, value: Any, source: Path | str = RESULTS_FILE) -> "RunResult":
        """Check ``value`` and build the result; fields that this version does not know are ignored.

        Raises:
            UserError: it is not a result of a run; the message names ``source`` and the field.
        """
        if not isinstance(value, dict) or "format" not in value:
            raise UserError(f"{source} is not the result of a run: field 'format' is missing")
        if value["format"] != FORMAT:
            raise UserError(
                f"{source}: field 'format' is {_show(value['format'])}, this version reads {FORMAT}; "
                "read it with the version that wrote it"
            )
        try:
            return _decode(cls, value, "")
        except ValueError as error:
            raise UserError(f"{source}: {error}; delete the file and run again to make it") from error


def idle_keys(config: Mapping[str, Any]) -> set[str]:
    """The keys that change no figure of a run with this config, by dotted key."""
    return PLACES - ROUNDING_KEYS if config.get(DETERMINISTIC) else PLACES


def evaluation_file(name: str) -> str:
    """Name of the file ``name`` that an evaluation writes into the folder of a training run: "config-eval.yaml"."""
    path = Path(name)
    return f"{path.stem}{EVALUATION}{path.suffix}"


def write_results(folder: Path | str, result: RunResult, name: str = RESULTS_FILE) -> Path:
    """Write ``result`` into ``folder`` and return the file's path; its existence means that the run is finished.

    A metric that is not a number is written as null, and a warning in the file says so.

    Raises:
        UserError: the folder cannot be written.
    """
    path = Path(folder) / name
    write_json(path, _without_nan(result).to_json(), signed=True)
    return path


def read_results(folder: Path | str, *, name: str = RESULTS_FILE) -> RunResult:
    """Read the result of the run in ``folder``, from the file ``name``.

    Raises:
        ChangedError: it is not what the run wrote.
        UserError: the file is missing, damaged or not a result; the message names the file and the field.
    """
    path = Path(folder) / name
    try:
        value = read_json(path)
    except ChangedError as error:
        raise ChangedError(path, "put it back from a copy, or delete it and start the run's command again") from error
    except (ValueError, RecursionError) as error:  # legal JSON beyond Python's limits: digits, nesting
        raise UserError(f"{path} cannot be read: {error}") from error
    return RunResult.from_json(value, path)


def _without_nan(result: RunResult) -> RunResult:
    notes: list[str] = []
    whole = _finite_split(SplitResult(result.metric, result.tasks), result.split, notes)
    val = result.val and _finite_split(result.val, "val", notes)
    return dataclasses.replace(
        result, metric=whole.metric, tasks=whole.tasks, val=val, warnings=(*result.warnings, *notes)
    )


def _finite_split(split: SplitResult, name: str, notes: list[str]) -> SplitResult:
    def finite(metric: float | None, what: str) -> float | None:
        if metric is None or math.isfinite(metric):
            return metric
        notes.append(f"{name}: the metric of {what} is {metric} and was left out")
        return None

    tasks = tuple(dataclasses.replace(task, metric=finite(task.metric, f"task {task.name!r}")) for task in split.tasks)
    return SplitResult(finite(split.metric, "all tasks"), tasks)


def _decode(kind: Any, value: Any, place: str) -> Any:
    """Turn JSON into ``kind`` (a dataclass, or a type of one of its fields); ValueError names the place."""
    if isinstance(kind, type) and dataclasses.is_dataclass(kind):
        return _decode_object(kind, value, place)
    origin, inner = get_origin(kind), get_args(kind)
    if origin is UnionType:  # always "X | None" here
        return None if value is None else _decode(inner[0], value, place)
    if origin is Literal:
        return _expect(value in inner, value, place, " or ".join(map(repr, inner)))
    if origin is tuple:
        _expect(isinstance(value, list | tuple), value, place, "a list")
        return tuple(_decode(inner[0], item, f"{place}[{i}]") for i, item in enumerate(value))
    if origin is dict:
        _expect(isinstance(value, dict), value, place, "an object")
        return {key: _decode(inner[1], item, f"{place}.{key}") for key, item in value.items()}
    return _decode_scalar(kind, value, place)


def _decode_object(kind: type, value: Any, place: str) -> Any:
    _expect(isinstance(value, dict), value, place, "an object")
    prefix = f"{place}." if place else ""
    known = {}
    for each in dataclasses.fields(kind):
        if each.name in value:
            known[each.name] = _decode(each.type, value[each.name], prefix + each.name)
        elif each.default is dataclasses.MISSING and each.default_factory is dataclasses.MISSING:
            raise ValueError(f"field '{prefix}{each.name}' is missing")
    return kind(**known)


def _decode_scalar(kind: type, value: Any, place: str) -> Any:
    if kind is str:
        return _expect(isinstance(value, str), value, place, "a text")
    if kind is bool:
        return _expect(isinstance(value, bool), value, place, "true or false")
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if kind is int:
        return _expect(number and isinstance(value, int), value, place, "a whole number")
    assert kind is float, kind
    return float(_expect(number and -_LARGEST < value < _LARGEST, value, place, "a number"))


def _expect(good: bool, value: Any, place: str, what: str) -> Any:
    if not good:
        raise ValueError(f"field '{place}' must be {what}, not {_show(value)}")
    return value


def _show(value: Any) -> str:
    text = type(value).__name__ if isinstance(value, Sequence | dict) and not isinstance(value, str) else repr(value)
    return text if len(text) <= 40 else text[:37] + "..."
