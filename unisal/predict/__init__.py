"""From pictures to saliency maps."""

from unisal.predict.predictor import Predictor, load

__all__ = ["Predictor", "load"]
