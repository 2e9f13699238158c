"""A heat map over a picture: what shows through, what covers, and in which colours."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from support import photo

from unisal.inference.densities import to_saliency_map
from unisal.visualize.overlay import ALPHA, draw_overlay, scale_to_peak


@pytest.fixture
def rgb():
    return photo((30, 40))


@pytest.fixture
def density():
    y, x = np.mgrid[0:30, 0:40]
    blob = np.exp(-((y - 10) ** 2 + (x - 25) ** 2) / 40).astype(np.float32)
    return blob / blob.sum()


@pytest.fixture
def saliency_map(density):
    return density / density.max()


def turbo(level):
    """Return the RGB colour of a level from 0 to 255."""
    blue, green, red = cv2.applyColorMap(np.array([[level]], np.uint8), cv2.COLORMAP_TURBO)[0, 0]
    return np.array([red, green, blue], float)


def test_every_pixel_is_a_blend_of_the_picture_and_its_heat(rgb, saliency_map):
    overlay = draw_overlay(rgb, saliency_map)
    assert overlay.shape == rgb.shape
    assert overlay.dtype == np.uint8
    expected = np.empty(rgb.shape)
    for at in np.ndindex(saliency_map.shape):
        level = float(saliency_map[at]) ** 0.5
        heat, opacity = turbo(int(np.float32(level) * 255)), ALPHA * level
        expected[at] = (1 - opacity) * rgb[at] + opacity * heat
    # A level on the edge between two colours may fall to either side.
    difference = np.abs(overlay - expected)
    assert difference.max() < 6
    assert (difference <= 0.51).mean() > 0.99


def test_the_peak_is_red_and_nothing_covers_where_the_map_is_zero(rgb, saliency_map):
    saliency_map[0, 0] = 0
    overlay = draw_overlay(np.full_like(rgb, 128), saliency_map)
    red, green, blue = overlay[10, 25].astype(int)
    assert red > green > blue
    assert overlay[0, 0].tolist() == [128, 128, 128]


def test_the_higher_the_map_the_less_of_the_picture_is_seen(saliency_map):
    black, white = np.zeros((30, 40, 3), np.uint8), np.full((30, 40, 3), 255, np.uint8)
    # What is left of the difference between two pictures is the share that shows through.
    through = draw_overlay(white, saliency_map).astype(int) - draw_overlay(black, saliency_map)
    order = np.argsort(saliency_map, axis=None)
    along = through.reshape(-1, 3)[order]
    assert (np.diff(along, axis=0) <= 1).all()
    assert along[-1] == pytest.approx((1 - ALPHA) * 255, abs=1)


@pytest.mark.parametrize("scale", [1, 1024, 1e-30])
def test_maps_of_any_scale_are_drawn_relative_to_their_peak(rgb, density, saliency_map, scale):
    values = density * np.float32(scale)
    expected = draw_overlay(rgb, saliency_map)
    np.testing.assert_array_equal(draw_overlay(rgb, scale_to_peak(values)), expected)


@pytest.mark.parametrize("seed", range(4))
def test_densities_look_as_they_did_when_they_were_drawn_directly(seed):
    rng = np.random.default_rng(seed)
    rgb = rng.integers(0, 256, (30, 40, 3), dtype=np.uint8)
    density = np.exp(rng.normal(-9, 3, (30, 40))).astype(np.float32)
    level = np.sqrt(density / float(density.max()), dtype=np.float32)
    heat = cv2.applyColorMap((level * 255).astype(np.uint8), cv2.COLORMAP_TURBO)
    heat = cv2.cvtColor(heat, cv2.COLOR_BGR2RGB)
    opacity = (0.6 * level)[:, :, None]
    expected = np.rint(rgb * (1 - opacity) + heat * opacity).astype(np.uint8)
    for saliency_map in (scale_to_peak(density), to_saliency_map(density)):
        assert saliency_map.dtype == np.float32 and saliency_map.max() == 1
        np.testing.assert_array_equal(draw_overlay(rgb, saliency_map, 0.6), expected)


def test_a_map_of_zeros_has_no_peak_to_scale_to():
    zeros = np.zeros((3, 4), np.float32)
    np.testing.assert_array_equal(scale_to_peak(zeros), zeros)


@pytest.mark.parametrize("alpha", [0.0, 0.4, 1.0])
def test_alpha_is_the_opacity_at_the_peak(rgb, saliency_map, alpha):
    peak = draw_overlay(rgb, saliency_map, alpha)[10, 25]
    expected = (1 - alpha) * rgb[10, 25] + alpha * turbo(255)
    assert peak == pytest.approx(expected, abs=0.51)
    if alpha == 0:
        np.testing.assert_array_equal(draw_overlay(rgb, saliency_map, alpha), rgb)


def test_a_map_of_zeros_leaves_the_picture(rgb):
    np.testing.assert_array_equal(draw_overlay(rgb, np.zeros((30, 40), np.float32)), rgb)


def test_one_pixel_is_enough():
    overlay = draw_overlay(np.zeros((1, 1, 3), np.uint8), np.ones((1, 1), np.float32))
    assert overlay.shape == (1, 1, 3)


def test_the_arguments_are_left_alone(rgb, saliency_map):
    before = rgb.copy(), saliency_map.copy()
    draw_overlay(rgb, saliency_map)
    np.testing.assert_array_equal(rgb, before[0])
    np.testing.assert_array_equal(saliency_map, before[1])
