"""Which files of a folder are pictures: all kinds that Pillow reads. And which are videos."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from PIL import Image

from unisal.errors import UserError
from unisal.files import natural_order

PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg")
"""Endings, in lower or upper case, of what is a picture by its name alone. A file of any other kind
also has to begin like a picture, since others use some of those endings too."""
NOT_PICTURES = frozenset(
    ("BUFR", "EPS", "FITS", "FLI", "GRIB", "HDF5", "IM", "IPTC", "MPEG", "PDF", "PSD", "WMF")
)
"""Kinds that Pillow names, and that are not pictures that it can draw on its own and in one right
way: pages, measurements, films, layers, whose stored sum may be an empty sheet, and what it is
about to give up."""
NOT_PICTURE_SUFFIXES = frozenset((".pfm",))
"""Endings of numbers without a range."""
VIDEO_SUFFIXES = (
    *(".264", ".265", ".266", ".3g2", ".3gp", ".3gpp", ".amv", ".asf", ".avi", ".cine", ".dav"),
    *(".divx", ".dv", ".f4v", ".flc", ".fli", ".flv", ".gxf", ".h261", ".h263", ".h264", ".h265"),
    *(".hevc", ".insv", ".ismv", ".ivf", ".m1v", ".m2p", ".m2t", ".m2ts", ".m2v", ".m4v", ".mj2"),
    *(".mjpeg", ".mjpg", ".mk3d", ".mkv", ".mov", ".mp4", ".mp4v", ".mpe", ".mpeg", ".mpg", ".mpv"),
    *(".mts", ".mxf", ".nsv", ".nut", ".nuv", ".obu", ".ogm", ".ogv", ".ogx", ".qt", ".rm"),
    *(".rmvb", ".roq", ".tod", ".trp", ".ts", ".vc1", ".viv", ".vob", ".vro", ".vvc", ".webm"),
    *(".wmv", ".wtv", ".xvid", ".y4m"),
)
"""Endings of videos in a folder, in lower or upper case. A file that the user names may have any
ending."""
HEADER_BYTES = 16
"""How much of a file Pillow shows to those who are to say whether it is theirs."""
Accept = Callable[[bytes], Any]
"""Says from the first bytes of a file whether it is of a kind."""


class Plugin(NamedTuple):
    """A package that teaches Pillow a kind of picture."""

    module: str
    register: str | None
    """The function of the module that does so; None if importing it does."""
    package: str
    """What is to be installed."""
    kind: str
    suffixes: tuple[str, ...]


PLUGINS = (
    Plugin(
        "pillow_heif", "register_heif_opener", "pillow-heif", "HEIC", (".heic", ".heif", ".hif")
    ),
    Plugin("pillow_jxl", None, "pillow-jxl-plugin", "JPEG XL", (".jxl",)),
)
"""Used where they are installed."""
LATER_KINDS = {".avif": "AVIF", ".avifs": "AVIF", ".qoi": "QOI"}
"""Kinds that the oldest Pillow that is accepted does not read, by their endings."""


class Listing(NamedTuple):
    """The visible files of a folder, each part in natural order."""

    pictures: list[Path]
    unreadable: list[Path]
    """Pictures of a kind that would need another package, see `missing_reader`."""
    others: list[Path]
    """Files that are not pictures."""


def list_files(folder: Path) -> Listing:
    """List the files of a folder, without hidden ones.

    Raises:
        UserError: the folder cannot be read.
    """
    found = Listing([], [], [])
    try:
        paths = [path for path in folder.iterdir() if not path.name.startswith(".")]
    except OSError as error:
        raise UserError(f"{folder} cannot be read: {error.strerror}") from None
    for path in paths:
        suffix = path.suffix.lower()
        if suffix in PICTURE_SUFFIXES or (suffix in picture_suffixes() and is_picture(path)):
            found.pictures.append(path)
        elif path.is_file():
            (found.unreadable if missing_reader(path) else found.others).append(path)
    return Listing(*(sorted(part, key=natural_order) for part in found))


@cache
def picture_suffixes() -> frozenset[str]:
    """Return the endings of all kinds of picture, in lower case, whether or not one is readable."""
    kinds = _kinds()
    found = {suffix for suffix, kind in Image.registered_extensions().items() if kind in kinds}
    found |= {suffix for plugin in PLUGINS for suffix in plugin.suffixes}
    return frozenset(found | LATER_KINDS.keys()) - NOT_PICTURE_SUFFIXES


def is_picture(path: Path) -> bool:
    """Return whether a file begins like a picture that can be read."""
    try:
        with path.open("rb") as file:
            header = file.read(HEADER_BYTES)
    except OSError:
        return False
    if header[4:8] == b"ftyp" and missing_reader(path):  # AVIF and HEIC may begin alike
        return False
    if any(_accepts(accept, header) for accept in _kinds().values()):
        return True
    kind = Image.registered_extensions().get(path.suffix.lower(), "")
    if kind not in _kinds() or _kinds()[kind] is not None:
        return False
    try:  # a kind that has no mark of its own
        with Image.open(path, formats=(kind,)):
            return True
    except Exception:  # decoders of other people's files raise of many types
        return False


def missing_reader(path: Path) -> str | None:
    """Return what has to be installed to read a picture; None if nothing is known to be missing."""
    suffix = path.suffix.lower()
    for plugin in PLUGINS:
        if suffix in plugin.suffixes and not _register(plugin):
            return (
                f"{plugin.kind} needs the package {plugin.package} (pip install {plugin.package})"
            )
    if suffix in LATER_KINDS and Image.registered_extensions().get(suffix) not in _kinds():
        return f"{LATER_KINDS[suffix]} needs a newer Pillow (pip install --upgrade pillow)"
    return None


def prepare_for(path: Any) -> None:
    """Let Pillow use the packages for further kinds, if a file may be of one of them."""
    if not (isinstance(path, Path) and path.suffix.lower() in PICTURE_SUFFIXES):
        _kinds()


def advice(path: Any) -> str:
    """Return what to add to the message that a file is no picture: what may be missing."""
    reader = missing_reader(path) if isinstance(path, Path) else None
    return f"; {reader}" if reader else ""


def _accepts(accept: Accept | None, header: bytes) -> bool:
    """Return whether the reader of a kind takes a file, given its first bytes."""
    try:
        said = accept is not None and accept(header)
    except Exception:  # some of them count on as many bytes as they want to see
        return False
    return bool(said) and not isinstance(said, str)  # text says why the kind cannot be read


@cache
def _kinds() -> dict[str, Accept | None]:
    """Return the kinds of picture that can be read, each with what tells it by its first bytes."""
    for plugin in PLUGINS:
        _register(plugin)
    Image.init()
    kinds = {name: accept for name, (_, accept) in Image.OPEN.items() if name not in NOT_PICTURES}
    return {**kinds, "MPO": kinds["JPEG"]}


@cache
def _register(plugin: Plugin) -> bool:
    """Let Pillow use a package; return whether it is installed."""
    try:
        module = importlib.import_module(plugin.module)
    except ImportError:
        return False
    if plugin.register is not None:
        getattr(module, plugin.register)()
    return True
