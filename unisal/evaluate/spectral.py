"""The spectral residual: what stands out in a picture, without any learning.

X. Hou, L. Zhang, "Saliency Detection: A Spectral Residual Approach", CVPR 2007.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import gaussian_filter, uniform_filter

from unisal.data import SaliencyDataset
from unisal.evaluate.baselines import UNIFORM_SHARE, Baseline, uniform_density
from unisal.evaluate.gaze import Gaze
from unisal.types import RGB, LogDensity
from unisal.visualize.panels import resize

SPECTRAL_RESIDUAL = "spectral residual"
WIDTH = 64
"""The width in pixels at which the spectrum is taken, as in the paper."""
AVERAGED = 3
"""The side of the square over which the log spectrum is averaged."""


class SpectralResidual(Baseline):
    """Predicts that people look at what is unusual in the spectrum of the picture.

    The map is blurred as the ground truth's maps are.

    Args:
        gaze: that of the scored part, whose blur is taken.
    """

    def __init__(self, gaze: Gaze) -> None:
        super().__init__()
        self._gaze = gaze

    def predict(self, dataset: SaliencyDataset, index: int, number: int = 1) -> LogDensity:
        size = dataset.target_size(index)
        saliency = spectral_residual(dataset.read_picture(index, number))
        scale = np.array(saliency.shape) / size
        blurred = gaussian_filter(saliency, scale * self._gaze.blur(index), mode="nearest")
        enlarged = np.maximum(resize(blurred.astype(np.float32), size), 0).astype(np.float64)
        total, uniform = enlarged.sum(), uniform_density(size)
        if not total > 0:
            return np.log(uniform).astype(np.float32)
        density = (1 - UNIFORM_SHARE) * enlarged / total + UNIFORM_SHARE * uniform
        return np.log(density).astype(np.float32)


def spectral_residual(rgb: RGB) -> NDArray[np.float64]:
    """Return the squared magnitude of a picture with only the residual of its spectrum.

    Args:
        rgb: `[H, W, 3] uint8`.

    Returns:
        `[h, 64]`, from 0, not blurred; 0 everywhere for a picture of one colour.
    """
    height = max(1, round(WIDTH * rgb.shape[0] / rgb.shape[1]))
    small = Image.fromarray(rgb).convert("L").resize((WIDTH, height), Image.Resampling.BILINEAR)
    grey = np.asarray(small, np.float64)
    if grey.min() == grey.max():
        return np.zeros_like(grey)
    spectrum = np.fft.fft2(grey)
    amplitude = np.abs(spectrum)
    # An amplitude of 0 has no logarithm; rounding alone makes amplitudes of this order.
    log_amplitude = np.log(np.maximum(amplitude, amplitude.max() * np.finfo(np.float64).eps))
    residual = log_amplitude - uniform_filter(log_amplitude, AVERAGED, mode="nearest")
    alone = np.fft.ifft2(np.exp(residual + 1j * np.angle(spectrum)))
    saliency: NDArray[np.float64] = np.abs(alone) ** 2
    return saliency
