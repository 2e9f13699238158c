"""Measure the precisions of one run against float32, taking turns in one process.

`python -m benchmarks.precision --train_id=my_run` prints the median time of a picture of 288x384 in
float32, and in each other precision that the run and the processor have, with its ratio to float32.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence

import numpy as np

from benchmarks.stream_latency import make_frames
from unisal import Predictor, load
from unisal.data.transforms import normalise
from unisal.errors import UserError

SIZE = 288, 384


def predictors(train_id: str | None, domain: str | None) -> dict[str, tuple[Predictor, str]]:
    """Return a predictor and its domain for each precision that is possible here."""
    found = {}
    for precision in ("fp32", "int8", "bf16"):
        try:
            predictor = load(train_id, "cpu", precision=precision)
            facts = predictor.facts(domain=domain)
        except UserError as error:
            print(f"{precision}: {error}")
            continue
        if facts.precision == precision:
            found[precision] = predictor, facts.domain
    return found


def main(arguments: Sequence[str] | None = None) -> None:
    """Time the precisions and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--train_id", default=None, help="the run whose weights to use")
    parser.add_argument("--domain", default=None, help="the network domain to use")
    parser.add_argument("--calls", type=int, default=40, help="how many are timed")
    options = parser.parse_args(arguments)

    (picture,) = make_frames(SIZE, 1)
    frame = normalise(picture)[None]
    chosen = predictors(options.train_id, options.domain)
    took: dict[str, list[float]] = {precision: [] for precision in chosen}
    for _ in range(options.calls + 1):
        for precision, (predictor, domain) in chosen.items():
            begun = time.perf_counter()
            predictor.engine.images(frame, SIZE, domain)
            took[precision].append(1000 * (time.perf_counter() - begun))
    medians = {precision: float(np.median(times[1:])) for precision, times in took.items()}
    for precision, median in medians.items():
        print(f"{precision}: {median:.1f} ms, {medians['fp32'] / median:.2f} times float32")


if __name__ == "__main__":
    main()
