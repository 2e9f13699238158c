"""Measure what surrounds the network for a frame of a folder, and other ways to do each step.

Run `python -m benchmarks.frame_steps`. Each way takes turns with the plain one, on one core. What
is not installed is left out: simplejpeg, PyTurboJPEG, pic-scale, kornia-rs. Pillow-SIMD takes
Pillow's place and needs an environment of its own: `--simd=PYTHON` measures Pillow's filter there.
"""

from __future__ import annotations

import argparse
import io
import json
import subprocess
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from benchmarks.stream_latency import make_frames
from benchmarks.timing import compare
from unisal.data.lanczos import resize_by_lanczos
from unisal.data.pictures import read_rgb_image
from unisal.inference.densities import saliency_map
from unisal.types import Size
from unisal.writing.maps import MAP_QUALITY, to_grey_levels

INPUT_SIZE = 224, 384
"""(height, width) of the network's input for frames of 1280x720."""
LANCZOS = Image.Resampling.LANCZOS
STRIP = 64
"""Rows of a map that are worked on at a time."""
TURN_SECONDS = 0.1
"""How long a way is timed at a stretch, for one call at least."""
FACTOR = np.float32(255)
IN_ANOTHER_PYTHON = """
import json, sys, time
from statistics import median
import numpy, PIL
from PIL import Image
frame, out, height, width = sys.argv[1:]
image = Image.open(frame).convert("RGB")
def resize():
    return image.resize((int(width), int(height)), Image.Resampling.LANCZOS)
numpy.save(out, numpy.asarray(resize()))
took = []
for _ in range(30):
    begun = time.perf_counter()
    resize()
    took.append(time.perf_counter() - begun)
print(json.dumps([PIL.__version__, median(took)]))
"""


class Way(NamedTuple):
    """A way to do a step."""

    name: str
    run: Callable[[], Any]
    pixels: Callable[[Any], NDArray[np.uint8]] = np.asarray
    """Turns what it returns into grey levels, to compare."""


class Step(NamedTuple):
    """A step of a frame: the plain way first, which is Pillow's or that of several passes."""

    name: str
    ways: list[Way]


def steps(frame: Path, logits: NDArray[np.float32], size: Size) -> Iterator[Step]:
    """Yield the steps of a frame.

    Args:
        frame: a JPEG file.
        logits: the network's map, `[H, W] float32`.
        size: (height, width) of the frame.
    """
    content = frame.read_bytes()
    image = read_rgb_image(frame)
    rgb, grey = np.asarray(image), to_grey_levels(saliency_map(logits, size))
    yield Step("JPEG to pixels", list(decoders(content)))
    yield Step("pixels to the network's size", list(resizes(image, rgb)))
    both = [
        Way("Pillow", lambda: to_image(content).resize(INPUT_SIZE[::-1], LANCZOS)),
        Way("Pillow, then products", lambda: resize_by_lanczos(to_image(content), INPUT_SIZE)),
    ]
    if simplejpeg := installed("simplejpeg"):
        decode = simplejpeg.decode_jpeg
        both.append(
            Way("simplejpeg, then products", lambda: resize_by_lanczos(decode(content), INPUT_SIZE))
        )
    yield Step("JPEG to the network's size", both)
    whole = Way("one pass each", lambda: to_grey_levels(saliency_map(logits, size)))
    strips = Way(f"{STRIP} rows at a time", lambda: grey_by_strips(logits, size))
    yield Step("logits to grey levels", [whole, strips])
    yield Step("grey levels to JPEG", list(encoders(grey)))


def decoders(content: bytes) -> Iterator[Way]:
    """Yield ways to decode a JPEG file."""
    yield Way("Pillow", lambda: to_image(content))
    yield Way(
        "Pillow, `draft`", lambda: to_image(content, draft=True), same_size(to_image(content))
    )
    if simplejpeg := installed("simplejpeg"):
        yield Way("simplejpeg", lambda: simplejpeg.decode_jpeg(content))
        fast = {"fastdct": True, "fastupsample": True}
        yield Way("simplejpeg, fast", lambda: simplejpeg.decode_jpeg(content, **fast))
    if turbojpeg := turbo_jpeg():
        yield Way("PyTurboJPEG", lambda: turbojpeg.decode(content, pixel_format=0))  # TJPF_RGB
    read = np.frombuffer(content, np.uint8)
    yield Way("OpenCV", lambda: cv2.imdecode(read, cv2.IMREAD_COLOR), lambda bgr: bgr[..., ::-1])


def resizes(image: Image.Image, rgb: NDArray[np.uint8]) -> Iterator[Way]:
    """Yield ways to make a picture smaller."""
    width_first = INPUT_SIZE[::-1]
    yield Way("Pillow", lambda: image.resize(width_first, LANCZOS))
    yield Way("products of matrices in float64", lambda: resize_by_lanczos(image, INPUT_SIZE))
    yield Way("the same, from an array", lambda: resize_by_lanczos(rgb, INPUT_SIZE))
    area = cv2.INTER_AREA
    yield Way("OpenCV, `INTER_AREA`", lambda: cv2.resize(rgb, width_first, interpolation=area))
    if pic_scale := installed("pic_scale"):
        plan = pic_scale.Plan(image.size, width_first, pic_scale.Resampling.LANCZOS, "RGB")
        yield Way("pic-scale", lambda: plan.resize(image))
    if kornia := installed("kornia_rs"):
        resize = kornia.imgproc.resize
        yield Way("kornia-rs", lambda: resize(rgb, INPUT_SIZE, "lanczos"))


def encoders(grey: NDArray[np.uint8]) -> Iterator[Way]:
    """Yield ways to encode a map."""

    def by_pillow() -> bytes:
        file = io.BytesIO()
        Image.fromarray(grey).save(file, "JPEG", quality=MAP_QUALITY)
        return file.getvalue()

    def decoded(content: bytes) -> NDArray[np.uint8]:
        return np.asarray(Image.open(io.BytesIO(content)))

    yield Way("Pillow", by_pillow, decoded)
    if simplejpeg := installed("simplejpeg"):
        planes = grey[..., None]
        yield Way(
            "simplejpeg",
            lambda: simplejpeg.encode_jpeg(planes, MAP_QUALITY, "GRAY", "444"),
            decoded,
        )
    quality = [cv2.IMWRITE_JPEG_QUALITY, MAP_QUALITY]
    yield Way(
        "OpenCV", lambda: cv2.imencode(".jpg", grey, quality)[1], lambda c: decoded(c.tobytes())
    )


def to_image(content: bytes, draft: bool = False) -> Image.Image:
    """Decode a JPEG file by Pillow; with `draft` at a half or a quarter of its size, if it fits."""
    image = Image.open(io.BytesIO(content))
    if draft:
        image.draft("RGB", INPUT_SIZE[::-1])
    image.load()
    return image


def same_size(image: Image.Image) -> Callable[[Image.Image], NDArray[np.uint8]]:
    """Return a function that brings what `draft` gives back to the size of the picture."""
    return lambda smaller: np.asarray(smaller.resize(image.size, Image.Resampling.BICUBIC))


def grey_by_strips(logits: NDArray[np.float32], size: Size) -> NDArray[np.uint8]:
    """Compute what `to_grey_levels(saliency_map(logits, size))` does, a few rows at a time."""
    y = cv2.resize(logits, (size[1], size[0]), interpolation=cv2.INTER_LINEAR)
    highest = y.max()
    levels = np.empty(size, np.uint8)
    for top in range(0, size[0], STRIP):
        part = y[top : top + STRIP]
        part -= highest
        cv2.exp(part, part)
        np.multiply(part, FACTOR, out=levels[top : top + STRIP], casting="unsafe")
    return levels


def installed(name: str) -> Any:
    """Import a package; None if it is not installed."""
    try:
        return __import__(name)
    except ImportError:
        return None


def turbo_jpeg() -> Any:
    """Return PyTurboJPEG's decoder; None if it or the library itself is not installed."""
    try:
        from turbojpeg import TurboJPEG

        return TurboJPEG()
    except (ImportError, OSError, RuntimeError):
        return None


def measure(step: Step, rounds: int) -> Iterator[tuple[str, float, float, int]]:
    """Yield each way's name, its time in ms, the ratio to the plain one, and grey levels apart."""
    plain, *others = step.ways
    wanted = plain.pixels(plain.run()).astype(int)
    for way in others:
        found = compare(plain.run, way.run, rounds, TURN_SECONDS)
        apart = int(np.abs(way.pixels(way.run()).astype(int) - wanted).max())
        if way is others[0]:
            yield plain.name, 1000 * found.plain, 1.0, 0
        yield way.name, 1000 * found.ours, found.ratio, apart


def measure_simd(python: str, frame: Path, folder: Path, rounds: int) -> str:
    """Return the row of Pillow's filter in another environment."""
    out = folder / "resized.npy"
    arguments = [str(frame), str(out), *map(str, INPUT_SIZE)]
    image = read_rgb_image(frame)
    plain = compare(
        lambda: None, lambda: image.resize(INPUT_SIZE[::-1], LANCZOS), rounds, TURN_SECONDS
    ).ours
    command = [python, "-c", IN_ANOTHER_PYTHON, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    version, seconds = json.loads(done.stdout)
    wanted = np.asarray(image.resize(INPUT_SIZE[::-1], LANCZOS)).astype(int)
    apart = int(np.abs(np.load(out) - wanted).max())
    return row("", f"Pillow-SIMD {version}", 1000 * seconds, plain / seconds, apart)


def row(step: str, way: str, milliseconds: float, ratio: float, apart: int) -> str:
    """Return a line of the table."""
    return f"| {step} | {way} | {milliseconds:.2f} ms | {ratio:.2f} | {apart} |"


def hardware_decoders(video: Path) -> str:
    """Say with which hardware PyAV decodes a video here."""
    from av.codec.hwaccel import hwdevices_available

    built = hwdevices_available()
    usable = [kind for kind in built if decodes(video, kind)]
    return (
        f"PyAV was built for hardware decoding with {', '.join(built) or 'nothing'}; "
        f"of these {', '.join(usable) or 'none'} decodes here"
    )


def decodes(video: Path, kind: str) -> bool:
    """Return whether a kind of hardware decodes a video."""
    import av
    from av.codec.hwaccel import HWAccel

    try:
        with av.open(str(video), hwaccel=HWAccel(kind, allow_software_fallback=False)) as file:
            next(file.decode(video=0))
            return bool(file.streams.video[0].codec_context.is_hwaccel)
    except Exception:  # there is no such device; what is raised depends on the kind
        return False


def write_video(path: Path, frame: Image.Image) -> None:
    """Write a short video."""
    import av

    with av.open(str(path), "w") as file:
        stream = file.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = *frame.size, "yuv420p"
        for _ in range(5):
            file.mux(stream.encode(av.VideoFrame.from_image(frame)))
        file.mux(stream.encode())


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure all steps and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=9, help="how often each way has its turn")
    parser.add_argument("--size", default="720x1280", help="height and width of the frame")
    parser.add_argument("--simd", default=None, help="a Python that has Pillow-SIMD")
    options = parser.parse_args(arguments)
    cv2.setNumThreads(1)
    height, width = map(int, options.size.split("x"))
    coarse = np.random.default_rng(0).normal(size=(7, 12)).astype(np.float32)
    logits = cv2.resize(2 * coarse, INPUT_SIZE[::-1], interpolation=cv2.INTER_CUBIC)
    print("| step | how | time | times as fast | grey levels apart |\n|---|---|---|---|---|")
    with TemporaryDirectory() as name:
        frame = Path(name, "frame.jpg")
        Image.fromarray(next(make_frames((height, width), 1))).save(frame, quality=90)
        for step in steps(frame, logits, (height, width)):
            title = step.name
            for found in measure(step, options.rounds):
                print(row(title, *found), flush=True)
                title = ""
            if options.simd and step.name == "pixels to the network's size":
                print(measure_simd(options.simd, frame, Path(name), options.rounds))
        write_video(Path(name, "video.mp4"), read_rgb_image(frame))
        print(f"\n{hardware_decoders(Path(name, 'video.mp4'))}.")


if __name__ == "__main__":
    main()
