"""Examples, batches and data sets: what all sources share (docs/behaviour.md, "Data")."""

from __future__ import annotations

import inspect
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from unisal.checks import check_count, check_number, is_switch
from unisal.config import build, data_dir, load_json
from unisal.data.augment import Augmentation
from unisal.data.listing import FrameFiles, Group
from unisal.data.pictures import read_grey, read_rgb
from unisal.data.transforms import to_fixation_map
from unisal.errors import UserError
from unisal.progress import SILENT, Progress
from unisal.types import RGB, Part, Size

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from unisal.data.gaze.fixations import Fixations

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
"""Options in the published code's `<Dataset>.json` that have no effect here, nor do those about its
register files, whose names start with `register`."""
PUBLISHED_NAMES = {"frame_modulo": "frame_step", "out_size": "input_size"}
"""The published names of options, which `<Dataset>.json` keeps, and the names used here."""
TRAINING_OPTIONS = (
    *("phase", "subset", "augment", "seed", "verbose"),
    *("train_stimuli", "train_observers"),
    *("observer_share", "skip_first", "people_smoothing"),
)
"""Options of a run's data set that say how it was trained, not how it is read."""


class Item(NamedTuple):
    """One example: an image, or a clip, whose tensors begin with a time axis `T`."""

    frame_nrs: list[int]
    """1-based positions of the frames in their video; `[1]` for an image."""
    frames: Tensor
    """`[(T,) 3, H, W] float32`, ImageNet-normalised RGB."""
    maps: Tensor | None
    """`[(T,) 1, h, w] float32` densities, each with sum 1; None in a part without ground truth."""
    fixations: Tensor | None
    """`[(T,) 1, h, w] bool`."""
    target_size: Size
    """The size of maps and predictions."""


@dataclass(frozen=True)
class Batch:
    """Examples of one source as the trainer takes them; images are clips of one frame."""

    source: str
    domain: str
    """The network domain that predicts it."""
    is_video: bool
    names: list[str]
    """Names of the examples, for messages."""
    frames: Tensor
    """`[B, T, 3, H, W] float32`."""
    maps: Tensor
    """`[B, T, 1, h, w] float32`, sum 1 per frame."""
    fixations: Tensor
    """`[B, T, 1, h, w] bool`."""
    part: Part | None = None
    """Which examples of a batch of several processes they are; None: all of them."""

    @property
    def target_size(self) -> Size:
        """The size of the maps."""
        return self.maps.shape[-2], self.maps.shape[-1]

    def to(self, device: torch.device) -> Batch:
        """Return the batch with its tensors on a device."""
        return replace(
            self,
            frames=self.frames.to(device, non_blocking=True),
            maps=self.maps.to(device, non_blocking=True),
            fixations=self.fixations.to(device, non_blocking=True),
        )

    def pin_memory(self) -> Batch:
        """Return the batch in pinned memory; called by torch's `DataLoader`."""
        return replace(
            self,
            frames=self.frames.pin_memory(),
            maps=self.maps.pin_memory(),
            fixations=self.fixations.pin_memory(),
        )


class SaliencyDataset:
    """The base class of all sources. A subclass finds its examples and reads them one by one.

    Everything that differs per source and that other parts of the program need is an attribute
    or a method of its class, so nothing else has to ask which source it is.

    Args:
        phase: "train"; "valid" (while training); "eval" (scores on the validation part); "test".
        subset: share of the examples to keep, from the first on.
        augment: random changes of training examples: True, or the options of `Augmentation`.
        seed: determines the random choices, together with `epoch` and the index of the example.
            They do not depend on the process that reads the example.
        verbose: accepted for old configurations; has no effect.
        own: options of the source itself, by their names in `<Dataset>.json`.

    Raises:
        UserError: an option is not allowed; names it.
    """

    source: ClassVar[str]
    """The name of the source: in commands, configurations and file names."""
    domain: ClassVar[str]
    """The network domain that it uses."""
    names_domain: ClassVar[bool] = True
    """Whether the domain is its own. Otherwise a run may have a better one for pictures of unknown
    origin, see `unisal.predict.presets.source_domain`."""
    is_video: ClassVar[bool]
    """Whether it holds videos."""
    root_variable: ClassVar[str]
    """The environment variable that names its folder."""
    root_default: ClassVar[str]
    """The folder in `data/` that it is read from otherwise."""
    scalar_prefix: ClassVar[str]
    """The first part of its losses' names in TensorBoard."""
    scored_phase: ClassVar[str] = "eval"
    """The phase whose examples it is scored on."""
    score_name: ClassVar[str]
    """The first part of the names of its files of scores."""
    scored_by_default: ClassVar[bool] = True
    """Whether it is scored if no source is named."""
    scored_in_detail: ClassVar[bool] = False
    """Whether scores are also computed of subsets of its gaze, and more baselines, unless asked
    otherwise. The published sources are scored as published."""
    fine_tuned: ClassVar[bool] = False
    """Whether it is predicted with the fine-tuned weights, if a run has them."""
    public_ground_truth: ClassVar[bool] = True
    """Whether it can be trained on and scored; otherwise it can only be predicted."""
    phases: ClassVar[tuple[str, ...]] = PHASES
    """The phases that it has examples for."""
    predicted_phases: ClassVar[tuple[str, ...]] = ("test", "eval")
    """The phases whose predictions can be written, to be submitted or compared; the first is the
    default."""
    raw_predictions: ClassVar[bool] = False
    """Whether the benchmark also takes the predictions as raw probabilities."""

    # ---- how it is read, and how pictures and videos like it are predicted -------------------
    input_size: Size | None = None
    """The size of the network's input; None: the optimal one for each picture."""
    native_frame_size: ClassVar[Size | None] = None
    """The only size of frames that `input_size` is meant for; None: any."""
    frame_step: int = 4
    """The distance in a video between frames that the GRU sees one after the other."""
    frame_rate: ClassVar[int] = 24
    """Frames per second that `frame_step` is meant for: with it the GRU sees six a second."""

    # ---- how it is trained, unless a run's options say otherwise -----------------------------
    batch_size: ClassVar[int] = 4
    """Number of examples in a batch."""
    valid_batch_size: ClassVar[int | None] = None
    """The same in validation; None: as in training."""
    loss_weight: ClassVar[float] = 1.0
    """The factor of its loss in a run that weighs its sources."""
    debug_subset: ClassVar[float] = 0.1
    """The share of its examples that a run with `debug=True` uses."""
    validates_all: ClassVar[bool] = False
    """Whether validation also takes batches that are not full, so that every example counts."""
    trains_all: ClassVar[bool] = False
    """Whether training does too; the batches of a group are then equally large as far as possible,
    none of them larger than the size of a batch."""

    config: dict[str, Any]
    """The keyword arguments it was made with, by their names in `<Dataset>.json`."""
    epoch: int = 0
    """Selects the random choices of an epoch of training."""

    def __init__(
        self,
        phase: str = "train",
        subset: float = 1.0,
        augment: bool | Mapping[str, Any] = False,
        seed: int | Sequence[int] = 0,
        verbose: int = 1,
        **own: Any,
    ) -> None:
        if phase not in PHASES:
            raise UserError(f"phase is {phase!r}; allowed are {', '.join(PHASES)}")
        check_number(subset, "subset", smallest=0, above=True, largest=1)
        if is_switch(augment):
            augment = bool(augment)
        elif augment and not isinstance(augment, Mapping):
            raise UserError(f"augment is {augment!r}; it has to be True, False or a dictionary")
        shared = {"subset": subset, "augment": augment, "seed": seed, "verbose": verbose}
        options = {"phase": phase, **own, **shared}
        known = inspect.signature(type(self)).parameters
        self.config = {name: value for name, value in options.items() if name in known}
        self.phase = phase
        self.seed = np.atleast_1d(seed).tolist()
        self.augmentation: Augmentation | None = None
        if augment and phase == "train":
            self.augmentation = build(Augmentation, {} if augment is True else augment)

    @classmethod
    def from_options(
        cls, options: Mapping[str, Any], *, progress: Progress = SILENT, **overrides: Any
    ) -> SaliencyDataset:
        """Make a data set from typed options or those of a `<Dataset>.json`.

        Args:
            options: keyword arguments of the class. Those that only the published code knows are
                dropped.
            progress: shows the progress of indexing many files.
            overrides: take precedence over `options`.

        Raises:
            UserError: an option is unknown, or the data is missing or faulty.
        """
        known = {
            k: v
            for k, v in options.items()
            if k not in PUBLISHED_OPTIONS and not k.startswith("register")
        }
        if known.get("subset", 1) is None:
            known.pop("subset")
        arguments = inspect.signature(cls).parameters
        if "progress" in arguments:
            overrides["progress"] = progress
        for values in (known, overrides):
            for published, name in PUBLISHED_NAMES.items():
                if published in values and name in arguments:
                    values[name] = one_of(name, values.get(name), published, values.pop(published))
        return build(cls, known, **overrides)

    @classmethod
    def as_in_run(
        cls, run: Path, *, progress: Progress = SILENT, **overrides: Any
    ) -> SaliencyDataset:
        """Make a data set with the options of a run.

        Args:
            run: the folder of the run.
            progress: see `from_options`.
            overrides: take precedence over the options saved with the run.

        Raises:
            UserError: the saved options or the data are faulty.
        """
        saved = run / f"{cls.__name__}.json"
        options = load_json(saved) if saved.is_file() else {}
        options = {k: v for k, v in options.items() if k not in TRAINING_OPTIONS}
        return cls.from_options(options, progress=progress, **overrides)

    @classmethod
    def root(cls) -> Path:
        """Return the folder of the data.

        Raises:
            UserError: it does not exist; says how to name another one.
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
        """Return whether its folder exists."""
        return data_dir(cls.root_variable, cls.root_default).is_dir()

    @classmethod
    def part(cls, phase: str) -> str:
        """Return the name of the files that a phase reads; several phases may read the same."""
        raise NotImplementedError

    @classmethod
    def list_part(cls, phase: str) -> Iterator[Group]:
        """Yield the files on disk that a phase reads, faulty ones included."""
        raise NotImplementedError

    @staticmethod
    def read_fixation_file(path: Path) -> NDArray[np.bool_]:
        """Return the fixated pixels that a file of fixations holds, `[h, w] bool`."""
        return to_fixation_map(read_grey(path))

    def rng(self, index: int) -> np.random.Generator:
        """Return the random stream of one example in this epoch."""
        return np.random.default_rng([*self.seed, self.epoch, index])

    def name(self, index: int) -> str:
        """Return what an example is called in messages."""
        raise NotImplementedError

    def __len__(self) -> int:
        raise NotImplementedError

    def __getitem__(self, index: int) -> Item:
        raise NotImplementedError

    def batch_group(self, index: int) -> Hashable:
        """Return the group of an example.

        Examples of different groups never share a batch, since their tensors differ in size.
        """
        return None

    def score_folder(self, run: Path | None = None) -> str:
        """Return where in the folder of a run its scores go."""
        return ""

    @classmethod
    def fold_options(cls, _fold: int | None) -> dict[str, Any]:
        """Return the options that choose a fold for scores and predictions; none without folds."""
        return {}

    def prediction_folder(self, run: Path, fold: int | None = None) -> Path:
        """Return where among the predictions of a run those of this data set go.

        Args:
            run: the folder of the run.
            fold: the fold that was asked for; None: the one that the run's fine-tuning held out.
        """
        return Path(self.source)

    # ---- frame by frame, for scores and predictions -----------------------------------------
    # `index` counts videos, an image being a video of one frame; `number` counts a video's
    # frames from 1.
    def lengths(self) -> list[int]:
        """Return the number of frames of each video; 1 for each image."""
        raise NotImplementedError

    def title(self, index: int) -> str:
        """Return what a video or an image is called in messages and tables."""
        raise NotImplementedError

    def files(self, index: int, number: int = 1) -> FrameFiles:
        """Return the files of one frame."""
        raise NotImplementedError

    def prediction_path(self, index: int, number: int = 1) -> Path:
        """Return the file of one frame's prediction, in the `prediction_folder`."""
        raise NotImplementedError

    def frame_size(self, index: int) -> Size:
        """Return the size of the frames as they are shown."""
        raise NotImplementedError

    def frame_step_of(self, index: int) -> int:
        """Return the distance between the frames of a video that the GRU sees as neighbours."""
        return self.frame_step

    def read_picture(self, index: int, number: int = 1) -> RGB:
        """Read one frame as it is shown, `[H, W, 3] uint8`."""
        image = self.files(index, number).image
        assert image is not None
        return read_rgb(image)

    def read_input(self, index: int, number: int = 1) -> NDArray[np.float32]:
        """Read one frame as the network takes it: `[3, H, W] float32`, ImageNet-normalised RGB."""
        raise NotImplementedError

    def target_size(self, index: int) -> Size:
        """Return the size of the ground truth.

        Raises:
            UserError: there is none, or it cannot be read.
        """
        raise NotImplementedError

    def read_density(self, index: int, number: int = 1) -> NDArray[np.float32]:
        """Read the saliency map of one frame as a density `[h, w]` with sum 1."""
        raise NotImplementedError

    def read_fixation_map(self, index: int, number: int = 1) -> NDArray[np.bool_]:
        """Read the fixated pixels of one frame, `[h, w] bool`."""
        raise NotImplementedError

    def is_looked_at(self, index: int, number: int = 1) -> bool:
        """Return whether a frame can be scored: not if it is known that nobody looked at it."""
        return True

    def read_observers(self, index: int) -> list[NDArray[np.float64]] | None:
        """Read the fixations of each observer of an image.

        Returns:
            For each observer `[n, 2]` (x, y) in pixels of the ground truth, counted from 0; None
            if the data does not distinguish the observers.
        """
        return None

    @property
    def observers(self) -> tuple[str, ...]:
        """The names of the observers; none if they are not known."""
        return ()

    @property
    def groups(self) -> Mapping[str, Sequence[str]]:
        """The groups that gaze can be divided into: their names, by what divides it."""
        return {}

    def read_gaze(self, index: int, number: int | None = None) -> Fixations | None:
        """Return the fixations on a picture or film, with all that is known of them.

        Args:
            index: index of the picture or film.
            number: of a film: the number of the frame, from 1; None for all frames.

        Returns:
            The fixations in pixels of the ground truth; None if there is no table of them.
        """
        return None

    def blur(self, index: int) -> tuple[float, float] | None:
        """Return the blur that turned fixations into maps, None if it is not known.

        Args:
            index: index of the picture or film.

        Returns:
            Standard deviations in pixels of the ground truth, (vertical, horizontal).
        """
        return None

    def frame_time(self, index: int, number: int) -> float:
        """Return when a frame of a film is shown, in seconds from its start.

        Args:
            index: index of the film.
            number: number of the frame, from 1.
        """
        return (number - 1) / self.frame_rate

    def collate(self, examples: Sequence[tuple[int, Item]]) -> Batch:
        """Collate numbered examples into a batch.

        Raises:
            UserError: their maps differ in size; names two that do.
        """
        from torch import stack  # here, since predictions do without PyTorch

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
            joined = stack(present)
            return joined if self.is_video else joined.unsqueeze(1)  # images: a time axis of one

        return Batch(
            source=self.source,
            domain=self.domain,
            is_video=self.is_video,
            names=names,
            frames=stacked([i.frames for i in items]),
            maps=stacked([i.maps for i in items]),
            fixations=stacked([i.fixations for i in items]),
        )


class Numbered:
    """A data set whose examples carry their index along, so that a batch can name them."""

    def __init__(self, dataset: SaliencyDataset) -> None:
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> tuple[int, Item]:
        return index, self.dataset[index]


def one_of(name: str, value: Any, published: str, other: Any) -> Any:
    """Return the value of an option that may be given under either of two names.

    Args:
        name: its name.
        value: what was given under that name; None if nothing was.
        published: its name in the published code.
        other: what was given under the published name; None if nothing was.

    Raises:
        UserError: it was given under both names.
    """
    if value is not None and other is not None:
        raise UserError(f"{published} and {name} are two names of one option; give one of them")
    return other if value is None else value


def check_size(value: Any, name: str) -> Size:
    """Check a size.

    Args:
        value: (height, width).
        name: name of the option, for the message.

    Raises:
        UserError: it is not a pair of positive integers.
    """
    if isinstance(value, np.ndarray):
        value = value.tolist()
    if not isinstance(value, Sequence) or isinstance(value, str) or len(value) != 2:
        raise UserError(f"{name} is {value!r}; it has to be (height, width)")
    height, width = value
    return check_count(height, f"the height in {name}"), check_count(width, f"the width in {name}")


def require_files(what: str, missing: Sequence[Path]) -> None:
    """Raise a UserError that names the first missing files, if there are any."""
    if missing:
        shown = ", ".join(str(p) for p in missing[:MAX_NAMED_FILES])
        more = len(missing) - MAX_NAMED_FILES
        rest = f" and {more} more" if more > 0 else ""
        raise UserError(f"{what} missing: {shown}{rest}")


def first_share(examples: list[E], subset: float) -> list[E]:
    """Return the first `int(subset * n)` of the examples."""
    return examples[: int(subset * len(examples))]
