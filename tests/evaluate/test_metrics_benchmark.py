"""The benchmark of the metrics runs, and its two sides agree. Its times are not tested."""

from __future__ import annotations

import pytest

from benchmarks import metrics as benchmark
from benchmarks.timing import compare


def test_both_sides_of_each_metric_agree():
    rows = list(benchmark.measure((12, 17), 5, 9, rounds=1, at_least=0))
    assert [name for name, _, _ in rows] == list(benchmark.pairs())
    for name, times, difference in rows:
        assert times.ratio == pytest.approx(times.plain / times.ours)
        assert difference < (0.2 if name == "aucs_expected" else 1e-12), name


def test_it_prints_a_line_per_metric(capsys):
    arguments = "--height 8 --width 9 --fixations 3 --others 4 --rounds 1 --metrics nss aucj"
    benchmark.main(arguments.split())
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[-2:]] == ["nss", "aucj"]
    assert all(line.split()[-2].endswith("x") for line in lines[-2:])


def test_the_two_take_turns_and_medians_are_given():
    now, calls = [0.0], []

    def takes(name, seconds):
        def call():
            calls.append(name)
            now[0] += next(seconds)

        return call

    plain = takes("plain", iter([99, 10, 20, 60]))
    ours = takes("ours", iter([99, 1, 2, 3, 30, 40]))
    times = compare(plain, ours, rounds=3, at_least=4, clock=lambda: now[0])
    # The third and fourth calls of ours are a turn of their own each; the first turn takes three.
    assert calls == ["plain", "ours", "plain", *["ours"] * 3, "plain", "ours", "plain", "ours"]
    assert times == (20, 30, pytest.approx(60 / 40))
