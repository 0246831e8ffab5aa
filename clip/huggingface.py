"""CLIP as Hugging Face's transformers writes it: its names of tensors, and its two files of settings.

The network is OpenAI's; names differ, query, key and value are three matrices, and the two projections are transposed.
"""

import re
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from clip.architecture import Style
from clip.errors import BackboneError
from clip.hub import PREPARATION
from clip.openclip import Preparation, preparation_of, read_json

CONFIG = "config.json"
ANCHOR = "text_model.embeddings.token_embedding.weight"
# Their default settings, which a config may leave out.
_TEXT = {"hidden_act": "quick_gelu", "num_attention_heads": 8, "hidden_size": 512, "layer_norm_eps": 1e-5}
_VISION = {"hidden_act": "quick_gelu", "num_attention_heads": 12, "hidden_size": 768, "layer_norm_eps": 1e-5}
_ACTIVATIONS = {"quick_gelu": "quickgelu", "gelu": "gelu"}
_NAMES = {
    "text_model.embeddings.token_embedding.weight": "token_embedding.weight",
    "text_model.embeddings.position_embedding.weight": "positional_embedding",
    "text_model.final_layer_norm.weight": "ln_final.weight",
    "text_model.final_layer_norm.bias": "ln_final.bias",
    "vision_model.embeddings.class_embedding": "visual.class_embedding",
    "vision_model.embeddings.patch_embedding.weight": "visual.conv1.weight",
    "vision_model.embeddings.position_embedding.weight": "visual.positional_embedding",
    "vision_model.pre_layrnorm.weight": "visual.ln_pre.weight",  # spelt so
    "vision_model.pre_layrnorm.bias": "visual.ln_pre.bias",
    "vision_model.post_layernorm.weight": "visual.ln_post.weight",
    "vision_model.post_layernorm.bias": "visual.ln_post.bias",
    "logit_scale": "logit_scale",
}
_PROJECTIONS = {"text_projection.weight": "text_projection", "visual_projection.weight": "visual.proj"}
_IN_LAYER = {
    "layer_norm1": "ln_1",
    "layer_norm2": "ln_2",
    "mlp.fc1": "mlp.c_fc",
    "mlp.fc2": "mlp.c_proj",
    "self_attn.out_proj": "attn.out_proj",
}
_LAYER = re.compile(r"(text|vision)_model\.encoder\.layers\.(\d+)\.(.+)\.(weight|bias)")
_COUNTED = "position_ids"


def is_transformers(state: dict[str, Tensor]) -> bool:
    """Whether these are the names of transformers' CLIP."""
    return ANCHOR in state and "vision_model.embeddings.patch_embedding.weight" in state


def to_openai(state: dict[str, Tensor], *, source: str) -> dict[str, Tensor]:
    """The same weights in OpenAI's layout.

    Raises:
        BackboneError: a tensor that CLIP does not have, or one of query, key and value is missing.
    """
    found: dict[str, Tensor] = {}
    for key, value in state.items():
        if key.split(".")[-1] == _COUNTED:
            continue
        if key in _NAMES:
            found[_NAMES[key]] = value.reshape(()) if key == "logit_scale" and value.numel() == 1 else value
        elif key in _PROJECTIONS:
            found[_PROJECTIONS[key]] = value.T.contiguous()
        elif (match := _LAYER.fullmatch(key)) is not None:
            found |= _of_layer(match, state, source)
        else:
            raise BackboneError(f"{source} is not a CLIP of transformers: {key} is no tensor of it")
    return found


def _of_layer(match: re.Match[str], state: dict[str, Tensor], source: str) -> dict[str, Tensor]:
    tower, number, part, kind = match.groups()
    place = f"{'visual.' if tower == 'vision' else ''}transformer.resblocks.{number}."
    if part in _IN_LAYER:
        return {f"{place}{_IN_LAYER[part]}.{kind}": state[match[0]]}
    if part != "self_attn.q_proj":
        if part in ("self_attn.k_proj", "self_attn.v_proj"):
            return {}  # beside the query
        raise BackboneError(f"{source} is not a CLIP of transformers: {match[0]} is no tensor of it")
    three = [match[0].replace("q_proj", f"{which}_proj") for which in "qkv"]
    missing = [key for key in three if key not in state]
    if missing:
        raise BackboneError(f"{source} is not a CLIP of transformers: {', '.join(missing)} missing")
    return {f"{place}attn.in_proj_{kind}": torch.cat([state[key] for key in three])}


def style_in(path: Path) -> Style:
    """How the network of a ``config.json`` computes.

    Raises:
        BackboneError: it describes another network than CLIP, or computes in a way that OpenAI's layout cannot.
    """
    said = read_json(path)
    if said.get("model_type", "clip") != "clip":
        raise BackboneError(
            f"{path} describes a {said['model_type']!r} of transformers, of which only clip is read; give open_clip's "
            "name of the model, as `python -m clip` lists them"
        )
    text, vision = _settings(said, "text", _TEXT), _settings(said, "vision", _VISION)
    acts = {text["hidden_act"], vision["hidden_act"]}
    if len(acts) > 1 or not acts <= _ACTIVATIONS.keys():
        raise BackboneError(f"{path} has the hidden_act {', '.join(sorted(map(str, acts)))}; one of quick_gelu, gelu")
    if {text["layer_norm_eps"], vision["layer_norm_eps"]} != {1e-5}:
        raise BackboneError(f"{path} has another layer_norm_eps than CLIP's 1e-5, which is not supported")
    return Style(_ACTIVATIONS[acts.pop()], (_head(vision, path), _head(text, path)))


def _settings(said: dict[str, Any], tower: str, defaults: dict[str, Any]) -> dict[str, Any]:
    # transformers lets the older key with the ending _dict win.
    return {**defaults, **(said.get(f"{tower}_config") or {}), **(said.get(f"{tower}_config_dict") or {})}


def _head(tower: dict[str, Any], path: Path) -> int:
    width, heads = tower["hidden_size"], tower["num_attention_heads"]
    if not isinstance(width, int) or not isinstance(heads, int) or heads < 1 or width % heads:
        raise BackboneError(f"{path} cannot cut the width {width!r} into {heads!r} heads")
    return width // heads


def preparation_in(folder: Path) -> Preparation:
    """The preparation of images that a folder's ``preprocessor_config.json`` describes; CLIP's own without one."""
    path = folder / PREPARATION
    if not path.is_file():
        return Preparation()
    said = read_json(path)
    resample = said.get("resample", 3)  # Pillow's numbers
    if resample not in (2, 3):
        raise BackboneError(f"{path} has resample {resample!r}; known are 2 (bilinear) and 3 (bicubic)")
    ways = {
        "mean": said.get("image_mean"),
        "std": said.get("image_std"),
        "interpolation": "bilinear" if resample == 2 else "bicubic",
        "resize_mode": "shortest" if said.get("do_center_crop", True) else "squash",
    }
    return preparation_of(ways, source=str(path))
