"""Videos through the network from the definition: frame by frame, a state for each sequence."""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image
from torchvision.transforms import functional as tv

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def plain_input(picture, input_size):
    """Return a picture, `[H, W, 3]` or the path of one, as the network takes it: `[3, h, w]`."""
    is_array = isinstance(picture, np.ndarray)
    image = Image.fromarray(picture) if is_array else Image.open(picture).convert("RGB")
    resized = image.resize(input_size[::-1], Image.Resampling.LANCZOS)
    return tv.normalize(tv.to_tensor(resized), MEAN, STD)


@torch.no_grad()
def plain_video(model, inputs, target_size, domain, step, static=False, positions=None):
    """Return the log-densities `[n, h, w]` of the frames `[3, H, W]` of a video.

    The frames are `step` interleaved sequences. `positions` are those of the frames in the video,
    if some of it are missing.
    """
    states, maps = {}, []
    for x, position in zip(inputs, positions or range(len(inputs)), strict=True):
        y, states[position % step] = model(
            x[None, None],
            target_size=target_size,
            h0=states.get(position % step),
            return_hidden=True,
            source=domain,
            static=static,
        )
        maps.append(y[0, 0, 0])
    return torch.stack(maps)
