"""The contents of a folder of videos, read once and cached.

Counting the frames of hundreds of videos takes a while, so the result is kept in a small file
beside the videos, or in the user's cache directory if that folder cannot be written, and reused
until a folder changes.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from unisal.config import cache_dir, save_json
from unisal.data.base import require_files
from unisal.data.listing import FrameFiles, Group, Problem, match_files
from unisal.data.pictures import picture_size
from unisal.errors import UserError
from unisal.files import remove_leftovers
from unisal.progress import SILENT, Progress
from unisal.types import Size

IMAGES, MAPS, FIXATIONS = "images", "maps", "fixation"
KINDS = (IMAGES, MAPS, FIXATIONS)
VERSION = 2
MAX_FRAMES = 10_000_000
"""Beyond the frames of four days of film a number is taken for that of something else."""
MAX_HEADERS = 20_000
"""About how many files' headers are read for their sizes: all of a small data set; of a large one
an evenly spread part, which includes the first and the last frame of each video."""

FilePrefix = Callable[[str], str]
"""Returns what precedes the number in the names of a video's files, given its folder's name."""


@dataclass(frozen=True)
class Video:
    """One video (or shot) on disk.

    It is a folder with `images/` and, except in test parts, `maps/` and `fixation/`.
    """

    name: str
    """The folder's name."""
    first: int
    """The number in the name of its first file."""
    n_frames: int
    width_of_number: int
    """Number of digits in the files' names."""
    frame_size: Size
    target_size: Size | None
    """The size of maps and fixations; None if there are none."""


def read_index(folder: Path, prefix: FilePrefix, progress: Progress = SILENT) -> list[Video]:
    """List the videos in a folder in the order of their sorted names.

    Args:
        folder: holds a folder per video.
        prefix: see `FilePrefix`.
        progress: counts the videos that are read, unless the result is cached.

    Raises:
        UserError: the folder is missing or empty, or a video is faulty: it has no frames, a frame,
            map or fixation file is missing, or sizes differ. The message names the files.
    """
    if not folder.is_dir():
        raise UserError(f"folder {folder} does not exist; it has to hold one folder per video")
    names = video_names(folder)
    if not names:
        raise UserError(f"folder {folder} is empty; it has to hold one folder per video")
    state = _state(folder, names)
    places = [folder / ".unisal_index.json", _cache_file(folder)]
    for place in places:
        if (known := _load(place, state)) is not None:
            return known
    videos = _scan(folder, names, prefix, progress)
    entries = [asdict(v) for v in videos]
    content = {"version": VERSION, "state": state, "sum": _sum(entries), "videos": entries}
    for place in places:
        remove_leftovers(place.parent, of=[place.name])
        try:
            save_json(place, content)
        except OSError:  # a read-only data folder, or no home: try the next place, if any
            continue
        break
    return videos


def video_names(folder: Path) -> list[str]:
    """Return the sorted names of the folders of videos in `folder`; none if it does not exist."""
    if not folder.is_dir():
        return []
    return sorted(f.name for f in folder.iterdir() if f.is_dir() and f.name[0] != ".")


def list_video(video: Path, prefix: str, needs_maps: bool) -> Group:
    """List the files of one video, faulty ones included.

    These are files that `read_index` would refuse, and maps and fixations without a frame.

    Args:
        video: its folder.
        prefix: see `FilePrefix`.
        needs_maps: whether it has to have maps and fixations.
    """
    numbered = numbered_files(video, prefix)
    fault = _lacking(video, prefix, numbered)
    if fault is None and needs_maps and MAPS not in numbered:
        fault = video, f"{video} has no maps and fixations"
    problems = [Problem("missing", *fault)] if fault else []
    numbers = [number for files in numbered.values() for number in files]
    names = _expected_names(
        video, prefix, numbered.get(IMAGES) or numbered.get(MAPS) or {}, numbers
    )
    folders = {f: video / kind for f, kind in zip(FrameFiles._fields, KINDS, strict=True)}
    files = {
        field: {name: folder / name for name in names if name in there}
        for field, folder in folders.items()
        if (there := set(numbered.get(folder.name, {}).values()))
    }
    pictures, missing = match_files(names, files, lambda field, name: folders[field] / name)
    return Group(video.name, pictures, [*problems, *missing], True, True)


# ---- remembering ------------------------------------------------------------------------
def _state(folder: Path, names: list[str]) -> str:
    """Return a text that changes whenever a file of a video is added or removed."""
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
    """Return the file in the user's cache directory for a folder of videos."""
    name = hashlib.sha256(str(folder.resolve()).encode()).hexdigest()[:16]
    return cache_dir() / f"index_{name}.json"


def _load(place: Path, state: str) -> list[Video] | None:
    """Return the cached videos; None if there are none, or for another state of the folder."""
    try:
        content = json.loads(place.read_text(encoding="utf-8-sig"))
        if content["version"] != VERSION or content["state"] != state:
            return None
        if content["sum"] != _sum(content["videos"]):
            return None
        return [_video(values) for values in content["videos"]]
    except Exception:  # whatever is wrong with it, the folder is read anew
        return None


def _sum(entries: Any) -> str:
    """Return a text that changes with the entries: a damaged index must not be believed."""
    return hashlib.sha256(json.dumps(entries).encode()).hexdigest()[:16]


def _video(values: dict[str, Any]) -> Video:
    """Make a video from its entry in the index."""
    sizes = {k: values[k] and tuple(values[k]) for k in ("frame_size", "target_size")}
    return Video(**{**values, **sizes})


# ---- reading ----------------------------------------------------------------------------
def _scan(folder: Path, names: list[str], prefix: FilePrefix, progress: Progress) -> list[Video]:
    """Read the videos of a folder from their files."""
    found = []
    with progress.bar(f"index {folder.name}", "video", len(names), keep=False) as bar:
        for name in names:
            found.append((name, _list_files(folder / name, prefix(name))))
            bar.update()
    n_files = sum(len(files) for _, kinds in found for files in kinds.values())
    every = max(1, n_files // MAX_HEADERS)
    videos = []
    with progress.bar(f"sizes {folder.name}", "video", len(found), keep=False) as bar:
        for name, kinds in found:
            videos.append(_describe(folder / name, kinds, every))
            bar.update()
    return videos


def _list_files(video: Path, prefix: str) -> dict[str, list[str]]:
    """Return the names of the numbered files per kind, sorted by number, none of them missing."""
    numbered = numbered_files(video, prefix)
    if fault := _lacking(video, prefix, numbered):
        raise UserError(fault[1])
    names = _expected_names(video, prefix, numbered[IMAGES], numbered[IMAGES])
    there = {kind: set(files.values()) for kind, files in numbered.items()}
    require_files(
        "frames, maps or fixations",
        [video / kind / name for kind in numbered for name in names if name not in there[kind]],
    )
    return dict.fromkeys(numbered, names)


def numbered_files(video: Path, prefix: str) -> dict[str, dict[int, str]]:
    """Return the files `<prefix><number>.png` by number, for each kind that has any."""
    pattern = re.compile(re.escape(prefix) + r"(\d+)\.png")
    numbered = {}
    for kind in KINDS:
        files = (video / kind).iterdir() if (video / kind).is_dir() else ()
        if matches := [m for file in files if (m := pattern.fullmatch(file.name))]:
            numbered[kind] = {int(m[1]): m[0] for m in matches}
    return numbered


def _lacking(
    video: Path, prefix: str, numbered: Mapping[str, Mapping[int, str]]
) -> tuple[Path, str] | None:
    """Return the folder that should have files and has none, with a message."""
    if IMAGES not in numbered:
        return video / IMAGES, f"{video / IMAGES} holds no frames named {prefix}NUMBER.png"
    if len(numbered) == 2:
        absent = video / (MAPS if MAPS not in numbered else FIXATIONS)
        return absent, f"{absent} holds no files; maps and fixations go together"
    return None


def _expected_names(
    video: Path, prefix: str, files: Mapping[int, str], numbers: Iterable[int]
) -> list[str]:
    """Return a file name for each number from the first to the last.

    Numbers get as many digits as in the name of the first of `files`.

    Raises:
        UserError: the numbers are too far apart to be those of one video's frames.
    """
    if not files:
        return []
    width = len(files[min(files)]) - len(prefix) - len(".png")
    numbers = sorted(numbers)
    if numbers[-1] - numbers[0] >= MAX_FRAMES:
        raise UserError(
            f"{video}: frames are numbered from {numbers[0]} to {numbers[-1]}, and only "
            f"{len(set(numbers))} of them exist; remove {prefix}{numbers[-1]:0{width}d}.png, or "
            "number the frames one after the other"
        )
    return [f"{prefix}{n:0{width}d}.png" for n in range(numbers[0], numbers[-1] + 1)]


def _describe(video: Path, kinds: dict[str, list[str]], every: int) -> Video:
    """Describe a video from the names of its files and some of their sizes."""
    sizes = {kind: _common_size(video / kind, files, every) for kind, files in kinds.items()}
    if MAPS in sizes and sizes[MAPS] != sizes[FIXATIONS]:
        raise UserError(
            f"{video}: maps are {sizes[MAPS]} and fixations {sizes[FIXATIONS]} (height, width); "
            "they have to be the same"
        )
    first = kinds[IMAGES][0]
    digits = re.search(r"(\d+)\.png$", first)
    assert digits
    return Video(
        name=video.name,
        first=int(digits[1]),
        n_frames=len(kinds[IMAGES]),
        width_of_number=len(digits[1]),
        frame_size=sizes[IMAGES],
        target_size=sizes.get(MAPS),
    )


def _common_size(folder: Path, files: list[str], every: int) -> Size:
    """Return the size of the files, of which every `every`-th is read."""
    first = picture_size(folder / files[0])
    for name in {*files[every::every], files[-1]}:
        if (size := picture_size(folder / name)) != first:
            raise UserError(
                f"frames of one video have to have one size, but {folder / files[0]} is {first} "
                f"and {folder / name} {size} (height, width)"
            )
    return first
