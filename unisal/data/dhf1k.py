"""DHF1K: 1,000 videos of many kinds (spec 02)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from unisal.config import own_arguments
from unisal.data.video import VideoDataset


class DHF1KDataset(VideoDataset):
    """`annotation/%04d/{images,maps,fixation}/%04d.png`; 1-700 are split, 701-1000 are the test
    set, which has images only.

    Args and errors: see `VideoDataset`.
    """

    source = "DHF1K"
    domain = "DHF1K"
    root_variable = "DHF1K_DATA_DIR"
    root_default = "DHF1K"
    scalar_prefix = "conv"
    score_name = "DHF1K"
    numbers = range(1, 701)
    test_numbers = range(701, 1001)
    folders = dict.fromkeys(("train", "valid", "eval", "test"), "annotation")
    clips_per_valid_video = 2
    test_has_maps = False

    def __init__(
        self,
        phase: str = "train",
        seq_len: int = 12,
        frame_modulo: int = 5,
        out_size: tuple[int, int] = (224, 384),
        val_size: int = 100,
        n_x_val: int = 3,
        x_val_step: int = 2,
        x_val_seed: int | None = None,
        subset: float = 1.0,
        augment: bool | Mapping[str, Any] = False,
        seed: int | Sequence[int] = 0,
        verbose: int = 1,
    ) -> None:
        self.config = own_arguments(locals())
        split = (val_size, n_x_val, x_val_step, x_val_seed)
        super().__init__(phase, seq_len, frame_modulo, out_size, split, subset, augment, seed)

    @staticmethod
    def file_prefix(_name: str) -> str:
        return ""

    @staticmethod
    def video_numbers(names: Sequence[str]) -> list[int]:
        return [int(name) if name.isdecimal() else 0 for name in names]
