"""Damaged files among sound ones, given to the commands: the sound ones are done all the same."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest
from faults.fuzzing import MEMORY_MB
from faults.jobs import RUN, environment
from faults.samples import damaged_file
from faults.zygote import Result, Zygote
from support import write_mat, write_photo, write_run, write_salicon
from videos import numbered, write_clip

PER_CALL = 10
FIRST = 100_000
"""The number of the first damaged file: other ones than in `test_fuzz`."""

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="needs Linux's way to watch a process"),
]


def run(zygote: Zygote, sandbox: Path, *arguments: str, allowed: tuple[Path, ...]) -> Result:
    """Run a command; check how it ends and what it touched."""
    folders = {str(path) for path in (sandbox, *sandbox.rglob("*")) if path.is_dir()}
    result = zygote.command(
        *arguments, sandbox=sandbox, env=environment(sandbox), memory_mb=MEMORY_MB
    )
    assert result.code in (0, 1, 2), result
    assert "Traceback" not in result.stderr, result.stderr
    if result.code:
        assert result.stderr.splitlines()[-1].startswith("run.py: ")
    places = tuple(map(str, (*allowed, sandbox / "own")))
    assert [p for p in result.touched - folders if not p.startswith(places)] == []
    return result


def add_damaged(kind: str, call: int, samples: Path, folder: Path) -> dict[Path, bytes]:
    """Write damaged files of a kind into a folder; return what they hold."""
    numbers = range(FIRST + call * PER_CALL, FIRST + (call + 1) * PER_CALL)
    paths = [damaged_file(kind, number, samples, folder) for number in numbers]
    return {path: path.read_bytes() for path in paths}


def unchanged(inputs: dict[Path, bytes]) -> bool:
    return all(path.read_bytes() == content for path, content in inputs.items())


def test_pictures(zygote, samples, tmp_path, amount):
    for call in range(amount(short=1, whole=14)):
        sandbox = tmp_path / str(call)
        images = sandbox / "pictures/images"
        write_run(sandbox / "runs" / RUN)
        write_photo(images / "sound.png")
        inputs = add_damaged("picture", call, samples, images)
        run(
            zygote,
            sandbox,
            "predictions_from_folder",
            str(sandbox / "pictures"),
            f"--train_id={RUN}",
            "--device=cpu",
            allowed=(sandbox / "pictures/saliency",),
        )
        assert (sandbox / "pictures/saliency/sound.png").is_file()
        assert unchanged(inputs)
        shutil.rmtree(sandbox)


def test_films(zygote, samples, tmp_path, amount):
    for call in range(amount(short=1, whole=8)):
        sandbox = tmp_path / str(call)
        films, out = sandbox / "films", sandbox / "out"
        write_run(sandbox / "runs" / RUN)
        write_clip(films / "sound.mkv", numbered(4))
        inputs = add_damaged("film", call, samples, films)
        run(
            zygote,
            sandbox,
            "predict_video",
            str(films),
            f"--out_dir={out}",
            f"--train_id={RUN}",
            "--maps=npz",
            "--device=cpu",
            allowed=(out,),
        )
        assert {"sound_overlay.mp4", "sound_densities.npz"} <= {p.name for p in out.iterdir()}
        assert unchanged(inputs)
        shutil.rmtree(sandbox)


@pytest.mark.parametrize("command", ["check_data", "score_model"])
def test_data_sets(command, zygote, samples, tmp_path, amount):
    options = {"check_data": [], "score_model": [f"--train_id={RUN}", "--device=cpu"]}[command]
    source = {"check_data": "--source=SALICON", "score_model": "--sources=SALICON"}[command]
    for call in range(amount(short=1, whole=4)):
        sandbox = tmp_path / str(call)
        root = sandbox / "data/SALICON"
        write_run(sandbox / "runs" / RUN)
        write_salicon(root, "val", 12, (24, 32), fixations="mat")
        write_mat(root / "fixations/val/sound.mat", [(1, 1)], (24, 32))
        targets = sorted((root / "fixations/val").glob("COCO*.mat"))[:PER_CALL]
        damaged = add_damaged("mat", call, samples, root)
        for path, target in zip(damaged, targets, strict=True):
            path.replace(target)
        allowed = (root / "fixations", sandbox / "runs")
        result = run(zygote, sandbox, command, source, *options, allowed=allowed)
        assert result.code, "most of these cannot be read"
        shutil.rmtree(sandbox)
