"""A model of a run that predicts many videos on many workers: how long, and what limits it.

Each event is simulated: a worker takes the next video when it is free, its data share one storage,
whoever gives out the work looks into each video first, and workers are lost at random and begin
their video again.
"""

from __future__ import annotations

import heapq
import random
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Costs:
    """What was measured, in seconds of one worker.

    Args:
        frame: for a frame.
        video: for a video in addition, whatever its length.
        worker: until a worker has started.
        run: until the first worker starts, for each part of the work anew.
        probe: to look into a video before it is given to a worker, one after the other.
        cores: how many cores a worker keeps busy while it works.
    """

    frame: float
    video: float
    worker: float
    run: float = 0
    probe: float = 0
    cores: float = 1


@dataclass(frozen=True, kw_only=True)
class Cluster:
    """The machines.

    Args:
        workers: how many there are.
        cores: of all machines together; None for as many as the workers keep busy.
        bandwidth: of the storage that all share, in bytes per second; None for no limit.
        slow_share: share of the workers that are slow, from 0 to 1.
        slowdown: how many times as long as the others these take.
        losses: of each worker per hour.
    """

    workers: int
    cores: int | None = None
    bandwidth: float | None = None
    slow_share: float = 0
    slowdown: float = 1
    losses: float = 0


@dataclass(frozen=True, kw_only=True)
class Work:
    """What is predicted.

    Args:
        videos: how many.
        frames: in each.
        video_bytes: read and written for each.
        at_a_time: how many are looked into, and then predicted, before the next ones; None for all.
    """

    videos: int
    frames: int
    video_bytes: float = 0
    at_a_time: int | None = None


@dataclass(frozen=True)
class Run:
    """What became of it."""

    seconds: float
    """From the command to its end."""
    busy: dict[str, float]
    """Share of the time in which each part works: `workers`, `storage` and `driver`."""
    lost: int
    """Workers that were lost, and replaced."""

    @property
    def limit(self) -> str:
        """The part that works most of the time; `waiting` if none does so half of it."""
        most = max(self.busy, key=self.busy.__getitem__)
        return most if self.busy[most] >= 0.5 else "waiting"


def _crowding(n: int, costs: Costs, cluster: Cluster) -> float:
    """Return how many times as long workers take when `n` of them work on the cores there are."""
    return max(1.0, n * costs.cores / cluster.cores) if cluster.cores else 1.0


def _in_true_time(last: list[float], costs: Costs, cluster: Cluster) -> float:
    """Return when the last worker ends, if each works without a pause until `last`.

    Those that have nothing left to do leave their cores to the others.
    """
    total, before = 0.0, 0.0
    for n_ended, end in enumerate(sorted(last)):
        total += (end - before) * _crowding(len(last) - n_ended, costs, cluster)
        before = end
    return total


def simulate(work: Work, costs: Costs, cluster: Cluster, seed: int = 0) -> Run:
    """Simulate a run.

    Args:
        work: what is predicted.
        costs: what was measured.
        cluster: the machines.
        seed: of the losses, which come at random (exponential times between them).

    Returns:
        How long it takes. A loss costs the time since its video was begun and a worker's start.
    """
    draw = random.Random(seed)
    n = min(cluster.workers, work.videos)
    crowding = _crowding(n, costs, cluster)
    n_slow = round(cluster.slow_share * n)
    task = costs.video + work.frames * costs.frame
    transfer = work.video_bytes / cluster.bandwidth if cluster.bandwidth else 0.0
    at_a_time = work.at_a_time or work.videos
    now, worked, lost = 0.0, 0.0, 0
    for begun in range(0, work.videos, at_a_time):
        n_videos = min(at_a_time, work.videos - begun)
        now += n_videos * costs.probe + costs.run
        now += costs.worker * max(1.0, n / (cluster.cores or n))  # each part starts its own
        # From here in the time of a worker that has all the cores that it keeps busy.
        last = [0.0] * n
        free = [(0.0, i) for i in range(n)]
        storage_free = 0.0
        losses = cluster.losses / 3600 * crowding
        for _ in range(n_videos):
            at, i = heapq.heappop(free)
            takes = task * (cluster.slowdown if i < n_slow else 1)
            while losses and (lives := draw.expovariate(losses)) < takes:
                at += lives + costs.worker / crowding
                worked += lives * crowding
                lost += 1
            storage_free = max(storage_free, at) + transfer / crowding
            last[i] = max(at + takes, storage_free)
            worked += takes * crowding
            heapq.heappush(free, (last[i], i))
        now += _in_true_time(last, costs, cluster)
    busy = {
        "workers": worked / (n * now),
        "storage": work.videos * transfer / now,
        "driver": (-(-work.videos // at_a_time) * costs.run + work.videos * costs.probe) / now,
    }
    return Run(now, busy, lost)
