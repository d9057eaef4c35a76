"""Mosaic: four images of the data set in one, so that a sample shows more objects, at more sizes and places."""

from collections.abc import Sequence

import cv2
import numpy as np

from ppdet.core.workspace import register, serializable
from ppdet.data.transforms.base import Transform, check_probability, check_range, check_span, require_uint8
from ppdet.data.transforms.box_fields import Area, without_lost
from ppdet.data.transforms.geometry.affine import MAX_DEGREES, MAX_SCALE, MAX_SHEAR, affine_matrix, warp_sample
from ppdet.data.transforms.geometry.flips import RandomFlip
from ppdet.data.transforms.geometry.resize import as_pair
from ppdet.data.transforms.mixing.joining import join_boxes, put_image
from ppdet.utils.ranges import require_pixels

GRAY = (114, 114, 114)  # where a mosaic shows no image, as in YOLOX
DEFAULT_SIZE = (640, 640)
QUARTERS = ((False, False), (True, False), (False, True), (True, True))  # of each image: is it right, and low


@register
@serializable
class Mosaic(Transform):
    """Puts an image and three others of the data set around a random point, and shows a randomly moved part of that.

    As in YOLOX (arXiv:2107.08430), which follows YOLOv4 (arXiv:2004.10934): every image is scaled to fit into
    input_dim, the first one lies to the upper left of the point, and the canvas is twice as high and as wide as
    input_dim. It is rotated, scaled and sheared around its upper left corner, moved, and cut to input_dim. Then,
    with `enable_mixup`, a fifth image is blended in half and half, flipped in half of all cases.

    The result has input_dim pixels. List transforms that resize after it, and Resize also before it if the files are
    much larger than input_dim, so that they are decoded at a smaller size. It is used until the reader's mosaic_epoch.

    A box becomes the box around its four moved corners, clipped to the image. It is dropped if less than a tenth of
    its area is left, or less than 2 pixels of a side. Crowds are only dropped if nothing of them is left.

    Args:
        prob: probability of a mosaic. Otherwise the image stays as it is.
        input_dim: [height, width] of the result in pixels, or one number for both; null: the global setting input_size,
            or [640, 640] without it.
        degrees: [low, high] of the angle of the rotation, in degrees.
        translate: [low, high] of the movement in x and in y, as shares of the width and the height of the result.
        scale: [low, high] of the factor by which the canvas is scaled, above 0. At 0.5 all of it is seen, and at 1 its
            upper left quarter.
        shear: [low, high] of the angles by which it is sheared in x and in y, in degrees.
        enable_mixup: blend in a fifth image.
        mixup_prob: probability of the fifth image.
        mixup_scale: [low, high] of the size of the fifth image, relative to the largest one that fits into the result.
            Of a larger one, a random part is seen.
        input_size: the global setting, which replaces an input_dim that is not set.
    """

    __shared__ = ["input_size"]
    keeps_uint8 = moves_objects = True
    listed_before = "NormalizeImage"
    used_until = "mosaic_epoch"

    def __init__(
        self,
        *,
        prob: float = 1.0,
        input_dim: int | Sequence[int] | None = None,
        degrees: Sequence[float] = (-10, 10),
        translate: Sequence[float] = (-0.1, 0.1),
        scale: Sequence[float] = (0.1, 2),
        shear: Sequence[float] = (-2, 2),
        enable_mixup: bool = True,
        mixup_prob: float = 1.0,
        mixup_scale: Sequence[float] = (0.5, 1.5),
        input_size: int | Sequence[int] | None = None,
    ) -> None:
        check_probability(prob, "Mosaic.prob")
        check_probability(mixup_prob, "Mosaic.mixup_prob")
        if input_dim is not None:
            self.height, self.width = as_pair(input_dim, "Mosaic.input_dim")
        else:
            self.height, self.width = DEFAULT_SIZE if input_size is None else as_pair(input_size, "input_size")
        self.prob = prob
        self.degrees = check_span(degrees, "Mosaic.degrees", MAX_DEGREES)
        self.translate = check_span(translate, "Mosaic.translate", 1)
        self.shear = check_span(shear, "Mosaic.shear", MAX_SHEAR)
        self.scale = check_range(scale, "Mosaic.scale", most=MAX_SCALE)
        self.mixup_prob = mixup_prob if enable_mixup else 0.0
        self.mixup_scale = check_range(mixup_scale, "Mosaic.mixup_scale", most=MAX_SCALE)
        self.further_images = 4 if self.mixup_prob else 3
        largest = max(2 * min(self.scale[1], 1.0), self.mixup_scale[1] if self.mixup_prob else 0.0)
        name = "Mosaic: the largest of its images, by input_dim, scale and mixup_scale,"
        require_pixels(name, self.height * largest, self.width * largest)

    def __call__(self, samples: Sequence[dict], rng: np.random.Generator) -> dict:
        if rng.random() >= self.prob:
            return samples[0]
        require_uint8(samples[0], "Mosaic")
        result = self._mosaic(samples, rng)
        # As in PaddleDetection, a mosaic without boxes gets no fifth image.
        if rng.random() < self.mixup_prob and ("gt_bbox" not in result or len(result["gt_bbox"])):
            result = self._blend(result, samples[4], rng)
        return result

    def _mosaic(self, samples: Sequence[dict], rng: np.random.Generator) -> dict:
        size_x, size_y, scale = self.width, self.height, rng.uniform(*self.scale)
        x, y = size_x * rng.uniform(0.5, 1.5), size_y * rng.uniform(0.5, 1.5)
        matrix = affine_matrix(
            degrees=rng.uniform(*self.degrees),
            scale=scale,
            shear=(rng.uniform(*self.shear), rng.uniform(*self.shear)),
            translate=(size_x * rng.uniform(*self.translate), size_y * rng.uniform(*self.translate)),
        )
        # A mosaic that shrinks does so when images are put on the canvas, which averages pixels, and takes less work.
        shrink = min(scale, 1.0)
        matrix = matrix @ np.diag([1 / shrink, 1 / shrink, 1.0])
        canvas = _gray(max(1, round(2 * size_y * shrink)), max(1, round(2 * size_x * shrink)))
        parts = self._put_images(canvas, samples, (round(x * shrink), round(y * shrink)), shrink, matrix)

        result = samples[0]
        if "scale_factor" in result:
            result["scale_factor"] = result["scale_factor"] * np.float32(self._fit(result) * scale)
        result = {**result, "image": canvas, **join_boxes(fields for fields, _ in parts)}
        before = np.concatenate([share for _, share in parts])
        result, share = warp_sample(result, matrix, (size_y, size_x), fill=GRAY)
        return without_lost(result, before * share) if "gt_bbox" in result else result

    def _put_images(
        self, canvas: np.ndarray, samples: Sequence[dict], center: tuple[int, int], shrink: float, matrix: np.ndarray
    ) -> list[tuple[dict, np.ndarray]]:
        """Put the images around the center; return what `put_image` does for each of them that may be seen."""
        (x, y), (height, width), parts = center, canvas.shape[:2], []
        seen = self._seen_area(matrix)
        for number, (is_right, is_low) in enumerate(QUARTERS):
            quarter = (x if is_right else 0, y if is_low else 0, width if is_right else x, height if is_low else y)
            if number and not _overlap(quarter, seen):
                continue  # the image need not be read
            h, w = self._fitted(samples[number], shrink)
            corner = (x if is_right else x - w, y if is_low else y - h)
            parts.append(put_image(canvas, samples[number], (h, w), corner, quarter))
        return parts

    def _blend(self, mosaic: dict, sample: dict, rng: np.random.Generator) -> dict:
        """Blend another image into a mosaic."""
        h, w = self._fitted(sample, rng.uniform(*self.mixup_scale))
        sample = RandomFlip(prob=0.5)(dict(sample), rng)
        left, top = (-int(rng.integers(max(0, more) + 1)) for more in (w - self.width, h - self.height))
        canvas = _gray(self.height, self.width)
        fields, share = put_image(canvas, sample, (h, w), (left, top), (0, 0, self.width, self.height))
        mosaic["image"] = cv2.addWeighted(mosaic["image"], 0.5, canvas, 0.5, 0)
        if "gt_bbox" in fields:
            mosaic.update(join_boxes([mosaic, without_lost(fields, share)]))
        return mosaic

    def _fit(self, sample: dict) -> float:
        """The factor by which an image becomes as large as fits into the result."""
        h, w = sample["image"].shape[:2]
        return min(self.height / h, self.width / w)

    def _fitted(self, sample: dict, factor: float) -> tuple[int, int]:
        """The (h, w) of an image that is scaled to fit into the result, times a factor."""
        h, w = sample["image"].shape[:2]
        scale = self._fit(sample) * factor
        return max(1, round(h * scale)), max(1, round(w * scale))

    def _seen_area(self, matrix: np.ndarray) -> np.ndarray:
        """(4,) the box on the canvas around what the result shows of it."""
        corners = np.array([[0, self.width, 0, self.width], [0, 0, self.height, self.height], [1, 1, 1, 1]])
        points = (np.linalg.inv(matrix) @ corners)[:2]
        # A pixel of the result depends on pixels of the canvas next to the point that it shows.
        return np.concatenate([points.min(axis=1) - 2, points.max(axis=1) + 2])


def _gray(height: int, width: int) -> np.ndarray:
    return np.full((height, width, 3), GRAY, dtype=np.uint8)


def _overlap(area: Area, box: np.ndarray) -> bool:
    return bool(area[0] < box[2] and area[2] > box[0] and area[1] < box[3] and area[3] > box[1])
