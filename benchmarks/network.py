"""Measure the network alone, on the CPU.

Run `python -m benchmarks.network`. It measures from a clip that is ready for the network to
log-densities of its size.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from benchmarks.case import Case, measure, print_rows
from benchmarks.limits import Machine, count_graph, measure_machine
from benchmarks.stream_latency import make_frames
from benchmarks.timing import plain_network
from unisal.data.transforms import normalise
from unisal.errors import UserError
from unisal.inference.engine import Engine
from unisal.inference.graph import export_graph
from unisal.inference.torch_network import check_bf16
from unisal.model import UNISAL
from unisal.predict.loading import load_model
from unisal.types import LogDensity


class NetworkCase(Case):
    """A clip through the network.

    Args:
        size: (H, W) of the network's input.
        items: frames.
    """

    domain: str
    static: bool
    precision = "fp32"

    def __init__(self, size: tuple[int, int], items: int) -> None:
        self.size = size[0], size[1]  # a process of its own gets a list, from JSON
        self.items = items

    def options(self) -> dict[str, Any]:
        return {"size": self.size, "items": self.items}

    @cached_property
    def model(self) -> UNISAL:
        return load_model().eval()

    @cached_property
    def frames(self) -> NDArray[np.float32]:
        return np.stack([normalise(frame) for frame in make_frames(self.size, self.items)])

    @cached_property
    def engine(self) -> Engine:
        return Engine(self.model, "cpu", precision=self.precision)

    def plain(self) -> Tensor:
        network = plain_network(self.model)
        x = torch.from_numpy(self.frames)[None]
        with torch.inference_mode():
            y, _ = network(x, source=self.domain, static=self.static)
        return y[0, :, 0]

    def ours(self) -> list[LogDensity]:
        if self.static:
            return list(self.engine.images(self.frames, self.size, self.domain))
        keyed = enumerate(self.frames)
        return [y for _, y in self.engine.video(keyed, self.size, self.domain, frame_step=1)]

    def difference(self, plain: Tensor, ours: list[LogDensity]) -> str:
        error = (plain - torch.from_numpy(np.stack(ours))).abs().max() / (plain.max() - plain.min())
        return f"{float(error):.0e} of the range"

    def of_the_limit(self, machine: Machine, seconds: float) -> str:
        height, width = self.size
        sides = {"frame_height": height, "frame_width": width}
        for name in ("priors", "state"):
            sides |= {f"{name}_height": height // 32, f"{name}_width": width // 32}
        work = count_graph(export_graph(self.model, self.domain, self.static), sides)
        return machine.share(work, seconds / self.items)


class VideoClip(NetworkCase):
    """A clip of a video, one frame after the other."""

    what, wanted = "network, video clip 224x384", "4 times"
    domain, static = "DHF1K", False

    def __init__(self, size: tuple[int, int] = (224, 384), items: int = 6) -> None:
        super().__init__(size, items)


class OneImage(NetworkCase):
    """One picture."""

    what, wanted, unit = "network, one image 288x384", "5 times", "image"
    domain, static = "SALICON", True
    rounds = 15

    def __init__(self, size: tuple[int, int] = (288, 384), items: int = 1) -> None:
        super().__init__(size, items)


class VideoClipBF16(VideoClip):
    """A clip in bfloat16."""

    what, wanted = "network, video clip, bfloat16", "6 times"
    precision = "bf16"

    def difference(self, plain: Tensor, ours: list[Tensor]) -> str:
        pairs = zip(plain.exp().flatten(1), torch.stack(ours).exp().flatten(1), strict=True)
        correlations = [np.corrcoef(a, b)[0, 1] for a, b in pairs]
        return f"CC {np.mean(correlations):.4f}, at least {min(correlations):.4f}"


def cases() -> list[Case]:
    """Return the cases that this machine can run."""
    found: list[Any] = [VideoClip(), OneImage()]
    try:
        check_bf16("cpu")
    except UserError as error:
        print(f"no row for bfloat16: {error}")
    else:
        found.append(VideoClipBF16())
    return found


if __name__ == "__main__":
    machine = measure_machine()
    print_rows([measure(case, machine) for case in cases()])
