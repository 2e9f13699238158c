"""Steps in mixed precision beside those in float32."""

from __future__ import annotations

import copy

import pytest
import torch
from support import TINY

from unisal.data.base import Batch
from unisal.errors import UserError
from unisal.model import UNISAL
from unisal.train.amp import MixedPrecision
from unisal.train.config import TrainerConfig
from unisal.train.epoch import forward_loss, set_training_mode, train_step

CPU = torch.device("cpu")
WEIGHTS = {"kld": 1.0, "nss": -0.1, "cc": -0.1}


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
        precision = MixedPrecision(amp, CPU)
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
    with torch.no_grad(), MixedPrecision("bf16", CPU).autocast():
        found = net(batch.frames, target_size=(20, 30), source="SALICON", static=True)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.exp().sum((-1, -2)), torch.ones(2, 1, 1))


def test_off_and_auto_change_nothing_on_the_cpu():
    net = network().eval()
    batch = batch_of("DHF1K")
    plain = forward_loss(net, batch, WEIGHTS).total
    for name in ("off", "auto"):
        assert torch.equal(
            forward_loss(net, batch, WEIGHTS, amp=MixedPrecision(name, CPU)).total, plain
        )


def test_fp16_needs_a_gpu():
    with pytest.raises(UserError, match=r"amp is 'fp16'.* cpu.* bf16"):
        MixedPrecision("fp16", CPU)


def test_the_option_takes_the_four_names_only():
    assert TrainerConfig().amp == "off"
    assert TrainerConfig.from_dict({"amp": "bf16"}).as_dict()["amp"] == "bf16"
    with pytest.raises(UserError, match="amp is 'half'; allowed are off, auto, bf16, fp16"):
        TrainerConfig.from_dict({"amp": "half"})
