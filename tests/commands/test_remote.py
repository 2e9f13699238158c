"""Inputs and outputs that URLs name: the files of a local run, through a bounded spool."""

from __future__ import annotations

import functools
import http.server
import itertools
import os
import shutil
import threading
import time
from contextlib import suppress
from pathlib import Path

import pytest
from support import call_command, run_command, write_photo, write_run
from videos import numbered, write_clip

from unisal.remote import mirror, places
from unisal.remote.mirror import Courier, SpoolFull, opened_mirror
from unisal.remote.places import Place, Stores

fsspec = pytest.importorskip("fsspec")
COMMON = "--device=cpu", "--train_id=mine_unisal"
numbers = itertools.count()


@pytest.fixture(autouse=True)
def run(tmp_path, monkeypatch):
    """Write a run; name a spool below the test's folder."""
    write_run(tmp_path / "runs" / "mine_unisal")
    monkeypatch.setenv("TRAIN_DIR", str(tmp_path / "runs"))
    monkeypatch.setenv("UNISAL_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr(places, "WAITS", (0.0,))


@pytest.fixture(scope="module")
def object_store():
    """Run a server of object storage; return its URL."""
    server = pytest.importorskip("moto.server").ThreadedMotoServer(port=0)
    pytest.importorskip("s3fs")
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture(params=["memory", "s3", "file"])
def far(request, tmp_path, monkeypatch):
    """Return the URL of a new folder of each kind of place."""
    name = f"bucket{next(numbers)}"
    if request.param == "file":
        (tmp_path / name).mkdir()
        return f"file://{tmp_path}/{name}"
    if request.param == "s3":
        monkeypatch.setenv("AWS_ENDPOINT_URL", request.getfixturevalue("object_store"))
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "mine")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "very-secret")
        monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        fsspec.filesystem("s3", skip_instance_cache=True).mkdir(name)
    return f"{request.param}://{name}"


def upload(folder, url):
    fs, path = fsspec.core.url_to_fs(url)
    for file in folder.rglob("*"):
        if file.is_file():
            at = f"{path}/{file.relative_to(folder).as_posix()}"
            fs.makedirs(at.rpartition("/")[0], exist_ok=True)
            fs.put_file(str(file), at)


def content_of(url):
    """Return all files below a URL, by their names from there."""
    fs, path = fsspec.core.url_to_fs(url)
    fs.invalidate_cache()
    found = fs.find(path)
    return {at.removeprefix(path).strip("/"): fs.cat_file(at) for at in found}


def content(folder):
    files = (p for p in folder.rglob("*") if p.is_file())
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in files}


@pytest.fixture
def pictures(tmp_path):
    """Write a folder of pictures, of which one is damaged and two have names alike."""
    folder = tmp_path / "pictures"
    for i in range(9):
        write_photo(folder / f"{i}.png", seed=i)
    write_photo(folder / "0.bmp", seed=10)
    write_photo(folder / "below" / "a.jpg", seed=11)
    (folder / "damaged.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    return folder


@pytest.fixture
def films(tmp_path):
    folder = tmp_path / "films"
    folder.mkdir()
    for i in range(3):
        write_clip(folder / f"{i}.mp4", numbered(3 + i))
    write_clip(folder / "0.mkv", numbered(2))
    return folder


def test_pictures_elsewhere_get_the_maps_of_those_here(far, pictures, tmp_path, capsys, caplog):
    upload(pictures, far)
    before = content(pictures)
    more = *COMMON, "--overlay=True", "--recursive=True"
    assert call_command("predictions_from_folder", str(pictures), *more) == 1
    capsys.readouterr()
    spool = tmp_path / "spool"
    spool.mkdir()
    assert call_command("predictions_from_folder", far, *more, f"--spool={spool}") == 1
    assert content_of(far) == content(pictures) != before
    said = capsys.readouterr()
    assert f"saliency maps in {far}/saliency, overlays in {far}/overlay" in said.out
    assert f"{far}/damaged.png  is not a picture that can be read" in caplog.text
    assert str(spool) not in said.out + said.err + caplog.text
    assert list(spool.iterdir()) == []


def test_maps_that_are_there_are_left_alone(far, pictures, monkeypatch):
    (pictures / "damaged.png").unlink()
    upload(pictures, far)
    assert call_command("predictions_from_folder", far, *COMMON) == 0
    write_photo(pictures / "5.png", seed=50)
    upload(pictures, far)
    pushed = []
    push = Stores.push

    def noted(self, file, place):
        pushed.append(place.name)
        push(self, file, place)

    monkeypatch.setattr(Stores, "push", noted)
    assert call_command("predictions_from_folder", far, *COMMON) == 0
    assert pushed == [places.PROBE, "5.png"]
    assert call_command("predictions_from_folder", str(pictures), *COMMON) == 0
    assert content_of(far) == content(pictures)


def test_frames_elsewhere_are_a_video(far, tmp_path):
    folder = tmp_path / "frames"
    for i in range(4):
        write_photo(folder / "images" / f"{i}.png", seed=i)
    upload(folder, f"{far}/frames")
    more = *COMMON, "--is_video=True", "--overlay=True"
    for maps in ((), ("--maps=h5",)):
        assert call_command("predictions_from_folder", f"{far}/frames", *more, *maps) == 0
        assert call_command("predictions_from_folder", str(folder), *more, *maps) == 0
        there, here = content_of(f"{far}/frames"), content(folder)
        assert there.keys() == here.keys()
        assert all(there[name] == here[name] for name in here if not name.endswith(".h5"))
    assert "saliency/frames_densities.h5" in here


def test_videos_elsewhere_get_the_files_of_those_here(far, films, capsys, monkeypatch):
    upload(films, far)
    more = *COMMON, "--maps=png", "--features=before_gru"
    assert call_command("predict_video", str(films), *more) == 0
    capsys.readouterr()
    assert call_command("predict_video", far, *more) == 0
    assert content_of(far) == content(films)
    assert f"{far}/0.mkv: {far}/saliency/0.mkv_overlay.mp4, " in capsys.readouterr().out
    pulled = []
    monkeypatch.setattr(Stores, "pull", lambda _, place, *__: pulled.append(place))
    assert call_command("predict_video", far, *more) == 0
    assert pulled == [] and "4 finished before and skipped" in capsys.readouterr().out


def test_a_folder_of_maps_that_is_not_whole_is_written_again(far, films):
    upload(films, far)
    out = f"{far}/out"
    more = *COMMON, "--overlay=False", "--maps=png", f"--out_dir={out}"
    assert call_command("predict_video", f"{far}/2.mp4", *more) == 0
    whole = content_of(out)
    assert sorted(whole) == [f"2_maps/00000{i}.png" for i in range(1, 6)]
    fs, path = fsspec.core.url_to_fs(out)
    fs.rm_file(f"{path}/2_maps/000001.png")  # what comes last
    fs.pipe_file(f"{path}/2_maps/000009.png", b"of a longer film")
    assert call_command("predict_video", f"{far}/2.mp4", *more) == 0
    assert content_of(out) == whole


@pytest.mark.parametrize("there", ["input", "output"])
def test_only_inputs_or_only_outputs_are_elsewhere(far, films, tmp_path, there):
    upload(films, far)
    out = str(tmp_path / "out") if there == "input" else f"{far}/out"
    given = f"{far}/*.mp4" if there == "input" else str(films / "*.mp4")
    assert call_command("predict_video", given, *COMMON, f"--out_dir={out}") == 0
    (films / "0.mkv").unlink()
    made = content(tmp_path / "out") if there == "input" else content_of(out)
    assert sorted(made) == ["0.mp4_overlay.mp4", "1_overlay.mp4", "2_overlay.mp4"]


def test_a_list_may_name_urls(far, films, tmp_path):
    upload(films, far)
    path = tmp_path / "list.txt"
    path.write_text(f"{far}/1.mp4\n{far}/none.mp4\nfilms/2.mp4\n")
    more = *COMMON, f"--out_dir={tmp_path / 'out'}"
    assert call_command("predict_video", f"--files={path}", *more) in (1, 2)
    path.write_text(f"{far}/1.mp4\nfilms/2.mp4\n")
    assert call_command("predict_video", f"--files={path}", *more) == 0
    assert sorted(content(tmp_path / "out")) == ["1_overlay.mp4", "2_overlay.mp4"]


def largest(folder, condition):
    """Return the most bytes that a folder held while a condition was true."""
    most = 0
    while condition():
        total = 0
        for place, _, names in os.walk(folder):
            for name in names:
                with suppress(FileNotFoundError):
                    total += (Path(place) / name).stat().st_size
        most = max(most, total)
        time.sleep(0.001)
    return most


def test_the_spool_is_bounded(tmp_path, caplog):
    """Of many pictures only a few are here at a time, and one that is too large is said to be."""
    folder, far, spool = tmp_path / "many", f"memory://many{next(numbers)}", tmp_path / "spool"
    for i in range(40):
        write_photo(folder / f"{i}.bmp", (100, 150), seed=i)  # 45 kB
    write_photo(folder / "large.bmp", (1000, 1500))
    upload(folder, far)
    spool.mkdir()
    found = []
    done = threading.Event()
    watcher = threading.Thread(
        target=lambda: found.append(largest(spool, lambda: not done.is_set()))
    )
    watcher.start()
    bound = 1_000_000  # of 1.8 MB, and 4.5 MB of the large one
    words = *COMMON, f"--spool={spool}", f"--spool_gb={bound / 1e9}"
    assert call_command("predictions_from_folder", far, *words) == 1
    done.set()
    watcher.join()
    assert 45_000 < found[0] <= bound
    maps = [name for name in content_of(far) if name.startswith("saliency/")]
    assert len(maps) == 40
    assert f"{far}/large.bmp  does not fit into the spool (500 kB): --spool_gb" in caplog.text


def test_outputs_that_take_too_much_room_end_their_task(tmp_path):
    with opened_mirror(tmp_path, 1000) as made:
        out = made.add_output(f"memory://room{next(numbers)}")
        output = out / "a.h5"
        said = r"1\.2 kB, and the spool has room for 1 kB: --spool_gb"
        with made.courier.carried([], [output]) as load:
            out.mkdir(parents=True)
            (out / ".a-1234.h5").write_bytes(bytes(700))  # on its way to `a.h5`
            load.check_room()
            output.write_bytes(bytes(500))
            with pytest.raises(SpoolFull, match=said):
                load.check_room()
            output.unlink()
        (out / ".a-1234.h5").unlink()
    assert [path.name for path in tmp_path.iterdir()] == ["runs"]


def test_a_video_whose_densities_take_too_much_room_is_ended(films, monkeypatch, capsys):
    url = f"memory://much{next(numbers)}"
    write_clip(films / "3.mp4", numbered(40))
    upload(films, url)
    before = content_of(url)
    monkeypatch.setattr(mirror, "LOOK_SECONDS", 0)
    words = *COMMON, "--maps=h5", "--overlay=False", "--spool_gb=0.0006"
    assert call_command("predict_video", f"{url}/3.mp4", *words) == 2
    assert "and the spool has room for 300 kB: --spool_gb" in capsys.readouterr().err
    assert content_of(url) == before


class Handler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


@pytest.fixture
def web(films):
    """Serve the films; return the URL."""
    handler = functools.partial(Handler, directory=str(films))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_files_on_the_web_are_read(web, films, tmp_path, capsys):
    pytest.importorskip("aiohttp")
    out = f"--out_dir={tmp_path / 'out'}"
    assert call_command("predict_video", f"{web}/1.mp4?key=secret", *COMMON, out) == 0
    assert "secret" not in capsys.readouterr().out
    assert call_command("predict_video", str(films / "1.mp4"), *COMMON) == 0
    assert content(tmp_path / "out") == content(films / "saliency")
    assert call_command("predict_video", f"{web}/", *COMMON, out) == 0
    assert len(content(tmp_path / "out")) == 4
    capsys.readouterr()
    assert call_command("predict_video", f"{web}/1.mp4?key=secret", *COMMON) == 2
    said = capsys.readouterr().err
    assert "which can only be read; name a place to write to with --out_dir" in said
    assert call_command("predict_video", f"{web}/none.mp4?key=secret", *COMMON, out) == 2
    said += capsys.readouterr().err
    assert f"{web}/none.mp4 does not exist" in said and "secret" not in said


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["memory://none/at/all.mp4"], "memory://none/at/all.mp4 does not exist"),
        (["odd://a/b.mp4"], "odd://a/b.mp4: fsspec knows no places that begin with odd://"),
        (["rtsp://me:secret@host/a"], "rtsp://host/a is a stream; the command for it is predict_c"),
        (["memory://a/../b.mp4"], "has a part that is no name"),
        (["memory://none/*.mp4"], "memory://none/*.mp4"),
        (["a.mp4", "--spool=here"], "spool and spool_gb are for files that URLs name"),
        (["memory://a.mp4", "--spool_gb=0"], "spool_gb is 0"),
        (["memory://a.mp4", "--out_dir=https://a.org/out"], "can only be read"),
    ],
)
def test_mistakes_are_said_before_any_work(words, said, capsys):
    memory = fsspec.filesystem("memory")
    memory.pipe_file("/a.mp4", b"")
    assert call_command("predict_video", *words, *COMMON) == 2
    line = capsys.readouterr().err
    assert said in line and "secret" not in line and line.count("\n") == 1


def test_what_fails_for_a_while_is_tried_again(tmp_path, monkeypatch):
    memory, url = fsspec.filesystem("memory"), f"memory://again{next(numbers)}/a"
    memory.pipe_file(url, b"content")
    failures = [OSError("a cable"), TimeoutError()]
    get = type(memory).get_file

    def failing(self, *args, **kwargs):
        if failures:
            raise failures.pop()
        return get(self, *args, **kwargs)

    monkeypatch.setattr(type(memory), "get_file", failing)
    monkeypatch.setattr(places, "WAITS", (0.0, 0.0))
    Stores().pull(Place(url), tmp_path / "a", 100)
    assert (tmp_path / "a").read_bytes() == b"content" and failures == []
    failures += [OSError("a cable")] * 3
    with pytest.raises(places.UserError, match=r"again.*/a cannot be read: a cable"):
        Stores().pull(Place(url), tmp_path / "a", 100)


def test_what_cannot_be_pushed_leaves_nothing_of_its_name(tmp_path, monkeypatch):
    memory, url = fsspec.filesystem("memory"), f"memory://push{next(numbers)}"
    (tmp_path / "a").write_bytes(b"new")

    def failing(*_, **__):
        raise OSError("a cable")

    monkeypatch.setattr(type(memory), "mv", failing)
    with pytest.raises(places.UserError, match="/a cannot be written: a cable"):
        Stores().push(tmp_path / "a", Place(f"{url}/a"))
    assert not memory.exists(f"{url}/a")


def test_a_mirror_says_urls(tmp_path):
    memory = fsspec.filesystem("memory")
    url = f"memory://said{next(numbers)}/a b"
    memory.pipe_file(f"{url}/1.mp4", b"")
    with opened_mirror(tmp_path, 1000) as made:
        (folder,) = made.add(url, False)
        assert [p.name for p in folder.iterdir()] == ["1.mp4"]
        assert made.courier.named(f"{folder / '1.mp4'}: x") == f"{url}/1.mp4: x"
        assert made.courier.place_of(folder / "1.mp4") == Place(f"{url}/1.mp4")
        assert made.courier.place_of(tmp_path) is None
        assert "secret" not in repr(Courier(tmp_path, {tmp_path: "ftp://a:secret@b"}, 1))


@pytest.mark.slow
def test_workers_bring_files_themselves(films, tmp_path):
    pytest.importorskip("ray")
    far = tmp_path / "far"
    shutil.copytree(films, far)
    (far / "damaged.mp4").write_bytes(b"no film")
    url = f"file://{far}"
    done = run_command("predict_video", url, *COMMON, "--workers=2", f"--spool={tmp_path}")
    assert done.returncode == 1 and f"  {url}/damaged.mp4  cannot be read as" in done.stderr
    assert call_command("predict_video", str(films), *COMMON) == 0
    (far / "damaged.mp4").unlink()
    assert content(far) == content(films)
    assert [p for p in tmp_path.iterdir() if p.name.startswith(".")] == []


@pytest.mark.slow
def test_a_process_reads_and_writes_an_object_store(object_store, pictures):
    env = {
        "AWS_ENDPOINT_URL": object_store,
        "AWS_ACCESS_KEY_ID": "mine",
        "AWS_SECRET_ACCESS_KEY": "very-secret",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    name = f"bucket{next(numbers)}"
    with pytest.MonkeyPatch.context() as patch:
        for key, value in env.items():
            patch.setenv(key, value)
        fsspec.filesystem("s3", skip_instance_cache=True).mkdir(name)
        upload(pictures, f"s3://{name}/a")
        done = run_command("predictions_from_folder", f"s3://{name}/a", *COMMON, env=env)
        assert done.returncode == 1 and "damaged.png" in done.stderr
        assert "very-secret" not in done.stdout + done.stderr
        assert call_command("predictions_from_folder", str(pictures), *COMMON) == 1
        assert content_of(f"s3://{name}/a") == content(pictures)
