"""A check of `.mat` files before SciPy reads them, since damaged ones make it crash the process.

It follows MathWorks' description of version 5, which SALICON's files are of: a header, then
elements, each with a type and a length, of which a matrix holds further ones.
"""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Iterator
from typing import Any, NamedTuple

HEADER_BYTES = 128
MATRIX, COMPRESSED = 14, 15
"""Types of elements that hold others."""
ITEM_BYTES = {1: 1, 2: 1, 3: 2, 4: 2, 5: 4, 6: 4, 7: 4, 9: 8, 12: 8, 13: 8}
"""Bytes of a value by the type of its element: whole numbers and floats."""
TEXT_TYPES = (*ITEM_BYTES, 16, 17, 18)
INT32, UINT32 = 5, 6
CELL, STRUCT, CHAR = 1, 2, 4
NUMERIC = range(6, 16)
"""Classes of matrices."""
COMPLEX = 0x0800
MAX_BYTES = 1 << 28
"""The most that a compressed matrix may hold; those of SALICON hold some 100 kB."""
MAX_DEPTH = 16


class Element(NamedTuple):
    """A part of a file."""

    type: int
    content: bytes


def check_mat(content: bytes) -> None:
    """Check that all lengths, types and counts of a `.mat` file fit each other.

    Args:
        content: the file.

    Raises:
        ValueError: they do not, or the file is not of version 5; says why.
    """
    endian = {b"IM": "<", b"MI": ">"}.get(content[126:HEADER_BYTES])
    if endian is None or struct.unpack(f"{endian}H", content[124:126]) != (0x0100,):
        raise ValueError("it is no MATLAB file of version 5")
    for element in _elements(content[HEADER_BYTES:], endian):
        if element.type == COMPRESSED:
            packed = zlib.decompressobj()
            whole = packed.decompress(element.content, MAX_BYTES)
            if not packed.eof:
                raise ValueError("a compressed matrix is cut off, or larger than 256 MB")
            for inside in _elements(whole, endian):
                _check_matrix(inside, endian, 0)
        else:
            _check_matrix(element, endian, 0)


def _elements(content: bytes, endian: str) -> Iterator[Element]:
    """Split bytes into the elements that they hold."""
    at = 0
    while at < len(content):
        if len(content) - at < 8:
            raise ValueError("it is cut off")
        kind, size = struct.unpack_from(f"{endian}II", content, at)
        small = kind >> 16
        if small:  # up to four bytes lie in the tag itself
            kind, size, start = kind & 0xFFFF, small, at + 4
            at += 8
        else:
            start = at + 8
            at = start + size
            if kind != COMPRESSED:
                at += -size % 8
        if (small and size > 4) or start + size > len(content):
            raise ValueError("a part is longer than the whole")
        yield Element(kind, content[start : start + size])


def _check_matrix(element: Element, endian: str, depth: int) -> None:
    """Check a matrix and all that it holds."""
    if element.type != MATRIX:
        raise ValueError(f"a matrix is expected where there is an element of type {element.type}")
    if not element.content:
        return  # an empty matrix may be just that
    parts = _elements(element.content, endian)
    flags, sizes, name = (_next(parts, "flags"), _next(parts, "sizes"), _next(parts, "name"))
    if flags.type != UINT32 or len(flags.content) != 8:
        raise ValueError("the flags of a matrix are odd")
    if sizes.type != INT32 or len(sizes.content) % 4 or not 8 <= len(sizes.content) <= 128:
        raise ValueError("the sizes of a matrix are odd")
    if name.type not in TEXT_TYPES:
        raise ValueError("the name of a matrix is odd")
    word = struct.unpack_from(f"{endian}I", flags.content)[0]
    lengths = struct.unpack(f"{endian}{len(sizes.content) // 4}i", sizes.content)
    if min(lengths) < 0:
        raise ValueError("the sizes of a matrix are negative")
    _check_values(parts, word, math.prod(lengths), endian, depth)
    if next(parts, None) is not None:
        raise ValueError("a matrix holds more than it says")


def _check_values(
    parts: Iterator[Element], flags: int, n_values: int, endian: str, depth: int
) -> None:
    """Check the values of a matrix that says that it has `n_values`."""
    kind = flags & 0xFF
    if kind in (CELL, STRUCT):
        if depth == MAX_DEPTH:
            raise ValueError("matrices lie too deep inside each other")
        n_inside = n_values * (_count_fields(parts, endian) if kind == STRUCT else 1)
        for _ in range(n_inside):
            _check_matrix(_next(parts, "matrix"), endian, depth + 1)
    elif kind == CHAR:
        text = _next(parts, "text")
        if text.type not in TEXT_TYPES or n_values > len(text.content):
            raise ValueError("a text is odd")
    elif kind in NUMERIC:
        for _ in range(2 if flags & COMPLEX else 1):
            values = _next(parts, "numbers")
            item = ITEM_BYTES.get(values.type)
            if item is None or len(values.content) != item * n_values:
                raise ValueError("a matrix holds another number of values than its sizes say")
    else:
        raise ValueError(f"a matrix is of class {kind}, which is not read")


def _count_fields(parts: Iterator[Element], endian: str) -> int:
    """Check the names of the fields of a structure; return how many there are."""
    length, names = _next(parts, "length of names"), _next(parts, "names")
    if length.type != INT32 or len(length.content) != 4 or names.type not in TEXT_TYPES:
        raise ValueError("the names of fields are odd")
    n_bytes: Any = struct.unpack(f"{endian}i", length.content)[0]
    if n_bytes < 1 or len(names.content) % n_bytes:
        raise ValueError("the names of fields are odd")
    return len(names.content) // int(n_bytes)


def _next(parts: Iterator[Element], what: str) -> Element:
    """Return the next part of a matrix."""
    element = next(parts, None)
    if element is None:
        raise ValueError(f"a matrix lacks its {what}")
    return element
