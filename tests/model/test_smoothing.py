"""The smoothing against its definition: enlarge, pad, convolve with the large kernel."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from unisal.model.smoothing import PhaseSmoothing

KSIZES = (1, 3, 9, 15, 17, 19, 41, 63)  # also around the steps of 8 where another cell is reached


def plain(x, weight):
    """Spec 01: nearest x8, replicate padding by half the kernel, one k x k convolution."""
    x = x.repeat_interleave(8, dim=2).repeat_interleave(8, dim=3)
    return F.conv2d(F.pad(x, (weight.shape[-1] // 2,) * 4, mode="replicate"), weight)


def smoothing(ksize, dtype=torch.float64):
    """A smoothing whose kernel is no longer symmetric."""
    torch.manual_seed(ksize)
    layer = PhaseSmoothing(ksize).to(dtype)
    with torch.no_grad():
        layer.weight.add_(torch.randn_like(layer.weight))
    return layer


@pytest.mark.parametrize("size", [(4, 5), (1, 1), (7, 1), (1, 3)], ids=str)
@pytest.mark.parametrize("ksize", KSIZES)
def test_equals_the_definition_in_value_and_in_gradient(ksize, size):
    layer = smoothing(ksize)
    x = torch.randn(3, 1, *size, dtype=torch.float64, requires_grad=True)
    ours, expected = layer(x), plain(x, layer.weight)
    assert ours.shape == (3, 1, 8 * size[0], 8 * size[1])
    torch.testing.assert_close(ours, expected)
    above = torch.randn_like(ours)
    for mine, theirs in zip(
        torch.autograd.grad(ours, (x, layer.weight), above),
        torch.autograd.grad(expected, (x, layer.weight), above),
        strict=True,
    ):
        torch.testing.assert_close(mine, theirs)


def test_single_precision_is_exact_to_a_few_digits_of_its_own():
    layer, x = smoothing(41, torch.float32), torch.randn(2, 1, 6, 8)
    exact = plain(x.double(), layer.weight.double())
    assert (layer(x) - exact).abs().max() <= 2e-6 * exact.abs().max()


@pytest.mark.parametrize("ksize", KSIZES)
def test_starts_as_the_gaussian_of_the_paper(ksize):
    g = np.linspace(0, 1, ksize)
    profile = np.exp(-(((g - 0.5) / np.exp(-2)) ** 2) / 2)
    expected = np.outer(profile, profile)
    layer = PhaseSmoothing(ksize)
    assert {k: v.shape for k, v in layer.state_dict().items()} == {"weight": (1, 1, ksize, ksize)}
    assert layer.weight.requires_grad
    np.testing.assert_allclose(
        layer.weight[0, 0].detach(), expected / expected.sum(), rtol=1e-4, atol=1e-9
    )


@pytest.mark.parametrize("ksize", [9, 41])
def test_a_new_smoothing_keeps_a_flat_map_and_never_leaves_the_range(ksize):
    layer = PhaseSmoothing(ksize).requires_grad_(False)
    torch.testing.assert_close(
        layer(torch.full((1, 1, 3, 4), 2.5)), torch.full((1, 1, 24, 32), 2.5)
    )
    x = torch.randn(2, 1, 5, 6)
    y = layer(x)
    assert x.min() - 1e-5 <= y.min() and y.max() <= x.max() + 1e-5


@pytest.mark.parametrize("ksize", [0, 2, 40, -1, -3])
def test_a_kernel_without_a_centre_is_refused(ksize):
    with pytest.raises(ValueError, match=f"smoothing_ksize is {ksize};.*positive odd"):
        PhaseSmoothing(ksize)
