"""Fine-tuning a run on MIT1003, from options to weights (docs/behaviour.md, "Training")."""

from __future__ import annotations

import filecmp
import json
import shutil
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

from unisal.config import (
    FINE_TUNED,
    find_weights,
    load_json,
    run_dir,
    save_json,
    to_json,
    writable_run_dir,
)
from unisal.data.mit1003 import FINE_TUNING_RECORD
from unisal.errors import UserError
from unisal.files import write_atomically
from unisal.model.weights import load_state, read_state
from unisal.progress import SILENT, Progress
from unisal.train import epoch as passes
from unisal.train.checkpoint import save_weights
from unisal.train.finetune_config import SOURCE, FineTuneConfig
from unisal.train.loop import START_EPOCH, EpochLoop
from unisal.train.setup import kept_options

WEIGHTS = FINE_TUNED[0]
CONFIG = "FineTuner.json"
OPTIONS_WITHOUT_EFFECT = (
    *("pretrained_train_id", "num_workers", "device", "tboard", "overwrite"),
    "process_timeout",
)
"""Options that do not affect the weights. The run to start from is known by its folder."""


class FineTuner(EpochLoop):
    """Fine-tunes the best weights of a run on MIT1003: `FineTuner(**options).fit()`.

    The weights with the lowest validation loss, including those at the start, are written to
    `ft_mit1003.pth` in the run's folder, and `ft_mit1003.json` beside them says how they were made.
    Copies of both are kept with the logs, so that fine-tuning again loses nothing.

    Args:
        progress: shows the progress of indexing the data.
        options: see `unisal.train.finetune_config.FineTuneConfig`.

    Attributes:
        run: the run's folder.
        folder: the folder of the logs, in the run's folder; for other attributes see `EpochLoop`.
        start_loss: validation loss before the first epoch, once `fit` has measured it.

    Raises:
        UserError: an option is wrong, the run or data is missing, or weights would be lost.
    """

    def __init__(self, *, progress: Progress = SILENT, **options: Any) -> None:
        self.options = FineTuneConfig.from_dict(options)
        self.run = run_dir(self.train_id)
        self.start = find_weights(self.train_id)
        self.start_loss: float | None = None
        self._has_saved = False
        folder = self.run / self.options.folder_name
        if not self.options.overwrite:
            self._refuse_to_lose_weights(folder)
        cfg = self.options.trainer_config(load_json(self.run / "UNISAL.json"))
        self._set_up(cfg, folder, progress)

    @property
    def train_id(self) -> str:
        """The name of the run's folder."""
        return self.options.train_id

    def fit(self, progress: Progress = SILENT) -> None:
        """Train all epochs; write the best weights, a record of them, and scalars.

        Ctrl-C stops after the current step and raises KeyboardInterrupt; the best weights of
        earlier epochs are kept.

        Args:
            progress: shows the batches of each epoch and its losses.

        Raises:
            UserError: a folder cannot be written, or a loss is not finite.
        """
        try:
            super().fit(progress)
        except UserError as error:
            raise UserError(f"{error}; {self._kept()}" if self._has_saved else error) from None
        if self.best_epoch == START_EPOCH:
            load_state(self.model, read_state(self.start), str(self.start))
            if self.processes.is_first:
                self._save()
        self.progress.say(f"{self._fold()}: valid KLD {self._change()}; {self._kept()}")

    # ---- what is kept -------------------------------------------------------------------
    def _prepare_folder(self) -> None:
        self.run = writable_run_dir(self.train_id)
        self.folder = self.run / self.options.folder_name
        try:
            self.folder.mkdir(exist_ok=True)
            save_json(self.folder / CONFIG, self.options.as_dict())
            with tempfile.TemporaryFile(dir=self.run):
                pass
        except OSError as error:
            raise UserError(
                f"{error.filename or self.run} cannot be written ({error.strerror}); fine-tuned "
                f"weights go beside those they start from: copy {self.run} to a folder that "
                "can be written and name the folder above it in TRAIN_DIR"
            ) from None

    def _say_start(self, valid: dict[str, passes.Losses]) -> None:
        self.start_loss = valid[SOURCE]["loss"]
        self.progress.say(f"start, {self._fold()}: valid KLD {self.start_loss:.4f}")

    def _save_best(self, _val_loss: float) -> None:
        if self.best_epoch != START_EPOCH:
            self._save()

    def _interrupted(self) -> None:
        self.progress.say(f"interrupted; {self._kept()}")

    def _save(self) -> None:
        record = {
            "folder": self.folder.name,
            "x_val_step": self.options.x_val_step,
            "best_epoch": self.best_epoch,
            "valid_kld": -self.best_val_score,
            "start_valid_kld": self.start_loss,
            "options": self.options.as_dict(),
        }
        save_weights(self.folder / WEIGHTS, self.model)
        save_json(self.folder / FINE_TUNING_RECORD, record)
        for name in (WEIGHTS, FINE_TUNING_RECORD):
            write_atomically(self.run / name, partial(shutil.copyfile, self.folder / name))
        dataset = self.datasets["train"][SOURCE]  # so that scoring takes the same fold
        save_json(self.run / f"{type(dataset).__name__}.json", kept_options(dataset))
        self._has_saved = True

    def _refuse_to_lose_weights(self, folder: Path) -> None:
        """Refuse to replace weights, unless they were made with the same options."""
        path, record = self.run / WEIGHTS, self.run / FINE_TUNING_RECORD
        made_in = load_json(record).get("folder") if record.is_file() else None
        is_kept = isinstance(made_in, str) and made_in and (self.run / made_in / WEIGHTS).is_file()
        if path.is_file() and not (is_kept or self._has_copy(path)):
            raise UserError(
                f"{path} would be lost: no fine-tuning of this run keeps a copy of it; move it "
                "away, or replace it with --overwrite=True"
            )
        if not (folder / FINE_TUNING_RECORD).is_file():
            return
        made_with = load_json(folder / FINE_TUNING_RECORD).get("options")
        if not isinstance(made_with, dict):  # damaged: no option is known to be the same
            made_with = {}
        ours = json.loads(to_json(self.options.as_dict()))
        changed = [
            name
            for name in ours
            if name not in OPTIONS_WITHOUT_EFFECT and made_with.get(name) != ours[name]
        ]
        if changed:
            raise UserError(
                f"{folder} holds weights fine-tuned with other options ({', '.join(changed)}); "
                "move it away, or replace them with --overwrite=True"
            )

    def _has_copy(self, weights: Path) -> bool:
        """Return whether a fine-tuning of the run, even one killed before its record, kept them."""
        copies = self.run.glob(f"*/{WEIGHTS}")
        return any(filecmp.cmp(weights, copy, shallow=False) for copy in copies)

    # ---- messages -----------------------------------------------------------------------
    def _fold(self) -> str:
        """Name the data that is trained on."""
        step = self.options.x_val_step
        return f"{SOURCE}, all images" if step is None else f"{SOURCE} fold {step}"

    def _change(self) -> str:
        """Give the validation loss before and after."""
        return f"{self.start_loss:.4f} before, {-self.best_val_score:.4f} after"

    def _kept(self) -> str:
        """Say what `ft_mit1003.pth` holds now."""
        path = self.run / WEIGHTS
        if not self._has_saved:
            return f"no epoch was better than the start so far, and {path} is not touched"
        if self.best_epoch == START_EPOCH:
            return (
                f"no epoch was better than the start, whose weights are in {path}; a lower "
                "learning rate may help"
            )
        assert self.best_epoch is not None
        return f"{path} holds the weights of epoch {self.best_epoch + 1}"
