"""Does the recurrent part help on films of one's own?

Run `python -m benchmarks.recurrence --data=FOLDER`, a folder of films with a table of gaze. It
scores the shipped weights and the centre bias on the validation part, trains domains of it with the
recurrent part and frame by frame, and tests the difference of each two, paired over the films. The
runs and their scores stay in `--out`, and what is there already is not made again.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from unisal.config import run_dir
from unisal.data import find_dataset, name_data
from unisal.evaluate.comparisons import difference

METRICS = ("kld", "nss", "cc", "sim")
PROJECT = Path(__file__).resolve().parent.parent


class Trained(NamedTuple):
    """A way to train a domain."""

    train: str
    frame_by_frame: bool

    @property
    def name(self) -> str:
        """What it is called in the table."""
        return f"{self.train}, {'frame by frame' if self.frame_by_frame else 'recurrent'}"


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, and print tables.

    Args:
        arguments: by default those of the command line.
    """
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", required=True, help="a folder of films with a table of gaze")
    parser.add_argument("--out", default="recurrence", help="where the runs go")
    parser.add_argument("--train", default="modules,decoder,all", help="what is trained")
    parser.add_argument("--base", default="pretrained_unisal", help="the run to start from")
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--films", type=int, default=None, help="how many to train on (all)")
    parser.add_argument("--frames", type=int, default=6, help="in a clip")
    parser.add_argument("--size", default=None, help="HEIGHTxWIDTH of the network's input")
    options = parser.parse_args(arguments)
    out = Path(options.out).resolve()
    base = link_base(options.base, out)
    data = name_data(options.data)
    source = find_dataset(data)
    print(f"{len(source('eval').lengths())} films to score, {options.films or 'all'} to train on\n")
    print("| | KLD | NSS | CC | SIM | minutes |\n|---|---|---|---|---|---|")
    size = [int(side) for side in options.size.split("x")] if options.size else None
    start = score_base(source.source, data, base, size, out)
    for name, summary in (("shipped weights, DHF1K", start), *start["baselines"].items()):
        if name in ("shipped weights, DHF1K", "centre bias"):
            print_row(name, [summary["mean"][metric] for metric in METRICS])
    reading = {"seq_len": options.frames}
    reading |= {"input_size": size} if size else {}
    reading |= {"train_stimuli": options.films} if options.films else {}
    shared = [f"--base={base}", f"--num_epochs={options.epochs}", "--num_workers=0"]
    shared.append(f"--dataset_options={ {source.source: reading} }")
    rows = {}
    for trained in (Trained(t, f) for t in options.train.split(",") for f in (False, True)):
        rows[trained] = train(trained, data, shared, source.source, out)
    print_tests(rows)


def link_base(base: str, out: Path) -> str:
    """Make the base a run in the folder of the runs; return its name."""
    place = run_dir(base)
    out.mkdir(parents=True, exist_ok=True)
    if not (out / place.name).exists():
        (out / place.name).mkdir()
        for name in ("UNISAL.json", "weights_best.pth"):
            (out / place.name / name).symlink_to(place / name)
    return place.name


def call(out: Path, *arguments: str) -> float:
    """Run a command with the runs in `out`; return the minutes of processor time it took."""
    began = os.times()
    done = subprocess.run(
        [sys.executable, str(PROJECT / "run.py"), *arguments],
        env={**os.environ, "TRAIN_DIR": str(out), "PYTHONPATH": str(PROJECT)},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise SystemExit(done.stderr)
    ended = os.times()
    used = ended.children_user + ended.children_system
    return (used - began.children_user - began.children_system) / 60


def score_base(name: str, data: str, base: str, size: Any, out: Path) -> dict[str, Any]:
    """Score the base and the centre bias; return the summary."""
    file = out / base / f"{name}_eval_summary.json"
    if not file.exists():
        if size:
            (out / base / f"{name}Dataset.json").write_text(json.dumps({"input_size": size}))
        metrics = f"--metrics={','.join(METRICS)}"
        call(out, "score_model", base, f"--data={data}", "--baselines=True", "--by=none", metrics)
    summary: dict[str, Any] = json.loads(file.read_text())
    return summary


def train(
    trained: Trained, data: str, shared: Sequence[str], name: str, out: Path
) -> np.ndarray[Any, Any]:
    """Train a domain, print its line, and return the scores of the films, `[n, metrics]`."""
    prefix = f"{trained.train}_{'frames' if trained.frame_by_frame else 'gru'}"
    folder = out / f"{prefix}_unisal"
    if not (folder / f"{name}_eval_summary.json").exists():
        minutes = call(
            out,
            "finetune",
            f"--data={data}",
            "--domain=Own",
            f"--train={trained.train}",
            f"--frame_by_frame={trained.frame_by_frame}",
            f"--prefix={prefix}",
            *shared,
        )
        (folder / "minutes.json").write_text(json.dumps([minutes, time.time()]))
    summary = json.loads((folder / f"{name}_eval_summary.json").read_text())
    minutes = json.loads((folder / "minutes.json").read_text())[0]
    print_row(trained.name, [summary["mean"][metric] for metric in METRICS], minutes)
    rows = json.loads((folder / f"{name}_eval_scores.json").read_text())
    columns = [summary["metrics"].index(metric) for metric in METRICS]
    return np.array(rows, dtype=float)[:, columns]


def print_row(name: str, values: Sequence[float], minutes: float | None = None) -> None:
    """Print a line of the table."""
    cells = [*(f"{value:.3f}" for value in values), "" if minutes is None else f"{minutes:.1f}"]
    print(f"| {name} | {' | '.join(cells)} |", flush=True)


def print_tests(rows: dict[Trained, np.ndarray[Any, Any]]) -> None:
    """Print how much better the recurrent part is, for everything that was trained."""
    print("\n| recurrent minus frame by frame | | difference | 95 % interval | p |")
    print("|---|---|---|---|---|")
    for what in dict.fromkeys(trained.train for trained in rows):
        for i, metric in enumerate(METRICS):
            pair = (rows[Trained(what, frames)][:, i] for frames in (False, True))
            _, _, found, low, high, p, *_ = difference(*pair, np.random.default_rng(i))
            print(f"| {what} | {metric} | {found:+.4f} | {low:+.4f} to {high:+.4f} | {p:.4f} |")


if __name__ == "__main__":
    main()
