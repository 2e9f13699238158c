"""One step, and one pass over the data, as free functions (spec 03, "One epoch")."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import torch
from torch.optim import Optimizer
from torch.utils.data import DataLoader
from tqdm import tqdm

from unisal.data.base import Batch
from unisal.errors import UserError
from unisal.model import UNISAL
from unisal.train.losses import BatchLoss, batch_loss

Losses = dict[str, float]
"""`loss` and its summands `loss_0`, `loss_1`, ... in the order of the configuration."""


def set_training_mode(model: UNISAL, cnn_eval: bool, cnn_trains: bool) -> None:
    """Training mode; the encoder's BatchNorms and its parameters as told."""
    model.train()
    model.cnn.train(not cnn_eval)
    model.cnn.requires_grad_(cnn_trains)


def forward_loss(model: UNISAL, batch: Batch, weights: Mapping[str, float]) -> BatchLoss:
    """-> the loss of a batch, predicted at the size of its targets.

    Raises:
        UserError: the loss is not finite; names the source and the examples.
    """
    log_density = model(
        batch.frames,
        target_size=batch.target_size,
        source=batch.domain,
        static=not batch.is_video,
    )
    loss = batch_loss(log_density, batch.maps, batch.fixations, weights)
    if not torch.isfinite(loss.total):
        parts = ", ".join(f"{name} {value.item():g}" for name, value in loss.parts.items())
        raise _not_finite(f"loss is not finite ({parts})", batch)
    return loss


def _not_finite(what: str, batch: Batch) -> UserError:
    return UserError(
        f"the {what} on a batch of {batch.source}: {', '.join(batch.names)}; "
        "a lower learning rate may help"
    )


def train_step(
    model: UNISAL,
    batch: Batch,
    weights: Mapping[str, float],
    optimizer: Optimizer,
    grad_clip: float | None,
    factor: float = 1.0,
) -> BatchLoss:
    """One update of what the batch's source uses.

    What it does not use (modules of other sources, the GRU on images) is not part of the
    computation, so its gradients stay None: no decay and no momentum touches it.
    """
    optimizer.zero_grad(set_to_none=True)
    loss = forward_loss(model, batch, weights)
    (factor * loss.total).backward()
    if grad_clip is not None:
        norm = torch.nn.utils.clip_grad_norm_(model.parameters(), grad_clip)
        if not torch.isfinite(norm):  # before it reaches the weights
            raise _not_finite("gradient is not finite", batch)
    optimizer.step()
    return loss


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
) -> None:
    """Train on every batch once; its losses go into `means`.

    `before_step()` sets the learning rate, `after_step()` sees the new weights and may end the
    epoch by raising, `factor(source)` multiplies a source's loss.
    """
    for batch in batches:
        before_step()
        loss = train_step(model, batch, weights, optimizer, grad_clip, factor(batch.source))
        means.add(batch.source, loss)
        _show(batches, means)
        after_step()


@torch.no_grad()
def validate_epoch(
    model: UNISAL,
    batches: Iterable[Batch],
    weights: Mapping[str, float],
    after_batch: Callable[[], None] = lambda: None,
) -> dict[str, Losses]:
    """-> mean losses per source over the examples, in evaluation mode."""
    model.eval()
    means = LossMeans()
    for batch in batches:
        means.add(batch.source, forward_loss(model, batch, weights), times=len(batch.names))
        _show(batches, means)
        after_batch()
    return means.result()


def interleaved(
    loaders: Mapping[str, DataLoader[Batch]], order: Sequence[str], device: torch.device
) -> Iterator[Batch]:
    """The loaders' batches on the device, the sources in the given order."""
    running = {source: iter(loader) for source, loader in loaders.items()}
    for source in order:
        yield next(running[source]).to(device)


def with_progress(
    batches: Iterator[Batch], total: int, title: str, done: int = 0
) -> Iterable[Batch]:
    """A bar with rate and time left; silent where the output is no terminal."""
    return tqdm(
        batches, total=total, initial=done, desc=title, unit="batch", leave=False, disable=None
    )


def _show(batches: Iterable[Batch], means: LossMeans) -> None:
    if isinstance(batches, tqdm):
        batches.set_postfix({"loss": f"{means.overall():.4f}"}, refresh=False)


class LossMeans:
    """Running means of the losses per source.

    Attributes:
        rows: the losses of every batch so far, by source; in validation a row per example.
    """

    def __init__(self, rows: Mapping[str, list[list[float]]] | None = None) -> None:
        self.rows: dict[str, list[list[float]]] = defaultdict(list, rows or {})

    def add(self, source: str, loss: BatchLoss, times: int = 1) -> None:
        values = [loss.total.detach(), *(part.detach() for part in loss.parts.values())]
        self.rows[source].extend([torch.stack(values).tolist()] * times)

    def overall(self) -> float:
        totals = [row[0] for rows in self.rows.values() for row in rows]
        return sum(totals) / len(totals)

    def result(self) -> dict[str, Losses]:
        return {source: self._named(rows) for source, rows in self.rows.items()}

    @staticmethod
    def _named(rows: list[list[float]]) -> Losses:
        columns = list(zip(*rows, strict=True))
        names = ["loss", *(f"loss_{i}" for i in range(len(columns) - 1))]
        return {n: sum(c) / len(c) for n, c in zip(names, columns, strict=True)}
