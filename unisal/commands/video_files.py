"""The command `predict_video`: predictions of video files."""

from __future__ import annotations

import glob
import logging
from collections.abc import Generator, Iterable, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from unisal.checks import check_count
from unisal.commands.frames import FRAMES_AHEAD
from unisal.commands.progress import TERMINAL
from unisal.data.video_file import VIDEO_SUFFIXES, VideoFile
from unisal.errors import SomeFailed, UserError, cause
from unisal.files import natural_order
from unisal.inference.densities import to_density
from unisal.model.unisal import Features
from unisal.predict import Predictor, load
from unisal.predict.inputs import prepare
from unisal.predict.presets import Preset, find_preset
from unisal.predict.smooth import median_over_time, smoothing_window
from unisal.progress import Bar
from unisal.threads import BackgroundWorker, drawn_ahead
from unisal.writing.formats import find_map_format
from unisal.writing.video_outputs import (
    Output,
    PredictedFrame,
    features_h5,
    map_output,
    overlay_video,
)

OUT_FOLDER = "saliency"
"""The folder beside the videos that is written to unless another one is named."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class VideoOptions:
    """How videos are predicted and what is written for them.

    Args:
        out_dir: the folder to write to; None for `saliency/` beside each video.
        source: the name of the preset, see `unisal.predict.presets`.
        model_domain: the network domain to use; None for the preset's.
        overlay: whether to write the frames with their maps overlaid.
        maps: a key of `unisal.writing.formats.MAP_FORMATS`; None for no maps.
        features: name of the features to write, see `unisal.model.unisal.Features`; None for none.
        frame_step: the distance between frames that the network sees as neighbours; None for the
            one nearest in time to the preset's.
        smooth_method: see `Predictor.video`.
        overwrite: whether to predict finished videos again.

    Raises:
        UserError: an option is wrong, or there is nothing to write.
    """

    out_dir: Path | None
    source: str
    model_domain: str | None
    overlay: bool
    maps: str | None
    features: str | None
    frame_step: int | None
    smooth_method: str | None
    overwrite: bool

    def __post_init__(self) -> None:
        find_preset(self.source)
        smoothing_window(self.smooth_method)
        if self.maps is not None:
            find_map_format(self.maps)
        if self.frame_step is not None:
            check_count(self.frame_step, "frame_step")
        if self.features is not None and self.features not in Features._fields:
            names = ", ".join(Features._fields)
            raise UserError(f"features is {self.features!r}; it has to be one of {names}")
        if not (self.overlay or self.maps or self.features):
            raise UserError("there is nothing to write: overlay, maps and features are all off")

    @property
    def preset(self) -> Preset:
        return find_preset(self.source)

    def outputs(self, path: Path) -> dict[Path, Output]:
        """Return the files and folders that are written for a video, with the writer of each."""
        folder = path.parent / OUT_FOLDER if self.out_dir is None else self.out_dir
        chosen: dict[Path, Output] = {}
        if self.overlay:
            chosen[folder / f"{path.stem}_overlay.mp4"] = overlay_video
        if self.maps is not None:
            map_format = find_map_format(self.maps)
            chosen[folder / (path.stem + map_format.video_ending)] = map_output(map_format)
        if self.features is not None:
            writer: Output = partial(features_h5, name=self.features)
            chosen[folder / f"{path.stem}_features_{self.features}.h5"] = writer
        return chosen


def chosen_maps(maps: Any) -> str | None:
    """Read the option `maps`, which may also be a switch: True means png, False no maps."""
    if isinstance(maps, bool):
        return "png" if maps else None
    return maps


def predict_videos(
    *, video_path: str, options: VideoOptions, train_id: str | None, device: str
) -> None:
    """Predict a video file, all videos of a folder, or all that match a pattern.

    Finished outputs are skipped. Frames are decoded, predicted and encoded at the same time; they
    are not kept in memory or on disk.

    Args:
        video_path: a file, a folder, or a pattern such as `clips/*.mp4`.
        options: how to predict, and what to write.
        train_id: the run whose weights to use.
        device: where to run.

    Raises:
        UserError: there is no such video, or the only one cannot be read.
        SomeFailed: some of several could not be read or predicted; all others are done.
    """
    paths = find_video_files(video_path, options)
    check_names(paths, options)
    jobs = {path: todo for path in paths if (todo := _missing_outputs(path, options))}
    notes: list[str] = []
    with ExitStack() as stack:
        lengths, failed, opened = _probe(jobs, stack)
        if lengths:
            predictor = load(train_id, device, options.preset.fine_tuned)
            bar = stack.enter_context(TERMINAL.bar("", "frame", _total(lengths.values())))
            for path in lengths:
                bar.describe(path.name)
                try:
                    with opened.pop(path, None) or VideoFile(path) as video:
                        damage = predict_file(predictor, video, jobs[path], options, bar)
                    notes += [damage] if damage else []
                except Exception as error:  # whatever it is, the other videos go on
                    log.debug("%s", path, exc_info=True)
                    failed[path] = error
    for note in notes:
        log.warning("%s", note)
    _say_done([path for path in lengths if path not in failed], jobs, len(paths) - len(jobs))
    if failed:
        _say_failed(failed, len(paths))


def predict_file(
    predictor: Predictor,
    video: VideoFile,
    outputs: Mapping[Path, Output],
    options: VideoOptions,
    bar: Bar,
) -> str | None:
    """Predict one video and write its outputs, each in a thread of its own.

    Args:
        predictor: whose network to use.
        video: newly opened; it is read to its end.
        outputs: see `VideoOptions.outputs`.
        options: how to predict.
        bar: counts the frames.

    Returns:
        What is wrong with the file, see `VideoFile.damage`.

    Raises:
        UserError: a prediction is not finite: nothing is left of the outputs. Or one of the outputs
            could not be written: the others are whole.
    """
    with ExitStack() as stack:
        tasks = [stack.enter_context(_OutputTask(*item, video)) for item in outputs.items()]
        frames = stack.enter_context(closing(predict_video_frames(predictor, video, options)))
        for predicted in frames:
            for task in tasks:
                task.put(predicted)
            if all(task.error for task in tasks):
                break
            bar.update()
        for task in tasks:
            task.finish()
    errors = {task.path: task.error for task in tasks if task.error is not None}
    if errors:
        whole = [str(task.path) for task in tasks if task.error is None]
        said = "; ".join(f"{path} could not be written: {cause(e)}" for path, e in errors.items())
        kept = f" ({', '.join(whole)} is complete)" if whole else ""
        raise UserError(f"{video.path}: {said}{kept}") from next(iter(errors.values()))
    return video.damage


class _OutputTask:
    """Writes one output of a video in a thread of its own; if it fails, the others go on.

    Attributes:
        path: what is written.
        error: why it could not be written; None if it can.
    """

    def __init__(self, path: Path, output: Output, video: VideoFile) -> None:
        self.path = path
        self.error: Exception | None = None
        self._stack = ExitStack()
        try:
            write = self._stack.enter_context(output(path, video))
            self._worker = self._stack.enter_context(BackgroundWorker(write, FRAMES_AHEAD))
        except Exception as error:
            self._fail(error)

    def __enter__(self) -> _OutputTask:
        return self

    def __exit__(self, *failure: Any) -> None:
        self._stack.__exit__(*failure)

    def put(self, predicted: PredictedFrame) -> None:
        if self.error is None:
            try:
                self._worker.put(predicted)
            except Exception as error:
                self._fail(error)

    def finish(self) -> None:
        if self.error is None:
            try:
                self._stack.close()
            except Exception as error:
                self.error = error

    def _fail(self, error: Exception) -> None:
        self.error = error
        try:  # what there is of the output is removed
            self._stack.__exit__(type(error), error, error.__traceback__)
        except Exception as again:
            self.error = again


def predict_video_frames(
    predictor: Predictor, video: VideoFile, options: VideoOptions
) -> Generator[PredictedFrame, None, None]:
    """Predict the frames of a video, which are decoded and resized a little in advance."""
    preset = options.preset
    step = options.frame_step or preset.frame_step_for(video.rate)
    domain = predictor.engine.domain(options.model_domain or preset.domain)
    input_size = preset.input_size_for(video.size)
    prepared = ((frame, prepare(frame.rgb, input_size)) for frame in video)
    with closing(drawn_ahead(prepared, FRAMES_AHEAD)) as inputs:
        predictions = predictor.log_densities(
            inputs, video.size, domain, step, with_features=options.features is not None
        )
        keyed = (((p.key, p.features), p.log_density) for p in predictions)
        window = smoothing_window(options.smooth_method)
        for (frame, features), log_density in median_over_time(keyed, window):
            yield PredictedFrame(frame, to_density(log_density), features)


def find_video_files(video_path: str, options: VideoOptions) -> list[Path]:
    """Find the videos to predict.

    Args:
        video_path: a file; a folder, for the videos in it; or a pattern, for the files that match
            it.
        options: what to write; outputs of earlier calls are not counted as videos.

    Returns:
        The videos, in natural order.

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
    found = [p for p in found if not written & {p, *p.parents}]
    found.sort(key=natural_order)
    if not found:
        kinds = f" ({', '.join(VIDEO_SUFFIXES)})" if path.is_dir() else ""
        raise UserError(f"there is no video in {path}{kinds}")
    return found


def check_names(paths: Sequence[Path], options: VideoOptions) -> None:
    """Check that no two videos are written to the same place.

    Raises:
        UserError: two are; names them and the place.
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


def _missing_outputs(path: Path, options: VideoOptions) -> dict[Path, Output]:
    """Return the outputs of a video that do not exist yet."""
    outputs = options.outputs(path)
    return {at: out for at, out in outputs.items() if options.overwrite or not at.exists()}


def _probe(
    paths: Iterable[Path], stack: ExitStack
) -> tuple[dict[Path, int | None], dict[Path, Exception], dict[Path, VideoFile]]:
    """Open videos to see what they hold, before the network is loaded.

    Returns:
        About how many frames each video has; those that cannot be read, with the reason; and the
        first video, still open until `stack` ends, so that it need not be opened again. More are
        not kept open: each holds its decoder's threads and memory.
    """
    lengths: dict[Path, int | None] = {}
    failed: dict[Path, Exception] = {}
    opened: dict[Path, VideoFile] = {}
    for path in paths:
        try:
            video = VideoFile(path)
        except Exception as error:  # decoders of damaged files raise of many types
            failed[path] = error
            continue
        lengths[path] = video.n_frames
        if opened:
            video.close()
        else:
            opened[path] = stack.enter_context(video)
    return lengths, failed, opened


def _total(lengths: Iterable[int | None]) -> int | None:
    """Return the number of frames of all videos, None if that of one is unknown."""
    total = 0
    for length in lengths:
        if length is None:
            return None
        total += length
    return total


def _say_done(done: Sequence[Path], jobs: Mapping[Path, Iterable[Path]], n_before: int) -> None:
    for path in done:
        print(f"{path}: {', '.join(map(str, jobs[path]))}")
    if n_before:
        print(f"{n_before} finished before and skipped; --overwrite=True predicts them again")


def _say_failed(failed: Mapping[Path, Exception], n_all: int) -> None:
    said = [c if str(p) in (c := cause(e)) else f"{p}: {c}" for p, e in failed.items()]
    if n_all == 1:
        raise UserError(said[0])
    for line in said:
        log.error("%s", line)
    names = ", ".join(str(path) for path in failed)
    raise SomeFailed(f"{len(failed)} of {n_all} videos could not be predicted: {names}")
