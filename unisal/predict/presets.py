"""Presets: how a user's own pictures and videos are predicted.

A preset is named after the source that the pictures or videos resemble most, and takes all its
values from the class of that data set (docs/behaviour.md, "Commands and files"). A run that has
trained a domain of its own holds a preset for it as well, of the domain's name, and may mark one as
the default for images.
"""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from math import floor
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

from unisal.checks import check_switch
from unisal.config import RUN_PRESETS, accept, build, find_graph_file, find_run, load_json
from unisal.data import DATASETS, SaliencyDataset
from unisal.data.transforms import optimal_input_size
from unisal.errors import UserError
from unisal.inference.graph_file import read_facts
from unisal.types import Size

IMAGE_PRESET, VIDEO_PRESET = "SALICON", "DHF1K"
"""The presets for images and for videos if none is named, and the run marks none for images."""
STREAM_RATE = 30
"""Frames per second of a stream whose rate is not known."""


class Preset(NamedTuple):
    """How pictures or videos like those of a source are predicted."""

    domain: str
    """The network domain to use."""
    is_video: bool
    """Whether the source holds videos; otherwise the frames of a video are predicted one by one."""
    frame_step: int
    """The distance between frames that the GRU sees one after the other."""
    frame_rate: int
    """Frames per second that `frame_step` is meant for: with it the GRU sees six a second."""
    input_size: Size | None
    """The size of the network's input; None: the optimal one for the frames."""
    native_frame_size: Size | None
    """The only size of frames that `input_size` is meant for; None: any."""
    fine_tuned: bool
    """Whether to use the fine-tuned weights, if the run has them."""

    @classmethod
    def of(cls, dataset: type[SaliencyDataset]) -> Preset:
        """Return the preset that a data set defines; pictures keep their own aspect ratio."""
        return cls(
            domain=dataset.domain,
            is_video=dataset.is_video,
            frame_step=dataset.frame_step,
            frame_rate=dataset.frame_rate,
            input_size=dataset.input_size if dataset.is_video else None,
            native_frame_size=dataset.native_frame_size,
            fine_tuned=dataset.fine_tuned,
        )

    def input_size_for(self, frame_size: Size) -> Size:
        """Return the network's input size for a picture or frames of that size."""
        if self.input_size and self.native_frame_size in (None, frame_size):
            return self.input_size
        return optimal_input_size(frame_size)

    def frame_step_for(self, rate: Fraction | float) -> int:
        """Return the frame step that is nearest in time to `frame_step`.

        Args:
            rate: frames per second of the video. For DHF1K 30 gives 5, 25 gives 4, 60 gives 10.
        """
        return max(1, floor(self.frame_step * rate / self.frame_rate + 0.5))


NO_PRESETS: Mapping[str, Preset] = MappingProxyType({})
"""Those of a run that holds none."""
SOURCES = "sources"
"""What a run's file of presets says besides the fields of `Preset`: who trained the domain."""
DEFAULT = "default"
"""Likewise: whether it is the preset for images if none is named, true for one at most."""


class _Saved(NamedTuple):
    """A preset as the file of a run holds it."""

    preset: Preset
    sources: tuple[str, ...]
    is_default: bool


def run_presets(train_id: str | None) -> dict[str, Preset]:
    """Return the presets that a run holds by itself; none if there is no such run.

    Args:
        train_id: the run, see `unisal.config.run_dir`.

    Raises:
        UserError: its file of presets is damaged; names it.
    """
    return {name: saved.preset for name, saved in _read_presets(train_id).items()}


def default_preset(train_id: str | None, is_video: bool = False) -> str:
    """Return the name of the preset that is used if none is named.

    Args:
        train_id: the run, see `unisal.config.run_dir`.
        is_video: whether it is for videos.

    Returns:
        For videos DHF1K; for images the one that the run's file of presets marks, else SALICON.

    Raises:
        UserError: the run's file of presets is damaged, or marks several presets or one for videos;
            names it.
    """
    if is_video:
        return VIDEO_PRESET
    marked = [name for name, saved in _read_presets(train_id).items() if saved.is_default]
    return marked[0] if marked else IMAGE_PRESET


def trained_domain(train_id: str | None, source: str) -> str | None:
    """Return the domain that a run has trained on a source instead of the source's own.

    Args:
        train_id: the run, see `unisal.config.run_dir`.
        source: name of the source.

    Returns:
        The domain, the newest one if there are several; None if there is none.

    Raises:
        UserError: the run's file of presets is damaged; names it.
    """
    presets = _read_presets(train_id).values()
    found = [saved.preset.domain for saved in presets if source in saved.sources]
    return found[-1] if found else None


def source_domain(train_id: str | None, dataset: type[SaliencyDataset] | SaliencyDataset) -> str:
    """Return the domain that a run predicts a source with if none is named.

    Args:
        train_id: the run, see `unisal.config.run_dir`.
        dataset: the source's class, or a data set of it.

    Returns:
        The domain that the run has trained on the source; else, for pictures that no domain is
        named for, that of the run's preset for images; else the source's own.

    Raises:
        UserError: the run's file of presets is damaged; names it.
    """
    if trained := trained_domain(train_id, dataset.source):
        return trained
    if dataset.names_domain or dataset.is_video:
        return dataset.domain
    return find_preset(default_preset(train_id), own=run_presets(train_id)).domain


def find_preset(
    name: str, for_images: bool = False, own: Mapping[str, Preset] = NO_PRESETS
) -> Preset:
    """Return the preset with that name.

    Args:
        name: that of the source that the pictures or videos resemble most, or of a preset of the
            run.
        for_images: whether it has to be a preset for images. Videos take either kind: with one
            for images the frames are predicted one by one.
        own: the presets of the run, see `run_presets`; they come before a source of that name.

    Raises:
        UserError: there is no such preset, or it is not for images; lists the allowed ones.
    """
    presets = {source: Preset.of(dataset) for source, dataset in DATASETS.items()} | dict(own)
    allowed = [n for n, preset in presets.items() if not (for_images and preset.is_video)]
    if name not in allowed:
        kind = "images" if for_images else "videos"
        raise UserError(f"source is {name!r}; for {kind} allowed are {', '.join(allowed)}")
    return presets[name]


def is_video_preset(name: str) -> bool:
    """Return whether there is a preset with that name that is for videos."""
    return name in DATASETS and DATASETS[name].is_video


def _read_presets(train_id: str | None) -> dict[str, _Saved]:
    """Return the presets of a run by name."""
    if graph := find_graph_file(train_id):
        return _preset_of_graph(graph)
    folder = find_run(train_id)
    if folder is None or not (folder / RUN_PRESETS).is_file():
        return {}
    path = folder / RUN_PRESETS
    found: dict[str, _Saved] = {}
    for name, saved in load_json(path).items():
        if not isinstance(saved, Mapping):
            raise UserError(f"{path}: {name} is {saved!r}; expected a JSON object")
        values = accept(saved, [*Preset._fields, SOURCES, DEFAULT], f"{path}: {name}")
        sources, is_default = values.pop(SOURCES, ()), values.pop(DEFAULT, False)
        if missing := [field for field in Preset._fields if field not in values]:
            raise UserError(f"{path}: {name} lacks {', '.join(missing)}")
        check_switch(is_default, f"{path}: {DEFAULT} of {name}")
        if is_default and values["is_video"]:
            raise UserError(f"{path}: {name} is for videos, so it cannot be the default for images")
        found[name] = _Saved(Preset(**values), sources, is_default)
    if len(marked := [name for name, saved in found.items() if saved.is_default]) > 1:
        raise UserError(f"{path}: {', '.join(marked)} are all the default; mark one of them")
    return found


def _preset_of_graph(path: Path) -> dict[str, _Saved]:
    """Return the preset that a graph was written for, by its name."""
    facts = read_facts(path)
    name, values = facts.get("preset_name"), facts.get("preset")
    if not isinstance(name, str) or not isinstance(values, Mapping):
        raise UserError(f"{path} names no preset; write it with Predictor.write_graph")
    preset = build(Preset, values)
    return {name: _Saved(preset, (), is_default=not preset.is_video)}
