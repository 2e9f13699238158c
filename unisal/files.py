"""Files and folders that never exist half-written, and the order in which they are listed."""

from __future__ import annotations

import re
import secrets
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePath
from typing import Any

DIGITS = "0123456789"
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


def natural_order(path: PurePath | str) -> tuple[object, ...]:
    """Return a key by which files are sorted as people number them: `2.jpg` before `10.jpg`.

    Runs of the digits 0 to 9 count as whole numbers, everything else character by character, folder
    by folder. Where numbers are padded with zeros this is the order of the names; what differs only
    in the zeros (`1.jpg`, `01.jpg`) is in the order of the names too.
    """
    parts = PurePath(path).parts
    tokens = [re.findall(r"[0-9]+|[^0-9]", part) for part in parts]
    # A number stands where its digits do among the other characters.
    return [[("0", int(t)) if t[0] in DIGITS else (t, 0) for t in name] for name in tokens], parts


def _temporary(name: str, path: Path) -> Path:
    """Return a hidden name beside `path` that nothing else has."""
    prefix = name.encode()[:MAX_PREFIX_BYTES].decode(errors="ignore")
    return path.with_name(f".{prefix}-{secrets.token_hex(8)}{path.suffix}")
