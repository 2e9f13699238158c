"""Features by name: against hooks on the network's modules, and aligned with the frames."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from support import lively_network, photo
from torchvision.transforms import functional as tv
from videos import decode, numbered, write_clip

from unisal.errors import UserError
from unisal.model import UNISAL
from unisal.model.unisal import Features
from unisal.predict import Predictor
from unisal.predict.presets import Preset

SIZE, INPUT_SIZE = (40, 70), (64, 96)
SHARES = {
    # name: the input's size over the feature's
    "encoder_8": 8,
    "encoder_16": 16,
    "encoder_32": 32,
    "before_gru": 32,
    "after_gru": 32,
    "before_upsampling": 8,
}
CHANNELS = {
    "encoder_8": 64,
    "encoder_16": 160,
    "encoder_32": 1280,
    "before_gru": 256,
    "after_gru": 256,
    "before_upsampling": 64,
}


@pytest.fixture(autouse=True)
def small_input(monkeypatch):
    monkeypatch.setattr(Preset, "input_size_for", lambda *_: INPUT_SIZE)


@pytest.fixture(scope="module")
def predictor():
    return Predictor(lively_network(), "cpu")


@pytest.fixture(scope="module")
def frames():
    return [photo(SIZE, seed) for seed in range(8)]


def write_png(path, rgb):
    path.parent.mkdir(exist_ok=True)
    Image.fromarray(rgb).save(path)


def as_input(rgb):
    resized = Image.fromarray(rgb).resize(INPUT_SIZE[::-1], Image.Resampling.LANCZOS)
    return tv.normalize(tv.to_tensor(resized), (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


def hooked(model, x, source, static, state=None):
    """-> what modules of the network put out in a call of `forward`, by our names; the state."""
    seen = {}
    modules = {
        "encoder_8": model.cnn.features[7],
        "encoder_16": model.cnn.features[14],
        "encoder_32": model.cnn.features[18],
        "before_gru": model.post_cnn,
        "remembered": model.post_rnn,
        "before_upsampling": model.post_upsampling_2,
    }

    def keep(name):
        return lambda _module, _args, out: seen.update({name: out[0].detach().clone().numpy()})

    handles = [module.register_forward_hook(keep(name)) for name, module in modules.items()]
    with torch.no_grad():
        _, state = model(x[None, None], h0=state, return_hidden=True, source=source, static=static)
    for handle in handles:
        handle.remove()
    remembered = seen.pop("remembered", 0)
    return {**seen, "after_gru": seen["before_gru"] + remembered}, state


def assert_same(ours, theirs):
    assert list(ours) == list(SHARES) and set(theirs) == set(ours)
    for name, values in ours.items():
        assert values.dtype == np.float32
        np.testing.assert_allclose(values, theirs[name], atol=1e-5, rtol=1e-4)


def test_features_of_a_picture_are_what_the_modules_put_out(predictor, frames):
    expected, _ = hooked(predictor.engine.model, as_input(frames[0]), "SALICON", static=True)
    features = predictor.features(frames[0])
    assert_same(features, expected)
    for name, share in SHARES.items():
        assert features[name].shape[1:] == (INPUT_SIZE[0] // share, INPUT_SIZE[1] // share)
    np.testing.assert_array_equal(features["before_gru"], features["after_gru"])


def test_features_differ_from_picture_to_picture(predictor, frames):
    one, other = predictor.features(frames[0]), predictor.features(frames[1])
    for name in SHARES:
        assert np.abs(one[name] - other[name]).max() > 1e-2


@pytest.mark.parametrize(("source", "step"), [("DHF1K", 5), ("UCFSports", 4)])
def test_features_of_a_video_are_aligned_with_its_frames(predictor, frames, source, step):
    found = list(predictor.features(frames, source))
    assert len(found) == len(frames)
    states = [None] * step
    for i, (rgb, features) in enumerate(zip(frames, found, strict=True)):
        expected, states[i % step] = hooked(
            predictor.engine.model, as_input(rgb), source, static=False, state=states[i % step]
        )
        assert_same(features, expected)
        assert np.abs(features["after_gru"] - features["before_gru"]).max() > 1e-2


def test_step_and_domain_can_be_chosen(predictor, frames):
    found = list(predictor.features(frames[:3], "DHF1K", domain="UCFSports", frame_step=1))
    state = None
    for rgb, features in zip(frames, found, strict=False):
        expected, state = hooked(
            predictor.engine.model, as_input(rgb), "UCFSports", static=False, state=state
        )
        assert_same(features, expected)


def test_frames_for_image_modules_leave_out_the_gru(predictor, frames):
    for features in predictor.features(frames[:2], "SALICON"):
        np.testing.assert_array_equal(features["before_gru"], features["after_gru"])


def test_pictures_may_be_given_in_many_ways(predictor, frames, tmp_path):
    path = tmp_path / "a.png"
    Image.fromarray(frames[0]).save(path)
    expected = predictor.features(frames[0])
    for picture in (Image.fromarray(frames[0]), path, str(path)):
        for name, values in predictor.features(picture).items():
            np.testing.assert_array_equal(values, expected[name])
    videos = (np.stack(frames[:3]), (f for f in frames[:3]), [path, *frames[1:3]])
    expected = list(predictor.features(frames[:3]))
    for video in videos:
        for ours, theirs in zip(predictor.features(video), expected, strict=True):
            for name in SHARES:
                np.testing.assert_array_equal(ours[name], theirs[name])


def test_a_video_may_be_a_file_or_a_folder(predictor, tmp_path):
    write_clip(tmp_path / "clip.mkv", numbered(4), codec="ffv1", fps=25)
    shown, _ = decode(tmp_path / "clip.mkv")
    (tmp_path / "no suffix").write_bytes((tmp_path / "clip.mkv").read_bytes())
    for number, rgb in enumerate(shown, 8):
        write_png(tmp_path / "frames" / f"{number}.png", rgb)
    every_4th = list(predictor.features(shown, frame_step=4))  # nearest to 5 of 30 a second
    for name in ("clip.mkv", "no suffix"):
        for path in (tmp_path / name, str(tmp_path / name)):
            for ours, theirs in zip(predictor.features(path), every_4th, strict=True):
                assert_same(ours, theirs)
    found = predictor.features(tmp_path / "frames", frame_step=4)
    for ours, theirs in zip(found, every_4th, strict=True):
        assert_same(ours, theirs)
    with pytest.raises(UserError, match=r"missing\.mp4 does not exist"):
        predictor.features("missing.mp4")
    (tmp_path / "text").write_text("neither")
    with pytest.raises(UserError, match="text is not a picture"):
        predictor.features(tmp_path / "text")


def test_frames_are_taken_one_by_one(predictor, frames):
    taken = []

    def watched():
        for rgb in frames:
            taken.append(1)
            yield rgb

    for i, _ in enumerate(predictor.features(watched()), 1):
        assert len(taken) == i


def test_the_map_is_made_from_the_last_of_them(predictor, frames):
    model = predictor.engine.model
    x = torch.stack([as_input(rgb) for rgb in frames[:4]])[None]
    with torch.no_grad():
        features, hidden = model.features(x, domain="DHF1K")
        logits = model.logits_from(features.before_upsampling, "DHF1K")
        expected, state = model(x, source="DHF1K", return_hidden=True)
    torch.testing.assert_close(model.log_density(logits), expected, rtol=0, atol=0)
    torch.testing.assert_close(hidden[0], state[0], rtol=0, atol=0)


def test_the_default_networks_channels_are_those_described():
    model = UNISAL(cnn_cfg={"pretrained": False}).eval()
    with torch.no_grad():
        features, _ = model.features(torch.zeros(1, 2, 3, *INPUT_SIZE))
    assert Features._fields == tuple(SHARES)
    for name, values in features._asdict().items():
        sides = (INPUT_SIZE[0] // SHARES[name], INPUT_SIZE[1] // SHARES[name])
        assert tuple(values.shape) == (1, 2, CHANNELS[name], *sides)


def test_without_a_residual_the_gru_replaces_its_input(frames):
    predictor = Predictor(lively_network(res_rnn=False), "cpu")
    model = predictor.engine.model
    (features,) = predictor.features(frames[:1], "DHF1K")
    seen = {}
    model.post_rnn.register_forward_hook(lambda *args: seen.update(y=args[2][0].clone().numpy()))
    with torch.no_grad():
        model(as_input(frames[0])[None, None], source="DHF1K", static=False)
    np.testing.assert_allclose(features["after_gru"], seen["y"], atol=1e-5)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"source": "NOPE"}, "'NOPE'"),
        ({"frame_step": 0}, "frame_step is 0"),
    ],
)
def test_a_wrong_option_is_told_when_called(predictor, frames, options, words):
    with pytest.raises(UserError, match=words):
        predictor.features(frames, **options)


def test_a_bad_picture_is_named(predictor, tmp_path):
    with pytest.raises(UserError, match=r"missing\.png"):
        predictor.features(tmp_path / "missing.png")
    with pytest.raises(UserError, match="frame 1"):
        list(predictor.features([np.zeros((4, 4, 2), np.uint8)]))
