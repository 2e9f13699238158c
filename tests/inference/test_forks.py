"""Processes: predictors in forked and spawned workers, with threads in the parent; copies."""

from __future__ import annotations

import copy
import pickle
import textwrap
import threading

import numpy as np
import pytest
import torch
from support import PROJECT, lively_network, photo, run_python, write_network

import unisal

SECONDS = 120
"""A worker that hangs fails the test after this time."""

PREAMBLE = """
import multiprocessing, os, sys, threading, time
import cv2, numpy as np, torch
import unisal

predictor, expected = None, None
pictures = [np.roll(np.load("photo.npy"), 40 * i, axis=1) for i in range(3)]
runtime = sys.argv[1]

def load():
    return unisal.load("mine", device="cpu", runtime=runtime)

def use(p):
    "Pictures and videos, with every pool of threads that there is."
    maps = [p.image(picture, log=True) for picture in pictures]
    maps += p.video(pictures, frame_step=1, log=True)
    return [np.asarray(y) for y in maps]

def with_parents(_=None):
    return use(predictor)

def with_given(given):
    return use(given)

def with_own(_=None):
    return use(load())

def check(found):
    assert len(found) == len(expected) == 6
    for y, e in zip(found, expected):
        np.testing.assert_allclose(y, e, atol=1e-4)

class Maps(torch.utils.data.Dataset):
    def __len__(self):
        return 4
    def __getitem__(self, index):
        return [torch.from_numpy(y) for y in use(predictor)]

def start():
    global predictor, expected
    torch.set_num_threads(2)
    cv2.setNumThreads(2)
    predictor = load()
    expected = use(predictor)
    big = np.zeros((2000, 2000), np.float32)
    cv2.resize(big, (3000, 3000), interpolation=cv2.INTER_LINEAR)  # OpenCV's threads
    torch.mm(torch.ones(500, 500), torch.ones(500, 500)), torch.ones(10**6).exp()

def forked():
    context = multiprocessing.get_context("fork")
    return context.Pool(2)
"""

SCRIPTS = {
    "parent's predictor": """
        start()
        with forked() as pool:
            [check(found) for found in pool.map(with_parents, range(4))]
    """,
    "parent's predictor, not used yet": """
        start()
        used = predictor
        predictor = load()
        with forked() as pool:
            [check(found) for found in pool.map(with_parents, range(2))]
    """,
    "loaded in the child": """
        start()
        with forked() as pool:
            [check(found) for found in pool.map(with_own, range(2))]
    """,
    "the predictor is sent": """
        start()
        with forked() as pool:
            [check(found) for found in pool.map(with_given, [predictor, load()])]
    """,
    "spawned": """
        if __name__ == "__main__":
            start()
            with multiprocessing.get_context("spawn").Pool(1) as pool:
                check(pool.map(with_given, [predictor])[0])
                check(pool.map(with_own, [0])[0])
    """,
    "loader of PyTorch": """
        start()
        for maps in torch.utils.data.DataLoader(Maps(), batch_size=None, num_workers=2):
            check([y.numpy() for y in maps])
    """,
    "a child that ends like any program, and has a child": """
        start()
        if os.fork() == 0:
            check(use(predictor))
            if os.fork() == 0:
                check(use(predictor))
                sys.exit(5)
            sys.exit(os.waitstatus_to_exitcode(os.wait()[1]) - 1)
        assert os.waitstatus_to_exitcode(os.wait()[1]) == 4
        check(use(predictor))  # nothing happened to the parent's
    """,
    "fork while a thread predicts": """
        start()
        stop = threading.Event()
        def go_on():
            while not stop.is_set():
                use(predictor)
        thread = threading.Thread(target=go_on)
        thread.start()
        for _ in range(5):
            time.sleep(0.05)
            if os.fork() == 0:
                check(use(predictor))
                os._exit(0)
        assert [os.wait()[1] for _ in range(5)] == [0] * 5
        stop.set()
        thread.join()
    """,
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("forks")
    write_network(folder / "runs" / "mine", lively_network())
    np.save(folder / "photo.npy", photo((300, 500)))
    return folder


@pytest.mark.parametrize("runtime", ["torch", "onnx", "auto"])
@pytest.mark.parametrize("case", SCRIPTS)
def test_processes_predict_what_their_parent_does(folder, case, runtime):
    script = folder / f"{case.replace(' ', '_')}.py".replace("'", "")
    script.write_text(PREAMBLE + textwrap.dedent(SCRIPTS[case]) + "\nprint('done')\n")
    env = {
        "PYTHONPATH": str(PROJECT),
        "TRAIN_DIR": str(folder / "runs"),
        "OMP_NUM_THREADS": "2",
        "PYTHONWARNINGS": "ignore::DeprecationWarning",
    }
    done = run_python(str(script), runtime, cwd=folder, env=env, timeout=SECONDS)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.endswith("done\n")


@pytest.mark.parametrize("runtime", ["torch", "onnx", "auto"])
@pytest.mark.parametrize("used", [False, True])
@pytest.mark.parametrize(
    "duplicate", [copy.deepcopy, lambda p: pickle.loads(pickle.dumps(p))], ids=["copy", "pickle"]
)
def test_a_predictor_can_be_copied(folder, monkeypatch, duplicate, used, runtime):
    monkeypatch.setenv("TRAIN_DIR", str(folder / "runs"))
    predictor = unisal.load("mine", device="cpu", runtime=runtime)
    rgb = photo((60, 80))
    expected = predictor.image(rgb) if used else None
    copied = duplicate(predictor)
    expected = predictor.image(rgb) if expected is None else expected
    np.testing.assert_array_equal(copied.image(rgb), expected)
    assert copied.engine.runtime.name == predictor.engine.runtime.name
    # They share nothing: new weights of the one are not the other's.
    with torch.no_grad():
        for weights in copied.engine.model.parameters():
            weights.mul_(0.5)
    assert not np.allclose(copied.image(rgb), expected, rtol=1e-3)
    np.testing.assert_array_equal(predictor.image(rgb), expected)


@pytest.mark.parametrize("runtime", ["torch", "onnx"])
def test_a_stream_can_be_copied_midway(folder, monkeypatch, runtime):
    monkeypatch.setenv("TRAIN_DIR", str(folder / "runs"))
    stream = unisal.load("mine", device="cpu", runtime=runtime).stream(frame_step=1)
    frames = [photo((60, 80), seed) for seed in range(3)]
    stream.step(frames[0])
    copied = copy.deepcopy(stream)
    for frame in frames[1:]:
        np.testing.assert_array_equal(copied.step(frame), stream.step(frame))


def test_a_predictor_can_be_copied_while_it_predicts(folder, monkeypatch):
    monkeypatch.setenv("TRAIN_DIR", str(folder / "runs"))
    predictor = unisal.load("mine", device="cpu")
    rgb = photo((60, 80))
    expected = predictor.image(rgb)
    thread = threading.Thread(target=lambda: [predictor.image(rgb) for _ in range(20)])
    thread.start()
    for _ in range(5):
        np.testing.assert_array_equal(copy.deepcopy(predictor).image(rgb), expected)
    thread.join()
