"""The base classes of video sources: samples, clips, and how a clip is read."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from unisal.checks import check_count
from unisal.data.base import Item, SaliencyDataset, check_size, first_share, one_of
from unisal.data.listing import FrameFiles, Group
from unisal.data.pictures import read_grey_levels, read_rgb
from unisal.data.splits import shuffled, train_valid
from unisal.data.tensors import stacked
from unisal.data.transforms import (
    centre_crop,
    normalise,
    normalise_map,
    resize_grey_levels,
    resize_rgb,
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
from unisal.progress import SILENT, Progress
from unisal.types import RGB, Size

log = logging.getLogger(__name__)


class Sample(NamedTuple):
    """One clip of a video: 1-based positions `start, start + frame_step, ...`."""

    video: Video
    start: int | None
    """None: drawn again in each epoch."""


class VideoDataset(SaliencyDataset):
    """Clips of videos in folders of numbered frames.

    In the phases train and valid an example is a clip of `seq_len` frames, every `frame_step`-th
    of the video. In eval and test it is one of the `frame_step` interleaved sequences that
    together are the whole video: examples `i * frame_step + offset` are video i.

    Args:
        phase: see `SaliencyDataset`.
        seq_len: number of frames in a clip.
        frame_step: the distance in the video between the frames of a clip; None: the source's own.
        input_size: (height, width) of the network's input; None: the source's own.
        val_size: number of videos in the validation part; None: the source's own.
        n_x_val: number of possible validation parts, see `unisal.data.splits.train_valid`.
        x_val_step: the one to use, from 0.
        x_val_seed: seed of the shuffle before the split; None: unshuffled; "own": the source's own.
        subset: see `SaliencyDataset`.
        augment: see `SaliencyDataset`.
        seed: see `SaliencyDataset`.
        verbose: see `SaliencyDataset`.
        frame_modulo: the published name of `frame_step`.
        out_size: the published name of `input_size`.
        progress: shows the progress of indexing the videos.

    Raises:
        UserError: the folder is missing or faulty, or holds no video of the part.
    """

    is_video = True
    input_size: Size
    numbers: ClassVar[range]
    """Numbers of the videos that are split into training and validation part."""
    test_numbers: ClassVar[range]
    val_size: ClassVar[int]
    """Number of videos in the validation part."""
    x_val_seed: ClassVar[int | None] = None
    """Seed of the shuffle before the split; None: unshuffled."""
    folders: ClassVar[Mapping[str, str]]
    """The folder of videos that a phase reads."""
    clips_per_valid_video: ClassVar[int] = 1
    test_has_maps: ClassVar[bool] = True

    def __init__(
        self,
        phase: str = "train",
        seq_len: int = 12,
        frame_step: int | None = None,
        input_size: Size | None = None,
        val_size: int | None = None,
        n_x_val: int = 3,
        x_val_step: int = 2,
        x_val_seed: int | Literal["own"] | None = "own",
        subset: float = 1.0,
        augment: bool | Mapping[str, Any] = False,
        seed: int | Sequence[int] = 0,
        verbose: int = 1,
        *,
        frame_modulo: int | None = None,
        out_size: Size | None = None,
        progress: Progress = SILENT,
    ) -> None:
        self.seq_len = check_count(seq_len, "seq_len")
        frame_step = one_of("frame_step", frame_step, "frame_modulo", frame_modulo)
        if frame_step is not None:
            self.frame_step = check_count(frame_step, "frame_step")
        input_size = one_of("input_size", input_size, "out_size", out_size)
        if input_size is not None:
            self.input_size = check_size(input_size, "input_size")
        split: dict[str, Any] = {
            "val_size": self.val_size if val_size is None else val_size,
            "n_x_val": n_x_val,
            "x_val_step": x_val_step,
            "x_val_seed": self.x_val_seed if x_val_seed == "own" else x_val_seed,
        }
        own = {"seq_len": seq_len, "frame_modulo": self.frame_step, "out_size": self.input_size}
        super().__init__(phase, subset, augment, seed, verbose, **own, **split)
        self.folder = self.root() / self.folders[phase]
        self.has_maps = phase != "test" or self.test_has_maps
        self.videos = self._choose_videos(**split, progress=progress)
        self.samples = first_share(self._make_samples(), subset)
        if not self.samples:
            raise UserError(
                f"{self.source}'s {phase} part has no clip in {self.folder}: "
                f"{len(self.videos)} of its videos are there, and with seq_len={seq_len}, "
                f"frame_step={self.frame_step}, subset={subset} none is left"
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
        """Return what the file names of the video in folder `name` start with."""
        raise NotImplementedError

    @staticmethod
    def video_numbers(names: Sequence[str]) -> list[int]:
        """Return the number by which each folder is split, in the order of the names."""
        raise NotImplementedError

    def fit(
        self, rgb: RGB, maps: Sequence[NDArray[np.uint8]]
    ) -> tuple[RGB, list[NDArray[np.uint8]]]:
        """Bring a frame, its map and its fixations to the sizes they are trained with.

        Here the frame is resized, and the others stay as they are on disk.
        """
        return resize_rgb(rgb, self.input_size), list(maps)

    # ---- samples ------------------------------------------------------------------------
    @property
    def clip_len(self) -> int:
        """The number of frames of the video that a clip spans."""
        return self.seq_len * self.frame_step

    def _choose_videos(
        self,
        val_size: int,
        n_x_val: int,
        x_val_step: int,
        x_val_seed: int | None,
        progress: Progress,
    ) -> list[Video]:
        """Return the videos of the phase, in order."""
        numbers = shuffled(self.numbers, x_val_seed)
        train, valid = train_valid(numbers, val_size, n_x_val, x_val_step)
        wanted = set({"train": train, "test": self.test_numbers}.get(self.phase, valid))
        found = read_index(self.folder, self.file_prefix, progress)
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
        """Return the samples of the phase."""
        if self.phase in ("eval", "test"):
            return [Sample(v, 1 + i) for v in self.videos for i in range(self.frame_step)]
        long_enough = [v for v in self.videos if v.n_frames >= self.clip_len]
        if len(long_enough) < len(self.videos):
            log.info(
                "%s %s: %d of %d videos are shorter than a clip of %d frames and are skipped",
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
        """Return the starts of the validation clips in a video of `n` frames."""
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
        """Return the 1-based positions of an example's frames in its video."""
        video, start = self.samples[index]
        if self.phase in ("eval", "test"):
            assert start is not None
            return list(range(start, video.n_frames + 1, self.frame_step))
        if start is None:
            last = max(1, video.n_frames - self.clip_len)
            start = int(self.rng(index).integers(1, last, endpoint=True))
        return list(range(start, start + self.clip_len, self.frame_step))

    def path(self, video: Video, kind: str, number: int) -> Path:
        """Return the file of the frame at the 1-based position `number`."""
        digits = f"{video.first + number - 1:0{video.width_of_number}d}"
        return self.folder / video.name / kind / f"{self.file_prefix(video.name)}{digits}.png"

    def read_frame(self, video: Video, number: int) -> RGB:
        """Read one frame `[H, W, 3] uint8` at its own size."""
        path = self.path(video, IMAGES, number)
        rgb = read_rgb(path)
        _check_size(path, rgb.shape, video.frame_size)
        return rgb

    def read_targets(self, video: Video, number: int) -> list[NDArray[np.uint8]]:
        """Read the map and the fixations of one frame, `[h, w]` grey levels."""
        return [self._read_target(video, kind, number) for kind in (MAPS, FIXATIONS)]

    def _read_target(self, video: Video, kind: str, number: int) -> NDArray[np.uint8]:
        """Read the map or the fixations of a frame, `[h, w]` grey levels."""
        assert video.target_size is not None
        path = self.path(video, kind, number)
        grey = read_grey_levels(path)
        _check_size(path, grey.shape, video.target_size)
        return grey

    # ---- frame by frame ---------------------------------------------------------------------
    def lengths(self) -> list[int]:
        return [video.n_frames for video in self.videos]

    def title(self, index: int) -> str:
        return self.videos[index].name

    def files(self, index: int, number: int = 1) -> FrameFiles:
        kinds = KINDS if self.has_maps else (IMAGES,)
        return FrameFiles(*(self.path(self.videos[index], kind, number) for kind in kinds))

    def prediction_path(self, index: int, number: int = 1) -> Path:
        return Path(self.title(index), self.path(self.videos[index], IMAGES, number).name)

    def frame_size(self, index: int) -> Size:
        return self.videos[index].frame_size

    def read_input(self, index: int, number: int = 1) -> NDArray[np.float32]:
        return normalise(resize_rgb(self.read_frame(self.videos[index], number), self.input_size))

    def target_size(self, index: int) -> Size:
        size = self.videos[index].target_size
        if size is None:
            raise UserError(f"{self.folder / self.title(index)} has no maps and fixations")
        return size

    def read_density(self, index: int, number: int = 1) -> NDArray[np.float32]:
        grey = self._read_target(self.videos[index], MAPS, number)
        return normalise_map(to_unit_range(grey))

    def read_fixation_map(self, index: int, number: int = 1) -> NDArray[np.bool_]:
        grey = self._read_target(self.videos[index], FIXATIONS, number)
        return to_fixation_map(to_unit_range(grey))

    def __getitem__(self, index: int) -> Item:
        video = self.samples[index].video
        numbers = self.frame_numbers(index)
        frames = [self.read_frame(video, n) for n in numbers]
        if not self.has_maps:
            size = frames[0].shape[0], frames[0].shape[1]
            resized = [normalise(resize_rgb(f, self.input_size)) for f in frames]
            return Item(numbers, stacked(resized), None, None, size)
        clip = [(f, self.read_targets(video, n)) for f, n in zip(frames, numbers, strict=True)]
        if self.phase in ("train", "valid"):
            clip = [self.fit(frame, targets) for frame, targets in clip]
        else:
            clip = [(resize_rgb(frame, self.input_size), targets) for frame, targets in clip]
        maps = [normalise_map(to_unit_range(targets[0])) for _, targets in clip]
        fixations = [to_fixation_map(to_unit_range(targets[1])) for _, targets in clip]
        pictures = [frame for frame, _ in clip]
        if self.augmentation is not None:
            change = self.augmentation.draw(self.rng(index), np.logical_or.reduce(fixations))
            pictures = [change.of_picture(p, self.input_size) for p in pictures]
            maps = [normalise_map(change.of_map(m)) for m in maps]
            fixations = [change.of_fixations(f) for f in fixations]
        return Item(
            frame_nrs=numbers,
            frames=stacked([normalise(p) for p in pictures]),
            maps=stacked(maps)[:, None],
            fixations=stacked(fixations)[:, None],
            target_size=(maps[0].shape[0], maps[0].shape[1]),
        )


class CroppedVideoDataset(VideoDataset):
    """Hollywood-2 and UCF Sports: videos of many sizes, trained on a centre crop of one size."""

    def resized(self, size: Size) -> Size:
        """Return the size that a frame of `size` is resized to before the crop."""
        raise NotImplementedError

    def fit(
        self, rgb: RGB, maps: Sequence[NDArray[np.uint8]]
    ) -> tuple[RGB, list[NDArray[np.uint8]]]:
        frame = centre_crop(resize_rgb(rgb, self.resized(rgb.shape[:2])), self.input_size)
        saliency_map, fixations = maps
        size = self.resized(saliency_map.shape[:2])
        targets = [
            resize_grey_levels(saliency_map, size, nearest=False),
            resize_grey_levels(fixations, size, nearest=True),
        ]
        return frame, [centre_crop(t, self.input_size) for t in targets]


def _check_size(path: Path, shape: tuple[int, ...], expected: Size) -> None:
    if shape[:2] != expected:
        raise UserError(
            f"{path} is {shape[:2]}, the first frame of its video {expected} (height, width); "
            "they have to be the same"
        )
