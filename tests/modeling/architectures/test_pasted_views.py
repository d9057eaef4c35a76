"""CutMix of unlabeled images and of the teacher's maps."""

import numpy as np
import paddle
import pytest
from paddle import nn

from ppdet.modeling.architectures.base import DenseMaps
from ppdet.modeling.architectures.dense_teacher import StudentAndTeacher
from ppdet.modeling.architectures.pasted_views import draw_rectangles, paste_images, paste_maps
from ppdet.utils.locations import Locations

SIZE, ODD = (64, 96), (40, 64)
RECTANGLES = np.array([[8, 0, 33, 21], [0, 0, 0, 0], [50, 11, 64, 40]])


class Pointwise(nn.Layer):
    """A detector whose maps at a location are functions of the image's pixel there."""

    def __init__(self, locations):
        super().__init__()
        self.locations = locations
        self.seen = []

    def predict_maps(self, images):
        self.seen.append(images.numpy())
        levels = []
        for grid in self.locations.levels(*images.shape[2:]):
            x, y = np.floor(grid.points().T).astype(np.int64)
            values = images.numpy()[:, :, y, x].reshape(len(images), 3, grid.rows, grid.columns)
            levels.append(paddle.to_tensor(values))
        return DenseMaps(levels, [paddle.concat([v, v[:, :1]], axis=1) for v in levels], [v[:, 1:2] for v in levels])

    def in_pixels(self, maps):
        return maps


def make_images(size=SIZE):
    return paddle.to_tensor(np.random.default_rng(0).normal(size=(3, 3, *size)).astype("float32"))


def test_rectangles():
    """With sides s of the image, s^2 uniform, E[(s - s^2 / 4)^2] = 1/2 - 1/5 + 1/48 of the area is in the image."""
    rectangles = draw_rectangles(np.random.default_rng(1), 20_000, 400, 640, 0.25)
    x1, y1, x2, y2 = rectangles.T
    drawn = (x2 > x1) & (y2 > y1)
    assert drawn.mean() == pytest.approx(0.25, abs=0.01) and (rectangles[~drawn].sum(axis=1) == 0).mean() > 0.99
    assert rectangles.min() == 0 and (x2.max(), y2.max()) == (640, 400)
    area = ((x2 - x1) * (y2 - y1))[drawn] / (400 * 640)
    assert area.mean() == pytest.approx(1 / 2 - 1 / 5 + 1 / 48, abs=0.01)
    assert not draw_rectangles(np.random.default_rng(1), 100, 400, 640, 0.0).any()


def test_pixels():
    images = make_images()
    before, expected = images.numpy(), images.numpy()
    for number, (x1, y1, x2, y2) in enumerate(RECTANGLES):
        expected[number, :, y1:y2, x1:x2] = before[number - 1, :, y1:y2, x1:x2]
    assert (paste_images(images, RECTANGLES).numpy() == expected).all()
    assert (images.numpy() == before).all()
    assert (paste_images(images[:1], RECTANGLES[:1]).numpy() == before[:1]).all()


@pytest.mark.parametrize("shift", [0.0, 0.5])
@pytest.mark.parametrize("even", [False, True])
def test_maps_are_pasted_as_the_pixels_at_their_locations(shift, even):
    """What looks at single pixels finds the same in the mixed image as in the images that it was mixed of."""
    detector, images = Pointwise(Locations((8, 16, 32), shift=shift, even=even)), make_images(ODD if even else SIZE)
    pasted = paste_maps(detector.predict_maps(images), RECTANGLES, detector.locations)
    expected = detector.predict_maps(paste_images(images, RECTANGLES))
    for ours, theirs in zip(pasted, expected):
        for level, other in zip(ours, theirs):
            assert (level.numpy() == other.numpy()).all()


@pytest.mark.parametrize("prob", [0.0, 1.0])
def test_student_and_teacher(prob):
    """The teacher sees whole images. Student and teacher agree here, so their maps do if both are pasted alike."""
    student, teacher = (Pointwise(Locations((8, 16))) for _ in range(2))
    seen = []
    layer = StudentAndTeacher(student, teacher, lambda *maps: seen.append(maps), cutmix_prob=prob)
    images = make_images()
    for _ in range(2):
        np.random.seed(5)  # as the trainer does in each step
        layer(unlabeled=paddle.concat([images, images]))
    (mixed, again), (whole, _) = student.seen, teacher.seen
    assert (whole == images.numpy()).all() and (mixed == again).all()
    assert (mixed == whole).all() == (prob == 0.0)
    for ours, theirs in zip(*seen[0]):
        assert all((a.numpy() == b.numpy()).all() for a, b in zip(ours, theirs))
