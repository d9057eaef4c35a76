"""Image files that ask a decoder for far more work or memory than their pixels need, made as the standards say."""

import zlib

SIGNATURE = b"\x89PNG\r\n\x1a\n"
PLAIN = b"\x10\x20\x30"  # the color of each pixel of `png`


def segment(marker, body):
    return bytes([0xFF, marker]) + (len(body) + 2).to_bytes(2, "big") + body


def scan(channels, first=0, last=63, bits=0, data=b"\0" * 8):
    return segment(0xDA, bytes([len(channels), *(n for c in channels for n in (c, 0)), first, last, bits])) + data


def jpeg(height, width, frame=0xC0, channels=3, extra=b"", scans=None, dimensions=0x11):
    """Gray pixels; `scans` are those of all channels in one scan unless given."""
    sides = height.to_bytes(2, "big") + width.to_bytes(2, "big")
    kinds = b"".join(bytes([c, dimensions, 0]) for c in range(1, channels + 1))
    one_code = bytes([1, *[0] * 15])  # a Huffman table with one code of one bit, for the value that follows
    return b"".join(
        [
            b"\xff\xd8" + extra + segment(0xDB, b"\0" + b"\1" * 64),
            segment(frame, b"\x08" + sides + bytes([channels]) + kinds),
            segment(0xC4, b"\0" + one_code + b"\0") + segment(0xC4, b"\x10" + one_code + b"\0"),
            scan(range(1, channels + 1), data=b"\0" * (channels * -(-height // 8) * -(-width // 8) // 4 + 8))
            if scans is None
            else scans,
            b"\xff\xd9",
        ]
    )


def progressive(height, width, scans):
    """A progressive JPEG that corrects its gray pixels again and again."""
    refined = b"".join(scan([n % 3 + 1], 1, 63, 0x10, b"\0" * 40) for n in range(scans - 1))
    return jpeg(height, width, 0xC2, scans=scan([1, 2, 3], 0, 0) + refined)


def chunk(kind, body=b""):
    return len(body).to_bytes(4, "big") + kind + body + zlib.crc32(kind + body).to_bytes(4, "big")


def compressed(mebibytes):
    """That many mebibytes (2**20) of zeros, deflated. Each is flushed, and therefore begins with the same bytes."""
    block = bytes(2**20)
    start = zlib.compress(b"")[:2]
    one = zlib.compressobj(9, wbits=-15)
    part = one.compress(block) + one.flush(zlib.Z_FULL_FLUSH)
    return start + part * mebibytes + b"\3\0" + ((mebibytes * 2**20 % 65521) << 16 | 1).to_bytes(4, "big")


def png_header(height, width, depth=8, color=2, interlaced=0):
    sides = width.to_bytes(4, "big") + height.to_bytes(4, "big")
    return SIGNATURE + chunk(b"IHDR", sides + bytes([depth, color, 0, 0, interlaced]))


def png(before=b"", after=b"", more=b"", height=16, width=16):
    """Pixels of the color PLAIN. `before` and `after` are chunks around the pixels, `more` follows them in IDAT."""
    rows = zlib.compress((b"\0" + PLAIN * width) * height)
    pixels = more or chunk(b"IDAT", rows)
    return png_header(height, width) + before + pixels + after + chunk(b"IEND")


def webp(width, height, frames):
    """An animation on a canvas; each of its frames is `frames`, the chunk of an image of 16 x 16 pixels."""

    def part(name, body):
        return name + len(body).to_bytes(4, "little") + body + b"\0" * (len(body) % 2)

    canvas = b"\2\0\0\0" + (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    frame = b"\0" * 6 + (15).to_bytes(3, "little") * 2 + (10).to_bytes(3, "little") + b"\0" + frames
    body = b"WEBP" + part(b"VP8X", canvas) + part(b"ANIM", b"\0" * 6) + part(b"ANMF", frame)
    return b"RIFF" + len(body).to_bytes(4, "little") + body


def tiff(tags, data=b"", big=False, order="little"):
    """A file with these tags: {number: (type, values)}; `data` begins at byte 16."""
    sizes = {1: 1, 3: 2, 4: 4, 16: 8}
    size = 8 if big else 4
    first = (b"II+\0" if order == "little" else b"MM\0+") if big else (b"II*\0" if order == "little" else b"MM\0*")
    head = first + ((8).to_bytes(2, order) + b"\0\0" if big else b"")
    body, entries = bytearray(data), []
    for tag, (kind, values) in sorted(tags.items()):
        raw = b"".join(int(value).to_bytes(sizes[kind], order) for value in values)
        if len(raw) > size:
            place = 16 + len(body)
            body += raw
            raw = place.to_bytes(size, order)
        number = tag.to_bytes(2, order) + kind.to_bytes(2, order) + len(values).to_bytes(size, order)
        entries.append(number + raw.ljust(size, b"\0"))
    start = 16 + len(body)
    directory = len(entries).to_bytes(8 if big else 2, order) + b"".join(entries) + b"\0" * size
    return (head + start.to_bytes(size, order)).ljust(16, b"\0") + bytes(body) + directory


def tiff_tags(height, width, compression=1, offsets=(16,), counts=(0,), rows=None, channels=3, more=()):
    """The tags of an RGB image in strips."""
    return {
        256: (4, [width]),
        257: (4, [height]),
        258: (3, [8] * channels),
        259: (3, [compression]),
        262: (3, [2 if channels == 3 else 1]),
        273: (4, offsets),
        277: (3, [channels]),
        278: (4, [rows or height]),
        279: (4, counts),
        284: (3, [1]),
        **dict(more),
    }
