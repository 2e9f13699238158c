"""README.md and the guides keep their promises: commands run, names exist, links lead somewhere."""

from __future__ import annotations

import inspect
import os
import re
import shlex
import subprocess
import sys
from dataclasses import fields

import numpy as np
import pytest
from gaze_folders import write_gaze
from PIL import Image
from support import PROJECT, TINY, write_photo, write_run, write_salicon

import unisal
from unisal.commands.table import COMMANDS
from unisal.data import DATASETS
from unisal.export.formats import export
from unisal.export.plan import Plan
from unisal.train.config import PUBLISHED_KEYS, TrainerConfig
from unisal.train.finetune_config import FineTuneConfig

README = (PROJECT / "README.md").read_text()
GUIDES = re.findall(r"^\| \[[^]]+\]\((docs/guide/\w+\.md)\)", README, re.MULTILINE)
"""In the order of the README's table, which is the order in which their commands are run."""
SETTINGS = (PROJECT / "docs" / "guide" / "files_and_settings.md").read_text()
TEXT = "\n".join([README, *((PROJECT / guide).read_text() for guide in GUIDES)])
PAGES = sorted(
    str(page.relative_to(PROJECT))
    for folder in (".", "docs", "docs/guide", "examples", "tests/reference", "training_runs/*")
    for page in PROJECT.glob(f"{folder}/*.md")
)

BY_CI = [
    "python3 -m venv .venv && .venv/bin/pip install -e . && "
    ".venv/bin/python run.py predict_examples",
    '.venv/bin/pip install -e ".[test]" && .venv/bin/python -m pytest',
]
"""Run by .ci/run."""
ELSEWHERE = {
    "python run.py download_weights": "tests/commands/test_download.py",
    "python run.py predict_video --video_path=clip.mp4": "tests/commands/test_video_files.py",
    "python run.py predictions_from_folder my_pictures --workers=2": "tests/commands/test_crew.py",
    "python run.py predict_video s3://my-bucket/films --out_dir=s3://my-bucket/maps": (
        "tests/commands/test_remote.py"
    ),
    "python run.py predict_camera --camera=0 --out=live.mp4 --seconds=20": (
        "tests/commands/test_camera.py"
    ),
    "python run.py visualize_examples my_data --train_id=mine_unisal --n=5 --contact_sheet=True": (
        "tests/commands/test_visualize.py"
    ),
    "python run.py visualize_examples examples/SALICON --n=6 --contact_sheet=True": (
        "tests/commands/test_visualize.py"
    ),
    "python -m benchmarks.far_pictures far": "tests/test_far_pictures.py",
    "python run.py quantize --train_id=my_run --sources=osie=data/osie,scenes=data/scenes": (
        "tests/commands/test_quantize.py"
    ),
    "python run.py check_data --data=crowd": "tests/commands/test_gaze_commands.py",
    "python run.py prepare_dhf1k --dhf1k_dir=DHF1K": "tests/commands/test_prepare_dhf1k.py",
    "torchrun --standalone --nproc-per-node=4 run.py train --data_sources=SALICON --prefix=mine": (
        "tests/train/test_distributed.py"
    ),
    "torchrun --nnodes=2 --nproc-per-node=4 --rdzv-backend=c10d --rdzv-endpoint=first:29500 "
    "run.py train --data_sources=SALICON --prefix=mine": "tests/train/test_distributed.py",
    "python run.py train --data_sources=SALICON --prefix=mine --salicon_batch_size=8 "
    "--accumulate=4": "tests/train/test_amp.py",
    "python run.py train_finetune_mit --pretrained_train_id=mine_unisal "
    "--eval_sources=FINAL_TEST_MIT1003": "tests/train/test_finetune.py",
}
"""Needs more than pictures: a process of the command is tested in the file named."""
SHORT = [
    "--num_epochs=1",
    "--num_workers=0",
    "--device=cpu",
    "--salicon_cfg={'out_size': [64, 96]}",
    f"--model_cfg={TINY}",
]
"""Makes a training run of the pages short; what they say comes first."""
SHORT_OWN = [*SHORT[:3], "--dataset_options={'my_gaze': {'input_size': (32, 64)}}"]
"""The same for a domain of one's own, whose network is that of its base."""
GALLERY = {
    f"python docs/pictures/make_{name}.py": f"docs/pictures/{name}.{suffix}"
    for name, suffix in (("video", "webp"), ("live", "jpg"), ("features", "jpg"))
}
"""Commands that make pictures of the pages, and what they make."""
RUN = {
    "python run.py": ([], []),
    "python run.py train --help": ([], []),
    "python run.py predictions_from_folder my_pictures --overlay=True": (
        [],
        ["my_pictures/saliency/a.png", "my_pictures/saliency/b.jpg", "my_pictures/overlay/b.jpg"],
    ),
    "python run.py predictions_from_folder my_pictures --recursive=True --out_dir=maps": (
        [],
        ["maps/saliency/a.png", "maps/saliency/b.jpg"],
    ),
    "python run.py predictions_from_folder my_pictures --train_id=pictures.onnx": (
        [],
        ["my_pictures/saliency/a.png"],
    ),
    "python run.py export --format=onnx --out=saliency.onnx --licence=Apache-2.0": (
        [],
        ["saliency.onnx"],
    ),
    "python run.py export --format=onnx --video=True --out=video_saliency.onnx "
    "--licence=Apache-2.0": ([], ["video_saliency.onnx"]),
    "python run.py predictions_from_folder my_pictures --tta=mirror": (
        ["--out_dir=mirrored"],
        ["mirrored/saliency/a.png", "mirrored/saliency/b.jpg"],
    ),
    "python -m unisal": ([], []),
    "unisal predictions_from_folder holiday": ([], ["holiday/saliency/a.png"]),
    "python run.py predictions_from_folder my_video --is_video=True": (
        [],
        ["my_video/saliency/001.png", "my_video/saliency/003.png"],
    ),
    "python run.py train --data_sources=SALICON --prefix=mine": (
        SHORT,
        [
            f"runs/mine_unisal/{name}"
            for name in (
                "Trainer.json",
                "UNISAL.json",
                "SALICONDataset.json",
                "weights_best.pth",
                "best_epoch.dat",
                "best_val_loss.dat",
                "chkpnt_epoch0000.pth",
                "chkpnt_latest.pth",
                "all_scalars.json",
                "SALICON_eval_scores.json",
                "SALICON_eval_mean_scores.json",
                "SALICON_eval_weighted_mean_scores.json",
            )
        ],
    ),
    "python run.py train --data_sources=SALICON --prefix=small --augment=True "
    "--lr_scheduler=cosine --warmup_steps=150 --ema_decay=0.999": (
        SHORT,
        ["runs/small_unisal/weights_best.pth"],
    ),
    "python run.py average --train_ids=mine_unisal,small_unisal --prefix=soup": (
        [],
        [f"runs/soup_unisal/{name}" for name in ("weights_best.pth", "average.json")],
    ),
    "python run.py check_data --source=SALICON": ([], []),
    "python run.py train --resume=mine_unisal": ([], ["runs/mine_unisal/weights_best.pth"]),
    "python run.py score_model --train_id=mine_unisal --sources=SALICON": (
        ["--device=cpu"],
        ["runs/mine_unisal/SALICON_eval_scores.json"],
    ),
    "python run.py score_model --train_id=mine_unisal --sources=SALICON --baselines=True "
    "--report=True": (
        ["--device=cpu"],
        ["runs/mine_unisal/SALICON_eval_summary.json", "runs/mine_unisal/report.html"],
    ),
    "python run.py calibrate --train_id=mine_unisal --sources=SALICON": (
        ["--device=cpu"],
        [f"runs/mine_unisal/calibration.{kind}" for kind in ("json", "png")],
    ),
    "python run.py check_data --data=my_gaze": ([], ["my_gaze_examples.png"]),
    "python run.py score_model --data=my_gaze --baselines=True --report=True": (
        ["--device=cpu"],
        [
            f"runs/pretrained_unisal/{n}"
            for n in ("my_gaze_eval_summary.json", "my_gaze_eval_table.csv", "report.html")
        ],
    ),
    "python run.py finetune --data=my_gaze --domain=Mine": (
        SHORT_OWN,
        [f"runs/mine_modules_unisal/{name}" for name in ("weights_best.pth", "presets.json")],
    ),
    "python run.py score_model --data=my_gaze --train_id=mine_modules_unisal --baselines=True "
    "--report=True": (["--device=cpu"], ["runs/mine_modules_unisal/report.html"]),
    "python run.py predictions_from_folder my_pictures --train_id=mine_modules_unisal "
    "--preset=Mine --overlay=True": ([], ["my_pictures/saliency/a.png"]),
    "python run.py finetune --resume=mine_modules_unisal --curve=True": (
        [],
        [f"runs/mine_modules_unisal/curve.{kind}" for kind in ("png", "csv", "json")],
    ),
    "python run.py finetune --resume=mine_modules_unisal --folds=5": (
        [],
        [f"runs/mine_modules_unisal/folds.{kind}" for kind in ("csv", "json")],
    ),
    "python run.py score_model --data=my_gaze --train_id=mine_unisal --against=pretrained_unisal": (
        ["--device=cpu"],
        ["runs/mine_unisal/my_gaze_eval_tests.csv"],
    ),
    "python run.py generate_predictions --train_id=mine_unisal --sources=SALICON --phase=eval": (
        ["--device=cpu"],
        ["predictions/mine_unisal/SALICON/COCO_val2014_000000000001.png"],
    ),
}
"""Run here, as processes: what is added to a command, and what it leaves."""
PYTHON_CHECKS = {
    ".image(": "assert density.shape == rgb.shape[:2] and density.dtype == np.float32\n"
    "assert abs(density.sum() - 1) < 1e-3\n",
    ".images(": "assert density.shape == (60, 80) and abs(density.sum() - 1) < 1e-3\n",
    ".stream(": "assert density.shape == (90, 120) and abs(density.sum() - 1) < 1e-3\n",
    ".features(": 'assert list(features)[0] == "encoder_8" and values.ndim == 3\n',
    "metrics.nss(": "assert nss > 0 and auc > 0.99\n",
    ".fit(": "from pathlib import Path\n"
    'assert Path("runs/from_python_unisal/weights_best.pth").is_file()\n',
    ".write_graph(": "from pathlib import Path\n"
    'assert Path("pictures.onnx").is_file() and Path("videos.onnx").is_file()\n',
    'unisal.load("pictures.onnx")': 'assert predictor.image_preset == "SALICON"\n',
    "onnxruntime.InferenceSession(": "assert density.shape == (1, 30, 40)\n",
    ".video(": "assert density.shape == (30, 40) and next(densities, None) is None\n",
}
"""What holds after a Python example in which the key stands."""


def blocks(language):
    """Return the code blocks of all pages in a language, in order and each once."""
    found = re.findall(rf"^```{language}\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)
    return list(dict.fromkeys(found))


def typed_commands():
    """Return every command of the pages that starts a program of Python, in order and once."""
    lines = [line for block in blocks("bash") for line in block.splitlines()]
    prose = re.sub(r"^```.*?^```$", "", TEXT, flags=re.MULTILINE | re.DOTALL)
    lines += re.findall(r"`(python [^`]*)`", prose)
    started = [line for line in lines if re.search(r"\bpython3? |^unisal |^torchrun ", line)]
    return list(dict.fromkeys(started))


# ---- commands and code --------------------------------------------------------------------


def test_it_is_known_how_each_command_is_tested():
    assert set(typed_commands()) == {*BY_CI, *RUN, *ELSEWHERE, *GALLERY}
    lines = {line for block in blocks("bash") for line in block.splitlines()}
    others = lines - set(typed_commands())
    assert [line for line in others if not line.startswith("export ")] == []
    for command, file in ELSEWHERE.items():
        name = re.search(r"(?:run\.py|-m) (\S+)", command)[1]
        assert re.search(rf'"{name}",|run_command\(\s*"{name}"', (PROJECT / file).read_text()), file


def test_ci_runs_the_two_lines_as_they_stand():
    script = (PROJECT / ".ci" / "run").read_text()
    pattern = re.search(r"grep -E '(.*)' README\.md", script)[1]
    found = [line for line in README.splitlines() if re.search(pattern, line)]
    assert found == BY_CI


@pytest.fixture(scope="module")
def reader(tmp_path_factory):
    """Return a function that runs a program where a reader of the pages would be."""
    home = tmp_path_factory.mktemp("reader")
    for name in (
        "photo.jpg",
        "my_pictures/images/a.png",
        "my_pictures/images/b.jpg",
        "holiday/images/a.png",
    ):
        write_photo(home / name, (30, 40))
    for n in range(1, 4):
        write_photo(home / "my_video" / "images" / f"{n:03d}.png", (30, 40), seed=n)
    write_gaze(home / "my_gaze", {f"{n}.png": (30, 40) for n in range(5)}, n_fixations=3)
    environment = {"TRAIN_DIR": "runs", "PRED_DIR": "predictions", "PYTHONPATH": str(PROJECT)}
    environment |= dict(re.findall(r"^export (\w+)=(\S+)$", TEXT, re.MULTILINE))
    for part in ("train", "val"):
        write_salicon(home / environment["SALICON_DATA_DIR"], part, n=2)
    model = write_run(home / "runs" / "pretrained_unisal")
    predictor = unisal.Predictor(model, "cpu")
    predictor.write_graph(home / "pictures.onnx")
    export(home / "saliency.onnx", predictor.graph(), Plan(), "onnx")

    def run(*arguments):
        done = subprocess.run(
            [sys.executable, *arguments],
            cwd=home,
            env={**os.environ, **environment},
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert done.returncode == 0, f"{arguments}: {done.stderr}"
        return home

    return run


@pytest.mark.slow
def test_the_commands_run_in_the_order_of_the_pages(reader):
    for command in [c for c in typed_commands() if c in RUN]:
        more, written = RUN[command]
        program, *arguments = shlex.split(command)
        if program == "unisal":
            arguments = ["-m", "unisal", *arguments]
        elif arguments[0] == "run.py":
            arguments[0] = str(PROJECT / "run.py")
        home = reader(*arguments, *more)
        assert [name for name in written if not (home / name).is_file()] == [], command


@pytest.mark.slow
@pytest.mark.parametrize("command", GALLERY)
def test_the_pictures_of_the_pages_are_what_their_commands_make(command, tmp_path):
    shown = PROJECT / GALLERY[command]
    made = tmp_path / shown.name
    subprocess.run(
        [sys.executable, *command.split()[1:], made], cwd=PROJECT, check=True, capture_output=True
    )
    with Image.open(shown) as known, Image.open(made) as new:
        assert (new.format, new.size) == (known.format, known.size)
        assert getattr(new, "n_frames", 1) == getattr(known, "n_frames", 1)
        pixels = [np.asarray(im.convert("RGB"), dtype=float) for im in (known, new)]
    assert np.abs(pixels[0] - pixels[1]).mean() < 2  # other versions of libraries round otherwise


@pytest.mark.slow
def test_the_python_examples_run(reader):
    examples = blocks("python")
    assert len(examples) == len(PYTHON_CHECKS)
    for i, code in enumerate(examples):
        (check,) = [check for part, check in PYTHON_CHECKS.items() if part in code]
        examples[i] = code + check
    reader("-c", "\n".join(examples))


# ---- names --------------------------------------------------------------------------------


def test_all_commands_are_described_and_none_that_is_not_there():
    assert [name for name in COMMANDS if name not in TEXT] == []
    assert set(re.findall(r"python run\.py (\w+)", TEXT)) <= set(COMMANDS)


def test_all_options_exist():
    known = {name for c in COMMANDS.values() for name in inspect.signature(c).parameters}
    known |= {f.name for f in (*fields(TrainerConfig), *fields(FineTuneConfig))}
    known |= {*PUBLISHED_KEYS, "help", "no", "allow"}  # pip's `--no-deps`, a linker's `--allow-...`
    known |= {"standalone", "nproc", "nnodes", "rdzv", "max"}  # the beginnings of torchrun's
    known |= {"head"}  # of `ray start`
    known |= {"exclusive"}  # of sbatch
    assert set(re.findall(r"--([a-z0-9_]+)", TEXT)) - known == set()


def test_the_environment_variables_are_those_that_are_read():
    rows = dict(re.findall(r"^\| `([A-Z0-9_]+)` \|.*\| (.*) \|$", SETTINGS, re.MULTILINE))
    sources = "\n".join(p.read_text() for p in (PROJECT / "unisal").rglob("*.py"))
    assert set(rows) == set(re.findall(r'"([A-Z0-9_]+_(?:DIR|WEIGHTS))"', sources))
    for dataset in DATASETS.values():
        assert rows[dataset.root_variable] == f"`data/{dataset.root_default}/`"


# ---- pages --------------------------------------------------------------------------------


def test_the_readme_is_a_first_page():
    assert len(README.splitlines()) <= 150


def test_the_readme_leads_to_every_guide():
    assert {PROJECT / guide for guide in GUIDES} == set(PROJECT.glob("docs/guide/*.md"))


# ---- links --------------------------------------------------------------------------------


def anchors(text):
    """Return what the headings of a page are called in links, as GitHub does."""
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", h.lower()).replace(" ", "-") for h in headings}


@pytest.mark.parametrize("page", PAGES)
def test_links_and_pictures_lead_somewhere(page):
    text = (PROJECT / page).read_text()
    links = re.findall(r"\]\(([^)\s]+)\)", text) + re.findall(r'<img [^>]*src="([^"]+)"', text)
    for link in links:
        if re.match(r"https?:", link):
            continue
        file, _, anchor = link.partition("#")
        target = ((PROJECT / page).parent / file).resolve() if file else PROJECT / page
        assert target.is_relative_to(PROJECT) and target.exists(), f"{page}: {link}"
        assert not anchor or anchor in anchors(target.read_text()), f"{page}: {link}"


@pytest.mark.parametrize("page", PAGES)
def test_pictures_are_described_for_those_who_do_not_see_them(page):
    text = (PROJECT / page).read_text()
    assert re.findall(r"!\[\]\(", text) == []
    assert [tag for tag in re.findall(r"<img [^>]*>", text) if 'alt="' not in tag] == []
