"""Files of a run that can be parsed and hold something odd: a sentence, before any work."""

from __future__ import annotations

import json

import pytest
import torch
from support import TINY, write_run, write_salicon

from unisal.errors import UserError
from unisal.model.weights import load_tensors
from unisal.predict.loading import load_model
from unisal.train import Trainer


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("cnn_cfg", ["a", None]),
        ("cnn_cfg", 3),
        ("rnn_input_channels", [[1]]),
        ("rnn_hidden_channels", "many"),
        ("drop_probs", {"a": 1}),
        ("smoothing_ksize", 1e30),
        ("n_gaussians", -1),
    ],
)
def test_an_odd_option_of_a_network_is_a_sentence(tmp_path, monkeypatch, option, value):
    monkeypatch.setenv("TRAIN_DIR", str(tmp_path))
    write_run(tmp_path / "mine")
    path = tmp_path / "mine" / "UNISAL.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), option: value}))
    with pytest.raises(UserError):
        load_model("mine")


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run of two epochs, with the environment that it needs."""
    root = tmp_path_factory.mktemp("trained")
    for part in ("train", "val"):
        write_salicon(root / "SALICON", part, 2, (24, 32))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SALICON_DATA_DIR", str(root / "SALICON"))
        patch.setenv("TRAIN_DIR", str(root / "runs"))
        trainer = Trainer(
            prefix="mine",
            data_sources=("SALICON",),
            num_epochs=2,
            salicon_batch_size=1,
            salicon_cfg={"out_size": (64, 96)},
            model_cfg=TINY,
            num_workers=0,
            chkpnt_warmup=0,
            chkpnt_epochs=1,
            device="cpu",
            tboard=False,
        )
        trainer.fit()
    return trainer.folder


@pytest.fixture
def found(trained, monkeypatch):
    """The run, where the program looks for it."""
    monkeypatch.setenv("SALICON_DATA_DIR", str(trained.parent.parent / "SALICON"))
    monkeypatch.setenv("TRAIN_DIR", str(trained.parent))
    return trained


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("epoch", "two"),
        ("epoch", -5),
        ("best_val_score", [1]),
        ("all_scalars", {"lr": 3}),
        ("all_scalars", []),
        ("model_state_dict", torch.zeros(3)),
        ("unfinished", {"step": -1}),
        ("random_states", None),
    ],
)
def test_of_several_checkpoints_the_newest_sound_one_is_taken(found, caplog, key, value):
    path = found / "chkpnt_latest.pth"
    sound = load_tensors(path)
    try:
        torch.save({**sound, key: value}, path)
        trainer = Trainer.resume(found.name)
        assert trainer.epoch == 2  # that of chkpnt_epoch0001.pth
        assert f"{path} holds an odd {key}" in caplog.text
    finally:
        torch.save(sound, path)


@pytest.mark.parametrize(
    ("key", "value"),
    [("random_states", {"cpu": torch.zeros(3)}), ("optimizer_state_dict", {"state": 3})],
)
def test_what_turns_out_odd_on_the_way_is_a_sentence(found, key, value):
    path = found / "chkpnt_latest.pth"
    sound = load_tensors(path)
    try:
        torch.save({**sound, key: value}, path)
        with pytest.raises(UserError, match="checkpoint"):
            Trainer.resume(found.name)
    finally:
        torch.save(sound, path)
