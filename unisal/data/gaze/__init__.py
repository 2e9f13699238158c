"""Gaze data of one's own: a folder of pictures or films, and a table of where people looked.

`gaze_source` makes a source of a folder: a class like those of the published data sets.
"""

from __future__ import annotations

from unisal.data.gaze.films import GazeVideoFolder
from unisal.data.gaze.fixations import Fixations
from unisal.data.gaze.options import GazeOptions
from unisal.data.gaze.pictures import GazeFolder
from unisal.data.gaze.reading import GazeData, load_gaze
from unisal.data.gaze.report import GazeReport
from unisal.data.gaze.source import GazeSource
from unisal.data.gaze.sources import (
    gaze_source,
    is_spec,
    source_name,
    source_of_spec,
    spec_of,
)

__all__ = [
    "Fixations",
    "GazeData",
    "GazeFolder",
    "GazeOptions",
    "GazeReport",
    "GazeSource",
    "GazeVideoFolder",
    "gaze_source",
    "is_spec",
    "load_gaze",
    "source_name",
    "source_of_spec",
    "spec_of",
]
