"""Films made of pictures: pixels and fixations have to move together."""

from __future__ import annotations

import json
import pickle

import numpy as np
import pytest
from gaze_folders import HEADER, write_gaze, write_table
from PIL import Image
from support import call_command, write_run

from unisal.config import load_json
from unisal.data.gaze import gaze_source
from unisal.data.gaze.moving_crops import glide

N_FRAMES = 24


@pytest.fixture
def place(tmp_path):
    """A `gaze.json` that makes films of pictures of two sizes."""
    sizes = {f"p{i}.png": (120, 160) if i % 2 else (150, 110) for i in range(6)}
    write_gaze(tmp_path / "pictures", sizes)
    place = tmp_path / "crops.json"
    place.write_text(json.dumps({"folder": "pictures", "kind": "moving_crops"}))
    return place


def dataset(place, phase, **options):
    cls = gaze_source("crops", place)
    small = {"n_frames": N_FRAMES, "frame_size": (72, 128), "seq_len": 3}
    return cls(phase, **{**small, **options})


def test_windows_have_the_aspect_of_the_frames_and_stay_in_the_picture():
    for seed in range(20):
        windows = glide(np.random.default_rng(seed), 30, (72, 128), (150, 110))
        left, top, width, height = windows.T
        assert np.allclose(width / height, 128 / 72)
        assert (left >= -1e-9).all() and (left + width <= 110 + 1e-9).all()
        assert (top >= -1e-9).all() and (top + height <= 150 + 1e-9).all()
        assert np.abs(np.diff(windows, axis=0)).max() < 0.1 * 150  # no jumps


def test_a_fixation_moves_with_the_pixel_it_is_on(tmp_path):
    """Each fixation is on a spot of its own colour; in every frame it still is."""
    rgb = np.full((240, 320, 3), 20, np.uint8)
    rows, colours = [], {}
    for i, (x, y) in enumerate([(90, 80), (160, 120), (230, 160), (160, 60), (100, 180)]):
        colours[i] = np.array([250 if i % 2 else 40, 50 * i, 250 - 50 * i])
        rgb[y - 7 : y + 8, x - 7 : x + 8] = colours[i]
        rows.append(("one.png", f"o{i}", x, y, 0, 100))
    (tmp_path / "p" / "stimuli").mkdir(parents=True)
    Image.fromarray(rgb).save(tmp_path / "p" / "stimuli" / "one.png")
    write_table(tmp_path / "p" / "fixations.csv", HEADER, rows)
    cls = gaze_source("one", tmp_path / "p", changes={"kind": "moving_crops"})
    data = cls("test", n_frames=N_FRAMES, frame_size=(180, 320))
    places, n_seen = [], 0
    for number in range(1, N_FRAMES + 1):
        frame, found = data.read_picture(0, number), data.fixations(0, number)
        assert len(found) >= 1
        n_seen += len(found)
        for who, x, y in zip(found.observer, found.x, found.y, strict=True):
            seen = frame[round(y), round(x)].astype(int)
            assert np.abs(seen - colours[who]).max() < 12, (number, who)
        places.append(found.x[0])
    assert np.ptp(places) > 1 or np.ptp(data._windows(0)[:, 2]) > 1  # it does move
    whole = data.fixations(0)
    assert len(whole) == n_seen
    assert sorted(set(whole.first_frame)) == list(range(N_FRAMES))


def test_the_blur_grows_with_the_zoom(place):
    data = dataset(place, "eval")
    number = 5
    found, window = data.fixations(0, number), data.window(0, number)
    density = data.density(0, number=number)
    sigma = 0.03 * max(data.data.sizes[data.chosen[0]]) * 72 / window[3]
    ys, xs = np.mgrid[:72, :128]
    expected = sum(
        np.exp(-((xs - np.floor(x + 0.5)) ** 2 + (ys - np.floor(y + 0.5)) ** 2) / (2 * sigma**2))
        for x, y in zip(found.x, found.y, strict=True)
    )
    assert np.allclose(density, expected / expected.sum(), atol=0.01 * density.max())


def test_evaluation_repeats_and_training_varies(place):
    fixed, again = dataset(place, "valid"), dataset(place, "valid", seed=9)
    again.epoch = 3
    assert np.array_equal(fixed.window(0, 2), again.window(0, 2))
    train, same = dataset(place, "train"), dataset(place, "train")
    assert np.array_equal(train[0].frames, same[0].frames)
    before = train.window(0, 2)
    train.epoch = 1
    assert not np.array_equal(train.window(0, 2), before)


def test_examples_are_clips_with_densities(place):
    data = dataset(place, "train", augment=True)
    item = data[0]
    assert item.frames.shape[:2] == (3, 3) and item.maps.shape[0] == 3
    assert np.allclose(item.maps.sum((1, 2, 3)), 1, atol=1e-5)
    assert item.fixations.any()
    other = pickle.loads(pickle.dumps(data))  # as a process that reads data gets it
    assert np.array_equal(other[0].frames, item.frames)
    assert data.config["n_frames"] == N_FRAMES
    assert type(data).from_options(data.config).n_frames == N_FRAMES


def test_films_are_scored_by_the_command(place, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("TRAIN_DIR", str(tmp_path / "runs"))
    write_run(tmp_path / "runs" / "mine", sources=("DHF1K",), image_domains=())
    call = "score_model", "--train_id=mine", f"--data=crops={place}", "--device=cpu"
    assert call_command(*call) == 0
    assert "crops: 1 videos" in capsys.readouterr().out
    scores = load_json(tmp_path / "runs" / "mine" / "crops_eval_summary.json")
    assert len(scores["videos"]) == 1
