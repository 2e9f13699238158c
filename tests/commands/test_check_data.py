"""Checks of data folders: every fault is found and named, sound folders pass, nothing is twice."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
from PIL import Image
from support import (
    call_command,
    run_command,
    write_dhf1k,
    write_hollywood,
    write_mit1003,
    write_photo,
    write_run,
    write_salicon,
    write_ucfsports,
)

from unisal.commands.check_data import check_data, format_report
from unisal.data import DATASETS, DHF1KDataset, SALICONDataset, inspection
from unisal.data.inspection import inspect_source, quick_check
from unisal.data.listing import FrameFiles
from unisal.errors import SomeFailed, UserError

SIZE = (24, 40)


def write_mit300(root, n):
    for i in range(1, n + 1):
        write_photo(root / "BenchmarkIMAGES" / f"i{i}.jpg", SIZE, seed=i)


WRITERS = {
    "DHF1K": lambda root: (
        write_dhf1k(root, {1: 5, 601: 4}, size=SIZE),
        write_dhf1k(root, {701: 3}, size=SIZE, with_maps=False),
    ),
    "Hollywood": lambda root: (
        write_hollywood(root, {(1, 1): 3, (2, 1): 4}, size=SIZE),
        write_hollywood(root, {(1, 1): 2}, part="test", size=SIZE),
    ),
    "UCFSports": lambda root: (
        write_ucfsports(root, {"Diving-001": 3, "Golf-002": 4}, size=SIZE),
        write_ucfsports(root, {"Run-001": 2}, part="test", size=SIZE),
    ),
    "SALICON": lambda root: [
        write_salicon(root, part, 3, SIZE) for part in ("train", "val", "test")
    ],
    "MIT1003": lambda root: write_mit1003(root, [(24, 40), (30, 20), (24, 40)]),
    "MIT300": lambda root: write_mit300(root, 3),
}
COUNTS = {  # per part: videos or image folders, images, maps, fixations
    "DHF1K": {"annotation 1-700": (2, 9, 9, 9), "annotation 701-1000": (1, 3, 0, 0)},
    "Hollywood": {"training": (2, 7, 7, 7), "testing": (1, 2, 2, 2)},
    "UCFSports": {"training": (2, 7, 7, 7), "testing": (1, 2, 2, 2)},
    "SALICON": {"train": (1, 3, 3, 3), "val": (1, 3, 3, 3), "test": (1, 3, 0, 0)},
    "MIT1003": {"all": (1, 3, 3, 3)},
    "MIT300": {"all": (1, 3, 0, 0)},
}


@pytest.fixture
def data(tmp_path, monkeypatch):
    """Return a function that writes a sound folder of a source; the other folders do not exist."""
    for source, dataset in DATASETS.items():
        monkeypatch.setenv(dataset.root_variable, str(tmp_path / source))

    def write(source):
        WRITERS[source](tmp_path / source)
        return tmp_path / source

    return write


def problems(source, quick=False):
    return [(p.kind, p.path) for p in inspect_source(DATASETS[source], quick).problems]


# ---- sound folders ------------------------------------------------------------------------


@pytest.mark.parametrize("quick", [True, False])
@pytest.mark.parametrize("source", DATASETS)
def test_a_sound_folder_has_no_problems(data, source, quick):
    root = data(source)
    before = sorted(root.rglob("*"))
    report = inspect_source(DATASETS[source], quick)
    assert report.problems == []
    counted = {
        p.name: (p.n_groups, *(p.counts[kind] for kind in FrameFiles._fields)) for p in report.parts
    }
    assert counted == COUNTS[source]
    assert [phase for p in report.parts for phase in p.phases] == list(DATASETS[source].phases)
    assert sorted(root.rglob("*")) == before  # looking leaves nothing behind


def test_sizes_are_counted(data):
    data("MIT1003")
    (part,) = inspect_source(DATASETS["MIT1003"]).parts
    assert part.sizes["image"] == part.sizes["saliency_map"] == {(24, 40): 2, (30, 20): 1}
    table = format_report(inspect_source(DATASETS["MIT1003"]), 20)
    assert "3 images, 3 maps, 3 fixations" in table
    assert "24 x 40, 30 x 20" in table


@pytest.mark.usefixtures("data")
def test_official_fixations_are_read(tmp_path):
    write_salicon(tmp_path / "SALICON", "train", 2, SIZE, fixations="mat")
    assert problems("SALICON") == []
    path = next((tmp_path / "SALICON").rglob("*1.mat"))
    path.write_bytes(path.read_bytes()[:100])
    assert problems("SALICON") == [("unreadable", path)]
    assert not list((tmp_path / "SALICON" / "fixations").rglob("*.png"))


# ---- faults -------------------------------------------------------------------------------


def cut(path):
    """Leave the header and lose half of the rest."""
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


def blank(path):
    Image.new("L", Image.open(path).size).save(path)


def resize(path):
    picture = Image.open(path)
    size = picture.width * 2, picture.height * 2
    picture.resize(size, Image.Resampling.NEAREST).save(path, quality=100)


SHOT = "training/actioncliptrain00002_1"
CLIP = "actioncliptrain00002"
MIT = "ALLFIXATIONMAPS/ALLFIXATIONMAPS/i0002"
PICTURE = "COCO_train2014_000000000002"
MISSING = [
    # source, what is removed
    ("DHF1K", "annotation/0001/images/0003.png"),
    ("DHF1K", "annotation/0001/images/0005.png"),  # the last: only its map tells
    ("DHF1K", "annotation/0001/maps/0002.png"),
    ("DHF1K", "annotation/0601/fixation/0001.png"),
    ("Hollywood", f"{SHOT}/maps/{CLIP}_00004.png"),
    ("UCFSports", "testing/Run-001/fixation/Run_001_002.png"),
    ("SALICON", f"images/{PICTURE}.jpg"),
    ("SALICON", f"maps/train/{PICTURE}.png"),
    ("MIT1003", f"{MIT}_fixMap.jpg"),
    ("MIT1003", f"{MIT}_fixPts.jpg"),
]


@pytest.mark.parametrize(("source", "file"), MISSING, ids=lambda value: value)
def test_a_missing_file_is_named(data, source, file):
    path = data(source) / file
    path.unlink()
    assert problems(source) == problems(source, quick=True) == [("missing", path)]


def test_missing_fixations_of_salicon_are_named_with_both_endings(data):
    folder = data("SALICON") / "fixations" / "train"
    (folder / f"{PICTURE}.png").unlink()
    (problem,) = inspect_source(SALICONDataset).problems
    assert problem.text == f"{folder / PICTURE}.png or .mat is missing"


@pytest.mark.parametrize("kind", ["images", "maps", "fixation"])
def test_a_video_without_files_of_a_kind_is_one_problem(data, kind):
    folder = data("DHF1K") / "annotation" / "0001" / kind
    shutil.rmtree(folder)
    assert problems("DHF1K") == [("missing", folder)]


def test_a_video_without_maps_is_a_problem_where_they_are_needed(data):
    root = data("DHF1K")
    for kind in ("maps", "fixation"):
        shutil.rmtree(root / "annotation" / "0001" / kind)
    (problem,) = inspect_source(DHF1KDataset).problems
    assert "0001 has no maps" in problem.text


@pytest.mark.parametrize("name", ["0003.PNG", "3.png", "frame3.png"])
def test_a_name_that_would_not_be_found_counts_as_missing(data, name):
    path = data("DHF1K") / "annotation" / "0001" / "images" / "0003.png"
    path.rename(path.with_name(name))
    assert problems("DHF1K") == [("missing", path)]
    with pytest.raises(UserError, match=r"missing: .*0003\.png"):
        DHF1KDataset("train", seq_len=2, frame_modulo=1)


FILES = [
    ("DHF1K", "annotation/0001/images/0003.png"),
    ("DHF1K", "annotation/0701/images/0003.png"),
    ("Hollywood", f"{SHOT}/maps/{CLIP}_00004.png"),
    ("UCFSports", "testing/Run-001/fixation/Run_001_002.png"),
    ("SALICON", f"images/{PICTURE}.jpg"),
    ("SALICON", f"fixations/train/{PICTURE}.png"),
    ("MIT1003", f"{MIT}_fixMap.jpg"),
    ("MIT300", "BenchmarkIMAGES/i2.jpg"),
]


@pytest.mark.parametrize(("source", "file"), FILES, ids=lambda value: value)
def test_an_unreadable_file_is_named(data, source, file):
    path = data(source) / file
    cut(path)
    assert problems(source) == [("unreadable", path)]
    path.write_text("no picture")
    assert problems(source) == problems(source, quick=True) == [("unreadable", path)]


@pytest.mark.parametrize(
    ("source", "file"),
    [
        ("DHF1K", "annotation/0001/images/0003.png"),
        ("SALICON", f"maps/train/{PICTURE}.png"),
        ("SALICON", f"fixations/train/{PICTURE}.png"),
        ("MIT1003", f"{MIT}_fixMap.jpg"),
        ("MIT1003", f"{MIT}_fixPts.jpg"),
    ],
    ids=lambda value: value,
)
def test_a_file_of_another_size_is_named(data, source, file):
    path = data(source) / file
    resize(path)
    found = problems(source)
    assert {kind for kind, _ in found} == {"of another size"}
    assert sorted(found) == sorted(problems(source, quick=True))
    assert str(path) in " ".join(p.text for p in inspect_source(DATASETS[source]).problems)


def test_a_map_without_fixations_is_named(data):
    root = data("DHF1K") / "annotation" / "0001"
    blank(root / "fixation" / "0002.png")
    blank(root / "maps" / "0003.png")
    for kind in ("maps", "fixation"):  # nobody looked: no problem
        blank(root / kind / "0004.png")
    Image.fromarray(np.full(SIZE, 3, np.uint8)).save(root / "maps" / "0005.png")
    assert problems("DHF1K") == [
        ("map without fixations", root / "fixation" / "0002.png"),
        ("fixations without a map", root / "maps" / "0003.png"),
        ("fixations without a map", root / "maps" / "0005.png"),
    ]


def test_fixations_of_0_and_1_are_fixations(data):
    path = data("DHF1K") / "annotation" / "0001" / "fixation" / "0002.png"
    Image.fromarray(np.asarray(Image.open(path)) // 255).save(path)
    assert problems("DHF1K") == []


@pytest.mark.usefixtures("data")
def test_a_folder_without_any_file_is_a_problem(tmp_path):
    (tmp_path / "UCFSports" / "training").mkdir(parents=True)
    assert problems("UCFSports") == [("missing", tmp_path / "UCFSports")]


@pytest.mark.parametrize(
    ("source", "file"), [row for row in MISSING if row[1][-12:-4] != "s/0005"][:8], ids=str
)
def test_what_a_dataset_refuses_is_found(data, source, file):
    data(source).joinpath(file).unlink()
    if "0005" in file or "images/COCO" in file:  # an image less is a smaller data set
        return
    phase = "test" if "testing" in file else "eval" if "0601" in file else "train"
    options = {"seq_len": 2, "frame_modulo": 1} if DATASETS[source].is_video else {}
    with pytest.raises(UserError, match="missing"):
        DATASETS[source].from_options(options, phase=phase)
    assert problems(source)


# ---- all at once --------------------------------------------------------------------------


def test_all_folders_that_are_there_are_checked(data, capsys):
    data("SALICON")
    data("MIT300")
    reports = check_data(sources=(), quick=False, max_shown=20)
    assert [r.source for r in reports] == ["SALICON", "MIT300"]
    out = capsys.readouterr().out
    assert "no folder of DHF1K (DHF1K_DATA_DIR)" in out and "SALICON_DATA_DIR" not in out
    assert out.count("no problems") == 2


def test_problems_of_several_sources_are_counted_and_some_named(data, capsys):
    images = data("MIT300") / "BenchmarkIMAGES"
    for path in images.iterdir():
        path.write_text("no picture")
    data("DHF1K")
    (data("SALICON") / "maps" / "train" / f"{PICTURE}.png").unlink()
    with pytest.raises(SomeFailed, match=r"^problems in SALICON \(1\), MIT300 \(3\)$"):
        check_data(sources=(), quick=False, max_shown=2)
    out = capsys.readouterr().out
    assert "3 problems: 3 unreadable" in out and "and 1 more" in out
    assert out.count("is not a picture") == 2


@pytest.mark.usefixtures("data")
@pytest.mark.parametrize(
    ("sources", "words"),
    [
        ((), "no data folder.*DHF1K_DATA_DIR"),
        (("SALICON",), "SALICON_DATA_DIR"),
        (("NOPE",), "'NOPE'.*SALICON"),
    ],
)
def test_a_mistake_in_what_to_check(sources, words):
    with pytest.raises(UserError, match=words):
        check_data(sources=sources, quick=False, max_shown=20)


def test_the_command(tmp_path, data, capsys):
    data("SALICON")
    assert call_command("check_data", "--source=SALICON") == 0
    out, err = capsys.readouterr()
    assert "3 images, 3 maps, 3 fixations" in out and "no problems" in out
    assert err == ""
    path = tmp_path / "SALICON" / "images" / f"{PICTURE}.jpg"
    path.write_text("no picture")
    done = run_command("check_data")
    assert done.returncode == 1
    assert done.stderr == "run.py: problems in SALICON (1)\n"
    assert str(path) in done.stdout and "MIT300_DATA_DIR" in done.stdout


# ---- the quick part -----------------------------------------------------------------------


class Lengths:
    """Videos of these lengths; remembers which frames' files were asked for."""

    source = "none"

    def __init__(self, *lengths):
        self._lengths, self.asked = lengths, []

    def lengths(self):
        return list(self._lengths)

    def files(self, index, number):
        self.asked.append((index, number))
        return FrameFiles(None)


def test_the_quick_part_looks_at_all_of_a_small_data_set():
    dataset = Lengths(3, 1, 5)
    quick_check([dataset])
    every = [(i, n) for i, length in enumerate(dataset.lengths()) for n in range(1, length + 1)]
    assert dataset.asked == every


def test_the_quick_part_spreads_over_a_large_data_set(monkeypatch):
    monkeypatch.setattr(inspection, "QUICK_PICTURES", 50)
    dataset = Lengths(*[100] * 20)
    quick_check([dataset])
    assert len(dataset.asked) == 50
    assert dataset.asked[0] == (0, 1) and dataset.asked[-1] == (19, 100)
    assert {index for index, _ in dataset.asked} == set(range(20))


@pytest.mark.parametrize(
    ("command", "part"),
    [
        (
            ["train", "--data_sources=SALICON", "--model_cfg={'cnn_cfg':{'pretrained':False}}"],
            "train",
        ),
        (
            ["train", "--data_sources=SALICON", "--model_cfg={'cnn_cfg':{'pretrained':False}}"],
            "val",
        ),
        (["score_model", "--sources=SALICON"], "val"),
        (["generate_predictions", "--sources=SALICON"], "test"),
    ],
    ids=lambda value: value if isinstance(value, str) else value[0],
)
def test_long_work_does_the_quick_part_first(data, tmp_path, monkeypatch, capsys, command, part):
    path = data("SALICON") / "images" / f"COCO_{part}2014_000000000002.jpg"
    path.write_text("no picture")
    monkeypatch.setenv("TRAIN_DIR", str(tmp_path / "runs"))
    monkeypatch.setenv("PRED_DIR", str(tmp_path / "predictions"))
    write_run(tmp_path / "runs" / "pretrained_unisal")
    before = sorted(tmp_path.rglob("*"))
    assert call_command(*command, "--device=cpu") == 2
    out, err = capsys.readouterr()
    assert out == ""
    (line,) = err.splitlines()
    assert str(path) in line and "check_data --source=SALICON" in line
    assert sorted(tmp_path.rglob("*")) == before
