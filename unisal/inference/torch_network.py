"""The network in PyTorch: as a runtime, for features, and as graphs that are recorded from it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from threading import Lock
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from unisal.forks import computing
from unisal.inference import densities
from unisal.inference.graph_file import Graph
from unisal.inference.processor import BF16_FLAGS, lacks, no_bf16
from unisal.model import UNISAL
from unisal.types import Features, LogDensity, Size


class TorchNetwork:
    """A network in memory; see `unisal.inference.network.Network`.

    Args:
        model: the network, in evaluation mode. Its graphs are made anew when its weights were
            changed in place or replaced.
    """

    needs_pytorch = True

    def __init__(self, model: UNISAL) -> None:
        self.model = model
        self.sources = model.sources
        self.image_domains = model.image_domains
        tables = [t for module in model.modules() for t in (module._parameters, module._buffers)]
        self._tables = [table for table in tables if table]

    @classmethod
    def outside_inference(cls, load: Callable[[], UNISAL]) -> TorchNetwork:
        """Return the network that `load` reads; it can be trained whatever the caller's mode is."""
        with torch.inference_mode(False):
            return cls(load().eval())

    @property
    def temperatures(self) -> dict[str, float]:
        """What the logits of domains are divided by."""
        return self.model.temperatures

    @property
    def is_float32(self) -> bool:
        """Whether its weights are of this type."""
        return next(self.model.parameters()).dtype == torch.float32

    def version(self) -> list[tuple[int, int]]:
        """Return a value that changes when weights are changed in place or replaced.

        That takes little time compared with the network.
        """
        weights = [x for table in self._tables for x in table.values() if x is not None]
        try:
            return [(id(x), x._version) for x in weights]
        except RuntimeError:  # tensors made in inference mode have no version
            return [(id(x), 0 if x.is_inference() else x._version) for x in weights]

    def precision(self, domain: str, static: bool) -> str:
        """Return what its graphs compute in."""
        return "fp32"

    @torch.inference_mode()
    def graph(self, domain: str, static: bool, features: bool = False) -> Graph:
        """Record the network as a graph; see `unisal.inference.graph.record`."""
        from unisal.inference.graph import record

        return record(self.model, domain, static, features)


class TorchRuntime:
    """Runs the network as it is; see `unisal.inference.runtime.Runtime`.

    Args:
        model: the network; moved to the device.
        device: where to run it.
        bf16: whether to compute in bfloat16 wherever PyTorch's autocast considers that safe.

    Raises:
        UserError: the device has no instructions for bfloat16.
    """

    name = "torch"
    gains_by_batches = True

    def __init__(self, model: UNISAL, device: str, bf16: bool = False) -> None:
        if bf16:
            check_bf16(device)
        # Without a backward pass, channels last are faster (measured on CPU and GPU).
        self.model = model.to(torch.device(device), memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.device = torch.device(device)
        self.bf16 = bf16
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
        sequences: Sequence[Sequence[NDArray[np.float32]]],
        states: Sequence[Tensor | None],
        domain: str,
        static: bool,
        concurrent: bool = False,
    ) -> tuple[Tensor, list[Tensor | None]]:
        x = torch.from_numpy(np.stack([np.stack(frames) for frames in sequences]))
        present = [state for state in states if state is not None]
        before = torch.cat(present) if present else None
        autocast = torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16)
        with self._running, autocast:
            y, hidden = self.model.logits(x.to(self.device), [before], domain, static)
        maps = y[:, :, 0].float()
        if hidden is None:
            return maps, [None] * len(states)
        return maps, list(hidden[0].float().split(1))

    @torch.inference_mode()
    def to_array(self, logits: Tensor | NDArray[np.float32]) -> NDArray[np.float32]:
        return torch.as_tensor(logits).cpu().numpy()

    @torch.inference_mode()
    def log_density(self, logits: Tensor | NDArray[np.float32], size: Size) -> LogDensity:
        return _log_density(logits, size)


@computing()
@torch.inference_mode()
def compute_features(
    model: UNISAL,
    frame: NDArray[np.float32],
    domain: str,
    states: list[Any] | None,
    static: bool,
    target_size: Size | None,
    temperature: float = 1,
) -> tuple[Features, LogDensity | None]:
    """Compute the network's features of one frame; see `unisal.inference.engine.Engine.features`.

    Args:
        model: the network, in evaluation mode, on any device.
        frame: `[3, H, W] float32`.
        domain: one of the network's domains.
        states: a single entry, updated in place; None for an image by itself.
        static: whether the frames are unrelated images.
        target_size: (h, w) of the log-density, None if it is not wanted.
        temperature: what its logits are divided by.

    Returns:
        The features `[C, h, w] float32`, and the log-density `[h, w] float32`.
    """
    device = next(model.parameters()).device
    x = torch.from_numpy(np.asarray(frame)).to(device)[None, None]
    found, hidden = model.features(x, h0=states, domain=domain, static=static)
    if states is not None:
        states[0] = None if hidden is None else hidden[0]
    log_density = None
    if target_size is not None:
        logits = model.logits_from(found.before_upsampling, domain)[0, 0, 0]
        log_density = _log_density(logits / temperature, target_size)
    return Features(*(y[0, 0].float().cpu().numpy() for y in found)), log_density


def _log_density(logits: Tensor | NDArray[np.float32], size: Size) -> LogDensity:
    """Resize logits `[H, W]` on their device and return the log-density."""
    logits = torch.as_tensor(logits)
    if logits.device.type == "cpu":
        return densities.log_density(logits.numpy(), size)
    return UNISAL.log_density(logits[None, None, None], size)[0, 0, 0].cpu().numpy()


def check_bf16(device: str) -> None:
    """Check that a device computes in bfloat16 faster than in float32.

    Raises:
        UserError: it has no instructions for it.
    """
    on_gpu = device.startswith("cuda")
    if not (torch.cuda.is_bf16_supported() if on_gpu else not lacks(BF16_FLAGS)):
        raise no_bf16(device)
