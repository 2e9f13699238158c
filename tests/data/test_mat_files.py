"""The check of `.mat` files: sound files pass, and what would make SciPy crash does not."""

from __future__ import annotations

import io
import struct

import numpy as np
import pytest
import scipy.io

from unisal.data.mat_files import check_mat

RECORD = np.zeros((2, 1), [("a", object), ("b", object)])
RECORD[0, 0] = (np.eye(3), "text")
RECORD[1, 0] = (np.zeros((0, 2), np.uint16), {"deep": [1, 2]})
SOUND = {
    "numbers": np.arange(7, dtype=np.int16),
    "floats": np.eye(3, dtype=np.float32),
    "complex": np.array([1 + 2j]),
    "switches": np.array([True, False]),
    "text": "Größe",
    "texts": np.array(["a", "bcd"]),
    "cells": np.array([[1, "x"], [{"a": 1}, np.zeros(3)]], dtype=object),
    "records": RECORD,
    "empty": np.zeros((0, 0)),
    "cube": np.zeros((2, 3, 4), np.uint8),
}


def mat(values, **options):
    file = io.BytesIO()
    scipy.io.savemat(file, values, **options)
    return file.getvalue()


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("name", SOUND)
def test_what_scipy_writes_passes(name, packed):
    check_mat(mat({name: SOUND[name], "resolution": [480, 640]}, do_compression=packed))


def test_the_other_order_of_bytes_passes():
    matrix = b"".join(
        [
            struct.pack(">IIII", 6, 8, 9, 0),
            struct.pack(">IIii", 5, 8, 1, 2),
            struct.pack(">II", 1, 1) + b"x" + bytes(7),
            struct.pack(">II", 2, 2) + b"ab" + bytes(6),
        ]
    )
    header = b"MATLAB 5.0".ljust(124) + struct.pack(">H", 0x0100) + b"MI"
    content = header + struct.pack(">II", 14, len(matrix)) + matrix
    check_mat(content)
    assert scipy.io.loadmat(io.BytesIO(content))["x"].tolist() == [[97, 98]]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (struct.pack("<II", 9, 24), struct.pack("<II", 99, 24)),  # a type that does not exist
        (struct.pack("<II", 9, 24), struct.pack("<II", 9, 1 << 30)),  # longer than the file
        (struct.pack("<IIii", 5, 8, 1, 3), struct.pack("<IIii", 5, 8, 1, 4)),  # one value too few
        (struct.pack("<IIii", 5, 8, 1, 3), struct.pack("<IIii", 5, 8, -1, -3)),
        (struct.pack("<III", 6, 8, 6), struct.pack("<III", 6, 8, 17)),  # an object of a program
    ],
)
def test_what_does_not_fit_is_refused(old, new):
    content = mat({"x": np.array([1.5, 2.5, 3.5])})
    assert content.count(old) == 1
    with pytest.raises(ValueError, match=r"."):
        check_mat(content.replace(old, new))


def test_a_packed_matrix_has_a_limit(monkeypatch):
    content = mat({"x": np.zeros(100_000)}, do_compression=True)
    check_mat(content)
    monkeypatch.setattr("unisal.data.mat_files.MAX_BYTES", 1000)
    with pytest.raises(ValueError, match="larger"):
        check_mat(content)
