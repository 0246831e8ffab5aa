"""Runs without space or rights: each on a file system of its own, in a mount namespace that ends with the process.

``python -m tests.chaos.starve ROOT BACKBONE FOLDER`` carries out all cases and prints a line of JSON for
each: the exit code and the errors of the run that starved, what it left unfinished, and in what the same command, once
there is space, differs from an undisturbed run.
"""

import contextlib
import io
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from dassl.data import workers as readers
from tests.chaos.states import differences, leftovers, state
from tests.lab import Lab

PAGE = 4096
KEYS = {"OPTIM__MAX_EPOCH": 2, "OPTIM__WARMUP_EPOCH": 0}


@dataclass(frozen=True)
class Case:
    """What is mounted, and where.

    Attributes:
        place: "run", "features", "cache", "data" or "tmp".
        options: of a tmpfs; "" for a read-only view of what is there.
        pages: so many pages of the tmpfs are free when the run begins.
        keys: config keys of the run.
    """

    place: str
    options: str = ""
    pages: int | None = None
    keys: tuple[tuple[str, object], ...] = ()


FULL = "size=4m"
STORED = (("DATALOADER__FEATURES", True),)
WORKERS = (("DATALOADER__NUM_WORKERS", 2),)
CASES = {
    **{f"output, {pages} pages": Case("run", FULL, pages) for pages in (0, 6)},
    "output, no inodes": Case("run", "nr_inodes=6"),
    "features": Case("features", FULL, 2, STORED),
    "features, no inodes": Case("features", "nr_inodes=3", None, STORED),
    "cache": Case("cache", FULL, 0),
    "cache, data read-only": Case("cache data", FULL, 0),
    "data": Case("data", FULL, 0),
    "tmp": Case("tmp", FULL, 0, WORKERS),
    "tmp, no inodes": Case("tmp", "nr_inodes=1", None, WORKERS),
    "output read-only": Case("run"),
    "features read-only": Case("features", keys=STORED),
    "cache read-only": Case("cache"),
    "data read-only": Case("data"),
    "data and cache read-only": Case("data cache"),
}


@dataclass(frozen=True)
class Starved:
    """Runs of one case in folders of its own."""

    case: Case
    lab: Lab
    folder: Path

    def place(self, name: str) -> Path:
        """A folder that can be mounted on."""
        named = {"run": self.lab.folder("run"), "data": self.lab.root}
        return named.get(name, self.folder / name)

    def run(self, run: str = "run") -> tuple[int, str]:
        """The exit code and what stands on standard error."""
        folders = {"DATASET__CACHE_DIR": self.place("cache"), "DATALOADER__FEATURES_DIR": self.place("features")}
        errors = io.StringIO()
        with contextlib.redirect_stderr(errors), contextlib.redirect_stdout(io.StringIO()):
            code = self.lab.main(run, **KEYS, **folders, **dict(self.case.keys))
        return code, errors.getvalue()

    @contextlib.contextmanager
    def starving(self) -> Iterator[Callable[[], None]]:
        """Mount what the case says; yields what gives space and rights back."""
        places = [self.place(name) for name in self.case.place.split()]
        for place in places:
            place.mkdir(parents=True, exist_ok=True)
        first, *others = places
        for place in others if self.case.options else places:
            read_only(place)
        if self.case.options:
            tmpfs(first, self.case.options)
            if first == self.lab.root:
                shutil.copytree(self.folder / "pictures", first, dirs_exist_ok=True)
            fill(first / "filler", self.case.pages)
        tempfile.tempdir = str(first) if self.case.place == "tmp" else None
        yield lambda: self._feed(places)
        tempfile.tempdir = None
        for place in places:
            subprocess.run(["umount", "--lazy", str(place)], check=True)

    def _feed(self, places: list[Path]) -> None:
        first, *others = places
        for place in others if self.case.options else places:
            subprocess.run(["mount", "-o", "remount,bind,rw", str(place)], check=True)
        if self.case.options:
            (first / "filler").unlink(missing_ok=True)
            subprocess.run(["mount", "-o", "remount,size=16m,nr_inodes=1000", str(first)], check=True)


def tmpfs(place: Path, options: str) -> None:
    """A small file system."""
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(place)], check=True)


def read_only(place: Path) -> None:
    """A view of a folder through which nothing can be written."""
    subprocess.run(["mount", "--bind", str(place), str(place)], check=True)
    subprocess.run(["mount", "-o", "remount,bind,ro", str(place)], check=True)


def fill(path: Path, pages: int | None) -> None:
    """Leave only so many pages of a file system free."""
    if pages is None:
        return
    with path.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while file.write(bytes(PAGE)) == PAGE:
            pass
    os.truncate(path, path.stat().st_size - pages * PAGE)


def carry_out(case: Case, pictures: Path, backbone: Path, folder: Path, peace: dict) -> dict[str, object]:
    """A run that starves, the same command with space, and (once for each kind) an undisturbed run."""
    for place in ("pictures", "data"):  # few-shot files of other tests in them would not have to be written
        shutil.copytree(pictures, folder / place, ignore=shutil.ignore_patterns("split_fewshot*"))
    starved = Starved(case, Lab(folder / "data", backbone, folder / "output"), folder)
    with starved.starving() as feed:
        code, errors = starved.run()
        left = leftovers(starved.lab.output, *(starved.place(name) for name in ("features", "cache", "data")))
        finished = (starved.lab.folder("run") / "results.json").is_file()
        feed()
        again = starved.run()
        found = state(starved.lab.folder("run"))
        if case.keys not in peace:
            starved.run("peace")
            peace[case.keys] = state(starved.lab.folder("peace"))
    return {
        "code": code,
        "errors": errors,
        "left": left,
        "finished": finished,
        "again": again,
        "differences": [text for text in differences(found, peace[case.keys]) if "config.yaml" not in text],
    }


def main(pictures: str, backbone: str, folder: str) -> None:
    """All cases, a line each."""
    readers.SILENCE_S = 2
    peace: dict = {}
    for number, (name, case) in enumerate(CASES.items()):
        found = carry_out(case, Path(pictures), Path(backbone), Path(folder) / str(number), peace)
        print(json.dumps({"case": name, **found}), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
