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


class ProcessLost(SomeFailed):
    """Another one of several processes that train together has ended, so this one has to as well.

    What was done before is whole.
    """


def cause(error: BaseException) -> str:
    """Say in one line why something failed: the error's own words, with its type if they need it.

    Libraries raise all types of errors on damaged files; `KeyError: 3` says more than `3`.
    """
    name, words = type(error).__name__, " ".join(str(error).split())
    if said := getattr(error, "strerror", None):
        logged = getattr(error, "log", None)  # FFmpeg's (level, component, message) or nothing
        return f"{said}: {logged[2].strip()}" if logged else str(said)
    if not words:
        return name
    return words if isinstance(error, OSError | ValueError | SyntaxError) else f"{name}: {words}"
