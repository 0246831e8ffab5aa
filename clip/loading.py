"""From the name of a backbone to its network: which weights, which architecture, and why."""

import logging
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from clip import hub, huggingface
from clip.architecture import (
    ACTIVATION_KEY,
    HEADS_KEY,
    OPENAI,
    Style,
    build_model,
    check_finite,
    check_listed,
    check_sizes,
    choose_style,
    is_plain,
    style_of,
)
from clip.errors import BackboneError
from clip.names import ARCH_SETTING, PUBLISHED, Kind, Named, architecture_named, parse, user_path
from clip.openclip import CONFIG, Description, Preparation, build_network, described, listed, preparations, tagged
from clip.reading import ANCHORS, read_weights
from clip.tokenizer import CONTEXT_LENGTH, BytePairs, Tokenizer, openai_tokenizer, tokenizer_of, vocabulary_size
from clip.weights import check_published, digest_of, locate, openai_name, published_name
from clip.wrapped import config_folder

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Wish:
    """Facts that a user states about a file.

    Attributes:
        style: activation and head widths; empty ones are not stated.
        arch: open_clip's name of the architecture; "" if it is not stated.
    """

    style: Style = field(default_factory=Style)
    arch: str = ""


@dataclass(frozen=True)
class Network:
    """A network with its weights, and what goes with it.

    Attributes:
        digest: SHA-256 of weights and description, independent of the file's format.
    """

    model: nn.Module
    digest: str
    tokenizer: Tokenizer
    preparation: Preparation


@dataclass(frozen=True)
class _Content:
    """A weights file in OpenAI's layout or another, and what is known of its network."""

    state: dict[str, Tensor]
    source: str
    by_openai: bool
    from_transformers: bool


def load_network(name: str, weights: str | Path, wish: Wish, cast_dtype: torch.dtype | None) -> Network:
    """Find, read, check and build the network of a name.

    Raises:
        BackboneError: see ``clip.load``.
    """
    path = locate(name, weights)
    named = parse(name, with_file=bool(weights) and user_path(str(weights)).is_file())
    content = _read(path)
    description = _description(named, path, wish.arch)
    if description is None:
        return _openai_network(named, path, content, wish.style, cast_dtype)
    if is_plain(description.model) and ANCHORS[0] in content.state:
        return _listed_network(named, description, content, wish, cast_dtype)
    return _other_network(named, description, content, wish.style, cast_dtype)


def _read(path: Path) -> _Content:
    content = read_weights(path)
    state, theirs = content.tensors, huggingface.is_transformers(content.tensors)
    if theirs:
        state = huggingface.to_openai(state, source=str(path))
    check_finite(state, source=str(path))
    return _Content(state, str(path), content.by_openai, theirs)


def _description(named: Named, path: Path, arch: str) -> Description | None:
    """What open_clip, a folder or the user says the network is; None: the file itself must show it."""
    if arch and named.kind is not Kind.FILE:
        raise BackboneError(f"{ARCH_SETTING} {arch} has no meaning for the backbone {named.name!r}; leave it out")
    if arch:
        return _of_arch(architecture_named(arch), path)
    if named.kind is Kind.TAG and not named.tag:
        return _of_arch(named.arch, path)
    if named.kind is Kind.TAG:
        found = tagged(named.arch, named.tag)
        own = (path.parent / CONFIG).is_file() and hub.first_file(path.parent, hub.TOKENS) is not None
        return replace(found, tokenizer=f"local-dir:{path.parent}") if own else found
    folder = named.kind in (Kind.HUB, Kind.FOLDER)
    return described(path.parent) if folder and (path.parent / CONFIG).is_file() else None


def _of_arch(arch: str, path: Path) -> Description:
    ways = preparations(arch)
    if len(ways) > 1:
        logger.warning(
            "%s does not say how its images were prepared, and published weights of %s have %d ways; OpenAI's is taken "
            "(%s). If it was trained otherwise, set INPUT.PIXEL_MEAN, INPUT.PIXEL_STD, INPUT.INTERPOLATION and "
            "INPUT.RESIZE",
            path,
            arch,
            len(ways),
            Preparation(),
        )
    return listed(arch)


def _openai_network(
    named: Named, path: Path, content: _Content, said: Style, cast_dtype: torch.dtype | None
) -> Network:
    """A network in OpenAI's layout, whose sizes the tensors show."""
    state, source, by_name = content.state, content.source, named.kind in (Kind.OPENAI, Kind.DEMO)
    if named.kind is Kind.OPENAI:
        check_sizes(state, openai_name(named), source=source, published=PUBLISHED)
        check_published(openai_name(named), path)
    preparation, known = Preparation(), OPENAI if content.by_openai or by_name else None
    config = path.parent / huggingface.CONFIG
    if content.from_transformers and not by_name and config.is_file():
        preparation, known = huggingface.preparation_in(path.parent), huggingface.style_in(config)
        logger.info("%s computes with %s, as %s says", source, known, config)
    elif named.kind in (Kind.HUB, Kind.FOLDER):
        raise BackboneError(
            f"{path.parent} describes no CLIP that is known here ({huggingface.CONFIG} of another network); give the "
            f"path of the weights file, and set {ARCH_SETTING}"
        )
    style = choose_style(state, said, known=known, source=source)
    if known and style != known:
        _contradicted(named.name, source, style, known, refuse=by_name)
    if content.by_openai and not by_name:
        logger.info("%s computes with %s: %s", source, style, _why_openai(path))
    return _plain(state, source, style, preparation, cast_dtype)


def _why_openai(path: Path) -> str:
    name = published_name(path)
    if name:
        return f"it is OpenAI's file of {name} (SHA-256)"
    return (
        "it has three scalars that only OpenAI's code writes; it is none of OpenAI's published files (SHA-256), so "
        f"nothing else tells its activation. Set {ACTIVATION_KEY} if it was trained with another one"
    )


def _listed_network(
    named: Named, description: Description, content: _Content, wish: Wish, cast_dtype: torch.dtype | None
) -> Network:
    """A network in OpenAI's layout, of a known architecture."""
    check_listed(content.state, description.model, description.name, source=content.source)
    known = style_of(description.model)
    style = choose_style(content.state, wish.style, known=known, source=content.source)
    if style.head_widths != known.head_widths:
        raise BackboneError(f"{HEADS_KEY} {wish.style.head_widths} is not true of {description.name}; leave it out")
    if style != known and not wish.arch:
        _contradicted(named.name, content.source, style, known, refuse=named.kind is Kind.TAG)
    why = "as the keys of the config say" if style != known else f"as {description.name} does"
    logger.info("%s computes with %s, %s", content.source, style.activation, why)
    return _plain(content.state, content.source, style, description.preparation, cast_dtype)


def _plain(
    state: dict[str, Tensor], source: str, style: Style, preparation: Preparation, cast_dtype: torch.dtype | None
) -> Network:
    model = build_model(state, source=source, style=style, cast_dtype=cast_dtype)
    if model.vocab_size != vocabulary_size():
        raise BackboneError(
            f"{source} has a vocabulary of {model.vocab_size} tokens, the tokenizer {vocabulary_size()}"
        )
    digest = digest_of(state, "" if style == OPENAI else str(style))
    length = model.context_length
    tokenizer = openai_tokenizer() if length == CONTEXT_LENGTH else BytePairs(length)
    return Network(model, digest, tokenizer, preparation)


def _other_network(
    named: Named, description: Description, content: _Content, said: Style, cast_dtype: torch.dtype | None
) -> Network:
    """A network of an architecture that OpenAI's code does not know."""
    if any(said.head_widths):
        raise BackboneError(f"{HEADS_KEY} has no meaning for {description.name}; leave it out")
    if said.activation:
        asked = description.with_quick(said.activation == "quickgelu")
        if asked.quick != description.quick:
            told = f"{ACTIVATION_KEY} {said.activation} contradicts {description.name}"
            if named.kind is Kind.TAG:
                raise BackboneError(f"{told}; leave it out")
            logger.warning("%s; it is followed", told)
        description = asked
    if description.wrapped:
        folder = config_folder(description.wrapped, Path(content.source).parent)
        description = replace(description, text_folder=str(folder))
    model = build_network(description, content.state, source=content.source, cast_dtype=cast_dtype)
    tokenizer = tokenizer_of(description.tokenizer, description.model["text_cfg"])
    if tokenizer.size > int(getattr(model, "vocab_size", 0) or tokenizer.size):
        raise BackboneError(
            f"{content.source} has a vocabulary of {model.vocab_size} tokens, the tokenizer {tokenizer.size}"
        )
    # By the file's own names, so that the digest does not depend on the version of open_clip.
    return Network(model, digest_of(content.state, description.remark()), tokenizer, description.preparation)


def _contradicted(name: str, source: str, style: Style, known: Style, *, refuse: bool) -> None:
    """Handle a stated style that contradicts the known one: refuse it for a known name, follow it for a file."""
    if refuse:
        raise BackboneError(f"{style} is not true of {name}, which is computed with {known}; leave the keys out")
    logger.warning("%s is known to compute with %s; %s is followed", source, known, style)
