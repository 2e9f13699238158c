"""Stamps in written files: a short key of what each was made from and how.

A finished file is told by its stamp from one that was made of another picture or with other
weights. The stamp is a comment that pictures and archives can hold, so that it goes with the file
and nothing else lies in the folder.
"""

from __future__ import annotations

import os
import re
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from unisal.files import whole_file
from unisal.writing.hdf5 import changed_h5

NAME = "unisal"
STAMP = re.compile(rb"unisal[ \0]([0-9a-f]{32})")
SEARCHED_BYTES = 128
"""A stamp lies within this many bytes of one of the ends of a file."""
PNG_END = b"\0\0\0\0IEND\xaeB`\x82"
JPEG_START, JPEG_END, JFIF, COMMENT = b"\xff\xd8", b"\xff\xd9", b"\xff\xe0", b"\xff\xfe"
ENDS = ((b"\x89PNG", PNG_END), (JPEG_START, JPEG_END))
"""How pictures begin, and how they have to end to be whole."""


def write_stamped(path: Path, key: str, write: Callable[[Path], Any]) -> None:
    """Call `write(temporary)`, stamp the result and move it to `path`, see `whole_file`.

    Args:
        path: the file. One that can hold no stamp, judged by its suffix, is written without.
        key: the stamp, see `key_of`.
        write: writes the file that it is given.
    """
    with whole_file(path) as temporary:
        write(temporary)
        stamp(temporary, key)


def stamp(path: Path, key: str) -> None:
    """Put a stamp into a PNG, JPEG, `.npz` or HDF5 file; any other file is left as it is."""
    put = STAMPERS.get(path.suffix.lower())
    if put is not None:
        put(path, key)


def read_stamp(path: Path) -> str | None:
    """Return the stamp of a file; None if it has none, is not whole or does not exist."""
    try:
        if path.suffix.lower() == ".h5":
            return _read_h5(path)
        with path.open("rb") as file:
            start = file.read(SEARCHED_BYTES)
            file.seek(max(0, path.stat().st_size - SEARCHED_BYTES), os.SEEK_SET)
            end = file.read()
    except OSError:
        return None
    if any(start.startswith(first) and not end.endswith(last) for first, last in ENDS):
        return None
    found = STAMP.search(start) or STAMP.search(end)
    return found[1].decode() if found else None


def _stamp_png(path: Path, key: str) -> None:
    """Put a text chunk before the end."""
    text = b"tEXt" + NAME.encode() + b"\0" + key.encode()
    with path.open("r+b") as file:
        file.seek(-len(PNG_END), os.SEEK_END)
        if file.read() == PNG_END:
            file.seek(-len(PNG_END), os.SEEK_END)
            length, check = len(text) - 4, zlib.crc32(text)
            file.write(length.to_bytes(4, "big") + text + check.to_bytes(4, "big") + PNG_END)


def _stamp_jpeg(path: Path, key: str) -> None:
    """Put a comment behind the header."""
    data = path.read_bytes()
    place = len(JPEG_START)
    if data[place : place + 2] == JFIF:
        place += 2 + int.from_bytes(data[place + 2 : place + 4], "big")
    text = f"{NAME} {key}".encode()
    comment = COMMENT + (len(text) + 2).to_bytes(2, "big") + text
    path.write_bytes(data[:place] + comment + data[place:])


def _stamp_npz(path: Path, key: str) -> None:
    """Set the comment of the archive."""
    with zipfile.ZipFile(path, "a") as archive:
        archive.comment = f"{NAME} {key}".encode()


def _stamp_h5(path: Path, key: str) -> None:
    """Set an attribute of the file."""
    with changed_h5(path) as file:
        file.attrs[NAME] = key


def _read_h5(path: Path) -> str | None:
    import h5py  # here, since its 11 MB are of use to few

    try:
        with h5py.File(path) as file:
            found = file.attrs.get(NAME)
    except Exception:  # of a damaged file it raises of many types
        return None
    return found if isinstance(found, str) else None


STAMPERS: dict[str, Callable[[Path, str], None]] = {
    ".png": _stamp_png,
    ".jpg": _stamp_jpeg,
    ".jpeg": _stamp_jpeg,
    ".npz": _stamp_npz,
    ".h5": _stamp_h5,
}
"""How the files are stamped that can be, by their suffixes."""
