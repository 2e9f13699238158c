"""The commands as they are typed: names, options, defaults and help.

Imports nothing heavy.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from unisal.checks import check_count, check_switch
from unisal.commands.cli import (
    Inputs,
    as_inputs,
    as_names,
    as_path,
    stands_for,
    with_options_of,
)
from unisal.config import find_run
from unisal.errors import UserError
from unisal.evaluate.options import ScoringOptions, SubsetOptions
from unisal.files import from_home
from unisal.train.config import PUBLISHED_KEYS, TrainerConfig
from unisal.train.domain_config import DECIDED, default_options
from unisal.train.finetune_config import FineTuneConfig

DEFAULT_METRICS = ",".join(ScoringOptions.metrics)
"""The metrics that a run is scored with by default, as they are typed."""


def with_data(
    sources: Any, option: str, data: str | None, gaze: Any = None, run: Path | None = None
) -> tuple[str, ...]:
    """Return the sources that an option names, and the folder of gaze data that `--data` names.

    Args:
        sources: the value of the option.
        option: its name.
        data: the folder.
        gaze: the value of `--gaze`.
        run: the folder of the run that is used; None for none.
    """
    names = as_names(sources, option)
    if data is None and gaze is None and not any("=" in name for name in names):
        return names
    from unisal.commands.gaze_reports import named_data

    return named_data(names, data, gaze, run)


def to_score_after(eval_sources: Any, gaze: Any, resume: str | None) -> tuple[str, ...]:
    """Return the sources that a training is to be followed by the scores of."""
    names = as_names(eval_sources, "eval_sources")
    if not any("=" in name for name in names):
        return names
    from unisal.commands.gaze_reports import with_entries

    return with_entries(names, gaze, None if resume is None else find_run(resume))


def chosen_subsets(by: Any, n_fixations: int, time_window: float | None) -> SubsetOptions | None:
    """Return by what `score_model` divides the gaze; None for nothing."""
    names = as_names(by, "by")
    if names == ("none",):
        return None
    return SubsetOptions(names or None, n_fixations, time_window)


@with_options_of(TrainerConfig, PUBLISHED_KEYS)
def train(
    *,
    eval_sources: Any = None,
    resume: str | None = None,
    data: str | None = None,
    gaze: Any = None,
    **options: Any,
) -> None:
    """Train the network on one or more data sets, then score it.

    data: a folder of pictures or films with a table of where people looked, or its gaze.json, to
        train on. Beside other data sets: --data_sources=SALICON,crowd=FOLDER.
    gaze: entries that replace those of gaze.json: --gaze="{'columns': {'x': 'gx', 'y': 'gy'}}".
        The run keeps them.
    eval_sources: what to score afterwards, by default what was trained on.
    resume: name of a run that was stopped, to continue it from its newest checkpoint.
    """
    from unisal.commands.training import train

    if data is not None or gaze is not None or "=" in str(options.get("data_sources")):
        options["data_sources"] = with_data(options.get("data_sources"), "data_sources", data, gaze)
    train(eval_sources=to_score_after(eval_sources, gaze, resume), resume=resume, options=options)


@with_options_of(FineTuneConfig)
def train_finetune_mit(
    *, eval_sources: Any = None, pretrained_train_id: str | None = None, **options: Any
) -> None:
    """Fine-tune a trained network on MIT1003, for the MIT300 benchmark, then evaluate it.

    eval_sources: what to evaluate afterwards (MIT300, if its folder exists). MIT300 is predicted,
        since its gaze is not public; FINAL_TEST_MIT1003, the fold of MIT1003, is scored.
    """
    from unisal.commands.training import fine_tune

    fine_tune(
        eval_sources=as_names(eval_sources, "eval_sources"),
        options={"pretrained_train_id": pretrained_train_id, **options},
    )


@with_options_of(
    TrainerConfig,
    PUBLISHED_KEYS,
    defaults=default_options(),
    without=(*DECIDED, "copy_domain", "new_instance"),
    described=False,
)
def finetune(
    *,
    data: Any = None,
    gaze: Any = None,
    domain: str | None = None,
    init_from: str | None = None,
    base: str | None = None,
    train: str = "modules",
    folds: int | None = None,
    curve: Any = False,
    observers: Any = False,
    eval_sources: Any = None,
    resume: str | None = None,
    frame_by_frame: bool = False,
    **options: Any,
) -> None:
    """Train a domain of one's own on gaze data of one's own, then score it.

    The result is a run like any other, <domain>_<train>_unisal unless --prefix names it, with a
    preset of the domain's name: --preset=<domain> predicts pictures or videos with it.

    data: data sets, separated by commas: folders of gaze data, <name>=<folder>, or names.
    gaze: entries that replace those of gaze.json: --gaze="{'columns': {'x': 'gx', 'y': 'gy'}}".
        The run keeps them.
    domain: the name of the domain. The network of the base gets modules for it (BatchNorms,
        priors, adaptation, smoothing); if it has them already, they are trained further. Instead
        of one domain for all data sets, --own_domains=True gives each one of its own name, and
        --shared_domain=NAME one that all train in turns with their own.
    init_from: the domain whose modules a new one starts as a copy of (that of the base's default
        preset, else SALICON; videos DHF1K).
    base: the run to start from (pretrained_unisal).
    train: modules: only what the domain has for itself, so that all other domains predict what
        they did before, to the last bit; recurrent: for films, these and the recurrent part;
        decoder: whatever follows the encoder; all. With the last three it is printed what became
        of the other domains.
    folds: also train and score so many times, each time leaving out another fold of all stimuli,
        for scores on every one of them: folds.csv and folds.json in the run.
    curve: also train on fewer and fewer stimuli, to see whether more of them would help: True, or
        their numbers, separated by commas; curve.csv, curve.json and curve.png in the run.
    observers: likewise on the gaze of fewer people; observers.csv, .json and .png.
    eval_sources: what to score afterwards, by default the data.
    resume: name of a run that was stopped, to continue it from its newest checkpoint; with folds,
        curve or observers also of one that is finished.

    frame_by_frame: for films: leave out the recurrent part, to see whether it helps. A new domain
        still starts from DHF1K's.

    All other options are those of the command train. Those listed with None have defaults of
    their own, see docs/guide/own_data.md.
    """
    from unisal.commands.finetune import finetune

    if resume is not None and gaze is not None:
        raise UserError("gaze cannot be changed when a run is continued")
    finetune(
        data=as_data(data, gaze),
        domain=domain,
        init_from=init_from,
        base=base,
        trains=train,
        folds=folds,
        curve=as_counts(curve, "curve"),
        observers=as_counts(observers, "observers"),
        eval_sources=to_score_after(eval_sources, gaze, resume),
        resume=resume,
        options=options,
        frame_by_frame=frame_by_frame,
    )


def average(*, train_ids: Any = None, prefix: str = "soup") -> None:
    """Average the weights of several runs into a new run.

    The new run is <prefix>_unisal. It reads pictures and videos as the first run does, and its
    average.json says what it is the mean of. The runs have to be of one network; the mean is worth
    something if all of them started from the same weights.

    train_ids: the runs, separated by commas.
    prefix: the beginning of the new run's name.
    """
    from unisal.commands.training import average

    average(train_ids=as_names(train_ids, "train_ids"), prefix=prefix)


def as_data(data: Any, gaze: Any = None) -> tuple[str, ...]:
    """Return the data sets that an option names: folders of gaze data, or names of sources."""
    from unisal.commands.gaze_reports import named_data
    from unisal.data import DATASETS, name_data

    names = [d if d in DATASETS else name_data(d) for d in as_names(data, "data")]
    return named_data(names, None, gaze)


def as_counts(value: Any, option: str) -> tuple[int, ...] | None:
    """Read an option that is a switch or a list of numbers.

    Returns:
        The numbers, none for True; None for False.

    Raises:
        UserError: it is something else.
    """
    if value is None or isinstance(value, bool):
        return () if value else None
    values = value if isinstance(value, tuple | list) else (value,)
    if not all(isinstance(v, int) and not isinstance(v, bool) for v in values):
        raise UserError(f"{option} is {value!r}; expected True or whole numbers with commas")
    return tuple(values)


def chosen_preset(source: str | None, preset: str | None) -> str | None:
    """Return the preset that was named, by either name of the option; None if none was.

    Raises:
        UserError: both names were used, for different presets.
    """
    if source is not None and preset is not None and source != preset:
        raise UserError(
            f"source {source!r} and preset {preset!r} are two presets; name one of them"
        )
    return source if preset is None else preset


def score_model(
    train_id: str | None = None,
    *,
    sources: Any = None,
    model_domain: str | None = None,
    metrics: Any = None,
    baselines: bool = False,
    report: bool = False,
    auc_portion: float = ScoringOptions.auc_portion,
    n_aucs_maps: int = ScoringOptions.n_aucs_maps,
    random_seed: int = ScoringOptions.random_seed,
    device: str = "auto",
    data: str | None = None,
    gaze: Any = None,
    by: Any = None,
    n_fixations: int = SubsetOptions.n_fixations,
    time_window: float | None = None,
    against: str | None = None,
    against_domain: str | None = None,
    tta: str | None = None,
    workers: int | None = None,
    address: str | None = None,
    worker_gpus: float = 0,
) -> None:
    """Score a trained network on validation data; writes JSON files into the run's folder.

    train_id: the run's folder in training_runs/ or $TRAIN_DIR (pretrained_unisal).
    sources: data sets, separated by commas (those of DHF1K, SALICON, UCFSports and Hollywood whose
        folder exists).
    model_domain: the network domain to use, instead of the source's own.
    metrics: the metrics, in the order of the columns (kld,nss,cc,sim,aucj,aucs). There is also ig,
        the information gain over the centre bias of the training part, in bits per fixation; it
        needs that part. Gaze data of your own has it by default.
    baselines: also score reference baselines: chance, the centre bias of the training part, and
        one half of the observers against the other where the data distinguishes them. With gaze
        data of your own also a spectral residual, the estimate from the halves for a whole group,
        and each observer predicted by all others.
    report: also write report.html into the run's folder: one page with the scores, their
        distributions, and the best and worst videos or images beside the ground truth.
    auc_portion: share of a video's frames that the AUCs are computed on.
    n_aucs_maps: how many other videos or images give the shuffled AUC's negatives.
    random_seed: seed of all random draws; the same seed gives the same files.
    data: a folder of pictures or films with a table of where people looked, or its gaze.json.
    gaze: entries that replace those of gaze.json: --gaze="{'columns': {'x': 'gx', 'y': 'gy'}}"
        (those that the run was trained with).
    by: also score subsets of the gaze by themselves, of each observer, fixation (first, second,
        ...), time, and group of a column that gaze.json names; of films time divides the frames.
        Separated by commas (all for gaze data of your own, none for others).
    n_fixations: how many fixations are scored by their number; those after them together.
    time_window: the length of the windows of time in seconds (0.5; of films 1; or longer ones, if
        those were too many).
    against: another run, to be tested against: differences with their 95 % intervals and p.
    against_domain: the network domain that the other run uses (the same).
    tta: also predict other views and average: mirror, the mirror image; scales, 3/4 and 5/4 of the
        size; or mirror,scales. The files' names then say so.
    workers, address, worker_gpus: as in predictions_from_folder; the scores are the same. Baselines
        are scored in one process.
    """
    from unisal.cluster.workers import Crew
    from unisal.commands.scoring import score_model

    names = as_names(metrics, "metrics")
    score_model(
        train_id=train_id,
        sources=with_data(sources, "sources", data, gaze, find_run(train_id)),
        model_domain=model_domain,
        baselines=baselines,
        report=report,
        device=device,
        options=ScoringOptions(
            metrics=names or ScoringOptions.metrics,
            auc_portion=auc_portion,
            n_aucs_maps=n_aucs_maps,
            random_seed=random_seed,
            subsets=chosen_subsets(by, n_fixations, time_window),
            with_ig=not names,
            against=against,
            against_domain=against_domain,
        ),
        tta=tta,
        crew=Crew(workers, address, worker_gpus),
    )


@stands_for("files", "folder_path")
def predictions_from_folder(
    folder_path: Inputs,
    *,
    files: str | None = None,
    is_video: bool = False,
    source: str | None = None,
    train_id: str | None = None,
    model_domain: str | None = None,
    overlay: bool = False,
    smooth_method: str | None = None,
    device: str = "auto",
    maps: str | None = None,
    out_dir: str | None = None,
    recursive: bool = False,
    overwrite: bool = False,
    preset: str | None = None,
    verbose: bool = False,
    tta: str | None = None,
    precision: str = "fp32",
    workers: int | None = None,
    address: str | None = None,
    worker_gpus: float = 0,
    spool: str | None = None,
    spool_gb: float | None = None,
) -> None:
    """Write a saliency map for every picture in a folder, or every frame of a video.

    Reads the pictures in <folder_path>/images/, or if there are none those in <folder_path>, and
    writes <folder_path>/saliency/<same name>; for kinds other than PNG and JPEG <name>.png. The
    same command finishes a run that was stopped: what was made of the same pictures, with the same
    weights and options, is skipped.

    folder_path: a folder, or one picture, whose map goes to saliency/ beside it.
    files: in place of folder_path: a list of pictures or folders, a path a line, from its folder.
    is_video: the pictures are the frames of one video, in the order of their names.
    source, preset: two names of one option: the preset, named after the data set whose pictures
        are most similar. Images: SALICON, MIT1003 or MIT300 (the run's default, else SALICON);
        videos: also DHF1K, Hollywood or UCFSports (DHF1K); or a domain of the run's own.
    train_id: the run whose weights to use (pretrained_unisal), or the file of a graph (.onnx).
    model_domain: the network domain to use (the source's).
    overlay: also write the pictures with their maps overlaid, to <folder_path>/overlay/.
    maps: how to write the maps (grey pictures with the names and formats of the pictures). png:
        grey pictures saliency/<name>.png; png16: the same in 16 bits; npz or h5: the densities,
        saliency/<name>.npz or .h5 for each image, or for a video
        saliency/<folder>_densities.npz or .h5 with all densities and the names of their frames.
    smooth_method: for videos: medK takes the median over K neighbouring frames, K odd.
    out_dir: where saliency/ and overlay/ are written instead of into the folder.
    recursive: also predict the folders below it, each as if it had been named (with out_dir: to
        <out_dir>/<subfolder>/saliency/); with is_video each is a video.
    overwrite: predict what is finished again.
    tta: also predict other views and average: mirror, the mirror image; scales, 3/4 and 5/4 of the
        size; or mirror,scales.
    precision: fp32; int8 for the graph that quantize has made; bf16, for processors with
        instructions for it, in what is fastest there; or auto for the first of int8 and bf16 that
        agrees well enough, as quantize has found, else fp32.
    workers: predict in so many processes on this machine, each on one processor; with address, on
        the machines of that cluster (as many as it has room for). It needs unisal[cluster].
    address: of a Ray cluster; auto for the one that this machine belongs to.
    worker_gpus: GPUs of each worker (0: they predict on the CPU): 0.25 for four workers on one GPU.
    spool: where files that URLs name (s3://, gs://, https://, ...) lie while they are needed (the
        system's folder for temporary files). URLs need unisal[remote].
    spool_gb: how many GB they may take there, on each worker (10).
    verbose: print the run, weights, preset and domain that are used.
    """
    from unisal.cluster.workers import Crew
    from unisal.commands.folders import predict_folders
    from unisal.commands.listed import listed_places
    from unisal.commands.remote import here

    places = listed_places(as_path(files), folder_path) or as_inputs(folder_path, "folder_path")
    with here(places, out_dir, spool, spool_gb, recursive or None) as found:
        predict_folders(
            folders=[Path(word) for word in found.places],
            is_video=is_video,
            source=chosen_preset(source, preset),
            train_id=train_id,
            model_domain=model_domain,
            overlay=overlay,
            maps=maps,
            smooth_method=smooth_method,
            out_dir=found.out_dir,
            recursive=recursive,
            overwrite=overwrite,
            device=device,
            verbose=verbose,
            tta=tta,
            precision=precision,
            crew=Crew(workers, address, worker_gpus),
            mirror=found.mirror,
        )


def predict_examples(
    *,
    train_id: str | None = None,
    overlay: bool = True,
    examples_dir: str | None = None,
    device: str = "auto",
    verbose: bool = False,
    tta: str | None = None,
) -> None:
    """Write saliency maps and overlays for the pictures and videos in examples/.

    train_id: the run whose weights to use (pretrained_unisal).
    overlay: also write the pictures with their maps overlaid.
    examples_dir: another folder to read from: SALICON/images/, MIT1003/images/, and
        <source>/<video>/images/ for videos.
    tta: also predict other views and average: mirror, the mirror image; scales, 3/4 and 5/4 of the
        size; or mirror,scales.
    verbose: print the run, weights, preset and domain that are used.
    """
    from unisal.commands.folders import predict_examples

    predict_examples(
        train_id=train_id,
        folder=as_path(examples_dir),
        overlay=overlay,
        device=device,
        verbose=verbose,
        tta=tta,
    )


@stands_for("files", "video_path")
def predict_video(
    video_path: Inputs,
    *,
    files: str | None = None,
    out_dir: str | None = None,
    train_id: str | None = None,
    overlay: bool = True,
    maps: Any = False,
    features: str | None = None,
    source: str | None = None,
    model_domain: str | None = None,
    frame_step: int | None = None,
    smooth_method: str | None = None,
    overwrite: bool = False,
    device: str = "auto",
    preset: str | None = None,
    verbose: bool = False,
    tta: str | None = None,
    precision: str = "fp32",
    workers: int | None = None,
    address: str | None = None,
    worker_gpus: float = 0,
    spool: str | None = None,
    spool_gb: float | None = None,
) -> None:
    """Predict video files (MP4, MKV, WebM, ...) into overlay videos, maps, densities, features.

    For clip.mp4 it writes saliency/clip_overlay.mp4 beside it, an H.264 video with the times and
    the sound of the original. Finished files are skipped; unreadable videos are reported and the
    rest still run. From Python: unisal.load().video(frames) and unisal.load().features(frames).

    video_path: a video, a folder of videos, or a pattern: clips/*.mp4. It is typed without its
        name, as often as there are videos: every word that is not --name=value names some.
    files: in place of video_path: a list of videos, a path a line, from its folder. They are
        predicted 10000 at a time.
    out_dir: the folder to write to (saliency/ beside each video).
    train_id: the run whose weights to use (pretrained_unisal), or the file of a graph (.onnx).
    overlay: write the frames with their maps overlaid, <name>_overlay.mp4.
    maps: also write the maps. True or png: grey pictures <name>_maps/000001.png, ...; png16: the
        same in 16 bits, <name>_maps16/; npz or h5: all densities and the times of their frames
        in one file, <name>_densities.npz or .h5.
    features: also write the features of this name to <name>_features_<features>.h5: encoder_8,
        encoder_16, encoder_32, before_gru, after_gru or before_upsampling.
    source, preset: two names of one option: the preset, named after the data set whose videos are
        most similar: DHF1K, Hollywood or UCFSports (DHF1K); with SALICON each frame is predicted by
        itself; or the domain that the run was trained for with finetune.
    model_domain: the network domain to use (the source's).
    frame_step: the distance between frames that the network sees as neighbours (the one nearest in
        time to the source's: for DHF1K 5 at 30 frames per second, 4 at 25, 10 at 60).
    smooth_method: medK takes the median over K neighbouring frames, K odd.
    overwrite: predict finished videos again.
    tta: also predict other views and average: mirror, the mirror image; scales, 3/4 and 5/4 of the
        size; or mirror,scales.
    precision: as in predictions_from_folder.
    workers, address, worker_gpus: as in predictions_from_folder; each video is predicted by one
        worker.
    spool, spool_gb: as in predictions_from_folder.
    verbose: print the run, weights, preset and domain that are used.
    """
    from unisal.cluster.workers import Crew
    from unisal.commands.listed import predict_listed
    from unisal.commands.remote import here
    from unisal.commands.video_files import VideoOptions, chosen_maps, predict_videos
    from unisal.predict.presets import VIDEO_PRESET, run_presets

    options = VideoOptions(
        out_dir=as_path(out_dir),
        source=chosen_preset(source, preset) or VIDEO_PRESET,
        presets=run_presets(train_id),
        model_domain=model_domain,
        overlay=overlay,
        maps=chosen_maps(maps),
        features=features,
        frame_step=frame_step,
        smooth_method=smooth_method,
        overwrite=overwrite,
        verbose=verbose,
        tta=tta,
        precision=precision,
    )

    def predict(paths: Sequence[str]) -> None:
        with here(paths, out_dir, spool, spool_gb) as found:
            predict_videos(
                video_paths=found.places,
                options=replace(options, out_dir=found.out_dir),
                train_id=train_id,
                device=device,
                crew=Crew(workers, address, worker_gpus),
                mirror=found.mirror,
            )

    if files is None:
        predict(as_inputs(video_path, "video_path"))
    else:
        predict_listed(Path(from_home(files)), video_path, options, predict)


def predict_camera(
    camera: str = "0",
    *,
    out: str | None = None,
    window: bool = False,
    train_id: str | None = None,
    source: str | None = None,
    model_domain: str | None = None,
    fps: float | None = None,
    frame_step: int | None = None,
    reset_at_cuts: bool = False,
    seconds: float | None = None,
    device: str = "auto",
    preset: str | None = None,
    verbose: bool = False,
    precision: str = "fp32",
) -> None:
    """Predict what a camera or a stream shows, as it happens: into a window or a video file.

    Takes the newest frame each time and drops those that arrived in the meantime. Ends on Ctrl-C,
    when the window is closed (Escape, q), with the stream or after --seconds; then prints how many
    frames per second it managed. From Python: unisal.load().stream(fps=30).step(rgb).

    camera: number of a camera, URL of a stream (rtsp://, http://, ...), or a video file, which is
        played as if it were being filmed.
    out: a .mp4 file to write to, the frames with their maps overlaid.
    window: show them in a window, with the frame rate (the default without --out).
    train_id: the run whose weights to use (pretrained_unisal), or the file of a graph (.onnx).
    source, preset, model_domain: as in predict_video.
    fps: frames per second of the camera, if it does not report them.
    frame_step: the distance between frames that the network sees as neighbours (the one nearest in
        time to the source's, for the frame rate that the machine manages).
    reset_at_cuts: start afresh where a new shot begins.
    seconds: stop after this time.
    precision: as in predictions_from_folder.
    verbose: print the run, weights, preset and domain that are used.
    """
    from unisal.commands.camera import CameraOptions, predict_camera
    from unisal.predict.presets import VIDEO_PRESET, run_presets

    options = CameraOptions(
        out=as_path(out),
        window=window or out is None,
        source=chosen_preset(source, preset) or VIDEO_PRESET,
        presets=run_presets(train_id),
        model_domain=model_domain,
        fps=fps,
        frame_step=frame_step,
        reset_at_cuts=reset_at_cuts,
        seconds=seconds,
        verbose=verbose,
        precision=precision,
    )
    predict_camera(camera=from_home(camera), options=options, train_id=train_id, device=device)


@stands_for("data", "folder_path")
def visualize_examples(
    folder_path: str,
    *,
    train_id: str | None = None,
    n: int = 12,
    seed: int = 0,
    out_dirname: str = "viz_out",
    alpha: float = 0.55,
    show_labels: bool = True,
    source: str | None = None,
    contact_sheet: bool = False,
    video: bool = False,
    fps: float = 30,
    device: str = "auto",
    data: str | None = None,
    gaze: Any = None,
    preset: str | None = None,
    model_domain: str | None = None,
) -> None:
    """Write pictures next to their ground truth and predictions, to look at.

    Reads <folder_path>/images/ and maps/, or ALLSTIMULI/ and ALLFIXATIONMAPS/; writes
    <folder_path>/<out_dirname>/<picture's name>_viz.jpg: the picture; the ground truth over it; the
    model's map over it, with lines around 50 and 80 % of the ground truth; the same for
    pretrained_unisal if that exists and is another model.

    train_id: the run whose weights to use (pretrained_unisal).
    n: how many pictures to draw.
    seed: another seed draws other pictures.
    out_dirname: the folder to write to.
    alpha: opacity of the heat maps at their maxima, 0 to 1.
    show_labels: write labels above the panels.
    source, preset: two names of one option: the preset, named after the data set whose pictures
        are most similar (the run's default, else SALICON; with --video: DHF1K), or a domain of the
        run's own. With a preset for videos they are predicted as the frames of one.
    model_domain: the network domain to use (the preset's).
    contact_sheet: also write the panels of all drawn pictures into one, contact_sheet_viz.jpg.
    video: also write all pictures, in the order of their names, as the frames of a video,
        <folder's name>_viz.mp4.
    fps: frames per second of the video.
    data: instead of folder_path: a folder of pictures or films with a table of where people looked,
        or its gaze.json. Shows the validation part; writes to <train_id>/<name>_<out_dirname>/ in
        predictions/ or $PRED_DIR.
    gaze: with data: entries that replace those of gaze.json:
        --gaze="{'columns': {'x': 'gx', 'y': 'gy'}}" (those that the run was trained with).
    """
    if data is None and gaze is not None:
        raise UserError("gaze goes with data")
    if data is not None:
        if folder_path is not None or source is not None or preset is not None or video:
            raise UserError("data goes without folder_path, source, preset and video")
        from unisal.commands.visualize_data import visualize_data

        visualize_data(
            source=with_data(None, "data", data, gaze, find_run(train_id))[0],
            model_domain=model_domain,
            train_id=train_id,
            n=n,
            seed=seed,
            out_dirname=out_dirname,
            alpha=alpha,
            show_labels=show_labels,
            sheet=contact_sheet,
            device=device,
        )
        return
    from unisal.commands.visualize import visualize_examples

    visualize_examples(
        folder=Path(from_home(folder_path)),
        train_id=train_id,
        n=n,
        seed=seed,
        out_dirname=out_dirname,
        alpha=alpha,
        show_labels=show_labels,
        source=chosen_preset(source, preset),
        model_domain=model_domain,
        sheet=contact_sheet,
        video=video,
        fps=fps,
        device=device,
    )


def generate_predictions(
    train_id: str | None = None,
    *,
    sources: Any = None,
    phase: str | None = None,
    model_domain: str | None = None,
    smooth_method: str | None = None,
    x_val_step: int | None = None,
    overwrite: bool = False,
    device: str = "auto",
    data: str | None = None,
    verbose: bool = False,
    tta: str | None = None,
    gaze: Any = None,
    workers: int | None = None,
    address: str | None = None,
    worker_gpus: float = 0,
) -> None:
    """Write the saliency maps of whole data sets, to be submitted to a benchmark or compared.

    Writes to <train_id>/<source>/ in predictions/ or $PRED_DIR. The same command finishes a run
    that was stopped.

    train_id: the run whose weights to use (pretrained_unisal).
    sources: data sets, separated by commas (DHF1K,Hollywood,UCFSports,SALICON,MIT1003,MIT300).
    phase: test, or eval for the validation part (test; MIT1003's is one of its folds).
    model_domain: the network domain to use, instead of the source's own.
    smooth_method: for videos: medK takes the median over K neighbouring frames, K odd.
    x_val_step: the fold of MIT1003 (the one that the run's fine-tuning held out, else 0).
    overwrite: first remove existing predictions, for instance those of other weights.
    data: a folder of pictures or films with a table of where people looked, or its gaze.json: all
        of them, or with --phase=eval the validation part.
    tta: also predict other views and average: mirror, the mirror image; scales, 3/4 and 5/4 of the
        size; or mirror,scales.
    verbose: print the run, weights and domain that are used.
    gaze: entries that replace those of gaze.json: --gaze="{'columns': {'x': 'gx', 'y': 'gy'}}"
        (those that the run was trained with).
    workers, address, worker_gpus: as in predictions_from_folder; each video is predicted by one
        worker.
    """
    from unisal.cluster.workers import Crew
    from unisal.commands.generate import generate_predictions

    generate_predictions(
        train_id=train_id,
        sources=with_data(sources, "sources", data, gaze, find_run(train_id)),
        phase=phase,
        model_domain=model_domain,
        smooth_method=smooth_method,
        x_val_step=x_val_step,
        overwrite=overwrite,
        device=device,
        verbose=verbose,
        tta=tta,
        crew=Crew(workers, address, worker_gpus),
    )


def calibrate(
    train_id: str | None = None,
    *,
    sources: Any = None,
    model_domain: str | None = None,
    save: bool = False,
    random_seed: int = ScoringOptions.random_seed,
    device: str = "auto",
    data: str | None = None,
    gaze: Any = None,
) -> None:
    """Measure whether a run's probabilities hold, and fit a temperature that makes them better.

    For regions that hold 10 to 90 % of each prediction: the share of the fixations in them, with
    its 95 % interval. Then the temperature with the lowest mean KLD; densities are taken to the
    power of 1 / temperature. Writes calibration.json and calibration.png into the run's folder.

    train_id: the run's folder in training_runs/ or $TRAIN_DIR (pretrained_unisal).
    sources: data sets, separated by commas (those that score_model takes); the parts are the same.
    model_domain: the network domain to use, instead of the one that score_model uses.
    save: store the temperature of each domain in the run's UNISAL.json, so that the run predicts
        with it.
    random_seed: seed of the intervals.
    data: a folder of pictures or films with a table of where people looked, or its gaze.json.
    gaze: entries that replace those of gaze.json: --gaze="{'columns': {'x': 'gx', 'y': 'gy'}}"
        (those that the run was trained with).
    """
    from unisal.commands.calibration import calibrate

    calibrate(
        train_id=train_id,
        sources=with_data(sources, "sources", data, gaze, find_run(train_id)),
        model_domain=model_domain,
        save=save,
        random_seed=random_seed,
        device=device,
    )


def quantize(
    train_id: str | None = None,
    *,
    sources: Any = None,
    data: str | None = None,
    model_domain: str | None = None,
    n_pictures: int = 120,
    random_seed: int = ScoringOptions.random_seed,
    gaze: Any = None,
) -> None:
    """Make a run's network in 8 bits, which is faster, and measure how well it agrees with float32.

    Calibrates on the training parts and measures on the validation parts. Writes the graph, for
    one domain and either images or videos, and what was measured beside the run's weights:
    <weights>_int8_<domain>_images.onnx and .json. --precision=int8 then predicts with it.
    --precision=auto does so if on each data set the CC of its densities with those of float32 is
    0.999 in the mean and 0.99 at worst, and no mean score changes by more than 0.005 (NSS 0.02).
    Where the processor has bfloat16, that is measured too (<weights>_bf16_<domain>_images.json),
    and --precision=auto uses it if these bounds hold and those of 8 bits do not. The graph belongs
    to these weights and this version of the program.

    train_id: the run's folder in training_runs/ or $TRAIN_DIR (pretrained_unisal).
    sources: data sets, separated by commas (those that score_model takes); all of pictures, or all
        of videos.
    data: a folder of pictures or films with a table of where people looked, or its gaze.json.
    model_domain: the network domain, instead of the one that score_model uses.
    n_pictures: so many pictures, or clips of 8 frames, are calibrated with; every third of them is
        held back to decide what is kept more exactly.
    random_seed: other seeds draw other pictures.
    gaze: entries that replace those of gaze.json: --gaze="{'columns': {'x': 'gx', 'y': 'gy'}}"
        (those that the run was trained with).
    """
    from unisal.commands.quantize import quantize_run

    quantize_run(
        train_id=train_id,
        sources=with_data(sources, "sources", data, gaze, find_run(train_id)),
        model_domain=model_domain,
        n_pictures=check_count(n_pictures, "n_pictures", smallest=6),
        random_seed=random_seed,
    )


def export(
    train_id: str | None = None,
    *,
    format: str = "onnx",
    out: str | None = None,
    domain: str | None = None,
    video: bool = False,
    precision: str = "fp32",
    output: str = "density",
    resize: bool | None = None,
    size: Any = None,
    batch: int | None = None,
    licence: str | None = None,
) -> None:
    """Write a run's network to a file that other programs run, from a picture to its density.

    Normalisation, priors, smoothing and resizing are inside: the file takes RGB pictures of any
    size as uint8 and gives densities of the same size. With --video it takes the GRU's state as
    well and gives the next one. Domain, preset, licence and the weights' digest are in the file's
    metadata. docs/guide/deploy.md shows how each kind is run.

    train_id: the run whose network to write (pretrained_unisal).
    format: onnx, torch_export, torchscript, openvino or tflite.
    out: the file: .onnx, .pt2, .pt, .xml or .tflite (unisal.onnx and so on, here).
    domain: the network domain (that of the run's preset; with --video DHF1K).
    video: whether the frames of a video follow each other, rather than unrelated pictures.
    precision: fp32; int8 for the graph that quantize has made (onnx, openvino); or bf16
        (torch_export, torchscript).
    output: density; or logits, the network's map before resize and softmax.
    resize: resize inside (all but tflite). Without it the file takes pictures that are as large as
        the network's input, with sides that are multiples of 32.
    size: height and width of the network's input, multiples of 32: --size=288,384 (the ones that
        predictions use for the picture; with tflite 288,384).
    batch: the number of pictures in a call (any; tflite takes 1).
    licence: that of the weights, for the metadata: --licence=Apache-2.0.
    """
    from unisal.commands.export import export_run, read_size
    from unisal.export.formats import suffix_of

    export_run(
        train_id=train_id,
        format=format,
        out=as_path(out) or Path(f"unisal{suffix_of(format)}"),
        domain=domain,
        video=check_switch(video, "video"),
        precision=precision,
        output=output,
        resize=None if resize is None else check_switch(resize, "resize"),
        size=read_size(size),
        batch=None if batch is None else check_count(batch, "batch"),
        licence=licence,
    )


def check_data(
    source: Any = None,
    *,
    quick: bool = False,
    max_shown: int = 20,
    data: str | None = None,
    gaze: Any = None,
    out: str | None = None,
    n: int = 6,
) -> None:
    """Inspect the data folders: count their files and report missing, damaged and odd ones.

    data: a folder of pictures or films with a table of where people looked, or its gaze.json. What
        was dropped and assumed is printed too, and a page with examples is drawn.
    gaze: entries that replace those of gaze.json: --gaze="{'columns': {'x': 'gx', 'y': 'gy'}}".
    out: where to write that page, a .png or .jpg file (<name>_examples.png here).
    n: how many examples it shows.
    source: data sets, separated by commas (all whose folder exists).
    quick: read only the headers of the files, not every pixel.
    max_shown: how many problems to name per data set.
    """
    from unisal.commands.check_data import check_data
    from unisal.commands.check_gaze import check_gaze
    from unisal.commands.gaze_reports import with_entries
    from unisal.data import name_data

    sources = as_names(source, "source")
    if data is None and gaze is None and not any("=" in name for name in sources):
        check_data(sources=sources, quick=quick, max_shown=max_shown)
        return
    check_gaze(
        sources=with_entries(sources if data is None else (*sources, name_data(data)), gaze),
        quick=quick,
        max_shown=max_shown,
        out=as_path(out),
        n=n,
    )


def prepare_dhf1k(dhf1k_dir: str | None = None, *, tolerance: int = 5) -> None:
    """Convert the videos of DHF1K's official download to frames.

    Reads <dhf1k_dir>/video/NNN.AVI, writes <dhf1k_dir>/annotation/NNNN/images/NNNN.png beside the
    downloaded maps and fixations. The same command finishes a run that was stopped.

    dhf1k_dir: the download ($DHF1K_DATA_DIR, data/DHF1K).
    tolerance: by how many a video's frames and maps may differ. The first frames that have maps
        are kept, and the video is named.
    """
    from unisal.commands.prepare_dhf1k import prepare_dhf1k

    prepare_dhf1k(folder=as_path(dhf1k_dir or None), tolerance=tolerance)


def download_weights(*, base_url: str | None = None) -> None:
    """Download and verify the official weights of 2020 into training_runs/official_unisal/.

    base_url: a mirror of the files.
    """
    from unisal.commands.download import BASE_URL, download_weights

    folder = download_weights(base_url=base_url or BASE_URL, folder=None)
    print(f"official weights are in {folder}")


COMMANDS = {
    command.__name__: command
    for command in (
        predict_examples,
        predictions_from_folder,
        predict_video,
        predict_camera,
        visualize_examples,
        train,
        finetune,
        train_finetune_mit,
        average,
        score_model,
        calibrate,
        quantize,
        export,
        generate_predictions,
        check_data,
        prepare_dhf1k,
        download_weights,
    )
}
