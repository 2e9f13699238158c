"""UCF Sports: broadcast sports in 150 videos (spec 02)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from unisal.config import own_arguments
from unisal.data.video import CroppedVideoDataset


class UCFSportsDataset(CroppedVideoDataset):
    """`{training,testing}/<Name-NNN>/{images,maps,fixation}/<Name>_<NNN>_%03d.png`.

    A video's number is the rank of its folder among the sorted ones, from 1.

    Args and errors: see `VideoDataset`.
    """

    source = "UCFSports"
    domain = "UCFSports"
    root_variable = "UCFSPORTS_DATA_DIR"
    root_default = "ucf-002"
    scalar_prefix = "ucfsports"
    score_name = "UCFSports_resized"
    scored_phase = "test"
    numbers = range(1, 104)
    test_numbers = range(1, 48)
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
        out_size: tuple[int, int] = (256, 384),
        val_size: int = 10,
        n_x_val: int = 3,
        x_val_step: int = 2,
        x_val_seed: int | None = 27,
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
        title, _, number = name.rpartition("-")
        return f"{title}_{number}_"

    @staticmethod
    def video_numbers(names: Sequence[str]) -> list[int]:
        return list(range(1, len(names) + 1))

    def resized(self, size: tuple[int, int]) -> tuple[int, int]:
        (height, width), (out_height, out_width) = size, self.out_size
        if width * out_height > height * out_width:  # wider than the crop
            return out_height, int(width * out_height / height)
        return int(height * out_width / width), out_width
