"""The metrics against plain loops, the published values and the official Matlab values."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from support import SHARED

from unisal.evaluate import metrics

SHAPES = [(1, 2), (6, 9), (33, 17)]
CASES = ("typical_60x80", "single_fixation", "ties_plateau", "peaked")
OURS = ("kld", "nss", "cc", "sim")
PUBLISHED = dict(zip(OURS, ("kld_loss", "nss", "corr_coeff", "similarity"), strict=True))


def plain_kld(log_p, t):
    return sum(
        b * (math.log(b) - a) for a, b in zip(log_p.flat, map(float, t.flat), strict=True) if b > 0
    )


def plain_nss(p, fixations):
    values = [float(v) for v in p.flat]
    mean = sum(values) / len(values)
    std = math.sqrt(sum((v - mean) ** 2 for v in values) / (len(values) - 1))
    scores = [(v - mean) / std for v, f in zip(values, fixations.flat, strict=True) if f]
    return sum(scores) / len(scores)


def plain_cc(p, t):
    xs, ys = [float(v) for v in p.flat], [float(v) for v in t.flat]
    mx, my = sum(xs) / len(xs), sum(ys) / len(ys)
    products = sum((x - mx) * (y - my) for x, y in zip(xs, ys, strict=True))
    return products / math.sqrt(sum((x - mx) ** 2 for x in xs) * sum((y - my) ** 2 for y in ys))


def plain_sim(p, t):
    return sum(min(float(a), float(b)) for a, b in zip(p.flat, t.flat, strict=True))


def random_maps(shape, dtype, seed=0):
    """-> two densities, the second with zeros in it, and fixations."""
    rng = np.random.default_rng(seed)
    p, t = rng.random(shape) ** 3 + 1e-3, rng.random(shape) ** 3
    t.flat[0] = 0
    fixations = rng.random(shape) > 0.7
    fixations.flat[-1] = True
    return (p / p.sum()).astype(dtype), (t / t.sum()).astype(dtype), fixations


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_metrics_equal_plain_loops(shape, dtype):
    p, t, fixations = random_maps(shape, dtype)
    expected = [
        plain_kld(np.log(p), t),
        plain_nss(p, fixations),
        plain_cc(p, t),
        plain_sim(p, t),
    ]
    given = [
        metrics.kld(np.log(p), t),
        metrics.nss(p, fixations),
        metrics.cc(p, t),
        metrics.sim(p, t),
    ]
    assert given == pytest.approx(expected, rel=1e-6 if dtype == np.float32 else 1e-10)


@pytest.fixture(scope="module")
def reference():
    folder = SHARED / "reference"
    if not (folder / "metrics.json").is_file():
        pytest.skip("the reference values are on the developers' machines only")
    with np.load(folder / "metrics.npz") as arrays:
        return json.loads((folder / "metrics.json").read_text()), dict(arrays)


def ours_on_reference(arrays, case):
    p, fixations, gt, log_p = (arrays[f"{case}__{k}"] for k in ("pred", "fix", "gt", "logp"))
    t = gt.astype(np.float64) / gt.sum(dtype=np.float64)
    return {
        "kld": metrics.kld(log_p, t),
        "nss": metrics.nss(p, fixations),
        "cc": metrics.cc(p, t),
        "sim": metrics.sim(p, t),
    }


@pytest.mark.parametrize("case", CASES)
def test_metrics_equal_the_published_code(reference, case):
    values, arrays = reference
    expected = {name: values[case]["published"][key] for name, key in PUBLISHED.items()}
    assert ours_on_reference(arrays, case) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize(("ours", "matlab"), [("nss", "NSS"), ("cc", "CC")])
def test_nss_and_cc_equal_the_official_matlab_code(reference, case, ours, matlab):
    values, arrays = reference
    expected = values[case]["official_matlab"][matlab]
    assert ours_on_reference(arrays, case)[ours] == pytest.approx(expected, rel=1e-9)


def test_a_perfect_prediction_has_the_best_scores():
    p, _, _ = random_maps((6, 9), np.float64)
    assert metrics.kld(np.log(p), p) == pytest.approx(0, abs=1e-12)
    assert metrics.cc(p, p) == pytest.approx(1)
    assert metrics.sim(p, p) == pytest.approx(1)


def test_the_opposite_prediction_has_the_worst_cc_and_disjoint_ones_no_similarity():
    p, _, _ = random_maps((6, 9), np.float64)
    assert metrics.cc(p, p.max() - p) == pytest.approx(-1)
    left, right = np.zeros((2, 6, 8))
    left[:, :4], right[:, 4:] = 1 / 24, 1 / 24
    assert metrics.sim(left, right) == 0


def test_kld_has_no_epsilon():
    # Where the prediction is impossible, the divergence is infinite; where t = 0, nothing counts.
    log_p = np.log(
        np.array([[0.5, 0.5, 0.0]]), where=[[True, True, False]], out=np.full((1, 3), -np.inf)
    )
    assert metrics.kld(log_p, np.array([[0.0, 0.5, 0.5]])) == math.inf
    assert metrics.kld(log_p, np.array([[0.0, 1.0, 0.0]])) == pytest.approx(math.log(2))


@pytest.mark.parametrize("scale", [1, 255])
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_fixations_may_be_of_any_scale(scale, dtype):
    p, _, fixations = random_maps((6, 9), np.float32)
    assert metrics.nss(p, (fixations * scale).astype(dtype)) == metrics.nss(p, fixations)


def test_without_fixations_there_is_no_nss():
    p, _, _ = random_maps((6, 9), np.float32)
    assert math.isnan(metrics.nss(p, np.zeros((6, 9), bool)))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", [(6, 9), (7, 9), (33, 17), (48, 64)], ids=str)
@pytest.mark.parametrize("value", [0.0, 0.1, 0.7, 1.0, None])
def test_a_constant_map_has_neither_nss_nor_cc(shape, dtype, value):
    _, t, fixations = random_maps(shape, np.float64)
    # None: the uniform density. Its mean is not exact in floating point, so nor is p - mean.
    constant = np.full(shape, 1 / t.size if value is None else value, dtype)
    assert math.isnan(metrics.nss(constant, fixations))
    assert math.isnan(metrics.cc(constant, t))
    assert math.isnan(metrics.cc(t, constant))


def test_a_single_pixel_has_neither_nss_nor_cc(recwarn):
    one = np.ones((1, 1), np.float32)
    assert math.isnan(metrics.nss(one, one.astype(bool)))
    assert math.isnan(metrics.cc(one, one))
    assert metrics.sim(one, one) == 1
    assert not recwarn.list


def test_metrics_leave_their_arguments_alone():
    p, t, fixations = random_maps((6, 9), np.float32)
    copies = [p.copy(), t.copy(), fixations.copy()]
    metrics.nss(p, fixations), metrics.cc(p, t), metrics.sim(p, t), metrics.kld(np.log(p), t)
    for now, before in zip((p, t, fixations), copies, strict=True):
        np.testing.assert_array_equal(now, before)
