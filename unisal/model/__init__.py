"""The network and its weights; independent of data sets and commands."""

from unisal.model.unisal import SOURCES, UNISAL

__all__ = ["SOURCES", "UNISAL"]
