"""What lies on disk for a part of a data set."""

from __future__ import annotations

import pytest

from unisal.data.listing import evenly_spread


@pytest.mark.parametrize("n", [1, 3, 7, 12, 100])
def test_chosen_frames_exist_and_are_spread_evenly(n):
    lengths = [5, 1, 6]
    chosen = evenly_spread(lengths, n)
    assert len(set(chosen)) == len(chosen) == min(n, 12)
    assert all(1 <= number <= lengths[video] for video, number in chosen)
    assert chosen == sorted(chosen)
    if n >= 12:
        assert chosen == [(v, f + 1) for v, length in enumerate(lengths) for f in range(length)]


def test_of_no_frames_none_is_chosen():
    assert evenly_spread([], 5) == []
