"""Presets say what the classes of the data sets say, and nothing of their own."""

from __future__ import annotations

from fractions import Fraction

import pytest

from unisal.data import DATASETS, SALICONDataset, UCFSportsDataset, VideoDataset, register
from unisal.errors import UserError
from unisal.predict.presets import Preset, find_preset, is_video_preset


@pytest.fixture
def own_source():
    class OwnVideos(UCFSportsDataset):
        source = "OwnVideos"
        input_size = (96, 160)
        frame_step = 3
        frame_rate = 12

    register(OwnVideos)
    yield
    del DATASETS["OwnVideos"]


@pytest.mark.parametrize("name", DATASETS)
def test_every_source_is_a_preset(name):
    dataset, preset = DATASETS[name], find_preset(name)
    assert preset.domain == dataset.domain
    assert preset.is_video == issubclass(dataset, VideoDataset) == is_video_preset(name)
    assert preset.fine_tuned == dataset.fine_tuned


@pytest.mark.usefixtures("own_source")
def test_a_registered_source_is_a_preset_at_once():
    preset = find_preset("OwnVideos")
    assert preset.domain == "UCFSports"
    assert preset.input_size_for((100, 100)) == (96, 160)
    assert [preset.frame_step_for(rate) for rate in (12, 24, 4, 1)] == [3, 6, 1, 1]
    with pytest.raises(UserError, match="for images allowed are"):
        find_preset("OwnVideos", for_images=True)


def test_pictures_keep_their_aspect_ratio_whatever_the_source_is_trained_at():
    assert SALICONDataset.input_size == (288, 384)
    preset = find_preset("SALICON")
    (height, width), tall = preset.input_size_for((200, 1000)), preset.input_size_for((1000, 200))
    assert width > 1.5 * height and tall == (width, height)


def test_the_step_is_the_nearest_in_time():
    preset = find_preset("DHF1K")
    for rate in (10, 24, 25, Fraction(30000, 1001), 30, 50, 60, 120):
        own = preset.frame_step / preset.frame_rate
        step = preset.frame_step_for(rate)
        distances = {n: abs(n / rate - own) for n in range(1, 60)}
        assert distances[step] == min(distances.values())


def test_an_unknown_preset_is_refused_with_those_there_are():
    with pytest.raises(UserError, match=r"source is 'salicon'.*SALICON.*MIT300"):
        find_preset("salicon", for_images=True)
    assert not is_video_preset("salicon") and not is_video_preset("SALICON")


def test_a_preset_has_no_defaults_of_its_own():
    assert Preset._field_defaults == {}
