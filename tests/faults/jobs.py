"""The commands that write for long, each as a small job whose end is known."""

from __future__ import annotations

import hashlib
import io
import re
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from faults.zygote import Result, Zygote
from support import (
    TINY,
    write_dhf1k,
    write_mit1003,
    write_photo,
    write_run,
    write_salicon,
)
from videos import numbered, write_clip

from unisal.config import save_json
from unisal.files import natural_order

SIZE = (48, 64)
RUN, TRAINED = "mine", "new_unisal"
SMALL = {"out_size": [64, 96]}
FOLDERS = {
    "TRAIN_DIR": "runs",
    "PRED_DIR": "predictions",
    "DHF1K_DATA_DIR": "data/DHF1K",
    "SALICON_DATA_DIR": "data/SALICON",
    "MIT1003_DATA_DIR": "data/MIT1003",
    "MIT300_DATA_DIR": "data/MIT300",
}
"""Environment variables, with the folders in the sandbox."""
OWN = "own"
"""The folder of the sandbox that belongs to no job: working directory, home, temporary files."""


@dataclass(frozen=True)
class Job:
    """A command, the files that it needs, and how it is started again."""

    name: str
    make: Callable[[Path], None]
    """Writes what it needs into an empty sandbox."""
    arguments: Callable[[Path], Sequence[str]]
    """The command line, given the sandbox as it is."""
    writes: str
    """The folder in the sandbox that fills up."""
    goes_back: tuple[str, ...] = ()
    """Endings of files that hold an earlier state for a while when it is started again."""

    def run(self, zygote: Zygote, sandbox: Path, **options: Any) -> Result:
        """Run the command in a sandbox; see `Zygote.call`."""
        env = environment(sandbox)
        return zygote.command(*self.arguments(sandbox), sandbox=sandbox, env=env, **options)


def environment(sandbox: Path) -> dict[str, str]:
    """Return the variables that name the folders of a sandbox."""
    return {name: str(sandbox / folder) for name, folder in FOLDERS.items()}


def _make_training_data(sandbox: Path) -> None:
    for part, n in (("train", 6), ("val", 2)):
        write_salicon(sandbox / "data/SALICON", part, n, SIZE, fixations="mat")
    write_dhf1k(sandbox / "data/DHF1K", {1: 12, 2: 12, 601: 12}, size=SIZE)
    (sandbox / "runs").mkdir()


def _train(sandbox: Path) -> list[str]:
    if (sandbox / "runs" / TRAINED / "Trainer.json").exists():
        return ["train", f"--resume={TRAINED}", "--eval_sources=SALICON"]
    return [
        "train",
        "--prefix=new",
        "--data_sources=SALICON,DHF1K",
        "--num_epochs=3",
        "--salicon_batch_size=2",
        "--batch_size=1",
        f"--data_cfg={ {'seq_len': 2, **SMALL} }",
        f"--salicon_cfg={SMALL}",
        f"--model_cfg={TINY}",
        "--ema_decay=0.9",
        "--chkpnt_warmup=1",
        "--num_workers=1",
        "--device=cpu",
        "--tboard=False",
        "--eval_sources=SALICON",
    ]


def _make_fine_tuning_data(sandbox: Path) -> None:
    write_mit1003(sandbox / "data/MIT1003", [SIZE] * 6 + [SIZE[::-1]] * 3)
    for i in (1, 2):
        write_photo(sandbox / f"data/MIT300/BenchmarkIMAGES/i{i}.jpg", SIZE, seed=i)
    write_run(sandbox / "runs" / RUN)


FINE_TUNE = [
    "train_finetune_mit",
    f"--pretrained_train_id={RUN}",
    "--num_epochs=3",
    "--lr=0.0001",
    "--train_cnn_after=1",
    "--mit1003_cfg={'n_x_val': 3}",
    "--mit1003_batch_size=2",
    "--mit1003_valid_batch_size=2",
    "--num_workers=0",
    "--device=cpu",
    "--tboard=False",
    "--eval_sources=FINAL_TEST_MIT1003,MIT300",
]


def _make_scored_data(sandbox: Path) -> None:
    write_salicon(sandbox / "data/SALICON", "val", 3, SIZE, fixations="mat")
    write_salicon(sandbox / "data/SALICON", "train", 3, SIZE, fixations="mat")
    write_dhf1k(sandbox / "data/DHF1K", {1: 5, 601: 6, 602: 5}, size=SIZE)
    write_run(sandbox / "runs" / RUN)
    _use_small_input(sandbox)


def _make_predicted_data(sandbox: Path) -> None:
    write_salicon(sandbox / "data/SALICON", "test", 4, SIZE)
    write_dhf1k(sandbox / "data/DHF1K", {701: 7, 702: 5, 703: 6}, size=SIZE, with_maps=False)
    for i in (1, 2, 3):
        write_photo(sandbox / f"data/MIT300/BenchmarkIMAGES/i{i}.jpg", SIZE, seed=i)
    write_run(sandbox / "runs" / RUN)
    _use_small_input(sandbox)
    (sandbox / "predictions").mkdir()


def _use_small_input(sandbox: Path) -> None:
    for source, options in (("SALICON", SMALL), ("DHF1K", {**SMALL, "seq_len": 1})):
        save_json(sandbox / "runs" / RUN / f"{source}Dataset.json", options)


def _make_pictures(sandbox: Path) -> None:
    for i in range(1, 11):
        suffix = ("png", "jpg")[i % 2]
        write_photo(sandbox / f"pictures/images/{i}.{suffix}", (60, 80), seed=i)
    write_run(sandbox / "runs" / RUN)


def _make_films(sandbox: Path) -> None:
    for i in range(1, 4):
        write_clip(sandbox / f"films/{i}.mkv", numbered(8), sound="aac" if i == 2 else None)
    write_run(sandbox / "runs" / RUN)


JOBS = {
    job.name: job
    for job in (
        Job("train", _make_training_data, _train, f"runs/{TRAINED}"),
        Job(
            "train_finetune_mit",
            _make_fine_tuning_data,
            lambda _: FINE_TUNE,
            "runs",
            goes_back=(".pth", ".json", ".npy", ".jpg"),
        ),
        Job(
            "score_model",
            _make_scored_data,
            lambda _: [
                "score_model",
                f"--train_id={RUN}",
                "--sources=SALICON,DHF1K",
                "--baselines=True",
                "--report=True",
                "--device=cpu",
            ],
            "runs",
        ),
        Job(
            "generate_predictions",
            _make_predicted_data,
            lambda _: [
                "generate_predictions",
                f"--train_id={RUN}",
                "--sources=SALICON,DHF1K,MIT300",
                "--device=cpu",
            ],
            "predictions",
        ),
        Job(
            "predictions_from_folder",
            _make_pictures,
            lambda sandbox: [
                "predictions_from_folder",
                str(sandbox / "pictures"),
                f"--train_id={RUN}",
                "--overlay=True",
                "--device=cpu",
            ],
            "pictures",
        ),
        Job(
            "predict_video",
            _make_films,
            lambda sandbox: [
                "predict_video",
                str(sandbox / "films"),
                f"--train_id={RUN}",
                f"--out_dir={sandbox / 'out'}",
                "--maps=True",
                "--features=encoder_32",
                "--device=cpu",
            ],
            "out",
        ),
    )
}


# ---- files by what they hold ---------------------------------------------------------------
Tree = dict[str, str]
"""Digests of the files of a folder, by their paths in it."""


def tree(folder: Path) -> Tree:
    """Read all files of a sandbox; one that is not whole cannot be read."""
    paths = sorted(p for p in folder.rglob("*") if p.is_file() and not p.is_symlink())
    names = {p.relative_to(folder).as_posix(): p for p in paths}
    return {name: digest(p) for name, p in names.items() if not name.startswith(f"{OWN}/")}


def digest(path: Path) -> str:
    """Return a digest of what a file holds.

    Of the kinds of file that hold the time of writing, or a name, it is that of the values.
    """
    content = path.read_bytes()
    hashed = hashlib.sha256()
    if path.name.startswith("."):  # a temporary file may be of any length
        hashed.update(content)
    elif path.suffix == ".pth":
        for value in _flat(torch.load(io.BytesIO(content), weights_only=True)):
            hashed.update(value)
    elif path.suffix == ".npz":
        with np.load(io.BytesIO(content)) as arrays:
            for name in arrays:
                hashed.update(name.encode() + arrays[name].tobytes())
    elif path.suffix == ".html":
        hashed.update(re.sub(rb"\d{4}-\d\d-\d\d[ T]\d\d:\d\d(:\d\d)?", b"", content))
    else:
        hashed.update(content)
    return hashed.hexdigest()[:16]


def _flat(value: Any) -> list[bytes]:
    """Return the bytes of all that a checkpoint holds."""
    if isinstance(value, Mapping):
        value = [part for item in value.items() for part in item]
    if isinstance(value, list | tuple):
        return [part for item in value for part in _flat(item)]
    if isinstance(value, torch.Tensor):
        return [str(value.dtype).encode(), value.numpy().tobytes()]
    return [repr(value).encode()]


# ---- what a job does when nothing disturbs it ----------------------------------------------
@dataclass(frozen=True)
class Recording:
    """A run that nothing disturbed, from a sandbox that can be copied for others."""

    job: Job
    start: Path
    """The sandbox before it."""
    result: Result
    versions: Mapping[str, Sequence[str]]
    """Digests of what each file held, one after the other, with that of the start."""
    end: Tree

    def copy(self, to: Path) -> Path:
        """Make another sandbox like the one at the start."""
        return Path(shutil.copytree(self.start, to))


def record(job: Job, zygote: Zygote, folder: Path) -> Recording:
    """Make the sandbox of a job, run it once in a copy and keep what it wrote."""
    start, sandbox, kept = folder / "start", folder / "undisturbed", folder / "kept"
    start.mkdir(parents=True)
    job.make(start)
    versions: dict[str, list[str]] = {name: [found] for name, found in tree(start).items()}
    shutil.copytree(start, sandbox)
    result = job.run(zygote, sandbox, record=kept)
    assert result.code == 0, result
    end = tree(sandbox)
    for moved in sorted(kept.iterdir(), key=natural_order):
        inside = moved / str(sandbox)[1:]
        for name, found in tree(inside).items():
            versions.setdefault(name, []).append(found)
    shutil.rmtree(kept)
    for name, found in end.items():
        assert versions.get(name, [""])[-1] == found, f"{name} was not moved to its name whole"
    return Recording(job, start, result, versions, end)
