"""Settings that differ per source: from a run's options, else from the source's class."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from unisal.config import load_json
from unisal.data import DATASETS, GazeSource, SaliencyDataset, find_dataset
from unisal.data.gaze import is_spec, source_name, spec_of
from unisal.errors import UserError
from unisal.train.config import PER_SOURCE, PUBLISHED_KEYS, TrainerConfig

MAX_NAMED = 5


def check_sources(cfg: TrainerConfig) -> None:
    """Check that the sources in a run's options exist and can be trained on.

    Raises:
        UserError: one does not exist or cannot be trained on; lists the known ones.
    """
    known = [source for source, dataset in DATASETS.items() if dataset.public_ground_truth]
    named = names_of_sources(cfg)
    if len(set(named)) < len(named):
        raise UserError(f"data_sources is {cfg.data_sources!r}; give each source another name")
    known += [dataset.source for dataset in own_sources(cfg).values()]
    options = {option: getattr(cfg, option) for option in PER_SOURCE}
    for option, sources in {"data_sources": named, **options}.items():
        if strange := [source for source in sources if source not in known]:
            raise UserError(
                f"{option}: {', '.join(strange)} cannot be trained on; known are {', '.join(known)}"
            )


def own_sources(cfg: TrainerConfig) -> dict[str, type[SaliencyDataset]]:
    """Return the classes of the folders of gaze data that a run is trained on, by their names.

    Raises:
        UserError: a folder cannot be read.
    """
    return {source_name(s): find_dataset(s) for s in cfg.data_sources if is_spec(s)}


def dataset_of(cfg: TrainerConfig, source: str) -> type[SaliencyDataset]:
    """Return the class of a source of a run.

    Args:
        cfg: the options of the run.
        source: its name; of a folder of gaze data also NAME=PATH.

    Raises:
        UserError: there is no such source.
    """
    spec = next((s for s in cfg.data_sources if is_spec(s) and source_name(s) == source), source)
    return find_dataset(spec)


def names_of_sources(cfg: TrainerConfig) -> list[str]:
    """Return the names of the sources that a run is trained on, in order."""
    return [source_name(source) for source in cfg.data_sources]


DATA_RECORD = "{name}_data.json"
"""The file in a run's folder that holds the content of a folder of gaze data it is trained on."""


def data_records(datasets: Mapping[str, SaliencyDataset]) -> dict[str, dict[str, Any]]:
    """Return what a run keeps of the content of its folders of gaze data, by the file's name."""
    return {
        DATA_RECORD.format(name=name): {
            "folder": str(dataset.data.place.folder),
            "fingerprint": dataset.data.fingerprint_hash(),
            "files": dict(dataset.data.fingerprint),
        }
        for name, dataset in datasets.items()
        if isinstance(dataset, GazeSource)
    }


def refuse_other_data(folder: Path, datasets: Mapping[str, SaliencyDataset]) -> None:
    """Refuse to go on with other data than a run was trained on.

    Args:
        folder: that of the run.
        datasets: the data sets to go on with, by source.

    Raises:
        UserError: the content of a folder of gaze data is another now; names the files.
    """
    for file, record in data_records(datasets).items():
        if not (folder / file).is_file():
            continue
        before = load_json(folder / file).get("files", {})
        now = record["files"]
        changed = [name for name in (*before, *now) if before.get(name) != now.get(name)]
        changed = list(dict.fromkeys(changed))
        if changed:
            more = f" and {len(changed) - MAX_NAMED} more" if len(changed) > MAX_NAMED else ""
            raise UserError(
                f"{folder} was trained on other data than {record['folder']} holds now: "
                f"{', '.join(changed[:MAX_NAMED])}{more} changed; bring it back, or begin a new run"
            )


def dataset_options(cfg: TrainerConfig, source: str) -> dict[str, Any]:
    """Return the keyword arguments of a source's data set that a run sets."""
    options: dict[str, Any] = {"augment": cfg.augment} if cfg.augment else {}
    if cfg.debug:
        options["subset"] = dataset_of(cfg, source).debug_subset
    return options | dict(cfg.dataset_options.get(source, {}))


def batch_size(cfg: TrainerConfig, source: str, phase: str = "train") -> int:
    """Return the number of examples in a source's batches."""
    dataset = dataset_of(cfg, source)
    if phase == "valid":
        of_valid = cfg.valid_batch_sizes.get(source, dataset.valid_batch_size)
        if of_valid is not None:
            return of_valid
    return cfg.batch_sizes.get(source, dataset.batch_size)


def loss_factor(cfg: TrainerConfig, source: str) -> float:
    """Return what the loss of a source is multiplied by."""
    if not cfg.weigh_sources:
        return 1.0
    return cfg.loss_factors.get(source, dataset_of(cfg, source).loss_weight)


def saved_options(cfg: TrainerConfig) -> dict[str, Any]:
    """Return all options as `Trainer.json` holds them.

    Options with a published key are always included, whether or not they were given, so that
    published programs can read the file and a source's class may change. The rest stays in the
    mappings per source, which are left out if they are empty.
    """
    options = cfg.as_dict()
    options["data_sources"] = [spec_of(s) if is_spec(s) else s for s in cfg.data_sources]
    in_mappings: dict[str, dict[str, Any]] = {option: options.pop(option) for option in PER_SOURCE}
    of_source: Mapping[str, Any] = {
        "batch_sizes": lambda source: batch_size(cfg, source),
        "valid_batch_sizes": lambda source: batch_size(cfg, source, "valid"),
        "dataset_options": lambda source: dict(cfg.dataset_options.get(source, {})),
        "loss_factors": lambda source: cfg.loss_factors.get(source, DATASETS[source].loss_weight),
    }
    for key, (option, source) in PUBLISHED_KEYS.items():
        options[key] = of_source[option](source)
        in_mappings[option].pop(source, None)
    return options | {option: values for option, values in in_mappings.items() if values}
