"""Refuse YAML that would explode when it is read: aliases (``&a``, ``*a``) can stand for billions of values."""

from typing import Any

import yaml
from yaml.constructor import ConstructorError

MOST_ENTRIES = 1_000_000


class Bounded:
    """Mix-in for a PyYAML loader: refuses a file of more than MOST_ENTRIES values, or one that contains itself."""

    def construct_document(self, node: yaml.Node) -> Any:
        """The content of a document.

        Raises:
            yaml.YAMLError: it is too large, or a value contains itself.
        """
        _size(node, {})
        return super().construct_document(node)  # type: ignore[misc]


def _size(node: yaml.Node, known: dict[int, int]) -> int:
    """Number of values in a node, with repetitions by aliases; 0 in ``known`` while it is counted."""
    size = known.get(id(node))
    if size == 0:
        raise ConstructorError(None, None, "a value contains itself by an alias (*name)", node.start_mark)
    if size is not None:
        return size
    known[id(node)] = 0
    inner = node.value if isinstance(node, yaml.CollectionNode) else []
    parts = [part for each in inner for part in (each if isinstance(each, tuple) else (each,))]
    known[id(node)] = 1 + sum(_size(part, known) for part in parts)
    if known[id(node)] > MOST_ENTRIES:
        problem = f"stands for more than {MOST_ENTRIES:,} values by its aliases (*name); write the values out"
        raise ConstructorError(None, None, problem, node.start_mark)
    return known[id(node)]
