"""Views that are averaged: against plain computations, with both runtimes, in every command."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from gaze_folders import write_gaze
from plain_network import PlainNetwork
from plain_video import plain_video
from support import call_command, lively_network, photo, write_network, write_photo

import unisal
from unisal.config import load_json
from unisal.data.pictures import read_grey
from unisal.errors import UserError
from unisal.inference.engine import Engine
from unisal.inference.views import read_tta, views_of

SIZE, TARGET = (96, 160), (40, 70)
SIZES = {1: SIZE, 0.75: (64, 128), 1.25: (128, 192)}
"""What the network sees at each scale: the nearest multiples of 32 of 72 x 120 and 120 x 200."""
TOLERANCE = 2e-5
RUNTIMES = ("torch", "onnx")


@pytest.fixture(scope="module")
def model():
    return lively_network(sources=("DHF1K", "SALICON"))


@pytest.fixture(scope="module")
def frames():
    """-> a video of coarse noise with a brighter place that moves."""
    generator = torch.Generator().manual_seed(1)
    noise = torch.randn(5, 3, *(side // 8 for side in SIZE), generator=generator)
    x = torch.linspace(0, 1, SIZE[1])
    centres = torch.rand(5, 1, 1, 1, generator=generator)
    smooth = F.interpolate(noise, SIZE, mode="bilinear")
    video = smooth * (0.3 + 2 * torch.exp(-(((x - centres) / 0.2) ** 2))) + centres - 0.5
    return list(video.numpy())


def overlaps(n, m):
    """-> `[m, n]`: the mean over n pixels that each of m pixels covers."""
    edges = torch.arange(m + 1, dtype=torch.float64) * n / m
    cells = torch.arange(n, dtype=torch.float64)
    low = torch.maximum(edges[:-1, None], cells)
    high = torch.minimum(edges[1:, None], cells + 1)
    return ((high - low).clamp(min=0) * m / n).float()


def resized(frame, size):
    """-> a frame at another size: means over areas if it is smaller, else bilinear."""
    if size[0] > frame.shape[1]:
        return F.interpolate(frame[None], size, mode="bilinear")[0]
    rows, columns = (overlaps(n, m) for n, m in zip(frame.shape[1:], size, strict=True))
    return rows @ frame @ columns.T


def plain_prediction(model, frames, domain, step, static, scales, mirror):
    """-> the log-densities of a video: the mean over views of its frames, each from the start."""
    network = PlainNetwork(model.state_dict(), model.config)

    def call(x, return_hidden, **options):
        assert return_hidden
        return network(x, **options)

    densities, frames = [], [torch.from_numpy(x) for x in frames]
    for scale in scales:
        seen = frames if scale == 1 else [resized(x, SIZES[scale]) for x in frames]
        for mirrored in (False, True) if mirror else (False,):
            film = [x.flip(-1) for x in seen] if mirrored else seen
            maps = plain_video(call, film, SIZE, domain, step, static)
            densities.append((maps.flip(-1) if mirrored else maps).exp())
    mean = torch.stack(densities).mean(0).log()
    y = F.interpolate(mean[:, None], TARGET, mode="bilinear")[:, 0]
    return (y - y.logsumexp((1, 2), keepdim=True)).numpy()


@pytest.mark.parametrize("runtime", RUNTIMES)
@pytest.mark.parametrize("tta", ["mirror", "scales", "mirror,scales"])
def test_pictures_are_the_mean_over_their_views(model, frames, runtime, tta):
    scales = SIZES if "scales" in tta else (1,)
    want = plain_prediction(model, frames[:2], "SALICON", 1, True, scales, "mirror" in tta)
    engine = Engine(model, "cpu", runtime=runtime, tta=tta)
    found = engine.images(np.stack(frames[:2]), TARGET, "SALICON")
    np.testing.assert_allclose(found, want, atol=TOLERANCE)
    plain = Engine(model, "cpu", runtime=runtime).images(np.stack(frames[:2]), TARGET, "SALICON")
    assert np.abs(plain - want).max() > 100 * TOLERANCE


@pytest.mark.parametrize(("runtime", "tta"), [("torch", "mirror"), ("onnx", "mirror,scales")])
def test_each_view_of_a_video_has_states_of_its_own(model, frames, runtime, tta):
    scales = SIZES if "scales" in tta else (1,)
    want = plain_prediction(model, frames, "DHF1K", 2, False, scales, mirror=True)
    engine = Engine(model, "cpu", runtime=runtime, tta=tta)
    keyed = list(engine.video(enumerate(frames), TARGET, "DHF1K", 2))
    found = np.stack([y for _, y in keyed])
    np.testing.assert_allclose(found, want, atol=TOLERANCE)
    assert [key for key, _ in keyed] == list(range(len(frames)))
    states = [[None], [None]]
    steps = [engine.step(x, states[i % 2], TARGET, "DHF1K") for i, x in enumerate(frames)]
    np.testing.assert_allclose(np.stack(steps), want, atol=TOLERANCE)


def test_with_mirror_a_mirrored_frame_has_the_mirrored_prediction(model, frames):
    engine = Engine(model, "cpu", tta=("mirror",))
    y, mirrored = engine.images(np.stack([frames[0], frames[0][..., ::-1]]), SIZE, "SALICON")
    np.testing.assert_allclose(mirrored[..., ::-1], y, atol=TOLERANCE)


def test_without_a_name_nothing_is_averaged(model, frames):
    ordinary, none = Engine(model, "cpu"), Engine(model, "cpu", tta="")
    shown = np.stack(frames[:1])
    assert np.array_equal(*(e.images(shown, SIZE, "SALICON") for e in (ordinary, none)))
    assert views_of(None)[0].of(frames[0]) is frames[0]


@pytest.mark.parametrize("given", ["scales,mirror", "mirror, scales,mirror", ["scales", "mirror"]])
def test_names_may_come_in_any_order(given):
    assert read_tta(given) == ("mirror", "scales")
    assert len(views_of(given)) == 6


def test_an_unknown_name_is_refused():
    with pytest.raises(UserError, match="tta names flip, turn; known are mirror, scales"):
        read_tta("turn,mirror,flip")


# ---- the commands -------------------------------------------------------------------------


@pytest.fixture
def home(tmp_path, monkeypatch, model):
    monkeypatch.setenv("TRAIN_DIR", str(tmp_path / "runs"))
    monkeypatch.setenv("PRED_DIR", str(tmp_path / "predictions"))
    write_network(tmp_path / "runs" / "mine", model)
    return tmp_path


def test_a_folder_is_predicted_as_python_does_and_again_if_tta_changes(home, capsys):
    write_photo(home / "pictures" / "a.png", (60, 80), seed=2)
    command = "predictions_from_folder", str(home / "pictures"), "--train_id=mine", "--device=cpu"
    for tta in ("mirror", "mirror,scales"):
        capsys.readouterr()
        assert call_command(*command, f"--tta={tta}", "--verbose") == 0
        assert f"on cpu, tta {tta}" in capsys.readouterr().out
        predictor = unisal.load("mine", device="cpu", tta=tta)
        assert predictor.facts().tta == tuple(tta.split(","))
        density = predictor.image(home / "pictures" / "a.png")
        grey = read_grey(home / "pictures" / "saliency" / "a.png") * 255
        np.testing.assert_allclose(grey, density / density.max() * 255, atol=1.01)
        assert call_command(*command, f"--tta={tta}") == 0
        assert "1 finished before" in capsys.readouterr().out
    assert call_command(*command, "--tta=flip") == 2


@pytest.mark.usefixtures("home")
def test_a_stream_and_a_video_average_alike():
    predictor = unisal.load("mine", device="cpu", tta="mirror")
    shown = [photo((60, 80), i) for i in range(3)]
    stream = predictor.stream(frame_step=1)
    for one, y in zip(shown, predictor.video(shown, frame_step=1), strict=True):
        np.testing.assert_allclose(stream.step(one), y, rtol=1e-4)
    assert set(predictor.features(shown[0])) >= {"before_gru"}
    words = "predict_video", "no.mp4", "--tta=mirror", "--features=before_gru"
    assert call_command(*words) == 2


def test_scores_and_maps_of_data_sets_say_so(home, capsys):
    write_gaze(home / "crowd", {f"{i}.jpg": (48, 64) for i in range(6)})
    data = f"--data={home / 'crowd'}", "--device=cpu"
    kinds = [[], ["--tta=mirror"]]
    for tta in kinds:
        words = "score_model", "mine", "--metrics=kld", "--by=none", *data, *tta
        assert call_command(*words) == 0
    run = home / "runs" / "mine"
    plain, averaged = (
        load_json(run / f"crowd{name}_eval_summary.json") for name in ("", "_tta_mirror")
    )
    assert ("tta" in plain, averaged["tta"]) == (False, ["mirror"])
    assert plain["mean"]["kld"] != averaged["mean"]["kld"]
    command = "generate_predictions", "mine", *data, "--phase=eval"
    codes = [call_command(*command, *tta) for tta in (*kinds, ["--tta=mirror", "--overwrite"])]
    assert codes == [0, 2, 0]
    assert "tta was None, now ['mirror']" in capsys.readouterr().err
