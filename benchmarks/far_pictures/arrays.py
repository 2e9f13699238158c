"""Things among things: which of them stands out is known."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from benchmarks.far_pictures.picture import Colour, FarPicture, Pen, around

COLUMNS, ROWS, CELL = 8, 6, 80
"""Of the arrays of things, in pixels."""
ODD = COLUMNS + 6
"""The number of the odd one: in the second row, well away from the middle."""
GREEN, RED = (40, 140, 70), (205, 45, 40)


def _array(draw: Callable[[Pen, int, float, float], None], odd: int = ODD) -> FarPicture:
    """Draw things in a grid with some irregularity; `draw` is told their numbers and places."""
    pen, rng = Pen(paper=(235, 235, 235)), np.random.default_rng(1)
    boxes = []
    for number in range(ROWS * COLUMNS):
        row, column = divmod(number, COLUMNS)
        dx, dy = rng.uniform(-9, 9, 2)
        x, y = CELL * (column + 0.5) + dx, CELL * (row + 0.5) + dy
        draw(pen, number, x, y)
        boxes.append(around(x, y, 28))
    return pen.finish(boxes[odd], [box for number, box in enumerate(boxes) if number != odd])


def _bar(pen: Pen, x: float, y: float, degrees: float, colour: Colour) -> None:
    dx, dy = 22 * np.sin(np.radians(degrees)), 22 * np.cos(np.radians(degrees))
    pen.line([(x - dx, y - dy), (x + dx, y + dy)], colour, 9)


def odd_colour() -> FarPicture:
    """Draw a red bar among green ones."""
    return _array(lambda pen, n, x, y: _bar(pen, x, y, 0, RED if n == ODD else GREEN))


def odd_orientation() -> FarPicture:
    """Draw a tilted bar among upright ones."""
    return _array(lambda pen, n, x, y: _bar(pen, x, y, 45 if n == ODD else 0, (60, 60, 60)))


def odd_conjunction() -> FarPicture:
    """Draw a tilted red bar among upright red and tilted green ones: people have to search it."""

    def draw(pen: Pen, number: int, x: float, y: float) -> None:
        is_red = number == ODD or (number + number // COLUMNS) % 2 == 0
        tilted = number == ODD or not is_red
        _bar(pen, x, y, 45 if tilted else 0, RED if is_red else GREEN)

    return _array(draw)


def face_among_shapes() -> FarPicture:
    """Draw a simple face among other round drawings of the same colours."""
    pen, rng = Pen(paper=(246, 244, 238)), np.random.default_rng(5)
    boxes = []
    for number in range(12):
        x, y = 80 + 160 * (number % 4), 80 + 160 * (number // 4)
        boxes.append(around(x, y, 62))
        pen.oval(around(x, y, 55), (250, 220, 150), "black", 3)
        if number == 7:
            for side in (-1, 1):
                pen.disc(x + 20 * side, y - 14, 7, "black")
            pen.arc((x - 28, y - 20, x + 28, y + 32), 20, 160, "black", 4)
            continue
        for dx, dy in rng.uniform(-30, 30, (2, 2)):
            pen.disc(x + dx, y + dy, 7, "black")
        start = rng.uniform(120, 260)  # so that no other one smiles
        pen.arc(around(x, y, rng.uniform(15, 40)), start, start + 140, "black", 4)
    return pen.finish(boxes[7], [box for n, box in enumerate(boxes) if n != 7])
