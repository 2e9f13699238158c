"""Which domains of the network a run trains, and what a network that lacks them becomes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from unisal.config import RUN_PRESETS, load_json, run_dir
from unisal.data import SaliencyDataset
from unisal.data.gaze import source_name
from unisal.errors import UserError
from unisal.model import SOURCES, UNISAL
from unisal.train.config import TrainerConfig
from unisal.train.runs import NETWORK
from unisal.train.sources import dataset_of

STATIC_BY_DEFAULT = ("SALICON",)
"""The domains of images of a network whose options do not say which they are."""


def domains_of(cfg: TrainerConfig, source: str) -> tuple[str, ...]:
    """Return the domains that a source of a run trains: its own and, if there is one, the shared.

    Args:
        cfg: the options of the run.
        source: its name; of a folder of gaze data also NAME=PATH.
    """
    named = source_name(source) if cfg.own_domains else cfg.domain
    own = named or dataset_of(cfg, source).domain
    return (own,) if cfg.shared_domain in (None, own) else (own, cfg.shared_domain)


def domains(cfg: TrainerConfig) -> tuple[str, ...]:
    """Return the domains that a run trains, each once; the shared one comes last."""
    each = [domains_of(cfg, source) for source in cfg.data_sources]
    return tuple(dict.fromkeys([of[0] for of in each] + [of[-1] for of in each]))


def domain_by_step(cfg: TrainerConfig, order: Sequence[str], epoch: int) -> list[str]:
    """Return the domain that each batch of an epoch trains.

    Where there is a shared domain, the batches of a source train its own and the shared one in
    turns. Which is the first follows from the seed and the epoch, so that a source with a single
    batch trains both as well.

    Args:
        cfg: the options of the run.
        order: the source of each batch.
        epoch: the epoch, from 0.
    """
    of_source = {source: domains_of(cfg, source) for source in dict.fromkeys(order)}
    seen: Counter[str] = Counter()
    chosen = []
    for source in order:
        turn = cfg.seed + epoch + seen[source]
        chosen.append(of_source[source][turn % len(of_source[source])])
        seen[source] += 1
    return chosen


def with_new_domains(cfg: TrainerConfig) -> TrainerConfig:
    """Return the options of a run whose network is that of `init_from`, with the run's domains.

    That is so if that network has the run's domains, or `new_domain_from` says how they are made,
    and `model_cfg` does not name the network's `sources`; otherwise nothing changes.

    Raises:
        UserError: see `grown_network`.
    """
    if not cfg.init_from or "sources" in cfg.model_cfg:
        return cfg
    network = {"sources": SOURCES, **load_json(run_dir(cfg.init_from) / NETWORK)}
    if not cfg.new_domain_from and not set(domains(cfg)) <= set(network["sources"]):
        return cfg
    network = without_temperatures(network, domains(cfg), cfg.trains)
    videos = {
        domain
        for source in cfg.data_sources
        if dataset_of(cfg, source).is_video
        for domain in domains_of(cfg, source)
    }
    images = [domain for domain in domains(cfg) if domain not in videos]
    network = grown_network(network, domains(cfg), images)
    return replace(cfg, model_cfg={**network, **cfg.model_cfg})


def without_temperatures(
    network: Mapping[str, Any], wanted: Sequence[str], trains: str
) -> dict[str, Any]:
    """Return the options of a network without the temperatures that training makes wrong.

    Args:
        network: its options so far.
        wanted: the domains that are trained.
        trains: see `TrainerConfig`; with "modules" the other domains stay as they are, with
            "recurrent" those of images.
    """
    same = {"modules": network["sources"], "recurrent": network.get("image_domains", ())}
    before = network.get("temperatures") or {}
    stay = set(same.get(trains, ())) - set(wanted)
    kept = {domain: value for domain, value in before.items() if domain in stay}
    return {**network, "temperatures": kept} if before else dict(network)


def grown_network(
    network: Mapping[str, Any], wanted: Sequence[str], images: Sequence[str]
) -> dict[str, Any]:
    """Return the options of a network that has some domains.

    Args:
        network: its options so far.
        wanted: the domains; those that it lacks are added.
        images: those of them that treat frames as images.

    Raises:
        UserError: two domains have the same name but for upper and lower case.
    """
    known = tuple(network["sources"])
    new = tuple(domain for domain in wanted if domain not in known)
    taken = [name.lower() for name in known]
    for domain in new:
        if domain.lower() in taken:
            raise UserError(
                f"domain is {domain!r}, but the network has one of that name: {(*known, *new)}"
            )
        taken.append(domain.lower())
    if not new:
        return dict(network)
    of_images = (*network.get("image_domains", STATIC_BY_DEFAULT), *(d for d in new if d in images))
    return {**network, "sources": (*known, *new), "image_domains": of_images}


def own_presets(
    cfg: TrainerConfig, datasets: Mapping[str, SaliencyDataset]
) -> dict[str, dict[str, Any]]:
    """Return the presets that a run keeps: one for each of its domains, and those of its start.

    Args:
        cfg: the options of the run.
        datasets: the run's data sets of one phase, by source.

    Returns:
        The fields of `unisal.predict.presets.Preset`, and the `sources` that train the domain, by
        the name of the preset. A source's own domain stands behind the shared one, so it is scored
        with its own.
    """
    earlier = run_dir(cfg.init_from) / RUN_PRESETS if cfg.init_from else None
    presets = load_json(earlier) if earlier is not None and earlier.is_file() else {}
    for domain in reversed(domains(cfg)):
        trained_by = [d for name, d in datasets.items() if domain in domains_of(cfg, name)]
        # A domain that is trained further moves to the newest ones, and stays a default.
        kept = {k: v for k, v in presets.pop(domain, {}).items() if k == "default"}
        presets[domain] = _preset(domain, trained_by) | kept
    return presets


def _preset(domain: str, trained_by: Sequence[SaliencyDataset]) -> dict[str, Any]:
    first = trained_by[0]
    return {
        "domain": domain,
        "is_video": first.is_video,
        "frame_step": first.frame_step,
        "frame_rate": first.frame_rate,
        "input_size": first.input_size if first.is_video else None,
        "native_frame_size": first.native_frame_size,
        "fine_tuned": False,
        "sources": [dataset.source for dataset in trained_by],
    }


def check_domains(cfg: TrainerConfig, model: UNISAL) -> None:
    """Check that the network has the domains that a run's options name.

    Raises:
        UserError: it lacks one; names the option.
    """
    for option, used in (
        ("domain" if cfg.domain else "data_sources", domains(cfg)),
        ("copy_domain", (cfg.copy_domain,) if cfg.copy_domain else ()),
        ("new_domain_from", (cfg.new_domain_from,) if cfg.new_domain_from else ()),
    ):
        if strange := [domain for domain in used if domain not in model.sources]:
            raise UserError(
                f"{option}: {', '.join(strange)} is not among the network's sources {model.sources}"
            )
