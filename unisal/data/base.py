"""One example, one batch, one dataset: what every source shares (spec 02)."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from unisal.config import build, data_dir, load_json
from unisal.data.augment import Augmentation
from unisal.data.listing import Group, Picture
from unisal.data.pictures import read_grey
from unisal.data.transforms import to_fixation_map
from unisal.errors import UserError

E = TypeVar("E")
PHASES = ("train", "valid", "eval", "test")
MAX_NAMED_FILES = 5
PUBLISHED_OPTIONS = (
    "debug",
    "max_seq_len",
    "n_images_file",
    "preproc_cfg",
    "sal_offset",
    "seq_per_vid",
    "seq_per_vid_val",
    "target_size",
)
"""Options in the published code's `<Dataset>.json` that have no effect here, nor have those about
its register files."""
TRAINING_OPTIONS = ("phase", "subset", "augment", "seed", "verbose")
"""Options of a run's dataset that say how it was trained, not how it is read."""


class Item(NamedTuple):
    """One example: an image, or a clip with a time axis `T` after the batch's place."""

    frame_nrs: list[int]
    """1-based positions of the frames in their video; `[1]` for an image."""
    frames: Tensor
    """`[(T,) 3, H, W] float32`, ImageNet-normalised RGB."""
    maps: Tensor | None
    """`[(T,) 1, h, w] float32` densities, each with sum 1; None where a part has none."""
    fixations: Tensor | None
    """`[(T,) 1, h, w] bool`."""
    target_size: tuple[int, int]
    """(h, w) of maps and predictions."""


@dataclass(frozen=True)
class Batch:
    """Examples of one source, as the trainer takes them; images are clips of one frame."""

    source: str
    domain: str
    """Whose modules of the network predict it."""
    static: bool
    names: list[str]
    """Which examples these are, for messages."""
    frames: Tensor
    """`[B, T, 3, H, W] float32`."""
    maps: Tensor
    """`[B, T, 1, h, w] float32`, sum 1 per frame."""
    fixations: Tensor
    """`[B, T, 1, h, w] bool`."""

    @property
    def target_size(self) -> tuple[int, int]:
        return self.maps.shape[-2], self.maps.shape[-1]

    def to(self, device: torch.device) -> Batch:
        return replace(
            self,
            frames=self.frames.to(device, non_blocking=True),
            maps=self.maps.to(device, non_blocking=True),
            fixations=self.fixations.to(device, non_blocking=True),
        )

    def pin_memory(self) -> Batch:
        """Called by torch's DataLoader."""
        return replace(
            self,
            frames=self.frames.pin_memory(),
            maps=self.maps.pin_memory(),
            fixations=self.fixations.pin_memory(),
        )


class SaliencyDataset(Dataset[Item]):
    """What the six sources share. A subclass finds its examples and reads one.

    Everything that differs per source and that others need to know is an attribute of the class.

    Args:
        phase: "train"; "valid" (while training); "eval" (scores on the validation part); "test".
        subset: share of the examples to keep, the first ones.
        augment: random changes of training examples: True, or the options of `Augmentation`.
        seed: of the random choices, together with `epoch` and the example's index. They
            do not depend on the process that reads the example.
    """

    source: ClassVar[str]
    """The dataset's name: in commands, configurations and file names."""
    domain: ClassVar[str]
    """Whose modules of the network predict it."""
    dynamic: ClassVar[bool]
    """Whether it holds videos."""
    root_variable: ClassVar[str]
    root_default: ClassVar[str]
    scalar_prefix: ClassVar[str]
    """What its losses are called in TensorBoard."""
    scored_phase: ClassVar[str] = "eval"
    """The phase whose examples it is scored on."""
    score_name: ClassVar[str]
    """What the files of its scores are called after."""
    fine_tuned: ClassVar[bool] = False
    """Whether it is predicted with the fine-tuned weights, where a run has them."""
    public_ground_truth: ClassVar[bool] = True
    """Whether it can be trained on and scored at all; else it can only be predicted."""
    validates_all: ClassVar[bool] = False
    """Whether validation also takes batches that are not full, so that every example counts."""
    phases: ClassVar[tuple[str, ...]] = PHASES
    """Those that it has examples for."""
    predicted_phases: ClassVar[tuple[str, ...]] = ("test", "eval")
    """Those whose predictions can be written to be handed in or compared; the default first."""
    raw_predictions: ClassVar[bool] = False
    """Whether they are also wanted as raw probabilities."""
    config: dict[str, Any]
    """The keyword arguments it was made with."""
    epoch: int = 0

    def __init__(
        self,
        phase: str,
        subset: float,
        augment: bool | Mapping[str, Any],
        seed: int | Sequence[int],
    ) -> None:
        if phase not in PHASES:
            raise UserError(f"phase is {phase!r}; allowed are {', '.join(PHASES)}")
        if not 0 < subset <= 1:
            raise UserError(f"subset is {subset}; it has to be above 0 and at most 1")
        if augment and not isinstance(augment, bool | Mapping):
            raise UserError(f"augment is {augment!r}; it has to be True, False or a dictionary")
        self.phase = phase
        self.seed = [seed] if isinstance(seed, int) else list(seed)
        self.augmentation: Augmentation | None = None
        if augment and phase == "train":
            self.augmentation = build(Augmentation, {} if augment is True else augment)

    @classmethod
    def from_options(cls, options: Mapping[str, Any], **overrides: Any) -> SaliencyDataset:
        """-> a dataset from typed options or a `<Dataset>.json`, the published code's included.

        Raises:
            UserError: an unknown option, named.
        """
        known = {
            k: v
            for k, v in options.items()
            if k not in PUBLISHED_OPTIONS and not k.startswith("register")
        }
        if known.get("subset", 1) is None:
            known.pop("subset")
        return build(cls, known, **overrides)

    @classmethod
    def as_in_run(cls, run: Path, **overrides: Any) -> SaliencyDataset:
        """-> a dataset read as the run in that folder reads it.

        Raises:
            UserError: the options that the run keeps, or the data, are faulty.
        """
        saved = run / f"{cls.__name__}.json"
        options = load_json(saved) if saved.is_file() else {}
        options = {k: v for k, v in options.items() if k not in TRAINING_OPTIONS}
        return cls.from_options(options, **overrides)

    @classmethod
    def root(cls) -> Path:
        """Where the data lies.

        Raises:
            UserError: the folder does not exist; says how to name another one.
        """
        root = data_dir(cls.root_variable, cls.root_default)
        if not root.is_dir():
            raise UserError(
                f"{cls.source} data folder {root} does not exist; "
                f"set {cls.root_variable} to the folder that holds it"
            )
        return root

    @classmethod
    def is_there(cls) -> bool:
        """Whether its folder exists."""
        return data_dir(cls.root_variable, cls.root_default).is_dir()

    @classmethod
    def part(cls, phase: str) -> str:
        """-> what the files that a phase reads are called; several phases may read the same."""
        raise NotImplementedError

    @classmethod
    def list_part(cls, phase: str) -> Iterator[Group]:
        """-> the files on disk that a phase reads, whether or not they are as they should be."""
        raise NotImplementedError

    @staticmethod
    def read_fixation_file(path: Path) -> NDArray[np.bool_]:
        """-> the fixated pixels that a file of fixations holds, `[h, w] bool`."""
        return to_fixation_map(read_grey(path))

    def rng(self, index: int) -> np.random.Generator:
        """The random stream of one example in this epoch."""
        return np.random.default_rng([*self.seed, self.epoch, index])

    def name(self, index: int) -> str:
        """What to call an example in a message."""
        raise NotImplementedError

    def __len__(self) -> int:
        raise NotImplementedError

    def __getitem__(self, index: int) -> Item:
        raise NotImplementedError

    def batch_group(self, index: int) -> Hashable:
        """Examples of different groups never share a batch: their tensors differ in size."""
        return None

    def score_folder(self, run: Path | None = None) -> str:
        """-> where in the folder of a run, `run`, its scores go."""
        return ""

    @classmethod
    def fold_options(cls, _fold: int | None) -> dict[str, Any]:
        """-> the options that choose a fold for scores and predictions; none without folds."""
        return {}

    def prediction_folder(self, run: Path, fold: int | None = None) -> Path:
        """-> where among the predictions of a run, whose folder is `run`, its own go.

        Args:
            run: the run's folder.
            fold: that was asked for; None: the one that the run was fine-tuned on.
        """
        return Path(self.source)

    # ---- frame by frame, for scores and predictions -----------------------------------------
    # `index` counts videos, an image being a video of one frame; `number` counts a video's
    # frames from 1.
    def lengths(self) -> list[int]:
        """-> the number of frames of each video; 1 for each image."""
        raise NotImplementedError

    def title(self, index: int) -> str:
        """What to call a video or an image in a message and a table."""
        raise NotImplementedError

    def files(self, index: int, number: int = 1) -> Picture:
        """-> the files of one frame."""
        raise NotImplementedError

    def prediction_path(self, index: int, number: int = 1) -> Path:
        """-> the file of one frame's prediction, in the `prediction_folder`."""
        raise NotImplementedError

    def frame_size(self, index: int) -> tuple[int, int]:
        """-> (height, width) of the frames as they are shown."""
        raise NotImplementedError

    def read_input(self, index: int, number: int = 1) -> Tensor:
        """-> one frame as the network takes it: `[3, H, W] float32`, ImageNet-normalised RGB."""
        raise NotImplementedError

    def target_size(self, index: int) -> tuple[int, int]:
        """-> (height, width) of the ground truth.

        Raises:
            UserError: there is none, or it cannot be read.
        """
        raise NotImplementedError

    def read_density(self, index: int, number: int = 1) -> NDArray[np.float32]:
        """-> the saliency map of one frame as a density `[h, w]` with sum 1."""
        raise NotImplementedError

    def read_fixation_map(self, index: int, number: int = 1) -> NDArray[np.bool_]:
        """-> the fixated pixels of one frame, `[h, w] bool`."""
        raise NotImplementedError

    def read_observers(self, index: int) -> list[NDArray[np.float64]] | None:
        """-> each observer's fixations of an image as `[n, 2]` (x, y) in pixels of the ground
        truth, counted from 0; None where the data does not tell the observers apart."""
        return None

    def collate(self, examples: Sequence[tuple[int, Item]]) -> Batch:
        """Numbered examples -> a batch.

        Raises:
            UserError: their maps differ in size, with the names of two that do.
        """
        names = [self.name(i) for i, _ in examples]
        items = [item for _, item in examples]
        for name, item in zip(names, items, strict=True):
            if item.target_size != items[0].target_size:
                raise UserError(
                    f"maps of one batch have to have one size, but that of {names[0]} is "
                    f"{items[0].target_size} and that of {name} {item.target_size} "
                    "(height, width)"
                )

        def stacked(tensors: Sequence[Tensor | None]) -> Tensor:
            present = [t for t in tensors if t is not None]
            stack = torch.stack(present)
            return stack if self.dynamic else stack.unsqueeze(1)  # images: a time axis of one

        return Batch(
            source=self.source,
            domain=self.domain,
            static=not self.dynamic,
            names=names,
            frames=stacked([i.frames for i in items]),
            maps=stacked([i.maps for i in items]),
            fixations=stacked([i.fixations for i in items]),
        )


class Numbered(Dataset[tuple[int, Item]]):
    """A dataset whose examples carry their index along, so that a batch can name them."""

    def __init__(self, dataset: SaliencyDataset) -> None:
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> tuple[int, Item]:
        return index, self.dataset[index]


def require_files(what: str, missing: Sequence[Path]) -> None:
    """Raise a UserError that names the first of the missing files, if there are any."""
    if missing:
        shown = ", ".join(str(p) for p in missing[:MAX_NAMED_FILES])
        more = len(missing) - MAX_NAMED_FILES
        rest = f" and {more} more" if more > 0 else ""
        raise UserError(f"{what} missing: {shown}{rest}")


def first_share(examples: list[E], subset: float) -> list[E]:
    """-> the first `int(subset * n)` of the examples."""
    return examples[: int(subset * len(examples))]
