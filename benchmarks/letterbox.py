"""Does it help to fill pictures up to one shape instead of giving each its own input size?

Run `python -m benchmarks.letterbox --data=FOLDER`, a folder of pictures with a table of gaze. It
scores the shipped weights on the validation part in both ways, trains a domain in both ways, and
tests the differences, paired over the pictures. A picture that is filled up is fitted into the
middle of the input, the rest is the mean colour of ImageNet, and nobody looks there; its prediction
is cut out and sums to 1. The runs stay in `--out`, and the same command goes on where it was
stopped.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from unisal.config import load_json, run_dir
from unisal.data import GazeFolder, find_dataset, name_data, register
from unisal.data.base import Item
from unisal.data.gaze.maps import fixation_map
from unisal.data.tensors import as_tensor
from unisal.data.transforms import normalise, normalise_map, resize_rgb
from unisal.evaluate.comparisons import difference
from unisal.evaluate.options import ScoringOptions
from unisal.evaluate.scoring import score_dataset
from unisal.inference.densities import log_density
from unisal.inference.engine import Engine
from unisal.predict.loading import load_model
from unisal.train import Trainer
from unisal.train.own_domain import domain_options
from unisal.types import Size

METRICS = ("kld", "nss", "cc")
Rows = NDArray[np.float64]


class Place(NamedTuple):
    """Where a picture lies in the input that it is fitted into."""

    size: Size
    rows: slice
    columns: slice

    @classmethod
    def of(cls, picture: Size, inside: Size) -> Place:
        """Fit a picture of a size into the middle of an input."""
        scale = min(inside[0] / picture[0], inside[1] / picture[1])
        height, width = (max(1, round(side * scale)) for side in picture)
        top, left = (inside[0] - height) // 2, (inside[1] - width) // 2
        return cls((height, width), slice(top, top + height), slice(left, left + width))

    def filled(self, values: NDArray[Any], inside: Size) -> NDArray[Any]:
        """Return values `[c, h, w]` of the picture, with zeros around them."""
        around = np.zeros((values.shape[0], *inside), values.dtype)
        around[:, self.rows, self.columns] = values
        return around


class FilledEngine(Engine):
    """Predicts pictures that were filled up: what was predicted for the picture is cut out."""

    def images(
        self,
        frames: NDArray[np.float32],
        target_size: Size,
        domain: str,
        concurrent: bool = False,
    ) -> NDArray[np.float32]:
        place = Place.of(target_size, (frames.shape[-2], frames.shape[-1]))
        found = self.image_logits(frames, domain, concurrent)
        inside = [np.ascontiguousarray(y[place.rows, place.columns]) for y in found]
        return np.stack([log_density(y, target_size) for y in inside])


def filled_source(data: str, inside: Size) -> type[GazeFolder]:
    """Make a source of the same pictures, filled up, and register it."""
    own = find_dataset(data)
    assert issubclass(own, GazeFolder)

    class Filled(own):  # type: ignore[misc, valid-type]
        source = scalar_prefix = score_name = f"{own.source}_filled"

        def input_size_for(self, index: int) -> Size:
            return inside

        def read_input(self, index: int, number: int = 1) -> NDArray[np.float32]:
            place = Place.of(self.frame_size(index), inside)
            rgb = resize_rgb(self.read_picture(index), place.size)
            return place.filled(normalise(rgb), inside)

        def __getitem__(self, index: int) -> Item:
            own_size = self.frame_size(index)
            place, found = Place.of(own_size, inside), self._trained_on(index)
            density = normalise_map(self._density(index, place.size, found))
            fixated = fixation_map(found, own_size, place.size)
            return Item(
                [1],
                as_tensor(self.read_input(index)),
                as_tensor(place.filled(density[None], inside)),
                as_tensor(place.filled(fixated[None], inside)),
                inside,
            )

    return register(Filled)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, and print a table.

    Args:
        arguments: by default those of the command line.
    """
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", required=True, help="a folder of pictures with a table of gaze")
    parser.add_argument("--out", default="letterbox", help="where the runs go")
    parser.add_argument("--train", default="modules", help="what is trained; none: only scores")
    parser.add_argument("--base", default="pretrained_unisal", help="the run to start from")
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--size", default="288x384", help="HEIGHTxWIDTH to fill pictures up to")
    options = parser.parse_args(arguments)
    base = run_dir(options.base)
    os.environ["TRAIN_DIR"] = str(Path(options.out).resolve())
    height, width = (int(side) for side in options.size.split("x"))
    data = name_data(options.data)
    filled = filled_source(data, (height, width)).source
    print("| | KLD | NSS | CC |\n|---|---|---|---|")
    tests = [("shipped weights", score(data, base, False), score(filled, base, True))]
    if options.train != "none":
        runs = [train(name, options, base) for name in (data, filled)]
        trained = [score(data, runs[0], False), score(filled, runs[1], True)]
        tests.append((options.train, *trained))
    print(
        "\n| filled up minus own size | | difference | 95 % interval | p |\n|---|---|---|---|---|"
    )
    for name, of_own, of_filled in tests:
        for i, metric in enumerate(METRICS):
            pair = of_filled[:, i], of_own[:, i]
            _, _, found, low, high, p, *_ = difference(*pair, np.random.default_rng(i))
            print(f"| {name} | {metric} | {found:+.4f} | {low:+.4f} to {high:+.4f} | {p:.4f} |")


def train(source: str, options: argparse.Namespace, base: Path) -> Path:
    """Train a domain on a source, as far as that was not done; return the run."""
    prefix = f"{find_dataset(source).source}_{options.train}"
    run = Path(os.environ["TRAIN_DIR"], f"{prefix}_unisal")
    if (run / "Trainer.json").exists():
        Trainer.resume(run.name).fit()
    else:
        given = {"num_epochs": options.epochs, "num_workers": 0, "prefix": prefix}
        chosen = domain_options((source,), "Own", None, str(base), options.train, given)
        Trainer(**{**chosen, "init_from": str(base)}).fit()
    return run


def score(source: str, run: Path, is_filled: bool) -> Rows:
    """Score a run on the validation part, print its line, and return the scores of pictures."""
    dataset: Any = find_dataset(source)(phase="eval")
    engine = (FilledEngine if is_filled else Engine)(load_model(str(run)))
    record = run / "Trainer.json"
    domain = load_json(record).get("domain") if record.is_file() else None
    scores = score_dataset(
        engine, dataset, domain or dataset.domain, options=ScoringOptions(METRICS)
    )
    means = " | ".join(f"{mean:.3f}" for mean in np.nanmean(scores.rows, axis=0))
    print(f"| {run.name}, {'filled up' if is_filled else 'own size'} | {means} |", flush=True)
    return scores.rows


if __name__ == "__main__":
    main()
