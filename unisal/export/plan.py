"""What an exported network takes and gives."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from unisal.types import Size

DENSITY, LOGITS = "density", "logits"
OUTPUTS = DENSITY, LOGITS
"""What may be the first output, and its name."""
PICTURE = "picture"
"""The name of the input; those of the state are `STATE` and `NEXT_STATE` of
`unisal.inference.graph_file`."""
LANCZOS_REACH = 3
"""How far the antialiased filter of Pillow reaches, in pixels of the smaller picture."""
COEFFICIENT_STEPS = 2**22
"""Pillow rounds the filter's coefficients to multiples of 1 / 2^22."""
NO_DISTANCE = 1e-7
"""Stands for a distance of 0 in the filter, a quotient whose limit is 1 there."""
LEVELS = 255
"""The highest level of a picture."""


@dataclass(frozen=True)
class Plan:
    """The sizes and the output of an exported network.

    Attributes:
        resize: whether pictures of any size are resized inside, with Pillow's antialiased Lanczos
            filter, and densities come out at the picture's size. Otherwise the picture is as large
            as what the network takes.
        size: (height, width) of what the network takes, multiples of 32; None for any, with
            `resize` the one that `unisal.data.transforms.optimal_input_size` gives.
        native: the (height, width) of the only pictures that get another size with `resize`, and
            that size; None if there is none. See `unisal.predict.presets.Preset`.
        batch: the number of pictures in a call; None for any.
        output: "density", or "logits" for the network's map before resize and softmax, divided
            by the domain's temperature.
    """

    resize: bool = True
    size: Size | None = None
    native: tuple[Size, Size] | None = None
    batch: int | None = None
    output: str = DENSITY

    def facts(self) -> dict[str, Any]:
        """Return the plan ready for JSON."""
        return {
            "resize": self.resize,
            "size": None if self.size is None else list(self.size),
            "batch": self.batch,
        }
