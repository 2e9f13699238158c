"""The command `calibrate`: whether a run's probabilities hold, and the temperature that helps."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from unisal.commands.progress import TERMINAL
from unisal.commands.scoring import sources_at_hand
from unisal.config import (
    FINE_TUNED,
    find_weights,
    load_json,
    run_dir,
    run_dir_to_write,
    save_json,
    writable_run_dir,
)
from unisal.data import SaliencyDataset
from unisal.data.inspection import quick_check
from unisal.errors import UserError
from unisal.evaluate.calibration import (
    LEVELS,
    LIMITS,
    Calibration,
    Fit,
    fit_temperature,
    measure_calibration,
)
from unisal.evaluate.scores import as_json
from unisal.evaluate.scoring import dataset_to_score
from unisal.files import require_writable_file, write_atomically
from unisal.inference.engine import Engine
from unisal.predict.datasets import predict_dataset
from unisal.predict.loading import load_network
from unisal.predict.presets import source_domain
from unisal.visualize.calibration import CalibrationLine, draw_calibration

NUMBERS, PICTURE = "calibration.json", "calibration.png"
"""What is written into the run's folder."""
NETWORK = "UNISAL.json"
SHOWN = (0.1, 0.5, 0.9)
"""The levels that are printed."""


class _Measured(NamedTuple):
    """A data set with what was measured on it."""

    dataset: SaliencyDataset
    domain: str
    found: Calibration


def calibrate(
    *,
    train_id: str | None,
    sources: Sequence[str],
    model_domain: str | None,
    save: bool,
    random_seed: int,
    device: str,
) -> None:
    """Measure the calibration of a run, and fit the temperature of each domain that it uses.

    Writes `calibration.json` and `calibration.png` into the run's folder.

    Args:
        train_id: the run; None for the one that ships with the program.
        sources: the data sets; none for those that are scored by default and whose folder exists.
        model_domain: the network domain to use, instead of the one that scores use.
        save: whether to store the temperatures in the run, so that it predicts with them.
        random_seed: seed of the bootstrap.
        device: where to run the network.

    Raises:
        UserError: a source or run is unknown, data is missing or faulty, or a place cannot be
            written.
    """
    folder = run_dir(train_id)
    datasets = [
        dataset_to_score(source, folder=folder, progress=TERMINAL)
        for source in sources or sources_at_hand()
    ]
    quick_check(datasets)
    for name in (NUMBERS, PICTURE, *([NETWORK] if save else [])):
        require_writable_file(run_dir_to_write(train_id) / name, "copy the run elsewhere")
    for dataset in datasets if save else ():
        if find_weights(train_id, dataset.fine_tuned).name in FINE_TUNED:
            raise UserError(
                f"{dataset.source} is predicted with the fine-tuned weights, but a temperature "
                "belongs to the others; leave out --save or the source"
            )

    @cache
    def engine(fine_tuned: bool) -> Engine:
        return Engine(load_network(train_id, fine_tuned), device)

    measured = []
    for dataset in datasets:
        network = engine(dataset.fine_tuned)
        domain = network.domain(model_domain or source_domain(train_id, dataset))
        predictions = predict_dataset(network, dataset, domain)
        found = measure_calibration(dataset, predictions, TERMINAL)
        if not len(found.n_fixations):
            raise UserError(f"nobody looked at the pictures of {dataset.source} that are scored")
        measured.append(_Measured(dataset, domain, found))
    _report(writable_run_dir(train_id), measured, save, random_seed)


def _report(run: Path, measured: Sequence[_Measured], save: bool, seed: int) -> None:
    """Fit the temperatures; print, draw and write what was found."""
    options = load_json(run / NETWORK)
    before: dict[str, float] = dict(options.get("temperatures") or {})
    fits = {domain: _fit(measured, domain) for domain in dict.fromkeys(m.domain for m in measured)}
    after = {d: before.get(d, 1.0) * fit.temperature for d, fit in fits.items()}
    for line in _lines(measured, fits, before, after, seed):
        print(line)
    numbers = {
        "levels": list(LEVELS),
        "sources": {m.dataset.source: _source_numbers(m, seed) for m in measured},
        "domains": {
            domain: {
                "sources": [m.dataset.source for m in measured if m.domain == domain],
                "temperature_before": before.get(domain, 1.0),
                "temperature": after[domain],
                "kld_before": fit.kld_before,
                "kld_after": fit.kld_after,
                "saved": save,
            }
            for domain, fit in fits.items()
        },
    }
    save_json(run / NUMBERS, numbers)
    lines = {
        f"{m.dataset.source} ({m.domain})": CalibrationLine(
            np.array(LEVELS), m.found.shares, m.found.intervals(seed)
        )
        for m in measured
    }
    picture = Image.fromarray(draw_calibration(run.name, lines))
    write_atomically(run / PICTURE, lambda file: picture.save(file, format="PNG"))
    print(f"{run / NUMBERS}, {run / PICTURE}")
    if save:
        save_json(run / NETWORK, {**options, "temperatures": {**before, **after}})
        print(f"stored in {run / NETWORK}: the run predicts with these temperatures from now on")


def _fit(measured: Sequence[_Measured], domain: str) -> Fit:
    """Fit the temperature of a domain on all data sets that it predicts."""
    return fit_temperature(np.concatenate([m.found.kld for m in measured if m.domain == domain]))


def _source_numbers(measured: _Measured, seed: int) -> dict[str, Any]:
    """Return what was measured on a data set, ready for JSON."""
    found = measured.found
    return {
        "domain": measured.domain,
        "phase": measured.dataset.phase,
        "n": len(found.n_fixations),
        "n_fixations": int(found.n_fixations.sum()),
        "shares": as_json(found.shares),
        "shares_interval_95": [as_json(ends) for ends in found.intervals(seed).T],
    }


def _lines(
    measured: Sequence[_Measured],
    fits: dict[str, Fit],
    before: dict[str, float],
    after: dict[str, float],
    seed: int,
) -> Iterator[str]:
    """Yield what is printed."""
    for m in measured:
        yield f"{m.dataset.source}, domain {m.domain}: share of the fixations in the region of"
        low, high = m.found.intervals(seed)
        for i, level in enumerate(LEVELS):
            if level in SHOWN:
                interval = f"95 % interval {100 * low[i]:.1f} to {100 * high[i]:.1f} %"
                yield f"  {100 * level:.0f} %: {100 * m.found.shares[i]:5.1f} %  ({interval})"
    for domain, fit in fits.items():
        known = f"now {before[domain]:.4f}, " if domain in before else ""
        yield (
            f"{domain}: {known}best temperature {after[domain]:.4f}, "
            f"KLD {fit.kld_before:.4f} before, {fit.kld_after:.4f} after"
        )
        if fit.at_limit:
            yield f"  a better one may lie beyond the limits {LIMITS[0]} and {LIMITS[1]}"
