"""Measures what the hardware can do, and counts what the network asks of it."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import onnx
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

MATRIX_SIDE = 1024
"""The side of the matrices whose product is timed."""
COPIED_BYTES = 1 << 26
"""The size of the copy that is timed: far more than a cache holds."""
CPU = torch.device("cpu")


class Work(NamedTuple):
    """The least that a computation takes."""

    multiply_adds: float
    """Multiply-adds of its convolutions."""
    moved: float
    """Bytes: every input and output of a convolution once, and its weights."""


class Machine(NamedTuple):
    """Rates per second of this machine, with PyTorch's number of threads."""

    multiply_adds: float
    moved: float

    def share(self, work: Work, seconds: float) -> str:
        """Say how close a computation that took `seconds` comes to what the machine can do."""
        computed = work.multiply_adds / self.multiply_adds / seconds
        moved = work.moved / self.moved / seconds
        return f"{computed:.0%} of multiply-adds, {moved:.0%} of copying"


def measure_machine(
    device: torch.device = CPU,
    dtype: torch.dtype = torch.float32,
    side: int = MATRIX_SIDE,
    copied: int = COPIED_BYTES,
) -> Machine:
    """Time a matrix product and a copy.

    Args:
        device: where.
        dtype: of the matrices.
        side: that of the matrices.
        copied: bytes.
    """
    a, b = torch.randn(2, side, side, device=device).to(dtype)
    source, target = torch.ones(2, copied // 4, device=device)
    wait = waiting(device)
    product = _fastest(lambda: torch.mm(a, b), wait)
    copy = _fastest(lambda: target.copy_(source), wait)
    return Machine(side**3 / product, 2 * copied / copy)  # a copy reads and writes


def waiting(device: torch.device) -> Callable[[], None] | None:
    """Return a function that waits until a device has done all it was given; None on the CPU."""
    return (lambda: torch.cuda.synchronize(device)) if device.type == "cuda" else None


def count_graph(graph: bytes, sides: Mapping[str, int]) -> Work:
    """Count the work of a frame.

    Args:
        graph: as `unisal.inference.graph.export_graph` makes it.
        sides: values of its symbolic sizes, such as `frame_height`.
    """
    model = onnx.load_from_string(graph)
    for value in model.graph.input:
        for dimension in value.type.tensor_type.shape.dim:
            if dimension.dim_param:
                dimension.dim_value = sides[dimension.dim_param]
    model = onnx.shape_inference.infer_shapes(model)
    values = [*model.graph.input, *model.graph.value_info, *model.graph.output]
    shapes = {v.name: [d.dim_value for d in v.type.tensor_type.shape.dim] for v in values}
    shapes |= {x.name: list(x.dims) for x in model.graph.initializer}
    total = Work(0, 0)
    for node in model.graph.node:
        if node.op_type == "Conv":
            given, weight = (shapes[name] for name in node.input[:2])
            total = _add(total, given, weight, shapes[node.output[0]])
    return total


def count_calls(function: Callable[[], Any], bytes_each: int = 4) -> Work:
    """Count the work of the convolutions that PyTorch is called with.

    Args:
        function: is called.
        bytes_each: of a number. Autocast changes its type only after this has looked.
    """
    counter = _Counter()
    with counter:
        function()
    return counter.total._replace(moved=counter.total.moved * bytes_each / 4)


class _Counter(TorchFunctionMode):
    def __init__(self) -> None:
        super().__init__()
        self.total = Work(0, 0)

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        result: Tensor = func(*args, **(kwargs or {}))
        if func is F.conv2d:
            self.total = _add(self.total, args[0].shape, args[1].shape, result.shape)
        return result


def _add(total: Work, given: Sequence[int], weight: Sequence[int], made: Sequence[int]) -> Work:
    """Add the work of a convolution with these shapes of input, weight and output."""

    def size(shape: Sequence[int]) -> int:
        n = 1
        for side in shape:
            n *= side
        return n

    moved = 4 * (size(given) + size(weight) + size(made))
    return Work(total.multiply_adds + size(made) * size(weight[1:]), total.moved + moved)


def _fastest(
    function: Callable[[], Any], wait: Callable[[], None] | None = None, rounds: int = 7
) -> float:
    """Return the seconds of the fastest call."""
    done = wait or (lambda: None)
    function(), done()
    took = []
    for _ in range(rounds):
        begun = time.perf_counter()
        function(), done()
        took.append(time.perf_counter() - begun)
    return min(took)
