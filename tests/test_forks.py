"""Processes: what forked and other ones predict after their parent did, and that none hangs.

All forks of one runtime happen in one process, to which tests then look for their own line.
"""

from __future__ import annotations

import json

import numpy as np
import pytest
from support import PROJECT, lively_network, photo, run_python, write_network
from videos import numbered, write_clip

SECONDS = 300
"""For all forks of one runtime."""

PREAMBLE = """
import copy, gc, json, multiprocessing, os, pickle, signal, sys, threading, time, warnings
import cv2, numpy as np, torch
import unisal
from unisal import forks
from unisal.data.video_file import VideoFile
from unisal.predict.presets import Preset

Preset.input_size_for = lambda *_: (64, 96)  # less work
warnings.simplefilter("ignore")
runtime, only = sys.argv[1], sys.argv[2:]
pictures = [np.roll(np.load("photo.npy"), 40 * i, axis=1) for i in range(2)]
predictor, expected = None, None

def load():
    return unisal.load("mine", device="cpu", runtime=runtime)

def use(p):
    "Pictures, videos, streams and features: all that a predictor does."
    maps = [p.image(pictures[0], log=True), *p.images(pictures, log=True)]
    maps += p.video(pictures, frame_step=1, log=True)
    maps += p.video("clip.mkv", log=True)
    stream = p.stream(frame_step=1)
    maps += [stream.step(picture, log=True) for picture in pictures]
    maps += [p.features(pictures[0])["encoder_8"]]
    return [np.asarray(y) for y in maps]

def check(found):
    assert len(found) == len(expected)
    for y, e in zip(found, expected):
        np.testing.assert_allclose(y, e, atol=1e-3)

def in_child(function, seconds=20):
    "Call a function in a forked process; -> what went wrong there, None if nothing did."
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            function()
            code = 0
        except SystemExit as end:
            raise
        except BaseException as error:
            sys.stderr.write(f"{type(error).__name__}: {error}\\n")
        os._exit(code)
    return ended(pid, seconds)

def ended(pid, seconds=20):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return None if status == 0 else f"ended with status {status}"
        time.sleep(0.01)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return f"hung for {seconds} s"

def with_parents(_=None):
    check(use(predictor))
    assert torch.get_num_threads() == 1

def with_given(given):
    return use(given)

def with_own(_=None):
    return use(load())

class Maps(torch.utils.data.Dataset):
    def __len__(self):
        return 2
    def __getitem__(self, index):
        return [torch.from_numpy(y) for y in use(predictor)]

def start():
    "Have all pools of threads that there are."
    global predictor, expected
    torch.set_num_threads(2)
    cv2.setNumThreads(2)
    predictor = load()
    expected = use(predictor)
    big = np.zeros((1000, 1000), np.float32)
    cv2.resize(big, (1500, 1500), interpolation=cv2.INTER_LINEAR)
    torch.mm(torch.ones(300, 300), torch.ones(300, 300)), torch.ones(10**6).exp()

def raises(words, function):
    try:
        function()
    except Exception as error:
        assert words in str(error), error
    else:
        raise AssertionError("nothing was raised")
"""

FORKS = (
    PREAMBLE
    + """
def used_in_parent():
    assert in_child(with_parents) is None

def not_used_in_parent():
    fresh = load()
    assert in_child(lambda: check(use(fresh))) is None

def loaded_in_child():
    assert in_child(lambda: check(with_own())) is None

def copied_and_sent():
    with multiprocessing.get_context("fork").Pool(2) as pool:
        for found in pool.map(with_given, [predictor, copy.deepcopy(predictor)]):
            check(found)
    def in_both_directions():
        check(use(pickle.loads(pickle.dumps(predictor))))
    assert in_child(in_both_directions) is None

def loaders_of_pytorch():
    loader = torch.utils.data.DataLoader(Maps(), batch_size=None, num_workers=2, timeout=30)
    for maps in loader:
        check([y.numpy() for y in maps])

def children_of_children_that_end_like_any_program():
    def child():
        with_parents()
        assert in_child(with_parents) is None
        sys.exit(3)
    assert in_child(child) == f"ended with status {3 << 8}"

def predictors_are_dropped_in_the_child():
    own = load()
    use(own)
    def child():
        nonlocal own
        own = None
        gc.collect()
        with_parents()
    assert in_child(child) is None

def weights_are_changed_in_the_child():
    changed = copy.deepcopy(predictor)
    use(changed)
    def child():
        with torch.no_grad():
            for weights in changed.engine.model.parameters():
                weights.mul_(0.9)
        assert not np.allclose(use(changed)[0], expected[0], atol=1e-3)
    assert in_child(child) is None

def forks_while_threads_predict():
    stop = threading.Event()
    def go_on():
        while not stop.is_set():
            use(predictor)
    threads = [threading.Thread(target=go_on) for _ in range(2)]
    [thread.start() for thread in threads]
    try:
        for n in range(4):
            time.sleep(0.02 + 0.03 * n)
            assert in_child(with_parents) is None
    finally:
        stop.set()
        [thread.join() for thread in threads]

def forks_while_a_thread_makes_its_first_session():
    for _ in range(2):
        fresh = load()
        thread = threading.Thread(target=lambda: use(fresh))
        thread.start()
        assert in_child(lambda: check(use(fresh))) is None
        thread.join()

def iterators_of_the_parent():
    images = predictor.images([pictures[0]] * 20)
    film = VideoFile("clip.mkv")
    frames = iter(film)
    next(images), next(frames)
    def child():
        raises("another process", lambda: next(images))
        raises("another process", lambda: next(frames))
        images.close(), film.close()
        with_parents()
        sys.exit(0)  # frees what is left
    assert in_child(child) is None
    assert len(list(images)) == 19 and len(list(frames)) == 5

def a_fork_in_the_middle_is_refused():
    forks.MAX_WAIT_SECONDS = 0.2
    begun, end = threading.Event(), threading.Event()
    def compute():
        with forks.computing():
            begun.set()
            end.wait()
    thread = threading.Thread(target=compute)
    thread.start()
    begun.wait()
    def child():
        raises("forked while its parent was predicting", lambda: predictor.image(pictures[0]))
        raises("forked while its parent was predicting", lambda: use(load()))
        assert in_child(lambda: raises("forked while", lambda: use(predictor))) is None
    assert in_child(child) is None
    end.set()
    thread.join()
    forks.MAX_WAIT_SECONDS = 30.0
    with forks.computing():  # it would wait for itself
        before = time.monotonic()
        assert in_child(lambda: raises("forked while", lambda: use(predictor))) is None
        assert time.monotonic() - before < 20

def the_parent_goes_on():
    assert torch.get_num_threads() == 2
    check(use(predictor))
    check(use(load()))

CASES = [
    used_in_parent, not_used_in_parent, loaded_in_child, copied_and_sent, loaders_of_pytorch,
    children_of_children_that_end_like_any_program, predictors_are_dropped_in_the_child,
    weights_are_changed_in_the_child, forks_while_threads_predict,
    forks_while_a_thread_makes_its_first_session, iterators_of_the_parent,
    a_fork_in_the_middle_is_refused, the_parent_goes_on,
]
start()
for case in CASES:
    if only and case.__name__ not in only:
        continue
    began = time.monotonic()
    try:
        case()
        said = "right"
    except Exception as error:
        said = f"{type(error).__name__}: {error}"
    print(json.dumps([case.__name__, said, round(time.monotonic() - began, 2)]), flush=True)
"""
)

SPAWNED = (
    PREAMBLE
    + """
if __name__ == "__main__":
    start()
    with multiprocessing.get_context(only[0]).Pool(1) as pool:
        check(pool.map_async(with_given, [predictor]).get(60)[0])
        check(pool.map_async(with_own, [0]).get(60)[0])
    print("done")
"""
)

NAMES = [
    line.split("(")[0].removeprefix("def ")
    for line in FORKS.removeprefix(PREAMBLE).splitlines()
    if line.startswith("def ")
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("forks")
    write_network(folder / "runs" / "mine", lively_network())
    np.save(folder / "photo.npy", photo((64, 96)))
    write_clip(folder / "clip.mkv", numbered(6))
    return folder


@pytest.fixture(scope="module")
def run(folder):
    """Run a script; each once."""
    known = {}

    def run(script, *arguments):
        key = script, arguments
        if key not in known:
            path = folder / f"script{len(known)}.py"
            path.write_text(script)
            env = {"TRAIN_DIR": str(folder / "runs"), "PYTHONPATH": str(PROJECT)}
            known[key] = run_python(str(path), *arguments, cwd=folder, env=env, timeout=SECONDS)
        return known[key]

    return run


QUICK = "used_in_parent", "loaded_in_child"


def outcomes(done):
    """-> what became of each case, by name."""
    return {name: outcome for name, outcome, _ in map(json.loads, done.stdout.splitlines())}


def test_forked_processes_predict_what_their_parent_does(run):
    done = run(FORKS, "onnx", *QUICK)
    assert outcomes(done) == dict.fromkeys(QUICK, "right"), done.stderr[-2000:]
    assert done.returncode == 0


@pytest.mark.slow
@pytest.mark.parametrize("runtime", ["torch", "onnx"])
@pytest.mark.parametrize("case", NAMES)
def test_forks(run, case, runtime):
    done = run(FORKS, runtime)
    assert outcomes(done).get(case) == "right", done.stderr[-2000:]
    assert done.returncode == 0


@pytest.mark.slow
@pytest.mark.parametrize("runtime", ["torch", "auto"])
@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_processes_that_are_not_forks(run, runtime, method):
    done = run(SPAWNED, runtime, method)
    assert (done.returncode, done.stdout) == (0, "done\n"), done.stderr[-2000:]
