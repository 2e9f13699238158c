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
from unisal.train.config import CHOICES
from unisal.train.domain_config import BATCH_SIZE, DEFAULTS, FIRST_CHOICE, SHARED_DEFAULTS


def domain_options(
    data: Sequence[str],
    domain: str,
    init_from: str | None,
    base: str | None,
    trains: str,
    options: Mapping[str, Any],
    frame_by_frame: bool = False,
) -> dict[str, Any]:
    """Return the options of the run that trains a domain.

    Args:
        data: the sources that train it.
        domain: its name. If the base's network has it already, it is trained further.
        init_from: the domain that a new one starts as a copy of; None for SALICON's, or DHF1K's if
            the sources hold videos.
        base: the run to start from.
        trains: see `TrainerConfig`.
        options: other options of a run, as they were given; the others have the defaults of
            `finetune`.
        frame_by_frame: whether the domain leaves out the recurrent part, though it is for videos.

    Raises:
        UserError: an option is wrong; names it.
    """
    if trains not in CHOICES["trains"]:
        raise UserError(f"train is {trains!r}; allowed are {', '.join(CHOICES['trains'])}")
    if not re.fullmatch(r"[A-Za-z]\w*", domain, re.ASCII):
        raise UserError(f"domain is {domain!r}; it has to be a word of letters, digits and _")
    kinds = {find_dataset(source).is_video for source in data}
    if len(kinds) > 1:
        raise UserError(f"data: {', '.join(data)} are images and videos; a domain is for one kind")
    is_video = kinds.pop()
    if frame_by_frame and not is_video:
        raise UserError("frame_by_frame is for films; pictures never use the recurrent part")
    network = _without_temperatures(load_json(run_dir(base) / "UNISAL.json"), domain, trains)
    network, start = _with_domain(network, domain, init_from, is_video, frame_by_frame)
    chosen = {**SHARED_DEFAULTS, **DEFAULTS[trains], "prefix": f"{domain.lower()}_{trains}"}
    chosen |= options
    if not is_video:
        sizes = {find_dataset(source).source: BATCH_SIZE for source in data}
        chosen["batch_sizes"] = {**sizes, **(chosen.get("batch_sizes") or {})}
    return chosen | {
        "data_sources": tuple(data),
        "domain": domain,
        "new_domain_from": start,
        "trains": trains,
        "init_from": run_dir(base).name,
        "model_cfg": network,
    }


def _without_temperatures(network: Mapping[str, Any], domain: str, trains: str) -> dict[str, Any]:
    """Return the options of a network without the temperatures that training makes wrong."""
    kept = dict(network.get("temperatures") or {}) if trains == "modules" else {}
    kept.pop(domain, None)
    return {**network, "temperatures": kept} if network.get("temperatures") else dict(network)


def _with_domain(
    network: Mapping[str, Any],
    domain: str,
    init_from: str | None,
    is_video: bool,
    frame_by_frame: bool,
) -> tuple[dict[str, Any], str | None]:
    """Return the options of a network that has the domain, and which one it is made from."""
    known = tuple(network["sources"])
    if init_from is not None and init_from not in known:
        raise UserError(
            f"init_from is {init_from!r}; the network of the base knows {', '.join(known)}"
        )
    of_images = tuple(network.get("image_domains", ("SALICON",)))
    if domain in known:
        if frame_by_frame and domain not in of_images:
            raise UserError(
                f"frame_by_frame: the domain {domain} of the base was trained with the recurrent "
                "part; give the new one another name"
            )
        return dict(network), init_from
    if domain.lower() in [name.lower() for name in known]:
        raise UserError(f"domain is {domain!r}, but the network has one of that name: {known}")
    own = () if is_video and not frame_by_frame else (domain,)
    first = FIRST_CHOICE[is_video]
    start = init_from or (first if first in known else known[0])
    grown = {"sources": (*known, domain), "image_domains": (*of_images, *own)}
    return {**network, **grown}, start
