"""Random changes of a training example: picture, map and fixations together.

The paper trains without them; they help with data sets that are much smaller than SALICON.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

from unisal.checks import check_number
from unisal.data.transforms import Box, resize_map, resize_rgb
from unisal.types import RGB, Size

A = TypeVar("A", bound=np.generic)
MAX_TRIES = 10


@dataclass(frozen=True)
class Augmentation:
    """How much a training example may be changed. All draws are uniform over their range.

    Raises:
        UserError: a value is not from 0 to 1; names it.
    """

    flip: float = 0.5
    """The probability of a mirror image."""
    min_crop: float = 0.6
    """The smallest share of both sides that a crop keeps and enlarges; 1 turns crops off."""
    brightness: float = 0.2
    """The picture is multiplied by a factor in 1 +- this."""
    contrast: float = 0.2
    """Differences from the mean grey are multiplied by a factor in 1 +- this."""
    saturation: float = 0.2
    """Differences from grey are multiplied by a factor in 1 +- this."""

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            check_number(value, f"augment's {name}", largest=1, above=name == "min_crop")

    def draw(self, rng: np.random.Generator, fixations: NDArray[np.bool_]) -> Change:
        """Draw a random change that keeps at least one fixation in the picture.

        Args:
            rng: where to draw from.
            fixations: `[h, w] bool`.
        """
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
    """A change that is applied to a picture, its saliency map and its fixations."""

    flip: bool
    window: tuple[float, float, float]
    """(top, left, side) of the part that is kept, as shares of the picture's sides, before the
    flip."""
    brightness: float
    contrast: float
    saturation: float

    def of_picture(self, rgb: RGB, size: Size) -> RGB:
        """Return the changed picture, `[*size, 3] uint8`."""
        picture = self._flipped(resize_rgb(rgb, size, self._box(rgb.shape))).astype(np.float32)
        grey = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)[:, :, None]
        coloured = (grey + (picture - grey) * self.saturation) * self.brightness
        mean = float(grey.mean()) * self.brightness
        coloured = mean + (coloured - mean) * self.contrast
        return np.clip(np.rint(coloured), 0, 255).astype(np.uint8)

    def of_map(self, saliency_map: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the changed map, of the same size."""
        box = self._box(saliency_map.shape)
        return self._flipped(resize_map(saliency_map, saliency_map.shape, box))

    def of_fixations(self, fixations: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Return the changed fixations, of the same size.

        Fixations are points: they move, and neither grow nor vanish as the pixels of a picture
        would.
        """
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
        """Return the window in pixels of an array of this shape."""
        top, left, side = self.window
        height, width = shape[:2]
        return (left * width, top * height, (left + side) * width, (top + side) * height)

    def _flipped(self, array: NDArray[A]) -> NDArray[A]:
        """Return an array mirrored if the change is a mirror image."""
        return np.ascontiguousarray(array[:, ::-1]) if self.flip else array
