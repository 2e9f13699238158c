"""Types that several rooms share, each with a single meaning."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Size = tuple[int, int]
"""(height, width) in pixels."""
STRIDE = 32
"""The encoder's total stride in pixels: the sides of the network's input are multiples of it."""
RGB = NDArray[np.uint8]
"""A picture `[H, W, 3] uint8`."""
Density = NDArray[np.float32]
"""Probabilities of the pixels `[H, W]`, which sum to 1."""
LogDensity = NDArray[np.float32]
"""The natural logarithm of a `Density`."""
SaliencyMap = NDArray[np.float32]
"""A density divided by its highest value, `[H, W]`: from 0 to 1, exactly 1 at the most salient
pixel."""


class Part(NamedTuple):
    """Which examples of a joint batch one of several processes has."""

    first: int
    """The number of the first example that its batch holds, from 0."""
    n: int
    """How many it has. If there are none left for it, its batch holds the joint batch's first
    example, which must not count there."""
    total: int
    """How many examples the joint batch has."""


class Features(NamedTuple):
    """What the network computes on its way to the map, `[batch, time, C, h, w]` each.

    The numbers of channels are those of the default network; H x W is the size of its input.
    """

    encoder_8: Any
    """64 channels at H/8 x W/8: the encoder's output that the second skip connection takes."""
    encoder_16: Any
    """160 channels at H/16 x W/16: what the first skip connection takes."""
    encoder_32: Any
    """1280 channels at H/32 x W/32: the encoder's last output, without the priors."""
    before_gru: Any
    """256 channels at H/32 x W/32: what enters the GRU."""
    after_gru: Any
    """256 channels at H/32 x W/32: what the decoder gets, the GRU's output added to its input (or
    in its place, see `res_rnn`). The same as `before_gru` if the GRU is bypassed."""
    before_upsampling: Any
    """64 channels at H/8 x W/8: the decoder's output, whose weighted sum is the map before it is
    enlarged."""
