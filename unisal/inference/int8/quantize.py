"""A graph in float32 to one in 8 bits, by what it computes on a few frames.

What was tried and measured is in docs/performance.md, "8 and 16 bits".
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from unisal.errors import UserError
from unisal.forks import compute_threads
from unisal.inference.densities import log_density, to_density
from unisal.inference.graph_file import Graph
from unisal.inference.int8.channels import equalize
from unisal.inference.int8.doubling import double, linear_chains
from unisal.inference.int8.float_graph import FloatGraph, attribute
from unisal.inference.int8.ranges import Range, find_ranges
from unisal.inference.int8.rounding import round_weights
from unisal.inference.int8.statistics import Feed, Statistics, collect, open_session
from unisal.inference.int8.writing import to_int8
from unisal.inference.runtime import Frame, Session

MEAN_CC, WORST_CC = 0.999, 0.99
"""The mean and the lowest CC with the densities of float32 that are asked for."""
MARGIN = 0.75
"""The share of what these allow to be lost that may be lost on the frames that are held back."""
HELPS = 0.98
"""What makes a graph slower is done if no more than this share of what was lost is still lost."""
FIRST_FLOATS = 2
"""So many convolutions from the front stay in float32: on the frame's few channels and one by one
ONNX Runtime takes more time for them in 8 bits (measured)."""
MORE_FLOATS = (5, 8, 14)
"""How many stay in float32 if that is not good enough: those of whole blocks of the encoder."""

Clip = Sequence[Frame]
"""Frames that follow each other, `[3, H, W] float32` each; a picture is a clip of one frame."""


class Plan(NamedTuple):
    """What is done beyond 8 bits for everything."""

    doubled: tuple[str, ...] = ()
    """The first tensors of the chains that are carried twice, see `linear_chains`."""
    n_floats: int = FIRST_FLOATS
    """So many convolutions, from the front, stay in float32."""


class Agreement(NamedTuple):
    """How well densities agree with those of float32."""

    mean_cc: float
    worst_cc: float

    @property
    def is_good(self) -> bool:
        """Whether what is lost is so little that more may be expected to hold elsewhere."""
        mean, worst = (1 - MARGIN * (1 - bound) for bound in (MEAN_CC, WORST_CC))
        return self.mean_cc >= mean and self.worst_cc >= worst


class Quantized(NamedTuple):
    """A graph in 8 bits."""

    graph: Graph
    plan: Plan
    agreement: Agreement
    """On the frames that were held back."""


def quantize(graph: Graph, clips: Sequence[Clip], held_back: Sequence[Clip]) -> Quantized:
    """Make a graph in 8 bits.

    Everything but the first two and the last convolutions and the recurrent part is in 8 bits. If
    that changes the densities of `held_back` too much, more and more is kept more exactly, from
    the front, if it helps: linear tensors are carried twice, then blocks stay in float32.

    Args:
        graph: the graph in float32, see `unisal.inference.graph.record`.
        clips: what it is calibrated with.
        held_back: what it is measured with; other frames.

    Returns:
        The first one that is good enough, otherwise the one that loses least.

    Raises:
        UserError: there are no frames.
    """
    if not (clips and held_back and all(map(len, [*clips, *held_back]))):
        raise UserError("there are no frames to make a graph in 8 bits with")
    threads = compute_threads()
    exact = Session(open_session(graph.model, threads), graph.facts)
    work = FloatGraph(graph.model)
    work.merge_pointwise()
    seen = collect(work, _feeds(exact, clips), threads)
    equalize(work, seen)
    ranges = find_ranges(work, seen)
    reference = list(_densities(exact, held_back))

    def carried_out(plan: Plan) -> Quantized:
        model = _carry_out(plan, work, seen, ranges)
        session = Session(open_session(model, threads), graph.facts)
        facts = {**graph.facts, "precision": "int8", "plan": plan._asdict()}
        agreement = agree(reference, list(_densities(session, held_back)))
        return Quantized(Graph(model, facts), plan, agreement)

    best = carried_out(Plan())
    for change in _changes(work):
        if best.agreement.is_good:
            break
        tried = carried_out(change(best.plan))
        if 1 - tried.agreement.mean_cc < HELPS * (1 - best.agreement.mean_cc):
            best = tried
    return best


def agree(
    exact: Sequence[NDArray[np.floating]], rounded: Sequence[NDArray[np.floating]]
) -> Agreement:
    """Return how well densities `[h, w]` agree with those of float32."""
    values = [
        float(np.corrcoef(a.ravel(), b.ravel())[0, 1]) for a, b in zip(exact, rounded, strict=True)
    ]
    return Agreement(float(np.mean(values)), float(np.min(values)))


def _carry_out(
    plan: Plan, graph: FloatGraph, seen: Statistics, ranges: Mapping[str, Range]
) -> bytes:
    """Return the model in 8 bits that a plan asks for."""
    graph, seen, own_ranges = graph.copy(), seen.copy(), dict(ranges)
    floats = _floats(graph, plan.n_floats)
    chains = [chain for chain in linear_chains(graph) if chain[0] in plan.doubled]
    doubled = [name for chain in chains if not floats.issuperset(chain) for name in chain]
    double(graph, seen, own_ranges, doubled)
    return to_int8(graph, own_ranges, round_weights(graph, seen, floats), floats)


def _changes(graph: FloatGraph) -> Iterator[Callable[[Plan], Plan]]:
    """Yield what can be kept more exactly, the cheapest first."""
    for chain in linear_chains(graph):
        yield partial(_with_doubled, first=chain[0])
    for n in MORE_FLOATS:
        yield partial(Plan._replace, n_floats=n)


def _with_doubled(plan: Plan, first: str) -> Plan:
    return plan._replace(doubled=(*plan.doubled, first))


def _floats(graph: FloatGraph, n_first: int) -> set[str]:
    """Return the outputs of what stays in float32."""
    convolutions = graph.convolutions()
    floats = graph.recurrent() | {node.output[0] for node in convolutions[:n_first]}
    for node in convolutions:  # the map itself has one channel
        n_out, n_in = graph.constants[node.input[1]].shape[:2]
        if n_out == 1 or (n_in == 1 and attribute(node, "group", 1) == 1):
            floats.add(node.output[0])
    return floats


def _feeds(session: Session, clips: Sequence[Clip]) -> Iterator[Feed]:
    """Yield a graph's inputs for each frame, with the states that it makes itself."""
    for clip in clips:
        state = None
        for frame in clip:
            yield session.inputs(frame, state)
            _, state = session.run(frame, state)


def _densities(session: Session, clips: Sequence[Clip]) -> Iterator[NDArray[np.float32]]:
    """Yield the density of each frame, of half its height and width."""
    for clip in clips:
        state = None
        for frame in clip:
            y, state = session.run(frame, state)
            yield to_density(log_density(y, (y.shape[0] // 2, y.shape[1] // 2)))
