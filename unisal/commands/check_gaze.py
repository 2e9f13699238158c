"""`check_data --data`: what a folder of gaze data holds, and a page of examples to look at."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from unisal.checks import check_count
from unisal.commands.check_data import check_data
from unisal.commands.progress import TERMINAL
from unisal.data import GazeSource, SaliencyDataset, find_dataset
from unisal.data.transforms import resize_rgb
from unisal.data.video_file import VideoFile
from unisal.errors import SomeFailed, UserError
from unisal.files import require_writable_file
from unisal.types import RGB
from unisal.visualize.difference import draw_fixations
from unisal.visualize.overlay import draw_overlay, scale_to_peak
from unisal.visualize.panels import Panel, contact_sheet, resize, shrink
from unisal.writing.maps import write_overlay

PANEL_SIZE = 360, 480
"""The largest (height, width) of a panel of the page."""
PAGE_SUFFIXES = (".png", ".jpg", ".jpeg")
ENLARGED = 3
"""By how much small stimuli are enlarged, at most, so that the dots can be told apart."""


def check_gaze(
    *, sources: Sequence[str], quick: bool, max_shown: int, out: Path | None, n: int
) -> None:
    """Inspect sources, among them folders of gaze data, and draw a page of examples of these.

    Args:
        sources: names of sources, and NAME=PATH for folders of gaze data.
        quick: whether to read only the headers of files.
        max_shown: the number of problems that are listed per source.
        out: where to write the page; None for `<name>_examples.png` in the working directory.
        n: how many examples it shows.

    Raises:
        UserError: a folder cannot be read at all, or an option is wrong.
        SomeFailed: there are problems; they have been printed.
    """
    check_count(n, "n")
    if out is not None and out.suffix.lower() not in PAGE_SUFFIXES:
        raise UserError(f"out is {out}; its name has to end in {', '.join(PAGE_SUFFIXES)}")
    own = [cls for s in sources if issubclass(cls := find_dataset(s), GazeSource)]
    pages = {cls: out or Path.cwd() / f"{cls.source}_examples.png" for cls in own}
    for page in pages.values():
        require_writable_file(page, "name another file with --out")
    for cls, page in pages.items():
        cls.read(progress=TERMINAL)
        print("\n".join(describe(cls)))
        try:
            write_overlay(page, draw_page(cls, n))
        except OSError as error:
            raise UserError(
                f"{page} cannot be written: {error}; name another file: --out"
            ) from None
        print(f"  a page of examples: {page}")
    faults = [fault for cls in own if not quick for fault in film_faults(cls)]
    for fault in faults[:max_shown]:
        print(f"    {fault}")
    pictures = [source for source in sources if not _of_video_files(find_dataset(source))]
    if pictures:
        check_data(sources=pictures, quick=quick, max_shown=max_shown)
    if faults:
        raise SomeFailed(f"{len(faults)} films are damaged")


def _of_video_files(cls: type[SaliencyDataset]) -> bool:
    """Return whether the stimuli are video files, which are looked at here."""
    return issubclass(cls, GazeSource) and any(not film.pictures for film in cls.read().films)


def describe(cls: type[GazeSource]) -> list[str]:
    """Return what to print of a folder of gaze data."""
    data = cls.read()
    looks = np.diff(data.first)
    seen = int((looks > 0).sum())
    what = "films" if data.is_video else "pictures"
    kind = "samples of gaze" if data.of_samples else "fixations"
    people = f" of {len(data.observers)} people" if data.observers else ""
    lines = [
        f"{cls.source}: {data.place.table.name} in {data.place.folder}",
        f"{len(data.fixations):,} {kind}{people} on {seen} of {len(looks)} {what}, "
        f"{np.median(looks[looks > 0]):.0f} on each (median)",
        *data.report.lines(),
    ]
    if seen < len(looks):
        lines.append(f"{len(looks) - seen} {what} that nobody looked at are left out")
    parts = {cls.part(phase): len(data.splits.part(phase)) for phase in cls.phases}
    lines.append("parts: " + ", ".join(f"{name} {n}" for name, n in parts.items()))
    other = "" if cls.names_domain or cls.is_video else ", or what a run has for other pictures"
    lines.append(f"domain: {cls.domain}{other}")
    return [lines[0], *(f"  {line}" for line in lines[1:])]


def draw_page(cls: type[GazeSource], n: int) -> RGB:
    """Draw stimuli, evenly spread, with their fixations and maps.

    Args:
        cls: the source.
        n: how many stimuli.

    Returns:
        `[H, W, 3] uint8`.
    """
    dataset = cls.from_options({}, phase="test")
    assert isinstance(dataset, GazeSource)
    looked_at = [i for i in range(len(dataset.lengths())) if len(dataset.fixations(i))]
    chosen = np.unique(np.linspace(0, len(looked_at) - 1, min(n, len(looked_at))).astype(int))
    rows, names = [], []
    for index in (looked_at[i] for i in chosen):
        number = dataset.middle(index)
        rgb = _fitted(dataset.read_picture(index, number))
        size = rgb.shape[0], rgb.shape[1]
        density = resize(dataset.density(index, number=number), size)
        fixated = dataset.fixation_map(index, number=number)
        rows.append(
            [
                Panel(rgb, "Stimulus"),
                Panel(draw_fixations(rgb, fixated), "Fixations"),
                Panel(draw_overlay(rgb, scale_to_peak(density)), "Map"),
            ]
        )
        names.append(dataset.title(index) + (f", frame {number}" if dataset.is_video else ""))
    return contact_sheet(rows, names)


def _fitted(rgb: RGB) -> RGB:
    """Return a picture as large as its panel."""
    height, width = rgb.shape[:2]
    scale = min(ENLARGED, PANEL_SIZE[0] / height, PANEL_SIZE[1] / width)
    if scale <= 1:
        return shrink(rgb, PANEL_SIZE)
    return resize_rgb(rgb, (round(height * scale), round(width * scale)))


def film_faults(cls: type[GazeSource]) -> list[str]:
    """Decode all video files and return what is wrong with them."""
    films = [film for film in cls.read().films if not film.pictures]
    faults = []
    with TERMINAL.bar(f"check {cls.source}", "film", len(films), keep=False) as bar:
        for film in films:
            try:
                with VideoFile(film.path) as video:
                    n_frames = sum(1 for _ in video)
                    damage = video.damage
                if damage or n_frames != film.n_frames:
                    said = f"{film.path}: {n_frames} of {film.n_frames} frames can be decoded"
                    faults.append(damage or said)
            except UserError as error:
                faults.append(str(error))
            bar.update()
    return faults
