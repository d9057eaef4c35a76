"""Readers that give windows of images."""

import cv2
import numpy as np
import pytest

from ppdet.data.loading.reader import EvalReader
from ppdet.data.loading.reader import TestReader as ImageReader
from ppdet.data.sources.image_folder import ImageFolder
from ppdet.data.transforms.batches.pad_batch import PadBatch
from ppdet.data.transforms.decode import Decode
from ppdet.data.transforms.normalize import Permute
from ppdet.deploy.slicing import Slicing
from ppdet.utils.errors import DataError

SLICING = Slicing((20, 30), (0.25, 0.1))


class Blacken:
    """Overwrites the pixels that it is given, after noting their sum."""

    def __call__(self, sample, rng=None):
        sample["total"] = np.array(int(sample["image"].sum()))
        sample["image"][:] = 0
        return sample


@pytest.fixture
def paths(tmp_path):
    """Images of 50 x 70 (9 windows), 20 x 30 (1) and 18 x 40 (2)."""
    rng, paths = np.random.default_rng(0), []
    for number, size in enumerate([(50, 70), (20, 30), (18, 40)]):
        paths.append(str(tmp_path / f"{number}.png"))
        cv2.imwrite(paths[-1], rng.integers(0, 256, (*size, 3), dtype=np.uint8))
    return paths


def read(kind, paths, batch_size=4, transforms=(), size=None, **options):
    """A reader of windows; `size` is the height and width that all records say."""
    dataset = ImageFolder()
    dataset.set_images(paths)
    if size:
        dataset._records = [{**record, "h": size[0], "w": size[1]} for record in dataset.records]
    reader = kind(
        dataset=dataset,
        sample_transforms=[Decode(), *transforms, Permute()],
        batch_transforms=[PadBatch(pad_to_stride=0)],
        batch_size=batch_size,
        **options,
    )
    reader.read_windows(SLICING.windows)
    return reader


def joined(batches, key):
    return [value for batch in batches for value in batch[key].numpy().tolist()]


@pytest.mark.parametrize("worker_num", [0, 2])
def test_every_window_once_in_full_batches(paths, worker_num):
    reader = read(ImageReader, paths, worker_num=worker_num)
    assert reader.reads_windows and reader.image_count == 3
    batches = list(reader)
    assert [len(batch["image"]) for batch in batches] == [4, 4, 2, 2]  # the last four are of two sizes
    assert joined(batches, "im_id") == [0] * 9 + [1] + [2] * 2
    assert joined(batches, "windows_left") == [8, 7, 6, 5, 4, 3, 2, 1, 0, 0, 1, 0]
    images = [cv2.imread(path)[..., ::-1] for path in paths]
    for batch in batches:
        planes = batch["image"].numpy()
        for i, (x1, y1, x2, y2) in enumerate(batch["window"].numpy().tolist()):
            pixels = images[batch["im_id"].numpy()[i]][y1:y2, x1:x2]
            assert batch["im_shape"].numpy()[i].tolist() == list(pixels.shape[:2])
            np.testing.assert_array_equal(planes[i, :, : y2 - y1, : x2 - x1].transpose(1, 2, 0), pixels)


def test_what_is_done_to_a_window_stays_in_it(paths):
    """Windows as wide as the image share its memory unless they are copied."""
    cv2.imwrite(paths[0], np.full((50, 30, 3), 7, np.uint8))
    assert joined(read(ImageReader, paths[:1], transforms=[Blacken()]), "total") == [7 * 20 * 30 * 3] * 3


def test_ranks_share_images(paths):
    readers = [read(ImageReader, paths, rank=rank, world_size=2) for rank in range(2)]
    assert [joined(reader, "im_id") for reader in readers] == [[0] * 9 + [2] * 2, [1]]
    assert [reader.image_count for reader in readers] == [2, 1]


def test_unreadable_images(paths, tmp_path, log):
    broken, empty = tmp_path / "broken.png", tmp_path / "empty.jpg"
    broken.write_bytes(b"no")
    empty.write_bytes(b"")
    paths = [str(broken), *paths, str(empty)]
    reader = read(ImageReader, paths)
    assert sum(len(batch["image"]) for batch in reader) == 12
    assert set(reader.skipped) == {str(broken), str(empty)}
    with pytest.raises(DataError, match="2 of 5 images cannot be read"):
        list(read(EvalReader, paths))
    only = read(ImageReader, paths[:1])
    assert list(only) == [] and set(only.skipped) == {str(broken)}


def test_failing_transforms_end_the_reading(paths):
    class Fail:
        def __call__(self, sample, rng=None):
            raise ZeroDivisionError

    with pytest.raises(RuntimeError, match="ZeroDivisionError"):
        list(read(ImageReader, paths, transforms=[Fail()]))


def test_an_image_turned_by_exif_is_cut_as_its_annotation_has_it(tmp_path):
    """Boxes drawn on the unturned pixels: windows are cut out of these."""
    pillow = pytest.importorskip("PIL.Image")
    path = tmp_path / "turned.jpg"
    exif = pillow.Exif()
    exif[0x0112] = 6  # a quarter turn
    pillow.fromarray(np.zeros((50, 70, 3), np.uint8)).save(path, exif=exif)
    for size, expected in (((50, 70), 9), ((70, 50), 10)):
        reader = read(ImageReader, [str(path)], size=size)
        corners = np.concatenate([batch["window"].numpy() for batch in reader])
        assert len(corners) == expected and corners[:, 2:].max(axis=0).tolist() == [size[1], size[0]]
