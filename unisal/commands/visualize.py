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
from PIL import Image

from unisal.checks import check_count, check_number
from unisal.commands.frames import check_frames, read_frames
from unisal.commands.left_out import first_names, warn_of_no_pictures
from unisal.commands.places import prepare_folder, until_lost
from unisal.commands.progress import TERMINAL
from unisal.config import PRETRAINED, find_run, run_dir
from unisal.data.pairs import LAYOUTS, Pair, find_pairs
from unisal.data.picture_kinds import list_files
from unisal.data.pictures import displayed_size, picture_size, read_grey, read_rgb
from unisal.data.splits import MAX_SEED
from unisal.errors import SomeFailed, UserError
from unisal.files import derived_name
from unisal.inference.densities import to_density
from unisal.inference.runtime import Frame
from unisal.predict import Predictor, load
from unisal.predict.presets import (
    VIDEO_PRESET,
    Preset,
    default_preset,
    find_preset,
    run_presets,
)
from unisal.types import RGB, Density, Size
from unisal.visualize.panels import Panel, compare, contact_sheet, join_panels, thumbnails
from unisal.writing.formats import distinct_names
from unisal.writing.maps import write_overlay
from unisal.writing.video_writer import VideoWriter, as_rate

MAX_PICTURE_SIZE, MAX_VIDEO_SIZE = (1024, 1024), (640, 640)
"""The largest (height, width) of a panel of a picture and of a video."""
SHEET_NAME = "contact_sheet"
"""Name of the contact sheet's file, without its ending."""
SHAPE_TOLERANCE = 0.02
"""By what fraction the aspect ratios of a picture and its map may differ without a warning."""

log = logging.getLogger(__name__)


class PanelStyle(NamedTuple):
    """How the panels are drawn."""

    alpha: float
    """Opacity of the heat maps at their maxima, from 0 to 1."""
    show_labels: bool


class ShownPicture(NamedTuple):
    """A picture with everything that is shown for it."""

    pair: Pair
    rgb: RGB
    truth: NDArray[np.float32] | None
    predictions: Mapping[str, Density]
    """The predictions by the names of the models."""

    def panels(self, style: PanelStyle, max_size: Size) -> list[Panel]:
        """Draw its panels, see `compare`."""
        return compare(self.rgb, self.truth, self.predictions, style.alpha, max_size)


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
    model_domain: str | None,
    sheet: bool,
    video: bool,
    fps: Fraction | float,
    device: str,
) -> None:
    """Write pictures next to the ground truth and the maps of one or two models.

    `<folder>/<out_dirname>/<stem>_viz.jpg` has these panels: the picture; the ground truth over
    it; the model's map over it, with lines around the ground truth; and the same for
    `pretrained_unisal` if that exists and is not the model itself. If the folder has no maps at
    all, the second panel and the lines are left out; if it has some, pictures without one are not
    chosen.

    Args:
        folder: pictures and maps, see `find_pairs`.
        train_id: the run whose weights to use.
        n: number of pictures to draw; all if there are fewer.
        seed: selects the pictures; another seed draws others.
        out_dirname: name of the folder to write to.
        alpha: opacity of the heat maps at their maxima, from 0 to 1.
        show_labels: whether to write labels above the panels.
        source: the name of the preset, see `unisal.predict.presets`. With a preset for videos the
            pictures are the frames of one.
        model_domain: the network domain to use; None for the preset's.
        sheet: whether to write the panels of all drawn pictures into a single one as well,
            `contact_sheet_viz.jpg`.
        video: whether to write `<folder's name>_viz.mp4` as well, whose frames are the panels of
            every picture.
        fps: frames per second of that video.
        device: where to run the network.

    Raises:
        UserError: an option is wrong, there is nothing to show, or a frame of a video or its map
            cannot be read.
        SomeFailed: some pictures or their maps could not be read; all others are done.
    """
    check_options(n, seed, alpha)
    rate = as_rate(fps)
    out = out_folder(folder, out_dirname)
    source = source or default_preset(train_id, video)
    preset = find_preset(source, own=run_presets(train_id))
    preset = preset._replace(domain=model_domain or preset.domain)
    as_video = preset.is_video or video
    pairs = find_pairs(folder)
    prepare_folder(out, "choose another folder with --out_dirname")
    images = pairs[0].image.parent
    warn_of_no_pictures(images, list_files(images))
    chosen = choose(pairs, n, seed, as_video)
    frames = pairs if video else pairs[: pairs.index(chosen[-1]) + 1]
    size = check_video(frames) if as_video else None
    predictors = load_models(train_id, device, preset.fine_tuned)
    style = PanelStyle(alpha, show_labels)
    names = distinct_names([pair.image for pair in pairs], taken=[SHEET_NAME])
    pictures = PictureFiles(out, {pair.image: names[pair.image] for pair in chosen}, style, sheet)
    if size is not None:
        results = show_frames(predictors, frames, size, preset)
    else:
        results = show_pictures(predictors, chosen, preset.domain, pictures.fail)
    done = lambda: f"{pictures.n_done} of {len(chosen)} pictures"  # noqa: E731
    with until_lost(out, done, "make room and repeat the command"), ExitStack() as stack:
        film = stack.enter_context(_Video(out, folder, style, rate)) if video else None
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
        UserError: one is not allowed; names it.
    """
    check_count(n, "n")
    check_count(seed, "seed", smallest=0, largest=MAX_SEED)
    check_number(alpha, "alpha", largest=1)


def out_folder(folder: Path, name: str) -> Path:
    """Return the folder to write to.

    Raises:
        UserError: `name` is not the name of a folder inside `folder`, or is that of a folder that
            is read.
    """
    read = [part for layout in LAYOUTS for part in layout]
    if Path(name).name != name or name in ("", "..") or name in read:
        raise UserError(
            f"out_dirname is {name!r}; it has to be the name of a folder in {folder}, "
            f"other than {', '.join(read)}"
        )
    return folder / name


def choose(pairs: Sequence[Pair], n: int, seed: int, as_video: bool = False) -> list[Pair]:
    """Draw pictures to show, and warn of those without a map.

    Args:
        pairs: pictures with and without maps.
        n: number of pictures to draw; all if there are fewer.
        seed: seed of a random generator of its own.
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
        names = first_names(without)
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
    """Load a model, and the shipped one if it exists and is another; return them by name."""
    names = [train_id or PRETRAINED]
    shipped = find_run(PRETRAINED)
    if shipped is not None and shipped.resolve() != run_dir(train_id).resolve():
        names.append(PRETRAINED)
    return {str(name): load(name, device, fine_tuned) for name in names}


def known_domains(
    predictors: Mapping[str, Predictor], domain: str, is_video: bool = False
) -> dict[str, str]:
    """Return the network domain that each model uses.

    Args:
        predictors: the models by their names; the first is the one that was asked for.
        domain: what was asked for. A run that the first is compared with may not have it, and then
            uses that of its default preset.
        is_video: whether that is the one for videos.
    """
    known = {}
    for place, (name, predictor) in enumerate(predictors.items()):
        has_it = place == 0 or domain in predictor.engine.sources
        usual = VIDEO_PRESET if is_video else predictor.image_preset
        own = domain if has_it else find_preset(usual, own=predictor.presets).domain
        known[name] = predictor.engine.domain(own)
    return known


def show_pictures(
    predictors: Mapping[str, Predictor],
    pairs: Sequence[Pair],
    domain: str,
    on_error: Callable[[Pair, UserError], None],
) -> Iterator[ShownPicture]:
    """Predict pictures one by one.

    Args:
        predictors: the models by their names.
        pairs: the pictures and maps.
        domain: the network domain to use.
        on_error: called for a picture that cannot be read; the work continues with the next one.
    """
    domains = known_domains(predictors, domain)
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
                yield ShownPicture(pair, rgb, truth, predictions)
            bar.update()


def show_frames(
    predictors: Mapping[str, Predictor], frames: Sequence[Pair], size: Size, preset: Preset
) -> Iterator[ShownPicture]:
    """Predict the frames of a video in order.

    Args:
        predictors: the models by their names.
        frames: the frames and maps. If only some frames have a map, it is zero for the others.
        size: (height, width) of the frames.
        preset: how to predict them.

    Raises:
        UserError: a frame or its map is damaged.
    """
    pairs = {frame.image: frame for frame in frames}
    workers = max(predictor.engine.video_workers for predictor in predictors.values())

    def as_shown(path: Path, image: Image.Image) -> ShownPicture:
        return ShownPicture(pairs[path], np.asarray(image), None, {})

    input_size = preset.input_size_for(size)
    shown: Iterator[tuple[ShownPicture, Frame]]
    shown = read_frames(list(pairs), size, input_size, workers, key=as_shown)
    domains = known_domains(predictors, preset.domain, preset.is_video)
    for name, predictor in predictors.items():
        shown = _with_model(shown, name, predictor, size, domains[name], preset.frame_step)
    nothing = np.zeros(size, np.float32) if any(frame.map for frame in frames) else None
    with TERMINAL.bar("", "frame", len(frames)) as bar:
        for frame, _ in shown:
            pair = frame.pair
            yield frame._replace(truth=read_grey(pair.map) if pair.map else nothing)
            bar.update()


def _with_model(
    frames: Iterable[tuple[ShownPicture, Frame]],
    name: str,
    predictor: Predictor,
    size: Size,
    domain: str,
    frame_step: int,
) -> Iterator[tuple[ShownPicture, Frame]]:
    """Add a model's predictions to frames; what the network took is passed on to the next model."""
    keyed = (((shown, x), x) for shown, x in frames)
    for prediction in predictor.log_densities(keyed, size, domain, frame_step):
        shown, x = prediction.key
        density = to_density(prediction.log_density)
        yield shown._replace(predictions={**shown.predictions, name: density}), x


def warn_of_shape(pair: Pair) -> None:
    """Warn if a map's aspect ratio differs from its picture's, since the map is then distorted."""
    if pair.map is None:
        return
    (height, width), (map_height, map_width) = displayed_size(pair.image), picture_size(pair.map)
    if abs(width * map_height / (height * map_width) - 1) > SHAPE_TOLERANCE:
        log.warning(
            "%s is %d x %d, its picture %s %d x %d (height x width): it is stretched to fit",
            *(pair.map, map_height, map_width, pair.image.name, height, width),
        )


class PictureFiles:
    """Writes the `_viz.jpg` files: one for each chosen picture, and the contact sheet."""

    def __init__(
        self, out: Path, names: Mapping[Path, str], style: PanelStyle, sheet: bool
    ) -> None:
        self.out, self.names, self.style, self.sheet = out, names, style, sheet
        self.failed: list[str] = []
        self.rows: list[tuple[str, list[Panel]]] = []
        self.n_done = 0

    def add(self, shown: ShownPicture) -> None:
        """Write the file of a picture if it was chosen."""
        name = self.names.get(shown.pair.image)
        if name is None:
            return
        panels = shown.panels(self.style, MAX_PICTURE_SIZE)
        path = self.out / derived_name(name, "_viz.jpg")
        write_overlay(path, join_panels(panels, self.style.show_labels))
        self.n_done += 1
        if self.sheet:
            self.rows.append((name, thumbnails(panels, len(self.names))))

    def fail(self, pair: Pair, error: UserError) -> None:
        """Report a picture that cannot be read."""
        self.failed.append(pair.image.name)
        log.error("%s", error)

    def finish(self) -> None:
        """Write the sheet, and report what was done and what failed."""
        if self.rows:
            names, rows = zip(*self.rows, strict=True)
            pixels = contact_sheet(rows, names, self.style.show_labels)
            write_overlay(self.out / f"{SHEET_NAME}_viz.jpg", pixels)
        print(f"{self.n_done} pictures in {self.out}" + ", a contact sheet" * bool(self.rows))
        if self.failed:
            raise SomeFailed(
                f"{len(self.failed)} of {len(self.names)} pictures or their maps could not be "
                f"read: {', '.join(self.failed)}"
            )


class _Video(ExitStack):
    """Writes `<folder's name>_viz.mp4`; it is complete when the `with` block ends."""

    def __init__(self, out: Path, folder: Path, style: PanelStyle, rate: Fraction) -> None:
        super().__init__()
        self.path = out / derived_name(folder.resolve().name, "_viz.mp4")
        self.style, self.rate = style, rate
        self.writer: VideoWriter | None = None

    def add(self, shown: ShownPicture) -> None:
        """Add a frame: the panels in a row."""
        rgb = join_panels(shown.panels(self.style, MAX_VIDEO_SIZE), self.style.show_labels)
        if self.writer is None:
            size = rgb.shape[0], rgb.shape[1]
            self.writer = self.enter_context(VideoWriter(self.path, self.rate, size))
        self.writer.write(rgb)
