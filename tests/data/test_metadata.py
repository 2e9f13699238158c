"""Sound pixels with odd metadata are read; the way up is that which the metadata names, or none."""

from __future__ import annotations

import io
import random
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, TiffImagePlugin

from unisal.data.metadata import without_metadata
from unisal.data.pictures import displayed_size, picture_size, read_grey_levels, read_rgb, to_rgb
from unisal.errors import UserError

pytestmark = pytest.mark.filterwarnings("ignore")  # of Pillow, about the metadata

SIZE = 12, 20
PIXELS = np.random.default_rng(0).integers(0, 256, (*SIZE, 3)).astype(np.uint8)
PIXELS[:6, :10] //= 4
UPRIGHT = {
    1: PIXELS,
    2: PIXELS[:, ::-1],
    3: PIXELS[::-1, ::-1],
    4: PIXELS[::-1],
    5: PIXELS.transpose(1, 0, 2),
    6: np.rot90(PIXELS, -1),
    7: PIXELS[::-1, ::-1].transpose(1, 0, 2),
    8: np.rot90(PIXELS),
}
"""What is shown of `PIXELS`, by orientation as the EXIF standard defines it."""
SHORT, ORIENTATION = 3, 0x112
TAGS = (
    0x100,
    0x10F,
    0x11A,
    0x11B,
    0x128,
    0x132,
    0x14A,
    0x201,
    0x202,
    0x2BC,
    0x8769,
    0x8825,
    0x927C,
)
N_RANDOM = 60


def tag(order, number, kind, count, value):
    return struct.pack(order + "HHI", number, kind, count) + value


def exif(entries, order="<", first=8):
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "I", first)
    return head + struct.pack(order + "H", len(entries)) + b"".join(entries) + bytes(4)


def oriented(value, *others, order="<"):
    return exif(
        [tag(order, ORIENTATION, SHORT, 1, struct.pack(order + "HH", value, 0)), *others], order
    )


def random_exif(rng):
    """Fields of any type, count and place, the way up among them."""
    order = rng.choice("<>")
    counts = (0, 1, 1, 2, 8, 1000, 2**31, 2**32 - 1)
    value = struct.pack(order + "HH", rng.choice([1, 3, 6, 8, 0, 9, 65535]), 0)
    entries = [tag(order, ORIENTATION, rng.choice([3, 3, *range(15)]), rng.choice(counts), value)]
    for number in rng.sample(TAGS, rng.randint(0, 6)):
        place = rng.choice([struct.pack(order + "I", rng.randint(0, 200)), rng.randbytes(4)])
        entries.append(tag(order, number, rng.randint(0, 14), rng.choice(counts), place))
    made = bytearray(exif(entries, order, rng.choice([8, 8, 8, 9, 10**6])) + rng.randbytes(80))
    for _ in range(rng.choice([0, 0, 1, 8])):
        made[rng.randrange(len(made))] = rng.randrange(256)
    return bytes(made[: rng.choice([len(made)] * 4 + [rng.randrange(len(made))])])


def random_xmp(rng):
    said = rng.choice(["6", "8", "x", "", "999", "-1", "6.5"])
    return f'<rdf:RDF tiff:Orientation="{said}"/>'.encode() + rng.choice([b"", b"\xff\xfe"])


# ---- files of each kind around the same pixels ------------------------------------------------
def saved(kind, **options):
    file = io.BytesIO()
    Image.fromarray(PIXELS).save(file, kind, **options)
    return file.getvalue()


def segment(marker, content):
    return bytes([0xFF, marker]) + struct.pack(">H", len(content) + 2) + content


def jpeg(*segments):
    content = saved("JPEG", quality=95, subsampling=0)
    return content[:20] + b"".join(segments) + content[20:]


def chunk(kind, content, checksum=None):
    correct = zlib.crc32(kind + content)
    said = correct if checksum is None else checksum
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", said)


def png(before=b"", after=b""):
    content = saved("PNG")
    return content[:33] + before + content[33:-12] + after + content[-12:]


def tiff(*entries, order="<"):
    """Return an uncompressed TIFF file with the metadata `entries`."""

    def long(number, value, count=1):
        return tag(order, number, 4, count, struct.pack(order + "I", value))

    size = PIXELS.nbytes
    depths = tag(order, 258, SHORT, 3, struct.pack(order + "I", 8))
    own = [
        long(256, SIZE[1]),
        long(257, SIZE[0]),
        depths,
        long(259, 1),
        long(262, 2),
        long(273, 14),
    ]
    own += [long(277, 3), long(278, SIZE[0]), long(279, size)]
    entries = sorted([*own, *entries], key=lambda e: struct.unpack(order + "H", e[:2]))
    made = exif(entries, order, 14 + size)
    return made[:8] + struct.pack(order + "3H", 8, 8, 8) + PIXELS.tobytes() + made[8:]


def random_jpeg(rng):
    mpf = exif([tag("<", 45057, 4, 1, struct.pack("<I", rng.choice([1, 3, 2**31])))])
    resource = b"8BIM" + struct.pack(
        ">HHI", 0x3ED, rng.choice([0, 65535]), rng.choice([0, 2**32 - 1])
    )
    segments = [
        segment(0xE1, b"Exif\0\0" + random_exif(rng)),
        segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0" + random_xmp(rng)),
        segment(0xE2, b"MPF\0" + rng.choice([mpf, random_exif(rng)])),
        segment(0xE2, b"ICC_PROFILE\0" + rng.randbytes(rng.randint(0, 9))),
        segment(0xED, b"Photoshop 3.0\0" + resource + rng.randbytes(9)),
        segment(0xE0, b"JFIF\0"[: rng.randint(0, 5)]),
        segment(0xFE, rng.randbytes(5)),
    ]
    return jpeg(*rng.sample(segments, rng.randint(1, len(segments))))


def random_png(rng):
    bomb = zlib.compress(bytes(3_000_000))

    def extra():
        kind, content = rng.choice(
            [
                (b"eXIf", random_exif(rng)),
                (b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + random_xmp(rng)),
                (b"iTXt", b"XML:com.adobe.xmp\0" + rng.choice([b"\1\0\0\0" + bomb, b"\1\7", b""])),
                (b"zTXt", b"Comment\0" + rng.choice([b"\0" + bomb, b"\1", b"\0garbage"])),
                (b"tEXt", b"Raw profile type exif\0" + rng.choice([b"\nexif\n 4\nzzzz", b""])),
                (b"iCCP", rng.choice([b"p\0\0" + bomb, b"p\0\7", b""])),
                (rng.choice([b"gAMA", b"cHRM", b"pHYs", b"tIME", b"sRGB"]), rng.randbytes(3)),
            ]
        )
        return chunk(kind, content, rng.choice([None, None, 0]))

    return png(*(b"".join(extra() for _ in range(rng.randint(0, 3))) for _ in range(2)))


def random_webp(rng):
    content = bytearray(
        saved("WEBP", lossless=True, exif=random_exif(rng) or b"x", xmp=random_xmp(rng))
    )
    place = content.find(b"EXIF", 30)
    if rng.random() < 0.5:
        content[place + 4 : place + 8] = struct.pack("<I", rng.choice([0, 10**6, 2**32 - 1]))
    return bytes(content[: rng.choice([len(content), place + 6])])


def random_tiff(rng):
    order = rng.choice("<>")
    counts = (0, 1, 3, 1000, 2**31, 2**32 - 1)
    way = struct.pack(order + "HH", rng.choice([1, 3, 6, 8, 9]), 0)
    entries = [tag(order, ORIENTATION, rng.choice([SHORT, SHORT, 7, 99]), 1, way)]
    for number in (270, 282, 305, 33723, 34665):
        kind, count = rng.randint(0, 14), rng.choice(counts)
        entries.append(tag(order, number, kind, count, rng.randbytes(4)))
    return tiff(*entries, order=order)


@pytest.mark.parametrize("make", [random_jpeg, random_png, random_webp, random_tiff])
def test_odd_metadata_does_not_cost_the_pixels(tmp_path, make):
    path = tmp_path / f"a.{make.__name__.removeprefix('random_')}"
    sound = {shown.tobytes(): shown.shape[:2] for shown in UPRIGHT.values()}
    if make is random_jpeg:  # the decoder's values, which are not quite those of PIXELS
        decoded = np.asarray(Image.open(io.BytesIO(jpeg())))
        turned = [np.rot90(side, n) for side in (decoded, decoded[:, ::-1]) for n in range(4)]
        sound = {shown.tobytes(): shown.shape[:2] for shown in turned}
    ways = set()
    for seed in range(N_RANDOM):
        path.write_bytes(make(random.Random(seed)))
        rgb = read_rgb(path)
        assert sound[rgb.tobytes()] == rgb.shape[:2] == displayed_size(path)
        assert read_grey_levels(path).shape == picture_size(path)
        ways.add(rgb.shape)
    assert len(ways) == 2, "the way up has to be found in some of them"


@pytest.mark.parametrize("said", UPRIGHT)
@pytest.mark.parametrize(
    "write",
    [
        lambda exif: png(chunk(b"eXIf", exif)),
        lambda exif: png(after=chunk(b"eXIf", exif)),
        lambda exif: png(chunk(b"tEXt", b"Comment\0damaged", 1) + chunk(b"eXIf", exif)),
        lambda exif: saved("WEBP", lossless=True, exif=exif),
        lambda exif: saved("WEBP", lossless=True, exif=exif) + b"XMP \xff\xff\xff\x7f",
        lambda exif: tiff(exif[10:22]),
        lambda exif: tiff(exif[10:22], tag("<", 270, 2, 2**31, bytes(4))),
        lambda exif: saved("TIFF", compression="tiff_lzw", tiffinfo={ORIENTATION: exif[18]}),
    ],
    ids=["png", "late", "bad text", "webp", "bad xmp", "tiff", "bad tag", "lzw"],
)
def test_the_way_up_is_found(tmp_path, write, said):
    path = tmp_path / "a"
    path.write_bytes(write(oriented(said)))
    np.testing.assert_array_equal(read_rgb(path), UPRIGHT[said])
    assert displayed_size(path) == UPRIGHT[said].shape[:2]


@pytest.mark.parametrize("said", UPRIGHT)
@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize(
    "odd",
    [
        (0x11A, 2, 4, b"2\x32\0\0"),  # a resolution that is text
        (0x128, 1, 1, b"\2\0\0\0"),  # a byte where two belong
        (0x8825, 4, 1, b"\xff\xff\xff\xff"),  # a place outside the file
        (0x927C, 5, 1, bytes(4)),
    ],
)
def test_the_way_up_is_found_beside_fields_of_odd_types(tmp_path, said, order, odd):
    content = segment(0xE1, b"Exif\0\0" + oriented(said, tag(order, *odd), order=order))
    mpf = segment(0xE2, b"MPF\0" + exif([tag("<", 45057, 9, 0, bytes(4))]))
    path, plain = tmp_path / "a.jpg", Image.open(io.BytesIO(jpeg()))
    path.write_bytes(jpeg(content, mpf))
    plain = np.asarray(plain)
    expected = {1: plain, 3: plain[::-1, ::-1], 6: np.rot90(plain, -1), 8: np.rot90(plain)}
    if said in expected:
        np.testing.assert_array_equal(read_rgb(path), expected[said])
    assert read_rgb(path).shape == UPRIGHT[said].shape
    assert displayed_size(path) == UPRIGHT[said].shape[:2]


@pytest.mark.parametrize("value", [0, 9, 65535])
def test_a_way_up_that_does_not_exist_is_none(tmp_path, value):
    (tmp_path / "a.png").write_bytes(png(chunk(b"eXIf", oriented(value))))
    np.testing.assert_array_equal(read_rgb(tmp_path / "a.png"), PIXELS)


def test_a_callers_tiff_is_turned_once(tmp_path):
    path = tmp_path / "a.tif"
    path.write_bytes(tiff(oriented(6)[10:22]))
    with Image.open(path) as image:
        np.testing.assert_array_equal(to_rgb(image), UPRIGHT[6])


def test_without_metadata_the_pixels_are_the_same():
    tiff_file = tiff(tag("<", 270, 2, 4, b"abc\0"))
    for content in (jpeg(segment(0xFE, b"x")), png(chunk(b"tEXt", b"a\0b")), tiff_file):
        (stripped,) = without_metadata(content)
        expected = np.asarray(Image.open(io.BytesIO(content)))
        np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(stripped))), expected)
    for other in (b"", b"no picture", saved("GIF"), saved("BMP"), b"II*\0", b"\xff\xd8\xff"):
        assert all(isinstance(less, bytes) for less in without_metadata(other))


@pytest.mark.parametrize(
    "error",
    [
        *(struct.error("odd"), TypeError("odd"), KeyError("odd"), ZeroDivisionError("odd")),
        *(RuntimeError("odd"), MemoryError(), AssertionError(), RecursionError("odd")),
        *(OverflowError("odd"), IndexError("odd"), AttributeError("odd"), EOFError("odd")),
    ],
    ids=lambda error: type(error).__name__,
)
def test_whatever_a_decoder_raises_is_that_files_failure(tmp_path, monkeypatch, error):
    def fail(_):
        raise error

    path = tmp_path / "a.tif"
    path.write_bytes(tiff())
    monkeypatch.setattr(TiffImagePlugin.TiffImageFile, "load", fail)
    for read in (read_rgb, read_grey_levels):
        with pytest.raises(UserError, match=rf"^{path} is damaged or cut off: \S") as refused:
            read(path)
        assert "\n" not in str(refused.value)


@pytest.mark.parametrize("kind", ["png", "webp", "tif"])
def test_a_picture_that_would_fill_the_memory_is_refused_before_it_does(tmp_path, kind):
    path = tmp_path / f"a.{kind}"
    if kind == "png":
        header = struct.pack(">IIBBBBB", 40_000, 40_000, 8, 2, 0, 0, 0)
        path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + saved("PNG")[33:])
    elif kind == "tif":
        content = bytearray(tiff())
        for number in (256, 257):
            place = content.index(struct.pack("<HH", number, 4))
            content[place + 8 : place + 12] = struct.pack("<I", 40_000)
        path.write_bytes(content)
    else:
        content = bytearray(saved("WEBP", lossless=True, xmp=b"x"))
        content[24:30] = (16_000).to_bytes(3, "little") * 2
        path.write_bytes(content)
    for read in (read_rgb, displayed_size):
        with pytest.raises(UserError, match=rf"^{path} .*(bomb|read)"):
            read(path)


def test_a_picture_without_pixels_is_named(tmp_path):
    path = tmp_path / "a.ppm"
    path.write_bytes(b"P6 0 5 255\n")
    with pytest.raises(UserError, match=str(path)):
        read_rgb(path)
    with pytest.raises(UserError, match=r"the picture is 5 x 0 pixels"):
        to_rgb(Image.new("RGB", (0, 5)))
