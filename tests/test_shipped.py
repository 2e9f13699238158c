"""The weights that ship: they fit the network, and they see what is in a picture."""

from __future__ import annotations

import itertools
import json

import make_golden
import numpy as np
import pytest
import torch
from support import PROJECT

import unisal
from unisal.config import load_json
from unisal.model import SOURCES
from unisal.train.config import TrainerConfig

RUN = PROJECT / "training_runs" / "pretrained_unisal"
PICTURES = PROJECT / "examples" / "SALICON" / "images"
FRAMES = PROJECT / "examples" / "DHF1K" / "otters" / "images"
FAITHFUL = 3e-4
"""How far log-probabilities may be from those of another runtime or processor."""
SALIENT = {  # left, top, right, bottom in shares of the sides
    "astronaut_portrait.jpg": (0.33, 0.08, 0.55, 0.36),  # the face
    "coffee_cup.jpg": (0.25, 0.1, 0.75, 0.9),  # the cup
}


@pytest.fixture(scope="module")
def predictor():
    return unisal.load(device="cpu")


def test_the_folder_holds_what_a_run_holds():
    held = {p.name for p in RUN.iterdir()}
    assert {"README.md", "UNISAL.json", "Trainer.json", "weights_best.pth"} <= held
    assert (RUN / "weights_best.pth").stat().st_size < 17e6
    TrainerConfig.from_dict(load_json(RUN / "Trainer.json"))


def test_the_network_is_the_default_one_with_a_domain_for_any_photograph(predictor):
    model = predictor.engine.model
    assert model.sources == (*SOURCES, "Photographs")
    assert predictor.facts().domain == "Photographs"
    assert sum(p.numel() for p in model.parameters()) == pytest.approx(3.7e6, rel=0.02)
    assert all(torch.isfinite(v).all() for v in model.state_dict().values())


@pytest.mark.slow
@pytest.mark.parametrize("name", SALIENT)
def test_what_people_look_at_stands_out(predictor, name):
    density = predictor.image(PICTURES / name)
    left, top, right, bottom = SALIENT[name]
    height, width = density.shape
    box = density[int(top * height) : int(bottom * height), int(left * width) : int(right * width)]
    share = (right - left) * (bottom - top)
    assert box.sum() > 2 * share
    y, x = np.unravel_index(density.argmax(), density.shape)
    assert top <= y / height <= bottom
    assert left <= x / width <= right


@pytest.mark.slow
def test_the_maps_follow_the_pictures(predictor):
    size = (60, 80)
    small = [
        torch.nn.functional.interpolate(
            torch.from_numpy(predictor.image(path))[None, None], size, mode="area"
        )
        .flatten()
        .numpy()
        for path in sorted(PICTURES.iterdir())
    ]
    alike = [np.corrcoef(a, b)[0, 1] for a, b in itertools.combinations(small, 2)]
    assert np.mean(alike) < 0.6  # the same centre bias each time would give 1


@pytest.mark.slow
def test_the_modules_for_video_predict_the_example(predictor):
    frames = sorted(FRAMES.iterdir())[:12]
    densities = list(predictor.video(frames))
    assert len(densities) == 12
    assert all(d.sum() == pytest.approx(1, abs=1e-4) for d in densities)
    first, last = densities[0].ravel(), densities[-1].ravel()
    assert np.corrcoef(first, last)[0, 1] > 0.5  # the camera glides
    assert np.corrcoef(first, densities[1].ravel())[0, 1] > 0.8


# ---- against silent change ------------------------------------------------------------------
@pytest.fixture(scope="module")
def golden():
    """What the weights predicted and scored when the file was made."""
    known = json.loads(make_golden.GOLDEN.read_text())
    if known["weights"] != make_golden.weights_digest():
        pytest.fail(
            f"{make_golden.GOLDEN.name} was made with other weights; if they were meant to "
            f"change, run `{make_golden.COMMAND}` and look at what it changes"
        )
    return known


@pytest.mark.parametrize("runtime", ["onnx", "torch"])
def test_the_weights_predict_what_they_predicted(golden, runtime):
    predictor = unisal.load(device="cpu", runtime=runtime)
    found = {
        name: make_golden.summarise(log_density)
        for name, log_density in make_golden.predictions(predictor)
    }
    assert found.keys() == golden["predictions"].keys()
    for name, known in golden["predictions"].items():
        for what, value in known.items():
            np.testing.assert_allclose(
                found[name][what], value, rtol=0, atol=FAITHFUL, err_msg=f"{name}: {what}"
            )


def test_score_model_gives_the_scores_it_gave(golden, tmp_path, monkeypatch):
    monkeypatch.setenv("TRAIN_DIR", "set back afterwards")
    found, known = make_golden.scores(tmp_path), golden["scores"]
    assert (found["metrics"], found["domain"]) == (known["metrics"], known["domain"])
    assert found["pictures"].keys() == known["pictures"].keys()
    for name, row in known["pictures"].items():
        np.testing.assert_allclose(found["pictures"][name], row, rtol=0, atol=1e-4, err_msg=name)


def test_the_golden_numbers_tell_small_changes_apart():
    log_density = np.log(np.full((20, 30), 1 / 600))
    known = make_golden.summarise(log_density)
    log_density[:10] += 1e-3
    cells = make_golden.summarise(log_density)["cells"]
    assert np.abs(np.subtract(cells, known["cells"])).max() > FAITHFUL
    assert np.exp(known["cells"]).sum() == pytest.approx(1, abs=1e-4)
