"""Scores of a run: their values, their means and the files they are saved in."""

from __future__ import annotations

import json
import math
from contextlib import contextmanager
from types import SimpleNamespace

import numpy as np
import plain_metrics
import pytest
import scipy.stats
import torch
from PIL import Image
from plain_video import plain_input, plain_video
from scored_runs import score_run
from support import (
    run_command,
    write_dhf1k,
    write_hollywood,
    write_run,
    write_salicon,
    write_ucfsports,
)

from unisal.errors import UserError
from unisal.evaluate.frames import FrameToScore, OtherFixations
from unisal.evaluate.metric_table import score_frame
from unisal.evaluate.options import ScoringOptions
from unisal.evaluate.scores import Scores, format_table
from unisal.evaluate.scoring import dataset_to_score, score_baselines

FILES = (
    "SALICON_eval_scores",
    "SALICON_eval_mean_scores",
    "SALICON_eval_weighted_mean_scores",
    "SALICON_eval_summary",
)
NAN = math.nan
SIX = ScoringOptions().metrics
FOUR = ("kld", "nss", "cc", "sim")
"""The metrics that nothing is drawn for."""


def strict_json(path):
    """What other programs read: NaN is no JSON."""

    def refuse(constant):
        raise ValueError(f"{path.name} holds {constant}")

    return json.loads(path.read_text(), parse_constant=refuse)


@pytest.fixture
def salicon(tmp_path, monkeypatch):
    """The root of a SALICON folder. The run `mine` goes to `runs/` beside it."""
    monkeypatch.setenv("TRAIN_DIR", str(tmp_path / "runs"))
    monkeypatch.setenv("SALICON_DATA_DIR", str(tmp_path / "SALICON"))
    write_salicon(tmp_path / "SALICON", "val", n=3)
    return tmp_path / "SALICON"


def plain_scores(model, root):
    """Straight from the files and the definitions of docs/behaviour.md, one row per picture."""
    rows = []
    for path in sorted((root / "images").glob("COCO_val2014_*.jpg")):
        x = plain_input(path, (288, 384))
        t = np.asarray(Image.open(root / "maps" / "val" / f"{path.stem}.png"), float)
        fixated = np.asarray(Image.open(root / "fixations" / "val" / f"{path.stem}.png")) > 127
        with torch.no_grad():
            log_p = model(x[None, None], target_size=t.shape, source="SALICON")[0, 0, 0].double()
        p, t = log_p.exp().numpy(), t / t.sum()
        rows.append(
            [
                scipy.stats.entropy(t.ravel(), p.ravel()),
                scipy.stats.zscore(p, axis=None, ddof=1)[fixated].mean(),
                scipy.stats.pearsonr(p.ravel(), t.ravel()).statistic,
                np.minimum(p, t).sum(),
            ]
        )
    return np.array(rows)


@pytest.mark.slow
def test_score_model_writes_the_scores_into_the_runs_folder(salicon, tmp_path):
    # One picture of another size: each is scored at the size of its own map.
    write_salicon(tmp_path / "other", "val", n=4, size=(30, 70))
    for path in (tmp_path / "other").rglob("*4.*"):
        path.replace(salicon / path.relative_to(tmp_path / "other"))
    model = write_run(tmp_path / "runs" / "mine")
    before = {p.name for p in (tmp_path / "runs" / "mine").iterdir()}
    done = run_command("score_model", "mine", "--sources=SALICON", "--device=cpu")
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    folder = tmp_path / "runs" / "mine"
    assert {p.name for p in folder.iterdir()} - before == {f"{name}.json" for name in FILES}
    rows, means, weighted, summary = (strict_json(folder / f"{name}.json") for name in FILES)
    expected = plain_scores(model, salicon)
    assert np.shape(rows) == (4, len(SIX))
    # CC and NSS of a map that is almost flat, as random weights make it, lose some digits.
    np.testing.assert_allclose(np.array(rows)[:, :4], expected, rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(means, np.mean(rows, axis=0), rtol=1e-12)
    assert weighted == means
    title, shown, lower, upper = (line.split() for line in done.stdout.splitlines())
    assert title == ["SALICON:", "4", "images", *SIX]
    assert shown == ["mine", *(f"{mean:.4f}" for mean in means)]
    for name, low, mean, high in zip(SIX, lower[-6:], means, upper[-6:], strict=True):
        assert float(low) <= mean + 1e-4
        assert mean <= float(high) + 1e-4
        interval = summary["mean_interval_95"][name]
        assert [f"{end:.4f}" for end in interval] == [low, high]
    assert summary["n"] == 4
    assert summary["videos"] == [f"COCO_val2014_{i:012d}.jpg" for i in (1, 2, 3, 4)]
    assert summary["left_out"] == dict.fromkeys(SIX, 0)


def test_scoring_again_replaces_the_scores(salicon, tmp_path, capsys):
    write_run(tmp_path / "runs" / "mine")
    score_run("mine", ["SALICON"])
    first = [strict_json(tmp_path / "runs" / "mine" / f"{name}.json") for name in FILES]
    for folder in ("images", "maps/val", "fixations/val"):
        for path in (salicon / folder).glob("*3.*"):
            path.unlink()
    (result,) = score_run("mine", ["SALICON"])
    # The shuffled AUC's negatives come from the other pictures, of which there are fewer now.
    again = strict_json(tmp_path / "runs" / "mine" / f"{FILES[0]}.json")
    assert [row[:5] for row in again] == [row[:5] for row in first[0][:2]]
    np.testing.assert_allclose(result.scores.rows, again)
    assert "SALICON: 2 images" in capsys.readouterr().out


def test_the_data_is_the_validation_part(salicon):
    write_salicon(salicon, "train", n=5)
    dataset = dataset_to_score("SALICON")
    assert [dataset.name(i) for i in range(len(dataset))] == [
        f"COCO_val2014_{i:012d}.jpg" for i in (1, 2, 3)
    ]


@pytest.mark.parametrize(
    ("train_id", "sources", "message"),
    [
        ("mine", ["NOPE"], "NOPE.*SALICON"),
        ("mine", ["SALICON", "NOPE"], "NOPE.*SALICON"),
        ("nope", ["SALICON"], "'nope'.*there are: mine"),
    ],
)
@pytest.mark.usefixtures("salicon")
def test_a_mistake_is_found_before_any_work(tmp_path, train_id, sources, message):
    write_run(tmp_path / "runs" / "mine")
    with pytest.raises(UserError, match=message):
        score_run(train_id, sources)
    assert not list(tmp_path.rglob("*_scores.json"))


@pytest.mark.usefixtures("salicon")
def test_a_prediction_that_is_not_finite_names_its_picture(tmp_path):
    state = write_run(tmp_path / "runs" / "mine").state_dict()
    state["adaptation_salicon.0.bias"][:] = NAN
    torch.save(state, tmp_path / "runs" / "mine" / "weights_best.pth")
    with pytest.raises(UserError, match=r"COCO_val2014_000000000001\.jpg is not finite"):
        score_run("mine", ["SALICON"])


def test_a_frame_has_its_metrics_in_order():
    rng = np.random.default_rng(0)
    p, t = rng.random((2, 20, 30)).astype(np.float32)
    p, t, fixated = p / p.sum(), t / t.sum(), rng.random((20, 30)) > 0.9
    others = rng.random((20, 30)) > 0.9
    frame = FrameToScore(np.log(p), p, t, fixated, rng, others)
    expected = {
        "kld": scipy.stats.entropy(t.ravel(), p.ravel()),
        "nss": scipy.stats.zscore(p, axis=None, ddof=1)[fixated].mean(),
        "cc": np.corrcoef(p.ravel(), t.ravel())[0, 1],
        "sim": np.minimum(p, t).sum(),
    }
    assert dict(zip(FOUR, score_frame(frame, FOUR), strict=True)) == pytest.approx(
        expected, rel=1e-4
    )
    assert score_frame(frame, FOUR[::-1]) == score_frame(frame, FOUR)[::-1]
    aucj, cc = score_frame(frame, ["aucj", "cc"])
    assert aucj == pytest.approx(plain_metrics.auc_judd(p, fixated), abs=1e-12)
    assert cc == score_frame(frame, ["cc"])[0]
    assert math.isnan(score_frame(frame, ["aucj", "cc"], [False, True])[0])


def test_undefined_scores_are_left_out_counted_and_told():
    rows = [[[1.0, NAN, 0.5, 0.2]], [[3.0, 2.0, NAN, 0.4]], [[5.0, NAN, 0.1, 0.6]]]
    scores = Scores.from_frames("SALICON", FOUR, np.array(rows))
    assert scores.means == pytest.approx([3.0, 2.0, 0.3, 0.4])
    assert scores.weighted_means == pytest.approx(scores.means)  # images: one frame each
    assert scores.n_undefined.tolist() == [0, 2, 1, 0]
    shown = [line.split() for line in format_table("mine", scores).splitlines()]
    assert ["undefined,", "left", "out", "0", "2", "1", "0"] in shown


def test_all_defined_scores_need_no_note():
    scores = Scores.from_frames("SALICON", FOUR, np.ones((2, 1, 4)))
    assert "undefined" not in format_table("mine", scores)


def test_videos_have_equal_weights_in_one_mean_and_frames_in_the_other():
    short = np.array([[1.0, 2.0, NAN, 1.0]])
    long = np.array([[4.0, NAN, NAN, 1.0], [5.0, NAN, NAN, 1.0], [6.0, 8.0, NAN, 1.0]])
    scores = Scores.from_frames("DHF1K", FOUR, [short, long])
    np.testing.assert_allclose(scores.rows, [[1, 2, NAN, 1], [5, 8, NAN, 1]])
    np.testing.assert_allclose(scores.means, [3, 5, NAN, 1])
    np.testing.assert_allclose(scores.weighted_means, [4, 5, NAN, 1])
    assert scores.n_undefined.tolist() == [0, 2, 4, 0]


def test_saved_scores_are_json_also_where_a_score_is_undefined(tmp_path, recwarn):
    rows = np.array([[[1.0, NAN, 0.5, 0.2]], [[3.0, NAN, 0.25, 0.4]]])
    Scores.from_frames("SALICON", FOUR, rows).save(tmp_path)
    saved, means, weighted = (strict_json(tmp_path / f"{name}.json") for name in FILES[:3])
    assert saved == [[1.0, None, 0.5, 0.2], [3.0, None, 0.25, 0.4]]
    assert means == weighted == [2.0, None, 0.375, pytest.approx(0.3)]
    assert not recwarn.list


# ---- videos -------------------------------------------------------------------------------


@pytest.fixture
def videos(tmp_path, monkeypatch):
    """The network of the run `mine`, with two short validation videos of DHF1K."""
    monkeypatch.setenv("TRAIN_DIR", str(tmp_path / "runs"))
    monkeypatch.setenv("DHF1K_DATA_DIR", str(tmp_path / "DHF1K"))
    write_dhf1k(tmp_path / "DHF1K", {1: 3, 601: 3, 602: 7})
    return write_run(tmp_path / "runs" / "mine")


def plain_video_scores(model, folder, n, static):
    """KLD and SIM of each frame of a video, from the definitions."""
    names = [f"{number:04d}.png" for number in range(1, n + 1)]
    inputs = [plain_input(folder / "images" / name, (224, 384)) for name in names]
    log_densities = plain_video(
        model, inputs, (36, 64), "SALICON" if static else "DHF1K", 5, static
    )
    rows = []
    for name, log_p in zip(names, log_densities.double().numpy(), strict=True):
        t = np.asarray(Image.open(folder / "maps" / name), float)
        p, t = np.exp(log_p), t / t.sum()
        rows.append([scipy.stats.entropy(t.ravel(), p.ravel()), np.minimum(p / p.sum(), t).sum()])
    return np.array(rows)


@pytest.mark.slow
@pytest.mark.parametrize("static", [False, True])
def test_videos_are_scored_frame_by_frame(videos, tmp_path, static):
    domain = "SALICON" if static else None
    (result,) = score_run("mine", ["DHF1K"], model_domain=domain)
    scores, names = result.scores, result.scores.metrics
    expected = [
        plain_video_scores(videos, tmp_path / "DHF1K" / "annotation" / name, n, static)
        for name, n in (("0601", 3), ("0602", 7))
    ]
    kld_sim = scores.rows[:, [names.index("kld"), names.index("sim")]]
    np.testing.assert_allclose(kld_sim, [e.mean(axis=0) for e in expected], rtol=1e-4)
    frames = np.concatenate(expected)
    np.testing.assert_allclose(
        scores.weighted_means[[names.index("kld"), names.index("sim")]],
        frames.mean(axis=0),
        rtol=1e-4,
    )
    name = "DHF1K_as_SALICON" if static else "DHF1K"
    saved = strict_json(tmp_path / "runs" / "mine" / f"{name}_eval_scores.json")
    np.testing.assert_allclose(saved, scores.rows)


@pytest.mark.usefixtures("videos")
def test_a_run_is_scored_with_the_options_of_its_datasets(tmp_path):
    options = {"out_size": [32, 64], "subset": 0.1, "augment": True, "seq_len": 4, "phase": "train"}
    (tmp_path / "runs" / "mine" / "DHF1KDataset.json").write_text(json.dumps(options))
    dataset = dataset_to_score("DHF1K", tmp_path / "runs" / "mine")
    assert dataset.input_size == (32, 64)
    assert [v.name for v in dataset.videos] == ["0601", "0602"]


@pytest.mark.usefixtures("videos")
def test_hollywood_and_ucfsports_are_scored_on_their_test_parts(tmp_path, monkeypatch):
    monkeypatch.setenv("HOLLYWOOD_DATA_DIR", str(tmp_path / "HW"))
    monkeypatch.setenv("UCFSPORTS_DATA_DIR", str(tmp_path / "UCF"))
    write_hollywood(tmp_path / "HW", {(3, 1): 2}, part="test", size=(20, 40))
    write_ucfsports(tmp_path / "UCF", {"Golf-001": 2}, part="test", size=(20, 40))
    score_run("mine", ["Hollywood", "UCFSports"])
    written = {p.name for p in (tmp_path / "runs" / "mine").glob("*_eval_mean_scores.json")}
    assert written == {f"{s}_resized_eval_mean_scores.json" for s in ("Hollywood", "UCFSports")}


@pytest.mark.usefixtures("videos")
def test_the_aucs_of_a_video_use_a_random_share_of_its_frames():
    options = ScoringOptions(auc_portion=0.5)
    (result,) = score_run("mine", ["DHF1K"], options=options)
    columns = [result.scores.metrics.index(name) for name in ("kld", "aucj", "aucs")]
    assert result.scores.n_wanted[:, columns].tolist() == [[3, 1, 1], [7, 3, 3]]
    assert result.scores.n_undefined.tolist() == [0] * 6  # not asked for is not undefined
    (whole,) = score_run("mine", ["DHF1K"], options=ScoringOptions(auc_portion=1.0))
    assert whole.scores.n_wanted[:, columns].tolist() == [[3, 3, 3], [7, 7, 7]]


@pytest.mark.slow
@pytest.mark.usefixtures("videos")
def test_two_runs_give_identical_files(tmp_path):
    contents = []
    for seed in (1, 1, 2):
        done = run_command("score_model", "mine", f"--random_seed={seed}", "--device=cpu")
        assert done.returncode == 0, done.stderr
        folder = tmp_path / "runs" / "mine"
        contents.append({p.name: p.read_bytes() for p in folder.glob("DHF1K_eval_*.json")})
    assert len(contents[0]) == 4
    assert contents[0] == contents[1]
    assert contents[0] != contents[2]
    # What has no folder is said, not scored.
    assert [line.split()[2] for line in done.stdout.splitlines() if "not scored" in line] == [
        "SALICON",
        "UCFSports",
        "Hollywood",
    ]


def test_nothing_at_hand_is_a_mistake(tmp_path, monkeypatch):
    monkeypatch.setenv("TRAIN_DIR", str(tmp_path / "runs"))
    write_run(tmp_path / "runs" / "mine")
    for variable in ("DHF1K", "SALICON", "UCFSPORTS", "HOLLYWOOD"):
        monkeypatch.setenv(f"{variable}_DATA_DIR", str(tmp_path / "nowhere"))
    with pytest.raises(UserError, match=r"nothing to score on.*SALICON_DATA_DIR"):
        score_run("mine", ())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"metrics": ("kld", "nope")}, "'nope'.*kld, nss, cc, sim, aucj, aucs"),
        ({"metrics": ()}, "names nothing"),
        ({"auc_portion": 0}, "auc_portion is 0"),
        ({"auc_portion": 1.5}, "auc_portion is 1.5"),
        ({"n_aucs_maps": 0}, "n_aucs_maps is 0"),
        ({"n_aucs_maps": 1.5}, "n_aucs_maps is 1.5"),
        ({"random_seed": -1}, "random_seed is -1"),
    ],
)
def test_options_that_make_no_sense_are_refused(options, message):
    with pytest.raises(UserError, match=message):
        ScoringOptions(**options)


class Recorded:
    """A progress that keeps what it was told."""

    def __init__(self):
        self.counts = {}

    @contextmanager
    def bar(self, title, unit, total=None, done=0, keep=True):
        self.counts[title] = [unit, total, done]

        def update(n=1):
            self.counts[title][2] += n

        yield SimpleNamespace(update=update)


def test_the_progress_counts_every_image(salicon):
    write_salicon(salicon, "train", n=2)
    progress = Recorded()
    score_baselines(dataset_to_score("SALICON"), ScoringOptions(("sim",)), progress=progress)
    counted = ["image", 3, 3]
    assert progress.counts == {
        "centre bias of SALICON": ["image", 2, 2],
        "score chance": counted,
        "score centre bias": counted,
    }


# ---- the shuffled AUC's negatives ---------------------------------------------------------


def test_the_negatives_are_other_videos_fixations_at_the_maps_size(salicon):
    write_salicon(salicon, "val", n=6)
    dataset = dataset_to_score("SALICON")
    known = [dataset.read_fixation_map(i) for i in range(6)]
    others = OtherFixations(dataset, ScoringOptions(n_aucs_maps=100))
    for index in range(6):
        expected = np.logical_or.reduce([f for i, f in enumerate(known) if i != index])
        np.testing.assert_array_equal(others.of(index, (48, 64)), expected)
    larger = others.of(0, (96, 128))
    at_first = others.of(0, (48, 64))
    assert larger.sum() == at_first.sum()
    np.testing.assert_array_equal(larger.reshape(48, 2, 64, 2).any(axis=(1, 3)), at_first)


def test_as_many_others_are_taken_as_asked_for(salicon):
    write_salicon(salicon, "val", n=6)
    dataset = dataset_to_score("SALICON")
    known = [dataset.read_fixation_map(i) for i in range(6)]
    for index in range(6):
        union = OtherFixations(dataset, ScoringOptions(n_aucs_maps=2)).of(index, (48, 64))
        inside = [i for i, fixated in enumerate(known) if not (fixated & ~union).any()]
        assert len(inside) == 2
        assert index not in inside


# ---- intervals ----------------------------------------------------------------------------


def test_the_interval_is_that_of_resampled_means():
    rng = np.random.default_rng(0)
    frames = [rng.normal(3, 1, size=(rng.integers(1, 9), 1)) for _ in range(40)]
    scores = Scores.from_frames("DHF1K", ["nss"], frames)
    for weighted in (False, True):
        values = scores.rows[:, 0]
        weights = scores.n_frames if weighted else np.ones(40)
        drawn = rng.integers(0, 40, size=(4000, 40))
        means = (values[drawn] * weights[drawn]).sum(axis=1) / weights[drawn].sum(axis=1)
        expected = np.percentile(means, [2.5, 97.5])
        np.testing.assert_allclose(scores.intervals(1, weighted)[:, 0], expected, atol=0.03)
    assert (scores.intervals(1) == scores.intervals(1)).all()


def test_an_undefined_metric_has_no_interval_and_others_do(recwarn):
    rows = np.array([[[1.0, NAN]], [[3.0, NAN]]])
    ends = Scores.from_frames("SALICON", ["cc", "nss"], rows).intervals()
    assert ends[:, 0].tolist() == [1, 3]
    assert np.isnan(ends[:, 1]).all()
    assert not recwarn.list
