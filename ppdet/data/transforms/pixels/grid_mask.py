"""GridMask: squares of a regular grid are removed from the image (Chen et al., arXiv:2001.04086, section 3)."""

from typing import Literal

import numpy as np

from ppdet.core.workspace import register, serializable
from ppdet.data.transforms.base import Transform, check_probability, require_uint8
from ppdet.utils.ranges import require_choice, require_number

# Mean and standard deviation of ImageNet's pixels, by which images are usually normalized.
MEAN = 255 * np.array([0.485, 0.456, 0.406])
STD = 255 * np.array([0.229, 0.224, 0.225])


@register
@serializable
class GridMask(Transform):
    """Removes squares of a regular grid from an `image` (H, W, 3) RGB uint8, so that objects are seen in part.

    A grid has rows and columns of stripes, one of each in every period of d pixels; d is a random integer from 2 to the
    image's shorter side, and the grid starts at a random place. A stripe is `ratio` times d wide, at least 1 pixel and
    at most d - 1. Images of less than 3 pixels stay.

    What is removed gets ImageNet's mean color. The published code sets it to 0 after the normalization, which is about
    the same; this transform comes before it.

    The probability grows with the training step: it is `prob` times `curr_iter` / `upper_iter`, and `prob` from step
    `upper_iter` on. A sample without `curr_iter`, outside of training, has the probability `prob`.

    Args:
        use_h: whether the grid has horizontal stripes.
        use_w: whether the grid has vertical stripes.
        rotate: the grid is rotated by a random integer of degrees below this; 1 does not rotate it.
        offset: add noise to what is removed: a number for each pixel, uniform between -1 and 1, times ImageNet's
            standard deviation.
        ratio: width of the stripes relative to their distance, above 0 and below 1.
        mode: 1 keeps the stripes and removes the squares between them, as in the paper; 0 removes the stripes.
        prob: the final probability.
        upper_iter: the training step from which on the probability is `prob`; 0: from the first step.
    """

    keeps_uint8 = pixels_only = True
    listed_before = "NormalizeImage"

    def __init__(
        self,
        *,
        use_h: bool = True,
        use_w: bool = True,
        rotate: int = 1,
        offset: bool = False,
        ratio: float = 0.5,
        mode: Literal[0, 1] = 1,
        prob: float = 0.7,
        upper_iter: int = 360000,
    ) -> None:
        if not (use_h or use_w):
            raise ValueError("GridMask: use_h and use_w are both false, expected stripes in one direction at least")
        require_number("GridMask.rotate", rotate, minimum=1, maximum=360)
        require_number("GridMask.ratio", ratio, above=0, below=1)
        require_choice("GridMask.mode", mode, (0, 1))
        check_probability(prob, "GridMask.prob")
        require_number("GridMask.upper_iter", upper_iter, minimum=0)
        self.use_h, self.use_w = use_h, use_w
        self.rotate = rotate
        self.offset = offset
        self.ratio = ratio
        self.mode = mode
        self.prob = prob
        self.grows_until = upper_iter

    def __call__(self, sample: dict, rng: np.random.Generator) -> dict:
        require_uint8(sample, "GridMask")
        image = sample["image"]
        h, w = image.shape[:2]
        if rng.random() >= self._probability(sample.get("curr_iter")) or min(h, w) < 3:
            return sample
        removed = self._removed(h, w, rng)
        sample["image"] = image = image.copy()
        if self.offset:
            image[removed] = np.rint(MEAN + STD * rng.uniform(-1, 1, (int(removed.sum()), 1)))
        else:
            np.copyto(image, np.rint(MEAN).astype(np.uint8), where=removed[..., None])
        return sample

    def _probability(self, step: int | None) -> float:
        """Return the probability at a training step."""
        if step is None or step >= self.grows_until:
            return self.prob
        return self.prob * step / self.grows_until

    def _removed(self, h: int, w: int, rng: np.random.Generator) -> np.ndarray:
        """Draw a grid; (h, w) booleans: whether a pixel is removed."""
        period = int(rng.integers(2, min(h, w)))
        width = min(max(int(period * self.ratio + 0.5), 1), period - 1)
        start_y, start_x = rng.integers(period, size=2)
        angle = np.deg2rad(rng.integers(self.rotate))
        # The pixels' centers, relative to the image's, in the axes of the grid.
        y, x = np.arange(h)[:, None] - (h - 1) / 2, np.arange(w) - (w - 1) / 2
        if angle:
            y, x = np.cos(angle) * y - np.sin(angle) * x, np.cos(angle) * x + np.sin(angle) * y
        is_stripe = np.zeros((h, w), dtype=bool)
        if self.use_h:
            is_stripe |= (y - start_y) % period < width
        if self.use_w:
            is_stripe |= (x - start_x) % period < width
        return is_stripe == (self.mode == 0)
