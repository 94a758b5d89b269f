"""The one error type that a user is meant to read."""

from __future__ import annotations


class UserError(Exception):
    """Something the user can mend. The message is one line: what is wrong, and what to do about it.

    Front ends catch it once, print it on stderr and exit with a non-zero status; every other
    exception is a bug and keeps its traceback.
    """
