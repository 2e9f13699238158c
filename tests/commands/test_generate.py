"""Predictions of whole data sets: names, pixels, and what a stop or other weights do to them."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from functools import cache

import numpy as np
import pytest
import torch
from PIL import Image
from plain_video import plain_input, plain_video
from support import (
    PROJECT,
    lively_network,
    run_command,
    write_dhf1k,
    write_hollywood,
    write_mit1003,
    write_photo,
    write_salicon,
    write_ucfsports,
)

from unisal.commands.generate import generate_predictions
from unisal.config import save_json
from unisal.data import DATASETS
from unisal.errors import SomeFailed, UserError

SIZE = (24, 40)
VIDEOS = ("DHF1K", "Hollywood", "UCFSports")
SMALL = {"out_size": (64, 96)}
"""Kept by the test's run, so that the network sees a tenth of the pixels."""


@cache
def network(seed=0):
    return lively_network(seed, contrast=0.3)


def generate(train_id, sources=(), **chosen):
    """Write predictions as the command does, on the CPU."""
    options = dict.fromkeys(("phase", "model_domain", "smooth_method", "x_val_step"))
    given = {**options, "overwrite": False, "device": "cpu", **chosen}
    generate_predictions(train_id=train_id, sources=sources, **given)


def save_run(folder, seed=0, fine_tuned=None):
    """Write a run with a network whose maps depend on its input."""
    model = network(seed)
    folder.mkdir(parents=True, exist_ok=True)
    save_json(folder / "UNISAL.json", model.config)
    torch.save(model.state_dict(), folder / "weights_best.pth")
    for source, modulo in (("DHF1K", 3), ("Hollywood", 2), ("UCFSports", 2), ("SALICON", None)):
        options = SMALL if modulo is None else {**SMALL, "frame_modulo": modulo}
        save_json(
            folder / f"{source}Dataset.json", {**options, "seq_len": 2} if modulo else options
        )
    if fine_tuned is not None:
        torch.save(network(fine_tuned).state_dict(), folder / "ft_mit1003.pth")


@pytest.fixture(scope="session")
def originals(tmp_path_factory):
    """A folder with small data of all sources and the run `mine`."""
    root = tmp_path_factory.mktemp("generate")
    write_dhf1k(root / "DHF1K", {601: 2}, size=SIZE)
    write_dhf1k(root / "DHF1K", {701: 7, 702: 4}, size=SIZE, with_maps=False)
    write_hollywood(root / "Hollywood", {(2, 1): 3, (2, 2): 2, (3, 1): 1}, part="test", size=SIZE)
    write_ucfsports(root / "UCFSports", {"Diving-Side-005": 3}, part="test", size=SIZE)
    write_salicon(root / "SALICON", "test", 2, SIZE)
    write_salicon(root / "SALICON", "val", 1, SIZE)
    write_mit1003(root / "MIT1003", [SIZE] * 10)
    for i in (2, 10):
        write_photo(root / "MIT300" / "BenchmarkIMAGES" / f"i{i}.jpg", (30, 44), seed=i)
    save_run(root / "runs" / "mine", fine_tuned=1)
    return root


@pytest.fixture
def root(originals, tmp_path, monkeypatch):
    """A copy of the data and the run; predictions go to `predictions` in it."""
    shutil.copytree(originals, tmp_path, dirs_exist_ok=True)
    for source, dataset in DATASETS.items():
        monkeypatch.setenv(dataset.root_variable, str(tmp_path / source))
    monkeypatch.setenv("TRAIN_DIR", str(tmp_path / "runs"))
    monkeypatch.setenv("PRED_DIR", str(tmp_path / "predictions"))
    return tmp_path


def files(folder):
    return {str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()}


def state(folder):
    return {
        p: (p.read_bytes(), p.stat().st_mtime_ns)
        for p in folder.rglob("*")
        if p.is_file() and p.suffix != ".json"
    }


def level(path):
    return np.asarray(Image.open(path)).astype(int)


MAPS = {
    "DHF1K": {
        *(f"DHF1K/0701/{i:04d}.png" for i in range(1, 8)),
        *(f"DHF1K/0702/{i:04d}.png" for i in range(1, 5)),
    },
    "Hollywood": {
        *(f"Hollywood/actioncliptest00002_1/actioncliptest00002_{i:05d}.png" for i in (1, 2, 3)),
        *(f"Hollywood/actioncliptest00002_2/actioncliptest00002_{i:05d}.png" for i in (4, 5)),
        "Hollywood/actioncliptest00003_1/actioncliptest00003_00001.png",
    },
    "UCFSports": {f"UCFSports/Diving-Side-005/Diving-Side_005_{i:03d}.png" for i in (1, 2, 3)},
    "SALICON": {f"SALICON/COCO_test2014_{i:012d}.png" for i in (1, 2)},
    "MIT300": {f"MIT300/MIT300_xVal0/i{i}.{s}" for i in (2, 10) for s in ("jpg", "npy")},
}


def of_fold(fold):
    """The published fold of MIT1003's ten images, from its definition."""
    order = np.arange(10)
    np.random.RandomState(27).shuffle(order)
    return {f"MIT1003/MIT1003_xVal{fold}/i{1 + order[fold]:04d}.jpeg"}


UCF_ORDER = np.arange(1, 104)
np.random.RandomState(27).shuffle(UCF_ORDER)
UCF_VALIDATION = UCF_ORDER[92:102].tolist()
"""The published validation part, from its definition."""


# ---- names --------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_command_writes_all_six_sources(root):
    done = run_command("generate_predictions", "--train_id=mine", "--device=cpu")
    assert (done.returncode, done.stderr) == (0, "")
    folder = root / "predictions" / "mine"
    maps = set().union(*MAPS.values(), of_fold(0))
    records = {f"{s}.json" for s in (*VIDEOS, "SALICON")}
    records |= {f"{s}/{s}_xVal0.json" for s in ("MIT1003", "MIT300")}
    assert files(folder) == maps | records
    for name in maps:
        if not name.endswith(".npy"):
            picture = Image.open(folder / name)
            assert picture.mode == "L"
            assert picture.size == ((44, 30) if "MIT300" in name else (40, 24))
            assert np.asarray(picture).max() >= 250
    for source in DATASETS:
        (line,) = [line for line in done.stdout.splitlines() if line.startswith(f"{source}, ")]
        assert line.startswith(f"{source}, phase test: ")
        assert ("ft_mit1003.pth" in line) == source.startswith("MIT")
    before = state(folder)
    generate("mine")  # all is done: nothing is written again
    assert state(folder) == before


VALIDATION = {
    "DHF1K": {"DHF1K/0601/0001.png", "DHF1K/0601/0002.png"},
    "Hollywood": {m for m in MAPS["Hollywood"] if "00002_" in m},  # 3 is not in the part
    "UCFSports": {f"UCFSports/Run-{i:03d}/Run_{i:03d}_001.png" for i in UCF_VALIDATION if i < 16},
    "SALICON": {"SALICON/COCO_val2014_000000000001.png"},
    "MIT1003": of_fold(0),
}


def test_the_validation_part_of_all_that_have_one(root, capsys):
    shutil.rmtree(root / "UCFSports")
    names = dict.fromkeys((f"Run-{i:03d}" for i in range(1, 16)), 1)
    write_ucfsports(root / "UCFSports", names, part="test", size=SIZE)
    generate("mine", phase="eval")
    found = files(root / "predictions" / "mine")
    assert {f for f in found if not f.endswith(".json")} == set().union(*VALIDATION.values())
    out = capsys.readouterr().out
    assert all(f"{source}, phase eval: " in out for source in VALIDATION)


def test_the_fold_is_the_one_that_was_fine_tuned(root):
    sources, folder = ["MIT1003", "MIT300"], root / "predictions" / "mine"
    generate("mine", sources, x_val_step=3)
    save_json(root / "runs" / "mine" / "ft_mit1003.json", {"folder": "x", "x_val_step": 4})
    save_json(root / "runs" / "mine" / "MIT1003Dataset.json", {"x_val_step": 4})
    generate("mine", sources)
    for source in sources:
        found = sorted(p.name for p in (folder / source).iterdir() if p.is_dir())
        assert found == [f"{source}_xVal3", f"{source}_xVal4"]
    assert of_fold(3) | of_fold(4) <= files(folder)


# ---- pixels -------------------------------------------------------------------------------


def plain_maps(log_densities):
    """Return the grey levels of maps before they are rounded."""
    p = log_densities.double().exp()
    return (p / p.amax((-2, -1), keepdim=True) * 255).numpy()


def plain_video_maps(paths, domain, step):
    inputs = [plain_input(path, (64, 96)) for path in paths]
    return plain_maps(plain_video(network(), inputs, SIZE, domain, step))


VIDEO_FOLDERS = {
    "DHF1K": ("annotation/0701/images", "DHF1K/0701", 3),
    "Hollywood": (
        "testing/actioncliptest00002_1/images",
        "Hollywood/actioncliptest00002_1",
        2,
    ),
    "UCFSports": ("testing/Diving-Side-005/images", "UCFSports/Diving-Side-005", 2),
}


@pytest.mark.parametrize("source", VIDEOS)
def test_videos_are_those_of_the_network_frame_by_frame(root, source):
    generate("mine", [source])
    images, maps, step = VIDEO_FOLDERS[source]
    paths = sorted((root / source / images).iterdir())
    plain = plain_video_maps(paths, source, step)
    for path, expected in zip(paths, plain, strict=True):
        written = level(root / "predictions" / "mine" / maps / path.name)
        assert np.abs(written - expected).max() < 1.1  # rounded down
    other = plain_video_maps(paths, source, step + 1)
    assert max(np.abs(a - b).max() for a, b in zip(plain, other, strict=True)) > 5


def test_images_are_those_of_the_network(root):
    generate("mine", ["SALICON", "MIT300"])
    predictions = root / "predictions" / "mine"
    path = root / "SALICON" / "images" / "COCO_test2014_000000000002.jpg"
    with torch.no_grad():
        x = plain_input(path, (64, 96))[None, None]
        expected = plain_maps(network()(x, target_size=SIZE, source="SALICON")[0, 0, 0])
        written = level(predictions / "SALICON" / f"{path.stem}.png")
        assert np.abs(written - expected).max() < 1.1

        x = plain_input(root / "MIT300" / "BenchmarkIMAGES" / "i10.jpg", (288, 416))[None, None]
        tuned, best = (
            network(seed)(x, target_size=(30, 44), source="SALICON")[0, 0, 0] for seed in (1, 0)
        )
    raw = np.load(predictions / "MIT300" / "MIT300_xVal0" / "i10.npy")
    assert (raw.shape, raw.dtype) == ((30, 44), np.float32)
    assert raw.sum(dtype=np.float64) == pytest.approx(1, abs=1e-6)
    np.testing.assert_allclose(np.log(raw), tuned, atol=1e-4)
    assert (tuned - best).abs().max() > 1e-2
    written = level(predictions / "MIT300" / "MIT300_xVal0" / "i10.jpg")
    assert np.abs(written - raw / raw.max() * 255).max() < 5  # of JPEG


def test_a_run_without_fine_tuned_weights_says_so(root, caplog, capsys):
    (root / "runs" / "mine" / "ft_mit1003.pth").unlink()
    generate("mine", ["MIT300"])
    assert "no weights fine-tuned on MIT1003" in caplog.text
    assert "weights_best.pth of mine" in capsys.readouterr().out


def test_domain_and_smoothing_can_be_chosen(root):
    folder = root / "predictions" / "mine" / "DHF1K" / "0701"
    generate("mine", ["DHF1K"], model_domain="UCFSports")
    paths = sorted((root / "DHF1K" / "annotation" / "0701" / "images").iterdir())
    plain = plain_video_maps(paths, "UCFSports", 3)
    for path, expected in zip(paths, plain, strict=True):
        assert np.abs(level(folder / path.name) - expected).max() < 1.1
    rough = level(folder / "0004.png")
    chosen = {"model_domain": "UCFSports", "smooth_method": "med3"}
    generate("mine", ["DHF1K"], overwrite=True, **chosen)
    assert np.abs(level(folder / "0004.png") - rough).max() > 1


def test_the_record_names_the_domain_that_was_used(root, caplog):
    model = lively_network(sources=("SALICON", "UCFSports"))
    save_json(root / "runs" / "mine" / "UNISAL.json", model.config)
    torch.save(model.state_dict(), root / "runs" / "mine" / "weights_best.pth")
    generate("mine", ["DHF1K"])
    assert "no domain 'DHF1K'; using 'SALICON'" in caplog.text
    record = root / "predictions" / "mine" / "DHF1K.json"
    assert json.loads(record.read_text())["domain"] == "SALICON"
    before = state(root / "predictions")
    generate("mine", ["DHF1K"], model_domain="SALICON")  # the same, asked for by name
    assert state(root / "predictions") == before
    with pytest.raises(UserError, match="domain was 'SALICON', now 'UCFSports'"):
        generate("mine", ["DHF1K"], model_domain="UCFSports")


# ---- stops, faults, other weights ---------------------------------------------------------


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="signals are those of POSIX")
def test_a_run_that_is_killed_is_finished_by_the_same_command(root):
    write_dhf1k(root / "DHF1K", {702: 60}, size=SIZE, with_maps=False)
    folder = root / "predictions" / "mine" / "DHF1K"
    command = "generate_predictions", "--train_id=mine", "--sources=DHF1K", "--device=cpu"
    process = subprocess.Popen(
        [sys.executable, str(PROJECT / "run.py"), *command], stdout=subprocess.DEVNULL
    )
    try:
        until = time.monotonic() + 120
        while not (folder / "0702" / "0002.png").exists():
            assert process.poll() is None and time.monotonic() < until
            time.sleep(0.002)
        process.send_signal(signal.SIGKILL)
    finally:
        process.kill()
        process.wait()
    first, second = state(folder / "0701"), files(folder / "0702")
    assert len(first) == 7 and len(second) < 60
    (folder / "0702" / ".0009-abc12345.png").write_text("half")  # a kill may leave such a file
    generate("mine", ["DHF1K"])
    assert state(folder / "0701") == first
    assert files(folder / "0702") == {f"{i:04d}.png" for i in range(1, 61)}


def test_a_video_that_lacks_a_map_is_predicted_again_and_no_other(root, capsys):
    generate("mine", ["DHF1K"])
    folder = root / "predictions" / "mine" / "DHF1K"
    before = state(folder)
    (folder / "0702" / "0003.png").unlink()
    capsys.readouterr()
    generate("mine", ["DHF1K"])
    assert "11 frames, 7 of them done before" in capsys.readouterr().out
    after = state(folder)
    assert {p: content for p, (content, _) in after.items()} == {
        p: content for p, (content, _) in before.items()
    }
    changed = {p.parent.name for p in before if after[p] != before[p]}
    assert changed == {"0702"}


def test_an_image_that_lacks_its_raw_probabilities_is_predicted_again(root):
    generate("mine", ["MIT300"])
    folder = root / "predictions" / "mine" / "MIT300"
    before = state(folder)
    (folder / "MIT300_xVal0" / "i2.npy").unlink()
    generate("mine", ["MIT300"])
    after = state(folder)
    assert {p.stem for p in before if after[p] != before[p]} == {"i2"}


def leave(_run):
    """Change nothing."""


CHANGES = [
    # what happens to the run's folder, options, words of the refusal
    (lambda run: save_run(run, 5), {}, "weights_sha256 was"),
    (lambda run: save_json(run / "DHF1KDataset.json", {"frame_modulo": 2}), {}, "options was"),
    (leave, {"phase": "eval"}, "phase was 'test', now 'eval'"),
    (leave, {"model_domain": "SALICON"}, "domain was 'DHF1K', now 'SALICON'"),
    (leave, {"smooth_method": "med3"}, "smooth_method was None, now 'med3'"),
]


def test_predictions_that_were_made_otherwise_are_not_mixed(root):
    generate("mine", ["DHF1K"])
    before = state(root / "predictions")
    for change, options, words in CHANGES:
        run = root / "runs" / "mine"
        kept = {p: p.read_bytes() for p in run.iterdir()}
        change(run)
        with pytest.raises(UserError) as refused:
            generate("mine", ["SALICON", "DHF1K"], **options)
        said = str(refused.value)
        assert words in said and "PRED_DIR" in said and "--overwrite=True" in said
        assert str(root / "predictions" / "mine" / "DHF1K") in said
        assert state(root / "predictions") == before  # SALICON was not begun
        for path, content in kept.items():
            path.write_bytes(content)
    generate("mine", ["DHF1K"])  # as it was before


def test_overwriting_makes_all_of_a_source_anew(root):
    generate("mine", ["DHF1K", "SALICON"])
    folder = root / "predictions" / "mine"
    before = {p: content for p, (content, _) in state(folder).items()}
    (folder / "DHF1K" / "0999").mkdir()
    (folder / "DHF1K" / "0999" / "0001.png").write_text("of another time")
    save_run(root / "runs" / "mine", 5)
    generate("mine", ["DHF1K"], overwrite=True)
    after = {p: content for p, (content, _) in state(folder).items()}
    assert set(after) == set(before)
    changed = {p.relative_to(folder).parts[0] for p in before if after[p] != before[p]}
    assert changed == {"DHF1K"}
    record = json.loads((folder / "DHF1K.json").read_text())
    assert (record["train_id"], record["phase"]) == ("mine", "test")
    generate("mine", ["DHF1K"])  # and now it is what is asked for


@pytest.mark.parametrize("overwrite", [True, False])
def test_files_of_unknown_origin_are_left_alone(root, overwrite):
    folder = root / "predictions" / "mine" / "DHF1K"
    folder.mkdir(parents=True)
    (folder / "thesis.txt").write_text("three years of work")
    with pytest.raises(UserError, match=r"DHF1K holds files, but .*DHF1K\.json"):
        generate("mine", ["DHF1K"], overwrite=overwrite)
    assert files(root / "predictions") == {"mine/DHF1K/thesis.txt"}


def test_a_faulty_video_or_image_is_named_and_the_others_are_done(root, caplog):
    for path in (
        root / "DHF1K" / "annotation" / "0701" / "images" / "0004.png",
        root / "SALICON" / "images" / "COCO_test2014_000000000001.jpg",
    ):
        content = path.read_bytes()
        path.write_bytes(content[:-100])  # its header is whole
    with pytest.raises(
        SomeFailed, match=r"^2 could .*: DHF1K 0701, SALICON COCO_test2014_000000000001\.jpg$"
    ):
        generate("mine", ["DHF1K", "SALICON"])
    assert "0701/images/0004.png" in caplog.text
    folder = root / "predictions" / "mine"
    assert MAPS["DHF1K"] & files(folder) >= {m for m in MAPS["DHF1K"] if "0702" in m}
    assert MAPS["SALICON"] & files(folder) == {"SALICON/COCO_test2014_000000000002.png"}


# ---- mistakes -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"train_id": "nope"}, "'nope'.*mine"),
        ({"sources": ["NOPE"]}, "'NOPE'.*DHF1K"),
        ({"sources": ["MIT300"], "phase": "eval"}, "MIT300.*'eval'.*test"),
        ({"phase": "train"}, "'train'.*test and eval"),
        ({"smooth_method": "med2"}, "'med2'"),
        ({"device": "nope"}, "'nope'"),
        ({"x_val_step": "a"}, "x_val_step is 'a'"),
        ({"sources": ["MIT1003"], "x_val_step": 10}, "10"),
    ],
    ids=str,
)
def test_a_mistake_is_told_before_any_work(root, options, words):
    with pytest.raises(UserError, match=words):
        generate(**{"train_id": "mine", **options})
    assert not (root / "predictions").exists()
