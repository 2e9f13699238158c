"""The running average of the weights, against its formula."""

from __future__ import annotations

import torch
from torch import nn

from unisal.train.averaging import WeightAverage


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)).double()


def train_a_little(model):
    """Every number changes, the statistics of BatchNorm too."""
    model.train()(torch.randn(2, 3, 8, 8, dtype=torch.float64))
    with torch.no_grad():
        for p in model.parameters():
            p.add_(torch.randn_like(p))


def test_the_average_follows_its_formula():
    model = network()
    average = WeightAverage(model, decay=0.5)
    expected = {k: v.clone() for k, v in model.state_dict().items()}
    for n in range(1, 15):
        train_a_little(model)
        average.update(model)
        keep = min(0.5, (1 + n) / (10 + n))  # early on it forgets faster
        for key, value in model.state_dict().items():
            if key.endswith("num_batches_tracked"):
                expected[key] = value.clone()
            else:
                expected[key] = keep * expected[key] + (1 - keep) * value
        torch.testing.assert_close(dict(average.model.state_dict()), expected)
    assert keep == 0.5
    assert average.model[1].num_batches_tracked == 14


def test_the_average_is_a_network_of_its_own_that_does_not_train():
    model = network()
    average = WeightAverage(model, decay=0.9)
    assert not average.model.training
    assert not any(p.requires_grad for p in average.model.parameters())
    assert model.training
    assert all(p.requires_grad for p in model.parameters())
    before = {k: v.clone() for k, v in average.model.state_dict().items()}
    train_a_little(model)
    for key, value in average.model.state_dict().items():
        assert torch.equal(value, before[key])


def test_taking_in_weights_leaves_them_alone():
    model = network()
    average = WeightAverage(model, decay=0.9)
    train_a_little(model)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    average.update(model)
    for key, value in model.state_dict().items():
        assert torch.equal(value, before[key])


def test_constant_weights_are_their_own_average():
    model = network()
    average = WeightAverage(model, decay=0.99)
    for _ in range(5):
        average.update(model)
    torch.testing.assert_close(dict(average.model.state_dict()), dict(model.state_dict()))
