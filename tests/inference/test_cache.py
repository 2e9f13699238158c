"""Graphs are kept once for all processes, and nothing depends on it: whatever happens to the cache,
the maps stay the same."""

from __future__ import annotations

import os
import sys
import time

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from support import lively_network, photo, write_network

import unisal
from unisal.config import load_json, save_json
from unisal.errors import UserError
from unisal.inference import cache, network, torch_network
from unisal.inference.graph_file import Graph, from_bytes, read_facts, read_graph, to_bytes

PICTURE = photo((48, 64), seed=3)
FACTS = {
    "sources": ["A", "B"],
    "image_domains": [],
    "temperatures": {},
    "domain": "A",
    "static": True,
    "gaussians": None,
    "prior_scale": 0.0,
}
GRAPH = Graph(b"\x08\x08\x3a\x03abc", FACTS)
"""Of the form of an ONNX model: its version, and a field of three bytes."""


@pytest.fixture(scope="module")
def model():
    return lively_network()


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("UNISAL_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache" / "graphs"


@pytest.fixture(autouse=True)
def run(tmp_path, monkeypatch, model):
    """-> the folder of the run that is predicted with."""
    monkeypatch.setenv("TRAIN_DIR", str(tmp_path / "runs"))
    write_network(tmp_path / "runs" / "mine", model)
    return tmp_path / "runs" / "mine"


@pytest.fixture
def read(monkeypatch):
    """-> a list that grows whenever a run's network is read."""
    found = []
    from_file = torch_network.TorchNetwork.outside_inference

    def watched(load):
        found.append(load)
        return from_file(load)

    monkeypatch.setattr(torch_network.TorchNetwork, "outside_inference", watched)
    return found


def predict(**options):
    return unisal.load("mine", device="cpu", **options).image(PICTURE, log=True)


# ---- what is kept, and for how long ---------------------------------------------------------
def test_a_graph_is_made_once_and_for_all(folder, read, model):
    first = predict()
    (path,) = folder.iterdir()
    assert len(read) == 1
    np.testing.assert_array_equal(predict(), first)
    assert len(read) == 1
    expected = unisal.Predictor(model, "cpu").image(PICTURE, log=True)  # never from the cache
    np.testing.assert_array_equal(first, expected)
    assert list(folder.iterdir()) == [path]


@pytest.mark.usefixtures("folder")
def test_the_network_itself_is_read_when_it_is_asked_for(read, model):
    predict()
    predictor = unisal.load("mine", device="cpu")
    assert len(read) == 1
    state = predictor.engine.model.state_dict()
    assert len(read) == 2
    assert all(torch.equal(state[name], value) for name, value in model.state_dict().items())
    assert next(predictor.engine.model.parameters()).requires_grad
    assert not next(predictor.engine.model.parameters()).is_inference()


def test_weights_that_are_changed_in_memory_count_and_are_not_kept(folder):
    before = predict()
    predictor = unisal.load("mine", device="cpu")
    predictor.image(PICTURE)
    with torch.no_grad():
        predictor.engine.model.get_parameter("adaptation_salicon.0.weight").mul_(3)
    assert np.abs(predictor.image(PICTURE, log=True) - before).max() > 1e-2
    np.testing.assert_array_equal(predict(), before)
    assert len(list(folder.iterdir())) == 1


def test_other_weights_options_or_code_are_another_graph(folder, run, monkeypatch):
    before = predict()
    write_network(run, lively_network(seed=1))
    assert np.abs(predict() - before).max() > 1e-2
    save_json(run / "UNISAL.json", {**load_json(run / "UNISAL.json"), "bypass_rnn": False})
    predict()
    assert len(list(folder.iterdir())) == 3
    monkeypatch.setattr(cache, "_program_key", lambda: "another version")
    predict()
    assert len(list(folder.iterdir())) == 4


def test_the_least_recently_used_make_room(folder, monkeypatch):
    size = len(to_bytes(GRAPH))
    monkeypatch.setattr(cache, "MAX_BYTES", 3 * size)
    for age, domain in enumerate("CBA"):
        cache.keep_graph("key", domain, True, GRAPH)
        past = time.time() - 100 * (age + 1)
        os.utime(cache._path("key", domain, True), (past, past))
    assert cache.find_graph("key", "A", True).model == GRAPH.model  # the oldest one is used
    cache.keep_graph("key", "D", True, GRAPH)
    kept = [d for d in "ABCD" if cache._path("key", d, True).is_file()]
    assert kept == ["A", "C", "D"]
    monkeypatch.setattr(cache, "MAX_BYTES", 1)
    cache.keep_graph("key", "E", True, GRAPH)
    assert list(folder.iterdir()) == [cache._path("key", "E", True)]


def test_the_folder_is_the_users_unless_named(monkeypatch, tmp_path):
    monkeypatch.delenv("UNISAL_CACHE_DIR")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("USERPROFILE", str(tmp_path / "home"))
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert cache.graphs_dir() == tmp_path / "home" / ".cache" / "unisal" / "graphs"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache.graphs_dir() == tmp_path / "unisal" / "graphs"
    monkeypatch.setenv("UNISAL_CACHE_DIR", "~/other")
    assert cache.graphs_dir() == tmp_path / "home" / "other" / "graphs"


# ---- what may happen to it ------------------------------------------------------------------
@pytest.mark.parametrize("damage", ["cut", "changed", "empty", "other"])
def test_a_damaged_graph_is_made_anew(folder, damage):
    before = predict()
    (path,) = folder.iterdir()
    whole = path.read_bytes()
    middle = len(whole) // 2
    path.write_bytes(
        {
            "cut": whole[:middle],
            "changed": whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :],
            "empty": b"",
            "other": b"\xff" * 99,
        }[damage]
    )
    np.testing.assert_array_equal(predict(), before)
    assert path.read_bytes() == whole


@pytest.mark.parametrize("place", ["a file", "below a file", "read-only"])
def test_a_cache_that_cannot_be_written_is_done_without(place, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    folder = tmp_path / {"a file": "file", "below a file": "file/x", "read-only": "locked"}[place]
    if place == "read-only":

        def refuse(*_):
            raise PermissionError(13, "Permission denied", str(folder))

        monkeypatch.setattr(cache, "write_atomically", refuse)
    monkeypatch.setenv("UNISAL_CACHE_DIR", str(folder))
    before = predict()
    np.testing.assert_array_equal(predict(), before)
    assert (tmp_path / "file").read_bytes() == b""


def test_a_graph_that_is_removed_while_it_is_used_is_made_anew(folder, read):
    before = predict()
    predictor = unisal.load("mine", device="cpu")
    (path,) = folder.iterdir()
    path.unlink()
    np.testing.assert_array_equal(predictor.image(PICTURE, log=True), before)
    assert len(read) == 2
    assert path.is_file()


@pytest.mark.usefixtures("folder")
def test_faults_of_a_run_are_told_when_it_is_loaded(run):
    (run / "weights_best.pth").write_bytes(b"no weights")
    with pytest.raises(UserError, match="cannot be read as weights"):
        unisal.load("mine", device="cpu")


@pytest.mark.usefixtures("folder")
def test_without_the_package_onnx_a_new_graph_is_left_to_pytorch(monkeypatch, caplog):
    before = predict()
    predictor = unisal.load("mine", device="cpu")
    monkeypatch.setitem(sys.modules, "onnx", None)
    monkeypatch.delitem(sys.modules, "unisal.inference.graph", raising=False)
    np.testing.assert_array_equal(predictor.image(PICTURE, log=True), before)
    assert predictor.engine.runtime.name == "onnx"
    (y,) = predictor.video([PICTURE])  # another graph, which is not there
    assert predictor.engine.runtime.name == "torch"
    assert y.shape == PICTURE.shape[:2]
    assert "no ONNX graph can be made" in caplog.text


# ---- the files ------------------------------------------------------------------------------
def test_a_file_gives_back_what_was_written(tmp_path):
    path = tmp_path / "a.onnx"
    path.write_bytes(to_bytes(GRAPH))
    model, facts, _ = read_graph(path)
    assert model == GRAPH.model
    assert facts == {**FACTS, "format": 1} == read_facts(path)


def test_it_is_an_ordinary_onnx_model(folder):
    predict()
    (path,) = folder.iterdir()
    loaded = onnx.load(path)
    onnx.checker.check_model(loaded, full_check=True)
    assert [entry.key for entry in loaded.metadata_props] == ["unisal", "sha256"]
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    assert session.get_modelmeta().custom_metadata_map["unisal"] == loaded.metadata_props[0].value


def test_no_byte_can_be_changed_or_lost_unnoticed():
    whole = to_bytes(GRAPH)
    for place in range(len(whole)):
        changed = whole[:place] + bytes([whole[place] ^ 8]) + whole[place + 1 :]
        for damaged in (changed, whole[:place]):
            with pytest.raises(UserError, match=r"a\.onnx"):
                from_bytes(damaged, "a.onnx")


@pytest.mark.parametrize("content", [b"", b"PK\3\4 a zip", bytes(99), b"\x08" + b"\xff" * 30])
def test_other_files_are_told(tmp_path, content):
    (tmp_path / "a.onnx").write_bytes(content)
    for reader in (read_graph, read_facts):
        with pytest.raises(UserError, match=r"a\.onnx is no graph that this program has written"):
            reader(tmp_path / "a.onnx")


def test_a_network_in_a_file_never_changes():
    assert network.GraphNetwork.version(object()) is None
