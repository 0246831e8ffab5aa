"""What predict.py --explain finds where its heat maps go, and pictures that maps are drawn on; interpret_prompt.py."""

from collections.abc import Callable

import interpret_prompt
import predict
from dassl.explain.places import map_path
from tests.dassl.data.toy import write_image
from tests.rubbish.case import Bench, Case, drawn, mangled
from tests.rubbish.pictures import _BAD, _NAMES, _ODD, _encoded

Act = Callable[[Bench], int]
_TASK = "pet_kind"


def explain(bench: Bench, image: str, folder: str) -> int:
    """predict.py with heat maps."""
    flags = ["--workers", "0", "--device", "cpu", "--explain", folder]
    return predict.main([str(bench.run), *flags, "--", image])


def _in_place_of_a_map(content: bytes) -> Act:
    def act(bench: Bench) -> int:
        image = write_image(bench.folder / "good.png")
        path, _ = map_path(bench.folder / "maps", str(image), _TASK)
        bench.write(f"maps/{path.name}", content)
        code = explain(bench, str(image), str(bench.folder / "maps"))
        assert path.read_bytes() == content
        return code

    return act


def _drawn_on(content: bytes) -> Act:
    return lambda bench: explain(bench, str(bench.write("odd.png", content)), str(bench.folder / "maps"))


def _named(name: str) -> Act:
    def act(bench: Bench) -> int:
        write_image(bench.folder / "good.png").rename(bench.folder / name)
        return explain(bench, str(bench.folder / name), str(bench.folder / "maps"))

    return act


def _into(folder: str) -> Act:
    def act(bench: Bench) -> int:
        bench.write("a file", b"")
        return explain(bench, str(write_image(bench.folder / "good.png")), str(bench.folder / folder))

    return act


def _interpret(*flags: str) -> Act:
    return lambda bench: interpret_prompt.main([str(bench.run), *flags])


_FOLDERS = {"a file": "is a file", "a file/below": "a file", "f" * 300: "fff", "f/" * 3000: "f/f/f"}
_FLAGS: dict[str, tuple[tuple[str, ...], str]] = {
    "a task that is none": (("--task", "tol"), "tol"),
    "a task with an escape": (("--task", "\x1b[31m"), "\\x1b[31m"),
    "a task below 0": (("--task=-1",), "-1"),
    "words below 1": (("--top-k", "0"), "'0'"),
    "words of 5,000 digits": (("--top-k", "9" * 5000), "whole number"),
    "words that are no number": (("--top-k", "\u0665\u0665\u0665\u0665"), "whole number"),
    "a figure of no kind": (("--plot", "map.exe"), "map.exe"),
    "a figure that is a folder": (("--plot", "."), "--plot"),
    "a figure of one task": (("--plot", "map.png"), "one task"),
    "an output that is a folder": (("--out", "."), "."),
    "an output below a file": (("--out", "/dev/null/words.csv"), "/dev/null"),
}
_RUNS = {"empty": b"", "a picture": _encoded("PNG"), "a web page": b"<!DOCTYPE html>", "zero bytes": b"\0" * 1000}


def _of_a_file(content: bytes) -> Act:
    return lambda bench: interpret_prompt.main([str(bench.write("run", content))])


CASES = [
    *(
        Case("file in place of a heat map", title, _in_place_of_a_map(content), says=("is no heat map",))
        for title, content in {**_BAD, **_ODD}.items()
    ),
    *(
        Case("file in place of a heat map", f"mangled ({n})", _in_place_of_a_map(content), says=("is no heat map",))
        for n, content in enumerate(drawn(mangled(_encoded("PNG")), 5))
    ),
    *(Case("picture under a heat map", title, _drawn_on(content), codes=(0,)) for title, content in _ODD.items()),
    *(Case("picture under a heat map", name, _named(path), codes=(0,)) for name, path in _NAMES.items()),
    *(Case("folder of heat maps", name[:20], _into(name), says=(says,)) for name, says in _FOLDERS.items()),
    *(Case("interpret_prompt.py", title, _interpret(*flags), says=(says,)) for title, (flags, says) in _FLAGS.items()),
    *(Case("run for interpret_prompt.py", title, _of_a_file(content)) for title, content in _RUNS.items()),
]
