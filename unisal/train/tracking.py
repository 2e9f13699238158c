"""Scalars of a run, written to `all_scalars.json` and to TensorBoard."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from unisal.config import save_json


class Scalars:
    """Values by tag and epoch: `{"salicon/loss/valid": {"0": 0.51, "1": 0.47}}`."""

    def __init__(
        self, folder: Path, tboard: bool, earlier: Mapping[str, dict[str, float]] | None = None
    ) -> None:
        self.path = folder / "all_scalars.json"
        self.values: dict[str, dict[str, float]] = dict(earlier or {})
        self._writer: Any = None
        if tboard:
            from tensorboardX import SummaryWriter

            self._writer = SummaryWriter(str(folder))

    def add(self, tag: str, value: float, epoch: int) -> None:
        """Record the value of a tag in an epoch."""
        self.values.setdefault(tag, {})[str(epoch)] = value
        if self._writer is not None:
            self._writer.add_scalar(tag, value, epoch)

    def save(self) -> None:
        """Write the values to the file."""
        save_json(self.path, self.values)
        if self._writer is not None:
            self._writer.flush()

    def close(self) -> None:
        """Close TensorBoard's file."""
        if self._writer is not None:
            self._writer.close()
