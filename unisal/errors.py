"""Errors whose message is all that a user needs: what was wrong, where, and what to do."""

from __future__ import annotations

EXIT_SOME_FAILED, EXIT_MISTAKE, EXIT_INTERRUPTED = 1, 2, 130
"""Exit codes of the commands."""


class UserError(ValueError):
    """A mistake in what the program was given; its message is all that a user needs."""


class GraphError(UserError):
    """No graph can be made of a network for ONNX Runtime."""


class SomeFailed(Exception):
    """Some of many inputs failed and have been named; the rest are done."""


class PlaceLost(SomeFailed):
    """Nothing can be written any more, so the work ends. What was done before is whole."""
