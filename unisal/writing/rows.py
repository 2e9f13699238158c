"""Writing of arrays of one shape, one after the other, to a single `.npz` or HDF5 file.

Each array goes to disk at once, so memory does not grow with their number. Each has a label: the
time of a video's frame, or the name of a picture's file.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from unisal.files import whole_file
from unisal.writing.hdf5 import whole_h5

COPY_BYTES = 1 << 20
"""How much is copied at a time when an `.npz` file is put together."""

Append = Callable[[NDArray[np.float32], float | str], None]
"""Adds an array with its label."""
OpenRows = Callable[[Path, str, str], AbstractContextManager[Append]]
"""Opens a file for rows, given its path and the names of two arrays: values and labels."""


@contextmanager
def rows_npz(path: Path, values: str, labels: str) -> Iterator[Append]:
    """Write rows to an `.npz` file, which exists once the block has ended without an error.

    Args:
        path: the file.
        values: name of the array of rows, `[n, ...] float32`.
        labels: name of the array of labels, `[n] float64` or text.

    Yields:
        A function that appends a row. At least one has to be appended.
    """
    with whole_file(path) as temporary, tempfile.TemporaryFile(dir=path.parent) as stored:
        shape: tuple[int, ...] = ()
        found: list[float | str] = []

        def append(row: NDArray[np.float32], label: float | str) -> None:
            nonlocal shape
            shape = row.shape
            stored.write(np.ascontiguousarray(row).data)
            found.append(label)

        yield append
        # In the file, the number of rows precedes them, and it is known only now.
        stored.seek(0)
        header = {"descr": "<f4", "fortran_order": False, "shape": (len(found), *shape)}
        with zipfile.ZipFile(temporary, "w") as archive:
            with archive.open(f"{values}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array_header_1_0(member, header)
                shutil.copyfileobj(stored, member, COPY_BYTES)
            with archive.open(f"{labels}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, np.array(found))


@contextmanager
def rows_h5(path: Path, values: str, labels: str) -> Iterator[Append]:
    """Write rows to an HDF5 file, which exists once the block has ended without an error.

    Args:
        path: the file.
        values: name of the data set of rows, `[n, ...] float32`.
        labels: name of the data set of labels, `[n] float64` or text.

    Yields:
        A function that appends a row. At least one has to be appended.
    """
    import h5py  # here, since its 11 MB are of use to few

    with whole_h5(path) as (file, check):
        found: list[float | str] = []

        def append(row: NDArray[np.float32], label: float | str) -> None:
            if not found:
                limits, chunks = (None, *row.shape), (1, *row.shape)
                file.create_dataset(values, (0, *row.shape), "f4", maxshape=limits, chunks=chunks)
            rows = file[values]
            rows.resize(len(found) + 1, axis=0)
            rows[-1] = row
            found.append(label)
            check()

        yield append
        if isinstance(found[0], str):  # a name that is not UTF-8 is kept byte by byte
            names = [os.fsencode(str(label)) for label in found]
            file.create_dataset(labels, data=names, dtype=h5py.string_dtype())
        else:
            file.create_dataset(labels, data=found, dtype="f8")
