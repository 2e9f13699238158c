"""The options of a training run (spec 03). Imports no torch, so that `--help` is quick."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from unisal.config import accept
from unisal.errors import UserError

VIDEO_AND_IMAGES = ("DHF1K", "Hollywood", "UCFSports", "SALICON")
CHOICES = {
    "optim_algo": ("SGD", "Adam", "RMSprop"),
    "lr_scheduler": ("ExponentialLR", "cosine"),
    "loss_metrics": ("kld", "nss", "cc"),
}
COUNTS = {
    "num_epochs": 1,
    "batch_size": 1,
    "salicon_batch_size": 1,
    "hollywood_batch_size": 1,
    "ucfsports_batch_size": 1,
    "mit1003_batch_size": 1,
    "mit1003_valid_batch_size": 1,
    "train_cnn_after": 0,
    "chkpnt_epochs": 1,
    "num_workers": 0,
    "seed": 0,
}
"""Options that are whole numbers, with the smallest allowed."""
AMOUNTS = ("lr", "cnn_lr_factor", "lr_gamma", "momentum", "weight_decay", "cnn_weight_decay")
"""Options that are numbers, at least 0."""
DATASET_OPTIONS = ("data_cfg", "salicon_cfg", "hollywood_cfg", "ucfsports_cfg", "mit1003_cfg")
DEBUG_SUBSETS = {
    "DHF1K": 0.02,
    "SALICON": 0.02,
    "UCFSports": 0.1,
    "Hollywood": 0.04,
    "MIT1003": 0.1,
}


@dataclass(frozen=True)
class TrainerConfig:
    """Options of a training run, saved as `Trainer.json`. The defaults are the paper's.

    Options:
        num_epochs: epochs to train (16).
        optim_algo: SGD, Adam or RMSprop (SGD); momentum: of SGD and RMSprop (0.9).
        lr: learning rate (0.04); cnn_lr_factor: the encoder's share of it (0.1).
        lr_scheduler: ExponentialLR: times lr_gamma (0.8) per epoch; or cosine: to zero over the
            run, by the step. warmup_steps: steps of a linear rise from zero (0).
        weight_decay: of all but the encoder (1e-4); cnn_weight_decay: the encoder's (1e-5).
        grad_clip: largest norm of the gradient, None for no limit (2.0).
        loss_metrics, loss_weights: the loss is their weighted sum (kld,nss,cc; 1,-0.1,-0.1).
        data_sources: what to train on (DHF1K,Hollywood,UCFSports,SALICON).
        batch_size, salicon_batch_size, hollywood_batch_size, ucfsports_batch_size,
            mit1003_batch_size, mit1003_valid_batch_size: (4, 32, 4, 4, 32, 8).
        salicon_weight, hollywood_weight, ucfsports_weight: factors of the loss (0.5, 1, 1), used
            only with weigh_sources=True (False: as published, which stores and ignores them).
        data_cfg, salicon_cfg, hollywood_cfg, ucfsports_cfg, mit1003_cfg: options of the
            datasets; data_cfg is DHF1K's.
        shuffle_datasets: mix the order of the sources' batches (True).
        augment: random flips, crops and colours of training examples: True, or a dictionary of
            flip, min_crop, brightness, contrast, saturation (False).
        train_cnn_after: epochs before the encoder trains (2).
        cnn_eval: the encoder's BatchNorms keep their statistics (True).
        ema_decay: validate and save a running average of the weights, which keeps this share
            of itself in each step, for instance 0.999 (None: the weights themselves).
        model_cfg: options of the network UNISAL; its sources default to data_sources.
        init_from: start from the weights of this run, not from ImageNet's encoder (None).
        copy_domain: sources of the network that this run does not train get a copy of this
            source's modules in the saved weights (None).
        prefix, suffix: the run's folder is <prefix>_<suffix> (the time, unisal).
        num_workers: processes that read data, at most one per core (6).
        chkpnt_warmup: epochs before the best weights and checkpoints are kept (3).
        chkpnt_epochs: epochs between checkpoints (2).
        tboard: write TensorBoard logs (True).
        seed: of all random choices (0).
        device: auto, cpu, cuda, cuda:1, ... (auto).
        debug: four short epochs on small subsets (False).
        new_instance: make the run's folder and save its configuration (True).
    """

    num_epochs: int = 16
    optim_algo: str = "SGD"
    momentum: float = 0.9
    lr: float = 0.04
    lr_scheduler: str = "ExponentialLR"
    lr_gamma: float = 0.8
    warmup_steps: int = 0
    weight_decay: float = 1e-4
    cnn_weight_decay: float = 1e-5
    grad_clip: float | None = 2.0
    loss_metrics: tuple[str, ...] = ("kld", "nss", "cc")
    loss_weights: tuple[float, ...] = (1, -0.1, -0.1)
    data_sources: tuple[str, ...] = VIDEO_AND_IMAGES
    batch_size: int = 4
    salicon_batch_size: int = 32
    hollywood_batch_size: int = 4
    ucfsports_batch_size: int = 4
    mit1003_batch_size: int = 32
    mit1003_valid_batch_size: int = 8
    salicon_weight: float = 0.5
    hollywood_weight: float = 1.0
    ucfsports_weight: float = 1.0
    weigh_sources: bool = False
    data_cfg: Mapping[str, Any] = field(default_factory=dict)
    salicon_cfg: Mapping[str, Any] = field(default_factory=dict)
    hollywood_cfg: Mapping[str, Any] = field(default_factory=dict)
    ucfsports_cfg: Mapping[str, Any] = field(default_factory=dict)
    mit1003_cfg: Mapping[str, Any] = field(default_factory=dict)
    shuffle_datasets: bool = True
    augment: bool | Mapping[str, Any] = False
    cnn_lr_factor: float = 0.1
    train_cnn_after: int = 2
    cnn_eval: bool = True
    ema_decay: float | None = None
    model_cfg: Mapping[str, Any] = field(default_factory=dict)
    init_from: str | None = None
    copy_domain: str | None = None
    prefix: str | None = None
    suffix: str = "unisal"
    num_workers: int = 6
    chkpnt_warmup: int = 3
    chkpnt_epochs: int = 2
    tboard: bool = True
    seed: int = 0
    device: str = "auto"
    debug: bool = False
    new_instance: bool = True

    @classmethod
    def from_dict(cls, given: Mapping[str, Any]) -> TrainerConfig:
        """Options as typed by a user or read from `Trainer.json` -> a checked configuration.

        Raises:
            UserError: an unknown option or a value that is not allowed, named.
        """
        values = accept(given, [f.name for f in fields(cls)], "the trainer")
        for name in ("data_sources", "loss_metrics"):
            if isinstance(values.get(name), str):
                values[name] = tuple(values[name].split(","))
        if isinstance(values.get("loss_weights"), int | float):
            values["loss_weights"] = (values["loss_weights"],)
        for name in (*DATASET_OPTIONS, "model_cfg"):
            if values.get(name) is None:
                values.pop(name, None)
        if values.get("debug"):
            values |= {"num_epochs": 4, "num_workers": 0, "chkpnt_warmup": 1, "chkpnt_epochs": 2}
            values["suffix"] = (
                str(values.get("suffix", cls.suffix)).removesuffix("_debug") + "_debug"
            )
        config = cls(**values)
        config._check()
        return config

    def as_dict(self) -> dict[str, Any]:
        """-> all options, as `Trainer.json` holds them."""
        return asdict(self)

    def dataset_options(self, source: str) -> dict[str, Any]:
        """-> the keyword arguments of a source's dataset that this run sets."""
        options: dict[str, Any] = {"augment": self.augment} if self.augment else {}
        if self.debug:
            options["subset"] = DEBUG_SUBSETS[source]
        return options | dict(self._of_source("cfg", source, self.data_cfg))

    def batch_size_of(self, source: str, phase: str = "train") -> int:
        size = self._of_source("batch_size", source, self.batch_size)
        return int(self._of_source(f"{phase}_batch_size", source, size))

    def loss_factor(self, source: str) -> float:
        """What a source's loss is multiplied by."""
        return float(self._of_source("weight", source, 1.0)) if self.weigh_sources else 1.0

    def _of_source(self, option: str, source: str, default: Any) -> Any:
        """`<source>_<option>`, or the default for the source that has none (DHF1K)."""
        return getattr(self, f"{source.lower()}_{option}", default)

    def _check(self) -> None:
        check_switches(self)
        for name, allowed in CHOICES.items():
            value = getattr(self, name)
            for v in value if isinstance(value, tuple) else (value,):
                if v not in allowed:
                    raise UserError(f"{name} is {v!r}; allowed are {', '.join(allowed)}")
        if not self.loss_metrics:
            raise UserError(f"loss_metrics is {self.loss_metrics!r}; name one at least")
        if len(self.loss_metrics) != len(self.loss_weights):
            raise UserError(
                f"loss_metrics {self.loss_metrics} and loss_weights {self.loss_weights} "
                "have to be as many"
            )
        if not _is_amount(self.lr) or self.lr == 0:
            raise UserError(f"lr is {self.lr!r}; it has to be a number above 0")
        for name in AMOUNTS:
            if not _is_amount(value := getattr(self, name)):
                raise UserError(f"{name} is {value!r}; it has to be a number, at least 0")
        for name, smallest in COUNTS.items():
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < smallest:
                raise UserError(
                    f"{name} is {value!r}; it has to be a whole number, at least {smallest}"
                )
        if self.ema_decay is not None and not 0 < self.ema_decay < 1:
            raise UserError(f"ema_decay is {self.ema_decay!r}; it has to be between 0 and 1")
        if not self.data_sources or not isinstance(self.data_sources, tuple):
            raise UserError(f"data_sources is {self.data_sources!r}; name one source at least")
        if len(set(self.data_sources)) < len(self.data_sources):
            raise UserError(f"data_sources is {self.data_sources!r}; name each source once")


def check_switches(config: Any) -> None:
    """Check that options that are true or false are: the text "false" would count as true.

    Raises:
        UserError: one is not; names it.
    """
    for option in fields(config):
        value = getattr(config, option.name)
        if option.type == "bool" and not isinstance(value, bool):
            raise UserError(f"{option.name} is {value!r}; it has to be True or False")


def _is_amount(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < math.inf
