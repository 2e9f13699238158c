"""Inspection of data folders before long work: what they hold, and what is wrong with it."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from unisal.data.base import MAX_NAMED_FILES, SaliencyDataset
from unisal.data.listing import FrameFiles, Group, Problem
from unisal.data.pictures import displayed_size, read_grey, read_rgb
from unisal.data.spread import evenly_spread
from unisal.errors import UserError
from unisal.progress import SILENT, Bar, Progress
from unisal.threads import in_threads
from unisal.types import Size

WORKERS, FRAMES_AHEAD = 4, 32
"""The number of threads that read files, and of pictures that they may be ahead."""
QUICK_PICTURES = 1000
"""The number of pictures of a data set whose headers the quick check reads."""


class Findings(NamedTuple):
    """What was found out about the files of one picture."""

    sizes: Mapping[str, Size]
    """(height, width) by kind, for the files that could be read."""
    problems: Sequence[Problem]


@dataclass
class PartReport:
    """What lies on disk for one part of a source, such as its training part."""

    name: str
    phases: Sequence[str]
    """The phases that read it."""
    of_videos: bool
    n_groups: int = 0
    """The number of videos; 1 for images."""
    counts: Counter[str] = field(default_factory=Counter)
    """The number of files by kind."""
    sizes: defaultdict[str, Counter[Size]] = field(default_factory=lambda: defaultdict(Counter))
    """The number of files of each size, by kind."""
    problems: list[Problem] = field(default_factory=list)


@dataclass
class SourceReport:
    """What lies on disk for a source."""

    source: str
    folder: Path
    parts: list[PartReport]

    @property
    def problems(self) -> list[Problem]:
        """The problems of all parts; a source without any file counts as one."""
        found = [problem for part in self.parts for problem in part.problems]
        if not any(part.counts.total() for part in self.parts):
            text = f"{self.folder} holds no files of {self.source}"
            found.append(Problem("missing", self.folder, text))
        return found


# ---- the whole of a source ----------------------------------------------------------------
def inspect_source(
    dataset: type[SaliencyDataset], quick: bool = False, progress: Progress = SILENT
) -> SourceReport:
    """Inspect every file of a source: names first, then each picture with its map and fixations.

    Args:
        dataset: its class.
        quick: read only the headers; otherwise every file is decoded.
        progress: counts the pictures that have been inspected.

    Raises:
        UserError: its folder does not exist.
    """
    phases_of: defaultdict[str, list[str]] = defaultdict(list)
    for phase in dataset.phases:
        phases_of[dataset.part(phase)].append(phase)
    parts = [PartReport(name, phases, dataset.is_video) for name, phases in phases_of.items()]
    inspect = inspect_headers if quick else partial(inspect_pixels, dataset)
    n_pictures = sum(len(group.pictures) for part in parts for group in _groups(dataset, part))
    with progress.bar(f"check {dataset.source}", "picture", n_pictures, keep=False) as bar:
        for part in parts:
            for group in _groups(dataset, part):
                _inspect_group(part, group, inspect, bar)
    return SourceReport(dataset.source, dataset.root(), parts)


def _groups(dataset: type[SaliencyDataset], part: PartReport) -> Iterable[Group]:
    """Return the groups of files of a part."""
    return dataset.list_part(part.phases[0])


def _inspect_group(
    part: PartReport, group: Group, inspect: Callable[[FrameFiles], Findings], bar: Bar
) -> None:
    """Add a group of pictures to the report of its part."""
    sizes: dict[str, dict[Size, list[Path]]] = {kind: {} for kind in FrameFiles._fields}
    part.n_groups += 1
    part.problems += group.problems
    findings = in_threads(inspect, group.pictures, WORKERS, FRAMES_AHEAD)
    for picture, found in zip(group.pictures, findings, strict=True):
        files = picture._asdict()
        part.counts.update(kind for kind, path in files.items() if path)
        part.problems += found.problems
        for kind, size in found.sizes.items():
            sizes[kind].setdefault(size, []).append(files[kind])
        if group.maps_like_images:
            part.problems += _unlike(picture, found.sizes, "image", "saliency_map")
        bar.update()
    for kind, one_size in (("image", group.one_image_size), ("saliency_map", group.one_map_size)):
        if one_size:
            part.problems += _odd_sizes(group.name, sizes[kind])
    for kind, files_of in sizes.items():
        part.sizes[kind].update({size: len(paths) for size, paths in files_of.items()})


def _odd_sizes(group: str, files_of: Mapping[Size, Sequence[Path]]) -> list[Problem]:
    """Return a problem for each file that differs in size from most of its group."""
    usual = max(files_of, key=lambda size: len(files_of[size]), default=None)
    return [
        Problem("of another size", path, f"{path} is {size}, most of {group} {usual} (h, w)")
        for size, paths in files_of.items()
        for path in paths
        if size != usual
    ]


# ---- one picture --------------------------------------------------------------------------
def inspect_headers(picture: FrameFiles) -> Findings:
    """Read the sizes from the headers of a picture's files; a `.mat` has none."""
    sizes, problems = {}, []
    for kind, path in picture._asdict().items():
        if path is not None and path.suffix != ".mat":
            try:
                sizes[kind] = displayed_size(path)
            except UserError as error:
                problems.append(Problem("unreadable", path, str(error)))
    return Findings(sizes, problems + _unlike(picture, sizes, "saliency_map", "fixations"))


def inspect_pixels(dataset: type[SaliencyDataset], picture: FrameFiles) -> Findings:
    """Decode all files of a picture, and compare its map with its fixations."""
    readers: dict[str, Callable[[Path], NDArray[Any]]] = {
        "image": read_rgb,
        "saliency_map": read_grey,
        "fixations": dataset.read_fixation_file,
    }
    sizes: dict[str, Size] = {}
    blank: dict[str, bool] = {}
    problems: list[Problem] = []
    for kind, path in picture._asdict().items():
        if path is None:
            continue
        try:
            pixels = readers[kind](path)
        except UserError as error:
            problems.append(Problem("unreadable", path, str(error)))
        else:
            sizes[kind] = pixels.shape[0], pixels.shape[1]
            blank[kind] = not pixels.any() if kind == "fixations" else bool(np.ptp(pixels) == 0)
    problems += _unlike(picture, sizes, "saliency_map", "fixations")
    return Findings(sizes, problems + _half_blank(picture, blank))


def _half_blank(picture: FrameFiles, blank: Mapping[str, bool]) -> list[Problem]:
    """Return a problem if only one of map and fixations is blank."""
    if "saliency_map" not in blank or "fixations" not in blank:
        return []
    saliency_map, fixations = picture.saliency_map, picture.fixations
    assert saliency_map is not None and fixations is not None
    if blank["fixations"] and not blank["saliency_map"]:
        text = f"{fixations} holds no fixation, but {saliency_map} is not blank"
        return [Problem("map without fixations", fixations, text)]
    if blank["saliency_map"] and not blank["fixations"]:
        text = f"{saliency_map} is blank, but {fixations} holds fixations"
        return [Problem("fixations without a map", saliency_map, text)]
    return []


def _unlike(picture: FrameFiles, sizes: Mapping[str, Size], one: str, other: str) -> list[Problem]:
    """Return a problem if two files of a picture differ in size."""
    if one not in sizes or other not in sizes or sizes[one] == sizes[other]:
        return []
    first, second = getattr(picture, one), getattr(picture, other)
    text = f"{second} is {sizes[other]}, but {first} {sizes[one]} (h, w)"
    return [Problem("of another size", second, text)]


# ---- before long work ---------------------------------------------------------------------
def quick_check(datasets: Iterable[SaliencyDataset]) -> None:
    """Read the headers of a data set's files before long work.

    Whether files exist and maps have the right sizes was checked when the data set was made. Here
    the headers of the files of at most `QUICK_PICTURES` pictures are read, evenly spread. It takes
    seconds, and finds files that are not pictures or that are cut off at the start.

    Raises:
        UserError: a file cannot be read, or a map differs in size from its fixations; names it.
    """
    for dataset in datasets:
        chosen = evenly_spread(dataset.lengths(), QUICK_PICTURES)
        pictures = [dataset.files(index, number) for index, number in chosen]
        findings = in_threads(inspect_headers, pictures, WORKERS, FRAMES_AHEAD)
        problems = [problem for found in findings for problem in found.problems]
        if problems:
            shown = "; ".join(problem.text for problem in problems[:MAX_NAMED_FILES])
            more = len(problems) - MAX_NAMED_FILES
            raise UserError(
                f"{dataset.source}: {shown}{f' and {more} more' if more > 0 else ''}; "
                f"the command `check_data --source={dataset.source}` looks at every file"
            )
