"""The network against a plain version of its computation, and against the published values."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from plain_network import PlainNetwork
from support import PROJECT, TINY

from unisal.model import SOURCES, UNISAL

REFERENCE = PROJECT / "tests" / "reference"
TOLERANCE = 1e-4
ABLATIONS = [
    {"ds_bn": False},
    {"ds_adaptation": False},
    {"ds_smoothing": False},
    {"ds_gaussians": False},
    {"ds_bn": False, "ds_adaptation": False, "ds_smoothing": False, "ds_gaussians": False},
    {"bypass_rnn": False},
    {"res_rnn": False},
    {"n_gaussians": 0},
    {"gaussian_init": "random", "n_gaussians": 5},
    {"rnn_cfg": {"mobile": False, "kernel_size": (5, 5), "gate_ksize": (1, 3)}},
    {"rnn_cfg": {"dropout": (True, True, False)}},
    {"rnn_hidden_channels": 24},
    {"smoothing_ksize": 9},
    {"sources": ("SALICON",)},
    {"sources": ("SALICON", "UCFSports")},
]


def tiny(seed=0, **options):
    """A small network whose every number differs from its start value."""
    torch.manual_seed(seed)
    net = UNISAL(**{**TINY, **options})
    with torch.no_grad():
        for key, value in net.state_dict().items():
            if key.endswith("running_var"):
                value.uniform_(0.5, 1.5)
            elif value.is_floating_point() and "drop_mask" not in key:
                value.add_(0.1 * torch.randn_like(value))
    return net


def clip(batch=2, time=3, height=64, width=96, seed=1):
    return torch.randn(batch, time, 3, height, width, generator=torch.Generator().manual_seed(seed))


def plain(net, **modes):
    # Copies: the network's own running estimates change in place as it trains.
    state = {key: value.clone() for key, value in net.state_dict().items()}
    return PlainNetwork(state, net.config, **modes)


def assert_same(ours, theirs):
    torch.testing.assert_close(ours, theirs, atol=TOLERANCE, rtol=0)


@pytest.mark.parametrize("static", [False, True])
@pytest.mark.parametrize("source", SOURCES)
def test_equals_plain_version_for_every_source(source, static):
    net, x = tiny().eval(), clip()
    expected, h = plain(net)(x, source=source, static=static)
    with torch.no_grad():
        y, hidden = net(x, source=source, static=static, return_hidden=True)
    assert_same(y, expected)
    assert (hidden is None) == static
    if not static:
        assert_same(hidden[0], h[0])


@pytest.mark.parametrize("target_size", [(61, 95), (1, 1), (7, 200), (128, 192), (64, 96)])
def test_equals_plain_version_at_any_target_size(target_size):
    net, x = tiny().eval(), clip(1, 2)
    expected, _ = plain(net)(x, target_size=target_size)
    with torch.no_grad():
        assert_same(net(x, target_size=target_size), expected)


@pytest.mark.parametrize("options", ABLATIONS, ids=str)
@pytest.mark.parametrize("training", [False, True])
def test_every_ablation_equals_plain_version(options, training):
    # In float64: normalising the few pixels of a small map by their own statistics blows rounding
    # errors up to 1e-3 in float32, whatever the order of the computation.
    net = tiny(drop_probs=(0, 0, 0), **options).train(training).double()
    source, x = net.sources[-1], clip().double()
    static = True if not net.has_rnn else None
    start = plain(net, training=training, cnn_training=training)
    y = net(x, source=source, static=static)
    for key in start.state:  # the masks that the network has just drawn
        if "drop_mask" in key:
            start.state[key] = net.state_dict()[key]
    expected, _ = start(x, source=source, static=static)
    assert_same(y.detach(), expected)


@pytest.mark.parametrize("cnn_training", [False, True])
@pytest.mark.parametrize("source", ["DHF1K", "SALICON"])
def test_training_statistics_are_those_of_one_time_step(source, cnn_training):
    net = tiny(drop_probs=(0, 0, 0), rnn_cfg={"dropout": (False,) * 3}).train().double()
    net.cnn.train(cnn_training)
    reference = plain(net, training=True, cnn_training=cnn_training)
    x = clip(time=4).double()
    y = net(x, source=source, static=False)
    expected, _ = reference(x, source=source, static=False)
    assert_same(y.detach(), expected)
    state = net.state_dict()
    for key, value in reference.state.items():
        torch.testing.assert_close(state[key], value, atol=1e-5, rtol=1e-4, msg=key)
    moved = [k for k in state if k.endswith("num_batches_tracked") and state[k] == 4]
    assert any("post_rnn" in k and source in k for k in moved)
    assert not any("bn_" in k and f"bn_{source}" not in k for k in moved)
    assert any(k.startswith("cnn.") for k in moved) == cnn_training


@pytest.mark.parametrize("chunks", [(1, 1, 1, 1, 1), (2, 3), (4, 1), (5,)], ids=str)
def test_chunks_with_carried_state_change_no_number(chunks):
    net, x = tiny().eval(), clip(time=5)
    with torch.no_grad():
        whole = net(x, source="Hollywood", static=False)
        parts, hidden, start = [], None, 0
        for n in chunks:
            part, hidden = net(
                x[:, start : start + n],
                h0=hidden,
                return_hidden=True,
                source="Hollywood",
                static=False,
            )
            parts.append(part)
            start += n
    torch.testing.assert_close(torch.cat(parts, 1), whole, atol=1e-5, rtol=0)


def test_no_state_may_be_none_or_a_list_of_none():
    net, x = tiny().eval(), clip(1, 2)
    with torch.no_grad():
        assert torch.equal(net(x, h0=None), net(x, h0=[None]))


@pytest.mark.slow
def test_full_network_equals_plain_version():
    net = tiny(cnn_cfg={"pretrained": False}, rnn_input_channels=256, rnn_hidden_channels=256)
    net.eval()
    x = clip(1, 2, 96, 64)
    expected, _ = plain(net)(x, target_size=(51, 77), source="UCFSports")
    with torch.no_grad():
        assert_same(net(x, target_size=(51, 77), source="UCFSports"), expected)


def test_one_frame_is_static_and_so_is_a_network_for_images():
    net, image = tiny().eval(), clip(1, 1)
    with torch.no_grad():
        _, hidden = net(image, source="SALICON", return_hidden=True)
        assert hidden is None
        only_images = tiny(sources=("SALICON",)).eval()
        _, hidden = only_images(clip(), source="SALICON", return_hidden=True)
        assert hidden is None
        with pytest.raises(ValueError, match="static=False needs the GRU"):
            only_images(clip(), source="SALICON", static=False)


def test_each_frame_is_a_density():
    with torch.no_grad():
        y = tiny().eval()(clip(), target_size=(50, 70))
    assert y.shape == (2, 3, 1, 50, 70)
    torch.testing.assert_close(y.exp().sum((2, 3, 4)), torch.ones(2, 3))


def test_forward_changes_neither_its_arguments_nor_the_network():
    net, x = tiny().eval(), clip()
    with torch.no_grad():
        _, hidden = net(x, return_hidden=True)
        copies = x.clone(), hidden[0].clone(), {k: v.clone() for k, v in net.state_dict().items()}
        state = [hidden[0]]
        first = net(x, h0=state, source="UCFSports")
        net(x, source="SALICON")
        again = net(x, h0=state, source="UCFSports")
    assert torch.equal(first, again)  # no source of an earlier call is remembered
    assert state[0] is hidden[0]
    assert torch.equal(x, copies[0])
    assert torch.equal(hidden[0], copies[1])
    for key, value in net.state_dict().items():
        assert torch.equal(value, copies[2][key]), key


def test_recurrent_masks_are_drawn_once_per_sequence():
    net = tiny().train()
    masks = []
    hidden = None
    for h0 in (None, "carried", None):
        _, hidden = net(clip(), h0=hidden if h0 else None, return_hidden=True)
        hidden = [hidden[0].detach()]
        masks.append(net.rnn.cell_list[0].drop_mask_1.clone())
    assert torch.equal(masks[0], masks[1])
    assert not torch.equal(masks[0], masks[2])
    assert set(masks[0].unique().tolist()) <= {0.0, 1.25}
    net.eval()(clip())
    assert torch.equal(net.rnn.cell_list[0].drop_mask_1, masks[2])


def test_every_parameter_of_the_source_gets_a_gradient_and_no_other():
    net = tiny(drop_probs=(0, 0, 0)).train()
    y = net(clip(), source="UCFSports")
    (y * torch.randn_like(y)).sum().backward()
    others = [s for s in SOURCES if s != "UCFSports"]
    for name, parameter in net.named_parameters():
        foreign = any(f"bn_{s}." in name or f"_{s.lower()}" in name for s in others)
        assert (parameter.grad is None) == foreign, name


def test_images_leave_the_recurrent_part_without_gradients():
    net = tiny().train()
    net(clip(time=1), source="SALICON").exp().square().sum().backward()
    assert all(p.grad is None for p in [*net.rnn.parameters(), *net.post_rnn.parameters()])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"x": torch.zeros(1, 1, 3, 64, 70)}, "64 x 70.*multiples of 32"),
        ({"x": torch.zeros(1, 3, 64, 96)}, r"\[1, 3, 64, 96\].*\[batch, time, 3, height, width\]"),
        ({"x": torch.zeros(1, 1, 1, 64, 96)}, r"\[1, 1, 1, 64, 96\]"),
        ({"x": torch.zeros(1, 0, 3, 64, 96)}, "empty"),
        ({"x": torch.zeros(1, 1, 3, 64, 96, dtype=torch.float64)}, "float64.*float32"),
        ({"x": torch.zeros(1, 1, 3, 64, 96, dtype=torch.uint8)}, "uint8.*float32"),
        ({"x": np.zeros((1, 1, 3, 64, 96), np.float32)}, "ndarray.*torch.Tensor"),
        ({"source": "dhf1k"}, "'dhf1k'.*DHF1K.*Hollywood"),
        ({"target_size": (0, 5)}, r"target_size is \(0, 5\)"),
        ({"target_size": (5,)}, r"target_size is \(5,\)"),
        (
            {"static": False, "h0": [torch.zeros(1, 16, 9, 9)]},
            r"h0.*\[1, 16, 9, 9\].*\[1, 16, 2, 3\]",
        ),
        ({"static": False, "h0": []}, "h0 has 0 entries"),
    ],
    ids=str,
)
def test_wrong_input_is_refused_with_what_is_allowed(change, message):
    arguments = {"x": torch.zeros(1, 1, 3, 64, 96), **change}
    with pytest.raises((ValueError, TypeError), match=message):
        tiny().eval()(**arguments)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rnn_cfg": {"kernel": 3}}, "rnn_cfg has no option 'kernel'.*'kernel_size'"),
        ({"cnn_cfg": {"width": 1}}, "cnn_cfg has no option 'width'"),
        ({"sources": "SALICON"}, "sources is 'SALICON'"),
        ({"sources": ()}, "sources"),
        ({"sources": ("DHF1K", "DHF1K")}, "no source may be listed twice"),
        ({"smoothing_ksize": 40}, "smoothing_ksize is 40.*odd"),
        ({"gaussian_init": "none"}, "gaussian_init is 'none'"),
    ],
    ids=str,
)
def test_wrong_configuration_is_refused_by_name(options, message):
    with pytest.raises(ValueError, match=message):
        UNISAL(**{**TINY, **options})


def test_keys_of_the_official_configuration_have_no_effect():
    official = {"input_size": (7, 12), "norm": "", "bn_momentum": 0.5}
    with_keys = UNISAL(**TINY, rnn_cfg=official).state_dict()
    without = UNISAL(**TINY).state_dict()
    assert {k: v.shape for k, v in with_keys.items()} == {k: v.shape for k, v in without.items()}


def test_copied_domain_predicts_like_its_origin():
    net, x = tiny().eval(), clip(1, 1)
    with torch.no_grad():
        other = net(x, source="Hollywood")
        net.copy_domain("SALICON", "DHF1K")
        assert torch.equal(net(x, source="DHF1K"), net(x, source="SALICON"))
        assert torch.equal(net(x, source="Hollywood"), other)


def test_state_dict_is_the_published_contract():
    expected = json.loads((Path(__file__).parent / "state_dict.json").read_text())
    state = UNISAL(cnn_cfg={"pretrained": False}).state_dict()
    found = [[k, list(v.shape), str(v.dtype).removeprefix("torch.")] for k, v in state.items()]
    assert found == expected
    assert len(expected) == 835


# ---- values of the published implementation ---------------------------------------------
@pytest.fixture(scope="module")
def reference():
    """Return the published values and the module that makes weights and inputs."""
    path = REFERENCE / "det_weights.py"
    spec = importlib.util.spec_from_file_location("det_weights", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return np.load(REFERENCE / "network.npz"), module


@pytest.mark.slow
@torch.no_grad()
def test_published_values(reference):
    values, det = reference
    net = det.fill_model(UNISAL(cnn_cfg={"pretrained": False}, verbose=0)).eval()
    x = det.frames(11, 1, 3, 128, 192)
    found = {
        f"dyn_{source}": net(x, source=source, static=False)
        for source in SOURCES
        if f"dyn_{source}" in values
    }
    image = det.frames(12, 2, 1, 96, 160)
    found["static_auto"] = net(image, source="SALICON", target_size=(60, 100))
    found["chunk_a"], hidden = net(x[:, :2], static=False, return_hidden=True)
    found["chunk_b"], hidden = net(x[:, 2:], static=False, return_hidden=True, h0=hidden)
    found["hidden"] = hidden[0]
    without = UNISAL(cnn_cfg={"pretrained": False}, verbose=0, n_gaussians=0)
    without = det.fill_model(without).eval()
    found["abl_no_gauss"] = without(det.frames(13, 1, 2, 64, 96), source="UCFSports")
    assert set(found) == set(values)
    for name, value in found.items():
        np.testing.assert_allclose(value.numpy(), values[name], atol=3e-4, rtol=0, err_msg=name)
