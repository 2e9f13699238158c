"""bfloat16: densities stay near those of float32, what runs it is measured once and remembered, and
it is used unasked only where it was found to agree."""

from __future__ import annotations

import importlib.util
import json
import shutil
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from support import PROJECT, lively_network, photo, run_python

import unisal
from unisal.config import load_json, run_dir, save_json
from unisal.errors import UserError
from unisal.inference import bf16, processor, sessions
from unisal.inference.bf16 import identity, record_path
from unisal.inference.engine import Engine
from unisal.inference.processor import BF16_FLAGS, lacks
from unisal.inference.runtime import Session
from unisal.predict.loading import load_network

PICTURE = photo((90, 120), seed=3)
DOMAIN = "Photographs"
needs_openvino = pytest.mark.skipif(
    importlib.util.find_spec("openvino") is None, reason="OpenVINO is not installed"
)
BFLOAT16_STEP = 2.0**-8
"""The relative distance of neighbouring numbers in bfloat16 is at most so large."""


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """-> a run of the shipped weights, whose graph is in the cache."""
    root = tmp_path_factory.mktemp("bf16")
    shutil.copytree(run_dir(None), root / "runs" / "mine")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("UNISAL_CACHE_DIR", str(root / "graphs"))
        patch.setenv("TRAIN_DIR", str(root / "runs"))
        unisal.load("mine", device="cpu").image(PICTURE)
    return root


@pytest.fixture
def run(made, tmp_path, monkeypatch):
    """-> the run's folder, on a processor with bfloat16, in a cache that remembers no times."""
    shutil.copytree(made / "graphs", tmp_path / "cache")
    monkeypatch.setenv("UNISAL_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("TRAIN_DIR", str(made / "runs"))
    monkeypatch.setattr(processor, "cpu_flags", lambda: {"avx512_bf16"})
    monkeypatch.setattr(bf16, "cpu_flags", lambda: {"avx512_bf16"})
    yield made / "runs" / "mine"
    record_path(made / "runs/mine/weights_best.pth", DOMAIN, True).unlink(missing_ok=True)


@pytest.fixture
def measured(monkeypatch):
    """-> what was measured so far; OpenVINO is said to be faster."""
    calls = []

    def measure(_, names):
        calls.append(names)
        return {name: 1.0 if name == "openvino" else 2.0 for name in names}

    monkeypatch.setattr(bf16, "measure", measure)
    monkeypatch.setattr(bf16, "installed", lambda _: ["openvino", "torch"])
    return calls


def cc(a, b):
    return np.corrcoef(a.ravel(), b.ravel())[0, 1]


def load(precision="bf16", **options):
    return unisal.load("mine", device="cpu", precision=precision, **options)


# ---- what is computed -----------------------------------------------------------------------
@needs_openvino
@pytest.mark.usefixtures("run")
def test_densities_are_near_those_of_float32():
    exact, near = load("fp32"), load(runtime="openvino")
    facts = near.facts()
    assert (facts.precision, facts.runtime) == ("bf16", "openvino")
    a, b = exact.image(PICTURE), near.image(PICTURE)
    np.testing.assert_allclose(b.sum(dtype=np.float64), 1, atol=1e-6)
    assert cc(a, b) > 0.995
    many = list(near.images([PICTURE] * 5))  # by several threads at a time
    for density in many:
        assert cc(density, b) > 0.9999


@pytest.mark.slow
@needs_openvino
@pytest.mark.usefixtures("run")
def test_200_frames_do_not_drift():
    engines = [load(p, runtime=r).engine for p, r in (("fp32", "onnx"), ("bf16", "openvino"))]
    noise = np.random.default_rng(0).normal(size=(3, 64, 296)).astype(np.float32)
    smooth = np.cumsum(noise, axis=2)
    smooth = (smooth - smooth.mean()) / smooth.std()
    states, agreement = ([None], [None]), []
    for i in range(200):  # a pan
        frame = np.ascontiguousarray(smooth[:, :, i : i + 96])
        pair = [
            np.exp(engine.step(frame, own, (64, 96), "DHF1K"))
            for engine, own in zip(engines, states, strict=True)
        ]
        agreement.append(cc(*pair))
    assert agreement[-1] >= 0.995
    assert np.mean(agreement[-20:]) > np.mean(agreement[:20]) - 0.002
    assert states[1][0].dtype == np.float32


@needs_openvino
def test_importing_openvino_tells_nobody_and_leaves_no_thread():
    program = (
        "import sys, threading; from unisal.inference.sessions import openvino_core\n"
        "openvino_core(); assert openvino_core() is openvino_core()\n"
        "print(threading.active_count(), 'openvino_telemetry' in sys.modules)"
    )
    done = run_python("-c", program, cwd=PROJECT)
    assert done.stdout.split() == ["1", "False"], done.stderr


@needs_openvino
def test_signals_come_through_when_graphs_were_freed_in_another_thread():
    program = (
        "import signal, threading, onnx; from onnx import helper\n"
        "from unisal.inference.sessions import open_openvino\n"
        "x, y = (helper.make_tensor_value_info(n, 1, [1, 2]) for n in 'xy')\n"
        "graph = helper.make_graph([helper.make_node('Exp', ['x'], ['y'])], 'g', [x], [y])\n"
        "opset = [helper.make_opsetid('', 17)]\n"
        "model = helper.make_model(graph, opset_imports=opset, ir_version=8)\n"
        "kept = [open_openvino(model.SerializeToString(), 1)]\n"
        "thread = threading.Thread(target=kept.clear); thread.start(); thread.join()\n"
        "signal.signal(signal.SIGINT, lambda *_: print('came'))\n"
        "signal.raise_signal(signal.SIGINT)"
    )
    done = run_python("-c", program, cwd=PROJECT)
    assert (done.returncode, done.stdout) == (0, "came\n"), done.stderr


@needs_openvino
@pytest.mark.skipif(lacks(BF16_FLAGS), reason="the processor has no bfloat16")
@pytest.mark.usefixtures("run")
def test_openvino_computes_the_graph_in_the_precision_that_is_named():
    model, facts, _ = load_network("mine").graph(DOMAIN, True)
    frame = np.random.default_rng(1).normal(size=(3, 64, 96)).astype(np.float32)
    exact, same, near = (
        Session(opened, facts).run(frame, None)[0]
        for opened in (
            sessions.open_onnx(model, 1),
            sessions.open_openvino(model, 1, "f32"),
            sessions.open_openvino(model, 1),
        )
    )
    height = np.ptp(exact)
    assert np.abs(same - exact).max() < 1e-4 * height
    assert 1e-4 * height < np.abs(near - exact).max()
    assert np.sqrt(np.mean((near - exact) ** 2)) < 20 * BFLOAT16_STEP * height


# ---- what runs it ---------------------------------------------------------------------------
@needs_openvino
@pytest.mark.usefixtures("run")
def test_the_fastest_one_is_measured_once_and_remembered(measured, tmp_path):
    assert load().facts().runtime == "openvino"
    assert load().facts().runtime == "openvino"
    assert measured == [["openvino", "torch"]]
    (record,) = (tmp_path / "cache" / "runtimes").iterdir()
    assert load_json(record)["runtime"] == "openvino"
    record.write_text("{")  # damaged
    assert load().facts().runtime == "openvino"
    assert len(measured) == 2
    save_json(record, {"runtime": "torch"})
    assert load().facts().runtime == "torch"


@pytest.mark.usefixtures("run")
def test_another_processor_version_or_network_is_measured_again(measured, monkeypatch):
    network = load_network("mine")
    bf16.fastest(network)
    monkeypatch.setattr(bf16, "cpu_name", lambda: "another one")
    bf16.fastest(network)
    monkeypatch.setattr(bf16, "compute_threads", lambda: 77)
    bf16.fastest(network)
    monkeypatch.setattr(bf16.importlib.metadata, "version", lambda _: "99")
    bf16.fastest(network)
    monkeypatch.setattr(network, "key", "other weights")
    bf16.fastest(network)
    bf16.fastest(network)
    assert len(measured) == 5


@pytest.mark.usefixtures("run")
def test_processes_that_measure_at_once_agree(monkeypatch):
    """They disagree about the times, and all use what the first one has written."""
    monkeypatch.setattr(bf16, "installed", lambda _: ["openvino", "torch"])
    network = load_network("mine")

    def measure(network, _):
        if not waiting:
            waiting.append(True)
            # Meanwhile another process measures, too, and is ready first.
            others.append(bf16.fastest(network))
            return {"openvino": 1.0, "torch": 2.0}
        return {"openvino": 2.0, "torch": 1.0}

    waiting, others = [], []
    monkeypatch.setattr(bf16, "measure", measure)
    assert bf16.fastest(network) == "torch"
    assert others == ["torch"]


@pytest.mark.usefixtures("run", "measured")
def test_many_threads_may_ask_at_once(tmp_path):
    with ThreadPoolExecutor(8) as pool:
        found = set(pool.map(lambda _: bf16.fastest(load_network("mine")), range(8)))
    assert found == {"openvino"}
    assert len(list((tmp_path / "cache" / "runtimes").iterdir())) == 1


@pytest.mark.usefixtures("run", "measured")
def test_where_nothing_can_be_remembered_it_is_measured_each_time(monkeypatch):
    def refuse(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(bf16, "save_json", refuse)
    assert [bf16.fastest(load_network("mine")) for _ in range(2)] == ["openvino"] * 2


@needs_openvino
@pytest.mark.usefixtures("run")
def test_the_measurement_times_what_it_says(monkeypatch):
    monkeypatch.setattr(bf16, "ROUNDS", 1)
    monkeypatch.setattr(bf16, "WARM_UP", 1)
    monkeypatch.setattr(bf16, "SIZE", (64, 96))
    network = load_network("mine")
    took = bf16.measure(network, ["openvino", "torch"])
    assert set(took) == {"openvino", "torch"} and min(took.values()) > 0
    assert network.weights is not None  # its weights count as those that were read
    monkeypatch.setitem(sys.modules, "openvino", None)
    assert set(bf16.measure(network, ["openvino", "torch"])) == {"torch"}
    with pytest.raises(UserError, match="none of openvino works"):
        bf16.measure(network, ["openvino"])


def test_onnx_runtime_is_a_candidate_on_arm_alone(monkeypatch):
    network = load_network(None)
    for machine, expected in (("aarch64", True), ("x86_64", False)):
        monkeypatch.setattr(bf16.platform, "machine", lambda m=machine: m)
        assert ("onnx" in bf16.installed(network)) == expected


def test_a_network_in_memory_is_run_by_pytorch(monkeypatch):
    monkeypatch.setattr(processor, "cpu_flags", lambda: {"avx512_bf16"})
    assert Engine(lively_network(), "cpu", precision="bf16").runtime.name == "torch"


@pytest.mark.parametrize("precision", ["fp32", "int8", "auto"])
def test_openvino_is_for_bfloat16(precision):
    with pytest.raises(UserError, match=r"openvino.*bf16|int8"):
        Engine(lively_network(), "cpu", precision=precision, runtime="openvino")


@needs_openvino
@pytest.mark.usefixtures("run")
def test_a_file_is_run_in_bfloat16_without_pytorch(tmp_path):
    load("fp32").write_graph(tmp_path / "a.onnx")
    np.save(tmp_path / "picture.npy", PICTURE)
    program = (
        "import sys, numpy as np, unisal\n"
        "from unisal.inference import processor\n"
        "processor.cpu_flags = lambda: {'avx512_bf16'}\n"
        "p = unisal.load('a.onnx', precision='bf16')\n"
        "np.save('map.npy', p.image(np.load('picture.npy')))\n"
        "print(p.facts().runtime, p.facts().precision, 'torch' in sys.modules)\n"
    )
    done = run_python("-c", program, cwd=tmp_path, env={"PYTHONPATH": str(PROJECT)})
    assert done.stdout.split() == ["openvino", "bf16", "False"], done.stderr
    exact = load("fp32").image(PICTURE)
    assert cc(np.load(tmp_path / "map.npy"), exact) > 0.995


# ---- when it is used unasked ----------------------------------------------------------------
def keep(run, **changes):
    record = {"holds": True, **identity(load_network("mine"), "openvino"), **changes}
    save_json(record_path(run / "weights_best.pth", DOMAIN, True), record)


@needs_openvino
@pytest.mark.usefixtures("measured")
def test_auto_uses_it_where_the_bounds_hold(run):
    assert load("auto").facts().precision == "fp32"
    keep(run)
    facts = load("auto").facts()
    assert (facts.precision, facts.runtime) == ("bf16", "openvino")
    np.testing.assert_array_equal(
        load("auto").image(PICTURE), load(runtime="openvino").image(PICTURE)
    )
    assert load("auto").facts("DHF1K", is_video=True).precision == "fp32"  # was not measured
    assert load("fp32").facts().precision == "fp32"


@needs_openvino
@pytest.mark.usefixtures("measured")
@pytest.mark.parametrize(
    "changes",
    [{"holds": False}, {"network": "x"}, {"runtime": "torch"}, {"runtime_version": "0"}],
)
def test_auto_keeps_to_float32_where_something_else_was_measured(run, changes):
    keep(run, **changes)
    facts = load("auto").facts()
    assert (facts.precision, facts.runtime) == ("fp32", "onnx")
    np.testing.assert_array_equal(load("auto").image(PICTURE), load("fp32").image(PICTURE))


@pytest.mark.usefixtures("measured")
def test_a_record_that_cannot_be_read_is_no_permission(run):
    record_path(run / "weights_best.pth", DOMAIN, True).write_text(json.dumps([1]))
    assert load("auto").facts().precision == "fp32"
