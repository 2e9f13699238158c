"""Time OpenCV's static saliency models, and write their maps.

`benchmarks.peers` runs this file with a Python that has opencv-contrib, which cannot be installed
beside the package without it; nothing else of this project is needed there. Arguments: the name of
the model, an empty folder for the maps (`.npy`), or "" for none, and the pictures.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from pathlib import Path

import cv2
import numpy as np


def main(name: str, out: str, *pictures: str) -> None:
    """Print the median time in ms and the peak memory in MB as JSON."""
    model = getattr(cv2.saliency, f"StaticSaliency{name}_create")()
    took = []
    for picture in pictures:
        pixels = cv2.imread(picture)
        begun = time.perf_counter()
        found, saliency = model.computeSaliency(pixels)
        took.append(1000 * (time.perf_counter() - begun))
        if not found:
            raise SystemExit(f"{name} fails on {picture}")
        if out:
            np.save(Path(out, f"{Path(picture).stem}.npy"), saliency.astype(np.float32))
    said = {"milliseconds": statistics.median(took[len(took) > 1 :]), "megabytes": peak()}
    print(json.dumps(said))


def peak() -> float:
    """Return the peak memory of this process in MB; NaN where the system does not say."""
    status = Path("/proc/self/status")
    if not status.exists():
        return float("nan")
    return int(status.read_text().partition("VmHWM:")[2].split()[0]) / 1024


if __name__ == "__main__":
    main(*sys.argv[1:])
