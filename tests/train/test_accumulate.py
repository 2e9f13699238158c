"""One update of several batches beside that of one batch with all of their examples."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from support import TINY, write_dhf1k, write_salicon
from train.test_distributed import WEIGHTS, batch_of

from unisal.data.samplers import part_of
from unisal.errors import UserError
from unisal.model import UNISAL
from unisal.train import Trainer, joint
from unisal.train import epoch as passes
from unisal.train.config import TrainerConfig
from unisal.train.processes import own_part

STEPS = (("SALICON", 5), ("DHF1K", 2), ("SALICON", 1), ("SALICON", 4))


def some_steps(accumulate):
    """-> network, losses and random state after `STEPS`, with clipping, momentum and dropout."""
    torch.manual_seed(0)
    model = UNISAL(**TINY, sources=("DHF1K", "SALICON")).double()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-3)
    passes.set_training_mode(model, cnn_eval=True, cnn_trains=True, bn_eval=True)
    losses = []
    for number, (source, n) in enumerate(STEPS):
        batch = batch_of(source, n, number)
        loss = passes.train_step(model, batch, WEIGHTS, optimizer, 0.5, 0.7, accumulate=accumulate)
        losses.append([loss.total.item(), *(part.item() for part in loss.parts.values())])
    return model.state_dict(), losses, torch.get_rng_state()


def assert_same(found, wanted):
    state, losses, random = found
    for key, value in wanted[0].items():
        torch.testing.assert_close(state[key], value, atol=1e-9, rtol=1e-6)
    torch.testing.assert_close(torch.tensor(losses), torch.tensor(wanted[1]))
    assert torch.equal(random, wanted[2])


@pytest.mark.parametrize("n", [2, 3])
def test_an_update_is_that_of_the_joint_batch(n):
    assert_same(some_steps(n), some_steps(1))


def test_the_examples_are_cut_evenly_and_all_processes_cut_as_often():
    batch = batch_of("SALICON", 5, 0)
    cuts = list(joint.cut(batch, 3))
    assert [one.part.n for one in cuts] == [2, 2, 1]
    assert [name for one in cuts for name in one.names] == batch.names
    assert torch.equal(torch.cat([one.frames for one in cuts]), batch.frames)
    assert len(list(joint.cut(batch, 8))) == 5
    one = replace(own_part(batch, replace(batch, part=part_of(5, 2, 3))), part=part_of(5, 2, 3))
    assert [c.part.n for c in joint.cut(one, 2, 3)] == [1, 0]


def run(root, monkeypatch, **options):
    for name in ("SALICON", "DHF1K"):
        monkeypatch.setenv(f"{name}_DATA_DIR", str(root / name))
    monkeypatch.setenv("TRAIN_DIR", str(root / "runs"))
    return Trainer(
        **{
            **{"data_sources": ("SALICON", "DHF1K"), "model_cfg": TINY, "num_epochs": 2},
            **{"data_cfg": {"seq_len": 2, "out_size": (32, 64)}, "train_cnn_after": 0},
            **{"salicon_cfg": {"out_size": (32, 64)}, "lr_scheduler": "cosine", "bn_eval": True},
            **{"num_workers": 0, "device": "cpu", "tboard": False, "lr": 0.002, "mix": 0.5},
            **{"chkpnt_warmup": 0, "ema_decay": 0.9},
            **options,
        }
    )


def test_a_run_is_that_of_larger_batches_and_goes_on_after_a_stop(tmp_path, monkeypatch):
    for part, n in (("train", 10), ("val", 2)):
        write_salicon(tmp_path / "SALICON", part, n=n)
    write_dhf1k(tmp_path / "DHF1K", {1: 12, 2: 12, 3: 12, 601: 12})
    large = run(tmp_path, monkeypatch, prefix="large", salicon_batch_size=4, batch_size=2)
    large.fit()
    small = {"salicon_batch_size": 2, "batch_size": 1, "accumulate": 2}
    stopped, step, calls = (
        run(tmp_path, monkeypatch, prefix="small", **small),
        passes.train_step,
        [],
    )

    def pressed(*given):
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return step(*given)

    with monkeypatch.context() as patch:
        patch.setattr(passes, "train_step", pressed)
        with pytest.raises(KeyboardInterrupt):
            stopped.fit()
    resumed = Trainer.resume("small_unisal")
    resumed.fit()
    assert resumed.cfg.accumulate == 2
    wanted = large.model.state_dict()
    for key, value in resumed.model.state_dict().items():
        torch.testing.assert_close(value, wanted[key], atol=1e-5, rtol=1e-4)
    assert resumed.average.steps == large.average.steps
    assert torch.equal(resumed.random.states["cpu"], large.random.states["cpu"])
    assert resumed.scalars.values["lr"] == large.scalars.values["lr"]


def test_the_option_is_a_count():
    assert TrainerConfig().accumulate == 1
    with pytest.raises(UserError, match="accumulate is 0"):
        TrainerConfig.from_dict({"accumulate": 0})
