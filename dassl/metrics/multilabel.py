"""Loss and figures of multi-label tasks, in which an image may have any number of the classes."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

FIXED_THRESHOLD = 0.5


@dataclass(frozen=True)
class Asymmetric:
    """The asymmetric loss of Ridnik et al., "Asymmetric loss for multi-label classification", ICCV 2021, eq. 7 and 8.

    With p the probability of a class, an image with it has (1 - p)**gamma_pos * -log(p), and one without it
    p_m**gamma_neg * -log(1 - p_m), p_m = max(p - clip, 0). All 0 is the binary cross-entropy.
    """

    gamma_neg: float
    gamma_pos: float
    clip: float

    def __call__(self, logits: Tensor, truth: Tensor) -> Tensor:
        """The loss of each class of each image: (n, C), (n, C) bool -> (n, C)."""
        p = logits.sigmoid()
        shifted = (p - self.clip).clamp_min(0)
        # With a clip the logarithm is that of at least the clip; without one it needs the logit.
        log_without = torch.log1p(-shifted) if self.clip else functional.logsigmoid(-logits)
        positive = (1 - p) ** self.gamma_pos * functional.logsigmoid(logits)
        negative = shifted**self.gamma_neg * log_without
        return -torch.where(truth, positive, negative)


def multi_label_loss(
    logits: Tensor, truth: Tensor, columns: Tensor, *, images: int, asymmetric: Asymmetric | None = None
) -> Tensor:
    """Binary cross-entropy, summed over each entry's own columns and all entries, divided by the number of images.

    L = (1/B) sum_i sum_c -[y_ic log p_ic + (1 - y_ic) log(1 - p_ic)], p = sigmoid(logit). Summed over the classes, the
    gradient of an image with one label is about as large as that of a softmax, so that tasks of both kinds can be
    trained together.

    Args:
        logits: (E, C). truth: (E, C) bool. columns: (E, C) bool, the columns of each entry's task.
        images: B.
        asymmetric: replaces the binary cross-entropy.
    """
    own = logits.float()[columns]
    if asymmetric is not None:
        return asymmetric(own, truth[columns]).sum() / images
    return functional.binary_cross_entropy_with_logits(own, truth[columns].float(), reduction="sum") / images


def fitted_bias(logits: Tensor, truth: Tensor) -> float:
    """The bias b at which sigmoid(logits - b) expects as many labels as there are: the best one of cross-entropy.

    The derivative of the binary cross-entropy to b is sum(sigmoid(logits - b)) - sum(truth). Half a label is added on
    both sides, so that b is finite where all or none are true. Bisection in float64.

    Args:
        logits: (n, C_t) finite. truth: (n, C_t) bool, n > 0.
    """
    scores = logits.detach().double().cpu()
    wanted = (float(truth.sum()) + 0.5) / (truth.numel() + 1)
    low, high = float(scores.min()) - 50, float(scores.max()) + 50
    for _ in range(60):
        middle = (low + high) / 2
        if float(torch.sigmoid(scores - middle).mean()) > wanted:
            low = middle
        else:
            high = middle
    return (low + high) / 2


def average_precisions(scores: np.ndarray, truth: np.ndarray) -> list[float | None]:
    """Average precision of each class in %, by scikit-learn; None for a class that no image has.

    Args:
        scores: (n, C_t), the larger the more probable. truth: (n, C_t) bool.
    """
    from sklearn.metrics import average_precision_score  # takes a second to load

    finite = np.maximum(scores, np.finfo(np.float64).min)  # -inf: a class that is never predicted
    return [
        100.0 * float(average_precision_score(truth[:, each], finite[:, each])) if truth[:, each].any() else None
        for each in range(truth.shape[1])
    ]


def mean_average_precision(precisions: list[float | None]) -> float | None:
    """mAP: the mean over the classes that an image has; None if there is none."""
    known = [each for each in precisions if each is not None]
    return sum(known) / len(known) if known else None


def f1_scores(predicted: np.ndarray, truth: np.ndarray) -> tuple[float | None, float | None]:
    """Micro and macro F1 in %: of all labels together, and the mean over the classes that an image has.

    Args:
        predicted, truth: (n, C_t) bool.
    """
    hits, either = (predicted & truth).sum(axis=0), predicted.sum(axis=0) + truth.sum(axis=0)
    seen = truth.any(axis=0)
    if not seen.any():
        return None, None
    micro = 2 * hits.sum() / either.sum()
    return 100.0 * float(micro), 100.0 * float((2 * hits[seen] / either[seen]).mean())


def best_threshold(probability: np.ndarray, truth: np.ndarray) -> float | None:
    """The threshold with the highest micro F1: labels with at least this probability are predicted.

    Candidates lie in the middle between neighbouring probabilities; of equal ones the nearest to 0.5 counts. See
    Lipton, Elkan, Naryanaswamy: "Optimal thresholding of classifiers to maximize F1 measure", ECML PKDD 2014.

    Args:
        probability: (n, C_t). truth: (n, C_t) bool.

    Returns:
        None if no label is true.
    """
    values, labels = probability.ravel().astype(np.float64), truth.ravel()
    if not labels.any():
        return None
    order = np.argsort(-values, kind="stable")
    values, labels = values[order], labels[order]
    f1 = 2 * labels.cumsum() / (np.arange(1, len(values) + 1) + labels.sum())
    below = np.append(values[1:], 0.0)
    apart = values > below
    middle = (values + below)[apart] / 2
    best = f1[apart] >= f1[apart].max() * (1 - 1e-12)
    candidates = middle[best]
    return float(candidates[np.argmin(np.abs(candidates - FIXED_THRESHOLD))])


def probabilities(logits: np.ndarray | Tensor) -> np.ndarray:
    """sigmoid(logits) in float64, where float32 has no numbers between a sure label and 1."""
    values = torch.as_tensor(logits).detach().cpu().double()
    return values.sigmoid().numpy()
