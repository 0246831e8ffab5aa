"""Networks of any architecture that open_clip describes, and what their pictures and texts must be like.

A ``Description`` says what a network is: open_clip's model config, the preparation of images, and the name under which
open_clip knows the tokenizer. ``build_network`` makes the torch module from it and a state dict: a ``CLIP``, a
``CustomTextCLIP`` (SigLIP, EVA02, PE-Core, MobileCLIP, ...) or a ``CoCa``. ``Backbone`` takes any of these.

Descriptions come from open_clip's own lists (``listed``, ``tagged``) or from a folder with open_clip's
``open_clip_config.json`` (``described``). Nothing here downloads, and no code of a model is run.
"""

import json
import math
from copy import deepcopy
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import open_clip
import torch
from open_clip import hf_model
from open_clip.coca_model import CoCa
from open_clip.constants import OPENAI_DATASET_MEAN, OPENAI_DATASET_STD
from open_clip.convert import convert_state_dict
from open_clip.hf_model import HFTextEncoder
from open_clip.model import CLIP, CustomTextCLIP, convert_to_custom_text_state_dict, convert_weights_to_lp
from open_clip.pretrained import get_pretrained_cfg, list_pretrained, list_pretrained_tags_by_model
from open_clip.transformer import AttentionalPooler, LayerNormFp32
from torch import Tensor, nn

from clip.architecture import check_layout
from clip.errors import BackboneError

CONFIG = "open_clip_config.json"
INTERPOLATIONS = ("bicubic", "bilinear")
RESIZES = ("shortest", "squash", "longest")
IMAGE_MEAN: tuple[float, float, float] = OPENAI_DATASET_MEAN
IMAGE_STD: tuple[float, float, float] = OPENAI_DATASET_STD
# A position table that older text towers of Hugging Face saved; it is counted, not learned.
COUNTED = "text.transformer.embeddings.position_ids"


@dataclass(frozen=True)
class Preparation:
    """How a network's pictures are prepared.

    Attributes:
        mean, std: of the three channels, for pixels in [0, 1].
        interpolation: "bicubic" or "bilinear".
        resize: "shortest" (the shorter side to the size, then the centre is cut out), "squash" (both sides to the size)
            or "longest" (the longer side to the size, then the rest is filled with black).
    """

    mean: tuple[float, ...] = IMAGE_MEAN
    std: tuple[float, ...] = IMAGE_STD
    interpolation: str = "bicubic"
    resize: str = "shortest"


@dataclass(frozen=True)
class Description:
    """What a network is.

    Attributes:
        name: for messages: the architecture, or the place of the description.
        model: open_clip's model config: ``embed_dim``, ``vision_cfg``, ``text_cfg``, ``quick_gelu``, ...
        preparation: of images.
        text_folder: with the config.json of a text tower of transformers; "" for other towers.
        tokenizer: the name that ``open_clip.get_tokenizer`` takes: of an architecture, or "local-dir:FOLDER".
    """

    name: str
    model: dict[str, Any]
    preparation: Preparation = field(default_factory=Preparation)
    tokenizer: str = ""
    text_folder: str = ""

    @property
    def wrapped(self) -> str:
        """transformers' name of the text tower; "" for a tower of open_clip."""
        return str(self.model["text_cfg"].get("hf_model_name") or "")

    @property
    def quick(self) -> bool:
        """Whether the MLPs of CLIP's own blocks compute with QuickGELU."""
        return bool(self.model.get("quick_gelu"))

    def with_quick(self, quick: bool) -> "Description":
        """The same with another activation."""
        return replace(self, model={**self.model, "quick_gelu": quick})

    def remark(self) -> str:
        """The description as text, for the digest of a network: all but what has no influence on features."""
        vision, text = dict(self.model["vision_cfg"]), dict(self.model["text_cfg"])
        for part in (vision, text):
            for key in ("timm_model_pretrained", "hf_model_pretrained", "hf_tokenizer_name", "tokenizer_kwargs"):
                part.pop(key, None)
        return json.dumps({**self.model, "vision_cfg": vision, "text_cfg": text}, sort_keys=True)


def preparation_of(said: dict[str, Any], *, source: str) -> Preparation:
    """The preparation that open_clip's ``preprocess_cfg`` (or an entry of its table of tags) describes.

    Raises:
        BackboneError: an unknown way to resize or interpolate, or values that are no channels.
    """
    default = Preparation()
    if not isinstance(said, dict):
        raise BackboneError(f"{source} describes its images by {str(said)[:40]!r}, which is no table of settings")
    try:
        found = Preparation(
            mean=_channels(said.get("mean"), default.mean),
            std=_channels(said.get("std"), default.std),
            # "random" is open_clip's word for training; its test transform takes bicubic then.
            interpolation=str(said.get("interpolation") or "bicubic").replace("random", "bicubic"),
            resize=str(said.get("resize_mode") or "shortest"),
        )
    except (TypeError, ValueError) as error:
        raise BackboneError(f"{source} describes its images with wrong values: {error}") from error
    if min(found.std) <= 0:
        raise BackboneError(f"{source} divides its images by {min(found.std)}; a deviation is above 0")
    for what, value, known in (
        ("interpolation", found.interpolation, INTERPOLATIONS),
        ("resize_mode", found.resize, RESIZES),
    ):
        if value not in known:
            raise BackboneError(f"{source} wants images with the {what} {value!r}; known are {', '.join(known)}")
    if found.resize == "longest" and said.get("fill_color"):
        raise BackboneError(f"{source} wants images filled with the colour {said['fill_color']!r}; known is 0 (black)")
    return found


def _channels(said: Any, default: tuple[float, ...]) -> tuple[float, ...]:
    if said is None:
        return default
    values = tuple(float(value) for value in (said if isinstance(said, (list, tuple)) else [said] * 3))
    if len(values) != 3:
        raise ValueError(f"{len(values)} channels in place of 3")
    if not all(map(math.isfinite, values)):
        raise ValueError("a channel's value is not finite")
    return values


def listed(arch: str) -> Description:
    """An architecture of open_clip's list, with the preparation that all its published weights share.

    Raises:
        KeyError: open_clip has no such architecture.
    """
    config = open_clip.get_model_config(arch)
    if config is None:
        raise KeyError(arch)
    ways = preparations(arch)
    return Description(arch, config, ways[0] if len(ways) == 1 else Preparation(), arch)


def preparations(arch: str) -> list[Preparation]:
    """The different preparations of an architecture's published weights."""
    tags = list_pretrained_tags_by_model(arch)
    return list(dict.fromkeys(preparation_of(get_pretrained_cfg(arch, tag), source=f"{arch}:{tag}") for tag in tags))


def tagged(arch: str, tag: str) -> Description:
    """An architecture with published weights.

    It computes with QuickGELU if its config or its tag says so. Below many architectures open_clip lists tags that were
    trained with the other activation, and then only warns.
    """
    facts = get_pretrained_cfg(arch, tag)
    own = replace(listed(arch), preparation=preparation_of(facts, source=f"{arch}:{tag}"))
    return own.with_quick(own.quick or bool(facts.get("quick_gelu")))


@lru_cache(maxsize=1)
def tags() -> tuple[tuple[str, str], ...]:
    """(architecture, tag) of all weights that open_clip knows."""
    return tuple((arch, tag) for arch, tag in list_pretrained() if open_clip.get_model_config(arch) is not None)


def described(folder: Path) -> Description:
    """The network that a folder in open_clip's layout describes.

    Raises:
        BackboneError: its ``open_clip_config.json`` cannot be read, or describes no network.
    """
    path = folder / CONFIG
    said = read_json(path)
    model = said.get("model_cfg", said)
    parts = ("vision_cfg", "text_cfg")
    if not isinstance(model, dict) or not all(isinstance(model.get(part), dict) for part in parts):
        raise BackboneError(f"{path} describes no network (model_cfg with {', '.join(('embed_dim', *parts))})")
    said = said.get("preprocess_cfg") or {}
    return Description(str(folder), model, preparation_of(said, source=str(path)), f"local-dir:{folder}")


def read_json(path: Path) -> dict[str, Any]:
    """The table in a JSON file (BackboneError if there is none)."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise BackboneError(f"{path} cannot be read ({error.strerror or error})") from error
    except (ValueError, RecursionError) as error:
        raise BackboneError(f"{path} is no JSON file ({str(error)[:100]}); get it again") from error
    if not isinstance(found, dict):
        raise BackboneError(f"{path} holds no table of settings; get it again")
    return found


def build_network(
    description: Description, state: dict[str, Tensor], *, source: str, cast_dtype: torch.dtype | None = None
) -> nn.Module:
    """The network of a description with given weights, unrounded.

    Args:
        description: any that open_clip can build.
        state: fp32 weights by open_clip's names. Towers of text without the prefix ``text.`` and Apple's own names for
            MobileCLIP are translated, as open_clip does.
        source: name of the file, for messages.
        cast_dtype: None keeps fp32; else the weights become this dtype as in open_clip, norm layers compute in fp32.

    Returns:
        A ``CLIP``, ``CustomTextCLIP`` or ``CoCa``: with ``visual`` (whose ``image_size`` is set), ``logit_scale`` and
        ``logit_bias``. On the CPU; for the caller to freeze.

    Raises:
        BackboneError: the description makes no network, or the weights are another's.
    """
    model = _empty(description, cast_dtype)
    state = _translated(model, dict(state))
    check_layout(model.state_dict(), state, source, of=f"a {description.name} of open_clip")
    model.load_state_dict(state)
    if cast_dtype is not None:
        _to_low_precision(model, cast_dtype, timm="timm_model_name" in description.model["vision_cfg"])
    return model.eval()


def _to_low_precision(model: nn.Module, dtype: torch.dtype, *, timm: bool) -> None:
    """As open_clip does it, which knows two ways; and the queries of CoCa's pool, which it forgets."""
    if timm or isinstance(getattr(model, "text", None), HFTextEncoder):
        model.to(dtype)
    else:
        convert_weights_to_lp(model, dtype)
    for module in model.modules():
        if isinstance(module, LayerNormFp32):
            module.float()
        if isinstance(module, AttentionalPooler):
            module.query.data = module.query.data.to(dtype)


def _empty(description: Description, cast_dtype: torch.dtype | None) -> nn.Module:
    config = deepcopy(description.model)
    vision, text = config["vision_cfg"], config["text_cfg"]
    custom = config.pop("custom_text", False) or "hf_model_name" in text
    # Never weights of a part from elsewhere: all come from the file, and the network from this machine.
    if ":" in str(vision.get("timm_model_name", "")):
        raise BackboneError(
            f"{description.name} takes its image tower from {vision['timm_model_name']!r}; only names of timm's own "
            "networks are followed"
        )
    if "timm_model_name" in vision:
        vision["timm_model_pretrained"] = False
    if "hf_model_name" in text:
        text["hf_model_pretrained"] = False
        text["hf_model_name"] = description.text_folder or text["hf_model_name"]
    if "hf_model_name" in text and hf_model.transformers is None:
        raise BackboneError(
            f"the text tower of {description.name} ({text['hf_model_name']}) needs the package transformers; install "
            "it (pip install transformers)"
        )
    kind = CoCa if custom and "multimodal_cfg" in config else CustomTextCLIP if custom else CLIP
    try:
        return kind(**config, cast_dtype=cast_dtype)
    except Exception as error:  # open_clip, timm and transformers fail in many ways
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise BackboneError(f"open_clip cannot build {description.name}: {reason[:200]}") from error


def _translated(model: nn.Module, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The weights by the network's own names, as open_clip's loader does."""
    state = convert_state_dict(model, state)
    expected = model.state_dict()
    if "positional_embedding" in state and "positional_embedding" not in expected:
        state = convert_to_custom_text_state_dict(state)
    for key in ("logit_scale", "logit_bias"):
        if key in state and key in expected and state[key].numel() == 1:
            state[key] = state[key].reshape(expected[key].shape)
    if "logit_bias" in expected and "logit_bias" not in state:
        state["logit_bias"] = torch.zeros_like(expected["logit_bias"])
    if COUNTED not in expected:
        state.pop(COUNTED, None)
    # Buffers that a state dict may lack: counters, and constants that the network computes itself.
    constant = {key: value for key, value in expected.items() if not value.is_floating_point()}
    return {**constant, **state}
