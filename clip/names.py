"""What the name of a backbone stands for, and all names there are."""

import difflib
from dataclasses import dataclass
from enum import Enum
from functools import lru_cache
from pathlib import Path

import open_clip
from open_clip.pretrained import get_pretrained_cfg, list_pretrained_tags_by_model

from clip.errors import BackboneError
from clip.hub import CONFIGS, SITE, TENSORS, is_repository
from clip.openclip import listed, tagged, tags

HUB, FOLDER = "hf-hub:", "local-dir:"
# The embedded backbones of the demo: a ResNet, and a ViT beside the same text tower.
DEMO, DEMO_VIT = "demo", "demo-vit"
DEMOS = (DEMO, DEMO_VIT)
# OpenAI's names with open_clip's names of their architectures.
PUBLISHED = {
    "RN50": "RN50",
    "RN101": "RN101",
    "RN50x4": "RN50x4",
    "RN50x16": "RN50x16",
    "RN50x64": "RN50x64",
    "ViT-B/32": "ViT-B-32",
    "ViT-B/16": "ViT-B-16",
    "ViT-L/14": "ViT-L-14",
    "ViT-L/14@336px": "ViT-L-14-336",
}
QUICK = "-quickgelu"  # the end of open_clip's architectures that compute with QuickGELU
SUFFIXES = (".pt", ".safetensors", ".pth", ".bin")
ARCH_SETTING = "MODEL.BACKBONE.ARCH"


class Kind(Enum):
    """Where a backbone comes from."""

    OPENAI = "OpenAI"
    DEMO = "demo"
    TAG = "open_clip"
    HUB = "Hugging Face"
    FOLDER = "folder"
    FILE = "file"


@dataclass(frozen=True)
class Named:
    """What a name stands for.

    Attributes:
        name: as given.
        arch: open_clip's architecture; "" for a file or a folder.
        tag: open_clip's name of the weights; "" if a file gives them.
        repository: on the Hub, where the weights are published; "" if they are not there.
        files: the file to take from there, in the order of choice.
        path: of a file or a folder.
    """

    name: str
    kind: Kind
    arch: str = ""
    tag: str = ""
    repository: str = ""
    files: tuple[str, ...] = TENSORS
    path: Path = Path()


def available_models() -> list[str]:
    """OpenAI's names and the demo's. ``load`` knows open_clip's (``all_names``), the Hub, folders and files as well."""
    return [*PUBLISHED, *DEMOS]


@lru_cache(maxsize=1)
def all_names() -> tuple[str, ...]:
    """OpenAI's names, the demo's, and open_clip's MODEL:TAG."""
    openai = set(PUBLISHED.values())
    others = [(arch, tag) for arch, tag in tags() if tag != "openai" or arch.removesuffix(QUICK) not in openai]
    return (*available_models(), *(f"{arch}:{tag}" for arch, tag in others))


def parse(name: str, *, with_file: bool = False) -> Named:
    """What a name stands for.

    Args:
        with_file: the weights come from a file that is named elsewhere, so an architecture alone is enough.

    Raises:
        BackboneError: an unknown name (the message has the nearest ones), a file or folder that is not there, or an
            architecture with several published weights.
    """
    if not name.strip() or name == FOLDER:
        raise BackboneError(f"the backbone {name!r} has no name; `python -m clip` lists what there is")
    if name in PUBLISHED:
        return _openai(name, name)
    if name in DEMOS:
        return Named(name, Kind.DEMO)
    if name.startswith(HUB):
        repository = name.removeprefix(HUB)
        if not is_repository(repository):
            raise BackboneError(f"the backbone {name!r} names no repository of the Hub; give {HUB}OWNER/NAME")
        return Named(name, Kind.HUB, repository=repository)
    path = user_path(name.removeprefix(FOLDER))
    found = _at(name, path)
    if found is not None:
        return found
    arch, _, tag = name.partition(":")
    arch = arch.replace("/", "-")
    if open_clip.get_model_config(arch) is not None:
        return _tagged(name, arch, tag, with_file=with_file)
    if path.suffix in SUFFIXES:
        raise BackboneError(f"the weights file {path} of the backbone {name!r} does not exist; check the path")
    raise BackboneError(_unknown(name))


def user_path(text: str) -> Path:
    """A path as the user gives it, with ~ for a home folder; unchanged if there is no such home."""
    try:
        return Path(text).expanduser()
    except RuntimeError:
        return Path(text)


def _at(name: str, path: Path) -> Named | None:
    """The folder or file at a path; None if there is none."""
    try:
        is_folder, is_file = path.is_dir(), path.is_file()
    except OSError:  # such as a name that is too long for a file
        return None
    if name.startswith(FOLDER) or (is_folder and any((path / config).is_file() for config in CONFIGS)):
        return _folder(name, path)
    if is_folder:
        raise BackboneError(f"the backbone {name!r} is a folder; give the path of the weights file{_in_folder(path)}")
    return Named(name, Kind.FILE, path=path) if is_file else None


def _openai(name: str, known: str) -> Named:
    source = get_pretrained_cfg(PUBLISHED[known], "openai").get("hf_hub", "")
    return Named(name, Kind.OPENAI, PUBLISHED[known], "openai", source.rstrip("/"))


def _folder(name: str, path: Path) -> Named:
    if not path.is_dir():
        raise BackboneError(f"the folder {path} of the backbone {name!r} does not exist; check the path")
    if not any((path / config).is_file() for config in CONFIGS):
        raise BackboneError(
            f"the folder {path} has no {' or '.join(CONFIGS)}, which would say what its network is; give the path of "
            f"the weights file{_in_folder(path)} and set {ARCH_SETTING}"
        )
    return Named(name, Kind.FOLDER, path=path)


def _tagged(name: str, arch: str, tag: str, *, with_file: bool) -> Named:
    known = list_pretrained_tags_by_model(arch)
    # As open_clip folds case and dashes of tags.
    tag = tag.lower().replace("-", "_")
    if not tag and with_file:
        return Named(name, Kind.TAG, arch)
    if not tag and len(known) == 1:
        [tag] = known
    facts = get_pretrained_cfg(arch, tag) if tag else {}
    if not facts:
        choices = ", ".join(f"{arch}:{each}" for each in known) or f"the path of a file, with {ARCH_SETTING} {arch}"
        said = (
            f"open_clip knows no weights {tag!r} of {arch}" if tag else f"{name!r} is an architecture without weights"
        )
        near = difflib.get_close_matches(tag, known, n=1)
        raise BackboneError(f"{said}; {f'did you mean {arch}:{near[0]}? Choose' if near else 'choose'} {choices}")
    if tag == "openai" and arch.removesuffix(QUICK) in PUBLISHED.values():
        names = {theirs: mine for mine, theirs in PUBLISHED.items()}
        return _openai(name, names[arch.removesuffix(QUICK)])
    repository, _, file = facts["hf_hub"].rpartition("/")
    files = (Path(file).stem + ".safetensors", file) if file and not file.endswith(".safetensors") else (file,)
    return Named(name, Kind.TAG, arch, tag, repository, files if file else TENSORS[:3])


def open_clip_name(name: str) -> tuple[str, str]:
    """Architecture and tag by which ``open_clip.create_model`` makes a backbone; empty for what has none.

    Of a repository of the Hub the first is its name with "hf-hub:", and the tag is empty, as open_clip takes it. Where
    tagged weights compute with QuickGELU, the architecture is the one that does; below the other open_clip only warns.
    """
    try:
        named = parse(name, with_file=True)
    except BackboneError:
        return "", ""
    if named.kind is Kind.OPENAI:
        return f"{named.arch}{QUICK}", named.tag
    if named.kind is Kind.HUB:
        return named.name, ""
    if not named.tag:
        return "", ""
    quick = tagged(named.arch, named.tag).quick and not listed(named.arch).quick
    return f"{named.arch}{QUICK}" if quick else named.arch, named.tag


def _in_folder(folder: Path) -> str:
    names = sorted(path.name for path in folder.iterdir() if path.suffix in SUFFIXES)
    return f" in it ({', '.join(names[:3])}{', ...' * (len(names) > 3)})" if names else ""


def _unknown(name: str) -> str:
    guess = " or ".join([*_as_repository(name), *nearest_names(name)])
    return (
        f"unknown backbone {name!r}; {f'did you mean {guess}? Choose' if guess else 'choose'} one of "
        f"{', '.join(available_models())}, one of open_clip's MODEL:TAG (`python -m clip` lists them), "
        f"{HUB}OWNER/NAME, {FOLDER}PATH, or the path of a file ({', '.join(SUFFIXES)})"
    )


def _as_repository(name: str) -> list[str]:
    """What the address of a page of the Hub, or OWNER/NAME alone, may stand for."""
    bare = name.removeprefix(f"{SITE}/").strip("/")
    near = difflib.get_close_matches(name.lower(), [known.lower() for known in PUBLISHED], n=1, cutoff=0.7)
    return [f"{HUB}{bare}"] if is_repository(bare) and not near else []


def nearest_names(name: str, count: int = 3) -> list[str]:
    """The names that are most like a misspelt one."""
    lowered = {known.lower(): known for known in all_names()}
    return [lowered[match] for match in difflib.get_close_matches(name.lower(), lowered, n=count, cutoff=0.5)]


def architecture_named(arch: str) -> str:
    """open_clip's spelling of an architecture.

    Raises:
        BackboneError: it has none of this name.
    """
    cleaned = arch.replace("/", "-")
    if open_clip.get_model_config(cleaned) is not None:
        return cleaned
    near = difflib.get_close_matches(cleaned, open_clip.list_models(), n=3, cutoff=0.5)
    guess = f"; did you mean {' or '.join(near)}?" if near else ""
    raise BackboneError(
        f"{ARCH_SETTING} is {arch!r}, which open_clip does not have{guess} (all: `python -m clip list --architectures`)"
    )
