"""The pictures far from photographs: they can be drawn again, and the guide shows today's maps."""

from __future__ import annotations

import re
import subprocess
import sys
import zipfile

import numpy as np
import pytest
import scipy.stats
from PIL import Image
from support import PROJECT, write_photo

import unisal
from benchmarks.far_pictures import __main__ as far
from benchmarks.far_pictures.found import FOUND, WHEEL, read_found
from benchmarks.far_pictures.picture import FarPicture
from unisal.config import load_json
from unisal.errors import UserError

SENTENCES = load_json(far.SENTENCES)
GUIDE = far.PAGE.read_text()
AGAIN = f"the weights have changed: run `{far.COMMAND} OUT WHEEL --docs` as its help says"


def table(name):
    """Return a table of the guide."""
    return re.search(rf"<!-- {name} -->\n(.*?)\n<!-- end -->", GUIDE, re.DOTALL)[1]


def test_the_guide_is_about_the_weights_that_ship():
    assert SENTENCES["seen_with"] == far.weights_digest(), AGAIN
    with Image.open(far.SHEET) as sheet:
        assert sheet.info["comment"].decode() == far.weights_digest(), AGAIN
    assert far.SHEET.stat().st_size < 600e3


def test_the_guide_says_something_of_every_picture():
    assert list(SENTENCES["pictures"]) == [*far.DRAWN, *FOUND]
    assert len(SENTENCES["pictures"]) == 24 and all(SENTENCES["pictures"].values())
    assert table("sentences") == far.sentence_table(SENTENCES["pictures"])
    for found in FOUND.values():
        assert found.file in GUIDE


@pytest.mark.slow
def test_the_numbers_of_the_guide_are_those_of_the_weights():
    predictor = unisal.load(device="cpu")
    drawn = [(name, draw()) for name, draw in far.DRAWN.items()]
    seen = far.predict(predictor, (pair for pair in drawn if pair[1].target))
    number = r"\| (-?\d+\.\d\d)"
    said, found = (
        np.array(re.findall(rf"{number} {number} ", text), dtype=float)
        for text in (table("targets"), far.target_table(list(seen)))
    )
    np.testing.assert_allclose(said, found, atol=0.03, err_msg=AGAIN)
    assert len(said) == 6


@pytest.mark.slow
@pytest.mark.parametrize("name", far.DRAWN)
def test_a_picture_is_drawn_alike_each_time(name):
    one, other = far.DRAWN[name](), far.DRAWN[name]()
    assert one.rgb.dtype == np.uint8 and one.rgb.shape[2] == 3 and one.rgb.std() > 5
    np.testing.assert_array_equal(one.rgb, other.rgb)
    assert (one.target, list(one.others)) == (other.target, list(other.others))
    height, width = one.rgb.shape[:2]
    for left, top, right, bottom in filter(None, [one.target, *one.others]):
        assert 0 < left + 12 < right <= width + 12 and 0 < top + 12 < bottom <= height + 12


def test_a_target_is_ranked_among_the_others():
    density = np.random.default_rng(0).random((20, 30)).astype(np.float32)
    density[2:6, 4:8] += 2
    boxes = [(4.0, 2.0, 8.0, 6.0), (20.0, 10.0, 25.0, 15.0), (4.0, 3.0, 9.0, 6.0)]
    z = scipy.stats.zscore(density.astype(float), axis=None, ddof=1)
    nss = [z[top:bottom, left:right].mean() for left, top, right, bottom in np.int_(boxes)]
    for target in range(3):
        others = [box for number, box in enumerate(boxes) if number != target]
        picture = FarPicture(np.zeros((20, 30, 3), np.uint8), boxes[target], others)
        found = far.find_target(far.Seen("a", picture, density))
        assert found.target == pytest.approx(nss[target], abs=1e-5)
        assert found.others == pytest.approx((sum(nss) - nss[target]) / 2, abs=1e-5)
        assert (found.rank, found.n) == (sorted(nss, reverse=True).index(nss[target]) + 1, 3)
    assert far.find_target(far.Seen("a", picture._replace(target=None), density)) is None


@pytest.fixture
def wheel(tmp_path):
    """A wheel with pictures of the names that are read."""
    path = tmp_path / f"{WHEEL}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for seed, found in enumerate(FOUND.values()):
            write_photo(tmp_path / found.file, (60, 80), seed)
            archive.write(tmp_path / found.file, found.file)
    return path


def test_pictures_are_read_from_the_wheel(wheel, tmp_path):
    found = dict(read_found([str(wheel)]))
    assert list(found) == list(FOUND)
    assert all(picture.rgb.shape == (60, 80, 3) for picture in found.values())
    assert list(read_found([])) == []
    with pytest.raises(UserError, match="is no wheel"):
        list(read_found([str(tmp_path / "other.whl")]))
    with pytest.raises(UserError, match="needs the wheel"):
        far.main([str(tmp_path / "out"), "--docs"])


@pytest.mark.slow
def test_it_runs_as_a_program(wheel, tmp_path):
    command = [sys.executable, "-m", "benchmarks.far_pictures", str(tmp_path / "out"), str(wheel)]
    done = subprocess.run(
        [*command, "--only=odd_orientation,cell"],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert re.search(r"^\| odd orientation \| \d+\.\d\d \| ", done.stdout, re.MULTILINE)
    page = (tmp_path / "out" / "index.html").read_text()
    shown = re.findall(r'src="(.*?)"', page)
    assert len(shown) == 4 and all((tmp_path / "out" / name).is_file() for name in shown)
    assert SENTENCES["pictures"]["cell"] in page
    with Image.open(tmp_path / "out" / "sheet.jpg") as sheet:
        assert sheet.width > 480


@pytest.mark.slow
def test_the_guide_can_be_brought_up_to_date(wheel, tmp_path, monkeypatch):
    page, sheet = tmp_path / "page.md", tmp_path / "sheet.jpg"
    page.write_text(
        "one\n<!-- targets -->\nold\n<!-- end -->\ntwo\n<!-- sentences -->\n<!-- end -->\n"
    )
    monkeypatch.setattr(far, "PAGE", page)
    monkeypatch.setattr(far, "SHEET", sheet)
    far.main([str(tmp_path / "out"), str(wheel), "--docs", "--only=odd_orientation,cell"])
    text = page.read_text()
    assert text.startswith("one\n<!-- targets -->\n| picture | NSS") and "old" not in text
    assert far.sentence_table(SENTENCES["pictures"]) in text
    assert sheet.read_bytes() == (tmp_path / "out" / "sheet.jpg").read_bytes()
