"""Files elsewhere as if they were here: empty ones stand for them, until a task needs them whole.

What commands find out from names alone (which files are pictures or videos, what is written for
them, and where two would collide) they find out from a mirror: a folder of empty files. A task
pulls what it needs into its place in the mirror, and pushes what it has written.
"""

from __future__ import annotations

import os
import re
import shutil
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from glob import escape
from pathlib import Path
from urllib.parse import unquote, urlsplit

from unisal.data.picture_kinds import HEADER_BYTES, PICTURE_SUFFIXES, picture_suffixes
from unisal.errors import UserError
from unisal.files import MAX_PREFIX_BYTES, is_disk_full, natural_order, temporary_folder
from unisal.progress import Bar
from unisal.remote.places import (
    Place,
    Stopped,
    Stores,
    TooLarge,
    is_pattern,
    require_writable,
)
from unisal.threads import in_threads

SPOOL = "unisal-spool"
MIRROR = "mirror"
PULLERS = 4
"""Files of a task that are on their way at a time."""
LOOK_SECONDS = 0.5
FILE_SCHEME = "file"
FIRST = re.compile(r"0*1\.\w+")
"""The first picture of a folder with one for each frame. It is pushed last."""


class SpoolFull(UserError):
    """What a task needs and writes takes more room than it may."""


def said_bytes(n: float) -> str:
    """Say a number of bytes as people do."""
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if n >= size:
            return f"{n / size:.3g} {unit}"
    return f"{n:.0f} bytes"


@dataclass(frozen=True)
class Courier:
    """Brings what a task needs and takes away what it has written; may be sent to workers.

    Args:
        mirror: the folder of the mirror.
        urls: what lies where in it, by path; what is below them lies below. They may hold secrets.
        room: how many bytes the files of a task may take.
        stores: reads and writes.
    """

    mirror: Path
    urls: dict[Path, str] = field(repr=False)
    room: float
    stores: Stores = field(default_factory=Stores)

    def place_of(self, path: Path) -> Place | None:
        """Return what a path of the mirror stands for; None for files of this machine."""
        for above in (path, *path.parents):
            if above in self.urls:
                place = Place(self.urls[above])
                return place if above == path else place.child(path.relative_to(above).as_posix())
        return None

    def named(self, text: str) -> str:
        """Return a text with URLs, without secrets, instead of paths of the mirror."""
        begin = re.escape(f"{self.mirror}{os.sep}")
        return re.sub(begin + r"([a-z0-9+.-]+)[/\\]", _scheme_of, text)

    def divided(self, n: int) -> Courier:
        """Return one of several for tasks that are done here at a time, which share the room.

        They end when `stores.stopped` is set.
        """
        return replace(self, room=self.room / n, stores=Stores(threading.Event()))

    @contextmanager
    def carried(
        self, inputs: Sequence[Path], outputs: Sequence[Path], with_outputs: bool = False
    ) -> Iterator[Load]:
        """Bring what a task needs, in a `with` statement; at its end take away what is new.

        Nothing of the task's files stays behind on this machine.

        Args:
            inputs: files that are read. Those of this machine are left alone, here and below.
            outputs: files, and folders of pictures, that may be written.
            with_outputs: whether to bring the outputs that are there, too.

        Yields:
            What is there; those that could not be brought are in its `failed`.

        Raises:
            UserError: something cannot be written.
            OSError: the disk of this machine is full.
            Stopped: the work has ended.
        """
        load = Load(self, [path for path in outputs if self.place_of(path) is not None])
        remote = [path for path in inputs if self.place_of(path) is not None]
        try:
            load.pull(remote)
            if with_outputs:
                load.pull_those_there()
            before = load.versions()
            yield load
            load.check_room()
            load.push([p for p, version in load.versions().items() if version != before.get(p)])
        finally:
            for path in (*remote, *load.outputs):
                _remove(path)


class Load:
    """The files of a task, while it is done.

    Attributes:
        failed: inputs that are not there, and why.
    """

    def __init__(self, courier: Courier, outputs: Sequence[Path]) -> None:
        self.outputs = outputs
        self.failed: dict[Path, UserError] = {}
        self._courier = courier
        self._left = courier.room
        self._pulled: list[Path] = []
        self._lock = threading.Lock()

    def pull(self, paths: Sequence[Path]) -> None:
        """Bring files; what goes wrong with one is noted in `failed`."""
        for path, error in in_threads(self._pulled_or_not, paths, PULLERS, PULLERS):
            if error is not None:
                self.failed[path] = error

    def pull_those_there(self) -> None:
        """Bring those outputs that are there, as far as they can be read."""
        for path, error in in_threads(self._pulled_or_not, self.outputs, PULLERS, PULLERS):
            if error is not None:
                _remove(path)

    def _pulled_or_not(self, path: Path) -> tuple[Path, UserError | None]:
        stores, place = self._courier.stores, self._courier.place_of(path)
        assert place is not None
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            size = stores.look(place).size
            if size is None:  # known only when it is here: one after the other
                with self._lock:
                    stores.pull(place, path, int(self._left))
                    self._left -= path.stat().st_size
            else:
                self._reserve(size)
                stores.pull(place, path, size)
        except TooLarge:
            room = said_bytes(self._courier.room)
            return path, SpoolFull(f"{path} does not fit into the spool ({room}): --spool_gb")
        except UserError as error:  # named like all paths of the mirror, see `Courier.named`
            return path, UserError(str(error).replace(str(place), str(path)))
        self._pulled.append(path)
        return path, None

    def _reserve(self, size: int) -> None:
        with self._lock:
            if size > self._left:
                raise TooLarge
            self._left -= size

    def check_room(self) -> None:
        """Check that inputs and outputs together take no more room than they may.

        Raises:
            SpoolFull: they do.
            Stopped: the work has ended.
        """
        stopped = self._courier.stores.stopped
        if stopped is not None and stopped.is_set():
            raise Stopped
        used = sum(map(_size, self._pulled)) + sum(map(_size_as_written, self.outputs))
        if used > self._courier.room:
            raise SpoolFull(
                f"inputs and outputs take {said_bytes(used)}, and the spool has room for "
                f"{said_bytes(self._courier.room)}: --spool_gb"
            )

    def versions(self) -> dict[Path, tuple[int, int]]:
        """Return what tells a new version of an output from an older one, of those there."""
        found = {}
        for path in self.outputs:
            with suppress(FileNotFoundError):
                stat = path.stat()
                found[path] = stat.st_ino, stat.st_mtime_ns
        return found

    def push(self, paths: Sequence[Path]) -> None:
        """Take away outputs.

        Raises:
            UserError: one cannot be written.
        """
        stores = self._courier.stores
        files = [path for path in paths if path.is_file()]
        for _ in in_threads(self._push, files, PULLERS, PULLERS):
            pass
        for folder in (path for path in paths if path.is_dir()):
            place = self._courier.place_of(folder)
            assert place is not None
            stores.remove(place, is_folder=True)  # frames of an earlier, longer film
            first, *others = sorted(folder.iterdir(), key=natural_order)
            for _ in in_threads(self._push, others, PULLERS, PULLERS):
                pass
            self._push(first)

    def _push(self, path: Path) -> None:
        place = self._courier.place_of(path)
        assert place is not None
        self._courier.stores.push(path, place)


class RoomBar:
    """A `Bar` that shows nothing, and looks from time to time whether a task has room left.

    Args:
        load: the files of the task.
    """

    def __init__(self, load: Load) -> None:
        self._load = load
        self._looked = time.monotonic()

    def update(self, n: int = 1) -> None:
        """Look whether there is room, unless that was just done.

        Raises:
            SpoolFull: there is none.
            Stopped: the work has ended.
        """
        if time.monotonic() - self._looked > LOOK_SECONDS:
            self._load.check_room()
            self._looked = time.monotonic()

    def expect(self, n: int) -> None:
        """Do nothing."""

    def describe(self, title: str) -> None:
        """Do nothing."""

    def note(self, text: str) -> None:
        """Do nothing."""

    def __enter__(self) -> Bar:
        return self

    def __exit__(self, *_: object) -> None:
        pass


class Mirror:
    """What stands for files elsewhere while a command looks for its inputs and outputs.

    Args:
        folder: a new one for the empty files.
        room: see `Courier`.
    """

    def __init__(self, folder: Path, room: float) -> None:
        self.courier = Courier(folder, {}, room)
        self._listed: dict[Path, dict[str, bool]] = {}

    def add(self, url: str, recursive: bool | None) -> list[Path]:
        """Make what stands for a file, a folder with all its files, or what a pattern fits.

        Args:
            url: what was named.
            recursive: whether to go through the folders in a folder; None for those named `images`.

        Returns:
            What stands for them.

        Raises:
            UserError: there is no such thing, or it cannot be listed.
        """
        stores, place = self.courier.stores, Place(url)
        path = self._path_of(place)
        if is_pattern(place):
            with suppress(UserError):  # what exists under the very name is no pattern
                stores.look(place)
                return [self._add_file(place)]
            matches = stores.matches(place)
            if not matches:
                raise UserError(f"{place} fits no file")
            return [self._add_file(entry.place) for entry in matches]
        if not stores.look(place).is_folder:
            return [self._add_file(place)]
        self.courier.urls[path] = url
        self._add_folder(path, place, recursive)
        return [path]

    def add_output(self, url: str) -> Path:
        """Return what stands for a folder that is written to."""
        place = Place(url)
        require_writable(place)
        path = self._path_of(place)
        self.courier.urls[path] = url
        return path

    def check_writable(self, folder: Path) -> None:
        """Check that files can be written to what a folder stands for.

        Raises:
            UserError: they cannot.
        """
        place = self.courier.place_of(folder)
        if place is None and folder.is_relative_to(self.courier.mirror):  # beside a file on the web
            place = Place(self.courier.named(str(folder)))
        if place is not None:
            self.courier.stores.check_writable(place, self.courier.mirror)

    def exists(self, path: Path) -> bool:
        """Return whether an output is there, all of it."""
        folder = self.courier.place_of(path.parent)
        if folder is None:
            return path.exists()
        if path.parent not in self._listed:
            entries = self.courier.stores.entries_if_any(folder)
            self._listed[path.parent] = {entry.name: entry.is_folder for entry in entries}
        is_folder = self._listed[path.parent].get(path.name)
        if not is_folder:
            return is_folder is not None
        inside = self.courier.stores.entries_if_any(folder.child(path.name))
        return any(FIRST.fullmatch(entry.name) for entry in inside)

    def _path_of(self, place: Place) -> Path:
        """Return where what stands for a place lies."""
        scheme, _, rest = place.url.partition("://")
        if place.is_web:
            parts = urlsplit(place.url)
            rest = f"{parts.netloc}/{unquote(parts.path)}"
        host, slash, inside = rest.partition("/")
        names = [host.rpartition("@")[2], *(slash + inside).split("/")]
        if any(name in (".", "..") or "\0" in name for name in names):
            raise UserError(f"{place} has a part that is no name")
        return self.courier.mirror.joinpath(scheme.lower(), *filter(None, names))

    def _add_file(self, place: Place) -> Path:
        """Make what stands for a file, and for those beside it of which outputs take over names."""
        path, urls = self._path_of(place), self.courier.urls
        if place.is_web:
            if urls.setdefault(path, place.url) != place.url:
                raise UserError(f"{place} is named twice, with different queries; name one")
        elif self.courier.place_of(path) is None:
            urls[path.parent] = place.parent.url
        self._stand_in(path, place)
        for name in self._names_in(path.parent, place.parent):
            if name.partition(".")[0] == path.name.partition(".")[0]:
                self._stand_in(path.with_name(name), place.parent.child(name))
        return path

    def _names_in(self, path: Path, folder: Place) -> list[str]:
        """List a folder of which files are named, as far as that is possible."""
        if path not in self._listed and not folder.is_web:
            try:
                entries = self.courier.stores.entries(folder)
            except UserError:  # a folder that may not be listed, with files that may be read
                entries = []
            self._listed[path] = {entry.name: entry.is_folder for entry in entries}
        return [name for name, is_folder in self._listed.get(path, {}).items() if not is_folder]

    def _add_folder(self, path: Path, folder: Place, recursive: bool | None) -> None:
        path.mkdir(parents=True, exist_ok=True)
        for entry in self.courier.stores.entries(folder):
            inside = path / entry.name
            if not entry.is_folder:
                self._stand_in(inside, entry.place)
                if entry.place.is_web:
                    self.courier.urls[inside] = entry.place.url
            elif recursive or (recursive is None and entry.name == "images"):
                self.courier.urls[inside] = entry.place.url
                self._add_folder(inside, entry.place, bool(recursive))

    def _stand_in(self, path: Path, place: Place) -> None:
        """Make an empty file, or the beginning of one whose name does not say what it is."""
        path.parent.mkdir(parents=True, exist_ok=True)
        suffix = path.suffix.lower()
        begin = b""
        if suffix in picture_suffixes() and suffix not in PICTURE_SUFFIXES:
            begin = self.courier.stores.begin(place, HEADER_BYTES)
        try:
            path.write_bytes(begin)
        except OSError as error:
            if is_disk_full(error):
                raise
            raise UserError(
                f"{place} cannot be the name of a file here: {error.strerror}"
            ) from None


@contextmanager
def opened_mirror(spool: Path, room: float) -> Iterator[Mirror]:
    """Make a mirror in a `with` statement; nothing is left of it behind.

    Args:
        spool: the folder to make it in.
        room: see `Courier`.
    """
    with temporary_folder(spool, SPOOL) as folder:
        (folder / MIRROR).mkdir()
        yield Mirror((folder / MIRROR).resolve(), room)


def _scheme_of(match: re.Match[str]) -> str:
    return f"{match[1]}://" + "/" * (match[1] == FILE_SCHEME)


def _remove(path: Path) -> None:
    """Remove a file or folder, if it is there."""
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _size(path: Path) -> int:
    """Return how many bytes a file has, or those in a folder; 0 if there is none."""
    with suppress(FileNotFoundError, NotADirectoryError):
        return sum(_size(Path(entry.path)) for entry in os.scandir(path))
    with suppress(FileNotFoundError):
        return path.stat().st_size
    return 0


def _size_as_written(path: Path) -> int:
    """Return how many bytes an output has, and what will be it (see `unisal.files`)."""
    whole = len(os.fsencode(path.stem)) <= MAX_PREFIX_BYTES
    begins = f".{path.stem}-" if whole else f".{path.stem[: MAX_PREFIX_BYTES // 4]}"
    begun = path.parent.glob(f"{escape(begins)}*") if path.parent.is_dir() else ()
    return _size(path) + sum(map(_size, begun))
