"""How well people predict people, and the centre bias of all other stimuli, by hand."""

from __future__ import annotations

import numpy as np
import plain_metrics
import pytest
import scipy.ndimage
import scipy.stats
from gaze_folders import HEADER, write_film, write_gaze, write_table
from support import write_photo

from unisal.data import gaze_source
from unisal.evaluate.baselines import (
    CENTRE_BIAS,
    CHANCE,
    MAX_KNOWN,
    OBSERVERS,
    UNIFORM_SHARE,
    CentreBias,
    ObserverHalves,
)
from unisal.evaluate.frames import MAX_KEPT, OtherFixations
from unisal.evaluate.options import ScoringOptions
from unisal.evaluate.people import WHOLE_GROUP, OneLeftOut, for_whole_group
from unisal.evaluate.scores import Scores, SubsetKey
from unisal.evaluate.scoring import make_centre_bias, score_baselines, score_one_left_out
from unisal.evaluate.spectral import SPECTRAL_RESIDUAL

SIZES = {"a.png": (60, 80), "b.png": (48, 70), "c.png": (60, 80)}
SIGMA = 5.0
ALL_VAL = {"splits": {"val": list(SIZES)}, "blur_pixels": SIGMA}


@pytest.fixture
def own(tmp_path):
    """Three pictures that four people looked at, and the rows of the table."""
    rows = write_gaze(tmp_path / "own", SIZES, n_observers=4, n_fixations=5)
    return gaze_source("own", tmp_path / "own", changes=ALL_VAL)("eval"), rows


def counts(rows, name, people):
    found = np.zeros(SIZES[name])
    for stimulus, who, x, y, *_ in rows:
        if stimulus == name and who in people:
            found[int(np.floor(y + 0.5)), int(np.floor(x + 0.5))] += 1
    return found


def blurred(fixated):
    density = scipy.ndimage.gaussian_filter(fixated, SIGMA, mode="constant")
    return density / density.sum()


def plain_scores(log_p, target, fixated):
    """KLD, NSS and CC from their definitions."""
    p = np.exp(log_p.astype(float))
    return [
        scipy.stats.entropy(target.ravel(), p.ravel()),
        scipy.stats.zscore(p, axis=None, ddof=1)[fixated > 0].mean(),
        np.corrcoef(p.ravel(), target.ravel())[0, 1],
    ]


def test_each_observer_is_predicted_by_all_others(own):
    dataset, rows = own
    everyone, single = score_one_left_out(dataset, ScoringOptions(("kld", "nss", "cc")))
    people = [f"p{i}" for i in range(1, 5)]
    assert list(single) == [SubsetKey("observer", name) for name in people]
    for i, name in enumerate(SIZES):
        expected = []
        for who in people:
            others = blurred(counts(rows, name, set(people) - {who}))
            mixed = (1 - UNIFORM_SHARE) * others + UNIFORM_SHARE / others.size
            one = counts(rows, name, {who})
            expected.append(plain_scores(np.log(mixed), blurred(one), one))
            np.testing.assert_allclose(
                single["observer", who].rows[i], expected[-1], rtol=2e-3, atol=1e-4
            )
        np.testing.assert_allclose(everyone.rows[i], np.mean(expected, 0), rtol=2e-3, atol=1e-4)
    assert everyone.titles == tuple(SIZES)


def test_who_looked_alone_is_predicted_by_nobody(tmp_path):
    rows = [("a.png", "p1", 5, 5, 0, 100), ("b.png", "p1", 9, 9, 0, 100)]
    rows.append(("b.png", "p2", 30, 20, 0, 100))
    for name in ("a.png", "b.png"):
        write_photo(tmp_path / "own" / "stimuli" / name, SIZES[name])
    write_table(tmp_path / "own" / "fixations.csv", HEADER, rows)
    changes = {"splits": {"val": ["a.png", "b.png"]}}
    dataset = gaze_source("own", tmp_path / "own", changes=changes)("eval")
    assert list(OneLeftOut(dataset).trials(0)) == []
    assert [trial.observer for trial in OneLeftOut(dataset).trials(1)] == [0, 1]
    everyone, _ = score_one_left_out(dataset, ScoringOptions(("nss",)))
    assert np.isnan(everyone.rows).tolist() == [[True], [False]]
    assert np.isnan(score_baselines(dataset, ScoringOptions(("nss",)))[OBSERVERS].rows[0, 0])


def test_the_halves_have_the_blur_that_is_known(own):
    dataset, rows = own
    people = {f"p{i}" for i in range(1, 5)}
    halves = ObserverHalves(dataset, seed=3)
    for i, name in enumerate(SIZES):
        (log_p, target, fixated), (_, back, back_fixated) = halves.pairs(i)
        np.testing.assert_array_equal(fixated | back_fixated, counts(rows, name, people) > 0)
        half = next(
            set(pair)
            for pair in [("p1", b) for b in ("p2", "p3", "p4")]
            + [("p2", "p3"), ("p2", "p4"), ("p3", "p4")]
            if ((counts(rows, name, pair) > 0) == fixated).all()
        )
        np.testing.assert_allclose(target, blurred(counts(rows, name, half)), rtol=1e-5, atol=1e-9)
        other = blurred(counts(rows, name, people - half))
        np.testing.assert_allclose(back, other, rtol=1e-5, atol=1e-9)
        mixed = (1 - UNIFORM_SHARE) * other + UNIFORM_SHARE / other.size
        np.testing.assert_allclose(np.exp(log_p), mixed, rtol=1e-4)


# ---- from halves to the whole group ------------------------------------------------------------


def halves_of(rows, metrics=("kld", "cc", "nss")):
    rows = np.array(rows, float)
    ones = np.ones(rows.shape, int)
    titles = tuple(map(str, range(len(rows))))
    return Scores(OBSERVERS, metrics, titles, rows, ones, ones, np.ones(len(rows), int))


def test_only_the_correlation_is_corrected():
    found = for_whole_group(halves_of([[1, 0.5, 2], [1, -0.2, 2], [1, 0, 2], [1, 1, 2]]))
    np.testing.assert_allclose(found.rows[:, 1], [2 / 3, -0.2, 0, 1])
    assert np.isnan(found.rows[:, [0, 2]]).all()
    assert found.n_undefined.tolist() == [0, 0, 0]
    assert found.name == WHOLE_GROUP
    assert np.isnan(found.means[[0, 2]]).all()
    assert (
        np.isnan(found.intervals()[:, [0, 2]]).all() and not np.isnan(found.intervals()[:, 1]).any()
    )


def test_the_correction_says_how_well_another_whole_group_does():
    """Two groups of 2n people correlate as those of n people lead to expect."""
    rng = np.random.default_rng(0)
    truth = scipy.ndimage.gaussian_filter(rng.random((40, 50)), 4) ** 40
    truth /= truth.sum()

    def group(n):
        places = rng.choice(truth.size, 5 * n, p=truth.ravel())
        fixated = np.bincount(places, minlength=truth.size).reshape(truth.shape)
        return scipy.ndimage.gaussian_filter(fixated.astype(float), 1.5, mode="constant").ravel()

    small = [np.corrcoef(group(4), group(4))[0, 1] for _ in range(200)]
    large = [np.corrcoef(group(8), group(8))[0, 1] for _ in range(200)]
    corrected = for_whole_group(halves_of([[0, r, 0] for r in small])).means[1]
    assert np.mean(large) - np.mean(small) > 0.05
    assert corrected == pytest.approx(np.mean(large), abs=0.015)


# ---- which baselines there are ------------------------------------------------------------------


def test_data_of_ones_own_has_more_baselines(own):
    dataset, _ = own
    found = score_baselines(dataset, ScoringOptions(("nss", "cc")))
    assert list(found) == [CHANCE, CENTRE_BIAS, SPECTRAL_RESIDUAL, OBSERVERS, WHOLE_GROUP]
    fewer = score_baselines(dataset, ScoringOptions(("nss",)), in_detail=False)
    assert list(fewer) == [CHANCE, CENTRE_BIAS, OBSERVERS]


def test_without_observers_there_is_no_ceiling(tmp_path):
    write_photo(tmp_path / "own" / "stimuli" / "a.png")
    write_table(tmp_path / "own" / "fixations.csv", ("image", "x", "y"), [("a", 3, 4), ("a", 9, 2)])
    changes = {"splits": {"val": ["a"]}}
    dataset = gaze_source("own", tmp_path / "own", changes=changes)("eval")
    assert list(score_baselines(dataset, ScoringOptions(("nss",)))) == [
        CHANCE,
        CENTRE_BIAS,
        SPECTRAL_RESIDUAL,
    ]


# ---- the centre bias of all others --------------------------------------------------------------


def test_where_all_is_scored_each_picture_is_left_out_of_its_own_centre_bias(own, tmp_path):
    dataset, rows = own
    bias = make_centre_bias(dataset)
    for i, name in enumerate(SIZES):
        kept = [row for row in rows if row[0] != name]
        folder = tmp_path / f"without_{i}"
        for other in set(SIZES) - {name}:
            write_photo(folder / "stimuli" / other, SIZES[other])
        write_table(folder / "fixations.csv", HEADER, kept)
        changes = {"splits": {"val": sorted(set(SIZES) - {name})}}
        rest = CentreBias(gaze_source("rest", folder, changes=changes)("eval"))
        np.testing.assert_allclose(bias.predict(dataset, i), rest.log_density(SIZES[name]))
    assert not np.allclose(bias.predict(dataset, 0), bias.predict(dataset, 2))


def test_a_training_part_counts_as_a_whole(tmp_path):
    write_gaze(tmp_path / "own", SIZES)
    changes = {"splits": {"train": ["a.png", "b.png"], "val": ["c.png"]}}
    own = gaze_source("own", tmp_path / "own", changes=changes)
    bias, train = make_centre_bias(own("eval")), CentreBias(own("train"))
    np.testing.assert_array_equal(bias.predict(own("eval"), 0), train.log_density(SIZES["c.png"]))
    # The training part itself can be scored, each picture by the other.
    of_train = make_centre_bias(own("train"))
    assert not np.allclose(of_train.predict(own("train"), 0), train.log_density(SIZES["a.png"]))


def test_the_information_gain_is_over_the_centre_bias_of_the_others(own):
    dataset, rows = own
    found = score_baselines(dataset, ScoringOptions(("ig",)))
    assert not found[CENTRE_BIAS].rows.any()
    bias = make_centre_bias(dataset)
    people = {f"p{i}" for i in range(1, 5)}
    for i, name in enumerate(SIZES):
        uniform = np.full(SIZES[name], -np.log(np.prod(SIZES[name])))
        fixated = counts(rows, name, people) > 0
        expected = plain_metrics.information_gain(uniform, bias.predict(dataset, i), fixated)
        assert found[CHANCE].rows[i, 0] == pytest.approx(expected, abs=1e-4)


def test_one_picture_alone_has_an_even_centre_bias(tmp_path):
    write_gaze(tmp_path / "own", {"a.png": (40, 50)})
    changes = {"splits": {"val": ["a.png"]}}
    dataset = gaze_source("own", tmp_path / "own", changes=changes)("eval")
    predicted = np.exp(make_centre_bias(dataset).predict(dataset, 0).astype(float))
    np.testing.assert_allclose(predicted, 1 / (40 * 50), rtol=1e-5)


# ---- films ------------------------------------------------------------------------------------


def test_people_predict_people_on_the_frames_of_films(tmp_path):
    rng = np.random.default_rng(0)
    rows = []
    for who in ("a", "b", "c"):
        for frame in range(6):
            if (who, frame) != ("c", 2):
                rows.append(("film.mp4", who, frame, *rng.uniform(5, 40, 2)))
    write_film(tmp_path / "own" / "videos" / "film.mp4", 6)
    header = ("video", "observer", "frame", "x", "y")
    write_table(tmp_path / "own" / "gaze.csv", header, rows)
    changes = {"splits": {"val": ["film.mp4"]}}
    dataset = gaze_source("own", tmp_path / "own", changes=changes)("eval")
    left_out = OneLeftOut(dataset)
    assert [len(list(left_out.trials(0, n))) for n in range(1, 7)] == [3, 3, 2, 3, 3, 3]
    halves = ObserverHalves(dataset, seed=0)
    one = {tuple(np.argwhere(next(halves.pairs(0, n))[2]).sum(0)) for n in (1, 2)}
    assert len(one) == 2  # other places on every frame
    everyone, single = score_one_left_out(dataset, ScoringOptions(("nss", "cc")))
    assert everyone.n_defined.tolist() == [[6, 6]]
    assert single["observer", "c"].n_defined.tolist() == [[5, 5]]


# ---- memory -------------------------------------------------------------------------------------


def test_pictures_of_many_sizes_do_not_fill_the_memory(tmp_path):
    sizes = {f"{n:02d}.png": (20 + n, 30) for n in range(40)}
    write_gaze(tmp_path / "own", sizes)
    changes = {"splits": {"train": ["00.png", "01.png"]}}
    dataset = gaze_source("own", tmp_path / "own", changes=changes)("eval")
    bias, others = make_centre_bias(dataset), OtherFixations(dataset, ScoringOptions())
    for _ in range(2):
        for index in range(len(dataset)):
            size = dataset.target_size(index)
            assert bias.predict(dataset, index).shape == size
            assert others.of(index, size).shape == size
    assert len(bias._known) <= MAX_KNOWN
    assert len(others._union) <= MAX_KEPT
