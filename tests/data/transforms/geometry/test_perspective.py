"""RandomPerspective and RandomAffine: what a box of 20 x 20 pixels becomes tells what was drawn."""

import numpy as np
import pytest

from ppdet.data.transforms import RandomAffine, RandomPerspective
from ppdet.data.transforms.geometry.perspective import centered_matrix
from ppdet.utils.errors import DataError

STILL = {"degree": 0, "translate": 0, "scale": 0, "shear": 0}
STILL_AFFINE = {"degrees": [0, 0], "translate": [0, 0], "scale": [1, 1], "shear": [0, 0]}
MIDDLE = (90, 90, 110, 110)  # of an image of 200 x 200


def sample_of(boxes=(MIDDLE,), crowds=(), h=200, w=200):
    return {
        "image": np.random.default_rng(0).integers(0, 256, (h, w, 3), dtype=np.uint8),
        "gt_bbox": np.array(boxes, np.float32).reshape(-1, 4),
        "gt_class": np.arange(len(boxes), dtype=np.int32)[:, None],
        "is_crowd": np.array([[k in crowds] for k in range(len(boxes))], np.int32).reshape(-1, 1),
        "scale_factor": np.ones(2, np.float32),
    }


def boxes_of(transform, count=200, **options):
    rng = np.random.default_rng(0)
    return np.concatenate([transform(sample_of(**options), rng)["gt_bbox"] for _ in range(count)])


def is_uniform(values, low, high):
    """Range, mean and spread of numbers that are uniform between two."""
    width, error = high - low, (high - low) / np.sqrt(len(values))
    return (
        low - 1e-4 <= min(values) < low + 0.1 * width
        and high - 0.1 * width < max(values) <= high + 1e-4
        and abs(np.mean(values) - (low + high) / 2) < error
        and abs(np.std(values) - width / np.sqrt(12)) < error
    )


@pytest.mark.parametrize(
    "transform",
    [RandomPerspective(**{**STILL, "degree": 30}), RandomAffine(**{**STILL_AFFINE, "degrees": [-30, 30]})],
)
def test_rotations(transform):
    """A square of side s that turns by a fits into one of side s (cos a + sin a)."""
    boxes = boxes_of(transform)
    sides = (boxes[:, 2:] - boxes[:, :2]) / 20
    angles = np.rad2deg(np.arcsin(np.clip(sides / np.sqrt(2), -1, 1))) - 45
    assert is_uniform(angles[:, 0], 0, 30) and np.allclose(sides[:, 0], sides[:, 1], atol=1e-4)
    np.testing.assert_allclose((boxes[:, :2] + boxes[:, 2:]) / 2, 100, atol=1e-4)


@pytest.mark.parametrize(
    ("transform", "low", "high"),
    [
        (RandomPerspective(**{**STILL, "scale": 0.4}), 0.6, 1.4),
        (RandomAffine(**{**STILL_AFFINE, "scale": [0.3, 2.0]}), 0.3, 2.0),
    ],
)
def test_scales(transform, low, high):
    boxes = boxes_of(transform)
    assert is_uniform((boxes[:, 2] - boxes[:, 0]) / 20, low, high)
    np.testing.assert_allclose((boxes[:, :2] + boxes[:, 2:]) / 2, 100, atol=1e-4)
    sample = transform(sample_of(), np.random.default_rng(0))
    np.testing.assert_allclose(sample["scale_factor"] * 20, np.diff(sample["gt_bbox"][0][[0, 2]])[0], rtol=1e-5)


@pytest.mark.parametrize(
    "transform",
    [RandomPerspective(**{**STILL, "shear": 20}), RandomAffine(**{**STILL_AFFINE, "shear": [-20, 20]})],
)
def test_shears(transform):
    """x changes by tan(angle) times y: a square of side s is s (1 + tan) wide; both directions are drawn."""
    boxes = boxes_of(transform)
    angles = np.rad2deg(np.arctan((boxes[:, 2:] - boxes[:, :2]) / 20 - 1))
    assert is_uniform(angles[:, 0], 0, 20) and is_uniform(angles[:, 1], 0, 20)
    assert abs(np.corrcoef(angles.T)[0, 1]) < 0.2


@pytest.mark.parametrize(
    "transform",
    [RandomPerspective(**{**STILL, "translate": 0.2}), RandomAffine(**{**STILL_AFFINE, "translate": [-0.2, 0.2]})],
)
def test_translations_are_shares_of_width_and_height(transform):
    box = (90, 40, 110, 60)
    boxes = boxes_of(transform, boxes=[box], h=100, w=200)
    assert is_uniform((boxes[:, 0] - 90) / 200, -0.2, 0.2) and is_uniform((boxes[:, 1] - 40) / 100, -0.2, 0.2)
    np.testing.assert_allclose(boxes[:, 2:] - boxes[:, :2], 20, atol=1e-3)


def test_the_order_is_the_published_one():
    """Center, rotation and scale, shear, and then the center of the result plus the translation."""
    angle, shear_x, shear_y = np.deg2rad([12, 5, -7])
    center = np.array([[1, 0, -40], [0, 1, -30], [0, 0, 1]])
    rotation = 1.2 * np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    shear = np.array([[1, np.tan(shear_x)], [np.tan(shear_y), 1]])
    moved = np.array([[1, 0, (0.5 + 0.1) * 100], [0, 1, (0.5 - 0.2) * 90], [0, 0, 1]])
    middle = np.eye(3)
    middle[:2, :2] = shear @ rotation
    found = centered_matrix((60, 80), (90, 100), degrees=12, scale=1.2, shear=(5, -7), translate=(0.1, -0.2))
    np.testing.assert_allclose(found, moved @ middle @ center, atol=1e-12)


@pytest.mark.parametrize("transform", [RandomPerspective(**STILL), RandomAffine(**STILL_AFFINE)])
def test_without_any_change_the_image_stays(transform):
    sample = transform(sample_of(), np.random.default_rng(0))
    assert np.array_equal(sample["image"], sample_of()["image"]) and sample["gt_bbox"].tolist() == [list(MIDDLE)]


@pytest.mark.parametrize(("border", "size"), [([10, 30], (220, 260)), ([-20, -50], (160, 100))])
def test_a_border_is_added_or_cut_off(border, size):
    sample = RandomPerspective(**STILL, border=border, fill_value=[7, 8, 9])(sample_of(), np.random.default_rng(0))
    assert sample["image"].shape == (*size, 3) and sample["im_shape"].tolist() == list(size)
    y, x = border
    assert sample["gt_bbox"].tolist() == [[90 + x, 90 + y, 110 + x, 110 + y]]
    before = sample_of()["image"]
    if y > 0:
        assert np.array_equal(sample["image"][y:-y, x:-x], before) and sample["image"][0, 0].tolist() == [7, 8, 9]
    else:
        assert np.array_equal(sample["image"], before[-y:y, -x:x])


def test_perspective_divides_by_the_distance():
    """What lies where 1 + px x + py y is d, from the center, moves to 1 / d of its way."""
    transform, rng = RandomPerspective(**STILL, perspective=0.002), np.random.default_rng(0)
    # Points as boxes of 4 pixels: near enough to points.
    places = [(40, 100), (160, 100), (100, 40), (100, 160)]
    boxes = [(x - 2, y - 2, x + 2, y + 2) for x, y in places]
    drawn = []
    for _ in range(200):
        found = transform(sample_of(boxes), rng)["gt_bbox"]
        left, right, top, bottom = (found[:, :2] + found[:, 2:]) / 2 - 100
        distances = np.array([-60 / left[0], 60 / right[0], -60 / top[1], 60 / bottom[1]])
        px, py = (distances[1] - distances[0]) / 120, (distances[3] - distances[2]) / 120
        drawn.append((px, py))
        np.testing.assert_allclose(distances, [1 - 60 * px, 1 + 60 * px, 1 - 60 * py, 1 + 60 * py], atol=0.01)
    assert is_uniform(np.array(drawn)[:, 0], -0.002, 0.002) and is_uniform(np.array(drawn)[:, 1], -0.002, 0.002)


def test_no_part_of_a_large_image_comes_too_near():
    """Without a limit, 0.01 would turn half of an image of 1000 pixels inside out."""
    corners = [(0, 0, 9, 9), (991, 0, 1000, 9), (0, 591, 9, 600), (991, 591, 1000, 600), (490, 290, 510, 310)]
    transform = RandomPerspective(**STILL, perspective=0.01, border=[600, 1000], area_thr=0)
    for seed in range(10):
        found = transform(sample_of(corners, h=600, w=1000), np.random.default_rng(seed))["gt_bbox"]
        centers = (found[:, :2] + found[:, 2:]) / 2 - [1500, 900]
        assert len(found) == 5 and np.abs(centers[4]).max() < 1
        # Each corner stays on its side, at most twice as far away from the center.
        assert (np.sign(centers[:4]) == [[-1, -1], [1, -1], [-1, 1], [1, 1]]).all()
        assert (np.abs(centers[:4]) <= [1001, 601]).all() and np.abs(centers[:4]).max() > 500


def test_boxes_of_which_too_little_is_left_are_dropped():
    boxes = [
        (60, 50, 80, 70),  # 0: inside
        (35, 50, 55, 70),  # 1: a quarter of it is cut off
        (26, 50, 46, 70),  # 2: of 20 pixels, 6 are left
        (20, 50, 42, 70),  # 3: 2 of 22 are left
        (20, 80, 42, 99),  # 4: as 3, but a crowd
        (90, 50, 91, 70),  # 5: a pixel wide
        (45, 90, 155, 95),  # 6: 22 times as long as high
        (0, 0, 20, 20),  # 7: a crowd outside
    ]
    options = {"border": [0, -40], **STILL}  # 40 pixels on the left and on the right are cut off
    for area_thr, expected in ((0.25, [0, 1, 2, 4]), (0.5, [0, 1, 4]), (0.0, [0, 1, 2, 3, 4])):
        transform = RandomPerspective(**options, area_thr=area_thr)
        found = transform(sample_of(boxes, crowds=(4, 7)), np.random.default_rng(0))
        assert found["gt_class"][:, 0].tolist() == expected
        assert found["is_crowd"][:, 0].tolist() == [int(k == 4) for k in expected]
    found = RandomAffine(**STILL_AFFINE)(sample_of(boxes), np.random.default_rng(0))
    assert found["gt_class"][:, 0].tolist() == [0, 1, 2, 3, 4, 6, 7]  # long boxes stay


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: RandomPerspective(degree=-1), "RandomPerspective.degree is -1"),
        (lambda: RandomPerspective(translate=2), "RandomPerspective.translate"),
        (lambda: RandomPerspective(scale=1), "RandomPerspective.scale is 1; it must be at least 0 and below 1"),
        (lambda: RandomPerspective(shear=90), "RandomPerspective.shear"),
        (lambda: RandomPerspective(perspective=-1), "RandomPerspective.perspective"),
        (lambda: RandomPerspective(border=[1]), r"RandomPerspective.border is \[1\]"),
        (lambda: RandomPerspective(fill_value=[1, 2]), "RandomPerspective.fill_value"),
        (lambda: RandomPerspective(fill_value=256), "RandomPerspective.fill_value"),
        (lambda: RandomPerspective(area_thr=2), "RandomPerspective.area_thr"),
        (lambda: RandomAffine(degrees=[3, 2]), r"RandomAffine.degrees is \[3, 2\], expected \[low, high\]"),
        (lambda: RandomAffine(translate=[0, 2]), "RandomAffine.translate"),
        (lambda: RandomAffine(scale=[0, 1]), "RandomAffine.scale"),
        (lambda: RandomAffine(shear=[-90, 0]), "RandomAffine.shear"),
        (lambda: RandomAffine(area_thr=-1), "RandomAffine.area_thr"),
    ],
)
def test_wrong_parameters(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize("transform", [RandomPerspective(), RandomAffine()])
def test_normalized_images_are_refused(transform):
    sample = {"image": np.zeros((8, 8, 3), np.float32)}
    with pytest.raises(DataError, match=f"{type(transform).__name__} got a float32 image: list it before"):
        transform(sample, np.random.default_rng(0))
