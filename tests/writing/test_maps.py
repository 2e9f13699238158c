"""One map as a file: grey levels to the last bit, densities unchanged, and the table of formats."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest
from PIL import Image

from unisal.errors import UserError
from unisal.inference.densities import saliency_map, to_density, to_saliency_map
from unisal.writing.formats import MAP_FORMATS, distinct_names, find_map_format, picture_names
from unisal.writing.maps import (
    to_16_bit_grey_levels,
    to_grey_levels,
    write_density,
    write_map,
    write_overlay,
)
from unisal.writing.rows import rows_h5, rows_npz

SIZE = (37, 53)


@pytest.fixture(params=range(4))
def logits(request):
    return np.random.default_rng(request.param).normal(0, 3, SIZE).astype(np.float32)


@pytest.fixture
def density(logits):
    return to_density(logits)


# ---- grey levels --------------------------------------------------------------------------


def test_grey_levels_are_the_density_over_its_peak_to_the_last_bit(density):
    relative = density / density.max()
    levels = to_grey_levels(to_saliency_map(density))
    assert levels.dtype == np.uint8 and levels.max() == 255
    np.testing.assert_array_equal(levels, (relative * np.float32(255)).astype(np.uint8))
    levels = to_16_bit_grey_levels(to_saliency_map(density))
    assert levels.dtype == np.uint16 and levels.max() == 65535
    np.testing.assert_array_equal(levels, (relative * 65535).astype(np.uint16))


def test_a_saliency_map_of_logits_is_not_scaled_again(logits):
    direct = saliency_map(logits, SIZE)
    assert direct.max() == 1
    np.testing.assert_array_equal(to_saliency_map(direct), direct)
    assert (
        np.abs(
            to_grey_levels(direct).astype(int) - to_grey_levels(to_saliency_map(to_density(logits)))
        ).max()
        <= 1
    )


@pytest.mark.parametrize("density", [np.ones((2, 2)), np.array([[1e-30, 5e-31]]), np.ones((1, 1))])
def test_grey_levels_do_not_depend_on_the_scale(density):
    grey = to_grey_levels(to_saliency_map(density.astype(np.float32)))
    assert grey.dtype == np.uint8
    assert grey.max() == 255
    assert grey.tolist() == np.floor(density / density.max() * 255).astype(int).tolist()


def test_what_is_dimmer_than_white_stays_so(density):
    # Nothing is scaled by what the map holds: half as salient is half as bright.
    half = to_saliency_map(density) / 2
    assert to_grey_levels(half).max() == 127
    assert to_16_bit_grey_levels(half).max() == 32767


# ---- files --------------------------------------------------------------------------------


def test_pictures_hold_the_levels(tmp_path, density):
    shown = to_saliency_map(density)
    write_map(tmp_path / "8.png", shown)
    MAP_FORMATS["png16"].write(tmp_path / "16.png", shown)
    eight, sixteen = Image.open(tmp_path / "8.png"), Image.open(tmp_path / "16.png")
    assert (eight.mode, sixteen.mode) == ("L", "I;16")
    np.testing.assert_array_equal(np.asarray(eight), to_grey_levels(shown))
    np.testing.assert_array_equal(np.asarray(sixteen), to_16_bit_grey_levels(shown))


def test_densities_are_stored_unchanged(tmp_path, density):
    write_density(tmp_path / "a.npy", density)
    MAP_FORMATS["npz"].write(tmp_path / "a.npz", density)
    MAP_FORMATS["h5"].write(tmp_path / "a.h5", density)
    with h5py.File(tmp_path / "a.h5") as file:
        assert set(file) == {"density"}
        found = [np.load(tmp_path / "a.npy"), np.load(tmp_path / "a.npz")["density"]]
        found.append(file["density"][:])
    for values in found:
        assert values.dtype == np.float32
        np.testing.assert_array_equal(values, density)
    assert np.load(tmp_path / "a.npz").files == ["density"]


def test_colours_are_not_exchanged(tmp_path):
    rgb = np.random.default_rng(0).integers(0, 256, (*SIZE, 3), dtype=np.uint8)
    write_overlay(tmp_path / "a.png", rgb)
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "a.png")), rgb)


@pytest.mark.parametrize("labels", [[0.0, 0.04, 0.5], ["a.png", "b.png", "long name ü.jpg"]])
@pytest.mark.parametrize("kind", ["npz", "h5"])
def test_rows_go_to_one_file_with_their_labels(tmp_path, kind, labels):
    rows = np.random.default_rng(0).random((3, *SIZE), dtype=np.float32)
    path = tmp_path / f"a.{kind}"
    with MAP_FORMATS[kind].open_rows(path, "values", "labels") as append:
        for row, label in zip(rows, labels, strict=True):
            append(row, label)
            assert not path.exists()
    if kind == "npz":
        found = dict(np.load(path))
    else:
        with h5py.File(path) as file:
            text = isinstance(labels[0], str)
            found = {"values": file["values"][:]}
            found["labels"] = (file["labels"].asstr() if text else file["labels"])[:]
    assert found["values"].dtype == np.float32
    np.testing.assert_array_equal(found["values"], rows)
    assert found["labels"].tolist() == labels


@pytest.mark.parametrize("open_rows", [rows_npz, rows_h5])
def test_rows_that_fail_leave_nothing(tmp_path, open_rows):
    def fail():
        with open_rows(tmp_path / "a.npz", "values", "labels") as append:
            append(np.zeros(SIZE, np.float32), 0.0)
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert list(tmp_path.iterdir()) == []


# ---- the table ----------------------------------------------------------------------------


def test_formats_say_what_they_hold():
    assert {name: f.holds_densities for name, f in MAP_FORMATS.items()} == {
        "png": False,
        "png16": False,
        "npz": True,
        "h5": True,
    }


@pytest.mark.parametrize("name", ["jpg", True, None, ["png"]])
def test_an_unknown_format_is_refused(name):
    with pytest.raises(UserError, match="it has to be one of png, png16, npz, h5"):
        find_map_format(name)


def test_files_of_one_stem_are_kept_apart(tmp_path):
    images = [tmp_path / name for name in ("a.jpg", "a.png", "b.png", "contact_sheet.png")]
    names = distinct_names(images, taken=["contact_sheet"])
    assert list(names) == images
    assert list(names.values()) == ["a.jpg", "a.png", "b", "contact_sheet.png"]
    assert list(distinct_names(images).values()) == ["a.jpg", "a.png", "b", "contact_sheet"]


@pytest.mark.parametrize("seed", range(30))
def test_names_are_distinct_whatever_the_files_are_called(seed):
    rng = np.random.default_rng(seed)
    pieces = ["a", "A", "b", ".png", ".jpg", ".webp", ".gif"]
    chosen = {"".join(rng.choice(pieces, 3)) + rng.choice([".png", ".JPG", ".webp", ".gif"]): 0}
    for _ in range(12):
        name = "".join(rng.choice(pieces, rng.integers(1, 3))) + rng.choice(pieces[3:])
        chosen.setdefault(name.lower(), 0)
    files = [Path("x") / name for name in chosen if not name.startswith(".")]
    for names in (distinct_names(files, taken=["b"]), picture_names(files)):
        assert list(names) == files
        assert len({name.casefold() for name in names.values()}) == len(files)
        assert names == dict(zip(files, names.values(), strict=True))
    assert "b" not in distinct_names(files, taken=["b"]).values()


def test_pictures_of_other_kinds_get_png_maps(tmp_path):
    names = ["a.png", "a.webp", "b.jpg", "b.gif", "c.JPEG", "d.tif", "d.webp", "e.PNG", "e.jp2"]
    chosen = picture_names([tmp_path / name for name in names])
    assert list(chosen.values()) == [
        *("a.png", "a.webp.png", "b.jpg", "b.png", "c.JPEG", "d.tif.png", "d.webp.png"),
        *("e.PNG", "e.jp2.png"),
    ]
