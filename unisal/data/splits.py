"""Which numbered examples belong to which part (spec 02, "Splits")."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from unisal.errors import UserError


def shuffled(numbers: Sequence[int], seed: int | None) -> list[int]:
    """-> the numbers in the order that the published code's `numpy.random.shuffle` gives after
    `numpy.random.seed(seed)`; None and 0 leave them in order. No global state is touched.

    Raises:
        UserError: the seed is no whole number that NumPy takes.
    """
    order = np.array(numbers)
    if seed is not None and (not isinstance(seed, int) or not 0 <= seed < 2**32):
        raise UserError(f"x_val_seed is {seed!r}; it has to be a whole number from 0 to 2**32 - 1")
    if seed:
        np.random.RandomState(seed).shuffle(order)
    return [int(n) for n in order]


def fold(
    numbers: Sequence[int], n_x_val: int, x_val_step: int | None
) -> tuple[list[int], list[int]]:
    """Cut one of `n_x_val` folds out of the list -> (the rest, the fold); None: (all, all).

    Fold k of n of a list of m starts at index `m * k // n`.

    Raises:
        UserError: there is no such fold; names the values.
    """
    if x_val_step is None:
        return list(numbers), list(numbers)
    _check_step(n_x_val, x_val_step)
    start, end = (len(numbers) * step // n_x_val for step in (x_val_step, x_val_step + 1))
    return [*numbers[:start], *numbers[end:]], list(numbers[start:end])


def train_valid(
    numbers: Sequence[int], val_size: int, n_x_val: int, x_val_step: int
) -> tuple[list[int], list[int]]:
    """Cut the validation part of `val_size` out of the list -> (train, valid).

    The part of step k of n starts at index `(len(numbers) - val_size) // (n - 1) * k`.

    Raises:
        UserError: there is no such part; names the values.
    """
    _check_step(n_x_val, x_val_step)
    if not 0 < val_size < len(numbers):
        raise UserError(f"val_size is {val_size}; it has to be from 1 to {len(numbers) - 1}")
    start = (len(numbers) - val_size) // (n_x_val - 1) * x_val_step
    end = start + val_size
    return [*numbers[:start], *numbers[end:]], list(numbers[start:end])


def _check_step(n_x_val: int, x_val_step: int) -> None:
    whole = all(isinstance(n, int) and not isinstance(n, bool) for n in (n_x_val, x_val_step))
    if not whole or n_x_val < 2 or not 0 <= x_val_step < n_x_val:
        raise UserError(
            f"x_val_step is {x_val_step} of n_x_val={n_x_val}; the step has to be from 0 to "
            "n_x_val - 1, and n_x_val at least 2"
        )
