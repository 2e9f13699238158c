"""PyTorch's random numbers as a run draws them, apart from those of the program around it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch


class RandomStream:
    """The numbers that a run draws from PyTorch's global generators.

    They are for the initial weights and for dropout. Everything else that is random follows from
    the seed, the epoch and the index of the example.

    Dropout can only draw from the global generators, so they are set to the run's state while the
    run works, and back to the caller's afterwards. What a caller draws is the same with and without
    a training in between, and does not change the training.

    Args:
        seed: of the stream.

    Attributes:
        states: where the stream continues, see `random_states`; None: at its start.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.states: dict[str, Any] | None = None

    @contextmanager
    def drawn_from(self) -> Iterator[None]:
        """Have PyTorch draw from this stream inside a `with` statement."""
        of_caller = random_states()
        torch.manual_seed(self.seed)  # for generators whose states are not known
        if self.states is not None:
            set_random_states(self.states)
        try:
            yield
        finally:
            self.states = random_states()
            set_random_states(of_caller)


def random_states() -> dict[str, Any]:
    """Return the states of PyTorch's global generators.

    Returns:
        `cpu`, a tensor, and `cuda`, a list with a tensor for each GPU.
    """
    return {
        "cpu": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }


def set_random_states(states: dict[str, Any]) -> None:
    """Set PyTorch's global generators; those of the GPUs only if their number is the same."""
    torch.set_rng_state(states["cpu"])
    if states["cuda"] and torch.cuda.device_count() == len(states["cuda"]):
        torch.cuda.set_rng_state_all(states["cuda"])
