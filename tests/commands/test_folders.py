"""Whole folders of pictures and videos: which files are read, what is written where, what goes
wrong."""

from __future__ import annotations

import logging
import sys
import threading

import h5py
import numpy as np
import pytest
import torch
from PIL import Image
from support import (
    PROJECT,
    call_command,
    lively_network,
    photo,
    run_command,
    write_network,
    write_photo,
)

import unisal
from unisal.commands import table
from unisal.commands.frames import FRAMES_AHEAD, read_frames
from unisal.errors import SomeFailed, UserError
from unisal.inference.densities import to_saliency_map
from unisal.predict.presets import Preset
from unisal.visualize.overlay import draw_overlay
from unisal.writing.maps import to_grey_levels

COLOURS = 8
"""How far apart the colours of one grey level and the next may be."""


@pytest.fixture(autouse=True)
def runs(tmp_path, monkeypatch):
    """Write a run where the shipped one is expected, and return the folder of the runs."""
    monkeypatch.setenv("TRAIN_DIR", str(tmp_path / "runs"))
    sharp_run(tmp_path / "runs" / "pretrained_unisal")
    return tmp_path / "runs"


def sharp_run(folder, seed=0, **model_cfg):
    """A run whose maps are far from flat: otherwise all maps are one grey once they are rounded."""
    write_network(folder, lively_network(seed, contrast=0.5, **model_cfg))


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "pictures"


def predict(folder, **options):
    table.predictions_from_folder(str(folder), device="cpu", **options)


def names(folder):
    return sorted(p.name for p in folder.iterdir())


def plain_map(path, **options):
    """The definition: `uint8(p / max(p) * 255)`."""
    p = unisal.load(device="cpu", **options).image(path)
    grey = (p / p.max() * 255).astype(np.uint8)
    assert len(np.unique(grey)) > 20  # there is something to compare
    return grey


def pixels(path):
    return np.asarray(Image.open(path))


def assert_one_level(written, expected, tolerance=1):
    """Pictures are the same but for rounding: few pixels differ, by one grey level."""
    difference = np.abs(written.astype(int) - expected)
    assert difference.max() <= tolerance
    if tolerance == 1:
        assert (difference > 0).mean() < 0.01


# ---- what is written ----------------------------------------------------------------------


def test_png_maps_are_the_density_scaled_to_its_peak(folder):
    for seed, size in enumerate([(60, 80), (90, 40), (60, 80)]):
        write_photo(folder / "images" / f"{seed}.png", size, seed)
    predict(folder)
    assert names(folder / "saliency") == ["0.png", "1.png", "2.png"]
    for path in (folder / "images").iterdir():
        written = folder / "saliency" / path.name
        assert Image.open(written).mode == "L"
        assert_one_level(pixels(written), plain_map(path))
        assert pixels(written).max() == 255


def test_jpeg_maps_are_of_the_best_quality(folder):
    write_photo(folder / "images" / "a.jpg", (60, 80))
    predict(folder)
    written = Image.open(folder / "saliency" / "a.jpg")
    assert written.format == "JPEG" and written.mode == "L"
    # Quality 100 is the one that divides every coefficient by one.
    assert set(written.quantization[0]) == {1}
    difference = np.asarray(written).astype(int) - plain_map(folder / "images" / "a.jpg")
    assert np.abs(difference).max() <= 2


def test_the_map_has_the_size_of_the_picture_as_it_is_looked_at(folder):
    (folder / "images").mkdir(parents=True)
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(photo((40, 70))).save(folder / "images" / "a.png", exif=exif)
    predict(folder, overlay=True)
    for kind in ("saliency", "overlay"):
        written = Image.open(folder / kind / "a.png")
        assert (written.height, written.width) == (70, 40)
        assert 0x0112 not in written.getexif()


def test_overlays_are_the_picture_with_its_map_over_it(folder):
    for name in ("a.png", "b.jpg"):
        write_photo(folder / "images" / name, (60, 80))
    predict(folder, overlay=True)
    assert names(folder / "overlay") == names(folder / "saliency") == ["a.png", "b.jpg"]
    path = folder / "images" / "a.png"
    density = unisal.load(device="cpu").image(path)
    expected = draw_overlay(pixels(path), to_saliency_map(density))
    assert_one_level(pixels(folder / "overlay" / "a.png"), expected, tolerance=COLOURS)
    assert Image.open(folder / "overlay" / "b.jpg").mode == "RGB"


def test_overlays_are_written_only_when_asked_for(folder):
    write_photo(folder / "images" / "a.png")
    predict(folder)
    assert names(folder) == ["images", "saliency"]


# ---- which files --------------------------------------------------------------------------


def test_pictures_are_those_with_known_suffixes_in_any_case(folder):
    pictures = ["A.PNG", "b.JPG", "c.JPEG", "d.jpeg", "e.Png", "same.jpg", "same.png", "ü x.png"]
    for name in pictures:
        write_photo(folder / "images" / name, (30, 40))
    for name in (".hidden.png", "notes.txt", "f.png.bak", "g.gif"):
        (folder / "images" / name).write_bytes(b"no picture")
    predict(folder)
    assert names(folder / "saliency") == sorted(pictures)
    assert Image.open(folder / "saliency" / "A.PNG").format == "PNG"
    assert Image.open(folder / "saliency" / "b.JPG").format == "JPEG"


def test_nothing_else_is_written_or_changed_and_it_can_be_repeated(folder):
    write_photo(folder / "images" / "a.png")
    write_photo(folder / "images" / "b.jpg")
    for kept in ("notes.txt", "saliency/other.png", "saliency/.hidden", "maps/a.png"):
        (folder / kept).parent.mkdir(exist_ok=True)
        (folder / kept).write_text("unrelated")
    before = {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    (folder / "saliency" / "a.png").write_text("half a map of an interrupted run")
    after = []
    for _ in range(2):
        predict(folder, overlay=True)
        after.append({p: p.read_bytes() for p in folder.rglob("*") if p.is_file()})
    assert after[0] == after[1]
    assert {p: after[0][p] for p in before} == before
    written = {str(p.relative_to(folder)) for p in after[0].keys() - before.keys()}
    assert written == {
        f"{kind}/{name}" for kind in ("saliency", "overlay") for name in ("a.png", "b.jpg")
    }


# ---- what goes wrong ----------------------------------------------------------------------


def test_a_bad_picture_is_named_and_the_others_are_predicted(folder, caplog):
    for name in ("a.png", "cut.png", "cut.jpg", "z.png"):
        write_photo(folder / "images" / name)
    for name in ("cut.png", "cut.jpg"):
        path = folder / "images" / name
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    (folder / "images" / "empty.jpg").touch()
    (folder / "images" / "text.png").write_text("no picture")
    with pytest.raises(SomeFailed) as failed:
        predict(folder, overlay=True)
    bad = ["cut.jpg", "cut.png", "empty.jpg", "text.png"]
    assert f"4 of 6 pictures in {folder / 'images'}" in str(failed.value)
    assert str(failed.value).endswith(", ".join(bad))
    assert all(any(name in r.getMessage() for r in caplog.records) for name in bad)
    assert names(folder / "saliency") == names(folder / "overlay") == ["a.png", "z.png"]


@pytest.mark.parametrize(
    ("inside", "message"),
    [
        (None, "does not exist"),
        ([], "has no folder 'images'"),
        (["images/"], "holds no pictures"),
        (["images/notes.txt", "images/.hidden.png"], "holds no pictures"),
    ],
)
def test_a_folder_without_pictures_is_a_mistake(folder, inside, message):
    for name in inside or ():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).mkdir() if name.endswith("/") else (folder / name).touch()
    if inside is not None:
        folder.mkdir(exist_ok=True)
    with pytest.raises(UserError, match=message) as refused:
        predict(folder)
    assert str(folder) in str(refused.value)
    assert not (folder / "saliency").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"smooth_method": "med3"}, "smooth_method.*is_video"),
        ({"smooth_method": "med4"}, "'med4'"),
        ({"is_video": True, "smooth_method": "med4"}, "'med4'"),
        ({"is_video": True, "source": "NOPE"}, "'NOPE'.*DHF1K, SALICON, .*MIT300"),
        ({"is_video": True, "train_id": "nope"}, "'nope'.*there are: pretrained_unisal"),
        ({"source": "NOPE"}, "'NOPE'.*SALICON, MIT1003, MIT300"),
        ({"source": "DHF1K"}, "'DHF1K'.*SALICON, MIT1003, MIT300"),
        ({"train_id": "nope"}, "'nope'.*there are: pretrained_unisal"),
    ],
)
def test_a_wrong_option_is_found_before_anything_is_written(folder, options, message):
    write_photo(folder / "images" / "a.png")
    with pytest.raises(UserError, match=message):
        predict(folder, **options)
    assert names(folder) == ["images"]


# ---- which weights and modules ------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "tuned"), [("SALICON", False), (None, False), ("MIT1003", True), ("MIT300", True)]
)
def test_mit_sources_use_the_fine_tuned_weights(folder, runs, source, tuned):
    sharp_run(runs / "other", seed=1)
    weights = (runs / "other" / "weights_best.pth").read_bytes()
    (runs / "pretrained_unisal" / "ft_mit1003.pth").write_bytes(weights)
    path = folder / "images" / "a.png"
    write_photo(path)
    maps = {False: plain_map(path), True: plain_map(path, train_id="other")}
    assert not np.array_equal(maps[True], maps[False])
    predict(folder, source=source)
    assert_one_level(pixels(folder / "saliency" / "a.png"), maps[tuned])


@pytest.mark.parametrize("source", ["MIT1003", "MIT300"])
def test_mit_sources_do_without_fine_tuned_weights_where_there_are_none(folder, source):
    write_photo(folder / "images" / "a.png")
    predict(folder, source=source)
    expected = plain_map(folder / "images" / "a.png")
    assert_one_level(pixels(folder / "saliency" / "a.png"), expected)


def test_model_domain_picks_the_modules(folder):
    path = folder / "images" / "a.png"
    write_photo(path)
    predict(folder, model_domain="Hollywood")
    written = pixels(folder / "saliency" / "a.png")
    p = unisal.load(device="cpu").image(path, domain="Hollywood")
    assert_one_level(written, (p / p.max() * 255).astype(np.uint8))
    assert not np.array_equal(written, plain_map(path))


@pytest.mark.parametrize(
    ("options", "missing", "used"),
    [
        ({"train_id": "video"}, "SALICON", "UCFSports"),
        ({"train_id": "video", "model_domain": "Hollywood"}, "Hollywood", "UCFSports"),
        ({"model_domain": "NOPE"}, "NOPE", "DHF1K"),
    ],
)
def test_an_unknown_domain_falls_back_with_one_warning(
    folder, runs, caplog, options, missing, used
):
    sharp_run(runs / "video", sources=("UCFSports", "DHF1K"))
    for name in ("a.png", "b.png", "c.png"):
        write_photo(folder / "images" / name)
    with caplog.at_level(logging.WARNING):
        predict(folder, **options)
    (warning,) = [r.getMessage() for r in caplog.records]
    assert missing in warning and used in warning
    predictor = unisal.load(options.get("train_id"), device="cpu")
    p = predictor.image(folder / "images" / "b.png", domain=used)
    assert_one_level(pixels(folder / "saliency" / "b.png"), to_grey_levels(to_saliency_map(p)))


# ---- videos -------------------------------------------------------------------------------


@pytest.fixture
def small_input(monkeypatch):
    """The network sees 64 x 96 pixels of a video, to save time; test_video.py tests the sizes."""
    monkeypatch.setattr(Preset, "input_size_for", lambda *_: (64, 96))


def write_video(folder, n=7, suffix="png", size=(60, 80)):
    """Write frames whose numbers are in order only if they are sorted."""
    for i in reversed(range(n)):
        write_photo(folder / "images" / f"{i + 8:04d}.{suffix}", size, seed=i)
    return sorted((folder / "images").iterdir())


def plain_maps(paths, train_id=None, **options):
    densities = unisal.load(train_id, device="cpu").video(paths, **options)
    return [(p / p.max() * 255).astype(np.uint8) for p in densities]


def assert_written(folder, expected, tolerance=1):
    paths = sorted((folder / "images").iterdir())
    assert names(folder / "saliency") == [path.name for path in paths]
    for path, grey in zip(paths, expected, strict=True):
        assert_one_level(pixels(folder / "saliency" / path.name), grey, tolerance)


@pytest.mark.usefixtures("small_input")
def test_frames_are_in_the_order_of_their_numbers_without_zeros_too(folder):
    padded = write_video(folder, n=6)  # 0008.png to 0013.png
    predict(folder, is_video=True)
    expected = [pixels(folder / "saliency" / path.name) for path in padded]
    for path in padded:
        path.rename(path.with_name(f"{int(path.stem)}.png"))
    predict(folder, is_video=True)
    for path, grey in zip(padded, expected, strict=True):
        again = pixels(folder / "saliency" / f"{int(path.stem)}.png")
        np.testing.assert_array_equal(again, grey)


@pytest.mark.usefixtures("small_input")
@pytest.mark.parametrize("source", [None, "DHF1K", "Hollywood", "UCFSports", "SALICON"])
def test_a_video_is_predicted_with_its_sources_modules_and_step(folder, source):
    paths = write_video(folder)
    predict(folder, is_video=True, source=source)
    assert names(folder) == ["images", "saliency"]
    expected = plain_maps(paths, source=source or "DHF1K")
    assert_written(folder, expected)
    assert all(len(np.unique(grey)) > 20 for grey in expected)
    # There is something to compare: the frames differ, and so do the sources.
    assert all(not np.array_equal(expected[0], other) for other in expected[1:])
    other = plain_maps(paths, source="SALICON" if source != "SALICON" else "DHF1K")
    assert not np.array_equal(expected, other)


def test_a_video_of_the_data_sets_size_as_jpeg_with_overlays(folder):
    paths = write_video(folder, 6, "jpg", (360, 640))
    predict(folder, is_video=True, overlay=True)
    assert_written(folder, plain_maps(paths), tolerance=2)  # as far as a JPEG file can be
    assert names(folder / "overlay") == names(folder / "saliency")
    assert Image.open(folder / "overlay" / "0008.jpg").mode == "RGB"


@pytest.mark.usefixtures("small_input")
def test_overlays_of_a_video_are_of_the_right_frames(folder):
    paths = write_video(folder, 13)
    predict(folder, is_video=True, overlay=True)
    densities = unisal.load(device="cpu").video(paths)
    for path, density in zip(paths, densities, strict=True):
        expected = draw_overlay(pixels(path), to_saliency_map(density))
        assert_one_level(pixels(folder / "overlay" / path.name), expected, tolerance=COLOURS)


@pytest.mark.usefixtures("small_input")
def test_a_videos_options(folder, runs, caplog):
    paths = write_video(folder)
    predict(folder, is_video=True, smooth_method="med3")
    assert_written(folder, plain_maps(paths, smooth_method="med3"))
    predict(folder, is_video=True, source="UCFSports", model_domain="Hollywood")
    assert_written(folder, plain_maps(paths, source="UCFSports", domain="Hollywood"))
    sharp_run(runs / "video", sources=("UCFSports", "SALICON"))
    with caplog.at_level(logging.WARNING):
        predict(folder, is_video=True, train_id="video")
    (warning,) = [r.getMessage() for r in caplog.records]
    assert "DHF1K" in warning and "UCFSports" in warning
    assert_written(folder, plain_maps(paths, "video", domain="UCFSports"))


@pytest.mark.usefixtures("small_input")
def test_a_video_like_mits_uses_the_fine_tuned_weights(folder, runs):
    sharp_run(runs / "other", seed=1)
    weights = (runs / "other" / "weights_best.pth").read_bytes()
    (runs / "pretrained_unisal" / "ft_mit1003.pth").write_bytes(weights)
    paths = write_video(folder, 3)
    predict(folder, is_video=True, source="MIT1003")
    assert_written(folder, plain_maps(paths, "other", source="MIT1003"))


@pytest.mark.usefixtures("small_input")
def test_frames_turned_by_exif_make_a_video_where_they_are_shown_alike(folder):
    write_video(folder, 2, size=(40, 70))
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = folder / "images" / "9999.png"
    Image.fromarray(photo((70, 40))).save(turned, exif=exif)
    predict(folder, is_video=True)
    assert Image.open(folder / "saliency" / turned.name).size == (70, 40)
    Image.fromarray(photo((40, 70))).save(turned, exif=exif)
    with pytest.raises(UserError, match=r"9999\.png is 70 x 40 .* 40 x 70"):
        predict(folder, is_video=True)


def make_text(path):
    path.write_text("no picture")


def make_empty(path):
    path.write_bytes(b"")


def make_wider(path):
    write_photo(path, (60, 81))


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (make_text, "is not a picture"),
        (make_empty, "is not a picture"),
        (make_wider, "is 60 x 81 .* 60 x 80"),
    ],
)
@pytest.mark.parametrize("name", ["0008.png", "0011.png", "0014.png"])
def test_a_bad_frame_stops_a_video_before_any_work(folder, monkeypatch, name, spoil, words):
    monkeypatch.setenv("TRAIN_DIR", str(folder / "nothing"))  # no network can be loaded
    write_video(folder)
    spoil(folder / "images" / name)
    # Where the first frame is the odd one, the second is named as different from it.
    named = "0009.png" if (spoil, name) == (make_wider, "0008.png") else name
    words = "is 60 x 80 .*0008.png 60 x 81" if named != name else words
    with pytest.raises(UserError, match=f"{named} {words}"):
        predict(folder, is_video=True)
    assert names(folder) == ["images"]


@pytest.mark.usefixtures("small_input")
def test_a_frame_that_proves_to_be_damaged_ends_the_video_there(folder):
    paths = write_video(folder, 14)
    whole = paths[11].read_bytes()
    paths[11].write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match=r"0019\.png is damaged or cut off"):
        predict(folder, is_video=True)
    # Those before it are done.
    assert names(folder / "saliency") == [path.name for path in paths[:11]]
    paths[11].write_bytes(whole)
    predict(folder, is_video=True)
    assert_written(folder, plain_maps(paths))


@pytest.mark.parametrize("n", [0, 1, 3, 20])
def test_frames_are_read_in_order_and_not_far_ahead(folder, n):
    paths = write_video(folder, n, size=(30, 40)) if n else []
    drawn = []

    def draw():
        for path in paths:
            drawn.append(path)
            yield path

    read = []
    frames = read_frames(draw(), (30, 40), (32, 64), workers=2, key=lambda *known: known)
    for (path, image), x in frames:
        read.append(path)
        assert len(drawn) <= len(read) + FRAMES_AHEAD
        assert x.shape == (3, 32, 64)
        np.testing.assert_array_equal(np.asarray(image), pixels(path))
    assert read == drawn == paths


def test_reading_ahead_ends_with_its_user(folder):
    paths = write_video(folder, 20, size=(30, 40))
    before = threading.active_count()
    reading = read_frames(paths * 50, (30, 40), (32, 64), workers=2, key=lambda path, _: path)
    next(reading)
    reading.close()
    assert threading.active_count() == before


@pytest.fixture
def three_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("small_input", "three_threads")
@pytest.mark.parametrize("runtime", ["with ONNX Runtime", "without"])
def test_threads_change_nothing(folder, tmp_path, monkeypatch, runtime, caplog):
    if runtime == "without":
        monkeypatch.setitem(sys.modules, "onnxruntime", None)
    paths = write_video(folder, 23)
    predict(folder, is_video=True)
    assert_written(folder, plain_maps(paths))
    others = tmp_path / "others"
    for i in range(9):
        write_photo(others / "images" / f"{i}.png", (40 + i, 60), seed=i)
    (others / "images" / "4.png").write_bytes(b"no picture")
    (others / "images" / "6.png").write_bytes(b"no picture")
    with pytest.raises(SomeFailed, match=r"2 of 9 pictures .* 4\.png, 6\.png"):
        predict(others)
    assert [r.message.split("/")[-1][:5] for r in caplog.records if r.levelname == "ERROR"] == [
        "4.png",
        "6.png",
    ]
    assert len(names(others / "saliency")) == 7
    for path in (others / "saliency").iterdir():
        assert_one_level(pixels(path), plain_map(others / "images" / path.name))


# ---- the formats of maps ------------------------------------------------------------------


@pytest.fixture
def pictures(folder):
    """Write pictures of several sizes, two with the same stem, by the names of their maps."""
    for seed, name in enumerate(("a.png", "b.jpg", "same.jpg", "same.png")):
        write_photo(folder / "images" / name, (40 + 10 * seed, 60), seed)
    return {"a": "a.png", "b": "b.jpg", "same.jpg": "same.jpg", "same.png": "same.png"}


@pytest.mark.parametrize(("maps", "mode", "top"), [("png", "L", 255), ("png16", "I;16", 65535)])
def test_maps_as_pictures_of_a_chosen_format(folder, pictures, maps, mode, top):
    predict(folder, maps=maps)
    assert names(folder / "saliency") == sorted(f"{name}.png" for name in pictures)
    predictor = unisal.load(device="cpu")
    for name, picture in pictures.items():
        written = Image.open(folder / "saliency" / f"{name}.png")
        assert (written.format, written.mode) == ("PNG", mode)
        p = predictor.image(folder / "images" / picture)
        levels = np.asarray(written).astype(np.int64)
        assert levels.max() == top
        assert np.abs(levels - p / p.max() * top).max() <= 1 + 1e-5 * top


@pytest.mark.parametrize("maps", ["npz", "h5"])
def test_densities_of_pictures(folder, pictures, maps):
    predict(folder, maps=maps, overlay=True)
    assert names(folder / "saliency") == sorted(f"{name}.{maps}" for name in pictures)
    assert names(folder / "overlay") == sorted(pictures.values())
    predictor = unisal.load(device="cpu")
    for name, picture in pictures.items():
        density = read_arrays(folder / "saliency" / f"{name}.{maps}")["density"]
        p = predictor.image(folder / "images" / picture)
        assert density.dtype == np.float32
        assert density.sum(dtype=np.float64) == pytest.approx(1, abs=1e-6)
        np.testing.assert_allclose(density, p, rtol=1e-4)


@pytest.mark.usefixtures("small_input")
@pytest.mark.parametrize("smooth_method", [None, "med3"])
@pytest.mark.parametrize("maps", ["npz", "h5"])
def test_densities_of_a_video_are_one_file(folder, capsys, maps, smooth_method):
    paths = write_video(folder)
    predict(folder, is_video=True, maps=maps, smooth_method=smooth_method, overlay=True)
    file = folder / "saliency" / f"pictures_densities.{maps}"
    assert list((folder / "saliency").iterdir()) == [file]
    assert names(folder / "overlay") == [path.name for path in paths]
    assert f"7 densities in {file}" in capsys.readouterr().out
    arrays = read_arrays(file)
    assert set(arrays) == {"densities", "names"}
    assert arrays["names"].tolist() == [path.name for path in paths]
    expected = list(unisal.load(device="cpu").video(paths, smooth_method=smooth_method))
    assert arrays["densities"].dtype == np.float32
    np.testing.assert_allclose(arrays["densities"], expected, rtol=1e-3)
    assert np.abs(np.diff(arrays["densities"], axis=0)).max() > 1e-3 * np.max(expected)


@pytest.mark.usefixtures("small_input")
@pytest.mark.parametrize("smooth_method", [None, "med3"])
def test_16_bit_maps_of_a_video(folder, smooth_method):
    paths = write_video(folder, 4)
    predict(folder, is_video=True, maps="png16", smooth_method=smooth_method)
    assert names(folder / "saliency") == [path.name for path in paths]
    densities = unisal.load(device="cpu").video(paths, smooth_method=smooth_method)
    for path, p in zip(paths, densities, strict=True):
        levels = pixels(folder / "saliency" / path.name)
        assert levels.dtype == np.uint16
        assert np.abs(levels.astype(int) - p / p.max() * 65535).max() <= 7


@pytest.mark.usefixtures("small_input")
def test_a_video_that_ends_too_early_leaves_no_file_of_densities(folder):
    paths = write_video(folder)
    paths[5].write_bytes(paths[5].read_bytes()[:-300])
    with pytest.raises(UserError, match=r"0013\.png is damaged or cut off"):
        predict(folder, is_video=True, maps="npz")
    assert names(folder / "saliency") == []


def test_map_formats_as_a_process(folder, runs):
    write_photo(folder / "images" / "a.jpg")
    env = {"TRAIN_DIR": str(runs), "OMP_NUM_THREADS": "1"}
    done = run_command("predictions_from_folder", str(folder), "--maps=npz", env=env)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"1 densities in {folder / 'saliency'}\n"
    assert names(folder / "saliency") == ["a.npz"]


def test_an_unknown_map_format_is_refused_and_the_help_names_all(folder, capsys):
    write_photo(folder / "images" / "a.jpg")
    assert call_command("predictions_from_folder", str(folder), "--maps=gif") == 2
    assert capsys.readouterr().err == (
        "run.py: maps is 'gif'; it has to be one of png, png16, npz, h5\n"
    )
    assert names(folder) == ["images"]
    assert call_command("predictions_from_folder", "--help") == 0
    described = capsys.readouterr().out.split("maps: ")[1]
    assert all(name in described for name in ("png:", "png16:", "npz or h5:"))


def read_arrays(path):
    """Read the arrays of a file by their names."""
    if path.suffix == ".npz":
        return dict(np.load(path))
    with h5py.File(path) as file:
        return {
            name: data.asstr()[:] if data.dtype == object else data[:]
            for name, data in file.items()
        }


# ---- predict_examples ---------------------------------------------------------------------


@pytest.fixture
def examples(tmp_path):
    folder = tmp_path / "examples"
    write_photo(folder / "SALICON" / "images" / "a.png")
    return folder


def predict_examples(folder, **options):
    table.predict_examples(examples_dir=str(folder), device="cpu", **options)


def test_examples_get_maps_and_overlays_by_default(examples):
    write_photo(examples / "MIT1003" / "images" / "b.png", (50, 30))
    predict_examples(examples)
    for source, name in (("SALICON", "a.png"), ("MIT1003", "b.png")):
        assert names(examples / source) == ["images", "overlay", "saliency"]
        expected = plain_map(examples / source / "images" / name)
        assert_one_level(pixels(examples / source / "saliency" / name), expected)


def test_examples_without_overlays_and_in_another_folder(examples, tmp_path):
    write_photo(tmp_path / "mine" / "SALICON" / "images" / "c.png")
    predict_examples(tmp_path / "mine", overlay=False)
    assert names(tmp_path / "mine" / "SALICON") == ["images", "saliency"]
    assert names(examples / "SALICON") == ["images"]


def test_only_the_mit_examples_use_the_fine_tuned_weights(examples, runs):
    sharp_run(runs / "other", seed=1)
    weights = (runs / "other" / "weights_best.pth").read_bytes()
    (runs / "pretrained_unisal" / "weights_ft_mit1003.pth").write_bytes(weights)
    write_photo(examples / "MIT1003" / "images" / "a.png")
    predict_examples(examples, overlay=False)
    for source, train_id in (("SALICON", None), ("MIT1003", "other")):
        expected = plain_map(examples / source / "images" / "a.png", train_id=train_id)
        assert_one_level(pixels(examples / source / "saliency" / "a.png"), expected)


def test_what_is_no_example_is_left_out(examples, caplog):
    write_photo(examples / ".hidden" / "images" / "a.png")
    write_photo(examples / ".hidden" / "1" / "images" / "a.png")
    write_photo(examples / "DHF1K" / ".hidden" / "images" / "a.png")
    write_photo(examples / "DHF1K" / "images" / "a.png")  # a picture of no video
    (examples / "DHF1K" / "empty" / "images").mkdir(parents=True)
    write_photo(examples / "SALICON" / "images" / ".hidden.png")
    (examples / "MIT1003" / "images").mkdir(parents=True)
    (examples / "README.md").touch()
    before = set(examples.rglob("*"))
    with caplog.at_level(logging.WARNING):
        predict_examples(examples, overlay=False)
    assert caplog.records == []
    saliency = examples / "SALICON" / "saliency"
    assert set(examples.rglob("*")) - before == {saliency, saliency / "a.png"}


@pytest.mark.usefixtures("small_input")
def test_every_other_folder_holds_videos(examples):
    videos = {"DHF1K/one": "DHF1K", "DHF1K/two": "DHF1K", "UCFSports/x": "UCFSports"}
    videos |= {"holidays/beach": "DHF1K", "MIT300/y": "DHF1K"}
    for n, name in enumerate(videos, 5):
        write_video(examples / name, n)
    predict_examples(examples)
    assert names(examples / "SALICON" / "saliency") == ["a.png"]
    for name, source in videos.items():
        assert names(examples / name) == ["images", "overlay", "saliency"]
        paths = sorted((examples / name / "images").iterdir())
        assert_written(examples / name, plain_maps(paths, source=source))


@pytest.mark.usefixtures("small_input")
def test_a_bad_video_does_not_stop_the_others(examples):
    for name in ("a", "bad", "cut", "z"):
        write_video(examples / "DHF1K" / name, 3)
    (examples / "DHF1K" / "bad" / "images" / "0009.png").write_text("no picture")
    cut = examples / "DHF1K" / "cut" / "images" / "0010.png"
    cut.write_bytes(cut.read_bytes()[:-300])
    (examples / "SALICON" / "images" / "b.png").touch()
    with pytest.raises(SomeFailed) as failed:
        predict_examples(examples, overlay=False)
    message = str(failed.value)
    assert f"video {examples / 'DHF1K' / 'bad'}: " in message and "0009.png" in message
    assert f"video {examples / 'DHF1K' / 'cut'}: " in message and "0010.png" in message
    assert "b.png" in message
    for name in ("a", "z"):
        assert len(names(examples / "DHF1K" / name / "saliency")) == 3
        assert f"video {examples / 'DHF1K' / name}:" not in message
    assert names(examples / "DHF1K" / "bad") == ["images"]
    assert names(examples / "SALICON" / "saliency") == ["a.png"]


def test_the_example_video_that_ships():
    frames = sorted((PROJECT / "examples" / "DHF1K" / "otters" / "images").iterdir())
    assert [f.name for f in frames] == [f"{i + 1:04d}.jpg" for i in range(len(frames))]
    assert 12 <= len(frames) <= 40
    assert sum(f.stat().st_size for f in frames) < 1.5e6
    assert {Image.open(f).size for f in frames} == {(640, 360)}
    assert "DHF1K/otters" in (PROJECT / "examples" / "README.md").read_text()


def test_a_bad_example_does_not_stop_the_other_folder(examples):
    write_photo(examples / "MIT1003" / "images" / "b.png")
    (examples / "MIT1003" / "images" / "a.png").write_text("no picture")
    with pytest.raises(SomeFailed, match=r"1 of 2 pictures.*a\.png"):
        predict_examples(examples)
    assert names(examples / "MIT1003" / "saliency") == ["b.png"]
    assert names(examples / "SALICON" / "saliency") == ["a.png"]


@pytest.mark.parametrize("exists", [True, False])
def test_examples_without_a_picture_are_a_mistake(tmp_path, exists):
    folder = tmp_path / "none"
    if exists:
        folder.mkdir()
    with pytest.raises(UserError, match=str(folder)):
        predict_examples(folder)
