"""A training step and a pass over the data as free functions (docs/behaviour.md, "An epoch")."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from itertools import islice

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils.data import DataLoader

from unisal.data.base import Batch
from unisal.errors import UserError
from unisal.model import UNISAL
from unisal.progress import Bar
from unisal.train.amp import MixedPrecision
from unisal.train.joint import JointSteps, cut, drawn_as_whole
from unisal.train.losses import BatchLoss, batch_loss
from unisal.train.processes import Processes

Losses = dict[str, float]
"""The `loss` and its summands `loss_0`, `loss_1`, ... in the order of the configuration."""


def set_training_mode(
    model: UNISAL,
    cnn_eval: bool,
    cnn_trains: bool,
    modules_of: Sequence[str] | None = None,
    recurrent: bool = False,
    bn_eval: bool = False,
) -> None:
    """Put the network into training mode.

    Args:
        model: the network.
        cnn_eval: whether the encoder's BatchNorms keep their statistics.
        cnn_trains: whether the encoder's parameters train.
        modules_of: train only what these domains have for themselves, so that the predictions of
            all others stay the same to the last bit; without dropout. None: train everything.
        recurrent: with `modules_of`: also train the recurrent part, which domains for images never
            use.
        bn_eval: whether the BatchNorms of all parts keep their statistics.
    """
    if modules_of is not None:
        _train_modules(model, modules_of, recurrent)
    else:
        model.train()
        model.cnn.train(not cnn_eval)
        model.cnn.requires_grad_(cnn_trains)
    if bn_eval:
        for layer in model.modules():
            if isinstance(layer, nn.BatchNorm2d):
                layer.eval()


def _train_modules(model: UNISAL, domains: Sequence[str], recurrent: bool) -> None:
    """Freeze all but the modules of some domains, BatchNorm statistics included."""
    model.eval()
    model.requires_grad_(False)
    own = set().union(*(model.domain_keys(domain) for domain in domains))
    if recurrent:
        of_others = {key for domain in model.sources for key in model.domain_keys(domain)} - own
        own |= model.recurrent_keys() - of_others
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name in own)
    for name, layer in model.named_modules():
        if f"{name}.running_mean" in own:
            layer.train()


def forward_loss(
    model: UNISAL,
    batch: Batch,
    weights: Mapping[str, float],
    network: Callable[..., Tensor] | None = None,
    amp: MixedPrecision | None = None,
) -> BatchLoss:
    """Compute the loss of a batch, predicted at the size of its targets.

    Args:
        model: the network.
        batch: the examples.
        weights: those of the loss's summands, by name.
        network: what is called in the place of the network; None: itself.
        amp: what the network computes in; None: float32.

    Raises:
        UserError: the loss is not finite; names the source and the examples.
    """
    with nullcontext() if amp is None else amp.autocast():
        log_density = (network or model)(
            batch.frames,
            target_size=batch.target_size,
            source=batch.domain,
            static=not batch.is_video or batch.domain in model.image_domains,
        )
    loss = batch_loss(log_density, batch.maps, batch.fixations, weights)
    if not torch.isfinite(loss.total):
        parts = ", ".join(f"{name} {value.item():g}" for name, value in loss.parts.items())
        raise _not_finite(f"loss is not finite ({parts})", batch)
    return loss


def _not_finite(what: str, batch: Batch, helps: str = "a lower learning rate") -> UserError:
    """Return the error for a batch whose loss or gradient is not finite."""
    return UserError(
        f"the {what} on a batch of {batch.source}: {', '.join(batch.names)}; {helps} may help"
    )


def train_step(
    model: UNISAL,
    batch: Batch,
    weights: Mapping[str, float],
    optimizer: Optimizer,
    grad_clip: float | None,
    factor: float = 1.0,
    joint: JointSteps | None = None,
    amp: MixedPrecision | None = None,
    accumulate: int = 1,
) -> BatchLoss:
    """Update the parameters that the batch's domain uses.

    Parameters that it does not use (modules of other domains, the GRU on images) take no part in
    the computation, so their gradients stay None, and neither decay nor momentum changes them.

    Args:
        model: the network, in training mode.
        batch: the examples.
        weights: those of the loss's summands, by name.
        optimizer: makes the update.
        grad_clip: the largest norm of the gradient; None for no limit.
        factor: what the loss is multiplied by.
        joint: makes the step one of several processes, each of which has a part of the batch.
        amp: what the network computes in; None: float32.
        accumulate: in how many batches, one after the other, the gradient is computed. Only the
            statistics of BatchNorms that follow the batch differ from those of the whole.

    Returns:
        The loss before the update, without the factor; with `joint` that of the whole batch.

    Raises:
        UserError: the loss or its gradient is not finite; no parameter has changed.
        ProcessLost: another process has ended or does not answer.
    """
    amp = amp or MixedPrecision(None, batch.frames.device)
    optimizer.zero_grad(set_to_none=True)
    if accumulate > 1:
        loss = _accumulated(model, batch, weights, factor, joint, amp, accumulate)
    else:
        loss = _backward(model, batch, weights, factor, joint, amp)
    if joint is not None:
        loss = joint.joined(loss, batch)
    amp.unscale(optimizer)
    if grad_clip is not None:
        norm = torch.nn.utils.clip_grad_norm_(model.parameters(), grad_clip)
        if amp.scaler is None and not torch.isfinite(norm):  # before it reaches the weights
            raise _not_finite("gradient is not finite", batch)
    amp.step(optimizer)
    if amp.gives_up:
        what = f"gradient overflowed in fp16 in {amp.skipped_in_a_row} updates in a row, the last"
        raise _not_finite(what, batch, "amp='bf16' or a lower learning rate")
    return loss


def _backward(
    model: UNISAL,
    batch: Batch,
    weights: Mapping[str, float],
    factor: float,
    joint: JointSteps | None,
    amp: MixedPrecision,
) -> BatchLoss:
    """Add the gradient of a batch to the parameters' and return its loss."""
    if joint is None:
        loss = forward_loss(model, batch, weights, amp=amp)
        amp.scaled(factor * loss.total).backward()
        return loss
    loss = forward_loss(model, batch, weights, joint.network(batch), amp)
    with joint.backward():
        amp.scaled(factor * joint.weight(batch) * loss.total).backward()
    return loss


def _accumulated(
    model: UNISAL,
    batch: Batch,
    weights: Mapping[str, float],
    factor: float,
    joint: JointSteps | None,
    amp: MixedPrecision,
    n: int,
) -> BatchLoss:
    """Do the same as `_backward`, but compute at most an `n`-th of the batch at a time."""
    cuts = list(cut(batch, n, 1 if joint is None else joint.processes.n))
    whole = len(batch.frames) if batch.part is None else max(batch.part.n, 1)
    losses: list[Tensor] = []
    names: list[str] = []
    with drawn_as_whole(model, cuts) as each:
        for number, one in enumerate(each, 1):
            assert one.part is not None
            share = one.part.n / whole
            waits = joint is not None and number < len(cuts)
            with joint.without_exchange(one) if joint and waits else nullcontext():
                own = factor * share if joint is None else factor
                loss = _backward(model, one, weights, own, joint, amp)
            names = list(loss.parts)
            losses.append(share * torch.stack([loss.total, *loss.parts.values()]).detach())
    total, *parts = torch.stack(losses).sum(0).unbind()
    return BatchLoss(total, dict(zip(names, parts, strict=True)))


def train_epoch(
    model: UNISAL,
    batches: Iterable[Batch],
    weights: Mapping[str, float],
    optimizer: Optimizer,
    grad_clip: float | None,
    factor: Callable[[str], float],
    before_step: Callable[[], None],
    after_step: Callable[[], None],
    means: LossMeans,
    joint: JointSteps | None = None,
    amp: MixedPrecision | None = None,
    accumulate: int = 1,
) -> None:
    """Train on every batch once.

    Args:
        model: see `train_step`.
        batches: those of the epoch, on the device of the network.
        weights: see `train_step`.
        optimizer: see `train_step`.
        grad_clip: see `train_step`.
        factor: returns the factor of a source's loss.
        before_step: called before each step, to set the learning rate.
        after_step: called after each step; may end the epoch by raising.
        means: collects the losses.
        joint: see `train_step`.
        amp: see `train_step`.
        accumulate: see `train_step`.
    """
    for batch in batches:
        before_step()
        loss_factor = factor(batch.source)
        loss = train_step(
            model, batch, weights, optimizer, grad_clip, loss_factor, joint, amp, accumulate
        )
        means.add(batch.source, loss)
        after_step()


@torch.no_grad()
def validate_epoch(
    model: UNISAL,
    batches: Iterable[Batch],
    weights: Mapping[str, float],
    after_batch: Callable[[LossMeans], None] = lambda _means: None,
    joined: Callable[[LossMeans], LossMeans] = lambda means: means,
    amp: MixedPrecision | None = None,
) -> dict[str, Losses]:
    """Compute the mean losses per source over the examples, in evaluation mode.

    Args:
        model: the network.
        batches: the batches to validate on.
        weights: those of the loss's summands, by name.
        after_batch: called with the means so far; may end the validation by raising.
        joined: returns the means of all batches from those of these, where several processes share
            them.
        amp: what the network computes in; None: float32.

    Returns:
        The mean losses by source.
    """
    model.eval()
    means = LossMeans()
    for batch in batches:
        means.add(
            batch.source, forward_loss(model, batch, weights, amp=amp), times=len(batch.names)
        )
        after_batch(means)
    return joined(means).result()


def joined_means(
    means: LossMeans, order: Sequence[str], counts: Sequence[int], processes: Processes
) -> LossMeans:
    """Return the losses of all batches, in their order, where processes have dealt them.

    Args:
        means: the losses of this process's batches.
        order: the source of each batch, those of the others included.
        counts: the number of rows that each of this process's batches has in `means`.
        processes: those that have dealt the batches; one alone keeps its own.

    Raises:
        ProcessLost: another process has ended or does not answer.
    """
    if processes.n == 1:
        return means
    own = processes.dealt(len(order))
    rows = dict(zip(own, means.by_batch([order[i] for i in own], counts), strict=True))
    of_all = {number: found for each in processes.gathered(rows) for number, found in each.items()}
    joined = LossMeans()
    for number, source in enumerate(order):
        joined.rows[source].extend(of_all[number])
    return joined


def interleaved(
    loaders: Mapping[str, DataLoader[Batch]], order: Sequence[str], device: torch.device
) -> Iterator[Batch]:
    """Yield the loaders' batches on the device, with the sources in the given order."""
    running = {source: iter(loader) for source, loader in loaders.items()}
    for source in order:
        yield next(running[source]).to(device)


def show(bar: Bar, means: LossMeans) -> None:
    """Count a batch on a bar and show the mean loss so far."""
    bar.update()
    bar.note(f"loss={means.overall():.4f}")


class LossMeans:
    """Running means of the losses per source.

    Attributes:
        rows: the losses of every batch so far, by source; in validation a row per example.
    """

    def __init__(self, rows: Mapping[str, list[list[float]]] | None = None) -> None:
        self.rows: dict[str, list[list[float]]] = defaultdict(list, rows or {})

    def add(self, source: str, loss: BatchLoss, times: int = 1) -> None:
        """Add the loss of a batch, with the weight `times`."""
        values = [loss.total.detach(), *(part.detach() for part in loss.parts.values())]
        self.rows[source].extend([torch.stack(values).tolist()] * times)

    def overall(self) -> float:
        """Return the mean loss over all sources."""
        totals = [row[0] for rows in self.rows.values() for row in rows]
        return sum(totals) / len(totals)

    def by_batch(self, sources: Sequence[str], counts: Sequence[int]) -> list[list[list[float]]]:
        """Return the rows of each batch.

        Args:
            sources: the source of each batch, in their order.
            counts: the number of rows of each.
        """
        rest = {source: iter(rows) for source, rows in self.rows.items()}
        return [list(islice(rest[s], n)) for s, n in zip(sources, counts, strict=True)]

    def result(self) -> dict[str, Losses]:
        """Return the mean losses of each source."""
        return {source: self._named(rows) for source, rows in self.rows.items()}

    @staticmethod
    def _named(rows: list[list[float]]) -> Losses:
        """Return the means of the rows' columns by name."""
        columns = list(zip(*rows, strict=True))
        names = ["loss", *(f"loss_{i}" for i in range(len(columns) - 1))]
        return {n: sum(c) / len(c) for n, c in zip(names, columns, strict=True)}
