"""The command `finetune` on a folder of gaze data: what it leaves, and its studies."""

from __future__ import annotations

import csv
import json
import re

import numpy as np
import pytest
import torch
from gaze_folders import write_film, write_gaze, write_table
from PIL import Image
from support import call_command, run_command, write_run

from unisal.commands import studies
from unisal.commands.studies import Outcome, conclusion, curve_runs, fold_runs, observer_runs
from unisal.config import load_json
from unisal.data import find_dataset
from unisal.errors import UserError
from unisal.model.weights import read_state
from unisal.visualize.curve import HEIGHT, WIDTH, Curve, CurvePoint, draw_curve

SHORT = [
    "--base=base",
    "--num_epochs=1",
    "--num_workers=0",
    "--device=cpu",
    "--tboard=False",
    "--dataset_options={'mine': {'input_size': (32, 64)}}",
]


@pytest.fixture
def home(tmp_path, monkeypatch):
    """Return where a folder of gaze data `mine` and a run to start from lie."""
    monkeypatch.setenv("TRAIN_DIR", str(tmp_path / "runs"))
    sizes = {f"{i}.jpg": ((48, 64), (64, 48))[i % 2] for i in range(1, 10)}
    write_gaze(tmp_path / "mine", sizes, n_observers=4)
    parts = {"train": [*sizes][:6], "val": [*sizes][6:]}
    (tmp_path / "mine" / "splits.json").write_text(json.dumps(parts))
    write_run(tmp_path / "runs" / "base", sources=("DHF1K", "SALICON"))
    return tmp_path


def finetune(home, *options):
    return call_command("finetune", f"--data={home / 'mine'}", "--domain=Mine", *SHORT, *options)


def dataset(home, phase="train"):
    return find_dataset(f"mine={home / 'mine'}")(phase)


@pytest.mark.slow
def test_a_folder_is_trained_on_and_scored_with_its_own_domain(home, capsys):
    assert finetune(home) == 0
    run = home / "runs" / "mine_modules_unisal"
    assert re.search(
        r"mine_modules_unisal: trains [\d,]+ of [\d,]+ numbers", capsys.readouterr().out
    )
    names = {"UNISAL.json", "Trainer.json", "presets.json", "weights_best.pth", "all_scalars.json"}
    assert names | {"chkpnt_latest.pth"} <= {path.name for path in run.iterdir()}
    assert load_json(run / "presets.json")["Mine"]["sources"] == ["mine"]
    assert load_json(run / "mine_eval_summary.json")["model_domain"] == "Mine"
    assert finetune(home) == 2
    assert "already holds a run" in capsys.readouterr().err
    assert finetune(home, "--train=decoder") == 0
    told = re.findall(r"^(\w+): CC -?\d\.\d+ between", capsys.readouterr().out, re.MULTILINE)
    assert told == ["DHF1K", "SALICON"]


@pytest.mark.slow
def test_a_process_trains_in_16_bits_with_joint_batches(home):
    options = "--amp=bf16", "--accumulate=2"
    given = [f"--data={home / 'mine'}", "--domain=Mine", *SHORT, *options]
    done = run_command("finetune", *given, env={"TRAIN_DIR": str(home / "runs")})
    assert done.returncode == 0, done.stderr
    run = home / "runs" / "mine_modules_unisal"
    kept = load_json(run / "Trainer.json")
    assert (kept["amp"], kept["accumulate"]) == ("bf16", 2)
    assert any("/loss/valid" in tag for tag in load_json(run / "all_scalars.json"))
    assert {values.dtype for values in read_state(run / "weights_best.pth").values()} <= {
        torch.float32,
        torch.int64,
    }


@pytest.mark.parametrize(
    ("option", "said"),
    [
        ("--amp=fp8", "amp is 'fp8'; allowed are off, auto, bf16, fp16"),
        ("--amp=fp16", "amp is 'fp16', which needs a GPU"),
        ("--accumulate=0", "accumulate is 0"),
    ],
)
def test_precisions_and_joint_batches_that_cannot_be_are_refused(home, capsys, option, said):
    assert finetune(home, option) == 2
    assert said in capsys.readouterr().err
    assert not (home / "runs" / "mine_modules_unisal").exists()


@pytest.mark.slow
def test_studies_leave_tables_and_charts_and_go_on_where_they_were(home, capsys, monkeypatch):
    options = ("--folds=3", "--curve=2,4", "--observers=1")
    train, seen = studies._train, []

    def stop(trainer, folder, sub):
        if len(seen) == 2:
            raise KeyboardInterrupt
        seen.append(sub.name)
        train(trainer, folder, sub)

    monkeypatch.setattr(studies, "_train", stop)
    assert finetune(home, *options) == 130
    again = []
    monkeypatch.setattr(
        studies, "_train", lambda t, f, sub: (again.append(sub.name), train(t, f, sub))
    )
    assert call_command("finetune", "--resume=mine_modules_unisal", *options) == 0
    assert (seen, again) == (["fold1", "fold2"], ["fold3", "n2_1", "n2_2", "n4_1", "n1"])
    run, said = home / "runs" / "mine_modules_unisal", capsys.readouterr().out
    assert "all stimuli, each left out once: KLD" in said
    assert re.search(r"from 4 to 6 stimuli CC changed by [+-]0\.\d{3}, 95 % interval", said)
    assert re.search(r"from 1 to 4 people CC changed by", said)
    assert list(run.rglob("*/*.pth")) == []  # of the studies only scores are kept
    folds = load_json(run / "folds.json")["trainings"]
    titles = [title for outcome in folds for title in outcome["titles"]]
    assert sorted(titles) == sorted(f"{i}.jpg" for i in range(1, 10))
    for kind, numbers in (("curve", [2, 4, 6]), ("observers", [1, 4])):
        with (run / f"{kind}.csv").open(newline="") as file:
            rows = list(csv.DictReader(file))
        assert [int(row["n"]) for row in rows] == numbers
        for row in rows:
            assert float(row["cc_low"]) <= float(row["cc"]) <= float(row["cc_high"])
        with Image.open(run / f"{kind}.png") as picture:
            assert picture.size == (WIDTH, HEIGHT)


@pytest.mark.slow
def test_films_train_a_domain_with_the_recurrent_part(home, capsys):
    folder, rng = home / "films", np.random.default_rng(0)
    for name in ("a", "b", "c"):
        write_film(folder / "videos" / f"{name}.mp4", 24)
    rows = [
        (name, frame, *rng.uniform(1, (94, 62)).round(1))
        for name in ("a", "b", "c")
        for frame in range(24)
    ]
    write_table(folder / "gaze.csv", ("video", "frame", "x", "y"), rows)
    (folder / "splits.json").write_text(json.dumps({"train": ["a", "b"], "val": ["c"]}))
    options = ["--dataset_options={'films': {'input_size': (64, 96), 'seq_len': 2}}"]
    command = ["finetune", f"--data={folder}", "--domain=Game", *SHORT[:-1], *options]
    assert call_command(*command) == 0
    run = home / "runs" / "game_modules_unisal"
    assert "trains " in capsys.readouterr().out
    saved = load_json(run / "presets.json")["Game"]
    assert (saved["is_video"], saved["sources"]) == (True, ["films"])
    assert "Game" not in load_json(run / "UNISAL.json").get("image_domains", ())
    assert load_json(run / "films_eval_summary.json")["model_domain"] == "Game"
    before, after = (read_state(path / "weights_best.pth") for path in (home / "runs/base", run))
    assert all(torch.equal(before[key], after[key]) for key in before)
    one = [str(folder / "videos" / "c.mp4"), "--train_id=game_modules_unisal", "--device=cpu"]
    assert call_command("predict_video", *one, "--preset=Game", f"--out_dir={home / 'out'}") == 0
    assert (home / "out" / "c_overlay.mp4").is_file()


@pytest.mark.slow
def test_films_can_be_taken_frame_by_frame(home, capsys):
    folder, rng = home / "films", np.random.default_rng(0)
    for name in ("a", "b"):
        write_film(folder / "videos" / f"{name}.mp4", 24)
    rows = [
        (name, frame, *rng.uniform(1, (94, 62)).round(1)) for name in "ab" for frame in range(24)
    ]
    write_table(folder / "gaze.csv", ("video", "frame", "x", "y"), rows)
    (folder / "splits.json").write_text(json.dumps({"train": ["a"], "val": ["b"]}))
    options = ["--dataset_options={'films': {'input_size': (64, 96), 'seq_len': 3}}"]
    command = ["finetune", f"--data={folder}", "--domain=Game", *SHORT[:-1], *options]
    assert call_command(*command, "--frame_by_frame=True", "--train=all", "--lr=0.1") == 0
    capsys.readouterr()
    run = home / "runs" / "game_all_unisal"
    assert load_json(run / "UNISAL.json")["image_domains"] == ["SALICON", "Game"]
    before, after = (read_state(path / "weights_best.pth") for path in (home / "runs/base", run))
    recurrent = [key for key in before if key.startswith(("rnn.", "post_rnn."))]
    assert recurrent
    assert all(torch.equal(before[key], after[key]) for key in recurrent)
    assert load_json(run / "films_eval_summary.json")["model_domain"] == "Game"
    assert call_command(*command, "--base=game_all_unisal", "--frame_by_frame=True") == 0
    own = ["--domain=Other", f"--data={home / 'mine'}", "--base=base", "--frame_by_frame=True"]
    assert call_command("finetune", *own) == 2
    assert "frame_by_frame is for films" in capsys.readouterr().err


# ---- which trainings ----------------------------------------------------------------------


def test_folds_leave_out_every_stimulus_once(home):
    parts = []
    for sub in fold_runs(3):
        both = [
            find_dataset(f"mine={home / 'mine'}")(phase, **sub.options)
            for phase in ("train", "valid")
        ]
        names = [{d.title(i) for i in range(len(d))} for d in both]
        assert not names[0] & names[1] and len(names[0] | names[1]) == 9
        parts += names[1]
    assert len(parts) == len(set(parts)) == 9


def test_a_curve_takes_halves_of_the_training_part(home):
    data = dataset(home)
    titles = {data.title(i) for i in range(len(data))}
    assert [run.n for run in curve_runs(data, None)] == [3]
    assert [run.name for run in curve_runs(data, [5, 2, 6])] == ["n2_1", "n2_2", "n5_1"]
    first, second, _ = (set(run.options["train_stimuli"]) for run in curve_runs(data, [2, 5]))
    assert first < titles and second < titles and first != second
    assert [run.epochs_factor for run in curve_runs(data, [2, 5])] == [2, 2, 1.2]
    train = find_dataset(f"mine={home / 'mine'}")("train", train_stimuli=tuple(first))
    assert {train.title(i) for i in range(len(train))} == first


def test_a_curve_over_people(home):
    runs = observer_runs(dataset(home), None)
    assert [(r.n, len(r.options["train_observers"])) for r in runs] == [(1, 1), (2, 2)]
    assert set(runs[0].options["train_observers"]) < set(runs[1].options["train_observers"])


@pytest.mark.parametrize(
    ("option", "said"),
    [
        ("--folds=1", "folds is 1"),
        ("--curve=1.5", "expected True or whole numbers"),
        ("--curve=100", "curve is 100"),
        ("--observers=0", "observers is 0"),
    ],
)
def test_mistakes_are_found_before_training(home, capsys, option, said):
    assert finetune(home, option) == 2
    assert said in capsys.readouterr().err
    assert not (home / "runs" / "mine_modules_unisal").exists()


def test_a_table_without_people_has_no_curve_over_them(home):
    path = home / "mine" / "fixations.csv"
    rows = [row.split(",") for row in path.read_text().splitlines()]
    path.write_text("\n".join(",".join([row[0], *row[2:4]]) for row in rows))
    with pytest.raises(UserError, match="does not tell people apart"):
        observer_runs(dataset(home), None)


def test_two_stimuli_make_no_curve(home):
    data = find_dataset(f"mine={home / 'mine'}")("train", train_stimuli=2)
    with pytest.raises(UserError, match="2 are too few"):
        curve_runs(data, None)


# ---- numbers ------------------------------------------------------------------------------


def outcome(n, values, titles="abcdefgh"):
    return Outcome(f"n{n}", n, 0, {"cc": values, "kld": values, "nss": values}, tuple(titles))


def test_intervals_are_over_stimuli_and_draws_are_averaged_first():
    rng = np.random.default_rng(0)
    values = rng.uniform(0.3, 0.7, (2, 8))
    mean, low, high = studies.mean_and_interval([outcome(4, row) for row in values], "cc")
    means = values.mean(axis=0)
    assert mean == pytest.approx(means.mean())
    error = means.std() / np.sqrt(8)
    assert low == pytest.approx(mean - 1.96 * error, abs=0.3 * error)
    assert high == pytest.approx(mean + 1.96 * error, abs=0.3 * error)


def test_the_conclusion_needs_a_gain_that_is_not_chance():
    values = np.linspace(0.3, 0.8, 8)
    steady = [outcome(4, values), outcome(8, values + 0.02)]
    assert "more stimuli would probably help" in conclusion(steady, "stimuli")
    noise = np.array([1, -1] * 4) * 0.1
    assert "cannot be told" in conclusion(
        [outcome(4, values), outcome(8, values + noise)], "stimuli"
    )


def test_the_chart_shows_the_points_where_they_belong():
    points = [CurvePoint(10, 0.5, 0.4, 0.6), CurvePoint(20, 0.6, 0.5, 0.7)]
    flat = [CurvePoint(p.n, 0.5, 0.4, 0.6) for p in points]
    rising, level = (
        draw_curve(Curve("data", "stimuli", "CC", p, 0.3, "before")) for p in (points, flat)
    )
    assert rising.shape == (HEIGHT, WIDTH, 3) and rising.dtype == np.uint8

    def height_of_the_line(picture, x):
        is_line = np.abs(picture[:, x].astype(int) - (31, 90, 160)).sum(axis=1) < 60
        return np.flatnonzero(is_line).mean()

    left, right = WIDTH // 3, WIDTH * 2 // 3
    assert height_of_the_line(rising, left) > height_of_the_line(rising, right) + 10
    assert height_of_the_line(level, left) == pytest.approx(height_of_the_line(level, right), abs=1)


def test_saved_outcomes_are_read_again(tmp_path):
    rows = studies.save_study(
        tmp_path, "folds", [outcome(1, [0.5] * 8), outcome(2, [0.7] * 8, "ijklmnop")]
    )
    assert [row["cc"] for row in rows] == pytest.approx([0.5, 0.7])
    saved = json.loads((tmp_path / "folds.json").read_text())
    assert Outcome(**saved["trainings"][1]).scores["cc"] == [0.7] * 8
