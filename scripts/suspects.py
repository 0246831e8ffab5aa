"""Images that look mislabelled: a linear probe that did not learn from them is sure of another label.

Cross-validation over all labelled images of a task, whatever their split. Equal images and those of one group, which
would betray each other, are in one fold. C is the one with the highest mean log-probability of the given labels.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components
from sklearn.linear_model import LogisticRegression
from yacs.config import CfgNode

from dassl.data.datum import Datum
from dassl.data.own.dataset import MyTasks
from dassl.engine import build_trainer
from dassl.engine.predictions import shown_path
from dassl.report.suspects import Examined
from dassl.results.predictions import PredictedImage
from trainers.base import PromptTuner

FOLDS = 5
GRID = (0.1, 1.0, 10.0, 100.0)
SURE = 0.9  # probability of the other label
LEAST = 2  # images that a class needs, to be learned without one of them
MOST = 5000  # images of a task; more take minutes
Numbers = NDArray[np.float64]


def examine(cfg: CfgNode) -> list[Examined]:
    """Examine every task of a config of the linear probe, with all its images.

    Raises:
        UserError: the data or the backbone cannot be read.
    """
    trainer = build_trainer(cfg)
    assert isinstance(trainer, PromptTuner)
    items, features = labelled_images(trainer)
    groups = MyTasks.groups(cfg) if isinstance(trainer.dm.dataset, MyTasks) else {}
    return [_examine(trainer, number, items, features, groups) for number in range(len(trainer.dm.tasks))]


def labelled_images(trainer: PromptTuner) -> tuple[list[Datum], Numbers]:
    """All images of the three splits with their normalised features (n, F)."""
    dataset = trainer.dm.dataset
    splits = {"train": dataset.train_x, "val": dataset.val, "test": dataset.test}
    found = [
        trainer.image_features(batch).float().cpu()
        for split, items in splits.items()
        if items
        for batch in trainer.dm.plain_loader(split)
    ]
    features = torch.nn.functional.normalize(torch.cat(found), dim=-1)
    return [item for items in splits.values() for item in items], features.double().numpy()


def _examine(
    trainer: PromptTuner,
    number: int,
    items: Sequence[Datum],
    features: Numbers,
    groups: Mapping[tuple[str, str], str],
) -> Examined:
    task, root = trainer.dm.tasks[number], trainer.dm.dataset.root
    if task.multi:
        return Examined(task.name, 0, 0.0, (), "an image may have several labels")
    own = [(place, label) for place, item in enumerate(items) for t, label in item.targets if t == number]
    labels = np.array([label for _, label in own], dtype=np.intp)
    counts = np.bincount(labels, minlength=len(task.classnames))
    keep = counts[labels] >= LEAST
    places, labels = np.array([place for place, _ in own], dtype=np.intp)[keep], labels[keep]
    left_out = [task.classnames[label] for label in range(len(counts)) if 0 < counts[label] < LEAST]
    remark = f"classes with one image cannot be examined: {', '.join(left_out)}" if left_out else ""
    if len(labels) > MOST or len(np.unique(labels)) < 2:
        why = f"more than {MOST:,} images" if len(labels) > MOST else "no two classes with two images"
        return Examined(task.name, 0, 0.0, (), why)
    names = [groups.get((task.name, items[place].impath), "") for place in places]
    chances = cross_validated(features[places], labels, len(task.classnames), names)
    guess = chances.argmax(1)
    suspects = np.flatnonzero((guess != labels) & (chances.max(1) >= SURE))
    rows = [
        PredictedImage(
            shown_path(items[places[n]].impath, root),
            task.name,
            task.classnames[labels[n]],
            task.classnames[guess[n]],
            float(chances[n, labels[n]]),
            float(chances[n, guess[n]]),
        )
        for n in suspects[np.argsort(-chances[suspects].max(1), kind="stable")]
    ]
    return Examined(task.name, len(labels), 100 * float((guess == labels).mean()), tuple(rows), remark)


def cross_validated(features: Numbers, labels: NDArray[np.intp], classes: int, groups: Sequence[str] = ()) -> Numbers:
    """Probabilities (n, C) of each image by a probe that did not learn from it, an equal one or one of its group.

    Args:
        groups: the group of each image; "" for none.
    """
    fold = folds(features, labels, groups)
    best: tuple[float, Numbers] | None = None
    for c in GRID:
        found = np.zeros((len(labels), classes))
        for each in np.unique(fold):
            out = fold == each
            seen = np.unique(labels[~out])
            if len(seen) < 2:
                found[out, labels[out]] = 1.0  # these images cannot be judged
                continue
            probe = LogisticRegression(C=c, max_iter=500).fit(features[~out], labels[~out])
            found[np.ix_(out, probe.classes_)] = probe.predict_proba(features[out])
        score = float(np.log(np.maximum(found[np.arange(len(labels)), labels], 1e-12)).mean())
        if best is None or score > best[0]:
            best = score, found
    assert best is not None
    return best[1]


def folds(
    features: Numbers, labels: NDArray[np.intp], groups: Sequence[str] = (), count: int = FOLDS
) -> NDArray[np.intp]:
    """The fold (n,) of each image: the images of a class in turn, equal features and groups together."""
    together = _together(features, groups)
    fold = np.full(len(labels), -1, dtype=np.intp)
    for label in np.unique(labels):
        turn = 0
        for place in np.flatnonzero(labels == label):
            if fold[place] < 0:
                fold[together == together[place]] = turn % count
                turn += 1
    return fold


def _together(features: Numbers, groups: Sequence[str]) -> NDArray[np.intp]:
    """A number (n,) for each image; images that are equal or of one group, directly or through others, share it."""
    equal = np.unique(features.round(6), axis=0, return_inverse=True)[1].reshape(-1)
    if not groups:
        return np.asarray(equal, dtype=np.intp)
    alone = [group or f"\0{number}" for number, group in enumerate(groups)]
    named = np.unique(alone, return_inverse=True)[1].reshape(-1) + len(equal)
    graph = coo_matrix((np.ones(len(equal)), (equal, named)), shape=(2 * len(equal),) * 2)
    return np.asarray(connected_components(graph, directed=False)[1][equal], dtype=np.intp)
