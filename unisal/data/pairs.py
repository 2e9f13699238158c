"""Pairs of pictures and their maps in a folder (docs/behaviour.md, "Commands and files")."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from unisal.data.pictures import list_pictures
from unisal.errors import UserError
from unisal.files import natural_order


class Layout(NamedTuple):
    """The names of the folders of pictures and of maps."""

    images: str
    maps: str


LAYOUTS = (Layout("images", "maps"), Layout("ALLSTIMULI", "ALLFIXATIONMAPS"))
MAP_ENDING, POINTS_ENDING = "_fixMap", "_fixPts"
"""How MIT1003 names the files of maps and of fixations, which are not maps."""


class Pair(NamedTuple):
    """A picture and its ground-truth map, if it has one."""

    image: Path
    map: Path | None


def find_pairs(folder: Path) -> list[Pair]:
    """Pair the pictures of a folder with their maps, in natural order.

    The folder holds `images/` and `maps/`, or `ALLSTIMULI/` and `ALLFIXATIONMAPS/`. Pictures may
    lie in a nested folder of the same name (`ALLSTIMULI/ALLSTIMULI/`), maps in any subfolder
    (`ALLFIXATIONMAPS/ALLFIXATIONMAPS/`, SALICON's `maps/train/` and `maps/val/`).

    Raises:
        UserError: there are no pictures, no map belongs to a picture though there are maps, or two
            maps belong to the same picture.
    """
    layout = find_layout(folder)
    images = _list_images(folder / layout.images)
    maps = _list_maps(folder / layout.maps)
    pairs = match(images, maps)
    if maps and not any(pair.map for pair in pairs):
        raise UserError(
            f"none of the {len(maps)} maps in {folder / layout.maps}, such as {maps[0].name}, "
            f"belongs to a picture in {folder / layout.images}, such as {images[0].name}; a map "
            f"has the name of its picture, or that name followed by {MAP_ENDING}"
        )
    return pairs


def find_layout(folder: Path) -> Layout:
    """Return the layout whose folder of pictures exists and is not empty.

    Raises:
        UserError: there is none; says what was expected.
    """
    if not folder.is_dir():
        raise UserError(f"folder {folder} does not exist")
    for layout in LAYOUTS:
        if _list_images(folder / layout.images):
            return layout
    expected = " or ".join(f"{layout.images}/ (maps in {layout.maps}/)" for layout in LAYOUTS)
    raise UserError(f"{folder} holds no pictures; expected them in {expected}")


def match(images: list[Path], maps: list[Path]) -> list[Pair]:
    """Pair each picture with its map.

    Its map has the same stem, else the stem `<stem>_fixMap`, else the picture's whole name as its
    stem. Failing that, it is the only remaining map with the same last number in its stem, provided
    that no other remaining picture has this number.

    Raises:
        UserError: two folders hold a map of the same stem.
    """
    by_stem: dict[str, Path] = {}
    for path in sorted(maps, key=lambda path: path.suffix.lower() != ".png"):  # PNG goes first
        other = by_stem.setdefault(path.stem, path)
        if other.parent != path.parent:
            raise UserError(f"{other} and {path}: there has to be one map per picture")
    found = {
        image: next((by_stem[name] for name in _names(image) if name in by_stem), None)
        for image in images
    }
    taken = {path.stem for path in found.values() if path}
    images_left = _by_last_number(image for image in images if found[image] is None)
    maps_left = _by_last_number(path for stem, path in by_stem.items() if stem not in taken)
    for number, same in images_left.items():
        if len(same) == 1 and len(maps_left[number]) == 1:
            found[same[0]] = maps_left[number][0]
    return [Pair(image, found[image]) for image in images]


def _names(image: Path) -> tuple[str, ...]:
    """Return the names that the map of an image may have, the best first."""
    return image.stem, f"{image.stem}{MAP_ENDING}", image.name


def _by_last_number(paths: Iterable[Path]) -> defaultdict[int, list[Path]]:
    """Group files by the last number in their stem."""
    groups: defaultdict[int, list[Path]] = defaultdict(list)
    for path in paths:
        if numbers := re.findall(r"\d+", path.stem):
            groups[int(numbers[-1])].append(path)
    return groups


def _list_images(folder: Path) -> list[Path]:
    """List the pictures of a folder or, if there are none, of its nested folder."""
    for place in (folder, folder / folder.name):
        if place.is_dir() and (found := list_pictures(place)):
            return found
    return []


def _list_maps(folder: Path) -> list[Path]:
    """List the maps in a folder and its subfolders."""
    if not folder.is_dir():
        return []
    inside = [f for f in folder.iterdir() if f.is_dir() and not f.name.startswith(".")]
    inside.sort(key=natural_order)
    found = [path for place in (folder, *inside) for path in list_pictures(place)]
    return [path for path in found if not path.stem.endswith(POINTS_ENDING)]
