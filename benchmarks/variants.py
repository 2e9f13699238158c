"""Ways to run the network on a device: in what precision and layout, compiled, as a CUDA graph."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor

from benchmarks.limits import waiting
from benchmarks.timing import take_turns
from benchmarks.training import WEIGHTS
from unisal.data.base import Batch
from unisal.model import UNISAL
from unisal.train.amp import MixedPrecision
from unisal.train.config import TrainerConfig
from unisal.train.epoch import set_training_mode, train_step
from unisal.train.optim import make_optimizer

TYPES = {
    "float32": torch.float32,
    "TF32": torch.float32,
    "bf16": torch.bfloat16,
    "bf16 weights": torch.bfloat16,
    "fp16": torch.float16,
}
"""By the name of a precision, the type that convolutions compute in. TF32 is that of the tensor
cores for float32; in `bf16 weights` no weight is kept in float32."""
AMP = {"float32": "off", "TF32": "off", "bf16": "bf16", "fp16": "fp16"}
"""By the name of a precision, the option of training."""
EAGER, COMPILED, GRAPH, COMPILED_GRAPH = "eager", "compiled", "CUDA graph", "compiled, CUDA graph"
WARM_UP = 3
"""Calls before anything is recorded or timed; PyTorch's own CUDA graphs need as many."""
MAX_COMPILED = 256
"""How many variants PyTorch may compile of one function; by default it stops at 8."""
LEARNING_RATE = 1e-5
"""Small, since a step is repeated on one batch."""
GRAD_CLIP = 2.0

Call = Callable[[], Any]


class Variant(NamedTuple):
    """A way to run the network."""

    precision: str = "float32"
    channels_last: bool = False
    run: str = EAGER
    fused: bool = False
    """Whether one kernel updates all weights; of a training step."""

    def __str__(self) -> str:
        said = [self.precision]
        said += ["channels last"] * self.channels_last + ["fused optimiser"] * self.fused
        return ", ".join(said + [self.run] * (self.run != EAGER))

    def placed(self, model: UNISAL, device: torch.device) -> UNISAL:
        """Return a copy of a network on the device, in the variant's layout and type."""
        layout = torch.channels_last if self.channels_last else torch.contiguous_format
        dtype = torch.bfloat16 if self.precision == "bf16 weights" else None
        model = copy.deepcopy(model)
        model.to(device=device, dtype=dtype, memory_format=layout)  # type: ignore[call-overload]
        return model


@contextmanager
def computing_in(precision: str, device: torch.device, autocast: bool = True) -> Iterator[None]:
    """Compute in a precision, and set back how PyTorch treats float32.

    Args:
        precision: a key of `TYPES`.
        device: where.
        autocast: whether to enter autocast where the precision needs it. Training does so itself.
    """
    matmul, convolutions = torch.backends.cuda.matmul, torch.backends.cudnn
    before = matmul.allow_tf32, convolutions.allow_tf32
    matmul.allow_tf32 = convolutions.allow_tf32 = precision == "TF32"
    casts = autocast and precision in ("bf16", "fp16")
    try:
        with torch.autocast(device.type, TYPES[precision] if casts else None, enabled=casts):
            yield
    finally:
        matmul.allow_tf32, convolutions.allow_tf32 = before


class Clips(NamedTuple):
    """What the network predicts in a call."""

    frames: Tensor
    """`[batch, time, 3, H, W] float32`, on the device."""
    domain: str
    static: bool
    """Whether they are unrelated pictures."""


def prediction(variant: Variant, model: UNISAL, clips: Clips) -> Call:
    """Return a call that predicts log-densities of the frames' size.

    A video goes on: it has a state that earlier frames have left.

    Args:
        variant: how.
        model: in evaluation mode.
        clips: what is predicted.

    Raises:
        Exception: it is not possible on this device.
    """
    x, device = clips.frames, clips.frames.device
    model = variant.placed(model, device)
    x = x.to(next(model.parameters()).dtype)
    state = None if clips.static else state_after(model, x[:, :1], clips.domain)
    network: Callable[..., Any] = model
    if variant.run in (COMPILED, COMPILED_GRAPH):
        mode = "reduce-overhead" if variant.run == COMPILED_GRAPH else None
        network = compiled(model, mode)

    def call() -> Any:
        with computing_in(variant.precision, device), torch.inference_mode():
            return network(x, h0=state, source=clips.domain, static=clips.static)

    return recorded(call, x) if variant.run == GRAPH else call


@torch.no_grad()
def state_after(model: UNISAL, frames: Tensor, domain: str) -> list[Tensor]:
    """Return the state after frames `[batch, time, 3, H, W]`."""
    _, state = model(frames, return_hidden=True, source=domain, static=False)
    return list(state)


def compiled(model: UNISAL, mode: str | None) -> Callable[..., Any]:
    """Return a network that `torch.compile` compiles for the first input that it gets."""
    import torch._dynamo

    torch._dynamo.config.recompile_limit = MAX_COMPILED
    compiled_model: Callable[..., Any] = torch.compile(model, dynamic=False, mode=mode)
    return compiled_model


def recorded(call: Call, x: Tensor) -> Call:
    """Record a call as a CUDA graph; each replay takes its input anew, as a new batch would."""
    given, device = x.clone(), x.device
    side = torch.cuda.Stream(device)
    side.wait_stream(torch.cuda.current_stream(device))
    with torch.cuda.stream(side):
        for _ in range(WARM_UP):
            call()
    torch.cuda.current_stream(device).wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        y = call()

    def replay() -> Any:
        x.copy_(given)
        graph.replay()
        return y

    return replay


class Step(NamedTuple):
    """A training step: loss, gradient and update."""

    call: Call
    model: UNISAL

    def gradients(self) -> dict[str, Tensor]:
        """Return those of the last step."""
        named = self.model.named_parameters()
        return {name: p.grad.detach().cpu() for name, p in named if p.grad is not None}


def training_step(variant: Variant, model: UNISAL, batch: Batch) -> Step:
    """Return a training step of the whole network, whose encoder keeps its statistics.

    Args:
        variant: how.
        model: the network; a copy is trained.
        batch: on the device.

    Raises:
        Exception: it is not possible on this device.
    """
    device = batch.frames.device
    model = variant.placed(model, device)
    set_training_mode(model, cnn_eval=True, cnn_trains=True)
    if variant.run == COMPILED:
        import torch._dynamo

        torch._dynamo.config.recompile_limit = MAX_COMPILED
        model.compile(dynamic=False)
    cfg = TrainerConfig(lr=LEARNING_RATE)
    optimizer = make_optimizer(model, model.cnn, cfg, variant.fused)
    amp = MixedPrecision.named(AMP[variant.precision], device)

    def call() -> None:
        with computing_in(variant.precision, device, autocast=False):
            train_step(model, batch, WEIGHTS, optimizer, GRAD_CLIP, amp=amp)

    return Step(call, model)


class Tried(NamedTuple):
    """What became of the variants."""

    calls: dict[str, Any]
    """What `make` returned, by name."""
    failures: dict[str, str]
    """Why others are not possible."""


def try_all(makers: Mapping[str, Callable[[], Any]], call: Callable[[Any], Call]) -> Tried:
    """Make variants and call each a few times; one that fails does not end the others.

    Args:
        makers: return what a variant needs, by its name.
        call: returns what is timed of that.
    """
    tried = Tried({}, {})
    for name, make in makers.items():
        try:
            made = make()
            for _ in range(WARM_UP):
                call(made)()
            tried.calls[name] = made
        except Exception as error:  # a backend raises what it likes: no GPU, no memory, no compiler
            said = str(error).strip().splitlines() or [type(error).__name__]
            tried.failures[name] = said[0][:120].replace("|", "/")
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
    return tried


def timed(
    calls: Mapping[str, Call], device: torch.device, rounds: int, at_least: float
) -> dict[str, list[float]]:
    """Return the seconds of each variant by round; they take turns."""
    return take_turns(calls, rounds, at_least, wait=waiting(device))
