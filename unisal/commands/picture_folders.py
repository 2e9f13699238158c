"""The pictures that a user asks for: one, those of a folder, or those of all folders below it."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from unisal.commands.left_out import warn_of_left_out, warn_of_no_pictures
from unisal.data.picture_kinds import (
    VIDEO_SUFFIXES,
    Listing,
    is_picture,
    list_files,
    missing_reader,
)
from unisal.errors import SomeFailed, UserError
from unisal.files import natural_order

IMAGES, MAPS, OVERLAYS = "images", "saliency", "overlay"
"""Subfolders: the one that is read, and the two that are written."""

log = logging.getLogger(__name__)


class PictureSet(NamedTuple):
    """Pictures of one folder: unrelated ones, or the frames of a video."""

    place: Path
    """What the user calls them: a folder, with or without `images/`, or a picture."""
    source: Path
    """The folder that they lie in."""
    pictures: list[Path]
    """At least one, in natural order."""
    siblings: list[Path]
    """All pictures of the folder, among which the names of maps have to be distinct."""
    out: Path
    """The folder whose `saliency/` and `overlay/` are written."""

    @property
    def name(self) -> str:
        """The name of the folder, or that of the picture without its suffix."""
        return self.place.resolve().name if self.place != self.pictures[0] else self.place.stem


class Failure(NamedTuple):
    """Why some pictures of a folder, or a whole video, could not be predicted."""

    place: Path
    error: UserError | SomeFailed
    """Names the pictures."""
    is_video: bool = False
    """Whether the place is a video, all of which failed."""

    def __str__(self) -> str:
        return f"video {self.place}: {self.error}" if self.is_video else str(self.error)


def find_picture_sets(
    places: Sequence[Path], recursive: bool, out_dir: Path | None
) -> tuple[list[PictureSet], list[Failure]]:
    """Find the pictures to predict, and warn of what is left out.

    Args:
        places: pictures of any kind and with any ending, and folders, whose pictures are those in
            their subfolder `images/`, or if there are none those that lie in them. Of several
            places, folders of earlier results are left out: a pattern fits them too.
        recursive: whether to go through the folders below them too, without hidden ones, earlier
            results, and folders that were seen before (through a link).
        out_dir: what takes the place of the folder for what is written. Of several folders each
            has a subfolder of its name there.

    Returns:
        The pictures of each folder that has some, and folders that have none.

    Raises:
        UserError: there are none at all, a place does not exist, or two would be written to the
            same folder.
    """
    if len(places) > 1:
        places = [place for place in places if place.name not in (MAPS, OVERLAYS)]
    pictures: dict[Path, list[Path]] = {}
    for place in dict.fromkeys(places):
        if not place.is_dir():
            pictures.setdefault(place.parent, []).append(_checked(place))
    folders = [place for place in dict.fromkeys(places) if place.is_dir()]
    several = len(pictures) + len(folders) > 1
    found, failed = [], []
    for folder in [*pictures, *folders]:
        out = folder if out_dir is None else out_dir
        out = out_dir / folder.resolve().name if several and out_dir is not None else out
        try:
            if folder in pictures and folder not in folders:
                found.append(_named_pictures(folder, pictures[folder], out))
            elif recursive:
                found += _find_below(folder, out)
            else:
                found.append(find_picture_set(folder, out))
        except UserError as error:
            failed.append(Failure(folder, error))
    if not found:
        raise UserError("; ".join(str(failure.error) for failure in failed))
    _check_places(found)
    return found, failed


def _find_below(root: Path, out_root: Path) -> list[PictureSet]:
    """Find the pictures in a folder and in those below it."""
    found, listings = [], []
    beside: list[Path] = []
    taken: set[Path] = set()  # folders `images/` that belong to the folder above
    for folder in _folders_below(root, out_root):
        try:
            own, inside = list_files(folder), _list_images(folder)
        except UserError as error:
            log.warning("%s; it is left out", error)
            continue
        listings.append(own)
        out = out_root / folder.relative_to(root)
        if inside.pictures:
            taken.add(folder / IMAGES)
            found.append(_as_set(folder, folder / IMAGES, inside, out))
            beside += [] if folder in taken else own.pictures
        elif own.pictures and folder not in taken:
            found.append(_as_set(folder, folder, own, out))
    if not found:
        missing = [path for listing in listings for path in listing.unreadable]
        raise UserError(f"{root} and the folders in it hold no pictures{_advice(missing)}")
    warn_of_no_pictures(root, *listings)
    _warn_of_pictures_beside(root, beside)
    return found


def find_picture_set(folder: Path, out: Path) -> PictureSet:
    """Find the pictures of a folder, and warn of what is left out; see `find_picture_sets`.

    Raises:
        UserError: there are none; says what was expected and where.
    """
    if not folder.is_dir():
        raise UserError(f"folder {folder} does not exist")
    own, inside = list_files(folder), _list_images(folder)
    if inside.pictures:
        warn_of_no_pictures(folder / IMAGES, inside)
        _warn_of_pictures_beside(folder, own.pictures)
        return _as_set(folder, folder / IMAGES, inside, out)
    if own.pictures:
        warn_of_no_pictures(folder, own)
        return _as_set(folder, folder, own, out)
    if (folder / IMAGES).is_dir():
        raise UserError(f"{folder / IMAGES} holds no pictures{_advice(inside.unreadable)}")
    raise UserError(
        f"{folder} holds no pictures and has no folder {IMAGES!r} with some"
        f"{_advice(own.unreadable)}"
    )


def visible_folders(folder: Path) -> list[Path]:
    """Return the subfolders that are not hidden, in natural order."""
    found = [f for f in folder.iterdir() if f.is_dir() and not f.name.startswith(".")]
    return sorted(found, key=natural_order)


def _checked(path: Path) -> Path:
    """Return a picture that is named, unless it cannot be one."""
    if not path.exists():
        raise UserError(f"{path} does not exist")
    if path.suffix.lower() in VIDEO_SUFFIXES and not is_picture(path):
        raise UserError(f"{path} is a video file; the command for it is predict_video")
    return path


def _named_pictures(folder: Path, pictures: list[Path], out: Path) -> PictureSet:
    """Return the set of pictures that are named; their maps go beside them."""
    try:
        siblings = list_files(folder).pictures
    except UserError:  # a folder that may not be listed, with files that may be read
        siblings = []
    known = set(siblings)
    siblings += [path for path in pictures if path not in known]
    place = pictures[0] if len(pictures) == 1 else folder
    return PictureSet(place, folder, sorted(pictures, key=natural_order), siblings, out)


def _check_places(found: Sequence[PictureSet]) -> None:
    """Check that no two folders are written to the same place."""
    writers: dict[Path, PictureSet] = {}
    for one in found:
        other = writers.setdefault(one.out.resolve(), one)
        if other is not one:
            raise UserError(
                f"{other.source} and {one.source} would both be written to {one.out}; predict them "
                "one by one, with an out_dir each"
            )


def _as_set(folder: Path, source: Path, listing: Listing, out: Path) -> PictureSet:
    return PictureSet(folder, source, listing.pictures, listing.pictures, out)


def _list_images(folder: Path) -> Listing:
    """List the files of a folder's `images/`."""
    images = folder / IMAGES
    return list_files(images) if images.is_dir() else Listing([], [], [])


def _folders_below(root: Path, out_root: Path) -> Iterator[Path]:
    """Yield a folder and all folders below it that may hold pictures, each once."""
    top = root.resolve()
    seen = {out_root.resolve()} - {top}

    def visit(folder: Path) -> Iterator[Path]:
        seen.add(folder.resolve())
        yield folder
        try:
            inside = visible_folders(folder)
        except OSError:  # whoever lists its files says so
            return
        for path in inside:
            real = path.resolve()
            elsewhere = path.is_symlink() and real.is_relative_to(top)  # it has its own turn
            if path.name not in (MAPS, OVERLAYS) and real not in seen and not elsewhere:
                yield from visit(path)

    yield from visit(root)


def _warn_of_pictures_beside(folder: Path, pictures: list[Path]) -> None:
    warn_of_left_out(folder, pictures, f"since there is a folder {IMAGES}/", "picture")


def _advice(unreadable: list[Path]) -> str:
    """Return what to add to the message that there are no pictures."""
    return f"; {missing_reader(unreadable[0])}" if unreadable else ""
