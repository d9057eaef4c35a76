"""Operations of AutoAugment that move pixels or remove some.

A warp is a matrix (3, 3) as in `geometry/affine.py`. New pixels are gray.
"""

from collections.abc import Callable

import numpy as np

from ppdet.data.transforms.auto_augment.pixel_operations import MAX_MAGNITUDE, PIXEL_OPERATIONS
from ppdet.data.transforms.box_fields import Area
from ppdet.data.transforms.geometry.affine import affine_matrix, translation, warp_image

GRAY = (128, 128, 128)
MAX_ANGLE = 30.0  # degrees, at magnitude 10, as all that follow
MAX_SHEAR = 0.3  # pixels for each pixel of the other coordinate
MAX_SHIFT, MAX_SHIFT_IN_BOX = 250, 120  # pixels
MAX_CUTOUT, MAX_CUTOUT_IN_BOX = 100, 50  # half of the square's side in pixels
MAX_CUTOUT_OF_BOX = 0.75  # sides of the rectangle relative to the box's
COVERED = 0.5  # a box of which a cutout covers this share is dropped
SMALLEST = 1.0  # pixels; a box with a shorter side after a warp is dropped


def rotation(amount: float, h: int, w: int) -> np.ndarray:
    """The warp that rotates an image of h x w pixels by up to 30 degrees around its center."""
    return affine_matrix(degrees=amount * MAX_ANGLE, center=(w / 2, h / 2))


def shear_x(amount: float, h: int, w: int) -> np.ndarray:
    """The warp that moves rows to the side, the further the lower they are."""
    return np.array([[1, -amount * MAX_SHEAR, 0], [0, 1, 0], [0, 0, 1.0]])


def shear_y(amount: float, h: int, w: int) -> np.ndarray:
    """The warp that moves columns up or down, the further the more they are to the right."""
    return np.array([[1, 0, 0], [-amount * MAX_SHEAR, 1, 0], [0, 0, 1.0]])


def shift_x(amount: float, most: int) -> np.ndarray:
    """The warp that moves the image to the side by up to `most` pixels."""
    return translation(-round(amount * most), 0)


def shift_y(amount: float, most: int) -> np.ndarray:
    """The warp that moves the image up or down by up to `most` pixels."""
    return translation(0, -round(amount * most))


# Each gets the share of its largest magnitude, from -1 to 1.
WARPS: dict[str, Callable[[float, int, int], np.ndarray]] = {"Rotate": rotation, "ShearX": shear_x, "ShearY": shear_y}
SHIFTS: dict[str, Callable[[float, int], np.ndarray]] = {"TranslateX": shift_x, "TranslateY": shift_y}


def draw_warp(
    name: str, magnitude: float, size: tuple[int, int], max_shift: int, rng: np.random.Generator
) -> np.ndarray:
    """Return the warp `name`, a key of WARPS or SHIFTS, of an image of `size` (h, w), in a random direction."""
    amount = magnitude / MAX_MAGNITUDE * (1 if rng.random() < 0.5 else -1)
    return SHIFTS[name](amount, max_shift) if name in SHIFTS else WARPS[name](amount, *size)


def square_around(y: int, x: int, half: int, h: int, w: int) -> Area:
    """The square of 2 * half pixels around (y, x), as far as it is inside of an image of h x w pixels."""
    return max(x - half, 0), max(y - half, 0), min(x + half, w), min(y + half, h)


def cut_out(image: np.ndarray, rectangle: Area) -> np.ndarray:
    """Return a copy of the image whose rectangle is gray."""
    x1, y1, x2, y2 = rectangle
    image = image.copy()
    image[y1:y2, x1:x2] = GRAY
    return image


def in_box(image: np.ndarray, name: str, magnitude: float, rng: np.random.Generator) -> np.ndarray:
    """Apply an operation to the pixels (H, W, 3) inside of a box."""
    h, w = image.shape[:2]
    if name in PIXEL_OPERATIONS:
        return PIXEL_OPERATIONS[name](np.ascontiguousarray(image), magnitude)
    if name == "Flip":
        return image[:, ::-1]
    if name == "Cutout":
        half = int(magnitude / MAX_MAGNITUDE * MAX_CUTOUT_IN_BOX)
        return cut_out(image, square_around(int(rng.integers(h)), int(rng.integers(w)), half, h, w))
    warp = draw_warp(name, magnitude, (h, w), MAX_SHIFT_IN_BOX, rng)
    return warp_image(np.ascontiguousarray(image), warp, (h, w), GRAY)
