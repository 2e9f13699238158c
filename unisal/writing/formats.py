"""The formats of maps, in the one table that every command uses."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from unisal.data.picture_kinds import PICTURE_SUFFIXES
from unisal.errors import UserError
from unisal.files import derived_name
from unisal.writing.maps import (
    write_16_bit_map,
    write_density_h5,
    write_density_npz,
    write_map,
)
from unisal.writing.rows import OpenRows, rows_h5, rows_npz

PNG = ".png"
DENSITIES, TIMES, NAMES = "densities", "times", "names"
"""Names of the arrays in a file with the densities of a whole video: the densities, and the times
of its frames in seconds or the names of their files."""


class MapFormat(NamedTuple):
    """A way to write maps.

    Either saliency maps are written, as one grey picture each (`open_rows` is None); or densities
    are stored unchanged, and those of a whole video share one file.
    """

    write: Callable[[Path, NDArray[np.float32]], None]
    """Writes the map of one picture, `[H, W] float32`."""
    suffix: str
    """Suffix of the file of one picture."""
    video_ending: str
    """What follows a video's name in the name of its folder of pictures or of its file."""
    open_rows: OpenRows | None = None
    """Opens the file for the densities of a video."""

    @property
    def holds_densities(self) -> bool:
        """Whether densities are written, which sum to 1, rather than saliency maps."""
        return self.open_rows is not None


MAP_FORMATS = {
    "png": MapFormat(write_map, ".png", "_maps"),
    "png16": MapFormat(write_16_bit_map, ".png", "_maps16"),
    "npz": MapFormat(write_density_npz, ".npz", "_densities.npz", rows_npz),
    "h5": MapFormat(write_density_h5, ".h5", "_densities.h5", rows_h5),
}
"""The formats by the names that the option `maps` takes."""


def find_map_format(name: Any) -> MapFormat:
    """Return the format with that name.

    Raises:
        UserError: there is no such format; lists the known ones.
    """
    if not isinstance(name, str) or name not in MAP_FORMATS:
        raise UserError(f"maps is {name!r}; it has to be one of {', '.join(MAP_FORMATS)}")
    return MAP_FORMATS[name]


def distinct_names(files: Sequence[Path], taken: Sequence[str] = ()) -> dict[Path, str]:
    """Choose names, without suffix, for what is made from pictures or videos.

    Names that differ only in capitals count as the same: some file systems do not tell them apart.

    Args:
        files: files of one folder.
        taken: names that are in use for something else.

    Returns:
        For each file its stem, or its whole name where several share the stem.
    """
    n_uses = Counter(name.casefold() for name in [*taken, *(file.stem for file in files)])
    names = {file: file.stem for file in files if n_uses[file.stem.casefold()] == 1}
    used = {name.casefold() for name in [*taken, *names.values()]}
    for file in files:
        if file not in names:
            name = file.name
            while name.casefold() in used:  # it is the stem of another: a.png and a.png.png
                name += "_"
            names[file] = name
            used.add(name.casefold())
    return {file: names[file] for file in files}


def picture_names(pictures: Sequence[Path]) -> dict[Path, str]:
    """Choose the names of the files for grey maps and overlays of pictures.

    Args:
        pictures: all pictures of one folder.

    Returns:
        For each PNG and JPEG file its own name; for any other kind, which may not hold such a
        picture or not without loss, that of a PNG file.
    """
    kept = [file for file in pictures if file.suffix.lower() in PICTURE_SUFFIXES]
    others = [file for file in pictures if file.suffix.lower() not in PICTURE_SUFFIXES]
    taken = [file.stem for file in kept if file.suffix.lower() == PNG]
    pngs = distinct_names(others, taken)
    return {f: derived_name(pngs[f], PNG) if f in pngs else f.name for f in pictures}
