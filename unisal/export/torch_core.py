"""The network's recorded graph as a module of PyTorch, each node as a function."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from onnx import NodeProto
from torch import Tensor, nn

from unisal.inference.graph_file import FRAME, PRIORS, STATE
from unisal.inference.int8.float_graph import FloatGraph, attribute

Function = Callable[..., Tensor]


class TorchCore(nn.Module):
    """Computes what a graph does.

    Args:
        graph: the graph in portable operations, in float32.
        bf16: whether convolutions compute in bfloat16; everything else is in float32.

    Attributes:
        inputs: names of what it takes.
        channels: their numbers of channels.
        outputs: names of what it gives.
    """

    def __init__(self, graph: FloatGraph, bf16: bool = False) -> None:
        super().__init__()
        self.inputs, self.outputs = graph.inputs, graph.outputs
        self.channels = graph.input_channels
        self._steps: list[tuple[Function, list[str], str]] = []
        self._places: dict[str, str] = {}
        for node in graph.nodes:
            function, n_tensors = _translated(node, graph)
            operands = [name for name in node.input if name][:n_tensors]
            if in_bf16 := bf16 and node.op_type == "Conv":
                function = _in_bf16(function)
            for name in operands:
                if name in graph.constants and name not in self._places:
                    self._places[name] = f"constant_{len(self._places)}"
                    value = torch.from_numpy(np.array(graph.constants[name]))
                    self.register_buffer(self._places[name], value.bfloat16() if in_bf16 else value)
            self._steps.append((function, operands, node.output[0]))

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """Compute the outputs, in their order.

        Args:
            inputs: the frame, the priors (whatever they are, if the graph takes none) and, for a
                graph that takes it, the state.
        """
        known = dict(zip((FRAME, PRIORS, STATE), inputs, strict=False))
        known.update({name: self.get_buffer(place) for name, place in self._places.items()})
        for function, operands, out in self._steps:
            known[out] = function(*(known[name] for name in operands))
        return tuple(known[name] for name in self.outputs)


def _translated(node: NodeProto, graph: FloatGraph) -> tuple[Function, int | None]:
    """Return what computes a node, and how many of its inputs it takes; None for all of them."""
    op = node.op_type
    if op in SIMPLE:
        return SIMPLE[op], None
    fixed = [graph.constants[name].tolist() for name in node.input[1:] if name in graph.constants]
    if op == "Conv":
        return _convolution(node), None
    if op == "Clip":
        low, high = fixed
        return lambda x: torch.clamp(x, low, high), 1
    if op == "Concat":
        axis = attribute(node, "axis")
        return lambda *parts: torch.cat(parts, axis), None
    if op == "MaxPool":
        window, steps = attribute(node, "kernel_shape"), attribute(node, "strides")
        return lambda x: F.max_pool2d(x, window, steps), 1
    if op == "DepthToSpace":
        size = attribute(node, "blocksize")
        return lambda x: F.pixel_shuffle(x, size), 1
    if op == "Slice":
        (place,), _, (axis,) = fixed  # the first or the last row or column
        return lambda x: x.select(axis, place).unsqueeze(axis), 1
    assert op == "Resize" and attribute(node, "mode") == b"linear", op
    scale = fixed[-1][-1]
    how: Any = {"mode": "bilinear", "align_corners": False}
    return lambda x: F.interpolate(x, scale_factor=scale, **how), 1


def _convolution(node: NodeProto) -> Function:
    """Return what computes a convolution."""
    names = ("strides", "pads", "dilations", "group")
    strides, pads, dilations, groups = (attribute(node, name) for name in names)
    padding = pads[:2]
    assert pads == padding * 2

    def convolve(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        return F.conv2d(x, weight, bias, strides, padding, dilations, groups)

    return convolve


def _in_bf16(function: Function) -> Function:
    """Return the function in bfloat16, of a tensor in float32 and weights in bfloat16."""
    return lambda x, *weights: function(x.bfloat16(), *weights).float()


SIMPLE: dict[str, Function] = {
    "Add": torch.add,
    "Mul": torch.mul,
    "Sub": torch.sub,
    "Sigmoid": torch.sigmoid,
    "Tanh": torch.tanh,
    "Identity": lambda x: x,
}
"""Operations that need nothing but their inputs."""
