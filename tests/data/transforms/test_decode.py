import io
import os

import cv2
import numpy as np
import pytest
from PIL import Image

from ppdet.data.header_size import image_size
from ppdet.data.transforms import Decode
from ppdet.utils.errors import ImageError


def smooth_image(h=48, w=64):
    y, x = np.mgrid[:h, :w]
    return np.stack([x * 255 // w, y * 255 // h, (x + y) * 255 // (h + w)], axis=2).astype(np.uint8)


def decode(path, **fields):
    return Decode()({"im_file": str(path), **fields})


@pytest.mark.parametrize(
    ("mode", "suffix", "tolerance"),
    [
        ("RGB", ".png", 0),
        ("RGB", ".jpg", 12),
        ("RGB", ".webp", 40),
        ("RGB", ".bmp", 0),
        ("RGB", ".tiff", 0),
        ("L", ".png", 0),
        ("L", ".jpg", 4),
        ("P", ".png", 0),
        ("1", ".png", 0),
        ("RGBA", ".png", 0),
        ("LA", ".png", 0),
        ("CMYK", ".jpg", 12),
        ("CMYK", ".tiff", 0),
    ],
)
def test_every_kind_becomes_rgb_uint8(tmp_path, mode, suffix, tolerance):
    picture = Image.fromarray(smooth_image()).convert(mode)
    picture.save(tmp_path / f"x{suffix}")
    image = decode(tmp_path / f"x{suffix}")["image"]
    assert image.dtype == np.uint8 and image.shape == (48, 64, 3)
    expected = np.asarray(picture.convert("RGB"))
    assert np.abs(image.astype(int) - expected).max() <= tolerance


@pytest.mark.parametrize("suffix", [".png", ".tiff"])
@pytest.mark.parametrize("channels", [1, 3])
def test_16_bit(tmp_path, suffix, channels):
    pixels = smooth_image()[..., :channels]
    cv2.imwrite(str(tmp_path / f"x{suffix}"), pixels[..., ::-1].astype(np.uint16) * 257)
    image = decode(tmp_path / f"x{suffix}")["image"]
    assert image.dtype == np.uint8
    assert np.abs(image.astype(int) - pixels).max() <= 1


def test_fields(tmp_path):
    Image.fromarray(smooth_image()).save(tmp_path / "x.png")
    sample = decode(tmp_path / "x.png")
    assert (sample["h"], sample["w"]) == (48, 64)
    assert sample["im_shape"].tolist() == [48, 64] and sample["scale_factor"].tolist() == [1, 1]
    frame = Decode()({"image": smooth_image()})
    assert np.array_equal(frame["image"], smooth_image()) and frame["h"] == 48


def turned_photo(path):
    """48 x 64 pixels that a viewer shows turned to 64 x 48."""
    exif = Image.Exif()
    exif[274] = 6
    Image.fromarray(smooth_image()).save(path, exif=exif, quality=95)


def test_exif_orientation_is_applied(tmp_path):
    turned_photo(tmp_path / "x.jpg")
    image = decode(tmp_path / "x.jpg")["image"]
    expected = np.rot90(smooth_image(), 3)
    assert image.shape == (64, 48, 3)
    assert np.abs(image.astype(int) - expected).max() <= 12


def test_exif_orientation_is_ignored_where_the_boxes_were_drawn_without_it(tmp_path):
    turned_photo(tmp_path / "x.jpg")
    assert decode(tmp_path / "x.jpg", h=48, w=64)["image"].shape == (48, 64, 3)
    assert decode(tmp_path / "x.jpg", h=64, w=48)["image"].shape == (64, 48, 3)


def test_wrong_size_in_the_annotation(tmp_path):
    Image.fromarray(smooth_image()).save(tmp_path / "x.png")
    boxes = np.array([[10, 10, 90, 90]], dtype=np.float32)
    sample = decode(tmp_path / "x.png", h=100, w=100, gt_bbox=boxes)
    assert (sample["h"], sample["w"]) == (48, 64)
    assert sample["gt_bbox"].tolist() == [[10, 10, 64, 48]]
    assert boxes[0, 2] == 90, "records keep their arrays"


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".bmp", ".tiff"])
@pytest.mark.parametrize("share", [0.3, 0.7, 0.97])
def test_truncated(tmp_path, suffix, share):
    noise = np.random.default_rng(0).integers(0, 256, (300, 400, 3), dtype=np.uint8)
    whole = io.BytesIO()
    Image.fromarray(noise).save(whole, {".jpg": "JPEG", ".tiff": "TIFF"}.get(suffix, suffix[1:]))
    path = tmp_path / f"x{suffix}"
    path.write_bytes(whole.getvalue()[: int(len(whole.getvalue()) * share)])
    with pytest.raises(ImageError) as failure:
        decode(path)
    assert failure.value.path == str(path)


def test_truncated_jpeg_with_a_whole_preview_inside(tmp_path):
    preview = io.BytesIO()
    Image.fromarray(smooth_image(8, 8)).save(preview, "JPEG")
    segment = b"Exif\0\0" + preview.getvalue()
    whole = io.BytesIO()
    Image.fromarray(smooth_image(300, 400)).save(whole, "JPEG")
    data = whole.getvalue()
    data = data[:2] + b"\xff\xe1" + (len(segment) + 2).to_bytes(2, "big") + segment + data[2:]
    (tmp_path / "whole.jpg").write_bytes(data + b"\0\0camera maker's notes")
    assert decode(tmp_path / "whole.jpg")["image"].shape == (300, 400, 3)
    (tmp_path / "cut.jpg").write_bytes(data[:-500])
    with pytest.raises(ImageError, match="truncated"):
        decode(tmp_path / "cut.jpg")


@pytest.mark.parametrize("content", [b"", b"hello", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\nIEND", b"\0" * 1000])
def test_not_an_image(tmp_path, content):
    (tmp_path / "x.jpg").write_bytes(content)
    with pytest.raises(ImageError, match=r"x\.jpg"):
        decode(tmp_path / "x.jpg")


def test_missing(tmp_path):
    with pytest.raises(ImageError, match=r"nothing\.jpg: no such file"):
        decode(tmp_path / "nothing.jpg")
    with pytest.raises(ImageError, match="directory"):
        decode(tmp_path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs pipes as files")
def test_what_is_no_regular_file_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "loop.jpg").symlink_to(tmp_path / "loop.jpg")
    (tmp_path / "zero.jpg").symlink_to("/dev/zero")
    for name, reason in (("pipe", "not a regular file"), ("loop", "symbolic links"), ("zero", "not a regular file")):
        path = str(tmp_path / f"{name}.jpg")
        with pytest.raises(ImageError, match=rf"{name}\.jpg: .*{reason}"):
            decode(path)
        with pytest.raises(ImageError, match=reason):
            image_size(path)


@pytest.mark.parametrize("name", ["a\0b.jpg", "a\ud800.jpg", "a\x1b[31m.jpg", "x" * 5000])
def test_names_that_no_file_can_have(tmp_path, name):
    with pytest.raises(ImageError) as failure:
        decode(f"{tmp_path}/{name}")
    assert not {"\0", "\ud800", "\x1b", "\n"} & set(str(failure.value))
