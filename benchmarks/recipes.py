"""What helps on photographs? Many short trainings, each with one thing changed.

Run `python -m benchmarks.recipes --data=osie=FOLDER,eyecrowd=FOLDER,scenes=FOLDER`, folders of gaze
data. Every recipe trains all of the network from the shipped weights, on the same share of the
photographs and for the same number of steps, and is scored on the validation parts, at the size of
the network's input. The outcomes stay in `--out`, and what is there already is not made again.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from unisal.config import as_options, load_json, run_dir
from unisal.data import SaliencyDataset, find_dataset, name_data
from unisal.evaluate.metrics import cc, kld, nss
from unisal.model import UNISAL
from unisal.train import Trainer
from unisal.train.own_domain import domain_options
from unisal.types import Size

SHARED = "Photographs"
PLAIN = "plain"
STRONG = {"min_crop": 0.4, "brightness": 0.4, "contrast": 0.4, "saturation": 0.5}
SPOILT = {"blur": 0.3, "jpeg": 0.3, "grey": 0.1}
RECIPES: dict[str, dict[str, Any]] = {
    PLAIN: {},
    "fixed BatchNorms": {"bn_eval": True},
    "fixed BatchNorms, encoder's rate x3": {"bn_eval": True, "cnn_lr_factor": 0.3},
    "own modules": {"own_domains": True},
    "own and shared modules": {"own_domains": True, "shared_domain": SHARED},
    "no augmentation": {"augment": False},
    "stronger crops and colours": {"augment": STRONG},
    "blur, JPEG, grey": {"augment": SPOILT},
    "blended pictures": {"mix": 0.3},
    "sizes 0.75, 1, 1.25": {"scales": (0.75, 1.0, 1.25)},
    "weight decay x10": {"weight_decay": 1e-3},
    "no dropout": {"drop_probs": (0.0, 0.0, 0.0)},
    "encoder's rate x3": {"cnn_lr_factor": 0.3},
    "encoder fixed": {"trains": "decoder"},
    "no average of weights": {"ema_decay": None},
    "CC x5 in the loss": {"loss_weights": (1, -0.1, -0.5)},
    "KLD alone": {"loss_weights": (1, 0, 0)},
    "a random share of the people": {"gaze_options": {"observer_share": 0.5}},
    "without first fixations": {"gaze_options": {"skip_first": True}},
    "smoothed by people": {"gaze_options": {"people_smoothing": 0.5}},
    "learning rate x2": {"lr": 0.04},
    "twice as long": {"num_epochs": 2.0},
    "a teacher": {"teacher_share": 0.5},
}
"""Options of the trainer that differ from `plain`. `gaze_options` are those of every data set,
`drop_probs` one of the network, and `num_epochs` is a factor."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Train, score, and print tables.

    Args:
        arguments: by default those of the command line.
    """
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", required=True, help="folders of gaze data, NAME=FOLDER,...")
    parser.add_argument("--out", default="recipes", help="where the runs and outcomes go")
    parser.add_argument(
        "--recipes", default=";".join(RECIPES), help="which, separated by semicolons"
    )
    parser.add_argument("--seeds", default="0", help="separated by commas")
    parser.add_argument("--base", default="pretrained_unisal", help="the run to start from")
    parser.add_argument("--teacher", default=None, help="the runs that teach 'a teacher'")
    parser.add_argument("--subset", type=float, default=0.33, help="share of the photographs")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--size", default="192x256", help="HEIGHTxWIDTH of the network's input")
    options = parser.parse_args(arguments)
    data = [name_data(part) for part in options.data.split(",")]
    base, teacher = run_dir(options.base), options.teacher
    out = Path(options.out).resolve()
    os.environ["TRAIN_DIR"] = str(out)
    for place in (base, *(Path(name) for name in (teacher or "").split(",") if name)):
        link(place, out)
    budget = {
        "subset": options.subset,
        "input_size": tuple(int(side) for side in options.size.split("x")),
    }
    for recipe in options.recipes.split(";"):
        if "teacher_share" in RECIPES[recipe] and not teacher:
            continue
        for seed in options.seeds.split(","):
            file = out / f"{slug(recipe)}_{seed}.json"
            if not file.is_file():
                chosen = dict(RECIPES[recipe])
                if "teacher_share" in chosen:
                    chosen["teacher"] = tuple(Path(name).name for name in teacher.split(","))
                found = train(recipe, chosen, data, base.name, budget, options.epochs, int(seed))
                file.write_text(json.dumps({"recipe": recipe, "seed": int(seed), **found}))
    print_table([json.loads(file.read_text()) for file in sorted(out.glob("*_[0-9].json"))])


def link(place: Path, out: Path) -> None:
    """Make a run that lies elsewhere one of the runs in a folder."""
    out.mkdir(parents=True, exist_ok=True)
    if not (out / place.name).exists():
        (out / place.name).symlink_to(place.resolve(), target_is_directory=True)


def slug(recipe: str) -> str:
    """Return the name of a recipe's files."""
    return "".join(c if c.isalnum() else "_" for c in recipe)


def train(
    recipe: str,
    chosen: Mapping[str, Any],
    data: Sequence[str],
    base: str,
    budget: Mapping[str, Any],
    n_epochs: int,
    seed: int,
) -> dict[str, Any]:
    """Train with a recipe; return the minutes it took, and the scores of each set."""
    options: dict[str, Any] = {
        "num_epochs": int(n_epochs * chosen.get("num_epochs", 1)),
        "seed": seed,
        "num_workers": 0,
        "tboard": False,
        "patience": None,
        "chkpnt_epochs": 1000,
        "prefix": f"{slug(recipe)}_{seed}",
    }
    names = [spec.partition("=")[0] for spec in data]
    reading = {**budget, **chosen.get("gaze_options", {})}
    options["dataset_options"] = dict.fromkeys(names, reading)
    special = ("num_epochs", "gaze_options", "drop_probs", "trains", "own_domains", "shared_domain")
    options |= {k: v for k, v in chosen.items() if k not in special}
    made = domain_options(data, SHARED, None, base, chosen.get("trains", "all"), options)
    if "own_domains" in chosen:
        made |= with_domains(base, names, chosen)
    if "drop_probs" in chosen:
        made["model_cfg"] = {**made["model_cfg"], "drop_probs": chosen["drop_probs"]}
    began = time.process_time()
    trainer = Trainer(**made)
    trainer.fit()
    minutes = (time.process_time() - began) / 60
    valid = {n: to_score(spec, budget["input_size"]) for n, spec in zip(names, data, strict=True)}
    own = bool(chosen.get("own_domains")) and "shared_domain" not in chosen
    scores = {n: score(trainer.best_model, valid[n], n if own else SHARED) for n in names}
    return {"minutes": minutes, "scores": scores}


def to_score(spec: str, size: Size) -> SaliencyDataset:
    """Return the whole validation part of a set, at the size of the network's input."""
    return find_dataset(spec).from_options({"input_size": size}, phase="valid")


def with_domains(base: str, names: Sequence[str], chosen: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options of a run whose sources train domains of their own."""
    network = load_json(run_dir(base) / "UNISAL.json")
    new = [*names, *([chosen["shared_domain"]] if "shared_domain" in chosen else [])]
    known = tuple(network.get("image_domains", ("SALICON",)))
    grown = {"sources": (*network["sources"], *new), "image_domains": (*known, *new)}
    cnn = {**as_options(network.get("cnn_cfg"), "cnn_cfg"), "pretrained": False}
    return {
        "domain": None,
        "new_domain_from": "SALICON",
        "model_cfg": {**network, **grown, "cnn_cfg": cnn},
        "own_domains": True,
        "shared_domain": chosen.get("shared_domain"),
    }


@torch.no_grad()
def score(model: UNISAL, dataset: SaliencyDataset, domain: str) -> dict[str, float]:
    """Return mean scores of a validation part, at the size of the network's input."""
    model.eval()
    rows = []
    for index in range(len(dataset)):
        item = dataset[index]
        assert item.maps is not None and item.fixations is not None
        size = item.maps.shape[-2:]
        found = model(item.frames[None, None], target_size=size, source=domain, static=True)
        log, target, fixated = found[0, 0, 0].numpy(), item.maps[0].numpy(), item.fixations[0]
        density = np.exp(log)
        rows.append((kld(log, target), nss(density, fixated.numpy()), cc(density, target)))
    return dict(zip(("kld", "nss", "cc"), np.mean(rows, axis=0).tolist(), strict=True))


def print_table(found: Sequence[Mapping[str, Any]]) -> None:
    """Print the mean scores of each recipe over its seeds, and the differences from `plain`."""
    names = list(found[0]["scores"])
    print("| | " + " | ".join(f"{n}: KLD, NSS, CC" for n in names) + " | CC - plain | minutes |")
    print("|---" * (len(names) + 3) + "|")
    of_recipe: dict[str, list[Mapping[str, Any]]] = {recipe: [] for recipe in RECIPES}
    for one in found:
        of_recipe[one["recipe"]].append(one)
    plain = [mean_cc(one) for one in of_recipe[PLAIN]]
    for recipe, those in of_recipe.items():
        if not those:
            continue
        cells = []
        for name in names:
            k, n, c = (
                np.mean([one["scores"][name][m] for one in those]) for m in ("kld", "nss", "cc")
            )
            cells.append(f"{k:.3f}, {n:.2f}, {c:.3f}")
        gain = np.mean([mean_cc(one) for one in those]) - np.mean(plain) if plain else np.nan
        minutes = np.mean([one["minutes"] for one in those])
        title = f"{recipe} ({len(those)} seeds)" if len(those) > 1 else recipe
        print(f"| {title} | {' | '.join(cells)} | {gain:+.4f} | {minutes:.1f} |")
    if len(plain) > 1:
        print(f"\nThe seeds of `{PLAIN}` differ by up to {np.ptp(plain):.4f} in mean CC.")


def mean_cc(one: Mapping[str, Any]) -> float:
    """Return the mean over the sets of an outcome's CC."""
    return float(np.mean([scores["cc"] for scores in one["scores"].values()]))


if __name__ == "__main__":
    main()
