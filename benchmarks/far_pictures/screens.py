"""Screens, pages and diagrams, drawn."""

from __future__ import annotations

import numpy as np

from benchmarks.far_pictures.picture import Box, Colour, FarPicture, Pen

TEXT = (
    "the of river and stone a light house under water in late summer small boats return from open "
    "sea with nets that nobody mended while winter kept their owners at home by warm stoves"
)
"""What the lines of text are drawn from."""
INK, GREY, PALE, BLUE = (35, 38, 45), (120, 125, 135), (226, 229, 235), (45, 105, 210)
RED = (215, 45, 40)


def _lines(pen: Pen, box: Box, size: float, step: float, seed: int, colour: Colour = INK) -> None:
    """Fill a box with lines of words."""
    rng, (left, top, right, bottom) = np.random.default_rng(seed), box
    letters, words = int((right - left) / (0.52 * size)), TEXT.split()
    for y in np.arange(top, bottom - size, step):
        line = ""
        while len(line) < letters:
            line += str(rng.choice(words)) + " "
        pen.text(left, float(y), line[:letters], size, colour)


def printed_page() -> FarPicture:
    """Draw a page of a book: a heading, paragraphs, a number."""
    pen = Pen((640, 460), (250, 248, 242))
    pen.text(230, 50, "Chapter Four", 26, INK, "ma")
    for number, (top, bottom) in enumerate([(110, 250), (268, 420), (438, 575)]):
        _lines(pen, (50, top, 410, bottom), 13, 18, number)
    pen.text(230, 605, "57", 13, INK, "ma")
    return pen.finish()


def handwriting() -> FarPicture:
    """Draw lines that look like handwriting, on ruled paper, with one word underlined."""
    pen, rng = Pen(paper=(252, 250, 235)), np.random.default_rng(3)
    pen.line([(80, 0), (80, 480)], (230, 150, 150), 1.5)
    for y in range(60, 480, 44):
        pen.line([(0, y), (640, y)], (180, 200, 225), 1.2)
    for y in range(60, 420, 44):
        x = 95 + rng.uniform(0, 12)
        while x < 560:
            n = int(rng.integers(3, 9)) * 10
            t = np.arange(n)
            height = 7 + 9 * (rng.random(n // 10 + 1) > 0.75)[t // 10]
            xs = x + 1.05 * t + 3 * np.sin(t * 0.9)
            ys = y - 7 - height * np.sin(t * 0.63 + rng.uniform(0, 6)) * 0.8
            pen.line(list(zip(xs.tolist(), ys.tolist(), strict=True)), (30, 40, 110), 1.8)
            if y == 192 and x < 250 < x + 90:
                pen.line([(x, y + 6), (x + 1.05 * n, y + 5)], RED, 2.5)
            x += 1.05 * n + 16
    return pen.finish()


def line_plot() -> FarPicture:
    """Draw three curves with axes, a legend and a title."""
    pen = Pen()
    pen.text(345, 18, "Loss by epoch", 20, INK, "ma")
    pen.box((80, 55, 610, 420), None, INK, 1.5)
    for i in range(6):
        x, y = 80 + 106 * i, 420 - 73 * i
        pen.line([(x, 420), (x, 426)], INK, 1.5)
        pen.line([(74, y), (80, y)], INK, 1.5)
        pen.text(x, 430, str(4 * i), 13, INK, "ma")
        pen.text(68, y, f"{0.2 * i:.1f}", 13, INK, "rm")
    pen.text(345, 455, "epoch", 14, INK, "ma")
    rng, x = np.random.default_rng(0), np.linspace(80, 610, 60)
    colours = ((31, 119, 180), (255, 127, 14), (44, 160, 44))
    for number, colour in enumerate(colours):
        y = 405 - 300 * np.exp(-(x - 80) / (90 + 70 * number)) + rng.normal(0, 4, len(x))
        pen.line([(a, 475 - b) for a, b in zip(x.tolist(), y.tolist(), strict=True)], colour, 2)
        pen.line([(470, 85 + 24 * number), (505, 85 + 24 * number)], colour, 2.5)
        pen.text(515, 85 + 24 * number, ("small", "medium", "large")[number], 14, INK, "lm")
    return pen.finish()


def flow_chart() -> FarPicture:
    """Draw boxes with text, joined by arrows."""
    pen = Pen()
    names = ["Start", "Read file", "Valid?", "Report", "Predict", "Write map", "Done"]
    places = [(120, 60), (120, 180), (120, 310), (120, 430), (350, 310), (530, 190), (530, 60)]
    for a, b in ((0, 1), (1, 2), (2, 3), (2, 4), (4, 5), (5, 6)):
        pen.line([places[a], places[b]], GREY, 2.5)
    for name, (x, y) in zip(names, places, strict=True):
        if name == "Valid?":
            corners = [(x, y - 45), (x + 80, y), (x, y + 45), (x - 80, y)]
            pen.shape(corners, (255, 240, 200), INK)
        else:
            radius = 24 if name in ("Start", "Done") else 4
            pen.box((x - 65, y - 25, x + 65, y + 25), (220, 235, 250), INK, 2, radius)
        pen.text(x, y, name, 17, INK, "mm")
    return pen.finish()


def desktop() -> FarPicture:
    """Draw a desktop with icons, two windows and a task bar."""
    pen = Pen((450, 800), (38, 98, 130))
    for i in range(5):
        pen.box((22, 20 + 76 * i, 62, 58 + 76 * i), (235, 200 - 20 * i, 90 + 30 * i), None, 0, 6)
        pen.text(42, 63 + 76 * i, f"files {i}", 10, "white", "ma")
    for left, top, right, bottom, title in (
        (110, 30, 520, 330, "notes.txt"),
        (330, 90, 770, 390, "Pictures"),
    ):
        pen.box((left, top, right, bottom), "white", GREY, 1)
        pen.box((left, top, right, top + 26), (70, 80, 95))
        pen.text(left + 10, top + 6, title, 13, "white")
        pen.text(right - 16, top + 6, "x", 13, "white")
    _lines(pen, (122, 66, 322, 325), 11, 16, 4)
    for i in range(10):
        x, y = 346 + 84 * (i % 5), 130 + 84 * (i // 5)
        pen.box((x, y, x + 64, y + 50), (200 - 12 * i, 150 + 8 * i, 120 + 12 * i))
        pen.text(x + 32, y + 56, f"img_{i}", 10, INK, "ma")
    pen.box((0, 420, 800, 450), (28, 32, 40))
    for i in range(6):
        pen.box((10 + 40 * i, 426, 34 + 40 * i, 444), (90 + 25 * i, 120, 200 - 25 * i), None, 0, 4)
    pen.text(790, 427, "14:32", 13, "white", "ra")
    return pen.finish()


def phone() -> FarPicture:
    """Draw the messages of a phone, with a red button among other buttons."""
    pen = Pen((800, 400), "white")
    pen.box((0, 0, 400, 84), BLUE)
    pen.text(20, 40, "Messages", 24, "white")
    pen.text(385, 8, "14:32", 13, "white", "ra")
    colours = [(240, 160, 60), (90, 170, 120), (150, 110, 190), (70, 150, 210), (200, 110, 120)]
    for i, colour in enumerate(colours):
        y = 130 + 92 * i
        pen.disc(48, y, 28, colour)
        pen.text(48, y, "ABCDE"[i], 22, "white", "mm")
        _lines(pen, (92, y - 24, 260, y - 4), 17, 30, i)
        _lines(pen, (92, y + 4, 380, y + 24), 13, 30, 10 + i, GREY)
        pen.line([(92, y + 46), (400, y + 46)], PALE, 1)
    boxes = [(20.0, 590.0, 190.0, 640.0), (210.0, 590.0, 380.0, 640.0)]
    boxes += [(20.0, 660.0, 190.0, 710.0), (210.0, 660.0, 380.0, 710.0)]
    for box, name in zip(boxes, ("Archive", "Mark read", "Forward", "Delete"), strict=True):
        pen.box(box, RED if name == "Delete" else PALE, None, 0, 10)
        colour = "white" if name == "Delete" else INK
        pen.text((box[0] + box[2]) / 2, (box[1] + box[3]) / 2, name, 18, colour, "mm")
    pen.box((0, 735, 400, 800), (245, 246, 248))
    for i in range(4):
        pen.disc(50 + 100 * i, 766, 13, BLUE if i == 0 else GREY)
    return pen.finish(boxes[3], boxes[:3])


def web_page() -> FarPicture:
    """Draw a web page: a bar, a large picture with a heading and a button, three columns."""
    pen = Pen((600, 800), "white")
    pen.text(30, 18, "Northwind", 22, INK)
    for i, name in enumerate(("Shop", "Stories", "About", "Basket")):
        pen.text(470 + 85 * i, 22, name, 15, GREY)
    for y in range(60, 320):
        share = (y - 60) / 260
        colour = (round(70 + 150 * share), round(120 + 80 * share), round(180 - 20 * share))
        pen.box((0, y, 800, y + 1), colour)
    pen.shape(
        [(420, 320), (600, 130), (700, 230), (740, 190), (800, 260), (800, 320)], (50, 70, 75)
    )
    pen.text(40, 120, "Tents for wet weather", 36, "white")
    pen.text(40, 172, "Made to be lived in for weeks", 18, "white")
    pen.box((40, 215, 200, 262), (240, 130, 40), None, 0, 8)
    pen.text(120, 238, "See all tents", 18, "white", "mm")
    for i in range(3):
        left = 40 + 250 * i
        pen.box(
            (left, 350, left + 220, 460), [(190, 205, 180), (215, 190, 170), (175, 190, 215)][i]
        )
        pen.text(left, 470, ("Pegs", "Ropes", "Stoves")[i], 18, INK)
        _lines(pen, (left, 498, left + 215, 590), 12, 17, 20 + i, GREY)
    return pen.finish()


def poster() -> FarPicture:
    """Draw a poster of a concert: a large title, a figure, a date."""
    pen = Pen((720, 500), (20, 60, 90))
    pen.disc(250, 330, 170, (240, 180, 60))
    pen.oval((215, 215, 285, 300), (30, 25, 35))
    pen.shape([(180, 500), (200, 320), (300, 320), (320, 500)], (30, 25, 35))
    pen.line([(300, 335), (370, 420), (250, 430)], (30, 25, 35), 22)
    pen.oval((195, 390, 290, 470), (170, 90, 40))
    pen.line([(240, 430), (400, 330)], (120, 60, 30), 12)
    pen.text(250, 40, "NIGHT MUSIC", 58, (250, 235, 200), "ma")
    pen.text(250, 110, "songs from four rivers", 24, (250, 235, 200), "ma")
    pen.text(250, 560, "21 JUNE", 52, (240, 180, 60), "ma")
    pen.text(250, 630, "Old Harbour Hall, doors at seven", 20, (250, 235, 200), "ma")
    return pen.finish()


def street_map() -> FarPicture:
    """Draw a map with roads, a river, a park, names and one red pin."""
    pen, rng = Pen(paper=(240, 237, 229)), np.random.default_rng(8)
    pen.shape([(60, 300), (210, 270), (250, 400), (90, 430)], (200, 225, 180))
    t = np.linspace(-20, 660, 40)
    river = [(float(x), float(120 + 40 * np.sin(x / 90) + x / 8)) for x in t]
    pen.line(river, (165, 200, 230), 26)
    for offset in (-60, 60, 150, 250, 340, 440, 540, 640):
        pen.line([(offset, 0), (offset + 90, 480)], "white", 6)
    for offset in (10, 80, 240, 330, 440):
        pen.line([(0, offset), (640, offset - 50)], "white", 6)
    pen.line([(0, 390), (300, 330), (640, 90)], (250, 205, 110), 10)
    boxes = []
    for name, (x, y) in zip(
        ("Mill Lane", "Elm Park", "Station", "Old Bridge", "Market"),
        ((90, 60), (110, 350), (330, 60), (330, 210), (470, 410)),
        strict=True,
    ):
        pen.text(x, y, name, 14, GREY)
        boxes.append((x - 5.0, y - 5.0, x + 75.0, y + 20.0))
    for x, y in rng.uniform(30, 450, (25, 2)):
        pen.box((x * 1.3, y, x * 1.3 + 12, y + 9), (222, 214, 204))
    pen.shape([(497, 190), (523, 190), (510, 225)], RED)
    pen.disc(510, 182, 16, RED)
    pen.disc(510, 182, 6, "white")
    return pen.finish((488.0, 162.0, 532.0, 230.0), boxes)
