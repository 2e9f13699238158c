"""The metrics as their definitions say: a loop over pixels, thresholds or draws.

Shares no code with the package. The arrays are 2D; fixation maps are not 0 where fixated.
"""

from __future__ import annotations

import itertools
import math

import numpy as np


def kld(log_p, t):
    return math.fsum(
        b * (math.log(b) - a) for a, b in zip(_floats(log_p), _floats(t), strict=True) if b > 0
    )


def nss(p, fixations):
    values = _floats(p)
    mean = math.fsum(values) / len(values)
    std = math.sqrt(math.fsum((v - mean) ** 2 for v in values) / (len(values) - 1))
    scores = [(v - mean) / std for v, f in zip(values, fixations.flat, strict=True) if f]
    return math.fsum(scores) / len(scores)


def cc(p, t):
    xs, ys = _floats(p), _floats(t)
    mx, my = math.fsum(xs) / len(xs), math.fsum(ys) / len(ys)
    products = math.fsum((x - mx) * (y - my) for x, y in zip(xs, ys, strict=True))
    squares = [math.fsum((v - m) ** 2 for v in values) for values, m in ((xs, mx), (ys, my))]
    return products / math.sqrt(squares[0] * squares[1])


def sim(p, t):
    xs, ys = _floats(p), _floats(t)
    total_x, total_y = math.fsum(xs), math.fsum(ys)
    return math.fsum(min(x / total_x, y / total_y) for x, y in zip(xs, ys, strict=True))


def information_gain(log_p, log_b, fixations):
    places = zip(_floats(log_p), _floats(log_b), fixations.flat, strict=True)
    gains = [(a - b) / math.log(2) for a, b, f in places if f]
    return math.fsum(gains) / len(gains)


def auc_judd(p, fixations, exact=False):
    p, is_fixated = unit_range(p), fixations != 0
    fixated, others = p[is_fixated], p[~is_fixated]
    points = [(0.0, 0.0)]
    for threshold in sorted(set(fixated)):
        tp, fp = (fixated >= threshold).mean(), (others >= threshold).mean()
        points.append((fp, tp) if exact else (np.round(fp, 4), np.round(tp, 4)))
    points.append((1.0, 1.0))
    points.sort(key=lambda point: point[1])  # stable
    return trapezoids(points)


def auc_shuffled(p, fixations, other_fixations, n_splits, step_size, rng):
    p = unit_range(p)
    fixated, others = p[fixations != 0], np.flatnonzero(other_fixations)
    areas = []
    for _ in range(n_splits):
        drawn = rng.permutation(others)[: len(fixated)]
        areas.append(shuffled_area(fixated, p.flat[drawn], step_size))
    return sum(areas) / len(areas)


def expected_auc_shuffled(p, fixations, other_fixations, step_size):
    """The mean over all possible draws, one after the other: for few fixations only."""
    p = unit_range(p)
    fixated, others = p[fixations != 0], p[other_fixations != 0]
    draws = itertools.combinations(others, min(len(fixated), len(others)))
    areas = [shuffled_area(fixated, np.array(drawn), step_size) for drawn in draws]
    return math.fsum(areas) / len(areas)


def shuffled_area(fixated, drawn, step_size):
    """Area of one draw; thresholds are 0, step_size ... below the largest value."""
    fixated, drawn = fixated.astype(np.float64), drawn.astype(np.float64)
    largest = max(fixated.max(), drawn.max())
    points = [(1.0, 1.0)]
    threshold, k = 0.0, 0
    while threshold < largest:
        points.append(((drawn >= threshold).mean(), (fixated >= threshold).mean()))
        k += 1
        threshold = k * step_size
    points.append((0.0, 0.0))
    return trapezoids(points[::-1])


def unit_range(p):
    """Min-max normalised in its dtype; a constant map becomes 0."""
    low, high = p.min(), p.max()
    return (p - low) / (high - low) if high > low else np.zeros_like(p)


def trapezoids(points):
    """`(x, y)` each -> the area under them."""
    return sum((x2 - x1) * (y1 + y2) / 2 for (x1, y1), (x2, y2) in itertools.pairwise(points))


def _floats(values):
    return [float(v) for v in values.flat]
