"""Video files in, video files out: what is written is decoded and compared with the frames."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from fractions import Fraction
from itertools import pairwise

import av
import h5py
import numpy as np
import pytest
from PIL import Image
from support import (
    PROJECT,
    call_command,
    lively_network,
    photo,
    run_command,
    write_network,
    write_run,
)
from videos import (
    SOUND_RATE,
    TONE,
    decode,
    decode_sound,
    number_of,
    numbered,
    retimed,
    sound_packets,
    turn,
    video_options,
    write_clip,
    write_hdr,
)

from unisal.commands import video_files
from unisal.commands.video_files import find_video_files, predict_file
from unisal.data import video_file
from unisal.data.tone_mapping import HLG, PQ
from unisal.data.video_file import VideoFile
from unisal.errors import UserError
from unisal.inference.densities import to_saliency_map
from unisal.predict import Predictor
from unisal.predict.presets import Preset
from unisal.progress import SILENT
from unisal.visualize.overlay import draw_overlay
from unisal.writing import maps as writing_maps
from unisal.writing import video_outputs

N = 13
SIZE = (64, 96)


@pytest.fixture(autouse=True)
def small_input(monkeypatch):
    """The network sees 64 x 96 pixels."""
    monkeypatch.setattr(Preset, "input_size_for", lambda *_: SIZE)


@pytest.fixture(scope="module")
def predictor():
    return Predictor(lively_network(), "cpu")


@pytest.fixture
def loaded(predictor, tmp_path, monkeypatch):
    """The commands find a run of that network."""
    write_network(tmp_path / "runs" / "pretrained_unisal", predictor.engine.model)
    monkeypatch.setenv("TRAIN_DIR", str(tmp_path / "runs"))


def predict(predictor, path, out, **options):
    """Predict one file into the folder `out`; return what was wrong with the file."""
    chosen = video_options(out_dir=out, **options)
    with VideoFile(path) as video, SILENT.bar("", "frame") as bar:
        return predict_file(predictor, video, chosen.outputs(path), chosen, bar)


def read(path):
    with VideoFile(path) as video:
        return [f.rgb for f in video]


def names(folder):
    return sorted(p.name for p in folder.iterdir())


# ---- the overlay --------------------------------------------------------------------------


def test_the_overlay_shows_each_frame_with_its_map(predictor, tmp_path):
    path = write_clip(tmp_path / "clip.mkv", numbered(N), rate=30)
    assert predict(predictor, path, tmp_path / "out") is None
    assert names(tmp_path / "out") == ["clip_overlay.mp4"]
    overlay, times = decode(tmp_path / "out" / "clip_overlay.mp4")
    assert times == [Fraction(round(1000 * i / 30), 1000) for i in range(N)]  # Matroska's ms
    frames = read(path)
    densities = list(predictor.video(frames))
    differences = []
    for i, (rgb, density) in enumerate(zip(frames, densities, strict=True)):
        expected = draw_overlay(rgb, to_saliency_map(density)).astype(int)
        differences.append([np.abs(o - expected).mean() for o in overlay])
        assert differences[i][i] < 4
    assert np.array_equal(np.argmin(differences, axis=1), range(N))  # no other frame is nearer


def test_it_plays_in_a_browser(predictor, tmp_path):
    # What browsers take: H.264, 8 bits 4:2:0, in an MP4 file with its index at the start.
    path = write_clip(tmp_path / "clip.webm", numbered(N), "libvpx-vp9")
    predict(predictor, path, tmp_path)
    out = tmp_path / "clip_overlay.mp4"
    with av.open(str(out)) as container:
        assert "mp4" in container.format.name
        (stream,) = container.streams
        assert stream.codec_context.codec.canonical_name == "h264"
        assert stream.codec_context.pix_fmt == "yuv420p"
        assert stream.average_rate == 25 and stream.frames == N
        assert stream.duration * stream.time_base == Fraction(N, 25)
    data = out.read_bytes()
    assert 0 < data.index(b"moov") < data.index(b"mdat")


def test_a_variable_rate_stays_as_it_is(predictor, tmp_path):
    times = [0, 40, 50, 130, 400, 401, 1000]
    path = write_clip(tmp_path / "clip.mkv", numbered(len(times)), times=[*times, 1040])
    predict(predictor, path, tmp_path)
    _, ours = decode(tmp_path / "clip_overlay.mp4")
    assert ours == [Fraction(t, 1000) for t in times]


def test_the_last_frame_lasts_as_long_as_it_did(predictor, tmp_path):
    times = [0, 100, 200, 900, 1250]
    path = write_clip(tmp_path / "clip.mp4", numbered(4), times=times, encoder={"bf": "0"})
    predict(predictor, path, tmp_path)
    lengths = []
    for file in (path, tmp_path / "clip_overlay.mp4"):
        with av.open(str(file)) as container:
            stream = container.streams.video[0]
            lengths.append(stream.duration * stream.time_base)
    assert lengths == [Fraction(5, 4)] * 2


def test_a_turned_video_comes_out_upright(predictor, tmp_path):
    path = write_clip(tmp_path / "clip.mp4", numbered(3))
    turn(path, (0, 1, -1, 0))
    predict(predictor, path, tmp_path, maps="png")
    overlay, _ = decode(tmp_path / "clip_overlay.mp4")
    frames = read(path)
    for rgb, frame, density in zip(overlay, frames, predictor.video(frames), strict=True):
        assert rgb.shape == frame.shape == (96, 64, 3)
        expected = draw_overlay(frame, to_saliency_map(density))
        assert np.abs(rgb.astype(int) - expected).mean() < 4
    assert Image.open(tmp_path / "clip_maps" / "000001.png").size == (64, 96)


@pytest.mark.parametrize("size", [(63, 97), (64, 97)])
def test_odd_sides_get_a_row_or_column(predictor, tmp_path, size):
    path = write_clip(tmp_path / "clip.avi", numbered(3, size), "ffv1")
    predict(predictor, path, tmp_path, maps="png")
    overlay, _ = decode(tmp_path / "clip_overlay.mp4")
    assert overlay[0].shape == (64, 98, 3)
    assert Image.open(tmp_path / "clip_maps" / "000001.png").size == size[::-1]


def test_pixels_that_are_not_square_stay_so(predictor, tmp_path):
    path = tmp_path / "clip.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.height, stream.width, stream.pix_fmt = *SIZE, "yuv420p"
        stream.codec_context.sample_aspect_ratio = Fraction(4, 3)
        frame = av.VideoFrame.from_ndarray(numbered(1)[0], format="rgb24")
        container.mux([*stream.encode(frame), *stream.encode(None)])
    predict(predictor, path, tmp_path)
    with av.open(str(tmp_path / "clip_overlay.mp4")) as container:
        assert container.streams.video[0].sample_aspect_ratio == Fraction(4, 3)


def test_high_dynamic_range_is_predicted_and_shown_as_an_ordinary_film(predictor, tmp_path):
    rgb = photo(SIZE)
    frames = {}
    for name in ("pq", "hlg"):
        path = write_hdr(tmp_path / f"{name}.mkv", rgb, {"pq": PQ, "hlg": HLG}[name])
        predict(predictor, path, tmp_path, maps="npz")
        frames[name] = read(path)[0]
        with av.open(str(tmp_path / f"{name}_overlay.mp4")) as container:
            codec = container.streams.video[0].codec_context
            assert (codec.color_primaries, codec.color_trc, codec.colorspace) == (1, 1, 1)
            assert codec.color_range == 1 and codec.pix_fmt == "yuv420p"
        density = np.load(tmp_path / f"{name}_densities.npz")["densities"][0]
        expected = next(iter(predictor.video([frames[name]] * 2)))
        np.testing.assert_allclose(density, expected, rtol=1e-3)
        overlay = decode(tmp_path / f"{name}_overlay.mp4")[0][0].astype(int)
        assert np.abs(overlay - draw_overlay(frames[name], to_saliency_map(density))).mean() < 4
    assert np.abs(frames["pq"].astype(int) - frames["hlg"]).max() <= 2


# ---- its sound ----------------------------------------------------------------------------


COPIED = [("a.mp4", "aac"), ("a.mkv", "libmp3lame"), ("a.mkv", "libopus"), ("a.mkv", "flac")]


@pytest.mark.parametrize(("name", "codec"), COPIED, ids=[c[1] for c in COPIED])
def test_sound_is_copied_as_it_is(predictor, tmp_path, name, codec):
    path = write_clip(tmp_path / name, numbered(25), sound=codec)
    predict(predictor, path, tmp_path / "out")
    out = tmp_path / "out" / "a_overlay.mp4"
    assert sound_packets(out) == sound_packets(path)
    assert len(decode(out)[0]) == 25
    assert_the_tone(out, 1.0)


ENCODED = [
    ("a.mov", "pcm_s16le", SOUND_RATE),
    ("a.mkv", "ac3", SOUND_RATE),
    ("a.avi", "pcm_s16le", SOUND_RATE),  # does not say which channel is which
    ("a.mov", "pcm_s16le", 22_255),  # which AAC does not know
]


@pytest.mark.parametrize(("name", "codec", "rate"), ENCODED)
def test_sound_that_browsers_do_not_play_is_encoded(predictor, tmp_path, name, codec, rate):
    path = write_clip(tmp_path / name, numbered(25), sound=codec, sound_rate=rate)
    predict(predictor, path, tmp_path / "out")
    out = tmp_path / "out" / "a_overlay.mp4"
    with av.open(str(out)) as container:
        (track,) = container.streams.audio
        assert track.codec_context.codec.canonical_name == "aac"
        assert track.codec_context.layout.nb_channels == 2
    assert_the_tone(out, 1.0)


def test_pictures_and_sound_stay_together(predictor, tmp_path):
    # A transport stream starts at another time than zero, and its sound before its pictures.
    path = write_clip(tmp_path / "a.ts", numbered(25), sound="aac")
    predict(predictor, path, tmp_path)
    gaps = []
    for file in (path, tmp_path / "a_overlay.mp4"):
        with av.open(str(file)) as container:
            first_sound = next(container.decode(audio=0)).time
        gaps.append(float(decode(file)[1][0]) - first_sound)
    assert gaps[0] == pytest.approx(gaps[1], abs=0.002)


def test_sound_lies_beside_its_frames(predictor, tmp_path):
    # A browser that has loaded half of the file can play half of it.
    path = write_clip(tmp_path / "a.mp4", numbered(75), sound="aac")
    predict(predictor, path, tmp_path)
    with av.open(str(tmp_path / "a_overlay.mp4")) as container:
        packets = [
            (p.pos, p.stream.type, float(p.dts * p.time_base)) for p in container.demux() if p.size
        ]
    latest = {"video": 0.0, "audio": 0.0}
    for _, kind, time in sorted(packets):
        latest[kind] = time
        assert abs(latest["video"] - latest["audio"]) < 1.2


def overlaid(predictor, path, out):
    """Predict a file and return its overlay, which is whole."""
    predict(predictor, path, out)
    overlay = out / f"{path.stem}_overlay.mp4"
    assert len(decode(overlay)[0]) == len(read(path))
    return overlay


def n_channels(path):
    with av.open(str(path)) as container:
        (track,) = container.streams.audio
        return track.codec_context.layout.nb_channels


@pytest.mark.parametrize(
    ("layout", "kept"), [("9 channels", 2), ("7.1.4", 2), ("16 channels", 2), ("3 channels", 3)]
)
def test_channels_that_aac_refuses_are_mixed(predictor, tmp_path, layout, kept):
    path = write_clip(tmp_path / "a.mkv", numbered(25), sound="pcm_s16le", layout=layout)
    overlay = overlaid(predictor, path, tmp_path / "out")
    assert n_channels(overlay) == kept
    assert len(decode_sound(overlay)) / SOUND_RATE == pytest.approx(1, abs=0.05)
    if "channels" in layout:
        assert_the_tone(overlay, 1.0)


def test_sound_that_mp4_refuses_to_copy_is_encoded(predictor, tmp_path):
    path = write_clip(tmp_path / "a.flv", numbered(25), "flv", sound="libmp3lame", sound_rate=11025)
    overlay = overlaid(predictor, path, tmp_path / "out")
    with av.open(str(overlay)) as container:
        assert container.streams.audio[0].codec_context.codec.canonical_name == "aac"
    # FLV does not say how much of the MP3 is padding, and a packet of AAC is 93 ms at this rate.
    assert_the_tone(overlay, len(decode_sound(path)) / SOUND_RATE, within=0.1)


@pytest.mark.parametrize("sound", ["aac", "pcm_s16le"])
def test_times_of_the_sound_that_repeat_are_made_to_rise(predictor, tmp_path, sound):
    whole = write_clip(tmp_path / "whole.mov", numbered(25), sound=sound)

    last = [Fraction(0)]

    def twice(kind, number, time):
        if kind == "audio" and number % 3 != 1:
            last[0] = time
        return time if kind == "video" else last[0]

    path = retimed(whole, tmp_path / "a.mkv", twice)
    overlay = overlaid(predictor, path, tmp_path / "out")
    assert_the_tone(overlay, 1.0)
    if sound == "aac":
        assert sound_packets(overlay) == sound_packets(whole)


@pytest.mark.parametrize("sound", ["aac", "ac3"])
@pytest.mark.parametrize("name", ["a.ts", "a.mkv"])
def test_a_clock_that_jumps_moves_pictures_and_sound(predictor, tmp_path, name, sound):
    whole = write_clip(tmp_path / "whole.mov", numbered(50), sound=sound)
    path = retimed(whole, tmp_path / name, lambda _k, _n, t: t + (3600 if t >= 1 else 0))
    damage = predict(predictor, path, tmp_path / "out")
    assert str(path) in damage and "closed up" in damage
    overlay = tmp_path / "out" / "a_overlay.mp4"
    times = decode(overlay)[1]
    assert len(times) == 50 and max(b - a for a, b in pairwise(times)) < 0.1
    with av.open(str(overlay)) as container:
        assert container.duration / av.time_base == pytest.approx(2, abs=0.1)
    assert_the_tone(overlay, 2.0)


def test_sound_that_alone_jumps_does_not_make_a_long_film(predictor, tmp_path):
    whole = write_clip(tmp_path / "whole.mov", numbered(50), sound="aac")
    path = retimed(
        whole, tmp_path / "a.ts", lambda k, _, t: t + (3600 if k == "audio" and t >= 1 else 0)
    )
    overlay = overlaid(predictor, path, tmp_path / "out")
    assert_the_tone(overlay, 2.0)


def two_sounds(path):
    """Write a film with a sound that nobody knows before one that all know."""
    whole = write_clip(path.with_name("whole.mkv"), numbered(25), sound="aac")
    with av.open(str(whole)) as source, av.open(str(path), "w") as target:
        video, audio = source.streams.video[0], source.streams.audio[0]
        outs = [target.add_stream_from_template(s) for s in (video, audio, audio)]
        for packet in source.demux():
            if packet.size:
                twins = [bytes(packet)] * (1 if packet.stream is video else 2)
                for out, data in zip(outs[:1] if len(twins) == 1 else outs[1:], twins, strict=True):
                    copy = av.Packet(data)
                    copy.pts, copy.dts, copy.time_base = packet.pts, packet.dts, packet.time_base
                    copy.duration, copy.is_keyframe = packet.duration, packet.is_keyframe
                    copy.stream = out
                    target.mux(copy)
    path.write_bytes(path.read_bytes().replace(b"A_AAC", b"A_XYZ", 1))
    return path


def test_the_first_sound_that_can_be_decoded_is_taken(predictor, tmp_path, caplog):
    path = two_sounds(tmp_path / "a.mkv")
    overlay = overlaid(predictor, path, tmp_path / "out")
    assert_the_tone(overlay, 1.0)
    assert caplog.text == ""


def test_sound_that_nobody_knows_is_left_out_with_a_warning(predictor, tmp_path, caplog):
    path = write_clip(tmp_path / "a.mkv", numbered(25), sound="aac")
    path.write_bytes(path.read_bytes().replace(b"A_AAC", b"A_XYZ", 1))
    overlay = overlaid(predictor, path, tmp_path / "out")
    with av.open(str(overlay)) as container:
        assert not container.streams.audio
    (line,) = caplog.messages
    assert str(path) in line and "codec is unknown" in line and "silent" in line


@pytest.mark.parametrize("sound", ["ac3"])
def test_a_hole_in_the_sound_costs_that_part(predictor, tmp_path, sound):
    path = write_clip(tmp_path / "a.mkv", numbered(50), sound=sound)
    with av.open(str(path)) as container:
        packets = [bytes(p) for p in container.demux(container.streams.audio[0]) if p.size]
    data = path.read_bytes()
    for packet in packets[10:14]:
        data = data.replace(packet, bytes([0x55] * len(packet)), 1)
    path.write_bytes(data)
    overlay = overlaid(predictor, path, tmp_path / "out")
    samples = decode_sound(overlay)
    assert len(samples) / SOUND_RATE == pytest.approx(2, abs=0.1)
    assert np.abs(samples[SOUND_RATE * 3 // 2 :]).max() == pytest.approx(0.3, abs=0.05)


def assert_the_tone(path, seconds, within=0.05):
    samples = decode_sound(path)
    assert len(samples) / SOUND_RATE == pytest.approx(seconds, abs=within)
    middle = samples[len(samples) // 4 : len(samples) * 3 // 4]
    spectrum = np.abs(np.fft.rfft(middle * np.hanning(len(middle))))
    assert np.argmax(spectrum) * SOUND_RATE / len(middle) == pytest.approx(TONE, abs=3)
    assert np.abs(middle).max() == pytest.approx(0.3, abs=0.03)


# ---- maps and features --------------------------------------------------------------------


@pytest.fixture
def clip(tmp_path):
    return write_clip(tmp_path / "clip.mp4", numbered(N), rate=30)


@pytest.mark.parametrize(
    ("kind", "folder", "mode", "top"),
    [("png", "clip_maps", "L", 255), ("png16", "clip_maps16", "I;16", 65535)],
)
def test_maps_as_pictures(predictor, tmp_path, clip, kind, folder, mode, top):
    predict(predictor, clip, tmp_path / "out", maps=kind, overlay=False)
    assert names(tmp_path / "out") == [folder]
    folder = tmp_path / "out" / folder
    assert names(folder) == [f"{i:06d}.png" for i in range(1, N + 1)]
    for i, density in enumerate(predictor.video(read(clip)), 1):
        picture = Image.open(folder / f"{i:06d}.png")
        assert picture.mode == mode
        levels = np.asarray(picture).astype(np.int64)
        assert levels.max() == top
        assert np.abs(levels - density / density.max() * top).max() <= 1


def test_densities_in_one_file(predictor, tmp_path, clip):
    expected = list(predictor.video(read(clip)))
    for kind in ("npz", "h5"):
        predict(predictor, clip, tmp_path / "out", maps=kind, overlay=False)
    found = [np.load(tmp_path / "out" / "clip_densities.npz")]
    with h5py.File(tmp_path / "out" / "clip_densities.h5") as file:
        found.append({name: values[:] for name, values in file.items()})
    for arrays in found:
        assert set(arrays) == {"densities", "times"}
        assert arrays["densities"].dtype == np.float32
        np.testing.assert_allclose(arrays["densities"], expected, rtol=1e-4)
        np.testing.assert_allclose(arrays["times"], np.arange(N) / 30, atol=1e-4)
    assert names(tmp_path / "out") == ["clip_densities.h5", "clip_densities.npz"]


def test_features_in_one_file_beside_the_overlay(predictor, tmp_path, clip):
    predict(predictor, clip, tmp_path / "out", features="after_gru", maps="npz")
    frames = read(clip)
    with h5py.File(tmp_path / "out" / "clip_features_after_gru.h5") as file:
        assert set(file) == {"after_gru", "times"}
        values, times = file["after_gru"][:], file["times"][:]
    expected = [f["after_gru"] for f in predictor.features(frames)]
    np.testing.assert_allclose(values, expected, atol=1e-5, rtol=1e-4)
    np.testing.assert_allclose(times, np.arange(N) / 30, atol=1e-4)
    densities = np.load(tmp_path / "out" / "clip_densities.npz")["densities"]
    np.testing.assert_allclose(densities, list(predictor.video(frames)), rtol=1e-3)
    assert len(decode(tmp_path / "out" / "clip_overlay.mp4")[0]) == N


@pytest.mark.parametrize("features", [None, "encoder_8"])
def test_medians_are_taken_over_frames(predictor, tmp_path, clip, features):
    options = {"maps": "npz", "overlay": False, "features": features}
    predict(predictor, clip, tmp_path, smooth_method="med3", **options)
    expected = list(predictor.video(read(clip), smooth_method="med3"))
    densities = np.load(tmp_path / "clip_densities.npz")["densities"]
    np.testing.assert_allclose(densities, expected, rtol=1e-3)
    if features:
        with h5py.File(tmp_path / "clip_features_encoder_8.h5") as file:
            last = list(predictor.features(read(clip)))[-1]["encoder_8"]
            np.testing.assert_allclose(file["encoder_8"][-1], last, atol=1e-5)


@pytest.mark.parametrize(("rate", "chosen", "step"), [(30, None, 5), (12, None, 2), (30, 3, 3)])
def test_the_frame_step_follows_the_files_rate(predictor, tmp_path, rate, chosen, step):
    path = write_clip(tmp_path / "clip.mp4", numbered(N), rate=rate)
    predict(predictor, path, tmp_path, maps="npz", overlay=False, frame_step=chosen)
    expected = list(predictor.video(read(path), frame_step=step))
    densities = np.load(tmp_path / "clip_densities.npz")["densities"]
    np.testing.assert_allclose(densities, expected, rtol=1e-4)
    others = np.array(list(predictor.video(read(path), frame_step=step + 1)))
    assert np.abs(others - expected).max() > 1e-3 * np.max(expected)  # the comparison can fail


def test_source_and_domain_can_be_chosen(predictor, tmp_path, clip):
    for options in ({"source": "UCFSports"}, {"model_domain": "UCFSports"}, {"source": "SALICON"}):
        predict(predictor, clip, tmp_path, maps="npz", overlay=False, frame_step=4, **options)
        source = options.get("source", "DHF1K")
        domain = options.get("model_domain")
        expected = list(predictor.video(read(clip), source, domain, frame_step=4))
        densities = np.load(tmp_path / "clip_densities.npz")["densities"]
        np.testing.assert_allclose(densities, expected, rtol=1e-4)


# ---- many files ---------------------------------------------------------------------------


@pytest.fixture
def clips(tmp_path):
    """Write a folder with two good videos, a broken one, and something else."""
    folder = tmp_path / "clips"
    write_clip(folder / "b.mp4", numbered(7))
    write_clip(folder / "d.webm", numbered(9), "libvpx-vp9")
    (folder / "c.mkv").write_text("no video")
    (folder / "notes.txt").write_text("no video either")
    (folder / ".hidden.mp4").write_text("nor this")
    return folder


@pytest.mark.usefixtures("loaded")
def test_a_broken_file_is_named_and_the_rest_is_done(clips, capsys, caplog):
    assert call_command("predict_video", str(clips), "--maps=True") == 1
    out, err = capsys.readouterr()
    assert names(clips / "saliency") == ["b_maps", "b_overlay.mp4", "d_maps", "d_overlay.mp4"]
    assert len(decode(clips / "saliency" / "b_overlay.mp4")[0]) == 7
    assert len(names(clips / "saliency" / "d_maps")) == 9
    assert "b_overlay.mp4" in out and "d_maps" in out
    assert err.splitlines() == [f"run.py: 1 of 3 videos could not be predicted: {clips / 'c.mkv'}"]
    assert f"{clips / 'c.mkv'} cannot be read as a video: Invalid data" in caplog.text


@pytest.mark.usefixtures("loaded")
def test_finished_files_are_skipped(clips, capsys):
    (clips / "c.mkv").unlink()
    assert call_command("predict_video", str(clips)) == 0
    saliency = clips / "saliency"
    before = {p: p.stat().st_mtime_ns for p in saliency.iterdir()}
    assert len(before) == 2

    write_clip(clips / "e.mp4", numbered(3))
    assert call_command("predict_video", str(clips)) == 0
    assert "2 finished before and skipped" in capsys.readouterr().out
    assert {p: p.stat().st_mtime_ns for p in before} == before
    assert names(saliency) == ["b_overlay.mp4", "d_overlay.mp4", "e_overlay.mp4"]

    assert call_command("predict_video", str(clips), "--maps=png") == 0  # maps alone are missing
    assert {p: p.stat().st_mtime_ns for p in before} == before
    assert len(names(saliency / "b_maps")) == 7

    assert call_command("predict_video", str(clips), "--maps=png", "--overwrite=True") == 0
    assert all(p.stat().st_mtime_ns > then for p, then in before.items())
    assert len(names(saliency / "b_maps")) == 7
    assert not [p for p in saliency.iterdir() if p.name.startswith(".")]


@pytest.mark.usefixtures("loaded")
def test_a_pattern_fits_files_but_not_what_was_written_of_them(tmp_path, clips, capsys):
    pattern = str(clips / "**" / "*.mp4")
    for _ in range(2):
        assert call_command("predict_video", pattern) == 0
        assert names(clips / "saliency") == ["b_overlay.mp4"]
    assert "finished before" in capsys.readouterr().out
    assert call_command("predict_video", str(clips / "[bd].*"), f"--out_dir={tmp_path / 'o'}") == 0
    assert names(tmp_path / "o") == ["b_overlay.mp4", "d_overlay.mp4"]


@pytest.mark.usefixtures("loaded")
def test_one_bar_goes_over_all_files(clips, monkeypatch):
    bars, titles = [], []

    class Watched(type(SILENT)):
        def bar(self, title, unit, total=None, done=0, keep=True):
            bars.append([total, unit, done])
            return self

        def update(self, n=1):
            bars[-1][2] += n

        def describe(self, title):
            titles.append(title)

        def __enter__(self):
            return self

        def __exit__(self, *_):
            pass

    monkeypatch.setattr(video_files, "TERMINAL", Watched())
    call_command("predict_video", str(clips))
    assert bars == [[7 + 9, "frame", 7 + 9]]
    assert titles == ["b.mp4", "d.webm"]


@pytest.mark.usefixtures("loaded")
@pytest.mark.parametrize("n", [1, 3])
def test_a_single_video_is_opened_once_for_its_pictures(tmp_path, monkeypatch, n):
    opened = []
    open_media = video_file.open_media

    def watched(path):
        opened.append(path.name)
        return open_media(path)

    monkeypatch.setattr(video_file, "open_media", watched)
    for i in range(n):
        write_clip(tmp_path / f"{i}.mp4", numbered(3))
    assert call_command("predict_video", str(tmp_path), "--overlay=False", "--maps=npz") == 0
    # Of several, the others are opened before for the length of the bar.
    assert opened == [f"{i}.mp4" for i in (*range(n), *range(1, n))]


@pytest.mark.usefixtures("loaded")
def test_a_truncated_file_gives_the_frames_it_has_and_says_so(tmp_path, caplog, capsys):
    path = write_clip(tmp_path / "clip.mkv", numbered(50))
    data = path.read_bytes()
    path.write_bytes(data[: len(data) * 7 // 10])
    n = len(read(path))
    assert call_command("predict_video", str(path)) == 0
    overlay, _ = decode(tmp_path / "saliency" / "clip_overlay.mp4")
    assert len(overlay) == n < 50
    assert f"{path} is cut off after {n} frames" in caplog.text
    assert capsys.readouterr().err == ""


MISTAKES = [
    (["missing.mp4"], ["missing.mp4 does not exist"]),
    (["no*.mp4"], ["there is no video in no*.mp4"]),
    (["EMPTY"], ["there is no video in", ".mp4", ".webm"]),
    (["TEXT"], ["clip.txt cannot be read as a video"]),
    (["CLIP", "--maps=jpg"], ["maps is 'jpg'", "png, png16, npz, h5"]),
    (["CLIP", "--maps=[1]"], ["maps is [1]"]),
    (["CLIP", "--features=nope"], ["features is 'nope'", "after_gru"]),
    (["CLIP", "--frame_step=0"], ["frame_step is 0"]),
    (["CLIP", "--smooth_method=med4"], ["'med4'"]),
    (["CLIP", "--source=NOPE"], ["'NOPE'"]),
    (["CLIP", "--overlay=False"], ["nothing to write"]),
    (["CLIP", "--train_id=nope"], ["'nope'"]),
]


@pytest.mark.parametrize(("arguments", "words"), MISTAKES, ids=lambda value: " ".join(value))
def test_a_mistake_is_one_line_and_nothing_is_written(
    tmp_path, monkeypatch, capsys, clip, arguments, words
):
    write_run(tmp_path / "runs" / "pretrained_unisal")
    monkeypatch.setenv("TRAIN_DIR", str(tmp_path / "runs"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "clip.txt").write_text("no video")
    places = {"CLIP": str(clip), "EMPTY": "empty", "TEXT": "clip.txt"}
    before = sorted(tmp_path.rglob("*"))
    code = call_command("predict_video", *(places.get(a, a) for a in arguments))
    out, err = capsys.readouterr()
    assert (code, out) == (2, "")
    (line,) = err.splitlines()
    assert all(word in line for word in words), line
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.usefixtures("loaded")
def test_videos_of_one_name_are_kept_apart_however_they_are_asked_for(tmp_path, capsys):
    for i, name in enumerate(("film.mp4", "film.mkv", "film.txt", "other.mp4"), 2):
        write_clip(tmp_path / name, numbered(i)) if i != 4 else (tmp_path / name).touch()
    line = ["predict_video", str(tmp_path / "film.mkv"), "--maps=True", "--overlay=False"]
    assert call_command(*line) == 0
    assert names(tmp_path / "saliency") == ["film.mkv_maps"]
    line[1] = str(tmp_path)
    assert call_command(*line) == 0
    assert "1 finished before and skipped" in capsys.readouterr().out
    found = {path.name: len(names(path)) for path in (tmp_path / "saliency").iterdir()}
    assert found == {"film.mkv_maps": 3, "film.mp4_maps": 2, "other_maps": 5}
    assert call_command(*line) == 0
    assert "3 finished before and skipped" in capsys.readouterr().out


def test_videos_of_one_name_in_two_folders_are_refused_where_they_would_meet(tmp_path, capsys):
    for name in ("a/clip.mp4", "b/clip.mp4"):
        write_clip(tmp_path / name, numbered(2))
    before = sorted(tmp_path.rglob("*"))
    line = ["predict_video", str(tmp_path / "*" / "*.mp4"), f"--out_dir={tmp_path / 'out'}"]
    assert call_command(*line) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "a/clip.mp4" in line and "b/clip.mp4" in line and "clip_overlay.mp4" in line
    assert sorted(tmp_path.rglob("*")) == before


def test_films_of_all_kinds_are_found_and_the_rest_is_named(tmp_path, caplog):
    films = ["1.AVI", "2.wmv", "10.vob", "a.m2v", "b.mxf", "c.f4v", "d.rmvb", "e.3g2", "f.y4m"]
    others = ["a.LRV", "notes.txt", "photo.jpg", "still.gif"]  # the first is a camera's preview
    for name in [*films, *others, ".hidden.mp4"]:
        (tmp_path / name).touch()
    pictures = [Image.fromarray(frame) for frame in numbered(3)]
    for name in ("g.gif", "h.apng", "i.avif"):
        if Image.registered_extensions().get(f".{name[2:]}") in Image.SAVE:
            films.append(name)
            pictures[0].save(tmp_path / name, save_all=True, append_images=pictures[1:])
    pictures[0].save(tmp_path / "still.gif")
    options = video_options(out_dir=tmp_path)
    (tmp_path / "1_overlay.mp4").touch()  # of an earlier call
    assert [p.name for p in find_video_files([str(tmp_path)], options)] == films
    (record,) = caplog.records
    assert record.getMessage() == (
        f"{tmp_path}: 4 files left out, no videos: a.LRV, notes.txt, photo.jpg, still.gif"
    )


# ---- how it works -------------------------------------------------------------------------


def test_an_output_that_fails_costs_no_other_one(predictor, tmp_path, clip, monkeypatch):
    def fail(rgb, saliency_map):
        if number_of(rgb) == 6:
            raise UserError("broken")
        return draw_overlay(rgb, saliency_map)

    written = {"png": "clip_maps", "npz": "clip_densities.npz", "h5": "clip_densities.h5"}
    monkeypatch.setattr(video_outputs, "draw_overlay", fail)
    for maps, name in written.items():
        out = tmp_path / maps
        with pytest.raises(UserError, match="broken") as refused:
            predict(predictor, clip, out, maps=maps, features="encoder_8")
        assert str(clip) in str(refused.value) and "clip_overlay.mp4" in str(refused.value)
        assert names(out) == sorted(
            [name, "clip_features_encoder_8.h5"]
        )  # and nothing half-written
        with h5py.File(out / "clip_features_encoder_8.h5") as file:
            assert len(file["encoder_8"]) == N
    assert len(names(tmp_path / "png" / "clip_maps")) == N
    assert not [t for t in threading.enumerate() if t.name.startswith("ThreadPoolExecutor")]


def test_an_error_leaves_nothing_half_written(predictor, tmp_path, clip, monkeypatch):
    def fail(frame, input_size):
        if number_of(frame) == 6:
            raise UserError("broken")
        return prepare(frame, input_size)

    prepare = video_files.prepare
    monkeypatch.setattr(video_files, "prepare", fail)
    for maps in ("png", "npz", "h5"):
        with pytest.raises(UserError, match="broken"):
            predict(predictor, clip, tmp_path / "out", maps=maps, features="encoder_8")
        assert names(tmp_path / "out") == []
    assert not [t for t in threading.enumerate() if t.name.startswith("ThreadPoolExecutor")]


@pytest.mark.usefixtures("loaded")
def test_an_encoder_that_fails_is_named_with_its_cause(clips, monkeypatch, caplog):
    def fail(self, *_):
        where = f"{self.path}-temporary.mp4"
        log = (16, "mp4", "the disk is full\n")
        raise av.FFmpegError(28, "No space left on device", where, log)

    (clips / "c.mkv").unlink()
    monkeypatch.setattr(video_outputs.VideoWriter, "write", fail)
    assert call_command("predict_video", str(clips), "--maps=npz") == 1
    assert names(clips / "saliency") == ["b_densities.npz", "d_densities.npz"]
    assert f"{clips / 'b.mp4'}: " in caplog.text and "No space left" in caplog.text
    assert "temporary" not in caplog.text


def test_decoding_network_and_encoding_have_threads_of_their_own(
    predictor, tmp_path, clip, monkeypatch
):
    seen = {}

    def watch(module, name):
        function = getattr(module, name)

        def watched(*args, **kwargs):
            seen.setdefault(name, set()).add(threading.get_ident())
            return function(*args, **kwargs)

        monkeypatch.setattr(module, name, watched)

    watch(video_file, "turned")
    watch(video_files, "prepare")
    watch(video_files, "to_density")
    watch(video_outputs, "draw_overlay")
    watch(writing_maps, "to_grey_levels")
    predict(predictor, clip, tmp_path, maps="png")
    here = {threading.get_ident()}
    assert seen["turned"] - here == seen["prepare"]  # the first one is to see what the file holds
    assert seen["to_density"] == here
    assert len(seen["prepare"]) == len(seen["draw_overlay"]) == len(seen["to_grey_levels"]) == 1
    threads = [*seen["prepare"], *seen["draw_overlay"], *seen["to_grey_levels"], *here]
    assert len(set(threads)) == 4


def test_video_files_as_a_process(tmp_path):
    write_run(tmp_path / "runs" / "pretrained_unisal")
    path = write_clip(tmp_path / "clips" / "a.mov", numbered(10), sound="pcm_s16le")
    (tmp_path / "clips" / "b.mp4").write_text("no video")
    env = {"TRAIN_DIR": str(tmp_path / "runs"), "OMP_NUM_THREADS": "1"}
    command = ["predict_video", f"--video_path={path.parent}", f"--out_dir={tmp_path / 'out'}"]
    done = run_command(*command, "--maps=npz", env=env)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr and "b.mp4" in done.stderr.splitlines()[-1]
    assert names(tmp_path / "out") == ["a_densities.npz", "a_overlay.mp4"]
    overlay, _ = decode(tmp_path / "out" / "a_overlay.mp4")
    assert len(overlay) == 10 and overlay[0].shape == (*SIZE, 3)
    assert_the_tone(tmp_path / "out" / "a_overlay.mp4", 0.4)


# Runs in a process of its own, since a process tells only its highest memory so far. To be done in
# time, the network is small and sees 64 x 96 pixels of a frame without a proper resize.
MEMORY = """
import json, resource, sys
sys.path.insert(0, "tests")
from pathlib import Path
import torch
from support import TINY
from videos import video_options
from unisal.commands import video_files
from unisal.data.tone_mapping import HLG, PQ
from unisal.data.video_file import VideoFile
from unisal.model import UNISAL
from unisal.predict import Predictor
from unisal.predict.presets import Preset
from unisal.progress import SILENT

torch.set_num_threads(1)
Preset.input_size_for = lambda *_: (64, 96)
prepare = video_files.prepare
video_files.prepare = lambda rgb, size: prepare(rgb[::3, ::3][:64, :96], size)
predictor = Predictor(UNISAL(**TINY), "cpu")
peaks = []
for path in map(Path, sys.argv[1:]):
    options = video_options(out_dir=path.parent / "out", maps="npz")
    with VideoFile(path) as video, SILENT.bar("", "frame") as bar:
        video_files.predict_file(predictor, video, options.outputs(path), options, bar)
    peaks.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)  # MB on Linux
print(json.dumps(peaks))
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="counts memory as Linux does")
def test_memory_does_not_grow_with_the_length(tmp_path):
    size, frames = (240, 320), numbered(60, (240, 320))
    short = write_clip(tmp_path / "short.mp4", frames, sound="aac")
    long = write_clip(tmp_path / "long.mp4", frames * 10, sound="aac")
    done = subprocess.run(
        [sys.executable, "-c", MEMORY, str(short), str(long)],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        timeout=1200,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    peaks = json.loads(done.stdout)
    # 540 densities more would be 158 MB, 540 frames 119 MB.
    assert 540 * size[0] * size[1] * 3 / 2**20 > 100
    assert peaks[1] - peaks[0] < 30, peaks
    densities = np.load(tmp_path / "out" / "long_densities.npz")["densities"]
    assert densities.shape == (600, *size)
