"""The pictures or films of a folder, and what a table calls them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from unisal.data.picture_kinds import PICTURE_SUFFIXES, VIDEO_SUFFIXES, is_picture, picture_suffixes
from unisal.errors import UserError
from unisal.files import natural_order

USUAL_FOLDERS = (
    *("stimuli", "stimulus", "images", "pictures", "photos", "videos", "films", "clips"),
    *("movies", "frames", "media"),
)
"""Folders in which stimuli are looked for before the folder of the data itself."""
SEVERAL = -2
"""Stands for the stimulus of a name that fits several."""


def stimuli_folder(folder: Path, named: str | None) -> Path:
    """Return the folder of the stimuli.

    Args:
        folder: that of the data.
        named: the name of the folder in it; None to look for a usual one.

    Raises:
        UserError: the one that was named does not exist.
    """
    if named is not None:
        if not (folder / named).is_dir():
            raise UserError(f"the folder of the stimuli, {folder / named}, does not exist")
        return folder / named
    by_name = {f.name.lower(): f for f in folder.iterdir() if f.is_dir()}
    return next((by_name[name] for name in USUAL_FOLDERS if name in by_name), folder)


def list_files(folder: Path) -> tuple[list[Path], list[Path], list[Path]]:
    """List what may be stimuli.

    Args:
        folder: where they lie, at any depth.

    Returns:
        Pictures, video files, and folders that hold pictures directly, each in natural order.
    """
    pictures, videos = [], []
    for path in sorted(_files(folder), key=natural_order):
        suffix = path.suffix.lower()
        if suffix in PICTURE_SUFFIXES or (suffix in picture_suffixes() and is_picture(path)):
            pictures.append(path)
        elif suffix in VIDEO_SUFFIXES:
            videos.append(path)
    folders = list(dict.fromkeys(p.parent for p in pictures if p.parent != folder))
    return pictures, videos, sorted(folders, key=natural_order)


def _files(folder: Path) -> Iterator[Path]:
    """Yield the files in a folder and those inside it, but no hidden ones."""
    for path in folder.iterdir():
        if path.name.startswith("."):
            continue
        if path.is_dir():
            yield from _files(path)
        else:
            yield path


def match_names(
    wanted: NDArray[np.object_], folder: Path, paths: Sequence[Path]
) -> tuple[NDArray[np.int64], list[str]]:
    """Find the stimuli that a table names.

    A name may be the path in the folder of the stimuli or the end of it, with or without the
    ending, in upper or lower case, or a number that is the file's name but for leading zeros.

    Args:
        wanted: the names, `[n]` text.
        folder: that of the stimuli.
        paths: the stimuli.

    Returns:
        The index of each stimulus, -1 for unknown ones, and the names that fit several stimuli,
        which are unknown too.
    """
    by_name: list[dict[str, int]] = [{} for _ in _names("")]
    for i, path in enumerate(paths):
        for kind, name in zip(by_name, _names(path.relative_to(folder).as_posix()), strict=True):
            kind[name] = SEVERAL if name in kind else i
    found = {name: _find(by_name, name) for name in dict.fromkeys(wanted.tolist())}
    ambiguous = [name for name, i in found.items() if i == SEVERAL]
    return np.array([max(found[name], -1) for name in wanted.tolist()], np.int64), ambiguous


def _find(by_name: Sequence[Mapping[str, int]], name: str) -> int:
    """Return the stimulus of a name: that of the longest name which fits."""
    if not name.strip():
        return -1
    for wanted in dict.fromkeys(_names(name.replace("\\", "/").strip())):
        for kind in by_name:
            if wanted in kind:
                return kind[wanted]
    return -1


def _names(path: str) -> list[str]:
    """Return what a file may be called, the longest first: its path, and the end of it."""
    name = path.casefold()
    base = name.rpartition("/")[2]
    stem = _without_ending(base)
    return [name, _without_ending(name), base, stem, str(int(stem)) if stem.isdecimal() else stem]


def _without_ending(name: str) -> str:
    """Return a name without the ending of a picture or a video; 12.0 is 12."""
    head, dot, ending = name.rpartition(".")
    if dot and (f".{ending}" in (*PICTURE_SUFFIXES, *VIDEO_SUFFIXES) or ending == "0"):
        return head
    if dot and ending in ("bmp", "gif", "tif", "tiff", "webp", "jpe"):  # of the original files
        return head
    return name
