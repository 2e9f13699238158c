"""The Gaussian prior maps against their formula, and the values they start from."""

from __future__ import annotations

import math

import pytest
import torch
from support import TINY

from unisal.model import UNISAL
from unisal.model.priors import gaussian_maps, initial_gaussians

# Spec 01, "manual": (mu_y, mu_x), (log std_y, log std_x)
MANUAL = [
    *[((0.25, 0.25), (-1.5, -1.5)), ((0.25, 0.5), (-1.5, -1.5)), ((0.25, 0.75), (-1.5, -1.5))],
    *[((0.5, 0.25), (-1.5, -1.5)), ((0.5, 0.5), (-1.5, -1.5)), ((0.5, 0.75), (-1.5, -1.5))],
    *[((0.75, 0.25), (-1.5, -1.5)), ((0.75, 0.5), (-1.5, -1.5)), ((0.75, 0.75), (-1.5, -1.5))],
    *[((0.5, 0.25), (0, -1.5)), ((0.5, 0.5), (0, -1.5)), ((0.5, 0.75), (0, -1.5))],
    *[((0.25, 0.5), (-1.5, 0)), ((0.5, 0.5), (-1.5, 0)), ((0.75, 0.5), (-1.5, 0))],
    ((0.5, 0.5), (0, 0)),
]


def plain_maps(parameters, height, width):
    """Spec 01, one number after the other."""
    maps = torch.empty(len(parameters), height, width, dtype=torch.float64)
    for k, ((mu_y, log_y), (mu_x, log_x)) in enumerate(parameters.tolist()):
        for i in range(height):
            for j in range(width):
                y, x = i / max(height - 1, 1), j / max(width - 1, 1)
                y, x = (y - mu_y) / math.exp(log_y), (x - mu_x) / math.exp(log_x)
                maps[k, i, j] = math.exp(-(y**2) / 2) * math.exp(-(x**2) / 2)
    return maps


@pytest.mark.parametrize("size", [(7, 12), (9, 4), (1, 5), (3, 1), (1, 1)], ids=str)
@pytest.mark.parametrize("init", ["manual", "random"])
def test_equal_the_formula_at_any_size(init, size):
    torch.manual_seed(0)
    parameters = initial_gaussians(init, 6)
    maps = gaussian_maps(parameters, size)
    assert maps.shape == (len(parameters), *size)
    torch.testing.assert_close(maps.double(), plain_maps(parameters, *size), rtol=1e-4, atol=1e-6)
    exact = gaussian_maps(parameters.double(), size)
    assert exact.dtype == torch.float64
    torch.testing.assert_close(exact, plain_maps(parameters, *size))


def test_the_first_coordinate_is_the_row():
    lower_left = torch.tensor([[[1.0, -2.0], [0.0, -2.0]]])
    (peak,) = gaussian_maps(lower_left, (5, 6))
    assert peak.argmax() == 4 * 6
    assert peak.max() == 1


def test_every_parameter_has_its_true_gradient():
    torch.manual_seed(0)
    parameters = initial_gaussians("random", 3).double().requires_grad_()
    assert torch.autograd.gradcheck(lambda p: gaussian_maps(p, (4, 5)), parameters)
    assert (torch.autograd.grad(gaussian_maps(parameters, (4, 5)).sum(), parameters)[0] != 0).all()


@pytest.mark.parametrize("n", [1, 5, 16, 40])
def test_manual_means_the_sixteen_of_the_paper_in_order_whatever_their_number(n):
    expected = torch.tensor(MANUAL).transpose(1, 2)  # [index, (y, x), (mu, log std)]
    assert torch.equal(initial_gaussians("manual", n), expected)


def test_random_values_follow_the_papers_distributions():
    torch.manual_seed(0)
    n = 20_000
    values = initial_gaussians("random", n)
    assert values.shape == (n, 2, 2)
    close = {"rtol": 0, "atol": 5 / math.sqrt(n)}  # five standard errors of a unit normal
    scaled = (values.double() - torch.tensor([0.5, -1.0])) / torch.tensor([0.1, 0.2])
    scaled = scaled.flatten(1)
    torch.testing.assert_close(scaled.mean(0), torch.zeros(4).double(), **close)
    torch.testing.assert_close(scaled.std(0), torch.ones(4).double(), **close)
    torch.testing.assert_close(torch.corrcoef(scaled.T), torch.eye(4).double(), **close)
    assert not torch.equal(values, initial_gaussians("random", n))


@pytest.mark.parametrize("init", ["Manual", "", None])
def test_another_start_is_refused_with_those_allowed(init):
    with pytest.raises(ValueError, match=f"gaussian_init is {init!r}.*'manual'.*'random'"):
        initial_gaussians(init, 16)


@pytest.mark.parametrize(
    ("options", "n"),
    [
        ({}, 16),
        ({"n_gaussians": 3}, 16),
        ({"n_gaussians": 0}, 0),
        ({"n_gaussians": 3, "gaussian_init": "random"}, 3),
    ],
    ids=str,
)
@pytest.mark.parametrize("specific", [True, False])
def test_the_network_holds_them_once_per_source_or_once(options, n, specific):
    net = UNISAL(**TINY, **options, ds_gaussians=specific)
    found = {k: p.shape for k, p in net.named_parameters() if k.startswith("coarse_gaussians")}
    names = [f"coarse_gaussians_{s.lower()}" for s in net.sources] if specific else None
    expected = (names or ["coarse_gaussians"]) if n else []
    assert found == dict.fromkeys(expected, (n, 2, 2))
    key = "post_cnn.inv_res.conv.0.weight"  # they stand beside the encoder's 64 channels
    assert len(net.state_dict()[key]) == 64 + n
