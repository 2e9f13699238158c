"""SALICON: images with the gaze (mouse traces) of many observers."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from unisal.data.base import check_size, first_share, one_of, require_files
from unisal.data.images import ImageDataset
from unisal.data.listing import FrameFiles, Group, Place, list_images
from unisal.data.mat_files import check_mat
from unisal.data.pictures import picture_size, read_grey
from unisal.data.transforms import to_fixation_map
from unisal.errors import UserError, cause
from unisal.files import natural_order, remove_leftovers, write_atomically
from unisal.types import Size

PART_OF_PHASE = {"train": "train", "valid": "val", "eval": "val", "test": "test"}
"""The part of the files that each phase reads."""
FIXATION_FIELD = 2
"""The field of an observer's record in the official `.mat` files that holds the fixations."""
MAX_SIDE = 1 << 15
"""The largest side of a picture that fixations are believed to belong to."""


class SALICONDataset(ImageDataset):
    """`images/COCO_<part>2014_*.jpg`, `maps/<part>/*.png`, `fixations/<part>/*.{mat,png}`.

    Args:
        phase: see `SaliencyDataset`.
        subset: see `SaliencyDataset`.
        input_size: (height, width) of the network's input; None: 288 x 384.
        augment: see `SaliencyDataset`.
        seed: see `SaliencyDataset`.
        verbose: see `SaliencyDataset`.
        out_size: the published name of `input_size`.

    Raises:
        UserError: there is no such folder, the part has no images, an image lacks a map or
            fixations, or maps differ in size.
    """

    source = "SALICON"
    domain = "SALICON"
    root_variable = "SALICON_DATA_DIR"
    root_default = "SALICON"
    scalar_prefix = "salicon"
    score_name = "SALICON"
    input_size = (288, 384)
    loss_weight = 0.5
    debug_subset = 0.02

    def __init__(
        self,
        phase: str = "train",
        subset: float = 1.0,
        input_size: Size | None = None,
        augment: bool | Mapping[str, Any] = False,
        seed: int | Sequence[int] = 0,
        verbose: int = 1,
        *,
        out_size: Size | None = None,
    ) -> None:
        input_size = one_of("input_size", input_size, "out_size", out_size)
        if input_size is not None:
            self.input_size = check_size(input_size, "input_size")
        super().__init__(phase, subset, augment, seed, verbose, out_size=self.input_size)
        part = PART_OF_PHASE[phase]
        self.folder = self.root()
        pattern = f"COCO_{part}2014_*.jpg"
        found = sorted((self.folder / "images").glob(pattern), key=natural_order)
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

    @classmethod
    def part(cls, phase: str) -> str:
        return PART_OF_PHASE[phase]

    @classmethod
    def list_part(cls, phase: str) -> Iterator[Group]:
        part = PART_OF_PHASE[phase]
        root, start = cls.root(), f"COCO_{part}2014_"
        places = {"image": Place(root / "images", (".jpg",), start)}
        if phase != "test":
            places["saliency_map"] = Place(root / "maps" / part, (".png",), start)
            places["fixations"] = Place(root / "fixations" / part, (".png", ".mat"), start)
        yield Group(part, *list_images(places), one_map_size=True)

    @staticmethod
    def read_fixation_file(path: Path) -> NDArray[np.bool_]:
        if path.suffix == ".mat":
            return read_mat_fixations(path)
        return to_fixation_map(read_grey(path))

    # ---- frame by frame ---------------------------------------------------------------------
    def files(self, index: int, number: int = 1) -> FrameFiles:
        if not self.has_maps:
            return FrameFiles(self.images[index])
        return FrameFiles(self.images[index], self.maps[index], self.fixations[index])

    def prediction_path(self, index: int, number: int = 1) -> Path:
        return Path(f"{self.images[index].stem}.png")

    def read_fixation_map(self, index: int, number: int = 1) -> NDArray[np.bool_]:
        return self._read_fixations(self.fixations[index])

    def read_observers(self, index: int) -> list[NDArray[np.float64]] | None:
        path = self.fixations[index].with_suffix(".mat")  # a cached .png holds their union
        return read_mat_observers(path)[0] if path.is_file() else None

    def _find_fixations(self, part: str) -> list[Path]:
        """Return the file of fixations of each image."""
        folder = self.folder / "fixations" / part
        remove_leftovers(folder)
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
        """Read a fixation map, and cache that of a `.mat` file as a picture."""
        cached = path.with_suffix(".png")
        if path.suffix == ".png" or cached.is_file():  # this run may have written it
            return to_fixation_map(read_grey(cached))
        fixations = read_mat_fixations(path)
        picture = Image.fromarray(fixations.astype(np.uint8) * 255)
        with contextlib.suppress(OSError):  # a read-only folder: read the .mat again next time
            write_atomically(cached, picture.save)
        return fixations


def read_mat_fixations(path: Path) -> NDArray[np.bool_]:
    """Read SALICON's official fixations.

    Returns:
        The union over the observers, `[H, W] bool`.

    Raises:
        UserError: see `read_mat_observers`.
    """
    observers, size = read_mat_observers(path)
    fixations = np.zeros(size, dtype=bool)
    for xy in observers:
        fixations[xy[:, 1].astype(int), xy[:, 0].astype(int)] = True
    return fixations


def read_mat_observers(path: Path) -> tuple[list[NDArray[np.float64]], Size]:
    """Read SALICON's official fixations, observer by observer.

    In the file positions are 1-based (x, y), and the resolution is (height, width). Positions
    outside the picture are left out.

    Returns:
        The fixations of each observer, `[n, 2]` (x, y) in whole pixels from 0, and the picture's
        (height, width).

    Raises:
        UserError: the file is missing, damaged or of another structure.
    """
    import scipy.io  # here, since it takes 0.15 s and 15 MB that predictions do not need

    try:
        whole = path.read_bytes()
        check_mat(whole)
        content = scipy.io.loadmat(io.BytesIO(whole))
        height, width = (int(n) for n in content["resolution"].ravel())
        if not (0 < height <= MAX_SIDE and 0 < width <= MAX_SIDE):
            raise ValueError(f"the resolution is {height} x {width} (height x width)")
        observers = [subject[FIXATION_FIELD] for subject in content["gaze"].ravel()]
        with np.errstate(invalid="ignore"):  # what is not a number is not inside the picture
            positions = [np.reshape(o, (-1, 2)).astype(int) - 1 for o in observers]
    except FileNotFoundError:
        raise UserError(f"{path} does not exist") from None
    except Exception as error:  # scipy raises many types on a damaged file
        raise UserError(f"{path} cannot be read as SALICON fixations: {cause(error)}") from None
    inside = [xy[((xy >= 0) & (xy < (width, height))).all(axis=1)] for xy in positions]
    return [xy.astype(np.float64) for xy in inside], (height, width)
