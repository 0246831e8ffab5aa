"""Which activation a weights file was trained with, seen by zero-shot accuracy on somebody's images.

Tensors do not show the activation, and published loaders of one file may disagree on it (RemoteCLIP, GeoRSCLIP and
SkyCLIP are such files). Computed with the wrong one, a network still works, but worse.
"""

from collections.abc import Iterator
from pathlib import Path

import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor
from torch.nn import functional

from clip.architecture import ACTIVATION_KEY, ACTIVATIONS
from clip.backbones import Backbone, Preprocess, load
from clip.errors import BackboneError

_BATCH = 32


def compare(
    file: str, images: Path, *, arch: str = "", template: str = "a photo of a {}.", most: int = 50
) -> Iterator[str]:
    """The zero-shot accuracy of a weights file with each activation, then which is better; in lines.

    Args:
        images: a folder with a folder of images for each class; "_" in their names is a space.
        arch: open_clip's name of the architecture; "" if the file shows its sizes.
        template: the prompt, with {} for the class.
        most: images of a class that are used at most, the first ones by name.

    Raises:
        BackboneError: fewer than two classes with images, a template without a place, or a file that cannot be loaded.
    """
    if "{}" not in template:
        raise BackboneError(
            f"the template {template!r} has no {{}} for the class; give one such as 'a photo of a {{}}.'"
        )
    classes = _classes(images, most)
    right: dict[str, int] = {}
    count = sum(map(len, classes.values()))
    for name in ACTIVATIONS:
        backbone, transform = load(file, arch=arch, activation=name)
        right[name] = _right(backbone, transform, classes, template)
        yield f"{name}: {100 * right[name] / count:.1f} % of {count} images, {len(classes)} classes"
    better, other = sorted(ACTIVATIONS, key=lambda name: -right[name])
    # Two standard deviations of the difference of two shares, taken as independent.
    share = (right[better] + right[other]) / (2 * count)
    if right[better] - right[other] <= 2 * (2 * count * share * (1 - share)) ** 0.5:
        yield "no clear difference: use more images, or classes that are harder to tell apart"
    else:
        yield f"{better} is better: set {ACTIVATION_KEY} {better}"


def _classes(folder: Path, most: int) -> dict[str, list[Path]]:
    found = {}
    for each in sorted(folder.iterdir()) if folder.is_dir() else []:
        files = sorted(path for path in each.iterdir() if path.is_file())[:most] if each.is_dir() else []
        if files:
            found[each.name.replace("_", " ")] = files
    if len(found) < 2:
        raise BackboneError(f"{folder} has {len(found)} folders with images; give one with a folder for each class")
    return found


@torch.no_grad()
def _right(backbone: Backbone, transform: Preprocess, classes: dict[str, list[Path]], template: str) -> int:
    """Images whose class has the nearest prompt."""
    tokens = backbone.tokenize([template.replace("{}", name) for name in classes])
    texts = functional.normalize(backbone.encode_text(tokens).float(), dim=-1)
    right = 0
    for number, files in enumerate(classes.values()):
        for start in range(0, len(files), _BATCH):
            batch = torch.stack([_picture(path, transform) for path in files[start : start + _BATCH]])
            images = backbone.encode_image(batch).float()
            right += int(((images @ texts.T).argmax(1) == number).sum())
    return right


def _picture(path: Path, transform: Preprocess) -> Tensor:
    try:
        with Image.open(path) as image:
            return transform(image)
    except (OSError, UnidentifiedImageError, Image.DecompressionBombError) as error:
        raise BackboneError(f"{path} cannot be read as an image ({error}); remove it from the folder") from error
