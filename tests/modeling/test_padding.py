"""Nothing is detected in the padding: a padded batch gives the same detections as each image without padding."""

import numpy as np
import paddle
import pytest
from dense_maps import Detect, as_tensors
from paddle.static import InputSpec

from ppdet.core.workspace import load_config
from ppdet.utils.locations import LevelGrid

STRIDES, SIZES, CLASSES = (8, 16, 32), ((8, 12), (4, 6), (2, 3)), 2
# Of an input of 64 x 96. The second's right side lies between two locations of every level, the third's on some.
IM_SHAPE = np.array([[64, 96], [51, 41], [36, 88]], np.float32)
SCALE = np.array([[1, 1], [0.5, 0.75], [2, 1]], np.float32)
OPTIONS = {
    "all locations": ["nms.nms_top_k=-1", "nms.keep_top_k=-1", "nms.score_threshold=0"],
    "one threshold": [],
    "a threshold below the score of padding": ["nms.nms_top_k=-1", "nms.keep_top_k=-1", "nms.score_threshold=-1"],
    "few enter suppression and few leave it": ["nms.nms_top_k=7", "nms.keep_top_k=9", "nms.score_threshold=0"],
    "corners": ["num_shift=0", "clip_boxes=true"],
    "a third": ["num_shift=0.3333"],
    "roots": ["sqrt_score=true", "class_threshold=0.3", "nms.score_threshold=0"],
    "best locations": ["level_top_k=5", "class_threshold=0.3", "clip_boxes=true", "nms.score_threshold=0"],
    "best classes": ["level_top_k=5", "level_top_k_of=classes", "last_pixel=true", "clip_boxes=true"],
    "more than there are": ["level_top_k=50", "nms.score_threshold=0"],
}


def make_model(tiny, options):
    model = load_config(str(tiny), [f"FCOSHead.{option}" for option in options]).create("FCOS")
    model.eval()
    return model


def padded_maps(shift):
    """The maps of all three images, and each image's maps without its padding. The padding has the best scores."""
    rng = np.random.default_rng(4)
    maps = [
        [rng.normal(0, 2, (3, channels, h, w)).astype(np.float32) for h, w in SIZES] for channels in (CLASSES, 4, 1)
    ]
    maps[1] = [np.abs(level) * 1.5 for level in maps[1]]
    cut = [[[] for _ in maps] for _ in IM_SHAPE]
    for number, stride in enumerate(STRIDES):
        for image, size in enumerate(IM_SHAPE):
            rows, columns = (
                sum((i + shift) * stride < side for i in range(count)) for count, side in zip(SIZES[number], size)
            )
            assert rows and columns
            for kind, levels in enumerate(maps):
                level = levels[number][image]
                cut[image][kind].append(level[None, :, :rows, :columns].copy())
                if kind != 1:
                    level[:, rows:], level[:, :, columns:] = 20, 20
    return maps, cut


@pytest.mark.parametrize(
    ("name", "graph"),
    [*((name, "dynamic") for name in OPTIONS), ("corners", "static"), ("roots", "static"), ("best classes", "static")],
)
def test_a_padded_batch_gives_what_each_image_gives(tiny, name, graph):
    model = make_model(tiny, OPTIONS[name])
    maps, cut = padded_maps(model.locations.shift)
    detect = Detect(model)
    if graph == "static":
        fields = [[InputSpec([None, channels, None, None], "float32") for _ in SIZES] for channels in (CLASSES, 4, 1)]
        spec = [fields, *[InputSpec([None, 2], "float32")] * 2]
        detect = paddle.jit.to_static(detect, input_spec=spec, full_graph=True)
    rows, counts = detect([list(field) for field in as_tensors(maps)], *map(paddle.to_tensor, (SCALE, IM_SHAPE)))
    found = np.split(rows.numpy(), np.cumsum(counts.numpy())[:-1])
    for image, part in enumerate(cut):
        scale, size = (paddle.to_tensor(array[image : image + 1]) for array in (SCALE, IM_SHAPE))
        alone = model.detect(as_tensors(part), scale, size)[0].numpy()
        assert found[image].shape == alone.shape and len(alone) > 3
        np.testing.assert_allclose(found[image], alone, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("options", [[], ["level_top_k=3"], ["level_top_k=3", "level_top_k_of=classes"]])
def test_an_image_without_a_location(tiny, options):
    """An image of 3 x 90 pixels has no location, since the first row of locations is at y = 4."""
    model = make_model(tiny, [*options, "nms.score_threshold=0"])
    maps, _ = padded_maps(0.5)
    shapes = paddle.to_tensor([[64.0, 96.0], [3.0, 90.0], [5.0, 3.0]])
    for sizes, last in ((shapes, 0), (shapes[1:], None)):
        part = [[level[-len(sizes) :] for level in field] for field in maps]
        _, counts = model.detect(as_tensors(part), paddle.ones([len(sizes), 2]), sizes)
        assert counts[1:].tolist() == [0] * (len(sizes) - 1) and (counts[0].item() > 0) == (last == 0)


@pytest.mark.parametrize("graph", ["dynamic", "static"])
@pytest.mark.parametrize(("step", "shift"), [((8, 8), 0.5), ((8, 8), 0.0), ((21, 24), 0.5), ((21, 24), 0.25)])
def test_inside(step, shift, graph):
    """The mask for all integer sizes of images against (index + shift) * step < size."""
    sizes = np.stack(np.meshgrid(np.arange(1, 100), [1, 30, 96]), axis=-1).reshape(-1, 2).astype(np.float32)

    def mask(level_map, im_shape):
        pixels = step
        if not paddle.in_dynamic_mode():
            pixels = [paddle.full([], side, "int32") for side in step]
            level_map = paddle.shape(level_map)
        else:
            level_map = level_map.shape
        return LevelGrid(level_map[2], level_map[3], *pixels, shift).inside(im_shape)

    if graph == "static":
        spec = [InputSpec([None, 1, None, None], "float32"), InputSpec([None, 2], "float32")]
        mask = paddle.jit.to_static(mask, input_spec=spec, full_graph=True)
    found = mask(paddle.zeros([1, 1, 9, 7]), paddle.to_tensor(sizes)).numpy()
    y, x = ((np.arange(count) + shift) * side for count, side in zip((9, 7), step))
    expected = (y[None, :, None] < sizes[:, :1, None]) & (x[None, None] < sizes[:, 1:, None])
    assert np.array_equal(found[:, 0], expected.astype(np.float32))


@pytest.mark.parametrize("options", [[], ["level_top_k=12"]])
def test_even_locations(tiny, options):
    """In 64 x 96, the 3 x 4 locations of the coarsest level are 21 and 24 pixels apart. An image of 43 x 72 pixels has
    all three rows (with a stride of 32 there would be two), and three columns, as the last one is at x = 72."""
    shift = ["num_shift=0", "even_locations=true", "nms.score_threshold=0"]
    model = make_model(tiny, [*shift, *options])
    sizes = [(8, 12), (4, 6), (3, 4)]
    maps = as_tensors([[np.zeros((1, channels, h, w), np.float32) for h, w in sizes] for channels in (CLASSES, 4, 1)])
    boxes, scores, *_ = model.decode(maps, paddle.ones([1, 2]), paddle.to_tensor([[43.0, 72.0]]))
    level = boxes.numpy()[0, -12:], scores.numpy()[0, :, -12:]
    corners = {tuple(box[:2].tolist()) for box, score in zip(level[0], level[1].T) if score.min() > 0}
    assert corners == {(x, y) for x in (0, 24, 48) for y in (0, 21, 42)}
    assert (level[1].max(axis=0) > 0).sum() == 9
