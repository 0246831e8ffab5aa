"""From a decoded image to the normalised tensor, with randomness drawn by key."""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from hashlib import sha256
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn
from torchvision.transforms import InterpolationMode, v2
from yacs.config import CfgNode

from dassl.data.images import Reading, full_size
from dassl.utils.errors import UserError
from dassl.utils.registry import nearest
from dassl.utils.tools import derived_seed

Transform = Callable[[Image.Image], Tensor]

# The order of application, whatever the order in INPUT.TRANSFORMS. "center_crop" is always part of testing.
NAMES = ("random_resized_crop", "random_flip", "normalize", "center_crop")
_OF_READING = ("BACKGROUND", "ORIENTATION", "MAX_PIXELS", "RESOLUTION")


# For a model that states no expectations: Dassl's values.
PLAIN = {
    "SIZE": (224, 224),
    "INTERPOLATION": "bilinear",
    "RESIZE": "shortest",
    "PIXEL_MEAN": (0.485, 0.456, 0.406),
    "PIXEL_STD": (0.229, 0.224, 0.225),
    "TRANSFORMS": ("normalize",),
}


def settle_input(cfg: CfgNode, reads: Mapping[str, Any]) -> CfgNode:
    """A copy of ``cfg`` with all keys of ``PLAIN`` set below INPUT; unset keys follow the model.

    Args:
        reads: key below INPUT -> what the model expects; ``PLAIN`` for the others.
    """
    settled = cfg.clone()
    settled.defrost()
    for key, value in {**PLAIN, **reads}.items():
        if not settled.INPUT[key]:
            settled.INPUT[key] = value
    return settled


def build_transform(cfg: CfgNode, is_train: bool) -> Transform:
    """The transform that INPUT describes: PIL RGB image -> (3, H, W) float32.

    Training: crop (or a plain resize), flip, tensor, normalisation. Testing, and training with INPUT.NO_TRANSFORM:
    shorter side to max(SIZE), centre crop, tensor, normalisation. Normalisation is applied if "normalize" is listed.
    INPUT must be settled (``settle_input``).

    Raises:
        UserError: INPUT.TRANSFORMS has an unknown name.
    """
    names = set(cfg.INPUT.TRANSFORMS)
    for name in cfg.INPUT.TRANSFORMS:
        if name not in NAMES:
            hint = " or ".join(nearest(name, NAMES)) or f"one of {', '.join(NAMES)}"
            raise UserError(f"INPUT.TRANSFORMS: unknown transform {name!r}; did you mean {hint}?")
    return nn.Sequential(*_steps(cfg, names, is_train and not cfg.INPUT.NO_TRANSFORM))


def is_random(cfg: CfgNode, is_train: bool) -> bool:
    """Whether the transform draws random numbers, so that views of an image differ."""
    return is_train and not cfg.INPUT.NO_TRANSFORM and not set(cfg.INPUT.TRANSFORMS) <= {"normalize", "center_crop"}


def transform_id(cfg: CfgNode, is_train: bool, reading: Reading) -> str:
    """A digest of everything that the tensor of an image depends on: keys of the config, and how files are read."""
    facts = {**{key: cfg.INPUT[key] for key in cfg.INPUT if key not in _OF_READING}, "train": True}
    if not is_train or cfg.INPUT.NO_TRANSFORM:
        # Methods that train on different views share their test features.
        facts = {key: cfg.INPUT[key] for key in ("SIZE", "INTERPOLATION", "PIXEL_MEAN", "PIXEL_STD")}
        facts["normalize"] = "normalize" in cfg.INPUT.TRANSFORMS
    # The only way before the key was there; stored features of that time stay valid.
    facts.pop("RESIZE", None)
    if cfg.INPUT.RESIZE not in ("", "shortest"):
        facts["RESIZE"] = cfg.INPUT.RESIZE
    facts["reading"] = reading.name
    return sha256(json.dumps(facts, sort_keys=True, default=list).encode()).hexdigest()


def keyed_transform(transform: Transform, image: Image.Image, key: tuple[int, int, str]) -> Tensor:
    """Apply a random transform with randomness drawn only from ``key``: (seed, view, identity of the image).

    The global generator of torch is restored. Only the CPU generator is used, so CUDA is neither touched nor
    initialised.
    """
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(derived_seed(*key))
        return transform(image)


class ShorterSide(v2.Resize):
    """Resize of the shorter side; a reduced image gets the size that the full one would get."""

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        """See torchvision."""
        if full_size(inpt) == inpt.size:
            return super().transform(inpt, params)
        width, height = _resized(full_size(inpt), self.size[0])
        return v2.functional.resize(inpt, [height, width], interpolation=self.interpolation)


class RandomCrop(v2.RandomResizedCrop):
    """RandomResizedCrop; of a reduced image it takes the place that it would take of the full one."""

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
        """Draw the place in pixels of the full image."""
        width, height = full_size(flat_inputs[0])
        return super().make_params([torch.empty(1, height, width, device="meta")])

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        """See torchvision."""
        (full_width, full_height), (width, height) = full_size(inpt), inpt.size
        if (full_width, full_height) == (width, height):
            return super().transform(inpt, params)
        across, down = width / full_width, height / full_height
        left, right = (place * across for place in (params["left"], params["left"] + params["width"]))
        top, bottom = (place * down for place in (params["top"], params["top"] + params["height"]))
        # Cropped first, as torchvision does, so that no pixel outside takes part.
        x, y = math.floor(left), math.floor(top)
        part = inpt.crop((x, y, min(math.ceil(right), width), min(math.ceil(bottom), height)))
        box = (left - x, top - y, min(right - x, part.width), min(bottom - y, part.height))
        return part.resize(self.size[::-1], Image.Resampling[self.interpolation.name], box=box)


class ToFloat(nn.Module):
    """PIL RGB image (8 bits) -> (3, H, W) float32 in [0, 1]."""

    def forward(self, image: Image.Image) -> Tensor:
        """Divide by 255 exactly; torchvision's v2 multiplies instead."""
        return v2.functional.pil_to_tensor(image).float().div_(255)


def _steps(cfg: CfgNode, names: set[str], random: bool) -> list[nn.Module]:
    mode = InterpolationMode(cfg.INPUT.INTERPOLATION)
    if random:
        return _train_steps(cfg, names, mode)
    ways: dict[str, list[nn.Module]] = {
        "shortest": [ShorterSide([max(cfg.INPUT.SIZE)], interpolation=mode), v2.CenterCrop(cfg.INPUT.SIZE)],
        "squash": [v2.Resize(tuple(cfg.INPUT.SIZE), interpolation=mode)],
        "longest": [LongerSide(cfg.INPUT.SIZE, mode)],
    }
    return [*ways[cfg.INPUT.RESIZE or "shortest"], ToFloat(), *_normalize(cfg, names)]


class LongerSide(nn.Module):
    """Resize that fits the whole image into ``side`` (height, width), in the middle of black bars."""

    def __init__(self, side: Sequence[int], mode: InterpolationMode) -> None:
        super().__init__()
        self.side, self.mode = tuple(side), mode

    def forward(self, image: Image.Image) -> Image.Image:
        """As open_clip's "longest"."""
        height, width = self.side
        new = _fitted(full_size(image), (width, height))
        resized = v2.functional.resize(image, [new[1], new[0]], interpolation=self.mode)
        left, top = (width - new[0]) // 2, (height - new[1]) // 2
        return v2.functional.pad(resized, [left, top, width - new[0] - left, height - new[1] - top])


def _fitted(size: Sequence[int], side: Sequence[int]) -> list[int]:
    """Width and height of the largest picture of these proportions in ``side`` (width, height)."""
    ratio = max(length / most for length, most in zip(size, side, strict=True))
    return [max(1, round(length / ratio)) for length in size]


def seen_box(size: Sequence[int], side: Sequence[int], way: str = "shortest") -> tuple[float, float, float, float]:
    """The part of a picture that the test transform keeps: left, top, right and bottom in pixels of the picture.

    Args:
        size: width and height of the picture.
        side: INPUT.SIZE, height and width.
        way: INPUT.RESIZE; under "longest" the part is larger than the picture.
    """
    if way == "squash":
        return 0.0, 0.0, float(size[0]), float(size[1])
    resized = _resized(size, max(side)) if way == "shortest" else _fitted(size, side[::-1])
    box: list[tuple[float, float]] = []
    for length, new, crop in zip(size, resized, reversed(side), strict=True):
        start = round((new - crop) / 2.0)
        box.append((start * length / new, (start + crop) * length / new))
    (left, right), (top, bottom) = box
    return left, top, right, bottom


def _resized(size: Sequence[int], short: int) -> list[int]:
    """Width and height after torchvision's resize of the shorter side."""
    return [int(short * length / min(size)) if length > min(size) else short for length in size]


def _train_steps(cfg: CfgNode, names: set[str], mode: InterpolationMode) -> list[nn.Module]:
    size = tuple(cfg.INPUT.SIZE)
    steps: list[nn.Module] = [v2.Resize(size, interpolation=mode)]
    if "random_resized_crop" in names:
        steps = [RandomCrop(size, tuple(cfg.INPUT.RRCROP_SCALE), interpolation=mode)]
    if "random_flip" in names:
        steps.append(v2.RandomHorizontalFlip())
    return [*steps, ToFloat(), *_normalize(cfg, names)]


def _normalize(cfg: CfgNode, names: set[str]) -> list[nn.Module]:
    return [v2.Normalize(list(cfg.INPUT.PIXEL_MEAN), list(cfg.INPUT.PIXEL_STD))] if "normalize" in names else []
