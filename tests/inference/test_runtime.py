"""ONNX Runtime gives the numbers of PyTorch and of the plain network, for any network, whatever
happens to its weights; where it is missing, PyTorch takes its place."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from PIL import Image
from plain_network import PlainNetwork
from support import PROJECT, lively_network, run_command, write_photo, write_run

import unisal
from unisal.errors import UserError
from unisal.inference import graph, processor
from unisal.inference.densities import to_saliency_map
from unisal.inference.engine import Engine
from unisal.inference.runtime import OnnxRuntime, pick_runtime
from unisal.inference.torch_network import TorchNetwork, TorchRuntime
from unisal.model import SOURCES, UNISAL
from unisal.predict import Predictor
from unisal.predict.loading import load_model
from unisal.threads import in_threads
from unisal.writing.maps import to_grey_levels

TOLERANCE = 1e-4
"""Of the range of the log-probabilities."""
NETWORKS = [
    {},
    {"ds_bn": False, "ds_adaptation": False, "ds_smoothing": False, "ds_gaussians": False},
    {"bypass_rnn": False},
    {"bypass_rnn": False, "sources": ("SALICON",)},
    {"res_rnn": False},
    {"n_gaussians": 0},
    {"gaussian_init": "random", "n_gaussians": 5},
    {"rnn_cfg": {"mobile": False, "kernel_size": (5, 5), "gate_ksize": (1, 3)}},
    {"rnn_cfg": {"dropout": (True, True, False)}, "drop_probs": (0.5, 0.5, 0.5)},
    {"rnn_hidden_channels": 24},
    {"smoothing_ksize": 9},
    {"smoothing_ksize": 1},
    {"sources": ("SALICON",)},
]


@pytest.fixture(scope="module")
def shipped():
    return load_model().eval()


def clip(batch, time, height, width, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(batch, time, 3, height, width, generator=generator)


def run(runtime, x, states, source, static):
    """-> the maps of clips `[batch, time, 3, H, W]` as a tensor, and the states after them."""
    states = states or [None] * len(x)
    maps, states = runtime.logits([list(frames) for frames in x.numpy()], states, source, static)
    return torch.as_tensor(maps), None if states[0] is None else states


def as_tensor(states):
    return torch.cat([torch.as_tensor(state) for state in states])


def onnx_runtime(model):
    return OnnxRuntime(TorchNetwork(model))


def densities(maps):
    return torch.log_softmax(maps.flatten(2), dim=-1)


def plain(model, x, source, static, state=None, dtype=torch.float32):
    weights = {
        k: v.to(dtype) if v.is_floating_point() else v for k, v in model.state_dict().items()
    }
    network = PlainNetwork(weights, model.config)
    with torch.no_grad():
        y, state = network(x.to(dtype), source=source, static=static, h0=[state])
    return y.flatten(2), None if state is None else state[0]


def assert_same(maps, expected):
    scale = expected.max() - expected.min()
    error = (densities(maps) - expected).abs().max() / scale
    assert error < TOLERANCE


@pytest.mark.parametrize("static", [True, False])
@pytest.mark.parametrize("source", SOURCES)
def test_the_shipped_weights_give_the_plain_numbers(shipped, source, static):
    x = clip(2, 3, 96, 160)
    expected, expected_state = plain(shipped, x, source, static)
    for ours in (onnx_runtime(shipped), TorchRuntime(shipped, "cpu")):
        first, state = run(ours, x[:, :1], None, source, static)
        rest, state = run(ours, x[:, 1:], state, source, static)
        assert_same(torch.cat([first, rest], 1), expected)
        assert (state is None) == static
        if not static:
            torch.testing.assert_close(as_tensor(state), expected_state, atol=1e-4, rtol=0)


@pytest.mark.parametrize("options", NETWORKS, ids=str)
def test_any_network_gives_the_plain_numbers(options):
    model = lively_network(**options)
    source = model.sources[-1]
    engine = onnx_runtime(model)
    for static, (height, width) in [(True, (64, 32)), (False, (96, 64)), (True, (32, 128))]:
        if not static and not model.has_rnn:
            continue
        x = clip(2, 2, height, width)
        maps, state = run(engine, x, None, source, static)
        expected, expected_state = plain(model, x, source, static)
        assert_same(maps, expected)
        assert (state is None) == (expected_state is None)
        if state is not None:  # the plain network's rounding alone can be as large as the limit
            exact = plain(model, x, source, static, dtype=torch.float64)[1]
            torch.testing.assert_close(as_tensor(state).double(), exact, atol=1e-3, rtol=0)


def test_states_that_are_handed_in_stay_as_they_are():
    engine = onnx_runtime(lively_network())
    _, before = run(engine, clip(1, 1, 64, 64), None, "DHF1K", False)
    kept = as_tensor(before).clone()
    run(engine, clip(1, 2, 64, 64), before, "DHF1K", False)
    assert torch.equal(as_tensor(before), kept)


def test_a_network_for_images_alone_has_no_video():
    engine = onnx_runtime(lively_network(sources=("SALICON",)))
    with pytest.raises(ValueError, match="GRU"):
        run(engine, clip(1, 1, 64, 64), None, "SALICON", False)


def change_one(model):
    with torch.no_grad():
        model.get_parameter("adaptation_salicon.0.weight").mul_(3)


def change_a_statistic(model):
    model.state_dict()["cnn.features.0.1.running_mean"][:] += 1


def load_others(model):
    model.load_state_dict(lively_network(seed=1).state_dict())


def replace_tensors(model):
    model.load_state_dict(lively_network(seed=1).state_dict(), assign=True)


@pytest.mark.parametrize("change", [change_one, change_a_statistic, load_others, replace_tensors])
def test_changed_weights_make_another_graph(change, monkeypatch):
    model, x = lively_network(), clip(1, 1, 64, 64)
    engine = onnx_runtime(model)
    made = []
    export = graph.export_graph
    monkeypatch.setattr(graph, "export_graph", lambda *given: made.append(given) or export(*given))
    old, _ = run(engine, x, None, "SALICON", True)
    run(engine, x, None, "SALICON", True)
    assert len(made) == 1
    change(model)
    new, _ = run(engine, x, None, "SALICON", True)
    expected, _ = plain(model, x, "SALICON", True)
    assert_same(new, expected)
    assert (densities(old) - expected).abs().max() > 100 * TOLERANCE
    assert len(made) == 2


def test_domains_do_not_mix():
    model, x = lively_network(), clip(1, 1, 64, 64)
    engine = onnx_runtime(model)
    for source in (*SOURCES, *SOURCES):
        expected, _ = plain(model, x, source, True)
        assert_same(run(engine, x, None, source, True)[0], expected)


def test_the_graph_is_one_of_plain_operations():
    model = lively_network()
    made = onnx.load_from_string(graph.export_graph(model, "DHF1K", static=False))
    onnx.checker.check_model(made, full_check=True)
    operations = {node.op_type for node in made.graph.node}
    assert operations == {
        "Conv", "Clip", "Add", "Mul", "Sub", "Sigmoid", "Tanh", "Concat", "Slice", "Resize", "Pad",
        "DepthToSpace", "Identity",
    }  # fmt: skip
    # Every BatchNorm is in a convolution: no vectors are left but those of the GRU's gates.
    n_convolutions = sum(isinstance(m, torch.nn.Conv2d) for m in model.modules())
    n_elsewhere = 2 * (len(SOURCES) - 1)  # adaptation, of the other domains
    made_of = sum(node.op_type == "Conv" for node in made.graph.node)
    # Two are split in two, for what is enlarged and what is not; two are made one; and smoothing.
    assert made_of <= n_convolutions - n_elsewhere // 2 + 2 - 1 + 1


def test_what_the_network_may_not_do_is_named():
    x = torch.randn(1, 3)
    recorder = graph.Recorder({"x": x})
    with recorder, pytest.raises(NotImplementedError, match="cumsum"):
        torch.cumsum(x, 1)


def test_convolutions_are_merged_only_where_it_saves_work():
    x = torch.randn(1, 4, 8, 8)
    wide, narrow = torch.randn(16, 4, 3, 3), torch.randn(1, 16, 1, 1)
    bias = torch.randn(16)

    def convolutions(*layers, also=None):
        with graph.Recorder({"x": x}) as recorder:
            y = x
            between = []
            for weight, summand in layers:
                y = torch.nn.functional.conv2d(y, weight, summand)
                between.append(y)
        outputs = {"y": y} | ({} if also is None else {"also": between[also]})
        made = recorder.graph(outputs)
        session = onnxruntime.InferenceSession(made.SerializeToString())
        (ours,) = session.run(["y"], {"x": x.numpy()})
        np.testing.assert_allclose(ours, y.numpy(), atol=1e-4)
        return sum(node.op_type == "Conv" for node in made.graph.node)

    assert convolutions((wide, bias), (narrow, None)) == 1
    assert convolutions((wide, None), (narrow, bias[:1])) == 1
    assert convolutions((wide, bias), (narrow, bias[:1])) == 1
    assert convolutions((wide, bias), (narrow, None), also=0) == 2  # it is wanted itself
    assert convolutions((narrow[:, :4], None), (torch.randn(16, 1, 1, 1), None)) == 2
    assert convolutions((narrow[:, :4], None), (torch.randn(16, 1, 3, 3), None)) == 2


# ---- choosing -----------------------------------------------------------------------------
def test_onnx_runtime_is_taken_on_the_cpu():
    network, double = TorchNetwork(lively_network()), TorchNetwork(lively_network().double())
    assert pick_runtime("auto", network, "cpu").name == "onnx"
    assert isinstance(pick_runtime("onnx", network, "cpu"), OnnxRuntime)
    assert isinstance(pick_runtime("torch", network, "cpu"), TorchRuntime)
    assert isinstance(pick_runtime("auto", network, "meta"), TorchRuntime)
    assert isinstance(pick_runtime("auto", double, "cpu"), TorchRuntime)


@pytest.mark.parametrize("missing", ["onnx", "onnxruntime"])
def test_without_the_packages_pytorch_takes_its_place(missing, monkeypatch):
    monkeypatch.setitem(sys.modules, missing, None)  # importing it raises ImportError
    network = TorchNetwork(lively_network())
    assert isinstance(pick_runtime("auto", network, "cpu"), TorchRuntime)
    with pytest.raises(UserError, match="onnxruntime"):
        pick_runtime("onnx", network, "cpu")


def test_without_the_packages_the_maps_are_the_same(tmp_path):
    model = write_run(tmp_path / "runs" / "mine")
    write_photo(tmp_path / "images" / "a.png")
    (tmp_path / "missing").mkdir()
    (tmp_path / "missing" / "onnxruntime.py").write_text("raise ImportError('none here')")
    done = run_command(
        "predictions_from_folder",
        str(tmp_path),
        "--train_id=mine",
        env={"TRAIN_DIR": str(tmp_path / "runs"), "PYTHONPATH": str(tmp_path / "missing")},
    )
    assert done.returncode == 0, done.stderr
    predictor = Predictor(model, "cpu")
    assert predictor.engine.runtime.name == "onnx"
    expected = to_grey_levels(to_saliency_map(predictor.image(tmp_path / "images" / "a.png")))
    written = np.asarray(Image.open(tmp_path / "saliency" / "a.png"))
    assert np.abs(written.astype(int) - expected).max() <= 1


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"runtime": "tensorrt"}, "runtime is 'tensorrt'"),
        ({"precision": "fp16"}, "precision is 'fp16'"),
        ({"precision": "bf16", "runtime": "onnx"}, "fp32 alone"),
    ],
)
def test_what_cannot_be_is_said(options, said):
    with pytest.raises(UserError, match=said):
        Engine(lively_network(), "cpu", **options)


def test_onnx_runtime_takes_float32_on_the_cpu_alone():
    with pytest.raises(UserError, match="float32 on the CPU"):
        pick_runtime("onnx", TorchNetwork(lively_network().double()), "cpu")


def test_a_predictor_can_be_told_which():
    model = lively_network()
    assert isinstance(Predictor(model, "cpu", runtime="torch").engine.runtime, TorchRuntime)
    assert isinstance(unisal.load(device="cpu", runtime="torch").engine.runtime, TorchRuntime)
    with pytest.raises(UserError, match="runtime is 'tensorrt'"):
        unisal.load(device="cpu", runtime="tensorrt")


# ---- a network that no graph can be made of -------------------------------------------------
class Changed(UNISAL):
    """Computes something that `unisal.inference.graph` has no translation for."""

    def logits_from(self, decoded, source):
        return super().logits_from(decoded + torch.fft.rfft(decoded).abs().mean(), source)


def changed_network():
    model = lively_network()
    model.__class__ = Changed
    return model


def test_a_network_without_a_graph_runs_in_pytorch_with_one_warning(caplog):
    model, x = changed_network(), clip(1, 2, 64, 96)
    engine = Engine(model, "cpu")
    assert engine.runtime.name == "onnx"
    for _ in range(2):
        maps = engine.image_logits(x[0].numpy(), "SALICON")
    assert engine.runtime.name == "torch"
    (warning,) = [r for r in caplog.records if r.levelname == "WARNING"]
    assert "no ONNX graph can be made" in warning.getMessage()
    assert "rfft" in warning.getMessage()
    with torch.no_grad():
        expected, _ = model.logits(x, domain="SALICON", static=True)
    np.testing.assert_allclose(maps, expected[0, :, 0], atol=1e-4, rtol=0)


def test_a_network_that_pytorch_took_over_can_still_be_trained():
    model = changed_network()
    Engine(model, "cpu").image_logits(clip(1, 1, 64, 96)[0].numpy(), "SALICON")
    model.requires_grad_(True)
    model(clip(1, 1, 64, 96), source="SALICON").sum().backward()


@pytest.mark.parametrize("runtime", ["auto", "onnx", "torch"])
@pytest.mark.parametrize("copied", [copy.deepcopy, lambda e: pickle.loads(pickle.dumps(e))])
def test_an_engine_can_be_copied_and_pickled(runtime, copied):
    engine, x = Engine(lively_network(), "cpu", runtime=runtime), clip(1, 2, 64, 96)[0].numpy()
    expected = engine.image_logits(x, "SALICON")
    again = copied(engine)
    np.testing.assert_allclose(again.image_logits(x, "SALICON"), expected, atol=1e-6, rtol=0)
    assert again.model is not engine.model


def test_several_threads_that_find_no_graph_warn_once(caplog):
    engine, x = Engine(changed_network(), "cpu"), clip(1, 4, 64, 96)[0].numpy()
    maps = list(in_threads(lambda f: engine.image_logits(f[None], "SALICON", True), x, 4, 4))
    assert len(maps) == 4
    assert len([r for r in caplog.records if r.levelname == "WARNING"]) == 1


def test_onnx_runtime_that_was_asked_for_is_not_replaced():
    engine = Engine(changed_network(), "cpu", runtime="onnx")
    with pytest.raises(UserError, match=r"no ONNX graph can be made.*rfft"):
        engine.image_logits(clip(1, 1, 64, 96)[0].numpy(), "SALICON")


def test_making_a_graph_leaves_the_callers_random_numbers_alone():
    engine = Engine(lively_network(), "cpu")
    before = torch.random.get_rng_state()
    engine.image_logits(clip(1, 1, 64, 96)[0].numpy(), "SALICON")
    assert torch.equal(torch.random.get_rng_state(), before)


# ---- bfloat16 -----------------------------------------------------------------------------
def test_bfloat16_needs_a_processor_that_has_it(monkeypatch):
    monkeypatch.setattr(processor, "cpu_flags", lambda: {"avx2", "avx512f"})
    with pytest.raises(UserError, match="no instructions for bfloat16"):
        Engine(lively_network(), "cpu", precision="bf16")
    with pytest.raises(UserError, match="no instructions for bfloat16"):
        unisal.load(device="cpu", precision="bf16")


def test_bfloat16_is_near(shipped, monkeypatch):
    monkeypatch.setattr(processor, "cpu_flags", lambda: {"avx512_bf16"})
    x = clip(1, 2, 96, 96)
    engine = pick_runtime("auto", TorchNetwork(shipped), "cpu", "bf16")
    expected, _ = plain(shipped, x, "DHF1K", False)
    maps, (state,) = run(engine, x, None, "DHF1K", False)
    assert maps.dtype == state.dtype == torch.float32
    for ours, theirs in zip(densities(maps)[0], expected[0], strict=True):
        assert np.corrcoef(ours.exp().numpy(), theirs.exp().numpy())[0, 1] > 0.99
    assert not torch.equal(densities(maps), expected)


# ---- threads ------------------------------------------------------------------------------
def test_calls_side_by_side_give_the_same():
    model = lively_network()
    engine, frames = Engine(model, "cpu", runtime="onnx"), clip(1, 6, 64, 96)[0].numpy()
    expected = engine.images(frames, (64, 96), "SALICON")
    predict = lambda x: engine.images(x[None], (64, 96), "SALICON", concurrent=True)[0]  # noqa: E731
    for _ in range(3):
        ours = list(in_threads(predict, frames, workers=4, ahead=6))
        np.testing.assert_allclose(ours, expected, atol=TOLERANCE, rtol=0)
    threads = [kind[-1] for kind in engine.runtime._sessions]
    assert sorted(threads) == sorted({1, torch.get_num_threads()})


THREADS = """
import os, sys, torch
sys.path[:0] = sys.argv[1:3]
from support import lively_network
from unisal.inference.engine import Engine
def running():
    return len(os.listdir("/proc/self/task"))
model, x = lively_network(), torch.randn(1, 3, 64, 64)
for n in (1, 3):
    torch.set_num_threads(n)
    model(x[:, None])  # starts PyTorch's own threads
    engine, before = Engine(model, "cpu"), running()
    engine.image_logits(x.numpy(), "SALICON")
    print(torch.get_num_threads(), running() - before)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="counts threads in /proc")
def test_there_are_as_many_threads_as_pytorch_has():
    done = subprocess.run(
        [sys.executable, "-c", THREADS, str(PROJECT), str(PROJECT / "tests")],
        capture_output=True,
        text=True,
        timeout=300,
        check=True,
    )
    # The caller's own thread works too, so one less than that are new.
    assert done.stdout.split() == ["1", "0", "3", "2"]


def test_the_model_is_left_alone():
    model = lively_network()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    Engine(model, "cpu").images(clip(1, 1, 64, 64)[0].numpy(), (64, 64), "SALICON")
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert all(p.requires_grad for p in model.parameters())
    assert isinstance(model, UNISAL)
