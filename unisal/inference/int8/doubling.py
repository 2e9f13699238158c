"""Linear tensors carried twice, half a step of their 8 bits apart, so that they lose less.

The mean of two numbers that were rounded half a step apart is one of steps half as large. The next
convolution takes both halves, with half of its weights for each, so it costs what twice as many
channels do, and no operation that runtimes do not have.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from unisal.inference.int8.float_graph import FloatGraph
from unisal.inference.int8.ranges import Range
from unisal.inference.int8.statistics import Statistics

LINEAR = ("Add", "Slice")
"""What may happen to such tensors between convolutions."""


def linear_chains(graph: FloatGraph) -> list[list[str]]:
    """Return the tensors that can be doubled, those of one chain of sums together, in order."""
    users, makers = graph.users(), graph.makers()

    def suits(name: str) -> bool:
        by = makers[name].op_type == "Conv" or makers[name].op_type in LINEAR
        return by and all(n.op_type in LINEAR or graph.is_pointwise(n) for n in users[name])

    chains: list[list[str]] = []
    for name in graph.tensors():
        node = makers[name]
        if node.op_type == "Conv":
            chains.append([name])
        elif node.op_type in LINEAR:
            joined = [c for c in chains if set(c).intersection(node.input)]
            chains = [c for c in chains if c not in joined]
            chains.append([*(t for chain in joined for t in chain), name])
    chains.sort(key=lambda chain: graph.tensors().index(chain[0]))
    return [chain for chain in chains if all(suits(name) for name in chain)]


def double(
    graph: FloatGraph, seen: Statistics, ranges: dict[str, Range], names: Sequence[str]
) -> None:
    """Carry tensors twice, in place.

    Args:
        graph: rewritten; computes the same.
        seen: what was seen of its tensors; becomes what would be seen now.
        ranges: their ranges, which grow by the shift of the second half.
        names: the tensors of whole chains, see `linear_chains`.
    """
    shifts: dict[str, float] = {}
    for node in graph.nodes:
        name, taken = node.output[0], node.input[0]
        if node.op_type == "Conv" and (taken in shifts or name in names):
            weight, bias = graph.weight(node), graph.bias(node)
            if taken in shifts:
                bias -= weight[:, :, 0, 0].sum(axis=1) / 2 * shifts[taken]
                weight = np.concatenate([weight / 2, weight / 2], axis=1)
            if name in names:
                shifts[name] = float(ranges[name].step) / 2
                weight = np.concatenate([weight, weight])
                bias = np.concatenate([bias, bias + shifts[name]])
            graph.set_weight(node, weight, bias)
        elif name in names:
            shifts[name] = sum(shifts[x] for x in node.input if x in shifts)
        if name in names:
            seen.double(name, shifts[name])
            ranges[name] = Range(ranges[name].low, ranges[name].high + shifts[name])
