"""Configurations: where things lie, which options are accepted, and JSON on disk."""

from __future__ import annotations

import inspect
import json
from pathlib import Path

import numpy as np
import pytest
from support import PROJECT

from unisal import config
from unisal.errors import UserError


class Example:
    """A class that is configured as the network, the trainer and the datasets are."""

    @config.keeps_arguments
    def __init__(self, size=(1, 2), name="a", deep=True):
        self.seen = dict(self.config)


@pytest.fixture
def package(monkeypatch, tmp_path):
    """Return the folder of the package as it is when installed: with the shipped run in it. The
    working directory is `here` beside it."""
    shipped = tmp_path / "site-packages" / "unisal" / "pretrained_unisal"
    shipped.mkdir(parents=True)
    for name in ("weights_best.pth", "UNISAL.json"):
        (shipped / name).write_text(f"shipped {name}")
    (shipped.parent.parent / "run.py").touch()  # of another package
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setattr(config, "PACKAGE_DIR", shipped.parent)
    return shipped.parent


@pytest.mark.usefixtures("package")
def test_folders_lie_in_the_working_directory_of_an_installed_package(tmp_path):
    here = tmp_path / "here"
    assert config.checkout_dir() is None
    assert config.train_dir() == here / "training_runs"
    assert config.pred_dir() == here / "predictions"
    assert config.data_dir("SALICON_DATA_DIR", "SALICON") == here / "data" / "SALICON"
    with pytest.raises(UserError, match=r"come with a checkout.*--examples_dir"):
        config.examples_dir()


def test_the_shipped_run_is_found_in_the_package_unless_there_is_another(package, tmp_path):
    for train_id in (None, "", "pretrained_unisal"):
        assert config.run_dir(train_id) == package / "pretrained_unisal"
    with pytest.raises(UserError, match=r"'mine'.*there are: pretrained_unisal$"):
        config.run_dir("mine")
    own = tmp_path / "here" / "training_runs" / "pretrained_unisal"
    own.mkdir(parents=True)
    assert config.run_dir(None) == own
    assert config.run_name(own) == config.run_name(package / "pretrained_unisal") == own.name


@pytest.mark.usefixtures("package")
def test_only_a_copy_of_the_shipped_run_is_written_to(tmp_path):
    copy = config.writable_run_dir(None)
    assert copy == tmp_path / "here" / "training_runs" / "pretrained_unisal"
    assert sorted(p.name for p in copy.iterdir()) == ["UNISAL.json", "weights_best.pth"]
    (copy / "scores.json").touch()
    assert config.writable_run_dir(None) == config.run_dir(None) == copy
    assert (copy / "scores.json").exists()
    assert [p.name for p in copy.parent.iterdir()] == ["pretrained_unisal"]
    (copy.parent / "mine").mkdir()
    assert config.writable_run_dir("mine") == copy.parent / "mine"


@pytest.mark.usefixtures("package")
def test_a_copy_that_cannot_be_made_is_an_error_with_advice(monkeypatch, tmp_path):
    (tmp_path / "file").touch()
    monkeypatch.setenv("TRAIN_DIR", str(tmp_path / "file" / "runs"))
    with pytest.raises(UserError, match=r"cannot be copied.*TRAIN_DIR"):
        config.writable_run_dir(None)


def test_folders_lie_beside_run_py_by_default():
    assert config.checkout_dir() == PROJECT
    assert config.pred_dir() == PROJECT / "predictions"
    assert config.train_dir() == PROJECT / "training_runs"
    assert config.examples_dir() == PROJECT / "examples"
    assert config.data_dir("SALICON_DATA_DIR", "SALICON") == PROJECT / "data" / "SALICON"


def test_variables_are_read_when_used(monkeypatch, tmp_path):
    monkeypatch.setenv("TRAIN_DIR", str(tmp_path / "runs"))
    monkeypatch.setenv("SALICON_DATA_DIR", str(tmp_path / "salicon"))
    assert config.train_dir() == tmp_path / "runs"
    assert config.data_dir("SALICON_DATA_DIR", "SALICON") == tmp_path / "salicon"
    # An empty variable is how a shell says "not set".
    monkeypatch.setenv("TRAIN_DIR", "")
    assert config.train_dir() == PROJECT / "training_runs"


@pytest.mark.parametrize(
    ("train_id", "name"),
    [("mine", "mine"), (None, "pretrained_unisal"), (7, "7"), (0, "0")],
    ids=repr,
)
def test_a_train_id_is_the_name_of_a_folder(monkeypatch, tmp_path, train_id, name):
    # Numbers: the command line turns --train_id=0 into one.
    monkeypatch.setenv("TRAIN_DIR", str(tmp_path))
    for folder in ("mine", "pretrained_unisal", "7", "0"):
        (tmp_path / folder).mkdir()
    assert config.run_dir(train_id) == tmp_path / name


def test_an_unknown_train_id_lists_those_that_exist(monkeypatch, tmp_path):
    monkeypatch.setenv("TRAIN_DIR", str(tmp_path))
    for folder in ("second", "first"):
        (tmp_path / folder).mkdir()
    (tmp_path / "notes.txt").touch()
    with pytest.raises(UserError, match=r"'third'.*there are: first, second$"):
        config.run_dir("third")


@pytest.mark.parametrize("exists", [True, False])
def test_without_any_run_the_message_says_so(monkeypatch, tmp_path, exists):
    monkeypatch.setenv("TRAIN_DIR", str(tmp_path if exists else tmp_path / "none"))
    with pytest.raises(UserError, match="there is no run yet"):
        config.run_dir("mine")


def test_arguments_are_kept_as_given():
    assert Example(name="b").config == {"size": (1, 2), "name": "b", "deep": True}


def test_arguments_are_kept_by_name_before_the_constructor_runs():
    example = Example((3, 4), deep=False)
    assert example.config == example.seen == {"size": (3, 4), "name": "a", "deep": False}
    assert list(example.config) == ["size", "name", "deep"]


def test_a_wrong_argument_is_refused_as_ever():
    with pytest.raises(TypeError, match="nam"):
        Example(nam="b")


def test_a_derived_class_keeps_its_own_arguments():
    class Derived(Example):
        @config.keeps_arguments
        def __init__(self, name="b", extra=1):
            super().__init__(name=name)

    class Plain(Example):
        def __init__(self):
            super().__init__(name="c")

    assert Derived(extra=2).config == {"name": "b", "extra": 2}
    assert Plain().config == {"size": (1, 2), "name": "c", "deep": True}


def test_the_signature_of_a_constructor_that_keeps_its_arguments_is_seen():
    assert list(inspect.signature(Example).parameters) == ["size", "name", "deep"]


def test_accept_turns_lists_into_tuples_at_every_depth_and_leaves_the_rest():
    given = {"a": [1, [2, [3]]], "b": {"c": [4]}, "d": None, "e": "text", "old": 1}
    accepted = config.accept(given, "abde", "it", ignored=["old"])
    assert accepted == {"a": (1, (2, (3,))), "b": {"c": [4]}, "d": None, "e": "text"}
    assert given["a"] == [1, [2, [3]]]
    assert config.accept(None, "ab", "it") == {}


@pytest.mark.parametrize(
    ("key", "hint"),
    [("nam", "did you mean 'name'"), ("xyz", "known are size, name, deep")],
)
def test_an_unknown_option_is_named_with_what_may_be_meant(key, hint):
    with pytest.raises(UserError, match=f"Example has no option '{key}'; {hint}"):
        config.build(Example, {key: 1})


def test_build_lets_overrides_win():
    built = config.build(Example, {"size": [3, 4], "name": "given"}, name="override")
    assert built.config == {"size": (3, 4), "name": "override", "deep": True}


def test_a_saved_configuration_builds_the_same_again(tmp_path):
    path = tmp_path / "new" / "Example.json"
    first = Example(size=((1, 2), 3), name="ä")
    config.save_json(path, first.config)
    assert config.build(Example, config.load_json(path)).config == first.config
    assert [p.name for p in path.parent.iterdir()] == ["Example.json"]


def test_a_configuration_that_cannot_be_written_leaves_the_old_one(tmp_path):
    path = tmp_path / "Example.json"
    config.save_json(path, {"old": 1})
    with pytest.raises(TypeError):
        config.save_json(path, {"new": object()})
    assert json.loads(path.read_text()) == {"old": 1}


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, "is missing"),
        ("{", "cannot be read as JSON"),
        ("[1]", "holds a list"),
        (b"\xff", ""),
        ("[" * 100_000, "cannot be read as JSON"),
    ],
    ids=["missing", "cut off", "no object", "no text", "nested"],
)
def test_a_bad_configuration_file_is_named(tmp_path, content, reason):
    path = tmp_path / "UNISAL.json"
    if content is not None:
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    with pytest.raises(UserError, match=f"UNISAL.json {reason}"):
        config.load_json(path)


def test_a_folder_in_place_of_a_configuration_is_named(tmp_path):
    with pytest.raises(UserError, match=Path(tmp_path).name):
        config.load_json(tmp_path)


# ---- numbers of NumPy, and files of other programs ------------------------------------------


def test_json_with_a_byte_order_mark_is_read(tmp_path):
    path = tmp_path / "a.json"
    path.write_bytes(b"\xef\xbb\xbf" + json.dumps({"name": "ü"}, ensure_ascii=False).encode())
    assert config.load_json(path) == {"name": "ü"}
    path.write_text('{"name": "ü"}', encoding="utf-8")
    assert config.load_json(path) == {"name": "ü"}


def test_numbers_of_numpy_are_saved_as_numbers(tmp_path):
    values = {"n": np.int64(3), "x": np.float32(0.5), "on": np.bool_(True), "sizes": np.arange(2)}
    config.save_json(tmp_path / "a.json", values)
    assert config.load_json(tmp_path / "a.json") == {"n": 3, "x": 0.5, "on": True, "sizes": [0, 1]}
    with pytest.raises(TypeError, match="object"):
        config.save_json(tmp_path / "b.json", {"x": object()})
    assert not (tmp_path / "b.json").exists()


def test_numbers_of_numpy_become_those_of_python_in_options():
    given = {"n": np.int64(3), "x": np.float32(0.5), "on": np.bool_(True), "sizes": np.arange(2)}
    found = config.accept(given, given, "Example")
    assert found == {"n": 3, "x": 0.5, "on": True, "sizes": (0, 1)}
    assert [type(v) for v in found.values()] == [int, float, bool, tuple]
