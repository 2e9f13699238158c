"""A training run from its options to its folder (spec 03)."""

from __future__ import annotations

import os
from datetime import datetime
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader
from tqdm import tqdm

from unisal.config import build, save_json, train_dir
from unisal.data import DATASETS, Batch, SaliencyDataset
from unisal.data.samplers import interleave, make_loader
from unisal.device import pick_device
from unisal.errors import UserError
from unisal.model import UNISAL
from unisal.model.weights import BEST
from unisal.train import epoch as passes
from unisal.train.averaging import WeightAverage
from unisal.train.checkpoint import save_best, save_checkpoint
from unisal.train.config import TrainerConfig
from unisal.train.optim import lr_factor, make_optimizer, set_lr
from unisal.train.tracking import Scalars

MAIN_SOURCE = "DHF1K"
"""The source whose validation loss picks the best weights, where it is trained."""


class Trainer:
    """Trains UNISAL on one or more sources. `Trainer(**options).fit()`.

    Args:
        options: see `unisal.train.config.TrainerConfig`.

    Attributes:
        folder: the run's folder, `$TRAIN_DIR/<prefix>_<suffix>`.
        model: the network as it trains.
        best_model: the network to validate and keep: `model`, or the average of its weights.

    Raises:
        UserError: an option is wrong, data is missing, or the folder holds a run already.
    """

    def __init__(self, **options: Any) -> None:
        self.cfg = TrainerConfig.from_dict(options)
        self.device = pick_device(self.cfg.device)
        prefix = self.cfg.prefix or datetime.now().strftime("%Y-%m-%d_%H%M%S")
        self.folder: Path = train_dir() / f"{prefix}_{self.cfg.suffix}"
        if self.cfg.new_instance and (self.folder / BEST).exists():
            raise UserError(f"{self.folder} holds a finished run; choose another prefix or suffix")
        self.datasets = {phase: self._datasets(phase) for phase in ("train", "valid")}

        torch.manual_seed(self.cfg.seed)
        model_cfg = {"sources": self.cfg.data_sources, **self.cfg.model_cfg}
        self.model = build(UNISAL, model_cfg).to(self.device)
        self._check_sources()
        self.average = WeightAverage(self.model, self.cfg.ema_decay) if self.cfg.ema_decay else None
        self.optimizer = make_optimizer(self.model, self.model.cnn, self.cfg)
        self.epoch = 0
        self.best_epoch: int | None = None
        self.best_val_score = -float("inf")
        self.scalars: Scalars | None = None

    @property
    def train_id(self) -> str:
        return self.folder.name

    @property
    def best_model(self) -> UNISAL:
        model = self.average.model if self.average is not None else self.model
        assert isinstance(model, UNISAL)
        return model

    def fit(self) -> None:
        """Train all epochs; leaves the best weights, checkpoints and scalars in the folder."""
        self._prepare_folder()
        self.scalars = Scalars(self.folder, self.cfg.tboard)
        try:
            for epoch in range(self.epoch, self.cfg.num_epochs):
                self.epoch = epoch
                self._fit_epoch()
        finally:
            self.scalars.close()

    def _fit_epoch(self) -> None:
        train = self._train_epoch()
        if self.cfg.copy_domain:
            self._copy_domain(self.cfg.copy_domain)
        valid = self._run_valid()
        self._track("train", train)
        self._track("valid", valid)
        self._keep_best(valid)
        assert self.scalars is not None
        self.scalars.save()
        if self._checkpoint_due():
            save_checkpoint(self.folder, self.epoch, self._checkpoint())
        losses = [
            f"{source} {train[source]['loss']:.4f} / {valid[source]['loss']:.4f}"
            for source in train
        ]
        tqdm.write(f"{self._title('loss train / valid')}: {', '.join(losses)}")

    # ---- one epoch ----------------------------------------------------------------------
    def _train_epoch(self) -> dict[str, passes.Losses]:
        loaders = self._loaders("train")
        order = self._order(loaders)
        cnn_trains = self.epoch >= self.cfg.train_cnn_after
        passes.set_training_mode(self.model, self.cfg.cnn_eval, cnn_trains)

        def before_step(step: int) -> None:
            set_lr(self.optimizer, lr_factor(self.cfg, self.epoch, step, len(order)))

        def after_step() -> None:
            if self.average is not None:
                self.average.update(self.model)

        batches = passes.interleaved(loaders, order, self.device)
        return passes.train_epoch(
            self.model,
            passes.with_progress(batches, len(order), self._title("train")),
            self._loss_weights,
            self.optimizer,
            self.cfg.grad_clip,
            self.cfg.loss_factor,
            before_step,
            after_step,
        )

    def _run_valid(self) -> dict[str, passes.Losses]:
        loaders = self._loaders("valid")
        order = self._order(loaders)
        batches = passes.interleaved(loaders, order, self.device)
        shown = passes.with_progress(batches, len(order), self._title("valid"))
        return passes.validate_epoch(self.best_model, shown, self._loss_weights)

    @property
    def _loss_weights(self) -> dict[str, float]:
        return dict(zip(self.cfg.loss_metrics, self.cfg.loss_weights, strict=True))

    def _order(self, loaders: dict[str, DataLoader[Batch]]) -> list[str]:
        n_batches = {source: len(loader) for source, loader in loaders.items()}
        return interleave(n_batches, self.cfg.shuffle_datasets, [self.cfg.seed, self.epoch])

    def _copy_domain(self, source: str) -> None:
        for target in set(self.model.sources) - set(self.cfg.data_sources):
            for model in {self.model, self.best_model}:
                model.copy_domain(source, target)

    # ---- what is kept -------------------------------------------------------------------
    def _track(self, phase: str, losses: dict[str, passes.Losses]) -> None:
        assert self.scalars is not None
        for source, values in losses.items():
            for name, value in values.items():
                tag = f"{DATASETS[source].scalar_prefix}/{name}/{phase}"
                self.scalars.add(tag, value, self.epoch)
        if phase == "train":
            lr = self.optimizer.param_groups[-1]["lr"]
            self.scalars.add("lr", lr, self.epoch)

    def _keep_best(self, valid: dict[str, passes.Losses]) -> None:
        """Keep the weights if the epoch is past the warm-up and the best so far."""
        # A run shorter than the warm-up still leaves the weights of its last epoch.
        if self.epoch < min(self.cfg.chkpnt_warmup, self.cfg.num_epochs - 1):
            return
        scored = [MAIN_SOURCE] if MAIN_SOURCE in valid else list(valid)
        val_loss = sum(valid[source]["loss"] for source in scored) / len(scored)
        if -val_loss > self.best_val_score:
            self.best_val_score, self.best_epoch = -val_loss, self.epoch
            save_best(self.folder, self.best_model, self.epoch, val_loss)

    def _checkpoint_due(self) -> bool:
        since = self.epoch - self.cfg.chkpnt_warmup
        regular = since >= 0 and since % self.cfg.chkpnt_epochs == 0
        return regular or self.epoch == self.cfg.num_epochs - 1

    def _checkpoint(self) -> dict[str, Any]:
        assert self.scalars is not None
        content = {
            "model_state_dict": self.model.state_dict(),
            "optimizer_state_dict": self.optimizer.state_dict(),
            "epoch": self.epoch,
            "best_epoch": self.best_epoch,
            "best_val_score": self.best_val_score,
            "all_scalars": self.scalars.values,
        }
        if self.average is not None:
            content["average_state_dict"] = self.average.model.state_dict()
            content["average_steps"] = self.average.steps
        return content

    # ---- set-up -------------------------------------------------------------------------
    def _datasets(self, phase: str) -> dict[str, SaliencyDataset]:
        unknown = [s for s in self.cfg.data_sources if s not in DATASETS]
        if unknown:
            raise UserError(
                f"data_sources: {', '.join(unknown)} cannot be trained on; "
                f"known are {', '.join(DATASETS)}"
            )
        return {
            source: build(
                DATASETS[source],
                self.cfg.dataset_options(source),
                phase=phase,
                seed=(self.cfg.seed, number),
            )
            for number, source in enumerate(self.cfg.data_sources)
        }

    def _check_sources(self) -> None:
        for option, sources in (
            ("data_sources", self.cfg.data_sources),
            ("copy_domain", (self.cfg.copy_domain,) if self.cfg.copy_domain else ()),
        ):
            strange = [s for s in sources if s not in self.model.sources]
            if strange:
                raise UserError(
                    f"{option}: {', '.join(strange)} is not among the network's sources "
                    f"{self.model.sources}"
                )

    def _loaders(self, phase: str) -> dict[str, DataLoader[Batch]]:
        workers = min(self.cfg.num_workers, os.cpu_count() or 1)
        loaders = {}
        for source, dataset in self.datasets[phase].items():
            dataset.epoch = self.epoch
            loaders[source] = make_loader(
                dataset, self.cfg.batch_size_of(source), workers, self.device.type == "cuda"
            )
        return loaders

    def _prepare_folder(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        if not self.cfg.new_instance:
            return
        save_json(self.folder / "Trainer.json", self.cfg.as_dict())
        save_json(self.folder / "UNISAL.json", self.model.config)
        for dataset in self.datasets["train"].values():
            options = {k: v for k, v in dataset.config.items() if k not in ("phase", "seed")}
            save_json(self.folder / f"{type(dataset).__name__}.json", options)

    def _title(self, phase: str) -> str:
        return f"epoch {self.epoch + 1}/{self.cfg.num_epochs} {phase}"
