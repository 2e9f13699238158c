"""The summands of the loss against their definitions, with values and gradients."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.stats
import torch
from plain_training import plain_losses

from unisal.train.losses import LOSSES, batch_loss

PAPER = {"kld": 1.0, "nss": -0.1, "cc": -0.1}


def frames(batch=2, time=3, height=20, width=30, seed=0, scale=1.0):
    """Return a predicted log-density, a target density and fixations, `[B, T, 1, h, w]` each."""
    generator = torch.Generator().manual_seed(seed)
    shape = (batch, time, 1, height, width)
    logits = scale * torch.randn(shape, generator=generator, dtype=torch.float64)
    log_density = logits.flatten(2).log_softmax(-1).view(shape)
    target = torch.rand(shape, generator=generator, dtype=torch.float64) ** 4
    target[:, :, :, : height // 3] = 0  # maps on disk are zero in most places
    target /= target.sum((2, 3, 4), keepdim=True)
    fixations = torch.rand(shape, generator=generator) > 0.9
    return log_density, target, fixations


def float32(log_density, target, fixations):
    return log_density.float(), target.float(), fixations


@pytest.mark.parametrize("size", [(1, 1), (2, 3), (4, 1)], ids=str)
@pytest.mark.parametrize("scale", [0.01, 1.0, 8.0])
def test_values_equal_the_plain_definitions(size, scale):
    example = frames(*size, scale=scale)
    expected = plain_losses(*example)
    loss = batch_loss(*example, PAPER)
    assert list(loss.parts) == list(PAPER)
    for name, value in expected.items():
        torch.testing.assert_close(loss.parts[name], value, msg=name)
    total = expected["kld"] - 0.1 * expected["nss"] - 0.1 * expected["cc"]
    torch.testing.assert_close(loss.total, total)


def test_values_are_those_of_statistics():
    example = frames(1, 1)
    log_p, t, fixations = (a.flatten().numpy() for a in example)
    p, parts = np.exp(log_p), batch_loss(*example, PAPER).parts
    z = scipy.stats.zscore(p, ddof=1)
    assert parts["kld"].item() == pytest.approx(scipy.stats.entropy(t, p))
    assert parts["nss"].item() == pytest.approx(z[fixations].mean())
    assert parts["cc"].item() == pytest.approx(scipy.stats.pearsonr(p, t).statistic)


@pytest.mark.parametrize("scale", [0.01, 1.0, 8.0])
@pytest.mark.parametrize("name", LOSSES)
def test_gradients_equal_those_of_the_plain_definitions(name, scale):
    log_p, t, fixations = frames(scale=scale)
    gradients = []
    for values in (plain_losses, lambda *example: batch_loss(*example, PAPER).parts):
        p = log_p.clone().requires_grad_()
        values(p, t, fixations)[name].backward()
        gradients.append(p.grad)
    torch.testing.assert_close(*gradients)


def test_single_precision_is_enough():
    example = frames(2, 2, 360, 640, scale=3.0)
    exact, found = batch_loss(*example, PAPER), batch_loss(*float32(*example), PAPER)
    for name in PAPER:
        assert found.parts[name].item() == pytest.approx(exact.parts[name].item(), rel=1e-4)


def test_the_total_is_the_sum_by_name_of_what_is_asked_for():
    example = frames()
    parts = batch_loss(*example, PAPER).parts
    for weights in ({"cc": -2.0}, {"nss": 0.5, "kld": 3.0}, {"cc": 0.0, "kld": 1}):
        loss = batch_loss(*example, weights)
        assert list(loss.parts) == list(weights)
        expected = sum(w * parts[name].item() for name, w in weights.items())
        assert loss.total.item() == pytest.approx(expected)


def test_a_perfect_prediction():
    _, t, fixations = frames()
    t = (t + 1e-6) / (t + 1e-6).sum((2, 3, 4), keepdim=True)
    parts = batch_loss(t.log(), t, fixations, PAPER).parts
    assert parts["kld"].item() == pytest.approx(0, abs=1e-12)
    assert parts["cc"].item() == pytest.approx(1)


def test_a_frame_without_fixations_counts_as_one():
    log_p, t, fixations = frames(2, 2)
    fixations[0, 1] = False
    expected = plain_losses(log_p, t, fixations)["nss"]
    torch.testing.assert_close(batch_loss(log_p, t, fixations, PAPER).parts["nss"], expected)
    p = log_p.clone().requires_grad_()
    nss = batch_loss(p, t, torch.zeros_like(fixations), {"nss": 1.0})
    assert nss.total.item() == 1
    nss.total.backward()
    assert torch.equal(p.grad, torch.zeros_like(p))


@pytest.mark.parametrize("size", [(48, 64), (32, 32), (30, 70), (360, 640), (480, 640)], ids=str)
def test_a_uniform_map_correlates_with_nothing(size):
    # What an all-zero map on disk becomes. Its variance is zero, or what rounding makes of it.
    log_p, _, fixations = float32(*frames(1, 1, *size))
    uniform = torch.full_like(log_p, 1 / (size[0] * size[1]))
    p = log_p.clone().requires_grad_()
    loss = batch_loss(p, uniform, fixations, PAPER)
    loss.total.backward()
    assert loss.parts["cc"].item() == pytest.approx(0, abs=1e-3)
    assert torch.isfinite(p.grad).all()


@pytest.mark.parametrize("name", LOSSES)
def test_a_frame_has_one_value_whatever_else_is_in_the_batch(name):
    log_p, t, fixations = frames(2, 3)
    values = LOSSES[name](log_p, log_p.exp(), t, fixations)
    assert values.shape == (2, 3)
    for b in range(2):
        for k in range(3):
            one = (a[b : b + 1, k : k + 1] for a in (log_p, log_p.exp(), t, fixations))
            torch.testing.assert_close(LOSSES[name](*one)[0, 0], values[b, k])
