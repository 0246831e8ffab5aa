"""From a decoded image to the normalised tensor, with randomness that is drawn by key."""

import json
from collections.abc import Callable, Mapping
from hashlib import sha256
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn
from torchvision.transforms import InterpolationMode, v2
from yacs.config import CfgNode

from dassl.data.images import Reading
from dassl.utils.errors import UserError
from dassl.utils.registry import nearest
from dassl.utils.tools import derived_seed

Transform = Callable[[Image.Image], Tensor]

# The order of application, whatever the order in INPUT.TRANSFORMS. "center_crop" is always part of testing.
NAMES = (
    "random_crop",
    "random_resized_crop",
    "random_flip",
    "randaugment",
    "colorjitter",
    "randomgrayscale",
    "gaussian_blur",
    "cutout",
    "normalize",
    "gaussian_noise",
    "center_crop",
)
_OF_READING = ("BACKGROUND", "ORIENTATION", "MAX_PIXELS")


# What a model without a say expects of an image: Dassl's own.
PLAIN = {
    "SIZE": (224, 224),
    "INTERPOLATION": "bilinear",
    "PIXEL_MEAN": (0.485, 0.456, 0.406),
    "PIXEL_STD": (0.229, 0.224, 0.225),
    "TRANSFORMS": ("normalize",),
}


def settle_input(cfg: CfgNode, reads: Mapping[str, Any]) -> CfgNode:
    """A copy of ``cfg`` in which INPUT says all of ``PLAIN``: what is not set is as the model reads images.

    Args:
        reads: key below INPUT -> what the model expects; ``PLAIN`` for the rest.
    """
    settled = cfg.clone()
    settled.defrost()
    for key, value in {**PLAIN, **reads}.items():
        if not settled.INPUT[key]:
            settled.INPUT[key] = value
    return settled


def build_transform(cfg: CfgNode, is_train: bool) -> Transform:
    """The transform that INPUT describes: PIL RGB image -> (3, H, W) float32.

    Training: crop (or a plain resize), flip, colour operations, tensor, cutout, normalisation, noise. Testing, and
    training with INPUT.NO_TRANSFORM: shorter side to max(SIZE), centre crop, tensor, normalisation. Normalisation
    is applied when "normalize" is listed. INPUT must be settled (``settle_input``).

    Raises:
        UserError: INPUT.TRANSFORMS has an unknown name, or an option of a listed transform is out of its range.
    """
    names = set(cfg.INPUT.TRANSFORMS)
    for name in cfg.INPUT.TRANSFORMS:
        if name not in NAMES:
            hint = " or ".join(nearest(name, NAMES)) or f"one of {', '.join(NAMES)}"
            raise UserError(f"INPUT.TRANSFORMS: unknown transform {name!r}; did you mean {hint}?")
    try:
        return nn.Sequential(*_steps(cfg, names, is_train and not cfg.INPUT.NO_TRANSFORM))
    except (ValueError, TypeError) as error:  # torchvision checks the options
        raise UserError(f"INPUT: a transform's option is out of range: {error}") from error


def is_random(cfg: CfgNode, is_train: bool) -> bool:
    """Whether the transform draws random numbers, so that each view of an image is another one."""
    return is_train and not cfg.INPUT.NO_TRANSFORM and not set(cfg.INPUT.TRANSFORMS) <= {"normalize", "center_crop"}


def transform_id(cfg: CfgNode, is_train: bool, reading: Reading) -> str:
    """A digest of everything that the tensor of an image depends on: keys of the config, and how files are read."""
    facts = {**{key: cfg.INPUT[key] for key in cfg.INPUT if key not in _OF_READING}, "train": True}
    if not is_train or cfg.INPUT.NO_TRANSFORM:
        # Methods that train on other views share what they test on.
        facts = {key: cfg.INPUT[key] for key in ("SIZE", "INTERPOLATION", "PIXEL_MEAN", "PIXEL_STD")}
        facts["normalize"] = "normalize" in cfg.INPUT.TRANSFORMS
    facts["reading"] = reading.name
    return sha256(json.dumps(facts, sort_keys=True, default=list).encode()).hexdigest()


def keyed_transform(transform: Transform, image: Image.Image, key: tuple[int, int, str]) -> Tensor:
    """Apply a random transform with randomness drawn from ``key`` alone: (seed, view, identity of the image).

    The global generator of torch is left as it was. Works on the CPU generator only, so that it neither touches
    nor initialises CUDA.
    """
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(derived_seed(*key))
        return transform(image)


class ToFloat(nn.Module):
    """PIL RGB image (8 bits) -> (3, H, W) float32 in [0, 1]."""

    def forward(self, image: Image.Image) -> Tensor:
        """Divide by 255 exactly, which torchvision's v2 replaces by a multiplication."""
        return v2.functional.pil_to_tensor(image).float().div_(255)


class Cutout(nn.Module):
    """Set ``count`` squares of ``side`` pixels to 0; their centres are uniform, parts outside are lost."""

    def __init__(self, count: int, side: int) -> None:
        super().__init__()
        self.count, self.side = count, side

    def forward(self, image: Tensor) -> Tensor:
        """(3, H, W) -> (3, H, W)."""
        image = image.clone()
        height, width = image.shape[-2:]
        for _ in range(self.count):
            top = int(torch.randint(height, ())) - self.side // 2
            left = int(torch.randint(width, ())) - self.side // 2
            image[:, max(top, 0) : max(top + self.side, 0), max(left, 0) : max(left + self.side, 0)] = 0
        return image


def _steps(cfg: CfgNode, names: set[str], random: bool) -> list[nn.Module]:
    mode = InterpolationMode(cfg.INPUT.INTERPOLATION)
    if random:
        return _train_steps(cfg, names, mode)
    test = [v2.Resize([max(cfg.INPUT.SIZE)], interpolation=mode), v2.CenterCrop(cfg.INPUT.SIZE), ToFloat()]
    return test + _normalize(cfg, names)


def _train_steps(cfg: CfgNode, names: set[str], mode: InterpolationMode) -> list[nn.Module]:
    options, size = cfg.INPUT, tuple(cfg.INPUT.SIZE)
    steps: list[nn.Module] = []
    if not names & {"random_crop", "random_resized_crop"}:
        steps.append(v2.Resize(size, interpolation=mode))
    pil: dict[str, Callable[[], nn.Module]] = {
        "random_crop": lambda: v2.RandomCrop(size, padding=options.CROP_PADDING, pad_if_needed=True),
        "random_resized_crop": lambda: v2.RandomResizedCrop(size, tuple(options.RRCROP_SCALE), interpolation=mode),
        "random_flip": v2.RandomHorizontalFlip,
        "randaugment": lambda: v2.RandAugment(options.RANDAUGMENT_N, options.RANDAUGMENT_M),
        "colorjitter": lambda: v2.ColorJitter(
            options.COLORJITTER_B, options.COLORJITTER_C, options.COLORJITTER_S, options.COLORJITTER_H
        ),
        "randomgrayscale": lambda: v2.RandomGrayscale(options.RGS_P),
        "gaussian_blur": lambda: v2.RandomApply([v2.GaussianBlur(options.GB_K)], p=options.GB_P),
    }
    steps += [make() for name, make in pil.items() if name in names]
    steps.append(ToFloat())
    if "cutout" in names:
        steps.append(Cutout(options.CUTOUT_N, options.CUTOUT_LEN))
    steps += _normalize(cfg, names)
    if "gaussian_noise" in names:
        steps.append(v2.GaussianNoise(options.GN_MEAN, options.GN_STD, clip=False))
    return steps


def _normalize(cfg: CfgNode, names: set[str]) -> list[nn.Module]:
    return [v2.Normalize(list(cfg.INPUT.PIXEL_MEAN), list(cfg.INPUT.PIXEL_STD))] if "normalize" in names else []
