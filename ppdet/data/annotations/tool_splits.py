"""Which part of a data set the exporting tool has put an image in, by names of folders and files and by data.yaml."""

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ppdet.data.annotations.image_index import clean_parts
from ppdet.data.annotations.labeled_set import LabeledImage
from ppdet.data.annotations.parsing import text_of
from ppdet.utils.disk.files import lines_of

if TYPE_CHECKING:
    from ppdet.data.annotations.image_index import ImageIndex

PARTS = {"train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}


def split_of_folder(root: str, path: str) -> str:
    """The nearest folder of a file, below `root`, that is called train, valid, val or test; "" if none is."""
    folders = Path(os.path.relpath(path, root)).parts[:-1]
    return next((PARTS[part.lower()] for part in reversed(folders) if part.lower() in PARTS), "")


def split_of_name(root: str, path: str) -> str:
    """The last word train, valid, val or test in the name of a file or of its folders below `root`; "" without one."""
    stem = os.path.splitext(os.path.relpath(path, root))[0].lower()
    return next((PARTS[word] for word in reversed(re.findall(r"[^\W\d_]+", stem)) if word in PARTS), "")


def splits_of_yaml(content: dict[str, Any], path: str, index: "ImageIndex") -> dict[str, str]:
    """The part of each image path that the entries train, val and test of YOLO's data.yaml name.

    An entry is a folder, a text file that lists images, or a list of such. Its path may be one of another computer;
    the end of it that is a folder or a file beside or below data.yaml counts. Where one entry has all of the images,
    they are not split.

    Args:
        content: of data.yaml. path: of data.yaml.
        index: the image files.
    """
    found: dict[str, str] = {}
    for key in ("train", "val", "valid", "test"):
        entries = content.get(key)
        for entry in entries if isinstance(entries, list) else [entries]:
            if isinstance(entry, str):
                for image in _images_of(entry, path, index):
                    found.setdefault(image, PARTS[key])
    return found if len(set(found.values())) > 1 else {}


def _images_of(entry: str, path: str, index: "ImageIndex") -> list[str]:
    """The images of an entry of data.yaml."""
    parts = clean_parts(entry)
    for start in range(len(parts)):
        place = os.path.join(os.path.dirname(path), *parts[start:])
        if os.path.isdir(place):
            return [image for image in index.paths if image.startswith(os.path.join(place, ""))]
        if place in index.files and place.lower().endswith(".txt"):
            names = lines_of(text_of(place))
            listed = [index.find(LabeledImage(name, place, None, lambda size: []))[0] for name in names]
            return [image for image in listed if image is not None]
    return []
