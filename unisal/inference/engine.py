"""The one way to run the network for prediction."""

from __future__ import annotations

import contextlib
import logging
import os
from collections import deque
from collections.abc import Iterable, Iterator, MutableSequence, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from unisal.device import find_device
from unisal.errors import GraphError, UserError
from unisal.forks import compute_threads
from unisal.inference.densities import log_density, mean_log_density
from unisal.inference.network import GraphNetwork, Network, RunNetwork, SavedNetwork, WithFeatures
from unisal.inference.runtime import Frame, OnnxRuntime, Runtime, State, check_names, pick_runtime
from unisal.inference.views import Tta, read_tta, views_of
from unisal.types import STRIDE, Features, LogDensity, Size

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
        tta: what to average beside the prediction of each frame: "mirror", that of its mirror
            image; "scales", those of `unisal.inference.views.SIDE_SCALES` times its size; or both,
            separated by commas. Each view of a video has states of its own.

    Attributes:
        device: where the network runs: "cpu", "cuda", "cuda:1", ...
        tta: what is averaged, by name.
        network: the network in the form in which it was given.
        precision: as it was given; see `precision_of`.
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
        tta: Tta = None,
    ) -> None:
        self.tta = read_tta(tta)
        self._views = views_of(tta)
        self.max_frames = max_frames
        self.precision = precision
        self.network: Network
        is_graph = isinstance(model, GraphNetwork)
        self.device = "cpu" if is_graph and device == "auto" else find_device(device)
        if isinstance(model, SavedNetwork):
            self.network = model
        else:
            from unisal.inference.torch_network import TorchNetwork

            self.network = TorchNetwork(model.eval().to(self.device))
        check_names(runtime, precision)
        self._bf16_runtime = ""
        base = self.network
        self.runtime = self._pick_runtime(runtime)
        self._features: OnnxRuntime | None = None
        if isinstance(base, RunNetwork) and self.runtime.name == "onnx":
            self._features = OnnxRuntime(WithFeatures(base))

    def _pick_runtime(self, name: str) -> Runtime:
        """Return what runs the network, and make that the one in the precision asked for."""
        base, precision = self.network, self.precision
        if self.device == "cpu" and precision == "bf16":
            from unisal.inference.bf16 import pick_bf16

            runtime = pick_bf16(base, name)
            self._bf16_runtime = getattr(runtime, "bf16_runtime", "")
            return runtime
        if self.device == "cpu" and name != "torch" and precision in ("int8", "auto"):
            from unisal.inference.int8.kept import with_int8

            self.network = with_int8(base, precision)
            if precision == "auto":
                from unisal.inference.bf16 import with_checked_bf16

                self.network, self._bf16_runtime = with_checked_bf16(self.network, base)
        return pick_runtime(name, self.network, self.device, precision, self._bf16_runtime)

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

    def temperature(self, domain: str) -> float:
        """Return what the logits of a domain are divided by, see `unisal.model.UNISAL`."""
        return self.network.temperatures.get(domain, 1)

    def precision_of(self, domain: str, static: bool) -> str:
        """Return what a domain's frames are computed in: "fp32", "bf16" or "int8".

        Args:
            domain: one of the network's domains.
            static: whether the frames are unrelated images.

        Raises:
            UserError: there is no graph in 8 bits where one was asked for.
        """
        return "bf16" if self.precision == "bf16" else self.network.precision(domain, static)

    def runtime_of(self, domain: str, static: bool) -> str:
        """Return what runs a domain's frames: "torch", "onnx" or "openvino"; see `precision_of`."""
        is_bf16 = self._bf16_runtime and self.precision_of(domain, static) == "bf16"
        return self._bf16_runtime if is_bf16 else self.runtime.name

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

    def warm_up(self, domain: str, is_video: bool) -> None:
        """Predict a small frame, so that other processes find the domain's graph in the cache.

        Args:
            domain: one of the network's domains.
            is_video: whether it is for videos.
        """
        frame = np.zeros((3, STRIDE, STRIDE), np.float32)
        self.runtime.logits([[frame]], [None], domain, not is_video or self.is_static(domain))

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
            Logits `[n, H, W] float32`; with `tta` log-densities, which are logits too.
        """
        maps = self._image_maps(frames, domain, concurrent)
        return np.stack([self.runtime.to_array(y) for y in maps])

    def _image_maps(self, frames: NDArray[np.float32], domain: str, concurrent: bool) -> list[Any]:
        """Return the logits `[H, W]` of images, wherever the runtime computed them."""
        maps = []
        for view in self._views:
            seen = [[view.of(x)] for x in frames]
            starts = [None] * len(seen)
            y, _ = self.runtime.logits(seen, starts, domain, static=True, concurrent=concurrent)
            maps.append(list(y[:, 0]))
        return self._joined(maps, (frames.shape[-2], frames.shape[-1]), domain)

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
            Each key with its logits `[H, W] float32`, as `image_logits` returns them.
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
        states: list[deque[State | None]] = [deque([None] * frame_step) for _ in self._views]
        while taken := list(islice(remaining, at_once)):
            maps = self._advance_views([x for _, x in taken], states, domain)
            for (key, _), y in zip(taken, maps, strict=True):
                yield key, y
            for own in states:
                own.rotate(-len(taken))  # the first state is that of the next frame

    def step(
        self, frame: Frame, states: list[State | None], target_size: Size, domain: str
    ) -> LogDensity:
        """Predict the next frame of a sequence from it and the frames before it.

        Args:
            frame: `[3, H, W] float32`, as in `images`.
            states: a single entry, the state of the sequence, None at its start; updated in place,
                with `tta` to an entry for each view.
            target_size: (h, w) of the prediction.
            domain: one of the network's domains.

        Returns:
            Log-density `[h, w] float32`.
        """
        states.extend([None] * (len(self._views) - len(states)))
        own = [[state] for state in states]
        (logits,) = self._advance_views([frame], own, domain)
        states[:] = [state for (state,) in own]
        return self.runtime.log_density(logits, target_size)

    def features(
        self,
        frame: Frame,
        domain: str,
        states: list[State | None] | None = None,
        target_size: Size | None = None,
    ) -> tuple[Features, LogDensity | None]:
        """Compute the network's features of an image, or of the next frame of a sequence.

        A graph with more outputs does that, of a run on the CPU, and otherwise PyTorch.

        Args:
            frame: as in `step`.
            domain: as in `step`.
            states: as in `step`; None for an image by itself.
            target_size: (h, w) of the prediction, None if it is not wanted.

        Returns:
            The features `[C, h, w] float32`, and the log-density as `step` returns it.

        Raises:
            UserError: the log-density is wanted too, but is one that `tta` averages; or there is
                nothing but a graph.
        """
        if self.tta and target_size is not None:
            raise UserError("features go without tta: they are those of the frame itself")
        static = states is None or self.is_static(domain)
        if self._features is not None:
            with contextlib.suppress(GraphError):
                return self._graph_features(frame, domain, states, static, target_size)
        model = self.model  # a graph alone says here that it has none
        from unisal.inference.torch_network import compute_features

        heat = self.temperature(domain)
        return compute_features(model, frame, domain, states, static, target_size, heat)

    def _graph_features(
        self,
        frame: Frame,
        domain: str,
        states: list[State | None] | None,
        static: bool,
        size: Size | None,
    ) -> tuple[Features, LogDensity | None]:
        """Compute `features` without PyTorch."""
        assert self._features is not None
        before = states[0] if states else None
        found, y, after = self._features.features(frame, before, domain, static)
        if states is not None:
            states[0] = after
        if size is None:
            return found, None
        return found, log_density(y / np.float32(self.temperature(domain)), size)

    def _advance_views(
        self,
        frames: Sequence[Frame],
        states: Sequence[MutableSequence[State | None]],
        domain: str,
    ) -> list[Any]:
        """Return the logits of the next frames, see `_advance`, with the states of each view."""
        maps = [
            self._advance([view.of(x) for x in frames], own, domain)
            for view, own in zip(self._views, states, strict=True)
        ]
        return self._joined(maps, (frames[0].shape[-2], frames[0].shape[-1]), domain)

    def _joined(self, maps: Sequence[list[Any]], size: Size, domain: str) -> list[Any]:
        """Average the densities of the views, at the domain's temperature.

        Args:
            maps: for each view the logits `[h, w]` of each frame.
            size: (H, W) of the frames.
            domain: whose temperature to use.

        Returns:
            The logits of each frame; of several views the log-density `[H, W] float32`.
        """
        joined = maps[0]
        if len(maps) > 1:
            joined = [
                mean_log_density(
                    [
                        view.back(self.runtime.to_array(y))
                        for view, y in zip(self._views, one, strict=True)
                    ],
                    size,
                )
                for one in zip(*maps, strict=True)
            ]
        temperature = self.temperature(domain)
        return joined if temperature == 1 else [y / np.float32(temperature) for y in joined]

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
