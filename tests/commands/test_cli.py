"""The command line as a user meets it: what it prints, its exit codes, and mistakes in one line."""

from __future__ import annotations

import inspect
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Optional

import pytest
from PIL import Image
from support import PROJECT, TINY, call_command, run_command, write_photo, write_run, write_salicon

from unisal.commands.cli import as_names, main, with_options_of
from unisal.commands.table import COMMANDS
from unisal.errors import SomeFailed, UserError
from unisal.train.config import TrainerConfig


@pytest.fixture
def call(capsys):
    """Return a function that runs a command line in this process and returns its exit code and
    what it wrote to stdout and stderr."""

    def run(*arguments, of=COMMANDS):
        code = call_command(*arguments, commands=of)
        return code, *capsys.readouterr()

    return run


@pytest.fixture
def runs(tmp_path, monkeypatch):
    """Return the folder of the runs, with the shipped one."""
    monkeypatch.setenv("TRAIN_DIR", str(tmp_path / "runs"))
    write_run(tmp_path / "runs" / "pretrained_unisal")
    return tmp_path / "runs"


@pytest.fixture
def pictures(tmp_path):
    """Return a folder with two pictures in `images/`."""
    for name in ("a.png", "b.jpg"):
        write_photo(tmp_path / "pictures" / "images" / name, (30, 40))
    return tmp_path / "pictures"


def names(folder):
    return sorted(p.name for p in folder.iterdir())


def assert_one_line(stderr, *words):
    assert stderr.endswith("\n")
    (line,) = stderr.splitlines()
    assert line.startswith("run.py: ")
    for word in words:
        assert word in line


# ---- lists and help -----------------------------------------------------------------------


@pytest.mark.parametrize("arguments", [[], ["--help"], ["-h"], ["help"]])
def test_the_commands_are_listed_with_one_line_each(call, arguments):
    code, out, err = call(*arguments)
    assert (code, err) == (0, "")
    listed = dict(re.findall(r"^  (\w+)  +(\S.*)$", out, re.MULTILINE))
    assert list(listed) == list(COMMANDS)
    for name, function in COMMANDS.items():
        assert listed[name] == inspect.getdoc(function).splitlines()[0]


def test_the_program_lists_its_commands():
    done = run_command()
    assert (done.returncode, done.stderr) == (0, "")
    assert all(f"  {name} " in done.stdout for name in COMMANDS)


@pytest.mark.parametrize("flag", ["--help", "-h"])
@pytest.mark.parametrize(
    "name", ["predict_examples", "predictions_from_folder", "train", "score_model"]
)
def test_help_names_every_option_and_runs_nothing(call, name, flag):
    code, out, err = call(name, "--device=nonsense", flag)
    assert (code, err) == (0, "")
    options = [
        p.name for p in inspect.signature(COMMANDS[name]).parameters.values() if p.name != "options"
    ]
    assert all(f"--{option}" in out for option in options)
    assert "usage: python run.py " + name in out


def test_the_help_of_train_describes_every_option_of_a_run(call):
    _, out, _ = call("train", "--help")
    undescribed = [f.name for f in fields(TrainerConfig) if not re.search(rf"\b{f.name}\b", out)]
    assert undescribed == []


# ---- values -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "typed",
    [
        ["--sources=A,B"],
        ["--sources", "A,B"],
        ["--sources=A, B"],
        ["--sources=('A','B')"],
        ['--sources=("A", "B")'],
        ["--sources=(A,B)"],
        ["--sources=['A','B']"],
        ["--sources=[A,B]"],
        ["A,B"],
    ],
    ids=" ".join,
)
def test_names_can_be_typed_in_many_ways(call, typed):
    seen = []

    def score(sources=None):
        seen.append(as_names(sources, "sources"))

    assert call(*["score", *typed], of={"score": score}) == (0, "", "")
    assert seen == [("A", "B")]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, ()),
        ("", ()),
        ("A", ("A",)),
        ("A,", ("A",)),
        ("A,B", ("A", "B")),
        (" A , B ", ("A", "B")),
        (("A", "B"), ("A", "B")),
        (["A "], ("A",)),
        ((), ()),
    ],
)
def test_as_names(value, expected):
    assert as_names(value, "sources") == expected


@pytest.mark.parametrize("value", [3, True, {"A": 1}, ("A", 3), [["A"]], 1.5])
def test_what_is_no_name_is_refused_with_the_options_name(value):
    with pytest.raises(UserError, match="eval_sources") as refused:
        as_names(value, "eval_sources")
    assert repr(value) in str(refused.value)


@pytest.mark.parametrize("typed", ["2024_05", "7", "1e3", "True"])
def test_a_folder_may_have_a_name_that_looks_like_a_number(
    call, runs, pictures, monkeypatch, typed
):
    # Python reads 2024_05 as the number 202405.
    shutil.move(pictures, pictures.parent / typed)
    shutil.copytree(runs / "pretrained_unisal", runs / typed)
    monkeypatch.chdir(pictures.parent)
    code, _, err = call("predictions_from_folder", typed, f"--train_id={typed}", "--device=cpu")
    assert (code, err) == (0, "")
    assert names(pictures.parent / typed / "saliency") == ["a.png", "b.jpg"]


@pytest.mark.usefixtures("runs")
@pytest.mark.parametrize("typed", ["--overlay=False", "--nooverlay", "--overlay=false"])
def test_a_switch_that_is_off_is_never_taken_as_on(call, pictures, typed):
    code, _, _ = call("predictions_from_folder", str(pictures), typed, "--device=cpu")
    assert code in (0, 2)  # understood or refused
    assert not (pictures / "overlay").exists()


# ---- how a command ends -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (UserError("folder x\n  does not exist"), 2, "run.py: folder x does not exist\n"),
        (SomeFailed("2 of 3 failed: a, b"), 1, "run.py: 2 of 3 failed: a, b\n"),
        (KeyboardInterrupt(), 130, "run.py: interrupted\n"),
    ],
    ids=["mistake", "some failed", "interrupted"],
)
def test_an_expected_end_is_one_line_and_an_exit_code(call, error, code, line):
    def fail():
        raise error

    assert call("fail", of={"fail": fail}) == (code, "", line)


@pytest.mark.parametrize("error", [RuntimeError, TypeError, ValueError])
def test_an_error_of_the_program_keeps_its_traceback(call, error):
    def fail():
        raise error("a bug")

    with pytest.raises(error, match="a bug"):
        call("fail", of={"fail": fail})


def test_options_reach_the_command_with_their_types(call):
    seen = []

    def command(name, number=1, **more):
        seen.append((name, number, more))

    arguments = ["command", "x", "--number=2.5", "--cfg={'a': [1, None]}", "--flag"]
    assert call(*arguments, of={"command": command}) == (0, "", "")
    assert seen == [("x", 2.5, {"cfg": {"a": [1, None]}, "flag": True})]


@dataclass(frozen=True)
class Options:
    """Options as those of a run.

    Options:
        prefix, suffix: texts.
        size: a number.
    """

    prefix: str | None = None
    suffix: str = "unisal"
    folder: Path | None = None
    debug: bool = False
    fast: bool | None = None
    size: float = 0.5
    cfg: Mapping[str, Any] = field(default_factory=dict)


@with_options_of(Options, ["old_size"])
def configured(name: str = "x", **options: Any) -> None:
    """Note what arrived.

    name: whose.
    """
    ARRIVED.append((name, options))


def annotated_with_types(name, **options):
    ARRIVED.append((name, options))


old_spelling = Optional[str]  # noqa: UP045
annotated_with_types.__annotations__ = {"name": old_spelling, "options": Any, "return": None}
annotated_with_types = with_options_of(Options, ["old_size"])(annotated_with_types)
annotated_with_types.__doc__ = "Note what arrived."
ARRIVED: list[Any] = []


@pytest.mark.parametrize("function", [configured, annotated_with_types])
@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        ("--prefix=2024_05", {"prefix": "2024_05"}),
        ("--prefix=None", {"prefix": None}),
        ("--suffix=1e3", {"suffix": "1e3"}),
        ("--suffix=None", {"suffix": "None"}),
        ("--folder=2024_05", {"folder": Path("2024_05")}),
        ("--folder=None", {"folder": None}),
        ("--debug=no", {"debug": False}),
        ("--debug=YES", {"debug": True}),
        ("--debug", {"debug": True}),
        ("--nodebug", {"debug": False}),
        ("--fast=0", {"fast": False}),
        ("--fast=None", {"fast": None}),
        ("--size=1e3", {"size": 1000.0}),
        ("--old_size=3", {"old_size": 3}),
        ("--cfg={'a': [1]}", {"cfg": {"a": [1]}}),
        ("--name=007", {}),
    ],
)
def test_options_of_a_dataclass_are_read_by_their_types(call, function, typed, expected):
    ARRIVED.clear()
    code, out, err = call("configured", "--name=7", typed, of={"configured": function})
    assert (code, out, err) == (0, "", "")
    name = "007" if typed == "--name=007" else "7"
    # What was not typed is not handed on: the class has the defaults, a resumed run its own.
    (arrived,) = ARRIVED
    assert arrived == (name, expected)


@pytest.mark.parametrize("option", ["debug", "fast"])
def test_a_switch_that_is_neither_on_nor_off_is_refused(call, option):
    code, _, err = call("configured", f"--{option}=perhaps", of={"configured": configured})
    assert code == 2
    assert_one_line(err, f"{option} is 'perhaps'", "True or False")


@pytest.mark.parametrize(
    ("typed", "words"),
    [
        ("--sufix=a", ["configured has no option 'sufix'", "'suffix'"]),
        ("--progress=1", ["configured has no option 'progress'", "prefix, suffix"]),
    ],
)
def test_an_option_that_no_field_has_is_refused(call, typed, words):
    ARRIVED.clear()
    code, out, err = call("configured", typed, of={"configured": configured})
    assert (code, out, ARRIVED) == (2, "", [])
    assert_one_line(err, *words)


def test_options_of_a_dataclass_are_listed_with_their_defaults(call):
    _, out, _ = call("configured", "--help", of={"configured": configured})
    usage, *listed = out.split("\n\n")[0].splitlines()
    assert usage == "usage: python run.py configured [--option=value ...]"
    assert listed == [
        "  --name='x'",
        "  --prefix=None",
        "  --suffix='unisal'",
        "  --folder=None",
        "  --debug=False",
        "  --fast=None",
        "  --size=0.5",
        "  --cfg={}",
        "  --old_size=None",
    ]
    assert "Note what arrived." in out and "    prefix, suffix: texts." in out


def test_the_program_is_named_as_it_was_typed(capsys):
    for program, name in (("unisal", "unisal"), ("python -m unisal", "unisal")):
        assert main({"configured": configured}, ["configured", "--debug=x"], program) == 2
        assert capsys.readouterr().err.startswith(f"{name}: debug is")
        assert main({"configured": configured}, [], program) == 0
        assert capsys.readouterr().out.startswith(f"usage: {program} COMMAND ")


MISTAKES = [
    (["nope"], ["'nope'", "predict_examples", "train"]),
    (["--bogus=1"], ["--bogus"]),
    (["predictions_from_folder"], ["folder_path"]),
    (["predictions_from_folder", "x", "--bogus=1"], ["--bogus=1"]),
    (["predictions_from_folder", "x", "--folder=1"], ["--folder=1"]),
    (["predictions_from_folder", *"abcdefghi"], ["i"]),
    (["predict_examples", "run"], ["run"]),
    (["predict_examples", "--", "--bogus"], ["--bogus"]),
    (["predict_examples", "--", "--completion"], ["--completion"]),
    (["predict_examples", "--examples_dir=no_such_folder"], ["no_such_folder", "does not exist"]),
    (["predictions_from_folder", "no_such_folder"], ["no_such_folder", "does not exist"]),
    (["predictions_from_folder", "PICTURES", "--is_video", "--source=NOPE"], ["'NOPE'", "DHF1K"]),
    (["predictions_from_folder", "PICTURES", "--is_video", "--smooth_method=x"], ["'x'", "medK"]),
    (["predictions_from_folder", "PICTURES", "--smooth_method=med3"], ["is_video"]),
    (["predictions_from_folder", "PICTURES", "--source=NOPE"], ["'NOPE'", "SALICON", "MIT1003"]),
    (["predictions_from_folder", "PICTURES", "--train_id=nope"], ["'nope'", "pretrained_unisal"]),
    (["predictions_from_folder", "PICTURES", "--device=nope"], ["'nope'"]),
    (["score_model", "nope"], ["'nope'", "pretrained_unisal"]),
    (["score_model", "--sources=SALICON,NOPE"], ["SALICON_DATA_DIR"]),
    (["score_model", "--sources=NOPE"], ["NOPE", "SALICON"]),
    (["score_model", "--sources=3"], ["sources", "3"]),
    (["train", "--bogus=1"], ["bogus"]),
    (["train", "--num_epoch=1"], ["num_epoch", "num_epochs"]),
    (["train", "3", "4"], ["eval_sources is 3"]),
    (["train", "--lr=fast", "--data_sources=SALICON"], ["lr", "'fast'"]),
]


@pytest.mark.usefixtures("runs")
@pytest.mark.parametrize(("arguments", "words"), MISTAKES, ids=lambda value: " ".join(value))
def test_a_mistake_is_one_line_and_exit_code_2(
    call, pictures, monkeypatch, tmp_path, arguments, words
):
    # The folder that is not there is the same wherever the tests run.
    monkeypatch.setenv("SALICON_DATA_DIR", str(tmp_path / "no_data"))
    arguments = [str(pictures) if a == "PICTURES" else a for a in arguments]
    before = sorted(tmp_path.rglob("*"))
    code, out, err = call(*arguments)
    assert (code, out) == (2, "")
    assert_one_line(err, *words)
    assert sorted(tmp_path.rglob("*")) == before


# ---- as processes -------------------------------------------------------------------------
@pytest.mark.slow
def test_options_of_a_run_are_read_by_their_types(tmp_path):
    for part in ("train", "val"):
        write_salicon(tmp_path / "data", part, n=2)
    env = {"TRAIN_DIR": str(tmp_path / "runs"), "SALICON_DATA_DIR": str(tmp_path / "data")}
    done = run_command(
        "train",
        "--data_sources=SALICON",
        "--prefix=2024_05",
        "--suffix=1e3",
        "--debug=no",
        "--tboard=no",
        "--num_epochs=1",
        "--num_workers=0",
        "--device=cpu",
        "--salicon_cfg={'out_size': [64, 96]}",
        f"--model_cfg={TINY}",
        env=env,
    )
    assert done.returncode == 0, done.stderr
    kept = json.loads((tmp_path / "runs" / "2024_05_1e3" / "Trainer.json").read_text())
    assert (kept["prefix"], kept["suffix"], kept["debug"]) == ("2024_05", "1e3", False)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "has_data", "words"),
    [
        (["--bogus=1"], True, ["bogus", "num_epochs"]),
        (["--data_sources=NOPE"], True, ["data_sources", "NOPE", "SALICON"]),
        (["--data_sources=SALICON"], False, ["does not exist", "SALICON_DATA_DIR"]),
        (
            [
                "--data_sources=SALICON",
                "--eval_sources=NOPE",
                "--model_cfg={'cnn_cfg': {'pretrained': False}}",
            ],
            True,
            ["NOPE", "SALICON"],
        ),
    ],
    ids=["unknown option", "unknown data", "missing data", "unknown data to score"],
)
def test_a_mistake_in_train_is_found_before_anything_is_written(tmp_path, options, has_data, words):
    if has_data:
        for part in ("train", "val"):
            write_salicon(tmp_path / "data", part, n=2)
    env = {"TRAIN_DIR": str(tmp_path / "runs"), "SALICON_DATA_DIR": str(tmp_path / "data")}
    before = sorted(tmp_path.rglob("*"))
    done = run_command("train", *options, env=env)
    assert (done.returncode, done.stdout) == (2, "")
    assert_one_line(done.stderr, *words)
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.usefixtures("runs")
def test_examples_as_a_process(tmp_path):
    write_photo(tmp_path / "examples" / "SALICON" / "images" / "a.png", (30, 40))
    done = run_command("predict_examples", f"--examples_dir={tmp_path / 'examples'}")
    assert (done.returncode, done.stderr) == (0, "")
    folder = tmp_path / "examples" / "SALICON"
    assert names(folder) == ["images", "overlay", "saliency"]
    assert str(folder / "saliency") in done.stdout and str(folder / "overlay") in done.stdout
    for kind, mode in (("saliency", "L"), ("overlay", "RGB")):
        written = Image.open(folder / kind / "a.png")
        assert (written.size, written.mode) == ((40, 30), mode)


@pytest.mark.usefixtures("runs")
def test_a_video_as_a_process(tmp_path):
    folder = tmp_path / "video"
    for i in range(7):
        write_photo(folder / "images" / f"{i}.png", (30, 40), seed=i)
    command = "predictions_from_folder", str(folder), "--is_video=True"
    done = run_command(*command, "--overlay", "--smooth_method=med3", "--source=UCFSports")
    assert (done.returncode, done.stderr) == (0, "")
    assert "7 saliency maps" in done.stdout and str(folder / "overlay") in done.stdout
    for kind, mode in (("saliency", "L"), ("overlay", "RGB")):
        assert names(folder / kind) == names(folder / "images")
        written = Image.open(folder / kind / "6.png")
        assert (written.size, written.mode) == ((40, 30), mode)

    shutil.rmtree(folder / "saliency")
    write_photo(folder / "images" / "5.png", (30, 41))
    done = run_command(*command)
    assert (done.returncode, done.stdout) == (2, "")
    assert_one_line(done.stderr, "5.png", "30 x 41", "30 x 40")
    assert not (folder / "saliency").exists()


@pytest.mark.usefixtures("runs")
def test_a_bad_example_video_as_a_process(tmp_path):
    for name in ("bad", "good"):
        write_photo(tmp_path / "DHF1K" / name / "images" / "1.png", (30, 40))
    (tmp_path / "DHF1K" / "bad" / "images" / "2.png").write_text("no picture")
    done = run_command("predict_examples", f"--examples_dir={tmp_path}", "--overlay=False")
    assert done.returncode == 1
    assert_one_line(done.stderr, "bad", "2.png")
    assert names(tmp_path / "DHF1K" / "good" / "saliency") == ["1.png"]


@pytest.mark.usefixtures("runs")
def test_a_bad_picture_as_a_process(pictures):
    (pictures / "images" / "bad.png").write_text("no picture")
    done = run_command("predictions_from_folder", str(pictures))
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "bad.png" in done.stderr.splitlines()[-1]
    assert "a.png" not in done.stderr
    assert names(pictures / "saliency") == ["a.png", "b.jpg"]


def test_an_unknown_run_as_a_process(pictures, runs):
    shutil.copytree(runs / "pretrained_unisal", runs / "mine")
    done = run_command("predictions_from_folder", str(pictures), "--train_id=nope")
    assert (done.returncode, done.stdout) == (2, "")
    assert_one_line(done.stderr, "'nope'", "there are: mine, pretrained_unisal")
    assert names(pictures) == ["images"]


def wait_for(condition, seconds=120):
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "it did not happen"
        time.sleep(0.002)


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="signals are those of POSIX")
def test_an_interrupted_folder_can_be_repeated(call, runs, tmp_path):
    folder = tmp_path / "many"
    write_photo(folder / "images" / "000.png", (20, 30))
    for i in range(1, 60):
        shutil.copy(folder / "images" / "000.png", folder / "images" / f"{i:03d}.png")
    maps = folder / "saliency"
    process = subprocess.Popen(
        [sys.executable, str(PROJECT / "run.py"), "predictions_from_folder", str(folder)],
        env={**os.environ, "TRAIN_DIR": str(runs)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # A shell that runs the tests in the background makes their children ignore SIGINT.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    try:
        wait_for(lambda: (maps / "000.png").exists() or process.poll() is not None)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 130
    assert_one_line(err, "interrupted")
    left = names(maps)
    assert 0 < len(left) < 60
    assert left == names(folder / "images")[: len(left)]  # and no temporary file
    for name in left:
        Image.open(maps / name).load()  # each is whole

    code, _, err = call("predictions_from_folder", str(folder))
    assert (code, err) == (0, "")
    assert names(maps) == names(folder / "images")
