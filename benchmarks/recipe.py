"""The study behind configs/trainers/*/own.yaml: optimiser, rate, length and views of the training of own tasks.

Every variant trains each prompt method on the suites of ``datasets/_render/study.py``, 4 images per class, with the
demo backbone. The figure is the mean accuracy on their held-out images, in percent. docs/recipe.md shows the result.

  python -m benchmarks.recipe OUTPUT            all variants, seed 1 (132 runs; about an hour on one core)
  python -m benchmarks.recipe OUTPUT --seeds 1,2 --variants "adam 0.002; sgd 0.002"

After an interruption the same command resumes.
"""

import argparse
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path

import yaml

import train
from dassl.results.record import read_results
from dassl.results.tables import Table
from dassl.utils.errors import UserError
from dassl.utils.files import write_text
from datasets._render.study import SUITES, tasks, write_study

METHODS = ("CoOp-MT", "CoOp-CA-joint", "SoftCPT-NATA", "SoftCPT-NATS")
SHOTS = 4
_VIEWS = {"INPUT.TRANSFORMS": "random_resized_crop,normalize", "INPUT.RRCROP_SCALE": "(0.6,1.0)", "INPUT.VIEWS": 10}


def _variant(optimiser: str, rate: float, steps: int = 400, **keys: object) -> dict[str, object]:
    return {"OPTIM.NAME": optimiser, "OPTIM.LR": rate, "OPTIM.MIN_STEPS": steps, **keys}


VARIANTS: dict[str, dict[str, object]] = {
    **{f"sgd {rate}, 100 steps": _variant("sgd", rate, 100) for rate in (0.002, 0.02, 0.1)},
    **{f"sgd {rate}": _variant("sgd", rate) for rate in (0.002, 0.02, 0.1)},
    "sgd 0.002, 1200 steps": _variant("sgd", 0.002, 1200),
    **{f"adam {rate}": _variant("adam", rate) for rate in (0.0005, 0.002, 0.01)},
    "adam 0.002, normalised": _variant("adam", 0.002, **{"TRAINER.MTCOOP.NORMALIZE": True}),
    "adam 0.002, shared": _variant("adam", 0.002, **{"TRAINER.MTCOOP.SHARED_CTX": True}),
    "adam 0.002, shared normalised": _variant(
        "adam", 0.002, **{"TRAINER.MTCOOP.NORMALIZE": True, "TRAINER.MTCOOP.SHARED_CTX": True}
    ),
    "adam 0.002, 10 views": {**_variant("adam", 0.002), **_VIEWS},
}


def accuracy(variant: str, suite: str, method: str, seed: int, folder: Path) -> float:
    """Mean accuracy over the tasks of a suite in percent; the run is made unless it is there.

    Raises:
        UserError: the run failed.
    """
    run = folder / "runs" / variant.replace(", ", "-").replace(" ", "-") / suite / method / f"seed{seed}"
    keys = {
        **VARIANTS[variant],
        "DATASET.NUM_SHOTS": SHOTS,
        "TEST.FINAL_MODEL": "last_step",
        "DATALOADER.FEATURES_DIR": folder / "features",
        "DATALOADER.NUM_WORKERS": 0,
        "TRAIN.LOGGERS": "()",
    }
    names = ["--trainer", method, "--config-file", "own", "--backbone", "demo", "--seed", str(seed)]
    places = ["--dataset-config-file", str(folder / f"{suite}.yaml"), "--root", str(folder / "images")]
    pairs = [str(part) for pair in keys.items() for part in pair]
    if train.main([*names, *places, "--output-dir", str(run), *pairs]):
        raise UserError(f"the run in {run} failed; its log.txt says why")
    metric = read_results(run).metric
    assert metric is not None, f"{run} has no figure"
    return metric


def study(folder: Path, variants: Sequence[str], seeds: Sequence[int]) -> Table:
    """Make all runs; a row for each variant with the means of the methods and of all."""
    write_study(folder / "images")
    for suite in SUITES:
        write_text(folder / f"{suite}.yaml", yaml.safe_dump(tasks(suite), sort_keys=False))
    rows = []
    for variant in variants:
        means = [
            statistics.fmean(accuracy(variant, suite, method, seed, folder) for suite in SUITES for seed in seeds)
            for method in METHODS
        ]
        rows.append([variant, *(f"{mean:.1f}" for mean in [*means, statistics.fmean(means)])])
    return Table(["variant", *METHODS, "mean"], rows)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program; exit code 2 with one line for a mistake of the user."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, metavar="OUTPUT", help="folder of images, runs and features")
    parser.add_argument("--variants", default="; ".join(VARIANTS), help="some of them, with semicolons between")
    parser.add_argument("--seeds", default="1")
    args = parser.parse_args(argv)
    try:
        table = study(args.folder, chosen(args.variants), [int(seed) for seed in args.seeds.split(",")])
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(table.markdown())
    return 0


def chosen(text: str) -> list[str]:
    """The variants that ``text`` names, separated by semicolons.

    Raises:
        UserError: one is unknown.
    """
    names = [name.strip() for name in text.split(";")]
    for name in names:
        if name not in VARIANTS:
            raise UserError(f"unknown variant {name!r}; choose among {'; '.join(VARIANTS)}")
    return names


if __name__ == "__main__":
    raise SystemExit(main())
