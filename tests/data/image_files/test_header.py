"""Files that would make a decoder work for minutes or fill the memory are refused, in an instant, before decoding."""

import io
import subprocess
import sys
import zlib

import cv2
import hostile_images as made
import numpy as np
import pytest
from PIL import Image

from ppdet.data.image_files import check_header, png
from ppdet.data.transforms.decode import decode_image
from ppdet.utils.errors import ImageError

TEXT = made.chunk(b"zTXt", b"x\0\0" + made.compressed(7))
TILED = {322: (4, [2**14]), 323: (4, [2**14]), 324: (4, [16]), 325: (4, [99])}


def encoded(kind, size=(16, 16), **options):
    stream = io.BytesIO()
    Image.new("RGB", size).save(stream, kind, **options)
    return stream.getvalue()


def tiled(height, width, **more):
    tags = made.tiff_tags(height, width, **more)
    return {tag: tags[tag] for tag in tags if tag not in (273, 278, 279)} | TILED


REFUSED = {
    "scans of a progressive JPEG": (lambda: made.progressive(1000, 1000, 3000), "more than 100 scans"),
    "scans of a large one": (lambda: made.progressive(16000, 16000, 20), "more than 12 scans"),
    "scans of as many pixels as the server takes": (lambda: made.progressive(7000, 7000, 84), "more than 32 scans"),
    "scans of single channels": (
        lambda: made.jpeg(1000, 1000, scans=b"".join(made.scan([n % 3 + 1]) for n in range(3000))),
        "more than 100 scans",
    ),
    # A marker of the end, or fill bytes, hide nothing.
    "scans behind an end": (
        lambda: made.jpeg(
            999,
            999,
            0xC2,
            scans=made.scan([1, 2, 3], 0, 0) + made.segment(0xFE, b"\xff\xd9") + made.scan([1]) * 200,
        ),
        "more than 100 scans",
    ),
    "scans after fill bytes": (
        lambda: made.jpeg(999, 999, 0xC2, scans=made.scan([1, 2, 3], 0, 0) + (b"\xff" * 9 + made.scan([1])) * 200),
        "more than 100 scans",
    ),
    "segments": (
        lambda: made.jpeg(16, 16, extra=made.segment(0xE1, b"") * 200_000),
        "more than 5000 segments before",
    ),
    "segments after the pixels": (
        lambda: made.jpeg(16, 16, scans=made.scan([1, 2, 3]) + made.segment(0xE1, b"") * 200_000),
        "more than 5000 segments between",
    ),
    "segments behind what looks like an end": (
        lambda: made.jpeg(
            16,
            16,
            scans=made.scan([1, 2, 3]) + made.segment(0xFE, b"\xff\xd9") + b"\xff\x05" + made.segment(0xE1, b"") * 9000,
        ),
        "more than 5000 segments between",
    ),
    "tables after the pixels": (
        lambda: made.jpeg(16, 16, scans=made.scan([1, 2, 3]) + made.segment(0xDB, b"\0" + b"\1" * 64) * 9000),
        "more than 5000 segments between",
    ),
    "arithmetic coding": (lambda: made.jpeg(16, 16, 0xC9), "arithmetic coding"),
    "pixels of a JPEG": (
        lambda: made.jpeg(30000, 30000, scans=made.scan([1, 2, 3])),
        "30000 x 30000 .* 268435456",
    ),
    "length of a chunk": (lambda: made.png(before=b"\x7f\xff\xff\xfftEXt"), "truncated"),
    "chunks": (lambda: made.png(before=made.chunk(b"tEXt") * 20_000), "more than 102.. chunks"),
    "pixels of a PNG": (lambda: made.png_header(2**15, 2**15), "268435456"),
    "bits of a PNG": (lambda: made.png_header(2**14, 2**14, 16, 6), "of 64 bits"),
    "no pixels": (lambda: made.png(height=0), "0 x 16 pixels"),
    "canvas of an animation": (
        lambda: made.webp(30000, 30000, encoded("WEBP", lossless=True)[12:]),
        "30000 x 30000 pixels",
    ),
    "tiles beyond the image": (lambda: made.tiff(tiled(20000, 100)), "more with its tiles"),
    "samples of a pixel": (
        lambda: made.tiff({**made.tiff_tags(9999, 9999), 277: (3, [65535])}),
        "bits",
    ),
    "strips that share bytes": (
        lambda: made.tiff(made.tiff_tags(9999, 300, 8, [16] * 9999, [10**6] * 9999, 1), b"\0" * 10**6),
        "share bytes",
    ),
    "scans of a JPEG in a TIFF": (
        lambda: made.tiff(made.tiff_tags(999, 999, 7, counts=[20_000]), made.progressive(999, 999, 90)),
        "progressive JPEG inside",
    ),
    "directory": (lambda: made.tiff({tag: (4, [1]) for tag in range(256, 6000)}), "5744 tags"),
    # A decoder takes the first of two entries, and reads types that have a sign.
    "second width of a TIFF": (lambda: two_sizes(9), "its tag 256 has the type 9"),
    "second width of one type": (lambda: two_sizes(4), "its tag 256 occurs twice"),
    "width without an integer": (lambda: two_sizes(5), "its tag 256 has the type 5"),
    "strips and tiles that share bytes": (
        lambda: made.tiff(tiled(9999, 300) | {279: (4, [10**6] * 9999)}, bytes(10**6)),
        "share bytes",
    ),
    "end of a TIFF": (lambda: b"II*\0\xff\xff\xff\x7f", "truncated"),
    "lines of a bitmap": (lambda: bitmap(2**14, -(2**31)), "2147483648 x 16384"),
    "negative width": (lambda: bitmap(-(2**14), 2**14), "x -16384"),
    "PNM": (lambda: b"P6 # " + b"#\n" * 99 + b"65536 65536 255\n", "65536 x 65536"),
    "comment of a PNM": (lambda: b"P6 #\r20000 20000 255\n16 16 255\n", "20000 x 20000"),
    "comment after a number": (lambda: b"P6 1#20000 #\n16 16 255\n", "damaged"),
    "first part of a WebP": (
        lambda: b"RIFF\x40\0\0\0WEBP" + encoded("WEBP")[20:] + bytes(64),
        "WebP file whose header",
    ),
    "PNM without an end": (lambda: b"P6" + b" #\n" * 10**6, "damaged"),
    "GIF": (lambda: encoded("GIF"), "GIF"),
    "JPEG 2000": (lambda: b"\0\0\0\x0cjP  \r\n\x87\n", "JPEG 2000"),
    "AVIF": (lambda: b"\0\0\0\x20ftypavif", "AVIF"),
    "OpenEXR": (lambda: b"v/1\x01" + b"\0" * 99, "OpenEXR"),
    "HDR": (lambda: b"#?RADIANCE\n\n-Y 9 +X 9\n", "Radiance"),
    "PAM": (lambda: b"P7\nWIDTH 1\nHEIGHT 1\nDEPTH 1\nMAXVAL 255\nENDHDR\n\0", "PAM"),
    "text": (lambda: b"hello", "not an image"),
}


def two_sizes(first):
    """A TIFF file of 16 x 16 pixels with an entry for another width before its own."""
    data = bytearray(made.tiff({255: (4, [1]), **made.tiff_tags(16, 16, counts=[768])}, bytes(768)))
    at = data.index(b"\xff\0\4\0\1\0\0\0")
    data[at : at + 12] = b"\0\1" + bytes([first, 0]) + (1).to_bytes(4, "little") + (32000).to_bytes(4, "little")
    return bytes(data)


def bitmap(width, height):
    sides = (number.to_bytes(4, "little", signed=True) for number in (width, height))
    return b"BM" + b"\0" * 12 + (40).to_bytes(4, "little") + b"".join(sides) + b"\1\0\x18\0" + b"\0" * 24


@pytest.mark.parametrize("kind", REFUSED)
def test_refused(kind):
    make, reason = REFUSED[kind]
    with pytest.raises(ImageError, match=reason) as failure:
        decode_image(make(), "x.jpg")
    assert "\n" not in str(failure.value)


# What is decoded although it is odd: each file has the color PLAIN or is gray, and needs little of anything.
ODD = {
    "text": lambda: made.png(TEXT * 300, TEXT * 300),
    "profile": lambda: made.png(made.chunk(b"iCCP", b"\x1b[31mx\0\0" + made.compressed(100))),
    "frames": lambda: made.png(made.chunk(b"acTL", b"\x7f" * 8) + made.chunk(b"fcTL", b"\0" * 26)),
    "unknown": lambda: made.png(made.chunk(b"ab\x1b[", b"") * 2000),
    "orientations": lambda: made.png(made.chunk(b"eXIf", b"MM\0*\0\0\0\x08\0\0") * 2000),
    "data beyond the pixels": lambda: made.png(more=made.chunk(b"IDAT", made.compressed(4000))),
}

CHILD = """
import resource, sys
resource.setrlimit(resource.RLIMIT_CPU, (12, 12))
resource.setrlimit(resource.RLIMIT_AS, (3 << 30, 3 << 30))
sys.path[:0] = [{tests!r}, {here!r}]
import test_header
for kind, make in test_header.ODD.items():
    pixels = test_header.decode_image(make(), kind)
    print(kind, *pixels.shape, *pixels.reshape(-1, 3).min(0), *pixels.reshape(-1, 3).max(0), sep=";", flush=True)
"""


def test_what_decides_no_pixel_is_not_decompressed(request):
    """In a process that may use 12 seconds and 3 GB; before, each of some files took half a minute."""
    pytest.importorskip("resource", reason="limits of a process")
    program = CHILD.format(tests=str(request.path.parents[2]), here=str(request.path.parent))
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    lines = [line.split(";") for line in done.stdout.splitlines()]
    assert [line[0] for line in lines] == list(ODD), done.stderr
    assert all(line[1:4] == ["16", "16", "3"] for line in lines)
    assert all(line[4:] == ["16", "32", "48"] * 2 for line in lines[:-1])
    assert "\x1b" not in done.stderr


def test_data_beyond_the_pixels_of_a_small_file_do_not_reach_opencv(monkeypatch):
    """One of 100 kB, for which OpenCV would decompress 200 MB."""
    stream = zlib.compressobj(9)
    rows, hidden = (
        stream.compress(part) + stream.flush(zlib.Z_FULL_FLUSH)
        for part in ((b"\0" + made.PLAIN * 16) * 16, bytes(2**20))
    )
    data = made.png(more=made.chunk(b"IDAT", rows + hidden * 200))
    assert 100_000 < len(data) < 300_000
    with monkeypatch.context() as opencv:
        opencv.setattr(cv2, "imdecode", lambda *_: pytest.fail("OpenCV decompresses it"))
        pixels = decode_image(data, "x.png")
    assert pixels.shape == (16, 16, 3) and np.array_equal(np.unique(pixels), [0x10, 0x20, 0x30])
    plain = made.png()
    assert png.may_hide_data(data, check_header(data)) and not png.may_hide_data(plain, check_header(plain))


def interlaced(rng):
    """Noise in the seven passes of Adam7: for each, where its rows and columns begin and their distances."""
    height, width = 700, 701
    passes = [(0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1)]
    lines = [
        b"\0" + rng.bytes(3 * len(range(left, width, across)))
        for top, left, down, across in passes
        for _ in range(top, height, down)
    ]
    pixels = made.chunk(b"IDAT", zlib.compress(b"".join(lines)))
    return made.png_header(height, width, interlaced=1) + pixels + made.chunk(b"IEND")


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "LA", "P", "I;16", "RGB 16", "interlaced"])
def test_a_large_png_has_the_pixels_that_opencv_gives(mode):
    rng = np.random.default_rng(0)
    if mode == "RGB 16":
        data = cv2.imencode(".png", rng.integers(0, 2**16, (500, 501, 3), dtype=np.uint16))[1].tobytes()
    elif mode == "interlaced":
        data = interlaced(rng)
    else:
        channels = {"RGB": 3, "RGBA": 4, "L": 1, "LA": 2, "P": 1, "I;16": 2}[mode]
        noise = rng.integers(0, 256, (1100, 1101 if channels < 3 else 401, channels), dtype=np.uint8)
        image = Image.frombytes(mode, noise.shape[1::-1], noise.tobytes())
        if mode == "P":
            image.putpalette(rng.integers(0, 256, 768, dtype=np.uint8).tobytes())
        stream = io.BytesIO()
        image.save(stream, "PNG")
        data = stream.getvalue()
    assert len(data) > 2**20
    expected = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)[..., ::-1]
    pixels = decode_image(data, "x.png")
    assert pixels.dtype == np.uint8 and np.array_equal(pixels, expected)
    assert pixels.flags.writeable


def test_a_large_damaged_png_is_refused():
    noise = np.random.default_rng(0).integers(0, 256, (800, 800, 3), dtype=np.uint8)
    data = bytearray(cv2.imencode(".png", noise)[1].tobytes())
    data[len(data) // 2] ^= 1
    with pytest.raises(ImageError, match="check sum"):
        decode_image(bytes(data), "x.png")
    rows = made.chunk(b"IDAT", zlib.compress(noise.tobytes()[: 2**20 + 99]))
    with pytest.raises(ImageError, match="damaged"):
        decode_image(made.png(more=rows, height=3000, width=3000), "x.png")


def test_a_turned_png_is_decoded_as_before_and_may_not_hide_a_bomb():
    exif = made.chunk(b"eXIf", b"MM\0*\0\0\0\x08\0\1\1\x12\0\3\0\0\0\1\0\6\0\0\0\0\0\0")
    noise = np.random.default_rng(0).integers(0, 256, (600, 700, 3), dtype=np.uint8)
    data = cv2.imencode(".png", noise)[1].tobytes()
    data = data[:33] + exif + data[33:]
    expected = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)[..., ::-1]
    assert np.array_equal(decode_image(data, "x.png"), expected)
    bomb = made.png(before=exif, more=made.chunk(b"IDAT", made.compressed(1500)))
    with pytest.raises(ImageError, match="more than its 16 x 16 pixels"):
        decode_image(bomb, "x.png")


@pytest.mark.parametrize("order", ["little", "big"])
@pytest.mark.parametrize("big", [False, True])
def test_tiff_files_of_both_orders_and_sizes_are_decoded(order, big):
    data = made.tiff(made.tiff_tags(20, 30, counts=[1800]), bytes(range(180)) * 10, big, order)
    header = check_header(data)
    assert (header.kind, header.height, header.width, header.decoded, header.bits) == ("TIFF", 20, 30, 600, 24)
    assert np.array_equal(decode_image(data, "x.tif").reshape(-1), np.frombuffer(bytes(range(180)) * 10, np.uint8))


def test_honest_images_are_not_refused():
    """Those that encoders write with many scans, segments, chunks, tiles."""
    assert check_header(made.progressive(10_000, 10_000, 10)).decoded == 10**8
    photo = Image.effect_noise((512, 384), 40).convert("RGB")
    for kind, options in [
        ("JPEG", {"progressive": True}),
        ("JPEG", {"icc_profile": b"x" * 2**21}),
        ("PNG", {"icc_profile": b"x" * 2**21}),
        ("WEBP", {"icc_profile": b"x" * 2**21}),
        ("TIFF", {"compression": "jpeg"}),
        ("TIFF", {"compression": "tiff_lzw"}),
        ("PPM", {}),
        ("BMP", {}),
    ]:
        stream = io.BytesIO()
        photo.save(stream, kind, **options)
        assert decode_image(stream.getvalue(), "x").shape == (384, 512, 3), kind
    stream = io.BytesIO()
    photo.convert("CMYK").save(stream, "JPEG", progressive=True)
    assert decode_image(stream.getvalue(), "x").shape == (384, 512, 3)
    # A film behind a photo may have anything in its bytes.
    for options in {}, {"progressive": True}:
        photo.save(stream := io.BytesIO(), "JPEG", **options)
        assert decode_image(stream.getvalue() + b"\xff\xe1\0\2" * 9000, "x").shape == (384, 512, 3)
    # An MPO file has several pictures one after another.
    photo.save(stream := io.BytesIO(), "MPO", save_all=True, append_images=[photo] * 4)
    assert decode_image(stream.getvalue(), "x").shape == (384, 512, 3)


def test_the_limit_of_pixels_is_a_variable_of_the_environment(monkeypatch):
    data = made.png()
    assert decode_image(data, "x").shape == (16, 16, 3)
    monkeypatch.setenv("OPENCV_IO_MAX_IMAGE_PIXELS", "255")
    with pytest.raises(ImageError, match=r"more than 255 \(the environment variable OPENCV_IO_MAX_IMAGE_PIXELS"):
        decode_image(data, "x")
    monkeypatch.setenv("OPENCV_IO_MAX_IMAGE_PIXELS", "256")
    assert decode_image(data, "x").shape == (16, 16, 3)
