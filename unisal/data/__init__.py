"""Pictures and gaze, from disk to tensors, independent of any model.

`DATASETS` is the registry: a new source takes one file, and one line here or a call of `register`.
What reads folders of gaze data is loaded when it is first used, since predictions do without.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Any, TypeVar

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

if TYPE_CHECKING:
    from unisal.data.gaze import GazeFolder, GazeSource, GazeVideoFolder, gaze_source

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

    Args:
        source: its name, or NAME=PATH for a folder of gaze data, see
            `unisal.data.gaze.sources`.

    Raises:
        UserError: there is no source with that name; lists the known ones. Or the folder cannot be
            read, or its name is that of another source.
    """
    if "=" in source:
        from unisal.data.gaze import source_name, source_of_spec

        refuse_known_name(source_name(source))
        return source_of_spec(source)
    name = DATASET_ALIASES.get(source, source)
    if name not in DATASETS:
        known = ", ".join([*DATASETS, *DATASET_ALIASES])
        raise UserError(
            f"there is no data set {source!r}; known are {known}, and NAME=PATH for a folder of "
            "gaze data"
        )
    return DATASETS[name]


def refuse_known_name(name: str) -> None:
    """Refuse the name of a published source for a folder of gaze data.

    Raises:
        UserError: it is one, in upper or lower case; says what to do.
    """
    taken = [*DATASETS, *DATASET_ALIASES, *(d.scalar_prefix for d in DATASETS.values())]
    if name.lower() in {other.lower() for other in taken}:
        raise UserError(f"{name!r} is the name of another data set; name yours: my_{name}=PATH")


def name_data(data: str, changes: Mapping[str, Any] | None = None) -> str:
    """Return `NAME=PATH` for what a user names as data, see `unisal.data.gaze.spec_of`.

    Args:
        data: a folder or its `gaze.json`.
        changes: entries that replace those of the `gaze.json`.

    Raises:
        UserError: it does not exist, or its name is that of another source.
    """
    from unisal.data.gaze import source_name, spec_of

    spec = spec_of(data, changes)
    refuse_known_name(source_name(spec))
    return spec


def __getattr__(name: str) -> Any:
    if name in ("GazeFolder", "GazeSource", "GazeVideoFolder", "gaze_source"):
        return getattr(import_module("unisal.data.gaze"), name)
    raise AttributeError(f"module 'unisal.data' has no attribute {name!r}")


__all__ = [
    "DATASETS",
    "DATASET_ALIASES",
    "Batch",
    "DHF1KDataset",
    "GazeFolder",
    "GazeSource",
    "GazeVideoFolder",
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
    "gaze_source",
    "name_data",
    "register",
]
