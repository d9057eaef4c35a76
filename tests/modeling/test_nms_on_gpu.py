"""NMS is called as the GPU's kernel needs it, and gives the rows of the CPU's kernel with the plain arguments."""

import numpy as np
import paddle
import pytest
from gpu_nms import MOST, GPUKernel, check, check_graph
from paddle.static import InputSpec

from ppdet.modeling.nms import MultiClassNMS

CLASSES = 3


@pytest.fixture
def kernel(monkeypatch):
    return GPUKernel(monkeypatch)


def case(images, count, empty=(), seed=0):
    """Boxes and scores of `count` boxes per image, of which 400 score above 0.025; none of the images `empty`."""
    rng = np.random.default_rng(seed)
    corner = rng.uniform(0, 600, (images, count, 2))
    boxes = np.concatenate([corner, corner + rng.uniform(5, 90, (images, count, 2))], axis=2).astype(np.float32)
    scores = rng.uniform(0, 0.02, (images, CLASSES, count))
    for image in set(range(images)) - set(empty):
        places = rng.permutation(count)[:400]
        scores[image, :, places] = rng.uniform(0, 1, (len(places), CLASSES)).round(2)  # there are equal ones
    return boxes, scores.astype(np.float32)


def plain(kernel, nms, boxes, scores):
    """Rows of the CPU's kernel, called with the plain settings, and the number of rows by image."""
    settings = nms.score_threshold, nms.nms_top_k, nms.keep_top_k, nms.nms_threshold, True, 1.0, -1
    rows, _, counts = kernel.on_cpu(paddle.to_tensor(boxes), paddle.to_tensor(scores), None, *settings)
    return rows.numpy().reshape(-1, 6), counts.tolist()


def by_class(rows, counts):
    """Rows in the order of the CPU's kernel."""
    image = np.repeat(np.arange(len(counts)), counts)
    return rows[np.lexsort((-rows[:, 1], rows[:, 0], image))]


SETTINGS = {
    "as they are": {},
    "all enter": {"nms_top_k": -1},
    "all leave": {"keep_top_k": -1},
    "all enter and leave": {"nms_top_k": -1, "keep_top_k": -1},
    "few enter": {"nms_top_k": 120},
    "fewer of a class enter than leave": {"nms_top_k": 50},
    "as many enter as there may be, and more may leave": {"nms_top_k": 143, "keep_top_k": 200},
    "more enter than a GPU takes": {"nms_top_k": MOST + 1},
    "more leave than a GPU takes": {"keep_top_k": MOST + 1},
    "any number leaves": {"keep_top_k": 10**9},
    "any number enters and leaves": {"nms_top_k": 10**9, "keep_top_k": 10**9},
    "one leaves": {"keep_top_k": 1},
    "every score counts": {"score_threshold": 0.0, "nms_top_k": 300},
    "none counts": {"score_threshold": 1.0},
}


@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
@pytest.mark.parametrize("count", [1, 5, 143, 999, 1000, 3000, 25_000])
def test_every_number_of_boxes(kernel, settings, count):
    boxes, scores = case(2, count, empty=[0])
    nms = MultiClassNMS(**settings)
    assert nms.arguments(count).empty_boxes <= MOST  # they take memory
    rows, counts = nms(paddle.to_tensor(boxes), paddle.to_tensor(scores))
    expected, numbers = plain(kernel, nms, boxes, scores)
    assert counts.tolist() == numbers and rows.shape == [sum(numbers), 6]
    np.testing.assert_array_equal(by_class(rows.numpy(), numbers), by_class(expected, numbers))
    # The work leaves the GPU where the settings ask for more than its kernel has, and nowhere else.
    top = count if nms.nms_top_k == -1 else min(nms.nms_top_k, count)
    keep = nms.keep_top_k
    assert kernel.calls == [0 < keep <= MOST and top <= MOST and (top == count or top >= keep)]


@pytest.mark.parametrize("empty", [(), (0,), (2,), (0, 1), (1, 2), (0, 1, 2)])
@pytest.mark.parametrize("keep", [7, 100])
@pytest.mark.parametrize("shifted", [False, True])
def test_images_without_detections(kernel, empty, keep, shifted):
    """Two calls, since the first one's error shows in the second."""
    boxes, scores = case(3, 250, empty)
    nms = MultiClassNMS(keep_top_k=keep)
    shift = np.array([[0, 0, 3, 4], [1, 2, 0, 0], [0, 0, 0, 8]], np.float32)[:, None] * shifted
    expected, numbers = plain(kernel, nms, boxes + shift, scores)
    expected = by_class(expected, numbers) - np.repeat(np.pad(shift[:, 0], [(0, 0), (2, 0)]), numbers, axis=0)
    for _ in range(2):
        shifts = [paddle.to_tensor(shift[:, 0])] if shifted else []
        rows, counts = nms(paddle.to_tensor(boxes), paddle.to_tensor(scores), *shifts)
        assert counts.tolist() == numbers and counts.dtype == paddle.int32
        assert [n > 0 for n in numbers] == [image not in empty for image in range(3)]
        np.testing.assert_array_equal(by_class(rows.numpy(), numbers), expected)
    assert kernel.calls == [True, True]


@pytest.mark.parametrize("settings", [{"nms_top_k": -1}, {"nms_top_k": 4500}, {"nms_top_k": 150}])
def test_more_boxes_than_a_class_can_have(kernel, settings):
    """5000 boxes, of which 400 score in some class above 0."""
    boxes, scores = case(2, 5000)
    scores[scores <= 0.02] = 0
    nms = MultiClassNMS(**settings)
    expected, numbers = plain(kernel, nms, boxes, scores)
    rows, counts = nms(paddle.to_tensor(boxes), paddle.to_tensor(scores), max_per_class=400)
    assert counts.tolist() == numbers and kernel.calls == [True]
    np.testing.assert_array_equal(by_class(rows.numpy(), numbers), by_class(expected, numbers))


def test_the_kernels_conditions_are_checked():
    """What every detection in Python raised on a GPU, and what took its place once."""
    for boxes, top, keep in ((143, 1000, 100), (5, 5, 100), (1000, 50, 100), (1000, 0, 0)):
        with pytest.raises(AssertionError):
            check(boxes, [1, 80, boxes], top, keep, 1.0)
    assert check(1000, [1, 80, 1000], 1000, 100, 1.0)
    assert not check(5, [1, 80, 5], -1, 100, 1.0) and not check(5, [1, 80, 5], 50, 100, 1.5)


@pytest.mark.parametrize("name", ["nms_top_k", "keep_top_k"])
@pytest.mark.parametrize("value", [0, -2])
def test_numbers_that_leave_nothing(name, value):
    with pytest.raises(ValueError, match=f"MultiClassNMS.{name} is {value}; it must be positive, or -1 for all"):
        MultiClassNMS(**{name: value})


@pytest.mark.parametrize("name", ["score_threshold", "nms_threshold"])
def test_thresholds_that_are_no_numbers(name):
    with pytest.raises(ValueError, match=f"MultiClassNMS.{name} is nan; it must be .* 0 .* 1"):
        MultiClassNMS(**{name: float("nan")})


@pytest.mark.parametrize("threshold", [1.0, 1.5, 2.0**24, 1e30, float("inf")])
def test_thresholds_that_nothing_reaches(kernel, threshold):
    """The extra image has its detection all the same: `GPUKernel` looks whether there is one."""
    boxes, scores = case(2, 143)
    for _ in range(2):
        rows, counts = MultiClassNMS(score_threshold=threshold)(paddle.to_tensor(boxes), paddle.to_tensor(scores))
        assert rows.shape == [0, 6] and counts.tolist() == [0, 0]
    assert kernel.calls == [True, True]


class Suppress(paddle.nn.Layer):
    def __init__(self, nms):
        super().__init__()
        self.nms = nms
        self.factor = self.create_parameter([1], default_initializer=paddle.nn.initializer.Constant(1.0))

    @paddle.jit.not_to_static
    def forward(self, boxes, scores=None):
        return self.nms(boxes * self.factor, scores)


@pytest.mark.parametrize("known", [False, True])
@pytest.mark.parametrize(
    ("settings", "computes"),
    [
        ({}, True),
        ({"nms_top_k": 120, "score_threshold": 0.5}, True),
        ({"nms_top_k": 50}, False),
        ({"nms_top_k": -1}, False),
        ({"keep_top_k": -1}, False),
        ({"keep_top_k": 10**9}, False),
        ({"nms_top_k": MOST + 1}, False),
    ],
)
def test_graphs(kernel, tmp_path, settings, computes, known):
    """The same of graphs, of which most do not know how many boxes there will be."""
    nms = MultiClassNMS(**settings)
    assert max(nms.arguments(count).empty_boxes for count in (769, -1)) <= MOST
    counts = [769] if known else [1, 5, 769, 4500]
    sizes = [None, counts[0] if known else None]
    spec = [InputSpec([*sizes, 4], "float32", "boxes"), InputSpec([None, CLASSES, sizes[1]], "float32", "scores")]
    graph = paddle.jit.to_static(Suppress(nms), input_spec=spec, full_graph=True)
    paddle.jit.save(graph, str(tmp_path / "model"))
    if known and settings.get("nms_top_k", 1000) in (-1, MOST + 1):
        computes = True  # no more than 769
    for count in counts:
        for empty in ((), (0, 1)):
            boxes, scores = case(2, count, empty)
            stays, (rows, numbers) = check_graph(tmp_path, {"boxes": boxes, "scores": scores})
            expected = plain(kernel, nms, boxes, scores)
            assert stays == computes and numbers.tolist() == expected[1] and rows.shape == (sum(numbers), 6)
            np.testing.assert_array_equal(rows, expected[0])


def test_not_a_number(kernel):
    """Of the first image, from which the empty boxes are made too."""
    boxes, scores = case(2, 40)
    boxes[0, ::3], scores[0, :, ::2] = np.nan, np.nan
    boxes[0, 0], scores[0, :, 0] = np.inf, np.inf
    for settings in ({}, {"keep_top_k": -1}):
        nms = MultiClassNMS(**settings)
        expected, numbers = plain(kernel, nms, boxes, scores)
        rows, counts = nms(paddle.to_tensor(boxes), paddle.to_tensor(scores))
        assert counts.tolist() == numbers and min(numbers) > 0
        np.testing.assert_array_equal(by_class(rows.numpy(), numbers), by_class(expected, numbers))
        rows, counts = nms(paddle.to_tensor(boxes[:1] * np.nan), paddle.to_tensor(scores[:1] * np.nan))
        assert rows.shape == [0, 6] and counts.tolist() == [0]
