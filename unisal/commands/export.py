"""The command `export`: a run's network as a file that other programs run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from unisal.errors import UserError, cause
from unisal.export.formats import FIXED, check_format, export
from unisal.export.plan import OUTPUTS, Plan
from unisal.files import require_writable_file
from unisal.inference.graph_file import Graph
from unisal.predict.loading import load
from unisal.predict.predictor import Predictor
from unisal.predict.presets import VIDEO_PRESET, Preset, is_video_preset
from unisal.types import STRIDE, Size

FIXED_SIZE = 288, 384
"""What pictures of 3 : 4 are resized to, for formats that take one size."""


def export_run(
    *,
    train_id: str | None,
    format: str,
    out: Path,
    domain: str | None,
    video: bool,
    precision: str,
    output: str,
    resize: bool | None,
    size: Size | None,
    batch: int | None,
    licence: str | None,
) -> None:
    """Write a run's network to a file for other programs.

    Args:
        train_id: the run; None for the one that ships with the program.
        format: one of `unisal.export.formats.FORMATS`.
        out: the file.
        domain: the network domain; None for that of the run's default preset.
        video: whether the network sees the frames of a video one after the other.
        precision: what it computes in, one that the format allows.
        output: "density" or "logits".
        resize: see `unisal.export.plan.Plan`; None for True where the format allows it.
        size: see `unisal.export.plan.Plan`.
        batch: see `unisal.export.plan.Plan`.
        licence: that of the weights, for the file's metadata.

    Raises:
        UserError: an option is wrong, a package is missing, the run cannot be read, or the file
            cannot be written.
    """
    if output not in OUTPUTS:
        raise UserError(f"output is {output!r}; it has to be one of {', '.join(OUTPUTS)}")
    check_format(format, precision, out)
    require_writable_file(out, "name another file with --out")
    if format in FIXED:
        if resize:
            raise UserError(f"{format} does not resize inside; leave out --resize")
        if batch not in (None, 1):
            raise UserError(f"batch is {batch}; {format} takes one picture at a time")
        resize, size, batch = False, size or FIXED_SIZE, 1
    resize = resize is not False
    predictor = load(train_id, "cpu", precision="int8" if precision == "int8" else "fp32")
    source, chosen = _choose(predictor, domain, video)
    graph = predictor.graph(source, chosen, licence)
    graph = Graph(graph.model, {**graph.facts, "precision": precision})
    preset = predictor.preset(source)
    plan = _plan(preset, resize=resize, size=size, batch=batch, output=output)
    try:
        facts = export(out, graph, plan, format)
    except OSError as error:
        raise UserError(f"{out} cannot be written: {cause(error)}") from None
    for line in _lines(out, facts):
        print(line)


def _choose(predictor: Predictor, domain: str | None, video: bool) -> tuple[str, str]:
    """Return the preset and the domain to export.

    Raises:
        UserError: the network has no such domain, or it knows no videos.
    """
    source = predictor.image_preset
    if video:
        source = domain if domain and is_video_preset(domain) else VIDEO_PRESET
    domain = domain or predictor.preset(source).domain
    engine = predictor.engine
    if domain not in engine.sources:
        raise UserError(f"domain is {domain!r}; the network has {', '.join(engine.sources)}")
    if video and engine.is_static(domain):
        raise UserError(
            f"domain {domain!r} takes every frame of a video as a picture by itself; leave out "
            "--video, and predict the frames with the file"
        )
    return source, domain


def _plan(
    preset: Preset, *, resize: bool, size: Size | None, batch: int | None, output: str
) -> Plan:
    """Return the plan of what was asked for, with the sizes that the preset would choose."""
    native = None
    if resize and size is None and preset.input_size is not None:
        if preset.native_frame_size is None:
            size = preset.input_size
        else:
            native = (preset.native_frame_size, preset.input_size)
    return Plan(resize=resize, size=size, native=native, batch=batch, output=output)


def _lines(out: Path, facts: dict[str, Any]) -> list[str]:
    """Return what is printed."""
    what = f"{facts['kind']}, domain {facts['domain']}, {facts['precision']}"
    if facts["size"] and not facts["resize"]:
        what += ", pictures of {} x {}".format(*facts["size"])
    written = [out, out.with_suffix(".bin")] if out.suffix == ".xml" else [out]
    size = sum(path.stat().st_size for path in written) / 1e6
    lines = [f"{' and '.join(map(str, written))}: {what}, {size:.1f} MB"]
    lines += [f"  {name}: {text}" for name, text in facts["tensors"].items()]
    if facts["kind"] == "videos":
        lines.append(
            f"  state: of the frame {facts['frame_step']} frames before, at "
            f"{facts['frame_rate']} frames per second"
        )
    return lines


def read_size(value: Any) -> Size | None:
    """Return the size that an option names.

    Args:
        value: two numbers, height and width; None for none.

    Raises:
        UserError: it is no such value, or not of multiples of 32.
    """
    if value is None:
        return None
    sides = value if isinstance(value, tuple | list) else (value,)
    if len(sides) != 2 or any(type(n) is not int or n < STRIDE or n % STRIDE for n in sides):
        raise UserError(
            f"size is {value!r}; it has to be height and width, multiples of {STRIDE}: "
            "--size=288,384"
        )
    return sides[0], sides[1]
