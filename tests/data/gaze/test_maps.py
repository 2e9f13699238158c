"""Densities and fixation maps: compared with SciPy's filter, at any size, of any choice."""

from __future__ import annotations

import numpy as np
import pytest
from gaze_folders import write_gaze
from scipy.ndimage import gaussian_filter

from unisal.data.gaze import gaze_source, maps
from unisal.data.gaze.maps import MapCache
from unisal.errors import UserError

SIZES = {"a.jpg": (60, 80), "b.jpg": (90, 40)}


@pytest.fixture
def dataset(tmp_path):
    write_gaze(tmp_path, SIZES, n_observers=3, n_fixations=5)
    (tmp_path / "gaze.json").write_text('{"blur_pixels": 4}')
    (tmp_path / "splits.json").write_text('{"val": ["a", "b"], "train": []}')
    return gaze_source("mine", tmp_path)(phase="eval")


def counts(found, size, scale=(1.0, 1.0)):
    counted = np.zeros(size)
    for x, y in zip(found.x, found.y, strict=True):
        counted[int((y + 0.5) * scale[0]), int((x + 0.5) * scale[1])] += 1
    return counted


@pytest.mark.parametrize("most", [0, 10**6])
@pytest.mark.parametrize("index", [0, 1])
def test_a_density_is_the_filtered_count(dataset, index, most, monkeypatch):
    monkeypatch.setattr(maps, "MAX_PRODUCTS", most)
    size = dataset.frame_size(index)
    counted = counts(dataset.fixations(index), size)
    expected = gaussian_filter(counted, 4, mode="constant")
    density = dataset.density(index)
    np.testing.assert_allclose(density, expected / expected.sum(), rtol=1e-4, atol=1e-9)
    assert density.sum(dtype=np.float64) == pytest.approx(1, abs=1e-5)
    np.testing.assert_array_equal(dataset.read_fixation_map(index), counted > 0)
    np.testing.assert_allclose(dataset.read_density(index), density, rtol=1e-5)


@pytest.mark.parametrize("size", [(30, 40), (120, 200), (7, 5)])
def test_other_sizes_scale_positions_and_blur(dataset, size):
    scale = size[0] / 60, size[1] / 80
    counted = counts(dataset.fixations(0), size, scale)
    expected = gaussian_filter(counted, (4 * scale[0], 4 * scale[1]), mode="constant")
    np.testing.assert_allclose(
        dataset.density(0, size), expected / expected.sum(), rtol=1e-3, atol=1e-8
    )
    np.testing.assert_array_equal(dataset.fixation_map(0, size), counted > 0)


def test_densities_of_observers_add_up(dataset):
    assert dataset.observers == ("p1", "p2", "p3")
    numbers = {name: len(dataset.fixations(0, observers=[name])) for name in dataset.observers}
    whole = sum(n * dataset.density(0, observers=[name]) for name, n in numbers.items())
    # Cut off at the border, a Gaussian counts less; with the border far away the sums agree.
    found = dataset.fixations(0)
    assert sum(numbers.values()) == len(found)
    union = np.logical_or.reduce([dataset.fixation_map(0, observers=[n]) for n in numbers])
    np.testing.assert_array_equal(union, dataset.fixation_map(0))
    assert np.corrcoef(whole.ravel(), dataset.density(0).ravel())[0, 1] > 0.99


def test_choices_by_time_and_number(dataset):
    first = dataset.fixations(0, fixation_numbers=[1])
    assert first.start_ms.tolist() == [0, 0, 0]
    assert len(dataset.fixations(0, window_ms=(250, 751))) == 9
    assert len(dataset.fixations(0, observers=["p2"], window_ms=(0, 250))) == 1
    assert not dataset.density(0, window_ms=(9000, 9999)).any()


def test_unknown_observers_and_groups_are_named(dataset):
    with pytest.raises(UserError, match=r"no observer p9; there are p1, p2, p3"):
        dataset.density(0, observers=["p9"])
    with pytest.raises(UserError, match="no groups by age"):
        dataset.density(0, groups={"age": "old"})


def test_observers_of_a_picture_give_its_pixels(dataset):
    observers = dataset.read_observers(0)
    assert len(observers) == 3
    fixated = np.zeros(dataset.target_size(0), bool)
    for xy in observers:
        x, y = xy.astype(int).T
        fixated[y, x] = True
    np.testing.assert_array_equal(fixated, dataset.read_fixation_map(0))


def test_maps_are_made_once_and_cannot_be_changed(dataset):
    one = dataset.density(0, (30, 40))
    assert dataset.density(0, (30, 40)) is one
    assert dataset.density(0, (30, 40), observers=["p1"]) is not one
    with pytest.raises(ValueError, match="read-only"):
        one[0, 0] = 1


def test_a_cache_forgets_what_was_not_used_for_longest():
    cache = MapCache(max_bytes=3 * 800)
    made = []

    def get(key):
        return cache.get(key, lambda: made.append(key) or np.zeros(100))

    for key in (1, 2, 3, 1, 4, 1, 2):
        get(key)
    assert made == [1, 2, 3, 4, 2]


def test_a_wide_blur_of_a_narrow_picture_stays_finite(tmp_path):
    write_gaze(tmp_path, {"a.jpg": (4, 300), "b.jpg": (300, 4)})
    dataset = gaze_source("narrow", tmp_path)(phase="test")
    for index in range(2):
        assert np.isfinite(dataset.density(index)).all()
        assert dataset.density(index).sum() == pytest.approx(1, abs=1e-4)
