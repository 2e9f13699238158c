"""The benchmarks run, and their two sides compute the same. Their times are not tested."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from gaze_folders import write_film, write_gaze, write_table
from PIL import Image
from support import PROJECT, write_dhf1k, write_run

from benchmarks import all as whole_table
from benchmarks import (
    folders,
    letterbox,
    limits,
    merge_gaze,
    model_card,
    network,
    recipes,
    recurrence,
    scoring,
    startup,
    training,
    transfer,
)
from benchmarks.case import Case, measure, print_rows
from benchmarks.limits import Machine, Work, count_calls, count_graph
from unisal.config import load_json
from unisal.data import DATASETS, find_dataset, gaze_source
from unisal.errors import UserError
from unisal.evaluate.options import ScoringOptions
from unisal.evaluate.scoring import score_dataset
from unisal.inference.engine import Engine
from unisal.inference.graph import export_graph
from unisal.model.mobilenet_v2 import MobileNetV2
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
    helpers = {"__init__", "all", "case", "timing", "limits", "run_model"}
    alone = {
        *("metrics", "stream_latency", "recurrence", "letterbox"),
        *("model_card", "recipes", "transfer", "precision", "merge_gaze", "scaling"),
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
