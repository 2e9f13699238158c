"""Fine-tuning on MIT1003: what it trains, which weights it keeps and where, and what it refuses."""

from __future__ import annotations

import itertools
import json
import math
import re
import shutil
import signal
import tempfile
from dataclasses import fields

import pytest
import torch
from support import TINY, run_command, write_mit1003, write_photo, write_run, write_salicon

from unisal.commands.progress import TERMINAL
from unisal.config import find_weights, load_json
from unisal.data import MIT1003Dataset, mit1003
from unisal.errors import UserError
from unisal.model import UNISAL
from unisal.model.weights import read_state
from unisal.train import Trainer
from unisal.train import epoch as passes
from unisal.train.finetune import FineTuner
from unisal.train.finetune_config import FineTuneConfig
from unisal.train.sources import batch_size, dataset_options

SIZES = [(48, 64)] * 6 + [(64, 48)] * 3
SMALL = {
    "mit1003_cfg": {"n_x_val": 3},
    "mit1003_batch_size": 2,
    "mit1003_valid_batch_size": 2,
    "num_workers": 0,
    "device": "cpu",
    "tboard": False,
}
"""The options of a fine-tuning on six of the nine pictures."""
LONG_NAME = "MIT1003_lr0.0100_lrGamma0.80_nEpochs2_TrainCNNAfter1_xVal0"
FILES = ("ft_mit1003.pth", "ft_mit1003.json")


def set_folders(patch, root):
    patch.setenv("TRAIN_DIR", str(root / "runs"))
    patch.setenv("MIT1003_DATA_DIR", str(root / "MIT1003"))
    patch.setattr(mit1003, "TRAIN_SIZES", [(64, 96), (96, 64)])  # a tenth of the work


@pytest.fixture
def home(tmp_path, monkeypatch):
    """Return where MIT1003 and one run lie."""
    set_folders(monkeypatch, tmp_path)
    write_mit1003(tmp_path / "MIT1003", SIZES)
    write_run(tmp_path / "runs" / "pretrained_unisal", sources=("DHF1K", "SALICON"))
    return tmp_path


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A fine-tuning of two epochs -> (the tuner, the folder of the run, weights at the start)."""
    root = tmp_path_factory.mktemp("finished")
    write_mit1003(root / "MIT1003", SIZES)
    start = write_run(root / "runs" / "mine")
    with pytest.MonkeyPatch.context() as patch:
        set_folders(patch, root)
        options = {"num_epochs": 2, "train_cnn_after": 1, "pretrained_train_id": "mine"}
        tuner = FineTuner(**SMALL | options | {"tboard": True})
        tuner.fit()
    return tuner, root / "runs" / "mine", start


def names(folder):
    return sorted(p.name for p in folder.iterdir())


def scripted(monkeypatch, losses):
    """Let the epochs do nothing but tell these validation losses, that of the start first."""
    told = iter(losses)

    def validate(*_):
        loss = next(told)
        return {"MIT1003": {"loss": loss, "loss_0": loss}}

    def train(model, *rest):
        with torch.no_grad():  # so that the weights of every epoch differ
            model.post_cnn.inv_res.conv.get_parameter("0.weight").add_(1)
        rest[-4].rows["MIT1003"] = [[1.0, 1.0]]

    monkeypatch.setattr(passes, "validate_epoch", validate)
    monkeypatch.setattr(passes, "train_epoch", train)


def tuned(**options):
    tuner = FineTuner(**{**SMALL, **options})
    tuner.fit(TERMINAL)
    return tuner


def steps_from_start(home, folder="."):
    """How many of the scripted epochs the weights of the run, or in a folder of it, have seen."""
    run = home / "runs" / "pretrained_unisal"
    key = "post_cnn.inv_res.conv.0.weight"
    before = read_state(run / "weights_best.pth")[key]
    return round((read_state(run / folder / "ft_mit1003.pth")[key] - before).mean().item())


# ---- what it leaves -----------------------------------------------------------------------


def test_the_folders_hold_weights_logs_and_configuration(finished):
    tuner, run, _ = finished
    assert (tuner.train_id, tuner.run, tuner.folder) == ("mine", run, run / LONG_NAME)
    logs = names(tuner.folder)
    events = [name for name in logs if "tfevents" in name]
    assert len(events) == 1
    assert set(logs) - set(events) == {*FILES, "FineTuner.json", "all_scalars.json"}
    own = {"UNISAL.json", "weights_best.pth"}  # what it started from
    assert set(names(run)) == {*own, *FILES, "MIT1003Dataset.json", LONG_NAME}
    for name in FILES:
        assert (run / name).read_bytes() == (tuner.folder / name).read_bytes()
    assert load_json(run / "MIT1003Dataset.json")["x_val_step"] == 0
    saved = load_json(tuner.folder / "FineTuner.json")
    assert FineTuneConfig.from_dict(saved) == tuner.options


def test_the_fine_tuned_weights_are_found_before_the_best_ones(finished, monkeypatch):
    _, run, _ = finished
    monkeypatch.setenv("TRAIN_DIR", str(run.parent))
    assert find_weights("mine", fine_tuned=True) == run / "ft_mit1003.pth"
    assert find_weights("mine") == run / "weights_best.pth"


def test_scalars_tell_of_the_start_and_of_every_epoch(finished):
    tuner, _, _ = finished
    scalars = json.loads((tuner.folder / "all_scalars.json").read_text())
    kinds = ("loss", "loss_0")
    assert set(scalars) == {f"mit1003/{k}/{p}" for k in kinds for p in ("train", "valid")} | {"lr"}
    for phase, epochs in (("train", ["0", "1"]), ("valid", ["-1", "0", "1"])):
        loss, kld = (scalars[f"mit1003/{k}/{phase}"] for k in kinds)
        assert loss == kld  # nothing else is in the loss
        assert list(loss) == epochs
        assert all(math.isfinite(v) for v in loss.values())
    assert list(scalars["lr"].values()) == pytest.approx([0.01, 0.008])


def plain_kld(net, dataset):
    """Mean KLD over the images of a data set, one after the other."""
    values = []
    with torch.no_grad():
        for item in dataset:
            log_p = net(item.frames[None, None], item.target_size, source="SALICON", static=True)
            t = item.maps
            values.append((torch.xlogy(t, t) - t * log_p[0, 0]).sum().item())
    return sum(values) / len(values)


def test_validation_is_the_mean_over_all_pictures_of_the_fold(finished, monkeypatch):
    tuner, run, start = finished
    set_folders(monkeypatch, run.parent.parent)
    fold = MIT1003Dataset("valid", n_x_val=3)
    groups = {fold.batch_group(i) for i in range(len(fold))}
    assert len(groups) == 2  # so that batches differ in number of pictures
    scalars = tuner.scalars.values["mit1003/loss/valid"]
    assert scalars["-1"] == tuner.start_loss == pytest.approx(plain_kld(start, fold), rel=1e-4)
    best = UNISAL(**load_json(run / "UNISAL.json")).eval()
    best.load_state_dict(read_state(run / "ft_mit1003.pth"))
    record = load_json(run / "ft_mit1003.json")
    assert record["valid_kld"] == min(scalars.values())
    assert scalars[str(record["best_epoch"])] == record["valid_kld"]
    assert plain_kld(best, fold) == pytest.approx(record["valid_kld"], rel=1e-4)


def test_the_record_says_how_the_weights_were_made(finished):
    tuner, run, _ = finished
    record = load_json(run / "ft_mit1003.json")
    assert (record["folder"], record["x_val_step"]) == (LONG_NAME, 0)
    assert (record["best_epoch"], record["valid_kld"]) == (tuner.best_epoch, -tuner.best_val_score)
    assert record["start_valid_kld"] == tuner.start_loss
    assert record["options"]["train_cnn_after"] == 1


# ---- what it trains -----------------------------------------------------------------------


def test_only_the_modules_of_salicon_are_trained(finished):
    tuner, _, start = finished
    before, after = start.state_dict(), tuner.model.state_dict()
    changed = {k for k in before if not torch.equal(before[k], after[k])}
    assert any(k.startswith("cnn.") for k in changed)
    assert any("bn_SALICON" in k for k in changed)
    assert any(k.startswith("adaptation_salicon") for k in changed)
    others = ("DHF1K", "Hollywood", "UCFSports")
    strange = [
        k
        for k in changed
        if k.startswith(("rnn.", "post_rnn."))
        or any(f"bn_{s}" in k or f"_{s.lower()}" in k for s in others)
        or (k.startswith("cnn.") and ("running_" in k or "num_batches" in k))
    ]
    assert strange == []


def test_the_loss_is_kld_alone_without_clipping_by_sgd(home, monkeypatch):
    calls, encoder_trains = [], []

    def step(model, batch, weights, optimizer, grad_clip, factor, *_):
        calls.append((batch.domain, weights, grad_clip, factor))
        encoder_trains.append(all(p.requires_grad for p in model.cnn.parameters()))
        calls[-1] += tuple((g["lr"], g["weight_decay"]) for g in optimizer.param_groups)
        assert type(optimizer) is torch.optim.SGD
        assert {g["momentum"] for g in optimizer.param_groups} == {0.9}
        with torch.no_grad():
            return passes.forward_loss(model, batch, weights)

    monkeypatch.setattr(passes, "train_step", step)
    cfg = {"mit1003_cfg": {"n_x_val": 3, "subset": 0.4}, "num_epochs": 3, "train_cnn_after": 2}
    tuned(**cfg, lr=0.02, lr_gamma=0.5)
    per_epoch = len(calls) // 3
    assert encoder_trains == [False] * 2 * per_epoch + [True] * per_epoch
    for i, call in enumerate(calls):
        lr = 0.02 * 0.5 ** (i // per_epoch)
        rates = (pytest.approx((0.1 * lr, 1e-5)), pytest.approx((lr, 1e-4)))
        assert call == ("SALICON", {"kld": 1.0}, None, 1.0, *rates)
    assert (home / "runs/pretrained_unisal/ft_mit1003.pth").is_file()


def test_the_defaults_are_the_published_ones():
    cfg = FineTuneConfig()
    run = cfg.trainer_config({})
    assert (run.lr, run.lr_gamma, run.num_epochs, run.train_cnn_after) == (0.01, 0.8, 8, 0)
    assert (run.optim_algo, run.momentum, run.weight_decay) == ("SGD", 0.9, 1e-4)
    assert (batch_size(run, "MIT1003"), batch_size(run, "MIT1003", "valid")) == (32, 8)
    assert (run.grad_clip, run.loss_metrics, run.loss_weights) == (None, ("kld",), (1.0,))
    assert dataset_options(run, "MIT1003") == {"x_val_step": 0}
    assert (run.init_from, cfg.train_id) == ("pretrained_unisal", "pretrained_unisal")
    assert cfg.folder_name == "MIT1003_lr0.0100_lrGamma0.80_nEpochs8_TrainCNNAfter0_xVal0"


def test_every_option_is_described():
    undescribed = [
        f.name for f in fields(FineTuneConfig) if not re.search(rf"\b{f.name}\b", described())
    ]
    assert undescribed == []


def described():
    """The help of the command's options."""
    return (FineTuneConfig.__doc__ or "").partition("Options:")[2]


@pytest.mark.usefixtures("home")
def test_a_seed_gives_the_same_weights_and_the_workers_change_nothing():
    states = []
    for seed, workers in ((3, 0), (3, 1), (4, 0)):
        options = {"num_epochs": 1, "augment": True, "overwrite": True}
        options["mit1003_cfg"] = {"n_x_val": 3, "subset": 0.5}
        states.append(tuned(**options, seed=seed, num_workers=workers).model.state_dict())
    same = [k for k in states[0] if torch.equal(states[0][k], states[1][k])]
    assert same == list(states[0])
    assert any(not torch.equal(states[0][k], states[2][k]) for k in states[0])


# ---- which weights are kept ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("losses", "best"),
    [([0.5, 0.4, 0.3, 0.35], 1), ([0.5, 0.49, 0.6, 0.7], 0), ([0.5, 0.6, 0.5, 0.4], 2)],
    ids=str,
)
def test_the_weights_of_the_lowest_validation_loss_are_kept(
    home, monkeypatch, capsys, losses, best
):
    scripted(monkeypatch, losses)
    tuner = tuned(num_epochs=3)
    for folder in (".", tuner.folder.name):
        assert steps_from_start(home, folder) == best + 1
    last = capsys.readouterr().out.splitlines()[-1]
    assert f"valid KLD 0.5000 before, {losses[best + 1]:.4f} after" in last
    assert last.endswith(f"ft_mit1003.pth holds the weights of epoch {best + 1}")


@pytest.mark.parametrize("losses", [[0.3, 0.4, 0.5], [0.3, 0.3, 0.3]], ids=str)
def test_where_no_epoch_is_better_the_start_is_kept_and_told(home, monkeypatch, capsys, losses):
    scripted(monkeypatch, losses)
    tuner = tuned(num_epochs=2)
    run = home / "runs" / "pretrained_unisal"
    start, kept = read_state(run / "weights_best.pth"), read_state(run / "ft_mit1003.pth")
    assert list(start) == list(kept)
    assert all(torch.equal(start[k], kept[k]) for k in start)
    assert tuner.best_epoch == load_json(run / "ft_mit1003.json")["best_epoch"] == -1
    last = capsys.readouterr().out.splitlines()[-1]
    assert "0.3000 before, 0.3000 after; no epoch was better than the start" in last


def test_ctrl_c_keeps_the_best_so_far(home, monkeypatch, capsys):
    scripted(monkeypatch, [0.5, 0.4, 0.3])
    train, calls = passes.train_epoch, itertools.count(1)

    def pressed(model, *rest):
        train(model, *rest)
        if next(calls) == 2:
            signal.raise_signal(signal.SIGINT)
            rest[-5]()  # what is called after a step

    monkeypatch.setattr(passes, "train_epoch", pressed)
    with pytest.raises(KeyboardInterrupt):
        tuned(num_epochs=3)
    assert steps_from_start(home) == 1
    assert "interrupted; " in (said := capsys.readouterr().out.splitlines()[-1])
    assert said.endswith("ft_mit1003.pth holds the weights of epoch 1")


def test_ctrl_c_before_any_better_epoch_touches_nothing(home, monkeypatch, capsys):
    scripted(monkeypatch, [0.3, 0.4])

    def pressed(_model, *rest):
        signal.raise_signal(signal.SIGINT)
        rest[-5]()

    monkeypatch.setattr(passes, "train_epoch", pressed)
    with pytest.raises(KeyboardInterrupt):
        tuned(num_epochs=2)
    assert not (home / "runs/pretrained_unisal/ft_mit1003.pth").exists()
    assert "no epoch was better than the start so far" in capsys.readouterr().out


def test_a_loss_that_is_nan_stops_the_run_and_says_so(home):
    with pytest.raises(UserError, match=r"not finite \(kld nan\).*MIT1003: i\d{4}\.jpeg"):
        tuned(lr=1e30, num_epochs=2)
    assert not (home / "runs/pretrained_unisal/ft_mit1003.pth").exists()


@pytest.mark.usefixtures("home")
def test_what_was_best_before_a_nan_is_kept_and_told(monkeypatch):
    scripted(monkeypatch, [0.5, 0.4])
    train, calls = passes.train_epoch, itertools.count(1)

    def fail(model, *rest):
        if next(calls) == 2:
            raise UserError("the loss is not finite (kld nan)")
        train(model, *rest)

    monkeypatch.setattr(passes, "train_epoch", fail)
    with pytest.raises(UserError, match=r"kld nan\); .*ft_mit1003\.pth holds .* of epoch 1$"):
        tuned(num_epochs=3)


# ---- several fine-tunings of one run ------------------------------------------------------


def test_another_fine_tuning_loses_nothing(home, monkeypatch):
    run = home / "runs" / "pretrained_unisal"
    scripted(monkeypatch, [0.5, 0.4, 0.3, 0.5, 0.4])
    first = tuned(num_epochs=2)
    second = tuned(num_epochs=1, x_val_step=2)
    assert first.folder != second.folder
    assert steps_from_start(home, first.folder.name) == 2
    assert steps_from_start(home) == steps_from_start(home, second.folder.name) == 1
    assert load_json(run / "ft_mit1003.json")["folder"] == second.folder.name
    assert load_json(run / "MIT1003Dataset.json")["x_val_step"] == 2


@pytest.mark.usefixtures("home")
def test_the_same_options_may_run_again_and_others_not_in_the_same_folder(monkeypatch):
    scripted(monkeypatch, [0.5, 0.4] * 3)
    tuned(num_epochs=1)
    tuned(num_epochs=1, pretrained_train_id="pretrained_unisal", tboard=True)
    with pytest.raises(UserError, match=r"with other options \(mit1003_batch_size, seed\)"):
        tuned(num_epochs=1, seed=1, mit1003_batch_size=4)
    tuned(num_epochs=1, seed=1, overwrite=True)


def test_weights_of_which_there_is_no_copy_are_not_replaced(home, monkeypatch):
    scripted(monkeypatch, [0.5, 0.4] * 2)
    path = home / "runs" / "pretrained_unisal" / "ft_mit1003.pth"
    path.write_bytes(b"of somebody else")
    with pytest.raises(UserError, match=r"ft_mit1003\.pth would be lost.*--overwrite=True"):
        tuned(num_epochs=1)
    assert path.read_bytes() == b"of somebody else"
    folder = tuned(num_epochs=1, overwrite=True).folder
    shutil.rmtree(folder)
    with pytest.raises(UserError, match="would be lost"):
        tuned(num_epochs=1)


# ---- MIT1003 in training ------------------------------------------------------------------


def test_a_training_run_may_take_mit1003_beside_salicon(home, monkeypatch):
    for part in ("train", "val"):
        write_salicon(home / "SALICON", part, n=2)
    monkeypatch.setenv("SALICON_DATA_DIR", str(home / "SALICON"))
    trainer = Trainer(
        data_sources=("SALICON", "MIT1003"),
        prefix="both",
        model_cfg=TINY,
        num_epochs=1,
        num_workers=0,
        device="cpu",
        tboard=False,
        mit1003_cfg={"n_x_val": 3, "subset": 0.4},
        salicon_cfg={"out_size": (64, 96)},
    )
    assert trainer.model.sources == ("SALICON",)
    trainer.fit()
    for prefix in ("salicon", "mit1003"):
        assert math.isfinite(trainer.scalars.values[f"{prefix}/loss/valid"]["0"])
    with pytest.raises(UserError, match="MIT300 cannot be trained on"):
        Trainer(data_sources="MIT300")


# ---- mistakes -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"lrr": 1}, "fine-tuning has no option 'lrr'; did you mean 'lr'"),
        ({"lr": 0}, "lr is 0; it has to be a number above 0"),
        ({"lr_gamma": "a"}, "lr_gamma is 'a'"),
        ({"num_epochs": 0}, "num_epochs is 0"),
        ({"train_cnn_after": -1}, "train_cnn_after is -1"),
        ({"mit1003_batch_size": 0}, "mit1003_batch_size is 0"),
        ({"mit1003_valid_batch_size": 0.5}, r"mit1003_valid_batch_size is 0\.5"),
        ({"overwrite": "false"}, "overwrite is 'false'; it has to be True or False"),
        ({"mit1003_cfg": {"x_val_step": 1}}, "mit1003_cfg: x_val_step cannot be set there"),
        ({"mit1003_cfg": 3}, "mit1003_cfg is 3"),
        ({"mit1003_cfg": {"folds": 3}}, "MIT1003Dataset has no option 'folds'"),
        ({"x_val_step": 3}, "x_val_step is 3; it has to be a whole number from 0 to 2"),
        ({"augment": {"flipp": 1}}, "Augmentation has no option 'flipp'"),
        ({"device": "nonsense"}, "device 'nonsense' cannot be used"),
        ({"pretrained_train_id": "nope"}, "no run 'nope'.*there are: pretrained_unisal"),
    ],
    ids=str,
)
def test_a_mistake_is_found_before_anything_is_written(home, options, message):
    run = home / "runs" / "pretrained_unisal"
    before = names(run)
    with pytest.raises(UserError, match=message):
        FineTuner(**{**SMALL, **options})
    assert names(run) == before


def test_a_network_without_modules_for_images_is_refused(home):
    write_run(home / "runs" / "video", sources=("DHF1K",))
    with pytest.raises(UserError, match="SALICON is not among the network's sources"):
        FineTuner(**SMALL, pretrained_train_id="video")


@pytest.mark.parametrize("where", ["logs", "run"])
def test_a_folder_that_cannot_be_written_is_told_before_any_work(home, monkeypatch, where):
    tuner = FineTuner(**SMALL)
    if where == "logs":
        tuner.folder.write_text("a file in its place")
    else:

        def refuse(**options):
            raise PermissionError(13, "Permission denied", str(options["dir"]))

        monkeypatch.setattr(tempfile, "TemporaryFile", refuse)
    monkeypatch.setattr(passes, "validate_epoch", None)  # would be called first of all
    with pytest.raises(UserError, match=r"cannot be written .*TRAIN_DIR") as refused:
        tuner.fit()
    assert str(home / "runs" / "pretrained_unisal") in str(refused.value)


# ---- as a process -------------------------------------------------------------------------

OPTIONS = [
    "--mit1003_cfg={'n_x_val': 3, 'subset': 0.4}",
    "--mit1003_batch_size=2",
    "--num_workers=1",
    "--device=cpu",
]


@pytest.mark.slow
def test_train_finetune_mit_as_a_process(home, monkeypatch):
    for i in (1, 2):
        write_photo(home / "MIT300" / "BenchmarkIMAGES" / f"i{i}.jpg", seed=i)
    monkeypatch.setenv("MIT300_DATA_DIR", str(home / "MIT300"))
    monkeypatch.setenv("PRED_DIR", str(home / "predictions"))
    write_run(home / "runs" / "2024_05", sources=("SALICON",))
    run = home / "runs" / "2024_05"
    command = ["train_finetune_mit", *OPTIONS, "--pretrained_train_id=2024_05", "--num_epochs=1"]
    command += ["--lr=0.005", "--lr_gamma=0.9", "--x_val_step=1"]
    done = run_command(*command, "--eval_sources=('MIT300', 'FINAL_TEST_MIT1003')")
    assert (done.returncode, done.stderr) == (0, "")
    folder = run / "MIT1003_lr0.0050_lrGamma0.90_nEpochs1_TrainCNNAfter0_xVal1"
    assert done.stdout.startswith("start, MIT1003 fold 1: valid KLD ")
    assert (run / "ft_mit1003.pth").is_file()
    assert any("tfevents" in name for name in names(folder))
    assert "MIT300: where people looked is not public, so no score can be computed" in done.stdout
    written = {p.name for p in (home / "predictions" / "2024_05").rglob("i*")}
    assert {"i1.jpg", "i2.jpg"} <= written
    scores = json.loads((folder / "MIT1003_eval_scores.json").read_text())
    assert len(scores) == 3  # the fold, all of it


@pytest.mark.slow
def test_without_the_benchmark_a_run_is_fine_tuned_and_told_what_is_missing(home):
    done = run_command("train_finetune_mit", *OPTIONS, "--num_epochs=1")
    assert done.returncode == 0, done.stderr
    assert "MIT300 will not be evaluated" in done.stderr and "MIT300_DATA_DIR" in done.stderr
    assert (home / "runs/pretrained_unisal/ft_mit1003.pth").is_file()
