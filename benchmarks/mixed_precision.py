"""Does training in 16 bits learn what training in float32 learns?

Run `python -m benchmarks.mixed_precision --data=crowd=FOLDER`, a folder of gaze data. Three runs
fine-tune all of the shipped network: two in float32, whose seeds differ, and one in 16 bits with
the first seed. The tables hold their losses by epoch. 16 bits cost nothing where they change the
losses by less than another seed does. The runs stay in `--out`; what is there already is not made
again.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.recipes import link
from unisal.config import load_json, run_dir
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
    curves = []
    for amp, seed in (("off", 0), ("off", 1), (options.amp, 0)):
        own = {"amp": amp, "seed": seed, "prefix": f"{amp}_{seed}"}
        curves.append(losses(spec, base.name, out, common | own))
    for phase in ("train", "valid"):
        print_table(phase, [curve[phase] for curve in curves], options.amp)


def losses(spec: str, base: str, out: Path, options: Mapping[str, Any]) -> dict[str, list[float]]:
    """Return the losses of a run by phase and epoch, after training it if it is not there."""
    folder = out / f"{options['prefix']}_unisal"
    if not (folder / "weights_best.pth").is_file():
        made = domain_options([spec], DOMAIN, None, base, "all", options)
        Trainer(**made).fit()
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


def print_table(phase: str, curves: Sequence[Sequence[float]], amp: str) -> None:
    """Print the losses of the three runs by epoch, and how far apart they are."""
    one, other, in_16 = np.array(curves)
    head = (f"{phase}, epoch", "float32", "float32, other seed", amp, "seeds apart", f"{amp} apart")
    print(f"\n| {' | '.join(head)} |")
    print("|---|---|---|---|---|---|")
    rows = np.stack([one, other, in_16, abs(other - one), abs(in_16 - one)], axis=1)
    for epoch, row in enumerate(rows):
        print(f"| {epoch} | {' | '.join(f'{value:.4f}' for value in row)} |")
    seeds, bits = abs(other - one).mean(), abs(in_16 - one).mean()
    print(f"\nMean distance of the {phase} loss: {amp} {bits:.4f}, another seed {seeds:.4f}.")


if __name__ == "__main__":
    main()
