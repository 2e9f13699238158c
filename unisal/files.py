"""Files and folders that never exist half-written."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

MAX_START = 60
"""Bytes of a file's name that its temporary name starts with: a long name has no room for more."""


def write_atomically(path: Path, write: Callable[[Path], Any]) -> None:
    """Call `write(temporary)` and move the result to `path`, see `whole_file`."""
    with whole_file(path) as temporary:
        write(temporary)


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """A temporary file to write to, which is moved to `path` once the block has ended.

    The temporary file lies in the same folder and has the same suffix, since some writers choose
    the format by it. Nothing is left of it when the block fails.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    start = path.stem.encode()[:MAX_START].decode(errors="ignore")
    handle, name = tempfile.mkstemp(prefix=f".{start}-", suffix=path.suffix, dir=path.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        # mkstemp makes files that only the owner may read; these are ordinary files.
        temporary.chmod(0o666 & ~_umask())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """A temporary folder to fill, which becomes `path` once the block has ended.

    It lies beside it and is called `.<name>-...`. Nothing is left of it when the block fails;
    a process that is killed leaves it behind.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{path.name}-", dir=path.parent))
    try:
        yield temporary
        temporary.chmod(0o777 & ~_umask())
        temporary.rename(path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _umask() -> int:
    """-> the permissions that new files of this process do not get."""
    umask = os.umask(0)
    os.umask(umask)
    return umask
