"""What the sources of images share: each picture is one example."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from unisal.data.base import Item, SaliencyDataset
from unisal.data.listing import Picture
from unisal.data.pictures import displayed_size, read_rgb, read_rgb_image
from unisal.data.transforms import normalise, resize_rgb, to_density


class ImageDataset(SaliencyDataset):
    """Images. A subclass finds the pictures and says at which size the network sees them."""

    dynamic = False
    images: list[Path]
    """The pictures, in the order of the examples."""

    def input_size(self, index: int) -> tuple[int, int]:
        """-> (height, width) of the network's input for an example."""
        raise NotImplementedError

    def name(self, index: int) -> str:
        return self.images[index].name

    def __len__(self) -> int:
        return len(self.images)

    def lengths(self) -> list[int]:
        return [1] * len(self.images)

    def title(self, index: int) -> str:
        return self.name(index)

    def files(self, index: int, number: int = 1) -> Picture:
        return Picture(self.images[index])

    def prediction_path(self, index: int, number: int = 1) -> Path:
        return Path(self.images[index].name)

    def frame_size(self, index: int) -> tuple[int, int]:
        return displayed_size(self.images[index])

    def read_input(self, index: int, number: int = 1) -> Tensor:
        return normalise(resize_rgb(read_rgb_image(self.images[index]), self.input_size(index)))

    def item_with_maps(
        self,
        index: int,
        rgb: NDArray[np.uint8],
        saliency_map: NDArray[np.float32],
        fixations: NDArray[np.bool_],
    ) -> Item:
        """-> an example of a picture, its saliency map in [0, 1] and its fixations; in training all
        three randomly changed, if asked for."""
        size = self.input_size(index)
        if self.augmentation is None:
            frame = resize_rgb(rgb, size)
        else:
            change = self.augmentation.draw(self.rng(index), fixations)
            frame = change.of_picture(rgb, size)
            saliency_map = change.of_map(saliency_map)
            fixations = change.of_fixations(fixations)
        return Item(
            frame_nrs=[1],
            frames=normalise(frame),
            maps=torch.from_numpy(to_density(saliency_map))[None],
            fixations=torch.from_numpy(fixations)[None],
            target_size=(saliency_map.shape[0], saliency_map.shape[1]),
        )

    def item_without_maps(self, index: int) -> Item:
        """-> an example of a part that has no ground truth; its target is the picture's size."""
        rgb = read_rgb(self.images[index])
        frame = normalise(resize_rgb(rgb, self.input_size(index)))
        return Item([1], frame, None, None, (rgb.shape[0], rgb.shape[1]))
