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


def pytest_addoption(parser):
    parser.addoption(
        "--whole",
        action="store_true",
        help="tests/faults: as many kills and inputs as docs/reliability.md tells of",
    )


@pytest.fixture(scope="session")
def amount(request):
    """Return a function that chooses how much is tried: `amount(short=..., whole=...)`."""
    which = "whole" if request.config.getoption("whole") else "short"
    return lambda **amounts: amounts[which]


@pytest.fixture(scope="session")
def _cached_graphs(tmp_path_factory):
    """-> the folder for graphs of this session: never the user's own."""
    return tmp_path_factory.mktemp("cached graphs")


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch, _cached_graphs):
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("UNISAL_CACHE_DIR", str(_cached_graphs))


@pytest.fixture
def small_disk(tmp_path, request):
    """Return the folder of a small disk; the test is skipped where none can be mounted.

    It has 2 MB, or as many as the fixture's parameter says.
    """
    folder = tmp_path / "small disk"
    folder.mkdir()
    size = f"size={getattr(request, 'param', 2)}m"
    mount = ["mount", "-t", "tmpfs", "-o", size, "tmpfs", folder]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("no disk can be mounted")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)
