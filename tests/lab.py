"""Whole runs in a second: a tiny random CLIP, toy data sets, and the command line of a short run."""

from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

import train
from dassl.engine import build_trainer
from dassl.results.record import RunResult, TaskResult, read_results
from tests.dassl.data import toy
from trainers.base import PromptTuner

assert toy.ToyBoth, "importing the module registers its data sets"

SETTINGS = {
    "INPUT.SIZE": "32,32",
    "INPUT.INTERPOLATION": "bicubic",
    "INPUT.TRANSFORMS": "random_resized_crop,random_flip,normalize",
    "DATALOADER.NUM_WORKERS": 0,
    "DATALOADER.TRAIN_X.BATCH_SIZE": 5,
    "DATALOADER.TEST.BATCH_SIZE": 16,
    "DATASET.NUM_SHOTS": 2,
    "OPTIM.NAME": "sgd",
    "OPTIM.LR": 0.05,
    "OPTIM.LR_SCHEDULER": "cosine",
    "OPTIM.MAX_EPOCH": 3,
    "OPTIM.WARMUP_EPOCH": 1,
    "OPTIM.WARMUP_TYPE": "constant",
    "TRAIN.PRINT_FREQ": 1,
    "TEST.PER_TASK_RESULT": True,
    "TRAINER.MTCOOP.N_CTX": 2,
    "TRAINER.MTCOOP.TASK_N_CTX": 2,
    "TRAINER.MTCOOP.CLASS_N_CTX": 2,
    "TRAINER.MTCOOPH.N_CTX": 2,
    "TRAINER.MTCOOP.PREC": "fp32",
    "TRAINER.MTCOOPH.PREC": "fp32",
    "TRAINER.ZSCLIP.PREC": "fp32",
    "TRAINER.LP.PREC": "fp32",
    "USE_CUDA": False,
    "VERBOSE": False,
}
BATCHES = 3  # training batches an epoch: 16 images of ToyBoth at 2 shots, the last short batch dropped


@dataclass(frozen=True)
class Lab:
    """Starts runs in ``output``, on the toy data in ``root``, with the backbone in the file ``backbone``."""

    root: Path
    backbone: Path
    output: Path

    def folder(self, run: str) -> Path:
        """The folder of the run called ``run``."""
        return self.output / "runs" / run

    def command(
        self,
        run: str = "run",
        *flags: str,
        trainer: str = "MTCoOp",
        dataset: str = "ToyBoth",
        backbone: str = "",
        seed: int = 1,
        **keys: object,
    ) -> list[str]:
        """Arguments of train.py; ``keys`` are config keys with "__" for the dots, e.g. OPTIM__LR=0.1."""
        places = ["--root", str(self.root), "--output-dir", str(self.folder(run))]
        names = ["--trainer", trainer, "--backbone", backbone or str(self.backbone), "--seed", str(seed)]
        settings = {"DATASET.NAME": dataset, **SETTINGS, **{k.replace("__", "."): v for k, v in keys.items()}}
        return [*places, *names, *flags, *(str(part) for pair in settings.items() for part in pair)]

    def main(self, *arguments: str, **options: object) -> int:
        """The exit code of train.py."""
        return train.main(self.command(*arguments, **options))

    def run(self, *arguments: str, **options: object) -> RunResult:
        """Start a run that must succeed, and read its result."""
        assert self.main(*arguments, **options) == 0
        return self.result(arguments[0] if arguments else "run")

    def trainer(self, *arguments: str, **options: object) -> PromptTuner:
        """The trainer of a run, ready to train."""
        return build_trainer(train.setup_cfg(train.parse(self.command(*arguments, **options))))

    def result(self, run: str = "run") -> RunResult:
        """The result of a finished run."""
        return read_results(self.folder(run))

    def log(self, run: str = "run") -> str:
        """The log of a run."""
        return (self.folder(run) / "log.txt").read_text()

    def files(self, run: str = "run") -> list[str]:
        """Paths of all files in a run folder but TensorBoard's, sorted."""
        folder = self.folder(run)
        paths = sorted(path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
        return [path.as_posix() for path in paths if path.parts[0] != "tensorboard"]

    def checkpoints(self, run: str = "run") -> dict[str, dict]:
        """Content of every checkpoint of a run, by path."""
        names = [name for name in self.files(run) if ".pth.tar" in name]
        return {name: torch.load(self.folder(run) / name, weights_only=True) for name in names}

    def learned(self, run: str = "run") -> dict[str, Tensor]:
        """All tensors of all checkpoints of a run."""
        contents = self.checkpoints(run).items()
        return {f"{name}:{key}": tensor for name, each in contents for key, tensor in each["state_dict"].items()}


def figures(result: RunResult) -> tuple:
    """What two runs of the same config must agree in."""
    digests = ("subset_digest", "test_digest", "config_digest")
    kept = ("metric", "tasks", "val", "best_epoch", "parameters", "counts", *digests, "seed")
    return tuple(getattr(result, name) for name in kept)


def counted(task: TaskResult) -> TaskResult:
    """A task without the figures of probabilities, whose last digits depend on how logits were rounded."""
    return replace(task, nll=None, ece=None)


def lasting(result: RunResult) -> RunResult:
    """A result without what may differ between two equal runs: times and memory."""
    return replace(result, seconds={}, memory={})


def same_tensors(mine: dict[str, Tensor], theirs: dict[str, Tensor]) -> bool:
    """Whether two runs learned bit for bit the same."""
    return mine.keys() == theirs.keys() and all(torch.equal(mine[key], theirs[key]) for key in mine)
