"""The dense pseudo-label loss against a golden and against its formulas, written out in numpy in float64."""

import numpy as np
import paddle
import pytest

from ppdet.modeling.architectures.base import DenseMaps
from ppdet.modeling.losses import SSODFCOSLoss
from ppdet.modeling.losses.dense_teacher_loss import select_locations

SIZES = [(4, 6), (2, 3), (1, 2)]
CLASSES = 5
NAMES = ("distill_loss_cls", "distill_loss_box", "distill_loss_quality", "fg_sum")


def random_maps(seed, spread=2.0, images=2):
    """[logits, distances, quality], each a list with an array per level."""
    rng = np.random.default_rng(seed)
    maps = [[rng.normal(0, spread, (images, k, h, w)).astype(np.float32) for h, w in SIZES] for k in (CLASSES, 4, 1)]
    maps[1] = [np.abs(d) * 10 + 0.5 for d in maps[1]]
    return maps


def to_paddle(maps, dtype="float32", channels_last=False):
    def tensor(values):
        if channels_last:
            result = paddle.to_tensor(values.transpose(0, 2, 3, 1)).astype(dtype).transpose([0, 3, 1, 2])
        else:
            result = paddle.to_tensor(values).astype(dtype)
        result = result.detach()
        result.stop_gradient = False
        return result

    return DenseMaps(*[[tensor(level) for level in levels] for levels in maps])


def flat(levels):
    return np.concatenate([m.transpose(0, 2, 3, 1).reshape(-1, m.shape[1]) for m in levels]).astype(np.float64)


def sigmoid(x):
    """1 / (1 + e^-x) without overflow."""
    return np.exp(-np.logaddexp(0, -x))


def cross_entropy(x, target_logits):
    """-t ln p - (1 - t) ln(1 - p)."""
    return sigmoid(target_logits) * np.logaddexp(0, -x) + sigmoid(-target_logits) * np.logaddexp(0, x)


def selection(teacher, ratio):
    best = flat(teacher[0]).max(axis=1)
    return np.argsort(-best)[: max(1, int(len(best) * ratio))]


def expected_losses(student, teacher, ratio, gamma=2.0):
    """spec: quality focal loss over the sum of best probabilities; means over the selected locations of the others."""
    (x, distances, quality), (y, target_distances, target_quality) = map(flat, student), map(flat, teacher)
    rows = selection(teacher, ratio)
    fg_sum = max(sigmoid(y[rows].max(axis=1)).sum(), 1e-6)
    terms = np.logaddexp(0, x) * sigmoid(x) ** gamma
    terms[rows] = cross_entropy(x[rows], y[rows]) * np.abs(sigmoid(y[rows]) - sigmoid(x[rows])) ** gamma
    # Corners x1, y1, x2, y2 around the location.
    a, b = (d[rows] * [-1, -1, 1, 1] for d in (distances, target_distances))

    def area(corners):
        return (corners[:, 2] - corners[:, 0]) * (corners[:, 3] - corners[:, 1])

    inter = area(np.concatenate([np.maximum(a, b)[:, :2], np.minimum(a, b)[:, 2:]], axis=1))
    hull = area(np.concatenate([np.minimum(a, b)[:, :2], np.maximum(a, b)[:, 2:]], axis=1))
    union = area(a) + area(b) - inter
    # 0 / 0 is 0.
    iou, outside = inter / np.maximum(union, 1e-7), (hull - union) / np.maximum(hull, 1e-7)
    return {
        "distill_loss_cls": terms.sum() / fg_sum,
        "distill_loss_box": (1 - (iou - outside)).mean(),
        "distill_loss_quality": cross_entropy(quality[rows], target_quality[rows]).mean(),
        "fg_sum": fg_sum,
    }


def weighted(losses):
    return 4 * losses["distill_loss_cls"] + losses["distill_loss_box"] + losses["distill_loss_quality"]


def difference_quotient(student, teacher, ratio, gamma, field, level, place, step):
    """Of the loss by the student's value at `place`; float64 arrays."""
    values, sides = student[field][level], []
    start = values[place]
    for change in (step, -step):
        values[place] = start + change
        sides.append(expected_losses(student, teacher, ratio, gamma))
    values[place] = start
    # Each loss for itself: in the sum a large one would hide what a small one changes by.
    return weighted({name: (sides[0][name] - sides[1][name]) / (2 * step) for name in NAMES})


def to_float64(maps):
    return [[level.astype(np.float64) for level in levels] for levels in maps]


def is_selected(maps, ratio):
    """Whether each location is, (N, H, W) per level."""
    mask = np.zeros(len(flat(maps[0])), bool)
    mask[selection(maps, ratio)] = True
    parts, start = [], 0
    for level in maps[0]:
        n, _, h, w = level.shape
        parts.append(mask[start : start + n * h * w].reshape(n, h, w))
        start += n * h * w
    return parts


@pytest.mark.parametrize("ratio", [0.01, 0.05])
def test_golden(shared, ratio):
    golden = np.load(shared / "goldens" / "ssod_loss.npz")
    fields = ("cls", "reg", "quality")
    student, teacher = (
        to_paddle([[golden[f"{who}.{field}{i}"] for i in range(5)] for field in fields])
        for who in ("student", "teacher")
    )
    losses = SSODFCOSLoss(ratio=ratio)(student, teacher)
    for name in NAMES:
        assert float(losses[name]) == pytest.approx(float(golden[f"ratio{ratio}.{name}"]), rel=2e-6), name


@pytest.mark.parametrize("gamma", [0.0, 1.0, 1.5, 2.0, 3.0])
@pytest.mark.parametrize("ratio", [0.001, 0.1, 0.5, 1.0])
def test_formulas(ratio, gamma):
    student, teacher = random_maps(1), random_maps(2)
    losses = SSODFCOSLoss(ratio=ratio, gamma=gamma)(to_paddle(student), to_paddle(teacher))
    expected = expected_losses(student, teacher, ratio, gamma)
    assert {name: float(losses[name]) for name in NAMES} == pytest.approx(expected, rel=1e-5)
    assert float(losses["loss"]) == pytest.approx(weighted(expected), rel=1e-5)


@pytest.mark.parametrize("gamma", [1.5, 2.0])
def test_gradient_is_the_difference_quotient(gamma):
    ratio, maps, teacher = 0.2, random_maps(3), random_maps(4)
    student = to_paddle(maps)
    SSODFCOSLoss(ratio=ratio, gamma=gamma)(student, to_paddle(teacher))["loss"].backward()
    rng, selected, maps = np.random.default_rng(5), is_selected(teacher, ratio), to_float64(maps)
    checked = {True: 0, False: 0}
    for field, levels in enumerate(maps):
        for level, values in enumerate(levels):
            for mask in (selected[level], ~selected[level]):
                for image, row, column in rng.permutation(np.argwhere(mask))[:6].tolist():
                    place = (image, int(rng.integers(values.shape[1])), row, column)
                    expected = difference_quotient(maps, teacher, ratio, gamma, field, level, place, 1e-5)
                    actual = float(student[field][level].grad[place])
                    assert actual == pytest.approx(expected, rel=1e-4, abs=1e-7), (field, level, place)
                    checked[bool(selected[level][image, row, column])] += 1
    assert min(checked.values()) > 20


def test_layout_in_memory_changes_nothing():
    student, teacher, results = random_maps(6), random_maps(7), []
    for channels_last in (False, True):
        maps = to_paddle(student, channels_last=channels_last)
        losses = SSODFCOSLoss(ratio=0.1)(maps, to_paddle(teacher, channels_last=channels_last))
        losses["loss"].backward()
        results.append([float(losses["loss"]), *[level.grad.numpy() for levels in maps for level in levels]])
    assert results[0][0] == results[1][0]
    assert all(np.array_equal(a, b) for a, b in zip(results[0][1:], results[1][1:]))


def test_inputs_stay_and_the_teacher_gets_no_gradient():
    """Also with one level and one image, where joining might not copy."""
    student, teacher = ([[level[:1] for level in levels[:1]] for levels in random_maps(seed)] for seed in (8, 9))
    tensors = to_paddle(student, channels_last=True), to_paddle(teacher, channels_last=True)
    SSODFCOSLoss(ratio=0.1)(*tensors)["loss"].backward()
    for arrays, maps in zip((student, teacher), tensors):
        for levels, tensor_levels in zip(arrays, maps):
            assert np.array_equal(levels[0], tensor_levels[0].numpy())
    assert all(level.grad is None for levels in tensors[1] for level in levels)
    assert all(level.grad is not None for levels in tensors[0] for level in levels)


def test_a_map_that_needs_no_gradient_gets_none():
    student, teacher = random_maps(10), random_maps(11)
    maps, expected = to_paddle(student), to_paddle(student)
    maps.logits[1].stop_gradient = True
    for tensors in (maps, expected):
        SSODFCOSLoss()(tensors, to_paddle(teacher))["loss"].backward()
    assert maps.logits[1].grad is None
    assert np.array_equal(maps.logits[2].grad.numpy(), expected.logits[2].grad.numpy())


@pytest.mark.parametrize("size", [50.0, 1e3])
def test_extreme_logits(size):
    """Extreme logits where teacher and student agree or disagree, selected or not, and a teacher without objects."""
    signs = np.array([[1, 1, -1, -1], [1, -1, 1, -1]], np.float32)
    # The ramp makes best logits distinct.
    ramp = np.array([0, 1, 2, 3], np.float32)
    for name, factors in {"sure": signs[::-1] * [1, 1, 0.5, 0.5], "unsure": -np.ones((2, 4))}.items():
        maps = {}
        for who, values, side in (("student", size * signs, 4), ("teacher", size * factors + ramp, 3)):
            values = values.astype(np.float32).reshape(1, 2, 1, 4)
            maps[who] = [[values], [np.full((1, 4, 1, 4), side, np.float32)], [values[:, :1]]]
        student = to_paddle(maps["student"])
        losses = SSODFCOSLoss(ratio=0.5)(student, to_paddle(maps["teacher"]))
        losses["loss"].backward()
        expected = expected_losses(maps["student"], maps["teacher"], 0.5)
        assert {n: float(losses[n]) for n in NAMES} == pytest.approx(expected, rel=1e-5, abs=1e-12), name
        arrays = to_float64(maps["student"])
        for field, (values,) in enumerate(arrays):
            for place in np.ndindex(values.shape):
                quotient = difference_quotient(arrays, maps["teacher"], 0.5, 2.0, field, 0, place, 1e-3)
                actual = float(student[field][0].grad[place])
                assert actual == pytest.approx(quotient, rel=1e-4, abs=1e-6), (name, field, place)


def test_extreme_logits_by_hand():
    """A selected location that is wrong by all that there is costs its logit, and its gradient is the sign."""
    teacher = [
        [np.array([1e3, -1e3], np.float32).reshape(1, 2, 1, 1)],
        [np.ones((1, 4, 1, 1))],
        [np.ones((1, 1, 1, 1))],
    ]
    student = to_paddle([[-teacher[0][0]], *teacher[1:]])
    losses = SSODFCOSLoss()(student, to_paddle(teacher))
    losses["distill_loss_cls"].backward()
    assert float(losses["fg_sum"]) == 1.0
    assert float(losses["distill_loss_cls"]) == pytest.approx(2e3, rel=1e-6)
    assert student.logits[0].grad.flatten().tolist() == [-1.0, 1.0]


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
def test_a_student_like_its_teacher(gamma):
    """Boxes match; no gradient at selected locations, where nothing is to be learned."""
    maps = random_maps(12)
    student = to_paddle(maps)
    losses = SSODFCOSLoss(ratio=0.2, gamma=gamma)(student, to_paddle(maps))
    losses["loss"].backward()
    assert float(losses["distill_loss_box"]) == pytest.approx(0.0, abs=1e-6)
    for mask, logits, quality in zip(is_selected(maps, 0.2), student.logits, student.quality):
        assert np.abs(logits.grad.numpy().transpose(0, 2, 3, 1)[mask]).max(initial=0) == 0
        assert np.abs(quality.grad.numpy()).max() < 1e-7


@pytest.mark.parametrize("size", [0.0, 1e-4, 1e-3, 1.0, 1e3])
def test_teacher_boxes_without_area(size):
    """GIoU is 0 where neither box has area; where the student's has, intersection is 0 and the hull its own box."""
    student, teacher = random_maps(13), random_maps(14)
    student[1], teacher[1] = ([np.full_like(level, side) for level in teacher[1]] for side in (size, 0.0))
    maps = to_paddle(student)
    losses = SSODFCOSLoss(ratio=0.1)(maps, to_paddle(teacher))
    losses["loss"].backward()
    assert float(losses["distill_loss_box"]) == pytest.approx(1.0, abs=1e-6)
    assert all(np.isfinite(level.grad.numpy()).all() for level in maps.distances)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_maps(dtype):
    """Computed in float32 from the rounded values, with gradients of the maps' type."""
    student, teacher = (to_paddle(random_maps(seed), dtype) for seed in (15, 16))
    rounded = [
        [[level.astype("float32").numpy() for level in levels] for levels in maps] for maps in (student, teacher)
    ]
    losses = SSODFCOSLoss(ratio=0.1)(student, teacher)
    losses["loss"].backward()
    same = to_paddle(rounded[0])
    SSODFCOSLoss(ratio=0.1)(same, to_paddle(rounded[1]))["loss"].backward()
    assert losses["loss"].dtype == paddle.float32
    assert {n: float(losses[n]) for n in NAMES} == pytest.approx(expected_losses(*rounded, 0.1), rel=1e-5)
    for levels, same_levels in zip(student, same):
        for level, same_level in zip(levels, same_levels):
            assert level.grad.dtype == level.dtype
            actual = level.grad.astype("float32").numpy()
            assert np.allclose(actual, same_level.grad.numpy(), rtol=0.01, atol=1e-6)


def test_weights():
    student, teacher = to_paddle(random_maps(17)), to_paddle(random_maps(18))
    weights = {"distill_loss_cls": 2.0, "distill_loss_quality": 0.0}
    losses = SSODFCOSLoss(loss_weight=weights)(student, teacher)
    expected = 2.0 * float(losses["distill_loss_cls"]) + float(losses["distill_loss_box"])
    assert float(losses["loss"]) == pytest.approx(expected, rel=1e-6)
    assert SSODFCOSLoss().loss_weight["distill_loss_cls"] == 4.0
    assert weights == {"distill_loss_cls": 2.0, "distill_loss_quality": 0.0}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"loss_weight": {"distil_loss_cls": 1.0}}, "loss_weight has 'distil_loss_cls'; it takes distill_loss_cls, "),
        ({"ratio": 0.0}, "ratio is 0.0; it must be above 0 and at most 1"),
        ({"ratio": 1.5}, "ratio is 1.5; it must be above 0 and at most 1"),
        ({"ratio": "automatic"}, "ratio is 'automatic'; it must be one of auto"),
        ({"gamma": -1.0}, "gamma is -1.0; it must be at least 0"),
    ],
)
def test_mistakes(settings, message):
    with pytest.raises(ValueError) as error:
        SSODFCOSLoss(**settings)
    assert message in str(error.value)


def test_ratio_that_is_set_later():
    """It has a share for each class. Where one class has all of it, the losses are those of its own best locations."""
    student, maps = to_paddle(random_maps(21)), random_maps(22)
    for level in maps[0]:
        level[:, 1:] = level[:, :1] - 5.0  # the first class has the largest logit at every location
    teacher = to_paddle(maps)
    loss = SSODFCOSLoss(ratio="auto")
    with pytest.raises(ValueError, match="ratio is auto: set the attribute ratio"):
        loss(student, teacher)
    loss.ratio = [0.25, 0.0, 0.0, 0.0, 0.0]
    found, expected = loss(student, teacher), SSODFCOSLoss(ratio=0.25)(student, teacher)
    assert float(found.pop("ratio")) == 0.25
    found, expected = ({name: float(value) for name, value in losses.items()} for losses in (found, expected))
    assert found == pytest.approx(expected, rel=1e-6)


def test_rare_classes_are_selected_too():
    """By hand: 8 locations; the scores of class 1 are all below those of class 0."""
    logits = paddle.to_tensor([[6.0, -3], [5, -6], [4, -5], [3, -1], [2, -2], [1, -4], [0, -9], [-1, -8]])

    def selected(ratio):
        return sorted(select_locations(logits, ratio).tolist())

    assert selected(0.5) == [0, 1, 2, 3]
    assert selected([0.25, 0.25]) == [0, 1, 3, 4]
    assert selected([0.25, 0.0]) == [0, 1]
    assert selected([0.0, 0.25]) == [3, 4]
    assert selected([0.01, 0.01]) == [0, 3]  # at least one for each class
    # Location 3 is among the best of both, so that one more is selected: 5 lacks 2 of class 0's last logit, 3, as of
    # class 1's, -2; 6 and 7 lack more.
    assert selected([0.5, 0.25]) == [0, 1, 2, 3, 4, 5]
    assert selected([1.0, 1.0]) == list(range(8))
    assert selected([0.0, 0.0]) == [0]


@pytest.mark.parametrize("seed", range(20))
def test_every_class_gets_its_share(seed):
    """The union of each class's best locations is selected, and as many others as the classes share."""
    rng = np.random.default_rng(seed)
    locations, classes = int(rng.integers(1, 60)), int(rng.integers(1, 6))
    logits = rng.normal(0, 3, (locations, classes)).astype(np.float32)
    ratio = [float(share) for share in rng.uniform(0.01, 1.0, classes) ** 2]
    counts = [int(np.ceil(locations * share)) for share in ratio]
    union = {row for c, count in enumerate(counts) for row in np.argsort(-logits[:, c])[:count]}
    index = select_locations(paddle.to_tensor(logits), ratio).tolist()
    assert union <= set(index)
    assert len(set(index)) == len(index) == min(sum(counts), locations)


def test_views_of_different_size():
    student, teacher = random_maps(19), random_maps(20)
    teacher = [[level[..., :1] for level in levels] for levels in teacher]
    with pytest.raises(ValueError, match="both must see the same images at the same size"):
        SSODFCOSLoss()(to_paddle(student), to_paddle(teacher))
