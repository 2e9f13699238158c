"""The records of the metrics, and what a metric gets that needs more than a frame."""

from __future__ import annotations

import json
import re

import numpy as np
import plain_metrics
import pytest
from PIL import Image
from scored_runs import score_run
from support import (
    run_command,
    write_dhf1k,
    write_mit1003,
    write_run,
    write_salicon,
)

from unisal.commands import table
from unisal.data import DATASETS
from unisal.errors import UserError
from unisal.evaluate.baselines import CENTRE_BIAS, CHANCE, OBSERVERS, UNIFORM_SHARE, CentreBias
from unisal.evaluate.frames import FrameToScore
from unisal.evaluate.metric_table import METRICS, Need, choose_metrics, find_needs
from unisal.evaluate.options import ScoringOptions
from unisal.evaluate.scoring import (
    dataset_to_score,
    make_centre_bias,
    score_baselines,
    score_observers,
)
from unisal.inference.engine import Engine
from unisal.predict.datasets import predict_dataset

SIZE = (48, 64)


@pytest.fixture
def root(tmp_path, monkeypatch):
    """A SALICON folder without a training part; the run `mine` exists."""
    monkeypatch.setenv("TRAIN_DIR", str(tmp_path / "runs"))
    monkeypatch.setenv("SALICON_DATA_DIR", str(tmp_path / "SALICON"))
    write_salicon(tmp_path / "SALICON", "val", n=3, size=SIZE)
    write_run(tmp_path / "runs" / "mine")
    return tmp_path / "SALICON"


# ---- the records -------------------------------------------------------------------------------


def test_every_metric_is_explained():
    assert set(ScoringOptions.metrics) < set(METRICS)
    names = [metric.name for metric in METRICS.values()]
    assert len(set(names)) == len(names)
    help_text = table.score_model.__doc__ + table.DEFAULT_METRICS
    for key, metric in METRICS.items():
        assert metric.text.endswith(".") and len(metric.text) > 20
        assert re.search(rf"\b{key}\b", help_text), f"{key} is not in the help of score_model"
        assert metric.arrow == ("↑" if metric.higher_is_better else "↓")


@pytest.mark.parametrize("key", sorted(set(METRICS) - {"kld", "sim", "ig"}))
def test_chance_is_what_the_record_says(key):
    rng = np.random.default_rng(0)
    constant = np.full((20, 30), 1 / 600, np.float32)
    nearly = constant * rng.uniform(1, 1 + 1e-3, constant.shape).astype(np.float32)
    values = []
    for _ in range(200):
        fixations, others = rng.random((2, 20, 30)) > 0.8
        target = rng.random((20, 30))
        frame = FrameToScore(np.log(nearly), nearly, target, fixations, rng, others)
        values.append(METRICS[key].compute(frame))
    assert np.mean(values) == pytest.approx(METRICS[key].chance, abs=0.03)


def test_a_metric_says_what_it_needs():
    assert find_needs(("kld", "ig", "cc")) == {Need.CENTRE_BIAS: ["ig"]}
    assert find_needs(("aucs", "ig")) == {
        Need.OTHER_FIXATIONS: ["aucs"],
        Need.CENTRE_BIAS: ["ig"],
    }
    assert find_needs(("kld", "nss", "cc", "sim", "aucj")) == {}


def test_only_the_aucs_are_computed_on_a_share_of_the_frames():
    options = ScoringOptions(tuple(METRICS), auc_portion=0.25)
    counts = choose_metrics(0, 8, True, options).sum(axis=0)
    assert dict(zip(METRICS, counts, strict=True)) == {
        **dict.fromkeys(METRICS, 8),
        "aucj": 2,
        "aucs": 2,
    }
    assert choose_metrics(0, 1, False, options).all()


# ---- information gain --------------------------------------------------------------------------


def plain_centre_bias(fixation_maps, size):
    """The kernel density estimate from its definition, one fixation after the other."""
    positions = [
        ((y + 0.5) / fixated.shape[0], (x + 0.5) / fixated.shape[1])
        for fixated in fixation_maps
        for y, x in zip(*np.nonzero(fixated), strict=True)
    ]
    n = len(positions)
    sigma_y, sigma_x = np.std(positions, axis=0) * n ** (-1 / 6) * size
    ys, xs = np.arange(size[0])[:, None], np.arange(size[1])
    density = np.zeros(size)
    for y, x in positions:
        y, x = int(y * size[0]), int(x * size[1])
        density += np.exp(-((ys - y) ** 2) / (2 * sigma_y**2) - (xs - x) ** 2 / (2 * sigma_x**2))
    density /= density.sum()
    return (1 - UNIFORM_SHARE) * density + UNIFORM_SHARE / density.size


def fixations_of(dataset):
    return [
        dataset.read_fixation_map(index, number)
        for index, n in enumerate(dataset.lengths())
        for number in range(1, n + 1)
    ]


def plain_gains(model, dataset, train):
    """Compute the gains of the frames of each video or image from the definition."""
    engine = Engine(model, "cpu")
    gains = [[] for _ in dataset.lengths()]
    for (index, number), log_p in predict_dataset(engine, dataset, dataset.domain, size="target"):
        log_b = np.log(plain_centre_bias(fixations_of(train), log_p.shape))
        fixated = dataset.read_fixation_map(index, number)
        gains[index].append(plain_metrics.information_gain(log_p, log_b, fixated))
    return gains


def test_information_gain_is_that_over_the_centre_bias_of_the_training_part(root, tmp_path):
    write_salicon(root, "train", n=4, size=SIZE)
    write_salicon(tmp_path / "other", "val", n=4, size=(30, 70))  # scored at its own size
    for path in (tmp_path / "other").rglob("*4.*"):
        path.replace(root / path.relative_to(tmp_path / "other"))
    model = write_run(tmp_path / "runs" / "mine")
    dataset, train = (DATASETS["SALICON"](phase=phase) for phase in ("eval", "train"))
    (result,) = score_run("mine", ["SALICON"], ScoringOptions(("kld", "ig", "cc")))
    expected = np.concatenate(plain_gains(model, dataset, train))
    np.testing.assert_allclose(result.scores.rows[:, 1], expected, atol=2e-3)
    assert np.ptp(expected) > 0.05
    (alone,) = score_run("mine", ["SALICON"], ScoringOptions(("kld", "cc")))
    np.testing.assert_array_equal(result.scores.rows[:, [0, 2]], alone.scores.rows)


def test_information_gain_of_a_video_is_computed_on_all_frames(tmp_path, monkeypatch):
    monkeypatch.setenv("TRAIN_DIR", str(tmp_path / "runs"))
    monkeypatch.setenv("DHF1K_DATA_DIR", str(tmp_path / "DHF1K"))
    write_dhf1k(tmp_path / "DHF1K", {1: 60, 601: 3, 602: 4})
    model = write_run(tmp_path / "runs" / "mine")
    dataset, train = (DATASETS["DHF1K"](phase=phase) for phase in ("eval", "train"))
    (result,) = score_run("mine", ["DHF1K"], ScoringOptions(("ig", "aucj")))
    assert result.scores.n_wanted.tolist() == [[3, 1], [4, 2]]
    expected = [np.mean(gains) for gains in plain_gains(model, dataset, train)]
    np.testing.assert_allclose(result.scores.rows[:, 0], expected, atol=2e-3)


def test_the_baselines_have_their_information_gain_too(root):
    write_salicon(root, "train", n=4, size=SIZE)
    write_salicon(root, "val", n=3, size=SIZE, fixations="mat")
    for path in (root / "fixations" / "val").glob("*.png"):
        path.unlink()
    (with_baselines,) = score_run("mine", ["SALICON"], ScoringOptions(("ig",)), baselines=True)
    (without,) = score_run("mine", ["SALICON"], ScoringOptions(("ig",)))
    np.testing.assert_array_equal(with_baselines.scores.rows, without.scores.rows)
    found = with_baselines.baselines
    assert list(found) == [CHANCE, CENTRE_BIAS, OBSERVERS]
    assert found[CENTRE_BIAS].rows.tolist() == [[0], [0], [0]]

    dataset, train = (DATASETS["SALICON"](phase=phase) for phase in ("eval", "train"))
    log_b = np.log(plain_centre_bias(fixations_of(train), SIZE))
    uniform = np.log(np.full(SIZE, 1 / (48 * 64)))
    chance = [
        plain_metrics.information_gain(uniform, log_b, fixated) for fixated in fixations_of(dataset)
    ]
    np.testing.assert_allclose(found[CHANCE].rows[:, 0], chance, atol=2e-3)
    # Each half is compared with the same centre bias, at the fixations of the other half.
    options = ScoringOptions(("ig", "kld"))
    again = score_observers(dataset, options)
    np.testing.assert_array_equal(again.rows[:, :1], found[OBSERVERS].rows)
    of_library = score_baselines(dataset, options)
    for name, scores in of_library.items():
        np.testing.assert_array_equal(scores.rows[:, :1], found[name].rows)


def test_the_centre_bias_is_computed_once_for_each_size(root):
    write_salicon(root, "train", n=2, size=SIZE)

    sizes = []

    class Counted(CentreBias):
        def density(self, size):
            sizes.append(size)
            return super().density(size)

    dataset = dataset_to_score("SALICON")
    bias = Counted(DATASETS["SALICON"](phase="train"))
    options = ScoringOptions(("ig", "kld"))
    score_baselines(dataset, options, centre_bias=bias)
    score_baselines(dataset, options, centre_bias=bias)
    assert sizes == [SIZE]


def test_of_folds_it_is_the_centre_bias_of_all_others(tmp_path, monkeypatch):
    monkeypatch.setenv("TRAIN_DIR", str(tmp_path / "runs"))
    monkeypatch.setenv("MIT1003_DATA_DIR", str(tmp_path / "MIT1003"))
    write_mit1003(tmp_path / "MIT1003", [(32, 44)] * 8 + [(40, 30)] * 2)
    model = write_run(tmp_path / "runs" / "mine")
    options = {"x_val_step": 3, "subset": 0.5, "phase": "train", "augment": True}
    (tmp_path / "runs" / "mine" / "MIT1003Dataset.json").write_text(json.dumps(options))
    dataset = dataset_to_score("MIT1003", tmp_path / "runs" / "mine")
    train = DATASETS["MIT1003"](phase="train", x_val_step=3)
    assert len(train) == 9 and not set(train.images) & set(dataset.images)
    positions = [(np.argwhere(fixated) + 0.5) / fixated.shape for fixated in fixations_of(train)]
    np.testing.assert_array_equal(make_centre_bias(dataset).positions, np.concatenate(positions))
    (result,) = score_run("mine", ["MIT1003"], ScoringOptions(("ig",)))
    expected = np.concatenate(plain_gains(model, dataset, train))
    np.testing.assert_allclose(result.scores.rows[:, 0], expected, atol=2e-3)


@pytest.mark.usefixtures("root")
@pytest.mark.parametrize("baselines", [False, True])
def test_without_a_training_part_it_is_refused_before_any_work(tmp_path, baselines):
    (tmp_path / "runs" / "empty").mkdir()  # has no weights: nothing is loaded before the refusal
    for train_id in ("mine", "empty"):
        with pytest.raises(UserError, match=r"^ig cannot be .* SALICON .*train.*train2014"):
            score_run(train_id, options=ScoringOptions(("kld", "ig")), baselines=baselines)
    assert not list(tmp_path.rglob("*_eval_*"))


def test_a_training_part_without_fixations_is_refused(root, tmp_path):
    write_salicon(root, "train", n=2, size=SIZE)
    blank = np.zeros(SIZE, np.uint8)
    for path in (root / "fixations" / "train").iterdir():
        Image.fromarray(blank).save(path)
    with pytest.raises(UserError, match=r"^ig cannot be .*has no fixations"):
        score_run("mine", ["SALICON"], ScoringOptions(("ig",)))
    assert not list(tmp_path.rglob("*_eval_*"))


def test_the_command_writes_it_into_the_files_and_the_report(root, tmp_path):
    write_salicon(root, "train", n=3, size=SIZE)
    done = run_command(
        "score_model", "mine", "--sources=SALICON", "--metrics=kld,ig", "--report", "--device=cpu"
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.split()[:5] == ["SALICON:", "3", "images", "kld", "ig"]
    folder = tmp_path / "runs" / "mine"
    summary = json.loads((folder / "SALICON_eval_summary.json").read_text())
    rows = json.loads((folder / "SALICON_eval_scores.json").read_text())
    assert summary["metrics"] == ["kld", "ig"]
    assert summary["mean"]["ig"] == pytest.approx(np.mean(rows, axis=0)[1])
    page = (folder / "report.html").read_text()
    assert METRICS["ig"].text in page and "IG&nbsp;↑" in page and "Histogram of IG" in page
