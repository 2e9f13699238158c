"""The learned smoothing of the map, without ever making the large picture it is defined on.

By definition (docs/behaviour.md, "Decoder") the map at 1/8 is enlarged by nearest neighbour to the
input's size, replicate-padded and convolved with one `k x k` kernel. All 64 pixels that share a
cell of the small map see the same few small cells, only weighted differently. So the same numbers
come from a small convolution (7x7 for k = 41) to 64 channels, one per position inside the cell,
followed by a pixel shuffle. Training differentiates through the change of kernel to the `k x k`
weights.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unisal.model.priors import gaussian_maps

FACTOR = 8
"""How many times larger the network's input is than the map before smoothing, per side."""
INITIAL_LOG_STD = -2.0


class PhaseSmoothing(nn.Module):
    """Enlarges maps `[n, 1, h, w]` to `[n, 1, 8 h, 8 w]` and smooths them.

    Args:
        ksize: side of the kernel `weight`, `[1, 1, ksize, ksize]`, in pixels of the large map. It
            begins as a Gaussian.

    Raises:
        ValueError: the kernel size is not a positive odd number.
    """

    def __init__(self, ksize: int) -> None:
        super().__init__()
        if ksize < 1 or ksize % 2 == 0:
            raise ValueError(f"smoothing_ksize is {ksize}; it has to be a positive odd number")
        gaussian = gaussian_maps(torch.tensor([[[0.5, INITIAL_LOG_STD]] * 2]), (ksize, ksize))
        self.weight = nn.Parameter((gaussian / gaussian.sum())[None])
        self.register_buffer("phases", _phase_matrix(ksize), persistent=False)
        self.phases: Tensor

    def forward(self, x: Tensor) -> Tensor:
        reach = (self.phases.shape[1] - 1) // 2
        # [8, r, k] x [k, k] x [8, r, k] gives [8, 8, r, r]: the kernel seen from each phase.
        kernel = torch.einsum("pik,kl,qjl->pqij", self.phases, self.weight[0, 0], self.phases)
        x = F.pad(x, (reach,) * 4, mode="replicate")
        x = F.conv2d(x, kernel.flatten(0, 1)[:, None])  # [n, 64, h, w]
        return F.pixel_shuffle(x, FACTOR)


def _phase_matrix(ksize: int) -> Tensor:
    """Return which taps of the kernel fall into which small cell.

    Returns:
        `[8, cells, ksize]` of 0 and 1, for each of the 8 positions of the output pixel inside its
        own cell.
    """
    pad = ksize // 2
    reach = (pad + FACTOR - 1) // FACTOR
    tap = torch.arange(ksize) - pad
    cell = (torch.arange(FACTOR)[:, None] + tap).div(FACTOR, rounding_mode="floor")  # [8, ksize]
    return (cell[:, None, :] == torch.arange(-reach, reach + 1)[:, None]).float()
