"""Graphs that ONNX Runtime has rewritten give the same bits, and processes share their weights."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from support import lively_network, photo, run_python, write_network

import unisal
from unisal.inference import prepared, sessions
from unisal.inference.prepared import GRAPH, RECORD, WEIGHTS

FRAMES = [photo((48, 64), seed=seed) for seed in range(3)]


@pytest.fixture
def place(tmp_path, monkeypatch):
    """Write a run; return the folder of the prepared graphs."""
    monkeypatch.setenv("TRAIN_DIR", str(tmp_path / "runs"))
    monkeypatch.setenv("UNISAL_CACHE_DIR", str(tmp_path / "cache"))
    write_network(tmp_path / "runs" / "mine", lively_network())
    return tmp_path / "cache" / "prepared"


def predict():
    """-> densities of a picture, and of frames that the GRU sees one after the other."""
    predictor = unisal.load("mine", device="cpu")
    video = predictor.video(FRAMES, frame_step=1)
    return np.stack([predictor.image(FRAMES[0]), *video])


def plainly(monkeypatch):
    """-> the same from graphs that ONNX Runtime rewrites in this process."""
    with monkeypatch.context() as changed:
        changed.setattr(sessions, "prepared_graph", lambda *_: None)
        return predict()


def test_the_bits_are_those_of_a_graph_that_is_not_prepared(place, monkeypatch):
    expected = plainly(monkeypatch)
    assert not place.exists()
    np.testing.assert_array_equal(predict(), expected)  # prepares them
    made = {path: path.stat().st_ctime_ns for path in place.rglob(WEIGHTS)}
    assert len(made) == 2  # one for images, one for videos
    np.testing.assert_array_equal(predict(), expected)  # finds them
    assert {path: path.stat().st_ctime_ns for path in place.rglob(WEIGHTS)} == made


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_weights_are_mapped_from_the_file(place):
    code = """
import unisal, numpy as np
predictor = unisal.load("mine", device="cpu")
predictor.image(np.zeros((48, 64, 3), np.uint8))
print(*[line for line in open("/proc/self/maps") if "weights.bin" in line])
"""
    said = run_python("-c", code, cwd=place.parents[1])
    assert str(place) in said.stdout, said.stderr


@pytest.mark.parametrize("name", [GRAPH, WEIGHTS, RECORD])
@pytest.mark.parametrize("damage", ["missing", "shorter", "changed"])
def test_what_is_damaged_is_prepared_anew(place, name, damage):
    expected = predict()
    for path in [*place.rglob(name)]:
        content = path.read_bytes()
        path.unlink()  # and not changed in place: it is in this process's memory
        if damage == "shorter":
            path.write_bytes(content[:-9])
        elif damage == "changed":
            path.write_bytes(content[:-9] + bytes([content[-9] ^ 1]) + content[-8:])
    np.testing.assert_array_equal(predict(), expected)
    assert len([*place.iterdir()]) == 2
    assert all(prepared._is_whole(folder) for folder in place.iterdir())


def test_what_cannot_be_opened_is_done_without(place, monkeypatch):
    expected = predict()
    opened = sessions._open

    def refuse(model, options):
        if isinstance(model, str):
            raise RuntimeError("of another version")
        return opened(model, options)

    monkeypatch.setattr(sessions, "_open", refuse)
    np.testing.assert_array_equal(predict(), expected)
    assert not [*place.iterdir()]


def test_where_nothing_can_be_written_the_maps_are_the_same(place, monkeypatch):
    expected = plainly(monkeypatch)
    place.write_text("a file where the folder should be")
    np.testing.assert_array_equal(predict(), expected)


def test_another_processor_or_version_prepares_its_own(place, monkeypatch):
    predict()
    before = {path.name for path in place.iterdir()}
    monkeypatch.setattr(prepared, "_processor", lambda: "another one")
    predict()
    assert before < {path.name for path in place.iterdir()}
    monkeypatch.setattr(prepared, "_machine", lambda: "another one")
    predict()
    assert len([*place.iterdir()]) == 3 * len(before)


def test_a_machine_keeps_so_much_and_removes_nothing_of_others(place, monkeypatch):
    predict()
    size = max(sum(p.stat().st_size for p in each.iterdir()) for each in place.iterdir())
    (place / "other-machine").mkdir()
    monkeypatch.setattr(prepared, "MAX_BYTES", 2 * size)
    for other in "abc":
        monkeypatch.setattr(prepared, "_processor", lambda other=other: other)
        predict()
    assert len([*place.iterdir()]) == 3
    assert (place / "other-machine").is_dir()


def test_facts_of_the_processor_do_not_change_from_one_moment_to_the_next(tmp_path, monkeypatch):
    info = tmp_path / "cpuinfo"
    monkeypatch.setattr("unisal.inference.processor.CPU_INFO", info)
    found = []
    for clock, name in ((2600, "One"), (2601, "One"), (2600, "Two")):
        info.write_text(f"model name\t: {name}\ncpu MHz\t\t: {clock}\nflags\t\t: avx avx2\n")
        found.append(prepared.processor_facts())
    assert found[0] == found[1] != found[2]
    assert any("avx2" in fact for fact in found[0])
