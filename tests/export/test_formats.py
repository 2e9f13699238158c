"""Exported networks, each in its own runtime, give the densities of the network in PyTorch: of
pictures of any size and number, and of 30 frames of a video with the state handed on."""

from __future__ import annotations

import json
import zipfile
from collections import Counter
from importlib.util import find_spec

import numpy as np
import onnx
import onnxruntime
import openvino
import pytest
import torch
from PIL import Image
from support import lively_network, photo

import unisal
from unisal.data.transforms import considered_cells, normalise, optimal_input_size
from unisal.errors import UserError
from unisal.export import formats
from unisal.export.core import portable
from unisal.export.formats import FIXED, FORMATS, check_format, export
from unisal.export.onnx_model import whole_model
from unisal.export.plan import Plan
from unisal.export.torch_model import resampling, rounded, whole_network
from unisal.inference.graph_file import Graph
from unisal.predict.predictor import Predictor

SHAPES = [(1, 48, 64), (2, 97, 61), (1, 33, 150)]
"""Numbers and sizes of pictures; those of the network are wider, higher, and smaller."""
FRAMES = np.stack([photo((64, 96), seed=i // 3) for i in range(30)])
STEP = 5
NATIVE = ((360, 640), (224, 384))
TOLERANCE = 1e-4
"""Of log-densities."""
FAR = 2e-2
"""OpenVINO has no float64 on the CPU: of 100,000 levels of a resized picture it rounds two to the
neighbouring one. That is as much in the density of a picture of noise."""


def read_onnx(path):
    session = onnxruntime.InferenceSession(path)
    names = [taken.name for taken in session.get_inputs()]
    return lambda *given: session.run(None, dict(zip(names, given, strict=True)))


def read_openvino(path):
    exact = {"INFERENCE_PRECISION_HINT": "f32"}
    model = openvino.Core().compile_model(path, "CPU", exact)
    return lambda *given: [np.array(y) for y in model(list(given)).values()]


def read_torch(path):
    module = torch.jit.load(path) if path.suffix == ".pt" else torch.export.load(path).module()

    def run(*given):
        with torch.inference_mode(), torch.jit.optimized_execution(False):
            results = module(*map(torch.from_numpy, given))
        return [y.numpy() for y in (results if isinstance(results, tuple) else (results,))]

    return run


def read_tflite(path):
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(str(path))
    interpreter.allocate_tensors()
    taken, made = interpreter.get_input_details(), interpreter.get_output_details()

    def run(*given):
        for place, value in zip(taken, given, strict=True):
            if value.shape != tuple(place["shape"]):  # zeros before the first frame
                value = np.zeros(place["shape"], value.dtype)
            interpreter.set_tensor(place["index"], value)
        interpreter.invoke()
        return [interpreter.get_tensor(place["index"]).copy() for place in made]

    return run


READ = {
    "tflite": read_tflite,
    "onnx": read_onnx,
    "openvino": read_openvino,
    "torchscript": read_torch,
    "torch_export": read_torch,
}
SLOW = pytest.mark.slow
NEEDS_LITERT = pytest.mark.skipif(find_spec("litert_torch") is None, reason="no litert-torch here")
MARKS = {"torchscript": [SLOW], "torch_export": [SLOW], "tflite": [SLOW, NEEDS_LITERT]}
EACH = pytest.mark.parametrize("format", [pytest.param(f, marks=MARKS.get(f, [])) for f in FORMATS])
ANY_SIZE = pytest.mark.parametrize(
    "format", [pytest.param(f, marks=MARKS.get(f, [])) for f in FORMATS if f not in FIXED]
)


@pytest.fixture(scope="module")
def network():
    """-> a small network whose maps depend on the picture, with a temperature for its pictures."""
    model = lively_network()
    model.temperatures["SALICON"] = 1.25
    return model


@pytest.fixture(scope="module")
def predictor(network):
    return Predictor(network, "cpu", runtime="onnx")


@pytest.fixture(scope="module")
def plain(network):
    """-> the same in PyTorch."""
    return Predictor(network, "cpu", runtime="torch")


def runner(folder, format, graph, plan):
    path = folder / f"network{FORMATS[format].suffix}"
    export(path, graph, plan, format)
    assert {found.suffix for found in folder.iterdir()} <= {path.suffix, ".bin"}
    return READ[format](path)


def softmax(logits):
    return np.exp(logits - np.logaddexp.reduce(logits, None))


def far(densities, expected):
    return np.abs(np.log(densities) - np.log(expected)).max()


@ANY_SIZE
def test_pictures_of_any_size_and_number(format, predictor, plain, tmp_path):
    run = runner(tmp_path, format, predictor.graph(), Plan(native=NATIVE))
    for n, *size in SHAPES:
        pictures = np.stack([photo(size, seed=i) for i in range(n)])
        (densities,) = run(pictures)
        assert densities.shape == pictures.shape[:3] and densities.dtype == np.float32
        np.testing.assert_allclose(densities.sum((1, 2), dtype=np.float64), 1, atol=1e-5)
        expected = np.stack([plain.image(picture) for picture in pictures])
        assert far(densities, expected) < (FAR if format == "openvino" else TOLERANCE)
    assert np.ptp(np.log(expected)) > 1000 * TOLERANCE  # there is something to compare


@EACH
def test_30_frames_of_a_video(format, predictor, plain, tmp_path):
    run = runner(tmp_path, format, predictor.graph("DHF1K"), Plan(False, (64, 96), batch=1))
    keyed = ((i, normalise(frame)) for i, frame in enumerate(FRAMES))
    start = np.zeros((1, 16, 2, 2), np.float32)
    states = [start] * STEP
    for i, logits in plain.engine.video_logits(keyed, "DHF1K", STEP):
        (density,), states[i % STEP] = run(FRAMES[i : i + 1], states[i % STEP])
        assert far(density, softmax(logits)) < TOLERANCE
    assert i == len(FRAMES) - 1
    without = run(FRAMES[-1:], start)[0][0]
    assert far(without, density) > 10 * TOLERANCE  # the state matters


def test_frames_of_the_presets_own_size_are_seen_as_it_says(predictor, plain):
    model = whole_model(predictor.graph("DHF1K"), Plan(native=NATIVE))
    session = onnxruntime.InferenceSession(model)
    frame = photo(NATIVE[0], seed=4)
    start = np.zeros((1, 16, 2, 2), np.float32)
    (density,), state = session.run(None, {"picture": frame[None], "state": start})
    assert state.shape[2:] == (7, 12) != tuple(n // 32 for n in optimal_input_size(NATIVE[0]))
    assert far(density, next(plain.video([frame]))) < TOLERANCE
    module = whole_network(predictor.graph("DHF1K"), Plan(native=NATIVE))
    assert module.input_cells(torch.zeros(1, *NATIVE[0], 3)) == (7, 12)


@pytest.mark.parametrize("resize", [False, True])
@pytest.mark.parametrize("size", [None, (64, 96)])
def test_logits_are_those_of_the_network(resize, size, predictor, plain):
    plan = Plan(resize=resize, size=size, output="logits")
    session = onnxruntime.InferenceSession(whole_model(predictor.graph(), plan))
    picture = photo((60, 90) if resize else (64, 96), seed=2)
    seen = size or (optimal_input_size((60, 90)) if resize else (64, 96))
    frame = Image.fromarray(picture).resize(seen[::-1], Image.LANCZOS)
    expected = plain.engine.image_logits(normalise(np.asarray(frame))[None], "SALICON")
    np.testing.assert_allclose(
        session.run(None, {"picture": picture[None]})[0], expected, atol=1e-5
    )


@EACH
def test_sizes_can_be_fixed(format, predictor, plain, tmp_path):
    n = 1 if format in FIXED else 2
    plan = Plan(resize=False, size=(64, 96), batch=n)
    graph, path = predictor.graph(licence="CC0-1.0"), tmp_path / f"network{FORMATS[format].suffix}"
    facts = export(path, graph, plan, format)
    assert facts["domain"] == "SALICON" and facts["licence"] == "CC0-1.0"
    assert stored_facts(path, facts) == facts
    pictures = np.stack([photo((64, 96), seed=i) for i in range(n)])
    logits = plain.engine.image_logits(np.stack([*map(normalise, pictures)]), "SALICON")
    assert far(READ[format](path)(pictures)[0], np.stack([*map(softmax, logits)])) < TOLERANCE


@pytest.mark.parametrize(("n_in", "n_out"), [(720, 288), (1280, 416), (60, 352), (7, 224), (1, 32)])
def test_pictures_are_resized_as_pillow_does(n_in, n_out):
    rng = np.random.default_rng(0)
    levels = rng.integers(0, 256, (n_in, 50), np.uint8)
    resized = Image.fromarray(levels).resize((50, n_out), Image.LANCZOS)
    here = torch.device("cpu")
    ours = rounded(resampling(n_in, n_out, here) @ torch.from_numpy(levels).double())
    np.testing.assert_array_equal(ours.numpy(), np.asarray(resized))


PORTABLE = {
    *("Add", "Cast", "Clip", "Concat", "Conv", "DepthToSpace", "Div", "Expand", "Flatten"),
    *("Identity", "MaxPool", "Mul", "Pow", "Reshape", "Resize", "Shape", "Sigmoid", "Slice"),
    *("Softmax", "Squeeze", "Sub", "Tanh", "Transpose", "Unsqueeze", "Gather", "Max", "Min"),
    *("Abs", "And", "ArgMin", "Equal", "Exp", "Floor", "MatMul", "Range", "ReduceSum", "Round"),
    *("Sin", "Where"),
}
"""Operations that the usual runtimes have; converters for phones refuse `Pad` with other modes than
a constant, and `Slice` with steps."""


@pytest.mark.parametrize("source", ["SALICON", "DHF1K"])
def test_no_operation_is_one_that_phones_refuse(source, predictor):
    graph = predictor.graph(source)
    ours = Counter(node.op_type for node in onnx.load_from_string(graph.model).graph.node)
    assert ours["Pad"]  # what is recorded has what has to be replaced
    model = onnx.load_from_string(whole_model(graph, Plan(native=NATIVE)))
    onnx.checker.check_model(model, full_check=True)
    assert {node.op_type for node in model.graph.node} <= PORTABLE
    assert all(len(node.input) < 5 for node in model.graph.node if node.op_type == "Slice")
    assert not any(node.op_type == "Pad" for node in portable(graph.model).nodes)


def stored_facts(path, facts):
    """-> what a file says of itself; of OpenVINO's, whose entries are texts, those that differ."""
    if path.suffix == ".onnx":
        stored = onnxruntime.InferenceSession(path).get_modelmeta().custom_metadata_map["unisal"]
    elif path.suffix == ".xml":
        found = openvino.Core().read_model(path).get_rt_info(["unisal"]).value
        texts = {k: v if isinstance(v, str) else json.dumps(v) for k, v in facts.items()}
        return facts if {**found} == texts else found
    elif path.suffix == ".tflite":
        stored = zipfile.ZipFile(path).read("metadata.json")
    else:
        extra = {"metadata.json": ""}
        if path.suffix == ".pt":
            torch.jit.load(path, _extra_files=extra)
        else:
            torch.export.load(path, extra_files=extra)
        stored = extra["metadata.json"]
    return json.loads(stored)


def test_a_file_says_what_it_is(predictor, tmp_path):
    path = tmp_path / "network.onnx"
    graph = predictor.graph("DHF1K", licence="CC0-1.0")
    facts = export(path, graph, Plan(size=(64, 96)), "onnx")
    assert facts["domain"] == "DHF1K" and facts["kind"] == "videos" and facts["size"] == [64, 96]
    assert facts["licence"] == "CC0-1.0" and facts["frame_step"] == STEP
    assert list(facts["tensors"]) == ["picture", "state", "density", "next_state"]
    assert stored_facts(path, facts) == facts


def test_the_program_itself_refuses_such_a_file(predictor, tmp_path):
    export(tmp_path / "a.onnx", predictor.graph(), Plan(), "onnx")
    with pytest.raises(UserError, match=r"a\.onnx was exported for other programs"):
        unisal.load(tmp_path / "a.onnx")


@SLOW
def test_convolutions_in_bfloat16_are_near(predictor, plain, tmp_path):
    graph = predictor.graph()
    facts = {**graph.facts, "precision": "bf16"}
    run = runner(tmp_path, "torchscript", Graph(graph.model, facts), Plan())
    picture = photo((48, 64), seed=1)
    (density,), expected = run(picture[None])[0], plain.image(picture)
    assert far(density, expected) > TOLERANCE
    # Random weights turn rounding into noise; those that ship reach 0.999.
    assert np.corrcoef(density.ravel(), expected.ravel())[0, 1] > 0.6


def test_a_file_that_cannot_be_written_whole_is_not_there(predictor, tmp_path, monkeypatch):
    def fail(*_):
        raise OSError("no space left")

    path = tmp_path / "a.onnx"
    path.write_text("what was there before")
    monkeypatch.setattr(formats, "with_entries", fail)
    with pytest.raises(OSError, match="no space"):
        export(path, predictor.graph(), Plan(), "onnx")
    assert path.read_text() == "what was there before" and len([*tmp_path.iterdir()]) == 1


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (("caffe", "fp32", "a.onnx"), "format is 'caffe'; it has to be one of onnx, "),
        (("onnx", "bf16", "a.onnx"), "precision is 'bf16'; onnx is written in fp32 or int8"),
        (("torchscript", "int8", "a.pt"), "torchscript is written in fp32 or bf16"),
        (("onnx", "fp32", "a.pt"), "files of onnx end in .onnx"),
    ],
)
def test_what_cannot_be_is_said(given, said, tmp_path):
    name, precision, file = given
    with pytest.raises(UserError, match=said):
        check_format(name, precision, tmp_path / file)


def test_formats_of_fixed_sizes_refuse_others(predictor, tmp_path, monkeypatch):
    monkeypatch.setattr(formats, "find_spec", lambda name: name)
    with pytest.raises(UserError, match="tflite takes one picture of one size"):
        export(tmp_path / "a.tflite", predictor.graph(), Plan(), "tflite")


def test_a_missing_package_is_named(monkeypatch, tmp_path):
    monkeypatch.setattr(formats, "find_spec", lambda name: None if name == "openvino" else name)
    with pytest.raises(UserError, match="pip install openvino"):
        check_format("openvino", "fp32", tmp_path / "a.xml")


def test_the_sizes_are_those_that_predictions_choose_from():
    sizes = {optimal_input_size((h, w)) for h in range(10, 400, 9) for w in range(10, 400, 9)}
    assert sizes <= {(32 * rows, 32 * columns) for rows, columns in considered_cells()}
