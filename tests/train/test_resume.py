"""Runs as processes that are killed and go on: they end as if nothing had happened."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import pytest
import torch
from support import PROJECT, TINY, run_command, write_dhf1k, write_salicon

from unisal.model.weights import read_state

OPTIONS = [
    "--prefix=mine",
    "--data_sources=SALICON,DHF1K",
    "--num_epochs=3",
    "--salicon_batch_size=2",
    "--batch_size=1",
    "--data_cfg={'seq_len': 2, 'out_size': [64, 96]}",
    "--salicon_cfg={'out_size': [64, 96]}",
    f"--model_cfg={TINY}",
    "--ema_decay=0.9",
    "--augment=True",
    "--chkpnt_warmup=1",
    "--num_workers=1",
    "--device=cpu",
    "--tboard=False",
    "--eval_sources=SALICON",
]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Return the environment that names small data sets of images and videos."""
    root = tmp_path_factory.mktemp("data")
    for part, n in (("train", 12), ("val", 2)):
        write_salicon(root / "SALICON", part, n=n)
    write_dhf1k(root / "DHF1K", {1: 12, 2: 12, 3: 12, 601: 12})
    return {"SALICON_DATA_DIR": str(root / "SALICON"), "DHF1K_DATA_DIR": str(root / "DHF1K")}


@pytest.fixture(scope="module")
def whole(data, tmp_path_factory):
    """Return the folder of a run that nothing has stopped."""
    runs = tmp_path_factory.mktemp("whole")
    done = run_command("train", *OPTIONS, env={**data, "TRAIN_DIR": str(runs)})
    assert done.returncode == 0, done.stderr
    return runs / "mine_unisal"


def wait_for(condition, process, seconds=200):
    until = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < until, "it did not happen"
        time.sleep(0.002)


def finished_epochs(folder):
    """How many epochs `all_scalars.json` tells of."""
    try:
        return len(json.loads((folder / "all_scalars.json").read_text())["lr"])
    except (OSError, ValueError):
        return 0


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="signals are those of POSIX")
@pytest.mark.parametrize(
    ("epochs", "delay", "how"),
    [
        (0, 0.0, signal.SIGKILL),  # before there is any checkpoint
        (1, 0.0, signal.SIGKILL),  # between two epochs: the checkpoint is being written
        (1, 0.4, signal.SIGKILL),  # during an epoch
        (1, 0.4, signal.SIGINT),  # Ctrl-C during an epoch
    ],
    ids=["before the first checkpoint", "between epochs", "during an epoch", "Ctrl-C"],
)
def test_a_killed_run_ends_with_the_same_weights_bit_for_bit(
    data, whole, tmp_path, epochs, delay, how
):
    env = {**data, "TRAIN_DIR": str(tmp_path)}
    folder = tmp_path / "mine_unisal"
    process = subprocess.Popen(
        [sys.executable, str(PROJECT / "run.py"), "train", *OPTIONS],
        env={**os.environ, **env},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,  # so that its workers get the signal too, as from a terminal
        # A shell that runs the tests in the background makes their children ignore SIGINT.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    try:
        started = folder / "Trainer.json"
        wait_for(lambda: started.exists() and finished_epochs(folder) >= epochs, process)
        time.sleep(delay)
        os.killpg(process.pid, how)
        process.communicate(timeout=60)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == (130 if how == signal.SIGINT else -signal.SIGKILL)
    assert finished_epochs(folder) < 3
    done = run_command("train", "--resume=mine_unisal", "--eval_sources=SALICON", env=env)
    assert done.returncode == 0, done.stderr
    for name in ("weights_best.pth", "chkpnt_epoch0002.pth"):
        ours, theirs = read_state(folder / name), read_state(whole / name)
        assert list(ours) == list(theirs)
        assert all(torch.equal(ours[key], theirs[key]) for key in ours), name
    for name in (
        "all_scalars.json",
        "SALICON_eval_scores.json",
        "best_epoch.dat",
        "SALICONDataset.json",
    ):
        assert (folder / name).read_text() == (whole / name).read_text(), name
