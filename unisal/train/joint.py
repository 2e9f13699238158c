"""Training steps of several processes, each of which computes a part of every batch.

Together they make the step that one process makes of the whole batch: the loss of a batch is a mean
over its examples, so the gradient is the mean of those of the parts, weighted by their numbers of
examples. PyTorch's `DistributedDataParallel` (DDP) averages the gradients.

A DDP expects a gradient for each of its parameters in every step, but a batch uses only the modules
of its domain. To search for unused parameters in each step would cost a pass over the graph. So
there is one DDP for each kind of batch, which is made with the parameters that this kind uses; all
of them wrap the same network. The hooks of a DDP do nothing while another one computes.

What dropout draws is drawn for the whole batch by each process (`unisal.model.layers.Dropout2d`).
A BatchNorm in training uses the statistics of the process's own examples, or with `sync_batchnorm`
those of all. In both cases the running estimates are averaged after the step, so that all
processes have the same network again.
"""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.parallel import DistributedDataParallel

from unisal.data.base import Batch
from unisal.data.samplers import part_of
from unisal.model import UNISAL
from unisal.model.layers import Dropout2d, StepBatchNorm2d
from unisal.train.losses import BatchLoss
from unisal.train.processes import Processes
from unisal.types import Part

Network = Callable[..., Any]
NO_BUFFERS = "forward_sync_buffers"
"""DDP's option for what is `broadcast_buffers` in older versions of PyTorch."""


def cut(batch: Batch, n: int, n_processes: int = 1) -> Iterator[Batch]:
    """Yield the examples of a batch in at most `n` batches of equal size, or one example more.

    Args:
        batch: the batch, or the part of it that one of several processes has.
        n: how many batches; less where there are not as many examples. All processes make the same
            number, so a part with fewer examples ends in batches with the weight 0 (see `Part`).
        n_processes: how many processes there are.
    """
    whole = batch.part or Part(0, len(batch.frames), len(batch.frames))
    n = min(n, -(-whole.total // n_processes))
    for number in range(n):
        own = part_of(whole.n, number, n)
        rows = slice(own.first, own.first + max(own.n, 1))
        first = whole.first + own.first if own.n else 0
        yield replace(
            batch,
            names=batch.names[rows],
            frames=batch.frames[rows],
            maps=batch.maps[rows],
            fixations=batch.fixations[rows],
            part=Part(first, own.n, whole.total),
        )


@contextmanager
def drawn_as_whole(model: UNISAL, batches: Sequence[Batch]) -> Iterator[Iterator[Batch]]:
    """Let dropout draw for each of the batches what it would draw for all of them as one.

    Args:
        model: the network; takes the batches one after the other in a `with` statement.
        batches: those that `cut` has made.
    """
    device = batches[0].frames.device
    gpus = [device] if device.type == "cuda" else []
    layers = [layer for layer in model.modules() if isinstance(layer, Dropout2d)]

    def each() -> Iterator[Batch]:
        for batch in batches[:-1]:
            with torch.random.fork_rng(gpus):  # the next one draws the same numbers again
                set_part(batch)
                yield batch
        set_part(batches[-1])
        yield batches[-1]

    def set_part(batch: Batch | None) -> None:
        for layer in layers:
            layer.part = None if batch is None else batch.part

    try:
        yield each()
    finally:
        set_part(None)


class JointSteps:
    """What the steps of several processes have in common; used in a `with` statement.

    Args:
        model: the network, in training mode; which of its parameters train must not change.
        processes: those that train it.
        sync_batchnorm: whether BatchNorms use the statistics of the examples of all processes.
        interrupted: returns whether this process was asked to end.

    Attributes:
        is_interrupted: whether any process had been asked to end before the last step was done; the
            same in all of them.
    """

    def __init__(
        self,
        model: UNISAL,
        processes: Processes,
        sync_batchnorm: bool,
        interrupted: Callable[[], bool],
    ) -> None:
        self.model, self.processes = model, processes
        self.is_interrupted = False
        self._sync_batchnorm = sync_batchnorm
        self._interrupted = interrupted
        self._wrapped: dict[tuple[str, bool], nn.Module] = {}
        self._norms: dict[tuple[str, bool], list[StepBatchNorm2d]] = {}

    def __enter__(self) -> JointSteps:
        return self

    def __exit__(self, *_: object) -> None:
        """Leave the network as one process trains it."""
        self._set_part(None)
        self._wrapped.clear()

    def network(self, batch: Batch) -> Network:
        """Return the network for a batch, whose backward pass averages the gradients.

        Raises:
            ProcessLost: another process has ended or does not answer.
        """
        self._set_part(batch.part)
        kind = self._kind(batch)
        if kind not in self._wrapped:
            used = self.model.used_keys(*kind)
            self._norms[kind] = [
                layer
                for name, layer in self.model.named_modules()
                if isinstance(layer, StepBatchNorm2d)
                and layer.training
                and f"{name}.running_mean" in used
            ]
            self._wrapped[kind] = _data_parallel(self.model, used)
        wrapped = self._wrapped[kind]

        def call(*arguments: Any, **options: Any) -> Any:
            with self.processes.waiting():
                return wrapped(*arguments, **options)

        return call

    def weight(self, batch: Batch) -> float:
        """Return the factor of a loss that makes the mean over processes that over examples."""
        assert batch.part is not None
        return self.processes.n * batch.part.n / batch.part.total

    def without_exchange(self, batch: Batch) -> AbstractContextManager[None]:
        """Return the context in which a batch's gradients are only added to this process's own."""
        self.network(batch)
        return self._wrapped[self._kind(batch)].no_sync()  # type: ignore[no-any-return, operator]

    @contextmanager
    def backward(self) -> Iterator[None]:
        """Wait for the gradients of all processes in the backward pass in a `with` statement.

        Raises:
            ProcessLost: another process has ended or does not answer.
        """
        with self.processes.waiting(), warnings.catch_warnings():
            # Of kernels with one channel, which have two layouts that are both right.
            warnings.filterwarnings("ignore", "Grad strides do not match bucket view strides")
            yield

    @torch.no_grad()
    def joined(self, loss: BatchLoss, batch: Batch) -> BatchLoss:
        """Average what the processes have computed, after the backward pass.

        Args:
            loss: that of this process's part.
            batch: the part.

        Returns:
            The loss of the whole batch. The running estimates of the BatchNorms that the batch has
            used are averaged in place.

        Raises:
            ProcessLost: another process has ended or does not answer.
        """
        assert batch.part is not None
        share = batch.part.n / batch.part.total
        norms = self._norms[self._kind(batch)]
        estimates = [t for n in norms for t in (n.running_mean, n.running_var) if t is not None]
        asked = float(self._interrupted())
        own = [torch.stack([loss.total.detach(), *loss.parts.values()]), *estimates]
        flat = torch.cat([share * values.reshape(-1) for values in own])
        total = self.processes.add(torch.cat([flat, flat.new_tensor([asked])]))
        self.is_interrupted = bool(total[-1] > 0)
        losses, *averaged = total[:-1].split([values.numel() for values in own])
        for estimate, mean in zip(estimates, averaged, strict=True):
            estimate.copy_(mean.view_as(estimate))
        return BatchLoss(losses[0], dict(zip(loss.parts, losses[1:], strict=True)))

    def _kind(self, batch: Batch) -> tuple[str, bool]:
        """Return domain and whether it is static, which decide what parameters a batch uses."""
        return batch.domain, not batch.is_video or batch.domain in self.model.image_domains

    def _set_part(self, part: Part | None) -> None:
        """Tell the layers which part of a batch comes next; None: all of it."""
        statistics = None
        if part is not None and self._sync_batchnorm:
            statistics = _JoinedStatistics(self.processes, counts=part.n > 0)
        for layer in self.model.modules():
            if isinstance(layer, Dropout2d):
                layer.part = part
            elif isinstance(layer, StepBatchNorm2d):
                layer.joined = statistics


def _data_parallel(model: UNISAL, used: set[str]) -> nn.Module:
    """Wrap a network in a DDP for the parameters of these names that train."""
    # A DDP takes the parameters that need a gradient when it is made.
    left_out = [p for n, p in model.named_parameters() if p.requires_grad and n not in used]
    known = inspect.signature(DistributedDataParallel).parameters
    option: dict[str, Any] = {NO_BUFFERS if NO_BUFFERS in known else "broadcast_buffers": False}
    for parameter in left_out:
        parameter.requires_grad_(False)
    try:
        return DistributedDataParallel(model, init_sync=False, **option)
    finally:
        for parameter in left_out:
            parameter.requires_grad_(True)


class _JoinedStatistics:
    """Statistics of the examples of all processes, with gradients; see `JoinedStatistics`.

    Args:
        processes: the processes.
        counts: whether the examples of this one count.
    """

    def __init__(self, processes: Processes, counts: bool) -> None:
        self.processes = processes
        self.counts = counts

    def __call__(self, mean: Tensor, variance: Tensor, n: int) -> tuple[Tensor, Tensor, float]:
        own = torch.cat([mean, variance, mean.new_tensor([n if self.counts else 0])])
        rows = own.new_zeros(self.processes.n, len(own))
        rows = torch.index_put(rows, (torch.tensor(self.processes.rank),), own)
        rows = _Sum.apply(rows, self.processes)
        means, variances, counts = rows.split([len(mean), len(mean), 1], dim=1)
        counts = counts.detach()
        total = counts.sum()
        shares = counts / total
        joint = (shares * means).sum(0)
        spread = (shares * (variances + (means - joint).square())).sum(0)
        return joint, spread, float(total)


class _Sum(torch.autograd.Function):
    """The sum of a tensor over processes. Its gradient is the sum of theirs, too."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, processes: Processes) -> Tensor:
        ctx.processes = processes
        return processes.add(values)

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return ctx.processes.add(gradient.contiguous()), None
