"""The options of fine-tuning (docs/behaviour.md, "Fine-tuning on MIT1003"). Imports no PyTorch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from unisal.config import PRETRAINED, accept
from unisal.errors import UserError
from unisal.train.config import TrainerConfig, check_switches

SOURCE, DOMAIN = "MIT1003", "SALICON"
"""What is trained on, and whose modules of the network."""
SHARED = (
    "lr",
    "num_epochs",
    "lr_gamma",
    "train_cnn_after",
    "mit1003_batch_size",
    "mit1003_valid_batch_size",
    "momentum",
    "weight_decay",
    "cnn_weight_decay",
    "cnn_lr_factor",
    "cnn_eval",
    "augment",
    "num_workers",
    "tboard",
    "seed",
    "device",
    "amp",
    "accumulate",
    "sync_batchnorm",
    "process_timeout",
)
"""Options that mean the same in `TrainerConfig`."""
OWN_DATASET_OPTIONS = ("x_val_step", "augment", "phase", "seed")
"""Options of the data set that `mit1003_cfg` may not hold, since they have options of their own."""


@dataclass(frozen=True)
class FineTuneConfig:
    """Options of a fine-tuning, saved as `FineTuner.json`.

    Options:
        pretrained_train_id: the run to start from (pretrained_unisal).
        lr: learning rate (0.01); lr_gamma: it is multiplied by this after each epoch (0.8).
        num_epochs: epochs to train (8).
        x_val_step: the fold of MIT1003 that is validated on, 0 to 9, the others being trained on;
            None: train and validate on all images (0).
        train_cnn_after: epochs before the encoder trains (0).
        mit1003_batch_size, mit1003_valid_batch_size: images in a batch, all of one input
            size (32, 8).
        momentum: for SGD (0.9); weight_decay: for all but the encoder (1e-4).
        cnn_lr_factor: the encoder's share of the learning rate (0.1); cnn_weight_decay: its own
            weight decay (1e-5).
        cnn_eval: the encoder's BatchNorms keep their statistics (True).
        augment: random flips, crops and colours of training examples: True, or a dictionary of
            flip, min_crop, brightness, contrast, saturation, and of grey, hue, blur and jpeg,
            which True leaves off (False).
        mit1003_cfg: other options of the data set: subset, n_x_val, x_val_seed.
        overwrite: replace fine-tuned weights that would be lost (False).
        num_workers: processes that read data, at most one per core (6).
        tboard: write TensorBoard logs (True).
        seed: seed of all random choices (0).
        device: auto, cpu, cuda, cuda:1, ... (auto).
        amp: what convolutions compute in: off (float32), bf16, fp16 or auto (off).
        accumulate: batches whose gradients make one update (1).
        sync_batchnorm: of several processes (torchrun), BatchNorms in training use the statistics
            of the examples of all, as one process would (False: each those of its own).
        process_timeout: seconds that processes wait for each other before they give up (600).
    """

    pretrained_train_id: str | None = None
    lr: float = 0.01
    num_epochs: int = 8
    lr_gamma: float = 0.8
    x_val_step: int | None = 0
    train_cnn_after: int = 0
    mit1003_batch_size: int = 32
    mit1003_valid_batch_size: int = 8
    momentum: float = 0.9
    weight_decay: float = 1e-4
    cnn_weight_decay: float = 1e-5
    cnn_lr_factor: float = 0.1
    cnn_eval: bool = True
    augment: bool | Mapping[str, Any] = False
    mit1003_cfg: Mapping[str, Any] = field(default_factory=dict)
    overwrite: bool = False
    num_workers: int = 6
    tboard: bool = True
    seed: int = 0
    device: str = "auto"
    amp: str = "off"
    accumulate: int = 1
    sync_batchnorm: bool = False
    process_timeout: float = 600

    @classmethod
    def from_dict(cls, given: Mapping[str, Any]) -> FineTuneConfig:
        """Make a checked configuration.

        Args:
            given: options as a user types them, or as `FineTuner.json` holds them.

        Raises:
            UserError: an option is unknown, or its value is not allowed; names it.
        """
        values = accept(given, [f.name for f in fields(cls)], "fine-tuning")
        if values.get("mit1003_cfg") is None:
            values.pop("mit1003_cfg", None)
        config = cls(**values)
        config._check()
        return config

    @property
    def train_id(self) -> str:
        """The run to start from, whose folder the weights go to."""
        given = self.pretrained_train_id
        return PRETRAINED if given is None or given == "" else str(given)

    @property
    def folder_name(self) -> str:
        """The folder of the logs, in the run's folder."""
        return (
            f"{SOURCE}_lr{self.lr:.4f}_lrGamma{self.lr_gamma:.2f}_nEpochs{self.num_epochs}"
            f"_TrainCNNAfter{self.train_cnn_after}_xVal{self.x_val_step}"
        )

    def as_dict(self) -> dict[str, Any]:
        """Return all options, as `FineTuner.json` holds them."""
        return asdict(self)

    def trainer_config(self, network: Mapping[str, Any]) -> TrainerConfig:
        """Return these options as those of a training run; `network` holds those of the network."""
        options = {name: getattr(self, name) for name in SHARED}
        return TrainerConfig.from_dict(
            {
                **options,
                "data_sources": (SOURCE,),
                "mit1003_cfg": {**self.mit1003_cfg, "x_val_step": self.x_val_step},
                "loss_metrics": ("kld",),
                "loss_weights": (1.0,),
                "grad_clip": None,
                "chkpnt_warmup": 0,
                "domain": DOMAIN,
                "model_cfg": network,
                "init_from": self.train_id,
            }
        )

    def _check(self) -> None:
        if not isinstance(self.mit1003_cfg, Mapping):
            raise UserError(f"mit1003_cfg is {self.mit1003_cfg!r}; it has to be a dictionary")
        if twice := [name for name in OWN_DATASET_OPTIONS if name in self.mit1003_cfg]:
            raise UserError(f"mit1003_cfg: {', '.join(twice)} cannot be set there")
        check_switches(self)
        self.trainer_config({})
