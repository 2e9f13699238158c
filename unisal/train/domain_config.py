"""The defaults of training a domain of one's own (docs/behaviour.md, "A domain of one's own").

Imports no PyTorch.
"""

from __future__ import annotations

from typing import Any

SHARED_DEFAULTS = {
    "lr_scheduler": "cosine",
    "train_cnn_after": 0,
    "chkpnt_warmup": 0,
    "chkpnt_epochs": 100,
    "num_workers": 1,
    "patience": 5,
}
"""Defaults of `finetune` that differ from those of `train`, whatever is trained."""
WHOLE_LAYERS: dict[str, Any] = {
    "num_epochs": 12,
    "lr": 0.02,
    "warmup_steps": 20,
    "augment": True,
    "ema_decay": 0.98,
}
"""Close to what the shipped weights were trained with (see their model card)."""
DEFAULTS: dict[str, dict[str, Any]] = {
    "modules": {"num_epochs": 8, "optim_algo": "Adam", "lr": 0.003, "weight_decay": 0.0},
    "recurrent": {"num_epochs": 8, "optim_algo": "Adam", "lr": 0.001, "weight_decay": 0.0},
    "decoder": WHOLE_LAYERS,
    "all": WHOLE_LAYERS,
}
"""Those that depend on what is trained."""
BATCH_SIZE = 8
FIRST_CHOICE = {False: "SALICON", True: "DHF1K"}
"""The domain that a new one for images (False) or videos (True) starts from."""
DECIDED = ("data_sources", "domain", "new_domain_from", "trains", "init_from", "model_cfg")
"""Options of a run that follow from those of `finetune`."""


def default_options() -> dict[str, None]:
    """Return the options of a run whose defaults are not those of `train`, all None."""
    names = [*SHARED_DEFAULTS, *(name for options in DEFAULTS.values() for name in options)]
    return dict.fromkeys([*names, "prefix"])
