"""What the network accepts, said in words when it is handed something else."""

from __future__ import annotations

import operator
from collections.abc import Sequence

from torch import Tensor

STRIDE = 32
"""The encoder's total stride: input sides are multiples of it."""


def check_sources(sources: Sequence[str]) -> tuple[str, ...]:
    """-> the sources as a tuple: at least one, none twice, not one bare string."""
    if isinstance(sources, str) or not sources:
        raise ValueError(f"sources is {sources!r}; it has to be a list of one source or more")
    if len({s.lower() for s in sources}) != len(sources):
        raise ValueError(f"sources is {sources!r}; no source may stand there twice")
    return tuple(sources)


def check_source(source: str, sources: Sequence[str]) -> None:
    """`source` has to be one of the network's."""
    if source not in sources:
        raise ValueError(f"source is {source!r}; this network knows {sources}")


def check_input(x: Tensor, reference: Tensor) -> None:
    """`x` has to be `[batch, time, 3, H, W]`, of the dtype of `reference`, sides by 32."""
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
    """-> (h, w): as given, else the size of `x`."""
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
    """-> the state as a list of its own with one entry, None for a new sequence."""
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
