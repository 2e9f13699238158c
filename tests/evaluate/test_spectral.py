"""The spectral residual, against the definition with sums written out."""

from __future__ import annotations

import numpy as np
import pytest
from gaze_folders import write_gaze
from PIL import Image
from support import photo

from unisal.data import gaze_source
from unisal.evaluate.gaze import Gaze
from unisal.evaluate.spectral import SpectralResidual, spectral_residual


def transform(values, sign):
    """The discrete Fourier transform as a product of matrices."""

    def matrix(n):
        k = np.arange(n)
        return np.exp(sign * 2j * np.pi * np.outer(k, k) / n)

    return matrix(values.shape[0]) @ values @ matrix(values.shape[1])


def plain_residual(grey):
    spectrum = transform(grey, -1)
    log_amplitude = np.log(np.abs(spectrum))
    padded = np.pad(log_amplitude, 1, mode="edge")
    height, width = grey.shape
    average = sum(padded[i : i + height, j : j + width] for i in range(3) for j in range(3)) / 9
    phase = spectrum / np.abs(spectrum)
    return np.abs(transform(np.exp(log_amplitude - average) * phase, 1) / grey.size) ** 2


def noise(size, seed=0):
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (*size, 1), np.uint8).repeat(3, axis=2)


@pytest.mark.parametrize("height", [32, 48, 64])
def test_it_is_what_the_definition_says(height):
    rgb = noise((height, 64))  # no resize: its own width
    grey = np.asarray(Image.fromarray(rgb).convert("L"), float)
    np.testing.assert_allclose(spectral_residual(rgb), plain_residual(grey), rtol=1e-6, atol=1e-9)


def test_it_agrees_with_opencv_where_that_is_there():
    cv2 = pytest.importorskip("cv2")
    if not hasattr(cv2, "saliency"):
        pytest.skip("this OpenCV has no module saliency")
    rgb = photo((64, 64))
    ok, theirs = cv2.saliency.StaticSaliencySpectralResidual_create().computeSaliency(
        rgb[..., ::-1]
    )
    assert ok
    blurred = cv2.GaussianBlur(spectral_residual(rgb), (5, 5), 8)
    assert np.corrcoef(blurred.ravel(), theirs.ravel())[0, 1] > 0.9


@pytest.mark.parametrize("size", [(64, 64), (100, 230), (300, 40), (3, 200)])
def test_it_has_the_width_of_the_paper_and_any_shape(size):
    found = spectral_residual(photo(size))
    assert found.shape == (max(1, round(64 * size[0] / size[1])), 64)
    assert np.isfinite(found).all() and found.min() >= 0


def test_what_stands_out_is_found():
    rgb = np.full((128, 128, 3), 100, np.uint8)
    rgb[::4] = 140  # a regular pattern
    rgb[60:68, 90:98] = 250
    y, x = np.unravel_index(spectral_residual(rgb).argmax(), (64, 64))
    assert (abs(2 * y - 64), abs(2 * x - 94)) <= (8, 8)


def test_a_plain_picture_and_one_of_few_frequencies_are_no_problem():
    assert not spectral_residual(np.full((30, 40, 3), 7, np.uint8)).any()
    stripes = np.zeros((64, 64, 3), np.uint8)
    stripes[:, ::2] = 255
    assert np.isfinite(spectral_residual(stripes)).all()


def test_as_a_baseline_it_is_a_density_of_the_size_of_the_ground_truth(tmp_path):
    write_gaze(tmp_path / "own", {"a.png": (90, 120), "b.png": (120, 70)})
    Image.fromarray(np.full((50, 60, 3), 9, np.uint8)).save(tmp_path / "own/stimuli/a.png")
    dataset = gaze_source("own", tmp_path / "own", changes={"splits": {"val": ["a", "b"]}})("eval")
    baseline = SpectralResidual(Gaze(dataset))
    plain, other = (np.exp(baseline.predict(dataset, i).astype(float)) for i in range(2))
    np.testing.assert_allclose(plain, 1 / (50 * 60), rtol=1e-5)
    assert other.shape == (120, 70)
    assert other.sum() == pytest.approx(1, abs=1e-4)
    assert other.min() > 0 and other.std() > 0
