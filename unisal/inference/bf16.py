"""The network in bfloat16: by what runs it fastest here, and unasked only where it agrees.

ONNX Runtime has bfloat16 on Arm alone, OpenVINO on x86 too, and PyTorch by its autocast. Which one
is fastest depends on the processor and on their versions, so it is measured once, and remembered in
the user's cache. How well the densities agree with those in float32 depends on the weights:
`quantize` measures that, and puts the result beside them.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import logging
import platform
import time
from collections.abc import Callable
from copy import deepcopy
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from unisal.config import cache_dir, load_json, save_json
from unisal.errors import GraphError, UserError, cause
from unisal.files import key_of
from unisal.forks import compute_threads
from unisal.inference.network import (
    GraphNetwork,
    Network,
    RunNetwork,
    SavedNetwork,
    WithOtherGraphs,
)
from unisal.inference.processor import BF16_FLAGS, cpu_flags, cpu_name, lacks, no_bf16
from unisal.inference.runtime import OnnxRuntime, Runtime
from unisal.inference.sessions import ONNX, OPENVINO

FP32, BF16, TORCH = "fp32", "bf16", "torch"
HOLDS, NETWORK, RUNTIME, VERSION = "holds", "network", "runtime", "runtime_version"
"""What the record beside the weights says: whether the error bounds hold, and of which network,
runtime and version of that."""
PACKAGES = {ONNX: "onnxruntime", OPENVINO: "openvino", TORCH: "torch"}
"""What runs the network in bfloat16, and its package."""
SIZE = 288, 384
"""Of the frame that is used to measure."""
WARM_UP, ROUNDS = 3, 9

log = logging.getLogger(__name__)


def record_path(weights: Path, domain: str, static: bool) -> Path:
    """Return where it is written how bfloat16 agrees with float32.

    Args:
        weights: the file of the weights.
        domain: one of the network's domains.
        static: whether the frames are unrelated images.
    """
    kind = "images" if static else "videos"
    return weights.with_name(f"{weights.stem}_bf16_{domain}_{kind}.json")


def installed(network: Network) -> list[str]:
    """Return what could run a network in bfloat16 on this CPU, by name."""
    on_arm = platform.machine().lower() in ("aarch64", "arm64")
    names = [ONNX] if on_arm else []
    names += [OPENVINO] if is_installed(OPENVINO) else []
    can_use_torch = not isinstance(network, GraphNetwork)
    return names + ([TORCH] if can_use_torch and is_installed(TORCH) else [])


def is_installed(name: str) -> bool:
    """Return whether the package of a runtime is there, without importing it."""
    try:
        return importlib.util.find_spec(PACKAGES[name]) is not None
    except (ImportError, ValueError):
        return False


def fastest(network: RunNetwork | GraphNetwork) -> str:
    """Return what runs a network fastest in bfloat16: "onnx", "openvino" or "torch".

    It is measured once for the weights, processor, number of threads and versions, and remembered
    in the user's cache. Processes that measure at the same time use what the first one remembers.

    Args:
        network: the network in float32.

    Raises:
        UserError: there is nothing to run it with.
    """
    names = installed(network)
    if not names:
        raise UserError(
            'bfloat16 needs OpenVINO (`pip install "unisal[openvino]"`) or the run and PyTorch'
        )
    if len(names) == 1:
        return names[0]
    path = cache_dir() / "runtimes" / f"{_key(network, names)}.json"
    if found := _remembered(path, names):
        return found
    took = measure(network, names)
    if first := _remembered(path, names):
        return first
    found = min((name for name in names if name in took), key=took.__getitem__)
    text = ", ".join(f"{name} {value:.1f} ms" for name, value in took.items())
    log.info("a frame in bfloat16 takes: %s; %s is used", text, found)
    try:
        save_json(path, {RUNTIME: found, "milliseconds": took})
    except OSError as error:
        log.info("%s cannot be written (%s); it is measured again", path, cause(error))
    return found


def measure(network: RunNetwork | GraphNetwork, names: list[str]) -> dict[str, float]:
    """Return the median time of a frame, in milliseconds, by the name of what runs it.

    They take turns, so that other programs disturb all of them alike.

    Raises:
        UserError: none of them works.
    """
    domain = network.sources[0]
    static = network.static if isinstance(network, GraphNetwork) else True
    frame = np.random.default_rng(0).normal(size=(3, *SIZE)).astype(np.float32)
    calls: dict[str, Callable[[], Any]] = {}
    for name in names:
        try:
            runtime = open_runtime(network, name, is_trial=True)
            call: Callable[[], Any] = partial(runtime.logits, [[frame]], [None], domain, static)
            for _ in range(WARM_UP):
                call()
            calls[name] = call
        except (ImportError, RuntimeError, GraphError) as error:
            log.warning("%s cannot run the network in bfloat16: %s", name, error)
    if not calls:
        raise UserError(f"bfloat16 is not possible here: none of {', '.join(names)} works")
    took: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(ROUNDS):
        for name, call in calls.items():
            begun = time.perf_counter()
            call()
            took[name].append(1000 * (time.perf_counter() - begun))
    return {name: float(np.median(times)) for name, times in took.items()}


def open_runtime(network: Network, name: str, is_trial: bool = False) -> Runtime:
    """Return what runs a network in bfloat16.

    Args:
        network: the network in float32.
        name: "onnx", "openvino" or "torch".
        is_trial: whether to leave the network as it is: PyTorch's runtime changes the memory layout
            of its weights.

    Raises:
        ImportError: a package is missing.
        UserError: PyTorch is to run what is nothing but a graph.
    """
    if name == TORCH:
        model = network.model
        from unisal.inference.torch_network import TorchRuntime

        return TorchRuntime(deepcopy(model) if is_trial else model, "cpu", bf16=True)
    return OnnxRuntime(Bf16Network(network), bf16_runtime=name)


def pick_bf16(network: Network, runtime: str) -> Runtime:
    """Return what runs a network in bfloat16 on the CPU.

    Args:
        network: the network. One in memory is run by PyTorch unless something else is named.
        runtime: "torch"; "openvino"; or "auto" for the fastest one, see `fastest`.

    Raises:
        UserError: the processor has no instructions for it, or it is not possible.
    """
    if isinstance(network, GraphNetwork) and network.in_8_bits:
        raise UserError("the file holds a graph in 8 bits; bfloat16 needs one in float32")
    if runtime == ONNX and ONNX not in installed(network):
        raise UserError("runtime 'onnx' computes in fp32 alone here; leave it at 'auto'")
    if runtime == OPENVINO and not network.is_float32:
        raise UserError("runtime 'openvino' is for networks in float32; leave it at 'auto'")
    if lacks(BF16_FLAGS):
        raise no_bf16("cpu")
    name = runtime
    if runtime == "auto":
        name = fastest(network) if isinstance(network, SavedNetwork) else TORCH
    try:
        return open_runtime(network, name)
    except ImportError as error:
        raise UserError(
            f"runtime {name!r} needs the package {PACKAGES[name]} ({error}); install it"
        ) from None


def with_checked_bf16(network: Network, base: Network) -> tuple[Network, str]:
    """Return a network that computes in bfloat16 where that was checked, and what runs it then.

    Args:
        network: what is used otherwise: it has a graph in 8 bits of some domains.
        base: the run's network in float32.
    """
    weights = base.weights if isinstance(base, RunNetwork) else None
    if weights is None or lacks(BF16_FLAGS) or not list(weights.parent.glob("*_bf16_*.json")):
        return network, ""
    assert isinstance(base, RunNetwork)
    name = fastest(base) if installed(base) else TORCH
    # PyTorch is not loaded unasked: that takes longer than it could save on a picture.
    return (network, "") if name == TORCH else (CheckedBf16Network(network, base, name), name)


class Bf16Network(WithOtherGraphs):
    """A network whose graphs are computed in bfloat16; see `Network`."""

    def precision(self, domain: str, static: bool) -> str:
        """Return what the graph is computed in."""
        return BF16


class CheckedBf16Network(Bf16Network):
    """A run's network in bfloat16 where `quantize` has found that this agrees well enough.

    Args:
        network: what is used otherwise, and where it has a graph in 8 bits.
        base: the run's network in float32.
        runtime: what runs bfloat16.
    """

    def __init__(self, network: Network, base: RunNetwork, runtime: str) -> None:
        super().__init__(network)
        self._base = base
        self._runtime = runtime
        self._found: dict[tuple[str, bool], str] = {}

    def precision(self, domain: str, static: bool) -> str:
        """Return what the graph is computed in: "int8", "bf16" or "fp32"."""
        kind = domain, static
        if kind not in self._found:
            found = self._network.precision(domain, static)
            is_good = found == FP32 and self._was_checked(domain, static)
            self._found[kind] = BF16 if is_good else found
        return self._found[kind]

    def _was_checked(self, domain: str, static: bool) -> bool:
        weights = self._base.weights
        if weights is None:
            return False
        try:
            record = load_json(record_path(weights, domain, static))
        except UserError as error:
            log.info("bfloat16 is not used: %s", error)
            return False
        same = identity(self._base, self._runtime)
        return bool(record.get(HOLDS)) and all(record.get(k) == v for k, v in same.items())


def identity(network: RunNetwork, runtime: str) -> dict[str, str]:
    """Return of what an agreement was measured, as the record beside the weights says."""
    version = importlib.metadata.version(PACKAGES[runtime])
    return {NETWORK: network.key, RUNTIME: runtime, VERSION: version}


def _key(network: RunNetwork | GraphNetwork, names: list[str]) -> str:
    """Return a key of all that the times depend on."""
    versions = [f"{name} {importlib.metadata.version(PACKAGES[name])}" for name in names]
    processor = [cpu_name(), *sorted(cpu_flags() & BF16_FLAGS), str(compute_threads())]
    return key_of(network.key, *versions, *processor)


def _remembered(path: Path, names: list[str]) -> str | None:
    """Return what was found before; None if there is nothing that can be used."""
    if not path.is_file():
        return None
    try:
        found = load_json(path).get(RUNTIME)
    except UserError as error:
        log.info("%s; it is measured again", error)
        return None
    return found if isinstance(found, str) and found in names else None
