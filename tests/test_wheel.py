"""The installed package, away from its checkout, with the weights that it brings along."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest
from support import PROJECT, write_photo, write_salicon

from unisal.commands.table import COMMANDS
from unisal.version import __version__

pytestmark = pytest.mark.slow

SHIPPED = PROJECT / "training_runs" / "pretrained_unisal"
BUILT_FROM = ("pyproject.toml", "setup.py", "MANIFEST.in", "LICENSE", "README.md", "run.py")
FOLDERS = ("unisal", "tests", "benchmarks", "training_runs/pretrained_unisal")
SDIST = "from setuptools import build_meta; print(build_meta.build_sdist('dist'))"


def run(*arguments, cwd, **env):
    """Run a program that knows nothing of the checkout; return what it did."""
    environment = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "TRAIN_DIR")}
    return subprocess.run(
        [str(a) for a in arguments],
        cwd=cwd,
        env={**environment, **env},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )


def checked(*arguments, cwd, **env):
    """Run a program that has to succeed; return what it printed."""
    done = run(*arguments, cwd=cwd, **env)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def sdist(tmp_path_factory):
    """Return the source distribution, built in a copy of the checkout."""
    copy = tmp_path_factory.mktemp("checkout")
    for name in BUILT_FROM:
        shutil.copy(PROJECT / name, copy / name)
    for name in FOLDERS:
        shutil.copytree(PROJECT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    name = checked(sys.executable, "-c", SDIST, cwd=copy).splitlines()[-1]
    return copy / "dist" / name


@pytest.fixture(scope="module")
def wheel(sdist):
    """Return the wheel, built from the source distribution."""
    pip = (sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-index", "--no-build-isolation")
    checked(*pip, "--wheel-dir", sdist.parent, sdist, cwd=sdist.parent)
    (path,) = sdist.parent.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """Return the `bin` folder of a new environment with the wheel in it. What the package needs is
    taken from the environment that runs the tests."""
    home = tmp_path_factory.mktemp("environment")
    venv.create(home, with_pip=True)
    scripts = home / ("Scripts" if os.name == "nt" else "bin")
    checked(scripts / "python", "-m", "pip", "install", "--no-deps", "--no-index", wheel, cwd=home)
    purelib = "import sysconfig; print(sysconfig.get_path('purelib'))"
    packages = Path(checked(scripts / "python", "-c", purelib, cwd=home).strip())
    # A folder that is named in a .pth file is searched last, and its own .pth files are not read,
    # so the checkout, if it is installed there, is not found.
    (packages / "needed.pth").write_text(sysconfig.get_path("purelib"))
    return scripts


@pytest.fixture
def elsewhere(tmp_path):
    """Return a folder with a folder of one picture."""
    write_photo(tmp_path / "photos" / "images" / "a.png", (48, 64))
    return tmp_path


def digest(data):
    return hashlib.sha256(data).hexdigest()


# ---- what is in it ------------------------------------------------------------------------


def test_the_wheel_holds_the_package_and_nothing_else(wheel):
    assert wheel.name.startswith(f"unisal-{__version__}-py3-none-any")
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        weights = archive.read("unisal/pretrained_unisal/weights_best.pth")
    modules = {str(p.relative_to(PROJECT)) for p in (PROJECT / "unisal").rglob("*.py")}
    assert {n for n in names if n.endswith(".py")} == {Path(m).as_posix() for m in modules}
    assert {n.partition("/")[0] for n in names} == {"unisal", f"unisal-{__version__}.dist-info"}
    assert {"unisal/py.typed", "unisal/evaluate/report_template.html"} <= set(names)
    assert digest(weights) == digest((SHIPPED / "weights_best.pth").read_bytes())
    shipped = {n.rpartition("/")[2] for n in names if n.startswith("unisal/pretrained_unisal/")}
    data_sets = {p.name for p in SHIPPED.glob("*Dataset.json")}
    assert len(data_sets) == 4
    own = {"weights_best.pth", "UNISAL.json", "presets.json", "README.md"}
    assert shipped == own | data_sets


def test_the_metadata_is_that_of_pyproject(wheel):
    with zipfile.ZipFile(wheel) as archive:
        folder = f"unisal-{__version__}.dist-info"
        metadata = archive.read(f"{folder}/METADATA").decode()
        entries = archive.read(f"{folder}/entry_points.txt").decode()
        assert f"{folder}/licenses/LICENSE" in archive.namelist()
    assert f"\nVersion: {__version__}\n" in metadata
    assert "\nLicense-Expression: Apache-2.0\n" in metadata
    assert "unisal = unisal.__main__:main" in entries


def test_the_source_distribution_holds_what_the_wheel_is_built_from(sdist):
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    modules = {p.relative_to(PROJECT).as_posix() for p in (PROJECT / "unisal").rglob("*.py")}
    assert modules <= names
    assert {"setup.py", "LICENSE", "README.md", "unisal/py.typed"} <= names
    assert "training_runs/pretrained_unisal/weights_best.pth" in names
    assert not {name for name in names if name.startswith(("tests", "benchmarks"))}


# ---- what it does -------------------------------------------------------------------------


def test_the_program_has_all_commands_and_its_own_name(installed, elsewhere):
    for program in ([installed / "unisal"], [installed / "python", "-m", "unisal"]):
        typed = " ".join([Path(program[0]).name, *program[1:]])
        said = checked(*program, cwd=elsewhere)
        assert said.startswith(f"usage: {typed} COMMAND")
        assert all(f"  {name} " in said for name in COMMANDS)
        said = checked(*program, "train", "--help", cwd=elsewhere)
        assert said.startswith(f"usage: {typed} train ")
        done = run(*program, "nope", cwd=elsewhere)
        assert done.returncode == 2 and done.stderr.startswith("unisal: no command 'nope'")


@pytest.mark.parametrize("program", [["unisal"], ["python", "-m", "unisal"]], ids=" ".join)
def test_it_predicts_a_picture_with_its_own_weights(installed, elsewhere, program):
    program[0] = installed / program[0]
    checked(*program, "predictions_from_folder", "photos", "--device=cpu", cwd=elsewhere)
    assert [p.name for p in (elsewhere / "photos" / "saliency").iterdir()] == ["a.png"]
    assert [p.name for p in elsewhere.iterdir()] == ["photos"]


def test_load_gives_the_numbers_of_the_checkout(installed, elsewhere):
    code = (
        "import json, unisal\n"
        "from unisal import config\n"
        "density = unisal.load(device='cpu').image('photos/images/a.png')\n"
        "folders = [unisal.__file__, config.train_dir(), config.pred_dir(),\n"
        "           config.data_dir('SALICON_DATA_DIR', 'SALICON')]\n"
        "print(json.dumps([density[::7, ::7].tolist(), [str(f) for f in folders]]))\n"
    )
    away, folders = json.loads(checked(installed / "python", "-c", code, cwd=elsewhere))
    here, _ = json.loads(
        checked(sys.executable, "-c", code, cwd=elsewhere, PYTHONPATH=str(PROJECT))
    )
    assert away == here
    assert Path(folders[0]).is_relative_to(installed.parent)
    assert [Path(f).relative_to(elsewhere).as_posix() for f in folders[1:]] == [
        "training_runs",
        "predictions",
        "data/SALICON",
    ]


def test_scores_of_the_shipped_run_go_to_a_copy_of_it(installed, elsewhere):
    write_salicon(elsewhere / "data" / "SALICON", "val", n=2)
    packaged = next(installed.parent.rglob("unisal/pretrained_unisal"))
    before = sorted(p.name for p in packaged.iterdir())
    command = ("score_model", "--sources=SALICON", "--report=True", "--device=cpu")
    said = checked(installed / "unisal", *command, cwd=elsewhere)
    assert "pretrained_unisal" in said
    copy = elsewhere / "training_runs" / "pretrained_unisal"
    assert {*before, "SALICON_eval_scores.json", "report.html"} <= {p.name for p in copy.iterdir()}
    assert sorted(p.name for p in packaged.iterdir()) == before
    checked(installed / "unisal", "predictions_from_folder", "photos", cwd=elsewhere)


def test_examples_are_named_as_part_of_a_checkout(installed, elsewhere):
    done = run(installed / "unisal", "predict_examples", cwd=elsewhere)
    assert done.returncode == 2
    assert (
        done.stderr.startswith("unisal: the example pictures") and "--examples_dir" in done.stderr
    )
    assert [p.name for p in elsewhere.iterdir()] == ["photos"]


def test_an_unknown_run_is_told_which_there_are(installed, elsewhere):
    done = run(installed / "unisal", "score_model", "mine", cwd=elsewhere)
    assert done.returncode == 2
    assert "no run 'mine'" in done.stderr and "there are: pretrained_unisal" in done.stderr
