"""Runs that are killed and started again, compared with undisturbed runs."""

import json
import os
import random
import re
import shutil
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

import train
from dassl.config import get_cfg_default
from dassl.data.features.__main__ import main as features_main
from dassl.utils.tools import CHECKOUT
from tests.chaos.children import STAGES, Moment, end_at, fork, wait, watch_renames
from tests.chaos.fetching import ChaosFetched, archive_served, draw, kill_download
from tests.chaos.fetching import moments as fetch_moments
from tests.chaos.states import differences, leftovers, log_lines, state

TRAIN = CHECKOUT / "configs/trainers"
COMMON = {
    "DATASET.MEMBERS": "DemoDigits,DemoCounts",
    "DATASET.NUM_SHOTS": "1",
    "OPTIM.MAX_EPOCH": "3",
    "DATALOADER.TRAIN_X.BATCH_SIZE": "6",
    "TRAIN.PRINT_FREQ": "1",
    "TRAIN.LOGGERS": "()",
    "USE_CUDA": "False",
    "VERBOSE": "False",
}
# name -> trainer and keys
VARIANTS: dict[str, tuple[str, dict[str, str]]] = {
    "SoftCPT": ("MTCoOp", {}),
    "SoftCPT, no stored features": ("MTCoOp", {"DATALOADER.FEATURES": "False", "OPTIM.MAX_EPOCH": "2"}),
    "SoftCPT, classes sampled": (
        "MTCoOp",
        {"TRAINER.MTCOOP.CSC": "True", "TRAINER.MTCOOP.CLASS_N_CTX": "2", "TRAINER.MTCOOP.CLS_SAMPLE_RATE": "0.5"},
    ),
    "SoftCPT, best_val": ("MTCoOp", {"TEST.FINAL_MODEL": "best_val", "TRAIN.CHECKPOINT_FREQ": "1"}),
    "ProGrad": ("ProGrad", {}),
    "LinearProbe": ("LinearProbe", {}),
    "SoftCPT, split drawn": ("MTCoOp", {"DATASET.NAME": "ChaosFetched", "DATASET.MEMBERS": "()"}),
}
_WORK = ("epoch [", "Finished training")
# The kinds of files in the middle of which a run is killed.
KINDS = {
    "checkpoint": r"model.*\.pth\.tar",
    "pointer to the checkpoint": r"/checkpoint$",
    "feature shard": r"\.npy$",
    "about a view": r"about\.json$",
    "predictions.csv": r"predictions\.csv$",
    "results.json": r"results\.json$",
    "config.yaml": r"config\.yaml$",
    "tasks.json": r"tasks\.json$",
    "split file": r"split_\w+\.json$",
    "few-shot file": r"shot_1-seed_1\.json$",
    "digests of pictures": r"/pictures$",
}


@dataclass
class Place:
    """The folder in which all trials take place one after the other, so that all paths are the same."""

    top: Path
    pictures: Path
    undisturbed: dict[str, "Undisturbed"] = field(default_factory=dict)

    @property
    def run(self) -> Path:
        """The run folder."""
        return self.top / "run"

    def renew(self) -> None:
        """Only the pictures are there."""
        shutil.rmtree(self.top, ignore_errors=True)
        shutil.copytree(self.pictures, self.top / "data", copy_function=os.link)

    def arguments(self, variant: str) -> list[str]:
        """The command line of train.py."""
        trainer, keys = VARIANTS[variant]
        files = ["--dataset-config-file", str(CHECKOUT / "configs/datasets/demo6.yaml")]
        files += ["--config-file", str(TRAIN / trainer / "demo.yaml"), "--trainer", trainer, "--seed", "1"]
        places = ["--root", str(self.top / "data"), "--output-dir", str(self.run)]
        stores = {"DATALOADER.FEATURES_DIR": str(self.top / "features"), "DATASET.CACHE_DIR": str(self.top / "cache")}
        pairs = {**COMMON, **stores, **keys}
        return [*files, *places, *(text for pair in pairs.items() for text in pair)]

    def start(self, variant: str, **options: Any) -> int:
        """Start a run; returns its process."""
        return fork(train.main, self.arguments(variant), self.top / "output.txt", **options)

    def state(self) -> dict[str, Any]:
        """What the run left in its folder and beside the pictures."""
        return {**state(self.run), **state(self.top / "data")}

    def output(self) -> str:
        """The last lines that a process printed."""
        return (self.top / "output.txt").read_text(encoding="utf-8")[-2000:]


@dataclass(frozen=True)
class Undisturbed:
    """An undisturbed run.

    Attributes:
        renames: the files that got their names during the run, in their order.
    """

    state: dict[str, Any]
    log: list[str]
    renames: list[str]
    seconds: float


@dataclass(frozen=True)
class Trial:
    """One run that was killed and started again. ``problems``: what was not as it should be.

    Attributes:
        seconds: from the start to the kill.
    """

    variant: str
    moment: str
    seconds: float
    killed: bool
    problems: list[str]


def prepare(top: Path) -> Place:
    """A place for trials; the pictures of the demo suite are drawn once, in a process of their own."""
    torch.set_num_threads(1)
    get_cfg_default()  # imports all trainers, here once and not in each process
    place = Place(top / "trial", top / "pictures")
    if not place.pictures.is_dir():
        (top / "trial" / "data").mkdir(parents=True)
        code = wait(place.start("SoftCPT"))
        assert code == 0, place.output()
        for made in [*place.top.glob("data/**/split_fewshot_mt")]:
            shutil.rmtree(made)
        for path in place.top.glob("data/**/split_zhou_*.json"):
            split = json.loads(path.read_text(encoding="utf-8"))
            split["test"] = split["test"][::8]  # encoding them is most of the time of a run
            path.write_text(json.dumps(split), encoding="utf-8")
        draw(place.top / "data" / ChaosFetched.dataset_dir)
        shutil.copytree(place.top / "data", place.pictures)
    return place


def undisturbed(place: Place, variant: str) -> Undisturbed:
    """The run that others are compared with; it is done once."""
    if variant not in place.undisturbed:
        place.renew()
        names = place.top / "renames.txt"
        begin = time.monotonic()
        code = wait(place.start(variant, prepare=lambda: watch_renames(lambda *told: _note(names, *told))))
        seconds = time.monotonic() - begin
        assert code == 0, place.output()
        renames = names.read_text(encoding="utf-8").splitlines()
        log = log_lines(place.run / "log.txt")
        place.undisturbed[variant] = Undisturbed(place.state(), log, renames, seconds)
    return place.undisturbed[variant]


def _note(names: Path, stage: str, target: str) -> None:
    if stage == "after":
        with names.open("a", encoding="utf-8") as file:
            file.write(f"{target}\n")


def kill_at(place: Place, variant: str, moment: Moment) -> Trial:
    """Kill a run at a moment of its work, start it again, and compare."""
    wanted = undisturbed(place, variant)
    place.renew()
    begin = time.monotonic()
    code = wait(place.start(variant, prepare=lambda: end_at(moment)))
    passed = time.monotonic() - begin
    return Trial(variant, str(moment), passed, code == -9, _again(place, variant, wanted, code))


def kill_after(place: Place, variant: str, seconds: float) -> Trial:
    """Kill a run after so many seconds, start it again, and compare."""
    wanted = undisturbed(place, variant)
    place.renew()
    code = wait(place.start(variant), kill_after=seconds)
    return Trial(variant, "at random", seconds, code == -9, _again(place, variant, wanted, code))


def _again(place: Place, variant: str, wanted: Undisturbed, code: int | None) -> list[str]:
    if code not in (0, -9):
        return [f"ended with {code} before it was killed: {place.output()}"]
    code = wait(place.start(variant))
    if code != 0:
        return [f"the second start ended with {code}: {place.output()}"]
    problems = differences(wanted.state, place.state())
    problems += [f"left behind: {path}" for path in leftovers(place.top)]
    problems += _log_problems(wanted.log, log_lines(place.run / "log.txt"))
    if (place.top / "features").is_dir():
        checked = wait(fork(features_main, [str(place.top / "features"), "--verify"], place.top / "output.txt"))
        problems += [f"feature store: {place.output()}"] if checked else []
    return problems


def _log_problems(wanted: Sequence[str], found: Sequence[str]) -> list[str]:
    """Every figure must be there, once or again; from the first epoch after the last start on, the logs are equal."""
    numbers = [line for line in wanted if line.startswith(("epoch [", "* "))]
    lost = [line for line in numbers if line not in found]
    strange = [line for line in found if line.startswith(("epoch [", "* ")) and line not in numbers]
    problems = [f"not in the log: {line}" for line in lost[:3]] + [f"only in this log: {line}" for line in strange[:3]]
    last = found[max(n for n, line in enumerate(found) if line.startswith("Seed ")) :]
    begin = next((n for n, line in enumerate(last) if line.startswith(_WORK)), len(last))
    resumed = last[begin:]
    return problems + ([] if resumed and resumed == list(wanted[-len(resumed) :]) else [f"other lines: {resumed}"])


def moments(place: Place, variant: str) -> Iterator[tuple[str, Moment]]:
    """Every chosen moment of a variant, by kind of file."""
    renames = undisturbed(place, variant).renames
    for kind, pattern in KINDS.items():
        count = sum(bool(re.search(pattern, name)) for name in renames)
        for number in range(count):
            yield from ((kind, Moment(pattern, number, stage)) for stage in STAGES)


# One of each kind: (variant, kind of file, which of them, stage).
CHOSEN = (
    ("SoftCPT", "checkpoint", 3, "half"),
    ("SoftCPT", "checkpoint", 5, "after"),  # the last one of all; its pointer file still names the epoch before
    ("SoftCPT", "feature shard", 1, "half"),
    ("SoftCPT", "predictions.csv", 0, "after"),
    ("SoftCPT", "results.json", 0, "before"),
    ("SoftCPT", "few-shot file", 0, "half"),
    ("SoftCPT", "digests of pictures", 0, "before"),
    ("SoftCPT, best_val", "checkpoint", 4, "after"),
    ("LinearProbe", "checkpoint", 0, "half"),
    ("SoftCPT, split drawn", "split file", 0, "half"),
)


def short_trials(place: Place) -> Iterator[Trial]:
    """One trial for each of CHOSEN."""
    for variant, kind, number, stage in CHOSEN:
        yield kill_at(place, variant, Moment(KINDS[kind], number, stage))


def trials(place: Place, runs: int, seed: int) -> Iterator[Trial]:
    """So many trials: half of them at chosen moments, every kind of file in turn, and half at random times."""
    draw = random.Random(seed)
    names = list(VARIANTS)
    for number in range(runs):
        variant = names[number // 2 % len(names)]
        if number % 2:
            seconds = draw.uniform(0, undisturbed(place, variant).seconds)
            trial = kill_after(place, variant, seconds)
            # The undisturbed run may have taken longer, for instance because the machine was busy.
            yield trial if trial.killed or trial.problems else kill_after(place, variant, seconds / 2)
            continue
        chosen = list(moments(place, variant))
        kinds = sorted({kind for kind, _ in chosen})
        kind = kinds[number // (2 * len(names)) % len(kinds)]
        yield kill_at(place, variant, draw.choice([moment for each, moment in chosen if each == kind]))


def fetches(top: Path) -> Iterator[Trial]:
    """One trial for each moment of a download and its unpacking."""
    folder = top / "fetch"
    shutil.rmtree(folder, ignore_errors=True)
    with archive_served(folder) as place:
        for title, prepare_process in fetch_moments():
            seconds, killed, problems = kill_download(place, prepare_process)
            yield Trial("datasets.fetch", title, seconds, killed, problems)
