"""Training runs, from their options to their folder."""

from __future__ import annotations

import json
import logging
from datetime import datetime
from pathlib import Path
from typing import Any

from unisal.config import RUN_PRESETS, load_json, run_dir, save_json, to_json, train_dir
from unisal.errors import UserError, cause
from unisal.model.weights import load_state
from unisal.progress import SILENT, Progress
from unisal.train import epoch as passes
from unisal.train.checkpoint import (
    LATEST_CHECKPOINT,
    epoch_file,
    newest_checkpoint,
    save_best,
    save_checkpoint,
)
from unisal.train.config import TrainerConfig
from unisal.train.domains import domains, own_presets, with_new_domains
from unisal.train.loop import EpochLoop
from unisal.train.optim import load_optimizer
from unisal.train.processes import Processes, shared_states
from unisal.train.randomness import random_states
from unisal.train.setup import kept_options
from unisal.train.sources import data_records, refuse_other_data, saved_options

CONFIG = "Trainer.json"
CHANGEABLE_OPTIONS = ("num_workers", "device", "tboard", "process_timeout")
"""Options that may change when a run is continued: they do not affect the weights."""

log = logging.getLogger(__name__)


class Trainer(EpochLoop):
    """Trains UNISAL on one or more sources: `Trainer(**options).fit()`.

    `Trainer.resume(train_id).fit()` continues a run that was stopped.

    Args:
        progress: shows the progress of indexing the data.
        options: see `unisal.train.config.TrainerConfig`.

    Attributes:
        folder: the run's folder, `$TRAIN_DIR/<prefix>_<suffix>`; for other attributes see
            `EpochLoop`.

    Raises:
        UserError: an option is wrong, data is missing, or the folder already holds a run.
    """

    def __init__(self, *, progress: Progress = SILENT, **options: Any) -> None:
        cfg = with_new_domains(TrainerConfig.from_dict(options))
        now = datetime.now().strftime("%Y-%m-%d_%H%M%S")
        folder = _folder(cfg.prefix or Processes.current().gathered(now)[0], cfg)
        if cfg.new_instance and (folder / CONFIG).exists():
            raise UserError(
                f"{folder} already holds a run; choose another prefix or suffix, "
                f"or continue it with --resume={folder.name}"
            )
        self._set_up(cfg, folder, progress)

    @classmethod
    def begun(cls, **options: Any) -> str | None:
        """Return the name of the run that was begun with these options; None if there is none.

        Args:
            options: see `unisal.train.config.TrainerConfig`; `prefix` has to be among them.

        Raises:
            UserError: an option is wrong.
        """
        cfg = with_new_domains(TrainerConfig.from_dict(options))
        assert cfg.prefix
        path = _folder(cfg.prefix, cfg) / CONFIG
        if not path.is_file():
            return None
        before, now = load_json(path), json.loads(to_json(saved_options(cfg)))
        same = (before.get(k) == v for k, v in now.items() if k not in CHANGEABLE_OPTIONS)
        return path.parent.name if all(same) else None

    @classmethod
    def resume(cls, train_id: str, *, progress: Progress = SILENT, **changes: Any) -> Trainer:
        """Make the trainer of a run that was stopped, at its newest readable checkpoint.

        On a CPU the run ends with exactly the weights that it would have had without the stop. A
        run without any checkpoint starts again.

        Args:
            train_id: name of the run's folder.
            progress: shows the progress of indexing the data.
            changes: `num_workers`, `device`, `tboard` or `process_timeout`; everything else stays
                as it was.

        Raises:
            UserError: there is no such run, another option is given, or no checkpoint can be read.
        """
        fixed = [name for name in changes if name not in CHANGEABLE_OPTIONS]
        if fixed:
            raise UserError(
                f"{', '.join(fixed)} cannot be changed when a run is continued; "
                f"only {', '.join(CHANGEABLE_OPTIONS)} can"
            )
        folder = run_dir(train_id)
        options = {**load_json(folder / CONFIG), **changes, "new_instance": False}
        trainer = cls.__new__(cls)
        checkpoint = newest_checkpoint(folder)
        cfg = TrainerConfig.from_dict(options)
        trainer._set_up(cfg, folder, progress, goes_on=checkpoint is not None)
        refuse_other_data(folder, trainer.datasets["train"])
        if checkpoint is not None:
            try:
                trainer._restore(checkpoint)
            except UserError:
                raise
            except Exception as error:  # what is odd in a file fails anywhere, in many ways
                raise UserError(
                    f"the checkpoint in {folder} holds something odd: {cause(error)}; move "
                    f"{LATEST_CHECKPOINT} away to go on from an older one"
                ) from error
        if trainer.processes.is_first:
            trainer._save_parts(only_missing=True)  # the run may have been killed at its very start
        return trainer

    @property
    def train_id(self) -> str:
        """The name of the run's folder."""
        return self.folder.name

    @property
    def n_trained(self) -> int:
        """How many of the network's numbers are trained, those that start later included.

        Pictures leave out the recurrent part, as do domains that take videos frame by frame, and no
        domain uses the modules of another.
        """
        trained = domains(self.cfg)
        own = {d: self.model.domain_keys(d) for d in self.model.sources}
        of_trained = {key for domain in trained for key in own[domain]}
        unused = {key for keys in own.values() for key in keys} - of_trained
        skipped: tuple[str, ...] = () if self.cfg.trains == "all" else ("cnn.",)
        is_video = any(dataset.is_video for dataset in self.datasets["train"].values())
        if not is_video or set(trained) <= set(self.model.image_domains):
            skipped += ("rnn.", "post_rnn.")
        shared = self.model.recurrent_keys() if self.cfg.trains == "recurrent" else set()
        return sum(
            parameter.numel()
            for name, parameter in self.model.named_parameters()
            if name not in unused
            and not name.startswith(skipped)
            and (self.cfg.trains in ("all", "decoder") or name in of_trained | shared)
        )

    @property
    def n_parameters(self) -> int:
        """How many numbers the network has that training can change."""
        return sum(parameter.numel() for parameter in self.model.parameters())

    def fit(self, progress: Progress = SILENT) -> None:
        """Train all epochs that are left.

        The best weights, checkpoints and scalars are written to the folder.

        Ctrl-C saves a checkpoint after the current step and raises KeyboardInterrupt.

        Args:
            progress: shows the batches of each epoch and its losses.

        Raises:
            UserError: an example cannot be read, or a loss is not finite.
        """
        super().fit(progress)

    # ---- what is kept -------------------------------------------------------------------
    def _say_start(self, valid: dict[str, passes.Losses]) -> None:
        losses = ", ".join(f"{source} {values['loss']:.4f}" for source, values in valid.items())
        self.progress.say(f"start: loss valid: {losses}")

    def _save_best(self, val_loss: float) -> None:
        assert self.best_epoch is not None
        save_best(self.folder, self.best_model, self.best_epoch, val_loss)

    def _after_epoch(self) -> None:
        checkpoint = self._checkpoint(finished=True)
        if self._checkpoint_due():
            save_checkpoint(epoch_file(self.folder, self.epoch), checkpoint)
        save_checkpoint(self.folder / LATEST_CHECKPOINT, checkpoint)

    def _interrupted(self) -> None:
        save_checkpoint(self.folder / LATEST_CHECKPOINT, self._checkpoint(finished=False))
        self.progress.say(f"interrupted; continue with --resume={self.train_id}")

    def _checkpoint_due(self) -> bool:
        """Return whether the epoch ends with a checkpoint of its own."""
        since = self.epoch - self.cfg.chkpnt_warmup
        regular = since >= 0 and since % self.cfg.chkpnt_epochs == 0
        return regular or self.epoch == self.cfg.num_epochs - 1

    def _checkpoint(self, finished: bool) -> dict[str, Any]:
        """Return everything that the run needs to continue, after an epoch or in the middle."""
        assert self.scalars is not None
        content = {
            "model_state_dict": self.model.state_dict(),
            "optimizer_state_dict": self.optimizer.state_dict(),
            "epoch": self.epoch,
            "best_epoch": self.best_epoch,
            "best_val_score": self.best_val_score,
            "all_scalars": self.scalars.values,
            "random_states": random_states(),
        }
        if not finished:
            content["unfinished"] = {"step": self.step, "losses": dict(self.means.rows)}
        if self.average is not None:
            content["average_state_dict"] = self.average.model.state_dict()
            content["average_steps"] = self.average.steps
        if scaler := self.amp.state_dict():
            content["scaler_state_dict"] = scaler
        return content

    def _restore(self, content: dict[str, Any]) -> None:
        origin = f"the checkpoint in {self.folder}"
        load_state(self.model, content["model_state_dict"], origin)
        load_optimizer(self.optimizer, content["optimizer_state_dict"])
        if self.average is not None:
            average = content.get("average_state_dict", content["model_state_dict"])
            load_state(self.average.model, average, origin)
            self.average.steps = content.get("average_steps", 0)
        self.amp.load_state_dict(content.get("scaler_state_dict") or {})
        self.epoch = content["epoch"] + 1
        if unfinished := content.get("unfinished"):
            self.epoch, self.step = content["epoch"], unfinished["step"]
            self.means = passes.LossMeans(unfinished["losses"])
        self.best_epoch = content.get("best_epoch")
        best = content.get("best_val_score")
        self.best_val_score = -float("inf") if best is None else float(best)
        self._earlier_scalars = content.get("all_scalars") or {}
        if "random_states" in content:
            self.random.states = shared_states(content["random_states"], self.processes)
            with self.random.drawn_from():  # odd states fail here, before any work
                pass
        else:
            log.warning("%s holds no random states: dropout continues with others", origin)

    def _prepare_folder(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        if self.cfg.new_instance:
            save_json(self.folder / CONFIG, saved_options(self.cfg))
            self._save_parts()

    def _save_parts(self, only_missing: bool = False) -> None:
        """Save the configuration of the network and the datasets."""
        parts: dict[str, Any] = {"UNISAL": self.model.config}
        for dataset in self.datasets["train"].values():
            parts[type(dataset).__name__] = kept_options(dataset)
        if self.cfg.names_domains:
            parts[RUN_PRESETS.removesuffix(".json")] = own_presets(self.cfg, self.datasets["train"])
        files = {f"{name}.json": config for name, config in parts.items()}
        for name, config in (files | data_records(self.datasets["train"])).items():
            path = self.folder / name
            if not (only_missing and path.exists()):
                save_json(path, config)


def _folder(prefix: str, cfg: TrainerConfig) -> Path:
    """Return the folder of a run with a prefix."""
    return train_dir() / f"{prefix}_{cfg.suffix}"
