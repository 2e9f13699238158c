"""Panels: what is drawn in them, and where they are in a row and on a sheet."""

from __future__ import annotations

import numpy as np
import pytest
from support import photo

from unisal.visualize import panels
from unisal.visualize.overlay import draw_overlay
from unisal.visualize.panels import Panel, compare, contact_sheet, join_panels, thumbnails

SIZE = (120, 160)
ROOM = (1000, 1000)


def blob(cy, cx, size=SIZE, width=15):
    y, x = np.mgrid[0 : size[0], 0 : size[1]]
    return np.exp(-((y - cy) ** 2 + (x - cx) ** 2) / (2 * width**2)).astype(np.float32)


@pytest.fixture
def rgb():
    return photo(SIZE)


@pytest.fixture
def truth():
    return blob(40, 50)


@pytest.fixture
def density():
    return blob(70, 110)


def flat(colour, size=SIZE, label="x"):
    return Panel(np.full((*size, 3), colour, np.uint8), label)


def dark(pixels):
    return (pixels < 100).all(axis=-1)


# ---- what is in a panel -------------------------------------------------------------------


def test_picture_ground_truth_and_each_model(rgb, truth, density):
    drawn = compare(rgb, truth, {"mine": density, "other": truth}, 0.6, ROOM)
    assert [panel.label for panel in drawn] == ["Image", "Ground truth", "mine", "other"]
    assert {panel.rgb.shape for panel in drawn} == {(*SIZE, 3)}
    np.testing.assert_array_equal(drawn[0].rgb, rgb)
    np.testing.assert_array_equal(drawn[1].rgb, draw_overlay(rgb, truth, 0.6))


def test_the_models_panel_is_its_map_with_lines_around_the_ground_truth(rgb, truth, density):
    mine = compare(rgb, truth, {"mine": density}, 0.6, ROOM)[2].rgb
    heat = draw_overlay(rgb, density, 0.6)
    # By its definition a Gaussian holds half of itself within 1.18 sigma, 80 % within 1.79.
    y, x = np.mgrid[0 : SIZE[0], 0 : SIZE[1]]
    radius = np.hypot(y - 40, x - 50) / 15
    near = (np.abs(radius - 1.18) < 0.3) | (np.abs(radius - 1.79) < 0.3)
    np.testing.assert_array_equal(mine[~near], heat[~near])
    white, black = mine.min(axis=-1) > 200, mine.max(axis=-1) < 60
    sector = (np.arctan2(y - 40, x - 50) / (2 * np.pi) * 24).astype(int) % 24
    for line in (1.18, 1.79):  # in every direction there is white, and black beside it
        at_line = np.abs(radius - line) < 0.15
        assert set(sector[white & at_line]) == set(sector[black & at_line]) == set(range(24))
    assert (np.minimum(abs(radius - 1.18), abs(radius - 1.79))[white & (radius < 3)] < 0.15).all()


def test_without_ground_truth_there_is_neither_its_panel_nor_lines(rgb, density):
    drawn = compare(rgb, None, {"mine": density}, 0.6, ROOM)
    assert [panel.label for panel in drawn] == ["Image", "mine"]
    np.testing.assert_array_equal(drawn[1].rgb, draw_overlay(rgb, density, 0.6))


def test_a_ground_truth_of_zeros_leaves_the_picture(rgb, density):
    drawn = compare(rgb, np.zeros(SIZE, np.float32), {"mine": density}, 0.6, ROOM)
    np.testing.assert_array_equal(drawn[1].rgb, rgb)
    np.testing.assert_array_equal(drawn[2].rgb, draw_overlay(rgb, density, 0.6))


def test_a_map_of_another_size_is_fitted(rgb, truth, density):
    expected = compare(rgb, truth, {"mine": density}, 0.6, ROOM)
    for scale in (0.5, 2):
        size = int(SIZE[0] * scale), int(SIZE[1] * scale)
        other = blob(40 * scale, 50 * scale, size, 15 * scale)
        drawn = compare(rgb, other, {"mine": density}, 0.6, ROOM)
        assert drawn[1].rgb.shape == (*SIZE, 3)
        assert np.abs(drawn[1].rgb.astype(int) - expected[1].rgb).mean() < 3


@pytest.mark.parametrize(
    ("size", "max_size", "expected"),
    [
        ((120, 160), (60, 1000), (60, 80)),
        ((120, 160), (1000, 40), (30, 40)),
        ((120, 160), (120, 160), (120, 160)),
        ((300, 2), (30, 30), (30, 1)),
    ],
)
def test_large_pictures_are_shrunk_to_their_room(size, max_size, expected):
    density = np.ones(size, np.float32)
    drawn = compare(photo(size), density, {"mine": density}, 0.6, max_size)
    assert {panel.rgb.shape for panel in drawn} == {(*expected, 3)}
    assert drawn[0].rgb.mean() == pytest.approx(photo(size).mean(), abs=4)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.8])
def test_levels_enclose_their_share(share):
    density = np.random.default_rng(0).random((20, 30)).astype(np.float32)
    (level,) = panels.levels(density, [share])
    inside = [value for value in density.ravel() if value >= level]
    total = float(density.sum())
    assert sum(inside) >= share * total > sum(inside) - min(inside)


def test_what_is_drawn_on_is_left_alone(rgb, truth, density):
    before = rgb.copy(), truth.copy(), density.copy()
    compare(rgb, truth, {"mine": density}, 0.6, ROOM)
    for array, copy in zip((rgb, truth, density), before, strict=True):
        np.testing.assert_array_equal(array, copy)


# ---- in a row -----------------------------------------------------------------------------


def test_panels_stand_unchanged_in_a_row(rgb):
    row = [Panel(rgb, "one"), Panel(rgb[::-1], "two"), Panel(rgb[:, ::-1], "three")]
    for show_labels in (False, True):
        whole = join_panels(row, show_labels)
        assert whole.dtype == np.uint8
        assert whole.shape[1] == 3 * SIZE[1] + 2 * panels.GAP_PIXELS
        top = whole.shape[0] - SIZE[0]
        assert (top > 0) == show_labels
        for i, panel in enumerate(row):
            left = i * (SIZE[1] + panels.GAP_PIXELS)
            np.testing.assert_array_equal(whole[top:, left : left + SIZE[1]], panel.rgb)
        gaps = whole[:, SIZE[1] : SIZE[1] + panels.GAP_PIXELS]
        assert (gaps == 255).all()


def test_each_label_is_above_its_panel(rgb):
    whole = join_panels([Panel(rgb, "Image"), Panel(rgb, ""), Panel(rgb, "l" * 500)])
    strip = dark(whole[: whole.shape[0] - SIZE[0]])
    first, empty, long = (
        strip[:, left : left + SIZE[1]]
        for left in range(0, whole.shape[1], SIZE[1] + panels.GAP_PIXELS)
    )
    assert first.any() and not empty.any() and long.any()
    columns, rows = np.flatnonzero(first.any(axis=0)), np.flatnonzero(first.any(axis=1))
    assert np.ptp(rows) >= 8  # as high as can be read
    assert (columns[0] + columns[-1]) / 2 == pytest.approx(SIZE[1] / 2, abs=3)
    assert rows[0] > 0 and rows[-1] < strip.shape[0] - 1
    # What is too long is cut off, and does not reach into the gap.
    assert not strip[:, 2 * SIZE[1] + panels.GAP_PIXELS : 2 * (SIZE[1] + panels.GAP_PIXELS)].any()


def test_larger_panels_have_larger_labels():
    heights = []
    for side in (100, 500, 2000):
        whole = join_panels([flat(255, (side, side), "Ground truth")])
        heights.append(np.ptp(np.flatnonzero(dark(whole).any(axis=1))))
    assert heights == sorted(set(heights))


def test_a_panel_may_be_one_pixel():
    whole = join_panels([flat(7, (1, 1), "Image"), flat(9, (1, 1), "Ground truth")])
    assert whole[-1, 0].tolist() == [7, 7, 7]
    assert whole[-1, -1].tolist() == [9, 9, 9]


# ---- all in one picture -------------------------------------------------------------------


def places(sheet, colour):
    """Return (top, left, height, width) of the only rectangle of a colour."""
    ys, xs = np.nonzero((sheet == colour).all(axis=-1))
    height, width = int(np.ptp(ys)) + 1, int(np.ptp(xs)) + 1
    assert len(ys) == height * width
    return int(ys.min()), int(xs.min()), height, width


@pytest.mark.parametrize("show_labels", [False, True])
@pytest.mark.parametrize(("n_rows", "n_panels"), [(1, 2), (5, 3), (12, 4)])
def test_every_panel_is_on_the_sheet_in_order(n_rows, n_panels, show_labels):
    sizes = [(90, 120), (120, 60), (120, 120)]
    colours = {(i, k): (i + 1, 100 + k, 200) for i in range(n_rows) for k in range(n_panels)}
    rows = [
        [flat(colours[i, k], sizes[i % len(sizes)], f"p{k}") for k in range(n_panels)]
        for i in range(n_rows)
    ]
    sheet = contact_sheet(rows, [f"name {i}" for i in range(n_rows)], show_labels)
    found = {at: places(sheet, colour) for at, colour in colours.items()}
    for (i, _), (_, _, height, width) in found.items():
        assert (height, width) == sizes[i % len(sizes)]
    for i in range(n_rows):
        lines = [found[i, k] for k in range(n_panels)]
        assert len({top for top, *_ in lines}) == 1
        assert [left for _, left, *_ in lines] == sorted({left for _, left, *_ in lines})
        if i:  # below the one before, or at the top of the next block
            (top, left, _, _), (top_before, left_before, _, _) = found[i, 0], found[i - 1, 0]
            assert top > top_before or left > left_before + (n_panels - 1) * 120
    assert dark(sheet).any() == show_labels


def test_a_sheet_of_many_is_wider_than_high_and_holds_no_empty_block():
    for n in (6, 7, 12, 13, 40):
        rows = [[flat(9, (90, 120))] * 3] * n
        height, width = contact_sheet(rows, ["name"] * n).shape[:2]
        assert 0.9 < width / height < 3
        blank = np.flatnonzero((contact_sheet(rows, ["name"] * n) == 255).all(axis=(0, 2)))
        assert max(len(run) for run in np.split(blank, np.flatnonzero(np.diff(blank) > 1) + 1)) < 30


def test_names_and_labels_are_on_the_sheet():
    rows = [[flat(255, (90, 120), "mine"), flat(255, (90, 120), "other")]]
    with_all = contact_sheet(rows, ["photograph"])
    without_name = contact_sheet(rows, [""])
    assert 0 < dark(without_name).sum() < dark(with_all).sum()
    only_below = dark(with_all) & ~dark(without_name)
    assert np.flatnonzero(only_below.any(axis=1)).min() > 90


@pytest.mark.parametrize("n", [1, 100, 10_000])
def test_thumbnails_keep_a_sheet_within_limits(n):
    small = thumbnails([flat(9, (600, 800), "a"), flat(9, (600, 800), "b")], n)
    assert [panel.label for panel in small] == ["a", "b"]
    height, width = small[0].rgb.shape[:2]
    assert width / height == pytest.approx(4 / 3, abs=0.1)
    assert 2 * n * height * width <= 16e6
    assert (height, width) == (180, 240) or n == 10_000


def test_thumbnails_are_not_enlarged():
    assert thumbnails([flat(9, (30, 40))], 3)[0].rgb.shape == (30, 40, 3)
