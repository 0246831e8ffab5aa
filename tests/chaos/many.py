"""Many processes at once, on one machine and on two that share a folder, compared with a run that was alone."""

import errno
import io
import json
import os
import platform
import re
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors.torch import save_file

import sweep
import train
from dassl.data.features.__main__ import main as features_main
from dassl.data.features.store import FeatureStore
from dassl.data.own.splitfile import ClassImages, SplitFile
from dassl.sweep import executor_config
from dassl.utils import locks, owners
from tests.chaos.children import fork, wait
from tests.chaos.states import differences, leftovers, state
from tests.clip.helpers import openai_state, random_model
from tests.dassl.data.toy import write_toy
from tests.dassl.sweep.small import Here, Small
from tests.lab import Lab

COUNT = 8
KEYS = {"DATALOADER__FEATURES": True, "OPTIM__MAX_EPOCH": 2, "OPTIM__WARMUP_EPOCH": -1, "TRAIN__LOGGERS": ()}
WAITS = "wait for it, or use another --output-dir"
RATIOS = (0.5, 0.2, 0.3)
Prepare = Callable[[int], object]


@dataclass(frozen=True)
class Place:
    """A folder with toy data and a tiny backbone; each scenario gets a folder of its own below it."""

    top: Path

    @classmethod
    def made(cls, top: Path) -> "Place":
        """Write the data and the backbone."""
        write_toy(top / "toy")
        save_file(openai_state(random_model("vit")), top / "vit.safetensors")
        return cls(top)

    def lab(self, name: str) -> Lab:
        """Runs with data, cache and stored features that nobody has used."""
        root = self.top / name / "toy"
        shutil.copytree(self.top / "toy", root)
        return Lab(root, self.top / "vit.safetensors", self.top / name / "output")


# -- machines --------------------------------------------------------------------------------------------------


def one_machine(number: int) -> None:
    """All processes are on this machine."""


def no_flock(number: int) -> None:
    """All processes are on this machine, on a file system without flock."""

    def flock(descriptor: int, operation: int) -> None:
        raise OSError(errno.ENOSYS if number % 2 else errno.ENOLCK, "no locks available")

    locks.fcntl.flock = flock


def two_machines(number: int) -> None:
    """Every second process is on another machine, and there is no flock."""
    no_flock(number)
    _move(number)


def local_flock(number: int) -> None:
    """Every second process is on another machine, whose flock does not reach the first."""
    locks.fcntl.flock = lambda descriptor, operation: None
    _move(number)


def _move(number: int) -> None:
    locks.BEAT, locks.SILENCE = 0.2, 20.0
    if number % 2:
        platform.node = lambda: "another-machine"
        owners.boot = lambda: "the boot of the other machine"  # type: ignore[assignment]
        owners.here.cache_clear()


MACHINES: dict[str, Prepare] = {
    "one machine": one_machine,
    "no flock": no_flock,
    "two machines, no flock": two_machines,
    "two machines, flock of each its own": local_flock,
}


def together(
    main: Callable[[Sequence[str]], int], arguments: Sequence[Sequence[str]], folder: Path, prepare: Prepare
) -> list[tuple[int | None, str]]:
    """(exit code, output) of processes that begin at the same moment."""
    folder.mkdir(parents=True, exist_ok=True)
    ready, go = os.pipe()
    children = []
    for number, words in enumerate(arguments):

        def begin(number: int = number) -> None:
            os.close(go)
            prepare(number)
            os.read(ready, 1)  # ends when the parent closes its end

        output = folder / f"{number}.txt"
        children.append((fork(main, words, output, prepare=begin), output))
    os.close(go)
    os.close(ready)
    return [(wait(pid), output.read_text(encoding="utf-8")) for pid, output in children]


# -- scenarios: each gives what is wrong, a line each ----------------------------------------------------------


def same_run(place: Place, machines: str, count: int) -> Iterator[str]:
    """All start the same run: one does it, the others say who does or find it done."""
    lab = place.lab(f"same run, {machines}")
    ends = together(train.main, [lab.command("run", **KEYS)] * count, lab.output.parent / "out", MACHINES[machines])
    yield from _wrong_ends(ends, f"another run is at work in {lab.folder('run')} (process ")
    yield from _compare(place, lab.folder("run"))
    yield from _trained_twice(lab.folder("run"))
    yield from leftovers(lab.output)


def shared_files(place: Place, machines: str, count: int) -> Iterator[str]:
    """Each does a run of its own; they share stored features, digests of pictures, few-shot and split files."""
    lab = place.lab(f"shared, {machines}")
    commands = [lab.command(f"run{number}", **KEYS) for number in range(count)]
    encode = FeatureStore._features

    def slowly(*arguments: Any) -> Any:
        time.sleep(0.3)  # so that the others come meanwhile
        return encode(*arguments)

    def prepare(number: int) -> None:
        FeatureStore._features = slowly  # type: ignore[method-assign]
        MACHINES[machines](number)

    for code, output in together(train.main, commands, lab.output.parent / "out", prepare):
        if code != 0:
            yield f"ended with {code}: {output[-500:]}"
    for number in range(count):
        yield from _compare(place, lab.folder(f"run{number}"))
    once, encoded = _encoded([alone(place)]), _encoded(lab.output.glob("runs/*"))
    if encoded != once:
        yield f"{encoded} images were encoded, {once} would have been enough"
    with redirect_stdout(io.StringIO()):
        if features_main([str(lab.output / "features"), "--verify"]) != 0:
            yield "stored features are damaged"
    yield from leftovers(lab.output)


def own_split(place: Place, machines: str, count: int) -> Iterator[str]:
    """Each splits the images of a task of its own; all parts stand in one file."""
    folder = place.top / f"own split, {machines}"
    images = {number: [f"{number}/{image}.png" for image in range(10)] for number in range(count)}
    for image in (image for group in images.values() for image in group):
        (folder / image).parent.mkdir(parents=True, exist_ok=True)
        (folder / image).touch()
    file = SplitFile((folder / "parts.json", folder / "spare" / "parts.json"), folder)

    def split(words: Sequence[str]) -> int:
        number = int(words[0])
        file.complete([ClassImages(images[number], RATIOS)], {}, {f"task {number}": RATIOS})
        return 0

    for code, output in together(split, [[str(number)] for number in images], folder / "out", MACHINES[machines]):
        if code != 0:
            yield f"ended with {code}: {output[-500:]}"
    content = json.loads((folder / "parts.json").read_text(encoding="utf-8"))
    stored = [image for part in ("train", "val", "test") for image in content[part]]
    if sorted(stored) != sorted(image for group in images.values() for image in group):
        yield f"the file names {len(stored)} of {10 * count} images"
    if len(content["ratios"]) != count:
        yield f"the file has the shares of {len(content['ratios'])} of {count} tasks"


def two_sweeps(place: Place, machines: str, count: int) -> Iterator[str]:
    """All start the same sweep: one does it, the others say who does or find it done."""
    small = Small(place.top / f"sweeps, {machines}", place.top / "vit.safetensors").write(shots=[1], seeds=[1, 2])

    def prepare(number: int) -> None:
        executor_config.Processes = lambda jobs, **options: Here(jobs)  # type: ignore[assignment,misc]
        MACHINES[machines](number)

    ends = together(sweep.main, [small.command("--jobs", "1")] * count, small.folder / "out", prepare)
    yield from _wrong_ends(ends, f" is at work in {small.output} (process ")
    folders = [path.parent for path in small.output.rglob("results.json")]
    if len(folders) != 2:
        yield f"{len(folders)} of 2 runs are done"
    for folder in folders:
        yield from _trained_twice(folder)
    yield from leftovers(small.output)


def _wrong_ends(ends: Sequence[tuple[int | None, str]], line: str) -> Iterator[str]:
    if all(code != 0 for code, _ in ends):
        yield "nobody has done the work"
    for code, output in ends:
        refused = code == 2 and line in output and WAITS in output and "Traceback" not in output
        if code != 0 and not refused:
            yield f"ended with {code}: {output[-500:]}"


def _trained_twice(folder: Path) -> Iterator[str]:
    times = len(re.findall(r"^epoch \[1/\d+\]\[1/", (folder / "log.txt").read_text(encoding="utf-8"), re.MULTILINE))
    if times != 1:
        yield f"{folder.name} was trained {times} times"


def _encoded(folders: Iterable[Path]) -> int:
    """How many images the runs in these folders have encoded."""
    logs = ((folder / "log.txt").read_text(encoding="utf-8") for folder in folders)
    return sum(int(count) for log in logs for count in re.findall(r"^Encoding (\d+) images", log, re.MULTILINE))


def _compare(place: Place, folder: Path) -> Iterator[str]:
    """What differs between a run and one that was alone."""
    for text in differences(_figures(alone(place)), _figures(folder)):
        yield f"{folder.name}: {text}"


def _figures(folder: Path) -> dict[str, Any]:
    return {name: content for name, content in state(folder).items() if not name.endswith(".yaml")}  # which has paths


def alone(place: Place) -> Path:
    """The folder of the run that was alone; it is done once."""
    folder = place.top / "alone/output/runs/run"
    if not folder.exists():
        [(code, output)] = together(
            train.main, [place.lab("alone").command("run", **KEYS)], place.top / "out", one_machine
        )
        assert code == 0, output
    return folder


SCENARIOS = {"same run": same_run, "shared files": shared_files, "own split": own_split, "sweeps": two_sweeps}
# (scenario, machines, processes) of the suite.
SHORT = [
    ("same run", "one machine", COUNT),
    ("same run", "two machines, no flock", 4),
    ("shared files", "two machines, no flock", COUNT),
    ("own split", "two machines, flock of each its own", COUNT),
    ("sweeps", "one machine", 2),
    ("sweeps", "two machines, no flock", 2),
]
ALL = [(name, machines, COUNT) for name in SCENARIOS for machines in MACHINES]


def trials(place: Place, chosen: Sequence[tuple[str, str, int]]) -> Iterator[tuple[str, list[str]]]:
    """(what was done, what is wrong) of each trial."""
    for name, machines, count in chosen:
        yield f"{name}, {machines}, {count} processes", list(SCENARIOS[name](place, machines, count))
