"""The means of subsets side by side, laid out as a chart that a page can draw."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from unisal.evaluate.chart import MARGIN, WIDTH, Tick, nice_ticks

LEFT, TOP, HEIGHT = 44, 12, 130
"""The room for the numbers at the left and above, and the height of the axis."""
LABEL_WIDTH, LABEL_LENGTH = 7, 14
"""The width of a letter, and the number of letters after which a label is cut."""
LABELS_HEIGHT = 24


class Point(NamedTuple):
    """A mean with its interval."""

    x: float
    y: float
    low_y: float
    high_y: float
    name: str
    value: float
    n: int


class SubsetChart(NamedTuple):
    """Means with intervals, one beside the other."""

    height: float
    base: float
    points: list[Point]
    line: str
    """SVG path through the points; empty where their order means nothing."""
    ticks: list[Tick]
    """Numbers at the left; `x` is how far down."""
    labels: list[Tick]
    """Names below, those that there is room for."""
    whole_y: float | None
    """How far down the mean over all gaze is."""


def subset_chart(
    names: Sequence[str],
    means: Sequence[float],
    ends: Sequence[tuple[float, float]],
    counts: Sequence[int],
    whole: float,
    ordered: bool,
) -> SubsetChart | None:
    """Lay out the means of subsets.

    Args:
        names: of the subsets.
        means: theirs; NaN where undefined.
        ends: the lower and upper ends of their intervals; NaN where undefined.
        counts: of how many stimuli.
        whole: the mean over all gaze; NaN if undefined.
        ordered: whether a line goes through the points.

    Returns:
        The chart; None if no mean is defined.
    """
    defined = [i for i, mean in enumerate(means) if not math.isnan(mean)]
    if not defined:
        return None
    shown = [v for i in defined for v in (means[i], *ends[i]) if not math.isnan(v)]
    shown += [] if math.isnan(whole) else [whole]
    ticks = nice_ticks(min(shown), max(shown))

    def y(value: float) -> float:
        return TOP + HEIGHT * (ticks[-1] - value) / (ticks[-1] - ticks[0])

    step = (WIDTH - LEFT - MARGIN) / len(names)
    points = []
    for i in defined:
        low, high = (means[i] if math.isnan(end) else end for end in ends[i])
        x = LEFT + (i + 0.5) * step
        points.append(Point(x, y(means[i]), y(low), y(high), names[i], means[i], counts[i]))
    path = "L".join(f"{p.x:.1f} {p.y:.1f}" for p in points)
    return SubsetChart(
        TOP + HEIGHT + LABELS_HEIGHT,
        TOP + HEIGHT,
        points,
        f"M{path}" if ordered and len(points) > 1 else "",
        [Tick(y(v), f"{v:g}") for v in ticks],
        _labels(names, step),
        None if math.isnan(whole) else y(whole),
    )


def _labels(names: Sequence[str], step: float) -> list[Tick]:
    """Return every name, or every second, third, ..., so that none meets another."""
    cut = [n if len(n) <= LABEL_LENGTH else f"{n[: LABEL_LENGTH - 1]}…" for n in names]
    every = max(1, math.ceil((max(map(len, cut)) + 1) * LABEL_WIDTH / step))
    return [Tick(LEFT + (i + 0.5) * step, cut[i]) for i in range(0, len(cut), every)]
