"""The pictures of a report: thumbnails with every error, and truth beside prediction."""

from collections.abc import Iterable, Sequence

import cv2
import numpy as np

from ppdet.data.transforms.decode import read_image
from ppdet.engine.report.judged_boxes import CORRECT, MISSED
from ppdet.engine.report.model_analysis import Analysis, JudgedBox
from ppdet.utils.errors import ImageError
from ppdet.utils.logger import get_logger
from ppdet.visualize.box_drawing import draw_boxes
from ppdet.visualize.draw import class_color, class_label
from ppdet.visualize.pages import Picture, Tag
from ppdet.visualize.pages.gallery import THUMBNAIL, shrinks, thumbnail
from ppdet.visualize.text import Color

logger = get_logger(__name__)
LINES = {"": 1, CORRECT: 1, MISSED: 0}  # width of the lines of boxes; those of missed ones are dashed
WRONG_LINE = 2  # OpenCV draws three pixels
DASH = 6  # pixels
FEW_BOXES = 8  # of an image: with more, right ones have no text, which would hide that of wrong ones
SMALLEST = 320  # pixels of the longer side: smaller images are enlarged, so that their labels can be read


class ImageBook:
    """The images of a data set by id, small, each read once.

    Args:
        paths: file by image id.
        class_names: in the order of the model's classes.
    """

    def __init__(self, paths: dict[int, str], class_names: Sequence[str]) -> None:
        self.paths, self.class_names = paths, class_names
        self._small: dict[int, tuple[np.ndarray, float] | None] = {}

    def name(self, image: int) -> str:
        """The file's name, without its folder."""
        return self.paths[image].replace("\\", "/").rsplit("/", 1)[-1]

    def small(self, image: int) -> tuple[np.ndarray, float] | None:
        """The image (H, W, 3) uint8 RGB as a thumbnail, and its scale; None, after a warning, if it cannot be read."""
        if image not in self._small:
            try:
                pixels = read_image(self.paths[image])
            except ImageError as error:
                logger.warning("the report leaves out a picture: %s", error)
                self._small[image] = None
            else:
                self._small[image] = _fitted(pixels)
        return self._small[image]

    def with_errors(self, images: Iterable[int], analysis: Analysis) -> list[Picture]:
        """One picture of each image, with all judged boxes, each of which a filter finds by class, kind and score."""
        pictures = []
        for image in images:
            boxes = analysis.judged[image]
            drawn = self._drawn(image, boxes)
            if drawn is not None:
                caption = f"F1 {analysis.f1[image]:.2f}" if image in analysis.f1 else "no boxes"
                pictures.append(Picture(self.name(image), [("", drawn)], self._tags(boxes), caption))
        return pictures

    def beside_truth(
        self,
        images: Sequence[int],
        analysis: Analysis,
        captions: Sequence[str],
        chosen: Sequence[Sequence[JudgedBox]] = (),
    ) -> list[Picture]:
        """A pair of pictures of each image: the annotated boxes, and the judged ones.

        Args:
            captions: a line for each image.
            chosen: instead of the judged ones, the boxes of each image, by which a filter finds it.
        """
        pictures = []
        for number, image in enumerate(images):
            rows = analysis.truth[image]
            truth = [JudgedBox("", int(label), None, tuple(box)) for label, *box in rows.tolist()]
            judged = chosen[number] if chosen else analysis.judged[image]
            panels = [("labels", self._drawn(image, truth)), ("model", self._drawn(image, judged))]
            shown = [(name, panel) for name, panel in panels if panel is not None]
            if shown:
                tags = self._tags(judged) if chosen else []
                pictures.append(Picture(self.name(image), shown, tags, captions[number]))
        return pictures

    def of_two(self, images: Sequence[int], old: Analysis, new: Analysis) -> list[Picture]:
        """A pair of pictures of each image: what the other model finds, and what this one does."""
        pictures = []
        for image in images:
            panels = [(name, self._drawn(image, one.judged[image])) for name, one in (("other", old), ("this", new))]
            shown = [(name, panel) for name, panel in panels if panel is not None]
            if shown:
                caption = f"F1 {old.f1.get(image, 1.0):.2f} \u2192 {new.f1.get(image, 1.0):.2f}"
                pictures.append(Picture(self.name(image), shown, (), caption))
        return pictures

    def _drawn(self, image: int, boxes: Sequence[JudgedBox]) -> np.ndarray | None:
        small = self.small(image)
        if small is None:
            return None
        pixels, scale = np.array(small[0], order="C"), small[1]
        # Correct ones first, so that the labels of errors lie on top.
        boxes = sorted(boxes, key=lambda box: (box.kind not in ("", CORRECT), box.score or 0))
        corners = np.array([box.box for box in boxes], dtype=np.float64).reshape(-1, 4) * scale
        colors = [class_color(box.label) for box in boxes]
        for box, place, color in zip(boxes, corners, colors):
            if box.kind == MISSED:
                _draw_dashes(pixels, place, color)
        is_crowded = len(boxes) > FEW_BOXES
        texts = ["" if is_crowded and box.kind == CORRECT else self._text(box) for box in boxes]
        draw_boxes(pixels, corners, colors, texts, shrinks(pixels), [LINES.get(box.kind, WRONG_LINE) for box in boxes])
        return pixels

    def _tags(self, boxes: Sequence[JudgedBox]) -> list[Tag]:
        return [Tag(self.class_names[box.label], box.kind, box.score) for box in boxes]

    def _text(self, box: JudgedBox) -> str:
        name = class_label(self.class_names, box.label)
        if box.kind == MISSED:
            return f"{MISSED}: {name}"
        score = "" if box.score is None else f" {box.score:.2f}"
        return f"{name}{score}" if box.kind in ("", CORRECT) else f"{name}{score}: {box.kind}"


def _draw_dashes(pixels: np.ndarray, box: np.ndarray, color: Color) -> None:
    """Draw a box x1, y1, x2, y2 with dashed lines."""
    height, width = pixels.shape[:2]
    x1, y1, x2, y2 = np.clip(np.round(box), 0, np.array([width, height, width, height]) - 1).astype(int).tolist()
    frame = cv2.rectangle(
        np.zeros((height, width), np.uint8), (x1, y1), (x2, y2), (1,), round(WRONG_LINE * shrinks(pixels))
    )
    diagonal = np.arange(height)[:, None] + np.arange(width)
    pixels[(frame > 0) & (diagonal // DASH % 2 == 0)] = color


def _fitted(pixels: np.ndarray) -> tuple[np.ndarray, float]:
    """The image in the size of thumbnails; a smaller one is enlarged by a whole number."""
    times = SMALLEST // max(pixels.shape[:2])
    if times < 2:
        return thumbnail(pixels, THUMBNAIL)
    return pixels.repeat(times, axis=0).repeat(times, axis=1), float(times)
