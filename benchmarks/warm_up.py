"""Can a film be cut, and its parts be predicted by several workers? Only if the network forgets.

`python -m benchmarks.warm_up` predicts films twice: from their first frame, and from a later one,
as a worker would that begins there. It prints how far the two are apart, by the number of frames
that both have seen: the states, the log-densities, and the maps in grey levels. The numbers of a
part are those of the whole film only after so many frames as it takes for these to be 0.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from benchmarks.stream_latency import make_frames
from unisal.inference.densities import to_density, to_saliency_map
from unisal.predict import load
from unisal.predict.inputs import prepare
from unisal.predict.presets import VIDEO_PRESET, find_preset
from unisal.types import RGB, LogDensity

SIZE = 360, 640
SKIPPED = 40
"""Frames that the later beginning has not seen."""
SHOWN = 1, 10, 30, 100, 300, 1000


class Apart(NamedTuple):
    """How far two predictions of a frame are apart, at most."""

    state: float
    """The state is between -1 and 1."""
    log_density: float
    levels: int
    cc: float
    """Of the densities."""


def example(n: int) -> Iterator[RGB]:
    """Yield frames of the example video, which moves forwards and backwards."""
    yield from make_frames(SIZE, n)


def noise(n: int) -> Iterator[RGB]:
    """Yield frames without anything in common."""
    rng = np.random.default_rng(0)
    for _ in range(n):
        yield rng.integers(0, 256, (*SIZE, 3), dtype=np.uint8)


FILMS: dict[str, Callable[[int], Iterator[RGB]]] = {"the example": example, "noise": noise}


def apart(frames: Iterator[RGB], engine: Any, domain: str, skipped: int) -> Iterator[Apart]:
    """Yield how far predictions from the first frame and from a later one are apart."""
    whole: list[Any] = [None]
    part: list[Any] = [None]
    size = find_preset(VIDEO_PRESET).input_size_for(SIZE)
    for i, rgb in enumerate(frames):
        x = prepare(rgb, size)
        one = engine.step(x, whole, SIZE, domain)
        if i >= skipped:
            other = engine.step(x, part, SIZE, domain)
            yield Apart(_largest(whole[0], part[0]), _largest(one, other), *_maps_apart(one, other))


def _largest(one: Any, other: Any) -> float:
    """Return the largest difference of two arrays, or of two sequences of arrays."""
    if isinstance(one, Sequence):
        return max(_largest(a, b) for a, b in zip(one, other, strict=True))
    return float(np.abs(np.asarray(one) - np.asarray(other)).max())


def _maps_apart(one: LogDensity, other: LogDensity) -> tuple[int, float]:
    """Return by how many grey levels maps are apart, and the CC of their densities."""
    densities = [to_density(y) for y in (one, other)]
    maps = [np.rint(255 * to_saliency_map(density)).astype(int) for density in densities]
    cc = np.corrcoef(*(density.ravel() for density in densities))[0, 1]
    return int(np.abs(maps[0] - maps[1]).max()), float(cc)


def main(arguments: Sequence[str] | None = None) -> None:
    """Predict, and print the table.

    Args:
        arguments: by default those of the command line.
    """
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--frames", type=int, default=max(SHOWN), help="that both see")
    parser.add_argument("--train_id", default=None, help="the run whose weights to use")
    given = parser.parse_args(arguments)
    engine = load(given.train_id, "cpu").engine
    domain = find_preset(VIDEO_PRESET).domain
    print("| film | frames | state | log-density | grey levels | CC of the densities |")
    print("|---|---|---|---|---|---|")
    for name, film in FILMS.items():
        found = apart(film(SKIPPED + given.frames), engine, domain, SKIPPED)
        for n, each in enumerate(found, start=1):
            if n in SHOWN or n == given.frames:
                print(
                    f"| {name} | {n} | {each.state:.1e} | {each.log_density:.1e} | {each.levels} "
                    f"| {each.cc:.5f} |",
                    flush=True,
                )


if __name__ == "__main__":
    main()
