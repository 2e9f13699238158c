"""The base class of image sources, where each picture is one example."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from unisal.data.base import Item, SaliencyDataset
from unisal.data.listing import FrameFiles
from unisal.data.pictures import (
    displayed_size,
    picture_size,
    read_grey,
    read_rgb,
    read_rgb_image,
)
from unisal.data.tensors import as_tensor
from unisal.data.transforms import normalise, normalise_map, optimal_input_size, resize_rgb
from unisal.errors import UserError
from unisal.types import RGB, Size


class ImageDataset(SaliencyDataset):
    """A source of images.

    A subclass fills `images` in its constructor and says in `files` which maps and fixations belong
    to them.

    Its pictures are predicted at the input size of the class or, if that is None, at the optimal
    size for each of them; the ground truth has the size of the files.
    """

    is_video = False
    batch_size = 32
    images: list[Path]
    """The pictures, in the order of the examples."""

    def input_size_for(self, index: int) -> Size:
        """Return the size of the network's input for an example."""
        return self.input_size or optimal_input_size(self.frame_size(index))

    def name(self, index: int) -> str:
        return self.images[index].name

    def __len__(self) -> int:
        return len(self.images)

    def lengths(self) -> list[int]:
        return [1] * len(self.images)

    def title(self, index: int) -> str:
        return self.name(index)

    def files(self, index: int, number: int = 1) -> FrameFiles:
        return FrameFiles(self.images[index])

    def prediction_path(self, index: int, number: int = 1) -> Path:
        return Path(self.images[index].name)

    def frame_size(self, index: int) -> Size:
        return displayed_size(self.images[index])

    def read_input(self, index: int, number: int = 1) -> NDArray[np.float32]:
        return normalise(resize_rgb(read_rgb_image(self.images[index]), self.input_size_for(index)))

    def target_size(self, index: int) -> Size:
        return picture_size(self._file(index, "saliency_map"))

    def read_density(self, index: int, number: int = 1) -> NDArray[np.float32]:
        return normalise_map(read_grey(self._file(index, "saliency_map")))

    def read_fixation_map(self, index: int, number: int = 1) -> NDArray[np.bool_]:
        return self.read_fixation_file(self._file(index, "fixations"))

    def __getitem__(self, index: int) -> Item:
        files = self.files(index)
        if files.saliency_map is None:
            return self.item_without_maps(index)
        rgb = read_rgb(self.images[index])
        saliency_map = read_grey(files.saliency_map)
        fixations = self.read_fixation_map(index)
        if fixations.shape != saliency_map.shape:
            raise UserError(
                f"{files.fixations} is {fixations.shape}, its map {files.saliency_map} "
                f"{saliency_map.shape} (height, width); they have to be the same"
            )
        return self.item_with_maps(index, rgb, saliency_map, fixations)

    def item_with_maps(
        self,
        index: int,
        rgb: RGB,
        saliency_map: NDArray[np.float32],
        fixations: NDArray[np.bool_],
    ) -> Item:
        """Make an example of a picture with ground truth, augmented in training if asked for.

        Args:
            index: index of the example.
            rgb: the picture, `[H, W, 3] uint8`.
            saliency_map: `[h, w] float32`, 0 to 1.
            fixations: the fixation map, `[h, w] bool`.
        """
        size = self.input_size_for(index)
        if self.augmentation is None:
            frame = resize_rgb(rgb, size)
        else:
            change = self.augmentation.draw(self.rng(index), fixations)
            frame = change.of_picture(rgb, size)
            saliency_map = change.of_map(saliency_map)
            fixations = change.of_fixations(fixations)
        return Item(
            frame_nrs=[1],
            frames=as_tensor(normalise(frame)),
            maps=as_tensor(normalise_map(saliency_map))[None],
            fixations=as_tensor(fixations)[None],
            target_size=(saliency_map.shape[0], saliency_map.shape[1]),
        )

    def item_without_maps(self, index: int) -> Item:
        """Make an example of a part without ground truth; its target has the picture's size."""
        rgb = read_rgb(self.images[index])
        frame = as_tensor(normalise(resize_rgb(rgb, self.input_size_for(index))))
        return Item([1], frame, None, None, (rgb.shape[0], rgb.shape[1]))

    def _file(self, index: int, kind: str) -> Path:
        """Return the file of one kind, a field of `FrameFiles`."""
        path: Path | None = getattr(self.files(index), kind)
        if path is None:
            raise UserError(f"{self.images[index]} has no maps and fixations")
        return path
