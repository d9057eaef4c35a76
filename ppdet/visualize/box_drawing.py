"""Draws boxes with their labels, which lie within the picture and can be read on any color."""

from collections.abc import Sequence

import cv2
import numpy as np

from ppdet.visualize.text import Color, put_text, text_size


def text_color(ground: Color) -> Color:
    """Black or white, whichever has more contrast on this color by WCAG's definition, which is 4.58 at least."""
    channels = [value / 255 for value in ground]
    red, green, blue = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels)
    luminance = 0.2126 * red + 0.7152 * green + 0.0722 * blue
    return (0, 0, 0) if (luminance + 0.05) ** 2 > 1.05 * 0.05 else (255, 255, 255)


def draw_boxes(
    image: np.ndarray,
    boxes: np.ndarray,
    colors: Sequence[Color],
    texts: Sequence[str],
    shrinks: float = 1.0,
    lines: Sequence[int] = (),
) -> None:
    """Draw boxes (M, 4) x1, y1, x2, y2 into an image (H, W, 3) uint8 RGB, and then all labels, on top of all lines.

    Args:
        texts: the labels; a box whose text is empty has none.
        shrinks: by how much the picture will be shown smaller; lines and letters are so much larger.
        lines: how many times as wide as usual the lines of each box are; 0 draws none.
    """
    height, width = image.shape[:2]
    line, font_scale, font_line = _line_and_font(height, width, shrinks)
    limits = np.array([width, height, width, height]) - 1
    corners = np.clip(np.round(boxes), 0, limits).astype(int).tolist()
    for (x1, y1, x2, y2), color, times in zip(corners, colors, lines or [1] * len(corners)):
        if times:
            cv2.rectangle(image, (x1, y1), (x2, y2), color, line * times)
    for (x1, y1, _, _), color, text in zip(corners, colors, texts):
        if not text:
            continue
        text_width, text_height, baseline = text_size(text, font_scale, font_line)
        label_width, label_height = text_width + 2 * line, text_height + baseline + line
        left = max(0, min(x1, width - label_width))
        # The label is above the box, or inside it if there is no room above.
        top = y1 - label_height if y1 >= label_height else y1
        right, bottom = left + label_width - 1, top + label_height - 1
        cv2.rectangle(image, (left, top), (right, bottom), color, cv2.FILLED)
        origin = (left + line, top + line + text_height)
        put_text(image, text, origin, font_scale, text_color(color), font_line)


def _line_and_font(height: int, width: int, shrinks: float) -> tuple[int, float, int]:
    """Width of a box's lines, scale of the font and width of the font's lines for an image of this size."""
    side = (height * width) ** 0.5 / shrinks
    font_scale = min(max(side / 1100, 0.38), 2.5) * shrinks
    return max(1, round(max(1, side / 320) * shrinks)), font_scale, max(1, round(font_scale * 1.6))
