"""Predict pictures that are far from photographs, and write a page about them.

Run `python -m benchmarks.far_pictures OUT WHEEL`, with the wheel of scikit-image that `pip download
--no-deps scikit-image==0.26.0` fetches; without it the pictures that come from it are left out.
`OUT` gets the pictures, their overlays, `index.html` and `sheet.jpg`. The numbers of the pictures
whose target is known are printed.

What is said of each map stands in `sentences.json`. After the weights have changed: run it, look at
the sheet, revise the sentences, put the digest that the program names into the file, and run it
with `--docs`, which brings docs/guide/far_pictures.md and its sheet up to date.
"""

from __future__ import annotations

import argparse
import hashlib
import html
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

import unisal
from benchmarks.far_pictures import arrays, scenes, screens
from benchmarks.far_pictures.found import FOUND, WHEEL, read_found
from benchmarks.far_pictures.picture import Box, FarPicture
from unisal.config import load_json, run_dir
from unisal.errors import UserError
from unisal.evaluate.metrics import nss
from unisal.files import write_atomically
from unisal.predict import Predictor
from unisal.types import Density, Size
from unisal.visualize.overlay import draw_overlay, scale_to_peak
from unisal.visualize.panels import Panel, compare, contact_sheet, thumbnails

PROJECT = Path(__file__).resolve().parents[2]
SENTENCES = Path(__file__).with_name("sentences.json")
PAGE = PROJECT / "docs" / "guide" / "far_pictures.md"
SHEET = PROJECT / "docs" / "pictures" / "far_pictures.jpg"
COMMAND = "python -m benchmarks.far_pictures"
DRAWN = {
    draw.__name__: draw
    for draw in (
        *(arrays.odd_colour, arrays.odd_orientation, arrays.odd_conjunction),
        *(arrays.face_among_shapes, scenes.cartoon, scenes.line_drawing),
        *(screens.line_plot, screens.flow_chart, screens.street_map),
        *(screens.desktop, screens.phone, screens.web_page),
        *(screens.printed_page, screens.handwriting, screens.poster),
        *(scenes.night_street, scenes.brush_strokes, scenes.kaleidoscope, scenes.head_scan),
    )
}
"""What draws each picture."""
ALPHA, CELL, QUALITY = 0.75, (240, 320), 82


class Seen(NamedTuple):
    """A picture and its prediction."""

    name: str
    picture: FarPicture
    density: Density


class Found(NamedTuple):
    """How well a map finds the target of its picture."""

    target: float
    """The NSS of the target's pixels."""
    others: float
    """The mean NSS of the things that it is among."""
    rank: int
    """The target's place among all things by their NSS, from 1."""
    n: int
    """How many things there are."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Draw, predict, write and print.

    Args:
        arguments: by default those of the command line.

    Raises:
        UserError: the wheel is not the one that holds the pictures.
    """
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path, help="the folder to write to")
    parser.add_argument("wheel", nargs="?", help=f"the wheel {WHEEL}")
    parser.add_argument("--only", default=",".join([*DRAWN, *FOUND]), help="names of pictures")
    parser.add_argument("--docs", action="store_true", help="also bring the guide up to date")
    options = parser.parse_args(arguments)
    if options.docs and options.wheel is None:
        raise UserError("--docs shows all pictures, so it needs the wheel as well")
    sentences = load_json(SENTENCES)
    names = options.only.split(",")
    seen = list(predict(unisal.load(device="cpu"), pictures(options.wheel, names)))
    options.out.mkdir(parents=True, exist_ok=True)
    sheet = Image.fromarray(draw_sheet(seen))
    # The digest in the file tells a test whether the guide shows today's weights.
    kept = {"quality": QUALITY, "comment": weights_digest()}
    sheet.save(options.out / "sheet.jpg", **kept)
    write_page(options.out, seen, sentences["pictures"])
    print(target_table(seen))
    if sentences["seen_with"] != weights_digest():
        print(
            f"\nThe sentences are about other weights: look at {options.out / 'sheet.jpg'}, revise "
            f"{SENTENCES.name}, and write {weights_digest()} as seen_with there."
        )
    if options.docs:
        write_atomically(SHEET, lambda path: sheet.save(path, "JPEG", **kept))
        write_guide(seen, sentences["pictures"])


def weights_digest() -> str:
    """Return the beginning of the SHA-256 of the weights that ship."""
    return hashlib.sha256((run_dir(None) / "weights_best.pth").read_bytes()).hexdigest()[:12]


def pictures(wheel: str | None, names: Sequence[str]) -> Iterator[tuple[str, FarPicture]]:
    """Yield the pictures by their names: those that are drawn, then those of the wheel."""
    yield from ((name, draw()) for name, draw in DRAWN.items() if name in names)
    found = read_found([wheel] if wheel else [])
    yield from ((name, picture) for name, picture in found if name in names)


def predict(predictor: Predictor, given: Iterator[tuple[str, FarPicture]]) -> Iterator[Seen]:
    """Yield each picture with what is predicted of it if nothing else is asked for."""
    for name, picture in given:
        yield Seen(name, picture, predictor.image(picture.rgb))


def find_target(seen: Seen) -> Found | None:
    """Return how well a map finds the target; None for a picture without one."""
    picture = seen.picture
    if picture.target is None:
        return None
    target = region_nss(seen.density, picture.target)
    others = [region_nss(seen.density, box) for box in picture.others]
    rank = 1 + sum(other > target for other in others)
    return Found(target, float(np.mean(others)), rank, 1 + len(others))


def region_nss(density: Density, box: Box) -> float:
    """Return the NSS of the pixels in a box."""
    left, top, right, bottom = (max(0, round(side)) for side in box)
    inside = np.zeros(density.shape, bool)
    inside[top:bottom, left:right] = True
    return nss(density, inside)


def draw_sheet(seen: Sequence[Seen]) -> np.ndarray:
    """Return all pictures and their overlays as one picture, `[H, W, 3] uint8`."""
    rows = []
    for _, picture, density in seen:
        whole: Size = picture.rgb.shape[0], picture.rgb.shape[1]
        panels = compare(picture.rgb, None, {"Prediction": density}, ALPHA, whole)
        rows.append(thumbnails([Panel(panels[0].rgb, "Picture"), panels[1]], len(seen)))
    return contact_sheet(rows, [name.replace("_", " ") for name, *_ in seen])


# ---- pages ----------------------------------------------------------------------------------
def write_page(folder: Path, seen: Sequence[Seen], sentences: Mapping[str, str]) -> None:
    """Write the pictures, their overlays and `index.html`, which shows them."""
    parts = []
    for name, picture, density in seen:
        Image.fromarray(picture.rgb).save(folder / f"{name}.png")
        overlay = draw_overlay(picture.rgb, scale_to_peak(density), ALPHA)
        Image.fromarray(overlay).save(folder / f"{name}_overlay.jpg", quality=90)
        title = html.escape(name.replace("_", " "))
        parts.append(
            f'<h2>{title}</h2><p>{html.escape(sentences[name])}</p>\n<img src="{name}.png" '
            f'alt="{title}"> <img src="{name}_overlay.jpg" alt="{title}, with the prediction">'
        )
    style = "body{font-family:sans-serif;margin:2em}img{height:18em}"
    page = (
        '<!doctype html>\n<html lang="en"><meta charset="utf-8"><title>Far from photographs'
        f"</title>\n<style>{style}</style>\n<h1>Pictures that are far from photographs</h1>\n"
        + "\n".join(parts)
        + "\n</html>\n"
    )
    write_atomically(folder / "index.html", lambda path: path.write_text(page, encoding="utf-8"))


def write_guide(seen: Sequence[Seen], sentences: Mapping[str, str]) -> None:
    """Replace the tables of the guide."""
    text = PAGE.read_text(encoding="utf-8")
    tables = {"targets": target_table(seen), "sentences": sentence_table(sentences)}
    for name, table in tables.items():
        marked = rf"(<!-- {name} -->\n).*?(<!-- end -->)"
        text, n = re.subn(marked, lambda m, t=table: f"{m[1]}{t}\n{m[2]}", text, flags=re.DOTALL)
        assert n == 1, name
    write_atomically(PAGE, lambda path: path.write_text(text, encoding="utf-8"))


def target_table(seen: Sequence[Seen]) -> str:
    """Return how well the maps find their targets, as a table in Markdown."""
    lines = ["| picture | NSS of the target | mean NSS of the others | rank |", "|---|---|---|---|"]
    for one in seen:
        if found := find_target(one):
            place = f"{found.rank} of {found.n}"
            name = one.name.replace("_", " ")
            lines.append(f"| {name} | {found.target:.2f} | {found.others:.2f} | {place} |")
    return "\n".join(lines)


def sentence_table(sentences: Mapping[str, str]) -> str:
    """Return what is said of each map, as a table in Markdown."""
    lines = ["| picture | the map |", "|---|---|"]
    lines += [f"| {name.replace('_', ' ')} | {said} |" for name, said in sentences.items()]
    return "\n".join(lines)


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        sys.exit(str(error))
