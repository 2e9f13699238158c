"""The notebook in examples/ runs from a checkout, and is kept without outputs."""

from __future__ import annotations

import json
import re

import pytest
from support import PROJECT

NOTEBOOK = PROJECT / "examples" / "unisal.ipynb"
CELLS = json.loads(NOTEBOOK.read_text())["cells"]


def test_it_is_kept_without_outputs():
    code = [cell for cell in CELLS if cell["cell_type"] == "code"]
    assert code
    assert [cell for cell in code if cell["outputs"] or cell["execution_count"]] == []


def test_it_covers_pictures_videos_features_and_scores():
    text = "\n".join("".join(cell["source"]) for cell in CELLS)
    headings = re.findall(r"^## (.*)$", text, re.MULTILINE)
    assert headings == ["A picture", "A video", "Features", "Scores"]


def execute():
    """Return the outputs of each code cell after all of them ran in order."""
    import nbclient
    import nbformat

    notebook = nbformat.read(NOTEBOOK, as_version=4)
    resources = {"metadata": {"path": str(NOTEBOOK.parent)}}
    nbclient.NotebookClient(notebook, timeout=120, resources=resources).execute()
    return [cell["outputs"] for cell in notebook["cells"] if cell["cell_type"] == "code"]


def text_of(output):
    return output.get("text", "") or output["data"].get("text/plain", "")


@pytest.mark.slow
def test_it_runs_and_its_outputs_make_sense(tmp_path, monkeypatch):
    for variable in ("IPYTHONDIR", "JUPYTER_CONFIG_DIR", "JUPYTER_RUNTIME_DIR"):
        monkeypatch.setenv(variable, str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", str(PROJECT))
    monkeypatch.delenv("TRAIN_DIR", raising=False)
    outputs = [output for cell in execute() for output in cell]
    assert len([o for o in outputs if "image/png" in o.get("data", {})]) == 2
    said = "\n".join(map(text_of, outputs))
    assert "((512, 512), dtype('float32'), " in said
    on_face, of_picture = map(int, re.search(r"(\d+)% of the looking on (\d+)%", said).groups())
    assert on_face > 2 * of_picture
    assert "'encoder_32': (1280," in said
    scores = dict(re.findall(r"^(UNISAL|centre bias) +(KLD .*)$", said, re.MULTILINE))
    ours, centre = (
        {name: float(value) for name, value in re.findall(r"(\S+) ([\d.]+)", scores[row])}
        for row in ("UNISAL", "centre bias")
    )
    assert ours["KLD"] < centre["KLD"]
    assert all(ours[name] > centre[name] for name in ("NSS", "CC", "AUC-Judd"))
