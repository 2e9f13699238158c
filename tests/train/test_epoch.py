"""One step of training and one pass over the data, against plain computations and published values.

In double precision, so that a small error cannot hide behind rounding.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator

import pytest
import torch
from plain_network import PlainNetwork
from plain_training import plain_losses, plain_sgd
from support import PROJECT, TINY

from unisal.data.base import Batch
from unisal.errors import UserError
from unisal.model import SOURCES, UNISAL
from unisal.train.config import TrainerConfig
from unisal.train.epoch import (
    LossMeans,
    interleaved,
    set_training_mode,
    show,
    train_epoch,
    train_step,
    validate_epoch,
)
from unisal.train.optim import make_optimizer

WEIGHTS = {"kld": 1.0, "nss": -0.1, "cc": -0.1}
NO_DROPOUT = {"drop_probs": (0, 0, 0), "rnn_cfg": {"dropout": (False,) * 3}}
OPTIONS = {"lr": 0.04, "cnn_lr_factor": 0.1, "weight_decay": 1e-2, "cnn_weight_decay": 1e-3}
"""The decay is stronger than the paper's, so that it shows."""
STEPS = ("SALICON", "DHF1K", "SALICON", "DHF1K")


@pytest.fixture
def _double():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def network(**options):
    """A small network whose every number differs from its start value."""
    torch.manual_seed(0)
    net = UNISAL(**{**TINY, **NO_DROPOUT, **options})
    with torch.no_grad():
        for key, value in net.state_dict().items():
            if key.endswith("running_var"):
                value.uniform_(0.5, 1.5)
            elif value.is_floating_point():
                value.add_(0.1 * torch.randn_like(value))
    return net.to(torch.get_default_dtype())


def sgd(net, **options):
    return make_optimizer(net, net.cnn, TrainerConfig.from_dict(OPTIONS | options))


def batch_of(source, seed=0, size=2, height=32, width=32):
    """A made-up batch: images for SALICON, else clips of two frames."""
    generator = torch.Generator().manual_seed(seed)
    static = source == "SALICON"
    steps, target = 1 if static else 2, (20, 30)
    maps = torch.rand((size, steps, 1, *target), generator=generator) ** 4
    return Batch(
        source=source,
        domain=source,
        is_video=not static,
        names=[f"{source} {seed}.{i}" for i in range(size)],
        frames=torch.randn((size, steps, 3, height, width), generator=generator),
        maps=maps / maps.sum((-1, -2), keepdim=True),
        fixations=torch.rand((size, steps, 1, *target), generator=generator) > 0.95,
    )


def state_of(net):
    return {k: v.clone() for k, v in net.state_dict().items()}


def gradient_norm(net):
    gradients = [p.grad for p in net.parameters() if p.grad is not None]
    return math.sqrt(sum(float((g**2).sum()) for g in gradients))


def of_source(key, source):
    return f"bn_{source}." in key or f"_{source.lower()}" in key


def of_rnn(key):
    return key.startswith(("rnn.", "post_rnn."))


class PlainTraining:
    """The same steps with the plain network, the plain losses and the plain SGD."""

    def __init__(self, net, cnn_trains, cnn_eval, grad_clip):
        self.net, self.cnn_trains, self.cnn_eval = net, cnn_trains, cnn_eval
        self.grad_clip = grad_clip
        self.state, self.velocities = state_of(net), {}
        self.names = [name for name, _ in net.named_parameters()]

    def step(self, batch):
        """Return (losses, norm of the gradient before clipping)."""
        trained = [n for n in self.names if self.cnn_trains or not n.startswith("cnn.")]
        parameters = {n: self.state[n].detach().requires_grad_() for n in trained}
        plain = PlainNetwork(
            {**self.state, **parameters},
            self.net.config,
            training=True,
            cnn_training=not self.cnn_eval,
        )
        log_density, _ = plain(
            batch.frames, batch.target_size, source=batch.source, static=not batch.is_video
        )
        losses = plain_losses(log_density, batch.maps, batch.fixations)
        total = sum(w * losses[name] for name, w in WEIGHTS.items())
        gradients = torch.autograd.grad(total, list(parameters.values()), allow_unused=True)
        with torch.no_grad():
            updated, norm = plain_sgd(
                parameters,
                dict(zip(trained, gradients, strict=True)),
                self.velocities,
                lr={n: 0.04 * (0.1 if n.startswith("cnn.") else 1) for n in trained},
                weight_decay={n: 1e-3 if n.startswith("cnn.") else 1e-2 for n in trained},
                momentum=0.9,
                grad_clip=self.grad_clip,
            )
        self.state = {k: v.detach() for k, v in {**plain.state, **updated}.items()}
        return {"total": total.detach(), **{k: v.detach() for k, v in losses.items()}}, norm


# ---- one step -----------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.usefixtures("_double")
@pytest.mark.parametrize(
    ("cnn_trains", "cnn_eval", "grad_clip"),
    [(True, True, None), (True, False, 2.0)],
    ids=["no limit", "with the encoder's statistics"],
)
def test_several_steps_equal_the_plain_computation(cnn_trains, cnn_eval, grad_clip):
    net = network()
    optimizer = sgd(net)
    set_training_mode(net, cnn_eval, cnn_trains)
    plain = PlainTraining(net, cnn_trains, cnn_eval, grad_clip)
    clipped = 0
    for i, source in enumerate(STEPS):
        # Smaller pictures leave BatchNorm few numbers, and the steps are then chaotic.
        batch = batch_of(source, seed=i, height=64, width=64)
        loss = train_step(net, batch, WEIGHTS, optimizer, grad_clip)
        expected, norm = plain.step(batch)
        found = {"total": loss.total.detach()}
        found |= {k: v.detach() for k, v in loss.parts.items()}
        torch.testing.assert_close(found, expected, atol=1e-9, rtol=1e-9)
        clipped += grad_clip is not None and norm > grad_clip
        after = norm if grad_clip is None else min(norm, grad_clip)
        assert gradient_norm(net) == pytest.approx(after, rel=1e-5)
        torch.testing.assert_close(state_of(net), plain.state, atol=1e-9, rtol=1e-9)
    assert clipped or grad_clip is None
    velocities = {
        name: optimizer.state[p]["momentum_buffer"]
        for name, p in net.named_parameters()
        if p in optimizer.state
    }
    torch.testing.assert_close(velocities, plain.velocities, atol=1e-9, rtol=1e-9)


@pytest.mark.usefixtures("_double")
def test_the_gradient_is_limited_over_all_parameters_jointly():
    gradients, norms = {}, {}
    for limit in (None, 1e6, 0.01):
        net = network()
        set_training_mode(net, cnn_eval=True, cnn_trains=True)
        train_step(net, batch_of("DHF1K"), WEIGHTS, sgd(net), limit)
        norms[limit] = gradient_norm(net)
        gradients[limit] = {
            k: p.grad / norms[limit] for k, p in net.named_parameters() if p.grad is not None
        }
    assert norms[1e6] == norms[None] > 0.01
    assert norms[0.01] == pytest.approx(0.01, rel=1e-3)
    torch.testing.assert_close(gradients[0.01], gradients[None])  # all by one factor


@pytest.mark.usefixtures("_double")
def test_a_factor_multiplies_the_gradient_and_not_the_loss_that_is_told():
    results = []
    for factor in (1.0, 0.5):
        net = network()
        set_training_mode(net, cnn_eval=True, cnn_trains=True)
        loss = train_step(net, batch_of("SALICON"), WEIGHTS, sgd(net), None, factor)
        results.append((loss.total.item(), gradient_norm(net)))
    assert results[0][0] == results[1][0]
    assert results[1][1] == pytest.approx(0.5 * results[0][1])


@pytest.mark.parametrize("algorithm", ["SGD", "Adam", "RMSprop"])
def test_a_step_of_one_source_touches_nothing_of_another(algorithm):
    net = network()
    optimizer = sgd(net, optim_algo=algorithm)
    set_training_mode(net, cnn_eval=True, cnn_trains=True)
    for source in SOURCES:  # every parameter has momentum but the GRU's for images, never used
        train_step(net, batch_of(source), WEIGHTS, optimizer, 2.0)
    for name, p in net.named_parameters():
        assert (p in optimizer.state) != (of_rnn(name) and of_source(name, "SALICON")), name
    for source in ("SALICON", "Hollywood"):
        before = state_of(net)
        train_step(net, batch_of(source, seed=1), WEIGHTS, optimizer, 2.0)
        others = [s for s in SOURCES if s != source]
        parameters = dict(net.named_parameters())
        for key, value in net.state_dict().items():
            foreign = any(of_source(key, s) for s in others)
            skipped = source == "SALICON" and of_rnn(key)
            same = torch.equal(value, before[key])
            if foreign or skipped:
                assert same, key
                assert key not in parameters or parameters[key].grad is None, key
            elif key in parameters:
                assert not same, key


def test_clips_train_the_recurrent_part():
    net = network()
    set_training_mode(net, cnn_eval=True, cnn_trains=False)
    before = state_of(net)
    train_step(net, batch_of("DHF1K"), WEIGHTS, sgd(net), 2.0)
    changed = {k for k, v in net.state_dict().items() if not torch.equal(v, before[k])}
    assert {n for n, _ in net.named_parameters() if of_rnn(n) and "bn_" not in n} <= changed


def test_images_train_the_recurrent_part_where_it_is_not_bypassed():
    net = network(bypass_rnn=False)
    set_training_mode(net, cnn_eval=True, cnn_trains=False)
    before = state_of(net)
    train_step(net, batch_of("SALICON"), WEIGHTS, sgd(net), 2.0)
    changed = {k for k, v in net.state_dict().items() if not torch.equal(v, before[k])}
    assert any(of_rnn(k) for k in changed)


@pytest.mark.parametrize("modules_of", [None, ("SALICON",)])
def test_with_bn_eval_all_statistics_stay(modules_of):
    net = network()
    set_training_mode(net, cnn_eval=False, cnn_trains=True, modules_of=modules_of, bn_eval=True)
    before = state_of(net)
    train_step(net, batch_of("SALICON"), WEIGHTS, sgd(net), 2.0)
    changed = {k for k, v in net.state_dict().items() if not torch.equal(v, before[k])}
    assert changed and not {k for k in changed if "running" in k or "num_batches" in k}
    assert any(k.endswith("bn_SALICON.weight") for k in changed)


@pytest.mark.parametrize("cnn_eval", [True, False])
def test_a_frozen_encoder_stays_as_it_is_but_for_its_statistics(cnn_eval):
    net = network()
    optimizer = sgd(net)
    set_training_mode(net, cnn_eval, cnn_trains=True)
    train_step(net, batch_of("DHF1K"), WEIGHTS, optimizer, 2.0)  # momentum has built up
    set_training_mode(net, cnn_eval, cnn_trains=False)
    before = state_of(net)
    train_step(net, batch_of("DHF1K", 1), WEIGHTS, optimizer, 2.0)
    changed = [
        k for k, v in net.state_dict().items() if k[:4] == "cnn." and not torch.equal(v, before[k])
    ]
    assert all("running" in k or "tracked" in k for k in changed)
    assert bool(changed) != cnn_eval


def test_the_modes_are_those_asked_for_whatever_was_before():
    net = network()
    for cnn_eval, cnn_trains in [(True, False), (False, True), (True, True), (False, False)]:
        net.eval()
        set_training_mode(net, cnn_eval, cnn_trains)
        modes = {k: m.training for k, m in net.named_modules()}
        assert all(on != cnn_eval for k, on in modes.items() if k.split(".")[0] == "cnn")
        assert all(on for k, on in modes.items() if k.split(".")[0] != "cnn")
        for name, p in net.named_parameters():
            assert p.requires_grad == (cnn_trains or not name.startswith("cnn."))


# ---- a loss that is not finite ------------------------------------------------------------


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("source", ["SALICON", "DHF1K"])
def test_a_loss_that_is_not_finite_stops_before_the_step(source, value):
    net = network()
    optimizer = sgd(net)
    set_training_mode(net, cnn_eval=True, cnn_trains=True)
    train_step(net, batch_of(source), WEIGHTS, optimizer, 2.0)
    before = {k: p.detach().clone() for k, p in net.named_parameters()}
    batch = batch_of(source, seed=1)
    batch.maps[1, -1, 0, 3, 4] = value
    with pytest.raises(UserError, match="not finite") as refused:
        train_step(net, batch, WEIGHTS, optimizer, 2.0)
    for word in (f"batch of {source}", f"{source} 1.0, {source} 1.1", "kld", "nss", "cc"):
        assert word in str(refused.value)
    assert "nan" in str(refused.value) or "inf" in str(refused.value)
    assert all(torch.equal(p, before[k]) for k, p in net.named_parameters())


def test_a_gradient_that_is_not_finite_never_reaches_the_weights():
    net = network()
    optimizer = sgd(net)
    set_training_mode(net, cnn_eval=True, cnn_trains=True)
    before = {k: p.detach().clone() for k, p in net.named_parameters()}
    net.get_parameter("adaptation_salicon.0.weight").register_hook(lambda g: g * math.nan)
    with pytest.raises(UserError, match=r"gradient is not finite.*SALICON 0\.0"):
        train_step(net, batch_of("SALICON"), WEIGHTS, optimizer, 2.0)
    assert all(torch.equal(p, before[k]) for k, p in net.named_parameters())


def test_validation_stops_at_a_loss_that_is_not_finite():
    net = network()
    with torch.no_grad():
        net.get_parameter("adaptation_salicon.0.bias").fill_(math.nan)
    with pytest.raises(UserError, match=r"not finite.*SALICON 3\.0"):
        validate_epoch(net, [batch_of("SALICON", 3)], WEIGHTS)


# ---- a pass over the data -----------------------------------------------------------------


def as_rows(losses):
    return {source: list(values.values()) for source, values in losses.items()}


def test_an_epoch_is_its_steps_and_tells_the_means_per_source():
    batches = [batch_of(source, i) for i, source in enumerate(STEPS)]
    factors = {"SALICON": 0.5, "DHF1K": 2.0}
    step_by_step, at_once = network(), network()
    optimizer, rows = sgd(step_by_step), {}
    set_training_mode(step_by_step, True, True)
    for batch in batches:
        loss = train_step(step_by_step, batch, WEIGHTS, optimizer, 2.0, factors[batch.source])
        values = [loss.total.item(), *(p.item() for p in loss.parts.values())]
        rows.setdefault(batch.source, []).append(values)

    calls, means = [], LossMeans()
    optimizer = sgd(at_once)
    set_training_mode(at_once, True, True)
    train_epoch(
        at_once,
        batches,
        WEIGHTS,
        optimizer,
        2.0,
        factors.__getitem__,
        lambda: calls.append("before"),
        lambda: calls.append(f"after {sum(len(rows) for rows in means.rows.values())}"),
        means,
    )
    losses = means.result()
    assert list(losses["SALICON"]) == ["loss", "loss_0", "loss_1", "loss_2"]
    expected = {s: [sum(c) / len(c) for c in zip(*r, strict=True)] for s, r in rows.items()}
    assert as_rows(losses) == {s: pytest.approx(v) for s, v in expected.items()}
    torch.testing.assert_close(state_of(at_once), state_of(step_by_step), atol=0, rtol=0)
    assert calls == [
        "before",
        "after 1",
        "before",
        "after 2",
        "before",
        "after 3",
        "before",
        "after 4",
    ]


def test_before_step_sets_what_the_step_uses_and_after_step_sees_its_result():
    net = network()
    optimizer = sgd(net, momentum=0, weight_decay=0)
    key = "adaptation_salicon.0.weight"
    set_training_mode(net, True, False)
    seen = [net.get_parameter(key).detach().clone()]

    def before():
        for group in optimizer.param_groups:
            group["lr"] = 0.04 * (len(seen) - 1)

    train_epoch(
        net,
        [batch_of("SALICON")] * 3,
        WEIGHTS,
        optimizer,
        None,
        lambda _: 1.0,
        before,
        lambda: seen.append(net.get_parameter(key).detach().clone()),
        LossMeans(),
    )
    assert torch.equal(seen[0], seen[1])  # a rate of zero
    assert not torch.equal(seen[1], seen[2])


def test_an_epoch_that_is_stopped_has_done_whole_steps_and_can_go_on():
    batches = [batch_of(source, i) for i, source in enumerate(STEPS)]

    def stop_after(n):
        def count():
            count.steps += 1
            if count.steps == n:
                raise KeyboardInterrupt

        count.steps = 0
        return count

    def run(net, optimizer, batches, means, after_step):
        arguments = (WEIGHTS, optimizer, 2.0, lambda _: 1.0, lambda: None, after_step, means)
        train_epoch(net, batches, *arguments)

    whole, means = network(), LossMeans()
    set_training_mode(whole, True, True)
    run(whole, sgd(whole), batches, means, lambda: None)

    parts = network()
    set_training_mode(parts, True, True)
    optimizer, first = sgd(parts), LossMeans()
    with pytest.raises(KeyboardInterrupt):
        run(parts, optimizer, batches, first, stop_after(3))
    assert sum(len(rows) for rows in first.rows.values()) == 3
    second = LossMeans(json.loads(json.dumps(first.rows)))  # what a file keeps of it
    run(parts, optimizer, batches[3:], second, lambda: None)
    torch.testing.assert_close(state_of(parts), state_of(whole), atol=0, rtol=0)
    assert second.result() == means.result()


def test_validation_can_be_stopped():
    seen = []

    def stop(means):
        seen.append(len(means.rows["SALICON"]))
        if len(seen) == 2:
            raise KeyboardInterrupt

    batches = [batch_of("SALICON", i) for i in range(3)]
    with pytest.raises(KeyboardInterrupt):
        validate_epoch(network(), batches, WEIGHTS, stop)
    assert seen == [2, 4]  # images, two in a batch


@pytest.mark.usefixtures("_double")
def test_validation_equals_the_plain_network_and_changes_nothing():
    net = network()
    net.train()
    before = state_of(net)
    batches = [batch_of(source, i) for i, source in enumerate(STEPS)]
    losses = validate_epoch(net, batches, WEIGHTS)
    assert not net.training
    assert not any(p.grad is not None for p in net.parameters())
    torch.testing.assert_close(state_of(net), before, atol=0, rtol=0)
    plain, rows = PlainNetwork(before, net.config), {}
    for b in batches:
        log_density, _ = plain(b.frames, b.target_size, source=b.source, static=not b.is_video)
        parts = [v.item() for v in plain_losses(log_density, b.maps, b.fixations).values()]
        total = sum(w * p for w, p in zip(WEIGHTS.values(), parts, strict=True))
        rows.setdefault(b.source, []).append([total, *parts])
    expected = {s: [sum(c) / len(c) for c in zip(*r, strict=True)] for s, r in rows.items()}
    assert as_rows(losses) == {s: pytest.approx(v, abs=1e-8) for s, v in expected.items()}


def test_summands_stand_in_the_order_of_the_configuration():
    batch = batch_of("SALICON")
    net = network()
    kld_first = validate_epoch(net, [batch], {"kld": 1.0, "cc": -2.0})["SALICON"]
    cc_first = validate_epoch(net, [batch], {"cc": -2.0, "kld": 1.0})["SALICON"]
    assert kld_first["loss_0"] == cc_first["loss_1"]
    assert kld_first["loss_1"] == cc_first["loss_0"]
    assert kld_first["loss"] == pytest.approx(cc_first["loss"])
    assert list(kld_first) == ["loss", "loss_0", "loss_1"]


def test_batches_come_in_the_order_of_the_sources():
    loaders = {
        "DHF1K": [batch_of("DHF1K", i, size=1) for i in range(2)],
        "SALICON": [batch_of("SALICON", i, size=1) for i in range(3)],
    }
    order = ["SALICON", "SALICON", "DHF1K", "SALICON", "DHF1K"]
    batches = interleaved(loaders, order, torch.device("cpu"))
    assert isinstance(batches, Iterator)
    expected = ["SALICON 0.0", "SALICON 1.0", "DHF1K 0.0", "SALICON 2.0", "DHF1K 1.0"]
    assert [b.names[0] for b in batches] == expected


def test_a_bar_counts_batches_and_shows_the_mean_loss():
    batches, noted = [batch_of("SALICON", i, size=1) for i in range(2)], []

    class Bar:
        def update(self, n=1):
            noted.append(n)

        def note(self, text):
            noted.append(text)

    losses = validate_epoch(network(), batches, WEIGHTS, lambda means: show(Bar(), means))
    assert noted[::2] == [1, 1]
    assert noted[-1] == f"loss={losses['SALICON']['loss']:.4f}"


# ---- values of the published implementation -----------------------------------------------


@pytest.fixture(scope="module")
def det():
    """The module that makes the published weights and inputs."""
    import importlib.util

    path = PROJECT / "tests" / "reference" / "det_weights.py"
    spec = importlib.util.spec_from_file_location("det_weights", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
def test_six_published_steps(det):
    published = json.loads((PROJECT / "tests" / "reference" / "train_steps.json").read_text())
    assert not published["train_cnn"]
    net = det.fill_model(UNISAL(cnn_cfg={"pretrained": False}, **NO_DROPOUT))
    set_training_mode(net, cnn_eval=True, cnn_trains=False)
    optimizer = make_optimizer(net, net.cnn, TrainerConfig())
    for i, step in enumerate(published["steps"]):
        b, t, h, w = (step[k] for k in ("batch", "time", "h", "w"))
        maps, fixations = det.targets(200 + i, b, t, 2 * h, 2 * w)
        frames = det.frames(100 + i, b, t, h, w)
        names = [str(k) for k in range(b)]
        source = step["source"]
        batch = Batch(source, source, t > 1, names, frames, maps, fixations)
        loss = train_step(net, batch, WEIGHTS, optimizer, grad_clip=2.0)
        assert loss.total.item() == pytest.approx(step["loss"], abs=1e-3)
        parts = [p.item() for p in loss.parts.values()]
        assert parts == pytest.approx(step["parts"], abs=1e-3)
        assert gradient_norm(net) == pytest.approx(step["grad_norm_after_clip"], abs=1e-3)
    state = net.state_dict()
    for key, values in published["after"].items():
        value = state[key].double()
        assert value.flatten()[0].item() == pytest.approx(values["first"], abs=1e-3), key
        assert value.sum().item() == pytest.approx(values["sum"], rel=1e-3, abs=1e-3), key
        assert value.square().sum().item() == pytest.approx(values["sq"], rel=1e-3), key
