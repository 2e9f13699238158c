"""From the options of training a domain of one's own to those of a run.

See docs/behaviour.md, "A domain of one's own".
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from unisal.config import load_json, run_dir
from unisal.data import find_dataset
from unisal.errors import UserError
from unisal.train.config import CHOICES, TrainerConfig
from unisal.train.domain_config import BATCH_SIZE, DEFAULTS, FIRST_CHOICE, SHARED_DEFAULTS
from unisal.train.domains import STATIC_BY_DEFAULT, domains, grown_network, without_temperatures
from unisal.train.runs import NETWORK


def domain_options(
    data: Sequence[str],
    domain: str | None,
    init_from: str | None,
    base: str | None,
    trains: str,
    options: Mapping[str, Any],
    frame_by_frame: bool = False,
    first_choice: str | None = None,
) -> dict[str, Any]:
    """Return the options of the run that trains a domain, or several.

    Args:
        data: the sources that train it.
        domain: its name. If the base's network has it already, it is trained further. None if
            `options` have `own_domains` or `shared_domain`, see `TrainerConfig`.
        init_from: the domain that a new one starts as a copy of; None for the first choice.
        base: the run to start from.
        trains: see `TrainerConfig`.
        options: other options of a run, as they were given; the others have the defaults of
            `finetune`.
        frame_by_frame: whether the domain leaves out the recurrent part, though it is for videos.
        first_choice: the domain to copy where `init_from` names none and the base has it; None for
            SALICON, or DHF1K if the sources hold videos.

    Raises:
        UserError: an option is wrong; names it.
    """
    if trains not in CHOICES["trains"]:
        raise UserError(f"train is {trains!r}; allowed are {', '.join(CHOICES['trains'])}")
    of_sources = {k: options[k] for k in ("own_domains", "shared_domain") if k in options}
    decided = {"data_sources": tuple(data), "domain": domain}
    wanted = domains(TrainerConfig.from_dict(of_sources | decided))
    if odd := [name for name in wanted if not re.fullmatch(r"[A-Za-z]\w*", name, re.ASCII)]:
        raise UserError(f"domain is {odd[0]!r}; it has to be a word of letters, digits and _")
    kinds = {find_dataset(source).is_video for source in data}
    if len(kinds) > 1:
        raise UserError(f"data: {', '.join(data)} are images and videos; a domain is for one kind")
    is_video = kinds.pop()
    if frame_by_frame and not is_video:
        raise UserError("frame_by_frame is for films; pictures never use the recurrent part")
    network = without_temperatures(load_json(run_dir(base) / NETWORK), wanted, trains)
    network, start = _with_domains(
        network, wanted, init_from, is_video, frame_by_frame, first_choice
    )
    prefix = f"{_name_of(domain, of_sources)}_{trains}"
    chosen = {**SHARED_DEFAULTS, **DEFAULTS[trains], "prefix": prefix, **options}
    if not is_video:
        sizes = {find_dataset(source).source: BATCH_SIZE for source in data}
        chosen["batch_sizes"] = {**sizes, **(chosen.get("batch_sizes") or {})}
    return chosen | {
        **decided,
        "new_domain_from": start,
        "trains": trains,
        "init_from": run_dir(base).name,
        "model_cfg": network,
    }


def _name_of(domain: str | None, of_sources: Mapping[str, Any]) -> str:
    """Return what the run is called by default: after its domain, or what its domains are."""
    shared = domain or of_sources.get("shared_domain")
    own = ["own"] if of_sources.get("own_domains") else []
    return "_".join([*([str(shared).lower()] if shared else []), *own])


def _with_domains(
    network: Mapping[str, Any],
    wanted: Sequence[str],
    init_from: str | None,
    is_video: bool,
    frame_by_frame: bool,
    first_choice: str | None,
) -> tuple[dict[str, Any], str | None]:
    """Return the options of a network with the domains, and which one new ones are made from."""
    known = tuple(network["sources"])
    if init_from is not None and init_from not in known:
        raise UserError(
            f"init_from is {init_from!r}; the network of the base knows {', '.join(known)}"
        )
    of_images = tuple(network.get("image_domains", STATIC_BY_DEFAULT))
    recurrent = [domain for domain in wanted if domain in known and domain not in of_images]
    if frame_by_frame and recurrent:
        raise UserError(
            f"frame_by_frame: the domain {recurrent[0]} of the base was trained with the recurrent "
            "part; give the new one another name"
        )
    grown = grown_network(network, wanted, wanted if frame_by_frame or not is_video else ())
    if set(wanted) <= set(known):
        return grown, init_from
    first = first_choice or FIRST_CHOICE[is_video]
    return grown, init_from or (first if first in known else known[0])
