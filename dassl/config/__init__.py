"""The config system (yacs) with declared keys and readable errors."""

from dassl.config.build import all_keys, get_cfg_default, merge_cfg
from dassl.config.defaults import PRECISIONS
from dassl.config.files import flatten, load_yaml, read_settings
from dassl.config.keys import Key, above, at_least, between

__all__ = [
    "PRECISIONS",
    "Key",
    "above",
    "all_keys",
    "at_least",
    "between",
    "flatten",
    "get_cfg_default",
    "load_yaml",
    "merge_cfg",
    "read_settings",
]
