"""The optimiser, its two groups of parameters, and the learning rate."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from unisal.errors import UserError
from unisal.train.config import TrainerConfig

OWN = ("name", "base_lr", "fused")
"""What the groups of an optimiser keep where the state of a checkpoint is loaded."""


def make_optimizer(
    model: nn.Module, encoder: nn.Module, cfg: TrainerConfig, fused: bool = False
) -> Optimizer:
    """Make the optimiser over two groups: the encoder's parameters (`name` "cnn") and the rest.

    Args:
        model: the network, on its device.
        encoder: its encoder.
        cfg: the options of the run.
        fused: whether one kernel updates all parameters of a group. RMSprop has none.
    """
    of_encoder = {id(p) for p in encoder.parameters()}
    groups = [
        {
            "name": "cnn",
            "params": list(encoder.parameters()),
            "base_lr": cfg.lr * cfg.cnn_lr_factor,
            "lr": cfg.lr * cfg.cnn_lr_factor,
            "weight_decay": cfg.cnn_weight_decay,
        },
        {
            "name": "rest",
            "params": [p for p in model.parameters() if id(p) not in of_encoder],
            "base_lr": cfg.lr,
            "lr": cfg.lr,
            "weight_decay": cfg.weight_decay,
        },
    ]
    if cfg.optim_algo == "SGD":
        optimizer = torch.optim.SGD(groups, lr=cfg.lr, momentum=cfg.momentum, fused=fused or None)
        _begin_momentum(optimizer)
        return optimizer
    if cfg.optim_algo == "RMSprop":
        return torch.optim.RMSprop(groups, lr=cfg.lr, momentum=cfg.momentum)
    return torch.optim.Adam(groups, lr=cfg.lr, fused=fused or None)


def _begin_momentum(optimizer: Optimizer) -> None:
    """Give each parameter of a fused SGD the momentum 0, from which its first step is the usual.

    Without, the kernel demands that all of them begin in the same step. Here a domain begins when
    it has its first batch.
    """
    for group in optimizer.param_groups:
        if group.get("fused") and group.get("momentum"):
            for parameter in group["params"]:
                state = optimizer.state[parameter]
                if state.get("momentum_buffer") is None:
                    state["momentum_buffer"] = torch.zeros_like(parameter)


def lr_factor(
    cfg: TrainerConfig, epoch: int, step: int, steps_per_epoch: int, skipped: int = 0
) -> float:
    """Return the factor of the learning rate in a step of an epoch.

    Args:
        cfg: the options of the run.
        epoch: the epoch, from 0.
        step: the step of the epoch, from 0.
        steps_per_epoch: the number of steps of an epoch.
        skipped: how many of the run's steps so far have made no update (in fp16). What changes by
            the step, the rise and the cosine, does not count them; epochs stay epochs.
    """
    done = epoch * steps_per_epoch + step - skipped
    rise = min(1.0, (done + 1) / cfg.warmup_steps) if cfg.warmup_steps else 1.0
    if cfg.lr_scheduler == "ExponentialLR":
        return rise * cfg.lr_gamma**epoch
    return rise * 0.5 * (1 + math.cos(math.pi * done / (cfg.num_epochs * steps_per_epoch)))


def set_lr(optimizer: Optimizer, factor: float) -> None:
    """Set each group's learning rate to its own base times `factor`."""
    for group in optimizer.param_groups:
        group["lr"] = group["base_lr"] * factor


def load_optimizer(optimizer: Optimizer, state: dict[str, Any]) -> None:
    """Load the state of an optimiser.

    The groups keep their names and base learning rates, which checkpoints of the published code
    lack.

    Raises:
        UserError: the state belongs to other parameters.
    """
    own = [{k: group[k] for k in OWN if k in group} for group in optimizer.param_groups]
    try:
        optimizer.load_state_dict(state)
    except ValueError as error:
        raise UserError(f"the checkpoint's optimiser does not fit this run: {error}") from None
    for group, kept in zip(optimizer.param_groups, own, strict=True):
        group.update(kept)
    _begin_momentum(optimizer)
