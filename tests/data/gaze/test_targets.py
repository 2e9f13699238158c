"""Targets from the gaze of few people: which fixations, and how much of a uniform density."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch
from gaze_folders import write_gaze, write_table
from support import write_photo

from unisal.data.gaze import gaze_source
from unisal.data.gaze.maps import density_map, fixation_map
from unisal.errors import UserError

SIZE = (32, 64)


@pytest.fixture
def folder(tmp_path):
    """Return a folder of four pictures with the gaze of five observers."""
    write_gaze(tmp_path / "g", {f"{i}.jpg": (48, 64) for i in range(4)}, n_observers=5)
    return tmp_path / "g"


def part_of(folder, phase="train", **options):
    options = {"n_x_val": 4, "x_val_step": 0, "input_size": SIZE, **options}
    return gaze_source("g", folder)(phase, **options)


def same(one, other):
    return all(torch.equal(getattr(one, n), getattr(other, n)) for n in ("maps", "fixations"))


def made_of(dataset, fixations, index=0):
    """The map and the fixation map of some fixations, made independently of the data set."""
    own = dataset.frame_size(index)
    density = density_map(fixations, own, SIZE, dataset.blur(index))
    return density, fixation_map(fixations, own, SIZE)


def check(item, density, fixated):
    np.testing.assert_allclose(item.maps[0].numpy(), density / density.sum(), rtol=1e-5)
    np.testing.assert_array_equal(item.fixations[0].numpy(), fixated)


def test_off_is_as_without_the_options(folder):
    plain = part_of(folder)
    off = part_of(folder, observer_share=1, skip_first=False, people_smoothing=0)
    assert len(plain) == 3
    assert all(same(plain[i], off[i]) for i in range(3))
    check(plain[0], *made_of(plain, plain.fixations(0)))


@pytest.mark.parametrize(("share", "n"), [(0.4, 2), (0.01, 1), (0.5, 2), (0.9, 4)])
def test_an_example_takes_the_gaze_of_a_share_of_its_observers(folder, share, n):
    dataset = part_of(folder, observer_share=share)
    seen = set()
    for dataset.epoch in range(12):
        used = dataset._trained_on(0)
        people = np.unique(used.observer).tolist()
        assert len(people) == n
        names = [dataset.observers[who] for who in people]
        expected = dataset.fixations(0, observers=names)
        check(dataset[0], *made_of(dataset, expected))
        seen |= set(people)
    assert len(seen) > n


def test_the_observers_follow_from_seed_epoch_and_example(folder):
    dataset = part_of(folder, observer_share=0.4, seed=(3, 0))
    for dataset.epoch in (0, 1):
        again = pickle.loads(pickle.dumps(dataset))
        assert [same(again[i], dataset[i]) for i in (2, 1, 0)] == [True] * 3
    other = part_of(folder, observer_share=0.4, seed=(4, 0))
    drawn = [
        tuple(np.unique(d._trained_on(i).observer)) for d in (dataset, other) for i in range(3)
    ]
    assert len(set(drawn)) > 2


def test_all_other_random_changes_stay_as_they_are(folder):
    augment = {"min_crop": 1.0}
    plain = part_of(folder, augment=augment)
    some = part_of(folder, augment=augment, observer_share=0.4, people_smoothing=1)
    for plain.epoch in range(3):
        some.epoch = plain.epoch
        assert torch.equal(plain[0].frames, some[0].frames)


def test_the_first_fixations_are_left_out(folder):
    dataset = part_of(folder, skip_first=True)
    later = dataset.fixations(0, fixation_numbers=range(2, 100))
    assert len(later) == 15
    check(dataset[0], *made_of(dataset, later))


def test_a_single_fixation_is_not_left_out(tmp_path):
    rows = [("a.jpg", "p1", 10, 10), ("b.jpg", "p1", 20, 20)]
    for name in ("a.jpg", "b.jpg"):
        write_photo(tmp_path / "stimuli" / name, (48, 64))
    write_table(tmp_path / "fixations.csv", ("stimulus", "observer", "x", "y"), rows)
    options = {"n_x_val": 2, "x_val_step": 0, "input_size": SIZE}
    dataset = gaze_source("g", tmp_path)("train", skip_first=True, **options)
    assert dataset[0].fixations.sum() == 1


@pytest.mark.parametrize(("share", "n"), [(None, 5), (0.4, 2)])
def test_a_density_is_smoothed_the_more_the_fewer_people_it_is_of(folder, share, n):
    dataset = part_of(folder, people_smoothing=1.5, observer_share=share)
    density, fixated = made_of(dataset, dataset._trained_on(0))
    uniform = np.full(SIZE, 1 / (SIZE[0] * SIZE[1]))
    check(dataset[0], (n * density.astype(float) + 1.5 * uniform) / (n + 1.5), fixated)


def test_only_training_is_changed(folder):
    options = {"observer_share": 0.3, "skip_first": True, "people_smoothing": 3}
    for phase in ("valid", "eval"):
        assert same(part_of(folder, phase)[0], part_of(folder, phase, **options)[0])
    dataset = part_of(folder, **options)
    assert len(dataset.fixations(0)) == 20  # scores see everybody


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"observer_share": 0}, "observer_share is 0"),
        ({"observer_share": 2}, "observer_share is 2"),
        ({"skip_first": "no"}, "skip_first is 'no'"),
        ({"people_smoothing": -1}, "people_smoothing is -1"),
    ],
    ids=str,
)
def test_mistakes_are_named(folder, options, said):
    with pytest.raises(UserError, match=said):
        part_of(folder, **options)


def test_observers_that_are_not_told_apart_have_no_share(tmp_path):
    for name in ("a.jpg", "b.jpg"):
        write_photo(tmp_path / "stimuli" / name, (48, 64))
    rows = [("a.jpg", 10, 10), ("b.jpg", 20, 20)]
    write_table(tmp_path / "fixations.csv", ("stimulus", "x", "y"), rows)
    with pytest.raises(UserError, match="does not tell people apart"):
        part_of(tmp_path, n_x_val=2, observer_share=0.5)
