"""Prediction over a video: against one frame after the other in the plain network, for every way
to cut the video into calls of the network."""

from __future__ import annotations

from itertools import count, islice

import numpy as np
import pytest
import torch
from plain_network import PlainNetwork
from plain_video import plain_video
from support import lively_network

from unisal.inference.engine import Engine
from unisal.model import UNISAL

SIZE = (40, 70)
N_FRAMES = 26
TOLERANCE = 1e-5


@pytest.fixture(scope="module")
def model():
    return lively_network()


@pytest.fixture(scope="module")
def frames():
    """-> a video of noise that changes its brightness and its place of most contrast."""
    generator = torch.Generator().manual_seed(1)
    noise = torch.randn(N_FRAMES, 3, 64, 64, generator=generator)
    x = torch.linspace(0, 1, 64)
    centres = torch.rand(N_FRAMES, 1, 1, 1, generator=generator)
    video = noise * (0.3 + 2 * torch.exp(-(((x - centres) / 0.2) ** 2))) + centres - 0.5
    return list(video.numpy())


def plain_maps(model, frames, source, step, static=False, size=SIZE):
    """Predict a video with the plain network, from the definition."""
    network = PlainNetwork(model.state_dict(), model.config)

    def call(x, return_hidden, **options):
        assert return_hidden
        return network(x, **options)

    return plain_video(call, [torch.from_numpy(x) for x in frames], size, source, step, static)


@pytest.fixture(scope="module")
def expected(model, frames):
    """-> for each step, the maps of DHF1K."""
    return {step: plain_maps(model, frames, "DHF1K", step) for step in (1, 4, 5)}


def predict(model, frames, step, domain="DHF1K", max_frames=1000, **options):
    """-> the maps; both runtimes, which divide the video in different ways, give the same."""
    found = []
    for runtime in ("torch", "onnx"):
        engine = Engine(model, "cpu", max_frames, runtime=runtime)
        keyed = list(engine.video(enumerate(frames), SIZE, domain, step, **options))
        assert [key for key, _ in keyed] == list(range(len(frames)))
        maps = [y for _, y in keyed]
        assert all(y.shape == SIZE and y.dtype == np.float32 for y in maps)
        found.append(as_tensor(maps))
    assert_same(*found)
    return found[0]


def as_tensor(maps):
    return torch.from_numpy(np.stack(maps))


def assert_same(ours, theirs):
    torch.testing.assert_close(ours, theirs, atol=TOLERANCE, rtol=0)


def test_the_comparison_can_fail(expected, model, frames):
    # The maps depend on the frame, on how the frames are interleaved and on the GRU.
    static = plain_maps(model, frames[:12], "DHF1K", 1, static=True)
    for other in (expected[1][1:13], expected[4][:12], static):
        assert (expected[1][6:12] - other[6:12]).abs().amax((1, 2)).min() > 500 * TOLERANCE


@pytest.mark.parametrize("chunk", [1, 2, 5, 6, 100])
@pytest.mark.parametrize("step", [1, 4, 5])
def test_a_video_equals_frame_by_frame_whatever_the_chunk(model, frames, expected, step, chunk):
    assert_same(predict(model, frames, step, chunk=chunk), expected[step])


@pytest.mark.parametrize("max_frames", [1, 3, 12])
@pytest.mark.parametrize("step", [1, 4, 5])
def test_frames_per_call_change_no_number(model, frames, expected, step, max_frames):
    assert_same(predict(model, frames, step, max_frames=max_frames), expected[step])


@pytest.mark.parametrize("n_frames", range(1, 13))
def test_a_video_may_be_shorter_than_the_step_or_a_chunk(model, frames, expected, n_frames):
    for chunk in (1, 2, 6):
        maps = predict(model, frames[:n_frames], 5, chunk=chunk)
        assert_same(maps, expected[5][:n_frames])


@pytest.mark.parametrize("step", [7, 50])
def test_any_step_will_do(model, frames, step):
    expected = plain_maps(model, frames[:16], "DHF1K", step)
    assert_same(predict(model, frames[:16], step), expected)
    assert_same(predict(model, frames[:16], step, max_frames=3), expected)


@pytest.mark.parametrize("domain", ["Hollywood", "UCFSports", "SALICON"])
def test_every_domain(model, frames, domain):
    static = domain == "SALICON"
    expected = plain_maps(model, frames[:9], domain, 4, static)
    assert_same(predict(model, frames[:9], 4, domain, chunk=2), expected)


NETWORKS = [
    # options of the network, domain, whether the GRU is left out
    ({"sources": ("SALICON",)}, "SALICON", True),
    ({"sources": ("DHF1K", "MIT1003")}, "MIT1003", True),
    ({"sources": ("MIT300", "DHF1K")}, "MIT300", True),
    ({"sources": ("Mine",)}, "Mine", False),
    ({"bypass_rnn": False}, "SALICON", False),
    ({"bypass_rnn": False, "sources": ("SALICON",)}, "SALICON", False),
    ({"res_rnn": False}, "UCFSports", False),
    ({"ds_bn": False, "ds_smoothing": False, "n_gaussians": 0}, "Hollywood", False),
]


@pytest.mark.parametrize(("options", "domain", "bypassed"), NETWORKS, ids=str)
def test_the_gru_is_left_out_for_images_alone(frames, options, domain, bypassed):
    model = lively_network(**options)
    expected = plain_maps(model, frames[:9], domain, 4, static=bypassed)
    assert_same(predict(model, frames[:9], 4, domain, chunk=2), expected)


def test_without_the_gru_the_frames_are_images(model, frames):
    engine = Engine(model, "cpu")
    images = as_tensor(engine.images(np.stack(frames[:9]), SIZE, "SALICON"))
    for step in (1, 4):
        assert_same(predict(model, frames[:9], step, "SALICON"), images)


def test_each_map_is_a_density(model, frames):
    for _, y in Engine(model, "cpu").video(enumerate(frames[:7]), (300, 200), "DHF1K", 5):
        assert np.exp(y, dtype=np.float64).sum() == pytest.approx(1, abs=1e-5)


def test_no_frames_no_maps(model):
    assert list(Engine(model, "cpu").video([], SIZE, "DHF1K", 5)) == []


@pytest.mark.parametrize(
    ("step", "chunk", "max_frames", "ahead"),
    [(5, 6, 1000, 30), (4, 2, 1000, 8), (1, 1, 1000, 1), (5, 6, 12, 10), (5, 6, 3, 5)],
)
def test_no_more_than_a_chunk_is_taken_ahead(model, frames, step, chunk, max_frames, ahead):
    taken = []

    def endless():
        for i in count():
            taken.append(i)
            yield i, frames[i % N_FRAMES]

    engine = Engine(model, "cpu", max_frames, runtime="torch")
    maps = engine.video(endless(), SIZE, "DHF1K", step, chunk)
    assert taken == []
    for i, _ in enumerate(islice(maps, 2 * ahead + 1)):
        assert len(taken) == (i // ahead + 1) * ahead
    # ONNX Runtime, which takes one frame at a time, needs none in advance.
    taken.clear()
    for i, _ in enumerate(islice(Engine(model, "cpu").video(endless(), SIZE, "DHF1K", step), 9)):
        assert len(taken) == i + 1


def test_the_network_sees_few_frames_at_a_time(model, frames, monkeypatch):
    sizes = []
    whole = UNISAL.logits

    def watched(self, x, *options):
        sizes.append(x.shape[0] * x.shape[1])
        return whole(self, x, *options)

    monkeypatch.setattr(UNISAL, "logits", watched)
    engine = Engine(model, "cpu", max_frames=12, runtime="torch")
    list(engine.video(enumerate(frames), SIZE, "DHF1K", 5, chunk=24))
    assert sizes == [10, 10, 2, 4]  # two of each sequence; at the end two of the first alone
    sizes.clear()
    list(engine.video(enumerate(frames), SIZE, "DHF1K", 30))
    assert sizes == [12, 12, 2]


def test_two_videos_at_a_time_do_not_mix(model, frames, expected):
    engine = Engine(model, "cpu")
    other = list(reversed(frames))
    pairs = list(
        zip(
            engine.video(enumerate(frames), SIZE, "DHF1K", 5),
            engine.video(enumerate(other), SIZE, "DHF1K", 4, chunk=3),
            strict=True,
        )
    )
    assert_same(as_tensor([y for (_, y), _ in pairs]), expected[5])
    assert_same(as_tensor([y for _, (_, y) in pairs]), plain_maps(model, other, "DHF1K", 4))


def test_gradients_stay_as_they_were_between_frames(model, frames):
    for _ in Engine(model, "cpu").video(enumerate(frames[:3]), SIZE, "DHF1K", 2):
        assert torch.is_grad_enabled() and not torch.is_inference_mode_enabled()


def test_a_failing_video_tells_its_own_error(model, frames):
    def failing():
        yield from enumerate(frames[:12])
        raise OSError("the camera was unplugged")

    maps = Engine(model, "cpu").video(failing(), SIZE, "DHF1K", 5)
    with pytest.raises(OSError, match="unplugged"):
        list(maps)
