"""What the three video sources share: samples, clips and how a clip is read (spec 02)."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from unisal.data.base import Item, SaliencyDataset, first_share
from unisal.data.listing import Group, Picture
from unisal.data.pictures import read_grey_levels, read_rgb
from unisal.data.splits import shuffled, train_valid
from unisal.data.transforms import (
    centre_crop,
    normalise,
    resize_grey_levels,
    resize_rgb,
    to_density,
    to_fixation_map,
    to_unit_range,
)
from unisal.data.video_index import (
    FIXATIONS,
    IMAGES,
    KINDS,
    MAPS,
    Video,
    list_video,
    read_index,
    video_names,
)
from unisal.errors import UserError

log = logging.getLogger(__name__)


class Sample(NamedTuple):
    """One clip of a video: 1-based positions `start, start + step, ...`."""

    video: Video
    start: int | None
    """None: drawn anew in each epoch."""


class VideoDataset(SaliencyDataset):
    """Clips of videos in folders of numbered frames.

    In the phases train and valid an example is a clip of `seq_len` frames, every `frame_modulo`-th
    of the video. In eval and test it is one of the `frame_modulo` interleaved sequences that
    together are the whole video: examples `i * frame_modulo + offset` are video i.

    Args:
        phase, subset, augment, seed: see `SaliencyDataset`.
        seq_len: frames of a clip.
        frame_modulo: distance of a clip's frames in the video.
        out_size: (height, width) of the network's input.
        val_size, n_x_val, x_val_step, x_val_seed: the split, see `unisal.data.splits`.
        verbose: accepted for old configurations; has no effect.

    Raises:
        UserError: the folder is missing or faulty, or holds no video of the part.
    """

    dynamic = True
    numbers: ClassVar[range]
    """Of the videos that are split into train and validation part."""
    test_numbers: ClassVar[range]
    folders: ClassVar[Mapping[str, str]]
    """The folder of videos that a phase reads."""
    clips_per_valid_video: ClassVar[int] = 1
    test_has_maps: ClassVar[bool] = True

    def __init__(
        self,
        phase: str,
        seq_len: int,
        frame_modulo: int,
        out_size: tuple[int, int],
        split: tuple[int, int, int, int | None],
        subset: float,
        augment: bool | Mapping[str, Any],
        seed: int | Sequence[int],
    ) -> None:
        super().__init__(phase, subset, augment, seed)
        if seq_len < 1 or frame_modulo < 1:
            raise UserError(
                f"seq_len is {seq_len} and frame_modulo {frame_modulo}; both have to be at least 1"
            )
        self.seq_len, self.frame_modulo = seq_len, frame_modulo
        self.out_size = out_size[0], out_size[1]
        self.folder = self.root() / self.folders[phase]
        self.has_maps = phase != "test" or self.test_has_maps
        self.videos = self._choose_videos(split)
        self.samples = first_share(self._make_samples(), subset)
        if not self.samples:
            raise UserError(
                f"{self.source}'s {phase} part has no clip in {self.folder}: "
                f"{len(self.videos)} of its videos are there, and with seq_len={seq_len}, "
                f"frame_modulo={frame_modulo}, subset={subset} none is left"
            )

    @classmethod
    def part(cls, phase: str) -> str:
        if cls.test_has_maps:
            return cls.folders[phase]
        numbers = cls.test_numbers if phase == "test" else cls.numbers
        return f"{cls.folders[phase]} {numbers[0]}-{numbers[-1]}"

    @classmethod
    def list_part(cls, phase: str) -> Iterator[Group]:
        folder, needs_maps = cls.root() / cls.folders[phase], phase != "test" or cls.test_has_maps
        names = video_names(folder)
        for name, number in zip(names, cls.video_numbers(names), strict=True):
            if cls.test_has_maps or needs_maps != (number in cls.test_numbers):
                yield list_video(folder / name, cls.file_prefix(name), needs_maps)

    # ---- what a subclass fills in -------------------------------------------------------
    @staticmethod
    def file_prefix(name: str) -> str:
        """-> what the file names of the video in folder `name` start with."""
        raise NotImplementedError

    @staticmethod
    def video_numbers(names: Sequence[str]) -> list[int]:
        """-> the number in the split of each folder name, in the same order."""
        raise NotImplementedError

    def fit(
        self, rgb: NDArray[np.uint8], maps: Sequence[NDArray[np.uint8]]
    ) -> tuple[NDArray[np.uint8], list[NDArray[np.uint8]]]:
        """A frame with its map and fixations -> the same at the sizes they are trained with.

        Here: the frame resized, the others as they are on disk.
        """
        return resize_rgb(rgb, self.out_size), list(maps)

    # ---- samples ------------------------------------------------------------------------
    @property
    def clip_len(self) -> int:
        """Frames of the video that a clip spans."""
        return self.seq_len * self.frame_modulo

    def _choose_videos(self, split: tuple[int, int, int, int | None]) -> list[Video]:
        val_size, n_x_val, x_val_step, x_val_seed = split
        numbers = shuffled(self.numbers, x_val_seed)
        train, valid = train_valid(numbers, val_size, n_x_val, x_val_step)
        wanted = set({"train": train, "test": self.test_numbers}.get(self.phase, valid))
        found = read_index(self.folder, self.file_prefix)
        of_number = zip(self.video_numbers([v.name for v in found]), found, strict=True)
        videos = [video for number, video in of_number if number in wanted]
        without = [v.name for v in videos if v.target_size is None]
        if self.has_maps and without:
            raise UserError(
                f"{self.folder / without[0]} has no maps and fixations, which the phase "
                f"{self.phase!r} needs ({len(without)} such videos)"
            )
        return videos

    def _make_samples(self) -> list[Sample]:
        if self.phase in ("eval", "test"):
            return [Sample(v, 1 + i) for v in self.videos for i in range(self.frame_modulo)]
        long_enough = [v for v in self.videos if v.n_frames >= self.clip_len]
        if len(long_enough) < len(self.videos):
            log.info(
                "%s %s: %d of %d videos are shorter than a clip of %d frames and are left out",
                self.source,
                self.phase,
                len(self.videos) - len(long_enough),
                len(self.videos),
                self.clip_len,
            )
        if self.phase == "train":
            return [Sample(v, None) for v in long_enough]
        return [Sample(v, start) for v in long_enough for start in self._valid_starts(v.n_frames)]

    def _valid_starts(self, n: int) -> list[int]:
        k = self.clips_per_valid_video
        x = n // (2 * k) - self.clip_len // 2
        starts = np.linspace(max(1, x), min(n - self.clip_len, n - x), k).astype(int)
        return [max(1, int(start)) for start in starts]

    # ---- examples -----------------------------------------------------------------------
    def name(self, index: int) -> str:
        video, start = self.samples[index]
        return f"{video.name} from {start}" if start else video.name

    def __len__(self) -> int:
        return len(self.samples)

    def frame_numbers(self, index: int) -> list[int]:
        """-> the 1-based positions of an example's frames in its video."""
        video, start = self.samples[index]
        if self.phase in ("eval", "test"):
            assert start is not None
            return list(range(start, video.n_frames + 1, self.frame_modulo))
        if start is None:
            last = max(1, video.n_frames - self.clip_len)
            start = int(self.rng(index).integers(1, last, endpoint=True))
        return list(range(start, start + self.clip_len, self.frame_modulo))

    def path(self, video: Video, kind: str, number: int) -> Path:
        """-> the file of the frame at the 1-based position `number`."""
        digits = f"{video.first + number - 1:0{video.width_of_number}d}"
        return self.folder / video.name / kind / f"{self.file_prefix(video.name)}{digits}.png"

    def read_frame(self, video: Video, number: int) -> NDArray[np.uint8]:
        """-> one frame at its own size `[H, W, 3] uint8`."""
        path = self.path(video, IMAGES, number)
        rgb = read_rgb(path)
        _check_size(path, rgb.shape, video.frame_size)
        return rgb

    def read_targets(self, video: Video, number: int) -> list[NDArray[np.uint8]]:
        """-> map and fixations of one frame, `[h, w]` grey levels."""
        return [self._read_target(video, kind, number) for kind in (MAPS, FIXATIONS)]

    def _read_target(self, video: Video, kind: str, number: int) -> NDArray[np.uint8]:
        assert video.target_size is not None
        path = self.path(video, kind, number)
        grey = read_grey_levels(path)
        _check_size(path, grey.shape, video.target_size)
        return grey

    # ---- frame by frame, for scoring --------------------------------------------------------
    def lengths(self) -> list[int]:
        return [video.n_frames for video in self.videos]

    def title(self, index: int) -> str:
        return self.videos[index].name

    def files(self, index: int, number: int = 1) -> Picture:
        kinds = KINDS if self.has_maps else (IMAGES,)
        return Picture(*(self.path(self.videos[index], kind, number) for kind in kinds))

    def prediction_path(self, index: int, number: int = 1) -> Path:
        return Path(self.title(index), self.path(self.videos[index], IMAGES, number).name)

    def frame_size(self, index: int) -> tuple[int, int]:
        return self.videos[index].frame_size

    def read_input(self, index: int, number: int = 1) -> Tensor:
        return normalise(resize_rgb(self.read_frame(self.videos[index], number), self.out_size))

    def target_size(self, index: int) -> tuple[int, int]:
        size = self.videos[index].target_size
        if size is None:
            raise UserError(f"{self.folder / self.title(index)} has no maps and fixations")
        return size

    def read_density(self, index: int, number: int = 1) -> NDArray[np.float32]:
        grey = self._read_target(self.videos[index], MAPS, number)
        return to_density(to_unit_range(grey))

    def read_fixation_map(self, index: int, number: int = 1) -> NDArray[np.bool_]:
        grey = self._read_target(self.videos[index], FIXATIONS, number)
        return to_fixation_map(to_unit_range(grey))

    def __getitem__(self, index: int) -> Item:
        video = self.samples[index].video
        numbers = self.frame_numbers(index)
        frames = [self.read_frame(video, n) for n in numbers]
        if not self.has_maps:
            size = frames[0].shape[0], frames[0].shape[1]
            resized = [normalise(resize_rgb(f, self.out_size)) for f in frames]
            return Item(numbers, torch.stack(resized), None, None, size)
        clip = [(f, self.read_targets(video, n)) for f, n in zip(frames, numbers, strict=True)]
        if self.phase in ("train", "valid"):
            clip = [self.fit(frame, targets) for frame, targets in clip]
        else:
            clip = [(resize_rgb(frame, self.out_size), targets) for frame, targets in clip]
        maps = [to_density(to_unit_range(targets[0])) for _, targets in clip]
        fixations = [to_fixation_map(to_unit_range(targets[1])) for _, targets in clip]
        pictures = [frame for frame, _ in clip]
        if self.augmentation is not None:
            change = self.augmentation.draw(self.rng(index), np.logical_or.reduce(fixations))
            pictures = [change.of_picture(p, self.out_size) for p in pictures]
            maps = [to_density(change.of_map(m)) for m in maps]
            fixations = [change.of_fixations(f) for f in fixations]
        return Item(
            frame_nrs=numbers,
            frames=torch.stack([normalise(p) for p in pictures]),
            maps=torch.from_numpy(np.stack(maps))[:, None],
            fixations=torch.from_numpy(np.stack(fixations))[:, None],
            target_size=(maps[0].shape[0], maps[0].shape[1]),
        )


class CroppedVideoDataset(VideoDataset):
    """Hollywood-2 and UCF Sports: videos of many sizes, trained on a centre crop of one size."""

    def resized(self, size: tuple[int, int]) -> tuple[int, int]:
        """-> (height, width) of a frame of `size` before the crop."""
        raise NotImplementedError

    def fit(
        self, rgb: NDArray[np.uint8], maps: Sequence[NDArray[np.uint8]]
    ) -> tuple[NDArray[np.uint8], list[NDArray[np.uint8]]]:
        frame = centre_crop(resize_rgb(rgb, self.resized(rgb.shape[:2])), self.out_size)
        saliency_map, fixations = maps
        size = self.resized(saliency_map.shape[:2])
        targets = [
            resize_grey_levels(saliency_map, size, nearest=False),
            resize_grey_levels(fixations, size, nearest=True),
        ]
        return frame, [centre_crop(t, self.out_size) for t in targets]


def _check_size(path: Path, shape: tuple[int, ...], expected: tuple[int, int]) -> None:
    if shape[:2] != expected:
        raise UserError(
            f"{path} is {shape[:2]}, the first frame of its video {expected} (height, width); "
            "they have to be alike"
        )
