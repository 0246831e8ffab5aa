"""Features of frozen encoders, computed once and shared by every epoch, method, suite and run that needs them.

The feature of an image in a given view never changes, so it is stored by encoder, transform, view and image. Every
file may be deleted; it is made again. ``python -m dassl.data.features FOLDER`` lists a store.
"""

import logging
import time
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from dassl.data.features.files import ReadOnlyError, Rows, ViewFiles
from dassl.data.loaders import Batch, BatchPlan, Entries, ImageItems, ImageSource, KeyList
from dassl.utils.errors import UserError

logger = logging.getLogger(__name__)

Encode = Callable[[Tensor], Tensor]
# A matrix product may round a row differently when the batch has another size; with one size for all, a feature
# depends on its image alone.
ENCODE_BATCH = 32
DTYPES: dict[str, np.dtype[Any]] = {"fp32": np.dtype("<f4"), "fp16": np.dtype("<f2")}
_NAMED_BY = "content"  # how images are named; stores with another naming are not mixed with these
_PART_ROWS = 1024  # images; a killed run loses at most this many
_SPAN_BYTES = 2**30  # stored features on the device at once


def encode_fixed(encode: Encode, images: Tensor) -> Tensor:
    """Encode (B, 3, H, W) -> (B, ...) in batches of exactly ``ENCODE_BATCH`` images; the last one is padded."""
    features = []
    for batch in images.split(ENCODE_BATCH):
        spare = ENCODE_BATCH - len(batch)
        whole = torch.cat([batch, batch.new_zeros(spare, *batch.shape[1:])]) if spare else batch
        features.append(encode(whole)[: len(batch)])
    return torch.cat(features)


class FeatureStore:
    """Stored features of one encoder and one transform.

    Args:
        encoder_id: names the encoder, its weights, its precision and what it computes.
        transform_id: names the image transform and its options.
        dtype: of the stored values, a key of ``DTYPES``.
        workers: processes that decode images.
        pin_memory: put decoded images where a CUDA device can fetch them by itself.

    Attributes:
        seconds: spent so far on missing features, including the wait for another run that encodes them.
    """

    def __init__(
        self,
        folder: Path,
        *,
        encoder_id: str,
        transform_id: str,
        dtype: str = "fp32",
        workers: int = 0,
        pin_memory: bool = False,
    ) -> None:
        self.folder = Path(folder) / f"{_short(encoder_id)}-{dtype}" / _short(f"{transform_id} {_NAMED_BY}")
        self.dtype, self.workers, self.pin_memory = DTYPES[dtype], workers, pin_memory
        self.seconds = 0.0
        self._about = {"encoder": encoder_id, "transform": transform_id}
        self._files: ViewFiles | None = None
        self._source: ImageSource | None = None
        self._missing = KeyList(ENCODE_BATCH)
        self._warned = False

    def get(self, images: ImageItems, view: int, encode: Encode) -> Rows:
        """Features of all images in a view; missing ones are encoded, here or by another run that has begun it.

        Args:
            view: the view; ignored if the transform draws nothing (``images.seed`` is None).
            encode: (B, 3, H, W) float32 on the CPU -> (B, ...) on any device.

        Raises:
            UserError: an image cannot be read or changes meanwhile, or a file cannot be written.
        """
        files, wanted = self._view(images, view), images.digests
        rows = files.find(wanted)
        if not len(rows.missing):
            return rows
        started = time.monotonic()
        try:
            with files.exclusive():
                self._encode(images, view, encode=encode, missing=files.find(wanted).missing, put=files.add)
                files.merge()
                rows = files.find(wanted)
        except ReadOnlyError:
            self._warn_read_only()
            self._encode(images, view, encode=encode, missing=rows.missing, put=files.keep)
            rows = files.find(wanted)
        self.seconds += time.monotonic() - started
        if len(rows.missing):
            raise UserError(f"{files.folder} does not return what was just written; check the disk")
        return rows

    def view_folder(self, images: ImageItems, view: int) -> Path:
        """The folder of a view's features."""
        return self.folder / ("test" if images.seed is None else f"seed{images.seed}-view{view}")

    def _view(self, images: ImageItems, view: int) -> ViewFiles:
        folder = self.view_folder(images, view)
        if self._files is None or self._files.folder != folder:
            self._files = ViewFiles(folder, self.dtype, {**self._about, "view": folder.name})
        return self._files

    def _encode(
        self,
        images: ImageItems,
        view: int,
        *,
        encode: Encode,
        missing: np.ndarray,
        put: Callable[[np.ndarray, np.ndarray], None],
    ) -> None:
        """Encode the missing images, each once, and pass the features on in blocks."""
        wanted = images.digests
        if not len(missing):
            return
        missing = missing[np.sort(np.unique(wanted[missing], axis=0, return_index=True)[1])]
        logger.info("Encoding %d images (%s)", len(missing), self.view_folder(images, view).name)
        done, waiting = 0, []
        for features in self._features(images, [(view, int(index)) for index in missing], encode):
            waiting.append(features)
            count = sum(map(len, waiting))
            if count >= _PART_ROWS or done + count == len(missing):
                images.refuse_changed(missing[done : done + count].tolist())
                # Fetched here at once, so that the device does not wait for the host after every batch.
                block, encoded = missing[done : done + count], torch.cat(waiting).float().cpu().numpy()
                self._check_finite(encoded, [images.items[index].impath for index in block])
                put(wanted[block], encoded)
                done, waiting = done + count, []

    def _features(self, images: ImageItems, keys: list[tuple[int, int]], encode: Encode) -> Iterator[Tensor]:
        if self._source is None or self._source.images is not images:
            self._source = ImageSource(images, self.workers, pin_memory=self.pin_memory)
        self._missing.keys = keys
        title = f"encoding view {keys[0][0] + 1}" if images.seed is not None else "encoding"
        with torch.no_grad():
            batches = self._source(self._missing)
            for batch in tqdm(batches, total=len(self._missing), desc=title, leave=False, disable=None):
                yield encode_fixed(encode, batch["img"])

    def _check_finite(self, features: np.ndarray, paths: list[str]) -> None:
        """Refuse features that are not finite in the store's format (raise UserError)."""
        with np.errstate(over="ignore"):
            stored = features.astype(self.dtype)
        wrong = np.flatnonzero(~np.isfinite(stored.reshape(len(stored), -1)).all(axis=1))
        if not len(wrong):
            return
        narrow = np.isfinite(features[wrong]).all()
        remedy = "use DATALOADER.FEATURES_DTYPE fp32" if narrow else "check the backbone's weights, or use PREC fp32"
        raise UserError(
            f"the features of {len(wrong)} of {len(paths)} images are not finite (first {paths[wrong[0]]}); {remedy}"
        )

    def _warn_read_only(self) -> None:
        if not self._warned:
            logger.warning("%s is read-only: new features are not stored", self.folder)
        self._warned = True


class FeatureSource:
    """Batches of stored features in the order of a plan; missing features are encoded when their epoch begins.

    An epoch is a few tensors on the device; a batch is a slice of them.
    """

    def __init__(self, store: FeatureStore, images: ImageItems, encode: Encode, *, device: torch.device) -> None:
        self.store, self.images, self.encode, self.device = store, images, encode, device
        self._entries = Entries(images.items)

    def __call__(self, plan: BatchPlan) -> Iterator[Batch]:
        """Batches {"feat": (B, ...) float32, ...} as :class:`BatchLoader` describes them."""
        if not len(plan):
            return
        rows = self.store.get(self.images, plan.view, self.encode)
        order = plan.order()
        described = self._entries.batches(order, plan.batch_size, self.device)
        feature_bytes = 4 * int(np.prod(rows.shape, dtype=np.int64))
        span = plan.batch_size * max(1, _SPAN_BYTES // (plan.batch_size * feature_bytes))
        for block in order.split(span):
            features = torch.from_numpy(rows.take(block.numpy())).to(self.device).float()
            for feat in features.split(plan.batch_size):
                yield {"feat": feat, **next(described)}


def _short(text: str) -> str:
    return sha256(text.encode()).hexdigest()[:16]
