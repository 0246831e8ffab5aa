"""What a bad input is, what it may do, and how it is tried."""

import io
import re
import signal
import sys
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests.lab import Lab

LIMIT_S = 20  # a case takes milliseconds; one that hangs is ended after this time
LONGEST = 2500  # characters of a line for people
_TEMPORARY = re.compile(r"^\..+\.[a-z0-9_]{8}$")  # what an unfinished file is called
_JOINERS = "\u200c\u200d"


class TimeLimit(BaseException):
    """A case did not end; no handler of the product may catch it."""


@dataclass(frozen=True)
class Bench:
    """Where a case is tried: a folder of its own, and what is made once for all.

    Attributes:
        folder: the case's own; nothing may appear beside it.
        marker: what payloads write; it must never appear.
        lab: toy data, a tiny backbone, and command lines of runs that end in ``folder``.
        run: folder of a finished run, not to be changed.
        patch: replaces things of the product for this case.
    """

    folder: Path
    marker: Path
    lab: Lab
    run: Path
    patch: pytest.MonkeyPatch

    def write(self, name: str, content: str | bytes) -> Path:
        """A file in the case's folder."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8", "surrogatepass"))
        return path


@dataclass(frozen=True)
class Case:
    """One bad input.

    Attributes:
        door: where it comes in.
        title: what it is.
        act: gives it to the product; returns the exit code of the program.
        codes: exit codes that are right.
        says: what the output must name.
    """

    door: str
    title: str
    act: Callable[[Bench], int]
    codes: Sequence[int] = (2,)
    says: Sequence[str] = ()


def hidden(text: str) -> list[str]:
    """Characters that act on a terminal or a reader without being seen; tabs and line breaks are none."""
    return [
        character
        for character in text
        if unicodedata.category(character) in ("Cc", "Cf", "Cs", "Zl", "Zp")
        and character not in "\t\n" + _JOINERS
        and not _shows(character)
    ]


def _shows(character: str) -> bool:
    """Signs of numbers and abbreviations in Arabic and Syriac are of category Cf, but are seen."""
    return character in "\u0600\u0601\u0602\u0603\u0604\u0605\u06dd\u070f\u0890\u0891\u08e2\U000110bd\U000110cd"


def try_case(case: Case, bench: Bench, read: Callable[[], tuple[str, str]]) -> None:
    """Try a case; ``read`` gives what was written to standard output and standard error.

    Raises:
        AssertionError: it ended otherwise than it may.
    """
    with time_limit():
        code = case.act(bench)
    out, err = read()
    logs = "".join(path.read_text("utf-8") for path in bench.folder.rglob("log.txt") if not is_input(path))
    text = out + err + logs
    assert code in case.codes, f"exit code {code}\n{text}"
    assert "Traceback (most recent call last)" not in text, text
    assert not hidden(text), (hidden(text), text)
    assert max(map(len, err.splitlines()), default=0) <= LONGEST, text
    if code == 2:
        problems = [line for line in err.splitlines() if not line.startswith("warning: ")]
        assert problems and all(line.startswith("error: ") for line in problems), text
        assert all(len(line) > len("error: xx") for line in problems), text
    missing = [word for word in case.says if word not in text]
    assert not missing, f"{missing} not in\n{text}"
    check_disk(bench)


def check_disk(bench: Bench) -> None:
    """Nothing was executed, nothing was written outside, and no half file is left."""
    assert not bench.marker.exists(), "the input ran code"
    beside = [path.name for path in bench.folder.parent.iterdir() if path != bench.folder]
    assert not beside, f"written outside of the folder: {beside}"
    halves = [path for path in bench.folder.rglob(".*") if _TEMPORARY.match(path.name) and path.is_file()]
    assert not halves, halves


def is_input(path: Path) -> bool:
    """Whether a log was written by a case, not by the product."""
    return (path.parent / "rubbish").exists()


@contextmanager
def time_limit() -> Iterator[None]:
    """Ends what takes longer than LIMIT_S."""

    def end(*_: Any) -> None:
        raise TimeLimit

    before = signal.signal(signal.SIGALRM, end)
    signal.setitimer(signal.ITIMER_REAL, LIMIT_S)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def drawn(strategy: st.SearchStrategy[Any], count: int) -> list[Any]:
    """``count`` different examples, the same ones each time."""
    found: dict[str, Any] = {}

    @settings(
        max_examples=5 * count,
        derandomize=True,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(strategy)
    def collect(value: Any) -> None:
        if len(found) < count:
            found.setdefault(repr(value), value)

    collect()
    assert len(found) == count, f"only {len(found)} different examples of {count}"
    return list(found.values())


def mangled(content: bytes) -> st.SearchStrategy[bytes]:
    """A file that was cut, or in which some bytes were changed, added or left out."""
    place, some = st.integers(0, len(content) - 1), st.binary(min_size=1, max_size=8)
    cut = place.map(lambda end: content[:end])
    changed = st.tuples(place, some).map(lambda p: content[: p[0]] + p[1] + content[p[0] + len(p[1]) :])
    added = st.tuples(place, some).map(lambda p: content[: p[0]] + p[1] + content[p[0] :])
    left_out = st.tuples(place, st.integers(1, 40)).map(lambda p: content[: p[0]] + content[p[0] + p[1] :])
    return st.one_of(cut, changed, added, left_out)


def with_stdin(text: bytes, action: Callable[[], int]) -> int:
    """Call ``action`` with ``text`` as standard input."""
    before = sys.stdin
    sys.stdin = io.TextIOWrapper(io.BytesIO(text), encoding="utf-8", errors="surrogateescape")
    try:
        return action()
    finally:
        sys.stdin = before
