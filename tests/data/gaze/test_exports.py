"""Exports of eye trackers and data sets are read without being told what their columns hold."""

from __future__ import annotations

import numpy as np
import pytest
from gaze_folders import write_table
from support import write_photo

from unisal.data.gaze.reading import load_gaze

SIZE = 80, 100  # height, width of both pictures
ROWS = [  # picture, person, x, y, start, duration: what all the exports say
    ("a.jpg", "P1", 10.0, 20.0, 0.0, 200.0),
    ("a.jpg", "P1", 50.5, 40.0, 260.0, 300.0),
    ("a.jpg", "P2", 30.0, 70.0, 20.0, 180.0),
    ("b.jpg", "P1", 90.0, 5.0, 10.0, 120.0),
]
FIXATION, SACCADE = 0, 1


def cells(row, kind):
    picture, person, x, y, start, duration = row
    width, height = SIZE[1], SIZE[0]
    share = (x + 0.5) / width, (y + 0.5) / height
    return {
        "osie": (picture[:-4], person, x, y, duration),
        "tobii": (
            *("rec 1", person, picture, "Fixation" if kind == FIXATION else "Saccade"),
            *(x if kind == FIXATION else "", y if kind == FIXATION else "", 1000 + start, duration),
        ),
        "tobii_us": (person, picture, 1e6 + start * 1e3, "Fixation", duration, x, y),
        "eyelink": (person, 1, picture, x, y, start, start + duration, duration),
        "pupil": (7, 1000 + start / 1e3, duration, *(share[0], 1 - share[1]), 0.99, picture),
        "neon": (person, picture, 7, int(1e15 + start * 1e6), duration, x, y),
        "smi": (
            *("Trial001", picture, person, "Visual Intake" if kind == FIXATION else "Saccade"),
            *(start, duration, x if kind == FIXATION else "-", y if kind == FIXATION else "-"),
        ),
        "pymovements": (
            *("fixation" if kind == FIXATION else "saccade", start, start + duration, duration),
            *(f"[{x}, {y}]", person, picture),
        ),
        "surface": (person, picture, share[0], 1 - share[1], "True", start / 1e3, duration),
    }


HEADERS = {
    "osie": ("image", "subject", "x", "y", "duration_ms"),
    "tobii": (
        *("Recording name", "Participant name", "Presented Media name", "Eye movement type"),
        *("Fixation point X", "Fixation point Y", "Recording timestamp", "Gaze event duration"),
    ),
    "tobii_us": (
        *("Participant name", "Presented Stimulus name", "Recording timestamp [μs]"),
        *("Eye movement type", "Gaze event duration [ms]"),
        *("Fixation point X [MCS px]", "Fixation point Y [MCS px]"),
    ),
    "eyelink": (
        *("RECORDING_SESSION_LABEL", "TRIAL_INDEX", "image", "CURRENT_FIX_X", "CURRENT_FIX_Y"),
        *("CURRENT_FIX_START", "CURRENT_FIX_END", "CURRENT_FIX_DURATION"),
    ),
    "pupil": (
        *("id", "start_timestamp", "duration", "norm_pos_x", "norm_pos_y", "confidence", "image"),
    ),
    "neon": (
        *("wearer name", "stimulus", "fixation id", "start timestamp [ns]", "duration [ms]"),
        *("fixation x [px]", "fixation y [px]"),
    ),
    "smi": (
        *("Trial", "Stimulus", "Participant", "Category", "Event Start Trial Time [ms]"),
        *("Event Duration [ms]", "Fixation Position X [px]", "Fixation Position Y [px]"),
    ),
    "pymovements": ("name", "onset", "offset", "duration", "location", "subject_id", "stimulus"),
    "surface": (
        "participant",
        "image",
        "x_norm",
        "y_norm",
        "on_surf",
        "start_timestamp",
        "duration",
    ),
}


@pytest.fixture
def folder(tmp_path):
    for name in ("a.jpg", "b.jpg"):
        write_photo(tmp_path / "images" / name, SIZE)
    return tmp_path


@pytest.mark.parametrize("kind", HEADERS)
def test_fixations_of_an_export(folder, kind):
    rows = [cells(row, FIXATION)[kind] for row in ROWS]
    if kind in ("tobii", "smi", "pymovements"):  # they list what lies between as well
        rows.insert(2, cells(ROWS[1], SACCADE)[kind])
    sep = "," if kind in ("osie", "pymovements", "neon", "pupil", "surface") else "\t"
    write_table(folder / "export.tsv", HEADERS[kind], rows, sep)
    data = load_gaze(folder)
    found = data.fixations
    assert len(found) == len(ROWS)
    wanted = {(r[0], r[2], r[3]) for r in ROWS}
    got = {
        (data.name(s), round(x, 6), round(y, 6))
        for s, x, y in zip(found.stimulus, found.x, found.y, strict=True)
    }
    assert got == wanted
    assert sorted(found.duration_ms.tolist()) == sorted(r[5] for r in ROWS)
    assert not data.of_samples
    if kind == "pupil":  # one person, whom the table does not name
        assert data.observers == ()
        return
    assert data.observers == ("P1", "P2")
    first = data.of(0).choose(observers=[0])
    assert first.number.tolist() == [1, 2]
    if kind == "osie":  # only durations are known
        assert first.start_ms.tolist() == [0, 200]
    else:
        assert np.diff(first.start_ms) == pytest.approx(260, abs=1e-3)
    if kind in ("tobii", "tobii_us", "neon", "surface"):  # clocks of the recording
        assert first.start_ms[0] == 0


def test_samples_of_an_export(folder):
    header = ("RECORDING_SESSION_LABEL", "IMAGE_NAME", "TIMESTAMP", "RIGHT_GAZE_X", "RIGHT_GAZE_Y")
    rows = [("s1", "a.jpg", 5000 + 2 * i, 10 + i, 20) for i in range(8)]
    rows[3] = ("s1", "a.jpg", 5006, ".", ".")
    write_table(folder / "samples.txt", header, rows, "\t")
    data = load_gaze(folder)
    assert data.of_samples
    assert data.observers == ("s1",)
    assert data.fixations.x.tolist() == [10, 11, 12, 14, 15, 16, 17]
    assert data.fixations.start_ms.tolist() == [0, 2, 4, 8, 10, 12, 14]
    assert data.report.dropped == {"without a position (blinks)": 1}


def test_a_fixation_that_is_repeated_for_its_samples_counts_once(folder):
    header = (
        *("Participant name", "Presented Media name", "Recording timestamp", "Eye movement type"),
        *("Eye movement type index", "Gaze event duration", "Fixation point X", "Fixation point Y"),
    )
    rows = []
    for nth, (x, y) in enumerate([(10, 20), (60, 30)], 1):
        rows += [("P1", "a.jpg", 1000 * nth + 8 * i, "Fixation", nth, 48, x, y) for i in range(6)]
        rows += [("P1", "a.jpg", 1000 * nth + 60, "Saccade", nth, 20, "", "")]
        rows += [("P1", "a.jpg", 1000 * nth + 90, "EyesNotFound", nth, 20, "", "")]
    write_table(folder / "tobii.tsv", header, rows, "\t")
    data = load_gaze(folder)
    assert data.fixations.x.tolist() == [10, 60]
    assert data.fixations.start_ms.tolist() == [0, 1000]
    assert data.report.dropped == {
        "of saccades, blinks and other events": 4,
        "that repeat a fixation, sample by sample": 10,
    }


def test_pupil_rows_that_the_tracker_doubts_are_dropped(folder):
    header = ("image", "norm_pos_x", "norm_pos_y", "confidence", "on_surf")
    rows = [("a.jpg", 0.5, 0.5, c, s) for c, s in ((1, True), (0.5, True), (0.9, False))]
    write_table(folder / "gaze_positions.csv", header, rows)
    data = load_gaze(folder)
    assert len(data.fixations) == 1
    assert data.report.dropped == {
        "with a confidence below 0.6": 1,
        "beside the stimulus, by the eye tracker": 1,
    }
