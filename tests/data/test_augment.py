"""Random changes: picture, map and fixations stay one example."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from PIL import Image
from support import photo, write_salicon

from unisal.data import SALICONDataset
from unisal.data.augment import Augmentation, Change
from unisal.data.transforms import resize_rgb
from unisal.errors import UserError

WHOLE = (0.0, 0.0, 1.0)
STILL = {"flip": 0.0, "min_crop": 1.0, "brightness": 0.0, "contrast": 0.0, "saturation": 0.0}
"""The options that change nothing."""


def change(flip=False, window=WHOLE, brightness=1.0, contrast=1.0, saturation=1.0):
    return Change(flip, window, brightness, contrast, saturation)


def draws(options, fixations, n=200):
    augmentation = Augmentation(**options)
    return [augmentation.draw(np.random.default_rng(i), fixations) for i in range(n)]


def points_of(fixations):
    return {(int(y), int(x)) for y, x in np.argwhere(fixations)}


def some_fixations(size=(48, 64), n=6, seed=0):
    rng = np.random.default_rng(seed)
    fixations = np.zeros(size, bool)
    fixations[rng.integers(0, size[0], n), rng.integers(0, size[1], n)] = True
    return fixations


def dot(size, place):
    """A bright dot at `place`, (y, x) in shares of the sides -> `[*size] float32` in 0 to 1."""
    y = (np.arange(size[0]) + 0.5) / size[0] - place[0]
    x = (np.arange(size[1]) + 0.5) / size[1] - place[1]
    return np.exp(-(y[:, None] ** 2 + x[None, :] ** 2) / 0.002).astype(np.float32)


def peak(array):
    """Where the highest value is, in shares of the sides, as its centre of mass."""
    weights = np.where(array >= 0.8 * array.max(), array, 0).astype(float)
    ys, xs = np.mgrid[0 : array.shape[0], 0 : array.shape[1]] + 0.5
    return (
        (weights * ys).sum() / weights.sum() / array.shape[0],
        (weights * xs).sum() / weights.sum() / array.shape[1],
    )


# ---- one example stays one ----------------------------------------------------------------


@pytest.mark.parametrize("place", [(0.3, 0.6), (0.72, 0.25), (0.5, 0.5)], ids=str)
def test_picture_map_and_fixations_move_together(place):
    picture_size, map_size, out_size = (120, 160), (48, 64), (96, 128)
    rgb = np.repeat((255 * dot(picture_size, place)).astype(np.uint8)[:, :, None], 3, axis=2)
    saliency_map = dot(map_size, place)
    fixations = np.zeros(map_size, bool)
    fixations[int(place[0] * map_size[0]), int(place[1] * map_size[1])] = True
    moved = 0
    for drawn in draws({"min_crop": 0.4}, fixations, 60):
        y, x = peak(drawn.of_map(saliency_map))
        assert peak(drawn.of_picture(rgb, out_size)[:, :, 1]) == pytest.approx((y, x), abs=0.015)
        ((fy, fx),) = points_of(drawn.of_fixations(fixations))
        # One pixel of the map is up to 1 / 0.4 pixels of the enlarged one.
        assert (fy + 0.5) / map_size[0] == pytest.approx(y, abs=3 / map_size[0])
        assert (fx + 0.5) / map_size[1] == pytest.approx(x, abs=3 / map_size[1])
        moved += abs(y - place[0]) + abs(x - place[1]) > 0.1
    assert moved > 20


def test_an_example_of_a_data_set_moves_as_one(tmp_path, monkeypatch):
    monkeypatch.setenv("SALICON_DATA_DIR", str(tmp_path))
    write_salicon(tmp_path, n=1)
    place = (0.4, 0.3)
    fixations = np.zeros((48, 64), np.uint8)
    fixations[int(place[0] * 48), int(place[1] * 64)] = 255
    stem = "COCO_train2014_000000000001"
    grey = Image.fromarray((255 * dot((60, 80), place)).astype(np.uint8))
    grey.convert("RGB").save(tmp_path / "images" / f"{stem}.jpg", quality=100)
    Image.fromarray((255 * dot((48, 64), place)).astype(np.uint8)).save(
        tmp_path / "maps" / "train" / f"{stem}.png"
    )
    Image.fromarray(fixations).save(tmp_path / "fixations" / "train" / f"{stem}.png")
    dataset = SALICONDataset(out_size=(96, 128), augment=True)
    places = []
    for dataset.epoch in range(20):
        item = dataset[0]
        assert item.target_size == (48, 64)
        assert item.maps.sum().item() == pytest.approx(1, abs=1e-5)
        places.append(peak(item.maps[0].numpy()))
        shown = item.frames[1].numpy()
        assert peak(shown - shown.min()) == pytest.approx(places[-1], abs=0.02)
        fixated = peak(item.fixations[0].numpy().astype(float))
        assert fixated == pytest.approx(places[-1], abs=2 / 48)
    assert np.ptp(places, axis=0).min() > 0.1


def test_no_change_changes_nothing():
    rgb, fixations = photo((60, 80)), some_fixations()
    saliency_map = np.random.default_rng(0).random((48, 64)).astype(np.float32)
    for still in (change(), *draws(STILL, fixations, 5)):
        np.testing.assert_array_equal(still.of_picture(rgb, (96, 128)), resize_rgb(rgb, (96, 128)))
        np.testing.assert_array_equal(still.of_map(saliency_map), saliency_map)
        np.testing.assert_array_equal(still.of_fixations(fixations), fixations)


def test_a_flip_is_a_mirror_image():
    rgb, fixations = photo((60, 80)), some_fixations()
    saliency_map = np.random.default_rng(0).random((48, 64)).astype(np.float32)
    for flipped in (change(flip=True), *draws(STILL | {"flip": 1.0}, fixations, 5)):
        mirrored = resize_rgb(rgb, (96, 128))[:, ::-1]
        np.testing.assert_array_equal(flipped.of_picture(rgb, (96, 128)), mirrored)
        np.testing.assert_array_equal(flipped.of_map(saliency_map), saliency_map[:, ::-1])
        np.testing.assert_array_equal(flipped.of_fixations(fixations), fixations[:, ::-1])


@pytest.mark.parametrize("flip", [False, True])
def test_a_crop_is_a_window_that_is_enlarged(flip):
    top, left, side = window = (0.125, 0.3, 0.55)
    cropped = change(flip, window)
    saliency_map = np.random.default_rng(0).random((48, 64)).astype(np.float32)
    # The centres of the new pixels, in old pixels.
    y = (top + (np.arange(48) + 0.5) / 48 * side) * 48 - 0.5
    x = (left + (np.arange(64) + 0.5) / 64 * side) * 64 - 0.5
    rows = np.array([np.interp(x, np.arange(64), row) for row in saliency_map])
    expected = np.array([np.interp(y, np.arange(48), column) for column in rows.T]).T
    expected = expected[:, ::-1] if flip else expected
    np.testing.assert_allclose(cropped.of_map(saliency_map), expected, atol=1e-5)

    rgb = photo((60, 80))
    box = (left * 80, top * 60, (left + side) * 80, (top + side) * 60)
    shown = Image.fromarray(rgb).resize((128, 96), Image.Resampling.LANCZOS, box=box)
    shown = np.asarray(shown)[:, ::-1] if flip else np.asarray(shown)
    np.testing.assert_array_equal(cropped.of_picture(rgb, (96, 128)), shown)

    fixations = some_fixations(n=30)
    expected = set()
    for fy, fx in points_of(fixations):
        ny, nx = ((fy + 0.5) / 48 - top) / side, ((fx + 0.5) / 64 - left) / side
        if 0 <= ny < 1 and 0 <= nx < 1:
            expected.add((int(ny * 48), 63 - int(nx * 64) if flip else int(nx * 64)))
    assert 0 < len(expected) < len(points_of(fixations))
    assert points_of(cropped.of_fixations(fixations)) == expected


def test_fixations_neither_grow_nor_multiply():
    fixations = some_fixations(n=20)
    for drawn in draws({"min_crop": 0.3}, fixations):
        assert drawn.of_fixations(fixations).sum() <= fixations.sum()


# ---- colours ------------------------------------------------------------------------------


def grey_of(rgb):
    return rgb.astype(float) @ (0.299, 0.587, 0.114)


def test_brightness_multiplies_and_stays_in_range():
    rgb = photo((60, 80))
    shown = change(brightness=1.3).of_picture(rgb, (60, 80))
    assert shown.dtype == np.uint8
    expected = np.clip(rgb * 1.3, 0, 255)
    assert (expected == 255).any()
    np.testing.assert_allclose(shown, expected, atol=0.51)


def test_contrast_multiplies_the_difference_from_the_mean_grey():
    rgb = photo((60, 80))
    mean = grey_of(rgb).mean()
    expected = np.clip(mean + 0.7 * (rgb - mean), 0, 255)
    np.testing.assert_allclose(change(contrast=0.7).of_picture(rgb, (60, 80)), expected, atol=0.52)


@pytest.mark.parametrize("saturation", [0.0, 0.5, 1.2])
def test_saturation_multiplies_the_difference_from_grey(saturation):
    rgb = photo((60, 80))
    grey = grey_of(rgb)[:, :, None]
    expected = np.clip(grey + saturation * (rgb - grey), 0, 255)
    shown = change(saturation=saturation).of_picture(rgb, (60, 80))
    np.testing.assert_allclose(shown, expected, atol=0.52)


def test_colours_do_not_touch_the_targets():
    fixations = some_fixations()
    saliency_map = np.random.default_rng(0).random((48, 64)).astype(np.float32)
    coloured = change(brightness=0.8, contrast=1.2, saturation=0.9)
    np.testing.assert_array_equal(coloured.of_map(saliency_map), saliency_map)
    np.testing.assert_array_equal(coloured.of_fixations(fixations), fixations)


def test_what_is_changed_is_a_copy():
    rgb, fixations = photo((60, 80)), some_fixations()
    saliency_map = np.random.default_rng(0).random((48, 64)).astype(np.float32)
    for array in (rgb, fixations, saliency_map):
        array.flags.writeable = False
    for drawn in draws({}, fixations, 10):
        drawn.of_picture(rgb, (60, 80))
        drawn.of_map(saliency_map)
        drawn.of_fixations(fixations)


def test_a_hue_is_turned_and_grey_stays_grey():
    colours = np.array([[[200, 50, 50], [50, 200, 50], [50, 50, 200], [90, 90, 90]]], np.uint8)
    turned = Change(False, WHOLE, 1.0, 1.0, 1.0, hue=120.0).of_picture(colours, (1, 4))
    expected = colours[:, [1, 2, 0, 3]]  # red to green to blue to red
    np.testing.assert_allclose(turned, expected, atol=1)
    rgb = photo((60, 80))
    back = Change(False, WHOLE, 1.0, 1.0, 1.0, hue=360.0).of_picture(rgb, (60, 80))
    np.testing.assert_allclose(back, rgb, atol=1)


@pytest.mark.parametrize("sigma", [0.6, 1.5])
def test_a_blur_is_a_gaussian_of_its_width(sigma):
    rgb = np.zeros((41, 41, 3), np.uint8)
    rgb[20, 20] = 255
    shown = Change(False, WHOLE, 1.0, 1.0, 1.0, blur=sigma).of_picture(rgb, (41, 41))
    y, x = np.mgrid[-20:21, -20:21]
    gaussian = np.exp(-(y**2 + x**2) / (2 * sigma**2))
    expected = 255 * gaussian / gaussian.sum()
    for channel in range(3):
        np.testing.assert_allclose(shown[:, :, channel], expected, atol=1)


def test_a_compression_is_that_of_a_jpeg_file():
    rgb = photo((64, 96))
    files = {}
    for quality in (30, 90):
        shown = Change(False, WHOLE, 1.0, 1.0, 1.0, jpeg=quality).of_picture(rgb, (64, 96))
        file = io.BytesIO()
        Image.fromarray(rgb).save(file, "JPEG", quality=quality, subsampling="4:2:0")
        expected = np.asarray(Image.open(file), float)
        assert np.abs(shown - expected).mean() < 0.5  # the same but for rounding
        files[quality] = np.abs(shown - rgb.astype(float)).mean()
    assert files[30] > 1.5 * files[90] > 0


def test_what_is_off_by_default_leaves_all_other_draws_as_they_were():
    fixations = some_fixations()
    more = {"grey": 0.3, "hue": 0.2, "blur": 0.5, "jpeg": 0.5}
    for plain, rich in zip(draws({}, fixations), draws(more, fixations), strict=True):
        assert (plain.hue, plain.blur, plain.jpeg) == (0, 0, 0)
        known = (rich.flip, rich.window, rich.brightness, rich.contrast)
        assert known == (plain.flip, plain.window, plain.brightness, plain.contrast)
        assert rich.saturation in (0.0, plain.saturation)
    # As many numbers as before: the stream goes on where it did.
    rng, again = np.random.default_rng(1), np.random.default_rng(1)
    drawn = Augmentation().draw(rng, fixations)
    flip, colours = again.random() < 0.5, [1 + again.uniform(-0.2, 0.2) for _ in range(3)]
    assert (drawn.flip, [drawn.brightness, drawn.contrast, drawn.saturation]) == (flip, colours)
    side = again.uniform(0.6, 1.0)
    assert drawn.window == (*again.uniform(0.0, 1.0 - side, size=2), side)
    assert rng.random() == again.random()


def test_rare_changes_come_as_often_as_they_should():
    options = {"grey": 0.1, "hue": 0.25, "blur": 0.4, "jpeg": 0.7}
    drawn = draws(options, np.ones((48, 64), bool), 1000)
    assert np.mean([d.saturation == 0 for d in drawn]) == pytest.approx(0.1, abs=0.04)
    hues = [d.hue for d in drawn]
    assert -45 <= min(hues) < -44 and 44 < max(hues) <= 45
    blurs = [d.blur for d in drawn if d.blur]
    assert len(blurs) / 1000 == pytest.approx(0.4, abs=0.06)
    assert min(blurs) < 0.05 and 1.45 < max(blurs) <= 1.5
    qualities = [d.jpeg for d in drawn if d.jpeg]
    assert len(qualities) / 1000 == pytest.approx(0.7, abs=0.06)
    assert (min(qualities), max(qualities)) == (30, 90)


# ---- draws --------------------------------------------------------------------------------


def test_draws_fill_their_ranges_and_stay_within():
    options = {"flip": 0.5, "min_crop": 0.5, "brightness": 0.1, "contrast": 0.2, "saturation": 0.3}
    drawn = draws(options, np.ones((48, 64), bool), 400)
    for name in ("brightness", "contrast", "saturation"):
        values = [getattr(d, name) for d in drawn]
        low, high = 1 - options[name], 1 + options[name]
        assert low <= min(values) < low + 0.02 and high - 0.02 < max(values) <= high
        assert np.mean(values) == pytest.approx(1, abs=0.02)
    top, left, side = np.array([d.window for d in drawn]).T
    assert 0.5 <= side.min() < 0.52 and 0.98 < side.max() <= 1
    for start in (top, left):
        assert start.min() >= 0
        assert (start + side).max() <= 1
        assert np.mean(start / (1 - side)) == pytest.approx(0.5, abs=0.05)
    assert np.mean([d.flip for d in drawn]) == pytest.approx(0.5, abs=0.1)


@pytest.mark.parametrize(
    "place", [(0, 0), (47, 63), (0, 63), (24, 32)], ids=["first", "last", "corner", "middle"]
)
def test_at_least_one_fixation_stays(place):
    fixations = np.zeros((48, 64), bool)
    fixations[place] = True
    drawn = draws({"min_crop": 0.2}, fixations)
    assert all(d.of_fixations(fixations).sum() == 1 for d in drawn)
    assert len({d.window for d in drawn}) > 1 or place != (24, 32)


def test_without_any_fixation_the_whole_picture_is_kept():
    drawn = draws({"min_crop": 0.2}, np.zeros((48, 64), bool), 20)
    assert {d.window for d in drawn} == {WHOLE}
    assert {d.flip for d in drawn} == {False, True}


@pytest.fixture
def salicon(tmp_path, monkeypatch):
    monkeypatch.setenv("SALICON_DATA_DIR", str(tmp_path))
    for part in ("train", "val", "test"):
        write_salicon(tmp_path, part, n=3)

    def make(phase="train", **options):
        return SALICONDataset(phase, out_size=(64, 96), **options)

    return make


def same(one, other):
    return torch.equal(one.frames, other.frames) and torch.equal(one.maps, other.maps)


def test_nothing_is_changed_by_default(salicon):
    dataset, again = salicon(seed=1), salicon(seed=2)
    again.epoch = 1
    assert dataset.augmentation is None
    assert all(same(dataset[i], again[i]) for i in range(3))


def test_only_training_examples_are_changed(salicon):
    assert not same(salicon("train", augment=True)[0], salicon("train")[0])
    for phase in ("valid", "eval"):
        assert same(salicon(phase, augment=True)[0], salicon(phase)[0])
    frames = [salicon("test", augment=augment)[0].frames for augment in (True, False)]
    assert torch.equal(*frames)


def test_options_that_change_nothing_leave_the_example_as_it_is(salicon):
    assert same(salicon(augment=STILL)[0], salicon()[0])
    assert torch.equal(salicon(augment=STILL | {"flip": 1})[0].frames, salicon()[0].frames.flip(-1))


def test_a_draw_depends_on_seed_epoch_and_index_alone(salicon):
    first, second = salicon(augment=True, seed=(3, 1)), salicon(augment=True, seed=(3, 1))
    for epoch in (0, 1):
        first.epoch = second.epoch = epoch
        forwards = [first[i] for i in (0, 1, 2)]
        backwards = [second[i] for i in (2, 1, 0, 1)]
        assert same(forwards[0], backwards[2])
        assert same(forwards[1], backwards[1]) and same(forwards[1], backwards[3])
        assert same(forwards[2], backwards[0])


def test_seeds_epochs_and_examples_draw_differently(salicon):
    drawn = []
    for seed in ((0, 0), (0, 1), (1, 0)):
        dataset = salicon(augment=True, seed=seed)
        for dataset.epoch in (0, 1, 2):
            drawn += [dataset.rng(i).random() for i in range(3)]
    assert len(set(drawn)) == len(drawn)


@pytest.mark.parametrize(
    ("augment", "message"),
    [
        ({"flipp": 1}, "Augmentation has no option 'flipp'; did you mean 'flip'"),
        ({"flip": 2}, "augment's flip is 2; it has to be a number of at least 0 and at most 1"),
        ({"brightness": -0.1}, r"brightness is -0\.1"),
        ({"contrast": "much"}, "contrast is 'much'"),
        ({"jpeg": 2}, "augment's jpeg is 2"),
        ({"min_crop": 0}, "min_crop is 0; it has to be a number above 0"),
        ({"min_crop": 1.5}, r"min_crop is 1\.5"),
        ("false", "augment is 'false'; it has to be True, False or a dictionary"),
    ],
    ids=str,
)
def test_a_wrong_option_is_named(salicon, augment, message):
    with pytest.raises(UserError, match=message):
        salicon(augment=augment)
