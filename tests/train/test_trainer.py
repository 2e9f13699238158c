"""A run from its options to its folder, on made-up data and a tiny network."""

from __future__ import annotations

import contextlib
import itertools
import json
import math
import os
import re
import signal
from dataclasses import fields

import pytest
import torch
from support import TINY, run_command, write_run, write_salicon

from unisal.config import load_json
from unisal.data import DATASETS, SALICONDataset
from unisal.data.base import Item, SaliencyDataset
from unisal.errors import UserError
from unisal.model import UNISAL
from unisal.model.weights import read_state
from unisal.train import Trainer
from unisal.train import epoch as passes
from unisal.train import trainer as trainer_module
from unisal.train.config import PER_SOURCE, PUBLISHED_KEYS, TrainerConfig
from unisal.train.sources import saved_options

SMALL = {
    "data_sources": ("SALICON",),
    "model_cfg": TINY,
    "salicon_cfg": {"out_size": (32, 64)},
    "salicon_batch_size": 2,
    "num_workers": 0,
    "device": "cpu",
    "prefix": "mine",
    "tboard": False,
}
"""The options of a run that takes a second."""
RUN = SMALL | {
    "num_epochs": 3,
    "chkpnt_warmup": 0,
    "chkpnt_epochs": 1,
    "train_cnn_after": 2,
    "tboard": True,
}


class Clips(SaliencyDataset):
    """A made-up video source in the place of DHF1K's."""

    source = domain = "DHF1K"
    is_video = True
    scalar_prefix = "conv"

    def __init__(self, phase="train", n=4, seed=0):
        super().__init__(phase, seed=seed, n=n)

    def name(self, index):
        return f"clip {index}"

    def __len__(self):
        return self.config["n"]

    def __getitem__(self, index):
        generator = torch.Generator().manual_seed(index)
        maps = torch.rand((2, 1, 20, 30), generator=generator) ** 4
        return Item(
            frame_nrs=[1, 6],
            frames=torch.randn((2, 3, 32, 64), generator=generator),
            maps=maps / maps.sum((2, 3), keepdim=True),
            fixations=maps > 0.8,
            target_size=(20, 30),
        )


def write_data(root):
    write_salicon(root / "SALICON", "train", n=5)
    write_salicon(root / "SALICON", "val", n=4)


def set_folders(patch, root):
    patch.setenv("TRAIN_DIR", str(root / "runs"))
    patch.setenv("SALICON_DATA_DIR", str(root / "SALICON"))


@pytest.fixture
def home(tmp_path, monkeypatch):
    """Return where runs and data lie; SALICON is there, and DHF1K is `Clips`."""
    write_data(tmp_path)
    set_folders(monkeypatch, tmp_path)
    monkeypatch.setitem(DATASETS, "DHF1K", Clips)
    return tmp_path


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run of three epochs -> (the trainer, its weights at the start, the checkpoints)."""
    root = tmp_path_factory.mktemp("finished")
    write_data(root)
    with pytest.MonkeyPatch.context() as patch:
        set_folders(patch, root)
        trainer = Trainer(**RUN)
        start = {k: v.clone() for k, v in trainer.model.state_dict().items()}
        trainer.fit()
    paths = sorted(trainer.folder.glob("chkpnt_epoch*.pth"))
    return trainer, start, [torch.load(path, weights_only=True) for path in paths]


def trained(**options):
    trainer = Trainer(**{**SMALL, "num_epochs": 1, **options})
    trainer.fit()
    return trainer


def names(folder):
    return sorted(p.name for p in folder.iterdir())


def scripted(monkeypatch, losses):
    """Let the epochs do nothing but tell these validation losses, per source; checkpoints are
    empty files."""
    told = iter(losses)

    def validate(*_):
        return {
            s: {"loss": v, "loss_0": v, "loss_1": v, "loss_2": v} for s, v in next(told).items()
        }

    def train(model, *rest):
        with torch.no_grad():  # so that the weights of every epoch differ
            model.post_cnn.inv_res.conv.get_parameter("0.weight").add_(1)
        rest[-4].rows.update({source: [[1.0] * 4] for source in losses[0]})

    monkeypatch.setattr(passes, "validate_epoch", validate)
    monkeypatch.setattr(passes, "train_epoch", train)
    monkeypatch.setattr(trainer_module, "save_checkpoint", lambda path, _content: path.touch())


def assert_same_state(some, others):
    assert list(some) == list(others)
    assert [k for k in some if not torch.equal(some[k], others[k])] == []


# ---- what a run leaves --------------------------------------------------------------------


def test_the_folder_holds_weights_checkpoints_scalars_and_configuration(finished):
    trainer, _, _ = finished
    assert (trainer.folder.name, trainer.train_id) == ("mine_unisal", "mine_unisal")
    found = names(trainer.folder)
    events = [name for name in found if "tfevents" in name]
    assert len(events) == 1
    assert set(found) - set(events) == {
        "Trainer.json",
        "UNISAL.json",
        "SALICONDataset.json",
        "all_scalars.json",
        "best_epoch.dat",
        "best_val_loss.dat",
        "weights_best.pth",
        "chkpnt_latest.pth",
        *(f"chkpnt_epoch{i:04d}.pth" for i in range(3)),
    }


def test_the_saved_configuration_makes_the_same_run_again(finished, home):
    trainer, start, _ = finished
    saved = load_json(trainer.folder / "Trainer.json")
    again = Trainer(**{**saved, "prefix": "again"})
    assert {**saved_options(again.cfg), "prefix": "mine"} == {
        **saved_options(trainer.cfg),
        "salicon_cfg": {"out_size": [32, 64]},
    }
    assert_same_state(again.model.state_dict(), start)
    network = load_json(trainer.folder / "UNISAL.json")
    assert network["sources"] == ["SALICON"]
    assert list(UNISAL(**network).state_dict()) == list(start)
    options = load_json(trainer.folder / "SALICONDataset.json")
    assert options["out_size"] == [32, 64]
    assert not {"phase", "seed"} & set(options)
    assert len(SALICONDataset(**options)) == 5
    assert not (home / "runs").exists()  # nothing is written before the training


def test_scalars_of_every_epoch_are_finite_and_agree_with_the_files(finished):
    trainer, _, _ = finished
    scalars = json.loads((trainer.folder / "all_scalars.json").read_text())
    kinds = ["loss", "loss_0", "loss_1", "loss_2"]
    expected = {f"salicon/{k}/{phase}" for k in kinds for phase in ("train", "valid")}
    assert set(scalars) == expected | {"lr"}
    for tag, values in scalars.items():
        assert list(values) == ["0", "1", "2"], tag
        assert all(math.isfinite(v) for v in values.values()), tag
    for phase in ("train", "valid"):
        total, *parts = ([*scalars[f"salicon/{k}/{phase}"].values()] for k in kinds)
        summed = [a - 0.1 * b - 0.1 * c for a, b, c in zip(*parts, strict=True)]
        assert total == pytest.approx(summed, rel=1e-5)
    assert list(scalars["lr"].values()) == pytest.approx([0.04 * 0.8**i for i in range(3)])


def test_tensorboard_holds_the_same_scalars(finished):
    # Written without TensorBoard at hand: tags and values stand in the file as they are.
    trainer, _, _ = finished
    (path,) = trainer.folder.glob("*tfevents*")
    content = path.read_bytes()
    for tag in json.loads((trainer.folder / "all_scalars.json").read_text()):
        assert content.count(tag.encode()) == 3, tag


@pytest.mark.usefixtures("home")
def test_the_validation_loss_is_that_of_the_saved_weights(finished):
    trainer, _, checkpoints = finished
    scalars = json.loads((trainer.folder / "all_scalars.json").read_text())
    net = UNISAL(**TINY, sources=("SALICON",))
    examples = list(SALICONDataset("valid", out_size=(32, 64)))
    for i, checkpoint in enumerate(checkpoints):
        net.load_state_dict(checkpoint["model_state_dict"])
        with torch.no_grad():
            kld = []
            for e in examples:
                log_p = net.eval()(e.frames[None, None], e.target_size, source="SALICON")[0, 0]
                kld.append((torch.xlogy(e.maps, e.maps) - e.maps * log_p).sum().item())
        assert scalars["salicon/loss_0/valid"][str(i)] == pytest.approx(sum(kld) / 4, rel=1e-4)


def test_checkpoints_hold_what_they_have_to(finished):
    trainer, start, checkpoints = finished
    keys = ["model_state_dict", "optimizer_state_dict", "epoch", "best_epoch", "best_val_score"]
    scalars = json.loads((trainer.folder / "all_scalars.json").read_text())
    for i, checkpoint in enumerate(checkpoints):
        assert list(checkpoint) == [*keys, "all_scalars", "random_states"]
        assert checkpoint["epoch"] == i
        assert list(checkpoint["model_state_dict"]) == list(start)
        so_far = {tag: {k: v for k, v in s.items() if int(k) <= i} for tag, s in scalars.items()}
        assert checkpoint["all_scalars"] == so_far
        losses = list(so_far["salicon/loss/valid"].values())
        assert checkpoint["best_epoch"] == losses.index(min(losses))
        assert checkpoint["best_val_score"] == -min(losses)
        trainer.optimizer.load_state_dict(checkpoint["optimizer_state_dict"])
    assert_same_state(checkpoints[-1]["model_state_dict"], trainer.model.state_dict())


def test_the_best_weights_are_those_of_the_lowest_validation_loss(finished):
    trainer, _, checkpoints = finished
    best = checkpoints[-1]["best_epoch"]
    assert (trainer.folder / "best_epoch.dat").read_text().strip() == str(best)
    told = float((trainer.folder / "best_val_loss.dat").read_text())
    assert told == -checkpoints[-1]["best_val_score"]
    saved = read_state(trainer.folder / "weights_best.pth")
    assert_same_state(saved, checkpoints[best]["model_state_dict"])


# ---- the encoder --------------------------------------------------------------------------


def is_statistic(key):
    return "running_" in key or "num_batches" in key


def test_the_encoder_is_frozen_for_the_first_epochs(finished):
    _, start, checkpoints = finished
    states = [start, *(c["model_state_dict"] for c in checkpoints)]
    changes = []
    for before, after in itertools.pairwise(states):
        changed = {k for k in start if not torch.equal(before[k], after[k])}
        of_encoder = {k for k in start if k.startswith("cnn.") and not is_statistic(k)}
        changes.append(len(changed & of_encoder) / len(of_encoder))
        assert any(not k.startswith("cnn.") for k in changed)
    assert changes == [0, 0, 1]


@pytest.mark.parametrize("cnn_eval", [True, False])
@pytest.mark.usefixtures("home")
def test_cnn_eval_keeps_the_encoders_statistics(cnn_eval):
    trainer = Trainer(**SMALL, num_epochs=1, cnn_eval=cnn_eval, train_cnn_after=0)
    start = {k: v.clone() for k, v in trainer.model.state_dict().items()}
    trainer.fit()
    changed = {k for k, v in trainer.model.state_dict().items() if not torch.equal(v, start[k])}
    of_encoder = {k for k in start if k.startswith("cnn.") and is_statistic(k)}
    assert len(of_encoder & changed) == (0 if cnn_eval else len(of_encoder))
    assert any(is_statistic(k) and not k.startswith("cnn.") for k in changed)


# ---- the best weights and the checkpoints -------------------------------------------------


@pytest.mark.parametrize(
    ("losses", "warmup", "best"),
    [
        ([0.1, 0.5, 0.3, 0.4], 1, 2),  # the first would be best, but comes too early
        ([0.5, 0.4, 0.3, 0.2], 3, 3),
        ([0.2, 0.2, 0.2, 0.2], 1, 1),  # the first of equal ones
        ([-0.1, -0.3, 0.2, -0.2], 0, 1),
        ([0.2, 0.1, 0.3, 0.4], 9, 3),  # a run shorter than the warm-up leaves its last weights
    ],
    ids=str,
)
@pytest.mark.usefixtures("home")
def test_the_best_epoch_is_chosen_after_the_warm_up(monkeypatch, losses, warmup, best):
    scripted(monkeypatch, [{"SALICON": loss} for loss in losses])
    options = {"num_epochs": 4, "chkpnt_warmup": warmup, "chkpnt_epochs": 1}
    trainer = Trainer(**SMALL, **options)
    start = trainer.model.post_cnn.inv_res.conv.get_parameter("0.weight").clone()
    trainer.fit()
    assert (trainer.folder / "best_epoch.dat").read_text().strip() == str(best)
    assert float((trainer.folder / "best_val_loss.dat").read_text()) == losses[best]
    weights = read_state(trainer.folder / "weights_best.pth")["post_cnn.inv_res.conv.0.weight"]
    torch.testing.assert_close(weights, start + best + 1)


@pytest.mark.parametrize(
    ("sources", "losses", "best"),
    [
        (("DHF1K", "SALICON"), [(0.5, 0.1), (0.3, 0.9), (0.4, 0.2)], 1),
        (("SALICON", "DHF1K"), [(0.1, 0.5), (0.9, 0.3), (0.2, 0.4)], 1),
    ],
    ids=["video first", "video last"],
)
@pytest.mark.usefixtures("home")
def test_the_loss_that_counts_is_dhf1ks(monkeypatch, sources, losses, best):
    scripted(monkeypatch, [dict(zip(sources, values, strict=True)) for values in losses])
    options = {"data_sources": sources, "num_epochs": 3, "chkpnt_warmup": 0}
    trainer = Trainer(**{**SMALL, **options})
    trainer.fit()
    assert trainer.best_epoch == best
    assert (trainer.folder / "best_epoch.dat").read_text().strip() == str(best)
    told = float((trainer.folder / "best_val_loss.dat").read_text())
    assert told == losses[best][sources.index("DHF1K")]


@pytest.mark.usefixtures("home")
def test_without_dhf1k_the_mean_over_the_sources_counts(monkeypatch):
    class Sports(Clips):
        source = domain = "UCFSports"
        scalar_prefix = "ucfsports"

    monkeypatch.setitem(DATASETS, "UCFSports", Sports)
    losses = [(0.1, 0.9), (0.4, 0.4), (0.8, 0.2)]
    sources = ("SALICON", "UCFSports")
    scripted(monkeypatch, [dict(zip(sources, values, strict=True)) for values in losses])
    options = {"data_sources": sources, "num_epochs": 3, "chkpnt_warmup": 0}
    trainer = Trainer(**{**SMALL, **options})
    trainer.fit()
    assert trainer.best_epoch == 1
    assert float((trainer.folder / "best_val_loss.dat").read_text()) == pytest.approx(0.4)


@pytest.mark.parametrize(
    ("n", "warmup", "every", "expected"),
    [
        (16, 3, 2, [3, 5, 7, 9, 11, 13, 15]),
        (9, 3, 2, [3, 5, 7, 8]),
        (4, 1, 2, [1, 3]),
        (5, 0, 3, [0, 3, 4]),
        (2, 3, 2, [1]),
        (1, 0, 1, [0]),
    ],
    ids=str,
)
@pytest.mark.usefixtures("home")
def test_the_schedule_of_checkpoints(monkeypatch, n, warmup, every, expected):
    scripted(monkeypatch, [{"SALICON": 1.0}] * n)
    options = {"num_epochs": n, "chkpnt_warmup": warmup, "chkpnt_epochs": every}
    trainer = Trainer(**SMALL, **options)
    trainer.fit()
    found = [int(p.stem[-4:]) for p in sorted(trainer.folder.glob("chkpnt_epoch*.pth"))]
    assert found == expected


# ---- several sources ----------------------------------------------------------------------


@pytest.mark.usefixtures("home")
def test_video_and_images_train_one_network():
    options = {"data_sources": ("DHF1K", "SALICON"), "batch_size": 2}
    trainer = Trainer(**{**SMALL, **options}, num_epochs=1)
    start = {k: v.clone() for k, v in trainer.model.state_dict().items()}
    trainer.fit()
    scalars = json.loads((trainer.folder / "all_scalars.json").read_text())
    for prefix in ("conv", "salicon"):
        for phase in ("train", "valid"):
            assert math.isfinite(scalars[f"{prefix}/loss/{phase}"]["0"])
    changed = {k for k, v in trainer.model.state_dict().items() if not torch.equal(v, start[k])}
    for part in ("rnn.", "post_rnn.", "adaptation_dhf1k", "adaptation_salicon", "smoothing_dhf1k"):
        assert any(k.startswith(part) for k in changed), part
    assert {"Clips.json", "SALICONDataset.json"} <= set(names(trainer.folder))
    assert load_json(trainer.folder / "Clips.json") == {"n": 4}


@pytest.mark.parametrize("shuffle", [True, False])
@pytest.mark.usefixtures("home")
def test_the_sources_take_turns(monkeypatch, shuffle):
    scripted(monkeypatch, [{"DHF1K": 1.0, "SALICON": 1.0}] * 2)
    seen = []

    def train(_model, batches, *rest):
        seen.append([b.source for b in batches])
        rest[-4].rows.update({s: [[1.0]] for s in ("DHF1K", "SALICON")})

    monkeypatch.setattr(passes, "train_epoch", train)
    options = {
        "data_sources": ("DHF1K", "SALICON"),
        "data_cfg": {"n": 12},
        "batch_size": 2,
        "shuffle_datasets": shuffle,
        "num_epochs": 2,
    }
    Trainer(**{**SMALL, **options}).fit()
    in_turn = ["DHF1K", "SALICON"] * 2 + ["DHF1K"] * 4
    assert [sorted(e) for e in seen] == [sorted(in_turn)] * 2
    assert (seen == [in_turn, in_turn]) != shuffle
    assert (seen[0] == seen[1]) != shuffle


@pytest.mark.parametrize("weigh", [True, False])
@pytest.mark.usefixtures("home")
def test_a_weight_of_zero_stops_a_source_only_when_weights_are_asked_for(weigh):
    options = {"salicon_weight": 0.0, "weigh_sources": weigh, "weight_decay": 0.0}
    trainer = Trainer(**SMALL, num_epochs=1, **options)
    start = {k: v.detach().clone() for k, v in trainer.model.named_parameters()}
    trainer.fit()
    changed = [k for k, v in trainer.model.named_parameters() if not torch.equal(v, start[k])]
    assert bool(changed) != weigh


@pytest.mark.usefixtures("home")
def test_domains_that_are_not_trained_get_a_copy_in_the_saved_weights():
    model_cfg = {**TINY, "sources": ("DHF1K", "SALICON", "Hollywood")}
    trainer = trained(model_cfg=model_cfg, copy_domain="SALICON", chkpnt_warmup=0)
    saved = read_state(trainer.folder / "weights_best.pth")
    for key, value in saved.items():
        for other in ("DHF1K", "Hollywood"):
            copied = key.replace("bn_SALICON", f"bn_{other}").replace(
                "_salicon", f"_{other.lower()}"
            )
            assert torch.equal(saved[copied], value), key
    start = Trainer(**{**SMALL, "model_cfg": model_cfg, "prefix": "plain"}).model.state_dict()
    key = "smoothing_dhf1k.weight"
    assert not torch.equal(saved[key], start[key])


# ---- averaged weights ---------------------------------------------------------------------


@pytest.mark.usefixtures("home")
def test_the_average_is_what_is_validated_and_kept(monkeypatch):
    validated = []
    validate = passes.validate_epoch

    def spy(model, *rest):
        validated.append(model)
        return validate(model, *rest)

    monkeypatch.setattr(passes, "validate_epoch", spy)
    trainer = trained(ema_decay=0.9, chkpnt_warmup=0, num_epochs=2, chkpnt_epochs=1)
    assert all(model is trainer.average.model for model in validated)
    checkpoint = torch.load(trainer.folder / "chkpnt_epoch0001.pth", weights_only=True)
    assert checkpoint["average_steps"] == 4  # two batches per epoch
    assert_same_state(checkpoint["average_state_dict"], trainer.average.model.state_dict())
    assert_same_state(checkpoint["model_state_dict"], trainer.model.state_dict())
    key = "adaptation_salicon.0.weight"
    assert not torch.equal(
        checkpoint["average_state_dict"][key], checkpoint["model_state_dict"][key]
    )
    best = torch.load(
        trainer.folder / f"chkpnt_epoch{trainer.best_epoch:04d}.pth", weights_only=True
    )
    assert_same_state(read_state(trainer.folder / "weights_best.pth"), best["average_state_dict"])


# ---- seeds --------------------------------------------------------------------------------


@pytest.mark.usefixtures("home")
def test_a_seed_gives_the_same_run_and_another_seed_another():
    options = {"augment": True, "train_cnn_after": 0}
    runs = []
    for i, seed in enumerate((3, 3, 4)):
        torch.rand(i)  # what was drawn before does not matter
        runs.append(trained(**options, prefix=f"run{i}", seed=seed))
    first, same, other = (r.model.state_dict() for r in runs)
    assert_same_state(first, same)
    assert runs[0].scalars.values == runs[1].scalars.values
    different = [k for k in first if not torch.equal(first[k], other[k])]
    assert {"cnn.features.0.0.weight", "adaptation_salicon.0.weight"} <= set(different)


@pytest.mark.usefixtures("home")
def test_a_training_neither_prints_nor_changes_what_its_caller_draws(capfd):
    def drawn(work):
        torch.manual_seed(11)
        work()
        return torch.rand(3)

    def stopped():
        with pytest.MonkeyPatch.context() as patch, contextlib.suppress(KeyboardInterrupt):
            stop_at(patch, "train_step", 3)
            trained(num_epochs=2, train_cnn_after=0)

    expected = drawn(lambda: None)
    assert torch.equal(drawn(stopped), expected)
    trainers = []
    assert torch.equal(drawn(lambda: trainers.append(Trainer.resume("mine_unisal"))), expected)
    assert torch.equal(drawn(trainers[0].fit), expected)
    assert capfd.readouterr() == ("", "")


@pytest.mark.usefixtures("home")
def test_what_its_caller_draws_does_not_change_a_training():
    options = {**SMALL, "num_epochs": 1}
    first, second = Trainer(**options), Trainer(**{**options, "prefix": "other"})
    first.fit()
    torch.rand(5)  # between the two steps
    torch.manual_seed(5)
    second.fit()
    assert_same_state(first.model.state_dict(), second.model.state_dict())


@pytest.mark.usefixtures("home")
def test_every_epoch_and_every_seed_shows_the_examples_differently(monkeypatch):
    scripted(monkeypatch, [{"SALICON": 1.0}] * 4)
    epochs = []

    def train(_model, batches, *rest):
        shown = [(b.names[0], b.frames) for b in batches]
        epochs.append(([name for name, _ in shown], dict(shown)))
        rest[-4].rows["SALICON"] = [[1.0]]

    monkeypatch.setattr(passes, "train_epoch", train)
    for seed in (0, 1):
        trained(seed=seed, prefix=f"run{seed}", num_epochs=2, augment=True, salicon_batch_size=1)
    orders = [tuple(order) for order, _ in epochs]
    assert len({frozenset(order) for order in orders}) == 1
    assert len(set(orders)) > 2
    for name in orders[0]:
        views = [shown[name] for _, shown in epochs]
        assert not any(torch.equal(a, b) for a, b in itertools.combinations(views, 2))


@pytest.mark.usefixtures("home")
def test_the_number_of_workers_changes_nothing():
    runs = [trained(augment=True, prefix=f"run{n}", num_workers=n) for n in (0, 2)]
    assert_same_state(*(r.model.state_dict() for r in runs))


@pytest.mark.usefixtures("home")
def test_no_more_workers_are_started_than_there_are_cores(monkeypatch, recwarn):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0}, raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 64)  # of the machine, not of this process
    trained(num_workers=6)
    assert not [w for w in recwarn.list if "worker" in str(w.message)]


# ---- the folder ---------------------------------------------------------------------------


@pytest.mark.usefixtures("home")
def test_tensorboard_is_written_only_when_asked_for():
    trainer = trained(tboard=False)
    assert not [name for name in names(trainer.folder) if "tfevents" in name]


def test_the_folder_is_named_by_prefix_and_suffix(home):
    assert trained(prefix="a", suffix="b").folder == home / "runs" / "a_b"
    named_by_time = Trainer(**{**SMALL, "prefix": None}).folder.name
    assert re.fullmatch(r"\d{4}-\d\d-\d\d_\d{6}_unisal", named_by_time)


@pytest.mark.parametrize("finished", [True, False])
def test_a_run_is_not_overwritten(home, monkeypatch, finished):
    if not finished:
        stop_at(monkeypatch, "train_step", 1)
    with contextlib.suppress(KeyboardInterrupt):
        trained()
    folder = home / "runs" / "mine_unisal"
    assert (folder / "weights_best.pth").exists() == finished
    before = {p.name: p.read_bytes() for p in folder.iterdir()}
    with pytest.raises(UserError, match="already holds a run; choose another prefix") as refused:
        Trainer(**SMALL)
    assert str(folder) in str(refused.value)
    assert "--resume=mine_unisal" in str(refused.value)
    assert {p.name: p.read_bytes() for p in folder.iterdir()} == before


@pytest.mark.usefixtures("home")
def test_without_a_new_instance_the_configuration_is_not_written():
    folder = trained(new_instance=False).folder
    assert not [name for name in names(folder) if name.endswith(".json") and name[0].isupper()]
    assert (folder / "weights_best.pth").exists()


@pytest.mark.usefixtures("home")
def test_debug_is_a_short_run_on_a_share_of_the_data():
    trainer = Trainer(**SMALL | {"debug": True, "salicon_cfg": {"subset": 0.5}})
    assert trainer.folder.name == "mine_unisal_debug"
    assert len(trainer.datasets["train"]["SALICON"]) == 2
    with pytest.raises(UserError, match=r"5 files found, 0 left with subset=0\.02"):
        Trainer(**SMALL | {"debug": True, "salicon_cfg": {}})


# ---- a run that was stopped ---------------------------------------------------------------

STOPPED = {
    "num_epochs": 2,
    "train_cnn_after": 1,
    "chkpnt_warmup": 0,
    "ema_decay": 0.9,
    "augment": True,
    "lr_scheduler": "cosine",
}


def stop_at(monkeypatch, name, n):
    """Press Ctrl-C during the n-th call of this function of `unisal.train.epoch`."""
    function, calls = getattr(passes, name), itertools.count(1)

    def pressed(*arguments):
        if next(calls) == n:
            signal.raise_signal(signal.SIGINT)
        return function(*arguments)

    monkeypatch.setattr(passes, name, pressed)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run that nothing has stopped."""
    root = tmp_path_factory.mktemp("whole")
    write_data(root)
    with pytest.MonkeyPatch.context() as patch:
        set_folders(patch, root)
        return trained(**STOPPED)


@pytest.mark.parametrize(
    ("name", "n", "place"),
    [
        ("train_step", 1, (0, 1)),
        ("train_step", 2, (0, 2)),
        ("train_step", 3, (1, 1)),
        ("validate_epoch", 2, (1, 2)),
    ],
    ids=["first step", "last step of an epoch", "second epoch", "validation"],
)
def test_a_run_that_was_stopped_ends_as_if_it_had_not_been(
    home, whole, monkeypatch, name, n, place
):
    with monkeypatch.context() as patched:
        stop_at(patched, name, n)
        with pytest.raises(KeyboardInterrupt):
            trained(**STOPPED)
    torch.rand(7)  # the process is another one
    trainer = Trainer.resume("mine_unisal")
    assert (trainer.epoch, trainer.step) == place
    trainer.fit()
    assert_same_state(trainer.model.state_dict(), whole.model.state_dict())
    assert_same_state(trainer.best_model.state_dict(), whole.best_model.state_dict())
    assert trainer.scalars.values == whole.scalars.values
    folder = home / "runs" / "mine_unisal"
    assert names(folder) == names(whole.folder)
    for file in ("all_scalars.json", "best_epoch.dat", "best_val_loss.dat", "Trainer.json"):
        assert (folder / file).read_text() == (whole.folder / file).read_text(), file
    assert_same_state(
        read_state(folder / "weights_best.pth"), read_state(whole.folder / "weights_best.pth")
    )


@pytest.mark.usefixtures("home")
def test_an_older_checkpoint_does_where_the_newest_is_damaged(whole, monkeypatch, caplog):
    with monkeypatch.context() as patched:
        stop_at(patched, "train_step", 3)
        with pytest.raises(KeyboardInterrupt):
            trained(**STOPPED)
    latest = Trainer.resume("mine_unisal").folder / "chkpnt_latest.pth"
    latest.write_bytes(latest.read_bytes()[:5000])
    trainer = Trainer.resume("mine_unisal")
    assert str(latest) in caplog.text
    assert (trainer.epoch, trainer.step) == (1, 0)
    trainer.fit()
    assert_same_state(trainer.model.state_dict(), whole.model.state_dict())


@pytest.mark.usefixtures("home")
def test_a_run_without_any_checkpoint_starts_again():
    trainer = trained()
    expected = {k: v.clone() for k, v in trainer.model.state_dict().items()}
    for path in trainer.folder.glob("*.pth"):
        path.unlink()
    again = Trainer.resume("mine_unisal")
    again.fit()
    assert_same_state(again.model.state_dict(), expected)


@pytest.mark.usefixtures("home")
def test_a_finished_run_that_goes_on_is_finished_already():
    trainer = trained()
    before = {p.name: p.read_bytes() for p in trainer.folder.iterdir()}
    Trainer.resume("mine_unisal").fit()
    assert {p.name: p.read_bytes() for p in trainer.folder.iterdir()} == before


@pytest.mark.usefixtures("home")
def test_a_run_of_an_older_program_goes_on(whole, monkeypatch):
    with monkeypatch.context() as patched:
        stop_at(patched, "train_step", 3)
        with pytest.raises(KeyboardInterrupt):
            trained(**STOPPED)
    path = Trainer.resume("mine_unisal").folder / "Trainer.json"
    saved = load_json(path)
    # The file holds what an older program knows and nothing else, and such a file is read.
    assert set(saved) == {f.name for f in fields(TrainerConfig)} - set(PER_SOURCE) | set(
        PUBLISHED_KEYS
    )
    assert (saved["salicon_batch_size"], saved["batch_size"]) == (2, 4)
    trainer = Trainer.resume("mine_unisal")
    trainer.fit()
    assert_same_state(trainer.model.state_dict(), whole.model.state_dict())


@pytest.mark.usefixtures("home")
def test_what_changes_no_number_may_change_when_a_run_goes_on():
    trained()
    trainer = Trainer.resume("mine_unisal", num_workers=1, tboard=True, device="cpu")
    assert (trainer.cfg.num_workers, trainer.cfg.tboard) == (1, True)
    with pytest.raises(UserError, match=r"lr, seed cannot be changed .*only num_workers, device"):
        Trainer.resume("mine_unisal", lr=0.1, seed=3, num_workers=2)


@pytest.mark.usefixtures("home")
def test_a_run_that_is_not_there_cannot_go_on():
    trained()
    with pytest.raises(UserError, match=r"no run 'other'.*there are: mine_unisal"):
        Trainer.resume("other")


# ---- other weights to start from ----------------------------------------------------------


@pytest.mark.usefixtures("home")
def test_a_run_can_start_from_the_weights_of_another(monkeypatch):
    first = trained(prefix="first")
    second = Trainer(**SMALL, init_from="first_unisal", seed=5)
    best = read_state(first.folder / "weights_best.pth")
    assert_same_state(second.model.state_dict(), best)
    # It takes over the network with all its domains.
    write_run(first.folder.parent / "wide", sources=(*first.model.sources, "More"))
    wide = Trainer(**SMALL | {"model_cfg": {}}, init_from="wide")
    assert wide.model.sources == (*first.model.sources, "More")
    # ImageNet's weights are not asked for, which here would fail.
    monkeypatch.setenv("UNISAL_ENCODER_WEIGHTS", "missing.pth")
    pretrained = {**TINY, "cnn_cfg": {**TINY["cnn_cfg"], "pretrained": True}}
    third = Trainer(**SMALL | {"model_cfg": pretrained}, init_from="first_unisal")
    assert_same_state(third.model.state_dict(), best)
    with pytest.raises(UserError, match="no run 'nope'"):
        Trainer(**SMALL, init_from="nope")
    with pytest.raises(UserError, match=r"weights_best\.pth does not fit this network"):
        Trainer(**SMALL | {"model_cfg": {**TINY, "n_gaussians": 0}}, init_from="first_unisal")


# ---- mistakes -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"data_sources": ("SALICON", "NOPE")},
            "data_sources: NOPE cannot be trained on; .*SALICON",
        ),
        ({"model_cfg": {**TINY, "sources": ("DHF1K",)}}, "data_sources: SALICON is not among"),
        ({"copy_domain": "NOPE"}, "copy_domain: NOPE is not among"),
        ({"salicon_cfg": {"size": 3}}, "SALICONDataset has no option 'size'"),
        ({"model_cfg": {"width": 3}}, "UNISAL has no option 'width'"),
        ({"augment": {"flipp": 1}}, "Augmentation has no option 'flipp'"),
        ({"num_epoch": 3}, "'num_epoch'; did you mean 'num_epochs'"),
        ({"device": "nonsense"}, "device 'nonsense' cannot be used"),
    ],
    ids=str,
)
def test_a_mistake_is_found_before_anything_is_written(home, options, message):
    with pytest.raises(UserError, match=message):
        Trainer(**{**SMALL, **options})
    assert not (home / "runs").exists()


@pytest.mark.parametrize("workers", [0, 1])
def test_a_picture_that_is_damaged_stops_the_run_and_is_named(home, workers):
    bad = home / "SALICON" / "images" / "COCO_val2014_000000000003.jpg"
    bad.write_bytes(b"no picture")
    with pytest.raises(UserError) as refused:
        trained(num_workers=workers)
    assert str(refused.value) == f"{bad} is not a picture that can be read"


@pytest.mark.usefixtures("home")
def test_a_loss_that_is_not_finite_stops_the_run_and_names_the_pictures():
    with pytest.raises(UserError, match=r"not finite.*SALICON: COCO_train2014_\d+\.jpg"):
        trained(lr=1e30, num_epochs=3, grad_clip=None)


# ---- as a process -------------------------------------------------------------------------


@pytest.mark.slow
def test_train_as_a_process(tmp_path):
    write_data(tmp_path)
    env = {
        "TRAIN_DIR": str(tmp_path / "runs"),
        "SALICON_DATA_DIR": str(tmp_path / "SALICON"),
    }
    command = [
        "train",
        "--data_sources=('SALICON',)",
        f"--model_cfg={TINY}",
        "--salicon_cfg={'out_size': (32, 64)}",
        "--salicon_batch_size=2",
        "--num_epochs=2",
        "--chkpnt_warmup=0",
        "--prefix=mine",
        "--device=cpu",
        "--num_workers=2",
    ]
    done = run_command(*command, env=env)
    assert (done.returncode, done.stderr) == (0, "")
    assert "SALICON: 4 images" in done.stdout
    folder = tmp_path / "runs" / "mine_unisal"
    found = {name for name in names(folder) if "tfevents" not in name}
    assert len(names(folder)) == len(found) + 1
    assert found == {
        "Trainer.json",
        "UNISAL.json",
        "SALICONDataset.json",
        "all_scalars.json",
        "best_epoch.dat",
        "best_val_loss.dat",
        "weights_best.pth",
        "chkpnt_epoch0000.pth",
        "chkpnt_epoch0001.pth",
        "chkpnt_latest.pth",
        "SALICON_eval_scores.json",
        "SALICON_eval_mean_scores.json",
        "SALICON_eval_weighted_mean_scores.json",
        "SALICON_eval_summary.json",
    }
    assert len(json.loads((folder / "SALICON_eval_scores.json").read_text())) == 4

    before = {p: p.read_bytes() for p in folder.iterdir()}
    again = run_command(*command, env=env)
    assert (again.returncode, again.stdout) == (2, "")
    assert again.stderr.count("\n") == 1
    assert f"{folder} already holds a run" in again.stderr
    assert {p: p.read_bytes() for p in folder.iterdir()} == before
