"""The command `predict_video`: predictions of video files."""

from __future__ import annotations

import glob
import logging
import os
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from unisal.checks import check_count
from unisal.cluster.workers import Crew
from unisal.commands.crew import Team, courier_of, say_failures, team, worker_device
from unisal.commands.frames import FRAMES_AHEAD
from unisal.commands.left_out import warn_of_left_out
from unisal.commands.places import GOES_ON, prepare_folder
from unisal.commands.progress import TERMINAL
from unisal.commands.verbose import say_facts
from unisal.data.picture_kinds import VIDEO_SUFFIXES
from unisal.data.video_file import VideoFile, is_animation
from unisal.errors import PlaceLost, SomeFailed, UserError, cause
from unisal.files import (
    PlaceWatch,
    derived_name,
    is_place_error,
    natural_order,
    remove_leftovers,
)
from unisal.inference.densities import to_density
from unisal.inference.views import read_tta
from unisal.predict import Predictor, load
from unisal.predict.inputs import prepare
from unisal.predict.presets import Preset, find_preset
from unisal.predict.smooth import median_over_time, smoothing_window
from unisal.progress import SILENT, Bar
from unisal.remote.mirror import Courier, Mirror, RoomBar
from unisal.remote.places import is_url
from unisal.threads import BackgroundWorker, drawn_ahead
from unisal.types import Features
from unisal.writing.formats import distinct_names, find_map_format
from unisal.writing.video_outputs import (
    Output,
    PredictedFrame,
    features_h5,
    is_folder,
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
        features: name of the features to write, see `unisal.types.Features`; None for none.
        frame_step: the distance between frames that the network sees as neighbours; None for the
            one nearest in time to the preset's.
        smooth_method: see `Predictor.video`.
        overwrite: whether to predict finished videos again.
        presets: the presets of the run, see `unisal.predict.presets.run_presets`.
        verbose: whether to print with what they are predicted.
        tta: see `unisal.inference.engine.Engine`.
        precision: see `unisal.predict.Predictor`.

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
    presets: Mapping[str, Preset] = field(default_factory=dict)
    verbose: bool = False
    tta: str | None = None
    precision: str = "fp32"

    def __post_init__(self) -> None:
        _ = self.preset  # a mistake is found before any work
        smoothing_window(self.smooth_method)
        if self.maps is not None:
            find_map_format(self.maps)
        if self.frame_step is not None:
            check_count(self.frame_step, "frame_step")
        if self.features is not None and self.features not in Features._fields:
            names = ", ".join(Features._fields)
            raise UserError(f"features is {self.features!r}; it has to be one of {names}")
        if read_tta(self.tta) and self.features is not None:
            raise UserError("features go without tta: they are those of the frame itself")
        if not (self.overlay or self.maps or self.features):
            raise UserError("there is nothing to write: overlay, maps and features are all off")

    @property
    def preset(self) -> Preset:
        return find_preset(self.source, own=self.presets)

    def folder_of(self, path: Path) -> Path:
        """Return the folder that is written to for a video."""
        return path.parent / OUT_FOLDER if self.out_dir is None else self.out_dir

    def outputs(self, path: Path, name: str | None = None) -> dict[Path, Output]:
        """Return the files and folders that are written for a video, with the writer of each.

        Args:
            path: the video.
            name: how their names begin, see `video_names`; None: looks for it.
        """
        name = video_names([path])[path] if name is None else name
        folder = self.folder_of(path)
        chosen: dict[Path, Output] = {}
        if self.overlay:
            chosen[folder / derived_name(name, "_overlay.mp4")] = overlay_video
        if self.maps is not None:
            map_format = find_map_format(self.maps)
            maps_name = derived_name(name, map_format.video_ending)
            chosen[folder / maps_name] = map_output(map_format)
        if self.features is not None:
            writer: Output = partial(features_h5, name=self.features)
            chosen[folder / derived_name(name, f"_features_{self.features}.h5")] = writer
        return chosen


def chosen_maps(maps: Any) -> str | None:
    """Read the option `maps`, which may also be a switch: True means png, False no maps."""
    if isinstance(maps, bool):
        return "png" if maps else None
    return maps


def predict_videos(
    *,
    video_paths: Sequence[str],
    options: VideoOptions,
    train_id: str | None,
    device: str,
    crew: Crew,
    mirror: Mirror | None = None,
) -> None:
    """Predict video files, all videos of folders, or all that match patterns.

    Finished outputs are skipped. Frames are decoded, predicted and encoded at the same time; they
    are not kept in memory or on disk.

    Args:
        video_paths: files, folders, or patterns such as `clips/*.mp4`.
        options: how to predict, and what to write.
        train_id: the run whose weights to use.
        device: where to run.
        crew: the workers that predict, if there are to be any.
        mirror: holds what stands for videos and `out_dir`, if some of them lie elsewhere.

    Raises:
        UserError: there is no such video, a place cannot be written, or the only video cannot be
            read.
        SomeFailed: some of several could not be read or predicted; all others are done, or those
            before the disk was full.
    """
    device = worker_device(device, crew)
    paths = find_video_files(video_paths, options)
    names = video_names(paths)
    check_names(paths, options)
    check_places(paths, options, names, mirror)
    exists = Path.exists if mirror is None else mirror.exists
    jobs = {
        path: todo
        for path in paths
        if (todo := _missing_outputs(path, options, names[path], exists))
    }
    with ExitStack() as stack:
        outcome = _predict_all(jobs, options, train_id, device, stack, crew, names, mirror)
    for note in outcome.notes:
        log.warning("%s", note)
    n_before = len(paths) - len(jobs)
    _say_done(outcome.done, jobs, n_before)
    if outcome.lost is not None:
        raise PlaceLost(
            f"{n_before + len(outcome.done)} of {len(paths)} videos done; then the work stopped: "
            f"{cause(outcome.lost)}; {GOES_ON}"
        )
    if outcome.failed:
        _say_failed(outcome.failed, len(paths), as_table=crew.is_wanted)


@dataclass
class _Outcome:
    """What became of the videos."""

    failed: dict[Path, Exception]
    done: list[Path] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    """What is wrong with files that were predicted all the same."""
    lost: Exception | None = None
    """Why nothing could be written any more, which ended the work."""


def _predict_all(
    jobs: Mapping[Path, Mapping[Path, Output]],
    options: VideoOptions,
    train_id: str | None,
    device: str,
    stack: ExitStack,
    crew: Crew,
    names: Mapping[Path, str],
    mirror: Mirror | None,
) -> _Outcome:
    """Predict videos one after the other; one that fails does not end the others."""
    if mirror is None:
        lengths, failed, opened = _probe(jobs, stack)
    else:  # looked into when they are here, each counts as one
        lengths, failed, opened = dict.fromkeys(jobs, 1), {}, {}
    outcome, watch = _Outcome(failed), PlaceWatch()
    if not lengths:
        return outcome
    fine_tuned, precision = options.preset.fine_tuned, options.precision
    predictor = load(train_id, device, fine_tuned, precision, tta=options.tta)
    # This says before any work that there is no graph in 8 bits.
    facts = predictor.facts(options.source, options.model_domain, is_video=True)
    if options.verbose:
        say_facts("videos", facts)
    unit = "frame" if mirror is None else "video"
    bar = stack.enter_context(TERMINAL.bar("", unit, _total(lengths.values())))
    if crew.is_wanted or mirror is not None:
        for video in opened.values():
            video.close()
        predictor.engine.warm_up(facts.domain, is_video=True)
        courier = courier_of(mirror, crew)
        start = partial(start_video_worker, options, train_id, device, courier)
        tasks = [VideoTask(path, names[path], tuple(jobs[path])) for path in lengths]
        with team(crew, courier) as workers:
            _predict_on_workers(workers, start, tasks, lengths, options, bar, outcome)
        return outcome
    for path in lengths:
        bar.describe(path.name)
        try:
            with opened.pop(path, None) or VideoFile(path) as video:
                damage = predict_file(predictor, video, jobs[path], options, bar)
            outcome.notes += [damage] if damage else []
            outcome.done.append(path)
        except Exception as error:  # whatever it is, the other videos go on
            log.debug("%s", path, exc_info=True)
            failed[path] = error
        if watch.is_lost(options.folder_of(path), failed.get(path)):
            outcome.lost = failed[path]
            break
    return outcome


class VideoTask(NamedTuple):
    """A video for a worker."""

    path: Path
    name: str
    """How the names of its outputs begin."""
    outputs: tuple[Path, ...]
    """Those that are to be written."""


class VideoDone(NamedTuple):
    """What became of it."""

    damage: str | None
    error: Exception | None
    reason: OSError | None
    """What the operating system said, if the place was the reason; errors are sent without it."""


def start_video_worker(
    options: VideoOptions, train_id: str | None, device: str, courier: Courier | None = None
) -> Callable[[VideoTask], VideoDone]:
    """Load the network in a worker; return the function that predicts a video there."""
    fine_tuned, precision = options.preset.fine_tuned, options.precision
    predictor = load(train_id, device, fine_tuned, precision, tta=options.tta)

    def do(task: VideoTask) -> VideoDone:
        outputs = options.outputs(task.path, task.name)
        todo = {at: outputs[at] for at in task.outputs}
        try:
            if courier is not None:
                return VideoDone(
                    _predict_elsewhere(predictor, task, todo, options, courier), None, None
                )
            with VideoFile(task.path) as video, SILENT.bar("", "frame") as bar:
                return VideoDone(predict_file(predictor, video, todo, options, bar), None, None)
        except Exception as error:
            return VideoDone(None, _plain(error), _place_error(error))

    return do


def _predict_elsewhere(
    predictor: Predictor,
    task: VideoTask,
    todo: Mapping[Path, Output],
    options: VideoOptions,
    courier: Courier,
) -> str | None:
    """Predict a video that is brought for it; its outputs are taken away; see `predict_file`."""
    with courier.carried([task.path], task.outputs) as load:
        if load.failed:
            raise load.failed[task.path]
        with VideoFile(task.path) as video:
            return predict_file(predictor, video, todo, options, RoomBar(load))


def _plain(error: Exception) -> Exception:
    """Return an error that can be sent, of the same words."""
    return error if isinstance(error, UserError) else UserError(cause(error))


def _place_error(error: BaseException | None) -> OSError | None:
    """Return the operating system's error that caused one, if the place was the reason."""
    if not is_place_error(error):
        return None
    while error is not None and not isinstance(error, OSError):
        error = error.__cause__ or error.__context__
    return error


def _predict_on_workers(
    workers: Team,
    start: Callable[[], Callable[[VideoTask], VideoDone]],
    tasks: Sequence[VideoTask],
    lengths: Mapping[Path, int | None],
    options: VideoOptions,
    bar: Bar,
    outcome: _Outcome,
) -> None:
    """Predict videos on workers, each on one of them, and note what became of them."""
    watch = PlaceWatch()
    try:
        with closing(workers.do(start, tasks)) as all_done:
            for done in all_done:
                path = done.task.path
                damage, error, reason = done.result or VideoDone(None, done.error, None)
                bar.update(lengths[path] or 0)
                if error is None:
                    outcome.notes += [damage] if damage else []
                    outcome.done.append(path)
                else:
                    error.__cause__ = reason
                    outcome.failed[path] = error
                if watch.is_lost(options.folder_of(path), error):
                    outcome.lost = error
                    break
    finally:  # of workers that were killed
        for folder in {options.folder_of(path) for path in lengths}:
            remove_leftovers(folder)
    outcome.done.sort(key=list(lengths).index)


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
    expected = video.n_frames
    with ExitStack() as stack:
        tasks = [stack.enter_context(_OutputTask(*item, video)) for item in outputs.items()]
        frames = stack.enter_context(closing(predict_video_frames(predictor, video, options)))
        for predicted in frames:
            for task in tasks:
                task.put(predicted)
            if all(task.error for task in tasks):
                break
            bar.update()
            if expected and video.n_frames and video.n_frames != expected:  # the clock has jumped
                bar.expect(video.n_frames - expected)
                expected = video.n_frames
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


def find_video_files(video_paths: Sequence[str], options: VideoOptions) -> list[Path]:
    """Find the videos to predict.

    Args:
        video_paths: files; folders, for the videos in them; or patterns, for the files that match
            them. What exists under the very name is never taken for a pattern.
        options: what to write; outputs of earlier calls are not counted as videos.

    Returns:
        The videos, each once, in natural order within each path.

    Raises:
        UserError: there are none.
    """
    found = {os.path.abspath(p): p for path in video_paths for p in _files_of(path)}  # noqa: PTH100
    names = video_names(list(found.values()))
    written = {output for p in found.values() for output in options.outputs(p, names[p])}
    videos = [p for p in found.values() if not written & {p, *p.parents}]
    if not videos:
        only = Path(video_paths[0])
        kinds = f" ({', '.join(VIDEO_SUFFIXES)})" if only.is_dir() else ""
        raise UserError(f"there is no video in {', '.join(video_paths)}{kinds}")
    for path in filter(os.path.isdir, video_paths):
        _warn_of_others(Path(path), videos, written)
    return videos


def _files_of(video_path: str) -> list[Path]:
    """Return the files that a path names, in natural order."""
    path = Path(video_path)
    if os.path.isfile(video_path):  # noqa: PTH113  # that of Path raises for a very long name
        return [path]
    if os.path.isdir(video_path):  # noqa: PTH112
        found = [p for p in path.iterdir() if is_video_name(p) or is_animation(p)]
    elif is_url(video_path):
        raise UserError(
            f"{video_path} is the URL of a stream; predict_camera predicts it as it plays"
        )
    elif glob.has_magic(video_path):
        place = next(p for p in (*path.parents, Path()) if p.is_dir())
        pattern = str(path.relative_to(place))
        names = glob.glob(pattern, root_dir=place, recursive=True)  # noqa: PTH207  # hidden too
        found = [p for name in names if (p := place / name).is_file()]
    else:
        raise UserError(
            f"{video_path} does not exist; every word that is not --name=value names a video to "
            "predict (--out_dir=FOLDER names where to write)"
        )
    return sorted(found, key=natural_order)


def _warn_of_others(folder: Path, found: Sequence[Path], written: Iterable[Path]) -> None:
    """Warn of the files of a folder that are neither videos nor were written for them."""
    known = {*found, *written}
    others = [p for p in folder.iterdir() if p.name[0] != "." and p not in known and p.is_file()]
    reason = "no video" if len(others) == 1 else "no videos"
    warn_of_left_out(folder, sorted(others, key=natural_order), reason)


def video_names(paths: Sequence[Path]) -> dict[Path, str]:
    """Choose how the names of what is written for videos begin.

    That is the video's name without suffix or, where another video of its folder has the same, with
    it: `film.avi_overlay.mp4`. What else lies in the folder counts too, so that a video has the
    same name whether it is predicted by itself or with the others.
    """
    names: dict[Path, str] = {}
    by_folder: dict[Path, dict[Path, None]] = {}
    for path in paths:
        by_folder.setdefault(path.parent, {})[path] = None
    for folder, wanted in by_folder.items():
        try:
            beside = [p for p in folder.iterdir() if is_video_name(p) and p not in wanted]
        except OSError:  # a folder that may not be listed, with files that may be read
            beside = []
        names.update(distinct_names(sorted([*wanted, *beside], key=natural_order)))
    return names


def is_video_name(path: Path) -> bool:
    """Return whether a file is a video by its name."""
    return path.suffix.lower() in VIDEO_SUFFIXES and not path.name.startswith(".")


def check_names(paths: Sequence[Path], options: VideoOptions) -> None:
    """Check that no two videos are written to the same place.

    Raises:
        UserError: two are; names them and the place.
    """
    writers: dict[Path, Path] = {}
    names = video_names(paths)
    for path in paths:
        for output in options.outputs(path, names[path]):
            other = writers.setdefault(output, path)
            if other != path:
                raise UserError(
                    f"{other} and {path} would both be written to {output}; "
                    "predict them one by one, with an out_dir each"
                )


def check_places(
    paths: Sequence[Path],
    options: VideoOptions,
    names: Mapping[Path, str],
    mirror: Mirror | None = None,
) -> None:
    """Check that the outputs can be written, and remove what a killed process left there.

    Args:
        paths: the videos.
        options: what is written for them.
        names: see `video_names`.
        mirror: see `predict_videos`.

    Raises:
        UserError: a folder cannot be written to, or a folder lies where a file belongs, or a file
            where a folder does.
    """
    advice = "name another folder with --out_dir"
    for folder in {options.folder_of(path): None for path in paths}:
        prepare_folder(folder, advice)
        if mirror is not None:
            mirror.check_writable(folder)
    for path in paths:
        for at, output in options.outputs(path, names[path]).items():
            if at.exists() and at.is_dir() != is_folder(output):
                kind = "a folder" if at.is_dir() else "a file"
                raise UserError(f"{at} cannot be written: it is {kind}; remove it, or {advice}")


def _missing_outputs(
    path: Path, options: VideoOptions, name: str, exists: Callable[[Path], bool]
) -> dict[Path, Output]:
    """Return the outputs of a video that do not exist yet."""
    outputs = options.outputs(path, name)
    return {at: out for at, out in outputs.items() if options.overwrite or not exists(at)}


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


def _say_failed(failed: Mapping[Path, Exception], n_all: int, as_table: bool) -> None:
    said = [c if str(p) in (c := cause(e)) else f"{p}: {c}" for p, e in failed.items()]
    if n_all == 1:
        raise UserError(said[0])
    if as_table:
        say_failures(list(failed.items()))
    else:
        for line in said:
            log.error("%s", line)
    names = ", ".join(str(path) for path in failed)
    raise SomeFailed(f"{len(failed)} of {n_all} videos could not be predicted: {names}")
