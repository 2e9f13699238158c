"""Saliency metrics as pure functions on arrays (docs/behaviour.md, "Scoring and prediction").

A prediction is a density or its natural logarithm, as a rule `[H, W]`; the other arrays have its
shape. All may be NumPy arrays, lists, or tensors of PyTorch on any device. A fixation map holds 0
and one other whole number, so 0/1, 0/255 and bool are all accepted. Numbers are computed in
float64, but for the AUCs a map is first brought to [0, 1] in its own dtype, where rounding can make
ties.

Undefined values (no fixation, a constant map) are NaN; whoever averages leaves them out and counts
them. Whatever would give a number without a meaning raises a `ValueError` that names the argument:
arrays of different shapes, values that are not finite, a density in place of its logarithm or the
other way round, a ground truth that does not sum to 1, a blurred map in place of a fixation map.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

Map = NDArray[np.floating]
FixationMap = NDArray[np.bool_] | NDArray[np.number]
Counts = NDArray[np.intp]
Random = np.random.RandomState | np.random.Generator

UNDEFINED = float("nan")

AUC_DIGITS = 4
"""Decimal places to which the published AUC-Judd rounds its shares."""

SUM_TOLERANCE = 0.01
"""By how much the sum of a ground-truth density may miss 1, for rounding in any dtype."""

LOG_SUM_LIMIT = 1.5
"""A predicted log-density is taken for one if its probabilities sum to 1, give or take this factor:
scaled and cropped predictions pass, saliency maps, logits and other logarithms do not."""

LOG_ROUNDING = 1e-3
"""How far rounding may raise the logarithm of a probability above 0, in float16."""

BUCKET_SHIFT = 12
"""Low bits of a float32 that its bucket's number leaves out: 2048 buckets per power of 2."""

MAX_BUCKETED, MAX_TIED_FLOATS = 256, 512
"""When a map with values up to `MAX_BUCKETED` is scaled to unit range, rounding makes only values
equal that are fewer than `MAX_TIED_FLOATS` floats apart: about 10, or `MAX_BUCKETED` where the
shares are subnormal."""

BLOCK_PIXELS = 2**16
"""Number of pixels that are sorted into buckets at a time, to need little memory."""


def kld(log_density: Map, target: Map) -> float:
    """Compute the Kullback-Leibler divergence of a prediction from the ground truth.

    No epsilon is added: the value is infinite if people looked where the prediction is 0.

    Args:
        log_density: natural logarithm of the predicted density `[H, W]`.
        target: ground-truth density `[H, W]`, sums to 1.

    Returns:
        The divergence in nats; 0 is best.

    Raises:
        ValueError: an argument is not what it should be; says which, and what to do.
    """
    log_density, target = _arrays(log_density=log_density, target=target)
    _check_log("log_density", log_density)
    _check_density("target", target)
    seen = target > 0
    t = target[seen].astype(np.float64)
    return float((t * (np.log(t) - log_density[seen])).sum())


def nss(density: Map, fixations: FixationMap) -> float:
    """Compute the normalised scanpath saliency: the mean z-score at fixated pixels.

    The standard deviation is the unbiased one.

    Args:
        density: prediction `[H, W]`.
        fixations: fixation map `[H, W]`.

    Returns:
        The mean; chance has 0. NaN without fixations or for a constant map.

    Raises:
        ValueError: see `kld`.
    """
    density, fixations = _arrays(density=density, fixations=fixations)
    low, high = _range("density", density)
    fixated = _fixated("fixations", fixations)
    if low == high or not fixated.any():
        return UNDEFINED
    above_mean = _from_mean(density)
    std = math.sqrt(_dot(above_mean, above_mean) / (density.size - 1))
    return float(above_mean[fixated].mean() / std) if std else UNDEFINED


def cc(density: Map, target: Map) -> float:
    """Compute Pearson's correlation over pixels.

    Args:
        density: prediction `[H, W]`.
        target: ground truth `[H, W]`.

    Returns:
        The correlation; 1 is best. NaN if either map is constant.

    Raises:
        ValueError: see `kld`.
    """
    density, target = _arrays(density=density, target=target)
    ranges = _range("density", density), _range("target", target)
    if any(low == high for low, high in ranges):
        return UNDEFINED
    p, t = _from_mean(density), _from_mean(target)
    norm = math.sqrt(_dot(p, p)) * math.sqrt(_dot(t, t))
    return _dot(p, t) / norm if norm else UNDEFINED


def sim(density: Map, target: Map) -> float:
    """Compute the similarity: the overlap of two maps, each divided by its sum.

    Args:
        density: prediction `[H, W]`.
        target: ground truth `[H, W]`.

    Returns:
        The overlap, from 0 to 1; 1 is best. NaN if a sum is 0.

    Raises:
        ValueError: see `kld`; also if a value is negative.
    """
    density, target = _arrays(density=density, target=target)
    _check_not_negative("density", density)
    _check_not_negative("target", target)
    total_p, total_t = (x.sum(dtype=np.float64) for x in (density, target))
    if total_p == 0 or total_t == 0:
        return UNDEFINED
    p = np.divide(density, total_p, dtype=np.float64)
    t = np.divide(target, total_t, dtype=np.float64)
    return float(np.minimum(p, t, out=p).sum())


def information_gain(log_density: Map, baseline_log_density: Map, fixations: FixationMap) -> float:
    """Compute the information gain: what a prediction says about the fixations beyond a baseline.

    The mean over fixated pixels of `log2 p - log2 b` (Kümmerer et al., PNAS 2015).

    Args:
        log_density: natural logarithm of the predicted density `[H, W]`, which sums to 1.
        baseline_log_density: the same for the baseline, for example the centre bias.
        fixations: fixation map `[H, W]`.

    Returns:
        Bits per fixation; 0 for the baseline itself. Infinite where one of the two densities is 0
        at a fixated pixel; NaN where both are, and without fixations.

    Raises:
        ValueError: see `kld`.
    """
    log_density, baseline_log_density, fixations = _arrays(
        log_density=log_density, baseline_log_density=baseline_log_density, fixations=fixations
    )
    _check_log("log_density", log_density)
    _check_log("baseline_log_density", baseline_log_density)
    fixated = _fixated("fixations", fixations)
    if not fixated.any():
        return UNDEFINED
    p, b = (values[fixated].astype(np.float64) for values in (log_density, baseline_log_density))
    with np.errstate(invalid="ignore"):
        return float((p - b).mean() / math.log(2))


def auc_judd(density: Map, fixations: FixationMap, *, exact: bool = False) -> float:
    """Compute the area under the ROC curve for separating fixated from other pixels (AUC-Judd).

    The map is scaled to [0, 1]. Each distinct value at a fixated pixel is a threshold. It gives a
    point (false positives, true positives): the shares of the other and of the fixated pixels that
    are at or above it. (0, 0) and (1, 1) are added; the area under the points, in the order of
    their true positives, follows from the trapezoid rule.

    Args:
        density: prediction `[H, W]`.
        fixations: fixation map `[H, W]`.
        exact: whether to leave the shares unrounded. Otherwise they are rounded to 4 decimal
            places, as in the published code.

    Returns:
        The area; 1 is best, chance and a constant map have 0.5. NaN if no pixel is fixated, or
        all are.

    Raises:
        ValueError: see `kld`.
    """
    density, fixations = _arrays(density=density, fixations=fixations)
    low, high = _range("density", density)
    (places,) = _fixated("fixations", fixations).ravel().nonzero()
    n_fixated, n_others = places.size, density.size - places.size
    if not n_fixated or not n_others:
        return UNDEFINED
    values = density.ravel()
    if low < 0 or high > MAX_BUCKETED or values.dtype not in (np.float32, np.float64):
        values = _to_unit_range(values, low, high)
        low, high = values.dtype.type(0), values.dtype.type(1)
    if low == 0:
        values, high = np.abs(values), np.abs(high)  # no -0.0: its bits are not those of 0
    seen = np.sort(values[places])  # a threshold that occurs twice gives its point twice
    thresholds = _to_unit_range(seen, low, high)
    fixated_above = n_fixated - np.searchsorted(thresholds, thresholds)
    others_above = _count_at_least(values, seen, low, high) - fixated_above
    tp, fp = fixated_above / n_fixated, others_above / n_others
    if not exact:
        tp, fp = tp.round(AUC_DIGITS), fp.round(AUC_DIGITS)
    # Where true positives are equal, the published value depends on the order: (0, 0), the
    # thresholds from the lowest up, (1, 1).
    tp, fp = (np.concatenate([[0.0], shares, [1.0]]) for shares in (tp, fp))
    order = tp.argsort(kind="stable")
    return float(_area(tp[order], fp[order]))


def auc_shuffled(
    density: Map,
    fixations: FixationMap,
    other_fixations: FixationMap,
    n_splits: int | None = 100,
    step_size: float = 0.1,
    rng: Random | None = None,
) -> float:
    """Compute the shuffled AUC: against where people look in other pictures, so no centre bias.

    The map is scaled to [0, 1]. Each split draws as many of the other fixations as there are
    fixations, or all if there are fewer, without replacement. Thresholds are 0, `step_size`,
    2 `step_size` ... below the largest value at a fixated or drawn pixel. Each gives the shares of
    the drawn and of the fixated pixels at or above it; (0, 0) and (1, 1) are added. The value is
    the mean over the splits of the areas by the trapezoid rule.

    Args:
        density: prediction `[H, W]`.
        fixations: fixation map `[H, W]`.
        other_fixations: union of the fixations in other pictures `[H, W]`.
        n_splits: how many times to draw. None: the expectation over all draws, without drawing.
        step_size: distance between thresholds, above 0 and at most 1.
        rng: a split draws the first elements of `rng.permutation` of the other fixations in row
            order. A legacy generator gives the published numbers. None: `RandomState(0)`, so
            that the value depends only on the arguments.

    Returns:
        The area; 1 is best, chance and a constant map have 0.5. NaN without fixations, and
        without other fixations.

    Raises:
        ValueError: see `kld`; also if an option is out of range.
    """
    density, fixations, other_fixations = _arrays(
        density=density, fixations=fixations, other_fixations=other_fixations
    )
    low, high = _range("density", density)
    _check_draws(n_splits, step_size, rng)
    steps = np.arange(math.ceil(1 / step_size) + 1) * step_size
    steps = steps[steps < 1]  # no value is above 1
    fixated, others = (
        _levels(_to_unit_range(density[_fixated(name, where)], low, high), steps)
        for name, where in (("fixations", fixations), ("other_fixations", other_fixations))
    )
    if not fixated.size or not others.size:
        return UNDEFINED
    if n_splits is None:
        return _expected_shuffled_auc(fixated, others, steps.size)
    rng = np.random.RandomState(0) if rng is None else rng
    return _mean_shuffled_auc(fixated, others, steps.size, n_splits, rng)


def _from_mean(values: Map) -> NDArray[np.float64]:
    """Return by how much each value is above the mean."""
    return np.subtract(values, values.mean(dtype=np.float64), dtype=np.float64)


def _dot(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    """Return the sum of the products, without BLAS, whose threads would get in the way of ours."""
    return float(np.einsum("...i,...i->...", a, b).sum())  # row by row: less rounding


def _mean_shuffled_auc(
    fixated: Counts, others: Counts, n_steps: int, n_splits: int, rng: Random
) -> float:
    """Return the mean area over `n_splits` draws from the others; both sets given as levels."""
    draws = np.empty((n_splits, min(fixated.size, others.size)), others.dtype)
    shuffled = np.empty_like(others)
    for draw in draws:
        shuffled[:] = others
        rng.shuffle(shuffled)  # the same stream as `permutation`, in less time
        draw[:] = shuffled[: draw.size]
    tp_at, tp_above = _n_above(fixated[None], n_steps)
    fp_at, fp_above = _n_above(draws, n_steps)
    # The threshold that is itself the largest value is left out: its point moves to (0, 0).
    is_used = (tp_above > 0) | (fp_above > 0)
    tp, fp = is_used * (tp_at / fixated.size), is_used * (fp_at / draws.shape[1])
    return float(_area(_with_corners(tp), _with_corners(fp)).mean())


def _expected_shuffled_auc(fixated: Counts, others: Counts, n_steps: int) -> float:
    """Return the expected area over all draws from the others; both sets given as levels.

    With the same thresholds in every draw the area is linear in the false positives, and their
    expectation is their share of all others. But a threshold t that is the largest value of a
    draw is left out. This happens only if no fixated value is above t, in the draws with nothing
    above t; their probability q is hypergeometric. Without its point (fp, tp) the area between
    (0, 0) and the next point (fp', tp') changes by (fp tp' - fp' tp) / 2. That again is linear in
    the false positives, now of draws from the others that are not above t; and it is 0 where no
    value is at t.
    """
    (tp_at,), (tp_above,) = _n_above(fixated[None], n_steps)
    (fp_at,), (fp_above,) = _n_above(others[None], n_steps)
    tp, fp = tp_at / fixated.size, fp_at / others.size
    area = _area(_with_corners(tp), _with_corners(fp))

    n_drawn = min(fixated.size, others.size)
    (left_out,) = np.nonzero((tp_above == 0) & (others.size - fp_above >= n_drawn))
    above = fp_above[left_out]
    n_left = others.size - above  # [left out]
    taken = np.arange(n_drawn)
    q = ((n_left[:, None] - taken) / (others.size - taken)).prod(axis=1)
    fp_next = (np.append(others.size, fp_at)[left_out] - above) / n_left
    tp_next = np.append(1.0, tp)[left_out]
    change = ((fp_at[left_out] - above) / n_left * tp_next - fp_next * tp[left_out]) / 2
    return float(area + (q * change).sum())


def _levels(values: Map, thresholds: Map) -> Counts:
    """Return each value's level: 2k + 1 at threshold k, 2k + 2 between it and the next."""
    below = np.searchsorted(thresholds, values, side="left")
    return below + np.searchsorted(thresholds, values, side="right")


def _n_above(levels: Counts, n_steps: int) -> tuple[Counts, Counts]:
    """Count the values of each set at or above each step, and above it.

    Args:
        levels: `[sets, n]`, see `_levels`.
        n_steps: number of steps.

    Returns:
        The two counts `[sets, steps]`.
    """
    n_sets, n_levels = len(levels), 2 * n_steps + 1
    cells = levels + np.arange(n_sets)[:, None] * n_levels
    counts = np.bincount(cells.ravel(), minlength=n_sets * n_levels).reshape(n_sets, n_levels)
    at_least = counts[:, ::-1].cumsum(axis=1)[:, ::-1]
    return at_least[:, 1::2], at_least[:, 2::2]


def _with_corners(shares: Map) -> Map:
    """Return shares `[..., thresholds]` in rising order with 0 before and 1 after them."""
    rising = np.zeros((*shares.shape[:-1], shares.shape[-1] + 2))
    rising[..., 1:-1] = shares[..., ::-1]
    rising[..., -1] = 1
    return rising


def _area(tp: Map, fp: Map) -> Map:
    """Compute the area under `tp` over `fp` along the last axis by the trapezoid rule."""
    return (np.diff(fp) * (tp[..., 1:] + tp[..., :-1]) / 2).sum(axis=-1)


def _count_at_least(values: Map, seen: Map, low: np.floating, high: np.floating) -> Counts:
    """Count the `values` at or above each of the rising `seen`, once all are in unit range.

    Sorting all values would do, but take twice as long. They are counted in buckets that keep
    their order, and only those near one of `seen` are scaled to unit range and sorted.

    Args:
        values: `[n]` float32 or float64, from 0 to `MAX_BUCKETED`.
        seen: some of them.
        low: the lowest of `values`.
        high: the highest.
    """
    table, codes_seen = _bucket_codes(seen, high)
    codes = np.zeros(values.size + values.size % 2, table.dtype)
    for start in range(0, values.size, BLOCK_PIXELS):
        block = values[start : start + BLOCK_PIXELS]
        # Mode "wrap" saves a copy; all buckets are in the table.
        table.take(_buckets(block), out=codes[start : start + block.size], mode="wrap")
    counts = _count_codes(codes, int(table[-1]) + 1)
    counts[1::2] = 0
    in_higher_buckets = counts[::-1].cumsum()[::-1][codes_seen]
    near = values[(codes[: values.size] & 1).astype(bool)]
    near, thresholds = (_to_unit_range(some, low, high) for some in (near, seen))
    near.sort()
    return in_higher_buckets + near.size - np.searchsorted(near, thresholds)


def _bucket_codes(seen: Map, high: np.floating) -> tuple[NDArray[np.unsignedinteger], Counts]:
    """Return a code per bucket, rising with the buckets, and the codes of the rising values `seen`.

    A code is odd for the buckets near a value: its own, and that of the value `MAX_TIED_FLOATS`
    floats below.
    """
    own = _buckets(np.append(seen, high))
    below = np.maximum(_bits(seen) - MAX_TIED_FLOATS, 0) >> BUCKET_SHIFT
    own, highest = own[:-1], int(own[-1])
    first, last = int(below[0]), int(own[-1]) + 1
    is_near = np.zeros(last + 1 - first, dtype=bool)
    is_near[own - first] = True
    is_near[below - first] = True
    (edges,) = (is_near[1:] != is_near[:-1]).nonzero()
    edges = np.concatenate([[0], edges + 1, [is_near.size]])  # of runs of buckets with one code
    table = np.zeros(highest + 2, np.min_scalar_type(2 * seen.size))
    codes = np.arange(1, edges.size, dtype=table.dtype)
    table[first : last + 1] = codes.repeat(np.diff(edges))
    table[last + 1 :] = codes[-1]
    return table, table[own].astype(np.intp)


def _count_codes(codes: NDArray[np.unsignedinteger], n_codes: int) -> Counts:
    """Count how often each code occurs in an even number of codes."""
    if codes.dtype != np.uint8:
        return np.bincount(codes, minlength=n_codes)
    # Two at a time: half as many steps, and fewer in a row that wait for the same counter.
    pairs = np.bincount(codes.view(np.uint16), minlength=n_codes * 256)
    pairs = pairs.reshape(n_codes, 256)[:, :n_codes]
    return pairs.sum(axis=0) + pairs.sum(axis=1)


def _buckets(values: Map) -> NDArray[np.int32]:
    """Return the buckets of values from 0 up; their numbers never fall as the values rise.

    They are the leading bits of a float32: narrow buckets for small values, where a peaked map has
    most of its pixels.
    """
    return _bits(values) >> BUCKET_SHIFT


def _bits(values: Map) -> NDArray[np.int32]:
    """Return the bits of values as a float32, which rise with non-negative values."""
    return values.astype(np.float32, copy=False).view(np.int32)


def _to_unit_range(values: Map, low: np.floating, high: np.floating) -> Map:
    """Return values between `low` and `high` as shares of that range; 0 where it is empty."""
    dtype = values.dtype if values.dtype.kind == "f" else np.dtype(np.float64)
    shares = np.subtract(values, low, dtype=dtype)
    if high > low:
        shares /= np.subtract(high, low, dtype=dtype)
    return shares


# ---- what is given ------------------------------------------------------------------------
def _arrays(**given: Any) -> list[NDArray[Any]]:
    """Return the arguments as arrays of numbers, not empty and all of one shape."""
    arrays = {name: _array(name, values) for name, values in given.items()}
    if len({array.shape for array in arrays.values()}) > 1:
        shapes = ", ".join(f"{name} {list(array.shape)}" for name, array in arrays.items())
        raise ValueError(f"the arrays have to be of one shape; they are {shapes}")
    return list(arrays.values())


def _array(name: str, values: Any) -> NDArray[Any]:
    if type(values) is not np.ndarray:
        if hasattr(values, "detach"):  # a tensor, which may need a gradient or lie on a GPU
            values = values.detach().cpu()
            values = values.float() if "bfloat16" in str(values.dtype) else values
        if np.ma.is_masked(values):
            raise ValueError(f"{name} has masked pixels; fill them, or cut them away")
        try:
            values = np.asarray(values)
        except ValueError as error:
            raise ValueError(f"{name} is no array: {error}") from None
    if values.dtype.kind not in "bifu":
        raise ValueError(f"{name} is an array of {values.dtype}; it has to be one of real numbers")
    if not values.size:
        raise ValueError(f"{name} is empty: its shape is {list(values.shape)}")
    return values


def _fixated(name: str, fixations: NDArray[Any]) -> NDArray[np.bool_]:
    """Return which pixels are fixated; ValueError for what is no fixation map."""
    if fixations.dtype == bool:
        return fixations
    low, high = _range(name, fixations)
    if low < 0 or high != np.floor(high):
        wrong = low if low < 0 else high
        raise ValueError(f"{name} holds {wrong:g}; it has to be 0 where nobody looked, else 1")
    fixated = fixations != 0
    if high and np.count_nonzero(fixations == high) != np.count_nonzero(fixated):
        raise ValueError(
            f"{name} holds more values than 0 and {high:g}, as a blurred map or one of counts "
            f"does; it has to be 0 where nobody looked, else 1 ({name} > 0, if it holds counts)"
        )
    return fixated


def _range(name: str, values: Map) -> tuple[np.floating, np.floating]:
    """Return the lowest and the highest value; ValueError where one is not finite."""
    low, high = values.min(), values.max()
    if not (np.isfinite(low) and np.isfinite(high)):
        raise ValueError(f"{name} holds {'NaN' if np.isnan(low) else 'an infinite value'}")
    return low, high


def _check_not_negative(name: str, values: Map) -> None:
    low, _ = _range(name, values)
    if low < 0:
        raise ValueError(
            f"{name} holds {low:.4g}, and a density is never negative; of a log-density pass the "
            "exponential"
        )


def _check_density(name: str, values: Map) -> None:
    """Refuse negative values, and a sum that is not 1."""
    _check_not_negative(name, values)
    total = values.sum(dtype=np.float64)
    if abs(total - 1) > SUM_TOLERANCE:
        advice = f"divide it by its sum ({name} / {name}.sum())" if total else "it holds only 0"
        raise ValueError(f"{name} sums to {total:.6g}, and a density to 1; {advice}")


def _check_draws(n_splits: int | None, step_size: float, rng: Random | None) -> None:
    if n_splits is not None and n_splits < 1:
        raise ValueError(f"n_splits is {n_splits}; it has to be at least 1, or None")
    if not 0 < step_size <= 1:
        raise ValueError(f"step_size is {step_size}; it has to be above 0 and at most 1")
    if not (rng is None or isinstance(rng, Random)):
        raise TypeError(f"rng is {rng!r}; it has to be a RandomState or a Generator of NumPy")


def _check_log(name: str, values: Map) -> None:
    """Refuse NaN, plus infinity and what is no log-density; the logarithm of 0 is allowed."""
    high = values.max()
    if not high < np.inf:
        raise ValueError(f"{name} holds {'NaN' if np.isnan(high) else 'plus infinity'}")
    if high > LOG_ROUNDING or (high > 0 and values.size > 1 and values.min() >= 0):
        raise ValueError(
            f"{name} holds {high:.4g}, and the logarithm of a probability is never above 0; of a "
            "density pass the natural logarithm"
        )
    exact = np.result_type(values, np.float32)
    flat = values.ravel()
    total = sum(
        float(np.exp(flat[start : start + BLOCK_PIXELS]).sum(dtype=exact))
        for start in range(0, flat.size, BLOCK_PIXELS)
    )
    if high > -np.inf and not 1 / LOG_SUM_LIMIT <= total <= LOG_SUM_LIMIT:
        raise ValueError(
            f"the exponential of {name} sums to {total:.4g}, and a density to 1; pass the natural "
            "logarithm of a density that was divided by its sum"
        )
