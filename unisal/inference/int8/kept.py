"""Graphs in 8 bits beside the weights that they were made of, and networks that use them.

A graph in 8 bits takes minutes to make, and data. So it is no part of the cache: it lies in the
folder of the run, and says what it was made of and how well it agrees with float32.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from unisal.config import GRAPH_SUFFIX
from unisal.errors import UserError
from unisal.inference.graph_file import Graph, read_facts, read_graph
from unisal.inference.network import Network, RunNetwork, WithOtherGraphs
from unisal.inference.processor import INT8_FLAGS, lacks

FP32, INT8 = "fp32", "int8"
NETWORK, AGREEMENT, HOLDS = "network", "agreement", "holds"
"""What a graph's facts say besides: the key of the network that it was made of, see
`unisal.inference.cache.network_key`; how it agrees with float32; and therein, whether that is well
enough to be used unasked."""

log = logging.getLogger(__name__)


def int8_path(weights: Path, domain: str, static: bool) -> Path:
    """Return where a graph in 8 bits lies.

    Args:
        weights: the file of the weights that it is made of.
        domain: the domain that it is for.
        static: whether its frames are unrelated images.
    """
    kind = "images" if static else "videos"
    return weights.with_name(f"{weights.stem}_int8_{domain}_{kind}{GRAPH_SUFFIX}")


def with_int8(network: Network, precision: str) -> Network:
    """Return a network whose graphs are those in 8 bits, where that is possible.

    Args:
        network: the network in float32.
        precision: "int8"; or "auto" for graphs in 8 bits that agree well enough, and for float32
            where there are none.

    Raises:
        UserError: the precision is "int8", and the network is not that of a run.
    """
    if not isinstance(network, RunNetwork):
        if precision == INT8 and network.precision("", True) != INT8:
            raise UserError(
                "precision 'int8' is for the network of a run, which `quantize` has made a graph "
                "in 8 bits of, or for the file of such a graph"
            )
        return network
    if lacks(INT8_FLAGS):
        log.log(
            logging.WARNING if precision == INT8 else logging.INFO,
            "the network runs in float32, since the processor has no instructions for 8 bits (%s)",
            ", ".join(sorted(INT8_FLAGS)),
        )
        return network
    return Int8Network(network, required=precision == INT8)


class Int8Network(WithOtherGraphs):
    """A run's network with the graphs in 8 bits that lie beside its weights; see `Network`.

    Args:
        network: the run's network.
        required: whether to refuse what has no graph in 8 bits. Otherwise float32 takes its place,
            also of graphs that agree less well with it than is asked for.
    """

    def __init__(self, network: RunNetwork, required: bool) -> None:
        super().__init__(network)
        self._run = network
        self._required = required

    def precision(self, domain: str, static: bool) -> str:
        """Return what the graph computes in, "int8" or "fp32".

        Raises:
            UserError: 8 bits are required, and there is no graph, or not one of these weights.
        """
        try:
            facts = self._facts(domain, static)
        except UserError as error:
            if self._required:
                raise
            log.info("the network runs in float32: %s", error)
            return FP32
        return INT8 if self._required or facts[AGREEMENT][HOLDS] else FP32

    def graph(self, domain: str, static: bool) -> Graph:
        """Return the graph in 8 bits, or the one in float32 in its place; see `Network.graph`."""
        if self.precision(domain, static) == FP32:
            return self._network.graph(domain, static)
        return read_graph(self._path(domain, static))

    def _path(self, domain: str, static: bool) -> Path:
        weights = self._run.weights
        if weights is None:
            raise UserError("the weights were changed since they were read; 8 bits need a run")
        return int8_path(weights, domain, static)

    def _facts(self, domain: str, static: bool) -> dict[str, Any]:
        """Return what the graph in 8 bits says of itself.

        Raises:
            UserError: there is none that could be used.
        """
        path = self._path(domain, static)
        advice = (
            f"make it with `unisal quantize` (train_id {path.parent.name}, data like those that "
            "are to be predicted, see docs/guide/light.md)"
        )
        if not path.is_file():
            raise UserError(f"there is no graph in 8 bits, {path}; {advice}")
        facts = read_facts(path)
        if facts.get(NETWORK) != self._run.key:
            raise UserError(
                f"{path} was made of other weights, or by another version of this program; {advice}"
            )
        return facts
