"""Files that never exist half-written."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

MAX_START = 60
"""Bytes of a file's name that its temporary name starts with: a long name has no room for more."""


def write_atomically(path: Path, write: Callable[[Path], Any]) -> None:
    """Call `write(temporary)` and move the result to `path` once it is complete.

    The temporary file lies in the same folder and has the same suffix, since some writers choose
    the format by it. Nothing is left of it when `write` fails.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    start = path.stem.encode()[:MAX_START].decode(errors="ignore")
    handle, name = tempfile.mkstemp(prefix=f".{start}-", suffix=path.suffix, dir=path.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        write(temporary)
        # mkstemp makes files that only the owner may read; these are ordinary files.
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
