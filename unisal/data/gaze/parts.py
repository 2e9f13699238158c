"""The parts of a folder of gaze data: training, validation, test."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from unisal.config import load_json
from unisal.data.gaze.options import CONFIG, GazeOptions
from unisal.data.gaze.report import GazeReport
from unisal.data.gaze.stimuli import match_names
from unisal.data.splits import shuffled, take_fold
from unisal.errors import UserError

SPLITS = "splits.json"
"""The file that says which stimuli belong to which part."""
N_PARTS, SEED = 5, 27
"""Without it one of five parts, drawn by this seed, is the validation part."""
TRAIN, VAL, TEST = "train", "val", "test"
OTHER_NAMES = {"training": TRAIN, "valid": VAL, "validation": VAL, "eval": VAL, "testing": TEST}
PART_OF_PHASE = {"train": TRAIN, "valid": VAL, "eval": VAL, "test": TEST}
MAX_NAMED = 5


@dataclass(frozen=True)
class Splits:
    """Which stimuli belong to which part.

    Args:
        n: the number of stimuli.
        named: the indices of each part that was named; parts may be missing.
        groups: a name for each stimulus; those of one name stay in the same part.
    """

    n: int
    named: Mapping[str, Sequence[int]]
    groups: tuple[str, ...] | None = None

    def part(
        self,
        phase: str,
        n_x_val: int = N_PARTS,
        x_val_step: int | None = None,
        seed: int | None = SEED,
    ) -> list[int]:
        """Return the stimuli of a phase, in order.

        The phase "test" is the test part if one was named, otherwise all stimuli.

        Args:
            phase: see `SaliencyDataset`.
            n_x_val: the number of folds of training and validation part together.
            x_val_step: the fold, from 0, that is the validation part; None for the parts that were
                named or, if none was, fold 0.
            seed: seed of the shuffle before the folds; None or 0 leaves the stimuli in order.

        Raises:
            UserError: there is no such fold.
        """
        test = self.named.get(TEST)
        if phase == "test":
            return sorted(test) if test is not None else list(range(self.n))
        train, val = self._named_parts()
        if train is None or val is None or x_val_step is not None:
            known = {i for part in (train, val) for i in part or ()}
            pool = sorted(known) if known else sorted(set(range(self.n)) - set(test or ()))
            train, val = self._fold(pool, n_x_val, x_val_step or 0, seed)
        return sorted(train if phase == "train" else val)

    def _named_parts(self) -> tuple[Sequence[int] | None, Sequence[int] | None]:
        """Return the training and the validation part; of two of them one may be the rest."""
        train, val = self.named.get(TRAIN), self.named.get(VAL)
        if (train is None) == (val is None):
            return train, val
        other = train if train is not None else val
        rest = sorted(set(range(self.n)) - set(other or ()) - set(self.named.get(TEST, ())))
        return (rest, val) if train is None else (train, rest)

    def _fold(
        self, pool: Sequence[int], n_x_val: int, step: int, seed: int | None
    ) -> tuple[list[int], list[int]]:
        """Return all folds but one, and that one; groups stay together."""
        groups = self.groups or tuple(str(i) for i in range(self.n))
        members: dict[str, list[int]] = {}
        for index in pool:
            members.setdefault(groups[index], []).append(index)
        names = list(members)
        rest, fold = take_fold(shuffled(range(len(names)), seed), n_x_val, step)
        return tuple([i for k in part for i in members[names[k]]] for part in (rest, fold))  # type: ignore[return-value]


def read_splits(
    folder: Path,
    options: GazeOptions,
    names: Sequence[str],
    groups: tuple[str, ...] | None,
    report: GazeReport,
) -> Splits:
    """Read which stimuli belong to which part.

    Args:
        folder: that of the data.
        options: hold the parts, or the name of the file that does.
        names: the names of the stimuli.
        groups: see `Splits`.
        report: is told of stimuli that are not there, and how parts are made without a file.

    Raises:
        UserError: the file is missing or faulty, or a stimulus is in two parts.
    """
    said = options.splits
    path = folder / (said if isinstance(said, str) else SPLITS)
    if said is None and not path.is_file():
        together = f", those with the same {options.split_by!r} together" if groups else ""
        report.assumed.append(
            f"no {SPLITS}: a fifth of the stimuli, drawn by a seed{together}, is the validation "
            "part"
        )
        return Splits(len(names), {}, groups)
    where = str(path) if not isinstance(said, Mapping) else CONFIG
    content = said if isinstance(said, Mapping) else load_json(path)
    parts: dict[str, list[int]] = {}
    unknown: list[str] = []
    for given, members in content.items():
        name = OTHER_NAMES.get(given.lower(), given.lower())
        if name not in PART_OF_PHASE.values():
            continue  # other lists and notes
        parts[name] = _indices(members, names, f"{where}: {given}", unknown)
    if not parts:
        raise UserError(f'{where} names no part; expected {{"train": [...], "val": [...]}}')
    _refuse_overlap(parts, names, where)
    if unknown:
        more = f" and {len(unknown) - MAX_NAMED} more" if len(unknown) > MAX_NAMED else ""
        report.assumed.append(
            f"{where}: {len(unknown)} stimuli are not there: {', '.join(unknown[:MAX_NAMED])}{more}"
        )
    return Splits(len(names), parts, groups)


def _indices(members: Any, names: Sequence[str], where: str, unknown: list[str]) -> list[int]:
    """Return the indices of the stimuli in a list; note those that are not there."""
    if not isinstance(members, list | tuple):
        raise UserError(f"{where} is {members!r}; expected a list of stimuli")
    wanted = np.array([str(member) for member in members], dtype=object)
    paths = [Path(name) for name in names]
    index, _ = match_names(wanted, Path(), paths) if len(wanted) else (np.empty(0, int), [])
    unknown += [w for w, i in zip(wanted.tolist(), index.tolist(), strict=True) if i < 0]
    return sorted({int(i) for i in index if i >= 0})


def _refuse_overlap(parts: Mapping[str, Sequence[int]], names: Sequence[str], where: str) -> None:
    """Refuse a stimulus that is in two parts: it would be scored by what was trained on."""
    seen: dict[int, str] = {}
    for part, members in parts.items():
        for index in members:
            other = seen.setdefault(index, part)
            if other != part:
                raise UserError(f"{where}: {names[index]} is in {other} and in {part}")
