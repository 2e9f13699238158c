"""Random changes of a training example: picture, map and fixations together.

The paper trains without them; they help with data sets that are much smaller than SALICON.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

from unisal.checks import check_number
from unisal.data.transforms import Box, resize_map, resize_rgb
from unisal.types import RGB, Size

A = TypeVar("A", bound=np.generic)
MAX_TRIES = 10
MAX_BLUR = 1.5
"""The largest standard deviation of a blur, in pixels of the network's input."""
JPEG_QUALITIES = (30, 90)
"""The lowest and the highest quality of a compression."""
HALF_CIRCLE = 180.0
"""In degrees."""


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
    grey: float = 0.0
    """The probability of a grey picture."""
    hue: float = 0.0
    """Hues are turned by an angle of up to this share of half a circle, either way."""
    blur: float = 0.0
    """The probability of a Gaussian blur, with a standard deviation of up to `MAX_BLUR` pixels."""
    jpeg: float = 0.0
    """The probability of a compression as JPEG, with a quality in `JPEG_QUALITIES`."""

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
                return self._with_look(change, rng)
        change = Change(flip, (0.0, 0.0, 1.0), brightness, contrast, saturation)
        return self._with_look(change, rng)

    def _with_look(self, change: Change, rng: np.random.Generator) -> Change:
        """Draw what else happens to the picture; nothing is drawn for what is off.

        It is drawn after all the rest, so that the rest is the same with and without it.
        """
        drawn: dict[str, Any] = {}
        if self.grey and rng.random() < self.grey:
            drawn["saturation"] = 0.0
        if self.hue:
            drawn["hue"] = float(HALF_CIRCLE * rng.uniform(-self.hue, self.hue))
        if self.blur and rng.random() < self.blur:
            drawn["blur"] = float(rng.uniform(0, MAX_BLUR))
        if self.jpeg and rng.random() < self.jpeg:
            drawn["jpeg"] = int(rng.integers(*JPEG_QUALITIES, endpoint=True))
        return replace(change, **drawn) if drawn else change


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
    hue: float = 0.0
    """Degrees by which the hues are turned."""
    blur: float = 0.0
    """Standard deviation of the blur in pixels of the result; 0: none."""
    jpeg: int = 0
    """Quality of the compression; 0: none."""

    def of_picture(self, rgb: RGB, size: Size) -> RGB:
        """Return the changed picture, `[*size, 3] uint8`."""
        picture = self._flipped(resize_rgb(rgb, size, self._box(rgb.shape))).astype(np.float32)
        if self.hue:
            picture = _turned(picture, self.hue)
        grey = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)[:, :, None]
        coloured = (grey + (picture - grey) * self.saturation) * self.brightness
        mean = float(grey.mean()) * self.brightness
        coloured = mean + (coloured - mean) * self.contrast
        if self.blur:
            coloured = np.asarray(cv2.GaussianBlur(coloured, (0, 0), self.blur))
        shown = np.clip(np.rint(coloured), 0, 255).astype(np.uint8)
        return _compressed(shown, self.jpeg) if self.jpeg else shown

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


def _turned(picture: NDArray[np.float32], degrees: float) -> NDArray[np.float32]:
    """Turn the hues of a picture `[H, W, 3]`, 0 to 255; greys stay as they are."""
    hsv = cv2.cvtColor(picture, cv2.COLOR_RGB2HSV)  # hue in degrees, value 0 to 255
    hsv[:, :, 0] = (hsv[:, :, 0] + degrees) % (2 * HALF_CIRCLE)
    return np.asarray(cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB), np.float32)


def _compressed(rgb: RGB, quality: int) -> RGB:
    """Return a picture as it comes out of a JPEG file."""
    _, encoded = cv2.imencode(".jpg", rgb[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
    decoded = np.asarray(cv2.imdecode(encoded, cv2.IMREAD_COLOR))
    return np.ascontiguousarray(decoded[:, :, ::-1])
