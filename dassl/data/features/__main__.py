"""List, check and prune a feature store.

  python -m dassl.data.features output/features                        list the views and their sizes
  python -m dassl.data.features output/features --verify               read everything and compare checksums
  python -m dassl.data.features output/features --drop '*/seed3-*'     show what would be deleted; --yes deletes it

A pattern is matched against ENCODER/TRANSFORM/VIEW as listed. A run makes dropped features again when it needs them.
"""

import argparse
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from functools import cached_property
from pathlib import Path

import numpy as np

from dassl.data.features.files import ABOUT, ReadOnlyError, ViewFiles, checks, open_shard, shard_files
from dassl.results.tables import Table
from dassl.utils.cli import Parser, exit_code
from dassl.utils.errors import UserError
from dassl.utils.files import read_json

_BLOCK = 4096
_SHOWN = 12  # characters of a digest


@dataclass(frozen=True)
class StoredView:
    """One view of a store."""

    folder: Path
    encoder: str
    transform: str
    view: str

    @property
    def name(self) -> str:
        """The text that patterns are matched against."""
        return f"{self.encoder}/{self.transform}/{self.view}"

    @cached_property
    def size(self) -> int:
        """Bytes of its files."""
        return sum(path.stat().st_size for path in self.folder.iterdir() if path.is_file())

    @property
    def shards(self) -> dict[Path, np.ndarray | None]:
        """Its shards; None stands for one that cannot be read."""
        return {path: open_shard(path) for path in shard_files(self.folder)}

    def row(self) -> list[str | int]:
        """Its row in the table."""
        shards = [shard for shard in self.shards.values() if shard is not None]
        names = [shard["image"] for shard in shards]
        images = len(np.unique(np.concatenate(names), axis=0)) if names else 0
        feature = shards[-1].dtype["feature"] if shards else np.dtype([])
        shape = " x ".join(map(str, feature.shape)) or "-"
        kind = str(feature.base) if shards else "-"
        return [self.encoder, self.transform, self.view, images, len(shards), shape, kind, mebibytes(self.size)]

    def damaged(self) -> list[str]:
        """One line for each shard that is damaged."""
        lines = []
        for path, shard in self.shards.items():
            if shard is None:
                lines.append(f"{path}: cannot be read")
                continue
            blocks = (np.arange(start, min(start + _BLOCK, len(shard))) for start in range(0, len(shard), _BLOCK))
            bad = sum(int((~checks(shard, block)).sum()) for block in blocks)
            if bad:
                lines.append(f"{path}: {bad} of {len(shard)} features are damaged")
        return lines


def stored_views(store: Path) -> list[StoredView]:
    """All views of a store, by name.

    Raises:
        UserError: the folder does not exist or is no store.
    """
    if not store.is_dir():
        raise UserError(f"{store} is no folder; name a feature store, e.g. output/features")
    folders = sorted({path.parent for path in store.glob("*/*/*/*") if path.name == ABOUT or path.suffix == ".npy"})
    if not folders and any(store.iterdir()):
        raise UserError(f"{store} holds no stored features; name a feature store, e.g. output/features")
    return sorted((_view(folder) for folder in folders), key=lambda view: view.name)


def _view(folder: Path) -> StoredView:
    try:
        about = read_json(folder / ABOUT)
        names = [str(about[key]) for key in ("encoder", "transform", "view")]
    except (UserError, KeyError, TypeError):  # no view depends on this file
        names = [folder.parents[1].name, folder.parent.name, folder.name]
    digest, dash, rest = names[0].partition("-")
    return StoredView(folder, f"{digest[:_SHOWN]}{dash}{rest}", names[1][:_SHOWN], names[2])


def drop(views: Sequence[StoredView]) -> None:
    """Delete views, except those that a run is writing now.

    Raises:
        UserError: a folder is not writable.
    """
    for view in views:
        try:
            with ViewFiles(view.folder, np.dtype("<f4"), {}).exclusive():
                shutil.rmtree(view.folder)
        except (ReadOnlyError, OSError) as error:
            raise UserError(f"cannot delete {view.folder}; you need the right to write there") from error


def mebibytes(size: int) -> str:
    """A size in MiB, as text."""
    return f"{size / 2**20:,.1f} MiB"


def run(args: argparse.Namespace) -> None:
    """Carry out the command line."""
    views = stored_views(args.folder)
    if args.drop is not None:
        chosen = [view for view in views if fnmatch(view.name, args.drop)]
        if not chosen:
            raise UserError(f"--drop {args.drop!r} matches none of the {len(views)} views in {args.folder}")
        for view in chosen:
            print(f"{view.name}  {mebibytes(view.size)}")
        total = mebibytes(sum(view.size for view in chosen))
        if args.yes:
            drop(chosen)
        print(f"{len(chosen)} views, {total}: " + ("deleted" if args.yes else "nothing was deleted; add --yes for it"))
        return
    if args.verify:
        damaged = [line for view in views for line in view.damaged()]
        if damaged:
            raise UserError("\n".join([*damaged, "they are made again when a run needs them"]))
        print(f"{len(views)} views are whole")
        return
    header = ["encoder", "transform", "view", "images", "shards", "shape", "dtype", "size"]
    print(Table(header, [view.row() for view in views]).text(), end="")
    print(f"{len(views)} views, {mebibytes(sum(view.size for view in views))}")


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit code: 0, or 2 if something is damaged or wrong."""
    parser = Parser(prog="python -m dassl.data.features", description=__doc__)
    parser.add_argument("folder", type=Path, help="the store, e.g. output/features")
    parser.add_argument("--verify", action="store_true", help="compare the checksums of all features")
    parser.add_argument("--drop", metavar="PATTERN", help="delete the views that match")
    parser.add_argument("--yes", action="store_true", help="with --drop: really delete")
    return exit_code(lambda: run(parser.parse_args(arguments)))


if __name__ == "__main__":
    sys.exit(main())
