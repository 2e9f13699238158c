"""A graph in float32 that can be rewritten without changing what it computes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, helper, numpy_helper

from unisal.inference.graph_file import NEXT_STATE, STATE

Array = NDArray[Any]
MERGE_LIMIT = 2
"""Two pointwise convolutions are merged if the first one has at most so many times as many inputs
as outputs, so that there is hardly more to multiply."""


class FloatGraph:
    """The nodes of a graph in their order, and its constants by name.

    Args:
        model: the serialised ONNX model, see `unisal.inference.graph.export_graph`.
    """

    def __init__(self, model: bytes) -> None:
        self._model = onnx.load_from_string(model)
        graph = self._model.graph
        self.inputs = [taken.name for taken in graph.input]
        self.outputs = [given.name for given in graph.output]
        self.input_channels = {
            taken.name: taken.type.tensor_type.shape.dim[1].dim_value for taken in graph.input
        }
        self.constants: dict[str, Array] = {
            constant.name: numpy_helper.to_array(constant) for constant in graph.initializer
        }
        self.nodes = _without_identities(graph.node, self.outputs)

    def makers(self) -> dict[str, NodeProto]:
        """Return the node that makes each tensor."""
        return {node.output[0]: node for node in self.nodes}

    def users(self) -> dict[str, list[NodeProto]]:
        """Return the nodes that take each tensor."""
        users: dict[str, list[NodeProto]] = {}
        for node in self.nodes:
            for name in node.input:
                users.setdefault(name, []).append(node)
        return users

    def tensors(self) -> list[str]:
        """Return what lies between inputs and outputs, in order."""
        return [n.output[0] for n in self.nodes if n.output[0] not in self.outputs]

    def convolutions(self) -> list[NodeProto]:
        """Return the convolutions in order."""
        return [node for node in self.nodes if node.op_type == "Conv"]

    def weight(self, convolution: NodeProto) -> NDArray[np.float64]:
        """Return the kernels `[out, in, h, w]` of a convolution."""
        return self.constants[convolution.input[1]].astype(np.float64)

    def bias(self, convolution: NodeProto) -> NDArray[np.float64]:
        """Return the biases `[out]` of a convolution, zeros if it has none."""
        if len(convolution.input) > 2:
            return self.constants[convolution.input[2]].astype(np.float64)
        return np.zeros(len(self.constants[convolution.input[1]]))

    def set_weight(self, convolution: NodeProto, weight: Array, bias: Array) -> None:
        """Replace the kernels and biases of a convolution."""
        names = [f"{convolution.output[0]}_{what}" for what in ("weight", "bias")]
        for name, value in zip(names, (weight, bias), strict=True):
            self.constants[name] = value.astype(np.float32)
        taken = convolution.input[0]
        del convolution.input[:]
        convolution.input.extend([taken, *names])

    def is_pointwise(self, node: NodeProto) -> bool:
        """Return whether this is a convolution of 1 x 1 that mixes channels."""
        return (
            node.op_type == "Conv"
            and not self.is_depthwise(node)
            and self.constants[node.input[1]].shape[2:] == (1, 1)
        )

    def is_depthwise(self, node: NodeProto) -> bool:
        """Return whether this is a convolution of each channel by itself."""
        return node.op_type == "Conv" and attribute(node, "group", 1) > 1

    def recurrent(self) -> set[str]:
        """Return the tensors through which the next state depends on the state."""
        depends, leads = {STATE}, {NEXT_STATE}
        for node in self.nodes:
            if depends.intersection(node.input):
                depends.add(node.output[0])
        for node in reversed(self.nodes):
            if node.output[0] in leads:
                leads.update(node.input)
        return depends & leads

    def merge_pointwise(self) -> None:
        """Merge pointwise convolutions with nothing between, so that nothing is rounded there."""
        for second in self.convolutions():
            first = self.makers().get(second.input[0])
            if first is None or not (self.is_pointwise(first) and self.is_pointwise(second)):
                continue
            weight, matrix = self.weight(first), self.weight(second)[:, :, 0, 0]
            few = weight.shape[1] <= MERGE_LIMIT * weight.shape[0]
            if few and len(self.users()[first.output[0]]) == 1:
                bias = self.bias(second) + matrix @ self.bias(first)
                second.input[0] = first.input[0]
                self.set_weight(second, np.tensordot(matrix, weight, axes=1), bias)
                self.nodes.remove(first)

    def copy(self) -> FloatGraph:
        """Return a copy that can be rewritten by itself."""
        return FloatGraph(self.to_bytes())

    def to_bytes(self, more_outputs: Iterable[str] = ()) -> bytes:
        """Return the serialised ONNX model, with tensors as outputs in addition."""
        return self.model(self.nodes, self.constants, more_outputs)

    def model(
        self,
        nodes: Sequence[NodeProto],
        constants: dict[str, Array],
        more_outputs: Iterable[str] = (),
    ) -> bytes:
        """Return a serialised model with this graph's inputs and outputs and other nodes."""
        old = self._model
        model = onnx.ModelProto(ir_version=old.ir_version, opset_import=old.opset_import)
        graph = model.graph
        graph.name = old.graph.name
        graph.node.extend(nodes)
        graph.input.extend(old.graph.input)
        graph.output.extend(old.graph.output)
        for name in more_outputs:
            graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, None))
        used = {name for node in nodes for name in node.input}
        for name, value in constants.items():
            if name in used:
                graph.initializer.append(numpy_helper.from_array(np.asarray(value), name))
        content: bytes = model.SerializeToString()
        return content


def attribute(node: NodeProto, name: str, default: Any = None) -> Any:
    """Return an attribute of a node."""
    for found in node.attribute:
        if found.name == name:
            return helper.get_attribute_value(found)
    return default


def _without_identities(nodes: Iterable[NodeProto], outputs: Sequence[str]) -> list[NodeProto]:
    """Return copies of the nodes but those that do nothing, unless they name an output."""
    other_names: dict[str, str] = {}
    kept = []
    for original in nodes:
        node = NodeProto()
        node.CopyFrom(original)
        for i, name in enumerate(node.input):
            node.input[i] = other_names.get(name, name)
        if node.op_type == "Identity" and node.output[0] not in outputs:
            other_names[node.output[0]] = node.input[0]
        else:
            kept.append(node)
    return kept
