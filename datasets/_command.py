"""What ``datasets.check`` and ``datasets.fetch`` share: the command line and the choice of data sets."""

import argparse
from pathlib import Path

from yacs.config import CfgNode

from dassl.config import get_cfg_default, merge_cfg
from dassl.data.dataset import DATASET_REGISTRY, DatasetBase, Suite
from dassl.utils.cli import Parser
from dassl.utils.tools import CHECKOUT

_CONFIGS = CHECKOUT / "configs" / "datasets"


def build_parser(program: str, description: str | None, epilog: str) -> argparse.ArgumentParser:
    """The arguments of both commands."""
    parser = Parser(prog=f"python -m datasets.{program}", description=description, epilog=epilog)
    parser.add_argument("suite", metavar="SUITE", help="a suite or a data set: RS8, or rs8, or the path of a yaml file")
    parser.add_argument("--root", default="", metavar="DATA", help="folder that holds the data folders")
    return parser


def read_choice(suite: str, root: str) -> CfgNode:
    """The config that names a suite or data set: by its registered name, its yaml's name, or the path of a yaml.

    Raises:
        UserError: there is no such suite or data set.
    """
    cfg = get_cfg_default()
    yaml = next(
        (path for path in (Path(suite), _CONFIGS / f"{suite}.yaml") if path.suffix == ".yaml" and path.is_file()), None
    )
    if suite in DATASET_REGISTRY or yaml is None:
        cfg.DATASET.NAME = suite
    else:
        merge_cfg(cfg, files=[yaml])
    if root:
        cfg.DATASET.ROOT = root
    cfg.SEED = 0
    DATASET_REGISTRY.get(cfg.DATASET.NAME)
    return cfg


def members_of(cfg: CfgNode) -> list[type[DatasetBase]]:
    """The data sets of the chosen suite, or only the chosen data set."""
    chosen = DATASET_REGISTRY.get(cfg.DATASET.NAME)
    return chosen.member_classes(cfg) if issubclass(chosen, Suite) else [chosen]
