"""Detections with the rules of three code bases, against these rules written in NumPy, candidate by candidate."""

import numpy as np
import paddle
import pytest
from dense_maps import Detect, as_tensors
from paddle.static import InputSpec

from ppdet.core.workspace import load_config
from ppdet.modeling.architectures.base import DenseMaps
from ppdet.modeling.heads.decoding import Decoder, top_classes
from ppdet.utils.errors import ConfigError
from ppdet.utils.locations import Locations

STRIDES, SIZES, CLASSES = (8, 16, 32), ((8, 12), (4, 6), (2, 3)), 2
IM_SHAPE = np.array([[60, 90], [64, 70]], np.float32)
SCALE = np.array([[0.5, 0.75], [2.0, 1.0]], np.float32)
# What each code base does, in its own terms, and the parameters that say the same.
RULES = {
    # MMDetection 2: the best locations by class score x centerness; the threshold looks at the class score alone.
    "mmdetection": (
        {"pre_nms": "locations", "top_k": 20, "class_threshold": 0.3, "nms": 0.5, "last_x": 0},
        ["class_threshold=0.3", "level_top_k=20", "clip_boxes=true",
         "nms.score_threshold=0", "nms.nms_threshold=0.5"],
    ),
    # FCOS_PLUS: the best pairs of location and class that pass the threshold; scores are square roots.
    "fcos_plus": (
        {"pre_nms": "pairs", "top_k": 20, "class_threshold": 0.3, "sqrt": True, "nms": 0.6, "last_x": 1},
        ["class_threshold=0.3", "level_top_k=20", "level_top_k_of=classes", "clip_boxes=true", "last_pixel=true",
         "sqrt_score=true", "nms.score_threshold=0"],
    ),
    # torchvision: the same pairs, but the threshold looks at the square root.
    "torchvision": (
        {"pre_nms": "pairs", "top_k": 20, "score_threshold": 0.5, "sqrt": True, "nms": 0.6, "last_x": 0},
        ["level_top_k=20", "level_top_k_of=classes", "clip_boxes=true", "sqrt_score=true", "nms.score_threshold=0.5"],
    ),
    "all candidates, one threshold on classes": (
        {"pre_nms": "locations", "top_k": 1000, "class_threshold": 0.6, "nms": 0.6, "last_x": None},
        ["class_threshold=0.6", "nms.score_threshold=0"],
    ),
    "both thresholds": (
        {"pre_nms": "pairs", "top_k": 5, "class_threshold": 0.4, "score_threshold": 0.3, "nms": 0.6, "last_x": None},
        ["class_threshold=0.4", "level_top_k=5", "level_top_k_of=classes", "nms.score_threshold=0.3"],
    ),
}  # fmt: skip


def sigmoid(x):
    return 1 / (1 + np.exp(-x.astype(np.float64)))


def area(box):
    return max(box[2] - box[0], 0) * max(box[3] - box[1], 0)


def overlap(a, b):
    inter = area([*np.maximum(a[:2], b[:2]), *np.minimum(a[2:], b[2:])])
    union = area(a) + area(b) - inter
    # Boxes that lie beyond the image and are clipped have no area; of two that touch, Paddle keeps one.
    apart = (np.maximum(a[:2], b[:2]) > np.minimum(a[2:], b[2:])).any()
    return inter / union if union else float(not apart)


def expected_rows(maps, image, rule):
    """The expected rows of one image, the best score first."""
    found = []
    for level, stride in enumerate(STRIDES):
        logits, distances, quality = (field[level][image] for field in maps)
        height, width = logits.shape[1:]
        pairs = []
        for i, j in np.ndindex(height, width):
            p, q = sigmoid(logits[:, i, j]), sigmoid(quality[0, i, j])
            left, top, right, bottom = distances[:, i, j] * stride
            x, y = (j + 0.5) * stride, (i + 0.5) * stride
            if y >= IM_SHAPE[image, 0] or x >= IM_SHAPE[image, 1]:
                continue  # in the padding
            box = np.array([x - left, y - top, x + right, y + bottom])
            if rule["last_x"] is not None:
                h, w = IM_SHAPE[image] - rule["last_x"]
                box = np.clip(box, 0, [w, h, w, h])
            box[2:] += rule["last_x"] or 0
            box = box / SCALE[image, [1, 0, 1, 0]]
            pairs += [((i, j), max(p) * q, c, p[c], p[c] * q, box) for c in range(CLASSES)]
        passing = [pair for pair in pairs if pair[3] > rule.get("class_threshold", 0)]
        if rule["pre_nms"] == "pairs":
            found += sorted(passing, key=lambda pair: -pair[4])[: rule["top_k"]]
        else:
            places = sorted({pair[:2] for pair in pairs}, key=lambda place: -place[1])[: rule["top_k"]]
            found += [pair for pair in passing if pair[:2] in places]
    rows = [[c, np.sqrt(s) if rule.get("sqrt") else s, *box] for _, _, c, _, s, box in found]
    rows = sorted([row for row in rows if row[1] > rule.get("score_threshold", 0)], key=lambda row: -row[1])
    kept = []
    for row in rows:
        if all(row[0] != other[0] or overlap(row[2:], other[2:]) <= rule["nms"] for other in kept):
            kept.append(row)
    # Suppression counts the last pixel in the network's input; a detection has one pixel of the original image.
    pixel = np.array([0, 0, 0, 0, *(1 - 1 / SCALE[image, [1, 0]])]) * (rule["last_x"] or 0)
    return np.array(kept[:100]).reshape(-1, 6) + pixel


def random_maps(seed):
    rng = np.random.default_rng(seed)
    logits, distances, quality = (
        [rng.normal(0, 2, (2, channels, h, w)).astype(np.float32) for h, w in SIZES] for channels in (CLASSES, 4, 1)
    )
    # One image has hardly a class that passes, and no level has none.
    logits = [np.stack([level[0] - 1, level[1] - 3]) for level in logits]
    return [logits, [np.abs(d) * 1.5 for d in distances], quality]


def make_model(tiny, options):
    model = load_config(str(tiny), [f"FCOSHead.{o}" for o in ("nms.nms_top_k=-1", *options)]).create("FCOS")
    model.eval()
    return model


def check(rows, counts, maps, rule):
    starts = np.cumsum([0, *counts])
    assert len(rows) == starts[-1]
    for image in range(2):
        ours = rows[starts[image] : starts[image + 1]]
        ours = ours[np.argsort(-ours[:, 1], kind="stable")]
        expected = expected_rows(maps, image, rule)
        assert ours.shape == expected.shape
        np.testing.assert_allclose(ours, expected, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", RULES)
def test_detections(tiny, name, seed):
    rule, options = RULES[name]
    maps = random_maps(seed)
    model = make_model(tiny, options)
    rows, counts = model.detect(as_tensors(maps), paddle.to_tensor(SCALE), paddle.to_tensor(IM_SHAPE))
    assert min(counts.tolist()) > 0
    check(rows.numpy(), counts.tolist(), maps, rule)


class Decode(Detect):
    def forward(self, maps):
        return self.model.fcos_head.decode(DenseMaps(*maps))[0]


@pytest.mark.parametrize("name", RULES)
def test_static_graph_of_any_size(tiny, name):
    """A static graph that was recorded for unknown sizes gives the same rows."""
    rule, options = RULES[name]
    fields = [[InputSpec([None, channels, None, None], "float32") for _ in SIZES] for channels in (CLASSES, 4, 1)]
    spec = [fields, InputSpec([None, 2], "float32"), InputSpec([None, 2], "float32")]
    graph = paddle.jit.to_static(Detect(make_model(tiny, options)), input_spec=spec, full_graph=True)
    maps = random_maps(7)
    rows, counts = graph([list(f) for f in as_tensors(maps)], paddle.to_tensor(SCALE), paddle.to_tensor(IM_SHAPE))
    check(rows.numpy(), counts.tolist(), maps, rule)


def test_locations_are_chosen_before_the_class_threshold(tiny):
    """With level_top_k 1, a location with a good class and poor quality loses to one whose class does not pass."""
    model = make_model(tiny, ["class_threshold=0.5", "level_top_k=1", "nms.score_threshold=0"])
    logits = np.full((1, CLASSES, 1, 2), -9.0, np.float32)
    logits[0, 0, 0] = [1.0, -0.1]
    maps = [[logits], [np.ones((1, 4, 1, 2), np.float32)], [np.array([[[[-3.0, 3.0]]]], np.float32)]]
    scale = paddle.ones([1, 2])
    assert model.detect(as_tensors(maps), scale)[1].tolist() == [0]
    model.fcos_head.decoder.level_top_k_of = "classes"
    rows, counts = model.detect(as_tensors(maps), scale)
    assert counts.tolist() == [1] and rows[0, 2:].tolist() == [-4, -4, 12, 12]


@pytest.mark.parametrize("options", [[], ["level_top_k=12", "level_top_k_of=locations"]])
def test_even_locations(tiny, options):
    """In an input of 64x96, the 3x4 locations of the coarsest level are 64 // 3 = 21 and 96 // 4 = 24 pixels apart."""
    sizes = [(8, 12), (4, 6), (3, 4)]
    maps = as_tensors([[np.zeros((1, channels, h, w), np.float32) for h, w in sizes] for channels in (CLASSES, 4, 1)])
    spec = [[InputSpec([None, channels, None, None], "float32") for _ in sizes] for channels in (CLASSES, 4, 1)]
    for even, (down, right) in ((False, (32, 32)), (True, (21, 24))):
        model = make_model(tiny, ["num_shift=0.0", f"even_locations={str(even).lower()}", *options])
        assert model.locations.even == even
        expected = [[j * right, i * down] * 2 for i in range(3) for j in range(4)]
        boxes = [model.fcos_head.decode(maps)[0]]
        graph = paddle.jit.to_static(Decode(model), input_spec=[spec], full_graph=True)
        boxes.append(graph([list(field) for field in maps]))
        if not options:
            boxes.append(model.fcos_head.decode(maps, score_threshold=0.1)[0])
            assert boxes[0][0, :2].tolist() == [[0] * 4, [8, 0, 8, 0]]
        assert all(sorted(b[0, -12:].tolist()) == sorted(expected) for b in boxes)


def test_nothing_passes(tiny):
    for of in ("locations", "classes"):
        options = ["class_threshold=0.9999", "level_top_k=3", f"level_top_k_of={of}", "last_pixel=true"]
        model = make_model(tiny, options)
        rows, counts = model.detect(as_tensors(random_maps(0)), paddle.to_tensor(SCALE))
        assert counts.tolist() == [0, 0] and rows.shape == [0, 6]


def test_a_class_threshold_leaves_few_candidates(tiny):
    model = make_model(tiny, ["class_threshold=0.6", "nms.score_threshold=0"])
    maps = random_maps(1)
    boxes, scores, *_ = model.decode(as_tensors(maps), paddle.to_tensor(SCALE), score_threshold=0.0)
    passing = sum((sigmoid(level) > 0.6).any(axis=(0, 1)).sum() for level in maps[0])
    assert boxes.shape[1] == scores.shape[2] == passing


@pytest.mark.parametrize("of", ["locations", "classes"])
def test_a_level_with_fewer_than_asked_for(tiny, of):
    """The last level has only 6 locations with 2 classes: all are candidates, and the other places have scores of 0."""
    model = make_model(tiny, ["level_top_k=20", f"level_top_k_of={of}"])
    boxes, scores, *_ = model.decode(as_tensors(random_maps(2)), paddle.to_tensor(SCALE))
    assert boxes.shape == [2, 60, 4] and scores.shape == [2, CLASSES, 60]
    there = (scores[:, :, 40:] > 0).astype("int32").sum(axis=1).tolist()
    assert there == ([[2] * 6 + [0] * 14] * 2 if of == "locations" else [[1] * 12 + [0] * 8] * 2)


def test_every_location(tiny):
    """Export compares engines by all locations, with the scores that no threshold has changed."""
    maps, scale = as_tensors(random_maps(3)), paddle.to_tensor(SCALE)
    options = ["class_threshold=0.6", "level_top_k=5", "level_top_k_of=classes"]
    chosen = make_model(tiny, options).decode(maps, scale, every_location=True)
    plain = make_model(tiny, []).decode(maps, scale)
    assert chosen.boxes.shape == [2, 96 + 24 + 6, 4]
    for ours, expected in zip(chosen[:2], plain[:2]):
        np.testing.assert_array_equal(ours.numpy(), expected.numpy())


@pytest.mark.parametrize(
    ("sizes", "count", "expected"),
    [
        (SIZES, None, 96 + 24 + 6),
        (SIZES, 200, 96 + 24 + 6),
        (SIZES, 20, 20 + 20 + 6),
        (SIZES, 1, 3),
        (SIZES[::-1], 20, 6 + 20 + 20),
        (SIZES[1:2], 23, 23),
        (((None, 12), (4, 6)), None, None),
        (((8, 12), (4, None)), 20, None),
    ],
)
def test_max_per_class(sizes, count, expected):
    logits = [InputSpec([None, CLASSES, *size], "float32") for size in sizes]
    assert Decoder(Locations(STRIDES), level_top_k=count).max_per_class(logits) == expected


def crowd():
    """Maps of one image. All locations of the first two levels predict the same box of the first class, with scores
    above those of the last level, where each location predicts a small box of its own."""
    maps = [[], [], []]
    for (height, width), stride, sure in zip(SIZES, STRIDES, (2, 2, 0)):
        y, x = (np.mgrid[:height, :width] + 0.5).astype(np.float32)
        around = np.stack([x, y, SIZES[0][1] * 8 / stride - x, SIZES[0][0] * 8 / stride - y])
        maps[0].append(np.stack([np.full_like(x, 2), np.full_like(x, -9)])[None])
        maps[1].append((around if sure else np.full_like(around, 0.1))[None])
        maps[2].append(np.full((1, 1, height, width), sure, np.float32))
    return maps


@pytest.mark.parametrize("options", [[], ["level_top_k=20"], ["level_top_k=20", "level_top_k_of=classes"]])
@pytest.mark.parametrize("top", [-1, 1000])
def test_all_of_a_class_enter_suppression(tiny, top, options):
    """One box suppresses more boxes than keep_top_k; the boxes that remain have the lowest scores."""
    model = make_model(tiny, ["nms.keep_top_k=5", *options, f"nms.nms_top_k={top}"])
    maps, scale = as_tensors(crowd()), paddle.ones([1, 2])
    rows, counts = model.detect(maps, scale)
    nms = model.fcos_head.nms
    settings = nms.score_threshold, top, 5, nms.nms_threshold, True, 1.0, -1
    expected, _, _ = paddle._C_ops.multiclass_nms3(*model.decode(maps, scale)[:2], None, *settings)
    np.testing.assert_array_equal(rows.numpy(), expected.numpy())
    assert counts.tolist() == [5]
    np.testing.assert_allclose(rows[0, 2:], [0, 0, 96, 64], atol=1e-4)
    np.testing.assert_allclose(rows[1:, 4:] - rows[1:, 2:4], np.full((4, 2), 6.4), rtol=1e-4)


def test_top_classes():
    """The 3 best pairs of 3 boxes and 2 classes; the first box has two of them."""
    boxes = paddle.arange(12, dtype="float32").reshape([1, 3, 4])
    boxes, scores = top_classes(boxes, paddle.to_tensor([[[0.5, 0.25, 0.75], [0.625, 0.125, 0.25]]]), 3)
    assert boxes[0, :, 0].tolist() == [8, 0, 0]
    assert scores[0].tolist() == [[0.75, 0, 0.5], [0, 0.625, 0]]


def test_clipping_needs_sizes(tiny):
    model = make_model(tiny, ["clip_boxes=true"])
    with pytest.raises(ValueError, match="clip_boxes needs im_shape"):
        model.detect(as_tensors(random_maps(0)), paddle.to_tensor(SCALE))
    batch = {"image": paddle.randn([2, 3, 64, 96]), "scale_factor": paddle.ones([2, 2])}
    model.fcos_head.nms.score_threshold = 0.0
    with paddle.no_grad():
        rows, counts = model({**batch, "im_shape": paddle.to_tensor([[60.0, 90.0], [20.0, 30.0]])})
    first, second = np.split(rows.numpy(), [counts[0].item()])
    assert first[:, 2:].min() == 0 and first[:, [2, 4]].max() == 90 and first[:, [3, 5]].max() == 60
    assert second[:, 2:].min() == 0 and second[:, [2, 4]].max() == 30 and second[:, [3, 5]].max() == 20


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("class_threshold=1.0", "class_threshold is 1.0; it must be above 0 and below 1"),
        ("level_top_k=0", "level_top_k is 0; it must be at least 1"),
        ("level_top_k_of=boxes", "level_top_k_of"),
        ("clip_boxes=border", "clip_boxes"),
    ],
)
def test_mistakes(tiny, option, message):
    with pytest.raises(ConfigError, match=message):
        make_model(tiny, [option])
