"""What lies on disk for a part of a data set, whether or not it is as it should be."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np

K = TypeVar("K", bound=Any)


@dataclass(frozen=True)
class Problem:
    """Something that is wrong with a file or a folder."""

    kind: str
    """A word or two by which problems are counted."""
    path: Path
    text: str
    """What is wrong, in a line that names the file."""


class FrameFiles(NamedTuple):
    """The files of one image, or of one frame of a video; None for one that is not there."""

    image: Path | None
    saliency_map: Path | None = None
    fixations: Path | None = None


@dataclass(frozen=True)
class Group:
    """Pictures that belong together: a video, or the images of a part."""

    name: str
    pictures: Sequence[FrameFiles]
    problems: Sequence[Problem] = ()
    """Files that are missing."""
    one_image_size: bool = False
    """Whether all images have to have one size."""
    one_map_size: bool = False
    """Whether all maps have to."""
    maps_like_images: bool = False
    """Whether each map has to have the size of its image."""


class Place(NamedTuple):
    """Where the files of one kind lie: `<folder>/<start>...<ending>`."""

    folder: Path
    endings: tuple[str, ...]
    """Of several that are there for one picture, the first is read."""
    start: str = ""

    def find(self) -> dict[str, Path]:
        """-> the files that are there by their names without the ending."""
        return {
            path.name.removesuffix(ending): path
            for ending in reversed(self.endings)
            for path in self.folder.glob(f"{self.start}*{ending}")
            if not path.name.startswith(".")
        }


def list_images(places: Mapping[str, Place]) -> tuple[list[FrameFiles], list[Problem]]:
    """-> the images of a part, a file of each kind for each of them, and those that are missing.

    Args:
        places: per kind (a field of `FrameFiles`) where its files lie.
    """
    files = {kind: place.find() for kind, place in places.items()}

    def expected(kind: str, name: str) -> Path:
        return places[kind].folder / (name + " or ".join(places[kind].endings))

    return match_files(sorted(set().union(*files.values())), files, expected)


def match_files(
    names: Sequence[K],
    files: Mapping[str, Mapping[K, Path]],
    expected: Callable[[str, K], Path],
) -> tuple[list[FrameFiles], list[Problem]]:
    """Put together what belongs to one picture.

    Args:
        names: of the pictures.
        files: per kind (a field of `FrameFiles`) those that are there, by the name of their
            picture. A kind that is left out is not wanted.
        expected: kind, name -> the file that should be there.

    Returns:
        The pictures in the order of the names, and a problem for each file that is missing.
    """
    pictures, problems = [], []
    for name in names:
        there = {kind: paths[name] for kind, paths in files.items() if name in paths}
        pictures.append(FrameFiles(*map(there.get, FrameFiles._fields)))
        missing = [expected(kind, name) for kind in files if kind not in there]
        problems += [Problem("missing", path, f"{path} is missing") for path in missing]
    return pictures, problems


def evenly_spread(lengths: Sequence[int], n: int) -> list[tuple[int, int]]:
    """Choose frames of a data set, evenly spread over all of them.

    Args:
        lengths: number of frames of each video, 1 for an image.
        n: how many frames to choose, all where there are fewer.

    Returns:
        (video or image from 0, frame from 1) of each, in order.
    """
    ends = np.cumsum(lengths)
    total = int(ends[-1]) if len(ends) else 0
    chosen = np.unique(np.linspace(0, total - 1, min(n, total)).astype(int))
    videos = np.searchsorted(ends, chosen, side="right")
    return [
        (int(v), int(f - ends[v] + lengths[v] + 1)) for v, f in zip(videos, chosen, strict=True)
    ]
