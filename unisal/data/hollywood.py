"""Hollywood-2: clips of films, cut into shots (spec 02)."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from unisal.config import own_arguments
from unisal.data.video import CroppedVideoDataset

FOLDER = re.compile(r"(actionclip(?:train|test))(\d+)_(\d+)")


class HollywoodDataset(CroppedVideoDataset):
    """`{training,testing}/actionclip{train,test}%05d_%d/{images,maps,fixation}/...%05d.png`.

    A folder is one shot, and an example is a shot's clip. Its files are called after the
    video alone, and their numbers go on from shot to shot.

    Args and errors: see `VideoDataset`.
    """

    source = "Hollywood"
    domain = "Hollywood"
    root_variable = "HOLLYWOOD_DATA_DIR"
    root_default = "Hollywood2_actions"
    scalar_prefix = "hollywood"
    score_name = "Hollywood_resized"
    scored_phase = "test"
    numbers = range(1, 701)  # as published, although there are 747
    test_numbers = range(1, 885)
    folders = {  # noqa: RUF012
        "train": "training",
        "valid": "training",
        "eval": "testing",
        "test": "testing",
    }

    def __init__(
        self,
        phase: str = "train",
        seq_len: int = 12,
        frame_modulo: int = 4,
        out_size: tuple[int, int] = (224, 416),
        val_size: int = 75,
        n_x_val: int = 3,
        x_val_step: int = 2,
        x_val_seed: int | None = 42,
        subset: float = 1.0,
        augment: bool | Mapping[str, Any] = False,
        seed: int | Sequence[int] = 0,
        verbose: int = 1,
    ) -> None:
        self.config = own_arguments(locals())
        split = (val_size, n_x_val, x_val_step, x_val_seed)
        super().__init__(phase, seq_len, frame_modulo, out_size, split, subset, augment, seed)

    @staticmethod
    def file_prefix(name: str) -> str:
        return name.rpartition("_")[0] + "_"

    @staticmethod
    def video_numbers(names: Sequence[str]) -> list[int]:
        matches = map(FOLDER.fullmatch, names)
        return [int(m[2]) if m else 0 for m in matches]

    def resized(self, size: tuple[int, int]) -> tuple[int, int]:
        height, width = size
        wanted = self.out_size[0]
        return size if height == wanted else (wanted, int(width * wanted / height))
