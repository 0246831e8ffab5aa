"""Evaluators: from logits to the metrics of a run."""

from dassl.evaluation.evaluator import EVALUATOR_REGISTRY, Classification, ClassificationMT, build_evaluator
from dassl.evaluation.scores import TaskScore

__all__ = ["EVALUATOR_REGISTRY", "Classification", "ClassificationMT", "TaskScore", "build_evaluator"]
