"""Make one folder of gaze data of several, to train on mixed batches of their pictures.

Run `python -m benchmarks.merge_gaze --data=osie=FOLDER,eyecrowd=FOLDER --out=FOLDER`. The pictures
are linked, not copied, and each set's training and validation parts stay what they are. The
shipped weights were trained on such a folder.
"""

from __future__ import annotations

import argparse
import csv
import json
import math
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from unisal.data import find_dataset, name_data
from unisal.data.gaze import Fixations, GazeFolder
from unisal.errors import UserError

PHASES = {"train": "train", "valid": "val"}
COLUMNS = ("stimulus", "observer", "x", "y", "start_ms", "duration_ms")
DESCRIPTION = {"units": "pixels", "time_unit": "ms", "time_zero": "stimulus", "blur_share": 0.03}


def main(arguments: Sequence[str] | None = None) -> None:
    """Write the folder.

    Args:
        arguments: by default those of the command line.

    Raises:
        UserError: a folder cannot be read, holds films, or the one to write exists.
    """
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", required=True, help="folders of gaze data, NAME=FOLDER,...")
    parser.add_argument("--out", required=True, type=Path, help="the folder to make")
    options = parser.parse_args(arguments)
    merge([name_data(part) for part in options.data.split(",")], options.out)


def merge(specs: Sequence[str], out: Path) -> None:
    """Write a folder with the pictures and fixations of several.

    Args:
        specs: `NAME=FOLDER` of each folder of pictures with gaze.
        out: the folder to make.

    Raises:
        UserError: see `main`.
    """
    if out.exists():
        raise UserError(f"--out: {out} exists; name another folder, or remove it")
    sources = [find_dataset(spec) for spec in specs]
    for source in sources:
        if not issubclass(source, GazeFolder):
            raise UserError(f"--data: {source.source} does not hold pictures with a table of gaze")
    splits: dict[str, list[str]] = {part: [] for part in PHASES.values()}
    out.mkdir(parents=True)
    (out / "gaze.json").write_text(json.dumps(DESCRIPTION))
    with (out / "fixations.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(COLUMNS)
        for source in sources:
            for phase, part in PHASES.items():
                dataset = source.from_options({}, phase=phase)
                assert isinstance(dataset, GazeFolder)
                for picture, found in zip(dataset.images, fixations_of(dataset), strict=True):
                    name = f"{source.source}/{picture.name}"
                    link(picture, out / "stimuli" / name)
                    splits[part].append(name)
                    table.writerows((name, *row) for row in rows(found, source.source))
    (out / "splits.json").write_text(json.dumps(splits))


def fixations_of(dataset: GazeFolder) -> Iterator[Fixations]:
    """Yield the fixations of each picture of a part."""
    yield from (dataset.data.of(index) for index in dataset.chosen)


def link(picture: Path, place: Path) -> None:
    """Link to a picture, whose name within its set has to be its own."""
    place.parent.mkdir(parents=True, exist_ok=True)
    if place.exists():
        raise UserError(f"{picture}: another picture of the set is called {picture.name} too")
    place.symlink_to(picture.resolve())


def rows(fixations: Fixations, source: str) -> Iterator[tuple[Any, ...]]:
    """Yield the rows of a table: the observer's name within the merged set, position and times."""
    for k in range(len(fixations)):
        times = (fixations.start_ms[k], fixations.duration_ms[k])
        known = ["" if math.isnan(time) else time for time in times]
        observer = f"{source}_{fixations.observer[k]}"
        yield observer, fixations.x[k], fixations.y[k], *known


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        sys.exit(str(error))
