"""The scores of one source: rows, means and intervals, and how they are shown and saved."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from unisal.config import save_json
from unisal.data import SaliencyDataset

if TYPE_CHECKING:
    from unisal.evaluate.comparisons import Comparison

Rows = NDArray[np.float64]
N_RESAMPLES = 2000
"""Number of resamples of the bootstrap."""
INTERVAL = (2.5, 97.5)
"""The percentiles of the resampled means that an interval spans."""


@dataclass(frozen=True)
class Scores:
    """Scores of one source: a row per video or image, a column per metric.

    Attributes:
        name: the first part of the files' names.
        metrics: names of the columns.
        titles: names of the videos or images, one per row.
        rows: `[n, metrics]`, for a video the mean over its frames where the metric is defined.
        n_defined: `[n, metrics]`, over how many frames that is.
        n_wanted: `[n, metrics]`, on how many frames it was to be computed.
        n_frames: `[n]`, the number of frames of each video; 1 for an image.
    """

    name: str
    metrics: tuple[str, ...]
    titles: tuple[str, ...]
    rows: Rows
    n_defined: NDArray[np.int_]
    n_wanted: NDArray[np.int_]
    n_frames: NDArray[np.int_]

    @classmethod
    def from_frames(
        cls,
        name: str,
        metrics: Sequence[str],
        frames: Sequence[Rows],
        wanted: Sequence[NDArray[np.bool_]] | None = None,
        titles: Sequence[str] | None = None,
    ) -> Scores:
        """Average the frames of each video.

        Args:
            name: the first part of the files' names.
            metrics: names of the columns.
            frames: for each video the values `[n_frames, metrics] float64`; NaN where undefined.
            wanted: for each video `[n_frames, metrics] bool`, whether the value was to be computed;
                None if all were.
            titles: names of the videos or images; None for numbers from 1.
        """
        n_defined = np.array([(~np.isnan(f)).sum(axis=0) for f in frames])
        sums = np.array([np.nansum(f, axis=0) for f in frames])
        n_frames = np.array([len(f) for f in frames])
        if wanted is None:
            n_wanted = np.repeat(n_frames[:, None], len(metrics), axis=1)
        else:
            n_wanted = np.array([w.sum(axis=0) for w in wanted])
        titles = titles or [str(i) for i in range(1, len(frames) + 1)]
        rows = _ratio(sums, n_defined)
        return cls(name, tuple(metrics), tuple(titles), rows, n_defined, n_wanted, n_frames)

    @property
    def means(self) -> Rows:
        """Mean per metric over the rows where it is defined (macro average)."""
        return _ratio(np.nansum(self.rows, axis=0), (self.n_defined > 0).sum(axis=0))

    @property
    def weighted_means(self) -> Rows:
        """Mean per metric over all frames where it is defined."""
        return _ratio(np.nansum(self.rows * self.n_defined, axis=0), self.n_defined.sum(axis=0))

    @property
    def n_undefined(self) -> NDArray[np.int_]:
        """Number of values per metric that were left out of the means as undefined."""
        return (self.n_wanted - self.n_defined).sum(axis=0)

    def intervals(self, seed: int = 0, weighted: bool = False) -> Rows:
        """Bootstrap 95 % intervals of the means.

        Whole videos are drawn with replacement, since the frames of one resemble each other.

        Args:
            seed: seed of the draws.
            weighted: whether the intervals are for `weighted_means` instead of `means`.

        Returns:
            `[2, metrics]`: lower and upper ends; NaN where a mean is undefined.
        """
        n = len(self.rows)
        rng = np.random.default_rng(seed)
        drawn = rng.multinomial(n, np.full(n, 1 / n), size=N_RESAMPLES).astype(float)
        weights = self.n_defined if weighted else (self.n_defined > 0)
        sums = drawn @ np.nan_to_num(self.rows * weights, nan=0.0)
        ends = np.full((2, len(self.metrics)), np.nan)
        resampled = _ratio(sums, drawn @ weights)
        defined = weights.any(axis=0)
        ends[:, defined] = np.nanpercentile(resampled[:, defined], INTERVAL, axis=0)
        return ends

    def summary(self, seed: int = 0) -> dict[str, Any]:
        """Return the means with their intervals and counts, by metric, ready for JSON."""
        kinds = {"mean": (self.means, False), "weighted_mean": (self.weighted_means, True)}
        found: dict[str, Any] = {"n": len(self.rows), "n_frames": int(self.n_frames.sum())}
        for kind, (means, weighted) in kinds.items():
            ends = self.intervals(seed, weighted).T
            found[kind] = dict(zip(self.metrics, as_json(means), strict=True))
            found[f"{kind}_interval_95"] = dict(zip(self.metrics, map(as_json, ends), strict=True))
        found["left_out"] = dict(zip(self.metrics, self.n_undefined.tolist(), strict=True))
        return found

    def save(self, folder: Path) -> None:
        """Write the three JSON files of docs/behaviour.md, "Commands and files".

        Args:
            folder: where they go; created if it does not exist.
        """
        folder.mkdir(parents=True, exist_ok=True)
        save_json(folder / f"{self.name}_eval_scores.json", [as_json(row) for row in self.rows])
        save_json(folder / f"{self.name}_eval_mean_scores.json", as_json(self.means))
        save_json(
            folder / f"{self.name}_eval_weighted_mean_scores.json", as_json(self.weighted_means)
        )


class SubsetKey(NamedTuple):
    """Names a subset of the gaze."""

    by: str
    """What the gaze was divided by."""
    name: str


@dataclass(frozen=True)
class Result:
    """The outcome of scoring one source."""

    dataset: SaliencyDataset
    domain: str
    """The network domain that predicted it."""
    scores: Scores
    baselines: dict[str, Scores] = field(default_factory=dict)
    subsets: dict[SubsetKey, Scores] = field(default_factory=dict)
    """The scores against subsets of the gaze."""
    baseline_subsets: dict[str, dict[SubsetKey, Scores]] = field(default_factory=dict)
    """Those of baselines, by their names."""
    against: Scores | None = None
    """The scores of another run."""
    comparisons: list[Comparison] = field(default_factory=list)
    """Tests of the run against the other one, and of groups against each other."""

    @property
    def divisions(self) -> dict[str, dict[str, Scores]]:
        """The scores of the subsets by what divides the gaze, and their names."""
        found: dict[str, dict[str, Scores]] = {}
        for key, scores in self.subsets.items():
            found.setdefault(key.by, {})[key.name] = scores
        return found


def format_table(
    title: str, scores: Scores, baselines: Mapping[str, Scores] | None = None, seed: int = 0
) -> str:
    """Format means, intervals and baselines for a terminal, a column per metric.

    Args:
        title: the name of the first row.
        scores: those of the network.
        baselines: scores to compare with, by name.
        seed: seed of the bootstrap.

    Returns:
        The lines, joined.
    """
    is_video = bool((scores.n_frames > 1).any())
    unit = "videos" if is_video else "images"
    lines = [(f"{scores.name}: {len(scores.rows)} {unit}", [f"{m:>9}" for m in scores.metrics])]
    lower, upper = scores.intervals(seed)
    lines += [
        (f"  {title}", _cells(scores.means)),
        ("    95 % interval from", _cells(lower)),
        ("    to", _cells(upper)),
    ]
    if is_video:
        lines.append(("    weighted by frames", _cells(scores.weighted_means)))
    if scores.n_undefined.any():
        lines.append(("    undefined, left out", [f"{n:9d}" for n in scores.n_undefined]))
    lines += [(f"  {name}", _cells(other.means)) for name, other in (baselines or {}).items()]
    width = max(len(head) for head, _ in lines)
    return "\n".join(f"{head:<{width}}{''.join(cells)}" for head, cells in lines)


def format_divisions(result: Result, max_shown: int) -> str:
    """Format the means of the subsets for a terminal, a column per metric.

    Args:
        result: the scores.
        max_shown: of how many subsets by one thing, at most, the means are shown.

    Returns:
        The lines, joined; empty if there are no subsets.
    """
    unit = "films" if result.dataset.is_video else "images"
    lines: list[tuple[str, list[str]]] = []
    for by, subsets in result.divisions.items():
        if len(subsets) > max_shown:
            lines.append((f"  by {by}: {len(subsets)} subsets", []))
            continue
        lines.append((f"  by {by} ({unit})", [f"{m:>9}" for m in result.scores.metrics]))
        for name, scores in subsets.items():
            n = int((scores.n_frames > 0).sum())
            lines.append((f"    {name} ({n})", _cells(scores.means)))
    width = max((len(head) for head, cells in lines if cells), default=0)
    return "\n".join(f"{head:<{width}}{''.join(cells)}" for head, cells in lines)


def format_comparisons(comparisons: Sequence[Comparison]) -> str:
    """Format tests for a terminal, a line for each metric."""
    lines: list[str] = []
    pair = None
    for found in comparisons:
        if (found.by, found.first, found.second) != pair:
            pair = found.by, found.first, found.second
            lines.append(
                f"  {found.by}: {found.first} minus {found.second} (both on {found.n_both}, only "
                f"the first on {found.n_first}, only the second on {found.n_second})"
            )
        tested = (
            "too few to test"
            if np.isnan(found.p)
            else f"95 % interval from {found.low:+.4f} to {found.high:+.4f}   p = {found.p:.4f}"
        )
        lines.append(f"    {found.metric:>5} {found.difference:+9.4f}   {tested}")
    return "\n".join(lines)


def as_json(row: Rows) -> list[float | None]:
    """Return a row as JSON can hold it: an undefined value is null, since JSON has no NaN."""
    return [None if np.isnan(v) else float(v) for v in row]


def _cells(values: Rows) -> list[str]:
    """Format a row of the table."""
    return [f"{'-':>9}" if np.isnan(v) else f"{v:9.4f}" for v in values]


def _ratio(sums: Rows, counts: NDArray[Any]) -> Rows:
    """Divide sums by counts; NaN where there is nothing to average."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(counts > 0, sums / counts, np.nan)
