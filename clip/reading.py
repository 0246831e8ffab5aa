"""Read the tensors of a weights file by name, without running code from the file."""

import logging
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
# Names that show where the names of a CLIP begin: of OpenAI's layout, of transformers', and of any other.
ANCHORS = ("visual.conv1.weight", "text_model.embeddings.token_embedding.weight", "logit_scale")
COMPILED = "_orig_mod."  # torch.compile's, anywhere in a name
FORMATS = "a TorchScript archive, a state dict saved by torch.save, or a safetensors file"
HEAD_BYTES = 4096
ALIGNMENT = 64  # bytes, of torch's own tensors on a CPU
LFS = b"version https://git-lfs"
# The first bytes of files that are not weights.
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

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Weights:
    """The content of a weights file.

    Attributes:
        tensors: key -> CPU tensor; floating tensors are fp32, whatever the file holds. Left out are OpenAI's three
            scalars, the batch counters of norm layers and the causal mask, which follow from shapes.
        by_openai: the three scalars are present, as in files written by OpenAI's code.
    """

    tensors: dict[str, Tensor]
    by_openai: bool


def read_weights(path: Path) -> Weights:
    """Read weights in any format.

    Accepted are the published TorchScript archive, a state dict saved by ``torch.save``, and safetensors. The state
    dict may be below keys such as "state_dict" or "model", and the names of the CLIP in it may begin with a prefix such
    as "module." or "model.clip_model."; what lies beside them is left out with a warning. The content decides, not the
    suffix.

    Raises:
        BackboneError: the file cannot be read or holds no state dict.
    """
    try:
        kind = _no_weights(path)
        content = {} if kind else _read(path)
    except OSError as error:
        raise BackboneError(f"{path} cannot be read ({error.strerror or error})") from error
    except Exception as error:
        # Damaged files make the readers fail in many ways, which all mean the same to the user.
        raise BackboneError(
            f"{path} ({path.stat().st_size:,} bytes) cannot be read as weights ({_reason(error)[:200]}); it must be "
            f"{FORMATS}, and whole"
        ) from error
    if kind:
        raise BackboneError(f"{path} {kind}")
    state = _state_dict(content, path)
    if any(value.is_meta for value in state.values()):
        raise BackboneError(f"{path} has names and shapes of tensors, but no values; save it from a loaded model")
    by_openai = all(key in state for key in SCALARS)
    kept = {key: value.detach() for key, value in state.items() if key.split(".")[-1] not in NO_WEIGHTS}
    return Weights({key: _settled(value) for key, value in kept.items()}, by_openai)


def _settled(value: Tensor) -> Tensor:
    """The values in fp32, at addresses aligned as torch aligns its own tensors.

    A safetensors file is memory-mapped, and at another alignment a matrix product may round differently: the same
    weights would give different features from another file format.
    """
    value = value.float() if value.is_floating_point() else value
    return value.clone() if value.data_ptr() % ALIGNMENT else value


def _reason(error: Exception) -> str:
    if isinstance(error, pickle.UnpicklingError):  # torch's own message recommends the unsafe way
        return "it is damaged, or holds objects other than tensors, which are not read because they can execute code"
    if isinstance(error, zipfile.BadZipFile):
        return "it is a truncated or damaged zip archive"
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
    """The rest of a sentence that says what the file is and what to do; "" if it may hold weights."""
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
        return f"begins with {len(head):,} zero bytes, as after a failed download, {again}"
    kind = _kind(path, head)
    return f"is {kind} ({size:,} bytes) {again}" if kind else ""


def _kind(path: Path, head: bytes) -> str:
    """The file's format, with its article, if it holds no weights; else ""."""
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
    """The bytes as one line of text; "" if they are not text. The last character may be incomplete."""
    encoding = "utf-16" if head.startswith((b"\xff\xfe", b"\xfe\xff")) else "utf-8"
    text = head.decode(encoding, "replace").rstrip("\ufffd")
    plain = "\ufffd" not in text and all(letter.isprintable() or letter in string.whitespace for letter in text)
    return " ".join(text.split()) if plain else ""


def _state_dict(content: Any, path: Path) -> dict[str, Tensor]:
    """The only table of tensors in a file's content, without the common prefix of its names."""
    tables = {place: _compiled_names(table) for place, table in _tables(content, "", _DEPTH)}
    anchor = next((each for each in ANCHORS if any(_starts(table, each) for table in tables.values())), ANCHORS[0])
    clips = {place: table for place, table in tables.items() if _starts(table, anchor)} or tables
    if len(clips) != 1:
        raise BackboneError(f"{path} {_no_single_table(content, clips)}")
    table = next(iter(clips.values()))
    starts = _starts(table, anchor)
    if len(starts) > 1:
        shown = _some([start or "(none)" for start in starts])
        raise BackboneError(f"{path} holds several CLIPs, below {shown}; save the right one in a separate file")
    return _below(table, starts[0], path) if starts else table


def _compiled_names(table: dict[str, Tensor]) -> dict[str, Tensor]:
    """The table without torch.compile's part of names, if no two names are then the same."""
    plain = {key.replace(COMPILED, ""): value for key, value in table.items()}
    return plain if len(plain) == len(table) else table


def _starts(table: dict[str, Tensor], anchor: str) -> list[str]:
    """What stands before ``anchor`` in the names of a table."""
    return [key.removesuffix(anchor) for key in table if key == anchor or key.endswith(f".{anchor}")]


def _below(table: dict[str, Tensor], prefix: str, path: Path) -> dict[str, Tensor]:
    """The tensors whose names begin with a prefix, without it."""
    others = [key for key in table if not key.startswith(prefix)]
    if others:
        logger.warning(
            "%s: %d tensors beside the CLIP in %s are not read (%s)", path, len(others), prefix, _some(others)
        )
    return {key.removeprefix(prefix): value for key, value in table.items() if key.startswith(prefix)}


def _no_single_table(content: Any, tables: dict[str, Any]) -> str:
    if tables:
        return f"holds several state dicts ({_some(tables)}); save the right one in a separate file"
    has = f" with the keys {_some(content)}" if isinstance(content, dict) and content else ""
    return f"holds no state dict (a table of named tensors), but a {type(content).__name__}{has}"


def _tables(content: Any, place: str, depth: int) -> Iterator[tuple[str, dict[str, Tensor]]]:
    """(key path, table) of the tables of tensors in nested content."""
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
