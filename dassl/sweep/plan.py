"""The runs of a sweep, and which of them are done."""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from dassl.results.methods import Method, read_methods, short_names
from dassl.results.record import RunResult
from dassl.sweep.grid import CONFIGS, Sweep, find_file, parts_of, suite_name
from dassl.sweep.worker import Job
from dassl.utils.errors import UserError
from dassl.utils.logger import LOG_FILE

if TYPE_CHECKING:
    from yacs.config import CfgNode

    from dassl.engine.runfolder import RunFolder

# Keys that a sweep sets for each run, overriding all others, and the fields that choose their values.
_CHOSEN_BY = {
    "SEED": "seeds: (--seeds)",
    "DATASET.NUM_SHOTS": "shots: (--shots)",
    "OUTPUT_DIR": "output: (--output-dir)",
    "TRAINER.NAME": "the trainer: of a method",
}

# Contents of a run folder before the sweep: a finished run, one of another config, an unfinished one, nothing.
Found = Literal["done", "other", "begun", "new"]


@dataclass(frozen=True)
class Run:
    """One run of the grid.

    Attributes:
        files: config files of the suite and of the method.
        options: config keys that override the files.
        pairs: KEY VALUE texts that override ``options``.
        folder: its run folder.
        kind: the folder that it shares with runs that take about the same time.
        task: number of the task, for a method that is trained task by task.
        part: config keys of its part of a protocol; they override all others.
        varied: the keys of ``vary:`` with their values.
        evaluations: of its learned tensors, on the second part of a protocol or on each target.
        sources: the runs from whose mean it starts.
        without: number of the task that it does not learn, because a run of that task starts from it.
    """

    method: Method
    suite: str
    shots: int
    seed: int
    files: tuple[Path, ...]
    options: Mapping[str, Any]
    pairs: tuple[str, ...]
    folder: Path
    kind: Path
    task: int | None = None
    part: Mapping[str, str] = field(default_factory=dict)
    varied: Mapping[str, Any] = field(default_factory=dict)
    evaluations: tuple["Run", ...] = ()
    sources: tuple["Run", ...] = ()
    without: int | None = None

    @property
    def label(self) -> str:
        """The name of the row in curves and progress."""
        return self._label(self.varied)

    @property
    def row_label(self) -> str:
        """The name of the row in tables, which have the backbone in their heading or in a column of its own."""
        return self._label({key: value for key, value in self.varied.items() if key != "MODEL.BACKBONE.NAME"})

    def _label(self, varied: Mapping[str, Any]) -> str:
        names = short_names(list(varied))
        keys = ", ".join(f"{names[key]} {value}" for key, value in varied.items())
        return f"{self.method.label} [{keys}]" if keys else self.method.label

    @property
    def title(self) -> str:
        """A short description of the run."""
        parts = [f"{self.label} on {suite_name(self.suite)}"]
        parts += [f"{shots_text(self.shots)}"] * self.method.learns + [f"seed {self.seed}"]
        return ", ".join([*parts, *([] if self.tasks == "all" else [f"task {self.tasks}"])])

    @property
    def tasks(self) -> str:
        """Its tasks: "all", the number of one, or "not 3"."""
        if self.without is not None:
            return f"not {self.without}"
        return "all" if self.task is None else str(self.task)

    @property
    def row(self) -> tuple[object, ...]:
        """A key that it shares with runs that differ only in shots, seed and task."""
        return self.method.label, self.suite, self.kind.name, *self.part.items()

    def views(self) -> int:
        """Training images per class times epochs; 0 or less if all images take part.

        OPTIM.MIN_STEPS counts as if a step saw one image per class: the batches of an epoch are not known yet.
        """
        optim = self.config().OPTIM
        return max(self.shots * optim.MAX_EPOCH, optim.MIN_STEPS if self.shots > 0 else 0)

    def config(self) -> "CfgNode":
        """The run's whole config, frozen.

        Raises:
            UserError: one line for each unknown key or wrong value.
        """
        return self._build()[0]

    def published(self) -> dict[str, Any]:
        """Keys with the values that the method's authors set for these shots and this data set."""
        return self._build()[1]

    def _build(self) -> "tuple[CfgNode, dict[str, Any]]":
        from dassl.config import merge_cfg
        from dassl.engine.published import apply_published

        cfg = _of_files(self.files).clone()
        merge_cfg(cfg, values=self.options, place=f"options of {self.method.label or self.method.trainer}")
        merge_cfg(cfg, pairs=self.pairs)
        fixed = {"TRAINER.NAME": self.method.trainer, "DATASET.NUM_SHOTS": self.shots, "SEED": self.seed, **self.part}
        if self.method.label and self.row_label not in read_methods():
            fixed["TRAINER.LABEL"] = self.row_label
        task = {} if self.task is None else {"DATASET.SUBSAMPLE_TASKS": f"task{self.task}"}
        merge_cfg(cfg, values={**fixed, **task, "OUTPUT_DIR": str(self.folder)}, place="sweep")
        published = apply_published(cfg, named={*self.options, *self.pairs[::2]})
        cfg.freeze()
        return cfg, published

    def configs(self) -> list["CfgNode"]:
        """Its config and those of its evaluations."""
        return [self.config(), *(each.config() for each in self.evaluations)]

    def values(self) -> dict[str, Any]:
        """The config by dotted key, in the form that workers receive."""
        from dassl.config import flatten

        return flatten(self.config())

    def job(self, number: int) -> Job:
        """The job for a worker."""
        return Job(number, self.values(), tuple(each.values() for each in self.evaluations))

    def found(self) -> Found:
        """The state of its folder and of its evaluations' folders."""
        if any(run.result() is None for run in (self, *self.evaluations)):
            return "begun" if (self.folder / LOG_FILE).is_file() else "new"
        return "other" if self.conflicts() else "done"

    def conflicts(self) -> list[str]:
        """The differences between the run in its folder and this one."""
        own = self._home().conflicts(self.config())
        return own or next((found for each in self.evaluations if (found := each.conflicts())), [])

    def result(self) -> RunResult | None:
        """Its result; None if there is none or it cannot be read."""
        try:
            return self._home().result()
        except UserError:
            return None

    def _home(self) -> "RunFolder":
        from dassl.engine.runfolder import RunFolder

        return RunFolder(self.folder)

    def command(self) -> str:
        """The command that carries out this run separately, without its evaluations."""
        return shlex.join(["python", "train.py", *self.arguments()])

    def arguments(self, *flags: str) -> list[str]:
        """The arguments of train.py for this run: its flags, ``flags``, and KEY VALUE pairs."""
        suite, method = self.files
        words = ["--trainer", self.method.trainer, "--dataset-config-file", suite]
        words += ["--config-file", method, "--seed", self.seed, "--output-dir", self.folder, *flags]
        keys = {**self.options, "DATASET.NUM_SHOTS": self.shots, **self.part}
        if self.method.label and self.row_label not in read_methods():
            keys["TRAINER.LABEL"] = self.row_label
        if self.task is not None:
            keys["DATASET.SUBSAMPLE_TASKS"] = f"task{self.task}"
        return [str(word) for word in [*words, *(word for pair in keys.items() for word in pair), *self.pairs]]


def shots_text(shots: int) -> str:
    """A number of shots in words."""
    return "all images" if shots < 1 else f"{shots} shot{'s' * (shots > 1)}"


@lru_cache(maxsize=256)
def _of_files(files: tuple[Path, ...]) -> "CfgNode":
    from dassl.config import get_cfg_default, merge_cfg

    cfg = get_cfg_default()
    merge_cfg(cfg, files=files)
    return cfg


def expand(sweep: Sweep, *, pairs: Sequence[str] = ()) -> list[Run]:
    """All runs of a sweep by suite, then by method, with methods that learn nothing first.

    Within a method, runs that learn from more images come first, so that short runs end the sweep. Runs of the same
    shots and seed then find the features that the first method's run has stored.

    Args:
        pairs: KEY VALUE texts for every run.

    Raises:
        UserError: a file is missing, a key or value of the config is wrong or has no effect in a sweep, or two runs
            would share a folder.
    """
    from dassl.registries import TRAINER_REGISTRY

    _refuse_keys_without_effect(sweep, pairs)
    runs: list[Run] = []
    for suite in sweep.suites:
        for method in sorted(sweep.methods, key=lambda method: method.learns):
            for suffix, options in sweep.variations():
                cells = _Cells(sweep, suite, method, suffix, options, tuple(pairs))
                TRAINER_REGISTRY.get(method.trainer)
                row = cells.runs()
                for run in {run.files: run for run in row}.values():
                    _check(run, sweep.protocol)  # reports mistakes before any run starts
                    _check_start(run, sweep.protocol)
                runs += row
    return _with_sources(runs)


def _with_sources(runs: Sequence[Run]) -> list[Run]:
    """The runs, and before the first one that starts from others these; one that several start from is there once."""
    _refuse_twins(runs)
    found = {run.folder: run for run in runs}
    ordered: dict[Path, Run] = {}
    for run in runs:
        for each in (*run.sources, run):
            ordered.setdefault(each.folder, found.get(each.folder, each))
    return list(ordered.values())


def _refuse_keys_without_effect(sweep: Sweep, pairs: Sequence[str]) -> None:
    """Refuse a key that the sweep itself sets for each run: it would have no effect, and mislabel figures."""
    for method in sweep.methods:
        for key in {"MODEL.INIT_WEIGHTS"} & {*pairs[::2], *sweep.options, *method.options} if method.start else ():
            raise UserError(f"{key} has no effect for {method.label}, because its start: sets it; leave it out")
    own = [options for method in sweep.methods for options in (method.options, *method.suite_options.values())]
    given = {*pairs[::2]}.union(sweep.options, sweep.vary, *sweep.method_options.values(), *own)
    part = dict.fromkeys((key for _, keys in parts_of(sweep.protocol) for key in keys), "protocol:")
    for key, chooser in {**_CHOSEN_BY, **part}.items():
        if key in given:
            raise UserError(
                f"{key} has no effect among the config keys of this sweep, because {chooser} sets it; leave it out"
            )


def _refuse_twins(runs: Sequence[Run]) -> None:
    """Refuse two runs that share a folder."""
    seen: dict[Path, Run] = {}
    for run in runs:
        other = seen.setdefault(run.folder, run)
        if other is not run:
            raise UserError(
                f"two runs would share the folder {run.folder}: {other.title}; and {run.title}; give suites, configs "
                "and settings of methods, shots, and values of vary different names (DATASET.TITLE names a suite)"
            )


def _check(run: Run, protocol: str) -> None:
    """Refuse a wrong config, and a method with nothing learned for the second part of the protocol.

    Raises:
        UserError: one line for each unknown key or wrong value, or the setting that ties the method to its classes or
            tasks.
    """
    from dassl.registries import TRAINER_REGISTRY

    cfg, name, protocol = run.config(), run.method.label or run.method.trainer, protocol.split(" ")[0]
    if protocol in ("newtasks", "transfer") and run.method.per_task:
        raise UserError(
            f"{name} is trained task by task, so it learns nothing that protocol {protocol} can test; for a suite of "
            "one task add a method with like: and per_task: false"
        )
    units = {"": (), "base2new": ("class",)}.get(protocol, ("class", "task"))
    for unit, cause in TRAINER_REGISTRY.get(run.method.trainer).bound_units(cfg).items():
        if unit in units:
            raise UserError(
                f"{name} cannot take part in protocol {protocol}: {cause} learns something "
                f"for each {unit}, so it has nothing for new {'classes' if protocol == 'base2new' else 'tasks'}"
            )


def _check_start(run: Run, protocol: str) -> None:
    """Refuse a method that cannot start from others, or starts from those of another method (UserError)."""
    from dassl.registries import TRAINER_REGISTRY

    name, start = run.method.label or run.method.trainer, run.method.start
    if not start:
        return
    source = run.sources[0]
    if protocol:
        raise UserError(f"{name} starts from other runs, which have seen what protocol {protocol} tests; leave one out")
    if source.method.trainer != run.method.trainer:
        raise UserError(
            f"{name} cannot start from {start.method}: its trainer, {source.method.trainer}, learns other tensors than "
            f"{run.method.trainer}; name a method of the same trainer in its start:"
        )
    if source.method.start:
        raise UserError(f"{name} cannot start from {start.method}, which starts from others itself")
    for each in (run, source):
        for unit, cause in TRAINER_REGISTRY.get(each.method.trainer).bound_units(each.config()).items():
            raise UserError(f"{name} cannot start from {start.method}: {cause} learns something for each {unit}")


@dataclass(frozen=True)
class _Cells:
    """The runs of one row: a method in one variation on one suite."""

    sweep: Sweep
    suite: str
    method: Method
    suffix: str
    variation: Mapping[str, Any]
    pairs: tuple[str, ...]

    def runs(self) -> list[Run]:
        """A run for every (shots, seed) and, for a method that is trained task by task, every task."""
        shots = sorted(self.sweep.shots, key=lambda k: (k < 1, k), reverse=True) if self.method.learns else [1]
        seeds = self.sweep.seeds if self.method.learns else self.sweep.seeds[:1]
        tasks = self._tasks[1] if self.method.per_task else [None]
        return [self._run(k, seed, task) for k in shots for seed in seeds for task in tasks]

    def _run(self, shots: int, seed: int, task: int | None) -> Run:
        suite, method = self._files(shots)
        parts = [(name, suite, part) for name, part in parts_of(self.sweep.protocol) or (("", {}),)]
        parts += [(f"transfer/{suite_name(each)}", _suite_file(each), {}) for each in self.sweep.targets]
        names = [self.suite] * (len(parts) - len(self.sweep.targets)) + list(self.sweep.targets)
        runs = [
            replace(self._plain(self._top / name, shots, seed, task), suite=named, files=(file, method), part=part)
            for named, (name, file, part) in zip(names, parts, strict=True)
        ]
        run = replace(runs[0], evaluations=tuple(runs[1:]))
        return self._started(run) if self.method.start else run

    def _plain(self, top: Path, shots: int, seed: int, task: int | None = None) -> Run:
        """The run below the folder ``top``, without what belongs to a protocol."""
        files = self._files(shots)
        size = f"_{shots if shots > 0 else 'all'}shots" if self.method.learns else ""
        kind = top / self.method.trainer / f"{files[1].stem}{size}" / f"{self.method.setting}{self.suffix}"
        folder = kind / f"seed{seed}" if task is None else kind / f"task{task}" / f"seed{seed}"
        given = (self.options, self.pairs, folder, kind)
        return Run(self.method, self.suite, shots, seed, files, *given, task, varied=self.variation)

    @property
    def _top(self) -> Path:
        """The folder of the suite's runs."""
        top = self.sweep.folder.absolute()
        return top / suite_name(self.suite) if len(self.sweep.suites) > 1 else top

    def _started(self, run: Run) -> Run:
        """The run, which starts from the mean over its sources."""
        start = self.method.start
        assert start is not None
        cells = replace(self, method=self.sweep.method(start.method), suite=start.suite or self.suite)
        top = self.sweep.folder.absolute() / "sources" / suite_name(cells.suite)
        part, without = {}, run.task if start.tasks else None
        if start.tasks:
            top = self._top / "sources" / f"without_task{run.task}"
            part = {"DATASET.SUBSAMPLE_TASKS": self._all_but(run.task)}
        elif suite_name(start.suite) == suite_name(self.suite):
            raise UserError(
                f"{self.method.label} on {suite_name(self.suite)} would start from runs that have learned the same "
                "tasks, from the images of several seeds; give its start: another suite, or tasks: others"
            )
        plain = [cells._plain(top, run.shots, seed) for seed in start.seeds or (run.seed,)]
        sources = tuple(replace(each, part=part, without=without) for each in plain)
        folders = ",".join(str(each.folder) for each in sources)
        if folders.count(",") >= len(sources):
            raise UserError(f"{top} has a comma, which separates runs to start from; use another --output-dir")
        return replace(run, sources=sources, options={**run.options, "MODEL.INIT_WEIGHTS": folders})

    def _all_but(self, task: int | None) -> str:
        """The value of DATASET.SUBSAMPLE_TASKS for the tasks of the sweep but one."""
        count, chosen = self._tasks
        if len(chosen) < 2:
            raise UserError(f"{self.method.label} on {suite_name(self.suite)}: there are no other tasks to start from")
        left_out = [each for each in range(count) if each == task or each not in chosen]
        return "not:" + ",".join(f"task{each}" for each in left_out)

    def _files(self, shots: int) -> tuple[Path, Path]:
        stem = self.sweep.config or self.method.config_stem(self.sweep.backbone, shots)
        folder = CONFIGS / "trainers" / self.method.trainer
        return _suite_file(self.suite), find_file(stem, folder, f"{self.method.trainer} config")

    @cached_property
    def options(self) -> dict[str, Any]:
        """Config keys of the row."""
        from dassl.data.places import output_root

        cfg = _of_files((_suite_file(self.suite),)).clone()
        own = {**self.method.options, **self.method.suite_options.get(cfg.DATASET.NAME, {})}
        cfg.OUTPUT_DIR = str(self.sweep.folder)
        root = output_root(cfg)
        places = {"DATALOADER.FEATURES_DIR": str(root / "features"), "DATASET.CACHE_DIR": str(root / "cache")}
        added = self.sweep.method_options.get(self.method.label, {})
        return {**places, **own, **self.sweep.options, **added, **self.variation}

    @cached_property
    def _tasks(self) -> tuple[int, list[int]]:
        """The number of tasks in the data, and the numbers of those that take part."""
        from dassl.data.dataset import DATASET_REGISTRY
        from dassl.data.datum import Task
        from dassl.data.sampling import choose_tasks

        cfg = self._plain(self._top, 1, 0).config()
        count = DATASET_REGISTRY.get(cfg.DATASET.NAME).count_tasks(cfg)
        return count, choose_tasks([Task(str(number), ()) for number in range(count)], cfg.DATASET.SUBSAMPLE_TASKS)


def _suite_file(suite: str) -> Path:
    return find_file(suite, CONFIGS / "datasets", "suite")
