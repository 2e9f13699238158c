"""Scoring a run on a dataset (spec 04; files as in spec 05)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from unisal.config import load_json, run_dir, save_json
from unisal.data import DATASETS, SaliencyDataset, VideoDataset
from unisal.data.transforms import normalise, resize_rgb, to_density, to_fixation_map, to_unit_range
from unisal.data.video_index import Video
from unisal.errors import UserError
from unisal.evaluate import metrics
from unisal.predict.engine import Engine
from unisal.predict.predictor import load_model, to_probabilities

METRICS = ("kld", "nss", "cc", "sim")
NOT_FOR_SCORING = ("phase", "subset", "augment", "seed", "verbose")
"""Options of a run's dataset that say how it was trained, not how it is read."""

Rows = NDArray[np.float64]


@dataclass(frozen=True)
class Scores:
    """Scores of one source: a row per video or image, a column per metric of `METRICS`.

    Attributes:
        name: what the files are called after.
        rows: `[n, metrics]`, for a video the mean over its frames where the metric is defined.
        n_defined: `[n, metrics]`, over how many frames that is.
        n_frames: `[n]`, of each video; 1 for an image.
    """

    name: str
    rows: Rows
    n_defined: NDArray[np.int_]
    n_frames: NDArray[np.int_]

    @classmethod
    def from_frames(cls, name: str, frames: Sequence[Rows]) -> Scores:
        """`frames`: the scores `[n_frames, metrics]` of each video or image."""
        n_defined = np.array([(~np.isnan(f)).sum(axis=0) for f in frames])
        sums = np.array([np.nansum(f, axis=0) for f in frames])
        with np.errstate(invalid="ignore"):
            rows = np.where(n_defined > 0, sums / n_defined, np.nan)
        return cls(name, rows, n_defined, np.array([len(f) for f in frames]))

    @property
    def means(self) -> Rows:
        """Mean per metric over the rows where it is defined (macro average)."""
        n_rows = (self.n_defined > 0).sum(axis=0)
        with np.errstate(invalid="ignore"):
            return np.nansum(self.rows, axis=0) / n_rows

    @property
    def weighted_means(self) -> Rows:
        """Mean per metric over all frames where it is defined."""
        with np.errstate(invalid="ignore"):
            sums = np.nansum(self.rows * self.n_defined, axis=0)
            return sums / self.n_defined.sum(axis=0)

    @property
    def n_undefined(self) -> NDArray[np.int_]:
        """How many frames' values per metric were left out of the means."""
        return (self.n_frames[:, None] - self.n_defined).sum(axis=0)

    def table(self) -> str:
        """-> what to print on a terminal."""
        parts = [f"{n} {m:.4f}" for n, m in zip(METRICS, self.means, strict=True)]
        left_out = int(self.n_undefined.sum())
        note = f"  ({left_out} undefined values left out)" if left_out else ""
        return f"{self.name} ({len(self.rows)}): {', '.join(parts)}{note}"

    def save(self, folder: Path) -> None:
        """Write the three JSON files of spec 05."""
        save_json(folder / f"{self.name}_eval_scores.json", [_as_json(row) for row in self.rows])
        save_json(folder / f"{self.name}_eval_mean_scores.json", _as_json(self.means))
        save_json(
            folder / f"{self.name}_eval_weighted_mean_scores.json", _as_json(self.weighted_means)
        )


def score_model(
    train_id: str | None = None,
    sources: Sequence[str] = ("SALICON",),
    device: str = "auto",
    model_domain: str | None = None,
) -> list[Scores]:
    """Score a run on the scored part of each source; writes the scores into its folder.

    Args:
        train_id: the run.
        sources: the datasets.
        device: where to run the network.
        model_domain: whose modules of the network to use, instead of the source's own. The
            files then say so in their names (`DHF1K_as_SALICON_...`).

    Raises:
        UserError: an unknown source or run, or data that is missing, before any work.
    """
    folder = run_dir(train_id)
    datasets = [dataset_to_score(source, folder) for source in sources]
    engine = Engine(load_model(train_id), device)
    results = []
    for dataset in datasets:
        scores = score_dataset(engine, dataset, model_domain)
        scores.save(folder)
        print(scores.table())
        results.append(scores)
    return results


def dataset_to_score(source: str, folder: Path | None = None) -> SaliencyDataset:
    """-> the part of a source that it is scored on, read as the run in `folder` reads it."""
    if source not in DATASETS:
        raise UserError(f"{source} cannot be scored; known are {', '.join(DATASETS)}")
    dataset = DATASETS[source]
    saved = (folder / f"{dataset.__name__}.json") if folder else None
    options = load_json(saved) if saved and saved.is_file() else {}
    options = {k: v for k, v in options.items() if k not in NOT_FOR_SCORING}
    return dataset.from_options(options, phase=dataset.scored_phase)


def score_dataset(
    engine: Engine, dataset: SaliencyDataset, model_domain: str | None = None
) -> Scores:
    """Predict and score every image or frame at the size of its ground truth."""
    domain = engine.domain(model_domain or dataset.domain)
    name = dataset.score_name + (f"_as_{domain}" if model_domain else "")
    if isinstance(dataset, VideoDataset):
        n_frames = sum(v.n_frames for v in dataset.videos)
        scored = (list(_score_video(engine, dataset, v, domain)) for v in dataset.videos)
        unit, total = "frame", n_frames
    else:
        scored = ([_score_image(engine, dataset, i, domain)] for i in range(len(dataset)))
        unit, total = "image", len(dataset)
    frames = []
    with tqdm(total=total, desc=f"score {name}", unit=unit, disable=None) as bar:
        for rows in scored:
            frames.append(np.array(rows, dtype=np.float64))
            bar.update(len(rows))
    return Scores.from_frames(name, frames)


def _score_image(engine: Engine, dataset: SaliencyDataset, index: int, domain: str) -> list[float]:
    item = dataset[index]
    assert item.maps is not None and item.fixations is not None
    log_density = engine.images(item.frames[None], item.target_size, domain)[0].numpy()
    if not np.isfinite(log_density).all():
        raise UserError(f"the prediction for {dataset.name(index)} is not finite")
    return score_frame(log_density, item.maps[0].numpy(), item.fixations[0].numpy())


def _score_video(
    engine: Engine, dataset: VideoDataset, video: Video, domain: str
) -> Iterator[list[float]]:
    """One frame after the other: memory does not grow with the length of the video."""
    if video.target_size is None:
        raise UserError(f"{dataset.folder / video.name} has no maps to score against")
    numbers = range(1, video.n_frames + 1)
    frames = (
        normalise(resize_rgb(dataset.read_frame(video, n), dataset.out_size)) for n in numbers
    )
    predicted = engine.video(frames, video.target_size, domain, dataset.frame_modulo)
    for number, log_density in zip(numbers, predicted, strict=True):
        if not log_density.isfinite().all():
            raise UserError(f"the prediction for frame {number} of {video.name} is not finite")
        saliency_map, fixations = dataset.read_targets(video, number)
        yield score_frame(
            log_density.numpy(),
            to_density(to_unit_range(saliency_map)),
            to_fixation_map(to_unit_range(fixations)),
        )


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


def _as_json(row: Rows) -> list[float | None]:
    """NaN has no place in JSON: an undefined value is null."""
    return [None if np.isnan(v) else float(v) for v in row]
