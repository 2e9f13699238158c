"""The command `predict_camera`: predictions of a live camera or stream."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from statistics import median
from typing import Any

import cv2
import numpy as np

from unisal.checks import check_number
from unisal.commands.places import prepare_folder
from unisal.commands.progress import TERMINAL
from unisal.commands.verbose import say_facts
from unisal.data.video_file import Frame, VideoFile
from unisal.errors import UserError
from unisal.files import require_writable_file
from unisal.inference.densities import to_saliency_map
from unisal.inference.engine import Engine
from unisal.predict import load
from unisal.predict.presets import STREAM_RATE, Preset, find_preset
from unisal.predict.stream import Stream
from unisal.threads import BackgroundWorker
from unisal.types import SaliencyMap, Size
from unisal.visualize.overlay import draw_overlay
from unisal.visualize.window import Window
from unisal.writing.video_writer import VideoWriter, as_rate

PACED_SCHEMES = ("http:", "https:")
"""Beginnings of URLs whose frames may arrive early; they are then paced as if they were being
filmed. Frames from other URLs arrive when they are filmed."""
OUT_TIME_BASE = Fraction(1, 90_000)
"""Seconds; the unit of the written frames' times."""
N_TRIAL_FRAMES = 5
"""Number of frames that are predicted to find out how many the machine manages per second."""
MAX_WAITING_FRAMES = 8
"""Number of frames that may wait to be encoded and written."""
FRAME_WAIT_SECONDS = 0.05
"""How long to wait for a frame before the window is handled again."""
CLOSE_TIMEOUT_SECONDS = 5.0
"""How long a camera may take to finish its last frame."""


@dataclass(frozen=True, kw_only=True)
class CameraOptions:
    """How a camera's frames are predicted and what happens to them.

    Args:
        out: the `.mp4` file to write to; None for none.
        window: whether to show the frames in a window.
        source: the name of the preset, see `unisal.predict.presets`.
        model_domain: the network domain to use; None for the preset's.
        fps: frames per second of the camera; None for what it reports.
        frame_step: the distance between frames that the network sees as neighbours; None for the
            one nearest in time to the preset's.
        reset_at_cuts: whether to start afresh where a new shot begins.
        seconds: when to stop; None for no limit.
        presets: the presets of the run, see `unisal.predict.presets.run_presets`.
        verbose: whether to print with what they are predicted.
        precision: see `unisal.predict.Predictor`.

    Raises:
        UserError: an option is wrong.
    """

    out: Path | None
    window: bool
    source: str
    model_domain: str | None
    fps: float | None
    frame_step: int | None
    reset_at_cuts: bool
    seconds: float | None
    presets: Mapping[str, Preset] = field(default_factory=dict)
    verbose: bool = False
    precision: str = "fp32"

    @property
    def preset(self) -> Preset:
        return find_preset(self.source, own=self.presets)

    def __post_init__(self) -> None:
        _ = self.preset  # a mistake is found before any work
        if self.out is not None and self.out.suffix.lower() != ".mp4":
            raise UserError(f"out is {str(self.out)!r}; it has to end in .mp4")
        for name in ("fps", "seconds"):
            if getattr(self, name) is not None:
                check_number(getattr(self, name), name, above=True)


def predict_camera(
    *, camera: str, options: CameraOptions, train_id: str | None, device: str
) -> None:
    """Predict a camera's frames as they arrive, into a window or a file.

    The newest frame is taken each time; those that arrived in the meantime are dropped. It ends
    when the stream ends, when the window is closed, after `seconds` or on Ctrl-C; then the file is
    completed.

    Args:
        camera: number of a device, URL of a stream, or a video file, which is played as if it
            were being filmed.
        options: how to predict the frames, and what to do with them.
        train_id: the run whose weights to use.
        device: where to run the network.

    Raises:
        UserError: the camera cannot be opened, or no window can be shown.
    """
    if options.out is not None:
        prepare_folder(options.out.parent, "name another file with --out")
        require_writable_file(options.out, "name another file with --out")
    with ExitStack() as stack:
        window = stack.enter_context(closing(_open_window())) if options.window else None
        opened = open_camera(camera, options.fps)
        newest = stack.enter_context(Newest(opened))
        if opened.live:
            newest.start()  # frames that arrive while the weights are read are dropped
        predictor = load(train_id, device, options.preset.fine_tuned, options.precision)
        facts = predictor.facts(options.source, options.model_domain, is_video=True)
        if options.verbose:
            say_facts("frames", facts)
        stream, rate = _fitting_stream(predictor.engine, opened, options)
        newest.start()
        recording = None
        if options.out is not None:
            recording = stack.enter_context(Recording(options.out, opened.size, rate))
        n_frames, seconds = run(newest, stream, rate, recording, window, options.seconds)
    _print_summary(n_frames, seconds, newest.n_dropped, options.out if n_frames else None)


def run(
    newest: Newest,
    stream: Stream,
    rate: float,
    recording: Recording | None,
    window: Window | None,
    seconds: float | None,
) -> tuple[int, float]:
    """Predict until something ends it.

    Args:
        newest: provides the frames.
        stream: predicts them.
        rate: frames per second of the stream.
        recording: where they are written, if anywhere.
        window: where they are shown, if anywhere.
        seconds: when to stop; None for no limit.

    Returns:
        The number of frames, and the seconds that they took.
    """
    started, n_frames = time.monotonic(), 0
    first, last_slot = Fraction(0), -1
    with TERMINAL.bar("", "frame") as bar:
        try:
            while seconds is None or time.monotonic() - started < seconds:
                if window is not None and not window.is_open():
                    break
                frame = newest.take(FRAME_WAIT_SECONDS)
                if frame is None:
                    if newest.ended:
                        break
                    continue
                first = frame.time if n_frames == 0 else first
                # The time says which sequence the frame belongs to, however many were dropped.
                slot = max(round((frame.time - first) * rate), last_slot + 1)
                density = stream.step(frame.rgb, skipped=slot - last_slot - 1)
                saliency_map = to_saliency_map(density)
                last_slot = slot
                n_frames += 1
                bar.update()
                if recording is not None:
                    recording.put(frame._replace(time=frame.time - first), saliency_map)
                if window is not None:
                    per_second = n_frames / (time.monotonic() - started)
                    overlay = draw_overlay(frame.rgb, saliency_map)
                    window.show(overlay, f"{per_second:.1f} frames/s")
        except KeyboardInterrupt:
            pass  # the usual way to stop
    return n_frames, time.monotonic() - started


@dataclass(frozen=True)
class Camera:
    """A source of frames."""

    size: Size
    """(height, width) of the frames."""
    rate: Fraction
    """Frames per second."""
    frames: Iterator[Frame]
    close: Callable[[], None]
    live: bool
    """Whether frames keep arriving even if nobody reads them."""
    paced: bool
    """Whether frames may arrive early and have to wait for their time."""


def open_camera(camera: str, fps: float | None = None) -> Camera:
    """Open a camera.

    Args:
        camera: number of a device, URL of a stream, or a video file.
        fps: frames per second; None for what the camera reports.

    Raises:
        UserError: it cannot be opened, or delivers no frame.
    """
    if camera.isdecimal():
        return _open_device(int(camera), fps)
    is_file = os.path.isfile(camera)  # noqa: PTH113  # that of Path raises for a very long name
    video = VideoFile(Path(camera) if is_file else camera)
    return Camera(
        size=video.size,
        rate=as_rate(fps) if fps else video.rate,
        frames=iter(video),
        close=video.close,
        live=not is_file,
        paced=is_file or camera.startswith(PACED_SCHEMES),
    )


class Newest:
    """Reads a camera in a thread of its own and keeps only the newest frame.

    Args:
        camera: the camera, which is closed at the end of the `with` block.

    Attributes:
        ended: whether no more frames will arrive.
        n_dropped: number of frames that were not taken.
    """

    def __init__(self, camera: Camera) -> None:
        self.ended = False
        self.n_dropped = 0
        self._camera = camera
        self._frame: Frame | None = None
        self._changed = threading.Condition()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._failure: Exception | None = None

    def __enter__(self) -> Newest:
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        if self._thread is not None:
            self._thread.join(CLOSE_TIMEOUT_SECONDS)
        if self._thread is None or not self._thread.is_alive():
            self._camera.close()

    def start(self) -> None:
        """Start reading, unless it has been started."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._read, daemon=True)
            self._thread.start()

    def take(self, timeout: float) -> Frame | None:
        """Wait for a frame that has not been taken yet.

        Args:
            timeout: seconds to wait.

        Returns:
            The newest frame; None if none arrived in time.

        Raises:
            Exception: whatever reading the camera raised.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._frame is not None or self.ended, timeout)
            if self._failure is not None:
                raise self._failure
            frame, self._frame = self._frame, None
            return frame

    def _read(self) -> None:
        begun: float | None = None
        try:
            for frame in self._camera.frames:
                if self._camera.paced:
                    now = time.monotonic()
                    begun = now - float(frame.time) if begun is None else begun
                    self._stop.wait(max(0.0, begun + float(frame.time) - now))
                if self._stop.is_set():
                    return
                with self._changed:
                    self.n_dropped += self._frame is not None
                    self._frame = frame
                    self._changed.notify()
        except Exception as error:
            self._failure = error
        finally:
            with self._changed:
                self.ended = True
                self._changed.notify()


class Recording:
    """Writes overlays to a file, in a thread of its own; the file begins with the first frame.

    Args:
        path: the `.mp4` file.
        size: (height, width) of the frames.
        rate: approximate number of frames per second.
    """

    def __init__(self, path: Path, size: Size, rate: float) -> None:
        self._writer = VideoWriter(path, rate, size, time_base=OUT_TIME_BASE)
        self._stack = ExitStack()
        self._worker: BackgroundWorker[tuple[Frame, SaliencyMap]] | None = None
        self._last = -1

    def __enter__(self) -> Recording:
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.__exit__(*error)  # type: ignore[arg-type]

    def put(self, frame: Frame, saliency_map: SaliencyMap) -> None:
        """Add a frame with its saliency map `[H, W]`."""
        if self._worker is None:
            self._stack.enter_context(self._writer)
            worker = BackgroundWorker(self._write, MAX_WAITING_FRAMES)
            self._worker = self._stack.enter_context(worker)
        self._worker.put((frame, saliency_map))

    def _write(self, item: tuple[Frame, SaliencyMap]) -> None:
        frame, saliency_map = item
        self._last = max(round(frame.time / OUT_TIME_BASE), self._last + 1)
        self._writer.write(draw_overlay(frame.rgb, saliency_map), self._last)


def _fitting_stream(engine: Engine, camera: Camera, options: CameraOptions) -> tuple[Stream, float]:
    """Make a stream with as many frames per second as both the camera and the machine manage.

    The network then sees neighbours that are as far apart in time as in training.

    Returns:
        The stream, and its frames per second.
    """

    def new_stream(fps: float) -> Stream:
        return Stream(
            engine,
            fps=fps,
            source=options.preset,
            domain=options.model_domain,
            frame_step=options.frame_step,
            reset_at_cuts=options.reset_at_cuts,
        )

    trial, took = new_stream(STREAM_RATE), []
    for _ in range(N_TRIAL_FRAMES):
        begun = time.monotonic()
        trial.step(np.zeros((*camera.size, 3), np.uint8))
        took.append(time.monotonic() - begun)
    rate = min(float(camera.rate), 1 / median(took))
    return new_stream(rate), rate


def _open_window() -> Window:
    """Open a window; the error for a missing screen names the alternative."""
    try:
        return Window()
    except UserError as error:
        raise UserError(f"{error}; --out=FILE.mp4 writes a video instead") from None


def _open_device(number: int, fps: float | None) -> Camera:
    """Open a camera by its number."""
    said: Any = getattr(cv2.utils, "logging", cv2)  # elsewhere since OpenCV 5
    level = said.getLogLevel()
    said.setLogLevel(0)  # the error below says enough
    try:
        device = cv2.VideoCapture(number)
    finally:
        said.setLogLevel(level)
    got, bgr = device.read() if device.isOpened() else (False, None)
    if not got or bgr is None:
        device.release()
        raise UserError(
            f"there is no camera {number}, or another program uses it; expected the number of a "
            "camera, the URL of a stream or a video file"
        )
    begun = time.monotonic()

    def frames() -> Iterator[Frame]:
        still, picture = True, bgr
        while still and picture is not None:
            now = Fraction(time.monotonic() - begun).limit_denominator(1_000_000)
            rgb = np.ascontiguousarray(picture[:, :, ::-1], dtype=np.uint8)
            yield Frame(rgb, now, 1 / rate)
            still, picture = device.read()

    rate = as_rate(fps or device.get(cv2.CAP_PROP_FPS) or STREAM_RATE)
    size = bgr.shape[0], bgr.shape[1]
    return Camera(size, rate, frames(), device.release, live=True, paced=False)


def _print_summary(n_frames: int, seconds: float, n_dropped: int, out: Path | None) -> None:
    rate = n_frames / seconds if seconds else 0.0
    written = f"; overlay in {out}" if out else ""
    print(
        f"{n_frames} frames in {seconds:.1f} s: {rate:.1f} frames per second, {n_dropped} of the "
        f"camera's frames dropped{written}"
    )
