"""Random rotation, scaling, shearing, moving and perspective of an image and its boxes."""

from collections.abc import Sequence

import numpy as np

from ppdet.core.workspace import register, serializable
from ppdet.data.transforms.base import Transform, check_color, check_probability, check_range, check_span, require_uint8
from ppdet.data.transforms.box_fields import MIN_SIDE, drop_lost_boxes
from ppdet.data.transforms.geometry.affine import (
    MAX_DEGREES,
    MAX_SCALE,
    MAX_SHEAR,
    affine_matrix,
    translation,
    warp_sample,
)
from ppdet.data.transforms.geometry.resize import Size, require_size
from ppdet.utils.ranges import require_number

LONGEST_BOX = 20.0  # ratio of the sides of a box that RandomPerspective keeps
NEAREST = 0.5  # the image comes at most this near, as a share of its distance before


@register
@serializable
class RandomPerspective(Transform):
    """Rotates, scales, shears and moves the image around its center, and looks at it askew, as YOLOv5 does.

    All numbers are uniform in their ranges, and drawn for every image. A box becomes the box around its four moved
    corners, clipped to the image. As in YOLOv5, it is dropped if less than `area_thr` of its area is left, or less than
    2 pixels of a side, or if it is more than 20 times as long as wide. Crowds are only dropped if nothing of them is
    left. Boxes around turned objects are larger than the objects, the more so the larger the angles are.

    Args:
        degree: largest angle of the rotation in either direction, in degrees.
        translate: largest movement in x and in y, as shares of the width and the height of the result.
        scale: s, where the factor of both sides is between 1 - s and 1 + s; below 1.
        shear: largest angles of the shearing in x and in y, in degrees.
        perspective: p, where points are divided by 1 + px x + py y with px and py between -p and p, and x and y in
            pixels from the center. 0.001 is much. The larger the image, the stronger it is; it is reduced where a part
            of the image would come nearer than half of its distance.
        border: pixels [y, x] by which the result is larger than the image at the top and at the bottom (left and
            right); negative: smaller.
        fill_value: color where the result shows nothing of the image, three numbers (RGB) or one, from 0 to 255.
        area_thr: the share of a box's area that must be left in the image.
    """

    keeps_uint8 = moves_objects = True
    listed_before = "NormalizeImage"

    def __init__(
        self,
        *,
        degree: float = 10,
        translate: float = 0.1,
        scale: float = 0.1,
        shear: float = 10,
        perspective: float = 0.0,
        border: Sequence[int] = (0, 0),
        fill_value: float | Sequence[float] = (114, 114, 114),
        area_thr: float = 0.25,
    ) -> None:
        require_number("RandomPerspective.degree", degree, minimum=0, maximum=MAX_DEGREES)
        require_number("RandomPerspective.translate", translate, minimum=0, maximum=1)
        require_number("RandomPerspective.scale", scale, minimum=0, below=1)
        require_number("RandomPerspective.shear", shear, minimum=0, maximum=MAX_SHEAR)
        require_number("RandomPerspective.perspective", perspective, minimum=0, maximum=1)
        check_probability(area_thr, "RandomPerspective.area_thr")
        if len(border) != 2:
            raise ValueError(f"RandomPerspective.border is {list(border)}, expected two numbers of pixels, [y, x]")
        self.degree = degree
        self.translate = translate
        self.scale = scale
        self.shear = shear
        self.perspective = perspective
        self.border = tuple(border)
        self.fill_value = check_color(fill_value, "RandomPerspective.fill_value")
        self.area_thr = area_thr

    def __call__(self, sample: dict, rng: np.random.Generator) -> dict:
        require_uint8(sample, "RandomPerspective")
        h, w = sample["image"].shape[:2]
        size = max(1, h + 2 * self.border[0]), max(1, w + 2 * self.border[1])
        require_size(sample, "RandomPerspective: the image with its border", size)
        askew = self._draw_perspective((h, w), rng)
        degrees = rng.uniform(-self.degree, self.degree)
        scale = rng.uniform(1 - self.scale, 1 + self.scale)
        shear_x, shear_y = rng.uniform(-self.shear, self.shear, 2)
        x, y = rng.uniform(-self.translate, self.translate, 2)
        matrix = centered_matrix((h, w), size, degrees=degrees, scale=scale, shear=(shear_x, shear_y), translate=(x, y))
        sample, share = warp_sample(sample, matrix @ askew, size, fill=self.fill_value)
        return drop_outside(sample, scale, share, self.area_thr, max_aspect=LONGEST_BOX)

    def _draw_perspective(self, size: Size, rng: np.random.Generator) -> np.ndarray:
        """The (3, 3) matrix of a perspective that leaves the center where it is."""
        h, w = size
        x, y = rng.uniform(-self.perspective, self.perspective, 2)
        if not self.perspective:
            return np.eye(3)  # the product has no traces of rounding
        reach = (abs(x) * w + abs(y) * h) / 2  # of 1 + px x + py y, from 1 downwards
        reduced = min(1.0, (1 - NEAREST) / max(reach, 1e-12))
        askew = np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [x * reduced, y * reduced, 1.0]])
        return translation(w / 2, h / 2) @ askew @ translation(-w / 2, -h / 2)


@register
@serializable
class RandomAffine(Transform):
    """Rotates, scales, shears and moves the image around its center: RandomPerspective in Mosaic's parameters.

    All numbers are uniform in their ranges, and drawn for every image. The result is as large as the image. A box
    becomes the box around its four moved corners, clipped to the image. It is dropped if less than `area_thr` of its
    area is left, or less than 2 pixels of a side. Crowds are only dropped if nothing of them is left.

    Args:
        degrees: [low, high] of the angle of the rotation, in degrees.
        translate: [low, high] of the movement in x and in y, as shares of the width and the height.
        scale: [low, high] of the factor of both sides, above 0.
        shear: [low, high] of the angles of the shearing in x and in y, in degrees.
        fill_value: color where the result shows nothing of the image, three numbers (RGB) or one, from 0 to 255.
        area_thr: the share of a box's area that must be left in the image.
    """

    keeps_uint8 = moves_objects = True
    listed_before = "NormalizeImage"

    def __init__(
        self,
        *,
        degrees: Sequence[float] = (-10, 10),
        translate: Sequence[float] = (-0.1, 0.1),
        scale: Sequence[float] = (0.5, 1.5),
        shear: Sequence[float] = (-2, 2),
        fill_value: float | Sequence[float] = (114, 114, 114),
        area_thr: float = 0.25,
    ) -> None:
        self.degrees = check_span(degrees, "RandomAffine.degrees", MAX_DEGREES)
        self.translate = check_span(translate, "RandomAffine.translate", 1)
        self.scale = check_range(scale, "RandomAffine.scale", most=MAX_SCALE)
        self.shear = check_span(shear, "RandomAffine.shear", MAX_SHEAR)
        self.fill_value = check_color(fill_value, "RandomAffine.fill_value")
        check_probability(area_thr, "RandomAffine.area_thr")
        self.area_thr = area_thr

    def __call__(self, sample: dict, rng: np.random.Generator) -> dict:
        require_uint8(sample, "RandomAffine")
        size = sample["image"].shape[:2]
        degrees, scale = rng.uniform(*self.degrees), rng.uniform(*self.scale)
        shear_x, shear_y = rng.uniform(*self.shear, 2)
        x, y = rng.uniform(*self.translate, 2)
        matrix = centered_matrix(size, size, degrees=degrees, scale=scale, shear=(shear_x, shear_y), translate=(x, y))
        sample, share = warp_sample(sample, matrix, size, fill=self.fill_value)
        return drop_outside(sample, scale, share, self.area_thr)


def centered_matrix(
    size: Size, new_size: Size, *, degrees: float, scale: float, shear: tuple[float, float], translate: tuple
) -> np.ndarray:
    """Return the (3, 3) matrix that moves an image of `size` (h, w) around its center, to that of one of `new_size`.

    Args:
        degrees, scale, shear: see affine_matrix.
        translate: (x, y) as shares of the new width and height.
    """
    (h, w), (new_h, new_w) = size, new_size
    moved = ((new_w - w) / 2 + translate[0] * new_w, (new_h - h) / 2 + translate[1] * new_h)
    return affine_matrix(degrees=degrees, scale=scale, shear=shear, translate=moved, center=(w / 2, h / 2))


def drop_outside(sample: dict, scale: float, share: np.ndarray, min_share: float, max_aspect: float = np.inf) -> dict:
    """Multiply `scale_factor`, and drop the boxes of which too little is left; `share` as in drop_lost_boxes."""
    if "scale_factor" in sample:
        sample["scale_factor"] = sample["scale_factor"] * np.float32(scale)
    if "gt_bbox" not in sample:
        return sample
    return drop_lost_boxes(sample, share, min_share=min_share, min_side=MIN_SIDE, max_aspect=max_aspect)
