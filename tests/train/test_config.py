"""The options of a run: defaults, files, and what is refused."""

from __future__ import annotations

import json
from dataclasses import FrozenInstanceError, fields

import pytest

from unisal.config import load_json, save_json
from unisal.errors import UserError
from unisal.train.config import PER_SOURCE, PUBLISHED_KEYS, TrainerConfig
from unisal.train.sources import batch_size, dataset_options, loss_factor, saved_options

OFFICIAL = """{
  "num_epochs": 16, "optim_algo": "SGD", "momentum": 0.9, "lr": 0.04,
  "lr_scheduler": "ExponentialLR", "lr_gamma": 0.8, "weight_decay": 0.0001,
  "cnn_weight_decay": 1e-05, "grad_clip": 2.0, "loss_metrics": ["kld", "nss", "cc"],
  "loss_weights": [1, -0.1, -0.1],
  "data_sources": ["DHF1K", "Hollywood", "UCFSports", "SALICON"],
  "batch_size": 4, "salicon_batch_size": 32, "hollywood_batch_size": 4,
  "ucfsports_batch_size": 4, "salicon_weight": 0.5, "hollywood_weight": 1.0,
  "ucfsports_weight": 1.0, "data_cfg": {}, "salicon_cfg": {}, "hollywood_cfg": {},
  "ucfsports_cfg": {}, "shuffle_datasets": true, "cnn_lr_factor": 0.1, "train_cnn_after": 2,
  "cnn_eval": true, "model_cfg": {}, "prefix": "2020-03-01_120000", "suffix": "unisal",
  "num_workers": 6, "chkpnt_warmup": 3, "chkpnt_epochs": 2, "tboard": true, "debug": false,
  "new_instance": true
}"""
"""A `Trainer.json` with the options of the published trainer, at their defaults."""


def as_json(cfg):
    return json.loads(json.dumps(saved_options(cfg)))


def test_the_defaults_are_the_papers(tmp_path):
    (tmp_path / "Trainer.json").write_text(OFFICIAL)
    official = load_json(tmp_path / "Trainer.json")
    defaults = as_json(TrainerConfig())
    assert {k: defaults[k] for k in official if k != "prefix"} == {
        k: v for k, v in official.items() if k != "prefix"
    }


def test_what_the_paper_does_not_have_is_off_by_default():
    cfg = TrainerConfig()
    extra = set(saved_options(cfg)) - set(json.loads(OFFICIAL))
    off = {"warmup_steps": 0, "weigh_sources": False, "augment": False, "ema_decay": None}
    rest = {"copy_domain": None, "init_from": None, "seed": 0, "device": "auto"}
    rest |= {"domain": None, "new_domain_from": None, "trains": "all", "patience": None}
    rest |= {"own_domains": False, "shared_domain": None, "bn_eval": False}
    rest |= {"mix": 0.0, "scales": ()}
    rest |= {"teacher": (), "teacher_share": 0.5}
    rest |= {"amp": "off", "accumulate": 1, "sync_batchnorm": False, "process_timeout": 600}
    mit = {"mit1003_batch_size": 32, "mit1003_valid_batch_size": 8, "mit1003_cfg": {}}
    assert {name: saved_options(cfg)[name] for name in extra} == off | rest | mit
    assert [getattr(cfg, option) for option in PER_SOURCE] == [{}] * 4


def test_an_official_file_loads():
    cfg = TrainerConfig.from_dict(json.loads(OFFICIAL))
    assert cfg.data_sources == ("DHF1K", "Hollywood", "UCFSports", "SALICON")
    assert cfg.loss_metrics == ("kld", "nss", "cc")
    assert cfg.loss_weights == (1, -0.1, -0.1)
    assert saved_options(cfg) == saved_options(TrainerConfig(prefix="2020-03-01_120000"))


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"data_sources": ("SALICON",), "prefix": "a", "grad_clip": None},
        {"salicon_cfg": {"out_size": (64, 96)}, "augment": {"flip": 0.1}, "seed": 7},
        {"debug": True, "suffix": "mine"},
        {"optim_algo": "Adam", "lr_scheduler": "cosine", "ema_decay": 0.99},
        {
            "batch_sizes": {"DHF1K": 3, "Other": 5},
            "valid_batch_sizes": {"MIT1003": 2, "SALICON": 4},
        },
        {"dataset_options": {"Other": {"a": 1}}, "loss_factors": {"SALICON": 2, "Other": 0}},
    ],
    ids=str,
)
def test_a_saved_configuration_is_the_same_again(tmp_path, given):
    cfg = TrainerConfig.from_dict(given)
    save_json(tmp_path / "Trainer.json", saved_options(cfg))
    again = TrainerConfig.from_dict(load_json(tmp_path / "Trainer.json"))
    assert as_json(again) == as_json(cfg)
    published = {f.name for f in fields(TrainerConfig)} - set(PER_SOURCE) | set(PUBLISHED_KEYS)
    assert set(as_json(cfg)) - set(PER_SOURCE) == published
    # Programs that know the published keys alone can read it, unless it is about other sources.
    of_others = {option: getattr(cfg, option) for option in PER_SOURCE}
    known = {k: {s for o, s in PUBLISHED_KEYS.values() if o == k} for k in PER_SOURCE}
    of_others = {k: {s: v[s] for s in v if s not in known[k]} for k, v in of_others.items()}
    assert {k: as_json(cfg)[k] for k in PER_SOURCE if k in as_json(cfg)} == {
        k: v for k, v in of_others.items() if v
    }


@pytest.mark.parametrize(
    "name",
    ["data_cfg", "salicon_cfg", "hollywood_cfg", "ucfsports_cfg", "mit1003_cfg", "model_cfg"],
)
def test_no_options_may_be_written_as_null(name):
    assert TrainerConfig.from_dict({name: None}) == TrainerConfig()


def test_one_name_may_be_typed_alone():
    cfg = TrainerConfig.from_dict(
        {"data_sources": "SALICON", "loss_metrics": "kld", "loss_weights": (1,)}
    )
    assert (cfg.data_sources, cfg.loss_metrics) == (("SALICON",), ("kld",))
    cfg = TrainerConfig.from_dict({"data_sources": "DHF1K,SALICON"})
    assert cfg.data_sources == ("DHF1K", "SALICON")


def test_one_weight_may_be_typed_alone():
    cfg = TrainerConfig.from_dict({"loss_metrics": "kld", "loss_weights": 2})
    assert cfg.loss_weights == (2,)


def test_what_is_given_is_left_alone_and_cannot_be_changed_afterwards():
    given = {"data_sources": ["SALICON"], "debug": True, "model_cfg": None}
    cfg = TrainerConfig.from_dict(given)
    assert given == {"data_sources": ["SALICON"], "debug": True, "model_cfg": None}
    with pytest.raises(FrozenInstanceError):
        cfg.lr = 1


# ---- debug --------------------------------------------------------------------------------


def test_debug_is_four_short_epochs():
    cfg = TrainerConfig.from_dict({"debug": True, "num_epochs": 16, "num_workers": 6})
    assert (cfg.num_epochs, cfg.num_workers) == (4, 0)
    assert (cfg.chkpnt_warmup, cfg.chkpnt_epochs) == (1, 2)
    assert cfg.suffix == "unisal_debug"
    subsets = {s: dataset_options(cfg, s)["subset"] for s in cfg.data_sources}
    assert subsets == {"DHF1K": 0.02, "SALICON": 0.02, "UCFSports": 0.1, "Hollywood": 0.04}


def test_debug_twice_is_debug_once():
    once = TrainerConfig.from_dict({"debug": True, "suffix": "mine"})
    assert once.suffix == "mine_debug"
    assert TrainerConfig.from_dict(once.as_dict()) == once
    assert as_json(TrainerConfig.from_dict(saved_options(once))) == as_json(once)


def test_a_subset_of_ones_own_wins_over_debug():
    cfg = TrainerConfig.from_dict({"debug": True, "salicon_cfg": {"subset": 0.5}})
    assert dataset_options(cfg, "SALICON")["subset"] == 0.5
    assert "subset" not in dataset_options(TrainerConfig(), "SALICON")


# ---- per source ---------------------------------------------------------------------------


def test_each_source_has_options_of_its_own():
    cfg = TrainerConfig.from_dict(
        {
            "data_cfg": {"a": 1},
            "salicon_cfg": {"b": 2},
            "hollywood_cfg": {"c": 3},
            "ucfsports_cfg": {"d": 4},
            "batch_size": 5,
            "salicon_batch_size": 6,
            "hollywood_batch_size": 7,
            "ucfsports_batch_size": 8,
        }
    )
    options = {s: dataset_options(cfg, s) for s in cfg.data_sources}
    assert options == {
        "DHF1K": {"a": 1},
        "SALICON": {"b": 2},
        "Hollywood": {"c": 3},
        "UCFSports": {"d": 4},
    }
    sizes = {s: batch_size(cfg, s) for s in cfg.data_sources}
    assert sizes == {"DHF1K": 5, "SALICON": 6, "Hollywood": 7, "UCFSports": 8}
    assert {s: batch_size(cfg, s, "valid") for s in cfg.data_sources} == sizes


def test_mit1003_is_validated_in_batches_of_another_size():
    cfg = TrainerConfig.from_dict({"mit1003_batch_size": 9, "mit1003_cfg": {"x_val_step": 3}})
    assert dataset_options(cfg, "MIT1003") == {"x_val_step": 3}
    assert (batch_size(cfg, "MIT1003"), batch_size(cfg, "MIT1003", "valid")) == (9, 8)
    assert loss_factor(cfg, "MIT1003") == 1


def test_a_mapping_by_source_says_the_same_as_the_published_keys():
    published = TrainerConfig.from_dict(
        {
            "batch_size": 5,
            "salicon_batch_size": 6,
            "mit1003_valid_batch_size": 7,
            "data_cfg": {"seq_len": 3},
            "hollywood_cfg": {"subset": 0.5},
            "salicon_weight": 0.25,
        }
    )
    by_source = TrainerConfig.from_dict(
        {
            "batch_sizes": {"DHF1K": 5, "SALICON": 6},
            "valid_batch_sizes": {"MIT1003": 7},
            "dataset_options": {"DHF1K": {"seq_len": 3}, "Hollywood": {"subset": 0.5}},
            "loss_factors": {"SALICON": 0.25},
        }
    )
    assert published == by_source
    assert as_json(published) == as_json(by_source)
    one_of_each = {"batch_sizes": {"SALICON": 6}, "salicon_batch_size": 7}
    with pytest.raises(UserError, match="salicon_batch_size and batch_sizes give SALICON two"):
        TrainerConfig.from_dict(one_of_each)


def test_a_source_is_weighed_only_when_asked_for():
    weights = {"salicon_weight": 0.25, "hollywood_weight": 2, "ucfsports_weight": 3}
    published = TrainerConfig.from_dict(weights)
    asked = TrainerConfig.from_dict(weights | {"weigh_sources": True})
    sources = published.data_sources
    assert {s: loss_factor(published, s) for s in sources} == dict.fromkeys(sources, 1.0)
    expected = {"DHF1K": 1.0, "SALICON": 0.25, "Hollywood": 2.0, "UCFSports": 3.0}
    assert {s: loss_factor(asked, s) for s in sources} == expected


def test_augment_reaches_every_source():
    cfg = TrainerConfig.from_dict({"augment": {"flip": 1}, "salicon_cfg": {"augment": False}})
    assert dataset_options(cfg, "Hollywood") == {"augment": {"flip": 1}}
    assert dataset_options(cfg, "SALICON") == {"augment": False}


# ---- mistakes -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"num_epoch": 3}, "the trainer has no option 'num_epoch'; did you mean 'num_epochs'"),
        ({"xyzzy": 3}, "the trainer has no option 'xyzzy'; known are num_epochs, optim_algo"),
        ({"optim_algo": "adam"}, "optim_algo is 'adam'; allowed are SGD, Adam, RMSprop"),
        ({"lr_scheduler": None}, "lr_scheduler is None; allowed are ExponentialLR, cosine"),
        ({"loss_metrics": ("kld", "sim")}, "loss_metrics is 'sim'; allowed are kld, nss, cc"),
        ({"loss_metrics": ("kld",)}, "loss_metrics .*and loss_weights .*of the same length"),
        ({"loss_metrics": (), "loss_weights": ()}, r"loss_metrics is \(\)"),
        ({"num_epochs": 0}, "num_epochs is 0; it has to be a whole number of at least 1"),
        ({"num_epochs": 1.5}, r"num_epochs is 1\.5"),
        ({"seed": -1}, "seed is -1; it has to be a whole number of at least 0"),
        ({"num_workers": "all"}, "num_workers is 'all'"),
        ({"num_workers": -1}, "num_workers is -1"),
        ({"lr": "fast"}, "lr is 'fast'; it has to be a number above 0"),
        ({"lr": -1}, "lr is -1"),
        ({"lr": True}, "lr is True"),
        ({"lr": float("nan")}, "lr is nan"),
        ({"lr": float("inf")}, "lr is inf"),
        ({"lr_gamma": "slow"}, "lr_gamma is 'slow'; it has to be a number of at least 0"),
        ({"weight_decay": -1}, "weight_decay is -1"),
        ({"momentum": None}, "momentum is None"),
        ({"cnn_lr_factor": True}, "cnn_lr_factor is True"),
        ({"train_cnn_after": -1}, "train_cnn_after is -1"),
        ({"mit1003_valid_batch_size": 0}, "mit1003_valid_batch_size is 0"),
        ({"tboard": "false"}, "tboard is 'false'; it has to be True or False"),
        ({"batch_size": 0}, "batch_size is 0"),
        ({"salicon_batch_size": -2}, "salicon_batch_size is -2"),
        ({"hollywood_batch_size": 0}, "hollywood_batch_size is 0"),
        ({"ucfsports_batch_size": None}, "ucfsports_batch_size is None"),
        ({"batch_sizes": 4}, "batch_sizes is 4; it has to be a dictionary by source"),
        ({"batch_sizes": {"DHF1K": 0}}, "batch_sizes of DHF1K is 0"),
        ({"valid_batch_sizes": {"DHF1K": None}}, "valid_batch_sizes of DHF1K is None"),
        ({"dataset_options": {"DHF1K": 3}}, "dataset_options of DHF1K is 3; it has to be a dict"),
        ({"salicon_cfg": 3}, "salicon_cfg is 3; it has to be a dictionary"),
        (
            {"loss_factors": {"DHF1K": "much"}},
            "loss_factors of DHF1K is 'much'; it has to be a",
        ),
        ({"salicon_weight": -1}, "salicon_weight is -1"),
        ({"chkpnt_epochs": 0}, "chkpnt_epochs is 0"),
        ({"ema_decay": 1}, "ema_decay is 1; it has to be a number above 0 and below 1"),
        ({"ema_decay": 0}, "ema_decay is 0"),
        ({"data_sources": ()}, r"data_sources is \(\)"),
        ({"data_sources": 3}, "data_sources is 3"),
    ],
    ids=str,
)
def test_a_mistake_is_named_with_what_is_allowed(given, message):
    with pytest.raises(UserError, match=message):
        TrainerConfig.from_dict(given)


def test_a_source_that_stands_there_twice_is_refused():
    with pytest.raises(UserError, match="name each source once"):
        TrainerConfig.from_dict({"data_sources": ("SALICON", "SALICON")})
