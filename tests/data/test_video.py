"""The three video sources: layouts, splits, clips and preprocessing, against plain readings."""

from __future__ import annotations

import json
import logging

import numpy as np
import pytest
import torch
from PIL import Image
from support import PROJECT, write_dhf1k, write_hollywood, write_ucfsports
from torchvision.transforms import functional as tv

from unisal.config import build, load_json, save_json
from unisal.data import DATASETS, DHF1KDataset, HollywoodDataset, UCFSportsDataset
from unisal.data.samplers import make_loader
from unisal.data.video_index import Video, read_index
from unisal.errors import UserError
from unisal.progress import SILENT

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
SHORT = {"seq_len": 3, "frame_modulo": 2}


@pytest.fixture
def roots(tmp_path, monkeypatch):
    """Return the root folders of the three sources, still empty."""
    folders = {}
    for source in ("DHF1K", "Hollywood", "UCFSports"):
        folders[source] = tmp_path / source
        folders[source].mkdir()
        monkeypatch.setenv(f"{source.upper()}_DATA_DIR", str(folders[source]))
    return folders


def positions(item, dataset, index):
    """Positions of the frames, read off their first pixel on disk."""
    video = dataset.samples[index].video
    return [int(dataset.read_frame(video, n)[0, 0, 0]) for n in item.frame_nrs]


# ---- which videos -------------------------------------------------------------------------


def test_dhf1k_parts(roots):
    write_dhf1k(roots["DHF1K"], {1: 6, 2: 7, 600: 6, 601: 9, 700: 6})
    write_dhf1k(roots["DHF1K"], {701: 5}, with_maps=False)

    def names(phase):
        return [v.name for v in DHF1KDataset(phase, **SHORT).videos]

    assert names("train") == ["0001", "0002", "0600"]
    assert names("valid") == names("eval") == ["0601", "0700"]
    assert names("test") == ["0701"]


def test_hollywood_parts_and_order(roots):
    # 2 and 14 are in the validation part, 1 and 3 are not.
    write_hollywood(roots["Hollywood"], {(1, 1): 6, (1, 2): 6, (1, 10): 6, (2, 1): 6, (3, 1): 6})
    write_hollywood(roots["Hollywood"], {(2, 1): 6, (5, 1): 6, (5, 2): 7}, part="test")

    def names(phase):
        dataset = HollywoodDataset(phase, **SHORT)
        return [v.name.removeprefix("actionclip") for v in dataset.videos]

    assert names("train") == ["train00001_1", "train00001_10", "train00001_2", "train00003_1"]
    assert names("valid") == ["train00002_1"]
    assert names("eval") == ["test00002_1"]
    assert names("test") == ["test00002_1", "test00005_1", "test00005_2"]


def test_ucfsports_numbers_are_ranks_of_sorted_names(roots):
    order = np.arange(1, 104)
    np.random.RandomState(27).shuffle(order)
    valid = set(order[92:102].tolist())
    first = min(valid)  # so many folders are needed before one falls into the validation part
    names = [f"Diving-Side-{i:03d}" for i in range(1, first)] + ["Golf-Swing-009", "Run-Side-001"]
    write_ucfsports(roots["UCFSports"], dict.fromkeys(names, 6), size=(12, 18))
    expected = [name for rank, name in enumerate(names, 1) if rank in valid]
    assert expected[0] == "Golf-Swing-009"
    assert [v.name for v in UCFSportsDataset("valid", **SHORT).videos] == expected
    train = [v.name for v in UCFSportsDataset("train", **SHORT).videos]
    assert sorted([*train, *expected]) == names


def test_subset_keeps_the_first_share_of_the_samples(roots):
    write_dhf1k(roots["DHF1K"], dict.fromkeys([*range(1, 8), 601, 602], 8))
    assert len(DHF1KDataset("train", **SHORT, subset=0.5)) == 3
    valid = DHF1KDataset("valid", **SHORT, subset=0.75)
    assert [s.video.name for s in valid.samples] == ["0601", "0601", "0602"]


def test_short_videos_are_left_out_of_training_and_counted(roots, caplog):
    write_dhf1k(roots["DHF1K"], {1: 5, 2: 6, 3: 7, 601: 5, 602: 6})
    with caplog.at_level(logging.INFO):
        train = DHF1KDataset("train", **SHORT)
    assert [s.video.name for s in train.samples] == ["0002", "0003"]
    assert "1 of 3 videos" in caplog.text
    assert {s.video.name for s in DHF1KDataset("valid", **SHORT).samples} == {"0602"}
    assert {s.video.name for s in DHF1KDataset("eval", **SHORT).samples} == {"0601", "0602"}


# ---- which frames -------------------------------------------------------------------------


def test_training_starts_are_uniform_and_differ_between_epochs_and_seeds(roots):
    write_dhf1k(roots["DHF1K"], {1: 10, 2: 10, 3: 6, 601: 6}, size=(8, 16))
    dataset = DHF1KDataset("train", **SHORT, seed=(5, 0))
    starts = []
    for dataset.epoch in range(300):
        numbers = [dataset.frame_numbers(i) for i in range(3)]
        assert all(np.diff(n).tolist() == [2, 2] for n in numbers)
        starts.append([n[0] for n in numbers])
    starts = np.array(starts)
    for column in (0, 1):
        values, counts = np.unique(starts[:, column], return_counts=True)
        assert values.tolist() == [1, 2, 3, 4]  # from 1 to n - clip_len
        assert counts.min() > 40
    assert set(starts[:, 2]) == {1}
    assert (starts[:, 0] != starts[:, 1]).any()
    again = DHF1KDataset("train", **SHORT, seed=(5, 0))
    other = DHF1KDataset("train", **SHORT, seed=(5, 1))
    drawn = {d: [] for d in (again, other)}
    for dataset in drawn:
        for dataset.epoch in range(300):
            drawn[dataset].append([dataset.frame_numbers(i)[0] for i in range(3)])
    assert np.array_equal(drawn[again], starts)
    assert not np.array_equal(drawn[other], starts)


def test_clips_do_not_depend_on_the_number_of_workers(roots):
    write_dhf1k(roots["DHF1K"], dict.fromkeys([1, 2, 3, 4, 601], 12))
    dataset = DHF1KDataset("train", **SHORT, out_size=(32, 64), seed=1, augment=True)
    dataset.epoch = 3
    alone, shared = (list(make_loader(dataset, 2, n, False)) for n in (0, 2))
    for a, b in zip(alone, shared, strict=True):
        assert a.names == b.names
        assert torch.equal(a.frames, b.frames)
        assert torch.equal(a.maps, b.maps)


def test_validation_starts_are_the_published_ones(roots):
    write_dhf1k(roots["DHF1K"], {601: 60}, size=(4, 8))
    dataset = DHF1KDataset("valid")
    published = json.loads((PROJECT / "tests/reference/splits.json").read_text())
    key = "DHF1K_valid_first_samples_n_images_739_343_1103_of_videos_601_602_603"
    starts = [s for n in (739, 343, 1103) for s in dataset._valid_starts(n)]
    assert starts == [start for _, start in published[key]]


@pytest.mark.parametrize("n", [6, 7, 11, 12, 13, 40])
def test_validation_clips_lie_inside_the_video(roots, n):
    write_dhf1k(roots["DHF1K"], {601: n}, size=(4, 8))
    dataset = DHF1KDataset("valid", **SHORT)
    assert len(dataset) == 2
    for i in range(2):
        numbers = dataset.frame_numbers(i)
        assert numbers[0] >= 1
        assert numbers[-1] <= n
        assert numbers == dataset.frame_numbers(i)


@pytest.mark.parametrize("n", [1, 2, 5, 9])
def test_eval_sequences_are_all_frames_once(roots, n):
    write_dhf1k(roots["DHF1K"], {601: max(n, 3)}, size=(4, 8))
    dataset = DHF1KDataset("eval", frame_modulo=3)
    sequences = [dataset.frame_numbers(i) for i in range(len(dataset))]
    assert len(sequences) == 3
    assert sorted(n for s in sequences for n in s) == list(range(1, max(n, 3) + 1))
    assert all(s[0] == offset for offset, s in enumerate(sequences, 1))


# ---- what an example holds ----------------------------------------------------------------


def plain_frame(path, size):
    picture = Image.open(path).convert("RGB").resize((size[1], size[0]), Image.Resampling.LANCZOS)
    return tv.normalize(tv.to_tensor(picture), MEAN, STD)


def test_dhf1k_example_equals_a_plain_reading(roots):
    write_dhf1k(roots["DHF1K"], {1: 9, 601: 9})
    dataset = DHF1KDataset("train", **SHORT)
    item = dataset[0]
    assert item.frames.shape == (3, 3, 224, 384)
    assert item.maps.shape == item.fixations.shape == (3, 1, 36, 64)
    assert item.fixations.dtype == torch.bool
    assert item.target_size == (36, 64)
    assert positions(item, dataset, 0) == item.frame_nrs
    for t, number in enumerate(item.frame_nrs):
        folder = roots["DHF1K"] / "annotation" / "0001"
        expected = plain_frame(folder / "images" / f"{number:04d}.png", (224, 384))
        torch.testing.assert_close(item.frames[t], expected, atol=1e-5, rtol=0)
        grey = np.asarray(Image.open(folder / "maps" / f"{number:04d}.png"), float)
        np.testing.assert_allclose(item.maps[t, 0], grey / grey.sum(), atol=1e-7)
        points = np.asarray(Image.open(folder / "fixation" / f"{number:04d}.png")) > 127
        np.testing.assert_array_equal(item.fixations[t, 0], points)


def test_test_part_has_no_maps(roots):
    write_dhf1k(roots["DHF1K"], {701: 4}, with_maps=False)
    item = DHF1KDataset("test", frame_modulo=2)[1]
    assert item.frame_nrs == [2, 4]
    assert item.maps is None
    assert item.fixations is None
    assert item.target_size == (36, 64)


def old_centre_crop(picture, size):
    """The rule of the published code: Pillow's crop, which is black outside."""
    top = round((picture.height - size[0]) / 2)
    left = round((picture.width - size[1]) / 2)
    return picture.crop((left, top, left + size[1], top + size[0]))


@pytest.mark.parametrize("size", [(224, 416), (112, 300), (224, 300), (100, 177), (300, 300)])
def test_hollywood_training_pictures_are_resized_by_height_and_cropped(roots, size):
    write_hollywood(roots["Hollywood"], {(1, 1): 5, (1, 2): 6, (2, 1): 6}, size=size)
    dataset = HollywoodDataset("train", **SHORT)
    item = dataset[0]
    assert dataset.samples[0].video.name.endswith("_2")  # the first shot is too short
    assert positions(item, dataset, 0) == item.frame_nrs
    folder = roots["Hollywood"] / "training" / "actioncliptrain00001_2"
    for t, number in enumerate(item.frame_nrs):
        name = f"actioncliptrain00001_{5 + number:05d}.png"
        pictures = []
        for kind, mode, how in (
            ("images", "RGB", Image.Resampling.LANCZOS),
            ("maps", "L", Image.Resampling.LANCZOS),
            ("fixation", "L", Image.Resampling.NEAREST),
        ):
            picture = Image.open(folder / kind / name).convert(mode)
            if size[0] != 224:
                picture = picture.resize((int(size[1] * 224 / size[0]), 224), how)
            pictures.append(old_centre_crop(picture, (224, 416)))
        frame = tv.normalize(tv.to_tensor(pictures[0]), MEAN, STD)
        torch.testing.assert_close(item.frames[t], frame, atol=1e-5, rtol=0)
        grey = np.asarray(pictures[1], float)
        np.testing.assert_allclose(item.maps[t, 0], grey / grey.sum(), atol=1e-7)
        np.testing.assert_array_equal(item.fixations[t, 0], np.asarray(pictures[2]) > 127)


@pytest.mark.parametrize("size", [(48, 72), (48, 100), (60, 60), (256, 384)])
def test_ucfsports_training_pictures_cover_the_crop(roots, size):
    names = {f"Dive-{i:03d}": 6 for i in range(1, 4)}
    write_ucfsports(roots["UCFSports"], names, size=size)
    dataset = UCFSportsDataset("train", **SHORT)
    video, _ = dataset.samples[0]
    item = dataset[0]
    number = item.frame_nrs[0]
    path = roots["UCFSports"] / "training" / video.name / "images"
    picture = Image.open(path / f"Dive_{video.name[-3:]}_{number:03d}.png")
    if size[1] / size[0] > 384 / 256:
        wanted = (int(size[1] * 256 / size[0]), 256)
    else:
        wanted = (384, int(size[0] * 384 / size[1]))
    cropped = old_centre_crop(picture.resize(wanted, Image.Resampling.LANCZOS), (256, 384))
    expected = tv.normalize(tv.to_tensor(cropped), MEAN, STD)
    torch.testing.assert_close(item.frames[0], expected, atol=1e-5, rtol=0)
    assert item.target_size == (256, 384)


@pytest.mark.parametrize("source", ["Hollywood", "UCFSports"])
def test_scored_videos_keep_their_own_size(roots, source):
    if source == "Hollywood":
        write_hollywood(roots[source], {(1, 1): 3}, part="test", size=(20, 50))
        dataset = HollywoodDataset("test", frame_modulo=2)
    else:
        write_ucfsports(roots[source], {"Golf-001": 3}, part="test", size=(20, 50))
        dataset = UCFSportsDataset("test", frame_modulo=2)
    item = dataset[0]
    assert item.target_size == (20, 50)
    assert item.frames.shape == (2, 3, *dataset.input_size)
    video = dataset.samples[0].video
    expected = plain_frame(dataset.path(video, "images", 3), dataset.input_size)
    torch.testing.assert_close(item.frames[1], expected, atol=1e-5, rtol=0)


def test_augmentation_changes_all_frames_of_a_clip_alike(roots):
    write_dhf1k(roots["DHF1K"], {1: 8, 601: 6}, size=(32, 64))
    options = {"seq_len": 3, "frame_modulo": 1, "out_size": (32, 64)}
    plain, changed = (DHF1KDataset("train", **options, augment=a) for a in (False, True))
    # The frames are one picture that moves by a pixel each: flipped or cropped alike, the
    # difference between two of them stays of the same kind. Here: mirror images only.
    changed = DHF1KDataset(
        "train",
        **options,
        augment={"flip": 1, "min_crop": 1, "brightness": 0, "contrast": 0, "saturation": 0},
    )
    for epoch in range(3):
        plain.epoch = changed.epoch = epoch
        a, b = plain[0], changed[0]
        torch.testing.assert_close(b.maps, a.maps.flip(-1), atol=1e-6, rtol=1e-5)
        assert torch.equal(b.fixations, a.fixations.flip(-1))
        torch.testing.assert_close(b.frames, a.frames.flip(-1), atol=0.02, rtol=0)


def test_a_batch_of_clips(roots):
    write_dhf1k(roots["DHF1K"], {1: 6, 2: 6, 601: 6})
    dataset = DHF1KDataset("train", **SHORT, out_size=(32, 64))
    (batch,) = make_loader(dataset, 4, 0, False)
    assert batch.frames.shape == (2, 3, 3, 32, 64)
    assert batch.maps.shape == batch.fixations.shape == (2, 3, 1, 36, 64)
    assert batch.is_video
    assert all("000" in name for name in batch.names)


# ---- the index ----------------------------------------------------------------------------


def no_prefix(_name):
    return ""


def test_the_index_holds_what_is_on_disk(roots):
    write_dhf1k(roots["DHF1K"], {3: 4}, size=(10, 20), first=7)
    write_dhf1k(roots["DHF1K"], {701: 2}, with_maps=False)
    folder = roots["DHF1K"] / "annotation"
    expected = [
        Video("0003", 7, 4, 4, (10, 20), (10, 20)),
        Video("0701", 1, 2, 4, (36, 64), None),
    ]
    assert read_index(folder, no_prefix) == expected
    assert read_index(folder, no_prefix) == expected  # and as it was remembered


def test_the_index_is_read_once_and_again_when_a_folder_changes(roots, monkeypatch):
    write_dhf1k(roots["DHF1K"], {1: 4, 2: 4})
    folder = roots["DHF1K"] / "annotation"
    first = read_index(folder, no_prefix)
    with monkeypatch.context() as patch:
        patch.setattr("unisal.data.video_index._scan", None)  # would fail if it were called
        assert read_index(folder, no_prefix) == first
    write_dhf1k(roots["DHF1K"], {2: 5})  # one more frame
    assert [v.n_frames for v in read_index(folder, no_prefix)] == [4, 5]
    write_dhf1k(roots["DHF1K"], {3: 1})  # one more video
    assert [v.n_frames for v in read_index(folder, no_prefix)] == [4, 5, 1]


def test_a_damaged_index_is_made_again(roots):
    write_dhf1k(roots["DHF1K"], {1: 4})
    folder = roots["DHF1K"] / "annotation"
    first = read_index(folder, no_prefix)
    for damage in ("{", "[]", '{"version": 1}'):
        (folder / ".unisal_index.json").write_text(damage)
        assert read_index(folder, no_prefix) == first


def test_a_folder_that_cannot_be_written_is_remembered_in_the_users_cache(
    roots, monkeypatch, tmp_path
):
    from unisal.data import video_index

    write_dhf1k(roots["DHF1K"], {1: 4})
    folder = roots["DHF1K"] / "annotation"
    monkeypatch.setenv("UNISAL_CACHE_DIR", str(tmp_path / "cache"))

    def save(path, values):  # root may write everywhere, so the refusal is made up
        if folder in path.parents:
            raise PermissionError(path)
        save_json(path, values)

    monkeypatch.setattr(video_index, "save_json", save)
    first = read_index(folder, no_prefix)
    assert not (folder / ".unisal_index.json").exists()
    assert len(list((tmp_path / "cache").rglob("*.json"))) == 1
    monkeypatch.setattr(video_index, "_scan", None)
    assert read_index(folder, no_prefix) == first


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        ("images/0002.png", ["missing", "images/0002.png"]),
        ("maps/0003.png", ["missing", "maps/0003.png"]),
        ("fixation/0001.png", ["missing", "fixation/0001.png"]),
        ("images", ["images", "holds no frames"]),
        ("maps", ["maps", "holds no files"]),
        ("fixation", ["fixation", "holds no files"]),
    ],
)
def test_what_is_missing_is_named_when_the_index_is_built(roots, damage, words):
    write_dhf1k(roots["DHF1K"], {1: 4, 2: 4})
    path = roots["DHF1K"] / "annotation" / "0002" / damage
    for file in list(path.iterdir()) if path.is_dir() else [path]:
        file.unlink()
    with pytest.raises(UserError) as refused:
        read_index(roots["DHF1K"] / "annotation", no_prefix)
    assert all(word in str(refused.value) for word in [*words, "0002"])
    assert not list(roots["DHF1K"].rglob("*.json"))


def test_a_number_far_from_all_others_is_named_and_takes_no_memory(roots):
    write_dhf1k(roots["DHF1K"], {1: 4})
    images = roots["DHF1K"] / "annotation" / "0001" / "images"
    (images / "0004.png").rename(images / "9999999999.png")
    with pytest.raises(UserError, match=r"0001: .* from 1 to 9999999999, and only 4 .*9\.png"):
        read_index(roots["DHF1K"] / "annotation", no_prefix)


@pytest.mark.parametrize("kind", ["images", "maps"])
def test_sizes_that_differ_are_named_when_the_index_is_built(roots, kind):
    write_dhf1k(roots["DHF1K"], {1: 4, 2: 4})
    path = roots["DHF1K"] / "annotation" / "0002" / kind / "0003.png"
    Image.open(path).resize((10, 10)).save(path)
    with pytest.raises(UserError, match=r"0002.*0003\.png \(10, 10\)"):
        read_index(roots["DHF1K"] / "annotation", no_prefix)


def test_maps_and_fixations_of_two_sizes_are_named(roots):
    write_dhf1k(roots["DHF1K"], {1: 2})
    for path in (roots["DHF1K"] / "annotation" / "0001" / "maps").iterdir():
        Image.open(path).resize((10, 12)).save(path)
    with pytest.raises(UserError, match=r"0001.*\(12, 10\).*\(36, 64\)"):
        read_index(roots["DHF1K"] / "annotation", no_prefix)


def test_a_part_without_maps_that_needs_them_is_named(roots):
    write_dhf1k(roots["DHF1K"], {1: 6}, with_maps=False)
    with pytest.raises(UserError, match="0001 has no maps"):
        DHF1KDataset("train", **SHORT)


@pytest.mark.parametrize("source", ["DHF1K", "Hollywood", "UCFSports"])
def test_a_missing_or_empty_folder_is_named(roots, source):
    cls = DATASETS[source]
    with pytest.raises(UserError, match="does not exist"):
        cls("train")
    (roots[source] / cls.folders["train"]).mkdir()
    with pytest.raises(UserError, match="is empty"):
        cls("train")


def test_a_part_without_a_clip_says_why(roots):
    write_dhf1k(roots["DHF1K"], {1: 5})
    with pytest.raises(UserError, match=r"1 of its videos are there.*seq_len=3"):
        DHF1KDataset("train", **SHORT)


@pytest.mark.slow
def test_hundreds_of_videos_are_indexed_without_reading_all_headers(roots, monkeypatch):
    from unisal.data import video_index

    write_dhf1k(roots["DHF1K"], dict.fromkeys(range(1, 21), 25), size=(4, 8))
    headers = []

    def counted(path):
        headers.append(path)
        return (4, 8)

    monkeypatch.setattr(video_index, "picture_size", counted)
    monkeypatch.setattr(video_index, "MAX_HEADERS", 150)
    assert len(read_index(roots["DHF1K"] / "annotation", no_prefix)) == 20
    assert len(headers) < 2 * 150  # of 1,500 files


# ---- configuration ------------------------------------------------------------------------


def test_a_saved_configuration_builds_the_same(roots, tmp_path):
    write_dhf1k(roots["DHF1K"], {1: 6, 601: 6})
    first = DHF1KDataset("train", **SHORT, augment=True)
    save_json(tmp_path / "DHF1KDataset.json", first.config)
    again = build(DHF1KDataset, load_json(tmp_path / "DHF1KDataset.json"))
    assert again.config == {**first.config, "out_size": (224, 384)}
    assert again.samples == first.samples


def test_both_names_of_an_option_are_read(roots, tmp_path):
    write_dhf1k(roots["DHF1K"], {1: 6, 601: 6})
    published = DHF1KDataset("valid", seq_len=3, frame_modulo=2, out_size=[64, 96])
    ours = DHF1KDataset("valid", 3, 2, (64, 96))
    named = DHF1KDataset("valid", seq_len=3, frame_step=2, input_size=(64, 96))
    assert published.config == ours.config == named.config
    assert (named.config["frame_modulo"], named.config["out_size"]) == (2, (64, 96))
    assert not {"frame_step", "input_size", "progress"} & set(named.config)
    assert (named.frame_step, named.input_size) == (2, (64, 96))
    assert (DHF1KDataset.frame_step, DHF1KDataset.input_size) == (5, (224, 384))
    # What a run keeps is overridden by either name.
    save_json(tmp_path / "DHF1KDataset.json", {"frame_modulo": 3, "seq_len": 2})
    for name in ("frame_step", "frame_modulo"):
        again = DHF1KDataset.as_in_run(tmp_path, phase="valid", **{name: 1})
        assert (again.frame_step, again.seq_len) == (1, 2)
    with pytest.raises(UserError, match="frame_modulo and frame_step are two names of one"):
        DHF1KDataset("valid", frame_modulo=2, frame_step=2)
    with pytest.raises(UserError, match="out_size and input_size are two names of one"):
        DHF1KDataset.from_options({"out_size": [64, 96], "input_size": [64, 96]}, phase="valid")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"seq_len": 0}, "seq_len is 0; it has to be a whole number of at least 1"),
        ({"frame_modulo": 1.5}, r"frame_step is 1\.5"),
        ({"input_size": 64}, r"input_size is 64; it has to be \(height, width\)"),
        ({"input_size": (64, 0)}, "the width in input_size is 0"),
        ({"x_val_seed": "mine"}, "x_val_seed is 'mine'; it has to be a whole number from 0"),
        ({"val_size": 700}, "val_size is 700; it has to be a whole number from 1 to 699"),
        ({"subset": 2}, "subset is 2; it has to be a number above 0 and at most 1"),
    ],
    ids=str,
)
def test_an_option_out_of_range_is_named(roots, options, message):
    write_dhf1k(roots["DHF1K"], {1: 6})
    with pytest.raises(UserError, match=message):
        DHF1KDataset("train", **options)


def test_the_index_tells_how_far_it_is(roots):
    write_dhf1k(roots["DHF1K"], {1: 6, 2: 7})
    told = []

    class Told:
        def bar(self, title, unit, total=None, done=0, keep=True):
            told.append((title, unit, total))
            return SILENT.bar(title, unit)

    for _ in range(2):  # the second time it is remembered
        DHF1KDataset.from_options(SHORT, progress=Told(), phase="train")
    assert told == [("index annotation", "video", 2), ("sizes annotation", "video", 2)]


OFFICIAL = {
    "phase": "train",
    "seq_len": 3,
    "frame_modulo": 2,
    "max_seq_len": 1e6,
    "preproc_cfg": {"rgb_mean": [0.485, 0.456, 0.406]},
    "out_size": [224, 384],
    "target_size": [360, 640],
    "debug": False,
    "val_size": 100,
    "n_x_val": 3,
    "x_val_step": 2,
    "x_val_seed": 0,
    "seq_per_vid": 1,
    "subset": None,
    "verbose": 1,
    "n_images_file": "dhf1k_n_images.dat",
    "register_file": "register/register.json",
}


def test_a_configuration_of_the_published_code_loads_as_it_is(roots):
    write_dhf1k(roots["DHF1K"], {1: 6, 601: 6})
    dataset = DHF1KDataset.from_options(OFFICIAL)
    assert [v.name for v in dataset.videos] == ["0001"]  # the seed 0 shuffles nothing
    assert dataset.input_size == (224, 384)
    with pytest.raises(UserError, match=r"DHF1KDataset has no option 'seq_length'.*'seq_len'"):
        DHF1KDataset.from_options({**OFFICIAL, "seq_length": 3})
