"""A curve with intervals over a number that doubles from point to point."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from unisal.types import RGB

WIDTH, HEIGHT = 720, 440
LEFT, RIGHT, TOP, BOTTOM = 84, 32, 56, 72
"""The room around the axes, in pixels."""
TEXT_SIZE, TITLE_SIZE = 17, 19
SCALE = 2
"""It is drawn so many times as large and then shrunk, so that lines are smooth."""
PAPER, INK, FAINT = (255, 255, 255), (40, 40, 40), (215, 215, 215)
LINE, BAND = (31, 90, 160), (203, 221, 240)
N_TICKS = 5
ROOM = 0.06
"""The share of the range of values that is left free above and below."""


class CurvePoint(NamedTuple):
    """A number with its mean value and the interval of that."""

    n: int
    mean: float
    low: float
    high: float


@dataclass(frozen=True)
class Curve:
    """What is drawn.

    Attributes:
        title: above the axes.
        x_label: below them.
        y_label: at their upper left.
        points: in the order of their numbers, which are positive.
        level: a value to compare with, drawn as a broken line.
        level_label: what it is.
    """

    title: str
    x_label: str
    y_label: str
    points: Sequence[CurvePoint]
    level: float
    level_label: str


def draw_curve(curve: Curve) -> RGB:
    """Draw a curve.

    Args:
        curve: what to draw.

    Returns:
        `[HEIGHT, WIDTH, 3] uint8`.
    """
    image = Image.new("RGB", (WIDTH * SCALE, HEIGHT * SCALE), PAPER)
    axes = _Axes(curve)
    pen = ImageDraw.Draw(image)
    _draw_grid(pen, axes, curve)
    _draw_values(pen, axes, curve)
    return np.asarray(image.resize((WIDTH, HEIGHT), Image.Resampling.LANCZOS))


class _Axes:
    """Where values lie on the large picture."""

    def __init__(self, curve: Curve) -> None:
        self.numbers = [point.n for point in curve.points]
        values = [v for point in curve.points for v in point[1:]] + [curve.level]
        span = (max(values) - min(values)) or 0.1
        self.ticks = _ticks(min(values) - ROOM * span, max(values) + ROOM * span)

    def x(self, n: float) -> float:
        first, last = (math.log(end) for end in (self.numbers[0], self.numbers[-1]))
        share = (math.log(n) - first) / ((last - first) or 1)
        return SCALE * (LEFT + 24 + share * (WIDTH - LEFT - RIGHT - 48))

    def y(self, value: float) -> float:
        share = (value - self.ticks[0]) / (self.ticks[-1] - self.ticks[0])
        return SCALE * (HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM))


def _draw_grid(pen: ImageDraw.ImageDraw, axes: _Axes, curve: Curve) -> None:
    """Draw the title, the labels, and a line for each number on the axes."""
    small, large = font(TEXT_SIZE), font(TITLE_SIZE)
    left, right = SCALE * LEFT, SCALE * (WIDTH - RIGHT)
    decimals = max(0, -math.floor(math.log10(axes.ticks[1] - axes.ticks[0]) + 1e-9))
    for tick in axes.ticks:
        y = axes.y(tick)
        pen.line([(left, y), (right, y)], FAINT, SCALE)
        text = f"{tick:.{decimals}f}"
        pen.text((left - 8 * SCALE, y), text, INK, small, anchor="rm")
    below = SCALE * (HEIGHT - BOTTOM)
    for n in axes.numbers:
        pen.text((axes.x(n), below + 8 * SCALE), f"{n}", INK, small, anchor="ma")
    middle = SCALE * (LEFT + WIDTH - RIGHT) / 2
    pen.text((middle, SCALE * (HEIGHT - 16)), curve.x_label, INK, small, anchor="ms")
    pen.text((left, SCALE * 30), f"{curve.y_label}: {curve.title}", INK, large, anchor="ls")


def _draw_values(pen: ImageDraw.ImageDraw, axes: _Axes, curve: Curve) -> None:
    """Draw the level, the band of the intervals, the line of the means, and the points."""
    points = curve.points
    upper = [(axes.x(p.n), axes.y(p.high)) for p in points]
    lower = [(axes.x(p.n), axes.y(p.low)) for p in points]
    if len(points) > 1:
        pen.polygon([*upper, *reversed(lower)], BAND)
    y, right = axes.y(curve.level), SCALE * (WIDTH - RIGHT)
    for x in range(SCALE * LEFT, right, 12 * SCALE):
        pen.line([(x, y), (min(x + 7 * SCALE, right), y)], INK, SCALE)
    label = (right, y - 5 * SCALE)
    pen.text(label, curve.level_label, INK, font(TEXT_SIZE), anchor="rs")
    pen.line([(axes.x(p.n), axes.y(p.mean)) for p in points], LINE, 3 * SCALE)
    for point, top, bottom in zip(points, upper, lower, strict=True):
        pen.line([top, bottom], LINE, 2 * SCALE)
        centre, r = (axes.x(point.n), axes.y(point.mean)), 5 * SCALE
        pen.ellipse([*(c - r for c in centre), *(c + r for c in centre)], LINE)


def _ticks(low: float, high: float) -> list[float]:
    """Return round numbers at equal distances, the outer ones at or beyond the ends."""
    power = 10.0 ** math.floor(math.log10((high - low) / N_TICKS))
    step = next(m * power for m in (1, 2, 5, 10) if m * power >= (high - low) / N_TICKS)
    first, last = math.floor(low / step), math.ceil(high / step)
    return [round(i * step, 10) for i in range(first, max(last, first + 1) + 1)]


def font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """Return the font of a size, on the large picture."""
    return ImageFont.load_default(size * SCALE)
