"""Structures whose fields hold what nobody expects, drawn by hypothesis.

What is changed is sound as a file: JSON, `.mat` and `.pth` files that can be parsed. As in
`faults.fuzzing`, a reader may refuse with a `UserError` and nothing else.
"""

from __future__ import annotations

import json
import logging
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import scipy.io
import torch
from faults.fuzzing import SECONDS_PER_INPUT
from hypothesis import HealthCheck, Phase, Verbosity, given, settings
from hypothesis import strategies as st
from hypothesis.configuration import set_hypothesis_home_dir

from unisal.data import DHF1KDataset, MIT1003Dataset, SALICONDataset
from unisal.data.salicon import read_mat_fixations
from unisal.data.video_index import read_index
from unisal.errors import UserError
from unisal.predict.loading import load_model
from unisal.train import Trainer
from unisal.train.finetune import FineTuner

RUN = "mine"

ODD_NUMBERS = st.sampled_from([0, -1, 1, 2, 3, 255, 10**4, 2**31, 2**63, 10**12, 0.5, -0.0, 1e30])
ODD_FLOATS = st.sampled_from([float("nan"), float("inf"), float("-inf")])
ODD = st.recursive(
    st.none() | st.booleans() | ODD_NUMBERS | ODD_FLOATS | st.text(max_size=6),
    lambda inside: (
        st.lists(inside, max_size=3) | st.dictionaries(st.text(max_size=6), inside, max_size=3)
    ),
    max_leaves=4,
)


@st.composite
def changed(draw: st.DrawFn, value: Any, odd: st.SearchStrategy[Any] = ODD) -> Any:
    """Draw a structure like `value` of which one to three parts are missing, new or other."""
    for _ in range(draw(st.integers(1, 3))):
        value = _changed_once(draw, value, odd)
    return value


def _changed_once(draw: st.DrawFn, value: Any, odd: st.SearchStrategy[Any]) -> Any:
    if not isinstance(value, dict | list) or not value or draw(st.integers(0, 9)) == 0:
        return draw(odd)
    items = dict(value) if isinstance(value, dict) else dict(enumerate(value))
    key = draw(st.sampled_from(list(items)))
    what = draw(st.sampled_from(["other", "other", "other", "inside", "inside", "gone", "new"]))
    if what == "gone":
        del items[key]
    elif what == "new":
        items[draw(st.text(max_size=6))] = draw(odd)
    else:
        items[key] = draw(odd) if what == "other" else _changed_once(draw, items[key], odd)
    return items if isinstance(value, dict) else list(items.values())


# ---- JSON -----------------------------------------------------------------------------------
def json_file(path: Path, read: Callable[[], object]) -> st.SearchStrategy[Callable[[], None]]:
    """Draw changes of a JSON file; each is a function that makes the change and reads."""

    def reads(value: Any) -> Callable[[], None]:
        def call() -> None:
            path.write_text(json.dumps(value))
            read()

        return call

    return changed(json.loads(path.read_text())).map(reads)


def read_folds(run: Path) -> None:
    """Read what a run says about MIT1003: the fold of its fine-tuning."""
    MIT1003Dataset.as_in_run(run, phase="eval", n_x_val=3)
    FineTuner(pretrained_train_id=RUN, device="cpu", num_workers=0, mit1003_cfg={"n_x_val": 3})


def resume() -> None:
    """Continue a run whose checkpoint or options may be odd, if only an epoch is left."""
    trainer = Trainer.resume(RUN, num_workers=0)
    if trainer.epoch + 1 >= trainer.cfg.num_epochs:
        trainer.fit()


# ---- tensors and matrices -------------------------------------------------------------------
ODD_TENSORS = st.builds(
    lambda shape, dtype: torch.zeros(shape, dtype=dtype),
    st.lists(st.integers(0, 3), max_size=4),
    st.sampled_from([torch.float32, torch.float64, torch.int64, torch.bool, torch.complex64]),
)


def torch_file(path: Path, read: Callable[[], object]) -> st.SearchStrategy[Callable[[], None]]:
    """Draw changes of what a `.pth` file holds."""

    def reads(value: Any) -> Callable[[], None]:
        def call() -> None:
            torch.save(value, path)
            read()

        return call

    content = torch.load(path, weights_only=True)
    return changed(_plain(content), ODD | ODD_TENSORS).map(reads)


def _plain(value: Any) -> Any:
    """Turn ordered dictionaries and tuples into plain ones."""
    if isinstance(value, dict):
        return {key: _plain(inside) for key, inside in value.items()}
    return [_plain(inside) for inside in value] if isinstance(value, list | tuple) else value


ODD_ARRAYS = st.builds(
    lambda shape, dtype, fill: np.full(shape, fill).astype(dtype),
    st.lists(st.integers(0, 3), min_size=1, max_size=3),
    st.sampled_from(["u1", "i4", "f8", "c16", "U3"]),
    st.sampled_from([0, 1, 2, 7, 200, 10**6]),
)
SIZES = st.lists(st.sampled_from([-1, 0, 1, 24, 32, 10**5, 2**31, 2**40]), max_size=3)


@st.composite
def mat_file(draw: st.DrawFn, path: Path) -> Callable[[], None]:
    """Draw a `.mat` file that is like those of SALICON, or nearly."""
    observers = draw(st.integers(0, 3))
    names = draw(st.sampled_from([("location", "timestamp", "fixations"), ("a",), ("a", "b")]))
    gaze: Any = np.zeros((observers, 1), [(name, object) for name in names])
    for i in range(observers):
        gaze[i, 0] = tuple(draw(ODD_ARRAYS | ODD_NUMBERS.map(np.array)) for _ in names)
    resolution = draw(SIZES.map(np.array) | ODD_ARRAYS)
    content = {"gaze": draw(st.just(gaze) | ODD_ARRAYS), "resolution": resolution}
    for name in draw(st.sets(st.sampled_from(["gaze", "resolution"]), max_size=1)):
        del content[name]

    def call() -> None:
        scipy.io.savemat(path, content)
        read_mat_fixations(path)

    return call


# ---- all of them ----------------------------------------------------------------------------
def structure(kind: str) -> st.SearchStrategy[Callable[[], None]]:
    """Return the strategy for a kind, in the sandbox that the environment names."""
    run = Path(os.environ["TRAIN_DIR"]) / RUN
    dhf1k = Path(os.environ["DHF1K_DATA_DIR"]) / "annotation"
    index = dhf1k / ".unisal_index.json"
    if kind == "index":
        read_index(dhf1k, lambda _: "")
    kinds: dict[str, Callable[[], st.SearchStrategy[Callable[[], None]]]] = {
        "network": lambda: json_file(run / "UNISAL.json", lambda: load_model(RUN)),
        "images": lambda: json_file(
            run / "SALICONDataset.json", lambda: SALICONDataset.as_in_run(run, phase="eval")
        ),
        "videos": lambda: json_file(
            run / "DHF1KDataset.json", lambda: DHF1KDataset.as_in_run(run, phase="eval")
        ),
        "training": lambda: json_file(run / "Trainer.json", resume),
        "fine-tuning": lambda: json_file(run / "ft_mit1003.json", lambda: read_folds(run)),
        "index": lambda: json_file(index, lambda: read_first_frames(dhf1k)),
        "weights": lambda: torch_file(run / "weights_best.pth", lambda: load_model(RUN)),
        "checkpoint": lambda: torch_file(run / "chkpnt_latest.pth", resume),
        "mat": lambda: mat_file(run / "gaze.mat"),
    }
    return kinds[kind]()


def read_first_frames(folder: Path) -> None:
    """Read a folder of videos, and make the data set that takes the files from the index."""
    videos = read_index(folder, lambda _: "")
    assert [v.name for v in videos] == ["0001", "0601"]
    assert [v.n_frames for v in videos] == [3, 3]
    dataset = DHF1KDataset(phase="eval", seq_len=2, frame_modulo=1)
    dataset.lengths()


def read_structures(kind: str, n: int) -> None:
    """Read `n` structures of a kind, and print how many of them were refused."""
    logging.disable(logging.WARNING)
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    set_hypothesis_home_dir(Path(os.environ["TRAIN_DIR"], "hypothesis"))
    counts = {"tried": 0, "refused": 0}

    @settings(
        max_examples=n,
        derandomize=True,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        report_multiple_bugs=False,
        verbosity=Verbosity.quiet,  # what was read is in the sandbox
        suppress_health_check=list(HealthCheck),
    )
    @given(structure(kind))
    def reads_or_refuses(read: Callable[[], None]) -> None:
        counts["tried"] += 1
        signal.alarm(SECONDS_PER_INPUT)
        try:
            read()
        except UserError:
            counts["refused"] += 1
        finally:
            signal.alarm(0)

    reads_or_refuses()
    print(json.dumps(counts))
