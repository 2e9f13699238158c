"""Whether there is a GPU is found out without PyTorch, which is asked only where there is one."""

from __future__ import annotations

import ctypes

import pytest

from unisal import device


class Library:
    """Stands for NVIDIA's management library."""

    def __init__(self, n=0, start=0, count=0):
        self.n, self.start, self.count, self.calls = n, start, count, []

    def nvmlInit_v2(self):
        self.calls.append("start")
        return self.start

    def nvmlShutdown(self):
        self.calls.append("stop")
        return 0

    def nvmlDeviceGetCount_v2(self, place):
        place._obj.value = self.n
        return self.count


@pytest.fixture
def machine(monkeypatch, tmp_path):
    """-> a function that puts libraries where the loader finds them."""
    monkeypatch.setattr(device.sys, "platform", "linux")
    monkeypatch.setattr(device, "AMD_DEVICE", tmp_path / "kfd")
    monkeypatch.delenv(device.VISIBLE, raising=False)

    def install(libraries):
        def open_library(name):
            if name not in libraries:
                raise OSError(f"{name}: cannot open shared object file")
            return libraries[name]

        monkeypatch.setattr(ctypes, "CDLL", open_library)

    return install


DRIVER, MANAGEMENT = device.DRIVERS["linux"], device.MANAGEMENT["linux"]


@pytest.mark.parametrize(
    ("libraries", "expected"),
    [
        ({}, False),
        ({DRIVER: object()}, True),  # nobody knows, so PyTorch has to be asked
        ({DRIVER: object(), MANAGEMENT: Library(0)}, False),
        ({DRIVER: object(), MANAGEMENT: Library(2)}, True),
        ({DRIVER: object(), MANAGEMENT: Library(start=device.DRIVER_NOT_LOADED)}, False),
        ({DRIVER: object(), MANAGEMENT: Library(start=999)}, True),
        ({DRIVER: object(), MANAGEMENT: Library(count=999)}, True),
        ({DRIVER: object(), MANAGEMENT: object()}, True),  # without the functions
        ({MANAGEMENT: Library(2)}, False),
    ],
)
def test_a_gpu_is_looked_for_where_its_driver_sees_one(machine, libraries, expected):
    machine(libraries)
    assert device.may_have_gpu() == expected
    library = libraries.get(MANAGEMENT)
    if isinstance(library, Library):
        assert library.calls.count("stop") == (library.start == 0 and DRIVER in libraries)


@pytest.mark.parametrize(
    ("value", "expected"), [("", False), ("-1", False), ("0", True), ("GPU-8f", True)]
)
def test_gpus_that_are_hidden_are_not_there(machine, monkeypatch, value, expected):
    machine({DRIVER: object(), MANAGEMENT: Library(1)})
    monkeypatch.setenv(device.VISIBLE, value)
    assert device.may_have_gpu() == expected


def test_pytorch_is_asked_only_where_there_may_be_one(machine, monkeypatch):
    asked = []

    def pick(name):
        asked.append(name)
        raise ImportError

    monkeypatch.setattr(device, "pick_device", pick)
    machine({DRIVER: object(), MANAGEMENT: Library(0)})
    assert device.find_device("auto") == "cpu" and asked == []
    machine({DRIVER: object(), MANAGEMENT: Library(1)})
    assert device.find_device("auto") == "cpu" and asked == ["auto"]


def test_where_gpus_of_amd_are_pytorch_is_asked(machine, tmp_path):
    machine({})
    (tmp_path / "kfd").touch()
    assert device.may_have_gpu()
