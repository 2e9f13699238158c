"""What the network accepts; through the network itself, this is tested in `test_unisal.py`."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from support import TINY

from unisal.model import UNISAL
from unisal.model.checks import check_target_size

X = torch.zeros(1, 1, 3, 64, 96)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (None, (64, 96)),
        ((5, 7), (5, 7)),
        ([5, 7], (5, 7)),
        (torch.Size([5, 7]), (5, 7)),
        (np.array([5, 7]), (5, 7)),
        (torch.tensor([5, 7]), (5, 7)),
    ],
    ids=str,
)
def test_a_target_size_is_two_whole_numbers(given, expected):
    size = check_target_size(given, X)
    assert size == expected
    assert [type(side) for side in size] == [int, int]


@pytest.mark.parametrize(
    "given",
    [
        64,
        64.0,
        (64,),
        (1, 64, 96),
        (),
        (64, 0),
        (-1, 5),
        (64.5, 96),
        (64.0, 96),
        "64",
        "ab",
        (5, None),
    ],
    ids=repr,
)
def test_any_other_target_size_is_refused_and_quoted(given):
    with pytest.raises(ValueError, match=r"target_size is .*\(height, width\)") as refused:
        check_target_size(given, X)
    assert repr(given) in str(refused.value)


@pytest.mark.parametrize(
    ("source", "target", "unknown"),
    [("Salicon", "DHF1K", "'Salicon'"), ("SALICON", "MIT1003", "'MIT1003'")],
)
def test_copying_an_unknown_domain_is_refused_and_changes_nothing(source, target, unknown):
    net = UNISAL(**TINY)
    before = {k: v.clone() for k, v in net.state_dict().items()}
    with pytest.raises(ValueError, match=f"source is {unknown}.*DHF1K.*SALICON"):
        net.copy_domain(source, target)
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())
