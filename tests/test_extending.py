"""docs/extending.md: its code runs, and what it adds is known everywhere."""

from __future__ import annotations

import ast
import json
import math
import re
import shlex
import sys
import types

import numpy as np
import pytest
import torch
from PIL import Image
from support import PROJECT, TINY, photo, write_photo, write_run, write_salicon
from videos import numbered, write_clip

import unisal
from unisal.commands.cli import main
from unisal.commands.table import COMMANDS
from unisal.data import DATASETS
from unisal.data.base import Batch
from unisal.evaluate.metric_table import METRICS
from unisal.model.unisal import UNISAL
from unisal.writing.formats import MAP_FORMATS

PAGE = (PROJECT / "docs" / "extending.md").read_text()
SECTIONS = dict(re.findall(r"^## (.*?)\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL))
SHORT = [
    "--num_epochs=1",
    "--num_workers=0",
    "--device=cpu",
    f"--model_cfg={TINY}",
    "--tboard=False",
]
"""Makes a training run short."""


def blocks(section, language):
    return re.findall(rf"^```{language}\n(.*?)^```$", SECTIONS[section], re.MULTILINE | re.DOTALL)


@pytest.fixture
def run_section(monkeypatch, tmp_path):
    """Return a function that runs a section's Python and returns its module.

    The tables of the package are as before after the test.
    """
    monkeypatch.setenv("TRAIN_DIR", str(tmp_path / "runs"))
    monkeypatch.setenv("PRED_DIR", str(tmp_path / "predictions"))
    write_run(tmp_path / "runs" / "pretrained_unisal")

    tables = DATASETS, METRICS, MAP_FORMATS, COMMANDS
    before = [dict(table) for table in tables]

    def run(section):
        module = types.ModuleType("extension")
        monkeypatch.setitem(sys.modules, "extension", module)
        for code in blocks(section, "python"):
            exec(compile(code, f"docs/extending.md: {section}", "exec"), vars(module))
        return module

    yield run
    for table, entries in zip(tables, before, strict=True):
        table.clear()
        table.update(entries)


def test_the_sections_are_what_can_be_added():
    assert list(SECTIONS) == [
        "A data set",
        "A domain",
        "A metric",
        "A backbone",
        "An output format",
        "A command",
    ]
    assert all(blocks(section, "python") for section in SECTIONS)


@pytest.fixture
def paintings(run_section, tmp_path, monkeypatch):
    """Register the page's data set, of 12 paintings."""
    write_salicon(tmp_path / "salicon", "train", n=12)
    names = [("images", "images", ".jpg")]
    names += [(f"{kind}/train", kind, ".png") for kind in ("maps", "fixations")]
    for folder, kind, suffix in names:
        (tmp_path / "paintings" / kind).mkdir(parents=True)
        for i, path in enumerate(sorted((tmp_path / "salicon" / folder).iterdir())):
            path.rename(tmp_path / "paintings" / kind / f"{i:02d}{suffix}")
    monkeypatch.setenv("PAINTINGS_DATA_DIR", str(tmp_path / "paintings"))
    run_section("A data set")
    assert DATASETS["Paintings"].input_size == (288, 384)
    DATASETS["Paintings"].input_size = (64, 96)  # that takes less time


@pytest.mark.slow
@pytest.mark.usefixtures("paintings")
def test_a_data_set_is_checked_trained_scored_and_predicted(tmp_path, capsys):
    (commands,) = blocks("A data set", "bash")
    for line in commands.splitlines():
        python, script, name, *options = shlex.split(line)
        assert (python, script) == ("python", "run.py")
        more = {"train": SHORT, "score_model": ["--report=True", "--baselines=True"]}.get(name, [])
        code = main(COMMANDS, [name, *options, *more], "run.py")
        assert code == 0, capsys.readouterr().err
    run = tmp_path / "runs" / "paintings_unisal"
    assert {"weights_best.pth", "PaintingsDataset.json", "report.html"} <= {
        p.name for p in run.iterdir()
    }
    means = json.loads((run / "Paintings_eval_mean_scores.json").read_text())
    assert len(means) == 6 and all(map(math.isfinite, means))
    maps = sorted(p.name for p in tmp_path.glob("predictions/paintings_unisal/Paintings/*"))
    assert maps == ["00.jpg", "05.jpg", "10.jpg"]


@pytest.mark.slow
@pytest.mark.usefixtures("paintings")
def test_a_domain_starts_as_a_copy_and_is_trained(run_section, capsys):
    module = run_section("A domain")
    model = unisal.load("with_paintings", device="cpu").engine.model
    assert model.sources == ("DHF1K", "Hollywood", "UCFSports", "SALICON", "Paintings")
    x = torch.randn(1, 1, 3, 64, 96)
    with torch.no_grad():
        ours, theirs = (model(x, source=domain) for domain in ("Paintings", "SALICON"))
        before = module.known(x, source="SALICON")
    torch.testing.assert_close(ours, theirs)
    torch.testing.assert_close(theirs, before)
    DATASETS["Paintings"].domain = "Paintings"
    (command,) = blocks("A domain", "bash")
    _, _, *options, model_cfg = shlex.split(command)
    model_cfg = {**TINY, **ast.literal_eval(model_cfg.removeprefix("--model_cfg="))}
    code = main(COMMANDS, [*options, *SHORT, f"--model_cfg={model_cfg}"], "run.py")
    assert code == 0, capsys.readouterr().err
    trained = unisal.load("visitors_unisal", device="cpu").engine.model.state_dict()
    changed = {k for k, v in model.state_dict().items() if not torch.equal(v, trained[k])}
    assert {"coarse_gaussians_paintings", "smoothing_paintings.weight"} <= changed
    others = ("dhf1k", "hollywood", "ucfsports", "salicon")
    assert [key for key in changed if any(name in key.lower() for name in others)] == []


@pytest.mark.slow
@pytest.mark.usefixtures("paintings")
def test_a_metric_is_scored_and_reported(run_section, tmp_path, capsys):
    peak_distance = run_section("A metric").peak_distance
    density, fixations = np.zeros((5, 9)), np.zeros((5, 9), bool)
    density[1, 2] = 1
    assert math.isnan(peak_distance(density, fixations))
    fixations[4, 6] = fixations[0, 8] = True
    assert peak_distance(density, fixations) == 5
    options = ["--sources=Paintings", "--metrics=kld,peak", "--report=True", "--device=cpu"]
    assert main(COMMANDS, ["score_model", *options], "run.py") == 0
    run = tmp_path / "runs" / "pretrained_unisal"
    _, peak = json.loads((run / "Paintings_eval_mean_scores.json").read_text())
    assert 0 <= peak < math.hypot(48, 64)
    assert "to the nearest fixated one" in (run / "report.html").read_text()
    assert "peak" in capsys.readouterr().out.lower()


@pytest.mark.slow
def test_a_backbone_predicts_and_trains(run_section, caplog):
    module = run_section("A backbone")
    assert module.density.shape == (96, 128)
    assert module.density.sum() == pytest.approx(1, abs=1e-4)
    assert any(record.levelname == "WARNING" for record in caplog.records)
    assert isinstance(module.model, UNISAL)
    maps = torch.rand(2, 1, 1, 64, 96)
    fixations = torch.rand(2, 1, 1, 64, 96) > 0.98
    frames = torch.randn(2, 1, 3, 64, 96)
    batch = Batch(
        source="SALICON",
        domain="SALICON",
        is_video=False,
        names=["a", "b"],
        frames=frames,
        maps=maps / maps.sum(dim=(-2, -1), keepdim=True),
        fixations=fixations,
    )
    encoder = module.model.cnn
    before = encoder.to_8[0].weight.detach().clone()
    statistics = encoder.to_8[1].running_mean.clone()
    assert torch.isfinite(module.train_on(batch).total)
    assert not torch.equal(before, encoder.to_8[0].weight)
    torch.testing.assert_close(statistics, encoder.to_8[1].running_mean, rtol=0, atol=0)


@pytest.mark.slow
def test_an_output_format_is_written_of_folders_and_videos(run_section, tmp_path):
    run_section("An output format")
    for i in range(2):
        write_photo(tmp_path / "pictures" / "images" / f"{i}.png", (60, 80), seed=i)
    write_clip(tmp_path / "clip.mp4", numbered(3))
    folder, clip = str(tmp_path / "pictures"), str(tmp_path / "clip.mp4")
    assert main(COMMANDS, ["predictions_from_folder", folder, "--maps=tiff"], "run.py") == 0
    assert main(COMMANDS, ["predict_video", clip, "--maps=tiff", "--overlay=False"], "run.py") == 0
    of_folder = sorted((tmp_path / "pictures" / "saliency").iterdir())
    of_video = sorted((tmp_path / "saliency" / "clip_tiff").iterdir())
    assert [path.name for path in of_folder] == ["0.tif", "1.tif"]
    assert [path.name for path in of_video] == ["000001.tif", "000002.tif", "000003.tif"]
    for path in of_folder + of_video:
        with Image.open(path) as picture:
            values = np.asarray(picture)
        assert values.dtype == np.float32 and values.max() == 1 and values.min() >= 0


@pytest.mark.slow
def test_a_command_is_listed_explained_and_run(run_section, tmp_path, capsys):
    run_section("A command")
    assert main(COMMANDS, [], "run.py") == 0
    assert "most_salient" in capsys.readouterr().out
    assert main(COMMANDS, ["most_salient", "--help"], "run.py") == 0
    assert "the run whose weights to use" in capsys.readouterr().out
    write_photo(tmp_path / "photo.png")
    assert main(COMMANDS, ["most_salient", str(tmp_path / "photo.png")], "run.py") == 0
    x, y = map(int, re.search(r"x = (\d+), y = (\d+)", capsys.readouterr().out).groups())
    height, width = photo().shape[:2]
    assert 0 <= x < width and 0 <= y < height
