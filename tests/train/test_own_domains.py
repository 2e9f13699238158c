"""Domains of several data sets: one each, one shared, both in turns."""

from __future__ import annotations

import json

import pytest
import torch
from gaze_folders import write_gaze
from support import call_command, lively_network, write_network

from unisal.config import save_json
from unisal.errors import UserError
from unisal.model.weights import read_state
from unisal.predict.presets import run_presets, trained_domain
from unisal.train import Trainer
from unisal.train import epoch as passes
from unisal.train.config import TrainerConfig
from unisal.train.domains import domain_by_step, domains
from unisal.train.own_domain import domain_options
from unisal.train.setup import make_loaders

BASE = ("DHF1K", "SALICON")
SMALL = {
    "dataset_options": {name: {"input_size": (32, 64)} for name in ("one", "two")},
    "batch_sizes": {"one": 2, "two": 2},
    "num_workers": 0,
    "num_epochs": 1,
    "device": "cpu",
    "tboard": False,
}


@pytest.fixture
def home(tmp_path, monkeypatch):
    """Return where two folders of gaze data and a run to start from lie."""
    monkeypatch.setenv("TRAIN_DIR", str(tmp_path / "runs"))
    for seed, name in enumerate(("one", "two")):
        pictures = {f"{i}.jpg": (48, 64) for i in range(1, 9)}
        write_gaze(tmp_path / name, pictures, seed=seed)
        parts = {"train": [*pictures][:6], "val": [*pictures][6:]}
        (tmp_path / name / "splits.json").write_text(json.dumps(parts))
    write_network(tmp_path / "runs" / "base", lively_network(sources=BASE))
    return tmp_path


def specs(home):
    return [f"{name}={home / name}" for name in ("one", "two")]


def tuned(home, trains="modules", init_from=None, base="base", **options) -> Trainer:
    options = {**SMALL, "lr": 0.05, **options}
    trainer = Trainer(**domain_options(specs(home), None, init_from, base, trains, options))
    trainer.fit()
    return trainer


def of_domain(state, domain):
    ends = (f"_{domain.lower()}", f"bn_{domain}")
    return {k: v for k, v in state.items() if any(part.endswith(ends) for part in k.split("."))}


def test_each_source_trains_modules_of_its_own_name(home):
    trainer = tuned(home, own_domains=True)
    assert trainer.folder.name == "own_modules_unisal"
    assert trainer.model.sources == (*BASE, "one", "two")
    assert trainer.model.image_domains == ("SALICON", "one", "two")
    before = read_state(home / "runs" / "base" / "weights_best.pth")
    after = trainer.model.state_dict()
    assert all(torch.equal(before[key], after[key]) for key in before)
    own = {name: of_domain(after, name) for name in ("one", "two")}
    assert set(after) - set(before) == set(own["one"]) | set(own["two"])
    start = list(of_domain(before, "SALICON").values())
    for values in own.values():
        pairs = zip(values, values.values(), start, strict=True)
        assert all(torch.equal(a, b) == ("rnn" in key) for key, a, b in pairs)
    pairs = zip(own["one"], own["one"].values(), own["two"].values(), strict=True)
    assert all(torch.equal(a, b) == ("rnn" in key or "tracked" in key) for key, a, b in pairs)


def test_the_run_keeps_a_preset_of_each_domain(home):
    trainer = tuned(home, own_domains=True, shared_domain="All")
    name = trainer.train_id
    assert name == "all_own_modules_unisal"
    assert set(run_presets(name)) == {"one", "two", "All"}
    saved = json.loads((trainer.folder / "presets.json").read_text())
    assert {key: preset["sources"] for key, preset in saved.items()} == {
        "All": ["one", "two"],
        "two": ["two"],
        "one": ["one"],
    }
    assert [trained_domain(name, source) for source in ("one", "two")] == ["one", "two"]
    again = tuned(home, base=name, own_domains=True, prefix="again", init_from=None)
    assert again.model.sources == trainer.model.sources
    assert again.cfg.new_domain_from is None


def test_new_domains_start_as_a_copy(home, monkeypatch):
    monkeypatch.setattr(
        passes, "train_epoch", lambda *rest: rest[-4].rows.update(one=[[1, 1]], two=[[1, 1]])
    )
    trainer = tuned(home, own_domains=True, shared_domain="All", init_from="DHF1K")
    state = trainer.model.state_dict()
    start = list(of_domain(state, "DHF1K").values())
    for name in ("one", "two", "All"):
        same = zip(start, of_domain(state, name).values(), strict=True)
        assert all(torch.equal(a, b) for a, b in same)


# ---- in turns -------------------------------------------------------------------------------


def test_batches_of_a_source_take_its_own_and_the_shared_domain_in_turns(home):
    given = {"data_sources": tuple(specs(home)), "own_domains": True}
    shared = TrainerConfig.from_dict({**given, "shared_domain": "All"})
    assert domains(shared) == ("one", "two", "All")
    order = ["one", "one", "two", "one", "two", "one"]
    for epoch in (0, 1):
        found = domain_by_step(shared, order, epoch)
        for source in ("one", "two"):
            turns = [d for s, d in zip(order, found, strict=True) if s == source]
            expected = [(source, "All")[(epoch + i) % 2] for i in range(len(turns))]
            assert turns == expected
    assert domain_by_step(TrainerConfig.from_dict(given), order, 0) == order
    seeded = TrainerConfig.from_dict({**given, "shared_domain": "All", "seed": 1})
    assert domain_by_step(seeded, order, 0) == domain_by_step(shared, order, 1)


def test_both_kinds_are_trained_and_validated(home, monkeypatch):
    step, seen = passes.train_step, []

    def spy(model, batch, *rest):
        seen.append((batch.source, batch.domain))
        return step(model, batch, *rest)

    monkeypatch.setattr(passes, "train_step", spy)
    trainer = tuned(home, own_domains=True, shared_domain="All", num_epochs=2)
    assert {("one", "one"), ("one", "All"), ("two", "two"), ("two", "All")} == set(seen)
    loaders = make_loaders(trainer.cfg, trainer.datasets["valid"], 0, trainer.device)
    weights = {"kld": 1.0, "nss": -0.1, "cc": -0.1}
    model = trainer.best_model.eval()
    for source, loader in loaders.items():
        losses = []
        for batch in loader:
            for domain in (source, "All"):
                with torch.no_grad():
                    y = model(batch.frames, batch.target_size, source=domain, static=True)
                found = passes.batch_loss(y, batch.maps, batch.fixations, weights).total
                losses += [found.item()] * len(batch.names)
        told = trainer.scalars.values[f"{source}/loss/valid"]["1"]
        assert told == pytest.approx(sum(losses) / len(losses), rel=1e-5)


def test_a_run_that_was_stopped_goes_on_to_the_same_weights(home, monkeypatch):
    options = {"trains": "all", "own_domains": True, "shared_domain": "All", "num_epochs": 2}
    whole = tuned(home, prefix="whole", **options)
    step, seen = passes.train_step, []

    def stop(*given):
        seen.append(1)
        if len(seen) == 3:
            raise KeyboardInterrupt
        return step(*given)

    monkeypatch.setattr(passes, "train_step", stop)
    with pytest.raises(KeyboardInterrupt):
        tuned(home, prefix="part", **options)
    monkeypatch.setattr(passes, "train_step", step)
    part = Trainer.resume("part_unisal")
    assert part.step == 2
    part.fit()
    states = whole.model.state_dict(), part.model.state_dict()
    assert all(torch.equal(states[0][k], states[1][k]) for k in states[0])
    assert part.scalars.values == whole.scalars.values


# ---- train ----------------------------------------------------------------------------------


def test_a_run_of_train_adds_the_domains_that_its_folders_name(home):
    places = []
    for name in ("one", "two"):
        place = home / f"{name}_gaze.json"
        save_json(place, {"folder": str(home / name), "domain": name.upper()})
        places.append(f"{name}={place}")
    options = {**SMALL, "data_sources": places, "init_from": "base", "prefix": "direct"}
    trainer = Trainer(**options, new_domain_from="SALICON")
    assert trainer.model.sources == (*BASE, "ONE", "TWO")
    before = read_state(home / "runs" / "base" / "weights_best.pth")
    start = trainer.model.state_dict()
    for name in ("ONE", "TWO"):
        pairs = of_domain(before, "SALICON").values(), of_domain(start, name).values()
        assert all(torch.equal(a, b) for a, b in zip(*pairs, strict=True))
    trainer.fit()
    assert set(run_presets("direct_unisal")) == {"ONE", "TWO"}
    assert Trainer.resume("direct_unisal").model.sources == trainer.model.sources


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"own_domains": True, "domain": "All"}, "cannot be given with it"),
        ({"shared_domain": "a.b"}, "has to be a word"),
        ({"own_domains": True, "shared_domain": "salicon"}, "one of that name"),
        ({"own_domains": True, "shared_domain": "ONE"}, "one of that name"),
        ({"own_domains": "yes"}, "own_domains is 'yes'"),
        ({"own_domains": True, "init_from": "Hollywood"}, "knows DHF1K, SALICON"),
    ],
    ids=str,
)
def test_mistakes_are_named(home, options, said):
    options = dict(options)
    arguments = [options.pop("domain", None), options.pop("init_from", None), "base", "modules"]
    with pytest.raises(UserError, match=said):
        Trainer(**domain_options(specs(home), *arguments, {**SMALL, **options}))


def test_a_domain_that_the_start_lacks_cannot_be_copied(home):
    options = {**SMALL, "data_sources": specs(home), "init_from": "base", "own_domains": True}
    with pytest.raises(
        UserError, match=r"new_domain_from is 'one', a domain that .* lacks as well"
    ):
        Trainer(**options, new_domain_from="one")


def test_the_command_needs_a_domain_of_some_kind(home, capsys):
    assert call_command("finetune", f"--data={home / 'one'}") == 2
    assert "--own_domains=True" in capsys.readouterr().err
