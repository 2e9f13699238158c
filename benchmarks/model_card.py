"""Print the tables of scores of a model card.

Run `python -m benchmarks.model_card --data=osie=FOLDER,crowd=FOLDER --clips=FOLDER`. Each picture
is scored at its own aspect ratio with a longer side of 640 pixels, against densities that are
blurred by 3 % of the longer side. Clips are those of a folder that is laid out like DHF1K, or
moving crops over the first pictures of a validation part. A score stands with the bootstrap 95 %
interval of its mean.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from unisal.data import SaliencyDataset, find_dataset, name_data
from unisal.data.gaze import gaze_source
from unisal.errors import UserError
from unisal.evaluate.baselines import CHANCE
from unisal.evaluate.options import ScoringOptions
from unisal.evaluate.scores import Scores
from unisal.evaluate.scoring import dataset_to_score, score_baselines, score_dataset
from unisal.inference.engine import Engine
from unisal.predict.loading import load_model
from unisal.predict.presets import VIDEO_PRESET, default_preset, find_preset, run_presets

LONGER_SIDE, BLUR_SHARE = 640, 0.03
"""The size that pictures are scored at, and the blur of the densities as a share of it."""
N_CLIPS, N_FRAMES = 16, 30
"""How many moving crops of a set are scored, and their length."""
ALWAYS = "SALICON"
"""The domain of pictures that is scored beside that of the default preset."""
NAMES = {"kld": "KLD", "nss": "NSS", "cc": "CC", "sim": "SIM", "aucj": "AUC-J", "aucs": "sAUC"}
NAMES |= {"ig": "IG"}
"""The columns."""
OF_PICTURES = ScoringOptions(metrics=tuple(NAMES))
OF_CLIPS = ScoringOptions()
Rows = Iterator[tuple[str, Scores]]


def main(arguments: Sequence[str] | None = None) -> None:
    """Score, and print a table for each data set.

    Args:
        arguments: by default those of the command line.

    Raises:
        UserError: a run, domain or data set does not exist, or its data is faulty.
    """
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--run", default=None, help="the run (the weights that ship)")
    parser.add_argument("--data", default="", help="NAME=FOLDER of pictures with gaze, ...")
    parser.add_argument("--clips", default="", help="folders laid out like DHF1K, NAME=FOLDER, ...")
    parser.add_argument("--domain", default=None, help="of pictures (that of the default preset)")
    options = parser.parse_args(arguments)
    clips = [part for part in options.clips.split(",") if part]
    folders = [part.rpartition("=")[2] for part in clips]
    if missing := [folder for folder in folders if not Path(folder).is_dir()]:
        raise UserError(f"--clips: {', '.join(missing)} does not exist")
    pictures = [as_scored(data) for data in options.data.split(",") if data]
    engine = Engine(load_model(options.run), "cpu")
    name = default_preset(options.run)
    preset = find_preset(name, for_images=True, own=run_presets(options.run))
    domain = engine.domain(options.domain or preset.domain)
    for dataset in pictures:
        say(f"{dataset.source}: {len(dataset)} pictures", picture_rows(engine, dataset, domain))
    for part in clips:
        dataset = moving_crops_of(part) if "=" in part else clips_of(Path(part))
        lengths = dataset.lengths()
        title = f"{Path(part.partition('=')[0]).name}: {len(lengths)} clips, {sum(lengths)} frames"
        say(title, clip_rows(engine, dataset, domain))


def as_scored(data: str, subset: float = 1.0) -> SaliencyDataset:
    """Return the validation part of a folder of gaze data, or a share, as this page scores it."""
    source = find_dataset(name_data(data))
    if source.is_video:
        raise UserError(f"--data: {data} holds films; --data takes folders of pictures")
    blur = {"blur_share": BLUR_SHARE}
    reading = {"score_size": LONGER_SIDE, "gaze": blur, "subset": subset}
    return source.from_options(reading, phase=source.scored_phase)


def clips_of(folder: Path) -> SaliencyDataset:
    """Return the validation part of a folder that is laid out like DHF1K."""
    variable = find_dataset(VIDEO_PRESET).root_variable
    assert variable is not None
    os.environ[variable] = str(folder.resolve())
    return dataset_to_score(VIDEO_PRESET)


def moving_crops_of(spec: str) -> SaliencyDataset:
    """Return films over the first pictures of the validation part of a folder of gaze data."""
    name, _, folder = spec.partition("=")
    changes = {"kind": "moving_crops", "blur_share": BLUR_SHARE}
    source = gaze_source(name, Path(folder), changes=changes)
    length = len(source.from_options({}, phase="eval").lengths())
    reading = {"subset": min(1.0, N_CLIPS / length), "n_frames": N_FRAMES}
    return source.from_options(reading, phase="eval")


def picture_rows(engine: Engine, dataset: SaliencyDataset, domain: str) -> Rows:
    """Yield the scores of the network by its domain, and those of the baselines."""
    for name in dict.fromkeys([domain, ALWAYS]):
        if name in engine.sources:
            of_network = score_dataset(engine, dataset, name, options=OF_PICTURES)
            yield f"**these weights, {name}**", of_network
    yield from baseline_rows(dataset, OF_PICTURES)


def clip_rows(engine: Engine, dataset: SaliencyDataset, domain: str) -> Rows:
    """Yield the scores of the modules for video, of those for pictures, and of the baselines."""
    video = find_preset(VIDEO_PRESET).domain
    yield f"**{video}, with the GRU**", score_dataset(engine, dataset, video, options=OF_CLIPS)
    frames = score_dataset(engine, dataset, domain, options=OF_CLIPS)
    yield f"{domain}, frame by frame", frames
    yield from baseline_rows(dataset, OF_CLIPS)


def baseline_rows(dataset: SaliencyDataset, options: ScoringOptions) -> Rows:
    """Yield the scores of the baselines, chance last."""
    found = score_baselines(dataset, options, in_detail=False)
    yield from ((name, scores) for name, scores in found.items() if name != CHANCE)
    yield CHANCE, found[CHANCE]


def say(title: str, rows: Rows) -> None:
    """Print a table in Markdown, a line as soon as it is known."""
    heading = f"\n{title}\n"
    for name, scores in rows:
        if heading:
            columns = [NAMES[metric] for metric in scores.metrics]
            print(f"{heading}\n| | {' | '.join(columns)} |\n|---|{'---|' * len(columns)}")
            heading = ""
        print(f"| {name} | {' | '.join(cells(scores))} |", flush=True)


def cells(scores: Scores) -> list[str]:
    """Return the means with their intervals, as text; nothing where a mean is undefined."""
    ends = zip(scores.means, *scores.intervals(OF_PICTURES.random_seed), strict=True)
    return [
        "" if np.isnan(mean) else f"{mean:.3f} [{low:.3f}, {high:.3f}]" for mean, low, high in ends
    ]


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        sys.exit(str(error))
