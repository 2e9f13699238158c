"""torch.hub gives the network and its predictor."""

from __future__ import annotations

import importlib.util
import inspect

import numpy as np
import pytest
import torch
from support import PROJECT, photo, run_python

CODE = """
import sys, torch
network = torch.hub.load({folder!r}, "unisal", source="local")
x = torch.zeros(1, 1, 3, 64, 96)
print(type(network).__name__, network.training, network(x, source="SALICON").shape)
predictor = torch.hub.load({folder!r}, "predictor", source="local", device="cpu")
print(type(predictor).__name__, predictor.engine.model.sources)
"""


@pytest.mark.slow
def test_the_hub_gives_the_network_and_the_predictor(tmp_path):
    done = run_python("-c", CODE.format(folder=str(PROJECT)), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "UNISAL False torch.Size([1, 1, 1, 64, 96])",
        "Predictor ('DHF1K', 'Hollywood', 'UCFSports', 'SALICON', 'Photographs')",
    ]


@pytest.mark.slow
def test_the_network_and_the_predictor_are_those_of_the_package():
    network = torch.hub.load(str(PROJECT), "unisal", source="local")
    predictor = torch.hub.load(
        str(PROJECT), "predictor", source="local", device="cpu", runtime="torch"
    )
    assert not network.training
    ours, theirs = network.state_dict(), predictor.engine.model.state_dict()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[key], theirs[key]) for key in ours)
    density = predictor.image(photo((40, 60)))
    assert density.shape == (40, 60) and abs(float(density.sum(dtype=np.float64)) - 1) < 1e-3


def test_there_are_two_entries_with_a_description():
    spec = importlib.util.spec_from_file_location("hubconf", PROJECT / "hubconf.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    entries = [name for name, value in vars(module).items() if inspect.isfunction(value)]
    assert entries == ["unisal", "predictor"]
    for name in entries:
        assert inspect.getdoc(getattr(module, name)).startswith("Load the network")
    assert [n for n in module.dependencies if importlib.util.find_spec(n) is None] == []
