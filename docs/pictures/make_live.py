"""Make live.jpg: frames of the example video, and below each what a stream predicts for it.

Run `python docs/pictures/make_live.py`; another file to write to may be named.
"""

from __future__ import annotations

import sys
from pathlib import Path

from PIL import Image

import unisal
from unisal.data.pictures import list_pictures, read_rgb
from unisal.inference.densities import to_saliency_map
from unisal.visualize.overlay import draw_overlay

HERE = Path(__file__).resolve().parent
FRAMES = HERE.parents[1] / "examples" / "DHF1K" / "otters" / "images"
FPS, EVERY, WIDTH, GAP, QUALITY = 12, 7, 180, 6, 88


def main(out: Path) -> None:
    """Give the frames to a stream one by one, and show some of them."""
    stream = unisal.load(device="cpu").stream(fps=FPS)
    columns = []
    for i, path in enumerate(list_pictures(FRAMES)):
        rgb = read_rgb(path)
        density = stream.step(rgb)
        if i % EVERY == 0:
            columns.append((rgb, draw_overlay(rgb, to_saliency_map(density))))
    height = round(WIDTH * columns[0][0].shape[0] / columns[0][0].shape[1])
    size = len(columns) * (WIDTH + GAP) - GAP, 2 * height + GAP
    sheet = Image.new("RGB", size, "white")
    for i, column in enumerate(columns):
        for j, rgb in enumerate(column):
            small = Image.fromarray(rgb).resize((WIDTH, height), Image.Resampling.LANCZOS)
            sheet.paste(small, (i * (WIDTH + GAP), j * (height + GAP)))
    sheet.save(out, quality=QUALITY)


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else HERE / "live.jpg")
