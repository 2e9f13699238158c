"""The network and its weights. Knows no dataset and no command."""

from unisal.model.unisal import SOURCES, UNISAL

__all__ = ["SOURCES", "UNISAL"]
