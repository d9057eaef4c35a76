"""Mixup and Cutmix: two images of the data set in one."""

from collections.abc import Sequence

import cv2
import numpy as np

from ppdet.core.workspace import register, serializable
from ppdet.data.transforms.base import Transform, require_uint8
from ppdet.data.transforms.box_fields import Area, box_fields, clip_to_area, remaining_share, without_lost
from ppdet.data.transforms.mixing.joining import join_boxes
from ppdet.utils.ranges import require_number

SLIVER = 1.0  # pixels; a strip of a box that is narrower does not count as seen


@register
@serializable
class Mixup(Transform):
    """Adds up an image and another one of the data set, with weights f and 1 - f.

    f comes from the beta distribution (arXiv:1710.09412; for detection: arXiv:1902.04103, section 3.1). The upper left
    corners of both lie together, the result is as high as the higher one and as wide as the wider one, and black is
    added where one of them ends. Crop or resize the images to similar sizes before.

    The boxes of both images stay, and count as much as all other boxes however small the weight of their image is.
    (PaddleDetection's reader gives them f and 1 - f as `gt_score`, which its FCOS does not use either.)
    It is used until the reader's mixup_epoch.

    Args:
        alpha: the first parameter of the beta distribution, above 0.
        beta: the second parameter, above 0. Where both are equal, f is 0.5 on average, and nearer to it the larger they
            are.
    """

    keeps_uint8 = moves_objects = True
    listed_before = "NormalizeImage"
    further_images = 1
    used_until = "mixup_epoch"

    def __init__(self, *, alpha: float = 1.5, beta: float = 1.5) -> None:
        self.alpha, self.beta = _shape_parameters("Mixup", alpha, beta)

    def __call__(self, samples: Sequence[dict], rng: np.random.Generator) -> dict:
        own, other = samples
        require_uint8(own, "Mixup")
        weight = rng.beta(self.alpha, self.beta)
        size = np.maximum(own["image"].shape, other["image"].shape)
        first, second = (_padded(sample["image"], size) for sample in (own, other))
        own["image"] = cv2.addWeighted(first, weight, second, 1 - weight, 0)
        own["im_shape"] = np.array(size[:2], dtype=np.float32)
        own.update(join_boxes([own, other]))
        return own


@register
@serializable
class Cutmix(Transform):
    """Replaces a rectangle of an image by what another image of the data set shows there.

    The rectangle takes the share 1 - f of the part that both images have in common from their upper left corners on, at
    a random place, and is cut off where it leaves this part. f comes from the beta distribution (arXiv:1905.04899). The
    result has the size of the sample's own image.

    Boxes go by what is seen of their objects. Those of the other image are clipped to the rectangle; of the own
    image's boxes, sides that it covers from edge to edge are cut off. A box is dropped if less than a tenth of its area
    is seen, or less than 2 pixels of a side; crowds only if nothing of them is seen. (PaddleDetection keeps all boxes,
    also those of objects that the result does not show.) It is used until the reader's cutmix_epoch.

    Args:
        alpha: the first parameter of the beta distribution, above 0.
        beta: the second parameter, above 0. Where both are equal, the rectangle takes half of the image on average.
    """

    keeps_uint8 = moves_objects = True
    listed_before = "NormalizeImage"
    further_images = 1
    used_until = "cutmix_epoch"

    def __init__(self, *, alpha: float = 1.5, beta: float = 1.5) -> None:
        self.alpha, self.beta = _shape_parameters("Cutmix", alpha, beta)

    def __call__(self, samples: Sequence[dict], rng: np.random.Generator) -> dict:
        own, other = samples
        require_uint8(own, "Cutmix")
        side = np.sqrt(1 - rng.beta(self.alpha, self.beta))
        h, w = np.minimum(own["image"].shape, other["image"].shape)[:2]
        (y1, y2), (x1, x2) = (_stretch(int(length), side, rng) for length in (h, w))
        image = own["image"].copy()
        image[y1:y2, x1:x2] = other["image"][y1:y2, x1:x2]
        own["image"] = image
        if "gt_bbox" in own:
            own.update(join_boxes([_outside(box_fields(own), (x1, y1, x2, y2)), _inside(other, (x1, y1, x2, y2))]))
        return own


def _shape_parameters(name: str, alpha: float, beta: float) -> tuple[float, float]:
    for word, value in (("alpha", alpha), ("beta", beta)):
        require_number(f"{name}.{word}", value, above=0, below=np.inf)
    return alpha, beta


def _padded(image: np.ndarray, shape: np.ndarray) -> np.ndarray:
    """An image (H, W, 3) with black at its bottom and on its right."""
    if image.shape == tuple(shape):
        return image
    padded = np.zeros(shape, dtype=np.uint8)
    padded[: image.shape[0], : image.shape[1]] = image
    return padded


def _stretch(length: int, share: float, rng: np.random.Generator) -> tuple[int, int]:
    """Draw the ends of a stretch with this share of a length, around a random point of it, cut to it."""
    half = share * length / 2
    middle = rng.uniform(0, length)
    return max(0, round(middle - half)), min(length, round(middle + half))


def _inside(sample: dict, area: Area) -> dict:
    """The boxes of a sample of which only what lies in an area is seen."""
    fields = box_fields(sample)
    fields["gt_bbox"] = clip_to_area(sample["gt_bbox"], area)
    return without_lost(fields, remaining_share(sample["gt_bbox"], fields["gt_bbox"]))


def _outside(fields: dict, area: Area) -> dict:
    """The boxes of which what lies in an area is covered."""
    boxes = fields["gt_bbox"]
    hidden = clip_to_area(boxes, area)
    share = 1 - remaining_share(boxes, hidden)
    x1, y1, x2, y2 = boxes.T
    left, top, right, bottom = hidden.T  # of the covered part
    is_touched = share < 1
    is_high = is_touched & (top - y1 < SLIVER) & (y2 - bottom < SLIVER)  # from the upper edge to the lower one
    is_wide = is_touched & (left - x1 < SLIVER) & (x2 - right < SLIVER)
    fields["gt_bbox"] = np.stack(
        [
            np.where(is_high & (left - x1 < SLIVER), right, x1),
            np.where(is_wide & (top - y1 < SLIVER), bottom, y1),
            np.where(is_high & (x2 - right < SLIVER), left, x2),
            np.where(is_wide & (y2 - bottom < SLIVER), top, y2),
        ],
        axis=1,
    )
    return without_lost(fields, share)
