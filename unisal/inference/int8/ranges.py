"""Which range of a tensor becomes the numbers 0 to 255."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from unisal.inference.int8.float_graph import FloatGraph
from unisal.inference.int8.statistics import Statistics

LEVELS = 255
"""Steps between the lowest and the highest of the 256 numbers."""
BINS = 1024
SHARES = tuple(share / 20 for share in range(20, 5, -1))
"""Ranges that are tried, as shares of that from the lowest to the highest value."""


class Range(NamedTuple):
    """The values that are told apart; those beyond become the nearest of them."""

    low: float
    """0 or below, so that 0 is exactly one of the numbers."""
    high: float

    @property
    def step(self) -> np.float32:
        """The difference between two neighbouring numbers."""
        return np.float32(max((self.high - self.low) / LEVELS, 1e-8))

    @property
    def zero(self) -> np.uint8:
        """The number that stands for 0."""
        return np.uint8(np.clip(round(-self.low / float(self.step)), 0, LEVELS))

    def rounded(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return what is left of values."""
        zero = np.float32(self.zero)
        whole = np.clip(np.rint(values / self.step) + zero, 0, LEVELS)
        return (whole - zero) * self.step


def find_ranges(graph: FloatGraph, seen: Statistics) -> dict[str, Range]:
    """Return the range of each tensor.

    It is the one with the lowest squared error, of the tensor itself; of one that only pointwise
    convolutions take, of what they make of it, where most of the highest values are clipped.
    """
    users = graph.users()
    ranges = {}
    for name in [*seen.columns, *seen.values]:
        takers = [node for node in users.get(name, []) if graph.is_pointwise(node)]
        if name in seen.columns and takers and seen.bounds(name)[0] < 0:
            ranges[name] = _range_for(graph, seen, name)
        else:
            ranges[name] = _range_of(seen.sample(name), *seen.bounds(name))
    return ranges


def _range_of(values: NDArray[np.float32], low: float, high: float) -> Range:
    """Return the range with the lowest squared error of rounded and cut values."""
    if high <= low:
        return Range(low, high)
    counts, edges = np.histogram(values, BINS, (low, high))
    centres = (edges[:-1] + edges[1:]) / 2

    def error(share: float) -> float:
        tried = Range(low * share, high * share)
        cut = np.maximum(centres - tried.high, tried.low - centres).clip(0)
        return float(counts @ np.where(cut > 0, cut**2, float(tried.step) ** 2 / 12))

    share = min(SHARES, key=error)
    return Range(low * share, high * share)


def _range_for(graph: FloatGraph, seen: Statistics, name: str) -> Range:
    """Return the range with the lowest error of what pointwise convolutions make of a tensor."""
    (low, high), columns = seen.bounds(name), seen.columns[name]
    users = graph.users()
    makers = []
    for node in users[name]:
        if graph.is_pointwise(node):
            matrix = graph.weight(node)[:, :, 0, 0].T.astype(np.float32)
            after = users.get(node.output[0], [])
            clip = after[0] if after and after[0].op_type == "Clip" else None
            limits = [float(graph.constants[x]) for x in clip.input[1:]] if clip else None
            makers.append((matrix, graph.bias(node).astype(np.float32), limits))

    def made(values: NDArray[np.float32]) -> list[NDArray[np.float32]]:
        results = [values @ matrix + bias for matrix, bias, _ in makers]
        return [
            y if limits is None else y.clip(limits[0], limits[1])
            for y, (_, _, limits) in zip(results, makers, strict=True)
        ]

    exact = made(columns)
    weights = [1 / max(float(y.var(axis=0).sum()), 1e-12) for y in exact]

    def error(tried: Range) -> float:
        results = made(tried.rounded(columns))
        errors = [((a - b) ** 2).mean() for a, b in zip(results, exact, strict=True)]
        return sum(float(e) * w for e, w in zip(errors, weights, strict=True))

    return min((Range(low * share, high * share) for share in SHARES), key=error)
