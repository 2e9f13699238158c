"""What picture files say besides their pixels: which way up they are; and how to do without it.

Programs write metadata in many broken ways, and readers of pictures fail at some of them although
the pixels are sound.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from typing import IO

from PIL import ExifTags, Image
from PIL.Image import Transpose

TURNS = {
    2: Transpose.FLIP_LEFT_RIGHT,
    3: Transpose.ROTATE_180,
    4: Transpose.FLIP_TOP_BOTTOM,
    5: Transpose.TRANSPOSE,
    6: Transpose.ROTATE_270,
    7: Transpose.TRANSVERSE,
    8: Transpose.ROTATE_90,
}
"""How a stored picture is turned to be shown, by its orientation in EXIF."""
EXCHANGED = (5, 6, 7, 8)
"""Orientations with height and width exchanged."""

PNG, JPEG, RIFF = b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"RIFF"
TIFF = {b"II*\0": "<", b"MM\0*": ">"}
"""How files begin; the byte order of TIFF."""
BEGINNINGS = (PNG, JPEG, RIFF, *TIFF)
PIXEL_CHUNKS = (b"tRNS", b"acTL", b"fcTL", b"fdAT")
EXIF_CHUNKS = (b"eXIf",)
TEXT_CHUNKS = (b"iTXt", b"tEXt", b"zTXt")
"""Chunks of PNG files, beside the critical ones, whose names begin with a capital."""
APP0, APP1, APP14, APP15, COMMENT, SCAN = 0xE0, 0xE1, 0xEE, 0xEF, 0xFE, 0xDA
"""Segments of JPEG files. The first application segment and the 14th say how colours are coded."""
COLOUR_SEGMENT_BYTES = 16
"""Shorter ones of these say nothing."""
WEBP_PIXELS = (b"VP8X", b"VP8 ", b"VP8L", b"ALPH", b"ANIM", b"ANMF")
WEBP_EXIF = (b"EXIF",)
EXIF_FLAG, OTHER_FLAGS = 0x08, 0x24
"""Bits of a WebP header that promise metadata."""
TIFF_PIXELS = {
    *(254, 256, 257, 258, 259, 262, 266, 273, 277, 278, 279, 284, 292, 293, 317, 320),
    *(322, 323, 324, 325, 332, 334, 338, 339, 347, *range(512, 522), 529, 530, 532),
}
"""Fields of TIFF without which its pixels cannot be decoded."""
TIFF_ORIENTATION, NO_TYPE = 274, 0xFFFF


def orientation(image: Image.Image) -> int:
    """Return the orientation that a picture's metadata names, 1 to 8; 1 where it names none."""
    try:
        found = image.getexif().get(ExifTags.Base.Orientation)
    except Exception:  # Pillow raises many types on odd metadata
        return 1
    return found if isinstance(found, int) and found in TURNS else 1


def says_more_after_pixels(file: IO[bytes]) -> bool:
    """Return whether a PNG file holds metadata behind its pixels; the place in it is kept."""
    place, seen_pixels = file.tell(), False
    file.seek(len(PNG))
    try:
        while len(head := file.read(8)) == 8:
            length, kind = struct.unpack(">I4s", head)
            if seen_pixels and kind in EXIF_CHUNKS + TEXT_CHUNKS:
                return True
            seen_pixels = seen_pixels or kind == b"IDAT"
            file.seek(length + 4, 1)  # its checksum as well
        return False
    finally:
        file.seek(place)


def without_metadata(content: bytes) -> Iterator[bytes]:
    """Yield a picture file with less and less metadata: first with EXIF, which may be sound.

    Args:
        content: the file; nothing is yielded unless it is JPEG, PNG, TIFF or WebP.
    """
    strip: Callable[[bytes, bool], bytes]
    if content.startswith(JPEG):
        strip = _strip_jpeg
    elif content.startswith(PNG):
        strip = _strip_png
    elif content.startswith(RIFF) and content[8:12] == b"WEBP":
        strip = _strip_webp
    elif content[:4] in TIFF:
        strip = _strip_tiff
    else:
        return
    tried = content
    for keep_exif in (True, False):
        try:
            stripped = strip(content, keep_exif)
        except struct.error:  # cut off
            return
        if stripped != tried:
            yield stripped
        tried = stripped


def _strip_png(content: bytes, keep_exif: bool) -> bytes:
    kept = PIXEL_CHUNKS + EXIF_CHUNKS * keep_exif
    parts, place = [PNG], len(PNG)
    while place + 8 <= len(content):
        length, kind = struct.unpack_from(">I4s", content, place)
        end = place + length + 12
        if kind in kept or kind[:1].isupper():  # those are critical
            parts.append(content[place:end])
        place = end
    return b"".join(parts)


def _strip_jpeg(content: bytes, keep_exif: bool) -> bytes:
    parts, place = [content[:2]], 2
    while place + 4 <= len(content) and content[place] == 0xFF:
        marker = content[place + 1]
        if marker == 0xFF:  # padding
            place += 1
            continue
        if marker == SCAN:
            break
        end = place + 2 + int.from_bytes(content[place + 2 : place + 4], "big")
        if marker in (APP0, APP14):
            is_kept = end - place >= COLOUR_SEGMENT_BYTES
        elif APP0 < marker <= APP15 or marker == COMMENT:
            is_exif = marker == APP1 and content[place + 4 : place + 8] == b"Exif"
            is_kept = is_exif and keep_exif
        else:
            is_kept = True
        if is_kept:
            parts.append(content[place:end])
        place = end
    return b"".join(parts) + content[place:]


def _strip_webp(content: bytes, keep_exif: bool) -> bytes:
    kept = WEBP_PIXELS + WEBP_EXIF * keep_exif
    flags = OTHER_FLAGS if keep_exif else OTHER_FLAGS | EXIF_FLAG
    parts, place = [], 12
    while place + 8 <= len(content):
        kind, length = struct.unpack_from("<4sI", content, place)
        end = place + 8 + length + length % 2
        chunk = bytearray(content[place:end])
        if kind == b"VP8X" and len(chunk) > 8:
            chunk[8] &= ~flags
        if kind in kept:
            parts.append(bytes(chunk))
        place = end
    body = b"WEBP" + b"".join(parts)
    return RIFF + struct.pack("<I", len(body)) + body


def _strip_tiff(content: bytes, keep_exif: bool) -> bytes:
    """Make other fields those of a type that nobody knows, which readers pass over."""
    kept = TIFF_PIXELS | {TIFF_ORIENTATION} if keep_exif else TIFF_PIXELS
    order, stripped = TIFF[content[:4]], bytearray(content)
    (place,) = struct.unpack_from(order + "I", content, 4)
    (n_fields,) = struct.unpack_from(order + "H", content, place)
    for field in range(place + 2, place + 2 + 12 * n_fields, 12):
        (tag,) = struct.unpack_from(order + "H", content, field)
        if tag not in kept:
            struct.pack_into(order + "H", stripped, field + 2, NO_TYPE)
    return bytes(stripped)
