"""The benchmarks run, and their two sides compute the same. Their times are not tested."""

from __future__ import annotations

import json
import mmap
import os
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import PIL
import pytest
import torch
from gaze_folders import write_film, write_gaze, write_table
from PIL import Image
from support import PROJECT, write_dhf1k, write_run

from benchmarks import all as whole_table
from benchmarks import (
    decoding,
    earlier_folders,
    folders,
    frame_steps,
    gpu,
    letterbox,
    limits,
    merge_gaze,
    mixed_precision,
    model_card,
    network,
    peer_worker,
    peers,
    processes,
    recipes,
    recurrence,
    scoring,
    startup,
    training,
    transfer,
    variants,
    warm_up,
)
from benchmarks.case import Case, measure, print_rows
from benchmarks.limits import Machine, Work, count_calls, count_graph
from unisal.config import load_json
from unisal.data import DATASETS, find_dataset, gaze_source
from unisal.errors import UserError
from unisal.evaluate.gaze import Gaze
from unisal.evaluate.options import ScoringOptions
from unisal.evaluate.scoring import score_dataset
from unisal.inference.engine import Engine
from unisal.inference.graph import export_graph
from unisal.model.mobilenet_v2 import MobileNetV2
from unisal.predict import load
from unisal.predict.loading import load_model

MACHINE = Machine(1e9, 1e9)
SMALL = 64, 96


@pytest.mark.parametrize(
    "case", [network.VideoClip(SMALL, 3), network.OneImage(SMALL)], ids=lambda c: c.what
)
def test_the_networks_agree(case):
    plain, ours = case.plain(), torch.from_numpy(np.stack(case.ours()))
    assert plain.shape == ours.shape == (case.items, *SMALL)
    torch.testing.assert_close(ours, plain, atol=1e-4, rtol=0)


def test_the_folders_agree():
    case = folders.FolderCase((70, 120), 7)
    plain, ours = case.plain(), case.ours()
    names = sorted(path.name for path in plain.iterdir())
    assert names == sorted(path.name for path in ours.iterdir()) and len(names) == 7
    for name in names:
        one, other = (np.asarray(Image.open(f / name)).astype(int) for f in (plain, ours))
        assert one.shape == (70, 120) and np.abs(one - other).max() <= 3
        assert np.mean(one != other) < 0.05
    root = case.root
    case.close()
    assert not root.exists()


def test_the_scores_agree(monkeypatch):
    monkeypatch.setenv("SALICON_DATA_DIR", "nowhere")  # set back afterwards
    case = scoring.Scoring(12, (48, 64))
    plain, ours = case.plain(), case.ours()
    case.close()
    assert plain.shape == ours.shape == (12, len(ScoringOptions.metrics))
    np.testing.assert_allclose(ours, plain, atol=2e-4)


@pytest.mark.slow
@pytest.mark.parametrize("kind", [training.ImageStep, training.VideoStep])
def test_the_gradients_agree(kind):
    case = kind(size=SMALL, target_size=SMALL, batch=2, time=1 if kind.domain == "SALICON" else 2)
    case.to_float64()
    plain, ours = case.plain(), case.ours()
    assert set(plain) == set(ours) and len(plain) > 150
    assert training.distance(ours, plain) < 1e-9
    off = {name: 1.01 * gradient for name, gradient in plain.items()}
    assert training.distance(off, plain) == pytest.approx(0.01)


class Sum(Case):
    """A case that takes no time: what is printed of one."""

    what, wanted, items, rounds = "a sum", "1 times", 2, 1

    def __init__(self):
        self.turns = []

    def plain(self):
        self.turns.append("plain")
        return 3

    def ours(self):
        self.turns.append("ours")
        return 5

    def difference(self, plain, ours):
        return f"{ours - plain} more"


def test_a_row_says_what_was_measured(capsys):
    now = iter(np.arange(0, 100, 0.5))
    case = Sum()
    row = measure(case, MACHINE, memory=False, clock=lambda: next(now))
    assert case.turns[:4] == ["plain", "ours", "plain", "ours"]
    print_rows([row])
    head, line, cells = (
        [cell.strip() for cell in text.strip("|").split("|")]
        for text in capsys.readouterr().out.splitlines()
    )
    assert set(line) == {"---"} and len(head) == len(line) == len(cells)
    assert cells[:6] == ["a sum", "1 times", "1.0 times", *["250.0 ms/frame"] * 2, "2 more"]


@pytest.mark.slow
def test_memory_is_that_of_a_process_which_does_one_side():
    few = network.OneImage(SMALL).peak_memory()
    plain, ours = (float(n) for n in re.fullmatch(r"(\d+) MB plain, (\d+) MB ours", few).groups())
    assert 100 < plain < 2000 and 100 < ours < 2000
    said = folders.SmallFolder(SMALL, items=2).peak_memory()
    assert all(100 < float(n) < 2000 for n in re.findall(r"(\d+) MB", said))
    assert len(re.findall(r"(\d+) MB", said)) == 3


def test_the_work_is_counted():
    x, weight = torch.ones(2, 6, 10, 8), torch.ones(8, 3, 3, 3)
    work = count_calls(lambda: torch.nn.functional.conv2d(x, weight, padding=1, groups=2))
    assert work == Work(2 * 8 * 80 * 27, 4 * (2 * 6 * 80 + 8 * 27 + 2 * 8 * 80))
    assert MACHINE.share(Work(5e8, 1e8), 1.0) == "50% of multiply-adds, 10% of copying"
    assert all(rate > 1e7 for rate in limits.measure_machine())


def test_the_networks_work_is_that_of_the_plain_calls():
    case = network.OneImage(SMALL)
    sides = {"frame_height": 64, "frame_width": 96, "priors_height": 2, "priors_width": 3}
    graph = count_graph(export_graph(case.model, "SALICON", True), sides)
    x = torch.from_numpy(case.frames)[None]
    calls = count_calls(lambda: case.model.logits(x, domain="SALICON", static=True))
    # In the graph the last two convolutions are one.
    assert 0.9 * calls.multiply_adds < graph.multiply_adds < calls.multiply_adds


def test_the_whole_table_has_every_program():
    modules = {path.stem for path in (PROJECT / "benchmarks").glob("*.py")}
    helpers = {"__init__", "all", "case", "timing", "limits", "run_model", "variants"}
    alone = {
        *("metrics", "stream_latency", "recurrence", "letterbox"),
        *("model_card", "recipes", "transfer", "precision", "merge_gaze", "scaling", "processes"),
        *("mixed_precision", "gpu", "decoding", "warm_up"),
        *("earlier_folders", "frame_steps", "peers", "peer_worker", "opencv_saliency"),
    }
    in_the_table = [module.__name__ for module in whole_table.MODULES]
    assert modules - helpers - alone == {name.rpartition(".")[2] for name in in_the_table} | {
        "startup"
    }


@pytest.mark.slow
def test_the_whole_table_has_the_rows_of_its_modules(monkeypatch, capsys):
    # First maps are measured by a test of their own.
    monkeypatch.setattr(startup, "measure_first_maps", lambda *_: None)
    modules = [SimpleNamespace(cases=lambda: [Sum()]) for _ in range(4)]
    whole_table.main([], modules, with_memory=False)
    lines = capsys.readouterr().out.splitlines()
    assert sum(line.startswith("| a sum |") for line in lines) == 4
    assert "without torch" in lines[-1] and "copied per second" in lines[0]


def test_starting_loads_no_torch(capsys):
    startup.measure_starts(rounds=1)
    assert capsys.readouterr().out.count("without torch (") == 2
    assert startup.loads_torch([*startup.COMMANDS["`import unisal`"][:2], "import torch"])


@pytest.mark.slow
def test_a_benchmark_runs_as_a_program():
    command = [sys.executable, "-m", "benchmarks.startup", "--rounds=1"]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=False)
    assert done.returncode == 0 and "without torch" in done.stdout, done.stderr
    first_maps = [line for line in done.stdout.splitlines() if "with PyTorch" in line]
    assert len(first_maps) == 2
    for line in first_maps:  # the time is the machine's; what is loaded is not
        ours, plain = map(int, re.findall(r"(\d+) MB;", line))
        assert ours < 200 < plain


@pytest.mark.slow
def test_the_recurrent_part_is_measured_on_films(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("TRAIN_DIR", str(tmp_path / "runs"))
    write_run(tmp_path / "runs" / "base", sources=("DHF1K", "SALICON"))
    rng, names = np.random.default_rng(0), [f"f{i}" for i in range(10)]
    for name in names:
        write_film(tmp_path / "films" / "videos" / f"{name}.mp4", 6)
    rows = [(n, frame, *rng.uniform(1, (94, 62)).round(1)) for n in names for frame in range(6)]
    write_table(tmp_path / "films" / "gaze.csv", ("video", "frame", "x", "y"), rows)
    splits = {"train": names[:2], "val": names[2:]}
    (tmp_path / "films" / "splits.json").write_text(json.dumps(splits))
    given = [f"--data={tmp_path / 'films'}", f"--out={tmp_path / 'out'}", "--base=base"]
    given += ["--train=modules", "--epochs=1", "--frames=2", "--size=64x96"]
    recurrence.main(given)
    printed = capsys.readouterr().out
    for line in ("shipped weights, DHF1K", "centre bias", "modules, recurrent"):
        assert re.search(rf"^\| {line} (\| -?\d+\.\d{{3}} ){{4}}\|", printed, re.MULTILINE), line
    scores = [
        json.loads((tmp_path / "out" / run / "films_eval_scores.json").read_text())
        for run in ("modules_gru_unisal", "modules_frames_unisal")
    ]
    kld = np.mean(scores[0], axis=0)[0] - np.mean(scores[1], axis=0)[0]
    assert f"| modules | kld | {kld:+.4f} |" in printed
    recurrence.main(given)  # nothing is made again
    assert capsys.readouterr().out == printed


@pytest.fixture
def crowd(tmp_path, monkeypatch):
    """Return a folder of pictures of two shapes; what is registered is forgotten afterwards."""
    monkeypatch.setenv("TRAIN_DIR", str(tmp_path / "runs"))
    sizes = {f"{i}.jpg": [(40, 120), (64, 96)][i % 2] for i in range(6)}
    write_gaze(tmp_path / "crowd", sizes)
    known = dict(DATASETS)
    yield tmp_path / "crowd"
    DATASETS.clear()
    DATASETS.update(known)


def test_pictures_are_filled_up_and_predictions_cut_out(crowd, tmp_path):
    filled = letterbox.filled_source(f"crowd={crowd}", SMALL)("train")
    own = find_dataset(f"crowd={crowd}")("train")
    for index in range(len(own)):
        item, height = filled[index], own.frame_size(index)[0]
        rows, columns = {40: (slice(16, 48), slice(96)), 64: (slice(64), slice(96))}[height]
        for values in (item.frames, item.maps, item.fixations):
            outside = torch.ones(values.shape[-2:], dtype=torch.bool)
            outside[rows, columns] = False
            assert not values[..., outside].any() and values.shape[-2:] == SMALL
        assert float(item.maps.sum()) == pytest.approx(1, abs=1e-5)
        fits = own.fixation_map(index, (rows.stop - (rows.start or 0), 96))
        np.testing.assert_array_equal(item.fixations[0, rows, columns], fits)
    model, frame = write_run(tmp_path / "run"), filled[0].frames[None].numpy()
    whole = Engine(model).images(frame, SMALL, model.sources[0])
    inside = letterbox.FilledEngine(model).images(frame, (32, 96), model.sources[0])
    cut = whole[0, 16:48]
    np.testing.assert_allclose(inside[0], cut - np.log(np.exp(cut).sum()), atol=1e-5, rtol=0)


@pytest.mark.slow
def test_filling_up_is_measured(crowd, tmp_path, capsys):
    write_run(tmp_path / "runs" / "base", sources=("DHF1K", "SALICON"))
    given = [f"--data={crowd}", f"--out={tmp_path / 'out'}", "--base=base", "--epochs=1"]
    letterbox.main([*given, "--size=64x96"])
    printed = capsys.readouterr().out
    for line in ("base, own size", "base, filled up", "crowd_filled_modules_unisal, filled up"):
        assert re.search(rf"^\| {line} (\| -?\d+\.\d{{3}} ){{3}}\|", printed, re.MULTILINE), line
    assert "| shipped weights | kld |" in printed and "| modules | cc |" in printed


def test_the_tables_of_a_model_card_are_what_the_library_scores(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("TRAIN_DIR", str(tmp_path / "runs"))
    monkeypatch.setenv("DHF1K_DATA_DIR", "nowhere")  # set back afterwards
    write_run(tmp_path / "runs" / "mine")
    write_gaze(tmp_path / "crowd", {f"{n}.png": (60, 80) for n in range(10)})
    for folder in ("clips", "others"):
        write_dhf1k(tmp_path / folder, dict.fromkeys((*range(1, 4), *range(601, 604)), 3))
    monkeypatch.setattr(model_card, "LONGER_SIDE", 160)
    monkeypatch.setattr(model_card, "N_FRAMES", 2)
    folders = f"{tmp_path / 'clips'},{tmp_path / 'others'},crops={tmp_path / 'crowd'}"
    data = f"--data=crowd={tmp_path / 'crowd'}"
    model_card.main(["--run=mine", data, f"--clips={folders}", "--domain=UCFSports"])
    _, pictures, *clips = re.split(r"\n(?=\w+: \d)", capsys.readouterr().out)
    rows = re.findall(r"^\| ([^|]+) \| (.*) \|$", pictures, re.MULTILINE)
    names = [f"**these weights, {domain}**" for domain in ("UCFSports", "SALICON")]
    assert [name for name, _ in rows] == [*names, "centre bias", "half of the observers", "chance"]
    dataset = gaze_source("crowd", tmp_path / "crowd")(phase="eval", score_size=160)
    assert dataset.target_size(0) == (120, 160)
    found = score_dataset(
        Engine(load_model("mine"), "cpu"), dataset, "UCFSports", options=model_card.OF_PICTURES
    )
    assert rows[0][1] == " | ".join(model_card.cells(found))
    titles = [c.partition("\n")[0] for c in clips]
    assert titles[2] == "crops: 2 clips, 4 frames"
    assert [title.partition(":")[0] for title in titles] == ["clips", "others", "crops"]
    assert all("**DHF1K, with the GRU**" in c and "UCFSports, frame by frame" in c for c in clips)
    with pytest.raises(UserError, match="nowhere does not exist"):
        model_card.main(["--clips=nowhere"])


@pytest.fixture
def sets(tmp_path, monkeypatch):
    """Two small sets of photographs, as an option names them, and where runs are."""
    monkeypatch.setenv("TRAIN_DIR", str(tmp_path / "runs"))
    for seed, name in enumerate(("one", "two")):
        write_gaze(tmp_path / name, {f"{n}.png": (60, 80) for n in range(10)}, seed=seed)
    return f"one={tmp_path / 'one'},two={tmp_path / 'two'}"


@pytest.mark.slow
def test_recipes_are_trained_once_and_compared(tmp_path, sets, capsys):
    write_run(tmp_path / "runs" / "base", sources=("DHF1K", "SALICON"))
    tried = "plain;own modules;own and shared modules;no dropout;twice as long;a teacher"
    given = [f"--data={sets}", f"--out={tmp_path / 'out'}", "--base=base", f"--recipes={tried}"]
    given += [f"--teacher={tmp_path / 'runs' / 'base'}", "--subset=1", "--epochs=1"]
    recipes.main([*given, "--size=64x96", "--seeds=0,1"])
    printed = capsys.readouterr().out
    rows = dict(re.findall(r"^\| ([^|]+) \(2 seeds\) \| (.*) \|$", printed, re.MULTILINE))
    assert list(rows) == tried.split(";")
    assert not any(";" in name for name in recipes.RECIPES)  # it separates them
    found = [json.loads((tmp_path / "out" / f"plain_{seed}.json").read_text()) for seed in (0, 1)]
    kld = np.mean([one["scores"]["two"]["kld"] for one in found])
    assert rows["plain"].split(" | ")[1].startswith(f"{kld:.3f}, ")
    assert rows["plain"].split(" | ")[2] == "+0.0000"
    trained = load_json(tmp_path / "out" / "own_and_shared_modules_0_unisal" / "UNISAL.json")
    assert trained["sources"] == ["DHF1K", "SALICON", "one", "two", "Photographs"]
    recipes.main([*given, "--size=64x96", "--seeds=0,1"])  # nothing is made again
    assert capsys.readouterr().out.endswith(printed[printed.index("| |") :])


@pytest.mark.slow
def test_transfer_leaves_out_one_set_at_a_time(tmp_path, sets, monkeypatch, capsys):
    torch.save(MobileNetV2().state_dict(), tmp_path / "encoder.pth")
    monkeypatch.setenv("UNISAL_ENCODER_WEIGHTS", str(tmp_path / "encoder.pth"))
    monkeypatch.setattr(transfer, "LONGER_SIDE", 80)
    given = [f"--data={sets}", f"--out={tmp_path / 'out'}", "--size=32x64", "--epochs=1"]
    transfer.main(given)
    printed = capsys.readouterr().out
    for name, other in (("one", "two"), ("two", "one")):
        trainer = load_json(tmp_path / "out" / f"without_{name}_unisal" / "Trainer.json")
        assert [source.partition("=")[0] for source in trainer["data_sources"]] == [other]
        assert re.search(rf"^{name}: 2 pictures$", printed, re.MULTILINE)
    assert printed.count("| trained on the others |") == printed.count("| centre bias |") == 2
    transfer.main(given)
    assert capsys.readouterr().out[-len(printed) // 2 :] == printed[-len(printed) // 2 :]


def test_merged_folders_hold_the_same_pictures_and_densities(tmp_path):
    for seed, name in enumerate(("one", "two")):
        write_gaze(tmp_path / name, {f"{i}.png": (40, 60 + 8 * seed) for i in range(5)}, seed=seed)
    specs = [f"{name}={tmp_path / name}" for name in ("one", "two")]
    merge_gaze.merge(specs, tmp_path / "both")
    for phase in ("train", "valid"):
        both = gaze_source("both", tmp_path / "both")(phase)
        parts = [(name, gaze_source(name, tmp_path / name)(phase)) for name in ("one", "two")]
        assert len(both) == sum(len(part) for _, part in parts)
        of_name = {both.name(index): index for index in range(len(both))}
        for name, part in parts:
            for index in range(len(part)):
                there = of_name[f"{name}/{part.name(index)}"]
                size = part.frame_size(index)
                np.testing.assert_array_equal(both.read_picture(there), part.read_picture(index))
                np.testing.assert_allclose(both.density(there, size), part.density(index, size))
    with pytest.raises(UserError, match="exists"):
        merge_gaze.merge(specs, tmp_path / "both")
    assert len(both.observers) == 6


needs_history = pytest.mark.skipif(not (PROJECT / ".git").exists(), reason="no checkout of Git")


@needs_history
def test_the_command_is_compared_with_an_earlier_commit(monkeypatch):
    took = iter([9, 9, 4, 2, 6, 2, 5, 2, 15, 8])  # a run of each that does not count, three, longer
    seen = []

    def predict(tree, frames, out, **env):
        seen.append((tree, len(list((frames / "images").iterdir())), env["TRAIN_DIR"]))
        assert (tree / "unisal" / "__main__.py").is_file()
        grey = np.full((8, 8), 7 if tree == PROJECT else 5, np.uint8)
        (out / "saliency").mkdir(parents=True, exist_ok=True)
        Image.fromarray(grey).save(out / "saliency" / "1.png")
        seconds = next(took)
        return earlier_folders.Measured(seconds, seconds + 1, 800 - 10 * len(seen))

    monkeypatch.setattr(earlier_folders, "predict", predict)
    said = earlier_folders.measure("HEAD", (32, 64), (2, 4), rounds=3)
    old, *_ = {tree for tree, _, _ in seen} - {PROJECT}
    assert [tree for tree, _, _ in seen] == [old, PROJECT] * 5 and not old.exists()
    assert [count for _, count, _ in seen] == [2] * 8 + [4] * 2
    assert {runs for _, _, runs in seen} == {str(old / "training_runs")}
    rows = said.splitlines()
    assert "2 frames 64x32" in rows[0] and "at most 2 grey levels, 100" in rows[-1]
    assert rows[2] == "| HEAD | 5.00 s | 1 | 6.00 s | 1 | 770 MB | 710 MB | 5000.0 ms |"
    assert (
        rows[3] == "| this commit | 2.00 s | 2.50 | 3.00 s | 2.00 | 760 MB | 700 MB | 3000.0 ms |"
    )


@needs_history
def test_the_earlier_commit_could_not_predict_without_torch():
    try:
        commit = earlier_folders.earlier_commit()
    except (SystemExit, IndexError):
        pytest.skip("the history is cut off")
    there = earlier_folders.git("ls-tree", "-r", "--name-only", commit).splitlines()
    assert "unisal/inference/engine.py" in there
    assert earlier_folders.FIRST_WITHOUT_TORCH not in there


def test_steps_of_a_frame_are_measured_beside_each_other(monkeypatch, capsys):
    monkeypatch.setattr(frame_steps, "TURN_SECONDS", 0)
    threads = cv2.getNumThreads()
    frame_steps.main(["--rounds=1", "--size=96x160", f"--simd={sys.executable}"])
    cv2.setNumThreads(threads)
    *rows, _, hardware = capsys.readouterr().out.splitlines()
    cells = [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]
    assert {len(row) for row in cells} == {5} and hardware.startswith("PyAV was built for")
    apart = {row[1]: int(row[4]) for row in cells[2:]}
    assert apart["products of matrices in float64"] == apart["the same, from an array"] == 0
    assert apart["64 rows at a time"] == 0 and apart["OpenCV, `INTER_AREA`"] > 1
    assert apart[f"Pillow-SIMD {PIL.__version__}"] == 0  # Pillow itself


def test_a_table_of_peers_says_what_each_costs():
    rows = list(peers.peers(None, "python"))
    costs = {row.key: [peer_worker.Cost(30, 100), peer_worker.Cost(10, 90)] for row in rows}
    costs["int8"] = "not available: no graph"
    costs["0"] = [peer_worker.Cost(90, 500, 3e9, 2e6), peer_worker.Cost(50, 400, 3e9, 2e6)]
    scores = {"fp32": [1.5, 0.8, 0.7]}
    lines = list(peers.table(rows, costs, (2.5e9, 4e6), (64, 96), scores))
    assert len({line.count("|") for line in lines}) == 1 and len(lines) == len(rows) + 2
    named = {row.key: line for row, line in zip(rows, lines[2:], strict=True)}
    end = "| 64x96 | 20.0 ms | 1.00 | 100 MB | 2.5 G | 4.0 M | 1.500 | 0.800 | 0.700 |"
    assert named["fp32"].endswith(end)
    assert named["int8"].startswith("| **this network**, 8 bits | not available: no graph |")
    assert "| 192x256 | 70.0 ms | 4.00 | 500 MB | 3.0 G | 2.0 M |" in named["0"]
    assert "| of the picture | 20.0 ms | 1.00 | 100 MB |  | none |" in named["FineGrained"]


def test_maps_of_others_are_scored_with_the_blur_of_the_truth(crowd, tmp_path):
    dataset = model_card.as_scored(f"crowd={crowd}")
    size = dataset.target_size(0)
    saliency = np.zeros((size[0] // 2, size[1] // 2), np.float32)
    saliency[10, 20] = 3
    path = tmp_path / f"{Path(dataset.files(0, 1).image).stem}.npy"
    np.save(path, saliency)
    maps = peers.MapFolder(tmp_path, Gaze(dataset))
    density = np.exp(maps.predict(dataset, 0))
    assert density.sum() == pytest.approx(1, abs=1e-3) and density.shape == size
    assert np.unravel_index(density.argmax(), size) in [(y, x) for y in (20, 21) for x in (40, 41)]
    sigma = dataset.blur(0)[0]
    assert density[20, 40] / density[20, round(40 - sigma)] == pytest.approx(np.exp(0.5), rel=0.1)
    np.save(path, np.zeros_like(saliency))
    np.testing.assert_allclose(np.exp(maps.predict(dataset, 0)), 1 / density.size, rtol=1e-5)


@pytest.mark.slow
def test_peers_are_measured_and_scored(crowd, tmp_path, capsys):
    write_run(tmp_path / "runs" / "base", sources=("DHF1K", "SALICON"))
    given = [f"--data=crowd={crowd}", "--train_id=base", "--rounds=1", "--pictures=1"]
    peers.main([*given, "--only=fp32,int8,FineGrained,0", f"--contrib={sys.executable}"])
    rows = capsys.readouterr().out.splitlines()
    assert re.match(r"\| \*\*this network\*\*, float32 \|( [^|]+ \|){9}$", rows[2])
    assert "not available: there is no graph in 8 bits" in rows[3]
    assert "saliency" in rows[4] and rows[4].endswith("| | | | | | | | |")
    assert re.match(r"\| mobilenet_v2 .* \| 0.3 G \| 2.2 M \|", rows[5])


@pytest.mark.slow
def test_training_in_16_bits_is_put_beside_two_seeds(crowd, tmp_path, capsys):
    write_run(tmp_path / "runs" / "base", sources=("DHF1K", "SALICON"))
    given = [f"--data=crowd={crowd}", f"--out={tmp_path / 'out'}", "--base=base", "--epochs=2"]
    mixed_precision.main([*given, "--size=32x64", "--device=cpu"])
    printed = capsys.readouterr().out
    scalars = [
        load_json(tmp_path / "out" / f"{run}_unisal" / "all_scalars.json")
        for run in ("off_0", "off_1", "bf16_0", "bf16_1")
    ]
    for phase in ("train", "valid"):
        tag = next(tag for tag in scalars[0] if tag.endswith(f"/loss/{phase}"))
        one, other, bits, other_bits = (s[tag]["1"] for s in scalars)
        assert len({one, other, bits, other_bits}) == 4
        _, table = printed.split(f"| {phase}, epoch |")
        apart = (abs(bits - one) + abs(other_bits - other)) / 2
        row = [one, other, bits, other_bits, abs(other - one), apart]
        assert "| 1 | " + " | ".join(f"{v:.4f}" for v in row) + " |" in table


def test_what_workers_save_is_told_apart_from_their_start(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(processes, "PICTURE", (36, 64))
    folders = processes.pictures(tmp_path, (2, 5))

    def run(_command, folder, words, _memory=None):
        n = len(list(folder.iterdir()))
        return 5 + 0.25 * n if words else 1 + 0.5 * n

    monkeypatch.setattr(processes, "run", run)
    processes.compare_ways("predict", folders, 2, 3, [])
    row = "| `predict` | 1.0 s | 500.0 ms | 5.0 s | 250.0 ms | 2.00 | 16 |"
    assert capsys.readouterr().out.strip() == row


@pytest.mark.skipif(not Path("/proc/self/smaps").exists(), reason="needs Linux")
def test_the_memory_of_mapped_weights_is_found(tmp_path):
    weights = tmp_path / processes.WEIGHTS
    weights.write_bytes(os.urandom(8 << 20))
    before = processes.of_process(Path("/proc/self"))
    with weights.open("rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as mapped:
        assert sum(mapped[:: mmap.PAGESIZE]) > 0
        found = processes.of_process(Path("/proc/self"))
    assert before["weights"] == 0 and found["weights"] == pytest.approx(8, abs=0.1)
    assert found["Rss"] >= found["Pss"] > 8


def test_decoded_pixels_of_all_readers_are_alike(monkeypatch, capsys):
    monkeypatch.setattr(decoding, "SIZES", ((64, 96),))
    decoding.main(["--frames=4", "--rounds=1"])
    rows = [line.split("|") for line in capsys.readouterr().out.splitlines()[2:]]
    names = [row[2].strip() for row in rows]
    assert names[:2] == [decoding.OURS, "OpenCV"]
    assert all(row[1].strip() == "96 x 64" and float(row[3]) > 0 for row in rows)
    apart = [int(row[5]) for row in rows]
    assert apart[0] == 0 and max(apart) < 16  # of conversions from YUV


@pytest.mark.slow
def test_what_is_measured_on_a_gpu_is_measured_on_the_cpu(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("TRAIN_DIR", str(tmp_path))
    write_run(tmp_path / "base", sources=("DHF1K", "SALICON"))
    sizes = "--size=32x64", "--batches=2", "--steps=2", "--clips=1"
    short = "--rounds=1", "--seconds=0", "--parts=limits,predict,train"
    gpu.main(["--device=cpu", "--train_id=base", *sizes, *short])
    printed = capsys.readouterr().out
    assert "not possible" not in printed
    tables = [part.split("\n|---")[1] for part in printed.split("| variant |")[1:]]
    found = [
        {
            cells[1].strip(): cells[-2]
            for line in table.splitlines()[1:]
            if (cells := line.split("|"))[2:]
        }
        for table in tables
    ]
    assert len(found) == 5 and all({"float32", "bf16, channels last"} <= set(t) for t in found)
    for table in found[:3]:  # of predictions; the others are of training steps
        assert float(table["float32, channels last"]) < 1e-3
        assert 1e-5 < float(table["bf16"]) < 0.2
        assert "plain" in table


def test_a_variant_that_is_not_possible_does_not_end_the_others():
    def impossible():
        raise RuntimeError("no such card\nand more")

    tried = variants.try_all(
        {"good": lambda: lambda: 1, "bad": impossible, "also": lambda: lambda: 2},
        lambda call: call,
    )
    assert [call() for call in tried.calls.values()] == [1, 2]
    assert tried.failures == {"bad": "no such card"}


def test_a_part_of_a_film_is_compared_with_the_whole(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("TRAIN_DIR", str(tmp_path))
    write_run(tmp_path / "base", sources=("DHF1K", "SALICON"))
    monkeypatch.setattr(warm_up, "SIZE", (36, 64))
    engine = load("base", "cpu").engine
    whole = list(warm_up.apart(warm_up.noise(4), engine, "DHF1K", 0))
    assert [(a.state, a.log_density, a.levels) for a in whole] == [(0, 0, 0)] * 4
    part = list(warm_up.apart(warm_up.noise(6), engine, "DHF1K", 2))
    assert len(part) == 4 and part[0].state > 1e-4 and part[0].cc < 1
    warm_up.main(["--frames=2", "--train_id=base"])
    rows = capsys.readouterr().out.splitlines()[2:]
    assert [row.split("|")[1:3] for row in rows] == [
        [f" {film} ", f" {n} "] for film in warm_up.FILMS for n in (1, 2)
    ]
