"""Near-duplicates are found among copies that were changed as tools change them, and among real ones."""

import cv2
import numpy as np
import pytest

from ppdet.data.annotations.near_duplicates import groups, groups_of_hashes, hash_of
from ppdet.data.transforms.decode import read_image
from ppdet.utils.errors import DataError


def picture(seed):
    """A picture (240, 320, 3) of ten colored discs on a ground."""
    rng = np.random.default_rng(seed)
    image = np.full((240, 320, 3), rng.integers(80, 180, 3), np.uint8)
    for _ in range(10):
        center = (int(rng.integers(320)), int(rng.integers(240)))
        cv2.circle(image, center, int(rng.integers(15, 60)), rng.integers(0, 256, 3).tolist(), cv2.FILLED)
    return image


def write(path, image, *options):
    cv2.imwrite(str(path), image, options)
    return str(path)


CHANGES = {
    "quality": lambda image: cv2.imdecode(cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 30])[1], 1),
    "size": lambda image: cv2.resize(image, (200, 150), interpolation=cv2.INTER_AREA),
    "gray": lambda image: cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_BGR2GRAY), cv2.COLOR_GRAY2BGR),
    "light": lambda image: cv2.convertScaleAbs(image, alpha=1.1, beta=8),
    "crop": lambda image: image[2:-2, 3:-3],
}


@pytest.mark.parametrize("change", CHANGES)
def test_changed_copies_are_near_duplicates(tmp_path, change):
    images = [picture(seed) for seed in range(3)]
    paths = [write(tmp_path / f"{i}.png", image) for i, image in enumerate(images)]
    paths.append(write(tmp_path / "copy.png", CHANGES[change](images[1])))
    assert groups(paths) == [[0], [1, 3], [2]]


def test_a_chain_is_one_group_and_groups_have_no_order_of_their_own():
    hashes = [np.zeros(256, bool) for _ in range(4)]
    hashes[0][:40] = True  # 0 and 3 differ in 40 bits, and 2 is between them
    hashes[2][:20] = True
    hashes[1][100:200] = True
    assert groups_of_hashes(hashes) == [[0, 2, 3], [1]]
    assert groups_of_hashes(hashes, most_different=19) == [[0], [1], [2], [3]]
    assert groups_of_hashes([]) == []


def test_many_hashes_are_compared_across_blocks():
    """Number i of the 3,000 hashes is also number i + 1,500, which lies in another block of the comparison."""
    rng = np.random.default_rng(0)
    half = rng.random((1500, 256)) < 0.5
    assert groups_of_hashes([*half, *half]) == [[i, i + 1500] for i in range(1500)]


def test_unreadable_images_are_alone(tmp_path):
    sound = write(tmp_path / "a.png", picture(0))
    broken = tmp_path / "b.png"
    broken.write_bytes(b"no image")
    assert groups([str(broken), sound, str(tmp_path / "missing.png"), sound]) == [[0], [1, 3], [2]]


def test_images_of_one_color_are_like_each_other_only(tmp_path):
    black = write(tmp_path / "black.png", np.zeros((50, 60, 3), np.uint8))
    white = write(tmp_path / "white.png", np.full((90, 30, 3), 255, np.uint8))
    assert groups([black, write(tmp_path / "a.png", picture(1)), black, white])[:2] == [[0, 2, 3], [1]]


def test_hashes_are_those_of_the_library(tmp_path):
    """The hash is that of imagehash.phash of the file as Pillow reads it, in the words of its documentation."""
    import imagehash
    from PIL import Image

    path = write(tmp_path / "a.png", picture(2))
    expected = imagehash.phash(Image.open(path), hash_size=16)
    assert str(expected) == str(imagehash.ImageHash(hash_of(read_image(path)).reshape(16, 16)))


def test_real_slides_and_boards(shared):
    """Slides 37 and 38 show one view, moved a little; boards 50600002, 34 and 66 one place of three panels."""
    slides = [str(shared / "data" / "bccd" / "images" / f"BloodImage_{number:05d}.jpg") for number in range(34, 44)]
    assert groups(slides) == [[0], [1], [2], [3, 4], [5], [6], [7], [8], [9]]
    folder = shared / "data" / "deeppcb" / "images"
    boards = [str(folder / f"50600{number:03d}.png") for number in (0, 1, 2, 3, 34, 35, 36, 66)]
    assert groups(boards) == [[0], [1], [2, 4, 7], [3], [5], [6]]


def test_the_missing_library_is_one_line(monkeypatch, tmp_path):
    import importlib.util

    find = importlib.util.find_spec
    absent = {"imagehash", "globox"}  # the second one is of the same extra, and reads files of other tools
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *more: None if name in absent else find(name))
    with pytest.raises(DataError, match=r"^imagehash is not installed: pip install imagehash$"):
        groups([str(tmp_path / "a.png")])
