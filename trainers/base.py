"""Shared by all prompt tuners: frozen CLIP, masked loss, evaluation with class names encoded once."""

import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, wraps
from typing import Any, ParamSpec, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional
from yacs.config import CfgNode

import clip
from clip.device import take_rows, to_device
from clip.names import open_clip_name
from clip.weights import find
from dassl.data.datum import Task
from dassl.data.features.store import encode_fixed
from dassl.data.loaders import on_host
from dassl.data.manager import DataManager
from dassl.engine import TrainerX
from dassl.engine.contexts import Vocabulary
from dassl.engine.head import Head, place_cosines
from dassl.metrics import class_weights, micro_average_precision, task_columns, task_cross_entropy
from dassl.metrics.multilabel import multi_label_loss
from dassl.optim import build_lr_scheduler, build_optimizer
from dassl.utils.cache import cached
from dassl.utils.errors import PassingError, UserError, brief, memory_explained, out_of_memory
from trainers._multilabel import LabelBias, loss_of
from trainers._names import check_names, explain_too_long

TEST_ROWS = 4096
FIXED_TEXT_MEMORY = 2**32  # bytes for the tensors of one encoding in a deterministic run
KEPT_TEMPLATES = 64  # lists of prompts: the tasks of a suite one by one

_log = logging.getLogger(__name__)


def frozen_backbone(name: str, device: torch.device, **options: Any) -> clip.Backbone:
    """``clip.load``; a process with many runs caches the last one, and loads it again if a run has changed it."""

    def load() -> tuple[clip.Backbone, list[int]]:
        backbone, _ = clip.load(name, device, **options)
        return backbone, changes(backbone)

    def changes(backbone: clip.Backbone) -> list[int]:
        """How often each tensor was written to (torch counts this), whether it requires a gradient, and the limit."""
        tensors = (*backbone.parameters(), *backbone.buffers())
        return [backbone.text.limit, *(t._version + t.requires_grad for t in tensors)]

    key = (name, str(device), *sorted(options.items()))
    return cached("backbone", key, load, limit=1, unchanged=lambda pair: changes(pair[0]) == pair[1])[0]


def _backbone_name(cfg: CfgNode) -> str:
    name = cfg.MODEL.BACKBONE.NAME
    if not name:
        raise UserError(f"no backbone is named; set --backbone to one of {', '.join(clip.available_models())}")
    return name


def _backbone_options(cfg: CfgNode) -> dict[str, Any]:
    """Arguments of ``clip.load`` besides name, device and precision."""
    node = cfg.MODEL
    return {
        "weights": node.BACKBONE.WEIGHTS,
        "arch": node.BACKBONE.ARCH,
        "activation": node.BACKBONE.ACTIVATION,
        "head_widths": tuple(node.BACKBONE.HEAD_WIDTHS),
        "text_encoding": node.TEXT_ENCODING,
        "text_chunk": node.TEXT_CHUNK,
        "text_memory": FIXED_TEXT_MEMORY if cfg.TRAIN.DETERMINISTIC else 0,
    }


def image_facts(backbone: clip.Backbone) -> dict[str, Any]:
    """What a backbone expects of images, by key below INPUT."""
    return {
        "SIZE": (backbone.image_size, backbone.image_size),
        "INTERPOLATION": backbone.interpolation,
        "RESIZE": backbone.preparation.resize,
        "PIXEL_MEAN": backbone.image_mean,
        "PIXEL_STD": backbone.image_std,
    }


def check_preprocessing(said: CfgNode, backbone: clip.Backbone) -> None:
    """Warn if images are prepared differently from the backbone's training; refuse another size.

    Args:
        said: the node INPUT of the config; empty keys follow the backbone.
    """
    facts, name = image_facts(backbone), backbone.name
    side = backbone.image_size
    if said.SIZE and tuple(said.SIZE) != facts["SIZE"]:
        raise UserError(
            f"INPUT.SIZE is {tuple(said.SIZE)} but {name} reads {side} x {side}; set INPUT.SIZE {side},{side} or leave "
            "it out"
        )
    other = [
        key
        for key in ("INTERPOLATION", "RESIZE", "PIXEL_MEAN", "PIXEL_STD")
        if said[key] and not _same(said[key], facts[key])
    ]
    for key in other:
        _log.warning(
            "INPUT.%s is %s, and %s was trained with %s: it sees other pictures than in its training, and figures "
            "suffer; leave the key out to follow the backbone",
            key,
            said[key],
            name,
            facts[key],
        )
    if said.TRANSFORMS and "normalize" not in said.TRANSFORMS:
        _log.warning(
            "INPUT.TRANSFORMS (%s) has no normalize, and %s was trained with normalised pictures: it sees "
            "other pictures than in its training, and figures suffer; add normalize",
            ", ".join(said.TRANSFORMS),
            name,
        )


def check_places(backbone: clip.Backbone) -> None:
    """Refuse a backbone without local features (UserError)."""
    if not backbone.has_places:
        kind = type(getattr(backbone.visual, "trunk", backbone.visual)).__name__
        raise UserError(
            f"{backbone.name} has no local features (its image tower, a {kind}, is none whose places are known); "
            "choose a backbone with a ViT or ResNet of CLIP, or with a tower of timm that pools tokens or a grid"
        )


def _same(said: Any, fact: Any) -> bool:
    """Whether two settings are equal up to rounding."""
    if isinstance(fact, str):
        return said == fact
    return all(math.isclose(mine, theirs, abs_tol=1e-4) for mine, theirs in zip(said, fact, strict=True))


P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")


def told_to_users(method: Callable[P, R]) -> Callable[P, R]:
    """Turn a mistake that ``clip`` explains, or memory that ran out, into the error that programs show as one line."""

    @wraps(method)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            with memory_explained():
                return method(*args, **kwargs)
        except clip.BackboneError as error:
            raise UserError(str(error)) from error

    return wrapped


def _refused_chunk(reason: str, size: int) -> str:
    return (
        f"the memory ran out ({reason}) with {size} prompts at once, and TRAIN.DETERMINISTIC True forbids smaller "
        f"chunks in the middle of a run, which round differently; set MODEL.TEXT_CHUNK {size // 2} for all runs of a "
        "comparison, or use a machine with more memory"
    )


@dataclass(frozen=True)
class Scores:
    """The scores of a training step: E (image, task) entries against K columns, all or a selection.

    Attributes:
        image: (B, F) image features, text: (K, F) class features (None if each image has its own); not normalised.
        logits: (E, K) float32.
        row: (E,) image of each entry. target: (E,) its true class among the K columns.
        columns: (E, K) bool, the columns of its task.
        weight: (E,) factor of its loss; None: 1.
        multi: (E,) bool, which entries are of multi-label tasks, with ``truth`` (E, K) bool in place of ``target``;
            None: there is no such task.
    """

    image: Tensor
    text: Tensor | None
    logits: Tensor
    row: Tensor
    target: Tensor
    columns: Tensor
    weight: Tensor | None = None
    multi: Tensor | None = None
    truth: Tensor | None = None


class PromptTuner(TrainerX):
    """A trainer whose model turns prompts into class features and scores images by cosine similarity.

    A method sets ``section`` (its node below TRAINER) and implements ``build_prompts``, which returns an
    ``nn.Module`` that gives the class features (C, F), and ``learned_modules``, the modules to register by name.

    Attributes:
        test_rows: images whose stored features are scored at once in a test; 0: DATALOADER.TEST.BATCH_SIZE. A method
            that scores images in another way, with more memory for an image than a row of logits, sets 0.
    """

    section = ""
    test_rows = TEST_ROWS
    biased = True  # multi-label tasks get a bias
    label_bias: LabelBias | None = None

    @told_to_users
    def __init__(self, cfg: CfgNode, data: DataManager | None = None) -> None:
        super().__init__(cfg, data)

    @told_to_users
    def train(self) -> None:
        """As every trainer."""
        super().train()

    @told_to_users
    def test(self, split: str | None = None) -> dict[str, float | None]:
        """As every trainer."""
        return super().test(split)

    @property
    def options(self) -> CfgNode:
        """The method's own config node."""
        return self.cfg.TRAINER[self.section]

    def backbone_identity(self) -> tuple[str, str, str]:
        """Name, digest and precision of the frozen CLIP."""
        return self.backbone.name, self.backbone.digest, self.backbone.precision

    @classmethod
    def learned_for(cls, cfg: CfgNode) -> dict[str, str]:
        """The usual keys: CSC means a context for each class, TSC one for each task."""
        kinds = {"class": "CSC", "task": "TSC"}
        options = cfg.TRAINER.get(cls.section, {})
        return {unit: f"TRAINER.{cls.section}.{key} True" for unit, key in kinds.items() if options.get(key)}

    def build_prompts(self, backbone: clip.Backbone, tasks: Sequence[Task]) -> nn.Module:
        """The model: ``model(columns=None)`` gives text features (C, F), or those of some columns."""
        raise NotImplementedError

    def learned_modules(self) -> dict[str, nn.Module]:
        """Modules with learned tensors, by the name of their checkpoint folder."""
        raise NotImplementedError

    @told_to_users
    def before_data(self) -> None:
        """Load the frozen backbone, so that a wrong name, size or kind is reported before any image is read."""
        self.backbone = self._load_backbone()
        self.precision = self.backbone.precision

    @classmethod
    @told_to_users
    def check_model(cls, cfg: CfgNode, *, fetch: bool) -> str:
        """Load the frozen backbone once as a check."""
        name = _backbone_name(cfg)
        if not fetch and find(name, cfg.MODEL.BACKBONE.WEIGHTS) is None:
            return f"the weights of {name} are not on this machine and will be downloaded when the runs start"
        backbone = clip.load(name, **_backbone_options(cfg))[0]
        check_preprocessing(cfg.INPUT, backbone)
        cls.check_backbone(backbone)
        return ""

    @classmethod
    def check_backbone(cls, backbone: clip.Backbone) -> None:
        """Refuse a backbone that the method cannot use (raise UserError or BackboneError)."""

    def build_model(self) -> None:
        """Build the prompts, the optimiser and the schedule."""
        self._serve_features()
        self.task_of_class = self.dm.task_of_class.to(self.device)
        self.offsets = self.dm.offsets.to(self.device)
        self.multi = self.dm.multi.to(self.device)
        self._class_features: Tensor | None = None
        check_names(self.dm.tasks, self.backbone.tokenizer)
        try:
            self.model = self.build_prompts(self.backbone, self.dm.tasks).to(self.device)
        except clip.TooLongError as error:
            raise explain_too_long(error, self.dm.tasks) from error
        modules = self.learned_modules()
        if self.biased and self.dm.multi.any():
            self.label_bias = LabelBias(self.dm.tasks).to(self.device)
            self.model.add_module("label_bias", self.label_bias)
            modules = {**modules, "label_bias": self.label_bias} if modules else modules
        if not modules:
            return
        self.register_learned(modules)
        if self.cfg.MODEL.INIT_WEIGHTS:
            self.checkpoints.start_from(self.cfg.MODEL.INIT_WEIGHTS)
        names = [f"{n} {tuple(p.shape)}" for n, p in self.model.named_parameters() if p.requires_grad]
        _log.info("Learned tensors: %s; %s values in all", ", ".join(names) or "none", f"{self.num_parameters:,}")

    def _serve_features(self) -> None:
        """Let batches have stored features; those of a tower that is tuned change with each step."""
        name = self.cfg.TRAINER.NAME
        if not self.tunes_images:
            # Products of other sizes round differently: with stored features, test batches have the rows as without.
            rows = 0 if self.cfg.TRAIN.DETERMINISTIC else self.test_rows
            self.dm.attach_encoder(self.encode_images, self.encoder_id, test_rows=rows)
        elif self.cfg.DATALOADER.FEATURES:
            _log.info(
                "%s tunes the image tower: nothing is stored (DATALOADER.FEATURES), images are encoded anew", name
            )
        if self.cfg.MODEL.IMAGE_CHECKPOINT and not self.tunes_images:
            _log.info("%s leaves the image tower frozen: MODEL.IMAGE_CHECKPOINT changes nothing", name)

    def register_learned(self, modules: dict[str, nn.Module]) -> None:
        """Register the learned modules with one optimiser and one schedule for all of them."""
        optim = build_optimizer(self.model, self.cfg.OPTIM)
        sched = build_lr_scheduler(optim, self.cfg.OPTIM, epochs=self.max_epoch)
        for name, module in modules.items():
            self.register_model(name, module, optim, sched)
        # The gradient of the loss passes an image tower in fp16, where small values vanish.
        low = ("amp", "fp16") if self.tunes_images else ("amp",)
        scaled = self.precision in low and self.device.type == "cuda"
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=scaled)

    def _load_backbone(self) -> clip.Backbone:
        name = _backbone_name(self.cfg)
        backbone = frozen_backbone(name, self.device, precision=self.options.PREC, **_backbone_options(self.cfg))
        backbone.text.forget()
        _log.info("Backbone %s (%s, weights %s)", name, backbone.precision, backbone.digest[:12])
        check_preprocessing(self.cfg.INPUT, backbone)
        self.check_backbone(backbone)
        return backbone

    def image_facts(self) -> dict[str, Any]:
        """The backbone's preprocessing."""
        return image_facts(self.backbone)

    @property
    def encoder_id(self) -> str:
        """Key of what ``encode_images`` computes, for stored features; a method with other features overrides it."""
        dtype = str(self.backbone.dtype).removeprefix("torch.")  # amp computes in bf16 on a CPU and in fp16 on a GPU
        # Features stored by other runs may be rounded as with other threads or on another device.
        fixed = f"-deterministic-{self.device.type}" if self.cfg.TRAIN.DETERMINISTIC else ""
        return f"{self.backbone.digest}-{self.backbone.precision}-{dtype}{fixed}"

    def encode_images(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, F) float32, not normalised, without gradient."""
        with torch.no_grad():
            return self.through_tower(images.to(self.device, non_blocking=True)).float()

    def through_tower(self, images: Tensor) -> Tensor:
        """Features of images (B, 3, H, W) on the device: (B, F) in the encoders' dtype, not normalised.

        A method that tunes the image tower overrides it, and lets the gradient pass. With MODEL.IMAGE_CHECKPOINT the
        tower's blocks are computed again in the backward pass.
        """
        return self.backbone.encode_image(images)

    def image_features(self, batch: dict[str, Any]) -> Tensor:
        """(B, F) float32, not normalised: the stored ones if the batch has them.

        A tower that is tuned computes those of a training batch with gradient.
        """
        if "feat" in batch:
            return batch["feat"].to(self.device)
        if self.tunes_images and torch.is_grad_enabled():
            return self.through_tower(batch["img"].to(self.device, non_blocking=True)).float()
        return encode_fixed(self.encode_images, batch["img"])

    def parse_batch_train(self, batch: dict[str, Any]) -> tuple[Tensor, Tensor, Tensor]:
        """(row, task, column) of the batch's entries on the device; ``column`` is the global class index."""
        row, task, label = (to_device(batch[name], self.device) for name in ("row", "task", "label"))
        if self.dm.label_sets is not None:
            label = label.where(~self.multi[task], 0)  # there it is no class
        return row, task, label + self.offsets[task]

    def logits(self, image_features: Tensor, text_features: Tensor) -> Tensor:
        """exp(logit_scale) times the cosine similarity, in float32. (B, F), (C, F) -> (B, C).

        In columns of multi-label tasks, minus their bias.
        """
        image = functional.normalize(image_features.float(), dim=-1)
        text = functional.normalize(text_features.float(), dim=-1)
        logits = self.backbone.logit_scale * image @ text.T
        return logits if self.label_bias is None else logits - self.label_bias()

    @torch.no_grad()
    def template_features(self, prompts: Sequence[str]) -> Tensor:
        """Features of hand-written prompts (N, F) float32, not normalised, by an encoder in fp32 whatever PREC says.

        A process with many runs caches them but not the encoder, whose memory would count in every later run.
        """

        options = _backbone_options(self.cfg)

        def encode() -> tuple[Tensor, int]:
            backbone, _ = clip.load(self.backbone.name, self.device, precision="fp32", **options)
            return backbone.encode_text(tokens), backbone.text.chunked

        tokens = self.backbone.tokenize(prompts)
        if self.backbone.precision == "fp32":
            return self.backbone.encode_text(tokens)
        ways = (options[name] for name in ("text_encoding", "text_chunk", "text_memory"))
        key = (self.backbone.digest, str(self.device), *ways, *prompts)
        features, chunked = cached("template features", key, encode, limit=KEPT_TEMPLATES)
        if chunked:
            self.backbone.text.note(chunked, len(prompts))
        return features.clone()

    def kept_columns(self, column: Tensor) -> Tensor | None:
        """Columns that a training step uses, sorted; None: all. ``column``: (E,) true columns of the batch.

        Both are on the CPU: texts are planned there without waiting for a device.
        """
        return None

    def scores(self, batch: dict[str, Any]) -> Scores:
        """Features and logits of a training batch."""
        row, task, column = self.parse_batch_train(batch)
        kept = self.kept_columns(on_host(batch, "label") + self.dm.offsets[on_host(batch, "task")])
        image, text = self.image_features(batch), self.model(kept)
        owner, target, weight = self.task_of_class, column, self.entry_weights(column)
        if kept is not None:
            kept = to_device(kept, self.device)
            owner, target = owner[kept], torch.searchsorted(kept, column)
        logits = take_rows(self.logits(image, text), row)
        columns = task_columns(task, owner)
        truth = self.dm.truth(batch)
        if truth is None:  # no task is multi-label
            return Scores(image, text, logits, row, target, columns, weight)
        truth = truth.to(self.device)
        if self.label_bias is not None and self.label_bias.waits:
            self.label_bias.begin(logits, truth, task)
            logits = take_rows(self.logits(image, text), row)
        return Scores(image, text, logits, row, target, columns, weight, self.multi[task], truth)

    @cached_property
    def class_weights(self) -> Tensor | None:
        """Weights (C,) of the classes in the loss; None: no task asks for any."""
        if not any(task.weight for task in self.dm.tasks):
            return None
        weights = class_weights(self.dm.tasks, self.dm.dataset.train_x)
        assert weights is not None
        return weights.to(self.device)

    def entry_weights(self, column: Tensor) -> Tensor | None:
        """The factors (E,) of entries with these true columns (E,); None: 1."""
        return None if self.class_weights is None else self.class_weights[column]

    def cross_entropy(self, scores: Scores) -> tuple[Tensor, dict[str, float]]:
        """The multi-task cross-entropy and, if the step is logged, the training metric."""
        if scores.multi is not None:
            return self.mixed_loss(scores, scores.multi)
        logits, target, columns = scores.logits, scores.target, scores.columns
        loss = task_cross_entropy(logits, target, columns, images=len(scores.image), weight=scores.weight)
        shown = {"map": micro_average_precision(logits.detach(), target, columns)} if self.printing else {}
        return loss, shown

    def mixed_loss(self, scores: Scores, multi: Tensor) -> tuple[Tensor, dict[str, float]]:
        """The cross-entropy of tasks with one label an image, plus the loss of the multi-label ones."""
        one, weight, images = ~multi, scores.weight, len(scores.image)
        weight = None if weight is None else weight[one]
        parts = [each[one] for each in (scores.logits, scores.target, scores.columns)]
        loss = task_cross_entropy(*parts, images=images, weight=weight)
        assert scores.truth is not None
        sets = [each[multi] for each in (scores.logits, scores.truth, scores.columns)]
        loss = loss + multi_label_loss(*sets, images=images, asymmetric=loss_of(self.cfg))
        single = self.printing and bool(one.any())
        return loss, {"map": micro_average_precision(parts[0].detach(), *parts[1:])} if single else {}

    def loss(self, batch: dict[str, Any]) -> tuple[Tensor, dict[str, float]]:
        """The loss of a batch and, if the step is logged, further values for the log."""
        return self.cross_entropy(self.scores(batch))

    def forward_backward(self, batch: dict[str, Any]) -> dict[str, Tensor | float]:
        """One step on a batch."""
        shown = self.within_memory(lambda: self.gradients(batch))
        self.model_update()
        return shown

    def gradients(self, batch: dict[str, Any]) -> dict[str, Tensor | float]:
        """Compute the gradients of a batch; returns the loss and further values for the log."""
        loss, shown = self.loss(batch)
        self.model_backward(loss)
        return {"loss": loss.detach(), **shown}

    def within_memory(self, work: Callable[[], T]) -> T:
        """Do ``work``, which can be repeated; if the memory runs out, retry with half as many prompts at once.

        Raises:
            PassingError: it runs out in a deterministic run, or when prompts are already encoded one by one.
        """
        text = self.backbone.text
        while True:
            try:
                return work()
            except (RuntimeError, MemoryError) as error:
                if not out_of_memory(error):
                    raise
                reason = brief(error)
                if self.cfg.TRAIN.DETERMINISTIC and text.largest > 1:
                    raise PassingError(_refused_chunk(reason, text.largest)) from error
                if not (size := text.halve()):
                    raise
            # The tensors of the attempt are freed by now.
            if self.device.type == "cuda":
                torch.cuda.empty_cache()
            _log.warning(
                "the memory ran out (%s): from now on at most %d prompts are encoded at once; MODEL.TEXT_CHUNK %d "
                "does so from the start, and gives the same figures each time",
                reason,
                size,
                size,
            )

    @property
    def text_chunk(self) -> int:
        """That of the frozen CLIP's text encoder."""
        return self.backbone.text.chunked

    @property
    def class_features(self) -> Tensor:
        """The class features (C, F) that ``before_test`` has encoded; not normalised."""
        assert self._class_features is not None, "before_test() encodes the class names"
        return self._class_features

    def before_test(self) -> None:
        """Encode the class names once for the whole evaluation."""
        with torch.no_grad():
            self._class_features = self.within_memory(self.model)

    @told_to_users
    def vocabulary(self) -> Vocabulary:
        """The tokens of the backbone with the embeddings of the frozen text encoder."""
        texts, kinds = zip(*self.backbone.tokenizer.vocabulary(), strict=True)
        return Vocabulary(texts, kinds, self.backbone.text.embeddings(range(len(texts))).cpu())

    def head(self) -> Head:
        """The class features and the scale, for methods that score by cosine similarity."""
        own = type(self)
        if own.logits is not PromptTuner.logits or own.model_inference is not PromptTuner.model_inference:
            return super().head()
        rows = functional.normalize(self.class_features.float(), dim=-1).detach().cpu()
        bias = None if self.label_bias is None else -self.label_bias().detach().cpu()
        return Head("cosine", rows, self.backbone.logit_scale, bias)

    @classmethod
    @told_to_users
    def image_tower(cls, cfg: CfgNode, device: torch.device) -> tuple[clip.Backbone, dict[str, Any]]:
        """The frozen model that a config names, for a use without prompts, and what it expects of images."""
        precision = cfg.TRAINER[cls.section].PREC
        backbone = frozen_backbone(_backbone_name(cfg), device, precision=precision, **_backbone_options(cfg))
        return backbone, image_facts(backbone)

    @classmethod
    def encode_places(cls, tower: clip.Backbone, images: Tensor) -> Tensor:
        """Those of a frozen CLIP."""
        check_places(tower)
        with torch.no_grad():
            return tower.encode_local(images).float()

    def _frozen_only(self, what: str, instead: str) -> None:
        """Refuse what only a frozen image tower gives (raise UserError)."""
        if self.tunes_images:
            raise UserError(f"{self.cfg.TRAINER.NAME} tunes the image tower, so {what}; {instead}")

    def local_features(self, images: Tensor) -> Tensor:
        """Those of the frozen CLIP."""
        self._frozen_only("the frozen one's features of places say nothing of it", "choose a run of a text method")
        return self.encode_places(self.backbone, images.to(self.device))

    def place_cosines(self, local: Tensor, task: int, label: Tensor) -> Tensor:
        """Cosines with the class features."""
        name, column = self.cfg.TRAINER.NAME, label + self.dm.offsets[task]
        try:
            head = self.head()
        except UserError as error:
            raise UserError(f"{name} has no features of classes for --explain: {self.no_table}") from error
        return place_cosines(local[:, 1:].cpu(), head, column, task, method=name)

    def image_module(self) -> nn.Module:
        """The image tower of the frozen CLIP."""
        self._frozen_only("it has no graph of the frozen one", "use -o FILE.safetensors, which writes an adapter file")
        return self.backbone.visual

    def open_clip_name(self) -> tuple[str, str]:
        """Name and tag of the backbone in open_clip; empty for a file."""
        return open_clip_name(self.backbone.name)

    def model_inference(self, batch: dict[str, Any]) -> Tensor:
        """Logits (B, C) of a test batch."""
        return self.logits(self.image_features(batch), self.class_features)
