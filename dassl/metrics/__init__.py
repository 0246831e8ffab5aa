"""Loss and metrics of multi-task classification."""

from dassl.metrics.loss import task_columns, task_cross_entropy
from dassl.metrics.precision import micro_average_precision, task_probabilities

__all__ = ["micro_average_precision", "task_columns", "task_cross_entropy", "task_probabilities"]
