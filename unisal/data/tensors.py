"""Arrays as tensors: the one place where data sets import PyTorch, when an example is read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from torch import Tensor


def as_tensor(array: NDArray[Any]) -> Tensor:
    """Return a tensor that shares the memory of an array."""
    from torch import from_numpy  # here, since predictions do without PyTorch

    return from_numpy(array)


def stacked(arrays: Sequence[NDArray[Any]]) -> Tensor:
    """Return arrays of one shape as one tensor, with a new first axis."""
    return as_tensor(np.stack(arrays))
