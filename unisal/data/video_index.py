"""What a folder of videos holds, read once and remembered.

Counting the frames of hundreds of videos takes a while, so what was found is kept in a small file
beside the videos (or in the user's cache directory, where that cannot be written) and
used as long as no folder has changed since.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from unisal.config import save_json
from unisal.data.base import require_files
from unisal.data.pictures import picture_size
from unisal.errors import UserError

IMAGES, MAPS, FIXATIONS = "images", "maps", "fixation"
KINDS = (IMAGES, MAPS, FIXATIONS)
VERSION = 1
MAX_HEADERS = 20_000
"""Sizes are read off all files of a small data set; of a large one off about so many, evenly
spread, the first and the last frame of each video among them."""

FilePrefix = Callable[[str], str]
"""A video's folder name -> what its files' names start with, before the number."""


@dataclass(frozen=True)
class Video:
    """One video (or shot) on disk: a folder with `images/` and, but for test sets, `maps/` and
    `fixation/`."""

    name: str
    """The folder's name."""
    first: int
    """The number in the name of its first file."""
    n_frames: int
    width_of_number: int
    """Digits in the files' names."""
    frame_size: tuple[int, int]
    """(height, width) of the frames."""
    target_size: tuple[int, int] | None
    """(height, width) of maps and fixations; None where there are none."""


def read_index(folder: Path, prefix: FilePrefix) -> list[Video]:
    """-> the videos in `folder`, in the order of their sorted names.

    Raises:
        UserError: there is no such folder or no video in it, or a video is faulty: empty, a frame,
            map or fixation file missing, sizes that differ. Names the files.
    """
    if not folder.is_dir():
        raise UserError(f"folder {folder} does not exist; it has to hold one folder per video")
    names = sorted(f.name for f in folder.iterdir() if f.is_dir() and f.name[0] != ".")
    if not names:
        raise UserError(f"folder {folder} is empty; it has to hold one folder per video")
    state = _state(folder, names)
    places = [folder / ".unisal_index.json", _cache_file(folder)]
    for place in places:
        if (known := _load(place, state)) is not None:
            return known
    videos = _scan(folder, names, prefix)
    content = {"version": VERSION, "state": state, "videos": [asdict(v) for v in videos]}
    for place in places:
        try:
            save_json(place, content)
        except OSError:  # a read-only data folder, or no home: the next place, or none
            continue
        break
    return videos


# ---- remembering ------------------------------------------------------------------------
def _state(folder: Path, names: list[str]) -> str:
    """-> a number that changes when a file is added to or removed from any video."""
    digest = hashlib.sha256()
    for name in names:
        for kind in KINDS:
            try:
                changed = (folder / name / kind).stat().st_mtime_ns
            except FileNotFoundError:
                changed = 0
            digest.update(f"{name}/{kind} {changed}\n".encode())
    return digest.hexdigest()


def _cache_file(folder: Path) -> Path:
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    name = hashlib.sha256(str(folder.resolve()).encode()).hexdigest()[:16]
    return home / "unisal" / f"index_{name}.json"


def _load(place: Path, state: str) -> list[Video] | None:
    """-> the videos, or None if there is no index or it is of another state of the folder."""
    try:
        content = json.loads(place.read_text())
        if content["version"] != VERSION or content["state"] != state:
            return None
        return [_video(values) for values in content["videos"]]
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _video(values: dict[str, Any]) -> Video:
    sizes = {k: values[k] and tuple(values[k]) for k in ("frame_size", "target_size")}
    return Video(**{**values, **sizes})


# ---- looking ----------------------------------------------------------------------------
def _scan(folder: Path, names: list[str], prefix: FilePrefix) -> list[Video]:
    bar = tqdm(names, desc=f"index {folder.name}", unit="video", leave=False, disable=None)
    found = [(name, _list_files(folder / name, prefix(name))) for name in bar]
    n_files = sum(len(files) for _, kinds in found for files in kinds.values())
    every = max(1, n_files // MAX_HEADERS)
    bar = tqdm(found, desc=f"sizes {folder.name}", unit="video", leave=False, disable=None)
    return [_describe(folder / name, kinds, every) for name, kinds in bar]


def _list_files(video: Path, prefix: str) -> dict[str, list[str]]:
    """-> the names of the numbered files per kind, sorted by number, once they are complete."""
    pattern = re.compile(re.escape(prefix) + r"(\d+)\.png", re.IGNORECASE)
    numbered: dict[str, dict[int, str]] = {}
    for kind in KINDS:
        files = (video / kind).iterdir() if (video / kind).is_dir() else ()
        matches = [m for f in files if (m := pattern.fullmatch(f.name))]
        if matches:  # an empty folder is as good as none
            numbered[kind] = {int(m[1]): m[0] for m in matches}
    if IMAGES not in numbered:
        raise UserError(f"{video / IMAGES} holds no frames named {prefix}NUMBER.png")
    if len(numbered) == 2:
        absent = MAPS if MAPS not in numbered else FIXATIONS
        raise UserError(f"{video / absent} holds no files; maps and fixations go together")
    images = numbered[IMAGES]
    expected = range(min(images), max(images) + 1)
    width = len(images[expected[0]]) - len(prefix) - len(".png")
    require_files(
        "frames, maps or fixations",
        [
            video / kind / f"{prefix}{number:0{width}d}.png"
            for kind, files in numbered.items()
            for number in expected
            if number not in files
        ],
    )
    return {kind: [files[n] for n in expected] for kind, files in numbered.items()}


def _describe(video: Path, kinds: dict[str, list[str]], every: int) -> Video:
    sizes = {kind: _common_size(video / kind, files, every) for kind, files in kinds.items()}
    if MAPS in sizes and sizes[MAPS] != sizes[FIXATIONS]:
        raise UserError(
            f"{video}: maps are {sizes[MAPS]} and fixations {sizes[FIXATIONS]} (height, width); "
            "they have to be alike"
        )
    first = kinds[IMAGES][0]
    digits = re.search(r"(\d+)\.png$", first, re.IGNORECASE)
    assert digits
    return Video(
        name=video.name,
        first=int(digits[1]),
        n_frames=len(kinds[IMAGES]),
        width_of_number=len(digits[1]),
        frame_size=sizes[IMAGES],
        target_size=sizes.get(MAPS),
    )


def _common_size(folder: Path, files: list[str], every: int) -> tuple[int, int]:
    first = picture_size(folder / files[0])
    for name in {*files[every::every], files[-1]}:
        if (size := picture_size(folder / name)) != first:
            raise UserError(
                f"frames of one video have to have one size, but {folder / files[0]} is {first} "
                f"and {folder / name} {size} (height, width)"
            )
    return first
