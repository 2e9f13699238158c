"""What a run is configured with: keyword arguments, from and to JSON, and where things lie.

A configurable class (the network, the trainer, a dataset) is configured by its keyword
arguments alone, keeps them in `config` and is saved as `<ClassName>.json` in the folder of the run.
"""

from __future__ import annotations

import difflib
import functools
import inspect
import json
import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar

from unisal.errors import UserError
from unisal.files import write_atomically

T = TypeVar("T")
P = ParamSpec("P")

PROJECT_DIR = Path(__file__).resolve().parent.parent
"""The folder of `run.py`."""
PRETRAINED = "pretrained_unisal"
"""The run whose weights ship with the project."""


def train_dir() -> Path:
    """Where the folders of the runs lie: `TRAIN_DIR`, else `training_runs/` beside `run.py`."""
    return Path(os.environ.get("TRAIN_DIR") or PROJECT_DIR / "training_runs")


def pred_dir() -> Path:
    """Where predictions of data sets go: `PRED_DIR`, else `predictions/` beside `run.py`."""
    return Path(os.environ.get("PRED_DIR") or PROJECT_DIR / "predictions")


def examples_dir() -> Path:
    """The pictures that `predict_examples` predicts."""
    return PROJECT_DIR / "examples"


def data_dir(variable: str, default: str) -> Path:
    """A dataset's root: the environment variable, else `data/<default>` beside `run.py`."""
    return Path(os.environ.get(variable) or PROJECT_DIR / "data" / default)


def run_dir(train_id: str | None) -> Path:
    """-> the folder of the run `train_id` (None: the shipped one).

    Raises:
        UserError: there is no such run; lists those that exist.
    """
    root = train_dir()
    name = PRETRAINED if train_id is None or train_id == "" else str(train_id)
    folder = root / name
    if folder.is_dir():
        return folder
    found = sorted(f.name for f in root.iterdir() if f.is_dir()) if root.is_dir() else []
    known = f"there are: {', '.join(found)}" if found else "there is no run yet"
    raise UserError(f"no run {name!r} in {root}; {known}")


def own_arguments(local_variables: Mapping[str, Any]) -> dict[str, Any]:
    """`own_arguments(locals())` on a constructor's first line -> its arguments, to be kept."""
    return {k: v for k, v in local_variables.items() if k not in ("self", "__class__")}


def keeps_arguments(
    constructor: Callable[Concatenate[Any, P], None],
) -> Callable[Concatenate[Any, P], None]:
    """Record what a constructor was called with.

    Decorates `__init__`: the arguments by name, with the defaults of those that were not given,
    become `self.config`, before the constructor runs. If a base class is decorated as well, the
    arguments of the class that was called are kept.

    Args:
        constructor: the `__init__` to decorate.

    Returns:
        The decorated `__init__`, with the same signature.
    """
    signature = inspect.signature(constructor)

    @functools.wraps(constructor)
    def construct(self: Any, /, *args: P.args, **kwargs: P.kwargs) -> None:
        bound = signature.bind(self, *args, **kwargs)
        bound.apply_defaults()
        _, *given = bound.arguments.items()
        if "config" not in vars(self):  # a class derived from this one has set it
            self.config = dict(given)
        constructor(self, *args, **kwargs)

    return construct


def accept(
    given: Mapping[str, Any] | None,
    known: Iterable[str],
    name: str,
    ignored: Iterable[str] = (),
) -> dict[str, Any]:
    """-> `given` without its `ignored` keys, with JSON's lists turned into tuples.

    Raises:
        UserError: a key that is neither known nor ignored, with the one that may be meant.
    """
    known = list(known)
    values = {k: _as_tuple(v) for k, v in (given or {}).items() if k not in set(ignored)}
    for key in values:
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else f"; known are {', '.join(known)}"
            raise UserError(f"{name} has no option {key!r}{hint}")
    return values


def build(cls: Callable[..., T], given: Mapping[str, Any], **overrides: Any) -> T:
    """-> `cls(**given)`, after a check of the keys; `overrides` win."""
    known = inspect.signature(cls).parameters
    return cls(**accept({**given, **overrides}, known, cls.__name__))


def load_json(path: Path) -> dict[str, Any]:
    """Read a configuration.

    Raises:
        UserError: the file is missing, is not JSON or holds no object.
    """
    try:
        values = json.loads(path.read_text())
    except FileNotFoundError:
        raise UserError(f"{path} is missing") from None
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read as JSON: {error}") from None
    if not isinstance(values, dict):
        raise UserError(f"{path} holds a {type(values).__name__}; expected a JSON object")
    return values


def save_json(path: Path, values: Any) -> None:
    """Write JSON so that the file is either the old one or wholly the new one."""
    text = json.dumps(values, indent=2)
    write_atomically(path, lambda temporary: temporary.write_text(text + "\n"))


def _as_tuple(value: Any) -> Any:
    if isinstance(value, list):
        return tuple(_as_tuple(v) for v in value)
    return value
