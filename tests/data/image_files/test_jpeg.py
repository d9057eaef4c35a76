"""Decoding at reduced scale where the next step makes the image much smaller anyway."""

import io

import cv2
import numpy as np
import pytest
from PIL import Image

from ppdet.data.image_files import Unreadable, jpeg
from ppdet.data.transforms import Compose, Decode, RandomCrop, RandomFlip, RandomResize, Resize
from ppdet.data.transforms.decode import DecodeAndResize

BOXES = np.array([[40, 100, 400, 300], [600, 20, 700, 501]], dtype=np.float32)


def photo(path, h=504, w=712, orientation=None):
    """Smooth waves with some noise, as JPEG."""
    y, x = np.mgrid[:h, :w]
    waves = [np.sin(x / 31 + k) * np.cos(y / 23 - k) * 90 + 128 for k in range(3)]
    noise = np.random.default_rng(0).normal(0, 8, (h, w, 3))
    pixels = np.clip(np.stack(waves, axis=2) + noise, 0, 255).astype(np.uint8)
    exif = Image.Exif()
    if orientation:
        exif[274] = orientation
    Image.fromarray(pixels).save(path, "JPEG", quality=95, exif=exif)
    return str(path)


def one_by_one(transforms, sample, rng):
    for transform in transforms:
        sample = transform(sample, rng)
    return sample


@pytest.mark.parametrize("orientation", [None, 3, 6])
@pytest.mark.parametrize(
    "resize",
    [
        Resize(target_size=[200, 333]),
        Resize(target_size=[100, 120], keep_ratio=False),
        Resize(target_size=64, interp=cv2.INTER_CUBIC),
        RandomResize(target_size=[[120, 200], [200, 150]], keep_ratio=True),
        RandomResize(target_size=[[50, 90], [100, 180]], random_range=True),
    ],
)
def test_everything_but_the_pixels_stays_as_it_is(tmp_path, resize, orientation):
    path = photo(tmp_path / "x.jpg", orientation=orientation)
    records = [{}, {"h": 504, "w": 712}, {"h": 712, "w": 504}, {"h": 90, "w": 700}]
    for seed, record in enumerate(records):
        start = {"im_file": path, "gt_bbox": BOXES, **record}
        joined = Compose([Decode(), resize])(dict(start), np.random.default_rng(seed))
        plain = one_by_one([Decode(), resize], dict(start), np.random.default_rng(seed))
        assert joined.keys() == plain.keys()
        for key in ("gt_bbox", "im_shape", "scale_factor", "h", "w"):
            assert np.array_equal(joined[key], plain[key]), key
        assert joined["image"].shape == plain["image"].shape and joined["image"].dtype == np.uint8


def test_pixels_are_those_of_an_area_filter(tmp_path):
    path = photo(tmp_path / "x.jpg", h=960, w=1280)
    sample = Compose([Decode(), Resize(target_size=[240, 10000])])({"im_file": path})
    exact = cv2.resize(Decode()({"im_file": path})["image"], (320, 240), interpolation=cv2.INTER_AREA).astype(int)
    plain = Resize(target_size=[240, 10000])(Decode()({"im_file": path}))["image"]
    error = np.abs(sample["image"] - exact).mean()
    assert error < 1.0 and error < np.abs(plain - exact).mean()


def decoded_size(monkeypatch, path, *transforms):
    """(h, w) of the pixels that OpenCV decodes."""
    sizes = []
    decode = cv2.imdecode
    monkeypatch.setattr(cv2, "imdecode", lambda *args: sizes.append(decode(*args)) or sizes[-1])
    Compose([Decode(), *transforms])({"im_file": path}, np.random.default_rng(0))
    monkeypatch.undo()
    return sizes[-1].shape[:2]


@pytest.mark.parametrize(
    ("target", "size"),
    [(253, (504, 712)), (252, (252, 356)), (127, (252, 356)), (126, (126, 178)), (63, (63, 89)), (5, (63, 89))],
)
def test_never_smaller_than_the_target(tmp_path, monkeypatch, target, size):
    path = photo(tmp_path / "x.jpg")
    assert decoded_size(monkeypatch, path, Resize(target_size=[target, 10000])) == size


@pytest.mark.parametrize(
    "transforms",
    [
        [RandomFlip(), Resize(target_size=50)],
        [RandomCrop(), Resize(target_size=50)],
        [Resize(target_size=50, interp=cv2.INTER_NEAREST)],
        [RandomResize(target_size=[50, 400])],
        [Resize(target_size=[50, 700], keep_ratio=False)],
        [],
    ],
)
def test_whole_where_the_pixels_may_be_needed(tmp_path, monkeypatch, transforms):
    path = photo(tmp_path / "x.jpg")
    assert decoded_size(monkeypatch, path, *transforms) == (504, 712)


def test_other_kinds_and_nearly_square_images_stay_whole(tmp_path, monkeypatch):
    cv2.imwrite(str(tmp_path / "x.png"), np.zeros((504, 712, 3), np.uint8))
    assert decoded_size(monkeypatch, str(tmp_path / "x.png"), Resize(target_size=50)) == (504, 712)
    assert decoded_size(monkeypatch, photo(tmp_path / "y.jpg", 501, 505), Resize(target_size=50)) == (501, 505)
    assert decoded_size(monkeypatch, photo(tmp_path / "z.jpg", 504, 504), Resize(target_size=50)) == (63, 63)


@pytest.mark.parametrize("size", [(1600, 1200), (1601, 1201), (1602, 1204), (3201, 2402)])
def test_a_reduced_picture_stays_where_its_boxes_are(tmp_path, size):
    """A soft edge near the far side of the image, in pixels of the result, whatever the sides divide by."""
    height, width = size
    edge = width - 110
    ramp = np.clip((np.arange(width) + 0.5 - edge) / 200 + 0.5, 0, 1) * 255  # wide, since resizing picks single pixels
    image = np.tile(np.round(ramp).astype(np.uint8)[None, :, None], (height, 1, 3))
    cv2.imwrite(str(tmp_path / "x.jpg"), image, [cv2.IMWRITE_JPEG_QUALITY, 95])
    sample = Compose([Decode(), Resize(target_size=150)])(
        {"im_file": str(tmp_path / "x.jpg")}, np.random.default_rng(0)
    )
    row = sample["image"].mean(axis=(0, 2)) / 255
    found = len(row) - row.sum()
    assert abs(found - edge * sample["scale_factor"][1]) < 0.2


@pytest.mark.parametrize("progressive", [False, True])
def test_size_in_the_header(progressive):
    data = io.BytesIO()
    Image.new("RGB", (123, 45)).save(data, "JPEG", progressive=progressive, exif=Image.Exif())
    header = jpeg.read_header(data.getvalue())
    assert (header.height, header.width) == (45, 123)
    with pytest.raises(Unreadable, match="truncated"):
        jpeg.read_header(data.getvalue()[:20])


def test_a_subclass_keeps_what_it_does():
    class Other(Resize):
        pass

    joined = Compose([Decode(), Resize(target_size=5)]).transforms
    assert [type(t) for t in joined] == [DecodeAndResize]
    assert len(Compose([Decode(), Other(target_size=5)]).transforms) == 2
