"""Reading and checking weights. Reading never runs code from a file."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from unisal.errors import UserError

ENCODER_VARIABLE = "UNISAL_ENCODER_WEIGHTS"
MAX_NAMED_KEYS = 5


def read_state(path: Path) -> dict[str, Tensor]:
    """Read a plain state dict, a checkpoint with `model_state_dict`, or a `.safetensors` file.

    Returns:
        The tensors, on the CPU, by their keys.

    Raises:
        UserError: the file cannot be read, or holds something else.
    """
    path = Path(path)
    state = load_tensors(path)
    if isinstance(state, Mapping) and "model_state_dict" in state:
        state = state["model_state_dict"]
    if not isinstance(state, Mapping) or not state:
        raise UserError(f"{path} holds no weights; expected a state dict of tensors")
    odd = [str(k) for k, v in state.items() if not (isinstance(k, str) and isinstance(v, Tensor))]
    if odd:
        raise UserError(f"{path} is no state dict: {_first_names(odd)} are not named tensors")
    return dict(state)


def load_tensors(path: Path) -> Any:
    """Read a file of tensors and plain values without running any code in it.

    Raises:
        UserError: the file is missing, damaged, or holds something else.
    """
    if not path.is_file():
        raise UserError(f"weights file {path} does not exist")
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        with warnings.catch_warnings():  # the error says what matters about an odd file
            warnings.simplefilter("ignore")
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # both readers raise many types on a damaged file
        raise UserError(f"{path} cannot be read as weights: {_reason(error)}") from None


def load_state(module: nn.Module, state: Mapping[str, Tensor], origin: str) -> None:
    """Load weights into a module, all or none.

    Args:
        module: the module.
        state: the tensors by their keys.
        origin: where they come from in words, for the message.

    Raises:
        UserError: keys are missing, unexpected or of another shape; names them.
    """
    own = module.state_dict()
    shapes = [
        f"{k} is {list(state[k].shape)}, expected {list(own[k].shape)}"
        for k in own
        if k in state and state[k].shape != own[k].shape
    ]
    faults = {
        "missing": [k for k in own if k not in state],
        "unexpected": [k for k in state if k not in own],
        "wrongly shaped": shapes,
    }
    if any(faults.values()):
        said = "; ".join(f"{len(v)} {k}: {_first_names(v)}" for k, v in faults.items() if v)
        raise UserError(f"{origin} does not fit this network: {said}")
    module.load_state_dict(state)


def load_encoder(encoder: nn.Module) -> None:
    """Load ImageNet weights into the encoder.

    They are read from the file that `UNISAL_ENCODER_WEIGHTS` names (a state dict with the encoder's
    own keys or torchvision's), else from torchvision's MobileNetV2, which is downloaded once.

    Raises:
        UserError: the weights cannot be downloaded or read, or do not fit.
    """
    named = os.environ.get(ENCODER_VARIABLE)
    if named:
        state, origin = read_state(Path(named)), named
    else:
        state, origin = _torchvision_state(), "torchvision's MobileNetV2"
    if any(k.startswith("features.0.0.") for k in state) and "features.1.conv.0.0.weight" in state:
        state = from_torchvision(state)
    load_state(encoder, state, origin)


def from_torchvision(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Translate the key names of torchvision's MobileNetV2 to ours, without its classifier.

    torchvision nests each convolution with its BatchNorm (`conv.0.0`, `conv.0.1`); ours are in one
    sequence that also counts activations (`conv.0`, `conv.1`, `conv.3`, ...).
    """
    translated = {}
    for key, value in state.items():
        parts = key.split(".")
        if parts[0] != "features":
            continue
        if parts[2] == "conv":
            block = ".".join(parts[:3])
            n_nested = sum(f"{block}.{i}.0.weight" in state for i in range(3))
            group, rest = int(parts[3]), parts[4:]
            if group < n_nested:  # [conv, norm, activation]
                index, rest = 3 * group + int(rest[0]), rest[1:]
            else:  # the projection and its norm
                index = 3 * n_nested + group - n_nested
            key = ".".join([block, str(index), *rest])
        translated[key] = value
    return translated


def _torchvision_state() -> dict[str, Tensor]:
    """Return the weights of torchvision's MobileNetV2, downloaded if necessary."""
    from torchvision.models import MobileNet_V2_Weights

    try:
        weights = MobileNet_V2_Weights.IMAGENET1K_V1.get_state_dict(
            progress=False, check_hash=True, map_location="cpu", weights_only=True
        )
    except Exception as error:  # URLError, HTTPError, a wrong hash, a full disk, ...
        raise UserError(
            f"torchvision's ImageNet weights cannot be fetched or read ({_reason(error)}); name a "
            f"local file in {ENCODER_VARIABLE} or set cnn_cfg's 'pretrained' to False"
        ) from None
    return dict(weights)


def _reason(error: Exception) -> str:
    """Return the first line of a reader's message, without PyTorch's advice to read unsafely."""
    said = str(error)
    if "weights_only" in said:
        return "it holds something other than tensors"
    return f"{type(error).__name__}: {said}".splitlines()[0].rstrip(": ")


def _first_names(names: list[str]) -> str:
    """List the first of some names, and count the rest."""
    more = f" and {len(names) - MAX_NAMED_KEYS} more" if len(names) > MAX_NAMED_KEYS else ""
    return ", ".join(names[:MAX_NAMED_KEYS]) + more
