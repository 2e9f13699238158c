"""The mean of several runs: its weights, what the new run holds, and what is refused."""

from __future__ import annotations

import hashlib
import json

import numpy as np
import pytest
import torch
from support import call_command, photo, write_run

import unisal
from unisal.config import save_json
from unisal.errors import UserError
from unisal.model.weights import read_state
from unisal.train.soup import average_runs, mean_state


@pytest.fixture
def runs(tmp_path, monkeypatch):
    """Return the folder of three runs of one network."""
    monkeypatch.setenv("TRAIN_DIR", str(tmp_path))
    for seed, name in enumerate(("a", "b", "c")):
        model = write_run(tmp_path / name, seed, sources=("DHF1K", "SALICON"))
        state = model.state_dict()
        generator = torch.Generator().manual_seed(seed)
        for key, value in state.items():
            if "running" in key:
                value.add_(torch.rand(value.shape, generator=generator))
            elif "tracked" in key:
                value.fill_(10 + seed)
        torch.save(state, tmp_path / name / "weights_best.pth")
    return tmp_path


def state_of(runs, name):
    return read_state(runs / name / "weights_best.pth")


def test_every_weight_and_statistic_is_the_mean(runs):
    average_runs(["a", "b", "c"], runs / "soup")
    members = [state_of(runs, name) for name in "abc"]
    found = state_of(runs, "soup")
    assert list(found) == list(members[0])
    n_means = 0
    for key, value in found.items():
        arrays = [member[key].numpy() for member in members]
        if value.dtype == torch.float32:
            expected = np.mean(np.array(arrays, np.float64), axis=0).astype(np.float32)
            np.testing.assert_array_equal(value.numpy(), expected, err_msg=key)
            n_means += not np.array_equal(expected, arrays[0])
        else:
            np.testing.assert_array_equal(value.numpy(), arrays[0], err_msg=key)
    assert n_means > 100


def test_the_mean_of_equal_weights_is_these_weights(runs):
    state = state_of(runs, "a")
    mean = mean_state([state] * 3)
    assert all(torch.equal(mean[key], state[key]) for key in state)


def test_the_command_writes_a_run_that_predicts(runs, capsys):
    save_json(runs / "a" / "osieDataset.json", {"subset": 1.0})
    save_json(runs / "a" / "osie_data.json", {"folder": "osie"})
    save_json(runs / "a" / "presets.json", {})
    save_json(runs / "a" / "Trainer.json", {})
    assert call_command("average", "--train_ids=a,b", "--prefix=mean") == 0
    assert "mean_unisal: the mean of a, b" in capsys.readouterr().out
    folder = runs / "mean_unisal"
    copied = ["UNISAL.json", "osieDataset.json", "osie_data.json", "presets.json"]
    assert sorted(p.name for p in folder.iterdir()) == sorted(
        [*copied, "average.json", "weights_best.pth"]
    )
    for name in copied:
        assert (folder / name).read_bytes() == (runs / "a" / name).read_bytes()
    members = json.loads((folder / "average.json").read_text())["runs"]
    for member, name in zip(members, "ab", strict=True):
        content = (runs / name / "weights_best.pth").read_bytes()
        assert member == {
            "train_id": name,
            "weights": "weights_best.pth",
            "sha256": hashlib.sha256(content).hexdigest(),
        }
    density = unisal.load("mean_unisal", device="cpu").image(photo((60, 80)))
    assert density.sum() == pytest.approx(1, abs=1e-3)


def test_dropout_may_differ_and_the_callers_random_numbers_stay(runs):
    write_run(runs / "other", 5, sources=("DHF1K", "SALICON"), drop_probs=(0.0, 0.1, 0.1))
    before = torch.get_rng_state()
    average_runs(["a", "other"], runs / "soup")
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(
    ("train_ids", "said"),
    [
        ("a", "at least two runs"),
        ("a,a", "each once"),
        ("a,nothing", "no run 'nothing'"),
        ("a,domains", r"sources is \['DHF1K', 'SALICON'\] in a and \['SALICON'\] in domains"),
        ("a,wide", "cnn_cfg is .*'widen_factor': 0.25.* in a and .*0.5.* in wide"),
        ("a,damaged", r"damaged.weights_best\.pth does not fit this network: 1 missing"),
    ],
)
def test_what_cannot_be_averaged_is_named(runs, train_ids, said):
    write_run(runs / "domains", sources=("SALICON",))
    wide = {"pretrained": False, "widen_factor": 0.5, "last_channel": 64}
    write_run(runs / "wide", sources=("DHF1K", "SALICON"), cnn_cfg=wide)
    write_run(runs / "damaged", sources=("DHF1K", "SALICON"))
    state = state_of(runs, "damaged")
    state.pop("post_cnn.inv_res.conv.0.weight")
    torch.save(state, runs / "damaged" / "weights_best.pth")
    with pytest.raises(UserError, match=said):
        average_runs(train_ids.split(","), runs / "soup")
    assert not (runs / "soup").exists()


def test_a_run_that_exists_is_not_replaced(runs, capsys):
    before = (runs / "b" / "weights_best.pth").read_bytes()
    (runs / "b").rename(runs / "b_unisal")
    assert call_command("average", "--train_ids=a,c", "--prefix=b") == 2
    assert "b_unisal already exists" in capsys.readouterr().err
    assert (runs / "b_unisal" / "weights_best.pth").read_bytes() == before
