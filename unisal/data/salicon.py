"""SALICON: images with the gaze (mouse traces) of many observers (spec 02)."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import scipy.io
import torch
from numpy.typing import NDArray
from PIL import Image

from unisal.config import own_arguments
from unisal.data.base import Item, SaliencyDataset, first_share, require_files
from unisal.data.pictures import picture_size, read_grey, read_rgb
from unisal.data.transforms import normalise, resize_rgb, to_density, to_fixation_map
from unisal.errors import UserError
from unisal.files import write_atomically

PART = {"train": "train", "valid": "val", "eval": "val", "test": "test"}
"""The part of the files that a phase reads."""
FIXATION_FIELD = 2
"""Field of a subject's record in the official .mat that holds its fixations."""


class SALICONDataset(SaliencyDataset):
    """`images/COCO_<part>2014_*.jpg`, `maps/<part>/*.png`, `fixations/<part>/*.{mat,png}`.

    Args:
        phase, subset, augment, seed: see `SaliencyDataset`.
        out_size: (height, width) of the network's input.
        verbose: accepted for old configurations; has no effect.

    Raises:
        UserError: no such folder, no images of the part, an image without a map or fixations, maps
            of different sizes.
    """

    source = "SALICON"
    domain = "SALICON"
    dynamic = False
    root_variable = "SALICON_DATA_DIR"
    root_default = "SALICON"
    scalar_prefix = "salicon"
    score_name = "SALICON"

    def __init__(
        self,
        phase: str = "train",
        subset: float = 1.0,
        out_size: tuple[int, int] = (288, 384),
        augment: bool | Mapping[str, Any] = False,
        seed: int | Sequence[int] = 0,
        verbose: int = 1,
    ) -> None:
        self.config = own_arguments(locals())
        super().__init__(phase, subset, augment, seed)
        self.out_size = out_size[0], out_size[1]
        part = PART[phase]
        self.folder = self.root()
        pattern = f"COCO_{part}2014_*.jpg"
        found = sorted((self.folder / "images").glob(pattern))
        self.images = first_share(found, subset)
        if not self.images:
            raise UserError(
                f"SALICON's {phase} part needs {self.folder / 'images' / pattern}; "
                f"{len(found)} files found, {len(self.images)} left with subset={subset}"
            )
        self.has_maps = phase != "test"
        if self.has_maps:
            self.maps = [self.folder / f"maps/{part}/{p.stem}.png" for p in self.images]
            self.fixations = self._find_fixations(part)
            self._check_maps()

    def name(self, index: int) -> str:
        return self.images[index].name

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Item:
        rgb = read_rgb(self.images[index])
        if not self.has_maps:
            size = rgb.shape[0], rgb.shape[1]
            return Item([1], normalise(resize_rgb(rgb, self.out_size)), None, None, size)
        saliency_map = read_grey(self.maps[index])
        fixations = self._read_fixations(self.fixations[index])
        if fixations.shape != saliency_map.shape:
            raise UserError(
                f"{self.fixations[index]} is {fixations.shape}, its map {self.maps[index]} "
                f"{saliency_map.shape} (height, width); they have to be alike"
            )
        if self.augmentation is None:
            frame = resize_rgb(rgb, self.out_size)
        else:
            change = self.augmentation.draw(self.rng(index), fixations)
            frame = change.of_picture(rgb, self.out_size)
            saliency_map = change.of_map(saliency_map)
            fixations = change.of_fixations(fixations)
        return Item(
            frame_nrs=[1],
            frames=normalise(frame),
            maps=torch.from_numpy(to_density(saliency_map))[None],
            fixations=torch.from_numpy(fixations)[None],
            target_size=(saliency_map.shape[0], saliency_map.shape[1]),
        )

    def _find_fixations(self, part: str) -> list[Path]:
        folder = self.folder / "fixations" / part
        there = {p.name for p in folder.iterdir()} if folder.is_dir() else set()
        paths = [
            folder / (f"{p.stem}.png" if f"{p.stem}.png" in there else f"{p.stem}.mat")
            for p in self.images
        ]
        require_files("fixations (.mat or .png)", [p for p in paths if p.name not in there])
        return paths

    def _check_maps(self) -> None:
        require_files("saliency maps", [p for p in self.maps if not p.is_file()])
        if self.phase == "eval":  # scored one by one, so sizes may differ
            return
        first = picture_size(self.maps[0])
        for path in self.maps:
            if (size := picture_size(path)) != first:
                raise UserError(
                    f"maps have to have one size, but {self.maps[0]} is {first} "
                    f"and {path} {size} (height, width)"
                )

    def _read_fixations(self, path: Path) -> NDArray[np.bool_]:
        cached = path.with_suffix(".png")
        if path.suffix == ".png" or cached.is_file():  # this run may have written it
            return to_fixation_map(read_grey(cached))
        fixations = read_mat_fixations(path)
        picture = Image.fromarray(fixations.astype(np.uint8) * 255)
        with contextlib.suppress(OSError):  # a read-only folder: read the .mat again next time
            write_atomically(cached, picture.save)
        return fixations


def read_mat_fixations(path: Path) -> NDArray[np.bool_]:
    """Read SALICON's official fixations -> `[H, W] bool`, the union over observers.

    Positions are 1-based (x, y), the resolution is (height, width). Positions outside the
    picture are left out.

    Raises:
        UserError: the file is missing, damaged or of another structure.
    """
    try:
        with path.open("rb") as file:
            content = scipy.io.loadmat(file)
        height, width = (int(n) for n in content["resolution"].ravel())
        observers = [subject[FIXATION_FIELD] for subject in content["gaze"].ravel()]
    except FileNotFoundError:
        raise UserError(f"{path} does not exist") from None
    except Exception as error:  # scipy raises many types on a damaged file
        raise UserError(f"{path} cannot be read as SALICON fixations: {error}") from None
    fixations = np.zeros((height, width), dtype=bool)
    for positions in observers:
        if positions.size:
            xy = positions.astype(int) - 1
            xy = xy[((xy >= 0) & (xy < (width, height))).all(axis=1)]
            fixations[xy[:, 1], xy[:, 0]] = True
    return fixations
