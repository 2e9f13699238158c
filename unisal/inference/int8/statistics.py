"""What the tensors of a graph hold on the frames that it is calibrated with."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from unisal.inference.int8.float_graph import FloatGraph

if TYPE_CHECKING:
    import onnxruntime

PLACES = 60
"""Of so many places of each frame all channels are kept; of what is clipped and goes into a
convolution of each channel by itself, `VALUES` values."""
VALUES = 4000

Vector = NDArray[np.floating]
Feed = Mapping[str, NDArray[np.float32]]
"""The inputs of a graph by name, `[1, C, h, w]` each."""


@dataclass
class Statistics:
    """What was seen of each tensor that may be rounded.

    Attributes:
        low: lowest value of each channel, `[C]`.
        high: highest value of each channel, `[C]`.
        mean: mean of each channel, `[C]`.
        columns: all channels at some places, `[n, C]`.
        values: some values `[n]`, of tensors that have no columns.
    """

    low: dict[str, Vector] = field(default_factory=dict)
    high: dict[str, Vector] = field(default_factory=dict)
    mean: dict[str, Vector] = field(default_factory=dict)
    columns: dict[str, NDArray[np.float32]] = field(default_factory=dict)
    values: dict[str, NDArray[np.float32]] = field(default_factory=dict)

    def sample(self, name: str) -> NDArray[np.float32]:
        """Return some values of a tensor."""
        return self.columns[name].ravel() if name in self.columns else self.values[name]

    def bounds(self, name: str) -> tuple[float, float]:
        """Return the lowest and the highest value of a tensor, and 0 if that lies beyond."""
        return min(0.0, float(self.low[name].min())), max(0.0, float(self.high[name].max()))

    def copy(self) -> Statistics:
        """Return a copy whose entries can be replaced."""
        return Statistics(*(dict(table) for table in vars(self).values()))

    def scale(self, factors: Mapping[str, Vector]) -> None:
        """Become what would be seen if the channels of tensors were multiplied by factors."""
        for table in (self.low, self.high, self.mean):
            table.update({name: table[name] * factors[name] for name in table})
        for name, columns in self.columns.items():
            self.columns[name] = columns * factors[name].astype(np.float32)

    def double(self, name: str, shift: float) -> None:
        """Become what would be seen if a tensor had all channels twice, the second time shifted."""
        for table in (self.low, self.high, self.mean):
            table[name] = np.concatenate([table[name], table[name] + shift])
        columns = self.columns[name]
        self.columns[name] = np.concatenate([columns, columns + np.float32(shift)], axis=1)


def collect(graph: FloatGraph, feeds: Iterable[Feed], threads: int) -> Statistics:
    """Run a graph and return what was seen of its tensors.

    Args:
        graph: the graph.
        feeds: its inputs, one after the other.
        threads: how many compute.
    """
    users, makers = graph.users(), graph.makers()
    names = [t for t in graph.tensors() if any(n.op_type != "Clip" for n in users[t])]
    with_columns = {t for t in names if makers[t].op_type != "Clip"}
    with_columns |= {n.input[0] for n in graph.convolutions() if graph.is_pointwise(n)}
    session = open_session(graph.to_bytes(names), threads)
    parts: dict[str, list[NDArray[np.float32]]] = {}
    seen, n = Statistics(), 0
    for feed in feeds:
        found = dict(zip(names, session.run(names, dict(feed)), strict=True))
        for name, tensor in {**feed, **found}.items():
            columns = tensor[0].reshape(tensor.shape[1], -1)  # [C, h * w]
            low, high = columns.min(axis=1), columns.max(axis=1)
            mean = columns.mean(axis=1, dtype=np.float64)
            seen.low[name] = np.minimum(seen.low.get(name, low), low)
            seen.high[name] = np.maximum(seen.high.get(name, high), high)
            seen.mean[name] = seen.mean.get(name, 0) + mean
            draw = np.random.default_rng(n)
            if name in with_columns:
                kept = columns[:, draw.integers(0, columns.shape[1], PLACES)].T
            else:
                kept = columns.ravel()[draw.integers(0, columns.size, VALUES)]
            parts.setdefault(name, []).append(kept)
        n += 1
    for name, kept_parts in parts.items():
        table = seen.columns if name in with_columns else seen.values
        table[name] = np.concatenate(kept_parts)
        seen.mean[name] = seen.mean[name] / n
    return seen


def open_session(model: bytes, threads: int) -> onnxruntime.InferenceSession:
    """Return a session of ONNX Runtime on the CPU."""
    import onnxruntime  # here, since importing it writes into the user's cache

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.enable_mem_pattern = False
    options.log_severity_level = 3  # errors
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
