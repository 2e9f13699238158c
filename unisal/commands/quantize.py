"""The command `quantize`: a run's network in 8 bits, and how well it agrees with float32.

How well bfloat16 agrees is measured at the same time, where the processor has it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from unisal.commands.progress import TERMINAL
from unisal.commands.scoring import sources_at_hand
from unisal.config import find_weights, run_dir, run_dir_to_write, save_json, writable_run_dir
from unisal.data import SaliencyDataset
from unisal.data.inspection import quick_check
from unisal.errors import UserError
from unisal.evaluate.agreement import Compared, compare_engines, summary
from unisal.evaluate.scoring import dataset_to_score
from unisal.files import require_writable_file, write_atomically
from unisal.inference.bf16 import identity, record_path
from unisal.inference.engine import Engine
from unisal.inference.graph_file import Graph, to_bytes
from unisal.inference.int8.kept import AGREEMENT, HOLDS, NETWORK, int8_path
from unisal.inference.int8.quantize import MEAN_CC, WORST_CC, Clip, quantize
from unisal.inference.network import GraphNetwork, RunNetwork
from unisal.inference.processor import BF16_FLAGS, INT8_FLAGS, lacks
from unisal.predict.loading import load_network
from unisal.predict.presets import source_domain

CLIP_FRAMES = 8
"""So many frames of a video follow each other in what the graph is calibrated with."""
HELD_BACK = 3
"""Of so many pictures or clips of the training parts, one is held back to measure with."""
SCORE_BOUND, NSS_BOUND = 0.005, 0.02
"""By how much the mean scores on a data set may change."""
MAX_VIDEOS = 20
"""On so many videos of each validation part, at most, the result is measured."""


class _Source(NamedTuple):
    """A data set: what the graph is made with, and what it is measured with."""

    training: SaliencyDataset
    validation: SaliencyDataset


def quantize_run(
    *,
    train_id: str | None,
    sources: Sequence[str],
    model_domain: str | None,
    n_pictures: int,
    random_seed: int,
) -> None:
    """Make a graph in 8 bits of a run's network, measure it and put it beside the run's weights.

    Args:
        train_id: the run; None for the one that ships with the program.
        sources: the data sets, all of pictures or all of videos; none for those that are scored by
            default and whose folder exists.
        model_domain: the network domain; None for the one that scores of the data sets use.
        n_pictures: how many pictures or clips of the training parts are used.
        random_seed: which of them.

    Raises:
        UserError: a source or run is unknown, data is missing or faulty, the data sets use several
            domains, a place cannot be written, or the processor has no instructions for 8 bits, so
            that nothing could be measured.
    """
    if lacks(INT8_FLAGS):
        raise UserError(
            "the processor has no instructions for 8 bits "
            f"({', '.join(sorted(INT8_FLAGS))}); make the graph on one that has"
        )
    chosen = _open_sources(run_dir(train_id), sources or sources_at_hand())
    static, domain = _kind(chosen, train_id, model_domain)
    network = load_network(train_id)
    if domain not in network.sources:
        raise UserError(f"the network has no domain {domain!r}; it has {network.sources}")
    weights = find_weights(train_id)
    path = int8_path(run_dir_to_write(train_id) / weights.name, domain, static)
    require_writable_file(path, "copy the run elsewhere")

    clips = list(_draw_clips(chosen, static, n_pictures, random_seed))
    print(
        f"{len(clips)} {'pictures' if static else 'clips'} of the training parts, domain {domain}"
    )
    kept, held_back = [c for i, c in enumerate(clips) if i % HELD_BACK], clips[::HELD_BACK]
    found = quantize(network.graph(domain, static), kept, held_back)
    twice = f"carried twice: {len(found.plan.doubled)} chains of tensors"
    print(f"{twice}; convolutions in float32 from the front: {found.plan.n_floats}")
    rounded = Engine(GraphNetwork(path, found.graph), "cpu", runtime="onnx")
    record = _measured("int8", chosen, network, rounded, domain)
    facts = {**found.graph.facts, NETWORK: network.key, AGREEMENT: record}
    content = to_bytes(Graph(found.graph.model, facts))
    folder = writable_run_dir(train_id)
    path = int8_path(folder / weights.name, domain, static)
    write_atomically(path, lambda temporary: temporary.write_bytes(content))
    save_json(path.with_suffix(".json"), record)
    print(f"{path}, {path.with_suffix('.json')}")
    if not lacks(BF16_FLAGS):
        bf16 = Engine(network, "cpu", precision="bf16")
        record = _measured("bf16", chosen, network, bf16, domain)
        path = record_path(folder / weights.name, domain, static)
        save_json(path, record | identity(network, bf16.runtime_of(domain, static)))
        print(path)


def _open_sources(folder: Path, sources: Sequence[str]) -> list[_Source]:
    """Return the training and validation part of each data set."""
    found = [
        _Source(*(dataset_to_score(source, folder, phase, TERMINAL) for phase in ("train", None)))
        for source in sources
    ]
    if not found:
        raise UserError("name the data that the graph is to be made with, with --data")
    quick_check([dataset for source in found for dataset in source])
    return found


def _kind(
    sources: Sequence[_Source], train_id: str | None, model_domain: str | None
) -> tuple[bool, str]:
    """Return whether the data sets hold pictures, and the domain that all of them use."""
    videos = {source.training.is_video for source in sources}
    domains = {model_domain or source_domain(train_id, source.training) for source in sources}
    if len(videos) > 1:
        raise UserError("the data sets hold pictures and videos; make a graph of each by itself")
    if len(domains) > 1:
        raise UserError(
            f"the data sets use the domains {', '.join(sorted(domains))}; name one of them with "
            "--model_domain, or make a graph of each by itself"
        )
    return not videos.pop(), domains.pop()


def _draw_clips(
    sources: Sequence[_Source], static: bool, n_pictures: int, seed: int
) -> Iterator[Clip]:
    """Yield pictures, or clips of videos, of the training parts, of each data set as many."""
    draw = np.random.default_rng(seed)
    for source in sources:
        dataset = source.training
        lengths = dataset.lengths()
        n = min(len(lengths), -(-n_pictures // len(sources)))
        for index in draw.permutation(len(lengths))[:n].tolist():
            if static:
                yield [dataset.read_input(index)]
                continue
            step = dataset.frame_step_of(index)
            start = int(draw.integers(max(1, lengths[index] - CLIP_FRAMES * step)))
            numbers = range(1 + start, lengths[index] + 1, step)[:CLIP_FRAMES]
            yield [dataset.read_input(index, number) for number in numbers]


def _measured(
    precision: str, sources: Sequence[_Source], network: RunNetwork, rounded: Engine, domain: str
) -> dict[str, Any]:
    """Measure a precision on the validation parts; print it and return it, ready for JSON."""
    compared = [_compare(source, network, rounded, domain) for source in sources]
    record = _judged(compared)
    for line in _lines(precision, compared, record):
        print(line)
    return record


def _compare(source: _Source, network: RunNetwork, rounded: Engine, domain: str) -> Compared:
    """Return what another engine and float32 make of the validation part of a data set."""
    exact = Engine(network, "cpu", runtime="onnx")
    dataset = source.validation
    chosen = range(len(dataset.lengths()))[: MAX_VIDEOS if dataset.is_video else None]
    return compare_engines(dataset, exact, rounded, domain, TERMINAL, chosen)


def _judged(compared: Sequence[Compared]) -> dict[str, Any]:
    """Return what was measured, and whether all bounds hold, ready for JSON."""
    record = summary(compared)
    exceeded = [
        f"{name} of {one.name}"
        for one in compared
        for name, difference in one.differences.items()
        if not abs(difference) <= (NSS_BOUND if name == "nss" else SCORE_BOUND)
    ]
    for name, source in record["sources"].items():
        exceeded += [f"mean CC of {name}"] if source["mean_cc"] < MEAN_CC else []
        exceeded += [f"worst CC of {name}"] if source["worst_cc"] < WORST_CC else []
    return {**record, "exceeded": exceeded, HOLDS: not exceeded}


def _lines(precision: str, compared: Sequence[Compared], record: dict[str, Any]) -> Iterator[str]:
    """Yield what is printed."""
    yield f"{precision}:"
    for one in compared:
        changes = ", ".join(f"{name} {value:+.4f}" for name, value in one.differences.items())
        mean, worst = np.mean(one.cc), np.min(one.cc)
        yield f"{one.name}: CC with float32 {mean:.5f}, worst {worst:.4f}; scores {changes}"
    yield f"all: CC with float32 {record['mean_cc']:.5f}, worst {record['worst_cc']:.4f}"
    if record[HOLDS]:
        yield f"all bounds hold: --precision=auto may use {precision}"
    else:
        said = ", ".join(record["exceeded"])
        yield f"bounds that do not hold: {said}; --precision=auto does not use {precision}"
