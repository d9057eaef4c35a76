"""Readers that give several views of images."""

import cv2
import numpy as np
import pytest

from ppdet.data.loading.reader import EvalReader
from ppdet.data.loading.reader import TestReader as ImageReader
from ppdet.data.loading.views import View, transforms_of_view
from ppdet.data.sources.image_folder import ImageFolder
from ppdet.data.transforms.batches.pad_batch import PadBatch
from ppdet.data.transforms.composing.compose import Compose
from ppdet.data.transforms.decode import Decode
from ppdet.data.transforms.geometry.resize import Resize
from ppdet.data.transforms.normalize import NormalizeImage, Permute
from ppdet.utils.errors import DataError

VIEWS = [View(), View(1.0, True, False), View(0.5, False, True)]


@pytest.fixture
def paths(tmp_path):
    """Images of 40 x 60 and 30 x 20."""
    rng, paths = np.random.default_rng(0), []
    for number, size in enumerate([(40, 60), (30, 20)]):
        paths.append(str(tmp_path / f"{number}.png"))
        cv2.imwrite(paths[-1], rng.integers(0, 256, (*size, 3), dtype=np.uint8))
    return paths


def read(kind, paths, transforms=(), views=VIEWS, **options):
    dataset = ImageFolder()
    dataset.set_images(paths)
    reader = kind(
        dataset=dataset,
        sample_transforms=[Decode(), *transforms, Permute()],
        batch_transforms=[PadBatch(pad_to_stride=8)],
        **options,
    )
    reader.read_views(views)
    return reader


def summary(batches):
    return [(batch["im_id"].tolist(), batch["views_left"].tolist(), batch["im_shape"].tolist()) for batch in batches]


@pytest.mark.parametrize("worker_num", [0, 2])
def test_a_batch_has_one_view(paths, worker_num):
    """The second image is padded to another size, and the device gets batches of one size."""
    reader = read(ImageReader, paths, batch_size=2, worker_num=worker_num)
    assert reader.image_count == 2
    batches = list(reader)
    assert summary(batches) == [
        ([1], [2], [[30, 20]]),
        ([0], [2], [[40, 60]]),
        ([1], [1], [[30, 20]]),
        ([0], [1], [[40, 60]]),
        ([1], [0], [[15, 10]]),
        ([0], [0], [[20, 30]]),
    ]
    pixels = cv2.imread(paths[0])[..., ::-1]
    small = cv2.resize(pixels, (30, 20))[::-1]
    for place, (expected, factor) in {1: (pixels, 1), 3: (pixels[:, ::-1], 1), 5: (small, 0.5)}.items():
        image = batches[place]["image"].numpy()[0].transpose(1, 2, 0)
        height, width = expected.shape[:2]
        np.testing.assert_array_equal(image[:height, :width], expected)
        assert not image[height:].any() and not image[:, width:].any()  # flipped before it is padded
        assert batches[place]["scale_factor"].tolist() == [[factor, factor]]


def test_ranks_share_images(paths):
    readers = [read(ImageReader, paths, rank=rank, world_size=2) for rank in range(2)]
    assert [[ids for ids, *_ in summary(reader)] for reader in readers] == [[[0]] * 3, [[1]] * 3]


def test_an_unreadable_image_is_one(paths, tmp_path, log):
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no")
    reader = read(ImageReader, [*paths, str(broken)], batch_size=3)
    assert sum(len(ids) for ids, *_ in summary(reader)) == 6
    assert list(reader.skipped) == [str(broken)] and log.text.count("image skipped") == 1
    other = tmp_path / "other.png"
    other.write_bytes(b"no")
    with pytest.raises(DataError, match="2 of 4 images cannot be read"):
        list(read(EvalReader, [*paths, str(broken), str(other)], batch_size=4))


@pytest.mark.parametrize(
    ("size", "keep_ratio", "scale", "expected"),
    [
        ((32, 48), False, 0.8, (26, 38)),  # 25.6 and 38.4
        ((80, 100), True, 0.5, (33, 50)),  # 40 x 50, and the ratio of 40 x 60 stays
        ((80, 100), True, 1.2, (80, 120)),
        ((3, 3), False, 0.1, (1, 1)),
    ],
)
def test_scales_are_factors_of_the_target_size(paths, size, keep_ratio, scale, expected):
    transforms = [Decode(), Resize(target_size=list(size), keep_ratio=keep_ratio), NormalizeImage(), Permute()]
    changed = transforms_of_view(transforms, View(scale, True, True))
    assert [type(t).__name__ for t in changed] == ["Decode", "Resize", "Flip", "NormalizeImage", "Permute"]
    assert [type(t).__name__ for t in transforms] == ["Decode", "Resize", "NormalizeImage", "Permute"]
    sample = Compose(changed)({"im_file": paths[0]})
    assert sample["image"].shape[1:] == expected == tuple(sample["im_shape"])
    np.testing.assert_allclose(sample["scale_factor"], np.array(expected) / (40, 60), rtol=1e-6)
    plain = Compose([Decode(), Resize(target_size=list(expected), keep_ratio=False), NormalizeImage(), Permute()])(
        {"im_file": paths[0]}
    )
    np.testing.assert_array_equal(sample["image"], plain["image"][:, ::-1, ::-1])


def test_normalization_stays_on_the_device(paths):
    """Pixels are the same whether workers or the device normalize them."""
    images = []
    for transforms in ([NormalizeImage()], [NormalizeImage(), lambda sample, rng: sample]):
        reader = read(ImageReader, paths[:1], transforms)
        images.append([batch["image"].numpy() for batch in reader])
    for one, other in zip(*images):
        np.testing.assert_allclose(one, other, atol=1e-6)


def test_a_scale_beyond_all_images_is_refused():
    with pytest.raises(DataError, match=r"scale 10: Resize.target_size is 160000 x 160000; it must be at most"):
        transforms_of_view([Decode(), Resize(target_size=16000)], View(10.0))


def test_an_image_beyond_all_images_is_named(tmp_path):
    cv2.imwrite(str(tmp_path / "large.png"), np.zeros((2000, 2000), np.uint8))
    views = Compose(transforms_of_view([Decode()], View(10.0)))
    with pytest.raises(DataError, match=r"/large\.png: test-time augmentation, scale 10: .* 20000 x 20000"):
        views({"im_file": str(tmp_path / "large.png")})


def test_a_resize_of_a_class_of_its_own_stays_one():
    class Marked(Resize):
        def __call__(self, sample, rng=None, size=None):
            sample = super().__call__(sample, rng, size)
            sample["image"][0, 0] = 255
            return sample

    resize = Marked(target_size=[16, 32], keep_ratio=False, interp=0)
    for scale, size in ((1.0, (16, 32)), (0.5, (8, 16))):
        sample = {"image": np.zeros((9, 9, 3), np.uint8), "h": 9, "w": 9}
        for transform in transforms_of_view([resize], View(scale)):
            sample = transform(sample)
        assert sample["image"].shape[:2] == size and sample["image"][0, 0].tolist() == [255] * 3
    assert resize.target_size == (16, 32)
