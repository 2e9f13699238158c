"""Sound files of every kind that is read, small, and ways to damage them."""

from __future__ import annotations

import gzip
import json
import random
import struct
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path

import av
import h5py
import numpy as np
import torch
from PIL import ExifTags, Image, features
from safetensors.torch import save_file
from support import (
    TINY,
    lively_network,
    photo,
    write_dhf1k,
    write_mat,
    write_mit1003,
    write_salicon,
)
from videos import numbered, write_clip

from unisal.config import save_json
from unisal.model import UNISAL

SIZE = (24, 32)
Writer = Callable[[Path], object]


# ---- sound files ---------------------------------------------------------------------------
def write_samples(folder: Path) -> None:
    """Write `<kind>/<name>.<suffix>` for every kind."""
    writers = {
        "picture": picture_writers(),
        "film": film_writers(),
        "mat": {"gaze.mat": lambda path: write_mat(path, [(3, 4), (7, 8), (20, 10)], SIZE)},
        "weights": {"weights.pth": _write_weights, "weights.safetensors": _write_safetensors},
        "table": {f"gaze.{end}": table_writer(end) for end in ("csv", "tsv", "csv.gz")},
        "pysaliency": {"fixations.hdf5": write_fixations},
    }
    for kind, by_name in writers.items():
        for name, write in by_name.items():
            (folder / kind).mkdir(parents=True, exist_ok=True)
            write(folder / kind / name)


def picture_writers() -> dict[str, Writer]:
    """Return writers of pictures in the formats and modes that this Pillow can write."""
    rgb = Image.fromarray(photo(SIZE))
    rgba, grey = rgb.copy(), rgb.convert("L")
    rgba.putalpha(grey)
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    exif[ExifTags.Base.Make] = "a camera"
    exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.ExposureTime] = 0.25
    many = {"save_all": True, "append_images": [rgb.rotate(90), rgb.rotate(180)]}
    pictures = {
        "rgb.png": (rgb, {}),
        "alpha.png": (rgba, {"exif": exif}),
        "sixteen.png": (Image.fromarray(photo(SIZE)[..., 0].astype("uint16") * 257), {}),
        "palette.png": (rgb.convert("P"), {"transparency": 3}),
        "one_bit.png": (grey.convert("1"), {}),
        "exif.jpg": (rgb, {"exif": exif, "quality": 90}),
        "progressive.jpg": (rgb, {"progressive": True, "icc_profile": bytes(200)}),
        "cmyk.jpg": (rgb.convert("CMYK"), {}),
        "grey.jpeg": (grey, {"dpi": (72, 72)}),
        "photo.jfif": (rgb, {"format": "JPEG"}),
        "photo.bmp": (rgb, {}),
        "plain.tif": (rgb, {}),
        "packed.tiff": (rgba, {"compression": "tiff_deflate"}),
        "lzw.tif": (grey, {"compression": "tiff_lzw"}),
        "moving.gif": (rgb, many),
        "photo.ppm": (rgb, {}),
        "photo.tga": (rgba, {"compression": "tga_rle"}),
        "photo.ico": (rgba, {"sizes": [SIZE[::-1]]}),
        "photo.pcx": (rgb, {}),
    }
    if features.check("webp"):
        pictures["photo.webp"] = rgb, {"exif": exif}
        pictures["lossless.webp"] = rgba, {"lossless": True}
    if features.check("jpg_2000"):
        pictures["photo.jp2"] = rgb, {}
    if features.check("avif"):
        pictures["photo.avif"] = rgb, {"exif": exif}
        pictures["moving.avif"] = rgb, many
    return {
        name: lambda path, picture=picture, options=options: picture.save(path, **options)
        for name, (picture, options) in pictures.items()
    }


def film_writers() -> dict[str, Writer]:
    """Return writers of films in the containers and codecs that this PyAV can write."""
    films = {
        "h264.mp4": ("libx264", {"sound": "aac"}),
        "h264.mkv": ("libx264", {"times": [0, 40, 90, 130, 200, 280]}),
        "vp9.webm": ("libvpx-vp9", {"sound": "libopus"}),
        "mpeg4.avi": ("mpeg4", {"sound": "libmp3lame"}),
        "h264.ts": ("libx264", {"sound": "mp2"}),
        "mjpeg.mov": ("mjpeg", {"sound": "pcm_s16le"}),
        "mpeg2.mpg": ("mpeg2video", {}),
        "flv1.flv": ("flv", {}),
        "wmv2.wmv": ("wmv2", {"sound": "ac3"}),
        "ffv1.mkv": ("ffv1", {}),
    }
    return {
        name: lambda path, codec=codec, options=options: write_clip(
            path, numbered(5, (48, 64)), codec, **options
        )
        for name, (codec, options) in films.items()
        if codec in av.codecs_available and options.get("sound", codec) in av.codecs_available
    }


STIMULI = {"a.png": (24, 32), "b.png": (32, 24)}
"""The pictures that the tables of gaze are about."""


def table_writer(end: str) -> Writer:
    """Return a writer of a table of gaze."""
    separator = "\t" if end.startswith("tsv") else ","
    rows = [("stimulus", "observer", "x", "y", "start_ms", "duration_ms")]
    rows += [(s, f"p{i}", 3.5 + i, 20 - i, 250 * i, 200) for s in STIMULI for i in range(6)]
    content = "".join(separator.join(map(str, row)) + "\n" for row in rows).encode()
    if end.endswith(".gz"):
        content = gzip.compress(content, mtime=0)
    return lambda path: path.write_bytes(content)


def write_fixations(path: Path) -> None:
    """Write fixations in the layout of pysaliency's class `Fixations`."""
    with h5py.File(path, "w") as file:
        for name, value in {"type": "Fixations", "version": "1.0"}.items():
            file.attrs[name] = np.bytes_(value)
        file.attrs["__attributes__"] = np.bytes_(json.dumps(["subjects"]))
        for name, values in {
            "n": [0, 0, 1],
            "x": [3, 4, 5],
            "y": [6, 7, 8],
            "t": [0, 1, 0],
        }.items():
            file.create_dataset(name, data=values)
        file.create_dataset("subjects", data=[0, 1, 1])
        for name in ("x_hist", "y_hist", "t_hist"):
            file.create_dataset(name, data=np.full((3, 1), np.nan))


def write_stimuli(path: Path) -> None:
    """Write the names of the pictures in the layout of pysaliency's class `FileStimuli`."""
    with h5py.File(path, "w") as file:
        for name, value in {"type": "FileStimuli", "version": "2.1"}.items():
            file.attrs[name] = np.bytes_(value)
        file.attrs["size"], file.attrs["__attributes__"] = len(STIMULI), np.bytes_("[]")
        file.create_dataset("filenames", data=list(STIMULI), dtype=h5py.string_dtype())


@cache
def network() -> UNISAL:
    """Return a tiny network whose weights are among the samples."""
    return lively_network()


def _write_weights(path: Path) -> None:
    torch.save(network().state_dict(), path)


def _write_safetensors(path: Path) -> None:
    save_file({k: v.contiguous() for k, v in network().state_dict().items()}, path)


# ---- damage --------------------------------------------------------------------------------
NUMBERS = (0, 1, 2, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)
"""Where lengths, counts and signs overflow."""


def damaged(rng: random.Random, content: bytes, others: Sequence[bytes]) -> bytes:
    """Change a file in one to four ways."""
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        content = rng.choice(WAYS)(rng, content, others)
    return content


def _bits(rng: random.Random, content: bytes, _: Sequence[bytes]) -> bytes:
    changed = bytearray(content)
    for _i in range(rng.choice((1, 1, 4, 32))):
        if changed:
            changed[_place(rng, changed)] ^= 1 << rng.randrange(8)
    return bytes(changed)


def _bytes(rng: random.Random, content: bytes, _: Sequence[bytes]) -> bytes:
    start = _place(rng, content)
    n = rng.choice((1, 2, 4, 16, 100))
    new = rng.choice((bytes(n), b"\xff" * n, rng.randbytes(n)))
    return content[:start] + new + content[start + n :]


def _field(rng: random.Random, content: bytes, _: Sequence[bytes]) -> bytes:
    """Put a number of two, four or eight bytes somewhere, as sizes and counts are stored."""
    kind = rng.choice("HIQ")
    order = rng.choice("<>")
    mask = (1 << 8 * struct.calcsize(kind)) - 1
    number = struct.pack(order + kind, (rng.choice(NUMBERS) + rng.choice((-1, 0, 0, 1))) & mask)
    start = _place(rng, content)
    return content[:start] + number + content[start + len(number) :]


def _cut(rng: random.Random, content: bytes, _: Sequence[bytes]) -> bytes:
    return content[: rng.randrange(len(content) + 1)]


def _without(rng: random.Random, content: bytes, _: Sequence[bytes]) -> bytes:
    start = _place(rng, content)
    return content[:start] + content[start + rng.choice((1, 4, 100, 1000)) :]


def _twice(rng: random.Random, content: bytes, _: Sequence[bytes]) -> bytes:
    start, n = _place(rng, content), rng.choice((1, 4, 100, 1000))
    return content[:start] + content[start : start + n] + content[start:]


def _joined(rng: random.Random, content: bytes, others: Sequence[bytes]) -> bytes:
    other = rng.choice(others)
    return content[: _place(rng, content)] + other[_place(rng, other) :]


WAYS = (_bits, _bits, _bytes, _bytes, _field, _field, _field, _cut, _without, _twice, _joined)


def _place(rng: random.Random, content: bytes | bytearray) -> int:
    """Draw a position: half of them at the start, where headers are."""
    if not content:
        return 0
    return rng.randrange(min(len(content), 512) if rng.random() < 0.5 else len(content))


# ---- inputs by number ----------------------------------------------------------------------
def damaged_file(kind: str, number: int, samples: Path, folder: Path) -> Path:
    """Write the damaged file of a kind and a number; the same number gives the same file."""
    rng = random.Random(f"{kind} {number}")
    paths = sorted((samples / kind).iterdir())
    contents = [path.read_bytes() for path in paths]
    chosen = rng.randrange(len(paths))
    named = rng.choice(paths) if rng.random() < 0.05 else paths[chosen]
    path = folder / f"damaged_{number}{''.join(named.suffixes)}"
    path.write_bytes(damaged(rng, contents[chosen], contents))
    return path


# ---- a run with everything that is read of one ---------------------------------------------
def write_trained_run(sandbox: str) -> None:
    """Write small data and the folder of a run that was trained on it for an epoch.

    The environment names the folders; see `faults.jobs.environment`.
    """
    from unisal.train import Trainer

    data = Path(sandbox) / "data"
    write_salicon(data / "SALICON", "train", 2, SIZE)
    write_salicon(data / "SALICON", "val", 2, SIZE)
    write_dhf1k(data / "DHF1K", {1: 3, 601: 3}, size=SIZE)
    write_mit1003(data / "MIT1003", [SIZE] * 4)
    small = {"out_size": (64, 96)}
    trainer = Trainer(
        prefix="mine",
        suffix="",
        data_sources=("SALICON", "DHF1K"),
        num_epochs=1,
        salicon_batch_size=1,
        batch_size=1,
        data_cfg={"seq_len": 2, "frame_modulo": 1, **small},
        salicon_cfg=small,
        model_cfg=TINY,
        num_workers=0,
        device="cpu",
        tboard=False,
        ema_decay=0.9,
    )
    trainer.fit()
    trainer.folder.rename(trainer.folder.with_name("mine"))
    record = {"folder": "logs", "x_val_step": 1, "best_epoch": 0, "valid_kld": 1.0, "options": {}}
    save_json(trainer.folder.with_name("mine") / "ft_mit1003.json", record)
