"""SALICON from disk: which files are read, what they become, and what is said about bad ones."""

from __future__ import annotations

import errno
from pathlib import Path

import numpy as np
import pytest
import scipy.io
import torch
from PIL import Image
from support import write_mat, write_photo, write_salicon
from torchvision.transforms import functional as tv

from unisal.data import SALICONDataset
from unisal.data.salicon import read_mat_fixations
from unisal.errors import UserError

PHASES = {"train": "train", "valid": "val", "eval": "val", "test": "test"}


@pytest.fixture
def root(tmp_path, monkeypatch):
    """Return the folder that SALICON is looked for in; it does not exist yet."""
    monkeypatch.setenv("SALICON_DATA_DIR", str(tmp_path / "SALICON"))
    return tmp_path / "SALICON"


def names(dataset):
    return [dataset.name(i) for i in range(len(dataset))]


def write_grey(path, array):
    Image.fromarray(array).save(path)


def file_of(root, kind, number=1, part="train"):
    """The file of an example: a picture, a map, fixations."""
    stem = f"COCO_{part}2014_{number:012d}"
    suffix = {"images": "jpg", "mat": "mat"}.get(kind, "png")
    folder = {"images": "images"}.get(kind, f"{'fixations' if kind == 'mat' else kind}/{part}")
    return root / folder / f"{stem}.{suffix}"


def assert_item_equals_plain(item, root, number, size=(288, 384)):
    picture = Image.open(file_of(root, "images", number)).convert("RGB")
    resized = picture.resize((size[1], size[0]), Image.Resampling.LANCZOS)
    x = tv.normalize(tv.to_tensor(resized), (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    torch.testing.assert_close(item.frames, x, atol=1e-5, rtol=0)
    saliency_map = np.asarray(Image.open(file_of(root, "maps", number)), float)
    np.testing.assert_allclose(item.maps[0], saliency_map / saliency_map.sum(), rtol=1e-5)
    fixated = np.asarray(Image.open(file_of(root, "fixations", number))) == 255
    np.testing.assert_array_equal(item.fixations[0], fixated)


# ---- which files --------------------------------------------------------------------------


@pytest.mark.parametrize("phase", PHASES)
def test_a_phase_reads_its_part_of_the_files(root, phase):
    for n, part in enumerate(("train", "val", "test"), 2):
        write_salicon(root, part, n=n)
    n = {"train": 2, "val": 3, "test": 4}[PHASES[phase]]
    expected = [f"COCO_{PHASES[phase]}2014_{i:012d}.jpg" for i in range(1, n + 1)]
    assert names(SALICONDataset(phase)) == expected


def test_examples_stand_in_sorted_order_whatever_the_order_on_disk(root):
    numbers = [31, 4, 200, 12, 1]
    write_salicon(root, n=1)
    for number in numbers[:-1]:
        for kind in ("images", "maps", "fixations"):
            copy = file_of(root, kind, number)
            copy.write_bytes(file_of(root, kind, 1).read_bytes())
    expected = [f"COCO_train2014_{i:012d}.jpg" for i in sorted(numbers)]
    assert names(SALICONDataset()) == expected


def test_files_that_are_no_examples_are_left_alone(root):
    write_salicon(root, n=2)
    for name in ("COCO_train2014_000000000009.txt", "COCO_val2014_000000000003.jpg", "a.jpg"):
        (root / "images" / name).touch()
    (root / "maps" / "train" / "COCO_train2014_000000000007.png").touch()
    assert len(SALICONDataset()) == 2


@pytest.mark.parametrize(
    ("subset", "n"), [(1.0, 5), (0.99, 4), (0.6, 3), (0.5, 2), (0.2, 1), (1, 5)]
)
def test_subset_keeps_the_first_share(root, subset, n):
    write_salicon(root, n=5)
    assert names(SALICONDataset(subset=subset)) == names(SALICONDataset())[:n]


def test_what_the_subset_leaves_out_need_not_be_complete(root):
    write_salicon(root, n=4)
    file_of(root, "maps", 4).unlink()
    file_of(root, "fixations", 3).unlink()
    assert len(SALICONDataset(subset=0.5)) == 2


def test_the_arguments_are_kept(root):
    write_salicon(root, n=2)
    options = {"phase": "train", "subset": 0.5, "out_size": (64, 96), "seed": (3, 1)}
    kept = {"augment": False, "verbose": 0}
    assert SALICONDataset(**options, verbose=0).config == options | kept


# ---- what they become ---------------------------------------------------------------------


@pytest.mark.parametrize("fixations", ["png", "mat"])
def test_an_example_equals_a_plain_reading(root, fixations):
    write_salicon(root, n=2, fixations="png")
    expected = [item.fixations for item in SALICONDataset()]
    if fixations == "mat":
        for i in (1, 2):
            file_of(root, "fixations", i).unlink()
        write_salicon(root, n=2, fixations="mat")
    dataset = SALICONDataset()
    for i in range(2):
        item = dataset[i]
        assert_item_equals_plain(item, root, i + 1)
        assert torch.equal(item.fixations, expected[i])


def test_shapes_types_and_the_sum_of_a_map(root):
    write_salicon(root, n=2, size=(30, 70))
    for item in SALICONDataset():
        assert item.frame_nrs == [1]
        assert (item.frames.shape, item.frames.dtype) == ((3, 288, 384), torch.float32)
        assert (item.maps.shape, item.maps.dtype) == ((1, 30, 70), torch.float32)
        assert (item.fixations.shape, item.fixations.dtype) == ((1, 30, 70), torch.bool)
        assert item.target_size == (30, 70)
        assert item.maps.double().sum().item() == pytest.approx(1, abs=1e-6)
        assert item.maps.min() >= 0


def test_the_picture_may_be_of_another_size_than_its_map(root):
    write_salicon(root, n=1, size=(48, 64))
    write_photo(file_of(root, "images"), (90, 120), seed=1)
    item = SALICONDataset()[0]
    assert_item_equals_plain(item, root, 1)
    assert item.target_size == (48, 64)


def test_out_size_is_that_of_the_networks_input(root):
    write_salicon(root, n=1)
    item = SALICONDataset(out_size=(64, 96))[0]
    assert_item_equals_plain(item, root, 1, size=(64, 96))
    assert item.target_size == (48, 64)


def test_an_all_zero_map_is_uniform(root):
    write_salicon(root, n=1)
    write_grey(file_of(root, "maps"), np.zeros((48, 64), np.uint8))
    assert SALICONDataset()[0].maps.numpy() == pytest.approx(np.full((1, 48, 64), 1 / 3072))


def test_a_map_of_16_bits_keeps_its_levels(root):
    write_salicon(root, n=1)
    levels = np.random.default_rng(0).integers(0, 65536, (48, 64)).astype(np.uint16)
    write_grey(file_of(root, "maps"), levels)
    expected = levels / levels.sum(dtype=float)
    np.testing.assert_allclose(SALICONDataset()[0].maps[0], expected, rtol=1e-5)


def test_a_fixation_is_a_value_above_one_half(root):
    write_salicon(root, n=1)
    values = np.zeros((48, 64), np.uint8)
    values[0, :4] = 1, 127, 128, 255
    write_grey(file_of(root, "fixations"), values)
    fixations = SALICONDataset()[0].fixations[0]
    assert fixations[0, :4].tolist() == [False, False, True, True]
    assert fixations.sum() == 2


def test_a_fixation_file_of_ones_is_not_blank(root):
    write_salicon(root, n=1)
    expected = SALICONDataset()[0].fixations
    ones = np.asarray(Image.open(file_of(root, "fixations"))) // 255
    write_grey(file_of(root, "fixations"), ones)
    assert torch.equal(SALICONDataset()[0].fixations, expected)


def test_an_example_without_fixations_has_none(root):
    write_salicon(root, n=1)
    write_grey(file_of(root, "fixations"), np.zeros((48, 64), np.uint8))
    assert not SALICONDataset()[0].fixations.any()


def test_the_test_phase_needs_neither_maps_nor_fixations(root):
    write_salicon(root, "test", n=1, size=(30, 70))
    item = SALICONDataset("test")[0]
    assert [p.name for p in root.iterdir()] == ["images"]
    assert (item.maps, item.fixations, item.frame_nrs) == (None, None, [1])
    assert item.frames.shape == (3, 288, 384)
    assert item.target_size == (30, 70)


@pytest.mark.parametrize("phase", ["eval", "test"])
def test_examples_that_are_taken_one_by_one_may_differ_in_size(root, phase):
    write_salicon(root, PHASES[phase], n=2, size=(48, 64))
    write_salicon(root, PHASES[phase], n=1, size=(30, 70))
    assert [item.target_size for item in SALICONDataset(phase)] == [(30, 70), (48, 64)]


# ---- the official fixations ---------------------------------------------------------------


def test_positions_are_one_based_x_and_y_and_the_resolution_is_height_and_width(tmp_path):
    corners = [(0, 0), (69, 0), (0, 29), (69, 29), (5, 11)]
    write_mat(tmp_path / "a.mat", corners, (30, 70))
    fixations = read_mat_fixations(tmp_path / "a.mat")
    assert (fixations.shape, fixations.dtype) == ((30, 70), bool)
    assert {(x, y) for y, x in np.argwhere(fixations)} == set(corners)
    one_based = scipy.io.loadmat(tmp_path / "a.mat")["gaze"][0, 0][2]
    assert one_based.min() == 1  # what the file itself holds


def test_positions_outside_the_picture_are_left_out(tmp_path):
    write_mat(
        tmp_path / "a.mat", [(70, 3), (3, 30), (200, 200), (-1, 4), (4, -1), (6, 7)], (30, 70)
    )
    assert np.argwhere(read_mat_fixations(tmp_path / "a.mat")).tolist() == [[7, 6]]


@pytest.mark.parametrize("points", [[], [(3, 4)]], ids=["none at all", "one observer only"])
def test_an_observer_may_have_no_fixations(tmp_path, points):
    write_mat(tmp_path / "a.mat", points, (30, 70))
    assert read_mat_fixations(tmp_path / "a.mat").sum() == len(points)


def test_fixations_are_cached_as_a_picture_beside_them(root):
    write_salicon(root, n=1, fixations="mat")
    first = SALICONDataset()[0].fixations
    folder = root / "fixations" / "train"
    assert sorted(p.suffix for p in folder.iterdir()) == [".mat", ".png"]
    cached = np.asarray(Image.open(file_of(root, "fixations")))
    assert cached.dtype == np.uint8
    np.testing.assert_array_equal(cached, first[0].numpy() * np.uint8(255))


@pytest.mark.parametrize("again", ["the same data set", "a new data set"])
def test_the_cache_is_read_instead_of_the_original(root, again):
    write_salicon(root, n=1, fixations="mat")
    dataset = SALICONDataset()
    first = dataset[0].fixations
    file_of(root, "mat").write_bytes(b"not needed any more")
    dataset = dataset if again == "the same data set" else SALICONDataset()
    assert torch.equal(dataset[0].fixations, first)


def test_fixations_can_be_read_from_a_folder_that_cannot_be_written(root, monkeypatch):
    write_salicon(root, n=1, fixations="mat")

    def refuse(*_args, **_options):
        raise OSError(errno.EROFS, "Read-only file system")

    with monkeypatch.context() as patched:
        patched.setattr(Path, "touch", refuse)
        dataset = SALICONDataset()
        first, again = dataset[0].fixations, dataset[0].fixations
    assert [p.suffix for p in (root / "fixations" / "train").iterdir()] == [".mat"]
    assert torch.equal(first, again)
    assert torch.equal(SALICONDataset()[0].fixations, first)


# ---- mistakes -----------------------------------------------------------------------------


def test_a_missing_folder_is_named_with_the_variable_that_names_another(root):
    with pytest.raises(UserError, match="SALICON_DATA_DIR") as refused:
        SALICONDataset()
    assert f"{root} does not exist" in str(refused.value)


def test_a_part_without_pictures_is_named(root):
    write_salicon(root, "train", n=1)
    with pytest.raises(UserError, match=r"valid part.*0 files found") as refused:
        SALICONDataset("valid")
    assert str(root / "images" / "COCO_val2014_*.jpg") in str(refused.value)


def test_a_subset_that_leaves_nothing_is_told(root):
    write_salicon(root, n=3)
    with pytest.raises(UserError, match=r"3 files found, 0 left with subset=0\.2"):
        SALICONDataset(subset=0.2)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"subset": 0}, "subset is 0;"),
        ({"subset": 1.5}, r"subset is 1\.5;"),
        ({"subset": -0.1}, r"subset is -0\.1;"),
        ({"phase": "val"}, "phase is 'val'; allowed are train, valid, eval, test"),
    ],
    ids=str,
)
def test_a_wrong_option_is_refused_with_what_is_allowed(root, options, message):
    write_salicon(root, n=1)
    with pytest.raises(UserError, match=message):
        SALICONDataset(**options)


@pytest.mark.parametrize(
    ("kind", "said"), [("maps", "saliency maps missing"), ("fixations", "fixations.*missing")]
)
def test_missing_files_are_found_at_once_and_named(root, kind, said):
    write_salicon(root, n=9)
    for number in (2, 4, 5, 6, 7, 8, 9):
        file_of(root, kind, number).unlink()
    with pytest.raises(UserError, match=said) as refused:
        SALICONDataset()
    told = str(refused.value)
    for number in (2, 4, 5, 6, 7):
        assert file_of(root, kind, number).stem in told
    assert str(root / kind) in told
    assert told.endswith("and 2 more")


def test_a_missing_folder_of_fixations_is_as_if_all_were_missing(root):
    write_salicon(root, n=1)
    file_of(root, "fixations").unlink()
    file_of(root, "fixations").parent.rmdir()
    with pytest.raises(
        UserError, match=r"fixations .* missing: .*COCO_train2014_000000000001\.mat"
    ):
        SALICONDataset()


@pytest.mark.parametrize("phase", ["train", "valid"])
def test_maps_that_differ_in_size_are_named_where_they_would_share_a_batch(root, phase):
    write_salicon(root, PHASES[phase], n=3, size=(48, 64))
    odd = file_of(root, "maps", 3, PHASES[phase])
    write_grey(odd, np.zeros((64, 48), np.uint8))
    with pytest.raises(UserError, match=r"\(48, 64\).*\(64, 48\) \(height, width\)") as refused:
        SALICONDataset(phase)
    assert str(file_of(root, "maps", 1, PHASES[phase])) in str(refused.value)
    assert str(odd) in str(refused.value)


def test_fixations_of_another_size_than_their_map_are_named(root):
    write_salicon(root, n=1)
    write_grey(file_of(root, "fixations"), np.zeros((64, 48), np.uint8))
    with pytest.raises(UserError, match=r"is \(64, 48\).*\(48, 64\)") as refused:
        SALICONDataset()[0]
    assert str(file_of(root, "fixations")) in str(refused.value)
    assert str(file_of(root, "maps")) in str(refused.value)


@pytest.mark.parametrize("damage", ["cut off", "something else"])
@pytest.mark.parametrize("kind", ["images", "maps", "fixations", "mat"])
def test_a_damaged_file_is_named(root, kind, damage):
    write_salicon(root, "val", n=2, fixations="mat" if kind == "mat" else "png")
    dataset = SALICONDataset("eval")
    path = file_of(root, kind, 2, "val")
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2] if damage == "cut off" else b"something else")
    dataset[0]
    with pytest.raises(UserError, match=path.name):
        dataset[1]


@pytest.mark.parametrize(
    "content",
    [
        {"resolution": [[30, 70]]},
        {"gaze": np.zeros((2, 1))},
        {"gaze": np.zeros((2, 1)), "resolution": [[30, 70, 3]]},
        {"gaze": np.zeros((0, 1)), "resolution": [[2e9, 2e9]]},
        {"gaze": np.zeros((0, 1)), "resolution": [[-30, 70]]},
    ],
    ids=["no gaze", "no resolution", "another resolution", "huge", "negative"],
)
def test_fixations_of_another_structure_are_named(tmp_path, content):
    scipy.io.savemat(tmp_path / "odd.mat", content)
    with pytest.raises(UserError, match=r"odd\.mat cannot be read as SALICON fixations"):
        read_mat_fixations(tmp_path / "odd.mat")


def test_fixations_that_vanish_are_named(root):
    write_salicon(root, n=1, fixations="mat")
    dataset = SALICONDataset()
    file_of(root, "mat").unlink()
    with pytest.raises(UserError, match=r"COCO_train2014_000000000001\.mat does not exist"):
        dataset[0]
