"""The command `prepare_dhf1k`: from the videos of DHF1K's official download to frames.

The frames get the layout that the data set is read in (docs/behaviour.md, "Files").
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from unisal.checks import check_count
from unisal.commands.places import until_lost
from unisal.commands.progress import TERMINAL
from unisal.data.dhf1k import DHF1KDataset
from unisal.data.video_file import VideoFile
from unisal.data.video_index import FIXATIONS, IMAGES, MAPS, numbered_files, video_names
from unisal.errors import SomeFailed, UserError
from unisal.files import remove_leftovers, require_writable_folder, whole_folder
from unisal.threads import in_threads

VIDEOS, ANNOTATION, SURPLUS = "video", "annotation", "surplus"
VIDEO_NAME = re.compile(r"(\d+)\.avi", re.IGNORECASE)
PNG_COMPRESSION_LEVEL = 1
"""For PNG files: they get 6 % larger than with PIL's default, three times as fast (measured)."""
MAX_WORKERS = 16

log = logging.getLogger(__name__)


class Gaze(NamedTuple):
    """How many saliency maps and fixation maps a video has."""

    maps: int
    fixations: int


def prepare_dhf1k(*, folder: Path | None, tolerance: int) -> None:
    """Write the frames of `<folder>/video/NNN.AVI` to `<folder>/annotation/NNNN/images/NNNN.png`.

    Videos that have their frames are skipped, so the same call finishes a run that was stopped.
    Frames are written to a temporary folder, which is renamed when it is complete.

    There should be as many frames as maps. If the numbers differ by at most `tolerance`, a warning
    names the video, and the first frames that have a map and fixations are kept: frames after the
    last map are not written, and maps and fixations after the last frame are moved to
    `annotation/NNNN/surplus/`.

    Args:
        folder: the download; None for where DHF1K is read from.
        tolerance: by how many a video's frames and maps may differ. If they differ by more, one of
            them must have been cut off.

    Raises:
        UserError: there are no videos in the folder; nothing was done.
        SomeFailed: some videos are broken, are missing or differ too much from their maps; they
            have been named, and all others are done.
    """
    check_count(tolerance, "tolerance", smallest=0)
    folder = DHF1KDataset.root() if folder is None else folder
    videos = find_videos(folder)
    require_writable_folder(folder / ANNOTATION, "copy the download to where it can be written")
    failed = _without_video(folder, videos)
    n_done, n_before = 0, 0
    done = lambda: f"{n_done} of {len(videos)} videos"  # noqa: E731
    with until_lost(folder, done), TERMINAL.bar(VIDEOS, "video", len(videos)) as bar:
        for number, path in videos.items():
            annotation = folder / ANNOTATION / f"{number:04d}"
            has_gaze = number in DHF1KDataset.numbers
            try:
                n_before += prepare_video(path, annotation, has_gaze, tolerance)
                n_done += 1
            except UserError as error:
                failed.append(path.name)
                log.error("%s", error)
            bar.update()
    print(
        f"{n_done} videos have their frames in {folder / ANNOTATION}, {n_before} already had them"
    )
    if failed:
        raise SomeFailed(f"{len(failed)} not done: {', '.join(failed)}")


def find_videos(folder: Path) -> dict[int, Path]:
    """List the videos of the download by their numbers.

    Raises:
        UserError: there are none, or two with the same number.
    """
    place = folder / VIDEOS
    found: dict[int, Path] = {}
    for path in sorted(place.iterdir()) if place.is_dir() else ():
        if match := VIDEO_NAME.fullmatch(path.name):
            other = found.setdefault(int(match[1]), path)
            if other is not path:
                raise UserError(f"{other} and {path} have the same number; remove one of them")
    if not found:
        raise UserError(f"{place} holds no videos; expected NNN.AVI, and the maps in {ANNOTATION}/")
    return dict(sorted(found.items()))


def prepare_video(path: Path, annotation: Path, has_gaze: bool, tolerance: int) -> bool:
    """Write the frames of one video to `<annotation>/images/`.

    Args:
        path: the video file.
        annotation: the video's folder in the layout.
        has_gaze: whether it has to have maps and fixations.
        tolerance: see `prepare_dhf1k`.

    Returns:
        Whether the frames had been written before.

    Raises:
        UserError: the video is broken or does not match its maps; no frame is left.
    """
    gaze = count_gaze(annotation)
    if has_gaze and gaze is None:
        raise UserError(f"{path} has no maps and fixations in {annotation}")
    if frames := numbered_files(annotation, "").get(IMAGES):
        if gaze is not None and set(gaze) != {len(frames)}:
            raise UserError(
                f"{annotation / IMAGES} holds {len(frames)} frames, but there are {gaze.maps} maps "
                f"and {gaze.fixations} fixation maps; remove it to make it again"
            )
        return True
    remove_leftovers(annotation)
    limit = None if gaze is None else min(gaze)
    try:
        with whole_folder(annotation / IMAGES) as temporary:
            n_frames, damage = write_frames(path, temporary, limit)
            if gaze is not None:
                _compare(path, n_frames, gaze, damage, tolerance)
                _set_aside(annotation, gaze, min(n_frames, *gaze))
            elif damage:
                raise UserError(damage)
    finally:
        if not any(annotation.iterdir()):  # it would look like a video that lost its frames
            annotation.rmdir()
    return False


def count_gaze(annotation: Path) -> Gaze | None:
    """Count the maps and fixation maps in the folder of a video.

    Returns:
        The numbers; None if there are neither maps nor fixation maps.

    Raises:
        UserError: one of them is missing, or all of one kind.
    """
    counts = {}
    for kind, files in numbered_files(annotation, "").items():
        expected = [f"{n:04d}.png" for n in range(1, 1 + max(files))]
        missing = [name for name in expected if name not in files.values()]
        if missing and kind != IMAGES:
            raise UserError(f"{annotation / kind / missing[0]} is missing")
        counts[kind] = len(expected)
    absent = [kind for kind in (MAPS, FIXATIONS) if kind not in counts]
    if len(absent) == 1:
        raise UserError(f"{annotation / absent[0]} holds no files; maps and fixations go together")
    return None if absent else Gaze(counts[MAPS], counts[FIXATIONS])


def write_frames(path: Path, folder: Path, limit: int | None = None) -> tuple[int, str | None]:
    """Write the first `limit` frames of a video file as `%04d.png`.

    Returns:
        The number of frames in the file; and what is wrong with it, None for a sound one.

    Raises:
        UserError: it is not a readable video.
    """

    def write(numbered: tuple[int, NDArray[np.uint8]]) -> None:
        number, rgb = numbered
        target = folder / f"{number:04d}.png"
        Image.fromarray(rgb).save(target, compress_level=PNG_COMPRESSION_LEVEL)

    n_frames = 0

    def frames(video: VideoFile) -> Iterator[tuple[int, NDArray[np.uint8]]]:
        nonlocal n_frames
        for n_frames, frame in enumerate(video, 1):
            if limit is None or n_frames <= limit:
                yield n_frames, frame.rgb

    workers = min(MAX_WORKERS, os.cpu_count() or 1)
    with VideoFile(path) as video:
        for _ in in_threads(write, frames(video), workers, 2 * workers):
            pass
        return n_frames, video.damage


def _compare(path: Path, n_frames: int, gaze: Gaze, damage: str | None, tolerance: int) -> None:
    """Warn if the numbers of frames and maps differ; refuse the video if they differ too much."""
    if set(gaze) == {n_frames}:
        if damage:
            log.warning("%s; but it has a frame for each of its maps", damage)
        return
    differ = f"{path} holds {n_frames} frames, but there are {gaze.maps} maps"
    if gaze.fixations != gaze.maps:
        differ += f" and {gaze.fixations} fixation maps"
    if damage:
        raise UserError(f"{differ}; {damage}")
    if max(n_frames, *gaze) - min(n_frames, *gaze) > tolerance:
        raise UserError(
            f"{differ}: one of them must have been cut off; --tolerance takes more than {tolerance}"
        )
    log.warning("%s; the first %d are kept", differ, min(n_frames, *gaze))


def _set_aside(annotation: Path, gaze: Gaze, n_kept: int) -> None:
    """Move maps and fixations after the last frame to where they are not read."""
    for kind, n in ((MAPS, gaze.maps), (FIXATIONS, gaze.fixations)):
        for number in range(n_kept + 1, n + 1):
            name = f"{number:04d}.png"
            (annotation / SURPLUS / kind).mkdir(parents=True, exist_ok=True)
            (annotation / kind / name).rename(annotation / SURPLUS / kind / name)


def _without_video(folder: Path, videos: dict[int, Path]) -> list[str]:
    """Log and return the folders of maps that have neither frames nor a video."""
    without = []
    for name in video_names(folder / ANNOTATION):
        annotation = folder / ANNOTATION / name
        if name.isdecimal() and int(name) not in videos and not (annotation / IMAGES).is_dir():
            without.append(f"{ANNOTATION}/{name}")
            log.error("%s has no video in %s", annotation, folder / VIDEOS)
    return without
