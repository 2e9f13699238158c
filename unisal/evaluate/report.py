"""One page about a scored run: `report.html` in its folder, to open from disk.

The page needs no other file and fetches nothing.
"""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Callable, Sequence
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jinja2
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from tqdm import tqdm

from unisal.data import SaliencyDataset
from unisal.data.pictures import read_rgb
from unisal.evaluate import chart as layout
from unisal.evaluate.baselines import CENTRE_BIAS, CHANCE, OBSERVERS
from unisal.evaluate.chart import Chart, histogram
from unisal.evaluate.frames import AUCS, ScoringOptions
from unisal.evaluate.scores import N_RESAMPLES, Result, Scores
from unisal.files import write_atomically
from unisal.version import __version__
from unisal.visualize.difference import TOO_LITTLE, TOO_MUCH, draw_difference, draw_fixations
from unisal.visualize.overlay import draw_overlay, scale_to_peak
from unisal.visualize.panels import resize, shrink

REPORT = "report.html"
"""Name of the page in the run's folder."""
TEMPLATE = "report_template.html"
N_SHOWN = 4
"""How many of the best and of the worst images or videos are shown."""
RANKED_BY = "cc"
"""The metric that says which are best; where it was not computed, the first one."""
ROOM, QUALITY, PIXELS = (360, 480), 84, 6e6
"""Of the pictures: (height, width) at most, quality as JPEG, and at most how many pixels on the
page, beyond which they are smaller, so that it stays light."""
N_PANELS = 4

LogDensity = NDArray[np.float32]
Predict = Callable[[Result, int, int], LogDensity]
"""(result, video or image from 0, frame from 1) -> the log-density `[h, w]` that was scored."""


class About(NamedTuple):
    """What a metric says."""

    name: str
    higher_is_better: bool
    chance: str
    text: str

    @property
    def arrow(self) -> str:
        return "↑" if self.higher_is_better else "↓"

    @property
    def direction(self) -> str:
        return "higher is better" if self.higher_is_better else "lower is better"


ABOUT = {
    "kld": About(
        "KLD",
        False,
        "not a fixed value",
        "Information that the prediction loses about the ground truth's density, in nats "
        "(Kullback-Leibler divergence); 0 is perfect. What was missed costs most.",
    ),
    "nss": About(
        "NSS",
        True,
        "0",
        "How far the predicted density at fixated pixels lies above its mean, in its standard "
        "deviations.",
    ),
    "cc": About(
        "CC",
        True,
        "0",
        "Correlation of the predicted density with the ground truth's over all pixels; 1 is "
        "perfect.",
    ),
    "sim": About(
        "SIM",
        True,
        "not a fixed value",
        "The share of the two densities that overlaps; 1 is perfect.",
    ),
    "aucj": About(
        "AUC-J",
        True,
        "0.5",
        "How well the predicted density tells fixated pixels from all others (AUC-Judd); 1 is "
        "perfect. A guess at the centre does well.",
    ),
    "aucs": About(
        "sAUC",
        True,
        "0.5",
        "The same with pixels that were fixated in other pictures in place of all others (shuffled "
        "AUC). A guess at the centre gains nothing.",
    ),
}
"""By the metric's name in `unisal.evaluate.frames.METRICS`."""

BASELINES = {
    CHANCE: "Every pixel alike.",
    CENTRE_BIAS: "Where people looked in the training part, whatever the picture.",
    OBSERVERS: "One half of the people predicts where the other half looked.",
}
"""What is scored beside the network."""


class Cell(NamedTuple):
    """A mean and its interval, as text."""

    value: str
    interval: str = ""


class Line(NamedTuple):
    """A line of the score table."""

    head: str
    cells: list[Cell]
    is_main: bool = False


class Distribution(NamedTuple):
    """How a metric is spread over the images or videos."""

    about: About
    cell: Cell
    chart: Chart | None


class Panel(NamedTuple):
    """A picture on the page."""

    label: str
    alt: str
    uri: str
    width: int
    height: int


class Example(NamedTuple):
    """An image, or a frame of a video, with its panels, and the scores of the whole."""

    title: str
    frame: str
    panels: list[Panel]
    scores: list[tuple[About, str]]


class Section(NamedTuple):
    """What the page says about one source."""

    anchor: str
    title: str
    unit: str
    facts: list[tuple[str, str]]
    metrics: list[About]
    table: list[Line]
    distributions: list[Distribution]
    ranked_by: About
    best: list[Example]
    worst: list[Example]
    rows: list[tuple[str, list[str]]]


def write_report(
    path: Path,
    run: str,
    results: Sequence[Result],
    predict: Predict,
    options: ScoringOptions,
    now: datetime | None = None,
) -> None:
    """Write the page.

    Args:
        path: the file, replaced if there is one.
        run: name of the run.
        results: the scores of each source.
        predict: predicts again the few frames that are shown.
        options: how it was scored.
        now: the time it names.
    """
    chosen = [extremes(result.scores) for result in results]
    n_panels = N_PANELS * sum(len(best) + len(worst) for best, worst in chosen)
    scale = min(1.0, math.sqrt(PIXELS / (max(1, n_panels) * ROOM[0] * ROOM[1])))
    room = int(ROOM[0] * scale), int(ROOM[1] * scale)
    sections: list[Section] = []
    for result, shown in zip(results, chosen, strict=True):
        numbered = f"source-{len(sections) + 1}"
        sections.append(_section(result, shown, partial(predict, result), options, room, numbered))
    html = _template().render(
        run=run,
        now=now or datetime.now().astimezone(),
        version=__version__,
        sections=sections,
        options=options,
        metrics=[ABOUT[name] for name in options.metrics],
        baselines={n: t for n, t in BASELINES.items() if any(n in r.baselines for r in results)},
        has_videos=any(result.dataset.dynamic for result in results),
        n_resamples=N_RESAMPLES,
        layout=layout,
        too_much=TOO_MUCH,
        too_little=TOO_LITTLE,
    )
    html = html.strip() + "\n"
    write_atomically(path, lambda temporary: temporary.write_text(html, encoding="utf-8"))


def extremes(scores: Scores, n: int = N_SHOWN) -> tuple[list[int], list[int]]:
    """-> the rows of the best and of the worst images or videos, at most `n` each, none of
    them in both, the best and the worst first; those without a score are in neither."""
    name = ranking_metric(scores)
    column = scores.rows[:, scores.metrics.index(name)]
    order = np.argsort(-column if ABOUT[name].higher_is_better else column, kind="stable")
    order = order[~np.isnan(column[order])]
    n_best = min(n, (len(order) + 1) // 2)
    n_worst = min(n, len(order) // 2)
    return order[:n_best].tolist(), order[::-1][:n_worst].tolist()


def ranking_metric(scores: Scores) -> str:
    """-> the name of the metric that says which are best."""
    return RANKED_BY if RANKED_BY in scores.metrics else scores.metrics[0]


def draw_panels(
    dataset: SaliencyDataset,
    index: int,
    number: int,
    log_density: LogDensity,
    room: tuple[int, int],
) -> list[tuple[str, NDArray[np.uint8]]]:
    """Draw one frame.

    Args:
        dataset, index, number: which one.
        log_density: the prediction.
        room: (height, width) that the pictures have at most.

    Returns:
        Pictures `[H, W, 3] uint8` of one size with their labels: the frame; the ground truth and
        the fixations over it; the prediction over it; the difference of the two.
    """
    image = dataset.files(index, number).image
    assert image is not None
    rgb = shrink(read_rgb(image), room)
    size = rgb.shape[0], rgb.shape[1]
    truth = resize(dataset.read_density(index, number), size)
    prediction = resize(np.exp(log_density), size)
    fixations = dataset.read_fixation_map(index, number)
    return [
        ("Picture", rgb),
        ("Ground truth", draw_fixations(draw_overlay(rgb, scale_to_peak(truth)), fixations)),
        ("Prediction", draw_overlay(rgb, scale_to_peak(prediction))),
        ("Difference", draw_difference(rgb, prediction, truth)),
    ]


def as_uri(rgb: NDArray[np.uint8]) -> str:
    """A picture -> a JPEG inside an address, so that the page needs no file for it."""
    file = io.BytesIO()
    Image.fromarray(rgb).save(file, "JPEG", quality=QUALITY, optimize=True)
    return f"data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode()}"


def _section(
    result: Result,
    shown: tuple[list[int], list[int]],
    predict: Callable[[int, int], LogDensity],
    options: ScoringOptions,
    room: tuple[int, int],
    anchor: str,
) -> Section:
    scores = result.scores
    with tqdm(
        total=sum(map(len, shown)), desc=f"report {scores.name}", unit="picture", disable=None
    ) as bar:
        best, worst = (
            [_example(result, index, predict, room, bar) for index in indices] for indices in shown
        )
    return Section(
        anchor=anchor,
        title=result.dataset.source,
        unit="video" if result.dataset.dynamic else "image",
        facts=_facts(result, options),
        metrics=[ABOUT[name] for name in scores.metrics],
        table=_table(result, options.random_seed),
        distributions=_distributions(result, options.random_seed),
        ranked_by=ABOUT[ranking_metric(scores)],
        best=best,
        worst=worst,
        rows=[
            (title, list(map(_number, row)))
            for title, row in zip(scores.titles, scores.rows.tolist(), strict=True)
        ],
    )


def _facts(result: Result, options: ScoringOptions) -> list[tuple[str, str]]:
    dataset, scores = result.dataset, result.scores
    n = len(scores.rows)
    facts = [("Part", dataset.phase), ("Videos" if dataset.dynamic else "Images", f"{n:,}")]
    if dataset.dynamic:
        facts.append(("Frames", f"{int(scores.n_frames.sum()):,}"))
    facts.append(("Network's modules for", result.domain))
    if dataset.dynamic and set(AUCS) & set(scores.metrics):
        facts.append(("AUCs computed on", f"{options.auc_portion:.0%} of the frames"))
    facts.append(("Files", f"{scores.name}_eval_*.json"))
    return facts


def _table(result: Result, seed: int) -> list[Line]:
    """-> the means of the network and of the baselines with their intervals, and how many values
    were left out of the network's."""
    scores, is_video = result.scores, result.dataset.dynamic
    lines = [
        Line("This run, mean over videos" if is_video else "This run", _cells(scores, seed), True)
    ]
    if is_video:
        lines.append(Line("mean over all frames", _cells(scores, seed, weighted=True)))
    lines += [Line(name, _cells(other, seed)) for name, other in result.baselines.items()]
    if scores.n_undefined.any():
        counts = [Cell(f"{n:,}") for n in scores.n_undefined.tolist()]
        lines.append(Line("undefined, left out of this run's means", counts))
    return lines


def _cells(scores: Scores, seed: int, weighted: bool = False) -> list[Cell]:
    means = scores.weighted_means if weighted else scores.means
    ends = scores.intervals(seed, weighted).T
    return [
        Cell(_number(mean), "" if math.isnan(mean) else f"{_number(low)} – {_number(high)}")
        for mean, (low, high) in zip(means.tolist(), ends.tolist(), strict=True)
    ]


def _distributions(result: Result, seed: int) -> list[Distribution]:
    scores = result.scores
    ends = scores.intervals(seed).T.tolist()
    found = []
    for i, (name, cell) in enumerate(zip(scores.metrics, _cells(scores, seed), strict=True)):
        others = {n: float(other.means[i]) for n, other in result.baselines.items()}
        chart = histogram(
            scores.rows[:, i], float(scores.means[i]), (ends[i][0], ends[i][1]), others
        )
        found.append(Distribution(ABOUT[name], cell, chart))
    return found


def _example(
    result: Result,
    index: int,
    predict: Callable[[int, int], LogDensity],
    room: tuple[int, int],
    bar: Any,
) -> Example:
    scores, n_frames = result.scores, int(result.scores.n_frames[index])
    number = (n_frames + 1) // 2
    title = scores.titles[index]
    drawn = draw_panels(result.dataset, index, number, predict(index, number), room)
    panels = [
        Panel(label, f"{label} of {title}", as_uri(rgb), rgb.shape[1], rgb.shape[0])
        for label, rgb in drawn
    ]
    bar.update()
    frame = f"frame {number} of {n_frames}" if result.dataset.dynamic else ""
    named = zip(scores.metrics, scores.rows[index].tolist(), strict=True)
    return Example(title, frame, panels, [(ABOUT[name], _number(value)) for name, value in named])


def _number(value: float) -> str:
    return "–" if math.isnan(value) else f"{value:.3f}"


def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(TEMPLATE)
