"""From pictures to saliency maps."""

from unisal.predict.loading import load
from unisal.predict.predictor import Predictor

__all__ = ["Predictor", "load"]
