"""Timing two computations in turn, and finding the plain ones that the tests use."""

from __future__ import annotations

import importlib
import statistics
import sys
import time
from collections.abc import Callable
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
    plain(), ours()
    turns = [
        (_seconds(plain, at_least, clock), _seconds(ours, at_least, clock)) for _ in range(rounds)
    ]
    plains, all_ours = zip(*turns, strict=True)
    ratio = statistics.median(a / b for a, b in turns)
    return Comparison(statistics.median(plains), statistics.median(all_ours), ratio)


def _seconds(function: Callable[[], Any], at_least: float, clock: Callable[[], float]) -> float:
    """Return the mean time of a call."""
    begun, n = clock(), 0
    while True:
        function()
        n += 1
        took = clock() - begun
        if took >= at_least and took > 0:
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
