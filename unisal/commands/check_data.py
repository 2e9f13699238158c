"""The command `check_data`: what the data folders hold, and what is wrong with it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from unisal.checks import check_count
from unisal.commands.progress import TERMINAL
from unisal.data import DATASETS, SaliencyDataset, find_dataset
from unisal.data.inspection import PartReport, SourceReport, inspect_source
from unisal.errors import SomeFailed, UserError
from unisal.types import Size

MAX_SIZES = 3
"""The number of picture sizes that are listed; the others are counted."""
KIND_NAMES = {"image": "images", "saliency_map": "maps", "fixations": "fixations"}
"""The kinds of files, as the table calls them."""


def check_data(*, sources: Sequence[str], quick: bool, max_shown: int) -> list[SourceReport]:
    """Inspect sources and print what was found.

    Args:
        sources: names of sources; none for all whose folder exists.
        quick: whether to read only the headers of the files.
        max_shown: the number of problems that are listed per source; the others are counted.

    Raises:
        UserError: a source is unknown or its folder is missing; nothing was done.
        SomeFailed: there are problems; they have been printed.
    """
    check_count(max_shown, "max_shown", smallest=0)
    reports = []
    for dataset in _find(sources):
        reports.append(inspect_source(dataset, quick=quick, progress=TERMINAL))
        print(format_report(reports[-1], max_shown))
    faulty = {r.source: len(r.problems) for r in reports if r.problems}
    if faulty:
        raise SomeFailed("problems in " + ", ".join(f"{s} ({n})" for s, n in faulty.items()))
    return reports


def _find(sources: Sequence[str]) -> list[type[SaliencyDataset]]:
    """Return the data sets to check; if all were asked for, print which folders are missing."""
    if sources:
        asked = list(dict.fromkeys(find_dataset(source) for source in sources))
        for dataset in asked:
            dataset.root()  # raises if it does not exist
        return asked
    present = [dataset for dataset in DATASETS.values() if dataset.is_there()]
    absent = [dataset for dataset in DATASETS.values() if not dataset.is_there()]
    where = ", ".join(f"{d.source} ({d.root_variable})" for d in absent)
    if not present:
        raise UserError(f"no data folder exists; variables that name them: {where}")
    if absent:
        print(f"no folder of {where}")
    return present


def format_report(report: SourceReport, max_shown: int) -> str:
    """Return what to print on a terminal: a line per part, then the problems."""
    lines = [f"{report.source} in {report.folder}"]
    lines += [f"  {line}" for line in _aligned([_row(part) for part in report.parts])]
    problems = report.problems
    if not problems:
        return "\n".join([*lines, "  no problems"])
    counts = Counter(problem.kind for problem in problems)
    numbers = ", ".join(f"{n} {kind}" for kind, n in counts.items())
    lines.append(f"  {len(problems)} problems: {numbers}")
    lines += [f"    {problem.text}" for problem in problems[:max_shown]]
    if len(problems) > max_shown:
        lines.append(f"    and {len(problems) - max_shown} more")
    return "\n".join(lines)


def _row(part: PartReport) -> list[str]:
    """Return the cells of a part's line."""
    counts = {"videos": part.n_groups} if part.of_videos else {}
    counts |= {name: part.counts[kind] for kind, name in KIND_NAMES.items()}
    there = ", ".join(f"{n} {name}" for name, n in counts.items() if n) or "nothing"
    return [part.name, f"({', '.join(part.phases)})", there, _sizes(part)]


def _sizes(part: PartReport) -> str:
    """Describe the sizes of the images, and those of the maps if they differ."""
    images, maps = part.sizes["image"], part.sizes["saliency_map"]
    other = f"; maps {_in_words(maps)}" if maps and maps.keys() != images.keys() else ""
    return _in_words(images) + other


def _in_words(sizes: Counter[Size]) -> str:
    """List the most common sizes and count the others."""
    shown = [f"{h} x {w}" for (h, w), _ in sizes.most_common(MAX_SIZES)]
    more = [f"{len(sizes) - MAX_SIZES} more sizes"] if len(sizes) > MAX_SIZES else []
    return ", ".join(shown + more)


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Join the cells of rows so that columns are aligned."""
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    lines = ("  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)) for row in rows)
    return [line.rstrip() for line in lines]
