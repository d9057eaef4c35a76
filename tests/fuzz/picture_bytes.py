"""Bytes of image files of every format: honest ones, damaged ones, and those whose headers say too much."""

import io
import struct
import warnings
import zlib
from functools import cache

import cv2
import numpy as np
from PIL import Image

from fuzz.case import Content, Link, Special
from fuzz.draw import Draw
from fuzz.mutate import damaged, slightly_damaged

# fmt: off
CHUNKS = [
    b"iCCP", b"zTXt", b"tEXt", b"PLTE", b"tRNS", b"gAMA", b"acTL", b"fcTL", b"eXIf", b"iTXt", b"sPLT", b"hIST",
]
DECODED = ["jpg", "png", "webp", "bmp", "tif", "ppm"]  # suffixes of formats that the project decodes
SIDES = [
    0, 1, 2, 3, 7, 8, 255, 256, 4096, 8192, 10_000,
    16_384, 32_767, 32_768, 50_000, 65_500, 65_535, 2**24, 2**31 - 1, 2**32 - 1,
]
# Sizes beyond the limit of this project, and within that of OpenCV; the first one is within both.
LARGE = [(16_384, 16_384), (16_384, 16_385), (32_767, 32_768), (32_768, 32_767), (25_000, 25_000), (1, 2**29)]
NO_IMAGES: list[Content] = [
    Special("fifo"), Special("socket"), Special("folder"), Link("/dev/zero"), Link("/dev/null"), Link("/dev/random"),
    Link("nowhere"), Link("w.png"), Link("."), Link("/proc/self/mem"), Link("/proc/self/environ"), b"", b"\xff\xd8",
    b"\x89PNG", b"<svg xmlns='http://www.w3.org/2000/svg'/>", b"%PDF-1.4", b"%!PS-Adobe-3.0 EPSF-3.0\n",
    b"RIFF\xff\xff\xff\xffWEBP", b"BM", b"GIF89a", b"\0\0\0\x0cjP  \r\n\x87\n", b"ftypheic", b"\0\0\0\x1cftypavif",
    b"P6\n99999 99999\n255\n", b"P5 1 1 65536\n\0",
]
# fmt: on


@cache
def honest() -> dict[str, list[bytes]]:
    """Small images by suffix, in many of the ways in which each format can store them."""
    rng = np.random.default_rng(0)
    smooth = cv2.resize(rng.integers(0, 256, (6, 8, 3), dtype=np.uint8), (64, 48), interpolation=cv2.INTER_CUBIC)
    picture = Image.fromarray(smooth)
    exif = Image.Exif()
    exif[0x0112] = 6
    # fmt: off
    ways: dict[str, list[dict]] = {
        "JPEG": [
            {}, {"progressive": True}, {"quality": 30, "optimize": True}, {"exif": exif}, {"subsampling": 0},
            {"restart_marker_blocks": 2},
        ],
        "PNG": [{}, {"exif": exif}, {"compress_level": 0}],
        "WEBP": [{}, {"lossless": True}, {"exif": exif}],
        "TIFF": [{}, *({"compression": kind} for kind in ("tiff_lzw", "jpeg", "tiff_adobe_deflate", "packbits"))],
        "BMP": [{}], "GIF": [{}], "PPM": [{}], "TGA": [{}], "ICO": [{}], "PCX": [{}], "JPEG2000": [{}],
    }
    # fmt: on
    suffixes = {"JPEG": "jpg", "JPEG2000": "jp2", "TIFF": "tif"}
    found: dict[str, list[bytes]] = {}
    for kind, options in ways.items():
        modes = [picture, *(picture.convert(mode) for mode in ("L", "RGBA", "P", "CMYK", "1", "I;16"))]
        for image in modes:
            for option in options:
                stream = io.BytesIO()
                try:
                    image.save(stream, kind, **option)
                except Exception:  # the format does not have the mode, or this Pillow does not have the format
                    continue
                found.setdefault(suffixes.get(kind, kind.lower()), []).append(stream.getvalue())
    for suffix in ("hdr", "ras", "pfm", "pxm", "exr", "avif"):
        try:
            source = smooth.astype(np.float32) if suffix in ("hdr", "pfm", "exr") else smooth
            found.setdefault(suffix, []).append(cv2.imencode(f".{suffix}", source)[1].tobytes())
        except cv2.error:
            found.pop(suffix, None)
    stream = io.BytesIO()
    frames = [picture.rotate(angle) for angle in range(0, 90, 30)]
    frames[0].save(stream, "PNG", save_all=True, append_images=frames[1:])
    found["png"].append(stream.getvalue())
    stream = io.BytesIO()
    frames[0].save(stream, "TIFF", save_all=True, append_images=frames[1:])
    found["tif"].append(stream.getvalue())
    return found


def chunk(kind: bytes, content: bytes) -> bytes:
    """A chunk of a PNG file, with its right checksum."""
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png(draw: Draw, width: int, height: int) -> bytes:
    """A PNG that says it has this size, with pixels for it, or a few."""
    depth, color = draw.one([(8, 2), (8, 0), (8, 6), (16, 2), (1, 0), (8, 3), (16, 6), (4, 3), (7, 2), (8, 9)])
    header = chunk(
        b"IHDR", struct.pack(">IIBBBBB", width % 2**32, height % 2**32, depth, color, 0, 0, draw.one([0, 0, 1, 2]))
    )
    zeros = draw.one([0, 100, 10_000, 3_000_000])
    pixels = zlib.compress(bytes(zeros), 9)
    more = b""
    for _ in range(draw.one([0, 0, 1, 3])):
        large = zlib.compress(bytes(3_000_000))
        content = draw.one([b"\0" * 8, b"icc\0\0" + large, b"k\0\0" + large, draw.randbytes(30)])
        more += chunk(draw.one(CHUNKS), content)
    more *= draw.one([1, 1, 1, 100])
    return b"\x89PNG\r\n\x1a\n" + header + more + chunk(b"IDAT", pixels) * draw.one([1, 1, 2]) + chunk(b"IEND", b"")


def sized(draw: Draw) -> tuple[str, bytes, str]:
    """An honest file whose header says another size."""
    return resized(draw, draw.one(["jpg", "jpg", "png", "png", "bmp", "webp", "tif", "ppm"]))


def resized(draw: Draw, suffix: str) -> tuple[str, bytes, str]:
    """An honest file of a format whose header says another size."""
    width, height = draw.one(LARGE) if draw.chance(0.3) else (draw.one(SIDES), draw.one(SIDES))
    if draw.chance(0.2):
        width = draw.one([width, 1]) if draw.chance(0.5) else width
        height = draw.one([64, 48, 1])
    made = f"{suffix}, {width} x {height}"
    if suffix == "png" and draw.chance(0.7):
        return suffix, png(draw, width, height), made
    data = bytearray(draw.one(honest()[suffix]))
    place, form = {
        "bmp": (18, "<ii"),
        "gif": (6, "<HH"),
        "png": (16, ">II"),
        "ras": (4, ">II"),
        "tga": (12, "<HH"),
        "pcx": (8, "<HH"),
    }.get(suffix, (0, ""))
    if suffix == "jpg":
        for marker in range(0xC0, 0xC3):
            found = data.find(bytes([0xFF, marker, 0]))
            if found >= 0:
                data[found + 5 : found + 9] = struct.pack(">HH", height % 65536, width % 65536)
    elif suffix in ("ppm", "hdr"):
        text = bytes(data).replace(b"64 48", f"{width} {height}".encode(), 1)
        return suffix, text.replace(b"-Y 48 +X 64", f"-Y {height} +X {width}".encode(), 1), made
    elif suffix in ("tif", "webp", "jp2"):  # wherever the sides stand as numbers
        for form, sides in (("<I", (64, 48)), (">I", (64, 48)), ("<H", (64, 48)), (">H", (64, 48))):
            size = struct.calcsize(form)
            for old, new in zip(sides, (width, height)):
                data = bytearray(bytes(data).replace(struct.pack(form, old), struct.pack(form, new % 256**size), 2))
        if suffix == "webp" and draw.chance(0.5):
            data[20:30] = struct.pack("<IHI", 0x10, width % 65536, height % 2**32)[:10]
    elif form:
        values = [value % 256 ** (struct.calcsize(form) // 2) for value in (width, height)]
        struct.pack_into(form.lower().replace("i", "I").replace("h", "H"), data, place, *values)
        if suffix == "png":
            data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
    return suffix, bytes(data), made


def scans(draw: Draw) -> tuple[str, bytes, str]:
    """A progressive JPEG whose scans come many times, at a size that makes each of them expensive."""
    data = honest()["jpg"][1]
    first = data.find(b"\xff\xda")
    frame = data.find(b"\xff\xc2")
    side = draw.one([48, 500, 2000, 7000, 16_000])
    head = data[: frame + 5] + struct.pack(">HH", side, side) + data[frame + 9 : first]
    parts = data[first:-2].split(b"\xff\xda")[1:]
    count = draw.one([2, 50, 300, 3000])
    # A scan of the honest file, or an empty one, which visits all blocks too; now and then one that is not allowed.
    scan = draw.one([draw.one(parts), draw.one(parts), b"\x00\x08\x01\x01\x00\x01\x01\x00\x00"])
    scan = b"\xff\xda" + draw.mostly(scan, [b"\x00\x08\x01\x01\x00\x00\x00\x00\x3f"])
    tables = draw.mostly(b"", [data[data.find(b"\xff\xc4") : first][:100], b"\xff\xdd\x00\x04\x00\x01"])
    filler = draw.mostly(b"", [b"\xff\xfe\x00\x10" + bytes(14), b"\xff\xe1\x00\x02", b"\xff" * 5])
    return "jpg", head + b"".join([tables + filler + scan] * count) + data[first:], f"{count} scans of {side} x {side}"


def segments(draw: Draw) -> tuple[str, bytes, str]:
    """A JPEG whose segments are left out, repeated, exchanged, or of other lengths."""
    data = draw.one(honest()["jpg"])
    parts, position = [data[:2]], 2
    while position + 4 <= len(data) and data[position + 1] != 0xDA:
        size = int.from_bytes(data[position + 2 : position + 4], "big") + 2
        parts.append(data[position : position + size])
        position += size
    rest = data[position:]
    for _ in range(draw.one([1, 2, 4])):
        at = draw.randrange(1, len(parts)) if len(parts) > 1 else 0
        change = draw.one(["repeat", "repeat", "leave out", "exchange", "length", "marker"])
        if change == "repeat":
            parts[at:at] = [parts[at]] * draw.one([1, 10, 2000])
        elif change == "leave out" and at:
            del parts[at]
        elif change == "exchange":
            other = draw.randrange(len(parts))
            parts[at], parts[other] = parts[other], parts[at]
        elif change == "length":
            parts[at] = parts[at][:2] + struct.pack(">H", draw.one([0, 1, 2, 3, 65535])) + parts[at][4:]
        else:
            parts[at] = b"\xff" + bytes([draw.randrange(0xC0, 0x100)]) + parts[at][2:]
    return "jpg", b"".join(parts) + rest * draw.one([1, 1, 2]), "segments"


def tiff(draw: Draw) -> tuple[str, bytes, str]:
    """A TIFF of directories that lead to each other, with tags of odd types, counts and values."""
    order = draw.one("<>")
    count = draw.one([1, 5, 14, 300])
    tags = [256, 257, 258, 259, 262, 273, 277, 278, 279, 282, 317, 320, 322, 323, 324, 325, 330, 338, 339, 34675, 34665]
    values = {256: 64, 257: 48, 258: 8, 259: 1, 262: 1, 273: 8, 277: 1, 278: 48, 279: 3072}
    entries = b""
    for tag in tags[:count] if count < 20 else tags * (count // len(tags)):
        kind, number, value = draw.one([3, 4]), 1, values.get(tag, 1)
        if draw.chance(0.2):
            kind, number = draw.one(range(20)), draw.one([0, 1, 2, 1000, 2**31, 2**32 - 1])
            value = draw.one([0, 1, 8, 2**16, 2**31, 2**32 - 1, draw.one(SIDES)])
        shown = value * 65536 if kind == 3 and order == ">" and value < 65536 else value
        entries += struct.pack(f"{order}HHII", tag, kind, number, shown % 2**32)
    following = draw.one([0, 8, 2**31, 100])
    directory = struct.pack(f"{order}H", len(entries) // 12) + entries + struct.pack(f"{order}I", following)
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}I", 8)
    return "tif", head + directory + bytes(draw.one([0, 3072, 100_000])), "directories"


def harm(draw: Draw) -> tuple[str, bytes, str]:
    """Files damaged at random, of one format or two."""
    suffix = draw.one(["jpg", "jpg", "png", *DECODED])
    others = honest()[suffix] if draw.chance(0.7) else [data for many in honest().values() for data in many]
    data, made = damaged(draw, draw.one(honest()[suffix]), others)
    if suffix == "png" and draw.chance(0.5):
        data = right_checksums(data)
    return suffix, data, f"{suffix} {made}"


def slight(draw: Draw) -> tuple[str, bytes, str]:
    """A file of a format that is decoded with one bit, byte or number changed, and right checksums."""
    suffix = draw.one(["jpg", "png", *DECODED])
    data, made = draw.one(honest()[suffix]), "honest"
    if draw.chance(0.9):
        data, made = slightly_damaged(draw, data)
    return suffix, right_checksums(data) if suffix == "png" else data, f"{suffix}, {made}"


def undecoded(draw: Draw) -> tuple[str, bytes, str]:
    """A file of a format that the project does not decode, honest, damaged or with another size."""
    suffix = draw.one([suffix for suffix in honest() if suffix not in DECODED])
    if draw.chance(0.5):
        return resized(draw, suffix)
    data, made = damaged(draw, draw.one(honest()[suffix]))
    return suffix, data, f"{suffix} {made}"


def entries_twice(draw: Draw) -> tuple[str, bytes, str]:
    """A TIFF that has a tag twice, or with a type that readers take differently: they see different sizes."""
    order, count = draw.one("<>"), 4 if draw.chance(0.5) else 1
    small, large = draw.one([10, 64]), draw.one([500, 32_000, 65_535])
    tags = {256: small, 257: small, 258: 8, 259: 1, 262: 1, 273: 8, 277: 1, 278: small, 279: small * small}
    entries = [(tag, 4, 1, value) for tag, value in tags.items()]
    for tag in (
        draw.sample([256, 257, 277, 258, 278, 322, 323], draw.one([1, 2, 2, 4])) if draw.chance(0.5) else [256, 257]
    ):
        other = tag, draw.one([1, 3, 4, 6, 8, 9, 11, 12, 13, 16, 17]), draw.mostly(1, [2, count]), large
        entries.insert(
            draw.one([len(entries), [entry[0] for entry in entries].index(tag)] if tag in tags else [0]), other
        )
        if draw.chance(0.3):
            entries = [entry for entry in entries if entry[0] != tag or entry == other]
    if draw.chance(0.7):
        entries.sort(key=lambda entry: entry[0])
    directory = b""
    for tag, kind, number, value in entries:
        is_short = order == ">" and kind in (3, 8) and value < 65536
        directory += struct.pack(f"{order}HHII", tag, kind, number, value * 65536 if is_short else value)
    start = 8 + small * small
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}I", start)
    end = struct.pack(f"{order}I", 0)
    data = head + bytes(small * small) + struct.pack(f"{order}H", len(entries)) + directory + end
    return "tif", data, f"tags twice, {small} and {large}"


def right_checksums(data: bytes) -> bytes:
    """The PNG file with the checksums that its chunks should have, so that decoders read them."""
    content, position = bytearray(data), 8
    while position + 12 <= len(content):
        size = int.from_bytes(content[position : position + 4], "big")
        end = position + 8 + size
        if end + 4 > len(content):
            break
        content[end : end + 4] = struct.pack(">I", zlib.crc32(content[position + 4 : end]))
        position = end + 4
    return bytes(content)


def orientation(draw: Draw) -> tuple[str, bytes, str]:
    """Photos with EXIF data that is damaged, long, or says a strange orientation."""
    exif = Image.Exif()
    exif[0x0112] = draw.one([0, 1, 2, 5, 6, 8, 9, 255, 65535])
    data = exif.tobytes()
    if draw.chance(0.7):
        data = b"Exif\0\0" + damaged(draw, data[6:])[0]
    stream = io.BytesIO()
    picture = Image.open(io.BytesIO(honest()["jpg"][0]))
    kind, suffix = draw.one([("JPEG", "jpg"), ("PNG", "png"), ("WEBP", "webp")])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        picture.save(stream, kind, exif=data[:60_000])
    return suffix, stream.getvalue(), "EXIF"


def special(draw: Draw) -> tuple[Content, str]:
    """A file of another kind, or none."""
    return draw.one(NO_IMAGES), "another kind of file"


# As often as they are here.
MAKERS = [*[slight] * 34, *[harm] * 8, *[sized] * 8, *[scans] * 4, *[segments] * 3, *[orientation] * 3, undecoded]
MAKERS += [*[tiff] * 3, *[entries_twice] * 3]
