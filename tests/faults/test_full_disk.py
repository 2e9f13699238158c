"""Commands on a disk that fills up on the way, and that go on when there is room again."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from faults.jobs import JOBS, Recording, record, tree
from faults.test_kill import check_files
from faults.zygote import Zygote

BLOCK = 4096
PLACES = {
    "train": "runs",
    "train_finetune_mit": "runs",
    "score_model": "runs",
    "generate_predictions": "predictions",
    "predictions_from_folder": "pictures",
    "predict_video": "out",
}
"""The folder of each command's sandbox that lies on a small disk."""
OF_MANY = ("generate_predictions", "predictions_from_folder", "predict_video")
"""Commands that say how many of how many are done."""
ROOM = (0.35, 0.6, 0.85, 0.95)
"""How much of what a command writes has room; the second one in the short version."""
IN_SHORT = ("train", "predictions_from_folder", "predict_video")
"""The commands of the short version: those that write models, pictures and films."""

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="needs Linux's way to watch a process"),
]


@pytest.mark.parametrize("name", JOBS)
def test_a_disk_that_fills_up_loses_nothing(name, zygote, tmp_path, amount):
    if name not in amount(short=IN_SHORT, whole=JOBS):
        pytest.skip("only in the whole version")
    undisturbed = record(JOBS[name], zygote, tmp_path / "recorded")
    for share in amount(short=ROOM[1:2], whole=ROOM):
        fill_up(undisturbed, zygote, tmp_path / f"sandbox_{share}", share)


def fill_up(undisturbed: Recording, zygote: Zygote, sandbox: Path, share: float) -> None:
    """Let a command run out of room, check what it leaves, make room and let it finish."""
    undisturbed.copy(sandbox)
    place = sandbox / PLACES[undisturbed.job.name]
    start = place_size(undisturbed.start / place.name)
    end = place_size(undisturbed.start.parent / "undisturbed" / place.name)
    with small_disk(place, start + int(share * (end - start))) as disk:
        before = tree(sandbox)
        result = undisturbed.job.run(zygote, sandbox, file_kb=disk.file_kb)
        assert result.code in (1, 2), result
        assert_one_line(result.stderr)
        if undisturbed.job.name in OF_MANY and result.code == 1:
            assert re.search(r"\b\d+ of \d+ ", result.stderr), result.stderr
        after = tree(sandbox)
        check_files(undisturbed, before, after)
        strays = after.keys() - undisturbed.versions.keys()
        assert not strays, "temporary files are left"
        disk.make_room()
        result = undisturbed.job.run(zygote, sandbox)
        assert result.code == 0, result
        end_tree = tree(sandbox)
        check_files(undisturbed, after, end_tree)
        assert end_tree == undisturbed.end


def assert_one_line(stderr: str) -> None:
    """Check that the last line says what happened, and that there is no traceback."""
    assert "Traceback" not in stderr, stderr
    last = stderr.splitlines()[-1]
    assert last.startswith("run.py: "), stderr
    assert re.search("No space left|too large|no room", stderr), stderr


def place_size(folder: Path) -> int:
    """Return how much room the files below a folder take on a disk."""
    files = [p for p in folder.rglob("*") if p.is_file()] if folder.exists() else []
    return sum(-(-p.stat().st_size // BLOCK) * BLOCK for p in files)


class Disk:
    """A small disk, or where none can be made a limit on the size of files."""

    def __init__(self, folder: Path, n_bytes: int) -> None:
        self.folder = folder
        self.n_bytes = n_bytes
        self.file_kb: int | None = None
        self.is_mounted = False

    def mount(self) -> None:
        kept = self.folder.with_name("kept")
        if self.folder.exists():
            self.folder.rename(kept)
        self.folder.mkdir()
        done = mount("-t", "tmpfs", "-o", f"size={self.n_bytes}", "tmpfs", str(self.folder))
        self.is_mounted = done
        if not done:
            self.file_kb = 1
        if kept.exists():
            shutil.copytree(kept, self.folder, dirs_exist_ok=True)
            shutil.rmtree(kept)

    def make_room(self) -> None:
        if self.is_mounted:
            assert mount("-o", "remount,size=100m", str(self.folder))

    def unmount(self) -> None:
        if self.is_mounted:
            subprocess.run(["umount", str(self.folder)], check=True)


def mount(*arguments: str) -> bool:
    """Call `mount`; return whether it could."""
    try:
        return subprocess.run(["mount", *arguments], capture_output=True).returncode == 0
    except OSError:
        return False


@contextmanager
def small_disk(folder: Path, n_bytes: int) -> Iterator[Disk]:
    """Put a folder with what it holds onto a disk of its own, with so much room in all."""
    disk = Disk(folder, n_bytes)
    disk.mount()
    try:
        yield disk
    finally:
        disk.unmount()
