"""The config system (yacs) with declared keys and readable errors."""

from dassl.config.build import all_keys, flatten, get_cfg_default, load_yaml, merge_cfg
from dassl.config.defaults import PRECISIONS
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
]
