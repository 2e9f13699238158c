"""Files that a run leaves on disk: the best weights and checkpoints, never half-written."""

from __future__ import annotations

import io
import logging
from collections.abc import Mapping
from pathlib import Path
from types import NoneType
from typing import Any

import torch

from unisal.config import BEST
from unisal.errors import UserError
from unisal.files import natural_order, write_atomically
from unisal.model.weights import load_tensors

LATEST_CHECKPOINT = "chkpnt_latest.pth"
"""The checkpoint that is written after every epoch and when a run is interrupted."""
REQUIRED = ("model_state_dict", "optimizer_state_dict", "epoch")
KINDS: dict[str, tuple[type, ...]] = {
    "model_state_dict": (Mapping,),
    "optimizer_state_dict": (Mapping,),
    "epoch": (int,),
    "best_epoch": (int, NoneType),
    "best_val_score": (int, float, torch.Tensor, NoneType),
    "all_scalars": (Mapping, NoneType),
    "random_states": (Mapping,),
    "unfinished": (Mapping, NoneType),
    "average_state_dict": (Mapping,),
    "average_steps": (int,),
    "scaler_state_dict": (Mapping,),
}
"""What a checkpoint may hold, and of which types."""

log = logging.getLogger(__name__)


def save_weights(path: Path, model: torch.nn.Module) -> None:
    """Write a plain state dict."""
    _save(path, {key: value.contiguous() for key, value in model.state_dict().items()})


def save_best(folder: Path, model: torch.nn.Module, epoch: int, val_loss: float) -> None:
    """Write `weights_best.pth` and, as text, the epoch and its validation loss."""
    save_weights(folder / BEST, model)
    write_atomically(folder / "best_epoch.dat", lambda file: file.write_text(f"{epoch}\n"))
    write_atomically(folder / "best_val_loss.dat", lambda file: file.write_text(f"{val_loss}\n"))


def save_checkpoint(path: Path, content: dict[str, Any]) -> None:
    """Write a checkpoint."""
    _save(path, content)


def _save(path: Path, content: dict[str, Any]) -> None:
    """Write what PyTorch can read again; the same tensors give the same bytes.

    Given a path, PyTorch would store its name too, and that of a temporary file is always another.
    Of a disk that is full PyTorch only says that some position was not the expected one. Then the
    same bytes are written without it, which says what is wrong.
    """

    def write(temporary: Path) -> None:
        try:
            with temporary.open("wb") as file:
                torch.save(content, file)
        except RuntimeError:
            written = io.BytesIO()
            torch.save(content, written)
            temporary.write_bytes(written.getbuffer())

    write_atomically(path, write)


def epoch_file(folder: Path, epoch: int) -> Path:
    """Return the file of the checkpoint after an epoch."""
    return folder / f"chkpnt_epoch{epoch:04d}.pth"


def newest_checkpoint(folder: Path) -> dict[str, Any] | None:
    """Read the newest checkpoint of a run.

    Checkpoints of the published code, which hold no random states, can be read as well. Damaged
    ones are skipped with a warning.

    Returns:
        The content of the checkpoint; None if there is none at all.

    Raises:
        UserError: there are checkpoints, and all of them are damaged.
    """
    numbered = sorted(folder.glob("chkpnt_epoch*.pth"), key=natural_order, reverse=True)
    found = [f for f in (folder / LATEST_CHECKPOINT, *numbered) if f.is_file()]
    for path in found:
        try:
            content = load_tensors(path)
        except UserError as error:
            log.warning("%s; taking an older checkpoint", error)
            continue
        if (fault := _fault(content)) is None:
            return dict(content)
        log.warning("%s %s; taking an older checkpoint", path, fault)
    if found:
        raise UserError(f"none of the {len(found)} checkpoints in {folder} can be read")
    return None


def _fault(content: Any) -> str | None:
    """Say in what the content of a checkpoint differs from one; None: in nothing."""
    missing = [key for key in REQUIRED if not isinstance(content, Mapping) or key not in content]
    if missing:
        return f"lacks {', '.join(missing)}"
    odd = [k for k, kinds in KINDS.items() if k in content and not isinstance(content[k], kinds)]
    if odd:
        return f"holds an odd {', '.join(odd)}"
    unfinished, scalars = content.get("unfinished") or {}, content.get("all_scalars") or {}
    counts = {"epoch": content["epoch"], "unfinished": unfinished.get("step", 0)}
    odd += [key for key, n in counts.items() if not isinstance(n, int) or n < 0]
    if not all(isinstance(values, Mapping) for values in scalars.values()):
        odd.append("all_scalars")
    return f"holds an odd {', '.join(odd)}" if odd else None
