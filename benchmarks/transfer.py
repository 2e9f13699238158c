"""How far does training carry to photographs of another kind?

Run `python -m benchmarks.transfer --data=osie=FOLDER,eyecrowd=FOLDER,scenes=FOLDER`, folders of
gaze data. For each of them a network is trained on all the others, from ImageNet's encoder, and
scored on its validation part, beside one that was trained on all of them for as many epochs, the
centre bias of the set itself and half of its people. The runs stay in `--out`, and what is there
already is not trained again.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from pathlib import Path

from benchmarks.model_card import BLUR_SHARE, LONGER_SIDE, OF_PICTURES, Rows, baseline_rows, say
from unisal.data import SaliencyDataset, find_dataset, name_data
from unisal.evaluate.scoring import score_dataset
from unisal.inference.engine import Engine
from unisal.predict.loading import load_model
from unisal.train import Trainer
from unisal.types import Size

DOMAIN = "Photographs"
BATCH_SIZE = 8


def main(arguments: Sequence[str] | None = None) -> None:
    """Train, score, and print a table for each set.

    Args:
        arguments: by default those of the command line.
    """
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", required=True, help="folders of gaze data, NAME=FOLDER,...")
    parser.add_argument("--out", default="transfer", help="where the runs go")
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--subset", type=float, default=1.0, help="share of the photographs")
    parser.add_argument("--size", default="192x256", help="HEIGHTxWIDTH of the network's input")
    parser.add_argument("--skip", default="", help="sets that no training leaves out")
    options = parser.parse_args(arguments)
    height, width = (int(side) for side in options.size.split("x"))
    size = height, width
    data = {find_dataset(spec).source: spec for spec in map(name_data, options.data.split(","))}
    os.environ["TRAIN_DIR"] = str(Path(options.out).resolve())
    budget = size, options.epochs, options.subset
    tried = [name for name in data if name not in options.skip.split(",")]
    runs = {}
    for name in tried:
        others = [other for other in data if other != name]
        runs[name] = train(f"without_{name}", others, data, *budget)
    everything = train("all", list(data), data, *budget)
    for name, run in runs.items():
        dataset = to_score(data[name], size)
        of_runs = {"the others": run, "all": everything}
        say(f"{name}: {len(dataset)} pictures", rows(dataset, of_runs))


def train(
    prefix: str,
    names: Sequence[str],
    data: dict[str, str],
    size: Size,
    n_epochs: int,
    subset: float,
) -> str:
    """Train on some of the sets from ImageNet's encoder; return the name of the run."""
    run = f"{prefix}_unisal"
    folder = Path(os.environ["TRAIN_DIR"]) / run
    if not (folder / f"chkpnt_epoch{n_epochs - 1:04d}.pth").is_file():
        Trainer(
            data_sources=tuple(data[name] for name in names),
            domain=DOMAIN,
            model_cfg={"sources": (DOMAIN,), "image_domains": (DOMAIN,)},
            dataset_options={n: {"input_size": size, "subset": subset} for n in names},
            batch_sizes=dict.fromkeys(names, BATCH_SIZE),
            num_epochs=n_epochs,
            lr=0.03,
            lr_scheduler="cosine",
            warmup_steps=100,
            train_cnn_after=0,
            augment=True,
            ema_decay=0.99,
            chkpnt_warmup=0,
            chkpnt_epochs=1000,
            num_workers=0,
            tboard=False,
            prefix=prefix,
            new_instance=not folder.exists(),
        ).fit()
    return run


def to_score(spec: str, size: Size) -> SaliencyDataset:
    """Return the validation part of a set, scored as the model card does."""
    source = find_dataset(spec)
    reading = {"score_size": LONGER_SIDE, "gaze": {"blur_share": BLUR_SHARE}, "input_size": size}
    return source.from_options(reading, phase=source.scored_phase)


def rows(dataset: SaliencyDataset, runs: dict[str, str]) -> Rows:
    """Yield the scores of the runs and of the baselines."""
    for sets, run in runs.items():
        engine = Engine(load_model(run), "cpu")
        yield f"trained on {sets}", score_dataset(engine, dataset, DOMAIN, options=OF_PICTURES)
    yield from baseline_rows(dataset, OF_PICTURES)


if __name__ == "__main__":
    main()
