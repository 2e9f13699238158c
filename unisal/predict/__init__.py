"""Prediction of pictures, videos, streams and data sets."""

from unisal.predict.loading import load
from unisal.predict.predictor import Predictor

__all__ = ["Predictor", "load"]
