"""The network as an ONNX graph, for inference runtimes.

The graph is recorded: the network runs once on a small frame of noise, and each call of a PyTorch
function whose arguments depend on the frame becomes a node. Everything else, including BatchNorms
folded into convolutions, becomes a constant of the graph. So the graph is what the network itself
computes for one domain, and there is no second description of the network to keep up to date. It
takes one frame of any size at a time; time and its folding into the batch do not occur in it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from onnx import TensorProto, helper
from torch import Tensor
from torch.overrides import TorchFunctionMode, resolve_name

from unisal.errors import GraphError
from unisal.inference.graph_file import FRAME, MAP, NEXT_STATE, PRIORS, STATE, Graph
from unisal.model import UNISAL
from unisal.model.priors import PRIOR_SCALE
from unisal.types import STRIDE

OPSET, IR_VERSION = 17, 8
"""The versions of ONNX that are written: old enough for every runtime that is accepted."""
EXAMPLE_SIDES = 1, 2
"""Height and width of the example frame, in units of `STRIDE`; the graph does not depend on it."""


def record(model: UNISAL, domain: str, static: bool, features: bool = False) -> Graph:
    """Return the network as a graph, with all that is needed to run it.

    Args:
        model: see `export_graph`.
        domain: see `export_graph`.
        static: see `export_graph`.
        features: see `export_graph`.

    Returns:
        The graph. Its facts are the network's `sources`, `image_domains` and `temperatures`; the
        graph's `domain`, whether it is `static`, and its `precision`; and the parameters of the
        domain's priors, `gaussians` `[n, 2, 2]` and `prior_scale`, None and 0 if it has none.

    Raises:
        GraphError: the network does something that cannot be translated here.
    """
    gaussians = model.prior_parameters(domain)
    return Graph(
        export_graph(model, domain, static, features),
        {
            "sources": list(model.sources),
            "image_domains": list(model.image_domains),
            "temperatures": dict(model.temperatures),
            "domain": domain,
            "static": static,
            "precision": "fp32",
            "gaussians": None if gaussians is None else gaussians.tolist(),
            "prior_scale": 0.0 if gaussians is None else PRIOR_SCALE,
        },
    )


def export_graph(model: UNISAL, domain: str, static: bool, features: bool = False) -> bytes:
    """Return the network as a serialised ONNX model.

    Args:
        model: the network in evaluation mode, on the CPU, in float32.
        domain: one of the network's domains.
        static: whether the frames are unrelated images.
        features: whether the network's features, by their names, are outputs, too.

    Raises:
        GraphError: the network does something that cannot be translated here.
    """
    height, width = EXAMPLE_SIDES
    noise = torch.Generator().manual_seed(0)  # leaves the caller's generator alone
    frame = torch.randn(1, 1, 3, height * STRIDE, width * STRIDE, generator=noise)
    inputs = {FRAME: frame}
    priors = model.prior_maps((height, width), domain)
    if priors is not None:
        inputs[PRIORS] = priors
    if model.has_rnn and uses_state(model, static):
        cell: Any = model.rnn.cell_list[0]
        inputs[STATE] = torch.randn(1, cell.hidden_channels, height, width, generator=noise)
    try:
        with Recorder(inputs) as recorder:
            states = [inputs[STATE]] if STATE in inputs else None
            found, hidden = model.features(frame, states, domain, static, priors)
            y = model.logits_from(found.before_upsampling, domain)
        outputs = {MAP: y} | ({} if hidden is None else {NEXT_STATE: hidden[0]})
        outputs |= found._asdict() if features else {}
        return recorder.graph(outputs).SerializeToString()
    except (NotImplementedError, AssertionError, TypeError, KeyError) as error:
        # A function without a translation, or one that is called in an unexpected way.
        raise GraphError(
            f"no ONNX graph can be made of this network ({error or type(error).__name__}); "
            "runtime='torch' runs it as it is"
        ) from error


def uses_state(model: UNISAL, static: bool) -> bool:
    """Return whether frames depend on the frames before them."""
    return not (static and model.bypass_rnn)


@dataclass
class Node:
    """An operation of the graph, with its operands by name."""

    op: str
    inputs: list[str]
    output: str
    attributes: dict[str, Any] = field(default_factory=dict)


class Recorder(TorchFunctionMode):
    """Records, while it is active, what is computed from the named tensors `inputs`."""

    def __init__(self, inputs: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.inputs = dict(inputs)
        self.nodes: list[Node] = []
        self.constants: dict[str, NDArray[Any]] = {}
        self._names = {id(tensor): name for name, tensor in inputs.items()}
        self._alive: list[Tensor] = list(inputs.values())  # so that no tensor reuses their ids

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        known = [name for value in _tensors(args, kwargs) if (name := self._names.get(id(value)))]
        result = func(*args, **kwargs)
        if known and isinstance(result, Tensor):
            if func in SAME_VALUE:
                self._call(result, known[0])
            elif func in TRANSLATIONS:
                self._call(result, TRANSLATIONS[func](self, *args, **kwargs))
            else:
                raise NotImplementedError(f"no translation of {resolve_name(func) or func}")
        return result

    def add(self, op: str, *operands: Any, **attributes: Any) -> str:
        """Add a node and return the name of its output.

        Operands are names, tensors, numbers, or None for one that is omitted.
        """
        names = [self._name(operand) for operand in operands]
        output = f"{op}_{len(self.nodes)}"
        self.nodes.append(Node(op, names, output, attributes))
        return output

    def graph(self, outputs: Mapping[str, Tensor]) -> onnx.ModelProto:
        """Return the model that computes the named tensors `outputs` and nothing else.

        The recorder's constants are released on the way, so that memory never holds them twice.
        """
        results = {name: self._names[id(tensor)] for name, tensor in outputs.items()}
        nodes = needed(self.nodes, results.values())
        merge_convolutions(nodes, self.constants, keep=set(results.values()))
        nodes += [Node("Identity", [value], name) for name, value in results.items()]
        used = {name for node in nodes for name in node.inputs}
        opset = helper.make_opsetid("", OPSET)
        model = onnx.ModelProto(ir_version=IR_VERSION, opset_import=[opset])
        graph = model.graph
        graph.name = "UNISAL"
        graph.node.extend(
            helper.make_node(n.op, n.inputs, [n.output], n.output, **n.attributes) for n in nodes
        )
        graph.input.extend(_describe(name, x) for name, x in self.inputs.items() if name in used)
        graph.output.extend(_describe(name, x) for name, x in outputs.items())
        for name in list(self.constants):
            value = self.constants.pop(name)
            if name in used:
                kind = helper.np_dtype_to_tensor_dtype(value.dtype)
                graph.initializer.add(
                    name=name, dims=value.shape, data_type=kind, raw_data=value.tobytes()
                )
        return model

    def _call(self, tensor: Tensor, name: str) -> None:
        self._names[id(tensor)] = name
        self._alive.append(tensor)

    def _name(self, operand: Any) -> str:
        """Return the name of an operand; one that is not recorded becomes a constant."""
        if operand is None or isinstance(operand, str):
            return operand or ""
        if id(operand) not in self._names:
            value = np.asarray(operand.detach() if isinstance(operand, Tensor) else operand)
            array = value.astype(np.float32 if value.dtype.kind == "f" else np.int64, copy=False)
            name = f"constant_{len(self.constants)}"
            self.constants[name] = array
            return name
        return self._names[id(operand)]


def needed(nodes: Sequence[Node], results: Any) -> list[Node]:
    """Return the nodes that the results depend on, in their order."""
    wanted, kept = set(results), []
    for node in reversed(nodes):
        if node.output in wanted:
            kept.append(node)
            wanted |= set(node.inputs)
    return kept[::-1]


def merge_convolutions(
    nodes: list[Node], constants: dict[str, NDArray[Any]], keep: set[str]
) -> None:
    """Merge two successive convolutions into one, in place, if that saves multiplications.

    The network ends with such a pair: 384 channels to 64, and those to one, with nothing between.
    """
    makers = {node.output: node for node in nodes}
    uses = [name for node in nodes for name in node.inputs]
    for second in [node for node in nodes if node.op == "Conv"]:
        first = makers.get(second.inputs[0])
        if first is None or first.op != "Conv" or first.attributes["group"] != 1:
            continue
        a, b = constants[first.inputs[1]], constants[second.inputs[1]]
        pointwise = b.shape[2:] == (1, 1) and second.attributes["strides"] == [1, 1]
        fewer = b.shape[0] * a[0].size < a.size + b.size
        if not (pointwise and fewer and uses.count(first.output) == 1) or first.output in keep:
            continue
        matrix = b[:, :, 0, 0].astype(np.float64)
        weight = np.tensordot(matrix, a, axes=1)
        bias = np.zeros(len(b))
        for node, factor in ((first, matrix), (second, np.eye(len(b)))):
            if len(node.inputs) > 2:
                bias = bias + factor @ constants[node.inputs[2]]
        names = [f"{name}_of_{second.output}" for name in ("weight", "bias")]
        constants.update(zip(names, (weight.astype(a.dtype), bias.astype(a.dtype)), strict=True))
        second.inputs = [first.inputs[0], *names]
        second.attributes = first.attributes
        nodes.remove(first)


def _conv(
    to: Recorder,
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> str:
    """Translate `F.conv2d`."""
    operands = [x, weight] if bias is None else [x, weight, bias]
    return to.add(
        "Conv",
        *operands,
        strides=_pair(stride),
        pads=_pair(padding) * 2,
        dilations=_pair(dilation),
        group=groups,
    )


def _clip(to: Recorder, x: Tensor, min_val: float, max_val: float, **_: Any) -> str:
    """Translate `F.hardtanh`, which is what ReLU6 calls."""
    return to.add("Clip", x, float(min_val), float(max_val))


def _pick(to: Recorder, x: Tensor, index: Any) -> str:
    """Translate `x[:, 0]`, which is the only time step, or `x[..., ::s, ::s]`."""
    if index == (slice(None), 0):
        return to.add("Identity", x)
    assert index[0] is Ellipsis and all(i.start is None and i.stop is None for i in index[1:])
    steps = [i.step for i in index[1:]]
    n = len(steps)
    axes = list(range(-n, 0))
    return to.add("Slice", x, [0] * n, [np.iinfo(np.int64).max] * n, axes, steps)


def _resize(
    to: Recorder, x: Tensor, size: None, scale_factor: float, mode: str, **options: Any
) -> str:
    """Translate `F.interpolate` with mode "bilinear"."""
    assert size is None and mode == "bilinear" and not options.get("align_corners")
    scales = [1.0, 1.0, scale_factor, scale_factor]
    how = "half_pixel"  # what is not align_corners
    return to.add("Resize", x, None, scales, mode="linear", coordinate_transformation_mode=how)


def _pad(to: Recorder, x: Tensor, pad: Sequence[int], mode: str, **_: Any) -> str:
    """Translate `F.pad` with mode "replicate"."""
    assert mode == "replicate"
    left, right, top, bottom = pad
    return to.add("Pad", x, [0, 0, top, left, 0, 0, bottom, right], mode="edge")


def _cat(to: Recorder, tensors: Sequence[Tensor], dim: int = 0) -> str:
    """Translate `torch.cat`."""
    return to.add("Concat", *tensors, axis=dim)


def _stack(to: Recorder, tensors: Sequence[Tensor], dim: int = 0) -> str:
    """Translate `torch.stack` of a single time step."""
    (of_one_step,) = tensors
    assert dim == 1
    return to.add("Identity", of_one_step)


def _elementwise(op: str, swapped: bool = False) -> Callable[..., str]:
    """Return the translation of an operation of one or two operands."""

    def translate(to: Recorder, *operands: Any) -> str:
        values = [float(x) if isinstance(x, int) else x for x in operands]
        return to.add(op, *(values[::-1] if swapped else values))

    return translate


def _shuffle(to: Recorder, x: Tensor, factor: int) -> str:
    """Translate `F.pixel_shuffle`."""
    return to.add("DepthToSpace", x, blocksize=factor, mode="CRD")


TRANSLATIONS: dict[Callable[..., Any], Callable[..., str]] = {
    F.conv2d: _conv,
    F.hardtanh: _clip,
    F.interpolate: _resize,
    F.pad: _pad,
    F.pixel_shuffle: _shuffle,
    Tensor.__getitem__: _pick,
    torch.cat: _cat,
    torch.stack: _stack,
    torch.sigmoid: _elementwise("Sigmoid"),
    torch.tanh: _elementwise("Tanh"),
    Tensor.add: _elementwise("Add"),
    Tensor.mul: _elementwise("Mul"),
    Tensor.__rsub__: _elementwise("Sub", swapped=True),
}
"""Translations to ONNX of the functions that the network calls."""
SAME_VALUE = {F.dropout2d, Tensor.flatten, Tensor.unflatten, Tensor.expand}
"""Functions that do nothing here: evaluation has no dropout, and one frame is a batch of one."""


def _tensors(args: Sequence[Any], kwargs: Mapping[str, Any]) -> list[Tensor]:
    """Return the tensors among arguments, also those in lists."""
    values = [*args, *kwargs.values()]
    values += [item for value in values if isinstance(value, list | tuple) for item in value]
    return [value for value in values if isinstance(value, Tensor)]


def _pair(value: Any) -> list[int]:
    """Return the two values that an option for height and width stands for."""
    return [value, value] if isinstance(value, int) else list(value)


def _describe(name: str, x: Tensor) -> onnx.ValueInfoProto:
    """Return an input's or output's description, with symbolic sizes."""
    shape: list[str | int | None] = [1, x.shape[-3], f"{name}_height", f"{name}_width"]
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
