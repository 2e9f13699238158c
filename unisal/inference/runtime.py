"""What runs the network: PyTorch or, on the CPU, ONNX Runtime in less than 60 % of the time.

Except for rounding, both give the same numbers. ONNX Runtime gets a graph when a domain is first
used, which PyTorch makes in well under a second if it was not made before, and another one when the
weights have changed. This module is for ONNX Runtime; PyTorch's is `unisal.inference.torch_network`
and is loaded only where it is needed.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from threading import Lock
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from unisal.errors import GraphError, UserError
from unisal.forks import compute_threads, computing, never_free, renew_after_fork
from unisal.inference import densities
from unisal.inference.graph_file import FRAME, MAP, NEXT_STATE, PRIORS, STATE
from unisal.inference.network import Network
from unisal.inference.sessions import (
    ONNX,
    OPENVINO,
    Opened,
    import_openvino,
    open_onnx,
    open_openvino,
)
from unisal.memory import give_back_freed_memory
from unisal.types import STRIDE, Features, LogDensity, Size

RUNTIMES = ("auto", "torch", "onnx", "openvino")
PRECISIONS = ("fp32", "bf16", "int8", "auto")

Frame = NDArray[np.float32]
"""What the network takes, `[3, H, W] float32`."""
State = Any
"""The GRU's state of one sequence, in the form that its runtime keeps it in."""

log = logging.getLogger(__name__)


class Runtime(Protocol):
    """Runs the network in evaluation mode."""

    @property
    def name(self) -> str:
        """The name of the runtime: "torch", or "onnx" for what runs graphs."""
        ...

    @property
    def gains_by_batches(self) -> bool:
        """Whether several frames in one call take less time than one after the other."""
        ...

    def logits(
        self,
        sequences: Sequence[Sequence[Frame]],
        states: Sequence[State | None],
        domain: str,
        static: bool,
        concurrent: bool = False,
    ) -> tuple[Any, list[State | None]]:
        """Compute `UNISAL.logits` for evaluation.

        Args:
            sequences: the frames `[3, H, W] float32` of each sequence; the same number for each.
            states: the state of each sequence, as the last call returned it; None at the start,
                for all of them.
            domain: one of the network's domains.
            static: whether the frames are unrelated images.
            concurrent: whether other threads call this at the same time, enough of them to keep
                all cores busy.

        Returns:
            The maps `[sequences, time, H, W] float32`, wherever the runtime computes; and the
            states after the last frames, None if the GRU is bypassed.
        """
        ...

    def to_array(self, logits: Any) -> NDArray[np.float32]:
        """Return maps of `logits` as an array."""
        ...

    def log_density(self, logits: Any, size: Size) -> LogDensity:
        """Resize one map `[H, W]` of `logits` to `size` and take its log-softmax."""
        ...


def pick_runtime(
    name: str, network: Network, device: str, precision: str = "fp32", bf16_runtime: str = ""
) -> Runtime:
    """Return the runtime with that name.

    Args:
        name: "torch"; "onnx"; or "auto" for the fastest one that gives the same numbers.
        network: the network.
        device: where to run it: "cpu", "cuda", "cuda:1", ...
        precision: "fp32"; "bf16", with which PyTorch computes in bfloat16 wherever its autocast
            considers that safe, which is faster on processors with instructions for it; or "int8"
            and "auto", with which ONNX Runtime runs the network's graphs, whatever they are in.
            For bfloat16 on the CPU see `unisal.inference.bf16.pick_bf16`.
        bf16_runtime: see `OnnxRuntime`.

    Raises:
        UserError: the name is unknown, the runtime is not installed or cannot do what is asked, or
            the processor has no instructions for bfloat16.
    """
    check_names(name, precision)
    if name == "openvino":
        raise UserError("runtime 'openvino' is for precision 'bf16' on the CPU; leave it at 'auto'")
    if precision == "bf16":
        if name == "onnx":
            raise UserError("runtime 'onnx' computes in fp32 alone; bf16 needs 'torch'")
        return _torch_runtime(network, device, bf16=True)
    suits = device == "cpu" and network.is_float32
    if precision == "int8" and (name == "torch" or not suits):
        raise UserError("precision 'int8' is for ONNX Runtime on the CPU; leave it at 'fp32'")
    if name == "onnx" and not suits:
        raise UserError(f"runtime 'onnx' runs float32 on the CPU alone, not on {device}")
    if name == "torch" or not suits:
        return _torch_runtime(network, device)
    try:
        runtime = OnnxRuntime(network, bf16_runtime)
    except ImportError as error:
        if name == "onnx":
            raise UserError(
                f"runtime 'onnx' needs the packages onnx and onnxruntime: {error}"
            ) from None
        log.info("PyTorch runs the network, since ONNX Runtime cannot be loaded (%s)", error)
        return _torch_runtime(network, device)
    return runtime if name == "onnx" else FallbackRuntime(runtime, network, device)


def check_names(runtime: str, precision: str) -> None:
    """Check names of a runtime and a precision.

    Raises:
        UserError: one of them is unknown.
    """
    names = ((runtime, RUNTIMES, "runtime"), (precision, PRECISIONS, "precision"))
    for value, known, what in names:
        if value not in known:
            raise UserError(f"{what} is {value!r}; it has to be one of {', '.join(known)}")


def _torch_runtime(network: Network, device: str, bf16: bool = False) -> Runtime:
    model = network.model  # a graph alone says here that it has none
    from unisal.inference.torch_network import TorchRuntime

    return TorchRuntime(model, device, bf16)


class FallbackRuntime:
    """ONNX Runtime, until it turns out that no graph can be made of the network; then PyTorch.

    That happens to a network that was changed to do something that `unisal.inference.graph` cannot
    translate. A warning says so once.

    Args:
        fast: ONNX Runtime.
        network: the same network, for PyTorch. Its runtime is made only when it is needed, since it
            changes the memory layout of the weights and with it the rounding of other computations.
        device: where to run it.
    """

    def __init__(self, fast: OnnxRuntime, network: Network, device: str) -> None:
        self._runtime: Runtime = fast
        self._network = network
        self._device = device
        self._make_lock()

    def _make_lock(self) -> None:
        """Make the lock, which cannot be copied or sent to another process."""
        self._replacing = Lock()

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "_replacing"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._make_lock()

    @property
    def name(self) -> str:
        """The name of the runtime in use: "torch" or "onnx"."""
        return self._runtime.name

    @property
    def gains_by_batches(self) -> bool:
        """Whether several frames in one call take less time than one after the other."""
        return self._runtime.gains_by_batches

    def logits(
        self,
        sequences: Sequence[Sequence[Frame]],
        states: Sequence[State | None],
        domain: str,
        static: bool,
        concurrent: bool = False,
    ) -> tuple[Any, list[State | None]]:
        """Compute `UNISAL.logits`; see `Runtime.logits`."""
        runtime = self._runtime
        try:
            return runtime.logits(sequences, states, domain, static, concurrent)
        except GraphError as error:
            # Several threads may get here.
            with computing(), self._replacing:
                if self._runtime is runtime:
                    self._runtime = self._in_pytorch()
                    log.warning(
                        "PyTorch runs the network, more slowly than ONNX Runtime: %s", error
                    )
        return self._runtime.logits(sequences, states, domain, static, concurrent)

    def _in_pytorch(self) -> Runtime:
        import torch

        # Made in inference mode, the weights in their new layout could not be trained any more.
        with torch.inference_mode(False):
            return _torch_runtime(self._network, self._device)

    def to_array(self, logits: Any) -> NDArray[np.float32]:
        """Return maps as an array; see `Runtime.to_array`."""
        return self._runtime.to_array(logits)

    def log_density(self, logits: Any, size: Size) -> LogDensity:
        """Return a log-density; see `Runtime.log_density`."""
        return self._runtime.log_density(logits, size)


class OnnxRuntime:
    """Graphs on the CPU, with as many threads as PyTorch has when a domain is first used.

    ONNX Runtime runs them, and those that are to be computed in bfloat16 something else may run.

    The graph takes one frame: several at a time are not faster (measured) and need more memory.
    It is safe to call from several threads.

    Args:
        network: the network, in float32. Every call checks whether its weights were changed in
            place; the graph is then made anew.
        bf16_runtime: what runs graphs in bfloat16, "onnx" or "openvino"; "" if there are none.

    Raises:
        ImportError: a package is missing.
    """

    name = "onnx"
    gains_by_batches = False

    def __init__(self, network: Network, bf16_runtime: str = "") -> None:
        # So that a missing package is noticed now.
        if network.needs_pytorch:
            import onnx  # noqa: F401
        if bf16_runtime == OPENVINO:
            import_openvino()
        else:
            import onnxruntime  # noqa: F401

        self.network = network
        self.bf16_runtime = bf16_runtime
        self._making = Lock()
        self._version: Any = None
        self._sessions: dict[tuple[str, bool, int], Session] = {}
        renew_after_fork(self)

    def renew(self) -> None:
        """Forget the sessions of another process; see `unisal.forks`."""
        for session in self._sessions.values():
            never_free(session.onnx)
        self._sessions = {}

    def __reduce__(self) -> tuple[type[OnnxRuntime], tuple[Network, str]]:
        return type(self), (
            self.network,
            self.bf16_runtime,
        )  # sessions can be neither copied nor sent

    @computing()
    def logits(
        self,
        sequences: Sequence[Sequence[Frame]],
        states: Sequence[State | None],
        domain: str,
        static: bool,
        concurrent: bool = False,
    ) -> tuple[NDArray[np.float32], list[State | None]]:
        _, height, width = sequences[0][0].shape
        session = self._session(domain, static, concurrent)
        maps = np.empty((len(sequences), len(sequences[0]), height, width), np.float32)
        after = []
        for b, (frames, state) in enumerate(zip(sequences, states, strict=True)):
            for t, frame in enumerate(frames):
                maps[b, t], state = session.run(np.asarray(frame), state)
            after.append(state)
        return maps, after

    @computing()
    def features(
        self, frame: Frame, state: State | None, domain: str, static: bool
    ) -> tuple[Features, NDArray[np.float32], State | None]:
        """Return what a graph with features makes of a frame: those, the map, the state after it.

        Args:
            frame: `[3, H, W] float32`.
            state: the state before it; None at the start of a sequence.
            domain: one of the network's domains.
            static: whether the frames are unrelated images.
        """
        found = self._session(domain, static, concurrent=False).run_all(frame, state)
        values = Features(*(found[name][0] for name in Features._fields))
        return values, found[MAP][0, 0], found.get(NEXT_STATE)

    def to_array(self, logits: NDArray[np.float32]) -> NDArray[np.float32]:
        return logits

    def log_density(self, logits: NDArray[np.float32], size: Size) -> LogDensity:
        return densities.log_density(logits, size)

    def _session(self, domain: str, static: bool, concurrent: bool) -> Session:
        """Return the session of a domain, cached until the weights change."""
        with self._making:
            version = self.network.version()
            if version != self._version:
                self._sessions.clear()
                self._version = version
            # Concurrent calls take 5 % less time if none of them splits its work (measured).
            kind = domain, static, 1 if concurrent else compute_threads()
            if kind not in self._sessions:
                self._sessions[kind] = self._make_session(*kind)
            return self._sessions[kind]

    def _make_session(self, domain: str, static: bool, threads: int) -> Session:
        """Get the graph of a domain and make a session that runs it."""
        is_bf16 = self.network.precision(domain, static) == "bf16"
        model, facts, digest = self.network.graph(domain, static)
        if is_bf16 and self.bf16_runtime == OPENVINO:
            opened: Opened = open_openvino(model, threads)
        else:
            opened = open_onnx(model, threads, is_bf16 and self.bf16_runtime == ONNX, digest)
        del model
        give_back_freed_memory()
        return Session(opened, facts)


class Session:
    """Runs a graph, one frame at a time.

    Args:
        onnx: the graph, in ONNX Runtime or in what stands in for it.
        facts: what is known of the graph, see `unisal.inference.graph.record`.
    """

    def __init__(self, onnx: Opened, facts: dict[str, Any]) -> None:
        self.onnx = onnx
        self._channels = {taken.name: taken.shape[1] for taken in onnx.get_inputs()}
        self._gaussians = None
        if PRIORS in self._channels:
            self._gaussians = np.array(facts["gaussians"], np.float32)
        self._scale = facts["prior_scale"]
        self._priors: dict[Size, NDArray[np.float32]] = {}

    def run(self, frame: Frame, state: State | None) -> tuple[NDArray[np.float32], State | None]:
        """Return the map `[H, W]` of a frame, and the state after it if the graph has one."""
        given = self.inputs(frame, state)
        if STATE not in given:
            (y,) = self.onnx.run([MAP], given)
            return y[0, 0], None
        y, after = self.onnx.run([MAP, NEXT_STATE], given)
        return y[0, 0], after

    def run_all(self, frame: Frame, state: State | None) -> dict[str, NDArray[np.float32]]:
        """Return all outputs by name."""
        names = [given.name for given in self.onnx.get_outputs()]
        return dict(zip(names, self.onnx.run(names, self.inputs(frame, state)), strict=True))

    def inputs(self, frame: Frame, state: State | None) -> dict[str, NDArray[np.float32]]:
        """Return the graph's inputs by name for a frame and the state before it."""
        size = frame.shape[1] // STRIDE, frame.shape[2] // STRIDE
        given = {FRAME: frame[None]}
        if self._gaussians is not None:
            if size not in self._priors:
                self._priors[size] = prior_maps(self._gaussians, self._scale, size)[None]
            given[PRIORS] = self._priors[size]
        if STATE in self._channels:
            if state is None:
                state = np.zeros((1, self._channels[STATE], *size), np.float32)
            given[STATE] = state
        return given


def prior_maps(gaussians: NDArray[np.float32], scale: float, size: Size) -> NDArray[np.float32]:
    """Compute what `UNISAL.prior_maps` does, which a graph takes as an input.

    Args:
        gaussians: `[n, 2, 2]`, see `unisal.model.priors.gaussian_maps`.
        scale: the height of their peaks.
        size: (h, w) of the encoder's output.

    Returns:
        `[n, h, w]`.
    """
    profiles = []
    for axis, length in enumerate(size):
        mu, log_std = gaussians[:, axis, 0, None], gaussians[:, axis, 1, None]
        grid = np.linspace(0, 1, length, dtype=np.float32)
        profiles.append(np.exp(-0.5 * ((grid - mu) / np.exp(log_std)) ** 2))  # [n, length]
    return np.float32(scale) * (profiles[0][:, :, None] * profiles[1][:, None, :])
