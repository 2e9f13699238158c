"""Make video.webp: the example video, and beside it the video that `predict_video` makes of it.

Run `python docs/pictures/make_video.py`; another file to write to may be named.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

from unisal.commands.table import predict_video
from unisal.data.pictures import list_pictures, read_rgb
from unisal.data.video_file import VideoFile
from unisal.writing.video_writer import VideoWriter

FRAMES = Path(__file__).resolve().parents[2] / "examples" / "DHF1K" / "otters" / "images"
FPS, SIZE, GAP, QUALITY = 12, (162, 288), 6, 45
HOLD = 800
"""Milliseconds that the last frame is shown before the video starts again."""


def main(out: Path) -> None:
    """Write the frames as a video file, predict it, and show both next to each other."""
    pictures = [read_rgb(path) for path in list_pictures(FRAMES)]
    with tempfile.TemporaryDirectory() as folder:
        clip = Path(folder) / "otters.mp4"
        with VideoWriter(clip, FPS, pictures[0].shape[:2]) as writer:
            for rgb in pictures:
                writer.write(rgb)
        predict_video(str(clip), out_dir=folder)
        with VideoFile(Path(folder) / "otters_overlay.mp4") as overlay:
            panels = [
                join_frames(rgb, frame.rgb) for rgb, frame in zip(pictures, overlay, strict=True)
            ]
    durations = [round(1000 / FPS)] * (len(panels) - 1) + [HOLD]
    panels[0].save(
        out,
        save_all=True,
        append_images=panels[1:],
        duration=durations,
        loop=0,
        quality=QUALITY,
        method=6,
    )


def join_frames(left: np.ndarray, right: np.ndarray) -> Image.Image:
    """Join two frames to one picture."""
    height, width = SIZE
    panel = Image.new("RGB", (2 * width + GAP, height), "white")
    for x, rgb in ((0, left), (width + GAP, right)):
        panel.paste(Image.fromarray(rgb).resize((width, height), Image.Resampling.LANCZOS), (x, 0))
    return panel


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).with_name("video.webp"))
