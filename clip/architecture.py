"""An open_clip network of the size that a state dict in OpenAI's layout has."""

from dataclasses import dataclass
from typing import Any

import open_clip
import torch
from open_clip.model import CLIP, CLIPTextCfg, CLIPVisionCfg, convert_weights_to_lp
from torch import Tensor

from clip.errors import BackboneError

HEAD_WIDTH = 64
ACTIVATIONS = ("quickgelu", "gelu")
ACTIVATION_KEY = "MODEL.BACKBONE.ACTIVATION"
ARCH_KEY = "MODEL.BACKBONE.ARCH"
HEADS_KEY = "MODEL.BACKBONE.HEAD_WIDTHS"
MOST_SCALE = 10.0  # logarithm of the factor of cosines, which is about 4.6 in published networks
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


@dataclass(frozen=True)
class Style:
    """Facts about a network that its tensors do not show.

    Attributes:
        activation: of the MLPs, one of ``ACTIVATIONS``; "" if unknown.
        head_widths: width of an attention head of the image tower and of the text tower; 0 if unknown.
    """

    activation: str = ""
    head_widths: tuple[int, int] = (0, 0)

    def __str__(self) -> str:
        return f"{ACTIVATION_KEY} {self.activation} {HEADS_KEY} {self.head_widths[0]},{self.head_widths[1]}"


# Keys in open_clip's descriptions that give sizes and activation, of the whole and of both towers.
PLAIN = (
    {"embed_dim", "quick_gelu", "vision_cfg", "text_cfg"},
    {"image_size", "layers", "width", "patch_size", "head_width", "mlp_ratio"},
    {"context_length", "vocab_size", "width", "heads", "layers"},
)
OPENAI = Style("quickgelu", (HEAD_WIDTH, HEAD_WIDTH))


def choose_style(state: dict[str, Tensor], said: Style, *, known: Style | None, source: str) -> Style:
    """The style that the user states, completed by what is known.

    Args:
        known: None for a file that is not OpenAI's: then only head widths are known, if open_clip lists an
            architecture of these sizes.

    Raises:
        BackboneError: something is neither stated nor known, or the activation or a width is impossible.
    """
    if said.activation not in ("", *ACTIVATIONS):
        raise BackboneError(f"{ACTIVATION_KEY} is {said.activation!r}; choose one of {', '.join(ACTIVATIONS)}")
    if len(said.head_widths) != 2 or min(said.head_widths) < 0:
        raise BackboneError(
            f"{HEADS_KEY} is {said.head_widths}; give the widths for the image tower and the text tower"
        )
    known = known or Style(head_widths=_listed_head_widths(state, source))
    (image, text), (known_image, known_text) = said.head_widths, known.head_widths
    style = Style(said.activation or known.activation, (image or known_image, text or known_text))
    lacks = {
        f"{ACTIVATION_KEY} to quickgelu (the activation of OpenAI's models) or gelu (of LAION's, DataComp's and most "
        "others)": not style.activation,
        f"{HEADS_KEY} to the width of an attention head of the image tower and of the text tower (64,64 in OpenAI's "
        "models)": 0 in style.head_widths,
    }
    if any(lacks.values()):
        raise BackboneError(
            f"{source} does not say how its network computes, and a wrong guess would change the features silently; "
            f"set {' and '.join(text for text, lack in lacks.items() if lack)}{_or_name(state, source)}"
        )
    return style


def _or_name(state: dict[str, Tensor], source: str) -> str:
    """The rest of a sentence: which architectures have these sizes, and how to compare both activations."""
    names = fitting(state, source=source)
    if not names:
        return ""
    return (
        f"; or set {ARCH_KEY} to the architecture that it is ({_some(names)}). `python -m clip activation {source} "
        "IMAGES` shows which activation serves your images better"
    )


def check_listed(state: dict[str, Tensor], config: dict[str, Any], name: str, *, source: str) -> None:
    """Refuse a file of other sizes than those of an architecture (raise BackboneError)."""
    expected, found = _sizes(config), _sizes(infer_config(state, source=source, head_widths=(1, 1)))
    if found != expected:
        raise BackboneError(
            f"{source} is no {name}: it has {_differing(found, expected)}; name the architecture of this file"
        )


def style_of(config: dict[str, Any]) -> Style:
    """How a plain architecture of open_clip computes."""
    text = CLIPTextCfg(**config["text_cfg"])
    widths = (CLIPVisionCfg(**config["vision_cfg"]).head_width, text.width // text.heads)
    return Style("quickgelu" if config.get("quick_gelu") else "gelu", widths)


def fitting(state: dict[str, Tensor], *, source: str) -> list[str]:
    """open_clip's architectures of the sizes of a file."""
    found = _sizes(infer_config(state, source=source, head_widths=(1, 1)))
    listed = ((name, listed_config(name)) for name in open_clip.list_models())
    return [name for name, config in listed if is_plain(config) and _sizes(config) == found]


def _differing(found: dict[str, Any], expected: dict[str, Any]) -> str:
    return ", ".join(f"{what} {found[what]} in place of {n}" for what, n in expected.items() if found[what] != n)


def check_sizes(state: dict[str, Tensor], name: str, *, source: str, published: dict[str, str]) -> None:
    """Refuse a file of other sizes than those of a published backbone (raise BackboneError).

    Args:
        published: the published names with open_clip's names of their architectures.
    """
    sizes = {other: _sizes(listed_config(arch)) for other, arch in published.items()}
    found = _sizes(infer_config(state, source=source, head_widths=(1, 1)))
    if found == sizes[name]:
        return
    same = [other for other, theirs in sizes.items() if theirs == found]
    remedy = f"name the backbone {same[0]}" if same else "name the backbone by the path of this file"
    raise BackboneError(
        f"{source} is no {name}: it has {_differing(found, sizes[name])}; {remedy}, or give the weights of {name}"
    )


def check_finite(state: dict[str, Tensor], *, source: str) -> None:
    """Refuse weights with NaN or infinite values or factor, which make every prediction the same (BackboneError)."""
    wrong = {key: int((~value.isfinite()).sum()) for key, value in state.items() if not value.isfinite().all()}
    if wrong:
        shown = _some([f"{key} ({count:,} of {state[key].numel():,} values)" for key, count in wrong.items()])
        raise BackboneError(
            f"{source} has values that are not finite (NaN or infinite) in {shown}; the file is damaged, or its "
            "training has failed: use another copy or an earlier checkpoint"
        )
    scale = state.get("logit_scale")
    if scale is not None and scale.is_floating_point() and scale.numel() == 1 and scale.item() > MOST_SCALE:
        raise BackboneError(
            f"{source} has a logit_scale of {scale.item():.4g}, so a factor of e to this power; its training has "
            "failed, or the file holds the factor in place of its logarithm"
        )


def listed_config(name: str) -> dict[str, Any]:
    """open_clip's description of an architecture."""
    return open_clip.get_model_config(name)


def _listed_head_widths(state: dict[str, Tensor], source: str) -> tuple[int, int]:
    """Head widths of open_clip's architectures of these sizes; 0 if there are none, or if they differ."""
    found = _sizes(infer_config(state, source=source, head_widths=(1, 1)))
    listed = [config for config in map(listed_config, open_clip.list_models()) if is_plain(config)]
    widths = set()
    for config in listed:
        theirs = _sizes(config)
        if found | {"pixels": 0} == theirs | {"pixels": 0}:  # position embeddings are resized for other image sizes
            widths.add(style_of(config).head_widths)
    return widths.pop() if len(widths) == 1 else (0, 0)


def is_plain(config: dict[str, Any]) -> bool:
    """Whether an architecture of open_clip differs from OpenAI's at most in sizes and activation."""
    parts = (config, config["vision_cfg"], config["text_cfg"])
    return all(set(part) <= known for part, known in zip(parts, PLAIN, strict=True))


def _sizes(config: dict[str, Any]) -> dict[str, Any]:
    """The sizes in a config, from open_clip or ``infer_config``, that tensors show."""
    vision, text = config["vision_cfg"], config["text_cfg"]
    vision = CLIPVisionCfg(**vision) if isinstance(vision, dict) else vision
    text = CLIPTextCfg(**text) if isinstance(text, dict) else text
    vit = isinstance(vision.layers, int)
    return {
        "image layers": vision.layers if vit else tuple(vision.layers),
        "image width": vision.width,
        "patches of": vision.patch_size if vit else 0,
        "pixels": vision.image_size,
        "text layers": text.layers,
        "text width": text.width,
        "text places": text.context_length,
        "feature width": config["embed_dim"],
    }


def build_model(
    state: dict[str, Tensor], *, source: str, style: Style = OPENAI, cast_dtype: torch.dtype | None = None
) -> CLIP:
    """Build the CLIP that ``state`` belongs to and give it these weights, unrounded.

    Args:
        state: fp32 weights in OpenAI's key layout, a ViT or a ModifiedResNet beside the text tower.
        source: name of the file, for messages.
        style: facts that the tensors do not show.
        cast_dtype: None keeps fp32; else convolution, linear, attention and projection weights become this dtype,
            and norm layers compute in fp32 inside.

    Raises:
        BackboneError: keys or shapes are not those of a CLIP in OpenAI's layout.
    """
    config = infer_config(state, source=source, head_widths=style.head_widths)
    # On "meta" nothing is allocated or drawn at random: every parameter comes from the file.
    with torch.device("meta"):
        model = CLIP(**config, quick_gelu=style.activation == "quickgelu", cast_dtype=cast_dtype)
    expected = model.state_dict()
    counters = {key: torch.zeros((), dtype=torch.int64) for key in expected if key.endswith(COUNTER)}
    state = counters | state
    check_layout(expected, state, source)
    model.load_state_dict(state, assign=True)
    if cast_dtype is not None:
        convert_weights_to_lp(model, cast_dtype)
    return model


def infer_config(
    state: dict[str, Tensor], *, source: str, head_widths: tuple[int, int] = OPENAI.head_widths
) -> dict[str, Any]:
    """Derive the arguments of ``open_clip.model.CLIP`` from the shapes, as OpenAI's own loader does.

    Args:
        head_widths: of the image tower and the text tower, which no shape shows.

    Raises:
        BackboneError: a tensor that shows a size is missing, or a size is impossible.
    """
    vit = VIT[0] in state
    missing = [key for key in ALWAYS + (VIT if vit else RESNET) if key not in state]
    if missing:
        has = f"it has {_some(sorted(state))}"
        raise BackboneError(f"{source} is not a CLIP in OpenAI's layout: {_some(missing)} missing; {has}")
    try:
        vision = (_vit_config if vit else _resnet_config)(state, head_widths[0])
        text = _text_config(state, head_widths[1])
        embed_dim = state["text_projection"].shape[1]
    except (IndexError, ValueError) as error:
        raise BackboneError(f"{source} is not a CLIP in OpenAI's layout: a tensor has too few dimensions") from error
    sides = {"vision": vision.width * (1 if vit else 32), "text": text.width}
    for (side, width), head in zip(sides.items(), head_widths, strict=True):
        if width % head:
            raise BackboneError(f"{source}: the {side} width {width} cannot be cut into heads of {head}")
    return {"embed_dim": embed_dim, "vision_cfg": vision, "text_cfg": text}


def _text_config(state: dict[str, Tensor], head_width: int) -> CLIPTextCfg:
    width = state["ln_final.weight"].shape[0]
    return CLIPTextCfg(
        context_length=state["positional_embedding"].shape[0],
        vocab_size=state["token_embedding.weight"].shape[0],
        width=width,
        heads=width // head_width,
        layers=_count_blocks(state, "transformer.resblocks."),
        mlp_ratio=_mlp_ratio(state, "transformer.resblocks.", width),
    )


def _vit_config(state: dict[str, Tensor], head_width: int) -> CLIPVisionCfg:
    width, _, _, patch = state["visual.conv1.weight"].shape
    grid = round((state["visual.positional_embedding"].shape[0] - 1) ** 0.5)
    layers = _count_blocks(state, "visual.transformer.resblocks.")
    return CLIPVisionCfg(
        layers=layers,
        width=width,
        head_width=head_width,
        patch_size=patch,
        image_size=grid * patch,
        mlp_ratio=_mlp_ratio(state, "visual.transformer.resblocks.", width),
    )


def _resnet_config(state: dict[str, Tensor], head_width: int) -> CLIPVisionCfg:
    # Five halvings lie between the image and the grid of the attention pool.
    grid = round((state["visual.attnpool.positional_embedding"].shape[0] - 1) ** 0.5)
    layers = tuple(_count_blocks(state, f"visual.layer{stage}.") for stage in (1, 2, 3, 4))
    width = state["visual.layer1.0.conv1.weight"].shape[0]
    return CLIPVisionCfg(layers=layers, width=width, head_width=head_width, image_size=grid * 32)


def _mlp_ratio(state: dict[str, Tensor], prefix: str, width: int) -> float:
    """4 in most networks; where it is not, a factor that gives the width of the MLPs when it is rounded down."""
    first = state.get(f"{prefix}0.mlp.c_fc.weight")
    return 4.0 if first is None or len(first) == 4 * width else (len(first) + 0.5) / width


def _count_blocks(state: dict[str, Tensor], prefix: str) -> int:
    return len({key.removeprefix(prefix).split(".")[0] for key in state if key.startswith(prefix)})


def check_layout(
    expected: dict[str, Tensor], state: dict[str, Tensor], source: str, *, of: str = "a CLIP in OpenAI's layout"
) -> None:
    """Refuse a state dict with other keys or shapes than expected (BackboneError).

    Args:
        of: what it should belong to, for the message.
    """
    missing = sorted(expected.keys() - state.keys())
    unexpected = sorted(state.keys() - expected.keys())
    parts = [f"{_some(keys)} {word}" for keys, word in ((missing, "missing"), (unexpected, "unexpected")) if keys]
    if parts:
        raise BackboneError(f"{source} is not {of}: {'; '.join(parts)}")
    for key, tensor in expected.items():
        if tensor.is_floating_point() and not state[key].is_floating_point():
            raise BackboneError(
                f"{source} has {key} in {str(state[key].dtype).removeprefix('torch.')}, as quantised files do; get the "
                "weights in fp32, fp16 or bf16"
            )
        if state[key].shape != tensor.shape:
            raise BackboneError(
                f"{source} is not {of}: {key} has the shape {tuple(state[key].shape)}, but the "
                f"{'other tensors call' if 'layout' in of else 'architecture calls'} for {tuple(tensor.shape)}"
            )


def _some(keys: list[str]) -> str:
    more = f" and {len(keys) - 3} more" if len(keys) > 3 else ""
    return f"{', '.join(keys[:3])}{more}"
