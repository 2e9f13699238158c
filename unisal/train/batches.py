"""What a run makes of its training batches before each step. By default they stay as they are."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch.nn import functional

from unisal.data.base import Batch
from unisal.model.layers import fold, unfold
from unisal.train.config import TrainerConfig
from unisal.train.domains import domain_by_step
from unisal.train.processes import ALONE, Processes, own_part
from unisal.train.teacher import Teacher, taught
from unisal.types import STRIDE, Size

SCALES, MIX = 1, 2
"""What random numbers of a step are for: each change has a stream of its own."""


def changed_batches(
    batches: Iterable[Batch],
    cfg: TrainerConfig,
    order: Sequence[str],
    epoch: int,
    start: int,
    teachers: Sequence[Teacher] = (),
    processes: Processes = ALONE,
) -> Iterator[Batch]:
    """Yield batches as the network is trained on them.

    Everything random follows from the seed of the run, the epoch and the number of the step. Where
    several processes share the batches, examples are blended with those of all of them.

    Args:
        batches: those of an epoch, from the step `start` on.
        cfg: the options of the run.
        order: the source of each batch of the epoch.
        epoch: the epoch, from 0.
        start: the first step, from 0.
        teachers: see `unisal.train.teacher.taught`.
        processes: those that share the batches.
    """
    domains = domain_by_step(cfg, order, epoch)[start:]
    for step, (batch, domain) in enumerate(zip(batches, domains, strict=True), start):
        changed = replace(batch, domain=domain)
        if cfg.scales:
            rng = _rng(cfg, epoch, step, SCALES)
            changed = rescaled(changed, cfg.scales[int(rng.integers(len(cfg.scales)))])
        if cfg.mix:
            rng = _rng(cfg, epoch, step, MIX)
            if rng.random() < cfg.mix:
                changed = own_part(mixed(processes.whole(changed), rng), changed)
        yield taught(changed, teachers, cfg.teacher_share)


def _rng(cfg: TrainerConfig, epoch: int, step: int, purpose: int) -> np.random.Generator:
    # Five numbers, so that it is none of the streams of the examples, which have four.
    return np.random.default_rng([cfg.seed, epoch, step, purpose, 0])


def rescaled(batch: Batch, factor: float) -> Batch:
    """Return a batch whose frames are larger or smaller by a factor; the targets stay.

    Args:
        batch: the batch.
        factor: what both sides are multiplied by, before they are rounded to multiples of 32. The
            resize is bilinear, and antialiased where it makes frames smaller.
    """
    frames = batch.frames
    size = _rounded(frames.shape[-2], factor), _rounded(frames.shape[-1], factor)
    if size == tuple(frames.shape[-2:]):
        return batch
    return replace(batch, frames=_resized(frames, size))


def _rounded(side: int, factor: float) -> int:
    return STRIDE * max(1, round(side * factor / STRIDE))


def _resized(frames: torch.Tensor, size: Size) -> torch.Tensor:
    folded = fold(frames)  # [B*T, 3, H, W]
    resized = functional.interpolate(
        folded, size, mode="bilinear", align_corners=False, antialias=True
    )
    return unfold(resized, frames.shape[1])


def mixed(batch: Batch, rng: np.random.Generator) -> Batch:
    """Return a batch in which every example is blended with another one of it ("mixup").

    See Zhang, Cisse, Dauphin and Lopez-Paz, ICLR 2018. Frames and densities are blended in one
    proportion, drawn uniformly from 0 to 1; the fixations are those of both.

    Args:
        batch: the batch; one of a single example stays as it is.
        rng: where to draw from.
    """
    n = len(batch.frames)
    if n < 2:
        return batch
    circle = rng.permutation(n)
    partner = np.empty(n, np.int64)
    partner[circle] = np.roll(circle, -1)  # nobody is blended with itself
    share = float(rng.random())
    other = torch.from_numpy(partner).to(batch.frames.device)
    return replace(
        batch,
        frames=torch.lerp(batch.frames[other], batch.frames, share),
        maps=torch.lerp(batch.maps[other], batch.maps, share),
        fixations=batch.fixations | batch.fixations[other],
    )
