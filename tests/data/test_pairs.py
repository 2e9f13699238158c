"""Which map belongs to which picture: the layouts of folders, and the ways maps are named."""

from __future__ import annotations

import pytest

from unisal.data.pairs import find_pairs, match
from unisal.errors import UserError


def make(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


def found(folder):
    """Return {picture: map}, both by their paths in the folder."""
    pairs = find_pairs(folder)
    assert [pair.image for pair in pairs] == sorted(pair.image for pair in pairs)
    return {
        str(pair.image.relative_to(folder)): pair.map and str(pair.map.relative_to(folder))
        for pair in pairs
    }


def matched(tmp_path, images, maps):
    """Return {picture: map} by their names alone."""
    pairs = match([tmp_path / "i" / n for n in images], [tmp_path / "m" / n for n in maps])
    assert [pair.image.name for pair in pairs] == images
    return {pair.image.name: pair.map and pair.map.name for pair in pairs}


@pytest.mark.parametrize(
    ("image", "map_"),
    [
        ("images/a.jpg", "maps/a.png"),
        ("images/COCO_val2014_000000000001.jpg", "maps/val/COCO_val2014_000000000001.png"),
        ("ALLSTIMULI/i05.jpeg", "ALLFIXATIONMAPS/i05_fixMap.jpg"),
        ("ALLSTIMULI/ALLSTIMULI/i05.jpeg", "ALLFIXATIONMAPS/ALLFIXATIONMAPS/i05_fixMap.jpg"),
        ("ALLSTIMULI/i05.jpeg", "ALLFIXATIONMAPS/ALLFIXATIONMAPS/i05_fixMap.jpg"),
        ("ALLSTIMULI/ALLSTIMULI/i05.jpeg", "ALLFIXATIONMAPS/i05_fixMap.jpg"),
    ],
)
def test_layouts(tmp_path, image, map_):
    make(tmp_path, image, map_)
    assert found(tmp_path) == {image: map_}


def test_the_frames_of_a_video_are_in_order(tmp_path):
    for i in range(1, 31):
        make(tmp_path, f"images/{i:04d}.png", f"maps/{i:04d}.png", f"fixation/{i:04d}.png")
    assert list(found(tmp_path).items()) == [
        (f"images/{i:04d}.png", f"maps/{i:04d}.png") for i in range(1, 31)
    ]


def test_fixation_points_of_mit1003_are_no_maps(tmp_path):
    make(tmp_path, "ALLSTIMULI/street_7.jpeg", "ALLFIXATIONMAPS/street_7_fixPts.jpg")
    assert found(tmp_path) == {"ALLSTIMULI/street_7.jpeg": None}


def test_other_files_do_not_count(tmp_path):
    make(tmp_path, "images/a.jpg", "images/.b.jpg", "images/c.txt", "maps/.a.png", "maps/a.txt")
    assert found(tmp_path) == {"images/a.jpg": None}


def test_images_may_be_empty_where_the_other_layout_is_there(tmp_path):
    (tmp_path / "images").mkdir()
    make(tmp_path, "ALLSTIMULI/a.jpeg")
    assert found(tmp_path) == {"ALLSTIMULI/a.jpeg": None}


@pytest.mark.parametrize(
    ("image", "map_"),
    [
        ("a.jpg", "a.png"),
        ("a.jpg", "a.jpg"),
        ("a.jpg", "a_fixMap.jpg"),
        ("a.jpg", "a_fixMap.png"),
        ("a.jpg", "a.jpg.png"),
        ("a.b.JPG", "a.b.PNG"),
        ("frame_0012.jpg", "map-12.png"),
        ("clip3_0012.jpg", "12_fixMap.jpg"),
    ],
)
def test_a_map_is_named_after_its_picture(tmp_path, image, map_):
    assert matched(tmp_path, [image], [map_]) == {image: map_}


def test_the_ways_of_naming_have_an_order(tmp_path):
    maps = ["a7.png", "a7_fixMap.png", "a7.jpg.png", "b7.png"]
    for i in range(len(maps)):
        assert matched(tmp_path, ["a7.jpg"], maps[i:]) == {"a7.jpg": maps[i]}


def test_of_two_formats_the_one_without_losses_is_taken(tmp_path):
    assert matched(tmp_path, ["a.jpg"], ["a.jpg", "a.png"]) == {"a.jpg": "a.png"}


def test_a_number_alone_never_takes_what_may_be_another_ones(tmp_path):
    # A map that is named after a picture is only that picture's.
    assert matched(tmp_path, ["a1.jpg", "b1.jpg"], ["b1.png"]) == {
        "a1.jpg": None,
        "b1.jpg": "b1.png",
    }
    # Two pictures of a number, or two maps: nobody knows.
    assert matched(tmp_path, ["a1.jpg", "b1.jpg"], ["1.png"]) == {"a1.jpg": None, "b1.jpg": None}
    assert matched(tmp_path, ["a1.jpg"], ["b1.png", "c1.png"]) == {"a1.jpg": None}
    # It is the last number that counts, and as a number.
    assert matched(tmp_path, ["1_02.jpg"], ["1.png", "x2.png"]) == {"1_02.jpg": "x2.png"}
    assert matched(tmp_path, ["a.jpg"], ["b.png"]) == {"a.jpg": None}


# ---- what goes wrong ----------------------------------------------------------------------


def test_a_folder_that_is_not_there(tmp_path):
    with pytest.raises(UserError, match=r"none does not exist"):
        find_pairs(tmp_path / "none")


@pytest.mark.parametrize("inside", ["images", "ALLSTIMULI/ALLSTIMULI", "maps"])
def test_a_folder_without_pictures_says_what_was_expected(tmp_path, inside):
    (tmp_path / inside).mkdir(parents=True)
    with pytest.raises(UserError, match=r"images/ \(maps in maps/\) or ALLSTIMULI/"):
        find_pairs(tmp_path)


def test_maps_of_other_pictures_are_a_mistake(tmp_path):
    make(tmp_path, "images/a.jpg", "images/b.jpg", "maps/c.png", "maps/d.png")
    with pytest.raises(UserError, match=r"none of the 2 maps in .*such as c\.png.*such as a\.jpg"):
        find_pairs(tmp_path)


def test_two_maps_of_one_name_are_a_mistake(tmp_path):
    make(tmp_path, "images/a.jpg", "maps/train/a.png", "maps/val/a.png")
    with pytest.raises(UserError, match=r"train/a\.png and .*val/a\.png"):
        find_pairs(tmp_path)
