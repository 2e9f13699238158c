"""Measure folders of frames, from JPEG files to maps as JPEG files.

Run `python -m benchmarks.folders`.

The plain way reads a frame, resizes it, sends it through the plain network, resizes the map and
writes it, one after the other. Ours is `predictions_from_folder`.
"""

from __future__ import annotations

import shutil
import tempfile
from contextlib import redirect_stdout
from functools import cached_property
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from benchmarks.case import Case, measure, peak_of, print_rows
from benchmarks.limits import Machine, measure_machine
from benchmarks.network import VideoClip
from benchmarks.stream_latency import write_frames
from benchmarks.timing import plain_network
from unisal.commands.folder_jobs import FolderJob
from unisal.commands.folder_work import How, predict_video_folder
from unisal.commands.picture_folders import PictureSet
from unisal.data.transforms import RGB_MEAN, RGB_STD
from unisal.model import UNISAL
from unisal.predict import Predictor
from unisal.predict.loading import load_model
from unisal.predict.presets import find_preset
from unisal.progress import SILENT

PRESET = find_preset("DHF1K")
FEW_FRAMES = 20
"""The peak memory for this many frames is compared with that for all of them."""


class FolderCase(Case):
    """A video as a folder of JPEG frames.

    Args:
        size: (height, width) of the frames.
        items: how many.
    """

    rounds = 3

    def __init__(self, size: tuple[int, int], items: int) -> None:
        self.size = size[0], size[1]  # a process of its own gets a list, from JSON
        self.items = items

    def options(self) -> dict[str, Any]:
        return {"size": self.size, "items": self.items}

    @cached_property
    def root(self) -> Path:
        """A folder with `images/` of distinct frames."""
        root = Path(tempfile.mkdtemp())
        write_frames(root / "images", self.size, self.items)
        return root

    @cached_property
    def model(self) -> UNISAL:
        return load_model()

    @cached_property
    def predictor(self) -> Predictor:
        return Predictor(self.model, "cpu")

    def plain(self) -> Path:
        network = plain_network(self.model)
        out = self.root / "plain"
        out.mkdir(exist_ok=True)
        height, width = PRESET.input_size_for(self.size)
        paths = sorted((self.root / "images").iterdir())
        for offset in range(PRESET.frame_step):
            state = None
            for path in paths[offset :: PRESET.frame_step]:
                image = Image.open(path).convert("RGB")
                resized = image.resize((width, height), Image.Resampling.LANCZOS)
                x = (np.asarray(resized).astype(np.float32) / 255 - RGB_MEAN) / RGB_STD
                clip = torch.from_numpy(x.transpose(2, 0, 1)).float()[None, None]
                with torch.inference_mode():
                    y, state = network(clip, self.size, state, PRESET.domain, static=False)
                p = y[0, 0, 0].exp().numpy()
                grey = (p / p.max() * 255).astype(np.uint8)
                Image.fromarray(grey).save(out / path.name, quality=100)
        return out

    def ours(self) -> Path:
        frames = sorted((self.root / "images").iterdir())
        with redirect_stdout(StringIO()):
            found = PictureSet(self.root, self.root / "images", frames, frames, self.root)
            how = How(self.predictor, "DHF1K", "DHF1K")
            bar = SILENT.bar("", "frame")
            predict_video_folder(how, FolderJob(found, overlay=False), self.size, bar)
        return self.root / "saliency"

    def difference(self, plain: Path, ours: Path) -> str:
        levels, shares = [], []
        for path in plain.iterdir():
            one, other = (np.asarray(Image.open(f / path.name)).astype(int) for f in (plain, ours))
            levels.append(np.abs(one - other).max())
            shares.append(np.mean(one != other))
        # A grey level more or less before JPEG may be two after it.
        return f"at most {max(levels)} grey levels, {np.mean(shares):.1%} of the pixels differ"

    def of_the_limit(self, machine: Machine, seconds: float) -> str:
        clip = VideoClip(PRESET.input_size_for(self.size), self.items)
        return f"{clip.of_the_limit(machine, seconds)}, for the network alone"

    def peak_memory(self) -> str:
        few = f"{peak_of(self, 'ours', items=FEW_FRAMES):.0f} MB with {FEW_FRAMES} frames"
        return f"{super().peak_memory()}, {few}"

    def close(self) -> None:
        shutil.rmtree(self.root)


class SmallFolder(FolderCase):
    """Frames of the network's own size."""

    what, wanted = "folder of 100 frames 224x384", "4 times"

    def __init__(self, size: tuple[int, int] = (224, 384), items: int = 100) -> None:
        super().__init__(size, items)


class LargeFolder(FolderCase):
    """Frames of ordinary video size."""

    what, wanted = "folder of 100 frames 1280x720", "4 times, below 700 MB and flat"

    def __init__(self, size: tuple[int, int] = (720, 1280), items: int = 100) -> None:
        super().__init__(size, items)


def cases() -> list[Case]:
    """Return the cases of this module."""
    return [SmallFolder(), LargeFolder()]


if __name__ == "__main__":
    machine = measure_machine()
    rows = []
    for case in cases():
        rows.append(measure(case, machine))
        case.close()
    print_rows(rows)
