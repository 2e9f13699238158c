"""Does training in 16 bits learn what training in float32 learns?

Run `python -m benchmarks.mixed_precision --data=crowd=FOLDER`, a folder of gaze data. Four runs
fine-tune all of the shipped network: two in float32, whose seeds differ, and two in 16 bits with
the same seeds. The tables hold their losses by epoch. 16 bits cost nothing where they change the
losses by less than another seed does. The runs stay in `--out`; what is there already is not made
again.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from benchmarks.recipes import link
from unisal.config import load_json, run_dir, save_json
from unisal.data import name_data
from unisal.train import Trainer
from unisal.train.own_domain import domain_options

DOMAIN = "Photographs"


def main(arguments: Sequence[str] | None = None) -> None:
    """Train what is not there yet and print the tables.

    Args:
        arguments: by default those of the command line.
    """
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", required=True, help="a folder of gaze data, NAME=FOLDER")
    parser.add_argument("--out", default="mixed_precision", help="where the runs go")
    parser.add_argument("--base", default="pretrained_unisal", help="the run to start from")
    parser.add_argument("--amp", default="bf16", help="bf16, or fp16 on a GPU")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--size", default="192x256", help="HEIGHTxWIDTH of the network's input")
    options = parser.parse_args(arguments)
    spec, base, out = name_data(options.data), run_dir(options.base), Path(options.out).resolve()
    os.environ["TRAIN_DIR"] = str(out)
    link(base, out)
    common = {
        "num_epochs": options.epochs,
        "device": options.device,
        "num_workers": 0,
        "tboard": False,
        "patience": None,
        "dataset_options": {
            spec.partition("=")[0]: {
                "input_size": tuple(int(side) for side in options.size.split("x"))
            }
        },
    }
    runs = {
        (amp, seed): trained(
            spec,
            base.name,
            out,
            common | {"amp": amp, "seed": seed, "prefix": f"{amp}_{seed}"},
        )
        for seed in range(2)  # in turn, so that both meet the same state of the machine
        for amp in ("off", options.amp)
    }
    for phase in ("train", "valid"):
        print_table(phase, {key: run.losses[phase] for key, run in runs.items()}, options.amp)
    for clock in ("wall", "processor"):
        ratios = [
            runs["off", n].seconds[clock] / runs[options.amp, n].seconds[clock] for n in (0, 1)
        ]
        said = ", ".join(f"{1 / ratio:.2f}" for ratio in ratios)
        print(f"Of {clock} time a run in {options.amp} takes {said} times that in float32.")


class Run(NamedTuple):
    """What a run left behind."""

    losses: dict[str, list[float]]
    """By phase and epoch."""
    seconds: dict[str, float]
    """It took, by the clock on the wall and of the processor."""


def trained(spec: str, base: str, out: Path, options: Mapping[str, Any]) -> Run:
    """Return what is there of a run, after training it if nothing is."""
    folder = out / f"{options['prefix']}_unisal"
    took = out / f"{options['prefix']}.json"
    if not took.is_file():
        trainer = Trainer(**domain_options([spec], DOMAIN, None, base, "all", options))
        began = time.perf_counter(), time.process_time()
        trainer.fit()
        wall, processor = time.perf_counter() - began[0], time.process_time() - began[1]
        save_json(took, {"wall": wall, "processor": processor})
    return Run(losses(folder), load_json(took))


def losses(folder: Path) -> dict[str, list[float]]:
    """Return the losses of a run by phase and epoch."""
    found = load_json(folder / "all_scalars.json")
    return {
        phase: [value for epoch, value in sorted(of_tag.items(), key=by_number) if int(epoch) >= 0]
        for phase in ("train", "valid")
        for tag, of_tag in found.items()
        if tag.endswith(f"/loss/{phase}")
    }


def by_number(entry: tuple[str, float]) -> int:
    """Return the epoch of an entry of the scalars."""
    return int(entry[0])


def print_table(phase: str, curves: Mapping[tuple[str, int], Sequence[float]], amp: str) -> None:
    """Print the losses of the runs by epoch, and how far apart they are."""
    one, in_16, other, other_in_16 = (np.array(curve) for curve in curves.values())
    seeds = abs(other - one)
    bits = (abs(in_16 - one) + abs(other_in_16 - other)) / 2
    rows = np.stack([one, other, in_16, other_in_16, seeds, bits], axis=1)
    head = (f"{phase}, epoch", "float32", "other seed", amp, "other seed", "seeds apart")
    print(f"\n| {' | '.join(head)} | {amp} apart |")
    print("|---" * (len(head) + 1) + "|")
    for epoch, row in enumerate(rows):
        print(f"| {epoch} | {' | '.join(f'{value:.4f}' for value in row)} |")
    print(
        f"\nMean distance of the {phase} loss: {amp} {bits.mean():.4f}, another seed "
        f"{seeds.mean():.4f}.\n"
    )


if __name__ == "__main__":
    main()
