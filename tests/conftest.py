"""Every test sees a clean environment: no data folders, runs or weights of the user's."""

from __future__ import annotations

import os
import shutil
import subprocess

import pytest

if "PYTEST_XDIST_WORKER" in os.environ:
    # Tests run on all cores at once, so each of them, and each program it starts, gets one.
    os.environ.setdefault("OMP_NUM_THREADS", "1")

VARIABLES = (
    "DHF1K_DATA_DIR",
    "HOLLYWOOD_DATA_DIR",
    "UCFSPORTS_DATA_DIR",
    "SALICON_DATA_DIR",
    "MIT1003_DATA_DIR",
    "MIT300_DATA_DIR",
    "TRAIN_DIR",
    "PRED_DIR",
    "UNISAL_ENCODER_WEIGHTS",
)


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch):
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def small_disk(tmp_path):
    """Return the folder of a disk of 2 MB; the test is skipped where none can be mounted."""
    folder = tmp_path / "small disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", folder]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("no disk can be mounted")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)
