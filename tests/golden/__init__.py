"""Replays recorded numbers of the original implementation: ``python -m tests.golden FOLDER``."""
