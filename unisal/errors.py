"""Errors whose message is all that a user needs: what was wrong, where, and what to do."""

from __future__ import annotations


class UserError(ValueError):
    """A mistake in what the program was given. The command line prints the message, no traceback."""
