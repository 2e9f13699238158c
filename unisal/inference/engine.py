"""The one way to run the network for prediction."""

from __future__ import annotations

import logging
import os
from collections import deque
from collections.abc import Iterable, Iterator, MutableSequence, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from unisal.device import find_device
from unisal.forks import compute_threads
from unisal.inference.network import GraphNetwork, Network, SavedNetwork
from unisal.inference.runtime import Frame, State, pick_runtime
from unisal.types import Features, LogDensity, Size

if TYPE_CHECKING:
    from unisal.model import UNISAL

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
    """A network in evaluation mode on a device. It takes arrays and gives arrays.

    All predictions are made here: of pictures and videos in memory, of folders, and of data sets
    that are scored.

    Args:
        model: the network. One of PyTorch is moved to the device; for the others see
            `unisal.inference.network`.
        device: see `unisal.device.pick_device`.
        max_frames: number of frames of a video per call of the network. More frames need more
            memory and are hardly faster; the results do not depend on it.
        precision: see `unisal.inference.runtime.pick_runtime`.
        runtime: see `unisal.inference.runtime.pick_runtime`.

    Attributes:
        device: where the network runs: "cpu", "cuda", "cuda:1", ...
        network: the network in the form in which it was given.
        runtime: what runs it, see `unisal.inference.runtime.Runtime`.

    Raises:
        UserError: an option is wrong, or is not possible on this machine.
    """

    def __init__(
        self,
        model: UNISAL | SavedNetwork,
        device: str = "auto",
        max_frames: int = MAX_FRAMES,
        precision: str = "fp32",
        runtime: str = "auto",
    ) -> None:
        self.max_frames = max_frames
        self.network: Network
        is_graph = isinstance(model, GraphNetwork)
        self.device = "cpu" if is_graph and device == "auto" else find_device(device)
        if isinstance(model, SavedNetwork):
            self.network = model
        else:
            from unisal.inference.torch_network import TorchNetwork

            self.network = TorchNetwork(model.eval().to(self.device))
        self.runtime = pick_runtime(runtime, self.network, self.device, precision)

    @property
    def model(self) -> UNISAL:
        """The network itself, in evaluation mode.

        It is read when it is first asked for, if a graph was all that predictions needed so far.

        Raises:
            UserError: it cannot be read, or there is nothing but a graph.
        """
        return self.network.model

    @property
    def sources(self) -> tuple[str, ...]:
        """The network's domains."""
        return self.network.sources

    @property
    def workers(self) -> int:
        """Number of threads that read, predict and write unrelated pictures."""
        on_cpu = self.device == "cpu"
        return compute_threads() if on_cpu else min(MAX_WORKERS, os.cpu_count() or 1)

    @property
    def video_workers(self) -> int:
        """Number of threads that read a video's frames while the network runs, and that write maps.

        On the CPU the network takes most of the time, and every thread needs memory.
        """
        on_cpu = self.device == "cpu"
        return max(1, compute_threads() // 2) if on_cpu else self.workers

    def domain(self, name: str) -> str:
        """Return the network's domain of that name, or its first one with a warning."""
        if name in self.sources:
            return name
        first = self.sources[0]
        log.warning("the network has no domain %r; using %r", name, first)
        return first

    def images(
        self,
        frames: NDArray[np.float32],
        target_size: Size,
        domain: str,
        concurrent: bool = False,
    ) -> NDArray[np.float32]:
        """Predict unrelated images.

        Args:
            frames: `[n, 3, H, W] float32`, ImageNet-normalised, H and W multiples of 32.
            target_size: (h, w) of the predictions.
            domain: one of the network's domains.
            concurrent: whether `workers` threads call this at the same time.

        Returns:
            Log-densities `[n, h, w] float32`; the exp of each sums to 1.
        """
        maps = self._image_maps(frames, domain, concurrent)
        return np.stack([self.runtime.log_density(y, target_size) for y in maps])

    def image_logits(
        self, frames: NDArray[np.float32], domain: str, concurrent: bool = False
    ) -> NDArray[np.float32]:
        """Predict unrelated images, but leave out the resize and the softmax.

        Args:
            frames: as in `images`.
            domain: as in `images`.
            concurrent: as in `images`.

        Returns:
            Logits `[n, H, W] float32`.
        """
        return self.runtime.to_array(self._image_maps(frames, domain, concurrent))

    def _image_maps(self, frames: Iterable[Frame], domain: str, concurrent: bool) -> Any:
        """Return the logits `[n, H, W]` of images, wherever the runtime computed them."""
        sequences = [[x] for x in frames]
        starts = [None] * len(sequences)
        maps, _ = self.runtime.logits(sequences, starts, domain, True, concurrent)
        return maps[:, 0]

    def video(
        self,
        frames: Iterable[tuple[K, Frame]],
        target_size: Size,
        domain: str,
        frame_step: int,
        chunk: int = CHUNK,
    ) -> Iterator[tuple[K, LogDensity]]:
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
            Each key with its log-density `[h, w] float32`, in the order of the frames.
        """
        # Maps wait at the network's size and are resized one by one when they are asked for.
        for key, y in self._video_maps(frames, domain, frame_step, chunk):
            yield key, self.runtime.log_density(y, target_size)

    def video_logits(
        self,
        frames: Iterable[tuple[K, Frame]],
        domain: str,
        frame_step: int,
        chunk: int = CHUNK,
    ) -> Iterator[tuple[K, NDArray[np.float32]]]:
        """Predict a video as `video` does, but leave out the resize and the softmax.

        Args:
            frames: as in `video`.
            domain: as in `video`.
            frame_step: as in `video`.
            chunk: as in `video`.

        Yields:
            Each key with its logits `[H, W] float32`.
        """
        for key, y in self._video_maps(frames, domain, frame_step, chunk):
            yield key, self.runtime.to_array(y)

    def _video_maps(
        self, frames: Iterable[tuple[K, Frame]], domain: str, frame_step: int, chunk: int
    ) -> Iterator[tuple[K, Any]]:
        """Yield the logits `[H, W]` of a video's frames, wherever the runtime computed them."""
        at_once = frame_step * max(1, min(chunk, self.max_frames // frame_step))
        if not self.runtime.gains_by_batches:
            at_once = 1
        remaining = iter(frames)
        states: deque[State | None] = deque([None] * frame_step)
        while taken := list(islice(remaining, at_once)):
            maps = self._advance([x for _, x in taken], states, domain)
            for (key, _), y in zip(taken, maps, strict=True):
                yield key, y
            states.rotate(-len(taken))  # the first state is that of the next frame

    def step(
        self, frame: Frame, states: list[State | None], target_size: Size, domain: str
    ) -> LogDensity:
        """Predict the next frame of a sequence from it and the frames before it.

        Args:
            frame: `[3, H, W] float32`, as in `images`.
            states: a single entry, the state of the sequence, None at its start; updated in place.
            target_size: (h, w) of the prediction.
            domain: one of the network's domains.

        Returns:
            Log-density `[h, w] float32`.
        """
        (logits,) = self._advance([frame], states, domain)
        return self.runtime.log_density(logits, target_size)

    def features(
        self,
        frame: Frame,
        domain: str,
        states: list[State | None] | None = None,
        target_size: Size | None = None,
    ) -> tuple[Features, LogDensity | None]:
        """Compute the network's features of an image, or of the next frame of a sequence.

        PyTorch does that, since graphs have no features.

        Args:
            frame: as in `step`.
            domain: as in `step`.
            states: as in `step`; None for an image by itself.
            target_size: (h, w) of the prediction, None if it is not wanted.

        Returns:
            The features `[C, h, w] float32`, and the log-density as `step` returns it.
        """
        model = self.model  # a graph alone says here that it has none
        from unisal.inference.torch_network import compute_features

        static = states is None or self.is_static(domain)
        return compute_features(model, frame, domain, states, static, target_size)

    def _advance(
        self, frames: Sequence[Frame], states: MutableSequence[State | None], domain: str
    ) -> list[Any]:
        """Return the logits `[H, W]` of the next frames, in order; update `states` in place."""
        step = len(states)
        maps: list[Any] = [None] * len(frames)
        static = self.is_static(domain)
        for rows in self._calls(len(frames), step):
            sequences = [frames[row::step] for row in rows]
            before = [states[row] for row in rows]
            y, after = self.runtime.logits(sequences, before, domain, static)
            for i, row in enumerate(rows):
                maps[row::step] = list(y[i])
                states[row] = after[i]
        return maps

    def is_static(self, domain: str) -> bool:
        """Return whether the frames of a video are unrelated images to a domain."""
        return domain in STATIC_DOMAINS or domain in self.network.image_domains

    def _calls(self, n_frames: int, step: int) -> Iterator[range]:
        """Yield which sequences go through the network together.

        They have the same number of the `n_frames` frames, and at most `max_frames` in all.
        """
        whole, n_longer = divmod(n_frames, step)
        for rows, length in ((range(n_longer), whole + 1), (range(n_longer, step), whole)):
            if length:
                at_once = max(1, self.max_frames // length)
                yield from (rows[i : i + at_once] for i in range(0, len(rows), at_once))
