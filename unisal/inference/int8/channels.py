"""Channels of linear tensors, brought to equal ranges before they share one scale of 8 bits.

Between a convolution and the next one nothing but sums, slices and enlargements may happen to a
tensor. Then each of its channels can be multiplied by a factor, by which the next convolution's
weights are divided, and the graph computes what it did (Nagel et al., Data-Free Quantization,
ICCV 2019). Tensors that are clipped keep their ranges: their clips are one for all channels.
"""

from __future__ import annotations

from itertools import count

import numpy as np
from numpy.typing import NDArray

from unisal.inference.int8.float_graph import FloatGraph, attribute
from unisal.inference.int8.statistics import Statistics

QUANTILE = 0.99
"""The quantile of the absolute values that is brought to the same height; the highest ones are cut
off anyway, see `unisal.inference.int8.ranges`."""
MAX_FACTOR = 16.0

Groups = dict[str, NDArray[np.int64]]
"""The group of each channel of each tensor; the channels of a group have one factor."""


def equalize(graph: FloatGraph, seen: Statistics) -> None:
    """Bring the channels of linear tensors to equal ranges, in place.

    Args:
        graph: rewritten; computes the same.
        seen: what was seen of its tensors; becomes what would be seen of them now.
    """
    groups, fixed = _find_groups(graph)
    size = np.zeros(1 + max(int(group.max()) for group in groups.values()))
    for name, columns in seen.columns.items():
        heights = np.quantile(np.abs(columns), QUANTILE, axis=0)
        np.maximum.at(size, groups[name], heights)
    factors = np.ones(len(size))
    for group in groups.values():
        highest = size[group].max()
        if not fixed[group].any() and highest > 0:
            factors[group] = highest / np.maximum(size[group], highest / MAX_FACTOR)
    for node in graph.convolutions():
        after, before = factors[groups[node.output[0]]], factors[groups[node.input[0]]]
        divisor = before[:, None] if graph.is_depthwise(node) else before[None, :]
        weight = graph.weight(node) * after[:, None, None, None] / divisor[:, :, None, None]
        graph.set_weight(node, weight, graph.bias(node) * after)
    seen.scale({name: factors[group] for name, group in groups.items()})


def _find_groups(graph: FloatGraph) -> tuple[Groups, NDArray[np.bool_]]:
    """Return the groups of channels, and which of them must keep their ranges."""
    numbers = count()
    groups: Groups = {}
    fixed: set[int] = set()
    joined: dict[int, int] = {}

    def new(n: int) -> NDArray[np.int64]:
        return np.array([next(numbers) for _ in range(n)])

    def find(number: int) -> int:
        while number in joined:
            number = joined[number]
        return number

    for name in graph.inputs:
        groups[name] = new(graph.input_channels[name])
        fixed.update(groups[name].tolist())
    for node in graph.nodes:
        taken = [groups[name] for name in node.input if name in groups]
        if node.op_type == "Conv":
            made = new(len(graph.constants[node.input[1]]))
        elif node.op_type in ("Slice", "Resize"):
            made = taken[0]
        elif node.op_type == "Add" and len(taken) == 2:
            for a, b in zip(*(group.tolist() for group in taken), strict=True):
                if (low := find(a)) != (high := find(b)):
                    joined[low] = high
            made = taken[0]
        else:
            # A concatenation makes channels of all its operands, the last operation fewer.
            made = np.concatenate(taken) if node.op_type == "Concat" else taken[0]
            fixed.update(made.tolist())
            made = made[: len(made) // attribute(node, "blocksize", 1) ** 2]
        groups[node.output[0]] = made
        if node.output[0] in graph.outputs:
            fixed.update(made.tolist())
    n = next(numbers)
    kept = np.zeros(n, bool)
    kept[[find(number) for number in fixed]] = True
    roots = np.array([find(number) for number in range(n)])
    return {name: roots[group] for name, group in groups.items()}, kept
