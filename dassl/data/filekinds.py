"""Endings of picture files, and what a file is if it is not a picture."""

import re
from collections.abc import Callable
from pathlib import Path

# The last three need a plugin; the reader says so.
IMAGE_ENDINGS = (
    ".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".ppm", ".pgm", ".avif",
    ".heic", ".heif", ".jxl",
)  # fmt: skip
_HEAD = 1024
_TEXT = re.compile(rb"[^\x00-\x08\x0e-\x1f\x7f]*")

_STARTS: tuple[tuple[bytes, str], ...] = (
    (b"version https://git-lfs.github.com/", "a Git LFS pointer and not the picture; run: git lfs pull"),
    (b"bplist00", "a placeholder of a cloud drive or a property list; let the drive download the picture"),
    (b"\xff\x0a", "a JPEG XL picture, which needs: pip install pillow-jxl-plugin; or save it as JPEG or PNG"),
    (b"\0\0\0\x0cJXL ", "a JPEG XL picture, which needs: pip install pillow-jxl-plugin; or save it as JPEG or PNG"),
    (b"%PDF", "a PDF file; save its pages as JPEG or PNG"),
    (b"PK\x03\x04", "a ZIP archive; unpack it"),
    (b"\x1f\x8b", "a gzip archive; unpack it"),
    (b"BZh", "a bzip2 archive; unpack it"),
    (b"\xfd7zXZ\0", "an xz archive; unpack it"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive; unpack it"),
    (b"Rar!", "a RAR archive; unpack it"),
    (b"\x93NUMPY", "a NumPy array; save it as PNG"),
    (b"\x1aE\xdf\xa3", "a video; save its frames as JPEG or PNG"),
    (b"SQLite format 3", "a database; replace or remove it"),
)
_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_PICTURES = (b"\xff\xd8\xff", b"\x89PNG", b"GIF8", b"BM", b"RIFF", *_TIFF)
_BRANDS = {
    **dict.fromkeys(
        (b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"mif1", b"msf1"),
        "an HEIC photograph, which needs: pip install pillow-heif; or save it as JPEG",
    ),
    **dict.fromkeys(
        (b"avif", b"avis"), "an AVIF picture that this Pillow does not read; update Pillow, or save it as JPEG or PNG"
    ),
}
_SERVER = "such as the answer of a server; download the picture itself"
_TEXTS: tuple[tuple[Callable[[bytes], bool], str], ...] = (
    (lambda text: b"<svg" in text, "an SVG drawing; save it as PNG"),
    (lambda text: b"<!doctype html" in text or b"<html" in text, "a web page; download the picture itself"),
    (lambda text: text.startswith((b"<?xml", b"<error")), f"an XML text, {_SERVER}"),
    (lambda text: text.startswith((b"{", b"[")), f"a JSON text, {_SERVER}"),
    (lambda text: text.startswith(b"outs:"), "a DVC pointer and not the picture; run: dvc pull"),
    (lambda text: b"/annex/objects/" in text, "a git-annex pointer and not the picture; run: git annex get"),
    (lambda _: True, "a text and not a picture; replace or remove it"),
)


def kind_of_file(path: str | Path) -> str:
    """For a message: the kind of a file that Pillow does not know, and the remedy: "a ZIP archive; unpack it"."""
    try:
        with Path(path).open("rb") as file:
            head = file.read(_HEAD)
            size = file.seek(0, 2)
    except OSError as error:
        return f"{error.strerror or error}; replace or remove it"
    if not size:
        return "an empty file; replace or remove it"
    if not head.strip(b"\0"):
        return "only zero bytes, as an interrupted download or a cloud drive leaves; download it again"
    known = next((text for start, text in _STARTS if head.startswith(start)), "")
    return known or _box(head) or _text(head) or _damaged(head)


def _box(head: bytes) -> str:
    """Files of the MPEG family name their kind after "ftyp"."""
    if head[4:8] != b"ftyp":
        return ""
    return _BRANDS.get(head[8:12], "a video; save its frames as JPEG or PNG")


def _text(head: bytes) -> str:
    start = head.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    if head[:2] in (b"\xff\xfe", b"\xfe\xff"):
        start = head.decode("utf-16", "replace").strip().lower().encode()
    elif not _TEXT.fullmatch(head) or not _utf8(head):
        return ""
    return next(text for fits, text in _TEXTS if fits(start))


def _utf8(head: bytes) -> bool:
    """Whether the bytes are UTF-8; the last character may be incomplete."""
    try:
        head.decode()
    except UnicodeDecodeError as error:
        return len(head) == _HEAD and error.start > _HEAD - 4
    return True


def _damaged(head: bytes) -> str:
    if head.startswith(_TIFF):
        return "a TIFF file of a kind that Pillow does not read; save it with 8 or 16 bits a channel, or as PNG"
    if head.startswith(_PICTURES):
        return "a damaged or cut-off picture; replace or remove it"
    return "not an image; replace or remove it"
