"""The order in which examples and batches come."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import cv2
import numpy as np
from torch.utils.data import DataLoader, Sampler

from unisal.data.base import Batch, Numbered, SaliencyDataset


class SeededSampler(Sampler[int]):
    """All indices of a dataset once, shuffled by the dataset's seed and epoch if asked for."""

    def __init__(self, dataset: SaliencyDataset, shuffle: bool) -> None:
        self.dataset = dataset
        self.shuffle = shuffle

    def __len__(self) -> int:
        return len(self.dataset)

    def __iter__(self) -> Iterator[int]:
        order = np.arange(len(self.dataset))
        if self.shuffle:
            np.random.default_rng([*self.dataset.seed, self.dataset.epoch]).shuffle(order)
        return iter(order.tolist())


def make_loader(
    dataset: SaliencyDataset, batch_size: int, num_workers: int, pin_memory: bool
) -> DataLoader[Batch]:
    """-> batches of a dataset; a last batch that is not full is left out (spec 02, "Loaders").

    A dataset smaller than a batch is one batch.
    """
    return DataLoader(
        Numbered(dataset),  # type: ignore[arg-type]  # its items become batches in `collate`
        batch_size=min(batch_size, len(dataset)),
        sampler=SeededSampler(dataset, shuffle=dataset.phase == "train"),
        num_workers=num_workers,
        collate_fn=dataset.collate,
        drop_last=True,
        pin_memory=pin_memory,
        worker_init_fn=_use_one_thread,
    )


def _use_one_thread(_worker: int) -> None:
    # torch does so for itself; OpenCV would start a thread per core in every worker.
    cv2.setNumThreads(0)


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
