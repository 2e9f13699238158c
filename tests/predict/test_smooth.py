"""The median over neighbouring frames: against numpy and scipy, and how much it holds."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy import ndimage

from unisal.errors import UserError
from unisal.predict.smooth import median_over_time, smoothing_window


def log_video(n, size=(6, 9), seed=0, spread=2.0):
    """-> `[n, h, w]` log-densities."""
    x = np.random.default_rng(seed).normal(0, spread, (n, *size))
    return (x - np.log(np.exp(x).sum((1, 2), keepdims=True))).astype(np.float32)


def plain_median(log_densities, window):
    """The median of the probabilities over the frames that there are, as a density."""
    p, half = np.exp(log_densities.astype(np.float64)), window // 2
    medians = np.stack(
        [np.median(p[max(0, i - half) : i + half + 1], axis=0) for i in range(len(p))]
    )
    return medians / medians.sum((1, 2), keepdims=True)


def smoothed(log_densities, window):
    keyed = list(median_over_time(enumerate(log_densities), window))
    assert [key for key, _ in keyed] == list(range(len(log_densities)))
    maps = [y for _, y in keyed]
    assert all(y.dtype == np.float32 for y in maps)
    return np.exp(np.array(maps, np.float64).reshape(log_densities.shape))


@pytest.mark.parametrize("n", [1, 2, 3, 4, 5, 6, 11, 20])
@pytest.mark.parametrize("window", [1, 3, 5, 7, 11, 51])
def test_it_is_the_median_of_the_frames_that_there_are(window, n):
    video = log_video(n)
    np.testing.assert_allclose(smoothed(video, window), plain_median(video, window), rtol=1e-5)


@pytest.mark.parametrize("window", [3, 5, 9])
def test_inside_the_video_it_is_scipys_median_filter(window):
    video, half = log_video(15), window // 2
    theirs = ndimage.median_filter(np.exp(video.astype(np.float64)), size=(window, 1, 1))
    theirs /= theirs.sum((1, 2), keepdims=True)
    inside = slice(half, 15 - half)
    np.testing.assert_allclose(smoothed(video, window)[inside], theirs[inside], rtol=1e-5)


def test_probabilities_below_the_smallest_float_keep_their_logarithms():
    video = log_video(6, spread=100)
    assert np.exp(video).min() == 0
    for window in (3, 5):
        for _, y in median_over_time(enumerate(video), window):
            assert np.isfinite(y).all()
            assert np.exp(y, dtype=np.float64).sum() == pytest.approx(1, abs=1e-5)


def test_a_window_of_one_changes_nothing():
    video = log_video(4)
    assert np.array_equal(np.array([y for _, y in median_over_time(enumerate(video), 1)]), video)


def test_the_maps_that_come_in_stay_as_they_are():
    video = log_video(7)
    before = video.copy()
    list(median_over_time(enumerate(video), 5))
    np.testing.assert_array_equal(video, before)


def test_it_is_ahead_by_half_a_window_only():
    taken = []

    def endless():
        for i in itertools.count():
            taken.append(i)
            yield i, log_video(1, seed=i)[0]

    maps = median_over_time(endless(), 7)
    assert taken == []
    for i in range(20):
        next(maps)
        assert taken[-1] == i + 3


@pytest.mark.parametrize(("name", "window"), [(None, 1), ("med1", 1), ("med3", 3), ("med21", 21)])
def test_the_window_is_read_from_the_name(name, window):
    assert smoothing_window(name) == window


@pytest.mark.parametrize(
    "name", ["", "med", "med0", "med4", "med-3", "med3.5", "med 3", "mean3", "med3x", "MED3", 3]
)
def test_other_methods_are_refused_by_name(name):
    with pytest.raises(UserError, match=r"smooth_method is .*'medK'.*odd") as refused:
        smoothing_window(name)
    assert repr(name) in str(refused.value)
