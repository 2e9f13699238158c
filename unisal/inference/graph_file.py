"""Graphs as files: ONNX models that say what they are, and whose bytes can be checked.

A file is the graph, followed by two entries of the model's metadata: under `unisal` what the graph
is of and how it is used, as JSON, and under `sha256` the digest of all bytes before. In the format
of ONNX (a message of Protocol Buffers) metadata may stand behind everything else, so the file is an
ordinary ONNX model, and the package `onnx` is needed neither to write the entries nor to read them.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any, NamedTuple

from unisal.errors import UserError, cause

FRAME, PRIORS, STATE = "frame", "priors", "state"
MAP, NEXT_STATE = "map", "next_state"
"""Names of a graph's inputs `[1, 3, H, W]`, `[1, n, H/32, W/32]`, `[1, C, H/32, W/32]` and of its
outputs `[1, 1, H, W]` and `[1, C, H/32, W/32]`. Priors and states are missing if the network has
none."""
NEEDED = (
    "sources",
    "image_domains",
    "temperatures",
    "domain",
    "static",
    "gaussians",
    "prior_scale",
)
"""The facts without which a graph cannot be run, see `unisal.inference.graph.record`."""
FACTS, CHECKSUM = "unisal", "sha256"
"""The keys of the two entries."""
METADATA, KEY, VALUE = 14, 1, 2
"""Numbers of fields: the metadata of a model, and the key and the value of an entry."""
VARINT, BYTES = 0, 2
"""The two ways to write a field that occur in a model itself."""
MAX_VARINT_BYTES = 10
FORMAT = 1
"""The version of the facts."""
EXPORTED = "export"
"""What stands in its place in files for other programs, see `unisal.export`."""


class Graph(NamedTuple):
    """A network for one domain as an ONNX model, and what there is to know about it."""

    model: bytes
    """The serialised ONNX model, without the entries."""
    facts: dict[str, Any]
    """See `unisal.inference.graph.record`."""
    digest: str = ""
    """That of the file it was read from; empty if it is of none."""


def to_bytes(graph: Graph) -> bytes:
    """Return what the file of a graph holds."""
    return with_entries(graph.model, {"format": FORMAT, **graph.facts})


def with_entries(model: bytes, facts: Mapping[str, Any]) -> bytes:
    """Return a serialised ONNX model with what it is, and with a checksum."""
    content = model + _entry(FACTS, json.dumps(facts, sort_keys=True))
    return content + _entry(CHECKSUM, hashlib.sha256(content).hexdigest())


def from_bytes(content: bytes, name: str) -> Graph:
    """Return the graph that a file holds.

    Args:
        content: that of the file.
        name: what it is called in messages.

    Raises:
        UserError: it is damaged, or no graph of this program.
    """
    end = len(content) - len(_entry(CHECKSUM, hashlib.sha256().hexdigest()))
    checksum = hashlib.sha256(memoryview(content)[: max(0, end)]).hexdigest()
    length, facts = _read_facts(io.BytesIO(content), name)
    if content[max(0, end) :] != _entry(CHECKSUM, checksum):
        raise UserError(f"{name} is damaged: its checksum is not that of its content")
    return Graph(content[:length], facts, checksum)


def read_graph(path: Path) -> Graph:
    """Read the file of a graph.

    Raises:
        UserError: it cannot be read, is damaged, or is no graph of this program.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path} cannot be read: {cause(error)}") from None
    return from_bytes(content, str(path))


def read_facts(path: Path) -> dict[str, Any]:
    """Read what a file says of its graph, in little time, without checking the graph.

    Raises:
        UserError: it cannot be read, or is no graph of this program.
    """
    try:
        with path.open("rb") as file:
            return _read_facts(file, str(path))[1]
    except OSError as error:
        raise UserError(f"{path} cannot be read: {cause(error)}") from None


def _read_facts(file: IO[bytes], name: str) -> tuple[int, dict[str, Any]]:
    """Return where the entry with the facts begins, and the facts."""
    try:
        start, text = _find_facts(file)
        facts = json.loads(text)
    except (ValueError, EOFError):  # no model, one of another program, or damaged
        raise UserError(f"{name} is no graph that this program has written") from None
    if isinstance(facts, Mapping) and facts.get("format") == EXPORTED:
        raise UserError(
            f"{name} was exported for other programs, from the picture to its density; this one "
            "loads what Predictor.write_graph writes"
        )
    is_ours = isinstance(facts, Mapping) and facts.get("format") == FORMAT
    if not is_ours or any(fact not in facts for fact in NEEDED):
        raise UserError(f"{name} was written by another version of this program; write it again")
    return start, dict(facts)


def _find_facts(file: IO[bytes]) -> tuple[int, bytes]:
    """Return where the entry with the facts begins, and its value.

    Raises:
        EOFError: there is none.
        ValueError: the file is no message, or not one of a model.
    """
    while True:
        start = file.tell()
        number, kind = divmod(_read_varint(file), 8)
        if kind not in (VARINT, BYTES):
            raise ValueError("this kind of field does not occur in a model")
        length = _read_varint(file)
        if kind == VARINT:
            continue
        if number != METADATA:
            file.seek(length, io.SEEK_CUR)
            continue
        entry = file.read(length)
        key = _field(KEY, FACTS.encode())
        if entry.startswith(key):
            inside = io.BytesIO(entry[len(key) :])
            _read_varint(inside)
            return start, inside.read(_read_varint(inside))


def _entry(key: str, value: str) -> bytes:
    """Return an entry of a model's metadata."""
    return _field(METADATA, _field(KEY, key.encode()) + _field(VALUE, value.encode()))


def _field(number: int, content: bytes) -> bytes:
    return _varint(number * 8 + BYTES) + _varint(len(content)) + content


def _varint(value: int) -> bytes:
    """Return a whole number in groups of seven bits, the lowest first."""
    groups = []
    while value > 127:
        groups.append(value & 127 | 128)
        value >>= 7
    return bytes([*groups, value])


def _read_varint(file: IO[bytes]) -> int:
    """Read a whole number.

    Raises:
        EOFError: the file ends.
        ValueError: it is too long to be one.
    """
    value = 0
    for place in range(MAX_VARINT_BYTES):
        byte = file.read(1)
        if not byte:
            raise EOFError
        value |= (byte[0] & 127) << 7 * place
        if byte[0] < 128:
            return value
    raise ValueError("this is no whole number")
