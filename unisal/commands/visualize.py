"""The command `visualize_examples`: predictions next to the ground truth, to look at.

See docs/behaviour.md, "Commands and files".
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from unisal.checks import check_count, check_number
from unisal.commands.frames import check_frames, read_frames
from unisal.commands.progress import TERMINAL
from unisal.config import PRETRAINED, find_run, run_dir
from unisal.data.pairs import LAYOUTS, Pair, find_pairs
from unisal.data.pictures import displayed_size, picture_size, read_grey, read_rgb
from unisal.errors import SomeFailed, UserError
from unisal.inference.densities import to_density
from unisal.predict import Predictor, load
from unisal.predict.presets import IMAGE_PRESET, VIDEO_PRESET, find_preset
from unisal.types import RGB, Density, Size
from unisal.visualize.panels import Panel, compare, contact_sheet, join_panels, thumbnails
from unisal.writing.formats import distinct_names
from unisal.writing.maps import write_overlay
from unisal.writing.video_writer import VideoWriter, as_rate

PICTURE_ROOM, VIDEO_ROOM = (1024, 1024), (640, 640)
"""(height, width) that a panel of a picture and of a video has at most."""
SHEET = "contact_sheet"
"""Name of the contact sheet, without its ending."""
SHAPE_TOLERANCE = 0.02
"""By how much the aspect ratios of a picture and its map may differ without a warning."""
MAX_NAMED = 5
"""Number of files that a message names."""
MAX_SEED = 2**32 - 1

log = logging.getLogger(__name__)


class Looks(NamedTuple):
    """How the panels are drawn."""

    alpha: float
    """Opacity of the heat maps at their maxima, from 0 to 1."""
    show_labels: bool


class Shown(NamedTuple):
    """What is shown of one picture."""

    pair: Pair
    rgb: RGB
    truth: NDArray[np.float32] | None
    predictions: Mapping[str, Density]
    """By the names of the models."""

    def panels(self, looks: Looks, room: Size) -> list[Panel]:
        """Draw its panels, see `compare`."""
        return compare(self.rgb, self.truth, self.predictions, looks.alpha, room)


def visualize_examples(
    *,
    folder: Path,
    train_id: str | None,
    n: int,
    seed: int,
    out_dirname: str,
    alpha: float,
    show_labels: bool,
    source: str | None,
    sheet: bool,
    video: bool,
    fps: Fraction | float,
    device: str,
) -> None:
    """Write pictures next to the ground truth and the maps of one or two models.

    `<folder>/<out_dirname>/<stem>_viz.jpg` has these panels: the picture; the ground truth over
    it; the model's map over it, with lines around the ground truth; and the same of
    `pretrained_unisal` if that exists and is not the model itself. If the folder has no maps at
    all, the second panel and the lines are left out; if it has some, pictures without one are not
    drawn.

    Args:
        folder: pictures and maps, see `find_pairs`.
        train_id: the run whose weights to use.
        n: number of pictures to draw; all if there are fewer.
        seed: of the choice of the pictures.
        out_dirname: name of the folder to write to.
        alpha: opacity of the heat maps at their maxima, from 0 to 1.
        show_labels: whether to write above the panels what they are.
        source: the name of the preset, see `unisal.predict.presets`. With a preset for videos the
            pictures are the frames of one.
        sheet: whether to write the panels of all drawn pictures in a single one as well,
            `contact_sheet_viz.jpg`.
        video: whether to write `<folder's name>_viz.mp4` as well: the panels of every picture, as
            frames.
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
    preset = find_preset(source)
    as_video = preset.is_video or video
    pairs = find_pairs(folder)
    chosen = choose(pairs, n, seed, as_video)
    frames = pairs if video else pairs[: pairs.index(chosen[-1]) + 1]
    size = check_video(frames) if as_video else None
    predictors = load_models(train_id, device, preset.fine_tuned)
    looks = Looks(alpha, show_labels)
    names = distinct_names([pair.image for pair in pairs], taken=[SHEET])
    pictures = _Pictures(out, {pair.image: names[pair.image] for pair in chosen}, looks, sheet)
    if size is not None:
        results = show_frames(predictors, frames, size, source)
    else:
        results = show_pictures(predictors, chosen, preset.domain, pictures.fail)
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
    """Check the numbers among the options.

    Raises:
        UserError: one makes no sense; names it.
    """
    check_count(n, "n")
    check_count(seed, "seed", smallest=0, largest=MAX_SEED)
    check_number(alpha, "alpha", largest=1)


def out_folder(folder: Path, name: str) -> Path:
    """Return the folder to write to.

    Raises:
        UserError: `name` is not that of a folder inside `folder`, or is that of a folder that is
            read.
    """
    read = [part for layout in LAYOUTS for part in layout]
    if Path(name).name != name or name in ("", "..") or name in read:
        raise UserError(
            f"out_dirname is {name!r}; it has to be the name of a folder in {folder}, "
            f"other than {', '.join(read)}"
        )
    return folder / name


def choose(pairs: Sequence[Pair], n: int, seed: int, as_video: bool = False) -> list[Pair]:
    """Draw pictures to show, and warn of those that have no map.

    Args:
        pairs: pictures with and without maps.
        n: number of pictures to draw; all if there are fewer.
        seed: of a random generator of its own.
        as_video: whether the pictures are shown as a video, for the warning.

    Returns:
        Pictures that have a map (any pictures if none has), in the order of `pairs`.
    """
    with_map = [pair for pair in pairs if pair.map]
    without = [pair.image.name for pair in pairs if not pair.map]
    folder = pairs[0].image.parent
    if not with_map:
        log.warning("no maps belong to the pictures in %s: no ground truth is shown", folder)
    elif without:
        names = ", ".join(without[:MAX_NAMED]) + ", ..." * (len(without) > MAX_NAMED)
        so = "are shown without ground truth" if as_video else "are left out"
        log.warning("%d pictures in %s have no map and %s: %s", len(without), folder, so, names)
    candidates = with_map or pairs
    drawn = np.random.RandomState(seed).permutation(len(candidates))[:n]
    return [candidates[i] for i in sorted(drawn)]


def check_video(frames: Sequence[Pair]) -> Size:
    """Check a video's frames and maps from their headers.

    Returns:
        The frames' (height, width).

    Raises:
        UserError: one is not a picture, or the frames differ in size; names it.
    """
    size = check_frames([frame.image for frame in frames])
    for frame in frames:
        if frame.map:
            picture_size(frame.map)
    warn_of_shape(next((frame for frame in frames if frame.map), frames[0]))
    return size


def load_models(train_id: str | None, device: str, fine_tuned: bool) -> dict[str, Predictor]:
    """Load a model, and the shipped one if it exists and is another; returned by their names."""
    names = [train_id or PRETRAINED]
    shipped = find_run(PRETRAINED)
    if shipped is not None and shipped.resolve() != run_dir(train_id).resolve():
        names.append(PRETRAINED)
    return {str(name): load(name, device, fine_tuned) for name in names}


def show_pictures(
    predictors: Mapping[str, Predictor],
    pairs: Sequence[Pair],
    domain: str,
    on_error: Callable[[Pair, UserError], None],
) -> Iterator[Shown]:
    """Predict pictures one by one.

    Args:
        predictors: the models by their names.
        pairs: the pictures and maps.
        domain: whose modules of the network to use.
        on_error: called for a picture that cannot be read; the others still follow.
    """
    domains = {name: predictor.engine.domain(domain) for name, predictor in predictors.items()}
    with TERMINAL.bar("", "image", len(pairs)) as bar:
        for pair in pairs:
            try:
                rgb = read_rgb(pair.image)
                truth = read_grey(pair.map) if pair.map else None
            except UserError as error:
                on_error(pair, error)
            else:
                warn_of_shape(pair)
                predictions = {
                    name: predictor.image(rgb, domain=domains[name])
                    for name, predictor in predictors.items()
                }
                yield Shown(pair, rgb, truth, predictions)
            bar.update()


def show_frames(
    predictors: Mapping[str, Predictor], frames: Sequence[Pair], size: Size, source: str
) -> Iterator[Shown]:
    """Predict the frames of a video in order.

    Args:
        predictors: the models by their names.
        frames: the frames and maps. If only some frames have a map, it is zero for the others.
        size: (height, width) of the frames.
        source: the name of the preset.

    Raises:
        UserError: a frame or its map is damaged.
    """
    preset = find_preset(source)
    pairs = {frame.image: frame for frame in frames}
    workers = max(predictor.engine.video_workers for predictor in predictors.values())
    read = read_frames(list(pairs), size, preset.input_size_for(size), workers)
    shown: Iterator[tuple[Shown, Tensor]] = (
        (Shown(pairs[frame.path], np.asarray(frame.image), None, {}), x) for frame, x in read
    )
    for name, predictor in predictors.items():
        domain = predictor.engine.domain(preset.domain)
        shown = _with_model(shown, name, predictor, size, domain, preset.frame_step)
    nothing = np.zeros(size, np.float32) if any(frame.map for frame in frames) else None
    with TERMINAL.bar("", "frame", len(frames)) as bar:
        for frame, _ in shown:
            pair = frame.pair
            yield frame._replace(truth=read_grey(pair.map) if pair.map else nothing)
            bar.update()


def _with_model(
    frames: Iterable[tuple[Shown, Tensor]],
    name: str,
    predictor: Predictor,
    size: Size,
    domain: str,
    frame_step: int,
) -> Iterator[tuple[Shown, Tensor]]:
    """Add a model's predictions to frames; what the network took is passed on to the next model."""
    keyed = (((shown, x), x) for shown, x in frames)
    for prediction in predictor.log_densities(keyed, size, domain, frame_step):
        shown, x = prediction.key
        density = to_density(prediction.log_density)
        yield shown._replace(predictions={**shown.predictions, name: density}), x


def warn_of_shape(pair: Pair) -> None:
    """Warn if a map has another aspect ratio than its picture, since it is then distorted."""
    if pair.map is None:
        return
    (height, width), (map_height, map_width) = displayed_size(pair.image), picture_size(pair.map)
    if abs(width * map_height / (height * map_width) - 1) > SHAPE_TOLERANCE:
        log.warning(
            "%s is %d x %d, its picture %s %d x %d (height x width): it is stretched to fit",
            *(pair.map, map_height, map_width, pair.image.name, height, width),
        )


class _Pictures:
    """Writes the `_viz.jpg` files: one for each chosen picture, and the sheet if it is wanted."""

    def __init__(self, out: Path, names: Mapping[Path, str], looks: Looks, sheet: bool) -> None:
        self.out, self.names, self.looks, self.sheet = out, names, looks, sheet
        self.failed: list[str] = []
        self.rows: list[tuple[str, list[Panel]]] = []
        self.n_done = 0

    def add(self, shown: Shown) -> None:
        """Write the file of a picture if it is a chosen one."""
        name = self.names.get(shown.pair.image)
        if name is None:
            return
        panels = shown.panels(self.looks, PICTURE_ROOM)
        write_overlay(self.out / f"{name}_viz.jpg", join_panels(panels, self.looks.show_labels))
        self.n_done += 1
        if self.sheet:
            self.rows.append((name, thumbnails(panels, len(self.names))))

    def fail(self, pair: Pair, error: UserError) -> None:
        """Report a picture that cannot be read."""
        self.failed.append(pair.image.name)
        log.error("%s", error)

    def finish(self) -> None:
        """Write the sheet and report what was done, and what was not."""
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
        """Add a frame: the panels in a row."""
        rgb = join_panels(shown.panels(self.looks, VIDEO_ROOM), self.looks.show_labels)
        if self.writer is None:
            size = rgb.shape[0], rgb.shape[1]
            self.writer = self.enter_context(VideoWriter(self.path, self.rate, size))
        self.writer.write(rgb)
