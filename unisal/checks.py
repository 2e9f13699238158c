"""Checks of single values, with one sentence for each kind of mistake."""

from __future__ import annotations

import math
from fractions import Fraction
from numbers import Integral, Real
from typing import Any

from unisal.errors import UserError


def check_count(value: Any, name: str, smallest: int = 1, largest: int | None = None) -> int:
    """Check a whole number.

    Args:
        value: what was given; NumPy's integers count as well, `True` and `False` do not.
        name: name of the option, for the message.
        smallest: the smallest value allowed.
        largest: the largest value allowed, None for no limit.

    Returns:
        The value as an `int`.

    Raises:
        UserError: it is not a whole number, or is out of range.
    """
    fits = isinstance(value, Integral) and not isinstance(value, bool)
    if fits and smallest <= value and (largest is None or value <= largest):
        return int(value)
    limits = f"of at least {smallest}" if largest is None else f"from {smallest} to {largest}"
    raise UserError(f"{name} is {value!r}; it has to be a whole number {limits}")


def check_number(
    value: Any,
    name: str,
    smallest: float = 0,
    largest: float = math.inf,
    above: bool = False,
    below: bool = False,
) -> Any:
    """Check a finite number.

    Args:
        value: what was given; NumPy's numbers and fractions count as well.
        name: name of the option, for the message.
        smallest: the smallest value allowed; with `above` the value has to be larger.
        largest: the largest value allowed; with `below` the value has to be smaller.
        above: whether `smallest` itself is excluded.
        below: whether `largest` itself is excluded.

    Returns:
        The value; a number of NumPy as one of Python.

    Raises:
        UserError: it is not a number, not finite, or out of range.
    """
    is_number = isinstance(value, Real | Fraction) and not isinstance(value, bool)
    if is_number and math.isfinite(value):
        high_enough = value > smallest if above else value >= smallest
        low_enough = value < largest if below else value <= largest
        if high_enough and low_enough:
            return value.item() if hasattr(value, "item") else value
    limits = f"above {smallest}" if above else f"of at least {smallest}"
    if largest < math.inf:
        limits += f" and {'below' if below else 'at most'} {largest}"
    raise UserError(f"{name} is {value!r}; it has to be a number {limits}")


def check_switch(value: Any, name: str) -> bool:
    """Check a switch, since the text "false" would count as true.

    Args:
        value: what was given; NumPy's `True` and `False` count as well.
        name: name of the option, for the message.

    Returns:
        The value as a `bool`.

    Raises:
        UserError: it is not a switch.
    """
    if is_switch(value):
        return bool(value)
    raise UserError(f"{name} is {value!r}; it has to be True or False")


def is_switch(value: Any) -> bool:
    """Return whether this is True or False, of Python or of NumPy."""
    is_numpys = str(getattr(value, "dtype", "")) == "bool" and value.shape == ()
    return isinstance(value, bool) or is_numpys
