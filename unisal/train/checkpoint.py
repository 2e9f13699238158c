"""What a run leaves on disk: best weights and checkpoints, never half-written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from unisal.files import write_atomically
from unisal.model.weights import BEST


def save_weights(path: Path, model: torch.nn.Module) -> None:
    """Write a plain state dict."""
    write_atomically(path, lambda temporary: torch.save(model.state_dict(), temporary))


def save_best(folder: Path, model: torch.nn.Module, epoch: int, val_loss: float) -> None:
    """Write `weights_best.pth` and, as text, the epoch and its validation loss."""
    save_weights(folder / BEST, model)
    write_atomically(folder / "best_epoch.dat", lambda file: file.write_text(f"{epoch}\n"))
    write_atomically(folder / "best_val_loss.dat", lambda file: file.write_text(f"{val_loss}\n"))


def save_checkpoint(folder: Path, epoch: int, content: dict[str, Any]) -> None:
    """Write `chkpnt_epoch%04d.pth`."""
    path = folder / f"chkpnt_epoch{epoch:04d}.pth"
    write_atomically(path, lambda temporary: torch.save(content, temporary))
