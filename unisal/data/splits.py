"""Splits of numbered examples into parts (docs/behaviour.md, "Phases and splits")."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from unisal.checks import check_count

MAX_SEED = 2**32 - 1
"""The largest seed that NumPy accepts."""


def shuffled(numbers: Sequence[int], seed: int | None) -> list[int]:
    """Shuffle numbers as `numpy.random.shuffle` does after `numpy.random.seed(seed)`.

    That is what the published code does; here no global state changes.

    Args:
        numbers: the numbers in order.
        seed: None and 0 leave them in order.

    Raises:
        UserError: the seed is not a whole number that NumPy accepts.
    """
    order = np.array(numbers)
    if seed is not None:
        check_count(seed, "x_val_seed", smallest=0, largest=MAX_SEED)
    if seed:
        np.random.RandomState(seed).shuffle(order)
    return [int(n) for n in order]


def take_fold(
    numbers: Sequence[int], n_x_val: int, x_val_step: int | None
) -> tuple[list[int], list[int]]:
    """Split a list into one of `n_x_val` folds and the rest.

    Fold k of n starts at index `m * k // n` of a list of length m.

    Args:
        numbers: the list.
        n_x_val: the number of folds.
        x_val_step: the fold, from 0; None: the whole list is both the rest and the fold.

    Returns:
        The rest and the fold.

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
    """Split a list into training part and validation part.

    The part of step k of n starts at index `(len(numbers) - val_size) // (n - 1) * k`.

    Args:
        numbers: the list.
        val_size: the length of the validation part.
        n_x_val: the number of steps.
        x_val_step: the step, from 0.

    Returns:
        The training part and the validation part.

    Raises:
        UserError: there is no such part; names the values.
    """
    _check_step(n_x_val, x_val_step)
    check_count(val_size, "val_size", largest=len(numbers) - 1)
    start = (len(numbers) - val_size) // (n_x_val - 1) * x_val_step
    end = start + val_size
    return [*numbers[:start], *numbers[end:]], list(numbers[start:end])


def _check_step(n_x_val: int, x_val_step: int) -> None:
    check_count(n_x_val, "n_x_val", smallest=2)
    check_count(x_val_step, "x_val_step", smallest=0, largest=n_x_val - 1)
