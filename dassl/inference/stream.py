"""Images from files, folders or a list, decoded by workers in batches; memory use stays constant."""

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TypeVar

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from dassl.data.filekinds import IMAGE_ENDINGS
from dassl.data.images import Reading, read_image
from dassl.data.own.listing import of_the_system
from dassl.data.transforms import Transform
from dassl.utils.errors import UserError

T = TypeVar("T")


@dataclass(frozen=True)
class Batch:
    """Decoded images (B, 3, H, W) with their B paths, and a line for each file that could not be read."""

    paths: list[str]
    images: Tensor
    unread: list[str]


def find_images(places: Iterable[str]) -> Iterator[str]:
    """The image files at ``places``: files with any ending, and files with image endings in and below folders.

    Raises:
        UserError: a folder has no images.
    """
    for place in places:
        if not os.path.isdir(place):  # noqa: PTH112  (Path raises for a name that no system allows)
            yield place
            continue
        first = next(found := _below(place), None)
        if first is None:
            raise UserError(f"folder {place} has no images in it or below it (endings {' '.join(IMAGE_ENDINGS)})")
        yield first
        yield from found


def _below(folder: str) -> Iterator[str]:
    for parent, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not of_the_system(name))
        for name in sorted(names):
            if name.lower().endswith(IMAGE_ENDINGS) and not of_the_system(name):
                yield os.path.join(parent, name)  # noqa: PTH118  (paths as given)


def read_batches(
    paths: Iterable[str], reading: Reading, transform: Transform, *, batch_size: int, workers: int
) -> Iterator[Batch]:
    """Decode and transform images, ``batch_size`` at a time, in ``workers`` processes (0: in this one)."""
    loader = DataLoader(
        _Files(reading, transform),
        batch_sampler=_chunks(iter(paths), batch_size),
        num_workers=workers,
        collate_fn=_as_it_is,
        generator=torch.Generator(),
    )
    yield from loader


def _chunks(paths: Iterator[str], size: int) -> Iterator[list[str]]:
    while chunk := list(islice(paths, size)):
        yield chunk


class _Files(Dataset):
    """Images by path."""

    def __init__(self, reading: Reading, transform: Transform) -> None:
        self.reading, self.transform = reading, transform

    def __getitems__(self, paths: Sequence[str]) -> Batch:
        read: list[str] = []
        images: list[Tensor] = []
        unread: list[str] = []
        for path in paths:
            try:
                images.append(self.transform(read_image(path, self.reading)))
                read.append(path)
            except UserError as error:
                unread.append(str(error))
        return Batch(read, torch.stack(images) if images else torch.zeros(0), unread)


def _as_it_is(batch: T) -> T:
    return batch
