"""Calibration as a picture: how many fixations lie where how much of the prediction lies."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from unisal.types import RGB
from unisal.visualize.curve import FAINT, INK, PAPER, SCALE, TEXT_SIZE, TITLE_SIZE, font

SIDE, MARGIN, TOP = 520, 72, 56
"""Width and height, and the room around the axes, in pixels."""
COLOURS = ((31, 90, 160), (196, 88, 32), (46, 125, 50), (123, 61, 145), (90, 90, 90))
"""Those of the lines, in turn."""
BAND_OPACITY = 60
"""That of the intervals, of 255."""
N_TICKS = 5


class CalibrationLine(NamedTuple):
    """What one data set adds to the picture."""

    levels: NDArray[np.float64]
    """`[n]`, the shares of the prediction, from 0 to 1."""
    shares: NDArray[np.float64]
    """`[n]`, the shares of the fixations."""
    interval: NDArray[np.float64]
    """`[2, n]`, their lower and upper ends."""


def draw_calibration(title: str, lines: Mapping[str, CalibrationLine]) -> RGB:
    """Draw the shares of the fixations over those of the prediction, with the diagonal.

    Args:
        title: above the axes.
        lines: those of the data sets, by their names.

    Returns:
        `[SIDE, SIDE, 3] uint8`.
    """
    image = Image.new("RGB", (SIDE * SCALE, SIDE * SCALE), PAPER)
    pen = ImageDraw.Draw(image, "RGBA")
    _draw_axes(pen, title)
    small = font(TEXT_SIZE)
    for number, (name, line) in enumerate(lines.items()):
        colour = COLOURS[number % len(COLOURS)]
        low, high = (_points(line.levels, end) for end in line.interval)
        pen.polygon([*low, *reversed(high)], (*colour, BAND_OPACITY))
        pen.line(_points(line.levels, line.shares), colour, 3 * SCALE)
        place = _place(0.03, 0.97 - 0.06 * number)
        pen.text(place, name, colour, small, anchor="lm")
    return np.asarray(image.resize((SIDE, SIDE), Image.Resampling.LANCZOS))


def _draw_axes(pen: ImageDraw.ImageDraw, title: str) -> None:
    small = font(TEXT_SIZE)
    for share in np.linspace(0, 1, N_TICKS + 1).tolist():
        text = f"{100 * share:.0f} %"
        pen.line([_place(share, 0), _place(share, 1)], FAINT, SCALE)
        pen.line([_place(0, share), _place(1, share)], FAINT, SCALE)
        x, y = _place(share, 0)
        pen.text((x, y + 8 * SCALE), text, INK, small, anchor="ma")
        x, y = _place(0, share)
        pen.text((x - 8 * SCALE, y), text, INK, small, anchor="rm")
    pen.line([_place(0, 0), _place(1, 1)], INK, SCALE)
    below = SCALE * SIDE / 2, SCALE * (SIDE - 14)
    pen.text(below, "share of the prediction", INK, small, anchor="ms")
    above = SCALE * MARGIN, SCALE * 30
    pen.text(above, f"Share of the fixations: {title}", INK, font(TITLE_SIZE), anchor="ls")


def _place(x: float, y: float) -> tuple[float, float]:
    """Return where a point of the axes lies on the large picture."""
    width, height = SIDE - MARGIN - 32, SIDE - MARGIN - TOP
    return SCALE * (MARGIN + x * width), SCALE * (SIDE - MARGIN - y * height)


def _points(x: NDArray[np.float64], y: NDArray[np.float64]) -> list[tuple[float, float]]:
    return [_place(*pair) for pair in zip(x.tolist(), y.tolist(), strict=True)]
