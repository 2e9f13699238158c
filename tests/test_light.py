"""Pictures, videos and streams are predicted where neither PyTorch nor what only training needs can
be imported, and the maps are the same to the last bit."""

from __future__ import annotations

import json
import re
import sys

import numpy as np
import pytest
from PIL import Image
from support import (
    PROJECT,
    call_command,
    lively_network,
    photo,
    run_python,
    write_network,
    write_photo,
    write_salicon,
)
from test_dependencies import PACKAGE_OF, package_names
from videos import numbered, write_clip

import unisal
from unisal.errors import UserError
from unisal.inference import runtime
from unisal.types import Features

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

PICTURE = photo((48, 64), seed=3)
FRAMES = numbered(7)
LIGHT = (PROJECT / "requirements-light.txt").read_text().splitlines()
PROGRAM = """
import importlib.abc, json, os, sys
import numpy as np

work = sys.argv[1]
tried = set()

class Missing(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        package = name.partition(".")[0]
        if package in OUTSIDE:
            tried.add(package)
            raise ModuleNotFoundError(f"there is no {package} here")

OUTSIDE = {"torch", "torchvision", "onnx", "scipy", "h5py", "jinja2", "safetensors",
           "tensorboardX", "pyarrow", "pandas", "matplotlib"}
sys.meta_path.insert(0, Missing())

import unisal
from unisal.commands.cli import main
from unisal.commands.table import COMMANDS

with np.load(os.path.join(work, "given.npz")) as given:
    picture, frames = given["picture"], given["frames"]
results = {}
for kind, of in (("run", "mine"), ("file", os.path.join(work, "picture.onnx"))):
    predictor = unisal.load(of)
    results["picture of " + kind] = predictor.image(picture)
    results["pictures of " + kind] = np.stack(list(predictor.images([picture, picture])))
    if kind == "run":
        for name, values in predictor.features(picture).items():
            results["feature " + name] = values
        for name, values in list(predictor.features(frames, frame_step=2))[-1].items():
            results["last feature " + name] = values
for kind, of in (("run", "mine"), ("file", os.path.join(work, "video.onnx"))):
    predictor = unisal.load(of)
    results["video of " + kind] = np.stack(list(predictor.video(frames, frame_step=2)))
    stream = predictor.stream()
    results["stream of " + kind] = np.stack([stream.step(frame) for frame in frames])
np.savez(os.path.join(work, "made.npz"), **results)
codes = [
    main(COMMANDS, ["predictions_from_folder", work, "--train_id=mine", "--maps=npz"], "light"),
    main(COMMANDS, ["predict_video", os.path.join(work, "clip.mp4"), "--train_id=mine",
                    "--maps=npz"], "light"),
]
print(json.dumps([codes, sorted(tried), "torch" in sys.modules]))
"""


@pytest.fixture(scope="module")
def model():
    return lively_network()


@pytest.fixture(scope="module")
def made(tmp_path_factory, model):
    """-> a folder with a run, its graphs in the cache and in files, a picture and a clip."""
    folder = tmp_path_factory.mktemp("work")
    write_network(folder / "runs" / "mine", model)
    write_photo(folder / "images" / "a.png")
    write_clip(folder / "clip.mp4", FRAMES)
    np.savez(folder / "given.npz", picture=PICTURE, frames=FRAMES)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRAIN_DIR", str(folder / "runs"))
        patch.setenv("UNISAL_CACHE_DIR", str(folder / "cache"))
        predictor = unisal.load("mine", device="cpu")
        predictor.write_graph(folder / "picture.onnx")  # both go to the cache, too
        predictor.write_graph(folder / "video.onnx", source="DHF1K")
        predictor.features(PICTURE)
        list(predictor.features(FRAMES[:1]))
    return folder


@pytest.fixture
def work(made, monkeypatch):
    monkeypatch.setenv("TRAIN_DIR", str(made / "runs"))
    monkeypatch.setenv("UNISAL_CACHE_DIR", str(made / "cache"))
    monkeypatch.setattr(runtime, "compute_threads", lambda: 1)
    return made


def run_light(work, **env):
    env = {"PYTHONPATH": str(PROJECT), "OMP_NUM_THREADS": "1", **env}
    return run_python("-c", PROGRAM, str(work), cwd=work, env=env)


def test_the_maps_are_the_same_where_pytorch_cannot_be_imported(work):
    done = run_light(work)
    assert done.returncode == 0, done.stderr
    codes, tried, has_torch = json.loads(done.stdout.splitlines()[-1])
    assert codes == [0, 0]
    assert (tried, has_torch) == ([], False)  # nothing even asks for what is missing
    predictor = unisal.load("mine", device="cpu")
    stream = predictor.stream()
    expected = {
        "picture": predictor.image(PICTURE),
        "pictures": np.stack(list(predictor.images([PICTURE] * 2))),
        "video": np.stack(list(predictor.video(FRAMES, frame_step=2))),
        "stream": np.stack([stream.step(frame) for frame in FRAMES]),
    }
    with np.load(work / "made.npz") as made:
        features = [name for name in made.files if "feature" in name]
        assert len(made.files) == 2 * len(expected) + len(features)
        assert len(features) == 2 * len(Features._fields)
        plain = unisal.load("mine", device="cpu", runtime="torch")
        one, *_, last = plain.features(PICTURE), *plain.features(FRAMES, frame_step=2)
        for before, known in (("feature", one), ("last feature", last)):
            for name, values in known.items():
                range_ = np.ptp(values)
                np.testing.assert_allclose(
                    made[f"{before} {name}"], values, rtol=0, atol=2e-4 * range_
                )
        for name, maps in expected.items():
            for kind in ("run", "file"):
                np.testing.assert_array_equal(made[f"{name} of {kind}"], maps)
    assert [p.suffix for p in (work / "saliency").iterdir() if p.is_file()].count(".npz") == 2


def test_without_a_graph_the_message_says_what_to_do(work, tmp_path):
    done = run_light(work, UNISAL_CACHE_DIR=str(tmp_path))
    assert done.returncode == 1
    assert "PyTorch is needed to make a graph" in done.stderr
    assert "Predictor.write_graph" in done.stderr


def test_a_command_says_which_package_is_missing(capsys):
    def train():
        """Train."""
        raise ModuleNotFoundError("No module named 'torch.nn'", name="torch.nn")

    assert call_command("train", commands={"train": train}) == 2
    assert "needs the package torch, which is not installed" in capsys.readouterr().err


def test_the_light_requirements_are_some_of_the_projects():
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]
    light = [line for line in LIGHT if line and not line.startswith("#")]
    assert set(light) < set(project["dependencies"])
    blocked = set(re.search(r"OUTSIDE = {(.*?)}", PROGRAM, re.DOTALL)[1].split('"')[1::2])
    left_out = package_names(project["dependencies"]) - package_names(light)
    # What is left out is what the program above misses.
    assert left_out <= {PACKAGE_OF.get(name, name) for name in blocked}


# ---- graphs in files ------------------------------------------------------------------------
def test_a_file_says_what_it_is(work, model):
    facts = unisal.load(work / "picture.onnx").engine.network.facts
    assert (facts["domain"], facts["static"], facts["preset_name"]) == ("SALICON", True, "SALICON")
    assert facts["sources"] == list(model.sources)
    assert unisal.load(work / "video.onnx").engine.network.facts["static"] is False


@pytest.mark.parametrize(
    ("use", "said"),
    [
        (lambda p: p.image(PICTURE), "holds the graph for videos (domain DHF1K), not that for"),
        (lambda p: p.features(PICTURE), "holds a graph for ONNX Runtime alone"),
        (lambda p: p.engine.model, "holds a graph for ONNX Runtime alone"),
    ],
)
def test_what_a_file_cannot_do_is_said(work, use, said):
    predictor = unisal.load(work / "video.onnx", device="cpu")
    with pytest.raises(UserError, match=re.escape(said)):
        use(predictor)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"runtime": "torch"}, "ONNX Runtime alone"),
        ({"device": "nonsense"}, "'nonsense'"),
    ],
)
def test_a_file_cannot_be_run_otherwise(work, options, said):
    with pytest.raises(UserError, match=said):
        unisal.load(work / "picture.onnx", **options)


def test_a_name_has_to_end_as_they_do(work):
    with pytest.raises(UserError, match=r"end in \.onnx"):
        unisal.load("mine", device="cpu").write_graph(work / "picture")
    with pytest.raises(UserError, match="cannot be read: No such file"):
        unisal.load(work / "missing.onnx")


def test_folders_are_predicted_with_a_file(work):
    assert call_command("predictions_from_folder", str(work), "--train_id=mine") == 0
    expected = np.asarray(Image.open(work / "saliency" / "a.png"))
    graph = work / "picture.onnx"
    options = (f"--train_id={graph}", f"--out_dir={work / 'other'}")
    assert call_command("predictions_from_folder", str(work), *options) == 0
    (made,) = (work / "other").rglob("a.png")
    np.testing.assert_array_equal(np.asarray(Image.open(made)), expected)
    missing = f"--train_id={work / 'missing.onnx'}"
    assert call_command("predictions_from_folder", str(work), missing) == 2


DATA_SETS = """
import importlib.abc, json, sys

class Missing(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("torch", "torchvision"):
            raise ModuleNotFoundError(f"there is no {name} here", name=name)

sys.meta_path.insert(0, Missing())
from unisal.commands.cli import main
from unisal.commands.table import COMMANDS

codes = [main(COMMANDS, command.split(), "light") for command in sys.argv[1:]]
print(json.dumps([codes, "torch" in sys.modules]))
"""


@pytest.mark.slow
def test_data_sets_are_scored_and_predicted_without_pytorch(work, tmp_path, monkeypatch):
    for part in ("train", "val"):
        write_salicon(tmp_path / "SALICON", part, n=2)
    # Each of the presets has a graph of its own.
    unisal.load("mine", device="cpu").image(PICTURE, source="SALICON")
    env = {
        "SALICON_DATA_DIR": str(tmp_path / "SALICON"),
        "PRED_DIR": str(tmp_path / "predictions"),
        "PYTHONPATH": str(PROJECT),
    }
    commands = [
        "score_model --sources=SALICON --train_id=mine",
        "generate_predictions --sources=SALICON --phase=eval --train_id=mine",
    ]
    done = run_python("-c", DATA_SETS, *commands, cwd=work, env=env)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == [[0, 0], False], done.stderr
    assert len(list((tmp_path / "predictions").rglob("*.png"))) == 2
    scores = work / "runs" / "mine" / "SALICON_eval_mean_scores.json"
    without = json.loads(scores.read_text())
    scores.unlink()
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    assert call_command(*commands[0].split()) == 0  # with PyTorch in memory
    np.testing.assert_allclose(without, json.loads(scores.read_text()), rtol=1e-5)
