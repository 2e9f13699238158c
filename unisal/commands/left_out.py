"""What a command leaves out of a folder, said once."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from unisal.data.base import MAX_NAMED_FILES
from unisal.data.picture_kinds import Listing, missing_reader

log = logging.getLogger(__name__)


def first_names(names: Sequence[str]) -> str:
    """Return names, separated by commas, with an ellipsis in place of those after the first few."""
    return ", ".join([*names[:MAX_NAMED_FILES], *["..."] * (len(names) > MAX_NAMED_FILES)])


def warn_of_left_out(folder: Path, files: Sequence[Path], reason: str, what: str = "file") -> None:
    """Warn of files that are left out, if there are any.

    Args:
        folder: what was asked for; it holds the files.
        files: what is left out.
        reason: why, in a few words.
        what: what the files are, in the singular.
    """
    if files:
        names = first_names([str(file.relative_to(folder)) for file in files])
        plural = "" if len(files) == 1 else "s"
        log.warning("%s: %d %s%s left out, %s: %s", folder, len(files), what, plural, reason, names)


def warn_of_no_pictures(folder: Path, *listings: Listing) -> None:
    """Warn of the files of folders that are no pictures, or none that can be read here.

    Args:
        folder: what was asked for.
        listings: the files of folders in it.
    """
    by_reason: dict[str, list[Path]] = {}
    for listing in listings:
        for path in listing.unreadable:
            by_reason.setdefault(missing_reader(path) or "", []).append(path)
    for reason, files in by_reason.items():
        warn_of_left_out(folder, files, reason, "picture")
    others = [path for listing in listings for path in listing.others]
    warn_of_left_out(folder, others, "no picture" if len(others) == 1 else "no pictures")
