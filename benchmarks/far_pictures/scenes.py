"""Drawings, paintings and pictures of instruments, drawn."""

from __future__ import annotations

import numpy as np

from benchmarks.far_pictures.picture import FarPicture, Pen

INK = (30, 30, 35)


def cartoon() -> FarPicture:
    """Draw a house, a tree, the sun and a waving child in flat colours with black outlines."""
    pen = Pen(paper=(150, 210, 245))
    pen.box((0, 340, 640, 480), (120, 190, 90))
    pen.oval((520, 30, 600, 110), (255, 220, 60), INK, 3)
    pen.box((90, 200, 290, 380), (235, 170, 120), INK, 3)
    pen.shape([(70, 205), (190, 100), (310, 205)], (180, 70, 60), INK)
    pen.box((165, 290, 215, 380), (120, 80, 50), INK, 3)
    for left in (110, 230):
        pen.box((left, 230, left + 40, 270), (190, 230, 250), INK, 3)
    pen.box((375, 250, 395, 370), (130, 90, 60), INK, 3)
    pen.oval((330, 150, 440, 270), (70, 150, 70), INK, 3)
    pen.line([(520, 345), (505, 410)], INK, 8)
    pen.line([(520, 345), (540, 410)], INK, 8)
    pen.shape([(500, 350), (520, 275), (545, 350)], (220, 70, 120), INK)
    pen.line([(522, 295), (560, 255)], INK, 6)
    pen.line([(518, 295), (490, 325)], INK, 6)
    pen.oval((498, 220, 544, 268), (250, 215, 180), INK, 3)
    for x in (513, 529):
        pen.disc(x, 241, 3, INK)
    pen.arc((510, 240, 534, 260), 20, 160, INK, 2.5)
    return pen.finish()


def line_drawing() -> FarPicture:
    """Draw a cat beside a flower pot in thin black lines."""
    pen = Pen()
    pen.oval((210, 230, 350, 420), None, INK, 2)
    pen.oval((225, 130, 335, 235), None, INK, 2)
    pen.line([(236, 155), (232, 100), (268, 132)], INK, 2)
    pen.line([(292, 132), (328, 100), (324, 155)], INK, 2)
    for x in (258, 302):
        pen.oval((x - 9, 168, x + 9, 190), None, INK, 2)
        pen.line([(x, 170), (x, 188)], INK, 2)
    pen.line([(275, 200), (285, 200), (280, 207), (275, 200)], INK, 2)
    for side in (-1, 1):
        for rise in (-8, 0, 8):
            pen.line([(280 + 14 * side, 208), (280 + 80 * side, 208 + rise)], INK, 1.2)
    pen.arc((330, 300, 450, 420), 300, 110, INK, 2)
    pen.line([(30, 422), (610, 422)], INK, 2)
    pen.line([(480, 340), (495, 420), (555, 420), (570, 340), (480, 340)], INK, 2)
    pen.line([(525, 340), (520, 220)], INK, 2)
    for angle in range(0, 360, 45):
        x, y = 520 + 26 * np.cos(np.radians(angle)), 200 + 26 * np.sin(np.radians(angle))
        pen.oval((x - 12, y - 12, x + 12, y + 12), None, INK, 2)
    return pen.finish()


def night_street() -> FarPicture:
    """Draw a street at night: dark houses, some lit windows, lamps, the moon, a person."""
    pen, rng = Pen(paper=(9, 11, 24)), np.random.default_rng(6)
    pen.disc(90, 70, 24, (215, 215, 200))
    for left, width, top in ((0, 130, 190), (140, 110, 120), (260, 150, 210), (420, 100, 90)):
        pen.box((left, top, left + width, 400), (18, 20, 34))
        for x in range(left + 14, left + width - 14, 28):
            for y in range(top + 16, 370, 36):
                if rng.random() < 0.18:
                    pen.box((x, y, x + 12, y + 18), (225, 180, 90))
    pen.box((530, 160, 640, 400), (15, 17, 30))
    pen.box((0, 400, 640, 480), (22, 22, 28))
    for x in (60, 340, 600):
        for radius in range(40, 4, -2):
            glow = 1 - radius / 40
            pen.disc(x, 268, radius, (round(40 + 200 * glow), round(35 + 165 * glow), 50))
        pen.line([(x, 268), (x, 420)], (50, 50, 58), 4)
    pen.oval((468, 338, 484, 356), (95, 80, 75))
    pen.shape([(464, 358), (488, 358), (492, 432), (460, 432)], (70, 45, 50))
    return pen.finish()


def brush_strokes() -> FarPicture:
    """Draw fields, a cypress and a swirling sky in thick strokes."""
    pen, rng = Pen(paper=(70, 100, 160)), np.random.default_rng(9)
    for x, y in rng.uniform((0, 0), (640, 480), (5200, 2)):
        sky, tree = y < 300, abs(x - 150) < 46 * (y - 60) / 300 and 60 < y < 400
        away = np.hypot(x - 440, y - 120)
        angle = np.arctan2(y - 120, x - 440) + np.pi / 2 if sky else 0.15 * np.sin(x / 60)
        colour = np.array([225, 180, 70] if not sky else [60, 95, 165])
        if sky and away < 110:
            colour = np.array([250, 225, 120]) - away
        if tree:
            colour, angle = np.array([35, 70, 45]), np.pi / 2 + 0.3 * np.sin(y / 30)
        shade = tuple(int(v) for v in np.clip(colour + rng.normal(0, 16, 3), 0, 255))
        dx, dy = 11 * np.cos(angle), 11 * np.sin(angle)
        pen.line([(x - dx, y - dy), (x + dx, y + dy)], shade, 5)
    return pen.finish()


def kaleidoscope() -> FarPicture:
    """Draw a pattern with the symmetry of an octagon."""
    pen, rng = Pen((512, 512), (30, 25, 60)), np.random.default_rng(11)
    for _ in range(26):
        radius, angle, size = rng.uniform(20, 245), rng.uniform(0, 45), rng.uniform(6, 30)
        colour = tuple(int(v) for v in rng.integers(60, 256, 3))
        for turn in range(0, 360, 45):
            for mirrored in (angle, -angle):
                at = np.radians(turn + mirrored)
                pen.disc(256 + radius * np.cos(at), 256 + radius * np.sin(at), size, colour)
    return pen.finish()


def head_scan() -> FarPicture:
    """Draw a section of a head as tomographs show it: an ellipse of ellipses, in grey, with noise.

    After L. A. Shepp and B. F. Logan, "The Fourier reconstruction of a head section", IEEE
    Transactions on Nuclear Science 21, 1974.
    """
    y, x = np.mgrid[1:-1:512j, -1:1:512j]
    grey = np.zeros((512, 512))
    for value, a, b, x0, y0, degrees in (
        (1.0, 0.69, 0.92, 0.0, 0.0, 0),
        (-0.8, 0.6624, 0.874, 0.0, -0.0184, 0),
        (-0.2, 0.11, 0.31, 0.22, 0.0, -18),
        (-0.2, 0.16, 0.41, -0.22, 0.0, 18),
        (0.1, 0.21, 0.25, 0.0, 0.35, 0),
        (0.1, 0.046, 0.046, 0.0, 0.1, 0),
        (0.1, 0.046, 0.046, 0.0, -0.1, 0),
        (0.1, 0.046, 0.023, -0.08, -0.605, 0),
        (0.1, 0.023, 0.023, 0.0, -0.606, 0),
        (0.1, 0.023, 0.046, 0.06, -0.605, 0),
    ):
        c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
        u, v = (x - x0) * c + (y - y0) * s, (y - y0) * c - (x - x0) * s
        grey += value * ((u / a) ** 2 + (v / b) ** 2 <= 1)
    grey = 255 * np.clip(grey, 0, 1) + np.random.default_rng(2).normal(0, 6, grey.shape)
    pixels = np.clip(grey, 0, 255).astype(np.uint8)
    return FarPicture(np.repeat(pixels[:, :, None], 3, axis=2))
