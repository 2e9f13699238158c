"""Makes tests/golden.json: what the shipped weights predict and score.

Run `python -m tests.make_golden` after the weights were changed, or after a change that is meant to
change predictions or scores, and look at the difference before it is committed.
"""

from __future__ import annotations

import csv
import hashlib
import json
import os
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

import unisal
from unisal.commands.scoring import score_model
from unisal.config import save_json
from unisal.data import DATASETS
from unisal.data.pictures import picture_size
from unisal.evaluate.options import ScoringOptions
from unisal.files import write_atomically
from unisal.predict import Predictor

PROJECT = Path(__file__).resolve().parent.parent
GOLDEN = Path(__file__).with_name("golden.json")
COMMAND = "python -m tests.make_golden"
RUN = PROJECT / "training_runs" / "pretrained_unisal"
PICTURES = [
    PROJECT / "examples" / "SALICON" / "images" / f"{name}.jpg"
    for name in ("coffee_cup", "osprey_on_branch", "wren_on_rock")
]
FRAMES = [
    PROJECT / "examples" / "DHF1K" / "otters" / "images" / f"{number:04d}.jpg" for number in (1, 24)
]
DEFAULT = "default"
"""Names what is predicted if no domain is named."""
CELLS = 9, 12
"""Rows and columns that a density is summed over."""
FIXATIONS, PEOPLE = 24, 4
"""On each picture, and by how many people."""


def weights_digest() -> str:
    """Return the SHA-256 of the weights that ship."""
    return hashlib.sha256((RUN / "weights_best.pth").read_bytes()).hexdigest()


def summarise(log_density: np.ndarray) -> dict[str, Any]:
    """Return log-probabilities of the cells of a grid, and numbers about the whole map."""
    density = np.exp(log_density.astype(np.float64))
    rows, columns = (np.arange(n) * side // n for n, side in zip(CELLS, density.shape, strict=True))
    cells = np.add.reduceat(np.add.reduceat(density, rows, axis=0), columns, axis=1)
    return {
        "cells": np.log(cells).round(5).tolist(),
        "entropy": round(float(-(density * log_density).sum()), 5),
        "highest": round(float(log_density.max()), 5),
        "lowest": round(float(log_density.min()), 5),
    }


def predictions(predictor: Predictor) -> Iterator[tuple[str, np.ndarray]]:
    """Yield log-densities by name: of each picture by every domain, of a film by those for video.

    Of the film it is the last frame, which the GRU sees after the others.
    """
    domains = predictor.engine.sources
    for path in PICTURES:
        for domain in domains:
            yield f"{path.stem}, {domain}", predictor.image(path, log=True, domain=domain)
    yield f"{PICTURES[0].stem}, {DEFAULT}", predictor.image(PICTURES[0], log=True)
    for domain in {source.domain: None for source in DATASETS.values() if source.is_video}:
        if domain in domains:
            *_, last = predictor.video(FRAMES, domain=domain, frame_step=1, log=True)
            yield f"otters, {domain}", last


def write_gaze_folder(folder: Path) -> None:
    """Write a folder of gaze data: the pictures, and a fixed table of made-up fixations."""
    (folder / "stimuli").mkdir(parents=True)
    rows = []
    for number, path in enumerate(PICTURES):
        (folder / "stimuli" / path.name).write_bytes(path.read_bytes())
        height, width = picture_size(path)
        for i in range(FIXATIONS):
            # Multiples of irrational numbers spread evenly, and none repeats another.
            x, y = (0.5 + 0.4 * np.sin(17 * (number + 1) + i * step) for step in (2.4, 1.7))
            rows.append((path.name, f"p{i % PEOPLE}", round(x * width), round(y * height)))
    with (folder / "fixations.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("stimulus", "observer", "x", "y"), *rows])
    save_json(folder / "splits.json", {"val": [path.name for path in PICTURES]})


def scores(folder: Path) -> dict[str, Any]:
    """Return the scores that `score_model` gives each picture of `write_gaze_folder`.

    Args:
        folder: an empty folder for the gaze and for the scores. `TRAIN_DIR` is set to a folder in
            it, so that nothing is written to the run that ships.
    """
    write_gaze_folder(folder / "golden")
    run = folder / "runs" / RUN.name
    run.mkdir(parents=True)
    for name in ("UNISAL.json", "weights_best.pth", "presets.json"):
        if (RUN / name).exists():
            (run / name).symlink_to(RUN / name)
    os.environ["TRAIN_DIR"] = str(run.parent)
    (result,) = score_model(
        train_id=RUN.name,
        sources=[f"golden={folder / 'golden'}"],
        model_domain=None,
        baselines=False,
        report=False,
        device="cpu",
        options=ScoringOptions(with_ig=True),
    )
    found = result.scores
    rows = dict(zip(found.titles, found.rows.round(6).tolist(), strict=True))
    return {"metrics": list(found.metrics), "domain": result.domain, "pictures": rows}


def main() -> None:
    """Make the file."""
    predictor = unisal.load(RUN.name, device="cpu")
    known = {name: summarise(log_density) for name, log_density in predictions(predictor)}
    with tempfile.TemporaryDirectory() as folder:
        scored = scores(Path(folder))
    golden = {"weights": weights_digest(), "predictions": known, "scores": scored}
    write_atomically(GOLDEN, lambda path: path.write_text(layout(golden)))
    print(f"{GOLDEN}: {len(known)} predictions, scores of {len(scored['pictures'])} pictures")


def layout(golden: dict[str, Any]) -> str:
    """Return the file's text: lists of numbers on one line, so that a difference can be read."""
    text = json.dumps(golden, indent=1)
    return re.sub(r"\[[^][{}]*\]", lambda m: re.sub(r"\s+", " ", m[0]), text) + "\n"


if __name__ == "__main__":
    main()
