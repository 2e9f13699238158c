"""A heat map over a picture: what shows through, what covers, and in which colours."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from support import photo

from unisal.visualize.overlay import ALPHA, draw_overlay


@pytest.fixture
def rgb():
    return photo((30, 40))


@pytest.fixture
def density():
    y, x = np.mgrid[0:30, 0:40]
    blob = np.exp(-((y - 10) ** 2 + (x - 25) ** 2) / 40).astype(np.float32)
    return blob / blob.sum()


def turbo(level):
    """-> the RGB colour of a level in 0..255."""
    blue, green, red = cv2.applyColorMap(np.array([[level]], np.uint8), cv2.COLORMAP_TURBO)[0, 0]
    return np.array([red, green, blue], float)


def test_every_pixel_is_a_blend_of_the_picture_and_its_heat(rgb, density):
    overlay = draw_overlay(rgb, density)
    assert overlay.shape == rgb.shape
    assert overlay.dtype == np.uint8
    expected = np.empty(rgb.shape)
    for at in np.ndindex(density.shape):
        level = float(density[at] / density.max()) ** 0.5
        heat, opacity = turbo(int(np.float32(level) * 255)), ALPHA * level
        expected[at] = (1 - opacity) * rgb[at] + opacity * heat
    # A level on the edge between two colours may fall to either side.
    difference = np.abs(overlay - expected)
    assert difference.max() < 6
    assert (difference <= 0.51).mean() > 0.99


def test_the_peak_is_red_and_nothing_covers_where_the_density_is_zero(rgb, density):
    density[0, 0] = 0
    overlay = draw_overlay(np.full_like(rgb, 128), density)
    red, green, blue = overlay[10, 25].astype(int)
    assert red > green > blue
    assert overlay[0, 0].tolist() == [128, 128, 128]


def test_the_higher_the_density_the_less_of_the_picture_is_seen(density):
    black, white = np.zeros((30, 40, 3), np.uint8), np.full((30, 40, 3), 255, np.uint8)
    # What is left of the difference between two pictures is the share that shows through.
    through = draw_overlay(white, density).astype(int) - draw_overlay(black, density)
    order = np.argsort(density, axis=None)
    along = through.reshape(-1, 3)[order]
    assert (np.diff(along, axis=0) <= 1).all()
    assert along[-1] == pytest.approx((1 - ALPHA) * 255, abs=1)


def test_the_scale_of_the_density_does_not_matter(rgb, density):
    np.testing.assert_array_equal(draw_overlay(rgb, density * 1024), draw_overlay(rgb, density))


@pytest.mark.parametrize("alpha", [0.0, 0.4, 1.0])
def test_alpha_is_the_opacity_at_the_peak(rgb, density, alpha):
    peak = draw_overlay(rgb, density, alpha)[10, 25]
    expected = (1 - alpha) * rgb[10, 25] + alpha * turbo(255)
    assert peak == pytest.approx(expected, abs=0.51)
    if alpha == 0:
        np.testing.assert_array_equal(draw_overlay(rgb, density, alpha), rgb)


def test_a_density_of_zeros_leaves_the_picture(rgb):
    np.testing.assert_array_equal(draw_overlay(rgb, np.zeros((30, 40), np.float32)), rgb)


def test_one_pixel_is_enough():
    overlay = draw_overlay(np.zeros((1, 1, 3), np.uint8), np.ones((1, 1), np.float32))
    assert overlay.shape == (1, 1, 3)


def test_the_arguments_are_left_alone(rgb, density):
    before = rgb.copy(), density.copy()
    draw_overlay(rgb, density)
    np.testing.assert_array_equal(rgb, before[0])
    np.testing.assert_array_equal(density, before[1])
