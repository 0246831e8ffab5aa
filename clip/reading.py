"""What a weights file holds: its tensors by name, read without ever running code from the file."""

import pickle
import re
import string
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor

from clip.archive import is_torchscript, read_torchscript
from clip.errors import BackboneError

SCALARS = ("input_resolution", "context_length", "vocab_size")  # of OpenAI's own files
NO_WEIGHTS = (*SCALARS, "num_batches_tracked", "attn_mask")
ANCHOR = "visual.conv1.weight"  # every CLIP in OpenAI's layout has it
FORMATS = "a TorchScript archive, a state dict saved by torch.save, or a safetensors file"
HEAD_BYTES = 4096
ALIGNMENT = 64  # bytes, of torch's own tensors on a CPU
LFS = b"version https://git-lfs"
# What files that are no weights begin with.
KINDS = (
    (b"\x89HDF", "an HDF5 file, as Keras and TensorFlow write them"),
    (b"GGUF", "a GGUF file"),
    (b"\x93NUMPY", "a NumPy array"),
    (b"\x1f\x8b", "compressed by gzip"),
    (b"BZh", "compressed by bzip2"),
    (b"\xfd7zXZ", "compressed by xz"),
    (b"7z\xbc\xaf", "a 7z archive"),
    (b"Rar!", "a RAR archive"),
    (b"\xff\xd8\xff", "a JPEG picture"),
    (b"\x89PNG", "a PNG picture"),
    (b"%PDF", "a PDF document"),
)
_DEPTH = 3  # of a table of tensors below the top of a file
_SHOWN = 5


@dataclass(frozen=True)
class Weights:
    """The content of a weights file.

    Attributes:
        tensors: key -> CPU tensor; floating tensors are fp32, whatever the file holds. Left out is what shapes tell:
            OpenAI's three scalars, the batch counters of norm layers and the causal mask.
        by_openai: the three scalars are there, as in the files of OpenAI's own code.
    """

    tensors: dict[str, Tensor]
    by_openai: bool


def read_weights(path: Path) -> Weights:
    """Read weights in any of OpenAI's formats.

    Accepted are the TorchScript archive as published, a state dict saved by ``torch.save``, and safetensors; the state
    dict also below keys such as "state_dict" or "model", its names also behind a common prefix such as "module.". The
    content decides, not the suffix.

    Raises:
        BackboneError: the file cannot be read or holds no state dict.
    """
    try:
        kind = _no_weights(path)
        content = {} if kind else _read(path)
    except OSError as error:
        raise BackboneError(f"{path} cannot be read ({error.strerror or error})") from error
    except Exception as error:
        # Damaged files make the readers fail in many ways; all of them mean the same to the user.
        raise BackboneError(
            f"{path} ({path.stat().st_size:,} bytes) cannot be read as weights ({_reason(error)[:200]}); it must be "
            f"{FORMATS}, and whole"
        ) from error
    if kind:
        raise BackboneError(f"{path} {kind}")
    state = _state_dict(content, path)
    by_openai = all(key in state for key in SCALARS)
    kept = {key: value.detach() for key, value in state.items() if key.split(".")[-1] not in NO_WEIGHTS}
    return Weights({key: _settled(value) for key, value in kept.items()}, by_openai)


def _settled(value: Tensor) -> Tensor:
    """The values in fp32 where torch itself would put them.

    A safetensors file is mapped as it lies, and on another address a matrix product may round in another way: the
    same weights would give other features from another format.
    """
    value = value.float() if value.is_floating_point() else value
    return value.clone() if value.data_ptr() % ALIGNMENT else value


def _reason(error: Exception) -> str:
    if isinstance(error, pickle.UnpicklingError):  # torch's own text advises to read the file the unsafe way
        return "it is damaged, or holds other things than tensors, which are not read because they can execute code"
    if isinstance(error, zipfile.BadZipFile):
        return "it is a zip archive that is cut off or damaged"
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def _read(path: Path) -> Any:
    with path.open("rb") as file:
        magic = file.read(2)
    if magic == b"PK":
        with zipfile.ZipFile(path) as archive:
            scripted = is_torchscript(archive)
        return read_torchscript(path) if scripted else torch.load(path, map_location="cpu", weights_only=True)
    if magic.startswith(b"\x80"):
        return torch.load(path, map_location="cpu", weights_only=True)
    return safetensors.torch.load_file(path)


def _no_weights(path: Path) -> str:
    """What the file is if it cannot be weights, with what to do: the rest of a sentence; else ""."""
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(HEAD_BYTES)
    again = f"in place of the weights; get the file itself, which must be {FORMATS}"
    if not head:
        return f"is empty (0 bytes), {again}"
    if head.startswith(LFS):
        whole = re.search(rb"^size (\d{1,18})\s*$", head, re.M)
        of = f" of {int(whole[1]):,} bytes" if whole else ""
        return (
            f"is a Git LFS pointer of {size:,} bytes in place of a file{of}; get that file with `git lfs pull` in "
            "its repository, or download it by hand"
        )
    if not any(head):
        return f"begins with {len(head):,} zero bytes, as after a download that failed, {again}"
    kind = _kind(path, head)
    return f"is {kind} ({size:,} bytes) {again}" if kind else ""


def _kind(path: Path, head: bytes) -> str:
    """A file format that holds no weights, with its article; "" where none is known."""
    start = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if start.startswith((b"<!doctype html", b"<html")) or (start.startswith(b"<") and b"<html" in start):
        return "a web page"
    for magic, kind in KINDS:
        if head.startswith(magic):
            return kind
    if head[257:262] == b"ustar":
        return "a tar archive, to be unpacked,"
    if path.suffix == ".onnx" or (head[:1] == b"\x08" and b"pytorch" in head[:64]):
        return "an ONNX model"
    if zipfile.is_zipfile(path):
        return _kind_of_zip(path)
    text = _text(head)
    return f"a text that begins with {text[:40]!r}" if text else ""


def _kind_of_zip(path: Path) -> str:
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
    if any(name.endswith("/data.pkl") for name in names):
        return ""
    return f"a zip archive without tensors, of {', '.join(names[:3]) or 'nothing'}{', ...' * (len(names) > 3)},"


def _text(head: bytes) -> str:
    """The bytes as one line of text; "" if they are none. The last letter may be cut."""
    encoding = "utf-16" if head.startswith((b"\xff\xfe", b"\xfe\xff")) else "utf-8"
    text = head.decode(encoding, "replace").rstrip("\ufffd")
    plain = "\ufffd" not in text and all(letter.isprintable() or letter in string.whitespace for letter in text)
    return " ".join(text.split()) if plain else ""


def _state_dict(content: Any, path: Path) -> dict[str, Tensor]:
    """The one table of tensors in what a file holds, with bare names."""
    tables = dict(_tables(content, "", _DEPTH))
    clips = {place: table for place, table in tables.items() if any(key.endswith(ANCHOR) for key in table)} or tables
    if len(clips) != 1:
        raise BackboneError(f"{path} {_no_single_table(content, clips)}")
    table = next(iter(clips.values()))
    anchor = next((key for key in table if key.endswith(ANCHOR)), ANCHOR)
    prefix = anchor.removesuffix(ANCHOR)
    if prefix and all(key.startswith(prefix) for key in table):
        table = {key.removeprefix(prefix): value for key, value in table.items()}
    return table


def _no_single_table(content: Any, tables: dict[str, Any]) -> str:
    if tables:
        return f"holds several state dicts ({_some(tables)}); save the one that is meant in a file of its own"
    has = f" with the keys {_some(content)}" if isinstance(content, dict) and content else ""
    return f"holds no state dict (a table of named tensors), but a {type(content).__name__}{has}"


def _tables(content: Any, place: str, depth: int) -> Iterator[tuple[str, dict[str, Tensor]]]:
    """(where, table) of the tables that hold nothing but tensors; they are looked for in tables of other things."""
    if not isinstance(content, dict) or not content or not all(isinstance(key, str) for key in content):
        return
    if all(isinstance(value, Tensor) and value.layout == torch.strided for value in content.values()):
        yield place, content
    elif depth:
        for key, value in content.items():
            yield from _tables(value, f"{place}.{key}".lstrip("."), depth - 1)


def _some(names: Any) -> str:
    names = list(map(str, names))
    return ", ".join(names[:_SHOWN]) + f" and {len(names) - _SHOWN} more" * (len(names) > _SHOWN)
