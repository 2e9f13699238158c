"""`predictions_from_folder` where some of it is done already, and where it writes."""

from __future__ import annotations

import os
import shutil

import numpy as np
import pytest
from PIL import Image
from support import call_command, lively_network, photo, write_network, write_photo

from unisal.commands import folder_work, table
from unisal.errors import SomeFailed, UserError
from unisal.predict.presets import Preset


@pytest.fixture(scope="module")
def networks():
    return [lively_network(seed, contrast=0.5) for seed in range(2)]


@pytest.fixture(autouse=True)
def runs(tmp_path, monkeypatch, networks):
    """Write a run where the shipped one is expected; the network sees 64 x 96 pixels."""
    monkeypatch.setenv("TRAIN_DIR", str(tmp_path / "runs"))
    write_network(tmp_path / "runs" / "pretrained_unisal", networks[0])
    monkeypatch.setattr(Preset, "input_size_for", lambda *_: (64, 96))
    return tmp_path / "runs"


@pytest.fixture
def folder(tmp_path):
    for i in range(4):
        write_photo(tmp_path / "pictures" / "images" / f"{i}.png", (30, 40), seed=i)
    return tmp_path / "pictures"


@pytest.fixture
def predicted(monkeypatch):
    """Note the names of the pictures that are predicted."""
    found = []
    read, read_frames = folder_work.read_rgb_image, folder_work.read_frames

    def note(path):
        found.append(path.name)
        return read(path)

    def note_frames(paths, *rest):
        found.extend(path.name for path in paths)
        return read_frames(paths, *rest)

    monkeypatch.setattr(folder_work, "read_rgb_image", note)
    monkeypatch.setattr(folder_work, "read_frames", note_frames)
    return found


def predict(place, **options):
    table.predictions_from_folder(str(place), device="cpu", **options)


def content(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def again(predicted, place, **options):
    """Predict; return the names of what was."""
    predicted.clear()
    predict(place, **options)
    return sorted(predicted)


ALL = ["0.png", "1.png", "2.png", "3.png"]


def test_what_is_finished_is_skipped_and_said(folder, predicted, capsys):
    assert again(predicted, folder, overlay=True) == ALL
    whole = content(folder)
    assert again(predicted, folder, overlay=True) == []
    assert "4 finished before and skipped; --overwrite=True" in capsys.readouterr().out
    (folder / "saliency" / "1.png").unlink()
    (folder / "overlay" / "3.png").unlink()
    assert again(predicted, folder) == ["1.png"]  # overlays were not asked for
    assert again(predicted, folder, overlay=True) == ["3.png"]
    assert again(predicted, folder, overlay=True, overwrite=True) == ALL
    assert content(folder) == whole


def test_a_picture_that_was_replaced_is_predicted_again(folder, predicted, capsys):
    predict(folder)
    images = folder / "images"
    before = (images / "1.png").stat()
    shutil.copy2(images / "2.png", images / "1.png")
    os.utime(images / "1.png", ns=(before.st_atime_ns, before.st_mtime_ns))
    os.utime(images / "0.png")  # newer, but the same
    assert again(predicted, folder) == ["1.png"]
    assert (
        "1 are there, but not known to be made of these pictures in this way"
        in capsys.readouterr().out
    )
    one, two = ((folder / "saliency" / f"{i}.png").read_bytes() for i in (1, 2))
    assert one == two


def test_maps_that_were_made_in_another_way_are_made_again(folder, predicted, runs, networks):
    write_network(runs / "other", networks[1])
    predict(folder)
    first = content(folder)
    for options in (
        {"train_id": "other"},
        {"model_domain": "Hollywood"},
        {"source": "MIT1003"},
        {"maps": "png16"},
        {},
    ):
        assert again(predicted, folder, **options) == ALL, options
        assert again(predicted, folder, **options) == [], options
    assert content(folder) == first
    # The same name of a run with other weights.
    shutil.copy(runs / "other" / "weights_best.pth", runs / "pretrained_unisal")
    assert again(predicted, folder) == ALL


@pytest.mark.parametrize("name", ["0.png", "1.png"])
def test_what_is_no_whole_map_is_made_again(folder, predicted, name):
    predict(folder)
    path = folder / "saliency" / name
    whole = path.read_bytes()
    for content in (b"", whole[:-1], whole[: len(whole) // 2], b"anything"):
        path.write_bytes(content)
        assert again(predicted, folder) == [name]
        assert path.read_bytes() == whole


def test_a_moved_folder_is_still_finished(folder, predicted, tmp_path):
    predict(folder)
    shutil.copytree(folder, tmp_path / "moved")
    assert again(predicted, tmp_path / "moved") == []


@pytest.mark.parametrize("maps", [None, "npz", "h5"])
def test_a_video_is_finished_as_a_whole_or_not_at_all(folder, predicted, maps):
    options = {"is_video": True, "maps": maps, "overlay": True}
    assert again(predicted, folder, **options) == ALL
    whole = content(folder)
    assert again(predicted, folder, **options) == []
    (folder / "overlay" / "2.png").unlink()
    assert again(predicted, folder, **options) == ALL
    write_photo(folder / "images" / "0.png", (30, 40), seed=9)
    assert again(predicted, folder, **options) == ALL
    write_photo(folder / "images" / "0.png", (30, 40), seed=0)
    assert again(predicted, folder, **options) == ALL
    if maps != "h5":  # whose bytes hold times
        assert content(folder) == whole
    assert again(predicted, folder, **options, smooth_method="med3") == ALL
    (folder / "images" / "3.png").unlink()
    assert again(predicted, folder, **options, smooth_method="med3") == ALL[:3]


def test_images_are_not_taken_for_frames(folder, predicted):
    predict(folder, source="SALICON")
    assert again(predicted, folder, is_video=True, source="SALICON") == ALL


def test_a_picture_that_failed_is_tried_again(folder, predicted):
    (folder / "images" / "2.png").write_bytes(b"")
    for n_done in (3, 0):
        with pytest.raises(SomeFailed, match=r"1 of 4 pictures in .*images.* 2\.png"):
            again(predicted, folder)
        assert len(predicted) == n_done + 1


# ---- where it writes ----------------------------------------------------------------------


def test_every_kind_has_a_map_and_an_overlay_and_none_is_lost(tmp_path):
    folder = tmp_path / "pictures"
    folder.mkdir()
    names = ("a.jpg", "a.png", "a.webp", "b.gif", "c.tif", "d.bmp", "e.JPG", "f.jfif", "g.avif")
    Image.init()
    names = [name for name in names if Image.registered_extensions().get(name[1:].lower())]
    for seed, name in enumerate(names):
        Image.fromarray(photo((30, 40), seed)).save(folder / name)
    predict(folder, overlay=True)
    expected = {"a.jpg", "a.png", "a.webp.png", "b.png", "c.png", "d.png", "e.JPG", "f.png"}
    for kind in ("saliency", "overlay"):
        written = {path.name for path in (folder / kind).iterdir()}
        assert written - {"g.png"} == expected
        assert len(written) == len(names)
        for path in (folder / kind).iterdir():
            with Image.open(path) as picture:
                assert picture.size == (40, 30)
                assert picture.format == ("JPEG" if path.suffix.lower() == ".jpg" else "PNG")
    # The second time the results are not taken for pictures.
    before = content(folder)
    predict(folder, overlay=True)
    assert content(folder) == before


def test_one_picture_has_the_name_that_it_has_with_its_neighbours(tmp_path, predicted):
    for name in ("a.png", "a.webp"):
        write_photo(tmp_path / "p" / name, (30, 40))
    assert again(predicted, tmp_path / "p" / "a.webp") == ["a.webp"]
    assert [p.name for p in (tmp_path / "p" / "saliency").iterdir()] == ["a.webp.png"]
    assert again(predicted, tmp_path / "p") == ["a.png"]


def test_out_dir_and_the_folders_below(folder, tmp_path, capsys):
    write_photo(folder / "images" / "more" / "5.jpg", (30, 40))
    write_photo(tmp_path / "pictures" / "sub" / "6.jpg", (30, 40))
    out = tmp_path / "out"
    before = content(folder)
    line = ["predictions_from_folder", str(folder), f"--out_dir={out}", "--overlay=True"]
    assert call_command(*line, "--device=cpu") == 0
    found = [f"{kind}/{name}" for kind in ("saliency", "overlay") for name in ALL]
    assert sorted(content(out)) == sorted(found)
    assert call_command(*line, "--recursive=True", "--device=cpu") == 0
    said = capsys.readouterr().out
    assert "4 finished before and skipped" in said and str(out / "sub" / "saliency") in said
    found += [f"{sub}/{kind}/{n}" for sub, n in (("images/more", "5.jpg"), ("sub", "6.jpg"))
              for kind in ("saliency", "overlay")]  # fmt: skip
    assert sorted(content(out)) == sorted(found)
    assert content(folder) == before


def test_each_folder_below_is_a_video(folder, tmp_path, predicted):
    for name in ("a", "b/images"):
        shutil.copytree(folder / "images", tmp_path / "films" / name)
    (tmp_path / "films" / "a" / "1.png").write_bytes(b"no picture")
    with pytest.raises(SomeFailed, match=rf"video {tmp_path / 'films' / 'a'}: .*1\.png"):
        predict(tmp_path / "films", is_video=True, recursive=True)
    assert predicted == ALL
    predict(folder, is_video=True)
    for path in (folder / "saliency").iterdir():
        other = tmp_path / "films" / "b" / "saliency" / path.name
        np.testing.assert_array_equal(Image.open(other), Image.open(path))
    shutil.rmtree(tmp_path / "films" / "b")
    with pytest.raises(UserError, match=r"1\.png is not a picture"):
        predict(tmp_path / "films", is_video=True, recursive=True)
