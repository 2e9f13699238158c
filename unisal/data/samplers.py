"""The order of examples and batches."""

from __future__ import annotations

import signal
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

import cv2
import numpy as np
import torch
from torch.utils.data import DataLoader, Sampler

from unisal.data.base import Batch, Numbered, SaliencyDataset
from unisal.errors import UserError
from unisal.types import Part

BATCH_ORDER_INDEX = 2**32 - 1
"""Index of the random stream for the order of batches, beyond the index of any example."""


class SeededSampler(Sampler[int]):
    """Yields every index of a data set once, shuffled by its seed and epoch if asked for."""

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


class SeededBatches(Sampler[list[int]]):
    """Yields the batches of an epoch; all examples of a batch are of one group (`batch_group`).

    The examples of each group come in the order of `SeededSampler`. The last batch of a group is
    left out if it is not full, unless it is the only one of the group. If there are several groups,
    their batches are shuffled as well.

    With `even`, no example is left out: the batches of a group are equally large, or one of them
    differs by one, and none is larger than `batch_size`.

    Args:
        dataset: provides the examples.
        batch_size: number of examples in a full batch.
        shuffle: whether to shuffle by the data set's seed and epoch.
        keep_rest: whether to keep the batches that are not full.
        even: whether to cut each group into equal batches.
        rank: of several processes that take a part of each batch: the number of this one, from 0.
        n_ranks: how many there are.

    Attributes:
        chosen: the numbers of the batches to yield, from 0; None: all of them.
    """

    def __init__(
        self,
        dataset: SaliencyDataset,
        batch_size: int,
        shuffle: bool,
        keep_rest: bool = False,
        even: bool = False,
        rank: int = 0,
        n_ranks: int = 1,
    ) -> None:
        self.examples = SeededSampler(dataset, shuffle)
        self.groups = [dataset.batch_group(index) for index in range(len(dataset))]
        self.batch_size = batch_size
        self.keep_rest = keep_rest
        self.even = even
        self.rank, self.n_ranks = rank, n_ranks
        self.chosen: Sequence[int] | None = None

    def __len__(self) -> int:
        return sum(len(self._cut(group)) for group in self._grouped(range(len(self.groups))))

    def __iter__(self) -> Iterator[list[int]]:
        if self.n_ranks == 1:
            return iter(self._joint())
        pairs = zip(self._joint(), self.parts(), strict=True)
        return iter([batch[part.first : part.first + part.n] or batch[:1] for batch, part in pairs])

    def parts(self) -> list[Part]:
        """Return which examples of each batch this process takes."""
        return [part_of(len(batch), self.rank, self.n_ranks) for batch in self._joint()]

    def _joint(self) -> list[list[int]]:
        """Return the batches of all processes together."""
        grouped = self._grouped(self.examples)
        batches = [batch for group in grouped for batch in self._cut(group)]
        if self.examples.shuffle and len(grouped) > 1:
            dataset = self.examples.dataset
            rng = dataset.rng(BATCH_ORDER_INDEX)
            batches = [batches[i] for i in rng.permutation(len(batches))]
        return batches if self.chosen is None else [batches[i] for i in self.chosen]

    def _grouped(self, indices: Iterable[int]) -> list[list[int]]:
        """Group indices by the group of their examples."""
        by_group: dict[Hashable, list[int]] = {}
        for index in indices:
            by_group.setdefault(self.groups[index], []).append(index)
        return list(by_group.values())

    def _cut(self, group: list[int]) -> list[list[int]]:
        """Cut the indices of a group into batches."""
        if self.even:
            n_batches = -(-len(group) // self.batch_size)
            return [part.tolist() for part in np.array_split(group, n_batches)]
        batches = [group[i : i + self.batch_size] for i in range(0, len(group), self.batch_size)]
        if len(batches) > 1 and len(batches[-1]) < self.batch_size and not self.keep_rest:
            batches.pop()
        return batches


def part_of(n: int, rank: int, n_ranks: int) -> Part:
    """Return which of `n` examples a process takes: as many as the others, or one more."""
    each, left = divmod(n, n_ranks)
    own = each + (rank < left)
    return Part(rank * each + min(rank, left) if own else 0, own, n)


def make_loader(
    dataset: SaliencyDataset,
    batch_size: int,
    num_workers: int,
    pin_memory: bool,
    rank: int = 0,
    n_ranks: int = 1,
) -> DataLoader[Batch]:
    """Make the loader of a data set's batches (docs/behaviour.md, "Batches").

    In training the examples are shuffled. Batches that are not full are left out; in validation
    they are kept if the data set says so (`validates_all`), in training every example is taken if
    it says so (`trains_all`). See `SeededBatches`.

    Args:
        dataset: provides the examples.
        batch_size: number of examples in a full batch.
        num_workers: number of processes that read examples; 0 to read them in this one.
        pin_memory: whether to put batches into pinned memory.
        rank: of several processes that take a part of each batch: the number of this one, from 0.
        n_ranks: how many there are.
    """
    batches = SeededBatches(
        dataset,
        batch_size,
        shuffle=dataset.phase == "train",
        keep_rest=dataset.phase != "train" and dataset.validates_all,
        even=dataset.phase == "train" and dataset.trains_all,
        rank=rank,
        n_ranks=n_ranks,
    )
    return _Loader(
        Numbered(dataset),  # type: ignore[arg-type]  # its items become batches in `collate`
        batch_sampler=batches,
        num_workers=num_workers,
        collate_fn=dataset.collate,
        pin_memory=pin_memory,
        worker_init_fn=_start_worker,
        # Its own generator: the stream that dropout draws from must not depend on how often a
        # loader was started.
        generator=torch.Generator(),
    )


class _Loader(DataLoader[Batch]):
    """A loader that reports a fault in the data in the same words from every process.

    Where several processes take a part of each batch, its batches say which.
    """

    def __iter__(self) -> Iterator[Batch]:  # type: ignore[override]
        batches, sampler = _without_traceback(super().__iter__()), self.batch_sampler
        assert isinstance(sampler, SeededBatches)
        if sampler.n_ranks == 1:
            return batches
        pairs = zip(batches, sampler.parts(), strict=True)
        return (replace(batch, part=part) for batch, part in pairs)


def _without_traceback(batches: Iterator[Batch]) -> Iterator[Batch]:
    """Yield the batches; raise a worker's UserError with its own message."""
    try:
        yield from batches
    except UserError as error:  # torch puts the worker's traceback before the message
        raise UserError(str(error).rpartition(f"{UserError.__name__}: ")[2].strip()) from None


def _start_worker(_worker: int) -> None:
    # PyTorch limits its own threads; OpenCV would start one per core in every worker.
    cv2.setNumThreads(0)
    # Ctrl-C reaches all processes; the main one finishes its step and then ends the workers. So do
    # other signals, if somebody ends the whole group and the main process handles them.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for name in ("SIGTERM", "SIGHUP"):
        if hasattr(signal, name) and callable(signal.getsignal(getattr(signal, name))):
            signal.signal(getattr(signal, name), signal.SIG_IGN)


def skip_batches(loader: DataLoader[Batch], n: int) -> None:
    """Make the next pass over the loader start at batch `n`, counted from 0."""
    choose_batches(loader, range(n, len(loader)))


def choose_batches(loader: DataLoader[Batch], numbers: Sequence[int]) -> None:
    """Make the next pass over the loader yield the batches with these numbers, from 0."""
    assert isinstance(loader.batch_sampler, SeededBatches)
    loader.batch_sampler.chosen = numbers


def interleave(n_batches: Mapping[str, int], shuffle: bool, seed: Sequence[int]) -> list[str]:
    """Return the source of each batch of an epoch: round-robin, shuffled if asked for."""
    order = [
        source
        for turn in range(max(n_batches.values(), default=0))
        for source, n in n_batches.items()
        if turn < n
    ]
    if shuffle:
        np.random.default_rng(list(seed)).shuffle(order)
    return order
