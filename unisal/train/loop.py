"""The loop that training and fine-tuning share: epochs, each with its validation."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch.utils.data import DataLoader

from unisal.data import Batch
from unisal.data.samplers import choose_batches, interleave, skip_batches
from unisal.errors import UserError
from unisal.model import UNISAL
from unisal.progress import SILENT, Progress
from unisal.train import epoch as passes
from unisal.train.amp import MixedPrecision
from unisal.train.averaging import WeightAverage
from unisal.train.batches import changed_batches
from unisal.train.config import TrainerConfig
from unisal.train.domains import domains, domains_of
from unisal.train.interrupt import DeferredInterrupt
from unisal.train.joint import JointSteps
from unisal.train.optim import lr_factor, make_optimizer, set_lr
from unisal.train.processes import Processes, differing
from unisal.train.randomness import RandomStream
from unisal.train.setup import make_datasets, make_loaders, make_model, place_model
from unisal.train.sources import dataset_of, loss_factor
from unisal.train.teacher import load_teachers
from unisal.train.tracking import Scalars

MAIN_SOURCE = "DHF1K"
"""The source whose validation loss selects the best weights, if it is trained on."""
OPTIONS_OF_PROCESSES = ("num_workers", "prefix", "process_timeout", "tboard")
"""Options in which the processes of a run may differ."""
DIGEST_SHOWN = 12
START_EPOCH = -1
"""The "epoch" of the weights that a run starts from, where they are validated as well."""


class EpochLoop:
    """Trains a network epoch by epoch. A subclass decides what is kept, and where.

    Neither the constructor nor `fit` changes what the caller draws from PyTorch's random
    generators.

    Attributes:
        cfg: the options.
        folder: where scalars and TensorBoard's files go.
        model: the network as it trains.
        best_model: the network to validate and keep: `model`, or the average of its weights.
        epoch: the current epoch, from 0.
        step: the current step of the epoch, from 0.
        best_epoch: the epoch whose weights are the best so far.
        best_val_score: the score of those weights, which is minus a loss.
        random: the random numbers that the run draws from PyTorch.
    """

    def _set_up(
        self, cfg: TrainerConfig, folder: Path, progress: Progress, goes_on: bool = False
    ) -> None:
        """Make data sets, network and optimiser.

        Args:
            cfg: the options.
            folder: where scalars and TensorBoard's files go.
            progress: shows the progress of indexing the data.
            goes_on: whether the state of a checkpoint will be loaded, so that no other weights need
                to be read.
        """
        self.cfg, self.folder = cfg, folder
        self.progress: Progress = SILENT
        self.processes = Processes.current()
        self.device = self.processes.device(cfg.device)
        self.amp = MixedPrecision.named(cfg.amp, self.device)
        self.datasets = {phase: make_datasets(cfg, phase, progress) for phase in ("train", "valid")}
        self.random = RandomStream(cfg.seed)
        with self.random.drawn_from():
            self.model = place_model(make_model(cfg, goes_on), self.device)
        self.average = WeightAverage(self.model, cfg.ema_decay) if cfg.ema_decay else None
        self.optimizer = make_optimizer(
            self.model, self.model.cnn, cfg, fused=self.device.type == "cuda"
        )
        self.teachers = load_teachers(cfg, self.device)
        self.epoch, self.step = 0, 0
        self.means = passes.LossMeans()
        self.best_epoch: int | None = None
        self.best_val_score = -float("inf")
        self.scalars: Scalars | None = None
        self._earlier_scalars: dict[str, dict[str, float]] = {}

    @property
    def best_model(self) -> UNISAL:
        """The network to validate and keep."""
        model = self.average.model if self.average is not None else self.model
        assert isinstance(model, UNISAL)
        return model

    def fit(self, progress: Progress = SILENT) -> None:
        """Train all epochs that are left.

        Ctrl-C stops after the current step and raises KeyboardInterrupt.

        Args:
            progress: shows the batches of each epoch and its losses.
        """
        self.progress = progress
        self._agree()
        if self.processes.is_first:
            self._prepare_folder()
        self.scalars = Scalars(
            self.folder,
            self.cfg.tboard and self.processes.is_first,
            self._earlier_scalars,
        )
        with self.random.drawn_from():
            try:
                with DeferredInterrupt() as interrupt:
                    self._begin(interrupt)
                    while self.epoch < self.cfg.num_epochs and not self._out_of_patience():
                        self._fit_epoch(interrupt)
                    self.processes.gathered(None)  # so that all files are there when any ends
            except KeyboardInterrupt:
                if self.processes.is_first:
                    self._interrupted()
                raise
            finally:
                self.scalars.close()

    # ---- what a subclass fills in -------------------------------------------------------
    def _prepare_folder(self) -> None:
        """Make the folder and save the options."""
        raise NotImplementedError

    def _say_start(self, valid: dict[str, passes.Losses]) -> None:
        """Tell the losses at the start."""

    def _save_best(self, val_loss: float) -> None:
        """Save the weights, which are the best so far."""
        raise NotImplementedError

    def _after_epoch(self) -> None:
        """Finish an epoch after its validation."""

    def _interrupted(self) -> None:
        """Handle Ctrl-C."""

    def _facts(self) -> dict[str, Any]:
        """Return what all processes of the run have to agree in, by what is to be said of it."""
        sizes = {s: len(dataset) for s, dataset in self.datasets["train"].items()}
        digest = hashlib.sha256()
        for value in self.model.state_dict().values():
            digest.update(value.detach().cpu().contiguous().numpy().tobytes())
        state = digest.hexdigest()[:DIGEST_SHOWN]
        options = self.cfg.as_dict().items()
        return {
            **{k: v for k, v in options if k not in OPTIONS_OF_PROCESSES},
            "numbers of examples": sizes,
            "epoch and step": (self.epoch, self.step),
            "weights": state,
        }

    def _agree(self) -> None:
        """Check that all processes begin with the same.

        Raises:
            UserError: one has other data or another checkpoint than the first one.
        """
        if self.processes.n > 1:
            difference = differing(self.processes.gathered(self._facts()))
            if difference is not None:
                raise UserError(
                    f"the processes do not begin with the same: {difference}; each machine has to "
                    "see the same data and the same folder of runs"
                )

    # ---- the start, the end ---------------------------------------------------------------
    def _begin(self, interrupt: DeferredInterrupt) -> None:
        """Validate the weights at the start too, if the options name the domains to train."""
        if not self.cfg.names_domains or self.best_epoch is not None:
            return
        valid = self._run_valid(interrupt, "start valid")
        self._track("valid", valid, START_EPOCH)
        self._keep_if_best(valid, START_EPOCH)
        self._say_start(valid)

    def _keep_best(self, valid: dict[str, passes.Losses]) -> None:
        """Keep the weights if the epoch is past the warm-up and the best so far."""
        # A run shorter than the warm-up still leaves the weights of its last epoch.
        if self.epoch >= min(self.cfg.chkpnt_warmup, self.cfg.num_epochs - 1):
            self._keep_if_best(valid, self.epoch)

    def _keep_if_best(self, valid: dict[str, passes.Losses], epoch: int) -> None:
        scored = [MAIN_SOURCE] if MAIN_SOURCE in valid else list(valid)
        val_loss = sum(valid[source]["loss"] for source in scored) / len(scored)
        if -val_loss > self.best_val_score:
            self.best_val_score, self.best_epoch = -val_loss, epoch
            if self.processes.is_first:
                self._save_best(val_loss)

    def _out_of_patience(self) -> bool:
        """Return whether too many epochs in a row were no better than the best one."""
        if self.cfg.patience is None or self.best_epoch is None:
            return False
        return self.epoch - 1 - self.best_epoch >= self.cfg.patience

    # ---- one epoch ----------------------------------------------------------------------
    def _fit_epoch(self, interrupt: DeferredInterrupt) -> None:
        self._train_epoch(interrupt)
        train = self.means.result()
        if self.cfg.copy_domain:
            self._copy_domain(self.cfg.copy_domain)
        valid = self._run_valid(interrupt, self._title("valid"))
        self._track("train", train, self.epoch)
        self._track("valid", valid, self.epoch)
        self._keep_best(valid)
        losses = [f"{s} {train[s]['loss']:.4f} / {valid[s]['loss']:.4f}" for s in train]
        self.progress.say(f"{self._title('loss train / valid')}: {', '.join(losses)}")
        if self.processes.is_first:
            assert self.scalars is not None
            self.scalars.save()
            self._after_epoch()
        self.epoch, self.step, self.means = self.epoch + 1, 0, passes.LossMeans()

    def _train_epoch(self, interrupt: DeferredInterrupt) -> None:
        """Train the remaining steps of the epoch."""
        loaders = make_loaders(
            self.cfg, self.datasets["train"], self.epoch, self.device, self.processes
        )
        order = self._order(loaders)
        for source, n_done in Counter(order[: self.step]).items():
            skip_batches(loaders[source], n_done)
        cfg = self.cfg
        whole = cfg.trains == "all"
        passes.set_training_mode(
            self.model,
            cnn_eval=cfg.cnn_eval or not whole,
            cnn_trains=whole and self.epoch >= cfg.train_cnn_after,
            modules_of=domains(cfg) if cfg.trains in ("modules", "recurrent") else None,
            recurrent=cfg.trains == "recurrent",
            bn_eval=cfg.bn_eval,
        )

        def before_step() -> None:
            skipped = self.amp.n_skipped
            set_lr(self.optimizer, lr_factor(self.cfg, self.epoch, self.step, len(order), skipped))

        def after_step() -> None:
            self.step += 1
            if self.average is not None and not self.amp.skipped_in_a_row:
                self.average.update(self.model)
            interrupt.check(None if joint is None else joint.is_interrupted)
            passes.show(bar, self.means)

        factors = {source: loss_factor(self.cfg, source) for source in loaders}
        batches = changed_batches(
            passes.interleaved(loaders, order[self.step :], self.device),
            self.cfg,
            order,
            self.epoch,
            self.step,
            self.teachers,
            self.processes,
        )
        title = self._title("train")
        bar_of_epoch = self.progress.bar(title, "batch", len(order), self.step, keep=False)
        with bar_of_epoch as bar, self._joint_steps(interrupt) as joint:
            passes.train_epoch(
                self.model,
                batches,
                self._loss_weights,
                self.optimizer,
                self.cfg.grad_clip,
                factors.__getitem__,
                before_step,
                after_step,
                self.means,
                joint,
                self.amp,
                self.cfg.accumulate,
            )

    def _joint_steps(
        self, interrupt: DeferredInterrupt
    ) -> AbstractContextManager[JointSteps | None]:
        """Return what makes the steps of an epoch those of several processes; None for one."""
        if self.processes.n == 1:
            return nullcontext()
        synced = self.cfg.sync_batchnorm
        return JointSteps(self.model, self.processes, synced, interrupt.is_marked)

    def _run_valid(self, interrupt: DeferredInterrupt, title: str) -> dict[str, passes.Losses]:
        """Validate the best model and return the mean losses by source.

        Several processes deal the batches among themselves. A batch stays whole, so its loss is to
        the last bit what one process computes.
        """
        loaders = make_loaders(
            self.cfg, self.datasets["valid"], self.epoch, self.device, self.processes
        )
        order = self._order(loaders)
        own = self.processes.dealt(len(order))
        for source, loader in loaders.items():
            places = [place for place, of in enumerate(order) if of == source]
            choose_batches(loader, [n for n, place in enumerate(places) if place in own])
        sources = [order[place] for place in own]
        domains_by_source = {source: domains_of(self.cfg, source) for source in loaders}
        counts: list[int] = []

        def batches() -> Iterator[Batch]:
            for batch in passes.interleaved(loaders, sources, self.device):
                domains = domains_by_source[batch.source]
                counts.append(len(batch.names) * len(domains))
                yield from (replace(batch, domain=domain) for domain in domains)

        def joined(means: passes.LossMeans) -> passes.LossMeans:
            return passes.joined_means(means, order, counts, self.processes)

        n_batches = sum(len(domains_by_source[source]) for source in sources)

        def after_batch(means: passes.LossMeans) -> None:
            interrupt.check()
            passes.show(bar, means)

        with self.progress.bar(title, "batch", n_batches, keep=False) as bar:
            return passes.validate_epoch(
                self.best_model, batches(), self._loss_weights, after_batch, joined, self.amp
            )

    @property
    def _loss_weights(self) -> dict[str, float]:
        """Return the weights of the loss's summands by name."""
        return dict(zip(self.cfg.loss_metrics, self.cfg.loss_weights, strict=True))

    def _order(self, loaders: dict[str, DataLoader[Batch]]) -> list[str]:
        """Return the source of each batch of the epoch."""
        n_batches = {source: len(loader) for source, loader in loaders.items()}
        return interleave(n_batches, self.cfg.shuffle_datasets, [self.cfg.seed, self.epoch])

    def _copy_domain(self, domain: str) -> None:
        for target in set(self.model.sources) - set(domains(self.cfg)):
            for model in {self.model, self.best_model}:
                model.copy_domain(domain, target)

    def _track(self, phase: str, losses: dict[str, passes.Losses], epoch: int) -> None:
        assert self.scalars is not None
        for source, values in losses.items():
            for name, value in values.items():
                tag = f"{dataset_of(self.cfg, source).scalar_prefix}/{name}/{phase}"
                self.scalars.add(tag, value, epoch)
        if phase == "train":
            lr = self.optimizer.param_groups[-1]["lr"]
            self.scalars.add("lr", lr, epoch)

    def _title(self, phase: str) -> str:
        """Return the title of a phase's progress bar."""
        return f"epoch {self.epoch + 1}/{self.cfg.num_epochs} {phase}"
