"""The one error type that a user is meant to read (the library's own, so that there is only one)."""

from salmonn_core.errors import UserError

__all__ = ["UserError"]
