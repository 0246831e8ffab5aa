"""Destinations of a run's curves: one file for each logger, which registers in LOGGERS."""
