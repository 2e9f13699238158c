"""The charts of the report: places that keep the values' distances."""

from __future__ import annotations

import math

import numpy as np
import pytest

from unisal.evaluate.chart import MARGIN, MAX_BINS, MAX_RUG_LINES, WIDTH, histogram, nice_ticks


def value_at(chart, x):
    """Read a place back, by the first and the last number on the axis."""
    (x0, a), (x1, b) = ((t.x, float(t.text)) for t in (chart.ticks[0], chart.ticks[-1]))
    return a + (x - x0) / (x1 - x0) * (b - a)


def test_everything_stands_at_its_value():
    values = np.random.default_rng(0).normal(0.8, 0.1, 80)
    values[3] = math.nan
    others = {"chance": 0.1, "centre bias": 0.4, "nobody": math.nan}
    chart = histogram(values, 0.79, (0.77, 0.81), others)
    values = values[~np.isnan(values)]
    assert chart.n == 79
    assert value_at(chart, chart.mean) == pytest.approx(0.79)
    assert [value_at(chart, x) for x in chart.interval] == pytest.approx([0.77, 0.81])
    marks = {mark.name: value_at(chart, mark.x) for mark in chart.marks}
    assert marks == {"chance": pytest.approx(0.1), "centre bias": pytest.approx(0.4)}
    for tick in chart.ticks:
        assert value_at(chart, tick.x) == pytest.approx(float(tick.text), abs=1e-9)
    highest = max(bar.n for bar in chart.bars)
    for bar in chart.bars:
        low, high = value_at(chart, bar.x), value_at(chart, bar.x + bar.width)
        assert [low, high] == pytest.approx([bar.low, bar.high], abs=1e-9)
        assert bar.y + bar.height == pytest.approx(chart.base)
        assert bar.height / chart.bars[0].height == pytest.approx(bar.n / chart.bars[0].n)
        last = bar is chart.bars[-1]
        inside = (values >= bar.low) & ((values <= bar.high) if last else (values < bar.high))
        assert bar.n == inside.sum()
    assert sum(bar.n for bar in chart.bars) == 79
    assert highest > 1
    rug = [float(part.split()[0]) for part in chart.rug.split("M")[1:]]
    np.testing.assert_allclose([value_at(chart, x) for x in rug], values, atol=0.003)
    places = [x for bar in chart.bars for x in (bar.x, bar.x + bar.width)]
    places += [mark.x for mark in chart.marks] + [tick.x for tick in chart.ticks]
    assert min(places) >= MARGIN - 1e-9
    assert max(places) <= WIDTH - MARGIN + 1e-9


def test_no_line_of_a_mark_crosses_the_name_of_one_above_it():
    others = {str(v): v for v in (0.05, 0.2, 0.3, 0.7, 0.8, 0.95)}
    chart = histogram(np.array([0.0, 1.0]), 0.5, (0.4, 0.6), others)
    rows = sorted(chart.marks, key=lambda mark: mark.y)
    assert len({mark.y for mark in rows}) == 6
    for i, upper in enumerate(rows):
        towards_the_middle = -1 if upper.at_left else 1
        for lower in rows[i + 1 :]:
            if lower.at_left == upper.at_left:
                assert (lower.x - upper.x) * towards_the_middle < 0


@pytest.mark.parametrize("values", [[0.8], [0.8] * 5, [0.0], [-2.0, math.nan]])
def test_values_that_are_all_alike_make_one_bar(values):
    mean = values[0]
    chart = histogram(np.array(values), mean, (mean, mean), {})
    (bar,) = chart.bars
    assert bar.low < mean < bar.high
    assert bar.x < chart.mean < bar.x + bar.width


def test_many_values_make_few_bars_and_no_rug():
    values = np.random.default_rng(0).standard_cauchy(MAX_RUG_LINES + 1)
    chart = histogram(values, 0.0, (-1.0, 1.0), {})
    assert len(chart.bars) <= MAX_BINS
    assert chart.rug == ""


def test_nothing_defined_is_no_chart():
    assert histogram(np.array([math.nan, math.nan]), math.nan, (math.nan, math.nan), {}) is None


@pytest.mark.parametrize("seed", range(20))
def test_ticks_are_few_round_numbers_around_the_values(seed):
    rng = np.random.default_rng(seed)
    low = rng.normal() * 10.0 ** rng.integers(-3, 4)
    high = low + rng.exponential() * 10.0 ** rng.integers(-3, 4)
    ticks = nice_ticks(low, high)
    assert ticks[0] <= low
    assert ticks[-1] >= high
    assert 2 <= len(ticks) <= 8
    steps = np.diff(ticks)
    np.testing.assert_allclose(steps, steps[0], rtol=1e-6)
    assert round(steps[0] / 10 ** math.floor(math.log10(steps[0] * 1.001)), 6) in (1, 2, 5)
