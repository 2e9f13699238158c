"""Stimuli and fixations as the HDF5 files of pysaliency, read and written.

pysaliency (https://github.com/matthias-k/pysaliency) need not be installed. In its files the pixel
of a position is floor(x), here it is floor(x + 0.5), so half a pixel is added or subtracted.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from unisal.data.gaze.table import Column, Table
from unisal.errors import UserError, cause
from unisal.files import write_atomically

SUFFIXES = (".hdf5", ".h5")
FIXATION_TYPES = ("Fixations", "FixationTrains", "ScanpathFixations")
STIMULI_TYPES = ("FileStimuli", "Stimuli")
STIMULI_FILE, FIXATIONS_FILE = "stimuli.hdf5", "fixations.hdf5"
TIME_UNIT = "time_unit"
"""An attribute that pysaliency ignores: the unit of times in files that were written here."""
DURATIONS = ("durations", "duration")
MAX_SECONDS = 10
"""Durations whose median is below this are taken as seconds."""
HALF = 0.5


# ---- reading --------------------------------------------------------------------------------
def is_fixations(path: Path) -> bool:
    """Return whether a file holds fixations as pysaliency writes them."""
    if not path.name.lower().endswith(SUFFIXES) or path.name.startswith("."):
        return False
    try:
        with _opened(path) as file:
            return _text(file.attrs.get("type", b"")) in FIXATION_TYPES
    except UserError:
        return False


def read_fixations(path: Path) -> Table:
    """Read fixations of pysaliency as a table.

    The names of the stimuli are those of the `FileStimuli` in the same folder: `stimuli.hdf5`, or a
    file called like the fixations with `stimuli` in place of `fixations`.

    Args:
        path: a file with `Fixations`, `FixationTrains` or `ScanpathFixations`.

    Returns:
        Columns `stimulus`, `observer`, `x` and `y`; `start_ms` and `duration_ms` if they are known;
        and the attributes of scanpaths. Positions are in pixels from 0, the middle of the first.

    Raises:
        UserError: a file is missing, damaged or of another kind.
    """
    with _opened(path) as file:
        kind = _text(file.attrs.get("type", b""))
        if kind not in FIXATION_TYPES:
            raise UserError(f"{path} holds {kind or 'no type'!r}; expected fixations of pysaliency")
        try:
            columns = _READERS[kind](file)
        except (KeyError, ValueError, OSError) as error:
            raise UserError(f"{path} cannot be read as pysaliency's {kind}: {error}") from None
    names = stimulus_names(_stimuli_of(path))
    number = columns.pop("n").astype(np.int64)
    if len(number) and (number.min() < 0 or number.max() >= len(names)):
        raise UserError(f"{path} has stimulus {number.max()}, its stimuli are {len(names)}")
    stimulus = np.array(names, dtype=object)[number]
    return Table(path, {"stimulus": stimulus, **columns})


def stimulus_names(path: Path) -> list[str]:
    """Return the files of `FileStimuli`, relative to the folder of the HDF5 file.

    Raises:
        UserError: it cannot be read, or holds the pictures themselves.
    """
    with _opened(path) as file:
        kind = _text(file.attrs.get("type", b""))
        if kind == "Stimuli":
            raise UserError(
                f"{path} holds the pictures themselves; write them to files first: "
                "unisal.data.gaze.pysaliency.unpack_stimuli"
            )
        if kind != "FileStimuli":
            raise UserError(f"{path} holds {kind or 'no type'!r}; expected stimuli of pysaliency")
        return [_text(name) for name in file["filenames"][...]]


def unpack_stimuli(path: Path, folder: Path) -> list[Path]:
    """Write the pictures of a `Stimuli` file as PNG files.

    Beside them goes a `stimuli.hdf5` that names them, so that a copy of the fixations there makes
    the folder one of gaze data.

    Args:
        path: the HDF5 file.
        folder: where to write to: `stimuli/<number>.png` and `stimuli.hdf5`.

    Returns:
        The pictures, in order.

    Raises:
        UserError: the file cannot be read.
    """
    written, shapes = [], []
    with _opened(path) as file:
        if _text(file.attrs.get("type", b"")) != "Stimuli":
            raise UserError(f"{path} does not hold pictures as pysaliency's Stimuli")
        size = int(file.attrs["size"])
        for number in range(size):
            pixels = file[str(number)][...]
            place = folder / "stimuli" / f"{number:0{len(str(size))}d}.png"
            write_atomically(place, Image.fromarray(pixels).save)
            written.append(place)
            shapes.append(pixels.shape)
    _write_stimuli(folder / STIMULI_FILE, written, shapes)
    return written


def _stimuli_of(fixations: Path) -> Path:
    """Return the file of the stimuli that belongs to a file of fixations."""
    likely = (fixations.name.replace("fixations", "stimuli"), STIMULI_FILE)
    for name in likely:
        if name != fixations.name and (fixations.with_name(name)).is_file():
            return fixations.with_name(name)
    raise UserError(f"{fixations} needs the file of its stimuli beside it: {likely[0]}")


def _from_fixations(file: Any) -> dict[str, Column]:
    """Read `Fixations`: one value per fixation."""
    columns = {"n": file["n"][...], **_positions(file["x"][...], file["y"][...])}
    subjects = "subjects" if "subjects" in file else "subject"
    if subjects in file:
        columns["observer"] = file[subjects][...]
    return columns | _times(file, file["t"][...], None)


def _from_trains(file: Any) -> dict[str, Column]:
    """Read `FixationTrains`: a row per scanpath, filled up with NaN."""
    xs = file["train_xs"][...]
    there = ~np.isnan(xs)
    paths = np.nonzero(there)[0]
    attributes = file.get("scanpath_fixation_attributes", {})
    durations = next((attributes[n][...][there] for n in DURATIONS if n in attributes), None)
    columns = {
        "n": file["train_ns"][...][paths],
        "observer": file["train_subjects"][...][paths],
        **_positions(xs[there], file["train_ys"][...][there]),
        **_times(file, file["train_ts"][...][there], durations),
    }
    return columns | _of_scanpaths(file.get("scanpath_attributes", {}), paths, columns)


def _from_scanpaths(file: Any) -> dict[str, Column]:
    """Read `ScanpathFixations`: the same with the lengths of the scanpaths."""
    group = file["scanpaths"]
    xs, lengths = group["xs"][...], group["lengths"][...]
    there = np.arange(xs.shape[1])[None, :] < lengths[:, None]
    paths = np.nonzero(there)[0]
    of_paths, of_fixations = group["scanpath_attributes"], group["fixation_attributes"]
    columns = {"n": group["n"][...][paths], **_positions(xs[there], group["ys"][...][there])}
    if "subject" in of_paths:
        columns["observer"] = of_paths["subject"][...][paths]
    durations = next((of_fixations[n][...][there] for n in DURATIONS if n in of_fixations), None)
    starts = of_fixations["ts"][...][there] if "ts" in of_fixations else None
    columns |= _times(file, starts, durations)
    return columns | _of_scanpaths(of_paths, paths, columns)


_READERS = {
    "Fixations": _from_fixations,
    "FixationTrains": _from_trains,
    "ScanpathFixations": _from_scanpaths,
}


def _positions(x: Column, y: Column) -> dict[str, Column]:
    return {"x": x.astype(np.float64) - HALF, "y": y.astype(np.float64) - HALF}


def _times(file: Any, starts: Column | None, durations: Column | None) -> dict[str, Column]:
    """Return what is known of times.

    The unit of pysaliency's times differs from data set to data set, and some count fixations, so
    starts are taken only from files that were written here.
    """
    columns = {}
    if starts is not None and _text(file.attrs.get(TIME_UNIT, b"")) == "ms":
        columns["start_ms"] = starts
    if durations is not None and np.isfinite(durations).any():
        in_seconds = np.nanmedian(durations) < MAX_SECONDS
        columns["duration_ms"] = durations * (1000 if in_seconds else 1)
    return columns


def _of_scanpaths(
    attributes: Mapping[str, Any], paths: NDArray[np.int64], known: Mapping[str, Column]
) -> dict[str, Column]:
    """Return the attributes of scanpaths, which can be groups."""
    found = {}
    for name in attributes:
        values = attributes[name][...]
        if values.ndim == 1 and name not in (*known, "subject", "stimulus"):
            if values.dtype.kind in "SO":
                values = np.array([_text(v) for v in values], dtype=object)
            found[name] = values[paths]
    return found


# ---- writing --------------------------------------------------------------------------------
def write_pysaliency(data: Any, folder: Path, stimuli: Sequence[int] | None = None) -> list[Path]:
    """Write pictures and fixations for pysaliency: `stimuli.hdf5` and `fixations.hdf5`.

    The pictures stay where they are; `stimuli.hdf5` names them relative to `folder`. Times and
    durations are milliseconds. `pysaliency.read_hdf5` reads both files.

    Args:
        data: a `GazeData`, see `load_gaze`.
        folder: where to write to.
        stimuli: the indices of the pictures to write; None for all.

    Returns:
        The two files.

    Raises:
        UserError: the data holds films.
    """
    if data.is_video:
        raise UserError(f"{data.place.folder} holds films, and pysaliency knows pictures only")
    chosen = range(len(data.stimuli)) if stimuli is None else stimuli
    paths = [data.stimuli[index] for index in chosen]
    _write_stimuli(folder / STIMULI_FILE, paths, [(*data.sizes[index], 3) for index in chosen])
    trains = [train for n, index in enumerate(chosen) for train in _trains(data.of(index), n)]
    target = folder / FIXATIONS_FILE
    write_atomically(target, partial(_write_trains, trains, list(data.fixations.groups)))
    return [folder / STIMULI_FILE, target]


def _trains(found: Any, number: int) -> Iterator[dict[str, Any]]:
    """Yield the fixations of each person on a picture."""
    for who in np.unique(found.observer):
        path = found.take(found.observer == who)
        yield {
            "n": number,
            "subject": int(who),
            "xs": path.x + HALF,
            "ys": path.y + HALF,
            "ts": np.where(np.isfinite(path.start_ms), path.start_ms, path.number - 1),
            "durations": path.duration_ms,
            **{name: values[0] for name, values in path.groups.items()},
        }


def _write_trains(trains: Sequence[Mapping[str, Any]], groups: Sequence[str], path: Path) -> None:
    """Write `FixationTrains`, version 1.2."""
    import h5py

    width = max((len(train["xs"]) for train in trains), default=0)

    def padded(name: str) -> NDArray[np.float64]:
        filled = np.full((len(trains), width), np.nan)
        for row, train in zip(filled, trains, strict=True):
            row[: len(train[name])] = train[name]
        return filled

    with h5py.File(path, "w") as file:
        _label(file, "FixationTrains", "1.2", [])
        file.attrs["scanpath_attribute_mapping"] = np.bytes_(json.dumps({"durations": "duration"}))
        file.attrs[TIME_UNIT] = np.bytes_("ms")
        for name, source in (("train_xs", "xs"), ("train_ys", "ys"), ("train_ts", "ts")):
            file.create_dataset(name, data=padded(source))
        file.create_dataset("train_ns", data=np.array([t["n"] for t in trains], np.int64))
        subjects = np.array([t["subject"] for t in trains], np.int64)
        file.create_dataset("train_subjects", data=subjects)
        of_paths = file.create_group("scanpath_attributes")
        of_paths.attrs["__attributes__"] = np.bytes_(json.dumps(sorted(groups)))
        for name in groups:
            values = [str(train[name]) for train in trains]
            of_paths.create_dataset(name, data=values, dtype=h5py.string_dtype())
        of_fixations = file.create_group("scanpath_fixation_attributes")
        of_fixations.attrs["__attributes__"] = np.bytes_(json.dumps(["durations"]))
        of_fixations.create_dataset("durations", data=padded("durations"))


def _write_stimuli(path: Path, files: Sequence[Path], shapes: Sequence[tuple[int, ...]]) -> None:
    """Write `FileStimuli`, version 2.1."""
    names = [Path(os.path.relpath(file, path.parent)).as_posix() for file in files]
    write_atomically(path, partial(_write_file_stimuli, names, shapes))


def _write_file_stimuli(
    names: Sequence[str], shapes: Sequence[tuple[int, ...]], path: Path
) -> None:
    import h5py

    with h5py.File(path, "w") as file:
        _label(file, "FileStimuli", "2.1", [])
        file.attrs["size"] = len(names)
        file.create_dataset("filenames", data=list(names), dtype=h5py.string_dtype())
        kept = file.create_dataset("shapes", (len(names),), dtype=h5py.vlen_dtype(np.int64))
        for number, shape in enumerate(shapes):
            kept[number] = np.array(shape, np.int64)


def _label(file: Any, kind: str, version: str, attributes: Sequence[str]) -> None:
    """Write what every file of pysaliency says about itself."""
    file.attrs["type"] = np.bytes_(kind)
    file.attrs["version"] = np.bytes_(version)
    file.attrs["__attributes__"] = np.bytes_(json.dumps(list(attributes)))


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """Open an HDF5 file."""
    import h5py  # here, since its 11 MB are of use to few

    try:
        with h5py.File(path, "r") as file:
            yield file
    except UserError:
        raise
    except FileNotFoundError:
        raise UserError(f"{path} does not exist") from None
    except Exception as error:  # h5py raises of many types on a damaged file
        raise UserError(f"{path} cannot be read as HDF5: {cause(error)}") from error


def _text(value: Any) -> str:
    return value.decode("utf-8") if isinstance(value, bytes) else str(value)
