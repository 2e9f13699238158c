"""From a picture to its density as a module of PyTorch, around the network's recorded graph.

PyTorch can export it and script it: whatever depends on the size of a picture is computed from it
in each call, and nothing is decided by the values of its pixels.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unisal.data.transforms import RGB_MEAN, RGB_STD, SIDE_RANGE, considered_cells
from unisal.export.core import portable
from unisal.export.plan import COEFFICIENT_STEPS, DENSITY, LANCZOS_REACH, LEVELS, NO_DISTANCE, Plan
from unisal.export.torch_core import TorchCore
from unisal.inference.graph_file import STATE, Graph
from unisal.types import STRIDE


def whole_network(graph: Graph, plan: Plan, bf16: bool = False) -> WholeNetwork:
    """Return the module of what a plan says.

    Args:
        graph: the network's graph in float32, see `unisal.inference.graph.record`.
        plan: the sizes and the output.
        bf16: whether convolutions compute in bfloat16.
    """
    core = TorchCore(portable(graph.model), bf16)
    kind = VideoNetwork if STATE in core.inputs else ImageNetwork
    return kind(core, graph.facts, plan).eval()


class WholeNetwork(nn.Module):
    """What the networks for pictures and for videos share.

    Args:
        core: the network's graph.
        facts: those of the graph.
        plan: the sizes and the output.
    """

    def __init__(self, core: TorchCore, facts: dict[str, Any], plan: Plan) -> None:
        super().__init__()
        self.core: nn.Module = core
        self.channels: int = core.channels.get(STATE, 0)
        self.resizes: bool = plan.resize
        self.rows, self.columns = (side // STRIDE for side in plan.size or (0, 0))
        native = plan.native or ((0, 0), (STRIDE, STRIDE))
        (self.native_height, self.native_width), seen = native
        self.register_buffer("native_cells", torch.tensor(seen) // STRIDE)
        self.native_cells: Tensor
        sides = [*SIDE_RANGE, *(side // STRIDE for side in seen)]
        self.fewest, self.most, self.stride = min(sides), max(sides), STRIDE
        self.gives_density: bool = plan.output == DENSITY
        self.temperature = float(facts["temperatures"].get(facts["domain"], 1))
        self.prior_scale = float(facts["prior_scale"])
        gaussians = facts["gaussians"]
        self.register_buffer(
            "gaussians", torch.zeros(0, 2, 2) if gaussians is None else torch.tensor(gaussians)
        )
        self.register_buffer("cells", torch.tensor(considered_cells()))
        for name, values in (("mean", RGB_MEAN), ("std", RGB_STD)):
            self.register_buffer(name, LEVELS * torch.tensor(values)[:, None, None])
        self.cells: Tensor
        self.gaussians: Tensor
        self.mean: Tensor
        self.std: Tensor

    def input_cells(self, picture: Tensor) -> tuple[int, int]:
        """Return the size of the network's input for a picture `[B, H, W, 3]`, in cells."""
        height, width = picture.shape[1], picture.shape[2]
        if self.rows > 0:
            return self.rows, self.columns
        if not self.resizes:
            return height // self.stride, width // self.stride
        ratios = self.cells[:, 0] / self.cells[:, 1]
        ratio = torch.full([1], height / width, device=picture.device)
        best = self.cells[torch.argmin(torch.maximum(ratio / ratios, ratios / ratio))]
        shape = torch.stack([torch.full([1], height), torch.full([1], width)]).to(picture.device)
        wanted = torch.tensor([[self.native_height], [self.native_width]], device=picture.device)
        best = torch.where((shape == wanted).all(), self.native_cells, best)
        if torch.jit.is_scripting():  # type: ignore[attr-defined]
            return int(best[0]), int(best[1])
        rows, columns = best[0].item(), best[1].item()
        if not torch.jit.is_scripting():  # type: ignore[attr-defined]
            for side in (rows, columns):  # what is not known needs bounds to be exported
                torch._check(side >= self.fewest)
                torch._check(side <= self.most)
        return rows, columns  # type: ignore[return-value]

    def prepare(self, picture: Tensor, rows: int, columns: int) -> Tensor:
        """Return what the network takes, `[B, 3, 32 rows, 32 columns] float32`."""
        if not self.resizes:
            x = picture.permute(0, 3, 1, 2).float()
        else:  # in the order of Pillow, which rounds in between as well
            x = picture.permute(0, 3, 1, 2).double()
            x = rounded(x @ resampling(x.shape[3], columns * self.stride, x.device).t())
            x = rounded(resampling(x.shape[2], rows * self.stride, x.device) @ x).float()
        return (x - self.mean) / self.std

    def prior_maps(self, batch: int, rows: int, columns: int) -> Tensor:
        """Return the Gaussian priors `[B, n, rows, columns]`."""
        down = profiles(self.gaussians[:, 0], rows)[:, :, None]
        across = profiles(self.gaussians[:, 1], columns)[:, None, :]
        return (self.prior_scale * (down * across)).expand(batch, -1, -1, -1)

    def output(self, y: Tensor, picture: Tensor) -> Tensor:
        """Return the first output `[B, h, w]`, made of the network's map `[B, 1, h, w]`."""
        y = y / self.temperature
        if not self.gives_density:
            return y[:, 0]
        batch, height, width = picture.shape[0], picture.shape[1], picture.shape[2]
        if self.resizes:
            y = F.interpolate(y, size=[height, width], mode="bilinear", align_corners=False)
        return torch.softmax(y.flatten(1), dim=-1).reshape(batch, height, width)


class ImageNetwork(WholeNetwork):
    """Predicts pictures that have nothing to do with each other."""

    def forward(self, picture: Tensor) -> Tensor:
        """Return the density or the logits `[B, h, w] float32` of pictures `[B, H, W, 3] uint8`."""
        rows, columns = self.input_cells(picture)
        priors = self.prior_maps(picture.shape[0], rows, columns)
        y = self.core(self.prepare(picture, rows, columns), priors)[0]
        return self.output(y, picture)


class VideoNetwork(WholeNetwork):
    """Predicts the next frame of each of several videos."""

    def forward(self, picture: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """Predict a frame of each video from it and the state that the frame before left.

        Args:
            picture: the frames `[B, H, W, 3] uint8`.
            state: `[B, C, rows, columns] float32` as it was returned; zeros, which may be
                `[B, C, 1, 1]`, before the first frame.

        Returns:
            The densities or logits `[B, h, w] float32`, and the next state.
        """
        rows, columns = self.input_cells(picture)
        priors = self.prior_maps(picture.shape[0], rows, columns)
        before = F.interpolate(state, size=[rows, columns], mode="nearest")
        y, after = self.core(self.prepare(picture, rows, columns), priors, before)
        return self.output(y, picture), after


def resampling(
    n_in: int,
    n_out: int,
    device: torch.device,
    reach: float = LANCZOS_REACH,
    least: float = NO_DISTANCE,
    steps: float = COEFFICIENT_STEPS,
) -> Tensor:
    """Return the matrix `[n_out, n_in]` that resizes an axis as Pillow's Lanczos filter does."""
    # Whole numbers, since a float would misplace the pixels of large pictures.
    centres = (2 * torch.arange(n_out, device=device) + 1) * n_in
    pixels = (2 * torch.arange(n_in, device=device) + 1) * n_out
    apart = (pixels - centres[:, None]).abs().double() / (2 * max(n_in, n_out))
    x = apart.clamp(least, reach) * math.pi
    slow = x / reach
    weights = torch.sin(x) * torch.sin(slow) / (x * slow)
    return (weights / weights.sum(1, keepdim=True) * steps).round() / steps


def rounded(levels: Tensor, highest: float = LEVELS) -> Tensor:
    """Round levels of a picture, halves upwards, and keep them in their range."""
    return torch.floor(levels + 0.5).clamp(0.0, highest)


def profiles(parameters: Tensor, n: int) -> Tensor:
    """Return Gaussians `[k, n]` along an axis, of (mu, log std) `[k, 2]`; see `gaussian_maps`."""
    last = torch.full([1], n - 1.0, device=parameters.device).clamp(min=1.0)
    grid = torch.arange(n, device=parameters.device) / last
    z = (grid - parameters[:, :1]) * torch.exp(-parameters[:, 1:])
    return torch.exp(-0.5 * z * z)
