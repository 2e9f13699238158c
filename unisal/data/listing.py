"""What lies on disk for a part of a data set, faulty files included."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from unisal.files import natural_order

K = TypeVar("K", bound=Any)


@dataclass(frozen=True)
class Problem:
    """A fault of a file or a folder."""

    kind: str
    """A word or two; problems are counted by kind."""
    path: Path
    text: str
    """What is wrong, in a line that names the file."""


class FrameFiles(NamedTuple):
    """The files of one image, or of one frame of a video; None for a file that does not exist."""

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
    """Whether all maps have to have one size."""
    maps_like_images: bool = False
    """Whether each map has to be as large as its image."""


class Place(NamedTuple):
    """The place of the files of one kind: `<folder>/<start>...<ending>`."""

    folder: Path
    endings: tuple[str, ...]
    """If a picture has files with several of them, the first is read."""
    start: str = ""

    def find(self) -> dict[str, Path]:
        """Return the files that exist, by their names without the ending."""
        return {
            path.name.removesuffix(ending): path
            for ending in reversed(self.endings)
            for path in self.folder.glob(f"{self.start}*{ending}")
            if not path.name.startswith(".")
        }


def list_images(places: Mapping[str, Place]) -> tuple[list[FrameFiles], list[Problem]]:
    """List the images of a part with their files.

    Args:
        places: where the files lie, by kind: the names of the fields of `FrameFiles`.

    Returns:
        The files of each image, in the natural order of their names, and a problem for each missing
        file.
    """
    files = {kind: place.find() for kind, place in places.items()}

    def expected(kind: str, name: str) -> Path:
        return places[kind].folder / (name + " or ".join(places[kind].endings))

    return match_files(sorted(set().union(*files.values()), key=natural_order), files, expected)


def match_files(
    names: Sequence[K],
    files: Mapping[str, Mapping[K, Path]],
    expected: Callable[[str, K], Path],
) -> tuple[list[FrameFiles], list[Problem]]:
    """Group files by the picture that they belong to.

    Args:
        names: names of the pictures.
        files: the files that exist, by kind (a field of `FrameFiles`) and by the name of their
            picture. A kind that is left out is not wanted.
        expected: returns the file that should exist for a kind and a name.

    Returns:
        The files of the pictures in the order of the names, and a problem for each missing file.
    """
    pictures, problems = [], []
    for name in names:
        there = {kind: paths[name] for kind, paths in files.items() if name in paths}
        pictures.append(FrameFiles(*map(there.get, FrameFiles._fields)))
        missing = [expected(kind, name) for kind in files if kind not in there]
        problems += [Problem("missing", path, f"{path} is missing") for path in missing]
    return pictures, problems
