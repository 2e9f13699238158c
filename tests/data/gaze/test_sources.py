"""A folder of gaze data as a source: its name, its class, its parts, its examples."""

from __future__ import annotations

import json
import logging
import pickle

import numpy as np
import pytest
import torch
from gaze_folders import HEADER, write_gaze, write_table
from scipy.ndimage import gaussian_filter

from unisal.data import DATASETS, GazeFolder, find_dataset, name_data
from unisal.data.gaze import gaze_source
from unisal.data.samplers import make_loader
from unisal.data.transforms import optimal_input_size
from unisal.errors import UserError
from unisal.evaluate.gaze import Gaze

SIZES = {f"{i}.jpg": [(60, 80), (80, 60), (64, 64)][i % 3] for i in range(10)}


@pytest.fixture
def folder(tmp_path):
    write_gaze(tmp_path / "crowd", SIZES)
    return tmp_path / "crowd"


# ---- names ----------------------------------------------------------------------------------
def test_a_folder_is_found_by_name_and_path(folder):
    found = find_dataset(f"crowd={folder}")
    assert issubclass(found, GazeFolder)
    assert (found.source, found.domain, found.scalar_prefix) == ("crowd", "SALICON", "crowd")
    assert found.__name__ == "crowdDataset"
    assert found.root() == folder
    assert find_dataset(f"crowd={folder}/../crowd") is found is gaze_source("crowd", folder)
    assert gaze_source("crowd", folder, domain="Crowd").domain == "Crowd"
    assert gaze_source("crowd", folder, domain="Crowd") is not found
    assert "crowd" not in DATASETS


def test_the_domain_may_stand_in_gaze_json(folder):
    (folder / "gaze.json").write_text('{"domain": "Crowd"}')
    assert find_dataset(f"crowd={folder}").domain == "Crowd"
    assert gaze_source("crowd", folder, domain="Other").domain == "Other"


@pytest.mark.parametrize(
    ("name", "expected"), [("my data-2", "my_data_2"), ("2024", "gaze_2024"), ("äé", "gaze")]
)
def test_without_a_name_the_folder_gives_it(folder, name, expected):
    place = folder.with_name(name)
    folder.rename(place)
    assert name_data(str(place)) == f"{expected}={place}"
    assert name_data(f"mine={place}") == f"mine={place}"
    config = place / "gaze.json"
    config.write_text("{}")
    assert name_data(str(config)) == f"{expected}={config}"
    assert find_dataset(name_data(str(config))).source == expected


def test_a_path_with_an_equals_sign_is_a_path(folder):
    place = folder.with_name("a=b")
    folder.rename(place)
    assert name_data(str(place)) == f"a_b={place}"
    assert find_dataset(f"mine={place}").root() == place


@pytest.mark.parametrize("name", ["SALICON", "salicon", "FINAL_TEST_MIT1003", "dhf1k"])
def test_the_names_of_other_sources_are_taken(folder, name):
    for use in (find_dataset, name_data):
        with pytest.raises(UserError, match=f"'{name}' is the name of another data set"):
            use(f"{name}={folder}")


@pytest.mark.parametrize("spec", ["my-data={}", "={}", "9={}"])
def test_strange_names_are_refused(folder, spec):
    with pytest.raises(UserError, match="letters, digits and _"):
        find_dataset(spec.format(folder))


def test_what_is_not_there_is_named(tmp_path):
    with pytest.raises(UserError, match="nowhere does not exist"):
        find_dataset(f"crowd={tmp_path / 'nowhere'}")
    with pytest.raises(UserError, match="nowhere does not exist"):
        name_data(str(tmp_path / "nowhere"))
    with pytest.raises(UserError, match="NAME=PATH"):
        find_dataset("Crowd")


# ---- examples -------------------------------------------------------------------------------
def test_parts_are_disjoint_and_whole(folder):
    cls = gaze_source("crowd", folder)
    titles = {p: [d.title(i) for i in range(len(d))] for p in cls.phases if (d := cls(phase=p))}
    assert len(titles["eval"]) == 2
    assert titles["valid"] == titles["eval"]
    assert sorted(titles["train"] + titles["eval"]) == sorted(titles["test"]) == sorted(SIZES)


def test_examples_keep_the_aspect_ratio(folder):
    dataset = gaze_source("crowd", folder)(phase="train")
    for index in range(len(dataset)):
        item, size = dataset[index], optimal_input_size(SIZES[dataset.title(index)])
        assert item.frames.shape == (3, *size)
        assert item.maps.shape == item.fixations.shape == (1, *size)
        assert item.maps.sum().item() == pytest.approx(1, abs=1e-5)
        assert dataset.batch_group(index) == size


def test_scored_examples_have_the_size_of_the_picture(folder):
    dataset = gaze_source("crowd", folder)(phase="eval")
    for index in range(len(dataset)):
        assert dataset.target_size(index) == SIZES[dataset.title(index)]
        assert dataset.read_density(index).shape == dataset[index].maps.shape[1:]


def test_pictures_can_be_scored_with_one_longer_side(folder):
    cls = gaze_source("crowd", folder, changes={"blur_share": 0.05})
    dataset, own = cls(phase="eval", score_size=40), cls(phase="eval")
    for index in range(len(dataset)):
        height, width = SIZES[dataset.title(index)]
        scale = 40 / max(height, width)
        size = round(height * scale), round(width * scale)
        assert dataset.target_size(index) == dataset[index].maps.shape[1:] == size
        found = own.fixations(index)
        y, x = (np.floor((found.y + 0.5) * scale), np.floor((found.x + 0.5) * scale))
        counts = np.zeros(size)
        np.add.at(counts, (y.astype(int), x.astype(int)), 1)
        np.testing.assert_array_equal(dataset.read_fixation_map(index), counts > 0)
        blurred = gaussian_filter(counts, 2, mode="constant")
        np.testing.assert_allclose(
            dataset.read_density(index), blurred / blurred.sum(), rtol=0.02, atol=1e-6
        )
        gaze = Gaze(dataset)
        np.testing.assert_array_equal(
            gaze.density(index, gaze.read(index)), dataset.read_density(index)
        )
        seen = np.concatenate(dataset.read_observers(index))
        np.testing.assert_array_equal(np.unique(seen, axis=0), np.argwhere(counts.T))
    assert dataset.config["score_size"] == 40 and own.config["score_size"] is None
    with pytest.raises(UserError, match="score_size"):
        cls(phase="eval", score_size=0)


def test_one_size_for_all_is_an_option(folder):
    dataset = gaze_source("crowd", folder)(phase="train", input_size=(64, 96))
    assert {dataset.batch_group(i) for i in range(len(dataset))} == {(64, 96)}
    assert dataset[0].frames.shape == (3, 64, 96)


def test_training_leaves_no_example_out(folder):
    dataset = gaze_source("crowd", folder)(phase="train", input_size=None)
    for batch_size in (1, 2, 3, 100):
        batches = list(make_loader(dataset, batch_size, 0, pin_memory=False))
        names = [name for batch in batches for name in batch.names]
        assert sorted(names) == sorted(dataset.title(i) for i in range(len(dataset)))
        assert max(len(batch.names) for batch in batches) <= batch_size
        for batch in batches:
            assert batch.source == "crowd"
            assert batch.maps.shape[3:] == batch.frames.shape[3:]


def test_augmented_examples_stay_examples(folder):
    dataset = gaze_source("crowd", folder)(phase="train", augment=True)
    plain = gaze_source("crowd", folder)(phase="train")
    item, same = dataset[0], dataset[0]
    assert torch.equal(item.frames, same.frames)
    assert not torch.equal(item.frames, plain[0].frames)
    assert item.fixations.any()
    assert item.maps.sum().item() == pytest.approx(1, abs=1e-4)


def test_training_can_be_limited_to_stimuli_and_people(folder):
    cls = gaze_source("crowd", folder)
    whole = cls(phase="train")
    few = cls(phase="train", train_stimuli=3)
    more = cls(phase="train", train_stimuli=5)
    assert len(few) == 3
    assert set(few.chosen) < set(more.chosen) < set(whole.chosen)
    named = cls(phase="train", train_stimuli=[whole.title(1)])
    assert named.chosen == [whole.chosen[1]]
    people = cls(phase="train", train_observers=["p2"])
    expected = people.fixation_map(0, people.input_size_for(0), observers=["p2"])
    np.testing.assert_array_equal(people[0].fixations[0], expected)
    assert len(cls(phase="valid", train_stimuli=3, train_observers=1)) == 2
    with pytest.raises(UserError, match="train_stimuli is 9"):
        cls(phase="train", train_stimuli=9)
    with pytest.raises(UserError, match="training part has no zebra"):
        cls(phase="train", train_stimuli=["zebra"])


def test_stimuli_that_nobody_looked_at_are_no_examples(tmp_path):
    rows = write_gaze(tmp_path, SIZES)
    write_table(tmp_path / "fixations.csv", HEADER, [r for r in rows if r[0] != "3.jpg"])
    (tmp_path / "splits.json").write_text(json.dumps({"val": [1, 3]}))
    cls = gaze_source("some", tmp_path)
    assert [cls(phase="eval").title(0)] == ["1.jpg"]
    assert len(cls(phase="train")) == 8
    assert len(cls(phase="test")) == 10  # they can be predicted all the same
    (tmp_path / "splits.json").write_text(json.dumps({"val": [3]}))
    with pytest.raises(UserError, match="eval part has no stimuli that people looked at"):
        cls(phase="eval")


def test_predictions_of_files_that_differ_in_the_ending_are_told_apart(tmp_path):
    write_gaze(tmp_path, {"a.jpg": (60, 80), "a.png": (60, 80), "deep/b.jpg": (60, 80)})
    dataset = gaze_source("mixed", tmp_path)(phase="test")
    names = {dataset.prediction_path(i).as_posix() for i in range(3)}
    assert names == {"a.jpg.png", "a.png.png", "deep/b.png"}


def test_a_data_set_can_be_sent_to_another_process(folder):
    dataset = gaze_source("crowd", folder, domain="Crowd")(phase="train")
    copy = pickle.loads(pickle.dumps(dataset))
    assert type(copy) is type(dataset)
    assert torch.equal(copy[2].maps, dataset[2].maps)
    (batch, *_) = make_loader(dataset, 2, 1, pin_memory=False)
    assert batch.domain == "Crowd"


def test_options_of_a_run_make_the_same_data_set_again(folder, caplog):
    cls = gaze_source("crowd", folder)
    dataset = cls(phase="eval", n_x_val=3, x_val_step=1, gaze={"blur_pixels": 7})
    again = cls.from_options(dataset.config)
    assert again.chosen == dataset.chosen
    np.testing.assert_array_equal(again.density(0), dataset.density(0))
    assert not caplog.records
    with (folder / "fixations.csv").open("a") as file:
        file.write("1.jpg,p9,3,3,0,100\n")
    with caplog.at_level(logging.WARNING):
        cls.from_options(dataset.config)
    assert "is not the data that the run was trained on" in caplog.text
