"""Download of the official weights: a file gets its name only once it is verified."""

from __future__ import annotations

import hashlib
import json
import logging
import urllib.error
import urllib.request
from collections.abc import Callable
from http.client import HTTPException
from pathlib import Path

from tqdm import tqdm

from unisal.config import train_dir
from unisal.errors import UserError
from unisal.files import (
    is_place_error,
    remove_leftovers,
    require_writable_file,
    said_reason,
    write_atomically,
)

OFFICIAL = "official_unisal"
"""The name of their run."""
BASE_URL = (
    "https://github.com/rdroste/unisal/raw/"
    "0440df77f6fb4c93bb6f5ba1aa8cf543061ffc56/training_runs/pretrained_unisal/"
)
BLOB_IDS = {
    "weights_best.pth": "f06b52c56405bbf11b40cf1b4307573aa4035bea",
    "weights_ft_mit1003.pth": "2a14bf648bf090a771152bb0f9da2da311c1cbef",
}
"""Git's id of the content of each weights file."""
NETWORK_CONFIG = "UNISAL.json"
OTHER_CONFIGS = (
    "Trainer.json",
    "DHF1KDataset.json",
    "HollywoodDataset.json",
    "UCFSportsDataset.json",
    "SALICONDataset.json",
)
"""Files kept for the record: a run is loaded without them."""
TIMEOUT_SECONDS = 30.0
"""Seconds without an answer after which a download fails."""
CHUNK_BYTES = 1 << 16
"""Bytes that are read at once."""

log = logging.getLogger(__name__)


class FileNotOnServer(UserError):
    """The server has no such file."""


def download_weights(*, base_url: str, folder: Path | None) -> Path:
    """Download the official weights and their configuration.

    Files that exist and are intact are skipped.

    Args:
        base_url: the web folder of the files.
        folder: where to put them; None for the run `OFFICIAL` in the folder of the runs.

    Returns:
        The folder.

    Raises:
        UserError: the server cannot be reached, lacks a file, cut the connection, or sent a
            content other than the published one. No file is left under that name.
    """
    folder = folder or train_dir() / OFFICIAL
    require_writable_file(folder / next(iter(BLOB_IDS)), "name another folder in TRAIN_DIR")
    remove_leftovers(folder)
    base_url = str(base_url).rstrip("/") + "/"  # a number is refused like any other non-address
    for name in BLOB_IDS:
        _fetch(base_url + name, folder / name, _check_blob)
    _fetch(base_url + NETWORK_CONFIG, folder / NETWORK_CONFIG, _check_json)
    for name in OTHER_CONFIGS:
        try:
            _fetch(base_url + name, folder / name, _check_json)
        except FileNotOnServer as error:
            log.warning("%s; it is not needed for prediction", error)
    return folder


def git_blob_id(path: Path) -> str:
    r"""Return git's id of a file's content, `sha1("blob <size>\0" + content)`, in hexadecimal."""
    digest = hashlib.sha1(f"blob {path.stat().st_size}\0".encode(), usedforsecurity=False)
    with path.open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def _fetch(url: str, path: Path, check: Callable[[Path, str], None]) -> None:
    """Download a file to `path`, unless the file there already passes the check.

    It is downloaded to a temporary file, which takes its place only if `check` accepts it.
    """
    if path.is_file() and _passes(path, check):
        return

    def download(temporary: Path) -> None:
        try:
            _stream(url, temporary, path.name)
        except urllib.error.HTTPError as error:
            kind = FileNotOnServer if error.code == 404 else UserError
            raise kind(f"{url}: the server answered {error.code} {error.reason}") from None
        except (OSError, HTTPException, ValueError) as error:  # ValueError: not a URL
            if is_place_error(error) and not isinstance(error, urllib.error.URLError):
                raise
            reason = getattr(error, "reason", error)
            raise UserError(
                f"{url} cannot be fetched: {reason}; try again, or put the file into {path.parent}"
            ) from None
        check(temporary, path.name)

    try:
        write_atomically(path, download)
    except OSError as error:
        raise UserError(f"{path} cannot be written: {said_reason(error)}") from None


def _passes(path: Path, check: Callable[[Path, str], None]) -> bool:
    """Return whether a file passes the check."""
    try:
        check(path, path.name)
    except UserError:
        return False
    return True


def _stream(url: str, target: Path, title: str) -> None:
    with (
        urllib.request.urlopen(url, timeout=TIMEOUT_SECONDS) as response,
        target.open("wb") as file,
    ):
        length = response.headers.get("Content-Length")
        total = int(length) if length else None
        bar = tqdm(total=total, desc=title, unit="B", unit_scale=True, disable=None)
        with bar:
            while chunk := response.read(CHUNK_BYTES):
                file.write(chunk)
                bar.update(len(chunk))
    received = target.stat().st_size
    if total is not None and received != total:
        raise OSError(f"the connection was cut after {received} of {total} bytes")


def _check_blob(file: Path, name: str) -> None:
    found = git_blob_id(file)
    if found != BLOB_IDS[name]:
        raise UserError(
            f"{name} as received is not the published file: "
            f"its git blob id is {found}, expected {BLOB_IDS[name]}"
        )


def _check_json(file: Path, name: str) -> None:
    try:
        json.loads(file.read_text(encoding="utf-8-sig"))
    except ValueError as error:
        raise UserError(f"{name} as received is not JSON: {error}") from None
