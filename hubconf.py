"""The network and its predictor for `torch.hub.load`, from a checkout.

predictor = torch.hub.load("path/to/the/checkout", "predictor", source="local")
network = torch.hub.load("path/to/the/checkout", "unisal", source="local")
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from unisal.model import UNISAL
    from unisal.predict import Predictor

dependencies = ["PIL", "cv2", "numpy", "torch"]
"""What has to be importable; PyTorch names what is missing."""

# The package is imported inside the functions, since one of them has its name.


def unisal(train_id: str | None = None, fine_tuned: bool = False) -> UNISAL:
    """Load the network of a run with its weights, in evaluation mode.

    Args:
        train_id: name of the run's folder in `training_runs/` or `$TRAIN_DIR`; None for the run
            that ships with the project.
        fine_tuned: prefer the weights fine-tuned on MIT1003, where the run has them.

    Returns:
        The network; `forward` describes its input `[batch, time, 3, H, W]`.

    Raises:
        unisal.errors.UserError: no such run, or no weights that fit.
    """
    from unisal.predict.loading import load_model

    return load_model(train_id, fine_tuned).eval()


def predictor(
    train_id: str | None = None,
    device: str = "auto",
    fine_tuned: bool = False,
    precision: str = "fp32",
    runtime: str = "auto",
    tta: str | None = None,
) -> Predictor:
    """Load the network of a run for the prediction of pictures and videos.

    Args:
        train_id: see `unisal`.
        device: "auto" (the GPU if there is one), "cpu", "cuda", "cuda:1", ...
        fine_tuned: see `unisal`.
        precision: "fp32" or "bf16".
        runtime: "auto", "torch" or "onnx".
        tta: "mirror", "scales", "mirror,scales" or None.

    Returns:
        A predictor with the methods `image`, `video`, `stream` and `features`.

    Raises:
        unisal.errors.UserError: no such run, device or runtime, or no weights that fit.
    """
    from unisal.predict import load

    return load(train_id, device, fine_tuned, precision, runtime, tta)
