"""The command `quantize` as the guide types it, and what predictions make of its files."""

from __future__ import annotations

import json
import re
import shlex
import shutil

import pytest
from gaze_folders import write_gaze
from support import PROJECT, run_python, write_photo

from unisal.commands.folder_jobs import settings_key
from unisal.config import examples_dir, run_dir
from unisal.data.pictures import list_pictures
from unisal.inference.graph_file import read_facts
from unisal.inference.processor import BF16_FLAGS, INT8_FLAGS, lacks

GUIDE = (PROJECT / "docs" / "guide" / "light.md").read_text()
SCORES = {"kld", "nss", "cc", "sim", "aucj"}
pytestmark = pytest.mark.skipif(lacks(INT8_FLAGS), reason="the processor has no such instructions")


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """-> where a reader of the guide would be, with a run and two data sets."""
    home = tmp_path_factory.mktemp("quantize")
    shutil.copytree(run_dir(None), home / "training_runs" / "my_run")
    shown = list_pictures(examples_dir() / "DHF1K" / "otters" / "images")[:16:2]
    for name in ("osie", "scenes"):
        folder = home / "data" / name
        write_gaze(folder, {f"{i}.png": (60, 80) for i in range(8)})
        for i, path in enumerate(shown):  # photographs agree, noise makes more be tried
            shutil.copy(path, folder / "stimuli" / f"{i}.png")
        parts = {"train": [f"{i}.png" for i in range(6)], "val": ["6.png", "7.png"]}
        (folder / "splits.json").write_text(json.dumps(parts))
        (folder / "gaze.json").write_text('{"blur_pixels": 9}')
    write_photo(home / "my_pictures" / "images" / "a.png", (60, 80))
    return home


def run(home, *arguments):
    env = {
        "PYTHONPATH": str(PROJECT),
        "TRAIN_DIR": str(home / "training_runs"),
        "UNISAL_CACHE_DIR": str(home / "cache"),
    }
    return run_python("-m", "unisal", *arguments, cwd=home, env=env)


USED = ("--train_id=my_run", "--verbose=True")


@pytest.mark.slow
def test_the_guides_command_makes_what_the_guide_says(home):
    (line,) = re.findall(r"^python run.py (quantize .*)$", GUIDE, re.MULTILINE)
    done = run(home, *shlex.split(line), "--n_pictures=6")
    assert done.returncode == 0, done.stderr
    folder = home / "training_runs" / "my_run"
    (graph,) = folder.glob("weights_best_int8_*_images.onnx")
    facts, record = read_facts(graph), json.loads(graph.with_suffix(".json").read_text())
    assert facts["agreement"] == record and facts["precision"] == "int8"
    assert record["holds"] == (record["exceeded"] == [])
    assert set(record["sources"]) == {"osie", "scenes"}
    for source in record["sources"].values():
        assert source["n_frames"] == 2 and set(source["differences"]) == SCORES
        assert -1 <= source["worst_cc"] <= source["mean_cc"] <= 1
    assert f"CC with float32 {record['mean_cc']:.5f}" in done.stdout
    if not lacks(BF16_FLAGS):
        (path,) = folder.glob("weights_best_bf16_*_images.json")
        of_bf16 = json.loads(path.read_text())
        assert of_bf16["network"] == facts["network"]
        assert of_bf16["runtime"] in ("openvino", "torch", "onnx")
        assert of_bf16["mean_cc"] > 0.99
    is_int8 = run(home, "predictions_from_folder", "my_pictures", "--precision=int8", *USED)
    assert "int8 with runtime onnx" in is_int8.stdout + is_int8.stderr, is_int8.stderr


@pytest.mark.slow
def test_without_data_or_with_an_unknown_run_nothing_is_made(home):
    before = sorted((home / "training_runs" / "my_run").iterdir())
    for options, said in (
        (["--train_id=nobody", "--sources=osie=data/osie"], "nobody"),
        (["--train_id=my_run", "--sources=osie=data/none"], "data/none"),
    ):
        done = run(home, "quantize", *options)
        assert done.returncode == 2 and said in done.stderr
        assert "Traceback" not in done.stderr
    assert sorted((home / "training_runs" / "my_run").iterdir()) == before


# ---- which maps are finished ----------------------------------------------------------------
def key(precision):
    return settings_key(
        train_id="my_run",
        source="SALICON",
        model_domain=None,
        is_video=False,
        smooth_method=None,
        maps=None,
        tta=None,
        precision=precision,
    )


def test_maps_of_a_graph_that_was_made_again_are_not_finished(home, monkeypatch):
    monkeypatch.setenv("TRAIN_DIR", str(home / "training_runs"))
    weights = home / "training_runs" / "my_run" / "weights_best.pth"
    for name in ("int8_SALICON_images.onnx", "bf16_SALICON_images.json"):
        path = weights.with_name(f"weights_best_{name}")
        before = {precision: key(precision) for precision in ("fp32", "int8", "auto")}
        path.write_text("1")
        first = {precision: key(precision) for precision in before}
        path.write_text("2")
        again = {precision: key(precision) for precision in before}
        path.unlink()
        assert before["fp32"] == first["fp32"] == again["fp32"]
        for precision in ("int8", "auto"):
            assert len({table[precision] for table in (before, first, again)}) == 3
        assert {precision: key(precision) for precision in before} == before
    other = weights.with_name("weights_best_int8_DHF1K_videos.onnx")
    other.write_text("3")
    assert key("int8") == before["int8"]
    other.unlink()
