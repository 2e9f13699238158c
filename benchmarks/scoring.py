"""Measure `score_model` on pictures, from files to scores.

Run `python -m benchmarks.scoring`. The plain way takes one picture after the other: it is read,
resized, sent through the plain network and scored, the two AUCs with a loop over thresholds and
draws, the other metrics from arrays. Ours is what `score_model` does. Both draw the same random
numbers.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from benchmarks.case import Case, measure, print_rows
from benchmarks.limits import Machine, measure_machine
from benchmarks.network import OneImage
from benchmarks.timing import plain_module, plain_network
from unisal.config import examples_dir
from unisal.data import SaliencyDataset, find_dataset
from unisal.data.pictures import list_pictures, read_rgb
from unisal.evaluate.frames import OtherFixations
from unisal.evaluate.options import SPLITS_STREAM, ScoringOptions
from unisal.evaluate.scoring import score_dataset
from unisal.inference.engine import Engine
from unisal.model import UNISAL
from unisal.predict.inputs import prepare
from unisal.predict.loading import load_model

SIZE = 480, 640
N_FIXATIONS = 60
Scores = NDArray[np.float64]


class Scoring(Case):
    """The scored part of SALICON, all six metrics.

    Args:
        items: how many pictures.
        size: (height, width) of the pictures and the ground truth.
    """

    what, wanted, unit = "score_model, 200 images, six metrics", "5 times", "image"
    rounds = 3

    def __init__(self, items: int = 200, size: tuple[int, int] = SIZE) -> None:
        self.items, self.size = items, size
        self.options_of_scoring = ScoringOptions()

    def options(self) -> dict[str, Any]:
        return {"items": self.items, "size": self.size}

    @cached_property
    def root(self) -> Path:
        """A SALICON folder: the example photographs, shifted, with fixations near random places."""
        root = Path(tempfile.mkdtemp())
        photos = [read_rgb(path) for path in list_pictures(examples_dir() / "SALICON" / "images")]
        rng = np.random.default_rng(0)
        for number in range(self.items):
            photo = np.roll(photos[number % len(photos)], 10 * number, axis=1)
            resized = Image.fromarray(photo).resize(self.size[::-1])
            density, fixated = _ground_truth(self.size, rng)
            name = f"COCO_val2014_{number:012d}"
            for folder, picture in (
                (f"images/{name}.jpg", resized),
                (f"maps/val/{name}.png", Image.fromarray(density)),
                (f"fixations/val/{name}.png", Image.fromarray(fixated)),
            ):
                (root / folder).parent.mkdir(parents=True, exist_ok=True)
                picture.save(root / folder)
        return root

    @cached_property
    def dataset(self) -> SaliencyDataset:
        kind = find_dataset("SALICON")
        assert kind.root_variable
        os.environ[kind.root_variable] = str(self.root)
        return kind.from_options({}, phase=kind.scored_phase)

    @cached_property
    def model(self) -> UNISAL:
        return load_model().eval()

    @cached_property
    def engine(self) -> Engine:
        return Engine(self.model, "cpu")

    def plain(self) -> Scores:
        network, rows = plain_network(self.model), []
        others = OtherFixations(self.dataset, self.options_of_scoring)
        for index, path in enumerate(sorted((self.root / "images").iterdir())):
            x = torch.from_numpy(prepare(read_rgb(path), (288, 384)))[None, None]
            with torch.inference_mode():
                y, _ = network(x, self.size, source="SALICON", static=True)
            maps = (
                np.array(Image.open(self.root / f"{kind}/val/{path.stem}.png"))
                for kind in ("maps", "fixations")
            )
            target, fixations = (m.astype(np.float32) for m in maps)
            rng = self.options_of_scoring.rng(SPLITS_STREAM, index, 1)
            of_others = others.of(index, fixations.shape)
            rows.append(plain_scores(y[0, 0, 0].numpy(), target, fixations, of_others, rng))
        return np.array(rows)

    def ours(self) -> Scores:
        return score_dataset(
            self.engine, self.dataset, "SALICON", options=self.options_of_scoring
        ).rows

    def difference(self, plain: Scores, ours: Scores) -> str:
        of_means = np.abs(plain.mean(axis=0) - ours.mean(axis=0)).max()
        return (
            f"{np.abs(plain - ours).max():.0e} of a picture's scores, {of_means:.0e} of the means"
        )

    def of_the_limit(self, machine: Machine, seconds: float) -> str:
        share = OneImage().of_the_limit(machine, seconds / self.items)
        return f"{share}, for the network alone"

    def close(self) -> None:
        shutil.rmtree(self.root)


def plain_scores(
    log_p: NDArray[np.float32],
    target: NDArray[np.float32],
    fixations: NDArray[np.float32],
    others: NDArray[np.bool_],
    rng: Any,
) -> list[float]:
    """Compute the six published metrics from their definitions."""
    plain = plain_module("plain_metrics")
    p, t = np.exp(log_p), (target / target.sum()).astype(np.float64)
    z = (p - p.mean(dtype=np.float64)) / p.std(dtype=np.float64, ddof=1)
    some = t > 0
    return [
        (t[some] * (np.log(t[some]) - log_p[some])).sum(),
        z[fixations > 0].mean(),
        np.corrcoef(p.ravel(), t.ravel())[0, 1],
        np.minimum(p / p.sum(dtype=np.float64), t).sum(),
        plain.auc_judd(p, fixations),
        plain.auc_shuffled(p, fixations, others, 100, 0.1, rng),
    ]


def _ground_truth(
    size: tuple[int, int], rng: np.random.Generator
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Draw a saliency map and a fixation map: some blobs."""
    y, x = (np.mgrid[: size[0], : size[1]] + 0.5) / np.array(size).reshape(2, 1, 1)
    density = np.full(size, 1e-4)
    for a, b in rng.uniform(0.2, 0.8, (3, 2)):
        density += np.exp(-((y - a) ** 2 + (x - b) ** 2) / 0.01)
    fixated = np.zeros(size, np.uint8)
    p = density.ravel() / density.sum()
    fixated.flat[rng.choice(p.size, N_FIXATIONS, p=p)] = 255
    return (density / density.max() * 255).astype(np.uint8), fixated


def cases() -> list[Case]:
    """Return the cases of this module."""
    # The order of `plain_scores`.
    assert ScoringOptions.metrics == ("kld", "nss", "cc", "sim", "aucj", "aucs")
    return [Scoring()]


if __name__ == "__main__":
    machine = measure_machine()
    for case in cases():
        print_rows([measure(case, machine)])
        case.close()
