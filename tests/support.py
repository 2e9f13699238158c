"""What several tests need: small data sets, a small run, and the program as a process."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import scipy.io
import torch
from PIL import Image

from unisal.commands.cli import main
from unisal.commands.table import COMMANDS
from unisal.config import save_json
from unisal.model import UNISAL

PROJECT = Path(__file__).resolve().parent.parent

TINY: dict[str, Any] = {
    "cnn_cfg": {"pretrained": False, "widen_factor": 0.25, "last_channel": 64},
    "rnn_input_channels": 16,
    "rnn_hidden_channels": 16,
}
"""A network of the same structure that is small enough to train in a test."""


def write_photo(path: Path, size: tuple[int, int] = (60, 80), seed: int = 0) -> None:
    """Write a colourful picture of `size` (height, width) with a bright blob at a random place."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(photo(size, seed)).save(path, quality=95)


def photo(size: tuple[int, int] = (60, 80), seed: int = 0) -> np.ndarray:
    """Return a picture `[H, W, 3] uint8`: smooth colours and a bright blob."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0 : size[0], 0 : size[1]] / np.array(size)[:, None, None]
    cy, cx = rng.uniform(0.2, 0.8, 2)
    blob = np.exp(-((y - cy) ** 2 + (x - cx) ** 2) / 0.01)
    channels = [np.clip(90 * x + 60 * y + rng.uniform(0, 40) + 150 * blob, 0, 255)] * 3
    picture = np.stack(channels, axis=-1) * rng.uniform(0.6, 1.0, 3)
    return picture.astype(np.uint8)


def write_salicon(
    root: Path,
    part: str = "train",
    n: int = 4,
    size: tuple[int, int] = (48, 64),
    fixations: str = "png",
) -> None:
    """Write a SALICON folder with `n` examples of a part; fixations as "png" or "mat"."""
    for i in range(1, n + 1):
        stem = f"COCO_{part}2014_{i:012d}"
        write_photo(root / "images" / f"{stem}.jpg", size, seed=i)
        if part == "test":
            continue
        rng = np.random.default_rng(i)
        ys, xs = rng.integers(0, size[0], 6), rng.integers(0, size[1], 6)
        points = np.zeros(size, np.uint8)
        points[ys, xs] = 255
        y, x = np.mgrid[0 : size[0], 0 : size[1]]
        blurred = sum(
            np.exp(-((y - b) ** 2 + (x - a) ** 2) / 20) for b, a in zip(ys, xs, strict=True)
        )
        for folder, picture in (("maps", blurred / blurred.max() * 255), ("fixations", points)):
            (root / folder / part).mkdir(parents=True, exist_ok=True)
            if folder == "maps" or fixations == "png":
                Image.fromarray(picture.astype(np.uint8)).save(root / folder / part / f"{stem}.png")
        if fixations == "mat":
            write_mat(
                root / "fixations" / part / f"{stem}.mat", list(zip(xs, ys, strict=True)), size
            )


def write_video(
    folder: Path,
    prefix: str,
    n: int,
    size: tuple[int, int] = (36, 64),
    first: int = 1,
    digits: int = 4,
    with_maps: bool = True,
    seed: int = 0,
) -> None:
    """Write `n` frames `<prefix><number>.png` of one video with maps and fixations.

    The red channel of the top left pixel is the frame's position in the video, so that a test can
    tell frames apart.
    """
    rng = np.random.default_rng(seed)
    picture = photo(size, seed)
    kinds = ("images", "maps", "fixation") if with_maps else ("images",)
    for kind in kinds:
        (folder / kind).mkdir(parents=True, exist_ok=True)
    for i in range(n):
        name = f"{prefix}{first + i:0{digits}d}.png"
        frame = np.roll(picture, i, axis=1)
        frame[0, 0, 0] = i + 1
        Image.fromarray(frame).save(folder / "images" / name)
        if with_maps:
            points = np.zeros(size, np.uint8)
            points[rng.integers(0, size[0], 5), rng.integers(0, size[1], 5)] = 255
            blurred = cv2.GaussianBlur(points.astype(np.float32), (0, 0), 3)
            grey = (blurred / blurred.max() * 255).astype(np.uint8)
            Image.fromarray(grey).save(folder / "maps" / name)
            Image.fromarray(points).save(folder / "fixation" / name)


def write_dhf1k(root: Path, lengths: Mapping[int, int], **options: Any) -> None:
    """Write DHF1K videos: {number: frames}."""
    for number, n in lengths.items():
        write_video(root / f"annotation/{number:04d}", "", n, seed=number, **options)


def write_hollywood(
    root: Path, lengths: Mapping[tuple[int, int], int], part: str = "train", **options: Any
) -> None:
    """Write Hollywood-2 shots: {(video, shot): frames}; numbers go on from shot to shot."""
    following: dict[int, int] = {}
    for (video, shot), n in lengths.items():
        first = following.get(video, 1)
        following[video] = first + n
        clip = f"actionclip{part}{video:05d}"
        folder = root / f"{part}ing" / f"{clip}_{shot}"
        write_video(folder, f"{clip}_", n, first=first, digits=5, seed=video, **options)


def write_ucfsports(
    root: Path, lengths: Mapping[str, int], part: str = "train", **options: Any
) -> None:
    """Write UCF Sports videos: {folder name: frames}."""
    for seed, (name, n) in enumerate(lengths.items()):
        title, _, number = name.rpartition("-")
        folder = root / f"{part}ing" / name
        write_video(folder, f"{title}_{number}_", n, digits=3, seed=seed, **options)


def write_mit1003(
    root: Path, sizes: Sequence[tuple[int, int]], doubled: bool = True, first: int = 1
) -> None:
    """Write a MIT1003 folder with a picture, map and fixations of each (height, width);
    `doubled`: in folders of the same name inside each other."""
    pictures, maps = (
        root / name / (name if doubled else "") for name in ("ALLSTIMULI", "ALLFIXATIONMAPS")
    )
    maps.mkdir(parents=True, exist_ok=True)
    for i, size in enumerate(sizes, first):
        write_photo(pictures / f"i{i:04d}.jpeg", size, seed=i)
        rng = np.random.default_rng(i)
        points = np.zeros(size, np.uint8)
        points[rng.integers(0, size[0], 9), rng.integers(0, size[1], 9)] = 255
        blurred = cv2.GaussianBlur(points.astype(np.float32), (0, 0), size[1] / 20)
        for kind, grey in (("Map", blurred / blurred.max() * 255), ("Pts", points)):
            path = maps / f"i{i:04d}_fix{kind}.jpg"
            Image.fromarray(grey.astype(np.uint8)).save(path, quality=100)


def write_mat(path: Path, points: Sequence[tuple[int, int]], size: tuple[int, int]) -> None:
    """Write 0-based (x, y) points as SALICON's official structure, shared among two observers."""
    gaze = np.zeros((2, 1), [("location", object), ("timestamp", object), ("fixations", object)])
    for k in range(2):
        one_based = np.array(points[k::2], dtype=int).reshape(-1, 2) + 1
        gaze[k, 0] = (np.zeros((1, 2)), np.zeros((1, 1)), one_based.astype(np.uint16))
    path.parent.mkdir(parents=True, exist_ok=True)
    scipy.io.savemat(path, {"gaze": gaze, "resolution": np.array([size], dtype=np.uint16)})


def write_run(folder: Path, seed: int = 0, **model_cfg: Any) -> UNISAL:
    """Write the folder of a run with random weights of a tiny network; return the network."""
    torch.manual_seed(seed)
    model = UNISAL(**{**TINY, **model_cfg}).eval()
    write_network(folder, model)
    return model


def write_network(folder: Path, model: UNISAL) -> None:
    """Write the folder of a run of a given network."""
    folder.mkdir(parents=True, exist_ok=True)
    save_json(folder / "UNISAL.json", model.config)
    torch.save(model.state_dict(), folder / "weights_best.pth")


def lively_network(seed: int = 0, contrast: float = 0.1, **model_cfg: Any) -> UNISAL:
    """Return a tiny network whose maps depend on the frames and on what came before them.

    With random weights alone the signal fades from layer to layer; BatchNorms that have seen data
    keep it up. Those of the GRU's state are damped, since otherwise rounding errors grow
    from frame to frame without end.
    """
    torch.manual_seed(seed)
    model = UNISAL(**{**TINY, **model_cfg})
    for layer in model.modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            layer.momentum = 1.0  # keeps what the last step saw
            layer.train()
    with torch.no_grad():
        for source in model.sources:
            model(torch.randn(2, 3, 3, 64, 96), source=source, static=not model.has_rnn)
        for name, value in model.state_dict().items():
            if ".norm_" in name and "_h." in name and name.endswith("running_var"):
                value *= 64
            if name.startswith("adaptation"):
                value *= contrast
    return model.eval()


def call_command(*arguments: str, commands: Mapping[str, Any] = COMMANDS) -> int:
    """Run a command line in this process, as `run.py` does; return its exit code."""
    return main(commands, arguments, "python run.py")


def run_command(
    *arguments: str, env: Mapping[str, str] | None = None, timeout: float = 300
) -> subprocess.CompletedProcess[str]:
    """Run `python run.py <arguments>` as a user does, from another folder."""
    script = str(PROJECT / "run.py")
    return run_python(script, *arguments, cwd=PROJECT.parent, env=env, timeout=timeout)


def run_python(
    *arguments: str, cwd: Path, env: Mapping[str, str] | None = None, timeout: float = 300
) -> subprocess.CompletedProcess[str]:
    """Run this Python with `arguments` in the folder `cwd`; `env` adds to the environment."""
    return subprocess.run(
        [sys.executable, *arguments],
        env={**os.environ, **(env or {})},
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
        cwd=cwd,
    )


def fill_disk(folder: Path, left: int = 0) -> None:
    """Write a file `full` into a small disk, so that about `left` bytes remain."""
    path = folder / "full"
    with path.open("wb", buffering=0) as file:
        while shutil.disk_usage(folder).free > left:
            file.write(bytes(min(1 << 12, shutil.disk_usage(folder).free - left)))
