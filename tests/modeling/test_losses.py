"""Losses against the formulas, written out in numpy, and at the edges of their domain."""

import math

import numpy as np
import paddle
import pytest

from ppdet.modeling.architectures.base import DenseMaps
from ppdet.modeling.losses import FCOSLoss
from ppdet.modeling.losses.fcos_loss import iou_and_giou

SIZES = [(4, 6), (2, 3)]
CLASSES = 3


def random_case(seed, positives):
    rng = np.random.default_rng(seed)
    locations = sum(h * w for h, w in SIZES)
    labels = np.zeros((2, locations), np.int32)
    for _ in range(positives):
        labels[rng.integers(2), rng.integers(locations)] = rng.integers(1, CLASSES + 1)
    positive = (labels > 0).astype(np.float32)
    targets = {
        "target_labels": labels,
        "target_distances": rng.uniform(0.1, 6, (2, locations, 4)).astype(np.float32) * positive[..., None],
        "target_centerness": rng.uniform(0.1, 1, (2, locations)).astype(np.float32) * positive,
    }
    maps = [[rng.normal(0, 2, (2, k, h, w)).astype(np.float32) for h, w in SIZES] for k in (CLASSES, 4, 1)]
    maps[1] = [np.abs(d) for d in maps[1]]
    return maps, targets


def to_paddle(maps, targets):
    tensors = [[paddle.to_tensor(m, stop_gradient=False) for m in level_maps] for level_maps in maps]
    return DenseMaps(*tensors) if maps else None, {k: paddle.to_tensor(v) for k, v in targets.items()}


def flat(level_maps):
    return np.concatenate([m.reshape(2, m.shape[1], -1).transpose(0, 2, 1) for m in level_maps], axis=1).astype(float)


def expected_losses(maps, targets, kind, quality, alpha=0.25, gamma=2.0, reg_weight=1.0):
    """spec: sums over all locations, divided by the number of positives or the sum of their centerness."""
    logits, distances, quality_logits = (flat(m) for m in maps)
    labels, target = targets["target_labels"], targets["target_distances"].astype(float)
    positive = labels > 0
    count = max(1, positive.sum())
    p = 1 / (1 + np.exp(-logits))
    hot = np.eye(CLASSES + 1)[labels][..., 1:]
    p_t, a_t = np.where(hot == 1, p, 1 - p), np.where(hot == 1, alpha, 1 - alpha)
    loss_cls = (-a_t * (1 - p_t) ** gamma * np.log(p_t)).sum() / count

    d, t = distances[positive], target[positive]
    width = np.minimum(d, t)[:, [0, 2]].sum(1), np.maximum(d, t)[:, [0, 2]].sum(1)
    height = np.minimum(d, t)[:, [1, 3]].sum(1), np.maximum(d, t)[:, [1, 3]].sum(1)
    inter, hull = width[0] * height[0], width[1] * height[1] + 1e-7
    union = (d[:, 0] + d[:, 2]) * (d[:, 1] + d[:, 3]) + (t[:, 0] + t[:, 2]) * (t[:, 1] + t[:, 3]) - inter
    iou = (inter + 1) / (union + 1)
    box = {"linear_iou": 1 - iou, "iou": -np.log(iou), "giou": 1 - (iou - (hull - union) / hull)}[kind]
    centerness = targets["target_centerness"][positive].astype(float)
    if quality == "centerness":
        loss_box, goal = (box * centerness).sum() / max(centerness.sum(), 1e-6), centerness
    else:
        loss_box, goal = box.sum() / count, iou
    q = 1 / (1 + np.exp(-quality_logits[..., 0][positive]))
    loss_quality = -(goal * np.log(q) + (1 - goal) * np.log(1 - q)).sum() / count
    return {"loss_cls": loss_cls, "loss_box": loss_box * reg_weight, "loss_quality": loss_quality}


@pytest.mark.parametrize("quality", ["centerness", "iou"])
@pytest.mark.parametrize("kind", ["giou", "linear_iou", "iou"])
@pytest.mark.parametrize("seed", range(3))
def test_formulas(quality, kind, seed):
    maps, targets = random_case(seed, positives=7)
    losses = FCOSLoss(quality=quality, iou_loss_type=kind)(*to_paddle(maps, targets))
    expected = expected_losses(maps, targets, kind, quality)
    for name, value in expected.items():
        assert float(losses[name]) == pytest.approx(value, rel=1e-4)
    assert float(losses["loss"]) == pytest.approx(sum(expected.values()), rel=1e-4)


def corner_overlaps(d, t):
    """IoU and GIoU (M,) of boxes around one point, by their corners x1 y1 x2 y2; nothing is added to any area."""
    a, b = (v * [-1, -1, 1, 1] for v in (d, t))

    def area(low, high):
        return np.prod(np.maximum(high - low, 0), axis=1)

    inter = area(np.maximum(a[:, :2], b[:, :2]), np.minimum(a[:, 2:], b[:, 2:]))
    hull = area(np.minimum(a[:, :2], b[:, :2]), np.maximum(a[:, 2:], b[:, 2:]))
    union = area(a[:, :2], a[:, 2:]) + area(b[:, :2], b[:, 2:]) - inter
    return inter / union, inter / union - (hull - union) / hull


@pytest.mark.parametrize("quality", ["centerness", "iou"])
@pytest.mark.parametrize("kind", ["giou", "linear_iou", "iou"])
def test_plain_overlaps(quality, kind):
    """As MMDetection 2 has them: no 1 is added to intersection and union, and an IoU is 1e-6 at least."""
    maps, targets = random_case(4, positives=9)
    positive = targets["target_labels"] > 0
    # One prediction without width: its IoU is 0.
    n, location = np.argwhere(positive & (np.arange(positive.shape[1]) < 24))[0]
    maps[1][0][n, [0, 2], location // 6, location % 6] = 0
    tensors, tensor_targets = to_paddle(maps, targets)
    losses = FCOSLoss(quality=quality, iou_loss_type=kind, iou_smoothing=0.0)(tensors, tensor_targets)

    iou, giou = corner_overlaps(flat(maps[1])[positive], targets["target_distances"][positive].astype(float))
    assert iou.min() == 0
    iou = np.maximum(iou, 1e-6)
    box = {"linear_iou": 1 - iou, "iou": -np.log(iou), "giou": 1 - giou}[kind]
    weight = targets["target_centerness"][positive].astype(float) if quality == "centerness" else np.ones_like(iou)
    assert float(losses["loss_box"]) == pytest.approx((box * weight).sum() / weight.sum(), rel=1e-5)
    if quality == "iou":
        q = flat(maps[2])[..., 0][positive]
        expected = (np.logaddexp(0, q) - iou * q).mean()
        assert float(losses["loss_quality"]) == pytest.approx(expected, rel=1e-5)
    losses["loss"].backward()
    assert all(np.isfinite(m.grad.numpy()).all() for level_maps in tensors for m in level_maps)


@pytest.mark.parametrize("positives", [0, 7])
def test_images_count_in_the_class_loss_only(positives):
    maps, targets = random_case(5, positives)
    plain = expected_losses(maps, targets, "giou", "centerness")
    count = (targets["target_labels"] > 0).sum()
    expected = {**plain, "loss_cls": plain["loss_cls"] * max(count, 1) / (count + 2)}
    losses = FCOSLoss(count_images=True)(*to_paddle(maps, targets))
    for name, value in expected.items():
        assert float(losses[name]) == pytest.approx(value, rel=1e-4), name


def test_divisors_of_several_batches():
    """Means over batches of 2, 2 and 1 images with 0, 5 and 3 positives or so: no batch has a floor of its own."""
    batches = [random_case(seed, positives)[1] for seed, positives in ((6, 0), (7, 5), (8, 3))]
    batches[2] = {key: value[:1] for key, value in batches[2].items()}
    counts = np.mean([(b["target_labels"] > 0).sum() for b in batches])
    centerness = np.mean([b["target_centerness"].sum() for b in batches])
    tensors = [to_paddle([], batch)[1] for batch in batches]
    for count_images, divisor in ((False, counts), (True, counts + 5 / 3)):
        actual = FCOSLoss(count_images=count_images).normalizers(tensors)
        assert [float(v) for v in actual] == pytest.approx([divisor, counts, centerness], rel=1e-6)


def test_options_take_effect():
    maps, targets = random_case(0, positives=7)
    options = {"loss_alpha": 0.4, "loss_gamma": 1.5, "reg_weights": 3.0}
    losses = FCOSLoss(**options)(*to_paddle(maps, targets))
    expected = expected_losses(maps, targets, "giou", "centerness", 0.4, 1.5, 3.0)
    for name, value in expected.items():
        assert float(losses[name]) == pytest.approx(value, rel=1e-4)


@pytest.mark.parametrize("quality", ["centerness", "iou"])
@pytest.mark.parametrize("kind", ["giou", "linear_iou", "iou"])
@pytest.mark.parametrize("extreme", [False, True])
def test_no_positives_and_extreme_maps_stay_finite(quality, kind, extreme):
    maps, targets = random_case(1, positives=0)
    if extreme:
        maps = [[m * 1e3 for m in maps[0]], [m * 1e12 for m in maps[1]], [m * 1e3 for m in maps[2]]]
    tensors, tensor_targets = to_paddle(maps, targets)
    losses = FCOSLoss(quality=quality, iou_loss_type=kind)(tensors, tensor_targets)
    assert all(np.isfinite(float(losses[k])) for k in ("loss", "loss_cls", "loss_box", "loss_quality"))
    assert float(losses["loss_box"]) == 0 and float(losses["loss_quality"]) == 0
    losses["loss"].backward()
    for level_maps in tensors:
        assert all(np.isfinite(m.grad.numpy()).all() for m in level_maps)


def test_zero_sides_are_counted():
    maps, targets = random_case(2, positives=9)
    maps[1][0][:, 2] = 0  # the right side of the first level
    losses = FCOSLoss()(*to_paddle(maps, targets))
    first = SIZES[0][0] * SIZES[0][1]
    counts = [(targets["target_labels"][:, :first] > 0).sum(), (targets["target_labels"][:, first:] > 0).sum()]
    assert losses["positives"].tolist() == counts
    assert losses["zero_sides"].tolist() == [[0, 0, counts[0], 0], [0, 0, 0, 0]]


def test_iou_of_boxes_known_by_hand():
    pred, target = paddle.ones([1, 4, 1]), paddle.full([1, 4, 1], 2.0)
    iou, giou = iou_and_giou(pred, target)
    assert iou.item() == pytest.approx((4 + 1) / (16 + 1))
    assert giou.item() == pytest.approx(5 / 17, abs=1e-6)  # the hull is the larger box: no penalty
    assert math.isclose(-iou.log().item(), math.log(17 / 5), rel_tol=1e-6)


@pytest.mark.parametrize("option", [{"quality": "iuo"}, {"iou_loss_type": "diou"}, {"iou_smoothing": -1.0}])
def test_wrong_words_are_refused(option):
    with pytest.raises(ValueError, match="must be"):
        FCOSLoss(**option)
