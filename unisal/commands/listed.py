"""What a list of files names, in place of words that are typed; see `unisal.data.file_list`."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unisal.data.file_list import (
    Entry,
    check_once,
    count_entries,
    entries_alike,
    in_parts,
    read_file_list,
)
from unisal.errors import PlaceLost, SomeFailed, UserError
from unisal.files import derived_name
from unisal.remote.places import is_url

if TYPE_CHECKING:
    from unisal.commands.video_files import VideoOptions

AT_A_TIME = 10_000
"""Videos of a list that are looked into, and predicted, together: many more than workers, since the
last of them are waited for before the next ones begin."""

log = logging.getLogger(__name__)


def listed_places(files: Path | None, typed: Any) -> list[str]:
    """Return the pictures and folders that a list names; none where there is no list.

    Args:
        files: the list.
        typed: what was typed beside it, which has to be nothing.

    Raises:
        UserError: the list is faulty, or names something twice or that does not exist.
    """
    if files is None:
        return []
    _check(files, typed)
    places = []
    for entry in read_file_list(files):
        if not is_url(entry.place) and not Path(entry.place).exists():
            raise UserError(f"{files}:{entry.line}: {entry.place} does not exist")
        places.append(entry.place)
    return places


def predict_listed(
    files: Path, typed: Any, options: VideoOptions, predict: Callable[[Sequence[str]], None]
) -> None:
    """Predict the videos that a list names, some at a time, so that memory stays bounded.

    Args:
        files: the list.
        typed: see `listed_places`.
        options: how they are predicted.
        predict: predicts videos, see `unisal.commands.video_files.predict_videos`.

    Raises:
        UserError: before any work: the list is faulty, names a video twice, or names two whose
            outputs have one name; or an option is wrong.
        SomeFailed: some videos could not be predicted and were named; all others are done.
    """
    _check(files, typed)
    check_outputs(files, options)
    n, n_parts_failed = 0, 0
    for part in in_parts(read_file_list(files), AT_A_TIME):
        n += len(part)
        n_parts_failed += not _predict_part(files, part, predict)
    if n_parts_failed:
        raise SomeFailed(
            f"{files}: some of {n} videos could not be predicted and are named above; the same "
            "command tries them again"
        )


def _predict_part(
    files: Path, part: Sequence[Entry], predict: Callable[[Sequence[str]], None]
) -> bool:
    """Predict some videos; return whether all are done."""
    there = [e for e in part if is_url(e.place) or Path(e.place).is_file()]
    for entry in part:
        if entry not in there:
            log.error("%s:%d: %s is no file that exists", files, entry.line, entry.place)
    if not there:
        return False
    try:
        predict([entry.place for entry in there])
    except PlaceLost:
        raise
    except SomeFailed as error:
        log.error("%s, lines %d to %d: %s", files, part[0].line, part[-1].line, error)
        return False
    except UserError as error:
        if len(there) > 1:  # of one video it says why that one failed
            raise
        log.error("%s:%d: %s", files, there[0].line, error)
        return False
    return len(there) == len(part)


def check_outputs(files: Path, options: VideoOptions) -> None:
    """Check that no two videos of a list are written to the same place.

    Raises:
        UserError: two are; names them and the place.
    """
    from unisal.commands.video_files import check_names  # here, since lists of pictures need none

    def names(entry: Entry) -> tuple[str, ...]:
        path = Path(entry.place)
        folder = options.folder_of(path)  # outputs begin with one of these names
        begins = dict.fromkeys((path.stem, path.name))
        return tuple(str(folder / derived_name(name, "")) for name in begins)

    for alike in entries_alike(files, names):
        try:
            check_names([Path(entry.place) for entry in alike], options)
        except UserError as error:
            lines = " and ".join(str(entry.line) for entry in alike[:2])
            raise UserError(f"{files}, lines {lines}: {error}") from None


def _check(files: Path, typed: Any) -> None:
    if typed:
        raise UserError(f"there is a list, --files={files}, and other files beside it; name one")
    count_entries(files)
    check_once(files)
