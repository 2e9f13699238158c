"""The metrics against plain loops, the published values and the official Matlab values."""

from __future__ import annotations

import json
import math

import numpy as np
import plain_metrics as plain
import pytest
import torch
from support import PROJECT

from unisal.evaluate import metrics

SHAPES = [(1, 2), (6, 9), (33, 17)]
CASES = ("typical_60x80", "single_fixation", "ties_plateau", "peaked")
OURS = ("kld", "nss", "cc", "sim")
PUBLISHED = dict(zip(OURS, ("kld_loss", "nss", "corr_coeff", "similarity"), strict=True))
EXACTLY = {"rel": 1e-12, "abs": 1e-12}

MAPS = {
    "random": lambda u: u,
    "ties": lambda u: np.floor(4 * u),
    "plateau": lambda u: np.where(u < 0.8, 0.25, u),
    "rounded_to_thresholds": lambda u: np.round(u, 1),
    "multiples_of_thresholds": lambda u: np.floor(11 * u) * 0.1,
    "half_is_mostly_the_largest": lambda u: np.where(u > 0.9, 1, np.floor(3.3 * u) / 4),
    "mostly_zero": lambda u: np.where(u < 0.8, 0, u),
    "two_values": lambda u: np.where(u < 0.5, 0.2, 0.7),
    "peaked": lambda u: np.exp(-60 * u),
    "subnormal": lambda u: np.exp(-104 * u),
    "subnormal_to_large": lambda u: np.exp(-104 * u) * 200,
    "tiny": lambda u: 1e-30 * u,
    "offset": lambda u: 200 + np.floor(40 * u) * 2.0**-16,
    "large": lambda u: 1e6 * u,
    "negative": lambda u: u - 3,
    "minus_zero": lambda u: np.where(u < 0.3, -0.0, np.where(u < 0.6, 0.0, u)),
}
"""Maps from random numbers in [0, 1), ordinary ones and such that are hard to get right."""


def random_maps(shape, dtype, seed=0):
    """Return two densities, the second with zeros in it, and fixations."""
    rng = np.random.default_rng(seed)
    p, t = rng.random(shape) ** 3 + 1e-3, rng.random(shape) ** 3
    t.flat[0] = 0
    fixations = rng.random(shape) > 0.7
    fixations.flat[-1] = True
    return (p / p.sum()).astype(dtype), (t / t.sum()).astype(dtype), fixations


def fixate(rng, shape, n):
    """Return `n` fixated pixels at random."""
    fixations = np.zeros(math.prod(shape), bool)
    fixations[rng.choice(fixations.size, n, replace=False)] = True
    return fixations.reshape(shape)


def hard_maps(name, dtype, n=12):
    """Yield maps of a kind, with fixations and others: one, few, nearly all."""
    rng = np.random.default_rng(1)
    for shape in [(2, 3), (7, 5), (13, 21)]:
        for _ in range(n // 3):
            p = MAPS[name](rng.random(shape)).astype(dtype)
            counts = rng.choice([1, 2, math.prod(shape) // 2, math.prod(shape) - 1], 2)
            yield p, *(fixate(rng, shape, k) for k in counts)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_metrics_equal_plain_loops(shape, dtype):
    p, t, fixations = random_maps(shape, dtype)
    baseline = np.log(random_maps(shape, dtype, seed=1)[0])
    expected = [
        plain.kld(np.log(p), t),
        plain.nss(p, fixations),
        plain.cc(p, t),
        plain.sim(p, t),
        plain.information_gain(np.log(p), baseline, fixations),
    ]
    given = [
        metrics.kld(np.log(p), t),
        metrics.nss(p, fixations),
        metrics.cc(p, t),
        metrics.sim(p, t),
        metrics.information_gain(np.log(p), baseline, fixations),
    ]
    assert given == pytest.approx(expected, **EXACTLY)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", sorted(set(MAPS) - {"offset"}))  # not well-conditioned
def test_nss_cc_and_sim_of_hard_maps_equal_plain_loops(name, dtype):
    rng = np.random.default_rng(2)
    for p, fixations, _ in hard_maps(name, dtype):
        if p.min() == p.max():
            continue
        t = rng.random(p.shape).astype(dtype)
        assert metrics.nss(p, fixations) == pytest.approx(plain.nss(p, fixations), **EXACTLY)
        assert metrics.cc(p, t) == pytest.approx(plain.cc(p, t), **EXACTLY)
        if name != "negative":
            assert metrics.sim(p, t) == pytest.approx(plain.sim(p, t), **EXACTLY)


@pytest.mark.parametrize("exact", [False, True])
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("name", MAPS)
@pytest.mark.filterwarnings("ignore:overflow encountered in cast")  # 1e6 as float16
def test_auc_judd_equals_the_plain_loop(name, dtype, exact):
    for p, fixations, _ in hard_maps(name, dtype):
        if np.isfinite(p).all():
            expected = plain.auc_judd(p, fixations, exact)
            assert metrics.auc_judd(p, fixations, exact=exact) == pytest.approx(expected, **EXACTLY)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("n_fixations", [1, 100, 300])
def test_auc_judd_of_a_map_of_usual_size_equals_the_plain_loop(n_fixations, dtype):
    rng = np.random.default_rng(0)
    y, x = np.mgrid[-1:1:180j, -1:1:320j]
    p = np.exp(-4 * (y**2 + x**2)) * (1 + 0.1 * rng.random(y.shape))
    p = (p / p.sum()).astype(dtype)
    fixations = fixate(rng, p.shape, n_fixations)
    assert metrics.auc_judd(p, fixations) == pytest.approx(plain.auc_judd(p, fixations), **EXACTLY)


def test_auc_judd_of_more_fixations_than_there_are_shares_of_four_digits():
    rng = np.random.default_rng(0)
    p = rng.permutation(11000).reshape(100, 110).astype(np.float32)
    fixations = fixate(rng, p.shape, 10500)
    expected = plain.auc_judd(p, fixations)
    assert metrics.auc_judd(p, fixations) == pytest.approx(expected, **EXACTLY)


def test_values_that_become_equal_in_unit_range_are_ties():
    # Neighbouring floats on both sides of an edge of the buckets that values are counted in.
    rng = np.random.default_rng(0)
    n_ties = 0
    for highest in np.float32([1e-6, 0.3, 1, 17, 256]).repeat(100):
        centre = highest * np.float32(10.0 ** -rng.integers(1, 44))
        edge = (centre.view(np.int32) >> metrics.BUCKET_SHIFT) << metrics.BUCKET_SHIFT
        reach = rng.choice([4, 300])
        bits = np.maximum(edge + rng.integers(-reach, reach, 34), 0).astype(np.int32)
        p = np.append(bits.view(np.float32), [0, highest]).astype(np.float32).reshape(6, 6)
        n_ties += np.unique(p).size - np.unique(plain.unit_range(p)).size
        fixations = (bits == bits[bits >= edge].min(initial=bits.max())).nonzero()[0][:1]
        fixations = np.isin(np.arange(36), fixations).reshape(6, 6)
        expected = plain.auc_judd(p, fixations)
        assert metrics.auc_judd(p, fixations) == pytest.approx(expected, **EXACTLY)
    assert n_ties > 300


def test_auc_judd_depends_on_the_order_of_values_only():
    p, _, fixations = random_maps((33, 17), np.float64)
    expected = metrics.auc_judd(p, fixations, exact=True)
    for changed in (p**3, np.log(p), 5 * p - 2, p.astype(np.float32)):
        assert metrics.auc_judd(changed, fixations, exact=True) == pytest.approx(expected)


@pytest.mark.parametrize("generator", [np.random.RandomState, np.random.default_rng])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", MAPS)
def test_auc_shuffled_equals_the_plain_loop_on_the_same_stream(name, dtype, generator):
    rng, plain_rng = generator(3), generator(3)
    for p, fixations, others in hard_maps(name, dtype):
        for step_size in (0.1, 0.25, 0.3):
            given = metrics.auc_shuffled(p, fixations, others, 5, step_size, rng)
            expected = plain.auc_shuffled(p, fixations, others, 5, step_size, plain_rng)
            assert given == pytest.approx(expected, **EXACTLY)
    assert rng.random() == plain_rng.random()  # both have drawn as much


@pytest.mark.parametrize("step_size", [0.1, 0.25, 0.3, 1])
@pytest.mark.parametrize("name", MAPS)
def test_the_closed_form_is_the_mean_over_all_draws(name, step_size):
    rng = np.random.default_rng(4)
    for n_fixations, n_others in [(1, 1), (1, 6), (2, 5), (3, 6), (5, 6), (6, 6), (9, 4)]:
        for _ in range(3):
            p = MAPS[name](rng.random((4, 5)))
            fixations = fixate(rng, p.shape, n_fixations)
            others = fixate(rng, p.shape, n_others)
            given = metrics.auc_shuffled(p, fixations, others, None, step_size)
            expected = plain.expected_auc_shuffled(p, fixations, others, step_size)
            assert given == pytest.approx(expected, **EXACTLY)


def area_of_all_others(p, fixations, others):
    """What the closed form would be if the thresholds did not depend on the draw."""
    unit = plain.unit_range(p)
    return plain.shuffled_area(unit[fixations], unit[others], 0.1)


@pytest.mark.parametrize("largest_is_threshold", [False, True])
def test_the_mean_of_many_draws_comes_near_the_closed_form(largest_is_threshold):
    rng = np.random.default_rng(5)
    p = rng.random((30, 40)).astype(np.float32)
    fixations, others = fixate(rng, p.shape, 20), fixate(rng, p.shape, 150)
    if largest_is_threshold:  # 0.5 is the largest value of the draws without one certain pixel
        p = np.floor(6 * p) / 10
        p[fixations & (p == 0.5)] = 0.45
        p.flat[np.flatnonzero(others & ~fixations)[0]] = 1
    expected = metrics.auc_shuffled(p, fixations, others, n_splits=None)
    means = [metrics.auc_shuffled(p, fixations, others, 50, rng=rng) for _ in range(60)]
    standard_error = np.std(means, ddof=1) / math.sqrt(len(means))
    assert 0 < standard_error < 0.002
    assert abs(np.mean(means) - expected) < 4 * standard_error
    too_simple = abs(area_of_all_others(p, fixations, others) - expected)
    assert too_simple > 4 * standard_error if largest_is_threshold else too_simple < 1e-12


def test_draws_depend_on_the_arguments_alone():
    p, _, fixations = random_maps((33, 17), np.float32)
    others = np.roll(fixations, 3)
    before = str(np.random.get_state())
    given = metrics.auc_shuffled(p, fixations, others)
    assert given == metrics.auc_shuffled(p, fixations, others)
    assert given == metrics.auc_shuffled(p, fixations, others, rng=np.random.RandomState(0))
    assert str(np.random.get_state()) == before


def test_the_closed_form_draws_nothing():
    p, _, fixations = random_maps((33, 17), np.float32)
    rng = np.random.default_rng(0)
    metrics.auc_shuffled(p, fixations, np.roll(fixations, 3), n_splits=None, rng=rng)
    assert rng.random() == np.random.default_rng(0).random()


@pytest.fixture(scope="module")
def reference():
    folder = PROJECT / "tests" / "reference"
    with np.load(folder / "metrics.npz") as arrays:
        return json.loads((folder / "metrics.json").read_text()), dict(arrays)


def arrays_of(reference, case, *names):
    return (reference[1][f"{case}__{name}"] for name in names)


def ours_on_reference(reference, case):
    p, fixations, gt, log_p = arrays_of(reference, case, "pred", "fix", "gt", "logp")
    t = gt.astype(np.float64) / gt.sum(dtype=np.float64)
    return {
        "kld": metrics.kld(log_p, t),
        "nss": metrics.nss(p, fixations),
        "cc": metrics.cc(p, t),
        "sim": metrics.sim(p, t),
    }


@pytest.mark.parametrize("case", CASES)
def test_metrics_equal_the_published_code(reference, case):
    values = reference[0][case]["published"]
    expected = {name: values[key] for name, key in PUBLISHED.items()}
    assert ours_on_reference(reference, case) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("case", CASES)
def test_the_aucs_equal_the_published_code(reference, case):
    p, fixations, others = arrays_of(reference, case, "pred", "fix", "other")
    values = reference[0][case]["published"]
    assert metrics.auc_judd(p, fixations) == pytest.approx(values["auc_judd"], **EXACTLY)
    rng = np.random.RandomState(0)
    given = metrics.auc_shuffled(p, fixations, others, rng=rng)
    assert given == pytest.approx(values["auc_shuff_acl_seed0"], **EXACTLY)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize(("ours", "matlab"), [("nss", "NSS"), ("cc", "CC")])
def test_nss_and_cc_equal_the_official_matlab_code(reference, case, ours, matlab):
    expected = reference[0][case]["official_matlab"][matlab]
    assert ours_on_reference(reference, case)[ours] == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("case", sorted(set(CASES) - {"ties_plateau"}))
def test_without_ties_the_exact_auc_judd_equals_the_official_matlab_code(reference, case):
    p, fixations = arrays_of(reference, case, "pred", "fix")
    expected = reference[0][case]["official_matlab"]["AUC_Judd_nojitter"]
    assert metrics.auc_judd(p, fixations, exact=True) == pytest.approx(expected, **EXACTLY)


@pytest.mark.parametrize("case", CASES)
def test_information_gain_equals_the_official_matlab_code(reference, case):
    def as_matlab_takes_it(saliency_map):
        unit = plain.unit_range(saliency_map.astype(np.float64))
        return np.log(np.finfo(np.float64).eps + unit / unit.sum())

    p, baseline, fixations = arrays_of(reference, case, "pred", "baseline", "fix")
    given = metrics.information_gain(as_matlab_takes_it(p), as_matlab_takes_it(baseline), fixations)
    expected = reference[0][case]["official_matlab"]["InfoGain"]
    assert given == pytest.approx(expected, rel=1e-9)


def test_a_perfect_prediction_has_the_best_scores():
    p, _, _ = random_maps((6, 9), np.float64)
    assert metrics.kld(np.log(p), p) == pytest.approx(0, abs=1e-12)
    assert metrics.cc(p, p) == pytest.approx(1)
    assert metrics.sim(p, p) == pytest.approx(1)
    highest = p == p.max()
    assert metrics.auc_judd(p, highest) == metrics.auc_judd(p, highest, exact=True) == 1
    assert metrics.auc_judd(-p, highest, exact=True) == 0.5  # its only threshold has all pixels
    # With steps, what is below the lowest step that tells them apart counts half.
    lowest = p == p.min()
    assert metrics.auc_shuffled(p, highest, lowest, n_splits=None) == 1
    assert metrics.auc_shuffled(p, lowest, highest, n_splits=None) == 0


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


def test_information_gain_counts_bits_per_fixation(recwarn):
    b = np.log(np.full((2, 4), 1 / 8))
    p = b + np.log([[2, 4, 1, 1], [1, 1, 1, 0.5]])
    for places, bits in [([0], 1), ([1], 2), ([7], -1), ([0, 1, 7], 2 / 3), ([2, 3], 0)]:
        fixations = np.isin(np.arange(8), places).reshape(2, 4)
        assert metrics.information_gain(p, b, fixations) == pytest.approx(bits)
        assert metrics.information_gain(b, b, fixations) == 0
    everywhere = np.ones((2, 4), bool)
    impossible = np.full((2, 4), -np.inf)
    assert metrics.information_gain(impossible, b, everywhere) == -math.inf
    assert metrics.information_gain(b, impossible, everywhere) == math.inf
    assert math.isnan(metrics.information_gain(impossible, impossible, everywhere))
    assert not recwarn.list


FIXATED = {
    "nss": metrics.nss,
    "auc_judd": metrics.auc_judd,
    "auc_shuffled": lambda p, f: metrics.auc_shuffled(p, f, np.eye(*p.shape)),
    "expected": lambda p, f: metrics.auc_shuffled(p, f, np.eye(*p.shape), n_splits=None),
    "against": lambda p, f: metrics.auc_shuffled(p, np.eye(*p.shape), f),
    "information_gain": lambda p, f: metrics.information_gain(
        np.log(p), np.full_like(p, -math.log(p.size)), f
    ),
}
"""The metrics of a prediction and a fixation map."""


@pytest.mark.parametrize("scale", [1, 255])
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
@pytest.mark.parametrize("name", FIXATED)
def test_fixations_may_be_of_any_scale(name, scale, dtype):
    p, _, fixations = random_maps((6, 9), np.float32)
    expected = FIXATED[name](p, fixations)
    assert FIXATED[name](p, (fixations * scale).astype(dtype)) == expected
    assert not math.isnan(expected)


@pytest.mark.parametrize("name", FIXATED)
def test_without_fixations_there_is_no_value(name, recwarn):
    p, _, _ = random_maps((6, 9), np.float32)
    assert math.isnan(FIXATED[name](p, np.zeros((6, 9), bool)))
    assert not recwarn.list


def test_where_all_pixels_are_fixated_there_is_no_auc_judd(recwarn):
    p, _, _ = random_maps((6, 9), np.float32)
    assert math.isnan(metrics.auc_judd(p, np.ones((6, 9), bool)))
    assert not recwarn.list


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", [(6, 9), (7, 9), (33, 17), (48, 64)], ids=str)
@pytest.mark.parametrize("value", [0.0, -0.0, 0.1, 0.7, 1.0, None])
def test_a_constant_map_has_neither_nss_nor_cc_and_aucs_of_one_half(shape, dtype, value, recwarn):
    _, t, fixations = random_maps(shape, np.float64)
    # None: the uniform density. Its mean is not exact in floating point, so nor is p - mean.
    constant = np.full(shape, 1 / t.size if value is None else value, dtype)
    assert math.isnan(metrics.nss(constant, fixations))
    assert math.isnan(metrics.cc(constant, t))
    assert math.isnan(metrics.cc(t, constant))
    assert metrics.auc_judd(constant, fixations) == 0.5
    for n_splits in (3, None):
        assert metrics.auc_shuffled(constant, fixations, ~fixations, n_splits) == 0.5
    assert not recwarn.list


def test_a_single_pixel_has_neither_nss_nor_cc(recwarn):
    one = np.ones((1, 1), np.float32)
    assert math.isnan(metrics.nss(one, one.astype(bool)))
    assert math.isnan(metrics.cc(one, one))
    assert metrics.sim(one, one) == 1
    assert not recwarn.list


def test_a_map_without_mass_has_no_similarity(recwarn):
    p, _, _ = random_maps((6, 9), np.float32)
    assert math.isnan(metrics.sim(p, np.zeros_like(p)))
    assert math.isnan(metrics.sim(np.zeros_like(p), p))
    assert not recwarn.list


CALLS = {
    "kld": (metrics.kld, ["log_density", "target"]),
    "nss": (metrics.nss, ["density", "fixations"]),
    "cc": (metrics.cc, ["density", "target"]),
    "sim": (metrics.sim, ["density", "target"]),
    "auc_judd": (metrics.auc_judd, ["density", "fixations"]),
    "auc_shuffled": (metrics.auc_shuffled, ["density", "fixations", "other_fixations"]),
    "information_gain": (
        metrics.information_gain,
        ["log_density", "baseline_log_density", "fixations"],
    ),
}
ARGUMENTS = [(name, argument) for name, (_, arguments) in CALLS.items() for argument in arguments]


def arguments_of(name):
    p, t, fixations = random_maps((6, 9), np.float32)
    values = {
        "density": p,
        "log_density": np.log(p),
        "baseline_log_density": np.log(t + 1e-6),
        "target": t,
        "fixations": fixations,
        "other_fixations": np.roll(fixations, 3),
    }
    return {argument: values[argument] for argument in CALLS[name][1]}


@pytest.mark.parametrize(("name", "argument"), ARGUMENTS)
def test_arrays_of_different_shapes_are_named(name, argument):
    arrays = arguments_of(name)
    arrays[argument] = arrays[argument][:-1]
    with pytest.raises(ValueError, match=rf"\b{argument} \[5, 9\]"):
        CALLS[name][0](**arrays)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize(
    ("name", "argument"), [(n, a) for n, a in ARGUMENTS if not a.endswith("fixations")]
)
def test_a_value_that_is_not_finite_is_an_error_that_names_the_array(name, argument, value):
    arrays = arguments_of(name)
    arrays[argument][2, 3] = value
    if argument.endswith("log_density") and value == -np.inf:  # the logarithm of 0
        assert not math.isnan(CALLS[name][0](**arrays))
        return
    says = "NaN" if math.isnan(value) else "infini"
    with pytest.raises(ValueError, match=rf"^{argument} holds .*{says}"):
        CALLS[name][0](**arrays)


def log_of(values):
    return np.log(values, where=values > 0, out=np.full_like(values, -np.inf))


def tail_of_a_blur(fixations):
    blurred = fixations.astype(np.float32)
    return (blurred + np.roll(blurred, 1)) / 2


WRONG = {
    "a density for its logarithm": ("log_density", lambda x: np.exp(x), "natural logarithm"),
    "a small density": ("log_density", lambda x: np.full_like(x, 1e-6), "natural logarithm"),
    "a baseline's density": ("baseline_log_density", lambda x: np.exp(x), "natural logarithm"),
    "logits": ("log_density", lambda x: x - x.max() + 4, "at most|never above 0"),
    "the logarithm of a map": ("log_density", lambda x: x - x.max(), "sums to .*divided by"),
    "log10": ("log_density", lambda x: x / math.log(10), "sums to .*natural"),
    "a target of 0..255": ("target", lambda x: np.uint8(255 * x / x.max()), "sums to .*divide"),
    "a target of 0..1": ("target", lambda x: x / x.max(), "sums to .*divide it by its sum"),
    "an empty target": ("target", np.zeros_like, "sums to 0.*only 0"),
    "a negative target": ("target", lambda x: 2 * x - 1 / x.size, "negative"),
}
"""What is easily taken for another thing: the argument, a change, and words of the message."""


@pytest.mark.parametrize("case", WRONG)
def test_what_is_no_density_or_no_logarithm_is_refused_with_what_to_do(case):
    argument, change, words = WRONG[case]
    name = "information_gain" if argument.startswith("baseline") else "kld"
    arrays = arguments_of(name)
    assert math.isfinite(CALLS[name][0](**arrays))
    arrays[argument] = change(arrays[argument])
    with pytest.raises(ValueError, match=rf"\b{argument} .*({words})") as refused:
        CALLS[name][0](**arrays)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_rounding_is_no_mistake(dtype):
    p, t, fixations = random_maps((33, 17), np.float64)
    exact = metrics.kld(np.log(p), t), metrics.information_gain(np.log(p), np.log(p), fixations)
    rounded = (
        metrics.kld(np.log(p).astype(dtype), t.astype(dtype)),
        metrics.information_gain(np.log(p).astype(dtype), np.log(p), fixations),
    )
    assert rounded == pytest.approx(exact, abs=1e-2)
    certain = log_of(np.eye(1, 40)).astype(dtype)  # all on one pixel
    assert metrics.kld(certain, np.eye(1, 40).astype(dtype)) == 0
    one = np.zeros((1, 1), dtype)
    assert metrics.kld(one, np.ones((1, 1), dtype)) == 0
    assert metrics.kld(one + dtype(1e-7), np.ones((1, 1), dtype)) == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("argument", ["density", "target"])
def test_the_similarity_of_a_negative_map_is_refused(argument):
    arrays = arguments_of("sim")
    arrays[argument] = np.log(arrays[argument] + 1e-6)
    with pytest.raises(ValueError, match=rf"^{argument} holds -.*exponential"):
        metrics.sim(**arrays)


NO_FIXATIONS = {
    "blurred": (lambda f: tail_of_a_blur(f), "blurred"),
    "blurred in grey levels": (lambda f: np.uint8(tail_of_a_blur(f) * 255), "blurred"),
    "counts": (lambda f: f + np.roll(f, 1).astype(int), "counts.*> 0"),
    "negative": (lambda f: -f.astype(np.float32), "holds -1"),
    "one negative": (lambda f: np.where(f, 1, -1), "holds -1"),
    "fractional": (lambda f: f / 2, "holds 0.5"),
    "NaN": (lambda f: np.where(f, 1, np.nan), "holds NaN"),
    "one NaN": (lambda f: np.where(f, np.nan, 0), "holds NaN"),
    "infinite": (lambda f: np.where(f, np.inf, 0), "infinite"),
    "text": (lambda f: f.astype(str), "real numbers"),
    "complex": (lambda f: f.astype(complex), "real numbers"),
}


@pytest.mark.parametrize("case", NO_FIXATIONS)
@pytest.mark.parametrize(("name", "argument"), [x for x in ARGUMENTS if "fixations" in x[1]])
def test_what_is_no_fixation_map_is_refused(name, argument, case):
    change, words = NO_FIXATIONS[case]
    arrays = arguments_of(name)
    arrays[argument] = change(arrays[argument])
    with pytest.raises(ValueError, match=rf"^{argument} (holds|is) .*{words}|^{argument} {words}"):
        CALLS[name][0](**arrays)


FORMS = {
    "lists": lambda x: x.tolist(),
    "tensors": torch.from_numpy,
    "tensors with a gradient": lambda x: torch.from_numpy(x).requires_grad_(x.dtype.kind == "f"),
    "tensors in another order": lambda x: torch.from_numpy(x.T.copy()).T,
    "a subclass": lambda x: x.view(np.memmap),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", CALLS)
def test_lists_and_tensors_are_taken(name, form):
    arrays = arguments_of(name)
    expected = CALLS[name][0](**arrays)
    for argument in arrays:
        changed = {**arrays, argument: FORMS[form](arrays[argument])}
        assert CALLS[name][0](**changed) == pytest.approx(expected, rel=1e-6)
    changed = {argument: FORMS[form](values) for argument, values in arrays.items()}
    assert CALLS[name][0](**changed) == pytest.approx(expected, rel=1e-6)


def test_half_precision_tensors_are_taken():
    p, _, fixations = random_maps((33, 17), np.float32)
    rounded = torch.from_numpy(p).bfloat16()
    expected = metrics.nss(rounded.float().numpy(), fixations)
    assert metrics.nss(rounded, torch.from_numpy(fixations)) == expected


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize(
    ("value", "words"),
    [
        (np.zeros((0, 9)), "is empty"),
        ([[1, 2], [3]], "is no array"),
        ("map.png", "real numbers"),
        (None, "real numbers"),
        (np.ma.masked_less(np.eye(6, 9), 1), "masked pixels"),
    ],
    ids=["empty", "ragged", "path", "None", "masked"],
)
def test_what_is_no_array_of_numbers_is_refused(name, value, words):
    arrays = arguments_of(name)
    for argument in arrays:
        with pytest.raises(ValueError, match=f"^{argument} .*{words}"):
            CALLS[name][0](**{**arrays, argument: value})


@pytest.mark.parametrize(
    ("option", "error", "message"),
    [
        ({"n_splits": 0}, ValueError, "n_splits is 0"),
        ({"step_size": 0}, ValueError, "step_size is 0"),
        ({"step_size": 1.5}, ValueError, "step_size is 1.5"),
        ({"step_size": math.nan}, ValueError, "step_size is nan"),
        ({"rng": 3}, TypeError, "rng is 3"),
    ],
)
def test_draws_that_make_no_sense_are_refused(option, error, message):
    with pytest.raises(error, match=message):
        metrics.auc_shuffled(**arguments_of("auc_shuffled"), **option)


@pytest.mark.parametrize("name", CALLS)
def test_the_layout_in_memory_does_not_matter(name):
    arrays = arguments_of(name)
    expected = CALLS[name][0](**arrays)
    for change in (np.asfortranarray, lambda a: a.repeat(2, axis=1)[:, ::2]):
        changed = {argument: change(values) for argument, values in arrays.items()}
        assert CALLS[name][0](**changed) == pytest.approx(expected, **EXACTLY)


@pytest.mark.parametrize("name", CALLS)
def test_metrics_leave_their_arguments_alone(name):
    arrays, copies = arguments_of(name), arguments_of(name)
    CALLS[name][0](**arrays)
    for argument, values in copies.items():
        np.testing.assert_array_equal(arrays[argument], values)
        arrays[argument].setflags(write=False)
    CALLS[name][0](**arrays)
