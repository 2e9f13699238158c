"""The order of examples and batches, and what a batch holds."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch
from PIL import Image
from support import write_salicon

from unisal.data import SALICONDataset
from unisal.data.base import Item, SaliencyDataset
from unisal.data.samplers import SeededSampler, interleave, make_loader
from unisal.data.spread import evenly_spread
from unisal.errors import UserError


class Clips(SaliencyDataset):
    """A made-up video source: clips of three frames that hold their own number."""

    source = domain = "DHF1K"
    is_video = True

    def __init__(self, n=5, phase="train", seed=0):
        super().__init__(phase, 1.0, False, seed)
        self.n = n

    def name(self, index):
        return f"clip {index}"

    def __len__(self):
        return self.n

    def __getitem__(self, index):
        frames = torch.full((3, 3, 32, 64), float(index))
        maps = torch.full((3, 1, 4, 8), 1 / 32)
        return Item([1, 6, 11], frames, maps, maps > 0, (4, 8))


@pytest.fixture
def salicon(tmp_path, monkeypatch):
    """Return a function that makes a small data set of 7 training and 7 validation examples."""
    monkeypatch.setenv("SALICON_DATA_DIR", str(tmp_path))
    for part in ("train", "val"):
        write_salicon(tmp_path, part, n=7)

    def make(phase="train", **options):
        return SALICONDataset(phase, out_size=(64, 96), **options)

    return make


def assert_same_batches(some, others):
    assert [b.names for b in some] == [b.names for b in others]
    for one, other in zip(some, others, strict=True):
        for field in ("frames", "maps", "fixations"):
            assert torch.equal(getattr(one, field), getattr(other, field))


# ---- the sources of an epoch --------------------------------------------------------------


@pytest.mark.parametrize(
    ("n_batches", "expected"),
    [
        ({"a": 3, "b": 1, "c": 2}, "abcaca"),
        ({"a": 1, "b": 4}, "abbbb"),
        ({"b": 2, "a": 2}, "baba"),
        ({"a": 3}, "aaa"),
        ({"a": 0, "b": 1}, "b"),
        ({}, ""),
    ],
    ids=str,
)
def test_sources_take_turns_and_one_that_has_run_out_is_skipped(n_batches, expected):
    assert "".join(interleave(n_batches, shuffle=False, seed=[0])) == expected


def test_a_shuffled_epoch_holds_the_same_batches():
    n_batches = {"a": 50, "b": 7, "c": 20}
    order = interleave(n_batches, shuffle=True, seed=[1, 2])
    assert Counter(order) == n_batches
    assert order != interleave(n_batches, shuffle=False, seed=[1, 2])
    assert "b" in order[25:]  # round-robin would have used them up by then
    assert order == interleave(n_batches, shuffle=True, seed=[1, 2])


def test_seeds_and_epochs_shuffle_differently():
    n_batches = {"a": 50, "b": 7, "c": 20}
    orders = [interleave(n_batches, True, seed) for seed in ([0, 1], [0, 2], [1, 1])]
    assert len({tuple(order) for order in orders}) == 3


def test_no_order_touches_the_global_random_state():
    np.random.seed(0)
    expected = np.random.random()
    np.random.seed(0)
    interleave({"a": 5, "b": 5}, True, [0, 0])
    list(SeededSampler(Clips(), shuffle=True))
    assert np.random.random() == expected


# ---- the examples of an epoch -------------------------------------------------------------


def test_every_epoch_is_another_permutation_of_the_examples():
    dataset = Clips(40, seed=(3, 0))
    sampler = SeededSampler(dataset, shuffle=True)
    assert len(sampler) == 40
    orders = []
    for dataset.epoch in range(4):
        orders.append(list(sampler))
        assert sorted(orders[-1]) == list(range(40))
        assert list(sampler) == orders[-1]
    assert len({tuple(order) for order in orders}) == 4


def test_the_order_follows_the_seed():
    orders = [tuple(SeededSampler(Clips(40, seed=s), shuffle=True)) for s in (0, 0, 1, (1, 2))]
    assert orders[0] == orders[1]
    assert len(set(orders)) == 3


def test_without_shuffling_the_order_is_that_of_the_data_set():
    dataset = Clips(9)
    for dataset.epoch in (0, 1):
        assert list(SeededSampler(dataset, shuffle=False)) == list(range(9))


# ---- batches ------------------------------------------------------------------------------


def test_a_batch_of_images_is_its_examples_as_clips_of_one_frame(salicon):
    dataset = salicon("valid")
    batches = list(make_loader(dataset, 3, 0, False))
    assert [b.names for b in batches] == [
        [dataset.name(i) for i in numbers] for numbers in ((0, 1, 2), (3, 4, 5))
    ]
    for batch, numbers in zip(batches, ((0, 1, 2), (3, 4, 5)), strict=True):
        assert (batch.source, batch.is_video, batch.target_size) == ("SALICON", False, (48, 64))
        assert batch.frames.shape == (3, 1, 3, 64, 96)
        assert batch.maps.shape == batch.fixations.shape == (3, 1, 1, 48, 64)
        assert batch.fixations.dtype == torch.bool
        for k, i in enumerate(numbers):
            assert torch.equal(batch.frames[k, 0], dataset[i].frames)
            assert torch.equal(batch.maps[k, 0], dataset[i].maps)
            assert torch.equal(batch.fixations[k, 0], dataset[i].fixations)


def test_a_batch_of_clips_keeps_their_time_axis():
    (batch,) = make_loader(Clips(2, "valid"), 2, 0, False)
    assert (batch.source, batch.is_video, batch.target_size) == ("DHF1K", True, (4, 8))
    assert batch.frames.shape == (2, 3, 3, 32, 64)
    assert batch.maps.shape == batch.fixations.shape == (2, 3, 1, 4, 8)
    assert batch.names == ["clip 0", "clip 1"]
    assert batch.frames[:, 0, 0, 0, 0].tolist() == [0, 1]


@pytest.mark.parametrize("phase", ["train", "valid"])
@pytest.mark.parametrize(("size", "n"), [(3, 2), (7, 1), (4, 1), (1, 7), (32, 1)])
def test_a_last_batch_that_is_not_full_is_left_out(phase, size, n):
    loader = make_loader(Clips(7, phase), size, 0, False)
    batches = list(loader)
    assert len(batches) == len(loader) == n
    assert {len(b.names) for b in batches} == {min(size, 7)}  # fewer than a batch are one batch
    assert len({name for b in batches for name in b.names}) == n * min(size, 7)


def test_only_training_examples_are_shuffled():
    orders = {}
    for phase in ("train", "valid"):
        batches = make_loader(Clips(30, phase), 10, 0, False)
        orders[phase] = [name for b in batches for name in b.names]
    assert orders["valid"] == [f"clip {i}" for i in range(30)]
    assert orders["train"] != orders["valid"]
    assert sorted(orders["train"]) == sorted(orders["valid"])


@pytest.mark.filterwarnings("ignore:This DataLoader will create")  # more than there are cores
def test_batches_do_not_depend_on_the_number_of_workers(salicon):
    dataset = salicon(augment=True, seed=(5, 0))
    epochs = {}
    for workers in (0, 2):
        for dataset.epoch in (0, 1):
            epochs[workers, dataset.epoch] = list(make_loader(dataset, 2, workers, False))
    for epoch in (0, 1):
        assert_same_batches(epochs[0, epoch], epochs[2, epoch])
    assert [b.names for b in epochs[0, 0]] != [b.names for b in epochs[0, 1]]


def test_a_batch_moves_as_a_whole(salicon):
    (batch,) = make_loader(salicon("valid"), 7, 0, False)
    moved = batch.to(torch.device("meta"))
    assert {t.device.type for t in (moved.frames, moved.maps, moved.fixations)} == {"meta"}
    assert (moved.names, moved.source, moved.target_size) == (batch.names, "SALICON", (48, 64))
    assert batch.frames.device.type == "cpu"


# ---- mistakes -----------------------------------------------------------------------------


def test_maps_of_one_batch_that_differ_in_size_are_named(salicon, tmp_path):
    for kind in ("maps", "fixations"):
        path = tmp_path / kind / "val" / "COCO_val2014_000000000003.png"
        Image.fromarray(np.zeros((64, 48), np.uint8)).save(path)
    with pytest.raises(UserError, match=r"\(48, 64\).*\(64, 48\) \(height, width\)") as refused:
        list(make_loader(salicon("eval"), 4, 0, False))
    for number in (1, 3):
        assert f"COCO_val2014_{number:012d}.jpg" in str(refused.value)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_damaged_file_is_told_alike_by_every_process(salicon, tmp_path, workers):
    bad = tmp_path / "images" / "COCO_val2014_000000000002.jpg"
    bad.write_bytes(b"no picture")
    with pytest.raises(UserError) as refused:
        list(make_loader(salicon("valid"), 2, workers, False))
    assert str(refused.value) == f"{bad} is not a picture that can be read"


# ---- frames of many -----------------------------------------------------------------------


@pytest.mark.parametrize("n", [1, 3, 7, 12, 100])
def test_chosen_frames_exist_and_are_spread_evenly(n):
    lengths = [5, 1, 6]
    chosen = evenly_spread(lengths, n)
    assert len(set(chosen)) == len(chosen) == min(n, 12)
    assert all(1 <= number <= lengths[video] for video, number in chosen)
    assert chosen == sorted(chosen)
    if n >= 12:
        assert chosen == [(v, f + 1) for v, length in enumerate(lengths) for f in range(length)]


def test_nothing_is_chosen_of_nothing():
    assert evenly_spread([], 5) == []
