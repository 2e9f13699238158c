"""Calibration and temperature: against plain computations, and on data that was made to fit."""

from __future__ import annotations

import copy
import json

import numpy as np
import pytest
import torch
from gaze_folders import write_gaze
from PIL import Image
from plain_metrics import kld
from support import call_command, lively_network, photo, write_network

import unisal
from unisal.config import load_json, save_json
from unisal.evaluate.calibration import (
    LEVELS,
    LIMITS,
    TEMPERATURES,
    Calibration,
    fit_temperature,
    kld_at,
    measure_calibration,
    shares_inside,
)
from unisal.inference.engine import Engine
from unisal.model import UNISAL
from unisal.predict.datasets import FrameKey
from unisal.train.own_domain import domain_options

SIZE = (30, 40)


def density(seed, size=SIZE, contrast=1.0):
    """-> a smooth random density `[H, W]`."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.normal(size=(4, 5)).astype(np.float32))
    y = np.asarray(coarse.resize(size[::-1], Image.Resampling.BICUBIC), np.float64)
    p = np.exp(2 * contrast * y)
    return (p / p.sum()).astype(np.float32)


def at_temperature(p, temperature):
    power = p.astype(np.float64) ** (1 / temperature)
    return power / power.sum()


def draw(p, n, seed):
    """-> a fixation map of n places drawn from a density, or fewer where they coincide."""
    rng = np.random.default_rng(seed)
    drawn = np.zeros(p.size, bool)
    drawn[rng.choice(p.size, n, p=p.astype(np.float64).ravel() / p.sum(dtype=np.float64))] = True
    return drawn.reshape(p.shape)


class Drawn:
    """A data set of pictures whose fixations are drawn from densities."""

    is_video, source = False, "drawn"

    def __init__(self, n, n_fixations=12, size=(48, 64)):
        self.truths = [density(i, size) for i in range(n)]
        self.maps = [draw(p, n_fixations, i) for i, p in enumerate(self.truths)]

    def lengths(self):
        return [1] * len(self.truths)

    def title(self, index):
        return str(index)

    def is_looked_at(self, index, _number=1):
        return index != 3

    def read_density(self, index, _number=1):
        return self.truths[index]

    def read_fixation_map(self, index, _number=1):
        return self.maps[index]

    def predictions(self, temperature=1.0):
        for index, p in enumerate(self.truths):
            yield FrameKey(index, 1), np.log(at_temperature(p, temperature)).astype(np.float32)


@pytest.fixture(scope="module")
def drawn():
    return Drawn(150)


# ---- the regions --------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(4))
def test_the_regions_are_those_of_the_definition(seed):
    p = density(seed)
    fixations = draw(p, 25, seed)
    order = sorted(range(p.size), key=lambda i: -p.ravel()[i])
    want = []
    for level in LEVELS:
        region, mass = set(), 0.0
        for i in order:
            if mass + float(p.ravel()[i]) > level:
                break
            mass += float(p.ravel()[i])
            region.add(i)
        part = (level - mass) / float(p.ravel()[i])  # of the pixel at the edge
        want.append(
            np.mean(
                [j in region or part * (j == i) for j in np.flatnonzero(fixations)], dtype=float
            )
        )
    np.testing.assert_allclose(shares_inside(p, fixations), want, atol=1e-4)


def test_where_all_is_equal_each_fixation_counts_in_part():
    uniform = np.full(SIZE, 1 / 1200, np.float32)
    fixations = np.zeros(SIZE, bool)
    fixations[0, 0] = True
    np.testing.assert_allclose(shares_inside(uniform, fixations), LEVELS, rtol=1e-6)
    peak = np.zeros(SIZE, np.float32)
    peak[3, 3] = 1
    np.testing.assert_array_equal(shares_inside(peak, fixations), 0)


def test_a_density_that_fixations_are_drawn_from_is_calibrated(drawn):
    found = measure_calibration(drawn, drawn.predictions())
    assert len(found.n_fixations) == len(drawn.truths) - 1
    low, high = found.intervals()
    assert (low < found.shares).all()
    inside = (low <= LEVELS) & (high >= LEVELS)
    assert inside.sum() >= len(LEVELS) - 1
    np.testing.assert_allclose(found.shares, LEVELS, atol=0.04)
    sharp = measure_calibration(drawn, drawn.predictions(0.5)).shares
    assert (sharp[1:-1] < low[1:-1]).all()  # too sharp: its regions are too small
    flat = measure_calibration(drawn, drawn.predictions(2)).shares
    assert (flat[1:-1] > high[1:-1]).all()


# ---- the temperature ----------------------------------------------------------------------


def test_the_kld_at_a_temperature_is_that_of_the_power():
    p, t = density(1), density(2)
    temperatures = [0.3, 1, 2.5]
    want = [kld(np.log(at_temperature(p, value)), t) for value in temperatures]
    np.testing.assert_allclose(kld_at(np.log(p), t, temperatures), want, atol=1e-5)
    assert TEMPERATURES[len(TEMPERATURES) // 2] == 1
    assert LIMITS[0] < TEMPERATURES[0] < TEMPERATURES[-1] < LIMITS[1]


@pytest.mark.parametrize("temperature", [0.7, 1.6])
def test_the_fit_finds_the_temperature_that_the_predictions_lack(drawn, temperature):
    found = measure_calibration(drawn, drawn.predictions(1 / temperature))
    fit = fit_temperature(found.kld)
    assert fit.temperature == pytest.approx(temperature, rel=1e-3)
    assert fit.kld_after == pytest.approx(0, abs=1e-5)
    assert fit.kld_before >= fit.kld_after - 1e-6
    assert not fit.at_limit


def test_the_fit_is_the_lowest_of_many_temperatures():
    pairs = [(density(i, contrast=2), density(i + 50)) for i in range(6)]
    fit = fit_temperature(np.array([kld_at(np.log(p), t) for p, t in pairs]))

    def mean(temperature):
        return np.mean([kld(np.log(at_temperature(p, temperature)), t) for p, t in pairs])

    assert fit.kld_before == pytest.approx(mean(1), abs=1e-5)
    assert fit.kld_after == pytest.approx(mean(fit.temperature), abs=1e-4)
    values = [mean(temperature) for temperature in np.geomspace(*LIMITS, 60)]
    assert fit.kld_after < min(values) + 1e-4


def test_a_limit_is_told():
    rows = np.array([kld_at(np.log(density(1)), at_temperature(density(1), 6))])
    fit = fit_temperature(rows)
    assert (fit.temperature, fit.at_limit) == (pytest.approx(LIMITS[1]), True)


def test_intervals_draw_whole_pictures():
    inside = np.outer([1.0, 0.0], np.full(len(LEVELS), 10))
    found = Calibration(np.array([10.0, 10.0]), inside, np.zeros((2, len(TEMPERATURES))))
    low, high = found.intervals()
    assert (set(low), set(high)) == ({0.0}, {1.0})


# ---- the run ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def model():
    return lively_network(sources=("DHF1K", "SALICON"))


@pytest.mark.parametrize("runtime", ["torch", "onnx"])
def test_the_engine_predicts_at_the_temperature_of_the_domain(model, runtime):
    hot = copy.deepcopy(model)
    hot.temperatures = {"SALICON": 2.0, "DHF1K": 0.5}
    frames = torch.randn(3, 3, 64, 96, generator=torch.Generator().manual_seed(0)).numpy()
    plain, changed = (Engine(m, "cpu", runtime=runtime) for m in (model, hot))
    y, z = (e.images(frames, (64, 96), "SALICON") for e in (plain, changed))
    np.testing.assert_allclose(np.exp(z[0]), at_temperature(np.exp(y[0]), 2), rtol=1e-4)
    for domain, temperature in hot.temperatures.items():
        films = [list(e.video(enumerate(frames), (64, 96), domain, 1)) for e in (plain, changed)]
        for (_, y), (_, z) in zip(*films, strict=True):
            want = at_temperature(np.exp(y), temperature)
            np.testing.assert_allclose(np.exp(z), want, rtol=1e-3)
        _, z = changed.features(frames[0], domain, [None], (64, 96))
        np.testing.assert_allclose(z, films[1][0][1], atol=1e-4)
    hot.temperatures = {"SALICON": 1.0}
    again = changed.images(frames, (64, 96), "SALICON")
    np.testing.assert_array_equal(again, plain.images(frames, (64, 96), "SALICON"))


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"SALICON": 0}, "temperature of SALICON is 0"),
        ({"SALICON": "1"}, "temperature of SALICON is '1'"),
        ({"Town": 1.0}, "'Town'"),
        (1.5, "temperatures is 1.5"),
    ],
)
def test_odd_temperatures_are_refused(model, given, said):
    with pytest.raises(ValueError, match=said):
        UNISAL(**{**model.config, "temperatures": given})


@pytest.fixture
def home(tmp_path, monkeypatch, model):
    """Return a folder with a run and the folder of gaze data `crowd`."""
    monkeypatch.setenv("TRAIN_DIR", str(tmp_path / "runs"))
    network = lively_network(contrast=0.4, sources=model.sources)
    write_network(tmp_path / "runs" / "mine", network)
    write_gaze(tmp_path / "crowd", {f"{i}.jpg": (48, 64) for i in range(12)})
    return tmp_path


def test_calibrate_measures_draws_and_with_save_changes_what_the_run_predicts(home, capsys):
    run, data = home / "runs" / "mine", f"--data={home / 'crowd'}"
    picture = photo((60, 80), 1)
    before = unisal.load("mine", device="cpu").image(picture)
    assert call_command("calibrate", "mine", data, "--device=cpu", "--save=True") == 0
    numbers = load_json(run / "calibration.json")
    assert np.asarray(Image.open(run / "calibration.png")).std() > 0
    assert len(numbers["sources"]["crowd"]["shares"]) == len(numbers["levels"]) == 9
    found = numbers["domains"]["SALICON"]
    assert found["kld_after"] < found["kld_before"]
    assert (found["temperature_before"], found["saved"]) == (1, True)
    assert f"best temperature {found['temperature']:.4f}" in capsys.readouterr().out
    predictor = unisal.load("mine", device="cpu")
    assert predictor.facts("SALICON").temperature == found["temperature"]
    want = at_temperature(before, found["temperature"])
    np.testing.assert_allclose(predictor.image(picture), want, rtol=1e-3)

    network = (run / "UNISAL.json").read_text()
    assert call_command("calibrate", "mine", data, "--device=cpu") == 0
    assert (run / "UNISAL.json").read_text() == network
    again = load_json(run / "calibration.json")["domains"]["SALICON"]
    assert again["temperature"] == pytest.approx(found["temperature"], rel=1e-3)
    assert again["kld_before"] == pytest.approx(found["kld_after"], abs=1e-4)


@pytest.mark.parametrize(
    ("trains", "domain", "left"),
    [
        ("modules", "Crowd", {"DHF1K": 2.0, "SALICON": 0.5}),
        ("modules", "SALICON", {"DHF1K": 2.0}),
        ("all", "Crowd", {}),
    ],
)
def test_training_forgets_the_temperatures_that_it_makes_wrong(home, trains, domain, left):
    path = home / "runs" / "mine" / "UNISAL.json"
    save_json(
        path, {**json.loads(path.read_text()), "temperatures": {"DHF1K": 2.0, "SALICON": 0.5}}
    )
    options = domain_options(["SALICON"], domain, None, "mine", trains, {})
    assert options["model_cfg"]["temperatures"] == left
