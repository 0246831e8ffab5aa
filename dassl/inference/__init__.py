"""Use a finished run as a classifier of new images."""

from dassl.inference.classifier import Classifier, ClassScore, Prediction, load_classifier

__all__ = ["ClassScore", "Classifier", "Prediction", "load_classifier"]
