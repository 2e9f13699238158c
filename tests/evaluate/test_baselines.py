"""Reference baselines: chance, the centre bias, and observers who predict observers."""

from __future__ import annotations

import json

import cv2
import numpy as np
import pytest
import scipy.stats
from PIL import Image
from support import run_command, write_mat, write_photo, write_run, write_salicon

from unisal.data import DATASETS
from unisal.evaluate.baselines import (
    CENTRE_BIAS,
    CHANCE,
    OBSERVERS,
    CentreBias,
    ObserverHalves,
    blur_of_maps,
    blurred_density,
)

SIZE = (48, 64)


def write_part(root, part, points_of, sigma=3.0, with_observers=False):
    """Write a SALICON part from the fixations `[(x, y), ...]` of each image."""
    for i, points in enumerate(points_of, 1):
        stem = f"COCO_{part}2014_{i:012d}"
        write_photo(root / "images" / f"{stem}.jpg", SIZE, seed=i)
        fixated = np.zeros(SIZE, np.uint8)
        for x, y in points:
            fixated[y, x] = 255
        blurred = cv2.GaussianBlur(
            fixated.astype(np.float32), (0, 0), sigma, borderType=cv2.BORDER_CONSTANT
        )
        for folder, picture in (("maps", blurred / blurred.max() * 255), ("fixations", fixated)):
            path = root / folder / part / f"{stem}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(picture.astype(np.uint8)).save(path)
        if with_observers:
            path = root / "fixations" / part / f"{stem}.png"
            path.unlink()
            write_mat(path.with_suffix(".mat"), points, SIZE)


def random_points(rng, n, centre=(32, 24), spread=5.0):
    points = rng.normal(centre, spread, size=(n, 2)).astype(int)
    return [tuple(p) for p in np.clip(points, 0, (SIZE[1] - 1, SIZE[0] - 1)).tolist()]


@pytest.fixture
def root(tmp_path, monkeypatch):
    monkeypatch.setenv("SALICON_DATA_DIR", str(tmp_path / "SALICON"))
    monkeypatch.setenv("TRAIN_DIR", str(tmp_path / "runs"))
    return tmp_path / "SALICON"


def test_the_centre_bias_is_the_density_of_all_training_fixations(root):
    rng = np.random.default_rng(0)
    points = [random_points(rng, 30, centre=(20, 30)) for _ in range(4)]
    write_part(root, "train", points)
    density = CentreBias(DATASETS["SALICON"](phase="train")).density(SIZE)
    assert density.sum() == pytest.approx(1)
    assert density.min() > 0
    distinct = np.array([p for image in points for p in set(image)], float).T  # (x, y)
    y, x = np.mgrid[0 : SIZE[0], 0 : SIZE[1]]
    # scipy's estimate uses the full covariance, here almost diagonal.
    expected = scipy.stats.gaussian_kde(distinct)([x.ravel(), y.ravel()]).reshape(SIZE)
    assert np.corrcoef(density.ravel(), expected.ravel())[0, 1] > 0.99


def test_the_centre_bias_has_any_size(root):
    rng = np.random.default_rng(0)
    write_part(root, "train", [random_points(rng, 30) for _ in range(3)])
    bias = CentreBias(DATASETS["SALICON"](phase="train"))
    small, large = bias.density(SIZE), bias.density((96, 128))
    assert large.sum() == pytest.approx(1)
    summed = large.reshape(48, 2, 64, 2).sum(axis=(1, 3))
    assert np.corrcoef(small.ravel(), summed.ravel())[0, 1] > 0.99


def test_the_blur_of_the_maps_is_found(root):
    rng = np.random.default_rng(0)
    for sigma in (2.0, 5.0):
        write_part(root, "val", [random_points(rng, 6, spread=12) for _ in range(3)], sigma)
        assert blur_of_maps(DATASETS["SALICON"](phase="eval")) == pytest.approx(sigma, rel=0.05)


def test_blurred_fixations_leave_no_pixel_impossible():
    counts = np.zeros(SIZE)
    counts[3, 4] = 2
    density = blurred_density(counts, 2.0)
    assert density.sum() == pytest.approx(1)
    assert density.min() > 0
    assert np.unravel_index(density.argmax(), SIZE) == (3, 4)
    np.testing.assert_allclose(blurred_density(np.zeros(SIZE), 2.0), 1 / (48 * 64))


def test_each_half_of_the_observers_predicts_the_other(root):
    rng = np.random.default_rng(0)
    points = random_points(rng, 20)
    write_part(root, "val", [points], with_observers=True)
    dataset = DATASETS["SALICON"](phase="eval")
    assert len(dataset.read_observers(0)) == 2
    (one, target, fixated), (back, other_target, other_fixated) = ObserverHalves(dataset, 0).pairs(
        0
    )
    np.testing.assert_array_equal(fixated | other_fixated, dataset.read_fixation_map(0))
    assert fixated.sum() + other_fixated.sum() >= len(set(points))
    for log_density, density in ((one, other_target), (back, target)):
        assert np.exp(log_density).sum() == pytest.approx(1, abs=1e-4)
        # Each prediction is the other direction's ground truth, but for the uniform share.
        assert np.corrcoef(np.exp(log_density).ravel(), density.ravel())[0, 1] > 0.9999


@pytest.mark.slow
def test_the_command_scores_the_baselines_too(root, tmp_path):
    rng = np.random.default_rng(0)
    write_part(root, "train", [random_points(rng, 20) for _ in range(4)])
    write_part(root, "val", [random_points(rng, 20) for _ in range(3)], with_observers=True)
    write_run(tmp_path / "runs" / "mine")
    done = run_command(
        "score_model", "mine", "--sources=SALICON", "--baselines=True", "--device=cpu"
    )
    assert done.returncode == 0, done.stderr
    summary = json.loads((tmp_path / "runs" / "mine" / "SALICON_eval_summary.json").read_text())
    means = {name: scores["mean"] for name, scores in summary["baselines"].items()}
    assert list(means) == [CHANCE, CENTRE_BIAS, OBSERVERS]
    for name in means:
        assert name in done.stdout
    assert means[CHANCE]["aucj"] == pytest.approx(0.5)
    assert means[CHANCE]["nss"] is None
    assert means[CENTRE_BIAS]["aucj"] > 0.7  # all looked at the middle
    assert means[OBSERVERS]["nss"] > means[CENTRE_BIAS]["nss"] - 0.5
    assert means[CENTRE_BIAS]["kld"] < means[CHANCE]["kld"]


def test_what_the_data_does_not_hold_is_said_and_left_out(root, tmp_path):
    write_salicon(root, "val", n=2)
    write_run(tmp_path / "runs" / "mine")
    done = run_command(
        "score_model",
        "mine",
        "--sources=SALICON",
        "--baselines=True",
        "--metrics=kld",
        "--device=cpu",
    )
    assert done.returncode == 0, done.stderr
    assert "no centre bias of SALICON" in done.stderr
    summary = json.loads((tmp_path / "runs" / "mine" / "SALICON_eval_summary.json").read_text())
    assert list(summary["baselines"]) == [CHANCE]
    assert summary["metrics"] == ["kld"]
