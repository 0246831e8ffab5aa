"""Files of Hugging Face's Hub: those on this machine, and downloads.

A repository's files are looked for in a folder of weights, ``FOLDER/<slug>/FILE``, as ``python -m clip fetch`` lays
them out, and in the Hub's own cache. Only tables (json), tokens and tensors are fetched; no file is executed.
"""

import logging
import re
from collections.abc import Iterable, Sequence
from functools import lru_cache
from pathlib import Path

import huggingface_hub
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
)

from clip.errors import BackboneError

NETWORK_TIMEOUT_S = 30
SITE = "https://huggingface.co"
CONFIGS = ("open_clip_config.json", "config.json")
# In the order in which one is chosen.
TENSORS = (
    "open_clip_model.safetensors",
    "open_clip_pytorch_model.safetensors",
    "open_clip_pytorch_model.bin",
    "model.safetensors",
    "pytorch_model.bin",
)
PREPARATION = "preprocessor_config.json"
TOKENS = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "vocab.txt",
    "vocab.json",
    "merges.txt",
    "tokenizer.model",
    "spiece.model",
    "sentencepiece.bpe.model",
)
_REPOSITORY = re.compile(r"[\w.-]+/[\w.-]+")

logger = logging.getLogger(__name__)


def is_repository(name: str) -> bool:
    """Whether ``name`` has the form OWNER/NAME."""
    return _REPOSITORY.fullmatch(name) is not None and ".." not in name


def slug(name: str) -> str:
    """The folder of a backbone's files in a folder of weights."""
    return name.removeprefix("hf-hub:").replace("/", "--").replace(":", "--")


def find(repository: str, files: Sequence[str], folders: Iterable[Path]) -> Path | None:
    """The first of some files that is in one of the folders, else in the Hub's cache; None if none is."""
    for folder in folders:
        if (found := first_file(folder, files)) is not None:
            return found
    for name in files:
        cached = huggingface_hub.try_to_load_from_cache(repository, name)
        if isinstance(cached, str):
            return Path(cached)
    return None


def first_file(folder: Path, files: Sequence[str]) -> Path | None:
    """The first of some files that a folder has."""
    return next((folder / name for name in files if (folder / name).is_file()), None)


def fetch(repository: str, files: Sequence[str], *, name: str, folder: Path | None = None) -> Path:
    """Download the first of some files that a repository has.

    Args:
        name: of the backbone, for messages.
        folder: where to; None: the Hub's cache.

    Raises:
        BackboneError: no network, no such repository, a gated one, or none of the files: the message says what to
            fetch, from where, and where to put it.
    """
    for file in files:
        try:
            check_reachable()
            logger.info("downloading %s of %s", file, repository)
            return Path(huggingface_hub.hf_hub_download(repository, file, local_dir=folder))
        except LocalEntryNotFoundError as error:
            raise BackboneError(_no_network(repository, files, name, error)) from error
        except EntryNotFoundError:
            continue
        except GatedRepoError as error:
            raise BackboneError(
                f"{SITE}/{repository} with the weights of {name} is gated: accept its terms there, and log in "
                "(`hf auth login`) or set HF_TOKEN"
            ) from error
        except RepositoryNotFoundError as error:
            raise BackboneError(
                f"{SITE}/{repository} with the weights of {name} does not exist or is private; check the name, or log "
                "in (`hf auth login`) if it is yours"
            ) from error
        except (HfHubHTTPError, OSError) as error:
            raise BackboneError(_no_network(repository, files, name, error)) from error
    raise BackboneError(f"{SITE}/{repository} has none of the files {', '.join(files)}, so {name} cannot be loaded")


def fetch_others(repository: str, files: Sequence[str], folder: Path | None) -> list[Path]:
    """Those of some files that a repository has, downloaded."""
    found = []
    for file in files:
        try:
            check_reachable()
            found.append(Path(huggingface_hub.hf_hub_download(repository, file, local_dir=folder)))
        except EntryNotFoundError:
            continue
        except OSError as error:
            raise BackboneError(f"{file} of {SITE}/{repository} cannot be fetched ({_reason(error)})") from error
    return found


@lru_cache(maxsize=1)  # a failure is not kept
def check_reachable() -> None:
    """Ask the Hub for an answer, once: without a network the Hub's own library tries for half a minute, file by file.

    Raises:
        ConnectionError: there is none.
    """
    if huggingface_hub.constants.HF_HUB_OFFLINE:
        return  # its library says so at once
    try:
        huggingface_hub.utils.get_session().head(huggingface_hub.constants.ENDPOINT, timeout=NETWORK_TIMEOUT_S)
    except Exception as error:  # its errors depend on the library below it
        raise ConnectionError(_reason(error)) from error


def _no_network(repository: str, files: Sequence[str], name: str, error: Exception) -> str:
    return (
        f"the weights of {name} ({files[0]} of {SITE}/{repository}) are not on this machine, and downloading them "
        f"failed ({_reason(error)}); on a machine with a network run `python -m clip fetch {name} --to FOLDER`, bring "
        "FOLDER here, and set MODEL.BACKBONE.WEIGHTS FOLDER"
    )


def _reason(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200]
