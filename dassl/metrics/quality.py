"""How good predictions and their probabilities are, beside accuracy: macro F1, log-likelihood, calibration error."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

BINS = 15


def macro_f1(confusion: np.ndarray) -> float | None:
    """Mean over classes of their F1 in %; classes without an image are left out, as in mean_acc.

    Args:
        confusion: (C_t, C_t) counts, rows are the true classes.

    Returns:
        None without an image.
    """
    from sklearn.metrics import f1_score  # takes a second to load

    present = np.flatnonzero(confusion.sum(axis=1))
    if not len(present):
        return None
    true, predicted = confusion.nonzero()
    weight = confusion[true, predicted]
    score = f1_score(true, predicted, labels=present, average="macro", sample_weight=weight, zero_division=0)
    return 100.0 * float(score)


def negative_log_likelihood(log_true: np.ndarray) -> float | None:
    """Mean of -log p of the true class, in nats.

    That is scikit-learn's ``log_loss``, which wants the probabilities of all classes at once and bounds them.

    Args:
        log_true: (n,) log-probability of each image's true class.

    Returns:
        None without an image, and where a true class has probability 0: the mean would be infinite.
    """
    if not len(log_true) or not np.isfinite(log_true).all():
        return None
    return abs(-float(log_true.mean(dtype=np.float64)))  # not -0.0


def expected_calibration_error(confidence: np.ndarray, correct: np.ndarray, *, bins: int = BINS) -> float | None:
    """Top-label expected calibration error (ECE) in %.

    ECE = sum_b n_b / n * |accuracy of b - mean confidence of b|, over ``bins`` bins of equal width, of which bin b of K
    holds confidences in ((b - 1) / K, b / K]. From Naeini, Cooper, Hauskrecht: "Obtaining well calibrated
    probabilities using Bayesian binning", AAAI 2015; for classifiers of several classes see Guo, Pleiss, Sun,
    Weinberger: "On calibration of modern neural networks", ICML 2017, equation 3.

    Args:
        confidence: (n,) probability of the predicted class.
        correct: (n,) whether that is the true one.

    Returns:
        None without an image.
    """
    if not len(confidence):
        return None
    edges = np.arange(1, bins) / bins
    place = np.searchsorted(edges, confidence, side="left")
    gap = np.bincount(place, weights=correct - confidence.astype(np.float64), minlength=bins)
    return 100.0 * float(np.abs(gap).sum()) / len(confidence)


@dataclass(frozen=True)
class Quality:
    """The figures of a task beside its accuracy, None where one cannot be computed.

    Attributes:
        macro_f1, ece: in %. nll: in nats.
        impossible: images whose true class has probability 0; then there is no nll.
    """

    macro_f1: float | None = None
    nll: float | None = None
    ece: float | None = None
    impossible: int = 0

    def __str__(self) -> str:
        forms = {"macro F1 {:.2f}%": self.macro_f1, "NLL {:.4f}": self.nll, "ECE {:.2f}%": self.ece}
        known = [form.format(value) for form, value in forms.items() if value is not None]
        return ", ".join(known) or "no macro F1, NLL or ECE"


def quality(confusion: np.ndarray, log_true: np.ndarray, log_predicted: np.ndarray, correct: np.ndarray) -> Quality:
    """All figures of a task with n images.

    Args:
        confusion: (C_t, C_t) counts, rows are the true classes.
        log_true, log_predicted: (n,) log-probabilities of the true and of the predicted class.
        correct: (n,) whether these are the same.
    """
    ece = expected_calibration_error(np.exp(log_predicted.astype(np.float64)), correct)
    impossible = int(np.isneginf(log_true).sum())
    return Quality(macro_f1(confusion), negative_log_likelihood(log_true), ece, impossible)


def mean_quality(tasks: Sequence[Quality]) -> Quality:
    """The mean of each figure over tasks; None where a task has none."""

    def mean(values: Sequence[float | None]) -> float | None:
        known = [value for value in values if value is not None]
        return sum(known) / len(known) if known and len(known) == len(values) else None

    return Quality(
        mean([each.macro_f1 for each in tasks]),
        mean([each.nll for each in tasks]),
        mean([each.ece for each in tasks]),
        sum(each.impossible for each in tasks),
    )
