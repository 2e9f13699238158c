"""Sizes, resizing and scaling, against plain computations and published values."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image
from support import PROJECT, photo
from torchvision.transforms import functional as tv

from unisal.data.transforms import (
    best_fitting_size,
    normalise,
    normalise_map,
    optimal_input_size,
    resize_map,
    resize_rgb,
    to_fixation_map,
)

SIZES = [(480, 640), (600, 800), (800, 600), (1080, 1920), (1, 1), (1, 5000), (5000, 1), (37, 41)]


# ---- sizes --------------------------------------------------------------------------------


def closeness(size, other):
    """The smaller ratio of the sides' ratios, at most 1."""
    a, b = size[0] / size[1], other[0] / other[1]
    return min(a / b, b / a)


def plain_optimal_size(size):
    best, found = 0.0, None
    for n1 in range(7, 14):
        for n2 in range(7, 14):
            if 100 <= n1 * n2 <= 120 and closeness(size, (n1, n2)) > best:
                best, found = closeness(size, (n1, n2)), (32 * n1, 32 * n2)
    return found


def test_the_optimal_size_equals_a_plain_search():
    rng = np.random.default_rng(0)
    sizes = [*SIZES, *map(tuple, rng.integers(20, 3000, (300, 2)).tolist())]
    assert [optimal_input_size(s) for s in sizes] == [plain_optimal_size(s) for s in sizes]


def test_the_optimal_size_depends_on_the_ratio_alone():
    for size in SIZES:
        larger = (3 * size[0], 3 * size[1])
        assert optimal_input_size(larger) == optimal_input_size(size)


def test_published_optimal_sizes():
    values = json.loads((PROJECT / "tests/reference/splits.json").read_text())["optimal_size"]
    found = {size: list(optimal_input_size(tuple(map(int, size.split("x"))))) for size in values}
    assert found == values


@pytest.mark.parametrize("candidates", [[(2, 4), (1, 2), (3, 6)], [(3, 6), (2, 4)]], ids=str)
def test_the_first_of_equally_good_sizes_wins(candidates):
    assert best_fitting_size((100, 200), candidates) == candidates[0]


def test_too_wide_and_too_high_are_equally_bad():
    assert best_fitting_size((100, 100), [(1, 3), (2, 1)]) == (2, 1)
    assert best_fitting_size((100, 100), [(3, 1), (1, 2)]) == (1, 2)
    assert best_fitting_size((100, 100), [(1, 2), (2, 1)]) == (1, 2)


# ---- pictures -----------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(288, 384), (24, 32), (60, 40), (1, 1), (60, 80)], ids=str)
def test_resizing_equals_pillows_lanczos(size):
    rgb = photo((60, 80))
    expected = Image.fromarray(rgb).resize((size[1], size[0]), Image.Resampling.LANCZOS)
    resized = resize_rgb(rgb, size)
    assert (resized.shape, resized.dtype) == ((*size, 3), np.uint8)
    np.testing.assert_array_equal(resized, np.asarray(expected))


def test_a_picture_of_the_right_size_is_left_as_it_is():
    rgb = np.random.default_rng(0).integers(0, 256, (32, 64, 3)).astype(np.uint8)
    np.testing.assert_array_equal(resize_rgb(rgb, (32, 64)), rgb)


def test_a_smaller_picture_is_antialiased():
    stripes = np.zeros((64, 64, 3), np.uint8)
    stripes[:, ::2] = 255
    assert np.abs(resize_rgb(stripes, (64, 8)).astype(int) - 127).max() < 12


def test_a_box_is_resized_as_pillow_does():
    rgb, box = photo((60, 80)), (4.5, 10.25, 60.0, 50.5)
    expected = Image.fromarray(rgb).resize((32, 24), Image.Resampling.LANCZOS, box=box)
    np.testing.assert_array_equal(resize_rgb(rgb, (24, 32), box), np.asarray(expected))
    full = resize_rgb(rgb, (24, 32), (0.0, 0.0, 80.0, 60.0))
    np.testing.assert_array_equal(full, resize_rgb(rgb, (24, 32)))


def test_a_map_is_resized_between_its_pixels():
    saliency_map = np.random.default_rng(0).random((12, 16)).astype(np.float32)
    resized = resize_map(saliency_map, (30, 48))
    assert resized.dtype == np.float32
    # The centres of the new pixels, in old pixels; beyond the outermost centre nothing changes.
    y, x = (np.arange(30) + 0.5) * 12 / 30 - 0.5, (np.arange(48) + 0.5) * 16 / 48 - 0.5
    rows = np.array([np.interp(x, np.arange(16), row) for row in saliency_map])
    expected = np.array([np.interp(y, np.arange(12), column) for column in rows.T]).T
    np.testing.assert_allclose(resized, expected, atol=1e-6)


def test_normalising_equals_torchvisions():
    rgb = np.random.default_rng(0).integers(0, 256, (24, 32, 3)).astype(np.uint8)
    expected = tv.normalize(tv.to_tensor(rgb), (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    normalised = normalise(rgb)
    assert (normalised.shape, normalised.dtype) == ((3, 24, 32), np.float32)
    assert normalised.flags.c_contiguous
    np.testing.assert_allclose(normalised, expected.numpy(), atol=1e-6, rtol=0)


def test_a_picture_is_not_changed_by_what_is_made_of_it():
    rgb = photo((32, 64))
    normalise(resize_rgb(rgb, (32, 64))).fill(0)
    np.testing.assert_array_equal(rgb, photo((32, 64)))


# ---- maps and fixations -------------------------------------------------------------------


@pytest.mark.parametrize("scale", [1e-6, 1.0, 255.0])
def test_a_density_is_the_map_over_its_sum(scale):
    saliency_map = (scale * np.random.default_rng(0).random((480, 640))).astype(np.float32)
    density = normalise_map(saliency_map)
    assert density.dtype == np.float32
    assert density.sum(dtype=np.float64) == pytest.approx(1, abs=1e-6)
    exact = saliency_map.astype(np.float64)
    np.testing.assert_allclose(density, exact / exact.sum(), rtol=1e-6)


def test_a_negative_map_is_lifted_to_zero_first():
    saliency_map = np.array([[-1, 0], [1, 4]], np.float32)
    assert normalise_map(saliency_map).tolist() == [[0.0, 0.125], [0.25, 0.625]]
    assert saliency_map.min() == -1


@pytest.mark.parametrize("value", [0.0, -3.0, 2.0])
def test_a_constant_map_is_uniform(value):
    density = normalise_map(np.full((30, 70), value, np.float32))
    assert density.dtype == np.float32
    np.testing.assert_allclose(density, 1 / 2100, rtol=1e-6)


@pytest.mark.parametrize(
    ("values", "fixated"),
    [
        ([0, 127, 128, 255], [False, False, True, True]),
        ([0, 0, 0, 0], [False] * 4),
        ([0, 1, 0, 1], [False, True, False, True]),
        ([0, 1, 2, 0], [False] * 4),
    ],
    ids=["a threshold of one half", "none", "zeros and ones", "all dark"],
)
def test_fixations_are_values_above_one_half(values, fixated):
    grey = np.array([values], np.float32) / np.float32(255)
    fixations = to_fixation_map(grey)
    assert fixations.dtype == bool
    assert fixations.tolist() == [fixated]


def test_fixations_of_ones_are_found_in_16_bits_too():
    grey = np.array([[0, 1, 0]], np.float32) / np.float32(65535)
    assert to_fixation_map(grey).tolist() == [[False, True, False]]
