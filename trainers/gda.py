"""GDA: Gaussian discriminant analysis of the image features, added to the class texts; nothing is trained.

Wang et al., "A hard-to-beat baseline for training-free CLIP-based adaptation", ICLR 2024.
"""

import itertools
import logging
from collections.abc import Mapping, Sequence
from hashlib import sha256

import torch
from torch import Tensor, nn
from torch.nn import functional

import clip
from dassl.config import Key, at_least
from dassl.data.datum import Task
from dassl.engine import TRAINER_REGISTRY
from dassl.inference.classifier import ExportedClassifier, load_classifier
from dassl.utils.errors import UserError
from trainers._features import ClassRows, FeatureMethod, Fitted, TaskWork, feature_keys

GRID = (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0, 100.0)
LEAST_SPREAD = 1e-9  # mean square distance of unit features from their class mean, below which all are the same

_log = logging.getLogger(__name__)


def discriminant(x: Tensor, label: Tensor, classes: int) -> tuple[Tensor, Tensor] | None:
    """Rows P mu_c (C_t, F) and biases - mu_c . P mu_c / 2 - log C_t (C_t,) of Gaussian classes with one covariance.

    P = F (S + tr(S) / (n - 1) I)^-1 with S the scatter matrix of the n rows about the means of their classes, which is
    (n - 1) times their covariance.

    Args:
        x: (n, F). label: (n,).

    Returns:
        None if the features of a class do not differ. A class without an image has zeros.
    """
    count = label.bincount(minlength=classes)
    means = x.new_zeros(classes, x.shape[1]).index_add_(0, label, x) / count.clamp(min=1)[:, None]
    apart = x - means[label]
    scatter = apart.T @ apart
    spread = scatter.diagonal().sum()
    if not spread > LEAST_SPREAD * len(x):
        return None
    scatter.diagonal().add_(spread / (len(x) - 1))
    rows = x.shape[1] * torch.cholesky_solve(means.T, torch.linalg.cholesky(scatter)).T
    bias = -0.5 * (rows * means).sum(dim=1) - torch.log(torch.tensor(float(classes)))
    return rows, torch.where(count > 0, bias, 0.0)


def _shown(names: Sequence[str]) -> str:
    """The number of some classes, and the first of them."""
    return f"{len(names)}: {', '.join(names[:3])}{', ...' if len(names) > 3 else ''}"


def _difference(mine: Sequence[Task], theirs: Sequence[Task]) -> str:
    """What the first task of another run has that the own one has not; "" if all tasks are equal."""
    for number, (own, other) in enumerate(itertools.zip_longest(mine, theirs)):
        if own is None or other is None or own.name != other.name:
            there, here = (repr(each.name) if each else "none" for each in (other, own))
            return f"other tasks (task {number} is {there} there, {here} here)"
        if own.classnames != other.classnames:
            there, here = (_shown(each.classnames) for each in (other, own))
            return f"other classes in task {own.name!r} ({there} there, {here} here)"
    return ""


def text_of_run(folder: str, tasks: Sequence[Task], backbone: clip.Backbone) -> tuple[Tensor, str]:
    """Unit class features (C, F) of a finished run with the same tasks, classes and backbone, and their digest.

    Raises:
        UserError: the run is not finished or has no class features, or tasks, classes or backbone differ.
    """
    key = f"TRAINER.GDA.TEXT_FROM {folder}"
    try:
        run = load_classifier(folder)
        if isinstance(run, ExportedClassifier):
            raise UserError("it is an export, and a run is needed; name its folder")
        if run.trainer.tunes_images:
            raise UserError("its class features belong to an image tower that it tuned; name a run of a text method")
        text = torch.cat([run.class_features(task) for task in range(len(run.tasks))])
    except UserError as error:
        raise UserError(f"{key}: {error}") from error
    if differs := _difference(tasks, run.tasks):
        raise UserError(f"{key} has {differs}; name a run of the same suite with the same choice of classes")
    (name, digest), here = run.trainer.backbone_identity()[:2], backbone.digest
    if digest != here:
        raise UserError(
            f"{key} has another backbone ({name}, digest {digest[:12]}; here {backbone.name}, {here[:12]}); name a run "
            "of the same backbone"
        )
    identity = sha256(text.contiguous().numpy().tobytes()).hexdigest()
    _log.info("Class features of %s (%s, digest %s)", folder, run.trainer.cfg.TRAINER.NAME, identity[:12])
    return text, identity


class Discriminants(ClassRows):
    """logits = s cos(x, t) + alpha (d(x) . P mu_c - mu_c . P mu_c / 2 - log C_t); nothing counts as learned.

    Attributes:
        bias: (C,). alpha: (T,), 0 until a task is fitted.
    """

    bias: Tensor
    alpha: Tensor

    def __init__(self, tasks: Sequence[Task], text: Tensor, *, scale: float) -> None:
        super().__init__(tasks, text, scale=scale)
        self.weight = nn.Parameter(self.weight.detach(), requires_grad=False)
        self.register_buffer("bias", torch.zeros(len(text)))
        self.register_buffer("alpha", torch.zeros(len(tasks)))

    @torch.no_grad()
    def put(self, task: int, tensors: Mapping[str, Tensor]) -> None:
        """Store rows, biases and alpha of a task."""
        super().put(task, {name: tensors[name] for name in ("weight", "bias")})
        self.alpha[task] = tensors["alpha"]

    def rows(self, task: int) -> tuple[Tensor, Tensor | None]:
        """Rows and biases of a task."""
        return self.weight[self.columns(task)], self.bias[self.columns(task)]


@TRAINER_REGISTRY.register()
class GDA(FeatureMethod):
    """Every one of the VIEWS augmented views of a training image is an image of its class.

    alpha is the best of seven powers of ten on the validation images of each task.
    """

    section = "GDA"
    no_context = "its classes are hand-written prompts and Gaussians of image features"
    config_keys = (
        *feature_keys("GDA", views=10, released="alpha is chosen by overall accuracy for every task"),
        Key("TRAINER.GDA.ALPHA", 1.0, "weight of the discriminant without validation images", check=at_least(0)),
        Key("TRAINER.GDA.TEXT_FROM", "", "folder of a finished run of a prompt method, whose class features are taken"),
    )

    def build_heads(self, tasks: Sequence[Task], text: Tensor) -> Discriminants:
        """Zero-shot CLIP."""
        return Discriminants(tasks, text, scale=self.backbone.logit_scale)

    def class_texts(self) -> Tensor:
        """Those of the task's templates, or of the run that TEXT_FROM names."""
        if not self.options.TEXT_FROM:
            return super().class_texts()
        text, identity = text_of_run(self.options.TEXT_FROM, self.dm.tasks, self.backbone)
        self.text_digest = identity
        return text.to(self.device)

    def fit_task(self, work: TaskWork, chosen: Mapping[str, float] | None = None) -> Fitted:
        """Fit the Gaussians of a task and choose alpha."""
        text = work.scale * functional.normalize(work.text, dim=-1)
        found = discriminant(*work.flat(), len(text))
        if found is None:
            _log.warning(
                "%s: the features of its training images do not differ inside a class, so there is no covariance and "
                "its classes are their texts only; use more shots, or VIEWS with a random transform",
                work.place,
            )
            zero = text.new_zeros(())
            return Fitted({"weight": text, "bias": text.new_zeros(len(text)), "alpha": zero})
        alpha, rate = self._alpha(work, *found, chosen)
        tensors = {"weight": text + alpha * found[0], "bias": alpha * found[1], "alpha": torch.tensor(alpha)}
        return Fitted(tensors, {"alpha": alpha}, rate)

    def _alpha(
        self, work: TaskWork, rows: Tensor, bias: Tensor, chosen: Mapping[str, float] | None
    ) -> tuple[float, float | None]:
        """The given alpha, or the best of the grid with its metric; of equal ones the smallest."""
        if chosen or not work.searches:
            return (chosen or {"alpha": self.options.ALPHA})["alpha"], None
        zero, added = work.zero_shot(work.val), functional.normalize(work.val, dim=-1) @ rows.T + bias
        rates = [work.val_rate(zero + alpha * added) for alpha in GRID]
        best = max(range(len(GRID)), key=rates.__getitem__)
        return GRID[best], rates[best]
