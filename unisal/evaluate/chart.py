"""The distribution of a metric, laid out as a chart that a page can draw."""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

# Sizes in the chart's units.
WIDTH, MARGIN = 360, 20
"""Width of the chart, and the room at its sides."""
BARS_TOP, BARS_HEIGHT, MEAN_TOP = 20, 110, 12
"""Where the highest bar and the line of the mean start, and how high the highest bar is."""
AXIS_HEIGHT, MARK_HEIGHT = 24, 19
"""Heights of the axis, and of a line for another mean."""
MAX_BINS = 30
MAX_RUG_LINES = 500
"""Up to this many values get a line each; if there are more, only the bars are drawn."""
N_TICKS = 5


class HistogramBar(NamedTuple):
    """The number of values between two limits."""

    x: float
    y: float
    width: float
    height: float
    low: float
    high: float
    n: int


class Tick(NamedTuple):
    """A number on the axis."""

    x: float
    text: str


class Mark(NamedTuple):
    """Another mean, on a line of its own."""

    x: float
    y: float
    name: str
    value: float
    at_left: bool
    """Whether its name is on its left, for lack of room."""


class Chart(NamedTuple):
    """A histogram with a mean, its interval, and other means."""

    height: float
    base: float
    """The `y` that the bars stand on."""
    bars: list[HistogramBar]
    rug: str
    """SVG path: a short line per value; empty where there are too many."""
    ticks: list[Tick]
    mean: float
    interval: tuple[float, float]
    """Where the ends of the mean's interval are, in the unit of `x`."""
    marks: list[Mark]
    n: int


def histogram(
    values: NDArray[np.float64],
    mean: float,
    interval: tuple[float, float],
    others: Mapping[str, float],
) -> Chart | None:
    """Lay out a histogram.

    Args:
        values: NaN where undefined.
        mean: mean of the values.
        interval: its lower and upper end.
        others: further means to compare with, by name; those that are NaN are left out.

    Returns:
        The chart; None if no value is defined.
    """
    values = values[~np.isnan(values)]
    if not len(values):
        return None
    others = {name: value for name, value in others.items() if not math.isnan(value)}
    edges = bin_edges(values)
    shown = [*edges, *others.values()]
    ticks = nice_ticks(min(shown), max(shown))
    low, high = ticks[0], ticks[-1]

    def place(value: float) -> float:
        return MARGIN + (value - low) / (high - low) * (WIDTH - 2 * MARGIN)

    counts = np.histogram(values, edges)[0]
    base = BARS_TOP + BARS_HEIGHT
    bars = []
    for (a, b), n in zip(pairwise(edges), counts.tolist(), strict=True):
        height = BARS_HEIGHT * n / counts.max()
        bars.append(HistogramBar(place(a), base - height, place(b) - place(a), height, a, b, n))
    rug = (
        "".join(f"M{place(v):.1f} {base}v5" for v in values) if len(values) <= MAX_RUG_LINES else ""
    )
    # Names are on the inner side. The outer marks come last, so that their lines cross no name.
    outwards = sorted(others.items(), key=lambda item: abs(place(item[1]) - WIDTH / 2))
    marks = [
        Mark(place(v), base + AXIS_HEIGHT + (i + 0.6) * MARK_HEIGHT, name, v, place(v) > WIDTH / 2)
        for i, (name, v) in enumerate(outwards)
    ]
    return Chart(
        base + AXIS_HEIGHT + len(marks) * MARK_HEIGHT,
        base,
        bars,
        rug,
        [Tick(place(v), f"{v:g}") for v in ticks],
        place(mean),
        (place(interval[0]), place(interval[1])),
        marks,
        len(values),
    )


def bin_edges(values: NDArray[np.float64]) -> list[float]:
    """Return the limits of the bars: NumPy's choice for the values, within reason."""
    low, high = float(values.min()), float(values.max())
    if low == high:
        room = max(abs(low), 1) / 20
        return [low - room, high + room]
    edges = np.histogram_bin_edges(values, bins="auto")
    if len(edges) - 1 > MAX_BINS:
        edges = np.histogram_bin_edges(values, bins=MAX_BINS)
    return edges.tolist()


def nice_ticks(low: float, high: float) -> list[float]:
    """Return equally spaced round numbers that enclose `low` and `high`."""
    span = (high - low) or max(abs(low), 1) / 10
    power = 10.0 ** math.floor(math.log10(span / N_TICKS))
    step = next(m * power for m in (1, 2, 5, 10) if m * power >= span / N_TICKS)
    first = math.floor(low / step)
    last = max(math.ceil(high / step), first + 1)
    digits = max(0, -math.floor(math.log10(step)))
    return [round(i * step, digits) for i in range(first, last + 1)]
