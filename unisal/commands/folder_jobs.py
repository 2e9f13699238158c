"""What is written for the pictures of a folder, and which of it is finished."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from unisal.commands.picture_folders import MAPS, OVERLAYS, PictureSet
from unisal.config import find_graph_file, find_weights, load_json, to_json
from unisal.errors import UserError, cause
from unisal.files import content_key, derived_name, key_of, whole_file
from unisal.inference.bf16 import record_path
from unisal.inference.densities import log_density, saliency_map, to_density, to_saliency_map
from unisal.inference.int8.kept import int8_path
from unisal.inference.views import Tta, read_tta
from unisal.predict.presets import find_preset, run_presets
from unisal.threads import in_threads
from unisal.types import RGB, Density, SaliencyMap, Size
from unisal.visualize.overlay import draw_overlay
from unisal.writing.formats import (
    DENSITIES,
    NAMES,
    MapFormat,
    distinct_names,
    find_map_format,
    picture_names,
)
from unisal.writing.maps import write_map, write_overlay
from unisal.writing.stamps import read_stamp, stamp, write_stamped

READERS, READ_AHEAD = 4, 64
"""Threads that look for finished maps, and pictures that may wait between them."""


AppendFrame = Callable[[Density, str, str], None]
"""Adds a frame's density to a file, with the frame's name and key."""


class State(Enum):
    """What lies where a picture's map and overlay are written."""

    FINISHED = "finished"
    MISSING = "missing"
    """Not all of it is there."""
    OTHER = "other"
    """Something that was made of another picture, in another way, or of what nobody knows."""


class PictureMaps(NamedTuple):
    """The prediction of one picture in the forms that are written."""

    saliency_map: SaliencyMap
    density: Density | None
    """None where densities are not written."""


def settings_key(
    *,
    train_id: str | None,
    source: str,
    model_domain: str | None,
    is_video: bool,
    smooth_method: str | None,
    maps: str | None,
    tta: Tta,
    precision: str = "fp32",
) -> str:
    """Return a key of all that a map depends on besides the pictures.

    Args:
        train_id: the run whose weights are used.
        source: the name of the preset.
        model_domain: the network domain that was asked for.
        is_video: whether the pictures are one video.
        smooth_method: see `Predictor.video`.
        maps: a key of `unisal.writing.formats.MAP_FORMATS`; None for grey pictures.
        tta: see `unisal.inference.engine.Engine`.
        precision: see `unisal.predict.Predictor`.

    Raises:
        UserError: there is no such run, or it has no weights.
    """
    preset = find_preset(source, own=run_presets(train_id))
    if graph := find_graph_file(train_id):
        try:
            content, network = content_key(graph), ""
        except OSError as error:
            raise UserError(f"{graph} cannot be read: {cause(error)}") from None
    else:
        weights = find_weights(train_id, preset.fine_tuned)
        content, network = (
            content_key(weights),
            to_json(load_json(weights.with_name("UNISAL.json"))),
        )
    domain = model_domain or preset.domain
    kept = [] if graph or precision not in ("int8", "auto") else kept_keys(weights, domain)
    chosen = [str(preset), domain, str(is_video), str(smooth_method), maps or "png"]
    # With the defaults, keys are those of versions that had neither.
    chosen += [*read_tta(tta), *([] if precision == "fp32" else [precision]), *kept]
    return key_of(content, network, *chosen)


def kept_keys(weights: Path, domain: str) -> list[str]:
    """Return keys of what `quantize` has put beside the weights, which decides how maps are made.

    Raises:
        UserError: it cannot be read.
    """
    kinds = [(path_of, static) for path_of in (int8_path, record_path) for static in (True, False)]
    paths = [path_of(weights, domain, static) for path_of, static in kinds]
    try:
        return [content_key(path) for path in paths if path.is_file()]
    except OSError as error:
        raise UserError(f"{error.filename} cannot be read: {cause(error)}") from None


def next_key(previous: str, content: str) -> str:
    """Return the key of a map.

    Args:
        previous: the key of the settings or, since a frame's map depends on all frames before it,
            of the frame before.
        content: the key of the picture's content.
    """
    return key_of(previous, content)


@dataclass(frozen=True)
class FolderJob:
    """The pictures of a folder, and what is written for them.

    Args:
        found: the pictures, and where to write.
        overlay: whether to write the pictures with their maps overlaid as well.
        maps: a key of `unisal.writing.formats.MAP_FORMATS`; None for grey pictures with the names
            of the pictures, and the formats of those that are PNG or JPEG.
        settings: see `settings_key`.
    """

    found: PictureSet
    overlay: bool
    maps: str | None = None
    settings: str = ""

    @property
    def pictures(self) -> list[Path]:
        return self.found.pictures

    @cached_property
    def map_format(self) -> MapFormat | None:
        return None if self.maps is None else find_map_format(self.maps)

    @property
    def maps_folder(self) -> Path:
        return self.found.out / MAPS

    @property
    def overlays_folder(self) -> Path:
        return self.found.out / OVERLAYS

    @property
    def holds_densities(self) -> bool:
        """Whether densities are written rather than saliency maps."""
        return self.map_format is not None and self.map_format.holds_densities

    @property
    def video_place(self) -> Path:
        """Where a video's maps go: the file of its densities, or the folder of pictures."""
        if self.map_format is None or not self.holds_densities:
            return self.maps_folder
        return self.maps_folder / derived_name(self.found.name, self.map_format.video_ending)

    def map_path(self, picture: Path) -> Path:
        """Return the file of a picture's map."""
        if self.map_format is None:
            return self.maps_folder / self._picture_names[picture]
        return self.maps_folder / derived_name(self._map_names[picture], self.map_format.suffix)

    def overlay_path(self, picture: Path) -> Path:
        """Return the file of a picture's overlay."""
        return self.overlays_folder / self._picture_names[picture]

    def outputs(self, picture: Path) -> list[Path]:
        """Return all files that may be written for a picture, also as a frame of a video."""
        written = [self.map_path(picture)] + ([self.overlay_path(picture)] if self.overlay else [])
        return [*written, self.video_place] if self.holds_densities else written

    # ---- keys of what is written: what it was made of and how ------------------------------

    def picture_key(self, picture: Path) -> str:
        """Return the key of the map of a picture that depends on no other one."""
        return next_key(self.settings, content_key(picture))

    @property
    def first_key(self) -> str:
        """The key from which those of a video's frames start, see `next_key`."""
        return key_of(self.settings, str(len(self.pictures)))

    def picture_state(self, picture: Path) -> State:
        """Return what is there for a picture that depends on no other one."""
        written = [self.map_path(picture)]
        written += [self.overlay_path(picture)] if self.overlay else []
        there = [path for path in written if path.exists()]
        if not there:
            return State.MISSING
        stamps = {read_stamp(path) for path in there}
        try:
            if len(stamps) > 1 or stamps != {self.picture_key(picture)}:
                return State.OTHER
        except OSError:  # whoever reads the picture says so
            return State.MISSING
        return State.FINISHED if there == written else State.MISSING

    def video_state(self) -> State:
        """Return what is there for the frames of a video, of which each depends on others."""
        written = [self._frame_paths(picture) for picture in self.pictures]
        if not all(path.exists() for paths in written for path in paths):
            return State.MISSING
        key = self.first_key
        try:
            contents = in_threads(content_key, self.pictures, READERS, READ_AHEAD)
            for paths, content in zip(written, contents, strict=True):
                key = next_key(key, content)
                if any(read_stamp(path) != key for path in paths):
                    return State.OTHER
        except OSError:
            return State.MISSING
        return State.FINISHED

    def _frame_paths(self, picture: Path) -> list[Path]:
        """Return the files that are complete once a frame of a video is done."""
        written = [self.overlay_path(picture)] if self.overlay else []
        if not self.holds_densities:
            written.append(self.map_path(picture))
        elif picture == self.pictures[-1]:
            written.append(self.video_place)
        return written

    # ---- writing ---------------------------------------------------------------------------

    @contextmanager
    def open_video_file(self) -> Iterator[AppendFrame | None]:
        """Open the file of a video's densities; None where pictures are written."""
        if self.map_format is None or self.map_format.open_rows is None:
            yield None
            return
        last_key = ""
        with whole_file(self.video_place) as temporary:
            with self.map_format.open_rows(temporary, DENSITIES, NAMES) as append:

                def append_frame(density: Density, name: str, key: str) -> None:
                    nonlocal last_key
                    append(density, name)
                    last_key = key

                yield append_frame
            stamp(temporary, last_key)

    def maps_of(self, y: NDArray[np.float32], size: Size, is_logits: bool) -> PictureMaps:
        """Turn a prediction into the forms that are written.

        Args:
            y: `[h, w] float32`, logits of any size, or the log-density.
            size: (height, width) of the picture.
            is_logits: whether `y` holds logits.
        """
        if is_logits and not self.holds_densities:
            return PictureMaps(saliency_map(y, size), None)
        density = to_density(log_density(y, size) if is_logits else y)
        return PictureMaps(to_saliency_map(density), density if self.holds_densities else None)

    def write_map(self, picture: Path, maps: PictureMaps, key: str) -> None:
        """Write the map of a picture."""
        write = write_map if self.map_format is None else self.map_format.write
        values = maps.saliency_map if maps.density is None else maps.density
        write_stamped(self.map_path(picture), key, lambda temporary: write(temporary, values))

    def write_overlay(self, picture: Path, rgb: RGB, maps: PictureMaps, key: str) -> None:
        """Write a picture with its map overlaid."""
        overlaid = draw_overlay(rgb, maps.saliency_map)
        path = self.overlay_path(picture)
        write_stamped(path, key, lambda temporary: write_overlay(temporary, overlaid))

    def say_done(self, n_maps: int, place: Path) -> None:
        """Print what was written, and where."""
        what = "densities" if self.holds_densities else "saliency maps"
        also = f", overlays in {self.overlays_folder}" if self.overlay else ""
        print(f"{n_maps} {what} in {place}{also}")

    @cached_property
    def _picture_names(self) -> dict[Path, str]:
        """The names of the files that are named after the pictures."""
        return picture_names(self.found.siblings)

    @cached_property
    def _map_names(self) -> dict[Path, str]:
        """The names of the files of a chosen format, without suffix."""
        return distinct_names(self.found.siblings)
