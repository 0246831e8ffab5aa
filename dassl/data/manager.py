"""From a config to batches."""

import json
import logging
from collections.abc import Mapping, Sequence
from functools import cached_property
from hashlib import sha256
from typing import Any

import torch
from torch import Tensor
from yacs.config import CfgNode

from dassl.data.checking import UNREADABLE, look_at, remarks
from dassl.data.columns import class_offsets, task_of_class
from dassl.data.contents import content_digests
from dassl.data.dataset import build_dataset
from dassl.data.datum import Datum, Task
from dassl.data.features.store import Encode, FeatureSource, FeatureStore
from dassl.data.images import Reading, reading_of
from dassl.data.labelsets import LabelSets
from dassl.data.loaders import BatchLoader, BatchPlan, ImageItems, ImageSource
from dassl.data.places import cache_folder, features_folder
from dassl.data.reduced import ReducedImages
from dassl.data.splits import SPLITS, labels_digest
from dassl.data.threads import cpu_count
from dassl.data.transforms import build_transform, is_random, settle_input, transform_id
from dassl.utils.errors import UserError

logger = logging.getLogger(__name__)

_SHOWN = 3


class DataManager:
    """The data of a run.

    Args:
        reads: what the model expects of images, by key below INPUT; the config overrides it.

    Attributes:
        dataset: the data set or suite.
        tasks: its T tasks.
        num_classes: C, the classes of all tasks.
        offsets: (T+1,) int64; task t owns the columns offsets[t] to offsets[t+1] of the class axis.
        task_of_class: (C,) int64.
        multi: (T,) bool, which tasks are multi-label.
        label_sets: what their labels in batches stand for; None: there is no such task.
        reading: how pictures are read.
        reduced_count: images of the run that are reduced by INPUT.RESOLUTION; None if it was not checked.
        train_loader_x, test_loader: batches, see :class:`BatchLoader`; ``set_epoch`` of the first one chooses
            order and views of an epoch.
        val_loader: None if the data set has no validation images.

    Raises:
        UserError: the data is missing or damaged, or an image cannot be read.
    """

    def __init__(self, cfg: CfgNode, reads: Mapping[str, Any] | None = None) -> None:
        self.cfg = cfg = settle_input(cfg, reads or {})
        self._encoder: tuple[Encode, str] | None = None
        self._stores: list[FeatureStore] = []
        self._workers = min(cfg.DATALOADER.NUM_WORKERS, cpu_count())
        self._device = torch.device("cuda" if cfg.USE_CUDA and torch.cuda.is_available() else "cpu")
        self.dataset = build_dataset(cfg)
        self.reading: Reading = reading_of(cfg, as_seen=self.dataset.as_seen)
        self.reduced_count: int | None = None if self.reading.shortest else 0
        self._reduced = ReducedImages(cache_folder(cfg), cfg.DATASET.REDUCED_GIB) if self.reading.shortest else None
        if cfg.DATASET.CHECK_IMAGES:
            self._check_images()
        self.tasks: list[Task] = self.dataset.tasks
        self.offsets: Tensor = class_offsets(self.tasks)
        self.task_of_class: Tensor = task_of_class(self.tasks)
        self.num_classes = len(self.task_of_class)
        self.multi = torch.tensor([task.multi for task in self.tasks])
        self.label_sets: LabelSets | None = None
        if self.multi.any():
            lists = (self.dataset.train_x, self.dataset.val, self.dataset.test)
            self.label_sets = LabelSets(self.tasks, (item for items in lists for item in items))
        train, batch = cfg.DATALOADER.TRAIN_X, cfg.DATALOADER.TEST.BATCH_SIZE
        shuffle = {"RandomSampler": True, "SequentialSampler": False}.get(train.SAMPLER)
        if shuffle is None:
            raise UserError(
                f"DATALOADER.TRAIN_X.SAMPLER: unknown {train.SAMPLER!r}; use RandomSampler or SequentialSampler"
            )
        dataset = self.dataset
        train_plan = BatchPlan(
            len(dataset.train_x),
            train.BATCH_SIZE,
            seed=cfg.SEED,
            shuffle=shuffle,
            drop_last=True,
            views=cfg.INPUT.VIEWS,
        )
        self.train_loader_x = self._loader(dataset.train_x, train_plan, is_train=True)
        self.test_loader = self._loader(dataset.test, BatchPlan(len(dataset.test), batch))
        self.val_loader = self._loader(dataset.val, BatchPlan(len(dataset.val), batch)) if dataset.val else None

    def attach_encoder(self, encode: Encode, encoder_id: str, *, test_rows: int = 0) -> None:
        """Serve stored features instead of images if DATALOADER.FEATURES is on.

        Args:
            encode: (B, 3, H, W) float32 on the CPU -> (B, ...) on any device; frozen, in evaluation mode.
            encoder_id: names the encoder, its weights, its precision and what it computes.
            test_rows: validation and test images in a batch of features, if more than DATALOADER.TEST.BATCH_SIZE.
        """
        if not self.cfg.DATALOADER.FEATURES:
            return
        self._encoder = encode, encoder_id
        for loader, is_train in ((self.train_loader_x, True), (self.val_loader, False), (self.test_loader, False)):
            if loader is not None:
                self._serve_features(loader, is_train=is_train)
                if not is_train:
                    loader.plan.batch_size = max(loader.plan.batch_size, test_rows)

    @property
    def encode_seconds(self) -> float:
        """Seconds spent so far on features missing from the store; other runs then find them there."""
        return sum(store.seconds for store in self._stores)

    def plain_loader(self, split: str, *, augmented: bool = False) -> BatchLoader:
        """The images of "train", "val" or "test" in order, with the test transform: for methods that fit features.

        With ``augmented`` they have the training transform, in the view that ``set_epoch`` chooses.
        """
        items = {"train": self.dataset.train_x, "val": self.dataset.val, "test": self.dataset.test}[split]
        plan = BatchPlan(len(items), self.cfg.DATALOADER.TEST.BATCH_SIZE)
        loader = self._loader(items, plan, is_train=augmented)
        if self._encoder is not None:
            self._serve_features(loader, is_train=augmented)
        return loader

    def truth(self, batch: Mapping[str, Any]) -> Tensor | None:
        """(E, C) bool, the classes of a batch's entries of multi-label tasks; None if there is no such task."""
        if self.label_sets is None:
            return None
        return self.label_sets.truth(batch["label"], self.multi.to(batch["task"].device)[batch["task"]])

    def _serve_features(self, loader: BatchLoader, *, is_train: bool) -> None:
        assert self._encoder is not None and isinstance(loader.source, ImageSource)
        encode, encoder_id = self._encoder
        store = FeatureStore(
            features_folder(self.cfg),
            encoder_id=encoder_id,
            transform_id=transform_id(self.cfg, is_train, self.reading),
            dtype=self.cfg.DATALOADER.FEATURES_DTYPE,
            workers=self._workers,
            pin_memory=self._device.type == "cuda",
        )
        self._stores.append(store)
        loader.source = FeatureSource(store, loader.source.images, encode, device=self._device)

    def _loader(self, items: Sequence[Datum], plan: BatchPlan, *, is_train: bool = False) -> BatchLoader:
        cfg = self.cfg
        seed = cfg.SEED if is_random(cfg, is_train) else None
        images = ImageItems(
            items if self.label_sets is None else self.label_sets.numbered(items),
            build_transform(cfg, is_train),
            root=self.dataset.root,
            seed=seed,
            reading=self.reading,
            cache=cache_folder(cfg),
            reduced=self._reduced,
        )
        return BatchLoader(plan, ImageSource(images, self._workers, pin_memory=self._device.type == "cuda"))

    @cached_property
    def train_digests(self) -> dict[str, str]:
        """A record of the training data: the subset, tasks with classes and labels and, if checked, the pictures."""
        dataset, digests = self.dataset, {"subset": self.dataset.subset_digest}
        names = [[task.name, *task.classnames] for task in self.tasks]
        labels = labels_digest(dataset.train_x, dataset.root)
        digests["labels"] = sha256(json.dumps([names, labels]).encode()).hexdigest()
        if self.cfg.DATASET.CHECK_IMAGES:  # each file was read for this
            contents = content_digests([item.impath for item in dataset.train_x], cache_folder(self.cfg))
            digests["contents"] = sha256(b"".join(contents)).hexdigest()
        return digests

    def _check_images(self) -> None:
        """Check every image once: stop at unreadable ones or leave them out; warn of those that show nothing."""
        dataset = self.dataset
        splits = dict(zip(SPLITS, (dataset.train_x, dataset.val, dataset.test), strict=True))
        paths = [item.impath for items in splits.values() for item in items]
        looks = look_at(paths, cache_folder(self.cfg), self.reading, self._reduced)
        bad = {path: look.reason for path, look in looks.items() if look.kind == UNREADABLE}
        if bad:
            self._refuse(bad)
            splits = {split: [item for item in items if item.impath not in bad] for split, items in splits.items()}
            dataset.train_x, dataset.val, dataset.test = splits.values()
        good = {split: [item.impath for item in items] for split, items in splits.items()}
        for text in remarks(good, looks, self.reading, told=dataset.examined):
            logger.warning("%s", text)
        self.reduced_count = sum(look.reduced for look in looks.values())
        if self.reduced_count:
            logger.info(
                "%d of %d pictures are large: the run sees them with a shorter side of %d pixels (INPUT.RESOLUTION)",
                *(self.reduced_count, len(looks), self.reading.shortest),
            )

    def _refuse(self, bad: Mapping[str, str]) -> None:
        """Stop at unreadable images, or with DATASET.SKIP_UNREADABLE warn that they are left out."""
        shown = "; ".join(f"{path} ({reason})" for path, reason in list(bad.items())[:_SHOWN])
        message = f"{len(bad)} unreadable image{'s' * (len(bad) > 1)}: {shown}{'; ...' * (len(bad) > _SHOWN)}"
        if not self.cfg.DATASET.SKIP_UNREADABLE:
            raise UserError(f"{message}; replace the files, or leave them out with DATASET.SKIP_UNREADABLE True")
        logger.warning("%s; left out", message)
