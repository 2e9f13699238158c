"""Random changes of a training example: picture, map and fixations together.

The paper trains without; this is for data sets that are small beside SALICON.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

from unisal.data.transforms import Box, resize_map, resize_rgb
from unisal.errors import UserError

A = TypeVar("A", bound=np.generic)
MAX_TRIES = 10


@dataclass(frozen=True)
class Augmentation:
    """How far a training example may be changed. Every range is drawn from uniformly.

    Raises:
        UserError: a value that is not from 0 to 1, named.
    """

    flip: float = 0.5
    """Probability of a mirror image."""
    min_crop: float = 0.6
    """The smallest share of the sides (both alike) that is kept and enlarged; 1 turns crops off."""
    brightness: float = 0.2
    """The picture is multiplied by a factor in 1 +- this."""
    contrast: float = 0.2
    """Differences from the mean grey are multiplied by a factor in 1 +- this."""
    saturation: float = 0.2
    """Differences from grey are multiplied by a factor in 1 +- this."""

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not isinstance(value, int | float) or not 0 <= value <= 1:
                raise UserError(f"augment's {name} is {value!r}; it has to be from 0 to 1")
        if self.min_crop == 0:
            raise UserError("augment's min_crop is 0; it has to be above 0")

    def draw(self, rng: np.random.Generator, fixations: NDArray[np.bool_]) -> Change:
        """-> one random change, such that at least one fixation stays in the picture."""
        flip = bool(rng.random() < self.flip)
        brightness, contrast, saturation = (
            float(1.0 + rng.uniform(-amount, amount))
            for amount in (self.brightness, self.contrast, self.saturation)
        )
        for _ in range(MAX_TRIES):
            side = rng.uniform(self.min_crop, 1.0)
            top, left = rng.uniform(0.0, 1.0 - side, size=2)
            window = (float(top), float(left), float(side))
            change = Change(flip, window, brightness, contrast, saturation)
            if change.of_fixations(fixations).any():
                return change
        return Change(flip, (0.0, 0.0, 1.0), brightness, contrast, saturation)


@dataclass(frozen=True)
class Change:
    """One change, applied alike to a picture, its saliency map and its fixations."""

    flip: bool
    window: tuple[float, float, float]
    """(top, left, side) of what is kept, in shares of the picture's sides, before the flip."""
    brightness: float
    contrast: float
    saturation: float

    def of_picture(self, rgb: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
        """-> `[*size, 3] uint8`."""
        picture = self._flipped(resize_rgb(rgb, size, self._box(rgb.shape))).astype(np.float32)
        grey = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)[:, :, None]
        coloured = (grey + (picture - grey) * self.saturation) * self.brightness
        mean = float(grey.mean()) * self.brightness
        coloured = mean + (coloured - mean) * self.contrast
        return np.clip(np.rint(coloured), 0, 255).astype(np.uint8)

    def of_map(self, saliency_map: NDArray[np.float32]) -> NDArray[np.float32]:
        """-> a map of the same size."""
        box = self._box(saliency_map.shape)
        return self._flipped(resize_map(saliency_map, saliency_map.shape, box))

    def of_fixations(self, fixations: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """-> `bool` of the same size. Fixations are points: they move, and neither grow nor
        vanish as the pixels of a picture would."""
        height, width = fixations.shape
        left, top, right, bottom = self._box(fixations.shape)
        ys, xs = np.nonzero(fixations)
        ys = np.floor((ys + 0.5 - top) * (height / (bottom - top))).astype(int)
        xs = np.floor((xs + 0.5 - left) * (width / (right - left))).astype(int)
        inside = (ys >= 0) & (ys < height) & (xs >= 0) & (xs < width)
        moved = np.zeros_like(fixations)
        moved[ys[inside], xs[inside]] = True
        return self._flipped(moved)

    def _box(self, shape: tuple[int, ...]) -> Box:
        """The window in pixels of an array of this shape."""
        top, left, side = self.window
        height, width = shape[:2]
        return (left * width, top * height, (left + side) * width, (top + side) * height)

    def _flipped(self, array: NDArray[A]) -> NDArray[A]:
        return np.ascontiguousarray(array[:, ::-1]) if self.flip else array
