"""Downloads and unpackings that are killed and started again, compared with an undisturbed one."""

import http.client
import os
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from dassl.data.dataset import DATASET_REGISTRY
from dassl.data.raw import FolderDataset
from datasets import fetch
from datasets._fetch import download
from datasets._fetch.sources import SOURCES, Mirror, Source
from tests.chaos.children import STAGES, Moment, end_at, fork, wait
from tests.chaos.states import leftovers
from tests.dassl.data.toy import write_image
from tests.datasets._fetch.test_unpack import content_of, pack
from tests.datasets._fetch.web import Site, serve

_CHUNK = 16384  # more than what Python holds back before it writes
_CHUNKS = 4  # of the archive, at least
# What gets a name: the digest of what came, the archive, and what is unpacked from it.
_NAMES = (r"\.digest$", r"fetched\.zip$", r"\.unpacking", r"\.png$")


@DATASET_REGISTRY.register()
class ChaosFetched(FolderDataset):
    """Ten pictures from a server on this machine."""

    dataset_dir = "fetched"
    image_dir = "pictures"
    num_classes = 2


def draw(folder: Path) -> None:
    """Write the pictures of :class:`ChaosFetched`."""
    for number in range(10):
        write_image(folder / "pictures" / "ab"[number % 2] / f"{number}.png", seed=number, size=(64, 64))


@dataclass(frozen=True)
class Download:
    """A folder for trials, and the address of the archive."""

    top: Path
    address: str

    @property
    def root(self) -> Path:
        """The data root."""
        return self.top / "root"

    def start(self, prepare: Callable[[], object] = lambda: None) -> int:
        """Start the program; returns its process."""

        def offered() -> None:
            SOURCES["ChaosFetched"] = (Source("fetched.zip", (Mirror(self.address),), page="https://example.org"),)
            download.CHUNK = _CHUNK
            prepare()

        return fork(fetch.main, ["ChaosFetched", "--root", str(self.root)], self.top / "output.txt", prepare=offered)


@contextmanager
def archive_served(top: Path) -> Iterator[Download]:
    """A server in a process of its own: this one must have no threads, because it forks."""
    draw(top / "drawn")
    content = pack(top / "fetched.zip", content_of(top / "drawn")).read_bytes()
    assert len(content) > _CHUNK * _CHUNKS
    said = top / "address.txt"

    def serving(_: object) -> int:
        with serve(Site({"/fetched.zip": content})) as site:
            said.with_suffix(".new").write_text(site.address, encoding="utf-8")
            said.with_suffix(".new").rename(said)
            while True:
                time.sleep(60)

    server = fork(serving, [], top / "server.txt")
    try:
        while not said.is_file():
            time.sleep(0.01)
        yield Download(top, f"{said.read_text(encoding='utf-8')}/fetched.zip")
    finally:
        os.kill(server, signal.SIGKILL)
        os.waitpid(server, 0)


def end_while_downloading(number: int) -> None:
    """Let this process end itself when it asks for piece ``number`` of a download, counted from 0."""
    read, count = http.client.HTTPResponse.read1, iter(range(1 << 30))

    def struck(response: http.client.HTTPResponse, amount: int | None = None) -> bytes:
        if next(count) == number:
            os.kill(os.getpid(), signal.SIGKILL)
        return read(response, amount)

    http.client.HTTPResponse.read1 = struck  # type: ignore[method-assign]


def moments() -> list[tuple[str, Callable[[], None]]]:
    """(title, what a process does before it begins) for every chosen moment."""
    pieces = [(f"before piece {number} of the download", number) for number in range(_CHUNKS + 1)]
    names = [Moment(pattern, 0, stage) for pattern in _NAMES for stage in STAGES]
    names += [Moment(r"\.png$", 5, stage) for stage in STAGES]
    found: list[tuple[str, Callable[[], None]]] = []
    found += [(title, lambda number=number: end_while_downloading(number)) for title, number in pieces]
    return found + [(str(moment), lambda moment=moment: end_at(moment)) for moment in names]


def kill_download(place: Download, prepare: Callable[[], None]) -> tuple[float, bool, list[str]]:
    """Kill a download, start it again and compare: (seconds to the kill, whether it was killed, what is wrong)."""
    wanted = {name: text for name, text in content_of(place.top / "drawn").items() if name.endswith(".png")}
    shutil.rmtree(place.root, ignore_errors=True)
    begin = time.monotonic()
    code = wait(place.start(prepare))
    seconds = time.monotonic() - begin
    again = wait(place.start())
    if again != 0:
        return seconds, code == -9, [f"the second start ended with {again}: {_output(place)}"]
    folder = place.root / "fetched"
    found = content_of(folder)
    archive, digest = found.pop("fetched.zip", b""), found.pop(".fetched.zip.digest", b"")
    problems = [] if found == wanted else [f"{sorted(found.keys() ^ wanted.keys())} or their contents differ"]
    problems += [] if archive == (place.top / "fetched.zip").read_bytes() else ["the archive differs"]
    problems += [] if digest else ["no digest of the archive was noted"]
    problems += [f"left behind: {name}" for name in leftovers(place.root) if not name.endswith(".digest")]
    return seconds, code == -9, problems


def _output(place: Download) -> str:
    return (place.top / "output.txt").read_text(encoding="utf-8")[-2000:]
