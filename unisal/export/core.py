"""The network's recorded graph in operations that converters for phones take as well.

Rows and columns are left out by a pooling whose window is one pixel, where the recorded graph
slices with a step of 2; and edges are repeated by joining them to the map, where it pads with them.
Neither changes a number.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto, helper

from unisal.inference.int8.float_graph import FloatGraph, attribute

END = np.iinfo(np.int64).max


def portable(model: bytes) -> FloatGraph:
    """Return the network's graph, which computes the same from the same inputs.

    Args:
        model: see `unisal.inference.graph_file.Graph`.
    """
    graph = FloatGraph(model)
    nodes, graph.nodes = graph.nodes, []
    for node in nodes:
        graph.nodes += _translated(node, graph)
    return graph


def _translated(node: NodeProto, graph: FloatGraph) -> list[NodeProto]:
    """Return the nodes that compute what one of the recorded graph does."""
    if node.op_type == "Slice":
        steps = graph.constants[node.input[4]].tolist()
        assert graph.constants[node.input[3]].tolist() == [-2, -1]
        window = {"kernel_shape": [1, 1], "strides": steps}
        return [helper.make_node("MaxPool", [node.input[0]], node.output, node.name, **window)]
    if node.op_type == "Pad":
        return _repeated_edges(node, graph)
    if node.op_type == "DepthToSpace":  # to one channel, so that both orders of channels are one
        size = attribute(node, "blocksize")
        return [helper.make_node(node.op_type, node.input, node.output, node.name, blocksize=size)]
    return [node]


def _repeated_edges(node: NodeProto, graph: FloatGraph) -> list[NodeProto]:
    """Return nodes that put the first and last rows and columns before and behind a map."""
    _, _, top, left, _, _, bottom, right = graph.constants[node.input[1]].tolist()
    nodes: list[NodeProto] = []
    name, out = node.input[0], node.output[0]
    for axis, before, behind in ((2, top, bottom), (3, left, right)):
        edges = []
        for which, start, end in (("first", 0, 1), ("last", -1, END)):
            values = {"from": start, "to": end, "axis": axis}
            operands = [name, *(_constant(graph, out, axis, which, *v) for v in values.items())]
            edges.append(f"{out}_{which}_{axis}")
            nodes.append(helper.make_node("Slice", operands, [edges[-1]], edges[-1]))
        joined = out if axis == 3 else f"{out}_rows"
        parts = [edges[0]] * before + [name] + [edges[1]] * behind
        nodes.append(helper.make_node("Concat", parts, [joined], joined, axis=axis))
        name = joined
    return nodes


def _constant(graph: FloatGraph, out: str, axis: int, which: str, what: str, value: int) -> str:
    """Add a constant `[1] int64`, and return its name."""
    name = f"{out}_{which}_{axis}_{what}"
    array: NDArray[np.int64] = np.array([value], np.int64)
    graph.constants[name] = array
    return name
