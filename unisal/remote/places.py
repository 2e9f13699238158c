"""Files that are named by URLs: listed, pulled and pushed through fsspec."""

from __future__ import annotations

import fnmatch
import os
import re
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from threading import Event
from typing import Any, NamedTuple, TypeVar
from urllib.parse import quote, unquote, urlsplit

from unisal.errors import UserError, cause
from unisal.files import derived_name, is_disk_full

Y = TypeVar("Y")

URL = re.compile("[a-z][a-z0-9+.-]+://", re.IGNORECASE)
WAITS = 0.5, 2.0, 8.0
"""Seconds that are waited before what failed is tried again; after the last one it has failed."""
INSTALL = "pip install 'unisal[remote]'"
WEB = "http", "https"
"""What can be read only, and where a query belongs to the name."""
OBJECT_STORES = "s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "adl", "oss", "oci"
"""Where a file appears when all of it is there, and folders are only the beginnings of names."""
STREAMS = "rtsp", "rtsps", "rtmp", "rtmps", "rtp", "udp", "srt", "mms", "mmsh"
PLAYLISTS = ".m3u8", ".m3u", ".mpd", ".pls", ".sdp"
"""Files that name other files, which would be missing where they are pulled to."""
FINAL = (
    *(FileNotFoundError, PermissionError, FileExistsError, IsADirectoryError, NotADirectoryError),
    *(UserError, TypeError, ValueError, NotImplementedError, ImportError),
)
"""Errors that would come again."""
TRY_AGAIN = 408, 425, 429
"""Answers of web servers below 500 that may be others the next time."""
USER = re.compile(r"([a-z][a-z0-9+.-]+://)[^/\s'\"]*@", re.IGNORECASE)
QUERY = re.compile(r"(https?://[^\s'\"?#]*)[?#][^\s'\"]*", re.IGNORECASE)
PROBE = ".unisal-probe"
MAGIC = {True: re.compile(r"[*\[]"), False: re.compile(r"[*?\[]")}
"""What makes a name a pattern: on the web, where `?` begins a query, and elsewhere."""


class TooLarge(UserError):
    """A file does not fit into the room that it was given."""


class Stopped(Exception):
    """The work has ended while a file was on its way."""


def require_fsspec() -> Any:
    """Import fsspec.

    Raises:
        UserError: it is not installed; says how to install it.
    """
    try:
        return import_module("fsspec")
    except ImportError as error:
        raise UserError(f"URLs need fsspec ({cause(error)}): {INSTALL}") from None


def is_url(text: str | os.PathLike[str] | None) -> bool:
    """Return whether a text is a URL rather than a path."""
    return isinstance(text, str) and URL.match(text) is not None


def without_secrets(text: str) -> str:
    """Return a text whose URLs have neither users with passwords nor queries, which may be keys."""
    return QUERY.sub(r"\1", USER.sub(r"\1", text))


@dataclass(frozen=True)
class Place:
    """A file or folder that a URL names.

    Attributes:
        url: the URL, which may hold secrets; `str` of the place has none.
    """

    url: str = field(repr=False)

    def __str__(self) -> str:
        return without_secrets(self.url)

    @property
    def scheme(self) -> str:
        return self.url.partition("://")[0].lower()

    @property
    def is_web(self) -> bool:
        return self.scheme in WEB

    @property
    def name(self) -> str:
        """What follows the last slash, as a file here would be called."""
        if self.is_web:
            return unquote(urlsplit(self.url).path.rstrip("/").rpartition("/")[2])
        return self.url.rstrip("/").rpartition("/")[2]

    @property
    def parent(self) -> Place:
        """The folder that it lies in."""
        url = self.url.partition("?")[0].partition("#")[0] if self.is_web else self.url
        return Place(url.rstrip("/").rpartition("/")[0] + "/")

    def child(self, name: str) -> Place:
        """Return what has a name in this folder; the name may hold slashes."""
        return Place(f"{self.url.rstrip('/')}/{quote(name) if self.is_web else name}")


class Entry(NamedTuple):
    """What a folder holds."""

    name: str
    place: Place
    size: int | None
    """Bytes; None if that is not known."""
    is_folder: bool


@dataclass(frozen=True)
class Stores:
    """Reads and writes files that are named by URLs.

    What fails and may succeed later is tried again, after `WAITS`. All messages name URLs without
    secrets. Credentials and addresses of servers are where fsspec and its packages look for them:
    in the environment and in files of the user's.

    Args:
        stopped: ends what is on its way when it is set.
    """

    stopped: Event | None = field(default=None, compare=False, repr=False)

    def open(self, place: Place) -> tuple[Any, str]:
        """Return the file system of a place, and the place's name in it.

        Raises:
            UserError: there is none for this kind of URL, or a package is missing; says what to do.
        """
        fsspec, scheme = require_fsspec(), place.scheme
        if scheme in STREAMS:
            raise UserError(f"{place} is a stream; the command for it is predict_camera")
        if "::" in place.url:
            raise UserError(f"{place}: chains of places (::) are not supported")
        if scheme not in fsspec.available_protocols():
            raise UserError(f"{place}: fsspec knows no places that begin with {scheme}://")
        try:
            fs, path = fsspec.core.url_to_fs(place.url)
        except ImportError as error:
            raise UserError(
                f"{place} needs a package that is not installed here: {_package(fsspec, scheme)} "
                f"({error})"
            ) from None
        except (TypeError, ValueError) as error:
            words = without_secrets(cause(error))
            raise UserError(f"{place} cannot be opened: {words}") from None
        return fs, path

    def look(self, place: Place) -> Entry:
        """Return what a URL names; a web server's URL names a folder if it ends with a slash.

        Raises:
            UserError: there is nothing, or it cannot be looked at.
        """
        if place.is_web:
            return Entry(place.name, place, self._web_size(place), place.url.endswith("/"))
        fs, path = self.open(place)
        info = self._trying(place, lambda: fs.info(path))
        return Entry(place.name, place, info.get("size"), info["type"] == "directory")

    def _web_size(self, place: Place) -> int | None:
        """Return how large a file is, None if the server does not say; who reads it says why."""
        if place.url.endswith("/"):
            return None
        fs, path = self.open(place)
        with suppress(Exception):  # those of a dozen libraries
            size: int | None = fs.info(path).get("size")
            return size
        return None

    def entries(self, folder: Place) -> list[Entry]:
        """List a folder, without hidden files and those whose names no file here can have.

        Raises:
            UserError: it does not exist or cannot be listed.
        """
        fs, path = self.open(folder)
        fs.invalidate_cache()  # another process may have written there
        infos = self._trying(folder, lambda: fs.ls(path, detail=True))
        found = (self._entry(folder, path, info) for info in infos)
        return list({e.name: e for e in found if e is not None and _is_name(e.name)}.values())

    def entries_if_any(self, folder: Place) -> list[Entry]:
        """List a folder that may not exist."""
        try:
            return self.entries(folder)
        except UserError as error:
            if isinstance(error.__cause__, FileNotFoundError):
                return []
            raise

    def _entry(self, folder: Place, path: str, info: Mapping[str, Any]) -> Entry | None:
        is_folder = info["type"] == "directory"
        if folder.is_web:
            place = Place(info["name"])
            return Entry(place.name, place, info.get("size"), is_folder)
        name = info["name"].rstrip("/")
        if name == path.rstrip("/"):  # what stands for the folder itself
            return None
        name = name.rpartition("/")[2]
        return Entry(name, folder.child(name), info.get("size"), is_folder)

    def matches(self, pattern: Place) -> list[Entry]:
        """Return the files that a pattern fits.

        Raises:
            UserError: nothing can be listed where it begins.
        """
        if pattern.is_web:
            return self._matches_on_the_web(pattern)
        whole = MAGIC[False].split(pattern.url, maxsplit=1)[0]
        start = Place(whole.rpartition("/")[0])
        fs, path = self.open(pattern)
        _, above = self.open(start)
        fs.invalidate_cache()
        infos = self._trying(pattern, lambda: fs.glob(path, detail=True))
        found = []
        for at, info in sorted(infos.items()):
            inside = at.removeprefix(above).lstrip("/")
            if info["type"] != "directory" and all(_is_name(n) for n in inside.split("/")):
                place = start.child(inside)
                found.append(Entry(place.name, place, info.get("size"), is_folder=False))
        return found

    def _matches_on_the_web(self, pattern: Place) -> list[Entry]:
        """Match the last part of a web pattern with what the page of its folder links to."""
        if is_pattern(pattern.parent):
            raise UserError(f"{pattern}: on the web only the last part may be a pattern")
        inside = [e for e in self.entries(pattern.parent) if not e.is_folder]
        return [e for e in inside if fnmatch.fnmatchcase(e.name, pattern.name)]

    def begin(self, place: Place, n_bytes: int) -> bytes:
        """Return the first bytes of a file.

        Raises:
            UserError: it cannot be read.
        """
        fs, path = self.open(place)
        return self._trying(place, lambda: fs.cat_file(path, start=0, end=n_bytes))[:n_bytes]

    def pull(self, place: Place, to: Path, most: int) -> None:
        """Copy a file to this machine.

        Args:
            place: the file.
            to: where to; its folder exists.
            most: how many bytes it may have.

        Raises:
            UserError: it cannot be read; names it.
            TooLarge: it has more bytes.
            OSError: this machine's disk is full.
            Stopped: the work has ended meanwhile.
        """
        fs, path = self.open(place)

        def copy() -> None:
            way = _Way(self.stopped, most)
            fs.get_file(path, os.fspath(to), callback=way)
            n = to.stat().st_size
            way.check(n)
            if way.size is not None and n != way.size and not place.is_web:
                raise OSError(f"{n} of {way.size} bytes came")

        try:
            self._trying(place, copy)
        except TooLarge:
            raise TooLarge(str(place)) from None

    def push(self, file: Path, place: Place) -> None:
        """Copy a file from this machine, so that nothing half-written has the place's name.

        Args:
            file: the file.
            place: where to.

        Raises:
            UserError: it cannot be written.
            Stopped: the work has ended meanwhile.
        """
        require_writable(place)
        fs, path = self.open(place)

        def copy() -> None:
            if place.scheme in OBJECT_STORES:
                fs.put_file(os.fspath(file), path, callback=_Way(self.stopped))
                return
            folder, _, name = path.rpartition("/")
            part = f"{folder}/{derived_name(f'.{name}', '.part')}"
            fs.makedirs(folder, exist_ok=True)
            fs.put_file(os.fspath(file), part, callback=_Way(self.stopped))
            try:
                fs.mv(part, path)
            except FileExistsError:
                fs.rm_file(path)
                fs.mv(part, path)

        self._trying(place, copy, "cannot be written")

    def remove(self, place: Place, is_folder: bool = False) -> None:
        """Remove a file or a folder, if it is there.

        Raises:
            UserError: it cannot be removed.
        """
        fs, path = self.open(place)

        def remove() -> None:
            with suppress(FileNotFoundError):
                fs.rm(path, recursive=True) if is_folder else fs.rm_file(path)

        self._trying(place, remove, "cannot be removed")

    def check_writable(self, folder: Place, scratch: Path) -> None:
        """Check that files can be written to a folder: write a small one, and remove it.

        Args:
            folder: it need not exist.
            scratch: a folder on this machine.

        Raises:
            UserError: they cannot.
        """
        require_writable(folder)
        file, place = scratch / PROBE, folder.child(PROBE)
        file.write_bytes(b"")
        try:
            self.push(file, place)
        except UserError as error:
            said = str(error).replace(str(place), str(folder))
            raise UserError(f"{said}; name another place with --out_dir") from None
        finally:
            file.unlink()
        with suppress(UserError):  # who may write there may not remove anything
            self.remove(place)

    def _trying(self, place: Place, do: Callable[[], Y], failed: str = "cannot be read") -> Y:
        """Call a function, several times if need be; say what went wrong in the place's name."""
        for wait in (*WAITS, None):
            try:
                return do()
            except Stopped:
                raise
            except TooLarge:
                raise
            except Exception as error:  # those of a dozen libraries
                if is_disk_full(error):
                    raise
                if wait is None or not _may_succeed(error):
                    raise _said(place, error, failed) from error
            if self.stopped is None:
                time.sleep(wait)
            elif self.stopped.wait(wait):
                raise Stopped
        raise AssertionError


class _Way:
    """Follows a file on its way, as fsspec's callbacks do, and ends it where it must not go on."""

    def __init__(self, stopped: Event | None, most: int | None = None) -> None:
        self.size: int | None = None
        self._stopped = stopped
        self._most = most
        self._n = 0

    def set_size(self, size: int | None) -> None:
        self.size = size
        self.check(size or 0)

    def relative_update(self, n: int = 1) -> None:
        self._n += n
        self.check(self._n)

    def absolute_update(self, n: int) -> None:
        self._n = n
        self.check(n)

    def check(self, n: int) -> None:
        if self._stopped is not None and self._stopped.is_set():
            raise Stopped
        if self._most is not None and n > self._most:
            raise TooLarge

    def __getattr__(self, name: str) -> Any:
        """Do nothing on whatever else a file system may tell."""
        if name.startswith("__"):
            raise AttributeError(name)
        return lambda *_, **__: None


def is_pattern(place: Place) -> bool:
    """Return whether a URL may be a pattern."""
    return MAGIC[place.is_web].search(place.url) is not None


def require_writable(place: Place) -> None:
    """Check that a place is of a kind that can be written.

    Raises:
        UserError: it is on the web.
    """
    if place.is_web:
        raise UserError(
            f"{place} is on the web, which can only be read; name a place to write to with "
            "--out_dir"
        )


def _may_succeed(error: BaseException) -> bool:
    """Return whether to try again."""
    status = getattr(error, "status", None)
    if isinstance(status, int) and status:
        return status >= 500 or status in TRY_AGAIN
    return not isinstance(error, FINAL) and "Credential" not in type(error).__name__


def _said(place: Place, error: Exception, failed: str) -> UserError:
    """Return an error that says in a line what went wrong."""
    if isinstance(error, UserError):
        return error
    words = without_secrets(cause(error))
    status = getattr(error, "status", None)
    if isinstance(error, FileNotFoundError) and failed == "cannot be read":
        return UserError(f"{place} does not exist")
    if isinstance(status, int) and status:
        words = f"the server answers {status} {getattr(error, 'message', '')}".strip()
    elif isinstance(error, PermissionError) or status == 403:
        words = f"it is forbidden ({words})"
    return UserError(f"{place} {failed}: {words}")


def _package(fsspec: Any, scheme: str) -> str:
    """Return the name of the package that reads URLs of a scheme, as far as it is known."""
    known = fsspec.registry.known_implementations.get(scheme, {}).get("class", "")
    name = known.partition(".")[0]
    return f"pip install {name}" if name not in ("", "fsspec") else scheme


def _is_name(name: str) -> bool:
    """Return whether a file here can have a name, and whether it is no hidden one."""
    return bool(name) and not name.startswith(".") and Path(name).name == name and "\0" not in name
