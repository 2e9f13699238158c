"""Scoring a run on a dataset (spec 04; files as in spec 05)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from unisal.config import run_dir, save_json
from unisal.data import DATASETS, SaliencyDataset
from unisal.errors import UserError
from unisal.evaluate import metrics
from unisal.predict.engine import Engine
from unisal.predict.predictor import load_model, to_probabilities

METRICS = ("kld", "nss", "cc", "sim")


@dataclass(frozen=True)
class Scores:
    """Scores of one source: a row per video or image, a column per metric of `METRICS`."""

    source: str
    rows: NDArray[np.float64]

    @property
    def means(self) -> NDArray[np.float64]:
        """Mean per metric over the rows where it is defined."""
        n_defined = len(self.rows) - self.n_undefined
        with np.errstate(invalid="ignore"):
            return np.nansum(self.rows, axis=0) / n_defined

    @property
    def n_undefined(self) -> NDArray[np.int_]:
        """How many values per metric were left out of the mean."""
        return np.isnan(self.rows).sum(axis=0)

    def table(self) -> str:
        """-> what to print on a terminal."""
        parts = [f"{n} {m:.4f}" for n, m in zip(METRICS, self.means, strict=True)]
        left_out = int(self.n_undefined.sum())
        note = f"  ({left_out} undefined values left out)" if left_out else ""
        return f"{self.source} ({len(self.rows)}): {', '.join(parts)}{note}"

    def save(self, folder: Path) -> None:
        """Write the three JSON files of spec 05. For images the two means are the same."""
        means = self.means.tolist()
        save_json(folder / f"{self.source}_eval_scores.json", _as_json(self.rows))
        save_json(folder / f"{self.source}_eval_mean_scores.json", means)
        save_json(folder / f"{self.source}_eval_weighted_mean_scores.json", means)


def score_model(
    train_id: str | None = None, sources: Sequence[str] = ("SALICON",), device: str = "auto"
) -> list[Scores]:
    """Score a run on the validation part of image sources; writes the scores into its folder.

    Raises:
        UserError: an unknown source or run, or data that is missing, before any work.
    """
    datasets = [dataset_to_score(source) for source in sources]
    engine = Engine(load_model(train_id), device)
    results = []
    for dataset in datasets:
        scores = score_images(engine, dataset)
        scores.save(run_dir(train_id))
        print(scores.table())
        results.append(scores)
    return results


def dataset_to_score(source: str) -> SaliencyDataset:
    """-> the part of a source that it is scored on."""
    if source not in DATASETS:
        raise UserError(f"{source} cannot be scored; known are {', '.join(DATASETS)}")
    return DATASETS[source](phase="eval")  # type: ignore[call-arg]


def score_images(engine: Engine, dataset: SaliencyDataset) -> Scores:
    """Predict and score every image at the size of its ground truth."""
    domain = engine.domain(dataset.domain)
    rows = []
    for index in tqdm(
        range(len(dataset)), desc=f"score {dataset.source}", unit="image", disable=None
    ):
        item = dataset[index]
        assert item.maps is not None and item.fixations is not None
        log_density = engine.images(item.frames[None], item.target_size, domain)[0].numpy()
        if not np.isfinite(log_density).all():
            raise UserError(f"the prediction for {dataset.name(index)} is not finite")
        rows.append(score_frame(log_density, item.maps[0].numpy(), item.fixations[0].numpy()))
    return Scores(dataset.source, np.array(rows, dtype=np.float64))


def score_frame(
    log_density: NDArray[np.float32], target: NDArray[np.float32], fixations: NDArray[np.bool_]
) -> list[float]:
    """-> the metrics of one frame, in the order of `METRICS`."""
    density = to_probabilities(log_density)
    return [
        metrics.kld(log_density, target),
        metrics.nss(density, fixations),
        metrics.cc(density, target),
        metrics.sim(density, target),
    ]


def _as_json(rows: NDArray[np.float64]) -> list[list[float | None]]:
    """NaN has no place in JSON: an undefined value is null."""
    return [[None if np.isnan(v) else float(v) for v in row] for row in rows]
