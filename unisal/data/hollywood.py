"""Hollywood-2: clips of films, cut into shots."""

from __future__ import annotations

import re
from collections.abc import Sequence

from unisal.data.video import CroppedVideoDataset
from unisal.types import Size

FOLDER = re.compile(r"(actionclip(?:train|test))(\d+)_(\d+)")


class HollywoodDataset(CroppedVideoDataset):
    """`{training,testing}/actionclip{train,test}%05d_%d/{images,maps,fixation}/...%05d.png`.

    A folder is one shot, and an example is a clip of a shot. Its files are named after the video
    alone, and their numbers continue from shot to shot.

    For the options see `VideoDataset`.
    """

    source = "Hollywood"
    domain = "Hollywood"
    root_variable = "HOLLYWOOD_DATA_DIR"
    root_default = "Hollywood2_actions"
    scalar_prefix = "hollywood"
    score_name = "Hollywood_resized"
    scored_phase = "test"
    input_size = (224, 416)
    debug_subset = 0.04
    val_size = 75
    x_val_seed = 42
    numbers = range(1, 701)  # as published, although there are 747
    test_numbers = range(1, 885)
    folders = {  # noqa: RUF012
        "train": "training",
        "valid": "training",
        "eval": "testing",
        "test": "testing",
    }

    @staticmethod
    def file_prefix(name: str) -> str:
        return name.rpartition("_")[0] + "_"

    @staticmethod
    def video_numbers(names: Sequence[str]) -> list[int]:
        matches = map(FOLDER.fullmatch, names)
        return [int(m[2]) if m else 0 for m in matches]

    def resized(self, size: Size) -> Size:
        height, width = size
        wanted = self.input_size[0]
        return size if height == wanted else (wanted, int(width * wanted / height))
