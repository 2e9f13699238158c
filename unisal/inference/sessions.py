"""Opens graphs: in ONNX Runtime, or in OpenVINO for bfloat16, behind the same two calls."""

from __future__ import annotations

import logging
import sys
from collections.abc import Mapping, Sequence
from functools import cache, partial
from importlib import import_module
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import RLock
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from unisal.errors import cause
from unisal.forks import compute_threads
from unisal.inference.prepared import WEIGHTS, forget, prepared_graph

if TYPE_CHECKING:
    import onnxruntime
    import openvino

ONNX, OPENVINO = "onnx", "openvino"
TELEMETRY = "openvino_telemetry"
"""What OpenVINO sends messages with, if it can be imported."""
EXTERNAL_WEIGHTS = "session.optimized_model_external_initializers_file_name"
"""ONNX Runtime's option for a file of its own for the weights of a graph that it writes."""
ARM_BF16 = "mlas.enable_gemm_fastmath_arm64_bfloat16"
"""ONNX Runtime's option for products in bfloat16, which it has on Arm alone."""

log = logging.getLogger(__name__)

_importing = RLock()
"""Held while OpenVINO is imported and its core is made, so that threads do not do so twice."""


class Port(Protocol):
    """An input or output of a graph."""

    @property
    def name(self) -> str:
        """Its name."""
        ...

    @property
    def shape(self) -> Sequence[Any]:
        """Its sides; those that may differ are no positive numbers."""
        ...


class Opened(Protocol):
    """A graph that can be run, by several threads at a time."""

    def get_inputs(self) -> Sequence[Port]:
        """Return the graph's inputs; of their shapes the number of channels is known."""
        ...

    def get_outputs(self) -> Sequence[Port]:
        """Return the graph's outputs."""
        ...

    def run(
        self, names: Sequence[str], given: Mapping[str, NDArray[np.float32]]
    ) -> Sequence[NDArray[np.float32]]:
        """Return outputs by name."""
        ...


def open_onnx(model: bytes, threads: int, bf16: bool = False, digest: str = "") -> Opened:
    """Open a graph in ONNX Runtime, with weights that processes share if that is possible.

    Args:
        model: the serialised ONNX model.
        threads: how many compute.
        bf16: whether products may be computed in bfloat16, on processors of Arm.
        digest: that of the model's file, by which it is found again; empty for one that will not
            be opened again.
    """
    if digest:
        prepare = partial(_prepare, model, bf16)
        if (prepared := prepared_graph(digest, prepare, str(bf16))) is not None:
            try:
                return _open(str(prepared), _options(threads, bf16, is_prepared=True))
            except Exception as error:  # ONNX Runtime has many types of its own
                log.info("%s cannot be opened: %s", prepared, cause(error))
                forget(prepared)
    return _open(model, _options(threads, bf16))


def _open(model: bytes | str, options: onnxruntime.SessionOptions) -> Opened:
    import onnxruntime  # here, since importing it writes into the user's cache

    session: Opened = onnxruntime.InferenceSession(
        model, options, providers=["CPUExecutionProvider"]
    )
    return session


def _options(threads: int, bf16: bool, is_prepared: bool = False) -> onnxruntime.SessionOptions:
    """Return how a graph is run; one that is prepared is not rewritten again."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # Waiting threads sleep, since pictures are read and written at the same time.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    if bf16:
        options.add_session_config_entry(ARM_BF16, "1")
    options.enable_mem_pattern = False  # it takes more memory and no less time (measured)
    options.log_severity_level = 3  # errors
    if is_prepared:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    return options


def _prepare(model: bytes, bf16: bool, path: Path) -> None:
    """Have ONNX Runtime rewrite a graph, and write it down.

    Raises:
        OSError: that is not possible.
    """
    options = _options(1, bf16)
    options.optimized_model_filepath = str(path)
    options.add_session_config_entry(EXTERNAL_WEIGHTS, WEIGHTS)
    try:
        _open(model, options)
        (path.parent / WEIGHTS).touch()  # a small graph has them inside
    except Exception as error:
        raise OSError(f"ONNX Runtime cannot write it: {cause(error)}") from error


def open_openvino(model: bytes, threads: int, precision: str = "bf16") -> OpenVinoSession:
    """Open a graph in OpenVINO.

    Args:
        model: the serialised ONNX model.
        threads: how many compute one frame. With 1, as many frames are computed at a time as there
            are threads for computations.
        precision: "bf16", or "f32".
    """
    core = openvino_core()
    streams = compute_threads() if threads == 1 else 1
    compiled = core.compile_model(
        core.read_model(model),
        "CPU",
        {
            "INFERENCE_PRECISION_HINT": precision,
            "INFERENCE_NUM_THREADS": max(threads, streams),
            "NUM_STREAMS": streams,
            "ENABLE_CPU_PINNING": False,  # other programs and threads use the cores, too
        },
    )
    return OpenVinoSession(compiled)


def import_openvino() -> Any:
    """Import the package `openvino`, but not what tells its makers of each import.

    That would send a message over the network, and leave a thread behind.

    Returns:
        The package.

    Raises:
        ImportError: it is missing.
    """
    with _importing:
        if TELEMETRY in sys.modules or OPENVINO in sys.modules:
            return import_module(OPENVINO)
        sys.modules[TELEMETRY] = None  # type: ignore[assignment]
        try:
            return import_module(OPENVINO)  # which goes without what cannot be imported
        finally:
            del sys.modules[TELEMETRY]


def openvino_core() -> Any:
    """Return OpenVINO's `Core`, the same in each call.

    It is never freed: OpenVINO's CPU plugin gives the thread that first needs it an alternate stack
    for signals, and frees that with itself. Where another thread does so, the next Ctrl-C is a
    segmentation fault (OpenVINO 2026.4).

    Raises:
        ImportError: the package is missing.
    """
    with _importing:
        return _core()


@cache
def _core() -> Any:
    return import_openvino().Core()


class OpenVinoPort(NamedTuple):
    """An input or output of a graph; of its shape, sides that may differ are -1."""

    name: str
    shape: list[int]


class OpenVinoSession:
    """A graph in OpenVINO, used as one in ONNX Runtime is.

    Args:
        compiled: the graph.
    """

    def __init__(self, compiled: openvino.CompiledModel) -> None:
        self._compiled = compiled
        self._idle: SimpleQueue[openvino.InferRequest] = SimpleQueue()
        """Requests that no thread uses; each runs one frame at a time."""

    def get_inputs(self) -> Sequence[Port]:
        """Return the graph's inputs."""
        return [_describe(port) for port in self._compiled.inputs]

    def get_outputs(self) -> Sequence[Port]:
        """Return the graph's outputs."""
        return [_describe(port) for port in self._compiled.outputs]

    def run(
        self, names: Sequence[str], given: Mapping[str, NDArray[np.float32]]
    ) -> Sequence[NDArray[np.float32]]:
        """Return outputs by name."""
        try:
            request = self._idle.get_nowait()
        except Empty:
            request = self._compiled.create_infer_request()
        try:
            found = request.infer(dict(given), share_inputs=True)  # the outputs are copies
            return [found[name] for name in names]
        finally:
            self._idle.put(request)


def _describe(port: openvino.ConstOutput) -> Port:
    sides = [side.get_length() if side.is_static else -1 for side in port.partial_shape]
    return OpenVinoPort(port.get_any_name(), sides)
