"""Files and folders that never exist half-written."""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

MAX_PREFIX_BYTES = 60
"""How much of a file's name its temporary name repeats: a long name leaves no room for more."""


def write_atomically(path: Path, write: Callable[[Path], Any]) -> None:
    """Call `write(temporary)` and move the result to `path`; see `whole_file`."""
    with whole_file(path) as temporary:
        write(temporary)


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Write a file so that it exists either completely or not at all.

    Args:
        path: the file; its folder is created if it does not exist.

    Yields:
        A temporary file to write to, which is moved to `path` when the block ends. It lies in the
        same folder and has the same suffix, since some writers choose the format by it. Nothing is
        left of it if the block fails.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = _temporary(path.stem, path)
    # A file that is created like this gets the usual permissions. `mkstemp` would restrict it to
    # its owner, and the process's umask cannot be read without changing it.
    temporary.touch(exist_ok=False)
    try:
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """Fill a folder so that it exists either completely or not at all.

    Args:
        path: the folder, which must not exist yet.

    Yields:
        A temporary folder to fill, which becomes `path` when the block ends. It lies beside `path`
        and is called `.<name>-...`. Nothing is left of it if the block fails; a process that is
        killed leaves it behind.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = _temporary(path.name, path)
    temporary.mkdir()
    try:
        yield temporary
        temporary.rename(path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _temporary(name: str, path: Path) -> Path:
    """Return a hidden name beside `path` that nothing else has."""
    prefix = name.encode()[:MAX_PREFIX_BYTES].decode(errors="ignore")
    return path.with_name(f".{prefix}-{secrets.token_hex(8)}{path.suffix}")
