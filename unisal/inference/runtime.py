"""What runs the network: PyTorch or, on the CPU, ONNX Runtime in less than 60 % of the time.

Except for rounding, both give the same numbers. ONNX Runtime gets the graph of
`unisal.inference.graph`, which is made when a domain is first used (in well under a second) and
rebuilt when the weights have changed.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from unisal.errors import GraphError, UserError
from unisal.forks import computing, never_free, renew_after_fork
from unisal.memory import give_back_freed_memory
from unisal.model import UNISAL
from unisal.model.checks import STRIDE

if TYPE_CHECKING:
    import onnxruntime

RUNTIMES = ("auto", "torch", "onnx")
PRECISIONS = ("fp32", "bf16")
BF16_FLAGS = frozenset({"avx512_bf16", "amx_bf16", "bf16"})
"""Flags in `/proc/cpuinfo` of processors that compute in bfloat16 (x86 and Arm)."""

Sequences = Sequence[Sequence[Tensor]]

log = logging.getLogger(__name__)


class Runtime(Protocol):
    """Runs the network in evaluation mode."""

    @property
    def name(self) -> str:
        """The name of the runtime: "torch" or "onnx"."""
        ...

    @property
    def gains_by_batches(self) -> bool:
        """Whether several frames in one call take less time than one after the other."""
        ...

    def logits(
        self,
        sequences: Sequences,
        state: Tensor | None,
        domain: str,
        static: bool,
        concurrent: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """Compute `UNISAL.logits` for evaluation.

        Args:
            sequences: the frames `[3, H, W] float32` of each sequence, on the CPU; the same number
                for each.
            state: `[sequences, C, H/32, W/32]`, as the last call returned it; None at the start.
            domain: one of the network's domains.
            static: whether the frames are unrelated images.
            concurrent: whether other threads call this at the same time, enough of them to keep
                all cores busy.

        Returns:
            The maps `[sequences, time, H, W] float32`; and the state after the last frame, None if
            the GRU is bypassed.
        """
        ...


def pick_runtime(
    name: str, model: UNISAL, device: torch.device, precision: str = "fp32"
) -> Runtime:
    """Return the runtime with that name.

    Args:
        name: "torch"; "onnx"; or "auto" for the fastest one that gives the same numbers.
        model: the network in evaluation mode.
        device: where to run it.
        precision: "fp32"; or "bf16", with which PyTorch computes in bfloat16 wherever its autocast
            considers that safe. It is faster on processors with instructions for it.

    Raises:
        UserError: the name is unknown, the runtime is not installed or cannot do what is asked, or
            the processor has no instructions for bfloat16.
    """
    for value, known, what in ((name, RUNTIMES, "runtime"), (precision, PRECISIONS, "precision")):
        if value not in known:
            raise UserError(f"{what} is {value!r}; it has to be one of {', '.join(known)}")
    if precision == "bf16":
        if name == "onnx":
            raise UserError("runtime 'onnx' computes in fp32 alone; bf16 needs 'torch'")
        check_bf16(device)
        return TorchRuntime(model, device, torch.bfloat16)
    suits = device.type == "cpu" and next(model.parameters()).dtype == torch.float32
    if name == "onnx" and not suits:
        raise UserError(f"runtime 'onnx' runs float32 on the CPU alone, not on {device}")
    if name == "torch" or not suits:
        return TorchRuntime(model, device)
    try:
        runtime = OnnxRuntime(model)
    except ImportError as error:
        if name == "onnx":
            raise UserError(
                f"runtime 'onnx' needs the packages onnx and onnxruntime: {error}"
            ) from None
        log.info("PyTorch runs the network, since ONNX Runtime cannot be loaded (%s)", error)
        return TorchRuntime(model, device)
    return runtime if name == "onnx" else FallbackRuntime(runtime, model, device)


class TorchRuntime:
    """Runs the network as it is.

    Args:
        model: the network; moved to the device.
        device: where to run it.
        autocast: the dtype to compute in wherever PyTorch's autocast considers that safe; None for
            that of the weights.
    """

    name = "torch"
    gains_by_batches = True

    def __init__(
        self, model: UNISAL, device: torch.device, autocast: torch.dtype | None = None
    ) -> None:
        # Without a backward pass, channels last are faster (measured on CPU and GPU).
        self.model = model.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.device = device
        self.autocast = autocast
        self._make_lock()

    def _make_lock(self) -> None:
        """Make the lock, which cannot be copied or sent to another process."""
        self._running = Lock()  # PyTorch uses several threads for a single call

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "_running"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._make_lock()

    @computing()
    @torch.inference_mode()
    def logits(
        self,
        sequences: Sequences,
        state: Tensor | None,
        domain: str,
        static: bool,
        concurrent: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        x = torch.stack([torch.stack(tuple(frames)) for frames in sequences])
        autocast = torch.autocast(self.device.type, self.autocast, enabled=bool(self.autocast))
        with self._running, autocast:
            y, hidden = self.model.logits(x.to(self.device), [state], domain, static)
        return y[:, :, 0].float(), None if hidden is None else hidden[0].float()


class FallbackRuntime:
    """ONNX Runtime, until it turns out that no graph can be made of the network; then PyTorch.

    That happens to a network that was changed to do something that `unisal.inference.graph` cannot
    translate. A warning says so once.

    Args:
        fast: ONNX Runtime.
        model: the same network, for PyTorch. Its runtime is made only when it is needed, since it
            changes the memory layout of the weights and with it the rounding of other computations.
        device: where to run it.
    """

    def __init__(self, fast: OnnxRuntime, model: UNISAL, device: torch.device) -> None:
        self._runtime: Runtime = fast
        self._model = model
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
        sequences: Sequences,
        state: Tensor | None,
        domain: str,
        static: bool,
        concurrent: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """Compute `UNISAL.logits`; see `Runtime.logits`."""
        runtime = self._runtime
        try:
            return runtime.logits(sequences, state, domain, static, concurrent)
        except GraphError as error:
            # Several threads may get here. Made in inference mode, the weights in their new layout
            # could not be trained any more.
            with computing(), self._replacing, torch.inference_mode(False):
                if self._runtime is runtime:
                    self._runtime = TorchRuntime(self._model, self._device)
                    log.warning(
                        "PyTorch runs the network, more slowly than ONNX Runtime: %s", error
                    )
        return self._runtime.logits(sequences, state, domain, static, concurrent)


class OnnxRuntime:
    """ONNX Runtime on the CPU, with as many threads as PyTorch has when a domain is first used.

    The graph takes one frame: several at a time are not faster (measured) and need more memory.
    It is safe to call from several threads.

    Args:
        model: the network, in float32. Every call checks whether its weights were changed in place;
            the graph is then rebuilt.

    Raises:
        ImportError: a package is missing.
    """

    name = "onnx"
    gains_by_batches = False

    def __init__(self, model: UNISAL) -> None:
        import onnx  # noqa: F401 - so that a missing package is noticed now
        import onnxruntime

        self.model = model
        tables = [t for module in model.modules() for t in (module._parameters, module._buffers)]
        self._tables = [table for table in tables if table]
        self._runtime = onnxruntime
        self._making = Lock()
        self._weights: Any = None
        self._sessions: dict[tuple[str, bool, int], onnxruntime.InferenceSession] = {}
        self._priors: dict[tuple[str, int, int], Any] = {}
        renew_after_fork(self)

    def renew(self) -> None:
        """Forget the sessions of another process; see `unisal.forks`."""
        for session in self._sessions.values():
            never_free(session)
        self._sessions = {}

    def __reduce__(self) -> tuple[type[OnnxRuntime], tuple[UNISAL]]:
        return type(self), (self.model,)  # sessions can be neither copied nor sent

    @computing()
    @torch.inference_mode()
    def logits(
        self,
        sequences: Sequences,
        state: Tensor | None,
        domain: str,
        static: bool,
        concurrent: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        from unisal.inference.graph import FRAME, MAP, NEXT_STATE, PRIORS, STATE

        batch, steps, (_, height, width) = len(sequences), len(sequences[0]), sequences[0][0].shape
        size = height // STRIDE, width // STRIDE
        session, priors = self._session(domain, static, size, concurrent)
        given = {} if priors is None else {PRIORS: priors}
        maps = np.empty((batch, steps, height, width), np.float32)
        states: NDArray[np.float32] | None = None
        channels = {taken.name: taken.shape[1] for taken in session.get_inputs()}
        if STATE in channels:
            shape = (batch, channels[STATE], *size)
            states = np.zeros(shape, np.float32) if state is None else state.numpy().copy()

        for b, frames in enumerate(sequences):
            for t, frame in enumerate(frames):
                now = {FRAME: frame[None].numpy(), **given}
                if states is None:
                    (y,) = session.run([MAP], now)
                else:
                    now[STATE] = states[b : b + 1]
                    y, states[b : b + 1] = session.run([MAP, NEXT_STATE], now)
                maps[b, t] = y[0, 0]
        return torch.from_numpy(maps), None if states is None else torch.from_numpy(states)

    def _session(
        self, domain: str, static: bool, size: tuple[int, int], concurrent: bool
    ) -> tuple[onnxruntime.InferenceSession, NDArray[np.float32] | None]:
        """Return the session and the prior maps of `size`, cached until the weights change."""
        with self._making:
            weights = weights_version(self._tables)
            if weights != self._weights:
                self._sessions.clear()
                self._priors.clear()
                self._weights = weights
            # Concurrent calls take 5 % less time if none of them splits its work (measured).
            kind = domain, static, 1 if concurrent else torch.get_num_threads()
            if kind not in self._sessions:
                self._sessions[kind] = self._make_session(*kind)
            place = (domain, *size)
            if place not in self._priors:
                maps = self.model.prior_maps(size, domain)
                self._priors[place] = None if maps is None else maps[None].numpy()
            return self._sessions[kind], self._priors[place]

    def _make_session(
        self, domain: str, static: bool, threads: int
    ) -> onnxruntime.InferenceSession:
        """Make the graph of a domain and a session that runs it."""
        from unisal.inference.graph import export_graph

        options = self._runtime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        # Waiting threads sleep, since pictures are read and written at the same time.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.enable_mem_pattern = False  # it takes more memory and no less time (measured)
        options.log_severity_level = 3  # errors
        graph = export_graph(self.model, domain, static)
        session = self._runtime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
        del graph
        give_back_freed_memory()
        return session


def weights_version(tables: Sequence[Mapping[str, Tensor | None]]) -> list[tuple[int, int]]:
    """Return a value that changes when weights are changed in place or replaced.

    That takes little time compared with the network.
    """
    weights = [x for table in tables for x in table.values() if x is not None]
    try:
        return [(id(x), x._version) for x in weights]
    except RuntimeError:  # tensors made in inference mode have no version
        return [(id(x), 0 if x.is_inference() else x._version) for x in weights]


def check_bf16(device: torch.device) -> None:
    """Check that a device computes in bfloat16 faster than in float32.

    Raises:
        UserError: it has no instructions for it.
    """
    if device.type == "cuda":
        able = torch.cuda.is_bf16_supported()
    else:
        able = not BF16_FLAGS.isdisjoint(_cpu_flags())
    if not able:
        raise UserError(
            f"precision is 'bf16', but {device} has no instructions for bfloat16 "
            f"({', '.join(sorted(BF16_FLAGS))}); leave it at 'fp32'"
        )


def _cpu_flags() -> set[str]:
    """Return the processor's flags as Linux lists them; none on other systems."""
    try:
        return set(Path("/proc/cpuinfo").read_text().split())
    except OSError:
        return set()
