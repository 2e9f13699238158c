"""Measure a training step, forward and backward, on the CPU.

Run `python -m benchmarks.training`. The encoder trains and its BatchNorms keep their estimates, as
in most epochs of a run. There is no dropout, so both sides compute the same thing. The optimiser,
the same for both, is left out.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.case import Case, measure, print_rows
from benchmarks.limits import Machine, Work, count_calls, measure_machine
from benchmarks.stream_latency import make_frames
from benchmarks.timing import plain_module
from unisal.data.transforms import normalise
from unisal.model import UNISAL
from unisal.predict.loading import load_model
from unisal.train.epoch import set_training_mode
from unisal.train.losses import batch_loss
from unisal.train.setup import place_model

WEIGHTS = {"kld": 1.0, "nss": -0.1, "cc": -0.1}
BACKWARD_COST = 2
"""As many multiply-adds as forward, once for the inputs and once for the weights."""

SMALL_SIZE = 64, 96
"""Size of the frames that are also computed in float64."""

Gradients = dict[str, Tensor]


class TrainingCase(Case):
    """A batch.

    Args:
        size: (H, W) of the network's input.
        target_size: (h, w) of the maps.
        batch: how many clips.
        time: how many frames each clip has.
    """

    domain: str
    unit = "step"
    rounds = 3

    def __init__(
        self, size: tuple[int, int], target_size: tuple[int, int], batch: int, time: int
    ) -> None:
        self.size, self.target_size, self.batch, self.time = size, target_size, batch, time

    def options(self) -> dict[str, Any]:
        names = ("size", "target_size", "batch", "time")
        return {name: getattr(self, name) for name in names}

    @cached_property
    def model(self) -> UNISAL:
        model = without_dropout(place_model(load_model(), torch.device("cpu")))
        set_training_mode(model, cnn_eval=True, cnn_trains=True)
        return model

    @cached_property
    def frames(self) -> Tensor:
        frames = make_frames(self.size, self.batch * self.time)
        return torch.from_numpy(np.stack([normalise(f) for f in frames])).unflatten(
            0, (self.batch, self.time)
        )

    @cached_property
    def truth(self) -> tuple[Tensor, Tensor]:
        """Densities and fixations."""
        shape = (self.batch, self.time, 1, *self.target_size)
        generator = torch.Generator().manual_seed(0)
        maps = torch.rand(shape, generator=generator) ** 4
        fixated = torch.rand(shape, generator=generator) > 0.9997
        return maps / maps.sum((-2, -1), keepdim=True), fixated

    def plain(self) -> Gradients:
        trained = dict(self.model.named_parameters())
        state = {
            # Laid out as usual: our layout would make the plain computation slower.
            k: v.detach().clone(memory_format=torch.contiguous_format).requires_grad_(k in trained)
            for k, v in self.model.state_dict().items()
        }
        plain = plain_module("plain_network")
        network = plain.PlainNetwork(state, self.model.config, training=True)
        for key in [k for k in network.state if "drop_mask" in k]:
            del network.state[key]
        y, _ = network(self.frames, self.target_size, source=self.domain)
        plain_losses = plain_module("plain_training").plain_losses(y, *self.truth)
        sum(WEIGHTS[name] * value for name, value in plain_losses.items()).backward()
        return {k: v.grad for k, v in state.items() if v.grad is not None}

    def ours(self) -> Gradients:
        self.model.zero_grad(set_to_none=True)
        y = self._forward()
        batch_loss(y, *self.truth, WEIGHTS).total.backward()
        named = self.model.named_parameters()
        return {k: v.grad.clone() for k, v in named if v.grad is not None}

    def _forward(self) -> Tensor:
        """Return the network's log-density for the batch."""
        y: Tensor = self.model(self.frames, self.target_size, source=self.domain)
        return y

    def difference(self, plain: Gradients, ours: Gradients) -> str:
        """Compare the gradients in float32, and on smaller frames in float64.

        In float32 rounding moves units across the kinks of ReLU6, in any order of computation.
        """
        height, width = SMALL_SIZE
        options = {**self.options(), "size": SMALL_SIZE, "target_size": (2 * height, 2 * width)}
        exact, small = (type(self)(**options) for _ in range(2))
        exact.to_float64()
        expected = exact.plain()
        off = [distance(gradients, expected) for gradients in (small.ours(), small.plain())]
        return (
            f"{distance(exact.ours(), expected):.0e} of the gradient in float64; in float32 "
            f"{distance(ours, plain):.0e} (small frames against float64: ours {off[0]:.0e}, plain "
            f"{off[1]:.0e})"
        )

    def to_float64(self) -> None:
        """Switch the case to float64."""
        self.model.double()
        densities, fixated = self.truth
        self.__dict__ |= {"frames": self.frames.double(), "truth": (densities.double(), fixated)}

    def of_the_limit(self, machine: Machine, seconds: float) -> str:
        forward = count_calls(self._forward)
        return machine.share(Work(*((1 + BACKWARD_COST) * value for value in forward)), seconds)


def without_dropout(model: UNISAL) -> UNISAL:
    """Turn off all that a network draws in training; return it."""
    for layer in model.modules():
        if isinstance(layer, nn.Dropout2d):
            layer.p = 0.0
    if model.has_rnn:
        cell: Any = model.rnn.cell_list[0]
        cell.cfg = cell.cfg._replace(dropout=(False, False, False))
    return model


def distance(gradients: Gradients, expected: Gradients) -> float:
    """Return how far gradients are off, as a share of the length of the whole gradient."""
    pairs = [(gradients[k].double() - x.double(), x.double()) for k, x in expected.items()]
    error, whole = (torch.cat([x.flatten() for x in some]) for some in zip(*pairs, strict=True))
    return float(error.norm() / whole.norm())


class ImageStep(TrainingCase):
    """A step on images."""

    what, wanted = "training step, 8 images 288x384", "2.5 times"
    domain = "SALICON"

    def __init__(
        self,
        size: tuple[int, int] = (288, 384),
        target_size: tuple[int, int] = (480, 640),
        batch: int = 8,
        time: int = 1,
    ) -> None:
        super().__init__(size, target_size, batch, time)


class VideoStep(TrainingCase):
    """A step on clips of videos."""

    what, wanted = "training step, 4 clips of 12 frames 224x384", "2.5 times"
    domain = "DHF1K"

    def __init__(
        self,
        size: tuple[int, int] = (224, 384),
        target_size: tuple[int, int] = (360, 640),
        batch: int = 4,
        time: int = 12,
    ) -> None:
        super().__init__(size, target_size, batch, time)


def cases() -> list[Case]:
    """Return the cases of this module."""
    return [ImageStep(), VideoStep()]


if __name__ == "__main__":
    machine = measure_machine()
    print_rows([measure(case, machine) for case in cases()])
