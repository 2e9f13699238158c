"""Panels side by side: a photograph, where people looked, and what models predicted."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from unisal.types import RGB, Density, Size
from unisal.visualize.overlay import draw_overlay, scale_to_peak

GAP_PIXELS = 6
"""Pixels between panels, and around a contact sheet."""
PAPER, INK = (255, 255, 255), (40, 40, 40)
HEIGHT_PER_TEXT, TEXT_SIZES, SMALLEST_TEXT_SIZE = 22, (14, 26), 9
"""Panels are this many times as high as their text, whose size in pixels has these limits; the last
one is for long names."""
ENCLOSED_SHARES = (0.5, 0.8)
"""The shares of the ground truth that its lines enclose."""
LINE_STROKES, SIDE_PER_LINE_WIDTH = ((2, (0, 0, 0)), (0, (255, 255, 255))), 320
"""The strokes of a line: how many pixels wider than the line itself they are, and their colours. A
panel's longer side is this many times as long as a line is wide."""
SHEET_MAX_CELL, SHEET_MAX_PIXELS, SHEET_RATIO = (180, 240), 16e6, 16 / 9
"""Of a contact sheet: the largest (height, width) of a panel in pixels, the largest number of
pixels, and the best ratio of width to height."""


class Panel(NamedTuple):
    """A picture `[H, W, 3] uint8` with its label."""

    rgb: RGB
    label: str


def compare(
    rgb: RGB,
    truth: NDArray[np.float32] | None,
    predictions: Mapping[str, Density],
    alpha: float,
    max_size: Size,
) -> list[Panel]:
    """Draw the panels of one picture.

    Args:
        rgb: the picture, `[H, W, 3] uint8`.
        truth: the ground-truth map, `[h, w] float32`, of any non-negative scale. Without one
            (None) its panel and the lines are left out.
        predictions: the models' names and densities, `[H, W] float32`.
        alpha: opacity of the heat maps at their maxima, from 0 to 1.
        max_size: (height, width) that a larger picture is shrunk to fit into.

    Returns:
        The picture; the ground truth as a heat map over the picture; for each model its prediction
        over the picture, with lines that enclose `ENCLOSED_SHARES` of the ground truth.
    """
    rgb = shrink(rgb, max_size)
    size = rgb.shape[0], rgb.shape[1]
    panels = [Panel(rgb, "Image")]
    if truth is not None:
        truth = resize(truth, size)
        panels.append(Panel(draw_overlay(rgb, scale_to_peak(truth), alpha), "Ground truth"))
    for name, density in predictions.items():
        drawn = draw_overlay(rgb, scale_to_peak(resize(density, size)), alpha)
        panels.append(Panel(drawn if truth is None else draw_lines(drawn, truth), name))
    return panels


def draw_lines(
    rgb: RGB, density: NDArray[np.float32], shares: Sequence[float] = ENCLOSED_SHARES
) -> RGB:
    """Draw lines around the smallest regions that hold the given shares of a map.

    Args:
        rgb: what to draw on, `[H, W, 3] uint8`; it is not changed.
        density: `[H, W] float32`, of any non-negative scale. A map that is all zero has no lines.
        shares: each above 0 and below 1.

    Returns:
        `[H, W, 3] uint8`.
    """
    drawn = np.ascontiguousarray(rgb.copy())
    outlines: list[Any] = []
    for level in levels(density, shares):
        inside = (density >= level).astype(np.uint8)
        outlines += cv2.findContours(inside, cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)[0]
    width = max(1, round(max(rgb.shape) / SIDE_PER_LINE_WIDTH))
    for wider, colour in LINE_STROKES:
        cv2.drawContours(drawn, outlines, -1, colour, width + wider, cv2.LINE_AA)
    return drawn


def levels(density: NDArray[np.float32], shares: Sequence[float]) -> list[float]:
    """Find the levels that enclose shares of a map.

    Args:
        density: `[H, W] float32`, of any non-negative scale.
        shares: each above 0 and below 1.

    Returns:
        For each share the highest level such that the pixels at or above it hold that share; empty
        for a map that is all zero.
    """
    falling = np.sort(density, axis=None)[::-1].astype(np.float64)
    held = falling.cumsum()
    if held[-1] <= 0:
        return []
    return [float(falling[np.searchsorted(held, share * held[-1])]) for share in shares]


def join_panels(panels: Sequence[Panel], show_labels: bool = True) -> RGB:
    """Lay out panels in a row, with their labels above them.

    Args:
        panels: all of one size.
        show_labels: whether to write the labels.

    Returns:
        `[H, W, 3] uint8`, with the unchanged pixels of the panels at the bottom.
    """
    height, width = panels[0].rgb.shape[:2]
    text = text_size(height)
    top = round(1.6 * text) if show_labels else 0
    sheet = Image.new("RGB", (len(panels) * (width + GAP_PIXELS) - GAP_PIXELS, top + height), PAPER)
    for i, panel in enumerate(panels):
        left = i * (width + GAP_PIXELS)
        sheet.paste(Image.fromarray(panel.rgb), (left, top))
        if show_labels:
            write_text(sheet, panel.label, (left, 0, width, top), text)
    return np.asarray(sheet)


def contact_sheet(
    rows: Sequence[Sequence[Panel]], names: Sequence[str], show_labels: bool = True
) -> RGB:
    """Lay out the panels of many pictures in a single one.

    Args:
        rows: the panels of each picture, made by `thumbnails`; the same number for each picture.
        names: the names of the pictures.
        show_labels: whether to write the labels above the columns and the names below the
            pictures.

    Returns:
        `[H, W, 3] uint8`: blocks of rows next to each other, as many as give it a pleasant shape.
    """
    cell = tuple(max(r[0].rgb.shape[side] for r in rows) for side in (0, 1))
    text = text_size(cell[0]) if show_labels else 0
    head, foot = GAP_PIXELS + round(1.6 * text), GAP_PIXELS + round(1.4 * text)
    row_height, block_width = cell[0] + foot, len(rows[0]) * (cell[1] + GAP_PIXELS) + 2 * GAP_PIXELS
    n_blocks = _how_many_blocks(len(rows), head, row_height, block_width)
    per_block = math.ceil(len(rows) / n_blocks)
    n_blocks = math.ceil(len(rows) / per_block)  # so that none is empty
    sheet = Image.new("RGB", (n_blocks * block_width, head + per_block * row_height), PAPER)
    for i, (row, name) in enumerate(zip(rows, names, strict=True)):
        block, line = divmod(i, per_block)
        y = head + line * row_height
        for k, (rgb, label) in enumerate(row):
            x = block * block_width + 3 * GAP_PIXELS // 2 + k * (cell[1] + GAP_PIXELS)
            height, width = rgb.shape[:2]
            sheet.paste(Image.fromarray(rgb), (x + (cell[1] - width) // 2, y + cell[0] - height))
            if show_labels and line == 0:
                write_text(sheet, label, (x, 0, cell[1], head), text)
            if show_labels and k == 0:
                write_text(sheet, name, (x, y + cell[0], cell[1], foot - GAP_PIXELS), text)
    return np.asarray(sheet)


def thumbnails(panels: Sequence[Panel], n_pictures: int) -> list[Panel]:
    """Shrink the panels of one picture for a contact sheet.

    Args:
        panels: those of the picture.
        n_pictures: number of pictures on the sheet: the more there are, the smaller they get.

    Returns:
        The smaller panels.
    """
    height, width = SHEET_MAX_CELL
    scale = min(1.0, math.sqrt(SHEET_MAX_PIXELS / (n_pictures * len(panels) * height * width)))
    cell = max(1, int(height * scale)), max(1, int(width * scale))
    return [Panel(shrink(panel.rgb, cell), panel.label) for panel in panels]


def _how_many_blocks(n_rows: int, head: int, row_height: int, block_width: int) -> int:
    """Choose the number of blocks that brings the sheet's shape closest to `SHEET_RATIO`."""

    def distance(n_blocks: int) -> float:
        height = head + math.ceil(n_rows / n_blocks) * row_height
        return abs(math.log(n_blocks * block_width / height / SHEET_RATIO))

    return min(range(1, n_rows + 1), key=distance)


def text_size(height: int) -> int:
    """Return the text size in pixels for panels of a height in pixels."""
    low, high = TEXT_SIZES
    return min(max(height // HEIGHT_PER_TEXT, low), high)


def write_text(sheet: Image.Image, text: str, box: tuple[int, int, int, int], size: int) -> None:
    """Write a line of text in the middle of a box.

    Args:
        sheet: the picture to write on.
        text: written smaller if it is too long for the box, and cut off if that is not enough.
        box: (left, top, width, height) in pixels.
        size: text size in pixels.
    """
    text = " ".join(text.splitlines())  # names of files may hold line breaks
    left, top, width, height = box
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(size)
    while draw.textlength(text, font) > width and size > SMALLEST_TEXT_SIZE:
        size -= 1
        font = ImageFont.load_default(size)
    if draw.textlength(text, font) > width:
        while text and draw.textlength(f"{text}...", font) > width:
            text = text[:-1]
        text = f"{text}..." if text else ""
    draw.text((left + width / 2, top + height / 2), text, INK, font, anchor="mm")


def shrink(rgb: RGB, max_size: Size) -> RGB:
    """Shrink a picture `[H, W, 3]` that does not fit into `max_size`, keeping its aspect ratio."""
    scale = min(side / length for side, length in zip(max_size, rgb.shape[:2], strict=True))
    if scale >= 1:
        return rgb
    height, width = (max(1, round(length * scale)) for length in rgb.shape[:2])
    return _resized(rgb, (height, width), cv2.INTER_AREA)


def resize(density: NDArray[np.float32], size: Size) -> NDArray[np.float32]:
    """Resize a map `[H, W]`, averaging or interpolating its values."""
    if density.shape == size:
        return density
    smaller = size[0] * size[1] < density.size
    return _resized(density, size, cv2.INTER_AREA if smaller else cv2.INTER_LINEAR)


def _resized(pixels: Any, size: Size, how: int) -> Any:
    """Resize pixels with an interpolation of OpenCV."""
    return cv2.resize(pixels, (size[1], size[0]), interpolation=how)
