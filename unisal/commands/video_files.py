"""Predicting video files as they are: `predict_video`."""

from __future__ import annotations

import glob
import logging
from collections.abc import Generator, Iterable, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import av
from tqdm import tqdm

from unisal.checks import check_count
from unisal.data.video_file import VIDEO_SUFFIXES, VideoFile
from unisal.errors import SomeFailed, UserError
from unisal.inference.densities import to_density
from unisal.model.unisal import Features
from unisal.predict import Predictor, load
from unisal.predict.inputs import prepare
from unisal.predict.presets import VIDEO_PRESET, Preset, find_preset
from unisal.predict.smooth import median_over_time, smoothing_window
from unisal.threads import Behind, drawn_ahead
from unisal.writing.video_outputs import (
    Output,
    Prediction,
    densities_h5,
    densities_npz,
    features_h5,
    map_pictures,
    overlay_video,
)

OUT_FOLDER = "saliency"
"""Beside the videos, where no other folder is named."""
MAP_KINDS: dict[str, tuple[str, Output]] = {
    "png": ("_maps", map_pictures),
    "png16": ("_maps16", partial(map_pictures, sixteen_bit=True)),
    "npz": ("_densities.npz", densities_npz),
    "h5": ("_densities.h5", densities_h5),
}
"""What maps can be written as, with the end of the file's name."""
READ_AHEAD = WRITE_BEHIND = 4
"""Frames that wait between decoding and the network, and between it and each file."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class VideoOptions:
    """How videos are predicted and what is written of them, see `predict_video` in `run.py`."""

    out_dir: Path | None = None
    source: str = VIDEO_PRESET
    model_domain: str | None = None
    overlay: bool = True
    maps: str | None = None
    """A key of `MAP_KINDS`."""
    features: str | None = None
    frame_step: int | None = None
    smooth_method: str | None = None
    overwrite: bool = False

    def __post_init__(self) -> None:
        find_preset(self.source)
        smoothing_window(self.smooth_method)
        if self.frame_step is not None:
            check_count(self.frame_step, "frame_step")
        if self.features is not None and self.features not in Features._fields:
            names = ", ".join(Features._fields)
            raise UserError(f"features is {self.features!r}; there are {names}")
        if not (self.overlay or self.maps or self.features):
            raise UserError("there is nothing to write: overlay, maps and features are all off")

    @property
    def kind(self) -> Preset:
        return find_preset(self.source)

    def outputs(self, path: Path) -> dict[Path, Output]:
        """-> what is written of a video: files and folders, and what writes each."""
        folder = path.parent / OUT_FOLDER if self.out_dir is None else self.out_dir
        chosen: dict[Path, Output] = {}
        if self.overlay:
            chosen[folder / f"{path.stem}_overlay.mp4"] = overlay_video
        if self.maps:
            ending, output = MAP_KINDS[self.maps]
            chosen[folder / (path.stem + ending)] = output
        if self.features:
            writer: Output = partial(features_h5, name=self.features)
            chosen[folder / f"{path.stem}_features_{self.features}.h5"] = writer
        return chosen


def map_kind(maps: Any) -> str | None:
    """What was asked for -> a key of `MAP_KINDS`, or None for no maps.

    Raises:
        UserError: it is something else than True, False or a key.
    """
    if maps is True:
        return "png"
    if maps is False or maps is None:
        return None
    if not isinstance(maps, str) or maps not in MAP_KINDS:
        raise UserError(f"maps is {maps!r}; it has to be True or one of {', '.join(MAP_KINDS)}")
    return maps


def predict_videos(
    video_path: str, options: VideoOptions, train_id: str | None = None, device: str = "auto"
) -> None:
    """Predict a video file, all of a folder, or all that a pattern such as `clips/*.mp4` fits.

    What is done already is left alone. Frames are decoded, predicted and encoded at the same
    time; none is kept, in memory or in a folder, after its turn.

    Raises:
        UserError: there is no such video, or the only one cannot be read.
        SomeFailed: some of several could not be read or predicted; all others are done.
    """
    paths = find_videos(video_path, options)
    check_names(paths, options)
    jobs = {path: todo for path in paths if (todo := _to_do(path, options))}
    lengths, failed = _look_into(jobs)
    notes: list[str] = []
    if lengths:
        predictor = load(train_id, device, options.kind.fine_tuned)
        with _progress(lengths.values()) as bar:
            for path in lengths:
                bar.set_description(path.name)
                try:
                    damage = predict_file(predictor, path, jobs[path], options, bar)
                    notes += [damage] if damage else []
                except (UserError, av.FFmpegError) as error:
                    failed[path] = error
    for note in notes:
        log.warning("%s", note)
    _say_done([path for path in lengths if path not in failed], jobs, len(paths) - len(jobs))
    if failed:
        _say_failed(failed, len(paths))


def predict_file(
    predictor: Predictor,
    path: Path,
    outputs: Mapping[Path, Output],
    options: VideoOptions,
    bar: tqdm[Any] | None = None,
) -> str | None:
    """Predict one video and write its outputs, each in a thread of its own.

    Returns:
        What was wrong with the file, see `VideoFile.damage`.

    Raises:
        UserError: it cannot be read, or a prediction is not finite. Nothing is left of its outputs.
    """
    with ExitStack() as stack:
        video = stack.enter_context(VideoFile(path))
        writes = [stack.enter_context(output(at, video)) for at, output in outputs.items()]
        threads = [stack.enter_context(Behind(write, WRITE_BEHIND)) for write in writes]
        predictions = stack.enter_context(closing(predict_frames(predictor, video, options)))
        for prediction in predictions:
            for thread in threads:
                thread.put(prediction)
            if bar is not None:
                bar.update()
    return video.damage


def predict_frames(
    predictor: Predictor, video: VideoFile, options: VideoOptions
) -> Generator[Prediction, None, None]:
    """Predict the frames of a video, which are decoded and resized a little ahead."""
    kind = options.kind
    step = options.frame_step or kind.frame_step_for(video.rate)
    domain = predictor.engine.domain(options.model_domain or kind.domain)
    input_size = kind.input_size_for(video.size)
    prepared = ((frame, prepare(frame.rgb, input_size)) for frame in video)
    with closing(drawn_ahead(prepared, READ_AHEAD)) as inputs:
        predictions = predictor.log_densities(
            inputs, video.size, domain, step, with_features=options.features is not None
        )
        keyed = (((p.key, p.features), p.log_density) for p in predictions)
        window = smoothing_window(options.smooth_method)
        for (frame, features), log_density in median_over_time(keyed, window):
            yield Prediction(frame, to_density(log_density), features)


def find_videos(video_path: str, options: VideoOptions) -> list[Path]:
    """-> the file itself; or the videos in a folder; or the files that a pattern fits, in sorted
    order. What an earlier call has written of them is left out.

    Raises:
        UserError: there are none.
    """
    path = Path(video_path)
    if path.is_file():
        return [path]
    if path.is_dir():
        found = [
            p for p in path.iterdir() if p.suffix.lower() in VIDEO_SUFFIXES and p.name[0] != "."
        ]
    elif glob.has_magic(video_path):
        names = glob.glob(video_path, recursive=True)  # noqa: PTH207  # absolute patterns too
        found = [p for p in map(Path, names) if p.is_file()]
    else:
        raise UserError(f"{path} does not exist")
    written = {output for p in found for output in options.outputs(p)}
    found = sorted(p for p in found if not written & {p, *p.parents})
    if not found:
        kinds = f" ({', '.join(VIDEO_SUFFIXES)})" if path.is_dir() else ""
        raise UserError(f"there is no video in {path}{kinds}")
    return found


def check_names(paths: Sequence[Path], options: VideoOptions) -> None:
    """Two videos may not be written to one place.

    Raises:
        UserError: names the two and the place.
    """
    writers: dict[Path, Path] = {}
    for path in paths:
        for output in options.outputs(path):
            other = writers.setdefault(output, path)
            if other != path:
                raise UserError(
                    f"{other} and {path} would both be written to {output}; "
                    "predict them one by one, with an out_dir each"
                )


def _to_do(path: Path, options: VideoOptions) -> dict[Path, Output]:
    """-> the outputs of a video that are not there yet."""
    outputs = options.outputs(path)
    return {at: out for at, out in outputs.items() if options.overwrite or not at.exists()}


def _look_into(paths: Iterable[Path]) -> tuple[dict[Path, int | None], dict[Path, Exception]]:
    """-> about how many frames each video has, and those that cannot be read, with the reason."""
    lengths: dict[Path, int | None] = {}
    failed: dict[Path, Exception] = {}
    for path in paths:
        try:
            with VideoFile(path) as video:
                lengths[path] = video.n_frames
        except (UserError, av.FFmpegError) as error:
            failed[path] = error
    return lengths, failed


def _progress(lengths: Iterable[int | None]) -> tqdm[Any]:
    known = [n for n in lengths if n is not None]
    total = sum(known) if len(known) == len(list(lengths)) else None
    return tqdm(total=total, unit="frame", disable=None)


def _say_done(done: Sequence[Path], jobs: Mapping[Path, Iterable[Path]], n_before: int) -> None:
    for path in done:
        print(f"{path}: {', '.join(map(str, jobs[path]))}")
    if n_before:
        print(f"{n_before} done already and left alone; --overwrite=True predicts them again")


def _say_failed(failed: Mapping[Path, Exception], n_all: int) -> None:
    said = [str(e) if str(p) in str(e) else f"{p}: {e}" for p, e in failed.items()]
    if n_all == 1:
        raise UserError(said[0])
    for line in said:
        log.error("%s", line)
    names = ", ".join(str(path) for path in failed)
    raise SomeFailed(f"{len(failed)} of {n_all} videos could not be predicted: {names}")
