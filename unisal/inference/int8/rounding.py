"""Weights in 8 bits, rounded so that the outputs change least."""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto

from unisal.inference.int8.float_graph import FloatGraph
from unisal.inference.int8.statistics import Statistics

MAX_WEIGHT = 127
DAMPING = 0.01
"""Share of the mean variance that is added to each input's, so that few frames do not mislead."""
BLOCK = 64
Matrix = NDArray[np.float64]


class Weights(NamedTuple):
    """A convolution's weights in 8 bits."""

    numbers: NDArray[np.int8]
    """`[out, in, h, w]`."""
    steps: NDArray[np.float32]
    """What they are multiplied by, `[out]`."""
    bias: Matrix
    """`[out]`: with it the mean output is what it was."""


def round_weights(
    graph: FloatGraph, seen: Statistics, floats: Collection[str]
) -> dict[str, Weights]:
    """Return the weights of each convolution, by its output, but those that stay in float32."""
    return {
        node.output[0]: _round(graph, seen, node)
        for node in graph.convolutions()
        if node.output[0] not in floats
    }


def _round(graph: FloatGraph, seen: Statistics, node: NodeProto) -> Weights:
    weight = graph.weight(node)
    highest = np.abs(weight).reshape(len(weight), -1).max(axis=1)
    steps = (np.maximum(highest, 1e-8) / MAX_WEIGHT).astype(np.float32).astype(np.float64)
    mean = seen.mean[node.input[0]]
    if graph.is_pointwise(node):
        columns = seen.columns[node.input[0]].astype(np.float64)
        numbers = round_together(weight[:, :, 0, 0], columns, steps)[:, :, None, None]
    else:
        numbers = _nearest(weight / steps[:, None, None, None])
    lost = (weight - numbers * steps[:, None, None, None]).sum(axis=(2, 3))  # [out, in]
    shift = lost[:, 0] * mean if graph.is_depthwise(node) else lost @ mean
    return Weights(numbers.astype(np.int8), steps.astype(np.float32), graph.bias(node) + shift)


def round_together(weight: Matrix, inputs: Matrix, steps: Matrix) -> Matrix:
    """Round a matrix so that its products with inputs like those given change little.

    Column by column; what rounding one of them does to the products is made up for by those that
    are still to come (Frantar et al., GPTQ, ICLR 2023).

    Args:
        weight: `[out, in]`.
        inputs: `[n, in]`; their means do not matter.
        steps: the step of each row, `[out]`.

    Returns:
        Whole numbers `[out, in]`, which times `steps` stand for the weights.
    """
    centred = inputs - inputs.mean(axis=0)
    hessian = centred.T @ centred / len(centred)
    n = len(hessian)
    hessian[np.diag_indices(n)] += DAMPING * np.trace(hessian) / n + 1e-12
    order = np.argsort(-np.diag(hessian))  # what varies most is rounded first
    inverse = np.linalg.inv(hessian[np.ix_(order, order)])
    factor = np.linalg.cholesky((inverse + inverse.T) / 2).T  # upper triangle
    left = weight[:, order].copy()
    whole = np.zeros_like(left)
    for start in range(0, n, BLOCK):
        end = min(start + BLOCK, n)
        errors = np.zeros((len(left), end - start))
        for i in range(start, end):
            whole[:, i] = _nearest(left[:, i] / steps)
            errors[:, i - start] = (left[:, i] - whole[:, i] * steps) / factor[i, i]
            left[:, i:end] -= np.outer(errors[:, i - start], factor[i, i:end])
        left[:, end:] -= errors @ factor[start:end, end:]
    result = np.zeros_like(whole)
    result[:, order] = whole
    return result


def _nearest(values: Matrix) -> Matrix:
    """Return the nearest whole numbers that fit into 8 bits."""
    return np.clip(np.rint(values), -MAX_WEIGHT, MAX_WEIGHT)
