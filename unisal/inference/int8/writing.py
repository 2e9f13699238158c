"""A graph whose convolutions compute in 8 bits, in the form that runtimes recognise.

Each tensor that is rounded passes through `QuantizeLinear` and `DequantizeLinear`. A runtime with
instructions for 8 bits computes what lies between such pairs in whole numbers.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto, helper

from unisal.inference.int8.float_graph import FloatGraph
from unisal.inference.int8.ranges import Range
from unisal.inference.int8.rounding import Weights

SAME_RANGE = ("Slice", "Resize")
"""Operations whose results have the range of what they take."""
WITH_CONVOLUTIONS = ("Add", "Concat", *SAME_RANGE)
"""Operations that compute in 8 bits if one of those around them does."""
MAX_BIAS = 2**31 - 1


def to_int8(
    graph: FloatGraph,
    ranges: Mapping[str, Range],
    weights: Mapping[str, Weights],
    floats: Collection[str],
) -> bytes:
    """Return the serialised model in 8 bits.

    Args:
        graph: the graph in float32.
        ranges: the range of each tensor.
        weights: the weights in 8 bits of all convolutions that are not in `floats`.
        floats: outputs of nodes that stay in float32.
    """
    writer = _Writer(graph, ranges, weights, floats)
    for name in graph.inputs:
        writer.round(name)
    for node in graph.nodes:
        writer.write(node)
    return graph.model(writer.nodes, writer.constants)


class _Writer:
    """Writes nodes one after the other, see `to_int8`."""

    def __init__(
        self,
        graph: FloatGraph,
        ranges: Mapping[str, Range],
        weights: Mapping[str, Weights],
        floats: Collection[str],
    ) -> None:
        self.graph = graph
        self.nodes: list[NodeProto] = []
        self.constants: dict[str, NDArray[Any]] = dict(graph.constants)
        self._weights = weights
        self._in_8_bits = _computed_in_8_bits(graph, weights, floats)
        self._wanted = self._tensors_to_round()
        self._ranges = dict(ranges)
        for node in graph.nodes:
            if node.op_type in SAME_RANGE and node.input[0] in self._ranges:
                self._ranges[node.output[0]] = self._ranges[node.input[0]]
        self._names: dict[str, str] = {}
        self._float_names: dict[str, str] = {}

    def round(self, name: str) -> None:
        """Round a tensor, if it has to be."""
        if name not in self._wanted:
            return
        whole, back = f"{name}_rounded", f"{name}_back"
        scale = self._constant(f"{name}_step", self._ranges[name].step)
        zero = self._constant(f"{name}_zero", self._ranges[name].zero)
        exact = self._names.get(name, name)
        self._add("QuantizeLinear", [exact, scale, zero], whole)
        self._add("DequantizeLinear", [whole, scale, zero], back)
        self._names[name] = back
        if name not in self._in_8_bits:  # what stays in float32 has no need of rounded numbers
            self._float_names[name] = exact

    def write(self, node: NodeProto) -> None:
        """Write a node, and round what it makes, if that has to be."""
        name = node.output[0]
        if name in self._weights:
            self._write_convolution(node)
        elif self._is_needless_clip(node):
            self._names[name] = self._names.get(node.input[0], node.input[0])
        else:
            copy = NodeProto()
            copy.CopyFrom(node)
            names = dict(self._names)
            if name not in self._in_8_bits:
                names.update(self._float_names)
            for i, taken in enumerate(node.input):
                copy.input[i] = names.get(taken, taken)
            self.nodes.append(copy)
        self.round(name)

    def _write_convolution(self, node: NodeProto) -> None:
        """Write a convolution with weights in 8 bits and biases in 32."""
        name, found = node.output[0], self._weights[node.output[0]]
        taken = node.input[0]
        bias_steps = (found.steps * self._ranges[taken].step).astype(np.float32)
        bias = np.rint(found.bias / bias_steps.astype(np.float64)).clip(-MAX_BIAS, MAX_BIAS)
        operands = [self._names[taken]]
        for what, whole, steps in (
            ("weight", found.numbers, found.steps),
            ("bias", bias.astype(np.int32), bias_steps),
        ):
            kept = [
                self._constant(f"{name}_{what}_whole", whole),
                self._constant(f"{name}_{what}_step", steps),
                self._constant(f"{name}_{what}_zero", np.zeros(len(steps), whole.dtype)),
            ]
            self._add("DequantizeLinear", kept, f"{name}_{what}_back", axis=0)
            operands.append(f"{name}_{what}_back")
        self._add("Conv", operands, name)
        self.nodes[-1].attribute.extend(node.attribute)

    def _is_needless_clip(self, node: NodeProto) -> bool:
        """Return whether a clip does what the rounding behind it does anyway."""
        name = node.output[0]
        if node.op_type != "Clip" or name not in self._wanted or name not in self._in_8_bits:
            return False
        low, high = (float(self.constants[limit]) for limit in node.input[1:])
        found = self._ranges[name]
        return low == found.low == 0 and found.high <= high

    def _tensors_to_round(self) -> set[str]:
        """Return the tensors that operations in 8 bits take and make."""
        users, makers = self.graph.users(), self.graph.makers()
        wanted = set()
        for node in self.graph.nodes:
            if node.output[0] in self._in_8_bits:
                wanted |= {n for n in node.input if n in makers or n in self.graph.inputs}
                wanted.add(node.output[0])
        clipped = {
            node.input[0]
            for node in self.graph.nodes
            if node.op_type == "Clip" and len(users[node.input[0]]) == 1
        }
        return wanted - clipped - set(self.graph.outputs)

    def _add(self, kind: str, taken: list[str], made: str, **attributes: Any) -> None:
        self.nodes.append(helper.make_node(kind, taken, [made], made, **attributes))

    def _constant(self, name: str, value: Any) -> str:
        self.constants[name] = np.asarray(value)
        return name


def _computed_in_8_bits(
    graph: FloatGraph, weights: Mapping[str, Weights], floats: Collection[str]
) -> set[str]:
    """Return the outputs of the nodes that compute in 8 bits."""
    users = graph.users()
    found = set(weights)
    for node in graph.nodes:
        joins = node.op_type in WITH_CONVOLUTIONS or node.op_type == "Clip"
        if joins and node.output[0] not in floats and found.intersection(node.input):
            found.add(node.output[0])
    for node in reversed(graph.nodes):
        name = node.output[0]
        if node.op_type in WITH_CONVOLUTIONS and not any(
            user.output[0] in found for user in users.get(name, [])
        ):
            found.discard(name)
    return found
