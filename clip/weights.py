"""Find, download and identify the weights of a backbone."""

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

from clip import hub
from clip.errors import BackboneError
from clip.names import DEMO, DEMOS, PUBLISHED, SUFFIXES, Kind, Named, available_models, parse, user_path

DEMO_FILES = {name: Path(__file__).parent / "assets" / f"{name}.safetensors" for name in DEMOS}
__all__ = ["DEMO", "PUBLISHED", "SUFFIXES", "available_models"]
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


def published_source(name: str) -> Source:
    """Address and checksum of a published backbone, from open_clip's table.

    OpenAI's addresses hold the SHA-256 of the file as the folder name.
    """
    url = get_pretrained_cfg(PUBLISHED[name], "openai")["url"]
    return Source(url, url.split("/")[-2])


def locate(name: str, weights: str | Path = "") -> Path:
    """Find the weights file of a backbone; download a published one that is not found.

    Args:
        name: see ``clip.names.parse``.
        weights: for published names, a file, or a folder to look in first and to download to; "" for the caches only.

    Raises:
        BackboneError: unknown name, missing file, or a download that failed.
    """
    found = find(name, weights)
    if found is not None:
        return found
    named, chosen = parse(name), _chosen(weights)
    if named.kind is Kind.OPENAI:
        return _fetch(named, _folders(chosen))
    folder = None if chosen is None else chosen / hub.slug(name)
    return fetch_from_hub(named, folder)


def find(name: str, weights: str | Path = "") -> Path | None:
    """Like :func:`locate`, but without a download: None for published weights that are not found."""
    chosen = _chosen(weights)
    named = parse(name, with_file=chosen is not None and chosen.is_file())
    published = named.kind in (Kind.OPENAI, Kind.TAG, Kind.HUB)
    if chosen is not None and not (chosen.is_file() or chosen.is_dir()):
        make = f"make that folder to download {name} to" if published else f"leave it out for {name!r}"
        raise BackboneError(f"{SETTING} {chosen} is neither a file nor a folder; correct it, or {make}")
    if chosen is not None and chosen.is_file():
        if named.kind in (Kind.OPENAI, Kind.TAG):
            return chosen
        raise BackboneError(
            f"{SETTING} {chosen} has no meaning for the backbone {name!r}; use that file's path as the backbone's name"
        )
    if named.kind is Kind.OPENAI:
        return _find_published(named, chosen)
    if published:
        return hub.find(named.repository, named.files, [] if chosen is None else [chosen / hub.slug(name)])
    if named.kind is Kind.DEMO:
        return DEMO_FILES[named.name]
    return _in_bundle(named) if named.kind is Kind.FOLDER else named.path


def _in_bundle(named: Named) -> Path:
    found = hub.first_file(named.path, hub.TENSORS)
    if found is None:
        raise BackboneError(f"the folder {named.path} has none of {', '.join(hub.TENSORS)}; put the weights there")
    return found


def fetch_from_hub(named: Named, folder: Path | None) -> Path:
    """Download the weights of a backbone and what describes them; returns the path of the weights.

    Args:
        folder: where to; None: the Hub's cache.
    """
    if named.kind is Kind.HUB:
        hub.fetch(named.repository, hub.CONFIGS, name=named.name, folder=folder)
        hub.fetch_others(named.repository, (hub.PREPARATION,), folder)
    return hub.fetch(named.repository, named.files, name=named.name, folder=folder)


def _chosen(weights: str | Path) -> Path | None:
    return user_path(str(weights)) if str(weights) else None


def _find_published(named: Named, chosen: Path | None) -> Path | None:
    if chosen is not None and chosen.is_file():
        return chosen
    for folder in _folders(chosen):
        for suffix in SUFFIXES:
            candidate = folder / f"{_stem(named)}{suffix}"
            if candidate.is_file():
                return candidate
    folders = [] if chosen is None else [chosen / hub.slug(named.repository)]
    return hub.find(named.repository, hub.TENSORS[:3], folders) if named.repository else None


def _stem(named: Named) -> str:
    return get_pretrained_cfg(named.arch, "openai")["url"].rsplit("/", 1)[-1].removesuffix(".pt")


def _folders(chosen: Path | None) -> list[Path]:
    return ([chosen] if chosen is not None else []) + _cache_folders()


def _cache_folders() -> list[Path]:
    """The caches of CLIP and open_clip; downloads go to the first."""
    folders = [Path.home() / ".cache" / "clip"]
    xdg = os.environ.get("XDG_CACHE_HOME")
    if xdg and Path(xdg) / "clip" not in folders:
        folders.insert(0, Path(xdg) / "clip")
    return folders


def _fetch(named: Named, folders: list[Path]) -> Path:
    """Download a published file to the first folder, or the same tensors from the Hub's mirror.

    The error message says how to get the file by hand.
    """
    name = openai_name(named)
    source = published_source(name)
    target = folders[0] / f"{_stem(named)}.pt"
    logger.info("downloading the weights of %s from %s to %s", name, source.url, target)
    try:
        download(source, target)
    except NETWORK_ERRORS as error:
        logger.info("%s cannot be reached (%s); trying %s/%s", source.url, error, hub.SITE, named.repository)
        try:
            return hub.fetch(named.repository, hub.TENSORS[:3], name=name)
        except BackboneError as second:
            raise BackboneError(
                f"the weights of {name} ({target.name}) are not in {' or '.join(map(str, folders))}, and downloading "
                f"them from {source.url} failed ({error}), as did their mirror {hub.SITE}/{named.repository}; get that "
                f"file on a machine with a network (`python -m clip fetch {name} --to FOLDER`) and put it into "
                f"{folders[0]}, or set {SETTING} to it"
            ) from second
    except OSError as error:
        raise BackboneError(
            f"cannot write {target}: {error.strerror or error}; free some space, or set {SETTING} to a writable folder"
        ) from error
    return target


def openai_name(named: Named) -> str:
    """OpenAI's name of one of its networks, however it is spelt."""
    return next(name for name, arch in PUBLISHED.items() if arch == named.arch)


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
    if found == expected:
        return
    if path.name in hub.TENSORS:  # its name on the Hub and in the Hub's cache
        logger.warning(
            "the weights of %s are read from %s, a mirror of OpenAI's tensors in another file format: its bytes cannot "
            "be compared with OpenAI's; runs from OpenAI's own file must show the same digest of the weights",
            name,
            path,
        )
        return
    logger.warning(
        "the weights of %s are read from %s, which is not the published file (SHA-256 %s there, %s published): its "
        "tensors have the published shapes, whether they have the published values is not known, and they are computed "
        "with QuickGELU as OpenAI's; use the published file, or name the backbone by the path of this one",
        name,
        path,
        found[:12],
        expected[:12],
    )


def published_name(path: Path) -> str:
    """OpenAI's name of a file that is byte for byte one of OpenAI's; "" if it is none of them."""
    found = _file_digest(path)
    return next((name for name in PUBLISHED if published_source(name).sha256 == found), "")


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
