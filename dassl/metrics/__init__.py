"""Loss and metrics of multi-task classification."""

from dassl.metrics.loss import task_columns, task_cross_entropy
from dassl.metrics.precision import micro_average_precision, task_probabilities
from dassl.metrics.weights import class_weights

__all__ = ["class_weights", "micro_average_precision", "task_columns", "task_cross_entropy", "task_probabilities"]
