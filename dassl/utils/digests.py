"""Digests in the files of this program, so that a flipped bit is found when the file is read.

A JSON file ends with the entry ``"blake2b"``, a file of ``torch.save`` with a comment of its zip archive; both hold the
BLAKE2b digest of everything before it. A file without a digest, from an earlier version or another program, is
distinguished from one with a damaged digest.
"""

import os
import re
from hashlib import blake2b
from io import BytesIO

from dassl.utils.errors import UserError

DIGEST_KEY = "blake2b"
_HEX = 64
_OPEN, _CLOSE = f',\n  "{DIGEST_KEY}": "', '"\n}\n'
_SIGNED = re.compile(re.escape(_OPEN) + rf"([0-9a-f]{{{_HEX}}})" + re.escape(_CLOSE))
_ZIP_END, _ZIP_END_BYTES = b"PK\x05\x06", 22
_COMMENT = b"softcpt blake2b "
_COMMENT_BYTES = len(_COMMENT) + _HEX
TAIL_BYTES = _ZIP_END_BYTES + _COMMENT_BYTES  # at the end of a file; they show whether it carries a digest


class ChangedError(UserError):
    """A file changed after this program wrote it: a bit flipped, or somebody edited it."""

    def __init__(self, what: object, remedy: str = "") -> None:
        text = f"{what} was changed or damaged after it was written: its digest does not match"
        super().__init__(f"{text}; {remedy}" if remedy else text)


def hex_digest(content: bytes | memoryview) -> str:
    """BLAKE2b of 32 bytes, as 64 hexadecimal digits."""
    return blake2b(content, digest_size=_HEX // 2).hexdigest()


def sign_text(text: str) -> str:
    """A JSON object with its digest as the last entry. ``text``: the object, with at least one entry."""
    body = text.rstrip().removesuffix("}").rstrip()
    assert body[-1:] not in "{[", "only an object with an entry can carry a digest"
    return f"{body}{_OPEN}{hex_digest(body.encode('utf-8'))}{_CLOSE}"


def is_whole_text(content: bytes) -> bool:
    """Whether a JSON text in UTF-8 is unchanged, or carries no digest. Line endings do not count."""
    length = len(_OPEN) + _HEX + len(_CLOSE)
    if b"\r\n" in content[-length:]:  # as git may write it
        content = content.replace(b"\r\n", b"\n")
    tail = content[-length:].decode("latin-1")
    if signed := _SIGNED.fullmatch(tail):
        return signed[1] == hex_digest(memoryview(content)[:-length])
    # The beginning of the entry near its place: the entry of the digest was damaged.
    return sum(mine == theirs for mine, theirs in zip(tail, _OPEN, strict=False)) < len(_OPEN) // 2


def sign_zip(archive: BytesIO) -> None:
    """Add the digest of a zip archive in memory as its comment."""
    archive.seek(-_ZIP_END_BYTES, os.SEEK_END)
    assert archive.read(len(_ZIP_END)) == _ZIP_END, "a zip archive without a comment"
    archive.seek(-2, os.SEEK_END)
    archive.write(_COMMENT_BYTES.to_bytes(2, "little"))
    with archive.getbuffer() as content:
        digest = hex_digest(content)
    archive.write(_COMMENT + digest.encode())


def is_signed_zip(tail: bytes) -> bool:
    """Whether an archive carries a digest, which may be damaged. ``tail``: its last ``TAIL_BYTES`` or more."""
    end = tail[-_COMMENT_BYTES - _ZIP_END_BYTES :]
    marks = end[: len(_ZIP_END)] + end[_ZIP_END_BYTES:][: len(_COMMENT)]
    wanted = _ZIP_END + _COMMENT
    return sum(mine == theirs for mine, theirs in zip(marks, wanted, strict=False)) > len(wanted) // 2


def is_whole_zip(content: bytes) -> bool:
    """Whether an archive with a digest is unchanged."""
    body, comment = memoryview(content)[:-_COMMENT_BYTES], content[-_COMMENT_BYTES:]
    return comment == _COMMENT + hex_digest(body).encode()
