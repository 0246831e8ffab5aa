"""YAML that would grow when it is read: names of parts of a file (``&a``, ``*a``) can stand for billions of values."""

from typing import Any

import yaml
from yaml.constructor import ConstructorError

MOST_ENTRIES = 1_000_000


class Bounded:
    """Mixed into a loader of PyYAML: refuses a file that stands for more than MOST_ENTRIES values, or for itself."""

    def construct_document(self, node: yaml.Node) -> Any:
        """The content of a document.

        Raises:
            yaml.YAMLError: it is too large, or one of its parts holds itself.
        """
        _size(node, {})
        return super().construct_document(node)  # type: ignore[misc]


def _size(node: yaml.Node, known: dict[int, int]) -> int:
    """How many values a node stands for, with all that its aliases repeat; 0 in ``known`` while it is counted."""
    size = known.get(id(node))
    if size == 0:
        raise ConstructorError(None, None, "a part of the file holds itself by an alias (*name)", node.start_mark)
    if size is not None:
        return size
    known[id(node)] = 0
    inner = node.value if isinstance(node, yaml.CollectionNode) else []
    parts = [part for each in inner for part in (each if isinstance(each, tuple) else (each,))]
    known[id(node)] = 1 + sum(_size(part, known) for part in parts)
    if known[id(node)] > MOST_ENTRIES:
        problem = f"stands for more than {MOST_ENTRIES:,} values by its aliases (*name); write out what is meant"
        raise ConstructorError(None, None, problem, node.start_mark)
    return known[id(node)]
