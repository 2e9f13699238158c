"""Checks of single values: numbers of NumPy count, and become those of Python."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from support import write_salicon

from unisal.checks import check_count, check_number, check_switch
from unisal.data import SALICONDataset
from unisal.data.base import check_size
from unisal.errors import UserError
from unisal.train.config import TrainerConfig, check_switches
from unisal.train.finetune_config import FineTuneConfig
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


@pytest.mark.parametrize("value", [True, False])
def test_switches_may_be_of_numpy(value):
    for given in (value, np.bool_(value), np.array(value)):
        assert check_switch(given, "s") is value
    config = replace(TrainerConfig(), tboard=np.bool_(value))
    check_switches(config)
    assert TrainerConfig.from_dict({"tboard": np.bool_(value)}).tboard is value
    assert FineTuneConfig.from_dict({"overwrite": np.bool_(value)}).overwrite is value


@pytest.mark.parametrize("bad", ["False", "true", 1, 0, None, np.int64(1), np.array([True])])
def test_what_is_no_switch(bad):
    with pytest.raises(UserError, match="True or False"):
        check_switch(bad, "s")
    with pytest.raises(UserError, match="tboard is"):
        check_switches(replace(TrainerConfig(), tboard=bad))


def test_options_of_numpy_are_those_of_python(tmp_path, monkeypatch):
    numbers = {"num_epochs": 3, "seed": 4, "num_workers": 0, "train_cnn_after": 1}
    fractions = {"lr": 0.5, "momentum": 0.25, "weight_decay": 0.125, "grad_clip": 1.5}
    given = {k: np.int64(v) for k, v in numbers.items()}
    given |= {k: np.float32(v) for k, v in fractions.items()}
    given |= {"salicon_batch_size": np.uint8(5), "loss_weights": np.array([1, -0.5, 0.25])}
    plain = {**numbers, **fractions, "salicon_batch_size": 5, "loss_weights": (1, -0.5, 0.25)}
    assert TrainerConfig.from_dict(given) == TrainerConfig.from_dict(plain)
    write_salicon(tmp_path, n=2)
    monkeypatch.setenv("SALICON_DATA_DIR", str(tmp_path))
    dataset = SALICONDataset("train", augment=np.bool_(True), subset=np.float32(0.5))
    assert len(dataset) == 1 and dataset.augmentation is not None
    assert SALICONDataset("train", augment=np.bool_(False)).augmentation is None
