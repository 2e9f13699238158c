"""Where a prediction says too much and too little, in colours."""

from __future__ import annotations

import numpy as np
from support import photo

from unisal.visualize.difference import (
    TOO_LITTLE_COLOUR,
    TOO_MUCH_COLOUR,
    draw_difference,
    draw_fixations,
)

SIZE = (60, 80)


def blob(y, x):
    rows, columns = np.mgrid[0 : SIZE[0], 0 : SIZE[1]]
    density = np.exp(-((rows - y) ** 2 + (columns - x) ** 2) / 40).astype(np.float32)
    return density / density.sum()


def test_too_much_and_too_little_have_their_colours_and_the_rest_is_grey():
    drawn = draw_difference(photo(SIZE), blob(30, 20), blob(30, 60))
    np.testing.assert_allclose(drawn[30, 20], TOO_MUCH_COLOUR, atol=3)
    np.testing.assert_allclose(drawn[30, 60], TOO_LITTLE_COLOUR, atol=3)
    corner = drawn[0, 0].astype(int)
    assert np.ptp(corner) <= 2
    assert corner.min() > 150


def test_equal_densities_leave_the_faded_picture_whatever_their_scale():
    drawn = draw_difference(photo(SIZE), 7 * blob(30, 20), blob(30, 20))
    other = draw_difference(photo(SIZE), blob(5, 70), blob(5, 70))
    assert np.abs(drawn.astype(int) - other).max() <= 3  # but for rounding
    assert np.ptp(drawn.astype(int), axis=2).max() <= 3
    # The picture can still be recognised.
    assert np.corrcoef(drawn[:, :, 0].ravel(), photo(SIZE)[:, :, 1].ravel())[0, 1] > 0.95


def test_a_larger_difference_has_a_stronger_colour():
    truth, wrong = blob(30, 60), blob(30, 20)
    strengths = []
    for share in (0.0, 0.1, 0.4, 1.0):
        drawn = draw_difference(photo(SIZE), (1 - share) * truth + share * wrong, truth)
        strengths.append(int(drawn[30, 20, 0]) - int(drawn[30, 20, 2]))
    assert strengths == sorted(strengths)
    assert len(set(strengths)) == 4


def test_a_dot_stands_where_someone_looked_at_any_size_of_the_map():
    fixations = np.zeros((30, 40), bool)
    fixations[10, 30] = True
    rgb = np.zeros((240, 320, 3), np.uint8)
    drawn = draw_fixations(rgb, fixations)
    ys, xs = np.nonzero((drawn > 200).all(axis=2))
    assert abs(ys.mean() - 10.5 * 8) < 1
    assert abs(xs.mean() - 30.5 * 8) < 1
    assert 4 < len(ys) < 60
    assert not rgb.any()
