"""Pictures and gaze, from disk to tensors. Knows no model.

`DATASETS` is the registry: a new source is one file and one line here.
"""

from __future__ import annotations

from unisal.data.base import Batch, Item, SaliencyDataset
from unisal.data.salicon import SALICONDataset

DATASETS: dict[str, type[SaliencyDataset]] = {
    dataset.source: dataset for dataset in (SALICONDataset,)
}

__all__ = ["DATASETS", "Batch", "Item", "SALICONDataset", "SaliencyDataset"]
