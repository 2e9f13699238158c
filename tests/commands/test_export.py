"""The command `export` as it is typed: files in each format, and mistakes before any work."""

from __future__ import annotations

import json

import numpy as np
import onnxruntime
import pytest
from support import call_command, lively_network, photo, run_command, write_network

import unisal


@pytest.fixture
def here(tmp_path, monkeypatch):
    """-> an empty folder that commands run in, with a small run beside it."""
    write_network(tmp_path / "runs" / "mine", lively_network())
    monkeypatch.setenv("TRAIN_DIR", str(tmp_path / "runs"))
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "here"


def test_the_shipped_weights_predict_the_same_from_the_file(tmp_path):
    path = tmp_path / "new" / "model.onnx"
    options = ("--format=onnx", "--domain=Photographs", f"--out={path}", "--licence=Apache-2.0")
    done = run_command("export", *options)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"{path}: images, domain Photographs, fp32, 12.6 MB\n")
    assert [found.name for found in path.parent.iterdir()] == ["model.onnx"]
    session = onnxruntime.InferenceSession(path)
    facts = json.loads(session.get_modelmeta().custom_metadata_map["unisal"])
    assert facts["licence"] == "Apache-2.0" and len(facts["weights_sha256"]) == 64
    assert facts["preset_name"] == "Photographs" and facts["domain"] == "Photographs"
    picture = photo((75, 100), seed=5)
    (density,) = session.run(None, {"picture": picture[None]})
    expected = unisal.load(device="cpu", runtime="torch").image(picture)
    np.testing.assert_allclose(np.log(density[0]), np.log(expected), atol=1e-4)


def test_a_video_and_its_own_name(here, capsys):
    assert call_command("export", "mine", "--video", "--output=logits", "--batch=1") == 0
    assert "state: of the frame 5 frames before, at 30 frames per second" in capsys.readouterr().out
    session = onnxruntime.InferenceSession(here / "unisal.onnx")
    assert [given.name for given in session.get_outputs()] == ["logits", "next_state"]
    assert session.get_inputs()[0].shape == [1, "height", "width", 3]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--format=caffe",), "format is 'caffe'; it has to be one of onnx, torch_export, "),
        (("--precision=fp16",), "precision is 'fp16'; onnx is written in fp32 or int8"),
        (("--precision=int8",), "make it with `unisal quantize`"),
        (("--out=a.pt",), "out is 'a.pt'; files of onnx end in .onnx"),
        (("--output=map",), "output is 'map'; it has to be one of density, logits"),
        (("--domain=Paintings",), "domain is 'Paintings'; the network has DHF1K, "),
        (("--video", "--domain=SALICON"), "takes every frame of a video as a picture by itself"),
        (("--size=288",), "size is 288; it has to be height and width, multiples of 32"),
        (("--size=288,300",), "multiples of 32"),
        (("--batch=0",), "batch"),
        (("--resize=maybe",), "resize"),
        (("--format=tflite", "--resize=True"), "tflite"),
        (("--train_id=nobody",), "nobody"),
    ],
)
def test_mistakes_are_said_and_nothing_is_written(options, said, here, capsys):
    given = options if "--train_id" in options[0] else ("mine", *options)
    assert call_command("export", *given) == 2
    assert said in capsys.readouterr().err
    assert [*here.iterdir()] == []
