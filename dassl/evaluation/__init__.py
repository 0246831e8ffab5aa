"""Evaluators: from logits to the metrics of a run."""

from dassl.evaluation.evaluator import EVALUATOR_REGISTRY, Classification, ClassificationMT, TaskScore, build_evaluator

__all__ = ["EVALUATOR_REGISTRY", "Classification", "ClassificationMT", "TaskScore", "build_evaluator"]
