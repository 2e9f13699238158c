"""The one way to run the network for prediction."""

from __future__ import annotations

import logging
import os
from collections import deque
from collections.abc import Iterable, Iterator, MutableSequence, Sequence
from itertools import islice
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from unisal.device import pick_device
from unisal.errors import UserError
from unisal.forks import computing
from unisal.inference.densities import log_density, mean_log_density
from unisal.inference.runtime import pick_runtime
from unisal.inference.views import Tta, read_tta, views_of
from unisal.model import UNISAL
from unisal.model.unisal import Features
from unisal.types import Size

STATIC_DOMAINS = ("SALICON", "MIT1003", "MIT300")
"""Domains that treat a video's frames as images whatever the network says, see
`UNISAL.image_domains`."""
CHUNK = 6
"""Number of frames of one sequence per call of the network.

See docs/behaviour.md, "Scoring and prediction".
"""
MAX_FRAMES = 12
"""Number of frames of all sequences together per call of the network."""
MAX_WORKERS = 8
"""Number of threads that feed a GPU."""

K = TypeVar("K")
"""A frame's key, chosen by the caller. It travels with the frame and comes back with its map."""

log = logging.getLogger(__name__)


class Engine:
    """A network in evaluation mode on a device.

    All predictions are made here: of pictures and videos in memory, of folders, and of data sets
    that are scored.

    Args:
        model: the network; it is moved to the device.
        device: see `unisal.device.pick_device`.
        max_frames: number of frames of a video per call of the network. More frames need more
            memory and are hardly faster; the results do not depend on it.
        precision: see `unisal.inference.runtime.pick_runtime`.
        runtime: see `unisal.inference.runtime.pick_runtime`.
        tta: what to average beside the prediction of each frame: "mirror", that of its mirror
            image; "scales", those of `unisal.inference.views.SIDE_SCALES` times its size; or both,
            separated by commas. Each view of a video has states of its own.

    Attributes:
        device: where the network runs.
        tta: what is averaged, by name.
        model: the network.
        precision: what it computes in, "fp32" or "bf16".
        runtime: what runs it, see `unisal.inference.runtime.Runtime`.

    Raises:
        UserError: an option is wrong, or is not possible on this machine.
    """

    def __init__(
        self,
        model: UNISAL,
        device: str = "auto",
        max_frames: int = MAX_FRAMES,
        precision: str = "fp32",
        runtime: str = "auto",
        tta: Tta = None,
    ) -> None:
        self.tta = read_tta(tta)
        self._views = views_of(tta)
        self.device = pick_device(device)
        self.max_frames = max_frames
        self.precision = precision
        self.model = model.eval().to(self.device)
        self.runtime = pick_runtime(runtime, self.model, self.device, precision)

    @property
    def workers(self) -> int:
        """Number of threads that read, predict and write unrelated pictures."""
        on_cpu = self.device.type == "cpu"
        return torch.get_num_threads() if on_cpu else min(MAX_WORKERS, os.cpu_count() or 1)

    @property
    def video_workers(self) -> int:
        """Number of threads that read a video's frames while the network runs, and that write maps.

        On the CPU the network takes most of the time, and every thread needs memory.
        """
        on_cpu = self.device.type == "cpu"
        return max(1, torch.get_num_threads() // 2) if on_cpu else self.workers

    def domain(self, name: str) -> str:
        """Return the network's domain of that name, or its first one with a warning."""
        if name in self.model.sources:
            return name
        first = self.model.sources[0]
        log.warning("the network has no domain %r; using %r", name, first)
        return first

    @torch.inference_mode()
    def images(
        self, frames: Tensor, target_size: Size, domain: str, concurrent: bool = False
    ) -> Tensor:
        """Predict unrelated images.

        Args:
            frames: `[n, 3, H, W] float32`, ImageNet-normalised, H and W multiples of 32.
            target_size: (h, w) of the predictions.
            domain: one of the network's domains.
            concurrent: whether `workers` threads call this at the same time.

        Returns:
            Log-densities `[n, h, w] float32` on the CPU; the exp of each sums to 1.
        """
        maps = self.image_logits(frames, domain, concurrent)
        # Not with PyTorch, whose threads would spin for a while beside those of other calls.
        stacked = np.stack([self._log_density(y, target_size).numpy() for y in maps])
        return torch.from_numpy(stacked)

    @torch.inference_mode()
    def image_logits(self, frames: Tensor, domain: str, concurrent: bool = False) -> Tensor:
        """Predict unrelated images, but leave out the resize and the softmax.

        Args:
            frames: as in `images`.
            domain: as in `images`.
            concurrent: as in `images`.

        Returns:
            Logits `[n, H, W] float32`, on the device that computed them; with `tta` log-densities
            on the CPU, which are logits too.
        """
        maps = []
        for view in self._views:
            seen = [[view.of(x)] for x in frames]
            y, _ = self.runtime.logits(seen, None, domain, static=True, concurrent=concurrent)
            maps.append(y[:, 0])
        if len(maps) == 1:
            return maps[0]
        size = frames.shape[-2], frames.shape[-1]
        return torch.stack(self._averaged([y.unbind() for y in maps], size))

    def video(
        self,
        frames: Iterable[tuple[K, Tensor]],
        target_size: Size,
        domain: str,
        frame_step: int,
        chunk: int = CHUNK,
    ) -> Iterator[tuple[K, Tensor]]:
        """Predict a video of any length in constant memory.

        The frames form `frame_step` interleaved sequences (0, frame_step, 2 frame_step, ...; 1,
        frame_step + 1, ...). The network sees a chunk of every sequence at a time and carries their
        states over to the next chunks.

        Args:
            frames: keys with frames `[3, H, W] float32`, as in `images`, in the order of the video.
                At most a chunk of each sequence is drawn ahead of what has been yielded.
            target_size: (h, w) of the predictions.
            domain: one of the network's domains.
            frame_step: number of sequences.
            chunk: number of frames of a sequence per call of the network; fewer if `max_frames`
                requires it. Except for rounding, the results do not depend on it.

        Yields:
            Each key with its log-density `[h, w] float32` on the CPU, in the order of the frames.
        """
        # Maps wait at the network's size and are resized one by one when they are asked for.
        for key, y in self.video_logits(frames, domain, frame_step, chunk):
            yield key, self._log_density(y, target_size)

    def video_logits(
        self,
        frames: Iterable[tuple[K, Tensor]],
        domain: str,
        frame_step: int,
        chunk: int = CHUNK,
    ) -> Iterator[tuple[K, Tensor]]:
        """Predict a video as `video` does, but leave out the resize and the softmax.

        Args:
            frames: as in `video`.
            domain: as in `video`.
            frame_step: as in `video`.
            chunk: as in `video`.

        Yields:
            Each key with its logits `[H, W] float32`, as `image_logits` returns them.
        """
        at_once = frame_step * max(1, min(chunk, self.max_frames // frame_step))
        if not self.runtime.gains_by_batches:
            at_once = 1
        remaining = iter(frames)
        states: list[deque[Tensor | None]] = [deque([None] * frame_step) for _ in self._views]
        while taken := list(islice(remaining, at_once)):
            maps = self._advance_views([x for _, x in taken], states, domain)
            for (key, _), y in zip(taken, maps, strict=True):
                yield key, y
            for own in states:
                own.rotate(-len(taken))  # the first state is that of the next frame

    def step(
        self, frame: Tensor, states: list[Tensor | None], target_size: Size, domain: str
    ) -> Tensor:
        """Predict the next frame of a sequence from it and the frames before it.

        Args:
            frame: `[3, H, W] float32`, as in `images`.
            states: a single entry, the state of the sequence, None at its start; updated in place,
                with `tta` to an entry for each view.
            target_size: (h, w) of the prediction.
            domain: one of the network's domains.

        Returns:
            Log-density `[h, w] float32` on the CPU.
        """
        states.extend([None] * (len(self._views) - len(states)))
        own = [[state] for state in states]
        (logits,) = self._advance_views([frame], own, domain)
        states[:] = [state for (state,) in own]
        return self._log_density(logits, target_size)

    @computing()
    @torch.inference_mode()
    def features(
        self,
        frame: Tensor,
        domain: str,
        states: list[Tensor | None] | None = None,
        target_size: Size | None = None,
    ) -> tuple[Features, Tensor | None]:
        """Compute the network's features of an image, or of the next frame of a sequence.

        Args:
            frame: as in `step`.
            domain: as in `step`.
            states: as in `step`; None for an image by itself.
            target_size: (h, w) of the prediction, None if it is not wanted.

        Returns:
            The features `[C, h, w] float32` on the CPU, and the log-density as `step` returns it.

        Raises:
            UserError: the log-density is wanted too, but is one that `tta` averages.
        """
        if self.tta and target_size is not None:
            raise UserError("features go without tta: they are those of the frame itself")
        static = states is None or self._is_static(domain)
        x = frame.to(self.device)[None, None]
        found, hidden = self.model.features(x, h0=states, domain=domain, static=static)
        if states is not None:
            states[0] = None if hidden is None else hidden[0]
        log_density = None
        if target_size is not None:
            logits = self.model.logits_from(found.before_upsampling, domain)
            log_density = self._log_density(logits[0, 0, 0], target_size)
        return Features(*(y[0, 0].float().cpu() for y in found)), log_density

    def _advance_views(
        self,
        frames: Sequence[Tensor],
        states: Sequence[MutableSequence[Tensor | None]],
        domain: str,
    ) -> list[Tensor]:
        """Return the logits of the next frames, see `_advance`, with the states of each view."""
        maps = [
            self._advance([view.of(x) for x in frames], own, domain)
            for view, own in zip(self._views, states, strict=True)
        ]
        if len(maps) == 1:
            return maps[0]
        return self._averaged(maps, (frames[0].shape[-2], frames[0].shape[-1]))

    def _averaged(self, maps: Sequence[Sequence[Tensor]], size: Size) -> list[Tensor]:
        """Average the densities of the views.

        Args:
            maps: for each view the logits `[h, w]` of each frame.
            size: (H, W) of the frames.

        Returns:
            The log-density `[H, W] float32` of each frame, on the CPU.
        """
        return [
            torch.from_numpy(
                mean_log_density(
                    [view.back(y) for view, y in zip(self._views, one, strict=True)], size
                )
            )
            for one in zip(*maps, strict=True)
        ]

    @torch.inference_mode()
    def _advance(
        self, frames: Sequence[Tensor], states: MutableSequence[Tensor | None], domain: str
    ) -> list[Tensor]:
        """Return the logits `[H, W]` of the next frames, in order; update `states` in place."""
        step = len(states)
        maps: list[Tensor] = [torch.empty(0)] * len(frames)
        static = self._is_static(domain)
        for rows in self._calls(len(frames), step):
            sequences = [frames[row::step] for row in rows]
            before = _joined([states[row] for row in rows])
            y, after = self.runtime.logits(sequences, before, domain, static)
            for i, row in enumerate(rows):
                maps[row::step] = y[i].unbind()
                states[row] = None if after is None else after[i : i + 1]
        return maps

    def _is_static(self, domain: str) -> bool:
        """Return whether the frames of a video are unrelated images to a domain."""
        return domain in STATIC_DOMAINS or domain in self.model.image_domains

    def _calls(self, n_frames: int, step: int) -> Iterator[range]:
        """Yield which sequences go through the network together.

        They have the same number of the `n_frames` frames, and at most `max_frames` in all.
        """
        whole, n_longer = divmod(n_frames, step)
        for rows, length in ((range(n_longer), whole + 1), (range(n_longer, step), whole)):
            if length:
                at_once = max(1, self.max_frames // length)
                yield from (rows[i : i + at_once] for i in range(0, len(rows), at_once))

    @torch.inference_mode()
    def _log_density(self, logits: Tensor, target_size: Size) -> Tensor:
        """Resize logits `[H, W]` on the device and return the log-density on the CPU."""
        if logits.device.type == "cpu":
            return torch.from_numpy(log_density(logits.numpy(), target_size))
        y = self.model.log_density(logits[None, None, None], target_size)
        return y[0, 0, 0].cpu()


def _joined(states: Sequence[Tensor | None]) -> Tensor | None:
    """Return one state for a batch of sequences; None at the start."""
    present = [state for state in states if state is not None]
    return torch.cat(present) if present else None
