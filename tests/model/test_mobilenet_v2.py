"""The encoder: its strides against their definition, its sizes, and the values it starts from."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from torch import nn

from unisal.model.layers import Context, InvertedResidual
from unisal.model.mobilenet_v2 import MobileNetV2

SMALL = {"widen_factor": 0.25, "last_channel": 64}
CHANNELS = [32, 16, 24, 24, 32, 32, 32, *[64] * 4, *[96] * 3, *[160] * 3, 320, 1280]
"""Of the published encoder's 19 layers (docs/behaviour.md, "Network")."""
STRIDED = (2, 4, 7, 14)
RESIDUAL = (3, 5, 6, 8, 9, 10, 12, 13, 15, 16)
CONTEXT = Context("DHF1K")


def liven(module, seed=0):
    """Give every number of a network a value unlike its start; return the network."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for key, value in module.state_dict().items():
            if key.endswith("running_var"):
                value.uniform_(0.5, 1.5, generator=generator)
            elif value.is_floating_point():
                value.add_(0.1 * torch.randn(value.shape, generator=generator))
    return module


def pictures(n=4, height=64, width=96, channels=3):
    return torch.randn(n, channels, height, width, generator=torch.Generator().manual_seed(1))


def plain_encoder(encoder, x, context):
    """Spec 01: every block at stride 1, taps, then every second row and column."""
    taps = {}
    for i, layer in enumerate(encoder.features):
        x = layer(x, context)
        taps[i] = x
        if i in STRIDED:
            x = x[:, :, ::2, ::2]
    return x, taps[14], taps[7]


def assert_same_statistics(module, expected):
    state = module.state_dict()
    for key, value in expected.state_dict().items():
        torch.testing.assert_close(state[key], value, msg=key, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("steps", [1, 2])
@pytest.mark.parametrize("training", [False, True])
def test_equals_its_definition_in_value_gradient_and_statistics(training, steps):
    encoder = liven(MobileNetV2(**SMALL)).train(training)
    reference = copy.deepcopy(encoder)
    context = Context("DHF1K", steps)
    ours, expected = encoder(pictures(), context), plain_encoder(reference, pictures(), context)
    for name, mine, theirs in zip(ours._fields, ours, expected, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-5, msg=name)
    assert_same_statistics(encoder, reference)
    seen = {v.item() for k, v in encoder.state_dict().items() if k.endswith("batches_tracked")}
    assert seen == {steps if training else 0}

    for features in (ours, expected):
        sum(f.square().mean() for f in features).backward()
    parameters = zip(encoder.named_parameters(), reference.parameters(), strict=True)
    for (name, mine), theirs in parameters:
        scale = theirs.grad.abs().max().item()
        torch.testing.assert_close(mine.grad, theirs.grad, rtol=1e-3, atol=1e-4 * scale, msg=name)


@pytest.mark.parametrize("size", [(8, 12), (5, 7), (6, 3), (1, 1)], ids=str)
@pytest.mark.parametrize("mode", ["training", "frozen statistics", "frozen", "no gradients"])
@pytest.mark.parametrize("expansion", [1, 6])
def test_a_strided_block_is_every_second_value_of_the_whole_one(expansion, mode, size):
    block = liven(InvertedResidual(5, 7, expansion)).train(mode == "training")
    block.requires_grad_(mode != "frozen")
    reference = copy.deepcopy(block)
    x = pictures(3, *size, channels=5).requires_grad_()
    with torch.set_grad_enabled(mode != "no gradients"):
        ours, expected = block(x, CONTEXT, stride=2), reference(x, CONTEXT)[:, :, ::2, ::2]
    torch.testing.assert_close(ours, expected, rtol=1e-4, atol=1e-5)
    assert_same_statistics(block, reference)
    if mode != "no gradients":
        above = torch.randn_like(ours)
        mine, theirs = (torch.autograd.grad(y, x, above)[0] for y in (ours, expected))
        torch.testing.assert_close(mine, theirs, rtol=1e-3, atol=1e-4)


def test_the_statistics_are_those_of_the_whole_picture():
    # A depthwise convolution that copies its input, over a picture of two values in columns:
    # every second column has no variance, the whole picture has.
    block = InvertedResidual(1, 1, 1).train()
    with torch.no_grad():
        block.conv[0].weight.zero_()[:, :, 1, 1] = 1.0
    x = torch.tensor([0.0, 1.0]).repeat(8, 4).view(1, 1, 8, 8)
    block(x, CONTEXT, stride=2)
    state = block.state_dict()
    torch.testing.assert_close(state["conv.1.running_mean"], torch.tensor([0.1 * 0.5]))
    torch.testing.assert_close(state["conv.1.running_var"], torch.tensor([0.9 + 0.1 * 16 / 63]))


# With 0.07, block 2 has as many channels behind it as before it, but a stride.
@pytest.mark.parametrize("factor", [0.25, 0.07])
def test_blocks_add_their_input_where_the_stride_is_one_and_the_channels_agree(factor):
    encoder = MobileNetV2(factor).eval()
    width = int(32 * factor)
    for i, block in enumerate(list(encoder.features)[1:18], 1):
        with torch.no_grad():
            block.conv[-1].weight.zero_()
        x = pictures(2, 6, 8, channels=width)
        y = block(x, CONTEXT)
        assert torch.equal(y, x if i in RESIDUAL else torch.zeros_like(y)), i
        width = y.shape[1]


@pytest.mark.parametrize("size", [(32, 32), (64, 96), (96, 32), (32, 416)], ids=str)
def test_sizes_of_the_features_and_of_both_taps(size):
    height, width = size
    encoder = MobileNetV2(**SMALL).eval()
    with torch.no_grad():
        features = encoder(pictures(2, height, width), CONTEXT)
    assert features.out.shape == (2, 64, height // 32, width // 32)
    assert features.tap_2x.shape == (2, encoder.tap_2x_channels, height // 16, width // 16)
    assert features.tap_4x.shape == (2, encoder.tap_4x_channels, height // 8, width // 8)
    assert all(f.min() >= 0 and f.max() <= 6 for f in features[:1])  # ReLU6 after the last layer


@pytest.mark.parametrize(
    ("factor", "options", "last"),
    [
        (1.0, {}, 1280),
        (0.5, {}, 1280),  # the last layer never shrinks
        (0.25, {"last_channel": 100}, 100),
        (1.25, {"last_channel": 100}, 125),
        (0.7, {"input_channel": 50}, 1280),
    ],
    ids=str,
)
def test_the_factor_widens_every_layer(factor, options, last):
    encoder = MobileNetV2(widen_factor=factor, **options)
    expected = [int(c * factor) for c in [options.get("input_channel", 32), *CHANNELS[1:-1]]]
    expected.append(last)
    state = encoder.state_dict()
    widths = [
        len([v for k, v in state.items() if k.startswith(f"features.{i}.") and v.ndim == 4][-1])
        for i in range(19)
    ]
    assert widths == expected
    assert encoder.out_channels == last
    assert (encoder.tap_2x_channels, encoder.tap_4x_channels) == (expected[14], expected[7])
    with torch.no_grad():
        features = encoder.eval()(pictures(1, 32, 32), CONTEXT)
    assert [f.shape[1] for f in features] == [last, expected[14], expected[7]]


def test_starts_from_the_published_distribution():
    torch.manual_seed(0)
    scaled = []
    for key, value in MobileNetV2().state_dict().items():
        if value.ndim == 4:
            out, _, k, _ = value.shape
            scaled.append(value.flatten() / math.sqrt(2 / (k * k * out)))
            n = value.numel()
            assert abs(scaled[-1].std() - 1) < 5 / math.sqrt(2 * n), key
            assert abs(scaled[-1].mean()) < 5 / math.sqrt(n), key
        else:
            start = 1.0 if key.endswith(("weight", "running_var")) else 0.0
            assert (value == start).all(), key
    assert len(scaled) == 2 + 2 + 3 * 16
    # A normal distribution: the shares inside one, two and three standard deviations.
    everything = torch.cat(scaled).abs()
    for sigmas, share in ((1, 0.6827), (2, 0.9545), (3, 0.9973)):
        assert (everything < sigmas).double().mean().item() == pytest.approx(share, abs=2e-3)


def test_neither_the_input_nor_the_weights_change_in_evaluation():
    encoder, x = liven(MobileNetV2(**SMALL)).eval(), pictures()
    before = {k: v.clone() for k, v in encoder.state_dict().items()}
    with torch.no_grad():
        first, again = encoder(x, CONTEXT), encoder(x, Context("SALICON", 2))
    assert torch.equal(x, pictures())
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))  # one for all domains
    assert all(torch.equal(v, before[k]) for k, v in encoder.state_dict().items())
    assert not any(isinstance(m, nn.Dropout | nn.Dropout2d) for m in encoder.modules())
