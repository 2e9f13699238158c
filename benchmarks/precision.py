"""Measure the precisions of one run against float32, taking turns in one process.

`python -m benchmarks.precision --train_id=my_run --sources=osie=data/osie,scenes=data/scenes`
prints tables:

* the median time of a picture of 288x384 in float32, and in each other precision that the run and
  the processor have, with its ratio to float32; bfloat16 in all that can run it;
* with `--sources`, the CC of the densities with those in float32 over the validation parts, mean
  and worst, and the largest change of a mean score and of mean NSS;
* with `--drift`, what becomes of that CC over 200 frames of a video: its end shows what the
  recurrent part has added up. The graph in 8 bits is calibrated with the training part of the first
  of the sources, as a camera that moves over its pictures would see them.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from benchmarks.stream_latency import make_frames
from unisal.commands.quantize import NSS_BOUND, SCORE_BOUND
from unisal.config import run_dir
from unisal.data import SaliencyDataset
from unisal.data.transforms import normalise
from unisal.errors import UserError
from unisal.evaluate.agreement import compare_engines
from unisal.evaluate.scoring import dataset_to_score
from unisal.inference.bf16 import installed
from unisal.inference.densities import log_density, to_density
from unisal.inference.engine import Engine
from unisal.inference.int8.quantize import MEAN_CC, WORST_CC, quantize
from unisal.inference.network import RunNetwork
from unisal.inference.runtime import Frame, Session
from unisal.inference.sessions import open_onnx, open_openvino
from unisal.predict.loading import load_network
from unisal.predict.presets import default_preset, find_preset, run_presets

SIZE = 288, 384
VIDEO_SIZE = 224, 384
VIDEO_DOMAIN = "DHF1K"
FRAMES, CLIPS, CLIP_FRAMES, HELD_BACK = 200, 12, 6, 3


def engines(network: RunNetwork, domain: str) -> dict[str, Engine]:
    """Return an engine for each precision that is possible here, float32 first."""
    found = {"fp32": Engine(network, "cpu", runtime="onnx")}
    options = {"int8": ("int8", "auto")}
    options |= {f"bf16, {name}": ("bf16", name) for name in installed(network)}
    for title, (precision, runtime) in options.items():
        try:
            engine = Engine(network, "cpu", precision=precision, runtime=runtime)
            if engine.precision_of(domain, True) == precision:
                found[title] = engine
        except UserError as error:
            print(f"{title}: {error}")
    return found


def print_speed(chosen: dict[str, Engine], domain: str, calls: int) -> None:
    """Time a picture; the engines take turns."""
    (picture,) = make_frames(SIZE, 1)
    frame = normalise(picture)[None]
    took: dict[str, list[float]] = {name: [] for name in chosen}
    for _ in range(calls + 2):
        for name, engine in chosen.items():
            begun = time.perf_counter()
            engine.image_logits(frame, domain)
            took[name].append(1000 * (time.perf_counter() - begun))
    medians = {name: float(np.median(times[2:])) for name, times in took.items()}
    ratios = {
        name: np.median(np.divide(took["fp32"][2:], times[2:])) for name, times in took.items()
    }
    print("\n| precision | ms | times float32 |\n|---|---|---|")
    for name, median in medians.items():
        print(f"| {name} | {median:.1f} | {ratios[name]:.2f} |")


def print_agreement(chosen: dict[str, Engine], domain: str, data: list[SaliencyDataset]) -> None:
    """Compare densities and scores with those of float32."""
    print("\n| precision | data | mean CC | worst | largest change of a mean score | of mean NSS |")
    print("|---|---|---|---|---|---|")
    for name, engine in chosen.items():
        if name in ("fp32", "bf16, torch"):  # PyTorch is slower than float32, and slow to measure
            continue
        for dataset in data:
            found = compare_engines(dataset, chosen["fp32"], engine, domain)
            mean, worst = np.mean(found.cc), np.min(found.cc)
            changes = {metric: abs(value) for metric, value in found.differences.items()}
            nss = changes.pop("nss")
            score = max(changes.values())
            good = mean >= MEAN_CC and worst >= WORST_CC
            good = good and score <= SCORE_BOUND and nss <= NSS_BOUND
            print(
                f"| {name} | {found.name} ({len(found.cc)}) | {mean:.5f} | {worst:.4f} "
                f"| {score:.4f} | {nss:.4f}{'' if good else ' (beyond the bounds)'} |",
                flush=True,
            )


def moving_clips(dataset: SaliencyDataset, n: int) -> Iterator[list[Frame]]:
    """Yield clips of a camera that moves over pictures."""
    for index in range(n):
        picture = dataset.read_input(index)
        height, width = VIDEO_SIZE
        down, right = picture.shape[1] - height, picture.shape[2] - width
        if min(down, right) < 0:
            raise UserError(f"the pictures of {dataset.source} are read smaller than {VIDEO_SIZE}")
        clip = []
        for step in np.linspace(0, 1, CLIP_FRAMES):
            y, x = int(step * down), int(step * right)
            clip.append(np.ascontiguousarray(picture[:, y : y + height, x : x + width]))
        yield clip


def print_drift(network: RunNetwork, data: SaliencyDataset | None) -> None:
    """Follow the recurrent part over a video, in each precision."""
    graph = network.graph(VIDEO_DOMAIN, False)
    exact = Session(open_onnx(graph.model, 2), graph.facts)
    others: dict[str, Session] = {}
    if data is not None:
        clips = list(moving_clips(data, CLIPS))
        made = quantize(graph, clips[HELD_BACK:], clips[:HELD_BACK])
        others["int8"] = Session(open_onnx(made.graph.model, 2), made.graph.facts)
    if "openvino" in installed(network):
        others["bf16, openvino"] = Session(open_openvino(graph.model, 2), graph.facts)
    frames = [normalise(picture) for picture in make_frames(VIDEO_SIZE, FRAMES)]
    expected = list(densities(exact, frames))
    print(f"\n| precision | mean CC of {FRAMES} frames | worst | first 20 | last 20 | last |")
    print("|---|---|---|---|---|---|")
    for name, session in others.items():
        pairs = zip(expected, densities(session, frames), strict=True)
        cc = [float(np.corrcoef(a.ravel(), b.ravel())[0, 1]) for a, b in pairs]
        values = np.mean(cc), np.min(cc), np.mean(cc[:20]), np.mean(cc[-20:]), cc[-1]
        print(f"| {name} | {' | '.join(f'{value:.4f}' for value in values)} |", flush=True)


def densities(session: Session, frames: Sequence[Frame]) -> Iterator[NDArray[np.float32]]:
    """Yield the density of each frame of a video, of half its height and width."""
    state = None
    for frame in frames:
        y, state = session.run(frame, state)
        yield to_density(log_density(y, (y.shape[0] // 2, y.shape[1] // 2)))


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure what is asked for and print tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--train_id", default=None, help="the run whose weights to use")
    parser.add_argument("--domain", default=None, help="the network domain to use")
    parser.add_argument("--calls", type=int, default=40, help="how many are timed")
    parser.add_argument("--sources", default="", help="data to compare densities and scores on")
    parser.add_argument("--drift", action="store_true", help="whether to follow a video")
    options = parser.parse_args(arguments)

    train_id, sources = options.train_id, [s for s in options.sources.split(",") if s]
    preset = find_preset(default_preset(train_id), own=run_presets(train_id))
    domain = options.domain or preset.domain
    network = load_network(train_id)
    chosen = engines(network, domain)
    print_speed(chosen, domain, options.calls)
    folder = run_dir(train_id)
    if sources:
        print_agreement(chosen, domain, [dataset_to_score(s, folder) for s in sources])
    if options.drift:
        print_drift(network, dataset_to_score(sources[0], folder, "train") if sources else None)


if __name__ == "__main__":
    main()
