"""The formats that a network is exported to: how a file is written, and what goes into it."""

from __future__ import annotations

import json
import tempfile
import warnings
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from unisal.errors import UserError
from unisal.export.plan import DENSITY, LOGITS, PICTURE, Plan
from unisal.files import write_atomically
from unisal.inference.graph_file import EXPORTED, NEXT_STATE, STATE, Graph, with_entries
from unisal.inference.sessions import import_openvino, openvino_core
from unisal.types import STRIDE

if TYPE_CHECKING:
    from torch import Tensor

    from unisal.export.torch_model import WholeNetwork

FACTS = "unisal"
"""The name under which a file says what it is, as JSON."""
ARCHIVED = "metadata.json"
"""The same in files that are archives."""
MAX_BATCH, MAX_SIDE, MAX_CELLS = 256, 16384, 64
"""What PyTorch's exported program accepts at most: pictures, pixels of a side, and cells of a side
of the first state."""
TEXTS = {
    PICTURE: "[batch, height, width, 3] uint8: RGB, upright",
    DENSITY: "[batch, height, width] float32: each sums to 1",
    LOGITS: "[batch, height, width] float32: the network's map before resize and softmax, divided "
    "by the domain's temperature",
    STATE: "[batch, channels, rows, columns] float32: what the frame before returned; zeros "
    "[batch, channels, 2, 2] before the first one",
    NEXT_STATE: "[batch, channels, height / 32, width / 32] float32, of what the network sees",
}
"""What inputs and outputs are."""


class Format(NamedTuple):
    """A format."""

    suffix: str
    """How its files' names end."""
    precisions: tuple[str, ...]
    """What the network may compute in."""
    packages: tuple[tuple[str, str], ...]
    """What has to be installed: modules, and the packages that they come with."""
    write: Callable[[Path, Graph, Plan], None]
    """Writes a graph, whose facts go into the file, to a path."""


def export(path: Path, graph: Graph, plan: Plan, format: str) -> dict[str, Any]:
    """Write a network for other programs: from pictures to densities, in one file.

    Args:
        path: the file; OpenVINO's weights lie beside it, with the suffix `.bin`.
        graph: what `unisal.predict.Predictor.graph` returns.
        plan: the sizes and the output.
        format: one of `FORMATS`.

    Returns:
        What the file says of itself.

    Raises:
        UserError: see `check_format`; the format needs a plan with fixed sizes.
        OSError: the file cannot be written.
    """
    chosen = check_format(format, graph.facts["precision"], path)
    if format in FIXED and (plan.resize or plan.size is None or plan.batch != 1):
        raise UserError(f"{format} takes one picture of one size, and does not resize inside")
    facts = _about(graph, plan)
    chosen.write(path, Graph(graph.model, {**graph.facts, FACTS: facts}), plan)
    return facts


def check_format(name: str, precision: str, path: Path) -> Format:
    """Return the format with that name.

    Args:
        name: one of `FORMATS`.
        precision: what the network is to compute in.
        path: the file that is to be written.

    Raises:
        UserError: there is no such format, it does not compute in that precision, a package is
            missing, or the file's name ends otherwise.
    """
    chosen = _find(name)
    if precision not in chosen.precisions:
        raise UserError(
            f"precision is {precision!r}; {name} is written in {' or '.join(chosen.precisions)}"
        )
    if path.suffix != chosen.suffix:
        raise UserError(f"out is {str(path)!r}; files of {name} end in {chosen.suffix}")
    for module, package in chosen.packages:
        if find_spec(module) is None:
            raise UserError(f"{name} needs the package {package}: pip install {package}")
    return chosen


def suffix_of(name: str) -> str:
    """Return how the names of a format's files end.

    Raises:
        UserError: there is no such format.
    """
    return _find(name).suffix


def _find(name: str) -> Format:
    if name not in FORMATS:
        raise UserError(f"format is {name!r}; it has to be one of {', '.join(FORMATS)}")
    return FORMATS[name]


def _about(graph: Graph, plan: Plan) -> dict[str, Any]:
    """Return what a file says of itself."""
    facts = graph.facts
    named = [PICTURE, plan.output] if facts["static"] else [PICTURE, STATE, plan.output, NEXT_STATE]
    copied = ("domain", "precision", "preset_name", "licence", "weights_sha256", "version")
    return {
        "format": EXPORTED,
        "kind": "images" if facts["static"] else "videos",
        **{name: facts.get(name) for name in copied},
        "temperature": facts["temperatures"].get(facts["domain"], 1),
        "frame_step": facts["preset"]["frame_step"],
        "frame_rate": facts["preset"]["frame_rate"],
        **plan.facts(),
        "tensors": {name: TEXTS[name] for name in named},
    }


def _write_onnx(path: Path, graph: Graph, plan: Plan) -> None:
    content = _onnx_content(graph, plan)
    write_atomically(path, lambda temporary: temporary.write_bytes(content))


def _onnx_content(graph: Graph, plan: Plan) -> bytes:
    from unisal.export.onnx_model import whole_model

    return with_entries(whole_model(graph, plan), graph.facts[FACTS])


def _write_openvino(path: Path, graph: Graph, plan: Plan) -> None:
    openvino = import_openvino()
    model = openvino_core().read_model(_onnx_content(graph, plan))
    for name, value in graph.facts[FACTS].items():
        text = value if isinstance(value, str) else json.dumps(value)
        model.set_rt_info(text, [FACTS, name])
    with tempfile.TemporaryDirectory() as folder:
        written = Path(folder) / "model.xml"
        openvino.save_model(model, written, compress_to_fp16=False)
        weights = written.with_suffix(".bin").read_bytes()
        # The one without the other is no model, and the old one with the new weights a wrong one.
        path.unlink(missing_ok=True)
        write_atomically(path.with_suffix(".bin"), lambda new: new.write_bytes(weights))
        write_atomically(path, lambda new: new.write_bytes(written.read_bytes()))


def _write_torchscript(path: Path, graph: Graph, plan: Plan) -> None:
    import torch

    network, example = _in_pytorch(graph, plan)
    with torch.inference_mode(), warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # the guide says that PyTorch deprecates it
        core, shape = network.core, example[0].shape
        rows, columns = network.input_cells(example[0])
        frame = torch.zeros(shape[0], 3, STRIDE * rows, STRIDE * columns)
        taken = [frame, network.prior_maps(shape[0], rows, columns)]
        taken += [torch.zeros(shape[0], network.channels, rows, columns)] if example[1:] else []
        network.core = torch.jit.trace(core, tuple(taken), check_trace=False)
        scripted = torch.jit.script(network)
        extra = {ARCHIVED: json.dumps(graph.facts[FACTS])}
        write_atomically(path, lambda new: torch.jit.save(scripted, str(new), _extra_files=extra))


def _write_torch_export(path: Path, graph: Graph, plan: Plan) -> None:
    import torch

    network, example = _in_pytorch(graph, plan)
    batch = plan.batch or torch.export.Dim("batch", min=1, max=MAX_BATCH)
    sides: Sequence[Any] = [
        torch.export.Dim(name, min=1, max=MAX_SIDE) for name in ("height", "width")
    ]
    if not plan.resize:
        sides = plan.size or [
            STRIDE * torch.export.Dim(f"{name}_cells", min=1, max=MAX_SIDE // STRIDE)
            for name in ("height", "width")
        ]
    shapes: dict[str, dict[int, Any]] = {PICTURE: _dynamic((batch, *sides))}
    if example[1:]:
        names = "state_height", "state_width"
        cells = [torch.export.Dim(name, min=2, max=MAX_CELLS) for name in names]
        shapes[STATE] = {**_dynamic((batch,)), 2: cells[0], 3: cells[1]}
    program = torch.export.export(network, example, dynamic_shapes=shapes, strict=False)
    extra = {ARCHIVED: json.dumps(graph.facts[FACTS])}
    write_atomically(path, lambda new: torch.export.save(program, str(new), extra_files=extra))


def _write_tflite(path: Path, graph: Graph, plan: Plan) -> None:
    import litert_torch

    network, example = _in_pytorch(graph, plan)
    if example[1:]:  # of the size that the network gives, since TFLite knows no other one
        rows, columns = network.input_cells(example[0])
        example = example[0], example[1].new_zeros(*example[1].shape[:2], rows, columns)
    with _quiet(litert_torch):
        converted = litert_torch.convert(network, example)
        write_atomically(path, lambda new: _save_tflite(new, converted, graph.facts[FACTS]))


def _save_tflite(path: Path, converted: Any, facts: dict[str, Any]) -> None:
    """Write a model with the facts behind it: as an archive, where its readers look for files."""
    converted.export(str(path))
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(ARCHIVED, json.dumps(facts))


@contextmanager
def _quiet(package: Any) -> Iterator[None]:
    """Keep LiteRT's converter from telling of its steps, which it asks a variable about."""
    shown, package.config.show_progress = package.config.show_progress, False
    try:
        yield
    finally:
        package.config.show_progress = shown


def _dynamic(sides: Sequence[Any]) -> dict[int, Any]:
    """Return the sides that are not fixed, by their place."""
    return {i: side for i, side in enumerate(sides) if not isinstance(side, int)}


def _in_pytorch(graph: Graph, plan: Plan) -> tuple[WholeNetwork, tuple[Tensor, ...]]:
    """Return the network as a module, and inputs for it."""
    import torch

    from unisal.export.torch_model import whole_network

    network = whole_network(graph, plan, bf16=graph.facts["precision"] == "bf16")
    height, width = plan.size if plan.size and not plan.resize else (96, 160)
    batch = plan.batch or 2
    example = [torch.zeros(batch, height, width, 3, dtype=torch.uint8)]
    if not graph.facts["static"]:
        example.append(torch.zeros(batch, network.channels, 3, 5))
    return network, tuple(example)


TORCH = (("torch", "torch"),)
ONNX = (("onnx", "onnx"),)
OPENVINO, LITERT = ("openvino", "openvino"), ("litert_torch", "litert-torch")
FIXED = ("tflite",)
"""Formats whose files take one picture of one size, which is the network's. LiteRT's converter also
takes more, but what it makes of two pictures gives wrong densities (measured with 0.10)."""
FORMATS = {
    "onnx": Format(".onnx", ("fp32", "int8"), ONNX, _write_onnx),
    "torch_export": Format(".pt2", ("fp32", "bf16"), (*ONNX, *TORCH), _write_torch_export),
    "torchscript": Format(".pt", ("fp32", "bf16"), (*ONNX, *TORCH), _write_torchscript),
    "openvino": Format(".xml", ("fp32", "int8"), (*ONNX, OPENVINO), _write_openvino),
    "tflite": Format(".tflite", ("fp32",), (*ONNX, *TORCH, LITERT), _write_tflite),
}
"""The formats by name."""
