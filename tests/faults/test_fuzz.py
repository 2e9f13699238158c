"""Damaged files of every kind: each is read or refused with a sentence, in time, in bounds."""

from __future__ import annotations

import json
import shutil
import signal
import sys
from pathlib import Path

import pytest
from faults.fuzzing import MEMORY_MB
from faults.jobs import environment
from faults.samples import damaged_file
from faults.zygote import Result

BATCH = 250
MAX_FAILURES = 10
CASES = Path(__file__).parent / "cases"
AMOUNTS = {
    "picture": (120, 4600),
    "film": (40, 1800),
    "mat": (40, 800),
    "weights": (20, 600),
    "table": (40, 600),
    "pysaliency": (40, 400),
}
"""How many are tried by kind: in the short version, in the whole one."""

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="needs Linux's way to watch a process"),
]


@pytest.mark.parametrize("kind", AMOUNTS)
def test_a_damaged_file_is_read_or_refused(kind, zygote, samples, tmp_path, amount):
    short, whole = AMOUNTS[kind]
    left, number = amount(short=short, whole=whole), 0
    tried = refused = 0
    failures = []
    while left and len(failures) < MAX_FAILURES:
        result, progress = read_batch(zygote, kind, number, min(left, BATCH), samples, tmp_path)
        if result.code == 0:
            n, refused = progress["tried"], refused + progress["refused"]
        else:
            n = progress - number + 1
            failures.append(describe(result, kind, progress, samples, tmp_path / "failures"))
        number, left, tried = number + n, left - n, tried + n
    print(f"{kind}: {tried} tried, {refused} refused")
    assert not failures, "\n".join(failures)
    assert 0 < refused < tried  # some damage does not matter


def read_batch(zygote, kind, number, n, samples, tmp_path):
    """Have a worker read some inputs -> its end, and what it last wrote of its progress."""
    sandbox, progress = tmp_path / "sandbox", tmp_path / "progress"
    shutil.rmtree(sandbox, ignore_errors=True)
    inputs = sandbox / "inputs"
    inputs.mkdir(parents=True)
    arguments = [kind, number, n, str(samples), str(inputs), str(progress)]
    result = zygote.call(
        "faults.fuzzing:read_damaged",
        *arguments,
        sandbox=sandbox,
        limit=3600,
        memory_mb=MEMORY_MB,
    )
    if result.code == 0:
        assert files_below(sandbox) == []
        strays = [p for p in result.touched if not p.startswith(str(inputs))]
        assert set(strays) <= {str(progress)}
    return result, json.loads(progress.read_text())


def describe(result: Result, kind: str, number: int, samples: Path, folder: Path) -> str:
    """Keep the input that made a worker fail, and say how it ended."""
    folder.mkdir(exist_ok=True)
    path = damaged_file(kind, number, samples, folder)
    how = signal.Signals(-result.code).name if result.code < 0 else result.stderr.strip()[-1500:]
    return f"{path}: {how}"


def files_below(folder: Path) -> list[Path]:
    return [p for p in folder.rglob("*") if not p.is_dir()]


# ---- structures ----------------------------------------------------------------------------
STRUCTURES = {
    "network": (15, 250),
    "images": (15, 200),
    "videos": (15, 200),
    "training": (15, 250),
    "fine-tuning": (15, 200),
    "index": (15, 250),
    "weights": (15, 200),
    "checkpoint": (15, 250),
    "mat": (30, 400),
}
"""How many are tried by kind: in the short version, in the whole one."""


@pytest.fixture(scope="module")
def trained(zygote, tmp_path_factory):
    """A sandbox with small data and a run."""
    sandbox = tmp_path_factory.mktemp("trained")
    write = "faults.samples:write_trained_run"
    result = zygote.call(write, str(sandbox), sandbox=sandbox, env=environment(sandbox))
    assert result.code == 0, result
    return sandbox


@pytest.mark.parametrize("kind", STRUCTURES)
def test_an_odd_structure_is_read_or_refused(kind, zygote, trained, tmp_path, amount):
    short, whole = STRUCTURES[kind]
    n = amount(short=short, whole=whole)
    sandbox = Path(shutil.copytree(trained, tmp_path / "sandbox"))
    result = zygote.call(
        "faults.structures:read_structures",
        kind,
        n,
        sandbox=sandbox,
        env=environment(sandbox),
        limit=3600,
        memory_mb=MEMORY_MB,
    )
    assert result.code == 0, result.stderr[-4000:]
    counts = json.loads(result.stdout)
    print(f"structure {kind}: {counts}")
    assert counts["tried"] >= n * 0.9
    allowed = str(sandbox / "runs"), str(sandbox / "data")
    assert [path for path in result.touched if not path.startswith(allowed)] == []


# ---- what made trouble once ----------------------------------------------------------------
@pytest.mark.parametrize(
    "path",
    sorted(CASES.glob("*/*")),
    ids=lambda path: f"{path.parent.name}-{path.name}",
)
def test_what_made_trouble_once_is_read_or_refused(path, zygote, tmp_path):
    result = zygote.call(
        "faults.fuzzing:read_case",
        path.parent.name,
        str(path),
        sandbox=tmp_path,
        memory_mb=MEMORY_MB,
    )
    assert result.code == 0, result
    assert result.stdout in ("refused\n", "read\n")
