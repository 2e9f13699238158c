"""The commands on folders of gaze data: checked, trained on, scored, predicted, drawn."""

from __future__ import annotations

import json

import cv2
import numpy as np
import pytest
from gaze_folders import write_film, write_gaze, write_table
from PIL import Image
from support import TINY, call_command, run_command, write_photo, write_run, write_salicon

from unisal.config import load_json
from unisal.data import find_dataset
from unisal.data.gaze import gaze_source
from unisal.errors import UserError
from unisal.train import Trainer
from unisal.train.config import TrainerConfig
from unisal.train.sources import batch_size, saved_options

SIZES = {f"{i}.jpg": [(60, 80), (80, 60)][i % 2] for i in range(6)}


@pytest.fixture
def home(tmp_path, monkeypatch):
    """Return a folder with gaze data, `crowd`, in which commands run."""
    for variable, folder in (("TRAIN_DIR", "runs"), ("PRED_DIR", "predictions")):
        monkeypatch.setenv(variable, str(tmp_path / folder))
    monkeypatch.chdir(tmp_path)
    write_gaze(tmp_path / "crowd", SIZES, n_fixations=3)
    (tmp_path / "crowd" / "gaze.json").write_text('{"blur_pixels": 5}')
    return tmp_path


def options(**changes):
    given = {"data_sources": ("crowd=crowd",), "num_epochs": 1, "num_workers": 0, "device": "cpu"}
    return {**given, "tboard": False, "model_cfg": TINY, "prefix": "t", **changes}


def small(spec):
    """Let a source be read so small that a test can train on it."""
    return {spec: {"input_size": (64, 96)}}


# ---- check_data -----------------------------------------------------------------------------
def test_check_data_counts_and_draws(home, capsys):
    with (home / "crowd" / "fixations.csv").open("a") as file:
        file.write("1.jpg,p1,500,3,0,100\n9.jpg,p1,5,3,0,100\n")
    before = {p: p.stat().st_mtime_ns for p in (home / "crowd").rglob("*")}
    assert call_command("check_data", "--data=crowd", "--out=pages/page.png", "--n=2") == 0
    said = capsys.readouterr().out
    for line in (
        "54 fixations of 3 people on 6 of 6 pictures",
        "54 of 56 rows are used",
        "dropped: 1 of unknown stimuli",
        "dropped: 1 off the stimulus",
        "parts: train 5, val 1, all 6",
        "a page of examples: pages/page.png",
        "no problems",
    ):
        assert line in said
    page = Image.open(home / "pages" / "page.png")
    assert page.width > 3 * 200
    assert {p: p.stat().st_mtime_ns for p in (home / "crowd").rglob("*")} == before


def test_the_page_shows_where_people_looked(home):
    write_photo(home / "one" / "stimuli" / "a.png", (120, 160))
    Image.new("RGB", (160, 120), (60, 60, 60)).save(home / "one" / "stimuli" / "a.png")
    write_table(home / "one" / "gaze.csv", ("stimulus", "x", "y"), [("a", 40, 90)] * 3)
    assert call_command("check_data", "--data=one", "--quick=True") == 0
    page = cv2.imread(str(home / "one_examples.png")).astype(int)
    grey = np.abs(page - 60).max(axis=2) < 3
    rows = np.flatnonzero(grey.mean(axis=1) > 0.5)
    columns = np.flatnonzero(grey.mean(axis=0) > 0.5)
    panels = np.split(columns, np.flatnonzero(np.diff(columns) > 1) + 1)
    panels = [p for p in panels if len(p) > 100]
    places = []
    for panel in panels[1:]:
        changed = ~grey[rows[0] : rows[-1] + 1, panel[0] : panel[-1] + 1]
        y, x = np.argwhere(changed).mean(axis=0) / changed.shape
        places.append((x, y))
    assert len(panels) == 3
    for place in places:
        assert place == pytest.approx((40.5 / 160, 90.5 / 120), abs=0.01)


def test_check_data_names_damaged_stimuli(home, capsys):
    path = home / "crowd" / "stimuli" / "3.jpg"
    path.write_bytes(path.read_bytes()[:900])
    assert call_command("check_data", "--data=crowd", "--out=p.png", "--n=1") == 1
    captured = capsys.readouterr()
    assert "3.jpg" in captured.out
    assert "problems in crowd" in captured.err


def test_check_data_decodes_films(home, capsys):
    write_film(home / "films" / "one.mp4", 12)
    write_table(
        home / "films" / "g.csv", ("film", "frame", "x", "y"), [("one", k, 5, 5) for k in range(12)]
    )
    assert call_command("check_data", "--data=films") == 0
    assert "12 fixations on 1 of 1 films" in capsys.readouterr().out
    assert (home / "films_examples.png").is_file()
    path = home / "films" / "one.mp4"
    path.write_bytes(path.read_bytes()[:-400])
    code = call_command("check_data", "--data=films")
    said = capsys.readouterr()
    assert code in (1, 2)
    assert "one.mp4" in said.out + said.err


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        (("--data=nowhere",), "nowhere does not exist"),
        (("--data=crowd", "--out=page.txt"), "page.txt"),
        (("--data=crowd", "--out=crowd/gaze.json/page.png"), "page.png"),
        (("--data=crowd", "--n=0"), "n is 0"),
        (("--data=SALICON=crowd",), "name of another data set"),
        (("--data=crowd/stimuli",), "holds no table of gaze"),
    ],
)
@pytest.mark.usefixtures("home")
def test_mistakes_are_one_line(capsys, typed, said):
    assert call_command("check_data", *typed) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert said in line


# ---- training -------------------------------------------------------------------------------
def test_sources_of_a_run_are_told_apart_by_their_names(home):
    cfg = TrainerConfig.from_dict(
        {
            "data_sources": "SALICON,crowd=crowd",
            "batch_sizes": {"crowd": 3},
            "salicon_batch_size": 5,
        }
    )
    assert batch_size(cfg, "crowd") == 3
    assert batch_size(cfg, "SALICON") == 5
    assert saved_options(cfg)["data_sources"] == ["SALICON", f"crowd={home / 'crowd'}"]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"data_sources": ("crowd=crowd", "crowd=other")}, "another name"),
        ({"data_sources": ("crowd=nowhere",)}, "nowhere does not exist"),
        ({"batch_sizes": {"mob": 2}}, "batch_sizes: mob cannot be trained on"),
        ({"dataset_options": {"crowd": {"sise": 2}}}, "no option 'sise'"),
        ({"dataset_options": {"crowd": {"gaze": {"units": "miles"}}}}, "units is 'miles'"),
    ],
)
def test_mistakes_are_found_before_training(home, changes, said):
    with pytest.raises(UserError, match=said):
        Trainer(**options(**changes))
    assert not (home / "runs").exists()


@pytest.mark.slow
def test_a_run_keeps_what_it_was_trained_on(home, capsys, monkeypatch):
    monkeypatch.setenv("SALICON_DATA_DIR", str(home / "SALICON"))
    for part in ("train", "val"):
        write_salicon(home / "SALICON", part, n=2)
    changes = {"dataset_options": small("crowd") | small("SALICON"), "batch_sizes": {"SALICON": 2}}
    trainer = Trainer(**options(data_sources=("SALICON", "crowd=crowd"), **changes))
    trainer.fit()
    folder = home / "runs" / "t_unisal"
    scalars = load_json(folder / "all_scalars.json")
    assert {"crowd/loss/train", "crowd/loss/valid", "salicon/loss/train"} <= scalars.keys()
    kept = load_json(folder / "crowdDataset.json")
    assert kept["fingerprint"] == find_dataset("crowd=crowd").read().fingerprint_hash()
    assert "fixations.csv" in load_json(folder / "crowd_data.json")["files"]
    assert Trainer.resume("t_unisal").epoch == 1
    for changed, text in (("fixations.csv", b"0.jpg,p1,3,3,0,9\n"), ("gaze.json", b" ")):
        path = home / "crowd" / changed
        before = path.read_bytes()
        path.write_bytes(before + text)
        assert call_command("train", "--resume=t_unisal") == 2
        assert f"trained on other data than {home / 'crowd'} holds now: {changed} changed" in (
            capsys.readouterr().err
        )
        path.write_bytes(before)
    assert Trainer.resume("t_unisal").epoch == 1
    write_photo(home / "crowd" / "stimuli" / "0.jpg", (60, 80), seed=77)
    assert call_command("train", "--resume=t_unisal") == 2
    assert "stimuli/0.jpg changed" in capsys.readouterr().err


@pytest.mark.slow
def test_train_and_score_as_typed(home):
    network = repr(TINY)
    done = run_command(
        "train",
        f"--data={home / 'crowd'}",
        "--prefix=typed",
        "--num_epochs=1",
        "--num_workers=1",
        "--tboard=False",
        "--device=cpu",
        f"--model_cfg={network}",
        "--dataset_options={'crowd': {'input_size': (64, 96)}}",
    )
    assert done.returncode == 0, done.stderr
    assert "crowd: 1 images" in done.stdout
    folder = home / "runs" / "typed_unisal"
    assert load_json(folder / "Trainer.json")["data_sources"] == [f"crowd={home / 'crowd'}"]
    scored = json.loads((folder / "crowd_eval_summary.json").read_text())
    assert scored["source"] == "crowd"
    assert scored["model_domain"] == "SALICON"


# ---- scores, predictions, drawings ----------------------------------------------------------
@pytest.fixture
def run(home):
    write_run(home / "runs" / "mine", sources=("DHF1K", "SALICON"))
    return home


def test_a_run_is_scored_on_it(run, capsys):
    typed = ("--train_id=mine", "--data=crowd", "--metrics=kld,nss,ig", "--baselines=True")
    assert call_command("score_model", *typed, "--report=True", "--device=cpu") == 0
    said = capsys.readouterr().out
    assert "crowd: 54 of 54 rows are used" in said
    assert "crowd: 1 images" in said
    assert "half of the observers" in said
    scores = load_json(run / "runs" / "mine" / "crowd_eval_summary.json")
    assert scores["videos"] == [gaze_source("crowd", run / "crowd")(phase="eval").title(0)]
    assert (run / "runs" / "mine" / "report.html").is_file()


def test_films_are_scored_where_someone_looked(run, capsys):
    for name in ("one", "two"):
        write_film(run / "films" / f"{name}.mp4", 8, size=(32, 64))
    rows = [(name, k, 5 + k, 9) for name in ("one", "two") for k in (2, 3, 4)]
    write_table(run / "films" / "g.csv", ("film", "frame", "x", "y"), rows)
    (run / "films" / "splits.json").write_text('{"train": ["one"], "val": ["two"]}')
    call = ("--train_id=mine", "--data=films", "--metrics=kld,nss,cc", "--device=cpu")
    assert call_command("score_model", *call, "--baselines=True", "--report=True") == 0
    (scores,) = json.loads((run / "runs" / "mine" / "films_eval_scores.json").read_text())
    assert np.isfinite(np.array(scores, dtype=float)).all(axis=-1).sum() in (1, 3)
    assert "undefined, left out        5        5        5" in capsys.readouterr().out


def test_predictions_of_all_stimuli_or_of_a_part(run):
    assert (
        call_command("generate_predictions", "--train_id=mine", "--data=crowd", "--device=cpu") == 0
    )
    folder = run / "predictions" / "mine" / "crowd"
    assert sorted(p.name for p in folder.iterdir()) == [f"{i}.png" for i in range(6)]
    assert Image.open(folder / "1.png").size == SIZES["1.jpg"][::-1]
    typed = ("--train_id=mine", "--data=c=crowd", "--phase=eval", "--device=cpu")
    assert call_command("generate_predictions", *typed) == 0
    assert len(list((run / "predictions" / "mine" / "c").iterdir())) == 1


def test_examples_of_it_are_drawn(run, capsys):
    typed = ("--train_id=mine", "--data=crowd", "--contact_sheet=True", "--device=cpu")
    assert call_command("visualize_examples", *typed) == 0
    folder = run / "predictions" / "mine" / "crowd_viz_out"
    (name,) = load_json(run / "crowd" / "gaze.json") and [
        p.name for p in folder.iterdir() if p.stem != "contact_sheet_viz"
    ]
    assert name.endswith("_viz.jpg")
    assert str(folder) in capsys.readouterr().out
    assert call_command("visualize_examples", "crowd", "--data=crowd") == 2
    assert call_command("visualize_examples") == 2
    assert "folder_path" in capsys.readouterr().err
