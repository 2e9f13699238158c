"""One example, one batch, one dataset: what every source shares (spec 02)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, TypeVar

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from unisal.config import build, data_dir
from unisal.data.augment import Augmentation
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
