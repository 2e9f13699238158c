"""A folder of gaze data as it is read: stimuli, fixations, parts, and what was dropped."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from unisal.config import load_json
from unisal.data.gaze import pysaliency
from unisal.data.gaze.building import make_fixations
from unisal.data.gaze.columns import columns_for
from unisal.data.gaze.film import Film, read_film
from unisal.data.gaze.fixations import Fixations
from unisal.data.gaze.options import (
    CONFIG,
    DEFAULT_BLUR_DEGREES,
    DEFAULT_BLUR_SHARE,
    MOVING_CROPS,
    GazeOptions,
)
from unisal.data.gaze.parts import SPLITS, Splits, read_splits
from unisal.data.gaze.report import GazeReport
from unisal.data.gaze.rows import Rows, placed
from unisal.data.gaze.stimuli import list_files, match_names, stimuli_folder
from unisal.data.gaze.table import is_table, read_table
from unisal.data.pictures import displayed_size
from unisal.errors import UserError
from unisal.progress import SILENT, Progress
from unisal.threads import in_threads
from unisal.types import Size

T = TypeVar("T")
KEPT = 8
"""How many folders are remembered once they have been read."""
WORKERS = 4
"""The number of threads that read headers."""
MAX_NAMED = 5
_remembered: dict[Any, GazeData] = {}
"""What was read before, the latest last."""


@dataclass(frozen=True)
class Place:
    """Where a folder of gaze data lies, and how it is read."""

    folder: Path
    config: Path | None
    """Its `gaze.json`, which may lie elsewhere; None without one."""
    table: Path
    stimuli: Path
    """The folder of the stimuli."""
    options: GazeOptions


@dataclass(frozen=True)
class GazeData:
    """A folder of gaze data.

    `stimuli`, `sizes` and, for films, `films` are of one length and in natural order.
    """

    place: Place
    is_video: bool
    stimuli: tuple[Path, ...]
    sizes: tuple[Size, ...]
    """(height, width) of each stimulus."""
    films: tuple[Film, ...]
    """None for pictures."""
    fixations: Fixations
    first: NDArray[np.int64]
    """Where the fixations of a stimulus begin, `[stimuli + 1]`."""
    observers: tuple[str, ...]
    """The names of the observers; none if the table does not tell them apart."""
    of_samples: bool
    """Whether the rows are samples of gaze, not fixations."""
    splits: Splits
    report: GazeReport
    fingerprint: Mapping[str, str]
    """The content of the files, by their names: a hash, or the size of a stimulus in bytes."""

    def name(self, index: int) -> str:
        """Return the name of a stimulus: its path in the folder of the stimuli."""
        return self.stimuli[index].relative_to(self.place.stimuli).as_posix()

    def of(self, index: int) -> Fixations:
        """Return the fixations of a stimulus."""
        return self.fixations.take(slice(self.first[index], self.first[index + 1]))

    def blur(self, index: int) -> tuple[float, float]:
        """Return the blur of a stimulus's maps, in its pixels: (vertical, horizontal)."""
        options, size = self.place.options, self.sizes[index]
        if options.blur_pixels is not None:
            return options.blur_pixels, options.blur_pixels
        if options.blur_share is not None:
            return options.blur_share * max(size), options.blur_share * max(size)
        per_degree = options.degree_in_pixels
        if per_degree is None:
            return DEFAULT_BLUR_SHARE * max(size), DEFAULT_BLUR_SHARE * max(size)
        sigma = (options.blur_degrees or DEFAULT_BLUR_DEGREES) * per_degree
        if options.placement is None:
            return sigma, sigma
        scale = placed(options, np.array([[size[1], size[0]]], dtype=np.float64))[1][0]
        return sigma / float(scale[1]), sigma / float(scale[0])

    def fingerprint_hash(self) -> str:
        """Return one hash of everything that the data is made from."""
        content = json.dumps(dict(sorted(self.fingerprint.items())))
        return hashlib.sha256(content.encode()).hexdigest()[:16]


def find_place(path: Path, changes: Mapping[str, Any] | None = None) -> Place:
    """Find the table and the stimuli of a folder.

    Args:
        path: the folder, or a `gaze.json` of any name.
        changes: entries that replace those of the `gaze.json`.

    Raises:
        UserError: it does not exist, an entry is wrong, or there is no table, or several.
    """
    path = path.expanduser()
    if path.is_file() and path.suffix.lower() == ".json":
        config: Path | None = path
        folder = path.parent
    elif path.is_dir():
        folder = path
        config = path / CONFIG if (path / CONFIG).is_file() else None
    elif path.is_file() and is_table(path):
        folder, config = path.parent, None
        changes = {"table": path.name, **(changes or {})}
    else:
        what = "is neither a folder nor a gaze.json" if path.exists() else "does not exist"
        raise UserError(f"{path} {what}; name a folder with a table of gaze and its stimuli")
    values = {**(load_json(config) if config else {}), **(changes or {})}
    try:
        options = GazeOptions.from_dict(values)
    except UserError as error:
        said = str(error).removeprefix(f"{CONFIG}: ")
        changed = f", with {dict(changes)} instead" if changes and config else ""
        raise UserError(f"{config or folder}{changed}: {said}") from None
    if options.folder is not None:
        folder = folder / options.folder
        if not folder.is_dir():
            raise UserError(f"{config}: the folder {folder} does not exist")
    table = _find_table(folder, options.table)
    return Place(folder, config, table, stimuli_folder(folder, options.stimuli), options)


def _find_table(folder: Path, named: str | None) -> Path:
    """Return the table of a folder: the one that is named, or the only one."""
    if named is not None:
        if not (folder / named).is_file():
            raise UserError(f"the table {folder / named} does not exist")
        return folder / named
    found = sorted(path for path in folder.iterdir() if path.is_file() and is_table(path))
    found = [path for path in found if path.stem.lower() not in ("readme", "license", "licence")]
    if not found:
        found = [path for path in sorted(folder.iterdir()) if pysaliency.is_fixations(path)]
    others = [path for path in found if ".txt" not in path.name.lower()]
    found = others or found  # a .txt may be a note
    if len(found) > 1:
        usual = [p for p in found if p.name.split(".")[0].lower() in ("fixations", "gaze")]
        found = usual if len(usual) == 1 else found
    if not found:
        raise UserError(
            f"{folder} holds no table of gaze (.csv, .tsv, .parquet, or .hdf5 of pysaliency)"
        )
    if len(found) > 1:
        names = ", ".join(path.name for path in found[:MAX_NAMED])
        raise UserError(
            f"{folder} holds several tables: {names}; name one in {folder / CONFIG}: "
            f'{{"table": "{found[0].name}"}}'
        )
    return found[0]


def load_gaze(
    path: Path, changes: Mapping[str, Any] | None = None, progress: Progress = SILENT
) -> GazeData:
    """Read a folder of gaze data. It is remembered until one of its files changes.

    Args:
        path: see `find_place`.
        changes: see `find_place`.
        progress: counts the stimuli whose sizes are read.

    Raises:
        UserError: the table or a stimulus cannot be read, a column is missing, an option is wrong,
            or no row is left.
    """
    place = find_place(path, changes)
    stimuli = _Stimuli(place.stimuli)
    state = tuple(_state(p) for p in (*place_files(place), *stimuli.all))
    key = path.resolve(), json.dumps(changes or {}, sort_keys=True, default=str), state
    if key not in _remembered:
        _remembered[key] = _read(place, stimuli, progress)
        while len(_remembered) > KEPT:
            del _remembered[next(iter(_remembered))]
    return _remembered[key]


class _Stimuli:
    """What may be stimuli in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.pictures, self.videos, self.folders = list_files(folder)
        self.all = [*self.pictures, *self.videos]


def place_files(place: Place) -> list[Path]:
    """Return the files beside the stimuli that say what the data is."""
    splits = place.options.splits
    named = splits if isinstance(splits, str) else SPLITS if splits is None else None
    others = [place.config, place.folder / named if named else None]
    return [place.table, *(p for p in others if p is not None and p.is_file())]


def _state(path: Path) -> tuple[str, int, int]:
    """Return what changes if a file does."""
    found = path.stat()
    return str(path), found.st_size, found.st_mtime_ns


def _fingerprint(place: Place, paths: Sequence[Path]) -> dict[str, str]:
    """Return the content of the files by their names."""
    files = {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()[:16] for path in place_files(place)
    }
    sizes = {}
    for path in paths:
        inside = sorted(path.iterdir()) if path.is_dir() else [path]
        name = path.relative_to(place.stimuli).as_posix()
        sizes[f"{place.stimuli.name}/{name}"] = f"{sum(p.stat().st_size for p in inside)} bytes" + (
            f" in {len(inside)} files" if path.is_dir() else ""
        )
    return files | sizes


# ---- from files to arrays -----------------------------------------------------------------
def _read(place: Place, files: _Stimuli, progress: Progress) -> GazeData:
    """Read everything."""
    options = place.options
    if pysaliency.is_fixations(place.table):
        table = pysaliency.read_fixations(place.table)
    else:
        table = read_table(place.table, options.separator, options.encoding)
    rows = Rows(table, options)
    rows.keep_wanted()
    is_video, paths = _find_stimuli(rows, place, files)
    films = _read_films(paths, options, progress) if is_video else ()
    sizes = tuple(film.size for film in films) if is_video else _read_sizes(paths, progress)
    groups = _groups_of_stimuli(rows, len(paths))
    fixations, observers = make_fixations(rows, sizes, films)
    if not len(fixations):
        raise UserError(
            f"{place.table}: no row is left. {'; '.join(rows.report.lines())}. What the columns "
            f"hold can be said in a {CONFIG} beside it"
        )
    names = [path.relative_to(place.stimuli).as_posix() for path in paths]
    splits = read_splits(place.folder, options, names, groups, rows.report)
    data = GazeData(
        place=place,
        is_video=is_video,
        stimuli=tuple(paths),
        sizes=sizes,
        films=films,
        fixations=fixations,
        first=np.searchsorted(fixations.stimulus, np.arange(len(paths) + 1)),
        observers=observers,
        of_samples=rows.of_samples,
        splits=splits,
        report=rows.report,
        fingerprint=_fingerprint(place, paths),
    )
    _say_blur(data)
    return data


def _find_stimuli(rows: Rows, place: Place, files: _Stimuli) -> tuple[bool, list[Path]]:
    """Choose between pictures, video files and folders of frames; match the rows with them.

    Those that the table names most of are taken. The index of each row's stimulus becomes the
    column `stimulus`; rows of unknown ones are dropped.
    """
    kinds = [(False, files.pictures), (True, files.videos), (True, files.folders)]
    if place.options.kind is not None:
        kinds = [kind for kind in kinds if kind[0] == (place.options.kind == "films")]
    kinds = [kind for kind in kinds if kind[1]]
    if not kinds:
        named = place.options.kind
        wanted = "pictures" if named == MOVING_CROPS else named or "pictures or films"
        raise UserError(
            f"{place.stimuli} holds no {wanted}; name their "
            f'folder in {CONFIG}: {{"stimuli": "..."}}'
        )
    if rows.columns.get("stimulus") is None:
        is_video, paths = _only_stimulus(rows, kinds)
        rows.add("stimulus", np.zeros(len(rows.kept), np.int64))
        return is_video, paths
    if not len(rows.kept):
        broken = rows.table.n_broken
        raise UserError(
            f"{rows.table.path} holds no rows"
            + " to keep" * bool(rows.options.keep)
            + f" but {broken} with another number of cells than the header" * bool(broken)
        )
    matches = [
        (column, kind, match_names(rows.named(column), place.stimuli, kind[1]))
        for column in _columns_of_stimuli(rows)
        for kind in kinds
    ]
    column, (is_video, paths), (index, ambiguous) = max(
        matches, key=lambda match: int((match[2][0] >= 0).sum())
    )
    names = rows.named(column)
    if not (index >= 0).any():
        raise UserError(
            f"{rows.table.path}: the column {column!r} names no file in {place.stimuli}: it holds "
            f"{names[0]!r}, there is {paths[0].name!r}"
        )
    _say_unknown(rows, names, index, ambiguous)
    rows.add("stimulus", index)
    rows.drop(names == "", "without a stimulus")
    rows.drop(rows.added("stimulus") < 0, "of unknown stimuli")
    return is_video, paths


def _columns_of_stimuli(rows: Rows) -> list[str]:
    """Return the columns that may name the stimuli: the one that was named, or all usual ones."""
    if (named := rows.options.columns.get("stimulus")) is not None:
        return [named]
    return columns_for("stimulus", rows.table.columns)


def _only_stimulus(rows: Rows, kinds: Sequence[tuple[bool, list[Path]]]) -> tuple[bool, list[Path]]:
    """Return the single stimulus of a table that names none."""
    of_one = [kind for kind in kinds if len(kind[1]) == 1]
    if not of_one:
        raise UserError(
            f"{rows.table.path} has no column for the stimulus among "
            f"{', '.join(map(repr, rows.table.columns))}; name it in {CONFIG}: "
            '{"columns": {"stimulus": "..."}}'
        )
    rows.report.assumed.append(f"all rows are of the only stimulus, {of_one[-1][1][0].name}")
    return of_one[-1]


def _say_unknown(
    rows: Rows, names: NDArray[np.object_], index: NDArray[np.int64], ambiguous: Sequence[str]
) -> None:
    """Name some of the stimuli that are unknown, or that fit several files."""
    unknown = sorted(
        {n for n, i in zip(names.tolist(), index.tolist(), strict=True) if i < 0 and n}
    )
    for what, those in (("unknown stimuli", unknown), ("names that fit several files", ambiguous)):
        if those:
            more = f" and {len(those) - MAX_NAMED} more" if len(those) > MAX_NAMED else ""
            rows.report.assumed.append(f"{what}: {', '.join(those[:MAX_NAMED])}{more}")


def _groups_of_stimuli(rows: Rows, n: int) -> tuple[str, ...] | None:
    """Return which stimuli have to stay together: the value of `split_by` in their first row."""
    name = rows.options.split_by
    if name is None:
        return None
    groups: dict[int, str] = {}
    for index, value in zip(rows.added("stimulus").tolist(), rows.named(name), strict=True):
        if value:
            groups.setdefault(index, value)
    # A stimulus without a value is a group of its own.
    return tuple(groups.get(index, f"\0{index}") for index in range(n))


def _read_films(
    paths: Sequence[Path], options: GazeOptions, progress: Progress
) -> tuple[Film, ...]:
    """Index the films."""
    return tuple(_read_each(paths, partial(read_film, frame_rate=options.frame_rate), progress))


def _read_sizes(paths: Sequence[Path], progress: Progress) -> tuple[Size, ...]:
    """Read the sizes of pictures."""
    return tuple(_read_each(paths, displayed_size, progress))


def _read_each(paths: Sequence[Path], read: Callable[[Path], T], progress: Progress) -> list[T]:
    """Look at each stimulus; raise a UserError that names all that cannot be read."""

    def attempt(path: Path) -> T | UserError:
        try:
            return read(path)
        except UserError as error:
            return error

    found: list[T] = []
    faults: list[str] = []
    with progress.bar("read stimuli", "file", len(paths), keep=False) as bar:
        for result in in_threads(attempt, paths, WORKERS, 8 * WORKERS):
            if isinstance(result, UserError):
                faults.append(str(result))
            else:
                found.append(result)
            bar.update()
    if faults:
        more = f"; and {len(faults) - MAX_NAMED} more" if len(faults) > MAX_NAMED else ""
        raise UserError(f"{'; '.join(faults[:MAX_NAMED])}{more}")
    return found


def _say_blur(data: GazeData) -> None:
    """Say how wide the blur is, and why."""
    options, said = data.place.options, data.report.assumed
    if options.blur_pixels is None and options.blur_share is None:
        if options.degree_in_pixels is None:
            said.append(
                f"blur: {DEFAULT_BLUR_SHARE:.0%} of the longer side, since the size of a degree is "
                "not known"
            )
        else:
            degrees = options.blur_degrees or DEFAULT_BLUR_DEGREES
            said.append(f"blur: {degrees:g} degree{'s' * (degrees != 1)}")
    if data.of_samples:
        said.append("rows are samples of gaze, not fixations: each counts by itself")
