"""Predictions of data sets: each frame under its key, failures kept to their video or image."""

from __future__ import annotations

import numpy as np
import pytest
from support import lively_network, write_dhf1k, write_salicon

from unisal.data import DHF1KDataset, SALICONDataset
from unisal.errors import UserError
from unisal.inference.engine import Engine
from unisal.predict.datasets import FrameKey, predict_dataset
from unisal.predict.smooth import median_over_time

INPUT_SIZE = (64, 96)


@pytest.fixture(scope="module")
def engine():
    return Engine(lively_network(), "cpu")


@pytest.fixture
def videos(tmp_path, monkeypatch):
    write_dhf1k(tmp_path, {601: 3, 602: 13})
    monkeypatch.setenv("DHF1K_DATA_DIR", str(tmp_path))
    return DHF1KDataset("eval", input_size=INPUT_SIZE)


@pytest.fixture
def images(tmp_path, monkeypatch):
    write_salicon(tmp_path, "val", 5)
    monkeypatch.setenv("SALICON_DATA_DIR", str(tmp_path))
    return SALICONDataset("eval", input_size=INPUT_SIZE)


def one_video(engine, dataset, video, size):
    """Return the log-densities of a video, read and predicted without threads."""
    n = dataset.lengths()[video]
    frames = [(number, dataset.read_input(video, number)) for number in range(1, n + 1)]
    return [y for _, y in engine.video(frames, size, "DHF1K", dataset.frame_step)]


def test_the_frames_of_videos_come_in_order_under_their_keys(engine, videos):
    found = list(predict_dataset(engine, videos, "DHF1K"))
    assert [key for key, _ in found] == [
        FrameKey(video, number) for video, n in enumerate((3, 13)) for number in range(1, n + 1)
    ]
    for video in (0, 1):
        ours = [y for key, y in found if key.video == video]
        np.testing.assert_array_equal(ours, one_video(engine, videos, video, (36, 64)))


def test_chosen_videos_alone_are_predicted_and_smoothed(engine, videos):
    found = list(predict_dataset(engine, videos, "DHF1K", chosen=[1], smooth_window=3))
    plain = enumerate(one_video(engine, videos, 1, (36, 64)), 1)
    expected = [(FrameKey(1, n), y) for n, y in median_over_time(plain, 3)]
    assert [key for key, _ in found] == [key for key, _ in expected]
    np.testing.assert_array_equal([y for _, y in found], [y for _, y in expected])


def test_images_are_predicted_at_the_size_of_their_pictures_or_maps(engine, images, monkeypatch):
    monkeypatch.setattr(SALICONDataset, "target_size", lambda *_: (30, 40))
    for size, shape in (("frame", (48, 64)), ("target", (30, 40))):
        found = list(predict_dataset(engine, images, "SALICON", size=size))
        assert [key for key, _ in found] == [FrameKey(i, 1) for i in range(5)]
        for key, y in found:
            frame = images.read_input(key.video)
            expected = engine.images(frame[None], shape, "SALICON")[0]
            np.testing.assert_allclose(y, expected, atol=1e-5)


@pytest.mark.parametrize("kind", ["images", "videos"])
def test_a_faulty_picture_costs_its_image_or_video_alone(engine, kind, request):
    dataset = request.getfixturevalue(kind)
    dataset.files(0, 1 if kind == "images" else 2).image.write_bytes(b"no picture")
    domain = dataset.domain
    with pytest.raises(UserError, match=r"cannot be read|no picture|not a picture"):
        list(predict_dataset(engine, dataset, domain))
    failed = []
    found = list(
        predict_dataset(engine, dataset, domain, on_error=lambda i, e: failed.append((i, str(e))))
    )
    assert [i for i, _ in failed] == [0]
    whole = [key for key, _ in found if key.video != 0]
    assert whole == [
        FrameKey(video, number)
        for video, n in enumerate(dataset.lengths())
        for number in range(1, n + 1)
        if video != 0
    ]


def test_a_prediction_that_is_not_finite_is_named(images):
    model = lively_network()
    for name, parameter in model.named_parameters():
        if name.startswith("adaptation_salicon"):
            parameter.data.fill_(float("nan"))
    with pytest.raises(UserError, match=r"COCO_val2014_0+1.jpg is not finite; the weights may"):
        list(predict_dataset(Engine(model, "cpu"), images, "SALICON"))
