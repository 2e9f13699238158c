"""DHF1K's official download becomes frames: every pixel, every count, every fault."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time

import av
import numpy as np
import pytest
from PIL import Image
from support import PROJECT, photo, run_command

from unisal.commands import prepare_dhf1k
from unisal.commands.prepare_dhf1k import find_videos
from unisal.data import DHF1KDataset
from unisal.errors import SomeFailed, UserError

SIZE = (36, 64)


def frames_of(n, seed=0, size=SIZE):
    """Return `n` pictures that tell their number by their first pixel."""
    picture = photo(size, seed)
    frames = []
    for i in range(n):
        frames.append(np.roll(picture, i, axis=1))
        frames[-1][0, 0] = (i + 1, seed, 0)
    return frames


def write_avi(path, frames, codec="rawvideo", pix_fmt="bgr24"):
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w", format="avi") as container:
        stream = container.add_stream(codec, rate=30)
        stream.height, stream.width, stream.pix_fmt = *frames[0].shape[:2], pix_fmt
        for rgb in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(rgb, "rgb24")))
        container.mux(stream.encode())


def write_gaze(root, number, n, n_fixations=None):
    for kind, count in (("maps", n), ("fixation", n if n_fixations is None else n_fixations)):
        folder = root / "annotation" / f"{number:04d}" / kind
        folder.mkdir(parents=True, exist_ok=True)
        for i in range(1, count + 1):
            grey = np.zeros(SIZE, np.uint8)
            grey[i % SIZE[0], i % SIZE[1]] = 255
            Image.fromarray(grey).save(folder / f"{i:04d}.png")


def write_download(root, lengths, **options):
    """`{number: frames}` as in the official download: those to 700 have maps."""
    for number, n in lengths.items():
        write_avi(root / "video" / f"{number:03d}.AVI", frames_of(n, number % 256), **options)
        if number <= 700:
            write_gaze(root, number, n)


def prepare(folder=None, tolerance=5):
    prepare_dhf1k.prepare_dhf1k(folder=folder, tolerance=tolerance)


def images(root, number):
    return root / "annotation" / f"{number:04d}" / "images"


def names(folder):
    return sorted(p.name for p in folder.iterdir())


def state(root):
    """Return every file with its content and time, so that whatever is written again is noticed."""
    files = (p for p in root.rglob("*") if p.is_file())
    return {p: (p.read_bytes(), p.stat().st_mtime_ns) for p in files}


# ---- frames -------------------------------------------------------------------------------


def test_frames_are_those_of_the_video_without_loss(tmp_path, capsys):
    write_download(tmp_path, {1: 4, 601: 3, 701: 2})
    prepare(tmp_path)
    for number, n in {1: 4, 601: 3, 701: 2}.items():
        assert names(images(tmp_path, number)) == [f"{i:04d}.png" for i in range(1, n + 1)]
        for i, expected in enumerate(frames_of(n, number % 256), 1):
            written = Image.open(images(tmp_path, number) / f"{i:04d}.png")
            assert (written.format, written.mode) == ("PNG", "RGB")
            np.testing.assert_array_equal(np.asarray(written), expected)
    assert "3 videos have their frames" in capsys.readouterr().out
    assert not list(tmp_path.rglob(".*"))


def test_the_result_is_what_the_dataset_reads(tmp_path, monkeypatch):
    write_download(tmp_path, {1: 4, 601: 3, 701: 2})
    prepare(tmp_path)
    monkeypatch.setenv("DHF1K_DATA_DIR", str(tmp_path))
    for phase, name, n in (("train", "0001", 4), ("eval", "0601", 3), ("test", "0701", 2)):
        (video,) = DHF1KDataset(phase, seq_len=2, frame_modulo=1).videos
        assert (video.name, video.n_frames, video.frame_size) == (name, n, SIZE)


@pytest.mark.parametrize("codec", ["mpeg4", "mjpeg"])
def test_compressed_videos_are_decoded_frame_by_frame(tmp_path, codec):
    pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
    path = tmp_path / "video" / "702.AVI"
    write_avi(path, frames_of(9), codec, pix_fmt)
    with av.open(str(path)) as container:
        expected = [f.to_ndarray(format="rgb24") for f in container.decode(video=0)]
    assert len(expected) == 9
    prepare(tmp_path)
    for i, rgb in enumerate(expected, 1):
        written = np.asarray(Image.open(images(tmp_path, 702) / f"{i:04d}.png"))
        np.testing.assert_array_equal(written, rgb)


def test_names_of_videos_in_any_case(tmp_path):
    for name in ("001.AVI", "002.avi", "3.Avi", "1000.AVI"):
        write_avi(tmp_path / "video" / name, frames_of(1))
    for name in ("readme.txt", "a001.AVI", "001.AVI.part", ".004.AVI"):
        (tmp_path / "video" / name).write_text("")
    found = {number: path.name for number, path in find_videos(tmp_path).items()}
    assert found == {1: "001.AVI", 2: "002.avi", 3: "3.Avi", 1000: "1000.AVI"}
    shutil.copy(tmp_path / "video" / "001.AVI", tmp_path / "video" / "01.avi")
    with pytest.raises(UserError, match=r"001\.AVI.*01\.avi"):
        find_videos(tmp_path)


# ---- counts -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("n_frames", "n_maps", "n_fixations", "kept"),
    [(6, 4, 4, 4), (4, 6, 6, 4), (5, 5, 4, 4), (4, 5, 6, 4)],
)
def test_counts_that_differ_are_named_and_then_agree(
    tmp_path, caplog, n_frames, n_maps, n_fixations, kept
):
    write_avi(tmp_path / "video" / "005.AVI", frames_of(n_frames))
    write_gaze(tmp_path, 5, n_maps, n_fixations)
    folder = tmp_path / "annotation" / "0005"
    before = {p: p.read_bytes() for p in folder.rglob("*.png")}
    prepare(tmp_path)
    (said,) = [r.getMessage() for r in caplog.records]
    assert "005.AVI" in said and f"{n_frames} frames" in said and f"{n_maps} maps" in said
    assert f"the first {kept} are kept" in said
    for kind in ("images", "maps", "fixation"):
        assert names(folder / kind) == [f"{i:04d}.png" for i in range(1, kept + 1)]
    for path, content in before.items():  # what has no frame is kept aside
        aside = folder / "surplus" / path.parent.name / path.name
        assert (path if path.exists() else aside).read_bytes() == content
    done = state(tmp_path)
    prepare(tmp_path)
    assert state(tmp_path) == done


@pytest.mark.parametrize(("n_frames", "n_maps"), [(4, 7), (7, 4)])
def test_counts_that_differ_by_too_much_are_refused(tmp_path, caplog, n_frames, n_maps):
    write_download(tmp_path, {4: 2})
    write_avi(tmp_path / "video" / "005.AVI", frames_of(n_frames))
    write_gaze(tmp_path, 5, n_maps)
    with pytest.raises(SomeFailed, match=r"1 not done: 005\.AVI"):
        prepare(tmp_path, tolerance=2)
    assert f"{n_frames} frames" in caplog.text and f"{n_maps} maps" in caplog.text
    assert names(tmp_path / "annotation" / "0005") == ["fixation", "maps"]
    assert len(names(images(tmp_path, 4))) == 2
    prepare(tmp_path, tolerance=3)
    assert len(names(images(tmp_path, 5))) == 4


# ---- faults -------------------------------------------------------------------------------


def cut(path):
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


FAULTS = {
    "no video": lambda root: (root / "video" / "002.AVI").write_text("no video"),
    "an empty file": lambda root: (root / "video" / "002.AVI").write_bytes(b""),
    "cut off": lambda root: cut(root / "video" / "002.AVI"),
    "cut off, no maps needed": lambda root: (
        cut(root / "video" / "002.AVI"),
        shutil.move(root / "video" / "002.AVI", root / "video" / "702.AVI"),
        shutil.rmtree(root / "annotation" / "0002"),
    ),
    "no maps": lambda root: shutil.rmtree(root / "annotation" / "0002"),
    "no fixations": lambda root: shutil.rmtree(root / "annotation" / "0002" / "fixation"),
    "a map missing": lambda root: (root / "annotation" / "0002" / "maps" / "0003.png").unlink(),
    "frames of another number": lambda root: (
        images(root, 2).mkdir(),
        Image.fromarray(frames_of(1)[0]).save(images(root, 2) / "0001.png"),
    ),
    "video missing": lambda root: (root / "video" / "002.AVI").unlink(),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_faulty_video_is_named_and_the_others_are_done(tmp_path, caplog, fault):
    write_download(tmp_path, {1: 3, 2: 30, 3: 3})
    FAULTS[fault](tmp_path)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(SomeFailed, match=r"1 not done: .*02"):
        prepare(tmp_path)
    (said,) = [r.getMessage() for r in caplog.records]
    assert "02" in said
    written = set(tmp_path.rglob("*")) - set(before)
    assert {p.relative_to(tmp_path).parts[1] for p in written} == {"0001", "0003"}
    assert [len(names(images(tmp_path, n))) for n in (1, 3)] == [3, 3]


def test_a_folder_without_videos_is_refused(tmp_path, monkeypatch):
    with pytest.raises(UserError, match=r"video holds no videos; expected NNN\.AVI"):
        prepare(tmp_path)
    monkeypatch.setenv("DHF1K_DATA_DIR", str(tmp_path / "nowhere"))
    with pytest.raises(UserError, match="nowhere does not exist"):
        prepare()
    assert not list(tmp_path.iterdir())


# ---- as a process -------------------------------------------------------------------------


@pytest.mark.slow
def test_the_command(tmp_path, monkeypatch, capsys):
    write_download(tmp_path, {1: 3, 2: 3, 701: 2})
    (tmp_path / "video" / "002.AVI").write_text("no video")
    done = run_command("prepare_dhf1k", f"--dhf1k_dir={tmp_path}")
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "002.AVI" in done.stderr.splitlines()[-1]
    assert "2 videos have their frames" in done.stdout
    before = state(tmp_path)

    write_avi(tmp_path / "video" / "002.AVI", frames_of(3))
    monkeypatch.setenv("DHF1K_DATA_DIR", str(tmp_path))
    prepare()
    out = capsys.readouterr().out
    assert "3 videos have their frames" in out and "2 already had them" in out
    after = state(tmp_path)
    assert {p: v for p, v in after.items() if p in before and p.name != "002.AVI"} == {
        p: v for p, v in before.items() if p.name != "002.AVI"
    }
    assert len(names(images(tmp_path, 2))) == 3


def stop_amidst_the_second_video(root, how):
    """Run the command and stop it -> what it says."""
    process = subprocess.Popen(
        [sys.executable, str(PROJECT / "run.py"), "prepare_dhf1k", str(root)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # A shell that runs the tests in the background makes their children ignore SIGINT.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    try:
        until = time.monotonic() + 120
        while not list((root / "annotation" / "0002").glob(".images-*/0003.png")):
            assert process.poll() is None and time.monotonic() < until
            time.sleep(0.002)
        assert not images(root, 2).exists()
        process.send_signal(how)
        _, err = process.communicate(timeout=60)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == (130 if how == signal.SIGINT else -how)
    return err


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="signals are those of POSIX")
def test_a_run_that_is_stopped_is_finished_by_the_same_call(tmp_path, capsys):
    write_download(tmp_path, {1: 3, 3: 3})
    write_avi(tmp_path / "video" / "002.AVI", frames_of(24, 2, (360, 640)), "mpeg4", "yuv420p")
    write_gaze(tmp_path, 2, 24)
    folder = tmp_path / "annotation" / "0002"

    assert stop_amidst_the_second_video(tmp_path, signal.SIGINT) == "run.py: interrupted\n"
    assert names(folder) == ["fixation", "maps"]
    first = state(images(tmp_path, 1))
    assert len(first) == 3

    stop_amidst_the_second_video(tmp_path, signal.SIGKILL)
    assert not images(tmp_path, 2).exists()

    prepare(tmp_path)
    out = capsys.readouterr().out
    assert "3 videos have their frames" in out and "1 already had them" in out
    assert state(images(tmp_path, 1)) == first
    assert [len(names(images(tmp_path, n))) for n in (1, 2, 3)] == [3, 24, 3]
    assert names(folder) == ["fixation", "images", "maps"]
