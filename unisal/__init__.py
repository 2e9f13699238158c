"""Unified image and video saliency modelling (Droste, Jiao, Noble, ECCV 2020).

The public names are loaded when first used, so that importing the package costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from unisal.version import __version__

if TYPE_CHECKING:
    from unisal.model import UNISAL
    from unisal.predict import Predictor, load
    from unisal.train import Trainer

__all__ = ["UNISAL", "Predictor", "Trainer", "__version__", "load"]

_HOME = {
    "UNISAL": "unisal.model",
    "Predictor": "unisal.predict",
    "Trainer": "unisal.train",
    "load": "unisal.predict",
}
_ROOMS = ("data", "evaluate", "inference", "model", "predict", "train", "visualize", "writing")


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(_HOME[name]), name)
    if name in _ROOMS:
        return import_module(f"unisal.{name}")
    raise AttributeError(f"module 'unisal' has no attribute {name!r}")
