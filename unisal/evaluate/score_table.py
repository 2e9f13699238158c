"""Scores as tables for other programs (CSV): a row for each stimulus, subset and metric."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import fields
from pathlib import Path

from unisal.evaluate.comparisons import Comparison
from unisal.evaluate.scores import Result, Scores, SubsetKey
from unisal.files import write_atomically

COLUMNS = ("source", "stimulus", "prediction", "by", "subset", "metric", "value", "frames")
"""Those of the table of scores. `by` and `subset` are empty for all gaze; `frames` is the number of
frames that the value is the mean of."""
Row = tuple[str | int, ...]


def write_scores(path: Path, result: Result, run: str) -> None:
    """Write the scores of a run and its baselines on one source.

    Args:
        path: the file, replaced if there is one.
        result: the scores.
        run: name of the run, which stands in the column `prediction`.
    """
    _write(path, COLUMNS, _score_rows(result, run))


def write_comparisons(path: Path, comparisons: Sequence[Comparison]) -> None:
    """Write tests, a row for each metric of each comparison.

    Args:
        path: the file, replaced if there is one.
        comparisons: the tests.
    """
    columns = [field.name for field in fields(Comparison)]
    values = ([getattr(found, name) for name in columns] for found in comparisons)
    _write(path, columns, (tuple(map(_text, row)) for row in values))


def _score_rows(result: Result, run: str) -> Iterator[Row]:
    """Yield the rows of the table of scores."""
    everything: dict[SubsetKey, Scores] = {SubsetKey("", ""): result.scores}
    predictions: dict[str, Mapping[SubsetKey, Scores]] = {run: everything | result.subsets}
    if result.against is not None:
        predictions[result.against.name] = {SubsetKey("", ""): result.against}
    for name, scores in result.baselines.items():
        of_subsets = result.baseline_subsets.get(name, {})
        predictions[name] = {SubsetKey("", ""): scores, **of_subsets}
    for prediction, subsets in predictions.items():
        for key, scores in subsets.items():
            for title, row, counts in zip(
                scores.titles, scores.rows.tolist(), scores.n_defined.tolist(), strict=True
            ):
                for metric, value, n in zip(scores.metrics, row, counts, strict=True):
                    if n:
                        head = result.dataset.source, title, prediction, *key
                        yield *head, metric, _text(value), n


def _text(value: float | str) -> str | int:
    """Return a value as text that loses nothing; nothing for NaN."""
    if isinstance(value, float):
        return "" if math.isnan(value) else repr(value)
    return value


def _write(path: Path, columns: Sequence[str], rows: Iterable[Row]) -> None:
    """Write a table, row by row."""

    def write(temporary: Path) -> None:
        with temporary.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(columns)
            writer.writerows(rows)

    write_atomically(path, write)
