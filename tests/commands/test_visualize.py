"""`visualize_examples`: the files it leaves, which pictures they show, and what is in their
panels."""

from __future__ import annotations

import inspect
import logging
import shutil
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image
from support import (
    lively_network,
    photo,
    run_command,
    write_mit1003,
    write_network,
    write_photo,
    write_salicon,
    write_video,
)

import unisal
from unisal.commands import table
from unisal.commands.visualize import choose
from unisal.data.pairs import Pair
from unisal.errors import SomeFailed, UserError
from unisal.visualize.overlay import draw_overlay, scale_to_peak
from unisal.visualize.panels import GAP_PIXELS, draw_lines

SIZE = (90, 128)
"""(height, width) of the pictures."""


@pytest.fixture(scope="module")
def written_runs(tmp_path_factory):
    """Write a folder of runs: the shipped one, and another."""
    folder = tmp_path_factory.mktemp("runs")
    for seed, name in enumerate(("pretrained_unisal", "mine_unisal")):
        write_network(folder / name, lively_network(seed, contrast=0.5))
    return folder


@pytest.fixture(autouse=True)
def _runs(written_runs, monkeypatch):
    monkeypatch.setenv("TRAIN_DIR", str(written_runs))


@pytest.fixture
def folder(tmp_path):
    """Write four pictures with maps."""
    for i in range(4):
        write_pair(tmp_path / "pictures", f"p{i}", i)
    return tmp_path / "pictures"


def write_pair(folder, stem, seed=0):
    """Write a picture, and a map with a bright square in its top left corner."""
    write_photo(folder / "images" / f"{stem}.png", SIZE, seed)
    (folder / "maps").mkdir(exist_ok=True)
    Image.fromarray(square()).save(folder / "maps" / f"{stem}.png")


def square():
    grey = np.zeros(SIZE, np.uint8)
    grey[10:40, 10:50] = 255
    return grey


def visualize(folder, **options):
    table.visualize_examples(str(folder), **{"device": "cpu", **options})


def overlay(rgb, values, alpha):
    return draw_overlay(rgb, scale_to_peak(values), alpha)


def names(folder):
    return sorted(p.name for p in folder.iterdir())


def stem_of(path):
    """Return the stem of the picture that a file shows."""
    return path.name.removesuffix("_viz.jpg")


def pixels(path):
    return np.asarray(Image.open(path)).astype(int)


def cut(picture, n, size=SIZE):
    """Return the n panels of a picture."""
    height, width = size
    assert picture.shape[1] == n * (width + GAP_PIXELS) - GAP_PIXELS
    bottom = picture[picture.shape[0] - height :]
    return [bottom[:, i * (width + GAP_PIXELS) :][:, :width] for i in range(n)]


def difference(panel, expected):
    """Mean difference of two pictures, JPEG's errors included."""
    return np.abs(panel - expected.astype(int)).mean()


def assert_shows(written, stem, folder, models, alpha=0.55):
    """The panels are what they should be, and no other ones fit."""
    rgb = np.asarray(Image.open(folder / "images" / f"{stem}.png"))
    truth = square().astype(np.float32)
    expected = [rgb, overlay(rgb, truth, alpha)]
    for model in models:
        density = unisal.load(model, device="cpu").image(rgb)
        expected.append(draw_lines(overlay(rgb, density, alpha), truth))
    found = cut(written, len(expected))
    fits = np.array([[difference(panel, e) for e in expected] for panel in found])
    assert fits.diagonal().max() < 3
    others = fits + np.diag([np.inf] * len(expected))
    assert (fits.diagonal() < others.min(axis=1) / 1.5).all()


# ---- as a user runs it --------------------------------------------------------------------


@pytest.mark.slow
def test_the_command_leaves_pictures_and_nothing_else(folder):
    before = {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    done = run_command(
        "visualize_examples",
        f"--folder_path={folder}",
        "--train_id=mine_unisal",
        "--n=2",
        "--contact_sheet=True",
    )
    assert (done.returncode, done.stderr) == (0, "")
    out = folder / "viz_out"
    assert done.stdout == f"2 pictures in {out}, a contact sheet\n"
    *pictures, sheet = sorted(out.iterdir(), key=lambda p: p.name == "contact_sheet_viz.jpg")
    assert sheet.name == "contact_sheet_viz.jpg" and len(pictures) == 2
    for path in [*pictures, sheet]:
        assert path.name.endswith("_viz.jpg")
        assert Image.open(path).format == "JPEG"
    for path in pictures:
        assert_shows(pixels(path), stem_of(path), folder, ["mine_unisal", "pretrained_unisal"])
    assert names(folder) == ["images", "maps", "viz_out"]
    assert {p: p.read_bytes() for p in before} == before


@pytest.mark.slow
def test_the_command_writes_a_video(tmp_path):
    folder = tmp_path / "my clip"
    write_video(folder, "", 7, SIZE)
    done = run_command(
        "visualize_examples", str(folder), "--video=True", "--fps=12.5", "--n=2", "--alpha=0.8"
    )
    assert (done.returncode, done.stderr) == (0, "")
    out = folder / "viz_out"
    assert f"a video in {out / 'my clip_viz.mp4'}\n" in done.stdout
    assert len(names(out)) == 3 and len(list(out.glob("*_viz.jpg"))) == 2
    assert names(folder) == ["fixation", "images", "maps", "viz_out"]
    with av.open(str(out / "my clip_viz.mp4")) as container:
        stream = container.streams.video[0]
        assert stream.codec_context.name == "h264"
        assert (stream.frames, stream.average_rate) == (7, Fraction(25, 2))
        assert stream.duration * stream.time_base == Fraction(7 * 2, 25)
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    assert len(frames) == 7
    paths = sorted((folder / "images").iterdir())
    densities = unisal.load(device="cpu").video(paths)
    for frame, path, density in zip(frames, paths, densities, strict=True):
        rgb = np.asarray(Image.open(path))
        truth = np.asarray(Image.open(folder / "maps" / path.name)).astype(np.float32)
        image, over, mine = cut(frame[:, : 3 * (SIZE[1] + GAP_PIXELS) - GAP_PIXELS], 3)
        assert difference(image, rgb) < 4
        assert difference(over, overlay(rgb, truth, 0.8)) < 6
        assert difference(mine, draw_lines(overlay(rgb, density, 0.8), truth)) < 8
    for path in out.glob("*_viz.jpg"):  # the pictures are frames of the same prediction
        number = int(path.name.split("_")[0]) - 1
        assert difference(pixels(path), frames[number][:, : pixels(path).shape[1]]) < 5


def test_the_options_have_their_published_defaults():
    options = inspect.signature(table.visualize_examples).parameters
    assert {name: option.default for name, option in list(options.items())[:7]} == {
        "folder_path": inspect.Parameter.empty,
        "train_id": None,
        "n": 12,
        "seed": 0,
        "out_dirname": "viz_out",
        "alpha": 0.55,
        "show_labels": True,
    }


# ---- what is drawn ------------------------------------------------------------------------


@pytest.mark.parametrize("train_id", [None, "", "pretrained_unisal"])
def test_three_panels_where_the_model_is_the_shipped_one(folder, train_id):
    visualize(folder, train_id=train_id, n=1)
    (path,) = (folder / "viz_out").iterdir()
    assert_shows(pixels(path), stem_of(path), folder, ["pretrained_unisal"])


def test_three_panels_where_the_shipped_model_is_not_there(
    folder, written_runs, tmp_path, monkeypatch
):
    shutil.copytree(written_runs / "mine_unisal", tmp_path / "runs" / "mine_unisal")
    monkeypatch.setenv("TRAIN_DIR", str(tmp_path / "runs"))
    visualize(folder, train_id="mine_unisal", n=1)
    (path,) = (folder / "viz_out").iterdir()
    assert_shows(pixels(path), stem_of(path), folder, ["mine_unisal"])


@pytest.mark.parametrize("alpha", [0, 1])
def test_alpha_is_the_opacity_of_the_heat_maps(folder, alpha):
    visualize(folder, alpha=alpha, n=1)
    (path,) = (folder / "viz_out").iterdir()
    image, over, _ = cut(pixels(path), 3)
    inside = np.abs(over - image)[15:35, 15:45].mean()
    assert inside < 3 if alpha == 0 else inside > 40
    if alpha == 1:
        assert_shows(pixels(path), stem_of(path), folder, ["pretrained_unisal"], alpha)


def test_labels_can_be_left_out(folder):
    visualize(folder, n=1, out_dirname="with")
    visualize(folder, n=1, out_dirname="without", show_labels=False)
    (with_labels,), (without,) = ((folder / name).iterdir() for name in ("with", "without"))
    assert pixels(without).shape[0] == SIZE[0]
    assert pixels(with_labels).shape[0] > SIZE[0]
    strip = pixels(with_labels)[: -SIZE[0]]
    assert (strip < 100).any()


def test_a_picture_is_shown_the_way_it_is_looked_at(folder):
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = Image.fromarray(photo((SIZE[1], SIZE[0]), 3))
    turned.transpose(Image.Transpose.ROTATE_90).save(folder / "images" / "p3.png", exif=exif)
    Image.fromarray(np.rot90(square())).save(folder / "maps" / "p3.png")
    for i in range(3):
        (folder / "images" / f"p{i}.png").unlink()
    visualize(folder)
    image, *_ = cut(pixels(folder / "viz_out" / "p3_viz.jpg"), 3, (SIZE[1], SIZE[0]))
    assert difference(image, np.asarray(turned)) < 3


def test_large_pictures_are_shrunk(tmp_path):
    write_photo(tmp_path / "images" / "large.jpg", (600, 2048))
    visualize(tmp_path)
    assert pixels(tmp_path / "viz_out" / "large_viz.jpg").shape[1] == 2 * 1024 + GAP_PIXELS


@pytest.mark.parametrize("doubled", [False, True])
def test_mit1003_folders(tmp_path, doubled):
    write_mit1003(tmp_path, [(60, 80), (80, 60)], doubled)
    visualize(tmp_path, source="MIT1003")
    assert names(tmp_path / "viz_out") == ["i0001_viz.jpg", "i0002_viz.jpg"]
    for stem, size in (("i0001", (60, 80)), ("i0002", (80, 60))):
        image, over, _ = cut(pixels(tmp_path / "viz_out" / f"{stem}_viz.jpg"), 3, size)
        (grey,) = tmp_path.rglob(f"{stem}_fixMap.jpg")
        changed, grey = np.abs(over - image).sum(axis=-1), pixels(grey)
        assert changed[grey > 200].mean() > 40
        assert changed[grey < 2].mean() < 8


def test_the_whole_of_salicon(tmp_path):
    write_salicon(tmp_path, "train", n=2)
    write_salicon(tmp_path, "val", n=2)
    visualize(tmp_path)
    assert names(tmp_path / "viz_out") == [
        f"COCO_{part}2014_{i:012d}_viz.jpg" for part in ("train", "val") for i in (1, 2)
    ]


def test_the_contact_sheet_shows_the_pictures_that_were_drawn(folder):
    visualize(folder, n=2, contact_sheet=True)
    *pictures, sheet = sorted(
        (folder / "viz_out").iterdir(), key=lambda p: p.name == "contact_sheet_viz.jpg"
    )
    whole = pixels(sheet)
    for path in pictures:
        panel = cut(pixels(path), 3)[1]
        # These pictures are small enough to be on the sheet as they are.
        corners = np.argwhere(np.abs(whole[: -SIZE[0], : -SIZE[1]] - panel[0, 0]).max(axis=-1) < 25)
        fits = [
            difference(whole[y : y + SIZE[0], x : x + SIZE[1]][::4, ::4], panel[::4, ::4])
            for y, x in corners
        ]
        assert min(fits) < 4


# ---- which pictures -----------------------------------------------------------------------


def pairs_of(*stems):
    return [Pair(Path(f"images/{stem}.jpg"), Path(f"maps/{stem}.png")) for stem in stems]


def test_the_choice_depends_on_the_seed_alone():
    pairs = pairs_of(*(f"{i:03d}" for i in range(100)))
    np.random.seed(1)
    state = np.random.get_state()[1].tolist()
    chosen = {seed: choose(pairs, 10, seed) for seed in range(20)}
    assert np.random.get_state()[1].tolist() == state
    assert all(len(set(drawn)) == 10 and drawn == sorted(drawn) for drawn in chosen.values())
    np.random.seed(2)
    assert chosen == {seed: choose(pairs, 10, seed) for seed in range(20)}
    assert len({tuple(drawn) for drawn in chosen.values()}) == 20
    counts = [sum(pair in drawn for drawn in chosen.values()) for pair in pairs]
    assert max(counts) < 10  # no picture is preferred
    assert set(choose(pairs, 5, 0)) < set(chosen[0])  # more pictures are those and others


def test_all_are_drawn_where_there_are_not_so_many():
    pairs = pairs_of("a", "b", "c")
    assert choose(pairs, 3, 0) == choose(pairs, 12, 7) == pairs


def test_the_seed_and_n_are_those_of_the_command(folder):
    for seed in (0, 1):
        visualize(folder, n=2, seed=seed, out_dirname=f"out{seed}")
        drawn = choose([Pair(p, p) for p in sorted((folder / "images").iterdir())], 2, seed)
        expected = [f"{pair.image.stem}_viz.jpg" for pair in drawn]
        assert names(folder / f"out{seed}") == expected


def test_pictures_without_a_map_are_named_and_left_out(folder, caplog):
    for i in (1, 3):
        (folder / "maps" / f"p{i}.png").unlink()
    visualize(folder)
    assert names(folder / "viz_out") == [f"p{i}_viz.jpg" for i in (0, 2)]
    (record,) = caplog.records
    assert "2 pictures" in record.message and "left out: p1.png, p3.png" in record.message


def test_files_that_are_no_pictures_are_named(folder, caplog):
    (folder / "images" / "notes.txt").touch()
    visualize(folder, n=1)
    (record,) = caplog.records
    assert record.message == f"{folder / 'images'}: 1 file left out, no picture: notes.txt"


def test_a_folder_without_maps_is_shown_without_ground_truth(folder, caplog):
    for path in (folder / "maps").iterdir():
        path.unlink()
    visualize(folder, train_id="mine_unisal", n=1)
    (record,) = caplog.records
    assert "no maps" in record.message and str(folder / "images") in record.message
    (path,) = (folder / "viz_out").iterdir()
    rgb = np.asarray(Image.open(folder / "images" / path.name.replace("_viz.jpg", ".png")))
    image, *models = cut(pixels(path), 3)
    assert difference(image, rgb) < 3
    for panel, name in zip(models, ("mine_unisal", "pretrained_unisal"), strict=True):
        density = unisal.load(name, device="cpu").image(rgb)
        assert difference(panel, overlay(rgb, density, 0.55)) < 3


def test_files_of_one_stem_are_kept_apart(folder):
    for i in (1, 2, 3):
        (folder / "images" / f"p{i}.png").unlink()
        (folder / "maps" / f"p{i}.png").unlink()
    for name in ("p0.jpg", "contact_sheet.png"):
        write_photo(folder / "images" / name, SIZE)
    (folder / "maps" / "p0.png").unlink()
    visualize(folder, contact_sheet=True)
    assert names(folder / "viz_out") == [
        "contact_sheet.png_viz.jpg",
        "contact_sheet_viz.jpg",
        "p0.jpg_viz.jpg",
        "p0.png_viz.jpg",
    ]


# ---- video --------------------------------------------------------------------------------


def test_a_source_of_videos_makes_the_pictures_frames(tmp_path):
    write_video(tmp_path, "", 6, SIZE)
    visualize(tmp_path, source="DHF1K", n=2, out_dirname="frames")
    visualize(tmp_path, n=2, out_dirname="stills")
    assert names(tmp_path / "frames") == names(tmp_path / "stills")
    assert len(names(tmp_path / "frames")) == 2
    paths = sorted((tmp_path / "images").iterdir())
    by_itself = unisal.load(device="cpu")
    densities = dict(zip(paths, unisal.load(device="cpu").video(paths), strict=True))
    for name in names(tmp_path / "frames"):
        path = tmp_path / "images" / name.replace("_viz.jpg", ".png")
        rgb = np.asarray(Image.open(path))
        truth = np.asarray(Image.open(tmp_path / "maps" / path.name)).astype(np.float32)
        for kind, density in (("frames", densities[path]), ("stills", by_itself.image(path))):
            panel = cut(pixels(tmp_path / kind / name), 3)[2]
            assert difference(panel, draw_lines(overlay(rgb, density, 0.55), truth)) < 5


def test_each_model_predicts_every_frame_of_a_video(tmp_path):
    write_video(tmp_path, "", 7, SIZE)
    visualize(tmp_path, source="DHF1K", train_id="mine_unisal")
    paths = sorted((tmp_path / "images").iterdir())
    models = ("mine_unisal", "pretrained_unisal")
    videos = {name: list(unisal.load(name, device="cpu").video(paths)) for name in models}
    for i, path in enumerate(paths):
        rgb = np.asarray(Image.open(path))
        truth = np.asarray(Image.open(tmp_path / "maps" / path.name)).astype(np.float32)
        panels = cut(pixels(tmp_path / "viz_out" / f"{path.stem}_viz.jpg"), 4)
        assert difference(panels[0], rgb) < 3
        shown = [
            difference(panels[at], draw_lines(overlay(rgb, videos[name][i], 0.55), truth))
            for at, name in enumerate(models, 2)
        ]
        exchanged = [
            difference(panels[at], draw_lines(overlay(rgb, videos[name][i], 0.55), truth))
            for at, name in enumerate(models[::-1], 2)
        ]
        assert max(shown) < 5 and max(shown) < min(exchanged) / 1.5


def test_in_a_video_frames_without_a_map_are_shown_without(tmp_path, caplog):
    write_video(tmp_path / "clip", "", 4, SIZE)
    (tmp_path / "clip" / "maps" / "0002.png").unlink()
    visualize(tmp_path / "clip", video=True, train_id="mine_unisal")
    (warning,) = [r.message for r in caplog.records if "no map" in r.message]
    assert "1 pictures" in warning and "0002.png" in warning
    assert names(tmp_path / "clip" / "viz_out") == [
        *(f"000{i}_viz.jpg" for i in (1, 3, 4)),
        "clip_viz.mp4",
    ]
    with av.open(str(tmp_path / "clip" / "viz_out" / "clip_viz.mp4")) as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    assert len(frames) == 4
    for i, frame in enumerate(frames):
        image, over, *_ = cut(frame[:, : 4 * (SIZE[1] + GAP_PIXELS) - GAP_PIXELS], 4)
        assert (difference(over, image) < 2) == (i == 1)


def test_a_video_that_fails_leaves_no_video(tmp_path):
    folder = tmp_path / "clip"
    write_video(folder, "", 14, SIZE)
    last = folder / "images" / "0014.png"
    last.write_bytes(last.read_bytes()[:-600])
    with pytest.raises(UserError, match=r"0014\.png"):
        visualize(folder, video=True, n=12)
    done = names(folder / "viz_out")  # the pictures of the frames before
    assert done and all(name.endswith("_viz.jpg") for name in done)


@pytest.mark.parametrize("kind", ["images", "maps"])
def test_broken_files_of_a_video_are_found_before_it_is_predicted(tmp_path, kind):
    write_video(tmp_path, "", 4, SIZE)
    (tmp_path / kind / "0004.png").write_text("no picture")
    with pytest.raises(UserError, match=rf"{kind}/0004\.png is not a picture"):
        visualize(tmp_path, video=True)
    assert not (tmp_path / "viz_out").exists()


def test_frames_of_two_sizes_are_no_video(tmp_path):
    write_video(tmp_path, "", 3, SIZE)
    write_photo(tmp_path / "images" / "0002.png", (50, 60))
    with pytest.raises(UserError, match=r"0002\.png is 50 x 60"):
        visualize(tmp_path, video=True)


# ---- what goes wrong ----------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["images", "maps"])
def test_a_broken_picture_or_map_is_named_and_the_others_are_done(folder, kind, caplog):
    (folder / kind / "p1.png").write_text("no picture")
    with pytest.raises(SomeFailed, match=r"1 of 4 pictures .*: p1\.png"):
        visualize(folder, contact_sheet=True)
    assert [r.message for r in caplog.records if r.levelno == logging.ERROR] == [
        f"{folder / kind / 'p1.png'} is not a picture that can be read"
    ]
    assert names(folder / "viz_out") == [
        "contact_sheet_viz.jpg",
        *(f"p{i}_viz.jpg" for i in (0, 2, 3)),
    ]


def test_a_map_of_another_shape_is_stretched_with_a_warning(folder, caplog):
    Image.fromarray(square()[:, :64]).save(folder / "maps" / "p1.png")
    visualize(folder)
    (record,) = caplog.records
    assert len(names(folder / "viz_out")) == 4
    assert f"{folder / 'maps' / 'p1.png'} is 90 x 64" in record.message
    assert "p1.png 90 x 128" in record.message


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n": 0}, "n is 0; it has to be a whole number of at least 1"),
        ({"n": 2.5}, "n is 2.5"),
        ({"n": "all"}, "n is 'all'"),
        ({"n": True}, "n is True"),
        ({"seed": -1}, "seed is -1; it has to be a whole number from 0 to"),
        ({"seed": 2**32}, "seed is 4294967296"),
        ({"alpha": 1.5}, "alpha is 1.5; it has to be a number of at least 0 and at most 1"),
        ({"alpha": "much"}, "alpha is 'much'"),
        ({"fps": 0}, "fps is 0"),
        ({"source": "TV"}, "source is 'TV'"),
        ({"train_id": "nobody"}, "no run 'nobody'"),
        *(
            ({"out_dirname": name}, f"out_dirname is {name!r}")
            for name in ("", ".", "..", "images", "maps", "ALLSTIMULI", "/tmp/x", "a/b")
        ),
    ],
)
def test_options_that_make_no_sense_are_refused(folder, options, message):
    with pytest.raises(UserError) as error:
        visualize(folder, **options)
    assert message in str(error.value)
    assert names(folder) == ["images", "maps"]


def test_a_folder_that_is_not_there_is_named(tmp_path):
    with pytest.raises(UserError, match="nowhere does not exist"):
        visualize(tmp_path / "nowhere")
    assert not (tmp_path / "nowhere").exists()
