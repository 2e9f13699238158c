"""Several processes train what one process trains: same weights, same files, whatever happens."""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
import time
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as dist
from support import PROJECT, TINY, call_command, write_dhf1k, write_salicon

from unisal.commands import processes as commands
from unisal.commands.cli import Terminated
from unisal.data.base import Batch
from unisal.data.samplers import part_of
from unisal.errors import ProcessLost, SomeFailed, UserError
from unisal.model import UNISAL
from unisal.model.layers import Context, Dropout2d, StepBatchNorm2d
from unisal.model.weights import read_state
from unisal.train import Trainer, joint
from unisal.train import epoch as passes
from unisal.train.batches import mixed
from unisal.train.processes import Processes, own_part, shared_states

OPTIONS = {
    "data_sources": ("SALICON", "DHF1K"),
    "model_cfg": TINY,
    "num_epochs": 3,
    "lr": 0.002,  # differences of rounding do not grow much
    "train_cnn_after": 1,
    "salicon_batch_size": 4,
    "batch_size": 2,
    "data_cfg": {"seq_len": 2, "out_size": (32, 64)},
    "salicon_cfg": {"out_size": (32, 64)},
    "augment": True,
    "mix": 0.5,
    "bn_eval": True,
    "ema_decay": 0.9,
    "num_workers": 0,
    "chkpnt_warmup": 0,
    "chkpnt_epochs": 1,
    "device": "cpu",
    "tboard": False,
    "prefix": "mine",
}
"""BatchNorms keep their statistics, so a part of a batch is computed as it is in the whole."""
WEIGHTS = {"kld": 1.0, "nss": -0.1, "cc": -0.1}
STEPS = (("SALICON", 5), ("DHF1K", 2), ("SALICON", 1), ("SALICON", 4))
"""The sources of some batches and their sizes: no multiples of 2 or 3, and smaller than 3."""


FOLDERS = ("many", "one")
"""Where the runs of several processes lie, and those of one."""


def data_folders(root):
    return {f"{name}_DATA_DIR": str(root / name) for name in ("SALICON", "DHF1K")}


def write_data(root):
    """Write small data sets -> the variables that name them."""
    for part, n in (("train", 10), ("val", 5)):
        write_salicon(root / "SALICON", part, n=n)
    write_salicon(root / "SALICON elsewhere", "train", n=9)
    write_salicon(root / "SALICON elsewhere", "val", n=5)
    write_dhf1k(root / "DHF1K", {1: 12, 2: 12, 3: 12, 601: 12})
    return data_folders(root)


# ---- what a process does --------------------------------------------------------------------


def batch_of(source, n, seed):
    """-> a batch of `n` random examples, float64."""
    generator = torch.Generator().manual_seed(seed)
    steps = 2 if source == "DHF1K" else 1
    maps = torch.rand((n, steps, 1, 20, 30), generator=generator, dtype=torch.float64) ** 4
    return Batch(
        source=source,
        domain=source,
        is_video=source == "DHF1K",
        names=[f"{source} {i}" for i in range(n)],
        frames=torch.randn((n, steps, 3, 64, 96), generator=generator, dtype=torch.float64),
        maps=maps / maps.sum((-2, -1), keepdim=True),
        fixations=maps > 0.8,
    )


def some_steps(synced, accumulate=1):
    """-> the network after `STEPS`, and the losses of each; in float64, so that no difference is
    one of rounding."""
    processes = Processes.current()
    torch.manual_seed(0)
    model = UNISAL(**TINY, sources=("DHF1K", "SALICON")).double()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-3)
    passes.set_training_mode(model, cnn_eval=not synced, cnn_trains=True, bn_eval=not synced)
    losses = []
    steps = None
    if processes.n > 1:
        steps = joint.JointSteps(model, processes, synced, lambda: False)
    for number, (source, n) in enumerate(STEPS):
        batch = batch_of(source, n, number)
        if processes.n > 1:
            part = part_of(n, processes.rank, processes.n)
            batch = own_part(batch, replace(batch, part=part))
        if number == len(STEPS) - 1:
            rng = np.random.default_rng(3)
            batch = own_part(mixed(processes.whole(batch), rng), batch)
        loss = passes.train_step(
            model, batch, WEIGHTS, optimizer, 0.5, 1.0, steps, None, accumulate
        )
        losses.append(loss.total.item())
    return model.state_dict(), losses, torch.get_rng_state()


def accumulated_steps(n):
    return some_steps(False, n)


def train(options):
    """-> what a run holds at its end."""
    trainer = Trainer(**options)
    trainer.fit()
    return at_end(trainer)


def at_end(trainer):
    return {
        "model": trainer.model.state_dict(),
        "best": trainer.best_model.state_dict(),
        "scalars": trainer.scalars.values,
        "random": trainer.random.states["cpu"],
        "files": sorted(path.name for path in trainer.folder.iterdir()),
    }


def interrupt(options):
    """-> in which step of which epoch the run ended, after Ctrl-C in the last process alone."""
    trainer, step, calls = Trainer(**options), passes.train_step, []

    def pressed(*given):
        calls.append(1)
        if len(calls) == 4 and trainer.processes.rank == trainer.processes.n - 1:
            signal.raise_signal(signal.SIGINT)
        return step(*given)

    passes.train_step = pressed
    try:
        trainer.fit()
    except KeyboardInterrupt:
        return trainer.epoch, trainer.step
    finally:
        passes.train_step = step


def resume(name):
    trainer = Trainer.resume(name)
    trainer.fit()
    return at_end(trainer)


def other_data(options):
    """Begin with other data in the last process -> the error of each."""
    processes, there = Processes.current(), os.environ["SALICON_DATA_DIR"]
    if processes.rank == processes.n - 1:
        os.environ["SALICON_DATA_DIR"] = f"{there} elsewhere"
    try:
        Trainer(**options).fit()
    except UserError as error:
        return str(error)
    finally:
        os.environ["SALICON_DATA_DIR"] = there


def _as_rank(rank, n, rendezvous, env, work, pipe):
    os.environ.update(env)
    torch.set_num_threads(1)
    file = f"file://{rendezvous}"
    dist.init_process_group("gloo", file, timedelta(seconds=60), world_size=n, rank=rank)
    found = {name: function(given) for name, (function, given) in work.items()}
    pipe.send_bytes(pickle.dumps(found))  # `send` would share the tensors' memory
    dist.destroy_process_group()


def on_ranks(n, folder, env, work):
    """Let `n` processes do some work, {name: (function, argument)} -> what each returns by name."""
    context = multiprocessing.get_context("forkserver")
    # All that takes long to import, once: an optimiser imports torch._dynamo in its first step.
    context.set_forkserver_preload(["torch._dynamo", "torch.distributed", "train.test_distributed"])
    pipes, processes = [], []
    for rank in range(n):
        receiving, sending = context.Pipe(duplex=False)
        arguments = (rank, n, folder / f"rendezvous of {n}", env, work, sending)
        processes.append(context.Process(target=_as_rank, args=arguments))
        processes[-1].start()
        sending.close()
        pipes.append(receiving)
    found = [pickle.loads(pipe.recv_bytes()) for pipe in pipes]
    for process in processes:
        process.join()
    return found


@pytest.fixture(scope="module")
def together(tmp_path_factory):
    """-> what one process computes, then what 2 and 3 do, and the folder of the runs of these.

    What 2 processes have begun and were interrupted in, 3 continue.
    """
    root = tmp_path_factory.mktemp("together")
    env = {**write_data(root), "TRAIN_DIR": str(root / "many")}
    before = torch.get_num_threads()
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {**env, "TRAIN_DIR": str(root / "one")}.items():
            patch.setenv(name, value)
        torch.set_num_threads(1)
        one = {
            "fixed": some_steps(False),
            "synced": some_steps(True),
            "whole": train(OPTIONS),
        }
        one["accumulated"] = one["fixed"]  # of the joint batch at once
        torch.set_num_threads(before)
    steps = {"fixed": (some_steps, False), "synced": (some_steps, True)}
    steps["accumulated"] = (accumulated_steps, 3)
    begun = {"whole": (train, OPTIONS), "part": (interrupt, {**OPTIONS, "prefix": "part"})}
    two = on_ranks(2, root, env, {**steps, **begun})
    differing = {"error": (other_data, {**OPTIONS, "prefix": "other"})}
    resumed = {"whole": (resume, "part_unisal")}
    three = on_ranks(3, root, env, {**steps, **differing, **resumed})
    return one, two, three, root


def assert_close(some, others, atol):
    assert list(some) == list(others)
    for key in some:
        torch.testing.assert_close(some[key], others[key], atol=atol, rtol=0, msg=key)


def is_equal(some, others):
    return all(torch.equal(some[key], others[key]) for key in some)


# ---- the same numbers -----------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["fixed", "synced", "accumulated"])
def test_steps_are_those_of_one_process_with_the_whole_batch(together, kind):
    one, *others = together[:3]
    state, losses, random = one[kind]
    for found in (found for many in others for found in many):
        assert_close(found[kind][0], state, 1e-9)
        assert found[kind][1] == pytest.approx(losses, abs=1e-9)
        assert torch.equal(found[kind][2], random)  # nobody has drawn more than one process does
    for many in others:
        assert all(is_equal(found[kind][0], many[0][kind][0]) for found in many)


@pytest.mark.slow
def test_a_run_is_that_of_one_process(together):
    one, two, _, root = together
    for found in two:
        ours, theirs = found["whole"], one["whole"]
        assert_close(ours["model"], theirs["model"], 1e-6)
        assert_close(ours["best"], theirs["best"], 1e-6)
        assert is_equal(ours["model"], two[0]["whole"]["model"])
        assert is_equal(ours["best"], two[0]["whole"]["best"])
        assert torch.equal(ours["random"], theirs["random"])
        assert ours["files"] == theirs["files"]
        for tag, values in theirs["scalars"].items():
            assert ours["scalars"][tag] == pytest.approx(values, abs=1e-4), tag
    many, alone = (json.loads((root / f / "mine_unisal/Trainer.json").read_text()) for f in FOLDERS)
    assert many == alone


@pytest.mark.slow
def test_ctrl_c_in_one_process_ends_all_at_the_same_step_and_more_processes_go_on(together):
    one, two, three, root = together
    assert [found["part"] for found in two] == [(1, 1)] * 2  # the fourth of three steps an epoch
    for found in three:
        assert_close(found["whole"]["model"], one["whole"]["model"], 1e-6)
        assert_close(found["whole"]["best"], one["whole"]["best"], 1e-6)
        assert found["whole"]["files"] == one["whole"]["files"]
    with pytest.MonkeyPatch.context() as patch:  # and one process goes on where three have been
        patch.setenv("TRAIN_DIR", str(root / "many"))
        for name, folder in data_folders(root).items():
            patch.setenv(name, folder)
        for name in ("chkpnt_latest.pth", "chkpnt_epoch0002.pth"):
            (root / "many/part_unisal" / name).unlink()
        assert_close(resume("part_unisal")["model"], one["whole"]["model"], 1e-6)


@pytest.mark.slow
def test_processes_that_see_other_data_do_not_begin(together):
    errors = [found["error"] for found in together[2]]
    assert errors == [errors[0]] * 3
    assert "'SALICON': 10" in errors[0]
    assert "'SALICON': 9, 'DHF1K': 3} in rank 2" in errors[0]
    assert not (together[3] / "many/other_unisal").exists()


# ---- torchrun -------------------------------------------------------------------------------


def worker_of(process, rank):
    """-> the process that torchrun has started for a rank; None: there is none yet."""
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    for child in children:
        with contextlib.suppress(OSError):
            if f"RANK={rank}".encode() in Path(f"/proc/{child}/environ").read_bytes().split(b"\0"):
                return int(child)
    return None


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="looks for processes in /proc")
def test_a_killed_process_ends_the_others_and_torchrun_goes_on_with_the_same_numbers(
    together, tmp_path
):
    _, two, _, root = together
    options = [f"--{name}={value}" for name, value in OPTIONS.items() if name != "data_sources"]
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "torch.distributed.run", "--standalone"),
            *("--nproc-per-node=2", "--max-restarts=1", str(PROJECT / "run.py"), "train"),
            *("--data_sources=SALICON,DHF1K", "--eval_sources=SALICON", *options),
        ],
        env={
            **os.environ,
            **data_folders(root),
            "TRAIN_DIR": str(tmp_path),
            "OMP_NUM_THREADS": "1",
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        until = time.monotonic() + 200
        while not (tmp_path / "mine_unisal/chkpnt_epoch0000.pth").exists():
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < until
            time.sleep(0.005)
        os.kill(worker_of(process, 1), signal.SIGKILL)
        out, said = process.communicate(timeout=200)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 0, said
    lines = [line for line in said.splitlines() if line.startswith("run.py: ")]
    assert len(lines) == 1
    assert lines[0].startswith("run.py: rank 1 of 2 has ended without a word")
    assert [line.split(" loss")[0] for line in out.splitlines() if line.startswith("epoch")] == [
        *("epoch 1/3", "epoch 2/3", "epoch 3/3"),
    ]
    folder = tmp_path / "mine_unisal"
    assert is_equal(two[0]["whole"]["best"], read_state(folder / "weights_best.pth"))
    assert json.loads((folder / "all_scalars.json").read_text()) == two[0]["whole"]["scalars"]
    assert (folder / "SALICON_eval_scores.json").is_file()


# ---- who says what --------------------------------------------------------------------------


def told(code, notes):
    """-> what a process raises, in which `code` fails."""
    with pytest.raises(BaseException) as raised, notes, commands._one_message(notes):  # noqa: PT011
        code()
    return raised.value


def failing(error):
    def fail():
        raise error

    return fail


@pytest.mark.parametrize(
    ("error", "code"),
    [(UserError("a.jpg is damaged"), 2), (SomeFailed("no room"), 1), (ValueError("a bug"), 1)],
)
def test_the_first_process_to_fail_says_why_and_the_others_end_silently(error, code):
    store = dist.HashStore()
    first = told(failing(error), commands.Notes(store, 2, 3))
    assert type(first) is type(error)
    assert str(first) == ("a bug" if type(error) is ValueError else f"rank 2 of 3: {error}")
    for other in (failing(error), failing(ProcessLost("gone")), failing(KeyboardInterrupt())):
        silent = told(other, commands.Notes(store, 0, 3))
        assert isinstance(silent, SystemExit) and silent.code in (code, 1, 130)


def test_a_process_that_is_silent_is_named(monkeypatch):
    monkeypatch.setattr(commands, "BEAT_SECONDS", 0.02)
    monkeypatch.setattr(commands, "GRACE_SECONDS", 0.3)
    store = dist.HashStore()
    leaving = commands.Notes(store, 1, 4)
    leaving.say_leaving()
    with commands.Notes(store, 3, 4):  # counts on
        error = told(failing(ProcessLost("gone")), commands.Notes(store, 0, 4))
    assert type(error) is ProcessLost
    assert str(error).startswith("rank 2 of 4 has ended without a word")


@pytest.mark.parametrize("is_alive", [True, False])
def test_torchruns_signal_does_not_hide_who_is_lost(monkeypatch, is_alive):
    monkeypatch.setattr(commands, "BEAT_SECONDS", 0.02)
    monkeypatch.setattr(commands, "GRACE_SECONDS", 0.3)
    store = dist.HashStore()
    with commands.Notes(store, 1, 2) if is_alive else contextlib.nullcontext():
        error = told(failing(Terminated()), commands.Notes(store, 0, 2))
    assert type(error) is (Terminated if is_alive else ProcessLost)


def test_only_errors_of_waiting_are_taken_for_a_lost_process():
    many = Processes(0, 2)
    with pytest.raises(ProcessLost), many.waiting():
        raise RuntimeError("[gloo/transport/tcp/pair.cc:1] Connection closed by peer")
    with pytest.raises(RuntimeError, match="shape"), many.waiting():
        raise RuntimeError("shape '[3]' is invalid")
    with pytest.raises(RuntimeError, match="gloo"), Processes().waiting():
        raise RuntimeError("gloo")


def test_mistakes_are_found_before_the_processes_are_looked_for(monkeypatch, capsys):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.delenv("RANK", raising=False)
    assert call_command("train", "--data_sources=SALICON") == 2
    assert "RANK, LOCAL_RANK, MASTER_ADDR, MASTER_PORT is not set" in capsys.readouterr().err
    assert call_command("finetune", "--data=SALICON", "--domain=One", "--folds=3") == 2
    assert "folds, curve and observers train many runs" in capsys.readouterr().err
    for name in commands.NEEDED:
        monkeypatch.setenv(name, "1")
    with pytest.raises(SystemExit):  # rank 0 says it
        call_command("train", "--process_timeout=0")
    assert capsys.readouterr().err == ""


def test_a_run_that_may_be_started_anew_needs_a_name(monkeypatch, capsys):
    monkeypatch.setenv("TORCHELASTIC_MAX_RESTARTS", "3")
    assert call_command("train", "--data_sources=SALICON") == 2
    assert "prefix is not given" in capsys.readouterr().err


def test_each_process_takes_a_gpu_of_its_own(monkeypatch):
    monkeypatch.setattr("unisal.train.processes.pick_device", torch.device)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert Processes(3, 4, 1, 2).device("cuda") == torch.device("cuda", 1)
    assert Processes(3, 4, 1, 2).device("cpu") == torch.device("cpu")
    assert Processes().device("cuda:1") == torch.device("cuda", 1)
    with pytest.raises(UserError, match="cannot share one GPU"):
        Processes(3, 4, 1, 2).device("cuda:1")
    with pytest.raises(UserError, match="3 processes on a machine with 2 GPUs"):
        Processes(2, 3, 2, 3).device("cuda")
    states = {"cpu": torch.zeros(1), "cuda": [torch.ones(1), torch.zeros(1), torch.zeros(1)]}
    shared = shared_states(states, Processes(1, 2))
    assert [state.item() for state in shared["cuda"]] == [1, 1]
    assert shared_states(states, Processes()) is states


# ---- the parts ------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [1, 2, 5, 6])
def test_parts_together_are_the_batch(n):
    parts = [part_of(n, rank, 3) for rank in range(3)]
    taken = [i for part in parts for i in range(part.first, part.first + part.n)]
    assert taken == list(range(n))
    assert max(part.n for part in parts) - min(part.n for part in parts) <= 1
    assert {part.total for part in parts} == {n}


def test_dropout_draws_for_a_part_what_it_draws_for_the_whole():
    layer, x = Dropout2d(0.5), torch.rand(5 * 2, 7, 3, 4) + 1  # five clips of two frames
    torch.manual_seed(1)
    whole, after = layer(x), torch.get_rng_state()
    for rank in range(6):
        part = part_of(5, rank, 6)
        rows = slice(2 * part.first, 2 * (part.first + max(part.n, 1)))
        layer.part = part
        torch.manual_seed(1)
        assert torch.equal(layer(x[rows]), whole[rows])
        assert torch.equal(torch.get_rng_state(), after)
    assert torch.equal(layer.eval()(x), x)


def test_a_batchnorm_whose_statistics_are_joined_from_one_part_is_a_batchnorm():
    layers = [StepBatchNorm2d(3).double() for _ in range(2)]
    layers[1].joined = lambda mean, variance, n: (mean, variance, n)
    x = torch.randn(4 * 2, 3, 5, 6, dtype=torch.float64) * 2 + 1
    gradients = []
    for layer in layers:
        own = x.clone().requires_grad_()
        (layer(own, Context("any", 2)) * x.cos()).sum().backward()
        gradients.append(own.grad)
    torch.testing.assert_close(*gradients)
    torch.testing.assert_close(*(layer.state_dict() for layer in layers))
    torch.testing.assert_close(*([p.grad for p in layer.parameters()] for layer in layers))


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"ds_bn": False, "ds_adaptation": False, "ds_smoothing": False, "ds_gaussians": False},
        {"bypass_rnn": False, "res_rnn": False, "n_gaussians": 0, "gaussian_init": "random"},
    ],
    ids=["default", "shared", "without bypass"],
)
def test_the_keys_that_a_call_uses_are_those_that_get_a_gradient(options):
    model = UNISAL(**TINY, sources=("DHF1K", "SALICON", "Mine"), **options)
    for domain, static in (("DHF1K", False), ("SALICON", True), ("Mine", False)):
        model.zero_grad(set_to_none=True)
        x = torch.randn(1, 1 if static else 2, 3, 32, 64)
        model(x, source=domain, static=static).exp().square().sum().backward()
        used = {name for name, p in model.named_parameters() if p.grad is not None}
        assert used == model.used_keys(domain, static) & dict(model.named_parameters()).keys()


def test_a_run_that_was_begun_with_the_same_options_is_found(tmp_path, monkeypatch):
    for name, value in {**write_data(tmp_path), "TRAIN_DIR": str(tmp_path)}.items():
        monkeypatch.setenv(name, value)
    options = {**OPTIONS, "data_sources": ("SALICON",)}
    assert Trainer.begun(**options) is None
    Trainer(**options)._prepare_folder()
    assert Trainer.begun(**options) == "mine_unisal"
    assert Trainer.begun(**{**options, "num_workers": 3, "process_timeout": 5}) == "mine_unisal"
    assert Trainer.begun(**{**options, "lr": 0.1}) is None
