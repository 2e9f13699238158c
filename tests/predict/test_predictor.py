"""Saliency of a picture in memory: against a plain computation, for every kind of picture."""

from __future__ import annotations

import io
import logging
import subprocess
import zipfile

import numpy as np
import pytest
import torch
from PIL import Image
from support import photo, write_run
from torchvision.transforms import functional as tv

import unisal
from unisal.errors import UserError
from unisal.inference.densities import to_density
from unisal.predict.inputs import as_rgb

TOLERANCE = 1e-4
"""Of ONNX Runtime, which adds up in another order than PyTorch."""
SIZES = [(60, 80), (90, 40), (224, 416), (1, 1), (2, 300), (300, 2)]


def lively_run(folder, seed=0, **model_cfg):
    """A run whose maps differ from picture to picture; -> its network.

    With random weights alone the signal fades from layer to layer; BatchNorms that have seen data
    keep it up.
    """
    model = write_run(folder, seed, **model_cfg)
    for layer in model.modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            layer.momentum = None
            layer.train()
    with torch.no_grad():
        for source in model.sources:
            model(torch.randn(2, 1, 3, 96, 128), source=source)
    torch.save(model.eval().state_dict(), folder / "weights_best.pth")
    return model


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """-> the folder of two runs, and their networks."""
    folder = tmp_path_factory.mktemp("runs")
    models = {
        "all": lively_run(folder / "all"),
        "video": lively_run(folder / "video", sources=("UCFSports", "DHF1K")),
    }
    return folder, models


@pytest.fixture
def predictor(runs, monkeypatch):
    monkeypatch.setenv("TRAIN_DIR", str(runs[0]))
    return unisal.load("all", device="cpu")


def plain_input_size(height, width):
    """Spec 02: the ratio closest to the picture's among 7..13 x 7..13 with area 100..120."""
    best = None
    for n1 in range(7, 14):
        for n2 in range(7, 14):
            if 100 <= n1 * n2 <= 120:
                closeness = (n1 / n2) / (height / width)
                closeness = min(closeness, 1 / closeness)
                if best is None or closeness > best[0]:
                    best = closeness, n1 * 32, n2 * 32
    return best[1:]


def plain_log_density(model, rgb, source="SALICON"):
    height, width = rgb.shape[:2]
    h, w = plain_input_size(height, width)
    resized = Image.fromarray(rgb).resize((w, h), Image.Resampling.LANCZOS)
    x = tv.normalize(tv.to_tensor(resized), (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    # The order in memory decides in which order a convolution adds up; kept alike, so that
    # rounding does not hide a small error.
    model = model.to(memory_format=torch.channels_last)
    with torch.no_grad():
        y = model(x[None, None], target_size=(height, width), source=source, static=True)
    return y[0, 0, 0].numpy()


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_an_image_equals_a_plain_computation(predictor, runs, size):
    rgb = photo(size)
    expected = np.exp(plain_log_density(runs[1]["all"], rgb).astype(np.float64))
    expected /= expected.sum()
    density = predictor.image(rgb)
    assert density.shape == size
    assert density.dtype == np.float32
    assert density.sum(dtype=np.float64) == pytest.approx(1, abs=1e-6)
    assert np.abs(density - expected).max() <= TOLERANCE * expected.max()


def test_the_map_depends_on_the_picture(predictor):
    # Otherwise most of what these tests compare would be equal for the wrong reason.
    one, other = (predictor.image(photo((60, 80), seed)) for seed in (0, 5))
    assert np.abs(one - other).max() > 0.1 * one.max()


def test_the_log_density_is_the_networks_own(predictor, runs):
    rgb = photo((60, 80))
    log_density = predictor.image(rgb, log=True)
    assert log_density.dtype == np.float32
    np.testing.assert_allclose(log_density, plain_log_density(runs[1]["all"], rgb), atol=TOLERANCE)
    np.testing.assert_allclose(np.exp(log_density), predictor.image(rgb), rtol=1e-5)


def test_probabilities_sum_to_one_even_where_the_logarithms_do_not():
    log_density = np.full((30, 40), -3.0, np.float32)
    density = to_density(log_density)
    assert density == pytest.approx(np.full((30, 40), 1 / 1200))
    assert (log_density == -3).all()


@pytest.mark.parametrize("domain", ["SALICON", "DHF1K"])
def test_the_domain_picks_the_modules(predictor, runs, domain):
    rgb = photo((60, 80))
    expected = np.exp(plain_log_density(runs[1]["all"], rgb, domain))
    np.testing.assert_allclose(predictor.image(rgb, domain=domain), expected, rtol=1e-4)


def test_array_image_and_path_give_the_same(predictor, tmp_path):
    rgb = photo((60, 80))
    path = tmp_path / "photo.png"
    Image.fromarray(rgb).save(path)
    expected = predictor.image(rgb)
    for picture in (Image.fromarray(rgb), path, str(path), np.asfortranarray(rgb)):
        np.testing.assert_array_equal(predictor.image(picture), expected)


def test_a_picture_is_left_alone_and_predicted_the_same_again(predictor):
    rgb = photo((224, 416))  # a size that needs no resize
    rgb.flags.writeable = False
    first = predictor.image(rgb)
    predictor.image(photo((90, 40), seed=3))
    np.testing.assert_array_equal(predictor.image(rgb), first)
    np.testing.assert_array_equal(rgb, photo((224, 416)))


def as_sixteen_bit(rgb):
    grey = rgb[:, :, 0].astype(np.uint16) * 257
    return Image.fromarray(grey), np.repeat(rgb[:, :, :1], 3, axis=2)


def as_transparent(rgb):
    """Half of it fully transparent, which is white on white paper."""
    alpha = np.full(rgb.shape[:2], 255, np.uint8)
    alpha[:, :40] = 0
    shown = rgb.copy()
    shown[:, :40] = 255
    return Image.fromarray(np.dstack([rgb, alpha])), shown


def as_grey(rgb):
    return Image.fromarray(rgb[:, :, 0]), np.repeat(rgb[:, :, :1], 3, axis=2)


def as_cmyk(rgb):
    cmyk = Image.fromarray(rgb).convert("CMYK")
    return cmyk, np.asarray(cmyk.convert("RGB"))


def as_palette(rgb):
    palette = Image.fromarray(rgb).quantize(32)
    return palette, np.asarray(palette.convert("RGB"))


KINDS = {
    "grey": (as_grey, "png"),
    "16-bit grey": (as_sixteen_bit, "png"),
    "RGBA": (as_transparent, "png"),
    "palette": (as_palette, "png"),
    "CMYK": (as_cmyk, "tif"),
}


@pytest.mark.parametrize("in_file", [True, False], ids=["file", "memory"])
@pytest.mark.parametrize("kind", KINDS)
def test_other_kinds_of_pictures_are_converted(predictor, tmp_path, kind, in_file):
    convert, suffix = KINDS[kind]
    picture, meant = convert(photo((60, 80)))
    if in_file:
        picture.save(tmp_path / f"a.{suffix}")
        picture = tmp_path / f"a.{suffix}"
    np.testing.assert_array_equal(predictor.image(picture), predictor.image(meant))


@pytest.mark.parametrize("mode", ["F", "LAB", "HSV"])
def test_kinds_without_one_right_conversion_are_refused_by_name(predictor, mode):
    picture = Image.new(mode, (8, 8))
    with pytest.raises(UserError, match=f"'{mode}'"):
        predictor.image(picture)


# EXIF orientation -> what turns the stored pixels into the picture that is meant.
TURNS = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.transpose(1, 0, 2),
    6: lambda a: a.transpose(1, 0, 2)[:, ::-1],
    7: lambda a: a.transpose(1, 0, 2)[::-1, ::-1],
    8: lambda a: a.transpose(1, 0, 2)[::-1],
}


@pytest.mark.parametrize("orientation", TURNS)
def test_exif_orientation_is_applied(predictor, tmp_path, orientation):
    stored = photo((40, 90))
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(stored).save(tmp_path / "a.png", exif=exif)
    meant = np.ascontiguousarray(TURNS[orientation](stored))
    np.testing.assert_array_equal(predictor.image(tmp_path / "a.png"), predictor.image(meant))


@pytest.mark.parametrize(
    ("shape", "dtype"),
    [
        ((60, 80, 2), "uint8"),
        ((60, 80, 5), "uint8"),
        ((3, 60, 80), "uint8"),
        ((1, 60, 80, 3), "uint8"),
        ((80,), "float32"),
        ((60, 80, 3), "int64"),
        ((60, 80, 3), "bool"),
        ((60, 80, 3), "uint16"),
        ((0, 80, 3), "uint8"),
        ((), "uint8"),
    ],
)
def test_other_arrays_are_refused_with_their_shape_and_dtype(predictor, shape, dtype):
    with pytest.raises(UserError) as refused:
        predictor.image(np.zeros(shape, dtype))
    assert str(list(shape)) in str(refused.value)
    assert dtype in str(refused.value)
    assert "[height, width, 3] uint8" in str(refused.value)


def with_alpha(rgb, channels=3):
    alpha = np.linspace(0, 255, rgb[..., 0].size).reshape(rgb.shape[:2]).astype(np.uint8)
    return np.dstack([rgb[..., :channels], alpha])


ARRAYS = {
    "HxW": lambda rgb: rgb[..., 1],
    "HxWx1": lambda rgb: rgb[..., 1:2],
    "HxWx3": lambda rgb: rgb,
    "HxWx4": with_alpha,
    "another order": lambda rgb: np.asfortranarray(with_alpha(rgb)),
    "every second pixel": lambda rgb: with_alpha(rgb)[::-2, ::2],
}


def as_file(array, path):
    Image.fromarray(np.ascontiguousarray(array.squeeze())).save(path)
    return path


@pytest.mark.parametrize("kind", ARRAYS)
def test_arrays_and_tensors_are_what_a_file_of_them_is(kind, tmp_path):
    array = ARRAYS[kind](photo((60, 80)))
    array.flags.writeable = False
    expected = as_rgb(as_file(array, tmp_path / "a.png"))
    channels_first = array if array.ndim == 2 else array.transpose(2, 0, 1)
    tensor = torch.from_numpy(channels_first.copy())
    forms = [array, tensor]
    for dtype in (np.float16, np.float32, np.float64):
        forms.append((array / 255).astype(dtype))
        forms.append(torch.from_numpy((channels_first / 255).astype(dtype)).requires_grad_())
    if kind == "HxWx3":
        forms.append(tensor.float().div(255).to(memory_format=torch.contiguous_format))
        forms.append(tensor.permute(1, 2, 0))  # channels last, where that cannot be mistaken
    for form in forms:
        rgb = as_rgb(form)
        assert (rgb.dtype, rgb.shape) == (np.uint8, expected.shape)
        np.testing.assert_array_equal(rgb, expected)


def test_a_bfloat16_tensor_is_a_picture():
    levels = torch.from_numpy(photo((60, 80)).transpose(2, 0, 1).copy())
    found = as_rgb((levels / 255).bfloat16())
    assert np.abs(found.astype(int) - photo((60, 80))).max() <= 1


def test_floats_are_rounded_to_the_nearest_level():
    floats = np.array([[0, 0.0019, 0.002, 0.5, 0.999, 1, 1 + 1e-6, -1e-6]], np.float32)
    assert as_rgb(floats)[0, :, 0].tolist() == [0, 0, 1, 128, 255, 255, 255, 0]


@pytest.mark.parametrize(
    ("value", "words"),
    [(1.5, "0 to 1.5"), (-0.5, "-0.5 to 1"), (255, "uint8"), (np.nan, "NaN"), (np.inf, "inf")],
)
@pytest.mark.parametrize("form", [np.asarray, torch.from_numpy])
def test_floats_outside_0_to_1_are_refused(predictor, value, words, form):
    array = np.zeros((3, 60, 3))
    array[0, 0], array[1, 1, 1] = 1 if value < 0 else 0, value
    with pytest.raises(UserError, match=rf"float.*{words}.*from 0 to 1"):
        predictor.image(form(array))


def test_bytes_and_open_files_are_pictures(predictor, tmp_path):
    path = tmp_path / "photo.jpg"
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(photo((60, 80))).save(path, exif=exif)
    content = path.read_bytes()
    expected = predictor.image(path)
    assert expected.shape == (80, 60)
    for form in (content, bytearray(content), memoryview(content), io.BytesIO(content)):
        np.testing.assert_array_equal(predictor.image(form), expected)
    with path.open("rb") as file:
        np.testing.assert_array_equal(predictor.image(file), expected)
    with subprocess.Popen(["cat", str(path)], stdout=subprocess.PIPE) as process:  # cannot seek
        np.testing.assert_array_equal(predictor.image(process.stdout), expected)
    with path.open(encoding="latin-1") as file, pytest.raises(UserError, match=r"photo\.jpg.*'rb'"):
        predictor.image(file)
    (tmp_path / "bad.jpg").write_bytes(content[:300])
    for broken in (b"", b"no picture", content[:300]):
        with pytest.raises(UserError, match=r"^the picture .*(not a picture|damaged|read)"):
            predictor.image(broken)
    with (tmp_path / "bad.jpg").open("rb") as file, pytest.raises(UserError, match=r"bad\.jpg"):
        predictor.image(file)


@pytest.mark.parametrize("runtime", ["torch", "onnx"])
def test_many_pictures_come_back_in_order(runs, monkeypatch, runtime):
    monkeypatch.setenv("TRAIN_DIR", str(runs[0]))
    predictor = unisal.load("all", device="cpu", runtime=runtime)
    sizes = [(60, 80), (90, 40), (30, 30), (224, 416), (50, 60)] * 3
    pictures = [photo(size, seed) for seed, size in enumerate(sizes)]
    found = list(predictor.images(pictures))
    assert len(found) == len(pictures)
    for picture, density in zip(pictures, found, strict=True):
        np.testing.assert_allclose(density, predictor.image(picture), rtol=1e-3, atol=1e-9)
    logs = list(predictor.images(iter(pictures[:2]), log=True, domain="DHF1K"))
    expected = predictor.image(pictures[1], log=True, domain="DHF1K")
    np.testing.assert_allclose(logs[1], expected, atol=TOLERANCE)
    assert list(predictor.images([])) == []


def test_many_pictures_are_taken_only_a_little_ahead(predictor):
    taken = []

    def endless():
        while True:
            taken.append(len(taken))
            yield photo((30, 40))

    found = predictor.images(endless())
    assert not taken
    for n in range(1, 6):
        next(found)
        assert len(taken) <= n + predictor.engine.workers
    found.close()


def test_a_picture_among_many_that_cannot_be_read_is_named_in_its_turn(predictor, tmp_path):
    pictures = [photo(), photo(), tmp_path / "missing.png", photo()]
    found = predictor.images(pictures)
    assert [next(found).shape for _ in range(2)] == [(60, 80)] * 2
    with pytest.raises(UserError, match=r"^picture 3: .*missing\.png does not exist"):
        next(found)
    for single in (photo(), "a.png", b"...", Image.fromarray(photo()), io.BytesIO()):
        with pytest.raises(UserError, match=r"image\(\)"):
            predictor.images(single)


def test_bad_pictures_among_many_do_not_end_the_others(predictor, tmp_path):
    bad = {1: tmp_path / "missing.png", 2: b"no picture", 4: np.zeros((3, 3, 2), np.uint8), 5: None}
    pictures = [bad.get(n, photo((30, 40), n)) for n in range(7)]
    told = []
    found = predictor.images(pictures, on_error=lambda *args: told.append(args))
    for number, (picture, density) in enumerate(zip(pictures, found, strict=True)):
        if number in bad:
            assert density is None
        else:
            np.testing.assert_allclose(density, predictor.image(picture), rtol=1e-3, atol=1e-9)
    assert [number for number, _ in told] == list(bad)
    assert all(isinstance(error, UserError) and str(error) for _, error in told)
    assert "missing.png does not exist" in str(told[0][1])


def test_what_is_no_picture_at_all_is_refused_in_one_sentence(predictor, tmp_path):
    closed = (tmp_path / "a").open("wb")
    closed.close()
    ragged = [[1, 2], [3]]
    sparse, absent = torch.eye(8).to_sparse(), torch.rand(3, 8, 8, device="meta")
    for odd in (None, 3, {}, object(), closed, ragged, sparse, absent, "a\0b"):
        with pytest.raises(UserError) as refused:
            predictor.image(odd)
        assert "\n" not in str(refused.value)
    for several in (None, 3, object()):
        with pytest.raises(UserError, match="several pictures"):
            predictor.images(several)
        with pytest.raises(UserError, match="several pictures"):
            predictor.video(several)


def test_a_picture_in_an_archive(predictor, tmp_path):
    Image.fromarray(photo()).save(tmp_path / "a.png")
    with zipfile.ZipFile(tmp_path / "z.zip", "w") as archive:
        archive.write(tmp_path / "a.png", "folder/a.png")
    with zipfile.ZipFile(tmp_path / "z.zip") as archive:
        member = zipfile.Path(archive, "folder/a.png")
        expected = predictor.image(photo())
        np.testing.assert_array_equal(predictor.image(member), expected)
        with archive.open("folder/a.png") as file:
            np.testing.assert_array_equal(predictor.image(file), expected)


def test_a_bad_file_is_named(predictor, tmp_path):
    with pytest.raises(UserError, match=r"missing\.png does not exist"):
        predictor.image(tmp_path / "missing.png")
    (tmp_path / "bad.png").write_bytes(b"no picture")
    with pytest.raises(UserError, match=r"bad\.png"):
        predictor.image(str(tmp_path / "bad.png"))
    with pytest.raises(UserError, match="folder"):
        predictor.image(tmp_path)


def test_a_network_without_images_uses_its_first_domain_and_says_so(runs, monkeypatch, caplog):
    monkeypatch.setenv("TRAIN_DIR", str(runs[0]))
    rgb = photo((60, 80))
    with caplog.at_level(logging.WARNING):
        density = unisal.load("video", device="cpu").image(rgb)
    expected = np.exp(plain_log_density(runs[1]["video"], rgb, "UCFSports"))
    np.testing.assert_allclose(density, expected, rtol=1e-4)
    assert "SALICON" in caplog.text and "UCFSports" in caplog.text


def test_damaged_weights_are_not_passed_off_as_a_prediction(tmp_path, monkeypatch):
    monkeypatch.setenv("TRAIN_DIR", str(tmp_path))
    model = write_run(tmp_path / "broken")
    state = model.state_dict()
    state["adaptation_salicon.0.bias"][:] = float("nan")
    torch.save(state, tmp_path / "broken" / "weights_best.pth")
    with pytest.raises(UserError, match="not finite"):
        unisal.load("broken", device="cpu").image(photo())


def test_the_shipped_run_is_the_default(tmp_path, monkeypatch):
    monkeypatch.setenv("TRAIN_DIR", str(tmp_path))
    write_run(tmp_path / "pretrained_unisal")
    rgb = photo()
    expected = unisal.load("pretrained_unisal", device="cpu").image(rgb)
    for predictor in (unisal.load(device="cpu"), unisal.load(None, device="cpu")):
        np.testing.assert_array_equal(predictor.image(rgb), expected)


def test_loading_fetches_nothing_and_leaves_the_run_as_it_was(tmp_path, monkeypatch):
    # The encoder's ImageNet weights would be fetched if the run's own option were followed.
    monkeypatch.setenv("TRAIN_DIR", str(tmp_path))
    monkeypatch.setenv("UNISAL_ENCODER_WEIGHTS", str(tmp_path / "missing.pth"))
    write_run(tmp_path / "mine")
    config = tmp_path / "mine" / "UNISAL.json"
    config.write_text(config.read_text().replace('"pretrained": false', '"pretrained": true'))
    before = {p: p.read_bytes() for p in (tmp_path / "mine").iterdir()}
    unisal.load("mine", device="cpu")
    assert {p: p.read_bytes() for p in (tmp_path / "mine").iterdir()} == before


def test_fine_tuned_weights_are_used_only_when_asked_for(tmp_path, monkeypatch):
    monkeypatch.setenv("TRAIN_DIR", str(tmp_path))
    lively_run(tmp_path / "other", seed=1)
    lively_run(tmp_path / "mine", seed=0)
    rgb = photo()

    def map_of(train_id, **options):
        return unisal.load(train_id, device="cpu", **options).image(rgb)

    best, tuned = map_of("mine"), map_of("other")
    assert not np.allclose(best, tuned, rtol=1e-2)
    np.testing.assert_array_equal(map_of("mine", fine_tuned=True), best)  # it has none
    weights = (tmp_path / "other" / "weights_best.pth").read_bytes()
    for name in ("weights_ft_mit1003.pth", "ft_mit1003.pth"):
        (tmp_path / "mine" / name).write_bytes(weights)
        np.testing.assert_array_equal(map_of("mine", fine_tuned=True), tuned)
        np.testing.assert_array_equal(map_of("mine"), best)
        (tmp_path / "mine" / name).unlink()


@pytest.mark.parametrize("device", ["nonsense", "cuda:99"])
def test_an_unknown_device_is_named(runs, monkeypatch, device):
    monkeypatch.setenv("TRAIN_DIR", str(runs[0]))
    with pytest.raises(UserError, match=device):
        unisal.load("all", device=device)
