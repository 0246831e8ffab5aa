"""Batches in a fixed order, from images or from stored features.

The main process chooses the order, and a key determines the view of an image, so batches do not depend on the number
of workers.
"""

import logging
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from dassl.data.contents import content_digests
from dassl.data.datum import Datum
from dassl.data.images import AS_SEEN, Reading, identity, read_image
from dassl.data.reduced import ReducedImages
from dassl.data.transforms import Transform, keyed_transform
from dassl.data.workers import Key, Read, Reader
from dassl.utils.errors import UserError
from dassl.utils.files import file_state
from dassl.utils.tools import derived_seed

_log = logging.getLogger(__name__)
_COLUMNS = ("label", "task", "row")
Batch = dict[str, Any]
# The source of a loader's batches.
Source = Callable[["BatchPlan"], Iterator[Batch]]


class BatchPlan(Sampler[list[Key]]):
    """Which images make the batches of an epoch.

    Args:
        count: number of images.
        shuffle: use a permutation drawn from (seed, epoch); else the order of the split.
        drop_last: leave out the short last batch, unless it is the only one.
        views: of an image, in turn; 0: a new one in every epoch.

    Attributes:
        epoch: the current epoch.
    """

    def __init__(
        self,
        count: int,
        batch_size: int,
        *,
        seed: int = 0,
        shuffle: bool = False,
        drop_last: bool = False,
        views: int = 0,
    ) -> None:
        self.count, self.batch_size, self.seed, self.shuffle = count, batch_size, seed, shuffle
        self.drop_last = drop_last and count >= batch_size
        self.epoch, self.views = 0, views

    @property
    def view(self) -> int:
        """The view of the images in the current epoch."""
        return self.epoch % self.views if self.views else self.epoch

    def __len__(self) -> int:
        whole, rest = divmod(self.count, self.batch_size)
        return whole + (rest > 0 and not self.drop_last)

    def order(self) -> Tensor:
        """The images of the current epoch in their order, int64."""
        order = torch.arange(self.count)
        if self.shuffle:
            generator = torch.Generator().manual_seed(derived_seed(self.seed, self.epoch, "order"))
            order = torch.randperm(self.count, generator=generator)
        return order[: len(self) * self.batch_size]

    def __iter__(self) -> Iterator[list[Key]]:
        view, order = self.view, self.order().tolist()
        for start in range(0, len(order), self.batch_size):
            yield [(view, index) for index in order[start : start + self.batch_size]]


class KeyList(Sampler[list[Key]]):
    """Batches of the entries of ``keys``, in their order."""

    def __init__(self, batch_size: int) -> None:
        self.batch_size = batch_size
        self.keys: Sequence[Key] = ()

    def __len__(self) -> int:
        return -(-len(self.keys) // self.batch_size)

    def __iter__(self) -> Iterator[list[Key]]:
        for start in range(0, len(self.keys), self.batch_size):
            yield list(self.keys[start : start + self.batch_size])


class ImageItems(Dataset):
    """Images by (view, index), transformed.

    Args:
        root: folder that the images' identities are relative to.
        seed: of the views; None: the transform draws nothing.
        reading: how files become pictures.
        cache: folder that remembers the digests of files.
        reduced: where reduced images are stored; None: nowhere.
    """

    def __init__(
        self,
        items: Sequence[Datum],
        transform: Transform,
        *,
        root: Path | str = "",
        seed: int | None = None,
        reading: Reading = AS_SEEN,
        cache: Path | None = None,
        reduced: ReducedImages | None = None,
    ) -> None:
        self.items, self.transform, self.root, self.seed = items, transform, root, seed
        self.reading, self.cache, self.reduced = reading, cache, reduced
        self._files: list[tuple[int, ...]] = []

    def __len__(self) -> int:
        return len(self.items)

    @cached_property
    def digests(self) -> np.ndarray:
        """Digest of each image's identity and content at first use: (n, 2) uint64."""
        paths = [item.impath for item in self.items]
        self._states = [file_state(path) for path in paths]
        return self._names(paths)

    def refuse_changed(self, index: Sequence[int]) -> None:
        """Stop if one of these images has changed since ``digests`` were computed."""
        for number in index:
            path = self.items[number].impath
            # A new state, such as another owner, does not imply new content.
            if file_state(path) != self._states[number] and (self._names([path])[0] != self.digests[number]).any():
                raise UserError(f"{path} was changed while the run read it; start the same command again")

    def note_files(self) -> None:
        """Remember the state of the files before the first of them is read."""
        self._files = self._files or [file_state(item.impath) for item in self.items]

    def warn_of_changed(self) -> None:
        """Warn of files that changed since the last call, or since :meth:`note_files`."""
        before, self._files = self._files, []
        self.note_files()
        changed = [item.impath for item, a, b in zip(self.items, before, self._files, strict=True) if a != b]
        if changed:
            _log.warning(
                "%d pictures were changed or replaced while the run read them (first %s): its figure may mix "
                "both; leave the data alone and repeat the run",
                len(changed),
                changed[0],
            )

    def _names(self, paths: Sequence[str]) -> np.ndarray:
        names = (identity(path, self.root).encode("utf-8", "surrogateescape") for path in paths)
        contents = content_digests(paths, self.cache)
        lines = (name + b"\0" + content for name, content in zip(names, contents, strict=True))
        return np.frombuffer(b"".join(blake2b(line, digest_size=16).digest() for line in lines), "<u8").reshape(-1, 2)

    def __getitem__(self, key: Key) -> Tensor:
        """(3, H, W) float32."""
        view, index = key
        path = self.items[index].impath
        image = self.reduced.read(path, self.reading) if self.reduced else read_image(path, self.reading)
        if self.seed is None:
            return self.transform(image)
        return keyed_transform(self.transform, image, (self.seed, view, identity(path, self.root)))

    def __getitems__(self, keys: list[Key]) -> Read:
        """A batch (B, 3, H, W), or a message: torch would turn a worker's exception into a page of stack trace."""
        try:
            return keys, torch.stack([self[key] for key in keys])
        except UserError as error:
            return keys, str(error)


class ImageSource:
    """Decodes the images of a plan in worker processes that live on between epochs."""

    def __init__(self, images: ImageItems, workers: int, *, pin_memory: bool = False) -> None:
        self.images = images
        self.reader = Reader(images, workers, pin_memory=pin_memory)

    def __call__(self, plan: BatchPlan | KeyList) -> Iterator[Batch]:
        """Batches {"img": (B, 3, H, W) float32, ...} as :class:`BatchLoader` describes them."""
        watched = isinstance(plan, BatchPlan)  # a feature store checks by itself
        if watched:
            self.images.note_files()
        for keys, images in self.reader(plan):
            if isinstance(images, str):
                self.reader.close()  # ends the workers now; a traceback could keep them waiting
                raise UserError(images)
            yield {"img": images, **describe(self.images.items, [index for _, index in keys])}
        if watched:
            self.images.warn_of_changed()


class BatchLoader:
    """Provides the batches of a split.

    A batch is a dict: "img" (B, 3, H, W) or "feat" (B, ...), float32; "label", "task", "row" (E,) int64, one entry
    for each (image, task), where ``row`` is the image's place in the batch; "index" (B,) int64, the image's place in
    the split; "impath", list of B paths. E == B and row == arange(B) unless images belong to several tasks. Images
    and their tensors are on the CPU. Stored features and their tensors are on the device; "host" then has "label",
    "task" and "row" on the CPU (see :func:`on_host`).

    Attributes:
        source: the source of the batches; may be replaced between epochs.
    """

    def __init__(self, plan: BatchPlan, source: Source) -> None:
        self.plan, self.source = plan, source

    def __len__(self) -> int:
        return len(self.plan)

    def __iter__(self) -> Iterator[Batch]:
        return self.source(self.plan)

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch, which determines order and views."""
        self.plan.epoch = epoch


class Entries:
    """The (image, task) entries of a split as tensors, which are cut into the batches of an epoch."""

    def __init__(self, items: Sequence[Datum]) -> None:
        self.paths = [item.impath for item in items]
        self._count = torch.tensor([len(item.targets) for item in items], dtype=torch.int64)
        self._start = self._count.cumsum(0) - self._count
        targets = [target for item in items for target in item.targets]
        self._task, self._label = torch.tensor(targets, dtype=torch.int64).reshape(-1, 2).unbind(1)

    def batches(self, order: Tensor, batch_size: int, device: torch.device) -> Iterator[Batch]:
        """What :func:`describe` gives for each ``batch_size`` images of ``order``, with tensors on ``device``."""
        count = self._count[order]
        end = count.cumsum(0)
        image = torch.repeat_interleave(torch.arange(len(order)), count)
        entry = self._start[order][image] + torch.arange(len(image)) - (end - count)[image]
        host = torch.stack([self._label[entry], self._task[entry], image % batch_size])
        there = host.to(device)
        index, places = order.to(device), order.tolist()
        bounds = [0, *end[batch_size - 1 :: batch_size].tolist(), len(image)]
        for number, start in enumerate(range(0, len(order), batch_size)):
            cut, images = slice(bounds[number], bounds[number + 1]), slice(start, start + batch_size)
            paths = [self.paths[place] for place in places[images]]
            columns, same = (dict(zip(_COLUMNS, each[:, cut], strict=True)) for each in (there, host))
            yield {**columns, "index": index[images], "impath": paths, "host": same}


def on_host(batch: Batch, name: str) -> Tensor:
    """``batch[name]`` on the CPU, for "label", "task" and "row", without a transfer from the device."""
    return batch.get("host", batch)[name].cpu()


def describe(items: Sequence[Datum], index: Sequence[int]) -> Batch:
    """Everything in a batch except its images: "label", "task", "row", "index", "impath"."""
    entries = [(row, task, label) for row, i in enumerate(index) for task, label in items[i].targets]
    row, task, label = torch.tensor(entries, dtype=torch.int64).reshape(-1, 3).unbind(1)
    paths = [items[i].impath for i in index]
    return {"label": label, "task": task, "row": row, "index": torch.tensor(index), "impath": paths}
