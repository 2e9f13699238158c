"""Pictures and gaze, from disk to tensors, independent of any model.

`DATASETS` is the registry: a new source takes one file, and one line here or a call of `register`.
"""

from __future__ import annotations

from typing import TypeVar

from unisal.data.base import Batch, Item, SaliencyDataset
from unisal.data.dhf1k import DHF1KDataset
from unisal.data.hollywood import HollywoodDataset
from unisal.data.images import ImageDataset
from unisal.data.mit300 import MIT300Dataset
from unisal.data.mit1003 import MIT1003Dataset
from unisal.data.salicon import SALICONDataset
from unisal.data.ucfsports import UCFSportsDataset
from unisal.data.video import VideoDataset
from unisal.errors import UserError

D = TypeVar("D", bound=SaliencyDataset)

DATASETS: dict[str, type[SaliencyDataset]] = {
    dataset.source: dataset
    for dataset in (
        DHF1KDataset,
        SALICONDataset,
        UCFSportsDataset,
        HollywoodDataset,
        MIT1003Dataset,
        MIT300Dataset,
    )
}
DATASET_ALIASES = {"FINAL_TEST_MIT1003": "MIT1003"}
"""Other names of sources: this is what the published code calls the validation fold of MIT1003
after fine-tuning."""


def register(dataset: type[D]) -> type[D]:
    """Register a data set under the name in its `source`, to train, score, predict and check it.

    It can be used as a decorator.

    Args:
        dataset: the class of the data set.

    Returns:
        The class.

    Raises:
        UserError: another class already has that name.
    """
    known = DATASETS.setdefault(dataset.source, dataset)
    if known is not dataset:
        raise UserError(f"the data set {dataset.source!r} already exists: {known.__name__}")
    return dataset


def find_dataset(source: str) -> type[SaliencyDataset]:
    """Return the class of a source.

    Raises:
        UserError: there is no source with that name; lists the known ones.
    """
    name = DATASET_ALIASES.get(source, source)
    if name not in DATASETS:
        known = ", ".join([*DATASETS, *DATASET_ALIASES])
        raise UserError(f"there is no data set {source!r}; known are {known}")
    return DATASETS[name]


__all__ = [
    "DATASETS",
    "DATASET_ALIASES",
    "Batch",
    "DHF1KDataset",
    "HollywoodDataset",
    "ImageDataset",
    "Item",
    "MIT300Dataset",
    "MIT1003Dataset",
    "SALICONDataset",
    "SaliencyDataset",
    "UCFSportsDataset",
    "VideoDataset",
    "find_dataset",
    "register",
]
