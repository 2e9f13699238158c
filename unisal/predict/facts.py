"""With what pictures or videos are predicted, as values to print or to keep with the results."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from unisal.config import GRAPH_SUFFIX, run_name
from unisal.inference.engine import Engine


class Facts(NamedTuple):
    """With what something is predicted."""

    run: str | None
    """The `train_id`; None for a network that was not loaded from a run."""
    weights: Path | None
    """The file of the weights, or of the graph; None for a network in memory."""
    preset: str | None
    """The name of the preset; None where a data set takes its place."""
    domain: str
    """The network domain."""
    precision: str
    """"fp32", "bf16" or "int8"."""
    runtime: str
    """"torch", "onnx" or "openvino"."""
    device: str
    """Where the network runs, as PyTorch names it."""
    tta: tuple[str, ...] = ()
    """What is averaged, see `unisal.inference.engine.Engine`."""
    temperature: float = 1
    """What the run says of the domain, see `unisal.model.UNISAL`."""

    @classmethod
    def of(
        cls,
        engine: Engine,
        weights: Path | None,
        preset: str | None,
        domain: str,
        is_video: bool = False,
    ) -> Facts:
        """Return the facts of an engine.

        Args:
            engine: runs the network.
            weights: the file that its weights were read from.
            preset: the name of the preset.
            domain: the network domain, one that the network has.
            is_video: whether it is about videos.

        Raises:
            UserError: 8 bits were asked for, and there is no graph in 8 bits for this.
        """
        is_run = weights is not None and weights.suffix != GRAPH_SUFFIX
        run = run_name(weights.parent) if weights is not None and is_run else None
        static = not is_video or engine.is_static(domain)
        runtime, device = engine.runtime_of(domain, static), str(engine.device)
        chosen = preset, domain, engine.precision_of(domain, static)
        temperature = engine.temperature(domain)
        return cls(run, weights, *chosen, runtime, device, engine.tta, temperature)
