"""The options of a training run (docs/behaviour.md, "Training").

Imports no PyTorch, so that `--help` is quick.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from types import NoneType
from typing import Any

from unisal.checks import check_count, check_number, check_switch
from unisal.config import accept
from unisal.errors import UserError

VIDEO_AND_IMAGES = ("DHF1K", "Hollywood", "UCFSports", "SALICON")
CHOICES = {
    "amp": ("off", "auto", "bf16", "fp16"),
    "optim_algo": ("SGD", "Adam", "RMSprop"),
    "lr_scheduler": ("ExponentialLR", "cosine"),
    "loss_metrics": ("kld", "nss", "cc"),
    "trains": ("all", "decoder", "modules", "recurrent"),
}
SMALLEST_COUNTS = {
    "num_epochs": 1,
    "train_cnn_after": 0,
    "chkpnt_epochs": 1,
    "num_workers": 0,
    "seed": 0,
    "accumulate": 1,
}
"""Options that are whole numbers, with the smallest allowed value."""
NON_NEGATIVE = ("cnn_lr_factor", "lr_gamma", "momentum", "weight_decay", "cnn_weight_decay")
"""Options that are numbers of at least 0."""
PER_SOURCE = ("batch_sizes", "valid_batch_sizes", "dataset_options", "loss_factors")
"""Options that are mappings from a source to its value."""
TEXTS: dict[str, tuple[type, ...]] = {
    "str": (str,),
    "str | None": (str, NoneType),
    "Mapping[str, Any]": (Mapping,),
}
LISTS: dict[str, tuple[type, ...]] = {
    "tuple[str, ...]": (str,),
    "tuple[float, ...]": (int, float),
}
"""Of which types the values of options may be, by how the options are annotated."""
MAX_SCALE = 4
"""The largest factor among `scales`; sixteen times as many pixels."""
PUBLISHED_KEYS = {
    "batch_size": ("batch_sizes", "DHF1K"),
    "salicon_batch_size": ("batch_sizes", "SALICON"),
    "hollywood_batch_size": ("batch_sizes", "Hollywood"),
    "ucfsports_batch_size": ("batch_sizes", "UCFSports"),
    "mit1003_batch_size": ("batch_sizes", "MIT1003"),
    "mit1003_valid_batch_size": ("valid_batch_sizes", "MIT1003"),
    "salicon_weight": ("loss_factors", "SALICON"),
    "hollywood_weight": ("loss_factors", "Hollywood"),
    "ucfsports_weight": ("loss_factors", "UCFSports"),
    "data_cfg": ("dataset_options", "DHF1K"),
    "salicon_cfg": ("dataset_options", "SALICON"),
    "hollywood_cfg": ("dataset_options", "Hollywood"),
    "ucfsports_cfg": ("dataset_options", "UCFSports"),
    "mit1003_cfg": ("dataset_options", "MIT1003"),
}
"""Options for a single source, with the mapping and the source whose entry they are."""


@dataclass(frozen=True)
class TrainerConfig:
    """Options of a training run, saved as `Trainer.json`. The defaults are the paper's.

    Options:
        num_epochs: epochs to train (16).
        optim_algo: SGD, Adam or RMSprop (SGD); momentum: for SGD and RMSprop (0.9).
        lr: learning rate (0.04); cnn_lr_factor: the encoder's share of it (0.1).
        lr_scheduler: ExponentialLR: times lr_gamma (0.8) per epoch; or cosine: to zero over the
            run, by the step. warmup_steps: steps of a linear rise from zero (0).
        weight_decay: for all but the encoder (1e-4); cnn_weight_decay: the encoder's (1e-5).
        grad_clip: largest norm of the gradient, None for no limit (2.0).
        loss_metrics, loss_weights: the loss is their weighted sum (kld,nss,cc; 1,-0.1,-0.1).
        data_sources: what to train on (DHF1K,Hollywood,UCFSports,SALICON); NAME=FOLDER for a
            folder with a table of gaze.
        batch_sizes: examples in a batch, by source: {'SALICON': 8}. Sources that are not named
            keep their own: 4 for videos, 32 for images.
        valid_batch_sizes: the same in validation (MIT1003 8, the others as in training).
        dataset_options: options of the data sets, by source:
            {'DHF1K': {'seq_len': 6}, 'SALICON': {'input_size': (192, 256)}}.
        loss_factors: factors of the loss, by source (SALICON 0.5, the others 1), used only with
            weigh_sources=True (False, as published).
        batch_size, salicon_batch_size, hollywood_batch_size, ucfsports_batch_size,
            mit1003_batch_size, mit1003_valid_batch_size, salicon_weight, hollywood_weight,
            ucfsports_weight, data_cfg, salicon_cfg, hollywood_cfg, ucfsports_cfg, mit1003_cfg: the
            published way to write entries of the four mappings above; batch_size and data_cfg
            are DHF1K's.
        shuffle_datasets: mix the order of the sources' batches (True).
        augment: random flips, crops and colours of training examples: True, or a dictionary of
            flip, min_crop, brightness, contrast, saturation, and of grey, hue, blur and jpeg,
            which True leaves off (False).
        mix: the probability that the examples of a batch are blended with each other, frames and
            densities in a random proportion, fixations united (0).
        scales: factors of the input size, one of which is drawn for each step: 0.75,1,1.25; sizes
            are rounded to multiples of 32 (none).
        train_cnn_after: epochs before the encoder trains (2).
        cnn_eval: the encoder's BatchNorms keep their statistics (True); bn_eval: those of all other
            parts do too (False). Of sources that share a domain each batch is of one source, whose
            own statistics would take the place of the mixture that the network predicts with.
        ema_decay: validate and save a running average of the weights, which keeps this share
            of itself in each step, for instance 0.999 (None: the weights themselves).
        model_cfg: options of the network UNISAL; its sources default to data_sources.
        init_from: start from the weights of this run, not from ImageNet's encoder; the network is
            that run's if it has the domains (None).
        copy_domain: sources of the network that this run does not train get a copy of this
            source's modules in the saved weights (None).
        domain: the domain of the network that all the sources train, instead of their own (None).
            The weights at the start are validated too, and kept if no epoch is better.
        own_domains: each source trains a domain of the source's name (False).
        shared_domain: a domain that all sources train too, in turns with their own: one batch of a
            source trains its own, the next the shared one (None). Validation losses are the means
            over both.
        new_domain_from: `init_from`'s network lacks domains that are trained; they are added, and
            start as copies of this one (None).
        trains: what is trained: all of the network; decoder, whatever follows the encoder;
            modules, what only the trained domains use; or recurrent, these and the recurrent part
            that all domains for videos share (all).
        patience: stop after this many epochs without a better validation loss (None: never).
        teacher: runs, separated by commas, whose predictions are a part of the training target
            (none); teacher_share: their share, 0 to 1 (0.5). A teacher sees the same augmented
            example and its mirror image; validation is without teachers.
        prefix, suffix: the run's folder is <prefix>_<suffix> (the time, unisal).
        num_workers: processes that read data, at most one per core (6).
        chkpnt_warmup: epochs before the best weights and checkpoints are kept (3).
        chkpnt_epochs: epochs between checkpoints (2).
        tboard: write TensorBoard logs (True).
        seed: seed of all random choices (0).
        device: auto, cpu, cuda, cuda:1, ... (auto).
        amp: what convolutions in training and validation compute in: off (float32), bf16, fp16, or
            auto: on a GPU bf16, or fp16 on one that lacks it, otherwise off (off).
        accumulate: batches whose gradients make one update, which is that of a batch as large as
            all of them; each computes in the memory of one (1).
        sync_batchnorm: of several processes (torchrun), BatchNorms in training use the statistics
            of the examples of all, as one process would (False: each those of its own).
        process_timeout: seconds that processes wait for each other before they give up (600).
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
    batch_sizes: Mapping[str, int] = field(default_factory=dict)
    valid_batch_sizes: Mapping[str, int] = field(default_factory=dict)
    dataset_options: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    loss_factors: Mapping[str, float] = field(default_factory=dict)
    weigh_sources: bool = False
    shuffle_datasets: bool = True
    augment: bool | Mapping[str, Any] = False
    mix: float = 0.0
    scales: tuple[float, ...] = ()
    cnn_lr_factor: float = 0.1
    train_cnn_after: int = 2
    cnn_eval: bool = True
    bn_eval: bool = False
    ema_decay: float | None = None
    model_cfg: Mapping[str, Any] = field(default_factory=dict)
    init_from: str | None = None
    copy_domain: str | None = None
    domain: str | None = None
    own_domains: bool = False
    shared_domain: str | None = None
    new_domain_from: str | None = None
    trains: str = "all"
    patience: int | None = None
    teacher: tuple[str, ...] = ()
    teacher_share: float = 0.5
    prefix: str | None = None
    suffix: str = "unisal"
    num_workers: int = 6
    chkpnt_warmup: int = 3
    chkpnt_epochs: int = 2
    tboard: bool = True
    seed: int = 0
    device: str = "auto"
    amp: str = "off"
    accumulate: int = 1
    sync_batchnorm: bool = False
    process_timeout: float = 600
    debug: bool = False
    new_instance: bool = True

    @classmethod
    def from_dict(cls, given: Mapping[str, Any]) -> TrainerConfig:
        """Make a checked configuration.

        Args:
            given: options as a user types them, or as `Trainer.json` holds them.

        Raises:
            UserError: an option is unknown, or its value is not allowed; names it.
        """
        known = [f.name for f in fields(cls)]
        values = _into_mappings(accept(given, [*known, *PUBLISHED_KEYS], "the trainer"))
        for name in ("data_sources", "loss_metrics", "teacher"):
            if isinstance(values.get(name), str):
                values[name] = tuple(values[name].split(","))
        for name in ("loss_weights", "scales"):
            if isinstance(values.get(name), int | float):
                values[name] = (values[name],)
        if values.get("model_cfg") is None:
            values.pop("model_cfg", None)
        if values.get("debug"):
            values |= {"num_epochs": 4, "num_workers": 0, "chkpnt_warmup": 1, "chkpnt_epochs": 2}
            values["suffix"] = (
                str(values.get("suffix", cls.suffix)).removesuffix("_debug") + "_debug"
            )
        config = cls(**values)
        config._check()
        return config

    @property
    def names_domains(self) -> bool:
        """Whether the options say which domains are trained, so that the run keeps presets."""
        return bool(self.domain or self.own_domains or self.shared_domain or self.new_domain_from)

    def as_dict(self) -> dict[str, Any]:
        """Return all options; for `Trainer.json` see `unisal.train.sources.saved_options`."""
        return asdict(self)

    def _check(self) -> None:
        check_switches(self)
        for name, allowed in CHOICES.items():
            value = getattr(self, name)
            for v in value if isinstance(value, tuple) else (value,):
                if v not in allowed:
                    raise UserError(f"{name} is {v!r}; allowed are {', '.join(allowed)}")
        check_texts(self)
        if not self.loss_metrics:
            raise UserError(f"loss_metrics is {self.loss_metrics!r}; name at least one")
        if len(self.loss_metrics) != len(self.loss_weights):
            raise UserError(
                f"loss_metrics {self.loss_metrics} and loss_weights {self.loss_weights} "
                "have to be of the same length"
            )
        check_number(self.lr, "lr", above=True)
        for name in NON_NEGATIVE:
            check_number(getattr(self, name), name)
        for name, smallest in SMALLEST_COUNTS.items():
            check_count(getattr(self, name), name, smallest)
        check_number(self.mix, "mix", largest=1)
        check_number(self.process_timeout, "process_timeout", above=True)
        for factor in self.scales:
            check_number(factor, "scales", above=True, largest=MAX_SCALE)
        check_number(self.teacher_share, "teacher_share", largest=1)
        if self.ema_decay is not None:
            check_number(self.ema_decay, "ema_decay", largest=1, above=True, below=True)
        if self.patience is not None:
            check_count(self.patience, "patience")
        if self.new_domain_from and not self.init_from:
            raise UserError("new_domain_from needs init_from, the run whose network gets domains")
        if self.domain and (self.own_domains or self.shared_domain):
            raise UserError(
                f"domain is {self.domain!r}, the only one that is trained, so own_domains and "
                "shared_domain cannot be given with it"
            )
        if not self.data_sources or not isinstance(self.data_sources, tuple):
            raise UserError(f"data_sources is {self.data_sources!r}; name at least one source")
        if len(set(self.data_sources)) < len(self.data_sources):
            raise UserError(f"data_sources is {self.data_sources!r}; name each source once")


def check_switches(config: Any) -> None:
    """Check that the options that are switches are True or False.

    Args:
        config: an instance of a class of options.

    Raises:
        UserError: one is not; names it.
    """
    for option in fields(config):
        if option.type == "bool":
            check_switch(getattr(config, option.name), option.name)


def check_texts(config: Any) -> None:
    """Check the options that are names, lists of names or of numbers, or dictionaries.

    Args:
        config: an instance of a class of options.

    Raises:
        UserError: one is something else; names it.
    """
    for option in fields(config):
        value = getattr(config, option.name)
        kind = LISTS.get(str(option.type))
        if kind is not None:
            is_right = isinstance(value, tuple) and all(isinstance(v, kind) for v in value)
        else:
            is_right = isinstance(value, TEXTS.get(str(option.type), object))
        if not is_right:
            raise UserError(f"{option.name} is {value!r}; it has to be {option.type}")


def _into_mappings(given: Mapping[str, Any]) -> dict[str, Any]:
    """Turn the options for one source into entries of the mappings per source; check them all."""
    values = {k: v for k, v in given.items() if k not in (*PUBLISHED_KEYS, *PER_SOURCE)}
    for option in PER_SOURCE:
        of_source = {} if given.get(option) is None else given[option]
        if not isinstance(of_source, Mapping):
            raise UserError(f"{option} is {of_source!r}; it has to be a dictionary by source")
        named = {source: (f"{option} of {source}", value) for source, value in of_source.items()}
        for key, (mapping, source) in PUBLISHED_KEYS.items():
            if mapping != option or key not in given:
                continue
            if source in named and named[source][1] != given[key]:
                raise UserError(f"{key} and {option} give {source} two values; give one of them")
            named[source] = key, given[key]
        values[option] = {
            source: _check_entry(option, value, name)
            for source, (name, value) in named.items()
            if not (value is None and option == "dataset_options")
        }
    return values


def _check_entry(option: str, value: Any, name: str) -> Any:
    """Check the value of one source in a mapping."""
    if option == "dataset_options":
        if not isinstance(value, Mapping):
            raise UserError(f"{name} is {value!r}; it has to be a dictionary")
        return value
    return check_number(value, name) if option == "loss_factors" else check_count(value, name)
