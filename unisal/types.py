"""Types that several rooms share, each with a single meaning."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Size = tuple[int, int]
"""(height, width) in pixels."""
RGB = NDArray[np.uint8]
"""A picture `[H, W, 3] uint8`."""
Density = NDArray[np.float32]
"""Probabilities of the pixels `[H, W]`, which sum to 1."""
LogDensity = NDArray[np.float32]
"""The natural logarithm of a `Density`."""
SaliencyMap = NDArray[np.float32]
"""A density divided by its highest value, `[H, W]`: from 0 to 1, exactly 1 at the most salient
pixel."""
