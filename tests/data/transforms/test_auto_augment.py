"""AutoAugment: pixels against Pillow, from which the published code took its operations, and boxes against pixels."""

import numpy as np
import pytest
from PIL import Image, ImageEnhance, ImageOps

from ppdet.data.transforms import AutoAugment
from ppdet.data.transforms.auto_augment.apply_policy import apply_operation
from ppdet.data.transforms.auto_augment.pixel_operations import PIXEL_OPERATIONS
from ppdet.data.transforms.auto_augment.policies import POLICIES

ENHANCE = {
    "Color": ImageEnhance.Color,
    "Contrast": ImageEnhance.Contrast,
    "Brightness": ImageEnhance.Brightness,
    "Sharpness": ImageEnhance.Sharpness,
}
GRAY = (128, 128, 128)
SHIFTS = ("TranslateX_BBox", "TranslateY_BBox")
WARPS = ("Rotate_BBox", "ShearX_BBox", "ShearY_BBox", *SHIFTS)


def photo(h=60, w=80, seed=0):
    """Smooth colors with noise, with empty levels at both ends of the histogram."""
    rng = np.random.default_rng(seed)
    ramp = np.linspace(20, 190, h * w * 3).reshape(h, w, 3)
    return (ramp + rng.integers(0, 40, ramp.shape)).astype(np.uint8)


def of_pillow(image, name, magnitude):
    """The operation by Pillow, and how far the result may be off: Pillow cuts off fractions where we round."""
    pillow = Image.fromarray(image)
    if name in ENHANCE:
        return np.asarray(ENHANCE[name](pillow).enhance(magnitude / 10 * 1.8 + 0.1)), 1
    if name == "AutoContrast":
        return np.asarray(ImageOps.autocontrast(pillow)), 1
    if name == "Equalize":
        return np.asarray(ImageOps.equalize(pillow)), 0
    if name == "Posterize":
        return np.asarray(ImageOps.posterize(pillow, 8 - round(magnitude / 10 * 4))), 0
    if name == "Solarize":
        return np.asarray(ImageOps.solarize(pillow, int(magnitude / 10 * 256))), 0
    brighter = np.minimum(image.astype(int) + int(magnitude / 10 * 110), 255)
    return np.where(image < 128, brighter, image), 0


@pytest.mark.parametrize("magnitude", [0, 2, 5, 8, 10])
@pytest.mark.parametrize("name", PIXEL_OPERATIONS)
def test_pixels_against_pillow(name, magnitude):
    """Contrast turns around the mean gray, which Pillow rounds: another level, for weights up to 0.9."""
    flat = np.full((30, 40, 3), (7, 200, 90), dtype=np.uint8)
    two = np.random.default_rng(1).choice(np.array([40, 90], dtype=np.uint8), (30, 40, 3))
    for image in (photo(), photo(17, 500, seed=1), flat, two, photo(1, 1), photo(2, 9)):
        before = image.copy()
        result = PIXEL_OPERATIONS[name](image, magnitude)
        expected, most = of_pillow(image, name, magnitude)
        assert result.dtype == np.uint8 and result.shape == image.shape and np.array_equal(image, before)
        assert np.abs(result.astype(int) - expected).max() <= most


def one(name, magnitude, image, boxes=None, seed=0, crowd=None):
    sample = {"image": image}
    if boxes is not None:
        boxes = np.array(boxes, dtype=np.float32).reshape(-1, 4)
        sample |= {"gt_bbox": boxes, "gt_class": np.arange(len(boxes), dtype=np.int32)[:, None]}
        sample["is_crowd"] = np.array(crowd or [0] * len(boxes), dtype=np.int32)[:, None]
    before = {key: value.copy() for key, value in sample.items()}
    given = dict(sample)
    apply_operation(sample, name, magnitude, np.random.default_rng(seed))
    assert all(np.array_equal(given[key], before[key]) for key in given), "arrays are replaced and not changed"
    return sample


def amount(name, magnitude, result, image):
    """The warp of Pillow (its six numbers, from new to old positions) with the sign that was drawn."""
    h, w = image.shape[:2]
    for sign in (1, -1):
        share = sign * magnitude / 10
        if name == "Rotate_BBox":
            other = Image.fromarray(image).rotate(30 * share, Image.Resampling.BILINEAR, fillcolor=GRAY)
        else:
            numbers = {
                "ShearX_BBox": (1, 0.3 * share, 0, 0, 1, 0),
                "ShearY_BBox": (1, 0, 0, 0.3 * share, 1, 0),
                "TranslateX_BBox": (1, 0, 250 * share, 0, 1, 0),
                "TranslateY_BBox": (1, 0, 0, 0, 1, 250 * share),
            }[name]
            way = (Image.Transform.AFFINE, numbers, Image.Resampling.BILINEAR)
            other = Image.fromarray(image).transform((w, h), *way, fillcolor=GRAY)
        wrong = np.abs(np.asarray(other).astype(int) - result)
        # At the border of the image, Pillow mixes nothing with the fill color.
        if np.quantile(wrong, 0.93) <= 4:
            return sign
    return None


@pytest.mark.parametrize("magnitude", [2, 10])
@pytest.mark.parametrize("name", WARPS)
def test_warps_against_pillow(name, magnitude):
    ys, xs = np.mgrid[:260, :280]
    image = np.stack([xs * 0.8, ys * 0.9, 120 + 100 * np.sin(xs / 15) * np.sin(ys / 20)], axis=2).astype(np.uint8)
    signs = [amount(name, magnitude, one(name, magnitude, image, seed=seed)["image"], image) for seed in range(5)]
    assert set(signs) == {1, -1}


def test_magnitude_0_moves_nothing():
    for name in WARPS:
        sample = one(name, 0, photo(), [[10, 10, 30, 40]])
        assert np.array_equal(sample["image"], photo()) and sample["gt_bbox"].tolist() == [[10, 10, 30, 40]]


@pytest.mark.parametrize("name", WARPS)
def test_boxes_follow_their_pixels(name):
    """A bright rectangle stays inside of its box and touches its sides, and a box that leaves the image is dropped.

    Where a part of it leaves the image, the box is that of the whole one, clipped: as published, it may be too large.
    """
    rng, dropped, inside = np.random.default_rng(5), 0, 0
    for seed in range(40):
        x1, y1 = rng.integers(0, 180, 2)
        x2, y2 = min(x1 + int(rng.integers(8, 60)), 200), min(y1 + int(rng.integers(8, 60)), 200)
        image = np.full((200, 200, 3), 128, dtype=np.uint8)
        image[y1:y2, x1:x2] = 255
        sample = one(name, int(rng.integers(1, 11)), image, [[x1, y1, x2, y2]], seed)
        bright = (sample["image"][..., 0] > 191).nonzero()
        if not len(sample["gt_bbox"]):
            assert len(bright[0]) <= 30, "at most a corner's or an edge's last pixels"
            assert not len(sample["gt_class"]) and not len(sample["is_crowd"])
            dropped += 1
            continue
        found = [bright[1].min(), bright[0].min(), bright[1].max() + 1, bright[0].max() + 1]
        box = sample["gt_bbox"][0]
        assert (box[:2] <= np.add(found[:2], 0.51)).all() and (box[2:] >= np.subtract(found[2:], 0.51)).all()
        if name in SHIFTS or (box[:2].min() > 0 and box[2:].max() < 200):
            # A corner that is turned keeps less than half of its last pixels.
            assert np.abs(box - found).max() <= (0.51 if name in SHIFTS else 2.6)
            inside += 1
    assert inside > 10 and (dropped or name not in SHIFTS)


def test_cutout_drops_what_it_covers_and_keeps_crowds():
    """Squares of up to 200 pixels; boxes of which half or more is covered are dropped, but no crowd."""
    image = np.full((400, 400, 3), 255, dtype=np.uint8)
    boxes = np.array([[x, y, x + 50, y + 50] for x in range(0, 400, 50) for y in range(0, 400, 50)], dtype=np.float32)
    crowd = [int(number % 4 == 0) for number in range(len(boxes))]
    kept_share = []
    for seed in range(20):
        sample = one("Cutout", 10, image, boxes, seed, crowd)
        gone = (sample["image"] == 128).all(axis=2)
        ys, xs = gone.nonzero()
        assert gone[ys.min() : ys.max() + 1, xs.min() : xs.max() + 1].all(), "one rectangle"
        assert 100 <= np.ptp(ys) + 1 <= 200 and 100 <= np.ptp(xs) + 1 <= 200, "cut off by the image's border at most"
        shares = [gone[int(y1) : int(y2), int(x1) : int(x2)].mean() for x1, y1, x2, y2 in boxes]
        expected = [i for i, share in enumerate(shares) if share < 0.5 or crowd[i]]
        assert sample["gt_class"].ravel().tolist() == expected
        assert np.array_equal(sample["gt_bbox"], boxes[expected])
        kept_share.append(len(expected) / len(boxes))
    assert 0.75 < np.mean(kept_share) < 1


def test_cutout_of_a_box():
    """A rectangle with at most 0.75 of the box's sides, whose center is in the box."""
    image, boxes = np.full((200, 300, 3), 255, dtype=np.uint8), [[100, 50, 200, 90]]
    dropped = 0
    for seed in range(60):
        sample = one("BBox_Cutout", 10, image, boxes, seed)
        ys, xs = (sample["image"] == 128).all(axis=2).nonzero()
        assert np.ptp(xs) + 1 == 74 and np.ptp(ys) + 1 == 30, "0.75 of the sides, half of it rounded down twice"
        assert 100 <= xs.min() + 37 < 200 and 50 <= ys.min() + 15 < 90
        dropped += not len(sample["gt_bbox"])
    assert 0 < dropped < 30, "it covers half of the box only if it is near its middle"
    assert np.array_equal(one("BBox_Cutout", 10, image, [])["image"], image)


IN_BOXES = sorted({name for policy in POLICIES.values() for sub in policy for name, *_ in sub if "Only" in name})


@pytest.fixture
def always_one(monkeypatch):
    """A policy of one operation, with the probability that changes every box."""

    def make(name, magnitude):
        monkeypatch.setitem(POLICIES, "test", [[(name, 3.0, magnitude)]])
        return AutoAugment(autoaug_type="test")

    return make


@pytest.mark.parametrize("name", [*IN_BOXES, "Rotate_Only_BBoxes", "Solarize_Only_BBoxes", "TranslateX_Only_BBoxes"])
def test_operations_in_boxes_leave_all_else_alone(always_one, name):
    image = photo(120, 160)
    boxes = np.array([[10, 10, 60, 50], [80, 20, 140, 100], [5, 70, 50, 110]], dtype=np.float32)
    crowd = np.array([[0], [0], [1]], dtype=np.int32)
    sample = {"image": image, "gt_bbox": boxes, "is_crowd": crowd}
    result = always_one(name, 4)(dict(sample), np.random.default_rng(0))
    assert result["gt_bbox"] is boxes and np.array_equal(image, photo(120, 160))
    changed = (result["image"] != image).any(axis=2)
    for (x1, y1, x2, y2), is_changed in zip(boxes.astype(int), (True, True, False)):
        assert changed[y1:y2, x1:x2].any() == is_changed
        changed[y1:y2, x1:x2] = False
    assert not changed.any()


def test_contents_of_boxes(always_one):
    """Flipped, moved by up to 120 pixels, cut by squares of up to 100 pixels, equalized by themselves."""
    image, box = photo(200, 200), np.array([[20, 30, 180, 190]], dtype=np.float32)
    inside = image[30:190, 20:180]

    def contents(name, magnitude, seed=0):
        sample = {"image": image, "gt_bbox": box}
        return always_one(name, magnitude)(sample, np.random.default_rng(seed))["image"][30:190, 20:180]

    assert np.array_equal(contents("Flip_Only_BBoxes", 10), inside[:, ::-1])
    assert np.array_equal(contents("Equalize_Only_BBoxes", 8), ImageOps.equalize(Image.fromarray(inside)))
    moved = contents("TranslateY_Only_BBoxes", 5)
    up = np.array_equal(moved[:100], inside[60:])
    assert up or np.array_equal(moved[60:], inside[:100])
    assert (moved[100:] if up else moved[:60]).tolist() == np.full((60, 160, 3), 128).tolist()
    sizes = [(contents("Cutout_Only_BBoxes", 10, seed) == 128).all(axis=2).sum() for seed in range(30)]
    assert max(sizes) == 100 * 100 and min(sizes) >= 50 * 50


def test_probabilities(always_one, monkeypatch):
    image, boxes = photo(8, 8), np.tile(np.array([[1, 1, 3, 3]], dtype=np.float32), (10, 1))
    monkeypatch.setitem(POLICIES, "v0", [[("Solarize", 0.6, 0)], [("Flip_Only_BBoxes", 0.0, 0)]])
    rng = np.random.default_rng(0)
    changed = [AutoAugment(autoaug_type="v0")({"image": image}, rng)["image"] is not image for _ in range(1500)]
    assert np.mean(changed) == pytest.approx(0.3, abs=0.03), "one of the two, and that one with 0.6"
    calls = []
    monkeypatch.setattr(
        "ppdet.data.transforms.auto_augment.box_operations.in_box", lambda pixels, *_: calls.append(1) or pixels
    )
    monkeypatch.setitem(POLICIES, "v0", [[("Flip_Only_BBoxes", 0.9, 0)]])
    for _ in range(300):
        AutoAugment(autoaug_type="v0")({"image": image, "gt_bbox": boxes}, rng)
    assert len(calls) / 3000 == pytest.approx(0.3, abs=0.03), "a third of the table's probability, for each box"


def test_published_tables():
    """Counts of sub-policies and operations in the published code, and that each operation exists."""
    shapes = {name: (len(policy), {len(sub) for sub in policy}) for name, policy in POLICIES.items()}
    assert shapes == {"v0": (5, {2}), "v1": (20, {2}), "v2": (15, {2, 3}), "v3": (15, {2}), "test": (1, {2})}
    assert POLICIES["v1"][:5] == POLICIES["v0"], "appendix of the paper"
    known = {*PIXEL_OPERATIONS, "Cutout", "BBox_Cutout", *WARPS, *IN_BOXES}
    for policy in POLICIES.values():
        for sub in policy:
            assert all(name in known and 0 <= prob <= 1 and 0 <= level <= 10 for name, prob, level in sub)


@pytest.mark.parametrize("size", [(60, 80), (1, 1), (3, 200), (200, 3)])
@pytest.mark.parametrize("policy", ["v0", "v1", "v2", "v3", "test"])
def test_samples_stay_whole(policy, size):
    h, w = size
    image = photo(h, w)
    image.setflags(write=False)
    whole, corner = [0, 0, w, h], [0, 0, max(w / 3, 1), max(h / 3, 1)]
    boxes = np.array([whole, corner], dtype=np.float32)
    labels = {"gt_class": np.array([[4], [5]], dtype=np.int32), "is_crowd": np.array([[0], [1]], dtype=np.int32)}
    for seed in range(15):
        for fields in ({"gt_bbox": boxes, **labels}, {"gt_bbox": boxes[:0]}, {}):
            sample = {"image": image, "im_shape": np.array(size, dtype=np.float32), **fields}
            result = AutoAugment(autoaug_type=policy)(dict(sample), np.random.default_rng(seed))
            again = AutoAugment(autoaug_type=policy)(dict(sample), np.random.default_rng(seed))
            assert result["image"].shape == (h, w, 3) and result["image"].dtype == np.uint8
            assert all(np.array_equal(result[key], again[key]) for key in result), "the seed decides"
            found = result.get("gt_bbox", boxes[:0])
            assert (found[:, 2:] > found[:, :2]).all() and found.dtype == np.float32
            assert (found >= 0).all() and (found <= [w, h, w, h]).all()
            assert all(len(result[key]) == len(found) for key in labels if key in result)
    assert AutoAugment.keeps_uint8 and not AutoAugment.pixels_only


def test_unknown_policy():
    with pytest.raises(ValueError, match=r"AutoAugment\.autoaug_type is 'v4'; it must be one of v0, v1, v2, v3, test"):
        AutoAugment(autoaug_type="v4")
