"""Operations of AutoAugment that change the values of pixels.

Each takes an image (H, W, 3) RGB uint8 and a magnitude from 0 to 10, and returns a new uint8 image. They are those of
Pillow's ImageOps and ImageEnhance, as in the published code.
"""

from collections.abc import Callable

import cv2
import numpy as np

from ppdet.data.transforms.pixels.color import color_map

MAX_MAGNITUDE = 10
VALUES = np.arange(256)
# Weights of a pixel and its eight neighbors in the smooth image that Sharpness starts from.
SMOOTH = np.array([[1, 1, 1], [1, 5, 1], [1, 1, 1]], dtype=np.float32) / 13


def auto_contrast(image: np.ndarray, magnitude: float) -> np.ndarray:
    """Stretch each channel so that its darkest pixel becomes 0 and its brightest 255. The magnitude is not used."""
    low, high = image.min(axis=(0, 1)), image.max(axis=(0, 1))
    tables = [VALUES if a >= b else (VALUES - float(a)) * (255 / (float(b) - a)) for a, b in zip(low, high)]
    return _look_up(image, np.stack(tables, axis=1))


def equalize(image: np.ndarray, magnitude: float) -> np.ndarray:
    """Equalize the histogram of each channel. The magnitude is not used."""
    tables = [_equalizing(np.bincount(channel.ravel(), minlength=256)) for channel in np.moveaxis(image, 2, 0)]
    return _look_up(image, np.stack(tables, axis=1))


def posterize(image: np.ndarray, magnitude: float) -> np.ndarray:
    """Keep the upper bits of each value: 8 at magnitude 0, and 4 at magnitude 10, as in torchvision.

    The published code for detection keeps none at magnitude 2, the only one in the tables: the image would be black.
    """
    dropped = round(magnitude / MAX_MAGNITUDE * 4)
    return _look_up(image, VALUES >> dropped << dropped)


def solarize(image: np.ndarray, magnitude: float) -> np.ndarray:
    """Replace values v from a threshold on by 255 - v: all of them at magnitude 0, and none at magnitude 10."""
    threshold = int(magnitude / MAX_MAGNITUDE * 256)
    return _look_up(image, np.where(threshold > VALUES, VALUES, 255 - VALUES))


def solarize_add(image: np.ndarray, magnitude: float) -> np.ndarray:
    """Add 0 (magnitude 0) to 110 (magnitude 10) to all values below 128."""
    return _look_up(image, np.where(VALUES < 128, VALUES + int(magnitude / MAX_MAGNITUDE * 110), VALUES))


def saturation(image: np.ndarray, magnitude: float) -> np.ndarray:
    """Multiply a pixel's distance to its own gray by 0.1 (magnitude 0) to 1.9 (magnitude 10)."""
    return _blend(image, "saturation", magnitude)


def contrast(image: np.ndarray, magnitude: float) -> np.ndarray:
    """Multiply a pixel's distance to the image's mean gray by 0.1 (magnitude 0) to 1.9 (magnitude 10)."""
    return _blend(image, "contrast", magnitude)


def brightness(image: np.ndarray, magnitude: float) -> np.ndarray:
    """Multiply all values by 0.1 (magnitude 0) to 1.9 (magnitude 10)."""
    return _blend(image, "brightness", magnitude)


def sharpness(image: np.ndarray, magnitude: float) -> np.ndarray:
    """Multiply a pixel's distance to a smoothed image by 0.1 (magnitude 0) to 1.9; pixels at the border stay."""
    factor = _factor(magnitude)
    smooth = cv2.filter2D(image, -1, SMOOTH)
    result = image.copy()
    inner = (slice(1, -1), slice(1, -1))
    if min(image.shape[:2]) > 2:
        result[inner] = cv2.addWeighted(image[inner], factor, smooth[inner], 1 - factor, 0)
    return result


def _factor(magnitude: float) -> float:
    return magnitude / MAX_MAGNITUDE * 1.8 + 0.1


def _blend(image: np.ndarray, name: str, magnitude: float) -> np.ndarray:
    matrix, offset = color_map(name, _factor(magnitude), np.array(cv2.mean(image)[:3]))
    return cv2.transform(image, np.column_stack([matrix, offset]))


def _look_up(image: np.ndarray, table: np.ndarray) -> np.ndarray:
    """Replace values by a table's (256,), or by those of the channel's own column (256, 3); clipped to 0..255."""
    columns = np.broadcast_to(table if table.ndim == 2 else table[:, None], (256, 3))
    return cv2.LUT(image, np.ascontiguousarray(np.clip(columns, 0, 255)).astype(np.uint8)[None])


def _equalizing(histogram: np.ndarray) -> np.ndarray:
    """The table (256,) that equalizes a channel with this histogram (256,); as in Pillow, ranks are whole steps."""
    used = histogram[histogram > 0]
    step = int(used[:-1].sum()) // 255
    if step == 0:
        return VALUES
    below = np.cumsum(histogram) - histogram
    return (step // 2 + below) // step


PIXEL_OPERATIONS: dict[str, Callable[[np.ndarray, float], np.ndarray]] = {
    "AutoContrast": auto_contrast,
    "Equalize": equalize,
    "Posterize": posterize,
    "Solarize": solarize,
    "SolarizeAdd": solarize_add,
    "Color": saturation,
    "Contrast": contrast,
    "Brightness": brightness,
    "Sharpness": sharpness,
}
