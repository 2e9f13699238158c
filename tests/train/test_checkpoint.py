"""Files of a run: what they hold, and that none is ever half-written."""

from __future__ import annotations

import os

import pytest
import torch
from torch import nn

from unisal.errors import UserError
from unisal.model.weights import read_state
from unisal.train import checkpoint, randomness


@pytest.fixture
def model():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))


def assert_state(found, model):
    expected = model.state_dict()
    assert list(found) == list(expected)
    assert all(torch.equal(found[k], v) for k, v in expected.items())


def names(folder):
    return sorted(p.name for p in folder.iterdir())


def test_weights_are_a_plain_state_dict(tmp_path, model):
    checkpoint.save_weights(tmp_path / "w.pth", model)
    assert_state(torch.load(tmp_path / "w.pth", weights_only=True), model)
    assert_state(read_state(tmp_path / "w.pth"), model)


def test_the_best_weights_come_with_their_epoch_and_loss(tmp_path, model):
    checkpoint.save_best(tmp_path / "new", model, 3, 0.12345678901234567)
    assert names(tmp_path / "new") == ["best_epoch.dat", "best_val_loss.dat", "weights_best.pth"]
    assert_state(read_state(tmp_path / "new" / "weights_best.pth"), model)
    assert (tmp_path / "new" / "best_epoch.dat").read_text() == "3\n"
    assert float((tmp_path / "new" / "best_val_loss.dat").read_text()) == 0.12345678901234567


@pytest.mark.parametrize(("epoch", "name"), [(0, "0000"), (7, "0007"), (12345, "12345")])
def test_checkpoints_are_named_by_their_epoch(tmp_path, epoch, name):
    assert checkpoint.epoch_file(tmp_path, epoch) == tmp_path / f"chkpnt_epoch{name}.pth"


def content_of(model, epoch, **more):
    state = {"model_state_dict": model.state_dict(), "optimizer_state_dict": {}}
    return {**state, "epoch": epoch, "best_epoch": None, **more}


def test_a_checkpoint_is_read_as_it_was_written(tmp_path, model):
    content = content_of(model, 3, all_scalars={"lr": {"0": 0.1}}, average_steps=7)
    checkpoint.save_checkpoint(tmp_path / "new" / checkpoint.LATEST_CHECKPOINT, content)
    assert names(tmp_path / "new") == [checkpoint.LATEST_CHECKPOINT]
    found = checkpoint.newest_checkpoint(tmp_path / "new")
    assert list(found) == list(content)
    assert_state(found.pop("model_state_dict"), model)
    assert found == {k: v for k, v in content.items() if k != "model_state_dict"}
    assert_state(
        read_state(tmp_path / "new" / checkpoint.LATEST_CHECKPOINT), model
    )  # as weights, too


def write_checkpoints(folder, model, epochs, latest=None):
    for epoch in epochs:
        path = checkpoint.epoch_file(folder, epoch)
        checkpoint.save_checkpoint(path, content_of(model, epoch))
    if latest is not None:
        checkpoint.save_checkpoint(folder / checkpoint.LATEST_CHECKPOINT, content_of(model, latest))


def test_the_newest_checkpoint_is_the_latest_or_that_of_the_highest_epoch(tmp_path, model):
    assert checkpoint.newest_checkpoint(tmp_path) is None
    write_checkpoints(tmp_path, model, [3, 11, 9])
    assert checkpoint.newest_checkpoint(tmp_path)["epoch"] == 11
    write_checkpoints(tmp_path, model, [], latest=12)
    assert checkpoint.newest_checkpoint(tmp_path)["epoch"] == 12


@pytest.mark.parametrize("damage", ["cut off", "something else", "incomplete", "no dictionary"])
def test_a_damaged_checkpoint_is_named_and_an_older_one_taken(tmp_path, model, caplog, damage):
    write_checkpoints(tmp_path, model, [1, 3], latest=4)
    for path in (tmp_path / checkpoint.LATEST_CHECKPOINT, checkpoint.epoch_file(tmp_path, 3)):
        if damage == "cut off":
            path.write_bytes(path.read_bytes()[:1000])
        elif damage == "something else":
            path.write_bytes(b"no checkpoint")
        else:
            torch.save({"epoch": 3} if damage == "incomplete" else [1, 2], path)
    assert checkpoint.newest_checkpoint(tmp_path)["epoch"] == 1
    assert [r.levelname for r in caplog.records] == ["WARNING"] * 2
    for name in (checkpoint.LATEST_CHECKPOINT, "chkpnt_epoch0003.pth"):
        assert str(tmp_path / name) in caplog.text
    if damage == "incomplete":
        assert "lacks model_state_dict, optimizer_state_dict" in caplog.text


def test_where_all_checkpoints_are_damaged_nothing_is_made_up(tmp_path):
    for epoch in (1, 3):
        checkpoint.epoch_file(tmp_path, epoch).write_bytes(b"no checkpoint")
    with pytest.raises(UserError, match="none of the 2 checkpoints in") as refused:
        checkpoint.newest_checkpoint(tmp_path)
    assert str(tmp_path) in str(refused.value)


def test_no_code_in_a_checkpoint_is_run(tmp_path, model, caplog):
    class Harmful:
        def __reduce__(self):
            return (os.mkdir, (str(tmp_path / "harm"),))

    write_checkpoints(tmp_path, model, [1])
    torch.save(content_of(model, 3, harm=Harmful()), tmp_path / checkpoint.LATEST_CHECKPOINT)
    assert checkpoint.newest_checkpoint(tmp_path)["epoch"] == 1
    assert not (tmp_path / "harm").exists()
    assert checkpoint.LATEST_CHECKPOINT in caplog.text


def test_random_streams_go_on_where_they_were():
    states = randomness.random_states()
    drawn = torch.rand(5)
    torch.rand(100)
    randomness.set_random_states(states)
    assert torch.equal(torch.rand(5), drawn)


@pytest.mark.parametrize("existed", [True, False])
def test_a_write_that_fails_leaves_what_was_there(tmp_path, model, monkeypatch, existed):
    if existed:
        checkpoint.save_best(tmp_path, model, 1, 0.5)
        write_checkpoints(tmp_path, model, [1], latest=1)
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir()}

    def half(_content, file):
        file.write(b"half of it")
        raise OSError("No space left on device")

    monkeypatch.setattr(torch, "save", half)
    with torch.no_grad():
        model[0].weight.zero_()
    with pytest.raises(OSError, match="No space"):
        checkpoint.save_best(tmp_path, model, 2, 0.4)
    for path in (tmp_path / checkpoint.LATEST_CHECKPOINT, checkpoint.epoch_file(tmp_path, 1)):
        with pytest.raises(OSError, match="No space"):
            checkpoint.save_checkpoint(path, {"epoch": 2})
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == before
