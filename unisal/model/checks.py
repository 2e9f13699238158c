"""Checks of the network's arguments, with messages that say what it accepts."""

from __future__ import annotations

import math
import operator
from collections.abc import Mapping, Sequence

from torch import Tensor

from unisal.types import STRIDE


def check_domains(sources: Sequence[str]) -> tuple[str, ...]:
    """Check the domains of a network, which are its option `sources`.

    Returns:
        The domains as a tuple: at least one, and none twice.

    Raises:
        ValueError: there is none, one is listed twice, or it is a bare string.
    """
    if isinstance(sources, str) or not sources:
        raise ValueError(f"sources is {sources!r}; it has to be a list of one source or more")
    if len({s.lower() for s in sources}) != len(sources):
        raise ValueError(f"sources is {sources!r}; no source may be listed twice")
    return tuple(sources)


def check_temperatures(
    temperatures: Mapping[str, float] | None, domains: Sequence[str]
) -> dict[str, float]:
    """Check the temperatures of a network.

    Returns:
        The temperatures by domain; empty for None.

    Raises:
        ValueError: one is no number above 0, or the network has no such domain.
    """
    if not isinstance(temperatures, Mapping | None):
        raise ValueError(f"temperatures is {temperatures!r}; it has to be a number per domain")
    for domain, value in (temperatures or {}).items():
        check_domain(domain, domains)
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if not (is_number and 0 < value < math.inf):
            raise ValueError(f"the temperature of {domain} is {value!r}; it has to be above 0")
    return dict(temperatures or {})


def check_domain(domain: str, domains: Sequence[str]) -> None:
    """Check that `domain` is one of the network's `domains`.

    Raises:
        ValueError: it is not. The message calls it `source`, as the network's callers do.
    """
    if domain not in domains:
        raise ValueError(f"source is {domain!r}; this network knows {domains}")


def check_input(x: Tensor, reference: Tensor) -> None:
    """Check the frames that the network is called with.

    Args:
        x: `[batch, time, 3, H, W]`; H and W have to be multiples of `STRIDE`.
        reference: one of the network's weights, whose dtype `x` has to have.

    Raises:
        TypeError: `x` is not a tensor, or has another dtype.
        ValueError: `x` has another shape.
    """
    if not isinstance(x, Tensor):
        raise TypeError(f"x is a {type(x).__name__}; it has to be a torch.Tensor")
    shape = list(x.shape)
    if x.ndim != 5 or x.shape[2] != 3:
        raise ValueError(f"x has shape {shape}; it has to be [batch, time, 3, height, width]")
    if x.dtype != reference.dtype:
        raise TypeError(
            f"x is {x.dtype}; it has to be {reference.dtype}, as the network's weights are"
        )
    if 0 in shape:
        raise ValueError(f"x has shape {shape}; no dimension may be empty")
    if any(side % STRIDE for side in shape[3:]):
        raise ValueError(
            f"x is {shape[3]} x {shape[4]} pixels (height x width); "
            f"both have to be multiples of {STRIDE}"
        )


def check_target_size(target_size: Sequence[int] | None, x: Tensor) -> tuple[int, int]:
    """Check the size (h, w) that a prediction is wanted at.

    Args:
        target_size: the size in pixels; None for the size of `x`.
        x: the network's input `[batch, time, 3, H, W]`.

    Returns:
        The size (h, w).

    Raises:
        ValueError: it is not a pair of positive integers.
    """
    if target_size is None:
        return x.shape[3], x.shape[4]
    try:
        height, width = (operator.index(side) for side in target_size)
    except (TypeError, ValueError):  # not two values, or not whole numbers
        height = width = 0
    if min(height, width) < 1:
        raise ValueError(
            f"target_size is {target_size!r}; it has to be (height, width), whole numbers above 0"
        )
    return height, width


def check_state(
    h0: Sequence[Tensor | None] | None, shape: tuple[int, ...], reference: Tensor
) -> list[Tensor | None]:
    """Check a hidden state that the network is called with.

    Args:
        h0: what an earlier call returned; None for a new sequence.
        shape: the shape that the state has to have.
        reference: one of the network's weights, whose dtype the state has to have.

    Returns:
        A new list with one entry: the state, or None for a new sequence.

    Raises:
        ValueError: it is something else.
    """
    states: list[Tensor | None] = [None] if h0 is None else list(h0)
    if len(states) != 1:
        raise ValueError(
            f"h0 has {len(states)} entries; it has to be the list that forward returned"
        )
    state = states[0]
    if state is not None and (tuple(state.shape) != shape or state.dtype != reference.dtype):
        raise ValueError(
            f"h0 is {state.dtype} {list(state.shape)}; "
            f"this input needs {reference.dtype} {list(shape)}"
        )
    return states
