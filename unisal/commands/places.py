"""Places that commands write to: checked before the work, and told about when they are lost."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from unisal.errors import PlaceLost
from unisal.files import (
    is_place_error,
    named_place,
    remove_leftovers,
    require_writable_folder,
    said_reason,
)

GOES_ON = "the same command goes on from there"


def prepare_folder(folder: Path, advice: str) -> None:
    """Check that files can be written into a folder, and remove what a killed process left there.

    Args:
        folder: it need not exist.
        advice: what to do otherwise, see `require_writable_folder`.

    Raises:
        UserError: it cannot be written to.
    """
    require_writable_folder(folder, advice)
    remove_leftovers(folder)


@contextmanager
def until_lost(place: Path, done: Callable[[], str], advice: str = GOES_ON) -> Iterator[None]:
    """End the work with one line where it cannot be written any more.

    Args:
        place: where it is written, for errors that do not say so.
        done: says how far it came: "3 of 7 images".
        advice: how to go on once there is room.

    Raises:
        PlaceLost: something in the block could not be written.
    """
    try:
        yield
    except OSError as error:
        if not is_place_error(error):
            raise
        raise PlaceLost(
            f"{done()} done; then the work stopped at {named_place(error) or place}: "
            f"{said_reason(error)}; {advice}"
        ) from error
