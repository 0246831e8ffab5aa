"""Settings: which runs differ only in their cell of a table, and the name of their row.

The *setting* of a run is everything that can change its figure, apart from the suite, the number of shots, the seed and
the choice of classes and tasks. Runs of one setting form a row, in whatever folders they are.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from dassl.report.tree import Record
from dassl.results.methods import fitted_trainers, key_groups, nearest_method, short_names
from dassl.results.record import RETIRED_KEYS, idle_keys

# Keys that distinguish the cells of a table, and those that distinguish tables; they do not distinguish methods.
CELL_KEYS = {"SEED", "DATASET.NUM_SHOTS", "DATASET.SUBSAMPLE_CLASSES", "DATASET.SUBSAMPLE_TASKS"}
SUITE_KEYS = {"DATASET.NAME", "DATASET.TITLE", "DATASET.MEMBERS", "DATASET.TASKS", "MODEL.BACKBONE.NAME", "TEST.SPLIT"}
# Within a row, the length of training may depend on the number of shots, as for CoOp in the paper.
SCHEDULE_KEYS = {"OPTIM.MAX_EPOCH", "OPTIM.MIN_STEPS", "OPTIM.WARMUP_EPOCH", "OPTIM.STEPSIZE"}
# Keys that older configs lack, with the value that those runs used; keys with an empty default need no line here.
NEWER_KEYS = {
    "DATASET.TEMPLATES": "own",
    "DATASET.REDUCED_GIB": "4.0",
    "INPUT.MAX_PIXELS": "500000000",
    "INPUT.VIEWS": "0",
    "MODEL.BACKBONE.HEAD_WIDTHS": "[0, 0]",
    "MULTI.CLIP": "0.05",
    "MULTI.GAMMA_NEG": "4.0",
    "MULTI.GAMMA_POS": "0.0",
    "MULTI.LOSS": "bce",
    "OPTIM.ADAM_EPS": "1e-08",
    "OPTIM.MIN_STEPS": "0",
    "TEST.CALIBRATE": "False",
    "TRAIN.DETERMINISTIC": "False",
    "TRAIN.PATIENCE": "0",
    "TRAIN.VAL_FREQ": "0",
    "TRAINER.MTCOOP.NORMALIZE": "False",
    "TRAINER.MTCOOP.SHARED_CTX": "False",
    "TRAINER.MTCOOPH.UNION": "False",
}
_EMPTY = ("", "[]", "None")
_NO_NEWS = {**NEWER_KEYS, **{key: str(value) for key, value in RETIRED_KEYS.items()}}
_OF_LEARNING = ("OPTIM.", "TRAIN.", "DATALOADER.TRAIN_X.", "MODEL.INIT_WEIGHTS")
_OF_STEPS = ("OPTIM.", "DATALOADER.TRAIN_X.", "TRAIN.VAL_FREQ", "TRAIN.PATIENCE")
_STARTS = ("MODEL.INIT_WEIGHTS", "TRAINER.GDA.TEXT_FROM")  # other runs that a run takes something from
_NAMED_KEYS = 3  # more differing keys make an unreadable name
# Further differences between rows that are not config keys.
_METHOD, _TOGETHER, _EPOCH, _PRECISION, _UNKNOWN = "method", "together", "epoch", "precision", "config"
ONE_BY_ONE, TOGETHER = "task by task", "all tasks in one run"

Setting = frozenset[tuple[str, str]]


class Rows(NamedTuple):
    """The row of each run by its folder, and the keys of rows that are only numbered."""

    names: dict[Path, str]
    numbered: dict[str, str]


def sort_into_rows(records: Sequence[Record], together: Mapping[Path, str]) -> Rows:
    """The rows of all runs of a suite.

    A row is named by the label of its runs (TRAINER.LABEL), else by its method. If several settings have one label, the
    keys in which they differ follow it.

    Args:
        together: by folder, ONE_BY_ONE or TOGETHER for runs of a method that is usually trained the other way.
    """
    settings = _settings(records, together)
    labels = _labels(records, settings)
    named: dict[Setting, str] = {}
    numbered: dict[str, str] = {}
    for label in dict.fromkeys(labels.values()):
        members = [setting for setting, each in labels.items() if each == label]
        for setting, (short, whole) in zip(members, tell_apart(list(map(dict, members))), strict=True):
            unknown = _UNKNOWN in dict(setting) and len(members) > 1
            named[setting] = _name(label, setting, "config unknown" if unknown else short)
            if whole != short:
                numbered[named[setting]] = whole
    return Rows({folder: named[setting] for folder, setting in settings.items()}, numbered)


def _settings(records: Sequence[Record], together: Mapping[Path, str]) -> dict[Path, Setting]:
    """The setting of each run; it excludes a schedule that depends only on the number of shots."""
    same: dict[Setting, list[Record]] = defaultdict(list)
    followed = _followed(records)
    for record in records:
        facts = {
            **changing_values(record),
            **followed[record.folder],
            **_facts(record),
            _TOGETHER: together.get(record.folder, ""),
        }
        same[frozenset((k, v) for k, v in facts.items() if v and k not in SCHEDULE_KEYS)].append(record)
    found: dict[Path, Setting] = {}
    for setting, members in same.items():
        columns: dict[tuple[object, ...], set[Setting]] = defaultdict(set)
        for record in members:
            columns[_column(record)].add(_schedule(record, followed))
        several = any(len(each) > 1 for each in columns.values())
        one = len(set.union(*columns.values())) == 1
        for record in members:
            found[record.folder] = setting | _schedule(record, followed) if several or one else setting
    return {record.folder: found[record.folder] for record in records}


def _facts(record: Record) -> dict[str, str]:
    """The facts that are not config keys; evaluations of a chosen epoch and of the last one are separate rows."""
    epoch = record.result.best_epoch if record.result.mode == "eval" else None
    return {
        _METHOD: record.label,
        _EPOCH: "" if epoch is None else str(epoch),
        _PRECISION: record.result.backbone.precision,
        _UNKNOWN: "" if record.config else "unknown",
    }


def changing_values(record: Record) -> dict[str, str]:
    """The config keys of a run that can change its figure, except those of its cell and its suite, as texts."""
    groups, trainer = key_groups(), record.result.trainer
    foreign = {f"TRAINER.{each}." for each in groups.values()} - {f"TRAINER.{groups.get(trainer)}."}
    # An unknown trainer may read the keys of any other.
    idle = (*(foreign if trainer in groups else ()), *(() if record.learns else _OF_LEARNING))
    idle += _OF_STEPS if trainer in fitted_trainers() else ()
    out = idle_keys(record.config) | CELL_KEYS | SUITE_KEYS
    told = {key: _text(v) for key, v in record.config.items() if key not in out and not key.startswith(idle)}
    found = {key: text for key, text in told.items() if text not in (*_EMPTY, _NO_NEWS.get(key))}
    return {**found, **{key: _own_start(record, key) for key in _STARTS if found.get(key)}}


def _own_start(record: Record, key: str) -> str:
    """The runs that ``key`` names, without seed, task and shots, for each of which they may differ."""
    runs = str(record.config[key]).split(",")
    seeds = {f"seed{record.result.seed}"} if len(runs) == 1 else {Path(run.strip()).name for run in runs}
    without = {record.task_choice, f"without_{record.task_choice}"}
    shown = [
        "seed*" if part in seeds and part.startswith("seed") else part.removesuffix(f"_{record.result.shots}shots")
        for part in Path(runs[0].strip()).parts
        if part not in without
    ]
    return "/".join(shown)


def _text(value: Any) -> str:
    return str(list(value) if isinstance(value, tuple) else value)


def _followed(records: Sequence[Record]) -> dict[Path, dict[str, str]]:
    """For each run the keys that its method's authors set by shots or data set, with one text for all their values.

    A key that has the same value in all runs is treated like any other key.
    """
    values: dict[tuple[str, str], set[str]] = defaultdict(set)
    for record in records:
        for key in record.published_keys:
            values[record.result.trainer, key].add(_text(record.config.get(key)))
    return {
        record.folder: {
            key: f"as published, else {usual}"
            for key, usual in record.published_keys.items()
            if len(values[record.result.trainer, key]) > 1
        }
        for record in records
    }


def _schedule(record: Record, followed: Mapping[Path, Mapping[str, str]]) -> Setting:
    values = {**changing_values(record), **followed[record.folder]}
    return frozenset((key, value) for key, value in values.items() if key in SCHEDULE_KEYS)


def _column(record: Record) -> tuple[object, ...]:
    result = record.result
    tasks = "one" if record.is_of_one_task else record.task_choice
    return result.shots if record.learns else 0, record.classes, tasks, result.mode


def _labels(records: Sequence[Record], settings: Mapping[Path, Setting]) -> dict[Setting, str]:
    """The label of each setting: the one that its runs were given, else that of their method."""
    given: dict[Setting, dict[str, None]] = defaultdict(dict)
    methods: dict[Setting, str] = {}
    for record in records:
        setting = settings[record.folder]
        methods.setdefault(setting, record.label)
        if record.given_label:
            given[setting][record.given_label] = None
    return {setting: _one_label(list(given[setting])) or label for setting, label in methods.items()}


def _one_label(labels: Sequence[str]) -> str:
    """One label for all; without the values of ``vary``, which changed nothing if only some labels have them."""
    short = dict.fromkeys(label.partition(" [")[0] for label in labels)
    return " / ".join(labels if len(labels) == 1 else short)


def _name(label: str, setting: Setting, keys: str) -> str:
    facts = dict(setting)
    parts = (facts.get(_TOGETHER), f"epoch {facts[_EPOCH]}" if _EPOCH in facts else "", keys)
    brackets = ", ".join(filter(None, parts))
    if not brackets:
        return label
    return f"{label[:-1]}, {brackets}]" if label.endswith("]") else f"{label} [{brackets}]"


def tell_apart(settings: Sequence[Mapping[str, str]], *, word: str = "setting") -> list[tuple[str, str]]:
    """For each setting a short and a full text with the keys in which the settings differ.

    The short text equals the full one if the keys are few; else it is ``word`` and a number. Both are empty if the
    settings differ in no key.
    """
    known = [each for each in settings if _UNKNOWN not in each]
    keys = [key for key in sorted({key for each in known for key in each}) if _differs(key, known)]
    rest = [key for key in keys if key != _PRECISION]
    if len({_chosen(each, rest) for each in known}) == len({_chosen(each, keys) for each in known}):
        keys = rest
    names = short_names(keys)
    found = []
    for each in settings:
        shown = [key for key in keys if key in each] if _UNKNOWN not in each else []
        found.append(", ".join(each[key] if key == _METHOD else f"{names[key]} {each[key]}" for key in shown))
    if len(keys) <= _NAMED_KEYS:
        return [(text, text) for text in found]
    numbers = {text: number for number, text in enumerate(dict.fromkeys(found), 1)}
    return [(f"{word} {numbers[text]}", text) for text in found]


def _differs(key: str, settings: Sequence[Mapping[str, str]]) -> bool:
    # The schedule of a row without one follows the shots.
    values = {each.get(key) for each in settings if key in each or key not in SCHEDULE_KEYS}
    return len(values) > 1 and key not in (_TOGETHER, _EPOCH)


def _chosen(setting: Mapping[str, str], keys: Iterable[str]) -> tuple[str | None, ...]:
    return tuple(setting.get(key) for key in (*keys, _TOGETHER, _EPOCH))


def ways_of_training(records: Sequence[Record]) -> Iterator[tuple[Path, str]]:
    """ONE_BY_ONE or TOGETHER for each run of a method that is usually trained the other way.

    With a single task, and for methods that learn nothing across tasks, both are the same.
    """
    if len({task.name for record in records for task in record.result.tasks}) < 2:
        return
    for record in records:
        method = nearest_method(record.result.trainer, record.config)
        if not record.learns or (method and method.separable):
            continue
        usual = method is not None and method.per_task
        if record.is_of_one_task != usual:
            yield record.folder, ONE_BY_ONE if record.is_of_one_task else TOGETHER
