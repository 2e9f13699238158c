"""The download of the official weights, against a web server on this machine."""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
import socket
import subprocess
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import torch
from support import run_command, write_run

from unisal.commands import download
from unisal.commands.download import BLOB_IDS, download_weights, git_blob_id
from unisal.config import find_weights
from unisal.errors import UserError
from unisal.predict.loading import load_model

BEST, TUNED, CONFIG = "weights_best.pth", "weights_ft_mit1003.pth", "UNISAL.json"
OPTIONAL = (
    "Trainer.json",
    "DHF1KDataset.json",
    "HollywoodDataset.json",
    "UCFSportsDataset.json",
    "SALICONDataset.json",
)
CONTENTS = {
    BEST: bytes(range(256)) * 600,  # more than two chunks
    TUNED: b"tuned" * 1000,
    CONFIG: b'{"verbose": 1}',
    **{name: json.dumps({"of": name}).encode() for name in OPTIONAL},
}
PATH = "/some/where/"


def plain_blob_id(content):
    return hashlib.sha1(b"blob " + str(len(content)).encode() + b"\0" + content).hexdigest()


class Server:
    """Serves `contents` under `url`; `faults` names what goes wrong with a file."""

    def __init__(self):
        self.contents = dict(CONTENTS)
        self.faults = {}
        self.requests = []
        self.released = threading.Event()  # ends what stalls
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                outer.requests.append(self.path.rsplit("/", 1)[-1])
                outer.answer(self)

            def log_message(self, *_):
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.thread = threading.Thread(target=self.http.serve_forever, args=(0.01,), daemon=True)
        self.thread.start()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.http.server_port}{PATH}"

    def answer(self, request):
        name = request.path.removeprefix(PATH)
        content, fault = self.contents.get(name), self.faults.get(name)
        if fault == "no answer":
            self.released.wait(10)
            return
        if content is None or isinstance(fault, int):
            request.send_error(fault or 404)
            return
        content = {
            "other content": content[::-1],  # of the same length
            "web page": b"<html>sorry</html>",
            "empty": b"",
        }.get(fault, content)
        half = content[: len(content) // 2]
        request.send_response(200)
        if fault not in ("no length", "cut without length"):
            request.send_header("Content-Length", str(len(content)))
        request.end_headers()
        if fault in ("cut", "cut without length", "stall"):
            request.wfile.write(half)
            if fault == "stall":
                request.wfile.flush()
                self.released.wait(10)
        else:
            request.wfile.write(content)

    def close(self):
        self.released.set()
        self.http.shutdown()
        self.http.server_close()
        self.thread.join()


@pytest.fixture
def server(monkeypatch):
    """Return a server of made-up files, whose contents count as the published ones."""
    for variable in ("no_proxy", "NO_PROXY"):  # this machine is not behind a proxy
        monkeypatch.setenv(variable, "*")
    monkeypatch.setattr(
        download, "BLOB_IDS", {name: plain_blob_id(CONTENTS[name]) for name in (BEST, TUNED)}
    )
    server = Server()
    yield server
    server.close()


@pytest.fixture
def unreachable(monkeypatch):
    """Return an address where nobody listens."""
    monkeypatch.setenv("no_proxy", "*")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    return f"http://127.0.0.1:{port}/"


def files(folder):
    """Return the content of every file in a folder, hidden ones too."""
    return {p.name: p.read_bytes() for p in folder.iterdir()} if folder.exists() else {}


def refused(server, folder):
    with pytest.raises(UserError) as error:
        download_weights(base_url=server.url, folder=folder)
    assert len(str(error.value).splitlines()) == 1
    return str(error.value)


# ---- what arrives -------------------------------------------------------------------------


def test_everything_arrives_unchanged_in_the_runs_folder(server, tmp_path, monkeypatch, capfd):
    monkeypatch.setenv("TRAIN_DIR", str(tmp_path / "runs"))
    assert (
        download_weights(base_url=server.url, folder=None) == tmp_path / "runs" / "official_unisal"
    )
    assert files(tmp_path / "runs" / "official_unisal") == CONTENTS
    assert capfd.readouterr() == ("", "")  # no progress bar where nobody watches


@pytest.mark.parametrize("ending", ["", "/", "//"])
def test_the_address_may_end_with_a_slash(server, tmp_path, ending):
    download_weights(base_url=server.url.rstrip("/") + ending, folder=tmp_path)
    assert files(tmp_path) == CONTENTS


def test_a_server_that_tells_no_length_will_do(server, tmp_path):
    server.faults = dict.fromkeys(CONTENTS, "no length")
    download_weights(base_url=server.url, folder=tmp_path)
    assert files(tmp_path) == CONTENTS


@pytest.mark.parametrize("tells_length", [True, False])
def test_a_progress_bar_counts_every_byte_of_every_file(
    server, tmp_path, monkeypatch, tells_length
):
    bars = []

    class Bar:
        def __init__(self, total, desc, **_):
            self.total, self.title, self.counts = total, desc, []
            self.closed = False
            bars.append(self)

        def __enter__(self):
            return self

        def __exit__(self, *_):
            self.closed = True

        def update(self, n):
            self.counts.append(n)

    monkeypatch.setattr(download, "tqdm", Bar)
    if not tells_length:
        server.faults = dict.fromkeys(CONTENTS, "no length")
    download_weights(base_url=server.url, folder=tmp_path)
    assert [bar.title for bar in bars] == list(CONTENTS)
    for bar in bars:
        size = len(CONTENTS[bar.title])
        assert (sum(bar.counts), bar.closed) == (size, True)
        assert bar.total == (size if tells_length else None)
    assert len(bars[0].counts) > 2  # it moves on the way


def test_nothing_has_its_name_before_it_is_whole_and_checked(server, tmp_path, monkeypatch):
    seen = []

    def check(file, name):
        assert not (tmp_path / name).exists()
        assert file.parent == tmp_path  # so that giving it its name is one step
        assert file.read_bytes() == CONTENTS[name]
        seen.append(name)

    for checker in ("_check_blob", "_check_json"):
        monkeypatch.setattr(download, checker, check)
    download_weights(base_url=server.url, folder=tmp_path)
    assert seen == list(CONTENTS)


def test_what_arrives_can_be_predicted_with(server, tmp_path, monkeypatch):
    monkeypatch.setenv("TRAIN_DIR", str(tmp_path))
    expected = write_run(tmp_path / "origin")
    shutil.copy(tmp_path / "origin" / BEST, tmp_path / "origin" / TUNED)
    server.contents.update(files(tmp_path / "origin"))
    ids = {name: plain_blob_id(server.contents[name]) for name in (BEST, TUNED)}
    monkeypatch.setattr(download, "BLOB_IDS", ids)
    folder = download_weights(base_url=server.url, folder=None)
    state = load_model("official_unisal").state_dict()
    assert all(torch.equal(state[k], v) for k, v in expected.state_dict().items())
    assert find_weights("official_unisal", fine_tuned=True) == folder / TUNED


# ---- what is there already ----------------------------------------------------------------


def test_what_is_there_and_intact_is_not_fetched_again(server, tmp_path):
    download_weights(base_url=server.url, folder=tmp_path)
    times = {p.name: p.stat().st_mtime_ns for p in tmp_path.iterdir()}
    server.requests.clear()
    download_weights(base_url=server.url, folder=tmp_path)
    assert server.requests == []  # so it also works without a network
    assert {p.name: p.stat().st_mtime_ns for p in tmp_path.iterdir()} == times
    assert files(tmp_path) == CONTENTS


@pytest.mark.parametrize("damage", ["truncated", "one bit", "empty"])
def test_damaged_weights_are_replaced_by_good_ones(server, tmp_path, damage):
    good = CONTENTS[BEST]
    damaged = {"truncated": good[:-1], "one bit": b"\x01" + good[1:], "empty": b""}[damage]
    (tmp_path / BEST).write_bytes(damaged)
    (tmp_path / TUNED).write_bytes(CONTENTS[TUNED])
    download_weights(base_url=server.url, folder=tmp_path)
    assert files(tmp_path) == CONTENTS
    assert server.requests[0] == BEST
    assert TUNED not in server.requests


@pytest.mark.parametrize("fault", ["other content", "cut", 404])
@pytest.mark.parametrize("name", [BEST, TUNED, CONFIG])
def test_what_was_there_stays_when_nothing_better_comes(server, tmp_path, name, fault):
    (tmp_path / name).write_bytes(b"damaged")
    server.faults[name] = fault
    refused(server, tmp_path)
    assert files(tmp_path)[name] == b"damaged"
    server.faults.clear()
    download_weights(base_url=server.url, folder=tmp_path)
    assert files(tmp_path) == CONTENTS


# ---- what goes wrong ----------------------------------------------------------------------

FAULTS = [
    *[(BEST, "other content"), (TUNED, "web page"), (BEST, "empty"), (CONFIG, "web page")],
    *[(CONFIG, "empty"), (OPTIONAL[1], "web page"), (BEST, "cut"), (TUNED, "cut"), (CONFIG, "cut")],
    *[(OPTIONAL[0], "cut"), (BEST, "cut without length"), (CONFIG, "cut without length")],
    *[(BEST, 404), (TUNED, 404), (CONFIG, 404), (BEST, 500), (BEST, 403), (OPTIONAL[0], 503)],
    *[(BEST, "stall"), (CONFIG, "stall"), (BEST, "no answer")],
]


@pytest.mark.parametrize(("name", "fault"), FAULTS)
def test_a_failed_download_is_told_and_leaves_nothing(server, tmp_path, monkeypatch, name, fault):
    monkeypatch.setattr(download, "TIMEOUT_SECONDS", 0.2)
    server.faults[name] = fault
    message = refused(server, tmp_path)
    assert name in message
    if isinstance(fault, int):
        assert f"{server.url}{name}: the server answered {fault}" in message
    elif name in (BEST, TUNED) and fault not in ("cut", "stall", "no answer"):
        sent = {
            "other content": CONTENTS[name][::-1],
            "web page": b"<html>sorry</html>",
            "empty": b"",
            "cut without length": CONTENTS[name][: len(CONTENTS[name]) // 2],
        }[fault]
        assert f"git blob id is {plain_blob_id(sent)}" in message
        assert f"expected {plain_blob_id(CONTENTS[name])}" in message
    elif fault in ("web page", "empty", "cut without length"):
        assert f"{name} as received is not JSON" in message
    else:
        assert f"{server.url}{name} cannot be fetched" in message
        assert str(tmp_path) in message
        assert "timed out" in message or fault == "cut"
    # What came before it is whole, and no temporary file is left.
    before = list(CONTENTS)[: list(CONTENTS).index(name)]
    assert files(tmp_path) == {other: CONTENTS[other] for other in before}


def test_a_cut_connection_tells_how_much_came(server, tmp_path):
    server.faults[BEST] = "cut"
    size = len(CONTENTS[BEST])
    message = refused(server, tmp_path)
    assert str(size // 2) in message
    assert f"{size}" in message or f"{size - size // 2}" in message


def test_a_server_that_stalls_is_given_up_in_time(server, tmp_path, monkeypatch):
    monkeypatch.setattr(download, "TIMEOUT_SECONDS", 0.2)
    server.faults[BEST] = "stall"
    start = time.monotonic()
    refused(server, tmp_path)
    assert time.monotonic() - start < 5


@pytest.mark.parametrize("missing", [OPTIONAL[:1], OPTIONAL], ids=["one", "all"])
def test_a_missing_record_is_only_a_warning(server, tmp_path, caplog, missing):
    for name in missing:
        del server.contents[name]
    with caplog.at_level(logging.WARNING):
        assert download_weights(base_url=server.url, folder=tmp_path) == tmp_path
    assert files(tmp_path) == {k: v for k, v in CONTENTS.items() if k not in missing}
    assert len(caplog.messages) == len(missing)
    for name, message in zip(missing, caplog.messages, strict=True):
        assert f"{server.url}{name}" in message
        assert "404" in message
        assert "not needed for prediction" in message


def test_an_interrupted_download_leaves_nothing(server, tmp_path, monkeypatch):
    class Bar(download.tqdm):
        def update(self, _n=1):
            raise KeyboardInterrupt

    monkeypatch.setattr(download, "tqdm", Bar)
    with pytest.raises(KeyboardInterrupt):
        download_weights(base_url=server.url, folder=tmp_path)
    assert files(tmp_path) == {}


def test_without_network_nothing_is_left(unreachable, tmp_path):
    with pytest.raises(UserError, match=r"cannot be fetched.*refused") as error:
        download_weights(base_url=unreachable, folder=tmp_path / "official")
    assert f"{unreachable}{BEST}" in str(error.value)
    assert f"put the file into {tmp_path / 'official'}" in str(error.value)
    assert files(tmp_path / "official") == {}


@pytest.mark.parametrize(
    "url", ["mirror", "", "http://", "http://[::1", "http://127.0.0.1:port/", "x://y/", 5, True]
)
def test_an_address_that_is_none_is_refused_and_quoted(tmp_path, url):
    with pytest.raises(UserError, match="cannot be fetched") as error:
        download_weights(base_url=url, folder=tmp_path)
    assert str(error.value).startswith(f"{str(url).rstrip('/')}/{BEST} ")
    assert files(tmp_path) == {}


def test_a_folder_that_cannot_be_made_is_named(server, tmp_path):
    (tmp_path / "file").write_text("in the way")
    message = refused(server, tmp_path / "file" / "official")
    assert message.startswith(f"{tmp_path / 'file' / 'official' / BEST} cannot be written")
    assert files(tmp_path) == {"file": b"in the way"}


# ---- git's ids ----------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 1, 1000, download.CHUNK_BYTES, 2 * download.CHUNK_BYTES + 1])
def test_the_id_is_that_of_git(tmp_path, size):
    content = bytes(i * 7 % 251 for i in range(size))
    (tmp_path / "file").write_bytes(content)
    assert git_blob_id(tmp_path / "file") == plain_blob_id(content)
    if git := shutil.which("git"):
        told = subprocess.run(
            [git, "hash-object", "--stdin"], input=content, capture_output=True, check=True
        )
        assert git_blob_id(tmp_path / "file") == told.stdout.decode().strip()


def test_known_ids(tmp_path):
    for content, blob_id in (
        (b"", "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391"),
        (b"hello\n", "ce013625030ba8dba906f756967f9e9ca394464a"),
    ):
        (tmp_path / "file").write_bytes(content)
        assert git_blob_id(tmp_path / "file") == blob_id


def test_both_official_weights_have_an_id():
    assert list(BLOB_IDS) == [BEST, TUNED]
    assert all(len(i) == 40 and int(i, 16) for i in BLOB_IDS.values())


# ---- as a process -------------------------------------------------------------------------


def run_download(url, runs):
    env = {"TRAIN_DIR": str(runs), "no_proxy": "*", "NO_PROXY": "*"}
    return run_command("download_weights", f"--base_url={url}", env=env)


def assert_one_line(done, *words):
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith("run.py: ")
    for word in words:
        assert word in line


@pytest.mark.slow
def test_other_weights_as_a_process(server, tmp_path):
    done = run_download(server.url, tmp_path)  # here the published ids hold
    assert_one_line(done, BEST, plain_blob_id(CONTENTS[BEST]), BLOB_IDS[BEST])
    assert server.requests == [BEST]
    assert files(tmp_path / "official_unisal") == {}


@pytest.mark.slow
def test_no_network_as_a_process(unreachable, tmp_path):
    done = run_download(unreachable, tmp_path)
    assert_one_line(done, f"{unreachable}{BEST} cannot be fetched", str(tmp_path))
    assert files(tmp_path / "official_unisal") == {}
