"""Training. `Trainer` is loaded when first used: its options alone need no torch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from unisal.train.trainer import Trainer

__all__ = ["Trainer"]


def __getattr__(name: str) -> Any:
    if name == "Trainer":
        from unisal.train.trainer import Trainer

        return Trainer
    raise AttributeError(f"module 'unisal.train' has no attribute {name!r}")
