"""Saliency of what a camera sees, while it sees it: `predict_camera`."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from statistics import median

import cv2
import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from unisal.checks import check_number
from unisal.data.video_file import Frame, VideoFile
from unisal.errors import UserError
from unisal.predict import Predictor, load
from unisal.predict.presets import STREAM_RATE, VIDEO_PRESET, find_preset
from unisal.predict.stream import Stream
from unisal.threads import Behind
from unisal.visualize.overlay import draw_overlay
from unisal.visualize.window import Window
from unisal.writing.video_writer import VideoWriter, as_rate

HURRIED = ("http:", "https:")
"""URLs whose frames may come sooner than they are to be shown; others come when they are filmed."""
OUT_UNIT = Fraction(1, 90_000)
"""Seconds; the unit of the written frames' times."""
N_TRIALS = 5
"""Frames that are predicted to learn how many the machine manages."""
WRITE_BEHIND = 8
PATIENCE = 0.05
"""Seconds to wait for a frame before the window is looked after."""
GRACE = 5.0
"""Seconds that a camera gets to end its last frame."""


@dataclass(frozen=True)
class CameraOptions:
    """What is done with a camera's frames, see `predict_camera` in `run.py`."""

    out: Path | None = None
    window: bool = False
    source: str = VIDEO_PRESET
    model_domain: str | None = None
    fps: float | None = None
    frame_step: int | None = None
    reset_at_cuts: bool = False
    seconds: float | None = None

    def __post_init__(self) -> None:
        find_preset(self.source)
        if self.out is not None and self.out.suffix.lower() != ".mp4":
            raise UserError(f"out is {str(self.out)!r}; it has to end in .mp4")
        for name in ("fps", "seconds"):
            if getattr(self, name) is not None:
                check_number(getattr(self, name), name, above=True)


def predict_camera(
    camera: str, options: CameraOptions, train_id: str | None = None, device: str = "auto"
) -> None:
    """Predict a camera's frames as they come, into a window or a file.

    The newest frame is taken each time; those that came in the meantime are dropped. It ends with
    the stream, with the window, after `seconds` or by Ctrl-C; the file is finished then.

    Args:
        camera: number of a device, URL of a stream, or a video file, which is then played as if
            it were being filmed.
        options: what to do with the frames.
        train_id: the run whose weights to use.
        device: where to run.

    Raises:
        UserError: the camera cannot be opened, or no window can be shown.
    """
    with ExitStack() as stack:
        window = stack.enter_context(closing(_open_window())) if options.window else None
        opened = open_camera(camera, options.fps)
        newest = stack.enter_context(Newest(opened))
        if opened.live:
            newest.start()  # what comes while the weights are read is dropped
        predictor = load(train_id, device, find_preset(options.source).fine_tuned)
        stream, rate = _fitting_stream(predictor, opened, options)
        newest.start()
        recording = None
        if options.out is not None:
            recording = stack.enter_context(Recording(options.out, opened.size, rate))
        n_frames, seconds = run(newest, stream, rate, recording, window, options.seconds)
    _say(n_frames, seconds, newest.n_dropped, options.out if n_frames else None)


def run(
    newest: Newest,
    stream: Stream,
    rate: float,
    recording: Recording | None,
    window: Window | None,
    seconds: float | None,
) -> tuple[int, float]:
    """Predict until there is an end -> the number of frames, and the seconds they took."""
    started, n_frames = time.monotonic(), 0
    first, last_slot = Fraction(0), -1
    with tqdm(unit="frame", disable=None) as bar:
        try:
            while seconds is None or time.monotonic() - started < seconds:
                if window is not None and not window.is_open():
                    break
                frame = newest.take(PATIENCE)
                if frame is None:
                    if newest.ended:
                        break
                    continue
                first = frame.time if n_frames == 0 else first
                # Time tells which sequence the frame belongs to, however many were dropped.
                slot = max(round((frame.time - first) * rate), last_slot + 1)
                density = stream.step(frame.rgb, skipped=slot - last_slot - 1)
                last_slot = slot
                n_frames += 1
                bar.update()
                if recording is not None:
                    recording.put(frame._replace(time=frame.time - first), density)
                if window is not None:
                    per_second = n_frames / (time.monotonic() - started)
                    window.show(draw_overlay(frame.rgb, density), f"{per_second:.1f} frames/s")
        except KeyboardInterrupt:
            pass  # the usual way to end it
    return n_frames, time.monotonic() - started


@dataclass(frozen=True)
class Camera:
    """Something that gives frames."""

    size: tuple[int, int]
    rate: Fraction
    """Frames per second."""
    frames: Iterator[Frame]
    close: Callable[[], None]
    live: bool
    """Whether frames come even if nobody waits for them."""
    paced: bool
    """Whether frames may come before their time."""


def open_camera(camera: str, fps: float | None = None) -> Camera:
    """Open the device of that number, a URL, or a file, see `predict_camera`.

    Raises:
        UserError: it cannot be opened, or gives no frame.
    """
    if camera.isdecimal():
        return _open_device(int(camera), fps)
    is_file = Path(camera).is_file()
    video = VideoFile(Path(camera) if is_file else camera)
    return Camera(
        size=video.size,
        rate=as_rate(fps) if fps else video.rate,
        frames=iter(video),
        close=video.close,
        live=not is_file,
        paced=is_file or camera.startswith(HURRIED),
    )


class Newest:
    """Reads a camera in a thread of its own and keeps the newest frame only.

    Attributes:
        ended: whether no more frames come.
        n_dropped: how many frames came and went.
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
            self._thread.join(GRACE)
        if self._thread is None or not self._thread.is_alive():
            self._camera.close()

    def start(self) -> None:
        """Begin to read, if that has not been done."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._read, daemon=True)
            self._thread.start()

    def take(self, patience: float) -> Frame | None:
        """-> a frame that was not taken before; None if none comes for that many seconds."""
        with self._changed:
            self._changed.wait_for(lambda: self._frame is not None or self.ended, patience)
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
    """Writes overlays to a file, in a thread of its own, from the first frame on."""

    def __init__(self, path: Path, size: tuple[int, int], rate: float) -> None:
        self._writer = VideoWriter(path, rate, size, time_base=OUT_UNIT)
        self._stack = ExitStack()
        self._thread: Behind[tuple[Frame, NDArray[np.float32]]] | None = None
        self._last = -1

    def __enter__(self) -> Recording:
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.__exit__(*error)  # type: ignore[arg-type]

    def put(self, frame: Frame, density: NDArray[np.float32]) -> None:
        """Add a frame with its density."""
        if self._thread is None:
            self._stack.enter_context(self._writer)
            thread = Behind(self._write, WRITE_BEHIND)
            self._thread = self._stack.enter_context(thread)
        self._thread.put((frame, density))

    def _write(self, item: tuple[Frame, NDArray[np.float32]]) -> None:
        frame, density = item
        self._last = max(round(frame.time / OUT_UNIT), self._last + 1)
        self._writer.write(draw_overlay(frame.rgb, density), self._last)


def _fitting_stream(
    predictor: Predictor, camera: Camera, options: CameraOptions
) -> tuple[Stream, float]:
    """-> a stream of as many frames per second as camera and machine both manage, and that
    number: so the network sees neighbours as far apart in time as it is used to."""

    def new_stream(fps: float) -> Stream:
        return Stream(
            predictor.engine,
            fps,
            options.source,
            options.model_domain,
            options.frame_step,
            options.reset_at_cuts,
        )

    trial, took = new_stream(STREAM_RATE), []
    for _ in range(N_TRIALS):
        begun = time.monotonic()
        trial.step(np.zeros((*camera.size, 3), np.uint8))
        took.append(time.monotonic() - begun)
    rate = min(float(camera.rate), 1 / median(took))
    return new_stream(rate), rate


def _open_window() -> Window:
    try:
        return Window()
    except UserError as error:
        raise UserError(f"{error}; --out=FILE.mp4 writes a video instead") from None


def _open_device(number: int, fps: float | None) -> Camera:
    level = cv2.utils.logging.getLogLevel()  # type: ignore[attr-defined]
    cv2.utils.logging.setLogLevel(0)  # type: ignore[attr-defined]  # the error below says it
    try:
        device = cv2.VideoCapture(number)
    finally:
        cv2.utils.logging.setLogLevel(level)  # type: ignore[attr-defined]
    got, bgr = device.read() if device.isOpened() else (False, None)
    if not got or bgr is None:
        device.release()
        raise UserError(
            f"there is no camera {number}, or another program has it; expected the number of one, "
            "the URL of a stream or a video file"
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


def _say(n_frames: int, seconds: float, n_dropped: int, out: Path | None) -> None:
    rate = n_frames / seconds if seconds else 0.0
    written = f"; overlay in {out}" if out else ""
    print(
        f"{n_frames} frames in {seconds:.1f} s: {rate:.1f} frames per second, {n_dropped} of the "
        f"camera's frames dropped{written}"
    )
