"""What a method defines: the hooks of a trainer, with their defaults."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor, nn
from yacs.config import CfgNode

from dassl.config.keys import Key
from dassl.data.columns import flat_classnames
from dassl.data.datum import Task
from dassl.data.own.description import multi_tasks
from dassl.engine.contexts import Context, Vocabulary
from dassl.engine.head import Head
from dassl.engine.published import Published
from dassl.registries import TRAINER_REGISTRY
from dassl.utils.errors import UserError

if TYPE_CHECKING:
    from dassl.data.manager import DataManager


class ImageTower(Protocol):
    """A frozen image encoder."""

    @property
    def name(self) -> str:
        """Its published name or its file."""

    @property
    def digest(self) -> str:
        """What its weights are."""

    @property
    def embed_dim(self) -> int:
        """F, the width of its features."""

    def encode_image(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, F), not normalised."""


class Method:
    """The base of :class:`dassl.engine.TrainerX`, which calls these hooks.

    Attributes:
        config_keys: its own config keys.
        published: settings of its authors by shots or data set; the last one for a key counts.
        no_table: why it has no :meth:`head`.
        no_context: why it has no :meth:`contexts`.
        trainable: whether it learns anything.
        tunes: the towers, "text" and "image", that compute with learned tensors; () for a method on frozen features. An
            image tower that is tuned has no stored features, and its export is an adapter file.
        multi_label: whether it can learn tasks of which an image has any number of classes.
        unweighted: why it does not use the weights of classes (``Task.weight``); "": it uses them.
        precision: of the frozen encoders, for messages and results.
        text_digest: of class features that were taken from another run; "": the method has its own.
    """

    config_keys: tuple[Key, ...] = ()
    published: tuple[Published, ...] = ()
    no_table = "it scores images in another way"
    no_context = "it does not say which vectors it learns"
    trainable = True
    tunes: tuple[str, ...] = ("text",)
    unweighted = ""
    multi_label = False
    precision = "fp32"
    text_digest = ""
    cfg: CfgNode
    dm: "DataManager"

    @property
    def tunes_images(self) -> bool:
        """Whether image features change with what is learned."""
        return "image" in self.tunes

    @property
    def rate_key(self) -> str:
        """The config key of the learning rate."""
        return "OPTIM.LR"

    def check_cfg(self, cfg: CfgNode) -> None:
        """Refuse a config that the method cannot run (raise UserError)."""

    @classmethod
    def check_unbuilt(cls, cfg: CfgNode) -> None:
        """``check_cfg`` without a trainer; only the config is used."""
        cls.check_multi_label(cfg)
        unbuilt = cls.__new__(cls)
        unbuilt.cfg = cfg
        unbuilt.check_cfg(cfg)

    @classmethod
    def check_multi_label(cls, cfg: CfgNode) -> None:
        """:meth:`check_tasks` before the data is read, where all tasks of the config take part."""
        cls.check_tasks(multi_tasks(cfg) if cfg.DATASET.SUBSAMPLE_TASKS == "all" else ())

    @classmethod
    def check_tasks(cls, multi: Sequence[str]) -> None:
        """Refuse multi-label tasks, given by name, that the method cannot learn (raise UserError)."""
        if multi and not cls.multi_label:
            able = " or ".join(each.__name__ for each in TRAINER_REGISTRY if each.multi_label)
            raise UserError(
                f"{cls.__name__} cannot learn task {multi[0]!r}, in which an image has several labels (type: multi); "
                f"use {able}, or leave the task out"
            )

    @classmethod
    def bound_units(cls, cfg: CfgNode) -> dict[str, str]:
        """:meth:`learned_for`, with what multi-label tasks add to every method: each has a bias of its own."""
        added = {"task": "type: multi"} if cls.trainable and multi_tasks(cfg) else {}
        return {**added, **cls.learned_for(cfg)}

    @classmethod
    def check_model(cls, cfg: CfgNode, *, fetch: bool) -> str:
        """Refuse a frozen model that is missing or does not fit (raise UserError), before a trainer is built.

        Args:
            fetch: download what is missing.

        Returns:
            A sentence about what will be downloaded; "" if nothing.
        """
        return ""

    @classmethod
    def learned_for(cls, cfg: CfgNode) -> dict[str, str]:
        """What each learned tensor belongs to: "class" or "task" -> the method or setting that causes it.

        Such a run cannot be evaluated on other classes or tasks. The default {}: tensors are shared by all.
        """
        return {}

    def before_data(self) -> None:
        """Load what can fail quickly (e.g. the frozen model) before the data is read and every image checked."""

    def image_facts(self) -> dict[str, Any]:
        """What the model expects of images, by key below INPUT; called after ``before_data``."""
        return {}

    def build_model(self) -> None:
        """Build the modules and register what is learned."""
        raise NotImplementedError

    def forward_backward(self, batch: dict[str, Any]) -> dict[str, Tensor | float]:
        """One training step; returns what the log shows, first of all "loss" (a detached scalar tensor)."""
        raise NotImplementedError

    def model_inference(self, batch: dict[str, Any]) -> Tensor:
        """Logits (B, C) of a test batch."""
        raise NotImplementedError

    def encode_images(self, images: Tensor) -> Tensor:
        """Features of transformed images (B, 3, H, W), as ``model_inference`` takes them under "feat"."""
        raise NotImplementedError

    def image_module(self) -> nn.Module:
        """The network behind ``encode_images``, with what was learned, for a graph of its own."""
        raise NotImplementedError

    @classmethod
    def image_tower(cls, cfg: CfgNode, device: torch.device) -> tuple[ImageTower, dict[str, Any]]:
        """The frozen image encoder that a config names, without a trainer, and its ``image_facts``."""
        raise NotImplementedError

    def open_clip_name(self) -> tuple[str, str]:
        """Name and tag of the frozen model in open_clip; empty if it is not one of theirs."""
        return "", ""

    def head(self) -> Head:
        """The learned table that scores image features, after ``before_test``.

        Raises:
            UserError: the method scores images in another way; the message says why and what to use instead.
        """
        raise UserError(
            f"{self.cfg.TRAINER.NAME} cannot be exported as one table: {self.no_table}; use the run folder "
            "with predict.py"
        )

    def contexts(self) -> list[Context]:
        """The context vectors of all prompts, learned and generated.

        Raises:
            UserError: the method has none; the message says why.
        """
        raise UserError(
            f"{self.cfg.TRAINER.NAME} has no context vectors: {self.no_context}; choose a run of a method that learns "
            "context, such as CoOp or MTCoOp"
        )

    def task_features(self) -> Tensor | None:
        """Features (T, F) float32 on the CPU from which the tasks' contexts are generated; None: there are none."""
        return None

    def vocabulary(self) -> Vocabulary:
        """The tokens of the text encoder that reads the context vectors."""
        raise NotImplementedError

    @classmethod
    def encode_places(cls, tower: Any, images: Tensor) -> Tensor:
        """Features of images (B, 3, H, W) and of their P places: (B, 1 + P, F) float32, not normalised.

        Args:
            tower: the frozen model.

        Raises:
            UserError: it has no features of places.
        """
        raise UserError(f"{cls.__name__} has no local features; choose a run of a prompt method")

    def local_features(self, images: Tensor) -> Tensor:
        """:meth:`encode_places` of the method's own frozen model."""
        return self.encode_places(None, images)

    def place_cosines(self, local: Tensor, task: int, label: Tensor) -> Tensor:
        """Cosines (B, P) of each image's places with one class of a task, after ``before_test``.

        Args:
            local: as :meth:`local_features` gives them. label: (B,) classes inside the task.

        Raises:
            UserError: the method has no features of classes.
        """
        raise UserError(f"{self.cfg.TRAINER.NAME} has no class features; choose a run of a prompt method")

    def label_biases(self, found: Mapping[int, tuple[Tensor, Tensor]] | None = None) -> dict[int, float]:
        """What a method that learns nothing subtracts from the logits of multi-label tasks, by task.

        Args:
            found: logits (n, C_t) of the task's images, which have this bias, and truth (n, C_t) bool: fit it to them.
        """
        return {}

    def put_biases(self, biases: Mapping[int, float]) -> None:
        """Set what :meth:`label_biases` gives."""

    def before_test(self) -> None:
        """Called once before an evaluation, e.g. to encode the class names."""

    @property
    def bound_names(self) -> list[str]:
        """Names of the classes or tasks that learned tensors belong to (``learned_for``); they fit no others."""
        units = self.bound_units(self.cfg)
        if "class" in units:
            return flat_classnames(self.dm.tasks)
        return [task.name for task in self.dm.tasks] if "task" in units else []

    @property
    def scored_tasks(self) -> list[Task]:
        """The tasks with the metrics that are reported."""
        return self.dm.tasks

    @property
    def steps_per_batch(self) -> int:
        """Optimiser steps taken with the gradient of one batch."""
        return 1

    @property
    def schedule_steps_per_epoch(self) -> int:
        """Steps of the learning-rate schedule after each epoch."""
        return 1

    def backbone_identity(self) -> tuple[str, str, str]:
        """Name, digest and precision of the frozen model, for results.json."""
        return self.cfg.MODEL.BACKBONE.NAME, "", self.precision

    @property
    def text_chunk(self) -> int:
        """Smallest chunk of prompts in this session; 0: no encoding was cut into chunks."""
        return 0
