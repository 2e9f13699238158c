"""What a drawn picture is, and what it is drawn with."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from unisal.types import RGB, Size

Box = tuple[float, float, float, float]
"""(left, top, right, bottom) in pixels."""
Colour = str | tuple[int, int, int]
SCALE = 2
"""Pictures are drawn this many times as large and then made smaller, which smooths their edges."""


class FarPicture(NamedTuple):
    """A picture, and where its target is if it has one."""

    rgb: RGB
    """`[H, W, 3] uint8`."""
    target: Box | None = None
    others: Sequence[Box] = ()
    """The things that the target is among."""


class Pen:
    """Draws in pixels of the picture.

    Args:
        size: (height, width) of the picture.
        paper: its colour.
    """

    def __init__(self, size: Size = (480, 640), paper: Colour = "white") -> None:
        self.size = size
        self._sheet = Image.new("RGB", (size[1] * SCALE, size[0] * SCALE), paper)
        self._draw = ImageDraw.Draw(self._sheet)

    def box(
        self,
        box: Box,
        fill: Colour | None = None,
        outline: Colour | None = None,
        width: float = 2,
        radius: float = 0,
    ) -> None:
        """Draw a rectangle."""
        edge = round(width * SCALE)
        self._draw.rounded_rectangle(_scaled(box), radius * SCALE, fill, outline, edge)

    def oval(
        self,
        box: Box,
        fill: Colour | None = None,
        outline: Colour | None = None,
        width: float = 2,
    ) -> None:
        """Draw an ellipse."""
        self._draw.ellipse(_scaled(box), fill, outline, round(width * SCALE))

    def disc(self, x: float, y: float, radius: float, fill: Colour) -> None:
        """Draw a filled circle."""
        self.oval((x - radius, y - radius, x + radius, y + radius), fill)

    def arc(self, box: Box, start: float, end: float, colour: Colour, width: float = 2) -> None:
        """Draw a part of an ellipse, from an angle in degrees to another, clockwise from right."""
        self._draw.arc(_scaled(box), start, end, colour, round(width * SCALE))

    def line(
        self, points: Sequence[tuple[float, float]], colour: Colour = "black", width: float = 2
    ) -> None:
        """Draw a line through points (x, y)."""
        flat = [coordinate * SCALE for point in points for coordinate in point]
        self._draw.line(flat, colour, round(width * SCALE), "curve")

    def shape(
        self, points: Sequence[tuple[float, float]], fill: Colour, outline: Colour | None = None
    ) -> None:
        """Draw a polygon."""
        flat = [coordinate * SCALE for point in points for coordinate in point]
        self._draw.polygon(flat, fill, outline, 2 * SCALE)

    def text(
        self,
        x: float,
        y: float,
        text: str,
        size: float = 14,
        colour: Colour = "black",
        anchor: str = "la",
    ) -> None:
        """Write text; `anchor` is as in Pillow. The font is Pillow's own, on every machine."""
        font = ImageFont.load_default(size * SCALE)
        self._draw.text((x * SCALE, y * SCALE), text, colour, font, anchor)

    def finish(self, target: Box | None = None, others: Sequence[Box] = ()) -> FarPicture:
        """Return the picture."""
        small = self._sheet.resize(self.size[::-1], Image.Resampling.LANCZOS)
        return FarPicture(np.asarray(small), target, others)


def around(x: float, y: float, radius: float) -> Box:
    """Return the box around a place."""
    return x - radius, y - radius, x + radius, y + radius


def _scaled(box: Box) -> list[float]:
    return [side * SCALE for side in box]
