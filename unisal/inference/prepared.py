"""Graphs as ONNX Runtime rewrites them for a processor, with weights that processes share.

Before it runs a graph, ONNX Runtime rewrites it for the processor, which takes most of the time to
open one, and keeps the weights in memory of its own. A graph that was written down after that opens
in a sixth of the time, and its weights are mapped from the file: however many processes predict,
the memory holds them once (docs/performance.md). The results are the same, bit for bit.

The files lie in the user's cache. Nothing depends on them: what is missing, damaged or cannot be
written is made anew, or done without.
"""

from __future__ import annotations

import contextlib
import logging
import os
import platform
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from unisal.config import cache_dir, load_json, save_json
from unisal.errors import UserError, cause
from unisal.files import content_key, key_of, remove_leftovers, remove_oldest, whole_folder
from unisal.inference.processor import processor_facts

GRAPH, WEIGHTS, RECORD = "graph.onnx", "weights.bin", "content.json"
"""The files of a prepared graph: it without its weights, those, and the keys of their contents."""
MAX_BYTES = 256 * 2**20
"""How much one machine keeps. A prepared graph of the published network takes 13 MB."""

log = logging.getLogger(__name__)


def prepared_dir() -> Path:
    """Return the folder of the prepared graphs."""
    return cache_dir() / "prepared"


def prepared_graph(digest: str, prepare: Callable[[Path], object], *how: str) -> Path | None:
    """Return the file of a prepared graph, which is made if it is not there.

    Args:
        digest: that of the graph.
        prepare: opens the graph so that ONNX Runtime writes it to the path that it is given, and
            the weights to `WEIGHTS` beside it.
        how: all other things that the result depends on.

    Returns:
        The file; None if it cannot be written.
    """
    # A machine removes no other one's: pages of a file that another machine has removed are lost.
    place = prepared_dir() / f"{_machine()}-{key_of(digest, *how, _processor())}"
    if not _is_whole(place):
        try:
            remove_leftovers(place.parent)
            with whole_folder(place) as folder:
                prepare(folder / GRAPH)
                save_json(folder / RECORD, {n: content_key(folder / n) for n in (GRAPH, WEIGHTS)})
        except OSError as error:
            if not _is_whole(place):  # or another process was faster
                log.info("the prepared graph is not kept in %s: %s", place, cause(error))
                return None
        remove_oldest(place.parent, f"{_machine()}-*", MAX_BYTES)
    with contextlib.suppress(OSError):
        os.utime(place)  # the one that was not used for longest is removed first
    return place / GRAPH


def forget(graph: Path) -> None:
    """Remove a prepared graph that cannot be opened."""
    remove_oldest(graph.parent.parent, graph.parent.name, max_bytes=0, keep=0)


def _is_whole(place: Path) -> bool:
    """Return whether a prepared graph is there, unchanged; remove one that is not whole."""
    if not place.is_dir():
        return False
    with contextlib.suppress(OSError, UserError):
        record: dict[str, Any] = load_json(place / RECORD)
        if record and all(content_key(place / name) == known for name, known in record.items()):
            return True
    forget(place / GRAPH)
    return False


@cache
def _machine() -> str:
    return key_of(platform.node())[:8]


@cache
def _processor() -> str:
    """Return all that ONNX Runtime rewrites graphs by: its version and the processor."""
    import onnxruntime

    return key_of(onnxruntime.__version__, *processor_facts())
