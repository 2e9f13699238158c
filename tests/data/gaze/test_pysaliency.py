"""HDF5 files of pysaliency: by their documented layout, and with pysaliency if installed."""

from __future__ import annotations

import json

import h5py
import numpy as np
import pytest
from gaze_folders import write_film, write_gaze, write_table
from support import photo, write_photo

from unisal.data.gaze import gaze_source, pysaliency
from unisal.data.gaze.pysaliency import unpack_stimuli, write_pysaliency
from unisal.data.gaze.reading import load_gaze
from unisal.errors import UserError

SIZES = {"a.jpg": (60, 80), "sub/b.png": (80, 60)}
PATHS = [  # stimulus, subject, x, y, durations in milliseconds; pixels are floor(x)
    (0, 3, [10.2, 50.9, 79.9], [5.0, 30.5, 59.9], [200, 300, 150]),
    (1, 3, [0.0], [79.5], [400]),
    (1, 7, [20.5, 21.5], [40.5, 41.5], [180, 190]),
]
FLAT = [(n, s, x, y, d) for n, s, *rest in PATHS for x, y, d in zip(*rest, strict=True)]


def text(value):
    return np.bytes_(json.dumps(value) if not isinstance(value, str) else value)


def padded(values):
    filled = np.full((len(values), max(map(len, values))), np.nan)
    for row, one in zip(filled, values, strict=True):
        row[: len(one)] = one
    return filled


def write_stimuli(folder, kind="FileStimuli"):
    with h5py.File(folder / "stimuli.hdf5", "w") as file:
        file.attrs["type"], file.attrs["version"] = text(kind), text("2.1")
        file.attrs["size"] = len(SIZES)
        file.attrs["__attributes__"] = text([])
        if kind == "Stimuli":
            for i, size in enumerate(SIZES.values()):
                file.create_dataset(str(i), data=photo(size, i), compression="gzip")
            return
        names = [f"pictures/{name}" for name in SIZES]
        file.create_dataset("filenames", data=names, dtype=h5py.string_dtype())


def write_fixations(path, kind):
    """Write PATHS as the layout of pysaliency's class `kind`."""
    numbers, subjects, xs, ys, durations = zip(*PATHS, strict=True)
    ts = [range(len(x)) for x in xs]
    with h5py.File(path, "w") as file:
        file.attrs["type"] = text(kind)
        if kind == "Fixations":
            file.attrs["version"], file.attrs["__attributes__"] = text("1.0"), text(["subjects"])
            n, s, x, y, _ = (np.array(c) for c in zip(*FLAT, strict=True))
            for name, values in {"n": n, "subjects": s, "x": x, "y": y, "t": 0 * x}.items():
                file.create_dataset(name, data=values)
            for name in ("x_hist", "y_hist", "t_hist"):
                file.create_dataset(name, data=np.full((len(n), 1), np.nan))
        elif kind == "FixationTrains":
            file.attrs["version"], file.attrs["__attributes__"] = text("1.2"), text([])
            file.attrs["scanpath_attribute_mapping"] = text({})
            for name, values in {"train_xs": xs, "train_ys": ys, "train_ts": ts}.items():
                file.create_dataset(name, data=padded(values))
            file.create_dataset("train_ns", data=numbers)
            file.create_dataset("train_subjects", data=subjects)
            group = file.create_group("scanpath_attributes")
            group.create_dataset("task", data=["free", "free", "search"], dtype=h5py.string_dtype())
            group.attrs["__attributes__"] = text(["task"])
            group = file.create_group("scanpath_fixation_attributes")
            group.create_dataset("durations", data=padded(durations))
            group.attrs["__attributes__"] = text(["durations"])
        else:
            file.attrs["version"] = text("1.0")
            paths = file.create_group("scanpaths")
            paths.attrs["type"], paths.attrs["version"] = text("Scanpaths"), text("1.0")
            paths.attrs["attribute_mapping"] = text({})
            paths.create_dataset("xs", data=padded(xs))
            paths.create_dataset("ys", data=padded(ys))
            paths.create_dataset("n", data=numbers)
            paths.create_dataset("lengths", data=[len(x) for x in xs])
            group = paths.create_group("scanpath_attributes")
            group.create_dataset("subject", data=subjects)
            group.create_dataset("task", data=["free", "free", "search"], dtype=h5py.string_dtype())
            group = paths.create_group("fixation_attributes")
            group.create_dataset("ts", data=padded(ts))
            group.create_dataset("durations", data=padded(durations) / 1000)  # in seconds
    return path


@pytest.mark.parametrize("kind", ["Fixations", "FixationTrains", "ScanpathFixations"])
def test_the_documented_layouts_are_read(tmp_path, kind):
    for name, size in SIZES.items():
        write_photo(tmp_path / "pictures" / name, size)
    write_stimuli(tmp_path)
    write_fixations(tmp_path / "fixations.hdf5", kind)
    if kind != "Fixations":
        (tmp_path / "gaze.json").write_text('{"groups": "task"}')
    data = load_gaze(tmp_path)
    found = data.fixations
    assert [data.name(i) for i in range(2)] == list(SIZES)
    assert data.observers == ("3", "7")
    assert found.stimulus.tolist() == [row[0] for row in FLAT]
    np.testing.assert_allclose(found.x + 0.5, [row[2] for row in FLAT])
    np.testing.assert_allclose(found.y + 0.5, [row[3] for row in FLAT])
    fixated = gaze_source("read", tmp_path)(phase="test").read_fixation_map(0)
    assert np.argwhere(fixated).tolist() == [[5, 10], [30, 50], [59, 79]]
    if kind == "Fixations":
        assert np.isnan(found.duration_ms).all()
    else:
        assert found.duration_ms.tolist() == [row[4] for row in FLAT]
        assert found.choose(groups={"task": "search"}).x.tolist() == [20, 21]


def test_what_is_written_is_read_again(tmp_path):
    write_gaze(tmp_path / "mine", SIZES)
    data = load_gaze(tmp_path / "mine")
    write_pysaliency(data, tmp_path / "out")
    (tmp_path / "out" / "gaze.json").write_text('{"stimuli": "../mine/stimuli"}')
    again = load_gaze(tmp_path / "out")
    assert again.stimuli[0].resolve() == data.stimuli[0]
    for name in ("stimulus", "observer", "number", "start_ms", "duration_ms"):
        np.testing.assert_array_equal(getattr(again.fixations, name), getattr(data.fixations, name))
    np.testing.assert_allclose(again.fixations.x, data.fixations.x)
    write_pysaliency(data, tmp_path / "one", stimuli=[1])
    with h5py.File(tmp_path / "one" / "fixations.hdf5") as file:
        assert set(file["train_ns"][...]) == {0}
        assert int(np.isfinite(file["train_xs"][...]).sum()) == len(data.of(1))


def test_pictures_inside_a_file_are_unpacked(tmp_path):
    write_stimuli(tmp_path, "Stimuli")
    write_fixations(tmp_path / "fixations.hdf5", "FixationTrains")
    with pytest.raises(UserError, match="unpack_stimuli"):
        load_gaze(tmp_path)
    unpack_stimuli(tmp_path / "stimuli.hdf5", tmp_path / "new")
    (tmp_path / "fixations.hdf5").rename(tmp_path / "new" / "fixations.hdf5")
    data = load_gaze(tmp_path / "new")
    assert data.sizes == tuple(SIZES.values())
    assert len(data.fixations) == len(FLAT)


def test_damaged_and_missing_files_are_named(tmp_path):
    write_stimuli(tmp_path)
    for name, size in SIZES.items():
        write_photo(tmp_path / "pictures" / name, size)
    fixations = write_fixations(tmp_path / "fixations.hdf5", "FixationTrains")
    with h5py.File(fixations, "a") as file:
        del file["train_ys"]
    with pytest.raises(UserError, match=r"fixations\.hdf5 cannot be read as pysaliency's"):
        load_gaze(tmp_path)
    write_fixations(fixations, "Fixations")
    (tmp_path / "stimuli.hdf5").rename(tmp_path / "pictures" / "s.hdf5")
    with pytest.raises(UserError, match=r"needs the file of its stimuli.*stimuli\.hdf5"):
        load_gaze(tmp_path)
    assert not pysaliency.is_fixations(tmp_path / "nowhere.hdf5")


def test_films_cannot_be_written(tmp_path):
    write_film(tmp_path / "videos" / "one.mp4", 5)
    write_table(tmp_path / "gaze.csv", ("video", "frame", "x", "y"), [("one", 1, 5, 5)])
    with pytest.raises(UserError, match="pictures only"):
        write_pysaliency(load_gaze(tmp_path), tmp_path / "out")


@pytest.mark.slow  # pysaliency takes seconds to import
def test_pysaliency_reads_what_is_written_and_the_other_way_round(tmp_path, monkeypatch):
    monkeypatch.setattr(np, "string_", np.bytes_, raising=False)  # it was made for NumPy 1
    package = pytest.importorskip("pysaliency")
    write_gaze(tmp_path / "mine", SIZES)
    data = load_gaze(tmp_path / "mine")
    files = write_pysaliency(data, tmp_path / "out")
    stimuli, fixations = (package.datasets.read_hdf5(str(file)) for file in files)
    dataset = gaze_source("mine", tmp_path / "mine")(phase="test")
    assert [tuple(size) for size in stimuli.sizes] == list(SIZES.values())
    for index in range(2):
        fixated = np.zeros(stimuli.sizes[index], bool)
        of_it = fixations.n == index
        fixated[fixations.y_int[of_it], fixations.x_int[of_it]] = True
        np.testing.assert_array_equal(fixated, dataset.read_fixation_map(index))
    uniform = package.UniformModel().log_likelihoods(stimuli, fixations)
    np.testing.assert_allclose(uniform, -np.log(60 * 80))
    (tmp_path / "back").mkdir()
    stimuli.to_hdf5(str(tmp_path / "back" / "stimuli.hdf5"))
    fixations.to_hdf5(str(tmp_path / "back" / "fixations.hdf5"))
    (tmp_path / "back" / "gaze.json").write_text('{"stimuli": "../mine/stimuli"}')
    again = load_gaze(tmp_path / "back")
    np.testing.assert_allclose(again.fixations.x, data.fixations.x)
    assert again.fixations.duration_ms.tolist() == data.fixations.duration_ms.tolist()
