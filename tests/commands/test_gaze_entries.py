"""The option `gaze` of the commands: entries that replace those of a folder's `gaze.json`."""

from __future__ import annotations

import inspect
import json

import pytest
from gaze_folders import write_table
from support import TINY, call_command, write_photo, write_run

from unisal.commands.table import COMMANDS
from unisal.config import load_json
from unisal.data import find_dataset, name_data
from unisal.train import Trainer

COLUMNS = {"stimulus": "shown", "x": "rightwards", "y": "downwards"}
GAZE = {"columns": COLUMNS, "blur_pixels": 4}
FOR_FOLDERS = (
    *("check_data", "score_model", "generate_predictions", "visualize_examples"),
    *("train", "finetune", "calibrate", "quantize"),
)
TYPED = f"--gaze={GAZE}"


@pytest.fixture
def home(tmp_path, monkeypatch):
    """Return a folder with a table, `crowd`, whose columns nothing finds by itself."""
    for variable, folder in (("TRAIN_DIR", "runs"), ("PRED_DIR", "predictions")):
        monkeypatch.setenv(variable, str(tmp_path / folder))
    monkeypatch.chdir(tmp_path)
    names = [f"{i}.jpg" for i in range(5)]
    for i, name in enumerate(names):
        write_photo(tmp_path / "crowd" / "stimuli" / name, (64, 96), seed=i)
    rows = [(name, x, y) for name in names for x, y in ((10, 5), (80.4, 60))]
    write_table(tmp_path / "crowd" / "table.csv", tuple(COLUMNS.values()), rows)
    (tmp_path / "crowd" / "gaze.json").write_text('{"blur_pixels": 9, "domain": "SALICON"}')
    write_run(tmp_path / "runs" / "mine", sources=("SALICON",))
    return tmp_path


def test_a_source_holds_its_entries(home):
    spec = name_data("crowd", GAZE)
    assert spec == f"crowd={home / 'crowd'} {json.dumps(GAZE)}"
    assert name_data(spec) == spec
    assert name_data(spec, {"blur_pixels": 5}).endswith('"blur_pixels": 5}')
    cls = find_dataset(spec)
    assert cls is find_dataset(name_data("crowd", GAZE)) and cls.source == "crowd"
    assert cls.read().place.options.blur_pixels == 4
    assert cls.root() == home / "crowd"
    dataset = cls(phase="test")
    assert dataset.fixations(0).x.tolist() == pytest.approx([10, 80.4])
    assert dataset.config["gaze"] == cls.changes
    read_again = find_dataset(name_data("crowd", {"columns": COLUMNS})).from_options(dataset.config)
    assert read_again.blur(0) == (4, 4)
    assert find_dataset(name_data(spec, {"blur_pixels": 5}))(gaze=GAZE).blur(0) == (5, 5)


def test_a_path_may_look_like_entries(home):
    odd = home / 'a {"b"}'
    (home / "crowd").rename(odd)
    assert name_data(str(odd)) == f"a_b={odd}"
    assert name_data(str(odd), GAZE) == f"a_b={odd} {json.dumps(GAZE)}"
    assert len(find_dataset(name_data(str(odd), GAZE))(phase="test")) == 5


MISTAKES = [
    ("{'colums': {}}", "gaze has no option 'colums'; did you mean 'columns'?"),
    ("share", "gaze is 'share'; expected entries of gaze.json"),
    ("{'units': 'miles'}", "units is 'miles'; allowed are"),
    ("{'columns': {'z': 'a'}}", "columns in gaze.json has no option 'z'"),
    ("{'keep': {'a': {1}}}", "cannot be written as JSON"),
]


@pytest.mark.usefixtures("home")
@pytest.mark.parametrize("command", FOR_FOLDERS)
def test_mistakes_are_named(command, capsys):
    more = ["--domain=Own"] if command == "finetune" else []
    for typed, said in MISTAKES:
        assert call_command(command, "--data=crowd", f"--gaze={typed}", *more) == 2
        assert said in capsys.readouterr().err
    more = ["crowd"] if command == "visualize_examples" else more
    assert call_command(command, *more, "--gaze={'units': 'share'}") == 2
    assert "gaze" in capsys.readouterr().err


def test_every_command_that_takes_a_folder_takes_entries():
    options = {name: inspect.signature(command).parameters for name, command in COMMANDS.items()}
    for option in ("data", "gaze"):
        assert sorted(name for name in options if option in options[name]) == sorted(FOR_FOLDERS)


@pytest.mark.slow
def test_commands_read_the_folder_with_them(home, capsys):
    assert call_command("check_data", "--data=crowd") == 2
    assert "no columns with x and y are found" in capsys.readouterr().err
    assert call_command("check_data", "--data=crowd", TYPED, "--n=1") == 0
    assert "10 of 10 rows are used" in capsys.readouterr().out
    shared = ("--train_id=mine", "--data=crowd", TYPED, "--device=cpu")
    assert call_command("score_model", *shared, "--metrics=kld", "--by=none") == 0
    assert call_command("generate_predictions", *shared) == 0
    record = load_json(home / "predictions" / "mine" / "crowd.json")
    assert record["options"]["gaze"] == GAZE
    assert call_command("visualize_examples", *shared, "--n=1") == 0
    capsys.readouterr()
    assert call_command("score_model", "--train_id=mine", "--data=crowd") == 2


@pytest.mark.slow
def test_a_run_keeps_them(home, capsys):
    assert (
        call_command(
            "train",
            *("--data=crowd", TYPED, "--prefix=own", "--num_epochs=1", "--num_workers=0"),
            *("--tboard=False", "--device=cpu", f"--model_cfg={TINY}"),
            "--dataset_options={'crowd': {'input_size': (64, 96)}}",
        )
        == 0
    )
    run = home / "runs" / "own_unisal"
    assert load_json(run / "Trainer.json")["data_sources"] == [name_data("crowd", GAZE)]
    assert load_json(run / "crowdDataset.json")["gaze"] == GAZE
    dataset = Trainer.resume("own_unisal").datasets["valid"]["crowd"]
    assert dataset.blur(0) == (4, 4)
    assert call_command("train", "--resume=own_unisal", TYPED) == 2
    assert call_command("finetune", "--resume=own_unisal", "--data=crowd", TYPED) == 2
    assert "gaze cannot be changed" in capsys.readouterr().err
    # Without the option it is scored as it was trained on; with it, other entries come first.
    scored = run / "crowd_eval_summary.json"
    scores = {}
    for blur, words in ((4, []), (9, ["--gaze={'blur_pixels': 9}"])):
        words = ("--train_id=own_unisal", "--data=crowd", "--metrics=kld", "--device=cpu", *words)
        scored.unlink()
        assert call_command("score_model", *words, "--by=none") == 0
        scores[blur] = load_json(scored)["mean"]["kld"]
    assert scores[4] != scores[9]
