"""The order in which examples and batches come."""

from __future__ import annotations

import signal
from collections.abc import Iterator, Mapping, Sequence

import cv2
import numpy as np
import torch
from torch.utils.data import DataLoader, Sampler

from unisal.data.base import Batch, Numbered, SaliencyDataset
from unisal.errors import UserError


class SeededSampler(Sampler[int]):
    """All indices of a dataset once, shuffled by the dataset's seed and epoch if asked for.

    Attributes:
        start: how many of them to leave out at the start, for an epoch that was interrupted.
    """

    def __init__(self, dataset: SaliencyDataset, shuffle: bool) -> None:
        self.dataset = dataset
        self.shuffle = shuffle
        self.start = 0

    def __len__(self) -> int:
        return len(self.dataset)

    def __iter__(self) -> Iterator[int]:
        order = np.arange(len(self.dataset))
        if self.shuffle:
            np.random.default_rng([*self.dataset.seed, self.dataset.epoch]).shuffle(order)
        return iter(order[self.start :].tolist())


def make_loader(
    dataset: SaliencyDataset, batch_size: int, num_workers: int, pin_memory: bool
) -> DataLoader[Batch]:
    """-> batches of a dataset; a last batch that is not full is left out (spec 02, "Loaders").

    A dataset smaller than a batch is one batch.
    """
    return _Loader(
        Numbered(dataset),  # type: ignore[arg-type]  # its items become batches in `collate`
        batch_size=min(batch_size, len(dataset)),
        sampler=SeededSampler(dataset, shuffle=dataset.phase == "train"),
        num_workers=num_workers,
        collate_fn=dataset.collate,
        drop_last=True,
        pin_memory=pin_memory,
        worker_init_fn=_start_worker,
        # One of its own: the stream that dropout draws from does not depend on how often
        # a loader was started.
        generator=torch.Generator(),
    )


class _Loader(DataLoader[Batch]):
    """A loader that tells a mistake in the data alike whichever process has met it."""

    def __iter__(self) -> Iterator[Batch]:  # type: ignore[override]
        return _without_traceback(super().__iter__())


def _without_traceback(batches: Iterator[Batch]) -> Iterator[Batch]:
    try:
        yield from batches
    except UserError as error:  # torch puts the worker's traceback before the message
        raise UserError(str(error).rpartition(f"{UserError.__name__}: ")[2].strip()) from None


def _start_worker(_worker: int) -> None:
    # torch does so for itself; OpenCV would start a thread per core in every worker.
    cv2.setNumThreads(0)
    # Ctrl-C reaches all processes; the main one ends its step and then the workers.
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def skip_batches(loader: DataLoader[Batch], n: int) -> None:
    """Let the next pass over the loader start at batch `n`."""
    assert isinstance(loader.sampler, SeededSampler) and loader.batch_size is not None
    loader.sampler.start = n * loader.batch_size


def interleave(n_batches: Mapping[str, int], shuffle: bool, seed: Sequence[int]) -> list[str]:
    """The sources of an epoch's batches, one entry per batch: round-robin, then shuffled."""
    order = [
        source
        for turn in range(max(n_batches.values(), default=0))
        for source, n in n_batches.items()
        if turn < n
    ]
    if shuffle:
        np.random.default_rng(list(seed)).shuffle(order)
    return order
