"""Detections as pre-annotations: files that a labelling tool imports, in which a person then corrects the boxes.

Each format has a folder of its own, which must be new or empty, so that corrected labels are never overwritten.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ppdet.data.annotations.label_writers import WRITERS, DetectedImage
from ppdet.data.header_size import image_size
from ppdet.utils.boxes import clip_to_image
from ppdet.utils.disk.images import is_within
from ppdet.utils.errors import DataError, ImageError
from ppdet.utils.formats.label_formats import BESIDE_IMAGES, LOCAL_FILES
from ppdet.utils.logger import get_logger
from ppdet.utils.printable import counted

logger = get_logger(__name__)


class PreAnnotations(NamedTuple):
    """Which pre-annotations are written.

    kind: one of FORMATS.
    image_dir: the folder that names of images are relative to; None for the folder that all of them are in.
    image_url: what stands in front of an image's name in a task of Label Studio.
    """

    kind: str
    image_dir: str | None = None
    image_url: str = LOCAL_FILES

    def check(self, paths: Sequence[str], output_dir: str | Path) -> None:
        """Check before the detection what would make it useless.

        Raises:
            DataError: the format's folder has files, two images would have the same label file, or one is not in
                `image_dir`.
        """
        folder = Path(output_dir) / self.kind
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise DataError(
                f"{folder}: it exists, and labels in it may have been corrected: move it away, or name another "
                "--output_dir"
            )
        stems: dict[str, str] = {}
        for path, name in zip(paths, self.names(paths)):
            key = os.path.splitext(name)[0] if self.kind in BESIDE_IMAGES else name
            if key in stems:
                raise DataError(f"{path} and {stems[key]} would have the same labels in {folder}: rename one of them")
            stems[key] = path

    def names(self, paths: Sequence[str]) -> list[str]:
        """Return the name of each image: its path from the folder of the images, with slashes on every system.

        Raises:
            DataError: an image is not in it.
        """
        places = [os.path.abspath(path) for path in paths]
        top = os.path.abspath(self.image_dir) if self.image_dir else _common_folder(places)
        outside = next((place for place in places if not is_within(place, top)), None)
        if outside:
            raise DataError(f"{outside} is not in {top}: name the folder of all images with --image_root")
        return [Path(os.path.relpath(place, top)).as_posix() for place in places]

    def write(
        self,
        detections: dict[int, np.ndarray],
        paths: Sequence[str],
        class_names: Sequence[str],
        output_dir: str | Path,
    ) -> Path:
        """Write the labels of the images, and log where they are.

        Args:
            detections: for the position in `paths` of each image that could be read, rows (M, 6) of [class, score, x1,
                y1, x2, y2] in pixels of the image.
            paths: paths of all images.
            class_names: the name of each class.
            output_dir: the folder of the format's own folder.

        Returns:
            The file or folder to import.

        Raises:
            DataError: a name has characters that the format cannot hold.
            OSError: a file cannot be written, or an image cannot be copied.
        """
        names = self.names(paths)
        images = []
        for index in sorted(detections):
            try:
                height, width = image_size(paths[index])
            except ImageError as error:
                logger.warning("left out of the pre-annotations: %s", error)
                continue
            rows = np.asarray(detections[index], np.float64).reshape(-1, 6)
            boxes, have_area = clip_to_image(rows[:, 2:], height, width)
            rows = np.concatenate([rows[:, :2], boxes], axis=1)[have_area]
            images.append(DetectedImage(paths[index], names[index], height, width, rows))
        folder = Path(output_dir) / self.kind
        folder.mkdir(parents=True, exist_ok=True)
        written, advice = WRITERS[self.kind](images, list(class_names), folder, self.image_url)
        boxes_written = sum(len(image.rows) for image in images)
        found = f"{counted(len(images), 'image')}, {counted(boxes_written, 'box')}"
        logger.info("pre-annotations of %s: %s", found, written)
        if not boxes_written:
            logger.warning("no box has the score of --draw_threshold: lower it, or train longer")
        logger.info("next: %s", advice)
        return written


def _common_folder(places: Sequence[str]) -> str:
    """The folder that all of these absolute paths are in."""
    try:
        return os.path.commonpath([os.path.dirname(place) for place in places])
    except ValueError:
        raise DataError("the images are on different drives: copy them into one folder") from None
