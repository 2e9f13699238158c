"""Make features.jpg: an example photograph and the network's features of it.

Of each feature the first three principal components of its channels are shown as red, green
and blue. Run `python docs/pictures/make_features.py`; another file to write to may be named.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

import unisal
from unisal.data.pictures import read_rgb

HERE = Path(__file__).resolve().parent
PHOTO = HERE.parents[1] / "examples" / "SALICON" / "images" / "coffee_cup.jpg"
HEIGHT, GAP, LABEL, QUALITY = 150, 6, 18, 88


def main(out: Path) -> None:
    """Put the photograph and its features side by side."""
    rgb = read_rgb(PHOTO)
    panels = {"photograph": rgb}
    for name, values in unisal.load(device="cpu").features(rgb).items():
        panels[name] = principal_colours(values)
    width = round(HEIGHT * rgb.shape[1] / rgb.shape[0])
    sheet = Image.new("RGB", (len(panels) * (width + GAP) - GAP, HEIGHT + LABEL), "white")
    draw = ImageDraw.Draw(sheet)
    for i, (name, pixels) in enumerate(panels.items()):
        x = i * (width + GAP)
        small = pixels.shape[0] < HEIGHT  # cells of the network stay visible
        how = Image.Resampling.NEAREST if small else Image.Resampling.LANCZOS
        sheet.paste(Image.fromarray(pixels).resize((width, HEIGHT), how), (x, LABEL))
        draw.text((x, 3), name, fill="black")
    sheet.save(out, quality=QUALITY)


def principal_colours(values: np.ndarray) -> np.ndarray:
    """Show features `[C, h, w]` as colours `[h, w, 3] uint8`."""
    flat = values.reshape(len(values), -1).T.astype(np.float64)
    flat -= flat.mean(axis=0)
    _, _, axes = np.linalg.svd(flat, full_matrices=False)
    scores = flat @ axes[:3].T
    low, high = np.percentile(scores, [2, 98], axis=0)
    colours = np.clip((scores - low) / (high - low), 0, 1) * 255
    return colours.astype(np.uint8).reshape(*values.shape[1:], 3)


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else HERE / "features.jpg")
