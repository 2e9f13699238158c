"""From a folder to fixations: units, places on the screen, names, parts, and what is dropped."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from gaze_folders import HEADER, write_gaze, write_table
from support import write_photo

from unisal.data.gaze.reading import load_gaze
from unisal.errors import UserError

SIZES = {"a.jpg": (60, 80), "b.jpg": (80, 60)}
POINTS = [("a.jpg", 0, 0), ("a.jpg", 79, 59), ("a.jpg", 40.25, 12.5), ("b.jpg", 59, 79)]
"""(stimulus, x, y) in pixels from 0, the corners among them."""


def make(folder, rows, config=None, header=("stimulus", "x", "y"), sizes=SIZES):
    for name, size in sizes.items():
        write_photo(folder / "stimuli" / name, size)
    write_table(folder / "fixations.csv", header, rows)
    if config is not None:
        (folder / "gaze.json").write_text(json.dumps(config))
    return folder


def positions(data):
    found = data.fixations
    return [
        (data.name(s), pytest.approx(x, abs=1e-6), pytest.approx(y, abs=1e-6))
        for s, x, y in zip(found.stimulus, found.x, found.y, strict=True)
    ]


# ---- units ----------------------------------------------------------------------------------
def width_height(name):
    return SIZES[name][::-1]


@pytest.mark.parametrize("said", [True, False])
def test_pixels_from_1_are_seen_at_the_right_border(tmp_path, said):
    rows = [(n, x + 1, y + 1) for n, x, y in POINTS]
    data = load_gaze(make(tmp_path, rows, {"units": "pixels_from_1"} if said else None))
    assert positions(data) == POINTS
    assert any("counted from 1" in line for line in data.report.changed) is not said


def test_pixels_from_0_stay(tmp_path):
    data = load_gaze(make(tmp_path, POINTS))
    assert positions(data) == POINTS
    assert data.report.changed == []


def test_gaze_that_goes_on_beyond_the_border_is_not_counted_from_1(tmp_path):
    rows = [("a.jpg", 80, 30), ("a.jpg", 81, 30), ("a.jpg", 40, 30)]
    data = load_gaze(make(tmp_path, rows))
    assert positions(data) == [("a.jpg", 40, 30)]
    assert data.report.dropped == {"off the stimulus": 2}


@pytest.mark.parametrize("said", [True, False])
@pytest.mark.parametrize("origin", ["top", "bottom"])
def test_shares_of_the_sides(tmp_path, said, origin):
    rows = []
    for name, x, y in POINTS:
        width, height = width_height(name)
        share = (y + 0.5) / height
        rows.append((name, (x + 0.5) / width, share if origin == "top" else 1 - share))
    data = load_gaze(
        make(tmp_path, rows, {"origin": origin, **({"units": "share"} if said else {})})
    )
    assert positions(data) == POINTS
    assert any("between 0 and 1" in line for line in data.report.assumed) is not said


@pytest.mark.parametrize("how", ["pixels_per_degree", "screen"])
def test_degrees_from_the_middle(tmp_path, how):
    screen = {"width_px": 1000, "height_px": 800, "width_cm": 50, "distance_cm": 60}
    rows = []
    for name, x, y in POINTS:
        width, height = width_height(name)
        right, up = x + 0.5 - width / 2, -(y + 0.5 - height / 2)
        if how == "screen":  # 20 pixels are a centimetre
            angles = [math.degrees(math.atan(v / 20 / 60)) for v in (right, up)]
        else:
            angles = [right / 30, up / 30]
        rows.append((name, *angles))
    said = {"screen": screen} if how == "screen" else {"pixels_per_degree": 30}
    data = load_gaze(make(tmp_path, rows, {"units": "degrees", **said}))
    assert positions(data) == POINTS
    expected = 30 if how == "pixels_per_degree" else 20 * 60 * math.tan(math.radians(1))
    assert data.blur(0) == pytest.approx((expected, expected))


def test_degrees_without_a_screen_are_refused(tmp_path):
    with pytest.raises(UserError, match="pixels_per_degree"):
        load_gaze(make(tmp_path, POINTS, {"units": "degrees"}))


@pytest.mark.parametrize("placement", ["centred", "fitted", "stretched", [100, 50, 160, 240]])
def test_stimuli_on_a_screen(tmp_path, placement):
    screen = {"width_px": 400, "height_px": 300}
    rows, scales = [], {}
    for name, x, y in POINTS:
        width, height = width_height(name)
        if placement == "stretched":
            scale, corner = (400 / width, 300 / height), (0, 0)
        elif placement == "fitted":
            s = min(400 / width, 300 / height)
            scale, corner = (s, s), ((400 - s * width) / 2, (300 - s * height) / 2)
        elif placement == "centred":
            scale, corner = (1, 1), ((400 - width) / 2, (300 - height) / 2)
        else:
            scale, corner = (160 / width, 240 / height), (100, 50)
        scales[name] = scale
        rows.append((name, *(c + s * (v + 0.5) - 0.5 for c, s, v in zip(corner, scale, (x, y)))))  # noqa: B905
    config = {"screen": screen, "placement": placement, "pixels_per_degree": 12}
    data = load_gaze(make(tmp_path, rows, config))
    assert positions(data) == POINTS
    assert data.blur(0) == pytest.approx((12 / scales["a.jpg"][1], 12 / scales["a.jpg"][0]))


def test_exchanged_axes_are_suspected(tmp_path):
    rng = np.random.default_rng(0)
    rows = [("a.jpg", y, x) for x, y in rng.uniform((0, 0), (79, 59), (200, 2)).round(1)]
    data = load_gaze(make(tmp_path, rows, sizes={"a.jpg": (60, 80)}))
    assert any("may be exchanged" in line for line in data.report.assumed)
    rows = [(n, x, y) for n, y, x in rows]
    data = load_gaze(make(tmp_path / "right", rows, sizes={"a.jpg": (60, 80)}))
    assert not any("may be exchanged" in line for line in data.report.assumed)


# ---- what is dropped ------------------------------------------------------------------------
def test_every_row_that_is_dropped_is_counted(tmp_path):
    good = ("a.jpg", "p1", 10, 10, 0, 100)
    rows = [
        good,
        good,  # again
        ("a.jpg", "p1", 10, 10, 300, 100),
        ("a.jpg", "p2", 10, 10, 0, 100),
        ("a.jpg", "p1", "", "", 400, 100),
        ("a.jpg", "p1", "nan", 3, 500, 100),
        ("a.jpg", "p1", 20, 20, 600, 0),
        ("a.jpg", "p1", 20, 20, 700, -5),
        ("a.jpg", "p1", 79.5, 20, 800, 100),
        ("a.jpg", "p1", 79.4, 20, 900, 100),
        ("a.jpg", "p1", -0.6, 20, 950, 100),
        ("c.jpg", "p1", 20, 20, 0, 100),
        ("", "p1", 20, 20, 0, 100),
    ]
    data = load_gaze(make(tmp_path, rows, header=HEADER))
    report = data.report
    assert report.dropped == {
        "without a stimulus": 1,
        "of unknown stimuli": 1,
        "without a position (blinks)": 2,
        "with a duration of 0 or less": 2,
        "off the stimulus": 2,
        "that repeat another row": 1,
    }
    assert report.n_rows == len(rows)
    assert report.n_kept == len(data.fixations) == len(rows) - sum(report.dropped.values())
    assert any("unknown stimuli: c.jpg" in line for line in report.lines())


def test_equal_looks_of_unnamed_people_are_kept(tmp_path):
    data = load_gaze(make(tmp_path, [("a.jpg", 10, 10)] * 3))
    assert len(data.fixations) == 3


def test_no_row_left_says_why(tmp_path):
    with pytest.raises(UserError, match="1 off the stimulus"):
        load_gaze(make(tmp_path, [("a.jpg", 500, 10)]))


def test_rows_can_be_chosen_by_a_column(tmp_path):
    rows = [("a.jpg", 10, 10, "free"), ("a.jpg", 20, 20, "search"), ("b.jpg", 5, 5, "free")]
    config = {"keep": {"task": "free"}}
    data = load_gaze(make(tmp_path, rows, config, header=("stimulus", "x", "y", "task")))
    assert data.fixations.x.tolist() == [10, 5]
    assert data.report.dropped == {"by 'task'": 1}


# ---- names ----------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("a.jpg", "a"),
        ("a.jpg", "A.JPG"),
        ("a.jpg", "a.bmp"),
        ("a.jpg", "C:\\exp\\stimuli\\a.jpg"),
        ("a.jpg", "stimuli/a.jpg"),
        ("012.jpg", "12"),
        ("012.jpg", "12.0"),
        ("3001.jpg", "3001"),
        ("faces/a.jpg", "faces/a.jpg"),
        ("faces/a.jpg", "faces\\a"),
        ("faces/a.b.jpg", "a.b"),
    ],
)
def test_names_of_stimuli(tmp_path, file, name):
    sizes = {file: (60, 80), "other.png": (60, 80)}
    data = load_gaze(make(tmp_path, [(name, 10, 10), ("other", 1, 2)], sizes=sizes))
    index = data.stimuli.index(tmp_path / "stimuli" / file)
    assert len(data.of(index)) == 1


def test_of_several_columns_the_one_that_names_the_stimuli_is_taken(tmp_path):
    rows = [("trial 1", "a.jpg", 10, 10), ("trial 2", "b.jpg", 20, 20)]
    data = load_gaze(make(tmp_path, rows, header=("stimulus", "image", "x", "y")))
    assert positions(data) == [("a.jpg", 10, 10), ("b.jpg", 20, 20)]


def test_a_name_that_fits_two_files_is_unknown(tmp_path):
    sizes = {"one/a.jpg": (60, 80), "two/a.jpg": (60, 80)}
    rows = [("a.jpg", 10, 10), ("two/a.jpg", 20, 20)]
    data = load_gaze(make(tmp_path, rows, sizes=sizes))
    assert positions(data) == [("two/a.jpg", 20, 20)]
    assert any("fit several files: a.jpg" in line for line in data.report.lines())


def test_names_that_fit_nothing_are_an_error(tmp_path):
    with pytest.raises(UserError, match=r"'stimulus' names no file.*'zebra'.*'a.jpg'"):
        load_gaze(make(tmp_path, [("zebra", 1, 1)]))


def test_a_single_stimulus_needs_no_name(tmp_path):
    data = load_gaze(make(tmp_path, [(1, 2), (3, 4)], header=("x", "y"), sizes={"a.jpg": (60, 80)}))
    assert len(data.of(0)) == 2


def test_missing_columns_are_named_with_those_that_exist(tmp_path):
    make(tmp_path, [("a.jpg", 1, 2)], header=("stimulus", "horizontal", "vertical"))
    with pytest.raises(UserError, match=r"no columns with x and y.*'horizontal'.*gaze\.json"):
        load_gaze(tmp_path)
    config = {"columns": {"x": "horizontal", "y": "vertical"}}
    (tmp_path / "gaze.json").write_text(json.dumps(config))
    assert load_gaze(tmp_path).fixations.x.tolist() == [1]


# ---- gaze.json ------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"unit": "pixels"}, "did you mean 'units'"),
        ({"units": "miles"}, "units is 'miles'; allowed are pixels"),
        ({"columns": {"z": "x"}}, "no option 'z'"),
        ({"columns": {"x": "gx", "y": "y"}}, "no column 'gx'"),
        ({"columns": {"x": "x"}}, "name x and y"),
        ({"blur_degrees": 1}, "needs pixels_per_degree"),
        ({"blur_degrees": 1, "blur_pixels": 3, "pixels_per_degree": 3}, "give one of them"),
        ({"placement": "centred"}, "needs the screen"),
        ({"screen": {"width_px": 4}}, "screen lacks height_px"),
        ({"screen": [4, 3]}, "has to be an object"),
        ({"table": 3}, "table is 3; it has to be text"),
        ({"groups": [3]}, "3 is no name"),
        ({"placement": "left", "screen": {"width_px": 4, "height_px": 3}}, "placement is 'left'"),
        ({"groups": "age"}, "no column 'age'"),
        ({"weights": "w"}, "no column 'w'"),
        ({"splits": {"train": ["a"], "val": ["a"]}}, "is in train and in val"),
        ({"splits": {"train": "a"}}, "expected a list"),
        ({"splits": {"all": ["a"]}}, "names no part"),
        ({"splits": ["a"]}, "has to be an object or a file"),
        ({"splits": "parts.json"}, "is missing"),
        ({"stimuli": "pictures"}, "does not exist"),
        ({"table": "gaze.csv"}, "does not exist"),
        ({"kind": "films"}, "holds no films"),
        ({"min_confidence": 3}, "min_confidence"),
    ],
)
def test_mistakes_in_gaze_json_are_named(tmp_path, config, said):
    make(tmp_path, POINTS, config)
    with pytest.raises(UserError, match=said):
        load_gaze(tmp_path)


def test_all_stimuli_that_cannot_be_read_are_named(tmp_path):
    make(tmp_path, POINTS)
    for name in SIZES:
        (tmp_path / "stimuli" / name).write_bytes(b"no picture")
    with pytest.raises(UserError, match=r"a\.jpg is not a picture.*b\.jpg is not a picture"):
        load_gaze(tmp_path)


def test_gaze_json_may_lie_elsewhere(tmp_path):
    make(tmp_path / "data", POINTS)
    config = tmp_path / "config" / "crowd.json"
    config.parent.mkdir()
    config.write_text(json.dumps({"folder": "../data", "blur_pixels": 3}))
    data = load_gaze(config)
    assert positions(data) == POINTS
    assert data.blur(0) == (3, 3)


def test_blur_without_a_degree_is_a_share_of_the_longer_side(tmp_path):
    data = load_gaze(make(tmp_path, POINTS))
    assert data.blur(0) == data.blur(1) == (0.03 * 80, 0.03 * 80)
    assert any("3%" in line for line in data.report.lines())


def test_weights_and_groups(tmp_path):
    rows = [("a.jpg", 1, 1, 100, "old"), ("a.jpg", 2, 2, 300, "young")]
    config = {"weights": "duration", "groups": "age"}
    header = ("stimulus", "x", "y", "duration_ms", "age")
    data = load_gaze(make(tmp_path, rows, config, header))
    assert data.fixations.weight.tolist() == [100, 300]
    assert data.fixations.choose(groups={"age": "young"}).x.tolist() == [2]


def test_the_folder_must_hold_one_table(tmp_path):
    make(tmp_path, POINTS)
    (tmp_path / "people.csv").write_text("observer,age\np1,3\n")
    assert positions(load_gaze(tmp_path)) == POINTS  # fixations.csv is the usual name
    (tmp_path / "gaze.csv").write_text("x,y\n1,2\n")
    with pytest.raises(UserError, match=r"several tables: fixations\.csv, gaze\.csv"):
        load_gaze(tmp_path)
    for name in ("fixations.csv", "gaze.csv", "people.csv"):
        (tmp_path / name).unlink()
    with pytest.raises(UserError, match="no table of gaze"):
        load_gaze(tmp_path)


@pytest.mark.parametrize("place", ["nowhere", "stimuli/a.jpg"])
def test_what_is_no_folder_is_an_error(tmp_path, place):
    make(tmp_path, POINTS)
    with pytest.raises(UserError, match=place):
        load_gaze(tmp_path / place)


# ---- times and numbers ----------------------------------------------------------------------
def test_rows_are_sorted_by_time_and_numbered(tmp_path):
    rows = [("a.jpg", "p1", 5, 5, t, 10) for t in (400, 0, 200)]
    rows += [("a.jpg", "p2", 5, 6, 100, 10)]
    data = load_gaze(make(tmp_path, rows, header=HEADER))
    found = data.of(0)
    assert found.start_ms.tolist() == [0, 200, 400, 100]
    assert found.number.tolist() == [1, 2, 3, 1]
    assert found.choose(window_ms=(0, 200)).start_ms.tolist() == [0, 100]
    assert found.choose(numbers=[2, 3]).start_ms.tolist() == [200, 400]


@pytest.mark.parametrize(("name", "factor"), [("t [s]", 1e-3), ("t_ms", 1), ("start [us]", 1e3)])
def test_units_of_times_are_in_the_names(tmp_path, name, factor):
    rows = [("a.jpg", 5, 5, 500 * factor), ("a.jpg", 6, 6, 1000 * factor)]
    data = load_gaze(make(tmp_path, rows, header=("stimulus", "x", "y", name)))
    assert data.fixations.start_ms == pytest.approx([500, 1000])


def test_fractions_that_can_only_be_seconds_are_seconds(tmp_path):
    rows = [("a.jpg", 5, 5, 0.25, 0.2), ("a.jpg", 6, 6, 0.5, 0.3)]
    header = ("stimulus", "x", "y", "t", "duration")
    data = load_gaze(make(tmp_path, rows, header=header))
    assert data.fixations.start_ms.tolist() == [250, 500]
    assert data.fixations.duration_ms.tolist() == [200, 300]
    assert sum("is taken as seconds" in line for line in data.report.lines()) == 2
    data = load_gaze(make(tmp_path / "said", rows, {"time_unit": "ms"}, header))
    assert data.fixations.start_ms.tolist() == [0.25, 0.5]
    rows = [("a.jpg", 5, 5, 250, 200.5), ("a.jpg", 6, 6, 700.5, 300)]
    data = load_gaze(make(tmp_path / "ms", rows, header=header))
    assert data.fixations.start_ms.tolist() == [250, 700.5]
    assert data.fixations.duration_ms.tolist() == [200.5, 300]


# ---- parts ----------------------------------------------------------------------------------
def many(folder, config=None, n=10, splits=None):
    sizes = {f"{i:02d}.jpg": (20, 20) for i in range(n)}
    rows = [(i, 5, 5, f"g{i // 2}") for i in range(n)]
    make(folder, rows, config, ("stimulus", "x", "y", "scene"), sizes)
    if splits is not None:
        (folder / "splits.json").write_text(json.dumps(splits))
    return load_gaze(folder).splits


def test_parts_without_a_file_are_a_fifth_and_the_rest(tmp_path):
    splits = many(tmp_path)
    train, val = splits.part("train"), splits.part("eval")
    assert len(val) == 2
    assert sorted(train + val) == list(range(10)) == splits.part("test")
    assert splits.part("valid") == val
    folds = [splits.part("eval", 5, fold) for fold in range(5)]
    assert sorted(i for fold in folds for i in fold) == list(range(10))
    assert folds[0] == val
    assert any(splits.part("eval", seed=seed) != val for seed in (1, 2, 3))


def test_stimuli_of_a_group_stay_together(tmp_path):
    splits = many(tmp_path, {"split_by": "scene"})
    for fold in range(5):
        val = splits.part("eval", 5, fold)
        assert len(val) == 2
        assert val[0] // 2 == val[1] // 2


def test_a_file_names_the_parts_by_number_or_name(tmp_path):
    named = {"train": [0, 1, "02.jpg", "03"], "val": [4], "test": [9], "note": "by hand"}
    splits = many(tmp_path, splits=named)
    parts = [splits.part(phase) for phase in ("train", "valid", "eval", "test")]
    assert parts == [[0, 1, 2, 3], [4], [4], [9]]
    # Folds are made of the training and validation part alone.
    folds = [splits.part("eval", 5, fold) for fold in range(5)]
    assert sorted(i for fold in folds for i in fold) == [0, 1, 2, 3, 4]


def test_a_part_that_is_not_named_is_the_rest(tmp_path):
    splits = many(tmp_path, splits={"validation": [4, 5], "test": [0]})
    assert splits.part("eval") == [4, 5]
    assert splits.part("train") == [1, 2, 3, 6, 7, 8, 9]


def test_stimuli_of_a_part_that_are_not_there_are_said(tmp_path):
    many(tmp_path, splits={"train": [0, 77], "val": [4]})
    assert any("1 stimuli are not there: 77" in x for x in load_gaze(tmp_path).report.lines())


# ---- remembering and fingerprints -----------------------------------------------------------
def test_a_change_of_any_file_is_seen(tmp_path):
    write_gaze(tmp_path, SIZES)
    first = load_gaze(tmp_path)
    assert load_gaze(tmp_path) is first
    found = {first.fingerprint_hash()}
    (tmp_path / "gaze.json").write_text('{"blur_pixels": 2}')
    found.add(load_gaze(tmp_path).fingerprint_hash())
    (tmp_path / "splits.json").write_text('{"val": ["a"]}')
    found.add(load_gaze(tmp_path).fingerprint_hash())
    with (tmp_path / "fixations.csv").open("a") as file:
        file.write("a.jpg,p9,3,3,0,100\n")
    found.add(load_gaze(tmp_path).fingerprint_hash())
    write_photo(tmp_path / "stimuli" / "a.jpg", (60, 80), seed=9)
    found.add(load_gaze(tmp_path).fingerprint_hash())
    assert len(found) == 5


def test_reading_writes_nothing(tmp_path):
    write_gaze(tmp_path, SIZES)
    before = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*")}
    load_gaze(tmp_path)
    assert {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*")} == before
