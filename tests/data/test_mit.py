"""MIT1003 and MIT300 from disk: folds, sizes, batches of one size, and mistakes."""

from __future__ import annotations

import io
import itertools
import json
from collections import Counter

import numpy as np
import pytest
import torch
from PIL import Image
from support import PROJECT, write_mit1003, write_photo
from torchvision.transforms import functional as tv

from unisal.config import save_json
from unisal.data import DATASETS, MIT300Dataset, MIT1003Dataset, find_dataset
from unisal.data.samplers import SeededBatches, make_loader, skip_batches
from unisal.errors import UserError

LANDSCAPE, PORTRAIT, SQUARE = (60, 80), (80, 60), (70, 70)
TRAIN_SIZES = [(256, 416), (288, 416), (288, 384), (384, 288), (416, 288)]


@pytest.fixture
def root(tmp_path, monkeypatch):
    """Return the folder that MIT1003 is looked for in; it does not exist yet."""
    monkeypatch.setenv("MIT1003_DATA_DIR", str(tmp_path / "MIT1003"))
    return tmp_path / "MIT1003"


@pytest.fixture
def benchmark(tmp_path, monkeypatch):
    """Return the folder that MIT300 is looked for in."""
    monkeypatch.setenv("MIT300_DATA_DIR", str(tmp_path / "MIT300"))
    return tmp_path / "MIT300"


def names(dataset):
    return [dataset.name(i) for i in range(len(dataset))]


def picture_file(root, number):
    return root / f"ALLSTIMULI/ALLSTIMULI/i{number:04d}.jpeg"


def map_file(root, number, kind="Map"):
    return root / f"ALLFIXATIONMAPS/ALLFIXATIONMAPS/i{number:04d}_fix{kind}.jpg"


def write_many(root, n):
    """Write `n` examples that are one small picture each."""
    content = io.BytesIO()
    Image.new("L", (8, 6)).save(content, "jpeg")
    for i in range(n):
        for path in (picture_file(root, i), map_file(root, i), map_file(root, i, "Pts")):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content.getvalue())


def published_fold(n, step, n_x_val=10, seed=27):
    """The numbers of a fold as the published code draws them."""
    numbers, state = np.arange(n), np.random.get_state()
    np.random.seed(seed)
    np.random.shuffle(numbers)
    np.random.set_state(state)
    return numbers[int(n / n_x_val * step) : int(n / n_x_val * (step + 1))].tolist()


# ---- folds --------------------------------------------------------------------------------


@pytest.mark.parametrize(("n", "steps"), [(1003, (4,)), (57, range(10))])
def test_the_folds_are_the_published_ones(root, n, steps):
    write_many(root, n)
    folds = []
    for step in steps:
        folds.append([f"i{i:04d}.jpeg" for i in published_fold(n, step)])
        for phase in ("valid", "eval", "test"):
            assert names(MIT1003Dataset(phase, x_val_step=step)) == folds[-1]
        train = names(MIT1003Dataset("train", x_val_step=step))
        assert len(train) == len(set(train)) == n - len(folds[-1])
        assert not set(train) & set(folds[-1])


def test_the_first_fold_is_that_on_record(root):
    write_many(root, 1003)
    record = json.loads((PROJECT / "tests/reference/splits.json").read_text())
    expected = [f"i{i:04d}.jpeg" for i in record["MIT1003_valid_fold0"]]
    assert names(MIT1003Dataset("valid")) == expected


@pytest.mark.parametrize(("n", "n_x_val"), [(23, 10), (23, 7), (500, 10), (61, 7)])
def test_every_image_is_in_one_fold(root, n, n_x_val):
    write_many(root, n)
    options = {"n_x_val": n_x_val, "phase": "valid"}
    folds = [names(MIT1003Dataset(**options, x_val_step=k)) for k in range(n_x_val)]
    assert sorted(itertools.chain(*folds)) == [f"i{i:04d}.jpeg" for i in range(n)]
    assert {len(f) for f in folds} <= {n // n_x_val, n // n_x_val + 1}


def test_without_a_fold_every_part_is_all_images_in_order(root):
    write_many(root, 12)
    for phase in ("train", "valid", "eval", "test"):
        everything = [f"i{i:04d}.jpeg" for i in range(12)]
        assert sorted(names(MIT1003Dataset(phase, x_val_step=None))) == everything
    in_order = names(MIT1003Dataset("valid", x_val_step=1, x_val_seed=0))
    assert in_order == ["i0001.jpeg"]  # 12 / 10 * 1 up to 12 / 10 * 2


def test_the_order_follows_the_names_and_the_global_random_state_is_left_alone(root):
    write_many(root, 40)
    np.random.seed(0)
    expected = np.random.random()
    np.random.seed(0)
    first = names(MIT1003Dataset("valid"))
    assert np.random.random() == expected
    assert first == [f"i{i:04d}.jpeg" for i in published_fold(40, 0)]
    assert names(MIT1003Dataset("valid", x_val_seed=3)) == [
        f"i{i:04d}.jpeg" for i in published_fold(40, 0, seed=3)
    ]


def test_subset_keeps_the_first_share_of_the_part(root):
    write_many(root, 40)
    assert names(MIT1003Dataset(subset=0.3)) == names(MIT1003Dataset())[:10]


# ---- folders ------------------------------------------------------------------------------


@pytest.mark.parametrize("pictures", [True, False])
@pytest.mark.parametrize("maps", [True, False])
def test_the_folders_may_be_doubled_or_not(root, tmp_path, pictures, maps):
    for doubled, place in ((pictures, "ALLSTIMULI"), (maps, "ALLFIXATIONMAPS")):
        write_mit1003(tmp_path / f"{place}{doubled}", [LANDSCAPE] * 3, doubled)
        root.mkdir(exist_ok=True)
        (tmp_path / f"{place}{doubled}" / place).rename(root / place)
    dataset = MIT1003Dataset("eval", x_val_step=None)
    assert sorted(names(dataset)) == ["i0001.jpeg", "i0002.jpeg", "i0003.jpeg"]
    assert all(item.fixations.any() for item in dataset)


def test_files_that_are_no_images_of_the_data_set_do_not_move_the_folds(root):
    write_mit1003(root, [LANDSCAPE] * 5)
    before = names(MIT1003Dataset("valid", n_x_val=2))
    for name in ("._i0001.jpeg", "i0000.png", "Thumbs.db"):
        picture_file(root, 1).with_name(name).write_bytes(b"no picture")
    assert names(MIT1003Dataset("valid", n_x_val=2)) == before


# ---- what they become ---------------------------------------------------------------------


def closest(size, candidates):
    """The first of the sizes whose ratio differs least, as a factor."""
    best, least = None, np.inf
    for h, w in candidates:
        ratios = size[0] / size[1], h / w
        misfit = max(ratios) / min(ratios)
        if misfit < least:
            best, least = (h, w), misfit
    return best


def plain_input(path, size):
    resized = Image.open(path).convert("RGB").resize(size[::-1], Image.Resampling.LANCZOS)
    return tv.normalize(tv.to_tensor(resized), (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


def plain_targets(root, number, size):
    picture, points = (Image.open(map_file(root, number, kind)) for kind in ("Map", "Pts"))
    if picture.size != size[::-1]:
        picture = picture.resize(size[::-1], Image.Resampling.LANCZOS)
        points = points.resize(size[::-1], Image.Resampling.NEAREST)
    saliency_map = np.asarray(picture, float)
    return saliency_map / saliency_map.sum(), np.asarray(points) > 127.5


@pytest.mark.parametrize("phase", ["train", "valid", "eval"])
def test_an_example_equals_a_plain_reading(root, phase):
    sizes = [LANDSCAPE, PORTRAIT, SQUARE, (200, 120), (50, 140), (768, 1024)]
    write_mit1003(root, sizes)
    dataset = MIT1003Dataset(phase, x_val_step=None)
    for name, item in zip(names(dataset), dataset, strict=True):
        number = int(name[1:5])
        size = sizes[number - 1]
        cells = [(a, b) for a in range(7, 14) for b in range(7, 14) if 100 <= a * b <= 120]
        if phase == "eval":
            input_size = closest(size, [(32 * a, 32 * b) for a, b in cells])
            target = size
        else:
            input_size = closest(size, TRAIN_SIZES)
            target = 2 * input_size[0], 2 * input_size[1]
        density, fixated = plain_targets(root, number, target)
        expected = plain_input(picture_file(root, number), input_size)
        torch.testing.assert_close(item.frames, expected, atol=1e-5, rtol=0)
        assert (item.frame_nrs, item.target_size) == ([1], target)
        assert (item.maps.shape, item.maps.dtype) == ((1, *target), torch.float32)
        assert item.maps.double().sum().item() == pytest.approx(1, abs=1e-6)
        np.testing.assert_allclose(item.maps[0], density, rtol=1e-4, atol=1e-10)
        np.testing.assert_array_equal(item.fixations[0], fixated)


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ((768, 1024), (288, 384)),
        ((1024, 768), (384, 288)),
        ((600, 1024), (256, 416)),
        ((700, 1024), (288, 416)),
        ((1024, 600), (416, 288)),
        ((500, 500), (288, 384)),  # as far from 4 : 3 as from 3 : 4: the first
    ],
    ids=str,
)
def test_the_input_size_in_training_is_the_closest_in_ratio(root, size, expected):
    write_mit1003(root, [size])
    assert MIT1003Dataset("valid", x_val_step=None).input_size_for(0) == expected


def test_fixations_are_told_from_noise_before_they_are_thinned_out(root):
    # At half the size the nearest pixels are those at odd places, so the point is left out; what
    # remains are grey levels of 1, as JPEG makes them around a point.
    write_mit1003(root, [(1152, 1536)])
    grey = np.ones((1152, 1536), np.uint8)
    grey[400, 400] = 255
    Image.fromarray(grey).save(map_file(root, 1, "Pts"), quality=100)
    assert MIT1003Dataset("valid", x_val_step=None)[0].fixations.sum() == 0
    assert MIT1003Dataset("eval", x_val_step=None)[0].fixations.sum() == 1


def test_the_test_phase_needs_no_maps(root):
    write_mit1003(root, [LANDSCAPE, (90, 130)])
    for path in (root / "ALLFIXATIONMAPS").rglob("*.jpg"):
        path.unlink()
    dataset = MIT1003Dataset("test", x_val_step=None)
    for i, item in enumerate(dataset):
        assert (item.maps, item.fixations) == (None, None)
        assert item.target_size == dataset.target_size(i)
    assert {item.target_size for item in dataset} == {LANDSCAPE, (90, 130)}


def test_frame_by_frame_is_the_same_as_by_example(root):
    write_mit1003(root, [LANDSCAPE, (90, 130)])
    dataset = MIT1003Dataset("eval", x_val_step=None)
    assert dataset.lengths() == [1, 1]
    for i, item in enumerate(dataset):
        assert dataset.title(i) == dataset.name(i)
        assert dataset.target_size(i) == item.target_size
        assert np.array_equal(dataset.read_input(i), item.frames)
        np.testing.assert_array_equal(dataset.read_density(i), item.maps[0])
        np.testing.assert_array_equal(dataset.read_fixation_map(i), item.fixations[0])
    # As on disk in training too: a centre bias is made of these.
    assert MIT1003Dataset("train", x_val_step=None).read_density(0).shape in {LANDSCAPE, (90, 130)}


def test_a_picture_that_is_turned_by_exif_is_of_the_size_it_is_seen_at(root):
    write_mit1003(root, [PORTRAIT])
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (PORTRAIT[0], PORTRAIT[1])).save(picture_file(root, 1), exif=exif)
    dataset = MIT1003Dataset("eval", x_val_step=None)
    assert dataset[0].target_size == PORTRAIT
    assert dataset[0].frames.shape[1] > dataset[0].frames.shape[2]


def test_augmentation_changes_training_examples_together(root):
    write_mit1003(root, [LANDSCAPE, PORTRAIT])
    only_flips = {"flip": 1, "min_crop": 1, "brightness": 0, "contrast": 0, "saturation": 0}
    options = {"x_val_step": None, "phase": "train"}
    plain = MIT1003Dataset(**options)
    flipped = MIT1003Dataset(**options, augment=only_flips)
    for one, other in zip(plain, flipped, strict=True):
        torch.testing.assert_close(other.frames, one.frames.flip(-1), atol=0.02, rtol=0)
        torch.testing.assert_close(other.maps, one.maps.flip(-1))
        assert torch.equal(other.fixations, one.fixations.flip(-1))
    drawn = MIT1003Dataset(**options, augment=True, seed=(1, 2))
    first = drawn[0].frames
    drawn.epoch = 1
    assert not torch.equal(drawn[0].frames, first)
    drawn.epoch = 0
    assert torch.equal(drawn[0].frames, first)
    valid = MIT1003Dataset("valid", x_val_step=None, augment=True)
    assert torch.equal(valid[0].frames, MIT1003Dataset("valid", x_val_step=None)[0].frames)


# ---- batches ------------------------------------------------------------------------------

MIXED = [LANDSCAPE] * 11 + [PORTRAIT] * 6 + [(50, 90)] * 2
"""Pictures of three input sizes."""


def epochs(dataset, size, n=3):
    """Return for each epoch its batches as lists of indices."""
    batches = SeededBatches(dataset, size, shuffle=dataset.phase == "train")
    orders = []
    for dataset.epoch in range(n):
        orders.append(list(batches))
        assert len(orders[-1]) == len(batches)
    return orders


def test_batches_hold_pictures_of_one_input_size_in_shuffled_order(root):
    write_mit1003(root, MIXED)
    dataset = MIT1003Dataset(x_val_step=None)
    orders = epochs(dataset, 3, n=4)
    for order in orders:
        sizes = [{dataset.input_size_for(i) for i in batch} for batch in order]
        assert all(len(s) == 1 for s in sizes)
        counts = Counter(s.pop() for s in sizes)
        # 11 // 3, 6 // 3, and one batch of the size that has fewer pictures than a batch
        assert counts == {(288, 384): 3, (384, 288): 2, (256, 416): 1}
        used = list(itertools.chain(*order))
        assert len(used) == len(set(used)) == 9 + 6 + 2
    assert len({str(order) for order in orders}) == 4
    in_turn = [[dataset.input_size_for(batch[0]) for batch in order] for order in orders]
    assert len({str(sizes) for sizes in in_turn}) > 1
    assert [str(order) for order in epochs(dataset, 3, n=4)] == [str(order) for order in orders]


def test_the_order_of_batches_follows_the_seed(root):
    write_mit1003(root, MIXED)
    one, same, other = (MIT1003Dataset(x_val_step=None, seed=s) for s in ((1, 0), (1, 0), (2, 0)))
    assert epochs(one, 3) == epochs(same, 3)
    assert epochs(one, 3) != epochs(other, 3)


def test_validation_takes_every_picture_in_an_order_of_its_own(root):
    write_mit1003(root, MIXED)
    dataset = MIT1003Dataset("valid", x_val_step=None)
    batches = list(make_loader(dataset, 4, 0, False))
    assert len(batches) == 3 + 2 + 1
    assert sorted(n for b in batches for n in b.names) == sorted(names(dataset))
    for batch in batches:
        assert (batch.source, batch.domain, batch.is_video) == ("MIT1003", "SALICON", False)
        height, width = batch.frames.shape[-2:]
        assert batch.target_size == (2 * height, 2 * width)
        for name, frames, maps in zip(batch.names, batch.frames, batch.maps, strict=True):
            item = dataset[names(dataset).index(name)]
            assert torch.equal(frames[0], item.frames)
            assert torch.equal(maps[0], item.maps)


@pytest.mark.parametrize("workers", [0, 1])
def test_an_epoch_goes_on_at_the_batch_where_it_was_stopped(root, workers):
    write_mit1003(root, MIXED[::2])
    dataset = MIT1003Dataset(x_val_step=None, seed=(5, 0), augment=True)
    dataset.epoch = 2
    whole = list(make_loader(dataset, 2, 0, False))
    loader = make_loader(dataset, 2, workers, False)
    skip_batches(loader, 2)
    rest = list(loader)
    assert [b.names for b in rest] == [b.names for b in whole[2:]]
    for one, other in zip(rest, whole[2:], strict=True):
        for field in ("frames", "maps", "fixations"):
            assert torch.equal(getattr(one, field), getattr(other, field))


def test_fewer_pictures_than_a_batch_are_one_batch(root):
    write_mit1003(root, [LANDSCAPE] * 2)
    (batch,) = make_loader(MIT1003Dataset(x_val_step=None), 32, 0, False)
    assert len(batch.names) == 2


# ---- where scores go ----------------------------------------------------------------------


def test_scores_go_into_a_folder_of_the_fold(root, tmp_path):
    write_mit1003(root, [LANDSCAPE] * 4)
    assert MIT1003Dataset("eval", n_x_val=4, x_val_step=3).score_folder() == "MIT1003_xVal3"
    fold, everything = (MIT1003Dataset("eval", n_x_val=4, x_val_step=k) for k in (3, None))
    assert fold.score_folder(tmp_path) == "MIT1003_xVal3"
    assert everything.score_folder(tmp_path) == "MIT1003_xValNone"
    save_json(tmp_path / "ft_mit1003.json", {"folder": "MIT1003_lr0.0100_xVal3", "x_val_step": 3})
    assert fold.score_folder(tmp_path) == "MIT1003_lr0.0100_xVal3"
    assert everything.score_folder(tmp_path) == "MIT1003_xValNone"  # another fold


def test_other_sources_scores_go_into_the_runs_folder(benchmark, tmp_path):
    write_photo(benchmark / "BenchmarkIMAGES" / "i1.jpg")
    assert MIT300Dataset().score_folder(tmp_path) == ""


# ---- MIT300 -------------------------------------------------------------------------------


@pytest.mark.parametrize("folder", ["BenchmarkIMAGES", "BenchmarkIMAGES/BenchmarkIMAGES"])
def test_the_benchmarks_pictures_stand_in_the_order_of_their_numbers(benchmark, folder):
    sizes = {1: (60, 80), 2: (90, 60), 10: (70, 70), 100: (40, 90)}
    for number, size in sizes.items():
        write_photo(benchmark / folder / f"i{number}.jpg", size, seed=number)
    for name in ("i5.png", "i7_map.jpg", "a3.jpg"):
        (benchmark / folder / name).write_bytes(b"no example")
    dataset = MIT300Dataset()
    assert names(dataset) == ["i1.jpg", "i2.jpg", "i10.jpg", "i100.jpg"]
    cells = [(a, b) for a in range(7, 14) for b in range(7, 14) if 100 <= a * b <= 120]
    for i, (number, size) in enumerate(sizes.items()):
        item = dataset[i]
        assert (item.frame_nrs, item.maps, item.fixations) == ([1], None, None)
        assert item.target_size == dataset.target_size(i) == size
        input_size = closest(size, [(32 * a, 32 * b) for a, b in cells])
        expected = plain_input(benchmark / folder / f"i{number}.jpg", input_size)
        torch.testing.assert_close(item.frames, expected, atol=1e-5, rtol=0)
        assert np.array_equal(dataset.read_input(i), item.frames)
    assert names(MIT300Dataset(subset=0.5)) == ["i1.jpg", "i2.jpg"]


@pytest.mark.parametrize("phase", ["train", "valid", "eval"])
def test_the_benchmark_can_only_be_predicted(benchmark, phase):
    write_photo(benchmark / "BenchmarkIMAGES" / "i1.jpg")
    with pytest.raises(UserError, match=rf"no phase '{phase}': where people looked .* not public"):
        MIT300Dataset(phase)


def test_a_benchmark_without_pictures_is_named(benchmark):
    with pytest.raises(UserError, match="MIT300_DATA_DIR"):
        MIT300Dataset()
    (benchmark / "BenchmarkIMAGES").mkdir(parents=True)
    with pytest.raises(UserError, match=r"BenchmarkIMAGES/i<number>\.jpg; 0 files found"):
        MIT300Dataset()


# ---- options and mistakes -----------------------------------------------------------------


def test_the_arguments_are_kept_and_published_files_load(root):
    write_mit1003(root, [LANDSCAPE] * 6)
    options = {"phase": "valid", "n_x_val": 3, "x_val_step": 2, "x_val_seed": 5, "seed": (3, 1)}
    kept = {"subset": 1.0, "augment": False, "verbose": 0}
    assert MIT1003Dataset(**options, verbose=0).config == options | kept
    published = {"phase": "train", "subset": None, "verbose": 1, "preproc_cfg": {}, "n_x_val": 3}
    assert len(MIT1003Dataset.from_options(published)) == 4


def test_both_are_known_by_their_names():
    assert DATASETS["MIT1003"] is find_dataset("FINAL_TEST_MIT1003") is MIT1003Dataset
    assert DATASETS["MIT300"] is find_dataset("MIT300") is MIT300Dataset
    for dataset in (MIT1003Dataset, MIT300Dataset):
        assert (dataset.domain, dataset.is_video, dataset.fine_tuned) == ("SALICON", False, True)
    assert MIT1003Dataset.public_ground_truth and not MIT300Dataset.public_ground_truth
    with pytest.raises(UserError, match=r"no data set 'MIT'; known are .*MIT1003.*FINAL_TEST"):
        find_dataset("MIT")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"x_val_step": 10}, "x_val_step is 10; it has to be a whole number from 0 to 9"),
        ({"x_val_step": -1}, "x_val_step is -1"),
        ({"x_val_step": "first"}, "x_val_step is 'first'"),
        ({"x_val_step": 1.0}, r"x_val_step is 1\.0"),
        ({"n_x_val": 1}, "n_x_val is 1; it has to be a whole number of at least 2"),
        ({"x_val_seed": -3}, "x_val_seed is -3; it has to be a whole number"),
        ({"subset": 0}, "subset is 0"),
        ({"subset": 0.01}, r"train part is empty: 12 images in .*subset=0\.01"),
        ({"n_x_val": 40, "phase": "valid"}, r"valid part is empty: 12 images.*n_x_val=40"),
        ({"phase": "val"}, "phase is 'val'"),
    ],
    ids=str,
)
def test_a_wrong_option_is_refused(root, options, message):
    write_many(root, 12)
    with pytest.raises(UserError, match=message):
        MIT1003Dataset(**options)


def test_a_missing_folder_is_named_with_the_variable_that_names_another(root):
    with pytest.raises(UserError, match="MIT1003_DATA_DIR") as refused:
        MIT1003Dataset()
    assert f"{root} does not exist" in str(refused.value)
    (root / "ALLSTIMULI").mkdir(parents=True)
    with pytest.raises(UserError, match=r"no images in .*ALLSTIMULI; expected .*\*\.jpeg"):
        MIT1003Dataset()


@pytest.mark.parametrize(("kind", "said"), [("Map", "saliency maps"), ("Pts", "fixations")])
def test_missing_files_are_found_at_once_and_named(root, kind, said):
    write_mit1003(root, [LANDSCAPE] * 8)
    for number in range(2, 9):
        map_file(root, number, kind).unlink()
    with pytest.raises(UserError, match=f"MIT1003's {said} missing") as refused:
        MIT1003Dataset(x_val_step=None)
    assert str(map_file(root, 2, kind).parent) in str(refused.value)
    assert str(refused.value).count(f"_fix{kind}.jpg") == 5
    assert str(refused.value).endswith("and 2 more")


@pytest.mark.parametrize("kind", ["Map", "Pts"])
def test_a_map_of_another_size_than_its_picture_is_named(root, kind):
    write_mit1003(root, [LANDSCAPE] * 3)
    Image.new("L", PORTRAIT[::-1]).save(map_file(root, 2, kind))
    with pytest.raises(UserError, match=r"is \(80, 60\), its picture .*\(60, 80\)") as refused:
        MIT1003Dataset("eval", x_val_step=None)
    assert str(map_file(root, 2, kind)) in str(refused.value)
    assert str(picture_file(root, 2)) in str(refused.value)


@pytest.mark.parametrize("kind", ["picture", "Map", "Pts"])
def test_a_damaged_file_is_named(root, kind):
    write_mit1003(root, [LANDSCAPE] * 2)
    path = picture_file(root, 2) if kind == "picture" else map_file(root, 2, kind)
    content = path.read_bytes()
    path.write_bytes(b"something else")
    with pytest.raises(UserError, match=path.name):
        MIT1003Dataset("eval", x_val_step=None)
    path.write_bytes(content[: len(content) // 2])  # its header is whole
    dataset = MIT1003Dataset("eval", x_val_step=None)
    with pytest.raises(UserError, match=path.name):
        dataset[names(dataset).index("i0002.jpeg")]
