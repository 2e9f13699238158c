"""MIT300: the images of the benchmark, whose gaze is not public."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from unisal.data.base import first_share
from unisal.data.images import ImageDataset
from unisal.data.listing import Group, Place, list_images
from unisal.data.mit1003 import doubled_folder, fine_tuned_fold
from unisal.data.pictures import displayed_size
from unisal.errors import UserError
from unisal.types import Size

NAME = re.compile(r"i(\d+)\.jpg")


class MIT300Dataset(ImageDataset):
    """`BenchmarkIMAGES/i<N>.jpg`, in the order of N; may also lie in a second folder of that name.

    Args:
        phase: only "test", since there are no maps.
        subset: see `SaliencyDataset`.
        augment: accepted, but nothing is augmented, since there is no training part.
        seed: see `SaliencyDataset`.
        verbose: see `SaliencyDataset`.

    Raises:
        UserError: another phase, no such folder, or no images in it.
    """

    source = "MIT300"
    domain = "SALICON"
    root_variable = "MIT300_DATA_DIR"
    root_default = "MIT300"
    scalar_prefix = "mit300"
    score_name = "MIT300"
    scored_by_default = False
    fine_tuned = True
    public_ground_truth = False
    phases = ("test",)
    predicted_phases = ("test",)
    raw_predictions = True

    def __init__(
        self,
        phase: str = "test",
        subset: float = 1.0,
        augment: bool | Mapping[str, Any] = False,
        seed: int | Sequence[int] = 0,
        verbose: int = 1,
    ) -> None:
        super().__init__(phase, subset, augment, seed, verbose)
        if phase != "test":
            raise UserError(
                f"MIT300 has no phase {phase!r}: where people looked at its images is not public, "
                "so it can be predicted (phase 'test') but neither trained on nor scored"
            )
        self.folder = doubled_folder(self.root() / "BenchmarkIMAGES", "i*.jpg")
        numbered = {
            int(match[1]): path
            for path in self.folder.glob("i*.jpg")
            if (match := NAME.fullmatch(path.name))
        }
        self.images = first_share([numbered[n] for n in sorted(numbered)], subset)
        if not self.images:
            raise UserError(
                f"MIT300 needs {self.folder / 'i<number>.jpg'}; {len(numbered)} files found, "
                f"{len(self.images)} left with subset={subset}"
            )
        self.sizes = [displayed_size(path) for path in self.images]

    @classmethod
    def part(cls, _phase: str) -> str:
        return "all"

    @classmethod
    def list_part(cls, _phase: str) -> Iterator[Group]:
        folder = doubled_folder(cls.root() / "BenchmarkIMAGES", "i*.jpg")
        yield Group(cls.source, *list_images({"image": Place(folder, (".jpg",), "i")}))

    def target_size(self, index: int) -> Size:
        return self.sizes[index]

    def prediction_folder(self, run: Path, fold: int | None = None) -> Path:
        fold = fine_tuned_fold(run) if fold is None else fold
        return Path(self.source, f"{self.source}_xVal{fold}")
