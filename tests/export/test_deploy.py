"""The page of C++ is compiled as the guide says, and its map is this program's."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import openvino
import pytest
from PIL import Image
from support import PROJECT, photo

import unisal
from unisal.export.formats import export
from unisal.export.plan import Plan

COMPILER = shutil.which("g++")


@pytest.mark.slow
@pytest.mark.skipif(COMPILER is None or sys.platform != "linux", reason="no compiler here")
def test_the_page_of_cpp_gives_the_same_map(tmp_path):
    package = Path(openvino.__file__).parent
    libraries = package / "libs"
    (library,) = libraries.glob("libopenvino.so.*")
    program = tmp_path / "predict"
    options = [f"-I{package / 'include'}", library, f"-Wl,-rpath,{libraries}"]
    source = PROJECT / "examples" / "deploy" / "predict.cpp"
    command = [COMPILER, "-std=c++17", "-o", program, source, *options]
    subprocess.run([*command, "-Wl,--allow-shlib-undefined"], check=True)

    predictor = unisal.load(device="cpu")
    export(tmp_path / "saliency.onnx", predictor.graph(), Plan(), "onnx")
    picture = photo((90, 120), seed=2)
    Image.fromarray(picture).save(tmp_path / "picture.ppm")
    files = ["saliency.onnx", "picture.ppm", "map.pgm", "float32"]
    caught = {"cwd": tmp_path, "capture_output": True, "text": True}
    done = subprocess.run([program, *files], check=True, **caught)
    density = predictor.image(picture)
    y, x = np.unravel_index(density.argmax(), density.shape)
    assert done.stdout == f"highest at x {x}, y {y}\n"
    with Image.open(tmp_path / "map.pgm") as made:
        difference = np.asarray(made, dtype=float) - 255 * density / density.max()
    assert np.abs(difference).max() < 1

    done = subprocess.run([program, *files[1:], "a"], check=False, **caught)
    assert done.returncode == 1 and done.stderr and not (tmp_path / "a").exists()
