"""Predicting whole folders of pictures (spec 05, `predictions_from_folder`, `predict_examples`)."""

from __future__ import annotations

import logging
from pathlib import Path

from tqdm import tqdm

from unisal.config import examples_dir
from unisal.data.pictures import list_pictures, read_rgb
from unisal.errors import SomeFailed, UserError
from unisal.predict.predictor import IMAGE_DOMAIN, Predictor, load
from unisal.predict.writer import write_map, write_overlay
from unisal.visualize.overlay import draw_overlay

IMAGE_SOURCES = ("SALICON", "MIT1003", "MIT300")
FINE_TUNED_SOURCES = ("MIT1003", "MIT300")
"""Sources predicted with the fine-tuned weights, where the run has them."""
EXAMPLE_IMAGE_FOLDERS = ("SALICON", "MIT1003")
IMAGES, MAPS, OVERLAYS = "images", "saliency", "overlay"

log = logging.getLogger(__name__)


def predict_folder(
    folder: Path,
    is_video: bool = False,
    source: str | None = None,
    train_id: str | None = None,
    model_domain: str | None = None,
    overlay: bool = False,
    device: str = "auto",
) -> None:
    """Predict `<folder>/images/*` into `<folder>/saliency/` (and `<folder>/overlay/`).

    Raises:
        UserError: the folder has no pictures, or an option is wrong; nothing was done.
        SomeFailed: some pictures could not be read; all others are done.
    """
    if is_video:
        raise UserError("videos cannot be predicted yet; is_video=False predicts frame by frame")
    source = source or IMAGE_DOMAIN
    if source not in IMAGE_SOURCES:
        raise UserError(f"source is {source!r}; for images allowed are {', '.join(IMAGE_SOURCES)}")
    pictures = find_pictures(folder)
    predictor = load(train_id, device, fine_tuned=source in FINE_TUNED_SOURCES)
    predict_pictures(predictor, pictures, folder, model_domain or IMAGE_DOMAIN, overlay)


def predict_examples(
    train_id: str | None = None,
    folder: Path | None = None,
    overlay: bool = True,
    device: str = "auto",
) -> None:
    """Predict every folder of images under `folder` (default `examples/`).

    Raises:
        UserError: there is nothing to predict.
        SomeFailed: as `predict_folder`.
    """
    folder = folder or examples_dir()
    if not folder.is_dir():
        raise UserError(f"{folder} does not exist")
    inside = sorted(f for f in folder.iterdir() if f.is_dir() and not f.name.startswith("."))
    for other in [f for f in inside if f.name not in EXAMPLE_IMAGE_FOLDERS]:
        log.warning("%s is left out: videos cannot be predicted yet", other)
    chosen = [f for f in inside if f.name in EXAMPLE_IMAGE_FOLDERS and has_pictures(f)]
    if not chosen:
        names = " or ".join(EXAMPLE_IMAGE_FOLDERS)
        raise UserError(f"{folder} holds no pictures; expected {names} with a folder {IMAGES}")
    failed: list[str] = []
    for example in chosen:
        predictor = load(train_id, device, fine_tuned=example.name in FINE_TUNED_SOURCES)
        try:
            pictures = find_pictures(example)
            predict_pictures(predictor, pictures, example, IMAGE_DOMAIN, overlay)
        except SomeFailed as error:
            failed.append(str(error))
    if failed:
        raise SomeFailed("; ".join(failed))


def predict_pictures(
    predictor: Predictor, pictures: list[Path], folder: Path, domain: str, overlay: bool
) -> None:
    """Predict pictures one by one into `folder`; a picture that fails does not stop the others."""
    domain = predictor.engine.domain(domain)
    failed = []
    for path in tqdm(pictures, desc=folder.name, unit="image", disable=None):
        try:
            rgb = read_rgb(path)
        except UserError as error:
            failed.append(path.name)
            log.error("%s", error)
            continue
        density = predictor.image(rgb, domain=domain)
        write_map(folder / MAPS / path.name, density)
        if overlay:
            write_overlay(folder / OVERLAYS / path.name, draw_overlay(rgb, density))
    done = len(pictures) - len(failed)
    also = f", overlays in {folder / OVERLAYS}" if overlay else ""
    print(f"{done} saliency maps in {folder / MAPS}{also}")
    if failed:
        raise SomeFailed(
            f"{len(failed)} of {len(pictures)} pictures in {folder / IMAGES} could not be "
            f"predicted: {', '.join(failed)}"
        )


def find_pictures(folder: Path) -> list[Path]:
    """-> the pictures in `<folder>/images`.

    Raises:
        UserError: there are none; says what was expected where.
    """
    if not folder.is_dir():
        raise UserError(f"folder {folder} does not exist")
    images = folder / IMAGES
    if not images.is_dir():
        raise UserError(f"{folder} has no folder {IMAGES!r}; put the pictures into {images}")
    pictures = list_pictures(images)
    if not pictures:
        raise UserError(f"{images} holds no pictures (.png, .jpg, .jpeg)")
    return pictures


def has_pictures(folder: Path) -> bool:
    """Whether `<folder>/images` holds a picture."""
    images = folder / IMAGES
    return images.is_dir() and bool(list_pictures(images))
