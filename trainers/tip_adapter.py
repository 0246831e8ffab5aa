"""Tip-Adapter: the few-shot images as a cache of keys, in addition to the class texts; nothing is trained.

Zhang et al., "Tip-Adapter: training-free adaption of CLIP for few-shot classification", ECCV 2022.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torch.nn import functional

from dassl.config import Key, above, at_least
from dassl.data.datum import Task
from dassl.engine import TRAINER_REGISTRY
from dassl.engine.head import Cache, Head
from dassl.engine.published import task_datasets
from trainers._features import CachedImages, FeatureMethod, Fitted, TaskWork, feature_keys

SEARCH_STEPS = (200, 20)
# (alpha to start with, upper end of beta, upper end of alpha) of the authors' configs; beta starts with 1.
AUTHORS = {
    "Caltech101": (3.0, 12.0, 5.0),
    "DescribableTextures": (2.0, 13.0, 13.0),
    "EuroSAT": (2.0, 12.0, 10.0),
    "FGVCAircraft": (5.0, 30.0, 30.0),
    "Food101": (1.17, 10.0, 10.0),
    "ImageNet": (1.17, 7.0, 3.0),
    "OxfordFlowers": (10.0, 50.0, 50.0),
    "OxfordPets": (1.17, 7.0, 3.0),
    "StanfordCars": (3.0, 20.0, 10.0),
    "SUN397": (1.17, 12.0, 10.0),
    "UCF101": (3.0, 7.0, 3.0),
}
_AT_ONCE = 1 << 21  # numbers of a block of affinities


def grid_values(end: float, steps: int) -> Tensor:
    """The authors' grid: 0.1 + i (end - 0.1) / steps for i = 0 .. steps - 1, float64."""
    return 0.1 + torch.arange(steps, dtype=torch.float64) * (end - 0.1) / steps


def class_sums(gap: Tensor, label: Tensor, classes: int, *, beta: float) -> Tensor:
    """Sum over the keys of each class of exp(beta * gap), gap = cosine - 1: (n, b), (n,) -> (b, C_t)."""
    near = (beta * gap).exp_()
    return near.new_zeros(classes, gap.shape[1]).index_add_(0, label, near).T


def right_between(text: Tensor, cache: Tensor, truth: Tensor) -> tuple[Tensor, Tensor]:
    """The range of alpha in which text + alpha * cache is largest in the true class: it is right inside, not outside.

    Every other class gives a half-line of alpha, so the range is an interval and no value of alpha has to be tried.

    Args:
        text, cache: (b, C_t). truth: (b,) true classes.

    Returns:
        Lower and upper end (b,); the range is empty where the first is not below the second.
    """
    gain, lead = (each.gather(1, truth[:, None]) - each for each in (cache, text))
    crossing = -lead / gain
    never = (gain == 0) & (lead <= 0)
    never.scatter_(1, truth[:, None], value=False)
    low = crossing.masked_fill(gain <= 0, -torch.inf).masked_fill(never, torch.inf).amax(dim=1)
    return low, crossing.masked_fill(gain >= 0, torch.inf).amin(dim=1)


def search_cache(work: TaskWork, keys: Tensor, betas: Tensor, alphas: Tensor) -> tuple[float, float, float]:
    """The best pair of a grid by the task's metric on the validation images; of equal ones the first, beta outside.

    Returns:
        alpha, beta and the metric in %.
    """
    found, truth = [], work.val_label.split(max(1, _AT_ONCE // len(keys)))
    parts = work.val.split(max(1, _AT_ONCE // len(keys)))
    text = [work.zero_shot(part) for part in parts]
    gaps = [keys @ functional.normalize(part, dim=-1).T - 1 for part in parts]
    grid = alphas.to(work.val)
    for beta in betas.tolist():
        hits = []
        for zero, gap, label in zip(text, gaps, truth, strict=True):
            low, high = right_between(zero, class_sums(gap, work.label, len(work.text), beta=beta), label)
            hits.append((low[:, None] < grid) & (grid < high[:, None]))
        found.append(work.val_rates(torch.cat(hits)))
    rates = torch.stack(found)
    best = int(rates.flatten().numpy().argmax())
    row, column = divmod(best, len(alphas))
    return float(alphas[column]), float(betas[row]), float(rates[row, column])


class ImageCache(CachedImages):
    """logits = s cos(x, t) + alpha * sum over the keys of a class of exp(-beta (1 - cos(x, key))).

    Attributes:
        alpha, beta: (T,) of each task; alpha 0, as at the start, is zero-shot CLIP.
    """

    alpha: Tensor
    beta: Tensor

    def __init__(self, tasks: Sequence[Task], text: Tensor, *, scale: float, counts: Sequence[int]) -> None:
        super().__init__(tasks, text, scale=scale, counts=counts)
        self.register_buffer("alpha", torch.zeros(len(tasks)))
        self.register_buffer("beta", torch.ones(len(tasks)))

    @torch.no_grad()
    def put(self, task: int, tensors: Mapping[str, Tensor]) -> None:
        """Store keys, their labels, alpha and beta of a task."""
        for name in ("keys", "label"):
            getattr(self, name)[self.rows(task)] = tensors[name]
        self.alpha[task], self.beta[task] = tensors["alpha"], tensors["beta"]

    def score(self, features: Tensor, task: int) -> Tensor:
        """Logits (b, C_t) of images."""
        image, text, rows = functional.normalize(features, dim=-1), self.own_text(task), self.rows(task)
        near = class_sums(self.keys[rows] @ image.T - 1, self.label[rows], len(text), beta=float(self.beta[task]))
        return self.scale * image @ text.T + self.alpha[task] * near

    def head(self) -> Head:
        """Class texts, and the cache of each task."""
        tasks = range(len(self.offsets) - 1)
        text = torch.cat([self.own_text(task) for task in tasks]).cpu()
        parts = [(self.keys[self.rows(t)], self.label[self.rows(t)], self.alpha[t], self.beta[t]) for t in tasks]
        caches = tuple(Cache(*(each.detach().cpu() for each in part)) for part in parts)
        return Head("unit", text, self.scale, caches=caches)


def tip_keys(section: str) -> tuple[Key, ...]:
    """The config keys of Tip-Adapter, for both of its forms."""
    steps = "values of beta and of alpha in the grid"
    return (
        *feature_keys(section, views=10, released="start, range and metric of the authors' search for each data set"),
        Key(f"TRAINER.{section}.ALPHA", 1.17, "weight of the cache without validation images", check=at_least(0)),
        Key(f"TRAINER.{section}.BETA", 1.0, "sharpness of the cache without validation images", check=above(0)),
        Key(f"TRAINER.{section}.BETA_END", 12.0, "upper end of the grid of beta, from 0.1 on", check=above(0.1)),
        Key(f"TRAINER.{section}.ALPHA_END", 10.0, "upper end of the grid of alpha", check=above(0.1)),
        Key(f"TRAINER.{section}.SEARCH_STEPS", SEARCH_STEPS, steps, check=_two_steps),
    )


def _two_steps(value: Sequence[int]) -> str:
    good = len(value) == 2 and all(isinstance(each, int) and each > 0 for each in value)
    return "" if good else "expected two numbers of at least 1"


@TRAINER_REGISTRY.register()
class TipAdapter(FeatureMethod):
    """Keys are the normalised means of each training image's features over VIEWS augmented views.

    alpha and beta are searched on the validation images of each task by its metric. The range is the same for all
    tasks; with RECIPE released it is that of the authors' config of each data set, where there is one.
    """

    model: ImageCache
    section = "TIP"
    no_context = "its classes are hand-written prompts and the few-shot images"
    config_keys = tip_keys("TIP")

    def build_heads(self, tasks: Sequence[Task], text: Tensor) -> ImageCache:
        """A cache without images."""
        counts = [0] * len(tasks)
        for item in self.dm.dataset.train_x:
            for task, _ in item.targets:
                counts[task] += 1
        return self.new_cache(list(tasks), text, counts)

    def new_cache(self, tasks: list[Task], text: Tensor, counts: list[int]) -> ImageCache:
        """A cache with room for the images of each task."""
        return ImageCache(tasks, text, scale=self.backbone.logit_scale, counts=counts)

    def fit_task(self, work: TaskWork, chosen: Mapping[str, float] | None = None) -> Fitted:
        """Build the cache of a task and search alpha and beta."""
        keys = functional.normalize(work.views.mean(dim=0), dim=-1)
        return self.with_search(work, keys, chosen)

    def with_search(self, work: TaskWork, keys: Tensor, chosen: Mapping[str, float] | None) -> Fitted:
        """Keys (n, F) of a task with the given alpha and beta, or those of the search."""
        rate, (alpha, beta_end, alpha_end) = None, self.search_range(work.index)
        found = {name: (chosen or {"alpha": alpha, "beta": self.options.BETA})[name] for name in ("alpha", "beta")}
        if chosen is None and work.searches:
            betas, alphas = (grid_values(*pair) for pair in zip((beta_end, alpha_end), self.search_steps, strict=True))
            found["alpha"], found["beta"], rate = search_cache(work, keys, betas, alphas)
        settings = {name: torch.tensor(found[name]) for name in ("alpha", "beta")}
        return Fitted({"keys": keys, "label": work.label, **settings}, found, rate)

    @property
    def search_steps(self) -> Sequence[int]:
        """Values of beta and of alpha."""
        return SEARCH_STEPS if self.released else self.options.SEARCH_STEPS

    def search_range(self, task: int) -> tuple[float, float, float]:
        """alpha to start with, and the upper ends of the grids of beta and alpha."""
        options = self.options
        common = (options.ALPHA, options.BETA_END, options.ALPHA_END)
        return AUTHORS.get(task_datasets(self.cfg)[task], common) if self.released else common
