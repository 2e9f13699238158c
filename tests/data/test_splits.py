"""Splits: the published lists, from private random streams."""

from __future__ import annotations

import json

import numpy as np
import pytest
from support import PROJECT

from unisal.data import DHF1KDataset, HollywoodDataset, UCFSportsDataset
from unisal.data.splits import shuffled, train_valid
from unisal.errors import UserError


def plain_split(n, seed, val_size, n_x_val=3, step=2):
    """As the published code does it: with numpy's global stream."""
    numbers = np.arange(1, n + 1)
    if seed is not None:
        np.random.seed(seed)
        np.random.shuffle(numbers)
    start = (n - val_size) // (n_x_val - 1) * step
    valid = numbers[start : start + val_size]
    return [x for x in numbers if x not in valid], list(valid)


@pytest.mark.parametrize(
    ("n", "seed", "val_size"),
    [(700, None, 100), (700, 42, 75), (103, 27, 10), (20, 1, 3)],
)
@pytest.mark.parametrize("step", [0, 1, 2])
def test_splits_are_the_published_ones(n, seed, val_size, step):
    expected = plain_split(n, seed, val_size, step=step)
    assert train_valid(shuffled(range(1, n + 1), seed), val_size, 3, step) == expected


def test_no_global_random_state_is_touched():
    before = np.random.get_state()
    shuffled(range(10), 3)
    after = np.random.get_state()
    assert all(np.array_equal(a, b) for a, b in zip(before, after, strict=True))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((5, 3, 3), "x_val_step is 3"),
        ((5, 1, 0), "n_x_val is 1; it has to be a whole number of at least 2"),
        ((5, 3, -1), "x_val_step is -1"),
        ((0, 3, 0), "val_size is 0"),
        ((10, 3, 0), "val_size is 10"),
    ],
)
def test_a_part_that_does_not_exist_is_refused(arguments, words):
    with pytest.raises(UserError, match=words):
        train_valid(range(10), *arguments)


def test_reference_lists():
    published = json.loads((PROJECT / "tests/reference/splits.json").read_text())

    def split(cls, seed, val_size):
        return train_valid(shuffled(cls.numbers, seed), val_size, 3, 2)

    assert split(UCFSportsDataset, 27, 10)[0] == published["UCFSports_train"]
    assert split(HollywoodDataset, 42, 75)[1] == published["Hollywood_valid"]
    assert split(DHF1KDataset, None, 100)[1] == list(range(601, 701))
