"""docs/gaze_folders.md describes what there is."""

from __future__ import annotations

import re
from dataclasses import fields

import pytest
from gaze_folders import write_gaze
from support import PROJECT, run_python

from unisal.data.gaze.columns import find_columns
from unisal.data.gaze.options import GazeOptions

PAGE = (PROJECT / "docs" / "gaze_folders.md").read_text()


def test_every_entry_of_gaze_json_is_described():
    table = PAGE.split("| Entry |")[1].split("\n## ")[0]
    described = {
        name
        for line in table.splitlines()
        if line.startswith("| `")
        for name in re.findall(r"`(\w+)`", line.split("|")[1])
    }
    assert described == {field.name for field in fields(GazeOptions)}


def test_the_usual_names_of_the_page_are_found():
    table = PAGE.split("| What |")[1].split("\n## ")[0]
    rows = [line.split("|") for line in table.splitlines() if line.startswith("| ")]
    names = {row[1].strip(" `"): re.findall(r"`([^`]+)`", row[2]) for row in rows}
    roles = {"start": "start_ms", "duration": "duration_ms"}
    for what in ("stimulus", "observer", "start", "duration", "frame", "event"):
        for name in names[what]:
            found = find_columns([name, "x", "y"], {}, "here")
            known = [found.get(roles.get(what, what)), found.get("end_ms")]
            assert name in known, name
    for name in names["x`, `y"]:
        if name not in ("x", "y"):
            other = re.sub(r"(?i)x(?!.*x)", lambda m: "Y" if m[0] == "X" else "y", name)
            other = {"x_norm": "y_norm", "fixation x [px]": "fixation y [px]"}.get(name, other)
            other = {"Fixation Position X [px]": "Fixation Position Y [px]"}.get(name, other)
            columns = [name] if name in ("location", "pixel") else [name, other]
            assert find_columns(columns, {}, "here").get("x") == name


@pytest.mark.slow
def test_the_example_runs(tmp_path):
    sizes = {f"{i}.jpg": (60, 80) for i in range(10)}
    write_gaze(tmp_path / "crowd", sizes)
    (code,) = re.findall(r"^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    code += "assert density.shape == (300, 400) and first.number.tolist() == [1, 1, 1]\n"
    done = run_python("-c", code, cwd=tmp_path, env={"PYTHONPATH": str(PROJECT)})
    assert done.returncode == 0, done.stderr
    assert "120 of 120 rows are used" in done.stdout
    assert (tmp_path / "for_pysaliency" / "fixations.hdf5").is_file()
