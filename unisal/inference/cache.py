"""Graphs that were made before, in the user's cache: with one of them PyTorch is not needed.

Every process of the user shares the folder. A file is whole or absent, says in its name what it is
of, and is checked when it is read. Nothing depends on it: what is missing, damaged or cannot be
written is made anew, in every process if need be.
"""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from unisal.config import GRAPH_SUFFIX, PACKAGE_DIR, cache_dir, to_json
from unisal.errors import UserError, cause
from unisal.files import (
    content_key,
    key_of,
    remove_leftovers,
    remove_oldest,
    write_atomically,
)
from unisal.inference.graph_file import Graph, read_facts, read_graph, to_bytes
from unisal.version import __version__

MAX_BYTES = 512 * 2**20
"""How large the folder may become. A graph of the published network takes 13 or 15 MB, so that is
room for all graphs of about nine runs."""

FP32, FEATURES = "fp32", "features"
"""Kinds of graphs: those in float32, and those with the network's features as outputs, too."""

log = logging.getLogger(__name__)


def graphs_dir() -> Path:
    """Return the folder of the graphs."""
    return cache_dir() / "graphs"


def network_key(weights: Path, options: Mapping[str, Any]) -> str:
    """Return a key of all that the graphs of a network depend on.

    Args:
        weights: the file of its weights.
        options: what it is built with.

    Raises:
        OSError: the weights cannot be read.
    """
    # Reading 15 MB takes a few hundredths of a second, and the time of a file can lie.
    return key_of(content_key(weights), to_json(options), _program_key())


def find_facts(network: str) -> dict[str, Any] | None:
    """Return what any graph of a network says of it; None if there is none.

    Args:
        network: see `network_key`.
    """
    with contextlib.suppress(OSError):
        for path in graphs_dir().glob(f"{network}-*{GRAPH_SUFFIX}"):
            with contextlib.suppress(UserError):
                return read_facts(path)
    return None


def find_graph(network: str, domain: str, static: bool, kind: str = FP32) -> Graph | None:
    """Return a graph of a network; None if it is not there. One that is damaged is removed.

    Args:
        network: see `network_key`.
        domain: one of the network's domains.
        static: whether the frames are unrelated images.
        kind: `FP32`, or `FEATURES` for one with the features as outputs.
    """
    path = _path(network, domain, static, kind)
    if not path.is_file():
        return None
    try:
        graph = read_graph(path)
    except UserError as error:
        log.info("%s; it is made anew", error)
        with contextlib.suppress(OSError):
            path.unlink()
        return None
    with contextlib.suppress(OSError):
        os.utime(path)  # the one that was not used for longest is removed first
    return graph


def keep_graph(network: str, domain: str, static: bool, graph: Graph, kind: str = FP32) -> None:
    """Keep a graph of a network for other processes, if that is possible.

    Args:
        network: see `network_key`.
        domain: as in `find_graph`.
        static: as in `find_graph`.
        graph: what to keep.
        kind: as in `find_graph`.
    """
    path = _path(network, domain, static, kind)
    try:
        write_atomically(path, lambda temporary: temporary.write_bytes(to_bytes(graph)))
    except OSError as error:
        log.info("the graph is not kept in %s: %s", path.parent, cause(error))
        return
    remove_leftovers(path.parent)
    remove_oldest(path.parent, f"*{GRAPH_SUFFIX}", MAX_BYTES)


def _path(network: str, domain: str, static: bool, kind: str = FP32) -> Path:
    graph = key_of(domain, str(static), kind)[:16]
    return graphs_dir() / f"{network}-{graph}{GRAPH_SUFFIX}"


@cache
def _program_key() -> str:
    """Return a key of the program: its version, and the code of the network and its graph."""
    code = [*sorted((PACKAGE_DIR / "model").glob("*.py")), PACKAGE_DIR / "inference" / "graph.py"]
    return key_of(__version__, *(content_key(path) for path in code if path.is_file()))
