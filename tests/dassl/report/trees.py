"""Trees of run folders, as a sweep leaves them, without any training."""

import random
from pathlib import Path

import yaml

from dassl.results.methods import read_methods
from dassl.results.record import BackboneInfo, RunResult, TaskResult, write_results
from dassl.utils.files import write_text

TASKS = ("animals", "textures", "food")
# How good the methods of a made-up suite are: at one shot, and what each doubling of the shots adds.
LEVELS = {
    "ZS-CLIP": (58, 0), "ProtoNet": (20, 6), "LP-CLIP": (38, 9), "CoOp-CA": (59, 3.6), "CoOp-CS": (46, 7),
    "CoOp-MT": (58, 2.7), "CoCoOp": (59, 2.4), "ProGrad": (61, 3.2), "KgCoOp": (62.5, 2), "PLOT": (60.5, 3.4),
    "SoftCPT*": (58.5, 4), "SoftCPT-NATS": (59, 3.9), "SoftCPT-NATA": (59.5, 3.8),
}  # fmt: skip


def write_run(
    top,
    label,
    *,
    shots=4,
    seed=1,
    metrics=(60.0, 70.0, 80.0),
    tasks=TASKS,
    suite="Toy3",
    choice="all",
    classes="all",
    config=None,
    place="",
    finished=True,
    **changes,
):
    """A run of the method called ``label`` (or of a trainer of that name); ``metrics`` belong to ``tasks``."""
    method = read_methods().get(label)
    trainer = method.trainer if method else label
    inner = f"{classes}/" * (classes != "all") + f"{choice}/" * (choice != "all") + place
    folder = Path(top) / suite / trainer / f"rn50_{shots}shots" / (label.strip("*") + "/" + inner) / f"seed{seed}"
    options = {
        "TRAINER.NAME": trainer,
        "DATASET.NAME": suite,
        "DATASET.NUM_SHOTS": shots,
        "DATASET.SUBSAMPLE_CLASSES": classes,
        "DATASET.SUBSAMPLE_TASKS": choice,
        "MODEL.BACKBONE.NAME": "RN50",
        "SEED": seed,
        "OUTPUT_DIR": str(folder),
        **(method.options if method else {}),
        **(config or {}),
    }
    write_text(folder / "config.yaml", yaml.safe_dump(_nested(options)))
    if not finished:
        write_text(folder / "log.txt", "epoch [1/50][1/2]\ttime 0.1 (0.1)\n")
        return folder
    learns = method is None or method.learns
    rest = {
        "mode": "train" if learns else "eval",
        "parameters": 8192 if learns else 0,
        "subset_digest": f"subset {suite} {shots} {seed}",
        "test_digest": f"test {suite}",
        "config_digest": str(sorted(options.items())),
        **changes,
    }
    places = {"trainer": trainer, "dataset": suite, "shots": shots, "seed": seed}
    write_results(folder, result_of(tasks, metrics, **places, classes=classes, task_choice=choice, **rest))
    return folder


def result_of(tasks, metrics, *, shots, **fields):
    """What a run with these figures leaves behind; ``fields`` are those of RunResult."""
    known = [value for value in metrics if value is not None]
    figures = enumerate(zip(tasks, metrics, strict=True))
    usual = {
        "split": "test",
        "epochs": 50,
        "seconds": {"train": 30.0 * shots, "test": 2.0, "total": 33.0 * shots},
        "metric": sum(known) / len(known) if known else None,
        "tasks": tuple(TaskResult(i, name, value, "mean_acc", 300, 10) for i, (name, value) in figures),
        "device": "NVIDIA H100",
        "versions": {"python": "3.11.7", "torch": "2.12.1"},
        "backbone": BackboneInfo("RN50", "0" * 64, "fp16"),
    }
    return RunResult(shots=shots, **{**usual, **fields})


def write_sweep(top, *, suite="General10", labels=tuple(LEVELS), tasks=TASKS, shots=(1, 2, 4, 8, 16), seeds=(1, 2, 3)):
    """All runs of a table, made up: task by task where the paper does so."""
    for label in labels:
        method, (level, gain) = read_methods()[label], LEVELS[label]
        noise = random.Random(label + suite)
        cells = [(each, seed) for each in shots for seed in seeds] if method.learns else [(1, 1)]
        for each, seed in cells:
            offset = [-12 + 24 * n / max(len(tasks) - 1, 1) for n in range(len(tasks))]
            metrics = [
                level + plus + gain * (each.bit_length() - 1) * (1 + plus / 60) + noise.gauss(0, 6 / (1 + each))
                for plus in offset
            ]
            common = {"shots": each, "seed": seed, "suite": suite}
            size = 8192 if method.per_task else 8_392_704
            if not method.learns:
                write_run(top, label, metrics=metrics, tasks=tasks, **common, seconds={})
            elif method.per_task:
                for n, task in enumerate(tasks):
                    write_run(
                        top, label, metrics=metrics[n : n + 1], tasks=(task,), choice=f"task{n}", **common,
                        parameters=size, seconds={"train": 12.0 * each + 20 * gain},
                    )  # fmt: skip
            else:
                write_run(
                    top, label, metrics=metrics, tasks=tasks, **common, parameters=size,
                    seconds={"train": 60.0 * each + 30 * gain},
                )  # fmt: skip


def write_base_to_new(top, *, labels=("CoOp-MT", "SoftCPT-NATA"), seeds=(1, 2), shots=16):
    """Base-to-new runs: the first half of the classes in training, the other half in an evaluation."""
    for n, label in enumerate(labels):
        for seed in seeds:
            common = {"shots": shots, "seed": seed}
            write_run(top, label, classes="base", metrics=(80.0 + n, 60.0 + seed, 70.0), **common)
            write_run(top, label, classes="new", metrics=(60.0 + n, 50.0, 40.0 + seed), mode="eval", **common)


def _nested(options):
    tree = {}
    for key, value in options.items():
        node = tree
        *path, last = key.split(".")
        for part in path:
            node = node.setdefault(part, {})
        node[last] = value
    return tree


def write_example(top):
    """The tree whose tables docs/tables.md shows."""
    write_sweep(top, labels=("ZS-CLIP", "CoOp-CA", "SoftCPT-NATS", "SoftCPT-NATA"), shots=(1, 16))
    for path in (top / "General10/MTCoOp/rn50_16shots/SoftCPT-NATS/seed3").iterdir():
        path.unlink()
    write_base_to_new(top / "base2new")
    for seed in (1, 2):
        common = {"suite": "NewTasks", "shots": 16, "seed": seed}
        write_run(top, "SoftCPT-NATA", choice="base", tasks=TASKS[:2], metrics=(62.0, 70.0 + seed), **common)
        write_run(top, "SoftCPT-NATA", choice="new", tasks=TASKS[2:], metrics=(50.0 + seed,), mode="eval", **common)
    write_run(top, "ZS-CLIP", choice="base", tasks=TASKS[:2], metrics=(55.0, 60.0), suite="NewTasks")
    write_run(top, "ZS-CLIP", choice="new", tasks=TASKS[2:], metrics=(51.0,), suite="NewTasks")
