"""Bootstrap tests of two runs or two groups, against classical tests and by hand."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import scipy.stats

from unisal.evaluate.comparisons import MAX_GROUPS, MIN_STIMULI, compare, compare_groups, difference
from unisal.evaluate.scores import Scores

NAN = math.nan


NAMES = ("a", "b", "difference", "low", "high", "p", "n_both", "n_first", "n_second")


def result_of(a, b, seed=0, n=10_000):
    a, b = np.array(a, float), np.array(b, float)
    return dict(zip(NAMES, difference(a, b, np.random.default_rng(seed), n), strict=True))


@pytest.fixture
def of_any_number(monkeypatch):
    """Nothing is refused as too few."""
    monkeypatch.setattr("unisal.evaluate.comparisons.MIN_STIMULI", 1)


def scores(name, columns):
    rows = np.array(columns, float).T
    defined = (~np.isnan(rows)).astype(int)
    titles = tuple(map(str, range(len(rows))))
    return Scores(name, ("nss", "cc"), titles, rows, defined, defined, np.ones(len(rows), int))


@pytest.mark.parametrize("shift", [0.0, 0.1, 0.2, 0.35])
def test_values_of_the_same_stimuli_are_paired(shift):
    rng = np.random.default_rng(1)
    base = rng.normal(2, 3, 60)  # stimuli differ far more than the two sides do
    a, b = base + shift + rng.normal(0, 0.5, 60), base + rng.normal(0, 0.5, 60)
    found, known = result_of(a, b), scipy.stats.ttest_rel(a, b)
    assert found["difference"] == pytest.approx(np.mean(a - b))
    assert found["p"] == pytest.approx(known.pvalue, abs=0.03)
    low, high = known.confidence_interval()
    assert found["low"] == pytest.approx(low, abs=0.03)
    assert found["high"] == pytest.approx(high, abs=0.03)
    assert [found[f"n_{k}"] for k in ("both", "first", "second")] == [60, 0, 0]


@pytest.mark.parametrize("shift", [0.0, 0.3, 0.8])
def test_values_of_different_stimuli_are_not(shift):
    rng = np.random.default_rng(2)
    a, b = np.full(110, NAN), np.full(110, NAN)
    a[:40], b[40:] = rng.normal(shift, 1, 40), rng.normal(0, 1.5, 70)
    found = result_of(a, b)
    known = scipy.stats.ttest_ind(a[:40], b[40:], equal_var=False)
    assert found["p"] == pytest.approx(known.pvalue, abs=0.03)
    low, high = known.confidence_interval()
    assert found["low"] == pytest.approx(low, abs=0.05)
    assert found["high"] == pytest.approx(high, abs=0.05)
    assert [found[f"n_{k}"] for k in ("both", "first", "second")] == [0, 40, 70]


@pytest.mark.usefixtures("of_any_number")
def test_all_resamples_of_a_few_stimuli_are_known():
    a, b = np.array([1.0, 4.0, 2.0]), np.array([0.0, 1.0, 5.0])
    every = [
        np.mean([(a - b)[i] for i in drawn]) for drawn in itertools.product(range(3), repeat=3)
    ]
    found = result_of(a, b, n=50_000)
    share = min(np.mean(np.array(every) <= 0), np.mean(np.array(every) >= 0))
    assert found["p"] == pytest.approx(2 * share, abs=0.01)
    # Each of the 27 has a share of 3.7 %, so the ends are the outermost ones.
    assert (found["low"], found["high"]) == (min(every), max(every))


def test_stimuli_of_one_side_count_beside_those_of_both():
    a, b = [1, 2, 3, 10, NAN, NAN], [0, 2, NAN, NAN, 5, NAN]
    found = result_of(a, b)
    assert found["difference"] == pytest.approx(np.mean([1, 2, 3, 10]) - np.mean([0, 2, 5]))
    assert [found[f"n_{k}"] for k in ("both", "first", "second")] == [2, 2, 1]


def test_a_test_is_as_strict_as_it_says():
    """Where there is no difference, about 5 % of the tests find one at 5 %."""
    rng = np.random.default_rng(3)
    ps = [result_of(*rng.normal(0, 1, (2, 50)), seed=i, n=1000)["p"] for i in range(400)]
    assert np.mean(np.array(ps) < 0.05) == pytest.approx(0.05, abs=0.03)
    assert np.mean(np.array(ps) < 0.5) == pytest.approx(0.5, abs=0.08)


def test_an_interval_without_0_and_a_small_p_go_together():
    rng = np.random.default_rng(4)
    for seed in range(40):
        found = result_of(rng.normal(0.3, 1, 25), rng.normal(0, 1, 25), seed=seed)
        if abs(found["p"] - 0.05) > 0.002:
            assert (found["p"] < 0.05) == (found["low"] > 0 or found["high"] < 0)


def test_the_same_values_do_not_differ():
    values = np.arange(9.0)
    found = result_of(values, values)
    assert (found["difference"], found["low"], found["high"], found["p"]) == (0, 0, 0, 1)


def test_a_few_stimuli_say_nothing():
    values = np.arange(MIN_STIMULI, dtype=float)
    assert result_of(values + 1, values)["p"] < 0.001
    with_gap = values.copy()
    with_gap[3] = NAN
    nobody = np.full(MIN_STIMULI, NAN)
    for a, b in ((values + 1, with_gap), (with_gap, values), ([1.0], [2.0]), (nobody, values)):
        found = result_of(a, b)
        assert math.isnan(found["low"]) and math.isnan(found["high"]) and math.isnan(found["p"])
    assert result_of(with_gap, values)["difference"] == pytest.approx(np.nanmean(with_gap) - 3.5)


def test_a_seed_gives_one_answer():
    rng = np.random.default_rng(5)
    a, b = rng.normal(0, 1, (2, 30))
    assert result_of(a, b, seed=1) == result_of(a, b, seed=1) != result_of(a, b, seed=2)


@pytest.mark.usefixtures("of_any_number")
def test_every_metric_is_compared_and_the_order_is_first_minus_second():
    a, b = scores("A", [[2, 3, 4], [0.1, 0.2, 0.3]]), scores("B", [[1, 1, 1], [0.2, 0.4, 0.3]])
    nss, cc = compare("run", a, b, seed=0)
    assert (nss.metric, nss.first, nss.second, nss.by) == ("nss", "A", "B", "run")
    assert (nss.first_mean, nss.second_mean, nss.difference) == pytest.approx((3, 1, 2))
    assert cc.difference == pytest.approx(-0.1)
    back = compare("run", b, a, seed=0)
    assert [t.difference for t in back] == pytest.approx([-2, 0.1])
    assert [(t.low, t.high, t.p) for t in back] == [
        pytest.approx((-t.high, -t.low, t.p)) for t in (nss, cc)
    ]


def test_every_two_of_a_few_groups_are_compared():
    few = [scores(str(i), [[i, i + 1], [i, i + 2]]) for i in range(3)]
    pairs = [(t.first, t.second) for t in compare_groups("age", few, 0) if t.metric == "cc"]
    assert pairs == [("0", "1"), ("0", "2"), ("1", "2")]
    many = [scores(str(i), [[i, i + 1], [i, i + 2]]) for i in range(MAX_GROUPS + 1)]
    assert list(compare_groups("age", many, 0)) == []
