"""Films with gaze: frames by number and by time, read in any order, as clips and one by one."""

from __future__ import annotations

import json

import numpy as np
import pytest
from gaze_folders import film_pictures, frame_number, write_film, write_table

from unisal.data.gaze import GazeVideoFolder, film, gaze_source
from unisal.data.gaze.film import FrameReader, read_film
from unisal.data.gaze.reading import load_gaze
from unisal.errors import UserError

N = 50


@pytest.fixture(scope="module")
def films(tmp_path_factory):
    folder = tmp_path_factory.mktemp("films")
    write_film(folder / "one.mp4", N)
    write_film(folder / "two.mkv", 20, rate=50)
    return folder


@pytest.mark.parametrize("name", ["one.mp4", "two.mkv"])
def test_a_film_is_indexed_without_decoding(films, name):
    n, rate = (N, 25) if name == "one.mp4" else (20, 50)
    found = read_film(films / name, 24)
    assert found.n_frames == n
    assert found.size == (64, 96)
    assert found.rate == pytest.approx(rate, rel=0.01)
    np.testing.assert_allclose(found.times, np.arange(n + 1) / rate, atol=2e-3)
    assert found.keys.tolist() == list(range(0, n, 12))


@pytest.mark.parametrize("skipped", [0, 5, 1000])
@pytest.mark.parametrize("cache_bytes", [0, 10**9])
def test_frames_are_read_in_any_order(films, skipped, cache_bytes, monkeypatch):
    monkeypatch.setattr(film, "MAX_SKIPPED", skipped)
    reader = FrameReader([read_film(films / n, 24) for n in ("one.mp4", "two.mkv")], cache_bytes)
    order = np.random.default_rng(0).permutation(N).tolist()
    for number in [*range(5), *order[:20], N - 1, 0, N - 1]:
        assert frame_number(reader.read(0, number)) == number
        if number < 20:
            assert frame_number(reader.read(1, number)) == number
    with pytest.raises(UserError, match="cannot be decoded"):
        reader.read(0, N + 3)
    assert frame_number(reader.read(0, 7)) == 7


@pytest.mark.parametrize("ending", [".mov", ".mkv", ".ts", ".avi"])
@pytest.mark.parametrize("keyframes", [7, 1000])
def test_jumps_lead_to_the_frame_that_is_meant(tmp_path, ending, keyframes, monkeypatch):
    monkeypatch.setattr(film, "MAX_SKIPPED", 3)
    path = tmp_path / f"film{ending}"
    write_film(path, 40, keyframes=keyframes)
    described = read_film(path, 24)
    assert described.n_frames == 40
    reader = FrameReader([described], cache_bytes=0)
    for number in np.random.default_rng(1).permutation(40)[:15].tolist():
        assert frame_number(reader.read(0, number)) == number


def make(folder, films, header, rows, config=None):
    (folder / "videos").mkdir(parents=True)
    for path in films.iterdir():
        (folder / "videos" / path.name).symlink_to(path)
    write_table(folder / "gaze.csv", header, rows)
    (folder / "gaze.json").write_text(json.dumps({"blur_pixels": 3, **(config or {})}))
    return gaze_source("films", folder)


def looked_at(dataset, index):
    n = dataset.lengths()[index]
    return [k for k in range(1, n + 1) if dataset.is_looked_at(index, k)]


@pytest.mark.parametrize("first", [0, 1])
@pytest.mark.parametrize("window", [0, 2])
def test_gaze_by_the_number_of_the_frame(tmp_path, films, first, window):
    rows = [("one", 10 + first, 40, 30), ("one", N - 1 + first, 1, 2), ("two", 3 + first, 5, 5)]
    rows += [("one", N + first, 1, 1), ("one", 500, 1, 1)]
    cls = make(tmp_path, films, ("video", "frame", "x", "y"), rows[:3], {"frame_window": window})
    assert issubclass(cls, GazeVideoFolder)
    dataset = cls(phase="test")
    expected = [k for c in (11, N) for k in range(c - window, c + window + 1) if 1 <= k <= N]
    assert looked_at(dataset, 0) == expected
    y, x = np.argwhere(dataset.read_fixation_map(0, 11)).T
    assert (x.tolist(), y.tolist()) == ([40], [30])
    assert np.unravel_index(dataset.read_density(0, 11).argmax(), (64, 96)) == (30, 40)
    said = f"frames are counted from {first}"
    assert any(said in line for line in dataset.data.report.lines())
    # Said by hand, and with frames beyond the end, which are dropped.
    cls = make(tmp_path / "said", films, ("video", "frame", "x", "y"), rows, {"frames_from": first})
    data = cls.read()
    assert data.report.dropped == {"outside the time of the film": 2}


def test_gaze_by_time_covers_the_frames_that_are_shown(tmp_path, films):
    rows = [("one", "a", 10, 10, 100, 100), ("one", "b", 20, 20, 400, 1), ("two", "a", 5, 5, 0, 90)]
    rows += [("one", "a", 1, 1, 60_000, 100), ("one", "a", 2, 2, -500, 100)]
    header = ("video", "observer", "x", "y", "start_ms", "duration_ms")
    dataset = make(tmp_path, films, header, rows)(phase="test")
    # At 25 frames per second frame k (from 1) is shown from 40 (k - 1) to 40 k ms.
    assert looked_at(dataset, 0) == [3, 4, 5, 11]
    assert looked_at(dataset, 1) == [1, 2, 3, 4, 5]
    assert dataset.data.report.dropped == {"outside the time of the film": 2}
    assert not dataset.fixation_map(0, number=4, observers=["b"]).any()
    assert dataset.fixation_map(0, number=4, observers=["a"])[10, 10]


def test_samples_by_time_count_for_one_frame(tmp_path, films):
    rows = [("one", "a", 10, 10, t) for t in range(200, 300, 10)]
    dataset = make(tmp_path, films, ("video", "observer", "x", "y", "t"), rows)(phase="test")
    assert dataset.data.of_samples
    assert looked_at(dataset, 0) == [6, 7, 8]
    assert [len(dataset.fixations(0, k)) for k in (6, 7, 8)] == [4, 4, 2]


def test_films_need_frames_or_times(tmp_path, films):
    with pytest.raises(UserError, match="neither frames nor times"):
        make(tmp_path, films, ("video", "x", "y"), [("one", 1, 1)])


def test_folders_of_frames_are_films(tmp_path):
    for name, n in (("walk", 6), ("run", 9)):
        film_pictures(tmp_path / "videos" / name, n)
    rows = [("walk", k, 10, 10) for k in range(6)] + [("run", 8, 5, 5)]
    write_table(tmp_path / "gaze.csv", ("video", "frame", "x", "y"), rows)
    data = load_gaze(tmp_path)
    assert data.is_video
    assert [data.name(i) for i in range(2)] == ["run", "walk"]
    dataset = gaze_source("folders", tmp_path)(phase="test")
    assert dataset.lengths() == [9, 6]
    assert looked_at(dataset, 0) == [9]
    assert dataset.files(1, 3).image == tmp_path / "videos" / "walk" / "003.png"
    assert dataset.read_picture(1, 3).shape == (48, 64, 3)


# ---- as a data set --------------------------------------------------------------------------
@pytest.fixture
def dataset_class(tmp_path, films):
    rows = [("one", k, 10 + k % 50, 20) for k in range(0, N, 3)]
    rows += [("two", k, 30, 10) for k in range(20)]
    config = {"splits": {"train": ["one", "two"], "val": []}}
    return make(tmp_path, films, ("video", "frame", "x", "y"), rows, config)


def test_the_frame_step_makes_six_frames_a_second(dataset_class):
    dataset = dataset_class(phase="train")
    assert [dataset.frame_step_of(i) for i in range(2)] == [4, 8]  # 25 and 50 frames a second
    assert [dataset.clip_frames(i) for i in range(2)] == [12, 3]
    assert dataset.batch_group(0) != dataset.batch_group(1)
    assert dataset_class(phase="train", frame_step=2).frame_step_of(1) == 2


def test_a_clip_has_its_frames_and_their_maps(dataset_class):
    dataset = dataset_class(phase="train", seq_len=5, input_size=(32, 64))
    item = dataset[0]
    numbers = dataset.frame_numbers(0)
    assert np.diff(numbers).tolist() == [4] * 4
    assert 1 <= numbers[0] <= numbers[-1] <= N
    assert item.frames.shape == (5, 3, 32, 64)
    assert item.maps.shape == item.fixations.shape == (5, 1, 32, 64)
    np.testing.assert_allclose(item.maps.sum((1, 2, 3)), 1, rtol=1e-5)
    assert item.fixations.flatten(1).any(1).all()  # frames without gaze take the nearest
    for number, fixated in zip(numbers, item.fixations, strict=True):
        nearest = min(range(0, N, 3), key=lambda k: abs(k - (number - 1)))
        x = (10 + nearest % 50 + 0.5) * 64 / 96
        assert fixated[0, 10, int(x)]  # 10 is half of 20, the position in the film
    starts = set()
    for dataset.epoch in range(30):
        starts.add(dataset.frame_numbers(0)[0])
    assert len(starts) > 10
    assert max(starts) + 16 <= N


def test_whole_films_are_interleaved_sequences(dataset_class):
    dataset = dataset_class(phase="test")
    assert len(dataset) == 4 + 8
    numbers = sorted(n for i in range(4) for n in dataset.frame_numbers(i))
    assert numbers == list(range(1, N + 1))
    assert dataset.lengths() == [N, 20]
    assert dataset.target_size(0) == (64, 96)
    for number in (1, 30, 2, N):
        assert frame_number(dataset.read_picture(0, number)) == number - 1
