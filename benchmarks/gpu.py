"""Measure prediction and training on a GPU: each variant beside the plain one and the card's limit.

`python -m benchmarks.gpu` prints tables. `--parts` picks some of them:

* `limits`: the fastest matrix product and copy of the card, and copies from and to the CPU;
* `predict`: frames per second of pictures and videos, by batch, precision and layout, with CUDA
  graphs, and the network in the published order of operations (`plain`);
* `train`: examples per second of a training step, by batch, precision, layout and optimiser;
* `compile`: `torch.compile`, for both, which takes minutes to compile;
* `profile`: from arrays to log-densities through the library, and which operations take the time.

All variants take turns. "Of the limit" is what the multiply-adds and the bytes of the convolutions
would take at the rates of the matrix product, in that precision, and of the copy. `--device=cpu`
measures the same on the CPU, where there are no CUDA graphs, no TF32 and no fp16. What decoding
costs: `python -m benchmarks.scaling`.
"""

from __future__ import annotations

import argparse
import platform
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

from benchmarks.limits import Machine, Work, count_calls, measure_machine, waiting
from benchmarks.stream_latency import make_frames
from benchmarks.timing import plain_network, ratio_of, take_turns
from benchmarks.training import (
    BACKWARD_COST,
    ImageStep,
    TrainingCase,
    VideoStep,
    distance,
    without_dropout,
)
from benchmarks.variants import (
    COMPILED,
    COMPILED_GRAPH,
    GRAPH,
    TYPES,
    Call,
    Clips,
    Step,
    Tried,
    Variant,
    computing_in,
    prediction,
    timed,
    training_step,
    try_all,
)
from unisal.data.base import Batch
from unisal.data.transforms import normalise
from unisal.device import pick_device
from unisal.inference.engine import Engine
from unisal.model import UNISAL
from unisal.predict.loading import load_model

PARTS = "limits", "predict", "train", "compile", "profile"
GPU_SIDE, GPU_COPIED = 8192, 1 << 30
"""Side of the matrices and bytes of the copy that find out a GPU's limits."""
PLAIN = "plain"
REFERENCE = str(Variant())
"""The row that the others are compared with: eager, float32, in PyTorch's usual layout."""
MAX_FRAMES = 16
"""How many different frames there are; larger batches repeat them."""
CLIP_FRAMES = 12
PROFILED_CALLS = 5
SHOWN_OPERATIONS = 12


class Options(NamedTuple):
    """What all tables share."""

    device: torch.device
    model: UNISAL
    rounds: int
    seconds: float
    batches: Sequence[int]
    steps: Sequence[int]
    clips: Sequence[int]
    size: tuple[int, int] | None
    limits: Mapping[str, Machine]

    @property
    def on_gpu(self) -> bool:
        return self.device.type == "cuda"

    def limit(self, precision: str) -> Machine:
        """Return the limits for a precision."""
        return self.limits["bf16" if precision == "bf16 weights" else precision]


class Kind(NamedTuple):
    """What is predicted."""

    title: str
    domain: str
    static: bool
    size: tuple[int, int]
    as_clip: bool
    """Whether the frames of a call are of one video, otherwise each is of another."""


KINDS = (
    Kind("Pictures", "SALICON", True, (288, 384), False),
    Kind("Videos side by side, a frame of each in a call", "DHF1K", False, (224, 384), False),
    Kind("One video, so many of its frames in a call", "DHF1K", False, (224, 384), True),
)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print the tables.

    Args:
        arguments: by default those of the command line.
    """
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--parts", default=",".join(PARTS), help="some of the tables")
    parser.add_argument("--train_id", default=None, help="the run whose weights to use")
    parser.add_argument("--batches", default="1,8,64", help="of frames that are predicted")
    parser.add_argument("--steps", default="8,32", help="batches of pictures that are trained on")
    parser.add_argument(
        "--clips", default="4,16", help=f"batches of clips of {CLIP_FRAMES} frames; 0 for none"
    )
    parser.add_argument("--size", default=None, help="HEIGHTxWIDTH instead of the usual sizes")
    parser.add_argument("--rounds", type=int, default=5, help="how often each has its turn")
    parser.add_argument("--seconds", type=float, default=0.3, help="the least that a turn takes")
    given = parser.parse_args(arguments)
    parts = given.parts.split(",")
    if odd := set(parts) - set(PARTS):
        parser.error(f"--parts has {odd.pop()!r}; there are {', '.join(PARTS)}")
    device = pick_device(given.device)
    print(describe(device))
    limits = measure_limits(device)
    options = Options(
        device,
        load_model(given.train_id).eval(),
        given.rounds,
        given.seconds,
        *(numbers(getattr(given, name)) for name in ("batches", "steps", "clips")),
        numbers(given.size, "x")[:2] if given.size else None,  # type: ignore[arg-type]
        limits,
    )
    tables: dict[str, Callable[[Options], None]] = {
        "limits": show_limits,
        "predict": show_predictions,
        "train": show_training,
        "compile": show_compiled,
        "profile": show_profiles,
    }
    for part in parts:
        tables[part](options)


def numbers(given: str, separator: str = ",") -> tuple[int, ...]:
    """Return the positive numbers of an option."""
    return tuple(int(number) for number in given.split(separator) if int(number) > 0)


def describe(device: torch.device) -> str:
    """Say what is measured where."""
    name = f"CPU ({platform.machine()}), {torch.get_num_threads()} threads"
    if device.type == "cuda":
        found = torch.cuda.get_device_properties(device)
        memory = found.total_memory / (1 << 30)
        name = f"{found.name}, {memory:.0f} GiB, {found.multi_processor_count} multiprocessors"
    return f"{name}; PyTorch {torch.__version__}"


# ---- the limits ---------------------------------------------------------------------------
def measure_limits(device: torch.device) -> dict[str, Machine]:
    """Return the rates of the device by precision."""
    on_gpu = device.type == "cuda"
    sizes = {"side": GPU_SIDE, "copied": GPU_COPIED} if on_gpu else {}
    found = {}
    for precision in precisions(on_gpu, training=True):
        with computing_in(precision, device, autocast=False):
            found[precision] = measure_machine(device, TYPES[precision], **sizes)
    return found


def precisions(on_gpu: bool, training: bool = False) -> list[str]:
    """Return the precisions that make a difference on a device."""
    also = ["fp16"] if training else ["bf16 weights"]
    return ["float32", "TF32", "bf16", *also] if on_gpu else ["float32", "bf16"]


def show_limits(options: Options) -> None:
    """Print the rates of the device, of copies from and to the CPU, and the network's work."""
    print("\n| precision | multiply-adds per second | copied per second |\n|---|---|---|")
    for precision, rates in options.limits.items():
        print(f"| {precision} | {rates.multiply_adds / 1e9:.1f} G | {rates.moved / 1e9:.1f} GB |")
    print("\n| a frame of | multiply-adds | bytes of convolutions in float32 |\n|---|---|---|")
    for kind in KINDS[:2]:
        work = work_of(options.model, clips_of(options, kind, 1))
        height, width = options.size or kind.size
        name = f"{kind.title.partition(' ')[0].lower()}, {height}x{width}"
        print(f"| {name} | {work.multiply_adds / 1e9:.2f} G | {work.moved / 1e6:.0f} MB |")
    if options.on_gpu:
        show_copies(options)


def show_copies(options: Options) -> None:
    """Print how fast frames come to the GPU, and maps back."""
    shape = (64, 3, *(options.size or KINDS[0].size))
    there = torch.zeros(shape, device=options.device)
    here, pinned = torch.zeros(shape), torch.zeros(shape).pin_memory()
    ways = {
        "to the GPU": lambda: there.copy_(here),
        "to the GPU, pinned": lambda: there.copy_(pinned, non_blocking=True),
        "back": lambda: here.copy_(there),
        "back, pinned": lambda: pinned.copy_(there, non_blocking=True),
    }
    took = timed(ways, options.device, options.rounds, options.seconds)
    print("\n| 64 frames in float32 | GB per second | frames per second |\n|---|---|---|")
    for name, seconds in took.items():
        each = statistics.median(seconds)
        print(f"| {name} | {here.nbytes / each / 1e9:.1f} | {len(here) / each:.0f} |")


def work_of(model: UNISAL, clips: Clips, bytes_each: int = 4) -> Work:
    """Count the work of a prediction, of a video whose state is known."""
    call = prediction(Variant(), model, clips)
    return count_calls(call, bytes_each)


# ---- prediction ---------------------------------------------------------------------------
def show_predictions(options: Options) -> None:
    """Print a table of each kind of frames."""
    graphs = [GRAPH] if options.on_gpu else []
    variants = [Variant(p, layout) for p in precisions(options.on_gpu) for layout in (False, True)]
    variants += [Variant(p, True, run) for p in precisions(options.on_gpu) for run in graphs]
    for kind in KINDS:
        predict(options, kind, variants, with_plain=True)


def show_compiled(options: Options) -> None:
    """Print tables with what `torch.compile` gives, of predictions and of training steps."""
    runs = [COMPILED, COMPILED_GRAPH] if options.on_gpu else [COMPILED]
    used = [p for p in precisions(options.on_gpu) if p != "TF32"]
    variants = [Variant(), *(Variant(p, True, run) for p in used for run in ("eager", *runs))]
    for kind in KINDS[:2]:  # of one video, each frame would be compiled again
        predict(options, kind, variants)
    steps = [Variant(), *(Variant(p, True, run) for p in used[:2] for run in ("eager", COMPILED))]
    train(options, "pictures", ImageStep, options.steps[:1], steps)


def predict(
    options: Options, kind: Kind, variants: Iterable[Variant], with_plain: bool = False
) -> None:
    """Measure variants at each batch and print the table."""
    rows: dict[str, list[str]] = {}
    apart: dict[str, float] = {}
    shares: dict[str, str] = {}
    for place, batch in enumerate(options.batches):
        clips = clips_of(options, kind, batch)
        makers: dict[str, Callable[[], Call]] = {
            str(v): partial(prediction, v, options.model, clips) for v in variants
        }
        if with_plain:
            makers[PLAIN] = partial(plain_prediction, options.model, clips)
        tried = try_all(makers, lambda call: call)
        if place == 0:
            apart = differences(tried.calls)
        took = timed(tried.calls, options.device, options.rounds, options.seconds)
        for name in makers:
            rows.setdefault(name, []).append(cell(name, batch, took, tried))
            if name in took:
                shares[name] = share(options, name, clips, statistics.median(took[name]))
    height, width = options.size or kind.size
    print(f"\n{kind.title}, {height}x{width}: frames per second, and times as fast\n")
    head = ["variant", *(f"batch {n}" for n in options.batches), "of the limit, last", "apart"]
    print(f"| {' | '.join(head)} |\n|{'---|' * len(head)}")
    for name, cells in rows.items():
        off = f"{apart[name]:.0e}" if name in apart else ""
        print(f"| {' | '.join([name, *cells, shares.get(name, ''), off])} |", flush=True)


def clips_of(options: Options, kind: Kind, batch: int) -> Clips:
    """Return so many frames on the device."""
    size = options.size or kind.size
    some = [normalise(frame) for frame in make_frames(size, min(batch, MAX_FRAMES))]
    frames = torch.from_numpy(np.stack([some[i % len(some)] for i in range(batch)]))
    frames = frames[None] if kind.as_clip else frames[:, None]
    return Clips(frames.to(options.device), kind.domain, kind.static)


def plain_prediction(model: UNISAL, clips: Clips) -> Call:
    """Return a prediction in the published order of operations."""
    device = clips.frames.device
    network = plain_network(Variant().placed(model, device))

    def call() -> Any:
        with torch.device(device), torch.inference_mode():
            return network(clips.frames, source=clips.domain, static=clips.static)[0]

    return call


def differences(calls: Mapping[str, Call]) -> dict[str, float]:
    """Return how far log-densities are from the reference's, as a share of their range."""
    if REFERENCE not in calls:
        return {}
    wanted: Tensor = calls[REFERENCE]().float().clone()
    span = wanted.max() - wanted.min()
    return {
        name: float((call().float() - wanted).abs().max() / span)
        for name, call in calls.items()
        if name not in (REFERENCE, PLAIN)  # the plain one starts a video without a state
    }


def cell(name: str, n: int, took: Mapping[str, Sequence[float]], tried: Tried) -> str:
    """Return the rate of a variant, and how many times as fast it is as the reference."""
    if name not in took:
        return f"not possible: {tried.failures[name]}"
    rate = n / statistics.median(took[name])
    ratio = f" ({ratio_of(took[REFERENCE], took[name]):.2f})" if REFERENCE in took else ""
    return f"{rate:.{1 if rate < 100 else 0}f}{ratio}"


def share(options: Options, name: str, clips: Clips, seconds: float) -> str:
    """Say how close a prediction comes to what the device can do."""
    precision = "float32" if name == PLAIN else name.partition(",")[0]
    work = work_of(options.model, clips, TYPES[precision].itemsize)
    return options.limit(precision).share(work, seconds)


# ---- training -----------------------------------------------------------------------------
def show_training(options: Options) -> None:
    """Print a table of steps on pictures and one of steps on clips."""
    widths = precisions(options.on_gpu, training=True)
    variants = [Variant(p, last) for p in widths for last in (False, True)]
    variants += [Variant(p, True, fused=True) for p in widths]
    train(options, "pictures", ImageStep, options.steps, variants, with_plain=True)
    if options.clips:
        what = f"clips of {CLIP_FRAMES} frames"
        train(options, what, VideoStep, options.clips, variants)


def train(
    options: Options,
    what: str,
    kind: type[TrainingCase],
    batches: Sequence[int],
    variants: Sequence[Variant],
    with_plain: bool = False,
) -> None:
    """Measure training steps at each batch and print the table."""
    rows: dict[str, list[str]] = {}
    apart: dict[str, float] = {}
    last: dict[str, str] = {}
    for place, n in enumerate(batches):
        case = case_of(options, kind, n)
        batch = batch_of(case)
        makers: dict[str, Callable[[], Step]] = {
            str(v): partial(training_step, v, case.model, batch) for v in variants
        }
        if with_plain:
            makers[PLAIN] = partial(plain_step, case)
        tried = try_all(makers, lambda step: step.call)
        if place == 0:
            apart = gradient_distances(tried.calls)
        calls = {name: step.call for name, step in tried.calls.items()}
        took = timed(calls, options.device, options.rounds, options.seconds)
        for name in makers:
            rows.setdefault(name, []).append(cell(name, n, took, tried))
            if name in took:
                last[name] = limit_of_step(options, name, case, batch, took[name])
                last[name] += f" | {peak_memory(options, calls[name])}"
    height, width = options.size or case.size
    print(
        f"\nTraining on {what}, {height}x{width}: {what.split()[0]} per second, and times as fast\n"
    )
    head = ["variant", *(f"batch {n}" for n in batches), "of the limit, last", "memory", "apart"]
    print(f"| {' | '.join(head)} |\n|{'---|' * len(head)}")
    for name, cells in rows.items():
        off = f"{apart[name]:.0e}" if name in apart else ""
        print(f"| {' | '.join([name, *cells, last.get(name, ' | '), off])} |", flush=True)


def case_of(options: Options, kind: type[TrainingCase], n: int) -> TrainingCase:
    """Return a case whose network, frames and truth are on the device."""
    sizes = {} if options.size is None else {"size": options.size, "target_size": options.size}
    time = {"time": CLIP_FRAMES} if kind is VideoStep else {}
    case = kind(batch=n, **sizes, **time)  # type: ignore[call-arg]
    model = Variant().placed(options.model, options.device)
    maps, fixations = (values.to(options.device) for values in case.truth)
    case.__dict__ |= {
        "model": without_dropout(model).train(),
        "frames": case.frames.to(options.device),
        "truth": (maps, fixations),
    }
    return case


def batch_of(case: TrainingCase) -> Batch:
    """Return the examples of a case as training takes them."""
    names = [str(number) for number in range(len(case.frames))]
    is_video = isinstance(case, VideoStep)
    return Batch(case.domain, case.domain, is_video, names, case.frames, *case.truth)


def plain_step(case: TrainingCase) -> Step:
    """Return loss and gradient in the published order of operations, without an update."""

    def call() -> None:
        with torch.device(case.frames.device):
            case.plain()

    return Step(call, case.model)


def gradient_distances(steps: Mapping[str, Step]) -> dict[str, float]:
    """Return how far the gradients of the last steps are from the reference's."""
    found = {name: step.gradients() for name, step in steps.items() if name != PLAIN}
    wanted = found.pop(REFERENCE, None)
    if wanted is None:
        return {}
    return {name: distance(gradients, wanted) for name, gradients in found.items()}


def limit_of_step(
    options: Options, name: str, case: TrainingCase, batch: Batch, took: Sequence[float]
) -> str:
    """Say how close a training step comes to what the device can do."""
    precision = "float32" if name == PLAIN else name.partition(",")[0]
    clips = Clips(batch.frames, case.domain, not batch.is_video)
    forward = work_of(case.model.eval(), clips, TYPES[precision].itemsize)
    work = Work(*((1 + BACKWARD_COST) * value for value in forward))
    return options.limit(precision).share(work, statistics.median(took))


def peak_memory(options: Options, call: Call) -> str:
    """Return how much a GPU's memory grows during a step."""
    if not options.on_gpu:
        return ""
    torch.cuda.reset_peak_memory_stats(options.device)
    before = torch.cuda.memory_allocated(options.device)
    call()
    return f"{(torch.cuda.max_memory_allocated(options.device) - before) / (1 << 20):.0f} MB"


# ---- where the time goes ------------------------------------------------------------------
def show_profiles(options: Options) -> None:
    """Print what the library adds to the network, and the operations that take most time."""
    widest = "bf16" if options.on_gpu else "float32"
    n = options.batches[len(options.batches) // 2]
    for kind in KINDS[:2]:
        show_whole_way(options, kind, n)
        clips = clips_of(options, kind, n)
        call = prediction(Variant(widest, True), options.model, clips)
        show_operations(options, f"{kind.title}, batch {n}, {widest}, channels last", call)
    case = case_of(options, ImageStep, options.steps[0])
    batch = batch_of(case)
    step = training_step(Variant(widest, True), case.model, batch)
    title = f"Training step on {len(case.frames)} pictures, {widest}, channels last"
    show_operations(options, title, step.call)


def show_whole_way(options: Options, kind: Kind, n: int) -> None:
    """Print the rate from arrays in memory to log-densities in memory beside the network's."""
    clips = clips_of(options, kind, n)
    frames = clips.frames[:, 0].cpu().numpy()
    size = frames.shape[-2], frames.shape[-1]
    print(f"\n{kind.title}: {n} frames, from arrays to log-densities through the library\n")
    print("| precision | frames per second | network alone | times as long |\n|---|---|---|---|")
    for precision, name in (("float32", "fp32"), ("bf16", "bf16")):
        engine = Engine(
            Variant().placed(options.model, options.device),
            str(options.device),
            precision=name,
            runtime="torch",
        )

        def whole(engine: Engine = engine) -> None:
            if kind.static:
                engine.images(frames, size, kind.domain)
            else:
                keyed = enumerate(frames)
                for _ in engine.video(keyed, size, kind.domain, frame_step=1):
                    pass

        network = prediction(Variant(precision, True), options.model, clips)
        calls = {"whole": whole, "network": network}
        took = take_turns(calls, options.rounds, options.seconds, wait=waiting(options.device))
        rates = [n / statistics.median(seconds) for seconds in took.values()]
        ratio = ratio_of(took["whole"], took["network"])
        print(f"| {precision} | {rates[0]:.1f} | {rates[1]:.1f} | {ratio:.2f} |", flush=True)


def show_operations(options: Options, title: str, call: Call) -> None:
    """Print which operations take the time: a GPU's kernels and copies, or PyTorch's operations."""
    activities = [ProfilerActivity.CPU] + [ProfilerActivity.CUDA] * options.on_gpu
    done = waiting(options.device) or (lambda: None)
    for _ in range(2):
        call()
    done()
    with profile(activities=activities) as found:
        for _ in range(PROFILED_CALLS):
            call()
        done()
    wanted = DeviceType.CUDA if options.on_gpu else DeviceType.CPU
    used = [event for event in found.key_averages() if event.device_type == wanted]
    spent = "self_device_time_total" if options.on_gpu else "self_cpu_time_total"
    whole = sum(getattr(event, spent) for event in used) or 1
    print(f"\n{title}: {whole / PROFILED_CALLS / 1000:.2f} ms of operations in a call\n")
    print("| operation | calls | share of the time |\n|---|---|---|")
    used.sort(key=lambda event: -getattr(event, spent))
    for event in used[:SHOWN_OPERATIONS]:
        name = event.key.replace("|", "/")[:90]
        n_calls = event.count / PROFILED_CALLS
        print(f"| `{name}` | {n_calls:g} | {getattr(event, spent) / whole:.0%} |", flush=True)


if __name__ == "__main__":
    main()
