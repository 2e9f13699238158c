"""Subsets of gaze: which fixations belong to them, and their scores, also as a user gets them."""

from __future__ import annotations

import csv
import json
import math
import re

import numpy as np
import pytest
import scipy.ndimage
import scipy.stats
from gaze_folders import write_film, write_table
from scored_runs import score_run
from support import run_command, write_dhf1k, write_photo, write_run, write_salicon

from unisal.data import DATASETS, gaze_source
from unisal.errors import UserError
from unisal.evaluate.detail import EACH_OBSERVER, SubsetScorer
from unisal.evaluate.gaze import Gaze
from unisal.evaluate.options import ScoringOptions, SubsetOptions
from unisal.evaluate.score_table import COLUMNS
from unisal.evaluate.scoring import score_predictions
from unisal.evaluate.subsets import MAX_WINDOWS, Subsets
from unisal.predict.datasets import FrameKey

SIZES = {"a.png": (60, 80), "b.png": (48, 70), "c.png": (50, 50), "d.png": (60, 80)}
HEADER = ("stimulus", "observer", "x", "y", "start_ms", "duration_ms", "age", "task")
SIGMA = 5.0
METRICS = ("kld", "nss", "cc")
CONFIG = {
    "groups": ["age", "task"],
    "blur_pixels": SIGMA,
    "splits": {"val": ["a.png", "b.png", "c.png"], "train": ["d.png"]},
}


def write_own(folder, sizes=SIZES, config=CONFIG):
    """Six people; the young and the old saw the same pictures, each task pictures of its own."""
    rng = np.random.default_rng(0)
    rows = []
    for name, size in sizes.items():
        write_photo(folder / "stimuli" / name, size)
        task = "free" if name[0] in "ab" else "search"
        for who in range(6):
            age = "young" if who < 3 else "old"
            for nth in range(3 + who % 3):
                x, y = (round(float(rng.uniform(1, side - 2)), 1) for side in size[::-1])
                rows.append((name, f"p{who + 1}", x, y, 230 * nth, 200, age, task))
    write_table(folder / "fixations.csv", HEADER, rows)
    (folder / "gaze.json").write_text(json.dumps(config))
    return rows


@pytest.fixture
def own(tmp_path):
    """The data set, and the rows of its table."""
    rows = write_own(tmp_path / "own")
    return gaze_source("own", tmp_path / "own")("eval"), rows


def in_subset(row, by, name, window=0.5, last=10):
    _, who, _, _, start, _, age, task = row
    if by == "fixation":
        number = start // 230 + 1
        return number > last if name.endswith("+") else number == int(name)
    if by == "time":
        low, high = (float(end) for end in name.removesuffix(" s").split("-"))
        assert high - low == pytest.approx(window)
        return low <= start / 1000 < high
    return name == {"observer": who, "age": age, "task": task}[by]


def plain_scores(p, rows):
    """KLD, NSS and CC of a density, from the rows of the table; NaN without any."""
    if not rows:
        return [math.nan] * 3
    fixated = np.zeros(p.shape)
    for _, _, x, y, *_ in rows:
        fixated[int(np.floor(y + 0.5)), int(np.floor(x + 0.5))] += 1
    t = scipy.ndimage.gaussian_filter(fixated, SIGMA, mode="constant")
    t /= t.sum()
    return [
        scipy.stats.entropy(t.ravel(), p.ravel()),
        scipy.stats.zscore(p, axis=None, ddof=1)[fixated > 0].mean(),
        np.corrcoef(p.ravel(), t.ravel())[0, 1],
    ]


def made_predictions(dataset, seed=1):
    rng = np.random.default_rng(seed)
    found = {}
    for index, n_frames in enumerate(dataset.lengths()):
        for number in range(1, n_frames + 1):
            p = scipy.ndimage.gaussian_filter(rng.random(dataset.target_size(index)), 3) ** 8
            found[FrameKey(index, number)] = np.log(p / p.sum()).astype(np.float32)
    return found


def scored(dataset, by=None, metrics=METRICS, each=False, **options):
    """The predictions, the scores against all gaze, and those of the subsets."""
    subsets = Subsets(dataset, Gaze(dataset), SubsetOptions(by, **options))
    chosen = ScoringOptions(metrics)
    scorer = SubsetScorer(subsets, chosen, each)
    predictions = made_predictions(dataset)
    scores = score_predictions(dataset, iter(predictions.items()), "own", chosen, subsets=scorer)
    return predictions, scores, scorer.scores(scores.titles)


def test_each_subset_is_scored_by_its_own_gaze(own):
    dataset, rows = own
    predictions, scores, subsets = scored(dataset, each=True)
    each = subsets.pop(EACH_OBSERVER)
    found = {}
    for by, name in subsets:
        found.setdefault(by, []).append(name)
    assert found == {
        "observer": [f"p{i}" for i in range(1, 7)],
        "fixation": ["1", "2", "3", "4", "5"],
        "time": ["0-0.5 s", "0.5-1 s"],
        "age": ["old", "young"],
        "task": ["free", "search"],
    }
    for index, picture in enumerate(("a.png", "b.png", "c.png")):
        p = np.exp(predictions[index, 1].astype(float))
        of_picture = [row for row in rows if row[0] == picture]
        np.testing.assert_allclose(scores.rows[index], plain_scores(p, of_picture), rtol=2e-3)
        for (by, name), part in subsets.items():
            expected = plain_scores(p, [row for row in of_picture if in_subset(row, by, name)])
            np.testing.assert_allclose(
                part.rows[index], expected, rtol=5e-3, atol=1e-3, err_msg=f"{by} {name}"
            )
        people = [subsets["observer", f"p{i}"].rows[index] for i in range(1, 7)]
        np.testing.assert_allclose(each.rows[index], np.mean(people, axis=0))
    assert np.isnan(subsets["task", "search"].rows).tolist() == [
        [True] * 3,
        [True] * 3,
        [False] * 3,
    ]


def test_everything_at_once_gives_what_each_alone_gives(own):
    dataset, _ = own
    metrics = ("nss", "aucj", "aucs", "ig", "sim")
    _, _, everything = scored(dataset, metrics=metrics, each=True)
    _, _, alone = scored(dataset, by=("age",), metrics=metrics, each=True)
    assert [key.by for key in alone] == ["age", "age", EACH_OBSERVER.by]
    for key, part in alone.items():
        if key.by == "age":
            np.testing.assert_array_equal(part.rows, everything[key].rows)


def test_late_fixations_are_taken_together_and_windows_have_any_length(own):
    dataset, rows = own
    predictions, _, subsets = scored(
        dataset, by=("fixation", "time"), n_fixations=2, time_window=0.23
    )
    assert [name for by, name in subsets if by == "fixation"] == ["1", "2", "3+"]
    windows = [name for by, name in subsets if by == "time"]
    assert windows == ["0-0.23 s", "0.23-0.46 s", "0.46-0.69 s", "0.69-0.92 s", "0.92-1.15 s"]
    p = np.exp(predictions[0, 1].astype(float))
    of_picture = [row for row in rows if row[0] == "a.png"]
    expected = plain_scores(p, [r for r in of_picture if in_subset(r, "fixation", "3+", last=2)])
    np.testing.assert_allclose(subsets["fixation", "3+"].rows[0], expected, rtol=5e-3)
    for nth, name in enumerate(windows):  # fixations start every 230 ms, on the edges
        late = plain_scores(p, [r for r in of_picture if r[4] == 230 * nth])
        np.testing.assert_allclose(subsets["time", name].rows[0], late, rtol=5e-3, err_msg=name)


def test_what_the_data_does_not_say_is_refused(own, tmp_path):
    dataset, _ = own
    with pytest.raises(UserError, match=r"'sex'.*own.*observer, fixation, time, age, task"):
        Subsets(dataset, Gaze(dataset), SubsetOptions(("age", "sex")))
    write_photo(tmp_path / "plain" / "stimuli" / "a.png")
    write_table(tmp_path / "plain" / "f.csv", ("image", "x", "y"), [("a", 3, 4)])
    changes = {"splits": {"val": ["a"]}}
    plain = gaze_source("plain", tmp_path / "plain", changes=changes)("eval")
    assert Subsets(plain, Gaze(plain), SubsetOptions()).keys == []
    with pytest.raises(UserError, match=r"'observer'.*by nothing"):
        Subsets(plain, Gaze(plain), SubsetOptions(("observer",)))


@pytest.mark.parametrize(
    ("options", "message"),
    [({"n_fixations": 0}, "n_fixations is 0"), ({"time_window": 0}, "time_window is 0")],
)
def test_options_that_make_no_sense_are_refused(options, message):
    with pytest.raises(UserError, match=message):
        SubsetOptions(**options)


# ---- films --------------------------------------------------------------------------------------


def film_rows(n_frames, skipped=()):
    rng = np.random.default_rng(0)
    return [
        ("film.mp4", frame, *np.round(rng.uniform(5, 55, 2), 1).tolist())
        for frame in range(n_frames)
        for _ in range(2)
        if frame not in skipped
    ]


def test_of_films_time_divides_the_frames(tmp_path):
    write_film(tmp_path / "own" / "videos" / "film.mp4", 30, rate=10)
    write_table(
        tmp_path / "own" / "gaze.csv", ("video", "frame", "x", "y"), film_rows(30, skipped=(3, 4))
    )
    changes = {"splits": {"val": ["film.mp4"]}, "blur_pixels": SIGMA}
    dataset = gaze_source("own", tmp_path / "own", changes=changes)("eval")
    predictions, scores, subsets = scored(dataset)
    assert [tuple(key) for key in subsets] == [("time", f"{i}-{i + 1} s") for i in range(3)]
    rows = film_rows(30, skipped=(3, 4))
    values = np.array(
        [
            plain_scores(
                np.exp(predictions[0, n + 1].astype(float)),
                [("", "", *r[2:]) for r in rows if r[1] == n],
            )
            for n in range(30)
        ]
    )
    for i, part in enumerate(subsets.values()):
        expected = np.nanmean(values[10 * i : 10 * i + 10], axis=0)
        np.testing.assert_allclose(part.rows[0], expected, rtol=5e-3, atol=1e-3)
    assert next(iter(subsets.values())).n_defined.tolist() == [[8, 8, 8]]
    np.testing.assert_allclose(scores.rows[0], np.nanmean(values, axis=0), rtol=5e-3, atol=1e-3)


def test_a_long_film_has_longer_windows():
    class Film:
        is_video, source, observers, groups = True, "long", (), {}

        def lengths(self):
            return [3600 * 10]

        def frame_time(self, index, number):
            return (number - 1) / 10

    subsets = Subsets(Film(), None, SubsetOptions())
    assert len(subsets.keys) <= MAX_WINDOWS
    assert subsets.keys[1].name == "300-600 s" if subsets.window == 300 else subsets.window < 300
    assert subsets.of_frame(0, 36000) == [subsets.keys[-1]]
    assert subsets.of_frame(0, 1) == [subsets.keys[0]]


def test_published_videos_can_be_divided_by_time_too(tmp_path, monkeypatch):
    monkeypatch.setenv("DHF1K_DATA_DIR", str(tmp_path / "DHF1K"))
    write_dhf1k(tmp_path / "DHF1K", {601: 3, 602: 7})
    dataset = DATASETS["DHF1K"](phase="eval")
    _, scores, subsets = scored(dataset, time_window=4 / dataset.frame_rate)
    assert len(subsets) == 2
    first, second = subsets.values()
    assert first.n_defined[:, 0].tolist() == [3, 4]
    assert second.n_defined[:, 0].tolist() == [0, 3]
    both = np.nansum([p.rows * p.n_defined for p in (first, second)], axis=0) / [[3], [7]]
    np.testing.assert_allclose(both, scores.rows)


# ---- the command --------------------------------------------------------------------------------


def read_csv(path):
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def command(tmp_path_factory):
    """The folder of a run that was scored with everything, and what was printed."""
    root = tmp_path_factory.mktemp("scores")
    sizes = {f"{kind}{i}.png": (40, 56) for kind in "acd" for i in range(8)}
    val = [name for name in sizes if name[0] in "ac"]
    write_own(root / "own", sizes, {**CONFIG, "splits": {"val": val}})
    write_run(root / "runs" / "mine")
    write_run(root / "runs" / "other", seed=1)
    options = ("--baselines=True", "--report=True", "--against=other", "--device=cpu")
    done = run_command(
        "score_model",
        "mine",
        f"--data={root / 'own'}",
        *options,
        env={"TRAIN_DIR": str(root / "runs")},
    )
    assert done.returncode == 0, done.stderr
    return root / "runs" / "mine", done.stdout


@pytest.mark.slow
def test_the_command_writes_every_score_as_a_table(command):
    folder, _ = command
    summary = json.loads((folder / "own_eval_summary.json").read_text())
    rows = read_csv(folder / "own_eval_table.csv")
    assert summary["metrics"][-1] == "ig"
    assert set(rows[0]) == set(COLUMNS)

    def mean(prediction, by, subset, metric):
        values = [
            float(row["value"])
            for row in rows
            if (row["prediction"], row["by"], row["subset"], row["metric"])
            == (prediction, by, subset, metric)
        ]
        return np.mean(values) if values else None

    for metric in summary["metrics"]:
        assert mean("mine", "", "", metric) == pytest.approx(summary["mean"][metric])
        assert mean("other (SALICON)", "", "", metric) == pytest.approx(
            summary["against"]["mean"][metric]
        )
        for name, scores in summary["baselines"].items():
            assert mean(name, "", "", metric) == pytest.approx(scores["mean"][metric])
        for by, subsets in summary["subsets"].items():
            for name, scores in subsets.items():
                assert mean("mine", by, name, metric) == pytest.approx(scores["mean"][metric])
    assert list(summary["subsets"]) == ["observer", "fixation", "time", "age", "task"]
    ceilings = [n for n in summary["baselines"] if n.startswith("each observer")]
    assert ceilings == ["each observer, by this run", "each observer, by the others"]
    assert mean("each observer, by the others", "observer", "p1", "nss") is not None
    assert {row["source"] for row in rows} == {"own"}


@pytest.mark.slow
def test_the_command_tests_runs_and_groups(command):
    folder, printed = command
    summary = json.loads((folder / "own_eval_summary.json").read_text())
    rows = read_csv(folder / "own_eval_tests.csv")
    seen = {}
    for row in rows:
        seen.setdefault((row["by"], row["first"], row["second"]), []).append(row)
    assert list(seen) == [
        ("run", "mine (SALICON)", "other (SALICON)"),
        ("age", "old", "young"),
        ("task", "free", "search"),
    ]
    counts = {
        key[0]: [rows[0][f"n_{k}"] for k in ("both", "first", "second")]
        for key, rows in seen.items()
    }
    assert counts == {"run": ["16", "0", "0"], "age": ["16", "0", "0"], "task": ["0", "8", "8"]}
    for row, saved in zip(rows, summary["tests"], strict=True):
        assert row["metric"] == saved["metric"]
        assert float(row["difference"]) == saved["difference"]
        assert saved["difference"] == pytest.approx(saved["first_mean"] - saved["second_mean"])
        assert saved["low"] <= saved["difference"] <= saved["high"]
        assert 0 < saved["p"] <= 1
    nss = next(t for t in summary["tests"] if t["metric"] == "nss")
    assert nss["difference"] == pytest.approx(
        summary["mean"]["nss"] - summary["against"]["mean"]["nss"]
    )
    assert "run: mine (SALICON) minus other (SALICON)" in printed
    assert "by fixation" in printed


@pytest.mark.slow
def test_the_report_shows_subsets_and_tests(command):
    folder, _ = command
    page = (folder / "report.html").read_text(encoding="utf-8")
    for by in ("observer", "fixation", "time", "age", "task"):
        assert f"<h3>By {by}</h3>" in page
    for text in (
        "mine (SALICON) minus other (SALICON)",
        "old minus young",
        "Another whole group (baseline)",
    ):
        assert text in page
    assert page.count('class="point"') >= 17 * 7  # a dot for each subset and metric
    assert not re.search(r"[>\"\s]nan\b", page.split("<script>")[0])


@pytest.mark.slow
def test_published_sources_are_scored_as_before_unless_asked(tmp_path, monkeypatch):
    monkeypatch.setenv("TRAIN_DIR", str(tmp_path / "runs"))
    monkeypatch.setenv("SALICON_DATA_DIR", str(tmp_path / "SALICON"))
    for part in ("train", "val"):
        write_salicon(tmp_path / "SALICON", part, n=3, fixations="mat")
    write_run(tmp_path / "runs" / "mine")
    given = "score_model", "mine", "--sources=SALICON", "--device=cpu", "--baselines=True"
    folder = tmp_path / "runs" / "mine"
    assert run_command(*given).returncode == 0
    before = {p.name: p.read_text() for p in folder.glob("SALICON_*")}
    assert not [name for name in before if name.endswith(".csv")]
    done = run_command(*given, "--by=fixation")
    assert done.returncode == 0, done.stderr
    summary = json.loads((folder / "SALICON_eval_summary.json").read_text())
    assert list(summary["subsets"]) == ["fixation"]
    assert "spectral residual" in summary["baselines"]
    assert "each observer, by the others" in summary["baselines"]
    assert (folder / "SALICON_eval_table.csv").is_file()
    old = json.loads(before["SALICON_eval_summary.json"])
    assert {k: summary[k] for k in old if k != "baselines"} == {
        k: v for k, v in old.items() if k != "baselines"
    }
    for name, scores in old["baselines"].items():
        assert summary["baselines"][name] == scores
    refused = run_command(*given, "--by=observer")
    assert refused.returncode == 2
    assert "SALICON can be divided by fixation" in refused.stderr


def test_mistakes_are_found_before_any_work(tmp_path, monkeypatch):
    monkeypatch.setenv("TRAIN_DIR", str(tmp_path / "runs"))
    write_own(tmp_path / "own")
    write_run(tmp_path / "runs" / "mine")
    source = [f"own={tmp_path / 'own'}"]
    for options, message in (
        ({"subsets": SubsetOptions(("sex",))}, "'sex'"),
        ({"against": "nope"}, "'nope'.*there are: mine"),
        ({"against": "mine", "against_domain": "Crowd"}, "against_domain is 'Crowd'.*DHF1K"),
    ):
        with pytest.raises(UserError, match=message):
            score_run("mine", source, ScoringOptions(**options))
    assert not list(tmp_path.rglob("*_eval_*"))


def test_nothing_is_divided_if_nobody_asks(tmp_path, monkeypatch):
    monkeypatch.setenv("TRAIN_DIR", str(tmp_path / "runs"))
    write_own(tmp_path / "own")
    write_run(tmp_path / "runs" / "mine")
    (result,) = score_run("mine", [f"own={tmp_path / 'own'}"], ScoringOptions(("nss",)))
    assert result.subsets == {} and result.comparisons == []
    assert result.scores.metrics == ("nss",)


def test_every_picture_is_predicted_once(tmp_path, monkeypatch):
    monkeypatch.setenv("TRAIN_DIR", str(tmp_path / "runs"))
    write_own(tmp_path / "own")
    write_run(tmp_path / "runs" / "mine")
    from unisal.inference.engine import Engine

    calls = []
    real = Engine.images
    monkeypatch.setattr(Engine, "images", lambda *a, **k: calls.append(1) or real(*a, **k))
    options = ScoringOptions(("nss", "kld"), subsets=SubsetOptions())
    (result,) = score_run("mine", [f"own={tmp_path / 'own'}"], options, baselines=True)
    assert len(calls) == 3
    assert len(result.subsets) == 17
