"""Compare what a map costs with what other models cost on the same pictures and processor.

Run `python -m benchmarks.peers --data=osie=FOLDER --contrib=PYTHON`. The others are those that a
package registry installs and that need no weights from elsewhere: OpenCV's static saliency models
(`--contrib` names a Python that has opencv-contrib), and torchvision's backbones, with random
weights, at the sizes at which other saliency networks use them. Each runs in a process of its own,
in turn with the others. Only models that predict without downloads are scored.

Ours and OpenCV's are timed from a picture in memory to a map of its size. Backbones are timed from
the network's input to its last features: what a network that is built on one costs at least.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import statistics
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import numpy as np
from scipy.ndimage import gaussian_filter

from benchmarks.case import PROJECT
from benchmarks.peer_worker import BACKBONES, OURS, Cost
from benchmarks.stream_latency import write_frames
from unisal.data import SaliencyDataset
from unisal.data.pictures import read_rgb
from unisal.errors import UserError
from unisal.evaluate.baselines import UNIFORM_SHARE, Baseline, uniform_density
from unisal.evaluate.gaze import Gaze
from unisal.evaluate.options import ScoringOptions
from unisal.types import LogDensity, Size

METRICS = {"nss": "NSS", "aucj": "AUC-J", "cc": "CC"}
REFERENCE = "fp32"
"""What times are compared with."""
OPENCV = {"SpectralResidual": "spectral residual", "FineGrained": "fine-grained saliency"}


class Peer(NamedTuple):
    """A row of the table."""

    key: str
    title: str
    size: str
    """Of what the model sees."""
    command: list[str]
    """Prints a `Cost` as JSON in its last line; the pictures follow."""


# ---- the table -------------------------------------------------------------------------------


def peers(train_id: str | None, contrib: str | None) -> Iterator[Peer]:
    """Yield the rows."""
    worker = [sys.executable, "-m", "benchmarks.peer_worker"]
    for how, title in OURS.items():
        yield Peer(how, f"**this network**, {title}", "", [*worker, f"{how}:{train_id or ''}"])
    for name, title in OPENCV.items():
        script = str(Path(__file__).with_name("opencv_saliency.py"))
        if contrib:
            command = [contrib, script, name, ""]
            yield Peer(name, f"OpenCV, {title}", "of the picture", command)
    for number, peer in enumerate(BACKBONES):
        title = f"{peer.name} ({peer.used_by}), backbone alone"
        yield Peer(str(number), title, "x".join(map(str, peer.size)), [*worker, str(number)])


def measure(peer: Peer, pictures: Sequence[Path]) -> Cost | str:
    """Run a model in a process of its own; return why where that is impossible."""
    command = [*peer.command, *map(str, pictures)]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=False)
    if done.returncode:
        return done.stderr.strip().splitlines()[-1]
    return Cost(**json.loads(done.stdout.splitlines()[-1]))


def measure_all(
    rows: Sequence[Peer], pictures: Sequence[Path], rounds: int
) -> dict[str, list[Cost] | str]:
    """Measure the models in turn, a few times each; return by key what each cost, or why not."""
    found: dict[str, list[Cost] | str] = {peer.key: [] for peer in rows}
    for _ in range(rounds):
        for peer in rows:
            known = found[peer.key]
            if isinstance(known, str):
                continue
            cost = measure(peer, pictures)
            if isinstance(cost, str):
                found[peer.key] = cost
            else:
                known.append(cost)
    return found


def count_ours(train_id: str | None, size: Size) -> tuple[float, float]:
    """Return the multiply-adds of this network for one picture, and its parameters.

    Args:
        train_id: the run.
        size: (height, width) of the network's input.
    """
    from benchmarks.limits import count_graph
    from unisal.inference.graph import export_graph
    from unisal.predict.loading import load_model

    model = load_model(train_id).eval()
    domain = own_domain(train_id, model.sources)
    sides = {"frame_height": size[0], "frame_width": size[1]}
    sides |= {"priors_height": size[0] // 32, "priors_width": size[1] // 32}
    work = count_graph(export_graph(model, domain, True), sides)
    return work.multiply_adds, sum(parameter.numel() for parameter in model.parameters())


def own_domain(train_id: str | None, sources: Sequence[str]) -> str:
    """Return the domain of the run's default preset for pictures."""
    from unisal.predict.presets import default_preset, find_preset, run_presets

    preset = find_preset(default_preset(train_id), for_images=True, own=run_presets(train_id))
    return preset.domain if preset.domain in sources else sources[0]


# ---- accuracy --------------------------------------------------------------------------------


class MapFolder(Baseline):
    """Predicts the maps that lie in a folder, blurred as the ground truth is.

    Args:
        folder: with a file `.npy` for each picture.
        gaze: that of the scored part, whose blur is taken.
    """

    def __init__(self, folder: Path, gaze: Gaze) -> None:
        super().__init__()
        self._folder, self._gaze = folder, gaze

    def predict(self, dataset: SaliencyDataset, index: int, number: int = 1) -> LogDensity:
        image, size = dataset.files(index, number).image, dataset.target_size(index)
        assert image is not None
        saliency = np.load(self._folder / f"{image.stem}.npy").astype(np.float64)
        scale = np.array(saliency.shape) / size
        blurred = gaussian_filter(saliency, scale * self._gaze.blur(index), mode="nearest")
        enlarged = np.maximum(_resized(blurred, size), 0)
        density = enlarged / enlarged.sum() if enlarged.any() else uniform_density(size)
        mixed = (1 - UNIFORM_SHARE) * density + UNIFORM_SHARE * uniform_density(size)
        return np.log(mixed).astype(np.float32)


def _resized(values: Any, size: Size) -> Any:
    from unisal.visualize.panels import resize

    return resize(values.astype(np.float32), size).astype(np.float64)


def score(
    data: str, train_id: str | None, contrib: str | None, subset: float
) -> dict[str, list[float]]:
    """Return the mean scores of the models that predict, by key.

    Args:
        data: NAME=FOLDER of pictures with gaze.
        train_id: the run.
        contrib: a Python with opencv-contrib; None for none.
        subset: the share of the validation part that is scored.
    """
    from benchmarks.model_card import as_scored
    from unisal.evaluate.scoring import repeat_baseline, score_dataset, score_predictions
    from unisal.predict.loading import load

    dataset = as_scored(data, subset)
    options, found = ScoringOptions(metrics=tuple(METRICS)), {}
    for how in OURS:
        if how == "torch":  # the same numbers as fp32
            continue
        try:
            engine = load(train_id, "cpu", precision=how).engine
            domain = own_domain(train_id, engine.sources)
            if engine.precision_of(domain, static=True) == how:
                found[how] = score_dataset(engine, dataset, domain, options=options).means
        except UserError:
            continue  # the row says why
    images = [dataset.files(index, 1).image for index in range(len(dataset))]
    for name in OPENCV if contrib else ():
        with TemporaryDirectory() as folder:
            script = str(Path(__file__).with_name("opencv_saliency.py"))
            command = [str(contrib), script, name, folder, *map(str, images)]
            done = subprocess.run(command, cwd=PROJECT, capture_output=True, check=False)
            if done.returncode:
                continue  # the row says why
            maps = repeat_baseline(MapFolder(Path(folder), Gaze(dataset)), dataset)
            found[name] = score_predictions(dataset, maps, name, options).means
    return {key: [float(mean) for mean in means] for key, means in found.items()}


def table(
    rows: Sequence[Peer],
    costs: Mapping[str, list[Cost] | str],
    counts: tuple[float, float],
    size: Size,
    scores: Mapping[str, Sequence[float]],
) -> Iterator[str]:
    """Yield the lines of the table in Markdown.

    Args:
        rows: the models.
        costs: what each cost, or why it could not be run.
        counts: multiply-adds and parameters of this network.
        size: (height, width) of this network's input.
        scores: of those that were scored.
    """
    titles = ["model", "input", "time", "times as long", "peak memory", "multiply-adds"]
    titles += ["parameters", *(METRICS.values() if scores else ())]
    yield f"| {' | '.join(titles)} |"
    yield f"|{'---|' * len(titles)}"
    reference = costs[REFERENCE]
    for peer in rows:
        cost = costs[peer.key]
        if isinstance(cost, str):
            yield f"| {peer.title} | {cost} |{' |' * (len(titles) - 2)}"
            continue
        is_ours = peer.key in OURS
        multiply_adds, parameters = counts if is_ours else cost[0][2:]
        cells = [
            peer.title,
            "x".join(map(str, size)) if is_ours else peer.size,
            f"{statistics.median(c.milliseconds for c in cost):.1f} ms",
            "" if isinstance(reference, str) else f"{ratio(cost, reference):.2f}",
            f"{max(c.megabytes for c in cost):.0f} MB",
            "" if multiply_adds is None else f"{multiply_adds / 1e9:.1f} G",
            "none" if parameters is None else f"{parameters / 1e6:.1f} M",
        ]
        if scores:
            cells += [f"{mean:.3f}" for mean in scores.get(peer.key, ())]
        yield f"| {' | '.join(cells)} |{' |' * (len(titles) - len(cells))}"


def ratio(cost: Sequence[Cost], reference: Sequence[Cost]) -> float:
    """Return how many times as long a model takes, the median over the rounds."""
    pairs = zip(cost, reference, strict=True)
    return statistics.median(one.milliseconds / other.milliseconds for one, other in pairs)


def pictures_of(data: str | None, folder: Path, n: int) -> list[Path]:
    """Return the pictures that are timed: those of the data, or frames of the example video."""
    if data is None:
        write_frames(folder / "frames", (600, 800), n)
        return sorted((folder / "frames").iterdir())
    from benchmarks.model_card import as_scored

    dataset = as_scored(data)
    return [Path(str(dataset.files(index, 1).image)) for index in range(min(n, len(dataset)))]


def with_opencv(contrib: str | None) -> str | None:
    """Return a Python that has OpenCV's saliency models: by default this one, if it has them."""
    if contrib or importlib.util.find_spec("cv2") is None:
        return contrib
    import cv2

    return sys.executable if hasattr(cv2, "saliency") else None


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure all models and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", default=None, help="NAME=FOLDER of pictures with gaze")
    parser.add_argument("--contrib", default=None, help="a Python that has opencv-contrib")
    parser.add_argument("--train_id", default=None, help="the run whose weights to use")
    parser.add_argument("--pictures", type=int, default=8, help="how many each is timed on")
    parser.add_argument("--subset", type=float, default=1.0, help="the share that is scored")
    parser.add_argument("--rounds", type=int, default=2, help="how often each has its turn")
    parser.add_argument("--only", default=None, help="the keys of the rows, separated by commas")
    options = parser.parse_args(arguments)
    contrib = with_opencv(options.contrib)
    rows = list(peers(options.train_id, contrib))
    if options.only:
        rows = [peer for peer in rows if peer.key in options.only.split(",")]
    with TemporaryDirectory() as folder:
        pictures = pictures_of(options.data, Path(folder), options.pictures)
        costs = measure_all(rows, pictures, options.rounds)
        height, width = read_rgb(pictures[0]).shape[:2]
    from unisal.data.transforms import optimal_input_size

    size = optimal_input_size((height, width))
    scores = score(options.data, options.train_id, contrib, options.subset) if options.data else {}
    for line in table(rows, costs, count_ours(options.train_id, size), size, scores):
        print(line)
    if contrib is None:
        print("\nOpenCV's saliency models: not measured, no Python with opencv-contrib was named.")


if __name__ == "__main__":
    main()
