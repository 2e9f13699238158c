"""Configurations as keyword arguments and as JSON, and the folders that are read and written.

A configurable class (the network, the trainer, a data set) is configured by its keyword
arguments alone, keeps them in `config` and is saved as `<ClassName>.json` in the folder of the run.

In a checkout of the project the default folders lie beside `run.py`. Where the package is installed
by itself they lie in the working directory, and the weights that ship with the project are part of
the package: see `run_dir` for how they are found and `writable_run_dir` for what happens when a
command writes into their run.
"""

from __future__ import annotations

import difflib
import functools
import inspect
import json
import os
import shutil
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar

from unisal.errors import UserError, cause
from unisal.files import from_home, whole_folder, write_atomically

T = TypeVar("T")
P = ParamSpec("P")

PACKAGE_DIR = Path(__file__).resolve().parent
"""The folder of the package."""
PRETRAINED = "pretrained_unisal"
"""The run whose weights ship with the project: in a checkout a folder of `training_runs/`, in an
installed package a folder of the package."""

RUN_PRESETS = "presets.json"
"""The file in the folder of a run that holds the presets of its own, see
`unisal.predict.presets`."""


BEST = "weights_best.pth"
"""The file of a run's best weights."""
FINE_TUNED = ("ft_mit1003.pth", "weights_ft_mit1003.pth")
"""Names of the files of weights fine-tuned on MIT1003: ours, and the official one."""


GRAPH_SUFFIX = ".onnx"
"""The suffix of files with graphs, see `unisal.inference.graph_file`."""


def checkout_dir() -> Path | None:
    """Return the checkout that the package is a part of, None if it is installed by itself."""
    folder = PACKAGE_DIR.parent
    is_checkout = all((folder / name).is_file() for name in ("run.py", "pyproject.toml"))
    return folder if is_checkout else None


def base_dir() -> Path:
    """Return the folder of the default folders: the checkout, else the working directory."""
    return checkout_dir() or Path.cwd()


def train_dir() -> Path:
    """Return the folder of the runs: `$TRAIN_DIR`, else `training_runs/` in `base_dir`."""
    return _folder_in("TRAIN_DIR") or base_dir() / "training_runs"


def pred_dir() -> Path:
    """Return the folder for predictions: `$PRED_DIR`, else `predictions/` in `base_dir`."""
    return _folder_in("PRED_DIR") or base_dir() / "predictions"


def examples_dir() -> Path:
    """Return the folder of the example pictures and videos.

    Raises:
        UserError: the package is not part of a checkout.
    """
    folder = checkout_dir()
    if folder is None:
        raise UserError(
            "the example pictures come with a checkout of the project, not with the installed "
            "package; name a folder of your own with --examples_dir"
        )
    return folder / "examples"


def data_dir(variable: str, default: str) -> Path:
    """Return the root of a data set.

    Args:
        variable: the environment variable that names it.
        default: without the variable, the root is `data/<default>` in `base_dir`.
    """
    return _folder_in(variable) or base_dir() / "data" / default


def _folder_in(variable: str) -> Path | None:
    """Return the folder that an environment variable names, None if it names none."""
    named = os.environ.get(variable)
    return Path(from_home(named)) if named else None


def cache_dir() -> Path:
    """Return the folder for what can be made again: `$UNISAL_CACHE_DIR`, else the user's cache."""
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return _folder_in("UNISAL_CACHE_DIR") or home / "unisal"


def find_run(train_id: str | None) -> Path | None:
    """Return the folder of the run `train_id`, None if it does not exist; see `run_dir`."""
    name = _run_name(train_id)
    folder = train_dir() / name
    if folder.is_dir():
        return folder
    shipped = PACKAGE_DIR / name
    return shipped if name == PRETRAINED and shipped.is_dir() else None


def find_graph_file(train_id: str | None) -> Path | None:
    """Return the path if `train_id` is that of a graph's file instead of the name of a run.

    Args:
        train_id: what a user names; a path ends in `.onnx`. The file need not exist.
    """
    if train_id is None or not train_id.endswith(GRAPH_SUFFIX) or find_run(train_id) is not None:
        return None
    return Path(from_home(train_id))


def run_dir(train_id: str | None) -> Path:
    """Return the folder of a run.

    Runs are looked for in `train_dir`; the run that ships with the project also in the package.

    Args:
        train_id: the name of its folder; None or "" for the run that ships with the project.

    Raises:
        UserError: there is no such run; lists those that exist.
    """
    folder = find_run(train_id)
    if folder is not None:
        return folder
    root = train_dir()
    found = {f.name for f in root.iterdir() if f.is_dir()} if root.is_dir() else set()
    if find_run(PRETRAINED) is not None:
        found.add(PRETRAINED)
    known = f"there are: {', '.join(sorted(found))}" if found else "there is no run yet"
    raise UserError(f"no run {_run_name(train_id)!r} in {root}; {known}")


def find_weights(train_id: str | None, fine_tuned: bool = False) -> Path:
    """Return the weights file of a run.

    Args:
        train_id: the run, see `unisal.config.run_dir`.
        fine_tuned: whether to prefer the weights fine-tuned on MIT1003, if the run has them, to the
            best ones of its training.

    Raises:
        UserError: the run does not exist or has no weights.
    """
    folder = run_dir(train_id)
    stem = Path(BEST).stem
    names = [*(FINE_TUNED if fine_tuned else ()), BEST, f"{stem}.safetensors"]
    for name in names:
        if (folder / name).is_file():
            return folder / name
    raise UserError(f"{folder} has no weights; looked for {', '.join(names)}")


def writable_run_dir(train_id: str | None) -> Path:
    """Return the folder of a run to write to.

    The run that ships inside an installed package is never written to: it is first copied into
    `train_dir`, and from then on the copy is the run of that name. Removing the copy brings back
    the shipped one. All other runs are written to in place.

    Args:
        train_id: see `run_dir`.

    Raises:
        UserError: there is no such run, or it cannot be copied.
    """
    folder, copy = run_dir(train_id), run_dir_to_write(train_id)
    if copy == folder:
        return folder
    try:
        with whole_folder(copy) as temporary:
            for file in folder.iterdir():
                shutil.copyfile(file, temporary / file.name)
    except OSError as error:
        raise UserError(
            f"{folder} cannot be copied to {copy}, where its results are to go: {error}; name a "
            "folder that can be written in TRAIN_DIR"
        ) from None
    return copy


def run_dir_to_write(train_id: str | None) -> Path:
    """Return where `writable_run_dir` will be, without making it.

    Raises:
        UserError: there is no such run.
    """
    folder = run_dir(train_id)
    return train_dir() / folder.name if folder.parent == PACKAGE_DIR else folder


def run_name(folder: Path) -> str:
    """Return the `train_id` of a run's folder."""
    root = train_dir()
    return str(folder.relative_to(root)) if folder.is_relative_to(root) else folder.name


def _run_name(train_id: str | None) -> str:
    """Return the name of a run's folder: that of the shipped run if none is given."""
    return PRETRAINED if train_id is None or train_id == "" else from_home(str(train_id))


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
    """Check the keys of a configuration.

    Args:
        given: the configuration, None for an empty one.
        known: the keys that are allowed.
        name: the name of what is configured, for the message.
        ignored: keys that are allowed and dropped.

    Returns:
        `given` without its `ignored` keys, with lists turned into tuples, and NumPy's
        numbers into Python's.

    Raises:
        UserError: a key is neither known nor ignored; names the closest one that is known.
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
    """Return `cls(**given)` after checking the keys.

    Args:
        cls: a configurable class.
        given: its configuration.
        overrides: replace values of `given`.

    Raises:
        UserError: see `accept`; or nothing can be made of the values.
    """
    known = inspect.signature(cls).parameters
    accepted = accept({**given, **overrides}, known, cls.__name__)
    try:
        return cls(**accepted)
    except (UserError, OSError):
        raise
    except Exception as error:  # a value of an odd type or size fails anywhere, in many ways
        raise UserError(
            f"{cls.__name__} cannot be made with the options {accepted}: {cause(error)}"
        ) from error


def as_options(value: Any, name: str) -> dict[str, Any]:
    """Return an option that holds options itself; None stands for none.

    Raises:
        UserError: it is no dictionary; names it.
    """
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise UserError(f"{name} is {value!r}; it has to be a dictionary")
    return dict(value)


def load_json(path: Path) -> dict[str, Any]:
    """Read a configuration.

    Raises:
        UserError: the file is missing, is not JSON or does not hold an object.
    """
    try:
        values = json.loads(path.read_text(encoding="utf-8-sig"))  # with a byte order mark or not
    except FileNotFoundError:
        raise UserError(f"{path} is missing") from None
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path} cannot be read as JSON: {cause(error)}") from None
    if not isinstance(values, dict):
        raise UserError(f"{path} holds a {type(values).__name__}; expected a JSON object")
    return values


def to_json(values: Any, indent: int | None = None) -> str:
    """Return JSON, in which numbers and arrays of NumPy are like those of Python."""
    return json.dumps(values, indent=indent, default=_as_python)


def save_json(path: Path, values: Any) -> None:
    """Write a JSON file atomically: it holds either the old values or all of the new ones."""
    text = to_json(values, indent=2)
    write_atomically(path, lambda temporary: temporary.write_text(text + "\n"))


def _as_python(value: Any) -> Any:
    """Return a number or an array of NumPy as a number or a list."""
    if hasattr(value, "tolist"):
        return value.tolist()
    raise TypeError(f"{value!r} cannot be written as JSON")


def _as_tuple(value: Any) -> Any:
    """Turn lists, also nested ones, into tuples."""
    if hasattr(value, "tolist"):
        value = _as_python(value)
    if isinstance(value, list):
        return tuple(_as_tuple(v) for v in value)
    return value
