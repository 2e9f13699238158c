"""MIT1003: images of many sizes with the gaze of 15 observers, for fine-tuning."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unisal.config import load_json
from unisal.data.base import Item, first_share, require_files
from unisal.data.images import ImageDataset
from unisal.data.listing import FrameFiles, Group, Place, list_images
from unisal.data.pictures import displayed_size, picture_size, read_grey_levels, read_rgb
from unisal.data.splits import shuffled, take_fold
from unisal.data.transforms import (
    best_fitting_size,
    normalise_map,
    optimal_input_size,
    resize_grey_levels,
    to_unit_range,
)
from unisal.errors import UserError
from unisal.types import STRIDE, Size

TRAIN_CELLS = ((8, 13), (9, 13), (9, 12), (12, 9), (13, 9))
TRAIN_SIZES = [(h * STRIDE, w * STRIDE) for h, w in TRAIN_CELLS]
"""Sizes of the network's input in training; each picture gets the one closest in ratio."""
TARGET_SCALE = 2
"""How much larger than the network's input the targets are in training."""
FINE_TUNING_RECORD = "ft_mit1003.json"
"""The file beside fine-tuned weights in a run's folder that says how they were made: `folder` is
the name of the folder of logs, `x_val_step` the fold."""


class MIT1003Dataset(ImageDataset):
    """`ALLSTIMULI/ALLSTIMULI/*.jpeg`, `ALLFIXATIONMAPS/ALLFIXATIONMAPS/<stem>_fix{Map,Pts}.jpg`.

    The folders need not be nested (`ALLSTIMULI/*.jpeg`). The file names, sorted, are numbered from
    0 and shuffled; of `n_x_val` folds, `x_val_step` is the validation part (phases valid, eval and
    test) and the others are the training part. There may be any number of images.

    In the phases train and valid the network's input is one of `TRAIN_SIZES` and the targets are
    `TARGET_SCALE` times as large; in eval and test the input has the optimal size for the picture,
    and the targets have the picture's own size. The phase test needs no maps.

    Args:
        phase: see `SaliencyDataset`.
        subset: see `SaliencyDataset`.
        n_x_val: number of folds.
        x_val_step: the fold, from 0; None: every part is all images.
        x_val_seed: seed of the shuffle; 0 or None leaves the images in order.
        augment: see `SaliencyDataset`.
        seed: see `SaliencyDataset`.
        verbose: see `SaliencyDataset`.

    Raises:
        UserError: there is no such folder, there are no images in it or in the fold, or an image
            lacks a map or fixations or differs from them in size.
    """

    source = "MIT1003"
    domain = "SALICON"
    root_variable = "MIT1003_DATA_DIR"
    root_default = "MIT1003"
    scalar_prefix = "mit1003"
    score_name = "MIT1003"
    scored_by_default = False
    fine_tuned = True
    valid_batch_size = 8
    debug_subset = 0.1
    validates_all = True

    def __init__(
        self,
        phase: str = "train",
        subset: float = 1.0,
        n_x_val: int = 10,
        x_val_step: int | None = 0,
        x_val_seed: int | None = 27,
        augment: bool | Mapping[str, Any] = False,
        seed: int | Sequence[int] = 0,
        verbose: int = 1,
    ) -> None:
        folds = {"n_x_val": n_x_val, "x_val_step": x_val_step, "x_val_seed": x_val_seed}
        super().__init__(phase, subset, augment, seed, verbose, **folds)
        self.x_val_step = x_val_step
        root = self.root()
        self.folder = doubled_folder(root / "ALLSTIMULI", "*.jpeg")
        found = sorted(p for p in self.folder.glob("*.jpeg") if not p.name.startswith("."))
        if not found:
            raise UserError(
                f"MIT1003 has no images in {self.folder}; expected {self.folder / '*.jpeg'}"
            )
        rest, part = take_fold(shuffled(range(len(found)), x_val_seed), n_x_val, x_val_step)
        chosen = first_share(rest if phase == "train" else part, subset)
        if not chosen:
            raise UserError(
                f"MIT1003's {phase} part is empty: {len(found)} images in {self.folder}, "
                f"x_val_step={x_val_step} of n_x_val={n_x_val}, subset={subset}"
            )
        self.images = [found[number] for number in chosen]
        self.sizes = [displayed_size(path) for path in self.images]
        self.has_maps = phase != "test"
        if self.has_maps:
            maps = doubled_folder(root / "ALLFIXATIONMAPS", "*_fixMap.jpg")
            self.maps = [maps / f"{p.stem}_fixMap.jpg" for p in self.images]
            self.fixations = [maps / f"{p.stem}_fixPts.jpg" for p in self.images]
            self._check_maps()

    @classmethod
    def part(cls, _phase: str) -> str:
        return "all"

    @classmethod
    def list_part(cls, _phase: str) -> Iterator[Group]:
        images = doubled_folder(cls.root() / "ALLSTIMULI", "*.jpeg")
        maps = doubled_folder(cls.root() / "ALLFIXATIONMAPS", "*_fixMap.jpg")
        places = {
            "image": Place(images, (".jpeg",)),
            "saliency_map": Place(maps, ("_fixMap.jpg",)),
            "fixations": Place(maps, ("_fixPts.jpg",)),
        }
        yield Group(cls.source, *list_images(places), maps_like_images=True)

    def input_size_for(self, index: int) -> Size:
        if self._resizes_targets:
            return best_fitting_size(self.sizes[index], TRAIN_SIZES)
        return optimal_input_size(self.sizes[index])

    def batch_group(self, index: int) -> Hashable:
        return self.input_size_for(index) if self._resizes_targets else self.sizes[index]

    def score_folder(self, run: Path | None = None) -> str:
        """Return where in the folder of a run its scores go.

        Args:
            run: the run's folder. If the weights in it were fine-tuned on this fold, the scores go
                into the folder of that fine-tuning; otherwise into `MIT1003_xVal<fold>`.
        """
        record = run / FINE_TUNING_RECORD if run is not None else None
        made = load_json(record) if record is not None and record.is_file() else {}
        if "folder" in made and made.get("x_val_step") == self.x_val_step:
            return str(made["folder"])
        return f"{self.source}_xVal{self.x_val_step}"

    @classmethod
    def fold_options(cls, fold: int | None) -> dict[str, Any]:
        return {} if fold is None else {"x_val_step": fold}

    def prediction_folder(self, run: Path, fold: int | None = None) -> Path:
        return Path(self.source, f"{self.source}_xVal{self.x_val_step}")

    def __getitem__(self, index: int) -> Item:
        if not self.has_maps:
            return self.item_without_maps(index)
        target = self.sizes[index]
        if self._resizes_targets:
            height, width = self.input_size_for(index)
            target = height * TARGET_SCALE, width * TARGET_SCALE
        levels = read_grey_levels(self.maps[index])
        saliency_map = to_unit_range(resize_grey_levels(levels, target, nearest=False))
        # Thresholded before pixels are left out: what remains may be JPEG noise.
        points = self.read_fixation_map(index).astype(np.uint8)
        fixations = resize_grey_levels(points, target, nearest=True).astype(bool)
        return self.item_with_maps(index, read_rgb(self.images[index]), saliency_map, fixations)

    # ---- frame by frame ---------------------------------------------------------------------
    def files(self, index: int, number: int = 1) -> FrameFiles:
        if not self.has_maps:
            return FrameFiles(self.images[index])
        return FrameFiles(self.images[index], self.maps[index], self.fixations[index])

    def target_size(self, index: int) -> Size:
        return self.sizes[index]

    def read_density(self, index: int, number: int = 1) -> NDArray[np.float32]:
        return normalise_map(to_unit_range(read_grey_levels(self.maps[index])))

    def read_fixation_map(self, index: int, number: int = 1) -> NDArray[np.bool_]:
        return self.read_fixation_file(self.fixations[index])

    @property
    def _resizes_targets(self) -> bool:
        """Whether the targets get a multiple of the input's size."""
        return self.phase in ("train", "valid")

    def _check_maps(self) -> None:
        for what, paths in (("saliency maps", self.maps), ("fixations", self.fixations)):
            require_files(f"MIT1003's {what}", [p for p in paths if not p.is_file()])
            for picture, size, path in zip(self.images, self.sizes, paths, strict=True):
                if (own := picture_size(path)) != size:
                    raise UserError(
                        f"{path} is {own}, its picture {picture} {size} (height, width); "
                        "they have to be the same"
                    )


def fine_tuned_fold(run: Path) -> int | None:
    """Return the fold that was held out when the weights in a run's folder were fine-tuned.

    It is 0 if the folder does not say, and None if no fold was.
    """
    record = run / FINE_TUNING_RECORD
    made: dict[str, Any] = load_json(record) if record.is_file() else {}
    return made.get("x_val_step", 0)


def doubled_folder(folder: Path, pattern: str) -> Path:
    """Return the folder that holds files like `pattern`: a subfolder of the same name, or itself.

    Most programs unpack the published archives into such a subfolder.
    """
    inner = folder / folder.name
    return inner if any(inner.glob(pattern)) else folder
