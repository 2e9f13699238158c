"""Timing two computations in turn, and finding the plain ones that the tests use."""

from __future__ import annotations

import importlib
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

TESTS = Path(__file__).resolve().parent.parent / "tests"


class Comparison(NamedTuple):
    """Medians over the rounds."""

    plain: float
    """Seconds of a call of the plain computation."""
    ours: float
    """Seconds of a call of ours."""
    ratio: float
    """How many times as long the plain one takes."""


def compare(
    plain: Callable[[], Any],
    ours: Callable[[], Any],
    rounds: int = 9,
    at_least: float = 0.05,
    clock: Callable[[], float] = time.perf_counter,
) -> Comparison:
    """Time two computations in turn, so that both meet the same state of the machine.

    Args:
        plain: the computation to compare with.
        ours: the computation in question.
        rounds: how often each has its turn, after a call of each that is not timed.
        at_least: the least seconds that a turn takes; a turn is as many calls as that needs.
        clock: returns the time in seconds. `time.process_time` leaves out what other programs
            do on the same core; it adds up the threads of this one.
    """
    turns = take_turns({"plain": plain, "ours": ours}, rounds, at_least, clock)
    ratio = ratio_of(turns["plain"], turns["ours"])
    return Comparison(*(statistics.median(took) for took in turns.values()), ratio)


def take_turns(
    computations: Mapping[str, Callable[[], Any]],
    rounds: int = 9,
    at_least: float = 0.05,
    clock: Callable[[], float] = time.perf_counter,
    wait: Callable[[], Any] | None = None,
) -> dict[str, list[float]]:
    """Time computations in turn.

    Args:
        computations: what to time, by name.
        rounds: see `compare`.
        at_least: see `compare`.
        clock: see `compare`.
        wait: returns when the device has done all that it was given; called at the end of a turn,
            not after each call. None: nothing runs on after a call.

    Returns:
        The seconds of a call, by name, in each round.
    """
    for function in computations.values():
        function()
    if wait is not None:
        wait()
    took: dict[str, list[float]] = {name: [] for name in computations}
    for _ in range(rounds):
        for name, function in computations.items():
            took[name].append(_seconds(function, at_least, clock, wait))
    return took


def ratio_of(plain: Sequence[float], ours: Sequence[float]) -> float:
    """Return how many times as long the plain computation takes: the median over the rounds."""
    return statistics.median(a / b for a, b in zip(plain, ours, strict=True))


def _seconds(
    function: Callable[[], Any],
    at_least: float,
    clock: Callable[[], float],
    wait: Callable[[], Any] | None,
) -> float:
    """Return the mean time of a call."""
    begun, n = clock(), 0
    while True:
        function()
        n += 1
        took = clock() - begun
        if took >= at_least and took > 0:
            break
    if wait is not None:
        wait()
        took = clock() - begun
    return took / n


def plain_network(model: Any, **modes: bool) -> Any:
    """Return the plain network with the weights and the configuration of a network."""
    plain = plain_module("plain_network")
    return plain.PlainNetwork(model.state_dict(), model.config, **modes)


def plain_module(name: str) -> ModuleType:
    """Import `tests/<name>.py`: the benchmarks compare with what the tests compare with."""
    if str(TESTS) not in sys.path:
        sys.path.append(str(TESTS))
    return importlib.import_module(name)
