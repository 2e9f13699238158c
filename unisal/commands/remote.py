"""Inputs and outputs of commands that URLs name; see docs/guide/remote_files.md."""

from __future__ import annotations

import io
import logging
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import NamedTuple, TextIO

from unisal.checks import check_number
from unisal.errors import SomeFailed, UserError
from unisal.files import from_home, remove_leftovers, require_writable_folder
from unisal.remote.mirror import Mirror, opened_mirror
from unisal.remote.places import is_url, require_fsspec

SPOOL_GB = 10.0


class Here(NamedTuple):
    """Paths of this machine for all that a command was given."""

    places: Sequence[str]
    out_dir: Path | None
    mirror: Mirror | None
    """Holds those that stand for URLs; None if there are no URLs."""


@contextmanager
def here(
    places: Sequence[str],
    out_dir: str | None,
    spool: str | None,
    spool_gb: float | None,
    recursive: bool | None = False,
) -> Iterator[Here]:
    """Find paths of this machine for what a command is given, in a `with` statement.

    Whatever is printed, logged or raised in it about these paths names URLs instead.

    Args:
        places: paths, URLs and patterns.
        out_dir: a path or URL; None if there is none.
        spool: the folder for files while they are here; None for the system's.
        spool_gb: how many GB they may take; None for `SPOOL_GB`.
        recursive: see `Mirror.add`.

    Raises:
        UserError: a URL names nothing, an option is wrong, or fsspec is not installed.
    """
    if not any(map(is_url, [*places, out_dir])):
        if spool is not None or spool_gb is not None:
            raise UserError("spool and spool_gb are for files that URLs name; there are none")
        path = None if out_dir is None else Path(from_home(out_dir))
        yield Here(places, path, None)
        return
    require_fsspec()
    gb = SPOOL_GB if spool_gb is None else spool_gb
    check_number(gb, "spool_gb", above=True)
    folder = Path(from_home(spool)) if spool is not None else Path(tempfile.gettempdir())
    require_writable_folder(folder, "name another folder with --spool")
    remove_leftovers(folder)
    with opened_mirror(folder, gb * 1e9) as mirror, saying(mirror.courier.named):
        found: list[str] = []
        for place in places:
            found += map(str, mirror.add(place, recursive)) if is_url(place) else [place]
        if out_dir is not None and is_url(out_dir):
            yield Here(found, mirror.add_output(out_dir), mirror)
        else:
            path = None if out_dir is None else Path(from_home(out_dir))
            yield Here(found, path, mirror)


@contextmanager
def saying(named: Callable[[str], str]) -> Iterator[None]:
    """Change what is printed, logged and raised in a `with` statement.

    Args:
        named: returns the text that takes the place of another one.
    """

    def rename(record: logging.LogRecord) -> bool:
        record.msg, record.args = named(record.getMessage()), ()
        return True

    handlers = logging.getLogger().handlers
    for handler in handlers:
        handler.addFilter(rename)
    try:
        with redirect_stdout(_Renamed(named, sys.stdout)):
            yield
    except (UserError, SomeFailed) as error:
        raise type(error)(named(str(error))) from error
    finally:
        for handler in handlers:
            handler.removeFilter(rename)


class _Renamed(io.TextIOBase):
    """Writes other texts than those that it is given."""

    def __init__(self, named: Callable[[str], str], to: TextIO) -> None:
        self._named, self._to = named, to

    def write(self, text: str) -> int:
        self._to.write(self._named(text))
        return len(text)

    def flush(self) -> None:
        self._to.flush()
