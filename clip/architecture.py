"""An open_clip network of the size that a state dict in OpenAI's layout has."""

from typing import Any

import torch
from open_clip.model import CLIP, CLIPTextCfg, CLIPVisionCfg, convert_weights_to_lp
from torch import Tensor

from clip.errors import BackboneError

HEAD_WIDTH = 64
COUNTER = "num_batches_tracked"
ALWAYS = (
    "visual.conv1.weight",
    "token_embedding.weight",
    "positional_embedding",
    "ln_final.weight",
    "text_projection",
    "logit_scale",
)
VIT = ("visual.proj", "visual.positional_embedding")
RESNET = ("visual.layer1.0.conv1.weight", "visual.attnpool.positional_embedding")


def build_model(state: dict[str, Tensor], *, source: str, cast_dtype: torch.dtype | None = None) -> CLIP:
    """Build the CLIP that ``state`` belongs to and give it these weights, unrounded.

    Args:
        state: fp32 weights in OpenAI's key layout, a ViT or a ModifiedResNet beside the text tower.
        source: name of the file, for messages.
        cast_dtype: None keeps fp32; else convolution, linear, attention and projection weights become this dtype,
            and norm layers compute in fp32 inside.

    Raises:
        BackboneError: keys or shapes are not those of a CLIP in OpenAI's layout.
    """
    config = infer_config(state, source=source)
    # On "meta" nothing is allocated or drawn at random: every parameter comes from the file.
    with torch.device("meta"):
        model = CLIP(**config, quick_gelu=True, cast_dtype=cast_dtype)
    expected = model.state_dict()
    counters = {key: torch.zeros((), dtype=torch.int64) for key in expected if key.endswith(COUNTER)}
    state = counters | state
    _check_layout(expected, state, source)
    model.load_state_dict(state, assign=True)
    if cast_dtype is not None:
        convert_weights_to_lp(model, cast_dtype)
    return model


def infer_config(state: dict[str, Tensor], *, source: str) -> dict[str, Any]:
    """Read the arguments of ``open_clip.model.CLIP`` off the shapes, as OpenAI's own loader does.

    Raises:
        BackboneError: a tensor that tells a size is missing, or a size is impossible.
    """
    vit = VIT[0] in state
    missing = [key for key in ALWAYS + (VIT if vit else RESNET) if key not in state]
    if missing:
        has = f"it has {_some(sorted(state))}"
        raise BackboneError(f"{source} is not a CLIP in OpenAI's layout: {_some(missing)} missing; {has}")
    try:
        vision = _vit_config(state) if vit else _resnet_config(state)
        text = _text_config(state)
        embed_dim = state["text_projection"].shape[1]
    except (IndexError, ValueError) as error:
        raise BackboneError(f"{source} is not a CLIP in OpenAI's layout: a tensor has too few dimensions") from error
    for side, width in (("text", text.width), ("vision", vision.width if vit else HEAD_WIDTH)):
        if width < HEAD_WIDTH or width % (width // HEAD_WIDTH):
            raise BackboneError(f"{source}: the {side} width {width} cannot be cut into heads of {HEAD_WIDTH}")
    return {"embed_dim": embed_dim, "vision_cfg": vision, "text_cfg": text}


def _text_config(state: dict[str, Tensor]) -> CLIPTextCfg:
    width = state["ln_final.weight"].shape[0]
    return CLIPTextCfg(
        context_length=state["positional_embedding"].shape[0],
        vocab_size=state["token_embedding.weight"].shape[0],
        width=width,
        heads=width // HEAD_WIDTH,
        layers=_count_blocks(state, "transformer.resblocks."),
    )


def _vit_config(state: dict[str, Tensor]) -> CLIPVisionCfg:
    width, _, _, patch = state["visual.conv1.weight"].shape
    grid = round((state["visual.positional_embedding"].shape[0] - 1) ** 0.5)
    layers = _count_blocks(state, "visual.transformer.resblocks.")
    return CLIPVisionCfg(layers=layers, width=width, head_width=HEAD_WIDTH, patch_size=patch, image_size=grid * patch)


def _resnet_config(state: dict[str, Tensor]) -> CLIPVisionCfg:
    # Five halvings lie between the image and the grid of the attention pool.
    grid = round((state["visual.attnpool.positional_embedding"].shape[0] - 1) ** 0.5)
    layers = tuple(_count_blocks(state, f"visual.layer{stage}.") for stage in (1, 2, 3, 4))
    width = state["visual.layer1.0.conv1.weight"].shape[0]
    return CLIPVisionCfg(layers=layers, width=width, head_width=HEAD_WIDTH, image_size=grid * 32)


def _count_blocks(state: dict[str, Tensor], prefix: str) -> int:
    return len({key.removeprefix(prefix).split(".")[0] for key in state if key.startswith(prefix)})


def _check_layout(expected: dict[str, Tensor], state: dict[str, Tensor], source: str) -> None:
    missing = sorted(expected.keys() - state.keys())
    unexpected = sorted(state.keys() - expected.keys())
    parts = [f"{_some(keys)} {word}" for keys, word in ((missing, "missing"), (unexpected, "unexpected")) if keys]
    if parts:
        raise BackboneError(f"{source} is not a CLIP in OpenAI's layout: {'; '.join(parts)}")
    for key, tensor in expected.items():
        if state[key].shape != tensor.shape:
            raise BackboneError(
                f"{source} is not a CLIP in OpenAI's layout: {key} has the shape {tuple(state[key].shape)}, "
                f"but the other tensors call for {tuple(tensor.shape)}"
            )


def _some(keys: list[str]) -> str:
    more = f" and {len(keys) - 3} more" if len(keys) > 3 else ""
    return f"{', '.join(keys[:3])}{more}"
