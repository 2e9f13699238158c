"""Colours of films: high dynamic range, matrices that are not named, transparency."""

from __future__ import annotations

import av
import numpy as np
import pytest
from av.video.reformatter import Colorspace
from support import PROJECT, photo
from videos import BT2020, TO_2020, hlg, pq, to_linear, write_frames, write_hdr

from unisal.data.pictures import read_rgb
from unisal.data.tone_mapping import HLG, PQ, compress, tone_mapped
from unisal.data.video_file import VideoFile
from unisal.predict import load

EXAMPLE = PROJECT / "examples" / "SALICON" / "images" / "coffee_cup.jpg"


def read(path):
    with VideoFile(path) as video:
        return [f.rgb for f in video]


@pytest.mark.parametrize("tags", [{}, {"colorspace": 2, "color_primaries": 2}])
@pytest.mark.parametrize("transfer", [PQ, HLG])
def test_high_dynamic_range_looks_as_it_is_meant(tmp_path, transfer, tags):
    rgb = photo((64, 96))
    frames = read(write_hdr(tmp_path / "a.mkv", rgb, transfer, **tags))
    assert [f.shape for f in frames] == [(64, 96, 3)] * 2 and frames[0].dtype == np.uint8
    # What is darker than 90 cd/m² is to stay: red, green and blue, not only the lightness.
    dark = (203 * to_linear(rgb) @ TO_2020.T).max(axis=2) < 85
    assert 0.2 < dark.mean() < 1
    difference = np.abs(frames[0].astype(int) - rgb)
    assert difference[dark].mean() < 1.5 and np.percentile(difference[dark], 99) <= 5
    assert difference.mean() < 8
    assert np.corrcoef(frames[0].ravel(), rgb.ravel())[0, 1] > 0.99


@pytest.mark.parametrize("transfer", [PQ, HLG])
def test_greys_follow_the_curve_of_bt2390(transfer):
    light = np.array([0.0, 1, 20, 85, 203, 400, 700, 1000])
    coded = {PQ: pq, HLG: hlg}[transfer](np.repeat(light[:, None], 3, 1))
    codes = np.rint(65535 * coded).astype(np.uint16)[None]
    result = tone_mapped(codes, transfer, BT2020)[0].astype(int)
    assert np.ptp(result, axis=1).max() <= 1  # greys stay grey
    # sRGB's codes of 0, 1, 20, 85 cd/m² over 203; then from the spline, computed by hand for 203:
    # E1 = 0.7725, KS = 0.6587, T = 0.3332, E2 = 0.7384, that is 161 cd/m².
    assert np.abs(result[:4, 0] - [0, 16, 89, 173]).max() <= 1
    assert abs(result[4, 0] - 230) <= 1
    assert 235 < result[5, 0] < result[6, 0] <= result[7, 0] == 255


def test_the_curve_leaves_the_dark_and_ends_at_white():
    light = np.linspace(0, 1000, 2001)
    curve = compress(light)
    np.testing.assert_array_equal(curve[light < 85], light[light < 85])
    assert np.all(np.diff(curve) > 0) and curve[-1] == pytest.approx(203)
    assert compress(np.array([4000.0]))[0] == pytest.approx(203)


@pytest.mark.parametrize(("size", "is_709"), [((720, 1280), True), ((480, 640), False)])
@pytest.mark.parametrize("says", [False, True])
def test_a_film_that_does_not_name_its_matrix(tmp_path, size, is_709, says):
    rgb = np.empty((*size, 3), np.uint8)
    rgb[:] = 0, 192, 0
    matrix = Colorspace.ITU709 if is_709 else Colorspace.ITU601
    tags = {"colorspace": 1 if is_709 else 6} if says else {}
    kinds = {"given": "rgb24", "stored": "yuv420p", "matrix": matrix}
    (found,) = read(write_frames(tmp_path / "a.mkv", [rgb], **kinds, **tags))
    assert np.abs(found.astype(int) - rgb).max() <= 2


@pytest.mark.parametrize("codec", ["ffv1", "qtrle", "png"])
def test_transparent_films_are_laid_on_white(tmp_path, codec):
    rgba = np.zeros((64, 96, 4), np.uint8)
    rgba[..., :3] = 200, 40, 90
    rgba[:, :32, 3], rgba[:, 32:64, 3] = 255, 128
    stored = {"ffv1": "yuva444p", "qtrle": "argb", "png": "rgba"}[codec]
    name = "a.mkv" if codec == "ffv1" else "a.mov"
    (found,) = read(write_frames(tmp_path / name, [rgba], given="rgba", stored=stored, codec=codec))
    for x, expected in ((10, (200, 40, 90)), (50, (227, 147, 172)), (80, (255, 255, 255))):
        assert np.abs(found[30, x].astype(int) - expected).max() <= 3


def test_transparency_beside_the_pictures_of_webm_is_seen(tmp_path):
    rgba = np.full((64, 96, 4), 255, np.uint8)
    rgba[..., :3] = 200, 40, 90
    rgba[:, 48:, 3] = 0
    frames = read(
        write_frames(
            tmp_path / "a.webm", [rgba] * 3, given="rgba", stored="yuva420p", codec="libvpx-vp9"
        )
    )
    assert len(frames) == 3
    assert np.abs(frames[2][30, 10].astype(int) - (200, 40, 90)).max() <= 8
    assert np.abs(frames[2][30, 80].astype(int) - 255).max() <= 8


@pytest.mark.parametrize("transfer", [PQ, HLG])
def test_maps_of_a_scene_are_those_of_its_ordinary_film(tmp_path, transfer):
    rgb = read_rgb(EXAMPLE)
    path = write_hdr(tmp_path / "a.mkv", rgb, transfer)
    predictor = load(device="cpu")
    ours, theirs = (list(predictor.video([f] * 2))[1].ravel() for f in (read(path)[0], rgb))
    assert np.corrcoef(ours, theirs)[0, 1] > 0.998
    with av.open(str(path)) as container:
        plain = next(container.decode(video=0)).to_ndarray(format="rgb24")
    misread = list(predictor.video([plain] * 2))[1].ravel()
    ours_off, misread_off = (1 - np.corrcoef(one, theirs)[0, 1] for one in (ours, misread))
    assert misread_off > 1.5 * ours_off  # the comparison can fail
