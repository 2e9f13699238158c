"""Looking at data folders before long work: what is there, and what is wrong with it."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from unisal.data import DATASETS, SaliencyDataset, find_dataset
from unisal.data.base import MAX_NAMED_FILES
from unisal.data.listing import FrameFiles, Group, Problem, evenly_spread
from unisal.data.pictures import displayed_size, read_grey, read_rgb
from unisal.errors import SomeFailed, UserError
from unisal.threads import in_threads

WORKERS, AHEAD = 4, 32
"""Threads that read files, and how many pictures they may be ahead."""
QUICK_PICTURES = 1000
"""Of how many pictures of a data set the quick part looks at the headers."""
MAX_SHOWN = 20
MAX_SIZES = 3
"""Problems, and sizes of pictures, that are shown one by one."""
KIND_NAMES = {"image": "images", "saliency_map": "maps", "fixations": "fixations"}
"""The kinds of files, as the table calls them."""

Size = tuple[int, int]
"""(height, width)."""


class Look(NamedTuple):
    """What one picture's files are like."""

    sizes: Mapping[str, Size]
    """Of each kind of file that could be read."""
    problems: Sequence[Problem]


@dataclass
class PartReport:
    """What lies on disk for one part of a source."""

    name: str
    phases: Sequence[str]
    """Those that read it."""
    of_videos: bool
    n_groups: int = 0
    """Videos; for images 1."""
    counts: Counter[str] = field(default_factory=Counter)
    """Files per kind."""
    sizes: defaultdict[str, Counter[Size]] = field(default_factory=lambda: defaultdict(Counter))
    """Per kind, how many files of which size."""
    problems: list[Problem] = field(default_factory=list)


@dataclass
class SourceReport:
    """What lies on disk for a source."""

    source: str
    folder: Path
    parts: list[PartReport]

    @property
    def problems(self) -> list[Problem]:
        found = [problem for part in self.parts for problem in part.problems]
        if not any(part.counts.total() for part in self.parts):
            text = f"{self.folder} holds no files of {self.source}"
            found.append(Problem("missing", self.folder, text))
        return found

    def table(self, max_shown: int = MAX_SHOWN) -> str:
        """-> what to print on a terminal: a line per part, then the problems."""
        lines = [f"{self.source} in {self.folder}"]
        lines += [f"  {line}" for line in _aligned([_row(part) for part in self.parts])]
        problems = self.problems
        if not problems:
            return "\n".join([*lines, "  no problems"])
        counts = Counter(problem.kind for problem in problems)
        numbers = ", ".join(f"{n} {kind}" for kind, n in counts.items())
        lines.append(f"  {len(problems)} problems: {numbers}")
        lines += [f"    {problem.text}" for problem in problems[:max_shown]]
        if len(problems) > max_shown:
            lines.append(f"    and {len(problems) - max_shown} more")
        return "\n".join(lines)


# ---- the whole of a source ----------------------------------------------------------------
def check_data(
    sources: Sequence[str] = (), quick: bool = False, max_shown: int = MAX_SHOWN
) -> list[SourceReport]:
    """Check sources, by default all whose folder is there, and print what was found.

    Args:
        sources: names of sources.
        quick: read the files' headers alone.
        max_shown: problems of a source to name; the others are counted.

    Raises:
        UserError: an unknown source, or one whose folder is missing; nothing was done.
        SomeFailed: there are problems; they have been printed.
    """
    if not isinstance(max_shown, int) or max_shown < 0:
        raise UserError(f"max_shown is {max_shown!r}; it has to be a whole number, at least 0")
    present = list(dict.fromkeys(find_dataset(source) for source in sources))
    for dataset in present:
        dataset.root()  # what was asked for has to be there
    if not sources:
        present = [dataset for dataset in DATASETS.values() if dataset.is_there()]
        absent = [d for d in DATASETS.values() if not d.is_there()]
        where = ", ".join(f"{d.source} ({d.root_variable})" for d in absent)
        if not present:
            raise UserError(f"no data folder exists; variables that name them: {where}")
        if absent:
            print(f"no folder of {where}")
    reports = []
    for dataset in present:
        reports.append(check_source(dataset, quick))
        print(reports[-1].table(max_shown))
    faulty = {r.source: len(r.problems) for r in reports if r.problems}
    if faulty:
        raise SomeFailed("problems in " + ", ".join(f"{s} ({n})" for s, n in faulty.items()))
    return reports


def check_source(dataset: type[SaliencyDataset], quick: bool = False) -> SourceReport:
    """Look at every file of a source: names first, then each picture with its map and fixations.

    Args:
        dataset: its class.
        quick: read the headers alone, else decode every file.
    """
    phases_of: defaultdict[str, list[str]] = defaultdict(list)
    for phase in dataset.phases:
        phases_of[dataset.part(phase)].append(phase)
    parts = [PartReport(name, phases, dataset.is_video) for name, phases in phases_of.items()]
    look = look_at_headers if quick else partial(look_at_pixels, dataset)
    n_pictures = sum(len(group.pictures) for part in parts for group in _groups(dataset, part))
    with tqdm(
        total=n_pictures, desc=f"check {dataset.source}", unit="picture", leave=False, disable=None
    ) as bar:
        for part in parts:
            for group in _groups(dataset, part):
                _check_group(part, group, look, bar)
    return SourceReport(dataset.source, dataset.root(), parts)


def _groups(dataset: type[SaliencyDataset], part: PartReport) -> Iterable[Group]:
    return dataset.list_part(part.phases[0])


def _check_group(
    part: PartReport, group: Group, look: Callable[[FrameFiles], Look], bar: tqdm[None]
) -> None:
    sizes: dict[str, dict[Size, list[Path]]] = {kind: {} for kind in FrameFiles._fields}
    part.n_groups += 1
    part.problems += group.problems
    looks = in_threads(look, group.pictures, WORKERS, AHEAD)
    for picture, seen in zip(group.pictures, looks, strict=True):
        files = picture._asdict()
        part.counts.update(kind for kind, path in files.items() if path)
        part.problems += seen.problems
        for kind, size in seen.sizes.items():
            sizes[kind].setdefault(size, []).append(files[kind])
        if group.maps_like_images:
            part.problems += _unlike(picture, seen.sizes, "image", "saliency_map")
        bar.update()
    for kind, one_size in (("image", group.one_image_size), ("saliency_map", group.one_map_size)):
        if one_size:
            part.problems += _odd_sizes(group.name, sizes[kind])
    for kind, files_of in sizes.items():
        part.sizes[kind].update({size: len(paths) for size, paths in files_of.items()})


def _odd_sizes(group: str, files_of: Mapping[Size, Sequence[Path]]) -> list[Problem]:
    """-> a problem for each file that has another size than most of its group."""
    usual = max(files_of, key=lambda size: len(files_of[size]), default=None)
    return [
        Problem("of another size", path, f"{path} is {size}, most of {group} {usual} (h, w)")
        for size, paths in files_of.items()
        for path in paths
        if size != usual
    ]


# ---- one picture --------------------------------------------------------------------------
def look_at_headers(picture: FrameFiles) -> Look:
    """Read the sizes off the files' headers; a `.mat` has none."""
    sizes, problems = {}, []
    for kind, path in picture._asdict().items():
        if path is not None and path.suffix != ".mat":
            try:
                sizes[kind] = displayed_size(path)
            except UserError as error:
                problems.append(Problem("unreadable", path, str(error)))
    return Look(sizes, problems + _unlike(picture, sizes, "saliency_map", "fixations"))


def look_at_pixels(dataset: type[SaliencyDataset], picture: FrameFiles) -> Look:
    """Decode all files of a picture, and compare its map and fixations."""
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
    return Look(sizes, problems + _half_blank(picture, blank))


def _half_blank(picture: FrameFiles, blank: Mapping[str, bool]) -> list[Problem]:
    """-> the problem that of map and fixations one is blank and the other is not, if so."""
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
    """-> the problem that two files of a picture differ in size, if they do."""
    if one not in sizes or other not in sizes or sizes[one] == sizes[other]:
        return []
    first, second = getattr(picture, one), getattr(picture, other)
    text = f"{second} is {sizes[other]}, but {first} {sizes[one]} (h, w)"
    return [Problem("of another size", second, text)]


# ---- the quick part -----------------------------------------------------------------------
def quick_check(datasets: Iterable[SaliencyDataset]) -> None:
    """Look at the headers of a data set's files before long work.

    Which files there are and that maps have the right sizes has been checked when the data set was
    made. Here the headers of all files of at most `QUICK_PICTURES` pictures, evenly spread,
    are read: that takes seconds, and finds what is no picture or was cut off at its start.

    Raises:
        UserError: some cannot be read, or a map differs in size from its fixations; names them.
    """
    for dataset in datasets:
        chosen = evenly_spread(dataset.lengths(), QUICK_PICTURES)
        pictures = [dataset.files(index, number) for index, number in chosen]
        looks = in_threads(look_at_headers, pictures, WORKERS, AHEAD)
        problems = [problem for look in looks for problem in look.problems]
        if problems:
            shown = "; ".join(problem.text for problem in problems[:MAX_NAMED_FILES])
            more = len(problems) - MAX_NAMED_FILES
            raise UserError(
                f"{dataset.source}: {shown}{f' and {more} more' if more > 0 else ''}; "
                f"the command `check_data --source={dataset.source}` looks at every file"
            )


# ---- the table ----------------------------------------------------------------------------
def _row(part: PartReport) -> list[str]:
    counts = {"videos": part.n_groups} if part.of_videos else {}
    counts |= {name: part.counts[kind] for kind, name in KIND_NAMES.items()}
    there = ", ".join(f"{n} {name}" for name, n in counts.items() if n) or "nothing"
    return [part.name, f"({', '.join(part.phases)})", there, _sizes(part)]


def _sizes(part: PartReport) -> str:
    """-> the sizes of the images in words, and of the maps where these have others."""
    images, maps = part.sizes["image"], part.sizes["saliency_map"]
    other = f"; maps {_in_words(maps)}" if maps and maps.keys() != images.keys() else ""
    return _in_words(images) + other


def _in_words(sizes: Counter[Size]) -> str:
    shown = [f"{h} x {w}" for (h, w), _ in sizes.most_common(MAX_SIZES)]
    more = [f"{len(sizes) - MAX_SIZES} more sizes"] if len(sizes) > MAX_SIZES else []
    return ", ".join(shown + more)


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    lines = ("  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)) for row in rows)
    return [line.rstrip() for line in lines]
