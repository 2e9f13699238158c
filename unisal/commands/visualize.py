"""Predictions beside the ground truth, to look at (spec 05, `visualize_examples`)."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from fractions import Fraction
from itertools import tee
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from unisal.commands.folders import check_frames, read_ahead
from unisal.config import PRETRAINED, find_run, run_dir
from unisal.data.pairs import LAYOUTS, Pair, find_pairs
from unisal.data.pictures import displayed_size, picture_size, read_grey, read_rgb
from unisal.errors import SomeFailed, UserError
from unisal.predict import Predictor, load
from unisal.predict.presets import IMAGE_PRESET, VIDEO_PRESET, find_preset
from unisal.visualize.panels import Panel, Size, compare, contact_sheet, side_by_side, thumbnails
from unisal.writing.maps import write_overlay
from unisal.writing.video_writer import VideoWriter, as_rate

N_PICTURES, OUT_DIRNAME, ALPHA, FPS = 12, "viz_out", 0.55, 30
PICTURE_ROOM, VIDEO_ROOM = (1024, 1024), (640, 640)
"""(height, width) that a panel of a picture and of a video has at most."""
SHEET = "contact_sheet"
SHAPE_TOLERANCE = 0.02
"""By how much a picture and its map may differ in width by height without a warning."""
MAX_NAMED = 5
"""Files that a message names."""
MAX_SEED = 2**32 - 1

log = logging.getLogger(__name__)


class Looks(NamedTuple):
    """How the panels are drawn: opacity of the heat maps at their maxima; labels or none."""

    alpha: float = ALPHA
    show_labels: bool = True


class Shown(NamedTuple):
    """What there is to show of one picture."""

    pair: Pair
    rgb: NDArray[np.uint8]
    truth: NDArray[np.float32] | None
    predictions: Mapping[str, NDArray[np.float32]]

    def panels(self, looks: Looks, room: Size) -> list[Panel]:
        """-> its panels, see `compare`."""
        return compare(self.rgb, self.truth, self.predictions, looks.alpha, room)


def visualize_examples(
    folder: Path,
    train_id: str | None = None,
    n: int = N_PICTURES,
    seed: int = 0,
    out_dirname: str = OUT_DIRNAME,
    alpha: float = ALPHA,
    show_labels: bool = True,
    source: str | None = None,
    sheet: bool = False,
    video: bool = False,
    fps: Fraction | float = FPS,
    device: str = "auto",
) -> None:
    """Write pictures with the ground truth and the maps of one or two models side by side.

    `<folder>/<out_dirname>/<stem>_viz.jpg` has these panels: the picture; the ground truth over
    it; the model's map over it, with lines around the ground truth; the same of
    `pretrained_unisal` where that exists and is not the model itself. Where the folder has no maps
    at all, the second panel and the lines are left out; where it has some, pictures
    without one are not drawn.

    Args:
        folder: pictures and maps, see `find_pairs`.
        train_id: the run whose weights to use.
        n: how many pictures to draw; all, where there are not so many.
        seed: of the choice of the pictures.
        out_dirname: name of the folder to write to.
        alpha: opacity of the heat maps at their maxima, 0 to 1.
        show_labels: write above the panels what they are.
        source: what the pictures are most like, see `unisal.predict.presets`. With a source of
            videos they are the frames of one.
        sheet: also write the panels of all drawn pictures in one, `contact_sheet_viz.jpg`.
        video: also write `<folder's name>_viz.mp4`: the panels of every picture, as frames.
        fps: its frames per second.
        device: where to run.

    Raises:
        UserError: an option is wrong, there is nothing to show, or a frame of a video or its map
            cannot be read.
        SomeFailed: some pictures or their maps could not be read; all others are done.
    """
    check_options(n, seed, alpha)
    rate = as_rate(fps)
    out = out_folder(folder, out_dirname)
    source = source or (VIDEO_PRESET if video else IMAGE_PRESET)
    as_video = find_preset(source).is_video or video
    pairs = find_pairs(folder)
    chosen = choose(pairs, n, seed, as_video)
    frames = pairs if video else pairs[: pairs.index(chosen[-1]) + 1]
    if as_video:
        check_video(frames)
    predictors = load_models(train_id, device, find_preset(source).fine_tuned)
    looks = Looks(alpha, show_labels)
    pictures = _Pictures(out, chosen, names_of(pairs), looks, sheet)
    if as_video:
        results = predict_frames(predictors, frames, source)
    else:
        results = predict_pictures(predictors, chosen, source, pictures.failed)
    with ExitStack() as stack:
        film = stack.enter_context(_Video(out, folder, looks, rate)) if video else None
        for shown in results:
            pictures.add(shown)
            if film:
                film.add(shown)
    if film:
        print(f"a video in {film.path}")
    pictures.finish()


def check_options(n: Any, seed: Any, alpha: Any) -> None:
    """Raise UserError where a number makes no sense; names it."""
    for name, value, low, high in (("n", n, 1, np.inf), ("seed", seed, 0, MAX_SEED)):
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            limits = f"from {low} to {high}" if high < np.inf else f"of at least {low}"
            raise UserError(f"{name} is {value!r}; it has to be a whole number {limits}")
    if not isinstance(alpha, int | float) or isinstance(alpha, bool) or not 0 <= alpha <= 1:
        raise UserError(f"alpha is {alpha!r}; it has to be a number from 0 to 1")


def out_folder(folder: Path, name: str) -> Path:
    """-> the folder to write to.

    Raises:
        UserError: `name` is not that of a folder inside `folder`, or is that of one that is read.
    """
    read = [part for layout in LAYOUTS for part in layout]
    if Path(name).name != name or name in ("", "..") or name in read:
        raise UserError(
            f"out_dirname is {name!r}; it has to be the name of a folder in {folder}, "
            f"other than {', '.join(read)}"
        )
    return folder / name


def choose(pairs: Sequence[Pair], n: int, seed: int, as_video: bool = False) -> list[Pair]:
    """-> `n` of the pictures that have a map (of all, where none has) in their order, drawn by a
    generator of its own. Those without are named in a warning."""
    with_map = [pair for pair in pairs if pair.map]
    without = [pair.image.name for pair in pairs if not pair.map]
    where = pairs[0].image.parent
    if not with_map:
        log.warning("no maps belong to the pictures in %s: no ground truth is shown", where)
    elif without:
        names = ", ".join(without[:MAX_NAMED]) + ", ..." * (len(without) > MAX_NAMED)
        so = "are shown without ground truth" if as_video else "are left out"
        log.warning("%d pictures in %s have no map and %s: %s", len(without), where, so, names)
    candidates = with_map or pairs
    drawn = np.random.RandomState(seed).permutation(len(candidates))[:n]
    return [candidates[i] for i in sorted(drawn)]


def check_video(frames: Sequence[Pair]) -> None:
    """Look at the headers of a video's frames and maps.

    Raises:
        UserError: one is no picture, or the frames differ in size; names it.
    """
    check_frames([frame.image for frame in frames])
    for frame in frames:
        if frame.map:
            picture_size(frame.map)
    warn_of_shape(next((frame for frame in frames if frame.map), frames[0]))


def load_models(train_id: str | None, device: str, fine_tuned: bool) -> dict[str, Predictor]:
    """-> the model by its name, and the shipped one where it exists and is another."""
    names = [train_id or PRETRAINED]
    shipped = find_run(PRETRAINED)
    if shipped is not None and shipped.resolve() != run_dir(train_id).resolve():
        names.append(PRETRAINED)
    return {str(name): load(name, device, fine_tuned) for name in names}


def predict_pictures(
    predictors: Mapping[str, Predictor], pairs: Sequence[Pair], source: str, failed: list[str]
) -> Iterator[Shown]:
    """Predict pictures one by one; the names of those that cannot be read are added to `failed`."""
    domain = find_preset(source).domain
    domains = {name: predictor.engine.domain(domain) for name, predictor in predictors.items()}
    for pair in tqdm(pairs, unit="image", disable=None):
        try:
            rgb = read_rgb(pair.image)
            truth = read_grey(pair.map) if pair.map else None
        except UserError as error:
            failed.append(pair.image.name)
            log.error("%s", error)
            continue
        warn_of_shape(pair)
        predictions = {
            name: predictor.image(rgb, domain=domains[name])
            for name, predictor in predictors.items()
        }
        yield Shown(pair, rgb, truth, predictions)


def predict_frames(
    predictors: Mapping[str, Predictor], frames: Sequence[Pair], source: str
) -> Iterator[Shown]:
    """Predict the frames of a video in order; where only some have a map, it is zero elsewhere.

    Raises:
        UserError: a frame or its map is damaged.
    """
    # Each frame is decoded once; the models run side by side, so few are kept at a time.
    *for_models, for_show = tee(read_ahead(f.image for f in frames), len(predictors) + 1)
    videos = [
        p.video(rgbs, source) for p, rgbs in zip(predictors.values(), for_models, strict=True)
    ]
    has_maps = any(frame.map for frame in frames)
    bar = tqdm(frames, unit="frame", disable=None)
    for pair, rgb, *densities in zip(bar, for_show, *videos, strict=True):
        nothing = np.zeros(rgb.shape[:2], np.float32) if has_maps else None
        truth = read_grey(pair.map) if pair.map else nothing
        yield Shown(pair, rgb, truth, dict(zip(predictors, densities, strict=True)))


def warn_of_shape(pair: Pair) -> None:
    """Warn where a map is not of the same shape as its picture, since it is then distorted."""
    if pair.map is None:
        return
    (height, width), (map_height, map_width) = displayed_size(pair.image), picture_size(pair.map)
    if abs(width * map_height / (height * map_width) - 1) > SHAPE_TOLERANCE:
        log.warning(
            "%s is %d x %d, its picture %s %d x %d (height x width): it is stretched to fit",
            *(pair.map, map_height, map_width, pair.image.name, height, width),
        )


def names_of(pairs: Sequence[Pair]) -> dict[Path, str]:
    """-> what the file of each picture is called: by its stem, or whole name where two would be
    the same."""
    images = [pair.image for pair in pairs]
    same = Counter([SHEET, *(image.stem for image in images)])
    return {image: image.stem if same[image.stem] == 1 else image.name for image in images}


class _Pictures:
    """Writes the `_viz.jpg` files: one for each chosen picture, and the sheet if it is wanted."""

    def __init__(
        self,
        out: Path,
        chosen: Sequence[Pair],
        names: Mapping[Path, str],
        looks: Looks,
        sheet: bool,
    ) -> None:
        self.out, self.looks, self.sheet = out, looks, sheet
        self.names = {pair.image: names[pair.image] for pair in chosen}
        self.failed: list[str] = []
        self.rows: list[tuple[str, list[Panel]]] = []
        self.n_done = 0

    def add(self, shown: Shown) -> None:
        """Write the file of a picture if it is a chosen one."""
        name = self.names.get(shown.pair.image)
        if name is None:
            return
        panels = shown.panels(self.looks, PICTURE_ROOM)
        write_overlay(self.out / f"{name}_viz.jpg", side_by_side(panels, self.looks.show_labels))
        self.n_done += 1
        if self.sheet:
            self.rows.append((name, thumbnails(panels, len(self.names))))

    def finish(self) -> None:
        """Write the sheet and say what was done, and what was not."""
        if self.rows:
            names, rows = zip(*self.rows, strict=True)
            pixels = contact_sheet(rows, names, self.looks.show_labels)
            write_overlay(self.out / f"{SHEET}_viz.jpg", pixels)
        print(f"{self.n_done} pictures in {self.out}" + ", a contact sheet" * bool(self.rows))
        if self.failed:
            raise SomeFailed(
                f"{len(self.failed)} of {len(self.names)} pictures or their maps could not be "
                f"read: {', '.join(self.failed)}"
            )


class _Video(ExitStack):
    """Writes `<folder's name>_viz.mp4`; it is complete when the `with` block ends."""

    def __init__(self, out: Path, folder: Path, looks: Looks, rate: Fraction) -> None:
        super().__init__()
        self.path = out / f"{folder.resolve().name}_viz.mp4"
        self.looks, self.rate = looks, rate
        self.writer: VideoWriter | None = None

    def add(self, shown: Shown) -> None:
        """Add a frame: the panels side by side."""
        rgb = side_by_side(shown.panels(self.looks, VIDEO_ROOM), self.looks.show_labels)
        if self.writer is None:
            size = rgb.shape[0], rgb.shape[1]
            self.writer = self.enter_context(VideoWriter(self.path, self.rate, size))
        self.writer.write(rgb)
