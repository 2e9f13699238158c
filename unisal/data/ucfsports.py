"""UCF Sports: broadcast sports in 150 videos."""

from __future__ import annotations

from collections.abc import Sequence

from unisal.data.video import CroppedVideoDataset
from unisal.types import Size


class UCFSportsDataset(CroppedVideoDataset):
    """`{training,testing}/<Name-NNN>/{images,maps,fixation}/<Name>_<NNN>_%03d.png`.

    The number of a video is the rank of its folder among the sorted folders, from 1.

    For the options see `VideoDataset`.
    """

    source = "UCFSports"
    domain = "UCFSports"
    root_variable = "UCFSPORTS_DATA_DIR"
    root_default = "ucf-002"
    scalar_prefix = "ucfsports"
    score_name = "UCFSports_resized"
    scored_phase = "test"
    input_size = (256, 384)
    debug_subset = 0.1
    val_size = 10
    x_val_seed = 27
    numbers = range(1, 104)
    test_numbers = range(1, 48)
    folders = {  # noqa: RUF012
        "train": "training",
        "valid": "training",
        "eval": "testing",
        "test": "testing",
    }

    @staticmethod
    def file_prefix(name: str) -> str:
        title, _, number = name.rpartition("-")
        return f"{title}_{number}_"

    @staticmethod
    def video_numbers(names: Sequence[str]) -> list[int]:
        return list(range(1, len(names) + 1))

    def resized(self, size: Size) -> Size:
        (height, width), (out_height, out_width) = size, self.input_size
        if width * out_height > height * out_width:  # wider than the crop
            return out_height, int(width * out_height / height)
        return int(height * out_width / width), out_width
