"""Graphs in 8 bits: what is rewritten computes the same, what is rounded nearly so, and a graph
that does not belong to the weights, or a processor that cannot run it, is told about."""

from __future__ import annotations

import logging
import shutil

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import helper, numpy_helper
from support import lively_network, photo

import unisal
import unisal.inference.int8.quantize as module
from unisal.config import run_dir
from unisal.data.transforms import normalise
from unisal.errors import UserError
from unisal.export.onnx_model import whole_model
from unisal.export.plan import Plan
from unisal.inference import processor
from unisal.inference.densities import log_density, to_density
from unisal.inference.graph_file import Graph, to_bytes
from unisal.inference.int8 import kept
from unisal.inference.int8.channels import equalize
from unisal.inference.int8.doubling import double, linear_chains
from unisal.inference.int8.float_graph import FloatGraph, attribute
from unisal.inference.int8.quantize import Agreement, quantize
from unisal.inference.int8.ranges import Range, find_ranges
from unisal.inference.int8.rounding import round_together
from unisal.inference.int8.statistics import collect, open_session
from unisal.inference.prepared import WEIGHTS
from unisal.inference.processor import INT8_FLAGS, lacks
from unisal.inference.runtime import Session
from unisal.inference.sessions import open_onnx
from unisal.predict.inputs import prepare
from unisal.predict.loading import load_network

IMAGES, VIDEOS = ("Photographs", True), ("DHF1K", False)
SIZE = 64, 96
PICTURE = photo((48, 72), seed=3)
SIMILAR = 0.9
"""The CC of densities in 8 bits and in float32, for small pictures of noise; photographs of the
size that the network is for reach 0.999."""
needs_int8 = pytest.mark.skipif(lacks(INT8_FLAGS), reason="the processor has no such instructions")
HOLDS = {"holds": True, "mean_cc": 1.0, "worst_cc": 1.0}


def frames(n, seed=0):
    """-> n frames `[3, 64, 96]` as the network takes them."""
    return [prepare(photo((48, 72), seed=seed + i), SIZE) for i in range(n)]


@pytest.fixture(scope="module")
def shipped(tmp_path_factory):
    """-> a run of the shipped weights, since random ones turn rounding into noise."""
    root = tmp_path_factory.mktemp("int8")
    shutil.copytree(run_dir(None), root / "runs" / "mine")
    return root / "runs" / "mine"


@pytest.fixture(scope="module")
def graphs(shipped):
    """-> the graphs in float32 for images and for videos."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("UNISAL_CACHE_DIR", str(shipped.parents[1] / "cache"))
        patched.setenv("TRAIN_DIR", str(shipped.parent))
        network = load_network("mine")
        return {kind: network.graph(*kind) for kind in (IMAGES, VIDEOS)}


@pytest.fixture(scope="module")
def quantized(graphs):
    """-> the same in 8 bits, as they become without a second attempt."""
    clips = {IMAGES: [[x] for x in frames(12)], VIDEOS: [frames(4, 10 * i) for i in range(3)]}
    held = {IMAGES: [[x] for x in frames(4, 50)], VIDEOS: [frames(4, 50)]}
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(module, "MEAN_CC", -1)
        patched.setattr(module, "WORST_CC", -1)
        return {kind: quantize(graphs[kind], clips[kind], held[kind]) for kind in graphs}


def session(graph, content=None):
    return Session(open_session(content or graph.model, 1), graph.facts)


def maps(runner, clip):
    """-> the maps of frames that follow each other."""
    state, found = None, []
    for frame in clip:
        y, state = runner.run(frame, state)
        found.append(y)
    return found


def prepared(graph):
    """-> the graph to rewrite, and what was seen of it."""
    work = FloatGraph(graph.model)
    runner = session(graph)
    feeds = [runner.inputs(x, None) for x in frames(3)]
    return work, collect(work, feeds, 1)


# ---- what computes the same -----------------------------------------------------------------
@pytest.mark.parametrize("kind", [IMAGES, VIDEOS])
def test_merging_equalizing_and_doubling_change_nothing(graphs, kind):
    graph = graphs[kind]
    work, _ = prepared(graph)
    work.merge_pointwise()
    seen = collect(work, [session(graph).inputs(x, None) for x in frames(3)], 1)
    equalize(work, seen)
    chains = linear_chains(work)
    assert chains
    double(work, seen, find_ranges(work, seen), [name for chain in chains for name in chain])
    clip = frames(3, seed=20)
    before, after = (maps(session(graph, c), clip) for c in (None, work.to_bytes()))
    for a, b in zip(before, after, strict=True):
        np.testing.assert_allclose(b, a, atol=2e-4 * np.ptp(a))
    # What is said to be seen is what would be seen now.
    feeds = [session(graph).inputs(x, None) for x in frames(3)]
    again = collect(work, feeds, 1)
    for name in again.columns:
        np.testing.assert_allclose(seen.mean[name], again.mean[name], rtol=1e-3, atol=1e-3)


def test_a_doubled_tensor_loses_less():
    values = np.random.default_rng(0).normal(size=20_000).astype(np.float32)
    taken = Range(-4.0, 4.0)
    shift = np.float32(taken.step / 2)
    wider = Range(-4.0, 4.0 + float(shift))
    once = taken.rounded(values) - values
    both = (wider.rounded(values) + wider.rounded(values + shift) - shift) / 2 - values
    assert both.std() < 0.6 * once.std()


def test_rounding_together_changes_products_less_than_rounding_each():
    draw = np.random.default_rng(0)
    inputs = draw.normal(size=(500, 8)) @ draw.normal(size=(8, 24))  # correlated
    weight = draw.normal(size=(6, 24))
    steps = np.abs(weight).max(axis=1) / 15
    found = round_together(weight, inputs, steps)
    assert np.array_equal(found, np.rint(found))
    errors = [
        np.std((inputs - inputs.mean(axis=0)) @ (numbers * steps[:, None] - weight).T)
        for numbers in (found, np.rint(weight / steps[:, None]))
    ]
    assert errors[0] < 0.7 * errors[1]


def test_a_range_holds_zero_and_its_ends():
    taken = Range(-1.0, 3.0)
    ends = taken.rounded(np.array([0, -1, 3, 9, -9], np.float32))
    assert ends[0] == 0
    np.testing.assert_allclose(ends[1:], [-1, 3, 3, -1], atol=float(taken.step))


# ---- what is rounded ------------------------------------------------------------------------
@needs_int8
@pytest.mark.parametrize("kind", [IMAGES, VIDEOS])
def test_densities_resemble_those_of_float32(graphs, quantized, kind):
    found = quantized[kind]
    assert isinstance(found.agreement, Agreement)
    assert found.graph.facts["precision"] == "int8"
    assert len(found.graph.model) < 0.6 * len(graphs[kind].model)
    clip = frames(6, seed=80)
    pairs = zip(maps(session(graphs[kind]), clip), maps(session(found.graph), clip), strict=True)
    for a, b in pairs:
        exact, rounded = (to_density(log_density(y, (30, 40))) for y in (a, b))
        np.testing.assert_allclose(rounded.sum(dtype=np.float64), 1, atol=1e-6)
        assert np.corrcoef(exact.ravel(), rounded.ravel())[0, 1] > SIMILAR


def test_most_convolutions_are_in_8_bits_and_the_state_is_not(quantized):
    graph = FloatGraph(quantized[VIDEOS].graph.model)
    rounded = {n.output[0] for n in graph.nodes if n.op_type == "DequantizeLinear"}
    convolutions = graph.convolutions()
    assert sum(n.input[1] in rounded for n in convolutions) > 0.7 * len(convolutions)
    makers, todo = graph.makers(), ["next_state"]
    while todo:  # back to the state and to the gates, without a rounded number that is kept
        node = makers[todo.pop()]
        assert node.op_type not in ("QuantizeLinear", "DequantizeLinear")
        todo += [x for x in node.input if x in makers and node.op_type in ("Add", "Identity")]


@needs_int8
def test_200_frames_do_not_drift(graphs, quantized):
    clip = [frame for frame in frames(20, seed=30) for _ in range(10)]
    agreement = []
    for pair in zip(
        *(maps(session(graph), clip) for graph in (graphs[VIDEOS], quantized[VIDEOS].graph)),
        strict=True,
    ):
        exact, rounded = (to_density(log_density(y, (30, 40))) for y in pair)
        agreement.append(np.corrcoef(exact.ravel(), rounded.ravel())[0, 1])
    assert len(agreement) == 200
    assert agreement[-1] > SIMILAR
    assert np.mean(agreement[-50:]) > np.mean(agreement[:50]) - 0.01


def test_what_is_kept_more_exactly_has_to_help(graphs, monkeypatch):
    tried = []
    monkeypatch.setattr(module, "round_weights", lambda *_: {})
    monkeypatch.setattr(module, "to_int8", lambda graph, *_: graph.to_bytes())
    losses = iter([0.010, 0.005, 0.006, 0.0049999, *[0.004] * 20])

    def agree(*_):
        tried.append(next(losses))
        return Agreement(1 - tried[-1], 0.0)

    monkeypatch.setattr(module, "agree", agree)
    found = quantize(graphs[IMAGES], [[x] for x in frames(2)], [[x] for x in frames(1, 50)])
    chains = linear_chains(FloatGraph(graphs[IMAGES].model))
    # The first chain helps, the next two do not, the fourth does; what follows is no better.
    assert len(found.plan.doubled) == 2
    assert found.plan.n_floats == module.FIRST_FLOATS
    assert len(tried) >= len(chains)
    assert found.graph.facts["plan"] == found.plan._asdict()


@pytest.mark.parametrize("kind", [IMAGES, VIDEOS], ids=["images", "videos"])
def test_a_prepared_graph_in_8_bits_gives_the_same_bits(quantized, kind, tmp_path, monkeypatch):
    monkeypatch.setenv("UNISAL_CACHE_DIR", str(tmp_path))
    graph = quantized[kind].graph
    runners = [Session(open_onnx(graph.model, 1, digest=d), graph.facts) for d in ("", "a", "a")]
    assert len(list(tmp_path.rglob(WEIGHTS))) == 1
    plain, *others = (maps(runner, frames(3)) for runner in runners)
    for found in others:
        np.testing.assert_array_equal(found, plain)


def test_without_frames_nothing_is_made(graphs):
    with pytest.raises(UserError, match="no frames"):
        quantize(graphs[IMAGES], [], [])


# ---- which one is used ----------------------------------------------------------------------
@pytest.fixture
def run(shipped, monkeypatch):
    """-> the folder of a run, on a processor with instructions for 8 bits."""
    monkeypatch.setenv("UNISAL_CACHE_DIR", str(shipped.parents[1] / "cache"))
    monkeypatch.setenv("TRAIN_DIR", str(shipped.parent))
    monkeypatch.setattr(processor, "cpu_flags", lambda: {"avx512_vnni"})
    yield shipped
    kept.int8_path(shipped / "weights_best.pth", *IMAGES).unlink(missing_ok=True)


def keep(run, quantized, agreement=HOLDS, network=None):
    """Put the graph for images beside the weights."""
    key = network or unisal.load("mine", device="cpu").engine.network.key
    facts = {**quantized[IMAGES].graph.facts, kept.NETWORK: key, kept.AGREEMENT: agreement}
    path = kept.int8_path(run / "weights_best.pth", *IMAGES)
    path.write_bytes(to_bytes(Graph(quantized[IMAGES].graph.model, facts)))
    return path


def precision(name):
    return unisal.load("mine", device="cpu", precision=name).facts().precision


def image(name="fp32"):
    return unisal.load("mine", device="cpu", precision=name).image(PICTURE)


@needs_int8
def test_a_graph_in_8_bits_is_used_when_it_is_asked_for(run, quantized):
    keep(run, quantized)
    assert [precision(name) for name in ("fp32", "int8", "auto")] == ["fp32", "int8", "int8"]
    exact, rounded = image(), image("int8")
    assert not np.array_equal(exact, rounded)
    assert np.corrcoef(exact.ravel(), rounded.ravel())[0, 1] > SIMILAR
    np.testing.assert_array_equal(image("auto"), rounded)


def test_auto_keeps_to_float32_where_the_bounds_do_not_hold(run, quantized):
    keep(run, quantized, {**HOLDS, "holds": False})
    assert [precision(name) for name in ("int8", "auto")] == ["int8", "fp32"]
    np.testing.assert_array_equal(image("auto"), image())


@pytest.mark.usefixtures("run")
def test_where_there_is_none_it_is_said_how_to_make_it():
    assert precision("auto") == "fp32"
    with pytest.raises(UserError, match="unisal quantize"):
        precision("int8")
    with pytest.raises(UserError, match="unisal quantize"):
        image("int8")


def test_one_of_other_weights_is_refused(run, quantized):
    keep(run, quantized, network="of other weights")
    with pytest.raises(UserError, match="other weights"):
        image("int8")
    np.testing.assert_array_equal(image("auto"), image())


def test_weights_that_were_changed_need_another_graph(run, quantized):
    keep(run, quantized)
    predictor = unisal.load("mine", device="cpu", precision="int8")
    with torch.no_grad():
        next(predictor.engine.model.parameters()).mul_(1.1)
    with pytest.raises(UserError, match="changed"):
        predictor.image(PICTURE)


def test_a_processor_without_instructions_falls_back_and_says_so_once(
    run, quantized, monkeypatch, caplog
):
    path = keep(run, quantized)
    exact = image()
    monkeypatch.setattr(processor, "cpu_flags", lambda: {"avx2"})
    with caplog.at_level(logging.WARNING):
        predictor = unisal.load("mine", device="cpu", precision="int8")
        for _ in range(2):
            np.testing.assert_array_equal(predictor.image(PICTURE), exact)
    assert predictor.facts().precision == "fp32"
    assert len(caplog.records) == 1
    assert "float32" in caplog.text
    with pytest.raises(UserError, match="in 8 bits"):
        unisal.load(path, device="cpu")


def test_8_bits_are_for_runs_on_the_cpu():
    for options in ({"runtime": "torch"}, {}):
        with pytest.raises(UserError, match="int8"):
            unisal.Predictor(lively_network(), "cpu", precision="int8", **options)


def test_a_graph_in_8_bits_can_be_written_for_other_machines(run, quantized, tmp_path):
    keep(run, quantized)
    predictor = unisal.load("mine", device="cpu", precision="int8")
    predictor.write_graph(tmp_path / "small.onnx")
    loaded = unisal.load(tmp_path / "small.onnx")
    assert loaded.facts().precision == "int8"
    np.testing.assert_array_equal(loaded.image(PICTURE), predictor.image(PICTURE))


@needs_int8
def test_what_is_exported_of_it_predicts_the_same(quantized):
    graph = quantized[IMAGES].graph
    picture = photo(SIZE, seed=7)
    exported = onnxruntime.InferenceSession(whole_model(graph, Plan(resize=False)))
    (density,) = exported.run(None, {"picture": picture[None]})[0]
    logits, _ = session(graph).run(normalise(picture), None)
    expected = to_density(log_density(logits / graph.facts["temperatures"][IMAGES[0]], SIZE))
    # Values that lie between two whole numbers may be rounded to either.
    assert np.corrcoef(density.ravel(), expected.ravel())[0, 1] > 0.999


def test_runtimes_run_it_in_whole_numbers(quantized, tmp_path):
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimised.onnx")
    options.log_severity_level = 3
    onnxruntime.InferenceSession(
        quantized[IMAGES].graph.model, options, providers=["CPUExecutionProvider"]
    )
    optimised = FloatGraph((tmp_path / "optimised.onnx").read_bytes())
    kinds = [node.op_type for node in optimised.nodes]
    assert kinds.count("QLinearConv") > 0.7 * sum("Conv" in kind for kind in kinds)


# ---- against an independent computation -----------------------------------------------------
def dequantized(model):
    """-> the same graph in float32: the constants in 8 and 32 bits multiplied out by hand, and what
    rounds tensors written as plain arithmetic, without one operation for 8 bits."""
    made = onnx.load_from_string(model)
    constants = {c.name: numpy_helper.to_array(c) for c in made.graph.initializer}
    nodes, floats, more = [], {}, {}
    for node in made.graph.node:
        name = node.output[0]
        if node.op_type == "DequantizeLinear" and node.input[0] in constants:
            whole, step, zero = (constants[x] for x in node.input)
            shape = [-1] + [1] * (whole.ndim - 1)
            assert not zero.any()
            floats[name] = whole.astype(np.float32) * np.float32(step).reshape(shape)
        elif node.op_type == "QuantizeLinear":
            step, zero = (constants[x] for x in node.input[1:])
            info = np.iinfo(zero.dtype)
            low, high = (np.float32((edge - int(zero)) * step) for edge in (info.min, info.max))
            parts = [f"{name}_{part}" for part in ("step", "low", "high", "over", "whole", "back")]
            more.update(zip(parts, [np.float32(step), low, high], strict=False))
            nodes += [
                helper.make_node("Div", [node.input[0], parts[0]], [parts[3]]),
                helper.make_node("Round", [parts[3]], [parts[4]]),
                helper.make_node("Mul", [parts[4], parts[0]], [parts[5]]),
                helper.make_node("Clip", [parts[5], parts[1], parts[2]], [name]),
            ]
        elif node.op_type == "DequantizeLinear":
            nodes.append(helper.make_node("Identity", [node.input[0]], [name]))
        else:
            nodes.append(node)
    constants = {k: v for k, v in constants.items() if v.dtype not in (np.int8, np.uint8)}
    constants = {k: v for k, v in constants.items() if not k.endswith("_whole")} | floats | more
    del made.graph.node[:], made.graph.initializer[:]
    made.graph.node.extend(nodes)
    made.graph.initializer.extend(
        numpy_helper.from_array(np.asarray(v), k) for k, v in constants.items()
    )
    return made.SerializeToString()


@needs_int8
@pytest.mark.parametrize("kind", [IMAGES, VIDEOS])
def test_it_computes_what_its_numbers_say(graphs, quantized, kind):
    graph = quantized[kind].graph
    clip = frames(3, seed=70)
    found, expected = (maps(session(graph, m), clip) for m in (None, dequantized(graph.model)))
    for a, b in zip(found, expected, strict=True):
        assert np.corrcoef(a.ravel(), b.ravel())[0, 1] > 0.999
    # Sums in whole numbers and in float32 may round to neighbours, but seldom: that is little next
    # to what rounding itself does.
    exact = maps(session(graphs[kind]), clip)
    errors = [np.mean(np.abs(np.subtract(found, x))) for x in (expected, exact)]
    assert errors[0] < 0.5 * errors[1], errors


@pytest.mark.parametrize("kind", [IMAGES, VIDEOS])
def test_weights_have_a_step_for_each_channel_that_suits_it(quantized, kind):
    graph = FloatGraph(quantized[kind].graph.model)
    makers, seen = graph.makers(), 0
    for node in graph.convolutions():
        maker = makers.get(node.input[1])
        if maker is None:
            continue  # in float32
        whole, steps, _ = (graph.constants[name] for name in maker.input)
        assert whole.dtype == np.int8 and len(steps) == len(whole)
        assert attribute(maker, "axis") == 0
        highest = np.abs(whole.astype(int)).reshape(len(whole), -1).max(axis=1)
        # Every channel uses its range, but for those that are zero and those of which what was
        # made up for elsewhere took something away.
        assert np.median(highest) == 127 and np.mean(highest > 110) > 0.9
        seen += len(np.unique(steps)) > 1
    assert seen > 20


def test_those_layers_are_in_float32_that_should_be(graphs, quantized):
    for kind in (IMAGES, VIDEOS):
        graph = FloatGraph(quantized[kind].graph.model)
        makers = graph.makers()
        kept = [n for n in graph.convolutions() if n.input[1] not in makers]
        work = FloatGraph(graphs[kind].model)
        work.merge_pointwise()
        first = [n.output[0] for n in work.convolutions()[: module.FIRST_FLOATS]]
        last = {
            n.output[0] for n in work.convolutions() if len(work.constants[n.input[1]]) == 1
        }  # the map's
        recurrent = {n.output[0] for n in work.convolutions()} & work.recurrent()
        assert bool(recurrent) == (kind == VIDEOS)
        assert last
        assert {n.output[0] for n in kept} >= {*first, *last, *recurrent}
        if quantized[kind].plan.n_floats == module.FIRST_FLOATS:
            depthwise_map = {  # the smoothing of the one map
                n.output[0]
                for n in work.convolutions()
                if work.constants[n.input[1]].shape[1] == 1 and attribute(n, "group", 1) == 1
            }
            assert {n.output[0] for n in kept} == {*first, *last, *recurrent} | depthwise_map
