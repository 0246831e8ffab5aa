"""Pictures: predict.py names what cannot be read, and answers for the rest."""

import io
import os
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

import predict
from tests.dassl.data.toy import write_image
from tests.rubbish.case import Bench, Case, drawn, mangled


def _encoded(kind: str, mode: str = "RGB", **options: object) -> bytes:
    buffer = io.BytesIO()
    Image.effect_noise((40, 30), 60).convert("RGB").convert(mode).save(buffer, kind, **options)
    return buffer.getvalue()


def _chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def _png(width: int, height: int, *, bits: int = 8, colour: int = 0, data: bytes = b"") -> bytes:
    """A PNG that says it is so large, with next to nothing in it."""
    head = _chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + _chunk(b"IDAT", zlib.compress(data)) + _chunk(b"IEND", b"")


def _text_chunk(size: int) -> bytes:
    """A PNG with a compressed text that grows to ``size`` bytes."""
    whole = _png(2, 2, data=b"\0\1\2\0\3\4")
    bomb = _chunk(b"zTXt", b"Comment\0\0" + zlib.compress(b"x" * size))
    return whole[:33] + bomb + whole[33:]


def _gif(frames: int) -> bytes:
    buffer = io.BytesIO()
    pictures = [Image.effect_noise((20, 20), 60).convert("P") for _ in range(frames)]
    pictures[0].save(buffer, "GIF", save_all=True, append_images=pictures[1:])
    return buffer.getvalue()


def _deep(mode: str, values: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(values).save(buffer, "TIFF")
    assert mode
    return buffer.getvalue()


def _bmp(width: int, height: int) -> bytes:
    return b"BM" + struct.pack("<IHHIIiiHHIIiiII", 54, 0, 0, 54, 40, width, height, 1, 24, 0, 0, 0, 0, 0, 0)


_KINDS = ("PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP")
_BAD: dict[str, bytes] = {
    "empty": b"",
    "one byte": b"\x89",
    "zero bytes": b"\0" * 1000,
    "a web page": b"<!DOCTYPE html>\n<html>403</html>",
    "a pointer of Git LFS": b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 5\n",
    "an SVG with a script": b'<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>',
    "PostScript": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(../code-was-run) (w) file closefile\n",
    "a text with an escape": b"\x1b]0;owned\x07",
    "60,000 x 60,000 pixels": _png(60_000, 60_000),
    "60,000 x 60,000 pixels of colour": _png(60_000, 60_000, colour=2),
    "2**31 x 1 pixels": _png(2**31 - 1, 1),
    "no pixels": _png(0, 0),
    "fewer pixels than it says": _png(50, 50, data=b"\0\1"),
    "an impossible depth": _png(5, 5, bits=3),
    "an impossible colour": _png(5, 5, colour=9),
    "a text of 100 MB": _text_chunk(100_000_000),
    "a BMP of 60,000 x 60,000": _bmp(60_000, 60_000),
    "a BMP below 0": _bmp(-5, -5),
    "a GIF of 65,535 x 65,535": b"GIF89a" + struct.pack("<HHBBB", 65535, 65535, 0, 0, 0)
    + b"," + struct.pack("<HHHHB", 0, 0, 65535, 65535, 0) + b"\x02\x00;",
    "a PPM of 60,000 x 60,000": b"P6\n60000 60000\n255\n",
    "a PPM of 5,000 digits": b"P6\n" + b"9" * 5000 + b" 1\n255\n",
    **{f"{kind} that is cut": _encoded(kind)[:200] for kind in _KINDS},
}  # fmt: skip
_ODD: dict[str, bytes] = {
    "PNG under .jpg": _encoded("PNG"),
    "black and white": _encoded("PNG", "1"),
    "grey": _encoded("PNG", "L"),
    "grey with transparency": _encoded("PNG", "LA"),
    "a palette": _encoded("PNG", "P"),
    "transparent": _encoded("PNG", "RGBA"),
    "CMYK": _encoded("JPEG", "CMYK"),
    "YCbCr": _encoded("JPEG", "YCbCr"),
    "LAB": _encoded("TIFF", "LAB"),
    "an animation": _gif(5),
    "16 bits": _deep("I;16", np.arange(1200, dtype=np.uint16).reshape(30, 40) * 50),
    "32 bits": _deep("I", np.arange(1200, dtype=np.int32).reshape(30, 40) * 50),
    "NaN and infinity": _deep("F", np.full((30, 40), np.nan, np.float32)),
    "one pixel": _png(1, 1, data=b"\0\5"),
    "10,000 x 1 pixels": _png(10_000, 1, data=b"\0" * 10_001),
    "1 x 10,000 pixels": _png(1, 10_000, data=b"\0\5" * 10_000),
    "an odd EXIF entry": _encoded("JPEG", exif=b"Exif\0\0" + b"\xff" * 40),
}
_NAMES = {
    "a line break": "two\nlines.png", "an escape": "\x1b[31mred.png", "a turn": "a\u202egnp.exe.png",
    "not UTF-8": "caf\udce9.png", "a formula": "=cmd.png", "a hyphen": "-rf.png", "a blank": " .png",
    "255 bytes": "n" * 251 + ".png",
}  # fmt: skip


def answer(bench: Bench, *images: str, form: str = "table") -> int:
    """predict.py on some paths."""
    return predict.main([str(bench.run), "--workers", "0", "--device", "cpu", "--format", form, "--", *images])


def _beside_a_good_one(content: bytes) -> Callable[[Bench], int]:
    def act(bench: Bench) -> int:
        bad, good = bench.write("bad.jpg", content), write_image(bench.folder / "good.png")
        return answer(bench, str(bad), str(good))

    return act


def _in_a_run(content: bytes) -> Callable[[Bench], int]:
    """One of the training pictures of own tasks is bad: the run names it."""
    from tests.rubbish.tasks import pictures, train_on

    def act(bench: Bench) -> int:
        root = pictures(bench)
        (root / "pets/cat/0.png").write_bytes(content)
        return train_on(bench, [{"name": "kind", "folder": "pets"}])

    return act


def _named(name: str, form: str) -> Callable[[Bench], int]:
    def act(bench: Bench) -> int:
        write_image(bench.folder / "good.png").rename(bench.folder / name)
        return answer(bench, str(bench.folder / name), form=form)

    return act


def _place(make: Callable[[Path], object]) -> Callable[[Bench], int]:
    def act(bench: Bench) -> int:
        make(bench.folder / "bad.png")
        return answer(bench, str(bench.folder / "bad.png"))

    return act


def _loop(path: Path) -> None:
    path.mkdir()
    (path / "again").symlink_to(path)
    write_image(path / "good.png")


CASES = [
    *(
        Case("picture for predict.py", title, _beside_a_good_one(content), codes=(1,), says=("bad.jpg", "good.png"))
        for title, content in _BAD.items()
    ),
    *(
        Case("picture for predict.py", title, _beside_a_good_one(content), codes=(0,), says=("bad.jpg", "good.png"))
        for title, content in _ODD.items()
    ),
    *(
        Case("picture for predict.py", f"mangled ({n})", _beside_a_good_one(content), codes=(0, 1))
        for n, content in enumerate(drawn(mangled(_encoded("PNG")), 10) + drawn(mangled(_encoded("JPEG")), 10))
    ),
    *(
        Case("picture of a run", title, _in_a_run(_BAD[title]), codes=(0, 2), says=("0.png",))
        for title in list(_BAD)[::2]
    ),
    *(
        Case("name of a picture", f"{title}, {form}", _named(name, form), codes=(0, 1))
        for title, name in _NAMES.items()
        for form in ("table", "csv", "jsonl")
    ),
    Case("place of a picture", "a link to itself", _place(lambda path: path.symlink_to(path)), codes=(1,)),
    Case("place of a picture", "a link to nothing", _place(lambda path: path.symlink_to("nothing")), codes=(1,)),
    Case("place of a picture", "an empty folder", _place(Path.mkdir)),
    Case("place of a picture", "a loop of a link", _place(_loop), codes=(0,)),
    Case("place of a picture", "nothing", _place(str), codes=(1,)),
    Case("place of a picture", "a pipe", _place(lambda path: os.mkfifo(path)), codes=(1,)),
    Case("place of a picture", "an endless device", _place(lambda path: path.symlink_to("/dev/zero")), codes=(1,)),
]
