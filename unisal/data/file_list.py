"""Lists of files, one a line, of any length: read line by line and never held as a whole."""

from __future__ import annotations

import hashlib
import os
import re
from array import array
from collections.abc import Callable, Generator, Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np

from unisal.errors import UserError

T = TypeVar("T")

BOM = "\ufeff"
COMMENT = "#"
LONGEST_LINE = 1 << 16
"""Bytes of a line at most. No path is as long; a film that was named by mistake has such lines."""
URL = re.compile("[a-z][a-z0-9+.-]+://", re.IGNORECASE)


class Entry(NamedTuple):
    """A line that names a file."""

    line: int
    """Its number, from 1."""
    place: str
    """The file's path, joined to the folder of the list unless it is absolute; or its URL."""


def read_file_list(path: Path) -> Generator[Entry, None, None]:
    """Read a list of files.

    The list is UTF-8 with one path or URL a line. Empty lines, and those that begin with `#`, are
    skipped; `./#1.mp4` names a file that begins so. Everything else in a line belongs to the name,
    blanks too. Paths are relative to the folder of the list.

    Args:
        path: the list.

    Yields:
        What each line names, in their order. Memory does not depend on their number.

    Raises:
        UserError: the list cannot be read, or a line is not UTF-8, too long, or holds a NUL; names
            the list and the line.
    """
    folder = str(path.parent)
    try:
        with path.open("rb") as file:
            for number in _counted():
                if not (line := file.readline(LONGEST_LINE + 1)):
                    return
                name = _name_in(line, f"{path}:{number}")
                if number == 1:
                    name = name.removeprefix(BOM)
                if name.strip() and not name.startswith(COMMENT):
                    is_url = URL.match(name) is not None
                    yield Entry(number, name if is_url else os.path.join(folder, name))  # noqa: PTH118
    except OSError as error:
        raise UserError(f"the list {path} cannot be read: {error.strerror}") from None


def _counted() -> Iterator[int]:
    number = 0
    while True:
        number += 1
        yield number


def _name_in(line: bytes, where: str) -> str:
    """Return a line without its end.

    Raises:
        UserError: it cannot be the name of a file.
    """
    if len(line) > LONGEST_LINE:
        raise UserError(
            f"{where} has more than {LONGEST_LINE} bytes; expected a file's name a line"
        )
    try:
        name = line.decode()
    except UnicodeDecodeError:
        raise UserError(f"{where} is not UTF-8; save the list as UTF-8") from None
    if "\0" in name:
        raise UserError(f"{where} holds a NUL; expected a file's name a line")
    return name.removesuffix("\n").removesuffix("\r")


def count_entries(path: Path) -> int:
    """Return how many files a list names, after reading all of it.

    Raises:
        UserError: it names none, or what `read_file_list` raises.
    """
    n = sum(1 for _ in read_file_list(path))
    if n == 0:
        raise UserError(f"the list {path} names no file; expected a path or URL a line")
    return n


def same_place(entry: Entry) -> tuple[str]:
    """Return what two lines have in common that name one file, as they are written."""
    if URL.match(entry.place):
        return (entry.place,)
    return (os.path.abspath(entry.place),)  # noqa: PTH100  # links are not followed: that is slow


def entries_alike(
    path: Path, keys: Callable[[Entry], tuple[str, ...]]
) -> Generator[list[Entry], None, None]:
    """Find the lines of a list that have a key in common.

    Eight bytes a key are held: its digest. Lines whose digests agree are read again, and compared
    by the keys themselves, so that the answer is exact; only these lines are held.

    Args:
        path: the list.
        keys: what to compare, different strings; a function of the entry alone.

    Yields:
        The lines with each key that several have, at least two, in their order.

    Raises:
        UserError: what `read_file_list` raises.
    """
    digests = array("Q")
    digests.extend(_digest(key) for entry in read_file_list(path) for key in keys(entry))
    found = np.frombuffer(digests, np.uint64) if digests else np.zeros(0, np.uint64)
    found = np.sort(found)
    again = np.unique(found[1:][found[1:] == found[:-1]])
    if not again.size:
        return
    suspects = set(again.tolist())
    groups: dict[str, list[Entry]] = {}
    for entry in read_file_list(path):
        for key in keys(entry):
            if _digest(key) in suspects:
                groups.setdefault(key, []).append(entry)
    yield from (group for group in groups.values() if len(group) > 1)


def _digest(text: str) -> int:
    raw = text.encode("utf-8", "surrogateescape")
    return int.from_bytes(hashlib.blake2b(raw, digest_size=8).digest(), "little")


def check_once(path: Path) -> None:
    """Check that no file is listed twice.

    Raises:
        UserError: one is; names the list, both lines and the file.
    """
    for first, second, *_ in entries_alike(path, same_place):
        raise UserError(
            f"{path}:{second.line} names the same file as line {first.line}: {first.place}; "
            "remove one of them"
        )


def in_parts(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """Yield the items of an iterable in lists of so many, the last one of what is left."""
    rest = iter(items)
    while part := list(islice(rest, size)):
        yield part
