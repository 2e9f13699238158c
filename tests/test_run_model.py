"""The model of a run agrees with what can be computed by hand."""

from __future__ import annotations

import math

import pytest

from benchmarks import scaling
from benchmarks.run_model import Cluster, Costs, Work, simulate

COSTS = Costs(frame=0.02, video=0.5, worker=3, run=2)
TASK = 0.5 + 100 * 0.02


@pytest.mark.parametrize(("videos", "workers"), [(1, 1), (12, 1), (12, 4), (13, 4), (3, 8)])
def test_equal_workers_take_turns(videos, workers):
    run = simulate(Work(videos=videos, frames=100), COSTS, Cluster(workers=workers))
    assert run.seconds == pytest.approx(2 + 3 + math.ceil(videos / workers) * TASK)
    assert run.lost == 0


def test_more_workers_than_cores_share_them():
    work = Work(videos=40, frames=100)
    few = simulate(work, COSTS, Cluster(workers=2, cores=2)).seconds
    many = simulate(work, COSTS, Cluster(workers=4, cores=2)).seconds
    assert many - few == pytest.approx(3)  # four start on two cores


def test_those_that_have_ended_leave_their_cores_to_the_others():
    """Six videos on four workers: two have two of them, alone on the cores in the second half."""
    costs = Costs(frame=0.02, video=0.5, worker=3, run=2, cores=1.5)
    run = simulate(Work(videos=6, frames=100), costs, Cluster(workers=4, cores=2))
    assert run.seconds == pytest.approx(2 + 3 * 2 + TASK * 4 * 1.5 / 2 + TASK * 2 * 1.5 / 2)
    one = simulate(Work(videos=6, frames=100), costs, Cluster(workers=1, cores=2))
    assert one.seconds == pytest.approx(2 + 3 + 6 * TASK)


def test_storage_that_is_slower_than_the_workers_decides():
    work = Work(videos=200, frames=100, video_bytes=1e9)
    run = simulate(work, COSTS, Cluster(workers=50, bandwidth=1e9))
    assert run.seconds == pytest.approx(2 + 3 + 200, rel=0.01) and run.limit == "storage"
    run = simulate(work, COSTS, Cluster(workers=50, bandwidth=1e12))
    assert run.seconds == pytest.approx(2 + 3 + 4 * TASK, rel=0.01) and run.limit == "workers"


def test_whoever_gives_out_the_work_may_be_the_limit():
    costs = Costs(frame=0.02, video=0.5, worker=3, probe=0.1)
    run = simulate(Work(videos=1000, frames=100), costs, Cluster(workers=1000))
    assert run.seconds == pytest.approx(100 + 3 + TASK) and run.limit == "driver"


def test_slow_workers_do_less_and_are_waited_for():
    work = Work(videos=10_000, frames=100)
    run = simulate(work, COSTS, Cluster(workers=10, slow_share=0.5, slowdown=2))
    rate = (5 + 5 / 2) / TASK
    assert 5 <= run.seconds - 10_000 / rate <= 5 + 2 * TASK


def test_lost_workers_cost_what_they_had_begun_and_a_start():
    # The expectation of an attempt repeated until none is lost: (e^(at) - 1) (1 / a + start).
    losses, n = 600.0, 20_000
    run = simulate(Work(videos=n, frames=100), COSTS, Cluster(workers=1, losses=losses))
    again = math.expm1(losses / 3600 * TASK)
    assert run.lost == pytest.approx(n * again, rel=0.05)
    assert run.seconds - 5 == pytest.approx(n * again * (3600 / losses + 3), rel=0.03)


def test_each_part_of_a_list_waits_for_its_last_video():
    work = Work(videos=30, frames=100, at_a_time=10)
    run = simulate(work, COSTS, Cluster(workers=4))
    assert run.seconds == pytest.approx(3 * (2 + 3 + 3 * TASK))
    few = simulate(Work(videos=400, frames=10_000, at_a_time=10), COSTS, Cluster(workers=40))
    assert few.seconds > 0.99 * 40 * 200  # most parts of a run with small parts do nothing
    small = Costs(frame=0.02, video=0.5, worker=60)
    assert simulate(work, small, Cluster(workers=10)).limit == "waiting"


def test_the_benchmark_finds_the_costs_of_a_run(tmp_path, monkeypatch, capsys):
    true = Costs(frame=0.03, video=0.4, worker=5, run=2, probe=0.1)

    def seconds(files, workers, *_):
        names = files.read_text().split()
        with scaling.VideoFile(files.parent / names[0]) as video:
            n = sum(1 for _ in video)
        took = simulate(Work(videos=len(names), frames=n), true, Cluster(workers=workers)).seconds
        return scaling.Took(took, 1.5 * took)

    monkeypatch.setattr(scaling, "seconds", seconds)
    monkeypatch.setattr(scaling, "measure_ray", lambda _: 2)
    monkeypatch.setattr(scaling, "measure_decoding", lambda _: (0.1, 0.004))
    monkeypatch.setattr(scaling, "SIZES", ((36, 64), (72, 128)))
    lengths = scaling.Lengths(3, 9, 4, 4, 1)
    costs, frames = scaling.measure_costs(tmp_path, lengths)
    found = costs.frame, costs.video, costs.worker, costs.run, costs.probe
    assert found == pytest.approx((0.03, 0.4, 5, 2, 0.1))
    assert frames[72, 128].worker == pytest.approx(0.03) and costs.cores == pytest.approx(1.5)
    monkeypatch.setattr(scaling.os, "sched_getaffinity", lambda _: range(8), raising=False)
    scaling.check_model(tmp_path, lengths, costs)
    assert capsys.readouterr().out.count("| 1.00 |") == len(scaling.WORKERS)


def test_what_decoding_costs(tmp_path):
    path = scaling.write_video(tmp_path / "a.mp4", (36, 64), 5)
    assert min(scaling.measure_decoding(path)) > 0


def test_the_table_of_a_million_videos(monkeypatch, capsys):
    monkeypatch.setattr(scaling, "MILLION", 2000)
    scaling.ask_for_a_million(COSTS, scaling.FrameCost(0.02, 0.03, 0.005, 3000), 6000)
    rows = capsys.readouterr().out.strip().splitlines()[2:]
    assert len(rows) == len(scaling.MACHINES) * (1 + len(scaling.GPU_RATES))
    hours = [float(row.split("|")[3]) for row in rows[: len(scaling.MACHINES)]]
    assert hours == sorted(hours, reverse=True) and all(row.count("|") == 7 for row in rows)
