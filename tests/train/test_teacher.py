"""Teachers: the targets they make, the domains they use, and runs with and without them."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from support import lively_network, write_network, write_salicon
from torch import Tensor

from unisal.config import save_json
from unisal.data import Batch
from unisal.errors import UserError
from unisal.train import Trainer
from unisal.train import epoch as passes
from unisal.train.config import TrainerConfig
from unisal.train.own_domain import domain_options
from unisal.train.teacher import Teacher, load_teachers, taught

CPU = torch.device("cpu")
DOMAINS = ("DHF1K", "SALICON")


@pytest.fixture
def home(tmp_path, monkeypatch):
    """Return a folder with pictures and gaze, and two runs."""
    monkeypatch.setenv("TRAIN_DIR", str(tmp_path / "runs"))
    monkeypatch.setenv("SALICON_DATA_DIR", str(tmp_path / "SALICON"))
    for part in ("train", "val"):
        write_salicon(tmp_path / "SALICON", part)
    for seed, name in enumerate(("a", "b")):
        write_network(tmp_path / "runs" / name, lively_network(seed, sources=DOMAINS))
    return tmp_path


def batch_of(is_video: bool = False, domain: str | None = None, source: str = "x") -> Batch:
    generator = torch.Generator().manual_seed(3)
    steps = 2 if is_video else 1
    maps = torch.rand(2, steps, 1, 40, 56, generator=generator)
    return Batch(
        source=source,
        domain=domain or ("DHF1K" if is_video else "SALICON"),
        is_video=is_video,
        names=["1", "2"],
        frames=torch.randn(2, steps, 3, 64, 96, generator=generator),
        maps=maps / maps.sum((-2, -1), keepdim=True),
        fixations=maps > 0.9,
    )


def teachers_of(*names: str) -> list[Teacher]:
    return load_teachers(TrainerConfig.from_dict({"teacher": names}), CPU)


@pytest.mark.usefixtures("home")
@pytest.mark.parametrize("is_video", [False, True])
def test_the_target_is_the_weighted_mean_of_gaze_and_predictions(is_video):
    batch = batch_of(is_video)
    found = taught(batch, teachers_of("a", "b"), 0.3)
    expected: Tensor = 0.7 * batch.maps.double()
    for seed in (0, 1):
        model = lively_network(seed, sources=DOMAINS)
        for mirrored in (False, True):
            frames = batch.frames.flip(4) if mirrored else batch.frames
            with torch.no_grad():
                y = model(frames, (40, 56), source=batch.domain, static=not is_video).exp()
            expected += 0.3 / 4 * (y.flip(4) if mirrored else y).double()
    torch.testing.assert_close(found.maps.double(), expected, rtol=1e-4, atol=1e-9)
    assert (found.maps - batch.maps).abs().max() > 1e-5
    assert torch.equal(found.fixations, batch.fixations)
    sums = found.maps.sum((-3, -2, -1))
    torch.testing.assert_close(sums, torch.ones_like(sums))
    assert not found.maps.requires_grad


@pytest.mark.usefixtures("home")
def test_without_a_share_the_target_is_that_of_people():
    batch = batch_of()
    torch.testing.assert_close(taught(batch, teachers_of("a"), 0).maps, batch.maps)
    assert taught(batch, [], 0.5) is batch


def test_a_teacher_uses_the_domain_that_it_trained_on_the_source(home):
    (teacher,) = teachers_of("a")
    assert teacher.domain_for(batch_of()) == "SALICON"
    assert teacher.domain_for(batch_of(domain="Crowd")) == "SALICON"
    assert teacher.domain_for(batch_of(True, domain="Game")) == "DHF1K"
    model = lively_network(0, sources=(*DOMAINS, "Mine", "All"))
    write_network(home / "runs" / "a", model)
    presets = {
        "Mine": {"domain": "Mine", "sources": ["x", "y"]},
        "All": {"domain": "All", "sources": ["y"]},
    }
    save_json(home / "runs" / "a" / "presets.json", presets)
    (teacher,) = teachers_of("a")
    assert teacher.domain_for(batch_of(source="x")) == "Mine"
    assert teacher.domain_for(batch_of(source="y")) == "All"
    assert teacher.domain_for(batch_of(source="y", domain="Mine")) == "Mine"
    assert teacher.domain_for(batch_of(source="z")) == "SALICON"
    assert teacher.domain_for(batch_of(source="z", domain="All")) == "All"


def test_a_teacher_without_any_such_domain_is_refused(home):
    write_network(home / "runs" / "a", lively_network(0, sources=("SALICON",)))
    (teacher,) = teachers_of("a")
    with pytest.raises(UserError, match="a has no domain for x; it knows SALICON"):
        teacher.densities(batch_of(True))


# ---- runs -----------------------------------------------------------------------------------


def trainer_of(prefix: str, **options) -> Trainer:
    small = {
        "batch_sizes": {"SALICON": 2},
        "dataset_options": {"SALICON": {"input_size": (32, 64)}},
        "num_workers": 0,
        "device": "cpu",
        "tboard": False,
        "num_epochs": 2,
        "prefix": prefix,
    }
    own = domain_options(["SALICON"], "Crowd", None, "a", "all", {**small, **options})
    return Trainer(**own)


def run(prefix: str, **options) -> Trainer:
    trainer = trainer_of(prefix, **options)
    trainer.fit()
    return trainer


def same_weights(one: Trainer, other: Trainer) -> bool:
    states = one.model.state_dict(), other.model.state_dict()
    return all(torch.equal(states[0][key], states[1][key]) for key in states[0])


@pytest.mark.usefixtures("home")
def test_only_training_is_taught_and_a_stopped_run_goes_on_to_the_same_weights(monkeypatch):
    plain, whole = run("plain"), run("whole", teacher="a,b", teacher_share=0.4)
    losses = [t.scalars.values["salicon/loss/valid"]["-1"] for t in (plain, whole)]
    assert losses[0] == losses[1]
    assert not same_weights(plain, whole)
    assert all(not teacher.model.training for teacher in whole.teachers)
    first = torch.load(whole.folder.parent / "a" / "weights_best.pth")
    kept = whole.teachers[0].model.state_dict()
    assert all(torch.equal(kept[key], first[key]) for key in first)

    step, seen = passes.train_step, []

    def stop(*given):
        seen.append(1)
        if len(seen) == 4:
            raise KeyboardInterrupt
        return step(*given)

    part = trainer_of("part", teacher=("a", "b"), teacher_share=0.4)
    monkeypatch.setattr(passes, "train_step", stop)
    with pytest.raises(KeyboardInterrupt):
        part.fit()
    monkeypatch.setattr(passes, "train_step", step)
    part = Trainer.resume("part_unisal")
    part.fit()
    assert same_weights(part, whole)


@pytest.mark.usefixtures("home")
def test_a_share_of_zero_trains_as_without_a_teacher():
    assert same_weights(run("plain"), run("none", teacher="a", teacher_share=0))


@pytest.mark.usefixtures("home")
@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"teacher": "nothing"}, "no run 'nothing'"),
        ({"teacher": 3}, "teacher is 3"),
        ({"teacher": "a", "teacher_share": 1.5}, r"teacher_share is 1\.5"),
    ],
    ids=str,
)
def test_mistakes_are_named(options, said):
    with pytest.raises(UserError, match=said):
        trainer_of("wrong", **options)


@pytest.mark.usefixtures("home")
def test_a_batch_that_is_given_stays_as_it_is():
    batch = batch_of()
    before = replace(batch, maps=batch.maps.clone(), frames=batch.frames.clone())
    taught(batch, teachers_of("a"), 1.0)
    assert torch.equal(batch.maps, before.maps) and torch.equal(batch.frames, before.frames)
