"""Style, layout and types, with the settings of pyproject.toml."""

from __future__ import annotations

import subprocess
import sys

import pytest
from support import PROJECT


@pytest.mark.slow
@pytest.mark.parametrize(
    "check", ["ruff check", "ruff format --check --diff", "mypy"], ids=lambda check: check
)
def test_there_is_nothing_to_complain_about(check):
    done = subprocess.run(
        [sys.executable, "-m", *check.split()],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
