"""A page about a scored run: `report.html` in its folder, to open from disk.

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
from typing import NamedTuple

import jinja2
import numpy as np
from PIL import Image

from unisal.data import SaliencyDataset
from unisal.evaluate import chart as layout
from unisal.evaluate.baselines import CENTRE_BIAS, CHANCE, OBSERVERS
from unisal.evaluate.chart import Chart, histogram
from unisal.evaluate.chart_subsets import LEFT, SubsetChart, subset_chart
from unisal.evaluate.comparisons import N_TEST_RESAMPLES, Comparison
from unisal.evaluate.metric_table import METRICS, Metric
from unisal.evaluate.options import ScoringOptions
from unisal.evaluate.people import ONE_LEFT_OUT, RUN_ON_ONE, WHOLE_GROUP
from unisal.evaluate.scores import N_RESAMPLES, Result, Scores
from unisal.evaluate.spectral import SPECTRAL_RESIDUAL
from unisal.evaluate.subsets import FIXATION, TIME
from unisal.files import write_atomically
from unisal.progress import SILENT, Bar, Progress
from unisal.types import RGB, LogDensity, Size
from unisal.version import __version__
from unisal.visualize.difference import (
    TOO_LITTLE_COLOUR,
    TOO_MUCH_COLOUR,
    draw_difference,
    draw_fixations,
)
from unisal.visualize.overlay import draw_overlay, scale_to_peak
from unisal.visualize.panels import resize, shrink

REPORT = "report.html"
"""Name of the page in the run's folder."""
TEMPLATE = "report_template.html"
N_SHOWN = 4
"""How many of the best and of the worst images or videos are shown."""
RANKING_METRIC = "cc"
"""The metric that says which are best; where it was not computed, the first one."""
MAX_PANEL_SIZE, JPEG_QUALITY, MAX_PAGE_PIXELS = (360, 480), 84, 6e6
"""Of the pictures: the largest (height, width), the JPEG quality, and the largest number of pixels
on the page, beyond which they get smaller to keep it light."""
N_PANELS = 4

Predict = Callable[[Result, int, int], LogDensity]
"""Returns the log-density `[h, w]` that was scored, given a result, the index of a video or image
(from 0) and the number of a frame (from 1)."""

BASELINES = {
    CHANCE: "Every pixel is equally likely.",
    CENTRE_BIAS: "Where people looked in the training part, whatever the picture.",
    OBSERVERS: "One half of the people predicts where the other half looked.",
    SPECTRAL_RESIDUAL: "What is unusual in the spectrum of the picture, blurred as the ground "
    "truth is (Hou and Zhang 2007).",
    WHOLE_GROUP: "What the correlation of the halves lets one expect of two groups that are each "
    "as large as that of all observers: 2r / (1 + r), by Spearman and Brown. The other metrics "
    "have no such formula.",
    RUN_ON_ONE: "This run predicts where one person looked; the mean over the people.",
    ONE_LEFT_OUT: "Everybody else predicts where one person looked; the mean over the people. Only "
    "to be compared with the same of this run, since the ground truth is a single person's gaze.",
}
"""Explanations of the reference baselines."""


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
    """The distribution of a metric over the images or videos."""

    metric: Metric
    cell: Cell
    chart: Chart | None


class ReportPanel(NamedTuple):
    """A picture on the page."""

    label: str
    alt: str
    uri: str
    width: int
    height: int


class ShownExample(NamedTuple):
    """An image, or a frame of a video, with its panels and the scores of the whole video."""

    title: str
    frame: str
    panels: list[ReportPanel]
    scores: list[tuple[Metric, str]]


class Division(NamedTuple):
    """The scores of the subsets that something divides the gaze into."""

    by: str
    charts: list[tuple[Metric, SubsetChart | None]]
    rows: list[tuple[str, int, list[str]]]
    """The name of a subset, its number of stimuli, and its means."""


class TestLine(NamedTuple):
    """A test of one metric."""

    metric: str
    means: tuple[str, str]
    difference: Cell
    p: str


class Tests(NamedTuple):
    """The tests of two runs or groups."""

    title: str
    text: str
    lines: list[TestLine]


class Section(NamedTuple):
    """The part of the page about one source."""

    anchor: str
    title: str
    unit: str
    facts: list[tuple[str, str]]
    metrics: list[Metric]
    table: list[Line]
    distributions: list[Distribution]
    tests: list[Tests]
    divisions: list[Division]
    ranked_by: Metric
    best: list[ShownExample]
    worst: list[ShownExample]
    rows: list[tuple[str, list[str]]]


def write_report(
    path: Path,
    run: str,
    results: Sequence[Result],
    predict: Predict,
    options: ScoringOptions,
    progress: Progress = SILENT,
    now: datetime | None = None,
) -> None:
    """Write the page.

    Args:
        path: the file, replaced if there is one.
        run: name of the run.
        results: the scores of each source.
        predict: predicts the few frames that are shown again.
        options: how the run was scored.
        progress: counts the pictures.
        now: the time that the page states; by default the present.
    """
    chosen = [extremes(result.scores) for result in results]
    n_panels = N_PANELS * sum(len(best) + len(worst) for best, worst in chosen)
    scale = min(
        1.0, math.sqrt(MAX_PAGE_PIXELS / (max(1, n_panels) * MAX_PANEL_SIZE[0] * MAX_PANEL_SIZE[1]))
    )
    max_size = int(MAX_PANEL_SIZE[0] * scale), int(MAX_PANEL_SIZE[1] * scale)
    sections: list[Section] = []
    for result, shown in zip(results, chosen, strict=True):
        n_shown = sum(map(len, shown))
        with progress.bar(f"report {result.scores.name}", "picture", n_shown) as bar:
            best, worst = (
                [
                    _example(result, index, partial(predict, result), max_size, bar)
                    for index in indices
                ]
                for indices in shown
            )
        anchor = f"source-{len(sections) + 1}"
        sections.append(_section(result, best, worst, options, anchor))
    html = _template().render(
        run=run,
        now=now or datetime.now().astimezone(),
        version=__version__,
        sections=sections,
        options=options,
        metrics=[
            METRICS[name] for name in dict.fromkeys(m for r in results for m in r.scores.metrics)
        ],
        baselines={n: t for n, t in BASELINES.items() if any(n in r.baselines for r in results)},
        has_tests=any(result.comparisons for result in results),
        n_test_resamples=f"{N_TEST_RESAMPLES:,}",
        has_videos=any(result.dataset.is_video for result in results),
        n_resamples=N_RESAMPLES,
        layout=layout,
        left=LEFT,
        too_much=TOO_MUCH_COLOUR,
        too_little=TOO_LITTLE_COLOUR,
    )
    # Names of files need not be UTF-8.
    page = (html.strip() + "\n").encode("utf-8", errors="backslashreplace")
    write_atomically(path, lambda temporary: temporary.write_bytes(page))


def extremes(scores: Scores, n: int = N_SHOWN) -> tuple[list[int], list[int]]:
    """Find the best and the worst images or videos by the ranking metric.

    Args:
        scores: those of a source.
        n: how many of each to find, at most.

    Returns:
        Rows of `scores`, the best first and the worst first. None is in both; those without a
        score are in neither.
    """
    name = ranking_metric(scores)
    column = scores.rows[:, scores.metrics.index(name)]
    order = np.argsort(-column if METRICS[name].higher_is_better else column, kind="stable")
    order = order[~np.isnan(column[order])]
    n_best = min(n, (len(order) + 1) // 2)
    n_worst = min(n, len(order) // 2)
    return order[:n_best].tolist(), order[::-1][:n_worst].tolist()


def ranking_metric(scores: Scores) -> str:
    """Return the name of the metric that says which are best."""
    return RANKING_METRIC if RANKING_METRIC in scores.metrics else scores.metrics[0]


def draw_panels(
    dataset: SaliencyDataset,
    index: int,
    number: int,
    log_density: LogDensity,
    max_size: Size,
) -> list[tuple[str, RGB]]:
    """Draw one frame.

    Args:
        dataset: the scored part.
        index: index of the video or image, from 0.
        number: number of the frame, from 1.
        log_density: the prediction `[h, w]`.
        max_size: the largest (height, width) of the pictures.

    Returns:
        Labels with pictures of one size: the frame; the ground truth and the fixations over it; the
        prediction over it; the difference of the two.
    """
    rgb = shrink(dataset.read_picture(index, number), max_size)
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


def as_uri(rgb: RGB) -> str:
    """Return a picture as a JPEG in a data URI, so that the page needs no file for it."""
    file = io.BytesIO()
    Image.fromarray(rgb).save(file, "JPEG", quality=JPEG_QUALITY, optimize=True)
    return f"data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode()}"


def _section(
    result: Result,
    best: list[ShownExample],
    worst: list[ShownExample],
    options: ScoringOptions,
    anchor: str,
) -> Section:
    """Lay out the section of a source."""
    scores = result.scores
    return Section(
        anchor=anchor,
        title=result.dataset.source,
        unit="video" if result.dataset.is_video else "image",
        facts=_facts(result, options),
        metrics=[METRICS[name] for name in scores.metrics],
        table=_table(result, options.random_seed),
        distributions=_distributions(result, options.random_seed),
        tests=_tests(result.comparisons, "video" if result.dataset.is_video else "image"),
        divisions=_divisions(result, options.random_seed),
        ranked_by=METRICS[ranking_metric(scores)],
        best=best,
        worst=worst,
        rows=[
            (title, list(map(_number, row)))
            for title, row in zip(scores.titles, scores.rows.tolist(), strict=True)
        ],
    )


def _facts(result: Result, options: ScoringOptions) -> list[tuple[str, str]]:
    """Return what a reader has to know about a source's scores: labels and values."""
    dataset, scores = result.dataset, result.scores
    n = len(scores.rows)
    facts = [("Part", dataset.phase), ("Videos" if dataset.is_video else "Images", f"{n:,}")]
    if dataset.is_video:
        facts.append(("Frames", f"{int(scores.n_frames.sum()):,}"))
    facts.append(("Network domain", result.domain))
    on_share = [METRICS[m].name for m in scores.metrics if not METRICS[m].on_all_frames]
    if dataset.is_video and on_share:
        facts.append(
            (f"{' and '.join(on_share)} computed on", f"{options.auc_portion:.0%} of the frames")
        )
    facts.append(("Files", f"{scores.name}_eval_*.json"))
    return facts


def _table(result: Result, seed: int) -> list[Line]:
    """Return the lines of the score table: the means of the network and of the baselines.

    The last line counts the values that were left out of the network's means, if there are any.
    """
    scores, is_video = result.scores, result.dataset.is_video
    lines = [
        Line("This run, mean over videos" if is_video else "This run", _cells(scores, seed), True)
    ]
    if is_video:
        lines.append(Line("mean over all frames", _cells(scores, seed, weighted=True)))
    if result.against is not None:
        lines.append(Line(result.against.name, _cells(result.against, seed)))
    lines += [Line(name, _cells(other, seed)) for name, other in result.baselines.items()]
    if scores.n_undefined.any():
        counts = [Cell(f"{n:,}") for n in scores.n_undefined.tolist()]
        lines.append(Line("undefined, left out of this run's means", counts))
    return lines


def _cells(scores: Scores, seed: int, weighted: bool = False) -> list[Cell]:
    """Return a cell for the mean of each metric."""
    means = scores.weighted_means if weighted else scores.means
    ends = scores.intervals(seed, weighted).T
    return [
        Cell(_number(mean), "" if math.isnan(mean) else f"{_number(low)} – {_number(high)}")
        for mean, (low, high) in zip(means.tolist(), ends.tolist(), strict=True)
    ]


def _distributions(result: Result, seed: int) -> list[Distribution]:
    """Return the distribution of each metric."""
    scores = result.scores
    ends = scores.intervals(seed).T.tolist()
    found = []
    for i, (name, cell) in enumerate(zip(scores.metrics, _cells(scores, seed), strict=True)):
        others = {
            n: float(other.means[i])
            for n, other in result.baselines.items()
            if n not in (RUN_ON_ONE, ONE_LEFT_OUT)  # measured otherwise
        }
        chart = histogram(
            scores.rows[:, i], float(scores.means[i]), (ends[i][0], ends[i][1]), others
        )
        found.append(Distribution(METRICS[name], cell, chart))
    return found


def _divisions(result: Result, seed: int) -> list[Division]:
    """Lay out the scores of the subsets."""
    found = []
    for by, subsets in result.divisions.items():
        counts = [int((scores.n_frames > 0).sum()) for scores in subsets.values()]
        ends = [scores.intervals(seed).T.tolist() for scores in subsets.values()]
        means = [scores.means.tolist() for scores in subsets.values()]
        charts = [
            subset_chart(
                list(subsets),
                [row[i] for row in means],
                [(row[i][0], row[i][1]) for row in ends],
                counts,
                float(result.scores.means[i]),
                by in (FIXATION, TIME),
            )
            for i in range(len(result.scores.metrics))
        ]
        metrics = [METRICS[name] for name in result.scores.metrics]
        rows = zip(subsets, counts, [list(map(_number, row)) for row in means], strict=True)
        found.append(Division(by, list(zip(metrics, charts, strict=True)), list(rows)))
    return found


def _tests(comparisons: Sequence[Comparison], unit: str) -> list[Tests]:
    """Lay out the tests, those of the same two together."""
    found: dict[tuple[str, str, str], Tests] = {}
    for one in comparisons:
        title = f"{one.first} minus {one.second}"
        text = (
            f"By {one.by}. {one.n_both:,} {unit}s have a value of both, {one.n_first:,} of the "
            f"first alone, {one.n_second:,} of the second alone."
        )
        tests = found.setdefault((one.by, one.first, one.second), Tests(title, text, []))
        interval = "" if math.isnan(one.low) else f"{_number(one.low)} – {_number(one.high)}"
        tests.lines.append(
            TestLine(
                METRICS[one.metric].name,
                (_number(one.first_mean), _number(one.second_mean)),
                Cell(_number(one.difference), interval),
                "–" if math.isnan(one.p) else f"{one.p:.4f}",
            )
        )
    return list(found.values())


def _example(
    result: Result,
    index: int,
    predict: Callable[[int, int], LogDensity],
    max_size: Size,
    bar: Bar,
) -> ShownExample:
    """Predict and draw one frame of a video, or an image."""
    scores, n_frames = result.scores, int(result.scores.n_frames[index])
    number = (n_frames + 1) // 2
    title = scores.titles[index]
    drawn = draw_panels(result.dataset, index, number, predict(index, number), max_size)
    panels = [
        ReportPanel(label, f"{label} of {title}", as_uri(rgb), rgb.shape[1], rgb.shape[0])
        for label, rgb in drawn
    ]
    bar.update()
    frame = f"frame {number} of {n_frames}" if result.dataset.is_video else ""
    named = zip(scores.metrics, scores.rows[index].tolist(), strict=True)
    return ShownExample(
        title, frame, panels, [(METRICS[name], _number(value)) for name, value in named]
    )


def _number(value: float) -> str:
    """Format a score."""
    return "–" if math.isnan(value) else f"{value:.3f}"


def _template() -> jinja2.Template:
    """Load the template of the page."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(TEMPLATE)
