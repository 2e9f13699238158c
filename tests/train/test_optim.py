"""Groups of parameters, learning rates over a run, and one step of each optimiser."""

from __future__ import annotations

import copy
import math
from collections import Counter

import pytest
import torch
from support import TINY
from torch import nn

from unisal.errors import UserError
from unisal.model import UNISAL
from unisal.train.config import TrainerConfig
from unisal.train.optim import load_optimizer, lr_factor, make_optimizer, set_lr


class Small(nn.Module):
    """An encoder and a rest of a few numbers each."""

    def __init__(self):
        super().__init__()
        self.cnn, self.rest = nn.Linear(3, 2), nn.Linear(2, 1)


def small(**options):
    torch.manual_seed(0)
    model = Small().double()
    return model, make_optimizer(model, model.cnn, TrainerConfig.from_dict(options))


def numbers(model):
    return {k: v.detach().clone() for k, v in model.named_parameters()}


def step(model, optimizer, seed):
    """One step on made-up gradients -> those gradients."""
    generator = torch.Generator().manual_seed(seed)
    gradients = {}
    for name, p in model.named_parameters():
        p.grad = gradients[name] = torch.randn(p.shape, generator=generator, dtype=p.dtype)
    optimizer.step()
    return gradients


def lr_of(name, cfg):
    return cfg["lr"] * (cfg["cnn_lr_factor"] if name.startswith("cnn.") else 1.0)


def decay_of(name, cfg):
    return cfg["cnn_weight_decay"] if name.startswith("cnn.") else cfg["weight_decay"]


OPTIONS = {"lr": 0.03, "cnn_lr_factor": 0.2, "weight_decay": 0.01, "cnn_weight_decay": 0.002}


# ---- groups -------------------------------------------------------------------------------


def test_every_parameter_of_the_network_is_in_one_group_and_decays():
    model = UNISAL(**TINY)
    optimizer = make_optimizer(model, model.cnn, TrainerConfig())
    groups = {group["name"]: group for group in optimizer.param_groups}
    assert list(groups) == ["cnn", "rest"]
    owners = Counter(id(p) for group in groups.values() for p in group["params"])
    assert set(owners.values()) == {1}
    names = {id(p): name for name, p in model.named_parameters()}
    for group_name, group in groups.items():
        found = {names[id(p)] for p in group["params"]}
        of_encoder = {n for n in names.values() if n.startswith("cnn.")}
        assert found == (of_encoder if group_name == "cnn" else set(names.values()) - of_encoder)
        assert any(n.endswith("bias") for n in found)
    assert (groups["cnn"]["lr"], groups["cnn"]["weight_decay"]) == (pytest.approx(0.004), 1e-5)
    assert (groups["rest"]["lr"], groups["rest"]["weight_decay"]) == (0.04, 1e-4)


def test_a_frozen_encoder_is_in_its_group_all_the_same():
    model = Small()
    model.cnn.requires_grad_(False)
    optimizer = make_optimizer(model, model.cnn, TrainerConfig())
    assert len(optimizer.param_groups[0]["params"]) == 2


# ---- optimisers ---------------------------------------------------------------------------


def test_sgd_equals_its_definition():
    cfg = OPTIONS | {"momentum": 0.7}
    model, optimizer = small(**cfg)
    expected, velocity = numbers(model), {}
    for i in range(3):
        for name, g in step(model, optimizer, i).items():
            g = g + decay_of(name, cfg) * expected[name]
            velocity[name] = cfg["momentum"] * velocity[name] + g if i else g
            expected[name] = expected[name] - lr_of(name, cfg) * velocity[name]
    torch.testing.assert_close(numbers(model), expected)


def test_adam_equals_its_definition():
    cfg = OPTIONS | {"optim_algo": "Adam"}
    model, optimizer = small(**cfg)
    expected = numbers(model)
    m, v = ({k: torch.zeros_like(p) for k, p in expected.items()} for _ in range(2))
    for i in range(1, 4):
        for name, g in step(model, optimizer, i).items():
            g = g + decay_of(name, cfg) * expected[name]
            m[name] = 0.9 * m[name] + 0.1 * g
            v[name] = 0.999 * v[name] + 0.001 * g**2
            change = (m[name] / (1 - 0.9**i)) / ((v[name] / (1 - 0.999**i)).sqrt() + 1e-8)
            expected[name] = expected[name] - lr_of(name, cfg) * change
    torch.testing.assert_close(numbers(model), expected)


def test_rmsprop_equals_its_definition():
    cfg = OPTIONS | {"optim_algo": "RMSprop", "momentum": 0.6}
    model, optimizer = small(**cfg)
    expected = numbers(model)
    square, velocity = ({k: torch.zeros_like(p) for k, p in expected.items()} for _ in range(2))
    for i in range(3):
        for name, g in step(model, optimizer, i).items():
            g = g + decay_of(name, cfg) * expected[name]
            square[name] = 0.99 * square[name] + 0.01 * g**2
            velocity[name] = cfg["momentum"] * velocity[name] + g / (square[name].sqrt() + 1e-8)
            expected[name] = expected[name] - lr_of(name, cfg) * velocity[name]
    torch.testing.assert_close(numbers(model), expected)


@pytest.mark.parametrize("algorithm", ["SGD", "Adam", "RMSprop"])
def test_a_parameter_without_a_gradient_stays_as_it_is(algorithm):
    model, optimizer = small(**OPTIONS, optim_algo=algorithm)
    step(model, optimizer, 0)  # momentum has built up
    before = numbers(model)
    optimizer.zero_grad(set_to_none=True)
    model.rest.bias.grad = torch.ones_like(model.rest.bias)
    optimizer.step()
    changed = {k for k, v in numbers(model).items() if not torch.equal(v, before[k])}
    assert changed == {"rest.bias"}


@pytest.mark.parametrize("algorithm", ["SGD", "Adam", "RMSprop"])
@pytest.mark.parametrize("official", [True, False])
def test_a_loaded_optimiser_goes_on_as_if_nothing_had_been(algorithm, official):
    cfg = OPTIONS | {"optim_algo": algorithm, "momentum": 0.6}
    whole, optimizer = small(**cfg)
    step(whole, optimizer, 0)
    saved = copy.deepcopy(optimizer.state_dict())
    if official:  # the published code's groups have neither names nor base rates
        for group in saved["param_groups"]:
            del group["name"], group["base_lr"]
    again, other = small(**cfg)
    again.load_state_dict(whole.state_dict())
    load_optimizer(other, saved)
    for model, of_model in ((whole, optimizer), (again, other)):
        set_lr(of_model, 0.5)
        step(model, of_model, 1)
    torch.testing.assert_close(numbers(again), numbers(whole), atol=0, rtol=0)
    assert [g["name"] for g in other.param_groups] == ["cnn", "rest"]


def test_an_optimiser_of_other_parameters_is_refused():
    model = UNISAL(**TINY)
    state = make_optimizer(model, model.cnn, TrainerConfig()).state_dict()
    with pytest.raises(UserError, match="the checkpoint's optimiser does not fit this run"):
        load_optimizer(small()[1], state)


# ---- learning rates -----------------------------------------------------------------------


def test_the_rate_falls_by_gamma_per_epoch_and_not_within():
    cfg = TrainerConfig()
    for epoch in range(16):
        for i in (0, 1, 99):
            assert lr_factor(cfg, epoch, i, 100) == pytest.approx(0.8**epoch)


def test_set_lr_gives_each_group_its_share():
    _, optimizer = small(**OPTIONS)
    for factor in (1.0, 0.5, 0.5, 0.1):  # of the start, not of what was set before
        set_lr(optimizer, factor)
        rates = [group["lr"] for group in optimizer.param_groups]
        assert rates == pytest.approx([0.03 * 0.2 * factor, 0.03 * factor])


def test_cosine_falls_from_one_to_zero_over_the_run_step_by_step():
    cfg = TrainerConfig(lr_scheduler="cosine", num_epochs=4)
    factors = [lr_factor(cfg, epoch, i, 25) for epoch in range(4) for i in range(25)]
    assert factors[0] == 1
    assert factors[50] == pytest.approx(0.5)
    assert 0 < factors[-1] < 0.001
    assert factors == sorted(factors, reverse=True)
    expected = [(1 + math.cos(math.pi * k / 100)) / 2 for k in range(100)]
    assert factors == pytest.approx(expected)


@pytest.mark.parametrize("scheduler", ["ExponentialLR", "cosine"])
def test_warm_up_rises_evenly_across_epochs_and_then_has_no_effect(scheduler):
    options = {"lr_scheduler": scheduler, "num_epochs": 4}
    cold, warm = TrainerConfig(**options), TrainerConfig(**options, warmup_steps=8)
    for k in range(20):
        place = k // 5, k % 5, 5
        expected = lr_factor(cold, *place) * min(1, (k + 1) / 8)
        assert lr_factor(warm, *place) == pytest.approx(expected)
    assert lr_factor(warm, 0, 0, 5) > 0
