"""From a picture to its density as one ONNX model, around the network's recorded graph."""

from __future__ import annotations

from math import pi
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, helper, numpy_helper

from unisal.data.transforms import RGB_MEAN, RGB_STD, considered_cells
from unisal.export.core import portable
from unisal.export.plan import (
    COEFFICIENT_STEPS,
    DENSITY,
    LANCZOS_REACH,
    LEVELS,
    NO_DISTANCE,
    PICTURE,
    Plan,
)
from unisal.inference.graph_file import FRAME, MAP, NEXT_STATE, PRIORS, STATE, Graph
from unisal.inference.int8.float_graph import FloatGraph
from unisal.types import STRIDE

OPSET, IR_VERSION = 17, 8
"""The versions of ONNX that are written: those of the recorded graph."""
STATE_BEFORE = "state_before"
"""The state as the network's graph takes it: of the whole batch and size."""


def whole_model(graph: Graph, plan: Plan) -> bytes:
    """Return the serialised ONNX model of what a plan says.

    Args:
        graph: the network's graph, see `unisal.inference.graph.record`.
        plan: the sizes and the output.
    """
    core = portable(graph.model)
    writer = _Writer(core.constants)
    sizes = _before(writer, core, graph.facts, plan)
    for node in core.nodes:
        node.input[:] = [STATE_BEFORE if name == STATE else name for name in node.input]
    writer.nodes += core.nodes
    _behind(writer, sizes, graph.facts["temperatures"].get(graph.facts["domain"], 1), plan)
    model = onnx.ModelProto(ir_version=IR_VERSION, opset_import=[helper.make_opsetid("", OPSET)])
    model.graph.CopyFrom(writer.graph(*_inputs_and_outputs(core, plan)))
    content: bytes = model.SerializeToString()
    return content


class _Writer:
    """Writes nodes one after the other, beside constants that are already there."""

    def __init__(self, constants: dict[str, NDArray[Any]]) -> None:
        self.nodes: list[NodeProto] = []
        self.constants = dict(constants)

    def add(self, op: str, *operands: Any, name: str | None = None, **attributes: Any) -> str:
        """Add a node and return the name of its output.

        Args:
            op: the operation.
            *operands: names; numbers and arrays, which become constants; None for one left out.
            name: that of the output.
            **attributes: those of the node.
        """
        name = name or f"outer_{op}_{len(self.nodes)}"
        operands = tuple(x if isinstance(x, str) else self._constant(x) for x in operands)
        self.nodes.append(helper.make_node(op, operands, [name], name, **attributes))
        return name

    def _constant(self, value: Any) -> str:
        if value is None:
            return ""
        array = np.asarray(value)
        narrow = array.astype(np.float32 if array.dtype.kind == "f" else np.int64)
        return self._named(narrow)

    def exact(self, value: float) -> str:
        """Return a number as a constant of float64."""
        return self._named(np.array(value, np.float64))

    def _named(self, array: NDArray[Any]) -> str:
        name = f"outer_constant_{len(self.constants)}"
        self.constants[name] = array
        return name

    def float(self, number: str) -> str:
        """Return a whole number as one of float32."""
        return self.add("Cast", number, to=TensorProto.FLOAT)

    def double(self, number: str) -> str:
        """Return a whole number as one of float64."""
        return self.add("Cast", number, to=TensorProto.DOUBLE)

    def shape(self, *sides: str | int) -> str:
        """Join sides to a shape."""
        return self.add("Concat", *(self.add("Reshape", side, [1]) for side in sides), axis=0)

    def graph(
        self, inputs: list[onnx.ValueInfoProto], outputs: list[onnx.ValueInfoProto]
    ) -> onnx.GraphProto:
        """Return the graph of what was added."""
        used = {name for node in self.nodes for name in node.input}
        constants = [
            numpy_helper.from_array(np.asarray(value), name)
            for name, value in self.constants.items()
            if name in used
        ]
        return helper.make_graph(self.nodes, "UNISAL", inputs, outputs, constants)


class _Sizes:
    """Sides as numbers of the graph: of the picture, and of the network's input in cells."""

    def __init__(self, to: _Writer, plan: Plan) -> None:
        shape = to.add("Shape", PICTURE)
        self.batch, self.height, self.width = (to.add("Gather", shape, i) for i in range(3))
        if plan.resize and plan.size is None:
            cells = _best_fitting_cells(to, self, plan)
            self.rows, self.columns = (to.add("Gather", cells, i) for i in range(2))
        else:
            sides: Any = plan.size or (self.height, self.width)
            self.rows, self.columns = (to.add("Div", side, STRIDE) for side in sides)


def _best_fitting_cells(to: _Writer, sizes: _Sizes, plan: Plan) -> str:
    """Choose the size of the network's input; see `Preset.input_size_for`."""
    cells = np.array(considered_cells())
    ratios = cells[:, 0] / cells[:, 1]
    ratio = to.add("Div", to.float(sizes.height), to.float(sizes.width))
    misfits = to.add("Max", to.add("Div", ratio, ratios), to.add("Div", ratios, ratio))
    best = to.add("Gather", cells, to.add("ArgMin", misfits, axis=0, keepdims=0))
    if plan.native is None:
        return best
    (height, width), seen = plan.native
    same = (to.add("Equal", sizes.height, height), to.add("Equal", sizes.width, width))
    return to.add("Where", to.add("And", *same), np.array(seen) // STRIDE, best)


def _before(to: _Writer, core: FloatGraph, facts: dict[str, Any], plan: Plan) -> _Sizes:
    """Write what makes the inputs of the network's graph."""
    sizes = _Sizes(to, plan)
    levels = to.double(PICTURE) if plan.resize else to.float(PICTURE)
    x = to.add("Transpose", levels, perm=[0, 3, 1, 2])  # [B, 3, H, W]
    if plan.resize:
        # In the order of Pillow, which rounds in between as well.
        by_columns = _resampling(to, sizes.width, to.add("Mul", sizes.columns, STRIDE))
        x = _rounded(to, to.add("MatMul", x, to.add("Transpose", by_columns, perm=[1, 0])))
        by_rows = _resampling(to, sizes.height, to.add("Mul", sizes.rows, STRIDE))
        x = to.float(_rounded(to, to.add("MatMul", by_rows, x)))
    mean, std = (np.array(values)[:, None, None] for values in (RGB_MEAN, RGB_STD))
    to.add("Sub", to.add("Mul", x, 1 / (LEVELS * std)), mean / std, name=FRAME)
    if PRIORS in core.inputs:
        _priors(to, np.array(facts["gaussians"]), facts["prior_scale"], sizes)
    if STATE in core.inputs:
        channels = core.input_channels[STATE]
        shape = to.shape(sizes.batch, channels, sizes.rows, sizes.columns)
        nearest = {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
        to.add("Resize", STATE, None, None, shape, name=STATE_BEFORE, mode="nearest", **nearest)
    return sizes


def _resampling(to: _Writer, n_in: str, n_out: str) -> str:
    """Return the matrix `[n_out, n_in]` that resizes an axis as Pillow's Lanczos filter does."""
    # Whole numbers, since a float would misplace the pixels of large pictures.
    pixels, centres = (
        to.add("Mul", to.add("Add", to.add("Mul", to.add("Range", 0, n, 1), 2), 1), other)
        for n, other in ((n_in, n_out), (n_out, n_in))
    )
    apart = to.double(to.add("Abs", to.add("Sub", pixels, to.add("Unsqueeze", centres, [1]))))
    apart = to.add("Div", apart, to.double(to.add("Mul", to.add("Max", n_in, n_out), 2)))
    least, reach, half_turn, steps = (
        to.exact(x) for x in (NO_DISTANCE, LANCZOS_REACH, pi, COEFFICIENT_STEPS)
    )
    # [n_out, n_in]; the clip is one of two steps, since OpenVINO takes none with other types.
    x = to.add("Mul", to.add("Min", to.add("Max", apart, least), reach), half_turn)
    slow = to.add("Div", x, reach)
    sines = to.add("Mul", to.add("Sin", x), to.add("Sin", slow))
    weights = to.add("Div", sines, to.add("Mul", x, slow))
    weights = to.add("Div", weights, to.add("ReduceSum", weights, [1]))
    return to.add("Div", to.add("Round", to.add("Mul", weights, steps)), steps)


def _rounded(to: _Writer, levels: str) -> str:
    """Round levels of a picture in float64, halves upwards, and keep them in their range."""
    half, lowest, highest = (to.exact(x) for x in (0.5, 0, LEVELS))
    levels = to.add("Floor", to.add("Add", levels, half))
    return to.add("Min", to.add("Max", levels, lowest), highest)


def _numbers(to: _Writer, n: str) -> str:
    """Return 0, 1, ... `[n] float32`."""
    return to.float(to.add("Range", 0, n, 1))


def _priors(to: _Writer, gaussians: NDArray[Any], scale: float, sizes: _Sizes) -> None:
    """Write what makes the prior maps; see `unisal.model.priors.gaussian_maps`."""
    profiles = []
    for axis, length in enumerate((sizes.rows, sizes.columns)):
        mu, log_std = gaussians[:, axis, :1], gaussians[:, axis, 1:]  # [n, 1]
        last = to.add("Max", to.add("Sub", to.float(length), 1.0), 1.0)
        grid = to.add("Div", _numbers(to, length), last)
        z = to.add("Mul", to.add("Sub", grid, mu), np.exp(-log_std))
        profiles.append(to.add("Exp", to.add("Mul", to.add("Mul", z, z), -0.5)))  # [n, length]
    rows, columns = (to.add("Unsqueeze", p, [2 - i]) for i, p in enumerate(profiles))
    maps = to.add("Mul", to.add("Mul", rows, columns), float(scale))
    to.add("Expand", maps, to.shape(sizes.batch, 1, 1, 1), name=PRIORS)


def _behind(to: _Writer, sizes: _Sizes, temperature: float, plan: Plan) -> None:
    """Write what makes the first output of the network's map."""
    y = MAP if temperature == 1 else to.add("Mul", MAP, 1 / temperature)
    if plan.output != DENSITY:
        to.add("Squeeze", y, [1], name=plan.output)
        return
    if plan.resize:
        half_pixel = {"mode": "linear", "coordinate_transformation_mode": "half_pixel"}
        size = to.shape(sizes.batch, 1, sizes.height, sizes.width)
        y = to.add("Resize", y, None, None, size, **half_pixel)
    flat = to.add("Softmax", to.add("Flatten", y, axis=1), axis=-1)
    to.add("Reshape", flat, to.shape(sizes.batch, sizes.height, sizes.width), name=DENSITY)


def _inputs_and_outputs(
    core: FloatGraph, plan: Plan
) -> tuple[list[onnx.ValueInfoProto], list[onnx.ValueInfoProto]]:
    """Return the descriptions of what the model takes and gives."""
    batch: Any = plan.batch or "batch"
    own: list[Any] = list(plan.size or ("height", "width"))
    given = ["height", "width"] if plan.resize else own
    seen = [plan.size and plan.size[0], plan.size and plan.size[1]]
    shape = (
        given
        if plan.output == DENSITY
        else [s or f"map_{n}" for s, n in zip(seen, given, strict=True)]
    )
    value = helper.make_tensor_value_info
    inputs = [value(PICTURE, TensorProto.UINT8, [batch, *given, 3])]
    outputs = [value(plan.output, TensorProto.FLOAT, [batch, *shape])]
    if STATE in core.inputs:
        channels = core.input_channels[STATE]
        cells = [
            f"{n}_cells" if s is None else s // STRIDE
            for s, n in zip(seen, ("height", "width"), strict=True)
        ]
        whole = [batch, channels, *cells]
        start: list[Any] = [batch, channels, "state_height", "state_width"]
        inputs.append(value(STATE, TensorProto.FLOAT, start))
        outputs.append(value(NEXT_STATE, TensorProto.FLOAT, whole))
    return inputs, outputs
