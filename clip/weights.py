"""Find, download and identify the weights of a backbone."""

import difflib
import hashlib
import http.client
import logging
import os
import socket
import ssl
import sys
import urllib.error
from dataclasses import dataclass
from pathlib import Path

import torch
from open_clip.pretrained import get_pretrained_cfg
from torch import Tensor

from clip.errors import BackboneError

DEMO = "demo"
DEMO_FILE = Path(__file__).parent / "assets" / "demo.safetensors"
PUBLISHED = {"RN50": "RN50", "RN101": "RN101", "ViT-B/32": "ViT-B-32", "ViT-B/16": "ViT-B-16"}
SUFFIXES = (".pt", ".safetensors", ".pth")
SETTING = "MODEL.BACKBONE.WEIGHTS"
NETWORK_TIMEOUT_S = 30
_BLOCK = 2**20  # bytes that are hashed at a time
NETWORK_ERRORS = (urllib.error.URLError, http.client.HTTPException, ConnectionError, TimeoutError, ssl.SSLError)

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Source:
    """Address and SHA-256 of a published file."""

    url: str
    sha256: str


def available_models() -> list[str]:
    """Names that ``load`` knows; it takes the path of a weights file as well."""
    return [*PUBLISHED, DEMO]


def published_source(name: str) -> Source:
    """Address and checksum of a published backbone, from open_clip's table.

    OpenAI's addresses hold the SHA-256 of the file as the folder name.
    """
    url = get_pretrained_cfg(PUBLISHED[name], "openai")["url"]
    return Source(url, url.split("/")[-2])


def locate(name: str, weights: str | Path = "") -> Path:
    """Find the weights file of a backbone; download a published one that is not found.

    Args:
        name: one of ``available_models()`` or the path of a weights file.
        weights: for published names, a file, or a folder to look in first and to download to; "" for the cache only.

    Raises:
        BackboneError: unknown name, missing file, or a download that failed.
    """
    return find(name, weights) or _fetch(name, _folders(_chosen(weights)))


def find(name: str, weights: str | Path = "") -> Path | None:
    """Like :func:`locate`, but without a download: None for published weights that are not found."""
    chosen = _chosen(weights)
    if chosen is not None and not (chosen.is_file() or chosen.is_dir()):
        make = f"make that folder to download {name} to" if name in PUBLISHED else f"leave it out for {name!r}"
        raise BackboneError(f"{SETTING} {chosen} is neither a file nor a folder; correct it, or {make}")
    if name in PUBLISHED:
        return _find_published(name, chosen)
    if chosen is not None and chosen.is_file():
        raise BackboneError(
            f"{SETTING} {chosen} has no meaning for the backbone {name!r}; use that file's path as the backbone's name"
        )
    path = DEMO_FILE if name == DEMO else Path(name).expanduser()
    if path.is_file():
        return path
    if path.is_dir():
        raise BackboneError(f"the backbone {name!r} is a folder; give the path of the weights file{_in_folder(path)}")
    if path.suffix in SUFFIXES:
        raise BackboneError(f"the weights file {path} of the backbone {name!r} does not exist; check the path")
    raise BackboneError(_unknown_name(name))


def _chosen(weights: str | Path) -> Path | None:
    return Path(weights).expanduser() if str(weights) else None


def _in_folder(folder: Path) -> str:
    names = sorted(path.name for path in folder.iterdir() if path.suffix in SUFFIXES)
    return f" in it ({', '.join(names[:3])}{', ...' * (len(names) > 3)})" if names else ""


def _unknown_name(name: str) -> str:
    lowered = {known.lower(): known for known in available_models()}
    near = [lowered[match] for match in difflib.get_close_matches(name.lower(), lowered, n=3, cutoff=0.5)]
    guess = f"did you mean {' or '.join(near)}? Choose" if near else "choose"
    return (
        f"unknown backbone {name!r}; {guess} one of {', '.join(available_models())}, or give the path of a file "
        f"({', '.join(SUFFIXES)}) with weights in OpenAI's layout"
    )


def _find_published(name: str, chosen: Path | None) -> Path | None:
    if chosen is not None and chosen.is_file():
        return chosen
    for folder in _folders(chosen):
        for suffix in SUFFIXES:
            candidate = folder / f"{PUBLISHED[name]}{suffix}"
            if candidate.is_file():
                return candidate
    return None


def _folders(chosen: Path | None) -> list[Path]:
    return ([chosen] if chosen is not None else []) + _cache_folders()


def _cache_folders() -> list[Path]:
    """The caches of CLIP and open_clip; downloads go to the first."""
    folders = [Path.home() / ".cache" / "clip"]
    xdg = os.environ.get("XDG_CACHE_HOME")
    if xdg and Path(xdg) / "clip" not in folders:
        folders.insert(0, Path(xdg) / "clip")
    return folders


def _fetch(name: str, folders: list[Path]) -> Path:
    """Download a published file to the first folder; the error message says how to get the file by hand."""
    source = published_source(name)
    target = folders[0] / f"{PUBLISHED[name]}.pt"
    logger.info("downloading the weights of %s from %s to %s", name, source.url, target)
    try:
        download(source, target)
    except NETWORK_ERRORS as error:
        raise BackboneError(
            f"the weights of {name} ({target.name}) are not in {' or '.join(map(str, folders))}, and downloading them "
            f"from {source.url} failed ({error}); get that file on a machine with a network and put it into "
            f"{folders[0]}, or set {SETTING} to it"
        ) from error
    except OSError as error:
        raise BackboneError(
            f"cannot write {target}: {error.strerror or error}; free some space, or set {SETTING} to a writable folder"
        ) from error
    return target


def download(source: Source, target: Path) -> None:
    """Download a file with a progress bar; it gets its name once its bytes have the published checksum.

    Raises:
        BackboneError: the checksum differs; nothing is left behind.
        OSError: no network, or the file cannot be written.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(NETWORK_TIMEOUT_S)  # otherwise torch waits for a silent server forever
    try:
        # The bar shows only where a person watches a terminal.
        torch.hub.download_url_to_file(source.url, str(target), source.sha256, progress=sys.stderr.isatty())
    except RuntimeError as error:
        raise BackboneError(
            f"{source.url} sent a wrong or truncated file: {error}; it was deleted. Try again, or get "
            f"the file elsewhere and set {SETTING} to it"
        ) from error
    finally:
        socket.setdefaulttimeout(before)


def check_published(name: str, path: Path) -> None:
    """Warn if the file of a published backbone is not byte for byte the published one."""
    expected, found = published_source(name).sha256, _file_digest(path)
    if found != expected:
        logger.warning(
            "the weights of %s are read from %s, which is not the published file (SHA-256 %s there, %s published): its "
            "tensors have the published shapes, whether they have the published values is not known; use the "
            "published file, or name the backbone by the path of this one",
            name,
            path,
            found[:12],
            expected[:12],
        )


def _file_digest(path: Path) -> str:
    found = hashlib.sha256()  # hashlib.file_digest needs Python 3.11
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            found.update(block)
    return found.hexdigest()


def digest_of(state: dict[str, Tensor], remark: str = "") -> str:
    """SHA-256 over key, dtype, shape and bytes of the floating tensors in key order.

    The tensors are fp32 here, so the same weights have the same digest in every file format.

    Args:
        remark: other differences from OpenAI's network with these tensors; "" if none.
    """
    digest = hashlib.sha256(remark.encode())
    for key in sorted(key for key, value in state.items() if value.is_floating_point()):
        value = state[key].contiguous()
        digest.update(f"{key} {value.dtype} {tuple(value.shape)}\n".encode())
        digest.update(value.numpy().data)
    return digest.hexdigest()
