"""Run one model of `benchmarks.peers` on pictures, in a process of its own, and print its costs.

`python -m benchmarks.peer_worker fp32: PICTURE ...` or, for a backbone, its number. It imports no
more than the model needs, since its peak memory counts.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.opencv_saliency import peak
from unisal.data.pictures import read_rgb
from unisal.errors import UserError
from unisal.types import Size

OURS = {
    "fp32": "float32",
    "bf16": "bfloat16",
    "int8": "8 bits",
    "torch": "float32, in PyTorch",
}
"""How this network is run."""


class Backbone(NamedTuple):
    """An encoder of torchvision, as other saliency networks use it."""

    name: str
    size: Size
    """(height, width) of the input."""
    used_by: str


BACKBONES = (
    Backbone("mobilenet_v2", (192, 256), "FastSal"),
    Backbone("vgg16", (192, 256), "SalGAN"),
    Backbone("vgg16", (240, 320), "MSI-Net, SAM-VGG"),
    Backbone("resnet50", (240, 320), "SAM-ResNet"),
    Backbone("resnet50", (288, 384), "TranSalNet-Res"),
    Backbone("densenet161", (288, 384), "TranSalNet-Dense"),
)


class Cost(NamedTuple):
    """What a map costs."""

    milliseconds: float
    megabytes: float
    multiply_adds: float | None = None
    parameters: float | None = None


def main(kind: str, *pictures: str) -> None:
    """Run one model on pictures and print what it costs.

    Args:
        kind: a key of `OURS` with a run behind it, separated by a colon; or the number of a
            backbone.
        pictures: files.
    """
    if kind.isdigit():
        run, about = backbone(BACKBONES[int(kind)])
    else:
        run, about = ours(*kind.split(":", 1))
    took = []
    for picture in pictures:
        rgb = read_rgb(Path(picture))
        begun = time.perf_counter()
        run(rgb)
        took.append(1000 * (time.perf_counter() - begun))
    cost = Cost(statistics.median(took[len(took) > 1 :]), peak(), **about())
    print(json.dumps(cost._asdict()))


def ours(how: str, train_id: str) -> tuple[Callable[[Any], Any], Callable[[], dict[str, float]]]:
    """Return what predicts a picture by this network; and no counts, which take PyTorch."""
    from unisal import load

    options = {"runtime": "torch"} if how == "torch" else {"precision": how}
    try:
        predictor = load(train_id or None, "cpu", **options)
        precision = predictor.facts().precision
    except UserError as error:
        sys.exit(f"not available: {error}")
    if how in ("bf16", "int8") and precision != how:
        sys.exit(f"not available: it would be computed in {precision}")
    return predictor.image, dict


def backbone(peer: Backbone) -> tuple[Callable[[Any], Any], Callable[[], dict[str, float]]]:
    """Return what runs a backbone, whatever the picture; and what counts it."""
    import torch
    import torchvision

    from benchmarks.limits import count_calls

    torch.manual_seed(0)
    model = torchvision.models.get_model(peer.name, weights=None).eval()
    if hasattr(model, "features"):
        model = model.features
    else:  # without the classifier
        model = torch.nn.Sequential(*list(model.children())[:-2])
    x = torch.randn(1, 3, *peer.size)

    def run(_: Any = None) -> Any:
        with torch.inference_mode():
            return model(x)

    def about() -> dict[str, float]:
        n = sum(parameter.numel() for parameter in model.parameters())
        return {"multiply_adds": count_calls(run).multiply_adds, "parameters": n}

    return run, about


if __name__ == "__main__":
    main(*sys.argv[1:])
