"""Features of frozen encoders, computed once and shared by every epoch, method and run that needs them.

The feature of an image under a given view never changes, so it is kept in a file: one float32 array (n, F), or
(n, P, F) where an encoder gives an image P features, for each (encoder, transform, list of images, seed and view).
Every file can be deleted; it is made again.
"""

import logging
from collections.abc import Callable, Iterator, Sequence
from hashlib import sha256
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from dassl.data.images import fingerprint
from dassl.data.loaders import Batch, BatchPlan, ImageItems, ImageSource, Key
from dassl.utils.files import atomic_path

logger = logging.getLogger(__name__)

Encode = Callable[[Tensor], Tensor]
ENCODE_BATCH = 128  # fixed: rounding in an encoder may depend on the batch size


class FeatureStore:
    """Feature files in a folder.

    Args:
        encoder_id: names the encoder and its weights, precision included.
        transform_id: names the image transform and its options.
        workers: processes that decode images.
    """

    def __init__(self, folder: Path, *, encoder_id: str, transform_id: str, workers: int = 0) -> None:
        self.folder = Path(folder) / _short(encoder_id) / _short(transform_id)
        self.workers = workers

    def get(self, images: ImageItems, view: int, encode: Encode) -> np.ndarray:
        """Features (n, ...) float32 of all images under a view, memory-mapped; encodes them if there is no whole file.

        Args:
            view: the view; it is ignored where the transform draws nothing (``images.seed`` is None).
            encode: (B, 3, H, W) float32 on the CPU -> (B, ...) on any device.

        Raises:
            UserError: an image cannot be read or the file cannot be written.
        """
        path = self.path(images, view)
        features = _open_whole(path, len(images))
        if features is None:
            logger.info("Encoding %d images (%s)", len(images), path.stem)
            self._make(path, images, view, encode)
            features = _open_whole(path, len(images))
            assert features is not None, path
        return features

    def path(self, images: ImageItems, view: int) -> Path:
        """The file of a list of images under a view."""
        name = "test" if images.seed is None else f"seed{images.seed}-view{view}"
        return self.folder / _short(fingerprint((item.impath for item in images.items), images.root)) / f"{name}.npy"

    def _make(self, path: Path, images: ImageItems, view: int, encode: Encode) -> None:
        plan = BatchPlan(len(images), ENCODE_BATCH)
        plan.epoch = view
        batches = ImageSource(images, self.workers)(plan)
        progress = tqdm(batches, total=len(plan), desc=f"encoding {path.stem}", leave=False, disable=None)
        # Written as a stream and not through a memory map, where a full disk would kill the process.
        with atomic_path(path) as temporary, temporary.open("wb") as file, torch.no_grad():
            for number, (_, batch) in enumerate(progress):
                rows = encode(batch["img"]).float().cpu().numpy()
                if number == 0:
                    header = {"descr": "<f4", "fortran_order": False, "shape": (len(images), *rows.shape[1:])}
                    np.lib.format.write_array_header_1_0(file, header)
                file.write(np.ascontiguousarray(rows, dtype="<f4").tobytes())


class FeatureSource:
    """Batches of stored features in the order of a plan; reads or makes the file of a view when an epoch begins."""

    def __init__(self, store: FeatureStore, images: ImageItems, encode: Encode) -> None:
        self.store, self.images, self.encode = store, images, encode

    def __call__(self, plan: BatchPlan) -> Iterator[tuple[Sequence[Key], Batch]]:
        """Batches {"feat": (B, ...) float32} with their keys."""
        if not len(plan):
            return
        features = self.store.get(self.images, plan.epoch, self.encode)
        for keys in plan:
            yield keys, {"feat": torch.from_numpy(features[[index for _, index in keys]])}


def _open_whole(path: Path, count: int) -> np.ndarray | None:
    """The array of a file, or None when the file is missing, damaged or of another number of images."""
    try:
        features = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    return features if features.ndim >= 2 and len(features) == count and features.dtype == np.float32 else None


def _short(text: str) -> str:
    return sha256(text.encode()).hexdigest()[:16]
