"""Files and folders: whole or absent, in places that can be written, under names that fit."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import itertools
import os
import platform
import re
import shutil
import tempfile
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path, PurePath
from typing import Any

from unisal.errors import UserError

NUMBER = re.compile("[0-9]+")
MAX_NAME_BYTES = 255
"""How long a file's name may be; the limit of all common file systems."""
MAX_PREFIX_BYTES = 60
"""How much of a file's name its temporary name repeats: a long name leaves no room for more."""
MAX_SUFFIX_BYTES = 16
"""What is longer than this after the last dot of a name is no suffix that names a format."""
PROBE_BYTES = 1 << 16
"""How much is written to find out whether there is room in a place."""
FORSAKEN_SECONDS = 24 * 3600.0
"""Seconds without a change after which nobody is believed to be writing a temporary file any more,
where it cannot be found out whether its process still runs."""
TEMPORARY_NAME = re.compile(
    r"\..*-(?P<host>[0-9a-f]{4})(?P<process>[0-9a-f]{6})(?P<count>[0-9a-f]{4})(?P<check>[0-9a-f]{2})"
    r"(\.[^.]*)?",
    re.DOTALL,
)
"""Names of temporary files and folders: which process writes them, and a checksum that tells them
from a user's own hidden files."""
EARLIER_NAME = re.compile(r"\.(?P<stem>.+)-(?=.*\d)[0-9a-z_]{8,16}(?P<suffix>\.[^.]*)?", re.DOTALL)
"""Names of temporary files of earlier versions."""
PLACE_ERRORS = {
    getattr(errno, name)
    for name in (
        *("ENOSPC", "EDQUOT", "EFBIG", "EROFS", "EACCES", "EPERM", "EIO", "ENODEV", "ENXIO"),
        *("ENOTDIR", "EISDIR", "ELOOP", "ENAMETOOLONG", "EMFILE", "ENFILE", "EBUSY", "ESTALE"),
        *("ENOENT", "EEXIST", "ENOTEMPTY"),
    )
    if hasattr(errno, name)
}
"""Errors of the operating system that are about where a file lies, not about what is in it."""
FULL = {getattr(errno, name) for name in ("ENOSPC", "EDQUOT") if hasattr(errno, name)}
READ_BYTES = 1 << 20
MAX_FAILURES = 3
"""After how many results in a row that could not be written a place is given up."""

_numbers = itertools.count()


# ---- whole or absent ----------------------------------------------------------------------
def write_atomically(path: Path, write: Callable[[Path], Any]) -> None:
    """Call `write(temporary)` and move the result to `path`; see `whole_file`."""
    with whole_file(path) as temporary:
        write(temporary)


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Write a file so that it exists either completely or not at all.

    Args:
        path: the file; its folder is created if it does not exist.

    Yields:
        A temporary file to write to, which is moved to `path` when the block ends. It lies in the
        same folder and has the same suffix, since some writers choose the format by it. Nothing is
        left of it if the block fails; `remove_leftovers` removes that of a process that was killed.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # A file that is created like this gets the usual permissions. `mkstemp` would restrict it to
    # its owner, and the process's umask cannot be read without changing it.
    temporary = _temporary(path, path.stem)
    try:  # a signal may end the block between any two steps
        temporary.touch(exist_ok=False)
        yield temporary
        temporary.replace(path)
    except OSError as error:
        if (named := _naming(error, temporary, path)) is None:
            raise
        raise named from error
    finally:
        with contextlib.suppress(OSError):  # then it stays, and only takes room
            temporary.unlink()


@contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """Fill a folder so that it exists either completely or not at all.

    Args:
        path: the folder, which must not exist yet.

    Yields:
        A temporary folder to fill, which becomes `path` when the block ends. It lies beside `path`
        and is called `.<name>-...`. Nothing is left of it if the block fails; `remove_leftovers`
        removes that of a process that was killed.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = _temporary(path, path.name)
    try:
        temporary.mkdir()
        yield temporary
        temporary.rename(path)
    except OSError as error:
        if (named := _naming(error, temporary, path)) is None:
            raise
        raise named from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


@contextmanager
def temporary_folder(folder: Path, name: str) -> Iterator[Path]:
    """Make a folder for what is needed for a while, in a `with` statement.

    Args:
        folder: where to make it; it is created if it does not exist.
        name: what it is for; it is called `.<name>-...`.

    Yields:
        The new folder, which nobody else may read. It is removed when the block ends, and
        `remove_leftovers` removes that of a process that was killed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    temporary = _temporary(folder / name, name)
    try:
        temporary.mkdir(mode=0o700)
        yield temporary
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def remove_leftovers(folder: Path, below: bool = False, of: Collection[str] = ()) -> None:
    """Remove the temporary files and folders that processes which were killed left in a folder.

    What a process that still runs is writing is never touched, nor is any other file. If it cannot
    be found out whether the process runs (on another machine, in another container), a day without
    a change decides.

    Args:
        folder: where to look; it need not exist.
        below: whether to look in the folders below it as well.
        of: names of files that nothing but the caller writes there. Their temporary files are
            removed even if an earlier version of the program made them, whose names do not say
            which process it was.
    """
    folders = [Path(found) for found, _, _ in os.walk(folder)] if below else [folder]
    for each in folders:
        with contextlib.suppress(OSError):  # then it stays, and only takes room
            for path in each.iterdir():
                if _is_leftover(path, of):
                    _remove(path)


def remove_oldest(folder: Path, pattern: str, max_bytes: int, keep: int = 1) -> None:
    """Remove files or folders that were not changed for longest while they take too much room.

    Args:
        folder: where they are.
        pattern: of their names.
        max_bytes: how much they may take together.
        keep: how many of the newest stay, however large they are.
    """
    found = []
    for path in folder.glob(pattern):
        with contextlib.suppress(OSError):  # another process may remove it, too
            parts = path.iterdir() if path.is_dir() else [path]
            size = sum(part.stat().st_size for part in parts)
            found.append((path.stat().st_mtime, size, path))
    total = sum(size for _, size, _ in found)
    for _, size, path in sorted(found)[: max(0, len(found) - keep)]:
        if total <= max_bytes:
            break
        with contextlib.suppress(OSError):
            _remove(path)
            total -= size


def _temporary(path: Path, name: str) -> Path:
    """Return a hidden name beside `path` that nothing else has, and no other process chooses."""
    prefix = _cut(name, MAX_PREFIX_BYTES)
    suffix = path.suffix if len(os.fsencode(path.suffix)) <= MAX_SUFFIX_BYTES else ""
    while True:
        number = next(_numbers) & 0xFFFF
        token = f"{_host()}{os.getpid() & 0xFFFFFF:06x}{number:04x}"
        temporary = path.with_name(f".{prefix}-{token}{_checksum(token)}{suffix}")
        if not os.path.lexists(temporary):  # of an earlier process of the same number
            return temporary


def _naming(error: OSError, temporary: Path, path: Path) -> OSError | None:
    """Return an error that names the file to be written, where it names none or the temporary one.

    None where it says all that it should, or more, as those of libraries do.
    """
    name = named_place(error)
    is_ours = not name or os.fspath(temporary) in name
    if not is_ours or not is_place_error(error):
        return None
    return OSError(error.errno, error.strerror, os.fspath(path))


def _is_leftover(path: Path, of: Collection[str]) -> bool:
    """Return whether a file or folder is a temporary one that nobody writes any more."""
    match = TEMPORARY_NAME.fullmatch(path.name)
    token = match and match["host"] + match["process"] + match["count"]
    if match is None or token is None or _checksum(token) != match["check"]:
        earlier = EARLIER_NAME.fullmatch(path.name)
        return earlier is not None and earlier["stem"] + (earlier["suffix"] or "") in of
    if match["host"] == _host() and os.name == "posix":
        return not _runs(int(match["process"], 16))
    return time.time() - path.lstat().st_mtime > FORSAKEN_SECONDS


def _runs(process: int) -> bool:
    """Return whether there is a process of that number."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:  # that of another user
        return True
    return True


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


@cache
def _host() -> str:
    """Return four digits for where processes are known: a machine since its start, a container."""
    known = [platform.node()]
    for source in ("/proc/sys/kernel/random/boot_id", "/proc/self/ns/pid"):
        with contextlib.suppress(OSError):
            path = Path(source)
            known.append(str(path.readlink()) if path.is_symlink() else path.read_text())
    return _digest("\n".join(known), 4)


def _checksum(token: str) -> str:
    """Return the two digits that end the token of a temporary name."""
    return _digest(f"unisal {token}", 2)


def _digest(text: str, n_digits: int) -> str:
    """Return the first hexadecimal digits of a text's SHA-256."""
    return hashlib.sha256(os.fsencode(text)).hexdigest()[:n_digits]


# ---- places -------------------------------------------------------------------------------
def require_writable_folder(folder: Path, advice: str = "") -> None:
    """Check, before any work, that files can be written into a folder, and leave nothing there.

    Args:
        folder: it need not exist; then its nearest parent that exists is tried, where it would be
            created.
        advice: what to do otherwise, for the message: "name another folder with --out_dir".

    Raises:
        UserError: it is a file or lies below one, the place is read-only, forbidden or full, a
            link leads nowhere, or a name is too long. One line that names the folder, the reason
            and what to do.
    """
    reason = _why_not(folder)
    if reason:
        raise UserError(f"{folder} cannot be written to: {_with_advice(reason, advice)}")


def require_writable_file(path: Path, advice: str = "") -> None:
    """Check, before any work, that a file can be written or replaced, and leave nothing there.

    Args:
        path: the file; neither it nor its folder need exist.
        advice: what to do otherwise, see `require_writable_folder`.

    Raises:
        UserError: it is a folder, its name is too long, or see `require_writable_folder`.
    """
    reason = _why_not(path.parent)
    if not reason and len(os.fsencode(path.name)) > MAX_NAME_BYTES:
        reason = "its name is too long"
    if not reason and path.is_dir():
        reason = "it is a folder"
    if reason:
        raise UserError(f"{path} cannot be written: {_with_advice(reason, advice)}")


def _why_not(folder: Path) -> str:
    """Return why nothing can be written into a folder; "" if it can."""
    place = folder
    try:
        place = _nearest(folder)
        with tempfile.TemporaryFile(dir=place) as file:
            file.write(bytes(PROBE_BYTES))
    except UserError as error:
        return str(error)
    except OSError as error:
        if error.errno == errno.ENOENT:  # of /proc and the like
            return f"nothing can be created in {place}"
        return said_reason(error)
    return ""


def _with_advice(reason: str, advice: str) -> str:
    return f"{reason}; {advice}" if advice else reason


def is_place_error(error: BaseException | None) -> bool:
    """Return whether an error, or what caused it, is about where something was to be written."""
    return _number(error) in PLACE_ERRORS


def is_disk_full(error: BaseException | None) -> bool:
    """Return whether an error, or what caused it, is that a disk of this machine is full."""
    return _number(error) in FULL


class PlaceWatch:
    """Tells when it is of no use to go on with the next input, since nothing can be written.

    A file may be too large where a smaller one is not: what was half-written is gone, and room is
    there again. So a place is given up if it cannot be written at all any more, or after
    `MAX_FAILURES` inputs one after the other.
    """

    def __init__(self) -> None:
        self._n_failures = 0

    def is_lost(self, folder: Path, error: BaseException | None) -> bool:
        """Count an input, and return whether to give up.

        Args:
            folder: where its results were to be written.
            error: why they could not be; None if they were.
        """
        if not is_place_error(error):
            self._n_failures = 0
            return False
        self._n_failures += 1
        if self._n_failures == MAX_FAILURES:
            return True
        try:
            require_writable_folder(folder)
        except UserError:
            return True
        return False


def said_reason(error: OSError) -> str:
    """Return what the operating system says about an error, without the names of files."""
    return error.strerror or str(error) or type(error).__name__


def named_place(error: OSError) -> str:
    """Return the file or folder that an error of the operating system is about, "" if unknown."""
    name = error.filename
    return os.fsdecode(name) if isinstance(name, str | bytes | os.PathLike) else ""


def _number(error: BaseException | None) -> int | None:
    """Return the number of an error of the operating system, or of one that caused it."""
    while error is not None:
        number = getattr(error, "errno", None)
        if isinstance(number, int):
            return number
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return None


def _nearest(folder: Path) -> Path:
    """Return the folder, or its nearest parent that exists.

    Raises:
        UserError: that is no folder, or a name on the way cannot exist there.
        OSError: the place cannot be looked at.
    """
    for place in (folder, *folder.parents):
        if len(os.fsencode(place.name)) > MAX_NAME_BYTES:
            raise UserError("its name is too long")
        try:
            is_folder = place.stat() and place.is_dir()
        except FileNotFoundError:
            if place.is_symlink():
                raise UserError(f"{place} is a link to something that does not exist") from None
            continue
        except NotADirectoryError:
            continue  # a parent of it is a file
        if not is_folder:
            raise UserError(f"{place} is not a folder")
        return place
    return folder


# ---- names --------------------------------------------------------------------------------
def natural_order(path: PurePath | str) -> tuple[object, ...]:
    """Return a key by which files are sorted as people number them: `2.jpg` before `10.jpg`.

    Runs of the digits 0 to 9 count as whole numbers, everything else character by character, folder
    by folder. Where numbers are padded with zeros this is the order of the names; what differs only
    in the zeros (`1.jpg`, `01.jpg`) is in the order of the names too.
    """
    parts = PurePath(path).parts
    return [NUMBER.sub(_sortable, part) for part in parts], parts


def _sortable(number: re.Match[str]) -> str:
    """Return a number as text that sorts by its value: where its digits do, by length, by digits.

    A string for each name, since a folder may hold a million of them.
    """
    digits = number[0].lstrip("0")
    return f"0{chr(len(digits))}{digits}"


def derived_name(stem: str, ending: str) -> str:
    """Return the name of a file or folder that is made from another one.

    Args:
        stem: the name of the other one, in general without suffix.
        ending: what follows it.

    Returns:
        Both joined. Where the file system does not take so long a name: the beginning of the stem,
        eight digits that depend on all of it, and the ending.
    """
    name = stem + ending
    if len(os.fsencode(name)) <= MAX_NAME_BYTES:
        return name
    digits = f"~{_digest(stem, 8)}"
    return _cut(stem, MAX_NAME_BYTES - len(os.fsencode(digits + ending))) + digits + ending


def from_home(text: str) -> str:
    """Return a path as it was typed, with `~` or `~user` at its start as the home folder.

    Shells leave `--out_dir=~/maps` as it is. What exists under the very name stays itself, and so
    does what names no user.
    """
    if not text.startswith("~") or os.path.lexists(text):
        return text
    return os.path.expanduser(text)  # noqa: PTH111  # that of Path fails for an unknown user


def _cut(name: str, n_bytes: int) -> str:
    """Return the beginning of a name that is at most so long, in whole characters."""
    while len(os.fsencode(name)) > n_bytes:
        name = name[:-1]
    return name


# ---- content ------------------------------------------------------------------------------
def key_of(*parts: str) -> str:
    """Return a key that differs if one of the parts does: 32 hexadecimal digits."""
    return hashlib.blake2b("\n".join(parts).encode(), digest_size=16).hexdigest()


def content_key(path: Path) -> str:
    """Return a key of a file's content.

    Raises:
        OSError: it cannot be read.
    """
    found = hashlib.blake2b(digest_size=16)
    with path.open("rb") as file:
        while block := file.read(READ_BYTES):
            found.update(block)
    return found.hexdigest()
