"""The one way to run the network for prediction."""

from __future__ import annotations

import logging
import os
from collections import deque
from collections.abc import Iterable, Iterator, MutableSequence, Sequence
from itertools import islice

import numpy as np
import torch
from torch import Tensor

from unisal.device import pick_device
from unisal.inference.densities import log_density
from unisal.inference.runtime import pick_runtime
from unisal.model import UNISAL
from unisal.model.unisal import Features

STATIC_DOMAINS = ("SALICON", "MIT1003", "MIT300")
"""Domains whose modules have seen single images only: a video's frames are images to them."""
CHUNK = 6
"""Frames of one sequence per call of the network (spec 04)."""
MAX_FRAMES = 12
"""Frames of all sequences together per call of the network."""
MAX_WORKERS = 8
"""Threads that feed a GPU."""

log = logging.getLogger(__name__)


class Engine:
    """A network in evaluation mode on a device.

    Everything that predicts goes through here: pictures and videos in memory, folders, datasets
    that are scored.

    Args:
        model: the network.
        device: see `unisal.device.pick_device`.
        max_frames: of a video, per call of the network. More need more memory and are hardly
            faster; no number depends on it.
        precision, runtime: see `unisal.inference.runtime.pick_runtime`.

    Raises:
        UserError: an option is wrong, or not possible here.
    """

    def __init__(
        self,
        model: UNISAL,
        device: str = "auto",
        max_frames: int = MAX_FRAMES,
        precision: str = "fp32",
        runtime: str = "auto",
    ) -> None:
        self.device = pick_device(device)
        self.max_frames = max_frames
        self.model = model.eval().to(self.device)
        self._runtime = pick_runtime(runtime, self.model, self.device, precision)

    @property
    def workers(self) -> int:
        """How many threads to read, predict and write unrelated pictures in."""
        on_cpu = self.device.type == "cpu"
        return torch.get_num_threads() if on_cpu else min(MAX_WORKERS, os.cpu_count() or 1)

    @property
    def video_workers(self) -> int:
        """How many threads to read a video's frames in while the network runs, and as many to
        write maps in. On the CPU the network needs most of the time, and each thread memory."""
        on_cpu = self.device.type == "cpu"
        return max(1, torch.get_num_threads() // 2) if on_cpu else self.workers

    def domain(self, name: str) -> str:
        """-> the network's domain of that name, or its first one with a warning."""
        if name in self.model.sources:
            return name
        first = self.model.sources[0]
        log.warning("the network has no domain %r; using %r", name, first)
        return first

    @torch.inference_mode()
    def images(
        self,
        frames: Tensor,
        target_size: tuple[int, int],
        domain: str,
        side_by_side: bool = False,
    ) -> Tensor:
        """Predict unrelated images.

        Args:
            frames: `[n, 3, H, W] float32`, ImageNet-normalised, H and W multiples of 32.
            target_size: (h, w) of the predictions.
            domain: whose modules to use, one of the network's sources.
            side_by_side: `workers` threads call this at the same time.

        Returns:
            Log-densities `[n, h, w] float32` on the CPU; exp sums to 1 per image.
        """
        maps = self.image_maps(frames, domain, side_by_side)
        # Not with PyTorch: its threads would spin for a while beside those of other calls.
        stacked = np.stack([self._log_density(y, target_size).numpy() for y in maps])
        return torch.from_numpy(stacked)

    @torch.inference_mode()
    def image_maps(self, frames: Tensor, domain: str, side_by_side: bool = False) -> Tensor:
        """As `images`, but -> the maps before resize and softmax `[n, H, W]`, where they are."""
        maps, _ = self._runtime.logits(
            [[x] for x in frames], None, domain, static=True, side_by_side=side_by_side
        )
        return maps[:, 0]

    def video(
        self,
        frames: Iterable[Tensor],
        target_size: tuple[int, int],
        domain: str,
        step: int,
        chunk: int = CHUNK,
    ) -> Iterator[Tensor]:
        """Predict a video of any length in constant memory.

        The frames are `step` interleaved sequences (0, step, 2 step, ...; 1, step + 1, ...). The
        network sees a chunk of all of them at a time and carries the state of each one on to
        the next chunk.

        Args:
            frames: `[3, H, W] float32` each, as in `images`, in the order of the video. At most
                a chunk of each sequence is taken ahead of what has been yielded.
            target_size: (h, w) of the predictions.
            domain: whose modules to use, one of the network's sources.
            step: number of sequences.
            chunk: frames of a sequence per call of the network, fewer where `max_frames` wants
                it so. No number depends on it, but for rounding.

        Yields:
            Log-densities `[h, w] float32` on the CPU, in the order of the frames.
        """
        # Maps are held at the network's size: resized one by one, when it is their turn.
        for y in self.video_maps(frames, domain, step, chunk):
            yield self._log_density(y, target_size)

    def video_maps(
        self, frames: Iterable[Tensor], domain: str, step: int, chunk: int = CHUNK
    ) -> Iterator[Tensor]:
        """As `video`, but yields the maps before resize and softmax `[H, W]`, where they are."""
        at_once = step * max(1, min(chunk, self.max_frames // step))
        if not self._runtime.gains_by_batches:
            at_once = 1
        remaining = iter(frames)
        states: deque[Tensor | None] = deque([None] * step)
        while taken := list(islice(remaining, at_once)):
            yield from self._advance(taken, states, domain)
            states.rotate(-len(taken))  # the first one is that of the next frame

    def step(
        self,
        frame: Tensor,
        states: list[Tensor | None],
        target_size: tuple[int, int],
        domain: str,
    ) -> Tensor:
        """Predict the next frame of a sequence, from it and those before it.

        Args:
            frame: `[3, H, W] float32`, as in `images`.
            states: one entry, the state of the sequence, None at its start; goes on in place.
            target_size: (h, w) of the prediction.
            domain: whose modules to use, one of the network's sources.

        Returns:
            Log-density `[h, w] float32` on the CPU.
        """
        (logits,) = self._advance([frame], states, domain)
        return self._log_density(logits, target_size)

    @torch.inference_mode()
    def features(
        self,
        frame: Tensor,
        domain: str,
        states: list[Tensor | None] | None = None,
        target_size: tuple[int, int] | None = None,
    ) -> tuple[Features, Tensor | None]:
        """The network's features of an image, or of the next frame of a sequence.

        Args:
            frame, domain: as in `step`.
            states: as in `step`; None for an image by itself.
            target_size: (h, w) of the prediction, None if it is not wanted.

        Returns:
            The features `[C, h, w] float32` on the CPU, and the log-density as of `step`.
        """
        static = states is None or domain in STATIC_DOMAINS
        x = frame.to(self.device)[None, None]
        found, hidden = self.model.features(x, h0=states, source=domain, static=static)
        if states is not None:
            states[0] = None if hidden is None else hidden[0]
        log_density = None
        if target_size is not None:
            logits = self.model.logits_from(found.before_upsampling, domain)
            log_density = self._log_density(logits[0, 0, 0], target_size)
        return Features(*(y[0, 0].float().cpu() for y in found)), log_density

    @torch.inference_mode()
    def _advance(
        self, frames: Sequence[Tensor], states: MutableSequence[Tensor | None], domain: str
    ) -> list[Tensor]:
        """-> the maps `[H, W]` of the next frames, in their order; `states` go on in place."""
        step = len(states)
        maps: list[Tensor] = [torch.empty(0)] * len(frames)
        static = domain in STATIC_DOMAINS
        for rows in self._calls(len(frames), step):
            sequences = [frames[row::step] for row in rows]
            before = _joined([states[row] for row in rows])
            y, after = self._runtime.logits(sequences, before, domain, static)
            for i, row in enumerate(rows):
                maps[row::step] = y[i].unbind()
                states[row] = None if after is None else after[i : i + 1]
        return maps

    def _calls(self, n_frames: int, step: int) -> Iterator[range]:
        """-> which sequences go through the network together: such as have equally many of the
        `n_frames` frames, and not too many of them."""
        whole, n_longer = divmod(n_frames, step)
        for rows, length in ((range(n_longer), whole + 1), (range(n_longer, step), whole)):
            if length:
                at_once = max(1, self.max_frames // length)
                yield from (rows[i : i + at_once] for i in range(0, len(rows), at_once))

    @torch.inference_mode()
    def _log_density(self, logits: Tensor, target_size: tuple[int, int]) -> Tensor:
        if logits.device.type == "cpu":
            return torch.from_numpy(log_density(logits.numpy(), target_size))
        y = self.model.log_density(logits[None, None, None], target_size)
        return y[0, 0, 0].cpu()


def _joined(states: Sequence[Tensor | None]) -> Tensor | None:
    """The states of several sequences -> one for the batch of them; None at the start."""
    present = [state for state in states if state is not None]
    return torch.cat(present) if present else None
