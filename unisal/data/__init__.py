"""Pictures and gaze, from disk to tensors. Knows no model.

`DATASETS` is the registry: a new source is one file and one line here.
"""

from __future__ import annotations

from unisal.data.base import Batch, Item, SaliencyDataset
from unisal.data.dhf1k import DHF1KDataset
from unisal.data.hollywood import HollywoodDataset
from unisal.data.salicon import SALICONDataset
from unisal.data.ucfsports import UCFSportsDataset
from unisal.data.video import VideoDataset

DATASETS: dict[str, type[SaliencyDataset]] = {
    dataset.source: dataset
    for dataset in (DHF1KDataset, HollywoodDataset, UCFSportsDataset, SALICONDataset)
}

__all__ = [
    "DATASETS",
    "Batch",
    "DHF1KDataset",
    "HollywoodDataset",
    "Item",
    "SALICONDataset",
    "SaliencyDataset",
    "UCFSportsDataset",
    "VideoDataset",
]
