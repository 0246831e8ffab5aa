"""Archives for datasets.fetch, servers that it fetches from, and its flags with those of the other programs."""

import gzip
import io
import tarfile
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import dassl.data.features.__main__ as features
import datasets.check
import datasets.fetch
import predict
import scripts.demo
import train
from datasets._fetch import download, unpack
from datasets._fetch.sources import SOURCES, Mirror, Source
from tests.rubbish.case import Bench, Case, drawn, mangled
from tests.rubbish.serving import Answer, Handler, serving

_MEMBER, _FILE = "FGVCAircraft", "fgvc-aircraft-2013b.tar.gz"
_FOLDER = "fgvc_aircraft"


def _tar(*entries: tuple[str, dict[str, object]], kind: str = "w:gz") -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=kind) as archive:  # type: ignore[call-overload]
        for name, fields in entries:
            info = tarfile.TarInfo(name)
            content = bytes(fields.pop("content", b"x"))  # type: ignore[call-overload]
            info.size = len(content) if fields.get("type", tarfile.REGTYPE) == tarfile.REGTYPE else 0
            for field, value in fields.items():
                setattr(info, field, value)
            archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def _zip(*entries: tuple[str, bytes], mode: int = 0) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in entries:
            info = zipfile.ZipInfo(name)
            info.external_attr = mode << 16
            archive.writestr(info, content)
    return buffer.getvalue()


def _kind(kind: bytes, **fields: object) -> bytes:
    return _tar(("data/thing", {"type": kind, **fields}))


_ARCHIVES: dict[str, bytes] = {
    "empty": b"",
    "zero bytes": b"\0" * 20_000,
    "a web page": b"<!DOCTYPE html>\n<html>quota</html>",
    "a tar of nothing": _tar(),
    "a zip of nothing": _zip(),
    "a cut tar": _tar(("data/a", {"content": b"x" * 5000}))[:100],
    "a cut zip": _zip(("data/a", b"x" * 5000))[:40],
    "gzip of a text": gzip.compress(b"only text"),
    "a tar that goes up": _tar(("../../owned", {})),
    "a tar that goes up inside": _tar(("data/../../../owned", {})),
    "a tar from the root": _tar(("/tmp/owned-by-a-tar", {})),
    "a tar with a Windows path": _tar(("..\\..\\owned", {})),
    "a tar with a drive": _tar(("C:\\owned", {})),
    "a tar with a link up": _kind(tarfile.SYMTYPE, linkname="../../.."),
    "a tar with a link to the root": _kind(tarfile.SYMTYPE, linkname="/etc/passwd"),
    "a tar with a hard link": _kind(tarfile.LNKTYPE, linkname="../../owned"),
    "a tar with a loop of a link": _kind(tarfile.SYMTYPE, linkname="thing"),
    "a tar with a device": _kind(tarfile.CHRTYPE, devmajor=1, devminor=5),
    "a tar with a disk": _kind(tarfile.BLKTYPE, devmajor=8, devminor=0),
    "a tar with a pipe": _kind(tarfile.FIFOTYPE),
    "a tar through a link": _tar(("data", {"type": tarfile.SYMTYPE, "linkname": "../.."}), ("data/owned", {})),
    "a tar with equal names": _tar(("data/a", {"content": b"1"}), ("data/a", {"content": b"2"})),
    "a tar with an escape": _tar(("data/\x1b[31mred/../../../x", {})),
    "a tar with a line break": _tar(("../two\nlines", {})),
    "a tar with a file below a file": _tar(("data/a", {}), ("data/a/b", {})),
    "a tar with a name of 300 bytes": _tar(("n" * 300, {})),
    "a tar with a path of 5,000 bytes": _tar(("d/" * 2500 + "x", {})),
    "a tar with a NUL": _tar(("../a\0b", {})),
    "a zip that goes up": _zip(("../../owned", b"x")),
    "a zip from the root": _zip(("/tmp/owned-by-a-zip", b"x")),
    "a zip with a Windows path": _zip(("..\\owned", b"x")),
    "a zip with a drive": _zip(("C:/owned", b"x")),
    "a zip with a link": _zip(("data/l", b"/etc/passwd"), mode=0o120777),
    "a zip with a device": _zip(("data/d", b""), mode=0o020666),
    "a zip with equal names": _zip(("data/a", b"1"), ("data/a", b"2")),
    "a zip with names that differ in dots": _zip(("data/a", b"1"), ("./data//a", b"2")),
    "a zip with an escape": _zip(("../\x1b[31mred", b"x")),
    "a zip with a turn": _zip(("../\u202etxt", b"x")),
    "a zip with a name of 300 bytes": _zip(("n" * 300, b"x")),
    "a zip with a file below a file": _zip(("data/a", b"x"), ("data/a/b", b"x")),
    "a zip in a zip": _zip(("data/inner.zip", _zip(("../owned", b"x")))),
    "a zip bomb": _zip(("data/bomb", b"\0" * 30_000_000)),
    "a tar bomb": _tar(("data/bomb", {"content": b"\0" * 30_000_000})),
}


def _unpacked(content: bytes) -> Callable[[Bench], int]:
    def act(bench: Bench) -> int:
        bench.patch.setattr(unpack, "SPARE_BYTES", 1_000_000)
        bench.write(f"data/{_FOLDER}/{_FILE}", content)
        code = datasets.fetch.main([_MEMBER, "--root", str(bench.folder / "data")])
        links = [path for path in (bench.folder / "data").rglob("*") if path.is_symlink()]
        assert not links and not Path("/tmp/owned-by-a-tar").exists() and not Path("/tmp/owned-by-a-zip").exists()
        return code

    return act


# ---- servers


def _status(code: int, **headers: object) -> Answer:
    return lambda to: to.head(code, **headers)


def _body(content: bytes, **headers: object) -> Answer:
    def answer(to: Handler) -> None:
        to.head(200, **headers)
        to.wfile.write(content)

    return answer


def _endless(to: Handler) -> None:
    to.head(200)
    while True:
        to.wfile.write(b"x" * 100_000)


def _drip(to: Handler) -> None:
    to.head(200, Content_Length=10**9)
    while True:
        to.wfile.write(b"x")
        to.wfile.flush()
        time.sleep(0.02)


def _a_byte_each(to: Handler) -> None:
    """One byte more for each request, and then the connection is cut."""
    start = int((to.headers["Range"] or "bytes=0-").removeprefix("bytes=").removesuffix("-"))
    size = 10**6
    to.head(206, Content_Range=f"bytes {start}-{size - 1}/{size}", Content_Length=size - start)
    to.wfile.write(b"x")


def _silent(to: Handler) -> None:
    time.sleep(2)


def _raw(content: bytes) -> Answer:
    return lambda to: to.wfile.write(content) and None


_SERVERS: dict[str, Answer] = {
    "404": _status(404),
    "403 with an escape": lambda to: to.send_response(403, "\x1b[31mno") or to.end_headers(),
    "500 forever": _status(500),
    "200 and nothing": _status(200, Content_Length=0),
    "a wrong file": _body(b"x" * 500, Content_Length=500),
    "a web page": _body(b"<!DOCTYPE html><html></html>", Content_Length=28),
    "too little": _body(b"x" * 100, Content_Length=500),
    "too much": _body(b"x" * 5000, Content_Length=500),
    "a length that is a word": _body(b"x" * 100, Content_Length="many"),
    "a length below 0": _body(b"x" * 100, Content_Length=-5),
    "a length of 5,000 digits": _body(b"x" * 100, Content_Length="9" * 5000),
    "two lengths": _raw(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 9\r\n\r\nxxxxx"),
    "no end": _endless,
    "a byte now and then": _drip,
    "a byte for each request": _a_byte_each,
    "no answer": _silent,
    "no HTTP": _raw(b"SSH-2.0-OpenSSH\r\n"),
    "a status that is a word": _raw(b"HTTP/1.1 OK OK\r\n\r\n"),
    "10,000 header lines": _raw(b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 10_000 + b"\r\n"),
    "a header line of a million bytes": _raw(b"HTTP/1.1 200 OK\r\nX: " + b"y" * 1_000_000 + b"\r\n\r\n"),
    "a chunk that is a word": _raw(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nmany\r\n"),
    "a chunk of 2**70 bytes": _raw(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n400000000000000000\r\nx"),
    "a part nobody asked for": _body(b"x" * 100, Content_Range="bytes 50-149/150", Content_Length=100),
    "a circle": lambda to: to.head(302, Location=to.path),
    "to a file": _status(302, Location="file:///etc/passwd"),
    "to FTP": _status(302, Location="ftp://127.0.0.1:1/x"),
    "to data": _status(302, Location="data:text/plain,x"),
    "to nowhere": _status(302),
    "to an odd port": _status(302, Location="http://127.0.0.1:99999999/"),
    "to another port of this machine": _status(302, Location="http://127.0.0.1:1/secret"),
    "to this machine by name": _status(302, Location="http://localhost:1/secret"),
    "to this machine in IPv6": _status(302, Location="http://[::1]:1/secret"),
    "to this machine as a number": _status(302, Location="http://2130706433:1/secret"),
    "to the cloud's own address": _status(302, Location="http://169.254.169.254/latest/meta-data"),
    "to a private network": _status(302, Location="http://10.0.0.1/"),
    "to an address with an escape": _status(302, Location="http://127.0.0.1:1/\x1b[31m"),
}


_LIMITS = {"PAUSE_S": 0.0, "TIMEOUT_S": 0.5, "SLOWEST_S": 1.0, "MOST_BYTES": 5_000_000, "MOST_ATTEMPTS": 20}


def _fetched(answer: Answer) -> Callable[[Bench], int]:
    def act(bench: Bench) -> int:
        for name, value in {
            "PAUSE_S": 0.0,
            "TIMEOUT_S": 0.5,
            "SLOWEST_S": 1.0,
            "MOST_BYTES": 5_000_000,
            "MOST_ATTEMPTS": 20,
        }.items():
            bench.patch.setattr(download, name, value)
        with serving(answer) as address:
            source = Source(_FILE, (Mirror(f"{address}/{_FILE}"),))
            bench.patch.setitem(SOURCES, _MEMBER, (source,))
            return datasets.fetch.main([_MEMBER, "--root", str(bench.folder / "data")])

    return act


# ---- flags of programs

_PROGRAMS: dict[str, Callable[[list[str]], int]] = {
    "train.py": train.main,
    "predict.py": predict.main,
    "datasets.fetch": datasets.fetch.main,
    "datasets.check": datasets.check.main,
    "dassl.data.features": features.main,
    "scripts/demo.sh": scripts.demo.main,
}
_ANY = {
    "an unknown flag": ["--nothing"],
    "an unknown flag with an escape": ["--\x1b[31mred"],
    "an unknown flag of 3,000 characters": ["--" + "f" * 3000],
    "an unknown flag that turns": ["--\u202egalf"],
}
_OWN: dict[str, dict[str, list[str]]] = {
    "train.py": {
        "nothing": [],
        "a seed that is a word": ["--seed", "one"],
        "a seed of 5,000 digits": ["--seed", "9" * 5000],
        "an epoch without evaluation": ["--load-epoch", "5"],
        "an unknown method": ["--trainer", "MTCop"],
        "a method on a path": ["--trainer", "../../x"],
        "an unknown backbone": ["--trainer", "CoOp", "--backbone", "RN51"],
        "a flag without a value": ["--trainer"],
        "a file without a name": ["--config-file", "\x1b[31m.yaml"],
    },
    "predict.py": {
        "nothing": [],
        "no images": ["."],
        "a folder that is no run": [".", "x.png"],
        "a run that is not there": ["x\x0by", "z"],
        "a batch of nothing": [".", "x", "--batch-size", "0"],
        "workers below 0": [".", "x", "--workers", "-1"],
        "a threshold of NaN": [".", "x", "--threshold", "nan"],
        "a threshold above 1": [".", "x", "--threshold", "2"],
        "no answers": [".", "x", "--top-k", "0"],
        "an unknown form": [".", "x", "--format", "xml"],
        "an unknown device": [".", "x", "--device", "tpu"],
    },
    "datasets.fetch": {
        "nothing": [],
        "an unknown suite": ["rs9"],
        "a path up": ["../../etc/passwd"],
        "a name with an escape": ["\x1b[31m"],
        "a name of 3,000 characters": ["n" * 3000],
        "a file that is no yaml": ["/etc/passwd"],
    },
    "datasets.check": {
        "nothing": [],
        "an unknown suite": ["rs9"],
        "a root that is not there": ["FGVCAircraft", "--root", "/no/such\x1b[31m"],
        "a name of 3,000 characters": ["n" * 3000],
        "a root of 3,000 characters": ["FGVCAircraft", "--root", "r" * 3000],
    },
    "dassl.data.features": {
        "nothing": [],
        "a folder that is not there": ["x\x0by"],
        "a folder of 3,000 characters": ["f" * 3000],
        "an escape": ["\x1b[31m"],
    },
    "scripts/demo.sh": {"shots that are words": ["--shots", "few"], "jobs that are words": ["--jobs", "x"]},
}


def _given(program: str, words: list[str]) -> Callable[[Bench], int]:
    return lambda bench: _PROGRAMS[program](list(words))


CASES = [
    *(Case("archive", title, _unpacked(content), codes=(0, 1), says=(_FILE,)) for title, content in _ARCHIVES.items()),
    *(
        Case("archive", f"mangled ({n})", _unpacked(content), codes=(0, 1))
        for n, content in enumerate(drawn(mangled(_tar(("a/data/images/x.jpg", {}), kind="w:")), 10))
    ),
    *(Case("server", title, _fetched(answer), codes=(1,), says=(_FILE,)) for title, answer in _SERVERS.items()),
    *(
        Case(f"flags of {program}", title, _given(program, words))
        for program in _PROGRAMS
        for title, words in {**_ANY, **_OWN[program]}.items()
    ),
]
