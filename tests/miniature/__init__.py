"""Tiny copies of the raw layouts of all data sets, for tests, scripts and benchmarks.

They are written from what is known of the archives, not from the readers in ``datasets/``, so that each checks
the other.
"""

from tests.miniature import fashion20, general10, imagenet, plant6, remote_sensing  # noqa: F401  (they register)
from tests.miniature.box import MINIATURES
from tests.miniature.write import PER_CLASS, SUITES, names_of, write_miniature, write_suite

__all__ = ["MINIATURES", "PER_CLASS", "SUITES", "names_of", "write_miniature", "write_suite"]
