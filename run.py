#!/usr/bin/env python3
"""The commands of UNISAL. `python run.py` lists them."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from unisal.cli import as_names, documented_by, main
from unisal.train.config import TrainerConfig


@documented_by(TrainerConfig)
def train(eval_sources: Any = None, resume: str | None = None, **options: Any) -> None:
    """Train the network on one or more data sets, then score it.

    eval_sources: what to score afterwards, by default what was trained on.
    resume: name of a run that was stopped, to go on with it from its newest checkpoint.
    """
    from unisal.evaluate.scoring import dataset_to_score, score_model
    from unisal.train import Trainer

    trainer = Trainer(**options) if resume is None else Trainer.resume(resume, **options)
    sources = as_names(eval_sources, "eval_sources") or trainer.cfg.data_sources
    for source in sources:  # so that a missing data set is found before the training
        dataset_to_score(source)
    trainer.fit()
    score_model(trainer.train_id, sources, trainer.cfg.device)


def score_model(
    train_id: str | None = None,
    sources: Any = "SALICON",
    model_domain: str | None = None,
    device: str = "auto",
) -> None:
    """Score a trained network on validation data; writes JSON files into the run's folder.

    train_id: the run's folder in training_runs/ or $TRAIN_DIR (pretrained_unisal).
    sources: data sets, separated by commas.
    model_domain: whose modules of the network to use, instead of the source's own.
    """
    from unisal.evaluate.scoring import score_model

    score_model(train_id, as_names(sources, "sources"), device, model_domain)


def predictions_from_folder(
    folder_path: str,
    is_video: bool = False,
    source: str | None = None,
    train_id: str | None = None,
    model_domain: str | None = None,
    overlay: bool = False,
    smooth_method: str | None = None,
    device: str = "auto",
) -> None:
    """Write a saliency map for every picture in a folder, or every frame of a video.

    Reads <folder_path>/images/*.{png,jpg,jpeg}, writes <folder_path>/saliency/<same name>.

    is_video: the pictures are the frames of one video, in the order of their names.
    source: what they are most like. Images: SALICON, MIT1003 or MIT300 (SALICON); videos: also
        DHF1K, Hollywood or UCFSports (DHF1K).
    train_id: the run whose weights to use (pretrained_unisal).
    model_domain: whose modules of the network to use (those for the source).
    overlay: also write the pictures with their maps over them to <folder_path>/overlay/.
    smooth_method: for videos: medK takes the median over K neighbouring frames, K odd.
    """
    from unisal.predict.folders import predict_folder

    predict_folder(
        Path(folder_path),
        is_video,
        source,
        train_id,
        model_domain,
        overlay,
        smooth_method,
        device,
    )


def predict_examples(
    train_id: str | None = None,
    overlay: bool = True,
    examples_dir: str | None = None,
    device: str = "auto",
) -> None:
    """Write saliency maps and overlays for the pictures and videos in examples/.

    train_id: the run whose weights to use (pretrained_unisal).
    overlay: also write the pictures with their maps over them.
    examples_dir: another folder to read from: SALICON/images/, MIT1003/images/, and
        <source>/<video>/images/ for videos.
    """
    from unisal.predict.folders import predict_examples

    predict_examples(train_id, Path(examples_dir) if examples_dir else None, overlay, device)


def download_weights(base_url: str | None = None) -> None:
    """Fetch and verify the official weights of 2020 into training_runs/official_unisal/.

    base_url: a mirror that holds the files.
    """
    from unisal.model.download import BASE_URL, download_weights

    print(f"official weights are in {download_weights(base_url or BASE_URL)}")


COMMANDS = {
    command.__name__: command
    for command in (
        predict_examples,
        predictions_from_folder,
        train,
        score_model,
        download_weights,
    )
}

if __name__ == "__main__":
    sys.exit(main(COMMANDS, sys.argv[1:], "run.py"))
