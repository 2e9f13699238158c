"""HDF5 files that survive a full disk."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unisal.files import whole_file

if TYPE_CHECKING:
    import h5py


@contextmanager
def whole_h5(path: Path) -> Iterator[tuple[h5py.File, Callable[[], None]]]:
    """Write an HDF5 file, which exists once the block has ended without an error.

    Args:
        path: the file.

    Yields:
        The open file, and a function to call now and then, which raises an `OSError` if something
        could not be written so far. At the end of the block that is raised in any case.
    """
    with whole_file(path) as temporary, _opened(temporary, "w") as opened:
        yield opened


@contextmanager
def changed_h5(path: Path) -> Iterator[h5py.File]:
    """Open an HDF5 file to change it; what cannot be written is an `OSError` at the end."""
    with _opened(path, "r+") as (file, _):
        yield file


@contextmanager
def _opened(path: Path, mode: str) -> Iterator[tuple[h5py.File, Callable[[], None]]]:
    import h5py  # here, since its 11 MB are of use to few

    with _Patient(path, mode) as file:
        try:
            with h5py.File(file, mode) as opened:
                yield opened, file.check
        finally:
            file.check()  # rather than what HDF5 makes of it


class _Patient(io.FileIO):
    """A file that goes on as if nothing had happened when it cannot be written, or is closed.

    HDF5 cannot close a file that it cannot write: it complains without end and then ends the
    process. So the error is kept, and raised by `check`. A file that a signal interrupts while HDF5
    opens it is closed by HDF5 only when its last object is forgotten, long after this one.
    """

    def __init__(self, path: Path, mode: str) -> None:
        super().__init__(path, "w+" if mode == "w" else mode)
        self._error: OSError | None = None

    def check(self) -> None:
        """Raise the error, if there was one."""
        if self._error is not None:
            raise self._error

    def write(self, data: object, /) -> int:
        view = memoryview(data).cast("B")  # type: ignore[arg-type]
        if self.closed:
            return len(view)
        done = 0
        while done < len(view) and self._error is None:
            try:
                done += super().write(view[done:])
            except OSError as error:
                self._error = error
        if self._error is not None:  # the next one is to be written behind this
            self.seek(len(view) - done, io.SEEK_CUR)
        return len(view)

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        return 0 if self.closed else super().seek(offset, whence)

    def readinto(self, buffer: Any, /) -> int:
        return 0 if self.closed else super().readinto(buffer)

    def flush(self) -> None:
        if not self.closed:
            super().flush()

    def truncate(self, size: int | None = None, /) -> int:
        if self.closed:
            return size or 0
        try:
            return super().truncate(size)
        except OSError as error:
            self._error = self._error or error
            return self.tell() if size is None else size
