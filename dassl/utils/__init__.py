"""Small helpers without a heavy import: files, errors, registries, meters, logging, results."""

from dassl.utils.errors import UserError
from dassl.utils.registry import Registry

__all__ = ["Registry", "UserError"]
