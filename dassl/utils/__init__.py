"""Small helpers without heavy imports: files, errors, locks, registries, meters, logging."""

from dassl.utils.errors import UserError
from dassl.utils.registry import Registry

__all__ = ["Registry", "UserError"]
