"""Importing any module has no other effect, and nothing loads torch before it is needed."""

from __future__ import annotations

import json
import os
import pkgutil

import pytest
from support import PROJECT, run_python

import unisal

MODULES = ["unisal", *(m.name for m in pkgutil.walk_packages(unisal.__path__, "unisal."))]

# Runs in a process of its own: imports each module as if it were the first one of the package.
WATCH = """
import contextlib, importlib, io, json, logging, os, random, sys, threading
from pathlib import Path
import cv2, numpy, torch

result, home, names = Path(sys.argv[1]), Path.home(), json.loads(sys.argv[2])

def state():
    return {
        "environment": dict(os.environ),
        "files": sorted(str(p) for folder in (home, Path.cwd()) for p in folder.rglob("*")),
        "torch threads": (torch.get_num_threads(), torch.get_num_interop_threads()),
        "cv2 threads": cv2.getNumThreads(),
        "running threads": threading.active_count(),
        "random numbers": (str(random.getstate()), str(numpy.random.get_state(legacy=False)),
                           torch.random.get_rng_state().tolist()),
        "torch settings": (torch.is_grad_enabled(), str(torch.get_default_dtype()),
                           torch.backends.cudnn.benchmark),
        "logging": (len(logging.root.handlers), logging.root.level),
    }

changed = {}
for name in names:
    for loaded in [m for m in sys.modules if m.partition(".")[0] == "unisal"]:
        del sys.modules[loaded]
    before, said = state(), io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        importlib.import_module(name)
    after = state()
    changed[name] = [key for key in before if before[key] != after[key]]
    changed[name] += ["output"] * bool(said.getvalue())
result.write_text(json.dumps(changed))
"""

NOISY = """
import logging, os, random, threading, cv2, numpy, torch
print("hello")
os.environ["NOISY"] = "1"
open("written", "w").close()
torch.set_num_threads(torch.get_num_threads() + 1)
cv2.setNumThreads(cv2.getNumThreads() + 1)
numpy.random.seed(1)
logging.basicConfig()
"""


def test_no_import_has_a_side_effect(tmp_path):
    for folder in ("home", "here", "path"):
        (tmp_path / folder).mkdir()
    # A module that does everything that is watched for shows that the watching works.
    (tmp_path / "path" / "noisy.py").write_text(NOISY)
    search = os.pathsep.join([str(tmp_path / "path"), str(PROJECT)])
    done = run_python(
        "-c",
        WATCH,
        str(tmp_path / "result.json"),
        json.dumps([*MODULES, "run", "hubconf", "noisy"]),
        cwd=tmp_path / "here",
        env={
            "HOME": str(tmp_path / "home"),
            "TMPDIR": str(tmp_path / "here"),
            "PYTHONPATH": search,
        },
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    changed = json.loads((tmp_path / "result.json").read_text())
    assert set(changed.pop("noisy")) == {
        "environment",
        "files",
        "torch threads",
        "cv2 threads",
        "random numbers",
        "logging",
        "output",
    }
    assert changed == {name: [] for name in [*MODULES, "run", "hubconf"]}


def test_the_walk_finds_the_modules():
    assert {
        "unisal",
        "unisal.commands.cli",
        "unisal.inference.engine",
        "unisal.model.unisal",
    } <= set(MODULES)


@pytest.mark.parametrize(
    "arguments",
    [
        ["-c", "import unisal, unisal.commands.cli, unisal.config, unisal.train.config"],
        [str(PROJECT / "run.py")],
        [str(PROJECT / "run.py"), "--help"],
        [str(PROJECT / "run.py"), "train", "--help"],
        [str(PROJECT / "run.py"), "score_model", "--bogus=1"],
        [str(PROJECT / "run.py"), "no_such_command"],
        ["-m", "unisal", "train", "--help"],
    ],
    ids=lambda arguments: " ".join(a.rpartition(os.sep)[2] for a in arguments),
)
def test_torch_is_not_loaded_before_it_is_needed(arguments, tmp_path):
    # -X importtime lists every module that is imported on stderr.
    env = {"PYTHONPATH": str(PROJECT)}
    done = run_python("-X", "importtime", *arguments, cwd=tmp_path, env=env)
    imported = {
        line.rpartition("|")[2].strip().partition(".")[0]
        for line in done.stderr.splitlines()
        if line.startswith("import time:")
    }
    assert "unisal" in imported
    assert not imported & {"torch", "torchvision", "cv2", "scipy", "numpy", "PIL"}


def test_public_names_can_be_had_from_the_package():
    for name in unisal.__all__:
        assert getattr(unisal, name) is not None
    with pytest.raises(AttributeError, match="nonsense"):
        _ = unisal.nonsense
