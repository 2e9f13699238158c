"""DHF1K: 1,000 videos of many kinds."""

from __future__ import annotations

from collections.abc import Sequence

from unisal.data.video import VideoDataset


class DHF1KDataset(VideoDataset):
    """`annotation/%04d/{images,maps,fixation}/%04d.png`.

    Videos 1-700 are split into training and validation part; 701-1000 are the test part, which has
    images only.

    For the options see `VideoDataset`.
    """

    source = "DHF1K"
    domain = "DHF1K"
    root_variable = "DHF1K_DATA_DIR"
    root_default = "DHF1K"
    scalar_prefix = "conv"
    score_name = "DHF1K"
    input_size = (224, 384)
    native_frame_size = (360, 640)
    frame_step = 5
    frame_rate = 30
    debug_subset = 0.02
    numbers = range(1, 701)
    val_size = 100
    test_numbers = range(701, 1001)
    folders = dict.fromkeys(("train", "valid", "eval", "test"), "annotation")
    clips_per_valid_video = 2
    test_has_maps = False

    @staticmethod
    def file_prefix(_name: str) -> str:
        return ""

    @staticmethod
    def video_numbers(names: Sequence[str]) -> list[int]:
        return [int(name) if name.isdecimal() else 0 for name in names]
