"""Steps in mixed precision beside those in float32."""

from __future__ import annotations

import copy
import dataclasses
import json

import pytest
import torch
from support import TINY, call_command, run_command, write_mit1003, write_run, write_salicon

from unisal.data import mit1003
from unisal.data.base import Batch
from unisal.errors import UserError
from unisal.model import UNISAL
from unisal.model.weights import read_state
from unisal.train import Trainer
from unisal.train import epoch as passes
from unisal.train.amp import MAX_SKIPPED, MixedPrecision
from unisal.train.config import TrainerConfig
from unisal.train.epoch import forward_loss, set_training_mode, train_step
from unisal.train.optim import load_optimizer, make_optimizer

CPU = torch.device("cpu")
WEIGHTS = {"kld": 1.0, "nss": -0.1, "cc": -0.1}
OPTIONS = {
    "prefix": "mine",
    "data_sources": "SALICON",
    "num_epochs": 2,
    "train_cnn_after": 0,
    "bn_eval": True,  # with statistics of random weights gradients would overflow forever
    "salicon_batch_size": 2,
    "salicon_cfg": {"out_size": [32, 64]},
    "model_cfg": TINY,
    "lr_scheduler": "cosine",
    "ema_decay": 0.9,
    "chkpnt_warmup": 0,
    "num_workers": 0,
    "device": "cpu",
    "tboard": False,
}


def network():
    torch.manual_seed(0)
    return UNISAL(**TINY, drop_probs=(0, 0, 0), rnn_cfg={"dropout": (False,) * 3})


def batch_of(source, size=32):
    """A made-up batch: two images for SALICON, else two clips of two frames."""
    generator = torch.Generator().manual_seed(1)
    shape = (2, 1 if source == "SALICON" else 2)
    maps = torch.rand((*shape, 1, 20, 30), generator=generator) ** 4
    return Batch(
        source=source,
        domain=source,
        is_video=source != "SALICON",
        names=["a", "b"],
        frames=torch.randn((*shape, 3, size, size), generator=generator),
        maps=maps / maps.sum((-1, -2), keepdim=True),
        fixations=torch.rand((*shape, 1, 20, 30), generator=generator) > 0.95,
    )


@pytest.mark.parametrize("source", ["SALICON", "DHF1K"])
def test_a_step_in_bf16_is_close_to_one_in_float32_and_not_the_same(source):
    net = network()
    set_training_mode(net, cnn_eval=True, cnn_trains=True, bn_eval=True)
    batch = batch_of(source, size=64)
    losses, gradients = {}, {}
    for amp in ("off", "bf16"):
        of_step = copy.deepcopy(net)
        precision = MixedPrecision.named(amp, CPU)
        loss = train_step(
            of_step,
            batch,
            WEIGHTS,
            torch.optim.SGD(of_step.parameters(), lr=0.01),
            None,
            amp=precision,
        )
        assert loss.total.dtype == torch.float32
        found = [p.grad for p in of_step.parameters() if p.grad is not None]
        assert {g.dtype for g in found} == {torch.float32}
        losses[amp] = loss.total.item()
        gradients[amp] = torch.cat([g.flatten() for g in found])
    assert losses["off"] != losses["bf16"]
    assert losses["bf16"] == pytest.approx(losses["off"], rel=0.02)
    assert torch.cosine_similarity(gradients["off"], gradients["bf16"], dim=0) > 0.95


def test_densities_sum_to_1_in_bf16():
    net = network().eval()
    batch = batch_of("SALICON")
    with torch.no_grad(), MixedPrecision.named("bf16", CPU).autocast():
        found = net(batch.frames, target_size=(20, 30), source="SALICON", static=True)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.exp().sum((-1, -2)), torch.ones(2, 1, 1))


def test_off_and_auto_change_nothing_on_the_cpu():
    net = network().eval()
    batch = batch_of("DHF1K")
    plain = forward_loss(net, batch, WEIGHTS).total
    for name in ("off", "auto"):
        assert torch.equal(
            forward_loss(net, batch, WEIGHTS, amp=MixedPrecision.named(name, CPU)).total, plain
        )


def test_fp16_needs_a_gpu():
    with pytest.raises(UserError, match=r"amp is 'fp16'.* cpu.* bf16"):
        MixedPrecision.named("fp16", CPU)


def test_the_option_takes_the_four_names_only():
    assert TrainerConfig().amp == "off"
    assert TrainerConfig.from_dict({"amp": "bf16"}).as_dict()["amp"] == "bf16"
    with pytest.raises(UserError, match="amp is 'half'; allowed are off, auto, bf16, fp16"):
        TrainerConfig.from_dict({"amp": "half"})


# ---- fp16: here on the CPU, where no option leads to it, since the arithmetic is the same --------


def fp16(scale=None):
    precision = MixedPrecision(torch.float16, CPU)
    if scale is not None:
        precision.scaler = torch.amp.GradScaler("cpu", init_scale=scale)
    return precision


TOO_LARGE = 2.0**30
"""A factor of the loss with which gradients overflow in fp16."""


def test_a_step_in_fp16_is_close_to_one_in_float32():
    gradients = {}
    for name, precision in (("off", None), ("fp16", fp16())):
        net = network()
        set_training_mode(net, cnn_eval=True, cnn_trains=True, bn_eval=True)
        optimizer = torch.optim.SGD(net.parameters(), lr=0.01)
        train_step(net, batch_of("SALICON", 64), WEIGHTS, optimizer, None, amp=precision)
        found = [p.grad for p in net.parameters() if p.grad is not None]
        gradients[name] = torch.cat([g.flatten() for g in found])
    torch.testing.assert_close(gradients["fp16"].norm(), gradients["off"].norm(), rtol=0.02, atol=0)
    assert torch.cosine_similarity(gradients["off"], gradients["fp16"], dim=0) > 0.99


@pytest.mark.parametrize("clip", [None, 2.0])
def test_an_update_that_overflows_is_left_out_and_the_factor_falls(clip):
    net, precision = network(), fp16(TOO_LARGE)
    set_training_mode(net, cnn_eval=True, cnn_trains=True, bn_eval=True)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01, momentum=0.9)
    before = copy.deepcopy(net.state_dict())
    train_step(net, batch_of("SALICON"), WEIGHTS, optimizer, clip, amp=precision)
    assert precision.scaler.get_scale() == TOO_LARGE / 2
    assert (precision.n_skipped, precision.skipped_in_a_row) == (1, 1)
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())
    assert not optimizer.state
    while precision.skipped_in_a_row:
        train_step(net, batch_of("SALICON"), WEIGHTS, optimizer, clip, amp=precision)
    assert precision.n_skipped > 10  # it had to fall far
    assert any(not torch.equal(v, before[k]) for k, v in net.state_dict().items())
    assert all(torch.isfinite(v).all() for v in net.state_dict().values())


def test_updates_that_overflow_without_end_are_an_error():
    net, precision = network(), fp16()
    next(net.cnn.parameters()).register_hook(lambda gradient: gradient * float("inf"))
    set_training_mode(net, cnn_eval=True, cnn_trains=True, bn_eval=True)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01)
    for _ in range(MAX_SKIPPED - 1):
        train_step(net, batch_of("SALICON"), WEIGHTS, optimizer, 2.0, amp=precision)
    with pytest.raises(UserError, match=rf"in {MAX_SKIPPED} updates in a row.*: a, b;.*bf16"):
        train_step(net, batch_of("SALICON"), WEIGHTS, optimizer, 2.0, amp=precision)


# ---- whole runs ----------------------------------------------------------------------------------


@pytest.fixture
def home(tmp_path, monkeypatch):
    """Return where a small SALICON lies."""
    monkeypatch.setenv("TRAIN_DIR", str(tmp_path / "runs"))
    monkeypatch.setenv("SALICON_DATA_DIR", str(tmp_path / "SALICON"))
    for part, n in (("train", 8), ("val", 2)):
        write_salicon(tmp_path / "SALICON", part, n=n)
    return tmp_path


def stopped_after(monkeypatch, n, trainer):
    """Train until Ctrl-C after `n` steps."""
    steps, step = [], passes.train_step

    def pressed(*given):
        if len(steps) == n:
            raise KeyboardInterrupt
        steps.append(1)
        return step(*given)

    with monkeypatch.context() as patch:
        patch.setattr(passes, "train_step", pressed)
        with pytest.raises(KeyboardInterrupt):
            trainer.fit()


def at_end(trainer):
    """Return all numbers that a run leaves."""
    return {
        **{f"model {k}": v for k, v in trainer.model.state_dict().items()},
        **{f"average {k}": v for k, v in trainer.average.model.state_dict().items()},
    }


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_a_run_that_was_stopped_ends_with_the_same_numbers(home, monkeypatch, precision):
    if precision == "fp16":
        monkeypatch.setattr(MixedPrecision, "named", lambda *_: fp16(2.0**16))
    amp = {"amp": precision}
    whole = Trainer(**OPTIONS | amp | {"prefix": "whole"})
    whole.fit()
    stopped_after(monkeypatch, 3, Trainer(**OPTIONS | amp))
    resumed = Trainer.resume("mine_unisal")
    resumed.fit()
    ours, theirs = at_end(resumed), at_end(whole)
    assert all(torch.equal(ours[key], theirs[key]) for key in theirs)
    assert resumed.scalars.values == whole.scalars.values
    assert resumed.amp.state_dict() == whole.amp.state_dict()
    assert (0 < resumed.amp.n_skipped < 8) == (precision == "fp16")
    assert bool(resumed.amp.state_dict()) == (precision == "fp16")
    saved = json.loads((home / "runs" / "mine_unisal" / "Trainer.json").read_text())
    assert saved["amp"] == precision


@pytest.mark.usefixtures("home")
def test_updates_that_are_left_out_advance_neither_schedule_nor_average(monkeypatch):
    rates = {}
    for name, scale in (("small", 2.0**6), ("large", 2.0**16)):
        monkeypatch.setattr(MixedPrecision, "named", lambda *_, scale=scale: fp16(scale))
        trainer = Trainer(**OPTIONS | {"prefix": name, "warmup_steps": 3, "num_epochs": 5})
        found, step = [], passes.train_step

        def watched(*given, found=found, trainer=trainer, step=step):
            loss = step(*given)
            if not trainer.amp.skipped_in_a_row:
                found.append(trainer.optimizer.param_groups[0]["lr"])
            return loss

        with monkeypatch.context() as patch:
            patch.setattr(passes, "train_step", watched)
            trainer.fit()
        assert trainer.average.steps == len(found) == 20 - trainer.amp.n_skipped
        rates[name] = found
    assert 0 < len(rates["large"]) < len(rates["small"]) == 20
    assert rates["large"] == rates["small"][: len(rates["large"])]


def test_fp16_without_a_gpu_is_an_error_before_there_is_a_folder(home, capsys):
    assert call_command("train", *(f"--{k}={v}" for k, v in OPTIONS.items()), "--amp=fp16") == 2
    assert "amp is 'fp16', which needs a GPU, but the device is cpu" in capsys.readouterr().err
    assert not (home / "runs").exists()


@pytest.mark.slow
def test_the_command_trains_in_bf16_and_accumulates(home):
    options = [f"--{k}={v}" for k, v in OPTIONS.items() if k != "num_epochs"]
    options += ["--num_epochs=1", "--amp=bf16", "--accumulate=2", "--eval_sources=SALICON"]
    done = run_command("train", *options)
    assert done.returncode == 0, done.stderr
    run = home / "runs" / "mine_unisal"
    kept = json.loads((run / "Trainer.json").read_text())
    assert (kept["amp"], kept["accumulate"]) == ("bf16", 2)
    state = read_state(run / "weights_best.pth")
    assert {v.dtype for v in state.values()} == {torch.float32, torch.int64}


def test_fine_tuning_in_bf16(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("TRAIN_DIR", str(tmp_path / "runs"))
    monkeypatch.setenv("MIT1003_DATA_DIR", str(tmp_path / "MIT1003"))
    monkeypatch.setattr(mit1003, "TRAIN_SIZES", [(64, 96), (96, 64)])
    write_mit1003(tmp_path / "MIT1003", [(48, 64)] * 6)
    run = tmp_path / "runs" / "pretrained_unisal"
    write_run(run, sources=("DHF1K", "SALICON"))
    options = ["--num_epochs=1", "--num_workers=0", "--device=cpu", "--tboard=False"]
    options += ["--mit1003_cfg={'n_x_val': 3}", "--eval_sources=MIT1003"]
    assert call_command("train_finetune_mit", *options, "--amp=fp16") == 2
    assert "amp is 'fp16', which needs a GPU" in capsys.readouterr().err
    assert [path.name for path in run.iterdir() if path.is_dir()] == []
    assert call_command("train_finetune_mit", *options, "--amp=bf16") == 0
    assert json.loads((run / "ft_mit1003.json").read_text())["options"]["amp"] == "bf16"
    state = read_state(run / "ft_mit1003.pth")
    assert {v.dtype for v in state.values()} == {torch.float32, torch.int64}


# ---- fused optimisers, which training takes on a GPU: their kernels exist on the CPU, too -------


@pytest.mark.parametrize("algo", ["SGD", "Adam", "RMSprop"])
def test_a_fused_optimiser_makes_the_same_updates(algo):
    cfg = TrainerConfig.from_dict({"optim_algo": algo, "lr": 0.001})
    found = {}
    for fused in (False, True):
        net = network().double()
        optimizer = make_optimizer(net, net.cnn, cfg, fused)
        assert bool(optimizer.param_groups[0].get("fused")) == (fused and algo != "RMSprop")
        for step, source in enumerate(("SALICON", "DHF1K", "SALICON", "DHF1K")):
            set_training_mode(net, cnn_eval=True, cnn_trains=step > 0, bn_eval=True)
            batch = batch_of(source)
            batch = dataclasses.replace(
                batch, frames=batch.frames.double(), maps=batch.maps.double()
            )
            train_step(net, batch, WEIGHTS, optimizer, 2.0)
            if step == 1:  # a checkpoint of the other kind is loaded
                state = copy.deepcopy(optimizer.state_dict())
                for group in state["param_groups"]:
                    group["fused"] = not fused
                load_optimizer(optimizer, state)
                assert all(g.get("fused") != (not fused) for g in optimizer.param_groups) or (
                    algo == "RMSprop"
                )
        found[fused] = net.state_dict()
    for key, value in found[False].items():
        torch.testing.assert_close(found[True][key], value, atol=1e-9, rtol=1e-9)


@pytest.mark.parametrize("algo", ["SGD", "Adam"])
def test_a_fused_optimiser_leaves_out_updates_that_overflow(algo):
    net, precision = network(), fp16(2.0**30)
    set_training_mode(net, cnn_eval=True, cnn_trains=True, bn_eval=True)
    optimizer = make_optimizer(net, net.cnn, TrainerConfig.from_dict({"optim_algo": algo}), True)
    before = copy.deepcopy(net.state_dict())
    train_step(net, batch_of("SALICON"), WEIGHTS, optimizer, 2.0, amp=precision)
    assert precision.n_skipped == 1
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())
    while precision.skipped_in_a_row:
        train_step(net, batch_of("SALICON"), WEIGHTS, optimizer, 2.0, amp=precision)
    assert any(not torch.equal(v, before[k]) for k, v in net.state_dict().items())
    assert all(torch.isfinite(v).all() for v in net.state_dict().values())
