"""A box follows its pixels through every registered transform: boxes are painted into images, and found again.

A new transform needs an entry in CASES, or a reason in EXEMPT.
"""

import functools
import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ppdet.core.registry import components_of
from ppdet.core.workspace import import_components
from ppdet.data import transforms as T
from ppdet.data.transforms.auto_augment.apply_policy import apply_operation

SEEDS = range(7)
SIZES = [(60, 84), (90, 40)]  # height, width

# Transforms that neither draw anything nor move pixels by a box, and where they are tested.
EXEMPT = {
    "Decode": "test_decode.py",
    "Gt2FCOSTarget": "batches/test_targets.py",
    "NormalizeImage": "test_golden.py",
    "PadBatch": "batches/test_pad_batch.py",
    "Permute": "test_golden.py",
}


# Whether a box surely stays. Its place in the result, which may be partly outside, is x1, y1, x2, y2; the result has
# the size (h, w); places are known to `slack` pixels.
Rule = Callable[[np.ndarray, int, int, float], bool]


def always(box: np.ndarray, h: int, w: int, slack: float) -> bool:
    return True


def has_center_inside(box: np.ndarray, h: int, w: int, slack: float) -> bool:
    x, y = (box[:2] + box[2:]) / 2
    return slack < x < w - slack and slack < y < h - slack


def is_inside_at_all(box: np.ndarray, h: int, w: int, slack: float) -> bool:
    return box[2] > slack and box[3] > slack and box[0] < w - slack and box[1] < h - slack


def is_a_pixel_wide(box: np.ndarray, h: int, w: int, slack: float) -> bool:
    x1, y1, x2, y2 = np.clip(box, 0, [w, h, w, h])
    return min(x2 - x1, y2 - y1) > 1 + slack


def is_mostly_inside(box: np.ndarray, h: int, w: int, slack: float) -> bool:
    """Of the area, more than a quarter; more than 2 pixels of both sides, and not 20 times as long as wide."""
    least, most = (box + np.array([1, 1, -1, -1]) * one for one in (slack, -slack))
    width, height = sides = (np.clip(least, 0, [w, h, w, h]).reshape(2, 2) * [[-1], [1]]).sum(axis=0)
    share = width * height / np.prod(most[2:] - most[:2])
    return min(sides) > 2 and share > 0.25 and max(sides) + 2 * slack < 20 * min(sides)


def apply(transform: Callable, sample: dict, rng: np.random.Generator) -> dict:
    """Call a transform; one that takes a batch gets two images more."""
    if not getattr(transform, "takes_batch", False):
        return transform(sample, rng)
    others = [paint(60, 50, [])[0], paint(30, 80, [])[0]]
    return transform([sample, *others], rng)[0]


def apply_with_others(transform: Callable, sample: dict, rng: np.random.Generator) -> dict:
    """Call a transform of several images: the others are black, and their boxes have classes from 102 on."""
    others = []
    for k in range(transform.further_images):
        other = paint(50 + 10 * k, 70 - 5 * k, [(5, 5, 30, 20 + k)])[1]
        others.append({**other, "image": np.zeros_like(other["image"]), "gt_class": other["gt_class"] + 102 + 3 * k})
    return transform([sample, *others], rng)


@dataclass
class Case:
    """How a transform is tested.

    Attributes:
        transform: what is called.
        tolerance: of the sides of boxes, in pixels of the result, or of the image where these are larger; 0: exact.
        stays: which boxes may not be dropped.
        is_turned: boxes turn, so that they bound their pixels only where these do not reach the border of the image.
        is_askew: parallel lines do not stay parallel.
        is_one_map: the result is one image, moved by one matrix, which is read from its pixels and moves the boxes.
        seen: pixel values above this belong to a box, which has 255. None: colors change, so that none can be found.
        run: calls the transform.
    """

    transform: Any
    tolerance: float = 0.0
    stays: Rule = always
    is_turned: bool = False
    is_askew: bool = False
    is_one_map: bool = True
    seen: float | None = 127.5
    run: Callable[[Callable, dict, np.random.Generator], dict] = apply


DETR = T.RandomSelect(
    transforms1=[T.RandomShortSideResize(short_side_sizes=[40, 50, 70], max_size=90)],
    transforms2=[
        T.RandomShortSideResize(short_side_sizes=[50, 60]),
        T.RandomSizeCrop(min_size=20, max_size=50),
        T.RandomShortSideResize(short_side_sizes=[40, 50, 70], max_size=90),
    ],
)


def operation(name: str) -> Callable[[dict, np.random.Generator], dict]:
    """An operation of AutoAugment alone, at a middle magnitude."""

    def change(sample: dict, rng: np.random.Generator) -> dict:
        apply_operation(sample, name, 5, rng)
        return sample

    return change


ALBU = (
    [
        Case(T.Albu(transforms=[{"HorizontalFlip": {}}, {"RandomRotate90": {}}]), tolerance=1e-3),
        Case(T.Albu(transforms=[{"Affine": {"rotate": [-30, 30], "p": 1.0}}]), 1, is_inside_at_all, is_turned=True),
    ]
    if importlib.util.find_spec("albumentations")
    else []
)
CASES: dict[str, list[Case]] = {
    "Albu": ALBU,  # which needs a package
    "AutoAugment": [
        Case(T.AutoAugment(), seen=None, is_one_map=False),
        *(
            Case(operation(f"{name}_BBox"), tolerance=1, stays=is_a_pixel_wide, is_turned=True, seen=200)
            for name in ("Rotate", "ShearX", "ShearY", "TranslateX", "TranslateY")
        ),
    ],
    "BatchRandomResize": [
        Case(T.BatchRandomResize(target_size=[32, 64, 96], keep_ratio=False, random_interp=True), tolerance=1),
        Case(T.BatchRandomResize(input_size=[50, 70], scales=[0.8, 1.0, 1.5]), tolerance=1),
    ],
    "Cutmix": [Case(T.Cutmix(), is_one_map=False, run=apply_with_others)],
    "GridMask": [Case(T.GridMask(upper_iter=0))],
    "Mixup": [Case(T.Mixup(), is_one_map=False, seen=10, run=apply_with_others)],
    "Mosaic": [
        Case(mosaic, 1.5, is_turned=True, is_one_map=False, seen=seen, run=apply_with_others)
        for mosaic, seen in (
            (T.Mosaic(input_dim=[100, 120], enable_mixup=False), 200),
            (
                T.Mosaic(input_dim=80, scale=[0.5, 1.0], mixup_scale=[0.8, 1.2]),
                120,
            ),  # gray stays below
        )
    ],
    "RandomAffine": [Case(T.RandomAffine(degrees=[-90, 90]), 1, is_mostly_inside, is_turned=True)],
    "RandomColorJitter": [Case(T.RandomColorJitter())],
    "RandomCrop": [
        Case(T.RandomCrop(), stays=has_center_inside),
        Case(T.RandomCrop(aspect_ratio=None, allow_no_crop=False, num_attempts=20), stays=has_center_inside),
    ],
    "RandomDistort": [Case(T.RandomDistort(random_channel=True))],
    "RandomErasingCrop": [Case(T.RandomErasingCrop())],
    "RandomExpand": [Case(T.RandomExpand(ratio=2.0))],
    "RandomFlip": [Case(T.RandomFlip())],
    "RandomGaussianBlur": [Case(T.RandomGaussianBlur())],
    "RandomGrayscale": [Case(T.RandomGrayscale(prob=0.5))],
    "RandomPerspective": [
        Case(T.RandomPerspective(scale=0.5, fill_value=0), 1, is_mostly_inside, is_turned=True),
        Case(
            T.RandomPerspective(perspective=0.002, border=[8, -4]), 1, is_mostly_inside, is_turned=True, is_askew=True
        ),
    ],
    "RandomResize": [
        Case(T.RandomResize(target_size=[[30, 90], [50, 90], [70, 150]]), tolerance=1),
        Case(T.RandomResize(target_size=64, random_size=False, scale_range=[0.5, 1.5], keep_ratio=False), tolerance=1),
    ],
    "RandomResizeCrop": [
        Case(T.RandomResizeCrop(resizes=[40, [50, 80]], cropsizes=[[20, 60]], prob=0.8), 1, has_center_inside),
        Case(
            T.RandomResizeCrop(resizes=[70], cropsizes=[[30, 50]], mode="long", ioumode="iof", allow_no_crop=True),
            tolerance=1,
            stays=has_center_inside,
        ),
    ],
    "RandomRotate90": [Case(T.RandomRotate90(prob=0.8))],
    "RandomSelect": [Case(DETR, tolerance=1, stays=is_inside_at_all)],
    "RandomShortSideResize": [
        Case(T.RandomShortSideResize(short_side_sizes=[40, 60, 80], max_size=100, random_interp=True), tolerance=1)
    ],
    "RandomSizeCrop": [
        Case(T.RandomSizeCrop(min_size=10, max_size=70), stays=is_inside_at_all),
        Case(T.RandomSizeCrop(min_size=5, max_size=30, keep_empty=False), stays=is_inside_at_all),
    ],
    "RandomVerticalFlip": [Case(T.RandomVerticalFlip())],
    "Resize": [
        Case(T.Resize(target_size=[50, 70], interp=interp, keep_ratio=keep), tolerance=1)
        for interp, keep in enumerate([True, False, True, False, True])
    ],
    "StrongAugImage": [Case(T.StrongAugImage(transforms=[T.RandomColorJitter(), T.RandomErasingCrop()]))],
}
ALL = [pytest.param(case, id=f"{name}-{i}") for name, cases in CASES.items() for i, case in enumerate(cases)]


def test_every_transform_has_an_entry():
    import_components()
    registered = {one.name for one in components_of("transforms") if one.cls.__module__.startswith(T.__name__)}
    assert registered == set(CASES) | set(EXEMPT)
    assert not set(CASES) & set(EXEMPT)
    assert all((Path(__file__).parent / file).is_file() for file in EXEMPT.values())


def scene(h: int, w: int) -> list[tuple[int, int, int, int]]:
    """Boxes at corners and borders, a box around everything, one inside of others, and boxes of one pixel."""
    return [
        (0, 0, w // 3, h // 4),
        (w - w // 4, h - h // 3, w, h),
        (0, h // 2, w // 5, h - 7),
        (0, 0, w, h),
        (w // 3, h // 3, w // 3 + 14, h // 3 + 22),
        (w // 2, h // 2, w // 2 + 1, h // 2 + 1),
        (w - 1, 5, w, 25),
        (w // 2 - 6, h - 2, w // 2 + 6, h),
        (7, 3, 10, 5),
    ]


def paint(h: int, w: int, boxes: list) -> list[dict]:
    """Samples with the same boxes, of classes 0, 1, ..., every third one a crowd. Their arrays cannot be written into.

    In the first image, pixels say where they are: red and green are 40 + 2 x and 40 + 2 y. In the next ones, the
    pixels of three boxes each are 255 in one channel, which they share with nothing else.
    """
    y, x = np.mgrid[:h, :w]
    images = [np.dstack([40 + 2 * x, 40 + 2 * y, np.full_like(x, 255)]).astype(np.uint8)]
    for k, (x1, y1, x2, y2) in enumerate(boxes):
        if k % 3 == 0:
            images.append(np.zeros((h, w, 3), np.uint8))
        images[-1][y1:y2, x1:x2, k % 3] = 255
    fields = {
        "gt_bbox": np.array(boxes, np.float32).reshape(-1, 4),
        "gt_class": np.arange(len(boxes), dtype=np.int32)[:, None],
        "is_crowd": (np.arange(len(boxes), dtype=np.int32)[:, None] % 3 == 1).astype(np.int32),
        "im_shape": np.array([h, w], np.float32),
        "scale_factor": np.ones(2, np.float32),
    }
    for array in (*images, *fields.values()):
        array.setflags(write=False)
    return [{"image": image, **fields} for image in images]


def run(case: Case, sample: dict, seed: int) -> dict:
    return case.run(case.transform, dict(sample), np.random.default_rng(seed))


def arrays(sample: dict) -> dict[str, np.ndarray]:
    return {name: value for name, value in sample.items() if isinstance(value, np.ndarray)}


def assert_same(one: dict, other: dict, names: Any = None) -> None:
    for name in arrays(one) if names is None else names:
        assert one[name].dtype == other[name].dtype, name
        assert np.array_equal(one[name], other[name]), name


def assert_valid(sample: dict) -> None:
    """Shapes, types, and boxes with area inside of the image."""
    image, boxes = sample["image"], sample["gt_bbox"]
    h, w = image.shape[:2]
    assert image.dtype == np.uint8 and image.shape == (h, w, 3) and h > 0 and w > 0
    assert sample["im_shape"].tolist() == [h, w] and sample["im_shape"].dtype == np.float32
    assert sample["scale_factor"].shape == (2,) and sample["scale_factor"].dtype == np.float32
    assert boxes.shape == (len(boxes), 4) and boxes.dtype == np.float32
    assert (boxes >= 0).all() and (boxes <= [w, h, w, h]).all() and (boxes[:, 2:] > boxes[:, :2]).all()
    for name in ("gt_class", "is_crowd"):
        assert sample[name].shape == (len(boxes), 1) and sample[name].dtype == np.int32


@functools.cache
def painted(size: tuple[int, int]) -> list[dict]:
    return paint(*size, scene(*size))


@pytest.mark.parametrize("case", ALL)
def test_boxes_follow_their_pixels(case):
    changes = 0
    for size in SIZES:
        boxes, samples = scene(*size), painted(size)
        for seed in SEEDS:
            results = [run(case, sample, seed) for sample in samples]
            for result in results:
                assert_valid(result)
                if case.is_one_map:  # what happens depends on the boxes, and not on the pixels
                    assert_same(results[0], result, set(arrays(result)) - {"image"})
            changes += any(not np.array_equal(one["image"], two["image"]) for one, two in zip(samples, results))
            if getattr(case.transform, "pixels_only", False):
                assert_same(samples[0], results[0], set(arrays(samples[0])) - {"image"})
                assert results[0]["image"].shape == samples[0]["image"].shape
            else:
                assert_followed(case, boxes, results)
    assert changes > 3


def assert_followed(case: Case, boxes: list, results: list[dict]) -> None:
    """Compare the boxes of a result with the pixels, and with the matrix that moved these."""
    first = results[0]
    masks = [result["image"] > (np.inf if case.seen is None else case.seen) for result in results[1:]]
    h, w = first["image"].shape[:2]
    matrix = moving_matrix(first["image"], case.is_askew) if case.is_one_map else None
    scale = 1.0 if matrix is None else max(1.0, float(np.abs(np.linalg.svd(matrix[:2, :2])[1]).max()))
    tolerance = case.tolerance * scale
    classes = first["gt_class"][:, 0].tolist()
    assert len(set(classes)) == len(classes)
    assert first["is_crowd"][:, 0].tolist() == [int(k % 3 == 1) for k in classes]
    for k in range(len(boxes)):
        pixels = bounds(masks[k // 3][..., k % 3])
        moved = None if matrix is None else move(matrix, boxes[k])
        if k not in classes:
            assert moved is None or not case.stays(moved, h, w, tolerance + 0.2), (k, moved, h, w)
            continue
        box = first["gt_bbox"][classes.index(k)]
        if moved is not None:
            assert np.abs(box - np.clip(moved, 0, [w, h, w, h])).max() <= tolerance + 0.2, (k, box, moved)
        if pixels is not None:
            assert (box[:2] <= pixels[:2] + tolerance).all() and (box[2:] >= pixels[2:] - tolerance).all(), (k, box)
            if case.is_turned:  # where its pixels are cut off or thin, fewer of them are seen than the corners span
                x1, y1, x2, y2 = boxes[k]
                is_thin = min(x2 - x1, y2 - y1) <= 2 or min(box[2:] - box[:2]) <= 4
                is_cut = pixels[:2].min() <= 1 or (pixels[2:] >= [w - 1, h - 1]).any()
                assert is_cut or is_thin or np.abs(box - pixels).max() <= tolerance + 1, (k, box, pixels)
            else:
                assert np.abs(box - pixels).max() <= tolerance, (k, box, pixels)


def bounds(mask: np.ndarray) -> np.ndarray | None:
    """x1, y1, x2, y2 of the pixels of a mask; None if it has none."""
    y, x = np.nonzero(mask)
    return np.array([x.min(), y.min(), x.max() + 1, y.max() + 1]) if len(x) else None


def moving_matrix(image: np.ndarray, is_askew: bool) -> np.ndarray | None:
    """The 3 x 3 matrix that moved the pixels of the first painted image, by least squares; None for too few pixels."""
    y, x = np.nonzero(image[..., 2] >= 254)
    if len(x) < 100 or np.ptp(x) < 5 or np.ptp(y) < 5:
        return None
    source = (image[y, x, :2].astype(np.float64) - 40) / 2 + 0.5
    known = np.column_stack([source, np.ones(len(x))])
    # u (g x + h y + 1) = a x + b y + c, and the same for v: linear in the eight numbers.
    u, v = x + 0.5, y + 0.5
    zeros = np.zeros_like(known)
    rows = np.concatenate(
        [
            np.column_stack([known, zeros, -u[:, None] * source]),
            np.column_stack([zeros, known, -v[:, None] * source]),
        ]
    )
    if not is_askew:
        rows = rows[:, :6]
    numbers = np.linalg.lstsq(rows, np.concatenate([u, v]), rcond=None)[0]
    return np.concatenate([numbers, [0, 0, 1][is_askew * 2 :]]).reshape(3, 3)


def move(matrix: np.ndarray, box: tuple) -> np.ndarray:
    """The box around the four moved corners of a box."""
    x1, y1, x2, y2 = box
    corners = matrix @ np.array([[x1, x2, x2, x1], [y1, y1, y2, y2], [1, 1, 1, 1]])
    x, y = corners[:2] / corners[2]
    return np.array([x.min(), y.min(), x.max(), y.max()])


@pytest.mark.parametrize("case", ALL)
def test_images_without_boxes(case):
    """Backgrounds of a data set have arrays without rows, images to detect on have no such arrays at all."""
    empty = paint(40, 56, [])[0]
    bare = {name: empty[name] for name in ("image", "im_shape", "scale_factor")}
    for seed in range(4):
        assert_valid(run(case, empty, seed))
        if case.is_one_map:
            assert run(case, bare, seed)["image"].dtype == np.uint8


@pytest.mark.parametrize("case", ALL)
def test_the_same_random_numbers_give_the_same_sample(case):
    for seed in (0, 1):
        sample = painted(SIZES[0])[0]
        one, other = run(case, sample, seed), run(case, sample, seed)
        assert set(one) == set(other)
        assert_same(one, other)


@pytest.mark.parametrize("case", [case for case in ALL if getattr(case.values[0].transform, "moves_pixels", False)])
def test_what_only_moves_pixels_may_come_after_normalization(case):
    normalize, sample = T.NormalizeImage(), painted(SIZES[0])[0]
    for seed in SEEDS:
        before = normalize(run(case, sample, seed))
        after = run(case, normalize(dict(sample)), seed)
        assert_same(before, after)
