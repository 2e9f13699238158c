"""`visualize_examples --data`: predictions next to the gaze of a folder of one's own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from unisal.commands.progress import TERMINAL
from unisal.commands.visualize import (
    SHEET_NAME,
    PanelStyle,
    PictureFiles,
    ShownPicture,
    check_options,
    load_models,
)
from unisal.config import pred_dir, run_dir, run_name
from unisal.data import GazeSource, find_dataset
from unisal.data.inspection import quick_check
from unisal.data.pairs import Pair
from unisal.errors import UserError
from unisal.inference.densities import to_density
from unisal.inference.engine import Engine
from unisal.predict.datasets import predict_dataset
from unisal.predict.presets import source_domain
from unisal.types import Density
from unisal.writing.formats import distinct_names


def visualize_data(
    *,
    source: str,
    model_domain: str | None,
    train_id: str | None,
    n: int,
    seed: int,
    out_dirname: str,
    alpha: float,
    show_labels: bool,
    sheet: bool,
    device: str,
) -> None:
    """Write pictures, or frames of films, next to the ground truth and the maps of models.

    They are drawn from the validation part, which a run has not trained on. Of a film the frame
    nearest to its middle that someone looked at is shown, predicted from the film's start. Written
    to `<train_id>/<source>_<out_dirname>/` among the predictions; see `visualize_examples`.

    Args:
        source: NAME=PATH of a folder of gaze data.
        model_domain: the network domain to use; None for that of the data.
        train_id: see `visualize_examples`.
        n: see `visualize_examples`.
        seed: see `visualize_examples`.
        out_dirname: the end of the name of the folder that is written to.
        alpha: see `visualize_examples`.
        show_labels: see `visualize_examples`.
        sheet: see `visualize_examples`.
        device: see `visualize_examples`.

    Raises:
        UserError: an option is wrong, or the data cannot be read.
        SomeFailed: some pictures could not be read; all others are done.
    """
    check_options(n, seed, alpha)
    if Path(out_dirname).name != out_dirname or out_dirname in ("", ".."):
        raise UserError(f"out_dirname is {out_dirname!r}; it has to be the name of a folder")
    run, cls = run_dir(train_id), find_dataset(source)
    dataset = cls.as_in_run(run, progress=TERMINAL, phase=cls.scored_phase)
    assert isinstance(dataset, GazeSource)
    quick_check([dataset])
    models = load_models(train_id, device, fine_tuned=False)
    engines = {name: predictor.engine for name, predictor in models.items()}
    domain = model_domain or source_domain(train_id, dataset)
    number = len(dataset.lengths())
    chosen = sorted(np.random.RandomState(seed).permutation(number)[:n].tolist())
    out = pred_dir() / run_name(run) / f"{dataset.source}_{out_dirname}"
    paths = [Path(dataset.title(index).replace("/", "_")) for index in chosen]
    style = PanelStyle(alpha, show_labels)
    pictures = PictureFiles(out, distinct_names(paths, taken=[SHEET_NAME]), style, sheet)
    with TERMINAL.bar("", "film" if dataset.is_video else "image", len(chosen)) as bar:
        for index, path in zip(chosen, paths, strict=True):
            pair = Pair(path, None)
            try:
                frame = dataset.middle(index)
                rgb = dataset.read_picture(index, frame)
                truth = dataset.density(index, number=frame)
                predictions = dict(_predictions(engines, dataset, domain, index, frame))
                pictures.add(ShownPicture(pair, rgb, truth, predictions))
            except UserError as error:
                pictures.fail(pair, error)
            bar.update()
    pictures.finish()


def _predictions(
    engines: Mapping[str, Engine], dataset: GazeSource, domain: str, index: int, frame: int
) -> Iterator[tuple[str, Density]]:
    """Yield what each model predicts for a frame."""
    for place, (name, engine) in enumerate(engines.items()):
        # What a run is compared with may not have its domain.
        known = place == 0 or domain in engine.sources
        used = engine.domain(domain if known else source_domain(name, dataset))
        predictions = predict_dataset(engine, dataset, used, size="frame", chosen=[index])
        yield name, next(to_density(y) for key, y in predictions if key.number == frame)
