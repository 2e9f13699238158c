"""The preset for pictures if none is named: the run may say it, and every way to predict obeys."""

from __future__ import annotations

import pickle
import re

import numpy as np
import pytest
from gaze_folders import write_film, write_gaze
from PIL import Image
from support import call_command, lively_network, photo, write_network

import unisal
from unisal.config import load_json, save_json
from unisal.data import GazeFolder, SALICONDataset, find_dataset
from unisal.data.pictures import read_grey
from unisal.errors import UserError
from unisal.predict.presets import default_preset, source_domain

PHOTOGRAPHS = {
    "domain": "Photographs",
    "is_video": False,
    "frame_step": 4,
    "frame_rate": 24,
    "input_size": None,
    "native_frame_size": None,
    "fine_tuned": False,
    "sources": ["snaps"],
    "default": True,
}
DOMAINS = ("DHF1K", "SALICON", "Photographs")


@pytest.fixture(scope="module")
def network():
    return lively_network(sources=DOMAINS, image_domains=DOMAINS[1:])


@pytest.fixture
def home(tmp_path, monkeypatch, network):
    """Return a folder with two runs of one network, of which one marks a preset; and pictures."""
    monkeypatch.setenv("TRAIN_DIR", str(tmp_path / "runs"))
    for run in ("old", "new"):
        write_network(tmp_path / "runs" / run, network)
    save_json(tmp_path / "runs" / "new" / "presets.json", {"Photographs": PHOTOGRAPHS})
    (tmp_path / "pictures").mkdir()
    Image.fromarray(photo((60, 80), 1)).save(tmp_path / "pictures" / "a.png")
    return tmp_path


@pytest.fixture
def gaze(home):
    """Return the folder of gaze data `crowd`."""
    write_gaze(home / "crowd", {f"{i}.jpg": (48, 64) for i in range(6)})
    return home / "crowd"


@pytest.mark.usefixtures("home")
def test_python_uses_the_preset_that_the_run_marks():
    old, new = (unisal.load(run, device="cpu") for run in ("old", "new"))
    picture = photo((60, 80), 1)
    want = {domain: old.image(picture, domain=domain) for domain in DOMAINS}
    assert not np.array_equal(want["SALICON"], want["Photographs"])
    assert np.array_equal(old.image(picture), want["SALICON"])
    assert np.array_equal(new.image(picture), want["Photographs"])
    assert np.array_equal(new.image(picture, source="SALICON"), want["SALICON"])
    np.testing.assert_allclose(next(new.images([picture])), want["Photographs"], rtol=1e-5)
    features = new.features(picture)["before_upsampling"]
    assert np.array_equal(
        features, old.features(picture, domain="Photographs")["before_upsampling"]
    )
    videos = [list(p.video([picture, picture])) for p in (old, new)]
    assert np.array_equal(*videos)
    assert new.stream().step(picture).tolist() == old.stream().step(picture).tolist()


def test_a_folder_is_predicted_with_it_and_salicon_can_be_named(home):
    maps = []
    for options in (["old"], ["new", "--source=SALICON"], ["new"]):
        command = "predictions_from_folder", str(home / "pictures"), "--device=cpu"
        assert call_command(*command, f"--train_id={options[0]}", *options[1:]) == 0
        maps.append(read_grey(home / "pictures" / "saliency" / "a.png"))
    old, named, default = maps
    assert np.array_equal(old, named)
    assert not np.array_equal(old, default)


def test_verbose_says_what_each_kind_of_file_is_predicted_with(home, capsys):
    weights = home / "runs" / "new" / "weights_best.pth"
    write_film(home / "clip.mp4", 2)
    for kind, images in (("SALICON", "images"), ("DHF1K", "one/images")):
        for name in "ab":
            path = home / "examples" / kind / images / f"{name}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(photo((60, 80), 1)).save(path)
    lines = {
        "predictions_from_folder": ["pictures: preset Photographs, domain Photographs"],
        "predict_video": ["videos: preset DHF1K, domain DHF1K"],
        "predict_examples": [
            "frames of videos: preset DHF1K, domain DHF1K",
            "pictures: preset SALICON, domain SALICON",
        ],
    }
    words = {
        "predictions_from_folder": [str(home / "pictures")],
        "predict_video": [str(home / "clip.mp4"), "--overlay=False", "--maps=npz"],
        "predict_examples": [f"--examples_dir={home / 'examples'}", "--overlay=False"],
    }
    for command, said in lines.items():
        common = "--train_id=new", "--device=cpu", "--verbose"
        assert call_command(command, *words[command], *common) == 0
        found = [line for line in capsys.readouterr().out.splitlines() if ": run " in line]
        start, end = f"run new, weights {weights}, ", ", fp32 with runtime onnx on cpu"
        assert found == [line.replace(": ", f": {start}") + end for line in said]


@pytest.mark.usefixtures("home")
def test_the_facts_are_values():
    facts = unisal.load("new", device="cpu", runtime="torch").facts
    found = facts()
    assert (found.run, found.preset, found.domain) == ("new", "Photographs", "Photographs")
    assert (found.precision, found.runtime, found.device) == ("fp32", "torch", "cpu")
    assert found.weights is not None
    assert found.weights.parent.name == "new"
    assert facts(is_video=True)[2:4] == ("DHF1K", "DHF1K")
    assert facts("SALICON", "DHF1K")[2:4] == ("SALICON", "DHF1K")
    with pytest.raises(UserError, match="'DHF1K'; for images allowed"):
        facts("DHF1K")


def test_a_folder_of_gaze_data_is_scored_with_it_unless_it_names_a_domain(home, gaze):
    said = {}
    for run in ("old", "new"):
        command = "score_model", run, f"--data={gaze}", "--metrics=kld", "--by=none"
        assert call_command(*command, "--device=cpu") == 0
        summary = load_json(home / "runs" / run / "crowd_eval_summary.json")
        said[run] = summary["model_domain"]
    assert said == {"old": "SALICON", "new": "Photographs"}
    free = find_dataset(f"crowd={gaze}")
    assert issubclass(free, GazeFolder)
    (gaze / "gaze.json").write_text('{"domain": "SALICON"}')
    named = find_dataset(f"crowd={gaze}")
    assert [source_domain("new", one) for one in (free, named)] == ["Photographs", "SALICON"]


@pytest.mark.usefixtures("home")
def test_published_sources_and_what_the_run_trained_on_keep_their_domains(gaze):
    assert source_domain("new", SALICONDataset) == "SALICON"
    trained = find_dataset(f"snaps={gaze}")
    assert source_domain("new", trained) == "Photographs"
    assert default_preset("new", is_video=True) == "DHF1K"
    assert [default_preset(run) for run in ("old", "new")] == ["SALICON", "Photographs"]


def test_in_another_process_a_gaze_folder_still_names_no_domain(gaze):
    dataset = find_dataset(f"crowd={gaze}")(phase="eval")
    other = pickle.loads(pickle.dumps(dataset))
    assert (other.domain, other.names_domain) == ("SALICON", False)
    assert type(other) is type(dataset)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"default": "yes"}, "default of Photographs is 'yes'"),
        ({"is_video": True}, "Photographs is for videos"),
        ({"again": True}, "Photographs, Town are all the default"),
    ],
)
def test_a_mark_that_means_nothing_is_named(home, changes, said):
    path, again = home / "runs" / "new" / "presets.json", "again" in changes
    changed = PHOTOGRAPHS | {k: v for k, v in changes.items() if k != "again"}
    save_json(path, {"Photographs": changed} | ({"Town": PHOTOGRAPHS} if again else {}))
    with pytest.raises(UserError, match=re.escape(str(path)) + f".*{said}"):
        default_preset("new")


@pytest.mark.parametrize(("base", "copied"), [("old", "SALICON"), ("new", "Photographs")])
def test_a_domain_of_ones_own_starts_from_the_preset_that_the_run_marks(
    gaze, monkeypatch, capsys, base, copied
):
    def trainer(_resume, options, _processes):
        raise UserError(f"starts from {options['new_domain_from']} of {options['init_from']}")

    monkeypatch.setattr("unisal.commands.finetune.trainer_of", trainer)
    assert call_command("finetune", f"--data={gaze}", "--domain=Mine", f"--base={base}") == 2
    assert f"starts from {copied} of {base}" in capsys.readouterr().err
