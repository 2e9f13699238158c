"""Which numbered examples belong to which part (spec 02, "Splits")."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from unisal.errors import UserError


def shuffled(numbers: Sequence[int], seed: int | None) -> list[int]:
    """-> the numbers in the order that the published code's `numpy.random.shuffle` gives after
    `numpy.random.seed(seed)`; None and 0 leave them in order. No global state is touched."""
    order = np.array(numbers)
    if seed:
        np.random.RandomState(seed).shuffle(order)
    return [int(n) for n in order]


def train_valid(
    numbers: Sequence[int], val_size: int, n_x_val: int, x_val_step: int
) -> tuple[list[int], list[int]]:
    """Cut the validation part of `val_size` out of the list -> (train, valid).

    The part of step k of n starts at index `(len(numbers) - val_size) // (n - 1) * k`.

    Raises:
        UserError: there is no such part; names the values.
    """
    if n_x_val < 2 or not 0 <= x_val_step < n_x_val:
        raise UserError(
            f"x_val_step is {x_val_step} of n_x_val={n_x_val}; the step has to be from 0 to "
            "n_x_val - 1, and n_x_val at least 2"
        )
    if not 0 < val_size < len(numbers):
        raise UserError(f"val_size is {val_size}; it has to be from 1 to {len(numbers) - 1}")
    start = (len(numbers) - val_size) // (n_x_val - 1) * x_val_step
    end = start + val_size
    return [*numbers[:start], *numbers[end:]], list(numbers[start:end])
