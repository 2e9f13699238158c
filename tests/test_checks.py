"""Checks of single values: numbers of NumPy count, and become those of Python."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from support import write_salicon

from unisal.checks import check_count, check_number
from unisal.data import SALICONDataset
from unisal.data.base import check_size
from unisal.errors import UserError
from unisal.writing.video_writer import as_rate

INTEGERS = [np.int8, np.uint8, np.int32, np.int64, np.uint64]
FLOATS = [np.float16, np.float32, np.float64]


@pytest.mark.parametrize("kind", INTEGERS)
def test_whole_numbers_of_numpy(kind):
    assert type(check_count(kind(3), "n")) is int
    assert type(check_number(kind(3), "n")) is int
    assert as_rate(kind(25)) == 25
    assert check_size((kind(64), kind(96)), "size") == (64, 96)
    assert check_size(np.array([64, 96], kind), "size") == (64, 96)


@pytest.mark.parametrize("kind", FLOATS)
def test_numbers_of_numpy(kind):
    assert check_number(kind(0.5), "x") == 0.5
    assert isinstance(check_number(kind(0.5), "x"), float)
    assert as_rate(kind(12.5)) == Fraction(25, 2)
    with pytest.raises(UserError, match="whole number"):
        check_count(kind(3), "n")
    for bad in (kind("nan"), kind("inf"), kind(-1)):
        with pytest.raises(UserError, match="number of at least 0"):
            check_number(bad, "x")


@pytest.mark.parametrize("bad", [True, np.bool_(True), "3", None, np.arange(2)])
def test_what_is_no_number(bad):
    for check in (check_count, check_number):
        with pytest.raises(UserError, match="number"):
            check(bad, "n")


def test_a_seed_of_numpy(tmp_path, monkeypatch):
    write_salicon(tmp_path, n=2)
    monkeypatch.setenv("SALICON_DATA_DIR", str(tmp_path))
    assert SALICONDataset(seed=np.int64(3)).seed == SALICONDataset(seed=3).seed
