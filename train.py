"""Train or evaluate one run: flags and files make a config, the config makes a trainer."""

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from yacs.config import CfgNode

from dassl.config import get_cfg_default, merge_cfg
from dassl.engine.published import apply_published
from dassl.engine.run import run
from dassl.registries import TRAINER_REGISTRY
from dassl.results.methods import by_label, key_groups, read_methods
from dassl.utils.cli import Parser, exit_code
from dassl.utils.errors import UserError
from dassl.utils.logger import setup_logger
from dassl.utils.registry import nearest
from dassl.utils.tools import CHECKOUT

_EPILOG = """\
order: defaults, --dataset-config-file, --config-file, the settings of the method's authors by shots and data set (if
a config file requests them), flags, KEY VALUE pairs; later ones win.
All keys with their meaning and default: docs/config.md.

example: train on the embedded suite, 4 shots
  python train.py --trainer MTCoOp --dataset-config-file configs/datasets/demo6.yaml \\
    --config-file configs/trainers/MTCoOp/demo.yaml --output-dir output/first --seed 1 DATASET.NUM_SHOTS 4
"""


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = Parser(prog="train.py", description=__doc__, epilog=_EPILOG)
    add = parser.add_argument
    add("--root", default="", metavar="DIR", help="folder that holds the data folders (DATASET.ROOT)")
    add("--output-dir", default="", metavar="DIR", help="folder of this run (OUTPUT_DIR)")
    add(
        "--resume",
        default="",
        metavar="DIR",
        help="resume from the newest checkpoint in this folder; --output-dir is resumed by itself",
    )
    add(
        "--seed",
        type=int,
        default=None,
        help="seed of everything random, 0 or more; without it one is drawn and logged",
    )
    add("--transforms", nargs="+", default=[], metavar="NAME", help="training transforms (INPUT.TRANSFORMS)")
    add("--config-file", default="", metavar="YAML", help="config of the method: a path, or a name below its folder")
    add("--dataset-config-file", default="", metavar="YAML", help="config of the data set or suite: path or name")
    add("--trainer", default="", help="method: its name in tables, e.g. SoftCPT-NATA, or TRAINER.NAME, e.g. MTCoOp")
    add("--backbone", default="", help="frozen model, e.g. RN50 (MODEL.BACKBONE.NAME)")
    add("--head", default="", help="accepted for old commands (MODEL.HEAD.NAME); no method here has a head")
    add(
        "--eval-only",
        action="store_true",
        help="only evaluate: the run in --model-dir, or a method that learns nothing",
    )
    add("--model-dir", default="", metavar="DIR", help="run folder whose learned tensors are evaluated")
    add(
        "--load-epoch",
        type=int,
        default=None,
        metavar="N",
        help="epoch to evaluate; default: best on val, else the last",
    )
    add("--print-config", action="store_true", help="log the whole config at the start (VERBOSE True)")
    add("--no-train", action="store_true", help="build everything, check it, and stop")
    add("--old-data-path", default="", help=argparse.SUPPRESS)
    add("--new-data-path", default="", help=argparse.SUPPRESS)
    add(
        "opts",
        nargs=argparse.REMAINDER,
        metavar="KEY VALUE",
        help="config keys, e.g. DATASET.NUM_SHOTS 16 OPTIM.LR 0.002",
    )
    return parser


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line (``None``: that of the process).

    Raises:
        UserError: a flag is unknown, has a wrong value, or does not go with the others.
    """
    args = build_parser().parse_args(argv)
    if not args.eval_only and (args.model_dir or args.load_epoch is not None):
        raise UserError("--model-dir and --load-epoch say what to evaluate; add --eval-only")
    late = [word for word in args.opts if word.startswith("--")]
    if late:
        raise UserError(f"{late[0]} comes after the first KEY VALUE pair; give all flags before the pairs")
    # --transforms takes many words; config keys after it are not transforms.
    keys = [place for place, word in enumerate(args.transforms) if word.isupper() or "." in word]
    if keys:
        args.opts = [*args.transforms[keys[0] :], *args.opts]
        args.transforms = args.transforms[: keys[0]]
    return args


def setup_cfg(args: argparse.Namespace) -> CfgNode:
    """Defaults, files, flags and pairs -> a frozen config.

    Raises:
        UserError: one line per problem.
    """
    cfg = get_cfg_default()
    trainer, _ = method_named(args.trainer)
    data = _find(args.dataset_config_file, CHECKOUT / "configs/datasets")
    method = _find(args.config_file, CHECKOUT / "configs/trainers" / trainer)
    _refuse_other_method(method, trainer)
    pairs = [*flag_pairs(args), *args.opts]
    files = [path for path in (data, method) if path]
    merge_cfg(cfg, files=files, pairs=pairs)
    apply_published(cfg, named=pairs[::2])
    cfg.freeze()
    return cfg


def method_named(name: str) -> tuple[str, list[str]]:
    """Registered trainer and KEY VALUE pairs of a method, given by its name in tables or by its trainer's name."""
    if name in TRAINER_REGISTRY or not name:
        return name, []
    row = by_label("SoftCPT-NATA" if name.casefold() == "softcpt" else name)
    if row is None:
        close = nearest(name, [*TRAINER_REGISTRY.names(), *read_methods()])
        hint = (
            f"did you mean {' or '.join(close)}?" if close else f"choose one of {', '.join(TRAINER_REGISTRY.names())}"
        )
        raise UserError(f"unknown trainer {name!r}; {hint}")
    return row.trainer, [text for key, value in row.options.items() for text in (key, str(value))]


def _refuse_other_method(config: Path | None, trainer: str) -> None:
    """A shipped config of a method whose keys the trainer does not read has no effect (raise UserError)."""
    if config is None or not trainer:
        return
    groups, owner = key_groups(), config.resolve().parent.name
    ours = config.resolve().parent.parent == CHECKOUT.resolve() / "configs/trainers"
    if ours and trainer in groups and groups.get(owner, groups[trainer]) != groups[trainer]:
        raise UserError(
            f"{config} is a config of {owner}, and the trainer is {trainer}; use one of configs/trainers/{trainer}"
        )


def flag_pairs(args: argparse.Namespace) -> list[str]:
    """The flags for config keys, as KEY VALUE pairs; last the options of a method that is named as in tables."""
    trainer, options = method_named(args.trainer)
    flags = {
        "DATASET.ROOT": str(Path(args.root).expanduser().absolute()) if args.root else "",
        "OUTPUT_DIR": str(Path(args.output_dir).expanduser()) if args.output_dir else "",
        "RESUME": args.resume,
        "SEED": "" if args.seed is None else str(args.seed),
        "INPUT.TRANSFORMS": ",".join(args.transforms),
        "TRAINER.NAME": trainer,
        "VERBOSE": "True" if args.print_config else "",
        "MODEL.BACKBONE.NAME": args.backbone,
        "MODEL.HEAD.NAME": args.head,
    }
    return [*(part for key, value in flags.items() if value for part in (key, value)), *options]


def _find(name: str, folder: Path) -> Path | None:
    """A config file: a path from the current folder, or else from the checkout, or a name in ``folder``."""
    if not name:
        return None
    path = Path(name).expanduser()
    choices = (path, CHECKOUT / path, folder / f"{name}.yaml")
    return next((choice for choice in choices if choice.is_file()), path)


def _carry_out(argv: Sequence[str] | None) -> None:
    args = parse(argv)
    setup_logger(None)
    cfg = setup_cfg(args)
    if args.old_data_path or args.new_data_path:
        logging.getLogger(__name__).info("--old-data-path, --new-data-path: not needed, no file holds absolute paths")
    run(cfg, eval_only=args.eval_only, model_dir=args.model_dir, load_epoch=args.load_epoch, no_train=args.no_train)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code: 0 done, 2 a mistake of the user, 130 interrupted."""
    return exit_code(
        lambda: _carry_out(argv),
        interrupted="interrupted; the same command resumes after the last finished epoch",
    )


if __name__ == "__main__":
    sys.exit(main())
